"""A model is imported whole, checked and with what it stands on, or not at all."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from SAM3DSegmentLib.errors import CheckpointError, ModelStoreError, UnknownModelError
from SAM3DSegmentLib.models import store
from SAM3DSegmentLib.models.catalogue import CATALOGUE, SAM_VIT_B, TASKS
from SAM3DSegmentLib.models.store import find_model, import_model, list_models, task_of
from Testing.models.helpers import CONTENT, EMPTY_STATE, archive, full_disk, safetensors

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden" / "make_checkpoint.py"


def test_published_checkpoint_is_imported_with_its_task(checkpoint: Path, folder: Path) -> None:
    path = import_model(checkpoint, task="lits")
    assert path == find_model("lits") == folder / "lits.pth"
    assert path.read_bytes() == CONTENT
    assert task_of(path) is TASKS["lits"]
    renamed = import_model(checkpoint, name="our-livers", task="lits")
    assert task_of(renamed) is TASKS["lits"]
    assert json.loads(renamed.with_suffix(".json").read_text())["source"] == "best.pth.tar"


def test_import_replaces_the_model_of_that_name_in_any_format(tmp_path: Path, checkpoint: Path) -> None:
    converted = tmp_path / "converted.safetensors"
    converted.write_bytes(safetensors(b"converted", architecture="sam-adapter"))
    import_model(checkpoint, task="kits")
    import_model(converted, name="kits")
    assert find_model("kits").read_bytes() == converted.read_bytes()
    import_model(checkpoint, task="kits")
    assert find_model("kits").read_bytes() == CONTENT


def test_file_with_a_known_checksum_is_imported_under_its_name(
    checkpoint: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = replace(SAM_VIT_B, sha256=hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setitem(CATALOGUE, "sam_vit_b", known)
    assert import_model(checkpoint) == folder / "sam_vit_b_01ec64.pth" == find_model("sam_vit_b")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "sam_vit_b"}, CheckpointError, "SHA-256"),
        ({"name": "compact"}, ModelStoreError, "another name"),
        ({"name": "../kits", "task": "kits"}, ModelStoreError, "cannot be a model's name"),
        ({"task": "toes"}, UnknownModelError, "kits, lits, pancreas, colon"),
        ({}, ModelStoreError, "name its task"),
    ],
)
def test_import_that_cannot_be_right_leaves_nothing(
    checkpoint: Path, folder: Path, arguments: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        import_model(checkpoint, **arguments)
    assert not folder.exists()


@pytest.mark.parametrize("length", [0, 7, 300, -1])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_truncated_file_does_not_take_the_place_of_a_good_model(
    checkpoint: Path, folder: Path, suffix: str, length: int
) -> None:
    import_model(checkpoint, task="kits")
    cut = checkpoint.with_name(f"cut{suffix}")
    cut.write_bytes((safetensors if suffix == ".safetensors" else archive)(bytes(1000))[:length])
    with pytest.raises(CheckpointError, match="truncated"):
        import_model(cut, task="kits")
    assert find_model("kits").read_bytes() == CONTENT
    assert sorted(p.name for p in folder.iterdir()) == ["kits.json", "kits.pth"]


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("import pathlib; pathlib.Path('harmed').touch()",))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (archive(b"", pickle.dumps({"encoder_dict": Hostile()}, protocol=2)), r"more than plain tensors.*exec"),
        (archive(b"", pickle.dumps({"encoder_dict": Hostile()}, protocol=4)), "more than plain tensors"),
        (archive(b"", b"(S'touch harmed'\nios\nsystem\n."), r"more than plain tensors.*os system"),
        (archive(b"", b"\x80\x02\x82\x01."), "more than plain tensors"),
        (archive(b"", b"\x80\x02ctorch\nload\n."), r"more than plain tensors.*torch load"),
        (archive(b"", EMPTY_STATE, pickle.dumps(Hostile(), protocol=2)), "more than plain tensors"),
        (archive(b"", EMPTY_STATE[:-1]), "no checkpoint"),
        (archive(b"", b"no pickle"), "no checkpoint"),
        (archive(b"", EMPTY_STATE, compression=zipfile.ZIP_DEFLATED), "no checkpoint"),
        (archive(b"").replace(b"data.pkl", b"data.txt"), "no checkpoint"),
    ],
)
def test_an_archive_of_more_than_plain_tensors_does_not_take_the_place_of_a_good_model(
    checkpoint: Path, folder: Path, content: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_model(checkpoint, task="kits")
    monkeypatch.chdir(checkpoint.parent)
    evil = checkpoint.with_name("evil.pth")
    evil.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{reason}.*the models are as before\.$"):
        import_model(evil, task="kits")
    assert find_model("kits").read_bytes() == CONTENT
    assert sorted(p.name for p in folder.iterdir()) == ["kits.json", "kits.pth"]
    assert not (checkpoint.parent / "harmed").exists()


def test_an_archive_whose_directory_points_out_of_it_is_refused(checkpoint: Path) -> None:
    end = CONTENT.rindex(b"PK\5\6")
    checkpoint.write_bytes(CONTENT[: end + 12] + b"\xff\xff\xff\x7f" + CONTENT[end + 16 :])
    with pytest.raises(CheckpointError, match="no checkpoint"):
        import_model(checkpoint, task="kits")


def test_whatever_torch_saves_of_plain_tensors_is_imported(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is absent: no checkpoint can be saved")
    numbers = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.int64, torch.bool)
    layer = torch.nn.Linear(2, 3)
    contents = (
        {str(dtype): torch.ones(2, dtype=dtype) for dtype in numbers},
        layer.state_dict(),
        dict(layer.named_parameters()),
        {
            "epoch": 3,
            "shape": torch.Size([1]),
            "dtype": torch.float32,
            "lists": [layer.state_dict(), (1.5, None, True)],
        },
        {"optimizer": torch.optim.AdamW(layer.parameters()).state_dict()},
    )
    for content in contents:
        torch.save(content, tmp_path / "plain.pth")
        assert import_model(tmp_path / "plain.pth", task="kits").read_bytes() == (tmp_path / "plain.pth").read_bytes()


@pytest.mark.skipif(not GOLDEN.is_file(), reason="../shared/golden is absent")
def test_a_checkpoint_of_the_published_layout_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key of the full size, with one number for each: a file of 0.9 GB is not needed to read its pickle."""
    torch = pytest.importorskip("torch", reason="torch is absent: no checkpoint can be saved")
    specification = importlib.util.spec_from_file_location("make_checkpoint", GOLDEN)
    assert specification and specification.loader
    golden = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(golden)
    monkeypatch.setattr(golden, "fill", lambda prefix, key, shape: torch.zeros(1))
    monkeypatch.setattr(golden, "shift_mask", lambda: torch.zeros(1))
    torch.save(golden.checkpoint("A"), tmp_path / "A.pth.tar")
    assert import_model(tmp_path / "A.pth.tar", task="kits") == find_model("kits")


