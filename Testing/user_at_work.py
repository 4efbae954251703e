"""A user who does anything, in any order, to tumours that lie over somebody else's segments: a state machine."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from vtkmodules.vtkCommonCore import reference

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.interaction.session import Session
from SAM3DSegmentLib.network.interface import CropClick
from SAM3DSegmentLib.scene.application import boot_scene
from SAM3DSegmentLib.scene.click_nodes import open_click_lists, read_clicks
from SAM3DSegmentLib.scene.provenance import CLICKS, OPTIONAL_TEXTS, TAG_PREFIX, TEXTS, read_provenance
from SAM3DSegmentLib.scene.segment_writer import SegmentWriter
from SAM3DSegmentLib.scene.segmentation_file import load_segmentation
from SAM3DSegmentLib.scene.segments import create_segmentation, read_mask
from SAM3DSegmentLib.scene.volumes import add_volume, volume_from_node
from SAM3DSegmentLib.segmenter import Segmenter
from Testing.interaction.helpers import SHAPE, FakeEngine, balls, settle
from Testing.light_engine import LightNetwork
from Testing.test_scene_clicks import place

AFFINE = np.diag([-1.0, -1.0, 1.5, 1.0])
NEIGHBOURS = {
    "organ": (slice(8, 20), slice(10, 30), slice(25, 50)),
    "vessel": (slice(0, 30), slice(40, 44), slice(5, 9)),
}
"""Segments of somebody else, the first over a part of both balls."""

TAGS = tuple(TAG_PREFIX + name for name in (CLICKS, *TEXTS, *OPTIONAL_TEXTS))
BALL_VOXELS = st.sampled_from([tuple(map(int, index)) for index in np.argwhere(balls())[::97]])
ANY_VOXELS = st.tuples(*(st.integers(0, n - 1) for n in SHAPE))


class LightEngine(FakeEngine):
    """Its answers depend on the crop, on every click and on the answer before; they wait while the gate is closed."""

    def decode(self, crop, clicks, previous, cancelled=None, progress=None):
        super().decode(crop, clicks, previous, cancelled, progress or (lambda fraction: None))
        placed = [CropClick(position, include) for position, include in clicks]
        logits = LightNetwork("", step_seconds=0).decode(crop, placed, previous, lambda fraction: None)
        return logits.astype(np.float16).astype(np.float32)


@dataclass(frozen=True)
class Kept:
    """All that a scene holds of one segment."""

    clicks: tuple[Click, ...]
    mask: bytes
    tags: tuple[str | None, ...]


UNTOUCHED = Kept((), np.zeros(SHAPE, bool).tobytes(), (None,) * len(TAGS))


def kept(segmentation_node, segment_id, volume_node) -> Kept:
    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    value = reference("")
    tags = tuple(str(value) if segment.GetTag(tag, value) else None for tag in TAGS)
    clicks = ()
    if segmentation_node.GetNodeReferenceID(f"SAM3DSegment.include.{segment_id}"):
        clicks = read_clicks(open_click_lists(segmentation_node, segment_id, volume_node), volume_node)
    return Kept(clicks, whole_mask(segmentation_node, segment_id, volume_node).tobytes(), tags)


def whole_mask(segmentation_node, segment_id, volume_node) -> np.ndarray:
    whole = np.zeros(SHAPE, bool)
    box, found = read_mask(segmentation_node, segment_id, volume_node)
    whole[box] = found
    return whole


def assert_records_explain_masks(segmentation_node, volume_node, segmenter) -> None:
    """Each segment with a record is what its clicks lead to; a tumour without one is empty."""
    for segment_id in segmentation_node.GetSegmentation().GetSegmentIDs():
        record = read_provenance(segmentation_node, segment_id)
        mask = whole_mask(segmentation_node, segment_id, volume_node)
        if record:
            assert np.array_equal(segmenter.segment(record.clicks).mask_on(SHAPE), mask)
        elif segment_id not in NEIGHBOURS:
            assert not mask.any()


def neighbours(volume_node):
    """A segmentation with two segments of somebody else in one shared labelmap."""
    node = create_segmentation(volume_node, "shared")
    writer = SegmentWriter(volume_node.GetScene())
    for name, box in NEIGHBOURS.items():
        node.GetSegmentation().AddEmptySegment(name, name)
        shape = tuple(side.stop - side.start for side in box)
        writer.write_mask(node, name, volume_node, box, np.ones(shape, bool))
    writer.close()
    node.GetSegmentation().CollapseBinaryLabelmaps(False)
    return node


class UserAtWork(RuleBasedStateMachine):
    """A session beside segments of somebody else; `_past` and `_future` hold what undo and redo must bring back.

    Attributes:
        oracle: another segmenter, which says what a list of clicks leads to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scene = boot_scene()
        self.scene.Clear(0)
        self._volume = add_volume(self.scene, Volume(balls(), AFFINE), "CT")
        self._node = neighbours(self._volume)
        self.engine = LightEngine()
        self.session = Session(self.scene)
        self.session.use_engine(self.engine)
        self.session.choose_volume(self._volume)
        self.session.choose_segmentation(self._node)
        self.session.next_tumour()
        self.oracle = Segmenter(volume_from_node(self._volume), LightEngine())
        self._past: dict[str, list[Kept]] = {}
        self._future: dict[str, list[Kept]] = {}
        self.folder = tempfile.TemporaryDirectory()

    def teardown(self) -> None:
        self.engine.gate.set()
        self.session.close()
        self.scene.Clear(0)
        self.folder.cleanup()

    @property
    def _present(self) -> str | None:
        tumour = self.session.tumour
        return tumour.target.segment_id if tumour else None

    def _segments(self) -> dict[str, Kept]:
        ids = self._node.GetSegmentation().GetSegmentIDs()
        return {segment_id: kept(self._node, segment_id, self._volume) for segment_id in ids}

    def change(self, act) -> None:
        """Do something to the clicks of the present tumour, and remember how the tumour was before."""
        before, worked_on = self._segments(), self._present
        act()
        self.engine.gate.set()
        settle(self.session)
        after = self._segments()
        changed = worked_on or next((known for known in after if known not in before), None)
        assert {k: v for k, v in after.items() if k != changed} == {k: v for k, v in before.items() if k != changed}
        old = before.get(changed, UNTOUCHED)
        if changed and after[changed].clicks != old.clicks:
            self._past.setdefault(changed, []).append(old)
            self._future[changed] = []
        else:
            assert not changed or after[changed] == old

    def click(self, voxel, include) -> None:
        self.session.place(include)
        lists = self.session.lists
        k, j, i = voxel
        place(lists.include if include else lists.exclude, tuple((AFFINE @ [i, j, k, 1])[:3]))
        self.session.poll()

    def _tumours(self) -> list[str]:
        return [known for known in self._node.GetSegmentation().GetSegmentIDs() if known not in NEIGHBOURS]

    @initialize(
        overwrite=st.integers(0, 2),
        mask=st.integers(0, 6),
        segment=st.sampled_from(list(NEIGHBOURS)),
        by_intensity=st.booleans(),
    )
    def set_up_segment_editor(self, overwrite, mask, segment, by_intensity) -> None:
        editor = slicer.vtkMRMLSegmentEditorNode()
        editor.SetSingletonTag("SegmentEditor")
        editor = self.scene.AddNode(editor)
        editor.SetAndObserveSegmentationNode(self._node)
        editor.SetAndObserveSourceVolumeNode(self._volume)
        editor.SetOverwriteMode(overwrite)
        editor.SetMaskMode(mask)
        editor.SetMaskSegmentID(segment)
        editor.SetSourceVolumeIntensityMask(by_intensity)
        editor.SetSourceVolumeIntensityMaskRange(0.6, 2.0)

    @rule(voxel=BALL_VOXELS)
    def include(self, voxel) -> None:
        self.change(lambda: self.click(voxel, True))

    @rule(voxel=ANY_VOXELS)
    def exclude(self, voxel) -> None:
        self.change(lambda: self.click(voxel, False))

    @rule()
    def click_outside(self) -> None:
        self.change(lambda: self.click((500, 0, 0), True))

    @rule(number=st.integers(0, 9), include=st.booleans())
    def delete_a_click(self, number, include) -> None:
        if self._present:
            points = self.session.lists.include if include else self.session.lists.exclude
            if number < points.GetNumberOfControlPoints():
                self.change(lambda: points.RemoveNthControlPoint(number))

    @rule()
    def clear(self) -> None:
        self.change(self.session.clear)

    @rule(voxel=BALL_VOXELS)
    def click_and_leave_before_the_answer(self, voxel) -> None:
        def act() -> None:
            self.engine.gate.clear()
            self.click(voxel, True)
            self.session.next_tumour()

        self.change(act)

    @rule(voxel=BALL_VOXELS)
    def cancel_a_click_and_undo_it(self, voxel) -> None:
        self.change(lambda: self.click(voxel, True))
        present = self._present
        answered = kept(self._node, present, self._volume)
        self.engine.gate.clear()
        self.session.undo()
        self.session.redo()
        self.session.cancel()
        self.engine.gate.set()
        self.session.undo()
        settle(self.session)
        assert kept(self._node, present, self._volume) == self._past[present].pop()
        self._future[present] = [answered]

    @rule()
    def undo(self) -> None:
        self._step(self.session.undo, self._past, self._future)

    @rule()
    def redo(self) -> None:
        self._step(self.session.redo, self._future, self._past)

    def _step(self, act, source, other) -> None:
        before, present = self._segments(), self._present
        act()
        settle(self.session)
        expected = dict(before)
        if source.get(present):
            other.setdefault(present, []).append(before[present])
            expected[present] = source[present].pop()
        assert self._segments() == expected

    @rule()
    def next_tumour(self) -> None:
        self.change(self.session.next_tumour)

    @rule(number=st.integers(0, 9))
    def switch_tumour(self, number) -> None:
        before = self._segments()
        if number < len(self._tumours()):
            self.session.open_tumour(self._tumours()[number])
        settle(self.session)
        assert self._segments() == before

    @precondition(lambda self: self._present)
    @rule()
    def remove_tumour(self) -> None:
        before, present = self._segments(), self._present
        self.session.remove_tumour()
        if self._present in NEIGHBOURS:
            self.session.next_tumour()
        settle(self.session)
        del before[present]
        self._past.pop(present, None)
        self._future.pop(present, None)
        assert self._segments() == before

    @rule()
    def share_labelmaps(self) -> None:
        """As Slicer does when it writes and reads a segmentation."""
        before = self._segments()
        self._node.GetSegmentation().CollapseBinaryLabelmaps(False)
        assert self._segments() == before

    @rule(voxel=BALL_VOXELS, include=st.booleans())
    def save_before_the_answer(self, voxel, include) -> None:
        def act() -> None:
            self.engine.gate.clear()
            self.click(voxel, include)
            self.session.export(path)

        path = Path(self.folder.name) / "saved.seg.nrrd"
        self.change(act)
        saved = load_segmentation(self.scene, path)
        assert_records_explain_masks(saved, self._volume, self.oracle)
        self.scene.RemoveNode(saved)

    @invariant()
    def clicks_and_records_explain_the_masks(self) -> None:
        assert_records_explain_masks(self._node, self._volume, self.oracle)
        for segment_id in self._tumours():
            clicks = kept(self._node, segment_id, self._volume).clicks
            record = read_provenance(self._node, segment_id)
            asked = clicks if any(click.include for click in clicks) else ()
            assert (record.clicks if record else ()) == asked
