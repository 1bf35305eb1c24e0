"""Work on several modules at a time: the order, the errors and torch's own number of threads are those of work one by one."""

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from loraloom.combine.parallel import in_order

pytestmark = pytest.mark.usefixtures("three_threads")


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_items():
    def work(number: int) -> int:
        time.sleep(0.02 * (number % 3 == 0))
        return number**2

    assert list(in_order(work, range(40), lambda number: number % 5 != 0)) == [number**2 for number in range(40)]


def test_light_work_has_one_blas_thread_of_its_own_and_heavy_work_the_callers():
    found = list(in_order(lambda light: (light, torch.get_num_threads(), threading.current_thread()), [True, False] * 6, bool))
    assert {(light, threads) for light, threads, _ in found} == {(True, 1), (False, 3)}
    assert {thread is threading.current_thread() for light, _, thread in found if not light} == {True}
    assert {thread is threading.current_thread() for light, _, thread in found if light} == {False}
    assert torch.get_num_threads() == 3, "the caller's number stays"


def test_new_threads_have_the_callers_number_afterwards():
    list(in_order(abs, range(8), lambda _: True))
    found: list[int] = []
    other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert found == [3]


def test_light_items_are_worked_on_at_the_same_time():
    together = threading.Barrier(3, timeout=20)  # breaks unless three are under way at once
    assert list(in_order(lambda number: together.wait() >= 0 and number, range(9), lambda _: True)) == list(range(9))


def test_an_error_is_raised_in_its_turn_and_no_thread_is_left():
    def work(number: int) -> int:
        if number >= 5:
            raise ValueError(f"number {number}")
        return number

    before = threading.active_count()
    results = in_order(work, range(100), lambda _: True)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="number 5"):
        next(results)
    assert threading.active_count() == before


def test_who_stops_asking_stops_the_work():
    taken: list[int] = []
    results = in_order(taken.append, range(1000), lambda _: True)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(taken) < 20
    assert torch.get_num_threads() == 3


def test_one_thread_works_in_the_caller():
    torch.set_num_threads(1)
    assert list(in_order(lambda _: threading.current_thread(), range(3), lambda _: True)) == [threading.current_thread()] * 3
