"""The adapter's predictor: clicks that exclude, with signs and without, a cancel, and short memory."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from SAM3DSegmentLib.errors import CancelledError
from SAM3DSegmentLib.network import adapter_predictor
from SAM3DSegmentLib.network.interface import CropClick
from SAM3DSegmentLib.network.sam_adapter import CropEncoding, SamAdapter
from Testing.reduced_network import (
    CPU,
    POINTS,
    SIZES,
    crop_clicks,
    ignore,
    largest_difference,
    predictor_of,
    random_crop,
    random_network,
)


@dataclass
class StatedObjects:
    """A network to whose clicks the answers are known. `logits`: by the first click's position."""

    logits: dict[tuple[float, float, float], Tensor]

    def to(self, device: torch.device) -> StatedObjects:
        return self

    def eval(self) -> StatedObjects:
        return self

    def decode(self, encoding: Tensor, points: Tensor, include: Tensor, previous: Tensor | None) -> Tensor:
        d, h, w = points[0].tolist()
        tumour = self.logits[d, h, w]
        return torch.stack([torch.zeros_like(tumour), tumour])


def test_without_signs_each_voxel_goes_to_the_stronger_object() -> None:
    wanted, unwanted = torch.tensor([3.0, 3.0, 1.0, -1.0]), torch.tensor([-2.0, 1.0, 2.0, 5.0])
    stated = StatedObjects({(0, 0, 0): wanted, (1, 1, 1): unwanted})
    answering = predictor_of(stated)  # type: ignore[arg-type]
    answer = answering.decode(torch.zeros(4), [CropClick((0, 0, 0), True), CropClick((1, 1, 1), False)], None, ignore)  # type: ignore[arg-type]
    assert answer.tolist() == [3.0, 2.0, -1.0, -6.0]


@torch.no_grad()
def test_a_signed_network_reads_the_sign_of_each_click() -> None:
    network = random_network()
    network.add_additions()
    network.additions.sign[0].fill_(2.0)
    signed = predictor_of(network, signed=True)
    encoding = signed.encode(random_crop(), ignore)
    mixed = crop_clicks(POINTS[:1], True) + crop_clicks(POINTS[1:], False)
    with_signs = signed.decode(encoding, mixed, None, ignore)
    without = signed.decode(encoding, crop_clicks(POINTS, True), None, ignore)
    expected = network.decode(encoding, POINTS, torch.tensor([True, False, False]), None)
    assert largest_difference(with_signs, without) > 1e-3
    assert torch.equal(with_signs, expected[1] - expected[0])


def test_a_cancel_stops_the_encoder_between_two_blocks() -> None:
    seen: list[float] = []

    def cancel_after_two(fraction: float) -> None:
        seen.append(fraction)
        if len(seen) == 2:
            raise CancelledError

    with pytest.raises(CancelledError):
        predictor_of(random_network()).encode(random_crop(), cancel_after_two)
    assert seen == [1 / 8, 2 / 8]


class ShortOfMemory(SamAdapter):
    """Runs out of memory with more than `affordable` windows at once; on the CPU after it was moved there, never."""

    affordable = 2
    moved = False
    precision: tuple[bool, object] = (False, None)
    """Of the last encoding: whether all was in half precision, and what the blocks were in."""

    def to(self, *arguments: object, **options: object) -> ShortOfMemory:
        self.moved = True
        return self

    def encode(self, crop: Tensor, windows_at_once: int, progress: object, blocks_dtype: object) -> object:
        if windows_at_once > self.affordable and not self.moved:
            raise torch.cuda.OutOfMemoryError
        self.precision = torch.is_autocast_enabled("cpu"), blocks_dtype
        return windows_at_once


@pytest.mark.parametrize(("affordable", "expected"), [(2, 2), (0, adapter_predictor.WINDOWS_AT_ONCE_ELSEWHERE)])
def test_out_of_memory_means_smaller_chunks_then_the_cpu_and_says_so(
    affordable: int, expected: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = ShortOfMemory(SIZES)
    monkeypatch.setitem(adapter_predictor.WINDOWS_AT_ONCE, "cpu", 8)
    short = predictor_of(network)
    network.affordable, network.moved = affordable, False
    with caplog.at_level(logging.WARNING):
        assert short.encode(random_crop(), ignore) == expected
    assert ("CPU" in caplog.text) == (affordable == 0)
    assert "memory" in caplog.text


def test_a_network_that_leaves_the_gpu_takes_the_precision_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    network = ShortOfMemory(SIZES)
    short = predictor_of(network, dtype=torch.float16)
    network.affordable, network.moved = 0, False
    short.encode(random_crop(), ignore)
    assert network.precision == (False, adapter_predictor.compute_dtype(CPU))


class TooLargeToDecode(SamAdapter):
    """Decodes on the CPU only, and that only once it was moved there."""

    def to(self, *arguments: object, **options: object) -> TooLargeToDecode:
        self.moved = True
        return self

    def decode(self, *arguments: Tensor | CropEncoding | None) -> Tensor:
        if not self.moved:
            raise torch.cuda.OutOfMemoryError
        return torch.zeros(2, 1, 1, 1)


def test_out_of_memory_at_a_click_means_the_cpu_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    network = TooLargeToDecode(SIZES)
    short = predictor_of(network)
    network.moved = False
    nothing = torch.zeros(1)
    with caplog.at_level(logging.WARNING):
        answer = short.decode(CropEncoding(nothing, nothing, nothing), crop_clicks(POINTS, True), None, ignore)
    assert answer.shape == (1, 1, 1)
    assert "CPU" in caplog.text
