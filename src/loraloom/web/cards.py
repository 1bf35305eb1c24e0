"""LoRA files of the library as the APIs show them, and their previews, encoded anew."""

import io
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps, UnidentifiedImageError

from loraloom.errors import FileError, NotFound
from loraloom.web.answers import NoSuch
from loraloom.web.api.models import Network, NetworkDetails

if TYPE_CHECKING:
    from loraloom.catalogue import Catalogue, Item

_SIDE = 512  # pixels of a preview
_PIXELS = 64 * 2**20  # of the file that it is made from
_TEXT = 100_000  # characters of one value of the metadata


def card(catalogue: "Catalogue", item: "Item", family: str | None) -> Network:
    """One network; `family` is that of the current base, None if that is not known."""
    facts = catalogue.facts(item)
    folder = item.below.rpartition("/")[0]
    return Network(
        id=item.id,
        name=item.name,
        tag=catalogue.tag(item),
        folder=folder,
        family=facts.family,
        base=facts.title,
        types=facts.types,
        rank=facts.rank,
        modules=facts.modules,
        triggers=facts.triggers,
        size=item.size,
        modified=item.modified,
        hash=facts.hash,
        strength=facts.strength,
        favorite=facts.favorite,
        preview=f"/api/v1/networks/{item.id}/preview" if facts.preview else None,
        fits=facts.family == family if family and facts.family else None,
        problem=facts.problem,
        notices=facts.beside,
    )


def details(catalogue: "Catalogue", item: "Item", family: str | None) -> NetworkDetails:
    texts = {name: value[:_TEXT] for name, value in metadata(catalogue, item).items()}
    return NetworkDetails(**dict(card(catalogue, item, family)), notes=catalogue.facts(item).notes, metadata=texts)


def metadata(catalogue: "Catalogue", item: "Item") -> Mapping[str, str]:
    """A stranger's text; none of a file that cannot be read, which its card says."""
    try:
        return catalogue.metadata(item)
    except FileError:
        return {}


def by_id(catalogue: "Catalogue", network_id: str) -> "Item":
    """The file of this id; raises NoSuch."""
    try:
        return catalogue.get(network_id)
    except NotFound as error:
        raise NoSuch(f"there is no network {network_id!r}; it may have been moved or renamed") from error


def preview(catalogue: "Catalogue", item: "Item") -> bytes:
    """The picture beside the file, small, as WebP: nothing of the file itself is passed on. Raises NoSuch without one."""
    path = catalogue.facts(item).preview
    if path is None or not catalogue.may_show(path):
        raise NoSuch(f"{item.name} has no preview")
    try:
        return _encoded(path, path.stat().st_mtime_ns)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise NoSuch(f"{item.name}: its preview cannot be read as a picture") from error


@lru_cache(maxsize=256)
def _encoded(path: Path, _state: int) -> bytes:
    with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
        if image.width * image.height > _PIXELS:
            raise ValueError("too large")
        image.draft("RGB", (_SIDE, _SIDE))
        small = ImageOps.exif_transpose(image).convert("RGB")
    small.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=85)
    return buffer.getvalue()
