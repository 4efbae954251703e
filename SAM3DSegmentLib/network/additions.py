"""What the published network lacks: signs and positions of clicks, the previous answer, and detail at full resolution.

Every addition starts at zero: a network that has just got them gives the numbers that it gave without.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from SAM3DSegmentLib.network.adapted_encoder import VOXELS_PER_TOKEN, AdapterSizes

PREVIOUS_LIMIT = 4.0
PREVIOUS_CHANNELS = 16
HEAD_CHANNELS = 8


class Additions(nn.Module):
    """Extra modules of a network that was trained here."""

    def __init__(self, sizes: AdapterSizes) -> None:
        super().__init__()
        channels = sizes.channels
        self.sign = nn.Parameter(torch.zeros(2, channels))
        self.position = nn.Linear(channels, channels, bias=False)
        onto_feature = nn.Conv3d(PREVIOUS_CHANNELS, channels, 1, bias=False)
        self.previous = nn.Sequential(
            nn.Conv3d(1, PREVIOUS_CHANNELS, VOXELS_PER_TOKEN, VOXELS_PER_TOKEN), nn.GELU(), onto_feature
        )
        self.head = FullResolutionHead(channels // 2)
        nn.init.zeros_(self.position.weight)
        nn.init.zeros_(onto_feature.weight)

    def click_offset(self, include: Tensor, position_code: Tensor) -> Tensor:
        """[N, C], added to the tokens of N clicks; `include` is [N] bool, `position_code` [N, C]."""
        return self.sign[include.long()] + self.position(position_code)

    def previous_offset(self, previous: Tensor) -> Tensor:
        """[1, C, H, W, D], added to f4; `previous` are the logits [S, S, S] of the answer before, axes (D, H, W)."""
        limited = previous.clamp(-PREVIOUS_LIMIT, PREVIOUS_LIMIT) / PREVIOUS_LIMIT
        return self.previous(limited.permute(1, 2, 0)[None, None])


class FullResolutionHead(nn.Module):
    """A correction of the logits that sees the crop's own voxels."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Conv3d(hidden, HEAD_CHANNELS, 1)
        self.mix = nn.Conv3d(HEAD_CHANNELS + 1, HEAD_CHANNELS, 3, padding=1)
        self.out = nn.Conv3d(HEAD_CHANNELS, 2, 3, padding=1, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, hidden: Tensor, crop: Tensor) -> Tensor:
        """[B, 2, S, S, S], axes (D, H, W), added to the logits.

        Args:
            hidden: the decoder's features at half resolution, [B, C, H, W, D].
            crop: [B, S, S, S], axes (D, H, W).
        """
        detail = F.interpolate(self.reduce(hidden).permute(0, 1, 4, 2, 3), size=crop.shape[1:], mode="trilinear")
        correction: Tensor = self.out(F.gelu(self.mix(torch.cat([detail, crop[:, None].to(detail.dtype)], 1))))
        return correction
