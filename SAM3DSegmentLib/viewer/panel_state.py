"""What the page shows and sends back, as it travels between the browser and the viewer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

EXPORT_SUFFIXES = (".seg.nrrd", ".nrrd", ".nii.gz")

DEVICES = {"Automatic": "auto", "CUDA": "cuda", "MPS": "mps", "CPU": "cpu"}
"""The words of the panel, and the engine's."""


@dataclass
class PanelState:
    """
    Attributes:
        busy: what the viewer is doing to a scan, "" for nothing.
        volumes, models, devices: choices as {"title", "value"}.
        tumours: {"id", "name", "color" ("#rrggbb"), "visible"} of each.
        tumour: the id of the one that clicks go to.
        placing: "include", "exclude" or "".
        progress: of the running evaluation in percent, -1 where none is shown.
    """

    busy: str = ""
    volumes: list[dict[str, Any]] = field(default_factory=list)
    volume: str = ""
    windows: list[str] = field(default_factory=list)
    window: str = ""
    scan_path: str = ""
    tumours: list[dict[str, Any]] = field(default_factory=list)
    tumour: str = ""
    placing: str = ""
    can_undo: bool = False
    can_redo: bool = False
    has_clicks: bool = False
    progress: int = -1
    message: str = ""
    message_shown: bool = False
    failed: bool = False
    figures: str = ""
    export_suffix: str = EXPORT_SUFFIXES[0]
    models: list[dict[str, Any]] = field(default_factory=list)
    model: str = ""
    devices: list[dict[str, Any]] = field(default_factory=list)
    device: str = ""
    hide_clicks: bool = False
    outline_only: bool = False
    show_changes: bool = False
    show_surface: bool = True
