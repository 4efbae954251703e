"""Targets in real scans beside the contoured tumours: lesions implanted into them, and pieces of their own anatomy."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from training.compact.sarcoma import Case, change_contrast, cut, random_bend, random_pose
from training.compact.synthetic import SMALLEST_TARGET, blob, gaussian_blur, smooth_noise, uniform

LARGEST_SHARE = 0.2
"""Of the crop, that a piece of anatomy may fill."""


def anywhere(case: Case, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Image, contoured tumour and inside mask [size]*3 of a crop anywhere in the scan, at any zoom."""
    spacing = float(np.exp(rng.uniform(np.log(0.75), np.log(4.0))))
    centre = rng.uniform(0.15, 0.85, 3) * case.image.shape
    return cut(case, centre, spacing, random_pose(rng), size, random_bend(size, rng))


def central_point(inside: Tensor, rng: np.random.Generator) -> tuple[int, ...] | None:
    """A voxel in the middle of the crop that lies inside the volume."""
    size = inside.shape[0]
    point = tuple(int(c) for c in np.clip(rng.normal(size / 2, size / 8, 3), 4, size - 5))
    return point if inside[point] else None


def implanted_sample(case: Case, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor] | None:
    """A lumpy lesion painted into a real scan, which keeps its texture; None where the draw found no place."""
    image, tumour, inside = anywhere(case, size, rng)
    point = central_point(inside, rng)
    if point is None or tumour[point]:
        return None
    radius = float(np.exp(rng.uniform(np.log(2.5), np.log(22))))
    depth = blob((size,) * 3, np.array(point), radius, rng)
    lesion = depth > 0
    if rng.random() < 0.5:
        lesion &= stops_at_edges(image, point, rng)
    target = connected(lesion & inside, point)
    if target is None:
        return None
    reference = image[target]
    surroundings = float(image[inside].std())
    strength = float(np.exp(rng.uniform(np.log(0.06), np.log(1.2))))
    contrast = float(rng.choice((-1, 1))) * strength * max(surroundings, 1e-3)
    soft = gaussian_blur(target.float(), uniform(rng, 0.4, 1.2))
    replaced = uniform(rng, 0, 1)
    flat = float(reference.mean()) + replaced * contrast
    lesion_image = torch.lerp(image + (1 - replaced) * contrast, torch.full_like(image, flat), replaced)
    if rng.random() < 0.5:
        grain = smooth_noise((size,) * 3, uniform(rng, 4, 24), rng)[0]
        lesion_image = lesion_image + contrast * uniform(rng, 0.1, 0.5) * grain
    if rng.random() < 0.3:
        core = gaussian_blur(((depth > uniform(rng, 0.3, 0.7)) & target).float(), 0.6)
        lesion_image = lesion_image - core * contrast * uniform(rng, 0.4, 1.6)
    return change_contrast(torch.lerp(image, lesion_image, soft), rng), target, inside


def stops_at_edges(image: Tensor, point: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    """[S, S, S], True in the tissue that the point belongs to: a lesion that respects the border of its organ."""
    smooth = gaussian_blur(image, 1.0)
    return (smooth - smooth[point]).abs() < uniform(rng, 0.5, 1.5) * image.std().clamp_min(1e-3)


def anatomy_sample(case: Case, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor] | None:
    """A compact piece of tissue of one brightness: bones, muscles, fat, organs as the scan shows them."""
    image, _, inside = anywhere(case, size, rng)
    point = central_point(inside, rng)
    if point is None:
        return None
    smooth = gaussian_blur(image, uniform(rng, 0.8, 2.0)).numpy()
    spread = max(float(smooth[inside.numpy()].std()), 1e-3)
    alike = np.abs(smooth - smooth[point]) < uniform(rng, 0.2, 0.7) * spread
    alike &= inside.numpy()
    depth = ndimage.distance_transform_edt(alike)
    # An opening by a ball cuts the thin bridges through which one organ leaks into the next.
    core = connected(torch.from_numpy(depth > min(uniform(rng, 2, 5), 0.8 * depth[point])), point)
    if core is None or not core.any():
        return None
    reach_back = min(uniform(rng, 2, 5), float(depth.max()))
    grown = ndimage.distance_transform_edt(~core.numpy()) < reach_back
    target = ndimage.binary_fill_holes(grown & alike)
    if not SMALLEST_TARGET < target.sum() < LARGEST_SHARE * inside.sum().item():
        return None
    return change_contrast(image, rng), torch.from_numpy(target), inside


def connected(mask: Tensor, point: tuple[int, ...]) -> Tensor | None:
    """The component of a mask that holds a voxel, None where it is too small."""
    labels, _ = ndimage.label(mask.numpy())
    if not labels[point]:
        return None
    component = labels == labels[point]
    return torch.from_numpy(component) if component.sum() >= SMALLEST_TARGET else None
