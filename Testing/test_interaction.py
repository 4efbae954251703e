"""The session: from clicks in the scene to masks in segments, whatever happens meanwhile."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import slicer.util

from SAM3DSegmentLib.errors import CancelledError, EngineError
from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.interaction import tumour_table
from SAM3DSegmentLib.interaction.display import Display
from SAM3DSegmentLib.interaction.session import Session
from SAM3DSegmentLib.scene.export import export_segmentation
from SAM3DSegmentLib.scene.provenance import read_provenance
from SAM3DSegmentLib.scene.segment_writer import SegmentWriter
from SAM3DSegmentLib.scene.segments import add_segment, create_segmentation, read_mask
from SAM3DSegmentLib.scene.volumes import add_volume
from Testing.doubles import BrightnessDecoder
from Testing.scene_helpers import node_ids, put_under
from Testing.test_scene_clicks import drag, place

SHAPE = (30, 60, 60)
BALLS = {"left": ((15, 20, 20), 7), "right": ((15, 42, 42), 6)}
"""Index (k, j, i) and radius in voxels."""


class FakeEngine(BrightnessDecoder):
    """Bright voxels are the object; answers wait while the gate is closed."""

    device = "cpu"

    def __init__(self):
        super().__init__(spacings=(1.0, 2.0), crop_size=32)
        self.gate = threading.Event()
        self.gate.set()
        self.failure: Exception | None = None
        self.threads: set[str] = set()
        self.started = self.closed = 0

    def start(self):
        self.started += 1

    def close(self):
        self.closed += 1

    def decode(self, crop, clicks, previous, cancelled=None, progress=None):
        self.threads.add(threading.current_thread().name)
        progress(0.5)
        while not self.gate.wait(0.01):
            if cancelled.is_set():
                raise CancelledError
        if self.failure:
            raise self.failure
        return super().decode(crop, clicks, previous, cancelled, progress)


def balls() -> np.ndarray:
    index = np.indices(SHAPE)
    voxels = np.zeros(SHAPE, np.float32)
    for centre, radius in BALLS.values():
        voxels[sum((axis - c) ** 2 for axis, c in zip(index, centre, strict=True)) < radius**2] = 1
    return voxels


@pytest.fixture
def volume(scene):
    affine = np.diag([-1.0, -1.0, 1.5, 1.0])
    affine[:3, 3] = 12, 34, -56
    return add_volume(scene, Volume(balls(), affine), "CT")


@pytest.fixture
def engine():
    return FakeEngine()


@pytest.fixture
def session(scene, volume, engine):
    session = Session(scene)
    session.use_engine(engine)
    session.choose_volume(volume)
    session.place(include=True)
    yield session
    engine.gate.set()
    session.close()


def world(session, name: str, offset=(0, 0, 0)):
    """World RAS of a ball's middle, `offset` voxels (k, j, i) on."""
    k, j, i = np.add(BALLS[name][0], offset)
    matrix = slicer.util.arrayFromVTKMatrix(ijk_to_world(session.volume_node))
    return tuple((matrix @ [i, j, k, 1])[:3])


def ijk_to_world(node):
    import vtk

    matrix, parent = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    if node.GetParentTransformNode():
        node.GetParentTransformNode().GetMatrixTransformToWorld(parent)
    vtk.vtkMatrix4x4.Multiply4x4(parent, matrix, matrix)
    return matrix


def click(session, name: str, include=True, offset=(0, 0, 0)):
    lists = session.tumour.lists
    place(lists.include if include else lists.exclude, world(session, name, offset))


def settle(session, seconds: float = 5.0):
    """Poll, as a host's timer does, until no evaluation is under way."""
    end = time.monotonic() + seconds
    session.poll()
    while session._updater._jobs or (session.tumour and session.tumour.changed):
        assert time.monotonic() < end, "no answer came"
        time.sleep(0.005)
        session.poll()


def mask(session, segment_id: str | None = None) -> np.ndarray:
    segment_id = segment_id or session.tumour.target.segment_id
    whole = np.zeros(SHAPE, bool)
    box, found = read_mask(session.segmentation_node, segment_id, session.volume_node)
    whole[box] = found
    return whole


def overlap(found: np.ndarray, name: str) -> float:
    index, (centre, radius) = np.indices(SHAPE), BALLS[name]
    ball = sum((axis - c) ** 2 for axis, c in zip(index, centre, strict=True)) < radius**2
    return 2 * (found & ball).sum() / (found.sum() + ball.sum())


def clicked(session, name="left"):
    click(session, name)
    settle(session)
    return mask(session)


