"""The tumours that a session has opened: which of them clicks go to, and the one that waits for its first click."""

from __future__ import annotations

import slicer

from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.interaction.first_click import FirstClick
from SAM3DSegmentLib.interaction.tumour import Target, Tumour
from SAM3DSegmentLib.scene.click_nodes import ClickLists, remove_orphaned_click_lists


class OpenTumours:
    """At most one of `tumour` and a waiting first click is there.

    Attributes:
        tumour: that clicks go to, or None.
    """

    def __init__(self, scene: slicer.vtkMRMLScene) -> None:
        self.tumour: Tumour | None = None
        self._scene = scene
        self._known: dict[Target, Tumour] = {}
        self._first_click: FirstClick | None = None

    @property
    def lists(self) -> ClickLists | None:
        """Where the next click goes: of the present tumour, or of the one that it begins."""
        owner = self.tumour or self._first_click
        return owner.lists if owner else None

    @property
    def waits(self) -> bool:
        """Whether the next click begins a tumour."""
        return self._first_click is not None

    @property
    def began(self) -> bool:
        """Whether that click is there."""
        return self._first_click is not None and self._first_click.is_there

    def open(self, target: Target) -> None:
        """Turn to a segment; the history of its clicks, if it was open before, goes on."""
        self.leave()
        if target in self._known:
            self._known[target].open()
        else:
            self._known[target] = Tumour(target)
        self.tumour = self._known[target]

    def wait(self, volume_node: slicer.vtkMRMLVolumeNode) -> None:
        """Turn to a tumour that has no segment before its first click."""
        self.leave()
        self._first_click = FirstClick(volume_node)

    def check_first_click(self, volume: Volume) -> None:
        """
        Raises:
            ClickOutsideError: the click that begins a tumour lies outside the volume.
        """
        assert self._first_click
        self._first_click.check(volume)

    def refuse_first_click(self) -> None:
        """Remove it and wait for the next."""
        assert self._first_click
        self._first_click.refuse()

    def begin(self, target: Target) -> None:
        """Turn the first click into a tumour of a new segment."""
        assert self._first_click
        lists = self._first_click.hand_over()
        self._first_click = None
        self.tumour = self._known[target] = Tumour.begun(target, lists)

    def leave(self) -> None:
        """Turn away from the present tumour, or stop waiting for the next one's first click."""
        if self.tumour:
            self.tumour.close()
        if self._first_click:
            self._first_click.discard()
        self.tumour = self._first_click = None

    def forget(self, target: Target) -> None:
        """Turn away from a tumour for good."""
        if self._known.pop(target) is self.tumour:
            self.leave()

    def forget_what_is_gone(self) -> bool:
        """Forget what the scene has no more; whether clicks lost their place by that."""
        before = self.lists
        for target in [known for known in self._known if not known.exists()]:
            self.forget(target)
            remove_orphaned_click_lists(self._scene)
        if self._first_click and not self._first_click.in_scene:
            self.leave()
        return self.lists is not before
