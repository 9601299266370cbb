"""Helpers, overlapped requests, stop flags and key locks; also at fork, exit and without threads."""

import gc
import itertools
import os
import random
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from running import (
    LONG,
    in_new_interpreter,
    new_pool,
    no_threads,
    nobody_helps,
    nothing_is_requested,
    threads,
    until,
)

from zarr_core.config import config
from zarr_core.errors import OperationTimeoutError, StoppedError
from zarr_core.threads import calls, key_locks, pool
from zarr_core.threads.calls import Call, current_call, timeout
from zarr_core.threads.key_locks import joint_key_lock, key_lock
from zarr_core.threads.pool import helpers, run
from zarr_core.threads.requests import _OnThreads, overlap

variable: ContextVar[str] = ContextVar("variable", default="")


@pytest.fixture(autouse=True)
def _four_workers() -> Iterator[None]:
    with config.set({"threading.max_workers": 4}):
        yield


@pytest.fixture(params=["iterator", "lock"])
def _both_ways_to_share(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_ITERATORS_ARE_ATOMIC", request.param == "iterator")


@pytest.fixture
def _no_threads() -> Iterator[None]:
    with no_threads():
        yield


@pytest.fixture
def _new_pool() -> Iterator[None]:
    with new_pool():
        yield


# --- calls ---------------------------------------------------------------------------------------


def test_a_plain_call_has_no_state() -> None:
    assert current_call() is None


def test_timeout_raises_an_error_that_says_how_long() -> None:
    with timeout(0):
        call = current_call()
        assert call is not None
        with pytest.raises(OperationTimeoutError, match="within 0 s"):
            call.check()
        with pytest.raises(TimeoutError):
            call.enter()
    assert current_call() is None


def test_a_timeout_of_none_is_no_limit() -> None:
    with timeout(None):
        assert current_call() is None


@pytest.mark.parametrize(("outer", "inner"), [(0, 1000), (1000, 0)])
def test_of_nested_timeouts_the_earlier_one_counts(outer: float, inner: float) -> None:
    with timeout(outer), timeout(inner):
        call = current_call()
        assert call is not None
        with pytest.raises(OperationTimeoutError, match="within 0 s"):
            call.enter()


def test_an_inner_call_stops_with_the_outer_one() -> None:
    with timeout(1000):
        outer = current_call()
        inner = Call()
        innermost_stopped = Call()
    assert outer is not None
    innermost_stopped.stop()
    inner.check()
    outer.stop()
    with pytest.raises(StoppedError):
        inner.check()
    with pytest.raises(StoppedError):
        inner.enter()


@pytest.mark.usefixtures("_hasty")
def test_nobody_is_let_in_after_stop_has_returned() -> None:
    for _ in range(50):
        call, stopped = Call(), threading.Event()
        late: list[int] = []

        def work(call: Call = call, stopped: Any = stopped, late: Any = late) -> None:
            try:
                while True:
                    was_stopped = stopped.is_set()
                    call.enter()
                    if was_stopped:
                        late.append(1)
                        return
            except StoppedError:
                pass

        with threads(work, work):
            call.stop()
            stopped.set()
        assert not late


def test_starting_is_the_time_in_which_a_request_may_not_have_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call = Call()
    assert call.starting() == 0
    monkeypatch.setattr(calls, "START_SECONDS", 1000.0)
    call.enter()
    assert 0 < call.starting() <= 1000
    monkeypatch.setattr(calls, "START_SECONDS", 0.0)
    assert call.starting() == 0


@pytest.mark.parametrize("way", ["timed", "observed", "awaited"])
def test_a_finalizer_may_use_the_library_in_the_middle_of_a_call(way: str) -> None:
    in_new_interpreter(
        f"""
import asyncio, gc, random, threading
import zarr_core as zarr
from zarr_core.threads.calls import on_chunk, timeout
from zarr_core.storage import MemoryStore

finalized, array = [], None
local = threading.local()

class Reads:
    def __init__(self):
        self.me = self

    def __del__(self):
        if array is not None and not getattr(local, "busy", False):
            local.busy = True
            finalized.append(array[:16].sum())
            local.busy = False

class Litters(MemoryStore):
    def get(self, key, byte_range=None):
        for _ in range(0 if getattr(local, "busy", False) else random.randrange(5)):
            Reads()
        gc.set_threshold(random.randrange(1, 60))
        return super().get(key, byte_range)

array = zarr.create_array(Litters(), shape=(64,), chunks=(8,), dtype="i4", compressors=None)
array[...] = 1

def work():
    for number in range(40):
        if {way!r} == "timed":
            with timeout(100):
                assert array[...].sum() == 64
        elif {way!r} == "observed":
            with on_chunk(lambda *args: [[]]):
                assert array[...].sum() == 64
        else:
            async def await_some():
                sums = await asyncio.gather(*(array.getitem_async(...) for _ in range(5)))
                assert all(each.sum() == 64 for each in sums)
            asyncio.run(await_some())

gc.freeze()  # so that collections are quick
threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join({LONG})
print(any(thread.is_alive() for thread in threads), len(finalized) > 10)
""",
        stdout="False True",
    )


# --- caller plus helpers -------------------------------------------------------------------------


def test_helpers_only_where_they_are_worth_it() -> None:
    assert helpers(1, 10_000) == 0
    assert helpers(1000, 2) == 0
    assert helpers(9, 10) == 0
    assert helpers(2, 1000) == 1
    assert helpers(10, 10) == 1
    assert helpers(1000, 1000) == 3
    with config.set({"threading.max_workers": 1}):
        assert helpers(1000, 1000) == 0
    with config.set({"threading.max_workers": None}):
        assert helpers(1_000_000, 1000) == pool._cores() - 1


@pytest.mark.usefixtures("_both_ways_to_share", "_hasty")
@pytest.mark.parametrize("n_helpers", [0, 1, 3])
def test_run_does_every_item_once(n_helpers: int) -> None:
    for n_items in (0, 1, 2, 500):
        done: list[int] = []
        run(done.append, iter(range(n_items)), n_helpers)
        assert sorted(done) == list(range(n_items))


def test_run_works_on_the_callers_thread_and_on_helpers_at_once() -> None:
    together = threading.Barrier(3)
    names = []

    def work(item: int) -> None:
        together.wait(LONG)
        names.append(threading.current_thread())

    run(work, range(3), 2)
    assert threading.current_thread() in names
    assert len(set(names)) == 3
    assert all(thread.daemon for thread in set(names) - {threading.current_thread()})


def test_helpers_see_the_context_of_the_caller() -> None:
    together, seen = threading.Barrier(3), []

    def work(item: int) -> None:
        together.wait(LONG)
        seen.append(variable.get())
        variable.set("changed by a helper")

    token = variable.set("the caller's")
    run(work, range(3), 2)
    assert seen == ["the caller's"] * 3
    variable.reset(token)


def test_helpers_have_no_helpers() -> None:
    together, counts, inner_threads = threading.Barrier(2), [], []

    def work(item: int) -> None:
        together.wait(LONG)
        counts.append(helpers(1000, 1000))
        run(lambda _: inner_threads.append((item, threading.get_ident())), range(50), 3)

    run(work, range(2), 1)
    assert counts == [0, 0]
    assert len(set(inner_threads)) == 2
    assert helpers(1000, 1000) == 3


def test_all_callers_share_one_bounded_set_of_helpers() -> None:
    lock, now, most = threading.Lock(), set(), [0]
    callers: set[int] = set()

    def work(item: int) -> None:
        me = threading.get_ident()
        with lock:
            now.add(me)
            most[0] = max(most[0], len(now - callers))
        time.sleep(0.0005)
        with lock:
            now.discard(me)

    def caller() -> None:
        callers.add(threading.get_ident())
        with config.set({"threading.max_workers": 3}):
            for _ in range(5):
                run(work, range(10), 8)

    with threads(*[caller] * 8):
        pass
    assert 1 <= most[0] <= 2


def test_a_helper_that_waits_for_a_thread_joins_when_one_is_free() -> None:
    two_at_first, two_at_second = threading.Barrier(3), threading.Barrier(2)

    def first() -> None:
        with config.set({"threading.max_workers": 2}):
            run(lambda _: two_at_first.wait(LONG), range(2), 1)

    def second() -> None:
        with config.set({"threading.max_workers": 2}):
            run(lambda _: two_at_second.wait(LONG), range(2), 1)

    with threads(first):
        until(lambda: two_at_first.n_waiting == 2)  # the only helper is busy now
        with threads(second):
            until(lambda: two_at_second.n_waiting == 1)
            two_at_first.wait(LONG)


def test_a_helper_that_has_not_started_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[Callable[[], object]] = []

    def keep(job: Callable[[], object]) -> bool:
        jobs.append(job)
        return True

    monkeypatch.setattr(pool, "start", keep)
    done: list[int] = []
    run(done.append, range(10), 1)
    assert done == list(range(10))
    with threads(*jobs):  # too late: it finds nothing to do
        pass
    assert len(jobs) == 1
    assert done == list(range(10))


@pytest.mark.usefixtures("_both_ways_to_share")
def test_the_first_error_ends_the_rest_and_is_raised_after_running_work() -> None:
    begun, ended, done = threading.Event(), [], []

    def work(item: object) -> None:
        if item == "fails":
            assert begun.wait(LONG)
            raise ZeroDivisionError
        if item == "runs":
            begun.set()
            time.sleep(0.1)
            ended.append(item)
            return
        done.append(item)

    with pytest.raises(ZeroDivisionError):
        run(work, ["fails", "runs", *range(1000)], 1)
    assert ended == ["runs"]
    assert done == []


def test_an_error_of_a_helper_leaves_no_cycles() -> None:
    together = threading.Barrier(2)

    class Large:
        pass

    def work(item: int) -> None:
        large = Large()
        refs.append(weakref.ref(large))
        together.wait(LONG)
        raise ValueError(item)

    refs: list[weakref.ref[Large]] = []
    gc.disable()
    try:
        with pytest.raises(ValueError) as caught:
            run(work, range(2), 1)
        names = [entry.name for entry in caught.traceback]
        assert names[-1] == "work"
        del caught
        assert [ref() for ref in refs] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("n_helpers", [0, 2])
def test_a_stopped_call_ends_the_work(n_helpers: int) -> None:
    call, done = Call(), []

    def work(item: int) -> None:
        call.stop()
        done.append(item)

    with pytest.raises(StoppedError):
        run(work, range(100), n_helpers, call)
    assert 1 <= len(done) <= 1 + n_helpers


def test_ctrl_c_ends_the_work_of_all_and_waits_for_helpers() -> None:
    begun, ended, done = threading.Event(), [], []
    main = threading.get_ident()

    def work(item: int) -> None:
        if threading.get_ident() == main:
            assert begun.wait(LONG)
            signal.raise_signal(signal.SIGINT)
        begun.set()
        time.sleep(0.1)
        ended.append(item)

    with pytest.raises(KeyboardInterrupt):
        run(work, range(1000), 1)
    done = ended.copy()
    assert 1 <= len(done) < 100
    time.sleep(0.02)
    assert ended == done


def test_ctrl_c_while_waiting_for_helpers_does_not_cut_the_wait_short() -> None:
    main, caller_is_done, ended = threading.get_ident(), threading.Event(), []
    begun = threading.Event()

    def work(item: int) -> None:
        if threading.get_ident() == main:
            assert begun.wait(LONG)
            caller_is_done.set()
            return
        begun.set()
        assert caller_is_done.wait(LONG)
        for _ in range(3):
            time.sleep(0.05)
            signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.1)
        ended.append(item)

    with pytest.raises(KeyboardInterrupt):
        run(work, range(2), 1)
    assert len(ended) == 1
    assert helpers(1000, 1000) == 3  # it may be helped again


