"""Scenes that are saved, opened, and shared with Segment Editor and sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.phantom import Phantom
from SAM3DSegmentLib.scene.provenance import read_provenance
from SAM3DSegmentLib.scene.volumes import add_volume
from Testing.module.helpers import LESION, click, overlap, process, segmented, settle
from Testing.pythonqt.objects import QtModule
from Testing.scene_helpers import save_and_reopen


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


def test_a_scene_saved_as_a_bundle_and_opened_again_goes_on(
    widget: Any, phantom: Phantom, scene: Any, tmp_path: Path
) -> None:
    segmented(widget, phantom)
    clicks, before = widget.session.clicks, overlap(widget, phantom, LESION)
    save_and_reopen(scene, tmp_path)
    process()
    assert widget.session.clicks == clicks and overlap(widget, phantom, LESION) == before
    assert widget.session.placing and not widget.ui.undoButton.enabled
    click(widget, tuple(np.add(phantom.lesions[LESION].click, (30, 0, 0))), include=False)
    settle(widget)
    assert len(widget.session.clicks) == 2
    widget.ui.undoButton.click()
    settle(widget)
    assert widget.session.clicks == clicks and overlap(widget, phantom, LESION) == before
    QtModule.QFileDialog.answers.append(str(tmp_path))
    widget.ui.folderButton.click()
    widget.ui.exportButton.click()
    assert list(tmp_path.glob("Phantom CT*.seg.nrrd"))


EDITOR_SETTINGS = {
    "overwrite all": lambda node: node.SetOverwriteMode(node.OverwriteAllSegments),
    "overwrite visible": lambda node: node.SetOverwriteMode(node.OverwriteVisibleSegments),
    "allow overlap": lambda node: node.SetOverwriteMode(node.OverwriteNone),
    "inside all segments": lambda node: node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideAllSegments),
    "outside all segments": lambda node: node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedOutsideAllSegments),
    "inside one segment": lambda node: node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment),
    "intensity range": lambda node: (
        node.SourceVolumeIntensityMaskOn(),
        node.SetSourceVolumeIntensityMaskRange(5000, 6000),
    ),
}


@pytest.mark.parametrize("setting", EDITOR_SETTINGS)
def test_finished_tumours_stay_whatever_segment_editor_is_set_to(
    widget: Any, phantom: Phantom, scene: Any, setting: str
) -> None:
    first = segmented(widget, phantom).session.tumour.target
    finished, reached = first.mask(), overlap(widget, phantom, LESION)
    editor = scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    editor.SetSingletonTag("SegmentEditor")
    editor.SetAndObserveSegmentationNode(first.segmentation_node)
    editor.SetAndObserveSourceVolumeNode(first.volume_node)
    editor.SetMaskSegmentID(first.segment_id)
    EDITOR_SETTINGS[setting](editor)
    widget.ui.nextTumourButton.click()
    segmented(widget, phantom)
    assert overlap(widget, phantom, LESION) == reached, "the same lesion again, all of it, over the first"
    box, mask = first.mask()
    assert box == finished[0] and (mask == finished[1]).all()


def test_each_frame_of_a_sequence_is_a_scan_of_its_own(widget: Any, phantom: Phantom, scene: Any) -> None:
    proxy, sequence = show_sequence(scene, [phantom.volume, shifted(phantom.volume)])
    widget.ui.volumeSelector.setCurrentNode(proxy)
    segmented(widget, phantom)
    assert overlap(widget, phantom, LESION) > 0.5 and widget.session.volume_node is proxy
    sequence.SetSelectedItemNumber(1)
    process()
    click(widget, phantom.lesions[LESION].click)
    settle(widget)
    assert not widget.session.status.failed and len(widget.session.clicks) == 2
    sequence.SetSelectedItemNumber(0)
    widget.ui.clearButton.click()
    settle(widget)
    segmented(widget, phantom)
    assert overlap(widget, phantom, LESION) > 0.5


def shifted(volume: Volume) -> Volume:
    return Volume(np.roll(volume.voxels, 5, axis=2), volume.ijk_to_ras)


def show_sequence(scene: Any, volumes: list[Volume]) -> tuple[Any, Any]:
    """A 4D sequence of volumes: its proxy node in the scene, and the browser node that turns the frames."""
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLScene(scene)
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "4D")
    for index, volume in enumerate(volumes):
        frame = add_volume(scene, volume, "frame")
        sequence.SetDataNodeAtValue(frame, str(index))
        scene.RemoveNode(frame)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddObserver(browser.ProxyNodeModifiedEvent, lambda *_: None)
    logic.UpdateProxyNodesFromSequences(browser)
    browser.AddObserver("ModifiedEvent", lambda *_: logic.UpdateProxyNodesFromSequences(browser))
    return browser.GetProxyNode(sequence), browser
