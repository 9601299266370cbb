"""Read or write the chunks of a plan: the only chunk loop.

The same loop runs in four ways, chosen from the work: one chunk; one after the other; on threads
when decoding is worth them; overlapped when the store is slow. A shard is read and written by the
same code, with the shard in the place of the store (see `sharding`).

Everything that is known per array stands in a `ChunkSpace`, so that a call computes nothing twice.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any, Protocol, TypeAlias, final

import numpy as np
import numpy.typing as npt

from zarr_core import workers
from zarr_core.codecs.base import Buffer
from zarr_core.codecs.chain import CodecChain
from zarr_core.errors import (
    ChunkDecodeError,
    ChunkEncodeError,
    ChunkNotFoundError,
    CodecError,
    OperationTimeoutError,
    StoppedError,
)
from zarr_core.grid import ChunkGrid, Coords, Shape
from zarr_core.selection import FULL, PARTIAL, Item, OuterPlan, Part, Plan
from zarr_core.storage.base import OpenValue, Request, Value, ValueSnapshot

NDArray: TypeAlias = npt.NDArray[Any]

ONE_CHUNK_BYTES = 256 << 10
"""Above this a lone chunk is decoded into the result, not beside it and copied."""
JOIN_BYTES = 32 << 10
"""Chunks up to this size are joined and assigned a row at a time: the assignment costs 1 µs a chunk,
joining 0.2; above, the extra copy costs more than it saves."""
DECODE_INTO_BYTES = 1 << 20
"""From this size on, decoding into the result saves more than it costs."""
BATCH = 32
"""Chunks decoded by one C call, where the codec has such a call."""


class ChunkBytes(Protocol):
    """Where encoded chunks are: a store, or the inside of a shard."""

    high_latency: Any

    def get(self, key: Any) -> Value | None:
        """Return an encoded chunk, or None when it is not stored."""

    def set(self, key: Any, value: Any) -> None:
        """Store an encoded chunk."""

    def delete(self, key: Any) -> None:
        """Remove a chunk."""

    def open_value(self, key: Any) -> OpenValue | None:
        """Return a snapshot of an encoded chunk to read parts of."""

    def get_many(self, requests: Iterable[Request]) -> Iterator[Any]:
        """Yield encoded chunks as they arrive."""


@final
class ChunkSpace:
    """Where the chunks of an array (or of a shard) are and how they are encoded."""

    __slots__ = (
        "_chains",
        "_fill_block",
        "_fill_bytes",
        "_make_chain",
        "chain",
        "dtype",
        "fill_value",
        "grid",
        "key",
        "lock_key",
        "name",
        "one_chunk",
        "read_missing_chunks",
        "store",
        "write_empty_chunks",
    )

    def __init__(
        self,
        *,
        name: str,
        grid: ChunkGrid,
        dtype: np.dtype[Any],
        fill_value: Any,
        make_chain: Callable[[Shape], CodecChain],
        store: ChunkBytes,
        key: Callable[[Coords], Any],
        lock_key: Callable[[Any], Hashable] | None,
        write_empty_chunks: bool,
        read_missing_chunks: bool,
    ) -> None:
        self.name = name
        self.grid = grid
        self.dtype = dtype
        self.fill_value = fill_value
        self.store = store
        self.key = key
        self.lock_key = lock_key
        self.write_empty_chunks = write_empty_chunks
        self.read_missing_chunks = read_missing_chunks
        self._make_chain = make_chain
        self._chains: dict[Shape, CodecChain] = {}
        shape = grid.chunk_shape
        self.chain = None if shape is None else make_chain(shape)
        """The codec chain when all chunks have one shape."""
        self.one_chunk: Shape | None = None
        """Shape of a chunk when the short path for one chunk may be taken."""
        if (
            self.chain is not None
            and self.chain.partial is None
            and self.chain.nbytes is not None
            and self.chain.nbytes <= ONE_CHUNK_BYTES
        ):
            self.one_chunk = shape
        self._fill_bytes: bytes | None = None
        self._fill_block = b""
        if not dtype.hasobject and dtype.kind != "T":
            self._fill_bytes = np.full((), fill_value, dtype).tobytes()
            self._fill_block = self._fill_bytes * max(1, (64 << 10) // max(1, dtype.itemsize))

    def over(self, store: ChunkBytes) -> "ChunkSpace":
        """Return the same space over other bytes: another shard."""
        other = object.__new__(ChunkSpace)
        for name in ChunkSpace.__slots__:
            setattr(other, name, getattr(self, name))
        other.store = store
        return other

    def chain_for(self, coords: Coords) -> CodecChain:
        """Return the codec chain of a chunk."""
        if self.chain is not None:
            return self.chain
        shape = self.grid.stored_shape(coords)
        chain = self._chains.get(shape)
        if chain is None:
            chain = self._chains[shape] = self._make_chain(shape)
        return chain

    def is_fill(self, chunk: NDArray) -> bool:
        """Return whether every element is the fill value: the same bytes, for fixed sizes."""
        if chunk.size == 0:
            return True
        if self._fill_bytes is None:
            return bool((chunk == self.fill_value).all())
        if chunk[(0,) * chunk.ndim + (...,)].tobytes() != self._fill_bytes:
            return False
        if self.dtype.itemsize == 0:
            return True
        flat = chunk.reshape(-1)
        step = len(self._fill_block) // self.dtype.itemsize
        for start in range(0, flat.size, step):
            block = flat[start : start + step].tobytes()
            if block != self._fill_block[: len(block)]:
                return False
        return True

    def empty_chunk(self, coords: Coords) -> NDArray:
        """Return a new chunk full of the fill value."""
        return np.full(self.grid.stored_shape(coords), self.fill_value, self.dtype)

    def lock(self, key: Any) -> AbstractContextManager[Any]:
        """Return the lock under which a key is changed."""
        return nullcontext() if self.lock_key is None else workers.key_lock(self.lock_key(key))

    def where(self, coords: Coords, key: Any) -> str:
        """Return words that name a chunk, for messages."""
        return f"chunk {coords} of {self.name}, key {key!r}"

    def decode_error(self, coords: Coords, data: Any, error: Exception) -> Exception:
        """Return an error that names the chunk and the codec that failed."""
        if isinstance(error, ChunkDecodeError | StoppedError | OperationTimeoutError | MemoryError):
            return error
        key = self.key(coords)
        codec = self.chain_for(coords).blame(data)
        return ChunkDecodeError(
            f"{self.where(coords, key)} in {self.store}: codec {codec!r} cannot decode "
            f"{len(data)} bytes: {error}"
        )

    def encode_error(self, coords: Coords, error: Exception) -> Exception:
        """Return an error that names the chunk that cannot be encoded."""
        return ChunkEncodeError(f"{self.where(coords, self.key(coords))}: {error}")

    def missing_error(self, coords: Coords) -> ChunkNotFoundError:
        """Return the error for a chunk that is not stored although it must be."""
        return ChunkNotFoundError(
            f"{self.where(coords, self.key(coords))} is not stored and read_missing_chunks is off"
        )


def _getter(space: ChunkSpace) -> Callable[[Any], Value | None]:
    """Return the function that fetches a chunk; it looks at the stop flag if the call has one."""
    get = space.store.get
    call = workers.current_call()
    if call is None or space.lock_key is None:
        return get

    def guarded(key: Any) -> Value | None:
        call.enter()
        return get(key)

    return guarded


# --- reading ---------------------------------------------------------------------------------------


def read_one(space: ChunkSpace, items: list[int | range]) -> NDArray | None:
    """Return a basic selection that lies in one small chunk, else None.

    This is what most calls on small chunks are; it does without plan and loop (3 µs against 12).
    """
    sizes = space.one_chunk
    if sizes is None:
        return None
    coords = []
    inside: list[Any] = []
    for item, size in zip(items, sizes, strict=True):
        if item.__class__ is int:
            k, i = divmod(item, size)  # type: ignore[operator]
            inside.append(i)
        else:
            if not item or item.step < 0:  # type: ignore[union-attr]
                return None
            start = item.start  # type: ignore[union-attr]
            k = start // size
            base = k * size
            if item[-1] >= base + size:  # type: ignore[index]
                return None
            inside.append(slice(start - base, item.stop - base, item.step))  # type: ignore[union-attr]
        coords.append(k)
    inside.append(...)
    at = tuple(coords)
    data = _getter(space)(space.key(at))
    if data is None:
        if not space.read_missing_chunks:
            raise space.missing_error(at)
        shape = tuple(len(i) for i in items if isinstance(i, range))
        return np.full(shape, space.fill_value, space.dtype)
    try:
        chunk: NDArray = space.chain.decode(data)  # type: ignore[union-attr]
    except Exception as error:
        raise space.decode_error(at, data, error) from error
    return chunk[tuple(inside)].copy()


def read(space: ChunkSpace, plan: Plan, out: NDArray, fields: Any = None) -> None:
    """Read the parts of a plan into `out`, an array of the plan's shape."""
    nparts = plan.nparts
    if nparts == 0:
        return
    out = _flipped(out, plan)
    chain = space.chain
    if space.store.high_latency and nparts > 1:
        _read_overlapped(space, plan, out, fields)
        return
    if chain is None or chain.partial is not None:
        read_part = _part_reader(space, plan, out, fields, _getter(space))
        _run(read_part, plan.parts(), nparts, 0.0 if chain is None else 50.0)
        return
    parts: Iterable[Part] | None = None
    if (
        isinstance(plan, OuterPlan)
        and chain.native
        and fields is None
        and chain.nbytes is not None
        and chain.nbytes <= JOIN_BYTES
        and nparts > 3
    ):
        parts = _read_rows(space, plan, out)
    read_part = _part_reader(space, plan, out, fields, _getter(space))
    _run(read_part, plan.parts() if parts is None else parts, nparts, chain.decode_cost)


