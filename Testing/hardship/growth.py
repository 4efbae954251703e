"""Objects of any size: lesions of known truth from 3 mm to half a metre, in one crop and in many."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from scipy import ndimage

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.crop_answers import Decoder
from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.evaluation.metrics import boxed, dice
from SAM3DSegmentLib.evaluation.simulated_user import next_click
from SAM3DSegmentLib.field import Field
from SAM3DSegmentLib.geometry import BoolArray, Point, Volume
from SAM3DSegmentLib.segmenter import TILE_LIMIT, Segmenter
from SAM3DSegmentLib.shapes import Ellipsoid, Shape, Tube, filled_part
from Testing.doubles import BrightnessDecoder

TISSUE_HU, LESION_HU, NOISE_HU = 40.0, 95.0, 12.0
MARGIN_MM = 40.0
FINEST_MM, COARSEST_MM = 0.75, 2.5
VOXELS_ACROSS = 40
SLICE_PER_PIXEL = 2.0
ORGANS = 15
CLICKS = 3
CLICKS_IN_MANY_CROPS = 8
SEAM_LEVEL_MM = 1.5
"""The surface may lie further off by one such voxel where crops overlap than elsewhere."""

BALLS: dict[str, Shape] = {f"ball of {d} mm": Ellipsoid((0, 0, 0), (d / 2,) * 3) for d in (3, 6, 12, 25, 50, 100, 250)}
LONG: dict[str, Shape] = {
    "tube of 120 x 10 mm": Tube((-30, 20, -43), (30, -20, 43), 5),
    "tube of 250 x 24 mm": Tube((-60, 40, -88), (60, -40, 88), 12),
    "tube of 500 x 40 mm": Tube((0, 20, -230), (20, -20, 230), 20),
}
IN_MANY_CROPS = {
    "ellipsoid of 180 x 80 x 80 mm": Ellipsoid((0, 0, 0), (40, 40, 90)),
    "tube of 250 x 24 mm": LONG["tube of 250 x 24 mm"],
}


@dataclass(frozen=True, eq=False)
class KnownScan:
    """A scan and where its lesion is, [K, J, I]."""

    volume: Volume
    truth: BoolArray


@dataclass(frozen=True)
class Grown:
    """What each click of the simulated user led to.

    Attributes:
        dice, seconds, crops: after each click.
        limited: whether the object needed more crops than it may take.
        at_seams, elsewhere: mean distance in mm of the surfaces of mask and lesion, where crops overlap and where not.
    """

    dice: tuple[float, ...]
    seconds: tuple[float, ...]
    crops: tuple[int, ...]
    limited: bool
    at_seams: float
    elsewhere: float

    def __str__(self) -> str:
        seams = (
            "" if self.crops[-1] == 1 else f", surface off by {self.at_seams:.2f} mm at seams, {self.elsewhere:.2f} mm"
        )
        return (
            f"Dice {self.dice[0]:.3f} after 1 click, {self.dice[-1]:.3f} after {len(self.dice)}; crops "
            f"{', '.join(map(str, self.crops))}; {', '.join(f'{s:.1f}' for s in self.seconds)} s{seams}"
        )


class OneLevel:
    """A network held to one of its zoom levels, so that a large object takes many crops."""

    def __init__(self, decoder: Decoder, spacing: float) -> None:
        self.specification = replace(decoder.specification, spacings=(spacing,))
        self.decode = decoder.decode


def scan_with(lesion: Shape) -> KnownScan:
    """The lesion among organs of other brightness, in noise; its voxels are the larger, the larger it is."""
    low, high = lesion.bounds
    pixel = float(np.clip((high - low).max() / VOXELS_ACROSS, FINEST_MM, COARSEST_MM))
    spacing = np.array([pixel, pixel, SLICE_PER_PIXEL * pixel])
    size = [ceil(length) for length in (high - low + 2 * MARGIN_MM) / spacing]
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = low - MARGIN_MM
    i, j, k = np.ogrid[tuple(slice(n) for n in size)]
    axes = np.broadcast_arrays(*(index.transpose(2, 1, 0).astype(np.float32) for index in (i, j, k)))
    positions = np.stack([low[a] - MARGIN_MM + spacing[a] * axes[a] for a in range(3)]).astype(np.float32)
    rng = np.random.default_rng(0)
    hu = np.full(positions.shape[1:], TISSUE_HU, np.float32)
    for _ in range(ORGANS):
        organ = Ellipsoid(tuple(rng.uniform(low - MARGIN_MM, high + MARGIN_MM)), tuple(rng.uniform(6, 30, 3)))
        hu += filled_part(organ.depth(positions)) * (rng.choice([-90.0, 5.0, 180.0]) - hu)
    part = filled_part(lesion.depth(positions))
    hu += part * (LESION_HU - hu)
    hu += NOISE_HU * rng.standard_normal(hu.shape, np.float32)
    return KnownScan(Volume(hu.astype(np.int16), affine), part >= 0.5)


def grow(scan: KnownScan, decoder: Decoder, clicks: int = CLICKS) -> Grown:
    """Let the simulated user click."""
    segmenter, rng = Segmenter(scan.volume, decoder), np.random.default_rng(0)
    made: list[Click] = []
    mask, steps = None, []
    for _ in range(clicks):
        wanted = next_click(scan.truth, mask, scan.volume.spacing, rng)
        if wanted:
            made.append(Click(scan.volume.ras(wanted[0]), wanted[1]))
        start = time.perf_counter()
        prediction = segmenter.segment(made)
        seconds = time.perf_counter() - start
        mask = prediction.mask_on(scan.truth.shape)
        steps.append((dice(scan.truth, mask), seconds, prediction.tiles))
    overlaps = held_twice(segmenter._known.beginning(made, None)[1], scan.truth.shape)
    at_seams, elsewhere = surface_errors(scan.truth, mask, scan.volume.spacing, overlaps)
    scores, seconds, crops = zip(*steps, strict=True)
    return Grown(scores, seconds, crops, prediction.limited, at_seams, elsewhere)


def held_twice(field: Field, shape: tuple[int, int, int]) -> BoolArray:
    """The voxels [K, J, I] that lie in more than one of a field's crops: there the answers of several are merged."""
    count = np.zeros(shape, np.uint8)
    for offset in field.tiles:
        crop = field.tile_crop(offset)
        box = [slice(0)] * 3
        for axis, start, step, size in zip(crop.axes, crop.start, crop.step, crop.shape, strict=True):
            position = (np.arange(shape[axis]) - start) / step
            inside = np.flatnonzero((position >= -0.5) & (position <= size - 0.5))
            box[axis] = slice(inside[0], inside[-1] + 1) if inside.size else slice(0)
        count[tuple(box)] += 1
    return count > 1


