"""Means over trials with 95 % bootstrap intervals over patients, and the summary of an evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from SAM3DSegmentLib.evaluation.cases import OTHERS, TUMOURS
from SAM3DSegmentLib.evaluation.protocol import CLICK_COUNTS, PAPER, Trial

NOC_THRESHOLDS = (0.80, 0.85, 0.90)
RESAMPLES = 2000
PERCENTILES = (2.5, 97.5)
ALL = "all"
"""The group of every structure."""


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: Sequence[float], patients: Sequence[str], seed: int = 0) -> Interval:
    """The mean of `values`, and where it lies if the patients are drawn again, each with all of its values."""
    names, owner = np.unique(patients, return_inverse=True)
    sums = np.bincount(owner, values)
    counts = np.bincount(owner)
    drawn = np.random.default_rng(seed).integers(len(names), size=(RESAMPLES, len(names)))
    low, high = np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), PERCENTILES)
    return Interval(float(np.mean(values)), float(low), float(high))


@dataclass(frozen=True)
class Score:
    """What the report says of a method after so many clicks.

    Attributes:
        nsd: one for each of `protocol.NSD_TOLERANCES`.
    """

    clicks: int
    dice: Interval
    nsd: tuple[Interval, ...]


@dataclass(frozen=True)
class Effort:
    """Clicks to a Dice (NoC): the mean, capped at the number of clicks allowed, and the share that never reaches it."""

    threshold: float
    clicks: Interval
    never: float


@dataclass(frozen=True)
class Summary:
    """One method with one kind of user over a group of structures.

    Attributes:
        group: `ALL`, or one of the groups of `cases.Structure`.
        trials, structures, patients: how many there are.
        curve: Dice after each of the clicks made; the paper's protocol makes a few of the counts only.
        efforts, area, later_seconds: None under the paper's protocol, whose clicks correct nothing.
        first_seconds, later_seconds: medians; None where there was no such click.
        own_bytes, engine_bytes: the highest peak of any answer; None where it is unknown or there is no engine.
    """

    group: str
    method: str
    user: str
    trials: int
    structures: int
    patients: int
    scores: tuple[Score, ...]
    curve: tuple[tuple[int, Interval], ...]
    efforts: tuple[Effort, ...] | None
    area: Interval | None
    first_seconds: float
    later_seconds: float | None
    own_bytes: int | None
    engine_bytes: int | None

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Summary:
        """The summary that `dataclasses.asdict` made plain."""
        scores = [
            Score(score["clicks"], Interval(**score["dice"]), tuple(Interval(**nsd) for nsd in score["nsd"]))
            for score in content["scores"]
        ]
        efforts = [Effort(**{**effort, "clicks": Interval(**effort["clicks"])}) for effort in content["efforts"] or ()]
        area = content["area"]
        return cls(
            **{
                **content,
                "scores": tuple(scores),
                "curve": tuple((n, Interval(**value)) for n, value in content["curve"]),
                "efforts": tuple(efforts) or None,
                "area": Interval(**area) if area else None,
            }
        )


def summarise(trials: Iterable[Trial], count: int) -> list[Summary]:
    """One summary for each group of structures, method and kind of user, in the order in which they came.

    All structures come first; groups follow where there are several.

    Args:
        count: the number of clicks allowed, the cap of NoC.
    """
    trials = list(trials)
    present = [group for group in (TUMOURS, OTHERS) if any(trial.structure.group == group for trial in trials)]
    summaries = []
    for group in (ALL, *(present if len(present) > 1 else ())):
        kinds: dict[tuple[str, str], list[Trial]] = {}
        for trial in trials:
            if group in (ALL, trial.structure.group):
                kinds.setdefault((trial.method, trial.user.name), []).append(trial)
        summaries += [summary_of(group, alike, count) for alike in kinds.values()]
    return summaries


def summary_of(group: str, trials: Sequence[Trial], count: int) -> Summary:
    """The summary of trials of one method with one kind of user."""
    patients = [trial.structure.patient for trial in trials]
    corrected = trials[0].user.name != PAPER.name
    made = range(1, count + 1) if corrected else sorted({step.clicks for trial in trials for step in trial.steps})

    def mean(values: Sequence[float]) -> Interval:
        return bootstrap_mean(values, patients)

    def score(n: int) -> Score:
        steps = [trial.at(n) for trial in trials]
        nsd = tuple(mean(at_tolerance) for at_tolerance in zip(*(step.nsd for step in steps), strict=True))
        return Score(n, mean([step.dice for step in steps]), nsd)

    def effort(threshold: float) -> Effort:
        reached = [trial.clicks_to(threshold) for trial in trials]
        return Effort(threshold, mean([n or count for n in reached]), reached.count(None) / len(reached))

    later = [step.seconds for trial in trials for step in trial.steps[1:]] if corrected else []
    own = [step.memory.own for trial in trials for step in trial.steps if step.memory.own]
    engines = [step.memory.engines for trial in trials for step in trial.steps if step.memory.engines]
    return Summary(
        group=group,
        method=trials[0].method,
        user=trials[0].user.name,
        trials=len(trials),
        structures=len({trial.structure for trial in trials}),
        patients=len(set(patients)),
        scores=tuple(score(n) for n in CLICK_COUNTS if n in made),
        curve=tuple((n, mean([trial.at(n).dice for trial in trials])) for n in made),
        efforts=tuple(effort(threshold) for threshold in NOC_THRESHOLDS) if corrected else None,
        area=mean([trial.area(count) for trial in trials]) if corrected else None,
        first_seconds=median(trial.steps[0].seconds for trial in trials),
        later_seconds=median(later) if later else None,
        own_bytes=max(own, default=None),
        engine_bytes=max(engines, default=None),
    )
