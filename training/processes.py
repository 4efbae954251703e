"""The processes that share one run: one by default, as many as `torchrun` started otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from SAM3DSegmentLib.network.device import choose_device


@dataclass(frozen=True)
class Processes:
    """This process among those of the run.

    Attributes:
        rank: of this one; 0 writes files and shows progress.
        count: of all.
        device: of this one.
    """

    rank: int
    count: int
    device: torch.device

    def share(self, network: nn.Module) -> nn.Module:
        """The same module, its gradients averaged over the processes."""
        if self.count == 1:
            return network
        # A step may leave a parameter out: the published layout holds an attention that is never used.
        return DistributedDataParallel(network, find_unused_parameters=True)

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes, in each of them."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values


@contextmanager
def joined() -> Iterator[Processes]:
    """This process, joined with the others for as long as the context lasts."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(0, 1, choose_device("auto"))
        return
    on_gpu = torch.cuda.is_available()
    device = choose_device(f"cuda:{os.environ['LOCAL_RANK']}" if on_gpu else "cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Processes(distributed.get_rank(), count, device)
    finally:
        distributed.destroy_process_group()
