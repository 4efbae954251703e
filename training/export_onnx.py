"""Write the ONNX graph of a compact checkpoint beside it: `python -m training.export_onnx CHECKPOINT`.

The graph holds no weights. They are external data: each initialiser names the bytes of a half-precision tensor within
the checkpoint, and a cast to float32 follows it, which onnxruntime carries out once, when it loads the graph. So there
is one copy of the weights, and the graph is tied to that one file by its SHA-256. Needs onnx and onnxscript.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import StringStringEntryProto, TensorProto, helper
from torch import Tensor, nn
from torch.func import functional_call

from SAM3DSegmentLib.errors import CheckpointError, UserError
from SAM3DSegmentLib.models.header import read_header
from SAM3DSegmentLib.models.store import sha256_of
from SAM3DSegmentLib.network.compact import CompactNetwork
from SAM3DSegmentLib.network.compact_predictor import compact_from
from SAM3DSegmentLib.network.compact_prompt import CROP_SIZE, INPUTS, network_inputs
from SAM3DSegmentLib.network.interface import CropClick
from SAM3DSegmentLib.network.metadata import COMPACT, Metadata
from SAM3DSegmentLib.network.onnx_graph import SHA256_KEY
from SAM3DSegmentLib.network.runtime import graph_of
from SAM3DSegmentLib.network.tensor_files import read_safetensors
from training.planar import PlanarNetwork

OPSET = 18
STORED_SUFFIX = ".half"
"""Of the name of a weight as it is stored; the cast gives it its own name."""


def export_graph(checkpoint: Path) -> Path:
    """Write the graph of a compact checkpoint and return its path; an earlier graph is replaced.

    Raises:
        CheckpointError: the checkpoint is damaged, or of another network.
    """
    header, tensors = read_safetensors(checkpoint)
    metadata = Metadata.from_header(header, str(checkpoint))
    if metadata.architecture != COMPACT:
        raise CheckpointError(f"{checkpoint} holds no compact network: only that one has a graph.")
    model = traced(compact_from(metadata, tensors, str(checkpoint)).eval())
    point_at_weights(model, checkpoint)
    helper.set_model_props(model, {SHA256_KEY: sha256_of(checkpoint)})
    graph = graph_of(checkpoint)
    partial = graph.with_name(f".{graph.name}.{os.getpid()}")
    partial.write_bytes(model.SerializeToString())
    os.replace(partial, graph)
    return graph


class OnGivenWeights(nn.Module):
    """A network in planes whose weights are arguments, so that no step of the export can fold them into the graph."""

    def __init__(self, network: CompactNetwork) -> None:
        super().__init__()
        self.names = [name for name, _ in network.named_parameters()]
        self.planar = PlanarNetwork(network)

    def forward(self, inputs: list[Tensor], weights: list[Tensor]) -> Tensor:
        given = {f"network.{name}": weight for name, weight in zip(self.names, weights, strict=True)}
        answer: Tensor = functional_call(self.planar, given, tuple(inputs))
        return answer


def traced(network: CompactNetwork) -> onnx.ModelProto:
    """The network's graph; after the inputs come the weights as inputs, under the names of its parameters."""
    crop = np.random.default_rng(0).standard_normal((CROP_SIZE,) * 3).astype(np.float32)
    example = network_inputs(crop, [CropClick((CROP_SIZE / 2,) * 3, True)], None)
    weights = dict(network.named_parameters())
    program = torch.onnx.export(
        OnGivenWeights(network),
        ([torch.from_numpy(values) for values in example.values()], [value.detach() for value in weights.values()]),
        input_names=[*example, *weights],
        output_names=["logits"],
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    model: onnx.ModelProto = program.model_proto
    return model


def point_at_weights(model: onnx.ModelProto, checkpoint: Path) -> None:
    """Replace the weights among the inputs by references to the checkpoint's tensors, each with a cast to float32."""
    stored, data_start = read_header(checkpoint)
    graph = model.graph
    weights = [node.name for node in graph.input if node.name not in INPUTS]
    del graph.input[len(INPUTS) :]
    for name in weights:
        begin, end = stored[name]["data_offsets"]
        graph.initializer.add(
            name=name + STORED_SUFFIX,
            dims=stored[name]["shape"],
            data_type=TensorProto.FLOAT16,
            data_location=TensorProto.EXTERNAL,
            external_data=[
                StringStringEntryProto(key="location", value=checkpoint.name),
                StringStringEntryProto(key="offset", value=str(data_start + begin)),
                StringStringEntryProto(key="length", value=str(end - begin)),
            ],
        )
    casts = [helper.make_node("Cast", [name + STORED_SUFFIX], [name], to=TensorProto.FLOAT) for name in weights]
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    for part in (*graph.node, *graph.input, *graph.output):
        del part.metadata_props[:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    try:
        graph = export_graph(parser.parse_args().checkpoint)
    except UserError as error:
        parser.error(str(error))
    print(f"{graph}: {graph.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
