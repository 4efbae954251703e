"""Checkpoints' contents, and a disk that is full."""

from __future__ import annotations

import errno
import io
import json
import zipfile


def archive(content: bytes) -> bytes:
    """A file as PyTorch writes it, with its content in one member."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as writer:
        writer.writestr(zipfile.ZipInfo("archive/data.pkl"), content)
    return file.getvalue()


def safetensors(content: bytes) -> bytes:
    """A file with one tensor of bytes."""
    header = json.dumps({"x": {"dtype": "U8", "shape": [len(content)], "data_offsets": [0, len(content)]}}).encode()
    return len(header).to_bytes(8, "little") + header + content


CONTENT = archive(bytes(range(256)) * 8192)
"""A checkpoint of 2 MiB, several blocks of a download."""


def full_disk(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
