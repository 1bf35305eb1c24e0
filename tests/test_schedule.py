"""Laws of schedules: product.md §3, what it says about positions, holds and ramps."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraloom.errors import SettingsError
from loraloom.schedule import Point, Position, Schedule


def of(*points: tuple[float, float], unit: str = "step", ramp: bool = False) -> Schedule:
    last = len(points) - 1
    return Schedule(tuple(Point(value, Position(at, unit), ramp and n < last) for n, (value, at) in enumerate(points)))  # type: ignore[arg-type]


def run(schedule: Schedule, steps: int) -> list[float]:
    return [schedule.at(step, steps) for step in range(1, steps + 1)]


numbers = st.floats(-4, 4)
schedules = st.one_of(
    numbers.map(Schedule.of),
    st.builds(Schedule.ramp, numbers, numbers),
    st.builds(
        lambda places, values, ramp: of(*zip(values, sorted(places), strict=False), ramp=ramp),
        st.sets(st.integers(0, 30), min_size=1, max_size=5),
        st.lists(numbers, min_size=5, max_size=5),
        st.booleans(),
    ),
)


def test_hold_keeps_a_value_until_the_next_point():
    """The example of product.md: 0.1 on steps 1 to 5, 0.6 from step 6."""
    assert run(of((0.1, 1), (0.6, 6)), 8) == [0.1] * 5 + [0.6] * 3


def test_before_the_first_point_the_first_value_holds():
    assert run(of((0.1, 3), (0.6, 6)), 6) == [0.1] * 5 + [0.6]


def test_a_ramp_is_straight_between_its_neighbours_and_holds_after():
    assert run(of((0, 2), (1, 6), ramp=True), 8) == [0, 0, 0.25, 0.5, 0.75, 1, 1, 1]


def test_holds_and_ramps_mix():
    points = (Point(0, Position(1, "step")), Point(1, Position(3, "step"), ramp=True), Point(0, Position(5, "step")))
    assert run(Schedule(points), 6) == [0, 0, 1, 0.5, 0, 0]


def test_a_ramp_over_the_whole_run_starts_and_ends_exactly():
    assert run(Schedule.ramp(0, 1), 5) == [0, 0.25, 0.5, 0.75, 1]
    assert run(Schedule.ramp(0.1, 0.7), 7)[-1] == 0.7
    assert run(Schedule.ramp(0.25, 1), 1) == [0.25]


@given(st.integers(2, 60), st.integers(0, 100))
def test_a_fraction_acts_from_the_first_step_at_or_after_it(steps: int, percent: int):
    got = run(of((0, 0), (1, percent / 100), unit="fraction") if percent else Schedule.of(1), steps)
    assert got == [float((n - 1) * 100 >= percent * (steps - 1)) for n in range(1, steps + 1)]


def test_a_point_beyond_the_last_step_is_known():
    schedule = of((0.1, 1), (0.6, 30))
    assert [point.value for point in schedule.unreachable(20)] == [0.6]
    assert schedule.unreachable(30) == ()


@given(schedules, st.integers(1, 40))
def test_a_schedule_never_leaves_the_range_of_its_points(schedule: Schedule, steps: int):
    values = [point.value for point in schedule.points]
    assert all(min(values) - 1e-12 <= got <= max(values) + 1e-12 for got in run(schedule, steps))


@given(schedules)
def test_constant_means_one_number_at_every_step(schedule: Schedule):
    if schedule.constant:
        assert len(set(run(schedule, 30))) == 1


@pytest.mark.parametrize(
    "build",
    [
        lambda: Schedule(()),
        lambda: of((1, 5), (1, 5)),
        lambda: of((1, 5), (1, 3)),
        lambda: Schedule((Point(1, Position(1, "step")), Point(1, Position(1, "fraction")))),
        lambda: Schedule((Point(1, Position(1, "step"), ramp=True),)),
        lambda: Schedule.of(math.nan),
        lambda: Schedule.of(-math.inf),
        lambda: Schedule(tuple(Point(1, Position(n, "step")) for n in range(1001))),
        lambda: Position(-1, "step"),
        lambda: Position(1.5, "step"),
        lambda: Position(1.5, "fraction"),
        lambda: Position(math.nan, "step"),
        lambda: Schedule.of(1).at(0, 5),
        lambda: Schedule.of(1).at(6, 5),
    ],
)
def test_what_means_nothing_is_a_settings_error(build):
    with pytest.raises(SettingsError):
        build()
