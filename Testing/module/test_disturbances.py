"""What goes wrong or away during a click: the engine, nodes, the scene, the volume."""

from __future__ import annotations

import os
import signal
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from SAM3DSegmentLib.phantom import Phantom
from SAM3DSegmentLib.scene.segments import remove_segment
from SAM3DSegmentLib.scene.volumes import add_volume
from Testing.module.helpers import (
    LESION,
    OTHER_LESION,
    click,
    overlap,
    process,
    segmented,
    settle,
    shortcuts,
    wait,
)


def test_an_engine_that_dies_during_a_click_is_started_again(own_engine: None, widget: Any, phantom: Phantom) -> None:
    engine = widget.session._updater._evaluator._engine
    wait(lambda: engine._loaded)
    os.kill(engine._process._process.pid, signal.SIGSTOP)
    click(widget, phantom.lesions[LESION].click)
    process(0.5)
    os.kill(engine._process._process.pid, signal.SIGKILL)
    settle(widget)
    assert engine.restarts == 1 and overlap(widget, phantom, LESION) > 0.5


def test_progress_and_cancel_show_while_an_evaluation_takes_long(
    own_engine: None, widget: Any, phantom: Phantom
) -> None:
    engine = widget.session._updater._evaluator._engine
    wait(lambda: engine._loaded)
    os.kill(engine._process._process.pid, signal.SIGSTOP)
    click(widget, phantom.lesions[LESION].click)
    process(0.6)
    assert not widget.ui.progressBar.isHidden() and not widget.ui.cancelButton.isHidden()
    next(s for s in shortcuts() if s.key().toString() == "Esc").activated.emit()
    process(0.1)
    assert widget.ui.progressBar.isHidden() and "Cancelled" in widget.ui.messageLabel.text
    assert len(widget.session.clicks) == 1


def test_the_engines_threads_get_the_interpreter_while_there_is_work(
    module: ModuleType, widget: Any, phantom: Phantom, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmented(widget, phantom)
    given: list[float] = []
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=given.append))
    wait(lambda: not widget.session.busy)
    widget._poll()
    assert not given and widget._timer.interval == module.POLL_MILLISECONDS
    click(widget, phantom.lesions[OTHER_LESION].click)
    widget._poll()
    assert widget.session.busy
    widget._poll()
    assert given and widget._timer.interval == module.BUSY_POLL_MILLISECONDS


@pytest.mark.parametrize("what", ["segment", "segmentation", "volume", "scene"])
def test_what_the_user_deletes_elsewhere_during_a_click_goes_in_peace(
    widget: Any, phantom: Phantom, scene: Any, what: str
) -> None:
    click(widget, phantom.lesions[LESION].click)
    widget._poll()
    target = widget.session.tumour.target
    if what == "segment":
        remove_segment(target.segmentation_node, target.segment_id)
    elif what == "scene":
        scene.Clear(0)
    else:
        scene.RemoveNode(target.segmentation_node if what == "segmentation" else target.volume_node)
    process(0.5)
    settle(widget)
    assert not widget.session.clicks and "ml" not in widget.ui.figuresLabel.text
    assert widget.ui.includeButton.enabled == (what in ("segment", "segmentation"))
    if what == "scene":
        scan = add_volume(scene, phantom.volume, "Next patient")
        process()
        assert widget.session.volume_node is scan
        widget.ui.includeButton.click()
    if what != "volume":
        if widget.session.placing is None:
            widget.ui.includeButton.click()
        segmented(widget, phantom)
        assert overlap(widget, phantom, LESION) > 0.5


def test_switching_the_volume_during_a_click_keeps_each_ones_tumours(
    widget: Any, phantom: Phantom, scene: Any, scan: Any
) -> None:
    other = add_volume(scene, phantom.volume, "Follow-up")
    click(widget, phantom.lesions[LESION].click)
    widget._poll()
    widget.ui.volumeSelector.setCurrentNode(other)
    settle(widget)
    assert widget.session.clicks == () and widget.session.volume_node is other
    widget.ui.volumeSelector.setCurrentNode(scan)
    assert len(widget.session.clicks) == 1 and overlap(widget, phantom, LESION) > 0.5