@pytest.mark.parametrize("header", [b"[]", b'{"x": 1}', b'{"x": {"data_offsets": "ab"}}', b"\xff", b"[" * 5000])
def test_a_file_that_only_looks_like_safetensors_is_refused(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "odd.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        import_model(tmp_path / "odd.safetensors")


def test_a_graph_comes_with_the_checkpoint_it_was_exported_from_and_goes_with_its_successor(
    tmp_path: Path, folder: Path
) -> None:
    file, graph = tmp_path / "mine.safetensors", tmp_path / "mine.onnx"
    file.write_bytes(safetensors(b"mine", architecture="compact"))
    named = b"...\x12\x10mine.safetensors...SHA-256 " + hashlib.sha256(file.read_bytes()).hexdigest().encode()
    graph.write_bytes(named)
    seen: list[bool] = []
    path = import_model(file, check=lambda staged: seen.append(staged.with_suffix(".onnx").is_file()))
    assert seen == [True]
    assert path.with_suffix(".onnx").read_bytes() == named
    for name in ("other", "ine"):
        other = import_model(file, name=name)
        assert not other.with_suffix(".onnx").exists(), "the graph looks for its weights in mine.safetensors"
    file.write_bytes(safetensors(b"next", architecture="compact"))
    import_model(file)
    assert not path.with_suffix(".onnx").exists(), "it belongs to the file before"
    assert sorted(p.name for p in folder.iterdir()) == ["ine.safetensors", "mine.safetensors", "other.safetensors"]


def test_import_of_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="There is no file"):
        import_model(tmp_path / "absent.safetensors")


