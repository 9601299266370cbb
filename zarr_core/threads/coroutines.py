"""Coroutines of other libraries, driven from plain threads.

The event loop runs in a thread of its own, the other library's or the one made here. Whoever waits
for a coroutine waits until it has really ended, also when interrupted: nothing goes on behind a
call that has returned.
"""

import asyncio
import os
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar, final

from zarr_core.config import config
from zarr_core.errors import StoreError
from zarr_core.locks import ForkLock
from zarr_core.threads import pool
from zarr_core.threads.calls import POLL_SECONDS, current_call

T = TypeVar("T")
R = TypeVar("R")


# --- a loop of our own ---------------------------------------------------------------------------


class _Own:
    """The event loop of this process, made at first need."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.lock = ForkLock()


_own = _Own()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_own.renew)


def own_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of zarr_core, which runs in a daemon thread."""
    with _own.lock:
        if _own.loop is None:
            _own.loop = asyncio.new_event_loop()
            thread = threading.Thread(
                target=_own.loop.run_forever, name="zarr_core loop", daemon=True
            )
            thread.start()
        return _own.loop


# --- one coroutine -------------------------------------------------------------------------------


def run_on(loop: asyncio.AbstractEventLoop, call: Callable[[], Awaitable[R]]) -> R:
    """Return the result of awaiting `call()` on `loop`.

    An exception that reaches the waiting thread, such as Ctrl-C, cancels the coroutine and is
    raised once that has ended.
    """
    _check_other_thread(loop)
    flight: _Flight[None, R] = _Flight(0, None)
    ended: SimpleQueue[_Flight[None, R]] = SimpleQueue()
    context = copy_context()

    async def fly() -> R:
        return await call()

    loop.call_soon_threadsafe(flight.start, loop, fly, ended.put, context=context)
    try:
        ended.get()
    except BaseException:
        loop.call_soon_threadsafe(flight.cancel)
        while not flight.landed:
            with suppress(KeyboardInterrupt):
                ended.get()
        raise
    error, flight.error = flight.error, None  # its frames name the flight: no cycles
    try:
        if error is not None:
            raise error
        return flight.value  # type: ignore[return-value]
    finally:
        del error


def _check_other_thread(loop: asyncio.AbstractEventLoop) -> None:
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        return
    if running is loop:
        raise RuntimeError("a store was called by code of its own event loop, which would hang")


@final
class _Flight(Generic[T, R]):
    """One coroutine under way."""

    __slots__ = ("error", "index", "item", "landed", "task", "value")

    def __init__(self, index: int, item: T) -> None:
        self.index, self.item = index, item
        self.task: asyncio.Task[R] | None = None
        self.value: R | None = None
        self.error: BaseException | None = None
        self.landed = False

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        fly: Callable[[], Coroutine[Any, Any, R]],
        ended: Callable[["_Flight[T, R]"], object],
    ) -> None:
        """Begin; called on the loop."""
        self.task = loop.create_task(fly())

        # a task that is cancelled before its first step runs none of the coroutine's own code
        def land(task: asyncio.Task[R]) -> None:
            if task.cancelled():
                self.error = StoreError("the request was cancelled")
            elif (error := task.exception()) is not None:
                self.error = error
            else:
                self.value = task.result()
            self.task, self.landed = None, True
            ended(self)

        self.task.add_done_callback(land)

    def cancel(self) -> None:
        """End early; called on the loop."""
        if self.task is not None:
            self.task.cancel()


# --- many coroutines -----------------------------------------------------------------------------


def overlap_on(
    loop: asyncio.AbstractEventLoop,
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T],
    *,
    size_of: Callable[[T], int | None] | None = None,
    cancel: bool = True,
) -> Generator[tuple[int, R | None, Exception | None], None, None]:
    """Await `fn(item)` for many items at once on `loop`, one hop to it per batch.

    Takes items lazily, yields, shares the budget of the process and ends as `overlap.overlap`
    does. With `cancel`, `close()` cancels what is under way, else it waits for it to end.
    """
    _check_other_thread(loop)
    flights = _Flights(loop, fn, size_of)
    waiting = map(_Flight[T, R], count(), items)
    try:
        flight = next(waiting, None)
        while True:
            batch = []
            while flight is not None and flights.admit(flight):
                batch.append(flight)
                flight = next(waiting, None)
            flights.start(batch)
            if flights.none:
                return
            yield from flights.receive()
    finally:
        flights.close(cancel=cancel)


