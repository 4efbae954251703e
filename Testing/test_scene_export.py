"""Exported files hold the same voxels at the same places for every reader, and a failed export leaves no trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK
import slicer
import slicer.util

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.errors import ExportError
from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.scene.export import export_segmentation
from SAM3DSegmentLib.scene.provenance import Provenance, read_provenance, write_provenance
from SAM3DSegmentLib.scene.segment_writer import SegmentWriter
from SAM3DSegmentLib.scene.segments import add_segment, create_segmentation, read_mask
from SAM3DSegmentLib.scene.volumes import add_volume, volume_from_node
from Testing.scene_helpers import DATA, SHAPE, TRANSFORMS, node_ids, on_grid, put_under, volume_node, whole

ROOT = Path(__file__).resolve().parents[1]
FORMATS = ("mask.seg.nrrd", "mask.nrrd", "mask.nii.gz")
NAMES = ("Tümör 肿瘤", "a|b:c")
COLORS = ((0.2, 0.4, 0.6), (1.0, 0.5, 0.0))
PROVENANCE = Provenance(
    (Click((1 / 3, -2.5, 7.0)), Click((0.1, 0.2, 0.3), False)), "co|mp:act", "1.0", "ab" * 32, "0.1.0"
)
NOBODY = 65534
SHARES = (0.3, 0.9, 0.999)
"""Of a file, that the full disk still takes."""


class Case:
    def __init__(self, scene, shape=SHAPE, handedness=1, transform="none"):
        self.volume = volume_node(scene, shape, handedness, transform)
        self.segmentation = create_segmentation(self.volume, "Tumours")
        self.ids = [add_segment(self.segmentation, name, color) for name, color in zip(NAMES, COLORS, strict=True)]
        labels = np.random.default_rng(0).integers(0, 3, shape)
        labels.flat[:2] = 1, 2
        self.masks = [labels == 1, labels == 2]
        self.labels = labels
        writer = SegmentWriter(scene)
        for segment_id, mask in zip(self.ids, self.masks, strict=True):
            writer.write_mask(self.segmentation, segment_id, self.volume, whole(shape), mask)
        write_provenance(self.segmentation, self.ids[0], PROVENANCE)

    def export(self, path):
        export_segmentation(self.segmentation, self.volume, path)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("handedness", [1, -1])
@pytest.mark.parametrize("name", FORMATS)
def test_simpleitk_finds_each_voxel_where_the_volume_has_it(scene, tmp_path, name, handedness, transform):
    case = Case(scene, handedness=handedness, transform=transform)
    case.export(tmp_path / name)
    volume, image = volume_from_node(case.volume), SimpleITK.ReadImage(str(tmp_path / name))
    values = SimpleITK.GetArrayFromImage(image)
    assert sorted(np.bincount(values.ravel())) == sorted(np.bincount(case.labels.ravel()))
    for k, j, i in np.ndindex(values.shape):
        ras = image.TransformIndexToPhysicalPoint((i, j, k)) * np.array([-1, -1, 1])
        index = volume.index(tuple(ras))
        assert volume.continuous_index(tuple(ras)) == pytest.approx(index, abs=1e-4)
        assert values[k, j, i] == case.labels[index]


@pytest.mark.parametrize("handedness", [1, -1])
def test_nibabel_and_pynrrd_read_the_same_grid(scene, tmp_path, handedness):
    case = Case(scene, handedness=handedness)
    for name in FORMATS:
        case.export(tmp_path / name)
    image = nibabel.load(tmp_path / "mask.nii.gz")
    assert np.array_equal(np.asarray(image.dataobj).T, case.labels)
    assert np.allclose(image.affine, volume_from_node(case.volume).ijk_to_ras, atol=1e-5)
    for name in FORMATS[:2]:
        data, header = nrrd.read(str(tmp_path / name))
        assert np.array_equal(data.T, case.labels)
        lps_to_ras = np.diag([-1, -1, 1])
        directions = lps_to_ras @ np.array(header["space directions"]).T
        assert header["space"] == "left-posterior-superior"
        assert np.allclose(directions, volume_from_node(case.volume).ijk_to_ras[:3, :3])


@pytest.mark.parametrize("shape", [(1, 20, 30), (7, 20, 1)])
@pytest.mark.parametrize("name", FORMATS)
def test_a_scan_one_voxel_thick_is_exported(scene, tmp_path, name, shape):
    case = Case(scene, shape)
    case.export(tmp_path / name)
    values = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / name)))
    assert np.array_equal(values.reshape(shape), case.labels)


def test_names_colours_and_records_survive_slicers_own_reader(scene, tmp_path):
    case = Case(scene)
    case.export(tmp_path / "mask.seg.nrrd")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(tmp_path / "mask.seg.nrrd"))
    loaded = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    assert storage.ReadData(loaded)
    assert loaded.GetSegmentation().GetSegmentIDs() == tuple(case.ids)
    for segment_id, name, color, mask in zip(case.ids, NAMES, COLORS, case.masks, strict=True):
        segment = loaded.GetSegmentation().GetSegment(segment_id)
        assert segment.GetName() == name
        assert segment.GetColor() == pytest.approx(color, abs=1e-5)
        assert np.array_equal(on_grid(SHAPE, read_mask(loaded, segment_id, case.volume)), mask)
    assert read_provenance(loaded, case.ids[0]) == PROVENANCE
    assert read_provenance(loaded, case.ids[1]) is None


def test_name_and_colour_in_the_file_are_the_users_not_the_terminologys(scene, tmp_path):
    case = Case(scene)
    case.segmentation.GetSegmentation().GetSegment(case.ids[1]).SetColorAutoGenerated(True)
    case.export(tmp_path / "mask.seg.nrrd")
    header = nrrd.read_header(str(tmp_path / "mask.seg.nrrd"))
    flags = [header[f"Segment{n}_{what}AutoGenerated"] for n in (0, 1) for what in ("Name", "Color")]
    assert flags == ["0", "0", "0", "1"]


def test_overlap_is_kept_in_seg_nrrd_and_the_last_wins_in_a_labelmap(scene, tmp_path):
    case = Case(scene)
    everything = np.ones(SHAPE, bool)
    SegmentWriter(scene).write_mask(case.segmentation, case.ids[0], case.volume, whole(SHAPE), everything)
    case.export(tmp_path / "mask.seg.nrrd")
    case.export(tmp_path / "mask.nrrd")
    data, _ = nrrd.read(str(tmp_path / "mask.seg.nrrd"))
    assert sorted(int((layer > 0).sum()) for layer in data) == sorted([everything.sum(), case.masks[1].sum()])
    labels, _ = nrrd.read(str(tmp_path / "mask.nrrd"))
    assert np.array_equal(labels.T, np.where(case.masks[1], 2, 1))


@pytest.mark.parametrize("name", FORMATS)
def test_segmentation_under_another_transform_is_exported_in_the_volumes_ras(scene, tmp_path, name):
    case = Case(scene)
    block = np.zeros(SHAPE, bool)
    block[2:5, 4:16, 5:25] = True
    empty = np.zeros(SHAPE, bool)
    put_under(case.volume, "linear")
    for segment_id, mask in zip(case.ids, (block, empty), strict=True):
        SegmentWriter(scene).write_mask(case.segmentation, segment_id, case.volume, whole(SHAPE), mask)
    case.export(tmp_path / name)
    image = SimpleITK.ReadImage(str(tmp_path / name))
    places = [
        image.TransformContinuousIndexToPhysicalPoint([float(c) for c in index[::-1]]) * np.array([-1, -1, 1])
        for index in np.argwhere(SimpleITK.GetArrayFromImage(image) > 0)
    ]
    assert volume_from_node(case.volume).continuous_index(tuple(np.mean(places, axis=0))) == pytest.approx(
        (3, 9.5, 14.5), abs=0.6
    )


def test_export_leaves_the_scene_as_it_was(scene, tmp_path):
    case = Case(scene)
    before, layers = node_ids(scene), case.segmentation.GetSegmentation().GetNumberOfLayers()
    for name in FORMATS:
        case.export(tmp_path / name)
    assert node_ids(scene) == before
    assert case.segmentation.GetSegmentation().GetNumberOfLayers() == layers
    assert case.segmentation.GetStorageNode() is None


def test_an_earlier_file_is_replaced(scene, tmp_path):
    case = Case(scene)
    for name in FORMATS:
        (tmp_path / name).write_text("earlier")
        case.export(tmp_path / name)
        assert SimpleITK.ReadImage(str(tmp_path / name)).GetSize() == SHAPE[::-1]
    assert files(tmp_path) == sorted(FORMATS)


@pytest.mark.parametrize("name", ["mask", "mask.txt", "mask.dcm", "mask.nii.zip"])
def test_unknown_suffix_is_refused_with_the_known_ones(scene, tmp_path, name):
    with pytest.raises(ExportError, match=r"\.seg\.nrrd, \.nrrd, \.nii\.gz"):
        Case(scene).export(tmp_path / name)
    assert not files(tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_missing_folder_is_refused(scene, tmp_path, name):
    with pytest.raises(ExportError, match="No such file or directory"):
        Case(scene).export(tmp_path / "missing" / name)


@pytest.mark.parametrize("name", FORMATS)
def test_folder_in_place_of_the_file_is_refused(scene, tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(ExportError, match="directory"):
        Case(scene).export(tmp_path / name)
    assert files(tmp_path) == [name]


@pytest.fixture
def ordinary_user():
    """Root may write everywhere; for once it is nobody."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    yield
    if root:
        os.seteuid(0)


