"""The Slicer module: binds the panel to a session of clicks; what a click leads to lives in SAM3DSegmentLib."""

import sys
import time
from pathlib import Path

import qt
import slicer
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

POLL_MILLISECONDS = 30
BUSY_POLL_MILLISECONDS = 10
YIELD_SECONDS = 0.005
"""Slicer's event loop keeps the interpreter's lock: threads run while Python code sleeps, and only then."""


class SAM3DSegment(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "SAM3DSegment"
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = ["Segmentations", "Markups"]
        parent.contributors = ["SAM3DSegment contributors"]
        parent.helpText = _(
            "<p>Click on a tumour in CT or MR and it is outlined in 3D; click again where the outline is wrong.</p>"
            "<p>Keys: I include, E exclude, N next tumour, Ctrl+Z undo, Ctrl+Y redo, Backspace remove the last click, "
            "Esc cancel.</p><p>Try it on the sample data <i>SAM3DSegment phantom</i>.</p>"
        )
        parent.acknowledgementText = _(
            "<p>The method follows Gong et al., 3DSAM-adapter: Holistic adaptation of SAM from 2D to 3D for promptable "
            "tumor segmentation, Medical Image Analysis 98 (2024) 103324, which builds on Kirillov et al., Segment "
            "Anything, ICCV 2023. Please cite both, and the model's card. Not a medical device.</p>"
        )
        # In a source checkout the library lies beside the module's folder, where Slicer does not look.
        checkout = Path(__file__).resolve().parents[1]
        if (checkout / "SAM3DSegmentLib").is_dir() and str(checkout) not in sys.path:
            sys.path.append(str(checkout))
        from SAM3DSegmentPanels.sample_data import register_sample_data

        slicer.app.connect("startupCompleted()", register_sample_data)


@parameterNodeWrapper
class SAM3DSegmentParameterNode:
    """What the user works on, saved with the scene."""

    volume: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    segmentID: str = ""


class SAM3DSegmentLogic(ScriptedLoadableModuleLogic):
    """The session, and the engine that it runs on in this application."""

    def __init__(self):
        from SAM3DSegmentLib.interaction.session import Session

        ScriptedLoadableModuleLogic.__init__(self)
        self.session = Session(slicer.mrmlScene)

    def getParameterNode(self):
        return SAM3DSegmentParameterNode(super().getParameterNode())

    def start_engine(self, model, device, remote_command):
        """Start the engine here, in Slicer's own Python, or by a remote command."""
        from SAM3DSegmentPanels.engine_panel import local_command

        from SAM3DSegmentLib.engine.client import Engine

        self.session.use_engine(Engine(model, device, remote_command or local_command()))


class SAM3DSegmentWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.session = None
        self._parameterNode = None
        self._entered = False
        self._asked_for_packages = False
        self._missing = []

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        from SAM3DSegmentPanels.engine_panel import EnginePanel
        from SAM3DSegmentPanels.export_panel import ExportPanel
        from SAM3DSegmentPanels.shortcuts import Shortcuts

        panel = slicer.util.loadUI(self.resourcePath("UI/SAM3DSegment.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.ui.includeButton.icon = qt.QIcon(self.resourcePath("Icons/Include.png"))
        self.ui.excludeButton.icon = qt.QIcon(self.resourcePath("Icons/Exclude.png"))
        self.logic = SAM3DSegmentLogic()
        self.session = self.logic.session
        self._engine_panel = EnginePanel(self.ui, self._start_engine, self._show_message)
        self._export_panel = ExportPanel(self.ui, self.session)
        self._shortcuts = Shortcuts(self._give)
        self._connect()
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MILLISECONDS)
        self._timer.connect("timeout()", self._poll)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndChange)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndChange)

    def _connect(self):
        ui = self.ui
        ui.volumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onVolumeSelected)
        ui.segmentationSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onSegmentationSelected)
        ui.segmentsTable.connect("selectionChanged(QItemSelection,QItemSelection)", self.onSegmentSelected)
        for button, command in (
            (ui.nextTumourButton, "next_tumour"),
            (ui.removeTumourButton, "remove_tumour"),
            (ui.includeButton, "toggle_include"),
            (ui.excludeButton, "toggle_exclude"),
            (ui.undoButton, "undo"),
            (ui.redoButton, "redo"),
            (ui.removeLastButton, "remove_last"),
            (ui.clearButton, "clear"),
            (ui.cancelButton, "cancel"),
        ):
            button.connect("clicked(bool)", lambda _checked, command=command: self._give(command))
        for button, action in (
            (ui.installButton, self._install),
            (ui.exportButton, self._export_panel.export),
            (ui.folderButton, self._export_panel.choose_folder),
        ):
            button.connect("clicked(bool)", lambda _checked, action=action: self._act(action))
        for box in (ui.hideClicksCheckBox, ui.outlineCheckBox, ui.changesCheckBox, ui.surfaceCheckBox):
            box.connect("toggled(bool)", lambda _checked: self._act(self._set_display))

    def enter(self):
        """The module is shown: take up where the scene is, arm include placing, start the engine."""
        self._entered = True
        self._restore_choice()
        self.session.place(include=True)
        if not self.session.has_engine:
            self._start_engine()
        self._shortcuts.install()
        self._timer.start()
        self._refresh()

    def exit(self):
        """Another module is shown: no shortcut of ours is left; a running evaluation goes on."""
        self._shortcuts.remove()
        self._entered = False
        self.session.tidy()

    def cleanup(self):
        """The application ends, or the module is reloaded."""
        self.exit()
        self._timer.stop()
        self._engine_panel.close()
        self.session.close()
        self.removeObservers()

    def onSceneStartClose(self, _caller, _event):
        self._parameterNode = None
        self.session.choose_volume(None)

    def onSceneEndChange(self, _caller, _event):
        """Another scene is there, opened or empty."""
        if self._entered:
            self._restore_choice()
            self.session.place(include=True)
        self._refresh()

    def _restore_choice(self):
        """What the scene remembers; else the volume that the slice views show."""
        self._parameterNode = self.logic.getParameterNode()
        volume, segmentation = self._parameterNode.volume, self._parameterNode.segmentation
        segment_id = self._parameterNode.segmentID
        chosen = self.ui.volumeSelector.currentNode()
        volume = volume or shown_volume() or (chosen if chosen and chosen.GetScene() else None)
        self.ui.volumeSelector.setCurrentNode(volume)
        self.session.choose_volume(volume)
        if segmentation and segmentation is not self.session.segmentation_node:
            self.session.choose_segmentation(segmentation)
        if segmentation and segmentation.GetSegmentation().GetSegment(segment_id):
            self.session.open_tumour(segment_id)

    def onVolumeSelected(self, node):
        if self._follows_selectors():
            self._act(lambda: (self.session.choose_volume(node), self.session.place(include=True)))

    def onSegmentationSelected(self, node):
        if self._follows_selectors() and node is not self.session.segmentation_node:
            self._act(lambda: (self.session.choose_segmentation(node), self.session.place(include=True)))

    def onSegmentSelected(self, _selected, _deselected):
        node, ids = self.session.segmentation_node, self.ui.segmentsTable.selectedSegmentIDs()
        if self._follows_selectors() and ids and node and node.GetSegmentation().GetSegment(ids[0]):
            self._act(lambda: self.session.open_tumour(ids[0]))

    def _follows_selectors(self):
        """Not while the scene takes its nodes away: selectors then jump from one to the next."""
        return self._entered and not slicer.mrmlScene.IsClosing()

    def _set_display(self):
        from SAM3DSegmentLib.interaction.display import Display

        ui = self.ui
        self.session.set_display(
            Display(
                clicks=not ui.hideClicksCheckBox.checked,
                outline_only=ui.outlineCheckBox.checked,
                changes=ui.changesCheckBox.checked,
                surface=ui.surfaceCheckBox.checked,
            )
        )

    def _start_engine(self):
        from SAM3DSegmentLib.interaction.packages import missing_packages

        panel = self._engine_panel
        self._missing = [] if panel.remote_command else missing_packages(panel.model, panel.device)
        if self._missing:
            self.session.use_engine(None)
        else:
            self.logic.start_engine(panel.model, panel.device, panel.remote_command)
        self._refresh()

    def _install(self):
        self._asked_for_packages = True
        from SAM3DSegmentPanels.packages import install_packages

        problem = install_packages(self._missing)
        self._start_engine()
        if problem:
            self.session.say(problem, failed=True)

    def _give(self, command):
        """A command of the session, by its name."""
        from SAM3DSegmentLib.interaction.commands import COMMANDS

        self._act(lambda: COMMANDS[command](self.session))

    def _act(self, action):
        """What the user asked for, on the present state of the scene."""
        self.session.poll()
        action()
        self._refresh()

    def _poll(self):
        busy = self.session.busy or self._engine_panel.busy
        if busy:
            time.sleep(YIELD_SECONDS)
        self._timer.setInterval(BUSY_POLL_MILLISECONDS if busy else POLL_MILLISECONDS)
        self._engine_panel.poll()
        if self.session.poll():
            self._refresh()
        if self.session.engine_wanted and self._missing and not self._asked_for_packages:
            self._act(self._install)

    def _show_message(self, message, failed):
        self.session.say(message, failed)
        self._refresh()

    def _refresh(self):
        """Show the session in the panel, and keep the choice in the scene."""
        from SAM3DSegmentPanels.status_lines import show_buttons, show_selection, show_status

        session, ui = self.session, self.ui
        show_selection(ui, session)
        show_buttons(ui, session)
        show_status(ui, session.status)
        ui.installButton.visible = bool(self._missing)
        if self._parameterNode:
            segment_id = session.tumour.target.segment_id if session.tumour else ""
            choice = {"volume": session.volume_node, "segmentation": session.segmentation_node, "segmentID": segment_id}
            for name, value in choice.items():
                if getattr(self._parameterNode, name) != value:
                    setattr(self._parameterNode, name, value)


def shown_volume():
    """The volume in the background of a slice view; None where there is none."""
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        volume = slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID() or "")
        if volume:
            return volume
    return None


class SAM3DSegmentTest(ScriptedLoadableModuleTest):
    """The road of a user, for Slicer's self test: phantom, click, mask, correction, undo, export."""

    def setUp(self):
        slicer.mrmlScene.Clear(0)

    def runTest(self):
        self.setUp()
        self.test_click_to_file()

    def test_click_to_file(self):
        from SAM3DSegmentPanels.self_test import click_to_file

        from SAM3DSegmentLib.interaction.packages import missing_packages

        missing = missing_packages("compact")
        if missing:
            self.delayDisplay("Skipped: {} missing".format(", ".join(missing)))
            return
        click_to_file(self)
        self.delayDisplay("Test passed")