@pytest.mark.usefixtures("_no_threads")
def test_without_threads_the_caller_does_everything() -> None:
    done: list[int] = []
    run(done.append, range(10), 3)
    assert done == list(range(10))
    assert [value for _, value, _ in overlap(str, range(3))] == ["0", "1", "2"]
    assert nobody_helps()
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


# --- the pool ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_new_pool")
def test_threads_end_when_they_are_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.01)
    ran: list[threading.Thread] = []
    for _ in range(2):
        assert pool.start(lambda: ran.append(threading.current_thread()))
        until(lambda: ran and not ran[-1].is_alive())
    assert ran[0] is not ran[1]


@pytest.mark.usefixtures("_hasty", "_new_pool")
def test_no_job_is_lost_when_threads_end_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.0)
    done: list[int] = []
    for number in range(300):
        assert pool.start(lambda number=number: done.append(number))  # type: ignore[misc]
        if number % 3 == 0:
            until(lambda: len(done) > number)  # noqa: B023
    until(lambda: len(done) == 300)
    assert sorted(done) == list(range(300))


def test_idle_threads_keep_nothing_alive() -> None:
    class Large:
        def __call__(self) -> None:
            ran.set()

    ran = threading.Event()
    large = Large()
    ref = weakref.ref(large)
    assert pool.start(large)
    del large
    assert ran.wait(LONG)
    until(lambda: ref() is None)


