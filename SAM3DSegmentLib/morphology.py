"""The few operations on binary masks that run without any installed package, inside Slicer's own Python."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from SAM3DSegmentLib.geometry import BoolArray, Index, Point

FOOTHOLD_DEPTH = 2
"""Voxels below the border of its mask at which a foothold lies, where the mask is thick enough."""


def connected_to(mask: BoolArray, seeds: BoolArray) -> BoolArray:
    """The 6-connected components of a mask [D, H, W] that hold a seed.

    Sweeps along each axis in both senses, where a run of the mask that holds a reached voxel is reached whole, until
    nothing changes.
    """
    connected = np.zeros_like(mask)
    if not mask.any():
        return connected
    around = tuple(slice(found.min(), found.max() + 1) for found in np.nonzero(mask))
    mask, reached = mask[around], mask[around] & seeds[around]
    sweeps = [Sweep(mask, axis, sense) for axis in range(3) for sense in (1, -1)]
    count = -1
    while count != (count := int(np.count_nonzero(reached))):
        for sweep in sweeps:
            sweep.extend(reached)
    connected[around] = reached
    return connected


class Sweep:
    """One pass along an axis of a mask [D, H, W], in one sense (1 or -1)."""

    def __init__(self, mask: BoolArray, axis: int, sense: int) -> None:
        self._axis = axis
        self._view = (slice(None),) * axis + (slice(None, None, sense),)
        along = [-1 if a == axis else 1 for a in range(3)]
        self._position = np.arange(1, mask.shape[axis] + 1, dtype=np.int32).reshape(along)
        self._last_gap = np.maximum.accumulate(np.where(mask[self._view], 0, self._position), axis)

    def extend(self, reached: BoolArray) -> None:
        """Add to what is reached what lies behind it in the same run of the mask."""
        last_reached = np.maximum.accumulate(np.where(reached[self._view], self._position, 0), self._axis)
        np.greater(last_reached, self._last_gap, out=reached[self._view])


def deepest(mask: BoolArray) -> Index:
    """A voxel of a mask [D, H, W], not empty, that is left when its border is peeled off again and again."""
    while (inner := peeled(mask)).any():
        mask = inner
    d, h, w = np.argwhere(mask)[np.count_nonzero(mask) // 2]
    return int(d), int(h), int(w)


def relative_depth(mask: BoolArray, position: Point) -> float:
    """How deep in a mask [D, H, W] a position (d, h, w) within the array lies: 1 for the deepest voxel, 0 outside.

    Layers are peeled off until nothing is left, every third one by corners too: within 6 % of the Euclidean depth.
    """
    voxel = np.rint(position).astype(int)
    if not mask[tuple(voxel)]:
        return 0.0
    around = [slice(found.min(), found.max() + 1) for found in np.nonzero(mask)]
    mask = mask[tuple(around)]
    inner = tuple(voxel - [side.start for side in around])
    own = layers = 0
    while mask.any():
        layers += 1
        own += bool(mask[inner])
        mask = peeled(mask) if layers % 3 else peeled_by_corners(mask)
    return own / layers


def foothold(mask: BoolArray, towards: Sequence[Point]) -> Point:
    """The voxel of a mask [D, H, W], not empty, nearest to one of some points, off the mask's border where it can be.

    Args:
        towards: (d, h, w) in voxels, also outside the array; not empty.
    """
    inner = mask
    for _ in range(FOOTHOLD_DEPTH):
        inner = peeled(inner)
    voxels = np.argwhere(inner if inner.any() else mask)
    distances = np.min([((voxels - np.asarray(point, np.float32)) ** 2).sum(1) for point in towards], axis=0)
    d, h, w = voxels[distances.argmin()]
    return float(d), float(h), float(w)


def peeled_by_corners(mask: BoolArray) -> BoolArray:
    """A mask [D, H, W] without its border and corners: its voxels whose 26 neighbours all lie in it."""
    for axis in range(3):
        lines = np.moveaxis(np.pad(mask, [(int(a == axis),) * 2 for a in range(3)]), axis, 0)
        mask = np.moveaxis(lines[:-2] & lines[1:-1] & lines[2:], 0, axis)
    return mask


def widened(mask: BoolArray) -> BoolArray:
    """A mask [D, H, W] and its voxels' six neighbours."""
    wider = mask.copy()
    for axis in range(3):
        lines, own = np.moveaxis(wider, axis, 0), np.moveaxis(mask, axis, 0)
        lines[1:] |= own[:-1]
        lines[:-1] |= own[1:]
    return wider


def peeled(mask: BoolArray) -> BoolArray:
    """A mask [D, H, W] without its border: its voxels whose six neighbours all lie in it."""
    padded = np.pad(mask, 1)
    inner = mask.copy()
    for axis in range(3):
        for start in (0, 2):
            part = [slice(1, -1)] * 3
            part[axis] = slice(start, start + mask.shape[axis])
            inner &= padded[tuple(part)]
    return inner
