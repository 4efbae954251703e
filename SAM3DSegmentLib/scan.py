"""Scans read from files: NIfTI, NRRD, MetaImage and DICOM, each on its own grid; and clicks written as text."""

from __future__ import annotations

import logging
import os
import re
import zlib
from collections.abc import Sequence
from math import isfinite, prod
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK
from nibabel import imageglobals
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from SAM3DSegmentLib.errors import ClickFormatError, ScanError
from SAM3DSegmentLib.geometry import Point, Volume

NIFTI_ENDINGS = (".nii", ".nii.gz")
ITK_ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd")
DETACHED = re.compile(rb"^(data ?file:|ElementDataFile\s*=\s*(?!LOCAL))", re.IGNORECASE | re.MULTILINE)
"""In the header of an NRRD or MetaImage file whose voxels lie in another file."""

HEADER_BYTES = 1 << 16

SERIES_UID = "0020|000e"
SERIES_DESCRIPTION = "0008|103e"
SLICE_POSITION = "0020|0032"
UNEVEN_SLICES = "ITK_non_uniform_sampling_deviation"

WIDEST_STEP = 1.2
"""A step between slices of more than this many usual steps is a gap in the series, not rounding in its header."""

NARROWEST_STEP = 0.8
"""A step of less than this part of the usual one comes from a slice that is there twice."""

BEST_COMPRESSION = 1100
"""Bytes that one byte of a gzip file can stand for at most (1032): a header that claims more is damaged."""

VOXEL_INDEX_PREFIX = "ijk:"


def read_scan(path: Path) -> Volume:
    """The scan at `path` on the file's own grid: a NIfTI, NRRD or MetaImage file, a DICOM folder, or a DICOM file.

    A DICOM file stands for its whole series. Integers stay integers unless the header scales them; the values are
    the scaled ones (HU for CT).

    Raises:
        ScanError: nothing there, unreadable or truncated, no image, not one scalar 3D volume, voxels that are not
            finite or all alike, a DICOM folder with several series or a series with missing slices.
    """
    if not os.access(path, os.R_OK):
        raise ScanError(f"There is no file or folder {path} that you may read: check the path of the scan.")
    try:
        volume = read_any(path)
    except MemoryError as error:
        raise ScanError(f"{path} does not fit into memory: crop or resample it first.") from error
    volume.validate_intensities()
    return volume


def read_any(path: Path) -> Volume:
    name = path.name.lower()
    if path.is_dir():
        return read_dicom(only_series(path), path)
    if name.endswith(NIFTI_ENDINGS):
        return read_nifti(path)
    if name.endswith(ITK_ENDINGS):
        return read_itk(path)
    return read_dicom(series_of(path), path)


def read_nifti(path: Path) -> Volume:
    imageglobals.logger.setLevel(logging.CRITICAL)
    try:
        image: Any = nibabel.load(path, mmap=False)
        require_one_volume(path, image.shape)
        require_room(path, image.shape, image.get_data_dtype().itemsize)
        proxy = image.dataobj
        scaled = (proxy.slope, proxy.inter) != (1, 0)
        voxels = np.asarray(proxy, np.float32) if scaled else proxy.get_unscaled()
    except (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error) as error:
        raise unreadable(path) from error
    return make_volume(path, voxels.reshape(image.shape[:3]).T, image.affine)


def read_itk(path: Path) -> Volume:
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    SimpleITK.ProcessObject.GlobalWarningDisplayOff()
    try:
        reader.ReadImageInformation()
        size = reader.GetSize()
        require_one_volume(path, size, reader.GetNumberOfComponents())
        if not is_detached(path):
            require_room(path, size, 1)
        reader.SetExtractSize([*size[:3], *[0] * (len(size) - 3)])
        image = reader.Execute()
    except (RuntimeError, OSError) as error:
        raise unreadable(path) from error
    return make_volume(path, SimpleITK.GetArrayFromImage(image), itk_affine(image))


def is_detached(path: Path) -> bool:
    """Whether a NRRD or MetaImage header names another file for the voxels."""
    with path.open("rb") as file:
        return DETACHED.search(file.read(HEADER_BYTES)) is not None


def only_series(folder: Path) -> Sequence[str]:
    """The files of the one DICOM series in `folder`, in the order of their slices."""
    SimpleITK.ProcessObject.GlobalWarningDisplayOff()
    series = {uid: series_files(folder, uid) for uid in SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))}
    if not series:
        raise ScanError(f"The folder {folder} holds no DICOM series: choose the folder of one, or a scan file.")
    if len(series) > 1:
        found = "; ".join(
            f"{Path(files[0]).name} ({dicom_header(files[0])[1] or 'no description'}, {len(files)} files)"
            for files in series.values()
        )
        raise ScanError(f"The folder {folder} holds {len(series)} series: name a file of the one you want: {found}.")
    return next(iter(series.values()))


