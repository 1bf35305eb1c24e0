"""Laws of undoing: everything, the last first, once more where it was stopped, and when nobody holds it any more."""

import signal
import threading
from contextlib import ExitStack

import pytest

from loraloom.errors import EngineError
from loraloom.interrupts import uninterrupted
from loraloom.undo import Undo, changing


class Owner:
    """An instance with an attribute of its class and one of its own."""

    inherited = "of the class"

    def __init__(self):
        self.own = "before"


def changed(owner):
    def change(undo):
        for name in ("own", "inherited", "new"):
            undo.keep(owner, name)
            setattr(owner, name, "changed")
        return owner

    return changing(change)


def untouched(owner):
    return vars(owner) == {"own": "before"}


def test_attributes_are_what_they_were_also_those_that_were_not_there():
    owner = Owner()
    with changed(owner) as found:
        assert found.own == found.inherited == found.new == "changed"
    assert untouched(owner)


@pytest.mark.parametrize("way", ["by hand", "exit stack", "decorator", "dropped", "twice"])
def test_every_way_out_takes_the_changes_back(way):
    owner = Owner()
    context = changed(owner)
    if way == "by hand":
        context.__enter__()
        context.__exit__(None, None, None)
    elif way == "exit stack":
        with ExitStack() as stack:
            stack.enter_context(context)
            assert not untouched(owner)
    elif way == "decorator":
        assert context(lambda: owner.own)() == "changed"
    elif way == "dropped":
        context.__enter__()
        assert not untouched(owner)
        del context
    else:
        for _ in range(2):
            with context:
                assert not untouched(owner)
    assert untouched(owner)


def test_an_error_on_the_way_in_takes_back_what_was_done():
    owner = Owner()

    def change(undo):
        undo.keep(owner, "own")
        owner.own = "changed"
        raise EngineError("no further")

    with pytest.raises(EngineError, match="no further"), changing(change):
        pass
    assert untouched(owner)


def test_actions_run_last_first_and_one_that_fails_does_not_stop_the_others():
    undo, ran = Undo(), []

    def failing():
        ran.append("failing")
        raise EngineError("lost")

    undo.before(lambda: ran.append("first"))
    undo.before(failing)
    undo.before(lambda: ran.append("last"))
    with pytest.raises(EngineError, match="lost"):
        undo.run()
    assert ran == ["last", "failing", "failing", "first"]  # tried again once: it could have been somebody else's exception
    undo.run()
    assert len(ran) == 4


def test_an_action_that_was_interrupted_runs_again():
    undo, ran = Undo(), []

    def interrupted_once():
        ran.append(1)
        if len(ran) == 1:
            raise KeyboardInterrupt

    undo.before(interrupted_once)
    with pytest.raises(KeyboardInterrupt):
        undo.run()
    undo.run()
    assert len(ran) == 2


def test_checks_come_after_everything_and_not_after_an_error_of_the_body():
    said = []

    def change(undo):
        undo.before(lambda: said.append("undone"))
        undo.afterwards(lambda: said.append("checked"))

    with changing(change):
        pass
    with pytest.raises(ZeroDivisionError), changing(change):
        raise ZeroDivisionError
    assert said == ["undone", "checked", "undone"]


def test_a_signal_waits_for_the_end_of_the_work_and_comes_then():
    done = []

    def work():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append("work")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        uninterrupted(lambda: uninterrupted(work))
    assert done == ["work"]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_while_changes_are_made_takes_them_back():
    owner = Owner()

    def change(undo):
        undo.keep(owner, "own")
        owner.own = "changed"
        signal.raise_signal(signal.SIGINT)
        owner.own = "changed further"

    with pytest.raises(KeyboardInterrupt), changing(change):
        pytest.fail("entered after an interrupt")
    assert untouched(owner)


def test_handlers_of_the_program_run_afterwards_each_time_and_other_threads_have_none():
    heard, before = [], signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        uninterrupted(lambda: (signal.raise_signal(signal.SIGTERM), heard.append("work"), signal.raise_signal(signal.SIGTERM)))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == ["work", signal.SIGTERM, signal.SIGTERM]
    thread = threading.Thread(target=lambda: uninterrupted(lambda: heard.append("thread")))
    thread.start()
    thread.join()
    assert heard[-1] == "thread"
