"""Long work on one machine: a thousand clicks, one very large scan, scenes opened and closed again and again.

Memory and processes are read from /proc, so the figures are Linux's.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.interaction.session import Session
from SAM3DSegmentLib.scene.application import boot_scene
from SAM3DSegmentLib.scene.volumes import add_volume
from Testing.disturbance import LIGHT, points, scan, wait_for
from Testing.interaction.helpers import settle
from Testing.scene_helpers import node_ids, scene_bundles

CLICKS, TUMOURS = 1000, 20
FLAT_SHARE = 0.05
UNDONE_SHARE = 0.25
"""Of the clicks: taken back and made again."""

LARGE_SHAPE = (1200, 1024, 1024)
LARGE_SPACING = 0.4
LESION_RADIUS = 12.0
TOTAL_MIB = 24 * 1024
CYCLES = 50
WARM_CYCLES = 5
END_SECONDS = 20.0
FORGET_PEAK = "5"
"""Linux's word for it: the most memory that was held is counted anew."""


@dataclass(frozen=True)
class Memory:
    """Resident MiB of this process and of the engine's."""

    host: float
    engine: float

    def __str__(self) -> str:
        return f"host {self.host:.0f} MiB, engine {self.engine:.0f} MiB"


@dataclass(frozen=True)
class LongWork:
    """Many clicks in one session.

    Attributes:
        waits: seconds from each click to its mask.
        own: seconds of processor time that this process took for each.
        memory: after a quarter of the clicks, and after all.
        failures: sentences that the user was shown.
    """

    waits: list[float]
    own: list[float]
    memory: tuple[Memory, Memory]
    failures: list[str]

    def growth(self) -> tuple[float, float]:
        """Of the memory of host and engine over the last three quarters, as a share of what it was."""
        quarter, end = self.memory
        return end.host / quarter.host - 1, end.engine / quarter.engine - 1


@dataclass(frozen=True)
class Leftovers:
    """What a closed scene leaves behind."""

    nodes: frozenset[str]
    observers: int
    threads: int
    processes: int


