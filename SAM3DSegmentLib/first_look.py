"""The zoom level in which the first click finds its object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from SAM3DSegmentLib.field import Field

START = 1
"""The zoom level that is looked at first; of the finer ones only those that could hold what is found there."""

CONFIRMED = 0.5
"""The Dice with the answer of the next coarser zoom level from which on an answer counts as confirmed."""

FULL_SHARE = 0.8
"""An object whose longest side takes more than this share of the crop has outgrown it."""


def first_look(look: Callable[[int], Field], levels: Sequence[float], shape: tuple[int, ...]) -> Field:
    """The finest zoom level in which the object fits and that the next coarser one confirms.

    An answer in a crop too small or too large for the object is often another object, which the neighbouring level does
    not find again. Where none is confirmed, the surest one in which the object fits; where it fits none, the coarsest.

    Args:
        look: answers the first click in one crop of a zoom level, given by its number.
        levels: voxel sizes in mm, the finest first.
        shape: of the volume (K, J, I).
    """
    look = cache(look)
    coarsest = len(levels) - 1
    finest = min(START, coarsest)
    while finest and look(finest).longest_side() * levels[finest] <= look(finest).edge * levels[finest - 1]:
        finest -= 1
    for level in range(finest, coarsest):
        if not outgrown(look(level), shape) and look(level).agreement(look(level + 1)) >= CONFIRMED:
            return look(level)
    fitting = [look(level) for level in range(finest, coarsest + 1) if not outgrown(look(level), shape)]
    return max(fitting, key=lambda field: field.confidence, default=look(coarsest))


def outgrown(field: Field, shape: tuple[int, ...]) -> bool:
    """Whether the object meets the border of its crop where the volume of `shape` goes on, or nearly fills the crop."""
    return bool(field.reached_offsets(shape)) or field.longest_side() > FULL_SHARE * field.edge
