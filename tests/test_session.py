"""Laws of the session: tags change the picture and nothing else, names lead to one file, and every mistake says its place."""

import numpy as np
import pytest

from loraloom import GridRequest, ImageRequest, LoraError, Session, Settings
from loraloom.bases import SD1
from loraloom.errors import Ambiguous, FileError, MatchError, NotFound, NotSupported, PromptError, WrongBase
from loraloom.generate.infotext import Recipe
from loraloom.session import Recent


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_lora):
    path = tmp_path_factory.mktemp("loras")
    make_lora(path / "ink.safetensors", seed=1, metadata={"ss_output_name": "Black ink"})
    make_lora(path / "styles" / "neon.safetensors", seed=2)
    make_lora(path / "a" / "twin.safetensors", seed=3)
    make_lora(path / "b" / "twin.safetensors", seed=4)
    make_lora(path / "sd.safetensors", SD1, rank=1)
    (path / "text.safetensors").write_text("this is only a text")
    return path


@pytest.fixture(scope="module")
def session(folder):
    return Session(lora_folders=[folder])


@pytest.fixture(scope="module")
def draw(session):
    def drawn(prompt, **values):
        return session.generate(ImageRequest(**{"prompt": prompt, "base": "nano", "seed": 5, **values}))

    return drawn


def pixels(picture):
    return np.asarray(picture.image, dtype=int)


def test_a_tag_changes_the_picture_and_strength_0_does_not(draw):
    [base], [ink], [off], [after] = draw("a cat"), draw("a cat <lora:ink:1>"), draw("a cat <lora:ink:0>"), draw("a cat")
    assert abs(pixels(base) - pixels(ink)).max() > 10
    assert (pixels(base) == pixels(off)).all()
    assert (pixels(base) == pixels(after)).all()
    assert base.report is None
    assert [network.name for network in ink.report.networks] == ["ink"]
    assert off.report.networks[0].off


def test_explain_says_what_a_drawing_would_do_and_leaves_the_base_alone(session, draw):
    [before] = draw("a cat")
    request = ImageRequest(prompt="a cat <lora:ink:unet=0~1> <lora:neon:0>", base="nano", seed=5)
    explained = session.explain(request)
    assert explained.report.mode == "mixed"  # the text encoder's strength does not change
    ink, neon = explained.report.networks
    assert sum(coverage.applied for coverage in ink.blocks.values()) == sum(ink.applied.values()) > 0
    assert neon.off
    for words in ("made for loraloom nano 1", "lora, rank 4, ×", "(alpha from the file)", "unet: in "):
        assert words in explained.report.details
    [drawn] = session.generate(request)
    assert drawn.report.networks[0].blocks == ink.blocks
    assert (pixels(before) == pixels(draw("a cat")[0])).all()
    assert session.explain(ImageRequest(prompt="a cat", base="nano")).report is None


def test_several_pictures_equal_those_drawn_alone(draw):
    together = draw("a cat <lora:ink:0.7>", pictures=5)
    assert [picture.seed for picture in together] == [5, 6, 7, 8, 9]
    for picture in together:
        [alone] = draw("a cat <lora:ink:0.7>", seed=picture.seed)
        assert abs(pixels(alone) - pixels(picture)).max() <= 1
        assert picture.recipe == alone.recipe


def test_a_run_that_is_stopped_keeps_what_was_finished(session, draw):
    [before] = draw("a cat <lora:ink:0.7>")
    finished = []

    def stop_at_the_third(index, picture):
        finished.append((index, picture))
        if index == 2:
            raise KeyboardInterrupt

    request = ImageRequest(prompt="a cat <lora:ink:0.7>", base="nano", seed=5, sampler="Euler", pictures=40)
    with pytest.raises(KeyboardInterrupt):
        session.generate(request, on_picture=stop_at_the_third)
    assert [(index, picture.seed) for index, picture in finished] == [(0, 5), (1, 6), (2, 7)]
    assert (pixels(draw("a cat <lora:ink:0.7>")[0]) == pixels(before)).all()  # networks and sampler are as before


