"""The optimiser of the compact network's training: Muon for its convolutions, AdamW for the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from SAM3DSegmentLib.network.compact import CompactNetwork


class MuonAndAdamW:
    """Muon (Jordan et al. 2024) on the kernels of all convolutions but the first and the last, AdamW on the rest.

    Muon makes the update of each kernel, as a matrix [out, in * 27], nearly orthogonal, so that no direction of it is
    learned long before the others. Scaled to the root mean square of AdamW's updates (Liu et al. 2025), it takes
    AdamW's learning rate. Has of a `torch.optim.Optimizer` what `Trainer` needs.

    Args:
        network: in training, its kernels in `channels_last_3d`: Muon's matrices are views of them.
    """

    def __init__(self, network: CompactNetwork, weight_decay: float) -> None:
        convolutions = [module for module in network.modules() if isinstance(module, nn.Conv3d)]
        self._kernels = [c.weight for c in convolutions if c is not network.stem and c is not network.head]
        self._matrices = [nn.Parameter(channels_last(k.detach()).view(len(k), -1)) for k in self._kernels]
        taken = {id(kernel) for kernel in self._kernels}
        rest = [parameter for parameter in network.parameters() if id(parameter) not in taken]
        self._muon = torch.optim.Muon(self._matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self._adam = torch.optim.AdamW(rest, weight_decay=weight_decay, fused=True)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Of both, to set their learning rate by."""
        return [*self._muon.param_groups, *self._adam.param_groups]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in (*self._kernels, *self._matrices):
            parameter.grad = None
        self._adam.zero_grad()

    def step(self) -> None:
        """One update of the network's parameters by their gradients."""
        for matrix, kernel in zip(self._matrices, self._kernels, strict=True):
            matrix.grad = None if kernel.grad is None else channels_last(kernel.grad).reshape(len(kernel), -1)
        self._muon.step()
        self._adam.step()

    def state_dict(self) -> dict[str, Any]:
        """Both states."""
        return {"muon": self._muon.state_dict(), "adam": self._adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from both states."""
        self._muon.load_state_dict(state["muon"])
        self._adam.load_state_dict(state["adam"])


def channels_last(kernel: Tensor) -> Tensor:
    """[out, in, D, H, W] as [out, D, H, W, in]; contiguous where the kernel is in `channels_last_3d`."""
    return kernel.permute(0, 2, 3, 4, 1)
