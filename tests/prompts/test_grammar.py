"""Laws of tags: every form of product.md §3 reads as it says, every mistake is found at its column, every tag's text reads back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraloom.errors import LoraError, PromptError
from loraloom.prompts import LoraTag, parse, parse_lenient
from loraloom.prompts.tag import SCHEDULE_KEYS
from loraloom.schedule import Point, Position, Schedule, never_on
from loraloom.strength import LBW_PRESETS, MODULES, Place, Strength

TE, TE2, IN, MID, OUT = (
    Place("text_encoder"),
    Place("text_encoder_2"),
    Place("unet", "in", 1),
    Place("unet", "mid", 12),
    Place("unet", "out", 20),
)


def tag(text: str) -> LoraTag:
    (found,) = parse(text).loras
    return found


def numbers(text: str, default: float = 1.0, step: int = 1, steps: int = 1) -> list[float]:
    strength = tag(text).strength(default)
    return [strength.at(place, step, steps) for place in (TE, TE2, IN, MID, OUT)]


def run(value: str, steps: int) -> list[float]:
    return [tag(f"<lora:x:{value}>").strength(1).at(IN, step, steps) for step in range(1, steps + 1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<lora:x>", [0.7] * 5),
        ("<lora:x:0.3>", [0.3] * 5),
        ("<lyco:x:0.3>", [0.3] * 5),
        ("<LoRA: x : .3 >", [0.3] * 5),
        ("<lora:x:-1>", [-1] * 5),
        ("<lora:x:2e-1>", [0.2] * 5),
        ("<lora:x:0.3:0.9>", [0.3, 0.3, 0.9, 0.9, 0.9]),
        ("<lora:x:te=0.5>", [0.5, 0.5, 0.7, 0.7, 0.7]),
        ("<lora:x:1:in=0:mid=1:out=0>", [1, 1, 0, 1, 0]),
        ("<lora:x:te2=0.1:te=0.2:0.3>", [0.2, 0.1, 0.3, 0.3, 0.3]),
        ("<lora:x:0.3:0.9:unet=2:mid=3>", [0.3, 0.3, 2, 3, 2]),
        ("<lora:x:unet=2:0.3:0.9>", [0.3, 0.3, 2, 2, 2]),
        ("<lora:x:dit=2>", [0.7, 0.7, 2, 2, 2]),
        ("<lora:x:transformer=2>", [0.7, 0.7, 2, 2, 2]),
        ("<lora:x:lbw=OUTALL>", [0.7, 0.7, 0, 0, 0.7]),
        ("<lora:x:1:lbw=1,0,0,0,0,0,0,0.5,1,1,1,1,1,1,1,1,1>", [1, 1, 0, 0.5, 1]),
        ("<lora:x:1:OUTALL>", [1, 1, 0, 0, 1]),
        ("<lora:x:outall>", [0.7, 0.7, 0, 0, 0.7]),
        ("<lora:x:0.5:1,0,0,0,0,0,0,0.5,1,1,1,1,1,1,1,1,1>", [0.5, 0.5, 0, 0.25, 0.5]),
        ("<lora:x:1,0,0,0,0,0,0,0.5,1,1,1,1,1,1,1,1,1>", [0.7, 0.7, 0, 0.35, 0.7]),
        ("<lora:x:0.5:OUTALL:0.8>", [0.5, 0.5, 0, 0, 0.8]),
        ("<lora:x:1:w=OUTALL>", [1, 1, 0, 0, 1]),
        ("<loha:x:0.3>", [0.3] * 5),
        ("<LoKr:x:0.3>", [0.3] * 5),
        ("<dora:x:0.3>", [0.3] * 5),
        ("<locon:x:0.3>", [0.3] * 5),
        ("<lora:x:module=te>", [0.7, 0.7, 0, 0, 0]),
        ("<lora:x:module=dit>", [0, 0, 0.7, 0.7, 0.7]),
    ],
)
def test_every_form_gives_the_numbers_it_says(text: str, expected: list[float]):
    assert numbers(text, default=0.7) == expected


@pytest.mark.parametrize(
    ("text", "on"),
    [
        ("step=3-5", [3, 4, 5]),
        ("step=4-4", [4]),
        ("step=50%-100%", [4, 5, 6]),
        ("step=0.5-1", [4, 5, 6]),
        ("step=1-2", [1, 2]),
        ("step=3s-9s", [3, 4, 5, 6]),
    ],
)
def test_step_is_start_and_stop(text: str, on: list[int]):
    strength = tag(f"<lora:x:{text}>").strength(1)
    assert [step for step in range(1, 7) if strength.at(IN, step, 6)] == on


def test_a_third_number_is_dyn():
    assert tag("<lora:x:1:0.5:4>").keys.dyn == tag("<lora:x:dyn=4>").keys.dyn == 4


@pytest.mark.parametrize(
    ("value", "steps", "expected"),
    [
        ("0.1@1,0.6@6", 7, [0.1] * 5 + [0.6] * 2),
        ("0.1@6", 3, [0.1] * 3),
        ("0~1", 5, [0, 0.25, 0.5, 0.75, 1]),
        ("0@0,1@1", 5, [0, 0, 0, 0, 1]),
        ("0@1s,1@2s", 3, [0, 1, 1]),
        ("0@0s,1@1s", 3, [1, 1, 1]),
        ("0@0,1@50%", 5, [0, 0, 1, 1, 1]),
        ("0@50%,1@1", 5, [0, 0, 0, 0, 1]),
        ("0@0,1@0.5", 5, [0, 0, 1, 1, 1]),
        ("0@1~1@3,5@4", 4, [0, 0.5, 1, 5]),
        (" 0 @ 1 , 1 @ 2 ", 3, [0, 1, 1]),
    ],
)
def test_schedules_read_as_the_product_says(value: str, steps: int, expected: list[float]):
    assert run(value, steps) == expected


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("1", (1, "step")),
        ("5", (5, "step")),
        ("3s", (3, "step")),
        ("0.5", (0.5, "fraction")),
        ("50%", (0.5, "fraction")),
        ("0", (0, "fraction")),
        ("100%", (1, "fraction")),
        ("33.3%", (0.333, "fraction")),
    ],
)
def test_one_position_alone(text: str, position: tuple[float, str]):
    start = tag(f"<lora:x:start={text}>").keys.start
    assert start is not None
    assert (start.value, start.unit) == position


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("<lora:styles/neon:1>", "styles/neon"),
        ("<lora:hf:owner/repo:0.8>", "hf:owner/repo"),
        ("<lora:hf:owner/repo/a b.safetensors>", "hf:owner/repo/a b.safetensors"),
        ("<lora:hf:0.8>", "hf"),
        (r"<lora:C:\loras\x.safetensors:1>", r"C:\loras\x.safetensors"),
        ("<lora:D:/loras/x:1>", "D:/loras/x"),
        ("<lora:/srv/loras/x:1>", "/srv/loras/x"),
        ("<lora:deadbeef01:1>", "deadbeef01"),
        ("<lora: a b , c=d?*|:1>", "a b , c=d?*|"),
        ('<lora:"odd: name":1>', "odd: name"),
        ('<lora: "a > b < c" :1>', "a > b < c"),
        (r'<lora:"say \"hi\" \\o":1>', r'say "hi" \o'),
        (r'<lora:"C:\new":1>', r"C:\new"),
        ('<lora:" spaces ":1>', " spaces "),
        ('<lora:5" disk:1>', '5" disk'),
        ("<lora:猫:1>", "猫"),
    ],
)
def test_names(text: str, name: str):
    assert tag(text).name == name


# The mark ^ stands before the column of the mistake and is not part of the prompt.
@pytest.mark.parametrize(
    ("marked", "message"),
    [
        ("a <lora:x:^foo=1>", 'unknown key "foo"; there are te, te1'),
        ("<lora:x:^unett=1>", 'did you mean "unet"'),
        ("<lora:x:^TE=1>", 'did you mean "te"'),
        ("<lora:x:^=1>", "a key is missing"),
        ("<lora:x:^te=>", "te has no value"),
        ("<lora:x:^te>", "write te="),
        ("<lora:x:te=^one>", '"one" is not a number'),
        ("<lora:x:^1_0>", "is not a number"),
        ("<lora:x:^nan>", "finite"),
        ("<lora:x:te=^-inf>", "finite"),
        ("<lora:x:^1e9>", "too large"),
        ("<lora:x:^0,8>", "written with a dot"),
        ("<lora:x:^:1>", "a number is missing"),
        ("<lora:x:1:^>", "a number is missing"),
        ("<lora:^:1>", "needs a name"),
        ("<lora:^>", "needs a name"),
        ('<lora:^"":1>', "needs a name"),
        ("a ^<lora:x:1", "not closed"),
        ("a ^<lora:x a castle <lora:y:1>", "not closed"),
        ('a <lora:^"x:1> b', "quote is not closed"),
        ('<lora:"x"^y:1>', "after the closing quote"),
        ("<lora:x:1:1:1:^1>", "too many numbers"),
        ("<lora:x:te=1:^te=2>", "te is given twice"),
        ("<lora:x:unet=1:^dit=2>", "unet is given twice"),
        ("<lora:x:1:1:4:^dyn=4>", "dyn is given twice"),
        ("<lora:x:1@6,2@^6>", "must rise"),
        ("<lora:x:1@6~2@^3>", "must rise"),
        ("<lora:x:1@3s,2@^50%>", "all steps or all parts"),
        ("<lora:x:1@^0.5,2@6>", "whole numbers"),
        ("<lora:x:1@^120%>", "after the end of the run"),
        ("<lora:x:1@^-1>", "before the run"),
        ("<lora:x:1@^>", "a position is missing"),
        ("<lora:x:1@^soon>", "is not a position"),
        ("<lora:x:1@2@^3>", "one position"),
        ("<lora:x:^1,2@5>", "no position"),
        ("<lora:x:^1~2~3>", "no position"),
        ("<lora:x:1@2,^>", "a number is missing"),
        ("<lora:x:lbw=^1,2,3>", "12, 17, 20 or 26 numbers, not 3"),
        ("<lora:x:lbw=^MIDDD>", 'did you mean "MIDD"'),
        ("<lora:x:1:^1,0,1>", "3 numbers without positions; as block weights they are 12, 17, 20 or 26"),
        ("<lora:x:1:^MIDDD>", "is not a number"),
        ("<lora:x:1:lbw=^" + ",".join("1" * 61) + ">", "not 61; for Flux use in=, mid= and out="),
        ("<lora:x:1:lbw=1,^R,1,1,1,1,1,1,1,1,1,1>", "random and relative block weights are not supported"),
        ("<lora:x:1:OUTALL:^lbw=ALL>", "lbw is given twice"),
        ("<lora:x:1:^LBW=ALL>", 'did you mean "lbw"'),
        ("<lora:x:1:lbw=ALL:^lbwe=ATTN>", "use lbw, in, mid and out"),
        ("<lora:x:1:^hr=0.5>", "there is one pass here"),
        ("<lora:x:step=^8>", "step=8-16"),
        ("<lora:x:step=2-^0.5>", "whole numbers"),
        ("<lora:x:step=8-^>", "a position is missing"),
        ("<lora:x:step=^16-8>", "never be on"),
        ("<lora:x:start=3:^step=8-16>", "start is given twice"),
        ("<lora:x:^0@0;1@0.5>", "not between ;"),
        ("<lora:x:1^\u200b>", "invisible character (U+200B)"),
        ("<lora:^\ufeffx:1>", "invisible character (U+FEFF)"),
        ("<lora:x:lbw=^0~1>", "plain numbers, no schedule"),
        ("<lora:x:lbw=1,1,1,1,1,^x,1,1,1,1,1,1>", "is not a number"),
        ("<lora:x:dyn=^0>", "whole number from 1"),
        ("<lora:x:dyn=^1.5>", "whole number from 1"),
        ("<lora:x:dyn=^-2>", "whole number from 1"),
        ("<lora:x:dyn=^4@2>", "no schedule"),
        ("<lora:x:1:1:^x>", "whole number from 1"),
        ("<lora:x:module=^unot>", 'did you mean "unet"'),
        ("<lora:x:start=^1,2>", "one position"),
        ("<lora:x:stop=^late>", "is not a position"),
        ("<lora:x:start=8:stop=^3>", "never be on"),
        ("a ^AND b", "AND is not supported"),
        ("a ^BREAK b", "BREAK is not supported"),
        ("a ^[b:c:0.5] d", "is not supported"),
        ("a ^[b:12]", "is not supported"),
        ("a ^[b|c]", "is not supported"),
        ("a [b (c ^[d:0.5])]", "is not supported"),
    ],
)
def test_a_mistake_is_found_at_its_column(marked: str, message: str):
    source = marked.replace("^", "")
    with pytest.raises(PromptError) as caught:
        parse(source)
    assert caught.value.column == marked.index("^")
    assert caught.value.prompt == source
    assert message in str(caught.value)


def test_all_mistakes_come_in_order():
    _, mistakes = parse_lenient("<lora:a:foo=1:te=x> AND <lora:b:y>")
    assert [mistake.column for mistake in mistakes] == [8, 17, 20, 32]


def test_a_long_schedule_is_refused():
    points = ",".join(f"1@{n}" for n in range(1, 1002))
    with pytest.raises(PromptError, match="at most 1000 points"):
        parse(f"<lora:x:{points}>")


# Numbers as people write them, and any float: both must come back exactly.
floats = st.floats(-1e6, 1e6) | st.integers(-20, 20).map(lambda n: n / 10)
steps = st.integers(0, 50).map(lambda n: Position(float(n), "step"))
fractions = st.floats(0, 1).map(lambda x: Position(x, "fraction"))


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    places = draw(st.sets(draw(st.sampled_from([steps, fractions])), min_size=1, max_size=4))
    ordered = sorted(places, key=lambda place: place.value)
    points = [Point(draw(floats), place, draw(st.booleans()) and place is not ordered[-1]) for place in ordered]
    return draw(st.sampled_from([Schedule(tuple(points)), Schedule.of(points[0].value), Schedule.ramp(points[0].value, points[-1].value)]))


tags = st.builds(
    LoraTag,
    name=st.text(min_size=1).filter(str.strip) | st.sampled_from(["hf:a/b", "hf:a", r"C:\x", "C:x", '"', "\\", "a/b", " x ", "a>b"]),
    first=st.none() | schedules(),
    keys=st.builds(
        Strength,
        **{name: st.none() | schedules() for name in SCHEDULE_KEYS.values()},
        lbw=st.none() | st.sampled_from(sorted(LBW_PRESETS.values())) | st.tuples(*[floats] * 12),
        dyn=st.none() | st.integers(1, 999),
        module=st.none() | st.sampled_from(sorted(MODULES)),
        start=st.none() | steps | fractions,
        stop=st.none() | st.just(Position(1.0, "fraction")) | st.just(Position(50.0, "step")),
    ).filter(lambda keys: not never_on(keys.start, keys.stop)),
)


@given(tags)
def test_the_text_of_a_tag_reads_back_as_the_same_tag(any_tag: LoraTag):
    prompt = parse(str(any_tag))
    assert prompt.loras == (any_tag,)
    assert prompt.text == ""
    assert str(prompt.loras[0]) == str(any_tag)


@pytest.mark.parametrize(
    "text",
    [
        "<lora:x>",
        "<lora:x:0.8>",
        "<lora:x:0.5:1.5>",
        "<lora:hf:a/b:te=0.1@1,0.6@6>",
        '<lora:"odd: name":unet=0~1:lbw=MIDD:dyn=4>',
        "<lora:x:0@0s,1@1s>",
        "<lora:x:0@0,1@0.5:start=3:stop=100%>",
        "<lora:x:0.5@1>",
    ],
)
def test_plain_texts_are_their_own_canonical_text(text: str):
    assert str(tag(text)) == text


marks = st.sampled_from([*'<>:=,~@%"\\()[]|s. \n0159-+eé', "<lora:", "<lyco:", "lbw=", "te=", "start=", "1@2", "nan", "AND", "x"])
nearly_tags = st.lists(marks, max_size=30).map("".join)


@given(st.text() | nearly_tags)
def test_lenient_never_raises_and_strict_only_prompt_errors(text: str):
    prompt, mistakes = parse_lenient(text)
    if mistakes:
        with pytest.raises(PromptError) as caught:
            parse(text)
        assert str(caught.value) == str(mistakes[0])
    else:
        assert parse(text) == prompt
    for mistake in mistakes:
        assert 0 <= mistake.column <= len(text)


@given(nearly_tags)
def test_what_lenient_keeps_is_usable(text: str):
    for found in parse_lenient(text)[0].loras:
        assert text[found.column] == "<"
        assert text[found.column + found.length - 1] == ">"
        try:
            values = [found.strength(1).at(place, step, 5) for place in (TE, IN) for step in (1, 5)]
        except LoraError:
            continue
        assert all(abs(value) <= 1e12 for value in values)
