"""Scans from every kind of file, and every kind of bad one; clicks from text."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from SAM3DSegmentLib.errors import ClickFormatError, ClickOutsideError, ScanError
from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.scan import parse_point, read_scan

VOXELS = np.arange(4 * 4 * 5, dtype=np.int16).reshape(4, 4, 5)
AFFINE = np.array([[-0.7, 0, 0, 10], [0, -0.8, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1]])


def write_nifti(path: Path, voxels: np.ndarray = VOXELS) -> Path:
    """Voxels (..., K, J, I) as the file's (I, J, K, ...)."""
    nibabel.save(nibabel.Nifti1Image(voxels.T, AFFINE), path)
    return path


def write_itk(path: Path, voxels: np.ndarray = VOXELS, is_vector: bool = False) -> Path:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels, isVector=is_vector), str(path))
    return path


def write_series(
    folder: Path, uid: str = "1.2.3", description: str = "Liver", left_out: int | None = None, error_mm: float = 0
) -> Path:
    """A DICOM series of `VOXELS` on the grid of `AFFINE`, its files named against the order of the slices."""
    folder.mkdir(exist_ok=True)
    image = SimpleITK.GetImageFromArray(VOXELS)
    image.SetSpacing((0.7, 0.8, 2.5))
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(VOXELS.shape[0]):
        if k == left_out:
            continue
        slice_ = image[:, :, k]
        tags = {
            "0008|0018": f"{uid}.{k + 1}",
            "0008|0060": "CT",
            "0008|103e": description,
            "0020|000d": "1.2",
            "0020|000e": uid,
            "0020|0032": f"-10\\-20\\{30 + 2.5 * k + error_mm * (k == 1)}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|1052": "-1024",
            "0028|1053": "1",
        }
        for tag, value in tags.items():
            slice_.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{uid}-{9 - k}.dcm"))
        writer.Execute(slice_)
    return folder


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "SCAN.NII.GZ"])
def test_nifti_keeps_its_integers_and_its_grid(tmp_path, name):
    volume = read_scan(write_nifti(tmp_path / name))
    np.testing.assert_array_equal(volume.voxels, VOXELS)
    np.testing.assert_allclose(volume.ijk_to_ras, AFFINE, atol=1e-6)
    assert volume.voxels.dtype == np.int16


def test_the_scaling_in_a_nifti_header_is_applied(tmp_path):
    image = nibabel.Nifti1Image(VOXELS.T, AFFINE)
    image.header.set_slope_inter(0.5, -1000)
    nibabel.save(image, tmp_path / "scan.nii")
    volume = read_scan(tmp_path / "scan.nii")
    np.testing.assert_array_equal(volume.voxels, 0.5 * VOXELS - 1000)


def test_big_endian_voxels_are_brought_to_the_machines_order(tmp_path):
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    nibabel.save(nibabel.Nifti1Image(VOXELS.T, AFFINE, header), tmp_path / "scan.nii")
    volume = read_scan(tmp_path / "scan.nii")
    assert volume.voxels.dtype.isnative
    np.testing.assert_array_equal(volume.voxels, VOXELS)


@pytest.mark.parametrize("name", ["scan.nrrd", "scan.nhdr", "scan.mha", "scan.mhd"])
def test_nrrd_and_metaimage_are_read(tmp_path, name):
    volume = read_scan(write_itk(tmp_path / name))
    np.testing.assert_array_equal(volume.voxels, VOXELS)
    np.testing.assert_allclose(volume.ijk_to_ras, np.diag([-1, -1, 1, 1]))


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.nrrd", "scan.mha"])
def test_a_series_of_one_frame_is_a_volume(tmp_path, name):
    path = tmp_path / name
    if name.endswith(".gz"):
        write_nifti(path, VOXELS[None])
    else:
        image = SimpleITK.JoinSeries([SimpleITK.GetImageFromArray(VOXELS)])
        SimpleITK.WriteImage(image, str(path))
    np.testing.assert_array_equal(read_scan(path).voxels, VOXELS)


def test_a_dicom_folder_is_read_in_the_order_of_its_slices(tmp_path):
    volume = read_scan(write_series(tmp_path / "series"))
    np.testing.assert_array_equal(volume.voxels, VOXELS)
    np.testing.assert_allclose(volume.ijk_to_ras, AFFINE, atol=1e-6)


def test_a_dicom_file_stands_for_its_series_and_chooses_among_several(tmp_path):
    folder = write_series(tmp_path / "series")
    write_series(folder, uid="1.2.4", description="Scout", left_out=3)
    assert read_scan(folder / "1.2.3-9.dcm").voxels.shape == (4, 4, 5)
    assert read_scan(folder / "1.2.4-9.dcm").voxels.shape == (3, 4, 5)
    with pytest.raises(ScanError, match=r"2 series: name a file .*Liver, 4 files.*Scout, 3 files"):
        read_scan(folder)


def test_a_dicom_series_with_a_missing_slice_is_refused(tmp_path):
    folder = write_series(tmp_path / "series", left_out=1)
    with pytest.raises(ScanError, match="missing"):
        read_scan(folder)


