"""`read_many` and `write_many`: selections of several arrays in one call.

All chunks that are touched are read or written together: requests to slow stores overlap across
the arrays, decoding uses the threads of one call, and a chunk that several selections touch is
fetched and decoded, or changed and stored, once. Selections of very many chunks go by themselves.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from zarr_core import workers
from zarr_core.array.array import Array
from zarr_core.chunks import loop
from zarr_core.chunks.space import ChunkSpace
from zarr_core.indexing.plan import PARTIAL, Part, Plan
from zarr_core.indexing.selection import Fields, plan_selection
from zarr_core.indexing.values import field_dtype, fitted_to, only_ints, with_fields
from zarr_core.observe import timeout as time_limit
from zarr_core.overlap import overlap
from zarr_core.storage.base import Request, Value
from zarr_core.twins import async_twin

__all__ = [
    "read_many",
    "read_many_async",
    "write_many",
    "write_many_async",
]

NDArray: TypeAlias = npt.NDArray[Any]

CHEAP_CHUNKS = 16
"""A selection of more chunks that cost nothing to decode is read in rows, by itself."""
SHARED_CHUNKS = 1000
"""A selection of more chunks is read or written by itself: it fills the machine on its own."""


class _Read(NamedTuple):
    """A selection that is to be read."""

    space: ChunkSpace
    plan: Plan
    fields: Fields
    selection: Any
    result: NDArray
    view: NDArray  # the result in the plan's shape

    def finished(self) -> Any:
        """Return what the array's own indexing would."""
        result, view = self.result, self.view
        if view.size and not np.may_share_memory(view, result):
            result[...] = view.reshape(result.shape)
        return result if result.ndim or only_ints(self.selection) else result[()]


class _Job(NamedTuple):
    """A selection, and the array of the plan's shape that is filled or stored."""

    space: ChunkSpace
    plan: Plan
    array: NDArray
    fields: Fields


J = TypeVar("J", _Job, loop._Writer)
_Group: TypeAlias = list[tuple[J, Part]]
"""What is read from, or written to, one stored chunk."""


def read_many(items: Iterable[tuple[Array, Any]], *, timeout: float | None = None) -> list[Any]:
    """Return `array[selection]` for every pair of an array and a selection.

    Parameters
    ----------
    items
        Pairs `(array, selection)`; the arrays may be in different stores.
    timeout
        Seconds after which no request starts any more and `OperationTimeoutError` is raised.

    Raises what indexing the arrays one by one would; the first error ends the whole call.
    """
    pairs = list(items)
    results: list[Any] = [None] * len(pairs)
    reads: dict[int, _Read] = {}
    with time_limit(timeout):
        for number, (array, selection) in enumerate(pairs):
            if array._batch is not None:
                results[number] = array.getitem(selection)
            else:
                reads[number] = _read_of(array, selection)
        shared: list[_Job] = []
        for read in reads.values():
            space, plan = read.space, read.plan
            if _is_better_alone(space, plan, space.read_cost):
                loop.read(space, plan, read.view, read.fields)
            else:
                view = loop._flipped(read.view, plan)
                shared.append(_Job(space, plan, view, read.fields))
        _read_groups(_by_chunk(shared))
    for number, read in reads.items():
        results[number] = read.finished()
    return results


def write_many(items: Iterable[tuple[Array, Any, Any]], *, timeout: float | None = None) -> None:
    """Do `array[selection] = value` for every triple of an array, a selection and a value.

    Every selection and value is checked before anything is written. Where selections meet, the
    later one counts. The writes are not a transaction: an error leaves some of them done.

    Parameters
    ----------
    items
        Triples `(array, selection, value)`.
    timeout
        Seconds after which no request starts any more and `OperationTimeoutError` is raised.

    Raises what setting one by one would.
    """
    triples = list(items)
    jobs = [_write_of(array, selection, value) for array, selection, value in triples]
    with time_limit(timeout):
        shared: list[loop._Writer] = []
        for (array, _, _), job in zip(triples, jobs, strict=True):
            space, plan, values, fields = job
            if array._batch is not None:
                array._batch.write(*job)
            elif _is_better_alone(space, plan, space.write_cost):
                _write_groups(_by_chunk(shared))  # in the order that was asked for
                shared = []
                loop.write(*job)
            else:
                piece = loop._flipped(values, plan) if values.ndim else values
                shared.append(loop._Writer(space.watched("write", 0), piece, fields, plan))
        _write_groups(_by_chunk(shared))


