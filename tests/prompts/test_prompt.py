"""Laws of prompts: tags leave the text cleanly, the rest stays as it was, emphasis is the WebUI's, lenient reading goes on."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraloom.errors import PromptError
from loraloom.prompts import compose, parse, parse_lenient, weighted


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a castle at night <lora:ink:0.8> <lora:neon:te=0.5>", "a castle at night"),
        ("a castle, <lora:ink:0.8>, at night", "a castle, at night"),
        ("a castle <lora:ink:0.8>, at night", "a castle, at night"),
        ("a castle, <lora:ink:0.8> at night", "a castle, at night"),
        ("a castle,<lora:ink:0.8>at night", "a castle,at night"),
        ("a castle <lora:ink:0.8> at night", "a castle at night"),
        ("a castle<lora:ink:0.8>at night", "a castle at night"),
        ("<lora:ink:0.8>, a castle", "a castle"),
        ("<lora:ink:0.8>a castle", "a castle"),
        ("a castle, <lora:ink:0.8>", "a castle"),
        ("a castle, <lora:a>, <lora:b>, <lora:c> , night", "a castle, night"),
        ("a castle <lora:ink>. Night", "a castle. Night"),
        ("a castle\n<lora:ink>\nnight", "a castle\nnight"),
        ("(a castle <lora:ink>:1.2), night", "(a castle:1.2), night"),
        ("(<lora:ink>, a castle:1.2)", "(a castle:1.2)"),
        ("night, (<lora:ink>:1.3), a castle", "night, a castle"),
        ("night [(<lora:ink>)] a castle", "night a castle"),
        (r"night \(<lora:ink>\)", r"night \(\)"),
        ("<lora:ink>", ""),
        ("", ""),
    ],
)
def test_tags_leave_no_stray_commas_or_spaces(source: str, text: str):
    assert parse(source).text == text


@pytest.mark.parametrize("text", ["<foo:bar>", "a <b> c", "x < y > z", "<lora-style>", "a,, b ,", "  two  spaces  ", "(a, b)"])
def test_a_text_without_tags_stays_as_it_is(text: str):
    prompt = parse(text)
    assert (prompt.text, prompt.loras, prompt.source) == (text, (), text)


words = st.text("abc,. é\n", max_size=8)


@given(st.lists(words, min_size=1, max_size=6))
def test_only_separators_beside_a_tag_change(parts: list[str]):
    text = parse("<lora:x:1>".join(parts)).text

    def plain(raw: str) -> str:
        return "".join(raw.replace(",", " ").split())

    assert plain(text) == plain("".join(parts))
    if len(parts) > 1:
        assert parse(text + "<lora:x:1>").text == text.rstrip(", \n")


@given(st.lists(words, min_size=1, max_size=6))
def test_text_and_tags_compose_to_a_prompt_that_reads_the_same(parts: list[str]):
    prompt = parse("<lora:ink:0.5>".join(["<lora:a b:te=0~1>", *parts]))
    again = parse(str(prompt))
    assert (again.text, again.loras) == (prompt.text.rstrip(", \n"), prompt.loras)
    assert str(prompt) == compose(prompt.text, prompt.loras)


def test_a_tag_knows_where_it_stands():
    first, second = parse("a <lora:x:1> b <lyco:y>").loras
    assert (first.column, first.length) == (2, 10)
    assert (second.column, second.length) == (15, 8)


def test_any_number_of_tags_in_order():
    names = [f"n{n}" for n in range(300)]
    assert [tag.name for tag in parse("".join(f"<lora:{name}>" for name in names)).loras] == names


@pytest.mark.parametrize(
    ("source", "text", "tags"),
    [
        ("a <lora:x:0.5:foo=1:te=2> b", "a b", ["<lora:x:0.5:te=2>"]),
        ("a <lora:x:much> b", "a b", ["<lora:x>"]),
        ("a <lora::0.5> b", "a b", []),
        ('a <lora:"x"y:0.5> b', "a b", []),
        ("a <lora:x:0.5 b", "a <lora:x:0.5 b", []),
        ('a <lora:"x:0.5> b', 'a <lora:"x:0.5> b', []),
        ("a <lora:x <lora:y:1> b", "a <lora:x b", ["<lora:y:1>"]),
        ("a <lora:x:start=5:stop=2>", "a", ["<lora:x:start=5>"]),
        ("a AND b [c:d:0.5]", "a AND b [c:d:0.5]", []),
    ],
)
def test_lenient_warns_and_goes_on(source: str, text: str, tags: list[str]):
    prompt, mistakes = parse_lenient(source)
    assert mistakes
    assert prompt.text == text
    assert [str(tag) for tag in prompt.loras] == tags


@pytest.mark.parametrize(
    "text", ["ANDROID", "BREAKFAST and break", "[word]", "[a: b]", "(a:1.2)", "[(a:1.2)]", r"\[a:b:0.5\]", "a:0.5", "a|b", "<lora:AND:1>"]
)
def test_what_only_looks_like_foreign_syntax_is_text(text: str):
    assert parse_lenient(text)[1] == ()


def test_an_overlong_prompt_is_refused_and_cut_when_lenient():
    with pytest.raises(PromptError, match="100001 characters") as caught:
        parse("x" * 100_001)
    assert caught.value.column == 100_000
    prompt, (mistake,) = parse_lenient("x" * 100_001)
    assert len(prompt.text) == 100_000
    assert mistake.column == 100_000


@pytest.mark.parametrize(
    "piece", ["<lora:", '<lora:"', "<lora:x>", "(", "[", "(<lora:x>)", ",", "<lora:x:1@1,", "[a:", '<lora:"\\', "(a:9)"]
)
def test_hostile_prompts_are_read_at_once(piece: str):
    """100,000 characters of anything: measured 0.02 to 0.3 s here, where quadratic reading would never seem to end."""
    prompt, _ = parse_lenient(piece * (100_000 // len(piece)))
    assert prompt.emphasis


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("normal text", [("normal text", 1)]),
        ("an (important) word", [("an ", 1), ("important", 1.1), (" word", 1)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        (r"\(literal\]", [("(literal]", 1)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        ("[less] ((more))", [("less", 1 / 1.1), (" ", 1), ("more", 1.1 * 1.1)]),
        ("(a:1.5) (b:-.5)", [("a", 1.5), (" ", 1), ("b", -0.5)]),
        ("(a: 1.5 )", [("a", 1.5)]),
        ("(a:0)", [("a", 0)]),
        ("(a:b)", [("a:b", 1.1)]),
        ("(a:1.2.3)", [("a:1.2.3", 1.1)]),
        ("a:1.5) ]", [("a:1.5) ]", 1)]),
        ("([a)b]", [("a", 1.1 / 1.1), ("b", 1 / 1.1)]),
        (r"back\\slash \x", [(r"back\slash x", 1)]),
        ("", [("", 1)]),
        ("()", [("", 1)]),
    ],
)
def test_emphasis_is_the_webuis(text: str, spans: list[tuple[str, float]]):
    """Expected values: the rules and examples in the docstring of the WebUI's parse_prompt_attention."""
    got = weighted(text)
    assert [piece for piece, _ in got] == [piece for piece, _ in spans]
    assert [weight for _, weight in got] == pytest.approx([weight for _, weight in spans])


def test_emphasis_multiplies_as_in_the_webuis_long_example():
    """The long example of the same docstring, its values."""
    expected = [
        ("a ", 1.0),
        ("house", 1.573),
        (" ", 1.1),
        ("on", 1.0),
        (" a ", 1.1),
        ("hill", 0.55),
        (", sun, ", 1.1),
        ("sky", 1.4641),
        (".", 1.1),
    ]
    got = weighted("a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).")
    assert [piece for piece, _ in got] == [piece for piece, _ in expected]
    assert [weight for _, weight in got] == pytest.approx([weight for _, weight in expected], rel=1e-3)


def test_tags_inside_brackets_are_not_scaled():
    prompt = parse("(a castle <lora:ink:0.8>:1.5)")
    assert prompt.emphasis == (("a castle", 1.5),)
    assert str(prompt.loras[0]) == "<lora:ink:0.8>"


@given(st.text("ab()[]:.12\\ "))
def test_weights_are_finite_and_neighbours_differ(text: str):
    spans = weighted(text)
    assert all(abs(weight) <= 1e12 for _, weight in spans)
    assert all(left[1] != right[1] for left, right in itertools.pairwise(spans))
