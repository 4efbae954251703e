"""The engine on another computer: behind a real sshd on loopback, over links that are cut."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.errors import CancelledError, EngineError
from Testing import ssh_server
from Testing.disturbance import LIGHT
from Testing.ssh_server import SshServer
from Testing.test_faults import CLICKS, crop, gone_within, undisturbed
from Testing.throttle import Throttle

ROOT = Path(__file__).resolve().parents[1]
REMOTE = f"cd '{ROOT}' && exec '{sys.executable}' -m Testing.light_engine"
pytestmark = pytest.mark.skipif(ssh_server.missing() is not None, reason=str(ssh_server.missing()))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    started = SshServer(tmp_path_factory.mktemp("sshd"))
    yield started
    started.close()


@pytest.fixture
def link(server: SshServer) -> Iterator[Throttle]:
    link = Throttle(server.port)
    yield link
    link.close()


def test_an_engine_behind_ssh_gives_the_bits_of_a_local_one(server: SshServer) -> None:
    with Engine(command=server.command(REMOTE)) as engine:
        assert np.array_equal(engine.decode(crop(), CLICKS, None), undisturbed())


def test_over_the_wire_goes_the_crop_once_and_then_clicks_only(server: SshServer, link: Throttle) -> None:
    with Engine(command=server.command(REMOTE, port=link.port)) as engine:
        _ = engine.specification
        connected = link.sent
        first = engine.decode(crop(), CLICKS[:1], None)
        with_crop = link.sent
        engine.decode(crop(), CLICKS, first)
    assert 32**3 * 2 < with_crop - connected < 32**3 * 2 * 1.1
    assert link.sent - with_crop < 2000


def test_a_connection_cut_in_mid_click_costs_a_restart_and_no_bit(server: SshServer, link: Throttle) -> None:
    with Engine(command=server.command(REMOTE, port=link.port)) as engine:
        _ = engine.specification
        cut = []

        def cut_once(fraction: float) -> None:
            if not cut:
                cut.append(fraction)
                link.cut()

        assert np.array_equal(engine.decode(crop(), CLICKS, None, progress=cut_once), undisturbed())
        assert engine.restarts == 1


def test_a_connection_cut_at_the_start_is_made_again(server: SshServer, link: Throttle) -> None:
    link.refuse(True)
    with Engine(command=server.command(REMOTE, port=link.port)) as engine:
        engine.start()
        ended = engine._process._process
        ended.wait(30)
        link.refuse(False)
        assert np.array_equal(engine.decode(crop(), CLICKS, None), undisturbed())
        assert engine.restarts == 1


def test_a_host_that_cannot_be_reached_is_one_sentence_with_its_words(server: SshServer, link: Throttle) -> None:
    link.refuse(True)
    refused = pytest.raises(EngineError, match=r"failed 3 times.*last words: .*onnection.*clicks are kept")
    with Engine(command=server.command(REMOTE, port=link.port)) as engine, refused as caught:
        engine.decode(crop(), CLICKS, None)
    assert "\n" not in str(caught.value)


def test_a_login_that_greets_is_named_as_the_fault(server: SshServer) -> None:
    refused = pytest.raises(EngineError, match="no frame starts with b'Welcome")
    with Engine(command=server.command(f"echo Welcome; {REMOTE}")) as engine, refused:
        engine.decode(crop(), CLICKS, None)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
@pytest.mark.parametrize("hung", [False, True])
def test_no_engine_stays_behind_on_the_other_side(server: SshServer, tmp_path: Path, hung: bool) -> None:
    said = tmp_path / "pid"
    with Engine(command=server.command(f"echo $$ >'{said}'; {REMOTE}")) as engine:
        _ = engine.specification
        remote = int(said.read_text())
        if hung:
            os.kill(remote, signal.SIGSTOP)
    assert gone_within(remote, 10)


def test_a_click_waits_for_a_link_that_is_slower_than_the_patience(server: SshServer) -> None:
    link = Throttle(server.port, bits_per_second=40_000, delay=0.1)
    with Engine(command=server.command(REMOTE, port=link.port), patience=10) as engine:
        _ = engine.specification
        start = time.monotonic()
        assert np.array_equal(engine.decode(crop(), CLICKS, None), undisturbed())
        assert time.monotonic() - start > 10
        assert engine.restarts == 0
    link.close()


def test_cancelling_over_a_slow_link_does_not_wait_for_it(server: SshServer) -> None:
    link = Throttle(server.port, bits_per_second=20_000)
    with Engine(command=LIGHT) as local, Engine(command=server.command(REMOTE, port=link.port)) as engine:
        assert local.specification == engine.specification
        cancelled = threading.Event()
        threading.Timer(0.2, cancelled.set).start()
        start = time.monotonic()
        with pytest.raises(CancelledError):
            engine.decode(crop(), CLICKS, None, cancelled)
        assert time.monotonic() - start < 8
    link.close()
