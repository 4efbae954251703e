"""The viewer's side of the engine: starts the process, asks it, and starts it again when it dies or hangs."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from SAM3DSegmentLib import __version__, errors
from SAM3DSegmentLib.engine.wire import PROTOCOL, Array, Message, WireError, digest, read_message, write_message
from SAM3DSegmentLib.errors import CancelledError, EngineError, UserError
from SAM3DSegmentLib.geometry import Float32Array, Point
from SAM3DSegmentLib.specification import Specification

ATTEMPTS = 3
"""How often a request is tried on a fresh process before the user hears of it."""

POLL_SECONDS = 0.05
CANCEL_SECONDS = 1.0
"""How long a cancelled engine may go on before it is killed."""

LOG_TAIL = 2000
PACKAGE_PARENT = Path(__file__).resolve().parents[2]

CropClicks = Sequence[tuple[Point, bool]]
"""Positions (d, h, w) in voxels of the crop, and whether they include."""


class _EngineGone(Exception):
    """The process died, hung, or spoke no protocol: a fresh one may answer."""


class _Process:
    """One engine process: messages out, messages in by a reader thread, its errors to a temporary file."""

    def __init__(self, command: Sequence[str]) -> None:
        self.known: set[str] = set()
        self.bytes_sent = 0
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(PACKAGE_PARENT), os.environ.get("PYTHONPATH", "")]),
        }
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=environment
            )
        except OSError as error:
            self._log.close()
            raise EngineError(
                f"The engine {command[0]!r} cannot be started ({error.strerror}): check the command."
            ) from error
        self._answers: queue.Queue[Message | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        stdout = cast(BinaryIO, self._process.stdout)
        with contextlib.suppress(WireError, ValueError, OSError):
            while message := read_message(stdout):
                self._answers.put(message)
        self._answers.put(None)

    def send(self, message: Message) -> None:
        try:
            self.bytes_sent += write_message(cast(BinaryIO, self._process.stdin), message)
        except OSError as error:
            raise _EngineGone("it closed its input") from error

    def receive(self, seconds: float) -> Message | None:
        """The next message, or None when none came in time."""
        try:
            message = self._answers.get(timeout=seconds)
        except queue.Empty:
            return None
        if message is None:
            raise _EngineGone("it ended")
        return message

    def log(self) -> str:
        """The end of what the process wrote to its standard error."""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - LOG_TAIL))
        return self._log.read().decode(errors="replace").strip()

    def end(self) -> None:
        """Stop the process, at once, and collect it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            with contextlib.suppress(OSError):
                cast(BinaryIO, stream).close()


