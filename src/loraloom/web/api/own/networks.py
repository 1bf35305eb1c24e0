"""The library: its networks, one in detail, its preview, a new scan."""

from typing import Annotated

from fastapi import Query, Response

from loraloom.web.api.models import NetworkDetails, Networks
from loraloom.web.api.own.routes import MISSING
from loraloom.web.api.own.routes import router as _router
from loraloom.web.cards import by_id, card, details, preview
from loraloom.web.service import Here, Service

router = _router("networks")


@router.get("/networks", summary="The networks of the library, or those that are looked for")
def get_networks(
    service: Here,
    q: Annotated[str, Query(max_length=1000)] = "",
    family: Annotated[str, Query(max_length=100)] = "",
    type: Annotated[str, Query(max_length=100)] = "",
) -> Networks:
    """`q`: words that all must be in name, family or trigger words. `families` and `types` are those of the whole library."""
    return _networks(service, q, family, type)


@router.post("/networks/refresh", summary="Scan the folders, then the networks of the library")
def refresh_networks(service: Here) -> Networks:
    service.rescan()
    return _networks(service)


@router.get("/networks/{id}", responses=MISSING, summary="One network with its notes and metadata")
def get_network(service: Here, id: str) -> NetworkDetails:
    """The metadata is text of strangers."""
    return details(service.library, by_id(service.library, id), _family(service))


@router.get(
    "/networks/{id}/preview",
    responses={200: {"content": {"image/webp": {}}, "description": "At most 512 pixels a side"}, **MISSING},
    response_class=Response,
    summary="The picture of a network",
)
def get_network_preview(service: Here, id: str) -> Response:
    content = preview(service.library, by_id(service.library, id))
    return Response(content, media_type="image/webp", headers={"Cache-Control": "private, max-age=300"})


def _networks(service: Service, words: str = "", family: str = "", kind: str = "") -> Networks:
    library, current = service.library, _family(service)
    found = library.search(words, family=family or None, type=kind or None)
    facts = [library.facts(item) for item in library.items]
    return Networks(
        networks=tuple(card(library, item, current) for item in found),
        families=tuple(sorted({each.family for each in facts if each.family})),
        types=tuple(sorted({name for each in facts for name in each.types})),
    )


def _family(service: Service) -> str | None:
    """Of the settings' base, where it is known."""
    facts = service.about(service.base(None))
    return facts.family if facts else None
