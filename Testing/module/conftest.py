"""The module's widget on the phantom, offscreen, with the real engine process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("PySide6", reason="PySide6 is not installed: the panel cannot be run")
os.environ["QT_QPA_PLATFORM"] = "offscreen"

import slicer

from SAM3DSegmentLib.engine import client
from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.phantom import Phantom, make_phantom
from SAM3DSegmentLib.scene.volumes import add_volume
from Testing.module.helpers import ROOT, KeptEngine, shown
from Testing.pythonqt import application
from Testing.pythonqt.objects import callback_errors


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    return make_phantom()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    application.install(tmp_path / "settings")
    monkeypatch.setenv("SAM3DSEGMENT_MODELS", str(tmp_path / "models"))
    monkeypatch.syspath_prepend(str(ROOT / "SAM3DSegment"))
    for calls in application.calls.values():
        calls.clear()
    application.answers["confirm"] = False
    slicer.modules.sam3dsegment = SimpleNamespace(path=str(ROOT / "SAM3DSegment" / "SAM3DSegment.py"))
    import SAM3DSegment

    yield SAM3DSegment


@pytest.fixture(autouse=True)
def no_callback_fails(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """VTK and Qt only print what a callback raises."""
    callback_errors.clear()
    yield
    assert callback_errors == [] and "Traceback" not in capfd.readouterr().err


@pytest.fixture(scope="session")
def kept_engine() -> Iterator[KeptEngine]:
    engine = KeptEngine()
    yield engine
    Engine.close(engine)


@pytest.fixture
def own_engine() -> None:
    """For tests that maltreat it: a process of the test's own, started by the module."""


@pytest.fixture
def shared_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled model on this computer is answered by the kept process, unless the test wants its own."""
    if "own_engine" in request.fixturenames:
        return
    kept = request.getfixturevalue("kept_engine")

    def make(model: str, device: str, command: tuple[str, ...]) -> Engine:
        is_usual = (model, device, command[1:]) == ("compact", "auto", ("-m", "SAM3DSegmentLib.engine"))
        return kept if is_usual else Engine(model, device, command)

    monkeypatch.setattr(client, "Engine", make)


@pytest.fixture
def scan(scene: Any, phantom: Phantom) -> Any:
    """The phantom in the slice views."""
    node = add_volume(scene, phantom.volume, "Phantom CT")
    composite = scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    composite.SetBackgroundVolumeID(node.GetID())
    return node


@pytest.fixture
def widget(module: ModuleType, scan: Any, shared_engine: None) -> Iterator[Any]:
    yield from shown(module)
