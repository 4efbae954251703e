"""Training of the adapter network: what is trained, simulated clicks, exact resume, checkpoints, several processes."""

from __future__ import annotations

import csv
import os
import resource
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from SAM3DSegmentLib.errors import ConfigurationError, ExportError
from SAM3DSegmentLib.evaluation.simulated_user import distance_inside
from SAM3DSegmentLib.intensity import FixedWindow
from SAM3DSegmentLib.models.header import backbone_of
from SAM3DSegmentLib.network.adapted_encoder import AdapterSizes
from SAM3DSegmentLib.network.backbone import is_frozen
from SAM3DSegmentLib.network.checkpoint import load_network
from SAM3DSegmentLib.network.interface import CropClick
from SAM3DSegmentLib.network.metadata import Metadata
from SAM3DSegmentLib.network.sam_adapter import SamAdapter
from SAM3DSegmentLib.network.tensor_files import read_safetensors
from training.adapters import prepare_to_train, trained_parameters
from training.clicking import CropUser
from training.configuration import AdapterKind, Configuration
from training.crops import Sample, TrainingCrops, validation_crop
from training.dataset import PreparedCase, PreparedDataset, Split
from training.export import BEST_FILE
from training.initial import initial_network
from training.processes import Processes, joined
from training.run_log import LOG_FILE
from training.run_state import STATE_FILE
from training.sessions import answer_of, ignore
from training.trainer import Trainer

ALONE = Processes(0, 1, torch.device("cpu"))
SIDE, RADIUS = 24, 5
SPLITS: tuple[Split, ...] = ("train", "train", "train", "validation")
STORED_TOLERANCE = 2e-2
"""Logits of weights in half precision differ from those of the same in single precision by less."""


def write_case(folder: Path, number: int, split: Split) -> PreparedCase:
    """A ball of 60 HU in noise around 0 HU."""
    rng = np.random.default_rng(number)
    centre = rng.integers(RADIUS + 1, SIDE - RADIUS - 1, 3)
    mask = sum((axis - c) ** 2 for axis, c in zip(np.ogrid[:SIDE, :SIDE, :SIDE], centre, strict=True)) < RADIUS**2
    image = (rng.normal(0, 10, mask.shape) + 60 * mask).astype(np.int16)
    name = f"case{number}"
    np.save(folder / f"{name}.image.npy", image)
    np.save(folder / f"{name}.mask.npy", mask.astype(np.uint8))
    low, high = (tuple(int(v) for v in f(np.argwhere(mask), 0)) for f in (np.min, np.max))
    return PreparedCase(name, name, split, image.shape, int(mask.sum()), low, tuple(v + 1 for v in high), folder)


@pytest.fixture
def dataset(tmp_path: Path) -> PreparedDataset:
    """Three cases to train on and one for validation."""
    folder = tmp_path / "data"
    folder.mkdir()
    cases = tuple(write_case(folder, number, split) for number, split in enumerate(SPLITS))
    return PreparedDataset(folder, "balls", 1.0, FixedWindow(-50, 150, 60, 10), cases)


@pytest.fixture
def configuration(dataset: PreparedDataset, tmp_path: Path) -> Configuration:
    """Of a network that takes a fraction of a second for a step."""
    sizes = {"width": 48, "depth": 4, "heads": 3, "window": 4, "channels": 16}
    return Configuration(
        "balls",
        "balls",
        dataset.folder,
        tmp_path / "run",
        crop_size=16,
        sizes=sizes,
        epochs=3,
        validation_every=1,
        clicks_per_sample=2,
        learning_rate=1e-3,
        activation_checkpointing=False,
        workers=0,
    )


def rows(configuration: Configuration) -> list[dict[str, str]]:
    with (configuration.out / LOG_FILE).open(newline="") as file:
        return list(csv.DictReader(file))


def copies(network: SamAdapter) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in network.named_parameters()}


def batch(trainer: Trainer) -> list[Sample]:
    crops = TrainingCrops(trainer.dataset.of_split("train"), trainer.dataset.intensity, 16, 0)
    return [crops[0]]


def gradients(trainer: Trainer, samples: list[Sample]) -> dict[str, Tensor]:
    trainer.gradients_of(samples)
    parameters = trainer.network.named_parameters()
    return {key: value.grad.clone() for key, value in parameters if value.grad is not None}


def test_the_papers_kind_trains_as_many_numbers_as_the_paper_says() -> None:
    with torch.device("meta"):
        network = SamAdapter(AdapterSizes())
        network.add_additions()
    prepare_to_train(network, "spatial")
    assert trained_parameters(network)[0] / 1e6 == pytest.approx(25.46, abs=0.005)


