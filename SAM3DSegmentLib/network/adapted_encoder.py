"""The image encoder: SAM's ViT with 2D weights on the 3D tokens of a crop, made to fit by small adapters.

Features have the axes (H, W, D), D last; tokens lie as [B, H, W, D, C].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from SAM3DSegmentLib.network.adapters import ADAPTERS
from SAM3DSegmentLib.network.segment_anything_modules import MLPBlock, PatchEmbed
from SAM3DSegmentLib.network.window_attention import WindowAttention, shifted_regions, window_order

VOXELS_PER_TOKEN = 4
PATCH = 16
"""Edge of SAM's patches, in voxels of the crop upsampled 4 times."""

SAM_WINDOW = 14
"""Edge of SAM's own attention windows; their position tables have 2 * 14 - 1 entries."""

FEATURES = 4


@dataclass(frozen=True)
class AdapterSizes:
    """Widths, counts and parts of an adapted SAM; the defaults are those of the published ViT-B.

    Attributes:
        width: channels of a token.
        depth: blocks, a multiple of 4.
        heads: of each block's attention.
        crop: edge of the crop in voxels.
        window: edge of an attention window in tokens.
        channels: of each feature.
        adapter: which of `ADAPTERS` each block has.
        clicks: whether the network reads clicks; one that does not segments every target in the crop.
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    crop: int = 128
    window: int = 8
    channels: int = 256
    adapter: str = "spatial"
    clicks: bool = True

    @property
    def tokens(self) -> int:
        """Edge of the cube of tokens."""
        return self.crop // VOXELS_PER_TOKEN


class AdaptedBlock(nn.Module):
    """Adapter, attention in windows, MLP; [B, H, W, D, C] to the same."""

    def __init__(self, sizes: AdapterSizes, shifted: bool, table_length: int) -> None:
        super().__init__()
        self.window = sizes.window
        self.shift = sizes.window // 2 if shifted else 0
        self.norm1 = nn.LayerNorm(sizes.width, eps=1e-6)
        self.attn = WindowAttention(sizes.width, sizes.heads, sizes.window, table_length)
        self.norm2 = nn.LayerNorm(sizes.width, eps=1e-6)
        self.mlp = MLPBlock(sizes.width, 4 * sizes.width)
        self.adapter = ADAPTERS[sizes.adapter](sizes.width)

    def forward(self, x: Tensor, windows_at_once: int) -> Tensor:
        batch, size, _, _, width = x.shape
        order = window_order(size, self.window, self.shift, x.device)
        order = (order + size**3 * torch.arange(batch, device=x.device)[:, None, None]).flatten()
        tokens = self.adapter(x).flatten(0, 3)
        windows = order.view(-1, self.window**3).split(windows_at_once)
        regions: Sequence[Tensor | None] = [None] * len(windows)
        if self.shift:
            regions = shifted_regions(size, self.window, x.device).repeat(batch, 1, 1).split(windows_at_once)
        tables = self.attn.position_tables()
        done = []
        for places, region in zip(windows, regions, strict=True):
            y = tokens[places]
            y = y + self.attn(self.norm1(y), tables, region)
            done.append(y + self.mlp(self.norm2(y)))
        del tokens
        return torch.cat(done).view(-1, width)[order.argsort()].view(x.shape)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of [B, C, H, W, D]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class PointConvolution(nn.Conv3d):
    """A 1x1x1 convolution without bias of [B, C, H, W, D], as the matrix product it is: faster by a multiple."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__(width, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.movedim(1, -1), self.weight.flatten(1)).movedim(-1, 1)


def neck(width: int, channels: int) -> nn.Sequential:
    """[B, width, H, W, D] to [B, channels, H, W, D]."""
    return nn.Sequential(
        PointConvolution(width, channels),
        ChannelNorm(channels, eps=1e-6),
        nn.Conv3d(channels, channels, 3, padding=1, bias=False),
        ChannelNorm(channels, eps=1e-6),
    )


