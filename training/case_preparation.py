"""One case of a data set: read, checked, resampled and written, with a record that says from what and how."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SAM3DSegmentLib.errors import CaseError, ScanError
from SAM3DSegmentLib.evaluation.cases import SAME_GRID_MM
from SAM3DSegmentLib.geometry import Crop, Float32Array, Index, Volume, trim
from SAM3DSegmentLib.scan import read_any, read_scan
from training.configuration import Configuration
from training.dataset import ANTIALIAS, IMAGE_SUFFIX, MASK_SUFFIX, index_from, write_beside
from training.layouts import SourceCase

RECORD_SUFFIX = ".case.json"
INT16 = np.iinfo(np.int16)

NARROWEST_SPAN = 100
"""A scan whose values span less than this loses detail as whole numbers."""


@dataclass(frozen=True)
class CaseRecord:
    """What is kept of a prepared case beside its arrays; written last, so it vouches for them.

    Attributes:
        made_from: the files it came from, their sizes and times, and how it was prepared.
        shape, foreground, low, high: as in `PreparedCase`.
        values, counts: each intensity of the target's voxels, ascending, and how many have it; empty for the
            intensity "crop".
    """

    made_from: dict[str, Any]
    shape: Index
    foreground: int
    low: Index
    high: Index
    values: tuple[int, ...]
    counts: tuple[int, ...]


def prepare_case(case: SourceCase, configuration: Configuration) -> CaseRecord:
    """Bring a case into the data set's folder; one that is there already, from the same files, is left as it is.

    Raises:
        ScanError: a file is missing or unreadable, or the scan holds NaN or a single value.
        CaseError: scan and label map lie on different grids, or the label map does not hold what is expected.
        ExportError: the folder cannot be written.
    """
    made_from = origin_of(case, configuration)
    earlier = read_record(configuration.data, case.name)
    if earlier and earlier.made_from == made_from:
        return earlier
    volume, target = read_checked(case, configuration)
    grid = whole_grid(volume, configuration.spacing)
    mask = grid.cut(target, ANTIALIAS)[0] >= 0.5
    if not mask.any():
        raise CaseError(f"the target is so small that it vanishes at {configuration.spacing:g} mm")
    image = as_int16(grid.cut(volume.voxels, ANTIALIAS)[0], volume, configuration)
    whole = (slice(0, mask.shape[0]), slice(0, mask.shape[1]), slice(0, mask.shape[2]))
    box, inner = trim(whole, mask)
    values, counts = np.unique(image[box][inner], return_counts=True)
    window = configuration.intensity == "window"
    record = CaseRecord(
        made_from,
        index_from(mask.shape),
        int(inner.sum()),
        index_from([b.start for b in box]),
        index_from([b.stop for b in box]),
        tuple(int(v) for v in values) if window else (),
        tuple(int(c) for c in counts) if window else (),
    )
    write_case(configuration.data, case.name, image, mask.astype(np.uint8), record)
    return record


def origin_of(case: SourceCase, configuration: Configuration) -> dict[str, Any]:
    """What a prepared case depends on, as JSON holds it."""
    files = []
    for path in (case.image, case.mask):
        if not path.is_file():
            raise ScanError(f"there is no file {path}")
        state = path.stat()
        files.append([str(path.resolve()), state.st_size, state.st_mtime_ns])
    c = configuration
    return {
        "files": files,
        "label": list(c.label),
        "known_labels": list(c.known_labels),
        "spacing": c.spacing,
        "intensity": c.intensity,
    }


def read_checked(case: SourceCase, configuration: Configuration) -> tuple[Volume, NDArray[np.bool_]]:
    """The scan and its target [K, J, I] on the same grid."""
    volume, labels = read_scan(case.image), read_any(case.mask)
    if volume.voxels.shape != labels.voxels.shape:
        raise CaseError(
            f"scan and label map lie on different grids ({describe(volume)} and {describe(labels)} voxels): "
            "resample the label map to the scan"
        )
    if not np.allclose(volume.ijk_to_ras, labels.ijk_to_ras, atol=SAME_GRID_MM):
        raise CaseError("scan and label map lie at different places in space: resample the label map to the scan")
    target = np.isin(labels.voxels, configuration.label)
    beyond = labels_beyond(labels.voxels, configuration.known_labels)
    if beyond:
        raise CaseError(f"the label map holds {beyond}, beyond the expected {expected_labels(configuration)}")
    if not target.any():
        raise CaseError(f"the label map is empty: no voxel of label {listed(configuration.label)}")
    return volume, target


def labels_beyond(voxels: NDArray[Any], known: tuple[int, ...]) -> str:
    """The first few values that no label map, or not this one, may hold; "" where there is none."""
    if known:
        expected = voxels == 0
        for value in known:
            expected |= voxels == value
    else:
        expected = voxels == np.rint(voxels) if voxels.dtype.kind == "f" else np.ones(1, bool)
    if expected.all():
        return ""
    found = np.unique(voxels[~expected])
    return ", ".join(f"{value:g}" for value in found[:5]) + (", ..." if len(found) > 5 else "")


def expected_labels(configuration: Configuration) -> str:
    return listed((0, *configuration.known_labels)) if configuration.known_labels else "whole numbers"


def listed(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))


def describe(volume: Volume) -> str:
    return " x ".join(str(n) for n in reversed(volume.voxels.shape))


def whole_grid(volume: Volume, spacing: float) -> Crop:
    """The crop of voxels of `spacing` mm that covers the volume, centred on it."""
    axes, senses = volume.crop_axes
    start, step, shape = [], [], []
    for axis, sense in zip(axes, senses, strict=True):
        native, length = volume.spacing[axis], volume.voxels.shape[axis]
        size = max(1, round(length * native / spacing))
        step.append(sense * spacing / native)
        start.append((length - 1) / 2 - step[-1] * (size - 1) / 2)
        shape.append(size)
    return Crop(axes, (start[0], start[1], start[2]), (step[0], step[1], step[2]), (shape[0], shape[1], shape[2]))


def as_int16(image: Float32Array, volume: Volume, configuration: Configuration) -> NDArray[np.int16]:
    """[D, H, W], as `PreparedCase.image` describes it."""
    low, high = float(volume.voxels.min()), float(volume.voxels.max())
    if configuration.intensity == "crop":
        image = (image - low) * ((INT16.max - INT16.min) / (high - low)) + INT16.min
    elif high - low < NARROWEST_SPAN:
        raise CaseError(
            f"the scan's values span {low:g} to {high:g} only and would be lost as whole numbers: "
            "scale them to the scanner's units, or set intensity: crop"
        )
    return np.clip(np.rint(image), INT16.min, INT16.max).astype(np.int16)


def write_case(folder: Path, name: str, image: NDArray[np.int16], mask: NDArray[np.uint8], record: CaseRecord) -> None:
    """An empty record first, the arrays, and last the record that vouches for them."""
    record_path = folder / f"{name}{RECORD_SUFFIX}"
    write_beside(record_path, b"")
    write_beside(folder / f"{name}{IMAGE_SUFFIX}", image)
    write_beside(folder / f"{name}{MASK_SUFFIX}", mask)
    write_beside(record_path, json.dumps(asdict(record)).encode())


def read_record(folder: Path, name: str) -> CaseRecord | None:
    """The record of a case whose arrays are there; None where it has to be prepared (again)."""
    path = folder / f"{name}{RECORD_SUFFIX}"
    if not all((folder / f"{name}{suffix}").is_file() for suffix in (IMAGE_SUFFIX, MASK_SUFFIX, RECORD_SUFFIX)):
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        boxes = {key: index_from(content[key]) for key in ("shape", "low", "high")}
        lists = {key: tuple(content[key]) for key in ("values", "counts")}
        return CaseRecord(**{**content, **boxes, **lists})
    except (OSError, ValueError, TypeError, LookupError):
        return None
