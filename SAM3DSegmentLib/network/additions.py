"""What the published network lacks: signs and positions of clicks, the previous answer, and detail at full resolution.

Every addition starts at zero: a network that has just got them gives the numbers that it gave without.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from SAM3DSegmentLib.network.adapted_encoder import VOXELS_PER_TOKEN, AdapterSizes

PREVIOUS_LIMIT = 4.0
CLICK_SIGMA = 3.0
"""Standard deviation in voxels of the ball that marks a click."""

PROMPT_VOLUMES = 3
PROMPT_CHANNELS = 16
HEAD_CHANNELS = 8


class Additions(nn.Module):
    """Extra modules of a network that was trained here."""

    def __init__(self, sizes: AdapterSizes) -> None:
        super().__init__()
        channels = sizes.channels
        self.sign = nn.Parameter(torch.zeros(2, channels))
        self.position = nn.Linear(channels, channels, bias=False)
        onto_feature = nn.Conv3d(PROMPT_CHANNELS, channels, 1, bias=False)
        self.volumes = nn.Sequential(
            nn.Conv3d(PROMPT_VOLUMES, PROMPT_CHANNELS, VOXELS_PER_TOKEN, VOXELS_PER_TOKEN), nn.GELU(), onto_feature
        )
        self.head = FullResolutionHead(channels // 2)
        nn.init.zeros_(self.position.weight)
        nn.init.zeros_(onto_feature.weight)

    def click_offset(self, include: Tensor, position_code: Tensor) -> Tensor:
        """[N, C], added to the tokens of N clicks; `include` is [N] bool, `position_code` [N, C]."""
        return self.sign[include.long()] + self.position(position_code)

    def volume_offset(self, volumes: Tensor) -> Tensor:
        """[1, C, H, W, D], added to f4; `volumes` as `prompt_volumes` makes them."""
        offset: Tensor = self.volumes(volumes.permute(0, 1, 3, 4, 2))
        return offset


def prompt_volumes(points: Tensor, include: Tensor, previous: Tensor | None, size: int) -> Tensor:
    """[1, 3, S, S, S], axes (D, H, W): the previous answer and balls around the include and the exclude clicks.

    Tokens alone say where a click is to the whole crop at once; here the correction that it asks for has a place.

    Args:
        points: [N, 3], clicks (d, h, w) in voxels.
        include: [N] bool.
        previous: [S, S, S], logits of the answer before; zeros stand for None.
    """
    offsets = torch.arange(size, device=points.device) - points[:, :, None]
    d, h, w = torch.exp(-(offsets**2) / (2 * CLICK_SIGMA**2)).unbind(1)
    balls = d[:, :, None, None] * h[:, None, :, None] * w[:, None, None, :]
    empty = balls.new_zeros((1, size, size, size))
    signed = [torch.cat([empty, balls[chosen]]).amax(0) for chosen in (include, ~include)]
    answer = empty[0] if previous is None else previous.clamp(-PREVIOUS_LIMIT, PREVIOUS_LIMIT) / PREVIOUS_LIMIT
    return torch.stack([answer, *signed])[None]


class FullResolutionHead(nn.Module):
    """A correction of the logits that sees the crop's own voxels, the clicks and the previous answer there."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Conv3d(hidden, HEAD_CHANNELS, 1)
        self.mix = nn.Conv3d(HEAD_CHANNELS + 1 + PROMPT_VOLUMES, HEAD_CHANNELS, 3, padding=1)
        self.out = nn.Conv3d(HEAD_CHANNELS, 2, 3, padding=1, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, hidden: Tensor, crop: Tensor, volumes: Tensor) -> Tensor:
        """[B, 2, S, S, S], axes (D, H, W), added to the logits.

        Args:
            hidden: the decoder's features at half resolution, [B, C, H, W, D].
            crop: [B, S, S, S], axes (D, H, W).
            volumes: [B, 3, S, S, S], as `prompt_volumes` makes them.
        """
        detail = F.interpolate(self.reduce(hidden).permute(0, 1, 4, 2, 3), size=crop.shape[1:], mode="trilinear")
        seen = [detail, crop[:, None].to(detail.dtype), volumes.to(detail.dtype)]
        correction: Tensor = self.out(F.gelu(self.mix(torch.cat(seen, 1))))
        return correction
