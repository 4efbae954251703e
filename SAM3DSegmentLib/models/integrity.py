"""Whether a checkpoint file is whole, told without the libraries that read its weights."""

from __future__ import annotations

import zipfile
from pathlib import Path

from SAM3DSegmentLib.errors import CheckpointError
from SAM3DSegmentLib.models.header import read_header


def check_whole(file: Path) -> None:
    """Refuse a checkpoint that was cut off, or is none, before it takes the place of a good one.

    Args:
        file: `.safetensors`, else an archive that PyTorch wrote, whose table of contents stands last.

    Raises:
        CheckpointError: it is not whole, or not of that format.
    """
    if not (safetensors_are_whole(file) if file.suffix == ".safetensors" else zipfile.is_zipfile(file)):
        raise CheckpointError(f"{file} is truncated or no checkpoint: download it again. The models are as before.")


def safetensors_are_whole(file: Path) -> bool:
    """Whether the tensors that the header names end where the file does."""
    try:
        header, start = read_header(file)
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return bool(start + max(ends, default=0) == file.stat().st_size)
    except (ValueError, LookupError, TypeError):
        return False
