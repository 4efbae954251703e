"""Who may talk to the viewer: the page that was opened with the token, and nobody else."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web

TOKEN_PARAMETER = "token"
SAME_SITE_FETCHES = ("same-origin", "none")
"""Values of Sec-Fetch-Site that our own page and the user's address bar send."""

ENTRANCE = '<!doctype html><script>location.replace("index.html")</script>'
"""Takes the token out of the address bar, or it would end up in histories and pictures of the screen.

A redirection would not do: a browser that came by a link holds a strict cookie back from it.
"""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Access:
    """Lets requests through that carry the token; the first one, in the address, leaves it behind as a cookie.

    Every request is asked, the web socket's too. Requests that another site's page makes are refused, with or without
    the token, and so are those under a foreign host name: a name that an attacker points at this computer.

    Args:
        token: the secret.
        host: that the server binds to; names other than this computer's own are only answered where it is another.
    """

    def __init__(self, token: str, host: str) -> None:
        self._token = token
        self._only_here = is_loopback(host)

    def protect(self, application: web.Application) -> None:
        """Ask for the token before anything else of a server that has not started yet."""

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._check(request, handler)

        application.middlewares.insert(0, check)

    async def _check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._only_here and not is_loopback(urlsplit(f"//{request.host}").hostname or ""):
            raise web.HTTPForbidden(text="This viewer answers only under the name of its own computer.")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            raise web.HTTPForbidden(text="This viewer does not answer pages of other sites.")
        given = request.query.get(TOKEN_PARAMETER)
        if given is not None and request.path in ("/", "/index.html") and self._matches(given):
            answer = web.Response(text=ENTRANCE, content_type="text/html", headers={"Cache-Control": "no-store"})
            answer.set_cookie(self._cookie(request), self._token, httponly=True, samesite="Strict", path="/")
            return answer
        if not self._matches(request.cookies.get(self._cookie(request), "")):
            raise web.HTTPUnauthorized(text="Open the address that sam3dsegment printed: it holds the token.")
        if request.headers.get("Sec-Fetch-Site", "none") not in SAME_SITE_FETCHES:
            raise web.HTTPForbidden(text="This viewer does not answer pages of other sites.")
        return await handler(request)

    def _matches(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())

    @staticmethod
    def _cookie(request: web.Request) -> str:
        """Cookies do not tell ports apart: the name does, for two viewers on one computer."""
        return f"sam3dsegment-{urlsplit(f'//{request.host}').port or 80}"


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this computer alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
