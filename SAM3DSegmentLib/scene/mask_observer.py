"""Changes of the masks of a segmentation, whoever makes them: clicks, Segment Editor, its undo."""

from __future__ import annotations

from collections.abc import Callable

import slicer


class MaskObserver:
    """Calls back after voxels of any segment of a segmentation changed.

    observer = MaskObserver(segmentation_node, note_change)
    observer.remove()
    """

    def __init__(self, segmentation_node: slicer.vtkMRMLSegmentationNode, changed: Callable[[], None]) -> None:
        self._node = segmentation_node
        self._tag: int | None = segmentation_node.AddObserver(
            slicer.vtkSegmentation.SourceRepresentationModified, lambda _caller, _event: changed()
        )

    def remove(self) -> None:
        """Detach from the segmentation; a second call does nothing."""
        if self._tag is not None:
            self._node.RemoveObserver(self._tag)
        self._tag = None
