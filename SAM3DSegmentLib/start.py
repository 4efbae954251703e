"""A mask that the user already has as the segmenter's starting point: its field, and the clicks that hold it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.errors import TooManyPartsError
from SAM3DSegmentLib.field import Field, one_tile
from SAM3DSegmentLib.geometry import BoolArray, Box, Crop, Float32Array, Volume
from SAM3DSegmentLib.morphology import connected_to, deepest

MASK_LOGIT = 4.0
"""What stands for a voxel of the mask, and its negative for one outside."""

SEED_GRID = 64
"""Blocks along each axis, at most, in which seeds are looked for."""

MOST_SEEDS = 32
"""A mask in more parts is noise, or the work of a threshold; a click for each would take the views' time."""


@dataclass(frozen=True, eq=False)
class Start:
    """A mask that the user has, painted or loaded, to go on from.

    Attributes:
        clicks: that it counts as the answer to; at least one include click in each component, the next answer drops
            the others.
        box, mask: native voxels (K, J, I) around it, and the mask [k, j, i] within, not empty.
    """

    clicks: tuple[Click, ...]
    box: Box
    mask: BoolArray


def field_of_mask(volume: Volume, spacings: Sequence[float], edge: int, start: Start) -> Field:
    """The field that stands for a mask, at the finest zoom level where it fits into one crop, else at the coarsest.

    Args:
        spacings: of the zoom levels in mm, ascending.
        edge: of a crop, in crop voxels.
    """
    box, mask = start.box, start.mask
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
    native = [(volume.continuous_index(click.ras), click.include) for click in start.clicks]
    filled = {offset: tile for offset, tile in tiles.items() if (tile > 0).any()}
    return replace(field.with_tiles(filled).settled(native), painted=(box, mask))


def logits_of_mask(crop: Crop, box: Box, mask: BoolArray) -> Float32Array:
    """[D, H, W], above 0 where the mask fills more than half of a crop voxel."""
    start = [s - box[axis].start + 1 for axis, s in zip(crop.axes, crop.start, strict=True)]
    within = Crop(crop.axes, (start[0], start[1], start[2]), crop.step, crop.shape)
    share, _ = within.cut(np.pad(mask, 1).astype(np.float32))
    logits: Float32Array = (2 * share - 1) * np.float32(MASK_LOGIT)
    return logits


def seed_clicks(volume: Volume, box: Box, mask: BoolArray, clicks: Sequence[Click]) -> tuple[Click, ...]:
    """An include click deep in each component of a mask that holds none of the clicks yet.

    Args:
        box, mask: native voxels (K, J, I) around the mask, and the mask [k, j, i] within.

    Raises:
        TooManyPartsError: there are more than `MOST_SEEDS`.
    """
    step = [-(-n // SEED_GRID) for n in mask.shape]
    left = any_in_blocks(mask, step)
    held = np.zeros_like(left)
    for click in clicks:
        index = [(c - b.start) // s for c, b, s in zip(volume.index(click.ras), box, step, strict=True)]
        if click.include and all(0 <= c < n for c, n in zip(index, left.shape, strict=True)):
            held[tuple(index)] = True
    left &= ~connected_to(left, held)
    seeds: list[Click] = []
    while left.any():
        if len(seeds) == MOST_SEEDS:
            raise TooManyPartsError(
                f"The mask that is there has more than {MOST_SEEDS} separate parts: remove the small ones first (in "
                "Slicer's Segment Editor: Islands), then click again."
            )
        block = deepest(left)
        within = [slice(c * s, (c + 1) * s) for c, s in zip(block, step, strict=True)]
        inner = np.argwhere(mask[tuple(within)])
        middle = inner[((inner - (np.array(step) - 1) / 2) ** 2).sum(1).argmin()]
        k, j, i = (int(c + w.start + b.start) for c, w, b in zip(middle, within, box, strict=True))
        seeds.append(Click(volume.ras((k, j, i))))
        component = np.zeros_like(left)
        component[block] = True
        left &= ~connected_to(left, component)
    return tuple(seeds)


def any_in_blocks(mask: BoolArray, step: Sequence[int]) -> BoolArray:
    """Whether the mask holds anywhere in each block of `step` voxels."""
    padded = np.pad(mask, [(0, -n % s) for n, s in zip(mask.shape, step, strict=True)])
    (a, b, c), (k, j, i) = padded.shape, step
    blocks: BoolArray = np.any(padded.reshape(a // k, k, b // j, j, c // i, i), axis=(1, 3, 5))
    return blocks