def _run(function: Callable[[Part], None], parts: Iterable[Part], count: int, cost: float) -> None:
    """Run a function over parts, on threads if each part costs enough (µs without the GIL)."""
    helpers = workers.helpers(count, cost) if count > 1 else 0
    if helpers:
        workers.run(function, parts, helpers)
        return
    for part in parts:
        function(part)


def _flipped(array: NDArray, plan: Plan) -> NDArray:
    """Return a view in which axes that the selection runs through backwards run forwards."""
    if not plan.flips:
        return array
    return array[
        tuple(slice(None, None, -1) if a in plan.flips else slice(None) for a in range(array.ndim))
    ]


def _part_reader(
    space: ChunkSpace,
    plan: Plan,
    out: NDArray,
    fields: Any,
    get: Callable[[Any], Value | None],
) -> Callable[[Part], None]:
    """Return the function that reads one part of a plan."""
    chain = space.chain
    if chain is None:

        def read_rectilinear(part: Part) -> None:
            if space.chain_for(part.coords).partial is not None:
                _read_inside(space, plan, out, fields, part)
            else:
                _place(space, plan, out, fields, part, get(space.key(part.coords)))

        return read_rectilinear
    if chain.partial is not None:
        return lambda part: _read_inside(space, plan, out, fields, part)
    key = space.key
    if plan.fancy or fields is not None or (chain.nbytes or 0) >= DECODE_INTO_BYTES:
        return lambda part: _place(space, plan, out, fields, part, get(key(part.coords)))
    decode = chain.decode
    fill_value = space.fill_value
    strict = not space.read_missing_chunks

    # `_place` without its branches: for thousands of small chunks they are a third of the time.
    def read_plain(part: Part) -> None:
        coords, inside, into, _ = part
        data = get(key(coords))
        if data is None:
            if strict:
                raise space.missing_error(coords)
            out[into] = fill_value
            return
        try:
            chunk = decode(data)
        except Exception as error:
            raise space.decode_error(coords, data, error) from error
        out[into] = chunk[inside]

    return read_plain


