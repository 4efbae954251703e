"""The one way from a checkpoint file to a network that answers: compact, adapter in our format or published, SAM."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch

from SAM3DSegmentLib.errors import CheckpointError
from SAM3DSegmentLib.models.store import sha256_of, task_of
from SAM3DSegmentLib.network.backbone import SAM_PREFIX
from SAM3DSegmentLib.network.compact_predictor import CompactPredictor, compact_from
from SAM3DSegmentLib.network.compact_prompt import CROP_SIZE
from SAM3DSegmentLib.network.interface import PromptableNetwork
from SAM3DSegmentLib.network.metadata import COMPACT, SAM_ADAPTER, Metadata
from SAM3DSegmentLib.network.tensor_files import read_safetensors, read_torch_file


def load_network(path: Path, device: torch.device, task: str | None = None) -> PromptableNetwork:
    """The network of a checkpoint, on its device and in the precision that suits it.

    The architecture is read from a `.safetensors` file in our format; an adapter there finds its backbone in the same
    folder. A published `.pth` does not say what it was trained for.

    Args:
        task: "kits", "lits", "pancreas" or "colon" for a published checkpoint; by default as it was imported.

    Raises:
        CheckpointError: the file is truncated, hostile, of another network, or its backbone is not there; nothing that
            was loaded before is touched.
        UnknownModelError: there is no such task.
    """
    if zipfile.is_zipfile(path):
        return _load_sam(path, device) if _is_sam(path) else _load_published(path, device, task)
    header, tensors = read_safetensors(path)
    metadata = Metadata.from_header(header, str(path))
    if metadata.architecture == COMPACT:
        network = compact_from(metadata, tensors, str(path))
        return CompactPredictor(network, metadata.specification(sha256_of(path), CROP_SIZE), device)
    if metadata.architecture != SAM_ADAPTER:
        raise CheckpointError(
            f"{path} holds a network {metadata.architecture!r} that this version does not know: update it."
        )

    # Within the functions: only these need the package segment-anything.
    from SAM3DSegmentLib.network.adapter_checkpoint import adapter_from
    from SAM3DSegmentLib.network.adapter_predictor import AdapterPredictor, compute_dtype

    adapter = adapter_from(metadata, tensors, path, device)
    specification = metadata.specification(sha256_of(path), adapter.sizes.crop)
    return AdapterPredictor(adapter, specification, device, compute_dtype(device))


def _is_sam(path: Path) -> bool:
    content = read_torch_file(path)
    return isinstance(content, dict) and any(str(key).startswith(SAM_PREFIX) for key in content)


def _load_sam(path: Path, device: torch.device) -> PromptableNetwork:
    from SAM3DSegmentLib.network.sam_slices import load_sam_slices

    return load_sam_slices(path, device)


def _load_published(path: Path, device: torch.device, task: str | None) -> PromptableNetwork:
    from SAM3DSegmentLib.network.adapter_predictor import AdapterPredictor, compute_dtype
    from SAM3DSegmentLib.network.convert import published_metadata
    from SAM3DSegmentLib.network.published import read_published

    imported_as = task_of(path)
    task = task or (imported_as.name if imported_as else None)
    if task is None:
        raise CheckpointError(
            f"{path} does not say what it was trained for: import it with its task, for example kits."
        )
    metadata = published_metadata(task)
    network = read_published(path)
    specification = metadata.specification(sha256_of(path), network.sizes.crop)
    return AdapterPredictor(network, specification, device, compute_dtype(device))
