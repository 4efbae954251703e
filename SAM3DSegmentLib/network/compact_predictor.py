"""The compact network behind the interface of every network, and its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from SAM3DSegmentLib.errors import CheckpointError
from SAM3DSegmentLib.geometry import Float32Array
from SAM3DSegmentLib.network.compact import CompactNetwork
from SAM3DSegmentLib.network.compact_prompt import answer
from SAM3DSegmentLib.network.interface import CropClick, Progress
from SAM3DSegmentLib.network.metadata import COMPACT, Metadata, size
from SAM3DSegmentLib.network.tensor_files import check_tensors, shapes_of, write_safetensors
from SAM3DSegmentLib.specification import Specification

CHANNELS_PER_GROUP = 8
DEEPEST_LEVELS = 5
MOST_BLOCKS = 8


class CompactPredictor:
    """`PromptableNetwork` on a `CompactNetwork` under PyTorch; the encoding of a crop is the crop itself."""

    def __init__(self, network: CompactNetwork, specification: Specification, device: torch.device) -> None:
        self.specification = specification
        self.device = device
        self._network = network.to(device, memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]

    def encode(self, crop: Tensor, progress: Progress) -> Float32Array:
        progress(1.0)
        return in_array(crop)

    def decode(
        self, encoding: Float32Array, clicks: Sequence[CropClick], previous: Tensor | None, progress: Progress
    ) -> Tensor:
        progress(0.0)
        before = None if previous is None else in_array(previous)
        logits = torch.from_numpy(answer(self._forward, encoding, clicks, before))
        progress(1.0)
        return logits

    @torch.inference_mode()
    def _forward(self, inputs: dict[str, Float32Array]) -> Float32Array:
        tensors = {name: torch.from_numpy(values).to(self.device) for name, values in inputs.items()}
        return in_array(self._network(**tensors))


def in_array(values: Tensor) -> Float32Array:
    return cast(Float32Array, values.to("cpu", torch.float32).numpy())


def save_compact(network: CompactNetwork, metadata: Metadata, path: Path) -> None:
    """Write a trained network in our format, half precision.

    Raises:
        ExportError: the folder cannot be written.
    """
    widths = [len(network.get_parameter(f"encoder.{i}.0.conv1.weight")) for i in range(len(network.encoder))]
    sizes = {"widths": widths, "blocks": [len(list(level.children())) for level in network.encoder]}
    described = replace(metadata, architecture=COMPACT, sizes=sizes, backbone_sha256=None)
    write_safetensors(path, described.to_header(), {key: value.half() for key, value in network.state_dict().items()})


def compact_from(metadata: Metadata, tensors: dict[str, Tensor], file: str) -> CompactNetwork:
    """The network of a checkpoint.

    Raises:
        CheckpointError: its sizes are impossible or its tensors do not fit them.
    """
    try:
        widths, blocks = (tuple(size(number) for number in metadata.sizes[key]) for key in ("widths", "blocks"))
    except (ValueError, TypeError, LookupError) as error:
        raise CheckpointError(f"The sizes in {file} are damaged ({error}): download or import it again.") from error
    impossible = not 1 < len(widths) <= DEEPEST_LEVELS or any(width % CHANNELS_PER_GROUP for width in widths)
    if impossible or len(blocks) != len(widths) or max(blocks) > MOST_BLOCKS:
        raise CheckpointError(
            f"Levels of {list(widths)} channels and {list(blocks)} blocks make no compact network: "
            f"download or import {file} again."
        )
    with torch.device("meta"):
        network = CompactNetwork(widths, blocks)
    check_tensors(tensors, shapes_of(network), file)
    network.load_state_dict({key: value.float() for key, value in tensors.items()}, assign=True)
    return network
