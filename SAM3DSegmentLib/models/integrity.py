"""Whether a checkpoint file is whole, holds tensors alone and says of what, told without the libraries that read it."""

from __future__ import annotations

import pickletools
import re
import zipfile
from pathlib import Path

from SAM3DSegmentLib.errors import CheckpointError
from SAM3DSegmentLib.models.header import SHARED_BACKBONE, architecture_of, read_header

PICKLE = "/data.pkl"
"""In an archive that PyTorch wrote: the containers and the tensors' shapes; their numbers are members of their own."""

LARGEST_PICKLE = 1 << 24
"""Bytes; that of the largest checkpoint here is a two-hundredth of it."""

PLAIN_GLOBAL = re.compile(
    r"collections OrderedDict"
    r"|torch\._utils _rebuild_(tensor_v[23]|parameter)"
    r"|torch ([A-Z][A-Za-z0-9]*Storage|Size|bool|(u?int|b?float|complex)[0-9][a-z0-9_]*)"
    r"|torch\.storage (Typed|Untyped)Storage"
)
"""Module and name of what a state of tensors is put together from."""

SAM_KEY = "image_encoder.pos_embed"
"""In SAM's own weights, of every size; a 3DSAM-adapter checkpoint calls it otherwise."""

NAMING_OPCODES = ("GLOBAL", "INST")
HIDING_OPCODES = ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4")
"""They take a global from the stack or a registry: `torch.save` writes none, and PyTorch's restricted reader none."""

NAMED_CHARACTERS = 60
"""Of a global's name in a message."""

ENCRYPTED_OR_PATCHED = 0x61
"""Of a zip member's flags; PyTorch writes none of these."""

ARCHIVE_FAULTS = (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OSError)
"""What reading a damaged archive or pickle raises; `OSError` where it points out of the file."""


def check_whole(file: Path) -> None:
    """Refuse a checkpoint that was cut off, is none, or wants to run code, before it takes the place of a good one.

    Nothing is unpickled.

    Args:
        file: `.safetensors`, else an archive that PyTorch wrote, whose table of contents stands last.

    Raises:
        CheckpointError: it is not whole, not of that format, or holds more than plain tensors.
        OSError: a `.safetensors` cannot be read.
    """
    if not (safetensors_are_whole(file) if file.suffix == ".safetensors" else archive_is_whole(file)):
        raise CheckpointError(f"{file} is truncated or no checkpoint: download it again; the models are as before.")


def check_described(file: Path, name: str, digest: str) -> None:
    """Refuse a `.safetensors` that is neither the frozen weights that it is called nor says which network it holds.

    Args:
        name: under which it is to be kept.
        digest: its SHA-256.

    Raises:
        CheckpointError: it is neither.
    """
    if SHARED_BACKBONE.fullmatch(name):
        if name != digest:
            raise CheckpointError(
                f"{file} is not the frozen weights of that name, or it is damaged (SHA-256 {digest}): download it "
                "again; the models are as before."
            )
    elif architecture_of(file) is None:
        raise CheckpointError(
            f"{file} does not say which network it holds: choose a checkpoint of SAM3DSegment, or convert a published "
            "one first; the models are as before."
        )


def safetensors_are_whole(file: Path) -> bool:
    """Whether the tensors that the header names end where the file does."""
    try:
        header, start = read_header(file)
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return bool(start + max(ends, default=0) == file.stat().st_size)
    except (ValueError, LookupError, TypeError):
        return False


def archive_is_whole(file: Path) -> bool:
    """Whether an archive has its table of contents and a pickle as PyTorch writes it, not compressed, with its end.

    Raises:
        CheckpointError: the pickle wants more than plain tensors.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            pickles = [member for member in archive.infolist() if member.filename.endswith(PICKLE)]
            for member in pickles:
                stored = member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & ENCRYPTED_OR_PATCHED
                if not stored or member.file_size > LARGEST_PICKLE:
                    return False
                check_plain(archive.read(member), file)
    except ARCHIVE_FAULTS:
        return False
    return bool(pickles)


def holds_sam(file: Path) -> bool:
    """Whether an archive that PyTorch wrote holds SAM's own weights, by a key of theirs; nothing is unpickled."""
    try:
        with zipfile.ZipFile(file) as archive:
            pickles = [archive.read(member) for member in archive.infolist() if member.filename.endswith(PICKLE)]
        return any(argument == SAM_KEY for pickle in pickles for _, argument, _ in pickletools.genops(pickle))
    except ARCHIVE_FAULTS:
        return False


def check_plain(pickle: bytes, file: Path) -> None:
    """Raise `CheckpointError` where a pickle wants more than plain tensors, `ValueError` where it is damaged."""
    for opcode, argument, _ in pickletools.genops(pickle):
        wanted = str(argument) if opcode.name in NAMING_OPCODES else opcode.name
        if opcode.name in HIDING_OPCODES or (opcode.name in NAMING_OPCODES and not PLAIN_GLOBAL.fullmatch(wanted)):
            raise CheckpointError(
                f"{file} holds more than plain tensors ({wanted[:NAMED_CHARACTERS]!r}) and was not taken: get it from "
                "its authors again; the models are as before."
            )
