"""SAM's frozen weights below an adapter: found by checksum, and shared by all networks that stand on them."""

from __future__ import annotations

import re
from pathlib import Path
from weakref import WeakValueDictionary

from torch import Tensor, nn

from SAM3DSegmentLib.errors import CheckpointError
from SAM3DSegmentLib.models.store import sha256_of
from SAM3DSegmentLib.network.tensor_files import read_safetensors, read_torch_file

BACKBONE_KEY = re.compile(
    r"encoder\.(pos_embed|patch_embed\.proj\.\w+|blocks\.\d+\.(attn\.((qkv|proj)\.\w+|rel_pos_[hw])|mlp\.lin[12]\.\w+))"
)
"""Keys of `SamAdapter` that come from SAM and are never trained."""

SAM_PREFIX = "image_encoder."
OUR_PREFIX = "encoder."


_standing: WeakValueDictionary[str, nn.Module] = WeakValueDictionary()
"""By checksum of its backbone, a network in memory."""


def is_frozen(key: str) -> bool:
    """Whether a tensor of `SamAdapter` comes from SAM and stays as it is in training."""
    return BACKBONE_KEY.fullmatch(key) is not None


def frozen_tensors_of_sam(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The frozen part of SAM's own state dict, by the keys of `SamAdapter`."""
    renamed = {OUR_PREFIX + key[len(SAM_PREFIX) :]: value for key, value in state.items() if key.startswith(SAM_PREFIX)}
    return {key: value for key, value in renamed.items() if is_frozen(key)}


def frozen_tensors(sha256: str, folder: Path) -> dict[str, Tensor]:
    """The frozen tensors of the backbone with this checksum: those of a network in memory, else from the folder.

    Raises:
        CheckpointError: no file there has the checksum; the message names those that were tried.
    """
    standing = _standing.get(sha256)
    if standing is not None:
        return {key: value for key, value in standing.state_dict().items() if is_frozen(key)}
    path = find_backbone(sha256, folder)
    return read_safetensors(path)[1] if path.suffix == ".safetensors" else frozen_tensors_of_sam(read_torch_file(path))


def share_backbone(sha256: str, network: nn.Module) -> None:
    """Let later networks on the same backbone use the tensors of this one, as long as it lives."""
    _standing[sha256] = network


def find_backbone(sha256: str, folder: Path) -> Path:
    """The file in the folder with this checksum: `<sha256>.safetensors`, or SAM's own `sam_vit_*.pth`."""
    candidates = [path for path in (folder / f"{sha256}.safetensors",) if path.is_file()]
    candidates += sorted(folder.glob("sam_vit_*.pth"))
    for path in candidates:
        if sha256_of(path) == sha256:
            return path
    tried = ", ".join(path.name for path in candidates) or "none"
    raise CheckpointError(
        f"The backbone with SHA-256 {sha256} is not in {folder} (tried and refused: {tried}): "
        f"put {sha256}.safetensors or the SAM checkpoint of that checksum there."
    )
