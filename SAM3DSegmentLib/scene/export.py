"""Segments into files: .seg.nrrd with names, colours and tags, or a labelmap in .nrrd or .nii.gz."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import slicer
import slicer.util

from SAM3DSegmentLib.errors import ExportError
from SAM3DSegmentLib.scene.segments import read_mask
from SAM3DSegmentLib.scene.volumes import ijk_to_ras, transform_between

SEGMENTATION_SUFFIX = ".seg.nrrd"
LABELMAP_SUFFIXES = (".nrrd", ".nii.gz")
UNPACKED_BYTES = 1 << 24
"""Read at a time to check a file."""


def export_segmentation(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLVolumeNode,
    path: str | os.PathLike[str],
    segment_ids: Sequence[str] | None = None,
) -> None:
    """Write segments to a file whose suffix names its format, in the volume's own RAS (before its parent transform).

    A labelmap has the volume's grid and the values 1, 2, ... in the order of the segments; where segments overlap the
    last one wins. The file is written beside `path` and then renamed: an earlier file stays intact until then.

    Args:
        segment_ids: the segments to write, by default all.

    Raises:
        ExportError: nothing to write, an unknown suffix, or a target that cannot be written.
    """
    path = Path(path)
    segment_ids = segmentation_node.GetSegmentation().GetSegmentIDs() if segment_ids is None else segment_ids
    if not segment_ids:
        raise ExportError("There is no segment to export: click on a tumour first.")
    name = path.name.lower()
    if name.endswith(SEGMENTATION_SUFFIX):
        node = _selected_segments(segmentation_node, volume_node, segment_ids)
        storage = slicer.vtkMRMLSegmentationStorageNode()
    elif name.endswith(LABELMAP_SUFFIXES):
        node = _labelmap(segmentation_node, volume_node, segment_ids)
        storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    else:
        suffixes = ", ".join((SEGMENTATION_SUFFIX, *LABELMAP_SUFFIXES))
        raise ExportError(f"{path.name} has no suffix that names a known format: choose one of {suffixes}.")
    try:
        with TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
            written = Path(folder) / path.name
            storage.SetFileName(str(written))
            if not (storage.WriteData(node) and _is_whole(written)):
                raise ExportError(f"{path} could not be written whole: free some disk space or choose another folder.")
            os.replace(written, path)
    except OSError as error:
        raise ExportError(f"{path} cannot be written ({error.strerror}): choose another folder.") from error


def export_stem(volume_node: slicer.vtkMRMLVolumeNode | None) -> str:
    """The volume's name as a file name without suffix, fit for every system."""
    title = volume_node.GetName() if volume_node else ""
    return "".join(c if c.isalnum() or c in "-_ " else "_" for c in title).strip() or "volume"


def _selected_segments(
    segmentation_node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLVolumeNode, segment_ids: Sequence[str]
) -> slicer.vtkMRMLSegmentationNode:
    """A copy of some segments, outside the scene, in the volume's RAS and with as few layers as they need."""
    copy = slicer.vtkMRMLSegmentationNode()
    segmentation = copy.GetSegmentation()
    segmentation.DeepCopy(segmentation_node.GetSegmentation())
    for segment_id in segmentation.GetSegmentIDs():
        if segment_id not in segment_ids:
            segmentation.RemoveSegment(segment_id)
    if segmentation_node.GetParentTransformNode() is not volume_node.GetParentTransformNode():
        copy.ApplyTransform(transform_between(segmentation_node, volume_node))
    segmentation.CollapseBinaryLabelmaps(False)
    return copy


def _is_whole(path: Path) -> bool:
    """Whether a .nii.gz file can be unpacked to its end: ITK's NIfTI writer does not notice a full disk."""
    if not path.name.lower().endswith(".gz"):
        return True
    try:
        with gzip.open(path) as stream:
            while stream.read(UNPACKED_BYTES):
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return False
    return True


def _labelmap(
    segmentation_node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLVolumeNode, segment_ids: Sequence[str]
) -> slicer.vtkMRMLLabelMapVolumeNode:
    """A label volume, outside the scene, on the volume's grid."""
    node = slicer.vtkMRMLLabelMapVolumeNode()
    shape = volume_node.GetImageData().GetDimensions()[::-1]
    background = np.zeros((1, 1, 1), np.min_scalar_type(len(segment_ids)))
    slicer.util.updateVolumeFromArray(node, np.broadcast_to(background, shape))
    labels = slicer.util.arrayFromVolume(node)
    for value, segment_id in enumerate(segment_ids, 1):
        box, mask = read_mask(segmentation_node, segment_id, volume_node)
        labels[box][mask] = value
    node.SetIJKToRASMatrix(ijk_to_ras(volume_node))
    return node
