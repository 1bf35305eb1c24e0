"""Laws of turns: a base is opened while nobody else opens one or works with one, and nobody waits for who waits for them."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from loraloom.errors import BaseError
from loraloom.generate import pipeline as pipelines
from loraloom.generate.pipeline import open_pipeline
from loraloom.generate.turns import Turns

PATIENT = 120  # seconds


@pytest.fixture
def turns():
    return Turns()


def begun(work, *arguments):
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread


def joined(*threads):
    for thread in threads:
        thread.join(PATIENT)
        assert not thread.is_alive()


def values(pipeline):
    """sha256 of all values of a pipeline's models."""
    digest = hashlib.sha256()
    for _, part in sorted(pipeline.components.items()):
        if isinstance(part, torch.nn.Module):
            for tensor in part.state_dict().values():
                digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def test_bases_that_are_opened_at_once_have_the_values_that_they_have_alone():
    names = ("tiny", "nano")
    alone = [values(open_pipeline(name)) for name in names]
    for _ in range(2):
        with ThreadPoolExecutor(2) as threads:
            assert [values(pipeline) for pipeline in threads.map(open_pipeline, names)] == alone


def test_a_base_without_its_values_is_not_given_out(monkeypatch):
    """As when a program that uses this library loads a model of its own at the same moment."""

    def half():
        made = pipelines.nano.load()
        made.unet.conv_in.to("meta")
        return made

    monkeypatch.setattr(pipelines, "_loader", lambda *_: half)
    with pytest.raises(BaseError, match=r"nano: unet was loaded without its values .* open this base again"):
        open_pipeline("nano")


def test_an_opening_waits_for_work_and_work_for_an_opening(turns):
    told, working, rest, opened, leave = [], *(threading.Event() for _ in range(4))

    def work():
        with turns.working():
            working.set()
            assert rest.wait(PATIENT)
            with turns.resting():
                assert opened.wait(PATIENT)
                told.append("rests")
            told.append("works on")

    def open_one():
        with turns.opening():
            told.append("opens")
            opened.set()
            assert leave.wait(PATIENT)
            told.append("open")

    worker = begun(work)
    assert working.wait(PATIENT)
    opener = begun(open_one)
    while not turns._wanting:
        pass
    assert told == []
    rest.set()
    assert opened.wait(PATIENT)
    later = begun(lambda: turns.between(told.append)("told"))  # no work: not held up
    joined(later)
    leave.set()
    joined(worker, opener)
    assert sorted(told[:3]) == ["opens", "rests", "told"]
    assert told[3:] == ["open", "works on"]


def test_two_that_work_may_each_open_a_base_in_the_middle(turns):
    both, most, inside = threading.Barrier(2), [], []

    def work():
        with turns.working():
            both.wait(PATIENT)
            with turns.opening(), turns.opening(), turns.working():
                inside.append(1)
                most.append(len(inside))
                inside.pop()
            with turns.working():
                pass

    joined(begun(work), begun(work))
    assert most == [1, 1]
    assert not turns._working
    assert turns._opening is None


def test_what_fails_or_dies_leaves_the_turn_to_others(turns):
    for way in (turns.opening, turns.working, turns.resting):
        with pytest.raises(KeyboardInterrupt), way():
            raise KeyboardInterrupt
    killed = begun(turns.working().__enter__)
    joined(killed)
    with turns.opening():
        assert turns._opening
