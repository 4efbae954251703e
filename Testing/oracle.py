"""The oracle: a plain and slow evaluation of the published network's description, the yardstick of every shortcut.

It reads the dictionaries of a published checkpoint and takes each step as the description puts it: the crop upsampled
to 512 slices, a bias tensor for every attention, one convolution over 513 channels, everything anew for every click.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class OracleResult:
    """Attributes: features: f1 to f4 [C, H, W, D], the fourth unprompted; logits: [2, D, H, W]."""

    features: list[Tensor]
    logits: Tensor


@torch.no_grad()
def evaluate(
    encoder: State, prompt: State, decoder: State, crop: Tensor, points: Tensor, heads: int, window: int
) -> OracleResult:
    """Features and logits of a crop [S, S, S] (D, H, W) with clicks [N, 3] (d, h, w)."""
    features = encode(encoder, crop, heads, window)
    prompted = prompt_feature(prompt, features[3], points, crop.shape[0])
    return OracleResult(features, decode(decoder, [*features[:3], prompted], crop))


def encode(p: State, crop: Tensor, heads: int, window: int) -> list[Tensor]:
    """Section 2."""
    x = embed(p, crop)
    depth = 1 + max(int(k.split(".")[1]) for k in p if k.startswith("blocks."))
    features = []
    for i in range(depth):
        x = block(part(p, f"blocks.{i}."), x, heads, window, shifted=i % 2 == 0)
        if (i + 1) % (depth // 4) == 0:
            features.append(neck(part(p, f"neck_3d.{len(features)}."), x))
    return features


def embed(p: State, crop: Tensor) -> Tensor:
    """Tokens [H, W, D, C]."""
    large = F.interpolate(crop[None, None], scale_factor=4, mode="trilinear", align_corners=False)[0, 0]
    slices = large[:, None].repeat(1, 3, 1, 1)
    patches = F.conv2d(slices, p["patch_embed.proj.weight"], p["patch_embed.proj.bias"], stride=16)
    volume = patches.permute(1, 2, 3, 0)[None]
    weight = p["slice_embed.weight"]
    tokens = F.conv3d(volume, weight, p["slice_embed.bias"], stride=(1, 1, 16), groups=len(weight))[0].permute(
        1, 2, 3, 0
    )
    position = F.avg_pool2d(p["pos_embed"].permute(0, 3, 1, 2), 2)[0].permute(1, 2, 0)
    return tokens + position[:, :, None] + p["depth_embed"][0]


def block(p: State, x: Tensor, heads: int, window: int, shifted: bool) -> Tensor:
    """Adapter, attention, MLP on tokens [H, W, D, C]."""
    y = F.relu(F.linear(x, p["adapter.linear1.weight"], p["adapter.linear1.bias"]))
    weight = p["adapter.conv.weight"]
    y = F.conv3d(y.permute(3, 0, 1, 2)[None], weight, p["adapter.conv.bias"], padding=1, groups=len(weight))[0]
    y = F.relu(y).permute(1, 2, 3, 0)
    x = x + F.relu(F.linear(y, p["adapter.linear2.weight"], p["adapter.linear2.bias"]))

    width = (x.shape[-1],)
    y = F.layer_norm(x, width, p["norm1.weight"], p["norm1.bias"], 1e-6)
    shift = window // 2 if shifted else 0
    y = y.roll((-shift,) * 3, (0, 1, 2))
    mask = shift_mask(x.shape[0], window) if shifted else None
    y = unwindow(attention(part(p, "attn."), windows(y, window), heads, window, mask), x.shape[0], window)
    x = x + y.roll((shift,) * 3, (0, 1, 2))

    y = F.layer_norm(x, width, p["norm2.weight"], p["norm2.bias"], 1e-6)
    y = F.gelu(F.linear(y, p["mlp.lin1.weight"], p["mlp.lin1.bias"]))
    return x + F.linear(y, p["mlp.lin2.weight"], p["mlp.lin2.bias"])


def attention(p: State, x: Tensor, heads: int, window: int, mask: Tensor | None) -> Tensor:
    """Windows [n, w^3, C] attended, with the bias of every pair of tokens written out."""
    n, tokens, width = x.shape
    c = width // heads
    qkv = F.linear(x, p["qkv.weight"], p["qkv.bias"]).view(n, tokens, 3, heads, c)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    logits = q @ k.transpose(-1, -2) / c**0.5
    grid = q.view(n, heads, window, window, window, c)
    h, w, d = (
        F.interpolate(p[f"rel_pos_{axis}"].T[None], size=2 * window - 1, mode="linear", align_corners=False)[0].T
        for axis in "hwd"
    )
    difference = torch.arange(window)[:, None] - torch.arange(window)[None] + window - 1
    along_h = torch.einsum("nahwdc,hic->nahwdi", grid, h[difference])[..., :, None, None]
    along_w = torch.einsum("nahwdc,wjc->nahwdj", grid, w[difference])[..., None, :, None]
    along_d = torch.einsum("nahwdc,dkc->nahwdk", grid, d[difference])[..., None, None, :]
    logits = logits + p["lr"] * (along_h + along_w + along_d).reshape(n, heads, tokens, tokens)
    if mask is not None:
        logits = logits + mask[:, None]
    y = (logits.softmax(-1) @ v).transpose(1, 2).reshape(n, tokens, width)
    return F.linear(y, p["proj.weight"], p["proj.bias"])


def shift_mask(size: int, window: int) -> Tensor:
    """[n, w^3, w^3], -100 between tokens of different regions, each axis cut at -window and -window / 2."""
    axis = torch.zeros(size, dtype=torch.long)
    axis[size - window :] = 1
    axis[size - window // 2 :] = 2
    region = 9 * axis[:, None, None] + 3 * axis[None, :, None] + axis[None, None, :]
    flat = windows(region[..., None], window)[..., 0]
    return -100.0 * (flat[:, None] != flat[:, :, None]).float()


def windows(x: Tensor, w: int) -> Tensor:
    n = x.shape[0] // w
    return x.reshape(n, w, n, w, n, w, -1).permute(0, 2, 4, 1, 3, 5, 6).reshape(n**3, w**3, -1)


def unwindow(x: Tensor, size: int, w: int) -> Tensor:
    n = size // w
    return x.reshape(n, n, n, w, w, w, -1).permute(0, 3, 1, 4, 2, 5, 6).reshape(size, size, size, -1)


def neck(p: State, x: Tensor) -> Tensor:
    """[C, H, W, D]."""
    y = F.conv3d(x.permute(3, 0, 1, 2)[None], p["0.weight"])
    y = channel_norm(y, p["1.weight"], p["1.bias"])
    y = F.conv3d(y, p["2.weight"], padding=1)
    return channel_norm(y, p["3.weight"], p["3.bias"])[0]


def channel_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.layer_norm(x.movedim(1, -1), weight.shape, weight, bias, 1e-6).movedim(-1, 1)


def prompt_feature(p: State, feature: Tensor, points: Tensor, crop: int) -> Tensor:
    """Section 3: f4 [C, H, W, D] with its clicks."""
    channels, *shape = feature.shape
    position = (points + 0.5) * 2 / crop - 1
    d, h, w = position.unbind(1)
    grid = torch.stack([d, w, h], -1)[None, :, None, None]
    clicks = F.grid_sample(feature[None], grid, align_corners=False)[0, :, :, 0, 0].T
    image = feature.flatten(1).T
    for i in range(2):
        q = part(p, f"transformer.layers.{i}.")
        t = torch.cat([q["global_query"][0], clicks])
        t = norm(q, "norm2", t + norm(q, "norm1", multi_head(part(q, "self_attn."), t, t)))
        queries, clicks = t[:10], t[10:]
        mlp = F.linear(F.relu(F.linear(queries, q["mlp.lin1.weight"], q["mlp.lin1.bias"])), q["mlp.lin2.weight"])
        queries = norm(q, "norm3", queries + mlp + q["mlp.lin2.bias"])
        image = norm(q, "norm4", image + multi_head(part(q, "cross_attn_image_to_token."), image, queries))
    return image.T.reshape(channels, *shape)


def multi_head(p: State, q: Tensor, kv: Tensor, heads: int = 8) -> Tensor:
    """Attention of [N, C] to [M, C]."""
    q, k, v = (
        F.linear(x, p[f"{name}_proj.weight"], p[f"{name}_proj.bias"]).view(len(x), heads, -1).transpose(0, 1)
        for name, x in (("q", q), ("k", kv), ("v", kv))
    )
    y = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1) @ v
    return F.linear(y.transpose(0, 1).flatten(1), p["out_proj.weight"], p["out_proj.bias"])


def norm(p: State, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], p[f"{name}.weight"], p[f"{name}.bias"], 1e-5)


def decode(p: State, features: list[Tensor], crop: Tensor) -> Tensor:
    """Section 4: logits [2, D, H, W]."""
    channels = []
    for name, feature in zip(("head2", "head3", "head4", "head5"), features, strict=True):
        y = feature[None]
        for layer in (0, 3):
            y = F.relu(F.instance_norm(F.conv3d(y, p[f"mlahead.{name}.{layer}.weight"], padding=1)))
        channels.append(F.interpolate(y, scale_factor=2, mode="trilinear", align_corners=True))
    image = crop.permute(1, 2, 0)[None, None]
    channels.append(F.interpolate(image, size=channels[0].shape[2:], mode="trilinear", align_corners=False))
    y = F.relu(F.instance_norm(F.conv3d(torch.cat(channels, 1), p["cls.0.weight"], padding=1)))
    y = F.conv3d(y, p["cls.3.weight"], padding=1)
    return F.interpolate(y, scale_factor=2, mode="trilinear", align_corners=True)[0].permute(0, 3, 1, 2)


def part(p: State, prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in p.items() if k.startswith(prefix)}
