"""The messages between the engine and its client: a JSON header and raw arrays in one frame (docs/protocol.md)."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

PROTOCOL = 1
MAGIC = b"S3DS"
PREFIX = struct.Struct("<4sI")
HEADER_LIMIT = 64 * 1024
PAYLOAD_LIMIT = 64 * 1024 * 1024
ARRAY_LIMIT = 8
DTYPES = {name: np.dtype(name).newbyteorder("<") for name in ("float16", "float32", "uint8")}

Array = NDArray[Any]


class WireError(Exception):
    """Bytes that are no message of this protocol: the stream cannot be read on."""


class Source(Protocol):
    """What a message is read from: a file, or what behaves like one."""

    def read(self, count: int, /) -> bytes:
        """Up to `count` bytes, fewer only at the end."""


@dataclass(frozen=True, eq=False)
class Message:
    """One frame.

    Attributes:
        kind: what it asks or tells, for example "decode".
        fields: JSON values.
        arrays: little-endian float16, float32 or uint8, C order.
    """

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)


def digest(array: Array) -> str:
    """The key of an array on both sides: of its bytes, hexadecimal."""
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).hexdigest()


def pack(message: Message) -> bytes:
    """The frame of a message."""
    arrays = {name: np.ascontiguousarray(a, DTYPES[a.dtype.name]) for name, a in message.arrays.items()}
    described = [{"name": name, "dtype": a.dtype.name, "shape": a.shape} for name, a in arrays.items()]
    header = json.dumps({"kind": message.kind, "fields": dict(message.fields), "arrays": described}).encode()
    return b"".join([PREFIX.pack(MAGIC, len(header)), header, *(array.tobytes() for array in arrays.values())])


def write_message(stream: BinaryIO, message: Message) -> int:
    """Write a frame and flush it; the number of bytes written."""
    frame = pack(message)
    stream.write(frame)
    stream.flush()
    return len(frame)


def read_message(stream: Source) -> Message | None:
    """The next frame; None where the stream ends between two frames.

    Raises:
        WireError: the bytes are no frame, or pass a limit; nothing beyond the limits is ever allocated.
    """
    prefix = stream.read(PREFIX.size)
    if not prefix:
        return None
    if len(prefix) < PREFIX.size:
        raise WireError("the stream ends within a frame")
    magic, length = PREFIX.unpack(prefix)
    if magic != MAGIC or length > HEADER_LIMIT:
        raise WireError(f"no frame starts with {prefix!r}")
    kind, fields, described = parse_header(read_exactly(stream, length))
    arrays = {}
    for name, dtype, shape in described:
        content = read_exactly(stream, math.prod(shape) * dtype.itemsize)
        arrays[name] = np.frombuffer(content, dtype).reshape(shape)
    return Message(kind, fields, arrays)


def parse_header(content: bytes) -> tuple[str, dict[str, Any], list[tuple[str, np.dtype[Any], tuple[int, ...]]]]:
    """Kind, fields and the arrays' names, types and shapes.

    Raises:
        WireError: anything but what `write_message` writes.
    """
    try:
        header = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise WireError("a header is no JSON") from error
    if not isinstance(header, dict) or set(header) != {"kind", "fields", "arrays"}:
        raise WireError("a header lacks its kind, fields or arrays")
    kind, fields, arrays = header["kind"], header["fields"], header["arrays"]
    if not isinstance(kind, str) or not isinstance(fields, dict) or not isinstance(arrays, list):
        raise WireError("a header's kind, fields or arrays are of a wrong type")
    if len(arrays) > ARRAY_LIMIT:
        raise WireError(f"{len(arrays)} arrays in one message: at most {ARRAY_LIMIT}")
    described = [parse_array(array) for array in arrays]
    if sum(math.prod(shape) * dtype.itemsize for _, dtype, shape in described) > PAYLOAD_LIMIT:
        raise WireError(f"arrays of more than {PAYLOAD_LIMIT} bytes in one message")
    return kind, fields, described


def parse_array(array: Any) -> tuple[str, np.dtype[Any], tuple[int, ...]]:
    """One array's name, type and shape from a header."""
    if not isinstance(array, dict) or set(array) != {"name", "dtype", "shape"}:
        raise WireError("an array lacks its name, dtype or shape")
    name, dtype, shape = array["name"], array["dtype"], array["shape"]
    if not isinstance(name, str) or not isinstance(dtype, str) or dtype not in DTYPES:
        raise WireError("an array's name or dtype is unknown")
    if not isinstance(shape, list) or len(shape) > 4 or not all(type(n) is int and 0 <= n <= 2**20 for n in shape):
        raise WireError("an array's shape is not up to four whole numbers")
    return name, DTYPES[dtype], tuple(shape)


def read_exactly(stream: Source, count: int) -> bytes:
    content = stream.read(count)
    if len(content) < count:
        raise WireError("the stream ends within a frame")
    return content
