"""A page in a real browser, watched: what must not happen is written down.

LORALOOM_PICTURES=docs/images writes the pictures of the documentation as well.
"""

import os
import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from live import PASSWORD, TIMEOUT, USER
from PIL import Image
from playwright import sync_api as sync

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="the tests of the page need a browser: apt-get install chromium")

AXE = Path(__file__).parents[2] / "web/node_modules/axe-core/axe.min.js"
PICTURES = os.environ.get("LORALOOM_PICTURES")
PATIENT = TIMEOUT * 1000  # milliseconds: the computer may be busy
sync.expect.set_options(timeout=PATIENT)


class Watched:
    """A page of its own storage that writes down what must not happen: requests elsewhere, violations of the policy, errors."""

    def __init__(self, browser: sync.Browser, address: str, enter: bool = False, **options) -> None:
        self.context = browser.new_context(**({"viewport": {"width": 1440, "height": 900}, "color_scheme": "light"} | options))
        self.faults: list[str] = []
        self.context.expose_binding("fault", lambda _, text: self.faults.append(text))
        self.context.add_init_script(
            "addEventListener('securitypolicyviolation', e => fault('policy: ' + e.violatedDirective + e.blockedURI))"
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENT)
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("console", self._console)
        self.page.on("request", lambda request: self._request(request.url, address))
        if enter:
            assert self.context.request.post(f"{address}/login", form={"username": USER, "password": PASSWORD}).ok
        self.page.goto(address)

    def _console(self, message) -> None:
        # A refused request is written there by the browser itself; the page shows why.
        if message.type == "error" and not re.search("the server responded with a status of 4", message.text):
            self.faults.append(f"console: {message.text}")

    def _request(self, url: str, address: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.netloc != urlsplit(address).netloc:
            self.faults.append(f"elsewhere: {url}")

    def prompt(self):
        return self.page.get_by_role("textbox", name="Prompt", exact=True)

    def draw(self, pictures: int) -> list[str]:
        """Press the button; the addresses of the job's pictures when all have come."""
        with self.page.expect_response(lambda answer: answer.url.endswith("/api/v1/jobs") and answer.request.method == "POST") as asked:
            self.page.get_by_role("button", name=re.compile("^Draw")).click()
        assert asked.value.status == 202, asked.value.text()
        job = asked.value.json()["id"]
        self.page.wait_for_function(
            "async ([job, count]) => (await (await fetch('/api/v1/jobs/' + job)).json()).pictures.length === count",
            arg=[job, pictures],
            timeout=PATIENT,
            polling=500,
        )
        shown = self.page.locator(".frame .drawn img")
        sync.expect(shown).to_have_count(pictures)
        return [shown.nth(index).get_attribute("src") for index in range(pictures)]

    def shoot(self, name: str, **options) -> None:
        if PICTURES:
            shown = "image => image.complete || !image.checkVisibility() || image.getBoundingClientRect().top > innerHeight"
            self.page.wait_for_function(f"[...document.images].every({shown})")
            self.page.screenshot(path=Path(PICTURES) / f"page-{name}.png", **options)


def pixels(server, url: str) -> bytes:
    answer = server.get(url, stream=True)
    assert answer.status_code == 200
    return Image.open(answer.raw).convert("RGB").tobytes()


def faults_of_access(page) -> list[str]:
    """What axe-core says of the page as it stands, WCAG 2.2 AA."""
    if not page.evaluate("'axe' in window"):
        page.add_script_tag(content=AXE.read_text())
    found = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa', 'best-practice']})")
    return [
        f"{fault['id']}: {node['html'][:120]} {node['failureSummary'][:200]}" for fault in found["violations"] for node in fault["nodes"]
    ]
