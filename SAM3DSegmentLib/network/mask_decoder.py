"""The mask decoder (MLA head): four features and the crop in, logits of background and tumour out.

Only the fourth feature changes with the clicks. A convolution over a concatenation is a sum of convolutions, so the
other features' share is computed once for a crop (`share_of_crop`) and every click adds its own (`forward`).
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def instance_norm(channels: int) -> nn.GroupNorm:
    """InstanceNorm without affine parameters, by the faster kernel."""
    return nn.GroupNorm(channels, channels, affine=False)


def feature_head(channels: int) -> nn.Sequential:
    """[B, channels, H, W, D] to [B, channels / 2, H, W, D]."""
    half = channels // 2
    return nn.Sequential(
        nn.Conv3d(channels, half, 3, padding=1, bias=False),
        instance_norm(half),
        nn.ReLU(),
        nn.Conv3d(half, half, 3, padding=1, bias=False),
        instance_norm(half),
        nn.ReLU(),
    )


class MaskDecoder(nn.Module):
    """Heads of the four features (`head2` to `head5`, as published) and the classifier over their concatenation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.head_channels = channels // 2
        self.mlahead = nn.ModuleDict({f"head{i}": feature_head(channels) for i in (2, 3, 4, 5)})
        self.cls = nn.Sequential(
            nn.Conv3d(4 * self.head_channels + 1, self.head_channels, 3, padding=1, bias=False),
            instance_norm(self.head_channels),
            nn.ReLU(),
            nn.Conv3d(self.head_channels, 2, 3, padding=1, bias=False),
        )

    def share_of_crop(self, features: list[Tensor], crop: Tensor) -> Tensor:
        """What f1, f2, f3 and the crop add to the classifier's first convolution, [B, half, 2H, 2W, 2D].

        Args:
            features: f1, f2, f3, each [B, C, H, W, D].
            crop: [B, S, S, S], axes (D, H, W).
        """
        weight = self.cls.get_parameter("0.weight")
        heads = torch.cat([self.mlahead[f"head{i}"](f) for i, f in enumerate(features, 2)], 1)
        size = 2 * heads.shape[-1]
        image = F.interpolate(
            crop.permute(0, 2, 3, 1)[:, None], size=(size,) * 3, mode="trilinear", align_corners=False
        )
        share = convolve_upsampled(heads, weight[:, : 3 * self.head_channels])
        return share + convolve_one_channel(image[:, 0], weight[:, 4 * self.head_channels])

    def forward(self, share: Tensor, prompted: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, 2, S, S, S], axes (D, H, W), and the hidden features [B, half, 2H, 2W, 2D] they come from.

        Args:
            share: as `share_of_crop` makes it.
            prompted: f4 with its clicks, [B, C, H, W, D].
        """
        weight = self.cls.get_parameter("0.weight")[:, 3 * self.head_channels : 4 * self.head_channels]
        hidden = share + convolve_upsampled(self.mlahead["head5"](prompted), weight)
        hidden = F.relu(self.cls[1](hidden), inplace=True)
        logits = convolve_to_few(hidden, self.cls.get_parameter("3.weight"))
        logits = F.interpolate(logits.float(), scale_factor=2.0, mode="trilinear", align_corners=True)
        return logits.permute(0, 1, 4, 2, 3), hidden


def convolve_upsampled(x: Tensor, weight: Tensor) -> Tensor:
    """3x3x3 convolution (zero padding 1) of `x` upsampled by 2 (trilinear, `align_corners=True`), [B, O, 2S, 2S, 2S].

    Mixing channels and interpolating commute: the channels are mixed on the coarse grid, once for each of the 27 taps,
    then one matrix for each axis interpolates, shifts and sums the taps. An eighth of the products, the same numbers.
    One coarse slice along D at a time is mixed and interpolated within its plane, which bounds the memory in use.

    Args:
        x: [B, K, S, S, S].
        weight: [O, K, 3, 3, 3].
    """
    batch, inputs, n = x.shape[:3]
    outputs = len(weight)
    up = F.interpolate(torch.eye(n, device=x.device)[None], size=2 * n, mode="linear", align_corners=True)[0].T
    padded = F.pad(up, (0, 0, 1, 1))
    # [2n, 3n]: the columns hold, for each tap, the weight of every coarse place.
    taps = torch.cat([padded[i : i + 2 * n] for i in range(3)], 1)
    # [(w tap, h tap), K, (d tap, O)]: the next axis to be interpolated always has its taps beside its places.
    mixing = weight.permute(3, 2, 1, 4, 0).reshape(9, inputs, 3 * outputs).to(x.dtype)
    slices = []
    for coarse in x.permute(4, 0, 2, 3, 1).contiguous():
        y = coarse.view(batch, 1, n * n, inputs) @ mixing
        matrix = taps.to(y.dtype)
        y = matrix @ y.view(batch, 3, 3 * n, 3 * n * outputs)
        y = y.view(batch, 3, 2 * n, n, 3 * outputs).transpose(1, 2)
        y = matrix @ y.reshape(batch, 2 * n, 3 * n, 3 * outputs)
        slices.append(y.view(batch, 2 * n, 2 * n, 3, 1, outputs))
    stacked = torch.cat(slices, 4).view(batch, 2 * n, 2 * n, 3 * n, outputs)
    return (taps.to(stacked.dtype) @ stacked).movedim(-1, 1)


def convolve_one_channel(x: Tensor, weight: Tensor) -> Tensor:
    """3x3x3 convolution (zero padding 1) of one channel, as the matrix product it is: channels last, [B, O, S, S, S].

    Args:
        x: [B, S, S, S].
        weight: [O, 3, 3, 3].
    """
    neighbours = F.pad(x, (1,) * 6).unfold(1, 3, 1).unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)
    return F.linear(neighbours, weight.flatten(1).to(x.dtype)).movedim(-1, 1)


def convolve_to_few(x: Tensor, weight: Tensor) -> Tensor:
    """3x3x3 convolution (zero padding 1) to few channels: one matrix product for all taps, then their shifted sum.

    Args:
        x: [B, K, S, S, S].
        weight: [O, K, 3, 3, 3].
    """
    n, outputs = x.shape[2], len(weight)
    by_tap = weight.permute(2, 3, 4, 0, 1).flatten(0, 3).to(x.dtype)
    taps = (by_tap @ x.flatten(2)).view(len(x), 27, outputs, n, n, n)
    total = F.pad(torch.zeros_like(taps[:, 0], dtype=torch.float32), (1,) * 6)
    for tap, (h, w, d) in enumerate(itertools.product(range(3), repeat=3)):
        total[..., 2 - h : n + 2 - h, 2 - w : n + 2 - w, 2 - d : n + 2 - d] += taps[:, tap]
    return total[..., 1:-1, 1:-1, 1:-1]
