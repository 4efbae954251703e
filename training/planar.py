"""The compact network in planes: the same parameters and numbers, its 3D convolutions as 2D ones over the slices.

onnxruntime has fast kernels for 2D convolutions only. So the graph that it runs carries the slices of a feature as a
batch, [D, C, H, W], and a 3x3x3 convolution reads each slice with its two neighbours as 3 C channels: half the time.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from SAM3DSegmentLib.network.compact import CompactNetwork, ResidualBlock, unfold


class PlanarNetwork(nn.Module):
    """A `CompactNetwork` evaluated in planes, with its arguments, for a batch of one."""

    def __init__(self, network: CompactNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, include: Tensor, exclude: Tensor, previous: Tensor, reach: Tensor) -> Tensor:
        network = self.network
        x = network.channels(image, include, exclude, previous, reach)[0].transpose(0, 1)
        x = level(convolution(x, network.stem), network.encoder[0])
        skips = []
        for down, coarser in zip(network.down, network.encoder[1:], strict=True):
            skips.append(x)
            x = level(halving(x, down), coarser)
        for up, finer, skip in reversed(list(zip(network.up, network.decoder, skips, strict=True))):
            narrow = F.conv2d(x, up.weight[:, :, 0], up.bias)
            x = block(doubled(narrow) + skip, finer)
        return unfold(convolution(x, network.head).transpose(0, 1)[None])


def level(x: Tensor, of: Iterable[ResidualBlock]) -> Tensor:
    """The blocks of a level, one after another, on [D, C, H, W]."""
    for each in of:
        x = block(x, each)
    return x


def block(x: Tensor, of: ResidualBlock) -> Tensor:
    """`ResidualBlock.forward` on [D, C, H, W]."""
    y = F.relu(normalised(convolution(x, of.conv1), of.norm1))
    return F.relu(normalised(convolution(y, of.conv2), of.norm2) + x)


def convolution(x: Tensor, of: nn.Conv3d) -> Tensor:
    """A 3x3x3 convolution with padding 1 of [D, C, H, W]."""
    padded = F.pad(x, (0, 0, 0, 0, 0, 0, 1, 1))
    neighbours = torch.cat([padded[:-2], x, padded[2:]], dim=1)
    return F.conv2d(neighbours, slices_as_channels(of.weight), of.bias, padding=1)


def halving(x: Tensor, of: nn.Conv3d) -> Tensor:
    """A 2x2x2 convolution with stride 2: [D, C, H, W] to [D/2, C', H/2, W/2]."""
    d, c, h, w = x.shape
    return F.conv2d(x.reshape(d // 2, 2 * c, h, w), slices_as_channels(of.weight), of.bias, stride=2)


def slices_as_channels(weight: Tensor) -> Tensor:
    """[C', C, d, h, w] to [C', d C, h, w]."""
    return weight.transpose(1, 2).flatten(1, 2)


def doubled(x: Tensor) -> Tensor:
    """Nearest neighbours: [D, C, H, W] to [2D, C, 2H, 2W]."""
    d, c, h, w = x.shape
    wide = F.interpolate(x, scale_factor=2.0, mode="nearest")
    return wide[:, None].expand(d, 2, c, 2 * h, 2 * w).reshape(2 * d, c, 2 * h, 2 * w)


def normalised(x: Tensor, of: nn.GroupNorm) -> Tensor:
    """GroupNorm over the slices together: [D, C, H, W] to the same."""
    groups = x.reshape(len(x), of.num_groups, -1)
    mean = groups.mean((0, 2))
    deviation = ((groups * groups).mean((0, 2)) - mean * mean + of.eps).sqrt()
    each = x.shape[1] // of.num_groups
    scale = of.weight / deviation.repeat_interleave(each)
    offset = of.bias - mean.repeat_interleave(each) * scale
    return x * scale[:, None, None] + offset[:, None, None]
