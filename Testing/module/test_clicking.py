"""From the first click to a file, by the panel's buttons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from SAM3DSegmentLib.phantom import Phantom
from Testing.module.helpers import (
    LESION,
    OTHER_LESION,
    click,
    overlap,
    process,
    segmented,
    settle,
    wait,
)
from Testing.pythonqt.objects import QtModule


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


def test_click_outside_the_volume_is_refused_in_one_sentence(widget: Any) -> None:
    click(widget, (900, 0, 0))
    settle(widget)
    assert "outside" in widget.ui.messageLabel.text and widget.session.clicks == ()
    assert widget.session.lists.include.GetNumberOfDefinedControlPoints() == 0
    assert not widget.session.volume_node.GetScene().GetNumberOfNodesByClass("vtkMRMLSegmentationNode")


def test_display_boxes_reach_the_scene(widget: Any, phantom: Phantom) -> None:
    segmented(widget, phantom)
    for box in ("hideClicksCheckBox", "outlineCheckBox", "surfaceCheckBox", "changesCheckBox"):
        getattr(widget.ui, box).checked = True
    target = widget.session.tumour.target
    assert not widget.session.tumour.lists.include.GetDisplayNode().GetVisibility()
    assert not target.segmentation_node.GetDisplayNode().GetVisibility2DFill()
    assert target.segmentation_node.GetSegmentation().ContainsRepresentation("Closed surface")


def test_helper_nodes_are_hidden_from_the_data_tree(widget: Any, phantom: Phantom, scene: Any) -> None:
    widget.ui.changesCheckBox.checked = True
    segmented(widget, phantom)
    click(widget, tuple(np.add(phantom.lesions[LESION].click, (5, 0, 0))))
    settle(widget)
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLSegmentEditorNode")):
        assert scene.GetNthNodeByClass(index, "vtkMRMLSegmentEditorNode").GetHideFromEditors()
    assert scene.GetFirstNodeByName("Last change").GetHideFromEditors()