class Engine:
    """A network in a process of its own.

    A request that finds the process dead, hung or talking nonsense starts a fresh one and is asked again; everything
    the engine held is sent again, so the answer is the same. One thread at a time may ask; `cancelled` may be set from
    any.

    Args:
        model: a name of the catalogue or the path of a checkpoint, resolved where the engine runs.
        device: "auto", "cpu", "cuda", "mps".
        command: of the engine process; `("ssh", "gpu-host", "sam3dsegment", "engine")` runs it elsewhere.
        patience: seconds without any sign of life after which the process counts as hung.
    """

    def __init__(
        self, model: str = "compact", device: str = "auto", command: Sequence[str] | None = None, patience: float = 20.0
    ) -> None:
        self._model = model
        self._device = device
        self._command = tuple(command or (sys.executable, "-m", "SAM3DSegmentLib.engine"))
        self._patience = patience
        self._process: _Process | None = None
        self._loaded: Message | None = None
        self._requests = 0
        self.restarts = 0

    def start(self) -> None:
        """Launch the process and ask it to load the model, without waiting for either."""
        if self._process:
            return
        self._process = _Process(self._command)
        with contextlib.suppress(_EngineGone):
            self._process.send(Message("hello", {"protocol": PROTOCOL, "version": __version__, "request": 0}))
            self._process.send(Message("load", {"model": self._model, "device": self._device, "request": 0}))

    @property
    def specification(self) -> Specification:
        """Of the loaded network; waits until it is loaded.

        Raises:
            UserError: the model cannot be loaded, or no engine can be started.
        """
        self._persistently(lambda process: None)
        return Specification.from_json(cast(Message, self._loaded).fields["specification"])

    @property
    def device(self) -> str:
        """The device that the loaded network runs on: "cpu", "cuda" or "mps"; waits until it is loaded."""
        self._persistently(lambda process: None)
        return str(cast(Message, self._loaded).fields["device"])

    @property
    def bytes_sent(self) -> int:
        """To the present process, so far."""
        return self._process.bytes_sent if self._process else 0

    def decode(
        self,
        crop: Float32Array,
        clicks: CropClicks,
        previous: Float32Array | None,
        cancelled: threading.Event | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Float32Array:
        """Logits [S, S, S] of the clicked object in a crop.

        Args:
            crop: [S, S, S], normalised; travels as float16, once.
            previous: [S, S, S], the logits of the answer before these clicks, or None.
            progress: called with the finished fraction of the work.

        Raises:
            CancelledError: `cancelled` was set.
            UserError: the engine refused, or failed `ATTEMPTS` times.
        """
        arrays = {"crop": crop.astype(np.float16)}
        if previous is not None:
            arrays["previous"] = previous.astype(np.float16)
        keys = {name: digest(array) for name, array in arrays.items()}
        fields = {
            "crop": keys["crop"],
            "previous": keys.get("previous"),
            "clicks": [[*position, include] for position, include in clicks],
        }

        def ask(process: _Process) -> Array:
            self._requests += 1
            number = self._requests
            while True:
                unknown = {name: array for name, array in arrays.items() if keys[name] not in process.known}
                process.send(Message("decode", {**fields, "request": number}, unknown))
                process.known.update(keys.values())
                answer = self._answer(process, number, cancelled, progress)
                if answer.kind == "missing":
                    process.known.difference_update(answer.fields["keys"])
                    continue
                logits = answer.arrays["logits"]
                if logits.shape != crop.shape:
                    raise _EngineGone(f"it answered with logits of shape {logits.shape}")
                process.known.add(digest(logits))
                return logits

        return cast(Float32Array, self._persistently(ask).astype(np.float32))

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process; the next request starts another."""
        if self._process:
            self._process.end()
        self._process = None
        self._loaded = None

    def _persistently(self, ask: Callable[[_Process], Any]) -> Any:
        """What `ask` returns, on a fresh process each time one fails; a model that is loading is waited for."""
        for attempt in range(ATTEMPTS):
            self.start()
            process = cast(_Process, self._process)
            try:
                if not self._loaded:
                    self._answer(process, 0, None, None)
                    self._loaded = self._answer(process, 0, None, None)
                return ask(process)
            except _EngineGone as reason:
                failure = f"{reason}; its last words: {process.log() or 'none'}"
                self.close()
                self.restarts += 1
            except UserError:
                if not self._loaded:
                    self.close()
                raise
            if attempt + 1 < ATTEMPTS:
                time.sleep(0.1 * attempt)
        raise EngineError(
            f"The engine failed {ATTEMPTS} times in a row ({failure}). Your clicks are kept: check the device and its "
            "memory, choose another device or model, and click again."
        )

    def _answer(
        self,
        process: _Process,
        number: int,
        cancelled: threading.Event | None,
        progress: Callable[[float], None] | None,
    ) -> Message:
        """The answer to a request; signs of life and answers to earlier requests are passed over."""
        silent_since = time.monotonic()
        cancelled_at: float | None = None
        while True:
            if cancelled and cancelled.is_set() and cancelled_at is None:
                process.send(Message("cancel", {"request": number}))
                cancelled_at = time.monotonic()
            message = process.receive(POLL_SECONDS)
            if message is None:
                if cancelled_at and time.monotonic() - cancelled_at > CANCEL_SECONDS:
                    self.close()
                    raise CancelledError
                if time.monotonic() - silent_since > self._patience:
                    raise _EngineGone(f"it gave no sign of life for {self._patience:.0f} s")
                continue
            silent_since = time.monotonic()
            if message.fields.get("request") != number:
                continue
            if message.kind == "progress":
                if progress:
                    progress(message.fields["fraction"])
            elif message.kind == "cancelled":
                raise CancelledError
            elif message.kind == "error":
                raise user_error(message.fields)
            else:
                return message


def user_error(fields: Mapping[str, Any]) -> UserError:
    """The engine's error as the exception that it is on this side."""
    kind = getattr(errors, str(fields["error"]), EngineError)
    if not (isinstance(kind, type) and issubclass(kind, UserError)):
        kind = EngineError
    return kind(str(fields["message"]))
