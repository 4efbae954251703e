"""The grid of half a crop's resolution, on which clicks are propagated: there and back, NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from SAM3DSegmentLib.geometry import Float32Array, Point

FACTOR = 2
"""Voxels of the crop along one voxel of the grid."""


def halved(image: Float32Array) -> Float32Array:
    """Means of blocks of 2x2x2 voxels: [S, S, S] to [S/2, S/2, S/2]."""
    edge = image.shape[0] // FACTOR
    blocks = image.reshape(edge, FACTOR, edge, FACTOR, edge, FACTOR)
    return cast(Float32Array, blocks.mean((1, 3, 5), dtype=np.float32))


def doubled(values: Float32Array) -> Float32Array:
    """Linear interpolation back, the outermost voxels continued: [S, S, S] to [2S, 2S, 2S]."""
    near, far = np.float32(0.75), np.float32(0.25)
    for axis in range(3):
        lines = np.moveaxis(values, axis, 0)
        padded = np.concatenate([lines[:1], lines, lines[-1:]])
        between = np.stack([near * lines + far * padded[:-2], near * lines + far * padded[2:]], axis=1)
        values = cast(Float32Array, np.moveaxis(between.reshape(-1, *lines.shape[1:]), 0, axis))
    return values


def clicked_voxels(clicks: Sequence[Point], edge: int) -> NDArray[np.int_]:
    """Voxels [N, 3] of a grid of `edge` voxels for clicks (d, h, w) in voxels of the crop.

    Positions are rounded first: a click must not change its voxel by the last digit that a file keeps of it.
    """
    positions = np.asarray(clicks, float).reshape(-1, 3)
    return np.clip(np.round(positions, 3) // FACTOR, 0, edge - 1).astype(int)
