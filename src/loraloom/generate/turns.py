"""Turns: a base is opened while nothing else in this process opens a base or works with one.

Loaders change what belongs to the whole process while they make a model: accelerate's init_empty_weights sends every parameter that any
thread registers to the meta device, diffusers and transformers change the default dtype and switch initialisation off.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Thread
from typing import ParamSpec

Arguments = ParamSpec("Arguments")


class Turns:
    """Work of several threads runs together; an opening runs alone. A thread that waits or rests does not count as one that works, so
    that nobody waits for a thread that waits for it."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._opening: Thread | None = None
        self._wanting: list[Thread] = []  # to open
        self._working: dict[Thread, int] = {}  # and how often, one inside the other

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Begins when the work of the other threads has ended or rests."""
        me = threading.current_thread()
        with self.resting():
            outer = self._opening is me
            try:
                with self._changed:
                    self._wanting.append(me)
                    self._changed.wait_for(lambda: self._opening in (None, me) and not self._others(me))
                    self._opening = me
                yield
            finally:
                with self._changed:
                    self._wanting = [thread for thread in self._wanting if thread is not me]
                    if self._opening is me and not outer:
                        self._opening = None
                    self._changed.notify_all()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Begins when no other thread opens a base or waits to."""
        before = self._working.get(threading.current_thread(), 0)
        try:
            self._work(before + 1)
            yield
        finally:
            self._count(before)

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Inside of work, where this thread's model is not in use: others may open a base meanwhile."""
        before = self._working.get(threading.current_thread(), 0)
        try:
            self._count(0)
            yield
        finally:
            if before:
                self._work(before)

    def between(self, told: Callable[Arguments, None] | None) -> Callable[Arguments, None]:
        """`told`, which follows the progress of work, called at rest."""

        def following(*arguments: Arguments.args, **options: Arguments.kwargs) -> None:
            with self.resting():
                if told:
                    told(*arguments, **options)

        return following

    def _work(self, depth: int) -> None:
        me = threading.current_thread()
        with self._changed:
            inside = me in self._working
            self._changed.wait_for(lambda: inside or self._opening is me or not (self._opening or self._wanting))
            self._count(depth)

    def _count(self, depth: int) -> None:
        me = threading.current_thread()
        with self._changed:
            self._working.pop(me, None)
            if depth:
                self._working[me] = depth
            self._changed.notify_all()

    def _others(self, me: Thread) -> bool:
        """Whether another thread works; one that was killed in the middle does not."""
        return any(thread is not me and thread.is_alive() for thread in self._working)


TURNS = Turns()  # the one of this process
