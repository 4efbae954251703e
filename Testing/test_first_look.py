"""In which zoom level the first click finds its object."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from SAM3DSegmentLib.field import Field, one_tile
from SAM3DSegmentLib.first_look import first_look
from SAM3DSegmentLib.geometry import Volume

LEVELS = (0.75, 1.5, 3.0, 6.0)
SIZE = 32
VOLUME = Volume(np.zeros((300, 300, 300), np.uint8), np.diag([-1.0, -1.0, 1.0, 1.0]))


class Looks:
    """Answers each zoom level with a ball around the click, and notes in which order it was asked.

    Args:
        radii: in mm, by level; the others find the ball of `radius`.
        sure: logit within the ball, by level.
    """

    def __init__(self, radius: float, radii: Mapping[int, float], sure: Mapping[int, float] | None = None) -> None:
        self.radius = radius
        self.radii = radii
        self.sure = sure or {}
        self.asked: list[int] = []

    def __call__(self, level: int) -> Field:
        self.asked.append(level)
        crop = VOLUME.crop_around(VOLUME.ras((150.0, 150.0, 150.0)), LEVELS[level], (SIZE,) * 3)
        away = (np.arange(SIZE) - (SIZE - 1) / 2) * LEVELS[level]
        d, h, w = away[:, None, None], away[:, None], away
        ball = d**2 + h**2 + w**2 < self.radii.get(level, self.radius) ** 2
        logits = np.where(ball, self.sure.get(level, 4.0), -4.0).astype(np.float32)
        return one_tile(level, crop, logits)


def found(looks: Looks, levels: tuple[float, ...] = LEVELS) -> int:
    return first_look(looks, levels, VOLUME.voxels.shape).level


@pytest.mark.parametrize(("radius", "level"), [(4, 0), (8, 0), (15, 1), (30, 2), (60, 3)])
def test_the_finest_level_that_holds_the_object_is_taken(radius: float, level: int) -> None:
    assert found(Looks(radius, {})) == level


def test_an_unsure_fine_answer_yields_to_a_sure_coarser_one() -> None:
    assert found(Looks(11, {0: 8}, {0: 0.5})) == 1


def test_a_small_object_is_shown_in_the_finest_level_that_the_next_one_confirms() -> None:
    unsure_where_fine = {0: 0.5, 1: 0.5}
    assert found(Looks(7, {}, unsure_where_fine)) == 0
    assert found(Looks(7, {0: 4}, unsure_where_fine)) == 1


def test_where_no_finer_level_is_confirmed_the_surest_one_counts() -> None:
    assert found(Looks(0, {0: 3, 1: 8, 2: 18, 3: 60}, {0: 0.5, 1: 0.5})) == 2


def test_an_object_too_large_for_every_level_is_looked_at_in_the_coarsest() -> None:
    assert found(Looks(200, {}, {0: 9.0})) == 3


def test_no_level_is_asked_twice_and_none_beyond_a_sure_answer() -> None:
    looks = Looks(15, {})
    found(looks)
    assert looks.asked == [0, 1]


def test_a_network_of_one_level_is_asked_once() -> None:
    looks = Looks(20, {})
    assert found(looks, LEVELS[:1]) == 0
    assert looks.asked == [0]
