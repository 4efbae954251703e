"""Overlap of two masks: Dice, and normalised surface Dice (NSD) at tolerances in mm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from surface_distance import compute_surface_dice_at_tolerance, compute_surface_distances

from SAM3DSegmentLib.geometry import BoolArray, Box, Point, trim


def dice(reference: BoolArray, prediction: BoolArray) -> float:
    """Twice the shared voxels over all voxels of two masks of one shape; 1 where both are empty."""
    total = np.count_nonzero(reference) + np.count_nonzero(prediction)
    return float(2 * np.count_nonzero(reference & prediction) / total) if total else 1.0


def surface_dice(
    reference: BoolArray, prediction: BoolArray, spacing: Point, tolerances: Sequence[float]
) -> tuple[float, ...]:
    """The share of both surfaces that lies within each tolerance of the other one (Nikolov et al. 2021).

    Args:
        reference, prediction: [K, J, I].
        spacing: voxel size in mm along K, J, I.
        tolerances: in mm.

    Returns:
        One NSD for each tolerance; 0 where one mask is empty, 1 where both are.
    """
    if not reference.any() or not prediction.any():
        return (float(reference.any() == prediction.any()),) * len(tolerances)
    box, _ = boxed(reference | prediction)
    distances = compute_surface_distances(reference[box], prediction[box], spacing)
    return tuple(float(compute_surface_dice_at_tolerance(distances, tolerance)) for tolerance in tolerances)


def boxed(mask: BoolArray) -> tuple[Box, BoolArray]:
    """The smallest box of voxels around a mask [K, J, I], and the mask in it."""
    k, j, i = mask.shape
    return trim((slice(0, k), slice(0, j), slice(0, i)), mask)
