"""The line Export: every tumour into a new file of the last folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from SAM3DSegmentLib.interaction.session import Session
from SAM3DSegmentLib.scene.export import export_stem

FOLDER_SETTING = "SAM3DSegment/ExportFolder"


class ExportPanel:
    """Never writes over a file that is there.

    Args:
        ui: the panel's widgets by name.
    """

    def __init__(self, ui: Any, session: Session) -> None:
        self._ui = ui
        self._session = session

    def export(self) -> None:
        """Write "CT.seg.nrrd" for a volume "CT", or "CT 2.seg.nrrd" where that is taken."""
        name = export_stem(self._session.volume_node)
        suffix, number = self._ui.formatComboBox.currentText, 1
        path = self._folder() / f"{name}{suffix}"
        while path.exists():
            number += 1
            path = self._folder() / f"{name} {number}{suffix}"
        self._session.export(path)

    def choose_folder(self) -> None:
        """Ask for the folder of this export and of those to come."""
        title = _("Export folder")
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title, str(self._folder()))
        if folder:
            qt.QSettings().setValue(FOLDER_SETTING, folder)

    def _folder(self) -> Path:
        return Path(slicer.util.settingsValue(FOLDER_SETTING, str(Path.home())))
