"""The zoom level in which the first click finds its object."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from SAM3DSegmentLib.field import Field

CONFIDENT = 0.86
"""The zoom levels are looked at from the finest on until an answer is this confident."""

COARSEST_GUESS = 3.0
"""Millimetres; a coarser zoom level is looked at only for an object that outgrows this one."""

FULL_SHARE = 0.8
"""An object whose longest side takes more than this share of the crop has outgrown it."""

SMALL_SHARE = 0.4
"""An object whose longest side takes less than this share of the crop may be shown better by a finer zoom level."""

CONFIRMED = 0.5
"""The Dice with the answer of the next coarser zoom level from which on an answer counts as confirmed."""


def first_look(look: Callable[[int], Field], levels: Sequence[float], shape: tuple[int, ...]) -> Field:
    """The finest zoom level in which the object fits and the network is sure of it, else the surest.

    Where the object is small in that level, the finest one that the next coarser confirms is taken instead: the network
    is seldom sure of small objects, and a crop much too large for its object often shows another one.

    Args:
        look: answers the first click in one crop of a zoom level, given by its number.
        levels: voxel sizes in mm, the finest first.
        shape: of the volume (K, J, I).
    """
    looks: list[Field] = []
    fitting: list[Field] = []
    for level, spacing in enumerate(levels):
        field = look(level)
        looks.append(field)
        if not outgrown(field, shape):
            fitting.append(field)
            if field.confidence >= CONFIDENT or spacing >= COARSEST_GUESS:
                break
    surest = max(fitting, key=lambda field: field.confidence, default=looks[-1])
    if surest.longest_side() < SMALL_SHARE * surest.edge:
        for finer in fitting[: fitting.index(surest)]:
            if finer.agreement(looks[finer.level + 1]) >= CONFIRMED:
                return finer
    return surest


def outgrown(field: Field, shape: tuple[int, ...]) -> bool:
    """Whether the object meets the border of its crop where the volume of `shape` goes on, or nearly fills the crop."""
    return bool(field.reached_offsets(shape)) or field.longest_side() > FULL_SHARE * field.edge
