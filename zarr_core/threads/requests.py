"""`overlap`: calls that wait for something slow, many at once, within the budget of the process.

The thread that iterates over the results sends requests and takes outcomes; it makes calls itself
where no thread can be had.
"""

import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from contextvars import copy_context
from itertools import count
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar, final

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

    Args:
        fn: called on threads, with the context variables of the thread that iterates.
        items: taken lazily, only by the thread that iterates over the results.
        limit: how many calls may be under way; an eighth more may have results that were not taken.
            None, and the most, is `io.max_requests`, which also bounds the calls of the process;
            when others use it up, calls are made one at a time on the thread that iterates.
        size_of: the bytes that a result needs, which count towards `io.max_bytes` until it is
            taken; None when not known.

    Yields:
        The position of an item, and the result or the error of its call, as calls end. A stopped
        call, and what is not an `Exception`, is raised instead. `close()` or an error starts no
        more calls, and waits for those under way.
    """
    flights = _Overlap(fn, limit, size_of)
    requests: Iterator[_Request[T, R]] = map(_Request, count(), items)
    try:
        request = next(requests, None)
        while True:
            while request is not None and flights.send(request):
                request = next(requests, None)
            flights.send_kept()
            if flights.none:
                return
            outcome = flights.receive()
            if outcome is not None:
                yield outcome
    finally:
        flights.close()


@final
class _Request(Job, Generic[T, R]):
    """One call of `overlap`."""

    __slots__ = ("error", "index", "item", "size", "value")

    def __init__(self, index: int, item: T) -> None:
        super().__init__()
        self.index, self.item, self.size = index, item, 0
        self.value: R | None = None
        self.error: BaseException | None = None


@final
class _Overlap(Generic[T, R]):
    """The calls of one `overlap`: under way, ended, or kept for threads that just ended one."""

    def __init__(
        self, fn: Callable[[T], R], limit: int | None, size_of: Callable[[T], int | None] | None
    ) -> None:
        self._fn, self._size_of = fn, size_of
        self._process, self._call = this_process(), current_call()
        self._max_requests: int = config.get("io.max_requests")
        self._max_bytes: int = config.get("io.max_bytes")
        self._limit = min(limit or self._max_requests, self._max_requests)
        self._open: set[_Request[T, R]] = set()
        self._kept: deque[_Request[T, R]] = deque()  # as waking a thread costs like a request
        self._ended: SimpleQueue[_Request[T, R] | None] = SimpleQueue()
        self._closed = False

    @property
    def none(self) -> bool:
        """Is no call under way, and no outcome left to take?"""
        return not self._open

    def send(self, request: _Request[T, R]) -> bool:
        """Start or keep a call, or return False if it has to wait until one of ours has ended."""
        request.size = 0 if self._size_of is None else self._size_of(request.item) or 0
        if not self._start(request):
            if self._open and len(self._kept) >= self._limit // 8:
                return False
            self._open.add(request)
            self._kept.append(request)
        return True

    def send_kept(self) -> None:
        """Start what was kept, as far as possible; make sure that one of ours is going to end."""
        with suppress(IndexError):
            while True:
                request = self._kept.popleft()
                if not self._start(request):
                    self._open.add(request)
                    if len(self._open) > len(self._kept) + 1:
                        self._kept.appendleft(request)
                        break
                    self._run(request)  # one call is always possible: on this thread

    def _start(self, request: _Request[T, R]) -> bool:
        """Start a call on a thread; return False if there is no room, or no thread."""
        others = len(self._open) - len(self._kept) - (request in self._open)
        if others >= self._limit or self._limit <= 1 or not self._admit(request):
            return False
        self._open.add(request)  # before it starts, so that an interrupt finds it
        context = copy_context()
        if start(lambda: context.run(self._serve, request)):
            return True
        self._forget(request)
        return False

    def _admit(self, request: _Request[T, R]) -> bool:
        """Count a request and its bytes, if the process has room for both."""
        process, size = self._process, request.size
        with process.lock:
            if len(process.requests) >= self._max_requests:
                return False
            if size:
                taken = sum(process.sizes.copy().values())
                if taken and taken + size > self._max_bytes:
                    return False
                process.sizes[request] = size
            process.requests.add(request)
            return True

    def _forget(self, request: _Request[T, R]) -> None:
        self._open.discard(request)
        self._process.requests.discard(request)
        self._process.sizes.pop(request, None)

    def _serve(self, request: _Request[T, R]) -> None:
        """Make a call, then some of those that were kept; what a thread does."""
        self._run(request)
        with suppress(IndexError):
            while not self._closed:
                request = self._kept.popleft()
                if not request.lock.acquire(blocking=False):
                    continue  # it was taken back
                if not self._admit(request):
                    self._kept.appendleft(request)
                    request.lock.release()
                    self._ended.put(None)  # the thread that iterates has to see to it
                    break
                self._make(request)

    def _run(self, request: _Request[T, R]) -> None:
        if request.lock.acquire(blocking=False):
            self._make(request)

    def _make(self, request: _Request[T, R]) -> None:
        """Make a call whose lock is held."""
        try:
            if not self._closed:
                if self._call is not None:
                    self._call.enter()
                request.value = self._fn(request.item)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that iterates
            request.error = error
        finally:
            self._process.requests.discard(request)
            self._ended.put(request)
            request.lock.release()

    def receive(self) -> tuple[int, R | None, Exception | None] | None:
        """Return the outcome of a call that has ended; wait for it if there is none.

        None when there is something to send instead.
        """
        call = self._call
        while True:
            if call is not None:
                call.check()
            with suppress(Empty):
                request = self._ended.get(timeout=None if call is None else POLL_SECONDS)
                break
        if request is None:
            return None
        self._forget(request)
        error, request.error = request.error, None  # its frames name the request: no cycles
        try:
            if error is None or isinstance(error, Exception):
                if error is not None and call is not None:
                    call.check()  # that the whole call ended is not the error of one item
                return request.index, request.value, error
            raise error
        finally:
            del error

    def close(self) -> None:
        """Start no more calls, and wait for those that run."""
        self._closed = True
        requests, interrupt = list(self._open), None
        # In a forked child, and at exit, the threads are gone.
        if self._process is this_process() and not sys.is_finalizing():
            interrupt = settle(requests)
        for request in requests:
            self._forget(request)
            request.error = None
        if interrupt is not None:
            raise interrupt
