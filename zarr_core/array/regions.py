"""Regions of whole stored chunks: what may be written at once, and arrays copied by them.

A copy goes from region to region, each read and then written with all threads. A region is as large
as it takes for no source chunk to be decoded twice, as far as the memory that may be used allows.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import islice, product
from typing import Any, NamedTuple, Protocol, TypeAlias, final

import numpy as np

from zarr_core.array.array import Array
from zarr_core.chunks import loop
from zarr_core.config import config
from zarr_core.errors import describe
from zarr_core.hierarchy.formats import same_chunks
from zarr_core.hierarchy.stored_nodes import stored_chunks
from zarr_core.indexing.selection import basic_items, plan_basic, plan_selection
from zarr_core.metadata.chunk_grids import Axis, ChunkGrid, Coords, RectilinearAxis, RegularAxis
from zarr_core.threads.calls import Call, current_call, inside, on_chunk
from zarr_core.threads.pool import max_workers

Region: TypeAlias = tuple[slice, ...]
"""A slice for each dimension."""


class Executor(Protocol):
    """A `concurrent.futures.Executor`: what submits calls and returns futures of that module."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        """Have a function called somewhere; return a future."""


COPY_BYTES = 256 << 20
"""What a copy may use when nobody says how much; more where one stored chunk needs more."""
STEP_BYTES = 4 << 20
"""Steps of a copy are made no smaller than this, if the memory that may be used allows."""
MANY_READS = 4.0
"""A copy that reads chunks of its source more often is better made in two steps."""
LEAST_BETWEEN = 64 << 10
"""Chunks of fewer bytes are too many."""
SUBMITTED = 256
"""Steps that an executor has at a time."""


# --- regions -----------------------------------------------------------------------------------------


def partition(
    array: Array, n: int | None = None, max_bytes: int | None = None, region: Any = ...
) -> list[Region]:
    """Divide an array into regions that any number of writers may write at once; no I/O.

    No two of the regions share a stored chunk (or shard), and together they are all of the array.

    Returns tuples of slices in C order, which can be pickled.

    Parameters
    ----------
    n
        How many regions, of about the same size; fewer when there are fewer stored chunks. Without
        `n` and `max_bytes` each stored chunk is a region.
    max_bytes
        What a region may need in memory; of text and bytes of any length only the references count.
        Raises `ValueError` if one stored chunk needs more.
    region
        Only this part of the array: ints and slices of step 1. Where it cuts through stored chunks,
        regions do, too; they still share none with each other.

    Examples
    --------
    >>> array = zarr.create_array({}, shape=(100,), chunks=(10,), dtype="i4")
    >>> zarr.partition(array, 3)
    [(slice(0, 30, None),), (slice(30, 60, None),), (slice(60, 100, None),)]
    """
    for name, value in (("n", n), ("max_bytes", max_bytes)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, not {value!r}")
    grid, itemsize = array.metadata.chunk_grid, array.dtype.itemsize
    items = basic_items(region, grid.shape)
    whole = [range(i, i + 1) if isinstance(i, int) else i for i in items or ()]
    if items is None or any(i.step != 1 for i in whole):
        raise ValueError(f"a region has ints and slices of step 1, found {describe(region)}")
    if not all(whole):
        return []
    limit = math.inf if max_bytes is None else max_bytes
    found: list[list[range]] = []
    todo = [(whole, n or (1 if max_bytes else grid.nchunks))]
    while todo:
        box, parts = todo.pop()
        nbytes = math.prod(map(len, box)) * itemsize
        parts = max(parts, math.ceil(nbytes / limit))
        ends = [(a.find(i.start), a.find(i[-1])) for a, i in zip(grid.axes, box, strict=True)]
        counts = [last - first + 1 for first, last in ends]
        total = math.prod(counts)
        if parts == 1 or total == 1:
            if nbytes > limit:
                raise ValueError(f"a stored chunk needs {nbytes} bytes, max_bytes is {max_bytes}")
            found.append(box)
            continue
        d = counts.index(max(counts))
        axis, along, (first, last) = grid.axes[d], box[d], ends[d]
        ideal = along.start + len(along) * (parts // 2) // parts
        k = axis.find(ideal)
        k += axis.start(k + 1) - ideal < ideal - axis.start(k)
        k = min(max(k, first + 1), last)
        cut, others = axis.start(k), total // counts[d]
        parts = min(parts, total)
        share = min(max(parts // 2, parts - (last + 1 - k) * others), (k - first) * others)
        todo.append(([*box[:d], range(along.start, cut), *box[d + 1 :]], share))
        todo.append(([*box[:d], range(cut, along.stop), *box[d + 1 :]], parts - share))
    found.sort(key=lambda box: [i.start for i in box])
    return [tuple(slice(i.start, i.stop) for i in box) for box in found]


class SharedKey(NamedTuple):
    """Two regions, by their position in a list, that both write to a stored chunk."""

    first: int
    second: int
    key: str
    """The key in the store; of several the first one."""


def check_regions(array: Array, regions: Iterable[Any]) -> list[SharedKey]:
    """Return the pairs of regions (any selections) that share a stored chunk or shard; no I/O.

    Who writes to such a pair at once, without locks, loses updates. Nothing is returned for what
    `partition` returns.

    >>> array = zarr.create_array({}, shape=(100,), chunks=(10,), dtype="i4")
    >>> zarr.check_regions(array, [slice(0, 25), slice(25, 60), slice(60, 100)])
    [SharedKey(first=0, second=1, key='c/2')]
    """
    space = array._current().space
    users: dict[Coords, list[int]] = {}
    pairs: dict[tuple[int, int], str] = {}
    for number, region in enumerate(regions):
        for part in plan_selection(region, space.grid).parts():
            before = users.setdefault(part.coords, [])
            if number in before:
                continue
            for other in before:
                pairs.setdefault((other, number), space.key(part.coords))
            before.append(number)
    return [SharedKey(*pair, key) for pair, key in sorted(pairs.items())]


# --- copies ------------------------------------------------------------------------------------------


@final
class Steps(NamedTuple):
    """How an array is copied: region by region, each made of whole stored chunks."""

    grid: ChunkGrid
    """Its chunks are the regions."""
    factors: tuple[int, ...]
    """How many stored chunks a region has, per dimension."""
    workers: int
    """How many chunks there may be in memory on their way, beside the region."""
    encoded: bool
    """Are stored values copied as they are? The region is not in memory then."""
    reads: float
    """How often a chunk of the source is read, on average."""


def copy_data(source: Any, array: Array) -> None:
    """Write all of a source, which has a shape and a data type, into an array of its shape."""
    if isinstance(source, np.ndarray):
        array[...] = source
    else:
        run_steps(source, array, plan_steps(source, array))


def run_steps(
    source: Any,
    array: Array,
    steps: Steps,
    *,
    resume: bool = False,
    executor: Executor | None = None,
) -> None:
    """Copy a source region by region: here, one after the other, or as tasks of an executor.

    With `resume`, regions whose chunks are all stored are left out.
    """
    unfinished = list(_unfinished(array, steps)) if resume else None

    def todo() -> Iterator[Coords]:
        return steps.grid.all_coords() if unfinished is None else iter(unfinished)

    call = current_call()
    if call is not None:
        grids = [node.metadata.chunk_grid for node in (source, array) if isinstance(node, Array)]
        regions = map(steps.grid.region, todo())
        call.expect(sum(plan_basic(r, grid).nparts for r in regions for grid in grids))
    with nullcontext() if call is None else inside(Call(announced=True)):
        if executor is None:
            _copy_regions(source, array, steps, todo())
        else:
            _submit(executor, partial(_observed, source, array, steps, call is not None), todo())


def _submit(
    executor: Executor, step: Callable[[Coords], list[Any]], todo: Iterator[Coords]
) -> None:
    """Run steps as tasks, a bounded number at a time; report the chunks that they read or wrote."""
    from concurrent.futures import FIRST_COMPLETED, wait

    call = current_call()
    running: set[Any] = set()
    try:
        while True:
            running |= {executor.submit(step, c) for c in islice(todo, SUBMITTED - len(running))}
            if not running:
                return
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for event in (event for future in ended for event in future.result()):
                assert call is not None
                call.note(*event)
            if call is not None:
                call.check()
    finally:
        for future in running:
            future.cancel()
        wait(running)


def _observed(
    source: Any, array: Array, steps: Steps, observe: bool, coords: Coords
) -> list[tuple[str, str, int]]:
    """Copy one region, perhaps in another process; return what a hook would have got."""
    events: list[tuple[str, str, int]] = []
    with on_chunk(lambda *event: events.append(event)) if observe else nullcontext():
        _copy_regions(source, array, steps, [coords])
    return events


def _copy_regions(source: Any, array: Array, steps: Steps, todo: Iterable[Coords]) -> None:
    """Copy regions one after the other; the chunks of each on as many threads as it may use."""
    few = steps.workers < array._store_path.store.set_threads
    threads = 1 if few else min(max_workers(), steps.workers)
    requests = min(config.get("io.max_requests"), steps.workers)
    with config.set({"threading.max_workers": threads, "io.max_requests": requests}):
        for coords in todo:
            if steps.encoded:
                _copy_encoded(source, array, _chunks_of(array, steps, coords))
            else:
                region = steps.grid.region(coords)
                array[region] = source[region]


def _copy_encoded(source: Array, array: Array, chunks: list[Coords]) -> None:
    """Copy stored chunks as they are."""
    start = source._current().space.watched("read", len(chunks))
    end = array._current().space.watched("write", len(chunks))

    def copy(coords: Coords) -> None:
        key = end.key(coords)
        with start.noting(coords):
            value = start.store.get(start.key(coords))
        if value is None and not start.read_missing_chunks:
            raise start.missing_error(coords)
        with end.lock(key), end.noting(coords):
            if value is None:
                end.store.delete(key)
            else:
                end.store.set(key, value)

    slower = start if start.store.high_latency else end
    costs = (
        getattr(space.store, name, 0.0) for space, name in ((start, "get_cost"), (end, "set_cost"))
    )
    loop.for_each(slower, copy, chunks, sum(costs))


def _chunks_of(array: Array, steps: Steps, coords: Coords) -> list[Coords]:
    """Return the stored chunks of a region."""
    counts = array.metadata.chunk_grid.counts
    return list(
        product(
            *(
                range(k * factor, min((k + 1) * factor, count))
                for k, factor, count in zip(coords, steps.factors, counts, strict=True)
            )
        )
    )


def _unfinished(array: Array, steps: Steps) -> Iterator[Coords]:
    """Yield the regions of which a chunk is not stored."""
    metadata = array.metadata
    counts, stored = metadata.chunk_grid.counts, Counter[Coords]()
    for _, coords in stored_chunks(array._store_path, metadata):
        if all(map(int.__lt__, coords, counts)):
            stored[tuple(map(int.__floordiv__, coords, steps.factors))] += 1
    for coords in steps.grid.all_coords():
        if stored[coords] < plan_basic(steps.grid.region(coords), metadata.chunk_grid).nparts:
            yield coords


# --- how large regions are ---------------------------------------------------------------------------


def plan_steps(source: Any, array: Array, max_bytes: int | None = None) -> Steps:
    """Return the steps of a copy that needs no more memory than it may use.

    Raises `ValueError` if `max_bytes` is too little for one stored chunk.

    A third of it is for the region. Two thirds of the rest are for chunks on their way (in a shard
    that is written a chunk is there decoded, encoded, and joined with the others), and what is left
    is what allocators keep of what was given back.
    """
    grid, dtype, before = array.metadata.chunk_grid, array.dtype, np.dtype(source.dtype)
    chunk = tuple(map(_longest, grid.axes))
    itemsize = max(1, dtype.itemsize + (before.itemsize if before != dtype else 0))
    bound = COPY_BYTES if max_bytes is None else max_bytes
    third = max(math.prod(chunk) * itemsize, bound // 3)
    unit, unit_bytes = _read_at_once(source, third)
    each = 3 * max(1, math.prod(chunk) * dtype.itemsize, unit_bytes)
    if max_bytes is not None and third + each > max_bytes:
        raise ValueError(f"max_bytes is {max_bytes}; to copy one stored chunk takes {third + each}")
    workers = max((bound - third) * 2 // 3 // each, 1)
    stores = [node._store_path.store for node in (source, array) if isinstance(node, Array)]
    slow = any(store.high_latency for store in stores)
    at_once = min(workers, 4 * (config.get("io.max_requests") if slow else max_workers()))
    elements = third // itemsize
    size = min(elements, STEP_BYTES // itemsize)
    factors = _grown(grid, chunk, unit, elements, lambda k: _is_enough(k, chunk, at_once, size))
    reads = math.prod(map(_waste, factors, grid.counts, chunk, unit))
    axes = tuple(map(_grouped, grid.axes, factors))
    return Steps(ChunkGrid(axes), factors, workers, _has_same_chunks(source, array), reads)


def chunks_between(source: Any, array: Array, steps: Steps) -> Coords | None:
    """Return the shape of chunks for a copy between, if that and another copy read much less.

    Regions of the first copy are whole chunks of the source, those of the second whole chunks of
    the array, and the chunks between are what a region of each has in common.
    """
    if steps.reads < MANY_READS:
        return None
    written = tuple(map(min, map(_longest, steps.grid.axes), array.shape))
    elements = math.prod(written)
    unit = tuple(map(min, _read_at_once(source, 0)[0], array.shape))
    grid = ChunkGrid.regular(array.shape, unit)
    factors = _grown(grid, unit, written, elements, lambda _: True)
    shape = tuple(min(k * u, n) for k, u, n in zip(factors, unit, written, strict=True))
    return shape if math.prod(shape) * array.dtype.itemsize >= LEAST_BETWEEN else None


def _longest(axis: Axis) -> int:
    """Return the length of the longest chunk along a dimension, as it is stored."""
    if isinstance(axis, RectilinearAxis):
        return max(axis.encoded or axis.edges)
    return axis.size


def _read_at_once(source: Any, limit: int) -> tuple[Coords, int]:
    """Return the shape of what is decoded at once of a source, and what that needs in memory.

    A shard is fetched whole if it may be smaller than a region.
    """
    itemsize = np.dtype(source.dtype).itemsize
    if not isinstance(source, Array):
        lengths = getattr(source, "chunks", None) or (1,) * len(source.shape)
        unit = tuple(max(n) if isinstance(n, tuple) else n for n in lengths)  # as dask has them
        return unit, math.prod(unit) * itemsize
    stored = tuple(map(_longest, source.metadata.chunk_grid.axes))
    sharding = source.metadata.sharding
    unit = stored if sharding is None else tuple(sharding.configuration["chunk_shape"])
    nbytes = math.prod(stored) * itemsize
    return unit, nbytes if nbytes <= limit else math.prod(unit) * itemsize


def _waste(factor: int, count: int, chunk: int, unit: int) -> float:
    """Return how often chunks of length `unit` are read, on average, along one dimension.

    Regions have `factor` of the `count` chunks that are `chunk` long.
    """
    length = factor * chunk
    return 1.0 if factor >= count else unit / length + 1 - unit / math.lcm(unit, length)


def _grown(
    grid: ChunkGrid,
    chunk: Coords,
    unit: Coords,
    elements: int,
    enough: Callable[[Sequence[int]], bool],
) -> tuple[int, ...]:
    """Return how many stored chunks a region has along each dimension.

    First it grows where chunks of the source are read most often, then until there is enough to do
    at once; never beyond a number of elements.
    """
    factors, counts = [1] * len(chunk), grid.counts

    def length(d: int) -> int:
        return min(factors[d] * chunk[d], grid.shape[d])

    def grow(d: int, *wanted: int) -> bool:
        """Have the first number of chunks that fits, or as many as do; return whether it grew."""
        rest = math.prod(length(i) for i in range(len(chunk)) if i != d)
        most = counts[d] if rest * grid.shape[d] <= elements else elements // (rest * chunk[d])
        k = next((min(k, counts[d]) for k in wanted if min(k, counts[d]) <= most), most)
        grew = k > factors[d]
        factors[d] = max(k, factors[d])
        return grew

    dims = {d for d, count in enumerate(counts) if count > 1}

    def waste(d: int) -> float:
        return _waste(factors[d], counts[d], chunk[d], unit[d])

    while dims and waste(worst := max(dims, key=waste)) > 1:
        aligned = math.lcm(factors[worst] * chunk[worst], unit[worst]) // chunk[worst]
        if not grow(worst, aligned, 2 * factors[worst]):
            dims.discard(worst)
    for d in reversed(range(len(chunk))):
        while not enough(factors) and grow(d, 2 * factors[d]):
            pass
    return tuple(factors)


def _is_enough(factors: Sequence[int], chunk: Coords, chunks: int, elements: int) -> bool:
    n = math.prod(factors)
    return n >= chunks and n * math.prod(chunk) >= elements


def _grouped(axis: Axis, factor: int) -> Axis:
    """Return a dimension in chunks each of which is several of an axis."""
    if isinstance(axis, RectilinearAxis):
        edges = axis.edges
        starts = range(0, len(edges), factor)
        return RectilinearAxis(axis.length, tuple(sum(edges[i : i + factor]) for i in starts))
    return RegularAxis(axis.length, axis.size * factor)


def _has_same_chunks(source: Any, array: Array) -> bool:
    """Return whether the stored chunks of a source are what would be stored of its data."""
    if not isinstance(source, Array) or source._batch is not None:
        return False
    options = array.config
    if options.write_empty_chunks or options.subchunk_write_order is not None:
        return False
    return same_chunks(source.metadata, array.metadata)
