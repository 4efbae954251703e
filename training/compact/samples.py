"""Samples of the compact network's training: synthetic volumes and crops of real tumours, each drawn by its number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from SAM3DSegmentLib.errors import CaseError
from SAM3DSegmentLib.intensity import CropStatistics
from SAM3DSegmentLib.network.compact_prompt import CROP_SIZE
from training.compact.implanted import anatomy_sample, implanted_sample
from training.compact.sarcoma import Case, real_sample
from training.compact.synthetic import synthetic_sample, uniform
from training.layouts import SourceCase

Sample = tuple[Tensor, Tensor]
"""Image, float32 and normalised, and target, boolean: both [1, S, S, S]."""


@dataclass(frozen=True)
class Mixture:
    """Shares of the samples; the rest is synthetic.

    Attributes:
        tumours: crops of real tumours.
        implanted: lesions painted into real scans.
        anatomy: pieces of the tissue in real scans.
    """

    tumours: float = 0.38
    implanted: float = 0.22
    anatomy: float = 0.16


RECIPE = Mixture()
"""What `make train-compact` draws from; the model card tells what the shipped weights saw."""

EARLY_SIZE, EARLY_SHARE = 48, 0.8
"""Edge in voxels of the crops of the first steps, and how many those are: they cost less than half as much."""


class Samples(Dataset[Sample]):
    """Sample `n` of a seed is always the same; those of one step have one size.

    Args:
        together: how many samples make a step, those of all processes.
        size: edge of every crop in voxels; by default `EARLY_SIZE`, and `CROP_SIZE` towards the end.
    """

    def __init__(
        self,
        cases: list[Case],
        steps: int,
        together: int,
        seed: int,
        mixture: Mixture = RECIPE,
        size: int | None = None,
    ) -> None:
        self.cases = cases
        self.mixture = mixture
        self.size = size
        self.length = steps * together
        self.early = int(EARLY_SHARE * steps) * together
        self.seed = seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng((self.seed, index))
        size = self.size or (EARLY_SIZE if index % self.length < self.early else CROP_SIZE)
        mixture, kind = self.mixture, rng.random()
        case = self.cases[int(rng.integers(len(self.cases)))]
        if kind < mixture.tumours:
            drawn = real_sample(case, size, rng)
        elif kind < mixture.tumours + mixture.implanted:
            drawn = implanted_sample(case, size, rng)
        elif kind < mixture.tumours + mixture.implanted + mixture.anatomy:
            drawn = anatomy_sample(case, size, rng)
        else:
            drawn = (*synthetic_sample(size, rng), inside_volume(size, rng))
        if drawn is None:
            return self[index + self.length]
        image, target, inside = drawn
        target = target & inside
        if not target.any():
            return self[index + self.length]
        return network_input(image, inside), target[None]


def inside_volume(size: int, rng: np.random.Generator) -> Tensor:
    """[S, S, S], False beyond a random face in some samples, as where a crop reaches out of the volume."""
    inside = torch.ones((size,) * 3, dtype=torch.bool)
    if rng.random() < 0.3:
        axis, width = int(rng.integers(3)), int(uniform(rng, 1, size * 0.4))
        start = 0 if rng.random() < 0.5 else size - width
        inside.narrow(axis, start, width).fill_(False)
    return inside


def network_input(image: Tensor, inside: Tensor) -> Tensor:
    """[1, S, S, S] normalised as the product normalises a crop."""
    return torch.from_numpy(CropStatistics().apply(image.numpy(), inside.numpy()))[None]


def validation_samples(cases: list[Case], count: int) -> list[Sample]:
    """Crops of the validation patients, the same in every run."""
    samples = []
    for index in range(count):
        rng = np.random.default_rng((1, index))
        image, target, inside = real_sample(cases[index % len(cases)], CROP_SIZE, rng, augment=False)
        samples.append((network_input(image, inside), target[None]))
    return samples


def split_by_patient(cases: list[SourceCase], held_out: int, seed: int) -> tuple[list[SourceCase], list[SourceCase]]:
    """Training and validation cases, the latter of `held_out` patients; a patient's scans stay together.

    Raises:
        CaseError: no patient would be left to train on.
    """
    patients = sorted({case.patient for case in cases})
    if len(patients) <= held_out:
        raise CaseError(
            f"{held_out} patients are held out for validation and the scans are of {len(patients)}: add scans of more "
            "patients."
        )
    chosen = set(np.random.default_rng(seed).permutation(patients)[:held_out])
    return [c for c in cases if c.patient not in chosen], [c for c in cases if c.patient in chosen]
