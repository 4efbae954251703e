"""A checkpoint's content, and a disk that is full."""

from __future__ import annotations

import errno

CONTENT = bytes(range(256)) * 8192
"""A checkpoint of 2 MiB, several blocks of a download."""


def full_disk(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
