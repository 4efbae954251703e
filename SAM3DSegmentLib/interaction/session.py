"""A session: one volume, its tumours, and the clicks that the user makes on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.errors import UserError
from SAM3DSegmentLib.interaction import tumour_table
from SAM3DSegmentLib.interaction.click_editor import ClickEditor
from SAM3DSegmentLib.interaction.display import Display
from SAM3DSegmentLib.interaction.mask_updater import MaskUpdater
from SAM3DSegmentLib.interaction.news import status_after
from SAM3DSegmentLib.interaction.open_tumours import OpenTumours
from SAM3DSegmentLib.interaction.status import Status
from SAM3DSegmentLib.interaction.status_board import StatusBoard
from SAM3DSegmentLib.interaction.tumour import Target, Tumour
from SAM3DSegmentLib.scene.click_nodes import ClickLists, remove_pointed_click
from SAM3DSegmentLib.scene.export import export_segmentation
from SAM3DSegmentLib.scene.placement import is_placing, start_placing, stop_placing
from SAM3DSegmentLib.scene.removal import remove_node
from SAM3DSegmentLib.scene.segments import complete_segmentation, remove_segment


class Session:
    """What a host (Slicer's module, the browser viewer) binds its buttons to.

        session = Session(scene)
        session.use_engine(Engine())
        session.choose_volume(volume_node)
        session.place(include=True)

    The host calls `poll` from a timer, in the thread of the scene, and shows `status`. Nothing here waits for the
    engine, and nodes, segments or the whole scene may go at any time.

    Attributes:
        volume_node: that is clicked on, or None.
        segmentation_node: that holds its tumours; None until the first one is made.
    """

    def __init__(self, scene: slicer.vtkMRMLScene) -> None:
        self.volume_node: slicer.vtkMRMLVolumeNode | None = None
        self.segmentation_node: slicer.vtkMRMLSegmentationNode | None = None
        self.display = Display()
        self._scene = scene
        self._updater = MaskUpdater(scene)
        self._board = StatusBoard()
        self._editor = ClickEditor(self._updater, self._board)
        self._tumours = OpenTumours(scene)
        self._shown: tuple[Any, ...] = ()
        self._placed: bool | None = None  # what `placing` was when it was last looked
        self._made: slicer.vtkMRMLSegmentationNode | None = None

    @property
    def status(self) -> Status:
        """What hosts show beside the picture."""
        return self._board.status

    @property
    def tumour(self) -> Tumour | None:
        """That clicks go to; None where the next click begins one, or there is nothing to click on."""
        return self._tumours.tumour

    @property
    def lists(self) -> ClickLists | None:
        """Where the next click goes: of the present tumour, or of the one that it begins."""
        return self._tumours.lists

    @property
    def has_engine(self) -> bool:
        return self._updater.has_engine

    @property
    def busy(self) -> bool:
        """Whether the engine loads a model, or works on an answer."""
        return self._updater.busy

    @property
    def engine_wanted(self) -> bool:
        """Whether clicks of the present tumour wait for an engine."""
        return bool(self.tumour and self._updater.waits(self.tumour))

    def use_engine(self, engine: Engine | None) -> None:
        """Answer unanswered and further clicks by this engine instead of the one before; without one, they wait."""
        self.say("", device="", progress=None)
        with self._board.telling():
            self._updater.use_engine(engine)

    def choose_volume(self, volume_node: slicer.vtkMRMLVolumeNode | None) -> None:
        """Click on this volume from now on, and go on with the tumours that it has."""
        self._forget_what_is_gone()
        if volume_node is self.volume_node:
            return
        placing = self.placing is not None
        self.tidy()
        self._leave_tumour()
        self.volume_node = volume_node
        self.choose_segmentation(tumour_table.find_segmentation(volume_node) if volume_node else None)
        if placing and volume_node:
            self.place(include=True)

    def choose_segmentation(self, segmentation_node: slicer.vtkMRMLSegmentationNode | None) -> None:
        """Go on with the tumours of a segmentation; with None the next one begins another."""
        self._forget_what_is_gone()
        self._leave_tumour()
        self.segmentation_node = segmentation_node
        if segmentation_node:
            complete_segmentation(segmentation_node, self.volume_node)
        ids = tumour_table.segment_ids(segmentation_node)
        if ids and self.volume_node:
            self.open_tumour(ids[-1])

    def open_tumour(self, segment_id: str) -> None:
        """Clicks go to this segment of the segmentation from now on; its earlier clicks come back."""
        assert self.segmentation_node and self.volume_node
        target = Target(self.segmentation_node, segment_id, self.volume_node)
        if self.tumour and self.tumour.target == target:
            return
        placing = self.placing is not None
        self._leave_tumour()
        self._tumours.open(target)
        self.set_display(self.display)
        if placing:
            self.place(include=True)

    def next_tumour(self) -> None:
        """The next click begins another tumour; an untouched one that is there already will do."""
        if not self.volume_node or self._tumours.waits or (self.tumour and self.tumour.untouched()):
            return
        self._leave_tumour()
        self._tumours.wait(self.volume_node)
        with self._board.telling():
            self._updater.volume(self.volume_node)

    def remove_tumour(self) -> None:
        """Remove the present tumour with its clicks and turn to the last one that is left."""
        placing = self.placing is not None
        if placing:
            self.stop_placing()
        if self.tumour:
            target = self.tumour.target
            self._updater.forget(self.tumour)
            self._tumours.forget(target)
            remove_segment(target.segmentation_node, target.segment_id)
        self.choose_segmentation(self.segmentation_node)
        if placing and self.volume_node:
            self.place(include=True)

    def place(self, include: bool) -> None:
        """From now on a click into a view adds to the present tumour; without one, to a new one."""
        if not self.tumour:
            self.next_tumour()
        if lists := self.lists:
            start_placing(lists.include if include else lists.exclude)
            self._placed = include

    def stop_placing(self) -> None:
        """Give the mouse back to the views."""
        stop_placing(self._scene)
        self._placed = None

    @property
    def placing(self) -> bool | None:
        """Whether a click into a view includes (True) or excludes (False); None: it does neither."""
        lists = self.lists
        if lists and all(node.GetScene() for node in lists):
            for include, node in ((True, lists.include), (False, lists.exclude)):
                if is_placing(node):
                    return include
        return None

    @property
    def clicks(self) -> tuple[Click, ...]:
        """Of the present tumour, in their order."""
        return self.tumour.history.clicks if self.tumour else ()

    def undo(self) -> None:
        """Take the last change of clicks back; without one, what was painted stays."""
        if self.tumour:
            self._editor.undo(self.tumour)

    def redo(self) -> None:
        """Make the last change that was taken back again."""
        if self.tumour:
            self._editor.redo(self.tumour)

    def remove_last(self) -> None:
        """Remove the newest click."""
        if self.tumour:
            self._editor.remove_last(self.tumour)

    def remove_pointed(self) -> None:
        """Remove the click under the mouse, if it is on one."""
        if self.tumour:
            remove_pointed_click(self.tumour.lists)

    def clear(self) -> None:
        """Remove every click of the present tumour, and its mask with them."""
        if self.tumour:
            self._editor.clear(self.tumour)

    def cancel(self) -> bool:
        """Call the running evaluation off, if there is one; clicks and mask stay as they are."""
        cancelled = bool(self.tumour and self._updater.cancel(self.tumour))
        if cancelled:
            self.say("Cancelled: the mask is as it was before the last click.", progress=None)
        return cancelled

    def set_display(self, display: Display) -> None:
        """Show tumours and clicks that way, and further ones too; what was shown by other means stays."""
        self.display = display
        self._updater.changes_shown = display.changes
        if not display.changes:
            self._updater.forget_changes()
        if self.tumour:
            self.tumour.lists.set_visible(display.clicks)
            display.apply_to(self.tumour.target.segmentation_node)

    def export(self, path: Path) -> None:
        """Write every tumour as `.seg.nrrd`, `.nrrd` or `.nii.gz`; `status` tells how it went."""
        if not (self.segmentation_node and self.volume_node):
            self.say("There is no tumour to export: click on one first.", failed=True)
            return
        with self._board.telling():
            export_segmentation(self.segmentation_node, self.volume_node, path)
            self.say(f"Exported to {path}.")

    def tidy(self) -> None:
        """Stop placing, and take a segmentation that we made for nothing out of the scene."""
        if self.placing is not None:
            self.stop_placing()
        if self._tumours.waits:
            self._leave_tumour()
        node = self._made
        if self.tumour and node is self.segmentation_node and self.tumour.is_for_nothing():
            self.remove_tumour()
            if not tumour_table.segment_ids(node):
                self.segmentation_node = self._made = None
                remove_node(node)

    def close(self) -> None:
        """End the engine, and take what only this session needed out of the scene."""
        self._leave_tumour()
        self._updater.close()

    def poll(self) -> bool:
        """Take in what the user did in the views and what the engine answered.

        Returns:
            Whether anything that a host shows has changed since the last call.
        """
        if self._scene.IsBatchProcessing():
            return False
        self._forget_what_is_gone()
        if self._tumours.began:
            self._begin_tumour()
        if self.tumour:
            if self.tumour.restore_lists() and self._placed is not None:
                self.place(self._placed)
            self._editor.take_in(self.tumour)
        for news in self._updater.poll():
            self._board.status = status_after(self.status, news, self.tumour)
        if self.tumour:
            self._board.update(progress=self._updater.progress(self.tumour))
        before, self._placed = self._shown, self.placing
        self._shown = self.status, self.clicks, self.tumour, self.volume_node, self._placed
        return before != self._shown

    def _forget_what_is_gone(self) -> None:
        lost = self._tumours.forget_what_is_gone()
        if lost:
            self._leave_tumour()
        if self.volume_node and not self.volume_node.GetScene():
            self.volume_node = self.segmentation_node = None
        if self.segmentation_node and not self.segmentation_node.GetScene():
            self.segmentation_node = None
        if lost and self._placed is not None:
            # Slicer goes on placing, into a list that no tumour has.
            self.stop_placing()
            if self.volume_node and not self._scene.IsBatchProcessing():
                self.place(include=True)

    def _begin_tumour(self) -> None:
        """Make the segment that the first click asks for."""
        assert self.volume_node
        try:
            self._tumours.check_first_click(self._updater.volume(self.volume_node))
        except UserError as error:
            self._tumours.refuse_first_click()
            self.say(str(error), failed=True)
            return
        if not self.segmentation_node:
            self.segmentation_node = self._made = tumour_table.make_segmentation(self.volume_node)
        target = Target(self.segmentation_node, tumour_table.add_tumour(self.segmentation_node), self.volume_node)
        self._tumours.begin(target)
        self.set_display(self.display)

    def _leave_tumour(self) -> None:
        """What is being evaluated for it goes on, and is written all the same."""
        self._tumours.leave()
        self._updater.forget_changes()
        self.say("", measurement=None, seconds=None, progress=None)

    def say(self, message: str, failed: bool = False, **figures: object) -> None:
        """Replace the sentence that the user reads, and the figures that are given."""
        self._board.say(message, failed, **figures)
