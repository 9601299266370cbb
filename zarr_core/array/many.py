"""Selections of several arrays in one call: `read_many`, `write_many`, awaited reads that wait.

All chunks that are touched are read or written together: requests to slow stores overlap across
the arrays, decoding uses the threads of one call, and a chunk that several selections touch is
fetched and decoded, or changed and stored, once. Selections of very many chunks go by themselves.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from itertools import chain as chained
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from zarr_core.array.handle import Handle
from zarr_core.chunks import loop, placing
from zarr_core.chunks.space import ChunkSpace
from zarr_core.errors import StoppedError, describe
from zarr_core.indexing.plan import PARTIAL, Part, Plan
from zarr_core.indexing.selection import Fields, plan_basic, plan_selection
from zarr_core.indexing.values import (
    destination,
    empty_result,
    field_dtype,
    fitted_to,
    only_ints,
    with_fields,
)
from zarr_core.metadata.chunk_grids import ChunkGrid
from zarr_core.storage.base import Request, Value
from zarr_core.threads import calls, pool
from zarr_core.threads.calls import timeout as time_limit
from zarr_core.threads.requests import finish, overlap
from zarr_core.threads.twins import Outcome, Read, async_twin

__all__ = [
    "read_many",
    "read_many_async",
    "write_many",
    "write_many_async",
]

NDArray: TypeAlias = npt.NDArray[Any]

MakePlan: TypeAlias = Callable[[Any, ChunkGrid], Plan]

TOGETHER_BYTES = 256 << 20
"""So much is read together for reads that waited, then the next."""
AT_A_TIME_BYTES = 8 << 20
"""So many bytes of chunks are decoded before those whose reads have ended are told."""
UNKNOWN_BYTES = 128 << 10
"""What a chunk counts there whose size is not known before it is decoded."""
CHEAP_CHUNKS = 16
"""A selection of more chunks that cost nothing to decode is read in rows, by itself."""
SHARED_CHUNKS = 1000
"""A selection of more chunks is read or written by itself: it fills the machine on its own."""


class ReadJob:
    """A selection that is to be read, and the array of the plan's shape that is filled."""

    __slots__ = (
        *("call", "failed", "fields", "make_plan", "n_left", "number", "out", "plan", "result"),
        *("selection", "space", "view"),
    )

    fields: Fields
    make_plan: MakePlan
    selection: Any
    space: ChunkSpace

    def __init__(
        self,
        array: Handle,
        make_plan: MakePlan,
        selection: Any,
        call: calls.Call | None = None,
        number: int = 0,
        out: Any = None,
    ) -> None:
        state = array._current()
        chosen, self.fields = with_fields(selection, None)
        self.make_plan, self.selection, self.space = make_plan, selection, state.space.traced()
        plan: Plan = make_plan(chosen, state.metadata.chunk_grid)
        self.plan: Plan = plan
        dtype, inner = field_dtype(state.space.dtype, self.fields)
        shape = plan.result_shape + inner
        self.result: NDArray = (
            empty_result(shape, dtype, array.order)
            if out is None
            else destination(out, None, shape, dtype, array.order)[1]
        )
        self.view: NDArray = self.result  # in the plan's shape
        if plan.shape != plan.result_shape:
            self.view = self.result.reshape(plan.shape + inner)
        self.out: NDArray = placing.flipped(self.view, plan)
        self.call = call
        """That of an awaited read, which ends and fails for itself."""
        self.failed: bool = False
        self.number = number
        self.n_left: int = plan.nparts
        """So many chunks have still to be read."""

    def enter(self) -> bool:
        """Ask to be let in before a request; return whether the read still needs its result."""
        if self.call is not None:
            try:
                self.call.enter()
            except StoppedError:
                self.failed = True
        return not self.failed

    def finished(self) -> Any:
        """Return what the array's own method would."""
        result, view = self.result, self.view
        if view.size and not np.may_share_memory(view, result):
            result[...] = view.reshape(result.shape)
        return as_returned(result, self.make_plan, self.selection)


def as_returned(result: Any, make_plan: MakePlan, selection: Any) -> Any:
    """Return the result of a plan as the method does that makes such plans."""
    if result.ndim or (make_plan is not plan_basic and make_plan is not plan_selection):
        return result
    return result if make_plan is plan_selection and only_ints(selection) else result[()]


J = TypeVar("J", ReadJob, loop._Writer)
Group: TypeAlias = list[tuple[J, Part]]
"""What is read from, or written to, one stored chunk."""


def _checked(item: Any, size: int, what: str) -> Any:
    """Return an item of a call; raise `TypeError` for one that is no tuple of a size."""
    if not isinstance(item, tuple | list) or len(item) != size:
        raise TypeError(f"every item has {size} parts, {what}; found {describe(item)}")
    return item


