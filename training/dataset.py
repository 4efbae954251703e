"""A prepared data set: what `python -m training prepare` writes, and training and evaluation read.

A folder of `dataset.json` and, for each case, `NAME.image.npy` (int16) and `NAME.mask.npy` (uint8, 0 or 1), both
[D, H, W] on one isotropic grid: D towards superior, H towards anterior, W towards right; uncompressed, read in place.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from SAM3DSegmentLib.errors import CaseError, ExportError
from SAM3DSegmentLib.geometry import Index
from SAM3DSegmentLib.intensity import CropStatistics, FixedWindow

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Intensity = FixedWindow | CropStatistics

DATASET_FILE = "dataset.json"
IMAGE_SUFFIX = ".image.npy"
MASK_SUFFIX = ".mask.npy"

ANTIALIAS = True
"""Prepared voxels wider than the scan's are means over their extent; a model trained on them says so."""


@dataclass(frozen=True)
class PreparedCase:
    """One scan and the mask of its target.

    Attributes:
        name: of the case, and of its files.
        patient: whose scans all lie in one split.
        shape: voxels along D, H, W.
        foreground: voxels of the target.
        low, high: the target's extent in voxels along D, H, W; `high` is the first index beyond it.
        folder: of the data set.
    """

    name: str
    patient: str
    split: Split
    shape: Index
    foreground: int
    low: Index
    high: Index
    folder: Path

    def image(self) -> NDArray[np.int16]:
        """[D, H, W], a read-only map of the file.

        In the scan's own units (HU for CT) in a data set with a `FixedWindow`. With `CropStatistics`, which read every
        scale alike, a scan's range from its lowest to its highest voxel is stretched to that of 16-bit integers.

        Raises:
            CaseError: the file is missing or damaged.
        """
        return self._read(IMAGE_SUFFIX)

    def mask(self) -> NDArray[np.uint8]:
        """[D, H, W], 1 in the target and 0 elsewhere, a read-only map of the file.

        Raises:
            CaseError: the file is missing or damaged.
        """
        return self._read(MASK_SUFFIX)

    def _read(self, suffix: str) -> NDArray[Any]:
        path = self.folder / f"{self.name}{suffix}"
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise CaseError(f"{path} is missing or damaged ({error}): prepare the data set again.") from error
        if array.shape != self.shape:
            raise CaseError(f"{path} has shape {array.shape} instead of {self.shape}: prepare the data set again.")
        return array


@dataclass(frozen=True)
class PreparedDataset:
    """The cases of one task.

    Attributes:
        folder: where they lie.
        task: what the target is, in words.
        spacing: edge of a voxel in mm.
        intensity: the training cases' 0.5 and 99.5 percentiles, mean and deviation of the target's voxels; or
            `CropStatistics` for scans without a common scale (MR).
        cases: in order of name.
    """

    folder: Path
    task: str
    spacing: float
    intensity: Intensity
    cases: tuple[PreparedCase, ...]

    def of_split(self, split: Split) -> tuple[PreparedCase, ...]:
        """The cases of one split."""
        return tuple(case for case in self.cases if case.split == split)

    def save(self) -> None:
        """Write `dataset.json`; the arrays lie in the folder already.

        Raises:
            ExportError: the folder cannot be written.
        """
        cases = [{key: value for key, value in asdict(case).items() if key != "folder"} for case in self.cases]
        content = {
            "task": self.task,
            "spacing": self.spacing,
            "intensity": asdict(self.intensity) or None,
            "cases": cases,
        }
        write_beside(self.folder / DATASET_FILE, json.dumps(content, indent=1).encode())

    @classmethod
    def load(cls, folder: Path) -> PreparedDataset:
        """The data set of a folder.

        Raises:
            CaseError: nothing was prepared there, or its description is damaged.
        """
        path = folder / DATASET_FILE
        if not path.is_file():
            raise CaseError(f"{folder} holds no prepared data set: run `python -m training prepare` first.")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            window = content["intensity"]
            return cls(
                folder,
                content["task"],
                float(content["spacing"]),
                FixedWindow(**window) if window else CropStatistics(),
                tuple(_case_from(record, folder) for record in content["cases"]),
            )
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise CaseError(f"{path} is damaged ({error}): prepare the data set again.") from error


def _case_from(record: dict[str, Any], folder: Path) -> PreparedCase:
    if record["split"] not in SPLITS:
        raise ValueError(f"no split {record['split']!r}")
    boxes = {key: index_from(record[key]) for key in ("shape", "low", "high")}
    return PreparedCase(**{**record, **boxes, "folder": folder})


def index_from(values: Sequence[int]) -> Index:
    """Three whole numbers of a JSON list."""
    d, h, w = values
    return int(d), int(h), int(w)


def write_beside(target: Path, content: bytes | NDArray[Any]) -> None:
    """Write bytes, or an array as `.npy`, under another name and give it its own once it is complete.

    An earlier file of that name stays until then.

    Raises:
        ExportError: the folder cannot be written.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                np.save(file, np.ascontiguousarray(content))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    except OSError as error:
        raise ExportError(
            f"{target} cannot be written ({error.strerror or error}): free space or choose another folder."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
