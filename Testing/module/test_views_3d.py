"""Clicks in Slicer's 3D view."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from Testing.module.helpers import ROOT

BALL_MM = (4.0, 12.0)
"""From the middle of a ball to its surface, along I and J at least and along K at most, with a voxel's tolerance."""


def test_a_click_on_a_surface_in_the_3d_view_is_a_click_on_the_tumour() -> None:
    pytest.importorskip("trame_slicer", reason="trame-slicer is not installed: there is no 3D view")
    command = [sys.executable, "-m", "Testing.module.views_3d"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode < 0:
        pytest.skip("VTK cannot draw here: EGL and Mesa's drivers are missing")
    assert result.returncode == 0, result.stderr
    made = json.loads(result.stdout.splitlines()[-1])
    assert made["clicks"] == 2 and not made["failed"]
    assert BALL_MM[0] < made["mm"] < BALL_MM[1]
