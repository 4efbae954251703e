"""The figures in a model card: `python -m SAM3DSegmentLib.evaluation.model_card REPORT/summary.json CARD.md`.

What stands between the two marker comments of the card is replaced by the tables of the report.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from SAM3DSegmentLib.errors import CaseError, ExportError, UserError
from SAM3DSegmentLib.evaluation.statistics import Summary
from SAM3DSegmentLib.evaluation.tables import effort_table, quality_table

START, END = "<!-- evaluation: start -->", "<!-- evaluation: end -->"


def main(arguments: Sequence[str] | None = None) -> int:
    """Bring a card up to date; 0, or 2 with one line that says what is wrong."""
    parser = argparse.ArgumentParser("python -m SAM3DSegmentLib.evaluation.model_card", description=__doc__)
    parser.add_argument("summary", type=Path, help="summary.json of an evaluation")
    parser.add_argument("card", type=Path, help=f"Markdown file with the lines {START} and {END}")
    options = parser.parse_args(arguments)
    try:
        update_card(options.summary, options.card)
    except UserError as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 2
    return 0


def update_card(summary: Path, card: Path) -> None:
    """Put the tables of a report between the markers of a card; the card is replaced in one step.

    Raises:
        CaseError: the summary is missing or damaged, or the card lacks its markers.
        ExportError: the card cannot be written.
    """
    try:
        content = json.loads(summary.read_text(encoding="utf-8"))
        figures = tables(content)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CaseError(f"{summary} is no summary of an evaluation ({error}): evaluate the model again.") from error
    try:
        text = card.read_text(encoding="utf-8")
    except OSError as error:
        raise CaseError(f"The card {card} cannot be read ({error.strerror}): give an existing file.") from error
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise CaseError(f"{card} has no place for the figures: add the lines {START} and {END} where they belong.")
    partial = card.with_name(f".{card.name}.{os.getpid()}")
    try:
        partial.write_text(f"{before}{START}\n{figures}\n{END}{after}", encoding="utf-8")
        partial.replace(card)
    except OSError as error:
        raise ExportError(f"The card {card} cannot be written ({error.strerror}): make room or permit it.") from error
    finally:
        partial.unlink(missing_ok=True)


def tables(content: dict[str, Any]) -> str:
    """The content of `summary.json` as Markdown: under which conditions, then quality and effort of each group."""
    summaries = [Summary.from_json(method) for method in content["methods"]]
    parts = [
        f"`{content['model']}` (SHA-256 `{content['sha256']}`) on {content['device']}, SAM3DSegment "
        f"{content['version']}, {content['protocol']} protocol.\n"
    ]
    for _, group in groupby(summaries, key=lambda summary: summary.group):
        alike = list(group)
        parts += [quality_table(alike).markdown(), effort_table(alike).markdown()]
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
