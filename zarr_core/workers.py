"""Threads: helpers inside one call, overlapped requests, stop flags, and the locks of keys.

Every operation runs on its caller's thread. Threads of the pool only join in, and nothing needs
them: at interpreter exit, in WebAssembly, or when no thread can be started, the caller does all the
work. The pool is made at first need and belongs to one process; a forked child gets its own, with
fresh locks and budgets. Threads are daemons that wait idle for a while, so exit never hangs.

A finalizer may run in the middle of any step here and call the library again. So the lock of the
tables is reentrant, and while it is held no code of others runs.
"""

import atexit
import os
import sys
import threading
import time
import weakref
from _thread import RLock
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar, final

from zarr_core.config import config
from zarr_core.errors import OperationTimeoutError, StoppedError

T = TypeVar("T")
R = TypeVar("R")

IDLE_SECONDS = 10.0
"""A thread without work ends after this time."""

EXIT_SECONDS = 1.0
"""At interpreter exit, running work may take this long to end."""

POLL_SECONDS = 0.05
"""How often a thread that waits for something else looks at its stop flag."""

START_SECONDS = 0.5
"""A thread that was let in by `Call.enter` has surely begun its request after this time."""

# Waking a thread costs 5 µs and more, and a step below 5 µs is over before another can join in.
SHARE_US = 50.0
ITEM_US = 5.0

# Taking an item from an iterator is one step only where a global lock makes it one.
_ITERATORS_ARE_ATOMIC = bool(getattr(sys, "_is_gil_enabled", lambda: True)())
_NOTHING = object()


# --- calls that can be stopped -------------------------------------------------------------------


@final
class Call:
    """One call that can be told to stop, or that has to end in time.

    A call that is made inside another one also stops, and times out, with the outer one.
    """

    __slots__ = ("_admitted", "_lock", "_outer", "_seconds", "deadline", "stopped")

    def __init__(self, seconds: float | None = None) -> None:
        self._lock = threading.Lock()
        self._outer = _current.get()
        self.stopped = False
        self._admitted = 0.0
        self._seconds = seconds
        self.deadline = None if seconds is None else time.monotonic() + seconds

    def stop(self) -> None:
        """Let no request in from now on; those that were let in may still run."""
        with self._lock:
            self.stopped = True

    def check(self) -> None:
        """Raise `StoppedError` or `OperationTimeoutError` if the call should end."""
        if self.stopped:
            raise StoppedError("the call was told to stop")
        if self._outer is not None:
            self._outer.check()
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise OperationTimeoutError(f"the call did not end within {self._seconds:g} s")

    def enter(self) -> None:
        """Ask to be let in, right before every request to a store; raises as `check` does."""
        if self._outer is not None:
            self._outer.enter()
        with self._lock:
            self.check()
            self._admitted = time.monotonic()

    def starting(self) -> float:
        """Return for how many seconds a request that was let in might still not have begun."""
        with self._lock:
            return max(0.0, self._admitted + START_SECONDS - time.monotonic())


_current: ContextVar[Call | None] = ContextVar("zarr_core_call", default=None)


def current_call() -> Call | None:
    """Return the call this code runs in; None in plain synchronous calls."""
    return _current.get()


@contextmanager
def deadline(seconds: float | None) -> Iterator[None]:
    """Make operations in this context raise `OperationTimeoutError` once `seconds` have passed.

    The time is looked at between chunks and before every request. None sets no limit; of nested
    limits the earlier one counts.
    """
    if seconds is None:
        yield
        return
    token = _current.set(Call(seconds))
    try:
        yield
    finally:
        _current.reset(token)


# --- the pool ------------------------------------------------------------------------------------


