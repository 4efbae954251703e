"""Which runtime a network runs under: onnxruntime on the processor where the model has a graph, PyTorch elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from SAM3DSegmentLib.errors import CheckpointError, EngineError
from SAM3DSegmentLib.geometry import Float32Array
from SAM3DSegmentLib.network.device import check_device_name, may_have_gpu
from SAM3DSegmentLib.network.interface import CropClick, Progress
from SAM3DSegmentLib.specification import Specification

logger = logging.getLogger(__name__)


class ArrayNetwork(Protocol):
    """A `PromptableNetwork` that is asked and answers in arrays, whatever it runs under.

    Attributes:
        device: "cpu", "cuda" or "mps"; see `PromptableNetwork`.
    """

    specification: Specification

    @property
    def device(self) -> str: ...

    def encode(self, crop: Float32Array, progress: Progress) -> Any:
        """As in `PromptableNetwork`, of a crop [S, S, S]."""

    def decode(
        self, encoding: Any, clicks: Sequence[CropClick], previous: Float32Array | None, progress: Progress
    ) -> Float32Array:
        """As in `PromptableNetwork`, logits [S, S, S]."""


def graph_of(checkpoint: Path) -> Path:
    """Where the ONNX graph of a checkpoint lies, if it has one."""
    return checkpoint.with_suffix(".onnx")


def open_network(checkpoint: Path, device: str) -> ArrayNetwork:
    """The network of a checkpoint, ready to answer.

    On the processor onnxruntime answers where a graph lies beside the checkpoint: it starts in a fraction of the time
    that importing PyTorch takes, and PyTorch need not be there at all.

    Args:
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".

    Raises:
        CheckpointError: the checkpoint is damaged or of an unknown network, or its graph is not usable and there is no
            PyTorch to do without.
        DeviceError: there is no such device, or it is not here.
        EngineError: the package that this network needs is not installed.
    """
    check_device_name(device)
    has_torch = find_spec("torch") is not None
    on_processor = device == "cpu" or (device == "auto" and not (has_torch and may_have_gpu()))
    graph = graph_of(checkpoint)
    if on_processor and graph.is_file() and find_spec("onnxruntime"):
        from SAM3DSegmentLib.network.onnx_graph import load_graph

        try:
            return load_graph(graph, checkpoint)
        except CheckpointError as error:
            if not has_torch:
                raise
            logger.warning("%s", error)
    if not has_torch:
        raise EngineError(
            f"{checkpoint.name} on the device {device} needs PyTorch, which is not installed: install torch, or "
            "install onnxruntime and choose the model compact and the device cpu."
        )
    from SAM3DSegmentLib.network.torch_network import load_torch_network

    return load_torch_network(checkpoint, device)
