"""Requests that overlap: order, budgets, errors, and their end."""

import gc
import itertools
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from running import (
    LONG,
    nothing_is_requested,
    threads,
    until,
)

from zarr_core.config import config
from zarr_core.errors import OperationTimeoutError, StoppedError
from zarr_core.threads import pool
from zarr_core.threads.calls import current_call, timeout
from zarr_core.threads.requests import _OnThreads, overlap

pytestmark = pytest.mark.usefixtures("_four_workers")

variable: ContextVar[str] = ContextVar("variable", default="")


def test_overlap_gives_values_with_the_positions_of_their_items() -> None:
    found = sorted(overlap(lambda item: item * 2, iter(range(100)), limit=7))
    assert found == [(index, index * 2, None) for index in range(100)]


def test_overlap_of_nothing_is_nothing() -> None:
    assert list(overlap(str, [])) == []


def test_overlap_yields_in_the_order_of_completion() -> None:
    release = threading.Event()

    def wait(item: int) -> None:
        if item == 0:
            assert release.wait(LONG)

    order = []
    for index, _, _ in overlap(wait, range(10)):
        order.append(index)
        if len(order) == 9:
            release.set()
    assert order[-1] == 0
    assert sorted(order) == list(range(10))


def test_overlap_really_overlaps_and_keeps_to_the_limit() -> None:
    lock, now, most = threading.Lock(), [0], [0]
    four = threading.Barrier(4)

    def work(item: int) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        four.wait(LONG)
        with lock:
            now[0] -= 1

    assert len(list(overlap(work, range(40), limit=4))) == 40
    assert most[0] == 4


def test_threads_that_ended_a_call_make_those_that_were_kept() -> None:
    made: list[int] = []
    gate, first = threading.Event(), threading.Event()

    def work(item: int) -> int:
        assert (first if item == 0 else gate).wait(LONG)
        made.append(threading.get_ident())
        return item

    answers = overlap(work, range(100), limit=16)
    first.set()
    found = [next(answers)[1]]
    gate.set()
    until = time.monotonic() + LONG
    while len(made) < 18 and time.monotonic() < until:  # nobody takes results or starts calls
        time.sleep(0.001)
    time.sleep(0.01)
    assert 18 <= len(made) <= 19
    assert len(set(made)) <= 16
    found += [value for _, value, _ in answers]
    assert sorted(v for v in found if v is not None) == list(range(100))


def test_calls_that_were_kept_are_not_made_after_the_end() -> None:
    made: list[int] = []
    gate = threading.Event()

    def work(item: int) -> None:
        made.append(item)
        if item:
            assert gate.wait(LONG)

    answers = overlap(work, range(100), limit=16)
    next(answers)
    threading.Timer(0.05, gate.set).start()
    answers.close()
    assert len(made) <= 17
    assert nothing_is_requested()


def test_an_item_of_unknown_size_is_an_error_of_the_caller() -> None:
    def size_of(item: int) -> int:
        if item == 20:
            raise IndexError("no size")
        return 1

    with pytest.raises(IndexError, match="no size"):
        list(overlap(str, range(30), limit=16, size_of=size_of))


def test_overlap_takes_items_lazily_on_the_iterating_thread() -> None:
    taken, thread_ids = [], set()

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            thread_ids.add(threading.get_ident())
            yield item

    for n_results, _ in enumerate(overlap(str, items(), limit=5), 1):
        assert len(taken) <= n_results + 5
    assert thread_ids == {threading.get_ident()}


def test_overlap_reports_errors_per_item() -> None:
    def work(item: int) -> int:
        if item % 3 == 0:
            raise OSError(item)
        return item

    found = sorted(overlap(work, range(9)), key=lambda result: result[0])
    assert [value for _, value, _ in found] == [None, 1, 2, None, 4, 5, None, 7, 8]
    assert [type(error) for _, _, error in found[:3]] == [OSError, type(None), type(None)]


def test_overlap_raises_what_is_not_an_error_of_an_item() -> None:
    def work(item: int) -> None:
        if item == 5:
            raise SystemExit(5)

    with pytest.raises(SystemExit):
        list(overlap(work, range(10)))


def test_overlap_errors_leave_no_cycles() -> None:
    class Large:
        pass

    def work(item: int) -> None:
        large = Large()
        refs.append(weakref.ref(large))
        raise ValueError(item)

    refs: list[weakref.ref[Large]] = []
    gc.disable()
    try:
        results = overlap(work, range(6))
        next(results)
        until(lambda: len(refs) == 6)
        results.close()
        del results
        until(lambda: all(ref() is None for ref in refs))
    finally:
        gc.enable()


def test_closing_overlap_starts_nothing_more_and_waits_for_what_runs() -> None:
    begun, ended, gate = [], [], threading.Event()

    def work(item: int) -> None:
        begun.append(item)
        if item > 0:
            assert gate.wait(LONG)
        ended.append(item)

    results = overlap(work, range(1000), limit=4)
    assert next(results)[0] == 0

    def open_gate() -> None:
        time.sleep(0.05)
        gate.set()

    with threads(open_gate):
        results.close()
    assert sorted(begun) == sorted(ended)
    assert len(ended) < 10
    assert nothing_is_requested()


