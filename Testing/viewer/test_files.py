"""Uploads that break off, without a page."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from SAM3DSegmentLib.viewer.files import FileExchange

HEAD = b'--B\r\nContent-Disposition: form-data; name="scan"; filename="scan.nrrd"\r\n\r\n'
REQUEST = (
    b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=B\r\n"
    b"Content-Length: 99999\r\n\r\n"
)


async def broken_off(files: FileExchange, sent: bytes, refused: asyncio.Event) -> None:
    """An upload whose connection is lost after `sent`, until it is refused."""
    arrived = asyncio.Event()

    @web.middleware
    async def note(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        arrived.set()
        return await handler(request)

    app = web.Application(middlewares=[note])
    files.add_routes(app)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    _, port = runner.addresses[0]
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST + sent)
    await asyncio.wait_for(arrived.wait(), 10)
    writer.transport.abort()
    await asyncio.wait_for(refused.wait(), 10)
    await runner.cleanup()


@pytest.mark.parametrize("sent", [b"", HEAD, HEAD + bytes(50_000)])
def test_an_upload_that_breaks_off_is_no_full_disk(sent: bytes) -> None:
    said: list[str] = []
    refused = asyncio.Event()

    async def take(path: Path) -> None:
        raise AssertionError(f"{path} was taken")

    def refuse(message: str) -> None:
        said.append(message)
        refused.set()

    with FileExchange(1_000_000, {"/upload": take}, refuse) as files:
        asyncio.run(broken_off(files, sent, refused))
    assert said == ["The upload broke off: try again, or open the scan by its path."]
