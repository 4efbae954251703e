"""What a checkpoint in our format says of itself: JSON in the header of its safetensors file."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from SAM3DSegmentLib.errors import CheckpointError
from SAM3DSegmentLib.intensity import CropStatistics, FixedWindow
from SAM3DSegmentLib.models.header import METADATA_KEY
from SAM3DSegmentLib.specification import Specification

COMPACT = "compact"
SAM_ADAPTER = "sam-adapter"
LARGEST_SIZE = 1 << 14

KINDS: dict[str, type] = {
    "architecture": str,
    "name": str,
    "version": str,
    "task": str,
    "spacings": list,
    "signed": bool,
    "antialias": bool,
    "training_data": str,
    "metrics": dict,
    "licence": str,
    "sizes": dict,
}


@dataclass(frozen=True)
class Metadata:
    """A trained network, described by whoever trained it.

    Attributes:
        name, version: of the model.
        task: what it segments.
        intensity: how its crop is normalised.
        spacings: voxel sizes in mm of its zoom levels, ascending.
        signed: whether it was trained with exclude clicks.
        antialias: whether a crop coarser than the voxels averages them.
        training_data: which data it learned from, in words.
        metrics: figures by name.
        licence: of the weights.
        architecture: "compact" or "sam-adapter"; the writer fills it in, as well as the two below.
        sizes: widths and counts that the network is built with.
        backbone_sha256: of the file with the frozen weights that the network stands on; None where it needs none.
    """

    name: str
    version: str
    task: str
    intensity: FixedWindow | CropStatistics
    spacings: tuple[float, ...]
    signed: bool
    antialias: bool
    training_data: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    licence: str = ""
    architecture: str = ""
    sizes: dict[str, Any] = field(default_factory=dict)
    backbone_sha256: str | None = None

    def specification(self, sha256: str, crop_size: int) -> Specification:
        """What the engine tells its clients of the network."""
        return Specification(
            self.name, self.version, sha256, crop_size, self.spacings, self.intensity, self.signed, self.antialias
        )

    def to_header(self) -> dict[str, str]:
        """Metadata of a safetensors file; `from_header` reads it back."""
        content = {**asdict(self), "intensity": asdict(self.intensity) or None, "spacings": list(self.spacings)}
        return {METADATA_KEY: json.dumps(content, sort_keys=True)}

    @classmethod
    def from_header(cls, header: dict[str, str], file: str) -> Metadata:
        """Read and check a header.

        Args:
            file: for the message.

        Raises:
            CheckpointError: the header is not ours, or says something impossible.
        """
        if METADATA_KEY not in header:
            raise CheckpointError(
                f"{file} is no SAM3DSegment checkpoint: choose one, or convert a published one first."
            )
        try:
            content = json.loads(header[METADATA_KEY])
            window = content["intensity"]
            intensity = (
                FixedWindow(**{key: finite(value) for key, value in window.items()}) if window else CropStatistics()
            )
            spacings = tuple(finite(value) for value in content["spacings"])
            metadata = cls(**{**content, "intensity": intensity, "spacings": spacings})
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise CheckpointError(
                f"The description in {file} is damaged ({error}): download or import it again."
            ) from error
        fault = fault_of(content, metadata)
        if fault:
            raise CheckpointError(f"The description in {file} is damaged ({fault}): download or import it again.")
        return metadata


def fault_of(content: dict[str, Any], metadata: Metadata) -> str | None:
    """What is impossible in a description; None where nothing is."""
    absent = [f.name for f in fields(Metadata) if f.name not in content]
    if absent:
        return f"no {', '.join(absent)}"
    for key, kind in KINDS.items():
        if not isinstance(content[key], kind):
            return f"{key} is no {kind.__name__}"
    backbone = metadata.backbone_sha256
    window = metadata.intensity
    faults = {
        "spacings": not metadata.spacings
        or min(metadata.spacings) <= 0
        or sorted(set(metadata.spacings)) != list(metadata.spacings),
        "intensity": isinstance(window, FixedWindow) and (window.low >= window.high or window.std <= 0),
        "backbone_sha256": backbone is not None
        and (not isinstance(backbone, str) or not re.fullmatch("[0-9a-f]{64}", backbone)),
    }
    return next((f"{key} makes no sense" for key, wrong in faults.items() if wrong), None)


def finite(value: Any) -> float:
    """The number, or `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def size(value: Any) -> int:
    """The count of channels, blocks or voxels, or `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= LARGEST_SIZE:
        raise ValueError(f"{value!r} is no size")
    return value