def test_first_click_brings_a_mask_with_its_figures_and_its_record(session):
    assert overlap(clicked(session), "left") > 0.9
    status = session.status
    assert not status.failed and status.device == "cpu" and status.progress is None and status.seconds < 5
    assert status.measurement.volume_ml == pytest.approx(4 / 3 * np.pi * 7**3 * 1.5 / 1000, rel=0.1)
    record = read_provenance(session.segmentation_node, session.tumour.target.segment_id)
    assert record.clicks == session.clicks and record.model == "brightness"


def test_every_evaluation_runs_in_one_thread_beside_the_interface(session, engine):
    clicked(session)
    click(session, "left", offset=(1, 1, 1))
    settle(session)
    assert len(engine.threads) == 1 and threading.current_thread().name not in engine.threads


def test_the_engine_starts_before_the_first_click(session, engine):
    time.sleep(0.05)
    session.poll()
    assert engine.started == 1 and session.status.device == "cpu"


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


def test_a_newer_click_supersedes_the_older_evaluation(session, engine):
    engine.gate.clear()
    click(session, "left")
    session.poll()
    click(session, "left", offset=(2, 0, 0))
    session.poll()
    engine.gate.set()
    settle(session)
    record = read_provenance(session.segmentation_node, session.tumour.target.segment_id)
    assert len(record.clicks) == 2


def test_cancel_keeps_mask_and_clicks(session, engine):
    before = clicked(session)
    engine.gate.clear()
    click(session, "left", include=False, offset=(0, 3, 0))
    session.poll()
    session.cancel()
    engine.gate.set()
    settle(session)
    assert (mask(session) == before).all() and len(session.clicks) == 2 and "Cancelled" in session.status.message


def test_progress_shows_after_a_moment_only(session, engine):
    engine.gate.clear()
    click(session, "left")
    session.poll()
    assert session.status.progress is None
    time.sleep(0.35)
    session.poll()
    assert session.status.progress == 0.5
    engine.gate.set()
    settle(session)
    assert session.status.progress is None


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


@pytest.mark.parametrize("failure", [EngineError("The engine is gone: choose another."), ZeroDivisionError("bug")])
def test_failure_is_one_sentence_and_the_next_click_works(session, engine, failure):
    engine.failure = failure
    click(session, "left")
    settle(session)
    assert session.status.failed and str(failure) in session.status.message
    engine.failure = None
    click(session, "left", offset=(1, 0, 0))
    settle(session)
    assert not session.status.failed and mask(session).any() and len(session.clicks) == 2


def test_next_tumour_leaves_the_finished_one_untouched(session):
    first = session.tumour.target.segment_id
    before = clicked(session, "left")
    session.next_tumour()
    session.next_tumour()
    assert len(tumour_table.segment_ids(session.segmentation_node)) == 2 and session.placing
    assert overlap(clicked(session, "right"), "right") > 0.9
    assert (mask(session, first) == before).all()
    session.open_tumour(first)
    assert len(session.clicks) == 1 and session.status.measurement
    click(session, "left", include=False, offset=(0, 4, 0))
    settle(session)
    session.undo()
    settle(session)
    assert (mask(session, first) == before).all()


def test_answer_for_a_tumour_that_was_left_is_still_written(session, engine):
    first = session.tumour.target.segment_id
    engine.gate.clear()
    click(session, "left")
    session.poll()
    session.next_tumour()
    click(session, "right")
    session.poll()
    engine.gate.set()
    settle(session)
    assert overlap(mask(session, first), "left") > 0.9 and overlap(mask(session), "right") > 0.9


def test_only_the_present_tumours_clicks_are_shown_and_can_be_dragged(session):
    clicked(session)
    old = session.tumour.lists
    session.next_tumour()
    assert old.include.GetLocked() and not old.include.GetDisplayNode().GetVisibility()
    assert (
        not session.tumour.lists.include.GetLocked() and session.tumour.lists.include.GetDisplayNode().GetVisibility()
    )


def test_removed_tumour_takes_its_clicks_along(session, scene):
    clicked(session)
    session.next_tumour()
    session.remove_tumour()
    assert len(tumour_table.segment_ids(session.segmentation_node)) == 1 and session.clicks
    session.remove_tumour()
    assert session.tumour is None and not scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode")
    session.place(include=True)
    assert clicked(session).any()


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


def test_clicks_wait_for_an_engine(scene, volume, engine):
    session = Session(scene)
    session.choose_volume(volume)
    session.place(include=True)
    click(session, "left")
    session.poll()
    assert session.engine_wanted and len(session.clicks) == 1
    session.use_engine(engine)
    settle(session)
    assert mask(session).any() and not session.engine_wanted
    session.close()


def test_another_engine_takes_over_and_the_old_one_is_ended(session, engine):
    clicked(session)
    session.use_engine(other := FakeEngine())
    click(session, "left", offset=(1, 0, 0))
    settle(session)
    assert other.asked
    end = time.monotonic() + 5
    while not engine.closed and time.monotonic() < end:
        time.sleep(0.01)
    assert engine.closed == 1


