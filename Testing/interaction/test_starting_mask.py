"""A mask that is there already, painted by hand or loaded, as the start of what clicks do to it."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import slicer.util

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.headless import HeadlessSession
from SAM3DSegmentLib.interaction.news import CONVERTED
from SAM3DSegmentLib.scene.export import export_segmentation
from SAM3DSegmentLib.scene.provenance import mask_digest, read_provenance
from SAM3DSegmentLib.scene.segmentation_file import load_segmentation
from SAM3DSegmentLib.scene.segments import CLOSED_SURFACE, add_segment, create_segmentation
from SAM3DSegmentLib.scene.volumes import volume_from_node
from SAM3DSegmentLib.start import seed_clicks
from Testing.doubles import BrightnessDecoder
from Testing.interaction.helpers import SHAPE, click, clicked, mask, overlap, paint, settle, world


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
    click(session, "left", offset=(0, 0, 8))
    settle(session)
    assert len(session.clicks) == 3, "the painted component has a click of its own, which keeps it"
    assert any(p is not None and (p > 0).any() for p in engine.previous)


def test_a_click_where_a_painted_mask_is_right_leaves_it_and_the_user_is_told(session, engine):
    start_empty(session)
    paint(session, (slice(12, 18), slice(16, 24), slice(16, 24)), np.ones((6, 8, 8), bool))
    painted, asked = mask(session), len(engine.asked)
    for offset in ((0, 1, 0), (0, 2, 0)):
        click(session, "left", offset=offset)
        settle(session)
        assert np.array_equal(mask(session), painted) and len(engine.asked) == asked
        assert "where it is wrong" in session.status.message


def test_an_answer_is_never_taken_from_what_was_painted_after_the_same_clicks(session, scene, tmp_path):
    before = clicked(session)
    session.export(tmp_path / "tumour.seg.nrrd")
    painted = before.copy()
    painted[5:9, 50:56, 50:56] = True
    paint(session, tuple(slice(0, n) for n in SHAPE), painted)
    click(session, "left", offset=(0, 0, 8))
    settle(session)
    session.choose_segmentation(load_segmentation(scene, tmp_path / "tumour.seg.nrrd"))
    click(session, "left", offset=(0, 1, 0))
    settle(session)
    assert np.array_equal(mask(session), before)


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


def test_a_file_made_without_a_window_goes_on_from_its_clicks(session, scene, volume, tmp_path):
    decoder = BrightnessDecoder(spacings=(1.0, 2.0), crop_size=32)
    decoder.device = "cpu"
    headless = HeadlessSession(volume_from_node(volume), decoder)
    headless.answer([Click(world(session, "left"))])
    headless.export(tmp_path / "tumour.seg.nrrd")
    headless.close()
    session.choose_segmentation(load_segmentation(scene, tmp_path / "tumour.seg.nrrd"))
    before = mask(session)
    assert overlap(before, "left") > 0.8
    click(session, "left", include=False, offset=(0, 5, 0))
    settle(session)
    assert len(session.clicks) == 2 and record(session).start_sha256 == "" and not np.array_equal(mask(session), before)
    session.undo()
    settle(session)
    assert np.array_equal(mask(session), before)


def test_undo_and_redo_without_a_change_of_clicks_leave_what_was_painted(session):
    block = np.ones((6, 8, 8), bool)
    start_empty(session)
    paint(session, (slice(12, 18), slice(16, 24), slice(36, 44)), block)
    for action in (session.undo, session.redo, session.clear):
        action()
        settle(session)
        assert mask(session).sum() == block.sum()


@pytest.mark.parametrize("action", ["undo", "remove_last", "clear"])
def test_what_was_painted_comes_back_after_clicks_were_taken_back(session, action):
    click(session, "left")
    settle(session)
    click(session, "left", offset=(1, 0, 0))
    settle(session)
    grown = mask(session)
    grown[5:9, 50:56, 50:56] = True
    paint(session, tuple(slice(0, n) for n in SHAPE), grown)
    getattr(session, action)()
    settle(session)
    assert not np.array_equal(mask(session), grown)
    (session.redo if action == "undo" else session.undo)()
    settle(session)
    assert np.array_equal(mask(session), grown)


def test_what_is_painted_while_a_mask_is_computed_stays_and_is_gone_on_from(session, engine):
    clicked(session)
    engine.gate.clear()
    click(session, "left", offset=(1, 0, 0))
    session.poll()
    grown = mask(session)
    grown[5:9, 50:56, 50:56] = True
    paint(session, tuple(slice(0, n) for n in SHAPE), grown)
    engine.gate.set()
    settle(session)
    assert np.array_equal(mask(session), grown) and "You painted" in session.status.message
    click(session, "left", offset=(2, 0, 0))
    settle(session)
    assert not session.status.failed and len(session.clicks) == 4
    session.undo()
    settle(session)
    assert np.array_equal(mask(session), grown)


def test_undo_does_not_take_a_loaded_mask_away(session):
    block = np.ones((6, 8, 8), bool)
    start_empty(session)
    paint(session, (slice(12, 18), slice(16, 24), slice(36, 44)), block)
    click(session, "left")
    settle(session)
    for _ in range(3):
        session.undo()
        settle(session)
        assert mask(session).sum() == block.sum()


def test_a_mask_painted_again_over_the_same_clicks_is_the_one_that_counts(session, engine):
    block = np.ones((6, 8, 8), bool)
    start_empty(session)
    for middle in (40, 20):
        paint(session, (slice(12, 18), slice(16, 24), slice(middle - 4, middle + 4)), block)
        digest = mask_digest(*session.tumour.target.mask())
        click(session, "left", include=False, offset=(0, 0, 20))
        settle(session)
        assert record(session).start_sha256 == digest
        session.undo()
        settle(session)
        assert mask_digest(*session.tumour.target.mask()) == digest


def test_a_mask_in_too_many_parts_is_refused_and_stays_as_it_is(session):
    speckles = np.zeros(SHAPE, bool)
    speckles[2:-2:4, 2:-2:4, 2:-2:4] = True
    start_empty(session)
    paint(session, tuple(slice(0, n) for n in SHAPE), speckles)
    click(session, "left")
    settle(session)
    assert session.status.failed and "Islands" in session.status.message
    assert not session.clicks and np.array_equal(mask(session), speckles)


def test_each_part_of_a_painted_mask_gets_its_own_click_in_it(volume, scene):
    voxels = volume_from_node(volume)
    painted = np.zeros((300, 40, 40), bool)
    painted[2:60, 5:30, 5:30] = True
    painted[150, 20, 21] = True
    tall = Volume(np.zeros(painted.shape, np.float32), voxels.ijk_to_ras)
    seeds = seed_clicks(tall, tuple(slice(0, n) for n in painted.shape), painted, ())
    assert len(seeds) == 2 and all(painted[tall.index(seed.ras)] for seed in seeds)


def test_exclude_clicks_alone_take_no_voxels_that_lie_beyond_the_scan(session, volume):
    start_empty(session)
    paint(session, (slice(12, 18), slice(16, 24), slice(16, 24)), np.ones((6, 8, 8), bool))
    place_of_scan = volume.GetOrigin()
    volume.SetOrigin(500, 500, 500)
    settle(session)
    click(session, "left", include=False)
    settle(session)
    assert len(session.clicks) == 1 and not mask(session).any()
    volume.SetOrigin(*place_of_scan)
    assert mask(session).sum() == 6 * 8 * 8


def choose_surfaces(session) -> np.ndarray:
    """A tumour as a program that knows surfaces only would bring it, chosen; its mask before."""
    before, node = clicked(session), session.segmentation_node
    node.CreateClosedSurfaceRepresentation()
    node.GetSegmentation().SetSourceRepresentationName(CLOSED_SURFACE)
    node.RemoveBinaryLabelmapRepresentation()
    session.choose_segmentation(None)
    session.choose_segmentation(node)
    return before


def test_segments_that_are_surfaces_only_can_be_clicked_on(session):
    before = choose_surfaces(session)
    assert 0.9 < mask(session).sum() / before.sum() < 1.1
    click(session, "left", include=False, offset=(0, 5, 0))
    settle(session)
    assert overlap(mask(session), "left") > 0.8 and not session.status.failed
    assert session.status.message == CONVERTED
    assert session.segmentation_node.GetSegmentation().ContainsRepresentation(CLOSED_SURFACE), "it is shown in 3D still"


def test_choosing_surfaces_and_clicking_where_they_are_right_leaves_them_as_they_are(session):
    choose_surfaces(session)
    segmentation = session.segmentation_node.GetSegmentation()
    surface = segmentation.GetSegment(session.tumour.target.segment_id).GetRepresentation(CLOSED_SURFACE)
    click(session, "left", offset=(0, 1, 0))
    settle(session)
    session.poll()
    assert "where it is wrong" in session.status.message
    assert segmentation.GetSourceRepresentationName() == CLOSED_SURFACE
    assert segmentation.GetSegment(session.tumour.target.segment_id).GetRepresentation(CLOSED_SURFACE) is surface


def test_surfaces_that_were_chosen_are_exported_as_a_segmentation_file(session, scene, tmp_path):
    choose_surfaces(session)
    before = mask(session)
    session.export(tmp_path / "tumour.seg.nrrd")
    session.choose_segmentation(load_segmentation(scene, tmp_path / "tumour.seg.nrrd"))
    assert np.array_equal(mask(session), before)


@pytest.mark.parametrize("source", ["Binary labelmap", CLOSED_SURFACE])
def test_an_empty_segmentation_that_a_script_made_can_be_clicked_on(session, scene, source):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "by script")
    node.GetSegmentation().SetSourceRepresentationName(source)
    session.choose_segmentation(node)
    session.place(include=True)
    assert overlap(clicked(session), "left") > 0.9 and session.segmentation_node is node
    assert session.status.message == "" and node.GetDisplayNode()
