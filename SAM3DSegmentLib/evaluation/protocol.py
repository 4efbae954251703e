"""The protocols: a simulated user clicks on a structure, and each answer is scored on the whole volume."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.evaluation.cases import Structure, read_reference
from SAM3DSegmentLib.evaluation.memory import PeakMemory, forget_own_peak, peak_memory
from SAM3DSegmentLib.evaluation.metrics import boxed, dice, surface_dice
from SAM3DSegmentLib.evaluation.predictor import Method, Predictor
from SAM3DSegmentLib.evaluation.simulated_user import next_click
from SAM3DSegmentLib.geometry import BoolArray, Box, Volume

CLICK_COUNTS = (1, 3, 5, 10)
PAPER_CLICK_COUNTS = (1, 3, 10)
NSD_TOLERANCES = (2.0, 5.0)
"""In mm."""


@dataclass(frozen=True)
class User:
    """Who clicks.

    Attributes:
        name: "centre" (the deepest voxel of the largest error), "noisy" (a voxel of it drawn by depth) or "paper"
            (random voxels of the structure, all at once, no correction).
        seed: of the user's choices; the choices on one structure do not depend on the others.
    """

    name: str
    seed: int = 0

    def choices(self, structure: Structure) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(structure.case.encode()), structure.label_value])


NOISY = "noisy"
CENTRE = User("centre")
PAPER = User("paper")


@dataclass(frozen=True)
class Step:
    """The answer to the first `clicks` clicks of a trial.

    Attributes:
        clicks: their number.
        dice: over the whole volume.
        nsd: one for each of `NSD_TOLERANCES`; empty at the counts that are not reported.
        seconds: from the newest click to the mask.
        memory: at its peak while the answer was made.
    """

    clicks: int
    dice: float
    nsd: tuple[float, ...]
    seconds: float
    memory: PeakMemory


@dataclass(frozen=True, eq=False)
class Trial:
    """One user with one method on one structure.

    Attributes:
        steps: end early where the answer equals the reference.
        box, mask: of the last answer, native voxels (K, J, I) around it and the mask [k, j, i] within them.
    """

    method: str
    structure: Structure
    user: User
    clicks: tuple[Click, ...]
    steps: tuple[Step, ...]
    box: Box
    mask: BoolArray

    def at(self, count: int) -> Step:
        """The answer after `count` clicks, or the last one where no more clicks were needed."""
        return max((step for step in self.steps if step.clicks <= count), key=lambda step: step.clicks)

    def clicks_to(self, threshold: float) -> int | None:
        """Number of clicks to a Dice of at least `threshold`; None where it is never reached."""
        return next((step.clicks for step in self.steps if step.dice >= threshold), None)

    def area(self, count: int) -> float:
        """Area under the Dice-click curve from click 1 to `count`, 0 to 1: trapezia over the width."""
        curve = [self.at(n).dice for n in range(1, count + 1)]
        return curve[0] if count == 1 else (sum(curve) - (curve[0] + curve[-1]) / 2) / (count - 1)


def evaluate(
    folder: Path, structures: Sequence[Structure], methods: dict[str, Method], users: Sequence[User], count: int
) -> Iterator[Trial]:
    """One trial after another: each structure with each method and user, up to `count` clicks.

    Args:
        folder: of the scans and label maps.
        methods: by the name that the report gives them.

    Raises:
        UserError: of the first case that cannot be read.
    """
    for structure in structures:
        volume, reference = read_reference(folder, structure)
        for name, method in methods.items():
            for user in users:
                run = paper_trial if user.name == PAPER.name else interactive_trial
                yield run(name, method, structure, volume, reference, user, count)


def interactive_trial(
    name: str, method: Method, structure: Structure, volume: Volume, reference: BoolArray, user: User, count: int
) -> Trial:
    """Click, look, correct: up to `count` clicks, fewer where the answer equals the reference."""
    rng = user.choices(structure)
    predict = method(volume)
    clicks: tuple[Click, ...] = ()
    steps: list[Step] = []
    prediction: BoolArray | None = None
    while len(clicks) < count:
        chosen = next_click(reference, prediction, volume.spacing, rng, noisy=user.name == NOISY)
        if chosen is None:
            break
        index, include = chosen
        clicks = (*clicks, Click(volume.ras(index), include))
        prediction, step = scored(predict, clicks, reference, volume)
        steps.append(step)
    assert prediction is not None
    return Trial(name, structure, user, clicks, tuple(steps), *boxed(prediction))


def follow(folder: Path, name: str, method: Method, leaders: Sequence[Trial]) -> Iterator[Trial]:
    """A method with the very clicks that users made to correct another one: one trial after another.

    Args:
        folder: of the scans and label maps.
        name: of the method in the report.
        leaders: trials of the other method.

    Raises:
        UserError: of the first case that cannot be read.
    """
    for leader in leaders:
        volume, reference = read_reference(folder, leader.structure)
        predict = method(volume)
        steps = []
        made = len(leader.clicks)
        for count in range(1, made + 1):
            prediction, step = scored(predict, leader.clicks[:count], reference, volume, last=count == made)
            steps.append(step)
        yield Trial(name, leader.structure, leader.user, leader.clicks, tuple(steps), *boxed(prediction))


def paper_trial(
    name: str, method: Method, structure: Structure, volume: Volume, reference: BoolArray, user: User, count: int
) -> Trial:
    """The paper's own protocol: 1, 3 and 10 random voxels of the structure, each list answered at once and afresh.

    The one crop at the midpoint of the clicks is laid by `predictor.one_crop_method`.
    """
    candidates = np.argwhere(reference)
    drawn = user.choices(structure).permutation(candidates)[:count]
    clicks = tuple(Click(volume.ras((int(k), int(j), int(i)))) for k, j, i in drawn)
    steps = []
    for size in (n for n in PAPER_CLICK_COUNTS if n <= len(clicks)):
        prediction, step = scored(method(volume), clicks[:size], reference, volume)
        steps.append(step)
    return Trial(name, structure, user, clicks, tuple(steps), *boxed(prediction))


def scored(
    predict: Predictor, clicks: tuple[Click, ...], reference: BoolArray, volume: Volume, last: bool = False
) -> tuple[BoolArray, Step]:
    """The answer [K, J, I] to a list of clicks, and what it is worth.

    NSD is measured only where it is reported, as it costs seconds on a large mask.

    Args:
        last: whether no more clicks follow, whatever the answer.
    """
    forget_own_peak()
    start = perf_counter()
    prediction = predict(clicks)
    seconds, memory = perf_counter() - start, peak_memory()
    overlap = dice(reference, prediction)
    reported = last or len(clicks) in CLICK_COUNTS or overlap == 1
    nsd = surface_dice(reference, prediction, volume.spacing, NSD_TOLERANCES) if reported else ()
    return prediction, Step(len(clicks), overlap, nsd, seconds, memory)
