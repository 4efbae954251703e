"""Means, intervals over patients, clicks needed and groups, from trials of known figures."""

from __future__ import annotations

import numpy as np
import pytest

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.evaluation.cases import Structure, patient_of
from SAM3DSegmentLib.evaluation.memory import PeakMemory
from SAM3DSegmentLib.evaluation.protocol import CENTRE, PAPER, Step, Trial, User
from SAM3DSegmentLib.evaluation.statistics import bootstrap_mean, summarise


def trial(
    values: dict[int, float], case: str = "P_001_CT", user: User = CENTRE, name: str = "ball", seconds: float = 0.5
) -> Trial:
    """A trial with these Dice values by number of clicks; NSD is the same number, step n takes n bytes."""
    steps = tuple(Step(n, value, (value, value), seconds / n, PeakMemory(n, 10 * n)) for n, value in values.items())
    clicks = (Click((0, 0, 0)),) * len(steps)
    structure = Structure(case, 1, name, patient_of(case))
    return Trial("method", structure, user, clicks, steps, (slice(0, 1),) * 3, np.ones((1, 1, 1), bool))


def test_clicks_to_a_dice_and_area_under_the_curve_of_a_known_curve() -> None:
    known = trial({1: 0.5, 2: 0.8, 3: 0.86, 4: 0.84})
    assert [known.clicks_to(t) for t in (0.8, 0.85, 0.9)] == [2, 3, None]
    assert known.area(4) == pytest.approx((0.25 + 0.8 + 0.86 + 0.42) / 3)
    assert trial({1: 0.4, 2: 1.0}).area(5) == pytest.approx((0.2 + 1 + 1 + 1 + 0.5) / 4)
    assert known.area(1) == 0.5


def test_clicks_to_a_dice_are_capped_and_the_share_that_never_reaches_it_is_told() -> None:
    (summary,) = summarise([trial({1: 0.9}), trial({1: 0.2, 2: 0.3}, "P_002_CT")], 2)
    efforts = summary.efforts or ()
    assert [(effort.threshold, effort.clicks.mean, effort.never) for effort in efforts] == [
        (0.8, 1.5, 0.5),
        (0.85, 1.5, 0.5),
        (0.9, 1.5, 0.5),
    ]


def test_interval_counts_patients_not_scans() -> None:
    values = [0.0] * 10 + [1.0] * 10
    few = bootstrap_mean(values, ["a"] * 10 + ["b"] * 10)
    many = bootstrap_mean(values, [str(n) for n in range(20)])
    assert few.mean == many.mean == 0.5
    assert (few.low, few.high) == (0, 1)
    assert 0.2 < many.low < 0.4 < 0.6 < many.high < 0.8


def test_interval_is_the_same_each_time_and_closed_for_one_patient() -> None:
    assert bootstrap_mean([0.1, 0.7, 0.4], [*"abc"]) == bootstrap_mean([0.1, 0.7, 0.4], [*"abc"])
    alone = bootstrap_mean([0.25, 0.75], ["a", "a"])
    assert (alone.low, alone.mean, alone.high) == (0.5, 0.5, 0.5)


def test_groups_are_summarised_beside_all_structures() -> None:
    tumour, organ = trial({1: 0.4}, name="sarcoma GTV"), trial({1: 0.8}, "P_002_CT", name="liver")
    summaries = summarise([tumour, organ], 1)
    dice_of = {summary.group: summary.scores[0].dice.mean for summary in summaries}
    assert dice_of == pytest.approx({"all": 0.6, "tumours": 0.4, "others": 0.8})
    assert [summary.group for summary in summarise([tumour], 1)] == ["all"]


def test_curve_has_an_interval_at_every_click() -> None:
    trials = [trial({1: 0.2, 2: 0.4}), trial({1: 0.6, 2: 0.8}, "P_002_CT")]
    (summary,) = summarise(trials, 2)
    assert [(n, value.low, value.high) for n, value in summary.curve] == [(1, 0.2, 0.6), (2, 0.4, 0.8)]


def test_seconds_are_medians_of_first_and_later_clicks_and_memory_is_the_highest_peak() -> None:
    trials = [trial({1: 0.5, 2: 0.6}, seconds=seconds) for seconds in (1.0, 2.0, 9.0)]
    (summary,) = summarise(trials, 2)
    assert (summary.first_seconds, summary.later_seconds) == (2, 1)
    assert (summary.own_bytes, summary.engine_bytes) == (2, 20)


def test_clicks_of_the_paper_protocol_are_all_first_clicks() -> None:
    (summary,) = summarise([trial({1: 0.5, 3: 0.6}, user=PAPER)], 3)
    assert summary.later_seconds is None
