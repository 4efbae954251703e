"""What the page shows and sends back, as it travels between the browser and the viewer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from SAM3DSegmentLib.models.catalogue import TASKS

EXPORT_SUFFIXES = (".seg.nrrd", ".nrrd", ".nii.gz")

DEVICES = {"Automatic": "auto", "CUDA": "cuda", "MPS": "mps", "CPU": "cpu"}
"""The words of the panel, and the engine's."""

REMOTE = {"title": "Remote command", "value": "remote"}
"""Among the devices where the viewer was started with such a command."""

IMPORT_TASKS = [{"title": "stated by the file", "value": ""}, *({"title": name, "value": name} for name in TASKS)]
"""What a published checkpoint was trained for: it does not say so itself."""


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
        model_info: what is known of the chosen model, in lines.
        can_download, can_delete: whether the chosen model can be.
        download: of a model in percent, -1 where none runs.
        import_task: of `IMPORT_TASKS`, for the next file.
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
    model_info: str = ""
    can_download: bool = False
    can_delete: bool = False
    download: int = -1
    import_task: str = ""
    devices: list[dict[str, Any]] = field(default_factory=list)
    device: str = ""
    hide_clicks: bool = False
    outline_only: bool = False
    show_changes: bool = False
    show_surface: bool = True
