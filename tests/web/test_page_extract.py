"""Models > Extract LoRA in a real browser: from the mix of a prompt to a file that draws the same."""

import re

import pytest
from playwright import sync_api as sync
from test_extract_http import Held, write_ia3
from watched import PATIENT, Watched, faults_of_access, needs_browser, pixels

pytestmark = needs_browser
MIX = "<lora:delft:0.8> <lora:bobbin:0.5>"


@pytest.fixture
def shelf(server, lora_folder):
    """The folder of new files, empty at the end."""
    yield lora_folder
    for path in lora_folder.iterdir():
        path.unlink()
    server.post("/api/v1/networks/refresh")


def mix_of(page):
    return page.get_by_role("textbox", name="Mix")


def named(page, name):
    page.get_by_role("textbox", name="Name").fill(name)
    page.get_by_role("button", name=f"Save as {name}").click()


def test_a_mix_is_saved_and_used_and_draws_the_same(watched, server, shelf):
    page, prompt = watched.page, watched.prompt()
    prompt.fill(f"octopus, zvz {MIX}")
    page.get_by_role("spinbutton", name="Seed").fill("7")
    page.get_by_role("spinbutton", name="Steps").fill("4")
    (mixed,) = watched.draw(1)
    page.get_by_role("button", name="Save this mix…").click()
    sync.expect(mix_of(page)).to_have_value("<lora:delft:0.8><lora:bobbin:0.5>")
    outlook = page.get_by_role("region", name="What it would be")
    sync.expect(outlook.get_by_text("nothing left out")).to_be_visible(timeout=PATIENT)

    page.get_by_role("radio", name="One rank").check()
    page.get_by_label("Rank as a number").fill("4")
    sync.expect(outlook.get_by_text("error 36 %")).to_be_visible()
    page.get_by_role("radio", name="An error").check()
    page.get_by_label("Error in percent").fill("10")
    sync.expect(outlook.get_by_text("Ranks 2 to 11")).to_be_visible()
    page.get_by_role("radio", name="Exact").check()
    assert list(shelf.iterdir()) == []

    named(page, "woven")
    report = page.get_by_role("region", name="File woven")
    sync.expect(report.get_by_text(re.compile(r"^woven\.safetensors in loras, "))).to_be_visible(timeout=PATIENT)
    assert [path.name for path in shelf.iterdir()] == ["woven.safetensors"]
    rows = report.get_by_role("row")
    sync.expect(rows).to_have_count(13)
    report.get_by_role("button", name="All 132 modules").click()
    sync.expect(rows).to_have_count(133)
    report.get_by_role("columnheader", name="module").get_by_role("button").click()
    sync.expect(rows.nth(1).get_by_role("cell").first).to_have_text(re.compile(r"^text_encoder\."))
    sync.expect(page.get_by_role("button", name="woven: add to the mix")).to_be_visible()

    report.get_by_role("button", name="Use it").click()
    sync.expect(prompt).to_have_value("octopus, zvz <lora:woven:1>")
    (file,) = watched.draw(1)
    assert file != mixed
    assert max(abs(one - other) for one, other in zip(pixels(server, mixed), pixels(server, file), strict=True)) <= 1


def test_networks_that_are_not_in_the_prompt_make_a_mix(watched, shelf):
    page = watched.page
    watched.prompt().fill("octopus")
    page.get_by_role("button", name="Models").click()
    sync.expect(page.get_by_role("button", name="Save as")).to_be_disabled()
    page.get_by_role("button", name="mulberry: add to the mix").click()
    page.get_by_label("Strength of mulberry", exact=True).fill("0.5")
    sync.expect(mix_of(page)).to_have_value("<lora:mulberry:0.5>")
    page.get_by_role("radio", name="One rank").check()
    page.get_by_label("Rank as a number").fill("2")
    named(page, "half mulberry")
    page.get_by_role("button", name="Use it").click()
    sync.expect(watched.prompt()).to_have_value("octopus <lora:half mulberry:1>")
    assert [path.name for path in shelf.iterdir()] == ["half mulberry.safetensors"]


