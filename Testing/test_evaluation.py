"""The evaluation: the simulated user, metrics, protocols, intervals, rivals and report, on cases of known answer."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.errors import CaseError, ExportError, ScanError
from SAM3DSegmentLib.evaluation.cases import Structure, read_reference, read_structures
from SAM3DSegmentLib.evaluation.metrics import dice, surface_dice
from SAM3DSegmentLib.evaluation.predictor import Method, Predictor
from SAM3DSegmentLib.evaluation.protocol import CENTRE, NOISY, PAPER, Step, Trial, User, evaluate
from SAM3DSegmentLib.evaluation.report import write_report
from SAM3DSegmentLib.evaluation.rivals import RIVALS
from SAM3DSegmentLib.evaluation.simulated_user import next_click
from SAM3DSegmentLib.evaluation.statistics import bootstrap_mean, summarise
from SAM3DSegmentLib.geometry import BoolArray, Volume

SHAPE = (20, 32, 32)
SPACING = (2.0, 1.0, 1.0)
"""mm along K, J, I."""

CASES = ("P_001_CT", "P_001_MR_T1", "P_002_CT")


def ball(centre: tuple[int, int, int], radius: float) -> BoolArray:
    """[K, J, I]: the voxels within `radius` mm of a voxel's centre."""
    offsets = [(axis - c) * s for axis, c, s in zip(np.indices(SHAPE), centre, SPACING, strict=True)]
    return sum(o**2 for o in offsets) <= radius**2


TARGETS = {case: ball((10, 16, 12 + n), 7) for n, case in enumerate(CASES)}


