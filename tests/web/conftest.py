"""A real server with the embedded base on a free port, in this process: torch is loaded once for all tests."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from loraloom.settings import Settings
from loraloom.web.access import Access
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
    thread.join(15)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def make_service(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Service]:
    """A service with folders of its own, the base `tiny` unless another is given, and nothing of this computer."""

    def make(access: Access | None = None, **settings) -> Service:
        root = tmp_path_factory.mktemp("server")
        (root / "loras").mkdir()
        values = {
            "base": "tiny",
            "output_folder": root / "outputs",
            "lora_folders": (root / "loras",),
            "library_index": root / "index.sqlite",
        }
        known = {name: value for name, value in (values | settings).items() if name in Settings.model_fields}
        return Service(Settings(**known), access or Access())

    return make


@pytest.fixture(scope="module")
def server(make_service) -> Iterator[Running]:
    """Open to everybody on this computer, with the base `tiny` and its LoRAs."""
    with running(make_service()) as it:
        yield it


@pytest.fixture(scope="module")
def closed(make_service) -> Iterator[Running]:
    """One that needs credentials; its client has none."""
    with running(make_service(Access.of(auth=f"{USER}:{PASSWORD}"))) as it:
        yield it


@pytest.fixture
def lora_folder(server) -> Path:
    return server.service.settings.lora_folders[0]