def test_mistakes_are_shown_at_their_place(watched, shelf):
    page = watched.page
    page.get_by_role("button", name="Models").click()
    mix = mix_of(page)
    mix.fill("<lora:delft:much>")
    sync.expect(page.get_by_role("alert")).to_contain_text('"much" is not a number')  # while it is written
    assert page.locator(".behind em").inner_text() == "much"
    sync.expect(mix).to_be_focused()
    mix.press("Control+Enter")
    sync.expect(mix).to_have_attribute("aria-invalid", "true")
    assert mix.evaluate("field => field.value.slice(field.selectionStart, field.selectionEnd)") == "much"
    mix.press_sequentially("0.5")
    sync.expect(page.get_by_role("alert")).to_have_count(0)

    named(page, "../up")
    name = page.get_by_role("textbox", name="Name")
    sync.expect(page.get_by_role("alert")).to_contain_text("not a path")
    sync.expect(name).to_have_attribute("aria-invalid", "true")
    (shelf / "taken.safetensors").write_text("mine")
    named(page, "taken")
    sync.expect(page.get_by_role("alert")).to_contain_text('there is a LoRA "taken" in loras already')
    mix.fill("<lora:delft:0~1>")
    sync.expect(page.get_by_role("alert")).to_contain_text("one strength for all steps")
    page.get_by_role("checkbox", name="Take the mean").check()
    sync.expect(page.get_by_role("alert")).to_have_count(0)
    sync.expect(page.locator(".outlook")).to_be_visible()
    assert (shelf / "taken.safetensors").read_text() == "mine"


def test_a_mistake_that_a_click_on_save_finds_is_not_behind_the_button(watched, shelf):
    page = watched.page
    page.set_viewport_size({"width": 1280, "height": 520})
    page.get_by_role("button", name="Models").click()
    mix_of(page).fill(MIX)
    page.locator(".outlook:not(.busy)").wait_for(timeout=PATIENT)
    (shelf / "taken.safetensors").write_text("mine")
    name = page.get_by_role("textbox", name="Name")
    name.fill("taken")
    name.evaluate(
        "field => { field.closest('form').scrollTop = 0; field.closest('form').parentElement.scrollTop = 0; window.scrollTo(0, 0) }"
    )
    name.evaluate("field => field.closest('form').requestSubmit()")
    alert = page.get_by_role("alert")
    sync.expect(alert).to_contain_text("already")
    sync.expect(alert).to_be_in_viewport(ratio=1)
    box = alert.bounding_box()
    on_top = "(text, [x, y]) => text.contains(document.elementFromPoint(x, y))"
    assert alert.evaluate(on_top, [box["x"] + 9, box["y"] + box["height"] / 2])


def test_a_size_has_the_types_that_go_with_it(watched, shelf):
    page = watched.page
    page.get_by_role("button", name="Models").click()
    mix_of(page).fill(MIX)
    outlook, types = page.get_by_role("region", name="What it would be"), page.get_by_role("group", name="Type")
    page.get_by_role("radio", name="Whole", exact=True).check()
    sync.expect(outlook.get_by_text("Whole changes")).to_be_visible(timeout=PATIENT)
    sync.expect(outlook.get_by_text("about 20 MB")).to_be_visible()
    sync.expect(types.get_by_role("radio")).to_have_count(4)
    sync.expect(page.get_by_text("No rank above")).to_have_count(0)

    page.get_by_role("radio", name="An error").check()
    sync.expect(types.get_by_role("radio")).to_have_count(2)
    sync.expect(page.get_by_role("radio", name="LoRA", exact=True)).to_be_checked()
    page.get_by_role("checkbox", name="No rank above").check()
    page.get_by_label("Largest as a number").fill("8")
    sync.expect(outlook.get_by_text("Ranks 3 to 8")).to_be_visible()
    sync.expect(outlook.get_by_text("error at most 12 %")).to_be_visible()
    named(page, "bounded")
    report = page.get_by_role("region", name="File bounded")
    sync.expect(report.get_by_text("ranks 3 to 8 (error at most 0.05 in every module, rank at most 8)")).to_be_visible(timeout=PATIENT)
    sync.expect(report.get_by_role("term").filter(has_text="Error of outputs")).to_be_visible()
    report.get_by_role("columnheader", name="of outputs").get_by_role("button").click()
    farthest = report.get_by_role("row").nth(1).get_by_role("cell").last.inner_text()
    sync.expect(report.get_by_role("definition").filter(has_text=f"at most {farthest}, in ")).to_be_visible()

    page.get_by_role("radio", name="LoKr").check()
    sync.expect(outlook.get_by_text("the curve is that of LoRAs")).to_be_visible()
    page.get_by_label("How large its first factor may be").select_option("4")
    named(page, "product")
    sync.expect(page.get_by_role("region", name="File product").get_by_text("lokr on 132 modules")).to_be_visible(timeout=PATIENT)
    assert {path.stem for path in shelf.iterdir()} == {"bounded", "product"}


