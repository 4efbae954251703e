"""What is evaluated: a method that starts on a volume and answers lists of clicks with masks of the whole volume."""

from __future__ import annotations

from collections.abc import Callable

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.geometry import BoolArray, Volume
from SAM3DSegmentLib.segmenter import Decoder, Segmenter

Predictor = Callable[[tuple[Click, ...]], BoolArray]
"""From an ordered list of clicks to the mask [K, J, I] on the volume's native grid; may cache between calls."""

Method = Callable[[Volume], Predictor]
"""Starts afresh on each structure, so that one trial never profits from the caches of another."""


def segmenter_method(decoder: Decoder) -> Method:
    """The product's own road: the segmenter with a network behind `decoder`."""

    def start(volume: Volume) -> Predictor:
        segmenter = Segmenter(volume, decoder)

        def predict(clicks: tuple[Click, ...]) -> BoolArray:
            return segmenter.segment(clicks).mask_on(volume.voxels.shape)

        return predict

    return start
