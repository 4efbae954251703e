"""A session on two bright balls, its engine in the test's own process."""

from __future__ import annotations

import numpy as np
import pytest

from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.interaction.session import Session
from SAM3DSegmentLib.scene.volumes import add_volume
from Testing.interaction.helpers import FakeEngine, balls


@pytest.fixture
def volume(scene):
    affine = np.diag([-1.0, -1.0, 1.5, 1.0])
    affine[:3, 3] = 12, 34, -56
    return add_volume(scene, Volume(balls(), affine), "CT")


@pytest.fixture
def engine():
    return FakeEngine()


@pytest.fixture
def session(scene, volume, engine):
    session = Session(scene)
    session.use_engine(engine)
    session.choose_volume(volume)
    session.place(include=True)
    yield session
    engine.gate.set()
    session.close()
