"""POST /login: a cookie instead of credentials with every request, for browsers."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import JSONResponse

from loraloom.web.access import cookie_name
from loraloom.web.service import Here

router = APIRouter(tags=["access"])


@router.post("/login", summary="Log in: user and password for a session cookie")
async def login(
    request: Request,
    service: Here,
    username: Annotated[str, Form(max_length=1000)],
    password: Annotated[str, Form(max_length=1000)],
) -> JSONResponse:
    """`{"success": true}` and a cookie, or 400; 429 after too many wrong passwords. Without --api-auth everybody is in already."""
    answer = JSONResponse({"success": True})
    if not service.access.closed:
        return answer
    if refused := await service.entry.wrong(request.scope, [(username, password)], status=400):
        return refused
    name, secure = cookie_name(request.scope), request.url.scheme == "https"
    answer.set_cookie(name, service.entry.logins.begin(), httponly=True, samesite="strict", secure=secure, path="/")
    return answer
