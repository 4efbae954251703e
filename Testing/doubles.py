"""Stand-ins for tests: a network whose answers are known, in the test's own process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from SAM3DSegmentLib.errors import CancelledError
from SAM3DSegmentLib.geometry import Float32Array, Point, Volume
from SAM3DSegmentLib.intensity import FixedWindow
from SAM3DSegmentLib.specification import Specification


class BrightnessDecoder:
    """Calls everything inside that is brighter than a threshold; counts its calls and remembers what it was asked."""

    def __init__(self, spacings: tuple[float, ...] = (0.75, 1.5, 3.0, 6.0), crop_size: int = 32) -> None:
        self.specification = Specification(
            "brightness", "1", "0" * 64, crop_size, spacings, FixedWindow(-1e6, 1e6, 0, 1), True, True
        )
        self.asked: list[tuple[tuple[Point, bool], ...]] = []
        self.previous: list[Float32Array | None] = []

    def decode(
        self,
        crop: Float32Array,
        clicks: Sequence[tuple[Point, bool]],
        previous: Float32Array | None,
        cancelled: threading.Event | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Float32Array:
        if cancelled and cancelled.is_set():
            raise CancelledError
        self.asked.append(tuple(clicks))
        self.previous.append(previous)
        return ((crop - self.threshold(crop, len(clicks))) * 8).astype(np.float16).astype(np.float32)

    def threshold(self, crop: Float32Array, clicks: int) -> float:
        """Of a crop [S, S, S] in which so many clicks lie."""
        return 0.5


def ball_volume(
    radius: float, spacing: Point = (2.0, 0.8, 0.8), shape: tuple[int, int, int] = (60, 150, 150)
) -> Volume:
    """A bright ball of `radius` mm in the middle of a dark volume; spacing in mm along K, J, I."""
    axes = (np.arange(n) - n // 2 for n in shape)
    k, j, i = np.meshgrid(*(a * s for a, s in zip(axes, spacing, strict=True)), indexing="ij")
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    affine[:3, 3] = 40, 50, -60
    return Volume((k**2 + j**2 + i**2 < radius**2).astype(np.float32), affine)


def middle(volume: Volume) -> Point:
    """RAS mm of the middle voxel."""
    k, j, i = (n // 2 for n in volume.voxels.shape)
    return volume.ras((k, j, i))
