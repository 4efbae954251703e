"""Several tumours in one session: begun, left, finished, removed."""

from __future__ import annotations

import numpy as np

from SAM3DSegmentLib.interaction import tumour_table
from SAM3DSegmentLib.scene.segments import add_segment, create_segmentation
from Testing.interaction.helpers import click, click_two_tumours, clicked, mask, overlap, settle
from Testing.test_scene_clicks import place


def test_arming_include_makes_no_segment_before_the_first_click(session, scene, tmp_path):
    assert session.placing and not scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    assert all(node.GetHideFromEditors() and not node.GetSaveWithScene() for node in session.lists)
    place(session.lists.include, (500, 500, 500))
    settle(session)
    assert "outside" in session.status.message and session.tumour is None
    assert not scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    lists = session.lists
    clicked(session)
    assert session.tumour.lists == lists and session.placing, "the same lists go on: the mouse is on them"
    assert all(node.GetSaveWithScene() and not node.GetHideFromEditors() for node in lists)
    assert lists.include.GetName() == "Tumour 1 include"
    session.next_tumour()
    assert len(tumour_table.segment_ids(session.segmentation_node)) == 1


def test_first_click_can_be_undone_and_redone(session):
    before = clicked(session)
    session.undo()
    settle(session)
    assert session.clicks == () and not mask(session).any()
    session.redo()
    settle(session)
    assert len(session.clicks) == 1 and (mask(session) == before).all()


def test_removing_a_tumour_leaves_the_mouse_on_the_next_one(session):
    click_two_tumours(session)
    settle(session)
    session.remove_tumour()
    assert session.placing and len(tumour_table.segment_ids(session.segmentation_node)) == 1
    click(session, "left", offset=(1, 0, 0))
    settle(session)
    assert len(session.clicks) == 2
    session.remove_tumour()
    assert session.placing
    assert overlap(clicked(session, "right"), "right") > 0.9
    session.stop_placing()
    session.remove_tumour()
    assert session.placing is None


def test_next_tumour_leaves_the_finished_one_untouched(session):
    before = clicked(session, "left")
    first = session.tumour.target.segment_id
    session.next_tumour()
    session.next_tumour()
    assert overlap(clicked(session, "right"), "right") > 0.9
    assert len(tumour_table.segment_ids(session.segmentation_node)) == 2
    assert (mask(session, first) == before).all()
    session.open_tumour(first)
    session.poll()
    assert len(session.clicks) == 1 and session.status.measurement
    click(session, "left", include=False, offset=(0, 4, 0))
    settle(session)
    session.undo()
    settle(session)
    assert (mask(session, first) == before).all()


def test_answer_for_a_tumour_that_was_left_is_still_written(session, engine):
    engine.gate.clear()
    first = click_two_tumours(session)
    engine.gate.set()
    settle(session)
    assert overlap(mask(session, first), "left") > 0.9 and overlap(mask(session), "right") > 0.9


def test_only_the_present_tumours_clicks_are_shown_and_can_be_dragged(session):
    clicked(session)
    old = session.tumour.lists
    session.next_tumour()
    assert old.include.GetLocked() and not old.include.GetDisplayNode().GetVisibility()
    new = session.lists
    assert not new.include.GetLocked() and new.include.GetDisplayNode().GetVisibility()


def test_removed_tumour_takes_its_clicks_along(session, scene):
    clicked(session)
    session.next_tumour()
    session.stop_placing()
    session.remove_tumour()
    assert len(tumour_table.segment_ids(session.segmentation_node)) == 1 and session.clicks
    session.remove_tumour()
    assert session.tumour is None and not scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode")
    session.place(include=True)
    assert clicked(session).any()


def test_tidy_removes_what_was_made_for_nothing_and_nothing_else(session, scene, volume):
    session.tidy()
    assert not scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") and session.placing is None
    foreign = create_segmentation(volume, "by hand")
    add_segment(foreign, "empty", (1, 0, 0))
    session.choose_segmentation(foreign)
    session.tidy()
    assert foreign.GetScene()


def test_tidy_keeps_what_undo_or_redo_brings_back(session):
    before = clicked(session)
    session.clear()
    settle(session)
    session.tidy()
    session.undo()
    settle(session)
    assert np.array_equal(mask(session), before)
    session.undo()
    settle(session)
    assert session.clicks == ()
    session.tidy()
    session.redo()
    settle(session)
    assert np.array_equal(mask(session), before)


def test_table_operations(session):
    clicked(session)
    node, segment_id = session.segmentation_node, session.tumour.target.segment_id
    tumour_table.rename(node, segment_id, "Metastasis")
    tumour_table.set_color(node, segment_id, (0.5, 0.25, 1.0))
    tumour_table.set_visible(node, segment_id, False)
    segment = node.GetSegmentation().GetSegment(segment_id)
    assert segment.GetName() == "Metastasis" and segment.GetColor() == (0.5, 0.25, 1.0)
    assert not node.GetDisplayNode().GetSegmentVisibility(segment_id)
