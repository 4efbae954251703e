"""What the command's import refuses because it makes no network, and what it takes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is absent: no checkpoint can be made or loaded")

from SAM3DSegmentLib.cli import main  # noqa: E402
from SAM3DSegmentLib.interaction import packages  # noqa: E402
from SAM3DSegmentLib.interaction.model_check import check_loads  # noqa: E402
from SAM3DSegmentLib.network.convert import convert_published  # noqa: E402
from SAM3DSegmentLib.network.tensor_files import read_safetensors, write_safetensors  # noqa: E402
from Testing.reduced_network import SIZES, random_network, write_published  # noqa: E402

COMPACT = Path(__file__).resolve().parents[2] / "Resources" / "models" / "compact.safetensors"


def spoilt(path: Path) -> Path:
    """A compact checkpoint with a weight that is no number."""
    header, tensors = read_safetensors(COMPACT)
    tensors["head.bias"][0] = float("nan")
    write_safetensors(path, header, tensors)
    return path


def saved(path: Path, content: dict[str, Any]) -> Path:
    torch.save(content, path)
    return path


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """Converted, with its frozen weights beside it."""
    published = write_published(random_network(), tmp_path / "published.pth")
    return convert_published(published, "kits", tmp_path / "converted", SIZES)[0]


def imported(*arguments: object) -> int:
    return main(["models", "import", *map(str, arguments)])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_makes_no_network_is_refused_in_one_line_and_the_model_of_that_name_stays(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("mine", "kits", "lits"):
        assert imported(COMPACT, "--name", name) == 0
    before = contents(folder)
    write_safetensors(tmp_path / "ones.safetensors", {}, {"a": torch.ones(3)})
    published = {"encoder_dict": {"x": torch.ones(1)}, "feature_dict": [{}] * 4, "decoder_dict": {}}
    refused = (
        (tmp_path / "ones.safetensors", ["--name", "mine"], "which network"),
        (spoilt(tmp_path / "spoilt.safetensors"), ["--name", "mine"], "head.bias"),
        (saved(tmp_path / "odd.pth", published), ["--task", "kits"], "encoder_dict.x"),
        (saved(tmp_path / "other.pth", {"weight": torch.ones(1)}), ["--task", "lits"], "encoder_dict"),
    )
    for file, options, reason in refused:
        capsys.readouterr()
        assert imported(file, *options) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert str(file) in line and reason in line and ".import-" not in line
        assert contents(folder) == before


def test_an_adapter_is_taken_with_its_frozen_weights_and_refused_without(
    adapter: Path, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = Path(shutil.copy(adapter, tmp_path / "alone.safetensors"))
    assert imported(alone) == 2
    assert f"is not in {folder}" in capsys.readouterr().err
    assert imported(next(path for path in adapter.parent.iterdir() if path != adapter)) == 0
    assert imported(alone) == 0
    assert (folder / "alone.safetensors").read_bytes() == adapter.read_bytes()


def test_where_nothing_can_load_a_checkpoint_nothing_is_said_against_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = spoilt(tmp_path / "spoilt.safetensors")
    check_loads(file, ("no-such-command",))
    monkeypatch.setattr(packages, "missing_packages", lambda *_: ["torch"])
    check_loads(file)
