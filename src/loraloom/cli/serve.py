"""`loraloom serve`: the web page and the HTTP APIs."""

import importlib
import os
import webbrowser
from typing import Annotated

import typer

from loraloom.cli import options, terminal
from loraloom.errors import SettingsError
from loraloom.extras import missing
from loraloom.home import expanded


def serve(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on. Others than this computer's own need --api-auth.")
    ] = "127.0.0.1",
    listen: Annotated[bool, typer.Option("--listen", help="Listen on all addresses of this computer: --host 0.0.0.0.")] = False,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any free one.")] = 7860,
    api_auth: Annotated[
        str | None,
        typer.Option("--api-auth", envvar="LORALOOM_API_AUTH", help="user:password that every request needs.", show_default=False),
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option("--allow-origin", help="Pages of this site may use the API: https://example.org; may be repeated.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="A name that this server is called by, behind a proxy say; may be repeated.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen without a password: everybody who reaches this port can draw.")
    ] = False,
    graceful_timeout: Annotated[
        float, typer.Option("--graceful-timeout", min=0, max=3600, help="Seconds that a running job has to finish when the server stops.")
    ] = 7.0,
    lora_folder: options.LoraFolder = None,
    follow_links: options.FollowLinks = False,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Serve the web page, our HTTP API, and that of the Stable Diffusion WebUI; ends with Ctrl-C."""
    try:
        importlib.import_module("python_multipart")  # of which fastapi speaks in an error of its own
        from loraloom.web.app import create_app
        from loraloom.web.serving import Server
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("loraloom"):
            raise
        raise SettingsError(missing("`serve`", error.name)) from error
    from loraloom.settings import Settings
    from loraloom.web.access import Access
    from loraloom.web.service import Service

    terminal.log_to_stderr()
    if follow_links:
        os.environ["LORALOOM_FOLLOW_LINKS"] = "true"  # a setting that the page cannot change
    place = "0.0.0.0" if listen else host
    access = Access.of(host=place, auth=api_auth, insecure=insecure, hosts=allow_host or (), origins=allow_origin or ())
    service = Service(Settings.load(), access, tuple(expanded(folder) for folder in lora_folder or ()), graceful_timeout)

    def ready(address: str) -> None:
        terminal.out(f"loraloom serves {address}  (API: {address}/docs; Ctrl-C ends)")
        if open_page:
            webbrowser.open(address)

    Server(create_app(service), place, port, ready).serve_until_stopped()
