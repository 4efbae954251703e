"""Train the compact network: synthetic volumes and real tumours, clicks simulated as the product's users make them.

    python -m training.compact.train --data FOLDER --out FOLDER [--steps N] [--seed N]

Uses a CUDA GPU where there is one, the CPU otherwise; the same seed draws the same samples. Interrupted, the same
command goes on from `state.pt` in the output folder.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from SAM3DSegmentLib.intensity import CropStatistics
from SAM3DSegmentLib.network.compact import CompactNetwork
from SAM3DSegmentLib.network.compact_predictor import save_compact
from SAM3DSegmentLib.network.metadata import Metadata
from training.compact.clicked_batch import ClickedBatch, validate
from training.compact.samples import Samples, split_by_patient, validation_samples
from training.compact.sarcoma import load_cases

VALIDATION_PATIENTS = 5
VALIDATION_CROPS = 24
PEAK_RATE = 8e-4
WEIGHT_DECAY = 1e-2
NOISY_SHARE = 0.6
DROPPED_SHARE = 0.15
"""Of the answers, how many the network must correct without seeing its previous one."""

SKIPPED_ROUNDS = (0, 0, 1, 2, 3)
"""Rounds of clicks that pass without a gradient between the two that train, drawn for each batch."""

AVERAGE_DECAY = 0.998
ZOOM_LEVELS = (0.75, 1.5, 3.0, 6.0)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of NAME_image.nii.gz and NAME_label.nii.gz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--real-share", type=float, default=0.5, help="of the samples, those from real scans")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=250, help="steps between validations and saved states")
    return parser.parse_args()


class Trainer:
    """The network in training, its running average (which is what is shipped), and the optimiser."""

    def __init__(self, device: torch.device, steps: int) -> None:
        self.device = device
        self.steps = steps
        self.step = 0
        self.network = CompactNetwork().to(device, memory_format=torch.channels_last_3d)
        self.average = copy.deepcopy(self.network)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=PEAK_RATE, weight_decay=WEIGHT_DECAY)
        self.loss = DiceCELoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)

    def train(self, batch: ClickedBatch) -> tuple[float, float]:
        """Two updates: on the answer to the first click, and on one to later, corrective clicks; their losses."""
        skipped = int(batch.rng.choice(SKIPPED_ROUNDS))
        losses = []
        for n in range(skipped + 2):
            batch.click(NOISY_SHARE)
            trains = n in (0, skipped + 1)
            drop_previous = bool(batch.rng.random() < DROPPED_SHARE)
            with (
                torch.set_grad_enabled(trains),
                torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"),
            ):
                logits = batch.answer(self.network, drop_previous)
            if trains:
                losses.append(self._update(self.loss(logits.float(), batch.target.float())))
        self.step += 1
        return losses[0], losses[1]

    def _update(self, loss: Tensor) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.steps)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        decay = min(AVERAGE_DECAY, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for kept, current in zip(self.average.parameters(), self.network.parameters(), strict=True):
                kept.lerp_(current, 1 - decay)
        return loss.item()

    def save(self, path: Path) -> None:
        """Written beside, then renamed: a state is never half there."""
        partial = path.with_suffix(".partial")
        parts = {"network": self.network, "average": self.average, "optimizer": self.optimizer}
        torch.save({"step": self.step, **{name: part.state_dict() for name, part in parts.items()}}, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up over 2 % of the steps, then a cosine to 1 %."""
    warm_up = max(1, steps // 50)
    if step < warm_up:
        return PEAK_RATE * (step + 1) / warm_up
    progress = min(1.0, (step - warm_up) / max(1, steps - warm_up))
    return PEAK_RATE * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def metadata(steps: int, batch: int, scores: dict[str, float]) -> Metadata:
    """What the checkpoint says of itself."""
    return Metadata(
        name="compact",
        version="1",
        task="any object under the clicks, tumours first",
        intensity=CropStatistics(),
        spacings=ZOOM_LEVELS,
        signed=True,
        antialias=True,
        training_data=(
            f"{steps} steps of {batch} crops: synthetic volumes, and sarcomas of 28 patients of the TCIA collection "
            "Soft-tissue-Sarcoma (CC BY 3.0, Vallieres et al. 2015) as prepared for IBSI by A. Zwanenburg"
        ),
        metrics=scores,
        licence="Apache-2.0",
    )


def main() -> None:
    options = arguments()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    training, held_out = split_by_patient(load_cases(options.data), VALIDATION_PATIENTS, options.seed)
    validation = validation_samples(held_out, VALIDATION_CROPS)
    trainer = Trainer(device, options.steps)
    state = options.out / "state.pt"
    if state.exists():
        trainer.load(state)

    samples = Samples(training, options.steps * options.batch, options.seed, options.real_share)
    remaining = Subset(samples, range(trainer.step * options.batch, len(samples)))
    workers = 1 if device.type == "cpu" else 12
    loader = DataLoader(remaining, options.batch, num_workers=workers, prefetch_factor=8)
    log = csv.writer((options.out / "log.csv").open("a", newline="", buffering=1))
    started = time.monotonic()
    losses: list[tuple[float, float]] = []
    for image, target in loader:
        rng = np.random.default_rng((options.seed, 3, trainer.step))
        losses.append(trainer.train(ClickedBatch(image.to(device), target.to(device), rng)))
        if trainer.step % options.every and trainer.step != options.steps:
            continue
        first, later = np.mean(losses, axis=0)
        losses = []
        scores = validate(trainer.average, validation, device)
        row = {"step": trainer.step, "first_click_loss": first, "later_click_loss": later, **scores}
        print(json.dumps({**row, "minutes": (time.monotonic() - started) / 60}), flush=True)
        log.writerow([f"{value:.5g}" for value in row.values()])
        described = metadata(trainer.step, options.batch, scores)
        save_compact(trainer.average, described, options.out / "compact.safetensors")
        trainer.save(state)


if __name__ == "__main__":
    main()
