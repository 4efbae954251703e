"""The viewer on a scan with a bright ball, and someone at its page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from Testing.viewer.process import BallScan, ViewerProcess, write_ball
from Testing.viewer.user import User, at_the_page


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty folder of models for every viewer here."""
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAM3DSEGMENT_MODELS", str(folder))
        yield folder


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> BallScan:
    return write_ball(tmp_path_factory.mktemp("scan"))


@pytest.fixture(scope="module")
def upload_limit() -> int:
    """MB."""
    return 1


@pytest.fixture(scope="module")
def viewer(scan: BallScan, models: Path, upload_limit: int) -> Iterator[ViewerProcess]:
    process = ViewerProcess(str(scan.path), "--device", "cpu", "--upload-limit", str(upload_limit))
    yield process
    process.close()


@pytest.fixture(scope="module")
def user(viewer: ViewerProcess) -> Iterator[User]:
    with at_the_page(viewer) as someone:
        yield someone


@pytest.fixture
def ball(user: User, scan: BallScan) -> User:
    """The user with the ball freshly opened, the slices through its middle, include placing armed."""
    user.open(scan.path)
    user.viewer.ask("jump", scan.centre)
    return user
