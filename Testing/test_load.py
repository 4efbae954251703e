"""Long work, a large scan and many scenes leave memory, nodes, observers and processes as they were."""

from __future__ import annotations

import gc
import sys
import weakref
from math import prod

import pytest

from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.scene.application import boot_scene
from Testing.disturbance import LIGHT, points, scan, wait_for

if sys.platform != "linux":
    pytest.skip("memory and processes are read from Linux's /proc", allow_module_level=True)

from Testing.hardship.load import (
    FLAT_SHARE,
    child_processes,
    click_on_large_scan,
    open_and_close,
    resident_mib,
    session_on,
    work_on,
)

LARGE_SHAPE = (400, 512, 512)
OVERHEAD_MIB = 220
"""Of slabs, crops and segments, whatever the size of the scan; one more copy of these voxels would not fit in."""


def test_memory_of_viewer_and_engine_stays_flat_over_many_clicks() -> None:
    with Engine(command=LIGHT) as engine:
        work = work_on(engine, clicks=60, tumours=4)
    assert max(work.growth()) < FLAT_SHARE and not work.failures and len(work.waits) == 60


def test_a_click_on_a_large_scan_takes_little_memory_beside_its_voxels() -> None:
    voxels = 2 * prod(LARGE_SHAPE) / 2**20
    before = resident_mib()
    with Engine(command=LIGHT) as engine:
        _, memory = click_on_large_scan(engine, LARGE_SHAPE, count=1)
    assert memory.host - before < voxels + OVERHEAD_MIB


def test_a_closed_scene_lets_go_of_its_scan_while_the_engine_goes_on() -> None:
    with Engine(command=LIGHT) as engine, session_on(scan(), engine) as session:
        wait_for(session, points(1)[0], [])
        voxels = weakref.ref(session._updater.volume(session.volume_node))
        boot_scene().Clear(0)
        session.poll()
        gc.collect()
        assert voxels() is None and session.has_engine


def test_scenes_opened_and_closed_leave_no_node_observer_thread_or_process() -> None:
    before = child_processes()
    left = open_and_close(cycles=3)
    assert left[-1] == left[1] and left[-1].processes <= before
