"""The held-out cases on their scans' own grids, as `python -m training evaluate` reads them."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from SAM3DSegmentLib.errors import ExportError
from SAM3DSegmentLib.scan import read_any
from training.case_preparation import RECORD_SUFFIX
from training.configuration import Configuration
from training.dataset import write_beside
from training.layouts import SourceCase, ending

NATIVE_FOLDER = "native"
"""Within the data set's folder."""

TABLE = "cases.tsv"
COLUMNS = ("case", "label_value", "structure", "patient")
TARGET_LABEL = 1


def write_native_cases(cases: Sequence[SourceCase], configuration: Configuration) -> Path:
    """Write `NAME_label.nii.gz`, link `NAME_image.nii.gz` and list the cases in `cases.tsv`; returns the folder.

    The target has the value 1 in every label map. What an earlier run wrote of the same case is kept.

    Raises:
        ExportError: the folder cannot be written.
    """
    folder = configuration.data / NATIVE_FOLDER
    try:
        folder.mkdir(exist_ok=True)
        for case in tqdm(cases, desc="held-out cases", unit="case"):
            image, label = (folder / f"{case.name}_{kind}.nii.gz" for kind in ("image", "label"))
            record = configuration.data / f"{case.name}{RECORD_SUFFIX}"
            if image.exists() and label.exists() and label.stat().st_mtime_ns >= record.stat().st_mtime_ns:
                continue
            link_or_convert(case.image, image)
            labels = read_any(case.mask)
            target = np.isin(labels.voxels, configuration.label) * np.uint8(TARGET_LABEL)
            save_nifti(target, labels.ijk_to_ras, label)
    except OSError as error:
        raise ExportError(
            f"The held-out cases cannot be written to {folder} ({error.strerror or error}): free space there."
        ) from error
    table = io.StringIO()
    writer = csv.writer(table, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((case.name, TARGET_LABEL, configuration.task, case.patient) for case in cases)
    write_beside(folder / TABLE, table.getvalue().encode())
    return folder


def link_or_convert(scan: Path, target: Path) -> None:
    """The scan under another name: a link, a copy where links are not to be had, or NIfTI made from another format."""
    target.unlink(missing_ok=True)
    if ending(scan) != ".nii.gz":
        volume = read_any(scan)
        save_nifti(volume.voxels, volume.ijk_to_ras, target)
        return
    try:
        target.symlink_to(scan.resolve())
    except (OSError, NotImplementedError):
        shutil.copyfile(scan, target)


def save_nifti(voxels: NDArray[Any], ijk_to_ras: NDArray[np.float64], target: Path) -> None:
    """Write [K, J, I] beside the target, then rename."""
    partial = target.with_name(f".{target.name}")
    try:
        nibabel.save(nibabel.Nifti1Image(voxels.T, ijk_to_ras), partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
