"""The clicks of a segment as scene data: an include and an exclude list of fiducials, saved with the scene.

The segmentation node refers to both lists. Each control point's description holds its number in the order of clicks,
which runs across both lists. The lists stay visible in the Data tree: Slicer's save dialog skips nodes that are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import slicer

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.geometry import Point
from SAM3DSegmentLib.scene.provenance import read_provenance
from SAM3DSegmentLib.scene.removal import remove_node
from SAM3DSegmentLib.scene.volumes import transform_between

INCLUDE_COLOR = (0.1, 0.85, 0.2)
EXCLUDE_COLOR = (0.95, 0.15, 0.15)
KIND_ATTRIBUTE = "SAM3DSegment.Clicks"
"""Marks our lists, so that orphans are found."""


@dataclass(frozen=True)
class ClickLists:
    """The two fiducial lists of one segment."""

    include: slicer.vtkMRMLMarkupsFiducialNode
    exclude: slicer.vtkMRMLMarkupsFiducialNode

    def __iter__(self) -> Iterator[slicer.vtkMRMLMarkupsFiducialNode]:
        return iter((self.include, self.exclude))

    def set_visible(self, visible: bool) -> None:
        for node in self:
            node.GetDisplayNode().SetVisibility(visible)

    def set_locked(self, locked: bool) -> None:
        """A locked click cannot be dragged."""
        for node in self:
            node.SetLocked(locked)


@dataclass(frozen=True)
class ClickPoint:
    """A placed control point.

    Attributes:
        number: its place in the order of clicks.
        position: in mm, before the parent transform of its list.
    """

    number: int
    node: slicer.vtkMRMLMarkupsFiducialNode
    position: Point


def open_click_lists(
    segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str, volume_node: slicer.vtkMRMLVolumeNode
) -> ClickLists:
    """The segment's lists under the volume's parent transform; a missing list is made.

    Where both are missing they take up the clicks of the segment's own record, as after loading a .seg.nrrd file.
    """
    missing = not any(_list_node(segmentation_node, segment_id, kind) for kind in ("include", "exclude"))
    lists = ClickLists(
        _open_list(segmentation_node, segment_id, "include", INCLUDE_COLOR),
        _open_list(segmentation_node, segment_id, "exclude", EXCLUDE_COLOR),
    )
    for node in lists:
        node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    provenance = read_provenance(segmentation_node, segment_id)
    if missing and provenance:
        write_clicks(lists, volume_node, provenance.clicks)
    return lists


def make_waiting_lists(volume_node: slicer.vtkMRMLVolumeNode) -> ClickLists:
    """Lists that belong to no segment yet: hidden from lists of nodes, and not saved with the scene."""
    scene = volume_node.GetScene()
    lists = ClickLists(_make_list(scene, "include", INCLUDE_COLOR), _make_list(scene, "exclude", EXCLUDE_COLOR))
    for node in lists:
        node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
        _set_in_lists(node, False)
    return lists


def adopt_waiting_lists(lists: ClickLists, segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str) -> None:
    """Make waiting lists, with the clicks that are in them, those of a segment that has none."""
    for node, kind in ((lists.include, "include"), (lists.exclude, "exclude")):
        _attach(node, segmentation_node, segment_id, kind)
        _set_in_lists(node, True)


def read_clicks(lists: ClickLists, volume_node: slicer.vtkMRMLVolumeNode) -> tuple[Click, ...]:
    """The placed clicks in their order, in the volume's own RAS; previews and unset points are left out."""
    transforms = {node: transform_between(node, volume_node) for node in lists}
    clicks = []
    for point in ordered_points(lists):
        r, a, s = transforms[point.node].TransformPoint(point.position)
        clicks.append(Click((r, a, s), point.node is lists.include))
    return tuple(clicks)


def write_clicks(lists: ClickLists, volume_node: slicer.vtkMRMLVolumeNode, clicks: Sequence[Click]) -> None:
    """Replace the placed clicks; a point that is being placed stays under the cursor."""
    if read_clicks(lists, volume_node) == tuple(clicks):
        return
    for node in lists:
        for index in reversed(range(node.GetNumberOfControlPoints())):
            if _is_placed(node, index):
                node.RemoveNthControlPoint(index)
    transforms = {node: transform_between(volume_node, node) for node in lists}
    for number, click in enumerate(clicks, 1):
        node = lists.include if click.include else lists.exclude
        index = node.AddControlPoint(transforms[node].TransformPoint(click.ras))
        node.SetNthControlPointDescription(index, str(number))


