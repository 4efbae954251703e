"""Attention in windows of tokens, with position terms and shifted regions folded into queries and keys."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OTHER_REGION = -100.0
"""Added to the logit of two tokens of one window that were not neighbours before the roll."""

REGIONS = 8


class WindowAttention(nn.Module):
    """SAM's attention within cubic windows, with a third position table along D.

    The logit of tokens i and j is `q.k / sqrt(c) + lr * (q.Rh[i_h - j_h] + q.Rw[i_w - j_w] + q.Rd[i_d - j_d])`, and
    `OTHER_REGION` between regions. All of it is one scalar product of wider vectors: the query carries its products
    with the tables (and the penalty of each region but its own), the key the one-hot codes of its place.
    """

    def __init__(self, width: int, heads: int, window: int, table_length: int) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(table_length, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(table_length, width // heads))
        self.rel_pos_d = nn.Parameter(torch.zeros(table_length, width // heads))
        self.lr = nn.Parameter(torch.ones(()))

    def position_tables(self) -> Tensor:
        """[c, 3 (2w - 1)]: for each axis (H, W, D), `lr * sqrt(c) * R` from the largest difference to the smallest."""
        stored = torch.stack([self.rel_pos_h, self.rel_pos_w, self.rel_pos_d]).mT
        tables = F.interpolate(stored, size=2 * self.window - 1, mode="linear", align_corners=False)
        return (self.lr * tables.shape[1] ** 0.5 * tables.flip(-1)).transpose(0, 1).flatten(1)

    def forward(self, x: Tensor, tables: Tensor, regions: Tensor | None) -> Tensor:
        """Attended tokens [N, w^3, C].

        Args:
            x: [N, w^3, C], tokens of N windows in the order (H, W, D).
            tables: as `position_tables` makes them.
            regions: [N, w^3, 8], one-hot region of each token, or None where every window is of one region.
        """
        count, tokens, width = x.shape
        c = width // self.heads
        qkv = self.qkv(x).view(count, tokens, 3, self.heads, c)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        by_head = qkv[:, :, 0].flatten(0, 1).transpose(0, 1)
        products = (by_head @ tables.to(q.dtype)).unflatten(1, (count, tokens)).transpose(0, 1)
        queries = [q, *(part.to(q.dtype) for part in products_by_place(products, self.window))]
        keys = [k, place_codes(self.window, k).expand(count, self.heads, -1, -1)]
        if regions is not None:
            codes = regions.to(q.dtype)[:, None].expand(-1, self.heads, -1, -1)
            queries.append(OTHER_REGION * c**0.5 * (1 - codes))
            keys.append(codes)
        query, key = torch.cat(queries, -1), torch.cat(keys, -1)
        # The fused kernels want values as wide as keys: the padding is cheaper than their absence.
        value = F.pad(v, (0, query.shape[-1] - c))
        attended = F.scaled_dot_product_attention(query, key, value, scale=c**-0.5)[..., :c]
        return self.proj(attended.transpose(1, 2).reshape(count, tokens, width))


def products_by_place(products: Tensor, window: int) -> list[Tensor]:
    """For each axis (H, W, D), the products of each query with the differences to the w places, [N, heads, w^3, w].

    Args:
        products: [N, heads, w^3, 3 (2w - 1)], of each query with the columns of `position_tables`.
    """
    differences = 2 * window - 1
    parts = []
    for axis, columns in enumerate(products.unflatten(2, (window,) * 3).split(differences, -1)):
        # The row of a token at place i begins at column w - 1 - i: each step along the axis moves one column back.
        strides = list(columns.stride())
        strides[2 + axis] -= 1
        start = columns.storage_offset() + window - 1
        places = columns.as_strided((*columns.shape[:-1], window), strides, start)
        parts.append(places.flatten(2, 4))
    return parts


def place_codes(window: int, like: Tensor) -> Tensor:
    """[w^3, 3w], the one-hot places along H, W, D of a window's tokens, in the type and on the device of `like`."""
    one = torch.eye(window, dtype=like.dtype, device=like.device)
    shape = (window, window, window, window)
    axes = [one[:, None, None].expand(shape), one[None, :, None].expand(shape), one[None, None].expand(shape)]
    return torch.cat(axes, -1).flatten(0, 2)


def shifted_regions(size: int, window: int, device: torch.device) -> Tensor:
    """[n, w^3, 8], the one-hot region of each token once a cube of `size` tokens was rolled by half a window.

    Each axis is cut one window and half a window before its end; only the second cut parts a window, so a token's
    region within its window is told by one bit for each axis.
    """
    bit = (torch.arange(size, device=device) >= size - window // 2).long()
    region = 4 * bit[:, None, None] + 2 * bit[:, None] + bit
    return F.one_hot(split_windows(region[None, ..., None], window)[..., 0], REGIONS)


def window_order(size: int, window: int, shift: int, device: torch.device) -> Tensor:
    """[n, w^3], where the tokens of each window lie in the flattened cube of `size` tokens, rolled by `-shift`."""
    place = torch.arange(size**3, device=device).view(size, size, size).roll((-shift,) * 3, (0, 1, 2))
    return split_windows(place[None, ..., None], window)[..., 0]


def split_windows(x: Tensor, window: int) -> Tensor:
    """[B, S, S, S, C] to [B n, w^3, C]."""
    batch, size, _, _, width = x.shape
    n = size // window
    x = x.view(batch, n, window, n, window, n, window, width)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, window**3, width)
