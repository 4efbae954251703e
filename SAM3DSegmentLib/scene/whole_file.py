"""Whether a file of voxels is whole: ITK's writers do not notice a full disk, and its readers end the process."""

from __future__ import annotations

import gzip
import os
import zlib
from math import prod
from pathlib import Path
from typing import BinaryIO

NRRD_MAGIC = b"NRRD"
NRRD_HEADER_BYTES = 1 << 24
"""At most; a segment's tags stand in it."""

DETACHED = ("data file", "datafile")
PACKED = ("gzip", "gz")

TYPE_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), 4),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t", "float"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "signed long long int"), 8),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "double"), 8),
    **dict.fromkeys(("int64", "int64_t", "uint64", "uint64_t"), 8),
}
"""Of a voxel, by the names that the NRRD format has for its types (teem.sourceforge.net/nrrd/format.html)."""

UNPACKED_BYTES = 1 << 24
"""Read at a time."""


def is_whole(path: Path) -> bool:
    """Whether a `.gz` file or a NRRD file holds all that it begins; files of other formats count as whole.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        if path.name.lower().endswith(".gz"):
            return unpacked_length(file) is not None
        if file.read(len(NRRD_MAGIC)) == NRRD_MAGIC:
            file.seek(0)
            return nrrd_is_whole(file)
    return True


def nrrd_is_whole(file: BinaryIO) -> bool:
    """Whether the header has its end and as many voxels follow as it says; those in a file of their own count."""
    fields = nrrd_fields(file)
    if fields is None:
        return False
    if any(key in fields for key in DETACHED):
        return True
    try:
        expected = prod(int(size) for size in fields["sizes"].split()) * TYPE_BYTES[fields["type"]]
    except (LookupError, ValueError):
        return False
    encoding = fields.get("encoding", "raw")
    if encoding in PACKED:
        return unpacked_length(file) == expected
    start = file.tell()
    return encoding != "raw" or file.seek(0, os.SEEK_END) - start >= expected


def nrrd_fields(file: BinaryIO) -> dict[str, str] | None:
    """The fields of a NRRD header by name; None where its end, an empty line, is missing. The voxels follow."""
    fields: dict[str, str] = {}
    while line := file.readline(NRRD_HEADER_BYTES):
        if not line.strip():
            return fields
        key, separator, value = line.decode("utf-8", "replace").partition(":")
        if separator and not value.startswith("="):
            fields[key.strip().lower()] = value.strip()
    return None


def unpacked_length(file: BinaryIO) -> int | None:
    """Bytes that the rest of a file unpacks to; None where it does not unpack to its end."""
    length = 0
    try:
        with gzip.open(file) as stream:
            while block := stream.read(UNPACKED_BYTES):
                length += len(block)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return None
    return length or None
