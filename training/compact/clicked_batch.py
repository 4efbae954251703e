"""A batch in training: simulated users click on it, the network answers, they correct the answer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from SAM3DSegmentLib.evaluation.simulated_user import next_click
from SAM3DSegmentLib.geometry import Point
from SAM3DSegmentLib.network.compact import CompactNetwork
from SAM3DSegmentLib.network.compact_prompt import click_map
from SAM3DSegmentLib.network.reach import reach
from training.compact.samples import Sample

VALIDATION_CLICKS = (1, 3, 5)
CROP_SPACING = (1.0, 1.0, 1.0)


class ClickedBatch:
    """Images and targets [B, 1, S, S, S], the clicks made so far and the answer to them."""

    def __init__(self, image: Tensor, target: Tensor, rng: np.random.Generator) -> None:
        self.image = image
        self.target = target
        self.rng = rng
        self.previous = torch.zeros_like(image)
        self.include: list[list[Point]] = [[] for _ in image]
        self.exclude: list[list[Point]] = [[] for _ in image]

    def click(self, noisy_share: float) -> None:
        """Each sample's user makes the next click; `noisy_share` of them not where it is deepest."""
        references = self.target[:, 0].cpu().numpy()
        answers = (self.previous[:, 0] > 0).cpu().numpy()
        for reference, answer, include, exclude in zip(references, answers, self.include, self.exclude, strict=True):
            noisy = self.rng.random() < noisy_share
            click = next_click(reference, answer if include else None, CROP_SPACING, self.rng, noisy)
            if click:
                (include if click[1] else exclude).append(tuple(float(c) for c in click[0]))

    def answer(self, network: CompactNetwork, drop_previous: bool = False) -> Tensor:
        """Logits [B, 1, S, S, S] for the clicks so far; they become the previous answer."""
        previous = torch.zeros_like(self.previous) if drop_previous else self.previous
        logits: Tensor = network(
            self.image, self._maps(self.include), self._maps(self.exclude), previous, self._reach()
        )
        self.previous = logits.detach().float()
        return logits

    def _maps(self, clicks: list[list[Point]]) -> Tensor:
        maps = np.stack([click_map(positions, self.image.shape[-1]) for positions in clicks])
        return torch.from_numpy(maps)[:, None].to(self.image.device)

    def _reach(self) -> Tensor:
        images = self.image[:, 0].cpu().numpy()
        maps = [reach(image, *clicks) for image, *clicks in zip(images, self.include, self.exclude, strict=True)]
        return torch.from_numpy(np.stack(maps)).to(self.image.device)

    def dice(self) -> Tensor:
        """[B], overlap of the last answer with the target."""
        mask, axes = self.previous > 0, (1, 2, 3, 4)
        return 2 * (mask & self.target).sum(axes) / (mask.sum(axes) + self.target.sum(axes)).clamp_min(1)


@torch.no_grad()
def validate(network: CompactNetwork, samples: list[Sample], device: torch.device) -> dict[str, float]:
    """Mean Dice after each of `VALIDATION_CLICKS` clicks of the simulated user."""
    scores: dict[int, list[float]] = {n: [] for n in VALIDATION_CLICKS}
    for index, (image, target) in enumerate(samples):
        batch = ClickedBatch(image[None].to(device), target[None].to(device), np.random.default_rng((2, index)))
        for n in range(1, max(VALIDATION_CLICKS) + 1):
            batch.click(noisy_share=0)
            batch.answer(network)
            if n in scores:
                scores[n].append(batch.dice().item())
    return {f"validation_dice_{n}": float(np.mean(values)) for n, values in scores.items()}
