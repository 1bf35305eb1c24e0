"""The page: the built front end, or a plain page that says how to build it."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

_MISSING = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>loraloom</title></head>
<body><h1>loraloom is running</h1>
<p>Its page is not built yet. In a clone of the project: <code>cd web &amp;&amp; npm ci &amp;&amp; npm run build</code>, then start the
server again. Packages from PyPI have the page inside.</p>
<p>The APIs work without it: <a href="/docs">/docs</a>.</p></body></html>
"""


def add_page(app: FastAPI, static: Path) -> None:
    """Serve `static` at `/`, below all other routes. StaticFiles answers with files below the folder only."""
    if (static / "index.html").is_file():
        app.mount("/", StaticFiles(directory=static, html=True), name="page")
        return

    @app.get("/", include_in_schema=False, response_class=HTMLResponse)
    def missing_page() -> str:
        return _MISSING
