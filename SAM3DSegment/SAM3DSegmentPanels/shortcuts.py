"""The module's keys, which exist only while it is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer

from SAM3DSegmentLib.interaction.commands import KEYS


class Shortcuts:
    """
    Args:
        give: called with the name of a command when its key is pressed.
    """

    def __init__(self, give: Callable[[str], None]) -> None:
        self._give = give
        self._installed: list[Any] = []

    def install(self) -> None:
        """Bind the keys to the main window, where there is one."""
        window = slicer.util.mainWindow()
        if not window:
            return
        for key, command in KEYS.items():
            shortcut = qt.QShortcut(window)
            shortcut.setKey(qt.QKeySequence(key))
            shortcut.connect("activated()", lambda command=command: self._give(command))
            self._installed.append(shortcut)

    def remove(self) -> None:
        """Free the keys for other modules."""
        for shortcut in self._installed:
            shortcut.setParent(None)
        self._installed = []
