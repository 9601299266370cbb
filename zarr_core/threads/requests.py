"""Requests in flight: calls that wait for something slow, many at once, within one budget.

The thread that iterates over the outcomes sends requests and takes outcomes. `overlap` makes calls on
threads, and itself where no thread can be had; `coroutines` has the same for an event loop.
"""

import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from contextvars import copy_context
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar, final

from zarr_core.config import config
from zarr_core.threads.calls import POLL_SECONDS, current_call
from zarr_core.threads.pool import Job, settle, start, this_process

T = TypeVar("T")
R = TypeVar("R")


def overlap(
    fn: Callable[[T], R],
    items: Iterable[T],
    *,
    limit: int | None = None,
    size_of: Callable[[T], int | None] | None = None,
) -> Generator[tuple[int, R | None, Exception | None], None, None]:
    """Call `fn`, which waits for something slow, with many items at once.

    Parameters
    ----------
    fn
        called on threads, with the context variables of the thread that iterates.
    items
        taken lazily, only by the thread that iterates over the results.
    limit
        how many calls may be under way; an eighth more may have results that were not taken.
        None, and the most, is `io.max_requests`, which also bounds the calls of the process;
        when others use it up, calls are made one at a time on the thread that iterates.
    size_of
        the bytes that a result needs, which count towards `io.max_bytes` until it is
        taken; None when not known.

    Yields
    ------
    The position of an item, and the result or the error of its call, as calls end. A stopped
    call, and what is not an `Exception`, is raised instead. `close()` or an error starts no
    more calls, and waits for those under way.
    """
    return fly(_OnThreads(fn, limit, size_of), items)


def finish(
    outcomes: Generator[tuple[int, R | None, Exception | None], None, None],
    take: Callable[[int, Any], object] | None = None,
) -> None:
    """Give each position and value to `take`; raise the first error once nothing runs any more."""
    with closing(outcomes):
        for index, value, error in outcomes:
            if error is not None:
                raise error
            if take is not None:
                take(index, value)


def each(fn: Callable[[T], R], items: Iterable[T], *, slow: bool) -> list[R]:
    """Return what `fn` returns for items, in their order; overlapped if it waits for something slow."""
    if not slow:
        return [fn(item) for item in items]
    found: dict[int, R] = {}
    finish(overlap(fn, items), found.__setitem__)
    return [found[index] for index in range(len(found))]


class Flight(Job, Generic[T, R]):
    """One request: under way, or ended."""

    __slots__ = ("error", "index", "item", "landed", "size", "task", "value")

    index: int
    item: T
    size: int

    def __init__(self, index: int, item: T) -> None:
        super().__init__()
        self.index, self.item, self.size = index, item, 0
        self.value: R | None = None
        self.error: BaseException | None = None
        self.task: Any = None  # of a coroutine
        self.landed: bool = False


def fly(
    flights: "Flights[T, R]", items: Iterable[T]
) -> Generator[tuple[int, R | None, Exception | None], None, None]:
    """Send requests as there is room for them, and yield what they come to; see `overlap`."""
    # Not `Flight[T, R]`: to subscript a class imports something, which fails at interpreter exit.
    waiting: Iterator[Flight[T, R]] = map(Flight, count(), items)
    try:
        flight = next(waiting, None)
        while True:
            while flight is not None and flights.send(flight):
                flight = next(waiting, None)
            flights.send_kept()
            if not flights.open:
                return
            yield from flights.receive()
    finally:
        flights.close()


