"""The golden case: the published network's features, logits and mask, from a checkpoint in the published layout."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from SAM3DSegmentLib.evaluation.metrics import dice
from SAM3DSegmentLib.network.adapter_predictor import compute_dtype
from SAM3DSegmentLib.network.checkpoint import load_network
from SAM3DSegmentLib.network.device import choose_device
from SAM3DSegmentLib.network.published import read_published
from Testing.reduced_network import CPU, crop_clicks, ignore, largest_difference, predictor_of

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"


@dataclass(frozen=True)
class Golden:
    """Attributes: checkpoint: in the published layout; crop: [128, 128, 128]; case: arrays of `case_a.npz`."""

    checkpoint: Path
    crop: Tensor
    case: dict[str, Tensor]

    @property
    def points(self) -> Tensor:
        return self.case["points_dwh"][:, [0, 2, 1]]


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    if not GOLDEN.is_dir():
        pytest.skip("the golden case is not at ../shared/golden")
    spec = importlib.util.spec_from_file_location("make_checkpoint", GOLDEN / "make_checkpoint.py")
    assert spec and spec.loader
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    path = tmp_path_factory.mktemp("golden") / "A.pth.tar"
    torch.save(maker.checkpoint("A"), path)
    with np.load(GOLDEN / "case_a.npz") as arrays:
        case = {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays}
    return Golden(path, maker.crop("A"), case)


@torch.no_grad()
@pytest.mark.timeout(3600)
def test_the_golden_case_comes_out_in_float32(golden: Golden) -> None:
    network = read_published(golden.checkpoint)
    features: list[Tensor] = []
    network.encoder.register_forward_hook(lambda module, arguments, output: features.extend(output))
    encoding = network.encode(golden.crop, 8, ignore)
    for feature, expected in zip(features, golden.case["features"], strict=True):
        assert largest_difference(feature[0, ::32, ::4, ::4, ::4], expected) <= 1e-3
    logits = network.decode(encoding, golden.points, torch.ones(len(golden.points), dtype=torch.bool), None)
    assert largest_difference(logits[:, ::4, ::4, ::4], golden.case["logits_dhw"]) <= 1e-3
    assert logits.mean().item() == pytest.approx(golden.case["logits_mean"].item(), abs=1e-4)
    assert logits.std().item() == pytest.approx(golden.case["logits_std"].item(), abs=1e-4)


def test_a_published_checkpoint_loads_with_its_tasks_window(golden: Golden) -> None:
    loaded = load_network(golden.checkpoint, CPU, task="pancreas").specification
    assert (loaded.name, loaded.crop_size, loaded.spacings, loaded.signed) == ("pancreas", 128, (1.0,), False)
    assert loaded.intensity.low == -39


@pytest.mark.skipif(compute_dtype(choose_device("auto")) is None, reason="no device with fast 16-bit products")
@pytest.mark.timeout(3600)
def test_the_golden_mask_survives_the_devices_precision(golden: Golden) -> None:
    device = choose_device("auto")
    masks = []
    for dtype in (None, compute_dtype(device)):
        answering = predictor_of(read_published(golden.checkpoint), device=device, dtype=dtype)
        encoding = answering.encode(golden.crop, ignore)
        masks.append(answering.decode(encoding, crop_clicks(golden.points, True), None, ignore) > 0)
    assert dice(*(mask.numpy(force=True) for mask in masks)) >= 0.99
