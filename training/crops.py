"""Crops of a prepared data set: a cube around a voxel of the target, cut and normalised as the product does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.transforms import Compose, RandFlipd, RandRotate90d, RandShiftIntensityd
from torch import Tensor
from torch.utils.data import Dataset

from SAM3DSegmentLib.errors import CaseError
from SAM3DSegmentLib.evaluation.simulated_user import next_click
from SAM3DSegmentLib.geometry import Crop, Point
from training.dataset import ANTIALIAS, Intensity, PreparedCase

ZOOM_LIMITS = (0.8, 1.25)
"""Prepared voxels to one voxel of a training crop."""

JITTER = 0.1
"""Standard deviation of the crop's centre around the drawn voxel of the target, as a share of the crop's edge."""

SHIFT = 0.1
"""Largest change of all normalised intensities of a training crop."""

ANATOMICAL_AXES = (0, 1, 2)
MASK_LEVEL = 0.5
ORDER_STREAM, SAMPLE_STREAM = 1, 2
"""Which random numbers of the seed: the order of the cases, the sample itself."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One crop.

    Attributes:
        number: of the sample in its run.
        image: [S, S, S] float32, axes (D, H, W), normalised; zeros outside the volume.
        target: [S, S, S] bool.
    """

    number: int
    image: Tensor
    target: Tensor


class TrainingCrops(Dataset[Sample]):
    """Samples without end, each case once before any comes again; sample `n` of a seed is always the same."""

    def __init__(self, cases: Sequence[PreparedCase], intensity: Intensity, size: int, seed: int) -> None:
        self.cases = cases
        self.intensity = intensity
        self.size = size
        self.seed = seed
        keys = ("image", "target")
        self.transforms = Compose(
            [
                *(RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in ANATOMICAL_AXES),
                RandRotate90d(keys, prob=0.5, spatial_axes=(1, 2)),
                RandShiftIntensityd("image", offsets=SHIFT, prob=0.5),
            ]
        )

    def __getitem__(self, number: int) -> Sample:
        turn, place = divmod(number, len(self.cases))
        order = np.random.default_rng((self.seed, ORDER_STREAM, turn)).permutation(len(self.cases))
        case = self.cases[int(order[place])]
        rng = np.random.default_rng((self.seed, SAMPLE_STREAM, number))
        zoom = float(np.exp(rng.uniform(*np.log(ZOOM_LIMITS))))
        centre = target_voxel(case, rng) + rng.normal(0, JITTER * self.size, 3) * zoom
        sample = cut(case, (centre[0], centre[1], centre[2]), zoom, self.size, self.intensity, number)
        if not sample.target.any():
            # The jitter of a small target's crop: without it the target lies in the middle.
            centre = target_voxel(case, rng)
            sample = cut(case, (centre[0], centre[1], centre[2]), 1.0, self.size, self.intensity, number)
        self.transforms.set_random_state(int(rng.integers(1 << 31)))
        changed = self.transforms({"image": sample.image[None], "target": sample.target[None]})
        image, target = (changed[key].as_tensor()[0].contiguous() for key in ("image", "target"))
        return Sample(number, image, target)


def target_voxel(case: PreparedCase, rng: np.random.Generator) -> np.ndarray:
    """(d, h, w) of a random voxel of the target."""
    box = tuple(slice(low, high) for low, high in zip(case.low, case.high, strict=True))
    candidates = np.argwhere(case.mask()[box])
    return candidates[rng.integers(len(candidates))] + np.asarray(case.low)


def validation_crop(case: PreparedCase, number: int, intensity: Intensity, size: int) -> Sample:
    """The crop around the first click of the simulated user, as the product lays it; the same in every run."""
    box = tuple(slice(low, high) for low, high in zip(case.low, case.high, strict=True))
    click = next_click(case.mask()[box] > 0, None, (1.0, 1.0, 1.0), np.random.default_rng(number))
    if click is None:
        raise CaseError(f"The mask of {case.name} is empty: prepare the data set again.")
    d, h, w = (low + offset for low, offset in zip(case.low, click[0], strict=True))
    return cut(case, (d, h, w), 1.0, size, intensity, number)


def cut(case: PreparedCase, centre: Point, zoom: float, size: int, intensity: Intensity, number: int) -> Sample:
    """The cube of `size` voxels, each as wide as `zoom` prepared voxels, whose middle voxel lies at `centre`."""
    d, h, w = (c - zoom * (size // 2) for c in centre)
    crop = Crop((0, 1, 2), (d, h, w), (zoom, zoom, zoom), (size, size, size))
    voxels, inside = crop.cut(case.image(), ANTIALIAS)
    target, _ = crop.cut(case.mask(), ANTIALIAS)
    image = torch.from_numpy(intensity.apply(voxels, inside))
    return Sample(number, image, torch.from_numpy((target > MASK_LEVEL) & inside))