def _place(
    space: ChunkSpace, plan: Plan, out: NDArray, fields: Any, part: Part, data: Value | None
) -> None:
    """Decode a chunk and put the selected part of it where it belongs."""
    coords, inside, into, cover = part
    where = plan.index(into) if plan.fancy else into
    if data is None:
        if not space.read_missing_chunks:
            raise space.missing_error(coords)
        fill = space.fill_value
        out[where] = fill if fields is None else np.full((), fill, space.dtype)[fields]
        return
    chain = space.chain_for(coords)
    try:
        if cover == FULL and not plan.fancy and fields is None and chain.decode_into is not None:
            target = out[where]
            if (
                (chain.nbytes or 0) >= DECODE_INTO_BYTES
                and target.flags.c_contiguous
                and target.dtype == space.dtype
            ):
                chain.decode_into(data, target.reshape(-1).view(np.uint8))
                return
        chunk: NDArray = chain.decode(data)
    except Exception as error:
        raise space.decode_error(coords, data, error) from error
    if fields is not None:
        chunk = chunk[fields]
    out[where] = chunk[plan.index(inside) if plan.fancy else inside]


def _read_overlapped(space: ChunkSpace, plan: Plan, out: NDArray, fields: Any) -> None:
    """Read from a slow store: requests overlap with each other and with decoding."""
    chain = space.chain
    if chain is None or chain.partial is not None:
        read_part = _part_reader(space, plan, out, fields, _getter(space))
        _finish(workers.overlap(read_part, plan.parts(), limit=None))
        return
    under_way: dict[int, Part] = {}

    def requests() -> Iterator[Request]:
        for number, part in enumerate(plan.parts()):
            under_way[number] = part
            yield Request(space.key(part.coords))

    with closing(space.store.get_many(requests())) as results:  # type: ignore[type-var]
        for number, data, error in results:
            if error is not None:
                raise error
            _place(space, plan, out, fields, under_way.pop(number), data)


