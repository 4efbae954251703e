"""An import of a model in a thread of its own, watched from the interface's thread."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from SAM3DSegmentLib.errors import UserError
from SAM3DSegmentLib.interaction.model_check import check_loads
from SAM3DSegmentLib.models.store import import_model


class BackgroundImport:
    """Starts at once; reading, copying and trying out a checkpoint of a gigabyte takes a while.

    Args:
        file: the checkpoint.
        task: of a published one, as `import_model` takes it.
        command: that starts the engine which tries it out.

    Attributes:
        path: of the model among those on this computer; None where it was refused, or while `running`.
        message: why there is none; a fault of ours, which no error names, is told too.
    """

    def __init__(self, file: Path, task: str | None, command: Sequence[str]) -> None:
        self.path: Path | None = None
        self.message = f"{file} was not imported: see the log for details."
        self._file, self._task, self._command = file, task, command
        self._thread = threading.Thread(target=self._run, name="SAM3DSegment import", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.path = import_model(
                self._file, task=self._task, check=lambda staged: check_loads(staged, self._command)
            )
        except UserError as error:
            self.message = str(error)
