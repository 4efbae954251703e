"""Changes of the masks of a segmentation, whoever makes them: clicks, Segment Editor, its undo."""

from __future__ import annotations

from collections.abc import Callable

import slicer


class MaskObserver:
    """Calls back after a segment of a segmentation changed: its voxels, or its name, colour or tags.

    Segment Editor's undo tells of no more than a changed segment.

    observer = MaskObserver(segmentation_node, note_change)
    observer.remove()
    """

    def __init__(self, segmentation_node: slicer.vtkMRMLSegmentationNode, changed: Callable[[], None]) -> None:
        self._node = segmentation_node
        events = slicer.vtkSegmentation.SourceRepresentationModified, slicer.vtkSegmentation.SegmentModified
        self._tags = [segmentation_node.AddObserver(event, lambda _caller, _event: changed()) for event in events]

    def remove(self) -> None:
        """Detach from the segmentation; a second call does nothing."""
        for tag in self._tags:
            self._node.RemoveObserver(tag)
        self._tags = []
