"""The lines that tell how it goes: progress, one sentence, and the figures of the tumour."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from SAM3DSegmentLib.interaction.status import Status

FAILURE_STYLE = "QLabel { color: #d03030; }"


def show_status(ui: Any, status: Status) -> None:
    """Show the session's status in the panel's widgets."""
    ui.progressBar.visible = ui.cancelButton.visible = status.progress is not None
    ui.progressBar.value = round(100 * (status.progress or 0))
    ui.messageLabel.text = status.message
    ui.messageLabel.styleSheet = FAILURE_STYLE if status.failed else ""
    ui.messageLabel.visible = bool(status.message)
    ui.figuresLabel.text = figures_text(status)


def figures_text(status: Status) -> str:
    """One line with what is known of: volume in ml, longest axial diameter in mm, seconds of the click, device."""
    parts = []
    if status.measurement:
        parts.append(_("{volume:.1f} ml").format(volume=status.measurement.volume_ml))
        parts.append(_("{diameter:.0f} mm axial").format(diameter=status.measurement.diameter_mm))
    if status.seconds is not None:
        parts.append(_("{seconds:.1f} s").format(seconds=status.seconds))
    if status.device:
        parts.append(status.device.upper())
    return "  ·  ".join(parts)
