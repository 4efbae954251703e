"""Fixtures that the tests share, and the reasons why tests were skipped, listed last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import slicer


@pytest.fixture
def scene() -> Iterator[slicer.vtkMRMLScene]:
    """The MRML scene, empty before and after the test."""
    from SAM3DSegmentLib.scene.application import boot_scene

    booted = boot_scene()
    yield booted
    booted.Clear(0)