def _read_of(array: Array, selection: Any) -> _Read:
    state = array._current()
    chosen, fields = with_fields(selection, None)
    plan = plan_selection(chosen, state.metadata.chunk_grid)
    dtype, inner = field_dtype(state.space.dtype, fields)
    result: NDArray = np.empty(plan.result_shape + inner, dtype, array.order)
    view = result if plan.shape == plan.result_shape else result.reshape(plan.shape + inner)
    return _Read(state.space, plan, fields, selection, result, view)


def _write_of(array: Array, selection: Any, value: Any) -> _Job:
    array._check_writable()
    state = array._current()
    selection, fields = with_fields(selection, None)
    plan = plan_selection(selection, state.metadata.chunk_grid)
    return _Job(state.space, plan, fitted_to(plan, value, state.space.dtype, fields), fields)


def _is_better_alone(space: ChunkSpace, plan: Plan, cost: float) -> bool:
    """Return whether a selection gains nothing from being read or written with others."""
    if plan.nparts > SHARED_CHUNKS:
        return True
    cheap = cost < workers.ITEM_US and not space.store.high_latency
    return cheap and plan.nparts > CHEAP_CHUNKS


def _by_chunk(jobs: Iterable[J]) -> list[_Group[J]]:
    """Return the parts of plans, together where they are of the same stored chunk."""
    groups: dict[Hashable, _Group[J]] = {}
    for job in jobs:
        space, plan = job.space, job.plan
        assert space.lock_key is not None
        assert plan is not None
        for part in plan.parts() if plan.nparts else ():
            groups.setdefault(space.lock_key(space.key(part.coords)), []).append((job, part))
    return list(groups.values())


def _expect(groups: Sequence[Any]) -> None:
    call = workers.current_call()
    if call is not None:
        call.expect(len(groups))


# --- reading ---------------------------------------------------------------------------------------


def _read_groups(groups: list[_Group[_Job]]) -> None:
    """Read chunks: from slow stores in one stream per store, all others on threads."""
    _expect(groups)
    quick: list[_Group[_Job]] = []
    slow_whole: dict[int, list[_Group[_Job]]] = {}  # by store: chunks that are fetched whole
    slow_parts: list[_Group[_Job]] = []
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


def _read_stream(groups: list[_Group[_Job]]) -> None:
    """Read chunks of one slow store."""
    space = groups[0][0][0].space.watched("read", 0)
    requests = (Request(job.space.key(part.coords)) for (job, part), *_ in groups)
    with closing(space.store.get_many(requests)) as results:  # type: ignore[type-var]
        for number, data, error in results:
            job, part = groups[number][0]
            with job.space.noting(part.coords):
                if error is not None:
                    raise error
            _place(groups[number], data)


def _read_group(group: _Group[_Job]) -> None:
    """Read one stored chunk."""
    job, part = group[0]
    space = job.space.watched("read", 0)
    if space.chain_for(part.coords).partial is None:
        with space.noting(part.coords):
            data = space.store.get(space.key(part.coords))
        _place(group, data)
        return
    for job, part in group:
        inside = job.space.over(space.store)
        loop._read_inside(inside, job.plan, job.array, job.fields, part)


def _place(group: _Group[_Job], data: Value | None) -> None:
    """Decode a chunk, once for all of the same array, and put its parts where they belong."""
    decoded: dict[int, NDArray] = {}
    for job, part in group:
        space, plan, out, fields = job
        chain = space.chain_for(part.coords)
        if data is None or len(group) == 1:
            loop._place(space, plan, out, fields, part, data)
            continue
        chunk = decoded.get(id(chain))
        if chunk is None:
            try:
                chunk = decoded[id(chain)] = chain.decode(data)
            except Exception as error:
                raise space.decode_error(part.coords, data, error) from error
        loop._put_in(plan, out, fields, part, chunk)


# --- writing ---------------------------------------------------------------------------------------


def _write_groups(groups: list[_Group[loop._Writer]]) -> None:
    """Write chunks, on threads where that pays."""
    _expect(groups)
    slow = [group for group in groups if group[0][0].space.store.high_latency]
    quick = [group for group in groups if not group[0][0].space.store.high_latency]
    if slow:
        _overlapped(_write_group, slow)
    if quick:
        cost = sum(group[0][0].space.write_cost for group in quick) / len(quick)
        loop._run(_write_group, quick, len(quick), cost, quick[0][0][0].space.store)


def _write_group(group: _Group[loop._Writer]) -> None:
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
    loop._finish(overlap(function, groups))


def _at_once(jobs: Sequence[Callable[[], None]]) -> None:
    """Run jobs that each keep a slow store busy."""
    if len(jobs) == 1:
        jobs[0]()
    elif jobs:
        loop._finish(overlap(lambda job: job(), jobs))


read_many_async = async_twin(read_many, private=True)
write_many_async = async_twin(write_many, snapshot="items")
