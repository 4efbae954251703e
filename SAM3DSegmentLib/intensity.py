"""Intensity normalisation of a crop: from the scanner's units to the numbers that a network was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

PERCENTILES = (0.5, 99.5)
SMALLEST_DEVIATION = 1e-6


@dataclass(frozen=True)
class FixedWindow:
    """Clip to [low, high], subtract the mean, divide by the standard deviation; all in the scan's units (HU for CT)."""

    low: float
    high: float
    mean: float
    std: float

    def apply(self, voxels: Float32Array, inside: BoolArray) -> Float32Array:
        """Normalised voxels [D, H, W], 0 where `inside` is False."""
        normalised = (np.clip(voxels, self.low, self.high) - self.mean) / self.std
        return np.where(inside, normalised, 0).astype(np.float32)


@dataclass(frozen=True)
class CropStatistics:
    """Clip to the crop's own percentiles (0.5 and 99.5), then to zero mean and unit deviation: any CT, any MR."""

    def apply(self, voxels: Float32Array, inside: BoolArray) -> Float32Array:
        """Normalised voxels [D, H, W], 0 where `inside` is False and in a crop of one value."""
        values = voxels[inside]
        if not values.size:
            return np.zeros_like(voxels, np.float32)
        low, high = np.percentile(values, PERCENTILES)
        values = np.clip(values, low, high)
        mean, std = values.mean(), max(float(values.std()), SMALLEST_DEVIATION)
        return np.where(inside, (np.clip(voxels, low, high) - mean) / std, 0).astype(np.float32)
