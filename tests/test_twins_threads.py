"""How twins run: threads, limits, cancellation, event loops; also at fork, exit and without threads."""

import array
import asyncio
import gc
import inspect
import os
import pickle
import random
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from typing import Any, final

import anyio
import anyio.lowlevel
import anyio.to_thread
import numpy as np
import pytest
import trio
from running import (
    LONG,
    Main,
    every_loop,
    in_new_interpreter,
    n_lanes_of_objects,
    new_pool,
    no_threads,
    run_anyio_on_trio,
    run_asyncio,
    run_uvloop,
    twins_that,
    until,
    until_async,
)

import zarr_core as zarr
from zarr_core.config import config
from zarr_core.errors import OperationTimeoutError, StoppedError, ZarrRuntimeWarning
from zarr_core.storage import LatencyStore, MemoryStore
from zarr_core.threads import calls, pool, twins
from zarr_core.threads.twins import async_tuple_twin, async_twin, limit

variable: ContextVar[str] = ContextVar("variable", default="")


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    yield
    until(lambda: not twins_that("run"))
    assert not twins_that("wait")


class Fake:
    """A store with gates: what runs, what was asked for, and when."""

    high_latency = False

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun = 0
        self.ended = 0
        self.requests = 0
        self.now = 0
        self.most = 0
        self.lock = threading.Lock()

    def work(self, seconds: float = 0.0) -> None:
        """Stay until the gate opens, or for some time."""
        with self.lock:
            self.begun += 1
            self.now += 1
            self.most = max(self.most, self.now)
        if seconds:
            time.sleep(seconds)
        else:
            assert self.gate.wait(LONG)
        with self.lock:
            self.ended += 1
            self.now -= 1

    def work_on(self) -> None:
        """Stay until told to stop, and some time more, as if in the middle of a request."""
        call = calls.current_call()
        assert call is not None
        self.begun += 1
        until(lambda: call.stopped)
        time.sleep(0.05)
        self.ended += 1

    def chunks(self) -> None:
        """Make one request after another, as reads and writes of many chunks do."""
        call = calls.current_call()
        assert call is not None
        while True:
            call.enter()
            self.requests += 1
            self.work(0.001)


write = async_twin(Fake.work)
read = async_twin(Fake.work, private=True)
write_on = async_twin(Fake.work_on)
write_chunks = async_twin(Fake.chunks)
read_chunks = async_twin(Fake.chunks, private=True)


# --- what a twin is ------------------------------------------------------------------------------