def series_of(path: Path) -> Sequence[str]:
    """The files of the DICOM series that the file `path` belongs to, in the order of their slices."""
    SimpleITK.ProcessObject.GlobalWarningDisplayOff()
    try:
        uid, _ = dicom_header(path)
    except RuntimeError as error:
        kinds = ", ".join((*NIFTI_ENDINGS, *ITK_ENDINGS))
        raise ScanError(f"{path} is no scan that can be read: choose DICOM or one of {kinds}.") from error
    return series_files(path.parent, uid) or (str(path),)


def series_files(folder: Path, uid: str) -> Sequence[str]:
    files: Sequence[str] = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
    return files


def dicom_header(path: str | Path) -> tuple[str, str]:
    """UID and description of the series of a DICOM file; "" for what is absent.

    Raises:
        RuntimeError: not a DICOM image.
    """
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    uid, description = (
        reader.GetMetaData(key).strip("\0 ") if reader.HasMetaDataKey(key) else ""
        for key in (SERIES_UID, SERIES_DESCRIPTION)
    )
    return uid, description


def read_dicom(files: Sequence[str], path: Path) -> Volume:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(files)
    reader.MetaDataDictionaryArrayUpdateOn()
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise unreadable(path) from error
    require_one_volume(path, image.GetSize(), image.GetNumberOfComponentsPerPixel())
    if image.HasMetaDataKey(UNEVEN_SLICES):
        positions = [reader.GetMetaData(n, SLICE_POSITION).split("\\") for n in range(len(files))]
        steps = np.linalg.norm(np.diff(np.array(positions, float), axis=0), axis=1)
        usual = np.median(steps)
        if steps.max() > WIDEST_STEP * usual or steps.min() < NARROWEST_STEP * usual:
            raise ScanError(f"Slices of the series in {path} are missing or doubled: export one complete series again.")
    return make_volume(path, SimpleITK.GetArrayFromImage(image), itk_affine(image))


def itk_affine(image: SimpleITK.Image) -> NDArray[np.float64]:
    """IJK-to-RAS of an ITK image, whose own system is LPS."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    affine[:2] *= -1
    return affine


def require_one_volume(path: Path, shape: Sequence[int], components: int = 1) -> None:
    """Raise `ScanError` unless `shape` (I, J, K, ...) is one frame of three axes with one value a voxel."""
    if components > 1:
        raise ScanError(
            f"{path} holds {components} values a voxel (colour or vectors): convert it to grey values first."
        )
    if len(shape) < 3:
        raise ScanError(f"{path} is a picture of {len(shape)} dimensions: choose a 3D scan.")
    if any(n > 1 for n in shape[3:]):
        raise ScanError(
            f"{path} holds {int(np.prod(shape[3:]))} volumes: save the one to segment as a file of its own."
        )


def require_room(path: Path, shape: Sequence[int], bytes_a_voxel: int) -> None:
    """Raise `ScanError` where a file is too short for the voxels that its header claims, before memory is taken."""
    if prod(map(int, shape)) * bytes_a_voxel > path.stat().st_size * BEST_COMPRESSION:
        raise unreadable(path)


def make_volume(path: Path, voxels: NDArray[Any], ijk_to_ras: NDArray[np.float64]) -> Volume:
    if voxels.dtype.kind not in "biuf":
        raise ScanError(f"{path} holds colours or complex numbers: convert it to grey values first.")
    return Volume(voxels.astype(voxels.dtype.newbyteorder("="), copy=False), ijk_to_ras)


def unreadable(path: Path) -> ScanError:
    return ScanError(
        f"{path} cannot be read: it is damaged, cut short or not what its name says; copy or export it again."
    )


def parse_point(text: str, volume: Volume) -> Point:
    """RAS mm of a point in the volume, written "R,A,S" in mm or "ijk:I,J,K" in voxels.

    Raises:
        ClickFormatError: anything else.
        ClickOutsideError: outside the volume.
    """
    try:
        first, second, third = (float(number) for number in text.removeprefix(VOXEL_INDEX_PREFIX).split(","))
    except ValueError as error:
        raise bad_click(text) from error
    if not all(map(isfinite, (first, second, third))):
        raise bad_click(text)
    in_voxels = text.startswith(VOXEL_INDEX_PREFIX)
    point = volume.ras((third, second, first)) if in_voxels else (first, second, third)
    volume.index(point)
    return point


def bad_click(text: str) -> ClickFormatError:
    return ClickFormatError(
        f"'{text}' is no click: write R,A,S in mm (as -55.7,-135.8,-949) or {VOXEL_INDEX_PREFIX}I,J,K in voxels."
    )
