"""Window and level: the usual presets for CT, and the one that is taken from the voxels, for MR."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer

from SAM3DSegmentLib.geometry import Volume

AIR_HU = -500.0
"""A scan with voxels darker than this is taken for a CT: MR knows no negative values of that size."""

SAMPLES = 200_000
PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class Window:
    """What is drawn from black to white.

    Attributes:
        width, level: in the scan's units (HU for CT).
    """

    name: str
    width: float
    level: float


CT_WINDOWS = (
    Window("Abdomen", 400, 40),
    Window("Liver", 160, 90),
    Window("Lung", 1500, -600),
    Window("Mediastinum", 350, 50),
    Window("Bone", 1800, 400),
    Window("Brain", 80, 40),
)

AUTOMATIC = "Automatic"


def windows_for(volume: Volume) -> tuple[Window, ...]:
    """The windows that suit a scan, the one to begin with first: the presets and "Automatic" for CT, else only that."""
    voxels = volume.voxels.reshape(-1)
    samples = voxels[:: max(1, voxels.size // SAMPLES)]
    low, high = (float(value) for value in np.percentile(samples, PERCENTILES))
    automatic = Window(AUTOMATIC, max(high - low, 1e-3), (low + high) / 2)
    return (*CT_WINDOWS, automatic) if samples.min() < AIR_HU else (automatic,)


def apply_window(volume_node: slicer.vtkMRMLScalarVolumeNode, window: Window) -> None:
    """Draw the volume with this window from now on."""
    display = volume_node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevel(window.width, window.level)
