"""The module opened as Slicer does, and what a user does in it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import slicer

from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.measure import dice
from SAM3DSegmentLib.phantom import Phantom
from SAM3DSegmentLib.scene.segments import read_mask
from Testing.pythonqt import application
from Testing.test_scene_clicks import place

ROOT = Path(__file__).resolve().parents[2]
LESION, OTHER_LESION = 0, 3


class KeptEngine(Engine):
    """Stays alive from test to test, with the bundled model: starting one takes most of a test's time.

    The thread of one test may still be calling its job off when that of the next asks: one waits for the other, else
    each would take the other's answers for old ones and wait for its own for ever.
    """

    def __init__(self) -> None:
        super().__init__()
        self._asked = threading.Lock()

    def decode(self, *arguments: Any, **named: Any) -> Any:
        with self._asked:
            return super().decode(*arguments, **named)

    @property
    def command(self) -> tuple[str, ...]:
        """That of no other engine: several sessions share this one, and none may have it load another model."""
        return ("kept", str(time.monotonic_ns()))

    def give_up(self) -> None:
        """Not for good: the next test's session goes on with it."""

    def close(self) -> None:
        if not self._loaded:
            super().close()


def shown(module: ModuleType) -> Iterator[Any]:
    """The module opened, and closed after the test."""
    slicer.modules.SAM3DSegmentWidget = made = module.SAM3DSegmentWidget(application.module_parent())
    made.setup()
    made.enter()
    yield made
    made.cleanup()
    for name in ("volumeSelector", "segmentationSelector"):
        getattr(made.ui, name)._q.stop_observing()
    made.ui.segmentsTable.setSegmentationNode(None)


def wait(condition: Callable[[], Any], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        slicer.app.processEvents()
        time.sleep(0.005)


def process(seconds: float = 0.2) -> None:
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end)


def click(widget: Any, ras: tuple[float, float, float], include: bool = True) -> None:
    lists = widget.session.lists
    place(lists.include if include else lists.exclude, ras)


def idle(widget: Any) -> bool:
    tumour = widget.session.tumour
    return not widget.session._updater._jobs and not (tumour and tumour.changed)


def settle(widget: Any) -> None:
    process(0.05)
    wait(lambda: idle(widget))
    process(0.05)


def overlap(widget: Any, phantom: Phantom, lesion: int) -> float:
    target = widget.session.tumour.target
    box, mask = read_mask(target.segmentation_node, target.segment_id, target.volume_node)
    return dice(mask, box, phantom.reference(phantom.lesions[lesion]))


def segmented(widget: Any, phantom: Phantom, lesion: int = LESION) -> Any:
    click(widget, phantom.lesions[lesion].click)
    settle(widget)
    return widget


def shortcuts() -> list[Any]:
    from PySide6.QtGui import QShortcut

    return slicer.app._window.findChildren(QShortcut)
