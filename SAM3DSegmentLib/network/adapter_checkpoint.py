"""3DSAM-adapter in our format: trained tensors in one file, SAM's frozen weights in another that tasks share."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from SAM3DSegmentLib.errors import CheckpointError, ExportError
from SAM3DSegmentLib.models.store import sha256_of
from SAM3DSegmentLib.network.adapted_encoder import FEATURES, AdapterSizes
from SAM3DSegmentLib.network.adapters import ADAPTERS
from SAM3DSegmentLib.network.backbone import frozen_tensors, is_frozen, share_backbone
from SAM3DSegmentLib.network.metadata import SAM_ADAPTER, Metadata, size
from SAM3DSegmentLib.network.prompt_encoder import HEADS
from SAM3DSegmentLib.network.sam_adapter import SamAdapter
from SAM3DSegmentLib.network.tensor_files import check_tensors, is_finite, shapes_of, shortened, write_safetensors

ADDITIONS_PREFIX = "additions."
PARTS = ("adapter", "clicks")
"""Of the sizes, those that are no counts."""

DEEPEST = 64
"""Blocks; the deepest ViT of SAM has half as many."""


def save_backbone(network: SamAdapter, folder: Path) -> Path:
    """Write the frozen weights as `<sha256>.safetensors` and return its path; the same weights give the same file.

    Raises:
        CheckpointError: a weight is not finite.
        ExportError: the folder cannot be written.
    """
    frozen = stored({key: value for key, value in network.state_dict().items() if is_frozen(key)})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Of a name of its own: another conversion may write into the same folder at the same time.
        with tempfile.TemporaryDirectory(prefix=".backbone-", dir=folder) as own:
            unnamed = Path(own) / "backbone.safetensors"
            write_safetensors(unnamed, {}, frozen)
            return unnamed.replace(folder / f"{sha256_of(unnamed)}.safetensors")
    except OSError as error:
        raise ExportError(
            f"The frozen weights cannot be written into {folder} ({error.strerror}): free space or choose another "
            "folder."
        ) from error


def save_adapter(network: SamAdapter, metadata: Metadata, backbone_sha256: str, path: Path) -> None:
    """Write all that is not the backbone's; additions only where the network has them.

    Args:
        backbone_sha256: of the file with the frozen weights, `save_backbone`'s or SAM's own.

    Raises:
        CheckpointError: a weight is not finite.
        ExportError: the folder cannot be written.
    """
    trained = {key: value for key, value in network.state_dict().items() if not is_frozen(key)}
    described = replace(
        metadata, architecture=SAM_ADAPTER, sizes=asdict(network.sizes), backbone_sha256=backbone_sha256
    )
    write_safetensors(path, described.to_header(), stored(trained))


def stored(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in float16 where every number of them fits, else in bfloat16, which is coarser but reaches further.

    Raises:
        CheckpointError: numbers are not finite even so; it names each tensor.
    """
    unfit: list[str] = []
    for dtype in (torch.float16, torch.bfloat16):
        converted = {key: value.detach().to("cpu", dtype) for key, value in tensors.items()}
        unfit = [key for key, value in converted.items() if not is_finite(value)]
        if not unfit:
            return converted
    raise CheckpointError(
        f"The network holds numbers that are not finite ({', '.join(shortened(unfit))}) and was not written: train it "
        "again, or get its checkpoint from its authors again."
    )


def adapter_from(metadata: Metadata, tensors: dict[str, Tensor], path: Path, device: torch.device) -> SamAdapter:
    """The network of a checkpoint, on the backbone that lies in the same folder.

    Networks on one backbone and one device share its tensors.

    Raises:
        CheckpointError: the sizes are impossible, the tensors do not fit them, or the backbone is absent or another.
    """
    sizes = sizes_from(metadata, str(path))
    with torch.device("meta"):
        network = SamAdapter(sizes)
        if any(key.startswith(ADDITIONS_PREFIX) for key in tensors):
            network.add_additions()
    shapes = shapes_of(network)
    check_tensors(tensors, {key: shape for key, shape in shapes.items() if not is_frozen(key)}, str(path))
    if metadata.backbone_sha256 is None:
        raise CheckpointError(f"{path} names no backbone: convert or download it again.")
    backbone = frozen_tensors(metadata.backbone_sha256, path.parent)
    frozen = {key: shape for key, shape in shapes.items() if is_frozen(key)}
    check_tensors(backbone, frozen, f"The backbone {metadata.backbone_sha256} below {path}")
    state = {key: value.to(device, torch.float32) for key, value in {**tensors, **backbone}.items()}
    network.load_state_dict(state, assign=True)
    share_backbone(metadata.backbone_sha256, network)
    return network


def sizes_from(metadata: Metadata, file: str) -> AdapterSizes:
    """The sizes in a description, if a network can have them."""
    try:
        values: dict[str, Any] = {k: v if k in PARTS else size(v) for k, v in metadata.sizes.items()}
        sizes = AdapterSizes(**values)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"The sizes in {file} are damaged ({error}): download or import it again.") from error
    if (
        sizes.depth % FEATURES
        or sizes.width % (2 * sizes.heads)
        or sizes.window % 2
        or sizes.tokens % sizes.window
        or sizes.channels % (2 * HEADS)
        or sizes.depth > DEEPEST
        or sizes.adapter not in ADAPTERS
        or not isinstance(sizes.clicks, bool)
    ):
        raise CheckpointError(f"The sizes in {file} make no network ({metadata.sizes}): download or import it again.")
    return sizes
