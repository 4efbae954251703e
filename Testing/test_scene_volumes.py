"""Volume nodes become volumes and back, and positions find their way through parent transforms."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK
import slicer
import slicer.util
from hypothesis import given, settings
from hypothesis import strategies as st

from SAM3DSegmentLib.errors import ScanError
from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.scene.application import boot_scene
from SAM3DSegmentLib.scene.volumes import add_volume, volume_from_node
from Testing.scene_helpers import (
    DATA,
    SHAPE,
    TRANSFORMS,
    oblique,
    put_under,
    volume_node,
    volume_ras_to_world,
    world_to_volume_ras,
)

SCANS = sorted(DATA.glob("*_image.nii.gz"), key=lambda path: path.stat().st_size)[:4]


def test_boot_gives_the_same_scene_again():
    assert boot_scene() is boot_scene() is slicer.mrmlScene


def test_volume_is_a_view_on_the_nodes_memory(scene):
    node = volume_node(scene)
    volume = volume_from_node(node)
    slicer.util.arrayFromVolume(node)[2, 3, 4] = 1234
    assert volume.voxels[2, 3, 4] == 1234
    assert not volume.voxels.flags.writeable


@pytest.mark.parametrize("handedness", [1, -1])
@pytest.mark.parametrize("dtype", ["u1", "i2", ">i2", "i8", "f2", "f4", "f8", "b1"])
def test_voxel_keeps_its_value_and_place_in_a_new_node(scene, handedness, dtype):
    voxels = np.random.default_rng(0).integers(0, 2, SHAPE).astype(dtype)
    volume = Volume(voxels, oblique(handedness))
    node = add_volume(scene, volume, "Grüße")
    held = volume_from_node(node)
    assert np.linalg.det(held.ijk_to_ras[:3, :3]) > 0
    for index in ((0, 0, 0), (6, 19, 29), (2, 11, 5)):
        assert held.voxels[held.index(volume.ras(index))] == voxels[index]


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_world_position_returns_through_parent_transforms(scene, transform):
    node = volume_node(scene, transform=transform)
    ras = (3.0, 4.0, 5.0)
    world = volume_ras_to_world(node, ras)
    assert world_to_volume_ras(node, world) == pytest.approx(ras, abs=2e-3)
    assert (np.linalg.norm(np.subtract(world, ras)) > 0.5) == (transform != "none")


def test_world_position_passes_nested_transforms(scene):
    node = volume_node(scene, transform="linear")
    put_under(node.GetParentTransformNode(), "nonlinear")
    world = volume_ras_to_world(node, (1.0, 2.0, 3.0))
    assert world_to_volume_ras(node, world) == pytest.approx((1, 2, 3), abs=2e-3)


def test_node_without_voxels_is_refused(scene):
    with pytest.raises(ScanError, match="no voxels"):
        volume_from_node(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode"))


@pytest.mark.parametrize("components", [3, 4, 20])
def test_colours_and_frames_are_refused(scene, components):
    node = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode")
    slicer.util.updateVolumeFromArray(node, np.zeros((*SHAPE, components), np.uint8))
    with pytest.raises(ScanError, match=f"{components} numbers per voxel"):
        volume_from_node(node)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(1, 6)] * 3), st.sampled_from([1, -1]), st.integers(0, 10**6))
def test_any_grid_keeps_every_voxel_in_place(shape, handedness, seed):
    voxels = np.random.default_rng(seed).random(shape)
    volume = Volume(voxels, oblique(handedness))
    scene = boot_scene()
    held = volume_from_node(add_volume(scene, volume, "v"))
    scene.Clear(0)
    for index in np.ndindex(shape):
        assert held.voxels[held.index(volume.ras(index))] == voxels[index]


@pytest.mark.skipif(not SCANS, reason="the test scans (../shared/data/test) are absent")
@pytest.mark.parametrize("path", SCANS, ids=lambda path: path.name)
def test_scan_agrees_with_nibabel_and_simpleitk(scene, path):
    image = nibabel.load(path)
    node = add_volume(scene, Volume(np.asanyarray(image.dataobj).T, image.affine), path.name)
    held = volume_from_node(node)
    itk = SimpleITK.ReadImage(str(path))
    values = SimpleITK.GetArrayViewFromImage(itk)
    rng = np.random.default_rng(0)
    for k, j, i in rng.integers(0, values.shape, (50, 3)).tolist():
        ras = itk.TransformIndexToPhysicalPoint((i, j, k)) * np.array([-1, -1, 1])
        index = held.continuous_index(tuple(ras))
        assert np.abs(np.subtract(index, np.round(index))).max() < 1e-3
        assert held.voxels[held.index(tuple(ras))] == values[k, j, i]
