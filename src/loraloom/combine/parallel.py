"""The same work on many modules, several at a time.

A product of thin factors is over before a second core has woken up, so that one module after another gains nothing from BLAS's own
threads (two networks of rank 32 on SDXL, two cores: 2.5 s with two threads, 2.6 with one). One thread a module takes 1.8, and gives
the same bytes whatever the number of threads. A module of whole matrices fills all cores by itself and is worked on where the caller
is, one at a time: memory holds a few copies of the largest layer, never of several.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from threading import Barrier, BrokenBarrierError
from typing import TypeVar

from loraloom.adapters import Adapter, LoRA
from loraloom.bases import Layer
from loraloom.lazy import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(work: Callable[[Item], Result], items: Iterable[Item], light: Callable[[Item], bool]) -> Iterator[Result]:
    """`work` of every item, as `map` gives it; what is `light` is worked on ahead, by as many threads as torch has. What `work` raises
    is raised in its item's turn. Items are taken in the caller's thread, and no more ahead than keeps the threads busy."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield from map(work, items)
        return
    with _workers(threads) as pool:
        ahead: deque[Callable[[], Result]] = deque()
        for item in items:
            ahead.append(pool.submit(work, item).result if light(item) else partial(work, item))
            if len(ahead) > 2 * threads:
                yield ahead.popleft()()
        while ahead:
            yield ahead.popleft()()


def low_rank(layer: Layer, adapters: Sequence[Adapter]) -> bool:
    """Whether the sum of these is light work: all are factors already, of fewer numbers than the weight has."""
    ranks = [adapter.rank for adapter in adapters if isinstance(adapter, LoRA)]
    out, *rest = layer.shape
    return len(ranks) == len(adapters) and sum(ranks) * (out + math.prod(rest)) < math.prod(layer.shape)


@contextmanager
def _workers(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads with one thread of BLAS and OpenMP each. Both keep that number by thread, but torch hands the last one that was set to
    threads that ask for the first time: so each asks before it sets its own, and all have when the caller's is set again."""
    ready = Barrier(threads + 1)

    def start() -> None:
        torch.get_num_threads()
        torch.set_num_threads(1)
        with suppress(BrokenBarrierError):
            ready.wait()

    pool = ThreadPoolExecutor(threads, "loraloom-combine", initializer=start)
    try:
        for _ in range(threads):
            pool.submit(int)
        ready.wait()
        torch.set_num_threads(threads)
        yield pool
    finally:
        ready.abort()
        pool.shutdown(cancel_futures=True)
