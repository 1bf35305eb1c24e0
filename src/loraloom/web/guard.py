"""The guard before every route, static file and page: host, origin, credentials, size; and the headers of every answer.

Plain ASGI, so that nothing is mounted behind its back. What it lets pass without credentials is OPEN, and nothing else.
"""

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loraloom.web import limits
from loraloom.web.access import Access
from loraloom.web.answers import refusal
from loraloom.web.entry import Entry
from loraloom.web.headers import HEADERS

OPEN = frozenset({*((method, f"/api/v1/{path}") for method in ("GET", "HEAD") for path in ("health", "ready")), ("POST", "/login")})
_HARMLESS = ("GET", "HEAD", "OPTIONS")
# Makes a browser ask for credentials; not where our own page fetches something: it has a form for that.
_BASIC = {"WWW-Authenticate": 'Basic realm="loraloom", charset="UTF-8"'}


class Guard:
    """ASGI middleware: what is not allowed does not reach `app`."""

    def __init__(self, app: ASGIApp, entry: Entry) -> None:
        self._app, self._entry = app, entry

    @property
    def _access(self) -> Access:
        return self._entry.access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            refused = self._refused(scope) or await self._unknown(scope)
            await (refused or self._app)(scope, receive, _with_headers(send))
        else:  # there are no web sockets here
            await send({"type": "websocket.close", "code": 1008})

    def _refused(self, scope: Scope) -> JSONResponse | None:
        """The answer to a request that nobody may send, with credentials or without."""
        headers, method = Headers(scope=scope), scope["method"]
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._access.allows_host(hosts[0]):
            return refusal(
                421, "WrongHost", "this server is not known by that name", hint="loraloom serve --allow-host NAME, if the name is yours"
            )
        if method not in _HARMLESS and not self._own_page(headers, hosts[0]):
            return refusal(
                403,
                "WrongOrigin",
                "a page of another site asked for this; only this server's own pages may",
                hint="loraloom serve --allow-origin https://SITE, if the site is yours",
            )
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > limits.BODY:
            return refusal(413, "TooLarge", f"the request has more than {limits.BODY >> 20} MiB")
        return None

    def _own_page(self, headers: Headers, host: str) -> bool:
        """Programs send no Origin; browsers do, and pages of other sites cannot forge it."""
        origins = headers.getlist("origin")
        if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return bool(origins) and self._access.origins.issuperset(origins)
        return all(self._access.allows_origin(origin, host) for origin in origins)

    async def _unknown(self, scope: Scope) -> JSONResponse | None:
        """The answer to a request without the credentials that it needs."""
        if not self._access.closed or (scope["method"], scope["path"]) in OPEN:
            return None
        refused = await self._entry.unknown(scope)
        if refused and refused.status_code == 401 and Headers(scope=scope).get("sec-fetch-dest") != "empty":
            refused.headers.update(_BASIC)
        return refused


def _with_headers(send: Send) -> Send:
    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-cache" if "etag" in headers else "no-store")
        await send(message)

    return told
