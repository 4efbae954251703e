"""The report of an evaluation: every answer as CSV, the summary as JSON, and one HTML page that holds its pictures."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from itertools import groupby
from pathlib import Path

from SAM3DSegmentLib.errors import ExportError
from SAM3DSegmentLib.evaluation.figures import Picture, draw_ranked, plot_curves
from SAM3DSegmentLib.evaluation.protocol import NSD_TOLERANCES, Trial
from SAM3DSegmentLib.evaluation.statistics import Summary, summarise
from SAM3DSegmentLib.evaluation.tables import case_table, effort_table, quality_table

NSD_COLUMNS = tuple(f"nsd_{tolerance:.0f}mm" for tolerance in NSD_TOLERANCES)
COLUMNS = (
    *("method", "case", "patient", "structure", "group", "label_value", "user", "seed", "clicks", "include"),
    *("r", "a", "s", "dice", *NSD_COLUMNS, "seconds", "own_bytes", "engine_bytes"),
)
STYLE = """
body { font-family: sans-serif; max-width: 80em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: 1.5em 0; font-size: 0.85em; }
caption { text-align: left; font-weight: bold; padding: 0.3em 0; }
th, td { border-bottom: 1px solid #ccc; padding: 0.2em 0.7em; text-align: left; font-variant-numeric: tabular-nums; }
img { max-width: 100%; }
figure { margin: 1.5em 0; }
"""


@dataclass(frozen=True)
class Conditions:
    """Under which an evaluation ran.

    Attributes:
        model, sha256, device: of the network that is evaluated.
        version: of the program.
        protocol: "interactive" or "paper".
        clicks_allowed: on each structure.
    """

    model: str
    sha256: str
    device: str
    version: str
    protocol: str
    clicks_allowed: int


def write_report(trials: Sequence[Trial], conditions: Conditions, folder: Path, data: Path) -> None:
    """Write `clicks.csv`, `summary.json`, `report.html`, `curves.png` and three pictures of each method.

    Args:
        trials: at least one.
        folder: made where it does not exist.
        data: the folder of the scans, read again for the pictures.

    Raises:
        ExportError: the folder cannot be written.
        UserError: a scan cannot be read any more.
    """
    summaries = summarise(trials, conditions.clicks_allowed)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(trials, folder / "clicks.csv")
        content = {**asdict(conditions), "methods": [asdict(summary) for summary in summaries]}
        (folder / "summary.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        pictures = [plot_curves(summaries, folder / "curves.png")]
        for method in dict.fromkeys(trial.method for trial in trials):
            own = [trial for trial in trials if trial.method == method]
            pictures += draw_ranked([trial for trial in own if trial.user == own[0].user], data, folder)
        (folder / "report.html").write_text(page(summaries, trials, conditions, pictures), encoding="utf-8")
    except OSError as error:
        raise ExportError(
            f"The report cannot be written to {folder} ({error.strerror}): choose another folder, or make room."
        ) from error


def write_csv(trials: Sequence[Trial], path: Path) -> None:
    """One line for each answer; NSD is left blank at the counts where it is not measured, unknown memory too."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for trial in trials:
            structure, user = trial.structure, trial.user
            what = (structure.case, structure.patient, structure.name, structure.group, structure.label_value)
            for step in trial.steps:
                click = trial.clicks[step.clicks - 1]
                nsd = [f"{value:.4f}" for value in step.nsd] or [""] * len(NSD_COLUMNS)
                where = [f"{c:.2f}" for c in click.ras]
                scores = [f"{step.dice:.4f}", *nsd, f"{step.seconds:.3f}", step.memory.own, step.memory.engines]
                who = (user.name, user.seed, step.clicks, int(click.include))
                table.writerow([trial.method, *what, *who, *where, *scores])


def page(
    summaries: Sequence[Summary], trials: Sequence[Trial], conditions: Conditions, pictures: Sequence[Picture]
) -> str:
    """The report as one HTML page that needs no other file."""
    told = (
        f"Model {conditions.model} (SHA-256 {conditions.sha256}) on {conditions.device}, SAM3DSegment "
        f"{conditions.version}, {conditions.protocol} protocol, up to {conditions.clicks_allowed} clicks on each "
        "structure, scored on the whole volume in its native grid. Seconds are medians; memory is the highest resident "
        "memory, of this process with scan and reference, and of the engine process."
    )
    parts = [f"<p>{escape(told)}</p>", figure(pictures[0])]
    for _, group in groupby(summaries, key=lambda summary: summary.group):
        alike = list(group)
        parts += [quality_table(alike).html(), effort_table(alike).html()]
    parts += [figure(picture) for picture in pictures[1:]]
    parts.append(case_table(trials, conditions.clicks_allowed).html())
    title = f"Evaluation of {escape(conditions.model)}"
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    body = "\n".join(parts)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body><h1>{title}</h1>\n{body}\n</body></html>\n'


def figure(picture: Picture) -> str:
    """The picture's bytes within HTML, and its caption."""
    content = base64.b64encode(picture.path.read_bytes()).decode()
    caption = escape(picture.caption)
    image = f'<img alt="{caption}" src="data:image/png;base64,{content}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
