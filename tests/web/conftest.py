"""Servers with the embedded base on free ports: one that is open, one that needs credentials, one as a test likes it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import watched as browsing
from live import PASSWORD, USER, Running, running
from playwright import sync_api as sync

from loraloom.settings import Settings
from loraloom.web.access import Access
from loraloom.web.service import Service


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


@pytest.fixture(scope="module")
def browser() -> Iterator[sync.Browser]:
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browsing.CHROMIUM, args=["--no-sandbox"])  # the sandbox is not for root
        yield browser
        browser.close()


@pytest.fixture
def watched(browser: sync.Browser, server: Running) -> Iterator[browsing.Watched]:
    """The page; at the end nothing that must not happen has happened."""
    watched = browsing.Watched(browser, server.address)
    yield watched
    watched.context.close()
    assert watched.faults == []
