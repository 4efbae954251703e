"""From clicks in the scene to the mask of one tumour."""

from __future__ import annotations

import numpy as np
import pytest

from SAM3DSegmentLib.interaction.session import Session
from SAM3DSegmentLib.scene.provenance import read_provenance
from Testing.interaction.helpers import click, clicked, mask, overlap, settle, world
from Testing.scene_helpers import put_under
from Testing.test_scene_clicks import drag, place


def test_first_click_brings_a_mask_with_its_figures_and_its_record(session):
    assert overlap(clicked(session), "left") > 0.9
    status = session.status
    assert not status.failed and status.device == "cpu" and status.progress is None and status.seconds < 5
    assert status.measurement.volume_ml == pytest.approx(4 / 3 * np.pi * 7**3 * 1.5 / 1000, rel=0.1)
    record = read_provenance(session.segmentation_node, session.tumour.target.segment_id)
    assert record.clicks == session.clicks and record.model == "brightness"


def test_a_needless_click_changes_nothing_and_the_user_is_told(session):
    before = clicked(session)
    click(session, "left", offset=(0, 2, 0))
    settle(session)
    assert np.array_equal(mask(session), before) and len(session.clicks) == 2
    assert "where it is wrong" in session.status.message and not session.status.failed
    session.undo()
    settle(session)
    assert session.status.message == "" and np.array_equal(mask(session), before)
    click(session, "right")
    settle(session)
    assert session.status.message == "" and not np.array_equal(mask(session), before)


def test_undo_and_redo_bring_masks_and_clicks_back(session):
    first = clicked(session)
    click(session, "left", include=False, offset=(0, 5, 0))
    settle(session)
    second, clicks = mask(session), session.clicks
    session.undo()
    settle(session)
    assert (mask(session) == first).all() and session.tumour.lists.exclude.GetNumberOfControlPoints() == 0
    session.redo()
    settle(session)
    assert (mask(session) == second).all() and session.clicks == clicks
    session.clear()
    settle(session)
    assert not mask(session).any() and session.status.measurement is None
    session.undo()
    settle(session)
    assert (mask(session) == second).all()
    session.remove_last()
    settle(session)
    assert (mask(session) == first).all()


def test_dragged_click_is_evaluated_at_the_end_of_the_drag(session):
    clicked(session)
    drag(session.tumour.lists.include, 0, world(session, "right", (0, 5, 5)), world(session, "right"))
    settle(session)
    assert overlap(mask(session), "right") > 0.9 and session.tumour.history.can_undo


def test_click_outside_is_refused_and_the_others_stay(session):
    before = clicked(session)
    place(session.tumour.lists.include, (500, 500, 500))
    settle(session)
    assert session.status.failed and "outside" in session.status.message
    assert len(session.clicks) == 1 == session.tumour.lists.include.GetNumberOfControlPoints()
    assert (mask(session) == before).all()


def test_exclude_click_alone_asks_for_an_include_click(session):
    click(session, "left", include=False)
    settle(session)
    assert "include" in session.status.message and len(session.clicks) == 1


def test_clicks_are_those_seen_in_the_views_under_a_transform(scene, volume, engine):
    put_under(volume, "linear")
    session = Session(scene)
    session.use_engine(engine)
    session.choose_volume(volume)
    session.place(include=True)
    assert overlap(clicked(session), "left") > 0.9
    session.close()


def test_deleted_list_takes_its_clicks_out_and_is_made_again(session, scene):
    clicked(session)
    scene.RemoveNode(session.tumour.lists.include)
    settle(session)
    assert session.clicks == () and not mask(session).any()
    session.undo()
    settle(session)
    assert len(session.clicks) == 1 and mask(session).any()
