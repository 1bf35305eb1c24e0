"""The queue: jobs wait in order, and one thread for each base does them. Models are not thread-safe: a session is its thread's alone."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from loraloom.errors import Interrupted, LoraError
from loraloom.web import limits
from loraloom.web.answers import Busy, NoSuch, ShuttingDown
from loraloom.web.api.models import State
from loraloom.web.drawing import Drawn, DrawTask
from loraloom.web.held import Held
from loraloom.web.task import Task

if TYPE_CHECKING:
    from loraloom.session import Session

log = logging.getLogger("loraloom.web")
_WORKERS = 2  # bases that are open at once
_STEP_SECONDS = 2.0  # after an interrupted job's time to finish, for the step that it is in; then nobody waits for it any more

Value = TypeVar("Value")
Queued = TypeVar("Queued", bound=Task)


class _Errand:
    """Something short to do with a base's session, between its jobs."""

    def __init__(self, base: str, work: "Callable[[Session], Any]") -> None:
        self.base, self._work = base, work
        self.answer: Future[Any] = Future()

    def run(self, session: "Session") -> bool:
        """Whatever is raised is the answer: it belongs to the one who asked. Nothing is done for one who has left. False for a bug."""
        if not self.answer.set_running_or_notify_cancel():
            return True
        try:
            self.answer.set_result(self._work(session))
        except LoraError as error:
            self.answer.set_exception(error)
        except Exception as error:
            log.exception("something between jobs failed")
            self.answer.set_exception(error)
            return False
        return True


