"""Generated messages in great numbers: to the engine's server, to its client, and as raw bytes to the parser."""

from __future__ import annotations

import io
import queue
import tracemalloc
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from SAM3DSegmentLib.engine import fields, wire
from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.engine.process import EngineGone
from SAM3DSegmentLib.engine.server import Server
from SAM3DSegmentLib.engine.wire import PROTOCOL, Message, WireError, digest, pack, read_message
from SAM3DSegmentLib.errors import CancelledError, EngineError, UserError
from Testing.light_engine import EDGE, LightNetwork

MEMORY_LIMIT = wire.PAYLOAD_LIMIT + wire.HEADER_LIMIT
"""Bytes that reading one message may take at most."""

CROP = np.zeros((EDGE,) * 3, np.float16)
KEY = digest(CROP)

plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
names = st.sampled_from(["request", "crop", "clicks", "kind", "", "\u00e4", "\ud800"])
values = plain | st.lists(plain, max_size=3) | st.dictionaries(names, plain, max_size=2) | st.lists(st.lists(plain))
number = st.integers(0, 3) | values
coordinate = st.floats(-5, EDGE + 5) | plain
click = st.tuples(coordinate, coordinate, coordinate, st.booleans() | plain).map(list) | values
arrays = st.dictionaries(
    st.sampled_from(["crop", "previous", "logits", "mask", ""]),
    st.sampled_from([CROP, np.ones_like(CROP), CROP[:4], CROP.astype(np.float32), np.zeros(0, np.uint8)]),
    max_size=2,
)


