"""Benchmarks of the road from a click to a segment: `make bench`. Medians; ratios are taken within one run.

python -m Testing.benchmarks [NAME ...]     (all by default: clicks, cold-start, engine, memory, sam-adapter,
                                            training, viewer)
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.geometry import Volume
from Testing.bench_adapter import sam_adapter
from Testing.bench_engine import engine
from Testing.bench_viewer import viewer

ROOT = Path(__file__).resolve().parents[1]
REPEATS = 7
SPACING = (1.0, 0.8, 0.8)
SLICES = (100, 1000)


def lesion_scan(slices: int) -> tuple[Volume, list[Click]]:
    """A 512 x 512 x `slices` CT-like volume with a lesion of 34 mm in its middle, and clicks in it.

    The later ones, at one place, take a part of the lesion away and bring it back: each asks for a change.
    """
    rng = np.random.default_rng(0)
    slab = rng.normal(40, 12, (50, 512, 512)).astype(np.int16)
    voxels = np.concatenate([slab] * (slices // 50))
    middle = slices // 2
    k, j, i = np.ogrid[middle - 20 : middle + 20, 230:282, 230:282]
    lesion = ((k - middle) * SPACING[0]) ** 2 + ((j - 256) * 0.8) ** 2 + ((i - 256) * 0.8) ** 2 < 17**2
    voxels[middle - 20 : middle + 20, 230:282, 230:282][lesion] += 60
    volume = Volume(voxels, np.diag([-0.8, -0.8, 1.0, 1.0]))
    clicks = [((middle, 256, 256), True), ((middle, 256, 270), False), ((middle, 256, 270), True)]
    return volume, [Click(volume.ras(index), include) for index, include in clicks]


def click_seconds(slices: int) -> dict[str, float]:
    """Median seconds from a click to the updated segment in the scene, engine warm."""
    from SAM3DSegmentLib.headless import HeadlessSession

    volume, clicks = lesion_scan(slices)
    first, later = [], []
    with Engine(device="cpu") as engine:
        _ = engine.specification
        for repeat in range(REPEATS):
            # Another crop each time: neither side may answer from its caches.
            moved = [Click((c.ras[0] + 0.1 * repeat, c.ras[1], c.ras[2]), c.include) for c in clicks]
            session = HeadlessSession(volume, engine)
            answers = list(session.answers(moved))
            session.close()
            assert not any(answer.prediction.needless for answer in answers)
            first.append(answers[0].seconds)
            later += [answer.seconds for answer in answers[1:]]
    return {"first": statistics.median(first[1:]), "later": statistics.median(later[2:])}


def clicks() -> None:
    """Seconds of a first and a later click, and how they grow with the volume."""
    figures = {slices: click_seconds(slices) for slices in SLICES}
    for slices, seconds in figures.items():
        print(f"512 x 512 x {slices:<4}  first click {seconds['first']:.2f} s, later click {seconds['later']:.2f} s")
    small, large = (figures[slices] for slices in SLICES)
    print(f"large / small     first {large['first'] / small['first']:.2f}, later {large['later'] / small['later']:.2f}")


def cold_start() -> None:
    """From the command to the first mask on disk, everything cold but the disk."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        command = [sys.executable, "-c", "from Testing.benchmarks import one_click; one_click()"]
        subprocess.run(command, cwd=ROOT, check=True)
        times.append(time.perf_counter() - start)
    print(f"cold start        process start to first mask {statistics.median(times):.1f} s")


def one_click() -> None:
    from SAM3DSegmentLib.headless import HeadlessSession

    with Engine(device="cpu") as engine:
        engine.start()
        volume, made = lesion_scan(SLICES[0])
        HeadlessSession(volume, engine).answer(made[:1])


def memory() -> None:
    """The viewer's peak memory while clicks are evaluated, beyond what it held with the scan loaded."""
    for slices in SLICES:
        code = f"from Testing.benchmarks import print_memory; print_memory({slices})"
        result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
        grown = json.loads(result.stdout.splitlines()[-1])
        print(f"512 x 512 x {slices:<4}  viewer's memory beyond the volume: {grown:.0f} MB")


def print_memory(slices: int) -> None:
    from SAM3DSegmentLib.headless import HeadlessSession

    with Engine(device="cpu") as engine:
        engine.start()
        volume, made = lesion_scan(slices)
        session = HeadlessSession(volume, engine)
        del volume
        Path("/proc/self/clear_refs").write_text("5")
        before = peak_memory()
        list(session.answers(made))
        print(peak_memory() - before)


def peak_memory() -> float:
    """Of this process, in MB (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


BENCHMARKS: dict[str, Callable[[], None]] = {
    "clicks": clicks,
    "cold-start": cold_start,
    "engine": engine,
    "memory": memory,
    "sam-adapter": sam_adapter,
    "training": lambda: subprocess.run([sys.executable, "-m", "Testing.bench_training"], cwd=ROOT, check=True),
    "viewer": viewer,
}


if __name__ == "__main__":
    for name in sys.argv[1:] or BENCHMARKS:
        BENCHMARKS[name]()
