"""Training of the compact network: its samples, its simulated users, the whole run on a few small scans."""

from __future__ import annotations

import csv
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter

from SAM3DSegmentLib.errors import CaseError, CheckpointError, ConfigurationError
from SAM3DSegmentLib.intensity import CropStatistics
from SAM3DSegmentLib.network.checkpoint import load_network
from SAM3DSegmentLib.network.compact import CompactNetwork
from SAM3DSegmentLib.network.compact_predictor import CompactPredictor, save_compact
from SAM3DSegmentLib.network.interface import CropClick
from SAM3DSegmentLib.network.metadata import Metadata
from SAM3DSegmentLib.specification import Specification
from Testing.reduced_network import ignore
from Testing.source_scans import label_map, write_balls, write_pair
from training.clicking import SLIP, CropUser
from training.compact import samples, train
from training.compact.clicked_batch import ClickedBatch
from training.compact.norm import FastGroupNorm, make_norms_fast
from training.compact.optimizer import MuonAndAdamW
from training.compact.sarcoma import Case, cut, load_case, random_bend
from training.compact.synthetic import motion_blur, tubes
from training.configuration import Configuration
from training.layouts import SourceCase, find_cases
from training.processes import Processes

RECIPE = Path(__file__).resolve().parents[1] / "training" / "configs" / "compact.yaml"
ALONE = Processes(0, 1, torch.device("cpu"))
PATIENTS = 7
SMALL = 16
SPECIFICATION = Specification("small", "1", "0" * 64, SMALL, (1.0,), CropStatistics(), signed=True, antialias=True)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_balls(tmp_path_factory.mktemp("scans"), PATIENTS)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Crops and networks that take a fraction of a second."""
    monkeypatch.setattr(samples, "EARLY_SIZE", SMALL)
    monkeypatch.setattr(samples, "CROP_SIZE", SMALL)
    monkeypatch.setattr(train, "VALIDATION_CROPS", 2)
    monkeypatch.setattr(train, "CompactNetwork", lambda: CompactNetwork((8, 16), (1, 2)))


def configuration(scans: Path, out: Path, **changes: Any) -> Configuration:
    """Of six steps in two epochs."""
    steps = {"epochs": 2, "samples_per_epoch": 6, "batch_size": 2, "validation_every": 1}
    return Configuration.load(RECIPE, {"source": str(scans), "out": str(out), "workers": 0, **steps, **changes})


def loaded(run: Configuration) -> list[Case]:
    return [load_case(case, run) for case in find_cases("pairs", run.source)]


def rows(run: Configuration) -> list[dict[str, str]]:
    with (run.out / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_sample_is_drawn_by_its_seed_and_number(scans: Path, small: None, tmp_path: Path) -> None:
    cases = loaded(configuration(scans, tmp_path))
    drawn = [samples.Samples(cases, 20, 2, seed=3)[n] for n in range(40)]
    again, other = (samples.Samples(cases, 20, 2, seed=seed)[17] for seed in (3, 4))
    assert torch.equal(drawn[17][0], again[0]) and torch.equal(drawn[17][1], again[1])
    assert not torch.equal(drawn[17][0], other[0])
    for image, target in drawn:
        assert image.shape == target.shape == (1, SMALL, SMALL, SMALL)
        assert target.any() and image.isfinite().all()


@pytest.mark.parametrize("together", [6, 12, 16])
def test_the_crops_of_a_step_have_one_size(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr(samples, "EARLY_SIZE", SMALL)
    monkeypatch.setattr(samples, "CROP_SIZE", 2 * SMALL)
    drawn = samples.Samples(loaded(configuration(scans, tmp_path)), 7, together, seed=0)
    sizes = [{drawn[step * together + n][0].shape[-1] for n in range(together)} for step in range(7)]
    assert sizes == 5 * [{SMALL}] + 2 * [{2 * SMALL}]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_crop_coarser_than_its_scan_shows_what_lies_where_it_was_asked_for(axis: int) -> None:
    shape, centre = (41, 43, 46), np.array([20.3, 21.9, 22.2])
    ramp = torch.from_numpy(np.indices(shape)[axis].astype(np.float32))
    case = Case("ramp", ramp, torch.ones(shape, dtype=torch.bool), ramp, (1.0, 1.0, 1.0))
    image, *_ = cut(case, centre, 4.0, np.eye(3), 6)
    asked = centre[axis] + 4 * (np.arange(6) - 2.5)
    assert np.abs(np.moveaxis(image.numpy(), axis, -1) - asked).max() < 1e-3


def test_an_elastic_deformation_moves_image_and_mask_alike() -> None:
    texture = gaussian_filter(np.random.default_rng(0).standard_normal((40,) * 3), 4).astype(np.float32)
    image = torch.from_numpy(texture / texture.std())
    case = Case("lumps", image, image > 0.3, image, (1.0, 1.0, 1.0))
    bends = (random_bend(24, np.random.default_rng(seed)) for seed in range(99))
    bend = next(bend for bend in bends if bend is not None)
    straight, *_ = cut(case, np.full(3, 19.5), 1.0, np.eye(3), 24)
    bent, mask, inside = cut(case, np.full(3, 19.5), 1.0, np.eye(3), 24, bend)
    assert (bent - straight).abs().max() > 0.2
    assert ((bent > 0.3) == mask)[inside].float().mean() > 0.97


def test_motion_smears_along_one_axis() -> None:
    image = torch.zeros(16, 16, 16)
    image[8, 8, 8] = 1
    smeared = motion_blur(image, np.random.default_rng(0))
    widths = [int((smeared.sum([a for a in range(3) if a != axis]) > 1e-6).sum()) for axis in range(3)]
    assert sorted(widths)[:2] == [1, 1] and max(widths) > 2
    assert smeared.sum() == pytest.approx(1)


def test_a_vessel_passes_through_the_voxel_that_is_asked_for() -> None:
    for seed in range(10):
        vessel = tubes((24, 24, 24), np.random.default_rng(seed), through=(9, 12, 15))
        assert vessel[9, 12, 15] and vessel.float().mean() < 0.3


def test_scans_of_a_patient_stay_together(scans: Path) -> None:
    training, held_out = samples.split_by_patient(find_cases("pairs", scans), 2, train.SPLIT_SEED)
    assert len(training) + len(held_out) == PATIENTS + 1
    assert not {case.patient for case in training} & {case.patient for case in held_out}
    assert len({case.patient for case in held_out}) == 2


def test_a_patient_whose_name_has_one_part_is_one_patient(tmp_path: Path) -> None:
    names = [f"{n:03}_{modality}" for n in range(6) for modality in ("CT", "MR_T1")]
    for name in names:
        (tmp_path / f"{name}_image.nii.gz").touch()
    training, held_out = samples.split_by_patient(find_cases("pairs", tmp_path), 5, train.SPLIT_SEED)
    assert [len(training), len(held_out)] == [2, 10]
    assert {case.name[:3] for case in training}.isdisjoint({case.name[:3] for case in held_out})


def test_the_tumour_is_what_the_configuration_labels(tmp_path: Path) -> None:
    write_pair(tmp_path, "P_1_CT", value=2)
    (case,) = loaded(configuration(tmp_path, tmp_path / "run", label=2))
    assert case.mask.sum() == (label_map() > 0).sum()
    with pytest.raises(CaseError, match=r"P_1_CT cannot be trained on: .* no voxel of label 1"):
        loaded(configuration(tmp_path, tmp_path / "run"))


def test_scans_that_cannot_be_trained_on_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--set source=FOLDER"):
        train.run(configuration(tmp_path, tmp_path / "run", source=None))
    with pytest.raises(CaseError, match=r"There is no .*nowhere"):
        train.run(configuration(tmp_path / "nowhere", tmp_path / "run"))
    with pytest.raises(CaseError, match=r"NAME_image\.nii\.gz and NAME_label.nii.gz"):
        train.run(configuration(tmp_path, tmp_path / "run"))
    for n in range(train.VALIDATION_PATIENTS):
        write_pair(tmp_path, f"P_{n}_CT")
    with pytest.raises(CaseError, match="5 patients are held out for validation and the scans are of 5"):
        train.run(configuration(tmp_path, tmp_path / "run"))
    write_pair(tmp_path, "P_9_CT")
    (tmp_path / "P_9_CT_label.nii.gz").write_bytes(b"")
    with pytest.raises(CaseError, match=r"P_9_CT cannot be trained on: .*P_9_CT_label.nii.gz"):
        train.run(configuration(tmp_path, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_damaged_or_foreign_checkpoint_to_start_from_is_refused(scans: Path, small: None, tmp_path: Path) -> None:
    file = tmp_path / "start.safetensors"
    run = configuration(scans, tmp_path / "run", backbone=str(file))
    described = Metadata("wide", "1", "?", CropStatistics(), (1.0,), signed=True, antialias=True)
    with pytest.raises(CheckpointError, match=r"start\.safetensors"):
        train.run(run)
    save_compact(CompactNetwork((8, 16), (1, 2)), described, file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        train.run(run)
    save_file({"x": torch.zeros(1)}, file)
    with pytest.raises(CheckpointError, match="no SAM3DSegment checkpoint"):
        train.run(run)
    save_compact(CompactNetwork((16, 32), (1, 2)), described, file)
    with pytest.raises(CheckpointError, match="does not fit the network"):
        train.run(run)


def test_a_run_does_not_go_on_with_other_scans_or_from_another_checkpoint(
    scans: Path, small: None, tmp_path: Path
) -> None:
    run = configuration(scans, tmp_path / "run")
    run.out.mkdir()
    cases = find_cases("pairs", scans)
    train.Trainer(run, ALONE, 6, cases=cases).save()
    with pytest.raises(ConfigurationError, match=f"holds a run with cases: {len(cases)} "):
        train.Trainer(run, ALONE, 6, cases=cases[1:]).resume()
    train.Trainer(run, ALONE, 6).save()
    with pytest.raises(ConfigurationError, match="holds a run with source: "):
        train.Trainer(replace(run, source=tmp_path), ALONE, 6).resume()
    described = Metadata("first", "1", "?", CropStatistics(), (1.0,), signed=True, antialias=True)
    save_compact(CompactNetwork((8, 16), (1, 2)), described, tmp_path / "first.safetensors")
    with pytest.raises(ConfigurationError, match="holds a run with backbone: None"):
        train.Trainer(replace(run, backbone=tmp_path / "first.safetensors"), ALONE, 6).resume()
    train.Trainer(replace(run, credit="", version=9), ALONE, 6).resume()


def test_a_run_of_a_version_with_another_optimiser_is_not_gone_on_with(
    scans: Path, small: None, tmp_path: Path
) -> None:
    run = configuration(scans, tmp_path / "run")
    run.out.mkdir()
    trainer = train.Trainer(run, ALONE, 6)
    trainer.optimizer = torch.optim.AdamW(trainer.network.parameters())  # type: ignore[assignment]
    trainer.save()
    with pytest.raises(CheckpointError, match="of a version with another optimiser"):
        train.Trainer(run, ALONE, 6).resume()


def test_the_kernels_learn_in_all_directions_alike_and_every_parameter_learns() -> None:
    torch.manual_seed(0)
    network = CompactNetwork((16, 32), (1, 2)).to(memory_format=torch.channels_last_3d)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizer = MuonAndAdamW(network, weight_decay=0.0)
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    maps = torch.rand(4, 2, 1, 16, 16, 16)
    network(*maps, torch.rand(2, 4, 8, 8, 8)).square().mean().backward()
    optimizer.step()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and not torch.equal(parameter, before[name]), name
    for block in (network.encoder[0][0], network.encoder[1][1]):
        name = next(n for n, p in network.named_parameters() if p is block.conv2.weight)
        moved = torch.linalg.svdvals((block.conv2.weight - before[name]).flatten(1))
        gradient = torch.linalg.svdvals(block.conv2.weight.grad.flatten(1))
        assert moved[0] < 3 * moved[-1] and gradient[0] > 10 * gradient[-1]
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in network.parameters())


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


def test_a_click_that_slips_keeps_its_sign_and_stays_in_the_crop() -> None:
    target = np.zeros((SMALL,) * 3, bool)
    target[:3, 6:9, 6:9] = True
    slipped = set()
    for seed in range(20):
        user = CropUser(target, np.random.default_rng(seed))
        user.click(None, noisy_share=0, slip_share=1)
        assert user.positions == [(1, 7, 7)]
        user.click(np.zeros_like(target), noisy_share=0, slip_share=1)
        assert user.include == [True, True]
        assert np.abs(np.subtract(user.positions[1], (1, 7, 7))).max() <= SLIP and min(user.positions[1]) >= 0
        slipped.add(user.positions[1])
    assert len(slipped) > 10 and not all(target[position] for position in slipped)


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
    network = CompactNetwork((8, 16), (1, 2)).eval()
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


@pytest.mark.parametrize("killed", ["before the log", "before the state"])
def test_a_run_that_was_killed_and_resumed_gives_the_network_of_one_that_was_not(
    scans: Path, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    whole, cut = configuration(scans, tmp_path / "whole"), configuration(scans, tmp_path / "cut")
    train.run(whole)
    save = train.Trainer.save

    def save_and_die(trainer: train.Trainer) -> None:
        if killed == "before the log":
            save(trainer)
        raise KeyboardInterrupt

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(train.Trainer, "save", save_and_die)
        train.run(cut)
    assert rows(cut) == []
    train.run(cut)
    assert rows(cut) == rows(whole) and [row["step"] for row in rows(whole)] == ["3", "6"]
    assert (cut.out / "compact.safetensors").read_bytes() == (whole.out / "compact.safetensors").read_bytes()


def test_the_engine_takes_what_a_run_saved(scans: Path, small: None, tmp_path: Path) -> None:
    run = configuration(scans, tmp_path / "run")
    train.run(run)
    network = load_network(run.out / "best.safetensors", torch.device("cpu"))
    assert network.specification.signed and network.specification.spacings == train.ZOOM_LEVELS
    assert network.specification.version == str(run.version)


def test_a_checkpoint_says_what_it_learned_from_and_claims_no_more(small: None, tmp_path: Path) -> None:
    before = Metadata("first", "7", "?", CropStatistics(), (1.0,), True, True, training_data="scans of Anna")
    save_compact(CompactNetwork((8, 16), (1, 2)), before, tmp_path / "first.safetensors")
    cases = [SourceCase(name, name[:1], tmp_path, tmp_path) for name in ("A_CT", "A_MR", "B_CT")]
    changes = {"credit": None, "licence": None, "version": 1, "backbone": str(tmp_path / "first.safetensors")}
    run = configuration(tmp_path, tmp_path / "run", **changes)
    own = train.metadata(train.Trainer(run, ALONE, 6), 4, cases, {})
    assert "0 steps of 4 crops" in own.training_data and "in 3 scans of 2 patients" in own.training_data
    assert own.training_data.endswith("; on top of first 7 (scans of Anna)")
    assert (own.version, own.licence) == ("1", "")
    shipped = configuration(tmp_path, tmp_path / "run")
    assert "TCIA" in train.metadata(train.Trainer(shipped, ALONE, 6), 4, cases, {}).training_data


@pytest.mark.parametrize(
    ("told", "precision", "expected"),
    [
        ({"avx512_bf16": True}, "bf16", torch.bfloat16),
        ({"avx512_bf16": True}, "fp32", torch.float32),
        ({"avx2": True}, "bf16", torch.float32),
    ],
)
def test_products_are_in_bfloat16_only_where_the_processor_has_instructions_for_it(
    told: dict[str, bool],
    precision: str,
    expected: torch.dtype,
    small: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    trainer = train.Trainer(configuration(tmp_path, tmp_path / "run", precision=precision), ALONE, 6)
    taken: set[torch.dtype] = set()
    trainer.network.head.register_forward_hook(lambda module, arguments, output: taken.add(output.dtype))
    target = torch.zeros(2, 1, SMALL, SMALL, SMALL, dtype=torch.bool)
    target[:, :, 4:10, 4:10, 4:10] = True
    losses = trainer.train(ClickedBatch(target.float(), target, np.random.default_rng(0)))
    assert taken == {expected} and np.isfinite(losses).all()


@pytest.mark.parametrize("precision", [torch.float64, torch.float32, torch.bfloat16])
def test_the_fast_norms_learn_as_pytorchs_do(precision: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.GroupNorm(8, 32))
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.normal_(0.5, 0.3, generator=generator)
    if precision != torch.bfloat16:  # in training the parameters stay in float32 beside it
        plain.to(precision)
    fast = deepcopy(plain)
    make_norms_fast(fast)
    assert isinstance(fast[0], FastGroupNorm)
    assert fast.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(3, 32, 4, 5, 6, generator=generator).add(0.5).to(precision)
    towards = torch.randn(x.shape, generator=generator)
    answers = []
    for network in (plain, fast):
        own = x.contiguous(memory_format=torch.channels_last_3d).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            y = network(own)
        (y * towards).sum().backward()
        answers.append([y, own.grad, *(parameter.grad for parameter in network.parameters())])
    tolerance = 0.02 if precision == torch.bfloat16 else 1e-6
    for theirs, ours in zip(*answers, strict=True):
        assert theirs is not None and ours is not None
        assert ours.dtype == theirs.dtype
        assert (theirs - ours).abs().max() <= tolerance * theirs.abs().max()