def ordered_points(lists: ClickLists) -> list[ClickPoint]:
    """The placed control points in the order of clicks.

    Points without a number of their own (just placed, or copies of others) get the next ones, include before exclude.
    """
    numbered: dict[int, tuple[slicer.vtkMRMLMarkupsFiducialNode, int]] = {}
    new = []
    for node in lists:
        for index in range(node.GetNumberOfControlPoints()):
            if not _is_placed(node, index):
                continue
            number = node.GetNthControlPointDescription(index)
            if number.isdecimal() and int(number) not in numbered:
                numbered[int(number)] = node, index
            else:
                new.append((node, index))
    for next_number, (node, index) in enumerate(new, max(numbered, default=0) + 1):
        node.SetNthControlPointDescription(index, str(next_number))
        numbered[next_number] = node, index
    return [
        ClickPoint(number, node, tuple(node.GetNthControlPointPosition(index)))
        for number, (node, index) in sorted(numbered.items(), key=lambda item: item[0])
    ]


def remove_pointed_click(lists: ClickLists) -> None:
    """Remove the control point that the mouse is on, where it is on one."""
    for node in lists:
        display = node.GetDisplayNode()
        if display.GetActiveComponentType() == display.ComponentControlPoint:
            node.RemoveNthControlPoint(display.GetActiveComponentIndex())
            # The view looks for what is under the mouse only when it moves: the next point would take the index over.
            display.SetActiveComponent(display.ComponentNone, -1)


def remove_click_lists(segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str) -> None:
    """Remove the segment's lists from the scene, where there are any."""
    for kind in ("include", "exclude"):
        node = _list_node(segmentation_node, segment_id, kind)
        if node:
            segmentation_node.RemoveNodeReferenceIDs(_role(segment_id, kind))
            remove_node(node)


def remove_orphaned_click_lists(scene: slicer.vtkMRMLScene) -> None:
    """Remove the lists whose segment, or segmentation, is gone."""
    kept = {
        segmentation_node.GetNodeReferenceID(_role(segment_id, kind))
        for segmentation_node in _nodes_of_class(scene, "vtkMRMLSegmentationNode")
        for segment_id in segmentation_node.GetSegmentation().GetSegmentIDs()
        for kind in ("include", "exclude")
    }
    for node in _nodes_of_class(scene, "vtkMRMLMarkupsFiducialNode"):
        if node.GetAttribute(KIND_ATTRIBUTE) and node.GetID() not in kept:
            remove_node(node)


def _nodes_of_class(scene: slicer.vtkMRMLScene, name: str) -> list[Any]:
    """Not `slicer.util.getNodesByClass`: that one always searches Slicer's own scene."""
    return [scene.GetNthNodeByClass(index, name) for index in range(scene.GetNumberOfNodesByClass(name))]


def _open_list(
    segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str, kind: str, color: Point
) -> slicer.vtkMRMLMarkupsFiducialNode:
    node = _list_node(segmentation_node, segment_id, kind)
    if node:
        return node
    node = _make_list(segmentation_node.GetScene(), kind, color)
    _attach(node, segmentation_node, segment_id, kind)
    return node


def _make_list(scene: slicer.vtkMRMLScene, kind: str, color: Point) -> slicer.vtkMRMLMarkupsFiducialNode:
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", kind)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetColor(color)
    display.SetSelectedColor(color)
    display.SetPointLabelsVisibility(False)
    return node


def _attach(
    node: slicer.vtkMRMLMarkupsFiducialNode,
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    segment_id: str,
    kind: str,
) -> None:
    node.SetName(f"{segmentation_node.GetSegmentation().GetSegment(segment_id).GetName()} {kind}")
    node.SetAttribute(KIND_ATTRIBUTE, kind)
    segmentation_node.SetNodeReferenceID(_role(segment_id, kind), node.GetID())


def _set_in_lists(node: slicer.vtkMRMLMarkupsFiducialNode, listed: bool) -> None:
    """Whether the user sees the node in lists of nodes, and the scene saves it."""
    for part in (node, node.GetDisplayNode()):
        part.SetSaveWithScene(listed)
    node.SetHideFromEditors(not listed)


def _list_node(
    segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str, kind: str
) -> slicer.vtkMRMLMarkupsFiducialNode | None:
    return segmentation_node.GetNodeReference(_role(segment_id, kind))


def _role(segment_id: str, kind: str) -> str:
    """The reference role; the id is %-encoded, for MRML files separate roles by : ; and spaces."""
    return f"SAM3DSegment.{kind}.{quote(segment_id, safe='')}"


def _is_placed(node: slicer.vtkMRMLMarkupsFiducialNode, index: int) -> bool:
    return bool(node.GetNthControlPointPositionStatus(index) == node.PositionDefined)