def _finish(results: Iterator[tuple[int, Any, BaseException | None]]) -> None:
    """Run overlapped work to its end; raise its first error once nothing runs any more."""
    with closing(results):  # type: ignore[type-var]
        for _, _, error in results:
            if error is not None:
                raise error


def _read_rows(space: ChunkSpace, plan: OuterPlan, out: NDArray) -> Iterable[Part] | None:
    """Read whole chunks a row at a time; return the parts that remain, None when nothing was done.

    The chunks of a row along the last dimension are joined and assigned in one NumPy operation.
    """
    inner = []  # per dimension: the run of entries that are whole chunks
    for entries in plan.entries:
        full = [i for i, e in enumerate(entries) if e.cover == FULL and isinstance(e.inside, slice)]
        if not full or len(full) != full[-1] - full[0] + 1:
            return None
        inner.append(range(full[0], full[-1] + 1))
    if not inner or len(inner[-1]) < 4:
        return None
    chain = space.chain
    shape = space.grid.chunk_shape
    assert chain is not None and shape is not None
    bounds = [(plan.entries[d][r[0]].out, plan.entries[d][r[-1]].out) for d, r in enumerate(inner)]
    block = out[tuple(slice(a.start, b.stop) for a, b in bounds)]  # type: ignore[union-attr]
    # One axis for the chunk along each dimension, then one for the element in it: always a view.
    split = [n for d, r in enumerate(inner) for n in (len(r), shape[d])]
    ndim = len(shape)
    tiles = block.reshape(split).transpose([*range(0, 2 * ndim, 2), *range(1, 2 * ndim, 2)])
    if not np.may_share_memory(tiles, block):
        return None
    get, key = _getter(space), space.key
    decode_many, decode, nbytes = chain.decode_many, chain.decode_bytes, chain.nbytes
    fill = None
    last = [plan.entries[-1][i].chunk for i in inner[-1]]
    row_shape = (len(last), *shape)
    dtype = space.dtype

    def read_row(row: tuple[int, ...]) -> None:
        nonlocal fill
        start = tuple(plan.entries[d][inner[d][i]].chunk for d, i in enumerate(row))
        coords = [(*start, k) for k in last]
        found = [get(key(at)) for at in coords]
        if None in found:
            if not space.read_missing_chunks:
                raise space.missing_error(coords[found.index(None)])
            if fill is None:
                fill = np.full(shape, space.fill_value, dtype).tobytes()
            stored = [at for at, data in zip(coords, found, strict=True) if data is not None]
            decoded = iter(_decode_all(space, stored, [d for d in found if d is not None], decode, decode_many))
            pieces = [fill if data is None else next(decoded) for data in found]
        else:
            pieces = _decode_all(space, coords, found, decode, decode_many)
        # A chunk of another length would shift its neighbours; decoding has checked each.
        joined = b"".join(pieces)
        assert len(joined) == len(last) * nbytes  # type: ignore[operator]
        tiles[row] = np.ndarray(row_shape, dtype, joined)

    rows = list(np.ndindex(*(len(r) for r in inner[:-1])))
    cost = chain.decode_cost * len(last)
    helpers = workers.helpers(len(rows), cost) if len(rows) > 1 else 0
    if helpers:
        workers.run(read_row, rows, helpers)
    else:
        for row in rows:
            read_row(row)
    if all(len(r) == len(e) for r, e in zip(inner, plan.entries, strict=True)):
        return ()
    chunks = [
        range(e[r[0]].chunk, e[r[-1]].chunk + 1) for r, e in zip(inner, plan.entries, strict=True)
    ]
    return (
        part
        for part in plan.parts()
        if not all(k in r for k, r in zip(part.coords, chunks, strict=True))
    )


