"""Scenes, volumes and transforms that the tests of the scene layer share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import slicer
import slicer.util
from vtkmodules.vtkCommonCore import vtkPoints
from vtkmodules.vtkCommonTransforms import vtkThinPlateSplineTransform

from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.scene.volumes import add_volume, transform_between

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "test"

SHAPE = (7, 20, 30)
TRANSFORMS = ("none", "linear", "nonlinear")


def oblique(handedness: int = 1) -> np.ndarray:
    """An oblique, anisotropic IJK-to-RAS matrix; left-handed for -1."""
    cz, sz, cx, sx = np.cos(0.5), np.sin(0.5), np.cos(0.3), np.sin(0.3)
    rotation = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([0.9, 1.1 * handedness, 3.0])
    affine[:3, 3] = -10, 5, 7
    return affine


def volume_node(scene, shape=SHAPE, handedness=1, transform="none"):
    """A node of noise; a left-handed one keeps its left-handed matrix."""
    voxels = np.random.default_rng(0).integers(-500, 500, shape).astype(np.int16)
    node = add_volume(scene, Volume(voxels, oblique()), "Volume")
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(oblique(handedness)))
    put_under(node, transform)
    return node


def put_under(node, transform: str) -> None:
    """Give the node a parent transform: "none", "linear" (rotation and shift) or "nonlinear" (thin plate spline)."""
    if transform == "none":
        return
    parent = node.GetScene().AddNewNodeByClass("vtkMRMLTransformNode", transform)
    if transform == "linear":
        matrix = np.eye(4)
        matrix[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
        matrix[:3, 3] = 11, -22, 33
        parent.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    else:
        spline, sources, targets = vtkThinPlateSplineTransform(), vtkPoints(), vtkPoints()
        rng = np.random.default_rng(1)
        for point in rng.uniform(-40, 40, (8, 3)):
            sources.InsertNextPoint(point)
            targets.InsertNextPoint(point + rng.normal(0, 2, 3))
        spline.SetSourceLandmarks(sources)
        spline.SetTargetLandmarks(targets)
        spline.SetBasisToR()
        parent.SetAndObserveTransformToParent(spline)
    node.SetAndObserveTransformNodeID(parent.GetID())


def world_to_volume_ras(node, world):
    """A position in world RAS mm, as it is seen in the views, in the volume's own RAS (before its parent transform)."""
    return transform_between(None, node).TransformPoint(world)


def volume_ras_to_world(node, ras):
    return transform_between(node, None).TransformPoint(ras)


def whole(shape) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in shape)


def on_grid(shape, boxed) -> np.ndarray:
    """A (box, mask) pair as a mask of the whole grid."""
    full = np.zeros(shape, bool)
    box, mask = boxed
    full[box] = mask
    return full


@contextmanager
def scene_bundles(scene, cache: Path) -> Iterator[None]:
    """What Slicer's application adds to a scene to save it as one .mrb file and open that."""
    remote, manager = slicer.vtkMRMLRemoteIOLogic(), slicer.vtkDataIOManagerLogic()
    remote.SetMRMLScene(scene)
    remote.GetCacheManager().SetRemoteCacheDirectory(str(cache))
    remote.AddDataIOToScene()
    manager.SetMRMLApplicationLogic(slicer.applicationLogic)
    manager.SetMRMLScene(scene)
    manager.SetAndObserveDataIOManager(remote.GetDataIOManager())
    yield
    remote.RemoveDataIOFromScene()


def save_and_reopen(scene, folder: Path) -> None:
    """The scene through an .mrb file in `folder`: every node is a new one."""
    with scene_bundles(scene, folder / "cache"):
        assert scene.WriteToMRB(str(folder / "scene.mrb"))
        scene.Clear(0)
        assert scene.ReadFromMRB(str(folder / "scene.mrb"))


def node_ids(scene) -> set[str]:
    return {scene.GetNthNode(index).GetID() for index in range(scene.GetNumberOfNodes())}
