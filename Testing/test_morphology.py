"""Connected components without scipy are those of scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from SAM3DSegmentLib.morphology import connected_to


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
