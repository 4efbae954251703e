"""A tumour that the user works on: a segment, its clicks in the scene, and the history of these clicks."""

from __future__ import annotations

from dataclasses import dataclass
from math import dist

import slicer

from SAM3DSegmentLib.clicks import Click, ClickHistory
from SAM3DSegmentLib.geometry import BoolArray, Box, Volume
from SAM3DSegmentLib.interaction.hand_edits import start_from_mask
from SAM3DSegmentLib.scene.click_nodes import (
    ClickLists,
    adopt_waiting_lists,
    open_click_lists,
    read_clicks,
    write_clicks,
)
from SAM3DSegmentLib.scene.click_observer import ClickObserver
from SAM3DSegmentLib.scene.mask_observer import MaskObserver
from SAM3DSegmentLib.scene.provenance import mask_digest, read_provenance
from SAM3DSegmentLib.scene.segments import read_mask
from SAM3DSegmentLib.start import Start

FILE_ROUNDING_MM = 1e-3
"""Clicks from a scene file and from a record are the same within this."""


@dataclass(frozen=True)
class Target:
    """A segment, and the volume that it lies on."""

    segmentation_node: slicer.vtkMRMLSegmentationNode
    segment_id: str
    volume_node: slicer.vtkMRMLVolumeNode

    @property
    def segment(self) -> slicer.vtkSegment | None:
        return self.segmentation_node.GetSegmentation().GetSegment(self.segment_id)

    def exists(self) -> bool:
        """Whether all of it is still in a scene."""
        return bool(self.segmentation_node.GetScene() and self.volume_node.GetScene() and self.segment)

    def mask(self) -> tuple[Box, BoolArray]:
        """Voxels (K, J, I) of the volume around the segment, and the mask [k, j, i] within."""
        return read_mask(self.segmentation_node, self.segment_id, self.volume_node)


class Tumour:
    """A segment that clicks go to while it is open.

    The observer only notes that the user changed clicks; `take_in` acts on it later, outside the view's own event.

    Attributes:
        changed: whether the clicks in the scene wait for `take_in`.
        unmeasured: whether it was opened, or may have been changed by none of our answers, since this was last set to
            False.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.history = ClickHistory()
        self.changed = False
        self._starts: list[Start] = []
        record = read_provenance(target.segmentation_node, target.segment_id)
        self._digest = record.mask_sha256 if record else ""
        self._observer: ClickObserver | None = None
        self._mask_observer: MaskObserver | None = None
        self.open()
        self.history = ClickHistory(self.history.clicks)
        self.changed = self._awaits_answer()

    @classmethod
    def begun(cls, target: Target, lists: ClickLists) -> Tumour:
        """A new segment's tumour, which goes on with lists that waited for its first click."""
        adopt_waiting_lists(lists, target.segmentation_node, target.segment_id)
        tumour = cls(target)
        tumour.history = ClickHistory()
        tumour.changed = True
        return tumour

    def open(self) -> None:
        """Find the lists of clicks in the scene, make those that are missing, and listen to them."""
        self.close()
        target = self.target
        self.lists = open_click_lists(target.segmentation_node, target.segment_id, target.volume_node)
        self.lists.set_locked(False)
        self._observer = ClickObserver(self.lists, self._note_change)
        self._mask_observer = MaskObserver(target.segmentation_node, self._note_segment)
        self.unmeasured = True
        self.history.change(read_clicks(self.lists, target.volume_node))

    def close(self) -> None:
        """Stop listening; the clicks stay in the scene, hidden and locked."""
        if self._observer:
            self._observer.remove()
            for node in self.lists:
                if node.GetScene():
                    node.SetLocked(True)
                    node.GetDisplayNode().SetVisibility(False)
        if self._mask_observer:
            self._mask_observer.remove()
        self._observer = self._mask_observer = None

    def _note_change(self) -> None:
        self.changed = True

    def _note_segment(self) -> None:
        self.unmeasured = True

    def take_in(self, volume: Volume) -> None:
        """Make the clicks in the scene the newest state of the history; what was painted by hand is the start of it.

        Raises:
            ClickOutsideError: a click lies outside the volume.
            TooManyPartsError: what was painted has too many parts to go on from.
                After both the clicks in the scene are as they were before.
        """
        self.changed = False
        before, now = self.history.clicks, read_clicks(self.lists, self.target.volume_node)
        try:
            for click in now:
                volume.index(click.ras)
            if now != before and self.is_painted():
                now = self._start_from_painted(volume, before, now)
            self.history.change(now)
        finally:
            self.show_clicks()

    def is_painted(self) -> bool:
        """Whether the segment's mask is no answer of ours: painted by hand since, or loaded."""
        box, mask = self.target.mask()
        return bool(mask.size) and mask_digest(box, mask) != self._digest

    def keep_painted(self, volume: Volume) -> None:
        """Make what was painted by hand a state of the history, which undo and redo come back to.

        Raises:
            TooManyPartsError: it has too many parts.
        """
        if self.is_painted():
            self._start_from_painted(volume, self.history.clicks, self.history.clicks)

    def _start_from_painted(
        self, volume: Volume, before: tuple[Click, ...], now: tuple[Click, ...]
    ) -> tuple[Click, ...]:
        """The clicks to evaluate, `now` with those that name what was painted after `before`."""
        box, mask = self.target.mask()
        start, now = start_from_mask(volume, box, mask.copy(), before, now)
        self._starts = [*(known for known in self._starts if known.clicks != start.clicks), start]
        self._digest = mask_digest(box, mask)
        if before:
            self.history.change(start.clicks)
        else:
            self.history.restate(start.clicks)
        return now

    def show_clicks(self) -> None:
        """Put the history's clicks into the scene."""
        assert self._observer
        with self._observer.muted():
            write_clicks(self.lists, self.target.volume_node, self.history.clicks)

    def _awaits_answer(self) -> bool:
        """Whether the scene was saved between a change of clicks and the answer to it; work by hand is not answered."""
        if self.is_painted():
            return False
        record = read_provenance(self.target.segmentation_node, self.target.segment_id)
        clicks, answered = self.history.clicks, record.clicks if record else ()
        if not any(click.include for click in clicks):
            return bool(answered)
        return len(clicks) != len(answered) or any(
            click.include != other.include or dist(click.ras, other.ras) > FILE_ROUNDING_MM
            for click, other in zip(clicks, answered, strict=True)
        )

    def restore_lists(self) -> bool:
        """Make lists that were deleted from the scene again; the clicks in them are gone. Whether there were any."""
        if all(node.GetScene() for node in self.lists):
            return False
        before = self.history.clicks
        self.open()
        self.changed = self.history.clicks != before
        return True

    def start_of(self, clicks: tuple[Click, ...]) -> Start | None:
        """The mask that a list of clicks goes on from: of several, the one that answers most of them."""
        beginnings = [start for start in self._starts if clicks[: len(start.clicks)] == start.clicks]
        return max(beginnings, key=lambda start: len(start.clicks), default=None)

    def written(self) -> str:
        """Remember that the segment's mask is an answer of ours, not painted by hand; the mask's digest."""
        self._digest = mask_digest(*self.target.mask())
        return self._digest

    def untouched(self) -> bool:
        """Whether there is neither click nor voxel."""
        return not self.history.clicks and not self.target.mask()[1].size

    def is_for_nothing(self) -> bool:
        """Whether nothing is lost with it: neither is there anything, nor can undo or redo bring anything back."""
        return self.untouched() and not self.history.can_undo and not self.history.can_redo
