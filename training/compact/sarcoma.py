"""Crops around the tumours of a folder of real scans, under random pose, zoom and contrast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation
from torch import Tensor

from SAM3DSegmentLib.errors import CaseError, ScanError
from SAM3DSegmentLib.evaluation.simulated_user import distance_inside
from SAM3DSegmentLib.network.compact_prompt import CROP_SIZE
from training.case_preparation import read_checked
from training.compact.synthetic import gaussian_blur, motion_blur, smooth_noise, thick_slices, uniform
from training.configuration import Configuration
from training.layouts import SourceCase

SPACING_LIMITS = (0.5, 8.0)
"""Voxel sizes in mm that a crop may take."""

SHARES = (0.1, 1.8)
"""Of the crop's edge that a tumour's diameter takes: the automatic zoom shows it too small and too large as well."""

FITTING_SHARES = (0.2, 1.3)
"""The same in validation, the right zoom given."""

BENT_SHARE = 0.3
"""Of the crops, how many are deformed elastically."""

AROUND_CLICK = 0.5
"""Of the crops, how many lie around a click anywhere in the tumour, as the product lays its first one."""


@dataclass(frozen=True)
class Case:
    """One scan and its tumour in memory: image float32 and mask, both [K, J, I], spacing in mm along K, J, I."""

    name: str
    image: Tensor
    mask: Tensor
    depth: Tensor
    spacing: tuple[float, float, float]

    @property
    def diameter(self) -> float:
        """Of the ball of the tumour's volume, in mm."""
        return float((6 / np.pi * float(self.mask.sum()) * np.prod(self.spacing)) ** (1 / 3))


def load_case(case: SourceCase, configuration: Configuration) -> Case:
    """A scan, and as its tumour the values of its label map that the configuration names.

    Raises:
        CaseError: a file is missing or damaged, or the label map does not fit; it names the case.
    """
    try:
        volume, target = read_checked(case, configuration)
    except (CaseError, ScanError) as error:
        raise CaseError(f"{case.name} cannot be trained on: {str(error).removesuffix('.')}.") from error
    voxels, mask = np.ascontiguousarray(volume.voxels, np.float32), np.ascontiguousarray(target)
    depth = distance_inside(mask, volume.spacing).astype(np.float32)
    return Case(case.name, *(torch.from_numpy(a) for a in (voxels, mask, depth)), volume.spacing)


def random_pose(rng: np.random.Generator) -> np.ndarray:
    """3x3: a moderate rotation, mirrored axes, scaled by up to about 15 % along each."""
    rotation = Rotation.from_rotvec(rng.normal(0, 0.25, 3)).as_matrix()
    mirrored = rotation * rng.choice((-1, 1), 3)
    return mirrored * np.exp(rng.normal(0, 0.08, 3))


def random_bend(size: int, rng: np.random.Generator) -> Tensor | None:
    """[size, size, size, 3], by how many crop voxels each point is displaced, smoothly; None in most draws."""
    if rng.random() >= BENT_SHARE:
        return None
    cells, strength = uniform(rng, 1, 3), uniform(rng, 0.5, 2.5)
    return (strength * size / CROP_SIZE) * smooth_noise((size,) * 3, cells, rng, 3).movedim(0, -1)


def cut(
    case: Case, centre: np.ndarray, spacing: float, pose: np.ndarray, size: int, bend: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Image, mask and what lies inside the volume, each [size]*3.

    Args:
        centre: (k, j, i) in voxels of the case.
        pose: 3x3, from crop axes to the case's axes.
        bend: as `random_bend` draws it.
    """
    native = np.asarray(case.spacing)
    kernel = [max(1, round(spacing / s)) for s in native]
    image = F.avg_pool3d(case.image[None, None], kernel, ceil_mode=True, count_include_pad=False)
    axis = (torch.arange(size, dtype=torch.float32) - (size - 1) / 2) * spacing
    offsets = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)
    if bend is not None:
        offsets = offsets + spacing * bend
    matrix = torch.from_numpy((pose / native[:, None]).astype(np.float32))
    voxels = offsets @ matrix.T + torch.from_numpy(centre.astype(np.float32))
    # The last of the averaged voxels may reach beyond the scan.
    reach = torch.tensor([n * k for n, k in zip(image.shape[2:], kernel, strict=True)], dtype=torch.float32)
    averaged = ((2 * voxels + 1) / reach - 1).flip(-1)[None]
    sampled = F.grid_sample(image, averaged, padding_mode="border", align_corners=False)[0, 0]
    shape = torch.tensor(case.image.shape, dtype=torch.float32)
    grid = ((2 * voxels + 1) / shape - 1).flip(-1)[None]
    mask = F.grid_sample(case.mask[None, None].float(), grid, align_corners=False)[0, 0] > 0.5
    inside = (grid[0].abs() <= 1).all(-1)
    return sampled, mask & inside, inside


def real_sample(case: Case, size: int, rng: np.random.Generator, augment: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Image, target and inside mask [size]*3 of a crop near a click in the tumour, at a random zoom."""
    around_click = augment and rng.random() < AROUND_CLICK
    tries = int(rng.integers(1, 4)) if around_click else 4
    candidates = case.mask.flatten().nonzero()[:, 0]
    drawn = candidates[torch.from_numpy(rng.integers(0, len(candidates), tries))]
    deepest = drawn[case.depth.flatten()[drawn].argmax()]
    centre = np.asarray(np.unravel_index(int(deepest), case.mask.shape), float)
    share = float(np.exp(rng.uniform(*np.log(SHARES if augment else FITTING_SHARES))))
    spacing = float(np.clip(case.diameter / (share * size), *SPACING_LIMITS))
    if not around_click:
        centre += rng.normal(0, 0.08 * size, 3) * spacing / np.asarray(case.spacing)
    pose, bend = (random_pose(rng), random_bend(size, rng)) if augment else (np.eye(3), None)
    image, mask, inside = cut(case, centre, spacing, pose, size, bend)
    if not mask.any():
        return real_sample(case, size, rng, augment)
    return (change_contrast(image, rng) if augment else image), mask, inside


def change_contrast(image: Tensor, rng: np.random.Generator) -> Tensor:
    """The image as another scanner, window or sequence would show it; arbitrary units."""
    if rng.random() < 0.5:
        low, high = np.percentile(image.numpy(), [uniform(rng, 0, 25), uniform(rng, 85, 100)])
        image = image.clamp(float(low), max(float(high), float(low) + 1))
    image = (image - image.mean()) / image.std().clamp_min(1e-3)
    if rng.random() < 0.3:
        low, high = float(image.min()), float(image.max())
        image = ((image - low) / max(high - low, 1e-3)) ** float(np.exp(rng.normal(0, 0.4)))
        image = image / image.std().clamp_min(1e-3)
    if rng.random() < 0.25:
        image = -image
    if rng.random() < 0.2:
        image = gaussian_blur(image, uniform(rng, 0.3, 1.0))
    if rng.random() < 0.2:
        image = thick_slices(image, int(rng.integers(0, 3)), uniform(rng, 1.5, 3))
    if rng.random() < 0.1:
        image = motion_blur(image, rng)
    if rng.random() < 0.3:
        image = image * (1 + uniform(rng, 0, 0.25) * smooth_noise(tuple(image.shape), 1.5, rng)[0])
    if rng.random() < 0.4:
        image = image + uniform(rng, 0, 0.15) * torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32))
    return image
