"""The zoom level in which the first click finds its object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from SAM3DSegmentLib.field import Field

START = 1
"""The zoom level that is looked at first; of the finer ones only those that could hold what is found there."""

CONFIDENT = 0.86
"""The finest zoom level with an answer of this confidence is preferred, else the surest."""

COARSEST_GUESS = 3.0
"""Millimetres; a coarser zoom level is preferred only for an object that outgrows this one."""

CONFIRMED = 0.45
"""The Dice with the answer of the next coarser zoom level from which on an answer counts as confirmed."""

FULL_SHARE = 0.8
"""An object whose longest side takes more than this share of the crop has outgrown it."""


def first_look(look: Callable[[int], Field], levels: Sequence[float], shape: tuple[int, ...]) -> Field:
    """The level whose answer is the surest and confirmed by the next coarser one, else the finest that is confirmed.

    An answer in a crop too small or too large for the object is often another object, which the neighbouring level does
    not find again. Only levels in which the object fits count. Where none is confirmed, the surest one; where the
    object fits none, the coarsest.

    Args:
        look: answers the first click in one crop of a zoom level, given by its number.
        levels: voxel sizes in mm, the finest first.
        shape: of the volume (K, J, I).
    """
    coarsest = len(levels) - 1
    if not coarsest:
        return look(0)
    look = cache(look)
    finest = START
    while finest and look(finest).longest_side() * levels[finest] <= look(finest).edge * levels[finest - 1]:
        finest -= 1
    fitting = []
    for level in range(finest, coarsest + 1):
        if not outgrown(look(level), shape):
            fitting.append(level)
            if look(level).confidence >= CONFIDENT or levels[level] >= COARSEST_GUESS:
                break

    def sureness(level: int) -> float:
        return look(level).confidence

    for level in (max(fitting, key=sureness, default=coarsest), *range(finest, coarsest)):
        finer = min(level, coarsest - 1)
        if not outgrown(look(level), shape) and look(finer).agreement(look(finer + 1)) >= CONFIRMED:
            return look(level)
    every = [level for level in range(finest, coarsest + 1) if not outgrown(look(level), shape)]
    return look(max(every, key=sureness, default=coarsest))


def outgrown(field: Field, shape: tuple[int, ...]) -> bool:
    """Whether the object meets the border of its crop where the volume of `shape` goes on, or nearly fills the crop."""
    return bool(field.reached_offsets(shape)) or field.longest_side() > FULL_SHARE * field.edge
