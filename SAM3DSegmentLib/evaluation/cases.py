"""The cases of an evaluation: a folder of scans and label maps, and a table that lists the structures in them."""

from __future__ import annotations

import csv
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from SAM3DSegmentLib.errors import CaseError, ScanError
from SAM3DSegmentLib.geometry import BoolArray, Volume
from SAM3DSegmentLib.models.store import sha256_of
from SAM3DSegmentLib.scan import read_any, read_scan

MODALITY = re.compile(r"_(CT|MR|PT|PET|US)(_.*)?$")
TUMOUR = re.compile(r"tumou?r|sarcoma|gtv|cancer|carcinoma|lesion|metasta", re.IGNORECASE)
OEDEMA = re.compile(r"o?edema", re.IGNORECASE)
LABEL = re.compile(r"\d{1,18}")
"""Voxels hold no longer number."""

TUMOURS, OTHERS = "tumours", "others"
SAME_GRID_MM = 1e-2
"""Image and label may differ by so much in their matrices: rounding in the header."""


@dataclass(frozen=True)
class Structure:
    """One object to segment: the voxels of `label_value` in the label map of `case`, a scan of `patient`."""

    case: str
    label_value: int
    name: str
    patient: str

    @property
    def group(self) -> str:
        """`TUMOURS` where the name tells one (a GTV that is oedema is none), else `OTHERS`."""
        return TUMOURS if TUMOUR.search(self.name) and not OEDEMA.search(self.name) else OTHERS


def read_structures(table: Path, label_column: str = "label_value") -> list[Structure]:
    """The rows of a table separated by tabs: the columns `case` and `label_column`, `structure` and `patient` if there.

    Raises:
        CaseError: the table is missing, lacks a column or a case, lists nothing, or a label is no whole number.
    """
    try:
        # Spreadsheets begin the file with a byte order mark.
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter="\t")
            rows, columns = list(reader), reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CaseError(
            f"The table of cases {table} cannot be read: give a file of columns separated by tabs."
        ) from error
    if not rows:
        raise CaseError(f"The table {table} lists no case: add a header line and one line for each structure.")
    for column in ("case", label_column):
        if column not in columns:
            raise CaseError(
                f"The table {table} has no column {column!r} (it has {', '.join(columns)}): add or name it."
            )
    structures = []
    for row in rows:
        case, label = row["case"], row[label_column]
        if not case:
            raise CaseError(f"A line of {table} with the label {label!r} names no case: add it.")
        if not label or not LABEL.fullmatch(label):
            raise CaseError(f"The label {label!r} of case {case} in {table} is no whole number: correct it.")
        name, patient = row.get("structure") or f"label {label}", row.get("patient") or patient_of(case)
        structures.append(Structure(case, int(label), name, patient))
    return structures


def patient_of(case: str) -> str:
    """The case without its modality: `STS_003_CT` and `STS_003_MR_T1` are the patient `STS_003`."""
    return MODALITY.sub("", case)


def read_reference(folder: Path, structure: Structure) -> tuple[Volume, BoolArray]:
    """The scan of a structure and its reference mask [K, J, I] on the same grid.

    Raises:
        ScanError: `<case>_image.nii.gz` or `<case>_label.nii.gz` is missing or unreadable.
        CaseError: the two lie on different grids, or the label is absent.
    """
    image, labels = read_pair(folder, structure.case)
    reference = labels.voxels == structure.label_value
    if not reference.any():
        raise CaseError(f"Case {structure.case} holds no voxel of label {structure.label_value}: correct the table.")
    return image, reference


def digest_of_pair(folder: Path, case: str) -> str:
    """SHA-256 of scan and label map of a case, one behind the other.

    Raises:
        CaseError: one of them cannot be read.
    """
    try:
        return " ".join(sha256_of(path) for path in pair_of(folder, case))
    except OSError as error:
        raise CaseError(f"{error.filename} cannot be read ({error.strerror}): correct the table or --data.") from error


def pair_of(folder: Path, case: str) -> list[Path]:
    """Where scan and label map of a case lie."""
    return [folder / f"{case}_{kind}.nii.gz" for kind in ("image", "label")]


@lru_cache(maxsize=1)
def read_pair(folder: Path, case: str) -> tuple[Volume, Volume]:
    """Scan and label map of a case; the last one is kept, as the structures of one case follow each other."""
    image_path, label_path = pair_of(folder, case)
    image = read_scan(image_path)
    if not os.access(label_path, os.R_OK):
        raise ScanError(f"There is no label map {label_path} that you may read: add it, or correct the table.")
    # Not `read_scan`, which refuses a file of one value: an object may fill the whole of a cropped scan.
    labels = read_any(label_path)
    same_matrix = np.allclose(image.ijk_to_ras, labels.ijk_to_ras, atol=SAME_GRID_MM)
    if image.voxels.shape != labels.voxels.shape or not same_matrix:
        raise CaseError(f"Image and label of case {case} lie on different grids: resample the label to the image.")
    return image, labels
