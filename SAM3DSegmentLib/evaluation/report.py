"""An evaluation and its report: every answer as CSV, the summary as JSON and Markdown, curves and pictures as PNG."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from matplotlib.figure import Figure

from SAM3DSegmentLib.errors import ExportError
from SAM3DSegmentLib.evaluation.cases import read_reference, read_structures
from SAM3DSegmentLib.evaluation.metrics import boxed
from SAM3DSegmentLib.evaluation.predictor import Method, segmenter_method
from SAM3DSegmentLib.evaluation.protocol import CENTRE, NOISY, NSD_TOLERANCES, Trial, evaluate
from SAM3DSegmentLib.evaluation.rivals import RIVALS
from SAM3DSegmentLib.evaluation.statistics import Interval, Summary, summarise
from SAM3DSegmentLib.picture import draw_segmentation
from SAM3DSegmentLib.segmenter import Decoder

NSD_COLUMNS = tuple(f"nsd_{tolerance:.0f}mm" for tolerance in NSD_TOLERANCES)
COLUMNS = (
    *("method", "case", "patient", "structure", "label_value", "user", "seed"),
    *("clicks", "include", "r", "a", "s", "dice", *NSD_COLUMNS, "seconds"),
)
RANKS = ("best", "median", "worst")


def run_evaluation(data: Path, cases: Path, label_column: str, decoder: Decoder, count: int, out: Path) -> None:
    """Evaluate a network by `evaluation.protocol` beside its classical rivals, and write the report to `out`.

    The network meets the centre user and the noisy ones, the rivals the centre user. A line for each trial goes to the
    standard error.

    Args:
        data: the folder of `<case>_image.nii.gz` and `<case>_label.nii.gz`.
        cases: the table of structures.
        label_column: of the table.
        count: clicks allowed on each structure.

    Raises:
        UserError: a case cannot be read, the network fails, or the report cannot be written.
    """
    structures = read_structures(cases, label_column)
    network = {decoder.specification.name: segmenter_method(decoder)}
    trials = []
    for methods, users in ((network, (CENTRE, *NOISY)), (RIVALS, (CENTRE,))):
        for trial in evaluate(data, structures, methods, users, count):
            trials.append(trial)
            scores = " ".join(f"{step.dice:.2f}" for step in trial.steps)
            who = f"{trial.structure.case} {trial.structure.name}, {trial.method}, {trial.user.name} user"
            sys.stderr.write(f"{who}: Dice {scores}\n")
    write_report(trials, count, out, data, {**network, **RIVALS})


def write_report(trials: Sequence[Trial], count: int, folder: Path, data: Path, methods: Mapping[str, Method]) -> None:
    """Write `clicks.csv`, `summary.json`, `curves.png`, `report.md` and the pictures of three trials of each method.

    Args:
        count: the number of clicks allowed.
        folder: made where it does not exist.
        data: the folder of the scans, read again for the pictures.
        methods: by name, asked again for the pictures.

    Raises:
        ExportError: the folder cannot be written.
    """
    summaries = summarise(trials, count)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(trials, folder / "clicks.csv")
        content = {"clicks_allowed": count, "methods": [asdict(summary) for summary in summaries]}
        (folder / "summary.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        plot_curves(summaries, folder / "curves.png")
        pictures = [
            picture for method in methods for picture in draw_ranked(trials, method, methods[method], data, folder)
        ]
        (folder / "report.md").write_text(markdown(summaries, trials, count, pictures), encoding="utf-8")
    except OSError as error:
        raise ExportError(
            f"The report cannot be written to {folder} ({error.strerror}): choose another folder, or make room."
        ) from error


def write_csv(trials: Sequence[Trial], path: Path) -> None:
    """One line for each trial and click; NSD is left blank at the counts where it is not measured."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for trial in trials:
            structure, user = trial.structure, trial.user
            who = (trial.method, structure.case, structure.patient, structure.name, structure.label_value)
            for step in trial.steps:
                click = trial.clicks[step.clicks - 1]
                nsd = [f"{value:.4f}" for value in step.nsd] or [""] * len(NSD_COLUMNS)
                where = [f"{c:.2f}" for c in click.ras]
                scores = [f"{step.dice:.4f}", *nsd, f"{step.seconds:.3f}"]
                table.writerow([*who, user.name, user.seed, step.clicks, int(click.include), *where, *scores])