def pair(item: Any) -> tuple[Any, Any]:
    """Return an item that is an array and a selection; raise `TypeError` for any other."""
    found: tuple[Any, Any] = _checked(item, 2, "an array and a selection, such as (array, ...)")
    return found


def read_many(items: Iterable[tuple[Handle, Any]], *, timeout: float | None = None) -> list[Any]:
    """Return `array[selection]` for every pair of an array and a selection.

    Raises what indexing the arrays one by one would; the first error ends the whole call.

    Parameters
    ----------
    items
        Pairs `(array, selection)`; the arrays may be in different stores.
    timeout
        Seconds after which no request starts any more and `OperationTimeoutError` is raised.

    Examples
    --------
    >>> a, b = zarr.ones(10), zarr.zeros((4, 4))
    >>> zarr.read_many([(a, slice(0, 2)), (b, (0, ...)), (a, 5)])
    [array([1., 1.]), array([0., 0., 0., 0.]), array(1.)]
    """
    pairs = list(map(pair, items))
    with time_limit(timeout):
        jobs = [
            None if array._batch is not None else ReadJob(array, plan_selection, selection)
            for array, selection in pairs
        ]
        shared: list[ReadJob] = []
        for job in jobs:
            if job is None:
                continue
            if is_better_alone(job.space, job.plan, job.space.read_cost):
                loop.read(job.space, job.plan, job.view, job.fields)
            else:
                shared.append(job)
        read_groups(_by_chunk(shared))
        return [
            job.finished() if job is not None else array[selection]
            for job, (array, selection) in zip(jobs, pairs, strict=True)
        ]


def awaited(make_plan: MakePlan) -> Callable[..., Read | None]:
    """Return what a twin of a reading method needs to have its reads made together."""

    def read(array: Handle, *args: Any, **options: Any) -> Read | None:
        selection = options.pop("selection", options.pop("mask", args[0] if args else ...))
        config = array._config
        if config.chunk_cache is not None or config.chunk_cache_bytes:
            return None  # what others read is in the cache, or will be
        if array._batch is not None or any(value is not None for value in options.values()):
            return None
        return Read(read_together, (array, make_plan, selection))

    return read


def read_together(reads: list[tuple[Read, calls.Call]]) -> Iterator[list[Outcome]]:
    """Make awaited reads that waited for a thread; yield their outcomes as they end.

    What several of them want is fetched and decoded once, after the last of them was asked for. A
    read that is told to stop, or fails, leaves the others alone.
    """
    alone: list[Outcome] = []
    jobs: list[ReadJob] = []
    nbytes = 0
    for number, (read, call) in enumerate(reads):
        array, make_plan, selection = read.what
        job = _shared_job(array, make_plan, selection, call, number)
        if job is None:
            alone.append((number, *_alone(read, call)))
            continue
        jobs.append(job)
        nbytes += job.view.nbytes
        if nbytes > TOGETHER_BYTES:
            yield from _outcomes(jobs, reads)
            jobs, nbytes = [], 0
    if alone:
        yield alone
    yield from _outcomes(jobs, reads)


def _outcomes(jobs: list[ReadJob], reads: list[tuple[Read, calls.Call]]) -> Iterator[list[Outcome]]:
    """Make reads together, some chunks at a time; yield the outcomes of those that have ended."""
    ended = [job for job in jobs if not job.n_left]  # nothing is selected
    for groups in some_at_a_time(_by_chunk(jobs)):
        read_groups(groups)
        for job, _ in chained.from_iterable(groups):
            job.n_left -= 1
            if not job.n_left:
                ended.append(job)
        # What failed is read once more: so that its error is its own, and names what it read.
        outcomes = []
        for job in ended:
            value, error = _alone(*reads[job.number]) if job.failed else (job.finished(), None)
            outcomes.append((job.number, value, error))
        yield outcomes
        ended = []


def some_at_a_time(groups: Iterable[Group[ReadJob]]) -> Iterator[list[Group[ReadJob]]]:
    """Yield chunks of which the first results can be used while the next are read.

    Requests to slow stores go out at once.
    """
    some: list[Group[ReadJob]] = []
    nbytes = 0
    for group in groups:
        space = group[0][0].space
        some.append(group)
        if not space.store.high_latency:
            nbytes += getattr(space.chain, "nbytes", None) or UNKNOWN_BYTES
        if nbytes > AT_A_TIME_BYTES:
            yield some
            some, nbytes = [], 0
    if some:
        yield some


