"""What the panel shows of a session: its tumours, progress, one sentence, figures, and which buttons can be pressed."""

from __future__ import annotations

from typing import Any

from SAM3DSegmentLib.interaction.session import Session
from SAM3DSegmentLib.interaction.status import Status, figures_text
from SAM3DSegmentLib.interaction.tumour_table import segment_ids

FAILURE_STYLE = "QLabel { color: #d03030; }"


def show_status(ui: Any, status: Status) -> None:
    """Show the session's status in the panel's widgets."""
    ui.progressBar.visible = ui.cancelButton.visible = status.progress is not None
    ui.progressBar.value = round(100 * (status.progress or 0))
    ui.messageLabel.text = status.message
    ui.messageLabel.styleSheet = FAILURE_STYLE if status.failed else ""
    ui.messageLabel.visible = bool(status.message)
    ui.figuresLabel.text = figures_text(status)


def show_selection(ui: Any, session: Session) -> None:
    """Show the session's segmentation, and select the present tumour in its table."""
    ui.segmentationSelector.setCurrentNode(session.segmentation_node)
    if ui.segmentsTable.segmentationNode() is not session.segmentation_node:
        ui.segmentsTable.setSegmentationNode(session.segmentation_node)
    selected = [session.tumour.target.segment_id] if session.tumour else []
    if list(ui.segmentsTable.selectedSegmentIDs()) != selected:
        ui.segmentsTable.setSelectedSegmentIDs(selected)


def show_buttons(ui: Any, session: Session) -> None:
    """Press the toggle that is armed, and grey out what would do nothing."""
    ui.includeButton.checked = session.placing is True
    ui.excludeButton.checked = session.placing is False
    history = session.tumour.history if session.tumour else None
    ui.undoButton.enabled = bool(history and history.can_undo)
    ui.redoButton.enabled = bool(history and history.can_redo)
    ui.removeLastButton.enabled = ui.clearButton.enabled = bool(session.clicks)
    ui.removeTumourButton.enabled = bool(session.tumour)
    ui.exportButton.enabled = bool(segment_ids(session.segmentation_node))
    for widget in (ui.includeButton, ui.excludeButton, ui.nextTumourButton):
        widget.enabled = bool(session.volume_node)
