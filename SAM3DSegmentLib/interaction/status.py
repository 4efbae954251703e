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
