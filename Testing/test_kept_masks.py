"""A mask stays to the voxel where clicks find it right: the network's own, and one that was painted or loaded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.field import one_tile
from SAM3DSegmentLib.geometry import Float32Array, Volume
from SAM3DSegmentLib.prediction import Prediction
from SAM3DSegmentLib.segmenter import TILE_LIMIT, Segmenter
from SAM3DSegmentLib.start import Start
from Testing.doubles import BrightnessDecoder, ball_volume, middle
from Testing.test_geometry import on_random_grids, volumes
from Testing.test_segmenter import BESIDE, VOLUME


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
    same = segmenter.segment([first, needless])
    assert exact(same) == exact(before) and len(decoder.asked) == asked
    assert same.needless and not before.needless
    after = segmenter.segment([first, needless, Click(VOLUME.ras((30, 75 - 27, 75)))])
    assert (
        len(decoder.asked) > asked
        and not after.needless
        and needless.include is bool(after.mask_on(VOLUME.voxels.shape)[index])
    )
    assert any(len(clicks) == 3 for clicks in decoder.asked)


class Wavering(BrightnessDecoder):
    """Takes much less, then much more, with every further click."""

    def threshold(self, crop: Float32Array, clicks: int) -> float:
        return (0.5, 2.0, -1.0)[clicks % 3 - 1]


def test_a_click_where_an_earlier_one_lies_counts_against_that_ones_word() -> None:
    decoder, clicks = BrightnessDecoder(), [Click(middle(VOLUME)), Click(BESIDE), Click(BESIDE, include=False)]
    segmenter = Segmenter(VOLUME, decoder)
    segmenter.segment(clicks[:2])
    asked = len(decoder.asked)
    prediction = segmenter.segment(clicks)
    assert len(decoder.asked) > asked and not prediction.mask_on(VOLUME.voxels.shape)[VOLUME.index(BESIDE)]


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
        whole_mask = after.mask_on(painted.shape)
        assert all(whole_mask[VOLUME.index(click.ras)] for click in (erased, kept, inside))


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