@final
class Thing:
    """A class with twins, as `Array` and `Group` have them."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    @staticmethod
    def open(factor: int, *, mode: str = "r") -> "Thing":
        return Thing(factor)

    def __getitem__(self, index: int) -> int:
        return index * self.factor

    def _size(self) -> int:
        return self.factor

    def names(self) -> Iterator[str]:
        """Say on which thread the names were made."""
        for _ in range(self.factor):
            yield threading.current_thread().name

    open_async = staticmethod(async_twin(open))
    getitem_async = async_twin(__getitem__)
    size_async = async_twin(_size)
    names_async = async_tuple_twin(names)


def double(number: int, *, plus: int = 0) -> int:
    """Return twice a number."""
    return 2 * number + plus


double_async = async_twin(double)


def test_twins_are_named_after_what_they_twin() -> None:
    assert double_async.__name__ == double_async.__qualname__ == "double_async"
    assert Thing.getitem_async.__name__ == "getitem_async"
    assert Thing.getitem_async.__qualname__ == "Thing.getitem_async"
    assert Thing.size_async.__qualname__ == "Thing.size_async"
    assert double_async.__doc__ is not None
    assert "`double`" in double_async.__doc__


def test_twins_are_coroutine_functions_with_the_signature_of_the_original() -> None:
    for twin, original in (
        (double_async, double),
        (Thing.getitem_async, Thing.__getitem__),
        (Thing(1).getitem_async, Thing(1).__getitem__),
        (Thing.open_async, Thing.open),
    ):
        assert inspect.iscoroutinefunction(twin)
        assert inspect.signature(twin) == inspect.signature(original)


def test_twins_pickle_as_themselves() -> None:
    assert pickle.loads(pickle.dumps(double_async)) is double_async
    assert pickle.loads(pickle.dumps(Thing.open_async)) is Thing.open_async
    method = pickle.loads(pickle.dumps(Thing(3).getitem_async))
    assert asyncio.run(method(4)) == 12


@every_loop
def test_twins_return_what_the_original_returns(run: Callable[[Main], Any]) -> None:
    async def main() -> None:
        assert await double_async(2, plus=1) == 5
        thing = await Thing.open_async(3, mode="a")
        assert await thing.getitem_async(5) == 15
        assert await thing.size_async() == 3

    run(main)
    run(main)


@every_loop
def test_lazy_results_are_collected_in_the_thread(run: Callable[[Main], Any]) -> None:
    assert run(Thing(3).names_async) == ("zarr_core",) * 3


@every_loop
def test_calls_run_on_threads_of_ours_at_the_same_time(run: Callable[[Main], Any]) -> None:
    together = threading.Barrier(3)

    def meet() -> str:
        together.wait(LONG)
        return threading.current_thread().name

    meet_async = async_twin(meet)
    found = []

    async def main() -> None:
        async def one() -> None:
            found.append(await meet_async())

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(one)

    run(main)
    assert found == ["zarr_core"] * 3


@every_loop
def test_context_variables_reach_the_thread_and_do_not_come_back(
    run: Callable[[Main], Any],
) -> None:
    def look() -> str:
        seen = variable.get()
        variable.set("changed in the thread")
        return seen

    async def main() -> None:
        variable.set("from the task")
        assert await async_twin(look)() == "from the task"
        assert variable.get() == "from the task"
        assert calls.current_call() is None

    run(main)


# --- errors --------------------------------------------------------------------------------------


def fail(error: BaseException) -> None:
    raise error


fail_async = async_twin(fail)


@every_loop
def test_errors_come_with_the_frames_of_the_thread(run: Callable[[Main], Any]) -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError) as caught:
            await fail_async(ZeroDivisionError("here"))
        assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "fail"

    run(main)


@every_loop
def test_results_errors_and_arguments_are_not_kept_alive(run: Callable[[Main], Any]) -> None:
    class Large:
        pass

    def give(argument: Large, error: type[Exception] | None) -> Large:
        local, result = Large(), Large()
        refs.extend(map(weakref.ref, (argument, local, result)))
        if error is not None:
            raise error
        return result

    give_async = async_twin(give)
    refs: list[weakref.ref[Large]] = []

    async def main() -> None:
        await give_async(Large(), None)
        with pytest.raises(ValueError):
            await give_async(Large(), ValueError)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await give_async(Large(), ValueError)
        await until_async(lambda: len(refs) >= 6 and not any(ref() for ref in refs))

    gc.disable()
    try:
        run(main)
    finally:
        gc.enable()


def test_system_exit_in_the_thread_ends_the_program_as_it_would_without_one() -> None:
    async def main() -> None:
        await fail_async(SystemExit(3))

    with pytest.raises(SystemExit):
        asyncio.run(main())


def test_stop_iteration_becomes_a_runtime_error() -> None:
    async def main() -> None:
        await fail_async(StopIteration(3))

    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(main())


@every_loop
def test_a_timeout_from_the_settings(run: Callable[[Main], Any]) -> None:
    fake = Fake()

    async def main() -> None:
        with config.set({"async.timeout": 0.02}), pytest.raises(OperationTimeoutError):
            await write_chunks(fake)
        await double_async(1)

    run(main)


# --- limits --------------------------------------------------------------------------------------


async def many(twin: Callable[..., Coroutine[Any, Any, Any]], count: int, *args: Any) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(partial(twin, *args))


@every_loop
def test_limit_bounds_the_calls_of_a_context(run: Callable[[Main], Any]) -> None:
    fake = Fake()

    async def main() -> None:
        with limit(3):
            await many(write, 12, fake, 0.005)

    run(main)
    assert (fake.ended, fake.most) == (12, 3)


def test_limits_are_positive() -> None:
    with pytest.raises(ValueError, match="at least 1"), limit(0):
        pass


def test_the_limits_of_the_settings() -> None:
    slow, quick = Fake(), Fake()
    slow.high_latency = True

    async def main() -> None:
        with config.set({"async.limit": 2, "async.limit_high_latency": 5}):
            await asyncio.gather(many(write, 20, slow, 0.005), many(write, 20, quick, 0.005))

    asyncio.run(main())
    assert (slow.most, quick.most) == (5, 2)


def test_one_limit_holds_for_all_event_loops() -> None:
    fake = Fake()

    def loop() -> None:
        with config.set({"async.limit": 2}):
            asyncio.run(many(write, 10, fake, 0.003))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: loop(), range(3)))
    assert (fake.ended, fake.most) == (30, 2)


def test_an_object_can_have_a_limit_of_its_own() -> None:
    class Owner(Fake):
        def _twin_lane(self) -> tuple[bool, int | None, object]:
            return False, 1, self

    one, other = Owner(), Owner()

    async def main() -> None:
        first = asyncio.create_task(write(one))
        second = asyncio.create_task(write(one))
        await until_async(lambda: one.begun)
        await write(other, 0.001)  # is not behind them
        assert one.begun == 1
        one.gate.set()
        await asyncio.gather(first, second)

    asyncio.run(main())
    assert (one.ended, one.most) == (2, 1)
    until(lambda: n_lanes_of_objects() == 0)


class _Slow:
    high_latency = True


class _Path:
    store = _Slow()


def slow_array() -> zarr.Array:
    return zarr.create_array(LatencyStore(MemoryStore()), shape=(4,), dtype="int8")


@pytest.mark.parametrize(
    ("args", "kwargs", "n_at_once"),
    [
        *[
            (args, kwargs, n_at_once)
            for subject, n_at_once in [
                ("s3://bucket/a", 5),
                ("https://host/a", 5),
                ("simplecache::s3://bucket/a", 5),
                ("zip://a::s3://bucket/b.zip", 5),
                ("file:///a", 2),
                ("memory://a", 2),
                ("some/path", 2),
                (_Slow(), 5),
                (_Path(), 5),
                ({}, 2),
                (None, 2),
            ]
            for args, kwargs in (((subject,), {}), ((), {"store": subject}))
        ],
        (([(slow_array(), ...), (zarr.zeros(4), ...)],), {}, 5),  # of several the first decides
        (([(zarr.zeros(4), ...), (slow_array(), ...)],), {}, 2),
        ((), {"items": ((slow_array(), ...), (zarr.zeros(4), ...))}, 5),
    ],
)
def test_as_many_calls_run_at_once_as_suit_the_store(
    args: tuple[Any, ...], kwargs: dict[str, Any], n_at_once: int
) -> None:
    with config.set({"async.limit": 2, "async.limit_high_latency": 5}):
        check_how_many_run_at_once(n_at_once, *args, **kwargs)


def check_how_many_run_at_once(n_at_once: int, *args: Any, **kwargs: Any) -> None:
    fake = Fake()
    twin = async_twin(lambda *args, **kwargs: fake.work())

    async def main() -> None:
        tasks = [asyncio.create_task(twin(*args, **kwargs)) for _ in range(n_at_once + 2)]
        await until_async(lambda: fake.begun == n_at_once)
        await asyncio.sleep(0.005)
        assert fake.begun == n_at_once
        fake.gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())


def test_the_default_limit_is_about_the_core_count() -> None:
    check_how_many_run_at_once(max(4, os.cpu_count() or 1))


class Told:
    """Calls of twins on asyncio, whose threads wait after each "it has ended" for `go_on`."""

    def __init__(self, n_at_once: int) -> None:
        self.n_at_once = n_at_once
        self.log: list[str] = []
        self.threads: set[int] = set()
        self._go_on = threading.Semaphore(0)

    def work(self, name: str, gate: threading.Event | None = None) -> None:
        self.log.append(name)
        self.threads.add(threading.get_ident())
        assert gate is None or gate.wait(LONG)

    async def submit(self, *names: str, gate: Any = None) -> list["asyncio.Task[None]"]:
        twin = async_twin(self.work)
        tasks = [asyncio.create_task(twin(name, gate)) for name in names]
        for _ in range(3):
            await asyncio.sleep(0)
        return tasks

    def go_on(self, times: int = 1) -> None:
        self._go_on.release(times)

    def run(self, program: Callable[["Told"], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            on_loop, post = threading.get_ident(), loop.call_soon_threadsafe

            def tell(*args: Any, **kwargs: Any) -> Any:
                handle = post(*args, **kwargs)
                if threading.get_ident() != on_loop:
                    assert self._go_on.acquire(timeout=LONG)
                return handle

            loop.call_soon_threadsafe = tell  # type: ignore[method-assign]
            with limit(self.n_at_once):
                await program(self)

        with new_pool():
            asyncio.run(main())


def test_a_thread_that_has_told_makes_the_next_call_too() -> None:
    async def program(told: Told) -> None:
        for name in ("first", "second", "third"):
            (task,) = await told.submit(name)
            if name != "first":
                told.go_on()
            await task
        told.go_on()
        assert len(told.threads) == 1

    told = Told(4)
    told.run(program)
    assert told.log == ["first", "second", "third"]


def test_calls_do_not_wait_for_one_that_a_thread_took_when_it_looked_once_more() -> None:
    async def program(told: Told) -> None:
        (first,) = await told.submit("first")
        await first
        gate = threading.Event()
        waits = await told.submit("a", gate=gate)
        others = await told.submit("b", "c")
        told.go_on(4)
        await asyncio.wait_for(asyncio.gather(*others), LONG)
        gate.set()
        await asyncio.gather(*waits)

    Told(4).run(program)


def test_calls_are_made_in_order_when_a_thread_looks_once_more() -> None:
    async def program(told: Told) -> None:
        gate = threading.Event()
        (first,) = await told.submit("first")
        (other,) = await told.submit("other", gate=gate)
        await first
        rest = await told.submit("a", "b", "c")  # b must not come before a, which has no thread yet
        told.go_on(5)
        await asyncio.gather(*rest)
        gate.set()
        await other

    told = Told(2)
    told.run(program)
    told.log.remove("other")
    assert told.log == ["first", "a", "b", "c"]


def test_a_thread_hands_on_its_place_before_it_tells() -> None:
    async def program(told: Told) -> None:
        first, following = await told.submit("first", "following")
        await first
        (late,) = await told.submit("late")
        told.go_on(3)
        await asyncio.gather(following, late)
        assert len(told.threads) == 1

    told = Told(1)
    told.run(program)
    assert told.log == ["first", "following", "late"]


def test_nothing_is_shared_with_the_threads_of_others() -> None:
    release = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        anyio.to_thread.current_default_thread_limiter().total_tokens = 1
        taken = [
            asyncio.create_task(asyncio.to_thread(release.wait, LONG)),
            asyncio.create_task(anyio.to_thread.run_sync(release.wait, LONG)),
        ]
        await asyncio.sleep(0.01)
        assert await double_async(1) == 2
        release.set()
        await asyncio.gather(*taken)

    asyncio.run(main())


@every_loop
def test_a_store_that_awaits_twins_itself_does_not_deadlock(run: Callable[[Main], Any]) -> None:
    def outer() -> int:
        async def inner() -> int:
            return await double_async(4)

        return asyncio.run(inner()) + trio.run(inner)

    async def main() -> None:
        with limit(1):
            assert await async_twin(outer)() == 16
        with config.set({"async.limit": 1}):
            assert await async_twin(outer)() == 16

    run(main)


def test_a_call_inside_a_call_stops_with_it() -> None:
    fake = Fake()

    def outer() -> None:
        asyncio.run(write_chunks(fake))

    async def main() -> None:
        task = asyncio.create_task(async_twin(outer)())
        await until_async(lambda: fake.requests)
        await cancelled(task)
        before = fake.requests
        await asyncio.sleep(0.01)
        assert fake.requests == before

    asyncio.run(main())


# --- event loops ---------------------------------------------------------------------------------


def test_two_loops_in_two_threads_at_the_same_time() -> None:
    together = threading.Barrier(2)

    async def main() -> list[int]:
        together.wait(LONG)
        return list(await asyncio.gather(*(double_async(n) for n in range(100))))

    def on_trio() -> list[int]:
        found: list[int] = []

        async def one(number: int) -> None:
            found.append(await double_async(number))

        async def all_of_them() -> None:
            together.wait(LONG)
            async with trio.open_nursery() as nursery:
                for number in range(100):
                    nursery.start_soon(one, number)

        trio.run(all_of_them)
        return sorted(found)

    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(asyncio.run, main()), pool.submit(on_trio)]
        assert [result.result(LONG) for result in results] == [[2 * n for n in range(100)]] * 2


@every_loop
@pytest.mark.usefixtures("_hasty")
def test_a_thousand_calls_at_once(run: Callable[[Main], Any]) -> None:
    found: list[int] = []

    async def one(number: int) -> None:
        found.append(await double_async(number))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(1000):
                group.start_soon(one, number)

    run(main)
    assert sorted(found) == [2 * number for number in range(1000)]


def test_calls_that_end_together_wake_the_loop_once() -> None:
    posted: list[Any] = []
    fake = Fake()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        on_loop, post = threading.get_ident(), loop.call_soon_threadsafe

        def tell(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() == on_loop:
                return post(*args, **kwargs)
            posted.append(args)
            return None

        loop.call_soon_threadsafe = tell  # type: ignore[method-assign,assignment]
        for n_calls in (3, 2):
            fake.gate.clear()
            tasks = [asyncio.create_task(write(fake)) for _ in range(n_calls)]
            await until_async(lambda: fake.now == n_calls)  # noqa: B023
            fake.gate.set()
            while tasks:
                await until_async(lambda: posted or not fake.now)
                await asyncio.sleep(0.02)  # the others end meanwhile
                assert len(posted) <= 1
                if posted:
                    post(*posted.pop())
                _, tasks = await asyncio.wait(tasks, timeout=0.02)  # type: ignore[assignment]

    asyncio.run(main())
    assert fake.ended == 5


def test_trio_as_a_guest_of_asyncio() -> None:
    async def in_trio() -> int:
        with trio.move_on_after(LONG):
            return await double_async(3)
        return 0

    async def host() -> int:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        trio.lowlevel.start_guest_run(
            in_trio,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=done.set_result,
        )
        assert await double_async(4) == 8
        return (await done).unwrap()  # type: ignore[no-any-return]

    assert asyncio.run(host()) == 6


def test_without_an_event_loop_the_error_is_the_usual_one() -> None:
    coroutine = double_async(1)
    with pytest.raises(RuntimeError, match=r"event loop|not in async context"):
        coroutine.send(None)


def test_a_thread_that_outlives_its_loop_harms_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "START_SECONDS", 0.0)
    unraised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", unraised.append)
    for run in (run_asyncio, run_uvloop, trio.run):
        fake = Fake()

        async def main(fake: Fake = fake) -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(read, fake)
                await until_async(lambda: fake.begun)
                group.cancel_scope.cancel()

        run(main)
        fake.gate.set()
        until(lambda: fake.ended)  # noqa: B023
        until(lambda: not twins_that("run"))
    assert not unraised


# --- cancellation --------------------------------------------------------------------------------


Ready = Callable[[], object]


async def cancelled(task: "asyncio.Task[Any]") -> None:
    """Cancel a task and wait for it; it must have been cancelled."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_task_cancel(work: Coroutine[Any, Any, Any], ready: Ready) -> None:
    task = asyncio.create_task(work)
    await until_async(ready)
    await cancelled(task)