# --- overlap -------------------------------------------------------------------------------------


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


# --- locks of keys -------------------------------------------------------------------------------


@pytest.mark.usefixtures("_hasty")
def test_key_lock_excludes_others_from_the_same_key_only() -> None:
    counts = {"a": 0, "b": 0}

    def work(key: str) -> Callable[[], None]:
        def add() -> None:
            for _ in range(200):
                with key_lock(("store", key)):
                    before = counts[key]
                    time.sleep(0)
                    counts[key] = before + 1

        return add

    with threads(*[work("a")] * 4, *[work("b")] * 4):
        pass
    assert counts == {"a": 800, "b": 800}


def test_two_keys_at_once() -> None:
    with key_lock("a"), key_lock("b"):
        pass


def test_key_lock_again_in_the_same_thread_raises_and_names_the_key() -> None:
    def still_held() -> None:
        assert not key_lock(("root", "c/0/0")).acquire(blocking=False)

    with key_lock(("root", "c/0/0")):
        with pytest.raises(RuntimeError, match="c/0/0"), key_lock(("root", "c/0/0")):
            pass
        with threads(still_held):
            pass
    with key_lock(("root", "c/0/0")):
        pass


def test_key_lock_is_released_by_an_error() -> None:
    with pytest.raises(ZeroDivisionError), key_lock("a"):
        1 / 0
    with threads(lambda: key_lock("a").__enter__()):
        pass


