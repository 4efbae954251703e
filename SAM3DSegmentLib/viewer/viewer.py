"""The viewer: binds the page to a session of clicks; what a click leads to lives in `interaction`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import slicer
from trame_server import Server
from trame_server.utils.typed_state import TypedState

from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.errors import UserError
from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.interaction import tumour_table
from SAM3DSegmentLib.interaction.commands import COMMANDS, KEYS
from SAM3DSegmentLib.interaction.display import Display
from SAM3DSegmentLib.interaction.packages import missing_packages
from SAM3DSegmentLib.interaction.session import Session
from SAM3DSegmentLib.interaction.status import figures_text
from SAM3DSegmentLib.interaction.tumour import Target
from SAM3DSegmentLib.phantom import make_phantom
from SAM3DSegmentLib.scan import read_scan
from SAM3DSegmentLib.scene.export import export_stem
from SAM3DSegmentLib.scene.volumes import add_volume, volume_from_node
from SAM3DSegmentLib.viewer.files import FileExchange
from SAM3DSegmentLib.viewer.model_section import ModelSection
from SAM3DSegmentLib.viewer.panel import Page
from SAM3DSegmentLib.viewer.panel_state import DEVICES, REMOTE, PanelState
from SAM3DSegmentLib.viewer.views import Views
from SAM3DSegmentLib.viewer.windows import Window, apply_window, windows_for

POLL_SECONDS = 0.03
PHANTOM = "Phantom"

SHORTCUTS = {**KEYS, "Delete": "remove_pointed"}
"""Slicer's own views delete the click under the mouse; those of the browser do not get the key."""