async def by_repeated_cancel(work: Coroutine[Any, Any, Any], ready: Ready) -> None:
    task = asyncio.create_task(work)
    await until_async(ready)
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0.002)
    await cancelled(task)


async def by_timeout(work: Coroutine[Any, Any, Any], ready: Ready) -> None:
    async def now(block: asyncio.Timeout) -> None:
        await until_async(ready)
        block.reschedule(0)

    with pytest.raises(TimeoutError):  # noqa: PT012
        async with asyncio.timeout(None) as block:
            task = asyncio.create_task(now(block))
            await work
    await task


async def by_wait_for(work: Coroutine[Any, Any, Any], ready: Ready) -> None:
    task = asyncio.create_task(work)
    await until_async(ready)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(task, 0.001)


async def by_task_group(work: Coroutine[Any, Any, Any], ready: Ready) -> None:
    with pytest.raises(ExceptionGroup):  # noqa: PT012
        async with asyncio.TaskGroup() as group:
            group.create_task(work)
            await until_async(ready)
            raise ZeroDivisionError


async def by_scope(work: Coroutine[Any, Any, Any], ready: Ready) -> None:
    async def now(scope: anyio.CancelScope) -> None:
        await until_async(ready)
        scope.cancel()

    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            group.start_soon(now, scope)
            await work
        assert scope.cancelled_caught
    await anyio.lowlevel.checkpoint()


