"""The module as Slicer opens and leaves it: what is armed, imported, registered, shown."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import slicer
import slicer.util

from SAM3DSegmentLib.phantom import Phantom
from Testing.module.helpers import (
    OTHER_LESION,
    ROOT,
    process,
    segmented,
    shortcuts,
    shown,
    wait,
)
from Testing.pythonqt import application


def test_opening_the_module_picks_the_shown_volume_and_arms_include_placing(widget: Any, scan: Any) -> None:
    assert widget.ui.volumeSelector.currentNode() is scan and widget.session.volume_node is scan
    assert widget.ui.includeButton.checked and not widget.ui.excludeButton.checked
    wait(lambda: "CPU" in widget.ui.figuresLabel.text or "CUDA" in widget.ui.figuresLabel.text)


def test_opening_the_module_imports_no_torch(module: ModuleType) -> None:
    code = (
        "import os, sys; os.environ['QT_QPA_PLATFORM'] = 'offscreen'\n"
        "from pathlib import Path; from types import SimpleNamespace\n"
        "from Testing.pythonqt import application\n"
        "import slicer, tempfile; application.install(Path(tempfile.mkdtemp()))\n"
        "sys.path.insert(0, 'SAM3DSegment')\n"
        "slicer.modules.sam3dsegment = SimpleNamespace(path=str(Path('SAM3DSegment/SAM3DSegment.py').resolve()))\n"
        "import SAM3DSegment; w = SAM3DSegment.SAM3DSegmentWidget(application.module_parent()); w.setup(); w.enter()\n"
        "bad = {'torch', 'scipy', 'SimpleITK', 'nibabel', 'segment_anything', 'safetensors'} & set(sys.modules)\n"
        "w.cleanup(); print(bad); os._exit(bool(bad))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_shortcuts_exist_only_while_the_module_is_shown(widget: Any) -> None:
    keys = {shortcut.key().toString() for shortcut in shortcuts()}
    assert keys == {"I", "E", "N", "Ctrl+Z", "Ctrl+Y", "Backspace", "Esc"}
    next(s for s in shortcuts() if s.key().toString() == "E").activated.emit()
    assert widget.ui.excludeButton.checked
    widget.exit()
    assert shortcuts() == [] and widget.session.placing is None
    widget.enter()
    assert len(shortcuts()) == 7 and widget.ui.includeButton.checked


def test_leaving_without_a_click_leaves_nothing_in_the_scene(widget: Any, scene: Any) -> None:
    widget.exit()
    assert not scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    assert not scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode")


def test_sample_data_offers_the_phantom_without_a_download(module: ModuleType, scene: Any) -> None:
    slicer.app.startup.clear()
    parent = SimpleNamespace()
    module.SAM3DSegment(parent)
    slicer.app.startup[0]()
    source = application.calls["samples"][0]
    assert source.sampleName == "SAM3DSegment phantom" and Path(source.thumbnailFileName).is_file()
    assert parent.title and "2024" in parent.acknowledgementText and "phantom" in parent.helpText
    (node,) = source.customDownloader(source)
    assert node.GetImageData().GetDimensions() == (256, 256, 96)


def test_slicers_own_self_test_passes(module: ModuleType, scene: Any, shared_engine: None) -> None:
    scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    opened = shown(module)
    next(opened).exit()
    module.SAM3DSegmentTest().runTest()
    next(opened, None)


def test_panel_looks_as_in_the_documentation(widget: Any, phantom: Phantom, tmp_path: Path) -> None:
    """Set SAM3DSEGMENT_WRITE_PICTURES to draw docs/panel.png anew."""
    segmented(widget, phantom, OTHER_LESION)
    widget.ui.nextTumourButton.click()
    segmented(widget, phantom)
    widget.ui.displayCollapsibleButton.collapsed = False
    panel = widget.parent._q
    panel.resize(430, 640)
    panel.show()
    process(0.3)
    documented = ROOT / "docs" / "panel.png"
    drawn = documented if os.environ.get("SAM3DSEGMENT_WRITE_PICTURES") else tmp_path / "panel.png"
    assert panel.grab().save(str(drawn))
    panel.hide()
    sizes = [struct.unpack(">II", picture.read_bytes()[16:24]) for picture in (drawn, documented)]
    assert sizes[0] == sizes[1] and drawn.stat().st_size > 10_000
