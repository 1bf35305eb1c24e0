"""/docs: all routes and their models as one plain page, made from the OpenAPI. No script, nothing from elsewhere: it works offline."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)


@router.get("/docs", response_class=HTMLResponse)
def docs(request: Request) -> str:
    schema = request.app.openapi()
    title = f"{schema['info']['title']} {schema['info']['version']}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}: API</title></head><body>'
        f"<h1>{escape(title)}: API</h1><p>{escape(schema['info'].get('description', ''))}</p>"
        '<p>For programs: <a href="/openapi.json">/openapi.json</a></p>'
        f"{''.join(_routes(schema['paths']))}<h2>Models</h2>{''.join(_models(schema['components']['schemas']))}</body></html>"
    )


def _routes(paths: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in paths.items():
        for method, route in methods.items():
            yield f"<h3><code>{method.upper()} {escape(path)}</code></h3><p>{escape(route.get('summary', ''))}</p>"
            if "description" in route:
                yield f"<p>{escape(route['description'])}</p>"
            lines = [
                f"<code>{escape(found['name'])}</code> ({found['in']}): {_type(found['schema'])}" for found in route.get("parameters", ())
            ]
            lines += [f"body: {_type(kind['schema'])}" for kind in route.get("requestBody", {}).get("content", {}).values()]
            for status, answer in route["responses"].items():
                kinds = [_type(kind["schema"]) if "schema" in kind else escape(name) for name, kind in answer.get("content", {}).items()]
                lines.append(f"{status}: {', '.join(kinds)}")
            yield f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>"


def _models(models: Mapping[str, Any]) -> Iterator[str]:
    for name, model in models.items():
        yield f'<h3 id="{escape(name)}">{escape(name)}</h3><p>{escape(model.get("description", ""))}</p><ul>'
        for field, schema in model.get("properties", {}).items():
            default = f" = {escape(str(schema['default']))}" if schema.get("default") not in (None, "") else ""
            yield f"<li><code>{escape(field)}</code>: {_type(schema)}{default}</li>"
        yield "</ul>"


def _type(schema: Mapping[str, Any]) -> str:
    """`string`, `array of Job`, `integer or null`."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    for kind in ("anyOf", "oneOf"):
        if kind in schema:
            return " or ".join(map(_type, schema[kind]))
    if "enum" in schema:
        return " or ".join(escape(str(value)) for value in schema["enum"])
    if schema.get("type") == "array" and "items" in schema:
        return f"array of {_type(schema['items'])}"
    return escape(str(schema.get("const", schema.get("type", "anything"))))