def test_an_unreadable_file_is_refused_in_one_sentence(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path, mode: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ModelStoreError, match=r"best\.pth\.tar cannot be read \(Permission denied\)"):
        import_model(checkpoint, task="kits")


FROZEN = safetensors(b"frozen weights")
DIGEST = hashlib.sha256(FROZEN).hexdigest()


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A converted checkpoint, with the frozen weights that it stands on beside it."""
    path = tmp_path / "mine.safetensors"
    path.write_bytes(safetensors(b"adapter", architecture="sam-adapter", backbone_sha256=DIGEST))
    path.with_name(f"{DIGEST}.safetensors").write_bytes(FROZEN)
    return path


@pytest.mark.parametrize("kept", [None, FROZEN[:-1], FROZEN], ids=["none", "damaged", "whole"])
def test_frozen_weights_come_with_their_adapter_and_replace_damaged_ones(
    adapter: Path, folder: Path, kept: bytes | None
) -> None:
    folder.mkdir()
    if kept is not None:
        (folder / f"{DIGEST}.safetensors").write_bytes(kept)
    import_model(adapter)
    assert (folder / f"{DIGEST}.safetensors").read_bytes() == FROZEN


def test_an_adapter_beside_damaged_frozen_weights_is_refused_where_they_are_needed(adapter: Path, folder: Path) -> None:
    beside = adapter.with_name(f"{DIGEST}.safetensors")
    beside.write_bytes(FROZEN[:-1])
    with pytest.raises(CheckpointError, match=rf"{DIGEST}.*is damaged.*download it again"):
        import_model(adapter)
    assert not folder.exists()
    folder.mkdir()
    (folder / beside.name).write_bytes(FROZEN)
    assert import_model(adapter) == find_model("mine")
    assert (folder / beside.name).read_bytes() == FROZEN


@pytest.mark.parametrize("kept", [None, FROZEN], ids=["brought", "there"])
def test_a_checkpoint_is_checked_with_all_it_stands_on_before_it_is_taken(
    adapter: Path, folder: Path, kept: bytes | None
) -> None:
    if kept:
        adapter.with_name(f"{DIGEST}.safetensors").unlink()
        folder.mkdir()
        (folder / f"{DIGEST}.safetensors").write_bytes(kept)
    seen: list[dict[str, bytes]] = []

    def check(staged: Path) -> None:
        assert staged.name == "mine.safetensors" and "mine" not in [model.name for model in list_models()]
        seen.append({path.name: path.read_bytes() for path in staged.parent.iterdir()})

    assert import_model(adapter, check=check) == find_model("mine")
    assert seen == [{"mine.safetensors": adapter.read_bytes(), f"{DIGEST}.safetensors": FROZEN}]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == seen[0]


def test_frozen_weights_are_copied_to_be_checked_where_the_file_system_has_no_links(
    adapter: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_model(adapter)
    adapter.with_name(f"{DIGEST}.safetensors").unlink()
    monkeypatch.setattr(store.os, "link", lambda *names: full_disk(0))
    seen: list[str] = []
    import_model(adapter, check=lambda staged: seen.extend(path.name for path in staged.parent.iterdir()))
    assert f"{DIGEST}.safetensors" in seen


def test_a_model_whose_successor_fails_the_check_stays_and_the_users_own_file_is_named(
    adapter: Path, checkpoint: Path, folder: Path
) -> None:
    import_model(checkpoint, name="mine", task="lits")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def check(staged: Path) -> None:
        raise CheckpointError(f"{staged} is damaged, and {staged.parent} holds nothing better.")

    for file, task in ((adapter, None), (checkpoint, "kits")):
        with pytest.raises(CheckpointError, match=f"^{file} is damaged, and {folder} holds nothing better.$"):
            import_model(file, "mine", task, check)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_file_of_known_checksum_needs_no_check(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOGUE, "sam_vit_b", replace(SAM_VIT_B, sha256=hashlib.sha256(CONTENT).hexdigest()))
    import_model(checkpoint, check=lambda staged: pytest.fail("it was checked"))


def test_tensors_that_say_nothing_of_themselves_do_not_take_the_place_of_a_model(tmp_path: Path, adapter: Path) -> None:
    import_model(adapter)
    (tmp_path / "ones.safetensors").write_bytes(safetensors(b"ones"))
    with pytest.raises(CheckpointError, match=r"ones\.safetensors does not say which network it holds"):
        import_model(tmp_path / "ones.safetensors", name="mine")
    assert find_model("mine").read_bytes() == adapter.read_bytes()


def test_frozen_weights_are_imported_under_their_checksum_alone(tmp_path: Path, folder: Path) -> None:
    frozen = tmp_path / f"{DIGEST}.safetensors"
    frozen.write_bytes(FROZEN)
    import_model(frozen)
    with pytest.raises(CheckpointError, match="does not say which network"):
        import_model(frozen, name="mine")
    frozen.write_bytes(safetensors(b"other weights"))
    with pytest.raises(CheckpointError, match="not the frozen weights of that name"):
        import_model(frozen)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {frozen.name: FROZEN}


SAM_STATE = archive(b"", pickle.dumps({"image_encoder.pos_embed": 0, "mask_decoder.iou_token.weight": 0}, protocol=2))


@pytest.mark.parametrize("name", [None, "large"])
def test_sams_own_weights_of_any_size_need_no_task(tmp_path: Path, folder: Path, name: str | None) -> None:
    large = tmp_path / "sam_vit_l_0b3195.pth"
    large.write_bytes(SAM_STATE)
    assert import_model(large, name) == find_model(name or large.stem)
    assert [path.read_bytes() for path in folder.iterdir()] == [SAM_STATE]
    with pytest.raises(ModelStoreError, match="SAM's own weights, which know no tumour"):
        import_model(large, task="kits")


def test_sams_own_weights_come_to_the_check_of_a_model_that_stands_on_them(tmp_path: Path, folder: Path) -> None:
    large, adapter = tmp_path / "sam_vit_l_0b3195.pth", tmp_path / "mine.safetensors"
    large.write_bytes(SAM_STATE)
    standing_on = hashlib.sha256(SAM_STATE).hexdigest()
    adapter.write_bytes(safetensors(b"adapter", architecture="sam-adapter", backbone_sha256=standing_on))
    import_model(large)
    seen: list[str] = []
    import_model(adapter, check=lambda staged: seen.extend(path.name for path in staged.parent.iterdir()))
    assert sorted(seen) == [adapter.name, large.name]


def test_full_disk_during_import_keeps_the_earlier_model(
    checkpoint: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_model(checkpoint, task="kits")
    checkpoint.write_bytes(archive(b"newer"))
    monkeypatch.setattr(store.os, "fsync", full_disk)
    with pytest.raises(ModelStoreError, match="No space left"):
        import_model(checkpoint, task="kits")
    assert find_model("kits").read_bytes() == CONTENT
    assert sorted(p.name for p in folder.iterdir()) == ["kits.json", "kits.pth"]
