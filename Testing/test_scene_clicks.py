"""The clicks of a segment live in the scene: ordered, saved with it, and heard of once per finished change."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import slicer.util

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.scene.click_nodes import (
    open_click_lists,
    read_clicks,
    remove_click_lists,
    remove_orphaned_click_lists,
    remove_pointed_click,
    write_clicks,
)
from SAM3DSegmentLib.scene.click_observer import ClickObserver
from SAM3DSegmentLib.scene.placement import is_placing, start_placing, stop_placing
from SAM3DSegmentLib.scene.provenance import Provenance, write_provenance
from SAM3DSegmentLib.scene.segments import add_segment, create_segmentation, remove_segment
from Testing.scene_helpers import TRANSFORMS, put_under, save_and_reopen, volume_node, volume_ras_to_world

CLICKS = (Click((1 / 3, 2 / 7, 3.0123456789)), Click((1.0, -1.0, 1.0), False), Click((2.0, 2.0, 2.0)))
PREVIEW = 1
DEFINED = 2


class Tumour:
    def __init__(self, scene, transform="none", segment_id="Segment_1"):
        self.volume = volume_node(scene, transform=transform)
        self.segmentation = create_segmentation(self.volume, "Tumours")
        self.id = self.segmentation.GetSegmentation().AddEmptySegment(segment_id, "Tumour")
        self.lists = open_click_lists(self.segmentation, self.id, self.volume)

    def clicks(self):
        return read_clicks(self.lists, self.volume)

    def write(self, clicks):
        write_clicks(self.lists, self.volume, clicks)


@pytest.fixture
def tumour(scene):
    return Tumour(scene)


def preview(node, position, status=PREVIEW):
    """What a view does while the mouse moves in place mode."""
    event = slicer.vtkMRMLInteractionEventData()
    event.SetWorldPosition(position)
    index = node.GetNthControlPointIndexByPositionStatus(0, PREVIEW)
    if index < 0:
        index = node.GetControlPointPlacementStartIndex()
    axes = [1, 0, 0, 0, 1, 0, 0, 0, 1]
    return node.GetDisplayNode().UpdateActiveControlPointWorld(index, event, axes, None, None, status)


def place(node, position):
    """What a view does when the mouse is clicked in place mode."""
    preview(node, position)
    preview(node, position, DEFINED)


def fiducial_lists(scene):
    name = "vtkMRMLMarkupsFiducialNode"
    return [scene.GetNthNodeByClass(index, name) for index in range(scene.GetNumberOfNodesByClass(name))]


def drag(node, index, *positions):
    node.InvokeCustomModifiedEvent(node.PointStartInteractionEvent)
    for position in positions:
        node.SetNthControlPointPosition(index, *position)
    node.InvokeCustomModifiedEvent(node.PointEndInteractionEvent)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_written_clicks_come_back_exactly_and_in_order(scene, transform):
    tumour = Tumour(scene, transform)
    tumour.write(CLICKS)
    assert tumour.clicks() == CLICKS
    world = tumour.lists.include.GetNthControlPointPositionWorld(0)
    assert world == pytest.approx(volume_ras_to_world(tumour.volume, CLICKS[0].ras), abs=1e-3)


def test_order_runs_across_both_lists(tumour):
    for number in range(8):
        place(tumour.lists.exclude if number % 3 else tumour.lists.include, (number, 0, 0))
        tumour.clicks()
    assert [click.ras[0] for click in tumour.clicks()] == list(range(8))
    assert [click.include for click in tumour.clicks()] == [number % 3 == 0 for number in range(8)]


def test_preview_and_unset_points_are_no_clicks(tumour):
    tumour.write(CLICKS)
    preview(tumour.lists.include, (9, 9, 9))
    tumour.lists.include.UnsetNthControlPointPosition(0)
    assert tumour.clicks() == CLICKS[1:]


def test_moved_click_keeps_its_place_in_the_order(tumour):
    tumour.write(CLICKS)
    tumour.lists.include.SetNthControlPointPosition(0, 7, 8, 9)
    assert tumour.clicks() == (Click((7.0, 8.0, 9.0)), *CLICKS[1:])


def test_deleted_click_leaves_the_others_in_order(tumour):
    tumour.write(CLICKS)
    tumour.lists.exclude.RemoveNthControlPoint(0)
    assert tumour.clicks() == (CLICKS[0], CLICKS[2])
    place(tumour.lists.exclude, (5, 5, 5))
    assert tumour.clicks() == (CLICKS[0], CLICKS[2], Click((5.0, 5.0, 5.0), False))


def test_only_the_click_under_the_mouse_is_removed_however_often_its_removal_is_asked_for(tumour):
    tumour.write(CLICKS)
    display = tumour.lists.include.GetDisplayNode()
    display.SetActiveComponent(display.ComponentControlPoint, 0)
    for _ in range(3):
        remove_pointed_click(tumour.lists)
    assert tumour.clicks() == CLICKS[1:]


def test_duplicated_click_becomes_the_newest(tumour):
    tumour.write(CLICKS)
    copy = tumour.lists.exclude.AddControlPoint(4, 4, 4)
    tumour.lists.exclude.SetNthControlPointDescription(copy, "1")
    assert tumour.clicks() == (*CLICKS, Click((4.0, 4.0, 4.0), False))


def test_writing_leaves_the_point_under_the_cursor(tumour):
    tumour.write(CLICKS)
    preview(tumour.lists.include, (9, 9, 9))
    tumour.write(CLICKS[:1])
    assert tumour.clicks() == CLICKS[:1]
    place(tumour.lists.include, (9, 9, 9))
    assert tumour.clicks() == (CLICKS[0], Click((9.0, 9.0, 9.0)))


def test_clicks_follow_the_volume_under_a_new_transform(tumour):
    tumour.write(CLICKS)
    put_under(tumour.volume, "linear")
    open_click_lists(tumour.segmentation, tumour.id, tumour.volume)
    assert tumour.clicks() == CLICKS


def test_clicks_of_a_list_elsewhere_are_brought_to_the_volume(tumour):
    put_under(tumour.volume, "linear")
    place(tumour.lists.include, (1, 2, 3))
    assert volume_ras_to_world(tumour.volume, tumour.clicks()[0].ras) == pytest.approx((1, 2, 3))


def test_opening_again_finds_the_same_lists(tumour):
    again = open_click_lists(tumour.segmentation, tumour.id, tumour.volume)
    assert (again.include, again.exclude) == (tumour.lists.include, tumour.lists.exclude)


def test_a_deleted_list_is_made_again_and_the_other_keeps_its_clicks(tumour, scene):
    tumour.write(CLICKS)
    scene.RemoveNode(tumour.lists.include)
    lists = open_click_lists(tumour.segmentation, tumour.id, tumour.volume)
    assert read_clicks(lists, tumour.volume) == (CLICKS[1],)


def test_a_loaded_segments_record_fills_its_lists(scene):
    volume = volume_node(scene)
    segmentation = create_segmentation(volume, "Tumours")
    segment_id = add_segment(segmentation, "Tumour", (1, 0, 0))
    write_provenance(segmentation, segment_id, Provenance(CLICKS, "compact", "1", "ab", "0.1"))
    assert read_clicks(open_click_lists(segmentation, segment_id, volume), volume) == CLICKS


def test_lists_are_green_and_red_and_can_be_hidden_and_locked(tumour):
    green, red = (node.GetDisplayNode().GetSelectedColor() for node in tumour.lists)
    assert green[1] > 2 * green[0] and red[0] > 2 * red[1]
    tumour.lists.set_visible(False)
    tumour.lists.set_locked(True)
    assert [(node.GetDisplayNode().GetVisibility(), node.GetLocked()) for node in tumour.lists] == [(0, 1)] * 2


def test_lists_go_with_their_segment(tumour, scene):
    remove_segment(tumour.segmentation, tumour.id)
    assert not scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode")
    remove_click_lists(tumour.segmentation, tumour.id)


def test_orphaned_lists_are_removed_and_no_others(tumour, scene):
    foreign = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    other = tumour.segmentation.GetSegmentation().AddEmptySegment("gone")
    open_click_lists(tumour.segmentation, other, tumour.volume)
    tumour.segmentation.GetSegmentation().RemoveSegment(other)
    remove_orphaned_click_lists(scene)
    assert fiducial_lists(scene) == [*tumour.lists, foreign]
    scene.RemoveNode(tumour.segmentation)
    remove_orphaned_click_lists(scene)
    assert fiducial_lists(scene) == [foreign]


@pytest.mark.parametrize("segment_id", ["Segment_1", "odd id:;|ü%"])
def test_clicks_survive_saving_and_opening_the_scene(scene, tmp_path, segment_id):
    tumour = Tumour(scene, "linear", segment_id)
    tumour.write(CLICKS)
    save_and_reopen(scene, tmp_path)
    segmentation = scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    volume = scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
    lists = open_click_lists(segmentation, segment_id, volume)
    assert read_clicks(lists, volume) == CLICKS
    assert scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 2


def test_lists_are_offered_in_the_save_dialog(tumour):
    assert not any(node.GetHideFromEditors() for node in tumour.lists)
    assert all(node.GetSaveWithScene() for node in tumour.lists)


@pytest.fixture
def heard(tumour):
    """What the observer told: the clicks at each call."""
    calls = []
    tumour.observer = ClickObserver(tumour.lists, lambda: calls.append(tumour.clicks()))
    yield calls
    tumour.observer.remove()


def test_placing_is_heard_once_and_its_preview_never(tumour, heard):
    for position in ((1, 1, 1), (2, 2, 2), (3, 3, 3)):
        preview(tumour.lists.include, position)
    assert heard == []
    place(tumour.lists.include, (3, 3, 3))
    assert heard == [(Click((3.0, 3.0, 3.0)),)]


def test_leaving_place_mode_is_not_heard(tumour, heard):
    tumour.lists.include.RemoveNthControlPoint(preview(tumour.lists.include, (1, 1, 1)))
    assert heard == []


def test_drag_is_heard_at_its_end(tumour, heard):
    place(tumour.lists.include, (1, 1, 1))
    heard.clear()
    drag(tumour.lists.include, 0, (2, 1, 1), (3, 1, 1), (4, 1, 1))
    assert heard == [(Click((4.0, 1.0, 1.0)),)]


def test_drag_back_to_where_it_began_is_not_heard(tumour, heard):
    place(tumour.lists.include, (1, 1, 1))
    heard.clear()
    drag(tumour.lists.include, 0, (2, 1, 1), (1, 1, 1))
    assert heard == []


@pytest.mark.parametrize("remove", ["RemoveNthControlPoint", "UnsetNthControlPointPosition"])
def test_removal_is_heard(tumour, heard, remove):
    place(tumour.lists.include, (1, 1, 1))
    place(tumour.lists.exclude, (2, 2, 2))
    heard.clear()
    getattr(tumour.lists.include, remove)(0)
    assert heard[-1] == (Click((2.0, 2.0, 2.0), False),)


def test_clearing_a_list_is_heard(tumour, heard):
    place(tumour.lists.include, (1, 1, 1))
    heard.clear()
    tumour.lists.include.RemoveAllControlPoints()
    assert heard == [()]


def test_muted_changes_are_not_heard_and_later_ones_are(tumour, heard):
    with tumour.observer.muted():
        tumour.write(CLICKS)
    assert heard == []
    place(tumour.lists.exclude, (2, 2, 2))
    assert heard == [(*CLICKS, Click((2.0, 2.0, 2.0), False))]


def test_removed_observer_is_silent(tumour, heard):
    tumour.observer.remove()
    tumour.observer.remove()
    place(tumour.lists.include, (1, 1, 1))
    assert heard == []


def test_place_mode_points_at_one_list(tumour, scene):
    start_placing(tumour.lists.exclude)
    assert is_placing(tumour.lists.exclude) and not is_placing(tumour.lists.include)
    start_placing(tumour.lists.include)
    assert is_placing(tumour.lists.include) and not is_placing(tumour.lists.exclude)
    stop_placing(scene)
    assert not is_placing(tumour.lists.include)


def test_hundreds_of_clicks_keep_their_order(tumour):
    rng = np.random.default_rng(0)
    clicks = tuple(Click(tuple(rng.normal(0, 20, 3).tolist()), bool(rng.integers(2))) for _ in range(300))
    tumour.write(clicks)
    assert tumour.clicks() == clicks
    tumour.write(clicks[:7])
    assert tumour.clicks() == clicks[:7]
