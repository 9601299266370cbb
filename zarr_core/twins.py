"""`async_twin`: a synchronous callable -> its awaitable twin, which runs it in a worker thread.

The whole call makes one hop to a thread of our own, never one per chunk; parallel work happens on
the synchronous side. Twins belong to no event loop: they work under asyncio (also uvloop, also with
anyio) and trio, from several loops at once. How many run at once is bounded per kind of store,
per array, or by `limit`; the others wait in order, without a thread.

No request to a store starts after the await of a twin has returned or raised. So a cancelled twin
first tells its call to stop, then waits for the thread. Only a read into memory of its own may be
left alone, once no request of it can still be about to start.
"""

import math
import os
import sys
import threading
import warnings
from array import array
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar, copy_context
from functools import cache, partial, wraps
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast, final
from weakref import WeakValueDictionary, ref

import numpy as np

from zarr_core import workers
from zarr_core.config import config
from zarr_core.errors import StoppedError, ZarrRuntimeWarning

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")

SNAPSHOT_BYTES = 1 << 20
"""Values up to this size are copied when a twin starts; larger ones must not change meanwhile."""

LOCAL_SCHEMES = frozenset({"file", "local", "memory", "zip"})


# --- lanes: how many calls run at once -----------------------------------------------------------


@final
class Lane:
    """Calls that share a limit; those beyond it wait in order, without a thread."""

    __slots__ = ("__weakref__", "_ending", "_limit", "_lock", "_queue", "_running")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.RLock()
        self._queue: OrderedDict[_Hop, None] = OrderedDict()
        self._running: set[_Hop] = set()
        self._ending: set[_Hop] = set()  # their threads look at the queue once more

    def submit(self, hop: "_Hop") -> None:
        """Make a call on a thread, now or when it is its turn."""
        with self._lock:
            n_queued = len(self._queue)
            if len(self._running) + n_queued >= self._limit or len(self._ending) > n_queued:
                self._queue[hop] = None
                return
            self._running.add(hop)
        try:
            if workers.start(partial(self._serve, hop)):
                return
            _warn_without_threads()
        except BaseException:  # an interrupt, or the warning
            hop.call.stop()
            with self._lock:
                self._running.discard(hop)
            raise
        self._serve(hop)

    def withdraw(self, hop: "_Hop") -> bool:
        """Remove a call that waits for its turn; return whether it did."""
        with self._lock:
            return self._queue.pop(hop, self) is None

    def _serve(self, hop: "_Hop") -> None:
        """Make a call, then those that wait: no other thread has to be woken for them.

        A task that awaits one call after the other makes the next one as soon as it hears that one
        has ended. So this thread looks for it again after it has said so, before it falls asleep.
        """
        following: _Hop | None = hop
        while following is not None:
            hop = following
            hop.run()
            with self._lock:
                self._running.discard(hop)
                following = self._next()
                if following is None:
                    self._ending.add(hop)
            hop.tell()
            if following is None:
                with self._lock:
                    self._ending.discard(hop)
                    following = self._next()

    def _next(self) -> "_Hop | None":
        """Take the call whose turn it is, under the lock.

        There is room for it: threads that run calls or are ending are never more than the limit.
        """
        if not self._queue:
            return None
        hop, _ = self._queue.popitem(last=False)
        self._running.add(hop)
        return hop


@final
class _Lanes:
    """The lanes of one process."""

    def __init__(self) -> None:
        self.unlimited = Lane(sys.maxsize)
        self._shared: dict[tuple[str, int], Lane] = {}
        self._owned: WeakValueDictionary[tuple[int, int], Lane] = WeakValueDictionary()
        self._lock = threading.RLock()

    def shared(self, key: str) -> Lane:
        """Return the lane of all stores of one latency class, named by its setting."""
        n_calls = config.get(key) or _default_limit()
        lane = self._shared.get((key, n_calls))
        return lane or self._shared.setdefault((key, n_calls), Lane(n_calls))

    def owned(self, owner: object, n_calls: int) -> Lane:
        """Return the lane of one object."""
        key = (id(owner), n_calls)  # unique: the owner lives while calls are in its lane
        with self._lock:
            lane = self._owned.get(key)
            if lane is None:
                lane = self._owned[key] = Lane(n_calls)
            return lane


