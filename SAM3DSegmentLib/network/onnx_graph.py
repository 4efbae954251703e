"""The compact network under onnxruntime: a graph beside the checkpoint, which reads its weights out of that file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
    NotImplemented,
    RuntimeException,
)
from safetensors import SafetensorError, safe_open

from SAM3DSegmentLib.errors import CheckpointError
from SAM3DSegmentLib.geometry import Float32Array
from SAM3DSegmentLib.models.store import sha256_of
from SAM3DSegmentLib.network.compact_prompt import CROP_SIZE, INPUTS, answer
from SAM3DSegmentLib.network.interface import CropClick, Progress
from SAM3DSegmentLib.network.metadata import Metadata
from SAM3DSegmentLib.specification import Specification

SHA256_KEY = "checkpoint_sha256"
"""Under which a graph names the one file that its weights lie in."""

UNUSABLE = (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NoSuchFile, NotImplemented, RuntimeException)
"""What onnxruntime raises for a graph that is damaged, or whose weights are not where it says."""


class OnnxNetwork:
    """`ArrayNetwork` on a graph; the encoding of a crop is the crop itself."""

    device = "cpu"

    def __init__(self, session: onnxruntime.InferenceSession, specification: Specification) -> None:
        self.specification = specification
        self._session = session

    def encode(self, crop: Float32Array, progress: Progress) -> Float32Array:
        progress(1.0)
        return crop

    def decode(
        self, encoding: Float32Array, clicks: Sequence[CropClick], previous: Float32Array | None, progress: Progress
    ) -> Float32Array:
        progress(0.0)
        logits = answer(self._forward, encoding, clicks, previous)
        progress(1.0)
        return logits

    def _forward(self, inputs: dict[str, Float32Array]) -> Float32Array:
        logits: Float32Array = self._session.run(None, inputs)[0]
        return logits


def load_graph(graph: Path, checkpoint: Path) -> OnnxNetwork:
    """The network of a compact checkpoint and of the graph that lies beside it.

    Raises:
        CheckpointError: the checkpoint or the graph is damaged, or the graph was exported from another checkpoint.
    """
    try:
        with safe_open(checkpoint, framework="np") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{checkpoint} is truncated or damaged ({error}): download or import it again."
        ) from error
    metadata = Metadata.from_header(header, str(checkpoint))
    sha256 = sha256_of(checkpoint)
    try:
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    except UNUSABLE as error:
        raise CheckpointError(
            f"{graph} is damaged or does not fit {checkpoint.name}: install the model again, or install PyTorch, "
            f"which does without it ({error})."
        ) from error
    named = session.get_modelmeta().custom_metadata_map.get(SHA256_KEY)
    if named != sha256 or {node.name for node in session.get_inputs()} != set(INPUTS):
        raise CheckpointError(
            f"{graph} was exported from another file than {checkpoint.name}, or for another version: export it again, "
            "or install PyTorch, which does without it."
        )
    return OnnxNetwork(session, metadata.specification(sha256, CROP_SIZE))
