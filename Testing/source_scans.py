"""Small scans and label maps on disk, as the source of a data set to train on."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from scipy.ndimage import gaussian_filter

SHAPE = (12, 10, 8)
"""Voxels along I, J, K of the scans written here."""

SPACING = (1.0, 1.0, 2.0)


def write(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([*SPACING, 1.0]) if affine is None else affine), path)
    return path


def scan(seed: int = 0) -> np.ndarray:
    """[I, J, K] int16 in HU, from -1000."""
    voxels = np.random.default_rng(seed).integers(0, 200, SHAPE).astype(np.int16)
    voxels[0] = -1000
    return voxels


def label_map(value: int = 1) -> np.ndarray:
    """[I, J, K], a box of `value`: I 3 to 6, J 2 to 5, K 4 to 6."""
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[3:7, 2:6, 4:7] = value
    return voxels


def write_pair(folder: Path, name: str, value: int = 1, seed: int = 0) -> None:
    write(folder / f"{name}_image.nii.gz", scan(seed))
    write(folder / f"{name}_label.nii.gz", label_map(value))


def write_balls(folder: Path, patients: int) -> Path:
    """One bright ball in texture for each patient, 40 voxels of 3 mm along each axis; the first has two modalities."""
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    for n, name in enumerate([*(f"P_{n:03}_CT" for n in range(patients)), "P_000_MR"]):
        rng = np.random.default_rng(n)
        texture = gaussian_filter(rng.standard_normal((40, 40, 40)), 2)
        centre = rng.uniform(15, 25, 3)
        ball = sum((axis - c) ** 2 for axis, c in zip(np.indices(texture.shape), centre, strict=True)) < 49
        image = 1000 * texture / texture.std() + 2000 * ball
        write(folder / f"{name}_image.nii.gz", image.astype(np.int16), affine)
        write(folder / f"{name}_label.nii.gz", ball.astype(np.uint8), affine)
    return folder