class _Process:
    """What belongs to one process."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.threads: set[_Thread] = set()
        self.idle: list[_Thread] = []  # the last one to fall asleep is the first to be woken
        self.helping: set[_Helper] = set()
        self.waiting: dict[_Helper, None] = {}  # helpers that get a thread when one is free
        self.requests: set[_Request[Any, Any]] = set()
        self.sizes: dict[_Request[Any, Any], int] = {}  # of results that were not taken yet
        self.key_locks: dict[Hashable, weakref.ref[_KeyLock]] = {}
        self.key_limit = 1000

    def forget_keys(self) -> None:
        """Drop the keys that nobody uses: now and then for many is cheaper than each at once."""
        refs = self.key_locks.copy().items()
        self.key_locks = {key: ref for key, ref in refs if ref() is not None}
        self.key_limit = 1000 + 2 * len(self.key_locks)


@final
class _Thread:
    """A thread of the pool: what it does next, and the lock it sleeps on."""

    __slots__ = ("job", "wake")

    def __init__(self, job: Callable[[], object]) -> None:
        self.job: Callable[[], object] | None = job
        self.wake = threading.Lock()
        self.wake.acquire()


def start(job: Callable[[], object]) -> bool:
    """Run `job`, which must not raise, on a thread; return False where there are no threads."""
    if sys.is_finalizing():
        return False  # a thread would never get to run
    process = _process
    try:
        thread = process.idle.pop()
    except IndexError:
        thread = _Thread(job)
    else:
        thread.job = job
        thread.wake.release()
        return True
    process.threads.add(thread)
    try:
        threading.Thread(
            target=_serve, args=(process, thread), name="zarr_core", daemon=True
        ).start()
    except RuntimeError:
        process.threads.discard(thread)
        return False
    return True


def _serve(process: _Process, thread: _Thread) -> None:
    """Do one job after another; the body of a thread of the pool."""
    while True:
        job, thread.job = thread.job, None
        if job is not None:
            job()
        del job  # what it refers to must not live on while the thread is idle
        process.idle.append(thread)
        if not thread.wake.acquire(timeout=IDLE_SECONDS):
            try:
                process.idle.remove(thread)
            except ValueError:  # it is just being given a job
                thread.wake.acquire()
            else:
                process.threads.discard(thread)
                return


class _Job:
    """Work handed to a thread; its owner can take it back until it has begun.

    The lock is held by whoever came first, the thread or the owner. It is reentrant so that an
    owner that was interrupted can ask again.
    """

    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock = RLock()


def _settle(jobs: Sequence[_Job]) -> KeyboardInterrupt | None:
    """Take jobs back, or wait until they have ended; return a Ctrl-C that came meanwhile."""
    interrupt, settled = None, 0
    while settled < len(jobs):
        try:
            jobs[settled].lock.acquire()
            settled += 1
        except KeyboardInterrupt as error:
            interrupt = error
    return interrupt


# --- caller plus helpers -------------------------------------------------------------------------


class _Local(threading.local):
    busy = False
    """This thread is a helper, or has helpers already."""


def max_workers() -> int:
    """Return how many threads may decode or encode inside one call, the caller's own included."""
    return config.get("threading.max_workers") or _cores()


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def helpers(n_items: int, cost_us: float) -> int:
    """Return how many helpers are worth their cost for items of `cost_us` µs outside the GIL.

    Helpers have none: the threads go to the outermost loop that can use them.
    """
    total = n_items * cost_us
    if n_items < 2 or cost_us < ITEM_US or total < 2 * SHARE_US or _local.busy:
        return 0
    return min(max_workers(), n_items, int(total / SHARE_US)) - 1


def run(
    fn: Callable[[T], object], items: Iterable[T], helpers: int = 0, call: Call | None = None
) -> None:
    """Call `fn` with every item, on this thread and on as many as `helpers` others.

    The first error, Ctrl-C or a stopped `call` ends the work of all. It is raised once nothing
    runs any more; a further Ctrl-C does not cut this short.
    """
    if helpers <= 0 or _local.busy:
        for item in items:
            if call is not None:
                call.check()
            fn(item)
        return
    team = _Team(fn, list(items), call)
    hired: list[_Helper] = []
    process, interrupt = _process, None
    _local.busy = True
    try:
        limit = max_workers() - 1
        for _ in range(min(helpers, team.size - 1)):
            helper = _Helper(team)
            hired.append(helper)  # before it starts, so that an interrupt finds it
            if not _hire(process, helper, limit):
                break
        team.pull()
    except BaseException as error:  # noqa: BLE001 - raised below, when the helpers have ended
        team.fail(error)
    finally:
        try:
            interrupt = _settle(hired)
        finally:
            _local.busy = False
        for helper in hired:
            process.waiting.pop(helper, None)
    team.raise_error(interrupt)


