"""An engine process without torch whose answer depends on the crop, on every click and on the answer before.

    python -m Testing.light_engine [FAULT [FILE TIMES]]

The fault strikes in each process, or only while FILE has counted fewer than TIMES of them.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from SAM3DSegmentLib.engine import server
from SAM3DSegmentLib.engine.wire import Array, Message, pack
from SAM3DSegmentLib.intensity import CropStatistics
from SAM3DSegmentLib.network.interface import CropClick, Progress
from SAM3DSegmentLib.specification import Specification

EDGE = 32
STEPS = 4


class LightNetwork:
    """Calls what resembles the tissue under the include clicks the object."""

    specification = Specification("light", "1", "0" * 64, EDGE, (1.5, 3.0), CropStatistics(), True, True)
    device = "cpu"

    def __init__(self, fault: str, step_seconds: float = 0.01) -> None:
        self._fault = fault
        self._step_seconds = step_seconds

    def encode(self, crop: Array, progress: Progress) -> Array:
        progress(1.0)
        return crop

    def decode(self, encoding: Array, clicks: Sequence[CropClick], previous: Array | None, progress: Progress) -> Array:
        for step in range(STEPS):
            progress(step / STEPS)
            time.sleep(self._step_seconds)
        strike(self._fault, "decode")
        axis = np.arange(EDGE)
        logits = np.zeros_like(encoding) if previous is None else previous / 2
        for click in clicks:
            d, h, w = click.position
            value = encoding[tuple(int(np.clip(round(c), 0, EDGE - 1)) for c in (d, h, w))]
            distance = np.sqrt((axis[:, None, None] - d) ** 2 + (axis[:, None] - h) ** 2 + (axis - w) ** 2)
            alike = 2 - 3 * np.abs(encoding - value) - distance / 8
            logits += alike if click.include else -np.maximum(alike, 0)
        return logits


def strike(fault: str, moment: str) -> None:
    """Fail as the fault's name says, where this is its moment."""
    kind, _, when = fault.partition("@")
    if when != moment:
        return
    if kind == "device-gone":
        raise RuntimeError("CUDA error: the device was lost\nCUDA kernel errors might be reported elsewhere")
    if kind == "gpu-memory":
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
    if kind == "memory":
        np.ones(1 << 44, np.uint8)
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "hung":
        os.kill(os.getpid(), signal.SIGSTOP)
    if kind == "slow":
        time.sleep(4)
    if kind == "garbage":
        os.write(3, b"Last login: Tue Nov 21\n")
    for request in range(1, 4):
        if kind == "wrong-shape":
            os.write(3, pack(Message("logits", {"request": request}, {"logits": np.zeros((2, 2), np.float16)})))
        if kind == "nonsense":
            os.write(3, pack(Message("progress", {"request": request, "fraction": "half"})))
        if kind == "forgetful":
            os.write(3, pack(Message("missing", {"request": request, "keys": ["0" * 32]})))


def struck(fault: str, count: Path, times: int) -> str:
    """The fault while there are fewer than `times` processes before this one, else none."""
    before = count.stat().st_size if count.exists() else 0
    with count.open("ab") as file:
        file.write(b".")
    return fault if before < times else ""


if __name__ == "__main__":
    fault = sys.argv[1] if len(sys.argv) > 1 else ""
    if len(sys.argv) > 2:
        fault = struck(fault, Path(sys.argv[2]), int(sys.argv[3]))
    os.dup2(1, 3)
    strike(fault, "start")

    def load(model: str, device: str) -> LightNetwork:
        strike(fault, "load")
        return LightNetwork(fault)

    server.serve(load)
