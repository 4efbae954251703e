"""The segmenter: a function of volume, clicks and model; zoom, growth, promises, cached prefixes."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from SAM3DSegmentLib.clicks import Click, ClickHistory
from SAM3DSegmentLib.errors import CancelledError, ClickOutsideError, ClickTooFarError, NoIncludeClickError, ScanError
from SAM3DSegmentLib.field import one_tile
from SAM3DSegmentLib.geometry import Float32Array, Volume
from SAM3DSegmentLib.measure import dice
from SAM3DSegmentLib.prediction import Prediction
from SAM3DSegmentLib.segmenter import TILE_LIMIT, Segmenter
from SAM3DSegmentLib.start import Start
from Testing.doubles import BrightnessDecoder, ball_volume, middle
from Testing.test_geometry import on_random_grids, volumes

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


def test_growth_ends_at_its_limit_and_says_so() -> None:
    volume = ball_volume(58)
    prediction = Segmenter(volume, BrightnessDecoder((0.8,))).segment([Click(middle(volume))])
    assert prediction.tiles == TILE_LIMIT
    assert prediction.limited


def test_a_mask_beyond_the_limit_can_be_started_from() -> None:
    volume = ball_volume(58)
    mask, whole = volume.voxels > 0.5, tuple(slice(0, n) for n in volume.voxels.shape)
    mask[:, :, mask.shape[2] // 2 :] = False
    k, j, i = np.argwhere(mask).mean(0).round().astype(int)
    first = Click(volume.ras((k, j, i)))
    segmenter = Segmenter(volume, BrightnessDecoder((0.8,)))
    start = Start((first,), whole, mask)
    prediction = segmenter.segment([first, Click(volume.ras((k, j, mask.shape[2] // 2 + 2)))], start=start)
    assert prediction.tiles > TILE_LIMIT and prediction.limited
    assert (prediction.mask_on(mask.shape) & mask).sum() > 0.95 * mask.sum()


def test_an_answer_is_called_too_large_only_as_long_as_it_is() -> None:
    crop = VOLUME.crop_around(middle(VOLUME), 1.0, (32, 32, 32))
    field = one_tile(0, crop, np.ones(crop.shape, np.float32)).with_limit()
    clicks = [(VOLUME.continuous_index(middle(VOLUME)), True)]
    assert field.limited and not field.with_tiles({(0, 0, 0): -np.ones(crop.shape)}).settled(clicks).limited


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


def exact(prediction: Prediction) -> tuple[object, bytes]:
    return prediction.box, prediction.mask.tobytes()


@pytest.mark.parametrize(("index", "include"), [((30, 75, 75 + 20), True), ((30, 75, 75 + 27), False)])
def test_a_click_where_the_mask_is_right_changes_nothing_and_is_kept_by_later_answers(
    index: tuple[int, int, int], include: bool
) -> None:
    decoder = Wavering((0.75, 1.5, 3.0, 6.0))
    segmenter = Segmenter(VOLUME, decoder)
    first, needless = Click(middle(VOLUME)), Click(VOLUME.ras(index), include)
    before, asked = segmenter.segment([first]), len(decoder.asked)
    assert exact(segmenter.segment([first, needless])) == exact(before) and len(decoder.asked) == asked
    after = segmenter.segment([first, needless, Click(VOLUME.ras((30, 75 - 27, 75)))])
    assert len(decoder.asked) > asked and needless.include is after.holds(index)
    assert any(len(clicks) == 3 for clicks in decoder.asked)


@on_random_grids
@given(volumes(), st.floats(0.4, 4), st.integers(0, 99))
def test_a_field_shows_each_voxel_as_the_pasted_mask_does(volume: Volume, spacing: float, seed: int) -> None:
    rng, shape = np.random.default_rng(seed), volume.voxels.shape
    crop = volume.crop_around(volume.ras(tuple(rng.uniform(0, shape))), spacing, (12, 12, 12))
    logits = ndimage.gaussian_filter(rng.standard_normal(crop.shape), 1.5).astype(np.float32)
    field, mask = one_tile(0, crop, logits), np.zeros(shape, bool)
    box, pasted = crop.paste_positive(logits, shape)
    mask[box] = pasted
    for k, j, i in rng.integers(0, shape, (20, 3)):
        assert field.shows((int(k), int(j), int(i))) is bool(mask[k, j, i])


class Wavering(BrightnessDecoder):
    """Takes much less, then much more, with every further click."""

    def threshold(self, crop: Float32Array, clicks: int) -> float:
        return (0.5, 2.0, -1.0)[clicks % 3 - 1]


def test_a_started_mask_stays_to_the_voxel_where_a_click_finds_it_right() -> None:
    rough = VOLUME.voxels > 0.5
    rough[::2, 75:90:3] = False
    whole = tuple(slice(0, n) for n in rough.shape)
    segmenter, first = Segmenter(VOLUME, BrightnessDecoder()), Click(VOLUME.ras((31, 74, 75)))
    start = Start((first,), whole, rough)
    for needless in (Click(VOLUME.ras((31, 76, 80))), Click(VOLUME.ras((30, 78, 75)), include=False)):
        assert (segmenter.segment([first, needless], start=start).mask_on(rough.shape) == rough).all()
    wrong = Click(VOLUME.ras((30, 78, 75)))
    assert not (segmenter.segment([first, wrong], start=start).mask_on(rough.shape) == rough).all()


def test_what_was_painted_over_a_click_stays_until_the_next_answer_which_keeps_every_promise() -> None:
    painted, whole = VOLUME.voxels > 0.5, tuple(slice(0, n) for n in VOLUME.voxels.shape)
    painted[28:33, 70:80, 70:80] = False
    erased, kept = Click(middle(VOLUME)), Click(VOLUME.ras((30, 75, 90)))
    segmenter, start = Segmenter(VOLUME, BrightnessDecoder()), Start((erased, kept), whole, painted)
    assert np.array_equal(segmenter.segment([erased, kept], start=start).mask_on(painted.shape), painted)
    for inside in (Click(VOLUME.ras((30, 75, 88))), Click(VOLUME.ras((30, 60, 75)))):
        after = segmenter.segment([erased, kept, inside], start=start)
        assert all(after.holds(VOLUME.index(click.ras)) for click in (erased, kept, inside))


def test_the_same_clicks_on_other_painted_masks_have_answers_of_their_own() -> None:
    whole = tuple(slice(0, n) for n in VOLUME.voxels.shape)
    segmenter, first = Segmenter(VOLUME, BrightnessDecoder()), Click(middle(VOLUME))
    needless = Click(VOLUME.ras((30, 75, 76)))
    answer = segmenter.segment([first]).mask_on(VOLUME.voxels.shape)
    halves = []
    for cut in (slice(80, None), slice(None, 70)):
        half = VOLUME.voxels > 0.5
        half[:, :, cut] = False
        halves.append(Start((first,), whole, half))
    for clicks in ([first], [first, needless]):
        for start, wanted in [(None, answer), *((start, start.mask) for start in halves), (None, answer)]:
            assert np.array_equal(segmenter.segment(clicks, start=start).mask_on(answer.shape), wanted)


def test_a_click_where_an_earlier_one_lies_counts_against_that_ones_word() -> None:
    decoder, clicks = BrightnessDecoder(), [Click(middle(VOLUME)), Click(BESIDE), Click(BESIDE, include=False)]
    segmenter = Segmenter(VOLUME, decoder)
    segmenter.segment(clicks[:2])
    asked = len(decoder.asked)
    prediction = segmenter.segment(clicks)
    assert len(decoder.asked) > asked and not prediction.holds(VOLUME.index(BESIDE))


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


def test_of_many_masks_to_go_on_from_few_are_held_and_each_can_be_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter, whole = Segmenter(VOLUME, BrightnessDecoder()), tuple(slice(0, n) for n in VOLUME.voxels.shape)
    monkeypatch.setattr("SAM3DSegmentLib.known_answers.BYTES_KEPT", 4 * VOLUME.voxels.size)
    starts = []
    for n in range(12):
        mask = VOLUME.voxels > 0.5
        mask[:, :, 60 + n] = False
        starts.append(Start((Click(VOLUME.ras((30, 75, 52 + n // 3))),), whole, mask))
    for start in (*starts, *starts):
        needless = Click(VOLUME.ras((30, 75, 57)))
        prediction = segmenter.segment([*start.clicks, needless], start=start)
        assert np.array_equal(prediction.mask_on(start.mask.shape), start.mask)
    held = {start for start, _ in segmenter._known._fields}
    assert 1 <= len(held) < 5
