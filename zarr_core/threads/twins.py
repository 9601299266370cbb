"""`async_twin`: a synchronous callable -> its awaitable twin, which runs it in a worker thread.

The whole call makes one hop to a thread of our own, never one per chunk; parallel work happens on
the synchronous side. Twins belong to no event loop: they work under whatever anyio does (asyncio,
uvloop, trio), from several loops at once. How many run at once is bounded per kind of store, per
array, or by `limit`; the others wait in order, without a thread. Reads that wait are made together.

No request to a store starts after the await of a twin has returned or raised. So a cancelled twin
first tells its call to stop, then waits for the thread. Only a read into memory of its own may be
left alone, once no request of it can still be about to start.
"""

import math
import os
import sys
import threading
import warnings
from _thread import RLock
from array import array
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar, copy_context
from functools import cache, partial, wraps
from itertools import islice
from typing import Any, NamedTuple, ParamSpec, TypeAlias, TypeVar, cast, final
from weakref import WeakValueDictionary

import numpy as np

from zarr_core.config import config
from zarr_core.errors import StoppedError, ZarrRuntimeWarning
from zarr_core.threads import calls, pool

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")

SNAPSHOT_BYTES = 1 << 20
"""Values up to this size are copied when a twin starts; larger ones must not change meanwhile."""

MOST_TOGETHER = 1023
"""So many waiting reads at most are made together with the one whose turn it is."""

_MISSING: Any = object()

LOCAL_SCHEMES = frozenset({"file", "local", "memory", "zip"})


# --- lanes: how many calls run at once -----------------------------------------------------------


@final
class Lane:
    """Calls that share a limit; those beyond it wait in order, without a thread."""

    __slots__ = ("__weakref__", "_limit", "_lock", "_queue", "_running", "is_slow")

    def __init__(self, limit: int, *, is_slow: bool = False) -> None:
        self._limit = limit
        self.is_slow: bool = is_slow
        """Are its stores so slow that calls are worth a turn of the loop, to find what goes together?"""
        self._lock = RLock()
        self._queue: OrderedDict[Hop, None] = OrderedDict()
        self._running = 0

    def submit(self, hops: list["Hop"]) -> None:
        """Make calls, several only if they go together, on a thread: now or when it is their turn."""
        with self._lock:
            if self._running >= self._limit:
                for hop in hops:
                    hop.must_wait()
                    self._queue[hop] = None
                return
            self._running += 1
        try:
            if pool.start(partial(self._serve, hops)):
                return
            _warn_without_threads()
        except BaseException:  # an interrupt, or the warning
            for hop in hops:
                hop.call.stop()
            with self._lock:
                self._running -= 1
            raise
        self._serve(hops)()

    def withdraw(self, hop: "Hop") -> bool:
        """Remove a call that waits for its turn; return whether it did."""
        with self._lock:
            return self._queue.pop(hop, self) is None

    def _serve(self, hops: list["Hop"]) -> Callable[[], None]:
        """Make calls, then those that wait; return what tells that the last ones have ended."""
        while True:
            ended = _run(hops)
            with self._lock:
                self._running -= 1
                hops = self._next()
            if not hops:
                return partial(_tell, ended)
            _tell(ended)

    def _next(self) -> list["Hop"]:
        """Take the call whose turn it is, and those that go with it, under the lock."""
        if not self._queue:
            return []
        first, _ = self._queue.popitem(last=False)
        hops = [first]
        if first.read is not None and self._queue:
            hops += filter(first.goes_with, islice(self._queue, MOST_TOGETHER))
            for hop in hops[1:]:
                del self._queue[hop]
        self._running += 1
        return hops


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
        if lane is None:
            lane = Lane(n_calls, is_slow=key == "async.limit_high_latency")
            lane = self._shared.setdefault((key, n_calls), lane)
        return lane

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

    >>> import asyncio
    >>> async def total(array):
    ...     with zarr.limit(2):  # at most two of these reads at once
    ...         return sum(await asyncio.gather(*(array.getitem_async(k) for k in range(10))))
    >>> int(asyncio.run(total(zarr.ones(10))))
    10
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
    # Python 3.12 starts none as soon as it waits for the threads there are.
    if not (sys.is_finalizing() or getattr(threading, "_SHUTTING_DOWN", False)):
        message = "no thread can be started: awaited calls run on the thread of the event loop"
        warnings.warn(message, ZarrRuntimeWarning, stacklevel=6)


# --- one hop to a thread and back ----------------------------------------------------------------


