"""Slicer's own views on one scene, drawn here and shown in the browser: axial, coronal, sagittal and 3D."""

from __future__ import annotations

import os

import slicer
from trame_client.ui.core import AbstractLayout
from trame_server import Server
from trame_slicer.core import LayoutManager, SlicerApp
from trame_slicer.rca_view import register_rca_factories
from trame_slicer.views import Layout, LayoutDirection, ViewLayoutDefinition
from vtkmodules.vtkCommonCore import vtkLogger, vtkObject

LAYOUT = "Four views"
FRAMES_PER_SECOND = 20.0
IDLE_FRAMES_PER_SECOND = 10.0
"""Of a view that the mouse is not in."""


class Views:
    """Starts Slicer's application logic with a scene of its own; one to a process.

    Attributes:
        scene: that the views show.
    """

    def __init__(self, server: Server) -> None:
        # Set but empty, it keeps VTK from finding a way to draw without a display.
        if not os.environ.get("VTK_DEFAULT_OPENGL_WINDOW"):
            os.environ.pop("VTK_DEFAULT_OPENGL_WINDOW", None)
        # VTK warns of every way that it tries in vain.
        vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_ERROR)
        vtkObject.GlobalWarningDisplayOff()
        self._application = SlicerApp()
        self.scene = slicer.mrmlScene = self._application.scene
        slicer.applicationLogic = self._application.app_logic
        self._manager = self._application.view_manager
        register_rca_factories(
            self._manager, server, target_fps=FRAMES_PER_SECOND, blur_fps=IDLE_FRAMES_PER_SECOND, rca_encoder="jpeg"
        )
        self._layouts = LayoutManager(self.scene, self._manager, server)
        self._layouts.register_layout(LAYOUT, four_views())
        # It draws every slice view again when one of them is scrolled, for models, of which there are none.
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.UnRegisterDisplayableManager("vtkMRMLModelSliceDisplayableManager")
        for view in self._manager.get_views():
            # Smoothing edges costs software rendering most of its time.
            view.render_window().SetMultiSamples(0)

    def place_into(self, page: AbstractLayout) -> None:
        """Put the views where the page is being built."""
        self._layouts.initialize_layout_grid(page)
        self._layouts.set_layout(LAYOUT)

    def show(self, volume_node: slicer.vtkMRMLScalarVolumeNode | None) -> None:
        """Draw a volume in the slice views, whole and at its middle."""
        self._application.display_manager.show_volume_in_slice_background(volume_node)
        self._application.display_manager.reset_views()

    def reset_3d(self) -> None:
        """Turn the 3D view to what there is in it."""
        for view in self._manager.get_threed_views():
            view.reset_view()


def four_views() -> Layout:
    """Slicer's "Four-Up": axial and 3D above, coronal and sagittal below."""
    above = [ViewLayoutDefinition.axial_view(), ViewLayoutDefinition.threed_view()]
    below = [ViewLayoutDefinition.coronal_view(), ViewLayoutDefinition.sagittal_view()]
    rows = [Layout(LayoutDirection.Horizontal, row) for row in (above, below)]
    return Layout(LayoutDirection.Vertical, rows)
