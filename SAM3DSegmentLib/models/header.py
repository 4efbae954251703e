"""The backbone that a `.safetensors` checkpoint names in its header, read with the standard library alone."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

METADATA_KEY = "sam3dsegment"
"""Under which a checkpoint in our format describes itself (`network.metadata`)."""

LARGEST_HEADER = 1 << 22
"""Bytes; the header of the largest checkpoint here is a fiftieth of it."""


SHARED_BACKBONE = re.compile(r"[0-9a-f]{64}")
"""A file named by its SHA-256 holds frozen weights that adapters share: no model to choose."""


def backbone_of(checkpoint: Path) -> str | None:
    """The SHA-256 of the file with the frozen weights that a checkpoint stands on; None where it names none.

    A file that is damaged, or not in our format, names none: loading it says what is wrong.
    """
    try:
        with checkpoint.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, LARGEST_HEADER)))
        backbone = json.loads(header["__metadata__"][METADATA_KEY])["backbone_sha256"]
    except (OSError, ValueError, LookupError, TypeError, struct.error, RecursionError):
        return None
    return backbone if isinstance(backbone, str) and SHARED_BACKBONE.fullmatch(backbone) else None
