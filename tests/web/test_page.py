"""The page in a real browser against a real server: from a LoRA's card to a picture, with nothing from elsewhere."""

import json
import re
import shutil
from pathlib import Path

import pytest
from live import PASSWORD, USER, running
from PIL import Image
from playwright import sync_api as sync
from watched import PATIENT, Watched, faults_of_access, needs_browser, pixels

from loraloom.settings import Settings
from loraloom.web.access import Access
from loraloom.web.service import Service

pytestmark = needs_browser


def test_from_a_card_to_a_picture(watched, server):
    page, prompt = watched.page, watched.prompt()
    prompt.fill("octopus")
    page.get_by_role("spinbutton", name="Seed").fill("7")
    page.get_by_role("spinbutton", name="Steps").fill("6")
    (plain,) = watched.draw(1)

    page.get_by_role("searchbox", name="Search LoRAs").fill("ZVZ")
    cards = page.get_by_role("region", name="Networks").get_by_role("listitem")
    sync.expect(cards).to_have_count(1)
    page.get_by_role("button", name="delft: add to the prompt").click()
    sync.expect(prompt).to_have_value("octopus <lora:delft:1>")
    page.get_by_label("Strength of delft", exact=True).fill("0.8")
    sync.expect(prompt).to_have_value("octopus <lora:delft:0.8>")
    page.get_by_role("button", name="zvz", exact=True).click()
    sync.expect(prompt).to_have_value("octopus, zvz <lora:delft:0.8>")
    page.get_by_label("Search LoRAs").fill("")
    (styled,) = watched.draw(1)
    assert pixels(server, plain) != pixels(server, styled)

    prompt.fill("octopus, zvz <lora:delft:0.2>")
    sync.expect(page.get_by_label("Strength of delft", exact=True)).to_have_value("0.2")
    page.get_by_role("button", name="zvz", exact=True).click()
    page.get_by_role("button", name="delft: take out of the prompt").click()
    sync.expect(prompt).to_have_value("octopus")
    (again,) = watched.draw(1)
    assert again != plain
    assert pixels(server, again) == pixels(server, plain)


def test_a_recipe_comes_back_and_survives_a_reload(watched, server):
    page, prompt = watched.page, watched.prompt()
    prompt.fill("castle <lora:mulberry:0.7>")
    page.get_by_role("spinbutton", name="Steps").fill("3")
    page.get_by_role("spinbutton", name="Pictures").fill("2")
    urls = watched.draw(2)
    page.get_by_role("textbox", name="Prompt", exact=True).fill("something else")
    page.reload()
    sync.expect(prompt).to_have_value("something else")
    shown = page.locator(".frame .drawn")
    sync.expect(shown).to_have_count(2)
    shown.nth(1).click()
    dialog = page.get_by_role("dialog")
    recipe = dialog.get_by_label("Recipe").inner_text()
    assert recipe.startswith("castle <lora:mulberry:0.7>\n")
    assert "Steps: 3" in recipe
    with page.expect_download() as download:
        dialog.get_by_role("link", name="Download").click()
    assert Image.open(download.value.path()).text["parameters"] == recipe
    dialog.get_by_role("button", name="Use this recipe").click()
    sync.expect(dialog).to_have_count(0)
    sync.expect(prompt).to_have_value("castle <lora:mulberry:0.7>")
    (again,) = watched.draw(1)
    # One is drawn alone, the other was drawn beside a second one: products of other sizes round differently.
    assert max(abs(left - right) for left, right in zip(pixels(server, again), pixels(server, urls[1]), strict=True)) <= 1


def test_a_mistake_is_shown_at_its_place(watched):
    page, prompt = watched.page, watched.prompt()
    prompt.fill("🐙 octopus <lora:delft:much>")
    prompt.press("Control+Enter")
    sync.expect(page.get_by_role("alert")).to_contain_text('"much" is not a number')
    sync.expect(prompt).to_have_attribute("aria-invalid", "true")
    assert page.locator(".behind em").inner_text() == "much"
    assert prompt.evaluate("field => field.value.slice(field.selectionStart, field.selectionEnd)") == "much"
    prompt.press_sequentially("0.5")
    sync.expect(page.get_by_role("alert")).to_have_count(0)


