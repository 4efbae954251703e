"""The random walker in the compact network's first answer: the kept library's answer, seeds, faces, large objects."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, zoom
from skimage.segmentation import random_walker

from SAM3DSegmentLib.network import compact_prompt
from SAM3DSegmentLib.network.compact_prompt import WALKER_WEIGHT, answer, walker_logits
from SAM3DSegmentLib.network.half_grid import doubled
from SAM3DSegmentLib.network.interface import CropClick
from SAM3DSegmentLib.network.walker import BETA, SEED_RADIUS, balls, walk

EDGE = 16
NOWHERE = np.zeros((0, 3), int)


def textured() -> np.ndarray:
    image = gaussian_filter(np.random.default_rng(0).standard_normal((EDGE,) * 3), 1.5)
    return (image / image.std()).astype(np.float32)


def test_the_walker_answers_as_the_kept_library_does() -> None:
    image = textured()
    include, exclude = np.array([[8, 8, 8], [5, 9, 6]]), np.array([[8, 3, 12]])
    found, background = balls(image, include, exclude)
    expected = random_walker(
        image, found + 2 * background.astype(int), beta=10 * BETA * image.std(), mode="cg_j", return_full_prob=True
    )[0]
    assert np.abs(walk(image, include, exclude) - expected).max() < 0.02


def test_the_walker_stays_within_the_clicked_brightness() -> None:
    image = np.full((EDGE,) * 3, -1, np.float32)
    image[4:12, 4:12, 4:12] = 1
    found = walk(image, np.array([[7, 7, 7]]), NOWHERE) > 0.5
    assert np.array_equal(found, image > 0)


def test_an_exclude_click_takes_its_surroundings_from_the_object() -> None:
    image = np.zeros((EDGE,) * 3, np.float32)
    include, exclude = np.array([[6, 8, 8]]), np.array([[11, 8, 8]])
    alone, corrected = walk(image, include, NOWHERE), walk(image, include, exclude)
    assert corrected[11, 8, 8] == 0 < alone[11, 8, 8]
    assert (corrected <= alone + 1e-3).all()


def test_overlapping_balls_go_to_the_nearer_click() -> None:
    found, background = balls(np.zeros((EDGE,) * 3, np.float32), np.array([[8, 8, 7]]), np.array([[8, 8, 9]]))
    assert found[8, 8, 7] and not found[8, 8, 9]
    assert background[8, 8, 9] and not background[8, 8, 7]
    assert found[8, 8, 7 - int(SEED_RADIUS)] and not (found & background).any()


def test_the_faces_are_background_but_for_a_click_on_them() -> None:
    found, background = balls(np.zeros((EDGE,) * 3, np.float32), np.array([[0, 8, 8]]), NOWHERE)
    assert found[0, 8, 8] and not background[0, 8, 8] and background[0, 0, 0]


def test_half_a_grid_is_doubled_by_linear_interpolation() -> None:
    values = textured()
    assert np.allclose(doubled(values), zoom(values, 2, order=1, grid_mode=True, mode="nearest"), atol=1e-5)


CLICK = CropClick((16.0, 16.0, 16.0), True)
CROP = np.full((2 * EDGE,) * 3, -1, np.float32)
CROP[10:24, 10:24, 10:24] = 1


def answered(logits: np.ndarray, previous: np.ndarray | None = None) -> np.ndarray:
    """What becomes of a network's logits on a bright cube that is clicked in the middle."""
    return answer(lambda _inputs: logits[None, None], CROP, [CLICK], previous)


def test_a_crops_first_answer_is_the_mean_of_network_and_walker() -> None:
    unsure = np.full(CROP.shape, -0.5, np.float32)
    first = answered(unsure)
    assert np.allclose(first, (1 - WALKER_WEIGHT) * unsure + WALKER_WEIGHT * walker_logits(CROP, [CLICK]))
    assert ((first > 0) == (CROP > 0)).mean() > 0.95 and (first > 0)[11:23, 11:23, 11:23].all()


def test_a_later_answer_counts_whole_at_the_newest_click_and_half_far_from_it() -> None:
    new, before = np.full(CROP.shape, 1, np.float32), np.full(CROP.shape, -1, np.float32)
    later = answered(new, before)
    assert np.isclose(later[16, 16, 16], 1)
    assert abs(later[0, 0, 0]) < 0.05
    along = later[16, 16, 16:]
    assert (np.diff(along) < 0).all()


def test_the_walker_is_not_asked_where_the_object_leaves_it_no_room() -> None:
    large = np.full(CROP.shape, -1, np.float32)
    large[2:30] = 1
    assert large.shape[0] * compact_prompt.WALKER_ROOM < 28
    assert np.array_equal(answered(large), large)
