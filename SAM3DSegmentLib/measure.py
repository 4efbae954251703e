"""What a mask measures: its volume, its longest axial diameter, its overlap with a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SAM3DSegmentLib.geometry import BoolArray, Box, Volume


@dataclass(frozen=True)
class Measurement:
    """The figures that a radiologist reports of an object.

    Attributes:
        volume_ml: its volume in ml.
        diameter_mm: its longest diameter in mm within one axial slice, as in RECIST 1.1.
    """

    volume_ml: float
    diameter_mm: float


def measure(volume: Volume, mask: BoolArray) -> Measurement:
    """Volume and longest axial diameter of an object; zeros for an empty one.

    Args:
        mask: [k, j, i], a box of the volume's voxels; where it lies makes no difference.
    """
    voxel_mm3 = abs(float(np.linalg.det(volume.ijk_to_ras[:3, :3])))
    (slice_axis, *in_plane), _ = volume.crop_axes
    spacing = [volume.spacing[axis] for axis in in_plane]
    slices = mask.transpose(slice_axis, *in_plane)
    rims = [rim_points(plane) * spacing for plane in slices if plane.any()]
    return Measurement(int(mask.sum()) * voxel_mm3 / 1000, longest_within_one(rims))


def rim_points(plane: BoolArray) -> NDArray[np.float64]:
    """[N, 2], the outer edges' midpoints of the first and last voxel in each row and column of a mask [h, w].

    The corners of the convex hull of all edges' midpoints are among them. Midpoints of edges, not centres: a row of n
    voxels is n voxels long.
    """
    rows, columns = (np.flatnonzero(plane.any(axis)) for axis in (1, 0))
    height, width = plane.shape
    left, right = plane[rows].argmax(1), width - plane[rows, ::-1].argmax(1)
    top, bottom = plane[:, columns].argmax(0), height - plane[::-1, columns].argmax(0)
    return np.concatenate(
        [
            np.column_stack([np.tile(rows, 2), np.concatenate([left, right]) - 0.5]),
            np.column_stack([np.concatenate([top, bottom]) - 0.5, np.tile(columns, 2)]),
        ]
    )


def longest_within_one(rims: list[NDArray[np.float64]]) -> float:
    """The longest distance between two points of the same set, each [N, 2]; 0 for no set.

    No two points are further apart than the diagonal of their box, so most sets need no search.
    """
    longest = 0.0
    for rim in sorted(rims, key=boxed_diagonal, reverse=True):
        if boxed_diagonal(rim) <= longest:
            break
        longest = max(longest, longest_distance(rim))
    return longest


def boxed_diagonal(points: NDArray[np.float64]) -> float:
    """Of the box around the points [N, 2]."""
    return float(np.linalg.norm(np.ptp(points, axis=0)))


def longest_distance(points: NDArray[np.float64]) -> float:
    """The longest distance between any two of the points [N, 2]: it joins two corners of their convex hull."""
    ordered = points[np.lexsort(points.T)].tolist()
    corners = np.array(half_hull(ordered) + half_hull(ordered[::-1]))
    return float(np.sqrt(((corners[:, None] - corners) ** 2).sum(-1).max()))


def half_hull(ordered: list[list[float]]) -> list[list[float]]:
    """One side of the convex hull of ordered points (Andrew's monotone chain)."""
    hull: list[list[float]] = []
    for point in ordered:
        while len(hull) > 1 and not turns_left(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def turns_left(a: list[float], b: list[float], c: list[float]) -> bool:
    return (b[1] - a[1]) * (c[0] - a[0]) > (b[0] - a[0]) * (c[1] - a[1])


def dice(mask: BoolArray, box: Box, reference: NDArray[Any]) -> float:
    """Dice overlap of a mask [k, j, i] in its box with a reference [K, J, I] of the whole volume; 1 for both empty."""
    common = np.count_nonzero(reference[box] & mask)
    total = np.count_nonzero(mask) + np.count_nonzero(reference)
    return 2 * common / total if total else 1.0
