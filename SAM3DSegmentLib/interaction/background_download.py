"""A download of a model in a thread of its own, watched from the interface's thread."""

from __future__ import annotations

import threading

from SAM3DSegmentLib.errors import CancelledError, UserError
from SAM3DSegmentLib.models.catalogue import Model
from SAM3DSegmentLib.models.download import download_model


class BackgroundDownload:
    """Starts at once.

    Attributes:
        model: that is fetched.
        fraction: of it that is here, 0 to 1.
        message: what to tell the user once `running` is False; empty after a success. A fault of ours, which no error
            names, is told too.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.fraction = 0.0
        self.message = f"{model.title} was not downloaded: see the log for details."
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="SAM3DSegment download", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def cancel(self) -> None:
        """Call it off; the next download goes on where this one ends."""
        self._cancelled.set()

    def _run(self) -> None:
        try:
            download_model(self.model, self._progressed)
            self.message = ""
        except CancelledError:
            self.message = "The download was cancelled: the next one goes on from there."
        except UserError as error:
            self.message = str(error)

    def _progressed(self, done: int, total: int) -> None:
        self.fraction = done / max(total, 1)
        if self._cancelled.is_set():
            raise CancelledError
