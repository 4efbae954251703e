"""How easily each voxel is reached from the clicks through tissue like theirs: two maps for each sign of click."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from SAM3DSegmentLib.geometry import Float32Array, Point
from SAM3DSegmentLib.network.half_grid import clicked_voxels, halved

REACH_CHANNELS = 4
STEP_COST = 0.02
"""Of a step between neighbours of equal brightness; a step over an edge costs its height, in standard deviations."""

TOLERANCE_SCALE = 2.0
MOST_ROUNDS = 6
UNREACHED = np.float32(8.0)

Voxels = tuple[NDArray[np.int_], ...]
"""Indices along D, H and W of voxels."""


def reach(image: Float32Array, include: Sequence[Point], exclude: Sequence[Point]) -> Float32Array:
    """Maps [4, S/2, S/2, S/2] between 0 and 1: two from the include clicks, then two from the exclude clicks.

    The first of a pair falls with the length of the shortest path from a click, where crossing an edge is long (the
    geodesic distance of Criminisi et al. 2008). The second falls with the tolerance at which a region growing from a
    click would arrive: the least, over all paths, of the greatest difference from the clicked brightness on the way.
    Both are zero everywhere where there are no clicks of the sign.

    Args:
        image: [S, S, S], normalised crop, axes (D, H, W).
        include, exclude: positions (d, h, w) in voxels of the crop.
    """
    small = halved(image)
    edge = len(small)
    steps = [np.abs(np.diff(small, axis=axis)) + np.float32(STEP_COST) for axis in range(3)]
    maps = np.zeros((2, REACH_CHANNELS // 2, edge, edge, edge), np.float32)
    signs = [n for n, clicks in enumerate((include, exclude)) if len(clicks)]
    if signs:
        seeds = [tuple(clicked_voxels((include, exclude)[n], edge).T) for n in signs]
        brightness = [np.unique(small[voxels]) for voxels in seeds]
        differences = np.stack([np.abs(small - each[:, None, None, None]).min(0) for each in brightness])
        maps[signs, 0] = np.exp(-shortest(steps, seeds))
        maps[signs, 1] = np.exp(-TOLERANCE_SCALE * least_tolerance(differences, seeds))
    return maps.reshape(REACH_CHANNELS, edge, edge, edge)


def shortest(steps: list[Float32Array], seeds: Sequence[Voxels]) -> Float32Array:
    """[N, S, S, S] length of the shortest path from one of the nth seeds (at most `UNREACHED`).

    By sweeps to and fro along each axis, all N at once.
    """
    edge = steps[0].shape[1]
    length = np.full((len(seeds), edge, edge, edge), UNREACHED)
    for own, voxels in zip(length, seeds, strict=True):
        own[voxels] = 0
    for _ in range(MOST_ROUNDS):
        before = length.copy()
        for axis, step in enumerate(steps):
            lines, costs = np.moveaxis(length, axis + 1, 0), np.moveaxis(step, axis, 0)
            for i in range(1, edge):
                np.minimum(lines[i], lines[i - 1] + costs[i - 1], out=lines[i])
            for i in range(edge - 2, -1, -1):
                np.minimum(lines[i], lines[i + 1] + costs[i], out=lines[i])
        if np.array_equal(before, length):
            break
    return length


def least_tolerance(differences: Float32Array, seeds: Sequence[Voxels]) -> Float32Array:
    """[N, S, S, S] least over all paths from one of the nth seeds of the greatest difference on the way, as `shortest`.

    Args:
        differences: [N, S, S, S], of each voxel from the tissue under the nth seeds.
    """
    edge = differences.shape[1]
    tolerance = np.full(differences.shape, UNREACHED)
    for own, difference, voxels in zip(tolerance, differences, seeds, strict=True):
        own[voxels] = difference[voxels]
    for _ in range(MOST_ROUNDS):
        before = tolerance.copy()
        for axis in range(1, 4):
            lines, floor = np.moveaxis(tolerance, axis, 0), np.moveaxis(differences, axis, 0)
            for i in range(1, edge):
                np.minimum(lines[i], np.maximum(lines[i - 1], floor[i]), out=lines[i])
            for i in range(edge - 2, -1, -1):
                np.minimum(lines[i], np.maximum(lines[i + 1], floor[i]), out=lines[i])
        if np.array_equal(before, tolerance):
            break
    return tolerance
