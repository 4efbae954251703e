"""A folder for models, empty before each test, and a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from SAM3DSegmentLib.models import store
from Testing.models.helpers import CONTENT


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty models folder, and a bundled model that the tests wrote."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "compact.safetensors").write_bytes(b"bundled")
    monkeypatch.setattr(store, "BUNDLE_FOLDERS", (tmp_path / "elsewhere", bundle))
    monkeypatch.setenv(store.FOLDER_VARIABLE, str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A published checkpoint as its authors name it."""
    path = tmp_path / "best.pth.tar"
    path.write_bytes(CONTENT)
    return path
