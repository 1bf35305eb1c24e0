"""Laws of parts: a word means what the prompt language means by it, and nothing else has a meaning."""

import pytest

from loraloom.bases import BASES, NANO, NANOXL, SD1, SDXL
from loraloom.combine import part
from loraloom.errors import SettingsError
from loraloom.prompts import parse


def places(word, base):
    return {layer.place for layer in base.layers if part(word, base)(layer.place)}


@pytest.mark.parametrize("base", [NANO, NANOXL, SDXL], ids=lambda base: base.family)
@pytest.mark.parametrize("word", ["te", "te1", "te2", "unet", "transformer", "in", "mid", "out"])
def test_a_word_means_where_a_prompt_with_it_alone_is_on(word, base):
    (tag,) = parse(f"<lora:x:0:{word}=1>").loras
    strength = tag.strength(1.0)
    assert places(word, base) == {layer.place for layer in base.layers if strength.at(layer.place, 1, 1)}


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.family)
def test_components_and_blocks_are_those_of_the_base(base):
    for component in base.components:
        assert {place.component for place in places(component, base)} == {component}
    assert len(base.block_names) == base.blocks
    for number, name in base.block_names.items():
        assert {place.block for place in places(name, base)} == {number}
        assert places(name.lower(), base) == places(name, base)
    assert set.union(*(places(name, base) for name in base.block_names.values())) <= places("unet", base)


def test_blocks_count_as_block_weights_do():
    """formats.md §6: 12 in, 1 mid, 12 out; SDXL 9, 1, 9."""
    for base, half in ((SD1, 12), (SDXL, 9)):
        names = [*(f"IN{n:02}" for n in range(half)), "M00", *(f"OUT{n:02}" for n in range(half))]
        assert list(base.block_names.values()) == names


def test_a_preset_is_the_blocks_that_it_lists():
    assert {place.third for place in places("OUTALL", SD1)} == {None, "out"}
    with pytest.raises(SettingsError, match="no part of SDXL"):
        part("OUTALL", SDXL)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("unett", 'did you mean "unet"'),
        ("IN99", "did you mean"),
        ("text_encoder_2", 'did you mean "text_encoder"'),
        ("", "there are te, te1"),
    ],
)
def test_a_word_without_meaning_gets_the_nearest(word, hint):
    with pytest.raises(SettingsError, match=f'"{word}" is no part of loraloom nano 1; .*{hint.removeprefix("; ")}'):
        part(word, NANO)
