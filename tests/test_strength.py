"""Laws of strengths: product.md §3, every sentence that is about numbers."""

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraloom.errors import SettingsError
from loraloom.schedule import Position, Schedule, never_on
from loraloom.strength import LBW_BLOCKS, LBW_PRESETS, MODULES, Place, Strength
from test_schedule import numbers, of, schedules

TE1, TE2, TE3 = Place("text_encoder"), Place("text_encoder_2"), Place("text_encoder_3")
IN, MID, OUT = (Place("unet", third, block) for third, block in (("in", 4), ("mid", 12), ("out", 20)))  # SD 1.x block numbers
EVERYWHERE = (TE1, TE2, TE3, IN, MID, OUT)


strengths = st.builds(
    Strength,
    default=schedules,
    **{key: st.none() | schedules for key in ("te", "te1", "te2", "te3", "unet", "in_", "mid", "out")},
    lbw=st.none() | st.sampled_from(sorted(LBW_PRESETS.values())),
    module=st.none() | st.sampled_from(sorted(MODULES)),
    start=st.none() | st.builds(Position, st.integers(0, 9).map(float), st.just("step")),
)


def test_positions_that_no_step_reaches_are_known():
    strength = Strength(of((0.1, 1), (0.6, 30)), start=Position(25, "step"))
    assert strength.unreachable(20) == (Position(30, "step"), Position(25, "step"))


def test_a_number_that_never_counts_gives_no_warning():
    shadowed = Strength(of((0.1, 1), (0.6, 30)), te=Schedule.of(1), unet=Schedule.of(1))
    assert shadowed.unreachable(5) == ()


@pytest.mark.parametrize(
    "build",
    [
        lambda: Strength(lbw=(1.0,) * 13),
        lambda: Strength(lbw=(math.nan,) * 12),
        lambda: Strength(dyn=0),
        lambda: Strength(module="vae"),
        lambda: Strength(start=Position(5, "step"), stop=Position(4, "step")),
        lambda: Place("text_encoder", "in"),
        lambda: Place("unet"),
    ],
)
def test_what_means_nothing_is_a_settings_error(build):
    with pytest.raises(SettingsError):
        build()


def test_each_number_replaces_the_ones_after_it():
    """`<lora:x:1:in=0:mid=1:out=0>` is 0/1/0, and te=0.5 alone leaves the denoiser at its default."""
    blocks = Strength(in_=Schedule.of(0), mid=Schedule.of(1), out=Schedule.of(0))
    assert [blocks.at(place, 1, 1) for place in EVERYWHERE] == [1, 1, 1, 0, 1, 0]
    text = Strength(Schedule.of(0.7), te=Schedule.of(0.5))
    assert [text.at(place, 1, 1) for place in EVERYWHERE] == [0.5, 0.5, 0.5, 0.7, 0.7, 0.7]


@given(st.lists(st.none() | numbers, min_size=8, max_size=8), numbers)
def test_the_most_special_number_that_is_given_counts(values: list[float | None], default: float):
    te, te1, te2, te3, unet, in_, mid, out = values
    strength = Strength(Schedule.of(default), *(None if value is None else Schedule.of(value) for value in values))
    ladders = ((te1, te), (te2, te), (te3, te), (in_, unet), (mid, unet), (out, unet))
    expected = [next((value for value in ladder if value is not None), default) for ladder in ladders]
    assert [strength.at(place, 1, 1) for place in EVERYWHERE] == expected


def test_a_transformer_is_a_denoiser():
    strength = Strength(unet=Schedule.of(0.5), mid=Schedule.of(2))
    assert [strength.at(Place("transformer", third, 3), 1, 1) for third in ("in", "mid", "out")] == [0.5, 2, 0.5]


def test_start_and_stop_are_inclusive_and_text_encoders_follow():
    strength = Strength(start=Position(2, "step"), stop=Position(4, "step"))
    for place in EVERYWHERE:
        assert [strength.at(place, step, 6) for step in range(1, 7)] == [0, 1, 1, 1, 0, 0]
    half = Strength(stop=Position(0.5, "fraction"))
    assert [half.at(IN, step, 5) for step in range(1, 6)] == [1, 1, 1, 0, 0]


def test_positions_of_different_units_are_not_compared():
    assert not never_on(Position(9, "step"), Position(0.1, "fraction"))


@pytest.mark.parametrize(
    ("module", "on"),
    [
        ("unet", ["unet", "transformer", "transformer_2"]),
        ("te", ["text_encoder", "text_encoder_2"]),
        ("te2", ["text_encoder_2"]),
        ("high", ["transformer"]),
        ("low", ["transformer_2"]),
    ],
)
def test_module_leaves_only_its_components_on(module: str, on: list[str]):
    places = [Place(name, "in") for name in ("unet", "transformer", "transformer_2")] + [TE1, TE2]
    assert [place.component for place in places if Strength(module=module).at(place, 1, 1)] == on


def test_lbw_multiplies_and_its_first_number_is_for_text_encoders():
    strength = Strength(Schedule.of(2), mid=Schedule.of(3), lbw=LBW_PRESETS["MIDD"])
    assert strength.at(TE1, 1, 1) == 2
    assert strength.at(MID, 1, 1) == 3
    assert strength.at(Place("unet", "in", 1), 1, 1) == 0
    assert strength.at(Place("unet", "in", 5), 1, 1) == 2
    assert strength.at(Place("unet", "out", 24), 1, 1) == 0


