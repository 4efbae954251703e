"""Models on this computer: found, listed and deleted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from SAM3DSegmentLib.errors import CheckpointError, ModelStoreError, UnknownModelError
from SAM3DSegmentLib.models import store
from SAM3DSegmentLib.models.catalogue import CATALOGUE, SAM_VIT_B, TASKS
from SAM3DSegmentLib.models.store import delete_model, find_model, import_model, list_models, models_folder, task_of


def test_catalogue_holds_the_published_windows_and_sam_with_its_checksum() -> None:
    windows = {name: (w.low, w.high, w.mean, w.std) for name, m in TASKS.items() if (w := m.window)}
    assert windows == {
        "kits": (-54, 247, 59.53867, 55.457336),
        "lits": (-48, 163, 60.057533, 40.198017),
        "pancreas": (-39, 204, 68.45214, 63.422806),
        "colon": (-57, 175, 65.175035, 32.651197),
    }
    assert SAM_VIT_B.sha256 == "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"
    assert list(CATALOGUE) == ["compact", "sam_vit_b", "kits", "lits", "pancreas", "colon"]


def test_models_are_managed_without_torch() -> None:
    code = "import sys, SAM3DSegmentLib.models.download; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_folder_is_the_platforms_own_where_none_is_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(store.FOLDER_VARIABLE)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    folders = {}
    for platform in ("linux", "darwin", "win32"):
        monkeypatch.setattr(sys, "platform", platform)
        folders[platform] = models_folder().relative_to(tmp_path).parts[:-2]
    assert folders == {"linux": (".local", "share"), "darwin": ("Library", "Application Support"), "win32": ("local",)}


def test_bundled_model_is_found_and_listed_first(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.safetensors").write_bytes(b"a")
    assert find_model("compact").read_bytes() == b"bundled"
    assert [(m.name, m.bundled) for m in list_models()] == [("compact", True), ("a", False)]


def test_checkpoint_dropped_into_the_folder_is_a_model(folder: Path) -> None:
    folder.mkdir()
    dropped = folder / "thigh.v2.safetensors"
    dropped.write_bytes(b"weights")
    (folder / "notes.txt").write_text("no model")
    (folder / f"{'0' * 64}.safetensors").write_bytes(b"frozen weights that models share")
    (folder / "broken.pth.partial").write_bytes(b"no model either")
    assert [m.name for m in list_models()] == ["compact", "thigh.v2"]
    assert find_model("thigh.v2") == dropped


def test_path_of_a_file_is_a_model(checkpoint: Path) -> None:
    assert find_model(str(checkpoint)) == checkpoint


@pytest.mark.parametrize(
    ("name", "advice"),
    [("nothing", "choose one of them"), ("sam_vit_b", "download sam_vit_b"), ("kits", "import kits")],
)
def test_unknown_model_is_refused_with_what_there_is_and_what_to_do(name: str, advice: str) -> None:
    with pytest.raises(UnknownModelError, match=rf"{name}.*there: compact.*{advice}"):
        find_model(name)


def test_damaged_note_beside_a_checkpoint_is_refused_by_name(checkpoint: Path) -> None:
    path = import_model(checkpoint, task="lits")
    path.with_suffix(".json").write_text('{"task": "toes"}')
    with pytest.raises(CheckpointError, match="import the model lits again"):
        task_of(path)


def test_a_users_own_notes_beside_a_model_are_left_alone(folder: Path) -> None:
    folder.mkdir()
    (folder / "thigh.json").write_text('{"epochs": 12}')
    (folder / "thigh.safetensors").write_bytes(b"weights")
    assert task_of(find_model("thigh")) is None


def test_deleted_model_leaves_nothing_behind(checkpoint: Path, folder: Path) -> None:
    import_model(checkpoint, task="kits")
    (folder / "kits.pth.partial").write_bytes(b"half")
    (folder / "kits.onnx").write_bytes(b"graph")
    (folder / "other.safetensors").write_bytes(b"other")
    delete_model("kits")
    assert [p.name for p in folder.iterdir()] == ["other.safetensors"]


def test_unfinished_download_can_be_cleared(folder: Path) -> None:
    folder.mkdir()
    (folder / "sam_vit_b_01ec64.pth.partial").write_bytes(b"half")
    delete_model("sam_vit_b")
    assert not list(folder.iterdir())


def test_bundled_and_unknown_models_are_not_deleted() -> None:
    with pytest.raises(ModelStoreError, match="came with the program"):
        delete_model("compact")
    assert find_model("compact").is_file()
    with pytest.raises(UnknownModelError):
        delete_model("kits")
