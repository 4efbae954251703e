"""The engine with the bundled model under onnxruntime against PyTorch: `python -m Testing.benchmarks engine`."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.models.store import find_model

STARTS = 5
LATER_CLICKS = 5
CLICKS = [((32.0, 32.0, 32.0), True), ((32.0, 52.0, 32.0), False)]


def engine() -> None:
    """Seconds from the spawn to a loaded model, and of a later click; medians of starts that take turns."""
    bundled = find_model("compact")
    with tempfile.TemporaryDirectory() as folder:
        # Without a graph beside it a checkpoint runs under PyTorch.
        alone = shutil.copy(bundled, Path(folder) / bundled.name)
        figures: dict[str, list[dict[str, float]]] = {"onnxruntime": [], "torch": []}
        for _ in range(STARTS):
            figures["onnxruntime"].append(measured(str(bundled)))
            figures["torch"].append(measured(str(alone)))
    for figure in ("start", "click"):
        ours, theirs = (statistics.median(run[figure] for run in figures[name]) for name in ("onnxruntime", "torch"))
        print(
            f"engine            {figure:<6} onnxruntime {ours:.2f} s, torch {theirs:.2f} s, "
            f"torch / onnxruntime {theirs / ours:.1f}"
        )


def measured(model: str) -> dict[str, float]:
    """Seconds of one start and of a later click in it."""
    crop = np.random.default_rng(0).standard_normal((64, 64, 64)).astype(np.float32)
    begin = time.perf_counter()
    with Engine(model, device="cpu") as started:
        _ = started.specification
        ready = time.perf_counter() - begin
        logits = started.decode(crop, CLICKS[:1], None)
        seconds = []
        for _ in range(LATER_CLICKS):
            begin = time.perf_counter()
            logits = started.decode(crop, CLICKS, logits)
            seconds.append(time.perf_counter() - begin)
    return {"start": ready, "click": statistics.median(seconds)}
