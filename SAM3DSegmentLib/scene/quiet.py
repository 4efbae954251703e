"""VTK says nothing on the standard error while a sentence of ours tells what it could not read or write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import vtk


@contextmanager
def quietly() -> Iterator[None]:
    """No warnings and errors of VTK's own are shown within."""
    before = vtk.vtkObject.GetGlobalWarningDisplay()
    vtk.vtkObject.GlobalWarningDisplayOff()
    try:
        yield
    finally:
        vtk.vtkObject.SetGlobalWarningDisplay(before)
