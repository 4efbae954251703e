"""Training configurations: read with every key and value checked, and each fault named."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import yaml

from SAM3DSegmentLib.errors import ConfigurationError
from SAM3DSegmentLib.network.adapted_encoder import AdapterSizes
from training.__main__ import main
from training.configuration import Configuration, from_options

SHIPPED = sorted(Path("training/configs").glob("*.yaml"))
LEAST = {"name": "test", "task": "lumps", "data": "runs/data", "out": "runs/test"}


def write(tmp_path: Path, **values: Any) -> Path:
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump({**LEAST, **values}))
    return path


@pytest.mark.parametrize("file", SHIPPED, ids=[file.stem for file in SHIPPED])
def test_shipped_configuration_is_valid(file: Path) -> None:
    assert Configuration.load(file).out == Path("runs") / file.stem


def test_defaults_are_the_papers_recipe(tmp_path: Path) -> None:
    c = Configuration.load(write(tmp_path))
    assert (c.epochs, c.learning_rate, c.weight_decay, c.gradient_clip) == (500, 4e-4, 0, 1)
    assert (c.spacing, c.crop_size, c.adapter) == (1, 128, "spatial")
    assert c.adapter_sizes == AdapterSizes()


def test_values_are_read_as_the_kind_that_the_field_has(tmp_path: Path) -> None:
    path = write(tmp_path, label=2, learning_rate="4e-4", spacing=2, backbone=None, samples_per_epoch=3)
    c = Configuration.load(path)
    assert (c.label, c.learning_rate, c.spacing, c.backbone, c.samples_per_epoch) == ((2,), 4e-4, 2.0, None, 3)
    assert c.data == Path("runs/data")


def test_written_values_give_the_same_configuration(tmp_path: Path) -> None:
    c = Configuration.load(write(tmp_path, label=[1, 2], sizes={"width": 96, "heads": 6, "channels": 32}))
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(c.to_json()))
    assert Configuration.load(tmp_path / "again.yaml") == c


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"epoch": 5}, "the key 'epoch', .*did you mean 'epochs'"),
        ({"zzz": 5}, "the key 'zzz', .*known are name, task"),
        ({"epochs": "many"}, "epochs: many .* is not a whole number"),
        ({"epochs": True}, "epochs: True .* is not a whole number"),
        ({"epochs": 0}, "epochs: 0 .* must be above 0"),
        ({"learning_rate": "fast"}, "learning_rate: fast .* is not a number"),
        ({"learning_rate": float("nan")}, "learning_rate: nan .* must be above 0"),
        ({"activation_checkpointing": "perhaps"}, "activation_checkpointing: perhaps .* is not true or false"),
        ({"data": 5}, "data: 5 .* is not the path of a file or folder"),
        ({"adapter": "spacial"}, "adapter: spacial .* one of spatial, bottleneck, st, lora, bias, full"),
        ({"seed": -1}, "seed: -1 .* must not be negative"),
        ({"samples_per_epoch": 0}, "samples_per_epoch: 0 .* must be above 0"),
        ({"label": []}, "label: .* must be whole numbers above 0"),
        ({"label": 2, "known_labels": [1]}, "known_labels: .* must hold the values of label"),
        ({"validation_share": 0.5, "test_share": 0.5}, "test_share: 0.5 .* must leave patients"),
        ({"name": "my model"}, "name: my model .* must consist of letters"),
        ({"test_share": 2}, "test_share: 2.0 .* must leave patients"),
        ({"crop_size": 100}, "sizes: .* make no network with crop_size: 100"),
        ({"sizes": {"depth": 3}}, "sizes: .* make no network"),
        ({"sizes": {"crop": 64}}, "sizes: .* may name width, depth, heads, window, channels only"),
        ({"sizes": 5}, "sizes: 5 .* is no list"),
        ({"version": 0}, "version: 0 .* must be above 0"),
        ({"network": "compact"}, "crop_size: 128 .* must be 64 for the compact network"),
        ({"network": "compact", "crop_size": 64, "layout": "csv"}, "layout: csv .* must be pairs for the compact"),
    ],
)
def test_fault_is_named_with_its_key_and_file(tmp_path: Path, values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as raised:
        Configuration.load(write(tmp_path, **values))
    assert "test.yaml" in str(raised.value)


def test_text_can_be_left_empty_on_the_command_line(tmp_path: Path) -> None:
    path = write(tmp_path, credit="Somebody (CC BY 4.0)")
    options = argparse.Namespace(config=path, changes=["credit="])
    assert Configuration.load(path).credit == "Somebody (CC BY 4.0)"
    assert from_options(options).credit == ""


def test_missing_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "test.yaml").write_text("name: test\ntask: lumps\n")
    with pytest.raises(ConfigurationError, match="no 'data'"):
        Configuration.load(tmp_path / "test.yaml")


@pytest.mark.parametrize("text", ["a: [", "just words", "", "\x00"])
def test_file_that_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "test.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"test\.yaml"):
        Configuration.load(tmp_path / "test.yaml")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config", "nowhere.yaml"], "nowhere.yaml cannot be read"),
        (["--config", "training/configs/kits.yaml", "--set", "epochs"], "write KEY=VALUE"),
        (["--config", "training/configs/kits.yaml", "--set", "epochs=["], "cannot be read"),
        (["--config", "training/configs/kits.yaml", "--set", "epoch=5"], "did you mean 'epochs'"),
        (["--config", "training/configs/kits.yaml"], "--set source=FOLDER"),
    ],
)
def test_command_answers_a_fault_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["prepare", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("python -m training prepare: ")
    assert said in error
    assert error.count("\n") == 1
