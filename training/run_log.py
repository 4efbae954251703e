"""What a person sees of a run: the log as CSV, the curve as a picture, TensorBoard's scalars and sample pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from training.crops import Sample
from training.dataset import write_beside
from training.run_state import Row

LOG_FILE, CURVE_FILE, TENSORBOARD_FOLDER = "log.csv", "curve.png", "tensorboard"
DICE = "validation_dice"
TARGET_COLOUR, ANSWER_COLOUR = (0.1, 0.8, 0.2), (1.0, 0.3, 0.1)
SHOWN_DEVIATIONS = 2.5
"""Normalised intensities from minus to plus this many are shown from black to white."""


class RunLog:
    """The rows of a run, one for each epoch; row 0 is the untrained network's.

    Args:
        folder: of the run.
        rows: of the run so far.
    """

    def __init__(self, folder: Path, rows: list[Row]) -> None:
        self.rows = rows
        self._folder = folder
        # What a run that broke off wrote beyond its saved state is taken back.
        self._writer = SummaryWriter(folder / TENSORBOARD_FOLDER, purge_step=len(rows))

    def add(self, row: Row) -> None:
        """Add an epoch's row."""
        epoch = len(self.rows)
        for key, value in row.items():
            self._writer.add_scalar(key, value, epoch)
        self.rows.append(row)

    def add_pictures(self, answers: Sequence[tuple[Sample, Tensor]]) -> None:
        """Show samples with the last answers [S, S, S] to them, positive inside."""
        for place, (sample, answer) in enumerate(answers):
            picture = outlined(sample, answer)
            self._writer.add_image(f"validation/{place}", picture, len(self.rows) - 1, dataformats="HWC")

    def write(self) -> None:
        """Write the log and the curve.

        Raises:
            ExportError: the folder cannot be written.
        """
        self._writer.flush()
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, columns, restval="")
        writer.writeheader()
        writer.writerows({key: f"{value:.8g}" for key, value in row.items()} for row in self.rows)
        write_beside(self._folder / LOG_FILE, table.getvalue().encode())
        picture = io.BytesIO()
        curve(self.rows).savefig(picture, format="png")
        write_beside(self._folder / CURVE_FILE, picture.getvalue())

    def close(self) -> None:
        self._writer.close()


def curve(rows: Sequence[Row]) -> Figure:
    """Training loss, and validation Dice after each number of clicks, over the steps."""
    figure = Figure((9, 3.5), dpi=100, layout="constrained")
    losses, scores = figure.subplots(1, 2)
    trained = [row for row in rows if "loss" in row]
    losses.plot([row["step"] for row in trained], [row["loss"] for row in trained])
    losses.set(xlabel="step", ylabel="training loss")
    for key in (key for key in rows[0] if key.startswith(DICE)):
        validated = [row for row in rows if key in row]
        steps, values = [row["step"] for row in validated], [row[key] for row in validated]
        scores.plot(steps, values, marker=".", label=key.removeprefix(f"{DICE}_").replace("_", " "))
    scores.set(xlabel="step (0: untrained)", ylabel="validation Dice", ylim=(0, 1))
    scores.legend(title="clicks")
    scores.grid(alpha=0.3)
    return figure


def outlined(sample: Sample, answer: Tensor) -> NDArray[np.float32]:
    """[S, S, 3], the axial plane through the most of the target, target and answer outlined; front up, right left."""
    target = sample.target.numpy()
    plane = int(target.sum((1, 2)).argmax())
    grey = np.clip(sample.image[plane].numpy() / SHOWN_DEVIATIONS / 2 + 0.5, 0, 1)
    picture = np.repeat(grey[..., None], 3, -1).astype(np.float32)
    for mask, colour in ((target[plane], TARGET_COLOUR), ((answer[plane] > 0).cpu().numpy(), ANSWER_COLOUR)):
        picture[mask & ~ndimage.binary_erosion(mask)] = colour
    return picture[::-1, ::-1]
