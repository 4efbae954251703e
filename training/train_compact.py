"""Train the compact network: synthetic volumes and real tumours, clicks simulated as the product's users make them.

    python -m training.train_compact --data FOLDER --out FOLDER [--steps N] [--seed N]

Uses a CUDA GPU where there is one, the CPU otherwise; the same seed draws the same samples. Interrupted, the same
command goes on from `state.pt` in the output folder.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceCELoss
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from SAM3DSegmentLib.evaluation.simulated_user import next_click
from SAM3DSegmentLib.intensity import CropStatistics
from SAM3DSegmentLib.network.compact import CROP_SIZE, CompactNetwork, click_map
from training.sarcoma import Case, load_cases, real_sample
from training.synthetic import synthetic_sample, uniform

VALIDATION_PATIENTS = 5
VALIDATION_CLICKS = (1, 3, 5)
CROP_SPACING = (1.0, 1.0, 1.0)
SKIPPED_ROUNDS = (0, 0, 1, 2, 3)
"""Rounds of clicks that pass without a gradient between the two that train, drawn for each batch."""

Sample = tuple[Tensor, Tensor]


class Samples(Dataset[Sample]):
    """Sample `n` of a seed is always the same: synthetic or a crop of a real case; image and target [1, S, S, S]."""

    def __init__(self, cases: list[Case], length: int, seed: int, real_share: float) -> None:
        self.cases = cases
        self.length = length
        self.seed = seed
        self.real_share = real_share

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng((self.seed, index))
        if self.cases and rng.random() < self.real_share:
            image, target, inside = real_sample(self.cases[int(rng.integers(len(self.cases)))], CROP_SIZE, rng)
        else:
            image, target = synthetic_sample(CROP_SIZE, rng)
            inside = outside_cut(rng)
        target = target & inside
        if not target.any():
            return self[index + self.length]
        return network_input(image, inside), target[None]


def outside_cut(rng: np.random.Generator) -> Tensor:
    """[S, S, S], False beyond a random face, as where a crop reaches out of the volume."""
    inside = torch.ones((CROP_SIZE,) * 3, dtype=torch.bool)
    if rng.random() < 0.3:
        axis, width = int(rng.integers(3)), int(uniform(rng, 1, CROP_SIZE * 0.4))
        start = 0 if rng.random() < 0.5 else CROP_SIZE - width
        inside.narrow(axis, start, width).fill_(False)
    return inside


def network_input(image: Tensor, inside: Tensor) -> Tensor:
    """[1, S, S, S] normalised as the product normalises a crop."""
    return torch.from_numpy(CropStatistics().apply(image.numpy(), inside.numpy()))[None]


class ClickedBatch:
    """A batch in training: its clicks so far and the answer to them."""

    def __init__(self, image: Tensor, target: Tensor, rng: np.random.Generator) -> None:
        self.image = image
        self.target = target
        self.rng = rng
        self.previous = torch.zeros_like(image)
        self.points: list[tuple[list[list[float]], list[list[float]]]] = [([], []) for _ in image]

    def click(self, noisy_share: float) -> None:
        """Each sample's user makes the next click; `noisy_share` of them not where it is deepest."""
        references = self.target[:, 0].cpu().numpy()
        answers = (self.previous[:, 0] > 0).cpu().numpy()
        for reference, answer, (include, exclude) in zip(references, answers, self.points, strict=True):
            noisy = self.rng.random() < noisy_share
            click = next_click(reference, answer if include else None, CROP_SPACING, self.rng, noisy)
            if click:
                (include if click[1] else exclude).append([float(c) for c in click[0]])

    def forward(self, network: CompactNetwork, drop_previous: bool = False) -> Tensor:
        """Logits [B, 1, S, S, S] for the clicks so far; they become the previous answer."""
        device = self.image.device
        include, exclude = (
            torch.stack([click_map(torch.tensor(p[sign], device=device).reshape(-1, 3), CROP_SIZE) for p in self.points])
            for sign in (0, 1)
        )
        previous = torch.zeros_like(self.previous) if drop_previous else self.previous
        logits: Tensor = network(self.image, include[:, None], exclude[:, None], previous)
        self.previous = logits.detach().float()
        return logits


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """[B], overlap of the thresholded logits with the target."""
    mask = logits > 0
    axes = (1, 2, 3, 4)
    return 2 * (mask & target).sum(axes) / (mask.sum(axes) + target.sum(axes)).clamp_min(1)


