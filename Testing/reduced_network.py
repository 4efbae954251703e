"""A 3DSAM-adapter that tests can afford: a 32^3 crop, few narrow blocks, random weights; its predictor and files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from SAM3DSegmentLib.intensity import CropStatistics
from SAM3DSegmentLib.network.adapted_encoder import AdapterSizes
from SAM3DSegmentLib.network.adapter_predictor import AdapterPredictor
from SAM3DSegmentLib.network.interface import CropClick
from SAM3DSegmentLib.network.sam_adapter import SamAdapter
from SAM3DSegmentLib.specification import Specification
from Testing import oracle

CPU = torch.device("cpu")

SIZES = AdapterSizes(width=48, depth=8, heads=3, crop=32, window=4, channels=32)
POINTS = torch.tensor([[3.0, 9.0, 20.0], [30.0, 1.0, 15.0], [16.0, 17.5, 16.0]])


def random_network(seed: int = 0) -> SamAdapter:
    """Weights large enough that every term of the network shows in its output."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = SamAdapter(SIZES).eval()
        for key, value in network.state_dict().items():
            if key.endswith(".lr"):
                value.fill_(0.7)
            elif value.ndim == 1:
                value.add_(0.1 * torch.randn_like(value))
            elif "pos" in key or key.endswith("depth_embed"):
                value.copy_(0.3 * torch.randn_like(value))
            else:
                value.copy_(torch.randn_like(value) / value[0].numel() ** 0.5)
    return network


def random_crop(seed: int = 0) -> Tensor:
    """[32, 32, 32]."""
    return torch.randn((SIZES.crop,) * 3, generator=torch.Generator().manual_seed(seed))


def ignore(fraction: float) -> None:
    """Progress that nobody watches."""


def predictor_of(
    network: SamAdapter, signed: bool = False, device: torch.device = CPU, dtype: torch.dtype | None = None
) -> AdapterPredictor:
    """On `device`, its products in `dtype` (None: float32)."""
    specification = Specification("test", "1", "0" * 64, SIZES.crop, (1.0,), CropStatistics(), signed, False)
    return AdapterPredictor(network, specification, device, dtype)


def crop_clicks(positions: Tensor, include: bool) -> list[CropClick]:
    """Of [N, 3], voxels (d, h, w)."""
    return [CropClick((float(d), float(h), float(w)), include) for d, h, w in positions]


def largest_difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def oracle_result(network: SamAdapter, crop: Tensor, points: Tensor) -> oracle.OracleResult:
    """What the oracle makes of the same weights."""
    encoder, prompt, decoder = (m.state_dict() for m in (network.encoder, network.prompt, network.decoder))
    return oracle.evaluate(encoder, prompt, decoder, crop, points, SIZES.heads, SIZES.window)


def published_content(network: SamAdapter) -> dict[str, Any]:
    """The content of a checkpoint as the paper's authors save it, masks and unused prompt encoders included."""
    encoder = dict(network.encoder.state_dict())
    mask = oracle.shift_mask(SIZES.tokens, SIZES.window)
    encoder |= {f"blocks.{i}.attn_mask": mask for i in range(0, SIZES.depth, 2)}
    prompts = [dict(random_network(seed).prompt.state_dict()) for seed in (1, 2, 3)]
    return {
        "epoch": 1,
        "encoder_dict": encoder,
        "feature_dict": [*prompts, dict(network.prompt.state_dict())],
        "decoder_dict": dict(network.decoder.state_dict()),
    }


def write_published(network: SamAdapter, path: Path) -> Path:
    torch.save(published_content(network), path)
    return path


def sam_state(width: int = 48, depth: int = 8, head: int = 16, grid: int = 16, seed: int = 0) -> dict[str, Tensor]:
    """SAM's state dict in small: the image encoder, and a key of another part."""
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "pos_embed": (1, grid, grid, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        "neck.0.weight": (256, width, 1, 1),
    }
    stage = depth // 4
    for i in range(depth):
        table = 2 * (grid if i % stage == stage - 1 else 14) - 1
        shapes |= {
            f"blocks.{i}.norm1.weight": (width,),
            f"blocks.{i}.norm1.bias": (width,),
            f"blocks.{i}.norm2.weight": (width,),
            f"blocks.{i}.norm2.bias": (width,),
            f"blocks.{i}.attn.rel_pos_h": (table, head),
            f"blocks.{i}.attn.rel_pos_w": (table, head),
            f"blocks.{i}.attn.qkv.weight": (3 * width, width),
            f"blocks.{i}.attn.qkv.bias": (3 * width,),
            f"blocks.{i}.attn.proj.weight": (width, width),
            f"blocks.{i}.attn.proj.bias": (width,),
            f"blocks.{i}.mlp.lin1.weight": (4 * width, width),
            f"blocks.{i}.mlp.lin1.bias": (4 * width,),
            f"blocks.{i}.mlp.lin2.weight": (width, 4 * width),
            f"blocks.{i}.mlp.lin2.bias": (width,),
        }
    state = {f"image_encoder.{k}": 0.1 * torch.randn(s, generator=generator) for k, s in shapes.items()}
    return {**state, "mask_decoder.iou_token.weight": torch.zeros(1, 256)}


@contextmanager
def float32_cpu() -> Iterator[None]:
    """A processor without instructions for bfloat16, whichever this one is: networks loaded on it are exact."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
        yield
