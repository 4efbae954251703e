"""The compact network: a small promptable 3D U-shaped network that runs a click on two CPU cores."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from SAM3DSegmentLib.network.reach import REACH_CHANNELS

INPUT_CHANNELS = 6
PREVIOUS_LIMIT = 4.0
WIDTHS = (32, 64, 128, 192)
"""Channels of each level, the finest first."""

BLOCKS = (1, 2, 2, 1)
"""Residual blocks of each level on the way down; on the way up there is one. The middle levels cost the least time."""


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions with GroupNorm around a shortcut; [B, C, D, H, W] to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(8, channels)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(8, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + x)


class CompactNetwork(nn.Module):
    """Image, signed clicks and the previous logits in, logits of the clicked object out.

    Clicks enter with the image (early fusion): as balls, and as two maps that tell how much
    brighter or darker each voxel is than the tissue under the include clicks and under the exclude clicks. Blocks of
    2x2x2 voxels travel as channels, so that no convolution runs on the full grid and no detail is lost; the maps of
    `reach`, which say what is connected with the clicks, join them there.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS, blocks: tuple[int, ...] = BLOCKS) -> None:
        super().__init__()
        self.stem = nn.Conv3d(8 * INPUT_CHANNELS + REACH_CHANNELS, widths[0], 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(count)))
            for width, count in zip(widths, blocks, strict=True)
        )
        self.down = nn.ModuleList(nn.Conv3d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.up = nn.ModuleList(nn.Conv3d(coarse, fine, 1) for fine, coarse in pairwise(widths))
        self.decoder = nn.ModuleList(ResidualBlock(w) for w in widths[:-1])
        self.head = nn.Conv3d(widths[0], 8, 3, padding=1)

    def forward(self, image: Tensor, include: Tensor, exclude: Tensor, previous: Tensor, reach: Tensor) -> Tensor:
        """Logits [B, 1, S, S, S] of the clicked object.

        Args:
            image: [B, 1, S, S, S], normalised crop, axes (D, H, W), zeros outside the volume; S a multiple of 16.
            include, exclude: [B, 1, S, S, S], balls as `compact_prompt.click_map` makes them.
            previous: [B, 1, S, S, S], logits of the previous answer, zeros where there is none.
            reach: [B, 4, S/2, S/2, S/2], as `network.reach.reach` makes them.
        """
        x = self.channels(image, include, exclude, previous, reach).contiguous(memory_format=torch.channels_last_3d)
        return unfold(self.head(self.levels(self.stem(x))))

    def levels(self, x: Tensor) -> Tensor:
        """Down to the coarsest level and back: [B, C, S/2, S/2, S/2] to the same, C the first of the widths."""
        x = self.encoder[0](x)
        skips = []
        for down, level in zip(self.down, self.encoder[1:], strict=True):
            skips.append(x)
            x = level(down(x))
        for up, block, skip in reversed(list(zip(self.up, self.decoder, skips, strict=True))):
            x = block(F.interpolate(up(x), scale_factor=2.0, mode="nearest") + skip)
        return x

    @staticmethod
    def channels(image: Tensor, include: Tensor, exclude: Tensor, previous: Tensor, reach: Tensor) -> Tensor:
        """What the stem reads, [B, 8 * INPUT_CHANNELS + REACH_CHANNELS, S/2, S/2, S/2]; arguments as of `forward`."""
        maps = [
            image,
            relative_brightness(image, include),
            relative_brightness(image, exclude),
            include,
            exclude,
            previous.clamp(-PREVIOUS_LIMIT, PREVIOUS_LIMIT) / PREVIOUS_LIMIT,
        ]
        return torch.cat([fold(torch.cat(maps, dim=1)), reach], dim=1)


def fold(x: Tensor) -> Tensor:
    """[B, C, D, H, W] to [B, 8C, D/2, H/2, W/2]: each block of 2x2x2 voxels becomes channels."""
    b, c, d, h, w = x.shape
    x = x.view(b, c, d // 2, 2, h // 2, 2, w // 2, 2)
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, 8 * c, d // 2, h // 2, w // 2)


def unfold(x: Tensor) -> Tensor:
    """[B, 8, D, H, W] to [B, 1, 2D, 2H, 2W]: the inverse of `fold` for one channel."""
    b, _, d, h, w = x.shape
    return x.view(b, 2, 2, 2, d, h, w).permute(0, 4, 1, 5, 2, 6, 3).reshape(b, 1, 2 * d, 2 * h, 2 * w)


def relative_brightness(image: Tensor, clicks: Tensor) -> Tensor:
    """How each voxel compares with the tissue under the clicks: -1 darker, 0 alike, 1 brighter; 0 without clicks.

    Args:
        image, clicks: [B, 1, S, S, S].
    """
    axes = (1, 2, 3, 4)
    weight = clicks.sum(axes, keepdim=True)
    total = weight.clamp_min(1e-3)
    mean = (clicks * image).sum(axes, keepdim=True) / total
    deviation = ((clicks * (image - mean) ** 2).sum(axes, keepdim=True) / total).sqrt()
    return torch.tanh((image - mean) / (3 * deviation + 0.05)) * (weight > 0)
