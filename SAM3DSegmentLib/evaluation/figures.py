"""The figures of a report as PNG: Dice over clicks, and each method's best, median and worst trial in three planes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from SAM3DSegmentLib.evaluation.cases import read_reference
from SAM3DSegmentLib.evaluation.protocol import NOISY, Trial
from SAM3DSegmentLib.evaluation.statistics import Summary
from SAM3DSegmentLib.picture import draw_segmentation

RANKS = ("best", "median", "worst")
NOISY_STYLE = "dashed"
NO_WORD = r"[^\w-]+"
"""What a method's name may hold and a file's had better not."""


@dataclass(frozen=True)
class Picture:
    """A PNG file and what it shows."""

    path: Path
    caption: str


def plot_curves(summaries: Sequence[Summary], path: Path) -> Picture:
    """Mean Dice over the number of clicks with its interval: a panel for each group of structures."""
    groups = list(dict.fromkeys(summary.group for summary in summaries))
    methods = list(dict.fromkeys(summary.method for summary in summaries))
    figure = Figure(figsize=(1.2 + 4.4 * len(groups), 4.2), layout="constrained")
    for axes, group in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups, strict=True):
        for summary in (summary for summary in summaries if summary.group == group):
            colour = f"C{methods.index(summary.method)}"
            style = NOISY_STYLE if summary.user == NOISY else "solid"
            counts, values = zip(*summary.curve, strict=True)
            label = f"{summary.method}, {summary.user} user"
            axes.plot(counts, [value.mean for value in values], color=colour, linestyle=style, marker=".", label=label)
            lows, highs = [value.low for value in values], [value.high for value in values]
            axes.fill_between(counts, lows, highs, color=colour, alpha=0.1, linewidth=0)
        axes.set(title=group, xlabel="clicks", ylabel="Dice", ylim=(0, 1))
        axes.set_xticks(sorted({n for summary in summaries for n, _ in summary.curve}))
        axes.grid(alpha=0.3)
    figure.get_axes()[0].legend(frameon=False, fontsize="small", loc="lower right")
    figure.savefig(path, dpi=130)
    return Picture(path, "Mean Dice over the number of clicks; bands: 95 % bootstrap interval over patients")


def draw_ranked(trials: Sequence[Trial], data: Path, folder: Path) -> list[Picture]:
    """Pictures of one method's best, median and worst trial by the Dice of the last answer, with reference and clicks.

    Args:
        trials: of one method and one user.
        data: the folder of the scans.

    Raises:
        UserError: a scan cannot be read any more, or a picture cannot be written.
    """
    ranked = sorted(trials, key=lambda trial: trial.steps[-1].dice, reverse=True)
    pictures = []
    for rank, place in zip(RANKS, (0, len(ranked) // 2, -1), strict=True):
        trial = ranked[place]
        volume, reference = read_reference(data, trial.structure)
        last = trial.steps[-1]
        path = folder / f"{rank}_{re.sub(NO_WORD, '_', trial.method)}.png"
        draw_segmentation(volume, trial.box, trial.mask, trial.clicks[: last.clicks], path, reference=reference)
        caption = (
            f"{trial.method}, {rank}: {trial.structure.case}, {trial.structure.name}, Dice {last.dice:.3f} after "
            f"{last.clicks} clicks of the {trial.user.name} user (dashed: the reference)"
        )
        pictures.append(Picture(path, caption))
    return pictures
