"""The protocols, the rivals and the memory that answers take, on cases of known answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.evaluation.cases import read_reference
from SAM3DSegmentLib.evaluation.memory import forget_own_peak, peak_memory
from SAM3DSegmentLib.evaluation.predictor import one_crop_method
from SAM3DSegmentLib.evaluation.protocol import CENTRE, PAPER, evaluate, follow
from SAM3DSegmentLib.evaluation.rivals import RIVALS
from SAM3DSegmentLib.evaluation.statistics import summarise
from SAM3DSegmentLib.geometry import BoolArray, Volume
from SAM3DSegmentLib.intensity import CropStatistics
from SAM3DSegmentLib.specification import Specification
from Testing.evaluation_cases import NOISY_USERS, TARGETS, answering, empty, perfect, slicewise, structures, truth


def test_perfect_method_needs_one_click(data: Path) -> None:
    trials = list(evaluate(data, structures(data), {"perfect": perfect}, [CENTRE], 10))
    assert [len(t.steps) for t in trials] == [1, 1, 1]
    (summary,) = summarise(trials, 10)
    assert [score.dice.mean for score in summary.scores] == [1, 1, 1, 1]
    assert [nsd.mean for score in summary.scores for nsd in score.nsd] == [1] * 8
    assert [(effort.clicks.mean, effort.never) for effort in summary.efforts or ()] == [(1, 0)] * 3
    assert summary.area is not None
    assert summary.area.mean == 1
    assert (summary.structures, summary.patients) == (3, 2)


def test_method_that_finds_nothing_never_reaches_a_dice(data: Path) -> None:
    (summary,) = summarise(evaluate(data, structures(data), {"empty": empty}, [CENTRE], 5), 5)
    assert [(effort.clicks.mean, effort.never) for effort in summary.efforts or ()] == [(5, 1)] * 3
    assert [score.dice.mean for score in summary.scores] == [0, 0, 0]


def test_each_click_corrects_the_answer_before_it(data: Path) -> None:
    (first, *_) = evaluate(data, structures(data), {"slices": slicewise}, [CENTRE], 10)
    target = TARGETS["P_001_CT"]
    k = np.argsort(-target.sum((1, 2)), kind="stable")
    assert len(first.steps) == np.count_nonzero(target.any((1, 2)))
    assert first.steps[-1].dice == 1
    assert all(click.include for click in first.clicks)
    largest = target[k[0]].sum()
    assert first.steps[0].dice == pytest.approx(2 * largest / (largest + target.sum()))
    assert [step.dice for step in first.steps] == sorted(step.dice for step in first.steps)
    assert [bool(step.nsd) for step in first.steps] == [n in (1, 3, 5) or n == 7 for n in range(1, 8)]


def test_users_choices_on_a_structure_do_not_depend_on_the_others(data: Path) -> None:
    every = list(evaluate(data, structures(data), {"slices": slicewise}, NOISY_USERS, 3))
    alone = list(evaluate(data, structures(data)[2:], {"slices": slicewise}, NOISY_USERS, 3))
    assert [t.clicks for t in every[-3:]] == [t.clicks for t in alone]
    assert len({t.clicks for t in alone}) == 3


def test_paper_protocol_draws_voxels_of_the_structure_and_asks_for_each_count_afresh(data: Path) -> None:
    asked: list[tuple[Click, ...]] = []

    @answering
    def listening(volume: Volume, clicks: tuple[Click, ...]) -> BoolArray:
        asked.append(clicks)
        return truth(volume)

    trials = list(evaluate(data, structures(data)[:1], {"listening": listening}, [PAPER], 10))
    volume, reference = read_reference(data, structures(data)[0])
    assert [len(clicks) for clicks in asked] == [1, 3, 10]
    assert asked[2][:3] == asked[1]
    assert len(set(asked[2])) == 10
    assert all(click.include and reference[volume.index(click.ras)] for click in asked[2])
    (summary,) = summarise(trials, 10)
    assert [n for n, _ in summary.curve] == [1, 3, 10]
    assert summary.efforts is None


def test_method_with_the_clicks_of_another_answers_each_beginning_of_them(data: Path) -> None:
    leaders = list(evaluate(data, structures(data), {"slices": slicewise}, NOISY_USERS, 3))
    asked: list[tuple[Click, ...]] = []

    @answering
    def listening(volume: Volume, clicks: tuple[Click, ...]) -> BoolArray:
        asked.append(clicks)
        return truth(volume)

    trials = list(follow(data, "listening", listening, leaders))
    assert [(t.method, t.structure, t.user, t.clicks) for t in trials] == [
        ("listening", t.structure, t.user, t.clicks) for t in leaders
    ]
    assert asked == [leader.clicks[:n] for leader in leaders for n in (1, 2, 3)]
    assert all(step.dice == 1 for trial in trials for step in trial.steps)


@pytest.mark.parametrize("name", RIVALS)
def test_rival_outlines_a_bright_ball_and_keeps_its_promises(data: Path, name: str) -> None:
    (result, *_) = evaluate(data, structures(data)[:1], {name: RIVALS[name]}, [CENTRE], 3)
    assert result.at(3).dice > 0.8
    volume, reference = read_reference(data, structures(data)[0])
    clicks = (Click(volume.ras((10, 16, 12))), Click(volume.ras((10, 16, 14)), include=False))
    mask = RIVALS[name](volume)(clicks)
    assert mask.shape == reference.shape
    assert mask[10, 16, 12]
    assert not mask[10, 16, 14]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's peak memory")
def test_peak_memory_counts_this_process_anew_and_its_children_beside_it() -> None:
    size = 200 << 20
    np.ones(size, np.uint8)
    highest = peak_memory().own
    forget_own_peak()
    before = peak_memory()
    assert highest is not None
    assert before.own is not None
    assert before.own <= highest - size // 2
    hungry = f"x = bytearray(b'1') * {size}; print(len(x), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", hungry], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        during = peak_memory()
        child.communicate(b"\n")
    assert during.engines is not None
    assert during.engines >= size
    assert (during.own or 0) < size + before.own


class Cube:
    """A decoder of 32 voxels at 2 or 4 mm that remembers what it was asked and answers with a cube of 8 voxels."""

    specification = Specification("cube", "1", "00", 32, (2.0, 4.0), CropStatistics(), signed=True, antialias=True)

    def __init__(self) -> None:
        self.asked: list[tuple[list[tuple[tuple[float, float, float], bool]], object]] = []

    def decode(self, crop, clicks, previous, cancelled=None, progress=None):  # type: ignore[no-untyped-def]
        self.asked.append((list(clicks), previous))
        logits = np.full(crop.shape, -1, np.float32)
        logits[12:20, 12:20, 12:20] = 1
        return logits


def test_paper_crop_lies_at_the_midpoint_of_the_clicks_and_is_decoded_once() -> None:
    volume = Volume(np.random.default_rng(0).normal(size=(60, 60, 60)), np.diag([2.0, 2.0, 2.0, 1.0]))
    decoder = Cube()
    clicks = tuple(Click(volume.ras(index)) for index in ((20, 30, 30), (40, 30, 34)))
    mask = one_crop_method(decoder)(volume)(clicks)
    ((placed, previous),) = decoder.asked
    assert previous is None
    # 32 voxels of 4 mm are the paper's 128 mm; the midpoint (30, 30, 32) is the middle of the crop.
    assert placed == [((11.0, 16.0, 15.0), True), ((21.0, 16.0, 17.0), True)]
    k, j, i = np.nonzero(mask)
    assert ((k.min(), k.max()), (j.min(), j.max()), (i.min(), i.max())) == ((22, 36), (22, 36), (24, 38))


def test_paper_crop_without_any_click_in_it_is_empty() -> None:
    volume = Volume(np.random.default_rng(0).normal(size=(200, 4, 4)), np.diag([1.0, 1.0, 1.0, 1.0]))
    decoder = Cube()
    mask = one_crop_method(decoder)(volume)((Click(volume.ras((0, 2, 2))), Click(volume.ras((199, 2, 2)))))
    assert not mask.any()
    assert not decoder.asked
