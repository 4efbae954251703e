"""The layouts in which scans and masks come: which file belongs to which case and patient, in each of them."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from SAM3DSegmentLib.errors import CaseError, ConfigurationError
from SAM3DSegmentLib.evaluation.cases import MODALITY
from SAM3DSegmentLib.scan import ITK_ENDINGS, NIFTI_ENDINGS
from training.configuration import Layout
from training.dataset import SPLITS, Split

ENDINGS = (*NIFTI_ENDINGS, *ITK_ENDINGS)
KITS_MASKS = ("segmentation.nii.gz", "aggregated_MAJ_seg.nii.gz")
"""Of KiTS23 and of KiTS21."""

FIRST_CHANNEL = "_0000"
CSV_COLUMNS = ("image", "mask", "patient")


@dataclass(frozen=True)
class SourceCase:
    """A scan and its label map as they came; either file may turn out to be missing.

    Attributes:
        split: where the layout gives one; None where it is drawn.
    """

    name: str
    patient: str
    image: Path
    mask: Path
    split: Split | None = None


def find_cases(layout: Layout, source: Path | None) -> list[SourceCase]:
    """The cases of a folder (of a table for the layout "csv"), in order of name.

    Raises:
        ConfigurationError: no source is given.
        CaseError: the source is missing, does not have the layout, or gives one name to several cases.
    """
    if source is None:
        raise ConfigurationError("No scans are named: add --set source=FOLDER (a table for the layout csv).")
    if not source.exists():
        raise CaseError(f"There is no {source}: give the folder of the scans (--set source=FOLDER).")
    finder, expected = LAYOUTS[layout]
    cases = sorted(finder(source), key=lambda case: case.name)
    if not cases:
        raise CaseError(f"{source} does not have the layout {layout!r} ({expected}): name another layout or folder.")
    name, count = Counter(case.name for case in cases).most_common(1)[0]
    if count > 1:
        raise CaseError(f"{count} cases of {source} have the name {name!r}: give each a name of its own.")
    return cases


def decathlon(folder: Path) -> list[SourceCase]:
    """Medical Segmentation Decathlon: the training pairs that `dataset.json` lists; one case, one patient."""
    path = folder / "dataset.json"
    if not path.is_file():
        return []
    try:
        pairs = json.loads(path.read_text(encoding="utf-8"))["training"]
        files = [(folder / pair["image"], folder / pair["label"]) for pair in pairs]
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise CaseError(f"{path} lists no pairs of image and label ({error!r}): restore it.") from error
    return [SourceCase(stem(image), stem(image), image, mask) for image, mask in files]


def kits(folder: Path) -> list[SourceCase]:
    """KiTS21 and KiTS23: `case_NNNNN/imaging.nii.gz` and the aggregated segmentation beside it."""
    cases = []
    for image in folder.glob("case_*/imaging.nii.gz"):
        masks = [image.with_name(name) for name in KITS_MASKS]
        mask = next((path for path in masks if path.is_file()), masks[0])
        cases.append(SourceCase(image.parent.name, image.parent.name, image, mask))
    return cases


def lits(folder: Path) -> list[SourceCase]:
    """LiTS17: `volume-N` and `segmentation-N`, `.nii` or `.nii.gz`, in one folder or several below it."""
    masks = {stem(path): path for path in scans(folder, "segmentation-*")}
    cases = []
    for image in scans(folder, "volume-*"):
        name = stem(image)
        mask_name = name.replace("volume", "segmentation")
        cases.append(SourceCase(name, name, image, masks.get(mask_name, image.with_name(f"{mask_name}.nii"))))
    return cases


def nnunet(folder: Path) -> list[SourceCase]:
    """nnU-Net raw: the first channel of `imagesTr` with `labelsTr`.

    Where `labelsTs` is there, `imagesTs` are test cases.
    """
    cases = []
    splits: tuple[tuple[str, Split | None], ...] = (("Tr", None), ("Ts", "test"))
    for part, split in splits:
        labels = folder / f"labels{part}"
        if labels.is_dir():
            for image in scans(folder / f"images{part}", f"*{FIRST_CHANNEL}.*"):
                name = stem(image).removesuffix(FIRST_CHANNEL)
                cases.append(SourceCase(name, name, image, labels / f"{name}{ending(image)}", split))
    return cases


def pairs(folder: Path) -> list[SourceCase]:
    """`NAME_image` and `NAME_label`; the patient is the name without its modality: `STS_003_MR_T1` is of `STS_003`."""
    cases = []
    for image in scans(folder, "*_image.*"):
        name = stem(image).removesuffix("_image")
        mask = image.with_name(f"{name}_label{ending(image)}")
        cases.append(SourceCase(name, MODALITY.sub("", name), image, mask))
    return cases


def table(file: Path) -> list[SourceCase]:
    """A CSV file with the columns image, mask, patient and, if there are any, split and name; paths start beside it."""
    if not file.is_file():
        return []
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            rows = list(csv.DictReader(opened))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CaseError(f"The table {file} cannot be read ({error}): save it as CSV in UTF-8.") from error
    return [table_case(file, number, row) for number, row in enumerate(rows, 2)]


def table_case(file: Path, line: int, row: dict[str, str]) -> SourceCase:
    for column in CSV_COLUMNS:
        if not row.get(column):
            raise CaseError(f"Line {line} of {file} has no {column!r}: fill the columns {', '.join(CSV_COLUMNS)}.")
    split = next((s for s in SPLITS if s == row.get("split")), None)
    if row.get("split") and split is None:
        raise CaseError(f"Line {line} of {file} has the split {row['split']!r}: write one of {', '.join(SPLITS)}.")
    image, patient = file.parent / row["image"], row["patient"]
    found = stem(image) if stem(image).startswith(patient) else f"{patient}_{stem(image)}"
    name = re.sub(r"[^\w.-]", "_", row.get("name") or found)
    return SourceCase(name, patient, image, file.parent / row["mask"], split)


def scans(folder: Path, pattern: str) -> list[Path]:
    """The scan files below a folder by a pattern of their names, without the shadow files that macOS leaves."""
    return [path for path in folder.rglob(pattern) if ending(path) and not path.name.startswith(".")]


def ending(path: Path) -> str:
    """`.nii.gz` of `scan.nii.gz`; "" for what is no scan file."""
    return max((e for e in ENDINGS if path.name.endswith(e)), key=len, default="")


def stem(path: Path) -> str:
    """`scan` of `scan.nii.gz`."""
    return path.name.removesuffix(ending(path))


LAYOUTS: dict[Layout, tuple[Callable[[Path], list[SourceCase]], str]] = {
    "decathlon": (decathlon, "a dataset.json that lists the training pairs"),
    "kits": (kits, "case_NNNNN/imaging.nii.gz with segmentation.nii.gz or aggregated_MAJ_seg.nii.gz"),
    "lits": (lits, "volume-N.nii and segmentation-N.nii"),
    "nnunet": (nnunet, "imagesTr/NAME_0000.nii.gz and labelsTr/NAME.nii.gz"),
    "csv": (table, "a table with the columns image, mask, patient and at least one line"),
    "pairs": (pairs, "NAME_image.nii.gz and NAME_label.nii.gz"),
}
"""The function that finds the cases of each layout, and what it looks for."""
