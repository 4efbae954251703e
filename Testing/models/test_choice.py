"""Which packages a model needs, and which of several files that come together is the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from SAM3DSegmentLib.errors import ModelStoreError
from SAM3DSegmentLib.interaction import packages
from SAM3DSegmentLib.interaction.model_choice import checkpoint_among
from SAM3DSegmentLib.interaction.packages import missing_packages
from SAM3DSegmentLib.models.header import METADATA_KEY
from Testing.models.helpers import safetensors


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)


def compact_checkpoint(path: Path) -> Path:
    header = json.dumps({"__metadata__": {METADATA_KEY: json.dumps({"architecture": "compact"})}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    return path


def test_a_compact_checkpoint_of_ones_own_needs_no_sam(tmp_path: Path, nothing_installed: None) -> None:
    checkpoint = compact_checkpoint(tmp_path / "mine.safetensors")
    assert missing_packages(str(checkpoint)) == ["torch", "safetensors"]
    checkpoint.with_suffix(".onnx").touch()
    assert missing_packages(str(checkpoint)) == missing_packages("compact") == ["onnxruntime", "safetensors"]


def test_other_checkpoints_need_what_sam_needs(tmp_path: Path, nothing_installed: None) -> None:
    (tmp_path / "adapter.safetensors").write_bytes(safetensors(b"x", backbone_sha256="0" * 64))
    for model in (str(tmp_path / "adapter.safetensors"), "kits", "nowhere"):
        assert missing_packages(model) == ["torch", "segment-anything", "safetensors"]


def test_of_a_checkpoint_its_frozen_weights_and_its_graph_the_checkpoint_is_the_model(tmp_path: Path) -> None:
    upload = tmp_path / "upload"
    upload.mkdir()
    adapter = upload / "liver.safetensors"
    adapter.write_bytes(safetensors(b"x", backbone_sha256="0" * 64))
    assert checkpoint_among(adapter) == adapter
    (upload / f"{'0' * 64}.safetensors").write_bytes(safetensors(b"y"))
    (upload / "liver.onnx").write_bytes(b"graph")
    assert checkpoint_among(upload) == adapter
    (upload / "kidney.safetensors").write_bytes(b"")
    with pytest.raises(ModelStoreError, match="one checkpoint at a time"):
        checkpoint_among(upload)
