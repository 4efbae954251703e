"""The engine: the process that owns the network and the device and answers on its standard output."""

from __future__ import annotations

import os
import queue
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from SAM3DSegmentLib import __version__
from SAM3DSegmentLib.engine.wire import PROTOCOL, Array, Message, WireError, digest, read_message, write_message
from SAM3DSegmentLib.errors import CancelledError, EngineError, UserError
from SAM3DSegmentLib.models.store import find_model

if TYPE_CHECKING:
    from SAM3DSegmentLib.network.interface import PromptableNetwork

HEARTBEAT_SECONDS = 0.5
ENCODINGS_KEPT = 4
ARRAYS_KEPT = 16
LOGIT_LIMIT = 60.0


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
    their content, and a request that names one which is gone is answered with `missing`.
    """

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._writing = threading.Lock()
        self._requests: queue.Queue[Message | None] = queue.Queue()
        self._cancelled: set[object] = set()
        self._network: PromptableNetwork | None = None
        self._encodings = Cache(ENCODINGS_KEPT)
        self._arrays = Cache(ARRAYS_KEPT)

    def run(self) -> None:
        """Serve until the client closes its end."""
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()
        handlers: dict[str, Callable[[Message], Message]] = {
            "hello": self._hello,
            "load": self._load,
            "decode": self._decode,
        }
        while message := self._requests.get():
            number = message.fields.get("request")
            try:
                handler = handlers.get(message.kind)
                if handler is None:
                    raise EngineError(f"The engine knows no request {message.kind!r}: update the older of both sides.")
                answer = handler(message)
            except CancelledError:
                answer = Message("cancelled")
            except UserError as error:
                answer = Message("error", {"error": type(error).__name__, "message": str(error)})
            except Exception as error:  # the loop's edge: the client is told, the details go to the log
                traceback.print_exc()
                answer = Message("error", {"error": "EngineError", "message": f"The engine failed: {error!r}"})
            self._cancelled.discard(number)
            self._send(Message(answer.kind, {**answer.fields, "request": number}, answer.arrays))

    def _read(self) -> None:
        try:
            while message := read_message(self._incoming):
                if message.kind == "cancel":
                    self._cancelled.add(message.fields.get("request"))
                else:
                    self._requests.put(message)
        except WireError as error:
            print(f"engine: {error}", file=sys.stderr)
        os._exit(0)

    def _beat(self) -> None:
        while not threading.Event().wait(HEARTBEAT_SECONDS):
            self._send(Message("alive"))

    def _send(self, message: Message) -> None:
        with self._writing:
            write_message(self._outgoing, message)

    def _hello(self, message: Message) -> Message:
        protocol, version = message.fields["protocol"], message.fields["version"]
        if protocol != PROTOCOL:
            raise EngineError(
                f"The engine speaks protocol {PROTOCOL} (version {__version__}), the client {protocol} (version "
                f"{version}): install the same version of SAM3DSegment on both sides."
            )
        return Message("welcome", {"protocol": PROTOCOL, "version": __version__})

    def _load(self, message: Message) -> Message:
        from SAM3DSegmentLib.network.checkpoint import load_network
        from SAM3DSegmentLib.network.device import choose_device, device_name

        device = choose_device(message.fields["device"])
        network = load_network(find_model(message.fields["model"]), device)
        self._network = network
        self._encodings.clear()
        specification = network.specification.to_json()
        return Message(
            "loaded", {"specification": specification, "device": device.type, "device_name": device_name(device)}
        )

    def _decode(self, message: Message) -> Message:
        import torch

        from SAM3DSegmentLib.network.interface import CropClick

        network = self._network
        if network is None:
            raise EngineError("No model is loaded: send `load` before `decode`.")
        fields = message.fields
        number = fields["request"]
        for name, array in message.arrays.items():
            self._arrays.keep(fields[name], array)

        def progress(fraction: float) -> None:
            if number in self._cancelled:
                raise CancelledError
            self._send(Message("progress", {"request": number, "fraction": fraction}))

        wanted = [fields["previous"]] if fields["previous"] else []
        if fields["crop"] not in self._encodings:
            wanted.append(fields["crop"])
        missing = [key for key in wanted if key not in self._arrays]
        if missing:
            return Message("missing", {"keys": missing})
        with torch.inference_mode():
            if fields["crop"] not in self._encodings:
                crop = torch.from_numpy(self._arrays[fields["crop"]].astype(np.float32))
                self._encodings.keep(fields["crop"], network.encode(crop, progress))
            self._encodings.move_to_end(fields["crop"])
            previous = None
            if fields["previous"]:
                previous = torch.from_numpy(self._arrays[fields["previous"]].astype(np.float32))
            clicks = [CropClick((d, h, w), bool(include)) for d, h, w, include in fields["clicks"]]
            logits = network.decode(self._encodings[fields["crop"]], clicks, previous, progress)
            answer: Array = logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT).half().cpu().numpy()
        self._arrays.keep(digest(answer), answer)
        return Message("logits", {}, {"logits": answer})


def serve() -> None:
    """Speak the protocol on this process's standard input and output; anything that prints goes to standard error."""
    outgoing = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    Server(sys.stdin.buffer, outgoing).run()