async def by_scope_and_task_cancel(work: Coroutine[Any, Any, Any], ready: Ready) -> None:
    was_ready = []

    def note() -> bool:
        was_ready.extend([1] if ready() else [])
        return bool(was_ready)

    async def inner() -> None:
        await by_scope(work, note)
        await asyncio.sleep(LONG)

    task = asyncio.create_task(inner())
    await until_async(lambda: was_ready)
    await asyncio.sleep(0.01)
    await cancelled(task)


async def by_trio_scopes(work: Coroutine[Any, Any, Any], ready: Ready) -> None:
    async def now(outer: trio.CancelScope, inner: trio.CancelScope) -> None:
        await until_async(ready)
        outer.cancel()
        await trio.sleep(0.005)
        inner.cancel()

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as outer, trio.CancelScope(shield=True) as inner:
            nursery.start_soon(now, outer, inner)
            await work
        assert inner.cancelled_caught
    await trio.lowlevel.checkpoint()


ASYNCIO_WAYS = (
    by_task_cancel,
    by_repeated_cancel,
    by_timeout,
    by_wait_for,
    by_task_group,
    by_scope,
    by_scope_and_task_cancel,
)
WAYS = [
    *[pytest.param(run_asyncio, way, id=f"asyncio-{way.__name__}") for way in ASYNCIO_WAYS],
    *[pytest.param(run_uvloop, way, id=f"uvloop-{way.__name__}") for way in ASYNCIO_WAYS[:2]],
    pytest.param(trio.run, by_trio_scopes, id="trio-by_scopes"),
    pytest.param(run_anyio_on_trio, by_scope, id="trio-by_scope"),
]

