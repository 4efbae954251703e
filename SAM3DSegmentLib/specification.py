"""What the segmenter must know of a network: how to cut and normalise a crop for it, and what it can read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from SAM3DSegmentLib.intensity import CropStatistics, FixedWindow


@dataclass(frozen=True)
class Specification:
    """A loaded network, as the engine describes it to its clients.

    Attributes:
        name: of the model, for example "compact".
        version: of the model.
        sha256: of the checkpoint file, hexadecimal.
        crop_size: edge of its cubic crop in voxels.
        spacings: voxel sizes in mm of its zoom levels, ascending; one for a network without zoom.
        intensity: how its crop is normalised.
        signed: whether it was trained with exclude clicks.
        antialias: whether a crop coarser than the voxels averages them (else trilinear samples).
    """

    name: str
    version: str
    sha256: str
    crop_size: int
    spacings: tuple[float, ...]
    intensity: FixedWindow | CropStatistics
    signed: bool
    antialias: bool

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings and lists; `from_json` reads it back."""
        return {**asdict(self), "intensity": asdict(self.intensity), "spacings": list(self.spacings)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Specification:
        window = content["intensity"]
        intensity = FixedWindow(**window) if window else CropStatistics()
        return cls(**{**content, "spacings": tuple(content["spacings"]), "intensity": intensity})
