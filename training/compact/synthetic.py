"""Synthetic volumes with one target: smooth random organs and lesions under a random scanner."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from SAM3DSegmentLib.evaluation.simulated_user import largest_component

ORGANS, VESSELS = 0.25, 0.12
"""How often the target is one of the organs, or a thin winding structure, instead of a lesion."""

INSIDE_ORGAN = 0.6
"""How often a lesion stops at the border of the organ in which it lies."""

SMALLEST_TARGET = 20
"""Voxels."""


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """One number between `low` and `high`."""
    return float(rng.uniform(low, high))


def smooth_noise(shape: tuple[int, int, int], cells: float, rng: np.random.Generator, channels: int = 1) -> Tensor:
    """[channels, *shape], unit variance, with about `cells` bumps along the longest axis."""
    coarse = [max(3, round(cells * s / max(shape)) + 2) for s in shape]
    noise = torch.from_numpy(rng.standard_normal((1, channels, *coarse), dtype=np.float32))
    noise = F.interpolate(noise, size=shape, mode="trilinear", align_corners=True)[0]
    return noise / noise.std().clamp_min(1e-3)


def organs(shape: tuple[int, int, int], rng: np.random.Generator) -> Tensor:
    """[*shape] integer label map of a few touching regions, each with smooth borders."""
    count = int(rng.integers(2, 8))
    field = smooth_noise(shape, uniform(rng, 1.5, 5), rng, count)
    if rng.random() < 0.5:
        field += uniform(rng, 0.1, 0.5) * smooth_noise(shape, uniform(rng, 6, 14), rng, count)
    return torch.from_numpy(field.numpy().argmax(0))


def blob(shape: tuple[int, int, int], centre: np.ndarray, radius: float, rng: np.random.Generator) -> Tensor:
    """[*shape] signed depth of a lumpy ellipsoid: 1 at its centre, 0 at its surface, negative outside."""
    axes = torch.meshgrid(*(torch.arange(s, dtype=torch.float32) for s in shape), indexing="ij")
    offset = torch.stack([(a - float(c)) / radius for a, c in zip(axes, centre, strict=True)])
    rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    stretch = np.exp(rng.normal(0, 0.3, 3))
    matrix = torch.from_numpy((rotation * (stretch / np.cbrt(stretch.prod()))[:, None]).astype(np.float32))
    distance = (matrix @ offset.flatten(1)).square().sum(0).sqrt().view(shape)
    cells = max(shape) / radius
    lumps = uniform(rng, 0, 0.35) * smooth_noise(shape, cells * uniform(rng, 0.8, 2.5), rng)[0]
    return 1 - distance + lumps


def tubes(shape: tuple[int, int, int], rng: np.random.Generator, through: tuple[int, int, int] | None = None) -> Tensor:
    """[*shape] boolean, vessels: where two smooth fields are both near zero; one of them passes `through` a voxel."""
    first, second = smooth_noise(shape, uniform(rng, 2, 5), rng, 2)
    if through is not None:
        first, second = first - first[through], second - second[through]
    return (first.abs() + second.abs()) < uniform(rng, 0.08, 0.25)


def scan(image: Tensor, rng: np.random.Generator) -> Tensor:
    """The image as a scanner would deliver it: texture aside, blur, thick slices, bias field, noise."""
    if rng.random() < 0.7:
        image = gaussian_blur(image, uniform(rng, 0.3, 1.2))
    if rng.random() < 0.5:
        image = thick_slices(image, int(rng.integers(0, 3)), uniform(rng, 1.5, 4))
    if rng.random() < 0.1:
        image = motion_blur(image, rng)
    if rng.random() < 0.3:
        image = image * (1 + uniform(rng, 0, 0.25) * smooth_noise(image.shape, 1.5, rng)[0])
    noise = torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32))
    if rng.random() < 0.5:
        noise = gaussian_blur(noise, uniform(rng, 0.4, 0.9))
        noise = noise / noise.std()
    return image + uniform(rng, 0.01, 0.25) * noise


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """[D, H, W] smoothed with a standard deviation of `sigma` voxels, edges repeated."""
    radius = max(1, round(3 * sigma))
    taps = torch.exp(-(torch.arange(-radius, radius + 1, dtype=torch.float32) ** 2) / (2 * sigma**2))
    taps = taps / taps.sum()
    x = image[None, None]
    for axis in range(3):
        window = [1, 1, 1, 1, 1]
        window[2 + axis] = 2 * radius + 1
        padding = [0] * 6
        padding[2 * (2 - axis) : 2 * (2 - axis) + 2] = [radius, radius]
        x = F.conv3d(F.pad(x, padding, mode="replicate"), taps.view(window))
    return x[0, 0]


def thick_slices(image: Tensor, axis: int, factor: float) -> Tensor:
    """[D, H, W] averaged into slices `factor` voxels thick along `axis` and interpolated back."""
    size = list(image.shape)
    size[axis] = max(4, round(size[axis] / factor))
    coarse = F.interpolate(image[None, None], size=size, mode="area")
    return F.interpolate(coarse, size=image.shape, mode="trilinear")[0, 0]


def motion_blur(image: Tensor, rng: np.random.Generator) -> Tensor:
    """[D, H, W] as a patient who breathes leaves it: smeared along one axis, a faint ghost beside it."""
    axis = int(rng.integers(3))
    far = int(rng.integers(1, 4))
    smeared = torch.stack([torch.roll(image, n, axis) for n in range(-far, far + 1)]).mean(0)
    ghost = torch.roll(image, int(rng.integers(image.shape[axis])), axis)
    return torch.lerp(torch.lerp(image, smeared, uniform(rng, 0.3, 1)), ghost, uniform(rng, 0, 0.12))


def synthetic_sample(size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Image [size]*3 (arbitrary units, mean near 0) and target [size]*3 (boolean, never empty)."""
    shape = (size, size, size)
    labels = organs(shape, rng)
    count = int(labels.max()) + 1
    means = rng.normal(0, 1, count).astype(np.float32)
    image = torch.from_numpy(means)[labels]
    if rng.random() < 0.4:
        image = torch.where(tubes(shape, rng), image + float(rng.normal(0, 1)), image)

    radius = float(np.exp(rng.uniform(np.log(1.7), np.log(30))))
    centre = size / 2 + rng.uniform(-0.5, 0.5, 3) * min(radius, 14)
    depth = blob(shape, centre, radius, rng)
    lesion = depth > 0
    middle: tuple[int, int, int] = tuple(int(np.clip(c, 0, size - 1)) for c in centre)  # type: ignore[assignment]
    host = labels[middle]
    kind = rng.random()
    target_is_organ = kind < ORGANS
    if ORGANS <= kind < ORGANS + VESSELS:
        lesion = tubes(shape, rng, middle)
    elif rng.random() < INSIDE_ORGAN:
        lesion &= labels == host
    component = largest_component(((labels == host) if target_is_organ else lesion).numpy())
    if component is None or component[1].sum() < SMALLEST_TARGET:
        return synthetic_sample(size, rng)
    target = torch.zeros(shape, dtype=torch.bool)
    target[component[0]] = torch.from_numpy(component[1])

    if not target_is_organ:
        contrast = float(rng.choice((-1, 1))) * uniform(rng, 0.12, 1.2)
        image = torch.where(lesion, means[host] + contrast, image)
        for _ in range(int(rng.integers(0, 4))):
            other = blob(shape, rng.uniform(0, size, 3), uniform(rng, 3, 12), rng) > 0
            image = torch.where(other & ~lesion, means[host] + contrast * uniform(rng, 0.5, 1.2), image)
        if rng.random() < 0.35:
            core = lesion & (depth > uniform(rng, 0.2, 0.7))
            image = torch.where(core, image - contrast * uniform(rng, 0.3, 1.5), image)
        if rng.random() < 0.3:
            image = image + lesion * (
                contrast * uniform(rng, 0.2, 0.5) * smooth_noise(shape, uniform(rng, 4, 16), rng)[0]
            )
    texture = smooth_noise(shape, uniform(rng, 6, 28), rng)[0]
    amount = torch.from_numpy(rng.uniform(0, 0.25, count).astype(np.float32))
    image = image + amount[labels] * texture
    return scan(image, rng), target
