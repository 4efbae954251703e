"""The module's widget, run offscreen on real MRML with the real engine: what users do, and what goes wrong."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PySide6", reason="PySide6 is not installed: the panel cannot be run")
os.environ["QT_QPA_PLATFORM"] = "offscreen"

import slicer
import slicer.util

from SAM3DSegmentLib.engine import client
from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.interaction import background_download
from SAM3DSegmentLib.measure import dice
from SAM3DSegmentLib.phantom import Phantom, make_phantom
from SAM3DSegmentLib.scene.provenance import read_provenance
from SAM3DSegmentLib.scene.segments import read_mask, remove_segment
from SAM3DSegmentLib.scene.volumes import add_volume
from Testing.pythonqt import application
from Testing.pythonqt.objects import QtModule, callback_errors
from Testing.test_scene_clicks import place

ROOT = Path(__file__).resolve().parents[1]
LESION, OTHER_LESION = 0, 3


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    return make_phantom()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    application.install(tmp_path / "settings")
    monkeypatch.setenv("SAM3DSEGMENT_MODELS", str(tmp_path / "models"))
    monkeypatch.syspath_prepend(str(ROOT / "SAM3DSegment"))
    for calls in application.calls.values():
        calls.clear()
    application.answers["confirm"] = False
    slicer.modules.sam3dsegment = SimpleNamespace(path=str(ROOT / "SAM3DSegment" / "SAM3DSegment.py"))
    import SAM3DSegment

    yield SAM3DSegment


@pytest.fixture(autouse=True)
def no_callback_fails(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """VTK and Qt only print what a callback raises."""
    callback_errors.clear()
    yield
    assert callback_errors == [] and "Traceback" not in capfd.readouterr().err


class KeptEngine(Engine):
    """Stays alive from test to test: loading torch takes most of a test's time."""

    def close(self) -> None:
        if not self._loaded:
            super().close()


@pytest.fixture(scope="session")
def kept_engine() -> Iterator[KeptEngine]:
    engine = KeptEngine()
    yield engine
    Engine.close(engine)


@pytest.fixture
def own_engine() -> None:
    """For tests that maltreat it: a process of the test's own, started by the module."""


