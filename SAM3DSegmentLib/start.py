"""A mask that the user already has as the segmenter's starting point: its field, and the clicks that hold it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.field import Field, one_tile
from SAM3DSegmentLib.geometry import BoolArray, Box, Crop, Float32Array, Volume
from SAM3DSegmentLib.morphology import connected_to, deepest

MASK_LOGIT = 4.0
"""What stands for a voxel of the mask, and its negative for one outside."""

SEED_GRID = 64
"""Voxels along each axis, at most, of the grid on which seeds are looked for."""


def field_of_mask(
    volume: Volume, spacings: Sequence[float], edge: int, box: Box, mask: BoolArray, clicks: Sequence[Click]
) -> Field:
    """The field that stands for a mask, at the finest zoom level where it fits into one crop, else at the coarsest.

    Args:
        spacings: of the zoom levels in mm, ascending.
        edge: of a crop, in crop voxels.
        box, mask: native voxels (K, J, I) around the mask, and the mask [k, j, i] within, not empty.
        clicks: the mask's components without an include click are dropped.
    """
    low, high = (np.array(ends) for ends in zip(*((b.start, b.stop - 1) for b in box), strict=True))
    extent = float(((high - low + 1) * volume.spacing).max())
    level = next((n for n, spacing in enumerate(spacings) if extent < edge * spacing), len(spacings) - 1)
    k, j, i = (low + high) / 2
    base = volume.crop_around(volume.ras((k, j, i)), spacings[level], (edge,) * 3)
    field = one_tile(level, base, logits_of_mask(base, box, mask))
    corners = np.array([base.position(tuple(low)), base.position(tuple(high))])
    first = np.minimum(np.floor(corners.min(0) / field.stride), 0).astype(int)
    last = np.maximum(np.ceil((corners.max(0) - edge + 1) / field.stride), 0).astype(int)
    steps = [range(a * field.stride, b * field.stride + 1, field.stride) for a, b in zip(first, last, strict=True)]
    tiles = {(d, h, w): logits_of_mask(field.tile_crop((d, h, w)), box, mask) for d, h, w in product(*steps)}
    native = [(volume.continuous_index(click.ras), click.include) for click in clicks]
    return field.with_tiles({offset: tile for offset, tile in tiles.items() if (tile > 0).any()}).settled(native)


def logits_of_mask(crop: Crop, box: Box, mask: BoolArray) -> Float32Array:
    """[D, H, W], above 0 where the mask fills more than half of a crop voxel."""
    start = [s - box[axis].start + 1 for axis, s in zip(crop.axes, crop.start, strict=True)]
    within = Crop(crop.axes, (start[0], start[1], start[2]), crop.step, crop.shape)
    share, _ = within.cut(np.pad(mask, 1).astype(np.float32))
    logits: Float32Array = (2 * share - 1) * np.float32(MASK_LOGIT)
    return logits


def seed_clicks(volume: Volume, box: Box, mask: BoolArray, clicks: Sequence[Click]) -> Iterator[Click]:
    """An include click deep in each component of a mask that holds none of the clicks yet.

    Args:
        box, mask: native voxels (K, J, I) around the mask, and the mask [k, j, i] within.
    """
    step = [-(-n // SEED_GRID) for n in mask.shape]
    left = mask[tuple(slice(s // 2, None, s) for s in step)].copy()
    seeds = np.zeros_like(left)
    for click in clicks:
        index = [(c - b.start) // s for c, b, s in zip(volume.index(click.ras), box, step, strict=True)]
        if click.include and all(0 <= c < n for c, n in zip(index, left.shape, strict=True)):
            seeds[tuple(index)] = True
    left &= ~connected_to(left, seeds)
    while left.any():
        seed = deepest(left)
        k, j, i = (c * s + s // 2 + b.start for c, s, b in zip(seed, step, box, strict=True))
        yield Click(volume.ras((k, j, i)))
        seeds = np.zeros_like(left)
        seeds[seed] = True
        left &= ~connected_to(left, seeds)
