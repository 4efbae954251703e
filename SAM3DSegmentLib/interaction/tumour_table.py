"""The tumours of a volume: which segmentation holds them, and the name and colour of the next one."""

from __future__ import annotations

import slicer

from SAM3DSegmentLib.geometry import Point
from SAM3DSegmentLib.scene.provenance import read_provenance
from SAM3DSegmentLib.scene.segments import add_segment, create_segmentation

COLORS: tuple[Point, ...] = (
    (0.90, 0.62, 0.00),
    (0.34, 0.71, 0.91),
    (0.80, 0.47, 0.65),
    (0.94, 0.89, 0.26),
    (0.00, 0.45, 0.70),
    (0.84, 0.37, 0.00),
    (0.00, 0.62, 0.45),
)
"""Okabe and Ito's palette: also told apart by the colour-blind, and unlike the green and red of clicks."""

REFERENCE_ROLE = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()


def segment_ids(segmentation_node: slicer.vtkMRMLSegmentationNode | None) -> tuple[str, ...]:
    """The segments in their order; none without a segmentation."""
    return tuple(segmentation_node.GetSegmentation().GetSegmentIDs()) if segmentation_node else ()


def find_segmentation(volume_node: slicer.vtkMRMLVolumeNode) -> slicer.vtkMRMLSegmentationNode | None:
    """The newest segmentation that was clicked on this volume; else one of ours, from a file, that names no volume."""
    scene = volume_node.GetScene()
    count = scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    nodes = [scene.GetNthNodeByClass(index, "vtkMRMLSegmentationNode") for index in reversed(range(count))]
    ours = [node for node in nodes if not node.GetHideFromEditors() and _is_ours(node)]
    for wanted in (volume_node.GetID(), None):
        for node in ours:
            if node.GetNodeReferenceID(REFERENCE_ROLE) == wanted:
                return node
    return None


def _is_ours(segmentation_node: slicer.vtkMRMLSegmentationNode) -> bool:
    roles: list[str] = []
    segmentation_node.GetNodeReferenceRoles(roles)
    return any(role.startswith("SAM3DSegment.") for role in roles) or any(
        read_provenance(segmentation_node, segment_id) for segment_id in segment_ids(segmentation_node)
    )


def make_segmentation(volume_node: slicer.vtkMRMLVolumeNode) -> slicer.vtkMRMLSegmentationNode:
    return create_segmentation(volume_node, f"{volume_node.GetName()} tumours")


def add_tumour(segmentation_node: slicer.vtkMRMLSegmentationNode) -> str:
    """Add an empty tumour, "Tumour 3" after "Tumour 2", in a colour of its own; returns its segment id."""
    segmentation = segmentation_node.GetSegmentation()
    names = {segmentation.GetSegment(segment_id).GetName() for segment_id in segment_ids(segmentation_node)}
    number = next(n for n in range(1, len(names) + 2) if f"Tumour {n}" not in names)
    return add_segment(segmentation_node, f"Tumour {number}", COLORS[(number - 1) % len(COLORS)])


def rename(segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str, name: str) -> None:
    segmentation_node.GetSegmentation().GetSegment(segment_id).SetName(name)


def set_color(segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str, color: Point) -> None:
    """
    Args:
        color: red, green, blue, 0 to 1.
    """
    segmentation_node.GetSegmentation().GetSegment(segment_id).SetColor(color)


def set_visible(segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str, visible: bool) -> None:
    segmentation_node.GetDisplayNode().SetSegmentVisibility(segment_id, visible)