every_way = pytest.mark.parametrize(("run", "cancel"), WAYS)


@every_way
def test_a_cancelled_write_is_waited_for(run: Callable[[Main], Any], cancel: Any) -> None:
    fake = Fake()

    async def main() -> None:
        await cancel(write_on(fake), lambda: fake.begun)
        assert (fake.begun, fake.ended) == (1, 1)
        assert await double_async(1) == 2

    run(main)


@every_way
def test_no_request_starts_after_a_cancelled_await(run: Callable[[Main], Any], cancel: Any) -> None:
    for twin in (write_chunks, read_chunks):
        fake = Fake()

        async def main(fake: Fake = fake, twin: Any = twin) -> None:
            await cancel(twin(fake), lambda: fake.requests)
            before = fake.requests
            assert before > 0
            await anyio.sleep(0.01)
            assert fake.requests == before

        run(main)


@every_way
def test_a_cancelled_read_of_its_own_memory_is_left_alone(
    run: Callable[[Main], Any], cancel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "START_SECONDS", 0.03)
    fake = Fake()

    def read_two() -> None:
        call = calls.current_call()
        assert call is not None
        try:
            for _ in range(2):
                call.enter()
                fake.requests += 1
                fake.work()
        except StoppedError:
            fake.requests += 100

    async def main() -> None:
        await cancel(async_twin(read_two, private=True)(), lambda: fake.begun)
        assert (fake.begun, fake.ended) == (1, 0)
        fake.gate.set()
        await until_async(lambda: fake.requests == 101)  # stopped before its second request

    run(main)


