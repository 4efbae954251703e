"""A CT phantom of chest and abdomen with lesions whose extent is known exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np
from numpy.typing import NDArray

from SAM3DSegmentLib.geometry import BoolArray, Box, Float32Array, Point, Volume
from SAM3DSegmentLib.shapes import Ellipsoid, Shape, Tube, as_column, filled_part

SHAPE = (96, 256, 256)
SPACING = (3.0, 1.4, 1.4)
TILT = (radians(7), radians(-4))
"""Of the grid about the patient's R and A axes."""

BODY_RADII = (158.0, 112.0)
TRUNK = ((1.0, 30.0), (0.985, -105.0), (0.88, 55.0), (0.80, -95.0))
"""Skin, fat, muscles and cavity: where each ends, as a part of the way from the middle to the skin, and its HU."""

RIB_INTERVAL, RIB_SLOPE, LOWEST_RIB = 27.0, -0.4, -30.0
RIB_RADIUS, RIB_HALF_WIDTH, RIB_HALF_HEIGHT, RIB_HU = 0.835, 0.032, 7.0, 340.0

AIR_HU, LUNG_VESSEL_HU = -1000.0, 40.0
LOWEST_HU, HIGHEST_HU = -1024, 3071

BOWEL_FROM, BOWEL_TO = (-85.0, -12.0, -155.0), (85.0, 68.0, -35.0)
"""The corners in RAS mm of the box that the loops of the bowel lie in."""

NOISE_HU = 15.0
POINT_SPREAD_VOXELS = 0.6
NOISE_GRAIN = 0.35
"""The noise is band-limited in the axial plane: its power rises with frequency up to about this one (cycles/voxel)."""


LUNGS = (
    (Ellipsoid((72, -8, 120), (58, 78, 105)), -850.0),
    (Ellipsoid((-74, -8, 120), (54, 78, 100)), -850.0),
)

ORGANS: tuple[tuple[Shape, float], ...] = (
    (Ellipsoid((-28, 28, 112), (56, 46, 52)), 150),  # heart
    (Ellipsoid((-42, 24, 108), (28, 24, 34)), 210),  # left ventricle
    (Ellipsoid((78, -4, 14), (66, 82, 74)), 112),  # liver, right lobe
    (Ellipsoid((8, 42, 40), (70, 36, 32)), 112),  # liver, left lobe
    (Ellipsoid((-66, 26, 22), (40, 42, 46)), 18),  # stomach
    (Ellipsoid((-66, 50, 30), (30, 17, 30)), -950),  # gas in the stomach
    (Ellipsoid((-96, -46, 26), (27, 38, 46)), 128),  # spleen
    (Ellipsoid((66, -54, -62), (29, 27, 52)), 190),  # right kidney
    (Ellipsoid((-66, -54, -52), (29, 27, 52)), 190),  # left kidney
    (Ellipsoid((60, -50, -62), (17, 15, 34)), 145),
    (Ellipsoid((-60, -50, -52), (17, 15, 34)), 145),
    (Ellipsoid((48, -46, -62), (12, 9, 22)), -60),  # fat of the renal sinus
    (Ellipsoid((-48, -46, -52), (12, 9, 22)), -60),
    (Ellipsoid((36, -58, -110), (18, 22, 90)), 60),  # psoas
    (Ellipsoid((-36, -58, -110), (18, 22, 90)), 60),
    (Tube((-70, -24, 4), (24, 4, -16), 12), 100),  # pancreas
    (Tube((24, 4, -16), (34, 0, -40), 14), 95),
    (Ellipsoid((52, 46, -30), (16, 26, 22)), 12),  # gall bladder
    (Ellipsoid((14, 0, -66), (12, 16, 40)), 45),  # duodenum
    (Tube((104, 4, -140), (98, 10, -70), 22), 40),  # colon
    (Tube((-104, -8, -140), (-100, -6, -40), 18), 35),
    (Tube((-10, -32, -160), (-10, -32, 110), 11), 240),  # aorta
    (Tube((-46, -46, 100), (-14, -34, 60), 10), 240),
    (Tube((20, -28, -160), (24, -22, 100), 12), 165),  # vena cava
    (Tube((4, 0, 0), (40, 4, 18), 7), 175),  # portal vein
    (Tube((40, 4, 18), (84, 14, 22), 5), 172),
    (Tube((40, 4, 18), (78, -34, -2), 4.5), 172),
    (Tube((40, 4, 18), (10, 40, 36), 4), 172),
    (Tube((26, -16, 62), (94, 6, 48), 5), 168),  # hepatic veins
    (Tube((26, -16, 62), (58, 40, 40), 4.5), 168),
    (Tube((-12, -36, -50), (-46, -48, -52), 4), 220),  # renal arteries
    (Tube((-6, -36, -58), (44, -48, -62), 4), 220),
)
"""What each organ is made of in HU (portal venous phase), painted in this order."""

