"""POST /login: a cookie instead of credentials with every request, for browsers."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import JSONResponse

from loraloom.web.access import COOKIE
from loraloom.web.answers import refusal
from loraloom.web.service import Here

router = APIRouter(tags=["access"])
_WRONG_SECONDS = 0.5


@router.post("/login", summary="Log in: user and password for a session cookie")
async def login(
    request: Request,
    service: Here,
    username: Annotated[str, Form(max_length=1000)],
    password: Annotated[str, Form(max_length=1000)],
) -> JSONResponse:
    """`{"success": true}` and a cookie, or 400. Without --api-auth everybody is in already."""
    answer = JSONResponse({"success": True})
    if not service.access.closed:
        return answer
    if not service.access.knows(username, password):
        await asyncio.sleep(_WRONG_SECONDS)
        return refusal(400, "Unauthorized", "wrong user or password")
    answer.set_cookie(COOKIE, service.logins.begin(), httponly=True, samesite="strict", secure=request.url.scheme == "https", path="/")
    return answer