def test_the_error_of_a_call_that_was_left_alone_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "START_SECONDS", 0.0)
    gate = threading.Event()
    refs: list[weakref.ref[Fake]] = []

    def give() -> None:
        local = Fake()
        refs.append(weakref.ref(local))
        assert gate.wait(LONG)
        raise ValueError

    async def main() -> None:
        await by_task_cancel(async_twin(give, private=True)(), lambda: refs)
        gate.set()
        await until_async(lambda: refs[0]() is None)

    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()


def test_no_timer_stays_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "START_SECONDS", LONG)
    fake = Fake()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        call_at, timers = loop.call_at, []

        def note(*args: Any) -> asyncio.TimerHandle:
            timers.append(call_at(*args))
            return timers[-1]

        task = asyncio.create_task(read_chunks(fake))
        await until_async(lambda: fake.requests)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "call_at", note)
            await cancelled(task)
        assert timers
        assert all(timer.cancelled() for timer in timers)

    asyncio.run(main())


def test_a_read_into_memory_of_others_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_into(fake: Fake, *, out: object = None) -> None:
        fake.work_on()

    twin = async_twin(read_into, private=True)
    monkeypatch.setattr(calls, "START_SECONDS", 0.0)

    async def main() -> None:
        fake = Fake()
        await by_task_cancel(twin(fake, out=bytearray(1)), lambda: fake.begun)
        assert fake.ended == 1

    asyncio.run(main())


@every_way
def test_a_cancelled_call_that_waits_for_its_turn_never_runs(
    run: Callable[[Main], Any], cancel: Any
) -> None:
    fake, first = Fake(), Fake()

    def is_queued() -> bool:
        return twins_that("wait") > 0

    async def main() -> None:
        with limit(1):
            async with anyio.create_task_group() as group:
                group.start_soon(write, first)
                await until_async(lambda: first.begun)
                await cancel(write(fake), is_queued)
                assert not is_queued()  # nor are its arguments kept
                first.gate.set()
            await write(fake, 0.001)

    run(main)
    assert fake.begun == 1


def test_a_call_cancelled_before_its_thread_woke_never_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[Callable[[], object]] = []
    monkeypatch.setattr(pool, "start", lambda job: threads.append(job) or True)
    fake = Fake()
    fake.gate.set()

    async def main() -> None:
        await by_task_cancel(read(fake), lambda: threads)
        threads.pop()()
        assert not fake.begun

    asyncio.run(main())


def test_a_place_in_a_lane_is_kept_until_the_thread_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "START_SECONDS", 0.0)
    left, following = Fake(), Fake()

    async def main() -> None:
        with limit(1):
            await by_task_cancel(read(left), lambda: left.begun)
            task = asyncio.create_task(write(following, 0.001))
            await asyncio.sleep(0.02)
            assert (left.ended, following.begun) == (0, 0)
            left.gate.set()
            await task
            assert (left.ended, following.ended) == (1, 1)

    asyncio.run(main())


@pytest.mark.parametrize("run", [run_asyncio, trio.run], ids=["asyncio", "trio"])
def test_waiting_for_a_cancelled_write_does_not_spin(run: Callable[[Main], Any]) -> None:
    n_turns = 0

    async def main() -> None:
        nonlocal n_turns
        fake = Fake()
        if run is run_asyncio:
            loop = asyncio.get_running_loop()
            call_soon = loop.call_soon

            def counted(*args: Any, **kwargs: Any) -> Any:
                nonlocal n_turns
                n_turns += 1
                return call_soon(*args, **kwargs)

            loop.call_soon = counted  # type: ignore[assignment,method-assign]
        else:

            class Count(trio.abc.Instrument):
                def task_scheduled(self, task: object) -> None:
                    nonlocal n_turns
                    n_turns += 1

            trio.lowlevel.add_instrument(Count())
        async with anyio.create_task_group() as group:
            group.start_soon(write_on, fake)
            await until_async(lambda: fake.begun)
            n_turns = 0
            group.cancel_scope.cancel()

    run(main)
    assert 0 < n_turns < 30


