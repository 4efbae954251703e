"""In which zoom level clicks find their object."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pytest

from SAM3DSegmentLib.field import Field, one_tile
from SAM3DSegmentLib.first_look import contrast, first_look, second_look
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
        sure: logit within the ball, of the levels that are not sure.
    """

    def __init__(
        self, radius: float, radii: Mapping[int, float] | None = None, sure: Mapping[int, float] | None = None
    ) -> None:
        self.radius = radius
        self.radii = radii or {}
        self.sure = sure or {}
        self.asked: list[int] = []

    def __call__(self, level: int) -> Field:
        self.asked.append(level)
        crop = VOLUME.crop_around(VOLUME.ras(MIDDLE), LEVELS[level], (SIZE,) * 3)
        away = (np.arange(SIZE) - (SIZE - 1) / 2) * LEVELS[level]
        d, h, w = away[:, None, None], away[:, None], away
        ball = d**2 + h**2 + w**2 < self.radii.get(level, self.radius) ** 2
        logits = np.where(ball, self.sure.get(level, 4.0), -4.0).astype(np.float32)
        return one_tile(level, crop, logits)


def found(
    looks: Looks, levels: tuple[float, ...] = LEVELS, stand_out: Collection[int] = (), volume: Volume = VOLUME
) -> int:
    """The level that is taken where the objects of some levels stand out from their surroundings."""

    def contrast_of(field: Field) -> float:
        return 2.0 if field.level in stand_out else 0.2

    return first_look(looks, contrast_of, levels, volume).level


@pytest.mark.parametrize(("radius", "level"), [(4, 0), (8, 0), (15, 1), (30, 2), (60, 3)])
def test_the_finest_level_that_holds_the_object_is_taken(radius: float, level: int) -> None:
    assert found(Looks(radius)) == level


UNSURE_WHERE_FINE = {0: 0.5, 1: 0.5}


def test_an_unsure_fine_answer_yields_to_a_sure_coarser_one() -> None:
    assert found(Looks(11, {0: 8}, {0: 0.5})) == 1


def test_a_small_object_is_shown_in_the_finest_level_that_the_next_one_confirms() -> None:
    assert found(Looks(7, {}, UNSURE_WHERE_FINE)) == 0
    assert found(Looks(7, {0: 4}, UNSURE_WHERE_FINE)) == 1


def test_where_no_finer_level_is_confirmed_the_surest_one_counts() -> None:
    assert found(Looks(0, {0: 3, 1: 8, 2: 18, 3: 60}, UNSURE_WHERE_FINE)) == 2


LESION_IN_AN_ORGAN = {0: 4.0, 1: 8.0, 2: 30.0, 3: 60.0}


def test_a_lesion_that_stands_out_is_taken_although_the_organ_around_it_is_surer() -> None:
    looks = Looks(0, LESION_IN_AN_ORGAN, UNSURE_WHERE_FINE)
    assert found(looks) == 2
    assert found(looks, stand_out={0}) == 0
    assert found(looks, stand_out={1}) == 1


def test_a_lesion_that_stands_out_but_fills_the_finest_crop_is_taken_from_the_next() -> None:
    assert found(Looks(0, {0: 9, 1: 9, 2: 30}, UNSURE_WHERE_FINE), stand_out={0}) == 1


def test_what_stands_out_in_voxels_much_finer_than_the_scans_is_noise() -> None:
    coarse = Volume(VOLUME.voxels, np.diag([-1.5, -1.5, 4.0, 1.0]))
    looks = Looks(0, LESION_IN_AN_ORGAN, UNSURE_WHERE_FINE)
    assert found(looks, stand_out={0}, volume=coarse) == 2
    assert found(looks, stand_out={0, 1}, volume=coarse) == 1


def test_what_outgrows_the_next_coarser_level_is_a_piece_even_where_it_stands_out() -> None:
    assert found(Looks(30, {0: 4}, UNSURE_WHERE_FINE), stand_out={0, 1}) == 2


def test_a_level_in_which_nothing_is_found_is_not_taken() -> None:
    assert found(Looks(10, {0: 0.5}, UNSURE_WHERE_FINE), stand_out={0}) == 1
    assert found(Looks(0, {0: 0.5, 1: 0.5, 2: 20}), stand_out={0, 1}) == 2


