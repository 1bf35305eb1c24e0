"""The base that draws, and the samplers."""

import asyncio
from functools import partial

from loraloom.generate.samplers import SAMPLERS
from loraloom.web.api.models import BaseInfo
from loraloom.web.api.own.routes import router as _router
from loraloom.web.service import Here

router = _router("base")


@router.get("/base", summary="The base of the settings, and what it does by itself")
async def get_base(service: Here, open: bool = False) -> BaseInfo:
    """With `open=true` it is opened first, which may take a while; else much is not known before its first job."""
    base = service.base(None)
    facts = service.about(base)
    if facts is None and open:
        facts = await asyncio.wrap_future(service.jobs.call(base.source, partial(service.learn, source=base.source)))
    return BaseInfo(
        name=base.name,
        opened=facts is not None,
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
