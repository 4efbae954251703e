"""3DSAM-adapter: SAM's 2D image encoder adapted to 3D, a prompt encoder and a mask decoder.

Gong et al., "3DSAM-adapter: Holistic adaptation of SAM from 2D to 3D for promptable tumor segmentation", Medical Image
Analysis 98 (2024) 103324.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from SAM3DSegmentLib.network.adapted_encoder import AdaptedEncoder, AdapterSizes
from SAM3DSegmentLib.network.additions import Additions, prompt_volumes
from SAM3DSegmentLib.network.mask_decoder import MaskDecoder
from SAM3DSegmentLib.network.prompt_encoder import PromptEncoder


@dataclass(frozen=True)
class CropEncoding:
    """What clicks need of a crop.

    Attributes:
        crop: [1, S, S, S], axes (D, H, W).
        deepest: f4, [1, C, H, W, D].
        share: the part of the decoder that no click changes, [1, C / 2, 2H, 2W, 2D].
    """

    crop: Tensor
    deepest: Tensor
    share: Tensor

    def to(self, device: torch.device) -> CropEncoding:
        """The same on another device."""
        return CropEncoding(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def float(self) -> CropEncoding:
        """The same in float32."""
        return CropEncoding(**{f.name: getattr(self, f.name).float() for f in fields(self)})

    def is_finite(self) -> bool:
        """Whether no number in it outgrew its type."""
        return bool(torch.isfinite(self.deepest).all() and torch.isfinite(self.share).all())


class SamAdapter(nn.Module):
    """The whole network.

    Freshly built or loaded from a published checkpoint it has no `additions`; `add_additions` gives it those, ready to
    be trained and still without effect.
    """

    def __init__(self, sizes: AdapterSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.encoder = AdaptedEncoder(sizes)
        self.prompt = PromptEncoder(sizes.channels, sizes.crop)
        self.decoder = MaskDecoder(sizes.channels)
        self.additions: Additions | None = None

    def add_additions(self) -> None:
        """Let the network read signs, positions and its previous answer, and write at full resolution."""
        self.additions = Additions(self.sizes)

    def encode(
        self,
        crop: Tensor,
        windows_at_once: int,
        progress: Callable[[float], None],
        blocks_dtype: torch.dtype | None = None,
    ) -> CropEncoding:
        """The encoding of a crop [S, S, S], axes (D, H, W), normalised, zeros outside the volume.

        Args:
            windows_at_once: attention windows that are worked on together; fewer need less memory.
            progress: called after each block with the finished fraction.
            blocks_dtype: of the products in the encoder's blocks, in autocast; None for that of everything else.
        """
        crop = crop[None]
        *shallow, deepest = self.encoder(crop, windows_at_once, progress, blocks_dtype)
        return CropEncoding(crop, deepest, self.decoder.share_of_crop(shallow, crop))

    def decode(self, encoding: CropEncoding, points: Tensor, include: Tensor, previous: Tensor | None) -> Tensor:
        """Logits [2, S, S, S] of background and tumour, axes (D, H, W), float32.

        Args:
            points: [N, 3], clicks (d, h, w) in voxels of the crop; not read by a network without clicks.
            include: [N] bool, whether each click includes; read by a network with additions only.
            previous: [S, S, S], tumour logits of the answer before, or None; read by a network with additions only.
        """
        if not self.sizes.clicks:
            return self.decoder(encoding.share, encoding.deepest)[0][0]
        deepest = encoding.deepest
        if self.additions is None:
            return self.decoder(encoding.share, self.prompt(deepest, points, None))[0][0]
        volumes = prompt_volumes(points, include, previous, encoding.crop.shape[-1])
        deepest = deepest + self.additions.volume_offset(volumes)
        offset = self.additions.click_offset(include, self.prompt.position_code(points))
        logits, hidden = self.decoder(encoding.share, self.prompt(deepest, points, offset))
        return (logits + self.additions.head(hidden, encoding.crop, volumes))[0]
