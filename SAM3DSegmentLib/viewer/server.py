"""The viewer's server: `sam3dsegment view` until Ctrl+C."""

from __future__ import annotations

import os
import secrets
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trame.app import get_server
from trame_server.utils.asynchronous import create_task

from SAM3DSegmentLib.errors import UserError, ViewerError
from SAM3DSegmentLib.viewer.access import TOKEN_PARAMETER, Access, is_loopback
from SAM3DSegmentLib.viewer.files import FileExchange
from SAM3DSegmentLib.viewer.viewer import Viewer


@dataclass(frozen=True)
class ViewerOptions:
    """
    Attributes:
        scan: to begin with; None for the phantom.
        engine_command: that starts the engine elsewhere; empty for this computer alone.
        host: to bind to.
        port: to listen on; 0 for any that is free.
        upload_limit: bytes that one upload may bring.
        browser: whether to open one.
    """

    scan: Path | None
    model: str
    device: str
    engine_command: tuple[str, ...]
    host: str
    port: int
    upload_limit: int
    browser: bool


def run_viewer(options: ViewerOptions, say: Callable[[str], None]) -> None:
    """Serve the viewer until the process is told to end.

    Args:
        say: told where the page is, once it is there.

    Raises:
        ViewerError: the port is taken, or the host none of this computer's.
    """
    # The server's framework reads a command line of its own, and would take ours for it.
    os.environ["TRAME_ARGS"] = f"--server --host {options.host} --port {options.port} --timeout 0"
    server = get_server()
    server.client_type = "vue3"
    server.state.trame__title = "SAM3DSegment"
    token = secrets.token_urlsafe(24)

    async def open_scan(path: Path) -> None:
        await viewer.open_scan(path)

    async def import_model(path: Path) -> None:
        await viewer.import_model(path)

    takers = {"/upload": open_scan, "/import": import_model}
    with FileExchange(options.upload_limit, takers, lambda message: viewer.refuse_upload(message)) as files:
        viewer = Viewer(server, files, options.model, options.device, options.engine_command)

        def bind(web_server: Any) -> None:
            Access(token, options.host).protect(web_server.app)
            files.add_routes(web_server.app)

        def ready(**_: Any) -> None:
            viewer.follow()
            create_task(begin(viewer, options.scan))
            name = options.host if is_loopback(options.host) else "127.0.0.1"
            name = f"[{name}]" if ":" in name else name
            address = f"http://{name}:{server.port}/?{TOKEN_PARAMETER}={token}"
            say(welcome(options, address))
            if options.browser:
                webbrowser.open(address)

        server.controller.on_server_bind.add(bind)
        server.controller.on_server_ready.add(ready)
        try:
            server.start(show_connection_info=False, disable_logging=True)
        except OSError as error:
            raise ViewerError(
                f"The viewer cannot listen on {options.host}, port {options.port} ({error.strerror or error}): choose "
                "another --port (0 takes any that is free) or --host."
            ) from error
        finally:
            viewer.close()


async def begin(viewer: Viewer, scan: Path | None) -> None:
    """Open the scan of the command line; without one, the phantom."""
    if scan is None:
        await viewer.open_phantom()
        return
    try:
        await viewer.open_scan(scan)
    except UserError as error:
        viewer.tell(str(error))


def welcome(options: ViewerOptions, address: str) -> str:
    """Where the page is, and what a bind beyond this computer exposes."""
    port = urlsplit(address).port
    tunnel = f"ssh -L {port}:127.0.0.1:{port}"
    if is_loopback(options.host):
        hint = f"From another computer: {tunnel} THIS-HOST, then open the same address there."
    else:
        hint = (
            f"Warning: listening on {options.host}. Whoever can reach this port and learns the address above sees the "
            "scan, can open every scan file that you can, and the connection is not encrypted. A tunnel is safer: "
            f"leave --host out and use {tunnel} THIS-HOST."
        )
    return f"Open {address}\n{hint}\nCtrl+C ends it."
