"""What all routers of our own API have in common: the address and the form of errors in the schema."""

from typing import Any

from fastapi import APIRouter

from loraloom.web.api.models import ErrorAnswer

ERRORS: dict[int | str, dict[str, Any]] = {422: {"model": ErrorAnswer, "description": "A mistake in the request"}}
MISSING: dict[int | str, dict[str, Any]] = {404: {"model": ErrorAnswer, "description": "Nothing has this id"}}
TAKEN: dict[int | str, dict[str, Any]] = {409: {"model": ErrorAnswer, "description": "Something has this name already"}}
BUSY: dict[int | str, dict[str, Any]] = {429: {"model": ErrorAnswer, "description": "The server has as much to do as it takes"}}


def as_json(*errors: dict[int | str, dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """The same for a route whose answers are of another type than its errors."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}
    return {status: {"description": told["description"], "content": content} for some in errors for status, told in some.items()}


def router(topic: str) -> APIRouter:
    return APIRouter(prefix="/api/v1", tags=[topic], responses=ERRORS)