def _decode_all(
    space: ChunkSpace,
    coords: list[Coords],
    found: list[Any],
    decode: Callable[[Any], Buffer],
    decode_many: Callable[[Any], Any] | None,
) -> list[Any]:
    """Return the decoded bytes of chunks, in batches where the codec can."""
    if decode_many is not None and len(found) > 1:
        try:
            pieces: list[Any] = []
            for start in range(0, len(found), BATCH):
                pieces.extend(decode_many(found[start : start + BATCH]))
            return pieces
        except Exception:  # noqa: BLE001, S110 - decode one by one, to name the chunk that fails
            pass
    pieces = []
    for at, data in zip(coords, found, strict=True):
        try:
            pieces.append(decode(data))
        except Exception as error:
            raise space.decode_error(at, data, error) from error
    return pieces


# --- chunks with an inside -------------------------------------------------------------------------


def _kept(part: Part, plan: Plan, array: NDArray) -> tuple[tuple[Any, ...], NDArray, bool]:
    """Return a part's selection without ints, and the array it is for with the axes to match.

    The last value says whether the array is a view of `array`.
    """
    inside, into = part.chunk, part.out
    basic = not any(isinstance(o, np.ndarray) for o in into)
    # With an ellipsis the result is a view even where nothing else is selected.
    target = array[(*into, ...)] if basic else array[plan.index(into)]
    if plan.pointwise:
        return inside, target, basic
    axes = tuple(d for d, s in enumerate(inside) if isinstance(s, int))
    inside = tuple(slice(s, s + 1) if isinstance(s, int) else s for s in inside)
    return inside, np.expand_dims(target, axes) if axes else target, basic


def _read_inside(space: ChunkSpace, plan: Plan, out: NDArray, fields: Any, part: Part) -> None:
    """Read a part of a chunk that has chunks inside."""
    coords, _, into, cover = part
    key = space.key(coords)
    store = space.store
    call = workers.current_call()
    if call is not None:
        call.enter()
    chain = space.chain_for(coords)
    reader: OpenValue | None
    if cover != PARTIAL:
        data = store.get(key)
        reader = None if data is None else ValueSnapshot(data)
    else:
        reader = store.open_value(key)
    if reader is None:
        _place(space, plan, out, fields, part, None)
        return
    with closing(reader):
        inside, target, is_view = _kept(part, plan, out)
        direct = is_view and fields is None
        if not direct:
            target = np.empty(target.shape, space.dtype)
        axes = chain.axes
        ordered = target
        if axes is not None:
            inside = tuple(inside[a] for a in axes)
            ordered = target if plan.pointwise else target.transpose(axes)
        try:
            chain.partial.read(
                reader, inside, plan.pointwise, ordered, key, high_latency=store.high_latency
            )
        except CodecError as error:
            raise ChunkDecodeError(f"{space.where(coords, key)} in {store}: {error}") from error
    if not direct:
        result = target if fields is None else target[fields]
        where = plan.index(into)
        out[where] = result.reshape(out[where].shape)


def _write_inside(
    space: ChunkSpace, plan: Plan, value: NDArray, fields: Any, part: Part, key: Any
) -> None:
    """Write a part of a chunk that has chunks inside: at most one read, one set."""
    coords, _, _, cover = part
    chain = space.chain_for(coords)
    inside, piece, _ = _kept(part, plan, value)
    old = None if cover != PARTIAL and fields is None else _getter(space)(key)
    axes = chain.axes
    if axes is not None:
        inside = tuple(inside[a] for a in axes)
        piece = piece if plan.pointwise else piece.transpose(axes)
    try:
        encoded = chain.partial.write(old, inside, plan.pointwise, piece, fields)
    except CodecError as error:
        raise ChunkDecodeError(f"{space.where(coords, key)} in {space.store}: {error}") from error
    if encoded is None:
        space.store.delete(key)
    else:
        space.store.set(key, encoded)


