"""The header of a `.safetensors` checkpoint and what it says of itself, read with the standard library alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

METADATA_KEY = "sam3dsegment"
"""Under which a checkpoint in our format describes itself (`network.metadata`)."""

LARGEST_HEADER = 1 << 22
"""Bytes; the header of the largest checkpoint here is a fiftieth of it."""

SHARED_BACKBONE = re.compile(r"[0-9a-f]{64}")
"""A file named by its SHA-256 holds frozen weights that adapters share: no model to choose."""


def read_header(checkpoint: Path) -> tuple[dict[str, Any], int]:
    """The header, and where in the file the tensors' bytes begin.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is truncated, or no safetensors file.
    """
    with checkpoint.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > LARGEST_HEADER:
            raise ValueError("no safetensors header")
        try:
            header = json.loads(file.read(length))
        except RecursionError as error:
            raise ValueError("a header nested too deep") from error
    if not isinstance(header, dict):
        raise ValueError("a header that is no object")
    return header, 8 + length


def backbone_of(checkpoint: Path) -> str | None:
    """The SHA-256 of the file with the frozen weights that a checkpoint stands on; None where it names none.

    A file that is damaged, or not in our format, names none: loading it says what is wrong.
    """
    backbone = _word(checkpoint, "backbone_sha256")
    return backbone if backbone and SHARED_BACKBONE.fullmatch(backbone) else None


def architecture_of(checkpoint: Path) -> str | None:
    """The network that a checkpoint holds, "compact" or "sam-adapter"; None where it does not say, as above."""
    return _word(checkpoint, "architecture")


def _word(checkpoint: Path, key: str) -> str | None:
    """What a checkpoint says of itself under a key."""
    try:
        header, _ = read_header(checkpoint)
        word = json.loads(header["__metadata__"][METADATA_KEY])[key]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return word if isinstance(word, str) else None