class Viewer:
    """One page on one scene; the event loop of the server is the thread of the scene.

    Args:
        files: where exports go, to be downloaded.
        model, device: of the engine that starts at once.
        engine_command: that starts the engine elsewhere; empty for this computer alone.
    """

    def __init__(
        self, server: Server, files: FileExchange, model: str, device: str, engine_command: Sequence[str]
    ) -> None:
        self._server = server
        self._files = files
        state = TypedState(server.state, PanelState)
        self._shown: PanelState = state.data
        self._views = Views(server)
        self.session = Session(self._views.scene)
        self._windows: dict[str, Window] = {}
        self._framed: set[Target] = set()
        self._engine_command = engine_command
        self._engine_choice = ("", "")
        self._models = ModelSection(self._shown, model, lambda: self._act(self._start_engine), self.tell)
        self._set_devices(device)
        self._page = Page(server, state.name, self._views, SHORTCUTS)
        for name, answer in (
            ("command", lambda name: self._act(lambda: COMMANDS[name](self.session))),
            ("open_path", self._open_typed_path),
            ("open_phantom", self.open_phantom),
            ("upload_failed", self._upload_failed),
            ("open_tumour", lambda segment_id: self._act(lambda: self._open_tumour(segment_id))),
            ("rename_tumour", self._rename_tumour),
            ("color_tumour", self._color_tumour),
            ("show_tumour", self._show_tumour),
            ("export", lambda suffix: self._act(lambda: self._export(suffix))),
            ("toggle_download", self._models.toggle_download),
            ("delete_model", self._models.delete),
        ):
            server.trigger(name)(answer)
        shown = state.name
        state.bind_changes(
            {
                shown.volume: self._on_volume,
                shown.window: self._on_window,
                (shown.model, shown.device): lambda *_: self._on_engine_choice(),
                (shown.hide_clicks, shown.outline_only, shown.show_changes, shown.show_surface): (
                    lambda *_: self._act(self._set_display)
                ),
            }
        )
        self._start_engine()
        self._set_display()

    def close(self) -> None:
        """End the engine, and a download that runs."""
        self._models.close()
        self.session.close()

    def follow(self) -> None:
        """Look after the scene and the engine from now on; for the running event loop.

        A timer, not a task: it outlives an exception, which the loop logs.
        """
        asyncio.get_running_loop().call_later(POLL_SECONDS, self.follow)
        with self._server.state:
            self._models.poll()
        if self.session.poll():
            self._refresh()
            self._frame_new_surface()

    async def open_scan(self, path: Path) -> None:
        """Read a scan and turn to it.

        Raises:
            ScanError: it cannot be read.
        """
        await self._open(f"Reading {path.name}", path.name.split(".")[0] or "scan", lambda: read_scan(path))

    async def open_phantom(self) -> None:
        """Compute the phantom and turn to it."""
        await self._open("Computing the phantom", PHANTOM, lambda: make_phantom().volume)

    async def _open(self, busy: str, title: str, read: Callable[[], Volume]) -> None:
        """Read in another thread: the views stay alive meanwhile."""
        with self._busy(busy):
            volume = await asyncio.get_running_loop().run_in_executor(None, read)
        self._act(lambda: self._choose_volume(add_volume(self._views.scene, volume, title)))

    async def import_model(self, path: Path) -> None:
        """Keep a checkpoint among the models and turn to it.

        Raises:
            UserError: it cannot be taken.
        """
        with self._busy(f"Importing {path.name}"):
            await self._models.import_file(path)

    @contextmanager
    def _busy(self, what: str) -> Iterator[None]:
        with self._server.state:
            self._shown.busy = what
        try:
            yield
        finally:
            with self._server.state:
                self._shown.busy = ""

    async def _open_typed_path(self) -> None:
        try:
            await self.open_scan(Path(self._shown.scan_path).expanduser())
        except UserError as error:
            self.tell(str(error))

    def tell(self, message: str, failed: bool = True) -> None:
        """Show the user a sentence, by default about a failure."""
        self._act(lambda: self.session.say(message, failed))

    def refuse_upload(self, message: str) -> None:
        """Tell the user why an upload was not taken; the page waits for it no more."""
        with self._server.state:
            self._shown.busy = ""
        self.tell(message)

    def _upload_failed(self, reason: str) -> None:
        """What the server refused, it told already, and the page does not wait any more."""
        if self._shown.busy:
            self.refuse_upload(f"The upload failed ({reason}): try again.")

    def _choose_volume(self, node: slicer.vtkMRMLScalarVolumeNode) -> None:
        windows = windows_for(volume_from_node(node))
        self._windows = {window.name: window for window in windows}
        apply_window(node, windows[0])
        self._shown.windows = list(self._windows)
        self._shown.window = windows[0].name
        self._views.show(node)
        self.session.choose_volume(node)
        self._hide_tumours_of_others()
        self.session.place(include=True)

    def _hide_tumours_of_others(self) -> None:
        """Tumours of a volume that is not shown would lie over this one."""
        for node in self._nodes("vtkMRMLSegmentationNode"):
            node.SetDisplayVisibility(node is self.session.segmentation_node)

    def _nodes(self, kind: str) -> list[Any]:
        scene = self._views.scene
        return [scene.GetNthNodeByClass(n, kind) for n in range(scene.GetNumberOfNodesByClass(kind))]

    def _on_volume(self, node_id: str) -> None:
        node = self._views.scene.GetNodeByID(node_id)
        if node and node is not self.session.volume_node:
            self._act(lambda: self._choose_volume(node))

    def _on_window(self, name: str) -> None:
        node = self.session.volume_node
        if node and name in self._windows:
            apply_window(node, self._windows[name])

    def _open_tumour(self, segment_id: str) -> None:
        if segment_id in tumour_table.segment_ids(self.session.segmentation_node):
            self.session.open_tumour(segment_id)

    def _rename_tumour(self, segment_id: str, name: str) -> None:
        self._act(lambda: tumour_table.rename(self.session.segmentation_node, segment_id, name))

    def _color_tumour(self, segment_id: str, color: str) -> None:
        red, green, blue = (int(color[n : n + 2], 16) / 255 for n in (1, 3, 5))
        self._act(lambda: tumour_table.set_color(self.session.segmentation_node, segment_id, (red, green, blue)))

    def _show_tumour(self, segment_id: str, visible: bool) -> None:
        self._act(lambda: tumour_table.set_visible(self.session.segmentation_node, segment_id, visible))

    def _export(self, suffix: str) -> None:
        name = export_stem(self.session.volume_node) + suffix
        path = self._files.export_path(name)
        self.session.export(path)
        if path.exists():
            self.session.say(f"{name} is downloaded.")
            self._page.save(name)

    def _frame_new_surface(self) -> None:
        """Turn the 3D view to all that is in it when a tumour gets its first mask: it may lie out of sight."""
        tumour = self.session.tumour
        if tumour and self.session.status.measurement and tumour.target not in self._framed:
            self._framed.add(tumour.target)
            self._views.reset_3d()

    def _set_devices(self, device: str) -> None:
        devices = [{"title": title, "value": name} for title, name in DEVICES.items()]
        self._shown.devices = [*devices, REMOTE] if self._engine_command else devices
        self._shown.device = REMOTE["value"] if self._engine_command else device

    def _set_display(self) -> None:
        shown = self._shown
        self.session.set_display(
            Display(
                clicks=not shown.hide_clicks,
                outline_only=shown.outline_only,
                changes=shown.show_changes,
                surface=shown.show_surface,
            )
        )

    def _on_engine_choice(self) -> None:
        """The page tells of what it was told, too."""
        self._models.describe()
        if (self._shown.model, self._shown.device) != self._engine_choice:
            self._act(self._start_engine)

    def _start_engine(self) -> None:
        """Start the engine here; for the device "remote", which chooses its own, by the command."""
        model, device = self._engine_choice = self._shown.model, self._shown.device
        remote = device == REMOTE["value"]
        missing = [] if remote else missing_packages(model, device)
        engine = Engine(model, "auto", self._engine_command) if remote else Engine(model, device)
        self.session.use_engine(None if missing else engine)
        if missing:
            self.session.say(f"The model needs {', '.join(missing)}: install it and start again.", failed=True)

    def _act(self, action: Callable[[], object]) -> None:
        """What the user asked for, on the present state of the scene."""
        self.session.poll()
        action()
        self._refresh()

    def _refresh(self) -> None:
        """Show the session in the page."""
        session, shown, status = self.session, self._shown, self.session.status
        with self._server.state:
            volumes = self._nodes("vtkMRMLScalarVolumeNode")
            shown.volumes = [{"title": node.GetName(), "value": node.GetID()} for node in volumes]
            shown.volume = session.volume_node.GetID() if session.volume_node else ""
            shown.tumours = tumours_of(session.segmentation_node)
            shown.tumour = session.tumour.target.segment_id if session.tumour else ""
            shown.placing = {True: "include", False: "exclude", None: ""}[session.placing]
            history = session.tumour.history if session.tumour else None
            shown.can_undo, shown.can_redo = bool(history and history.can_undo), bool(history and history.can_redo)
            shown.has_clicks = bool(session.clicks)
            shown.progress = -1 if status.progress is None else round(100 * status.progress)
            shown.figures = figures_text(status)
            if (status.message, status.failed) != (shown.message, shown.failed):
                # An emptied message fades out with its words.
                shown.message_shown = bool(status.message)
                if status.message:
                    shown.message, shown.failed = status.message, status.failed


def tumours_of(segmentation_node: slicer.vtkMRMLSegmentationNode | None) -> list[dict[str, object]]:
    """The rows of the page's table."""
    if not segmentation_node:
        return []
    rows: list[dict[str, object]] = []
    for segment_id in tumour_table.segment_ids(segmentation_node):
        segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
        color = "#" + "".join(f"{round(255 * part):02x}" for part in segment.GetColor())
        visible = bool(segmentation_node.GetDisplayNode().GetSegmentVisibility(segment_id))
        rows.append({"id": segment_id, "name": segment.GetName(), "color": color, "visible": visible})
    return rows
