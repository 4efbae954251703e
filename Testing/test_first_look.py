"""In which zoom level clicks find their object."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from SAM3DSegmentLib.field import Field, one_tile
from SAM3DSegmentLib.first_look import first_look, second_look
from SAM3DSegmentLib.geometry import Point, Volume

LEVELS = (0.75, 1.5, 3.0, 6.0)
SIZE = 32
MIDDLE = (150.0, 150.0, 150.0)
VOLUME = Volume(np.zeros((300, 300, 300), np.uint8), np.diag([-1.0, -1.0, 1.0, 1.0]))


class Looks:
    """Answers each zoom level with a ball around the first click, and notes in which order it was asked.

    Args:
        radius: in mm.
        radii: of the levels that find another ball.
    """

    def __init__(self, radius: float, radii: Mapping[int, float] | None = None) -> None:
        self.radius = radius
        self.radii = radii or {}
        self.asked: list[int] = []

    def __call__(self, level: int) -> Field:
        self.asked.append(level)
        crop = VOLUME.crop_around(VOLUME.ras(MIDDLE), LEVELS[level], (SIZE,) * 3)
        away = (np.arange(SIZE) - (SIZE - 1) / 2) * LEVELS[level]
        d, h, w = away[:, None, None], away[:, None], away
        ball = d**2 + h**2 + w**2 < self.radii.get(level, self.radius) ** 2
        logits = np.where(ball, 4.0, -4.0).astype(np.float32)
        return one_tile(level, crop, logits)


def found(looks: Looks, levels: tuple[float, ...] = LEVELS) -> int:
    return first_look(looks, levels, VOLUME.voxels.shape).level


@pytest.mark.parametrize(("radius", "level"), [(4, 0), (8, 1), (15, 1), (30, 2), (60, 3)])
def test_the_finest_level_that_holds_the_object_with_room_is_taken(radius: float, level: int) -> None:
    assert found(Looks(radius)) == level


def test_what_outgrows_the_next_coarser_level_was_a_piece() -> None:
    assert found(Looks(30, {0: 4})) == 2


def test_an_organ_around_the_lesion_does_not_take_its_place() -> None:
    assert found(Looks(80, {0: 4, 1: 6})) == 0
    assert found(Looks(80, {0: 20, 1: 10, 2: 14})) == 1


def test_an_object_too_large_for_every_level_is_looked_at_in_the_coarsest() -> None:
    assert found(Looks(200)) == 3
    assert found(Looks(200, {0: 4})) == 3


@pytest.mark.parametrize(("radius", "asked"), [(4, [0, 1]), (15, [0, 1, 2]), (30, [0, 1, 2])])
def test_no_level_is_asked_twice_and_none_that_decides_nothing(radius: float, asked: list[int]) -> None:
    looks = Looks(radius)
    found(looks)
    assert looks.asked == asked


def test_a_network_of_one_level_is_asked_once() -> None:
    looks = Looks(20)
    assert found(looks, LEVELS[:1]) == 0
    assert looks.asked == [0]


def after(looks: Looks, level: int, *clicks: tuple[float, bool]) -> int:
    """The level whose object stands after further clicks, so many mm beside the first, on the answer of `level`."""
    placed: list[tuple[Point, bool]] = [(MIDDLE, True)]
    placed += [((150.0, 150.0, 150.0 + away), include) for away, include in clicks]
    return second_look(looks(level), looks, VOLUME.voxels.shape, placed).level


LESION_IN_AN_ORGAN = {0: 4.0, 1: 8.0, 2: 30.0, 3: 60.0}


def test_an_exclude_click_deep_in_the_organ_brings_back_the_lesion() -> None:
    assert after(Looks(0, LESION_IN_AN_ORGAN), 2, (18, False)) == 1
    assert after(Looks(0, LESION_IN_AN_ORGAN), 3, (45, False)) == 2


@pytest.mark.parametrize("click", [(28.5, False), (18, True), (35, False), (120, False)])
def test_any_other_click_corrects_the_object_that_is_there(click: tuple[float, bool]) -> None:
    looks = Looks(0, LESION_IN_AN_ORGAN)
    assert after(looks, 2, click) == 2


def test_an_object_that_an_earlier_click_denies_is_not_taken() -> None:
    assert after(Looks(0, LESION_IN_AN_ORGAN), 2, (6, True), (18, False)) == 1
    assert after(Looks(0, LESION_IN_AN_ORGAN), 2, (12, True), (-19, False)) == 2


def test_an_object_that_outgrows_its_level_is_not_taken() -> None:
    assert after(Looks(0, {0: 4, 1: 23, 2: 34}), 2, (19, False)) == 0


def test_an_include_click_asks_for_no_other_level() -> None:
    looks = Looks(0, LESION_IN_AN_ORGAN)
    after(looks, 2, (18, True))
    assert looks.asked == [2]
