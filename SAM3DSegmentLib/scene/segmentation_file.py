"""A segmentation file, told from a scan and brought into a scene."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util
from numpy.typing import NDArray

from SAM3DSegmentLib.errors import ScanError
from SAM3DSegmentLib.scene.quiet import quietly
from SAM3DSegmentLib.scene.whole_file import NRRD_MAGIC, is_whole

SEGMENT_KEY = re.compile(rb"^Segment\d+_\w+:=", re.MULTILINE)
"""In the header of a NRRD file that Slicer's segmentation storage node wrote."""

HEADER_BYTES = 1 << 20
"""Within which the first segment's keys stand."""

MOST_LABELS = 255
"""In a labelmap; the largest atlases have some two hundred, a scan has thousands of values."""


def load_segmentation(scene: slicer.vtkMRMLScene, path: Path) -> slicer.vtkMRMLSegmentationNode:
    """The segments of a `.seg.nrrd`, with their tags, or of another file of Slicer's segmentation storage node.

    Raises:
        ScanError: the file is missing or holds no segmentation: a NRRD file without segments in its header, voxels that
            are no labels.
    """
    if not path.is_file():
        raise ScanError(f"{path} is not there: name a .seg.nrrd file.")
    with quietly():
        _check_kind(path)
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", path.name.split(".")[0])
        storage = slicer.vtkMRMLSegmentationStorageNode()
        storage.SetFileName(str(path))
        if not storage.ReadData(node) or not node.GetSegmentation().GetNumberOfSegments():
            scene.RemoveNode(node)
            raise _no_segmentation(path, "it is damaged, or of another kind")
    return node


def _check_kind(path: Path) -> None:
    """Raise `ScanError` for a scan: the storage node would make a segment of each of its values."""
    try:
        with path.open("rb") as file:
            start = file.read(HEADER_BYTES)
        whole = is_whole(path)
    except OSError as error:
        raise _no_segmentation(path, f"it cannot be read: {error.strerror}") from error
    if not whole:
        raise _no_segmentation(path, "it is cut off or damaged")
    if start.startswith(NRRD_MAGIC):
        if not SEGMENT_KEY.search(start.replace(b"\r\n", b"\n").partition(b"\n\n")[0]):
            raise _no_segmentation(path, "its header names no segment")
        return
    image = slicer.vtkMRMLScalarVolumeNode()
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    if storage.ReadData(image) and not _are_labels(slicer.util.arrayFromVolume(image)):
        raise _no_segmentation(path, f"its voxels are no labels, whole numbers of at most {MOST_LABELS} values")


def _are_labels(voxels: NDArray[Any]) -> bool:
    """Whether an image [K, J, I] holds whole numbers, few of them different."""
    if voxels.dtype.kind == "f" and not (np.isfinite(voxels) & (voxels == np.trunc(voxels))).all():
        return False
    lie_close = int(voxels.max()) - int(voxels.min()) <= MOST_LABELS
    return lie_close or len(np.unique(voxels)) - 1 <= MOST_LABELS


def _no_segmentation(path: Path, reason: str) -> ScanError:
    return ScanError(f"{path} holds no segmentation ({reason}): name a .seg.nrrd file.")