def test_closing_overlap_takes_back_what_has_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    start, gate = pool.start, threading.Event()
    begun: list[int] = []
    late: list[Callable[[], object]] = []

    def start_two(job: Callable[[], object]) -> bool:
        if len(begun) < 2:
            assert start(job)
            until(lambda: len(begun) > len(seen))
            seen.append(1)
        else:
            late.append(job)
        return True

    def work(item: int) -> None:
        begun.append(item)
        if item == 1:
            assert gate.wait(LONG)

    def begin_late() -> None:
        time.sleep(0.02)
        for job in late:
            job()
        gate.set()

    seen: list[int] = []
    monkeypatch.setattr("zarr_core.threads.requests.start", start_two)
    results = overlap(work, range(20))
    assert next(results)[0] == 0
    with threads(begin_late):
        results.close()
    assert begun == [0, 1]
    assert len(late) == 18


def test_an_error_of_the_source_closes_overlap() -> None:
    ended = []

    def items() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    def work(item: int) -> None:
        time.sleep(0.05)
        ended.append(item)

    with pytest.raises(ZeroDivisionError):
        list(overlap(work, items()))
    assert ended in ([], [1])  # taken back, or waited for
    assert nothing_is_requested()


def test_all_callers_share_one_budget_of_requests() -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def work(item: int) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.001)
        with lock:
            now[0] -= 1

    def caller() -> None:
        with config.set({"io.max_requests": 3}):
            assert len(list(overlap(work, range(20)))) == 20

    with threads(*[caller] * 8):
        pass
    assert most[0] <= 3 + 8  # one each is always possible
    assert nothing_is_requested()


def test_overlap_inside_overlap_does_not_deadlock() -> None:
    def outer(item: int) -> int:
        return sum(value or 0 for _, value, _ in overlap(lambda x: x * item, range(5)))

    with config.set({"io.max_requests": 2}):
        found = sorted(overlap(outer, range(6)))
    assert found == [(item, 10 * item, None) for item in range(6)]


def test_overlap_bounds_the_bytes_of_results_that_were_not_taken() -> None:
    begun: list[int] = []
    with config.set({"io.max_bytes": 25}):
        results = overlap(begun.append, range(10), size_of=lambda item: 10)
        next(results)
        assert len(begun) <= 2
        assert len(list(results)) == 9
        assert list(overlap(str, [1, 2], size_of=lambda item: 100))  # larger than the budget
        assert list(overlap(str, [1, 2], size_of=lambda item: None))
    assert nothing_is_requested()


def test_overlap_sees_the_context_of_the_iterating_thread() -> None:
    token = variable.set("seen")
    assert {value for _, value, _ in overlap(lambda item: variable.get(), range(5))} == {"seen"}
    variable.reset(token)


def test_overlap_ends_with_a_stopped_call() -> None:
    begun = []
    with timeout(1000):
        call = current_call()
        assert call is not None

        def work(item: int) -> None:
            begun.append(item)
            if item == 3:
                call.stop()

        with pytest.raises(StoppedError):
            for _ in overlap(work, itertools.count(), limit=2):
                pass
    assert 3 in begun


def test_overlap_ends_in_time_while_it_waits() -> None:
    begun: list[int] = []
    ended: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        until(lambda: len(begun) == 3)
        call = current_call()
        assert call is not None
        call.deadline = 0.0
        time.sleep(0.2)
        ended.append(item)

    with timeout(1000), pytest.raises(OperationTimeoutError):
        list(overlap(work, range(3)))
    assert len(ended) == 3  # running requests are waited for


def test_ctrl_c_in_overlap_waits_for_what_runs() -> None:
    begun, ended = [], []

    def work(item: int) -> None:
        begun.append(item)
        time.sleep(0.1)
        ended.append(item)

    def interrupt() -> None:
        until(lambda: len(begun) == 3)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with threads(interrupt), pytest.raises(KeyboardInterrupt):
        list(overlap(work, range(100), limit=3))
    assert sorted(begun) == sorted(ended)
    assert len(begun) <= 6
    assert nothing_is_requested()


def test_kept_calls_are_made_when_others_use_up_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that finds no room for a kept call must not leave it to nobody."""
    main, gate = threading.current_thread(), threading.Event()
    admit = _OnThreads._admit

    def late_refusal(self: Any, request: Any) -> bool:
        if threading.current_thread() is main:
            return admit(self, request)
        time.sleep(0.1)  # until the thread that iterates waits for an outcome
        return False

    def items() -> Iterator[int]:
        yield from range(9)  # eight are started, one is kept
        gate.set()

    def fn(item: int) -> int:
        gate.wait(20)
        return item

    monkeypatch.setattr(_OnThreads, "_admit", late_refusal)
    with config.set({"io.max_requests": 8}):
        found = [value for _, value, _ in overlap(fn, items()) if value is not None]
    assert sorted(found) == list(range(9))
