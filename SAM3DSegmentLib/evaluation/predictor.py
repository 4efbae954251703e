"""What is evaluated: a method that starts on a volume and answers lists of clicks with masks of the whole volume."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.crop_answers import Decoder
from SAM3DSegmentLib.geometry import BoolArray, Volume
from SAM3DSegmentLib.segmenter import Segmenter

Predictor = Callable[[tuple[Click, ...]], BoolArray]
"""From an ordered list of clicks to the mask [K, J, I] on the volume's native grid; may cache between calls."""

Method = Callable[[Volume], Predictor]
"""Starts afresh on each structure, so that one trial never profits from the caches of another."""

PAPER_EDGE_MM = 128.0
"""The edge of the paper's one crop: 128 voxels of 1 mm."""


def segmenter_method(decoder: Decoder) -> Method:
    """The product's own road: the segmenter with a network behind `decoder`."""

    def start(volume: Volume) -> Predictor:
        segmenter = Segmenter(volume, decoder)

        def predict(clicks: tuple[Click, ...]) -> BoolArray:
            return segmenter.segment(clicks).mask_on(volume.voxels.shape)

        return predict

    return start


def one_crop_method(decoder: Decoder) -> Method:
    """The paper's way: one crop at the midpoint of the clicks' extent, decoded once, nothing zoomed or corrected.

    A network of 128 voxels at 1 mm gets the paper's crop; another one its zoom level of the most similar edge. Clicks
    that lie outside the crop are not seen by the network; the answer is empty where none lies inside.
    """

    def start(volume: Volume) -> Predictor:
        def predict(clicks: tuple[Click, ...]) -> BoolArray:
            specification = decoder.specification
            size = specification.crop_size
            spacing = min(specification.spacings, key=lambda s: abs(np.log(s * size / PAPER_EDGE_MM)))
            indices = np.array([volume.continuous_index(click.ras) for click in clicks])
            k, j, i = (indices.min(0) + indices.max(0)) / 2
            crop = volume.crop_around(volume.ras((k, j, i)), spacing, (size,) * 3)
            positions = [
                (crop.position((k, j, i)), click.include) for (k, j, i), click in zip(indices, clicks, strict=True)
            ]
            seen = [(position, include) for position, include in positions if crop.holds(position)]
            mask = np.zeros(volume.voxels.shape, bool)
            if any(include for _, include in seen):
                voxels = specification.intensity.apply(*crop.cut(volume.voxels, specification.antialias))
                box, found = crop.paste_positive(decoder.decode(voxels, seen, None), mask.shape)
                mask[box] = found
            return mask

        return predict

    return start
