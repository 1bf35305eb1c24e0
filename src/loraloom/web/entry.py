"""Who may come in: one way for Basic credentials with every request, and for those of POST /login."""

import asyncio
import math
from collections.abc import Sequence

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import Scope

from loraloom.web.access import Access, Logins, basic, cookie_name, cookies
from loraloom.web.answers import refusal
from loraloom.web.attempts import Attempts, client_of

_WRONG_SECONDS = 0.5  # before a wrong password is answered
Pair = tuple[str, str]  # user and password


class Entry:
    """The credentials of one server, and who has given them."""

    def __init__(self, access: Access) -> None:
        self.access, self.logins, self.attempts = access, Logins(), Attempts()

    async def unknown(self, scope: Scope) -> JSONResponse | None:
        """The answer to a request without the credentials that it needs."""
        headers = Headers(scope=scope)
        if any(map(self.logins.knows, cookies(headers.getlist("cookie"), cookie_name(scope)))):
            return None
        given = next(filter(None, map(basic, headers.getlist("authorization"))), ())  # one request tries one password
        if not given:
            return refusal(401, "Unauthorized", "this server needs a user and a password", hint="HTTP Basic credentials, or POST /login")
        return await self.wrong(scope, given, status=401)

    async def wrong(self, scope: Scope, given: Sequence[Pair], *, status: int) -> JSONResponse | None:
        """The answer to credentials that are wrong, which comes late; `given` are the readings of one pair."""
        client = client_of(scope["client"][0] if scope.get("client") else "", Headers(scope=scope).get("x-forwarded-for", ""))
        if seconds := self.attempts.seconds(client):
            told = {"Retry-After": str(math.ceil(seconds))}
            return refusal(429, "TooManyAttempts", "too many wrong passwords; this one was not looked at, try again later", headers=told)
        if sum(self.access.knows(*pair) for pair in given):  # each is compared, whichever is right
            self.attempts.right(client)
            return None
        self.attempts.wrong(client)
        await asyncio.sleep(_WRONG_SECONDS)
        return refusal(status, "Unauthorized", "wrong user or password", hint="HTTP Basic credentials, or POST /login")
