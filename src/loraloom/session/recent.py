"""What was used last, as much of it as there is room for."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """The last values by key, as many as fit into `room`; the one that was not asked for the longest goes first.

    `weigh` says how much room a value takes, 1 each unless given. A value larger than all the room is kept alone.
    """

    def __init__(self, room: int, weigh: Callable[[Value], int] = lambda _: 1) -> None:
        self._room, self._weigh = room, weigh
        self._kept: OrderedDict[Hashable, Value] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        if key not in self._kept:
            self._leave(self._room - 1)  # before the new one is made: two large models may not fit at once
            value = make()
            self._leave(self._room - self._weigh(value))
            self._kept[key] = value
        self._kept.move_to_end(key)
        return self._kept[key]

    def _leave(self, room: int) -> None:
        while self._kept and sum(map(self._weigh, self._kept.values())) > room:
            self._kept.popitem(last=False)
