"""Errors as answers: one form from 400 up, for both APIs. The only place where an error becomes a status."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from loraloom.combine import CombineRequest
from loraloom.errors import LoraError, PromptError, Taken, WriteFailed
from loraloom.generate.request import ImageRequest
from loraloom.web.api.models import ErrorAnswer, Mistake
from loraloom.web.headers import HEADERS

log = logging.getLogger("loraloom.web")
_SHOWN = 120  # characters of a wrong value
Wish = ImageRequest | CombineRequest


class NoSuch(LoraError):
    """An id or name in an address that leads to nothing."""


class Busy(LoraError):
    """The server has as much to do as it takes; later it may not."""


class ShuttingDown(LoraError):
    """The server is on its way out."""


class WrongRequest(LoraError):
    """An error about a job that was asked for, with its place in the request's texts where that is known."""

    def __init__(self, error: LoraError, request: Wish) -> None:
        super().__init__(str(error))
        self.kind, self.mistake = type(error).__name__, mistake_of(error, request)


# The first that fits counts; any other LoraError is a mistake in the request.
_STATUS: Sequence[tuple[type[LoraError], int]] = ((NoSuch, 404), (Taken, 409), (Busy, 429), (ShuttingDown, 503), (WriteFailed, 507))
_TEXTS = ("prompt", "negative_prompt", "mix")  # of requests: where tags stand


def mistake_of(error: LoraError, request: Wish) -> Mistake:
    """What is wrong, and in which of the request's fields and where in its text, as far as the error knows."""
    placed = next((found for found in (error, error.__cause__) if isinstance(found, PromptError)), None)
    if placed is None:
        return Mistake(message=str(error), field=next(iter(error.fields), None))
    texts = [name for name in _TEXTS if hasattr(request, name)]
    field = next((name for name in texts if getattr(request, name) == placed.prompt), texts[0])
    return Mistake(message=placed.message, field=field, column=placed.column, length=max(1, placed.length))


def refusal(
    status: int, error: str, detail: str, *, hint: str = "", mistake: Mistake | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The answer for an error, in the WebUI's form."""
    detail = _shown(detail)
    if mistake:
        mistake = mistake.model_copy(update={"message": _shown(mistake.message)})
    answer = ErrorAnswer(error=error, detail=detail, errors=detail, hint=hint, mistake=mistake)
    hang_up = {"Connection": "close"} if status == 413 else {}  # instead of reading on
    return JSONResponse(answer.model_dump(mode="json"), status, {**(headers or {}), **hang_up})


def _shown(text: str) -> str:
    """With halves of characters, which JSON can hold and UTF-8 cannot, as escapes."""
    return text.encode(errors="backslashreplace").decode()


def explain_errors(app: FastAPI) -> None:
    """Every error that leaves a route of `app` becomes an ErrorAnswer."""
    app.add_exception_handler(LoraError, _lora_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _bug)


async def _lora_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, LoraError)
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 422)
    headers = {"Retry-After": "5"} if status in (429, 503) else None
    if isinstance(error, WrongRequest):
        return refusal(status, error.kind, str(error), mistake=error.mistake)
    mistake = Mistake(message=str(error), field=error.fields[0]) if error.fields else None
    return refusal(status, type(error).__name__, str(error), mistake=mistake, headers=headers)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    details = error.errors()
    first, text = details[0], "\n".join(map(_line, details))
    field = first["loc"][1] if len(first["loc"]) > 1 and first["loc"][0] == "body" else None
    mistake = Mistake(message=text, field=field) if isinstance(field, str) else None
    return refusal(422, "SettingsError", text, hint="the page /docs lists what this route takes", mistake=mistake)


def _line(detail: Mapping[str, Any]) -> str:
    """`steps: should be less than or equal to 1000, not 5000`; values of strangers are shown cut."""
    name = ".".join(str(part) for part in detail["loc"] if part not in ("body", "query", "path"))
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    value = detail.get("input")
    shown = detail["type"] not in ("missing", "value_error", "json_invalid") and isinstance(value, str | int | float | bool)
    given = f", not {str(value)[:_SHOWN]!r}" if shown else ""
    return f"{name}: {message}{given}" if name else message


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return refusal(error.status_code, HTTPStatus(error.status_code).phrase, str(error.detail), headers=error.headers)


async def _bug(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    # This answer is made outside of the guard.
    return refusal(500, "InternalError", "a bug in loraloom; the server's log has its traceback", headers=HEADERS)
