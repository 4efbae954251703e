"""SAM as it was published, slice by slice: a rival of the 3D networks, behind the interface of them all.

A slice with an include click is segmented from its clicks. From there the object is followed through its neighbours:
each is prompted with the box of the mask before it, the point where SAM was surest of it, and with its own clicks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from SAM3DSegmentLib.errors import CheckpointError
from SAM3DSegmentLib.intensity import CropStatistics
from SAM3DSegmentLib.models.store import sha256_of
from SAM3DSegmentLib.network.adapter_predictor import compute_dtype
from SAM3DSegmentLib.network.interface import CropClick, Progress
from SAM3DSegmentLib.network.sam_weights import read_sam
from SAM3DSegmentLib.network.segment_anything_modules import PACKAGE
from SAM3DSegmentLib.network.tensor_files import check_tensors, shapes_of
from SAM3DSegmentLib.specification import Specification

modeling = import_module(f"{PACKAGE}.modeling")

NAME = "SAM slice by slice"
CROP_SIZE, SPACING = 160, 1.5
"""One zoom level of 240 mm: it holds a liver, and a slice of it shows the surroundings that SAM is used to."""

PATCH = 16
WINDOW = 14
CHANNELS = 256
"""Of SAM's image embedding and of its prompts."""

WHITE = 255.0
OUTSIDE_LOGIT = -10.0
SAME_OBJECT_DICE = 0.5
"""A slice whose mask overlaps the one before it by less shows another object: there the following ends."""

Prompts = list[tuple[tuple[float, float], bool]]
"""Positions (h, w) in voxels of the slice, and whether they include."""


@dataclass
class SliceEncodings:
    """The slices of a crop as SAM sees them, and the embeddings of those that were asked for.

    Attributes:
        slices: [S, S, S], axes (D, H, W), 0 to 255.
        embeddings: [1, 256, G, G] by slice.
    """

    slices: Tensor
    embeddings: dict[int, Tensor] = field(default_factory=dict)


class SamSlices:
    """`PromptableNetwork` on SAM's own encoder and decoder; the previous answer is not read, every list starts afresh.

    The outermost voxels of a crop are always outside, so that an answer that leaks is not followed into further crops.
    """

    def __init__(self, sam: nn.Module, specification: Specification, device: torch.device) -> None:
        self.specification = specification
        self.device = device
        self._dtype = compute_dtype(device)
        self._sam: Any = sam.to(device).eval()

    def encode(self, crop: Tensor, progress: Progress) -> SliceEncodings:
        progress(1.0)
        low, high = crop.min(), crop.max()
        return SliceEncodings((WHITE * (crop - low) / (high - low).clamp_min(1e-6)).to(self.device, torch.float32))

    @torch.inference_mode()
    def decode(
        self, encoding: SliceEncodings, clicks: Sequence[CropClick], previous: Tensor | None, progress: Progress
    ) -> Tensor:
        size = len(encoding.slices)
        prompts: dict[int, Prompts] = {}
        for click in clicks:
            d, h, w = click.position
            prompts.setdefault(min(max(round(d), 0), size - 1), []).append(((h, w), click.include))
        anchors = sorted(d for d, made in prompts.items() if any(include for _, include in made))
        logits = torch.full_like(encoding.slices, OUTSIDE_LOGIT)
        for number, anchor in enumerate(anchors):
            progress(number / len(anchors))
            logits[anchor] = self._answer(encoding, anchor, prompts[anchor], None)
            for sense in (-1, 1):
                before, d = logits[anchor], anchor + sense
                while (before > 0).any() and 0 <= d < size and min(anchors, key=lambda a: abs(a - d)) == anchor:
                    progress(number / len(anchors))
                    h, w = divmod(int(before.argmax()), size)
                    answer = self._answer(encoding, d, [((h, w), True), *prompts.get(d, [])], before > 0)
                    if overlap(before > 0, answer > 0) < SAME_OBJECT_DICE:
                        break
                    logits[d], before, d = answer, answer, d + sense
        progress(1.0)
        inner = (slice(1, -1),) * 3
        bordered = torch.full_like(logits, OUTSIDE_LOGIT)
        bordered[inner] = logits[inner]
        return bordered

    def _answer(self, encoding: SliceEncodings, d: int, prompts: Prompts, before: Tensor | None) -> Tensor:
        """[S, S], the logits of slice `d`.

        A lone click is ambiguous: of SAM's three answers the one counts that SAM itself takes for the best.

        Args:
            before: [S, S], the neighbour's mask, whose box is a further prompt.
        """
        size = len(encoding.slices)
        scale = self._sam.image_encoder.img_size / size
        points = torch.tensor([[[(w + 0.5) * scale - 0.5, (h + 0.5) * scale - 0.5] for (h, w), _ in prompts]])
        labels = torch.tensor([[float(include) for _, include in prompts]])
        box = None
        if before is not None:
            h, w = before.nonzero(as_tuple=True)
            box = torch.stack([w.min(), h.min(), w.max() + 1, h.max() + 1])[None] * scale - 0.5
        alone = len(prompts) == 1 and box is None
        sparse, dense = self._sam.prompt_encoder((points.to(self.device), labels.to(self.device)), box, None)
        masks, quality = self._sam.mask_decoder(
            image_embeddings=self._embedding(encoding, d),
            image_pe=self._sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=alone,
        )
        best = masks[:, quality[0].argmax()][None]
        return F.interpolate(best, (size, size), mode="bilinear", align_corners=False)[0, 0]

    def _embedding(self, encoding: SliceEncodings, d: int) -> Tensor:
        if d not in encoding.embeddings:
            edge = self._sam.image_encoder.img_size
            image = F.interpolate(encoding.slices[d][None, None], (edge, edge), mode="bilinear", align_corners=False)
            grey = (image.expand(1, 3, edge, edge) - self._sam.pixel_mean) / self._sam.pixel_std
            embedding = self._encoded(grey, self._dtype)
            if self._dtype is not None and not torch.isfinite(embedding).all():
                embedding = self._encoded(grey, None)
            encoding.embeddings[d] = embedding
        return encoding.embeddings[d]

    def _encoded(self, image: Tensor, dtype: torch.dtype | None) -> Tensor:
        # The encoder alone: positions of clicks need full precision, and the decoder is small.
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            embedding: Tensor = self._sam.image_encoder(image).float()
        return embedding