class Jobs:
    """Takes jobs, has them done, and keeps the last that are over."""

    def __init__(self, open_session: "Callable[[], Session]", held: Held, *, graceful_seconds: float = limits.GRACEFUL_SECONDS) -> None:
        """`open_session` makes a worker's own session; `held` gets to know what becomes of its base. `graceful_seconds` are what a
        running job has left when the server stops."""
        self._open_session, self._held, self._graceful_seconds = open_session, held, graceful_seconds
        self._changed = threading.Condition()
        self._waiting: deque[Task | _Errand] = deque()
        self._tasks: dict[str, Task] = {}  # in order of arrival
        self._workers: list[_Worker] = []
        self._closing, self._leaving = False, 0.0
        self.edition = 0  # of the settings; a worker with an older one opens its session anew

    def submit(self, task: Queued) -> Queued:
        """Put a job into the queue; raises Busy if it is full, ShuttingDown at the end."""
        with self._changed:
            if self.full:
                raise Busy("as many jobs are waiting as this server takes, or as it has memory for; try again when some are over")
            self._tasks[task.id] = task
            self._put(task)
        task.change("queued")
        return task

    def call(self, base: str, work: "Callable[[Session], Value]") -> "Future[Value]":
        """`work` with the session of this base, in its thread, before the jobs that wait."""
        errand = _Errand(base, work)
        with self._changed:
            self._put(errand, first=True)
        return errand.answer

    def get(self, task_id: str) -> Task:
        """The job of this id; raises NoSuch."""
        if task_id not in self._tasks:
            raise NoSuch(f"there is no job {task_id!r}; the last {limits.KEPT_JOBS} are kept")
        return self._tasks[task_id]

    def picture(self, picture_id: str) -> Drawn:
        """The picture of this id; raises NoSuch."""
        for task in self.drawings():
            for drawn in task.pictures:
                if drawn.id == picture_id:
                    return drawn
        raise NoSuch(f"there is no picture {picture_id!r} here any more; pictures of jobs are saved in the output folder")

    def all(self) -> list[Task]:
        """Every job that is known, in order of arrival."""
        with self._changed:
            return list(self._tasks.values())

    def drawings(self) -> list[DrawTask]:
        return [task for task in self.all() if isinstance(task, DrawTask)]

    @property
    def full(self) -> bool:
        """As many jobs wait as the queue takes."""
        with self._changed:
            waiting = [other for other in self._waiting if isinstance(other, Task)]
        return len(waiting) >= limits.WAITING or sum(other.nbytes for other in waiting) >= limits.WAITING_BYTES

    @property
    def closing(self) -> bool:
        return self._closing

    def place(self, task: Task) -> int:
        """In the queue, from 1; 0 for a job that runs or is over."""
        with self._changed:
            waiting = [other for other in self._waiting if isinstance(other, Task)]
        return waiting.index(task) + 1 if task in waiting else 0

    def interrupt(self, task: Task) -> None:
        """Stop a job: at once if it waits, else after the current step. One that is over stays as it is."""
        task.interrupted.set()
        with self._changed:
            queued = task in self._waiting
            if queued:
                self._waiting.remove(task)
        if queued:
            self._end(task, "interrupted")

    def renew(self) -> None:
        """The settings are others: every worker opens its session anew before its next job."""
        self.edition += 1

    def close(self) -> None:
        """Nothing is taken any more; what waits is interrupted, what runs has `graceful_seconds` to finish. Does not wait for it."""
        with self._changed:
            if self._closing:
                return
            self._closing, self._leaving = True, time.monotonic()
            waiting = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for work in waiting:
            if isinstance(work, Task):
                self._end(work, "interrupted")
            elif work.answer.set_running_or_notify_cancel():
                work.answer.set_exception(_leaving())
        for task in [task for task in self.all() if task.state == "running"]:
            threading.Thread(target=self._hurry, args=(task,), daemon=True).start()

    def join(self) -> None:
        """Wait until all workers have left; not for a step that takes longer than a server that stops has time."""
        for worker in self._workers:
            worker.join(max(0.0, self._leaving + self._graceful_seconds + _STEP_SECONDS - time.monotonic()))

    def _hurry(self, task: Task) -> None:
        try:
            task.over.result(timeout=self._graceful_seconds)
        except TimeoutError:
            task.interrupted.set()

    def _put(self, work: "Task | _Errand", *, first: bool = False) -> None:
        if self._closing:
            raise _leaving()
        (self._waiting.appendleft if first else self._waiting.append)(work)
        if all(worker.base != work.base for worker in self._workers) and len(self._workers) < _WORKERS:
            worker = _Worker(self)
            self._workers.append(worker)
            worker.start()
        self._changed.notify_all()

    def _next(self, worker: "_Worker") -> "Task | _Errand | None":
        """The first that this worker may do: of its own base, or of one that no other worker has open. None: leave."""
        with self._changed:
            while True:
                taken = {other.base for other in self._workers if other is not worker}
                for work in self._waiting:
                    if work.base not in taken:
                        self._waiting.remove(work)
                        worker.base = work.base
                        return work
                if self._closing:
                    return None
                self._changed.wait()

    def _run(self, task: Task, session: "Session") -> bool:
        """False if it ended in a bug: what it did to the session and its base is not known."""
        task.change("running")
        try:
            task.run(session)
        except Interrupted:
            self._end(task, "interrupted")
        except LoraError as error:
            task.error = error
            self._end(task, "failed")
        except Exception as error:
            log.exception("job %s failed", task.id)
            task.error = LoraError(f"a bug in loraloom ({type(error).__name__}); the server's log has its traceback")
            self._end(task, "failed")
            return False
        else:
            self._end(task, "done")
        return True

    def _end(self, task: Task, state: State) -> None:
        task.let_go()
        task.change(state)
        task.over.set_result(None)
        with self._changed:
            over = [other for other in self._tasks.values() if other.over.done()]
            kept = sum(other.nbytes for other in over)
            while over and (len(over) > limits.KEPT_JOBS or kept > limits.KEPT_BYTES):
                oldest = over.pop(0)
                kept -= oldest.nbytes
                del self._tasks[oldest.id]


def _leaving() -> ShuttingDown:
    return ShuttingDown("this server is shutting down")


class _Worker(threading.Thread):
    """Works with one base at a time; its session opens the base with its first job that needs it."""

    def __init__(self, jobs: Jobs) -> None:
        super().__init__(name="loraloom-works", daemon=True)  # a step may take longer than a server that stops can wait
        self.base: str | None = None
        self._jobs = jobs
        self._session: Session | None = None
        self._opened: tuple[str, int] | None = None  # the base and edition that the session is for

    def run(self) -> None:
        while work := self._jobs._next(self):
            session = self._ready(work.base)
            sound = self._jobs._run(work, session) if isinstance(work, Task) else work.run(session)
            del session
            if not sound:
                self._drop(work.base)
            del work  # while this thread waits for the next, it would keep all that the last was asked with

    def _ready(self, base: str) -> "Session":
        wanted = (base, self._jobs.edition)
        if self._session is None or wanted != self._opened:
            if self._opened is not None:
                self._jobs._held.close(self._opened[0])
            self._session = None  # before the next is made: two large models may not fit at once
            self._session, self._opened = self._jobs._open_session(), wanted
        return self._session

    def _drop(self, base: str) -> None:
        """The next job begins with a session of its own, and opens the base again."""
        self._session = self._opened = None
        self._jobs._held.drop(base)