def test_the_same_network_twice_adds_up(draw):
    [once], [twice] = draw("a cat <lora:ink:0.75>"), draw("a cat <lora:ink:0.5> <lora:Black ink:0.25>")
    assert abs(pixels(once) - pixels(twice)).max() <= 1  # two rounded sums
    assert len(twice.report.networks) == 1


def test_order_and_place_of_tags_mean_nothing(draw):
    pictures = [draw(text)[0] for text in ("a cat <lora:ink> <lora:neon>", "<lora:styles/neon>a cat<lora:ink:1>")]
    assert abs(pixels(pictures[0]) - pixels(pictures[1])).max() <= 1


def test_merge_and_branch_draw_the_same(draw):
    pictures = [draw("a cat <lora:ink> <lora:neon:0.5>", mode=mode)[0] for mode in ("merge", "branch")]
    assert abs(pixels(pictures[0]) - pixels(pictures[1])).max() <= 1
    assert [picture.report.mode for picture in pictures] == ["merge", "branch"]


def test_a_tag_without_a_number_has_the_settings_strength(draw, folder, monkeypatch):
    monkeypatch.setenv("LORALOOM_DEFAULT_STRENGTH", "0.3")
    request = ImageRequest(prompt="a cat <lora:ink>", base="nano", seed=5)
    [picture] = Session(lora_folders=[folder]).generate(request)
    assert (pixels(picture) == pixels(draw("a cat <lora:ink:0.3>")[0])).all()


def test_the_recipe_draws_the_picture_again(session, draw):
    [picture] = draw("a cat, sitting <lora:ink:0.7>", negative_prompt="dogs", steps=5, guidance=3.0, sampler="Euler a", width=24, seed=None)
    recipe = Recipe.parse(str(picture.recipe))
    assert recipe == picture.recipe
    request = ImageRequest(
        prompt=recipe.prompt,
        negative_prompt=recipe.negative_prompt,
        steps=recipe.steps,
        guidance=recipe.guidance,
        sampler=recipe.sampler,
        seed=recipe.seed,
        width=recipe.width,
        height=recipe.height,
        base=recipe.model,
    )
    assert (pixels(session.generate(request)[0]) == pixels(picture)).all()
    assert list(recipe.lora_hashes) == ["ink"]
    assert len(recipe.lora_hashes["ink"]) == 12


@pytest.mark.parametrize(
    ("prompt", "error", "lines"),
    [
        ("a cat <lora:inc:1>", NotFound, ['no LoRA named "inc"; did you mean "ink"?', "  a cat <lora:inc:1>", "        ^^^^^^^^^^^^"]),
        (
            "a cat <lora:twin>",
            Ambiguous,
            ['"twin" is the name of 2 LoRAs; write one of\n  a/twin\n  b/twin', "  a cat <lora:twin>\n        ^^^^^^^^^^^"],
        ),
        ("a cat <lora:ink", PromptError, ["this tag is not closed; add a >", "  a cat <lora:ink", "        ^^^^^^"]),
        ("a <lora:ink:tee=1>", PromptError, ['unknown key "tee"', "  a <lora:ink:tee=1>", "              ^^^"]),
        ("a <lora:ink:dyn=2> <lora:ink>", PromptError, ["give both the same dyn", "  a <lora:ink:dyn=2> <lora:ink>", " " * 21 + "^" * 10]),
        ("a <lora:text>", FileError, ["text.safetensors: ", "not a safetensors file"]),
        ("a <lora:sd>", WrongBase, ["sd.safetensors was made for SD 1.x", "the base is loraloom nano 1"]),
        ("a <lora:sd:0>", WrongBase, ["sd.safetensors was made for SD 1.x"]),  # strength 0 is checked all the same
    ],
)
def test_a_mistake_says_what_where_and_what_to_do(draw, prompt, error, lines):
    with pytest.raises(error) as raised:
        draw(prompt)
    assert isinstance(raised.value, LoraError)
    for line in lines:
        assert line in str(raised.value)


