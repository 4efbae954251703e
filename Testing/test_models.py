"""Models on this computer: found, listed, imported, deleted, and downloaded over connections that break."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from SAM3DSegmentLib.errors import CancelledError, CheckpointError, ModelStoreError, UnknownModelError
from SAM3DSegmentLib.models import download, store
from SAM3DSegmentLib.models.catalogue import CATALOGUE, SAM_VIT_B, TASKS, Model
from SAM3DSegmentLib.models.download import download_model
from SAM3DSegmentLib.models.store import (
    delete_model,
    find_model,
    import_model,
    list_models,
    models_folder,
    sha256_of,
    task_of,
)

CONTENT = bytes(range(256)) * 8192
"""A checkpoint of 2 MiB, several blocks of a download."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty models folder, and a bundled model that the tests wrote."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "compact.safetensors").write_bytes(b"bundled")
    monkeypatch.setattr(store, "BUNDLE_FOLDERS", (tmp_path / "elsewhere", bundle))
    monkeypatch.setenv(store.FOLDER_VARIABLE, str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A published checkpoint as its authors name it."""
    path = tmp_path / "best.pth.tar"
    path.write_bytes(CONTENT)
    return path


def test_catalogue_holds_the_published_windows_and_sam_with_its_checksum() -> None:
    windows = {name: (w.low, w.high, w.mean, w.std) for name, m in TASKS.items() if (w := m.window)}
    assert windows == {
        "kits": (-54, 247, 59.53867, 55.457336),
        "lits": (-48, 163, 60.057533, 40.198017),
        "pancreas": (-39, 204, 68.45214, 63.422806),
        "colon": (-57, 175, 65.175035, 32.651197),
    }
    assert SAM_VIT_B.sha256 == "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"
    assert list(CATALOGUE) == ["compact", "sam_vit_b", "kits", "lits", "pancreas", "colon"]


def test_models_are_managed_without_torch() -> None:
    code = "import sys, SAM3DSegmentLib.models.download; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_folder_is_the_platforms_own_where_none_is_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(store.FOLDER_VARIABLE)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    folders = {}
    for platform in ("linux", "darwin", "win32"):
        monkeypatch.setattr(sys, "platform", platform)
        folders[platform] = models_folder().relative_to(tmp_path).parts[:-2]
    assert folders == {"linux": (".local", "share"), "darwin": ("Library", "Application Support"), "win32": ("local",)}


def test_bundled_model_is_found_and_listed_first(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.safetensors").write_bytes(b"a")
    assert find_model("compact").read_bytes() == b"bundled"
    assert [(m.name, m.bundled) for m in list_models()] == [("compact", True), ("a", False)]


def test_checkpoint_dropped_into_the_folder_is_a_model(folder: Path) -> None:
    folder.mkdir()
    dropped = folder / "thigh.v2.safetensors"
    dropped.write_bytes(b"weights")
    (folder / "notes.txt").write_text("no model")
    (folder / f"{'0' * 64}.safetensors").write_bytes(b"frozen weights that models share")
    (folder / "broken.pth.partial").write_bytes(b"no model either")
    assert [m.name for m in list_models()] == ["compact", "thigh.v2"]
    assert find_model("thigh.v2") == dropped


def test_path_of_a_file_is_a_model(checkpoint: Path) -> None:
    assert find_model(str(checkpoint)) == checkpoint


@pytest.mark.parametrize(
    ("name", "advice"),
    [("nothing", "choose one of them"), ("sam_vit_b", "download sam_vit_b"), ("kits", "import kits")],
)
def test_unknown_model_is_refused_with_what_there_is_and_what_to_do(name: str, advice: str) -> None:
    with pytest.raises(UnknownModelError, match=rf"{name}.*there: compact.*{advice}"):
        find_model(name)


def test_published_checkpoint_is_imported_with_its_task(checkpoint: Path, folder: Path) -> None:
    path = import_model(checkpoint, task="lits")
    assert path == find_model("lits") == folder / "lits.pth"
    assert path.read_bytes() == CONTENT
    assert task_of(path) is TASKS["lits"]
    renamed = import_model(checkpoint, name="our-livers", task="lits")
    assert task_of(renamed) is TASKS["lits"]
    assert json.loads(renamed.with_suffix(".json").read_text())["source"] == "best.pth.tar"


def test_damaged_note_beside_a_checkpoint_is_refused_by_name(checkpoint: Path) -> None:
    path = import_model(checkpoint, task="lits")
    path.with_suffix(".json").write_text('{"task": "toes"}')
    with pytest.raises(CheckpointError, match="import the model lits again"):
        task_of(path)


def test_a_users_own_notes_beside_a_model_are_left_alone(folder: Path) -> None:
    folder.mkdir()
    (folder / "thigh.json").write_text('{"epochs": 12}')
    (folder / "thigh.safetensors").write_bytes(b"weights")
    assert task_of(find_model("thigh")) is None


def test_import_replaces_the_model_of_that_name_in_any_format(tmp_path: Path, checkpoint: Path) -> None:
    converted = tmp_path / "converted.safetensors"
    converted.write_bytes(b"converted")
    import_model(checkpoint, task="kits")
    import_model(converted, name="kits")
    assert find_model("kits").read_bytes() == b"converted"
    import_model(checkpoint, task="kits")
    assert find_model("kits").read_bytes() == CONTENT


def test_file_with_a_known_checksum_is_imported_under_its_name(
    checkpoint: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = replace(SAM_VIT_B, sha256=hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setitem(CATALOGUE, "sam_vit_b", known)
    assert import_model(checkpoint) == folder / "sam_vit_b_01ec64.pth" == find_model("sam_vit_b")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "sam_vit_b"}, CheckpointError, "SHA-256"),
        ({"name": "compact"}, ModelStoreError, "another name"),
        ({"name": "../kits", "task": "kits"}, ModelStoreError, "cannot be a model's name"),
        ({"task": "toes"}, UnknownModelError, "kits, lits, pancreas, colon"),
        ({}, ModelStoreError, "name its task"),
    ],
)
def test_import_that_cannot_be_right_leaves_nothing(
    checkpoint: Path, folder: Path, arguments: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        import_model(checkpoint, **arguments)
    assert not folder.exists()


def test_import_of_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="There is no file"):
        import_model(tmp_path / "absent.safetensors")


def test_full_disk_during_import_keeps_the_earlier_model(
    checkpoint: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_model(checkpoint, task="kits")
    checkpoint.write_bytes(b"newer")
    monkeypatch.setattr(store.os, "fsync", full_disk)
    with pytest.raises(ModelStoreError, match="No space left"):
        import_model(checkpoint, task="kits")
    assert find_model("kits").read_bytes() == CONTENT
    assert sorted(p.name for p in folder.iterdir()) == ["kits.json", "kits.pth"]


def test_deleted_model_leaves_nothing_behind(checkpoint: Path, folder: Path) -> None:
    import_model(checkpoint, task="kits")
    (folder / "kits.pth.partial").write_bytes(b"half")
    (folder / "other.safetensors").write_bytes(b"other")
    delete_model("kits")
    assert [p.name for p in folder.iterdir()] == ["other.safetensors"]


def test_unfinished_download_can_be_cleared(folder: Path) -> None:
    folder.mkdir()
    (folder / "sam_vit_b_01ec64.pth.partial").write_bytes(b"half")
    delete_model("sam_vit_b")
    assert not list(folder.iterdir())


def test_bundled_and_unknown_models_are_not_deleted() -> None:
    with pytest.raises(ModelStoreError, match="came with the program"):
        delete_model("compact")
    assert find_model("compact").is_file()
    with pytest.raises(UnknownModelError):
        delete_model("kits")


def full_disk(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


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