def test_what_the_server_misses_is_asked_for_at_its_place(watched, server, shelf):
    write_ia3(shelf / "scaled.safetensors")
    server.post("/api/v1/networks/refresh")
    page = watched.page
    page.get_by_role("button", name="Models").click()
    mix_of(page).fill("<lora:scaled:1>")
    alert, weights = page.get_by_role("alert"), page.get_by_role("checkbox", name="Read the base’s weights")
    sync.expect(alert).to_contain_text("depends on the base's own weights; give the base", timeout=PATIENT)
    assert "--" not in alert.inner_text()
    sync.expect(weights).to_have_accessible_description(alert.inner_text())
    weights.check()
    sync.expect(alert).to_have_count(0)
    sync.expect(page.locator(".outlook:not(.busy)")).to_be_visible(timeout=PATIENT)
    page.get_by_role("radio", name="LoRA", exact=True).check()
    sync.expect(page.locator(".outlook")).to_contain_text("Not every change in this mix has an exact LoRA")


def test_a_file_can_be_interrupted(watched, shelf, monkeypatch):
    held = Held(monkeypatch)
    page = watched.page
    page.get_by_role("button", name="Models").click()
    mix_of(page).fill("<lora:delft:0.5>")
    named(page, "never")
    sync.expect(page.get_by_text(re.compile(r"^Module 3 of \d+$"))).to_be_visible(timeout=PATIENT)
    page.reload()
    page.get_by_role("button", name="Models").click()
    file = page.get_by_role("region", name="File never")
    file.get_by_role("button", name="Interrupt").click()
    held.go.set()
    sync.expect(file.get_by_text("Interrupted: nothing was written.")).to_be_visible(timeout=PATIENT)
    assert list(shelf.iterdir()) == []


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_everybody_can_save_a_mix(browser, server, width, scheme):
    """axe-core finds no fault, nothing is wider than the window, and a mix is saved with the keyboard alone."""
    watched = Watched(browser, server.address, viewport={"width": width, "height": 1040}, color_scheme=scheme, bypass_csp=True)
    page = watched.page
    watched.prompt().fill("octopus, zvz <lora:delft:0.8> <lora:mulberry:0.5>")  # of the denoiser alone: the form of one component
    page.get_by_role("button", name="Save this mix…").focus()
    page.keyboard.press("Enter")
    page.get_by_role("radio", name="Exact").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    sync.expect(page.get_by_label("Rank", exact=True)).to_be_focused()
    page.get_by_label("Rank as a number").fill("6")
    page.get_by_role("textbox", name="Name").fill("woven")
    page.keyboard.press("Enter")
    page.get_by_role("region", name="Modules").wait_for(timeout=PATIENT)
    page.locator(".outlook:not(.busy)").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert faults_of_access(page) == []
    if scheme == "light" and width == 1440:
        watched.shoot("extract")
    page.get_by_role("radio", name="An error").check()
    page.get_by_role("checkbox", name="No rank above").check()
    page.get_by_role("radio", name="LoKr").check()
    page.set_viewport_size({"width": width, "height": 1600})  # so that the button lies over no field
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert faults_of_access(page) == []
    watched.context.close()
    assert watched.faults == []
