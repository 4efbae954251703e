"""A segmentation file and its scan, brought into a scene."""

from __future__ import annotations

from pathlib import Path

import slicer

from SAM3DSegmentLib.errors import ScanError


def load_segmentation(scene: slicer.vtkMRMLScene, path: Path) -> slicer.vtkMRMLSegmentationNode:
    """The segments of a `.seg.nrrd` (or any file of Slicer's segmentation storage node), with their tags.

    Raises:
        ScanError: the file is missing or holds no segmentation.
    """
    if not path.is_file():
        raise ScanError(f"{path} is not there: name a .seg.nrrd file.")
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", path.name.split(".")[0])
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    if not storage.ReadData(node) or not node.GetSegmentation().GetNumberOfSegments():
        scene.RemoveNode(node)
        raise ScanError(f"{path} holds no segmentation that can be read: name a .seg.nrrd file.")
    return node
