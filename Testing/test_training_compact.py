"""Training of the compact network: its samples, its simulated users, the whole run on a few small scans."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from SAM3DSegmentLib.intensity import CropStatistics
from SAM3DSegmentLib.network.checkpoint import load_network
from SAM3DSegmentLib.network.compact import CompactNetwork
from SAM3DSegmentLib.network.compact_predictor import CompactPredictor
from SAM3DSegmentLib.network.interface import CropClick
from SAM3DSegmentLib.specification import Specification
from Testing.reduced_network import ignore
from training.compact import samples, train
from training.compact.clicked_batch import ClickedBatch
from training.compact.sarcoma import load_cases
from training.configuration import Configuration

RECIPE = Path(__file__).resolve().parents[1] / "training" / "configs" / "compact.yaml"
PATIENTS = 7
EDGE = 40
SPACING = 3.0
SMALL = 16
SPECIFICATION = Specification("small", "1", "0" * 64, SMALL, (1.0,), CropStatistics(), signed=True, antialias=True)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One bright ball in texture for each patient, and a second modality for the first."""
    folder = tmp_path_factory.mktemp("scans")
    affine = np.diag([SPACING, SPACING, SPACING, 1])
    for n, name in enumerate([*(f"P_{n:03}_CT" for n in range(PATIENTS)), "P_000_MR"]):
        rng = np.random.default_rng(n)
        texture = gaussian_filter(rng.standard_normal((EDGE,) * 3), 2)
        centre = rng.uniform(15, 25, 3)
        ball = sum((axis - c) ** 2 for axis, c in zip(np.indices(texture.shape), centre, strict=True)) < 49
        image = 1000 * texture / texture.std() + 2000 * ball
        nibabel.Nifti1Image(image.astype(np.int16), affine).to_filename(folder / f"{name}_image.nii.gz")
        nibabel.Nifti1Image(ball.astype(np.uint8), affine).to_filename(folder / f"{name}_label.nii.gz")
    return folder


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Crops and networks that take a fraction of a second."""
    monkeypatch.setattr(samples, "EARLY_SIZE", SMALL)
    monkeypatch.setattr(samples, "CROP_SIZE", SMALL)
    monkeypatch.setattr(train, "VALIDATION_CROPS", 2)
    monkeypatch.setattr(train, "CompactNetwork", lambda: CompactNetwork((8, 16)))


def configuration(scans: Path, out: Path) -> Configuration:
    """Of six steps in two epochs."""
    changes = {"source": str(scans), "out": str(out), "epochs": 2, "samples_per_epoch": 6, "workers": 0}
    return Configuration.load(RECIPE, changes)


def rows(run: Configuration) -> list[dict[str, str]]:
    with (run.out / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_sample_is_drawn_by_its_seed_and_number(scans: Path, small: None) -> None:
    cases = load_cases(scans)
    drawn = [samples.Samples(cases, 40, seed=3)[n] for n in range(40)]
    again, other = samples.Samples(cases, 40, seed=3)[17], samples.Samples(cases, 40, seed=4)[17]
    assert torch.equal(drawn[17][0], again[0]) and torch.equal(drawn[17][1], again[1])
    assert not torch.equal(drawn[17][0], other[0])
    for image, target in drawn:
        assert image.shape == target.shape == (1, SMALL, SMALL, SMALL)
        assert target.any() and image.isfinite().all()


def test_scans_of_a_patient_stay_together(scans: Path) -> None:
    training, held_out = samples.split_by_patient(load_cases(scans), 2, train.SPLIT_SEED)
    assert len(training) + len(held_out) == PATIENTS + 1
    assert not {case.patient for case in training} & {case.patient for case in held_out}
    assert len({case.patient for case in held_out}) == 2


def test_users_click_into_the_target_and_then_correct_the_answer() -> None:
    target = torch.zeros(2, 1, SMALL, SMALL, SMALL, dtype=torch.bool)
    target[:, :, 4:10, 4:10, 4:10] = True
    batch = ClickedBatch(torch.zeros(target.shape), target, np.random.default_rng(0))
    batch.click(noisy_share=0)
    assert all(target[0, 0][user.positions[0]] and user.include == [True] for user in batch.users)
    batch.previous[0, 0, 4:10, 4:10, 4:10] = 1
    batch.previous[0, 0, 12:] = 1
    batch.previous[1, 0, 4:10] = -1
    batch.click(noisy_share=0)
    assert [user.include[1] for user in batch.users] == [False, True]
    assert batch.users[0].positions[1][0] >= 12


def test_a_first_click_in_the_middle_of_the_crop_is_made_only_where_the_target_is() -> None:
    target = torch.zeros(2, 1, SMALL, SMALL, SMALL, dtype=torch.bool)
    target[0, :, 6:14, 2:14, 6:14] = True
    target[1, :, 1:5, 1:5, 1:5] = True
    batch = ClickedBatch(torch.zeros(target.shape), target, np.random.default_rng(0))
    batch.click(noisy_share=0, middle_share=1)
    middle = (SMALL // 2,) * 3
    assert batch.users[0].positions == [middle] != batch.users[1].positions
    assert target[1, 0][batch.users[1].positions[0]]


def test_the_network_in_training_sees_the_previous_answers_that_the_product_makes() -> None:
    torch.manual_seed(0)
    network = CompactNetwork((8, 16)).eval()
    image = torch.from_numpy(gaussian_filter(np.random.default_rng(0).standard_normal((SMALL,) * 3), 2)).float()
    image /= image.std()
    target = (image > 0.5)[None, None]
    batch = ClickedBatch(image[None, None], target, np.random.default_rng(0))
    predictor = CompactPredictor(network, SPECIFICATION, torch.device("cpu"))
    answer = None
    for _ in range(3):
        batch.click(noisy_share=0)
        with torch.no_grad():
            batch.answer(network)
        user = batch.users[0]
        clicks = [CropClick(p, sign) for p, sign in zip(user.positions, user.include, strict=True)]
        answer = predictor.decode(predictor.encode(image, ignore), clicks, answer, ignore)
        assert torch.allclose(batch.previous[0, 0], answer, atol=1e-5)


def test_a_run_that_was_killed_and_resumed_gives_the_network_of_one_that_was_not(
    scans: Path, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = configuration(scans, tmp_path / "whole"), configuration(scans, tmp_path / "cut")
    train.run(whole)
    save = train.Trainer.save

    def save_and_die(trainer: train.Trainer) -> None:
        save(trainer)
        raise KeyboardInterrupt

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(train.Trainer, "save", save_and_die)
        train.run(cut)
    assert [row["step"] for row in rows(cut)] == ["3"]
    train.run(cut)
    assert rows(cut) == rows(whole) and [row["step"] for row in rows(whole)] == ["3", "6"]
    assert (cut.out / "compact.safetensors").read_bytes() == (whole.out / "compact.safetensors").read_bytes()


def test_the_engine_takes_what_a_run_saved(scans: Path, small: None, tmp_path: Path) -> None:
    run = configuration(scans, tmp_path / "run")
    train.run(run)
    network = load_network(run.out / "best.safetensors", torch.device("cpu"))
    assert network.specification.signed and network.specification.spacings == train.ZOOM_LEVELS
