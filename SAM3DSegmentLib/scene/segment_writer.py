"""Masks into segments, through the segment editor's logic: only what changes is written, and it can be undone."""

from __future__ import annotations

import slicer
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.util.vtkConstants import VTK_UNSIGNED_CHAR

from SAM3DSegmentLib.geometry import BoolArray, Box, trim
from SAM3DSegmentLib.scene.segments import (
    NOTHING,
    give_own_layer,
    lies_on_grid,
    make_labelmaps_the_source,
    read_mask,
    read_mask_on_own_grid,
)
from SAM3DSegmentLib.scene.volumes import ijk_to_ras, transform_between


class SegmentWriter:
    """Writes masks into segments of one scene, on a segment editor node of its own that overwrites no other segment.

    The node is hidden, not saved with the scene, and removed by `close` or with the scene's content.
    """

    def __init__(self, scene: slicer.vtkMRMLScene) -> None:
        self._scene = scene
        self._node: slicer.vtkMRMLSegmentEditorNode | None = None
        self._logic: slicer.vtkSlicerSegmentEditorLogic | None = None

    def write_mask(
        self,
        segmentation_node: slicer.vtkMRMLSegmentationNode,
        segment_id: str,
        volume_node: slicer.vtkMRMLVolumeNode,
        box: Box,
        mask: BoolArray,
    ) -> bool:
        """Make the segment equal to a mask on the volume's grid; an empty mask clears it, also beyond the volume.

        A mask that is there already is not written: finer voxels and those beyond the volume only go for a change.
        The segment gets a layer of its own: what the write costs depends on its size, not on where the others lie.

        Args:
            box: voxels (K, J, I) of the volume around the mask, within its extent.
            mask: [k, j, i] of the box; the segment ends outside it.

        Returns:
            Whether the change cost more than it shows: surfaces, another voxel size, voxels beyond the volume.
        """
        wanted = trim(box, mask)
        current = read_mask(segmentation_node, segment_id, volume_node)
        removed, added = _difference(current, wanted), _difference(wanted, current)
        on_grid = lies_on_grid(segmentation_node, segment_id, volume_node)
        if not removed[1].size and not added[1].size and (on_grid or wanted[1].size):
            return False
        converted = make_labelmaps_the_source(segmentation_node)
        give_own_layer(segmentation_node, segment_id)
        logic = self._logic_for(segmentation_node)
        logic.SaveStateForUndo()
        if not on_grid:
            # A grid that differs by whole voxels, as in files that other programs cropped, costs nothing.
            converted |= read_mask_on_own_grid(segmentation_node, segment_id)[1].sum() != current[1].sum()
            segmentation_node.GetSegmentation().ClearSegment(segment_id)
            removed, added = NOTHING, wanted
        # Not `ModificationModeSet`: it takes the layer's grid for the modifier's, which differ in loaded segmentations.
        for mode, (change_box, change) in ((logic.ModificationModeRemove, removed), (logic.ModificationModeAdd, added)):
            if change.size:
                modifier = _modifier_labelmap(segmentation_node, volume_node, change_box, change)
                extent = modifier.GetExtent()
                logic.ModifySegmentByLabelmap(segmentation_node, segment_id, modifier, mode, extent, False, False)
        return bool(converted)

    def undo(self) -> None:
        """Take the last write back, as Slicer's segment editor does; nothing happens where there is none."""
        if self._logic and self._logic.CanUndo():
            self._logic.Undo()

    def redo(self) -> None:
        """Write again what was taken back; nothing happens where there is none."""
        if self._logic and self._logic.CanRedo():
            self._logic.Redo()

    def close(self) -> None:
        """Remove our node from the scene and forget what could be undone."""
        if self._node:
            self._scene.RemoveNode(self._node)
        self._node = self._logic = None

    def _logic_for(self, segmentation_node: slicer.vtkMRMLSegmentationNode) -> slicer.vtkSlicerSegmentEditorLogic:
        if not self._node or not self._node.GetScene():
            self._node = slicer.vtkMRMLSegmentEditorNode()
            self._node.SetName("SAM3DSegment editor")
            self._node.HideFromEditorsOn()
            self._node.SaveWithSceneOff()
            self._node.SetOverwriteMode(self._node.OverwriteNone)
            self._scene.AddNode(self._node)
            self._logic = slicer.vtkSlicerSegmentEditorLogic()
            self._logic.SetMRMLScene(self._scene)
            self._logic.SetSegmentEditorNode(self._node)
        self._node.SetAndObserveSegmentationNode(segmentation_node)
        return self._logic


def _difference(first: tuple[Box, BoolArray], second: tuple[Box, BoolArray]) -> tuple[Box, BoolArray]:
    """The voxels that the first mask has and the second has not, in their smallest box."""
    (box, mask), (other_box, other_mask) = first, second
    starts = [max(a.start, b.start) for a, b in zip(box, other_box, strict=True)]
    stops = [max(start, min(a.stop, b.stop)) for start, a, b in zip(starts, box, other_box, strict=True)]

    def common(within: Box) -> Box:
        k, j, i = (slice(a - w.start, b - w.start) for a, b, w in zip(starts, stops, within, strict=True))
        return k, j, i

    left = mask.copy()
    left[common(box)] &= ~other_mask[common(other_box)]
    return trim(box, left)


def _modifier_labelmap(
    segmentation_node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLVolumeNode, box: Box, mask: BoolArray
) -> slicer.vtkOrientedImageData:
    """A mask on the volume's grid as the labelmap, in the segmentation's RAS, that the logic takes."""
    k, j, i = box
    labelmap = slicer.vtkOrientedImageData()
    labelmap.SetExtent(i.start, i.stop - 1, j.start, j.stop - 1, k.start, k.stop - 1)
    labelmap.AllocateScalars(VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape(mask.shape)[:] = mask
    labelmap.SetGeometryFromImageToWorldMatrix(ijk_to_ras(volume_node))
    if segmentation_node.GetParentTransformNode() is not volume_node.GetParentTransformNode():
        transform = transform_between(volume_node, segmentation_node)
        slicer.vtkOrientedImageDataResample.TransformOrientedImage(labelmap, transform)
    return labelmap
