"""Placing clicks with the mouse: Slicer's place mode, pointed at one list of clicks."""

from __future__ import annotations

import slicer


def start_placing(click_list: slicer.vtkMRMLMarkupsFiducialNode) -> None:
    """From now on every click into a view adds a point to the list, until `stop_placing`."""
    scene = click_list.GetScene()
    selection = scene.GetNodeByID("vtkMRMLSelectionNodeSingleton")
    selection.SetReferenceActivePlaceNodeClassName(click_list.GetClassName())
    selection.SetActivePlaceNodeID(click_list.GetID())
    interaction = _interaction_node(scene)
    interaction.SetPlaceModePersistence(True)
    interaction.SetCurrentInteractionMode(interaction.Place)


def stop_placing(scene: slicer.vtkMRMLScene) -> None:
    """Give the mouse back to the views."""
    interaction = _interaction_node(scene)
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)


def is_placing(click_list: slicer.vtkMRMLMarkupsFiducialNode) -> bool:
    """Whether a click into a view would add a point to this very list."""
    scene = click_list.GetScene()
    selection, interaction = scene.GetNodeByID("vtkMRMLSelectionNodeSingleton"), _interaction_node(scene)
    placing = interaction.GetCurrentInteractionMode() == interaction.Place
    return bool(placing and selection.GetActivePlaceNodeID() == click_list.GetID())


def _interaction_node(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLInteractionNode:
    return scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
