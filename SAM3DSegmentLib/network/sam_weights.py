"""From SAM's own weights (ViT-B, ViT-L, ViT-H) to an adapted network that is still to be trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from SAM3DSegmentLib.errors import CheckpointError
from SAM3DSegmentLib.network.adapted_encoder import AdapterSizes
from SAM3DSegmentLib.network.backbone import OUR_PREFIX, SAM_PREFIX, frozen_tensors_of_sam, is_frozen
from SAM3DSegmentLib.network.sam_adapter import SamAdapter
from SAM3DSegmentLib.network.tensor_files import check_tensors, read_torch_file, shapes_of

VOXELS_PER_POSITION = 2
"""SAM's grid of position embeddings is twice as fine as the tokens, these are a quarter as fine as the voxels."""


def read_sam(path: Path) -> dict[str, Tensor]:
    """The state dict in a file like `sam_vit_b_01ec64.pth`.

    Raises:
        CheckpointError: the file is truncated, wants to run code, or is not SAM's.
    """
    content = read_torch_file(path)
    if not isinstance(content, dict) or not any(str(key).startswith(SAM_PREFIX) for key in content):
        raise CheckpointError(f"{path} is no SAM checkpoint: choose sam_vit_b_01ec64.pth, or that of ViT-L or ViT-H.")
    return content


def untrained_network(
    sam: dict[str, Tensor], window: int = 8, channels: int = 256, adapter: str = "spatial", clicks: bool = True
) -> SamAdapter:
    """SAM in 3D: frozen parts and LayerNorms from SAM, `rel_pos_d` the mean of its two tables, adapters the identity.

    Slices are averaged and depth adds nothing; necks, prompt encoder and decoder are drawn at random.

    Args:
        sam: SAM's state dict; its shapes tell the ViT.
        window: edge of an attention window in tokens.
        channels: of each feature.
        adapter, clicks: see `AdapterSizes`.

    Raises:
        CheckpointError: keys are missing or misshapen, or weights are not finite; it names each.
    """
    network = SamAdapter(replace(sizes_of(sam, window, channels), adapter=adapter, clicks=clicks))
    frozen = frozen_tensors_of_sam(sam)
    norms = {
        OUR_PREFIX + key[len(SAM_PREFIX) :]: value
        for key, value in sam.items()
        if key.startswith(f"{SAM_PREFIX}blocks.") and ".norm" in key
    }
    shapes = shapes_of(network)
    from_sam = {key: shape for key, shape in shapes.items() if is_frozen(key) or (".blocks." in key and ".norm" in key)}
    check_tensors({**frozen, **norms}, from_sam, "SAM's checkpoint")
    state = {**frozen, **norms, **starting_values(frozen, shapes)}
    network.load_state_dict(state, strict=False)
    return network


def starting_values(frozen: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """What the parts that SAM lacks start with, where that is not drawn at random."""
    values = {}
    for key, shape in shapes.items():
        if key.endswith("rel_pos_d"):
            values[key] = (frozen[key[:-1] + "h"] + frozen[key[:-1] + "w"]) / 2
        elif "adapter.linear2" in key or key in ("encoder.slice_embed.bias", "encoder.depth_embed"):
            values[key] = torch.zeros(shape)
        elif key == "encoder.slice_embed.weight":
            values[key] = torch.full(shape, 1 / shape[-1])
    return values


def sizes_of(sam: dict[str, Tensor], window: int, channels: int) -> AdapterSizes:
    """The sizes that the shapes of SAM's state dict tell."""
    try:
        position = sam[f"{SAM_PREFIX}pos_embed"]
        head = sam[f"{SAM_PREFIX}blocks.0.attn.rel_pos_h"].shape[1]
        blocks = {key.split(".")[2] for key in sam if key.startswith(f"{SAM_PREFIX}blocks.")}
        _, grid, _, width = position.shape
        return AdapterSizes(width, len(blocks), width // head, VOXELS_PER_POSITION * grid, window, channels)
    except (LookupError, ValueError) as error:
        raise CheckpointError(
            f"The checkpoint does not look like SAM's ({error}): choose sam_vit_b_01ec64.pth."
        ) from error
