"""A batch in training: simulated users click on it, the network answers, they correct the answer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from SAM3DSegmentLib.network.compact import CompactNetwork
from SAM3DSegmentLib.network.compact_prompt import click_map, joined
from SAM3DSegmentLib.network.interface import CropClick
from SAM3DSegmentLib.network.reach import reach
from training.clicking import CropUser
from training.compact.samples import Sample

VALIDATION_CLICKS = (1, 3, 5)


class ClickedBatch:
    """Images and targets [B, 1, S, S, S], the users who click on them and the answer to the clicks so far."""

    def __init__(self, image: Tensor, target: Tensor, rng: np.random.Generator) -> None:
        self.image = image
        self.target = target
        self.rng = rng
        self.previous = torch.zeros_like(image)
        self.answered = False
        self.users = [CropUser(reference, rng) for reference in target[:, 0].cpu().numpy()]

    def click(self, noisy_share: float, middle_share: float = 0, slip_share: float = 0) -> None:
        """Each sample's user makes the next click.

        Args:
            noisy_share: how likely it is not where the error is deepest.
            middle_share: how likely a first one is in the middle of the crop, where that holds the target.
            slip_share: how likely a corrective one slips.
        """
        answers = (self.previous[:, 0] > 0).cpu().numpy()
        for user, answer in zip(self.users, answers, strict=True):
            if user.positions:
                user.click(answer, noisy_share, slip_share)
            elif not (self.rng.random() < middle_share and user.click_middle()):
                user.click(None, noisy_share)

    def answer(self, network: CompactNetwork, drop_previous: bool = False) -> Tensor:
        """Logits [B, 1, S, S, S] for the clicks so far; joined as the product joins them they are the next previous."""
        forgets = drop_previous or not self.answered
        previous = torch.zeros_like(self.previous) if forgets else self.previous
        include, exclude = (self._balls(sign) for sign in (True, False))
        logits: Tensor = network(self.image, include, exclude, previous, self._reach())
        self.answered = True
        self.previous = self._joined(logits.detach().float(), None if forgets else previous)
        return logits

    def _joined(self, logits: Tensor, previous: Tensor | None) -> Tensor:
        answers = np.empty(logits.shape, np.float32)
        for n, user in enumerate(self.users):
            clicks = [CropClick(p, sign) for p, sign in zip(user.positions, user.include, strict=True)]
            before = None if previous is None else previous[n, 0].cpu().numpy()
            answers[n, 0] = joined(logits[n, 0].cpu().numpy(), self.image[n, 0].cpu().numpy(), clicks, before)
        return torch.from_numpy(answers).to(logits.device)

    def _balls(self, include: bool) -> Tensor:
        maps = np.stack([click_map(user.clicks(include), self.image.shape[-1]) for user in self.users])
        return torch.from_numpy(maps)[:, None].to(self.image.device)

    def _reach(self) -> Tensor:
        images = self.image[:, 0].cpu().numpy()
        maps = [
            reach(image, user.clicks(True), user.clicks(False)) for image, user in zip(images, self.users, strict=True)
        ]
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
