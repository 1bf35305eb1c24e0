"""GET /api/v1/pictures/{id}: a finished picture, as PNG with its recipe."""

from fastapi import Response

from loraloom.web.api.own.routes import MISSING
from loraloom.web.api.own.routes import router as _router
from loraloom.web.service import Here

router = _router("pictures")


@router.get(
    "/pictures/{id}",
    responses={200: {"content": {"image/png": {}}, "description": "The picture with its recipe"}, **MISSING},
    response_class=Response,
    summary="A finished picture",
)
def get_picture(service: Here, id: str) -> Response:
    """The last pictures are kept in memory; older ones are in the output folder alone."""
    drawn = service.jobs.picture(id)
    headers = {"Cache-Control": "private, max-age=31536000, immutable", "Content-Disposition": f'inline; filename="{drawn.seed}.png"'}
    return Response(drawn.png, media_type="image/png", headers=headers)
