"""The part of Slicer's application that MRML needs, started where there is no Slicer around it."""

from __future__ import annotations

from typing import Any

import slicer

_logics: list[Any] = []
"""Of the modules: scene and application logic only know them, neither keeps them alive."""


def boot_scene() -> slicer.vtkMRMLScene:
    """The application's scene: Slicer's own inside Slicer, elsewhere one that the first call makes.

    The application logic and the module logics that segmentations, markups and volumes need stay alive with it.
    """
    if getattr(slicer, "mrmlScene", None) is None:
        slicer.mrmlScene = slicer.vtkMRMLScene()
        _start_logics(slicer.mrmlScene)
    return slicer.mrmlScene


def _start_logics(scene: slicer.vtkMRMLScene) -> None:
    application_logic = slicer.vtkSlicerApplicationLogic()
    application_logic.SetMRMLScene(scene)
    color_logic = application_logic.GetColorLogic()
    color_logic.SetMRMLScene(scene)
    color_logic.AddDefaultColorNodes()
    # The volumes logic looks the colours up when it is registered: they come first.
    application_logic.SetModuleLogic("Colors", color_logic)
    for name, logic in (
        ("Volumes", slicer.vtkSlicerVolumesLogic()),
        ("Segmentations", slicer.vtkSlicerSegmentationsModuleLogic()),
        ("Markups", slicer.vtkSlicerMarkupsLogic()),
        ("SubjectHierarchy", slicer.vtkSlicerSubjectHierarchyModuleLogic()),
    ):
        logic.SetMRMLScene(scene)
        logic.SetMRMLApplicationLogic(application_logic)
        application_logic.SetModuleLogic(name, logic)
        _logics.append(logic)
    # The scene only observes its logics: without this reference Python would delete them.
    slicer.applicationLogic = application_logic
