"""SAM slice by slice as a rival: a tiny SAM of the published layout, held against the package's own evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from SAM3DSegmentLib.cli import main  # noqa: E402
from SAM3DSegmentLib.clicks import Click  # noqa: E402
from SAM3DSegmentLib.engine.client import Engine  # noqa: E402
from SAM3DSegmentLib.errors import CheckpointError  # noqa: E402
from SAM3DSegmentLib.evaluation.predictor import segmenter_method  # noqa: E402
from SAM3DSegmentLib.geometry import Volume  # noqa: E402
from SAM3DSegmentLib.network import sam_slices  # noqa: E402
from SAM3DSegmentLib.network.checkpoint import load_network  # noqa: E402
from SAM3DSegmentLib.network.interface import CropClick  # noqa: E402
from SAM3DSegmentLib.network.sam_slices import NAME, OUTSIDE_LOGIT, SamSlices, SliceEncodings, empty_sam  # noqa: E402
from Testing.evaluation_cases import write_cases  # noqa: E402
from Testing.reduced_network import float32_cpu  # noqa: E402

CPU = torch.device("cpu")
SIZE = 160


def no_progress(fraction: float) -> None:
    pass


def tiny_state(grid: int = 16, width: int = 32, depth: int = 2) -> dict[str, Any]:
    """SAM's state dict with random weights: two narrow blocks, the second with global attention, on 256 x 256."""
    tables = {f"image_encoder.blocks.{i}.attn.rel_pos_h": torch.zeros(2 * n - 1, 16) for i, n in enumerate((14, grid))}
    sizes = {"image_encoder.pos_embed": torch.zeros(1, grid, grid, width), **tables}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return empty_sam(sizes, Path("tiny")).state_dict()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sam") / "sam_tiny.pth"
    torch.save(tiny_state(), path)
    return path


@pytest.fixture(scope="module")
def network(checkpoint: Path) -> Any:
    with float32_cpu():
        return load_network(checkpoint, CPU)


@pytest.fixture(scope="module")
def encoding(network: Any) -> Any:
    crop = torch.randn((SIZE,) * 3, generator=torch.Generator().manual_seed(0))
    return network.encode(crop, no_progress)


class Disc(nn.Module):
    """Stands in for SAM's decoder: a disc around the middle in slices 70 to 90, nothing elsewhere."""

    def __init__(self, slices: range) -> None:
        super().__init__()
        self.slices = slices
        self.asked: list[int] = []

    def forward(self, image_embeddings: Any, multimask_output: bool, **_: Any) -> tuple[Any, Any]:
        d = round(float(image_embeddings.mean()))
        self.asked.append(d)
        y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
        disc = ((y - 32) ** 2 + (x - 32) ** 2 < 100).float() * 10 - 5
        return (disc if d in self.slices else -5 * torch.ones(64, 64))[None, None], torch.ones(1, 1)


class Number(nn.Module):
    """Stands in for SAM's encoder: the embedding of a slice is its brightness."""

    img_size = 256

    def forward(self, image: Any) -> Any:
        return image.mean() * torch.ones(1, 256, 16, 16)


@pytest.fixture
def following(network: Any) -> tuple[SamSlices, Any, Disc]:
    """A network that follows a cylinder of slices 70 to 90, and the encoding of a crop whose slices are numbered."""
    sam = empty_sam(tiny_state(), Path("tiny"))
    sam.image_encoder, sam.mask_decoder = Number(), Disc(range(70, 91))
    sam.pixel_mean, sam.pixel_std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    slices = SamSlices(sam, network.specification, CPU)
    encoding = slices.encode(torch.zeros(SIZE, SIZE, SIZE), no_progress)
    encoding.slices += torch.arange(SIZE)[:, None, None]
    return slices, encoding, sam.mask_decoder