def test_what_is_nearly_a_tag_is_a_note_and_no_words_where_mistakes_are_let_pass(draw):
    [plain], [lenient] = draw("a cat"), draw("a cat &lt;lora:ink:1&gt;", lenient=True)
    assert (pixels(plain) == pixels(lenient)).all()
    assert any("write <lora:ink:1>" in note for note in lenient.notes)


def test_a_key_that_reaches_nothing_is_a_note(draw):
    [picture] = draw("a cat <lora:ink:1:te2=0.5>")
    assert "ink: te2= acts on nothing: this base has no text_encoder_2" in picture.notes


def test_missing_networks_are_left_out_where_that_is_asked_for(session, draw):
    [with_ink], [skipped] = draw("a cat <lora:ink:0.7>"), draw("a cat <lora:ink:0.7> <lora:none:1>", skip_missing=True)
    assert (pixels(with_ink) == pixels(skipped)).all()
    assert any('no LoRA named "none"' in note for note in skipped.notes)
    for prompt, error in (("a <lora:twin>", Ambiguous), ("a <lora:ink:tee=1>", PromptError)):  # there, or no name's mistake
        with pytest.raises(error):
            draw(prompt, skip_missing=True)
    sheet = session.grid(
        GridRequest(prompts=("a <lora:none>", "b"), loras=("ink",), strengths=(1,), base="nano", seed=1, skip_missing=True)
    )
    assert any('no LoRA named "none"' in note for note in sheet.notes)
    lenient = session.grid(GridRequest(prompts=("a <lora:twin> <lora:ink:tee=1>",), base="nano", seed=1, lenient=True))
    assert len(lenient.notes) == 2


def test_mistakes_in_a_prompt_are_found_before_the_base_is_opened(session):
    for prompt in ("<lora:nothing>", "<lora:ink", "[a:b:0.5]"):
        with pytest.raises((NotFound, PromptError)):
            session.generate(ImageRequest(prompt=prompt, base="no such base"))


def test_a_schedule_draws_what_its_numbers_say(draw):
    steady, early, late = (pixels(draw(f"a cat <lora:ink:{value}>")[0]) for value in ("0.9", "0.9@1,0@3", "0@1,0.9@3"))
    assert abs(steady - early).max() > 3
    assert abs(steady - late).max() > 3
    assert abs(early - late).max() > 3
    assert (pixels(draw("a cat <lora:ink:0.9@1,0.9@3>")[0]) == steady).all()
    assert draw("a cat <lora:ink:0~1>")[0].report.mode == "branch"
    assert "position 9 is after the last of 4 steps" in " ".join(draw("a cat <lora:ink:0.1@1,0.9@9>")[0].notes)


def test_a_tag_in_the_negative_prompt_runs_on_its_half(draw):
    [plain], [negative] = (draw("a cat", negative_prompt=text) for text in ("dogs", "dogs <lora:ink:1>"))
    assert abs(pixels(plain) - pixels(negative)).max() > 3
    assert negative.recipe.negative_prompt == "dogs <lora:ink:1>"
    [without] = draw("a cat", negative_prompt="dogs <lora:ink:1>", guidance=1.0)
    assert "tags in the negative prompt do nothing" in " ".join(without.notes)
    assert (pixels(without) == pixels(draw("a cat", negative_prompt="dogs", guidance=1.0)[0])).all()


