"""One engine process as its client holds it: messages out, messages in, its last words, and its end."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import BinaryIO, cast

from SAM3DSegmentLib.engine.wire import Message, WireError, pack, read_message
from SAM3DSegmentLib.errors import EngineError

BACKLOG = 8
"""Answers that wait to be read: with more the engine has to wait, so that it cannot fill this side's memory."""

LOG_TAIL = 4000
LAST_WORDS = 200
END_SECONDS = 2.0
"""How long a killed process is waited for: one that hangs in a driver may take longer to go."""

WINDOWS_FLAGS: int = getattr(subprocess, "CREATE_NO_WINDOW", 0)
"""No console window beside the viewer's; 0 where there are none."""

PACKAGE_PARENT = Path(__file__).resolve().parents[2]


class EngineGone(Exception):
    """The process died, hung, or spoke no protocol: a fresh one may answer."""


class Heard:
    """A stream that tells of each piece that comes in: over a slow link one message takes longer than the patience."""

    def __init__(self, stream: BinaryIO, hear: Callable[[], None]) -> None:
        self._stream = stream
        self._hear = hear

    def read(self, count: int, /) -> bytes:
        """Up to `count` bytes, fewer only at the end."""
        pieces = []
        while count:
            piece: bytes = self._stream.read1(count)  # type: ignore[attr-defined]
            if not piece:
                break
            self._hear()
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)


class EngineProcess:
    """An engine process and the three threads on its pipes; nothing here waits for the process.

    The thread that reads also starts the process: an engine on Linux ends with the thread that started it (`serve`),
    and so neither outlives the other, whatever becomes of the engine or of this process.

    Attributes:
        known: digests of the arrays that the engine holds.
        bytes_sent: so far, or about to be.
        heard_at: when it last gave a sign of life, by `time.monotonic`; at first when it was started.

    Raises:
        EngineError: the command cannot be run.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.known: set[str] = set()
        self.bytes_sent = 0
        self.heard_at = time.monotonic()
        self._log = b""
        self._deaf = False
        self._frames: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._answers: queue.Queue[Message | EngineGone] = queue.Queue(BACKLOG)
        started: Future[subprocess.Popen[bytes]] = Future()
        self._reader = threading.Thread(target=self._read, args=(command, started), daemon=True)
        self._reader.start()
        self._process = started.result()
        self._logger = threading.Thread(target=self._keep_log, daemon=True)
        self._logger.start()
        threading.Thread(target=self._write, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: Message) -> None:
        """Have a message written, however long the process takes to read it."""
        frame = pack(message)
        self.bytes_sent += len(frame)
        self._frames.put(frame)

    def receive(self, seconds: float) -> Message | None:
        """The next message, or None when none came in time.

        Raises:
            EngineGone: there will be none.
        """
        try:
            message = self._answers.get(timeout=seconds)
        except queue.Empty:
            if self._deaf:
                raise EngineGone("it closed its input") from None
            return None
        if isinstance(message, EngineGone):
            raise message
        return message

    def last_words(self) -> str:
        """The last line that the process wrote to its standard error."""
        self._logger.join(0.5)
        lines = self._log.decode(errors="replace").split("\n")
        return next((line.strip()[:LAST_WORDS] for line in reversed(lines) if line.strip()), "none")

    def end(self) -> None:
        """Stop the process, at once, and collect it."""
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        self._frames.put(b"")
        given_up = time.monotonic() + END_SECONDS
        while self._reader.is_alive() and time.monotonic() < given_up:
            with contextlib.suppress(queue.Empty):
                self._answers.get(timeout=0.01)

    def _read(self, command: Sequence[str], started: Future[subprocess.Popen[bytes]]) -> None:
        search_path = os.pathsep.join([str(PACKAGE_PARENT), os.environ.get("PYTHONPATH", "")])
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen(
                command,
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                env={**os.environ, "PYTHONPATH": search_path},
                creationflags=WINDOWS_FLAGS,
            )
        except OSError as error:
            reason = f"The engine {command[0]!r} cannot be started ({error.strerror}): check the command."
            started.set_exception(EngineError(reason))
            return
        started.set_result(process)
        reason = "it ended"
        try:
            with cast(BinaryIO, process.stdout) as stdout:
                while message := read_message(Heard(stdout, self._hear)):
                    if message.kind != "alive":
                        self._answers.put(message)
        except (WireError, MemoryError) as error:
            reason = f"its output cannot be read: {error}"
        self._answers.put(EngineGone(reason))

    def _hear(self) -> None:
        self.heard_at = time.monotonic()

    def _write(self) -> None:
        with contextlib.suppress(OSError), cast(BinaryIO, self._process.stdin) as stdin:
            while frame := self._frames.get():
                stdin.write(frame)
                stdin.flush()
        self._deaf = True

    def _keep_log(self) -> None:
        with cast(BinaryIO, self._process.stderr) as stderr:
            while words := stderr.read1(LOG_TAIL):  # type: ignore[attr-defined]
                self._log = (self._log + words)[-LOG_TAIL:]
