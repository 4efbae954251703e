"""A snapshot: the voxels of a volume node as they are now, and whether they are still the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import slicer

from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.scene.volumes import ijk_to_ras, volume_from_node


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What a volume node held when it was taken.

    Attributes:
        volume: a view on the node's voxels; its memory stays valid when the node is gone.
    """

    volume: Volume
    _node: slicer.vtkMRMLVolumeNode
    _state: tuple[Any, ...]

    def is_current(self) -> bool:
        """Whether voxels and geometry are those of the node now: a sequence's next frame, for one, is another scan."""
        return _state_of(self._node) == self._state


def take_snapshot(volume_node: slicer.vtkMRMLVolumeNode) -> Snapshot:
    """
    Raises:
        ScanError: the node holds no voxels, or more than one number per voxel.
    """
    return Snapshot(volume_from_node(volume_node), volume_node, _state_of(volume_node))


def _state_of(volume_node: slicer.vtkMRMLVolumeNode) -> tuple[Any, ...]:
    image = volume_node.GetImageData()
    scalars = image.GetPointData().GetScalars() if image else None
    matrix = ijk_to_ras(volume_node)
    return scalars and (scalars.GetMTime(), image.GetDimensions()), tuple(
        matrix.GetElement(row, column) for row in range(3) for column in range(4)
    )
