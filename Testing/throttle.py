"""A link of limited bandwidth and some delay in front of a TCP port on this computer."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time

PIECE = 4096


class Throttle:
    """Forwards connections to a port; both directions share nothing and are each as slow as asked for.

    Args:
        port: on this computer, where connections go on to.
        bits_per_second: of each direction.
        delay: seconds from one end to the other.

    Attributes:
        port: to connect to.
        sent: bytes that went towards the other port.
    """

    def __init__(self, port: int, bits_per_second: float = 1e12, delay: float = 0.0) -> None:
        self.sent = 0
        self._target = port
        self._bytes_per_second = bits_per_second / 8
        self._delay = delay
        self._sockets: list[socket.socket] = []
        self._refusing = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection at once."""
        for end in self._sockets:
            _shut(end)
        self._sockets.clear()

    def refuse(self, refusing: bool) -> None:
        """Cut each new connection as soon as it is there, or let them through again."""
        self._refusing = refusing

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += near, far
            for source, target, counted in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._forward, args=(source, target, counted), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        """Take pieces at the speed of the link; another thread delivers each when it is due."""
        under_way: queue.Queue[tuple[float, bytes]] = queue.Queue()
        threading.Thread(target=self._deliver, args=(under_way, source, target), daemon=True).start()
        free_at = time.monotonic()
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE):
                free_at = max(free_at, time.monotonic()) + len(piece) / self._bytes_per_second
                time.sleep(max(0.0, free_at - time.monotonic()))
                under_way.put((free_at + self._delay, piece))
                if counted:
                    self.sent += len(piece)
        under_way.put((0.0, b""))

    def _deliver(
        self, under_way: queue.Queue[tuple[float, bytes]], source: socket.socket, target: socket.socket
    ) -> None:
        with contextlib.suppress(OSError):
            due, piece = under_way.get()
            while piece:
                time.sleep(max(0.0, due - time.monotonic()))
                target.sendall(piece)
                due, piece = under_way.get()
        _shut(source)
        _shut(target)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
