"""Benchmarks of training the adapter network: python -m Testing.bench_training

Crops per second and the share of the time that steps wait for data (reduced network), and the peak memory of one step
of ViT-B's width and depth with and without recomputing activations (a process each).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from SAM3DSegmentLib.intensity import CropStatistics
from Testing.benchmarks import ROOT, peak_memory
from training.configuration import Configuration
from training.dataset import PreparedCase, PreparedDataset, Split
from training.processes import Processes
from training.trainer import Trainer

SIDE = 160
LESION = 20
STEPS = 8
REDUCED = {"width": 96, "depth": 4, "heads": 3, "window": 4, "channels": 32}
VIT_B_STEPS = ((64, False), (64, True), (128, True))
"""Edge of the crop, and whether activations are recomputed: to keep them at 128 takes more than a workstation."""


def prepared(folder: Path) -> PreparedDataset:
    """Four cases of 160^3 voxels with a lesion, three of them to train on."""
    mask = sum((axis - SIDE / 2) ** 2 for axis in np.ogrid[:SIDE, :SIDE, :SIDE]) < LESION**2
    low, high = (SIDE // 2 - LESION,) * 3, (SIDE // 2 + LESION,) * 3
    cases = []
    splits: tuple[Split, ...] = ("train", "train", "train", "validation")
    for number, split in enumerate(splits):
        image = np.random.default_rng(number).normal(0, 10, mask.shape) + 60 * mask
        np.save(folder / f"{number}.image.npy", image.astype(np.int16))
        np.save(folder / f"{number}.mask.npy", mask.astype(np.uint8))
        cases.append(PreparedCase(f"{number}", f"{number}", split, mask.shape, int(mask.sum()), low, high, folder))
    return PreparedDataset(folder, "lesions", 1.0, CropStatistics(), tuple(cases))


def trainer(folder: Path, configuration: Configuration) -> Trainer:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Trainer(configuration, prepared(folder), Processes(0, 1, device))


def speed() -> None:
    """Crops per second, and the share of the time that is spent waiting for them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        configuration = Configuration(
            "bench", "lesions", folder, folder / "run", crop_size=64, sizes=REDUCED, epochs=STEPS, workers=1
        )
        run = trainer(folder, configuration)
        batches = iter(run.batches())
        run.train(next(batches))
        waited, started = 0.0, time.perf_counter()
        for _ in range(STEPS - 1):
            asked = time.perf_counter()
            samples = next(batches)
            waited += time.perf_counter() - asked
            run.train(samples)
        seconds = time.perf_counter() - started
    print(f"reduced network, 64^3        {(STEPS - 1) / seconds:.2f} crops/s, {waited / seconds:.1%} waiting for data")


def print_peak(crop: int, recompute: bool) -> None:
    """The peak memory of one step of a network as wide and deep as ViT-B, in MB: the GPU's, else the process's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        configuration = Configuration("bench", "lesions", folder, folder / "run", crop_size=crop, workers=0)
        run = trainer(folder, replace(configuration, activation_checkpointing=recompute, clicks_per_sample=3))
        before = 0.0 if torch.cuda.is_available() else peak_memory()
        run.train(next(iter(run.batches())))
        peak = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else peak_memory()
    print(f"{peak:.0f} MB, {peak - before:.0f} MB more than before the step")


def memory() -> None:
    for crop, recompute in VIT_B_STEPS:
        words = "activations recomputed" if recompute else "activations kept"
        code = f"from Testing.bench_training import print_peak; print_peak({crop}, {recompute})"
        result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
        print(f"ViT-B, {crop}^3, {words:<23} {result.stdout.strip()}")


def main() -> None:
    speed()
    memory()


if __name__ == "__main__":
    main()