SPINE: tuple[tuple[Shape, float], ...] = (
    (Tube((0, -62, -170), (0, -62, 170), 21), 330),
    (Tube((0, -62, -170), (0, -62, 170), 18.5), 190),
    (Tube((0, -91, -170), (0, -91, 170), 13), 420),
    (Tube((0, -91, -170), (0, -91, 170), 9), 30),
    *((Ellipsoid((0, -62, s), (22, 22, 5)), 75) for s in range(-144, 176, 32)),  # discs
)


@dataclass(frozen=True)
class Lesion:
    """One object to segment.

    Attributes:
        name: what it imitates.
        label: its value in the phantom's label map.
        click: RAS mm, a point inside.
        diameter_mm: its longest axial diameter.
    """

    name: str
    label: int
    click: Point
    diameter_mm: float


@dataclass(frozen=True, eq=False)
class Phantom:
    """A scan with known truth.

    Attributes:
        volume: [96, 256, 256], HU, int16; oblique, 3.0 x 1.4 x 1.4 mm.
        labels: [96, 256, 256], uint8; 0 outside the lesions.
    """

    volume: Volume
    labels: NDArray[np.uint8]
    lesions: tuple[Lesion, ...]

    def reference(self, lesion: Lesion) -> BoolArray:
        """[K, J, I], the voxels of which the lesion fills at least half."""
        mask: BoolArray = self.labels == lesion.label
        return mask


LESIONS: tuple[tuple[str, Ellipsoid, float, tuple[tuple[Ellipsoid, float], ...]], ...] = (
    ("hypodense liver metastasis", Ellipsoid((92, -22, 6), (19, 17, 16)), 55, ()),
    ("lung nodule", Ellipsoid((88, -18, 122), (9, 8, 9)), 35, ()),
    (
        "kidney tumour with a necrotic core",
        Ellipsoid((-88, -34, -74), (23, 20, 21)),
        120,
        ((Ellipsoid((-90, -33, -74), (13, 11, 12)), 30),),
    ),
    (
        "liver metastasis with a bright rim",
        Ellipsoid((20, 46, 40), (17, 15, 14)),
        165,
        ((Ellipsoid((20, 46, 40), (11, 9.5, 9)), 45),),
    ),
    ("small low-contrast lesion of the spleen", Ellipsoid((-100, -42, 30), (8, 8, 8)), 98, ()),
)
"""Name, extent, HU, and what lies within."""


class Canvas:
    """A scan in the making: shapes painted over one another, each voxel by the part of it that a shape fills."""

    def __init__(self) -> None:
        self.grid = tilted_grid()
        self.hu = np.full(SHAPE, AIR_HU, np.float32)

    def paint(self, shape: Shape, hu: float, within: Float32Array | None = None) -> tuple[Box, Float32Array]:
        """Fill a shape, where it lies `within` ([K, J, I], 0 to 1), with `hu`; its box and its part of each voxel."""
        box = self.box_around(shape)
        occupancy = filled_part(shape.depth(self.positions(box)))
        if within is not None:
            occupancy *= within[box]
        self.blend(box, occupancy, hu)
        return box, occupancy

    def blend(self, box: Box, occupancy: Float32Array, hu: float) -> None:
        self.hu[box] += occupancy * (hu - self.hu[box])

    def box_around(self, shape: Shape) -> Box:
        low, high = shape.bounds
        corners = np.array([self.grid.continuous_index(tuple(np.where(c, high, low))) for c in np.ndindex(2, 2, 2)])
        first = np.clip(np.floor(corners.min(0)) - 1, 0, np.subtract(SHAPE, 2)).astype(int)
        end = np.clip(np.ceil(corners.max(0)) + 2, 2, SHAPE).astype(int)
        k, j, i = (slice(int(a), int(b)) for a, b in zip(first, end, strict=True))
        return k, j, i

    def positions(self, box: Box) -> Float32Array:
        """[3, k, j, i], R, A and S in mm of the voxels of a box."""
        origin = as_column(self.grid.ras((0, 0, 0)))
        per_k, per_j, per_i = (as_column(self.grid.ras(unit)) - origin for unit in ((1, 0, 0), (0, 1, 0), (0, 0, 1)))
        k, j, i = (index.astype(np.float32) for index in np.ogrid[box])
        positions: Float32Array = (origin + per_k * k) + (per_j * j + per_i * i)
        return positions


def tilted_grid() -> Volume:
    """The empty grid: I, J, K near left, posterior, superior, tilted about R, then A; its middle at RAS 0."""
    (cos_r, sin_r), (cos_a, sin_a) = ((cos(angle), sin(angle)) for angle in TILT)
    i = np.array([-cos_a, 0, sin_a])
    j = np.array([-sin_r * sin_a, -cos_r, -sin_r * cos_a])
    k = np.array([cos_r * sin_a, -sin_r, cos_r * cos_a])
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([i, j, k]) * SPACING[::-1]
    affine[:3, 3] = -(affine[:3, :3] * (np.array(SHAPE[::-1]) - 1) / 2).sum(1)
    return Volume(np.zeros(SHAPE, np.uint8), affine)