def test_the_error_of_a_cancelled_write_is_its_cause() -> None:
    fake = Fake()

    def work() -> None:
        fake.work_on()
        raise OSError("disk full")

    async def main() -> None:
        task = asyncio.create_task(async_twin(work)())
        await until_async(lambda: fake.begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert str(caught.value.__cause__) == "disk full"
        task = asyncio.create_task(write_chunks(fake))
        await until_async(lambda: fake.requests)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.__cause__ is None  # that it was stopped is no news

    asyncio.run(main())


def test_the_last_cancellation_is_raised() -> None:
    fake = Fake()

    async def main(scope: anyio.CancelScope) -> None:
        with scope:
            with pytest.raises(asyncio.CancelledError) as caught:
                await write(fake)
            assert caught.value.args == ("the task's",)  # a scope would not let its own through
            raise caught.value

    async def both() -> None:
        scope = anyio.CancelScope()
        task = asyncio.create_task(main(scope))
        await until_async(lambda: fake.begun)
        scope.cancel()
        await asyncio.sleep(0.01)
        task.cancel("the task's")
        await asyncio.sleep(0.01)
        fake.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(both())


def test_a_call_cancelled_when_it_has_just_ended() -> None:
    fake = Fake()

    async def main() -> None:
        task = asyncio.create_task(write(fake, 0.001))
        await asyncio.sleep(0)
        until(lambda: fake.ended)
        await cancelled(task)

    asyncio.run(main())


def test_a_coroutine_that_is_closed_tells_its_call_to_stop() -> None:
    fake = Fake()

    async def main() -> None:
        coroutine = write_chunks(fake)
        coroutine.send(None)
        await until_async(lambda: fake.requests)
        coroutine.close()
        await until_async(lambda: not twins_that("run"))

    asyncio.run(main())
    assert fake.begun == fake.ended


@pytest.mark.parametrize("moment", [0, 1])
def test_a_request_is_not_let_in_while_its_call_is_being_stopped(
    moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = calls.Call(1000)
    monotonic, moments = time.monotonic, iter((0, 1))

    def stops_at() -> float:  # by another thread
        now = monotonic()
        if next(moments, None) == moment:
            call.stop()
            assert moment == 1 or call.starting() == 0
        return now

    monkeypatch.setattr("zarr_core.threads.pool.time.monotonic", stops_at)
    try:
        call.enter()
    except StoppedError:
        assert moment == 0
    else:
        assert call.starting() > 0  # so that whoever stopped it waits


def test_requests_of_a_call_inside_a_call_are_waited_for_like_its_own() -> None:
    outer = calls.Call()
    with calls.inside(outer):
        inner = calls.Call()
    assert outer.starting() == 0
    inner.enter()
    assert outer.starting() > 0
    outer.stop()
    with pytest.raises(StoppedError):
        inner.enter()


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize("private", [False, True])
def test_at_no_moment_does_a_request_start_after_the_await(
    private: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "START_SECONDS", LONG)  # however busy the machine is

    def chunks(over: list[bool], late: list[int]) -> None:
        call = calls.current_call()
        assert call is not None
        for number in range(100_000):
            call.enter()
            if over:
                late.append(number)

    twin = async_twin(chunks, private=private)
    late: list[int] = []

    async def main() -> None:
        chance = random.Random(1)
        for _ in range(150):
            over: list[bool] = []
            task = asyncio.create_task(twin(over, late))
            await asyncio.sleep(chance.random() * 0.002)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                over.append(True)

    asyncio.run(main())
    assert not late


@every_loop
@pytest.mark.usefixtures("_hasty")
def test_many_calls_of_which_some_are_cancelled(run: Callable[[Main], Any]) -> None:
    chance = random.Random(2)
    fake, done = Fake(), []

    async def one(number: int) -> None:
        if number % 3:
            with anyio.move_on_after(chance.random() * 0.02):
                await (write, read)[number % 2](fake, 0.001)
        else:
            await write(fake, 0.0001)
            done.append(number)

    async def main() -> None:
        with limit(5):
            async with anyio.create_task_group() as group:
                for number in range(300):
                    group.start_soon(one, number)

    run(main)
    assert len(done) == 100
    until(lambda: fake.begun == fake.ended)
    assert fake.most <= 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs signals")
@pytest.mark.parametrize("run", ["asyncio.run(main())", "trio.run(main)"])
def test_ctrl_c_waits_for_a_running_write(run: str) -> None:
    in_new_interpreter(
        f"""
import asyncio, os, signal, threading, time, trio
from zarr_core.threads.twins import async_twin

def work():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)
    print("ended")

async def main():
    await async_twin(work)()

try:
    {run}
except KeyboardInterrupt:
    print("interrupted")
""",
        stdout="ended interrupted",
    )


# --- the caller's data ---------------------------------------------------------------------------


class Sees:
    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun = False
        self.seen: Any = None

    def setitem(self, selection: object, value: Any) -> None:
        self.begun = True
        assert self.gate.wait(LONG)
        self.seen = np.asarray(value).tolist()

    setitem_async = async_twin(setitem, snapshot="value")


def buffers() -> list[Any]:
    return [
        np.zeros(3, "i8"),
        np.zeros((2, 2), "f4", order="F"),
        np.zeros((), "i8"),
        np.zeros(3, "M8[s]"),
        np.array([None, None]),
        bytearray(3),
        array.array("d", [0, 0]),
        memoryview(bytearray(3)),
    ]


@every_loop
@pytest.mark.parametrize("number", range(len(buffers())))
def test_small_values_may_be_changed_while_the_twin_runs(
    run: Callable[[Main], Any], number: int
) -> None:
    async def main() -> None:
        for by_name in (False, True):
            sees, value = Sees(), buffers()[number]
            before = np.asarray(value).tolist()
            args, kwargs = ((0,), {"value": value}) if by_name else ((0, value), {})
            async with anyio.create_task_group() as group:
                group.start_soon(partial(sees.setitem_async, *args, **kwargs))
                await until_async(lambda sees=sees: sees.begun)  # type: ignore[misc]
                value[... if isinstance(value, np.ndarray) else 0] = 1
                sees.gate.set()
            assert sees.seen == before

    run(main)


def test_large_values_are_not_copied() -> None:
    def identity(value: Any) -> int:
        return id(value)

    twin = async_twin(identity, snapshot="value")
    large, small, text = np.zeros(1 << 20, "u1"), np.zeros(3), [1, 2]

    async def main() -> None:
        assert await twin(np.concatenate([large, large])) is not None
        larger = np.zeros((1 << 20) + 1, "u1")
        assert await twin(larger) == id(larger)
        assert await twin(large) != id(large)
        assert await twin(value=small) != id(small)
        assert await twin(text) == id(text)

    asyncio.run(main())
    assert twin.__doc__ is not None
    assert "`value`" in twin.__doc__


# --- without threads, at fork, at exit -----------------------------------------------------------


@every_loop
def test_without_threads_calls_run_on_the_loop_with_one_warning(
    run: Callable[[Main], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def thread_name() -> str:
        return threading.current_thread().name

    async def main() -> None:
        with no_threads():
            with pytest.warns(ZarrRuntimeWarning, match="no thread") as caught:
                assert await async_twin(thread_name)() == threading.current_thread().name
            assert caught[0].filename == __file__
            assert await double_async(1) == 2
            with pytest.raises(ZeroDivisionError):
                await fail_async(ZeroDivisionError())
            with pytest.raises(SystemExit):
                await fail_async(SystemExit())

    twins._warn_without_threads.cache_clear()
    run(main)


@every_loop
def test_while_the_interpreter_ends_calls_run_on_the_loop(run: Callable[[Main], Any]) -> None:
    async def main() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "is_finalizing", lambda: True)
            assert await double_async(2) == 4  # without a warning, which would be an error

    twins._warn_without_threads.cache_clear()
    run(main)


def test_a_call_that_could_not_be_started_keeps_no_place() -> None:
    twins._warn_without_threads.cache_clear()

    async def main() -> None:
        with config.set({"async.limit": 1}):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(pool, "start", lambda job: False)
                with pytest.raises(ZarrRuntimeWarning):  # warnings are errors here
                    await double_async(1)
            with anyio.fail_after(LONG):
                assert await double_async(2) == 4

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_twins_work_in_a_forked_child() -> None:
    in_new_interpreter(
        """
import asyncio, os, threading, warnings
from zarr_core.config import config
from zarr_core.threads.twins import async_tuple_twin, async_twin, limit
warnings.simplefilter("ignore")  # that a process with threads forks
config.set({"async.limit": 1})
release, begun = threading.Event(), []

def wait():
    begun.append(1)
    release.wait()

def work():
    return threading.current_thread().name

async def child():
    assert await async_twin(work)() == "zarr_core"
    assert len(await asyncio.gather(*(async_twin(work)() for _ in range(50)))) == 50

async def main():
    await asyncio.gather(async_twin(work)(), async_twin(work)())  # there are idle threads
    with limit(1):
        waiting = [asyncio.create_task(async_twin(wait)()) for _ in range(2)]
    waiting += [asyncio.create_task(async_twin(wait)()) for _ in range(2)]
    while len(begun) < 2:
        await asyncio.sleep(0.001)
    codes = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                thread = threading.Thread(target=lambda: asyncio.run(child()))
                thread.start()
                thread.join(20)
                code = 1 if thread.is_alive() else 0
            finally:
                os._exit(code)
        codes.append(os.waitpid(pid, 0)[1])
    release.set()
    await asyncio.gather(*waiting)
    print(codes)

asyncio.run(main())
""",
        stdout="[0, 0, 0]",
    )


@pytest.mark.parametrize(
    "script",
    [
        "atexit.register(use)",
        "threading._register_atexit(use)",
        "asyncio.run(leave_a_read())\nuse()",
        "trio.run(leave_a_read)\nuse()",
        "loop = asyncio.new_event_loop()\ntask = loop.create_task(use_async())\n"  # noqa: ISC004
        "loop.run_until_complete(asyncio.sleep(0))\nloop.run_until_complete(task)\nloop.close()",
        "threading.Thread(target=use).start()",
    ],
)
def test_twins_at_exit(script: str) -> None:
    in_new_interpreter(
        f"""
import asyncio, atexit, builtins, sys, threading, time, trio, warnings
from zarr_core.threads import calls, pool
from zarr_core.threads.twins import async_twin
pool.EXIT_SECONDS = calls.START_SECONDS = 0.05
warnings.simplefilter("error")

def double(number):
    return 2 * number

async def use_async():
    assert await async_twin(double)(2) == 4
    sys.stdout.write("used")
    sys.stdout.flush()

def use():
    trio.run(use_async)

hangs = async_twin(lambda seconds: time.sleep(seconds), private=True)

async def leave_a_read():
    import anyio
    with anyio.move_on_after(0.01):
        await hangs(1000)

{script}
""",
        stdout="used",
    )
