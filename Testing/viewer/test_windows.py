"""Which windows the viewer offers for a scan, and what they draw."""

from __future__ import annotations

import numpy as np
import pytest

from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.scene.volumes import add_volume
from SAM3DSegmentLib.viewer.windows import AUTOMATIC, Window, apply_window, windows_for


def scan(low: float, high: float, dtype: type = np.int16) -> Volume:
    """Voxels spread evenly from `low` to `high`, with one that shines out."""
    voxels = np.linspace(low, high, 8000).astype(dtype).reshape(20, 20, 20)
    voxels[0, 0, 0] = 30000
    return Volume(voxels, np.eye(4))


def test_a_ct_begins_with_the_abdomen_and_offers_the_automatic_window_last() -> None:
    names = [window.name for window in windows_for(scan(-1000, 1000))]
    assert names[0] == "Abdomen"
    assert {"Lung", "Bone", "Liver"} < set(names)
    assert names[-1] == AUTOMATIC


@pytest.mark.parametrize("low", [0, -100])
def test_an_mr_gets_the_automatic_window_which_one_bright_voxel_does_not_stretch(low: float) -> None:
    (window,) = windows_for(scan(low, 900))
    assert window.name == AUTOMATIC
    assert window.level + window.width / 2 == pytest.approx(900, abs=10)
    assert window.level - window.width / 2 == pytest.approx(low, abs=10)


def test_a_scan_that_is_dark_but_for_a_spot_still_gets_a_window_of_some_width() -> None:
    (window,) = windows_for(scan(0, 0))
    assert window.width > 0


def test_the_window_is_what_the_volume_is_drawn_with(scene) -> None:
    node = add_volume(scene, scan(-1000, 1000), "scan")
    apply_window(node, Window("Liver", 160, 90))
    display = node.GetDisplayNode()
    assert (display.GetWindow(), display.GetLevel()) == (160, 90)
    assert not display.GetAutoWindowLevel()