def make_phantom(seed: int = 0) -> Phantom:
    """The phantom; `seed` draws the bowel, the vessels of the lungs and the noise."""
    rng = np.random.default_rng(seed)
    canvas = Canvas()
    cavity = paint_trunk(canvas)
    for lung, hu in LUNGS:
        canvas.paint(lung, hu, cavity)
    for vessel in lung_vessels(rng):
        canvas.paint(vessel, LUNG_VESSEL_HU, cavity)
    for loop, hu in bowel(rng):
        canvas.paint(loop, hu, cavity)
    for organ, hu in ORGANS:
        canvas.paint(organ, hu, cavity)
    for bone, hu in SPINE:
        canvas.paint(bone, hu)
    labels = np.zeros(SHAPE, np.uint8)
    lesions = []
    for label, (name, extent, hu, core) in enumerate(LESIONS, 1):
        box, occupancy = canvas.paint(extent, hu)
        labels[box][occupancy >= 0.5] = label
        for shape, core_hu in core:
            canvas.paint(shape, core_hu)
        lesions.append(Lesion(name, label, extent.centre, 2 * max(extent.radii[:2])))
    return Phantom(Volume(acquire(canvas.hu, rng), canvas.grid.ijk_to_ras), labels, tuple(lesions))


def paint_trunk(canvas: Canvas) -> Float32Array:
    """Paint fat, muscles and ribs; the part of each voxel that the body's cavity takes, [K, J, I]."""
    whole = canvas.box_around(Ellipsoid((0, 0, 0), (1000, 1000, 1000)))
    r, a, s = canvas.positions(whole)
    x, y = (r / BODY_RADII[0]) ** 2, (a / BODY_RADII[1]) ** 2
    radius = (np.sqrt(x + y) + np.sqrt(np.sqrt(x * x + y * y))) / 2
    for end, hu in TRUNK:
        part = filled_part(end - radius)
        canvas.blend(whole, part, hu)
    height = s + RIB_SLOPE * a
    from_rib = (height % RIB_INTERVAL - RIB_INTERVAL / 2) / RIB_HALF_HEIGHT
    ribs = filled_part(1 - np.hypot((radius - RIB_RADIUS) / RIB_HALF_WIDTH, from_rib))
    canvas.blend(whole, ribs * (height > LOWEST_RIB), RIB_HU)
    return part


def lung_vessels(rng: np.random.Generator) -> Iterator[Tube]:
    for lung, _ in LUNGS:
        hilum = (0.5 * lung.centre[0], -10.0, 100.0)
        for _ in range(14):
            fork = point_within(lung, 0.55, rng)
            yield Tube(hilum, fork, 3.2)
            for _ in range(3):
                yield Tube(fork, point_within(lung, 0.9, rng), 1.6)


def point_within(shape: Ellipsoid, part: float, rng: np.random.Generator) -> Point:
    """A point on the surface of the ellipsoid shrunk to `part`."""
    direction = rng.standard_normal(3)
    r, a, s = shape.centre + part * direction / np.linalg.norm(direction) * shape.radii
    return float(r), float(a), float(s)


def bowel(rng: np.random.Generator) -> Iterator[tuple[Ellipsoid, float]]:
    for _ in range(90):
        centre = rng.uniform(BOWEL_FROM, BOWEL_TO)
        radii = rng.uniform(11, 21, 3)
        yield Ellipsoid(tuple(centre), tuple(radii)), rng.uniform(20, 75)
        if rng.random() < 0.3:
            yield Ellipsoid(tuple(centre), tuple(0.6 * radii)), -900


def acquire(hu: Float32Array, rng: np.random.Generator) -> NDArray[np.int16]:
    """Blur by the scanner's point spread and add its noise, both within the axial slices."""
    frequency = np.hypot(np.fft.fftfreq(SHAPE[1])[:, None], np.fft.rfftfreq(SHAPE[2])).astype(np.float32)
    transfer = np.exp(-2 * (np.pi * POINT_SPREAD_VOXELS * frequency) ** 2)
    grain = frequency * np.exp(-((frequency / NOISE_GRAIN) ** 2))
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(SHAPE, np.float32)) * grain, s=SHAPE[1:])
    blurred = np.fft.irfft2(np.fft.rfft2(hu) * transfer, s=SHAPE[1:])
    scanned = blurred + noise * (NOISE_HU / noise.std())
    voxels: NDArray[np.int16] = np.clip(np.rint(scanned), LOWEST_HU, HIGHEST_HU).astype(np.int16)
    return voxels
