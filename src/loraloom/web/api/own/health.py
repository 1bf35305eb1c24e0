"""Whether the server answers, and whether work should be sent to it: the two routes of this API that never need credentials."""

from importlib.metadata import version

from fastapi import Response

from loraloom.web.api.models import Health, HeldBases, Ready
from loraloom.web.api.own.routes import router as _router
from loraloom.web.service import Here

router = _router("server")


@router.get("/health", summary="Is the server there, and how are its bases")
def health(service: Here) -> Health:
    """200 as long as the server answers."""
    bases = HeldBases(**service.held.counts)
    status = "stopping" if service.jobs.closing else "degraded" if bases.dropped or bases.failed else "ok"
    return Health(status=status, version=version("loraloom"), auth=service.access.closed, bases=bases)


@router.get("/ready", responses={503: {"model": Ready, "description": "Send work elsewhere"}}, summary="Should work be sent here")
def ready(service: Here, answer: Response) -> Ready:
    """For load balancers: 200 or 503. A base that failed to open is tried again with the next job and with POST /api/v1/base/open."""
    reason = _reason(service)
    if reason:
        answer.status_code, answer.headers["Retry-After"] = 503, "5"
    return Ready(ready=not reason, reason=reason)


def _reason(service: Here) -> str:
    """Without names: everybody may ask."""
    if service.jobs.closing:
        return "the server is shutting down"
    if service.jobs.full:
        return "the queue is full"
    return "the base of the settings could not be opened" if service.held.of(service.base(None).source).state == "failed" else ""