@final
class _Mailbox:
    """Calls on their way to one event loop and back: many wake it once."""

    __slots__ = ("_ended", "_lock", "_post", "_starting", "loop", "new_event")

    loop: Any
    new_event: Callable[[], Any]

    def __init__(self, loop: Any, new_event: Callable[[], Any]) -> None:
        self.loop, self.new_event = loop, new_event
        self._post = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
        self._lock = RLock()
        self._ended: list[Hop] = []
        self._starting: list[tuple[Lane, Hop]] = []

    def put(self, hops: list["Hop"]) -> None:
        """Have the loop told that calls have ended; on any thread."""
        with self._lock:
            self._ended += hops
            if len(self._ended) > len(hops):
                return
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self._post(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            hops, self._ended = self._ended, []
        for hop in hops:
            hop.ended.set()

    def start_soon(self, lane: Lane, hop: "Hop") -> None:
        """Submit a call together with those that tasks start before the loop's next turn."""
        self._starting.append((lane, hop))
        if len(self._starting) == 1:
            self._post(self._start)

    def _start(self) -> None:
        starting, self._starting = self._starting, []
        groups: list[tuple[Lane, list[Hop]]] = []
        for lane, hop in starting:
            if hop.call.stopped:
                hop.ended.set()
                continue
            hop.must_wait()
            for known, hops in groups[-1:]:
                if known is lane and hop.goes_with(hops[0]):
                    hops.append(hop)
                    break
            else:
                groups.append((lane, [hop]))
        for lane, hops in groups:
            lane.submit(hops)


class _Local(threading.local):
    mailbox: _Mailbox | None = None
    """That of the loop which this thread ran last."""


_local = _Local()


def _mailbox() -> _Mailbox:
    box = _local.mailbox
    # To ask anyio takes a microsecond, which is much of what a hop costs.
    trio = sys.modules.get("trio.lowlevel")
    loop = None if trio is not None and trio.in_trio_task() else _asyncio_loop()()
    if box is not None and loop is not None and box.loop is loop:
        return box
    token = _anyio().lowlevel.current_token()
    loop = getattr(token, "native_token", token)  # the loop itself until anyio 4.11
    if box is None or box.loop is not loop:
        box = _local.mailbox = _Mailbox(loop, type(_anyio().Event()))
    return box


@cache
def _asyncio_loop() -> Callable[[], object]:
    """Return the function that returns the running loop of asyncio, or None."""
    from asyncio import _get_running_loop

    return _get_running_loop


@cache
def _anyio() -> Any:
    """Return the package anyio, which is imported at the first await."""
    import anyio
    import anyio.lowlevel

    return anyio


@final
class Hop:
    """One call of a twin: made on a thread, awaited on an event loop."""

    __slots__ = (
        "_ask",
        "_job",
        "_result",
        "box",
        "call",
        "context",
        "ended",
        "error",
        "left",
        "read",
    )

    box: _Mailbox
    call: calls.Call

    def __init__(
        self,
        job: "partial[Any]",
        call: calls.Call,
        ask: "Callable[..., Read | None] | None" = None,
    ) -> None:
        self.box, self._job, self.call, self._ask = _mailbox(), job, call, ask
        self.read: Read | None = None
        self.context: Context = copy_context()
        self.ended: Any = self.box.new_event()
        self._result: Any = None
        self.error: BaseException | None = None
        self.left: bool = False

    def must_wait(self) -> None:
        """Find out what is read, if it may be made together with others that wait."""
        if self._ask is not None and not self.call.is_limited:
            self.read = self._ask(*self._job.args, **self._job.keywords)

    def goes_with(self, first: "Hop") -> bool:
        """Return whether two reads may be made together: nothing about their calls differs."""
        read, other = self.read, first.read
        return (
            read is not None
            and other is not None
            and read.together is other.together
            and _is_alike(self.context, first.context)
        )

    def run(self) -> None:
        """Make the call, on a thread; never raises."""
        try:
            self._result = self.context.run(self._enter)
        except BaseException as error:  # noqa: BLE001 - raised where the call is awaited
            self.keep(error=error)

    def keep(self, result: Any = None, error: BaseException | None = None) -> None:
        """Keep the outcome of the call."""
        self._result = result
        if not self.left:
            self.error = error

    def start(self, lane: Lane) -> None:
        """Have the call made."""
        if lane.is_slow and self._ask is not None:
            self.box.start_soon(lane, self)
        else:
            lane.submit([self])

    def _enter(self) -> Any:
        _enter_thread()
        calls._current.set(self.call)
        self.call.check()
        result = self._job()
        # A lazy result would do its work on the thread of the event loop.
        return tuple(result) if hasattr(result, "__next__") else result

    def outcome(self) -> Any:
        """Return or raise what the call did."""
        error, self.error = self.error, None  # its frames name this object: no cycles
        try:
            if error is None:
                return self._result
            raise error
        finally:
            del error

    async def settle(self, seconds: float | None) -> None:
        """Wait until the call has ended or `seconds` have passed, through all cancellations.

        Raises the last of those that came meanwhile.
        """
        again = None
        seconds = math.inf if seconds is None else seconds
        cancelled = _anyio().get_cancelled_exc_class()
        try:
            with _anyio().move_on_after(seconds, shield=True) as scope:
                while not self.ended.is_set():
                    try:
                        await self.ended.wait()
                    except (cancelled, KeyboardInterrupt) as error:
                        if scope.cancel_called:  # the time is up
                            raise
                        again = error  # a native cancellation, which no shield holds back
            if again is not None:
                raise again
        finally:
            del again


def _is_alike(one: Context, other: Context) -> bool:
    """Return whether contexts hold the same objects, which may not be comparable."""
    return len(one) == len(other) and all(
        other.get(variable, _MISSING) is value for variable, value in one.items()
    )


def _enter_thread() -> None:
    """Leave the event loop behind, in the context of a call."""
    _inside.set(True)
    sniffio = sys.modules.get("sniffio")
    if sniffio is not None:  # a loop that the call itself runs may be of another library
        sniffio.current_async_library_cvar.set(None)


def _tell(hops: list[Hop]) -> None:
    """Tell the event loops that calls have ended."""
    box = hops[0].box
    others = [hop for hop in hops if hop.box is not box] if len(hops) > 1 else []
    box.put(hops if not others else [hop for hop in hops if hop.box is box])
    if others:
        _tell(others)


def _run(hops: list[Hop]) -> list[Hop]:
    """Make calls on this thread, several together; return those that nobody was told of yet."""
    first = hops[0]
    if len(hops) == 1 or first.read is None:
        first.run()
        return hops
    make = first.read.together
    reads = [(hop.read, hop.call) for hop in hops if hop.read is not None]
    under_way = dict(enumerate(hops))
    ended: list[Hop] = []

    def together() -> None:
        nonlocal ended
        _enter_thread()
        for outcomes in make(reads):
            if ended:
                _tell(ended)
            ended = [under_way.pop(number) for number, _, _ in outcomes]
            for hop, (_, result, error) in zip(ended, outcomes, strict=True):
                hop.keep(result, error)

    try:
        first.context.run(together)
    except BaseException as error:  # noqa: BLE001 - of what is no Exception, each has its share
        for hop in under_way.values():
            hop.keep(error=error)
    return [*ended, *under_way.values()]


async def _make(hop: Hop, lane: Lane, private: bool) -> Any:
    """Make a call in its lane and return or raise its outcome; see the module on cancellation."""
    hop.start(lane)
    try:
        await hop.ended.wait()
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


Outcome: TypeAlias = tuple[int, Any, BaseException | None]
"""The number of a read among those made together, and its result or error."""


@final
class Read(NamedTuple):
    """A read that may be made together with others that wait for a thread."""

    together: Callable[[Any], Iterator[list[Outcome]]]
    """Makes several, given pairs of a `Read` and its `Call`; yields what has ended."""
    what: tuple[Any, ...]
    """What is read: up to `together`."""


def async_twin(
    sync: Callable[P, T],
    *,
    private: bool = False,
    snapshot: str | None = None,
    read: Callable[..., Read | None] | None = None,
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Return a coroutine function that takes exactly `sync`'s arguments and runs it in a thread.

    Parameters
    ----------
    sync
        a function, or a method (not a classmethod) of a class without subclasses.
    private
        `sync` stores nothing and, unless it is given `out`, changes no memory of others.
        Then a cancelled twin does not wait for a request that is under way.
    snapshot
        the name of an argument. NumPy arrays and other buffers up to 1 MB are copied
        when the twin starts, so that the caller may change them right after.
    read
        gets the arguments of `sync`, and returns what to read together with others, or None.
    """
    value_at = 0 if snapshot is None else sync.__code__.co_varnames.index(snapshot)

    @wraps(sync)
    async def twin(*args: P.args, **kwargs: P.kwargs) -> T:
        job = partial(sync, *args, **kwargs)
        if snapshot is not None:
            job = _with_snapshot(job, snapshot, value_at)
        call = calls.Call(kwargs.get("timeout") or config.get("async.timeout"))  # type: ignore[arg-type]
        hop = Hop(job, call, read)
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
