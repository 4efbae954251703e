"""Fixtures that the tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    import slicer

settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")  # `pytest --hypothesis-profile=default` draws new examples in every run


@pytest.fixture
def scene() -> Iterator[slicer.vtkMRMLScene]:
    """The MRML scene, empty before and after the test."""
    from SAM3DSegmentLib.scene.application import boot_scene

    booted = boot_scene()
    yield booted
    booted.Clear(0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder of an evaluation: three scans of known answer and the table that lists them."""
    from Testing.evaluation_cases import write_cases

    return write_cases(tmp_path)
