"""Masks that were painted by hand, or loaded, as the start of what follows."""

from __future__ import annotations

from itertools import takewhile

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.geometry import BoolArray, Box, Volume
from SAM3DSegmentLib.scene.provenance import mask_digest
from SAM3DSegmentLib.start import Start, seed_clicks

Clicks = tuple[Click, ...]


def start_digest(start: Start | None) -> str:
    """Of the mask that an evaluation went on from; empty where there is none."""
    return mask_digest(start.box, start.mask) if start else ""


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
