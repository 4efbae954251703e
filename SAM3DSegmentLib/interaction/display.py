"""How tumours and clicks are shown: hidden clicks, outlines, surfaces in 3D, and what the last click changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer

from SAM3DSegmentLib.geometry import BoolArray, Box, Point
from SAM3DSegmentLib.scene.removal import remove_node
from SAM3DSegmentLib.scene.segment_writer import SegmentWriter
from SAM3DSegmentLib.scene.segments import CLOSED_SURFACE, add_segment, create_segmentation

ADDED_COLOR: Point = (0.2, 1.0, 1.0)
REMOVED_COLOR: Point = (1.0, 0.3, 1.0)

OUTLINE_ATTRIBUTE = "SAM3DSegment.Outline"
SURFACE_ATTRIBUTE = "SAM3DSegment.Surface"
"""Mark segmentations that we made show outlines or surfaces: all others stay as the user shows them elsewhere."""


@dataclass(frozen=True)
class Display:
    """What the user chose to see."""

    clicks: bool = True
    outline_only: bool = False
    surface: bool = False
    changes: bool = False

    def apply_to(self, segmentation_node: slicer.vtkMRMLSegmentationNode) -> None:
        """Show what is wanted and not there; of what is there and not wanted only what we showed goes."""
        self._apply_outline(segmentation_node)
        self._apply_surface(segmentation_node)

    def _apply_outline(self, segmentation_node: slicer.vtkMRMLSegmentationNode) -> None:
        display_node = segmentation_node.GetDisplayNode()
        if self.outline_only and display_node.GetVisibility2DFill():
            display_node.SetVisibility2DFill(False)
            segmentation_node.SetAttribute(OUTLINE_ATTRIBUTE, "on")
        elif not self.outline_only and segmentation_node.GetAttribute(OUTLINE_ATTRIBUTE):
            display_node.SetVisibility2DFill(True)
            segmentation_node.RemoveAttribute(OUTLINE_ATTRIBUTE)

    def _apply_surface(self, segmentation_node: slicer.vtkMRMLSegmentationNode) -> None:
        """It is only made, and kept up to date, where it is wanted: each update costs time."""
        segmentation = segmentation_node.GetSegmentation()
        if self.surface and not segmentation.ContainsRepresentation(CLOSED_SURFACE):
            segmentation_node.CreateClosedSurfaceRepresentation()
            segmentation_node.SetAttribute(SURFACE_ATTRIBUTE, "on")
        elif not self.surface and segmentation_node.GetAttribute(SURFACE_ATTRIBUTE):
            # Not where the user has made our surfaces the source since, in Segmentations: all else is made from them.
            if segmentation.GetSourceRepresentationName() != CLOSED_SURFACE:
                segmentation_node.RemoveClosedSurfaceRepresentation()
            segmentation_node.RemoveAttribute(SURFACE_ATTRIBUTE)


class ChangeView:
    """The voxels that the last click added and removed, as a segmentation of our own: hidden from lists, not saved."""

    def __init__(self, scene: slicer.vtkMRMLScene) -> None:
        self._writer = SegmentWriter(scene)
        self._node: slicer.vtkMRMLSegmentationNode | None = None

    def show(
        self, volume_node: slicer.vtkMRMLVolumeNode, before: tuple[Box, BoolArray], after: tuple[Box, BoolArray]
    ) -> None:
        """
        Args:
            before, after: a box of the volume's voxels (K, J, I) and the mask [k, j, i] within.
        """
        self.clear()
        box, was, now = on_common_box(before, after)
        self._node = create_segmentation(volume_node, "Last change")
        self._node.HideFromEditorsOn()
        self._node.SaveWithSceneOff()
        for name, color, mask in (("added", ADDED_COLOR, now & ~was), ("removed", REMOVED_COLOR, was & ~now)):
            segment_id = add_segment(self._node, name, color)
            self._writer.write_mask(self._node, segment_id, volume_node, box, mask)

    def clear(self) -> None:
        """Take it out of the scene."""
        if self._node:
            remove_node(self._node)
        self._node = None
        self._writer.close()


def on_common_box(first: tuple[Box, BoolArray], second: tuple[Box, BoolArray]) -> tuple[Box, BoolArray, BoolArray]:
    """Two boxed masks on the smallest box that holds both; an empty mask takes no room."""
    occupied = [box for box, mask in (first, second) if mask.size] or [first[0]]
    k, j, i = (
        slice(min(box[axis].start for box in occupied), max(box[axis].stop for box in occupied)) for axis in range(3)
    )
    common = (k, j, i)
    masks = []
    for box, mask in (first, second):
        whole = np.zeros([side.stop - side.start for side in common], bool)
        if mask.size:
            whole[tuple(slice(b.start - c.start, b.stop - c.start) for b, c in zip(box, common, strict=True))] = mask
        masks.append(whole)
    return common, masks[0], masks[1]
