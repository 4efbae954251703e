"""The viewer's side of the engine: starts the process, asks it, and starts it again when it dies or hangs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from SAM3DSegmentLib import __version__
from SAM3DSegmentLib.engine.fields import (
    FieldError,
    Loaded,
    error_of,
    fraction_of,
    loaded_of,
    logits_of,
    missing_of,
    text,
)
from SAM3DSegmentLib.engine.process import EngineGone, EngineProcess
from SAM3DSegmentLib.engine.wire import PROTOCOL, Array, Message, digest
from SAM3DSegmentLib.errors import CancelledError, EngineError, UserError
from SAM3DSegmentLib.geometry import Float32Array, Point
from SAM3DSegmentLib.specification import Specification

ATTEMPTS = 3
"""How often a request is tried on a fresh process before the user hears of it."""

START_SECONDS = 60.0
"""The patience with an engine that has not loaded its model yet: a connection is made, libraries come from a disk."""

QUEUE_SECONDS = 24 * 3600.0
"""The patience with a command of the user's own until its first message: Slurm may let it wait for a GPU."""

SERVING = ("-m", "SAM3DSegmentLib.engine")
"""What a Python of this computer is started with: such an engine waits in no queue."""

POLL_SECONDS = 0.05
CANCEL_SECONDS = 1.0
"""How long a cancelled request may go on before its engine is killed."""

STEP_SECONDS = 10.0
"""The same once the engine works on it: a block of ViT-B takes seconds on a CPU, and the model would be lost."""

CropClicks = Sequence[tuple[Point, bool]]
"""Positions (d, h, w) in voxels of the crop, and whether they include."""


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
        self._command = tuple(command or (sys.executable, *SERVING))
        self._patience = patience
        self._hello_patience = START_SECONDS if self._command[1:] == SERVING else QUEUE_SECONDS
        self._given_up = threading.Event()
        self._process: EngineProcess | None = None
        self._loaded: Loaded | None = None
        self._requests = 0
        self.restarts = 0

    def start(self) -> None:
        """Launch the process and ask it to load the model, without waiting for either."""
        if self._process:
            return
        self._process = EngineProcess(self._command)
        self._process.send(Message("hello", {"protocol": PROTOCOL, "version": __version__, "request": 0}))
        self._process.send(Message("load", {"model": self._model, "device": self._device, "request": 0}))

    @property
    def command(self) -> tuple[str, ...]:
        """That starts the process."""
        return self._command

    @property
    def choice(self) -> tuple[str, str]:
        """The model and the device that were asked for."""
        return self._model, self._device

    def load(self, model: str, device: str) -> None:
        """Load another model; in the same process, where what both share stays in memory.

        Raises:
            UserError: it cannot be loaded; the model before it stays in use.
        """
        before = self.choice

        def ask(process: EngineProcess) -> Loaded:
            self._requests += 1
            process.send(Message("load", {"model": model, "device": device, "request": self._requests}))
            return loaded_of(self._answer(process, self._requests, None, None, START_SECONDS))

        if self._loaded:
            self._loaded = cast(Loaded, self._persistently(ask))
            self._model, self._device = model, device
            return
        self.close()
        self._model, self._device = model, device
        try:
            self._wait_until_loaded()
        except UserError:
            self._model, self._device = before
            raise

    @property
    def specification(self) -> Specification:
        """Of the loaded network; waits until it is loaded.

        Raises:
            UserError: the model cannot be loaded, or no engine can be started.
        """
        return self._wait_until_loaded().specification

    @property
    def device(self) -> str:
        """The device of the last answer, "cpu", "cuda" or "mps": a network may have to leave a GPU that is too small.

        Before the first answer that of the loaded network; waits until it is loaded.
        """
        return self._wait_until_loaded().device

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

        def ask(process: EngineProcess) -> Array:
            self._requests += 1
            number = self._requests
            while True:
                unknown = {name: array for name, array in arrays.items() if keys[name] not in process.known}
                process.send(Message("decode", {**fields, "request": number}, unknown))
                process.known.update(keys.values())
                answer = self._answer(process, number, cancelled, progress)
                if answer.kind == "missing":
                    wanted = missing_of(answer)
                    if not wanted <= {keys[name] for name in arrays if name not in unknown}:
                        raise EngineGone("it asks for what it was sent, or for what nobody has")
                    process.known -= wanted
                    continue
                logits = logits_of(answer, len(crop))
                self._loaded = replace(cast(Loaded, self._loaded), device=text(answer, "device"))
                process.known.add(digest(logits))
                return logits

        return cast(Float32Array, self._persistently(ask).astype(np.float32))

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def give_up(self) -> None:
        """From any thread: call off whatever is waited for, and each later request, with a `CancelledError`."""
        self._given_up.set()

    def close(self) -> None:
        """End the process; the next request starts another."""
        if self._process:
            self._process.end()
        self._process = None
        self._loaded = None

    def _wait_until_loaded(self) -> Loaded:
        self._persistently(lambda process: None)
        return cast(Loaded, self._loaded)

    def _persistently(self, ask: Callable[[EngineProcess], Any]) -> Any:
        """What `ask` returns, on a fresh process each time one fails; a model that is loading is waited for."""
        for attempt in range(ATTEMPTS):
            self.start()
            process = cast(EngineProcess, self._process)
            try:
                if not self._loaded:
                    self._answer(process, 0, None, None, self._hello_patience)
                    self._loaded = loaded_of(self._answer(process, 0, None, None, START_SECONDS))
                return ask(process)
            except (EngineGone, FieldError) as reason:
                self.close()
                failure = f"{reason}; its last words: {process.last_words()}"
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
        process: EngineProcess,
        number: int,
        cancelled: threading.Event | None,
        progress: Callable[[float], None] | None,
        least_patience: float = 0,
    ) -> Message:
        """The answer to a request; signs of life and answers to earlier requests are passed over.

        Raises:
            CancelledError: the request was called off, or the engine given up.
        """
        asked_at = time.monotonic()
        patience = max(self._patience, least_patience)
        cancelled_at: float | None = None
        grace = CANCEL_SECONDS
        while True:
            if self._given_up.is_set():
                raise CancelledError
            if cancelled and cancelled.is_set() and cancelled_at is None:
                process.send(Message("cancel", {"request": number}))
                cancelled_at = time.monotonic()
            if cancelled_at and time.monotonic() - cancelled_at > grace:
                self.close()
                raise CancelledError
            message = process.receive(POLL_SECONDS)
            if message is None:
                if time.monotonic() - max(asked_at, process.heard_at) > patience:
                    raise EngineGone(f"it gave no sign of life for {patience:.0f} s")
                continue
            if message.fields.get("request") != number:
                continue
            if message.kind == "progress":
                grace = STEP_SECONDS
                fraction = fraction_of(message)
                if progress:
                    progress(fraction)
            elif message.kind == "cancelled":
                raise CancelledError
            elif message.kind == "error":
                raise error_of(message)
            else:
                return message
