"""The application: guard, both APIs, the page. `create_app` is all that a server needs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware

from loraloom.web import limits
from loraloom.web.answers import explain_errors
from loraloom.web.api import own, sdapi
from loraloom.web.docs import router as docs
from loraloom.web.guard import Guard
from loraloom.web.login import router as login
from loraloom.web.page import add_page
from loraloom.web.service import Service

STATIC = Path(__file__).parent / "static"

_ABOUT = """Two APIs. `/api/v1`: loraloom's own, described in full here. `/sdapi/v1`: that of the Stable Diffusion WebUI, for programs that
know it already. Every answer from 400 up is an ErrorAnswer."""


def create_app(service: Service, static: Path = STATIC) -> FastAPI:
    """The application for one service. `static` is the folder of the built page; it may be missing."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.stop()
        service.jobs.join()

    app = FastAPI(
        title="loraloom",
        version=version("loraloom"),
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load scripts from elsewhere; ours is at the same address
        redoc_url=None,
        generate_unique_id_function=_name,
    )
    app.state.service = service
    explain_errors(app)
    for router in (*own.ROUTERS, *sdapi.ROUTERS, login, docs):
        app.include_router(router)
    add_page(app, static)
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=limits.BODY)  # of bodies that do not tell their length
    app.add_middleware(Guard, entry=service.entry)
    if service.access.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(service.access.origins),
            allow_methods=["GET", "POST", "PATCH"],
            allow_headers=["Authorization", "Content-Type"],
        )
    return app


def _name(route: APIRoute) -> str:
    """A name for programs that are generated from the schema: `create_job`."""
    return route.name
