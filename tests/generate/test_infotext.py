"""Laws of recipes: what was written is read back, in the WebUI's own form; strangers' texts never raise."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from loraloom.errors import FileError
from loraloom.generate.infotext import Recipe, read_recipe
from loraloom.generate.save import save_png

RECIPE = Recipe(
    prompt="a castle, at night <lora:ink:0.8>",
    negative_prompt="people, cars",
    steps=20,
    sampler="DPM++ 2M Karras",
    guidance=2.5,
    seed=7,
    width=64,
    height=96,
    model="tiny",
    lora_hashes={"ink": "0123456789ab", "odd: name, with marks": "ba9876543210"},
    extra={"Version": "loraloom 0.1.0"},
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
hard = st.sampled_from(
    ["", "Negative prompt: x", "a\nNegative prompt:", "Steps: 1, Sampler: a, Seed: 2", ' "a" ', "\r\n ", "a\\", "\u2028", "a: b, c"]
)
hashes = st.dictionaries(st.from_regex(r"[\w .-]{1,12}", fullmatch=True), st.from_regex("[0-9a-f]{12}", fullmatch=True), max_size=3)


def test_the_text_is_the_webuis():
    # Its png_info, as modules/processing.py of the WebUI writes it.
    assert str(RECIPE) == (
        "a castle, at night <lora:ink:0.8>\nNegative prompt: people, cars\n"
        "Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 2.5, Seed: 7, Size: 64x96, Model: tiny, "
        'Lora hashes: "ink: 0123456789ab, odd: name, with marks: ba9876543210", Version: loraloom 0.1.0'
    )


def test_the_webuis_own_expression_reads_it():
    # modules/infotext_utils.py: re_param_code
    theirs = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
    found = dict(theirs.findall(str(RECIPE).splitlines()[-1]))
    assert found["Seed"] == "7"
    assert found["Lora hashes"] == '"ink: 0123456789ab, odd: name, with marks: ba9876543210"'


@given(
    prompt=texts | hard,
    negative=texts | hard,
    model=texts | hard,
    lora_hashes=hashes,
    guidance=st.none() | st.floats(0, 100),
    seed=st.integers(0, 2**53),
    version=texts | hard,
)
def test_every_recipe_reads_back_equal(prompt, negative, model, lora_hashes, guidance, seed, version):
    recipe = Recipe(prompt, negative, 20, "Euler a", guidance, seed, 64, 64, model, lora_hashes, {"Version": version})
    assert Recipe.parse(str(recipe)) == recipe


@given(texts | st.text('Steps: ,\n"\\x1', max_size=200))
def test_any_text_is_read_without_an_error(text):
    assert isinstance(Recipe.parse(text), Recipe)


@pytest.mark.parametrize("text", ["a" * 10**6, "a: " * 10**5, '"' * 10**5, " " * 10**6, "a, " * 10**5])
def test_a_text_from_a_stranger_takes_linear_time(text):
    Recipe.parse(f"{text}\n{text}")


def test_other_programs_recipes_are_read():
    parameters = "Steps: 30, Sampler: Euler a, Seed: 5, Hires upscale: 2, Clip skip: 2"
    recipe = Recipe.parse(f"a cat\nsecond line\nNegative prompt: dogs\nand cars\n{parameters}")
    assert (recipe.prompt, recipe.negative_prompt, recipe.steps) == ("a cat\nsecond line", "dogs\nand cars", 30)
    assert recipe.extra == {"Hires upscale": "2", "Clip skip": "2"}


def test_a_png_carries_its_recipe(tmp_path):
    recipe = Recipe(prompt="ein Schloß, 城 <lora:ink>", steps=4, sampler="DDIM", model="tiny")
    path = save_png(Image.new("RGB", (8, 8)), tmp_path / "a.png", str(recipe))
    assert read_recipe(path) == recipe


def test_a_picture_without_a_recipe_is_an_error_that_says_so(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("not a picture")
    with pytest.raises(FileError, match="carries no recipe"):
        read_recipe(tmp_path / "a.png")
    with pytest.raises(FileError, match="not a picture"):
        read_recipe(tmp_path / "b.png")
