"""GET /api/v1/events: what changes, as server-sent events. FastAPI sends a comment every 15 seconds, so that the line stays open."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from loraloom.web.answers import NoSuch
from loraloom.web.api.own.job_answers import job_answer
from loraloom.web.api.own.routes import BUSY, ERRORS, MISSING, as_json
from loraloom.web.feed import NETWORKS, Listener
from loraloom.web.service import Here, Service

router = APIRouter(prefix="/api/v1", tags=["events"])


async def _listening(service: Here, job: Annotated[str | None, Query(max_length=64)] = None) -> AsyncIterator[Listener]:
    """Checked before the answer begins: an unknown job is 404, too many listeners 429."""
    if job is not None:
        service.jobs.get(job)
    with service.feed.listen() as listener:
        yield listener


@router.get("/events", response_class=EventSourceResponse, responses=as_json(ERRORS, MISSING, BUSY), summary="Server-sent events")
async def get_events(
    service: Here, listener: Annotated[Listener, Depends(_listening)], job: Annotated[str | None, Query(max_length=64)] = None
) -> AsyncIterator[ServerSentEvent]:
    """`job` with a Job or an ExtractJob whenever one changes (at most ten times a second), `networks` with `{}` after a scan. It begins
    with every job that is not over; `job=ID` tells of one alone.
    """
    begin = [task.id for task in service.jobs.all() if not task.over.done()] if job is None else [job]
    for event in _events(service, begin, job):
        yield event
    while news := await listener.next():
        for event in _events(service, news, job):
            yield event


def _events(service: Service, news: list[str], job: str | None) -> list[ServerSentEvent]:
    return [event for name in news if job in (None, name) for event in _event(service, name)]


def _event(service: Service, name: str) -> list[ServerSentEvent]:
    if name == NETWORKS:
        return [ServerSentEvent(event="networks", data={})]
    try:
        return [ServerSentEvent(event="job", data=job_answer(service, service.jobs.get(name)))]
    except NoSuch:  # it is not kept any more
        return []
