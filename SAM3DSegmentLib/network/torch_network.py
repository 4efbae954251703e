"""A network under PyTorch, asked and answering in arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch

from SAM3DSegmentLib.geometry import Float32Array
from SAM3DSegmentLib.network import checkpoint
from SAM3DSegmentLib.network.device import choose_device
from SAM3DSegmentLib.network.interface import CropClick, Progress, PromptableNetwork


class TorchNetwork:
    """`ArrayNetwork` on any `PromptableNetwork`."""

    def __init__(self, network: PromptableNetwork) -> None:
        self.specification = network.specification
        self._network = network

    @property
    def device(self) -> str:
        return self._network.device.type

    @torch.inference_mode()
    def encode(self, crop: Float32Array, progress: Progress) -> Any:
        return self._network.encode(torch.from_numpy(crop), progress)

    @torch.inference_mode()
    def decode(
        self, encoding: Any, clicks: Sequence[CropClick], previous: Float32Array | None, progress: Progress
    ) -> Float32Array:
        before = None if previous is None else torch.from_numpy(previous)
        logits = self._network.decode(encoding, clicks, before, progress)
        return cast(Float32Array, logits.to("cpu", torch.float32).numpy())


def load_torch_network(path: Path, device: str) -> TorchNetwork:
    """The network of a checkpoint on its device.

    Raises:
        CheckpointError, UnknownModelError: see `checkpoint.load_network`.
        DeviceError: the device is not there.
    """
    return TorchNetwork(checkpoint.load_network(path, choose_device(device)))