@final
class _Team(Generic[T]):
    """The work that a caller shares with its helpers."""

    __slots__ = ("_call", "_errors", "_fn", "_items", "_lock", "_shared", "size")

    def __init__(self, fn: Callable[[T], object], items: list[T], call: Call | None) -> None:
        self._fn, self._items, self._call = fn, items, call
        self._shared = iter(items)
        self._lock = threading.Lock()
        self._errors: list[BaseException] = []
        self.size = len(items)

    def pull(self) -> None:
        """Work on items until there are none left."""
        fn, call = self._fn, self._call
        try:
            for item in self._shared if _ITERATORS_ARE_ATOMIC else iter(self._take, _NOTHING):
                if call is not None:
                    call.check()
                fn(item)
        except BaseException as error:  # noqa: BLE001 - raised by `raise_error`
            self.fail(error)

    def _take(self) -> Any:
        with self._lock:
            return next(self._shared, _NOTHING)

    def fail(self, error: BaseException) -> None:
        """Remember an error; the others find no more items."""
        self._errors.append(error)
        self._items.clear()

    def raise_error(self, interrupt: KeyboardInterrupt | None) -> None:
        """Raise the first error, or a Ctrl-C if there was one."""
        errors = self._errors if interrupt is None else [*self._errors, interrupt]
        if not errors:
            return
        error = next((e for e in errors if isinstance(e, KeyboardInterrupt)), errors[0])
        # An error and the frames that it names must not keep each other alive.
        self._errors.clear()
        errors.clear()
        try:
            raise error
        finally:
            del error, interrupt


@final
class _Helper(_Job):
    """One thread's share in the work of a team."""

    __slots__ = ("context", "team")

    def __init__(self, team: _Team[Any]) -> None:
        super().__init__()
        self.team = team
        self.context = copy_context()


def _hire(process: _Process, helper: _Helper, limit: int) -> bool:
    """Give a helper a thread now, or once one is free; return False if there are no threads."""
    with process.lock:
        if len(process.helping) >= limit:
            process.waiting[helper] = None
            return True
        process.helping.add(helper)
    started = False
    try:
        started = start(partial(_help, process, helper))
    finally:
        if not started:
            process.helping.discard(helper)
    return started


def _help(process: _Process, helper: _Helper) -> None:
    """Do a helper's share, then those of helpers that wait for a thread."""
    _local.busy = True
    while True:
        if helper.lock.acquire(blocking=False):
            helper.context.run(helper.team.pull)
            helper.lock.release()
        with process.lock:
            process.helping.discard(helper)
            if not process.waiting:
                break
            helper, _ = process.waiting.popitem()
            process.helping.add(helper)
    _local.busy = False


# --- overlapped requests -------------------------------------------------------------------------


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
        limit: how many calls may be under way or have results that were not taken yet. None, and
            the most, is `io.max_requests`, which also bounds the calls of the whole process; when
            others use it up, calls are made one at a time on the thread that iterates.
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
            if flights.none:
                return
            yield flights.receive()
    finally:
        flights.close()


@final
class _Request(_Job, Generic[T, R]):
    """One call of `overlap`."""

    __slots__ = ("error", "index", "item", "value")

    def __init__(self, index: int, item: T) -> None:
        super().__init__()
        self.index, self.item = index, item
        self.value: R | None = None
        self.error: BaseException | None = None


