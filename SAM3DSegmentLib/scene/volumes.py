"""Volume nodes in and out: voxels with their IJK-to-RAS matrix, and positions through parent transforms."""

from __future__ import annotations

import numpy as np
import slicer
import slicer.util
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonMath import vtkMatrix4x4
from vtkmodules.vtkCommonTransforms import vtkGeneralTransform

from SAM3DSegmentLib.errors import ScanError
from SAM3DSegmentLib.geometry import Volume

STORED_AS = {"b1": "u1", "f2": "f4", "i8": "f8", "u8": "f8"}
"""NumPy types that VTK cannot hold or Slicer cannot draw, and the type that takes their place."""


def volume_from_node(volume_node: slicer.vtkMRMLVolumeNode) -> Volume:
    """The voxels and the IJK-to-RAS matrix of a volume node, its parent transform left aside.

    The voxels are a read-only view on the node's memory, nothing is copied.

    Raises:
        ScanError: the node holds no voxels, or more than one number per voxel (colours, frames, vectors).
    """
    image = volume_node.GetImageData()
    scalars = image.GetPointData().GetScalars() if image else None
    if not scalars or not scalars.GetNumberOfTuples():
        raise ScanError(f"{volume_node.GetName()} holds no voxels: load its image first, or choose another volume.")
    components = scalars.GetNumberOfComponents()
    if components != 1:
        raise ScanError(
            f"{volume_node.GetName()} holds {components} numbers per voxel: choose one scalar 3D volume "
            "(for a 4D series pick one frame, for a colour image convert it to grey values)."
        )
    voxels = vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1])
    voxels.flags.writeable = False
    return Volume(voxels, slicer.util.arrayFromVTKMatrix(ijk_to_ras(volume_node)))


def ijk_to_ras(volume_node: slicer.vtkMRMLVolumeNode) -> vtkMatrix4x4:
    matrix = vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    return matrix


def add_volume(scene: slicer.vtkMRMLScene, volume: Volume, name: str) -> slicer.vtkMRMLScalarVolumeNode:
    """A new scalar volume node that holds a copy of `volume`.

    A left-handed volume is flipped along K, as Slicer's reader does: every voxel keeps its place in the patient.
    """
    voxels, affine = volume.voxels, volume.ijk_to_ras
    if np.linalg.det(affine[:3, :3]) < 0:
        affine = affine.copy()
        affine[:3, 3] = volume.ras((len(voxels) - 1, 0, 0))
        affine[:3, 2] *= -1
        voxels = voxels[::-1]
    stored = STORED_AS.get(voxels.dtype.str[1:], voxels.dtype.newbyteorder("="))
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(affine))
    slicer.util.updateVolumeFromArray(node, voxels.astype(stored, copy=False))
    node.CreateDefaultDisplayNodes()
    return node


def transform_between(
    source: slicer.vtkMRMLTransformableNode | None, target: slicer.vtkMRMLTransformableNode | None
) -> vtkGeneralTransform:
    """From the RAS of one node to that of another, linear or not; None stands for the world.

    A non-linear transform is inverted to 0.001 mm.
    """
    transform = vtkGeneralTransform()
    source_transform, target_transform = (node and node.GetParentTransformNode() for node in (source, target))
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(source_transform, target_transform, transform)
    return transform
