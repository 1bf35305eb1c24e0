"""Changes that are taken back whatever happens: after an error, after an exception between any two lines, and when nobody holds them.

`docs/design/interrupts.md` says why it is done so.
"""

import sys
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, ContextDecorator
from functools import partial
from typing import Any, Generic, TypeVar, cast

from loraloom.interrupts import uninterrupted

T = TypeVar("T")
Action = Callable[[], object]
_MISSING: Any = object()


class Undo:
    """What takes changes back, the last first. It runs when its last owner drops it, if it did not run before.

    An action is added before its change is made. It holds for any state that an exception can leave: if the change was not made, was
    made in part or was taken back already, the action leaves things as they were before the change.
    """

    def __init__(self) -> None:
        self._actions: list[Action] = []
        self._checks: list[Action] = []

    def before(self, action: Action) -> None:
        """`action` takes back what is changed after this line."""
        self._actions.append(action)

    def keep(self, owner: Any, name: str) -> None:
        """The attribute `name` of the instance `owner` will be what it is now, also if it has none of its own."""
        self.before(partial(_put_back, owner, name, vars(owner).get(name, _MISSING)))

    def enter(self, context: AbstractContextManager[T]) -> T:
        """The result of entering what `changing` made; its changes are taken back with ours, its checks come with ours."""
        inner = cast("Changing[T]", context)
        self.before(inner._undo.run)
        result = inner.__enter__()
        self._checks += inner._undo._checks
        return result

    def afterwards(self, check: Action) -> None:
        """`check` runs when everything was taken back without an error, and may raise."""
        self._checks.append(check)

    def run(self) -> None:
        """Everything is taken back. An action that fails twice does not keep the others from running; its error is raised last.

        An exception from outside, such as KeyboardInterrupt, may leave `run` at any line. Called again, it goes on there.
        """
        failed: Exception | None = None
        while self._actions:
            try:
                _twice(self._actions[-1])
            except Exception as error:  # noqa: BLE001 - whatever one action raises, the others still have to run
                failed = failed or error
            self._actions.pop()
        if failed is not None:
            raise failed

    def check(self) -> None:
        for check in self._checks:
            check()

    def __del__(self) -> None:
        if vars(self).get("_actions") and not sys.is_finalizing():
            uninterrupted(self.run)


def completed(change: Callable[[Undo], T], undo: Undo) -> T:
    """The result of `change(undo)`; if anything is raised on the way, everything is taken back first. Signals wait meanwhile."""
    try:
        try:
            return uninterrupted(partial(change, undo))
        except BaseException:
            uninterrupted(undo.run)
            raise
    except BaseException:
        uninterrupted(undo.run)  # again: an exception can hit the line above, too
        raise


class Changing(ContextDecorator, Generic[T]):
    """A with statement around changes: `change(undo)` makes them on entering, and its result is what `as` names.

    On leaving everything is taken back. Nothing but the with statement owns the undo then, no frame and no traceback: where an
    exception comes before the first line of the exit, or between entering and the body, Python drops the undo and it runs.
    """

    def __init__(self, change: Callable[[Undo], T]) -> None:
        self._change, self._undo = change, Undo()

    def __enter__(self) -> T:
        try:
            return completed(self._change, self._undo)
        except BaseException:  # it could have come when all was done
            uninterrupted(self._undo.run)
            raise

    class _Exit:
        """Found by a with statement before the entering, by ExitStack on the class."""

        def __get__(self, changing: "Changing[Any] | None", _: type | None = None) -> Callable[..., None]:
            return _exit if changing is None else _Leaving.of(changing._undo)

    __exit__ = _Exit()


def changing(change: Callable[[Undo], T]) -> AbstractContextManager[T]:
    """`Changing`, as types know it."""
    return cast("AbstractContextManager[T]", Changing(change))


class _Leaving(partial[None]):
    """`_leave` with its undo. The undo is an attribute and no argument, so that a traceback through `_leave` does not hold it."""

    undo: Undo

    @classmethod
    def of(cls, undo: Undo) -> "_Leaving":
        leaving = cls(_leave, weakref.ref(undo))
        leaving.undo = undo
        return leaving


def _leave(undo: "weakref.ref[Undo]", kind: type[BaseException] | None = None, *_: object) -> None:
    try:
        try:
            uninterrupted(_of(undo).run)
            if kind is None:
                _of(undo).check()
        finally:
            uninterrupted(_of(undo).run)
    finally:
        uninterrupted(_of(undo).run)


def _exit(changing: Changing[Any], *raised: Any) -> None:
    _Leaving.of(changing._undo)(*raised)


def _of(undo: "weakref.ref[Undo]") -> Undo:
    found = undo()
    assert found is not None, "the with statement owns it"
    return found


def _twice(action: Action) -> None:
    """`action`, and again if it failed: it may have been hit by an exception that another thread sent."""
    try:
        action()
    except Exception:  # noqa: BLE001 - as in `run`; what it raises again is its own
        action()


def _put_back(owner: Any, name: str, value: Any) -> None:
    if value is _MISSING:
        vars(owner).pop(name, None)
    else:
        setattr(owner, name, value)
