"""The collapsed sections Model and Device: which network runs, and where."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from SAM3DSegmentLib.engine.client import SERVING
from SAM3DSegmentLib.errors import UserError
from SAM3DSegmentLib.interaction.background_import import BackgroundImport
from SAM3DSegmentLib.interaction.model_choice import FROZEN_WEIGHTS, model_choices, name_of_file
from SAM3DSegmentLib.models.catalogue import CATALOGUE, COMPACT
from SAM3DSegmentLib.models.store import delete_model, models_folder

if TYPE_CHECKING:
    from SAM3DSegmentLib.interaction.background_download import BackgroundDownload

DEVICES = ("auto", "cuda", "mps", "cpu", "remote")
"""In the order of the device box."""

SETTINGS = "SAM3DSegment/"


class EnginePanel:
    """Keeps the choice of model and device in the application's settings.

    Args:
        ui: the panel's widgets by name.
        changed: called when another engine is wanted.
        tell: called with a sentence for the user and whether it tells of a failure.
    """

    def __init__(self, ui: Any, changed: Callable[[], None], tell: Callable[[str, bool], None]) -> None:
        self._ui = ui
        self._changed = changed
        self._tell = tell
        self._download: BackgroundDownload | None = None
        self._import: BackgroundImport | None = None
        self._chosen_before_import = ""
        self._command = split_command(self._setting("RemoteCommand", "")) or ()
        ui.deviceComboBox.currentIndex = DEVICES.index(self._setting("Device", "auto"))
        ui.remoteLineEdit.text = self._setting("RemoteCommand", "")
        self._list_models(self._setting("Model", COMPACT.name))
        self._show_device()
        ui.modelComboBox.connect("activated(int)", self._on_model)
        ui.deviceComboBox.connect("activated(int)", self._on_device)
        ui.remoteLineEdit.connect("editingFinished()", self._on_device)
        ui.downloadButton.connect("clicked(bool)", self._on_download)
        ui.importButton.connect("clicked(bool)", self._on_import)
        ui.deleteModelButton.connect("clicked(bool)", self._on_delete)

    @property
    def model(self) -> str:
        """The name of the chosen model, here or not."""
        return str(self._ui.modelComboBox.currentData)

    @property
    def device(self) -> str:
        """For the engine: "auto", "cuda", "mps" or "cpu"; a remote engine chooses itself."""
        device = DEVICES[self._ui.deviceComboBox.currentIndex]
        return "auto" if device == "remote" else device

    @property
    def remote_command(self) -> tuple[str, ...]:
        """That starts the engine elsewhere; empty for this computer."""
        return self._command if DEVICES[self._ui.deviceComboBox.currentIndex] == "remote" else ()

    @property
    def busy(self) -> bool:
        """Whether a download or an import runs."""
        return self._download is not None or self._import is not None

    def poll(self) -> None:
        """Show how far a download is, and what became of it and of an import."""
        if self._download:
            self._poll_download(self._download)
        if self._import and not self._import.running:
            self._end_import(self._import)

    def _poll_download(self, download: BackgroundDownload) -> None:
        self._ui.downloadProgressBar.value = round(100 * download.fraction)
        if not download.running:
            self._download = None
            self._list_models(self.model)
            if download.message:
                self._tell(download.message, True)
            elif self.model == download.model.name:
                self._on_model()

    def close(self) -> None:
        """Call a running download off."""
        if self._download:
            self._download.cancel()

    def _list_models(self, chosen: str) -> None:
        box = self._ui.modelComboBox
        box.clear()
        for choice in model_choices().values():
            title = choice.title if choice.stored else _("{title} (not on this computer)").format(title=choice.title)
            box.addItem(title, choice.name)
        box.currentIndex = max(box.findData(chosen), 0)
        self._show_model()

    def _show_model(self) -> None:
        choice = model_choices()[self.model]
        lines = [_("Folder of models: {folder}").format(folder=models_folder())]
        if choice.known:
            licence = _("Licence: {licence}").format(licence=choice.known.licence) + choice.megabytes
            lines = [licence, choice.known.citation, *lines]
        ui = self._ui
        ui.modelInfoLabel.text = "\n".join(lines)
        ui.downloadButton.text = _("Cancel download") if self._download else _("Download")
        ui.downloadButton.enabled = bool(self._download or choice.can_download)
        ui.downloadProgressBar.visible = bool(self._download)
        ui.deleteModelButton.enabled = choice.can_delete

    def _show_device(self) -> None:
        self._ui.remoteLineEdit.enabled = DEVICES[self._ui.deviceComboBox.currentIndex] == "remote"

    def _on_model(self, _index: int = 0) -> None:
        self._keep_setting("Model", self.model)
        self._show_model()
        self._changed()

    def _on_device(self, _index: int = 0) -> None:
        self._show_device()
        if DEVICES[self._ui.deviceComboBox.currentIndex] == "remote":
            command = split_command(self._ui.remoteLineEdit.text)
            if command is None:
                self._tell(_("The command has an open quotation mark: close it."), True)
                return
            if not command:
                self._tell(_("Type the command that starts the engine on the other computer."), False)
                return
            self._command = command
        self._keep_setting("Device", DEVICES[self._ui.deviceComboBox.currentIndex])
        self._keep_setting("RemoteCommand", self._ui.remoteLineEdit.text)
        self._changed()

    def _on_download(self, _checked: bool) -> None:
        if self._download:
            self._download.cancel()
        else:
            # Only now: the network libraries that it imports take time, and most users never download.
            from SAM3DSegmentLib.interaction.background_download import BackgroundDownload

            self._download = BackgroundDownload(CATALOGUE[self.model])
            self._show_model()

    def _on_import(self, _checked: bool) -> None:
        file = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(), _("Import a model"), "", _("Checkpoints (*.safetensors *.pth *.pt *.tar)")
        )
        if not file:
            return
        task = self._ui.taskComboBox.currentText if self._ui.taskComboBox.currentIndex else None
        self._chosen_before_import = self.model
        self._import = BackgroundImport(Path(file), task, local_command())
        self._ui.importButton.enabled = False
        self._tell(_("{file} is being imported...").format(file=Path(file).name), False)

    def _end_import(self, ended: BackgroundImport) -> None:
        """Turn to the model that was imported, unless another was chosen meanwhile."""
        self._import = None
        self._ui.importButton.enabled = True
        if not ended.path:
            self._tell(ended.message, True)
            return
        name, chosen = name_of_file(ended.path), self.model
        self._list_models(name if name and chosen == self._chosen_before_import else chosen)
        self._on_model()
        if name is None:
            self._tell(_(FROZEN_WEIGHTS), False)

    def _on_delete(self, _checked: bool) -> None:
        try:
            delete_model(self.model)
        except UserError as error:
            self._tell(str(error), True)
            return
        self._list_models(COMPACT.name)
        self._on_model()

    def _setting(self, name: str, default: str) -> str:
        return str(slicer.util.settingsValue(SETTINGS + name, default))

    def _keep_setting(self, name: str, value: str) -> None:
        qt.QSettings().setValue(SETTINGS + name, value)


def local_command() -> tuple[str, ...]:
    """That starts an engine in Slicer's own Python; the application's executable would open a second application."""
    return (shutil.which("PythonSlicer") or sys.executable, *SERVING)


def split_command(text: str) -> tuple[str, ...] | None:
    """The words of a command line; None where a quotation mark is open."""
    try:
        return tuple(shlex.split(text))
    except ValueError:
        return None
