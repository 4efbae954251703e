"""An engine that is killed, hung, starved, lied to or orphaned: clicks are kept, masks the same, words plain."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.errors import CancelledError, DeviceError, EngineError
from Testing.disturbance import LIGHT, Killer, click_through

ROOT = Path(__file__).resolve().parents[1]
CLICKS = [((16.0, 16.0, 16.0), True), ((3.0, 4.0, 5.0), False)]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of this process and of its engines."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def hung_engine() -> Iterator[Engine]:
    """An engine that loaded its network and was then stopped."""
    with Engine(command=LIGHT, patience=600) as engine:
        _ = engine.specification
        os.kill(engine._process.pid, signal.SIGSTOP)
        yield engine


def crop() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((32, 32, 32)).astype(np.float32)


def undisturbed() -> np.ndarray:
    with Engine(command=LIGHT) as engine:
        return engine.decode(crop(), CLICKS, None)


def is_running(pid: int) -> bool:
    """Whether a process is there and not merely waiting to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone_within(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not is_running(pid)


def test_killed_at_random_moments_of_20_clicks_the_masks_are_the_same_and_no_click_is_lost(temporary: Path) -> None:
    with Engine(command=LIGHT) as engine:
        calm = click_through(engine, 20)
    with Engine(command=LIGHT) as engine:
        killer = Killer(engine, 0.5, seed=0)
        disturbed = click_through(engine, 20, killer)
        last = engine._process.pid
    assert killer.kills >= 10 and engine.restarts > 0
    assert disturbed.same_masks(calm)
    assert disturbed.lost_clicks() == 0 and disturbed.failures == []
    assert gone_within(last, 5)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    "fault",
    ["killed@decode", "killed@load", "killed@start", "device-gone@decode", "garbage@start", "garbage@decode",
     "wrong-shape@decode", "nonsense@decode", "forgetful@decode"],
)  # fmt: skip
def test_a_fault_that_passes_costs_a_restart_and_no_bit(fault: str, tmp_path: Path) -> None:
    command = (*LIGHT, fault, str(tmp_path / "count"), "1")
    with Engine(command=command) as engine:
        assert np.array_equal(engine.decode(crop(), CLICKS, None), undisturbed())
        assert engine.restarts == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("device-gone@decode", "CUDA error: the device was lost.*check the device"),
        ("garbage@start", "no frame starts with b'Last log.*clicks are kept"),
        ("nonsense@decode", "fraction holds something else than numbers.*clicks are kept"),
        ("killed@load", "it ended.*choose another device or model"),
    ],
)
def test_a_fault_that_persists_is_one_sentence_with_what_to_do(fault: str, words: str) -> None:
    with Engine(command=(*LIGHT, fault)) as engine, pytest.raises(EngineError, match=words) as caught:
        engine.decode(crop(), CLICKS, None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", ["memory@decode", "gpu-memory@decode"])
def test_out_of_memory_is_told_at_once_and_the_same_engine_goes_on(fault: str) -> None:
    with Engine(command=(*LIGHT, fault)) as engine:
        for _ in range(2):
            with pytest.raises(DeviceError, match=r"too little memory.*choose another device.*click again"):
                engine.decode(crop(), CLICKS, None)
        assert engine.restarts == 0


@on_linux
def test_the_real_network_under_an_address_space_limit_is_one_sentence() -> None:
    code = (
        "import resource; from pathlib import Path; from SAM3DSegmentLib.engine import server\n"
        "def load(model, device):\n"
        "    network = server.open_model(model, device)\n"
        "    taken = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (taken + (8 << 20),) * 2)\n"
        "    return network\n"
        "server.serve(load)"
    )
    refused = pytest.raises((DeviceError, EngineError), match="click again")
    with Engine(device="cpu", command=(sys.executable, "-c", code)) as engine, refused as caught:
        engine.decode(np.zeros((64, 64, 64), np.float32), CLICKS, None)
    assert "\n" not in str(caught.value)


def test_a_slow_start_is_waited_for() -> None:
    with Engine(command=(*LIGHT, "slow@start"), patience=0.5) as engine:
        _ = engine.specification
        assert engine.restarts == 0


@on_linux
def test_an_engine_that_hangs_before_it_has_read_the_crop_is_replaced(hung_engine: Engine) -> None:
    hung = hung_engine._process.pid
    hung_engine._patience = 2
    large = np.ones((32, 32, 32), np.float32)
    resume = threading.Timer(4, lambda: setattr(hung_engine, "_patience", 60))
    resume.start()
    hung_engine.decode(large, CLICKS, None)
    assert hung_engine.restarts >= 1 and not is_running(hung)


@on_linux
def test_a_click_on_a_hung_engine_is_cancelled_all_the_same(hung_engine: Engine) -> None:
    hung = hung_engine._process.pid
    cancelled = threading.Event()
    threading.Timer(0.2, cancelled.set).start()
    with pytest.raises(CancelledError):
        hung_engine.decode(crop(), CLICKS, None, cancelled)
    assert not is_running(hung)


@on_linux
@pytest.mark.parametrize("stopped", [False, True])
def test_no_engine_outlives_its_host(stopped: bool) -> None:
    code = (
        "import time; from SAM3DSegmentLib.engine.client import Engine; from Testing.disturbance import LIGHT\n"
        "engine = Engine(command=LIGHT); engine.specification; print(engine._process.pid, flush=True); time.sleep(600)"
    )
    host = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    engine = int(host.stdout.readline())
    if stopped:
        os.kill(engine, signal.SIGSTOP)
    host.kill()
    host.wait()
    host.stdout.close()
    assert gone_within(engine, 5)


def test_a_closed_engine_leaves_no_zombie_and_no_thread() -> None:
    before = threading.active_count()
    for _ in range(3):
        with Engine(command=LIGHT) as engine:
            engine.decode(crop(), CLICKS, None)
            pid = engine._process.pid
        assert not Path(f"/proc/{pid}").exists() or sys.platform != "linux"
    end = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.05)
    assert threading.active_count() <= before


@on_linux
def test_a_disk_without_room_for_temporary_files_stops_no_click() -> None:
    code = (
        "import numpy as np; from SAM3DSegmentLib.engine.client import Engine; from Testing.disturbance import LIGHT\n"
        "with Engine(command=LIGHT) as engine: print(engine.decode(np.zeros((32, 32, 32), np.float32), "
        "[((1.0, 2.0, 3.0), True)], None).shape)"
    )

    def no_file_grows() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    result = subprocess.run(
        [sys.executable, "-B", "-c", code],
        cwd=ROOT, preexec_fn=no_file_grows, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.stdout.strip() == "(32, 32, 32)", result.stderr


def test_an_idle_hour_fills_no_memory() -> None:
    with Engine(command=LIGHT) as engine:
        _ = engine.specification
        heard = engine._process.heard_at
        time.sleep(1.5)
        assert engine._process.heard_at > heard
        assert engine._process._answers.empty()
