"""The wait for a tumour's first click: lists of clicks in the scene that belong to no segment yet."""

from __future__ import annotations

import slicer

from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.scene.click_nodes import ClickLists, make_waiting_lists, read_clicks, write_clicks
from SAM3DSegmentLib.scene.click_observer import ClickObserver
from SAM3DSegmentLib.scene.removal import remove_node


class FirstClick:
    """Lists to place the first click into: hidden from lists of nodes and not saved until a segment takes them.

    Attributes:
        lists: in the scene from now on.
        is_there: whether a click was placed.
    """

    def __init__(self, volume_node: slicer.vtkMRMLVolumeNode) -> None:
        self.lists = make_waiting_lists(volume_node)
        self.is_there = False
        self._volume_node = volume_node
        self._observer: ClickObserver | None = ClickObserver(self.lists, self._note)

    def _note(self) -> None:
        self.is_there = bool(read_clicks(self.lists, self._volume_node))

    @property
    def in_scene(self) -> bool:
        """Whether lists and volume still are."""
        return all(node.GetScene() for node in (*self.lists, self._volume_node))

    def check(self, volume: Volume) -> None:
        """
        Raises:
            ClickOutsideError: the click lies outside the volume.
        """
        for click in read_clicks(self.lists, self._volume_node):
            volume.index(click.ras)

    def refuse(self) -> None:
        """Remove the click and wait for another."""
        assert self._observer
        with self._observer.muted():
            write_clicks(self.lists, self._volume_node, ())
        self.is_there = False

    def hand_over(self) -> ClickLists:
        """The lists with the click, for the segment that they belong to from now on."""
        self._stop_listening()
        return self.lists

    def discard(self) -> None:
        """Take the lists out of the scene; those that are gone already stay so."""
        self._stop_listening()
        for node in self.lists:
            remove_node(node)

    def _stop_listening(self) -> None:
        """Observer and callback refer to each other, and to the volume: let go of it at once, not at some time."""
        if self._observer:
            self._observer.remove()
        self._observer = None
