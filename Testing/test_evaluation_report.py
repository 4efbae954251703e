"""An evaluation from its command to its report: ledger, shares, tables, pictures and the model card."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from SAM3DSegmentLib.cli import main
from SAM3DSegmentLib.errors import CaseError, EngineError, ExportError
from SAM3DSegmentLib.evaluation import command
from SAM3DSegmentLib.evaluation import run as runs
from SAM3DSegmentLib.evaluation.cases import Structure
from SAM3DSegmentLib.evaluation.ledger import Ledger
from SAM3DSegmentLib.evaluation.model_card import END, START, update_card
from SAM3DSegmentLib.evaluation.protocol import CENTRE, NOISY, PAPER, User, evaluate
from SAM3DSegmentLib.evaluation.report import Conditions, write_report
from SAM3DSegmentLib.evaluation.rivals import RIVALS
from SAM3DSegmentLib.evaluation.run import Contender, Plan, finished, run_share
from SAM3DSegmentLib.evaluation.share import Share
from Testing.doubles import BrightnessDecoder
from Testing.evaluation_cases import CASES, TARGETS, answering, slicewise, structures, truth, write_nifti

CONDITIONS = Conditions("by slice", "ab" * 32, "cpu", "1.0", "interactive", 3)
TEST_DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "test"


def plan(data: Path, **changes: object) -> Plan:
    full = Plan(data, tuple(structures(data)), (CENTRE, User(NOISY, 0)), 3, data / "out")
    return replace(full, **changes)  # type: ignore[arg-type]


def contender(identity: str = "sha") -> tuple[Contender, list[str]]:
    """A method that notes the case of every start."""
    started: list[str] = []

    def start(volume):  # type: ignore[no-untyped-def]
        started.append(next(case for case in CASES if (truth(volume) == TARGETS[case]).all()))
        return slicewise(volume)

    return Contender("by slice", identity, start), started


def test_finished_trials_are_read_back_as_they_were(data: Path) -> None:
    method, _ = contender()
    tasks = run_share(plan(data), method, Share())
    again = finished(plan(data), tasks)
    fresh = list(evaluate(data, structures(data), {"by slice": slicewise}, plan(data).users, 3))
    assert [(t.structure, t.user, t.clicks) for t in again] == [(t.structure, t.user, t.clicks) for t in fresh]
    for mine, theirs in zip(again, fresh, strict=True):
        assert [(s.clicks, s.dice, s.nsd) for s in mine.steps] == [(s.clicks, s.dice, s.nsd) for s in theirs.steps]
        assert mine.box == theirs.box
        assert np.array_equal(mine.mask, theirs.mask)


def test_evaluation_goes_on_where_it_stopped(data: Path) -> None:
    first, started = contender()
    run_share(plan(data, structures=tuple(structures(data)[:1])), first, Share())
    assert started == [CASES[0]] * 2
    again, started = contender()
    run_share(plan(data), again, Share())
    assert started == [CASES[1]] * 2 + [CASES[2]] * 2
    run_share(plan(data, users=(*plan(data).users, User(NOISY, 1))), again, Share())
    assert started[4:] == list(CASES)


def test_another_model_of_the_same_name_is_evaluated_afresh(data: Path) -> None:
    old, _ = contender("old")
    run_share(plan(data), old, Share())
    new, started = contender("new")
    run_share(plan(data), new, Share())
    assert len(started) == 6


def test_a_corrected_reference_is_evaluated_afresh(data: Path) -> None:
    method, started = contender()
    run_share(plan(data), method, Share())
    path = data / f"{CASES[1]}_label.nii.gz"
    corrected = TARGETS[CASES[1]].copy()
    corrected[10, 16, 13] = False
    write_nifti(path, corrected.astype(np.uint8))
    run_share(plan(data), method, Share())
    assert started[6:] == [CASES[1]] * 2


def test_line_that_is_cut_off_or_of_another_shape_is_passed_over(data: Path) -> None:
    method, started = contender()
    tasks = run_share(plan(data), method, Share())
    file = Ledger(plan(data).out).own_file
    file.write_bytes(file.read_bytes()[:-40] + b"\n{}\n")
    run_share(plan(data), method, Share())
    assert len(started) == 7
    assert len(finished(plan(data), tasks)) == 6


def test_ledger_that_cannot_be_written_says_so(data: Path) -> None:
    (data / "file").write_text("in the way")
    method, _ = contender()
    with pytest.raises(ExportError, match="choose another folder"):
        run_share(plan(data, out=data / "file"), method, Share())


def test_processes_share_out_whole_cases_and_lose_none() -> None:
    listed = [Structure(case, label, "x", case) for case in "ABCDE" for label in (1, 2)]
    shares = [Share(rank, 3).of(listed) for rank in range(3)]
    assert sorted((s for share in shares for s in share), key=listed.index) == listed
    assert all({s.case for s in a}.isdisjoint(s.case for s in b) for a in shares for b in shares if a is not b)
    assert Share().of(listed) == listed


def test_process_knows_its_share_and_its_gpu_from_the_environment() -> None:
    environment = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
    assert Share.from_environment(environment) == Share(3, 4)
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    environment |= {"CUDA_VISIBLE_DEVICES": "6,7"}
    Share.from_environment(environment)
    assert environment["CUDA_VISIBLE_DEVICES"] == "7"
    alone: dict[str, str] = {}
    assert Share.from_environment(alone) == Share(0, 1)
    assert not alone


def test_trials_of_all_processes_are_merged_in_the_order_of_the_table(data: Path) -> None:
    method, started = contender()
    run_share(plan(data), method, Share(1, 2))
    tasks = run_share(plan(data), method, Share(0, 2))
    assert started == [CASES[1]] * 2 + [CASES[0]] * 2 + [CASES[2]] * 2
    assert [t.structure.case for t in finished(plan(data), tasks)] == [case for case in CASES for _ in range(2)]


def test_process_that_writes_the_report_does_not_wait_for_ever(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(runs, "PATIENCE_SECONDS", 0.05)
    method, _ = contender()
    tasks = run_share(plan(data), method, Share(0, 2))
    with pytest.raises(EngineError, match="2 of 6 trials are missing"):
        finished(plan(data), tasks)


@pytest.fixture
def report(data: Path) -> Path:
    trials = list(evaluate(data, structures(data), {"by slice": slicewise}, [CENTRE, User(NOISY, 0)], 3))
    out = data / "new" / "report"
    write_report(trials, CONDITIONS, out, data)
    return out


def test_table_holds_every_answer(report: Path) -> None:
    with (report / "clicks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18
    assert (rows[0]["case"], rows[0]["patient"], rows[0]["group"]) == ("P_001_CT", "P_001", "others")
    assert 0 < float(rows[0]["dice"]) < float(rows[2]["dice"]) < 1
    assert rows[1]["nsd_2mm"] == ""


def test_summary_names_the_model_and_the_conditions(report: Path) -> None:
    summary = json.loads((report / "summary.json").read_text())
    assert (summary["model"], summary["sha256"], summary["clicks_allowed"]) == ("by slice", "ab" * 32, 3)
    assert [m["user"] for m in summary["methods"]] == ["centre", "noisy"]
    assert [score["clicks"] for score in summary["methods"][0]["scores"]] == [1, 3]


def test_page_needs_no_other_file_and_shows_curves_pictures_and_tables(report: Path) -> None:
    pictures = ["best_by_slice.png", "curves.png", "median_by_slice.png", "worst_by_slice.png"]
    assert sorted(p.name for p in report.glob("*.png")) == pictures
    page = (report / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]{0,22})', page)
    assert sources == ["data:image/png;base64,"] * 4
    for text in ("Dice of every trial", "clicks to 0.80 (never)", "peak memory", "NSD 5 mm", "worst: P_00"):
        assert text in page


def test_names_in_the_page_are_text_and_no_markup(data: Path) -> None:
    strange = [replace(s, name="<script>alert(1)</script>") for s in structures(data)]
    trials = list(evaluate(data, strange, {"m": slicewise}, [CENTRE], 1))
    write_report(trials, CONDITIONS, data / "out", data)
    assert "<script>" not in (data / "out" / "report.html").read_text()


def test_paper_protocol_has_a_report_of_its_own_counts(data: Path) -> None:
    trials = list(evaluate(data, structures(data), {"m": slicewise}, [PAPER], 10))
    write_report(trials, replace(CONDITIONS, protocol="paper", clicks_allowed=10), data / "out", data)
    page = (data / "out" / "report.html").read_text()
    assert "<th>1 click</th><th>3 clicks</th><th>10 clicks</th>" in page
    assert "clicks to" not in page


def test_report_that_cannot_be_written_says_so(data: Path) -> None:
    trials = list(evaluate(data, structures(data)[:1], {"m": answering(lambda v, c: truth(v))}, [CENTRE], 1))
    (data / "file").write_text("in the way")
    with pytest.raises(ExportError, match="choose another folder"):
        write_report(trials, CONDITIONS, data / "file", data)


def test_card_gets_the_figures_between_its_markers_and_keeps_the_rest(report: Path, tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text(f"before\n\n{START}\nold\n{END}\n\nafter\n")
    for _ in range(2):
        update_card(report / "summary.json", card)
    text = card.read_text()
    assert text.startswith(f"before\n\n{START}\n`by slice` (SHA-256")
    assert text.endswith(f"{END}\n\nafter\n")
    assert "old" not in text
    summary = json.loads((report / "summary.json").read_text())
    mean = summary["methods"][0]["scores"][1]["dice"]["mean"]
    assert re.search(rf"\| by slice \| centre \| Dice \| [^|]+ \| {mean:.3f} \[", text)


def test_card_without_markers_or_damaged_summary_is_refused_and_kept(report: Path, tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("nothing here\n")
    with pytest.raises(CaseError, match="has no place for the figures"):
        update_card(report / "summary.json", card)
    (tmp_path / "summary.json").write_text('{"model": "m"}')
    with pytest.raises(CaseError, match="no summary of an evaluation"):
        update_card(tmp_path / "summary.json", card)
    assert card.read_text() == "nothing here\n"


@pytest.mark.parametrize("option", [["--clicks", "0"], ["--seeds", "-1"], ["--protocol", "other"]])
def test_command_refuses_counts_that_make_no_evaluation(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--data", "d", "--cases", "c", "--out", "o", *option])
    assert ended.value.code == 2
    assert option[0] in capsys.readouterr().err


class LightEngine(BrightnessDecoder):
    """An engine of a network that calls everything bright the object; on any device."""

    def __init__(self, model: str, device: str) -> None:
        super().__init__()
        self.device = device

    def __enter__(self) -> LightEngine:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def threshold(self, crop: np.ndarray, clicks: int) -> float:
        return 50


def test_command_keeps_trials_of_the_same_program_and_device_alone(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "Engine", LightEngine)
    (data / "one.tsv").write_text(f"case\tlabel_value\n{CASES[0]}\t1\n")
    where = ["--data", str(data), "--cases", str(data / "one.tsv"), "--out", str(data / "out")]

    def run_on(device: str) -> int:
        """How many trials were run, the others being kept."""
        assert main(["evaluate", *where, "--clicks", "1", "--seeds", "0", "--device", device]) == 0
        return capsys.readouterr().err.count(": Dice")

    assert [run_on("cpu"), run_on("cpu"), run_on("cuda")] == [1, 0, 1]
    monkeypatch.setattr(command, "__version__", "99")
    assert [run_on("cpu"), run_on("cpu")] == [1, 0]
    summary = json.loads((data / "out" / "summary.json").read_text())
    assert (summary["version"], summary["device"], len(summary["methods"])) == ("99", "cpu", 1)


def test_rivals_meet_users_of_their_own_and_get_the_clicks_of_the_model(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "Engine", LightEngine)
    (data / "one.tsv").write_text(f"case\tlabel_value\n{CASES[0]}\t1\n")
    where = ["--data", str(data), "--cases", str(data / "one.tsv"), "--out", str(data / "out")]

    def run(protocol: str) -> tuple[dict[tuple[str, str], list[tuple[str, ...]]], int]:
        """The clicks of each method and user, and how many trials were run for them."""
        how = ["--clicks", "3", "--seeds", "1", "--protocol", protocol, "--rivals"]
        assert main(["evaluate", *where, *how]) == 0
        made: dict[tuple[str, str], list[tuple[str, ...]]] = {}
        with (data / "out" / "clicks.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                made.setdefault((row["method"], row["user"]), []).append((row["r"], row["a"], row["s"], row["include"]))
        return made, capsys.readouterr().err.count(": Dice")

    clicks, fresh = run("interactive")
    model = LightEngine("", "cpu").specification.name
    rivals = [name for rival in RIVALS for name in (rival, f"{rival}, {model}'s clicks")]
    assert [method for method, user in clicks if user == "centre"] == [model, *rivals]
    for user in ("centre", "noisy"):
        assert all(clicks[f"{rival}, {model}'s clicks", user] == clicks[model, user] for rival in RIVALS)
        assert any(clicks[rival, user] != clicks[model, user] for rival in RIVALS)
    assert fresh == 10
    assert run("interactive") == (clicks, 0)
    assert list(run("paper")[0]) == [(method, "paper") for method in (model, *RIVALS)]


@pytest.mark.skipif(not TEST_DATA.is_dir(), reason=f"the test scans are not in {TEST_DATA}")
@pytest.mark.parametrize("protocol", ["interactive", "paper"])
def test_command_evaluates_the_bundled_model_on_a_real_scan(protocol: str, tmp_path: Path) -> None:
    table = tmp_path / "one.tsv"
    table.write_text("case\tlabel_value\tstructure\nSTS_042_MR_T1\t1\tsarcoma GTV\n")
    where = ["--data", str(TEST_DATA), "--cases", str(table), "--out", str(tmp_path / "out")]
    how = ["--clicks", "1", "--seeds", "0", "--protocol", protocol, "--device", "cpu"]
    assert main(["evaluate", *where, *how]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["model"] == "compact"
    (method,) = summary["methods"]
    assert method["scores"][0]["dice"]["mean"] > 0.2
    assert method["engine_bytes"] is None or method["engine_bytes"] > 50_000_000
