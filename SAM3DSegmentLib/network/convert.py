"""From a published 3DSAM-adapter checkpoint to our format."""

from __future__ import annotations

from pathlib import Path

from SAM3DSegmentLib.errors import UnknownModelError
from SAM3DSegmentLib.intensity import CropStatistics
from SAM3DSegmentLib.models.catalogue import TASKS
from SAM3DSegmentLib.network.adapted_encoder import AdapterSizes
from SAM3DSegmentLib.network.adapter_checkpoint import save_adapter, save_backbone
from SAM3DSegmentLib.network.metadata import Metadata
from SAM3DSegmentLib.network.published import PUBLISHED_SIZES, read_published

PUBLISHED_VERSION = "published"
PUBLISHED_SPACING = 1.0
"""Millimetres."""


def published_metadata(task: str) -> Metadata:
    """What is known of the published checkpoint for "kits", "lits", "pancreas" or "colon".

    Raises:
        UnknownModelError: there is no such task.
    """
    if task not in TASKS:
        raise UnknownModelError(f"There is no task {task!r}: choose one of {', '.join(TASKS)}.")
    model = TASKS[task]
    return Metadata(
        name=model.name,
        version=PUBLISHED_VERSION,
        task=model.task,
        intensity=model.window or CropStatistics(),
        spacings=(PUBLISHED_SPACING,),
        signed=False,
        antialias=False,
        training_data=model.citation,
        licence=model.licence,
    )


def convert_published(file: Path, task: str, folder: Path, sizes: AdapterSizes = PUBLISHED_SIZES) -> list[Path]:
    """Write the adapter and its backbone into a folder and return both paths; tasks converted there share a backbone.

    Args:
        file: `{"encoder_dict", "feature_dict", "decoder_dict"}` as the paper's authors save it.
        task: "kits", "lits", "pancreas" or "colon".

    Raises:
        UnknownModelError: there is no such task or file.
        CheckpointError: the checkpoint is damaged or another; the message names each wrong key.
        ExportError: the folder cannot be written.
    """
    metadata = published_metadata(task)
    if not file.is_file():
        raise UnknownModelError(f"There is no file {file}: give the path of a downloaded checkpoint.")
    network = read_published(file, sizes)
    backbone = save_backbone(network, folder)
    adapter = folder / f"{task}.safetensors"
    save_adapter(network, metadata, backbone.stem, adapter)
    return [adapter, backbone]
