"""Volume, longest axial diameter and Dice of masks whose figures are known."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from SAM3DSegmentLib.geometry import Volume, trim
from SAM3DSegmentLib.measure import dice, longest_distance, measure
from SAM3DSegmentLib.phantom import make_phantom


def volume_of(shape: tuple[int, int, int], affine: np.ndarray) -> Volume:
    return Volume(np.zeros(shape, np.int16), affine)


def test_a_box_has_its_volume_and_its_diagonal_between_edge_midpoints():
    volume = volume_of((5, 9, 9), np.diag([2.0, 1.0, 5.0, 1.0]))
    mask = np.zeros((5, 9, 9), bool)
    mask[1:4, 2:6, 3:6] = True
    measured = measure(volume, mask)
    assert measured.volume_ml == pytest.approx(3 * 4 * 3 * 10 / 1000)
    assert measured.diameter_mm == pytest.approx(max(np.hypot(6, 3), np.hypot(4, 4)))


def test_a_row_of_voxels_is_as_long_as_its_voxels():
    mask = np.ones((1, 1, 7), bool)
    assert measure(volume_of((1, 1, 7), np.diag([0.5, 0.5, 9, 1])), mask).diameter_mm == pytest.approx(3.5)


def test_the_diameter_is_measured_across_the_patients_long_axis_whatever_the_order_of_the_voxels():
    superior_is_i = np.array([[0, 0, 1.0, 0], [0, -1.0, 0, 0], [4.0, 0, 0, 0], [0, 0, 0, 1]])
    mask = np.zeros((8, 8, 8), bool)
    mask[2, 3, :] = True
    mask[1:4, 3, 5] = True
    assert measure(volume_of((8, 8, 8), superior_is_i), mask).diameter_mm == pytest.approx(3)


def test_two_parts_in_one_slice_are_measured_together_and_in_two_slices_apart():
    mask = np.zeros((2, 1, 10), bool)
    mask[0, 0, [0, 9]] = True
    volume = volume_of((2, 1, 10), np.eye(4))
    assert measure(volume, mask).diameter_mm == pytest.approx(10)
    apart = np.zeros((2, 1, 10), bool)
    apart[0, 0, 0] = apart[1, 0, 9] = True
    assert measure(volume, apart).diameter_mm == pytest.approx(1)


def test_an_empty_mask_measures_nothing():
    measured = measure(volume_of((3, 3, 3), np.eye(4)), np.zeros((0, 0, 0), bool))
    assert (measured.volume_ml, measured.diameter_mm) == (0, 0)


@given(arrays(np.float64, st.tuples(st.integers(1, 30), st.just(2)), elements=st.integers(-9, 9)))
@settings(deadline=None)
def test_the_longest_distance_is_that_of_all_pairs(points):
    every = [np.linalg.norm(a - b) for a, b in combinations(points, 2)]
    assert longest_distance(points) == pytest.approx(max(every, default=0.0))


def test_the_phantoms_lesions_measure_what_they_were_drawn_as():
    phantom = make_phantom()
    for lesion in phantom.lesions:
        _, mask = trim((slice(0, None),) * 3, phantom.reference(lesion))
        assert measure(phantom.volume, mask).diameter_mm == pytest.approx(lesion.diameter_mm, abs=1.4)


def test_dice_of_a_boxed_mask_counts_the_reference_outside_the_box():
    reference = np.zeros((4, 4, 4), bool)
    reference[0:2] = True
    box = (slice(1, 3), slice(0, 4), slice(0, 4))
    mask = np.ones((2, 4, 4), bool)
    assert dice(mask, box, reference) == pytest.approx(2 * 16 / 64)


def test_dice_of_two_empty_masks_is_one_and_of_one_empty_mask_nought():
    nothing, box = np.zeros((0, 0, 0), bool), (slice(0, 0),) * 3
    reference = np.zeros((2, 2, 2), bool)
    assert dice(nothing, box, reference) == 1
    reference[0, 0, 0] = True
    assert dice(nothing, box, reference) == 0
