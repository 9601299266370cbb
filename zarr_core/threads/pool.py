"""Threads, and helpers that share the work of one call.

Every operation runs on its caller's thread. Threads of the pool only join in, and nothing needs
them: at interpreter exit, in WebAssembly, or when no thread can be started, the caller does all the
work. The pool is made at first need and belongs to one process; a forked child gets its own, with
fresh locks and budgets. Threads are daemons that wait idle for a while, so exit never hangs.

A finalizer may run in the middle of any step here and call the library again. So locks are
reentrant, calls have none, and while the one of the tables is held no code of others is called.
"""

import atexit
import os
import sys
import threading
import time
from _thread import RLock
from collections.abc import Callable, Iterable, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar, final

from zarr_core.config import config
from zarr_core.threads.calls import Call

T = TypeVar("T")
R = TypeVar("R")

IDLE_SECONDS = 10.0
"""A thread without work ends after this time."""

EXIT_SECONDS = 1.0
"""At interpreter exit, running work may take this long to end."""

# Waking a thread costs 5 µs and more, and a step below 5 µs is over before another can join in.
SHARE_US = 50.0
ITEM_US = 5.0

# Taking an item from an iterator is one step only where a global lock makes it one.
_ITERATORS_ARE_ATOMIC = bool(getattr(sys, "_is_gil_enabled", lambda: True)())
_NOTHING = object()


# --- the pool ------------------------------------------------------------------------------------

PoolJob: TypeAlias = Callable[[], Callable[[], object] | None]


class _Process:
    """What belongs to one process."""

    def __init__(self) -> None:
        self.lock: RLock = RLock()
        self.threads: set[_Thread] = set()
        self.idle: list[_Thread] = []  # in the order in which they fell asleep
        self.helping: set[_Helper] = set()
        self.waiting: dict[_Helper, None] = {}  # helpers that get a thread when one is free
        self.requests: set[Job] = set()
        self.sizes: dict[Job, int] = {}  # of results that were not taken yet


@final
class _Thread:
    """A thread of the pool: what it does next, whom it tells now, and the lock it sleeps on."""

    __slots__ = ("job", "tell", "wake")

    def __init__(self, job: "PoolJob") -> None:
        self.job: PoolJob | None = job
        self.tell: Callable[[], object] | None = None
        self.wake = threading.Lock()
        self.wake.acquire()


def start(job: PoolJob) -> bool:
    """Run `job`, which must not raise, on a thread; return False where there are no threads.

    What it returns, if anything, is called when the thread is free again: somebody who is told that
    the job has ended, and has the next one, finds a thread that is still awake.
    """
    if sys.is_finalizing():
        return False  # a thread would never get to run
    process = _process
    idle = process.idle
    try:
        # The last one to fall asleep is perhaps still on its way there. To wake the one before it
        # takes an eighth less, from one await to the next.
        thread = idle.pop(-2 if len(idle) > 1 else -1)
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
        thread.tell = None if job is None else job()
        del job  # what it refers to must not live on while the thread is idle
        process.idle.append(thread)
        if thread.tell is not None:
            thread.tell()
            thread.tell = None
        if not thread.wake.acquire(timeout=IDLE_SECONDS):
            try:
                process.idle.remove(thread)
            except ValueError:  # it is just being given a job
                thread.wake.acquire()
            else:
                process.threads.discard(thread)
                return


class Job:
    """Work handed to a thread; its owner can take it back until it has begun.

    The lock is held by whoever came first, the thread or the owner. It is reentrant so that an
    owner that was interrupted can ask again.
    """

    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock: RLock = RLock()


def settle(jobs: Sequence[Job]) -> KeyboardInterrupt | None:
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


def helpers(n_items: int, cost_us: float, threads: int = 0) -> int:
    """Return how many helpers are worth their cost for items of `cost_us` µs outside the GIL.

    Work that waits for a disk more than it computes can use some `threads` more than there are
    cores, unless it may use only one. Helpers have none: the threads go to the outermost loop that
    can use them.
    """
    total = n_items * cost_us
    if n_items < 2 or cost_us < ITEM_US or total < 2 * SHARE_US or _local.busy:
        return 0
    return min(_most(threads), n_items, int(total / SHARE_US)) - 1


def _most(threads: int) -> int:
    limit = max_workers()
    return limit if limit == 1 else max(limit, threads)


def run(
    fn: Callable[[T], object],
    items: Iterable[T],
    helpers: int = 0,
    call: Call | None = None,
    threads: int = 0,
) -> None:
    """Call `fn` with every item, on this thread and on as many as `helpers` others.

    Helpers of all callers together are fewer than `max_workers()`, or `threads`; see `helpers`.

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
        limit = _most(threads) - 1
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
            interrupt = settle(hired)
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
class _Helper(Job):
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
            try:
                helper, _ = process.waiting.popitem()
            except KeyError:  # callers take theirs back without the lock
                break
            process.helping.add(helper)
    _local.busy = False


# --- fork and exit -------------------------------------------------------------------------------

_process = _Process()
_local = _Local()


def this_process() -> _Process:
    """Return what belongs to the process that runs now; another object after a fork."""
    return _process


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
