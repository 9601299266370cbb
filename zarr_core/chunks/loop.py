"""Read or write the chunks of a plan: the only chunk loop.

The same loop runs in four ways, chosen from the work: one chunk; one after the other; on threads
when decoding is worth them; overlapped when the store is slow. A shard is read and written by the
same code, with the shard in the place of the store (see `sharding`).

Everything that is known per array stands in a `ChunkSpace`, so that a call computes nothing twice.
"""

import math
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import cache, partial
from itertools import chain as chained
from itertools import islice
from typing import Any, Literal, final

import numpy as np

from zarr_core.chunks.placing import Want, flipped, kept, place, place_all, put_in
from zarr_core.chunks.rows import (
    BATCH,
    JOIN_BYTES,
    decode_all,
    fetcher,
    find_rows,
    row_reader,
    row_writer,
)
from zarr_core.chunks.shard_stream import can_stream, stream_shard
from zarr_core.chunks.space import COPY_US_PER_BYTE, COPY_US_PER_POINT, ChunkSpace, NDArray
from zarr_core.codecs.base import Buffer
from zarr_core.errors import CodecError, ConflictError, ValueChangedError, warn
from zarr_core.indexing.plan import FULL, PARTIAL, OuterPlan, Part, Plan, selected_shape
from zarr_core.metadata.chunk_grids import Coords
from zarr_core.storage.base import OpenValue, Request, Value, ValueSnapshot
from zarr_core.threads import key_locks, pool
from zarr_core.threads.requests import finish, overlap

BATCH_BYTES = 64 << 10
"""Up to this size several chunks are decoded by one C call: fewer turns of the interpreter's lock."""
MIN_BLOCK = 4
"""Fewer chunks are read one by one."""
WRITE_ATTEMPTS = 200
"""How often a chunk that others keep changing is changed anew before writing it is an error."""
READ_ATTEMPTS = 5
"""How often a shard that others keep replacing is opened before reading it is an error."""


# --- reading ---------------------------------------------------------------------------------------


def read_one(space: ChunkSpace, part: Part, order: Literal["C", "F"] = "C") -> NDArray:
    """Return the selected elements of one small chunk as a new array; see `single_part`.

    This is what most calls on small chunks are; it does without a result to fill and a loop.
    """
    coords, inside, _, _ = part
    space = space.let_in()
    try:
        data = space.store.get(space.key(coords))
    except OSError as error:
        space.note(error, coords)
        raise
    if data is None:
        if not space.read_missing_chunks:
            raise space.missing_error(coords)
        return np.full(selected_shape(inside), space.fill_value, space.dtype, order)
    try:
        chunk: NDArray = space.chain.decode(data)  # type: ignore[union-attr]
    except Exception as error:
        raise space.decode_error(coords, data, error) from error
    return chunk[(*inside, ...)].copy(order)


