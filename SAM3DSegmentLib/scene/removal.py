"""Nodes out of the scene without a trace."""

from __future__ import annotations

import slicer


def remove_node(node: slicer.vtkMRMLDisplayableNode) -> None:
    """Remove a node and its display nodes, which the scene would keep; one that is in no scene stays as it is."""
    scene = node.GetScene()
    if not scene:
        return
    displays = [node.GetNthDisplayNode(index) for index in range(node.GetNumberOfDisplayNodes())]
    scene.RemoveNode(node)
    for display in displays:
        scene.RemoveNode(display)
