"""Whether a checkpoint file is whole, told without the libraries that read its weights."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

from SAM3DSegmentLib.errors import CheckpointError
from SAM3DSegmentLib.models.header import LARGEST_HEADER

OLD_PICKLE = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
"""How files begin that PyTorch wrote before version 1.6, which are no archives."""


def check_whole(file: Path) -> None:
    """Refuse a checkpoint that was cut off, or is none, before it takes the place of a good one.

    Args:
        file: `.safetensors`, else a file that PyTorch wrote.

    Raises:
        CheckpointError: it is not whole, or not of that format.
    """
    if not (safetensors_are_whole(file) if file.suffix == ".safetensors" else pytorch_file_is_whole(file)):
        raise CheckpointError(f"{file} is truncated or no checkpoint: download it again. The models are as before.")


def safetensors_are_whole(file: Path) -> bool:
    """Whether the tensors that the header names end where the file does."""
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else LARGEST_HEADER + 1
        if length > LARGEST_HEADER:
            return False
        try:
            header = json.loads(stream.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            return 8 + length + max(ends, default=0) == file.stat().st_size
        except (ValueError, AttributeError, LookupError, TypeError, RecursionError):
            return False


def pytorch_file_is_whole(file: Path) -> bool:
    """Whether it is an archive with its table of contents, which stands last, or of the kind before archives."""
    with file.open("rb") as stream:
        return zipfile.is_zipfile(stream) or (stream.seek(0) == 0 and stream.read(len(OLD_PICKLE)) == OLD_PICKLE)
