"""What a network answers about single crops of a volume: the segmenter's side of the engine."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.geometry import Crop, Float32Array, Point, Volume
from SAM3DSegmentLib.specification import Specification

CROPS_KEPT = 8
"""Crops whose voxels are kept, so that a further click in them does not cut them again."""


class Decoder(Protocol):
    """What the segmenter asks of the engine (`engine.client.Engine`)."""

    @property
    def specification(self) -> Specification: ...

    def decode(
        self,
        crop: Float32Array,
        clicks: Sequence[tuple[Point, bool]],
        previous: Float32Array | None,
        cancelled: threading.Event | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Float32Array: ...


@dataclass(frozen=True)
class Request:
    """How one evaluation is called off, and told of."""

    cancelled: threading.Event | None = None
    progress: Callable[[float], None] | None = None


class CropAnswers:
    """Cuts crops out of one volume, the latest of which it keeps, and has one network answer clicks in them."""

    def __init__(self, volume: Volume, decoder: Decoder) -> None:
        self._volume = volume
        self._decoder = decoder
        self._voxels: OrderedDict[Crop, Float32Array] = OrderedDict()

    @property
    def levels(self) -> tuple[float, ...]:
        """Voxel sizes of the network's zoom levels in mm, the finest first."""
        return self._decoder.specification.spacings

    @property
    def size(self) -> int:
        """A crop's edge in crop voxels."""
        return self._decoder.specification.crop_size

    def around(self, level: int, centre: Point) -> Crop:
        """The crop of a zoom level around a native index (k, j, i)."""
        return self._volume.crop_around(self._volume.ras(centre), self.levels[level], (self.size,) * 3)

    def native(self, clicks: Sequence[Click]) -> list[tuple[Point, bool]]:
        """Each click's native index (k, j, i), and whether it includes."""
        return [(self._volume.continuous_index(click.ras), click.include) for click in clicks]

    def placed(self, crop: Crop, clicks: Sequence[Click]) -> list[tuple[Point, bool]]:
        """The clicks that lie in a crop, in its voxels (d, h, w)."""
        placed = [(crop.position(index), include) for index, include in self.native(clicks)]
        return [(position, include) for position, include in placed if crop.holds(position)]

    def voxels(self, crop: Crop) -> Float32Array:
        """[S, S, S], normalised as the network reads them."""
        voxels = self._voxels.get(crop)
        if voxels is None:
            specification = self._decoder.specification
            voxels = specification.intensity.apply(*crop.cut(self._volume.voxels, specification.antialias))
            self._voxels[crop] = voxels
            if len(self._voxels) > CROPS_KEPT:
                self._voxels.popitem(last=False)
        return voxels

    def answer(
        self, crop: Crop, placed: list[tuple[Point, bool]], previous: Float32Array | None, request: Request
    ) -> Float32Array:
        """The network's logits [S, S, S] of a crop.

        Args:
            placed: clicks in the crop's voxels.
            previous: [S, S, S], the logits of the answer before, or None.
            request: calls the answer off, and is told of its progress.

        Raises:
            CancelledError: the request was called off.
            UserError: the engine's.
        """
        return self._decoder.decode(self.voxels(crop), placed, previous, request.cancelled, request.progress)
