"""Volumes, crops and the arithmetic between voxels and RAS millimetres; nobody else multiplies a matrix.

Arrays are (K, J, I), the order of Slicer's `arrayFromVolume`; positions are RAS mm. A crop's axes are (D, H, W): along
the volume's own axes, permuted and flipped to the nearest canonical orientation, D towards superior, H towards
anterior, W towards right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SAM3DSegmentLib.errors import ClickOutsideError, ScanError

Point = tuple[float, float, float]
Index = tuple[int, int, int]
Box = tuple[slice, slice, slice]
Float32Array = NDArray[np.float32]
FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]

CROP_AXES_IN_RAS = (2, 1, 0)
"""D, H, W run along S, A, R."""

LARGEST_VOXEL = 1e15
"""Squares of larger values, summed over a crop, are beyond float32."""

SLAB_VOXELS = 4_000_000
"""A volume is resampled in slabs of about this many voxels, to bound the memory in use."""


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels with their place in the patient.

    Attributes:
        voxels: [K, J, I], finite real numbers.
        ijk_to_ras: [4, 4], from (i, j, k, 1) of a voxel's centre to RAS mm; oblique and left-handed ones alike.
    """

    voxels: NDArray[Any]
    ijk_to_ras: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3 or not self.voxels.size:
            raise ScanError(
                f"The scan has shape {self.voxels.shape}: choose one scalar 3D volume "
                "(for a 4D series pick one frame, for a colour image convert it to grey values)."
            )
        if not (np.isfinite(self.ijk_to_ras).all() and abs(np.linalg.det(self.ijk_to_ras[:3, :3])) >= 1e-9):
            raise ScanError("The scan's orientation matrix is singular: correct its header (spacing and directions).")

    def validate_intensities(self) -> None:
        """Raise `ScanError` for voxels that are not finite, too large to compute with, or all alike."""
        low, high = self.voxels.min(), self.voxels.max()
        if not (low >= -LARGEST_VOXEL and high <= LARGEST_VOXEL):
            raise ScanError(
                f"The scan holds NaN or infinite voxels, or some beyond {LARGEST_VOXEL:.0e}: replace them (for example "
                "by the value of air) first."
            )
        if low == high:
            raise ScanError(
                f"Every voxel of the scan has the value {low}: there is nothing to segment, choose another scan."
            )

    @cached_property
    def spacing(self) -> Point:
        """Voxel size in mm along K, J, I."""
        i, j, k = (float(s) for s in np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0))
        return k, j, i

    @cached_property
    def crop_axes(self) -> tuple[Index, Point]:
        """For D, H, W: the array axis that runs along it, and +1 or -1 for its sense."""
        directions = self.ijk_to_ras[:3, :3] / np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)
        cosines = directions[list(CROP_AXES_IN_RAS)][:, ::-1]
        axes = max(permutations(range(3)), key=lambda p: sum(abs(cosines[row, axis]) for row, axis in enumerate(p)))
        senses = [1.0 if cosines[row, axis] >= 0 else -1.0 for row, axis in enumerate(axes)]
        return (axes[0], axes[1], axes[2]), (senses[0], senses[1], senses[2])

    def continuous_index(self, ras: Point) -> Point:
        """(k, j, i) of a RAS position, not rounded; voxel centres have whole numbers."""
        i, j, k, _ = np.linalg.solve(self.ijk_to_ras, [*ras, 1.0])
        return float(k), float(j), float(i)

    def ras(self, index: Point) -> Point:
        """RAS mm of the (possibly fractional) index (k, j, i)."""
        k, j, i = index
        r, a, s, _ = self.ijk_to_ras @ [i, j, k, 1.0]
        return float(r), float(a), float(s)

    def index(self, ras: Point) -> Index:
        """(k, j, i) of the voxel that holds a RAS position.

        Raises:
            ClickOutsideError: no voxel does.
        """
        k, j, i = (round(c) for c in self.continuous_index(ras))
        if not all(0 <= c < n for c, n in zip((k, j, i), self.voxels.shape, strict=True)):
            position = ", ".join(f"{c:.1f}" for c in ras)
            limits = ", ".join(
                f"{axis} {low:.0f} to {high:.0f}" for axis, low, high in zip("RAS", *self.bounds, strict=True)
            )
            raise ClickOutsideError(
                f"The click at RAS {position} mm lies outside the scan ({limits} mm): click inside it."
            )
        return k, j, i

    @property
    def bounds(self) -> tuple[Point, Point]:
        """Lowest and highest R, A, S in mm that the voxels' centres reach."""
        last = np.asarray(self.voxels.shape) - 1
        corners = np.array([self.ras(tuple(last * corner)) for corner in np.ndindex(2, 2, 2)])
        return tuple(corners.min(0)), tuple(corners.max(0))

    def crop_around(self, ras: Point, spacing: float, shape: Index) -> Crop:
        """The crop of `shape` voxels (D, H, W) of `spacing` mm whose middle voxel (shape // 2) lies at `ras`."""
        axes, senses = self.crop_axes
        centre = self.continuous_index(ras)
        step = [sense * spacing / self.spacing[axis] for axis, sense in zip(axes, senses, strict=True)]
        start = [centre[axis] - s * (n // 2) for axis, s, n in zip(axes, step, shape, strict=True)]
        return Crop(axes, (start[0], start[1], start[2]), (step[0], step[1], step[2]), shape)


@dataclass(frozen=True)
class Crop:
    """A box of crop voxels on a volume's grid.

    Attributes:
        axes: the array axis (0 = K, 1 = J, 2 = I) along D, H, W.
        start: native index of the first crop voxel's centre along D, H, W; fractional, may lie outside the volume.
        step: native voxels from one crop voxel to the next along D, H, W; negative where the axis is flipped.
        shape: crop voxels along D, H, W.
    """

    axes: Index
    start: Point
    step: Point
    shape: Index

    def position(self, index: Point) -> Point:
        """(d, h, w) in crop voxels of the native index (k, j, i)."""
        d, h, w = (
            (index[axis] - start) / step for axis, start, step in zip(self.axes, self.start, self.step, strict=True)
        )
        return d, h, w

    def holds(self, position: Point) -> bool:
        """Whether the position (d, h, w) lies in one of the crop's voxels."""
        return all(-0.5 <= p <= n - 0.5 for p, n in zip(position, self.shape, strict=True))

    def voxel(self, index: Point) -> Index | None:
        """(d, h, w) of the crop voxel that holds the native index (k, j, i); None where none does."""
        d, h, w = (round(p) for p in self.position(index))
        within = all(0 <= v < n for v, n in zip((d, h, w), self.shape, strict=True))
        return (d, h, w) if within else None

    def native_index(self, position: Point) -> Point:
        """(k, j, i) of the position (d, h, w); the inverse of `position`."""
        index = [0.0, 0.0, 0.0]
        for axis, start, step, p in zip(self.axes, self.start, self.step, position, strict=True):
            index[axis] = start + step * p
        return index[0], index[1], index[2]

    def part(self, offset: Index, shape: Index) -> Crop:
        """The box of `shape` crop voxels that begins `offset` voxels on; it may reach out of this one."""
        d, h, w = (s + t * o for s, t, o in zip(self.start, self.step, offset, strict=True))
        return Crop(self.axes, (d, h, w), self.step, shape)

    def cut(self, voxels: NDArray[Any], antialias: bool = True) -> tuple[Float32Array, BoolArray]:
        """The crop's voxels and which of them lie inside the volume, both [D, H, W].

        Args:
            voxels: [K, J, I].
            antialias: average over each crop voxel's extent where it is wider than a native voxel; else trilinear.
        """
        matrices: list[Float32Array] = [np.zeros((0, 0), np.float32)] * 3
        native, inside = [slice(0)] * 3, []
        for axis, start, step, size in zip(self.axes, self.start, self.step, self.shape, strict=True):
            length = voxels.shape[axis]
            positions = start + step * np.arange(size)
            inside.append((positions >= -0.5) & (positions <= length - 0.5))
            matrix = resampling_matrix(positions, abs(step) if antialias else 1.0, length)
            used = np.flatnonzero(matrix.any(0))
            native[axis] = slice(int(used[0]), int(used[-1]) + 1)
            matrices[axis] = matrix[:, native[axis]]
        values = np.concatenate(list(contract_in_slabs(voxels[tuple(native)], matrices, along=1)), axis=1)
        d, h, w = inside
        return values.transpose(self.axes), d[:, None, None] & h[:, None] & w

    def paste_positive(self, values: FloatArray, shape: tuple[int, ...]) -> tuple[Box, BoolArray]:
        """Where the values, brought back to native voxels of a volume of `shape`, are positive.

        Args:
            values: [D, H, W] on this crop, for example logits.

        Returns:
            The box of native voxels around the positive ones and the mask [k, j, i] within it; empty where none is.
        """
        positive = np.argwhere(values > 0)
        if not len(positive):
            return empty_mask()
        native_width = np.ceil(1 / np.abs(self.step)).astype(int)
        low = np.maximum(positive.min(0) - native_width - 1, 0)
        high = np.minimum(positive.max(0) + native_width + 2, values.shape)
        sub = self.part(tuple(low), tuple(high - low))
        values = values[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        order = tuple(int(o) for o in np.argsort(self.axes))
        matrices, native = [], []
        for along in order:
            start, step, size, length = sub.start[along], sub.step[along], sub.shape[along], shape[sub.axes[along]]
            ends = sorted((start - step / 2, start + step * (size - 0.5)))
            first, last = max(0, int(np.ceil(ends[0]))), min(length - 1, int(np.floor(ends[1])))
            native.append(slice(first, last + 1))
            positions = (np.arange(first, last + 1) - start) / step
            matrices.append(resampling_matrix(positions, abs(1 / step), size))
        if any(n.stop <= n.start for n in native):
            return empty_mask()
        slabs = contract_in_slabs(values.transpose(order).astype(np.float32), matrices, along=0)
        k, j, i = native
        return trim((k, j, i), np.concatenate([slab > 0 for slab in slabs]))


def resampling_matrix(positions: FloatArray, width: float, length: int) -> Float32Array:
    """[len(positions), length], the weights of `length` samples at 0, 1, ... for each position.

    Linear interpolation, clamped at both ends; where `width` (the extent of a target in samples) is above 1, the mean
    over that extent. Every row sums to 1.
    """
    clamped = np.clip(positions, 0, length - 1)
    samples = np.arange(length)
    if width <= 1:
        weights = np.maximum(0, 1 - np.abs(clamped[:, None] - samples))
    else:
        low, high = clamped[:, None] - width / 2, clamped[:, None] + width / 2
        weights = np.maximum(0, np.minimum(high, samples + 0.5) - np.maximum(low, samples - 0.5))
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def contract_in_slabs(voxels: NDArray[Any], matrices: Sequence[Float32Array], along: int) -> Iterator[Float32Array]:
    """The three matrices applied to the axes of `voxels`, in slabs of axis `along` (0 or 1) of the result."""
    widest = max(voxels.size, prod(len(matrix) for matrix in matrices))
    count = min(matrices[along].shape[0], -(-widest // SLAB_VOXELS))
    for rows in np.array_split(matrices[along], count):
        used = np.flatnonzero(rows.any(0))
        needed = slice(int(used[0]), int(used[-1]) + 1)
        part = voxels[(slice(None),) * along + (needed,)].astype(np.float32)
        applied = [*matrices]
        applied[along] = rows[:, needed]
        for axis in sorted(range(3), key=lambda a: applied[a].shape[0] / applied[a].shape[1]):
            part = np.moveaxis(np.tensordot(applied[axis], part, (1, axis)), 0, axis)
        yield part


def trim(box: Box, mask: BoolArray) -> tuple[Box, BoolArray]:
    """The same mask in the smallest box that holds it; an empty box for an empty mask."""
    if not mask.any():
        return empty_mask()
    inner = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(tuple(a for a in range(3) if a != axis)))
        inner.append(slice(int(used[0]), int(used[-1]) + 1))
    outer = tuple(slice(b.start + i.start, b.start + i.stop) for b, i in zip(box, inner, strict=True))
    return (outer[0], outer[1], outer[2]), mask[tuple(inner)]


def empty_mask() -> tuple[Box, BoolArray]:
    return (slice(0, 0), slice(0, 0), slice(0, 0)), np.zeros((0, 0, 0), bool)