def plot_curves(summaries: Sequence[Summary], path: Path) -> None:
    """Mean Dice over the number of clicks: a line for each method and user, its interval at the counts reported."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for summary in summaries:
        counts, means = zip(*summary.curve, strict=True)
        (line,) = axes.plot(counts, means, label=f"{summary.method}, {summary.user} user")
        for score in summary.scores:
            axes.plot(
                [score.clicks] * 2, [score.dice.low, score.dice.high], color=line.get_color(), linewidth=3, alpha=0.4
            )
    axes.set(xlabel="Clicks", ylabel="Dice, mean over structures", ylim=(0, 1))
    axes.set_xticks(sorted({n for summary in summaries for n, _ in summary.curve}))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def draw_ranked(trials: Sequence[Trial], name: str, method: Method, data: Path, folder: Path) -> list[Path]:
    """Write pictures of a method's best, median and worst trial by the Dice of the last answer; returns their paths."""
    ranked = sorted((t for t in trials if t.method == name), key=lambda trial: trial.steps[-1].dice, reverse=True)
    paths = []
    for rank, place in zip(RANKS, (0, len(ranked) // 2, -1), strict=True):
        trial = ranked[place]
        volume, reference = read_reference(data, trial.structure)
        clicks = trial.clicks[: trial.steps[-1].clicks]
        mask = method(volume)(clicks)
        path = folder / f"{rank}_{name.replace(' ', '_')}.png"
        draw_segmentation(volume, *boxed(mask), clicks, path, reference=reference)
        paths.append(path)
    return paths


def markdown(summaries: Sequence[Summary], trials: Sequence[Trial], count: int, pictures: Sequence[Path]) -> str:
    """The report as text: means, clicks needed, the curve, pictures, and the last answer of every trial."""
    first = summaries[0]
    lines = [
        "# Evaluation",
        "",
        f"{first.structures} structures of {first.patients} patients, up to {count} clicks, scored on the whole "
        "volume in its native grid. Brackets: 95 % bootstrap interval over patients.",
        "",
        f"| method | user | clicks | Dice | {' | '.join(f'NSD {t:.0f} mm' for t in NSD_TOLERANCES)} |",
        "| --- | --- | --- | --- " + "| --- " * len(NSD_TOLERANCES) + "|",
    ]
    for summary in summaries:
        for score in summary.scores:
            cells = [interval(value) for value in (score.dice, *score.nsd)]
            lines.append(f"| {summary.method} | {summary.user} | {score.clicks} | {' | '.join(cells)} |")
    thresholds = [effort.threshold for effort in first.efforts or ()]
    if thresholds:
        heads = "".join(f" clicks to {threshold:.2f} (never) |" for threshold in thresholds)
        lines += ["", f"| method | user |{heads} area under the curve | first click | later click |"]
        lines.append("| --- | --- |" + " --- |" * (len(thresholds) + 3))
        lines += [effort_line(summary) for summary in summaries if summary.efforts]
    lines += ["", "![Dice over clicks](curves.png)", ""]
    lines += [f"![{path.stem}]({path.name})\n" for path in pictures]
    lines += [
        "| method | user | seed | case | structure | clicks | Dice |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for trial in trials:
        who = (
            f"{trial.method} | {trial.user.name} | {trial.user.seed} | {trial.structure.case} | {trial.structure.name}"
        )
        lines.append(f"| {who} | {trial.steps[-1].clicks} | {trial.steps[-1].dice:.3f} |")
    return "\n".join(lines) + "\n"


def effort_line(summary: Summary) -> str:
    cells = [f"{effort.clicks.mean:.1f} ({effort.never:.0%})" for effort in summary.efforts or ()]
    cells.append(interval(summary.area) if summary.area else "")
    cells.append(f"{summary.first_seconds:.2f} s")
    cells.append("" if summary.later_seconds is None else f"{summary.later_seconds:.2f} s")
    return f"| {summary.method} | {summary.user} | {' | '.join(cells)} |"


def interval(value: Interval) -> str:
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"