def _shared_job(
    array: Handle, make_plan: MakePlan, selection: Any, call: calls.Call, number: int
) -> ReadJob | None:
    """Return the job of a read, or None if it is better made alone."""
    space = array._current().space
    cheap = space.read_cost < pool.ITEM_US and not space.store.high_latency
    if cheap or array._batch is not None:
        return None
    try:
        job = ReadJob(array, make_plan, selection, call, number)
    except Exception:  # noqa: BLE001 - raised again, to the read that it belongs to
        return None
    return None if is_better_alone(space, job.plan, space.read_cost) else job


def _alone(read: Read, call: calls.Call) -> tuple[Any, BaseException | None]:
    """Make one read as if it were alone."""
    array, make_plan, selection = read.what
    token = calls._current.set(call)
    try:
        call.check()
        if make_plan is plan_selection:
            return array[selection], None
        return as_returned(array._get(make_plan, selection), make_plan, selection), None
    except Exception as error:  # noqa: BLE001 - handed to the task that awaits it
        return None, error
    finally:
        calls._current.reset(token)


def write_many(items: Iterable[tuple[Handle, Any, Any]], *, timeout: float | None = None) -> None:
    """Do `array[selection] = value` for every triple of an array, a selection and a value.

    Every selection and value is checked before anything is written. Where selections meet, the
    later one counts. The writes are not a transaction: an error leaves some of them done.

    Raises what setting one by one would.

    Parameters
    ----------
    items
        Triples `(array, selection, value)`.
    timeout
        Seconds after which no request starts any more and `OperationTimeoutError` is raised.

    Examples
    --------
    >>> a, b = zarr.zeros(3), zarr.zeros(2)
    >>> zarr.write_many([(a, 0, 1), (b, ..., 2)])
    >>> a[:], b[:]
    (array([1., 0., 0.]), array([2., 2.]))
    """
    triples = [_checked(item, 3, "an array, a selection and a value") for item in items]
    jobs = [_write_of(array, selection, value) for array, selection, value in triples]
    with time_limit(timeout):
        shared: list[loop._Writer] = []
        for (array, _, _), job in zip(triples, jobs, strict=True):
            space, plan, values, fields = job
            if array._batch is not None:
                array._batch.write(*job)
            elif is_better_alone(space, plan, space.write_cost):
                _write_groups(_by_chunk(shared))  # in the order that was asked for
                shared = []
                loop.write(*job)
            else:
                piece = placing.flipped(values, plan) if values.ndim else values
                shared.append(loop._Writer(space.watched("write", 0), piece, fields, plan))
        _write_groups(_by_chunk(shared))


class _Write(NamedTuple):
    """A selection, and the array of the plan's shape that is stored."""

    space: ChunkSpace
    plan: Plan
    values: NDArray
    fields: Fields


def _write_of(array: Handle, selection: Any, value: Any) -> _Write:
    array._check_writable()
    state = array._current()
    selection, fields = with_fields(selection, None)
    plan = plan_selection(selection, state.metadata.chunk_grid)
    space = state.space
    fitting = fitted_to(plan, value, space.dtype, fields, space.check)
    return _Write(space, plan, fitting, fields)


def is_better_alone(space: ChunkSpace, plan: Plan, cost: float) -> bool:
    """Return whether a selection gains nothing from being read or written with others."""
    if plan.nparts > SHARED_CHUNKS:
        return True
    cheap = cost < pool.ITEM_US and not space.store.high_latency
    return cheap and plan.nparts > CHEAP_CHUNKS


def _by_chunk(jobs: Iterable[J]) -> list[Group[J]]:
    """Return the parts of plans, together where they are of the same stored chunk."""
    groups: dict[Hashable, Group[J]] = {}
    for job in jobs:
        space, plan = job.space, job.plan
        assert space.lock_key is not None
        assert plan is not None
        for part in plan.parts() if plan.nparts else ():
            groups.setdefault(space.lock_key(space.key(part.coords)), []).append((job, part))
    return list(groups.values())


def _expect(groups: Sequence[Any]) -> None:
    call = calls.current_call()
    if call is not None:
        call.expect(len(groups))


# --- reading ---------------------------------------------------------------------------------------


def read_groups(groups: list[Group[ReadJob]]) -> None:
    """Read chunks: from slow stores in one stream per store, all others on threads."""
    _expect(groups)
    quick: list[Group[ReadJob]] = []
    slow_whole: dict[int, list[Group[ReadJob]]] = {}  # by store: chunks that are fetched whole
    slow_parts: list[Group[ReadJob]] = []
    for group in groups:
        space, part = group[0][0].space, group[0][1]
        if not space.store.high_latency:
            quick.append(group)
        elif space.chain_for(part.coords).partial is not None:
            slow_parts.append(group)
        else:
            slow_whole.setdefault(id(space.store), []).append(group)
    streams = [partial(_read_stream, of_store) for of_store in slow_whole.values()]
    if slow_parts:
        streams.append(partial(_overlapped, _read_group, slow_parts))
    _at_once(streams)
    if quick:
        cost = sum(group[0][0].space.read_cost for group in quick) / len(quick)
        loop._run(_read_group, quick, len(quick), cost)


