"""Export of a trained model: its description and figures, and its way into the list of models."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from SAM3DSegmentLib.evaluation.statistics import ALL, Interval, Score, Summary
from SAM3DSegmentLib.intensity import FixedWindow
from SAM3DSegmentLib.models.store import FOLDER_VARIABLE, delete_model, find_model, import_model, list_models, sha256_of
from SAM3DSegmentLib.network.adapter_checkpoint import save_adapter, save_backbone
from SAM3DSegmentLib.network.checkpoint import load_network
from SAM3DSegmentLib.network.compact import CompactNetwork
from SAM3DSegmentLib.network.compact_predictor import save_compact
from SAM3DSegmentLib.network.metadata import METADATA_KEY, Metadata
from SAM3DSegmentLib.network.tensor_files import read_safetensors, write_safetensors
from Testing.reduced_network import random_network
from training.__main__ import main
from training.export import BEST_FILE

TRAINED = Metadata("run", "0", "?", FixedWindow(-54, 247, 60, 55), (1.0,), signed=True, antialias=True, licence="none")


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """Of an adapter's training: the best checkpoint and its backbone."""
    folder = tmp_path / "run"
    network = random_network()
    save_adapter(network, TRAINED, save_backbone(network, folder).stem, folder / BEST_FILE)
    return folder


def export(run_folder: Path, *options: str) -> int:
    config = ["--config", "training/configs/kits.yaml", "--set", f"out={run_folder}"]
    return main(["export", *config, *options])


def summary(method: str, group: str = ALL, user: str = "centre") -> dict[str, Any]:
    half = Interval(0.51239, 0.4, 0.6)
    scores = (Score(1, half, (half, half)), Score(3, half, (half, half)))
    return asdict(Summary(group, method, user, 1, 1, 1, scores, (), None, None, 0.1, None, None, None))


def write_figures(path: Path, sha256: str) -> Path:
    methods = [summary("run"), summary("run", group="tumours"), summary("run", user="noisy"), summary("random walker")]
    path.write_text(json.dumps({"model": "run", "sha256": sha256, "methods": methods}))
    return path


def described(path: Path) -> Metadata:
    return Metadata.from_header(read_safetensors(path)[0], str(path))


def test_exported_model_says_what_it_is_and_answers_as_the_checkpoint(run_folder: Path, tmp_path: Path) -> None:
    figures = write_figures(tmp_path / "summary.json", sha256_of(run_folder / BEST_FILE))
    told = ["--licence", "CC BY 4.0", "--training-data", "KiTS23", "--version", "2", "--figures", str(figures)]
    assert export(run_folder, *told) == 0
    out = run_folder / "kits-tumour.safetensors"
    metadata = described(out)
    assert (metadata.name, metadata.version, metadata.task) == ("kits-tumour", "2", "kidney tumour in CT")
    assert (metadata.licence, metadata.training_data) == ("CC BY 4.0", "KiTS23")
    assert (metadata.intensity, metadata.spacings) == (TRAINED.intensity, TRAINED.spacings)
    assert metadata.metrics["centre_dice_1"] == metadata.metrics["noisy_nsd_5mm_3"] == 0.5124
    assert len(metadata.metrics) == 2 * 2 * 3
    before, after = read_safetensors(run_folder / BEST_FILE)[1], read_safetensors(out)[1]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_what_is_not_told_stays_as_training_wrote_it(run_folder: Path) -> None:
    assert export(run_folder) == 0
    metadata = described(run_folder / "kits-tumour.safetensors")
    assert (metadata.licence, metadata.version) == ("none", "0")


@pytest.mark.parametrize("dropped", [False, True])
def test_exported_model_is_a_model_of_the_product_once_it_is_imported_or_dropped(
    run_folder: Path, models: Path, tmp_path: Path, dropped: bool
) -> None:
    assert export(run_folder, "--out", str((models if dropped else tmp_path / "export") / "ours.safetensors")) == 0
    if not dropped:
        import_model(tmp_path / "export" / "ours.safetensors")
    assert "ours" in [model.name for model in list_models()]
    assert len([model for model in list_models() if not model.bundled]) == 1
    network = load_network(find_model("ours"), torch.device("cpu"))
    assert network.specification.name == "ours"


def test_backbone_stays_as_long_as_a_model_stands_on_it(run_folder: Path, models: Path) -> None:
    for name in ("ours", "theirs"):
        assert export(run_folder, "--out", str(models / f"{name}.safetensors")) == 0
    delete_model("ours")
    load_network(find_model("theirs"), torch.device("cpu"))
    delete_model("theirs")
    assert not list(models.iterdir())


def test_backbone_that_a_hostile_header_names_by_a_path_is_not_deleted(models: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.safetensors"
    outside.write_bytes(b"precious")
    header = {METADATA_KEY: json.dumps({"backbone_sha256": "../outside"})}
    write_safetensors(models / "hostile.safetensors", header, {"x": torch.zeros(1)})
    delete_model("hostile")
    assert outside.read_bytes() == b"precious"


def test_compact_network_is_exported_without_a_backbone(tmp_path: Path, models: Path) -> None:
    save_compact(CompactNetwork((8, 16), (1, 2)), TRAINED, tmp_path / BEST_FILE)
    assert export(tmp_path, "--out", str(models / "lumps.safetensors")) == 0
    assert [path.name for path in models.iterdir()] == ["lumps.safetensors"]


def test_missing_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(tmp_path) == 2
    assert f"There is no checkpoint {tmp_path / BEST_FILE}: train first" in capsys.readouterr().err


def test_figures_of_another_model_are_refused(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = write_figures(tmp_path / "summary.json", "0" * 64)
    assert export(run_folder, "--figures", str(figures)) == 2
    assert "evaluate this checkpoint first" in capsys.readouterr().err
    assert not (run_folder / "kits-tumour.safetensors").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"model": "run", "sha256": "0", "methods": [{"scores": []}]}'])
def test_damaged_figures_are_refused(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (tmp_path / "summary.json").write_text(content)
    assert export(run_folder, "--figures", str(tmp_path / "summary.json")) == 2
    assert "summary.json holds no figures" in capsys.readouterr().err


def test_checkpoint_without_its_backbone_is_refused_and_nothing_is_written(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in run_folder.glob("*.safetensors"):
        if path.name != BEST_FILE:
            path.unlink()
    assert export(run_folder) == 2
    assert "The backbone with SHA-256" in capsys.readouterr().err
    assert [path.name for path in run_folder.iterdir()] == [BEST_FILE]
