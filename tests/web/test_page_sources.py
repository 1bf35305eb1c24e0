"""What the page is made of: the server's own types and prompts, few packages, nothing from elsewhere, no inline code. No browser."""

import gzip
import json
import re
from pathlib import Path

from tools import openapi, prompt_cases

from loraloom.web.app import STATIC

WEB = Path(__file__).parents[2] / "web"
AGAIN = "make page"  # renews it


def test_the_types_are_those_of_the_server():
    assert (WEB / "src/api/openapi.json").read_text(encoding="utf-8") == openapi.text(), AGAIN


def test_the_prompts_that_the_page_is_held_to_are_those_of_the_parser():
    assert (WEB / "tests/prompt/cases.json").read_text(encoding="utf-8") == prompt_cases.text(), AGAIN


def test_the_page_is_small_and_whole():
    scripts, styles = list(STATIC.rglob("*.js")), list(STATIC.rglob("*.css"))
    assert len(scripts) == len(styles) == 1
    assert len(gzip.compress(scripts[0].read_bytes())) < 120_000  # the product allows 300 kB
    html = (STATIC / "index.html").read_text(encoding="utf-8")
    for path in re.findall(r'(?:src|href)="([^"]+)"', html):
        assert (STATIC / path.removeprefix("/")).is_file(), path


def test_nothing_is_inline_and_nothing_is_elsewhere():
    html = (STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=|https?:", html)
    style = next(STATIC.rglob("*.css")).read_text(encoding="utf-8")
    assert not re.search(r"@import|url\(|https?:", style)


def test_few_packages_and_all_from_the_public_registry():
    package = json.loads((WEB / "package.json").read_text(encoding="utf-8"))
    assert len(package["dependencies"]) <= 12
    lock = json.loads((WEB / "package-lock.json").read_text(encoding="utf-8"))
    outside = {
        name
        for name, entry in lock["packages"].items()
        if not entry.get("resolved", "https://registry.npmjs.org/").startswith("https://registry.npmjs.org/")
    }
    assert not outside
    assert all("integrity" in entry for name, entry in lock["packages"].items() if name)