class AdaptedEncoder(nn.Module):
    """From a crop to the four features that the decoder reads.

    With `recompute` the backward pass of a training step computes each block again from its tokens, instead of keeping
    what the block computed: a third more time, a fraction of the memory.
    """

    def __init__(self, sizes: AdapterSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.recompute = False
        grid = 2 * sizes.tokens
        stage = sizes.depth // FEATURES
        lengths = [2 * (grid if i % stage == stage - 1 else SAM_WINDOW) - 1 for i in range(sizes.depth)]
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, sizes.width))
        self.depth_embed = nn.Parameter(torch.zeros(1, sizes.tokens, sizes.width))
        self.patch_embed = PatchEmbed((PATCH, PATCH), (PATCH, PATCH), embed_dim=sizes.width)
        self.slice_embed = nn.Conv3d(sizes.width, sizes.width, (1, 1, PATCH), (1, 1, PATCH), groups=sizes.width)
        self.blocks = nn.ModuleList(AdaptedBlock(sizes, i % 2 == 0, n) for i, n in enumerate(lengths))
        self.neck_3d = nn.ModuleList(neck(sizes.width, sizes.channels) for _ in range(FEATURES))

    def forward(
        self,
        crop: Tensor,
        windows_at_once: int,
        progress: Callable[[float], None],
        blocks_dtype: torch.dtype | None = None,
    ) -> list[Tensor]:
        """f1 to f4, each [B, channels, H, W, D].

        Args:
            crop: [B, S, S, S], axes (D, H, W), normalised.
            windows_at_once: attention windows that are worked on together; fewer need less memory.
            progress: called after each block with the finished fraction.
            blocks_dtype: of the products in the blocks, in autocast; None for that of everything else.
        """
        x = self.stem(crop)
        features = []
        stage = len(self.blocks) // FEATURES
        for i, block in enumerate(self.blocks, 1):
            with torch.autocast(crop.device.type, blocks_dtype) if blocks_dtype else nullcontext():
                if self.recompute:
                    x = checkpoint(block, x, windows_at_once, use_reentrant=False)
                else:
                    x = block(x, windows_at_once)
            if i % stage == 0:
                features.append(self.neck_3d[i // stage - 1](x.movedim(-1, 1)))
            progress(i / len(self.blocks))
        return features

    def stem(self, crop: Tensor) -> Tensor:
        """Tokens [B, H, W, D, C] of a crop [B, D, H, W], always in full precision.

        Upsampling by 4, SAM's patch embedding of every slice (three equal channels) and the embedding along D are
        linear: together one convolution of kernel 6 and stride 4 on the crop, its border voxels repeated once.
        """
        with torch.autocast(crop.device.type, enabled=False):
            reach = VOXELS_PER_TOKEN + 2
            upsampled = F.interpolate(torch.eye(reach, device=crop.device)[None], scale_factor=4, mode="linear")[0]
            samples = upsampled[:, 4:-4]
            plane = torch.einsum("cxy,hx,wy->chw", self.patch_embed.proj.weight.float().sum(1), samples, samples)
            depth = self.slice_embed.weight.float().flatten(1)
            kernel = torch.einsum("chw,cz,dz->hwdc", plane, depth, samples).flatten(0, 2)
            bias = self.patch_embed.proj.bias * depth.sum(1) + self.slice_embed.bias
            voxels = F.pad(crop.float().permute(0, 2, 3, 1)[:, None], (1,) * 6, mode="replicate")[:, 0]
            for axis in (1, 2, 3):
                voxels = voxels.unfold(axis, reach, VOXELS_PER_TOKEN)
            tokens = voxels.flatten(4) @ kernel + bias
            plane_position = F.avg_pool2d(self.pos_embed.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
            return tokens + plane_position[:, :, :, None] + self.depth_embed[:, None, None]
