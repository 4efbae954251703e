"""Masks that were painted by hand, or loaded: told from our own answers, and taken as the start of what follows.

Each segment that follows from its clicks alone carries the digest of its mask as a tag. A segment without it, or with
another mask, holds work that no list of clicks would bring back.
"""

from __future__ import annotations

import hashlib
from itertools import takewhile
from typing import Any

import numpy as np
from vtkmodules.vtkCommonCore import reference

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.geometry import BoolArray, Box, Volume
from SAM3DSegmentLib.interaction.evaluator import Start
from SAM3DSegmentLib.scene.provenance import TAG_PREFIX
from SAM3DSegmentLib.start import seed_clicks

MASK_TAG = TAG_PREFIX + "MaskSHA256"

Clicks = tuple[Click, ...]


def mask_digest(box: Box, mask: BoolArray) -> str:
    """Of a mask [k, j, i] and where it lies, hexadecimal."""
    digest = hashlib.sha256(repr([(side.start, side.stop) for side in box]).encode())
    digest.update(np.packbits(mask).tobytes())
    return digest.hexdigest()


def start_digest(starts: tuple[Start, ...]) -> str:
    """Of the mask that an evaluation went on from: of several, the one with the longest list of clicks; else empty."""
    if not starts:
        return ""
    start = max(starts, key=lambda start: len(start.clicks))
    return mask_digest(start.box, start.mask)


def read_digest(segment: Any) -> str:
    """The segment's own record; empty where there is none."""
    value = reference("")
    return str(value) if segment.GetTag(MASK_TAG, value) else ""


def write_digest(segment: Any, digest: str) -> None:
    """Replace the segment's record; an empty digest removes it."""
    if digest:
        segment.SetTag(MASK_TAG, digest)
    else:
        segment.RemoveTag(MASK_TAG)


def start_from_mask(volume: Volume, box: Box, mask: BoolArray, before: Clicks, now: Clicks) -> tuple[Start, Clicks]:
    """The mask as the start of what the newest click does to it.

    Args:
        box, mask: native voxels (K, J, I) around the mask, and the mask [k, j, i] within, not empty.
        before, now: the clicks before and after the user's change.

    Returns:
        The start, and the clicks to evaluate: those of `now`, with an include click for each component without one.

    Raises:
        TooManyPartsError: see `seed_clicks`.
    """
    kept = tuple(b for b, _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, now, strict=False)))
    held = (*kept, *seed_clicks(volume, box, mask, kept))
    return Start(held, box, mask), (*held, *now[len(kept) :])
