"""What the panel tells the user beside the picture."""

from __future__ import annotations

from dataclasses import dataclass

from SAM3DSegmentLib.measure import Measurement


@dataclass(frozen=True)
class Status:
    """
    Attributes:
        message: one sentence, or empty.
        failed: whether the sentence tells of a failure.
        progress: the finished part of a running evaluation, 0 to 1; None where none runs, or only since a moment ago.
        measurement: of the present tumour; None where it is empty.
        seconds: from the last click to its mask.
        device: that the engine runs on; empty until it has loaded.
    """

    message: str = ""
    failed: bool = False
    progress: float | None = None
    measurement: Measurement | None = None
    seconds: float | None = None
    device: str = ""


def figures_text(status: Status) -> str:
    """One line with what is known of: volume in ml, longest axial diameter in mm, seconds of the click, device."""
    parts = []
    if status.measurement:
        parts.append(f"{status.measurement.volume_ml:.1f} ml")
        parts.append(f"{status.measurement.diameter_mm:.0f} mm axial")
    if status.seconds is not None:
        parts.append(f"{status.seconds:.1f} s")
    if status.device:
        parts.append(status.device.upper())
    return "  ·  ".join(parts)