def test_trigger_words_are_applied_as_the_settings_say(browser, monkeypatch, tmp_path):
    """On a server of its own, with the settings of a file, as `loraloom serve` has them: a change is kept there."""
    (tmp_path / "loras").mkdir()
    places = {"SETTINGS": "settings.toml", "OUTPUT_FOLDER": "outputs", "LIBRARY_INDEX": "index.sqlite", "LORA_FOLDERS": "loras"}
    for name, place in places.items():
        monkeypatch.setenv(f"LORALOOM_{name}", str(tmp_path / place))
    with running(Service(Settings.load(), Access())) as own:
        watched = Watched(browser, own.address)
        page = watched.page
        page.get_by_role("button", name="Settings").click()
        sync.expect(page.get_by_label("LoRA folders")).to_be_disabled()
        field = page.get_by_label("Apply trigger words")
        field.fill("-2")
        field.press("Enter")
        sync.expect(page.get_by_role("alert")).to_contain_text("auto_apply_triggers")
        field.fill("-1")
        field.press("Enter")
        sync.expect(page.get_by_text("Kept.")).to_be_visible()
        assert Settings.load().auto_apply_triggers == -1
        page.get_by_role("button", name="Generate").click()
        watched.prompt().fill("penguin <lora:delft:1>")
        page.get_by_role("spinbutton", name="Steps").fill("2")
        watched.draw(1)
        page.locator(".frame .drawn").click()
        recipe = page.get_by_role("dialog").get_by_label("Recipe").inner_text()
        assert re.search(r"\bzvz\b", recipe.splitlines()[0]), recipe
        sync.expect(watched.prompt()).to_have_value("penguin <lora:delft:1>")
        watched.context.close()
    assert watched.faults == []


def test_a_job_is_seen_while_it_runs_and_can_be_interrupted(watched):
    page = watched.page
    watched.prompt().fill("owl <lora:delft:1>")
    page.get_by_role("spinbutton", name="Steps").fill("500")
    page.get_by_role("button", name=re.compile("^Draw")).click()
    sync.expect(page.get_by_alt_text("The picture as it is now")).to_be_visible(timeout=PATIENT)
    sync.expect(page.get_by_text(re.compile(r"^Step \d+ of 500$"))).to_be_visible()
    page.reload()
    sync.expect(page.get_by_text(re.compile(r"^Step \d+ of 500$"))).to_be_visible()
    page.get_by_role("region", name="Pictures").get_by_role("button", name="Interrupt").click()
    sync.expect(page.get_by_text("Interrupted before the first picture.")).to_be_visible(timeout=PATIENT)


def test_what_strangers_wrote_is_text(watched, server, lora_folder):
    shutil.copy(Path(__file__).parents[2] / "src/loraloom/assets/loras/tiny/mulberry.safetensors", lora_folder / "stranger.safetensors")
    evil = '<img src=x onerror=alert(1)><a href="javascript:alert(1)">x</a>'
    (lora_folder / "stranger.json").write_text(json.dumps({"activation text": evil, "notes": evil}))
    page = watched.page
    try:
        page.get_by_role("button", name="Scan the folders again").click()
        page.get_by_role("button", name="About stranger").click()
        dialog = page.get_by_role("dialog")
        sync.expect(dialog.get_by_role("heading", name="stranger")).to_be_visible()
        sync.expect(dialog.get_by_text(evil, exact=True).first).to_be_visible()
        assert dialog.locator("a, img[src='x']").count() == 0
    finally:
        for path in lora_folder.glob("stranger*"):
            path.unlink()
        server.post("/api/v1/networks/refresh")


def test_whose_session_has_ended_gets_a_form(browser, closed):
    watched = Watched(browser, closed.address, enter=True)
    page = watched.page
    card = page.get_by_role("button", name="delft: add to the prompt")
    sync.expect(card).to_be_visible()
    watched.context.clear_cookies()
    page.get_by_role("button", name=re.compile("^Draw")).click()
    page.get_by_label("User").fill(USER)
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    sync.expect(page.get_by_role("alert")).to_have_text("wrong user or password")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    sync.expect(card).to_be_visible()
    watched.context.close()
    assert watched.faults == []


SEEN = [(1440, "light"), (900, "dark"), (390, "dark")]  # every width and both schemes; the other pairs are for the long run
OTHERS = [(1440, "dark"), (900, "light"), (390, "light")]


@pytest.mark.parametrize(("width", "scheme"), [*SEEN, *(pytest.param(*pair, marks=pytest.mark.long) for pair in OTHERS)])
def test_everybody_can_use_it(browser, server, scheme, width):
    """axe-core finds no fault, nothing is wider than the window, and the keyboard reaches everything in the order of the page."""
    watched = Watched(browser, server.address, viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    page = watched.page
    watched.prompt().fill("bobbin, red thread, waving, zvz <lora:bobbin:1:te=0.5> <lora:delft:0~0.7>")
    if width == 1440 and scheme == "light":
        page.get_by_role("spinbutton", name="Seed").fill("7")
        page.get_by_role("spinbutton", name="Pictures").fill("2")
        watched.draw(2)
    page.locator(".frame, .strip").first.wait_for()
    page.wait_for_load_state("load")
    if width != 900:
        watched.shoot(scheme if width == 1440 else f"narrow-{scheme}")
    for place in ("Generate", "Networks", "Settings"):
        button = page.get_by_role("navigation").get_by_role("button", name=re.compile(f"^{place}"))
        if not button.is_visible():
            continue
        button.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, place
        assert faults_of_access(page) == [], place
    page.get_by_role("navigation").get_by_role("button", name="Generate").click()
    watched.prompt().focus()
    page.keyboard.press("Tab")
    reached = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert reached == "Parts of bobbin"
    watched.context.close()
    assert watched.faults == []
