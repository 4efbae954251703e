"""A user who clicks on in a session while the engine behind it is killed at random moments."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass

import numpy as np

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.interaction.session import Session
from SAM3DSegmentLib.scene.application import boot_scene
from SAM3DSegmentLib.scene.click_nodes import read_clicks
from SAM3DSegmentLib.scene.provenance import read_provenance
from SAM3DSegmentLib.scene.segments import read_mask
from SAM3DSegmentLib.scene.volumes import add_volume
from Testing.test_scene_clicks import place

LIGHT = (sys.executable, "-m", "Testing.light_engine")
CLICKS_A_TUMOUR = 20
ANSWER_SECONDS = 300.0
SHAPE = (30, 60, 60)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a user has after the last click.

    Attributes:
        masks: [K, J, I] of each tumour.
        clicks: in the scene, of each tumour.
        made: by the user, of each tumour.
        waits: seconds from each click to its mask.
        failures: sentences that the user was shown.
    """

    masks: list[np.ndarray]
    clicks: list[tuple[Click, ...]]
    made: list[tuple[Click, ...]]
    waits: list[float]
    failures: list[str]

    def same_masks(self, other: Outcome) -> bool:
        """Whether every voxel of every tumour is the same."""
        pairs = zip(self.masks, other.masks, strict=True)
        return all(mask.any() and np.array_equal(mask, its) for mask, its in pairs)

    def lost_clicks(self) -> int:
        """How many clicks are not in the scene."""
        pairs = zip(self.made, self.clicks, strict=True)
        return sum(len(set(made) - {rounded(click) for click in kept}) for made, kept in pairs)


def rounded(click: Click) -> Click:
    r, a, s = (round(c, 6) for c in click.ras)
    return Click((r, a, s), click.include)


class Killer:
    """Kills an engine's process once at a random moment of each click."""

    def __init__(self, engine: Engine, seconds: float, seed: int) -> None:
        self.kills = 0
        self._engine = engine
        self._seconds = seconds
        self._random = random.Random(seed)
        self._timer: threading.Timer | None = None

    def strike_soon(self) -> None:
        """Once within the next moments; the strike before is over by then."""
        if self._timer:
            self._timer.join()
        self._timer = threading.Timer(self._random.uniform(0, self._seconds), self._strike)
        self._timer.start()

    def _strike(self) -> None:
        process = self._engine._process
        if process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
                self.kills += 1


def scan() -> Volume:
    """A noisy bright ball of 13 mm radius."""
    index = np.indices(SHAPE, np.float32) - np.array([15, 30, 30], np.float32).reshape(3, 1, 1, 1)
    ball = (index**2).sum(0) < 13**2
    noise = np.random.default_rng(0).standard_normal(SHAPE)
    return Volume((100 * ball + 15 * noise).astype(np.int16), np.diag([-1.0, -1.0, 1.0, 1.0]))


def points(count: int) -> list[Click]:
    """Clicks in the ball: each tumour's first in its middle, then places that are excluded and included again.

    So each of them asks for a change: one where the mask is right already would not reach the engine.
    """
    rng = random.Random(1)
    clicks = []
    place = (0, 0, 0)
    for number in range(count):
        nth = number % CLICKS_A_TUMOUR
        if nth == 0:
            place = (15 + number // CLICKS_A_TUMOUR % 5, 30, 30)
        elif nth % 2:
            place = (15 + rng.randint(-6, 6), 30 + rng.choice((-6, 6)), 30 + rng.randint(-6, 6))
        k, j, i = place
        clicks.append(Click((-float(i), -float(j), float(k)), nth % 2 == 0))
    return clicks


def click_through(engine: Engine, count: int, killer: Killer | None = None) -> Outcome:
    """Make `count` clicks in a session, each when the one before is answered; a new tumour after every 20."""
    session = Session(boot_scene())
    session.use_engine(engine)
    session.choose_volume(add_volume(session._scene, scan(), "CT"))
    outcome = Outcome([], [], [], [], [])
    clicks = points(count)
    for first in range(0, count, CLICKS_A_TUMOUR):
        session.next_tumour()
        made = clicks[first : first + CLICKS_A_TUMOUR]
        session.place(include=True)
        for click in made:
            if killer:
                killer.strike_soon()
            outcome.waits.append(wait_for(session, click, outcome.failures))
        target = session.tumour.target
        box, found = read_mask(target.segmentation_node, target.segment_id, target.volume_node)
        mask = np.zeros(SHAPE, bool)
        mask[box] = found
        outcome.masks.append(mask)
        outcome.clicks.append(read_clicks(session.lists, target.volume_node))
        outcome.made.append(tuple(made))
    session.close()
    boot_scene().Clear(0)
    return outcome


def wait_for(session: Session, click: Click, failures: list[str]) -> float:
    """Make a click and poll, as a host's timer does, until the mask answers it; the seconds that it took."""
    start = time.monotonic()
    place(session.lists.include if click.include else session.lists.exclude, click.ras)
    session.poll()
    target = session.tumour.target
    while time.monotonic() - start < ANSWER_SECONDS:
        record = read_provenance(target.segmentation_node, target.segment_id)
        if record and len(record.clicks) == len(session.clicks):
            return time.monotonic() - start
        if session.status.failed:
            failures.append(session.status.message)
            return time.monotonic() - start
        time.sleep(0.005)
        session.poll()
    raise AssertionError(f"no answer to {click} within {ANSWER_SECONDS:.0f} s")