def validation_set(cases: list[Case], count: int) -> list[Sample]:
    """Crops of the validation patients, the same in every run."""
    samples = []
    for index in range(count):
        rng = np.random.default_rng((1, index))
        image, target, inside = real_sample(cases[index % len(cases)], CROP_SIZE, rng, augment=False)
        samples.append((network_input(image, inside), target[None]))
    return samples


@torch.no_grad()
def validate(network: CompactNetwork, samples: list[Sample], device: torch.device) -> dict[str, float]:
    """Mean Dice after each of `VALIDATION_CLICKS` clicks of the simulated user."""
    scores: dict[int, list[float]] = {n: [] for n in VALIDATION_CLICKS}
    for index, (image, target) in enumerate(samples):
        batch = ClickedBatch(image[None].to(device), target[None].to(device), np.random.default_rng((2, index)))
        for n in range(1, max(VALIDATION_CLICKS) + 1):
            batch.click(noisy_share=0)
            batch.forward(network)
            if n in scores:
                scores[n].append(float(dice(batch.previous, batch.target)))
    return {f"dice_{n}": float(np.mean(v)) for n, v in scores.items()}


def split(cases: list[Case], seed: int) -> tuple[list[Case], list[Case]]:
    """Training and validation cases; a patient's scans stay together."""
    patients = sorted({c.patient for c in cases})
    held_out = set(np.random.default_rng(seed).permutation(patients)[:VALIDATION_PATIENTS])
    return [c for c in cases if c.patient not in held_out], [c for c in cases if c.patient in held_out]


def infinite(loader: DataLoader[Sample]) -> Iterator[Sample]:
    while True:
        yield from loader


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over 2 % of the steps, then a cosine to 1 %."""
    warm_up = max(1, steps // 50)
    if step < warm_up:
        return peak * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def save_atomically(content: dict[str, object], path: Path) -> None:
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    os.replace(partial, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of NAME_image.nii.gz and NAME_label.nii.gz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--peak-rate", type=float, default=8e-4)
    parser.add_argument("--real-share", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=500, help="steps between validations and saved states")
    options = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    training, held_out = split(load_cases(options.data), options.seed)
    validation = validation_set(held_out, 24)
    network = CompactNetwork().to(device, memory_format=torch.channels_last_3d)
    average = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=options.peak_rate, weight_decay=1e-2)
    loss_function = DiceCELoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)
    state_path = options.out / "state.pt"
    first = 0
    if state_path.exists():
        state = torch.load(state_path, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]

    samples = Samples(training, options.steps * options.batch, options.seed, options.real_share)
    remaining = torch.utils.data.Subset(samples, range(first * options.batch, len(samples)))
    loader = DataLoader(remaining, options.batch, num_workers=1 if device.type == "cpu" else 12, prefetch_factor=8)
    log = csv.writer((options.out / "log.csv").open("a", newline="", buffering=1))
    started = time.monotonic()
    losses: list[tuple[float, float]] = []
    for step, (image, target) in enumerate(loader, first):
        rng = np.random.default_rng((options.seed, 3, step))
        batch = ClickedBatch(image.to(device), target.to(device), rng)
        skipped = int(rng.choice(SKIPPED_ROUNDS))
        step_losses = []
        for n in range(skipped + 2):
            batch.click(noisy_share=0.6)
            trains = n in (0, skipped + 1)
            drop_previous = bool(rng.random() < 0.15)
            with torch.set_grad_enabled(trains), torch.autocast(device.type, torch.bfloat16, device.type == "cuda"):
                logits = batch.forward(network, drop_previous)
            if not trains:
                continue
            loss = loss_function(logits.float(), batch.target.float())
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, options.steps, options.peak_rate)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            decay = min(0.998, (1 + step) / (10 + step))
            with torch.no_grad():
                for kept, current in zip(average.parameters(), network.parameters(), strict=True):
                    kept.lerp_(current, 1 - decay)
            step_losses.append(loss.item())
        losses.append((step_losses[0], step_losses[1]))
        done = step + 1
        if done % options.every == 0 or done == options.steps:
            scores = validate(average, validation, device)
            first_loss, later_loss = np.mean(losses, axis=0)
            losses = []
            row = {"step": done, "first_click_loss": first_loss, "later_click_loss": later_loss, **scores}
            print(json.dumps({**row, "minutes": (time.monotonic() - started) / 60}), flush=True)
            log.writerow([f"{value:.5g}" for value in row.values()])
            save_file({k: v.half().contiguous() for k, v in average.state_dict().items()}, options.out / "compact.safetensors")
            states = {"network": network, "average": average, "optimizer": optimizer}
            save_atomically({"step": done, **{k: v.state_dict() for k, v in states.items()}}, state_path)


if __name__ == "__main__":
    main()
