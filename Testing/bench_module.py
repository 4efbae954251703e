"""Benchmarks of the Slicer module: python -m Testing.bench_module [CHECKPOINT [COMMAND ...]]

How long the panel takes to appear, and the longest time that a click holds the event loop on a large volume. With the
checkpoint of a large network the engine is busy meanwhile; COMMAND stands before the engine's own, as in `nice -n 10`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ["QT_QPA_PLATFORM"] = "offscreen"

import slicer
import slicer.util
from PySide6.QtCore import QTimer

from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.scene.click_nodes import write_clicks
from SAM3DSegmentLib.scene.volumes import add_volume
from Testing.benchmarks import lesion_scan
from Testing.pythonqt import application

MODULE = Path(__file__).resolve().parents[1] / "SAM3DSegment" / "SAM3DSegment.py"
SLICES = 400
QUIET_SECONDS = 2.0


class EventLoopWatch:
    """Notes the longest time between two ticks of a timer that should tick all the time.

    Beside the wall clock's there is the thread's own time: what a crowded machine takes away is not in it.
    """

    def __init__(self) -> None:
        self.longest = self.longest_own = 0.0
        self._last, self._last_own = time.perf_counter(), time.thread_time()
        self._timer = QTimer()
        self._timer.timeout.connect(self._tick)
        self._timer.start(0)

    def _tick(self) -> None:
        now, own = time.perf_counter(), time.thread_time()
        self.longest = max(self.longest, now - self._last)
        self.longest_own = max(self.longest_own, own - self._last_own)
        self._last, self._last_own = now, own

    def during(self, finished: Any) -> str:
        """Run the event loop until `finished()`; the longest gap meanwhile."""
        self.longest = self.longest_own = 0.0
        self._last, self._last_own = time.perf_counter(), time.thread_time()
        while not finished():
            slicer.app.processEvents()
        return f"{1000 * self.longest:.0f} ms ({1000 * self.longest_own:.0f} ms of the thread's own time)"


def construct() -> tuple[Any, float]:
    """The module's widget, set up, and the seconds that took; imports of the library are part of it.

    The stand-in's own first use is not: PySide6 makes its classes and enumerations only then, PythonQt has them.
    """
    slicer.util.childWidgetVariables(slicer.util.loadUI(str(MODULE.parent / "Resources" / "UI" / "SAM3DSegment.ui")))
    sys.path.insert(0, str(MODULE.parent))
    slicer.modules.sam3dsegment = SimpleNamespace(path=str(MODULE))
    start = time.perf_counter()
    import SAM3DSegment

    widget = SAM3DSegment.SAM3DSegmentWidget(application.module_parent())
    widget.setup()
    return widget, time.perf_counter() - start


def main(checkpoint: str = "", *before: str) -> None:
    """
    Args:
        checkpoint: of the network that the engine runs; by default the bundled one.
        before: words to put before the engine's command.
    """
    application.install(Path(tempfile.mkdtemp()))
    widget, seconds = construct()
    print(f"module construction          {seconds:.3f} s")
    scan, clicks = lesion_scan(SLICES)
    volume = add_volume(slicer.mrmlScene, scan, "512 x 512 x 400")
    del scan
    widget.enter()
    widget.ui.volumeSelector.setCurrentNode(volume)
    session, watch = widget.session, EventLoopWatch()
    if checkpoint:
        session.use_engine(Engine(checkpoint, "cpu", [*before, sys.executable, "-m", "SAM3DSegmentLib.engine"]))
    watch.during(lambda: session.status.device)
    end = time.perf_counter() + QUIET_SECONDS
    print(f"longest gap, nothing to do   {watch.during(lambda: time.perf_counter() > end)}")
    for count in range(1, len(clicks) + 1):

        def answered(made: int = count) -> bool:
            tumour = session.tumour
            return len(session.clicks) == made and not tumour.changed and not session._updater._jobs

        QTimer.singleShot(50, lambda made=count: write_clicks(session.lists, volume, clicks[:made]))
        gap = watch.during(answered)
        print(f"longest gap, click {count}         {gap}, mask after {session.status.seconds:.2f} s")
    widget.cleanup()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
