"""A server that runs in this process, behind a real socket: torch is loaded once for all tests."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import requests

from loraloom.web.app import create_app
from loraloom.web.service import Service
from loraloom.web.serving import Server

TIMEOUT = 300  # seconds: the first picture imports torch, and a test computer may be busy
USER, PASSWORD = "weaver", "warp and weft"


@dataclass(frozen=True)
class Running:
    """A server that runs, and a client of it."""

    address: str
    service: Service
    client: requests.Session

    def get(self, path: str, **options):
        return self.client.get(self.address + path, timeout=TIMEOUT, **options)

    def post(self, path: str, **options):
        return self.client.post(self.address + path, timeout=TIMEOUT, **options)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])


@contextmanager
def running(service: Service, **options) -> Iterator[Running]:
    """The service's application behind a real socket; gone when the `with` is left."""
    ready, addresses = threading.Event(), []

    def tell(address: str) -> None:
        addresses.append(address)
        ready.set()

    server = Server(create_app(service, **options), "127.0.0.1", 0, tell)
    thread = threading.Thread(target=server.serve_until_stopped, daemon=True)
    thread.start()
    assert ready.wait(TIMEOUT)
    with requests.Session() as client:
        yield Running(addresses[0], service, client)
    server.stop()
    thread.join(TIMEOUT)
    assert not thread.is_alive()
