"""`stream`: selections in the order asked for, read ahead on other threads while the caller works."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import copy_context
from functools import partial
from itertools import takewhile
from threading import Condition
from types import TracebackType
from typing import Any, Final, Self, TypeVar, final

from zarr_core.array.handle import Handle
from zarr_core.array.many import (
    Group,
    ReadJob,
    is_better_alone,
    pair,
    read_groups,
    some_at_a_time,
)
from zarr_core.chunks import loop
from zarr_core.indexing.plan import PARTIAL, Part, Plan
from zarr_core.indexing.selection import plan_selection
from zarr_core.indexing.values import with_fields
from zarr_core.metadata.chunk_grids import ChunkGrid, Coords
from zarr_core.threads import calls, pool
from zarr_core.threads.twins import async_twin

__all__ = ["Stream", "stream"]

T = TypeVar("T")

_END: Any = object()


@final
class _Window:
    """A selection on its way: its job, the keys of its chunks, and what its caller gets."""

    __slots__ = ("error", "given", "job", "keys", "read")

    def __init__(self) -> None:
        self.job: ReadJob | None = None
        self.keys: list[Any] = []
        self.given: Any = None
        """The caller's own buffer, if there is one."""
        self.read: Callable[[], object] | None = None
        """Reads the whole selection, if it is better read alone."""
        self.error: BaseException | None = None

    @property
    def is_here(self) -> bool:
        return self.error is not None or (self.job is not None and not self.job.n_left)

    def taken(self) -> Any:
        """Return what its caller gets."""
        if self.error is not None:
            raise self.error
        assert self.job is not None
        found = self.job.finished()
        return found if self.given is None else self.given


