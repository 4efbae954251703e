"""The road of a user for Slicer's self test: phantom, click, mask, undo, redo, export."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer

from SAM3DSegmentLib.measure import dice
from SAM3DSegmentLib.phantom import make_phantom
from SAM3DSegmentLib.scene.volumes import add_volume

SECONDS = 120
"""That an answer may take."""


def click_to_file(test: Any) -> None:
    """Segment the phantom's first lesion in the module's own session and export it.

    Args:
        test: whose assertions are used.
    """
    phantom = make_phantom()
    lesion = phantom.lesions[0]
    volume = add_volume(slicer.mrmlScene, phantom.volume, "Phantom")
    slicer.util.setSliceViewerLayers(background=volume)
    slicer.util.selectModule("SAM3DSegment")
    session = slicer.modules.SAM3DSegmentWidget.session
    test.assertIs(session.volume_node, volume)
    test.assertTrue(session.placing)
    session.lists.include.AddControlPoint(lesion.click)
    _wait_for(test, lambda: session.status.measurement)
    box, mask = session.tumour.target.mask()
    test.assertGreater(dice(mask, box, phantom.reference(lesion)), 0.5)
    session.undo()
    _wait_for(test, lambda: not session.status.measurement)
    session.redo()
    _wait_for(test, lambda: session.status.measurement)
    with tempfile.TemporaryDirectory() as folder:
        session.export(Path(folder) / "phantom.seg.nrrd")
        test.assertTrue((Path(folder) / "phantom.seg.nrrd").is_file())


def _wait_for(test: Any, condition: Callable[[], Any]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        test.assertLess(time.monotonic(), end, "no answer came")
        slicer.app.processEvents()
        time.sleep(0.01)
