"""Train the compact network: synthetic volumes and real scans, clicks simulated as the product's users make them.

    python -m training train --config training/configs/compact.yaml

On a GPU where there is one, on the CPU otherwise; under `torchrun` each step is shared among processes, which on a CPU
pays for a single machine too (one thread each). The same seed draws the same samples. Interrupted, it goes on from the
state saved last.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from SAM3DSegmentLib.errors import CheckpointError
from SAM3DSegmentLib.intensity import CropStatistics
from SAM3DSegmentLib.network.adapter_predictor import is_fast_at_bfloat16
from SAM3DSegmentLib.network.compact import CompactNetwork
from SAM3DSegmentLib.network.compact_predictor import save_compact
from SAM3DSegmentLib.network.metadata import Metadata
from SAM3DSegmentLib.network.tensor_files import check_tensors, read_safetensors, shapes_of
from training.compact.clicked_batch import VALIDATION_CLICKS, ClickedBatch, validate
from training.compact.norm import make_norms_fast
from training.compact.optimizer import MuonAndAdamW
from training.compact.samples import RECIPE, Samples, split_by_patient, validation_samples
from training.compact.sarcoma import load_case
from training.configuration import Configuration
from training.dataset import write_beside
from training.layouts import SourceCase, find_cases
from training.processes import Processes, joined
from training.run_state import Row, RunState, conditions_of

VALIDATION_PATIENTS = 5
SPLIT_SEED = 0
"""Whatever the seed of a run: one that goes on from an earlier checkpoint must not train on its validation patients."""

VALIDATION_CROPS = 24
NOISY_SHARE = 0.6
MIDDLE_SHARE = 0.6
"""Of the first clicks, how many are made in the middle of the crop, as the product lays its first one around them."""

SLIP_SHARE = 0.05
"""Of the corrective clicks, how many lie beside what they are meant for."""

DROPPED_SHARE = 0.15
"""Of the answers, how many the network must correct without seeing its previous one."""

SKIPPED_ROUNDS = (0, 0, 0, 1, 1, 2, 4, 8)
"""Rounds of clicks that pass without a gradient between the two that train, drawn for each batch."""

AVERAGE_DECAY = 0.998
ZOOM_LEVELS = (0.75, 1.5, 3.0, 6.0)
LOG_COLUMNS = ("step", "first_click_loss", "later_click_loss", *(f"validation_dice_{n}" for n in VALIDATION_CLICKS))
BEST_FILE, LAST_FILE, LOG_FILE = "best.safetensors", "compact.safetensors", "log.csv"

SAMPLES_PER_EPOCH = 500
"""Where the configuration gives none."""


class Trainer:
    """The network in training, its running average (which is what is shipped), and the optimiser.

    Args:
        network: to train; by default a fresh one of the shipped layout.
        cases: of training and validation, by which a saved run is known again.

    Raises:
        CheckpointError: the checkpoint to start from is damaged, or of another network.
    """

    def __init__(
        self,
        configuration: Configuration,
        processes: Processes,
        steps: int,
        network: CompactNetwork | None = None,
        cases: Sequence[SourceCase] = (),
    ) -> None:
        self.configuration = configuration
        self.processes = processes
        self.steps = steps
        self.step = 0
        self.best = 0.0
        self.rows: list[Row] = []
        self.network = network or CompactNetwork()
        self.start = start_from(configuration.backbone, self.network) if configuration.backbone else None
        if processes.device.type == "cpu":
            make_norms_fast(self.network)
        self.network.to(processes.device, memory_format=torch.channels_last_3d)
        self.shared = processes.share(self.network)
        self.average = copy.deepcopy(self.network)
        self.optimizer = MuonAndAdamW(self.network, configuration.weight_decay)
        self._conditions = conditions_of(configuration, processes.count, cases)
        self.loss = DiceCELoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)

    def train(self, batch: ClickedBatch) -> tuple[float, float]:
        """Two updates: on the answer to the first click, and on one to later, corrective clicks; their losses."""
        device = self.processes.device.type
        lower = self.configuration.precision == "bf16" and is_fast_at_bfloat16(self.processes.device)
        # Drawn by the step alone: every process runs the same rounds, whose gradients meet.
        skipped = int(np.random.default_rng((self.configuration.seed, 4, self.step)).choice(SKIPPED_ROUNDS))
        losses = []
        for n in range(skipped + 2):
            batch.click(NOISY_SHARE, MIDDLE_SHARE, SLIP_SHARE)
            trains = n in (0, skipped + 1)
            drop_previous = bool(batch.rng.random() < DROPPED_SHARE)
            with torch.set_grad_enabled(trains), torch.autocast(device, torch.bfloat16, enabled=lower):
                logits = batch.answer(self.shared if trains else self.network, drop_previous)
            if trains:
                losses.append(self._update(self.loss(logits.float(), batch.target.float())))
        self.step += 1
        return losses[0], losses[1]

    def _update(self, loss: Tensor) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.configuration.learning_rate * part_of_peak(self.step, self.steps)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.configuration.gradient_clip)
        self.optimizer.step()
        decay = min(AVERAGE_DECAY, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for kept, current in zip(self.average.parameters(), self.network.parameters(), strict=True):
                kept.lerp_(current, 1 - decay)
        return loss.item()

    def save(self) -> None:
        """Replace the saved state.

        Raises:
            ExportError: the folder cannot be written.
        """
        RunState(
            conditions=self._conditions,
            step=self.step,
            backbone_sha256="",
            best=self.best,
            rows=self.rows,
            network={
                f"{part}.{name}": value.cpu()
                for part, network in (("network", self.network), ("average", self.average))
                for name, value in network.state_dict().items()
            },
            optimizer=self.optimizer.state_dict(),
        ).save(self.configuration.out)

    def resume(self) -> None:
        """Go on from the saved state, where there is one.

        Raises:
            CheckpointError: it is damaged, or of a version with another optimiser.
            ConfigurationError: it belongs to another run.
        """
        state = RunState.load(self.configuration.out, self._conditions)
        if state is None:
            return
        if state.optimizer.keys() != self.optimizer.state_dict().keys():
            raise CheckpointError(
                f"{self.configuration.out} holds a run of a version with another optimiser: give another folder (out)."
            )
        for part, network in (("network", self.network), ("average", self.average)):
            start = f"{part}."
            network.load_state_dict(
                {name.removeprefix(start): value for name, value in state.network.items() if name.startswith(start)}
            )
        # A copy: the state's own tensors lie in the file, which is going to be replaced.
        self.optimizer.load_state_dict(copy.deepcopy(state.optimizer))
        self.step, self.best, self.rows = state.step, state.best, state.rows


def part_of_peak(step: int, steps: int) -> float:
    """The learning rate as a part of its peak: linear warm-up over 2 % of the steps, then a cosine to 1 %."""
    warm_up = max(1, steps // 50)
    if step < warm_up:
        return (step + 1) / warm_up
    progress = min(1.0, (step - warm_up) / max(1, steps - warm_up))
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))


def start_from(checkpoint: Path, network: CompactNetwork) -> Metadata:
    """Give the network the weights of a checkpoint; what that says of itself.

    Raises:
        CheckpointError: it is damaged, or of another network.
    """
    header, tensors = read_safetensors(checkpoint)
    described = Metadata.from_header(header, str(checkpoint))
    check_tensors(tensors, shapes_of(network), str(checkpoint))
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return described


def metadata(trainer: Trainer, together: int, training: list[SourceCase], scores: dict[str, float]) -> Metadata:
    """What the checkpoint says of itself, after steps of `together` crops of the training cases."""
    configuration, start = trainer.configuration, trainer.start
    patients = {case.patient for case in training}
    learned_from = (
        f"{trainer.step} steps of {together} crops: tumours ({RECIPE.tumours:.0%}), implanted lesions "
        f"({RECIPE.implanted:.0%}) and anatomy ({RECIPE.anatomy:.0%}) in {len(training)} scans of "
        f"{len(patients)} patients, and synthetic volumes"
    )
    if start:
        learned_from += f"; on top of {start.name} {start.version} ({start.training_data})"
    return Metadata(
        name=configuration.name,
        version=str(configuration.version),
        task=configuration.task,
        intensity=CropStatistics(),
        spacings=ZOOM_LEVELS,
        signed=True,
        antialias=True,
        training_data=configuration.credited(learned_from),
        metrics=scores,
        licence=configuration.licence,
    )


def run(configuration: Configuration) -> None:
    """Train by a configuration; its `source` is a folder of NAME_image.nii.gz and NAME_label.nii.gz.

    `best.safetensors` in the run's folder is the checkpoint of the best validation so far, `compact.safetensors` that
    of the last one, `log.csv` holds a line for each.

    Raises:
        ConfigurationError: no `source` is given, or the run's folder holds another run.
        CaseError: `source` holds no scans, too few patients, or a scan that cannot be used.
        CheckpointError: the state of the run, or the checkpoint to start from, is damaged or of another network.
        ExportError: the run's folder cannot be written.
    """
    with joined() as processes:
        train(configuration, processes)


def train(configuration: Configuration, processes: Processes) -> None:
    """As `run`, as one of the processes that share it."""
    seed, batch_size, device = configuration.seed, configuration.batch_size, processes.device
    together = batch_size * processes.count
    crops = configuration.samples_per_epoch or SAMPLES_PER_EPOCH
    steps = max(1, configuration.epochs * crops // together)
    every = max(1, configuration.validation_every * crops // together)
    torch.manual_seed(seed)
    cases = find_cases(configuration.layout, configuration.source)
    training, held_out = split_by_patient(cases, VALIDATION_PATIENTS, SPLIT_SEED)
    trainer = Trainer(configuration, processes, steps, cases=cases)
    trainer.resume()

    validation = validation_samples([load_case(case, configuration) for case in held_out], VALIDATION_CROPS)
    samples = Samples([load_case(case, configuration) for case in training], steps, together, seed)
    mine = Subset(samples, range(trainer.step * together + processes.rank, len(samples), processes.count))
    workers = configuration.workers
    configuration.out.mkdir(parents=True, exist_ok=True)
    loader = DataLoader(mine, batch_size, num_workers=workers, prefetch_factor=8 if workers else None)
    leads = processes.rank == 0
    if leads:
        write_log(trainer.rows, configuration.out)
    started = time.monotonic()
    losses: list[tuple[float, float]] = []
    for image, target in loader:
        rng = np.random.default_rng((seed, 3, trainer.step, processes.rank))
        losses.append(trainer.train(ClickedBatch(image.to(device), target.to(device), rng)))
        if not leads or (trainer.step % every and trainer.step != steps):
            continue
        first, later = np.mean(losses, axis=0).tolist()
        losses = []
        scores = validate(trainer.average, validation, device)
        row = {"step": float(trainer.step), "first_click_loss": first, "later_click_loss": later, **scores}
        print(json.dumps({**row, "minutes": (time.monotonic() - started) / 60}), flush=True)
        trainer.rows.append(row)
        described = metadata(trainer, together, training, scores)
        save_compact(trainer.average, described, configuration.out / LAST_FILE)
        score = float(np.mean(list(scores.values())))
        if score > trainer.best:
            trainer.best = score
            save_compact(trainer.average, described, configuration.out / BEST_FILE)
        trainer.save()
        write_log(trainer.rows, configuration.out)


def write_log(rows: Sequence[Row], folder: Path) -> None:
    """Write `log.csv`, a line for each validation.

    Raises:
        ExportError: the folder cannot be written.
    """
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(LOG_COLUMNS)
    writer.writerows([f"{row[column]:.5g}" for column in LOG_COLUMNS] for row in rows)
    write_beside(folder / LOG_FILE, table.getvalue().encode())
