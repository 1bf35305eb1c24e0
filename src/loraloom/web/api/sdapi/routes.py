"""What all routers of the WebUI's API have in common."""

from typing import Any

from fastapi import APIRouter

from loraloom.web.api.models import ErrorAnswer

_ERRORS: dict[int | str, dict[str, Any]] = {422: {"model": ErrorAnswer, "description": "A mistake in the request"}}


def router(topic: str) -> APIRouter:
    return APIRouter(prefix="/sdapi/v1", tags=[f"WebUI: {topic}"], responses=_ERRORS)