def resident_mib(pid: int | str = "self", kind: str = "VmRSS") -> float:
    """What a process holds in memory; `VmHWM` is the most that it ever held."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(kind))


def work_on(engine: Engine, clicks: int, tumours: int) -> LongWork:
    """As many clicks, each when the one before is answered, spread over tumours; some are undone and redone."""
    rng = random.Random(0)
    made = points(clicks // tumours)
    waits: list[float] = []
    own: list[float] = []
    failures: list[str] = []
    memory: list[Memory] = []
    with session_on(scan(), engine) as session:
        for tumour in range(tumours):
            session.next_tumour()
            for click in made:
                session.place(click.include)
                start = time.process_time()
                waits.append(wait_for(session, click, failures))
                own.append(time.process_time() - start)
                if rng.random() < UNDONE_SHARE:
                    for change in (session.undo, session.redo):
                        change()
                        settle(session, seconds=300)
            if tumour + 1 in (tumours // 4, tumours):
                memory.append(Memory(resident_mib(), resident_mib(engine._process.pid)))
    return LongWork(waits, own, (memory[0], memory[1]), failures)


@contextmanager
def session_on(volume: Volume, engine: Engine) -> Iterator[Session]:
    """A session in the scene, which is empty afterwards."""
    scene = boot_scene()
    session = Session(scene)
    session.use_engine(engine)
    session.choose_volume(add_volume(scene, volume, "CT"))
    session.place(include=True)
    yield session
    session.close()
    scene.Clear(0)


def sparse_scan(shape: tuple[int, int, int]) -> Volume:
    """Water with a ball of 12 mm radius in noise at its middle; NumPy's zeros take no memory until they are written."""
    voxels = np.zeros(shape, np.int16)
    middle = [n // 2 for n in shape]
    reach = int(2 * LESION_RADIUS / LARGE_SPACING)
    box = tuple(slice(c - reach, c + reach) for c in middle)
    index = np.indices((2 * reach,) * 3, np.float32) - reach
    ball = (index**2).sum(0) < (LESION_RADIUS / LARGE_SPACING) ** 2
    voxels[box] = 80 * ball + 12 * np.random.default_rng(0).standard_normal(ball.shape)
    return Volume(voxels, np.diag([-LARGE_SPACING, -LARGE_SPACING, LARGE_SPACING, 1.0]))


def click_on_large_scan(engine: Engine, shape: tuple[int, int, int], count: int) -> tuple[list[float], Memory]:
    """Seconds of each click, and the most memory that was held meanwhile.

    The first is in the lesion's middle; one beside it takes that place away, and another brings it back.
    """
    volume = sparse_scan(shape)
    k, j, i = (n // 2 for n in shape)
    middle, beside = volume.ras((k, j, i)), volume.ras((k + 20, j, i))
    clicks = [Click(middle), Click(beside, include=False), Click(beside)][:count]
    waits, failures = [], []
    Path("/proc/self/clear_refs").write_text(FORGET_PEAK)
    with session_on(volume, engine) as session:
        for click in clicks:
            waits.append(wait_for(session, click, failures))
        assert not failures, failures
        assert session.status.measurement
        memory = Memory(resident_mib(kind="VmHWM"), resident_mib(engine._process.pid, "VmHWM"))
    return waits, memory


def open_and_close(cycles: int) -> list[Leftovers]:
    """A saved scene opened, clicked in with a fresh engine, and closed, in a session that lives on as the module's."""
    scene = boot_scene()
    left = []
    with tempfile.TemporaryDirectory() as folder, scene_bundles(scene, Path(folder) / "cache"):
        path = str(Path(folder) / "scene.mrb")
        add_volume(scene, scan(), "CT")
        assert scene.WriteToMRB(path)
        scene.Clear(0)
        session = Session(scene)
        for click in [points(1)[0]] * cycles:
            assert scene.ReadFromMRB(path)
            session.use_engine(Engine(command=LIGHT))
            session.choose_volume(scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode"))
            session.place(include=True)
            wait_for(session, click, failures := [])
            assert not failures, failures
            session.use_engine(None)
            scene.Clear(0)
            session.poll()
            left.append(leftovers(scene))
        session.close()
    return left


def leftovers(scene: slicer.vtkMRMLScene) -> Leftovers:
    """Once the engine has ended."""
    end = time.monotonic() + END_SECONDS
    while child_processes() and time.monotonic() < end:
        time.sleep(0.05)
    observed = [scene, *(scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes()))]
    observers = sum(str(one).count("vtkObserver (") for one in observed)
    return Leftovers(frozenset(node_ids(scene)), observers, threading.active_count(), child_processes())


def child_processes() -> int:
    return sum(len(path.read_text().split()) for path in Path("/proc/self/task").glob("*/children"))


def load() -> bool:
    """Each part prints its line; whether all of it is as it must be."""
    return all([long_work(), large_scan(), scene_cycles()])


def long_work() -> bool:
    """A thousand clicks with undo and redo over 20 tumours."""
    with Engine(command=LIGHT) as engine:
        work = work_on(engine, CLICKS, TUMOURS)
    quarter, end = work.memory
    host, engine_growth = work.growth()
    first, last, own_first, own_last = (
        statistics.median(part) for of in (work.waits, work.own) for part in (of[:100], of[-100:])
    )
    print(
        f"load: {CLICKS} clicks over {TUMOURS} tumours, a quarter undone and redone: {quarter} after a quarter, {end} "
        f"at the end ({host:+.1%} and {engine_growth:+.1%}); click median {first:.3f} s ({1000 * own_first:.0f} ms of "
        f"the viewer's own) in the first hundred, {last:.3f} s ({1000 * own_last:.0f} ms) in the last; "
        f"{len(work.failures)} failures shown",
        flush=True,
    )
    return max(host, engine_growth) <= FLAT_SHARE and not work.failures


def large_scan() -> bool:
    """Three clicks of the compact network in 2.5 GB of voxels."""
    with Engine("compact", "cpu") as engine:
        waits, memory = click_on_large_scan(engine, LARGE_SHAPE, 3)
    shape = " x ".join(map(str, LARGE_SHAPE))
    print(f"load: {shape} voxels: clicks {', '.join(f'{s:.1f}' for s in waits)} s; at most {memory}", flush=True)
    return memory.host + memory.engine < TOTAL_MIB


def scene_cycles() -> bool:
    """Fifty scenes opened, clicked in and closed."""
    left = open_and_close(CYCLES)
    first, last = left[WARM_CYCLES], left[-1]
    print(
        f"load: {CYCLES} scenes opened and closed: {len(last.nodes - first.nodes)} nodes, "
        f"{last.observers - first.observers} observers, {last.threads - first.threads} threads and {last.processes} "
        "processes left over",
        flush=True,
    )
    return last == first
