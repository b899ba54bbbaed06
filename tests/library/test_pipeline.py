"""Work done ahead by threads: results in order, bounded, stopped when nobody wants them."""

import threading
import time

import pytest

from lensctl.library.pipeline import in_order


def test_results_keep_the_order_whatever_takes_longer():
    def work(number: int) -> int:
        time.sleep(0.01 if number % 3 == 0 else 0)
        return number * number

    assert list(in_order(range(50), work, 4, window=9)) == [n * n for n in range(50)]


def test_no_more_than_the_window_is_taken_ahead():
    taken: list[int] = []

    def numbers():
        for number in range(100):
            taken.append(number)
            yield number

    results = in_order(numbers(), lambda number: number, 2, window=5)
    assert next(results) == 0
    assert len(taken) == 5
    results.close()
    assert len(taken) == 5


def test_work_runs_side_by_side():
    together = threading.Barrier(2, timeout=20)

    def work(number: int) -> int:
        together.wait()
        return number

    assert list(in_order(range(4), work, 2, window=3)) == [0, 1, 2, 3]


def test_an_error_ends_it_where_it_happened():
    def work(number: int) -> int:
        if number == 3:
            raise RuntimeError("three")
        return number

    results = in_order(range(10), work, 2, window=4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="three"):
        next(results)
