"""Write the server's OpenAPI schema, from which the page's types are made: `python -m tools.openapi web/src/api/openapi.json`."""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from loraloom.settings import Settings
from loraloom.web.access import Access
from loraloom.web.app import create_app
from loraloom.web.service import Service

OURS = "/api/v1/"


def schema() -> dict[str, Any]:
    """Of our own API alone: its paths, and the models that they reach. Without the version, so that a release changes nothing."""
    with TemporaryDirectory() as folder:
        settings = Settings(lora_folders=(), library_index=Path(folder) / "index.sqlite")
        full = create_app(Service(settings, Access()), Path(folder)).openapi()
    paths = {path: item for path, item in full["paths"].items() if path.startswith(OURS)}
    models = full["components"]["schemas"]
    reached: dict[str, Any] = {}
    waiting = [paths]
    while waiting:
        for name in _named(waiting.pop()):
            if name not in reached:
                reached[name] = models[name]
                waiting.append(models[name])
    return {
        "openapi": full["openapi"],
        "info": {"title": full["info"]["title"], "version": "0"},
        "paths": paths,
        "components": {"schemas": dict(sorted(reached.items()))},
    }


def _named(part: object) -> set[str]:
    """The models that a part of the schema refers to."""
    if isinstance(part, dict):
        here = {str(part["$ref"]).rpartition("/")[2]} if isinstance(part.get("$ref"), str) else set()
        return here.union(*map(_named, part.values()))
    return set().union(*map(_named, part)) if isinstance(part, list) else set()


def text() -> str:
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text(), encoding="utf-8")