def test_where_nothing_is_found_at_all_the_promise_alone_is_the_answer() -> None:
    assert found(Looks(0.1)) == 0
    assert found(Looks(0.1), LEVELS[:1]) == 0
    assert found(Looks(60, {2: 0.1, 3: 0.1})) == 1


def test_an_object_too_large_for_every_level_is_looked_at_in_the_coarsest() -> None:
    assert found(Looks(200, {}, {0: 9.0})) == 3


def test_no_level_is_asked_twice_and_none_beyond_a_sure_answer() -> None:
    looks = Looks(15)
    found(looks)
    assert looks.asked == [0, 1]


def test_a_network_of_one_level_is_asked_once() -> None:
    looks = Looks(20)
    assert found(looks, LEVELS[:1]) == 0
    assert looks.asked == [0]


def after(looks: Looks, level: int, *clicks: tuple[float, bool]) -> int:
    """The level whose object stands after further clicks, so many mm beside the first, on the answer of `level`."""
    placed: list[tuple[Point, bool]] = [(MIDDLE, True)]
    placed += [((150.0, 150.0, 150.0 + away), include) for away, include in clicks]
    return second_look(looks(level), looks, VOLUME.voxels.shape, placed).level


def test_an_exclude_click_deep_in_the_organ_brings_back_the_lesion() -> None:
    assert after(Looks(0, LESION_IN_AN_ORGAN), 2, (18, False)) == 1
    assert after(Looks(0, LESION_IN_AN_ORGAN), 3, (45, False)) == 2


@pytest.mark.parametrize("click", [(28.5, False), (18, True), (35, False), (120, False)])
def test_any_other_click_corrects_the_object_that_is_there(click: tuple[float, bool]) -> None:
    assert after(Looks(0, LESION_IN_AN_ORGAN), 2, click) == 2


def test_an_object_that_an_earlier_click_denies_is_not_brought_back() -> None:
    assert after(Looks(0, LESION_IN_AN_ORGAN), 2, (6, True), (18, False)) == 1
    assert after(Looks(0, LESION_IN_AN_ORGAN), 2, (12, True), (-19, False)) == 2


def test_neither_an_outgrown_object_nor_a_mere_promise_is_brought_back() -> None:
    assert after(Looks(0, {0: 4, 1: 23, 2: 34}), 2, (19, False)) == 0
    assert after(Looks(0, {0: 4, 1: 0.9, 2: 34}), 2, (19, False)) == 0


def test_what_has_grown_over_several_crops_is_left_as_it_is() -> None:
    looks = Looks(0, LESION_IN_AN_ORGAN)
    grown = looks(2).with_tiles({(0, 0, 24): np.full((SIZE,) * 3, -4.0, np.float32)}).settled([(MIDDLE, True)])
    clicks: list[tuple[Point, bool]] = [(MIDDLE, True), ((150.0, 150.0, 168.0), False)]
    assert second_look(grown, looks, VOLUME.voxels.shape, clicks) is grown


def test_an_include_click_asks_for_no_other_level() -> None:
    looks = Looks(0, LESION_IN_AN_ORGAN)
    after(looks, 2, (18, True))
    assert looks.asked == [2]


@pytest.mark.parametrize(("difference", "noise"), [(0.5, 0.5), (1.0, 0.5), (1.0, 2.0)])
def test_contrast_is_the_step_at_the_border_in_standard_deviations(difference: float, noise: float) -> None:
    d, h, w = np.indices((SIZE,) * 3) - SIZE // 2
    ball = d**2 + h**2 + w**2 < 100
    voxels = np.random.default_rng(0).normal(0, noise, ball.shape).astype(np.float32)
    voxels[ball] += difference
    assert contrast(voxels, ball) == pytest.approx(difference / noise, rel=0.1)
    core = d**2 + h**2 + w**2 < 20
    assert contrast(voxels, core) < 0.2 * difference / noise
    assert contrast(voxels, np.zeros_like(ball)) == 0
    assert contrast(voxels, np.ones_like(ball)) == 0
