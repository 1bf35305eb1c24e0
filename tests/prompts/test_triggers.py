"""Laws of trigger words: where the prompt says `_tags_`, else at its end; never twice; nothing else changes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraloom.prompts import choose, give_triggers, parse, parse_lenient, with_strengths

WORD = st.sampled_from(
    ["zvz", "ink", "pink", "ink drawing", "a (b)", ":(", "x:y", "ZVZ", "été", "1girl", "(zvz:1.2)", "a, b", "\\(", "C++"]
)
PIECE = st.sampled_from(
    ["a cat", "_tags_", "<lora:ink:1>", ", ", " ", "(", ":1.2)", "Zvz", "pink", "<lora:_tags_:1>", "\n", "a_tags_b", "ink"]
)
PROMPT = st.lists(PIECE, max_size=8).map("".join)


@pytest.mark.parametrize(
    ("prompt", "words", "text"),
    [
        ("a cat", ("zvz", "ink"), "a cat, zvz, ink"),
        ("a cat <lora:ink:1>", ("zvz",), "a cat <lora:ink:1>, zvz"),
        ("", ("zvz",), "zvz"),
        ("a cat,", ("zvz",), "a cat, zvz"),
        ("a, _tags_, b", ("zvz", "ink"), "a, zvz, ink, b"),
        ("a, _tags_, b", (), "a, b"),
        ("_tags_", (), ""),
        ("a (_tags_:1.2) b", (), "a b"),
        ("a _tags_ b _tags_", ("zvz",), "a zvz b"),
        ("a ZVZ cat", ("zvz",), "a ZVZ cat"),
        ("a pink cat", ("ink",), "a pink cat, ink"),
        ("ink  drawing", ("ink drawing",), "ink  drawing"),
        ("a cat", ("ink drawing", "ink"), "a cat, ink drawing"),
        ("<lora:zvz:1>", ("zvz",), "<lora:zvz:1>, zvz"),  # a name is not a word
        ("<lora:_tags_:1> a", ("zvz",), "<lora:_tags_:1> a, zvz"),
        ("my_tags_x", ("zvz",), "my_tags_x, zvz"),
        ("a cat", (":(", "a (b)"), "a cat, :\\(, a (b)"),
        (" a  cat ", (), " a  cat "),
    ],
)
def test_words_stand_where_they_should(prompt, words, text):
    assert give_triggers(prompt, words).text == text


@given(PROMPT, st.lists(WORD, max_size=4))
def test_giving_again_changes_nothing(prompt, words):
    once = give_triggers(prompt, words)
    assert give_triggers(once.text, words) == (once.text, (), once.left_out)


@given(PROMPT, st.lists(WORD, max_size=4))
def test_every_word_is_said_and_no_mark_stays(prompt, words):
    given = give_triggers(prompt, words)
    text = parse_lenient(given.text)[0].text
    assert not re.search(r"(?<!\w)_tags_(?!\w)", text)
    assert not given.left_out
    for word in given.words:
        assert word in given.text
    assert len({word.lower() for word in given.words}) == len(given.words)


@given(PROMPT, st.lists(WORD, max_size=4))
def test_tags_stay_as_they_are(prompt, words):
    before, after = parse_lenient(prompt)[0], parse_lenient(give_triggers(prompt, words).text)[0]
    assert after.loras == before.loras


@given(PROMPT.filter(lambda text: "_tags_" not in text), st.lists(WORD, max_size=4))
def test_without_a_mark_the_prompt_is_the_beginning(prompt, words):
    given = give_triggers(prompt, words)
    assert given.text.startswith(prompt.rstrip())
    assert given.text == prompt or given.words


@given(st.text(max_size=40), st.lists(st.text(max_size=20), max_size=4))
def test_any_text_is_taken(prompt, words):
    given = give_triggers(prompt, words)
    assert give_triggers(given.text, words).text == given.text


@pytest.mark.parametrize("word", ["<lora:x:1>", "rock AND roll", "BREAK", "_tags_", "a>b", "[a:b:0.5]", "x" * 200_000])
def test_a_word_that_no_prompt_can_say_is_left_out(word):
    assert give_triggers("a cat", [word, "zvz"]) == ("a cat, zvz", ("zvz",), (word,))


def test_words_from_strangers_never_make_a_prompt_too_long():
    given = give_triggers("a cat", [f"word {number} {'x' * 200}" for number in range(1000)])
    parse(given.text)
    assert given.left_out


def test_choose_takes_what_the_setting_says():
    words = ("a", "b", "c")
    assert [choose(words, count) for count in (0, 1, 9, -1)] == [(), ("a",), words, words]


def test_numbers_are_written_into_tags_and_nothing_else_changes():
    prompt = parse("a <lora:ink>,  <lyco:x:te=0.5>(b) <lora:y:1>")
    columns = [tag.column for tag in prompt.loras]
    assert with_strengths(prompt, {}) == prompt.source
    assert with_strengths(prompt, {columns[0]: 0.4, columns[1]: 2}) == "a <lora:ink:0.4>,  <lora:x:2:te=0.5>(b) <lora:y:1>"
