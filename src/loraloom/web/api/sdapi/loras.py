"""LoRA files: the list, a new scan, and SD.Next's two questions about them."""

from typing import Annotated, Any

import msgspec
from fastapi import Query
from pydantic import BaseModel

from loraloom.catalogue import Catalogue, Item
from loraloom.errors import NotFound
from loraloom.filenames import SUFFIX
from loraloom.prompts import parse_lenient, spelled
from loraloom.web.answers import NoSuch
from loraloom.web.api.sdapi.routes import router as _router
from loraloom.web.cards import metadata
from loraloom.web.service import Here

router = _router("LoRA")
_LEVELS = 32  # of a value's lists and objects; trainers write three, and pydantic gives up at about 200


class LoraItem(BaseModel):
    """`name` is what a tag says, in quotes where it needs them; `path` is below the library, never of this computer."""

    name: str
    alias: str
    path: str
    metadata: dict[str, Any]


@router.get("/loras", summary="The LoRAs of the library")
def list_loras(service: Here) -> list[LoraItem]:
    library = service.library
    return [_item(library, item) for item in library.items]


@router.post("/refresh-loras", summary="Scan the folders; answers when that is done")
def refresh_loras(service: Here) -> dict[str, str]:
    service.rescan()
    return {}


@router.get("/lora", summary="One LoRA by its name")
def get_lora(service: Here, lora: Annotated[str, Query(max_length=1000)]) -> LoraItem:
    library = service.library
    try:
        return _item(library, library.find(lora, paths=False))
    except NotFound as error:
        raise NoSuch(str(error)) from error


@router.get("/loaded-loras", summary="Names of the LoRAs that the running jobs use")
def loaded_loras(service: Here) -> list[str]:
    requests = [task.asked.request for task in service.jobs.drawings() if task.state == "running"]
    prompts = [parse_lenient(text)[0] for request in requests for text in (request.prompt, request.negative_prompt)]
    return list(dict.fromkeys(tag.name for prompt in prompts for tag in prompt.loras))


def _item(library: Catalogue, item: Item) -> LoraItem:
    name = library.tag(item)
    values = {key: _value(text) for key, text in metadata(library, item).items()}
    return LoraItem(name=name, alias=next(map(spelled, library.facts(item).aliases), name), path=item.below + SUFFIX, metadata=values)


def _value(text: str) -> Any:
    """Values that are JSON themselves come as what they say, as in the WebUI, unless they nest deeper than an answer can."""
    if not text.startswith(("{", "[")):
        return text
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
    return text if _is_deep(value, _LEVELS) else value


def _is_deep(value: dict[str, Any] | list[Any], levels: int) -> bool:
    inside = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deep(each, levels - 1) for each in inside if isinstance(each, dict | list))
