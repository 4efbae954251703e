"""Two bright balls as a scan, an engine that finds what is bright, and what a user does in a session."""

from __future__ import annotations

import threading
import time

import numpy as np
import slicer.util
from vtkmodules.vtkCommonMath import vtkMatrix4x4

from SAM3DSegmentLib.errors import CancelledError
from SAM3DSegmentLib.scene.segment_writer import SegmentWriter
from SAM3DSegmentLib.scene.segments import read_mask
from Testing.doubles import BrightnessDecoder
from Testing.test_scene_clicks import place

SHAPE = (30, 60, 60)
BALLS = {"left": ((15, 20, 20), 7), "right": ((15, 42, 42), 6)}
"""Index (k, j, i) and radius in voxels."""


class FakeEngine(BrightnessDecoder):
    """Bright voxels are the object; answers wait while the gate is closed."""

    device = "cpu"

    def __init__(self, command: tuple[str, ...] = ("fake",), choice: tuple[str, str] = ("fake", "cpu")):
        super().__init__(spacings=(1.0, 2.0), crop_size=32)
        self.command = command
        self.choice = choice
        self.gate = threading.Event()
        self.gate.set()
        self.failure: Exception | None = None
        self.threads: set[str] = set()
        self.started = self.closed = 0
        self.given_up = False

    def start(self):
        self.started += 1

    def give_up(self):
        self.given_up = True

    def close(self):
        self.closed += 1

    def load(self, model, device):
        if self.failure:
            raise self.failure
        self.choice = model, device

    def decode(self, crop, clicks, previous, cancelled=None, progress=None):
        self.threads.add(threading.current_thread().name)
        progress(0.5)
        while not self.gate.wait(0.01):
            if cancelled.is_set():
                raise CancelledError
        if self.failure:
            raise self.failure
        return super().decode(crop, clicks, previous, cancelled, progress)


def balls() -> np.ndarray:
    index = np.indices(SHAPE)
    voxels = np.zeros(SHAPE, np.float32)
    for centre, radius in BALLS.values():
        voxels[sum((axis - c) ** 2 for axis, c in zip(index, centre, strict=True)) < radius**2] = 1
    return voxels


def world(session, name: str, offset=(0, 0, 0)):
    """World RAS of a ball's middle, `offset` voxels (k, j, i) on."""
    k, j, i = np.add(BALLS[name][0], offset)
    matrix = slicer.util.arrayFromVTKMatrix(ijk_to_world(session.volume_node))
    return tuple((matrix @ [i, j, k, 1])[:3])


def ijk_to_world(node):
    matrix, parent = vtkMatrix4x4(), vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    if node.GetParentTransformNode():
        node.GetParentTransformNode().GetMatrixTransformToWorld(parent)
    vtkMatrix4x4.Multiply4x4(parent, matrix, matrix)
    return matrix


def click(session, name: str, include=True, offset=(0, 0, 0)):
    lists = session.lists
    place(lists.include if include else lists.exclude, world(session, name, offset))


def click_two_tumours(session) -> str:
    """A click into the left ball begins a tumour, whose segment's id is returned, one into the right ball another."""
    click(session, "left")
    session.poll()
    first = session.tumour.target.segment_id
    session.next_tumour()
    click(session, "right")
    session.poll()
    return first


def settle(session, seconds: float = 5.0):
    """Poll, as a host's timer does, until no evaluation is under way."""
    end = time.monotonic() + seconds
    session.poll()
    while session._updater._jobs or (session.tumour and session.tumour.changed):
        assert time.monotonic() < end, "no answer came"
        time.sleep(0.005)
        session.poll()


def mask(session, segment_id=None) -> np.ndarray:
    segment_id = segment_id or session.tumour.target.segment_id
    whole = np.zeros(SHAPE, bool)
    box, found = read_mask(session.segmentation_node, segment_id, session.volume_node)
    whole[box] = found
    return whole


def overlap(found: np.ndarray, name: str) -> float:
    index, (centre, radius) = np.indices(SHAPE), BALLS[name]
    ball = sum((axis - c) ** 2 for axis, c in zip(index, centre, strict=True)) < radius**2
    return 2 * (found & ball).sum() / (found.sum() + ball.sum())


def clicked(session, name="left"):
    click(session, name)
    settle(session)
    return mask(session)


def paint(session, box, mask):
    """What Segment Editor does: another writer than ours changes the segment."""
    writer = SegmentWriter(session._scene)
    node, segment_id = session.segmentation_node, session.tumour.target.segment_id
    writer.write_mask(node, segment_id, session.volume_node, box, mask)
    writer.close()
