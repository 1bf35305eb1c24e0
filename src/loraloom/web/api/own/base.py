"""The base that draws, and the samplers."""

import asyncio
from functools import partial

from loraloom.generate.samplers import SAMPLERS
from loraloom.web.api.models import BaseInfo
from loraloom.web.api.own.routes import router as _router
from loraloom.web.bases import KnownBase
from loraloom.web.service import Here, Service

router = _router("base")


@router.get("/base", summary="The base of the settings, and what it does on its own")
def get_base(service: Here) -> BaseInfo:
    """Much is not known before it is opened, which its first job does."""
    return _about(service, service.base(None))


@router.post("/base/open", summary="Open the base of the settings")
async def open_base(service: Here) -> BaseInfo:
    """Answers when it is open, which may take a while; at once if it is. 422 if it cannot be opened."""
    base = service.base(None)
    await asyncio.wrap_future(service.jobs.call(base.source, partial(service.learn, source=base.source)))
    return _about(service, base)


def _about(service: Service, base: KnownBase) -> BaseInfo:
    facts, held = service.about(base), service.held.of(base.source)
    return BaseInfo(
        name=base.name,
        opened=held.state == "open",
        state=held.state,
        problem=held.problem.replace(base.source, base.name),
        family=facts and facts.family,
        title=facts and facts.title,
        steps=facts and facts.steps,
        guidance=facts and facts.guidance,
        width=facts and facts.side,
        height=facts and facts.side,
        sampler=facts and facts.sampler,
    )


@router.get("/samplers", summary="Names of samplers")
def get_samplers() -> tuple[str, ...]:
    return tuple(SAMPLERS)
