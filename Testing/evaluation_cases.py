"""Cases of known answer for the tests of the evaluation, and methods that know more or less of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.evaluation.cases import Structure, read_structures
from SAM3DSegmentLib.evaluation.predictor import Method, Predictor
from SAM3DSegmentLib.evaluation.protocol import NOISY, User
from SAM3DSegmentLib.geometry import BoolArray, Volume

NOISY_USERS = tuple(User(NOISY, seed) for seed in range(3))

SHAPE = (20, 32, 32)
SPACING = (2.0, 1.0, 1.0)
"""mm along K, J, I."""

CASES = ("P_001_CT", "P_001_MR_T1", "P_002_CT")


def ball(centre: tuple[int, int, int], radius: float) -> BoolArray:
    """[K, J, I]: the voxels within `radius` mm of a voxel's centre."""
    offsets = [(axis - c) * s for axis, c, s in zip(np.indices(SHAPE), centre, SPACING, strict=True)]
    return sum(o**2 for o in offsets) <= radius**2


TARGETS = {case: ball((10, 16, 12 + n), 7) for n, case in enumerate(CASES)}


def write_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> None:
    affine = np.diag([*SPACING[::-1], 1.0]) if affine is None else affine
    nibabel.Nifti1Image(voxels.T, affine).to_filename(path)


def write_cases(folder: Path) -> Path:
    """Three bright balls in noise, and the table that lists them; the folder."""
    rng = np.random.default_rng(0)
    for case, target in TARGETS.items():
        write_nifti(folder / f"{case}_image.nii.gz", (100.0 * target + rng.normal(0, 10, SHAPE)).astype(np.float32))
        write_nifti(folder / f"{case}_label.nii.gz", target.astype(np.uint8))
    rows = [f"{case}\t1\tball" for case in CASES]
    (folder / "cases.tsv").write_text("\n".join(["case\tlabel_value\tstructure", *rows]) + "\n")
    return folder


def answering(answer: Callable[[Volume, tuple[Click, ...]], BoolArray]) -> Method:
    """A method from a plain function of the volume and the clicks."""

    def start(volume: Volume) -> Predictor:
        return lambda clicks: answer(volume, clicks)

    return start


def truth(volume: Volume) -> BoolArray:
    return next(target for target in TARGETS.values() if volume.voxels[target].min() > 50)


perfect = answering(lambda volume, clicks: truth(volume))
"""Knows the reference."""

empty = answering(lambda volume, clicks: np.zeros(SHAPE, bool))
"""Never finds anything."""


@answering
def slicewise(volume: Volume, clicks: tuple[Click, ...]) -> BoolArray:
    """Learns the slice (constant K) of each click, and nothing else."""
    mask = np.zeros(SHAPE, bool)
    for click in clicks:
        k, _, _ = volume.index(click.ras)
        mask[k] = truth(volume)[k]
    return mask


def structures(data: Path) -> list[Structure]:
    return read_structures(data / "cases.tsv")