def test_a_part_that_does_not_fit_is_said_and_strict_refuses_it(session, folder, make_lora):
    from safetensors.torch import load_file, save_file

    path = make_lora(folder / "partial.safetensors", seed=6)
    from loraloom.tensorfile import Header

    save_file(load_file(path) | {"lora_unet_nowhere.lora_up.weight": load_file(path).popitem()[1]}, path, Header.read(path).metadata)
    [picture] = session.generate(ImageRequest(prompt="a <lora:partial>", base="nano", seed=1))
    assert any("partial: 1 keys are not used, such as lora_unet_nowhere" in note for note in picture.notes)
    with pytest.raises(MatchError, match="lora_unet_nowhere"):
        session.generate(ImageRequest(prompt="a <lora:partial>", base="nano", seed=1, strict=True))


def test_a_changed_file_is_read_anew(tmp_path, make_lora):
    session, request = Session(lora_folders=[tmp_path]), ImageRequest(prompt="a <lora:x>", base="nano", seed=1)
    pictures = []
    for seed in (1, 2):
        make_lora(tmp_path / "x.safetensors", seed=seed)
        pictures += session.generate(request)
    assert abs(pixels(pictures[0]) - pixels(pictures[1])).max() > 5
    assert pictures[0].recipe.lora_hashes != pictures[1].recipe.lora_hashes


def test_what_is_kept_is_bounded_by_its_weight():
    kept, made = Recent(10, len), []

    def get(text):
        kept.get(text, lambda: made.append(text) or text)

    for text in ("aaaa", "bbbb", "aaaa", "cc", "aaaa", "bbbb"):
        get(text)
    assert made == ["aaaa", "bbbb", "cc"]
    get("ddd")  # 13 do not fit: cc was not asked for the longest, then aaaa
    for text in ("bbbb", "ddd", "aaaa"):
        get(text)
    assert made == ["aaaa", "bbbb", "cc", "ddd", "aaaa"]
    get("x" * 99)
    get("bbbb")
    assert made[-2:] == ["x" * 99, "bbbb"]


def test_every_cell_of_a_grid_is_what_generate_draws(session, draw):
    request = GridRequest(
        prompts=("a cat", "a red house <lora:neon:0.3>"),
        loras=("ink",),
        strengths=(0, 0.5, 1),
        columns=({"label": "both", "tags": "<lora:ink:0.5> <lora:neon:0.5>"},),
        base="nano",
        seed=5,
    )
    sheet = session.grid(request)
    assert len(sheet.pictures) == 2
    for row in sheet.pictures:
        assert len(row) == 4
        for cell in row:
            assert cell.seed == 5
            [alone] = draw(cell.recipe.prompt)
            assert abs(pixels(alone) - pixels(cell)).max() <= 1
    assert session.grid(sheet.request).image.tobytes() == sheet.image.tobytes()


@pytest.mark.parametrize("wish", ["request", "settings"])
def test_a_loader_that_is_asked_for_draws_the_same_and_says_so(folder, draw, wish):
    session = Session(Settings(loader="diffusers") if wish == "settings" else None, lora_folders=[folder])
    loader = "diffusers" if wish == "request" else None
    [native] = draw("a cat <lora:ink:0.7> <lora:neon:unet=0.4>")
    values = {"base": "nano", "seed": 5, "loader": loader}
    [found] = session.generate(ImageRequest(prompt="a cat <lora:ink:0.7> <lora:neon:unet=0.4>", **values))
    assert abs(pixels(native) - pixels(found)).max() <= 1
    assert (found.report.mode, found.report.reason) == ("diffusers", "asked for")
    assert "LoRAs ran through diffusers: asked for" in found.notes
    assert native.recipe == found.recipe
    with pytest.raises(NotSupported, match="leave LoRA tags out of the negative prompt"):
        session.generate(ImageRequest(prompt="a cat <lora:ink>", negative_prompt="<lora:neon>", **values))


def test_a_sheet_through_diffusers_equals_the_native_one(folder):
    session, request = Session(lora_folders=[folder]), {"prompts": ("a cat", "a dog"), "loras": ("ink",), "seed": 5, "base": "nano"}
    native, found = (session.grid(GridRequest(**request, loader=loader)) for loader in ("native", "diffusers"))
    assert abs(np.asarray(native.image, dtype=int) - np.asarray(found.image, dtype=int)).max() <= 1
    assert found.notes == ("LoRAs ran through diffusers: asked for",)