def test_a_dicom_series_with_a_doubled_slice_is_refused(tmp_path):
    folder = write_series(tmp_path / "series")
    shutil.copy(folder / "1.2.3-7.dcm", folder / "again.dcm")
    with pytest.raises(ScanError, match="doubled"):
        read_scan(folder)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(ScanError, match=r"no file or folder .*absent\.nii"):
        read_scan(tmp_path / "absent.nii")


def test_a_folder_without_dicom_is_refused(tmp_path):
    write_nifti(tmp_path / "scan.nii")
    with pytest.raises(ScanError, match="no DICOM series"):
        read_scan(tmp_path)


@pytest.mark.parametrize("name", ["notes.txt", "scan", "scan.npy", "scan.dcm"])
def test_a_file_of_another_kind_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(ScanError, match="choose DICOM or one of"):
        read_scan(tmp_path / name)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.97])
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan.nrrd", "scan.mha"])
def test_a_truncated_file_is_refused(tmp_path, name, share):
    write = write_nifti if ".nii" in name else write_itk
    path = write(tmp_path / name, np.random.default_rng(0).integers(0, 1000, (9, 9, 9)).astype(np.int16))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ScanError, match="damaged, cut short"):
        read_scan(path)


def test_a_dicom_series_with_rounded_positions_is_read(tmp_path):
    assert read_scan(write_series(tmp_path / "series", error_mm=0.05)).spacing == pytest.approx((2.5, 0.8, 0.7))


def test_a_truncated_dicom_slice_is_refused(tmp_path):
    folder = write_series(tmp_path / "series")
    content = (folder / "1.2.3-8.dcm").read_bytes()
    (folder / "1.2.3-8.dcm").write_bytes(content[:-20])
    with pytest.raises(ScanError, match="missing"):
        read_scan(folder)
    with pytest.raises(ScanError, match="no scan that can be read"):
        read_scan(folder / "1.2.3-8.dcm")


@pytest.mark.parametrize(
    ("name", "voxels", "message"),
    [
        ("scan.nii", VOXELS[0], "2 dimensions"),
        ("scan.nrrd", VOXELS[0], "2 dimensions"),
        ("scan.nii", np.stack([VOXELS, VOXELS]), "holds 2 volumes"),
        ("scan.nrrd", np.stack([VOXELS, VOXELS]), "holds 2 volumes"),
        ("scan.nii", np.full((4, 4, 5), 7, np.int16), "nothing to segment"),
        ("scan.nii", np.where(VOXELS == 3, np.nan, VOXELS).astype(np.float32), "NaN or infinite"),
        ("scan.nrrd", np.where(VOXELS == 3, np.inf, VOXELS).astype(np.float32), "NaN or infinite"),
        ("scan.nii", VOXELS.astype(np.complex64), "complex"),
    ],
)
def test_what_is_not_one_finite_volume_is_refused(tmp_path, name, voxels, message):
    write = write_nifti if name.endswith(".nii") else write_itk
    with pytest.raises(ScanError, match=message):
        read_scan(write(tmp_path / name, voxels))


def test_colours_are_refused(tmp_path):
    colours = np.stack([VOXELS.astype(np.uint8)] * 3, axis=-1)
    with pytest.raises(ScanError, match="3 values a voxel"):
        read_scan(write_itk(tmp_path / "scan.nrrd", colours, is_vector=True))
    rgb = np.zeros((5, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(rgb, AFFINE), tmp_path / "scan.nii")
    with pytest.raises(ScanError, match="colours"):
        read_scan(tmp_path / "scan.nii")


def test_messages_are_one_line_and_name_the_scan(tmp_path):
    (tmp_path / "scan.nrrd").write_text("NRRD0004\nnonsense\n")
    with pytest.raises(ScanError) as caught:
        read_scan(tmp_path / "scan.nrrd")
    assert "\n" not in str(caught.value)
    assert "scan.nrrd" in str(caught.value)


VOLUME = Volume(VOXELS, AFFINE)


@pytest.mark.parametrize("text", ["8.6,18.4,32.5", " 8.6, 18.4 ,32.5", "ijk:2,2,1", "ijk: 2, 2, 1"])
def test_a_click_is_read_in_millimetres_and_in_voxels(text):
    assert parse_point(text, VOLUME) == pytest.approx((8.6, 18.4, 32.5))


@pytest.mark.parametrize("text", ["", "1,2", "1,2,3,4", "a,b,c", "nan,1,2", "inf,1,2", "ijk:1,2", "1;2;3", "IJK:1,2,3"])
def test_a_click_that_is_not_three_numbers_is_refused(text):
    with pytest.raises(ClickFormatError, match="write R,A,S in mm"):
        parse_point(text, VOLUME)


@pytest.mark.parametrize("text", ["100,0,0", "ijk:5,0,0", "ijk:-1,0,0"])
def test_a_click_outside_the_scan_is_refused(text):
    with pytest.raises(ClickOutsideError):
        parse_point(text, VOLUME)
