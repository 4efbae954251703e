"""Shapes in the patient whose extent is known exactly: what phantoms are painted from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from SAM3DSegmentLib.geometry import Float32Array, Point


@dataclass(frozen=True)
class Ellipsoid:
    """Axis-aligned in the patient; centre and radii in mm along R, A, S."""

    centre: Point
    radii: Point

    @property
    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.subtract(self.centre, self.radii), np.add(self.centre, self.radii)

    def depth(self, positions: Float32Array) -> Float32Array:
        """[k, j, i] for positions [3, k, j, i] in RAS mm: above 0 inside, falling steadily outwards."""
        depth: Float32Array = 1 - np.linalg.norm((positions - as_column(self.centre)) / as_column(self.radii), axis=0)
        return depth


@dataclass(frozen=True)
class Tube:
    """A straight tube with round ends, in mm."""

    start: Point
    end: Point
    radius: float

    @property
    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        ends = np.array([self.start, self.end])
        return ends.min(0) - self.radius, ends.max(0) + self.radius

    def depth(self, positions: Float32Array) -> Float32Array:
        """[k, j, i] for positions [3, k, j, i] in RAS mm: above 0 inside, falling steadily outwards."""
        along, offset = as_column(self.end) - as_column(self.start), positions - as_column(self.start)
        part = np.clip((offset * along).sum(0) / (along**2).sum(), 0, 1)
        depth: Float32Array = 1 - np.linalg.norm(offset - part * along, axis=0) / np.float32(self.radius)
        return depth


def as_column(point: Point) -> Float32Array:
    return np.array(point, np.float32).reshape(3, 1, 1, 1)


Shape = Ellipsoid | Tube


def filled_part(depth: Float32Array) -> Float32Array:
    """The part of each voxel that lies inside, from a depth that is above 0 there: exact for a flat surface."""
    across = np.abs(np.gradient(depth, axis=0))
    for axis in (1, 2):
        across += np.abs(np.gradient(depth, axis=axis))
    return np.clip(0.5 + depth / np.maximum(across, 1e-6), 0, 1)
