"""The tables of a report, as HTML and as Markdown: quality after so many clicks, effort and cost, every case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from SAM3DSegmentLib.evaluation.protocol import CLICK_COUNTS, NSD_TOLERANCES, PAPER, PAPER_CLICK_COUNTS, Trial
from SAM3DSegmentLib.evaluation.statistics import NOC_THRESHOLDS, Interval, Summary

MISSING = "–"  # noqa: RUF001
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Table:
    """Rows of text under heads; `title` says what they show."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        lines = [self.heads, ("---",) * len(self.heads), *self.rows]
        return "\n".join([f"{self.title}:", "", *(f"| {' | '.join(cells)} |" for cells in lines)]) + "\n"

    def html(self) -> str:
        heads = "".join(f"<th>{escape(head)}</th>" for head in self.heads)
        rows = "\n".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in self.rows)
        return f"<table><caption>{escape(self.title)}</caption>\n<tr>{heads}</tr>\n{rows}\n</table>\n"


def quality_table(summaries: Sequence[Summary]) -> Table:
    """Means and intervals of Dice and NSD, a column for each number of clicks.

    Args:
        summaries: of one group of structures.
    """
    first = summaries[0]
    counts = [score.clicks for score in first.scores]
    rows = []
    for summary in summaries:
        measures = {"Dice": [score.dice for score in summary.scores]}
        measures |= {
            f"NSD {tolerance:.0f} mm": [score.nsd[n] for score in summary.scores]
            for n, tolerance in enumerate(NSD_TOLERANCES)
        }
        for measure, values in measures.items():
            rows.append((summary.method, summary.user, measure, *(written(value) for value in values)))
    title = (
        f"{first.group}: {first.structures} structures of {first.patients} patients, mean and 95 % bootstrap interval "
        "over patients"
    )
    return Table(title, ("method", "user", "measure", *(clicks_made(n) for n in counts)), tuple(rows))


def effort_table(summaries: Sequence[Summary]) -> Table:
    """Clicks that a Dice takes, area under the curve, seconds and memory.

    Args:
        summaries: of one group of structures.
    """
    corrected = [summary for summary in summaries if summary.efforts]
    thresholds = NOC_THRESHOLDS if corrected else ()
    rows = []
    for summary in summaries:
        efforts = [f"{effort.clicks.mean:.1f} ({effort.never:.0%})" for effort in summary.efforts or ()]
        area = [written(summary.area)] if summary.area else []
        cost = (
            seconds(summary.first_seconds),
            seconds(summary.later_seconds),
            memory(summary.own_bytes),
            memory(summary.engine_bytes),
        )
        rows.append((summary.method, summary.user, *efforts, *area, *cost))
    heads = (
        *("method", "user"),
        *(f"clicks to {threshold:.2f} (never)" for threshold in thresholds),
        *(("area under the curve",) if corrected else ()),
        *("first click", "later click", "peak memory", "engine's"),
    )
    return Table(f"{summaries[0].group}: effort and cost", heads, tuple(rows))


def case_table(trials: Sequence[Trial], count: int) -> Table:
    """Dice of every trial, a column for each number of clicks reported."""
    paper = trials[0].user.name == PAPER.name
    counts = [n for n in (PAPER_CLICK_COUNTS if paper else CLICK_COUNTS) if n <= count]
    rows = tuple(
        (
            *(trial.structure.case, trial.structure.name, trial.structure.group),
            *(trial.method, trial.user.name, str(trial.user.seed)),
            *(f"{trial.at(n).dice:.3f}" for n in counts),
        )
        for trial in trials
    )
    heads = ("case", "structure", "group", "method", "user", "seed", *(clicks_made(n) for n in counts))
    return Table("Dice of every trial", heads, rows)


def clicks_made(count: int) -> str:
    return "1 click" if count == 1 else f"{count} clicks"


def written(value: Interval) -> str:
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"


def seconds(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f} s"


def memory(value: int | None) -> str:
    return MISSING if value is None else f"{value / MEBIBYTE:.0f} MiB"
