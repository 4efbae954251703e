"""The adapter network that a run starts from: SAM's weights, or random ones, and parts that are still to be trained."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from SAM3DSegmentLib.errors import ConfigurationError
from SAM3DSegmentLib.network.adapted_encoder import AdapterSizes
from SAM3DSegmentLib.network.backbone import OUR_PREFIX, SAM_PREFIX, is_frozen
from SAM3DSegmentLib.network.sam_adapter import SamAdapter
from SAM3DSegmentLib.network.sam_weights import read_sam, untrained_network
from training.adapters import ADAPTATIONS
from training.configuration import Configuration

STORED = torch.float16
"""SAM's weights as a checkpoint stores them, and as they are in training, so that both compute the same."""

POSITION_DEVIATION = 0.02


def initial_network(configuration: Configuration) -> SamAdapter:
    """The untrained network of a configuration; the same seed gives the same weights.

    Raises:
        CheckpointError: SAM's file cannot be read.
        ConfigurationError: SAM's sizes are not those of the configuration.
    """
    torch.manual_seed(configuration.seed)
    clicks = configuration.prompt == "clicks"
    sizes = replace(configuration.adapter_sizes, adapter=ADAPTATIONS[configuration.adapter].adapter, clicks=clicks)
    sam = read_sam(configuration.backbone) if configuration.backbone else random_sam(sizes)
    network = untrained_network(sam, sizes.window, sizes.channels, sizes.adapter, clicks)
    if network.sizes != sizes:
        raise ConfigurationError(
            f"{configuration.backbone} makes a network of {network.sizes}, the configuration asks for {sizes}: "
            "change crop_size and sizes, or leave the backbone out."
        )
    if clicks:
        network.add_additions()
    for key, value in network.state_dict().items():
        if is_frozen(key):
            value.copy_(value.to(STORED))
    return network


def random_sam(sizes: AdapterSizes) -> dict[str, Tensor]:
    """A state dict of SAM's layout for any sizes, drawn at random."""
    encoder = SamAdapter(sizes).encoder
    nn.init.normal_(encoder.pos_embed, std=POSITION_DEVIATION)
    state = {OUR_PREFIX + key: value for key, value in encoder.state_dict().items()}
    kept = {key: value for key, value in state.items() if is_frozen(key) or ".norm" in key}
    return {SAM_PREFIX + key[len(OUR_PREFIX) :]: value for key, value in kept.items()}