def paint(session, box, mask):
    """What Segment Editor does: another writer than ours changes the segment."""
    writer = SegmentWriter(session._scene)
    node, segment_id = session.segmentation_node, session.tumour.target.segment_id
    writer.write_mask(node, segment_id, session.volume_node, box, mask)
    writer.close()


def test_a_mask_painted_by_hand_is_where_the_next_click_starts(session, engine):
    block = np.ones((6, 8, 8), bool)
    paint(session, (slice(12, 18), slice(16, 24), slice(36, 44)), block)
    click(session, "left", include=False, offset=(0, 0, 20))
    settle(session)
    assert len(session.clicks) == 2 and session.clicks[0].include and not session.clicks[1].include
    previous = next(p for p in engine.previous if p is not None)
    assert (previous > 0).any() and not session.status.failed
    session.undo()
    settle(session)
    assert mask(session).sum() == block.sum() == mask(session)[12:18, 16:24, 36:44].sum()


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


def test_a_saved_scene_goes_on_with_undo_refine_and_export(session, scene, engine, tmp_path):
    before, clicks = clicked(session), session.clicks
    session.close()
    with scene_bundles(scene, tmp_path / "cache"):
        assert scene.WriteToMRB(str(tmp_path / "scene.mrb"))
        scene.Clear(0)
        assert scene.ReadFromMRB(str(tmp_path / "scene.mrb"))
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


@contextmanager
def scene_bundles(scene, cache):
    """What Slicer's application adds to a scene to save it as a file."""
    remote, manager = slicer.vtkMRMLRemoteIOLogic(), slicer.vtkDataIOManagerLogic()
    remote.SetMRMLScene(scene)
    remote.GetCacheManager().SetRemoteCacheDirectory(str(cache))
    remote.AddDataIOToScene()
    manager.SetMRMLApplicationLogic(slicer.applicationLogic)
    manager.SetMRMLScene(scene)
    manager.SetAndObserveDataIOManager(remote.GetDataIOManager())
    yield
    remote.RemoveDataIOFromScene()


def test_display_applies_to_clicks_outline_and_surface(session):
    clicked(session)
    session.set_display(Display(clicks=False, outline_only=True, surface=True))
    display = session.segmentation_node.GetDisplayNode()
    assert not display.GetVisibility2DFill() and not session.tumour.lists.include.GetDisplayNode().GetVisibility()
    assert session.segmentation_node.GetSegmentation().ContainsRepresentation("Closed surface")
    session.set_display(Display())
    assert display.GetVisibility2DFill()
    assert not session.segmentation_node.GetSegmentation().ContainsRepresentation("Closed surface")


def test_what_the_last_click_changed_is_shown_and_leaves_no_trace(session, scene):
    session.set_display(Display(changes=True))
    before = node_ids(scene)
    clicked(session)
    click(session, "left", include=False, offset=(0, 5, 0))
    settle(session)
    node = scene.GetFirstNodeByName("Last change")
    removed = node.GetSegmentation().GetNthSegmentID(1)
    assert node.GetHideFromEditors() and not node.GetSaveWithScene()
    assert read_mask(node, removed, session.volume_node)[1].any()
    session.set_display(Display())
    assert scene.GetFirstNodeByName("Last change") is None
    session.close()
    gained = {scene.GetNodeByID(n).GetClassName() for n in node_ids(scene) - before if scene.GetNodeByID(n)}
    assert gained <= {"vtkMRMLSegmentationDisplayNode"}


def test_export_writes_every_tumour_and_tells_of_a_bad_target(session, tmp_path):
    clicked(session)
    session.export(tmp_path / "out.seg.nrrd")
    assert (tmp_path / "out.seg.nrrd").is_file() and not session.status.failed
    session.export(tmp_path / "out.xyz")
    assert session.status.failed


def test_tidy_removes_what_was_made_for_nothing_and_nothing_else(session, scene, volume):
    session.tidy()
    assert not scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") and session.placing is None
    foreign = create_segmentation(volume, "by hand")
    add_segment(foreign, "empty", (1, 0, 0))
    session.choose_segmentation(foreign)
    session.tidy()
    assert foreign.GetScene()


def test_table_operations(session):
    node, segment_id = session.segmentation_node, session.tumour.target.segment_id
    tumour_table.rename(node, segment_id, "Metastasis")
    tumour_table.set_color(node, segment_id, (0.5, 0.25, 1.0))
    tumour_table.set_visible(node, segment_id, False)
    segment = node.GetSegmentation().GetSegment(segment_id)
    assert segment.GetName() == "Metastasis" and segment.GetColor() == (0.5, 0.25, 1.0)
    assert not node.GetDisplayNode().GetSegmentVisibility(segment_id)