class Flights(Generic[T, R]):
    """The requests of one iteration: under way, kept, or ended and not taken yet."""

    def __init__(self, limit: int | None, size_of: Callable[[T], int | None] | None) -> None:
        self._size_of = size_of
        self._process, self._call = this_process(), current_call()
        self._max_requests: int = config.get("io.max_requests")
        self._max_bytes: int = config.get("io.max_bytes")
        self._limit = min(limit or self._max_requests, self._max_requests)
        self.open: set[Flight[T, R]] = set()
        self._kept: deque[Flight[T, R]] = deque()
        self._ended: SimpleQueue[Flight[T, R] | None] = SimpleQueue()
        self._ready: deque[Flight[T, R]] = deque()
        self._closed = False

    def send(self, flight: Flight[T, R]) -> bool:
        """Start or keep a request, or return False if it has to wait until one of ours has ended."""
        raise NotImplementedError

    def send_kept(self) -> None:
        """Start what was kept, as far as possible; make sure that one of ours is going to end."""
        raise NotImplementedError

    def _measure(self, flight: Flight[T, R]) -> None:
        flight.size = 0 if self._size_of is None else self._size_of(flight.item) or 0

    def _admit(self, flight: Flight[T, R], *, always: bool = False) -> bool:
        """Count a request and its bytes, if the process has room for both."""
        process, size = self._process, flight.size
        with process.lock:
            taken = sum(process.sizes.copy().values()) if size else 0
            full = len(process.requests) >= self._max_requests
            if (full or (taken and taken + size > self._max_bytes)) and not always:
                return False
            if size:
                process.sizes[flight] = size
            process.requests.add(flight)
            return True

    def _forget(self, flight: Flight[T, R]) -> None:
        self.open.discard(flight)
        self._process.requests.discard(flight)
        self._process.sizes.pop(flight, None)

    def _land(self, flight: Flight[T, R]) -> None:
        """Note, on whatever thread, that a request has ended."""
        self._process.requests.discard(flight)
        self._ended.put(flight)

    def receive(self) -> Generator[tuple[int, R | None, Exception | None], None, None]:
        """Yield what has ended; wait if nothing has. Nothing when there is something to send instead."""
        first = self._wait()
        if first is not None:
            self._ready.append(first)
        with suppress(Empty):
            while True:
                flight = self._ended.get_nowait()
                if flight is not None:
                    self._ready.append(flight)
        while self._ready:
            flight = self._ready.popleft()
            self._forget(flight)
            yield self._outcome(flight)

    def _wait(self) -> Flight[T, R] | None:
        call = self._call
        while True:
            if call is not None:
                call.check()
            with suppress(Empty):
                return self._ended.get(timeout=None if call is None else POLL_SECONDS)

    def _outcome(self, flight: Flight[T, R]) -> tuple[int, R | None, Exception | None]:
        error, flight.error = flight.error, None  # its frames name the request: no cycles
        try:
            if error is None or isinstance(error, Exception):
                if error is not None and self._call is not None:
                    self._call.check()  # that the whole call ended is not the error of one item
                return flight.index, flight.value, error
            raise error
        finally:
            del error

    def close(self) -> None:
        """Start no more requests, and wait for those that run."""
        self._closed = True
        flights, interrupt = list(self.open), None
        # In a forked child, and at exit, the threads are gone.
        if self._process is this_process() and not sys.is_finalizing():
            interrupt = self._settle(flights)
        for flight in flights:
            self._forget(flight)
            flight.error = None
        if interrupt is not None:
            raise interrupt

    def _settle(self, flights: list[Flight[T, R]]) -> KeyboardInterrupt | None:
        """Wait until nothing runs any more; return a Ctrl-C that came meanwhile."""
        raise NotImplementedError


@final
class _OnThreads(Flights[T, R]):
    """Calls on threads; some are kept for threads that just ended one, as waking one costs as much."""

    def __init__(
        self, fn: Callable[[T], R], limit: int | None, size_of: Callable[[T], int | None] | None
    ) -> None:
        super().__init__(limit, size_of)
        self._fn = fn

    def send(self, flight: Flight[T, R]) -> bool:
        self._measure(flight)
        if not self._start(flight):
            if self.open and len(self._kept) >= self._limit // 8:
                return False
            self.open.add(flight)
            self._kept.append(flight)
        return True

    def send_kept(self) -> None:
        with suppress(IndexError):
            while True:
                flight = self._kept.popleft()
                if not self._start(flight):
                    self.open.add(flight)
                    if len(self.open) > len(self._kept) + 1:
                        self._kept.appendleft(flight)
                        break
                    self._run(flight)  # one call is always possible: on this thread

    def _start(self, flight: Flight[T, R]) -> bool:
        """Start a call on a thread; return False if there is no room, or no thread."""
        others = len(self.open) - len(self._kept) - (flight in self.open)
        if others >= self._limit or self._limit <= 1 or not self._admit(flight):
            return False
        self.open.add(flight)  # before it starts, so that an interrupt finds it
        context = copy_context()
        if start(lambda: context.run(self._serve, flight)):
            return True
        self._forget(flight)
        return False

    def _serve(self, flight: Flight[T, R]) -> None:
        """Make a call, then some of those that were kept; what a thread does."""
        self._run(flight)
        with suppress(IndexError):
            while not self._closed:
                flight = self._kept.popleft()
                if not flight.lock.acquire(blocking=False):
                    continue  # it was taken back
                if not self._admit(flight):
                    self._kept.appendleft(flight)
                    flight.lock.release()
                    self._ended.put(None)  # the thread that iterates has to see to it
                    break
                self._make(flight)

    def _run(self, flight: Flight[T, R]) -> None:
        if flight.lock.acquire(blocking=False):
            self._make(flight)

    def _make(self, flight: Flight[T, R]) -> None:
        """Make a call whose lock is held."""
        try:
            if not self._closed:
                if self._call is not None:
                    self._call.enter()
                flight.value = self._fn(flight.item)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that iterates
            flight.error = error
        finally:
            self._land(flight)
            flight.lock.release()

    def _settle(self, flights: list[Flight[T, R]]) -> KeyboardInterrupt | None:
        return settle(flights)