def some(**given_fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Fields of which any may be missing, and others may be there."""
    known = st.fixed_dictionaries({}, optional=given_fields)
    return st.builds(lambda a, b: {**b, **a}, known, st.dictionaries(names, values, max_size=1))


key = st.sampled_from([KEY, KEY[:-1], digest(np.ones_like(CROP)), "0" * 32]) | values
requests = st.builds(
    Message,
    st.sampled_from(["hello", "load", "decode", "decode", "decode"]) | st.text(max_size=8),
    some(
        request=number,
        protocol=st.just(PROTOCOL) | values,
        version=st.just("1.0") | values,
        model=st.text(max_size=8) | values,
        device=st.sampled_from(["cpu", "auto"]) | values,
        crop=key,
        previous=st.none() | key,
        clicks=st.lists(click, max_size=6) | values,
    ),
    arrays,
)
answers = st.builds(
    Message,
    st.sampled_from(["logits", "missing", "progress", "error", "cancelled", "loaded", "alive"]) | st.text(max_size=8),
    some(
        request=st.just(1) | number,
        keys=st.lists(key, max_size=3) | values,
        fraction=st.floats() | values,
        error=st.sampled_from(["DeviceError", "EngineError", "SystemExit", "annotations", "UserError"]) | values,
        message=st.text(max_size=20) | values,
        specification=st.just(LightNetwork.specification.to_json()) | some(name=values, spacings=values),
        device=st.just("cpu") | values,
    ),
    arrays,
)


def limits(count: int) -> settings:
    return settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def tried_on_the_engine(count: int) -> int:
    """Give `count` requests to a server with a loaded network; the number that it answered, each as it should."""
    tried = 0
    server = Server(io.BytesIO(), io.BytesIO(), lambda model, device: LightNetwork("", step_seconds=0))
    server._handle(Message("load", {"request": 1, "model": "light", "device": "cpu"}))

    @limits(count)
    @given(requests)
    def try_one(request: Message) -> None:
        nonlocal tried
        received = read_message(io.BytesIO(pack(request)))
        assert received is not None
        answer = server._handle(received)
        sane = is_sane(received)
        assert answer.kind in {"welcome", "loaded", "logits", "missing", "error"}
        assert sane or answer.kind == "error", answer
        if answer.kind == "error":
            assert isinstance(fields.error_of(answer), EngineError)
        assert len(server._arrays) <= server._arrays.size and len(server._encodings) <= server._encodings.size
        tried += 1

    try_one()
    return tried


def is_sane(request: Message) -> bool:
    """Whether the fields are what docs/protocol.md says, told apart by other means than the engine's own."""
    found = request.fields
    if type(found.get("request")) is not int:
        return False
    if request.kind == "hello":
        return found.get("protocol") == PROTOCOL and isinstance(found.get("version"), str)
    if request.kind == "load":
        return isinstance(found.get("model"), str) and isinstance(found.get("device"), str)
    clicks = found.get("clicks")
    return (
        request.kind == "decode"
        and isinstance(clicks, list)
        and any(isinstance(click, list) and click[-1:] == [True] for click in clicks)
    )


class Script:
    """A process in a client's hands that gives the generated answers and then ends."""

    def __init__(self, given_answers: list[Message]) -> None:
        self.known: set[str] = set()
        self.heard_at = 0.0
        self._answers: queue.SimpleQueue[Message] = queue.SimpleQueue()
        for answer in given_answers:
            self._answers.put(answer)

    def send(self, message: Message) -> None:
        pass

    def receive(self, seconds: float) -> Message:
        if self._answers.empty():
            raise EngineGone("it ended")
        return self._answers.get()

    def last_words(self) -> str:
        return "none"

    def end(self) -> None:
        pass


class ScriptedEngine(Engine):
    """A client whose processes all give the same answers."""

    def __init__(self, given_answers: list[Message]) -> None:
        super().__init__(command=("none",))
        self._given = given_answers

    def start(self) -> None:
        if not self._process:
            self._process = Script(self._given)  # type: ignore[assignment]
            self._loaded = fields.Loaded(LightNetwork.specification, "cpu")
            self._requests = 0


def tried_on_the_client(count: int) -> int:
    """Give `count` lists of answers to a client; the number after which it gave logits or told the user."""
    tried = 0

    @limits(count)
    @given(st.lists(answers.map(lambda m: read_message(io.BytesIO(pack(m)))), max_size=4))
    def try_one(given_answers: list[Message]) -> None:
        nonlocal tried
        engine = ScriptedEngine(given_answers)
        try:
            logits = engine.decode(CROP.astype(np.float32), [((1.0, 2.0, 3.0), True)], None)
            assert logits.shape == CROP.shape
        except CancelledError:
            assert any(answer.kind == "cancelled" for answer in given_answers)
        except UserError as error:
            assert str(error) or any(answer.kind == "error" for answer in given_answers)
        tried += 1

    try_one()
    return tried


headers = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.text(max_size=8) | values,
        "fields": st.dictionaries(names, values, max_size=2) | values,
        "arrays": st.lists(
            some(
                name=st.text(max_size=4), dtype=st.sampled_from(["float16", "uint8", "object"]), shape=st.lists(number)
            )
            | values,
            max_size=3,
        )
        | values,
    },
)


def tried_as_bytes(count: int) -> int:
    """Read `count` byte strings, some of them nearly frames; the number that were a message, the end, or refused."""
    tried = 0
    frame = pack(Message("decode", {"request": 1, "crop": KEY, "clicks": [[1, 2, 3, True]]}, {"crop": CROP[:2, :2]}))

    def framed(header: Any) -> bytes:
        content = repr(header).replace("'", '"').replace("None", "null").encode(errors="replace")
        return wire.PREFIX.pack(wire.MAGIC, len(content)) + content

    damaged = st.builds(
        lambda at, inserted, end: (frame[:at] + inserted + frame[at + len(inserted) :])[:end],
        st.integers(0, len(frame)), st.binary(max_size=8), st.integers(0, len(frame) + 8),
    )  # fmt: skip
    content = st.binary(max_size=200) | damaged | headers.map(framed)
    tracemalloc.start()

    @limits(count)
    @given(content)
    def try_one(given_bytes: bytes) -> None:
        nonlocal tried
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        try:
            message = read_message(io.BytesIO(given_bytes))
            assert message is None or isinstance(message, Message)
        except WireError as error:
            assert str(error)
        assert tracemalloc.get_traced_memory()[1] - before <= MEMORY_LIMIT
        tried += 1

    try_one()
    tracemalloc.stop()
    return tried