@pytest.mark.parametrize("kind", get_args(AdapterKind))
def test_training_changes_what_the_kind_names_and_leaves_all_else_bit_identical(
    kind: AdapterKind, configuration: Configuration, dataset: PreparedDataset
) -> None:
    trainer = Trainer(replace(configuration, adapter=kind), dataset, ALONE)
    before = copies(trainer.network)
    for _ in range(2):
        trainer.train(batch(trainer))
    after = dict(trainer.network.named_parameters())
    changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
    of_sam = {key for key in changed if is_frozen(key)}
    if kind == "full":
        assert "encoder.blocks.0.mlp.lin1.weight" in of_sam and "encoder.patch_embed.proj.weight" in of_sam
    elif kind == "bias":
        assert of_sam and all(key.endswith(".bias") for key in of_sam)
    else:
        assert not of_sam
    assert not any(key.endswith((".lr", "weight.original")) for key in changed)
    expected = {"lora": "parametrizations.weight.0.b", "bias": ".norm1.bias", "full": ".norm1.bias"}
    assert any(expected.get(kind, ".adapter.linear2.weight") in key for key in changed)
    assert "decoder.cls.0.weight" in changed and "additions.head.out.weight" in changed


def test_a_run_that_was_killed_and_resumed_gives_the_log_of_one_that_was_not(
    configuration: Configuration, dataset: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = replace(configuration, out=tmp_path / "whole")
    Trainer(whole, dataset, ALONE).run()
    train = Trainer.train

    def killed(self: Trainer, samples: list[Sample]) -> float:
        if self.step == 5:
            raise KeyboardInterrupt
        return train(self, samples)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "train", killed)
        Trainer(configuration, dataset, ALONE).run()
    assert len(rows(configuration)) == 2
    Trainer(configuration, dataset, ALONE).run()
    assert rows(configuration) == rows(whole)
    assert len(rows(whole)) == 4
    assert (configuration.out / BEST_FILE).read_bytes() == (whole.out / BEST_FILE).read_bytes()


@pytest.mark.parametrize(
    ("kind", "prompt"), [("spatial", "clicks"), ("st", "clicks"), ("lora", "clicks"), ("full", "automatic")]
)
def test_the_engine_answers_with_the_best_checkpoint_as_the_network_in_training_does(
    kind: AdapterKind, prompt: str, configuration: Configuration, dataset: PreparedDataset
) -> None:
    run = replace(configuration, adapter=kind, prompt=prompt, epochs=1, precision="fp32")
    trainer = Trainer(run, dataset, ALONE)
    trainer.run()
    trainer.save_best({"validation_dice_1": 0.5})
    network = load_network(run.out / BEST_FILE, torch.device("cpu"))
    assert network.specification.intensity == dataset.intensity
    sample = validation_crop(dataset.of_split("validation")[0], 0, dataset.intensity, 16)
    click = CropClick((8.0, 8.0, 8.0), True)
    answer = network.decode(network.encode(sample.image, ignore), [click], None, ignore)
    points, include = torch.tensor([click.position]), torch.tensor([True])
    with torch.no_grad():
        encoding = trainer.network.encode(sample.image, 1, ignore)
        expected = answer_of(trainer.network.decode(encoding, points, include, None))
    assert (answer - expected).abs().max() < STORED_TOLERANCE