@pytest.fixture
def shared_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled model on this computer is answered by the kept process, unless the test wants its own."""
    if "own_engine" in request.fixturenames:
        return
    kept = request.getfixturevalue("kept_engine")

    def make(model: str, device: str, command: tuple[str, ...]) -> Engine:
        is_usual = (model, device, command[1:]) == ("compact", "auto", ("-m", "SAM3DSegmentLib.engine"))
        return kept if is_usual else Engine(model, device, command)

    monkeypatch.setattr(client, "Engine", make)


@pytest.fixture
def scan(scene: Any, phantom: Phantom) -> Any:
    """The phantom in the slice views."""
    node = add_volume(scene, phantom.volume, "Phantom CT")
    composite = scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    composite.SetBackgroundVolumeID(node.GetID())
    return node


@pytest.fixture
def widget(module: ModuleType, scan: Any, shared_engine: None) -> Iterator[Any]:
    yield from shown(module)


def shown(module: ModuleType) -> Iterator[Any]:
    """The module opened, and closed after the test."""
    slicer.modules.SAM3DSegmentWidget = made = module.SAM3DSegmentWidget(application.module_parent())
    made.setup()
    made.enter()
    yield made
    made.cleanup()
    for name in ("volumeSelector", "segmentationSelector"):
        getattr(made.ui, name)._q.stop_observing()
    made.ui.segmentsTable.setSegmentationNode(None)


def wait(condition: Callable[[], Any], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        slicer.app.processEvents()
        time.sleep(0.005)


def process(seconds: float = 0.2) -> None:
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end)


def click(widget: Any, ras: tuple[float, float, float], include: bool = True) -> None:
    lists = widget.session.tumour.lists
    place(lists.include if include else lists.exclude, ras)


def idle(widget: Any) -> bool:
    tumour = widget.session.tumour
    return not widget.session._updater._jobs and not (tumour and tumour.changed)


def settle(widget: Any) -> None:
    process(0.05)
    wait(lambda: idle(widget))
    process(0.05)


def overlap(widget: Any, phantom: Phantom, lesion: int) -> float:
    target = widget.session.tumour.target
    box, mask = read_mask(target.segmentation_node, target.segment_id, target.volume_node)
    return dice(mask, box, phantom.reference(phantom.lesions[lesion]))


def segmented(widget: Any, phantom: Phantom, lesion: int = LESION) -> Any:
    click(widget, phantom.lesions[lesion].click)
    settle(widget)
    return widget


def shortcuts() -> list[Any]:
    from PySide6.QtGui import QShortcut

    return slicer.app._window.findChildren(QShortcut)


def test_opening_the_module_picks_the_shown_volume_and_arms_include_placing(widget: Any, scan: Any) -> None:
    assert widget.ui.volumeSelector.currentNode() is scan and widget.session.volume_node is scan
    assert widget.ui.includeButton.checked and not widget.ui.excludeButton.checked
    wait(lambda: "CPU" in widget.ui.figuresLabel.text or "CUDA" in widget.ui.figuresLabel.text)


def test_opening_the_module_imports_no_torch(module: ModuleType) -> None:
    code = (
        "import os, sys; os.environ['QT_QPA_PLATFORM'] = 'offscreen'\n"
        "from pathlib import Path; from types import SimpleNamespace\n"
        "from Testing.pythonqt import application\n"
        "import slicer, tempfile; application.install(Path(tempfile.mkdtemp()))\n"
        "sys.path.insert(0, 'SAM3DSegment')\n"
        "slicer.modules.sam3dsegment = SimpleNamespace(path=str(Path('SAM3DSegment/SAM3DSegment.py').resolve()))\n"
        "import SAM3DSegment; w = SAM3DSegment.SAM3DSegmentWidget(application.module_parent()); w.setup(); w.enter()\n"
        "bad = {'torch', 'scipy', 'SimpleITK', 'nibabel', 'segment_anything', 'safetensors'} & set(sys.modules)\n"
        "w.cleanup(); print(bad); os._exit(bool(bad))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_one_click_gives_a_mask_with_figures_and_the_second_action_a_file(
    widget: Any, phantom: Phantom, tmp_path: Path
) -> None:
    segmented(widget, phantom)
    assert overlap(widget, phantom, LESION) > 0.5
    text = widget.ui.figuresLabel.text
    assert " ml" in text and " mm" in text and " s" in text and not widget.ui.messageLabel.text
    QtModule.QFileDialog.answers.append(str(tmp_path))
    widget.ui.folderButton.click()
    widget.ui.exportButton.click()
    widget.ui.exportButton.click()
    assert {path.name for path in tmp_path.glob("*.nrrd")} == {"Phantom CT.seg.nrrd", "Phantom CT 2.seg.nrrd"}
    widget.ui.formatComboBox.currentIndex = 2
    widget.ui.exportButton.click()
    assert (tmp_path / "Phantom CT.nii.gz").is_file()


def test_buttons_undo_redo_remove_and_clear_clicks(widget: Any, phantom: Phantom) -> None:
    ui = widget.ui
    assert not ui.undoButton.enabled
    segmented(widget, phantom)
    click(widget, tuple(np.add(phantom.lesions[LESION].click, (30, 0, 0))), include=False)
    settle(widget)
    ui.undoButton.click()
    settle(widget)
    assert len(widget.session.clicks) == 1 and ui.redoButton.enabled
    ui.redoButton.click()
    settle(widget)
    ui.removeLastButton.click()
    settle(widget)
    assert len(widget.session.clicks) == 1
    ui.clearButton.click()
    settle(widget)
    assert widget.session.clicks == () and not ui.clearButton.enabled and "ml" not in ui.figuresLabel.text
    ui.undoButton.click()
    settle(widget)
    assert overlap(widget, phantom, LESION) > 0.5


def test_toggles_choose_what_a_click_does(widget: Any) -> None:
    widget.ui.excludeButton.click()
    assert widget.session.placing is False and not widget.ui.includeButton.checked
    widget.ui.excludeButton.click()
    assert widget.session.placing is None and not widget.ui.excludeButton.checked
    widget.ui.includeButton.click()
    assert widget.session.placing is True


def test_toggles_follow_when_the_user_ends_placing_in_a_view(widget: Any) -> None:
    process(0.1)
    widget.session.stop_placing()
    wait(lambda: not widget.ui.includeButton.checked, seconds=5)


def test_shortcuts_exist_only_while_the_module_is_shown(widget: Any) -> None:
    keys = {shortcut.key().toString() for shortcut in shortcuts()}
    assert keys == {"I", "E", "N", "Ctrl+Z", "Ctrl+Y", "Backspace", "Esc"}
    next(s for s in shortcuts() if s.key().toString() == "E").activated.emit()
    assert widget.ui.excludeButton.checked
    widget.exit()
    assert shortcuts() == [] and widget.session.placing is None
    widget.enter()
    assert len(shortcuts()) == 7 and widget.ui.includeButton.checked


def test_leaving_without_a_click_leaves_nothing_in_the_scene(widget: Any, scene: Any) -> None:
    widget.exit()
    assert not scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    assert not scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode")


def test_next_tumour_and_the_table_switch_between_tumours(widget: Any, phantom: Phantom) -> None:
    first = segmented(widget, phantom).session.tumour.target.segment_id
    before = widget.session.tumour.target.mask()
    widget.ui.nextTumourButton.click()
    assert widget.ui.segmentsTable.selectedSegmentIDs() != (first,)
    segmented(widget, phantom, OTHER_LESION)
    widget.ui.segmentsTable.setSelectedSegmentIDs([first])
    process()
    target = widget.session.tumour.target
    assert target.segment_id == first and len(widget.session.clicks) == 1 and "ml" in widget.ui.figuresLabel.text
    assert target.mask()[0] == before[0] and (target.mask()[1] == before[1]).all()
    widget.ui.removeTumourButton.click()
    assert len(widget.session.segmentation_node.GetSegmentation().GetSegmentIDs()) == 1


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


def test_click_outside_the_volume_is_refused_in_one_sentence(widget: Any) -> None:
    click(widget, (900, 0, 0))
    settle(widget)
    assert "outside" in widget.ui.messageLabel.text and widget.session.clicks == ()
    assert widget.session.tumour.lists.include.GetNumberOfDefinedControlPoints() == 0


def test_missing_packages_are_asked_for_once_at_the_first_click(
    module: ModuleType, scan: Any, phantom: Phantom, shared_engine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from SAM3DSegmentLib.interaction import packages

    monkeypatch.setattr(packages, "missing_packages", lambda model: ["torch", "safetensors"])
    opened = shown(module)
    widget = next(opened)
    process()
    questions = application.calls["questions"]
    assert questions == [] and not widget.session.has_engine and not widget.ui.installButton.isHidden()
    click(widget, phantom.lesions[LESION].click)
    process()
    click(widget, phantom.lesions[LESION].click)
    process()
    assert len(questions) == 1 and "torch" in questions[0] and sys.prefix in questions[0]
    assert "missing" in widget.ui.messageLabel.text and len(widget.session.clicks) == 2
    application.answers["confirm"] = True
    monkeypatch.setattr(packages, "missing_packages", lambda model: [])
    widget.ui.installButton.click()
    assert application.calls["torch"] and application.calls["pip"] == [["safetensors>=0.4"]]
    settle(widget)
    assert overlap(widget, phantom, LESION) > 0.5 and widget.ui.installButton.isHidden()
    next(opened, None)


def test_model_section_lists_imports_and_deletes_models(widget: Any, tmp_path: Path) -> None:
    ui = widget.ui
    assert ui.modelComboBox.currentData == "compact" and "Apache-2.0" in ui.modelInfoLabel.text
    assert not ui.downloadButton.enabled and not ui.deleteModelButton.enabled
    shutil.copy(ROOT / "Resources" / "models" / "compact.safetensors", tmp_path / "mine.safetensors")
    QtModule.QFileDialog.answers.append(str(tmp_path / "mine.safetensors"))
    ui.importButton.click()
    assert ui.modelComboBox.currentData == "mine" and ui.deleteModelButton.enabled
    ui.deleteModelButton.click()
    assert ui.modelComboBox.currentData == "compact" and ui.modelComboBox.findData("mine") == -1


def test_download_shows_its_progress_and_can_be_cancelled(widget: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_download(model: Any, progress: Callable[[int, int], None]) -> None:
        for step in range(1000):
            progress(40 + step // 500, 100)
            time.sleep(0.005)

    monkeypatch.setattr(background_download, "download_model", slow_download)
    ui = widget.ui
    ui.modelComboBox.currentIndex = ui.modelComboBox.findData("sam_vit_b")
    ui.modelComboBox._q.activated.emit(ui.modelComboBox.currentIndex)
    assert ui.downloadButton.enabled and "375 MB" in ui.modelInfoLabel.text and "Kirillov" in ui.modelInfoLabel.text
    ui.downloadButton.click()
    wait(lambda: ui.downloadProgressBar.value >= 40)
    assert ui.downloadButton.text == "Cancel download" and not ui.downloadProgressBar.isHidden()
    ui.downloadButton.click()
    wait(lambda: ui.downloadButton.text == "Download")
    assert "cancelled" in ui.messageLabel.text and ui.downloadProgressBar.isHidden()


def test_device_and_remote_command_are_remembered(widget: Any, module: ModuleType, phantom: Phantom) -> None:
    ui = widget.ui
    ui.deviceComboBox.currentIndex = 4
    ui.deviceComboBox._q.activated.emit(4)
    assert ui.remoteLineEdit.enabled and "command" in ui.messageLabel.text
    ui.remoteLineEdit.text = f"{sys.executable} -m SAM3DSegmentLib.engine"
    ui.remoteLineEdit._q.editingFinished.emit()
    segmented(widget, phantom)
    assert overlap(widget, phantom, LESION) > 0.5
    assert slicer.util.settingsValue("SAM3DSegment/Device", "") == "remote"


def test_engine_that_cannot_start_is_told_in_the_panel(widget: Any) -> None:
    ui = widget.ui
    ui.deviceComboBox.currentIndex = 4
    ui.remoteLineEdit.text = "no-such-command"
    ui.remoteLineEdit._q.editingFinished.emit()
    wait(lambda: "no-such-command" in ui.messageLabel.text)


def test_display_boxes_reach_the_scene(widget: Any, phantom: Phantom) -> None:
    segmented(widget, phantom)
    for box in ("hideClicksCheckBox", "outlineCheckBox", "surfaceCheckBox", "changesCheckBox"):
        getattr(widget.ui, box).checked = True
    target = widget.session.tumour.target
    assert not widget.session.tumour.lists.include.GetDisplayNode().GetVisibility()
    assert not target.segmentation_node.GetDisplayNode().GetVisibility2DFill()
    assert target.segmentation_node.GetSegmentation().ContainsRepresentation("Closed surface")


def test_an_opened_scene_goes_on_with_its_tumour(widget: Any, phantom: Phantom, scene: Any, tmp_path: Path) -> None:
    segmented(widget, phantom)
    clicks, segment_id = widget.session.clicks, widget.session.tumour.target.segment_id
    parameters = scene.GetSingletonNode("SAM3DSegment", "vtkMRMLScriptedModuleNode")
    assert parameters.GetNodeReference("volume") is widget.session.volume_node
    assert parameters.GetNodeReference("segmentation") is widget.session.segmentation_node
    widget.exit()
    widget.session.choose_volume(None)
    widget.enter()
    assert widget.session.clicks == clicks and widget.session.tumour.target.segment_id == segment_id
    assert read_provenance(widget.session.segmentation_node, segment_id).clicks == clicks


def test_helper_nodes_are_hidden_from_the_data_tree(widget: Any, phantom: Phantom, scene: Any) -> None:
    widget.ui.changesCheckBox.checked = True
    segmented(widget, phantom)
    click(widget, tuple(np.add(phantom.lesions[LESION].click, (5, 0, 0))))
    settle(widget)
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLSegmentEditorNode")):
        assert scene.GetNthNodeByClass(index, "vtkMRMLSegmentEditorNode").GetHideFromEditors()
    assert scene.GetFirstNodeByName("Last change").GetHideFromEditors()


def test_sample_data_offers_the_phantom_without_a_download(module: ModuleType, scene: Any) -> None:
    slicer.app.startup.clear()
    parent = SimpleNamespace()
    module.SAM3DSegment(parent)
    slicer.app.startup[0]()
    source = application.calls["samples"][0]
    assert source.sampleName == "SAM3DSegment phantom" and Path(source.thumbnailFileName).is_file()
    assert parent.title and "2024" in parent.acknowledgementText and "phantom" in parent.helpText
    (node,) = source.customDownloader(source)
    assert node.GetImageData().GetDimensions() == (256, 256, 96)


def test_slicers_own_self_test_passes(module: ModuleType, scene: Any, shared_engine: None) -> None:
    scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    opened = shown(module)
    next(opened).exit()
    module.SAM3DSegmentTest().runTest()
    next(opened, None)


def test_panel_looks_as_in_the_documentation(widget: Any, phantom: Phantom, tmp_path: Path) -> None:
    """Set SAM3DSEGMENT_WRITE_PICTURES to draw docs/panel.png anew."""
    segmented(widget, phantom, OTHER_LESION)
    widget.ui.nextTumourButton.click()
    segmented(widget, phantom)
    widget.ui.displayCollapsibleButton.collapsed = False
    panel = widget.parent._q
    panel.resize(430, 640)
    panel.show()
    process(0.3)
    documented = ROOT / "docs" / "panel.png"
    drawn = documented if os.environ.get("SAM3DSEGMENT_WRITE_PICTURES") else tmp_path / "panel.png"
    assert panel.grab().save(str(drawn))
    panel.hide()
    sizes = [struct.unpack(">II", picture.read_bytes()[16:24]) for picture in (drawn, documented)]
    assert sizes[0] == sizes[1] and drawn.stat().st_size > 10_000