@pytest.mark.parametrize("name", FORMATS)
def test_unwritable_folder_is_refused(scene, tmp_path, ordinary_user, name):
    case = Case(scene)
    if os.geteuid() != NOBODY:
        tmp_path.chmod(0o500)
    with pytest.raises(ExportError, match="Permission denied"):
        case.export(tmp_path / name)


def test_nothing_to_export_is_refused(scene, tmp_path):
    volume = volume_node(scene)
    with pytest.raises(ExportError, match="no segment"):
        export_segmentation(create_segmentation(volume, "Tumours"), volume, tmp_path / FORMATS[0])


ON_A_FULL_DISK = """
import resource, sys
import numpy as np
from SAM3DSegmentLib.errors import ExportError
from SAM3DSegmentLib.scene.application import boot_scene
from Testing.test_scene_export import Case, FORMATS

edge, share, folder = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
case = Case(boot_scene(), (edge, edge, edge))
sizes = {}
for name in FORMATS:
    case.export(f"{folder}/whole-{name}")
    with open(f"{folder}/whole-{name}", "rb") as file:
        sizes[name] = len(file.read())
for name in FORMATS:
    limit = int(share * sizes[name])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        case.export(f"{folder}/{name}")
        print("RESULT", name, "written")
    except ExportError as error:
        print("RESULT", name, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("edge", [8, 40])
def test_full_disk_leaves_the_earlier_file_and_no_partial_one(tmp_path, edge, share):
    for name in FORMATS:
        (tmp_path / name).write_text("earlier")
    command = [sys.executable, "-c", ON_A_FULL_DISK, str(edge), str(share), str(tmp_path)]
    child = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    results = [line for line in child.stdout.splitlines() if line.startswith("RESULT")]
    assert len(results) == len(FORMATS)
    assert all("free some disk space" in line for line in results), results
    assert "ERR|" not in child.stderr, "VTK says it too"
    left = {name: (tmp_path / name).read_text() for name in files(tmp_path) if not name.startswith("whole-")}
    assert left == dict.fromkeys(FORMATS, "earlier")


@pytest.mark.skipif(not DATA.exists(), reason="the test scans (../shared/data/test) are absent")
@pytest.mark.parametrize("name", FORMATS)
def test_structures_of_a_real_scan_lie_where_its_own_label_file_has_them(scene, tmp_path, name):
    path = min(DATA.glob("*_label.nii.gz"), key=lambda path: path.stat().st_size)
    image = nibabel.load(path)
    node = add_volume(scene, Volume(np.asanyarray(image.dataobj).T, image.affine), path.name)
    labels = volume_from_node(node).voxels
    value = int(labels.max())
    segmentation = create_segmentation(node, "Structures")
    segment_id = add_segment(segmentation, json.dumps(value), COLORS[0])
    SegmentWriter(scene).write_mask(segmentation, segment_id, node, whole(labels.shape), labels == value)
    export_segmentation(segmentation, node, tmp_path / name)
    written, reference = SimpleITK.ReadImage(str(tmp_path / name)), SimpleITK.ReadImage(str(path))
    resampled = SimpleITK.Resample(written, reference, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor)
    expected = SimpleITK.GetArrayViewFromImage(reference) == value
    assert np.array_equal(SimpleITK.GetArrayViewFromImage(resampled) > 0, expected)