@pytest.fixture
def unfollowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No neighbour counts as the same object, which spares the tests of one slice the others."""
    monkeypatch.setattr(sam_slices, "SAME_OBJECT_DICE", 2.0)


@pytest.mark.usefixtures("unfollowed")
def test_answer_to_a_click_is_that_of_the_package_on_the_same_slice(
    checkpoint: Path, encoding: Any, network: Any
) -> None:
    state = torch.load(checkpoint, weights_only=True)
    sam = empty_sam(state, checkpoint).eval()
    sam.load_state_dict(state)
    image = nn.functional.interpolate(encoding.slices[80][None, None], (256, 256), mode="bilinear", align_corners=False)
    scale = 256 / SIZE
    record = {
        "image": image[0].expand(3, 256, 256),
        "original_size": (SIZE, SIZE),
        "point_coords": torch.tensor([[[30.5 * scale - 0.5, 50.5 * scale - 0.5]]]),
        "point_labels": torch.tensor([[1]]),
    }
    (expected,) = sam([record], multimask_output=True)
    best = expected["low_res_logits"][0, expected["iou_predictions"][0].argmax()]
    wanted = nn.functional.interpolate(best[None, None], (SIZE, SIZE), mode="bilinear", align_corners=False)[0, 0]
    logits = network.decode(encoding, [CropClick((80.0, 50.0, 30.0), True)], None, no_progress)
    assert torch.allclose(logits[80, 1:-1, 1:-1], wanted[1:-1, 1:-1], atol=1e-4)


@pytest.mark.usefixtures("unfollowed")
def test_a_slice_that_half_precision_cannot_hold_is_encoded_in_float32(
    encoding: Any, network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sam = empty_sam(tiny_state(), Path("tiny"))
    with torch.no_grad():
        sam.image_encoder.blocks[0].mlp.lin1.weight.mul_(1e7)  # 65,504 is the largest number in float16
    answers = []
    for dtype in (None, torch.float16):
        monkeypatch.setattr(sam_slices, "compute_dtype", lambda device, dtype=dtype: dtype)
        slices = SamSlices(sam, network.specification, CPU)
        fresh = SliceEncodings(encoding.slices)
        answers.append(slices.decode(fresh, [CropClick((80.0, 50.0, 30.0), True)], None, no_progress))
    assert torch.isfinite(answers[0]).all()
    assert torch.equal(*answers)


def test_object_is_followed_through_the_slices_until_it_ends(following: tuple[SamSlices, Any, Disc]) -> None:
    network, encoding, decoder = following
    logits = network.decode(encoding, [CropClick((80.0, 80.0, 80.0), True)], None, no_progress)
    assert [d for d in range(SIZE) if (logits[d] > 0).any()] == list(range(70, 91))
    assert sorted(decoder.asked) == list(range(69, 92))


def test_slices_between_two_clicks_are_followed_from_the_nearer_one(following: tuple[SamSlices, Any, Disc]) -> None:
    network, encoding, decoder = following
    clicks = [CropClick((d, 80.0, 80.0), True) for d in (74.0, 86.0)]
    logits = network.decode(encoding, clicks, None, no_progress)
    assert [d for d in range(SIZE) if (logits[d] > 0).any()] == list(range(70, 91))
    assert len(decoder.asked) == len(set(decoder.asked))


def test_answer_that_reaches_the_face_of_the_crop_ends_before_it(following: tuple[SamSlices, Any, Disc]) -> None:
    network, encoding, decoder = following
    decoder.slices = range(12)
    logits = network.decode(encoding, [CropClick((6.0, 80.0, 80.0), True)], None, no_progress)
    assert (logits[0] == OUTSIDE_LOGIT).all()
    assert (logits[1:12] > 0).any(dim=2).any(dim=1).all()


@pytest.mark.usefixtures("unfollowed")
def test_embedding_in_half_precision_gives_nearly_the_same_answer(
    network: Any, encoding: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clicks = [CropClick((80.0, 50.0, 30.0), True), CropClick((80.0, 90.0, 30.0), False)]
    full = network.decode(encoding, clicks, None, no_progress)[80, 1:-1, 1:-1]
    monkeypatch.setattr(network, "_dtype", torch.bfloat16)
    half = network.decode(SliceEncodings(encoding.slices), clicks, None, no_progress)[80, 1:-1, 1:-1]
    assert (half - full).abs().mean() < 0.1 * full.abs().mean()


@pytest.fixture
def blind(tmp_path: Path) -> Path:
    """A checkpoint whose every answer is empty."""
    state = {k: torch.zeros_like(v) if "hypernetworks" in k else v for k, v in tiny_state().items()}
    torch.save(state, tmp_path / "sam_blind.pth")
    return tmp_path / "sam_blind.pth"


def test_command_sets_sam_beside_the_model(blind: Path, tmp_path: Path) -> None:
    data = write_cases(tmp_path)
    table = data / "one.tsv"
    table.write_text("".join((data / "cases.tsv").read_text().splitlines(keepends=True)[:2]))
    where = ["--data", str(data), "--cases", str(table), "--out", str(data / "out")]
    assert main(["evaluate", *where, "--clicks", "1", "--seeds", "0", "--device", "cpu", "--sam", str(blind)]) == 0
    summary = json.loads((data / "out" / "summary.json").read_text())
    assert [method["method"] for method in summary["methods"]] == ["compact", NAME, f"{NAME}, compact's clicks"]


def test_sam_that_is_not_there_is_refused_before_the_model_is_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_cases(tmp_path)
    where = ["--data", str(data), "--cases", str(data / "cases.tsv"), "--out", str(data / "out")]
    assert main(["evaluate", *where, "--device", "cpu", "--sam", str(tmp_path / "missing.pth")]) == 2
    assert "missing.pth" in capsys.readouterr().err
    assert not (data / "out").exists()


def test_engine_serves_sam_and_the_answer_keeps_the_promises(blind: Path) -> None:
    voxels = np.random.default_rng(0).normal(size=(20, 40, 40)).astype(np.float32)
    volume = Volume(voxels, np.diag([2.0, 2.0, 3.0, 1.0]))
    include, exclude = Click(volume.ras((10, 20, 20))), Click(volume.ras((10, 20, 28)), include=False)
    with Engine(str(blind), "cpu") as engine:
        assert engine.specification.name == NAME
        mask = segmenter_method(engine)(volume)((include, exclude))
    assert mask.shape == voxels.shape
    assert mask[10, 20, 20]
    assert not mask[10, 20, 28]


def test_sam_that_lacks_its_decoder_is_refused_by_name(tmp_path: Path) -> None:
    state = {key: value for key, value in tiny_state().items() if not key.startswith("mask_decoder.iou_token")}
    torch.save(state, tmp_path / "sam.pth")
    with pytest.raises(CheckpointError, match=r"missing: mask_decoder\.iou_token"):
        load_network(tmp_path / "sam.pth", CPU)
