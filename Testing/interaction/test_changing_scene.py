"""Volumes, segments and scenes that come, change and go while a session is open."""

from __future__ import annotations

import time

import numpy as np
import pytest
import slicer
import slicer.util

from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.interaction.session import Session
from SAM3DSegmentLib.scene.placement import start_placing
from SAM3DSegmentLib.scene.segmentation_file import load_segmentation
from SAM3DSegmentLib.scene.volumes import add_volume, volume_from_node
from Testing.interaction.helpers import FakeEngine, balls, click, clicked, mask, overlap, settle
from Testing.scene_helpers import save_and_reopen


@pytest.mark.parametrize("what", ["segment", "segmentation", "volume", "scene"])
def test_what_goes_during_an_evaluation_goes_in_peace(session, engine, scene, what):
    engine.gate.clear()
    click(session, "left")
    session.poll()
    if what == "segment":
        session.segmentation_node.GetSegmentation().RemoveSegment(session.tumour.target.segment_id)
    elif what == "scene":
        scene.Clear(0)
    else:
        scene.RemoveNode(session.segmentation_node if what == "segmentation" else session.volume_node)
    engine.gate.set()
    for _ in range(20):
        session.poll()
        time.sleep(0.005)
    assert session.tumour is None and session.clicks == () and not session.status.failed
    lists = slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
    clicks_left = any(node.GetNumberOfControlPoints() for node in lists)
    assert clicks_left == (what == "volume"), "the segmentation of a deleted volume keeps its clicks"
    if what in ("segment", "segmentation"):
        session.place(include=True)
        assert overlap(clicked(session), "left") > 0.9


@pytest.mark.parametrize("what", ["segment", "segmentation", "list", "waiting list"])
def test_placing_goes_on_where_what_was_placed_into_is_deleted(session, scene, what):
    clicked(session)
    if what == "waiting list":
        session.next_tumour()
    session.place(include=what != "list")
    session.poll()
    if what == "segment":
        session.segmentation_node.GetSegmentation().RemoveSegment(session.tumour.target.segment_id)
    elif what == "segmentation":
        scene.RemoveNode(session.segmentation_node)
    else:
        scene.RemoveNode(session.lists.exclude if what == "list" else session.lists.include)
    session.poll()
    assert session.placing is (what != "list")
    assert placed_into(scene) in session.lists


def test_placing_ends_with_its_volume(session, scene):
    clicked(session)
    scene.RemoveNode(session.volume_node)
    session.poll()
    assert session.placing is None and placed_into(scene) is None


def test_tool_that_another_has_taken_is_left_to_it(session, scene):
    clicked(session)
    theirs = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "theirs")
    start_placing(theirs)
    session.poll()
    session.segmentation_node.GetSegmentation().RemoveSegment(session.tumour.target.segment_id)
    session.poll()
    assert placed_into(scene) is theirs


def placed_into(scene):
    """The list into which the views place points; None where they place none."""
    interaction = scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    if interaction.GetCurrentInteractionMode() != interaction.Place:
        return None
    return scene.GetNodeByID(scene.GetNodeByID("vtkMRMLSelectionNodeSingleton").GetActivePlaceNodeID())


def test_tumours_from_a_file_stay_with_the_volume_they_were_opened_on(session, scene, volume, tmp_path):
    clicked(session)
    session.export(tmp_path / "a.seg.nrrd")
    session.close()
    scene.RemoveNode(session.segmentation_node)
    finer = np.diag([-0.5, -0.5, 0.75, 1.0])
    finer[:3, 3] = 12, 34, -56
    other = add_volume(scene, Volume(balls(), finer), "finer")
    loaded = load_segmentation(scene, tmp_path / "a.seg.nrrd")
    opened = Session(scene)
    opened.choose_volume(other)
    assert opened.segmentation_node is None, "it does not fit"
    opened.choose_volume(volume)
    assert opened.segmentation_node is loaded and len(opened.clicks) == 1
    same = add_volume(scene, Volume(balls(), volume_from_node(volume).ijk_to_ras), "same grid")
    opened.choose_volume(same)
    assert opened.segmentation_node is None, "it is the first volume's by now"
    opened.close()


def test_volume_whose_image_is_missing_keeps_its_tumours(session, volume, tmp_path):
    before, clicks = clicked(session), session.clicks
    session.choose_volume(None)
    voxels = volume.GetImageData()
    volume.SetAndObserveImageData(None)
    session.choose_volume(volume)
    session.place(include=True)
    session.poll()
    assert session.clicks == clicks and "holds no voxels" in session.status.message
    session.export(tmp_path / "lost.nrrd")
    assert session.status.failed and "holds no voxels" in session.status.message
    session.export(tmp_path / "kept.seg.nrrd")
    assert not session.status.failed and (tmp_path / "kept.seg.nrrd").is_file()
    session.tidy()
    volume.SetAndObserveImageData(voxels)
    assert (mask(session) == before).all()
    session.remove_tumour()
    assert session.tumour is None


def test_session_goes_on_after_the_scene_was_closed(session, scene):
    clicked(session)
    scene.Clear(0)
    session.poll()
    session.choose_volume(add_volume(scene, Volume(balls(), np.diag([-1.0, -1.0, 1.5, 1.0])), "next"))
    session.place(include=True)
    assert overlap(clicked(session), "left") > 0.9


def test_volume_that_loses_its_voxels_during_an_evaluation_stops_no_other_answer(session, engine, scene):
    engine.gate.clear()
    click(session, "left")
    session.poll()
    lost = session.volume_node
    session.choose_volume(add_volume(scene, Volume(balls(), np.diag([-1.0, -1.0, 1.5, 1.0])), "other"))
    session.place(include=True)
    click(session, "right")
    session.poll()
    lost.SetAndObserveImageData(None)
    engine.gate.set()
    settle(session)
    assert overlap(mask(session), "right") > 0.9


def test_volume_that_changes_during_an_evaluation_gets_no_mask(session, engine):
    engine.gate.clear()
    click(session, "left")
    session.poll()
    slicer.util.updateVolumeFromArray(session.volume_node, balls()[::-1])
    engine.gate.set()
    settle(session)
    assert not mask(session).any() and "changed" in session.status.message
    click(session, "left", offset=(1, 0, 0))
    settle(session)
    assert mask(session).any()


def test_switching_the_volume_brings_each_ones_tumours_back(session, scene, volume):
    before = clicked(session)
    other = add_volume(scene, Volume(balls(), np.diag([-1.0, -1.0, 1.5, 1.0])), "MR")
    session.choose_volume(other)
    assert session.placing and session.clicks == ()
    session.choose_volume(volume)
    assert len(session.clicks) == 1 and (mask(session) == before).all()
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1, "the untouched one of the MR is gone"


def test_a_saved_scene_goes_on_with_undo_refine_and_export(session, scene, engine, tmp_path):
    before, clicks = clicked(session), session.clicks
    session.close()
    save_and_reopen(scene, tmp_path)
    opened = Session(scene)
    opened.use_engine(FakeEngine())
    opened.choose_volume(scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode"))
    assert opened.clicks == clicks and (mask(opened) == before).all()
    opened.place(include=True)
    click(opened, "left", include=False, offset=(0, 5, 0))
    settle(opened)
    assert len(opened.clicks) == 2 and not (mask(opened) == before).all()
    opened.undo()
    settle(opened)
    assert (mask(opened) == before).all()
    opened.export(tmp_path / "tumour.nii.gz")
    assert (tmp_path / "tumour.nii.gz").is_file()
    opened.close()