def test_a_joint_lock_is_that_of_each_of_its_keys() -> None:
    joint = joint_key_lock(["a", "b"])
    assert joint is not None
    assert key_lock("a") is joint
    assert key_lock("b") is joint
    assert key_lock("c") is not joint
    assert joint_key_lock(["b", "c"]) is None
    del joint
    gc.collect()
    with key_lock("b"):
        assert joint_key_lock(["a", "b"]) is None
        assert joint_key_lock(["a", "c"]) is not None


def test_unused_keys_of_joint_locks_are_forgotten() -> None:
    for start in range(0, 100_000, 1000):
        joint_key_lock([("joint", k) for k in range(start, start + 1000)])
    assert len(key_locks._table.locks) < 10_000


def test_waiting_for_a_key_ends_in_time() -> None:
    def wait() -> None:
        with timeout(0.02), pytest.raises(OperationTimeoutError), key_lock("a"):
            pass

    with key_lock("a"), threads(wait):
        pass


def test_ctrl_c_while_waiting_for_a_key_takes_nothing() -> None:
    held, waits, release = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        with key_lock("a"):
            held.set()
            assert release.wait(LONG)

    def interrupt() -> None:
        assert waits.wait(LONG)
        time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with threads(hold):
        assert held.wait(LONG)
        with threads(interrupt), pytest.raises(KeyboardInterrupt):  # noqa: PT012
            waits.set()
            with key_lock("a"):
                pass
        release.set()
    with key_lock("a"):
        pass


def test_unused_keys_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_locks, "_table", key_locks._Table())
    with key_lock("kept"):
        first = key_lock("kept")
        for number in range(10_000):
            with key_lock(number):
                pass
        assert len(key_locks._table.locks) <= 1100
        assert key_lock("kept") is first