@final
class _Flights(Generic[T, R]):
    """The coroutines of one `overlap_on`, and the results that were not taken yet."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fn: Callable[[T], Awaitable[R]],
        size_of: Callable[[T], int | None] | None,
    ) -> None:
        self._loop, self._fn, self._size_of = loop, fn, size_of
        self._process: Any = pool._process
        self._call = current_call()
        self._max_requests: int = config.get("io.max_requests")
        self._max_bytes: int = config.get("io.max_bytes")
        self._open: set[_Flight[T, R]] = set()
        self._ended: SimpleQueue[_Flight[T, R]] = SimpleQueue()
        self._ready: deque[_Flight[T, R]] = deque()
        self._closed = False

    @property
    def none(self) -> bool:
        return not self._open

    def admit(self, flight: _Flight[T, R]) -> bool:
        """Count a request and its bytes if the process has room; one is always possible."""
        size = 0 if self._size_of is None else self._size_of(flight.item) or 0
        process = self._process
        with process.lock:
            taken = sum(process.sizes.copy().values()) if size else 0
            full = (
                len(self._open) >= self._max_requests
                or len(process.requests) >= self._max_requests
                or (taken and taken + size > self._max_bytes)
            )
            if full and self._open:
                return False
            process.requests.add(flight)
            if size:
                process.sizes[flight] = size
        self._open.add(flight)
        return True

    def start(self, batch: list[_Flight[T, R]]) -> None:
        if batch:
            self._loop.call_soon_threadsafe(self._begin, batch, context=copy_context())

    def _begin(self, batch: list[_Flight[T, R]]) -> None:
        for flight in batch:
            if self._closed:
                self._land(flight)
            else:
                flight.start(self._loop, partial(self._fly, flight), self._land)

    async def _fly(self, flight: _Flight[T, R]) -> R:
        if self._call is not None:
            self._call.enter()
        return await self._fn(flight.item)

    def _land(self, flight: _Flight[T, R]) -> None:
        self._process.requests.discard(flight)
        self._ended.put(flight)

    def receive(self) -> Generator[tuple[int, R | None, Exception | None], None, None]:
        """Yield what has ended; wait if nothing has."""
        self._ready.append(self._wait())
        with suppress(Empty):
            while True:
                self._ready.append(self._ended.get_nowait())
        while self._ready:
            flight = self._ready.popleft()
            self._forget(flight)
            yield self._outcome(flight)

    def _outcome(self, flight: _Flight[T, R]) -> tuple[int, R | None, Exception | None]:
        error, flight.error = flight.error, None
        try:
            if error is None or isinstance(error, Exception):
                if error is not None and self._call is not None:
                    self._call.check()  # that the whole call ended is not the error of one item
                return flight.index, flight.value, error
            raise error
        finally:
            del error

    def _wait(self) -> _Flight[T, R]:
        while True:
            if self._call is None:
                return self._ended.get()
            self._call.check()
            try:
                return self._ended.get(timeout=POLL_SECONDS)
            except Empty:
                continue

    def _forget(self, flight: _Flight[T, R]) -> None:
        self._open.discard(flight)
        self._process.requests.discard(flight)
        self._process.sizes.pop(flight, None)

    def close(self, *, cancel: bool) -> None:
        """Start no more, and wait until nothing runs."""
        self._closed = True
        while self._ready:
            self._forget(self._ready.pop())
        flights, interrupt = tuple(self._open), None
        # in a forked child, and at exit, the loop is gone
        if flights and self._process is pool._process and not sys.is_finalizing():
            if cancel:
                self._loop.call_soon_threadsafe(self._cancel, flights)
            interrupt = self._drain()
        for flight in flights:
            self._forget(flight)
        if interrupt is not None:
            raise interrupt

    def _cancel(self, flights: Iterable[_Flight[T, R]]) -> None:
        for flight in flights:
            flight.cancel()

    def _drain(self) -> KeyboardInterrupt | None:
        interrupt = None
        while self._open:
            try:
                self._forget(self._ended.get())
            except KeyboardInterrupt as error:
                interrupt = error
        return interrupt