def surface_errors(truth: BoolArray, mask: BoolArray, spacing: Point, region: BoolArray) -> tuple[float, float]:
    """Mean distance in mm between the surfaces of two masks, of surface voxels within a region and outside it.

    Args:
        truth, mask, region: [K, J, I].
        spacing: voxel size in mm along K, J, I.

    Returns:
        NaN for a part without any surface.
    """
    box, _ = boxed(truth | mask)
    surfaces = [one[box] & ~ndimage.binary_erosion(np.pad(one[box], 1))[1:-1, 1:-1, 1:-1] for one in (truth, mask)]
    distances, places = [], []
    for own, other in (surfaces, surfaces[::-1]):
        distances.append(ndimage.distance_transform_edt(~other, sampling=spacing)[own])
        places.append(region[box][own])
    distance, within = np.concatenate(distances), np.concatenate(places)
    at, off = (float(distance[part].mean()) if part.any() else float("nan") for part in (within, ~within))
    return at, off


def growth() -> bool:
    """By size with all zoom levels, then held to one so that seams lie in the lesion, then past the limit."""
    fine = True
    with Engine("compact", "cpu") as engine:
        for name, lesion in {**BALLS, **LONG}.items():
            print(f"growth: {name}: {grow(scan_with(lesion), engine)}", flush=True)
        held = OneLevel(engine, SEAM_LEVEL_MM)
        for name, lesion in IN_MANY_CROPS.items():
            grown = grow(scan_with(lesion), held, CLICKS_IN_MANY_CROPS)
            print(f"growth: {name}, in voxels of {SEAM_LEVEL_MM} mm alone: {grown}", flush=True)
            fine = fine and grown.at_seams <= grown.elsewhere + SEAM_LEVEL_MM
    known = BrightnessDecoder((2 * SEAM_LEVEL_MM,), crop_size=32)
    grown = grow(as_bright(scan_with(BALLS["ball of 250 mm"])), known, clicks=2)
    told = "told" if grown.limited else "NOT told"
    print(f"growth: ball of 250 mm, known exactly, in small crops: {grown}; limit {told}")
    return fine and grown.limited and grown.crops == (TILE_LIMIT, TILE_LIMIT)


def as_bright(scan: KnownScan) -> KnownScan:
    """The same lesion for the double that takes what is brighter than 0.5 for the object."""
    return KnownScan(Volume(scan.truth.astype(np.uint8), scan.volume.ijk_to_ras), scan.truth)