@final
class Stream:
    """What `zarr_core.stream` returns: to iterate over once, with `for` or `async for`.

    In a `with` or `async with` block, or by `close`, it can be left early: no request starts any more.
    """

    def __init__(
        self, items: Iterable[tuple[Handle, Any]], ahead: int, out: Sequence[Any] | None
    ) -> None:
        self._call = calls.Call()
        if ahead < 1 or (out is not None and not len(out)):
            raise ValueError(f"at least one window has to be in memory; ahead is {ahead}")
        self._items = iter(items)
        self._out = out
        self._capacity = ahead if out is None else min(ahead, len(out))
        self._n_asked = 0
        self._windows: deque[_Window] = deque()
        self._waiting: dict[Any, Group[ReadJob]] = {}
        self._changed = Condition()
        self._is_driven = self._is_over = False
        self._context = copy_context()

    # --- the caller's side ---------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        found = self._step()
        if found is _END:
            raise StopIteration
        return found

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        found = await self._step_async()
        if found is _END:
            raise StopAsyncIteration
        return found

    def _step(self) -> Any:
        """Wait for the next window; return it, or `_END`."""
        self._ask()
        self._drive_on()
        call = calls.current_call()
        with self._changed:
            while self._windows and not self._windows[0].is_here and not self._call.stopped:
                if call is not None:
                    call.check()
                self._changed.wait(None if call is None else calls.POLL_SECONDS)
            if not self._windows or self._call.stopped:
                return _END
            window = self._windows.popleft()
        return window.taken()

    def close(self) -> None:
        """Read nothing any more; wait for requests that are under way."""
        self._call.stop()
        with self._changed:
            self._is_over = True
            self._waiting.clear()
            self._windows.clear()
            self._changed.notify_all()
            while self._is_driven:
                self._changed.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close_async()

    def __del__(self) -> None:
        self._call.stop()  # nobody waits for what is under way

    def _twin_lane(self) -> tuple[bool, int | None, object]:
        return True, None, self  # waits for others, and computes nothing

    def _ask(self) -> None:
        """Take items as long as there is room for their windows."""
        # With buffers of its own a caller has given back the window that it had.
        held = self._n_asked > 0 and self._out is None
        while len(self._windows) < max(1, self._capacity - held) and not self._is_over:
            window = _Window()
            try:
                item = next(self._items, _END)
                if item is _END:
                    self._is_over = True
                    return
                groups = self._prepare(window, item)
            except BaseException as error:  # noqa: BLE001 - raised when it is the turn of this window
                window.error, groups, self._is_over = error, {}, True
            with self._changed:
                for key, part in groups.items():
                    self._waiting.setdefault(key, []).append(part)
                self._windows.append(window)

    def _prepare(self, window: _Window, item: Any) -> dict[Any, Any]:
        """Make the job of a window; return the parts of chunks that it waits for."""
        array, selection = pair(item)
        if self._out is not None:
            window.given = self._out[self._n_asked % len(self._out)]
        self._n_asked += 1
        window.job = job = ReadJob(array, plan_selection, selection, out=window.given)
        space, plan = job.space, job.plan
        if array._batch is not None or is_better_alone(space, plan, space.read_cost):
            read = loop.read if array._batch is None else array._batch.read
            window.read = partial(read, space, plan, job.view, job.fields)
            job.n_left = 1
            return {}
        assert space.lock_key is not None
        found = {
            (space.lock_key(space.key(part.coords)), number): (job, part)
            for number, part in _parts(array, selection, plan)
        }
        window.keys, job.n_left = list(found), len(found)
        return found

    # --- the reading thread's side -----------------------------------------------------------------

    def _drive_on(self) -> None:
        """Have a thread read what is due, if none does and something is."""
        with self._changed:
            if self._is_driven or not self._is_something_due():
                return
            self._is_driven = True
        if not pool.start(lambda: self._context.run(self._drive)):
            self._drive()

    def _due(self) -> list[_Window]:
        """Return the windows to be read now: the first half of those that are here.

        The others get what these need of their chunks. So a chunk is decoded once, however many
        windows share it, if they are less than half of what is read ahead apart.
        """
        return [w for w, _ in zip(self._windows, range((self._capacity + 1) // 2), strict=False)]

    def _is_something_due(self) -> bool:
        return any(w.read or any(key in self._waiting for key in w.keys) for w in self._due())

    def _take(self) -> tuple[list[Group[ReadJob]], _Window | None]:
        """Return the chunks that are read next, or a window that is read alone."""
        groups: dict[Any, Group[ReadJob]] = {}
        for window in self._due():
            if window.read is not None:
                if any(groups.values()):
                    break
                return [], window
            for key in window.keys:  # those in one shard together
                groups.setdefault(key[0], []).extend(self._waiting.pop(key, ()))
        return [group for group in groups.values() if group], None

    def _drive(self) -> None:
        """Read until nothing is due any more."""
        try:
            with calls.inside(self._call):
                while True:
                    with self._changed:
                        groups, alone = self._take()
                        if not groups and alone is None:
                            return
                    if alone is not None:
                        self._read_alone(alone)
                    for some in some_at_a_time(_emptied(groups)):
                        read_groups(some)
                        with self._changed:
                            for group in _emptied(some):
                                _count(group)
                            self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised to the caller, at the first window without its data
            with self._changed:
                self._fail(error)
        finally:
            with self._changed:
                self._is_driven = False
                self._changed.notify_all()

    def _read_alone(self, window: _Window) -> None:
        assert window.read is not None
        assert window.job is not None
        window.read()
        with self._changed:
            window.read, window.job.n_left = None, 0
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        self._is_over = True
        self._waiting.clear()
        here = list(takewhile(lambda window: window.is_here, self._windows))
        failed = _Window()
        failed.error = error
        self._windows = deque([*here, failed])

    close_async: Final = async_twin(close)
    _step_async: Final = async_twin(_step)


def _count(group: Group[ReadJob]) -> None:
    """Note that a chunk was read."""
    while group:
        group.pop()[0].n_left -= 1


def _emptied(found: list[T]) -> Iterator[T]:
    """Yield what is in a list, and forget it: windows that were taken do not stay in memory."""
    found.reverse()
    while found:
        yield found.pop()


def _parts(array: Handle, selection: Any, plan: Plan) -> Iterator[tuple[Coords | None, Part]]:
    """Yield the parts of a plan; of shards those of each inner chunk, with its coordinates."""
    metadata = array.metadata
    if not plan.nparts:
        return
    if metadata.sharding is None or metadata.chunk_grid.chunk_shape is None:
        for part in plan.parts():
            yield None, part
        return
    inner, outer = metadata.chunks, metadata.chunk_grid.chunk_shape
    chosen, _ = with_fields(selection, None)
    for part in plan_selection(chosen, ChunkGrid.regular(metadata.shape, inner)).parts():
        starts = [k * size for k, size in zip(part.coords, inner, strict=True)]
        inside = tuple(
            slice(s.start + start % n, s.stop + start % n, s.step)
            if isinstance(s, slice)
            else s + start % n
            for s, start, n in zip(part.chunk, starts, outer, strict=True)
        )
        shard = tuple(start // n for start, n in zip(starts, outer, strict=True))
        yield part.coords, Part(shard, inside, part.out, PARTIAL)


def stream(
    items: Iterable[tuple[Handle, Any]], *, ahead: int = 8, out: Sequence[Any] | None = None
) -> Stream:
    """Iterate over `array[selection]` for pairs of an array and a selection, read ahead in their order.

    Threads read and decode while the caller works on a window, for training or moving windows. Windows
    that share chunks have each chunk decoded once while they are near: less than half of `ahead`
    apart. The items are taken as they are needed, on the caller's thread; they may be endless.

    Raises what indexing would, when it is the turn of the window; none comes after it.

    Parameters
    ----------
    items
        Pairs `(array, selection)`; the arrays may be in different stores.
    ahead
        How many windows are in memory at most (two with 1), that which the caller has among them. The
        first half of them is read; the others get what these need of their chunks.
    out
        Buffers that are filled in turn and given instead of new arrays: NumPy arrays of the shape
        and data type of the selections, or what has DLPack or the buffer protocol. One is filled
        again once the caller has asked for the next window; no more are ahead than there are.

    Returns
    -------
    An iterator, synchronous and asynchronous: `for window in stream(...)`, `async for window in ...`.

    Examples
    --------
    >>> array = zarr.create_array({}, data=np.arange(12), chunks=(4,))
    >>> [int(part.sum()) for part in zarr.stream((array, slice(k, k + 3)) for k in range(0, 12, 3))]
    [3, 12, 21, 30]
    """
    return Stream(items, ahead, out)