def test_a_finalizer_may_take_a_lock_at_any_moment() -> None:
    finalized = []

    class Closes:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            with key_lock(("other", id(self))):
                finalized.append(1)
            run(lambda _: None, range(2), 1)

    def work() -> None:
        old = gc.get_threshold()
        gc.set_threshold(1)
        try:
            for number in range(300):
                for _ in range(number % 5):  # so that garbage is collected at many places
                    Closes()
                with key_lock(number):
                    pass
                run(lambda _: None, range(2), 1)
                for _ in overlap(str, range(2)):
                    pass
        finally:
            gc.set_threshold(*old)

    with threads(work):
        pass
    assert finalized


def test_the_table_of_keys_can_be_entered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ref = weakref.ref
    nested: list[int] = []

    def interrupted(lock: Any) -> Any:  # as by a finalizer
        if len(nested) < 3:
            nested.append(1)
            for key in ("same", "other"):
                with key_lock(key):
                    pass
        return ref(lock)

    def work() -> None:
        with key_lock("same"):
            pass

    monkeypatch.setattr(weakref, "ref", interrupted)
    with threads(work):
        pass
    assert len(nested) == 3


def test_ctrl_c_at_any_moment_leaves_no_key_locked() -> None:
    if not hasattr(signal, "setitimer"):
        pytest.skip("needs interval timers")
    in_new_interpreter(
        """
import random, signal, threading
from zarr_core.threads.key_locks import key_lock
from zarr_core.threads.pool import run

def is_free():
    found = []
    def ask():
        lock = key_lock("k")
        if found.append(lock.acquire(blocking=False)) or found[0]:
            lock.release()
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return found[0]

signal.signal(signal.SIGALRM, signal.default_int_handler)
n_interrupts = 0
while n_interrupts < 300:
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 3e-4))
        while True:
            with key_lock("k"):
                pass
    except KeyboardInterrupt as error:
        n_interrupts += 1
        kept = error  # with its frames, as an interactive session keeps them
    assert is_free()
print("free")
""",
        stdout="free",
    )


