"""Running the application: a socket, uvicorn, and an end in good order."""

import math
import os
import socket
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from loraloom.errors import SettingsError
from loraloom.web.connection import Connection
from loraloom.web.service import Service

_ANSWER_SECONDS = 1  # that an answer has left when its job is over and the server stops


class Server(uvicorn.Server):
    """uvicorn that says when it is ready, and tells the service at once when it must leave: open event streams would keep it."""

    def __init__(self, app: FastAPI, host: str, port: int, ready: Callable[[str], None]) -> None:
        """`ready` gets the address, with the port that was free where `port` is 0. Raises SettingsError where it cannot be had."""
        service: Service = app.state.service
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=math.ceil(service.graceful_seconds) + _ANSWER_SECONDS,
        )
        super().__init__(config)
        self._service = service
        self._listening, self._ready = _listen(host, port), ready
        name = f"[{host}]" if ":" in host else host
        self._address = f"http://{name}:{self._listening.getsockname()[1]}"

    def serve_until_stopped(self) -> None:
        """Until SIGINT, SIGTERM or `stop`."""
        self.run(sockets=[self._listening])

    def stop(self) -> None:
        """From any thread; `serve_until_stopped` returns when what runs is over, or soon after its time to finish is."""
        self._service.stop()
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready(self._address)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # In a thread: a signal may come while this one holds a lock of the service.
        threading.Thread(target=self._service.stop, daemon=True).start()
        super().handle_exit(sig, frame)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.socket(family)
        if os.name == "posix":  # elsewhere the option lets two servers share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        what = error.strerror or str(error)
        raise SettingsError(f"{host}, port {port}: cannot listen there ({what.lower()}); try another --port, 0 for any free one") from error
    return listening
