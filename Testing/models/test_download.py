"""Models downloaded over connections that break, to disks that fill up, and from https alone."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from SAM3DSegmentLib.cli import main
from SAM3DSegmentLib.errors import CancelledError, ModelStoreError
from SAM3DSegmentLib.interaction import background_download
from SAM3DSegmentLib.models import download
from SAM3DSegmentLib.models.catalogue import CATALOGUE, SAM_VIT_B, Model
from SAM3DSegmentLib.models.download import download_model
from SAM3DSegmentLib.models.store import find_model, list_models, sha256_of
from Testing.models.helpers import CONTENT, full_disk


@dataclass
class Server:
    """A web server on this computer that can cut connections and forget about ranges.

    Attributes:
        cuts: after how many bytes each of the next connections is cut.
        ranges: the `Range` headers that came.
    """

    url: str = ""
    cuts: list[int] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    knows_ranges: bool = True
    redirect: str | None = None

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers["Range"]
        self.ranges.append(asked)
        if self.redirect:
            request.send_response(302)
            request.send_header("Location", self.redirect)
            request.end_headers()
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.knows_ranges else 0
        if start >= len(CONTENT):
            request.send_error(416)
            return
        request.send_response(206 if asked and self.knows_ranges else 200)
        request.send_header("Content-Length", str(len(CONTENT) - start))
        request.end_headers()
        length = self.cuts.pop(0) if self.cuts else len(CONTENT)
        with suppress(ConnectionError):
            request.wfile.write(CONTENT[start : start + length])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        state.url = f"http://127.0.0.1:{http.server_address[1]}/weights.pth"
        yield state
        http.shutdown()


def served(server: Server, digest: str = hashlib.sha256(CONTENT).hexdigest()) -> Model:
    return replace(SAM_VIT_B, url=server.url, sha256=digest, size=len(CONTENT))


def silent(done: int, total: int) -> None:
    pass


def test_download_arrives_whole_under_its_name_and_tells_its_progress(server: Server, folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = download_model(served(server), lambda *progress: seen.append(progress), allow_loopback_http=True)
    assert path == find_model("sam_vit_b")
    assert sha256_of(path) == hashlib.sha256(CONTENT).hexdigest()
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)
    assert [p.name for p in folder.iterdir()] == ["sam_vit_b_01ec64.pth"]


def test_cut_connection_is_taken_up_where_it_was_lost(server: Server) -> None:
    server.cuts = [300_000, 500_000]
    path = download_model(served(server), silent, allow_loopback_http=True)
    assert path.read_bytes() == CONTENT
    assert server.ranges == ["bytes=0-", "bytes=300000-", "bytes=800000-"]


def test_download_that_breaks_off_says_so_and_the_next_goes_on(server: Server, folder: Path) -> None:
    server.cuts = [300_000, 0]
    with pytest.raises(ModelStoreError, match=f"broke off at 300000 of {len(CONTENT)} bytes"):
        download_model(served(server), silent, allow_loopback_http=True)
    assert [m.name for m in list_models()] == ["compact"]
    assert download_model(served(server), silent, allow_loopback_http=True).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=300000-"


def test_server_without_ranges_sends_the_whole_again(server: Server) -> None:
    server.knows_ranges = False
    server.cuts = [300_000]
    assert download_model(served(server), silent, allow_loopback_http=True).read_bytes() == CONTENT


def test_download_that_is_complete_but_unnamed_is_only_checked(server: Server, folder: Path) -> None:
    folder.mkdir()
    (folder / "sam_vit_b_01ec64.pth.partial").write_bytes(CONTENT)
    assert download_model(served(server), silent, allow_loopback_http=True).read_bytes() == CONTENT


def test_a_model_that_is_there_and_whole_is_not_fetched_again(server: Server, folder: Path) -> None:
    path = download_model(served(server), silent, allow_loopback_http=True)
    seen: list[tuple[int, int]] = []
    assert download_model(served(server), lambda *p: seen.append(p), allow_loopback_http=True) == path
    assert (len(server.ranges), seen) == (1, [(len(CONTENT), len(CONTENT))])
    path.write_bytes(CONTENT[:-1])
    assert download_model(served(server), silent, allow_loopback_http=True).read_bytes() == CONTENT
    assert [p.name for p in folder.iterdir()] == [path.name]


def test_cancelled_download_keeps_what_arrived(server: Server, folder: Path) -> None:
    def cancel(done: int, total: int) -> None:
        if done >= 500_000:
            raise CancelledError

    with pytest.raises(CancelledError):
        download_model(served(server), cancel, allow_loopback_http=True)
    partial = (folder / "sam_vit_b_01ec64.pth.partial").read_bytes()
    assert 500_000 <= len(partial) < len(CONTENT)
    assert partial == CONTENT[: len(partial)]


def test_wrong_checksum_removes_the_partial_file_and_says_so(server: Server, folder: Path) -> None:
    with pytest.raises(ModelStoreError, match=r"wrong checksum.*was removed"):
        download_model(served(server, "0" * 64), silent, allow_loopback_http=True)
    assert not list(folder.iterdir())


def test_offline_says_what_to_do(server: Server) -> None:
    model = replace(served(server), url="http://127.0.0.1:9/weights.pth")
    with pytest.raises(ModelStoreError, match="check the connection, or import sam_vit_b from a file"):
        download_model(model, silent, allow_loopback_http=True)


def test_the_command_ends_the_line_of_its_progress_before_it_says_what_failed(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = served(server)
    monkeypatch.setitem(CATALOGUE, model.name, model)
    assert main(["models", "download", model.name]) == 2
    assert capsys.readouterr().err.startswith("sam3dsegment: ")
    monkeypatch.setattr(download, "download_model", partial(download_model, allow_loopback_http=True))
    server.cuts = [300_000, 0]
    assert main(["models", "download", model.name]) == 2
    *shown, message = capsys.readouterr().err.splitlines()
    assert "0 of 2 MB" in "".join(shown) and message.startswith("sam3dsegment: ")
    assert main(["models", "download", model.name]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == str(find_model(model.name))


def test_too_small_disk_is_noticed_before_the_download(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000))
    with pytest.raises(ModelStoreError, match="make room"):
        download_model(served(server), silent, allow_loopback_http=True)


def test_disk_that_fills_up_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.os, "fsync", full_disk)
    with pytest.raises(ModelStoreError, match="No space left"):
        download_model(served(server), silent, allow_loopback_http=True)


@pytest.mark.parametrize("url", ["http://example.org/a.pth", "file:///etc/hostname", "ftp://example.org/a.pth"])
def test_only_https_is_fetched(url: str) -> None:
    with pytest.raises(ModelStoreError, match="no https address"):
        download_model(replace(SAM_VIT_B, url=url), silent)


def test_plain_http_is_refused_even_from_this_computer(server: Server) -> None:
    with pytest.raises(ModelStoreError, match="no https address"):
        download_model(served(server), silent)
    assert server.ranges == []


def test_redirect_away_from_https_is_not_followed(server: Server) -> None:
    server.redirect = "http://example.org/weights.pth"
    with pytest.raises(ModelStoreError, match="no https address"):
        download_model(served(server), silent, allow_loopback_http=True)


def test_model_without_an_address_is_to_be_imported() -> None:
    with pytest.raises(ModelStoreError, match="import it from a file"):
        download_model(CATALOGUE["kits"], silent)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_download_that_a_fault_of_ours_ends_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*_: object) -> Path:
        raise RuntimeError("a fault")

    monkeypatch.setattr(background_download, "download_model", faulty)
    fetching = background_download.BackgroundDownload(SAM_VIT_B)
    end = time.monotonic() + 10
    while fetching.running and time.monotonic() < end:
        time.sleep(0.01)
    assert "was not downloaded" in fetching.message
