"""What of the adapter network is trained, by kind: adapters beside SAM's frozen weights, or changes to these.

In every kind the blocks' LayerNorms, the embeddings of slices and depth, the position tables along D, the necks, the
prompt encoder, the decoder and the additions are trained.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from SAM3DSegmentLib.network.adapter_checkpoint import ADDITIONS_PREFIX
from SAM3DSegmentLib.network.backbone import is_frozen
from SAM3DSegmentLib.network.sam_adapter import SamAdapter
from training.configuration import AdapterKind

RANK = 8
POSITION_WEIGHT = re.compile(r"encoder\.blocks\.\d+\.attn\.lr")
"""Of SAM's position terms; frozen, although each checkpoint has its own."""

WEIGHT_OF_LOW_RANK = re.compile(r".*\.parametrizations\.weight\.original")


@dataclass(frozen=True)
class Adaptation:
    """One kind.

    Attributes:
        adapter: the module that each block gets, of `SAM3DSegmentLib.network.adapters.ADAPTERS`.
        of_sam: those of SAM's tensors that are trained.
        low_rank: whether the attention's queries, keys and values get a trained low-rank term.
    """

    adapter: str
    of_sam: re.Pattern[str]
    low_rank: bool = False

    @property
    def changes_sam(self) -> bool:
        """Whether a trained network's SAM weights are no longer SAM's."""
        return self.low_rank or self.of_sam is not NOTHING


NOTHING, BIASES, EVERYTHING = re.compile(r"(?!)"), re.compile(r".*\.bias"), re.compile(r".*")

ADAPTATIONS: dict[AdapterKind, Adaptation] = {
    "spatial": Adaptation("spatial", NOTHING),
    "bottleneck": Adaptation("bottleneck", NOTHING),
    "st": Adaptation("st", NOTHING),
    "lora": Adaptation("none", NOTHING, low_rank=True),
    "bias": Adaptation("none", BIASES),
    "full": Adaptation("none", EVERYTHING),
}


class LowRank(nn.Module):
    """`W + B A`, a weight [out, in] with a trained term of rank `RANK` that starts at zero (Hu et al., LoRA, 2022)."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        self.a = nn.Parameter(torch.randn(RANK, inputs, device=weight.device) * inputs**-0.5)
        self.b = nn.Parameter(torch.zeros(outputs, RANK, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.b @ self.a


def prepare_to_train(network: SamAdapter, kind: AdapterKind) -> None:
    """Let gradients flow to what the kind trains, and to nothing else; low-rank terms are added here."""
    adaptation = ADAPTATIONS[kind]
    if adaptation.low_rank:
        for block in network.encoder.blocks:
            qkv = block.get_submodule("attn.qkv")
            parametrize.register_parametrization(qkv, "weight", LowRank(qkv.get_parameter("weight")))
    for key, parameter in network.named_parameters():
        of_sam = is_frozen(key) or WEIGHT_OF_LOW_RANK.fullmatch(key)
        trained = adaptation.of_sam.fullmatch(key) if of_sam else not POSITION_WEIGHT.fullmatch(key)
        parameter.requires_grad_(bool(trained))


def trained_parameters(network: SamAdapter) -> tuple[int, int]:
    """How many numbers are trained: without and of the additions, which the paper's network lacks."""
    counts = [0, 0]
    for key, parameter in network.named_parameters():
        if parameter.requires_grad:
            counts[key.startswith(ADDITIONS_PREFIX)] += parameter.numel()
    return counts[0], counts[1]


def merged(network: SamAdapter) -> SamAdapter:
    """A copy whose low-rank terms are part of the weights, as a checkpoint holds them."""
    with torch.device("meta"):
        plain = SamAdapter(network.sizes)
        if network.additions is not None:
            plain.add_additions()
    state = {key: value for key, value in network.state_dict().items() if ".parametrizations." not in key}
    for i, block in enumerate(network.encoder.blocks):
        state[f"encoder.blocks.{i}.attn.qkv.weight"] = block.get_submodule("attn.qkv").weight.detach()
    plain.load_state_dict(state, assign=True)
    return plain
