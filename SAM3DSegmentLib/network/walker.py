"""A random walker from the clicks, on a small grid: NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from SAM3DSegmentLib.geometry import BoolArray, Float32Array

BETA = 20.0
"""How much walkers shun a step in brightness, per squared standard deviation."""

LEAST_WEIGHT = 1e-4
"""Of the way across an edge of any height; it bounds the number of iterations."""

SEED_RADIUS = 3.0
SEED_CONTRAST = 0.5
"""A click seeds the ball around it, but for voxels that differ more from the clicked one, in standard deviations."""

TOLERANCE = 1e-3
"""Of the residual, as a part of the right-hand side."""

MOST_ITERATIONS = 300
FORWARD, BACK = slice(1, None), slice(None, -1)

Voxels = NDArray[np.int_]
"""Clicked voxels [N, 3] as (d, h, w)."""


def walk(image: Float32Array, include: Voxels, exclude: Voxels) -> Float32Array:
    """The probability [S, S, S] that a walker from each voxel meets the object first (Grady 2006, random walker).

    Seeds of the object are the balls of the include clicks; those of the background are the balls of the exclude clicks
    and the faces of the cube. The linear system is solved by conjugate gradients with the diagonal as preconditioner.

    Args:
        image: [S, S, S], normalised, axes (D, H, W).
        include, exclude: at least one include click.
    """
    found, background = balls(image, include, exclude)
    fixed = found | background
    weights = [np.exp(-BETA * np.diff(image, axis=axis) ** 2) + np.float32(LEAST_WEIGHT) for axis in range(3)]
    degree = from_neighbours(np.ones_like(image), weights)
    free = (~fixed).astype(np.float32)

    probability = found.astype(np.float32)
    residual = from_neighbours(probability, weights) * free
    enough = TOLERANCE * float(np.linalg.norm(residual))
    direction = residual / degree
    descent = float(np.vdot(residual, direction))
    for _ in range(MOST_ITERATIONS):
        if np.linalg.norm(residual) <= enough:
            break
        laplacian_of_direction = (degree * direction - from_neighbours(direction, weights)) * free
        step = np.float32(descent / float(np.vdot(direction, laplacian_of_direction)))
        probability += step * direction
        residual -= step * laplacian_of_direction
        preconditioned = residual / degree
        descent, before = float(np.vdot(residual, preconditioned)), descent
        direction = preconditioned + np.float32(descent / before) * direction
    return cast(Float32Array, np.clip(probability, 0, 1))


def balls(image: Float32Array, include: Voxels, exclude: Voxels) -> tuple[BoolArray, BoolArray]:
    """Seeds of the object and of the background, each [S, S, S]; where balls overlap, the nearer click counts."""
    found = np.zeros(image.shape, bool)
    background = np.zeros(image.shape, bool)
    nearest = np.full(image.shape, SEED_RADIUS**2)
    voxels = np.indices(image.shape)
    for clicks, own, other in ((exclude, background, found), (include, found, background)):
        for click in clicks:
            distance = ((voxels - click[:, None, None, None]) ** 2).sum(0)
            alike = abs(image - image[tuple(click)]) <= SEED_CONTRAST
            ball = alike & (distance <= nearest)
            own[ball], other[ball] = True, False
            nearest[ball] = distance[ball]
    inner = (slice(1, -1),) * 3
    faces = np.ones(image.shape, bool)
    faces[inner] = False
    return found, background | (faces & ~found)


def from_neighbours(values: Float32Array, weights: Sequence[Float32Array]) -> Float32Array:
    """The weighted sum [S, S, S] of each voxel's six neighbours."""
    total = np.zeros_like(values)
    for axis, weight in enumerate(weights):
        forward: list[slice] = [slice(None)] * 3
        back: list[slice] = [slice(None)] * 3
        forward[axis], back[axis] = FORWARD, BACK
        total[tuple(back)] += weight * values[tuple(forward)]
        total[tuple(forward)] += weight * values[tuple(back)]
    return total