# --- writing ---------------------------------------------------------------------------------------


def write(space: ChunkSpace, plan: Plan, value: NDArray, fields: Any = None) -> None:
    """Write `value`, an array of the plan's shape, into the parts of a plan.

    A value without dimensions is written to every element. Chunks that become nothing but fill
    value are removed unless `write_empty_chunks` is set. Each chunk is changed under its lock.
    """
    nparts = plan.nparts
    if nparts == 0:
        return
    scalar = value.ndim == 0 and plan.shape != ()
    if not scalar:
        value = _flipped(value, plan)
    write_part = _part_writer(space, plan, value, fields, scalar)
    if space.store.high_latency and nparts > 1:
        _finish(workers.overlap(write_part, plan.parts(), limit=None))
        return
    chain = space.chain
    cost = 0.0 if chain is None else chain.encode_cost if chain.partial is None else 50.0
    _run(write_part, plan.parts(), nparts, cost)


def _part_writer(
    space: ChunkSpace, plan: Plan, value: NDArray, fields: Any, scalar: bool
) -> Callable[[Part], None]:
    """Return the function that writes one part of a plan."""
    store = space.store
    call = workers.current_call() if space.lock_key is not None else None
    repeated: list[Buffer | None] = []  # what a chunk full of a scalar becomes, encoded once

    def write_part(part: Part) -> None:
        coords, inside, source, cover = part
        key = space.key(coords)
        with space.lock(key):
            if call is not None:
                call.enter()
            chain = space.chain_for(coords)
            if chain.partial is not None:
                spread = np.broadcast_to(value, plan.shape) if scalar else value
                _write_inside(space, plan, spread, fields, part, key)
                return
            piece = value if scalar else value[plan.index(source) if plan.fancy else source]
            if cover == FULL and scalar and fields is None and space.chain is not None:
                if not repeated:
                    repeated.append(encoded(coords, whole(coords, piece)))
                put(key, repeated[0])
                return
            if cover != PARTIAL and fields is None and not plan.pointwise:
                chunk = whole(coords, piece) if cover == FULL else space.empty_chunk(coords)
                if cover != FULL:
                    chunk[plan.index(inside) if plan.fancy else inside] = piece
            else:
                chunk = stored(coords, key)
                target = chunk if fields is None else chunk[fields]
                target[plan.index(inside) if plan.fancy else inside] = piece
            put(key, encoded(coords, chunk))

    def whole(coords: Coords, piece: NDArray) -> NDArray:
        shape = space.grid.stored_shape(coords)
        if not scalar:
            piece = piece.reshape(shape)  # puts back axes of length 1 that an int took away
            return piece if piece.dtype == space.dtype else piece.astype(space.dtype)
        return np.full(shape, piece, space.dtype)

    def stored(coords: Coords, key: Any) -> NDArray:
        data = store.get(key)
        if data is None:
            return space.empty_chunk(coords)
        try:
            chunk: NDArray = space.chain_for(coords).decode(data)
        except Exception as error:
            raise space.decode_error(coords, data, error) from error
        return chunk.copy()

    def encoded(coords: Coords, chunk: NDArray) -> Buffer | None:
        if not space.write_empty_chunks and space.is_fill(chunk):
            return None
        try:
            return space.chain_for(coords).encode(chunk)
        except Exception as error:
            raise space.encode_error(coords, error) from error

    def put(key: Any, data: Buffer | None) -> None:
        if data is None:
            store.delete(key)
        else:
            store.set(key, data)

    return write_part


def fill_parts(space: ChunkSpace, plan: OuterPlan) -> None:
    """Set the parts of a plan to the fill value in chunks that are stored."""
    write(space, plan, np.full((), space.fill_value, space.dtype))


def plan_items(items: Iterable[Item], grid: ChunkGrid) -> OuterPlan:
    """Return the plan of checked items (see `selection.basic_items`)."""
    return OuterPlan(list(items), grid)


def total_chunks(grid: ChunkGrid) -> int:
    """Return the number of chunks of a grid."""
    return math.prod(grid.counts)
