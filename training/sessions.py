"""Simulated sessions on crops: a user clicks, the adapter network answers; training lowers the loss of the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from SAM3DSegmentLib.network.sam_adapter import SamAdapter
from training.clicking import CropUser
from training.crops import Sample

NOISY_SHARE = 0.5
"""Of the clicks in training, those that are not made where the error is deepest."""

CLICK_STREAM = 3
"""Which random numbers of the seed: the clicks."""


class SimulatedSessions(nn.Module):
    """A network and the users who click on its crops; its forward pass is the loss that a training step lowers.

    Args:
        loss: of logits [1, 2, S, S, S] and a target [1, 1, S, S, S].
        clicks: of each user on one crop.
        recompute: compute activations again in the backward pass, for a fraction of the memory.
        seed: of the users.
    """

    def __init__(
        self, network: SamAdapter, loss: Callable[[Tensor, Tensor], Tensor], clicks: int, recompute: bool, seed: int
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.clicks = clicks
        self.seed = seed
        network.encoder.recompute = recompute
        self._recompute = recompute

    def forward(self, samples: Sequence[Sample]) -> Tensor:
        """Mean loss over the samples and the answers to their users; every click sees the answer to those before."""
        losses = []
        for sample in samples:
            rng = np.random.default_rng((self.seed, CLICK_STREAM, sample.number))
            for logits in self.answers(sample, rng, self.clicks, NOISY_SHARE):
                with torch.autocast(logits.device.type, enabled=False):
                    target = sample.target.to(logits.device)[None, None].float()
                    losses.append(self.loss(logits[None].float(), target))
        return torch.stack(losses).mean()

    def answers(self, sample: Sample, rng: np.random.Generator, clicks: int, noisy_share: float) -> Iterator[Tensor]:
        """Logits [2, S, S, S] of background and tumour after each click; one answer of a network without clicks."""
        network, user = self.network, CropUser(sample.target.numpy(), rng)
        device = network.encoder.depth_embed.device
        windows = (network.sizes.tokens // network.sizes.window) ** 3
        encoding = network.encode(sample.image.to(device), windows, ignore)
        previous: Tensor | None = None
        for _ in range(clicks if network.sizes.clicks else 1):
            if network.sizes.clicks:
                user.click(None if previous is None else (previous > 0).cpu().numpy(), noisy_share)
            points = torch.tensor(user.positions, device=device, dtype=torch.float32).reshape(-1, 3)
            include = torch.tensor(user.include, device=device, dtype=torch.bool)
            if self._recompute:
                logits = checkpoint(network.decode, encoding, points, include, previous, use_reentrant=False)
            else:
                logits = network.decode(encoding, points, include, previous)
            previous = answer_of(logits)
            yield logits


def answer_of(logits: Tensor) -> Tensor:
    """[S, S, S] float32: how much more likely tumour is than background, above 0 where it is."""
    background, tumour = logits.detach().float()
    return tumour - background


def ignore(fraction: float) -> None:
    """Progress within one crop, which nobody watches."""
