"""Which zoom level shows the clicked object: what the first click tells, and what exclude clicks after it tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from SAM3DSegmentLib.field import Field
from SAM3DSegmentLib.geometry import Point
from SAM3DSegmentLib.morphology import relative_depth

FULL_SHARE = 0.8
"""An object whose longest side takes more than this share of the crop has outgrown it."""

ROOMY_SHARE = 0.53
"""An object whose longest side takes more than this share of the finest crop is taken from the next coarser one."""

UNCONFIRMED = 3.0
"""Millimetres; from this voxel size on an object that fits need not fit in the next coarser level too."""

TOO_LARGE = 0.6
"""How deep in what a coarser level's object has beyond a finer level's an exclude click speaks for the latter."""


def first_look(look: Callable[[int], Field], levels: Sequence[float], shape: tuple[int, ...]) -> Field:
    """The finest zoom level in which the object fits, and in the next coarser one as well.

    The network finds an object of about half a crop's width in every level: a piece of the lesion where the level is
    much too fine, the organ around it where it is much too coarse. What fits in one level and outgrows the next one
    is such a piece. From `UNCONFIRMED` on the first level in which the object fits is taken; where there is none, the
    coarsest.

    Args:
        look: answers the first click in one crop of a zoom level, given by its number.
        levels: voxel sizes in mm, the finest first.
        shape: of the volume (K, J, I).
    """
    looks: list[Field] = []
    for level, spacing in enumerate(levels):
        looks.append(look(level))
        if outgrown(looks[level], shape):
            continue
        if level and not outgrown(looks[level - 1], shape):
            found = looks[level - 1]
            roomy = level == 1 and found.longest_side() > ROOMY_SHARE * found.edge
            return looks[level] if roomy else found
        if spacing >= UNCONFIRMED:
            return looks[level]
    return looks[-1]


def second_look(
    before: Field, look: Callable[[int], Field], shape: tuple[int, ...], clicks: Sequence[tuple[Point, bool]]
) -> Field:
    """The object of a finer zoom level, where an exclude click says that it is the one meant; else `before`.

    Who clicked on a lesion and sees the organ around it excludes a place deep in what the two differ by; who sees the
    lesion leak excludes one near its border. What has grown over several crops is left as it is.

    Args:
        before: the answer to all clicks but the newest.
        look, shape: as for `first_look`.
        clicks: native index (k, j, i) and whether it includes, in order.
    """
    newest, include = clicks[-1]
    if include or not before.holds(newest) or len(before.tiles) > 1:
        return before
    voxel = before.canvas.position(newest)
    for level in reversed(range(before.level)):
        finer = look(level)
        if outgrown(finer, shape) or any(finer.holds(index) is not sign for index, sign in clicks):
            continue
        surplus = (before.logits > 0) & (finer.logits_on(before.canvas) <= 0)
        if relative_depth(surplus, voxel) > TOO_LARGE:
            return finer
    return before


def outgrown(field: Field, shape: tuple[int, ...]) -> bool:
    """Whether the object meets the border of its crop where the volume of `shape` goes on, or nearly fills the crop."""
    return bool(field.reached_offsets(shape)) or field.longest_side() > FULL_SHARE * field.edge