def write_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> None:
    affine = np.diag([*SPACING[::-1], 1.0]) if affine is None else affine
    nibabel.Nifti1Image(voxels.T, affine).to_filename(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three bright balls in noise, and the table that lists them."""
    rng = np.random.default_rng(0)
    for case, target in TARGETS.items():
        write_nifti(tmp_path / f"{case}_image.nii.gz", (100.0 * target + rng.normal(0, 10, SHAPE)).astype(np.float32))
        write_nifti(tmp_path / f"{case}_label.nii.gz", target.astype(np.uint8))
    rows = [f"{case}\t1\tball" for case in CASES]
    (tmp_path / "cases.tsv").write_text("\n".join(["case\tlabel_value\tstructure", *rows]) + "\n")
    return tmp_path


def answering(answer: Callable[[Volume, tuple[Click, ...]], BoolArray]) -> Method:
    """A method from a plain function of the volume and the clicks."""

    def start(volume: Volume) -> Predictor:
        return lambda clicks: answer(volume, clicks)

    return start


def truth(volume: Volume) -> BoolArray:
    return next(target for target in TARGETS.values() if volume.voxels[target].min() > 50)


perfect = answering(lambda volume, clicks: truth(volume))
"""Knows the reference."""

empty = answering(lambda volume, clicks: np.zeros(SHAPE, bool))
"""Never finds anything."""


@answering
def slicewise(volume: Volume, clicks: tuple[Click, ...]) -> BoolArray:
    """Learns the slice (constant K) of each click, and nothing else."""
    mask = np.zeros(SHAPE, bool)
    for click in clicks:
        k, _, _ = volume.index(click.ras)
        mask[k] = truth(volume)[k]
    return mask


def structures(data: Path) -> list[Structure]:
    return read_structures(data / "cases.tsv")


def trial(values: dict[int, float], case: str = "P_001_CT", user: User = CENTRE) -> Trial:
    """A trial with these Dice values by number of clicks; NSD is the same number."""
    steps = tuple(Step(n, value, (value, value), 0.5) for n, value in values.items())
    return Trial("method", Structure(case, 1, "ball"), user, (Click((0, 0, 0)),) * len(steps), steps)


def test_first_click_is_the_deepest_voxel_of_the_target() -> None:
    click = next_click(ball((10, 16, 12), 7), None, SPACING, np.random.default_rng(0))
    assert click == ((10, 16, 12), True)


def test_depth_is_measured_in_millimetres_and_ends_at_the_volume() -> None:
    slab = np.zeros((3, 9, 5), bool)
    slab[:, :, :3] = True
    click = next_click(slab, None, (1.0, 1.0, 10.0), np.random.default_rng(0))
    assert click is not None
    assert click[0][0] == 1


def test_correction_goes_to_the_largest_error_and_takes_its_sign() -> None:
    reference = ball((10, 16, 8), 6)
    surplus = ball((10, 16, 24), 4)
    rng = np.random.default_rng(0)
    missed_small = reference & ~ball((10, 16, 8), 3)
    assert next_click(reference, reference | surplus, SPACING, rng) == ((10, 16, 24), False)
    click = next_click(reference, missed_small | surplus, SPACING, rng)
    assert click == ((10, 16, 24), False)
    assert next_click(reference, surplus, SPACING, rng) == ((10, 16, 8), True)


def test_errors_that_touch_at_a_corner_are_one_component() -> None:
    reference = np.zeros((6, 6, 6), bool)
    reference[:2, :2, :2] = True
    reference[2:4, 2:4, 2:4] = True
    reference[5, 5, 0:5] = True
    lonely = reference.copy()
    lonely[:4, :4, :4] = False
    click = next_click(reference, lonely, (1, 1, 1), np.random.default_rng(0))
    assert click is not None
    assert max(click[0]) < 4


def test_no_error_needs_no_click() -> None:
    reference = ball((10, 16, 12), 7)
    assert next_click(reference, reference, SPACING, np.random.default_rng(0)) is None


def test_noisy_user_clicks_inside_the_error_and_rather_deep_than_shallow() -> None:
    reference = ball((10, 16, 12), 7)
    rng = np.random.default_rng(0)
    clicks = [next_click(reference, None, SPACING, rng, noisy=True) for _ in range(300)]
    places = [click[0] for click in clicks if click]
    assert all(reference[place] for place in places)
    assert len(set(places)) > 100
    inner = ball((10, 16, 12), 3.5)
    assert np.mean([inner[place] for place in places]) > 1.3 * inner.sum() / reference.sum()


def test_dice_of_known_overlaps() -> None:
    first, second = np.zeros((2, 10, 10, 10), bool)
    first[:4], second[2:8] = True, True
    assert dice(first, second) == pytest.approx(2 * 2 / 10)
    assert dice(first, first) == 1
    assert dice(first, ~first) == 0
    assert dice(first & False, first & False) == 1


def test_surface_dice_jumps_at_the_distance_of_parallel_faces() -> None:
    first, second = np.zeros((2, 30, 20, 20), bool)
    first[5:15], second[5:18] = True, True
    below, at, above = surface_dice(first, second, (1.0, 1.0, 1.0), (2.9, 3.0, 5.0))
    assert below < 0.95 < at == above == 1
    assert surface_dice(first, second, (2.0, 1.0, 1.0), (5.9, 6.0))[1] == 1
    assert surface_dice(first, second, (2.0, 1.0, 1.0), (5.9, 6.0))[0] < 0.95


def test_surface_dice_of_an_empty_answer_is_zero() -> None:
    target = ball((10, 16, 12), 7)
    assert surface_dice(target, target & False, SPACING, (2.0, 5.0)) == (0, 0)
    assert surface_dice(target & False, target & False, SPACING, (2.0, 5.0)) == (1, 1)


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("STS_003_CT", "STS_003"),
        ("STS_003_MR_T1", "STS_003"),
        ("STS_001raw_MR_T2FS", "STS_001raw"),
        ("4DLung_113_CT", "4DLung_113"),
        ("TS_example_ct_sm", "TS_example_ct_sm"),
    ],
)
def test_patient_is_the_case_without_its_modality(case: str, patient: str) -> None:
    assert Structure(case, 1, "tumour").patient == patient


def test_structures_are_read_with_the_label_column_that_is_named(tmp_path: Path) -> None:
    table = tmp_path / "t.tsv"
    table.write_text("case\tvalue\nA_CT\t3\n")
    assert read_structures(table, "value") == [Structure("A_CT", 3, "label 3")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "lists no case"),
        ("case\tlabel_value\n", "lists no case"),
        ("case\tlabel\nA\t1\n", "no column 'label_value'"),
        ("case\tlabel_value\nA\tone\n", "case A in .* no whole number"),
        ("case\tlabel_value\nA\n", "case A in .* no whole number"),
    ],
)
def test_table_that_cannot_be_right_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    table = tmp_path / "t.tsv"
    table.write_text(content)
    with pytest.raises(CaseError, match=message):
        read_structures(table)


def test_missing_table_or_scan_is_refused_by_name(data: Path) -> None:
    with pytest.raises(CaseError, match=r"absent\.tsv"):
        read_structures(data / "absent.tsv")
    with pytest.raises(ScanError, match="P_009_CT"):
        read_reference(data, Structure("P_009_CT", 1, "ball"))


def test_label_of_another_grid_or_absent_label_is_refused_by_name(data: Path) -> None:
    with pytest.raises(CaseError, match="P_001_CT holds no voxel of label 7"):
        read_reference(data, Structure("P_001_CT", 7, "ball"))
    moved = np.diag([*SPACING[::-1], 1.0])
    moved[0, 3] = 4
    write_nifti(data / "P_002_CT_label.nii.gz", TARGETS["P_002_CT"].astype(np.uint8), moved)
    with pytest.raises(CaseError, match="P_002_CT lie on different grids"):
        read_reference(data, Structure("P_002_CT", 1, "ball"))


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
    every = list(evaluate(data, structures(data), {"slices": slicewise}, NOISY, 3))
    alone = list(evaluate(data, structures(data)[2:], {"slices": slicewise}, NOISY, 3))
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


def test_report_holds_every_answer_the_summary_the_curves_and_three_pictures(data: Path, tmp_path: Path) -> None:
    methods = {"by slice": slicewise}
    trials = list(evaluate(data, structures(data), methods, [CENTRE, NOISY[0]], 3))
    out = tmp_path / "new" / "report"
    write_report(trials, 3, out, data, methods)
    with (out / "clicks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(t.steps) for t in trials) == 18
    assert rows[0]["case"] == "P_001_CT"
    assert float(rows[0]["dice"]) == pytest.approx(trials[0].steps[0].dice, abs=1e-4)
    assert rows[1]["nsd_2mm"] == ""
    summary = json.loads((out / "summary.json").read_text())
    assert [m["user"] for m in summary["methods"]] == ["centre", "noisy"]
    assert summary["methods"][0]["scores"][0]["clicks"] == 1
    text = (out / "report.md").read_text()
    pictures = ["best_by_slice.png", "curves.png", "median_by_slice.png", "worst_by_slice.png"]
    assert sorted(p.name for p in out.glob("*.png")) == pictures
    assert all(picture in text for picture in pictures)
    assert all((out / picture).stat().st_size > 5_000 for picture in pictures)


def test_report_that_cannot_be_written_says_so(data: Path, tmp_path: Path) -> None:
    trials = [replace(trial({1: 0.5}), method="m")]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ExportError, match="choose another folder"):
        write_report(trials, 1, tmp_path / "file", data, {})
