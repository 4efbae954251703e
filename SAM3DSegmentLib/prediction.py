"""The answer to a list of clicks, and the promise that it holds at each of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from SAM3DSegmentLib.geometry import BoolArray, Box, Index


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer to a list of clicks.

    Attributes:
        box: native voxels (K, J, I) around the mask; empty slices for an empty mask.
        mask: [k, j, i] within the box.
        spacing: voxel size in mm of the zoom level that was used.
        tiles: number of crops that the object took.
        limited: True where the object reaches on but the tile limit crops are used up.
        needless: True where the newest click found the mask right already, and changed nothing.
    """

    box: Box
    mask: BoolArray
    spacing: float
    tiles: int
    limited: bool
    needless: bool

    def mask_on(self, shape: tuple[int, ...]) -> BoolArray:
        """The mask [K, J, I] of a whole volume of `shape`."""
        whole = np.zeros(shape, bool)
        whole[self.box] = self.mask
        return whole


def with_voxel(box: Box, mask: BoolArray, index: Index, value: bool) -> tuple[Box, BoolArray]:
    """The mask with one native voxel set or cleared; its box grows to hold a voxel that is set."""
    within = all(b.start <= c < b.stop for b, c in zip(box, index, strict=True))
    if not within and not value:
        return box, mask
    if not within:
        occupied = mask.size > 0
        starts = [min(b.start, c) if occupied else c for b, c in zip(box, index, strict=True)]
        stops = [max(b.stop, c + 1) if occupied else c + 1 for b, c in zip(box, index, strict=True)]
        larger = np.zeros([b - a for a, b in zip(starts, stops, strict=True)], bool)
        if occupied:
            larger[tuple(slice(b.start - a, b.stop - a) for b, a in zip(box, starts, strict=True))] = mask
        box, mask = tuple(slice(a, b) for a, b in zip(starts, stops, strict=True)), larger  # type: ignore[assignment]
    mask[tuple(c - b.start for c, b in zip(index, box, strict=True))] = value
    return box, mask
