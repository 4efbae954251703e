"""Files of an import, gathered in a folder of their own until all of them are complete and checked."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from SAM3DSegmentLib.errors import UserError

BLOCK_BYTES = 1 << 20
SAM_FILES = "sam_vit_*.pth"
"""SAM's own files, on which a checkpoint can stand as well as on one named by its SHA-256 (`network.backbone`)."""


@contextmanager
def staging_in(folder: Path) -> Iterator[Path]:
    """A folder that is gone at the end, on the file system of the models: a file is moved from it in one step.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".import-", dir=folder) as staging:
        yield Path(staging)


def copy_whole(file: Path, target: Path) -> Path:
    """Copy a file and return the copy; see `write_whole`."""
    with file.open("rb") as source:
        return write_whole(source, target)


def write_whole(source: BinaryIO, target: Path) -> Path:
    """Write what a source holds into a new file, as far as the disk itself, and return that file.

    Raises:
        OSError: the disk is full.
    """
    with target.open("wb") as file:
        shutil.copyfileobj(source, file, BLOCK_BYTES)
        file.flush()
        os.fsync(file.fileno())
    return target


def check_staged(check: Callable[[Path], None], staged: Path, file: Path, backbone: str | None) -> None:
    """Have a staged checkpoint checked, with the frozen weights that it stands on beside it.

    Args:
        file: of the user, which the message names instead of the staged one.
        backbone: SHA-256 of the frozen weights; None where it stands on none.

    Raises:
        UserError: what `check` says.
        OSError: the frozen weights cannot be put there.
    """
    folder = staged.parent.parent
    if backbone:
        for kept in (folder / f"{backbone}.safetensors", *folder.glob(SAM_FILES)):
            if kept.is_file() and not (staged.parent / kept.name).exists():
                link(kept, staged.parent / kept.name)
    try:
        check(staged)
    except UserError as error:
        message = str(error).replace(str(staged), str(file)).replace(str(staged.parent), str(folder))
        raise type(error)(message) from error


def link(file: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system knows one name only (exFAT, some network drives)."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)
