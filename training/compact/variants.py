"""What the compact network's choices are worth: equal short runs from random weights, one thing changed in each.

    python -m training.compact.variants --config training/configs/compact.yaml --steps 240

Prints a row of a table for each: parameters, and Dice after 1, 3 and 5 clicks on crops of the validation patients.
Under `torchrun` each step is shared among processes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from SAM3DSegmentLib.errors import UserError
from SAM3DSegmentLib.network.compact import BLOCKS, INPUT_CHANNELS, WIDTHS, CompactNetwork, ResidualBlock, unfold
from SAM3DSegmentLib.network.reach import REACH_CHANNELS
from training import configuration as configurations
from training.compact.clicked_batch import VALIDATION_CLICKS, ClickedBatch, validate
from training.compact.samples import RECIPE, Mixture, Sample, Samples, split_by_patient, validation_samples
from training.compact.sarcoma import Case, load_case
from training.compact.train import SPLIT_SEED, VALIDATION_CROPS, VALIDATION_PATIENTS, Trainer
from training.configuration import Configuration
from training.layouts import find_cases
from training.processes import Processes, joined

CROP_SIZE = 32
"""Edge in voxels of the crops that are trained on: a sixth of the work of 64."""

IMAGE_CHANNELS = 8


class LateFusion(CompactNetwork):
    """The image alone passes the levels, once for all clicks; clicks, maps and previous logits meet it at their end."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS, blocks: tuple[int, ...] = BLOCKS) -> None:
        super().__init__(widths, blocks)
        prompt_channels = 8 * (INPUT_CHANNELS - 1) + REACH_CHANNELS
        self.stem = nn.Conv3d(IMAGE_CHANNELS, widths[0], 3, padding=1, bias=False)
        self.prompt = nn.Conv3d(prompt_channels, widths[0], 3, padding=1, bias=False)
        self.fusion = nn.Sequential(*(ResidualBlock(widths[0]) for _ in range(2)))

    def forward(self, image: Tensor, include: Tensor, exclude: Tensor, previous: Tensor, reach: Tensor) -> Tensor:
        """As of `CompactNetwork`."""
        channels = self.channels(image, include, exclude, previous, reach)
        channels = channels.contiguous(memory_format=torch.channels_last_3d)
        seen = self.levels(self.stem(channels[:, :IMAGE_CHANNELS]))
        return unfold(self.head(self.fusion(seen + self.prompt(channels[:, IMAGE_CHANNELS:]))))


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    name: str
    network: Callable[[], CompactNetwork] = CompactNetwork
    mixture: Mixture = RECIPE


VARIANTS = (
    Variant("the recipe as it is"),
    Variant("half the channels", lambda: CompactNetwork((16, 32, 64, 96))),
    Variant("clicks join late", LateFusion),
    Variant("synthetic volumes alone", mixture=Mixture(0, 0, 0)),
)


def dice_of(
    variant: Variant,
    cases: list[Case],
    validation: list[Sample],
    configuration: Configuration,
    steps: int,
    processes: Processes,
) -> tuple[int, dict[str, float]]:
    """How many parameters a variant has, and its Dice by number of clicks after a short run."""
    torch.manual_seed(configuration.seed)
    network = variant.network()
    trainer = Trainer(replace(configuration, backbone=None), processes, steps, network)
    together = configuration.batch_size * processes.count
    samples = Samples(cases, steps, together, configuration.seed, variant.mixture, CROP_SIZE)
    mine = Subset(samples, range(processes.rank, len(samples), processes.count))
    for image, target in DataLoader(mine, configuration.batch_size, num_workers=configuration.workers):
        rng = np.random.default_rng((configuration.seed, 3, trainer.step, processes.rank))
        trainer.train(ClickedBatch(image.to(processes.device), target.to(processes.device), rng))
    scores = validate(trainer.average, validation, processes.device) if processes.rank == 0 else {}
    return sum(p.numel() for p in network.parameters()), scores


def main() -> None:
    """Read the command line and compare; status 2 with one line where the user's input is at fault."""
    parser = argparse.ArgumentParser(description="Compare variants of the compact network.")
    configurations.add_arguments(parser)
    parser.add_argument("--steps", type=int, default=240, help="of each variant")
    options = parser.parse_args()
    try:
        compare(configurations.from_options(options), options.steps)
    except UserError as error:
        parser.error(str(error))


def compare(configuration: Configuration, steps: int) -> None:
    """Run every variant for so many steps and print the table.

    Raises:
        CaseError: `source` holds no scans, too few patients, or a scan that cannot be used.
        ConfigurationError: no `source` is given.
    """
    training, held_out = split_by_patient(
        find_cases(configuration.layout, configuration.source), VALIDATION_PATIENTS, SPLIT_SEED
    )
    cases = [load_case(case, configuration) for case in training]
    validation = validation_samples([load_case(case, configuration) for case in held_out], VALIDATION_CROPS)
    with joined() as processes:
        if processes.rank == 0:
            clicks = " / ".join(map(str, VALIDATION_CLICKS))
            print(f"| what | parameters | Dice after {clicks} clicks |\n| --- | --- | --- |", flush=True)
        for variant in VARIANTS:
            parameters, scores = dice_of(variant, cases, validation, configuration, steps, processes)
            if processes.rank == 0:
                row = " / ".join(f"{score:.3f}" for score in scores.values())
                print(f"| {variant.name} | {parameters / 1e6:.1f} M | {row} |", flush=True)


if __name__ == "__main__":
    main()
