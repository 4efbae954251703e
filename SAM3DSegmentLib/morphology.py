"""The few operations on binary masks that run without any installed package, inside Slicer's own Python."""

from __future__ import annotations

import numpy as np

from SAM3DSegmentLib.geometry import BoolArray, Index


def connected_to(mask: BoolArray, seeds: BoolArray) -> BoolArray:
    """The 6-connected components of a mask [D, H, W] that hold a seed.

    Sweeps along each axis in both senses, where a run of the mask that holds a reached voxel is reached whole, until
    nothing changes.
    """
    reached = mask & seeds
    count = -1
    while count != (count := int(np.count_nonzero(reached))):
        for axis in range(3):
            for sense in (slice(None), slice(None, None, -1)):
                view = (slice(None),) * axis + (sense,)
                reached[view] = _swept(mask[view], reached[view], axis)
    return reached


def _swept(mask: BoolArray, reached: BoolArray, axis: int) -> BoolArray:
    """Reached, and what lies behind it along the axis in the same run of the mask."""
    position = np.arange(1, mask.shape[axis] + 1, dtype=np.int32).reshape([-1 if a == axis else 1 for a in range(3)])
    last_gap = np.maximum.accumulate(np.where(mask, 0, position), axis)
    last_reached = np.maximum.accumulate(np.where(reached, position, 0), axis)
    result: BoolArray = last_reached > last_gap
    return result


def deepest(mask: BoolArray) -> Index:
    """A voxel of a mask [D, H, W], not empty, that is left when its border is peeled off again and again."""
    while True:
        padded = np.pad(mask, 1)
        inner = mask.copy()
        for axis in range(3):
            for start in (0, 2):
                part = [slice(1, -1)] * 3
                part[axis] = slice(start, start + mask.shape[axis])
                inner &= padded[tuple(part)]
        if not inner.any():
            d, h, w = np.argwhere(mask)[np.count_nonzero(mask) // 2]
            return int(d), int(h), int(w)
        mask = inner
