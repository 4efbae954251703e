"""Classical rivals of a network, fed with clicks as it is: a random walker and a region growing.

Both see a cube of tissue around the clicks in a bounded number of voxels. Each click stands for a ball of seeds of its
own brightness; the cube's faces are background. The parameters were chosen on the sarcoma training scans and are the
same for every case.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import random_walker, watershed

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.evaluation.predictor import Method, Predictor
from SAM3DSegmentLib.geometry import BoolArray, Crop, Float32Array, Volume
from SAM3DSegmentLib.intensity import CropStatistics

SMALLEST_EDGE_MM = 140.0
MARGIN_MM = 50.0
"""Tissue around the outermost clicks."""

SEED_CONTRAST = 0.5
"""Voxels that differ more from the clicked one, in standard deviations of the cube, are left out of its ball."""

SEED_SIGMA = 0.5
OBJECT, BACKGROUND = 1, 2
Seeds = NDArray[np.uint8]
Grow = Callable[[Float32Array, Seeds], Float32Array]
"""From normalised voxels and seeds (`OBJECT`, `BACKGROUND` or 0), both [S, S, S], to values above 0 in the object."""

WALKER_EDGE, WALKER_RADIUS_MM = 40, 14.0
WALKER_BETA = 2000.0
WALKER_SIGMA = 0.5
WALKER_TOLERANCE = 1e-3

GROWING_EDGE, GROWING_RADIUS_MM = 64, 8.0
GROWING_SIGMA = 1.0
GROWING_COMPACTNESS = 0.01


def random_walk(image: Float32Array, seeds: Seeds) -> Float32Array:
    """Grady 2006: the seed that a walker from each voxel, who shuns intensity steps, probably meets first."""
    smooth = ndimage.gaussian_filter(image, WALKER_SIGMA)
    probability = random_walker(
        smooth, seeds, beta=WALKER_BETA, mode="cg_j", tol=WALKER_TOLERANCE, return_full_prob=True
    )
    return probability[OBJECT - 1] - 0.5


def region_growing(image: Float32Array, seeds: Seeds) -> Float32Array:
    """Adams and Bischof 1994: regions grow from the seeds over the gradient, here with a compactness against leaks."""
    gradient = ndimage.gaussian_gradient_magnitude(image, GROWING_SIGMA)
    labels = watershed(gradient, seeds, compactness=GROWING_COMPACTNESS)
    return np.where(labels == OBJECT, 0.5, -0.5).astype(np.float32)


def classical(grow: Grow, edge: int, radius: float) -> Method:
    """A method from one of the algorithms above.

    Args:
        edge: of the cube in voxels.
        radius: of a click's ball of seeds in mm.
    """

    def start(volume: Volume) -> Predictor:
        def predict(clicks: tuple[Click, ...]) -> BoolArray:
            crop = cube_around(volume, clicks, edge)
            voxels, inside = crop.cut(volume.voxels)
            image = CropStatistics().apply(voxels, inside)
            seeds = seeds_of(volume, crop, clicks, image, radius)
            seeds[(seeds == 0) & (faces(edge) | ~inside)] = BACKGROUND
            box, found = crop.paste_positive(grow(image, seeds), volume.voxels.shape)
            mask = np.zeros(volume.voxels.shape, bool)
            mask[box] = found
            for click in clicks:
                mask[volume.index(click.ras)] = click.include
            return mask

        return predict

    return start


def cube_around(volume: Volume, clicks: tuple[Click, ...], edge: int) -> Crop:
    """The crop of `edge` voxels a side that holds all clicks and their margin."""
    indices = np.array([volume.continuous_index(click.ras) for click in clicks])
    low, high = indices.min(0), indices.max(0)
    millimetres = max(SMALLEST_EDGE_MM, float(((high - low) * volume.spacing).max()) + 2 * MARGIN_MM)
    k, j, i = (low + high) / 2
    return volume.crop_around(volume.ras((k, j, i)), millimetres / edge, (edge,) * 3)


def seeds_of(volume: Volume, crop: Crop, clicks: tuple[Click, ...], image: Float32Array, radius: float) -> Seeds:
    """[S, S, S]: balls of `radius` mm around the clicks; where two overlap, the nearer click counts."""
    smooth = ndimage.gaussian_filter(image, SEED_SIGMA)
    spacing = abs(crop.step[0]) * volume.spacing[crop.axes[0]]
    voxels = np.indices(crop.shape)
    nearest = np.full(crop.shape, (radius / spacing) ** 2)
    seeds = np.zeros(crop.shape, np.uint8)
    for click in clicks:
        centre = np.round(crop.position(volume.continuous_index(click.ras))).astype(int)
        distance = ((voxels - centre[:, None, None, None]) ** 2).sum(0)
        alike = abs(smooth - smooth[tuple(centre)]) <= SEED_CONTRAST
        ball = alike & (distance < nearest)
        seeds[ball] = OBJECT if click.include else BACKGROUND
        nearest[ball] = distance[ball]
    return seeds


def faces(edge: int) -> BoolArray:
    """[S, S, S]: the outermost layer of a cube."""
    outermost = np.ones((edge,) * 3, bool)
    outermost[1:-1, 1:-1, 1:-1] = False
    return outermost


RIVALS: dict[str, Method] = {
    "random walker": classical(random_walk, WALKER_EDGE, WALKER_RADIUS_MM),
    "region growing": classical(region_growing, GROWING_EDGE, GROWING_RADIUS_MM),
}
