"""The engine: frames, answers, and a client that outlives its process."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from SAM3DSegmentLib.engine import client, wire
from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.engine.wire import Message, WireError, read_message, write_message
from SAM3DSegmentLib.errors import CancelledError, DeviceError, EngineError, UnknownModelError
from SAM3DSegmentLib.interaction.evaluator import Evaluator
from SAM3DSegmentLib.models.store import find_model

ROOT = Path(__file__).resolve().parents[1]
CLICKS = [((32.0, 32.0, 32.0), True)]
SLOW = (sys.executable, "-m", "Testing.slow_engine")


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(device="cpu", patience=60) as started:
        yield started


def crop() -> np.ndarray:
    axis = np.arange(64) - 32
    ball = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 < 15**2
    return (ball + 0.1 * np.random.default_rng(0).standard_normal((64, 64, 64))).astype(np.float32)


def process_of(engine: Engine) -> int:
    return engine._process._process.pid


def frame(message: Message) -> bytes:
    stream = io.BytesIO()
    write_message(stream, message)
    return stream.getvalue()


def test_a_message_comes_back_as_it_was_written() -> None:
    arrays = {"a": np.arange(24, dtype=np.float16).reshape(2, 3, 4), "b": np.zeros((0, 3), np.uint8)}
    message = read_message(io.BytesIO(frame(Message("decode", {"request": 1, "text": "größer"}, arrays))))
    assert message is not None
    assert (message.kind, message.fields) == ("decode", {"request": 1, "text": "größer"})
    assert all(np.array_equal(message.arrays[name], array) for name, array in arrays.items())


FRAME = frame(Message("decode", {"clicks": [[1, 2, 3, True]]}, {"crop": np.ones((4, 4, 4), np.float16)}))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(FRAME) - 1), st.binary(min_size=1, max_size=8), st.integers(0, len(FRAME)))
def test_damaged_frames_are_refused_or_read_never_anything_else(at: int, inserted: bytes, end: int) -> None:
    for damaged in (FRAME[:at] + inserted + FRAME[at + len(inserted) :], FRAME[:end], inserted):
        try:
            message = read_message(io.BytesIO(damaged))
        except WireError:
            continue
        assert message is None or isinstance(message, Message)


def test_a_header_cannot_ask_for_memory_beyond_the_limit() -> None:
    array = {"name": "a", "dtype": "float32", "shape": [1048576, 1048576]}
    header = json.dumps({"kind": "decode", "fields": {}, "arrays": [array]}).encode()
    with pytest.raises(WireError, match="more than"):
        read_message(io.BytesIO(wire.PREFIX.pack(wire.MAGIC, len(header)) + header))


def test_the_same_request_gives_the_same_bits_on_a_fresh_engine(engine: Engine) -> None:
    first = engine.decode(crop(), CLICKS, None)
    second = engine.decode(crop(), [*CLICKS, ((40.0, 32.0, 32.0), False)], first)
    engine.close()
    again = engine.decode(crop(), [*CLICKS, ((40.0, 32.0, 32.0), False)], first)
    assert np.array_equal(second, again)


def test_after_the_first_click_only_clicks_travel(engine: Engine) -> None:
    first = engine.decode(crop(), CLICKS, None)
    before = engine.bytes_sent
    engine.decode(crop(), [*CLICKS, ((40.0, 32.0, 32.0), False)], first)
    assert before > 64**3 * 2
    assert engine.bytes_sent - before < 1000


def test_an_engine_killed_between_clicks_is_started_again_and_answers_alike(engine: Engine) -> None:
    first = engine.decode(crop(), CLICKS, None)
    os.kill(process_of(engine), signal.SIGKILL)
    assert np.array_equal(engine.decode(crop(), CLICKS, None), first)
    assert engine.restarts == 1


def test_a_hung_engine_is_started_again_and_answers_alike() -> None:
    with Engine(device="cpu", patience=60) as engine:
        first = engine.decode(crop(), CLICKS, None)
        engine._patience = 2
        hung = process_of(engine)
        os.kill(hung, signal.SIGSTOP)
        resume = threading.Timer(3, lambda: setattr(engine, "_patience", 60))
        resume.start()
        assert np.array_equal(engine.decode(crop(), CLICKS, None), first)
        assert engine.restarts >= 1
        with pytest.raises(ProcessLookupError):
            os.kill(hung, 0)


def test_a_request_is_cancelled_within_the_networks_work() -> None:
    with Engine(device="cpu", command=(*SLOW, "30"), patience=60) as engine:
        cancelled = threading.Event()
        fractions: list[float] = []

        def progress(fraction: float) -> None:
            fractions.append(fraction)
            if fraction > 0:
                cancelled.set()

        start = time.monotonic()
        with pytest.raises(CancelledError):
            engine.decode(np.zeros((16, 16, 16), np.float32), CLICKS, None, cancelled, progress)
        assert time.monotonic() - start < 29
        assert fractions


def test_a_cancel_while_the_model_loads_keeps_the_engine() -> None:
    with Engine(device="cpu", command=(*SLOW, "0.2"), patience=60) as engine:
        engine.start()
        loading = process_of(engine)
        cancelled = threading.Event()
        cancelled.set()
        with pytest.raises(CancelledError):
            engine.decode(np.zeros((16, 16, 16), np.float32), CLICKS, None, cancelled)
        assert engine.decode(np.zeros((16, 16, 16), np.float32), CLICKS, None).shape == (16, 16, 16)
        assert process_of(engine) == loading


def test_a_slow_step_of_a_cancelled_request_does_not_cost_the_engine() -> None:
    with Engine(device="cpu", command=(*SLOW, "6", "2"), patience=60) as engine:
        _ = engine.specification
        working = process_of(engine)
        cancelled = threading.Event()
        threading.Timer(0.5, cancelled.set).start()
        with pytest.raises(CancelledError):
            engine.decode(np.zeros((16, 16, 16), np.float32), CLICKS, None, cancelled)
        assert process_of(engine) == working


def test_a_command_of_the_users_own_may_wait_in_a_queue_and_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "START_SECONDS", 0.2)
    queued = (sys.executable, "-c", "import time; time.sleep(600)")
    with Engine(command=queued, patience=0.2) as engine:
        threading.Timer(1.5, engine.give_up).start()
        with pytest.raises(CancelledError):
            engine.decode(crop(), CLICKS, None)
        assert engine.restarts == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell script as a program")
def test_an_engine_of_this_computer_that_never_speaks_is_given_up_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "START_SECONDS", 0.2)
    hung = tmp_path / "PythonSlicer"
    hung.write_text("#!/bin/sh\nexec sleep 600\n")
    hung.chmod(0o755)
    command = (str(hung), *client.SERVING)
    with Engine(command=command, patience=0.2) as engine, pytest.raises(EngineError, match="no sign of life"):
        _ = engine.specification


def test_closing_ends_a_command_that_still_waits_in_a_queue() -> None:
    queued = Engine(command=(sys.executable, "-c", "import time; time.sleep(600)"))
    evaluator = Evaluator(queued)
    while not queued._process:
        time.sleep(0.01)
    waiting = process_of(queued)
    evaluator.close()
    for _ in range(500):
        try:
            os.kill(waiting, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    pytest.fail("the command outlives the evaluator")


def test_what_libraries_print_does_not_disturb_the_protocol() -> None:
    with Engine(device="cpu", command=(*SLOW, "0.1"), patience=60) as engine:
        logits = engine.decode(np.zeros((16, 16, 16), np.float32), CLICKS, None)
    assert np.all(logits == -1)


def test_an_engine_that_always_dies_is_one_sentence_with_its_last_words() -> None:
    command = (sys.executable, "-c", "import sys; sys.exit('no driver')")
    sentence = r"failed 3 times.*no driver.*clicks are kept"
    with Engine(command=command) as engine, pytest.raises(EngineError, match=sentence):
        engine.decode(crop(), CLICKS, None)


def test_an_engine_that_talks_nonsense_is_one_sentence() -> None:
    command = (sys.executable, "-c", "print('hello' * 1000)")
    with Engine(command=command) as engine, pytest.raises(EngineError, match="failed 3 times"):
        engine.decode(crop(), CLICKS, None)


def test_an_engine_that_is_not_there_is_named() -> None:
    with Engine(command=("no-such-engine",)) as engine, pytest.raises(EngineError, match="no-such-engine"):
        engine.decode(crop(), CLICKS, None)


def test_versions_that_differ_are_named() -> None:
    newer = "import SAM3DSegmentLib.engine.wire as wire; wire.PROTOCOL = 99"
    code = f"{newer}; from SAM3DSegmentLib.engine.server import serve; serve()"
    with Engine(command=(sys.executable, "-c", code)) as engine, pytest.raises(EngineError, match="same version"):
        engine.decode(crop(), CLICKS, None)


def test_another_model_is_loaded_into_the_same_process(engine: Engine, tmp_path: Path) -> None:
    by_name = engine.decode(crop(), CLICKS, None)
    process = process_of(engine)
    # Without a graph beside it a checkpoint runs under PyTorch.
    alone = shutil.copy(find_model("compact"), tmp_path)
    engine.load(str(alone), "cpu")
    by_path = engine.decode(crop(), CLICKS, None)
    assert process_of(engine) == process and engine.choice == (str(alone), "cpu")
    assert not np.array_equal(by_name, by_path)
    assert np.allclose(by_name, by_path, atol=0.05)


def test_where_another_model_cannot_be_loaded_the_engine_goes_on_with_the_one_before(engine: Engine) -> None:
    first = engine.decode(crop(), CLICKS, None)
    process = process_of(engine)
    with pytest.raises(UnknownModelError, match="no-such-model"):
        engine.load("no-such-model", "cpu")
    assert engine.specification.name == "compact" and engine.choice == ("compact", "cpu")
    assert np.array_equal(engine.decode(crop(), CLICKS, None), first)
    assert process_of(engine) == process and not engine.restarts
    os.kill(process, signal.SIGKILL)
    assert np.array_equal(engine.decode(crop(), CLICKS, None), first)


def test_after_a_model_that_could_not_be_loaded_another_one_can() -> None:
    with Engine("no-such-model", "cpu") as engine:
        with pytest.raises(UnknownModelError):
            _ = engine.specification
        engine.load("compact", "cpu")
        assert engine.specification.name == "compact"


def test_an_unknown_model_is_refused_by_name() -> None:
    with Engine(model="no-such-model") as engine, pytest.raises(UnknownModelError, match="no-such-model"):
        _ = engine.specification


def test_a_device_that_is_not_there_is_refused_by_name() -> None:
    with Engine(device="cuda:77") as engine, pytest.raises(DeviceError, match="cuda:77"):
        _ = engine.specification


def test_an_engine_ends_when_its_client_is_gone() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "SAM3DSegmentLib.engine"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    process.stdin.close()
    process.stdout.read()
    assert process.wait(timeout=60) == 0
