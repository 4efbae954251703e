"""The prompt encoder: clicks sampled from the deepest feature, mixed with learned queries, and put back into it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from SAM3DSegmentLib.network.segment_anything_modules import Attention, MLPBlock

LAYERS = 2
HEADS = 8
QUERIES = 10


class PromptLayer(nn.Module):
    """Self-attention of queries and clicks, then attention of the image to the queries (paper, section 3.3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.global_query = nn.Parameter(torch.empty(1, QUERIES, channels).uniform_(-0.1, 0.1))
        self.self_attn = Attention(channels, HEADS)
        self.norm1 = nn.LayerNorm(channels)
        # In every published checkpoint, and never used.
        self.cross_attn_token_to_image = Attention(channels, HEADS, downsample_rate=2)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MLPBlock(channels, 8 * channels, nn.ReLU)
        self.norm3 = nn.LayerNorm(channels)
        self.norm4 = nn.LayerNorm(channels)
        self.cross_attn_image_to_token = Attention(channels, HEADS, downsample_rate=2)

    def forward(self, image: Tensor, clicks: Tensor) -> tuple[Tensor, Tensor]:
        """Image tokens [1, T, C] and click tokens [1, N, C], both changed."""
        tokens = torch.cat([self.global_query, clicks], 1)
        tokens = self.norm2(tokens + self.norm1(self.self_attn(tokens, tokens, tokens)))
        queries, clicks = tokens[:, :QUERIES], tokens[:, QUERIES:]
        queries = self.norm3(queries + self.mlp(queries))
        image = self.norm4(image + self.cross_attn_image_to_token(q=image, k=queries, v=queries))
        return image, clicks


class PromptTransformer(nn.Module):
    """The prompt layers, one after the other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(PromptLayer(channels) for _ in range(LAYERS))

    def forward(self, image: Tensor, clicks: Tensor) -> Tensor:
        for layer in self.layers:
            image, clicks = layer(image, clicks)
        return image


class PromptEncoder(nn.Module):
    """From the deepest feature and clicks to the prompted feature."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, channels: int, crop: int) -> None:
        super().__init__()
        self.crop = crop
        # On the CPU even where a network is only outlined: torch would take seconds to load its meta device's normal_.
        matrix = torch.randn(3, channels // 2, device="cpu")
        self.register_buffer("positional_encoding_gaussian_matrix", matrix)
        self.transformer = PromptTransformer(channels)

    def forward(self, feature: Tensor, points: Tensor, offset: Tensor | None) -> Tensor:
        """The prompted feature [1, C, H, W, D].

        Args:
            feature: [1, C, H, W, D].
            points: [N, 3], clicks (d, h, w) in voxels of the crop.
            offset: [N, C], added to the clicks' tokens, or None.
        """
        shape = feature.shape
        # grid_sample names the last axis first: (D, W, H) on a feature [H, W, D].
        grid = self.normalised(points)[:, [0, 2, 1]].view(1, -1, 1, 1, 3)
        sampled = F.grid_sample(
            feature.float(), grid.float(), mode="bilinear", padding_mode="zeros", align_corners=False
        )
        clicks = sampled.flatten(2).mT
        if offset is not None:
            clicks = clicks + offset
        image = self.transformer(feature.flatten(2).mT, clicks)
        return image.mT.reshape(shape)

    def normalised(self, points: Tensor) -> Tensor:
        """Positions [N, 3] in voxels as -1 to 1 from one face of the crop to the other."""
        return (points + 0.5) * (2 / self.crop) - 1

    def position_code(self, points: Tensor) -> Tensor:
        """[N, C], random Fourier features of clicks (d, h, w), as SAM encodes positions."""
        phase = 2 * torch.pi * self.normalised(points) @ self.positional_encoding_gaussian_matrix
        return torch.cat([phase.sin(), phase.cos()], -1)
