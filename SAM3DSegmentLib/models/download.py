"""Download of a catalogue model: resumed where it broke off, checked, and only then given its name."""

from __future__ import annotations

import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from SAM3DSegmentLib.errors import ModelStoreError
from SAM3DSegmentLib.models.catalogue import Model
from SAM3DSegmentLib.models.store import models_folder, sha256_of

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all; raises `CancelledError` where the download is called off."""

BLOCK_BYTES = 1 << 18
TIMEOUT_SECONDS = 30.0
"""Without a byte for so long, a connection counts as lost."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to where a download may come from."""

    def __init__(self, allow_loopback_http: bool) -> None:
        self._allow_loopback_http = allow_loopback_http

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        check_url(newurl, self._allow_loopback_http)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download_model(model: Model, progress: Progress, allow_loopback_http: bool = False) -> Path:
    """Fetch a model into the models folder, unless it is there already, and return its checkpoint's path.

    What arrived of a download that broke off, or that `progress` called off, waits in a `.partial` file beside the
    target, and the next call goes on from there.

    Args:
        allow_loopback_http: take plain http from this computer as well.

    Raises:
        ModelStoreError: no address is known, the network or the disk fails, or the file is not what the catalogue says.
    """
    if model.url is None:
        raise ModelStoreError(f"The model {model.name} has no download address: import it from a file.")
    check_url(model.url, allow_loopback_http)
    target = models_folder() / model.file_name
    partial = target.with_name(f"{target.name}.partial")
    opener = urllib.request.build_opener(_HttpsOnly(allow_loopback_http))
    try:
        if target.is_file() and sha256_of(target) == model.sha256:
            progress(target.stat().st_size, target.stat().st_size)
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("ab") as file:
            _fetch(model, model.url, opener, file, progress)
            file.flush()
            os.fsync(file.fileno())
        digest = sha256_of(partial)
        if digest != model.sha256:
            partial.unlink()
            raise ModelStoreError(
                f"The download of {model.name} has the wrong checksum (SHA-256 {digest}) and was removed: try again."
            )
        os.replace(partial, target)
    except OSError as error:
        raise ModelStoreError(
            f"{target} cannot be written ({error.strerror}): free space or permit writing there, then try again."
        ) from error
    return target


def check_url(url: str, allow_loopback_http: bool) -> None:
    """Raise `ModelStoreError` for an address that is not https."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (allow_loopback_http and parts.scheme == "http" and parts.hostname in LOOPBACK):
        return
    raise ModelStoreError(f"{url} is no https address: download the file yourself and import it.")


def _fetch(model: Model, url: str, opener: urllib.request.OpenerDirector, file: IO[bytes], progress: Progress) -> None:
    """Append what is missing to `file`; a lost connection is taken up again as long as each one brings something."""
    while True:
        before = file.tell()
        total = _receive(model, url, opener, file, progress)
        if total is None or file.tell() >= total:
            return
        if file.tell() <= before:
            raise ModelStoreError(
                f"The download of {model.name} broke off at {file.tell()} of {total} bytes: "
                "try again, it goes on from there."
            )


def _receive(
    model: Model, url: str, opener: urllib.request.OpenerDirector, file: IO[bytes], progress: Progress
) -> int | None:
    """Append what one connection brings, until it ends or is lost; returns the size of the whole, where it is known."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={file.tell()}-"})
    try:
        response = opener.open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and file.tell():
            return file.tell()
        raise ModelStoreError(
            f"The server answered {error.code} ({error.reason}) for {url}: "
            f"try later, or import {model.name} from a file."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise ModelStoreError(
            f"{url} cannot be reached ({error}): check the connection, or import {model.name} from a file."
        ) from error
    with closing(response):
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            file.seek(0)
            file.truncate()
        length = response.headers["Content-Length"] or ""
        total = file.tell() + int(length) if length.isdecimal() else None
        missing = (total or model.size or 0) - file.tell()
        if shutil.disk_usage(models_folder()).free < missing:
            raise ModelStoreError(
                f"{model.name} needs {missing / 1e6:.0f} MB more, and {models_folder()} has less free: "
                "make room, then try again."
            )
        while True:
            progress(file.tell(), total or model.size or file.tell())
            try:
                block = response.read(BLOCK_BYTES)
            except (OSError, http.client.HTTPException):
                return total
            if not block:
                return total
            file.write(block)
