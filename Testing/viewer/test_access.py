"""Who gets past the viewer's door, what uploads may do, and what is left when it ends: HTTP without a browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from Testing.models.helpers import safetensors
from Testing.viewer.process import BallScan, ViewerProcess

WEB_SOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
BOUNDARY = "----boundary"


class Visitor:
    """Speaks plain HTTP to a viewer; knows the token's cookie after `enter`."""

    def __init__(self, viewer: ViewerProcess) -> None:
        self.viewer = viewer
        self.host = urlsplit(viewer.address).netloc
        self.cookie = ""

    def get(self, path: str, **headers: str) -> HTTPResponse:
        return self._ask("GET", path, None, headers)

    def upload(self, name: str, content: bytes, length_told: bool = True, route: str = "/upload") -> HTTPResponse:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="scan"; filename="{name}"\r\n\r\n'
        body = head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()
        sent = body if length_told else iter([body])
        return self._ask("POST", route, sent, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})

    def enter(self) -> HTTPResponse:
        parts = urlsplit(self.viewer.address)
        answer = self.get(f"{parts.path}?{parts.query}")
        self.cookie = str(answer.headers["Set-Cookie"]).partition(";")[0]
        return answer

    def _ask(
        self, method: str, path: str, body: bytes | Iterator[bytes] | None, headers: dict[str, str]
    ) -> HTTPResponse:
        connection = HTTPConnection(self.host, timeout=60)
        sent = {"Cookie": self.cookie, **headers} if self.cookie else headers
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in sent.items()})
        return connection.getresponse()


@pytest.fixture
def stranger(viewer: ViewerProcess) -> Visitor:
    return Visitor(viewer)


@pytest.fixture
def friend(viewer: ViewerProcess) -> Visitor:
    visitor = Visitor(viewer)
    visitor.enter()
    return visitor


@pytest.mark.parametrize("path", ["/", "/index.html", "/vue.global.js", "/download/ball.nrrd", "/?token=wrong"])
def test_nothing_is_served_without_the_token(stranger: Visitor, path: str) -> None:
    assert stranger.get(path).status == 401


def test_a_web_socket_without_the_token_is_refused(stranger: Visitor) -> None:
    assert stranger.get("/ws", **WEB_SOCKET).status == 401


@pytest.mark.parametrize("route", ["/upload", "/import"])
def test_an_upload_without_the_token_is_refused(stranger: Visitor, route: str) -> None:
    assert stranger.upload("ball.nii.gz", b"", route=route).status == 401


def test_the_token_opens_page_and_web_socket(friend: Visitor) -> None:
    assert friend.get("/index.html").status == 200
    assert friend.get("/ws", **WEB_SOCKET).status == 101


def test_the_tokens_cookie_stays_with_the_browser_and_the_site(stranger: Visitor) -> None:
    cookie = str(stranger.enter().headers["Set-Cookie"])
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:1", "null"])
def test_pages_of_other_origins_are_refused_even_with_the_token(friend: Visitor, origin: str) -> None:
    assert friend.get("/index.html", Origin=origin).status == 403
    assert friend.get("/ws", Origin=origin, **WEB_SOCKET).status == 403


def test_what_another_site_embeds_is_refused_even_with_the_token(friend: Visitor) -> None:
    assert friend.get("/index.html", Sec_Fetch_Site="same-site").status == 403
    assert friend.get("/index.html", Sec_Fetch_Site="same-origin").status == 200


def test_a_name_that_was_pointed_at_this_computer_is_refused(friend: Visitor) -> None:
    assert friend.get("/index.html", Host="evil.example").status == 403


def test_an_uploaded_name_cannot_leave_its_folder(friend: Visitor, tmp_path: Path) -> None:
    answer = friend.upload(f"../../../../../../..{tmp_path}/evil.nii", b"not a scan")
    assert answer.status == 400
    assert "evil.nii cannot be read" in json.loads(answer.read())["error"]
    assert not (tmp_path / "evil.nii").exists()


@pytest.mark.parametrize("name", ["..", ".", "/", "a/.."])
def test_a_name_that_names_no_file_is_refused_or_kept_in_its_folder(friend: Visitor, name: str) -> None:
    assert friend.upload(name, b"not a scan").status == 400
    assert friend.viewer.ask("volume")


@pytest.mark.parametrize("length_told", [True, False])
def test_an_upload_beyond_the_limit_is_cut_off(friend: Visitor, length_told: bool) -> None:
    answer = friend.upload("large.nii", bytes(1_100_000), length_told)
    assert "larger than 1 MB" in json.loads(answer.read())["error"]


def test_a_damaged_upload_is_a_sentence_not_a_crash(friend: Visitor) -> None:
    answer = friend.upload("scan.nrrd", b"NRRD0004\ntype: float\n")
    assert answer.status == 400
    assert json.loads(answer.read())["error"]


def test_an_imported_file_that_makes_no_network_is_refused(friend: Visitor, models: Path) -> None:
    answer = friend.upload("odd.safetensors", safetensors(b"odd", architecture="compact"), route="/import")
    assert answer.status == 400
    assert "odd.safetensors is damaged" in json.loads(answer.read())["error"]
    assert not list(models.iterdir())


def test_an_export_that_was_never_made_is_not_found(friend: Visitor) -> None:
    assert friend.get("/download/..%2f..%2fetc%2fpasswd").status == 404


def test_a_bind_beyond_this_computer_says_what_it_exposes(scan: BallScan) -> None:
    process = ViewerProcess(str(scan.path), "--host", "0.0.0.0")
    process.wait_for("volume")
    process.end()
    printed = "".join([*process.printed, *process.rest()])
    assert "Warning: listening on 0.0.0.0" in printed
    assert "ssh -L" in printed
    assert not process.leftovers()
    process.close()
