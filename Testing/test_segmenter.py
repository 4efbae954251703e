"""The segmenter: a function of volume, clicks and model; zoom, growth, promises, cached prefixes."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from SAM3DSegmentLib.clicks import Click, ClickHistory
from SAM3DSegmentLib.errors import CancelledError, ClickOutsideError, ClickTooFarError, NoIncludeClickError, ScanError
from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.measure import dice
from SAM3DSegmentLib.segmenter import Segmenter
from Testing.doubles import BrightnessDecoder, ball_volume, middle

VOLUME = ball_volume(20)
BESIDE = VOLUME.ras((30, 75, 75 + 27))
"""RAS mm of a place just outside the ball."""


def segment(volume: Volume, clicks: list[Click], decoder: BrightnessDecoder | None = None) -> np.ndarray:
    prediction = Segmenter(volume, decoder or BrightnessDecoder()).segment(clicks)
    return prediction.mask_on(volume.voxels.shape)


def dice_of(mask: np.ndarray, voxels: np.ndarray) -> float:
    return float(
        2 * np.count_nonzero(mask & (voxels > 0.5)) / (np.count_nonzero(mask) + np.count_nonzero(voxels > 0.5))
    )


class Excludes(BrightnessDecoder):
    """Gives up what is bright within 6 voxels of an exclude click."""

    def decode(self, crop, clicks, previous, cancelled=None, progress=None):
        logits = super().decode(crop, clicks, previous, cancelled, progress)
        for position, include in clicks:
            if not include:
                away = sum((axis - p) ** 2 for axis, p in zip(np.indices(crop.shape), position, strict=True))
                logits[away < 36] = -4
        return logits


def test_an_exclude_click_works_in_a_crop_that_holds_no_include_click() -> None:
    voxels = np.zeros((40, 40, 140), np.float32)
    voxels[15:25, 15:25, 10:130] = 1
    volume, decoder = Volume(voxels, np.diag([-1.0, -1.0, 1.0, 1.0])), Excludes((1.0,))
    segmenter = Segmenter(volume, decoder)
    include, exclude = Click(volume.ras((20, 20, 20))), Click(volume.ras((20, 20, 110)), include=False)
    before = segmenter.segment([include]).mask_on(voxels.shape)
    assert dice_of(before, voxels) > 0.95
    after = segmenter.segment([include, exclude]).mask_on(voxels.shape)
    assert np.count_nonzero(before & ~after) > 300
    assert (after[:, :, :90] == before[:, :, :90]).all()
    assert all(any(sign for _, sign in asked) for asked in decoder.asked)


def test_a_long_list_costs_no_more_than_its_newest_click_where_few_answers_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoder = BrightnessDecoder((1.5,))
    segmenter = Segmenter(VOLUME, decoder)
    clicks = [Click(middle(VOLUME))]
    segmenter.segment(clicks)
    _, field = segmenter._known.beginning(clicks, None)
    monkeypatch.setattr("SAM3DSegmentLib.known_answers.BYTES_KEPT", 3 * field.size)
    for n in range(8):
        clicks.append(Click(VOLUME.ras((30, 60 + 4 * n, 70)), include=False))
        asked = len(decoder.asked)
        segmenter.segment(clicks)
        assert len(decoder.asked) == asked + 1


def test_an_exclude_click_where_no_crop_lies_changes_nothing() -> None:
    volume, decoder = ball_volume(8, shape=(60, 300, 300)), BrightnessDecoder()
    segmenter, include = Segmenter(volume, decoder), Click(middle(volume))
    before, asked = segmenter.segment([include]).mask_on(volume.voxels.shape), len(decoder.asked)
    after = segmenter.segment([include, Click(volume.ras((2, 5, 5)), include=False)]).mask_on(volume.voxels.shape)
    assert (after == before).all() and len(decoder.asked) == asked


def test_a_far_exclude_click_pulls_no_crop_away_from_the_object() -> None:
    voxels = np.zeros((20, 20, 400), np.float32)
    voxels[5:15, 5:15, 5:60] = 1
    volume, decoder = Volume(voxels, np.diag([-1.0, -1.0, 1.0, 1.0])), BrightnessDecoder((0.5, 1.0))
    clicks = [Click(volume.ras(index), sign) for index, sign in (((10, 10, 8), True), ((10, 10, 390), False))]
    found = segment(volume, [*clicks, Click(volume.ras((10, 10, 20)))], decoder)
    assert dice_of(found, voxels) > 0.9
    assert all(any(sign for _, sign in asked) for asked in decoder.asked)


def test_an_include_click_that_would_take_gigabytes_is_refused_and_the_rest_stays() -> None:
    volume = Volume(np.zeros((600, 600, 600), np.uint8), np.diag([-1.0, -1.0, 1.0, 1.0]))
    volume.voxels[2:12, 2:12, 2:12] = 1
    segmenter = Segmenter(volume, BrightnessDecoder((1.0,)))
    near = [Click(volume.ras((6, 6, 6)))]
    before = segmenter.segment(near).mask_on(volume.voxels.shape)
    with pytest.raises(ClickTooFarError, match="begin another tumour"):
        segmenter.segment([*near, Click(volume.ras((590, 590, 590)))])
    assert (segmenter.segment(near).mask_on(volume.voxels.shape) == before).all()


def test_only_the_object_under_the_click_is_taken() -> None:
    volume = ball_volume(8)
    volume.voxels[volume.voxels.shape[0] // 2, 75, 92:98] = 1
    mask = segment(volume, [Click(middle(volume))])
    assert not mask[:, :, 92:98].any()
    with_second = segment(volume, [Click(middle(volume)), Click(volume.ras((30, 75, 95)))])
    assert with_second[30, 75, 95]
    assert with_second[30, 75, 75]


def inside_clicks() -> st.SearchStrategy[Click]:
    index = st.tuples(*(st.integers(0, n - 1) for n in VOLUME.voxels.shape))
    return st.builds(lambda kji, include: Click(VOLUME.ras(kji), include), index, st.booleans())


@settings(max_examples=25, deadline=None)
@given(st.lists(inside_clicks(), min_size=1, max_size=5))
def test_every_click_is_a_promise_that_the_mask_keeps(others: list[Click]) -> None:
    clicks = [Click(middle(VOLUME)), *others]
    mask = segment(VOLUME, clicks)
    last_word = {VOLUME.index(click.ras): click.include for click in clicks}
    assert {index: bool(mask[index]) for index in last_word} == last_word


@settings(max_examples=15, deadline=None)
@given(st.lists(inside_clicks(), min_size=1, max_size=4), st.data())
def test_any_way_to_a_list_of_clicks_gives_the_same_bits(others: list[Click], data: st.DataObject) -> None:
    clicks = [Click(middle(VOLUME)), *others]
    fresh = segment(VOLUME, clicks)
    segmenter = Segmenter(VOLUME, BrightnessDecoder())
    history = ClickHistory()
    for click in clicks:
        history.change((*history.clicks, click))
        segmenter.segment(history.clicks)
        if data.draw(st.booleans()):
            history.change((Click(VOLUME.ras((31, 75, 75))), *history.clicks[1:]))
            segmenter.segment(history.clicks)
            history.undo()
    assert history.clicks == tuple(clicks)
    assert np.array_equal(segmenter.segment(history.clicks).mask_on(VOLUME.voxels.shape), fresh)


def test_undo_and_redo_ask_the_network_nothing() -> None:
    decoder = BrightnessDecoder()
    segmenter = Segmenter(VOLUME, decoder)
    clicks = [Click(middle(VOLUME)), Click(BESIDE)]
    segmenter.segment(clicks)
    asked = len(decoder.asked)
    segmenter.segment(clicks[:1])
    segmenter.segment(clicks)
    assert len(decoder.asked) == asked


def test_a_later_click_in_the_crop_costs_one_pass_and_hands_the_previous_answer_on() -> None:
    decoder = BrightnessDecoder()
    segmenter = Segmenter(VOLUME, decoder)
    first = Click(middle(VOLUME))
    segmenter.segment([first])
    asked = len(decoder.asked)
    segmenter.segment([first, Click(BESIDE)])
    assert len(decoder.asked) == asked + 1
    assert decoder.previous[-1] is not None
    assert len(decoder.asked[-1]) == 2


def test_a_far_click_is_reached_without_losing_the_first_object() -> None:
    volume = ball_volume(10)
    volume.voxels[30:34, 75:80, 140:146] = 1
    for decoder in (BrightnessDecoder(), BrightnessDecoder((1.0,))):
        mask = segment(volume, [Click(middle(volume)), Click(volume.ras((32, 77, 143)))], decoder)
        assert mask[32, 77, 143]
        assert mask[30, 75, 75]


def test_a_one_voxel_thick_volume_is_segmented() -> None:
    volume = ball_volume(10, shape=(1, 100, 100))
    mask = segment(volume, [Click(middle(volume))])
    assert dice(mask, (slice(None),) * 3, volume.voxels > 0.5) > 0.9


def test_exclude_clicks_alone_are_refused() -> None:
    with pytest.raises(NoIncludeClickError, match="include"):
        segment(VOLUME, [Click(middle(VOLUME), include=False)])


def test_a_click_outside_the_volume_is_refused_with_its_limits() -> None:
    with pytest.raises(ClickOutsideError, match="outside the scan"):
        segment(VOLUME, [Click((0.0, 0.0, 9999.0))])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_no_numbers_are_refused(value: float) -> None:
    volume = ball_volume(10, shape=(8, 20, 20))
    volume.voxels[0, 0, 0] = value
    with pytest.raises(ScanError, match="NaN or infinite"):
        Segmenter(volume, BrightnessDecoder())


def test_a_constant_scan_is_refused() -> None:
    volume = Volume(np.zeros((4, 5, 6), np.int16), np.eye(4))
    with pytest.raises(ScanError, match="nothing to segment"):
        Segmenter(volume, BrightnessDecoder())


def test_a_cancelled_evaluation_leaves_the_answers_before_it() -> None:
    decoder = BrightnessDecoder()
    segmenter = Segmenter(VOLUME, decoder)
    clicks = [Click(middle(VOLUME)), Click(BESIDE)]
    before = segmenter.segment(clicks[:1])
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(CancelledError):
        segmenter.segment(clicks, cancelled)
    assert np.array_equal(segmenter.segment(clicks[:1]).mask, before.mask)