def test_a_lenient_request_draws_on_and_says_what_was_wrong(session):
    request = ImageRequest(prompt="a cat <lora:nowhere:1> <lora:ink:oops=3>", base="nano", seed=1, lenient=True)
    notes = "\n".join(session.generate(request)[0].notes)
    assert 'no LoRA named "nowhere"' in notes
    assert "oops" in notes


def test_a_session_without_paths_opens_no_file_by_its_path(folder):
    closed = Session(lora_folders=[folder], paths=False)
    with pytest.raises(NotFound, match="no LoRA named"):
        closed.check(ImageRequest(prompt=f"a cat <lora:{folder / 'ink.safetensors'}:1>"))


def test_words_and_strengths_that_were_given_unasked_are_in_the_recipe_which_draws_the_picture_again(tmp_path, make_lora):
    """Also where the setting is off and no notes lie beside the files."""
    for folder in ("noted", "plain"):
        make_lora(tmp_path / folder / "ink.safetensors", seed=1, metadata={"modelspec.trigger_phrase": "zvz, flat"})
        make_lora(tmp_path / folder / "neon.safetensors", seed=2)
    (tmp_path / "noted" / "neon.json").write_text('{"activation text": "glow", "preferred weight": 0.6}')
    here = Session(Settings(auto_apply_triggers=-1, default_strength=0.5), lora_folders=[tmp_path / "noted"])
    there = Session(lora_folders=[tmp_path / "plain"])
    values = {"base": "nano", "seed": 5}
    request = ImageRequest(prompt="_tags_, a cat <lora:neon> <lora:ink>", negative_prompt="dogs, _tags_", **values)
    [picture] = here.generate(request)
    assert picture.recipe.prompt == "glow, zvz, flat, a cat <lora:neon:0.6> <lora:ink:0.5>"
    assert picture.recipe.negative_prompt == "dogs"
    assert "trigger words added to the prompt: glow, zvz, flat" in picture.notes
    recipe = Recipe.parse(str(picture.recipe))
    for session in (here, there):
        again = session.generate(ImageRequest(prompt=recipe.prompt, negative_prompt=recipe.negative_prompt, **values))
        assert (pixels(again[0]) == pixels(picture)).all()
        assert again[0].recipe == picture.recipe
    [plain] = there.generate(request)
    assert plain.recipe.prompt == "a cat <lora:neon> <lora:ink>"
    assert (pixels(plain) != pixels(picture)).any()


def test_each_prompt_of_a_sheet_gets_the_words_of_its_own_networks(tmp_path, make_lora):
    for seed, (name, word) in enumerate((("ink", "zvz"), ("neon", "glow"))):
        make_lora(tmp_path / f"{name}.safetensors", seed=seed, metadata={"modelspec.trigger_phrase": word})
    session = Session(Settings(auto_apply_triggers=1), lora_folders=[tmp_path])
    sheet = session.grid(GridRequest(prompts=("a cat", "a dog <lora:neon:1>"), loras=("ink",), strengths=(1,), base="nano", seed=5))
    prompts = [[cell.recipe.prompt for cell in row] for row in sheet.pictures]
    assert prompts == [["a cat", "a cat <lora:ink:1>, zvz"], ["a dog <lora:neon:1>, glow", "a dog <lora:neon:1> <lora:ink:1>, glow, zvz"]]


def test_the_catalogue_is_kept_and_sees_a_folder_that_comes(tmp_path, make_lora, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = Session()
    catalogue = session.catalogue()
    assert session.catalogue() is catalogue
    make_lora(tmp_path / "loras" / "late.safetensors")
    session.generate(ImageRequest(prompt="a cat <lora:late:1>", base="nano", seed=1))
    assert session.catalogue() is not catalogue
    assert "late" in [item.name for item in session.catalogue().items]