# --- fork and exit -------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_its_own_threads_locks_and_budgets() -> None:
    in_new_interpreter(
        """
import os, threading, time, warnings
from zarr_core.threads import calls, pool
from zarr_core.config import config
from zarr_core.threads.requests import overlap
from zarr_core.threads.key_locks import key_lock
from zarr_core.threads.pool import run
warnings.simplefilter("ignore")  # that a process with threads forks
config.set({"threading.max_workers": 3, "io.max_requests": 2})
release, busy = threading.Event(), threading.Barrier(5)

def block(_):
    busy.wait()
    release.wait()

def hold():
    with key_lock("k"):
        list(overlap(block, range(2)))

def helped():
    run(block, range(2), 1)

threads = [threading.Thread(target=hold), threading.Thread(target=helped)]
for thread in threads:
    thread.start()
busy.wait()
guard, taken, give_back = pool._process.lock, threading.Event(), threading.Event()
def hold_guard():
    with guard:
        taken.set()
        give_back.wait()
threads.append(threading.Thread(target=hold_guard))
threads[-1].start()
taken.wait()

def works():
    together = threading.Barrier(2)
    with key_lock("k"):
        run(lambda _: together.wait(20), range(2), 1)
    together = threading.Barrier(2)
    return len(list(overlap(lambda _: together.wait(20), range(2)))) == 2

def in_child(child):
    if child == 0:
        ok = False
        try:
            ok = works()
        finally:
            os._exit(0 if ok else 1)
    return os.waitpid(child, 0)[1]

codes = [in_child(os.fork()) for _ in range(5)]
give_back.set()
with key_lock("mine"):
    # A lock of its own does not come along either.
    codes.append(in_child(os.fork()))
release.set()
for thread in threads:
    thread.join()
codes += [in_child(os.fork()) for _ in range(2)]
print(codes, works())
""",
        stdout="[0, 0, 0, 0, 0, 0, 0, 0] True",
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_what_was_under_way_at_a_fork_does_not_hang_the_child() -> None:
    in_new_interpreter(
        """
import os, threading, time, warnings
from zarr_core.threads.requests import overlap
from zarr_core.threads.key_locks import key_lock
warnings.simplefilter("ignore")
release = threading.Event()
results = overlap(lambda item: item and release.wait(20), range(3))
next(results)
with key_lock("k"):
    child = os.fork()
    # Both leave the lock.
if child == 0:
    results.close()
    with key_lock("k"):
        os._exit(7)
release.set()
results.close()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""",
        stdout="7",
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_finds_every_lock_free(tmp_path: Path) -> None:
    in_new_interpreter(
        f"""
import asyncio, gc, os, threading, warnings
import numpy as np
import zarr_core as zarr
from zarr_core import locks
from zarr_core.threads import calls, pool, twins
from zarr_core.storage import LocalStore, MemoryStore, ZipStore
from zarr_core.threads import coroutines as loops
warnings.simplefilter("ignore")
root = {str(tmp_path)!r}

async def nothing():
    return 1

def use(array):
    array[:4] = 1
    with zarr.timeout(20), zarr.on_chunk(lambda *args: None), zarr.config.set({{"array.order": "F"}}):
        assert array[:4].sum() == 4
    asyncio.run(array.getitem_async(...))
    array.attrs["a"] = 1

def makes(store):
    return zarr.create_array(
        store, shape=(64,), chunks=(4,), shards=(16,), dtype="i4", overwrite=True,
        config={{"shard_index_cache_bytes": 1 << 20}},
    )

arrays = [
    makes(MemoryStore()),
    makes(LocalStore(root + "/local")),
    makes(zarr.storage.CacheStore(MemoryStore(), cache_store=MemoryStore())),
]
for array in arrays:
    use(array)
with ZipStore(root + "/a.zip", mode="w") as store:
    makes(store)[...] = 1
zipped = zarr.open_array(ZipStore(root + "/a.zip", mode="r"))
loops.run_on(loops.own_loop(), nothing)

kinds = tuple({{type(threading.Lock()), type(threading.RLock())}})

def locks_of(value, depth=0, seen=None):
    # every lock that can be reached from the modules of the package, and from the arrays
    seen = set() if seen is None else seen
    if id(value) in seen or depth > 8:
        return
    seen.add(id(value))
    if isinstance(value, kinds):
        yield value
        return
    if isinstance(value, (str, bytes, int, float, np.ndarray, type(os))) and depth:
        return
    if not (depth == 0 or type(value).__module__.startswith(("zarr_core", "builtins", "weakref"))):
        return
    below = gc.get_referents(value)
    if isinstance(value, (threading.local,)):
        below = []
    for each in below:
        yield from locks_of(each, depth + 1, seen)

held, give_back = threading.Event(), threading.Event()

def hold():
    import sys
    seen, found = set(), list(locks._locks)
    for name, module in sorted(sys.modules.items()):
        if name.startswith("zarr_core"):
            for value in list(vars(module).values()):
                if type(value).__module__.startswith("zarr_core"):
                    found.extend(locks_of(value, 0, seen))
    for array in (*arrays, zipped):
        found.extend(locks_of(array, 0, seen))
    unique = list({{id(lock): lock for lock in found}}.values())
    free = [lock for lock in unique if lock.acquire(blocking=False)]
    assert len(free) > 12, len(free)
    held.set()
    give_back.wait()
    for lock in free:
        lock.release()

thread = threading.Thread(target=hold)
thread.start()
held.wait({LONG})
child = os.fork()
if child == 0:
    import faulthandler
    faulthandler.dump_traceback_later({LONG}, exit=True)
    for array in arrays:
        use(array)
    assert zipped[...].sum() == 64
    loops.run_on(loops.own_loop(), nothing)
    os._exit(7)
give_back.set()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""",
        stdout="7",
    )


AT_EXIT = """
import atexit, builtins, sys, threading, time
from zarr_core.threads import calls, pool
from zarr_core.config import config
from zarr_core.threads.requests import overlap
from zarr_core.threads.key_locks import key_lock
from zarr_core.threads.pool import run, start
config.set({"threading.max_workers": 3})
pool.EXIT_SECONDS = 0.1

def use(word):
    done = []
    with key_lock("k"):
        run(done.append, range(100), 2)
    assert sorted(done) == list(range(100))
    assert len(list(overlap(str, range(10)))) == 10
    sys.stdout.write(word + " ")
    sys.stdout.flush()

class Last:
    def __init__(self, word):
        self.word = word
    def __del__(self, use=use):
        use(self.word)
"""


@pytest.mark.parametrize("before", ["", "use('warm')"])
def test_work_at_exit_is_done(before: str) -> None:
    in_new_interpreter(
        f"""{AT_EXIT}
{before}
def later(word):
    time.sleep(0.05)
    use(word)
atexit.register(use, "atexit")
threading._register_atexit(use, "threads")
builtins.last = Last("finalizer")
threading.Thread(target=later, args=("non-daemon",)).start()
start(lambda: later("daemon"))
pool.EXIT_SECONDS = 20
""",
        stdout=f"{'warm ' if before else ''}threads non-daemon daemon atexit finalizer",
    )


def test_a_first_read_at_exit_finds_no_damaged_chunk() -> None:
    in_new_interpreter(
        """
import builtins, sys
import zarr_core as zarr
from zarr_core.codecs import zstd
write = sys.stdout.write
array = zarr.create_array({}, shape=(1000,), chunks=(1000,), dtype="i4")
array[...] = 1

class Last:
    def __del__(self):
        zstd._thread.__dict__.clear()  # as in a new thread
        write(str(array[...].tolist() == [1] * 1000))
        sys.stdout.flush()

builtins.last = Last()
""",
        stdout="True",
    )


def test_exit_does_not_wait_for_what_hangs() -> None:
    in_new_interpreter(
        f"""{AT_EXIT}
results = overlap(lambda x: x and time.sleep(1000), range(2))
next(results)
held = threading.Event()
def hold():
    with key_lock("held"):
        held.set()
        time.sleep(1000)
start(hold)
held.wait()

class Waits(Last):
    def __del__(self, use=use, key_lock=key_lock, results=results):
        use("works")
        results.close()
        try:
            with key_lock("held"):
                use("locked")
        except RuntimeError as error:
            assert "shut down" in str(error)
            use("raises")
atexit.register(use, "atexit")
builtins.last = Waits("")
""",
        stdout="atexit works raises",
    )


def test_import_starts_no_thread_and_loads_nothing_slow() -> None:
    in_new_interpreter(
        """
import sys, threading
import numpy
before = set(sys.modules)
import zarr_core.threads.twins, zarr_core.threads.pool
slow = {"asyncio", "anyio", "trio", "concurrent.futures"}
print(threading.active_count(), sorted(slow & (set(sys.modules) - before)))
""",
        stdout="1 []",
    )


# --- all at once ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("_both_ways_to_share", "_hasty")
def test_many_threads_do_everything_at_once() -> None:
    def work(seed: int) -> Callable[[], None]:
        def loop() -> None:
            chance = random.Random(seed)
            with config.set({"io.max_requests": 4, "threading.max_workers": 3}):
                for _ in range(15):
                    n_items, fails = chance.randrange(40), chance.random() < 0.3
                    done: list[int] = []

                    def step(item: int, done: list[int] = done, fails: bool = fails) -> None:
                        if fails and item == 7:
                            raise ZeroDivisionError
                        with key_lock(item % 3):
                            done.append(item)

                    try:
                        run(step, range(n_items), chance.randrange(4))
                    except ZeroDivisionError:
                        assert fails
                    else:
                        assert sorted(done) == list(range(n_items))
                    found = sorted(overlap(lambda x: -x, range(n_items), limit=3))
                    assert found == [(item, -item, None) for item in range(n_items)]

        return loop

    with threads(*map(work, range(8))):
        pass
    until(nobody_helps)
    assert nothing_is_requested()


def test_waiting_work_gets_more_threads_than_cores() -> None:
    for cores, n_threads, expected in ((2, 4, 3), (2, 0, 1), (8, 4, 7), (1, 4, 0)):
        with config.set({"threading.max_workers": cores}):
            assert helpers(100, 50.0, n_threads) == expected
