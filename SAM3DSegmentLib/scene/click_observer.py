"""What the user does to the clicks of a segment in the views, as one call per finished change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from slicer import vtkMRMLMarkupsNode

from SAM3DSegmentLib.scene.click_nodes import ClickLists, ordered_points

EVENTS = (
    vtkMRMLMarkupsNode.PointPositionDefinedEvent,
    vtkMRMLMarkupsNode.PointEndInteractionEvent,
    vtkMRMLMarkupsNode.PointPositionUndefinedEvent,
    vtkMRMLMarkupsNode.PointRemovedEvent,
)


class ClickObserver:
    """Calls back after a click was placed, dragged to its end, or removed.

    The preview under the cursor is no click: whatever happens to it, nobody is called. Changes that a program makes
    go unheard within `muted`:

        observer = ClickObserver(lists, update_mask)
        with observer.muted():
            write_clicks(lists, volume_node, history.clicks)
        observer.remove()
    """

    def __init__(self, lists: ClickLists, changed: Callable[[], None]) -> None:
        self._lists = lists
        self._changed = changed
        self._muted = False
        self._seen = ordered_points(lists)
        self._observations = [(node, node.AddObserver(event, self._on_event)) for node in lists for event in EVENTS]

    @contextmanager
    def muted(self) -> Iterator[None]:
        """Take changes in this block as known."""
        self._muted = True
        try:
            yield
        finally:
            self._seen = ordered_points(self._lists)
            self._muted = False

    def remove(self) -> None:
        """Detach from the lists; a second call does nothing."""
        for node, tag in self._observations:
            node.RemoveObserver(tag)
        self._observations = []

    def _on_event(self, _caller: object, _event: str) -> None:
        if self._muted:
            return
        points = ordered_points(self._lists)
        if points != self._seen:
            self._seen = points
            self._changed()
