"""Checkpoints' contents, and a disk that is full."""

from __future__ import annotations

import errno
import io
import json
import pickle
import zipfile

from SAM3DSegmentLib.models.header import METADATA_KEY

EMPTY_STATE = pickle.dumps({}, protocol=2)


def archive(content: bytes, *pickles: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A file as PyTorch writes it, with the numbers of one tensor and, by default, the pickle of an empty state."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as writer:
        writer.writestr(zipfile.ZipInfo("archive/data/0"), content)
        for number, data in enumerate(pickles or (EMPTY_STATE,)):
            writer.writestr(zipfile.ZipInfo(f"archive{number or ''}/data.pkl"), data, compression)
    return file.getvalue()


def safetensors(content: bytes, **described: str) -> bytes:
    """A file with one tensor of bytes, and what it says of itself: "architecture", "backbone_sha256"."""
    header: dict[str, object] = {"x": {"dtype": "U8", "shape": [len(content)], "data_offsets": [0, len(content)]}}
    if described:
        header["__metadata__"] = {METADATA_KEY: json.dumps(described)}
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + content


CONTENT = archive(bytes(range(256)) * 8192)
"""A checkpoint of 2 MiB, several blocks of a download."""


def full_disk(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
