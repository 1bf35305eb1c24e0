"""One exception from outside at a sample of all places of attach and detach; all of them with `long` and as a program."""

import random
import zlib

import pytest
from interrupts import by_sending, by_signal, each_line, scenes, struck, visited

# An interrupt that comes inside of `__del__` is dropped by Python, with a warning: nobody is there who could hear of it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SCENES = (
    "merge",
    "merge, base in a file",
    "branch",
    "mixed",
    "moving text",
    "words",
    "prepared",
    "preparing",
    "drawing",
    "through diffusers",
)
SMALL = {"through diffusers": 4, "preparing": 4, "drawing": 6}  # places of a sample, where one takes long


def sampled(name):
    """Each line of the machinery once, and a few of all the others."""

    def chosen(lines):
        visits = each_line(lines)
        machinery = [at for at in visits if lines[at][0].startswith(("undo.py", "interrupts.py"))] if name == "merge" else []
        dice = random.Random(zlib.crc32(name.encode()))
        return sorted({*machinery[::5], *dice.sample(visits, SMALL.get(name, 8))})

    return chosen


@pytest.mark.parametrize("name", SCENES)
def test_after_an_interrupt_anywhere_the_base_is_what_it_was_and_the_next_attach_works(name, tmp_path):
    result = visited(scenes(tmp_path)[name](), sampled(name))
    assert result.places >= 4
    assert not result.bad


@pytest.mark.long
@pytest.mark.parametrize("name", SCENES)
def test_after_an_interrupt_at_each_line_the_base_is_what_it_was(name, tmp_path):
    result = visited(scenes(tmp_path)[name](), each_line)
    assert result.places > 500
    assert not result.bad


@pytest.mark.parametrize("strike", [by_signal, by_sending])
@pytest.mark.parametrize("name", ["merge", "branch"])
def test_real_interrupts_at_random_moments_leave_nothing(name, strike, tmp_path):
    assert not struck(scenes(tmp_path)[name](), 8, strike).bad
