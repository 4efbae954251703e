"""Volumes, segments and scenes that come, change and go while a session is open."""

from __future__ import annotations

import time

import numpy as np
import pytest
import slicer
import slicer.util

from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.interaction.session import Session
from SAM3DSegmentLib.scene.volumes import add_volume
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
    clicks_left = bool(scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode"))
    assert clicks_left == (what == "volume"), "the segmentation of a deleted volume keeps its clicks"
    if what in ("segment", "segmentation"):
        session.place(include=True)
        assert overlap(clicked(session), "left") > 0.9


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
