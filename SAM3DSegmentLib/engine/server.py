"""The engine: the process that owns the network and the device and answers on its standard output."""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn

import numpy as np

from SAM3DSegmentLib import __version__
from SAM3DSegmentLib.engine.fields import FieldError, decode_of, hello_of, load_of, request_number
from SAM3DSegmentLib.engine.wire import PROTOCOL, Message, WireError, digest, read_message, write_message
from SAM3DSegmentLib.errors import CancelledError, DeviceError, EngineError, UserError
from SAM3DSegmentLib.models.store import find_model
from SAM3DSegmentLib.network.interface import CropClick
from SAM3DSegmentLib.network.runtime import ArrayNetwork, open_network

HEARTBEAT_SECONDS = 0.5
LOGIT_LIMIT = 60.0
ENCODINGS_KEPT = 4
ARRAYS_KEPT = 16
REQUESTS_KEPT = 4
"""Requests that wait; a client that sends more has to wait, so that it cannot fill this side's memory."""

OUT_OF_MEMORY = ("out of memory", "not enough memory", "allocate memory", "could not create a memory", "bad_alloc")
"""In the messages of exceptions of torch and onnxruntime, which have no class of their own for it on the CPU."""

PR_SET_PDEATHSIG = 1


class Cache(OrderedDict[str, Any]):
    """The `size` values used last, by key."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def keep(self, key: str, value: Any) -> None:
        self[key] = value
        self.move_to_end(key)
        if len(self) > self.size:
            self.popitem(last=False)


class Server:
    """Answers one request after another; a reader thread hears a cancel while the network works.

    The engine keeps nothing that cannot be sent again: encodings and arrays lie in small caches under the digest of
    their content, and a request that names one which is gone is answered with `missing`. It ends where it can no longer
    be trusted, at bytes that are no message and at a failure that is neither the user's nor a lack of memory: the
    client starts a fresh one.

    Args:
        load: opens the network of a model, by name or path, on a device.
    """

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO, load: Callable[[str, str], ArrayNetwork]) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._open = load
        self._writing = threading.Lock()
        self._requests: queue.Queue[Message] = queue.Queue(REQUESTS_KEPT)
        self._cancelled: int | None = None
        self._network: ArrayNetwork | None = None
        self._encodings = Cache(ENCODINGS_KEPT)
        self._arrays = Cache(ARRAYS_KEPT)

    def run(self) -> None:
        """Serve until the client closes its end."""
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()
        while True:
            message = self._requests.get()
            answer = self._handle(message)
            request = message.fields.get("request")
            self._send(Message(answer.kind, {**answer.fields, "request": request}, answer.arrays))

    def _handle(self, message: Message) -> Message:
        """The answer to a request; what is wrong with it, or with the device, is an answer too."""
        handlers: dict[str, Callable[[Message], Message]] = {
            "hello": self._hello,
            "load": self._load,
            "decode": self._decode,
        }
        try:
            request_number(message)
            handler = handlers.get(message.kind)
            if handler is None:
                raise EngineError(f"The engine knows no request {message.kind!r}: update the older of both sides.")
            return handler(message)
        except CancelledError:
            return Message("cancelled")
        except FieldError as error:
            sentence = f"The engine cannot read {message.kind!r} ({error}): install the same version on both sides."
            return error_answer(EngineError(sentence))
        except UserError as error:
            return error_answer(error)
        except Exception as error:  # the loop's edge: the details go to the log
            traceback.print_exc()
            if not is_out_of_memory(error):
                end_with(f"{type(error).__name__}: {error}")
            self._encodings.clear()
            self._arrays.clear()
            return error_answer(
                DeviceError(
                    "The device has too little memory left for this network: close other programs that use it, "
                    "or choose another device or the compact model, and click again."
                )
            )

    def _read(self) -> None:
        """Queue what comes in; the process ends with its input."""
        status = 1
        try:
            while message := read_message(self._incoming):
                if message.kind == "cancel":
                    self._cancelled = request_number(message)
                else:
                    self._requests.put(message)
            status = 0
        except (WireError, FieldError, MemoryError, OSError) as error:
            print(f"engine: its input cannot be read: {error}", file=sys.stderr)
        finally:
            os._exit(status)

    def _beat(self) -> None:
        while not threading.Event().wait(HEARTBEAT_SECONDS):
            self._send(Message("alive"))

    def _send(self, message: Message) -> None:
        with self._writing:
            try:
                write_message(self._outgoing, message)
            except OSError:
                os._exit(0)

    def _hello(self, message: Message) -> Message:
        protocol, version = hello_of(message)
        if protocol != PROTOCOL:
            raise EngineError(
                f"The engine speaks protocol {PROTOCOL} (version {__version__}), the client {protocol} (version "
                f"{version}): install the same version of SAM3DSegment on both sides."
            )
        return Message("welcome", {"protocol": PROTOCOL, "version": __version__})

    def _load(self, message: Message) -> Message:
        network = self._open(*load_of(message))
        self._network = network
        self._encodings.clear()
        specification = network.specification.to_json()
        return Message("loaded", {"specification": specification, "device": network.device})

    def _decode(self, message: Message) -> Message:
        network = self._network
        if network is None:
            raise EngineError("No model is loaded: send `load` before `decode`.")
        request = decode_of(message, network.specification.crop_size)
        for key, array in request.arrays.items():
            self._arrays.keep(key, array)

        def progress(fraction: float) -> None:
            if request.number == self._cancelled:
                raise CancelledError
            self._send(Message("progress", {"request": request.number, "fraction": fraction}))

        wanted = [request.previous] if request.previous else []
        if request.crop not in self._encodings:
            wanted.append(request.crop)
        missing = [key for key in wanted if key not in self._arrays]
        if missing:
            return Message("missing", {"keys": missing})
        progress(0.0)
        if request.crop not in self._encodings:
            crop = self._arrays[request.crop].astype(np.float32)
            self._encodings.keep(request.crop, network.encode(crop, progress))
        self._encodings.move_to_end(request.crop)
        previous = self._arrays[request.previous].astype(np.float32) if request.previous else None
        clicks = [CropClick(position, include) for position, include in request.clicks]
        logits = network.decode(self._encodings[request.crop], clicks, previous, progress)
        answer = np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT).astype(np.float16)
        self._arrays.keep(digest(answer), answer)
        return Message("logits", {"device": network.device}, {"logits": answer})


def error_answer(error: UserError) -> Message:
    """The answer that lets the client raise this error."""
    return Message("error", {"error": type(error).__name__, "message": str(error)})


def is_out_of_memory(error: Exception) -> bool:
    """Whether the device or the computer has no memory left; anything else is a lost device or a bug."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in OUT_OF_MEMORY)


def end_with(words: str) -> NoReturn:
    """End this process at once; the client shows the first line of its last words."""
    print(words.partition("\n")[0], file=sys.stderr, flush=True)
    os._exit(1)


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, as its own code cannot where it is stopped or hung.

    Linux only; elsewhere the end of the input has to do. See prctl(2), PR_SET_PDEATHSIG.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def open_model(model: str, device: str) -> ArrayNetwork:
    """The network of a model of that name or path."""
    return open_network(find_model(model), device)


def serve(load: Callable[[str, str], ArrayNetwork] = open_model) -> None:
    """Speak the protocol on this process's standard input and output; anything that prints goes to standard error."""
    end_with_parent()
    outgoing = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    Server(sys.stdin.buffer, outgoing, load).run()
