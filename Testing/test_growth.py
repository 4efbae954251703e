"""Objects that outgrow a crop are followed over its border without a seam, up to a limit that is told."""

from __future__ import annotations

import numpy as np

from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.segmenter import TILE_LIMIT
from SAM3DSegmentLib.shapes import Ellipsoid, Tube
from Testing.doubles import BrightnessDecoder, ball_volume
from Testing.hardship.growth import KnownScan, OneLevel, as_bright, grow, scan_with, surface_errors


def test_surface_errors_tell_the_region_from_the_rest() -> None:
    truth, mask, region = (np.zeros((20, 20, 20), bool) for _ in range(3))
    truth[4:16, 4:16, 4:16] = mask[4:16, 4:16, 4:16] = True
    region[:10] = True
    mask[4:6] = False
    at, elsewhere = surface_errors(truth, mask, (1.0, 1.0, 1.0), region)
    assert at > 0.3 and elsewhere == 0


def test_an_object_over_many_crops_has_no_worse_surface_where_they_meet() -> None:
    scan = as_bright(scan_with(Ellipsoid((0, 0, 0), (20, 20, 45))))
    grown = grow(scan, BrightnessDecoder((1.5,)), clicks=1)
    assert grown.crops[0] > 1 and grown.dice[0] > 0.95
    assert grown.at_seams <= grown.elsewhere + 0.2


def test_an_object_beyond_the_limit_ends_there_and_says_so() -> None:
    volume = ball_volume(29, spacing=(1.0, 0.5, 0.5), shape=(70, 140, 140))
    grown = grow(KnownScan(volume, volume.voxels > 0), BrightnessDecoder((0.5,), crop_size=24), clicks=2)
    assert grown.limited and grown.crops == (TILE_LIMIT, TILE_LIMIT) and grown.dice[0] > 0


def test_the_compact_network_follows_a_lesion_from_crop_to_crop() -> None:
    with Engine("compact", "cpu") as engine:
        held = grow(scan_with(Tube((0, 0, -50), (0, 0, 50), 14)), OneLevel(engine, 1.5), clicks=5)
        free = grow(scan_with(Ellipsoid((0, 0, 0), (15, 15, 15))), engine, clicks=2)
    assert held.crops[-1] > 1 and held.dice[-1] > 0.7
    assert free.crops == (1, 1) and free.dice[-1] > 0.85
