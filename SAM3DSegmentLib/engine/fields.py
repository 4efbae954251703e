"""What the fields of each message must hold: requests as the engine reads them, answers as its client does."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from SAM3DSegmentLib import errors
from SAM3DSegmentLib.engine.wire import Array, Message, digest
from SAM3DSegmentLib.errors import EngineError, UserError
from SAM3DSegmentLib.specification import Specification

DIGEST = re.compile(r"[0-9a-f]{32}")
TEXT_LIMIT = 4096
CLICK_LIMIT = 256
"""Clicks in one crop: a network spends memory on each of them."""

LARGEST_CROP = 256
"""Edge in voxels: logits of float16 fill half of the largest message."""


class FieldError(Exception):
    """A frame of this protocol whose fields are not what its kind holds."""


@dataclass(frozen=True)
class DecodeRequest:
    """What `decode` asks for.

    Attributes:
        number: of the request.
        crop, previous: digests of arrays [S, S, S]; previous may be None.
        clicks: positions (d, h, w) in voxels of the crop, and whether they include.
        arrays: those of the two that came along, by digest, float16.
    """

    number: int
    crop: str
    previous: str | None
    clicks: tuple[tuple[tuple[float, float, float], bool], ...]
    arrays: Mapping[str, Array]


@dataclass(frozen=True)
class Loaded:
    """The network that an engine has loaded, and the kind of device that it runs on."""

    specification: Specification
    device: str


def request_number(message: Message) -> int:
    """The number that an answer has to carry.

    Raises:
        FieldError: there is none.
    """
    return whole(message, "request")


def hello_of(message: Message) -> tuple[int, str]:
    """Protocol and version of the client.

    Raises:
        FieldError: one is missing or of another type.
    """
    return whole(message, "protocol"), text(message, "version")


def load_of(message: Message) -> tuple[str, str]:
    """Model and device to load.

    Raises:
        FieldError: one is missing or of another type.
    """
    return text(message, "model"), text(message, "device")


def decode_of(message: Message, edge: int) -> DecodeRequest:
    """The request to decode a crop of `edge` voxels.

    Raises:
        FieldError: something is missing, or not of the type, size or content that it says.
    """
    crop = digest_of(message, "crop")
    previous = None if message.fields.get("previous") is None else digest_of(message, "previous")
    keys = {"crop": crop, "previous": previous}
    arrays = {}
    for name, array in message.arrays.items():
        key = keys.get(name)
        if key is None or array.shape != (edge,) * 3 or array.dtype != np.float16:
            raise FieldError(f"its array {name!r} is not one of {edge} x {edge} x {edge} float16 that it names")
        if digest(array) != key:
            raise FieldError(f"its array {name!r} is not the one that it names")
        arrays[key] = array
    found = message.fields.get("clicks")
    if not isinstance(found, list) or len(found) > CLICK_LIMIT:
        raise FieldError(f"its clicks are no list of at most {CLICK_LIMIT}")
    clicks = tuple(click_of(click) for click in found)
    if not any(include for _, include in clicks):
        raise FieldError("none of its clicks includes")
    return DecodeRequest(request_number(message), crop, previous, clicks, arrays)


def digest_of(message: Message, name: str) -> str:
    key = text(message, name)
    if not DIGEST.fullmatch(key):
        raise FieldError(f"its {name} is no digest")
    return key


def click_of(value: Any) -> tuple[tuple[float, float, float], bool]:
    """Position and sign from `[d, h, w, include]`."""
    if not isinstance(value, list) or len(value) != 4 or not isinstance(value[3], bool):
        raise FieldError("a click is not [d, h, w, include]")
    d, h, w = (number(coordinate, "a click") for coordinate in value[:3])
    return (d, h, w), value[3]


def loaded_of(message: Message) -> Loaded:
    """The engine's answer to `load`.

    Raises:
        FieldError: it is another answer, or describes no network.
    """
    if message.kind != "loaded":
        raise FieldError(f"it is {message.kind!r} instead of 'loaded'")
    content = message.fields.get("specification")
    if not isinstance(content, dict):
        raise FieldError("its specification is missing")
    try:
        specification = Specification.from_json(content)
    except (LookupError, TypeError) as error:
        raise FieldError(f"its specification is of another version ({error})") from error
    for name in ("name", "version", "sha256"):
        if not isinstance(getattr(specification, name), str):
            raise FieldError(f"its {name} is no text")
    for value in (*specification.spacings, *vars(specification.intensity).values()):
        number(value, "its specification")
    size = specification.crop_size
    if type(size) is not int or not 0 < size <= LARGEST_CROP:
        raise FieldError("its crop has no possible size")
    if not specification.spacings or min(specification.spacings) <= 0:
        raise FieldError("its zoom levels are no lengths")
    return Loaded(specification, text(message, "device"))


def logits_of(message: Message, edge: int) -> Array:
    """[edge, edge, edge] float16 from the engine's answer to `decode`.

    Raises:
        FieldError: it is another answer, or of another size.
    """
    logits = message.arrays.get("logits")
    if message.kind != "logits" or logits is None:
        raise FieldError(f"it is {message.kind!r} instead of logits")
    if logits.shape != (edge,) * 3 or logits.dtype != np.float16:
        raise FieldError(f"its logits are {logits.dtype} of shape {logits.shape}")
    return logits


def missing_of(message: Message) -> set[str]:
    """The digests of arrays that the engine wants to be sent.

    Raises:
        FieldError: it names none.
    """
    keys = message.fields.get("keys")
    if not isinstance(keys, list) or not keys or not all(isinstance(key, str) for key in keys):
        raise FieldError("it names no missing arrays")
    return set(keys)


def fraction_of(message: Message) -> float:
    """How much of the work is done, 0 to 1.

    Raises:
        FieldError: it is no such number.
    """
    fraction = number(message.fields.get("fraction"), "its fraction")
    if not 0 <= fraction <= 1:
        raise FieldError("its fraction is not between 0 and 1")
    return fraction


def error_of(message: Message) -> UserError:
    """The engine's error as the exception that it is on this side; one that this version does not know is the engine's.

    Raises:
        FieldError: it holds no error.
    """
    kind = getattr(errors, text(message, "error"), EngineError)
    if not (isinstance(kind, type) and issubclass(kind, UserError)):
        kind = EngineError
    return kind(text(message, "message"))


def whole(message: Message, name: str) -> int:
    value = message.fields.get(name)
    if type(value) is not int:
        raise FieldError(f"its {name} is no whole number")
    return value


def text(message: Message, name: str) -> str:
    value = message.fields.get(name)
    if not isinstance(value, str) or len(value) > TEXT_LIMIT:
        raise FieldError(f"its {name} is no text of at most {TEXT_LIMIT} characters")
    return value


def number(value: Any, what: str) -> float:
    """A finite number; whole ones beyond the range of a float are none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e30 or math.isnan(value):
        raise FieldError(f"{what} holds something else than numbers")
    return float(value)