def read(space: ChunkSpace, plan: Plan, out: NDArray, fields: Any = None) -> None:
    """Read the parts of a plan into `out`, an array of the plan's shape."""
    nparts = plan.nparts
    if nparts == 0:
        return
    if space.cache is not None and not space.cache.of_shards:
        space.cache.read(space, plan, out, fields)
        return
    space = space.watched("read", nparts)
    out = flipped(out, plan)
    chain = space.chain
    if space.store.high_latency and nparts > 1:
        _read_overlapped(space, plan, out, fields)
        return
    if chain is None or chain.partial is not None:
        read_part = _part_reader(space, plan, out, fields)
        _run(read_part, plan.parts(), nparts, _shard_cost(space, plan, write=False))
        return
    rows = find_rows(space, plan, out, fields)
    if rows is not None:
        blocks, each = rows.blocks(space.read_cost)
        _run(row_reader(space, rows), blocks, len(blocks), each)
        if not rows.rest:
            return
    parts = plan.parts() if rows is None else rows.rest
    cost = _part_cost(space, plan)
    if nparts >= MIN_BLOCK and (chain.nbytes or BATCH_BYTES + 1) <= BATCH_BYTES:
        shared = pool.helpers(nparts, cost)
        size = max(1, min(BATCH, nparts // (2 * (shared + 1)) if shared else nparts))
        several = iter(partial(_next_block, iter(parts), size), [])
        _run(_block_reader(space, plan, out, fields), several, -(-nparts // size), cost * size)
        return
    _run(_part_reader(space, plan, out, fields), parts, nparts, cost)


def _next_block(parts: Iterator[Part], size: int) -> list[Part]:
    return list(islice(parts, size))


def _block_reader(
    space: ChunkSpace, plan: Plan, out: NDArray, fields: Any
) -> Callable[[list[Part]], None]:
    """Return the function that reads parts of several small chunks, fetched and decoded together."""
    chain = space.chain
    assert chain is not None
    key, fetch, decode = space.key, fetcher(space), chain.decode
    shape, dtype = chain.spec.shape, space.dtype
    plain = not plan.crossed and fields is None
    together = chain.native and chain.decode_many is not None

    def read_block(parts: list[Part]) -> None:
        values = fetch([key(part.coords) for part in parts], lambda: [p.coords for p in parts])
        if None in values:
            found = [(p, data) for p, data in zip(parts, values, strict=True) if data is not None]
            for part, data in zip(parts, values, strict=True):
                if data is None:
                    place(space, plan, out, fields, part, None)
            parts, values = [part for part, _ in found], [data for _, data in found]
        chunks: list[NDArray] = []
        if together:
            pieces = decode_all(space, lambda: [p.coords for p in parts], values)
            chunks = [np.ndarray(shape, dtype, piece) for piece in pieces]
        else:
            try:
                chunks.extend(map(decode, values))  # keeps what came before an error
            except Exception as error:
                at = len(chunks)
                raise space.decode_error(parts[at].coords, values[at], error) from error
        if space.keep is not None:
            any(map(space.keep, [part.coords for part in parts], chunks))
        if plain:
            for (_, inside, into, _), chunk in zip(parts, chunks, strict=True):
                out[into] = chunk[inside]
        else:
            for part, chunk in zip(parts, chunks, strict=True):
                put_in(plan, out, fields, part, chunk)

    return read_block


def _part_cost(space: ChunkSpace, plan: Plan) -> float:
    """Return the microseconds without the GIL of reading one part of a plan, roughly."""
    elements = math.prod(plan.shape) / plan.nparts
    copy = COPY_US_PER_POINT if plan.pointwise else COPY_US_PER_BYTE * space.dtype.itemsize
    return space.fetch_cost + copy * elements


def _shard_cost(space: ChunkSpace, plan: Plan, *, write: bool) -> float:
    """Return the microseconds without the GIL of a part of a plan over shards (or chunks), roughly."""
    chain = space.chain
    if chain is None or chain.partial is None or plan.nparts < 2:
        return space.write_cost if write else space.fetch_cost
    requests: float = getattr(space.store, "set_cost" if write else "get_cost", 0.0)
    inside: float = chain.partial.cost(plan, chain.axes, write=write)
    return requests + inside


def _run(
    function: Callable[[Any], None],
    parts: Iterable[Any],
    count: int,
    cost: float,
    store: Any = None,
) -> None:
    """Run a function over parts, on threads if each part costs enough (µs without the GIL).

    `store` is where the function writes, if it does.
    """
    threads = getattr(store, "set_threads", 0)
    helpers = pool.helpers(count, cost, threads) if count > 1 else 0
    if helpers:
        if store is not None:
            # Neighbours are in one directory, which lets in one writer at a time: starting in
            # different places, 1,024 files take 0.6 of the time on ext4.
            everything = list(parts)
            step = -(-len(everything) // (helpers + 1))
            parts = chained.from_iterable(everything[at::step] for at in range(step))
        pool.run(function, parts, helpers, threads=threads)
        return
    for part in parts:
        function(part)


def _part_reader(
    space: ChunkSpace, plan: Plan, out: NDArray, fields: Any
) -> Callable[[Part], None]:
    """Return the function that reads one part of a plan."""
    chain = space.chain
    key, get = space.key, space.store.get

    def read_part(part: Part) -> None:
        try:
            data = get(key(part.coords))
        except OSError as error:
            space.note(error, part.coords)
            raise
        place(space, plan, out, fields, part, data)

    if chain is None:

        def read_rectilinear(part: Part) -> None:
            if space.chain_for(part.coords).partial is not None:
                read_inside(space, [(plan, out, fields, part)])
            else:
                read_part(part)

        return read_rectilinear
    if chain.partial is not None:
        return lambda part: read_inside(space, [(plan, out, fields, part)])
    return read_part


def _read_overlapped(space: ChunkSpace, plan: Plan, out: NDArray, fields: Any) -> None:
    """Read from a slow store: requests overlap with each other and with decoding."""
    chain = space.chain
    if chain is None or chain.partial is not None:
        read_part = _part_reader(space, plan, out, fields)
        finish(overlap(read_part, plan.parts()))
        return
    under_way: dict[int, Part] = {}

    def requests() -> Iterator[Request]:
        for number, part in enumerate(plan.parts()):
            under_way[number] = part
            yield Request(space.key(part.coords))

    with closing(space.store.get_many(requests())) as results:  # type: ignore[type-var]
        for number, data, error in results:
            part = under_way.pop(number)
            with space.noting(part.coords):
                if error is not None:
                    raise error
            place(space, plan, out, fields, part, data)


# --- chunks with an inside -------------------------------------------------------------------------


def read_inside(space: ChunkSpace, wants: Sequence[Want]) -> None:
    """Read parts of one chunk that has chunks inside; again when it is replaced meanwhile."""
    coords = wants[0][3].coords
    attempts = 1 if space.lock_key is None else READ_ATTEMPTS  # the inside of a shard stays
    for left in reversed(range(attempts)):
        try:
            with space.noting(coords):
                _read_snapshot(space, wants, coords, cached=left > 0)
            return
        except ValueChangedError:
            if not left:
                raise


def _read_snapshot(
    space: ChunkSpace, wants: Sequence[Want], coords: Coords, *, cached: bool
) -> None:
    """Read parts of a chunk that has chunks inside, as the chunk is now."""
    key = space.key(coords)
    store = space.store
    chain = space.chain_for(coords)
    reader: Any
    whole = False
    for _, _, _, part in wants:
        whole = whole or part.cover != PARTIAL
    reads = space.cache if cached else None
    if reads is not None and not reads.is_free():
        reads = None
    if reads is not None:
        reader = reads.shard(space, coords, whole=whole)
    elif whole:
        data = store.get(key)
        reader = None if data is None else ValueSnapshot(data)
    else:
        reader = store.open_value(key)
    if reader is None:
        for plan, out, fields, part in wants:
            place(space, plan, out, fields, part, None)
        return
    axes = chain.axes
    inner: list[tuple[tuple[Any, ...], bool, NDArray]] = []
    later: list[tuple[Want, NDArray]] = []
    with closing(reader):
        for want in wants:
            plan, out, fields, part = want
            inside, target, is_view = kept(part, plan, out)
            if not is_view or fields is not None:
                target = np.empty(target.shape, space.dtype)
                later += [(want, target)]
            if axes is not None:
                inside = tuple([inside[a] for a in axes])
                target = target if plan.pointwise else target.transpose(axes)
            inner += [(inside, plan.pointwise, target)]
        try:
            if reads is not None:
                for one in inner:
                    reader.read_through(chain.partial, *one)
            elif inner[1:] and not chain.partial.nested:
                chain.partial.read_several(reader, inner, key, store.high_latency)
            else:
                for one in inner:
                    chain.partial.read(reader, *one, key, store.high_latency)
        except CodecError as error:
            raise space.inside_error(coords, error) from error
    for (plan, out, fields, part), target in later:
        result = target if fields is None else target[fields]
        where = plan.index(part.out)
        out[where] = result.reshape(out[where].shape)


def read_shared(space: ChunkSpace, wants: Iterable[tuple[Plan, NDArray]]) -> None:
    """Read several plans over the same chunks, each into an array of its shape.

    What several of them want is decoded once.
    """
    groups: dict[Coords, list[Want]] = {}
    for plan, out in wants:
        into = flipped(out, plan)
        for part in plan.parts() if plan.nparts else ():
            groups.setdefault(part.coords, []).append((plan, into, None, part))

    def read_chunk(group: list[Want]) -> None:
        coords = group[0][3].coords
        place_all([(space, want) for want in group], space.store.get(space.key(coords)))

    _run(read_chunk, groups.values(), len(groups), space.read_cost)


def _write_inside(
    space: ChunkSpace, plan: Plan, value: NDArray, fields: Any, part: Part, key: Any
) -> None:
    """Write a part of a chunk that has chunks inside: at most one read, one set."""
    coords, _, _, cover = part
    chain = space.chain_for(coords)
    inside, piece, _ = kept(part, plan, value)
    whole = cover != PARTIAL and fields is None
    axes = chain.axes
    if axes is not None:
        inside = tuple(inside[a] for a in axes)
        piece = piece if plan.pointwise else piece.transpose(axes)
    shards = chain.partial
    try:
        if fields is None and shards.is_streamed(inside) and can_stream(space, whole):
            fill = partial(shards.write_pieces, inside=inside, value=piece)
            stream_shard(space, key, shards, fill, whole=whole)
            return
        old = None if whole else space.store.get(key)
        encoded = shards.write(old, inside, plan.pointwise, piece, fields)
    except CodecError as error:
        raise space.inside_error(coords, error) from error
    _put(space, key, encoded)


# --- writing ---------------------------------------------------------------------------------------


def write(space: ChunkSpace, plan: Plan, value: NDArray, fields: Any = None) -> None:
    """Write `value`, an array of the plan's shape, into the parts of a plan.

    A value without dimensions is written to every element. Chunks that become nothing but fill
    value are removed unless `write_empty_chunks` is set. Each chunk is changed under its lock.
    """
    nparts = plan.nparts
    if nparts == 0:
        return
    space = space.watched("write", nparts)
    if value.ndim:
        value = flipped(value, plan)
    writer = _Writer(space, value, fields, plan)
    if space.store.high_latency and nparts > 1:
        finish(overlap(writer.write, plan.parts()))
        return
    rows = None
    # Where storing takes long, it is done chunk by chunk, on more threads.
    quick = getattr(space.store, "set_cost", 0.0) < pool.ITEM_US
    if value.ndim and quick and not space.lock_processes:
        # What a dictionary takes at once is worth it at any size.
        set_each = getattr(space.store, "set_each", None)
        at_once = set_each is not None and space.chain is not None and space.chain.raw
        rows = find_rows(space, plan, value, fields, sys.maxsize if at_once else JOIN_BYTES)
    if rows is not None:
        blocks, each = rows.blocks(space.write_cost)
        _run(row_writer(space, rows), blocks, len(blocks), each, space.store)
        if not rows.rest:
            return
    cost = _shard_cost(space, plan, write=True)
    parts = plan.parts() if rows is None else rows.rest
    _run(writer.write, parts, nparts, cost, space.store)


def write_one(space: ChunkSpace, part: Part, value: NDArray) -> None:
    """Write `value`, of the part's shape or without dimensions, into one chunk."""
    _Writer(space.watched("write", 1), value, None, None).write(part)


@final
class _Writer:
    """Writes the parts of a plan; without a plan, a single part that has no index arrays."""

    __slots__ = ("crossed", "element", "fields", "plan", "repeated", "space", "value")

    def __init__(self, space: ChunkSpace, value: NDArray, fields: Any, plan: Plan | None) -> None:
        self.space = space
        self.value = value
        # NumPy 2.4 crashes when an element of StringDType without dimensions goes to index arrays.
        self.element = value.reshape(1) if not value.ndim and value.dtype.kind in "OT" else value
        self.fields = fields
        self.plan = plan
        self.crossed = plan is not None and plan.crossed
        self.repeated: tuple[Buffer | None] | None = None

    def write(self, part: Part) -> None:
        """Write one part: a whole chunk is encoded, any other is read, changed and encoded."""
        space = self.space
        key = space.key(part.coords)
        lock_key = space.lock_key
        if lock_key is None:
            self._write_under_lock(space, part, key)
            return
        with key_locks.key_lock(lock_key(key)):
            try:
                locks = space.lock_processes
                if locks is True or (locks and (part.cover == PARTIAL or self.fields is not None)):
                    change = partial(self._write_under_lock, part=part, key=key)
                    change_between_processes(space, part.coords, key, change)
                else:
                    self._write_under_lock(space, part, key)
            except OSError as error:
                space.note(error, part.coords)
                raise

    def _write_under_lock(self, space: ChunkSpace, part: Part, key: Any) -> None:
        value, fields = self.value, self.fields
        coords, inside, source, cover = part
        chain = space.chain or space.chain_for(coords)
        if chain.partial is not None:
            assert self.plan is not None
            spread = value if value.ndim else np.broadcast_to(value, self.plan.shape)
            _write_inside(space, self.plan, spread, fields, part, key)
            return
        if self.crossed:
            assert self.plan is not None
            inside, source = self.plan.index(inside), self.plan.index(source)
        piece = value[source] if value.ndim else self.element
        if fields is not None or cover == PARTIAL:
            chunk = _stored(space, coords, key)
            (chunk if fields is None else chunk[fields])[(*inside, ...)] = piece
        elif cover == FULL and value.ndim:
            chunk = piece.reshape(space.grid.stored_shape(coords))  # with the axes ints took away
            if chunk.dtype != space.dtype:
                chunk = chunk.astype(space.dtype)
        elif cover == FULL and space.chain is not None:
            if self.repeated is None:  # chunks full of one value are all the same
                chunk = np.full(space.grid.stored_shape(coords), piece, space.dtype)
                self.repeated = (_encoded(space, coords, chunk),)
            _put(space, key, self.repeated[0])
            return
        else:
            chunk = space.empty_chunk(coords)
            chunk[(*inside, ...)] = piece
        _put(space, key, _encoded(space, coords, chunk))


def _stored(space: ChunkSpace, coords: Coords, key: Any) -> NDArray:
    """Return a stored chunk to be changed."""
    data = space.store.get(key)
    if data is None:
        return space.empty_chunk(coords)
    try:
        chunk: NDArray = space.chain_for(coords).decode(data)
    except Exception as error:
        raise space.decode_error(coords, data, error) from error
    return chunk.copy()


def _encoded(space: ChunkSpace, coords: Coords, chunk: NDArray) -> Buffer | None:
    """Return an encoded chunk, None when it is not to be stored."""
    if not space.write_empty_chunks and space.is_fill(chunk):
        return None
    try:
        return space.chain_for(coords).encode(chunk)
    except Exception as error:
        raise space.encode_error(coords, error) from error


def _put(space: ChunkSpace, key: Any, data: Buffer | None) -> None:
    if data is None:
        space.store.delete(key)
    else:
        space.store.set(key, data)


# --- writing where other processes write ------------------------------------------------------------


def change_between_processes(
    space: ChunkSpace, coords: Coords, key: Any, change: Callable[[ChunkSpace], None]
) -> None:
    """Have `change` change one chunk, again and again until nobody else changed it meanwhile.

    `change` gets a space in which the chunk is as it was read, and which keeps what is written. The
    caller holds the lock of the key, so only other processes (or machines) can be in the way.
    Raises `ConflictError` when they never pause.
    """
    store: Any = space.store
    if not store.supports_conditional_writes:
        if space.lock_processes == "auto":
            _warn_once(str(store))
            change(space)
            return
        raise ValueError(
            f"lock=True needs a store that can write on the condition that a value is unchanged; "
            f"{store} cannot"
        )
    for attempt in range(WRITE_ATTEMPTS):
        if attempt:
            # Random, so that those who met do not meet again.
            time.sleep(random.uniform(0, 0.001 * min(attempt, 50)))  # noqa: S311
        pending = _Pending(store, *store.get_versioned(key))
        change(space.over(pending))
        data = pending.new
        if not pending.changed or (data is None and pending.version is None):
            return
        if data is None:
            # There is no conditional delete; a chunk full of fill values means the same.
            data = space.chain_for(coords).encode(space.empty_chunk(coords))
        if store.set_if_version(key, bytes(data), pending.version):
            return
    raise ConflictError(f"{space.where(coords, key)} was changed by others at every attempt")


@cache
def _warn_once(store: str) -> None:
    warn("several processes", store)


def change_together(
    space: ChunkSpace, key: Any, change: Callable[[ChunkSpace], None], *, whole: bool
) -> None:
    """Have `change` change one chunk several times, with one set and, unless `whole`, one read.

    `change` gets a space as in `change_between_processes`, and begins by setting the `whole` chunk
    if so. The caller holds the lock of the key.
    """
    pending = _Pending(space.store, None if whole else space.store.get(key), None)
    change(space.over(pending))
    _put(space, key, pending.new)


@final
class _Pending:
    """One stored value, in the place of its store, while it is changed."""

    high_latency = False

    def __init__(self, store: Any, old: Value | None, version: str | None) -> None:
        self.new: Any = None
        self.changed = False
        self.version = version
        self._store, self._old = store, old

    def __str__(self) -> str:
        return str(self._store)

    def get(self, key: Any) -> Value | None:
        return self.new if self.changed else self._old

    def set(self, key: Any, value: Any) -> None:
        self.new, self.changed = value, True

    def delete(self, key: Any) -> None:
        self.new, self.changed = None, True

    def open_value(self, key: Any) -> OpenValue | None:
        value = self.get(key)
        return None if value is None else ValueSnapshot(value)

    def get_many(self, requests: Iterable[Request]) -> Iterator[Any]:
        raise AssertionError("one value is read at a time while it is changed")


def read_whole(space: ChunkSpace, coords: Coords) -> NDArray:
    """Return a chunk as it is stored, beyond the end of the array too, as a new array."""
    space = space.watched("read", 1)
    with space.noting(coords):
        data = space.store.get(space.key(coords))
    if data is None:
        if not space.read_missing_chunks:
            raise space.missing_error(coords)
        return space.empty_chunk(coords)
    try:
        return np.array(space.chain_for(coords).decode(data))
    except Exception as error:
        raise space.decode_error(coords, data, error) from error


def write_whole(space: ChunkSpace, coords: Coords, chunk: NDArray) -> None:
    """Store a chunk of its full shape, whatever was stored before."""
    key = space.key(coords)
    space = space.watched("write", 1)
    with space.lock(key), space.noting(coords):
        _put(space, key, _encoded(space, coords, chunk))


def for_each(
    space: ChunkSpace, function: Callable[[Any], None], items: list[Any], cost: float
) -> None:
    """Call a function that changes one chunk, for `cost` µs without the GIL, with each item."""
    if space.store.high_latency and len(items) > 1:
        finish(overlap(function, items))
        return
    _run(function, items, len(items), cost)


def fill_parts(space: ChunkSpace, plan: OuterPlan) -> None:
    """Set the parts of a plan to the fill value."""
    write(space, plan, np.full((), space.fill_value, space.dtype))
