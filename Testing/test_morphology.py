"""Operations on masks without scipy agree with scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from SAM3DSegmentLib.morphology import connected_to, relative_depth


@pytest.mark.parametrize("smoothness", [0, 1, 3])
def test_components_with_a_seed_are_kept_and_no_others(smoothness: float) -> None:
    rng = np.random.default_rng(0)
    mask = ndimage.gaussian_filter(rng.standard_normal((30, 21, 40)), smoothness) > 0
    seeds = np.zeros_like(mask)
    seeds[15, 10, 20] = seeds[3, 4, 5] = seeds[29, 20, 39] = True
    labels, _ = ndimage.label(mask)
    wanted = np.isin(labels, np.unique(labels[seeds & mask]))
    assert np.array_equal(connected_to(mask, seeds), wanted)


def test_nothing_is_connected_in_an_empty_mask() -> None:
    empty = np.zeros((3, 4, 5), bool)
    assert not connected_to(empty, ~empty).any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_relative_depth_is_near_the_euclidean_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal((48, 40, 44)), 8)
    mask = noise > np.quantile(noise, 0.4)
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1, 1:-1]
    whole_layers = 2 / depth.max()  # the voxel's own depth and the deepest are counted in layers
    for d, h, w in rng.integers(0, mask.shape, (10, 3)):
        expected = depth[d, h, w] / depth.max()
        assert relative_depth(mask, (d, h, w)) == pytest.approx(expected, abs=0.06 + whole_layers)
        assert (relative_depth(mask, (d, h, w)) > 0) is bool(mask[d, h, w])


def test_nothing_is_deep_in_an_empty_mask() -> None:
    assert relative_depth(np.zeros((4, 4, 4), bool), (1, 2, 3)) == 0
