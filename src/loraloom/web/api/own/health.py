"""GET /api/v1/health: whether the server answers; the one route that never needs credentials."""

from importlib.metadata import version

from loraloom.web.api.models import Health
from loraloom.web.api.own.routes import router as _router
from loraloom.web.service import Here

router = _router("server")


@router.get("/health", summary="Is the server there")
def health(service: Here) -> Health:
    return Health(version=version("loraloom"), auth=service.access.closed)
