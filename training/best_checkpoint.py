"""The checkpoints of a run in the product's format: the best so far, and the frozen weights that it stands on."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from SAM3DSegmentLib.models.header import backbone_of
from SAM3DSegmentLib.network.adapter_checkpoint import save_adapter, save_backbone
from SAM3DSegmentLib.network.backbone import frozen_tensors
from SAM3DSegmentLib.network.metadata import Metadata
from SAM3DSegmentLib.network.sam_adapter import SamAdapter
from training.adapters import ADAPTATIONS, merged
from training.configuration import Configuration
from training.export import BEST_FILE, read_metadata


def save_start(network: SamAdapter, folder: Path) -> str:
    """Write SAM's weights as the run starts with them; their SHA-256.

    Raises:
        CheckpointError: a weight is not finite.
        ExportError: the folder cannot be written.
    """
    return save_backbone(network, folder).stem


def frozen_of_run(sha256: str, folder: Path, network: SamAdapter) -> dict[str, Tensor]:
    """SAM's weights of the run in a folder, by the keys that the network in training has for them.

    Raises:
        CheckpointError: they are not in the folder any more.
    """
    return {key: value for key, value in frozen_tensors(sha256, folder).items() if key in network.state_dict()}


def save_best(network: SamAdapter, metadata: Metadata, backbone_sha256: str, configuration: Configuration) -> None:
    """Replace the best checkpoint; the earlier one stays until the new one is complete.

    A kind that changes SAM's weights gets a file of its own for them.

    Args:
        backbone_sha256: of the weights that the run started with.

    Raises:
        CheckpointError: a weight is not finite.
        ExportError: the folder cannot be written.
    """
    folder, path = configuration.out, configuration.out / BEST_FILE
    if not ADAPTATIONS[configuration.adapter].changes_sam:
        save_adapter(network, metadata, backbone_sha256, path)
        return
    before = read_metadata(path).backbone_sha256 if path.is_file() else None
    plain = merged(network)
    now = save_backbone(plain, folder).stem
    save_adapter(plain, metadata, now, path)
    still_needed = {now, backbone_sha256, *(backbone_of(file) for file in folder.glob("*.safetensors"))}
    if before and before not in still_needed:
        (folder / f"{before}.safetensors").unlink(missing_ok=True)