def test_a_run_on_random_frozen_weights_says_so(
    configuration: Configuration, dataset: PreparedDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    Trainer(replace(configuration, epochs=0), dataset, ALONE).run()
    assert "frozen weights are random" in capsys.readouterr().out


def test_the_automatic_variant_does_not_look_at_clicks(configuration: Configuration) -> None:
    network = initial_network(replace(configuration, prompt="automatic"))
    with torch.no_grad():
        encoding = network.encode(torch.randn(16, 16, 16), 1, ignore)
        nowhere = network.decode(encoding, torch.empty(0, 3), torch.empty(0, dtype=torch.bool), None)
        somewhere = network.decode(encoding, torch.ones(1, 3), torch.ones(1, dtype=torch.bool), None)
    assert torch.equal(nowhere, somewhere)


def test_a_better_validation_leaves_an_exported_model_its_frozen_weights(
    configuration: Configuration, dataset: PreparedDataset
) -> None:
    trainer = Trainer(replace(configuration, adapter="full"), dataset, ALONE)
    best = trainer.configuration.out / BEST_FILE
    stands_on = []
    for name in ("exported", None, None):
        trainer.train(batch(trainer))
        trainer.save_best({"validation_dice_1": 0.5})
        stands_on.append(trainer.configuration.out / f"{backbone_of(best)}.safetensors")
        if name:
            shutil.copy(best, best.with_stem(name))
    assert [path.is_file() for path in stands_on] == [True, False, True]


def test_a_run_is_not_resumed_with_another_configuration(
    configuration: Configuration, dataset: PreparedDataset
) -> None:
    Trainer(replace(configuration, epochs=1), dataset, ALONE).run()
    with pytest.raises(ConfigurationError, match=r"holds a run with epochs: 1, this one has epochs: 2"):
        Trainer(replace(configuration, epochs=2), dataset, ALONE)
    Trainer(replace(configuration, epochs=1, workers=1), dataset, ALONE)
    moved = replace(dataset, cases=(*dataset.cases[:-1], replace(dataset.cases[-1], patient="another")))
    with pytest.raises(ConfigurationError, match="holds a run with cases: "):
        Trainer(replace(configuration, epochs=1), moved, ALONE)


def test_the_checkpoint_says_what_it_learned_from_and_whose_scans_they_are(
    configuration: Configuration, dataset: PreparedDataset
) -> None:
    told = {"version": 4, "credit": "Balls of Testing (CC0)", "licence": "CC0"}
    for changes, said in ((told, "; Balls of Testing (CC0)"), ({}, "")):
        run = replace(configuration, out=configuration.out / said[2:7], **changes)
        Trainer(run, dataset, ALONE).save_best({})
        described = Metadata.from_header(read_safetensors(run.out / BEST_FILE)[0], "best")
        assert described.training_data == f"3 scans of 3 patients, 0 steps{said}"
        assert (described.version, described.licence) == (("4", "CC0") if said else ("1", ""))


def test_a_run_of_the_adapter_goes_on_wherever_the_scans_lay_that_were_prepared(
    configuration: Configuration, dataset: PreparedDataset
) -> None:
    Trainer(replace(configuration, epochs=1, source=Path("here")), dataset, ALONE).run()
    Trainer(replace(configuration, epochs=1, source=Path("there")), dataset, ALONE)


def test_a_full_disk_during_a_checkpoint_leaves_the_earlier_ones(
    configuration: Configuration, dataset: PreparedDataset
) -> None:
    Trainer(replace(configuration, epochs=1), dataset, ALONE).run()
    folder = configuration.out
    before = {name: (folder / name).read_bytes() for name in (STATE_FILE, BEST_FILE)}
    trainer = Trainer(replace(configuration, epochs=1), dataset, ALONE)
    for save in (lambda: trainer.save_best({"dice": 1.0}), trainer.save_state):
        with pytest.raises(ExportError, match="free space or choose another folder"):
            on_a_full_disk(save)
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def on_a_full_disk(write: Callable[[], None]) -> None:
    """Run it where no file can grow beyond 4 kB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_recomputed_activations_give_the_same_gradients(configuration: Configuration, dataset: PreparedDataset) -> None:
    kept = Trainer(configuration, dataset, ALONE)
    recomputed = Trainer(replace(configuration, activation_checkpointing=True), dataset, ALONE)
    expected, found = (gradients(trainer, batch(trainer)) for trainer in (kept, recomputed))
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[key], expected[key], rtol=1e-4, atol=1e-7) for key in expected)


def gradients_of_process(rank: int, port: int, configuration: Configuration) -> None:
    """One of two processes: write the gradients of its half of the batch."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dataset = PreparedDataset.load(configuration.data)
    with joined() as processes:
        trainer = Trainer(configuration, dataset, processes)
        found = gradients(trainer, next(iter(trainer.batches())))
        torch.save(found, configuration.out / f"gradients{rank}.pt")


def test_two_processes_have_the_gradients_of_one_with_the_same_batch(
    configuration: Configuration, dataset: PreparedDataset, tmp_path: Path
) -> None:
    dataset.save()
    configuration = replace(configuration, precision="fp32")
    alone = Trainer(replace(configuration, batch_size=2, out=tmp_path / "alone"), dataset, ALONE)
    expected = gradients(alone, next(iter(alone.batches())))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(gradients_of_process, (port, configuration), nprocs=2)
    for rank in range(2):
        found = torch.load(configuration.out / f"gradients{rank}.pt", weights_only=True)
        for key, value in expected.items():
            assert torch.allclose(found[key], value, rtol=1e-3, atol=1e-6), key


def test_a_user_clicks_into_the_target_and_then_into_the_largest_error() -> None:
    target = np.zeros((16, 16, 16), bool)
    target[2:9, 2:9, 2:9] = True
    user = CropUser(target, np.random.default_rng(0))
    user.click(None, 0)
    assert user.include == [True]
    assert distance_inside(target, (1, 1, 1))[user.positions[0]] == 4
    surplus = np.zeros_like(target)
    surplus[10:16] = True
    user.click(target | surplus, 0)
    assert user.include == [True, False] and surplus[user.positions[1]]
    user.click(target, 0)
    assert len(user.positions) == 2


def test_a_sample_is_drawn_by_its_number_and_holds_some_of_the_target(dataset: PreparedDataset) -> None:
    crops, again = (TrainingCrops(dataset.of_split("train"), dataset.intensity, 16, seed=3) for _ in range(2))
    samples = [crops[number] for number in range(6)]
    for sample in reversed(samples):
        twin = again[sample.number]
        assert torch.equal(twin.image, sample.image) and torch.equal(twin.target, sample.target)
        assert sample.target.any() and sample.image.shape == (16, 16, 16)
        brightness = sample.image[sample.target].mean() - sample.image[~sample.target].mean()
        assert brightness > 2
    assert not torch.equal(samples[0].image, samples[3].image)