@final
class _Overlap(Generic[T, R]):
    """The calls of one `overlap` that are under way, and those that have ended."""

    def __init__(
        self, fn: Callable[[T], R], limit: int | None, size_of: Callable[[T], int | None] | None
    ) -> None:
        self._fn, self._size_of = fn, size_of
        self._process, self._call = _process, current_call()
        self._max_requests: int = config.get("io.max_requests")
        self._max_bytes: int = config.get("io.max_bytes")
        self._limit = min(limit or self._max_requests, self._max_requests)
        self._open: set[_Request[T, R]] = set()
        self._ended: SimpleQueue[_Request[T, R]] = SimpleQueue()
        self._closed = False

    @property
    def none(self) -> bool:
        """Is no call under way, and no outcome left to take?"""
        return not self._open

    def send(self, request: _Request[T, R]) -> bool:
        """Start a call, or return False if it has to wait until one of ours has ended."""
        if len(self._open) >= self._limit:
            return False
        if self._limit > 1 and self._admit(request):
            self._open.add(request)  # before it starts, so that an interrupt finds it
            context = copy_context()
            if start(lambda: context.run(self._run, request)):
                return True
            self._forget(request)
        if self._open:
            return False
        self._open.add(request)  # one call is always possible: on this thread
        self._run(request)
        return True

    def _admit(self, request: _Request[T, R]) -> bool:
        """Count a request and its bytes, if the process has room for both."""
        size = None if self._size_of is None else self._size_of(request.item)
        process = self._process
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

    def _run(self, request: _Request[T, R]) -> None:
        if not request.lock.acquire(blocking=False):
            return
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

    def receive(self) -> tuple[int, R | None, Exception | None]:
        """Return the outcome of a call that has ended; wait for it if there is none."""
        call, request = self._call, None
        while request is None:
            if call is not None:
                call.check()
            try:
                request = self._ended.get(timeout=None if call is None else POLL_SECONDS)
            except Empty:
                continue
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
        if self._process is _process and not sys.is_finalizing():
            interrupt = _settle(requests)
        for request in requests:
            self._forget(request)
            request.error = None
        if interrupt is not None:
            raise interrupt


# --- locks of keys -------------------------------------------------------------------------------


@final
class _KeyLock(RLock):  # type: ignore[misc] # final in the stubs only
    """The lock of one key; it exists while somebody uses it.

    Leaving it is not Python code: before its first line a Ctrl-C could leave the key locked.
    """

    __slots__ = ("key",)

    key: Hashable

    def __enter__(self) -> bool:  # type: ignore[override] # without the options of `acquire`
        if self._is_owned():  # type: ignore[attr-defined] # what threading.Condition uses
            raise RuntimeError(f"this thread is in the middle of a change of {self.key!r}")
        try:
            return self.acquire(False) or self._wait()
        except BaseException:
            if self._is_owned():  # type: ignore[attr-defined]
                self.release()
            raise

    def _wait(self) -> bool:
        if sys.is_finalizing():
            raise RuntimeError(f"{self.key!r} was being changed when the interpreter was shut down")
        call = current_call()
        if call is None:
            return self.acquire()
        while not self.acquire(timeout=POLL_SECONDS):
            call.check()
        return True


def key_lock(key: Hashable) -> _KeyLock:
    """Return the lock to hold (`with`) while what `key` names is changed: one per key and process.

    Entering raises `RuntimeError` if this thread holds it already, instead of waiting for ever,
    and what `Call.check` raises if the call should end meanwhile.
    """
    process = _process
    with process.lock:
        ref = process.key_locks.get(key)
        lock = None if ref is None else ref()
        if lock is None:
            lock = _KeyLock()
            lock.key = key
            if len(process.key_locks) >= process.key_limit:
                process.forget_keys()
            process.key_locks[key] = weakref.ref(lock)
        return lock


# --- fork and exit -------------------------------------------------------------------------------

_process = _Process()
_local = _Local()


def _after_fork_in_child() -> None:
    global _process, _local  # noqa: PLW0603 - what threads of the parent held is held for ever
    _process = _Process()
    _local = _Local()


def _let_work_end() -> None:
    """Give running work a moment before the interpreter takes its threads down."""
    until = time.monotonic() + EXIT_SECONDS
    while len(_process.threads) > len(_process.idle) and time.monotonic() < until:
        time.sleep(0.002)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_let_work_end)