def overlap(first: Tensor, second: Tensor) -> float:
    """Dice of two slices, the first of them not empty."""
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def load_sam_slices(path: Path, device: torch.device) -> SamSlices:
    """SAM from its own checkpoint: ViT-B, ViT-L, ViT-H, or any other size of the same layout.

    Raises:
        CheckpointError: the file is truncated, wants to run code, or is not SAM's.
    """
    state = read_sam(path)
    sam = empty_sam(state, path)
    check_tensors(state, shapes_of(sam), str(path))
    sam.load_state_dict(state)
    specification = Specification(
        NAME, "", sha256_of(path), CROP_SIZE, (SPACING,), CropStatistics(), signed=True, antialias=True
    )
    return SamSlices(sam, specification, device)


def empty_sam(state: dict[str, Tensor], path: Path) -> nn.Module:
    """SAM with random weights, of the sizes that the shapes of a state dict tell."""
    prefix = "image_encoder."
    try:
        _, grid, _, width = state[f"{prefix}pos_embed"].shape
        depth = 1 + max(int(key.split(".")[2]) for key in state if key.startswith(f"{prefix}blocks."))
        tables = [state[f"{prefix}blocks.{i}.attn.rel_pos_h"].shape for i in range(depth)]
        heads = width // tables[0][1]
    except (LookupError, ValueError) as error:
        raise CheckpointError(f"{path} does not look like SAM's ({error}): choose sam_vit_b_01ec64.pth.") from error
    encoder = modeling.ImageEncoderViT(
        img_size=grid * PATCH,
        patch_size=PATCH,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        out_chans=CHANNELS,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=WINDOW,
        global_attn_indexes=[i for i, (length, _) in enumerate(tables) if length != 2 * WINDOW - 1],
    )
    prompts = modeling.PromptEncoder(CHANNELS, (grid, grid), (grid * PATCH, grid * PATCH), mask_in_chans=16)
    transformer = modeling.TwoWayTransformer(depth=2, embedding_dim=CHANNELS, mlp_dim=2048, num_heads=8)
    sam: nn.Module = modeling.Sam(
        encoder, prompts, modeling.MaskDecoder(transformer_dim=CHANNELS, transformer=transformer)
    )
    return sam
