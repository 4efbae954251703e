"""The simulated user: where a person would click next, given the reference and the answer so far."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BoolArray = NDArray[np.bool_]

CONNECTIVITY_26 = np.ones((3, 3, 3), bool)
NEAR_DEEPEST = 1e-6


def next_click(
    reference: BoolArray,
    prediction: BoolArray | None,
    spacing: tuple[float, float, float],
    rng: np.random.Generator,
    noisy: bool = False,
) -> tuple[tuple[int, int, int], bool] | None:
    """The voxel (k, j, i) that the user clicks next and whether it is an include click.

    The first click (no prediction, or an empty one) lies in the target; each further one in the largest 26-connected
    component of the error, missed and surplus voxels together (Sofiiuk et al. 2022, in 3D).

    Args:
        reference, prediction: [K, J, I].
        spacing: voxel size in mm along K, J, I.
        noisy: draw the voxel with probability proportional to its depth instead of taking the deepest one.

    Returns:
        None where the prediction equals the reference.
    """
    error = reference if prediction is None else reference != prediction
    component = largest_component(error)
    if component is None:
        return None
    box, mask = component
    depth = distance_inside(mask, spacing)
    if noisy:
        candidates = np.flatnonzero(mask)
        weight = depth.ravel()[candidates]
        chosen = rng.choice(candidates, p=weight / weight.sum())
    else:
        chosen = rng.choice(np.flatnonzero(depth >= depth.max() - NEAR_DEEPEST))
    offset = np.unravel_index(chosen, mask.shape)
    k, j, i = (int(o) + b.start for o, b in zip(offset, box, strict=True))
    return (k, j, i), bool(reference[k, j, i])


def largest_component(mask: BoolArray) -> tuple[tuple[slice, ...], BoolArray] | None:
    """The bounding box of the largest 26-connected component and the component within it; None for an empty mask."""
    outer = ndimage.find_objects(mask.astype(np.uint8))
    if not outer:
        return None
    labels, count = ndimage.label(mask[outer[0]], CONNECTIVITY_26)
    label = 1 if count == 1 else int(np.bincount(labels.ravel())[1:].argmax()) + 1
    inner = ndimage.find_objects(labels)[label - 1]
    box = tuple(slice(o.start + i.start, o.start + i.stop) for o, i in zip(outer[0], inner, strict=True))
    return box, labels[inner] == label


def distance_inside(mask: BoolArray, spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    """Depth in mm of each voxel within the mask; the array's border counts as outside."""
    padded: NDArray[np.float64] = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing)
    return padded[1:-1, 1:-1, 1:-1]
