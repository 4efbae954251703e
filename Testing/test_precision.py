"""Half precision of the adapter network: the mask of float32, and only where a device is fast at it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from SAM3DSegmentLib.evaluation.metrics import dice
from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.intensity import CropStatistics
from SAM3DSegmentLib.network.adapter_predictor import compute_dtype
from SAM3DSegmentLib.network.interface import CropClick
from SAM3DSegmentLib.network.sam_adapter import SamAdapter
from SAM3DSegmentLib.scan import read_scan
from Testing.reduced_network import SIZES, ignore, predictor_of, random_crop, random_network

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "test"
CPU = torch.device("cpu")
CLICK = CropClick((16.0, 16.0, 16.0), True)
TUMOUR = (26, 67, 76)
"""(k, j, i) of a voxel in the labelled tumour of the scan STS_003_CT."""


def real_crop() -> Tensor:
    """[32, 32, 32], 4 mm, around a tumour."""
    path = DATA / "STS_003_CT_image.nii.gz"
    if not path.is_file():
        pytest.skip("the scan STS_003_CT is not at ../shared/data/test")
    volume: Volume = read_scan(path)
    voxels, inside = volume.crop_around(volume.ras(TUMOUR), 4.0, (SIZES.crop,) * 3).cut(volume.voxels)
    return torch.from_numpy(CropStatistics().apply(voxels, inside))


def logits(dtype: torch.dtype | None, crop: Tensor) -> Tensor:
    """Of the reduced network, its products in `dtype`."""
    predictor = predictor_of(random_network(), dtype=dtype)
    return predictor.decode(predictor.encode(crop, ignore), [CLICK], None, ignore)


@pytest.mark.parametrize("crop", [random_crop, real_crop])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_the_mask_of_float32(dtype: torch.dtype, crop: Callable[[], Tensor]) -> None:
    exact, rounded = logits(None, crop()), logits(dtype, crop())
    assert rounded.dtype == torch.float32
    assert dice((exact > 0).numpy(), (rounded > 0).numpy()) >= 0.99


def overflowing_network(additions: bool) -> SamAdapter:
    """Its encoder computes numbers above 65,504, the largest in float16."""
    network = random_network()
    if additions:
        network.add_additions()
    with torch.no_grad():
        network.encoder.blocks[3].mlp.lin1.weight.mul_(1e6)
    return network.eval()


@pytest.mark.parametrize("additions", [False, True])
def test_a_crop_that_half_precision_cannot_hold_is_encoded_in_float32(
    additions: bool, caplog: pytest.LogCaptureFixture
) -> None:
    network = overflowing_network(additions)
    exact, mended = (predictor_of(network, signed=additions, dtype=dtype) for dtype in (None, torch.float16))
    clicks = [CLICK, CropClick((4.0, 20.0, 9.0), False)]
    encodings = [predictor.encode(random_crop(), ignore) for predictor in (exact, mended)]
    assert all(torch.equal(getattr(encodings[0], part), getattr(encodings[1], part)) for part in ("deepest", "share"))
    assert "float16 cannot hold" in caplog.text
    first, second = (p.decode(e, clicks, None, ignore) for p, e in zip((exact, mended), encodings, strict=True))
    assert dice((first > 0).numpy(), (second > 0).numpy()) > 0.98
    again = mended.decode(encodings[1], clicks, second, ignore)
    assert torch.isfinite(again).all()


@pytest.mark.parametrize("include", [True, False])
def test_a_click_that_half_precision_cannot_answer_is_answered_in_float32(include: bool) -> None:
    network = random_network()
    short, exact = (predictor_of(network, dtype=dtype) for dtype in (torch.float16, None))
    encoding = short.encode(random_crop(), ignore)
    with torch.no_grad():
        network.prompt.transformer.layers[0].mlp.lin1.weight.mul_(1e7)
    clicks = [CLICK, CropClick((4.0, 20.0, 9.0), include)]
    assert torch.equal(
        short.decode(encoding, clicks, None, ignore), exact.decode(encoding.float(), clicks, None, ignore)
    )


def test_what_overflows_in_one_crop_changes_no_other_answer() -> None:
    short = predictor_of(random_network(), dtype=torch.float16)
    encoding = short.encode(random_crop(), ignore)
    before = short.decode(encoding, [CLICK], None, ignore)
    assert short.encode(1e6 * random_crop(1), ignore).deepest.dtype == torch.float32
    assert torch.equal(short.decode(short.encode(random_crop(), ignore), [CLICK], None, ignore), before)


def test_bfloat16_is_for_the_encoders_blocks_alone() -> None:
    network, taken = random_network(), []
    coarse, exact = (predictor_of(network, dtype=dtype) for dtype in (torch.bfloat16, None))
    for part in (
        network.encoder.blocks[0].mlp.lin1,
        network.encoder.neck_3d[0][0],
        network.decoder.mlahead["head2"][0],
    ):
        part.register_forward_hook(lambda module, arguments, output: taken.append(output.dtype))
    encoding = coarse.encode(random_crop(), ignore)
    assert set(taken) == {torch.bfloat16, torch.float32}
    assert taken.count(torch.bfloat16) == taken.index(torch.float32), "the blocks come first, then float32"
    assert {encoding.deepest.dtype, encoding.share.dtype} == {torch.float32}
    assert torch.equal(coarse.decode(encoding, [CLICK], None, ignore), exact.decode(encoding, [CLICK], None, ignore))


def test_a_gpu_computes_in_float16() -> None:
    assert compute_dtype(torch.device("cuda")) is torch.float16


@pytest.mark.parametrize(("told", "expected"), [({"avx512_bf16": True}, torch.bfloat16), ({"avx2": True}, None)])
def test_a_cpu_computes_in_bfloat16_only_where_it_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, bool], expected: torch.dtype | None
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    assert compute_dtype(CPU) is expected
