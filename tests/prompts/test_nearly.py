"""Laws of what is nearly a tag: found at its place with what to write, never drawn as words, and plain text stays plain text."""

import pytest

from loraloom.errors import PromptError
from loraloom.prompts import parse, parse_lenient

INK = "<lora:ink:0.8>"


# The mark ^ stands before the first character of the mistake and after its last, and is not part of the prompt.
@pytest.mark.parametrize(
    ("marked", "meant"),
    [
        ("a ^&lt;lora:ink:0.8&gt;^ b", INK),
        ("a ^&#60;lora:ink:0.8&#x3E;^ b", INK),
        ("a ^&amp;lt;lora:ink:0.8&amp;gt;^ b", INK),
        ("a ^%3Clora%3aink:0.8%3E^ b", INK),
        (r"a ^\u003clora:ink:0.8\u003e^ b", INK),
        (r"a ^\<lora\:ink\:0.8\>^ b", INK),
        ("a ^＜lora：ink：0.8＞^ b", INK),
        ("a ^＜ｌｏｒａ：ink：０.８＞^ b", INK),
        ("a ^〈lora:ink:0.8〉^ b", INK),
        ("a ^《lora：ink：0.8》^ b", INK),
        ("a ^⟨lora:ink:0.8⟩^ b", INK),
        ("a ^< lora:ink:0.8>^ b", INK),
        ("a ^<lora :ink:0.8>^ b", INK),
        ("a ^<\u00a0lora:ink:0.8>^ b", INK),
        ("a ^<lora=ink:0.8>^ b", INK),
        ("a ^<lora;ink;0.8>^ b", INK),
        ("a ^<lora ink:0.8>^ b", INK),
        ("a ^</lora:ink:0.8>^ b", INK),
        ("a ^<\u200blora:ink:0.8>^ b", INK),
        ("a ^<lora\ufeff:ink:0.8>^ b", INK),
        ("a ^<l\u043era:ink:0.8>^ b", INK),  # the second letter is Cyrillic
        ("a ^<lroa:ink:0.8>^ b", INK),
        ("a ^<loras:ink:0.8>^ b", INK),
        ("a ^<lycoris:ink:0.8>^ b", INK),
        ("a ^[lora:ink:0.8]^ b", INK),
        ("a ^(lora:ink:0.8)^ b", INK),
        ("a ^{lora:ink:0.8}^ b", INK),
        ("a ^lora:ink:0.8^ b", INK),
        ("a ^withLora(ink, 0.8)^ b", INK),
        ("a ^useLora(ink,0.8)^ b", INK),
        ("a ^< loha:ink:0.8>^ b", "<loha:ink:0.8>"),
        ("a ^<lora>^ b", INK),
    ],
)
def test_it_is_found_and_left_out_of_the_text(marked: str, meant: str):
    _, inside, _ = marked.split("^")
    source = marked.replace("^", "")
    with pytest.raises(PromptError) as caught:
        parse(source)
    assert (caught.value.column, caught.value.length) == (2, len(inside))
    assert f"write {meant}" in caught.value.message
    prompt, mistakes = parse_lenient(source)
    assert (prompt.text, prompt.loras, len(mistakes)) == ("a b", (), 1)
    assert parse(meant).loras  # what is suggested is a tag


@pytest.mark.parametrize(
    ("source", "column", "length"), [("a &lt;lora:ink:1 b", 2, 8), ("a < lora:ink:1", 2, 6), ("a ＜lora：ink", 2, 5), ("a <lora", 2, 5)]
)
def test_what_is_not_closed_is_found_and_stays(source: str, column: int, length: int):
    prompt, (mistake,) = parse_lenient(source)
    assert (mistake.column, mistake.length) == (column, length)
    assert prompt.text == source


@pytest.mark.parametrize("source", ["<hypernet:ink:1>", "< hypernet :ink:1>", "&lt;hypernet:ink:1&gt;"])
def test_hypernetworks_are_refused_by_name(source: str):
    prompt, (mistake,) = parse_lenient(source)
    assert "hypernetworks are not supported" in str(mistake)
    assert prompt.text == ""


def test_tags_beside_it_are_read():
    prompt, mistakes = parse_lenient("a <lora:x:1> &lt;lora:y:1&gt; (b <lora:z:1>:1.2) lora:v:1")
    assert [tag.name for tag in prompt.loras] == ["x", "z"]
    assert [mistake.column for mistake in mistakes] == [13, 49]
    assert prompt.text == "a (b:1.2)"


@pytest.mark.parametrize(
    "text",
    [
        "<dora the explorer>",
        "(dora: the explorer)",
        "(lora:1.2), [lora]",
        "a LoRA: style, 4:3",
        "lora:2",
        "<flora:rose>",
        "<lorapaint:1>",
        "《anime》 ：lora",
        "&lt;b&gt; 1 &lt; 2",
        r"\(lora\)",
        "C:lora, a%3cb",
        "with lora (soft)",
    ],
)
def test_plain_text_stays_plain_text(text: str):
    prompt, mistakes = parse_lenient(text)
    assert (prompt.text, mistakes) == (text, ())


def test_a_name_may_hold_what_nobody_sees_in_quotes():
    (tag,) = parse('<lora:"a\u200bb":1>').loras
    assert tag.name == "a\u200bb"
    assert str(tag) == '<lora:"a\u200bb":1>'


@pytest.mark.parametrize(
    "piece", ["< lora:", "lora:x:", "[lora:", "withlora(", "&lt;lora:", "＜lora：", "&lt;lora:x:1&gt;", "&amp;", "<lroa:x:1"]
)
def test_hostile_prompts_are_read_at_once(piece: str):
    """100,000 characters: measured 0.05 to 0.7 s here, where quadratic reading would never seem to end."""
    assert parse_lenient(piece * (100_000 // len(piece)))[0].source
