"""The collapsed sections: models fetched, imported and deleted, devices, missing packages."""

from __future__ import annotations

import hashlib
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util

from SAM3DSegmentLib.interaction import background_download, background_import
from SAM3DSegmentLib.models.catalogue import CATALOGUE, Model
from SAM3DSegmentLib.network.convert import convert_published
from SAM3DSegmentLib.phantom import Phantom
from Testing.models.helpers import safetensors
from Testing.module.helpers import (
    LESION,
    ROOT,
    click,
    overlap,
    process,
    segmented,
    settle,
    shown,
    wait,
)
from Testing.pythonqt import application
from Testing.pythonqt.objects import QtModule
from Testing.reduced_network import SIZES, random_network, write_published


def test_missing_packages_are_asked_for_once_at_the_first_click(
    module: ModuleType, scan: Any, phantom: Phantom, shared_engine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from SAM3DSegmentLib.interaction import packages

    monkeypatch.setattr(packages, "missing_packages", lambda *_: ["torch", "safetensors"])
    opened = shown(module)
    widget = next(opened)
    process()
    questions = application.calls["questions"]
    assert questions == [] and not widget.session.has_engine and not widget.ui.installButton.isHidden()
    click(widget, phantom.lesions[LESION].click)
    process()
    click(widget, phantom.lesions[LESION].click)
    process()
    assert len(questions) == 1 and "torch" in questions[0] and sys.prefix in questions[0]
    assert "missing" in widget.ui.messageLabel.text and len(widget.session.clicks) == 2
    application.answers["confirm"] = True
    monkeypatch.setattr(packages, "missing_packages", lambda *_: [])
    widget.ui.installButton.click()
    assert application.calls["torch"] and application.calls["pip"] == [["safetensors>=0.4"]]
    settle(widget)
    assert overlap(widget, phantom, LESION) > 0.5 and widget.ui.installButton.isHidden()
    next(opened, None)


def test_model_section_lists_imports_and_deletes_models(widget: Any, tmp_path: Path) -> None:
    ui = widget.ui
    assert ui.modelComboBox.currentData == "compact" and "Apache-2.0" in ui.modelInfoLabel.text
    assert not ui.downloadButton.enabled and not ui.deleteModelButton.enabled
    shutil.copy(ROOT / "Resources" / "models" / "compact.safetensors", tmp_path / "mine.safetensors")
    QtModule.QFileDialog.answers.append(str(tmp_path / "mine.safetensors"))
    ui.importButton.click()
    assert not ui.importButton.enabled and ui.messageLabel.text == "mine.safetensors is being imported..."
    wait(lambda: ui.importButton.enabled)
    assert ui.modelComboBox.currentData == "mine" and ui.deleteModelButton.enabled and not ui.messageLabel.text
    ui.deleteModelButton.click()
    assert ui.modelComboBox.currentData == "compact" and ui.modelComboBox.findData("mine") == -1


STEP = 1 << 14
"""Bytes that a slow connection brings in 50 ms."""


class SlowServer(BaseHTTPRequestHandler):
    """Sends the first half at once and the rest slowly until the test lets it go on; knows ranges."""

    content = np.random.default_rng(0).bytes(1 << 23)
    go_on = threading.Event()

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        with suppress(ConnectionError):
            middle = max(start, len(self.content) // 2)
            self.wfile.write(self.content[start:middle])
            while not self.go_on.wait(0.05):
                self.wfile.write(self.content[middle : middle + STEP])
                middle += STEP
            self.wfile.write(self.content[middle:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def downloadable(monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    """The catalogue's SAM, served by this computer."""
    monkeypatch.setenv("no_proxy", "*")
    SlowServer.go_on.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), SlowServer) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        model = replace(
            CATALOGUE["sam_vit_b"],
            url=f"http://127.0.0.1:{http.server_address[1]}/sam.pth",
            sha256=hashlib.sha256(SlowServer.content).hexdigest(),
            size=len(SlowServer.content),
        )
        monkeypatch.setitem(CATALOGUE, model.name, model)
        allowed = partial(background_download.download_model, allow_loopback_http=True)
        monkeypatch.setattr(background_download, "download_model", allowed)
        yield model
        SlowServer.go_on.set()
        http.shutdown()


def test_download_shows_its_progress_is_cancelled_and_goes_on_from_there(
    widget: Any, downloadable: Model, tmp_path: Path
) -> None:
    ui = widget.ui
    ui.modelComboBox.currentIndex = ui.modelComboBox.findData(downloadable.name)
    ui.modelComboBox._q.activated.emit(ui.modelComboBox.currentIndex)
    assert ui.downloadButton.enabled and "8 MB" in ui.modelInfoLabel.text and "Kirillov" in ui.modelInfoLabel.text
    ui.downloadButton.click()
    wait(lambda: ui.downloadProgressBar.value >= 25)
    assert ui.downloadButton.text == "Cancel download" and not ui.downloadProgressBar.isHidden()
    ui.downloadButton.click()
    wait(lambda: ui.downloadButton.text == "Download")
    assert "cancelled" in ui.messageLabel.text and ui.downloadProgressBar.isHidden()
    (partial_file,) = (tmp_path / "models").glob("*.partial")
    assert partial_file.stat().st_size >= len(SlowServer.content) // 4
    SlowServer.go_on.set()
    ui.downloadButton.click()
    wait(lambda: ui.downloadButton.text == "Download" and ui.deleteModelButton.enabled)
    (stored,) = (tmp_path / "models").glob("*.pth")
    assert stored.read_bytes() == SlowServer.content and ui.modelComboBox.currentData == downloadable.name
    assert not ui.downloadButton.enabled


def test_a_download_that_ends_leaves_the_model_that_was_chosen_meanwhile(widget: Any, downloadable: Model) -> None:
    ui = widget.ui
    ui.modelComboBox.currentIndex = ui.modelComboBox.findData(downloadable.name)
    ui.modelComboBox._q.activated.emit(ui.modelComboBox.currentIndex)
    ui.downloadButton.click()
    ui.modelComboBox.currentIndex = ui.modelComboBox.findData("compact")
    ui.modelComboBox._q.activated.emit(ui.modelComboBox.currentIndex)
    SlowServer.go_on.set()
    wait(lambda: "(not on" not in ui.modelComboBox.itemText(ui.modelComboBox.findData(downloadable.name)))
    assert ui.modelComboBox.currentData == "compact"


def test_an_import_that_ends_leaves_the_model_that_was_chosen_meanwhile(widget: Any, tmp_path: Path) -> None:
    ui = widget.ui
    shutil.copy(ROOT / "Resources" / "models" / "compact.safetensors", tmp_path / "mine.safetensors")
    QtModule.QFileDialog.answers.append(str(tmp_path / "mine.safetensors"))
    ui.importButton.click()
    ui.modelComboBox.currentIndex = ui.modelComboBox.findData("kits")
    ui.modelComboBox._q.activated.emit(ui.modelComboBox.currentIndex)
    wait(lambda: ui.importButton.enabled)
    assert ui.modelComboBox.currentData == "kits" and ui.modelComboBox.findData("mine") > 0


def test_clicks_are_answered_while_a_model_is_imported(
    widget: Any, phantom: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checking, go_on = threading.Event(), threading.Event()

    def slow(_staged: Path, _command: object) -> None:
        checking.set()
        assert go_on.wait(60)

    monkeypatch.setattr(background_import, "check_loads", slow)
    shutil.copy(ROOT / "Resources" / "models" / "compact.safetensors", tmp_path / "mine.safetensors")
    QtModule.QFileDialog.answers.append(str(tmp_path / "mine.safetensors"))
    widget.ui.importButton.click()
    wait(checking.is_set)
    click(widget, phantom.lesions[LESION].click)
    settle(widget)
    assert overlap(widget, phantom, LESION) > 0.5 and not widget.ui.importButton.enabled
    go_on.set()
    wait(lambda: widget.ui.importButton.enabled)
    assert widget.ui.modelComboBox.currentData == "mine"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_import_that_a_fault_of_ours_ends_is_told_of(
    widget: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(*_: object, **__: object) -> Path:
        raise RuntimeError("a fault")

    monkeypatch.setattr(background_import, "import_model", faulty)
    QtModule.QFileDialog.answers.append(str(tmp_path / "mine.safetensors"))
    widget.ui.importButton.click()
    wait(lambda: widget.ui.importButton.enabled)
    assert widget.session.status.failed and "mine.safetensors was not imported" in widget.ui.messageLabel.text
    assert widget.ui.modelComboBox.currentData == "compact"


def test_frozen_weights_that_are_imported_are_no_model_to_choose(widget: Any, tmp_path: Path) -> None:
    content = safetensors(b"weights")
    frozen = tmp_path / f"{hashlib.sha256(content).hexdigest()}.safetensors"
    frozen.write_bytes(content)
    QtModule.QFileDialog.answers.append(str(frozen))
    widget.ui.importButton.click()
    wait(lambda: widget.ui.importButton.enabled)
    assert widget.ui.modelComboBox.currentData == "compact" and "frozen weights" in widget.ui.messageLabel.text
    assert (tmp_path / "models" / frozen.name).is_file()


def test_a_checkpoint_is_imported_with_its_task_and_one_that_makes_no_network_is_refused_in_one_sentence(
    widget: Any, tmp_path: Path
) -> None:
    """As the paper's authors save it the reduced network has the wrong shapes; converted it says its own."""
    ui = widget.ui
    published = write_published(random_network(), tmp_path / "liver_tumour.pth")
    converted, _ = convert_published(published, "kits", tmp_path / "converted", SIZES)
    ui.taskComboBox.currentIndex = 1
    QtModule.QFileDialog.answers.append(str(converted))
    ui.importButton.click()
    wait(lambda: ui.importButton.enabled)
    assert ui.modelComboBox.currentData == ui.taskComboBox.currentText and ui.deleteModelButton.enabled
    wait(lambda: "CPU" in ui.figuresLabel.text or "CUDA" in ui.figuresLabel.text)
    (tmp_path / "cut.pth").write_bytes(published.read_bytes()[:1000])
    before = sorted((tmp_path / "models").iterdir())
    for file, reason in ((published, "misshapen"), (tmp_path / "cut.pth", "truncated")):
        QtModule.QFileDialog.answers.append(str(file))
        ui.importButton.click()
        wait(lambda file=file: widget.session.status.failed and str(file) in ui.messageLabel.text)
        assert reason in ui.messageLabel.text and "\n" not in ui.messageLabel.text
        assert sorted((tmp_path / "models").iterdir()) == before
    assert ui.modelComboBox.currentData == ui.taskComboBox.currentText


def test_device_and_remote_command_are_remembered(widget: Any, module: ModuleType, phantom: Phantom) -> None:
    ui = widget.ui
    ui.deviceComboBox.currentIndex = 4
    ui.deviceComboBox._q.activated.emit(4)
    assert ui.remoteLineEdit.enabled and "command" in ui.messageLabel.text
    ui.remoteLineEdit.text = f"{sys.executable} -m SAM3DSegmentLib.engine"
    ui.remoteLineEdit._q.editingFinished.emit()
    segmented(widget, phantom)
    assert overlap(widget, phantom, LESION) > 0.5
    assert slicer.util.settingsValue("SAM3DSegment/Device", "") == "remote"


def test_engine_that_cannot_start_is_told_in_the_panel(widget: Any) -> None:
    ui = widget.ui
    ui.deviceComboBox.currentIndex = 4
    ui.remoteLineEdit.text = "no-such-command"
    ui.remoteLineEdit._q.editingFinished.emit()
    wait(lambda: "no-such-command" in ui.messageLabel.text)


def test_a_remote_command_with_an_open_quotation_mark_is_told_of_and_changes_nothing(widget: Any) -> None:
    ui = widget.ui
    ui.deviceComboBox.currentIndex = 4
    ui.remoteLineEdit.text = "ssh 'gpu-host sam3dsegment engine"
    ui.remoteLineEdit._q.editingFinished.emit()
    assert "quotation mark" in ui.messageLabel.text
    assert slicer.util.settingsValue("SAM3DSegment/Device", "auto") == "auto"
    ui.modelComboBox._q.activated.emit(ui.modelComboBox.currentIndex)


def test_without_the_pytorch_extension_the_panel_says_what_to_install(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from SAM3DSegmentPanels.packages import install_packages

    application.answers["confirm"] = True
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    assert "The extension PyTorch is missing" in install_packages(["torch"])


def test_an_imported_file_of_another_name_than_its_model_is_chosen(
    widget: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "downloaded.pth").write_bytes(b"weights")
    known = replace(CATALOGUE["sam_vit_b"], sha256=hashlib.sha256(b"weights").hexdigest())
    monkeypatch.setitem(CATALOGUE, known.name, known)
    QtModule.QFileDialog.answers.append(str(tmp_path / "downloaded.pth"))
    widget.ui.importButton.click()
    wait(lambda: widget.ui.importButton.enabled)
    assert widget.ui.modelComboBox.currentData == "sam_vit_b"