def test_lbw_numbers_stand_for_the_blocks_of_the_extension():
    """BLOCKID12/17/20/26 of sd-webui-lora-block-weight, as block numbers of the family."""
    names = {
        12: "IN04 IN05 IN07 IN08 M00 OUT00 OUT01 OUT02 OUT03 OUT04 OUT05",
        17: "IN01 IN02 IN04 IN05 IN07 IN08 M00 OUT03 OUT04 OUT05 OUT06 OUT07 OUT08 OUT09 OUT10 OUT11",
        20: " ".join([f"IN{n:02}" for n in range(9)] + ["M00"] + [f"OUT{n:02}" for n in range(9)]),
        26: " ".join([f"IN{n:02}" for n in range(12)] + ["M00"] + [f"OUT{n:02}" for n in range(12)]),
    }
    for size, (count, listed) in LBW_BLOCKS.items():
        half = count // 2
        offset = {"IN": 0, "M": half, "OUT": half + 1}
        assert [offset[name.rstrip("0123456789")] + int(name.lstrip("INMOUT")) for name in names[size].split()] == list(listed)
        vector = tuple(float(n) for n in range(size))
        for block in range(count):
            third = "in" if block < half else "mid" if block == half else "out"
            expected = vector[1 + listed.index(block)] if block in listed else 0
            assert Strength(lbw=vector).at(Place("unet", third, block), 1, 1) == expected


def test_a_module_outside_the_blocks_follows_the_end_of_its_third():
    before, after = Place("unet", "in"), Place("unet", "out")
    assert [Strength(lbw=LBW_PRESETS["INALL"]).at(place, 1, 1) for place in (before, after)] == [1, 0]
    assert [Strength(lbw=LBW_PRESETS["ALL0.5"]).at(place, 1, 1) for place in (before, after)] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("size", "place"), [(17, Place("unet", "mid", 9)), (12, Place("unet", "in", 10)), (17, Place("transformer", "in", 1))]
)
def test_lbw_of_another_family_is_refused(size: int, place: Place):
    with pytest.raises(SettingsError, match="in=, mid= and out="):
        Strength(lbw=(1.0,) * size).at(place, 1, 1)


def test_the_family_of_lbw_is_known_beforehand():
    assert Strength().lbw_blocks == frozenset()
    assert (Strength(lbw=(1.0,) * 17) + Strength(lbw=(1.0,) * 20)).lbw_blocks == {25, 19}


def test_every_preset_has_17_numbers():
    assert {len(preset) for preset in LBW_PRESETS.values()} == {17}


@given(strengths, strengths, strengths)
def test_the_same_network_twice_adds_up_per_module_and_step(a: Strength, b: Strength, c: Strength):
    total = (a + b) + c
    for place, step in product(EVERYWHERE, (1, 4, 7)):
        expected = a.at(place, step, 7) + b.at(place, step, 7) + c.at(place, step, 7)
        assert total.at(place, step, 7) == pytest.approx(expected, abs=1e-9)
    assert (a + (b + c)).also == total.also


def test_two_different_dyn_are_an_error():
    with pytest.raises(SettingsError, match="dyn=4 and all ranks"):
        Strength(dyn=4) + Strength()
    assert (Strength(dyn=4) + Strength(dyn=4)).dyn == 4


@given(strengths)
def test_is_zero_means_zero_at_every_place_and_step(strength: Strength):
    got = {strength.at(place, step, 9) for place in EVERYWHERE for step in range(1, 10)}
    assert not strength.is_zero or got == {0}


@given(strengths)
def test_is_constant_means_no_place_changes(strength: Strength):
    if strength.is_constant:
        assert all(len({strength.at(place, step, 9) for step in range(1, 10)}) == 1 for place in EVERYWHERE)


def test_what_is_off_everywhere_is_zero_and_constant():
    ramp, nothing = Schedule.ramp(0, 1), Schedule.of(0)
    assert Strength(ramp, te=nothing, unet=nothing).is_zero
    assert Strength(ramp, lbw=LBW_PRESETS["NONE"]).is_zero
    assert Strength(ramp, te=nothing, module="te").is_zero
    assert (Strength.of(0) + Strength.of(0)).is_zero
    assert Strength(ramp, te=nothing, unet=nothing).is_constant
    assert not Strength(ramp, te=nothing).is_zero
    assert not (Strength.of(0) + Strength.of(1)).is_zero


def test_start_and_stop_make_a_strength_change():
    assert not Strength(start=Position(2, "step")).is_constant
    assert not Strength(stop=Position(0.5, "fraction")).is_constant
    assert Strength(start=Position(1, "step"), stop=Position(1, "fraction")).is_constant
    assert Strength.of(0.3).is_constant


@given(strengths, st.none() | strengths, st.integers(1, 12))
def test_flat_is_the_mean_over_the_steps_at_every_place(strength: Strength, also: Strength | None, steps: int):
    """1e-9 of the largest number: means have 12 digits, and lbw multiplies by at most 1."""
    both = strength if also is None else strength + also
    flat = both.flat(steps)
    assert flat.is_constant
    for place in EVERYWHERE:
        if both.lbw_blocks <= {25}:
            values = [both.at(place, step, steps) for step in range(1, steps + 1)]
            assert flat.at(place, 1, 1) == pytest.approx(math.fsum(values) / steps, abs=1e-9 * max(1, *map(abs, values)))


def test_flat_leaves_a_strength_that_is_the_same_at_every_step():
    strength = Strength(Schedule.of(0.1), te=Schedule.of(1 / 3), mid=Schedule.of(-2), lbw=LBW_PRESETS["MIDD"], dyn=4, module="unet")
    assert strength.flat(7) == strength
