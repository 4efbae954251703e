"""The phantom among Slicer's sample data: computed here, nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer

NAME = "SAM3DSegment phantom"
THUMBNAIL = Path(__file__).resolve().parents[1] / "Resources" / "Icons" / "SAM3DSegment.png"


def register_sample_data() -> None:
    """Offer the phantom in the Sample Data module."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="SAM3DSegment",
        sampleName=NAME,
        uris="",
        fileNames="",
        nodeNames=NAME,
        thumbnailFileName=str(THUMBNAIL),
        customDownloader=make_sample,
    )


def make_sample(_source: Any = None) -> list[slicer.vtkMRMLScalarVolumeNode]:
    """The phantom as a new volume, shown in the slice views."""
    from SAM3DSegmentLib.phantom import make_phantom
    from SAM3DSegmentLib.scene.volumes import add_volume

    node = add_volume(slicer.mrmlScene, make_phantom().volume, NAME)
    slicer.util.setSliceViewerLayers(background=node, fit=True)
    return [node]
