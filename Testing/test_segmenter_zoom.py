"""The segmenter's zoom level follows the object, and where none holds it further crops do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.field import one_tile
from SAM3DSegmentLib.geometry import Float32Array, Volume
from SAM3DSegmentLib.measure import dice
from SAM3DSegmentLib.segmenter import TILE_LIMIT, Segmenter
from SAM3DSegmentLib.start import Start
from Testing.doubles import BrightnessDecoder, ball_volume, middle
from Testing.test_segmenter import VOLUME


@pytest.mark.parametrize("radius", [3, 8, 20, 45])
def test_zoom_follows_the_size_of_the_object(radius: float) -> None:
    volume = ball_volume(radius)
    prediction = Segmenter(volume, BrightnessDecoder()).segment([Click(middle(volume))])
    assert dice(prediction.mask, prediction.box, volume.voxels > 0.5) > 0.9
    assert prediction.tiles == 1
    diameter_in_crop = 2 * radius / prediction.spacing
    assert diameter_in_crop < 32


def test_a_network_of_one_zoom_level_grows_by_further_crops() -> None:
    volume = ball_volume(30)
    prediction = Segmenter(volume, BrightnessDecoder((1.0,))).segment([Click(middle(volume))])
    assert prediction.tiles > 1
    assert not prediction.limited
    assert dice(prediction.mask, prediction.box, volume.voxels > 0.5) > 0.97


class LosesWhenCoarse(BrightnessDecoder):
    """Takes the faint tissue too from the seventh click on, and next to nothing where the object is shown small."""

    def threshold(self, crop: Float32Array, clicks: int) -> float:
        bright = np.count_nonzero(crop > 0.9)
        if 100 < bright < 1500:
            return 2.0
        return 0.3 if clicks > 6 or not bright else 0.5


def test_a_settled_object_is_not_lost_to_a_coarser_level_but_grows_beside() -> None:
    voxels = np.zeros((80, 80, 120), np.float32)
    voxels[36:44, 36:44, 52:100] = 0.4
    voxels[32:48, 32:48, 52:68] = 1
    volume = Volume(voxels, np.diag([-1.0, -1.0, 1.0, 1.0]))
    clicks = [Click(volume.ras((40, 40, i))) for i in (*range(60, 66), 72)]
    segmenter = Segmenter(volume, LosesWhenCoarse((1.0, 2.0)))
    segmenter.segment(clicks[:-1])
    prediction = segmenter.segment(clicks)
    assert prediction.spacing == 1.0 and prediction.tiles > 1
    assert dice(prediction.mask, prediction.box, voxels > 0.3) > 0.9


class LesionOrOrgan(BrightnessDecoder):
    """Takes a lesion that is shown by so many voxels, else the organ around it."""

    def __init__(self, enough: int) -> None:
        super().__init__()
        self.enough = enough

    def threshold(self, crop: Float32Array, clicks: int) -> float:
        return 0.75 if np.count_nonzero(crop > 0.75) > self.enough else 0.25


def lesion_in_an_organ(radius: float) -> Volume:
    """A ball of brightness 1 and so many mm in one of 0.5 and 30 mm; voxels of 1 mm."""
    organ, lesion = (ball_volume(r, (1.0, 1.0, 1.0), (120, 120, 120)) for r in (30, radius))
    return Volume((organ.voxels + lesion.voxels) / 2, organ.ijk_to_ras)


@pytest.mark.parametrize(("away", "found"), [(18, "the lesion"), (29, "the organ")])
def test_an_exclude_click_deep_in_an_organ_finds_the_lesion_that_was_meant(away: float, found: str) -> None:
    volume = lesion_in_an_organ(5)
    lesion, organ = volume.voxels > 0.75, volume.voxels > 0.25
    first = Click(middle(volume))
    clicks = [first, Click(tuple(np.add(first.ras, (0, away, 0))), include=False)]
    decoder = LesionOrOrgan(400)
    segmenter = Segmenter(volume, decoder)
    prediction = segmenter.segment([first])
    assert dice(prediction.mask, prediction.box, organ) > 0.9
    asked = len(decoder.asked)
    prediction = segmenter.segment(clicks)
    assert len(decoder.asked) <= asked + 1  # what the first click showed in finer levels is still known
    assert dice(prediction.mask, prediction.box, {"the lesion": lesion, "the organ": organ}[found]) > 0.9
    at_once = Segmenter(volume, LesionOrOrgan(400)).segment(clicks)
    assert at_once.box == prediction.box
    assert np.array_equal(at_once.mask, prediction.mask)


def test_a_loaded_mask_is_not_given_up_for_another_levels_object() -> None:
    volume = lesion_in_an_organ(5)
    segmenter = Segmenter(volume, LesionOrOrgan(400))
    organ = volume.voxels > 0.25
    first = Click(middle(volume))
    start = Start((first,), (slice(0, 120),) * 3, organ)
    prediction = segmenter.segment([first, Click(tuple(np.add(first.ras, (0, 18, 0))), include=False)], start=start)
    assert dice(prediction.mask, prediction.box, organ) > 0.9


LESION_IN_AN_ORGAN = lesion_in_an_organ(5)
ALONG_A = st.tuples(st.sampled_from([-27, -18, -8, 3, 12, 18, 24, 29, 40]), st.booleans())


@settings(max_examples=15, deadline=None)
@given(st.booleans(), st.lists(ALONG_A, min_size=1, max_size=4), st.data())
def test_a_second_look_gives_the_same_bits_whichever_way_it_is_come_to(
    exclude_first: bool, others: list[tuple[int, bool]], data: st.DataObject
) -> None:
    volume = LESION_IN_AN_ORGAN
    first = middle(volume)
    clicks = [Click(tuple(np.add(first, (0, away, 0))), include) for away, include in others]
    clicks.insert(0, Click(first))
    if exclude_first:
        clicks.insert(0, Click(tuple(np.add(first, (0, 0, 20))), include=False))
    fresh = Segmenter(volume, LesionOrOrgan(400)).segment(clicks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("SAM3DSegmentLib.known_answers.BYTES_KEPT", 1)
        segmenter = Segmenter(volume, LesionOrOrgan(400))
        for count in range(1 + exclude_first, len(clicks) + 1):
            segmenter.segment(clicks[:count])
            if data.draw(st.booleans()):
                segmenter.segment([Click(tuple(np.add(first, (3, 0, 0)))), *clicks[1 + exclude_first : count]])
        again = segmenter.segment(clicks)
    assert again.box == fresh.box
    assert np.array_equal(again.mask, fresh.mask)


@pytest.mark.parametrize(("before", "found"), [(2, "the lesion"), (4, "the organ")])
def test_only_early_clicks_are_taken_for_another_object(before: int, found: str) -> None:
    volume = LESION_IN_AN_ORGAN
    first = middle(volume)
    clicks = [Click(tuple(np.add(first, (0, 0, n)))) for n in range(before)]
    clicks.append(Click(tuple(np.add(first, (0, 18, 0))), include=False))
    prediction = Segmenter(volume, LesionOrOrgan(400)).segment(clicks)
    threshold = {"the lesion": 0.75, "the organ": 0.25}[found]
    assert dice(prediction.mask, prediction.box, volume.voxels > threshold) > 0.9


def test_growth_ends_at_its_limit_and_says_so() -> None:
    volume = ball_volume(58)
    prediction = Segmenter(volume, BrightnessDecoder((0.8,))).segment([Click(middle(volume))])
    assert prediction.tiles == TILE_LIMIT
    assert prediction.limited


def test_an_answer_is_called_too_large_only_as_long_as_it_is() -> None:
    crop = VOLUME.crop_around(middle(VOLUME), 1.0, (32, 32, 32))
    field = one_tile(0, crop, np.ones(crop.shape, np.float32)).with_limit()
    clicks = [(VOLUME.continuous_index(middle(VOLUME)), True)]
    assert field.limited and not field.with_tiles({(0, 0, 0): -np.ones(crop.shape)}).settled(clicks).limited
