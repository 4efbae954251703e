"""A mask that is there already, painted by hand or loaded, as the start of what clicks do to it."""

from __future__ import annotations

import numpy as np
import slicer
import slicer.util

from SAM3DSegmentLib.interaction.hand_edits import mask_digest
from SAM3DSegmentLib.scene.export import export_segmentation
from SAM3DSegmentLib.scene.provenance import read_provenance
from SAM3DSegmentLib.scene.segments import add_segment, create_segmentation
from Testing.interaction.helpers import SHAPE, click, clicked, mask, paint, settle


def start_empty(session):
    """A segmentation with an empty segment, as the user makes it in Segment Editor."""
    segmentation = create_segmentation(session.volume_node, "by hand")
    add_segment(segmentation, "Painted", (1, 0, 0))
    session.choose_segmentation(segmentation)


def record(session):
    return read_provenance(session.segmentation_node, session.tumour.target.segment_id)


def test_a_mask_painted_by_hand_is_where_the_next_click_starts(session, engine):
    block = np.ones((6, 8, 8), bool)
    start_empty(session)
    paint(session, (slice(12, 18), slice(16, 24), slice(36, 44)), block)
    click(session, "left", include=False, offset=(0, 0, 20))
    settle(session)
    assert len(session.clicks) == 2 and session.clicks[0].include and not session.clicks[1].include
    previous = next(p for p in engine.previous if p is not None)
    assert (previous > 0).any() and not session.status.failed
    session.undo()
    settle(session)
    assert mask(session).sum() == block.sum() == mask(session)[12:18, 16:24, 36:44].sum()


def test_the_record_names_the_mask_that_a_tumour_was_started_from(session, tmp_path):
    clicked(session)
    assert record(session).start_sha256 == ""
    painted = np.zeros(SHAPE, bool)
    painted[5:9, 50:56, 50:56] = True
    paint(session, tuple(slice(0, n) for n in SHAPE), painted)
    digest = mask_digest(*session.tumour.target.mask())
    click(session, "left", include=False)
    settle(session)
    assert record(session).start_sha256 == digest and len(digest) == 64
    session.export(tmp_path / "started.seg.nrrd")
    assert digest.encode() in (tmp_path / "started.seg.nrrd").read_bytes()
    session.undo()
    session.undo()
    settle(session)
    assert record(session).start_sha256 == "" and len(session.clicks) == 1


def test_work_by_hand_between_clicks_reaches_the_network(session, engine):
    clicked(session)
    grown = np.zeros(SHAPE, bool) | mask(session)
    grown[5:9, 50:56, 50:56] = True
    paint(session, tuple(slice(0, n) for n in SHAPE), grown)
    engine.previous.clear()
    click(session, "left", offset=(1, 0, 0))
    settle(session)
    assert len(session.clicks) == 3, "the painted component has a click of its own, which keeps it"
    assert any(p is not None and (p > 0).any() for p in engine.previous)


def test_a_segmentation_from_a_file_goes_on_where_it_ended(session, scene, volume, tmp_path):
    before, clicks = clicked(session), session.clicks
    export_segmentation(session.segmentation_node, volume, tmp_path / "tumour.seg.nrrd")
    scene.RemoveNode(session.segmentation_node)
    session.poll()
    loaded = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "loaded")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(tmp_path / "tumour.seg.nrrd"))
    assert storage.ReadData(loaded)
    loaded.CreateDefaultDisplayNodes()
    session.choose_volume(None)
    session.choose_volume(volume)
    assert session.segmentation_node is loaded and session.clicks == clicks
    click(session, "left", include=False, offset=(0, 5, 0))
    settle(session)
    assert len(session.clicks) == 2, "a mask that its clicks explain needs no seeds"
    session.undo()
    settle(session)
    assert (mask(session) == before).all()
