"""Files between the browser and the viewer: what is uploaded, and exports that are downloaded, none of them kept."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path, PurePosixPath
from types import TracebackType

from aiohttp import BodyPartReader, web

from SAM3DSegmentLib.errors import ScanError, UserError

DOWNLOAD_ROUTE = "/download"
CHUNK_BYTES = 1 << 20
UNNAMED_FOLDER = "scan"

Taker = Callable[[Path], Awaitable[None]]
Handler = Callable[[web.Request], Awaitable[web.Response]]


class FileExchange:
    """A temporary folder with a way in and a way out; leaving its context removes the folder.

    Args:
        limit: bytes that one upload may bring.
        takers: by their route, called with the uploaded file, or with the folder of several; the upload is gone when
            they return.
        refuse: told why an upload was not taken.
    """

    def __init__(self, limit: int, takers: Mapping[str, Taker], refuse: Callable[[str], None]) -> None:
        self._limit = limit
        self._takers = takers
        self._refuse = refuse
        self._folder = Path(tempfile.mkdtemp(prefix="sam3dsegment-"))
        self._numbers = itertools.count(1)
        self._exports: dict[str, Path] = {}

    def __enter__(self) -> FileExchange:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def add_routes(self, application: web.Application) -> None:
        """Before the server starts: `POST` a form of files to a taker, `GET /download/NAME` of an offered export."""
        for route, taker in self._takers.items():
            application.router.add_post(route, self._upload_to(taker))
        application.router.add_get(DOWNLOAD_ROUTE + "/{name}", self._give_export)

    def export_path(self, name: str) -> Path:
        """Where to write the next export of that file name; the one before it is gone."""
        for path in self._exports.values():
            shutil.rmtree(path.parent)
        folder = self._new_folder()
        self._exports = {name: folder / name}
        return self._exports[name]

    def _new_folder(self) -> Path:
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        return folder

    def _upload_to(self, taker: Taker) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            folder = self._folder / str(next(self._numbers))
            try:
                if (request.content_length or 0) > self._limit:
                    raise self._too_large()
                files = await self._kept(request, folder)
                if not files:
                    raise ScanError("The upload held no file: choose a file, or the folder of a DICOM series.")
                await taker(files[0] if len(files) == 1 else files[0].parent)
            except UserError as error:
                self._refuse(str(error))
                return web.json_response({"error": str(error)}, status=400)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return web.json_response({})

        return answer

    async def _kept(self, request: web.Request, folder: Path) -> list[Path]:
        try:
            folder.mkdir()
            return await self._receive(request, folder)
        except ConnectionError as error:
            raise ScanError("The upload broke off: try again, or open the scan by its path.") from error
        except OSError as error:
            raise ScanError(
                f"The upload cannot be kept in {self._folder} ({error.strerror or error}): make room there, or open "
                "the scan by its path."
            ) from error

    async def _receive(self, request: web.Request, folder: Path) -> list[Path]:
        """The files of a form, all in one folder that bears the name of the one that was chosen."""
        files: list[Path] = []
        received = 0
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or not part.filename:
                continue
            # A browser sends the way through a DICOM folder, an attacker "../".
            way = PurePosixPath(part.filename.replace("\\", "/")).parts
            names = [name for name in way if name.strip("/") not in ("", "..")]
            if not names:
                continue
            if not files:
                folder /= names[0] if len(names) > 1 else UNNAMED_FOLDER
                folder.mkdir()
            path = folder / names[-1]
            if path.exists():
                path = folder / f"{len(files)}-{path.name}"
            with path.open("wb") as file:
                while chunk := await part.read_chunk(CHUNK_BYTES):
                    received += len(chunk)
                    if received > self._limit:
                        raise self._too_large()
                    file.write(chunk)
            files.append(path)
        return files

    def _too_large(self) -> ScanError:
        return ScanError(
            f"The upload is larger than {self._limit / 1e6:.0f} MB: crop the scan, raise --upload-limit, or open it by "
            "its path."
        )

    async def _give_export(self, request: web.Request) -> web.StreamResponse:
        path = self._exports.get(request.match_info["name"])
        if not path or not path.exists():
            raise web.HTTPNotFound(text="That export is gone: export again.")
        return web.FileResponse(path, headers={"Content-Disposition": "attachment", "Cache-Control": "no-store"})