_lanes = _Lanes()
_limit: ContextVar[tuple[object, int] | None] = ContextVar("zarr_core_limit", default=None)
_inside: ContextVar[bool] = ContextVar("zarr_core_inside_hop", default=False)


@cache
def _default_limit() -> int:
    return max(4, os.cpu_count() or 1)


@contextmanager
def limit(calls: int) -> Iterator[None]:
    """Let at most `calls` of the awaited calls in this context run at once.

    Tasks that are started inside share the limit, which comes before all others.
    """
    if calls < 1:
        raise ValueError(f"a limit must be at least 1, not {calls}")
    token = _limit.set((object(), calls))
    try:
        yield
    finally:
        _limit.reset(token)


def _lane(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Lane:
    """Return the lane for a call: chosen by `limit`, or by what the call works on."""
    if _inside.get():
        return _lanes.unlimited  # a store calls, which has its place already: it must not wait
    chosen = _limit.get()
    if chosen is not None:
        return _lanes.owned(*chosen)
    subject = args[0] if args else kwargs.get("store", kwargs.get("items"))
    if isinstance(subject, list | tuple) and subject and isinstance(subject[0], tuple):
        subject = subject[0][0]  # of several arrays the first one decides
    describe = getattr(subject, "_twin_lane", None)
    if describe is None:
        high_latency = _is_high_latency(subject)
    else:
        high_latency, own_limit, owner = describe()
        if own_limit is not None:
            return _lanes.owned(owner, own_limit)
    return _lanes.shared("async.limit_high_latency" if high_latency else "async.limit")


def _is_high_latency(store: Any) -> bool:
    """Return whether a Store, a StorePath or a URL is slow enough to overlap many requests."""
    if isinstance(store, str):
        scheme, found, _ = store.partition("://")
        return bool(found) and ("::" in store or scheme not in LOCAL_SCHEMES)
    own = getattr(store, "high_latency", None)
    return bool(
        getattr(getattr(store, "store", None), "high_latency", False) if own is None else own
    )


@cache
def _warn_without_threads() -> None:
    if not sys.is_finalizing():
        message = "no thread can be started: awaited calls run on the thread of the event loop"
        warnings.warn(message, ZarrRuntimeWarning, stacklevel=5)


# --- one hop to a thread and back ----------------------------------------------------------------


@final
class _Mailbox:
    """Calls that have ended, on their way to one event loop: many wake it once."""

    __slots__ = ("__weakref__", "_ended", "_lock", "_post", "loop")

    def __init__(self, loop: object, post: Callable[[Callable[[], None]], object]) -> None:
        self.loop, self._post = loop, post
        self._lock = threading.Lock()
        self._ended: list[_BaseHop] = []

    def put(self, hop: "_BaseHop") -> None:
        with self._lock:
            self._ended.append(hop)
            if len(self._ended) > 1:
                return
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self._post(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            hops, self._ended = self._ended, []
        for hop in hops:
            hop.ended()


class _Local(threading.local):
    mailbox: ref[_Mailbox] | None = None
    """That of the loop which this thread ran last."""


_local = _Local()


def _mailbox(loop: object, post: Callable[[Callable[[], None]], object]) -> _Mailbox:
    box = None if _local.mailbox is None else _local.mailbox()
    if box is None or box.loop is not loop:
        box = _Mailbox(loop, post)
        _local.mailbox = ref(box)
    return box


class _BaseHop:
    """One call of a twin: made on a thread, awaited on an event loop."""

    __slots__ = ("_box", "_context", "_job", "_result", "call", "done", "error", "left")

    def __init__(self, box: _Mailbox, job: Callable[[], Any], call: workers.Call) -> None:
        self._box, self._job, self.call = box, job, call
        self._context = copy_context()
        self._result: Any = None
        self.error: BaseException | None = None
        self.done = self.left = False

    def run(self) -> None:
        """Make the call, on a thread; never raises."""
        try:
            self._result = self._context.run(self._enter)
        except BaseException as error:  # noqa: BLE001 - raised where the call is awaited
            if not self.left:
                self.error = error

    def tell(self) -> None:
        """Tell the event loop that the call has ended."""
        self._box.put(self)

    def _enter(self) -> Any:
        _inside.set(True)
        workers._current.set(self.call)
        self.call.check()
        result = self._job()
        # A lazy result would do its work on the thread of the event loop.
        return tuple(result) if hasattr(result, "__next__") else result

    def ended(self) -> None:
        """Note, on the event loop, that the call has ended."""
        self.done = True

    def outcome(self) -> Any:
        """Return or raise what the call did."""
        error, self.error = self.error, None  # its frames name this object: no cycles
        try:
            if error is None:
                return self._result
            raise error
        finally:
            del error


@final
class _AsyncioHop(_BaseHop):
    """Awaited under asyncio, or anyio on asyncio."""

    __slots__ = ("_expired", "_future", "_loop")

    def __init__(self, loop: Any, job: Callable[[], Any], call: workers.Call) -> None:
        super().__init__(_mailbox(loop, loop.call_soon_threadsafe), job, call)
        self._loop, self._future = loop, loop.create_future()
        self._expired = False

    def ended(self) -> None:
        super().ended()
        self._wake()

    def _wake(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self) -> None:
        """Wait until the call has ended, or is cancelled."""
        await self._future

    async def settle(self, seconds: float | None) -> None:
        """Wait until the call has ended or `seconds` have passed, through all cancellations.

        Raises the last of those that came meanwhile.
        """
        from asyncio import CancelledError

        timer = None if seconds is None else self._loop.call_later(seconds, self._expire)
        # A cancelled scope of anyio would cancel again at every turn of the loop.
        scope = getattr(sys.modules.get("anyio"), "CancelScope", None)
        again = None
        try:
            with nullcontext() if scope is None else scope(shield=True):
                while not (self.done or self._expired):
                    self._future = self._loop.create_future()
                    try:
                        await self._future
                    except CancelledError as error:
                        again = error
            if again is not None:
                raise again
        finally:
            del again
            if timer is not None:
                timer.cancel()

    def _expire(self) -> None:
        self._expired = True
        self._wake()


@final
class _TrioHop(_BaseHop):
    """Awaited under trio, or anyio on trio."""

    __slots__ = ("_event", "_trio")

    def __init__(self, trio: Any, job: Callable[[], Any], call: workers.Call) -> None:
        token = trio.lowlevel.current_trio_token()
        super().__init__(_mailbox(token, token.run_sync_soon), job, call)
        self._trio, self._event = trio, trio.Event()

    def ended(self) -> None:
        super().ended()
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()

    async def settle(self, seconds: float | None) -> None:
        now = self._trio.current_time
        until = math.inf if seconds is None else now() + seconds
        again = None
        try:
            while not self._event.is_set() and now() < until:
                try:
                    with self._trio.CancelScope(shield=True, deadline=until):
                        await self._event.wait()
                except KeyboardInterrupt as error:
                    again = error
            if again is not None:
                raise again
        finally:
            del again


_Hop: TypeAlias = _AsyncioHop | _TrioHop


def _hop(job: Callable[[], Any], call: workers.Call) -> _Hop:
    """Return a hop for the event loop that runs here; neither is imported for this."""
    trio = sys.modules.get("trio.lowlevel")
    if trio is not None and getattr(trio, "in_trio_task", bool)():
        return _TrioHop(sys.modules["trio"], job, call)
    from asyncio import get_running_loop

    return _AsyncioHop(get_running_loop(), job, call)


async def _make(hop: _Hop, lane: Lane, private: bool) -> Any:
    """Make a call in its lane and return or raise its outcome; see the module on cancellation."""
    lane.submit(hop)
    try:
        await hop.wait()
    except BaseException as cancelled:
        hop.call.stop()
        try:
            # After GeneratorExit (the loop is gone) nothing can be awaited.
            if not lane.withdraw(hop) and not isinstance(cancelled, GeneratorExit):
                seconds = hop.call.starting() if private else None
                if seconds != 0:
                    await hop.settle(seconds)
            if hop.error is not None and not isinstance(hop.error, StoppedError):
                cancelled.__cause__ = hop.error
        finally:
            hop.left, hop.error = True, None
        raise
    return hop.outcome()


# --- twins ---------------------------------------------------------------------------------------


def async_twin(
    sync: Callable[P, T], *, private: bool = False, snapshot: str | None = None
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Return a coroutine function that takes exactly `sync`'s arguments and runs it in a thread.

    Args:
        sync: a function, or a method (not a classmethod) of a class without subclasses.
        private: `sync` stores nothing and, unless it is given `out`, changes no memory of others.
            Then a cancelled twin does not wait for a request that is under way.
        snapshot: the name of an argument. NumPy arrays and other buffers up to 1 MB are copied
            when the twin starts, so that the caller may change them right after.
    """
    value_at = 0 if snapshot is None else sync.__code__.co_varnames.index(snapshot)

    @wraps(sync)
    async def twin(*args: P.args, **kwargs: P.kwargs) -> T:
        job = partial(sync, *args, **kwargs)
        if snapshot is not None:
            job = _with_snapshot(job, snapshot, value_at)
        seconds = kwargs.get("timeout")
        hop = _hop(job, workers.Call(seconds or config.get("async.timeout")))  # type: ignore[arg-type]
        result: T = await _make(hop, _lane(args, kwargs), private and kwargs.get("out") is None)
        return result

    # Pickle finds the twin by this name: `__getitem__` becomes `getitem_async`.
    owner, dot, name = sync.__qualname__.rpartition(".")
    twin.__name__ = f"{name.strip('_')}_async"
    twin.__qualname__ = f"{owner}{dot}{twin.__name__}"
    twin.__doc__ = f"Await `{name}` in a worker thread: same arguments, same result."
    if snapshot is not None:
        twin.__doc__ += f" If `{snapshot}` is larger than 1 MB, do not change it meanwhile."
    return twin


def async_tuple_twin(
    sync: Callable[P, Iterator[Item]],
) -> Callable[P, Coroutine[Any, Any, tuple[Item, ...]]]:
    """Return the twin of a function that returns an iterator; it collects it in the thread."""
    return cast("Callable[P, Coroutine[Any, Any, tuple[Item, ...]]]", async_twin(sync))


def _with_snapshot(job: partial[T], name: str, position: int) -> partial[T]:
    """Return a call with a copy of one argument."""
    args, kwargs = job.args, job.keywords
    if name in kwargs:
        kwargs = {**kwargs, name: _snapshot(kwargs[name])}
    elif position < len(args):
        args = (*args[:position], _snapshot(args[position]), *args[position + 1 :])
    return partial(job.func, *args, **kwargs)


def _snapshot(value: Any) -> Any:
    """Return a copy of a small array or buffer, anything else as it is."""
    if isinstance(value, np.ndarray | bytearray | memoryview | array):
        view = np.asanyarray(value)
        if view.nbytes <= SNAPSHOT_BYTES:
            return view.copy("K")
    if isinstance(value, list | tuple) and any(
        isinstance(item, np.ndarray | list | tuple) for item in value
    ):
        copies = [_snapshot(item) for item in value]
        return tuple(copies) if isinstance(value, tuple) else copies
    return value


def _after_fork_in_child() -> None:
    global _local, _lanes  # the calls of the parent are not made here
    _local, _lanes = _Local(), _Lanes()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