def _read_stream(groups: list[Group[ReadJob]]) -> None:
    """Read chunks of one slow store."""
    space = groups[0][0][0].space.watched("read", 0)
    asked: list[Group[ReadJob]] = []

    def requests() -> Iterator[Request]:
        for group in groups:
            if wanted := _wanted(group):
                asked.append(wanted)
                job, part = wanted[0]
                yield Request(job.space.key(part.coords))

    with closing(space.store.get_many(requests())) as results:  # type: ignore[type-var]
        for number, data, error in results:
            with _keeping(asked[number]), _noting(asked[number]):
                if error is not None:
                    raise error
                _place(asked[number], data)


def _wanted(group: Group[ReadJob]) -> Group[ReadJob]:
    """Return those who still want a chunk; each of them was let in to fetch it."""
    return [(job, part) for job, part in group if job.enter()]


@contextmanager
def _keeping(group: Group[ReadJob]) -> Iterator[None]:
    """Keep an error for awaited reads, each of which fails for itself."""
    try:
        yield
    except Exception:
        for job, _ in group:
            if job.call is None:
                raise
            job.failed = True


def _noting(group: Group[ReadJob]) -> AbstractContextManager[None]:
    job, part = group[0]
    return job.space.noting(part.coords)


def _place(group: Group[ReadJob], data: Value | None) -> None:
    wants = ((job.space, (job.plan, job.out, job.fields, part)) for job, part in group)
    placing.place_all(wants, data)


def _read_group(group: Group[ReadJob]) -> None:
    """Read one stored chunk."""
    job, part = group[0]
    if job.space.chain_for(part.coords).partial is None:
        wanted = _wanted(group)
        if wanted:
            with _keeping(wanted):
                job, part = wanted[0]
                space = job.space.watched("read", 0)
                with space.noting(part.coords):
                    data = space.store.get(space.key(part.coords))
                _place(wanted, data)
        return
    together: dict[Any, list[placing.Want]] = {}
    for job, part in group:
        space, want = job.space, (job.plan, job.out, job.fields, part)
        if job.call is None:
            together.setdefault(space, []).append(want)
        elif job.enter():
            with _keeping([(job, part)]):
                # Several requests: each has to be let in.
                loop.read_inside(space.watched("read", 0, job.call), [want])
    for space, wants in together.items():
        loop.read_inside(space.watched("read", 0), wants)


# --- writing ---------------------------------------------------------------------------------------


def _write_groups(groups: list[Group[loop._Writer]]) -> None:
    """Write chunks, on threads where that pays."""
    _expect(groups)
    slow = [group for group in groups if group[0][0].space.store.high_latency]
    quick = [group for group in groups if not group[0][0].space.store.high_latency]
    if slow:
        _overlapped(_write_group, slow)
    if quick:
        cost = sum(group[0][0].space.write_cost for group in quick) / len(quick)
        loop._run(_write_group, quick, len(quick), cost, quick[0][0][0].space.store)


def _write_group(group: Group[loop._Writer]) -> None:
    """Change one stored chunk: at most one read, one set."""
    writer, part = group[0]
    if len(group) == 1:
        writer.write(part)
        return
    space = writer.space
    key = space.key(part.coords)

    def change(pending: ChunkSpace) -> None:
        for writer, part in group:
            writer._write_under_lock(writer.space.over(pending.store), part, key)

    with space.lock(key), space.noting(part.coords):
        if space.lock_processes:
            loop.change_between_processes(space, part.coords, key, change)
        else:
            whole = part.cover != PARTIAL and writer.fields is None
            loop.change_together(space, key, change, whole=whole)


# --- slow stores -----------------------------------------------------------------------------------


def _overlapped(function: Callable[[Any], None], groups: Sequence[Any]) -> None:
    finish(overlap(function, groups))


def _at_once(jobs: Sequence[Callable[[], None]]) -> None:
    """Run jobs that each keep a slow store busy."""
    if len(jobs) == 1:
        jobs[0]()
    elif jobs:
        finish(overlap(lambda job: job(), jobs))


read_many_async: Final = async_twin(read_many, private=True)
write_many_async: Final = async_twin(write_many, snapshot="items")
