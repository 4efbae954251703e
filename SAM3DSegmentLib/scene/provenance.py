"""How a segment was made, kept in its tags: Slicer writes them into the .seg.nrrd file."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import slicer
from vtkmodules.vtkCommonCore import reference

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.geometry import BoolArray, Box

TAG_PREFIX = "SAM3DSegment."
CLICKS = "Clicks"
TEXTS = {
    "Model": "model",
    "ModelVersion": "model_version",
    "ModelSHA256": "model_sha256",
    "SoftwareVersion": "software_version",
}
"""Tag name and field of `Provenance`."""

OPTIONAL_TEXTS = {"Device": "device", "StartSHA256": "start_sha256", "MaskSHA256": "mask_sha256"}
"""Likewise, but absent where they are empty."""

READABLE = " ()+,;@"
"""Left as they are in a tag, beside letters and digits: all else is %-encoded, for Slicer separates tags by |."""


@dataclass(frozen=True)
class Provenance:
    """All that is needed to make a segment again from its scan.

    Attributes:
        clicks: in the order they were made.
        model, model_version: the network's name and version.
        model_sha256: of the checkpoint file, hexadecimal.
        software_version: of this project.
        device: what the network ran on, such as `cpu` or `cuda`; empty in the oldest files.
        start_sha256: of the mask that the clicks went on from, loaded or painted by hand; empty where the clicks alone
            explain the segment.
        mask_sha256: of the mask that the clicks alone made, by which one that was painted since is told from it; empty
            where they went on from a mask, and in older files.
    """

    clicks: tuple[Click, ...]
    model: str
    model_version: str
    model_sha256: str
    software_version: str
    device: str = ""
    start_sha256: str = ""
    mask_sha256: str = ""


def mask_digest(box: Box, mask: BoolArray) -> str:
    """SHA-256 of a mask [k, j, i] and of where it lies, hexadecimal."""
    digest = hashlib.sha256(repr([(side.start, side.stop) for side in box]).encode())
    digest.update(np.packbits(mask).tobytes())
    return digest.hexdigest()


def write_provenance(
    segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str, provenance: Provenance
) -> None:
    """Replace the segment's record; its other tags stay."""
    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    clicks = [{"ras": click.ras, "include": click.include} for click in provenance.clicks]
    segment.SetTag(TAG_PREFIX + CLICKS, json.dumps(clicks))
    for tag, field in TEXTS.items():
        segment.SetTag(TAG_PREFIX + tag, quote(getattr(provenance, field), safe=READABLE))
    for tag, field in OPTIONAL_TEXTS.items():
        if text := getattr(provenance, field):
            segment.SetTag(TAG_PREFIX + tag, quote(text, safe=READABLE))
        else:
            segment.RemoveTag(TAG_PREFIX + tag)


def remove_provenance(segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str) -> None:
    """Take the segment's record out, where there is one; its other tags stay."""
    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    for tag in (CLICKS, *TEXTS, *OPTIONAL_TEXTS):
        segment.RemoveTag(TAG_PREFIX + tag)


def read_provenance(segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str) -> Provenance | None:
    """The segment's record; None where there is none, or one that is not ours."""
    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    clicks = _tag(segment, CLICKS)
    texts = {field: _tag(segment, tag) for tag, field in TEXTS.items()}
    if clicks is None or None in texts.values():
        return None
    try:
        return Provenance(
            _parse_clicks(clicks),
            **{field: unquote(text) for field, text in texts.items() if text is not None},
            **{field: unquote(_tag(segment, tag) or "") for tag, field in OPTIONAL_TEXTS.items()},
        )
    except (ValueError, TypeError, KeyError):
        return None


def _tag(segment: slicer.vtkSegment, name: str) -> str | None:
    value = reference("")
    return str(value) if segment.GetTag(TAG_PREFIX + name, value) else None


def _parse_clicks(text: str) -> tuple[Click, ...]:
    def click(entry: dict[str, Any]) -> Click:
        r, a, s = (float(c) for c in entry["ras"])
        if not all(math.isfinite(c) for c in (r, a, s)):
            raise ValueError("a click lies nowhere")
        return Click((r, a, s), bool(entry["include"]))

    entries = json.loads(text)
    if not isinstance(entries, list):
        raise ValueError("no list of clicks")
    return tuple(click(entry) for entry in entries)
