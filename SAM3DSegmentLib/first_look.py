"""Which zoom level shows the clicked object: what the first click tells, and what exclude clicks after it tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from SAM3DSegmentLib.field import Field
from SAM3DSegmentLib.geometry import BoolArray, Float32Array, Point, Volume
from SAM3DSegmentLib.morphology import peeled, relative_depth, widened

CONFIDENT = 0.86
"""The zoom levels are looked at from the finest on until an answer is this confident."""

COARSEST_GUESS = 3.0
"""Millimetres; a coarser zoom level is looked at only for an object that outgrows this one."""

FULL_SHARE = 0.8
"""An object whose longest side takes more than this share of the crop has outgrown it."""

SMALL_SHARE = 0.4
"""An object whose longest side takes less than this share of the crop may be shown better by a finer zoom level."""

ROOMY_SHARE = 0.53
"""An object whose longest side takes more than this share of the finest crop is taken from the next coarser one."""

CONFIRMED = 0.5
"""The Dice with the answer of the next coarser zoom level from which on an answer counts as confirmed."""

CLEAR_CONTRAST = 0.7
"""Standard deviations by which an object must differ from its surroundings to be one by itself, not a piece."""

FINER_THAN_VOXELS = 0.4
"""Of the scan's voxel size; a level below it shows interpolated noise, pieces of which stand out."""

PROMISE_SIDE = 3
"""Crop voxels; the longest side of what a click promises where the network finds nothing."""

LEAST_SPREAD = 1e-3
"""Of normalised voxels: an image without noise has none."""

TOO_LARGE = 0.6
"""How deep in what a coarser level's object has beyond a finer level's an exclude click speaks for the latter."""


def first_look(
    look: Callable[[int], Field], contrast_of: Callable[[Field], float], levels: Sequence[float], volume: Volume
) -> Field:
    """The zoom level that shows the object of the first click.

    The network finds an object of about half a crop's width in every level: a piece of the lesion where the level is
    much too fine, the organ around it where it is much too coarse. So the finest level is taken whose object fits, fits
    in the next coarser one too, and stands out from its surroundings. Where there is none, it is the finest one in
    which the network is sure, else the surest; but where the object is small in that one, the finest that the next
    coarser one confirms. An object that outgrows every level is taken from the coarsest.

    Args:
        look: answers the first click in one crop of a zoom level, given by its number.
        contrast_of: by how many standard deviations an object differs from its surroundings (`contrast`).
        levels: voxel sizes in mm, the finest first.
        volume: that was clicked on.
    """
    shape, voxel_size = volume.voxels.shape, float(np.prod(volume.spacing)) ** (1 / 3)

    def stands_out(field: Field) -> bool:
        return levels[field.level] >= FINER_THAN_VOXELS * voxel_size and contrast_of(field) >= CLEAR_CONTRAST

    looks: list[Field] = []
    fitting: list[Field] = []
    for level, spacing in enumerate(levels):
        field = look(level)
        looks.append(field)
        if not fits(field, shape):
            continue
        if level and looks[level - 1] in fitting and stands_out(looks[level - 1]):
            found = looks[level - 1]
            return field if level == 1 and found.longest_side() > ROOMY_SHARE * found.edge else found
        fitting.append(field)
        if field.confidence >= CONFIDENT or spacing >= COARSEST_GUESS:
            break
    if not fitting:
        return next((field for field in reversed(looks) if outgrown(field, shape)), looks[0])
    surest = max(fitting, key=lambda field: field.confidence)
    if surest.longest_side() < SMALL_SHARE * surest.edge:
        for finer in fitting[: fitting.index(surest)]:
            if finer.agreement(looks[finer.level + 1]) >= CONFIRMED:
                return finer
    return surest


def second_look(
    before: Field, look: Callable[[int], Field], shape: tuple[int, ...], clicks: Sequence[tuple[Point, bool]]
) -> Field:
    """The object of a finer zoom level, where an exclude click says that it is the one meant; else `before`.

    Who clicked on a lesion and sees the organ around it excludes a place deep in what the two differ by; who sees the
    lesion leak excludes one near its border. What has grown over several crops is left as it is.

    Args:
        before: the answer to all clicks but the newest.
        look: as for `first_look`.
        shape: of the volume (K, J, I).
        clicks: native index (k, j, i) and whether it includes, in order.
    """
    newest, include = clicks[-1]
    if include or not before.holds(newest) or len(before.tiles) > 1:
        return before
    voxel = before.canvas.position(newest)
    for level in reversed(range(before.level)):
        finer = look(level)
        if not fits(finer, shape) or any(finer.holds(index) != sign for index, sign in clicks):
            continue
        surplus = (before.logits > 0) & (finer.logits_on(before.canvas) <= 0)
        if relative_depth(surplus, voxel) > TOO_LARGE:
            return finer
    return before


def fits(field: Field, shape: tuple[int, ...]) -> bool:
    """Whether there is an object, and not too large: see `outgrown`."""
    return field.longest_side() > PROMISE_SIDE and not outgrown(field, shape)


def outgrown(field: Field, shape: tuple[int, ...]) -> bool:
    """Whether the object meets the border of its crop where the volume of `shape` goes on, or nearly fills the crop."""
    return bool(field.reached_offsets(shape)) or field.longest_side() > FULL_SHARE * field.edge


def contrast(voxels: Float32Array, mask: BoolArray) -> float:
    """By how many standard deviations the inner rim of a mask differs from the tissue around it; 0 for an empty one.

    Args:
        voxels, mask: of one crop, [S, S, S].
    """
    near = widened(mask)
    inner = mask & ~peeled(peeled(mask))
    outer = widened(widened(near)) & ~near
    if not inner.any() or not outer.any():
        return 0.0
    within, around = voxels[inner], voxels[outer]
    spread = np.sqrt((within.var() + around.var()) / 2)
    return float(abs(within.mean() - around.mean()) / max(spread, LEAST_SPREAD))
