"""The page: the built front end, or a plain page that says how to build it."""

from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse
from starlette.staticfiles import StaticFiles

_MISSING = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>loraloom</title></head>
<body><h1>loraloom is running</h1>
<p>Its page is not built yet. In a clone of the project: <code>cd web &amp;&amp; npm ci &amp;&amp; npm run build</code>, then start the
server again. Packages from PyPI have the page inside.</p>
<p>The APIs work without it: <a href="/docs">/docs</a>.</p></body></html>
"""


def add_page(app: FastAPI, static: Path) -> None:
    """Serve `static`: its folders, each file at its top, `index.html` at `/`. StaticFiles answers with files below the folder only.

    Not all of it in one mount at `/`: that would match every address, and a GET of what only takes POST were 404 instead of 405.
    """
    if (static / "index.html").is_file():
        inside = static.resolve()
        for item in sorted(path for path in static.iterdir() if path.resolve().is_relative_to(inside)):
            if item.is_dir():
                app.mount(f"/{item.name}", StaticFiles(directory=item), name=item.name)
            else:
                place = "/" if item.name == "index.html" else f"/{item.name}"
                app.add_api_route(place, _answer_with(item), methods=["GET", "HEAD"], include_in_schema=False)
        return

    @app.get("/", include_in_schema=False, response_class=HTMLResponse)
    def missing_page() -> str:
        return _MISSING


def _answer_with(path: Path) -> Callable[[], FileResponse]:
    def answer() -> FileResponse:
        return FileResponse(path)

    return answer
