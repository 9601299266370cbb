"""Whole chunks a row at a time: joined and assigned, or cut up, in one NumPy operation per row.

For small chunks that are stored as they are in memory the work per chunk is most of the cost: an
assignment costs 1 µs a chunk, joining 0.2 µs. A row is what follows along the last dimension.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from zarr_core.chunks.space import ChunkSpace, NDArray
from zarr_core.indexing.plan import OuterPlan, Part, Plan
from zarr_core.metadata.chunk_grids import Coords
from zarr_core.threads import key_locks, pool

JOIN_BYTES = 32 << 10
"""Chunks up to this size are handled by the row; above, the extra copy costs more than it saves."""
MIN_ROW = 4
"""Rows of fewer chunks are not worth it."""
MIN_CHUNKS = 8
"""Nor are fewer chunks: from here on reading gains nearly what it loses, writing a fifth."""
SLOW_SECONDS = 100e-6
"""Requests that take longer on average are made by several threads at once."""
BATCH = 32
"""Chunks decoded by one C call, where the codec has such a call."""
PIECE = 128
"""So many chunks at most are handled together: memory is bounded, and threads have work to share."""
PIECE_BYTES = 2 << 20
"""So many bytes at most are handled together."""
BLOCK_BYTES = 512 << 10
"""Short rows are handled together up to this size: it stays in the processor's cache."""

Block: TypeAlias = tuple[slice, ...]
"""Some rows, or part of one: what it has of each dimension of the grid of whole chunks."""


class Rows(NamedTuple):
    """The whole chunks of a plan, by rows."""

    tiles: NDArray  # view of the array: axes of the chunks, then axes of their elements
    shape: tuple[int, ...]  # of a tile
    dtype: np.dtype[Any]  # of a tile as it is encoded
    starts: list[list[int]]  # per dimension but the last: the chunks
    last: list[int]  # the chunks along the last dimension
    nbytes: int  # of a chunk
    rest: Iterable[Part]  # parts that are not whole chunks

    def beginnings(self, block: Block) -> list[Coords]:
        """Return the coordinates of the rows of a block, without the last dimension."""
        return list(product(*map(list.__getitem__, self.starts, block)))

    def keys(self, block: Block, space: ChunkSpace) -> list[Any]:
        """Return the keys of the chunks of a block."""
        return space.row_keys(self.beginnings(block), self.last[block[-1]])

    def coords(self, block: Block) -> list[Coords]:
        """Return the coordinates of the chunks of a block."""
        last = self.last[block[-1]]
        return [(*start, k) for start in self.beginnings(block) for k in last]

    def blocks(self, cost: float) -> tuple[list[Block], float]:
        """Return all chunks in blocks to read or write at once, and what one leaves to other threads.

        `cost` is that of a chunk, in µs without the GIL. Where threads are worth it there are blocks
        for all of them; where they are not, larger blocks do not make them so.
        """
        piece = max(1, min(PIECE, PIECE_BYTES // self.nbytes))
        length = min(piece, len(self.last))
        pieces = [slice(i, i + piece) for i in range(0, len(self.last), piece)]
        rows = math.prod(map(len, self.starts))
        shared = pool.helpers(rows * len(pieces), cost * length)
        height = 1 if shared else max(1, min(piece, BLOCK_BYTES // self.nbytes) // length)
        heights = [1] * len(self.starts)
        heights[-1:] = [height] * len(heights[-1:])
        slices = [
            [slice(i, i + n) for i in range(0, len(chunks), n)]
            for chunks, n in zip(self.starts, heights, strict=True)
        ]
        return list(product(*slices, pieces)), cost * length if shared else 0.0


def find_rows(
    space: ChunkSpace, plan: Plan, array: NDArray, fields: Any, most: int = JOIN_BYTES
) -> Rows | None:
    """Return the rows of a plan, or None when handling chunks one by one is as good.

    That is so if a chunk has more than `most` bytes.
    """
    chain, shape = space.chain, space.grid.chunk_shape
    nbytes = 0 if chain is None else chain.nbytes or 0
    if (
        not isinstance(plan, OuterPlan)
        or fields is not None
        or chain is None
        or shape is None
        or not chain.native
        or plan.drops
        or not 0 < nbytes <= most
        or plan.nparts < MIN_CHUNKS
    ):
        return None
    runs = plan.whole_runs()
    if not all(runs) or len(runs[-1]) < MIN_ROW:
        return None
    block = array[tuple(slice(run[0].out.start, run[-1].out.stop) for run in runs)]  # type: ignore[union-attr,misc]
    dtype, ndim = space.dtype, len(shape)
    if block.dtype == dtype and block.strides[-1] == dtype.itemsize:
        # A line of a chunk is copied as one element: twice as fast for lines of 256 bytes.
        dtype = np.dtype((np.void, shape[-1] * dtype.itemsize))
        block, shape = block.view(dtype), (*shape[:-1], 1)
    # One axis for the chunk along each dimension, then one for the element in it.
    split = [n for run, size in zip(runs, shape, strict=True) for n in (len(run), size)]
    tiles = block.reshape(split).transpose([*range(0, 2 * ndim, 2), *range(1, 2 * ndim, 2)])
    if not np.may_share_memory(tiles, block):
        return None
    starts = [[entry.chunk for entry in run] for run in runs]
    rest: Iterable[Part] = ()
    if any(len(run) != len(entries) for run, entries in zip(runs, plan.entries, strict=True)):
        inner = [set(chunks) for chunks in starts]
        rest = (
            part
            for part in plan.parts()
            if not all(k in chunks for k, chunks in zip(part.coords, inner, strict=True))
        )
    return Rows(tiles, shape, dtype, starts[:-1], starts[-1], nbytes, rest)


def row_reader(space: ChunkSpace, rows: Rows) -> Callable[[Block], None]:
    """Return the function that reads a block of rows."""
    chain = space.chain
    assert chain is not None
    nbytes = rows.nbytes
    fill: bytes | None = None
    gather: Any = getattr(space.store, "gather", None) if chain.raw else None
    if gather is not None:  # the inside of a shard, where a key is a number
        every: Any = not rows.rest or np.ix_(*rows.starts, rows.last)
        gathered = gather(None if every is True else space.key(every), nbytes)
        if gathered is not None:
            return _row_copier(rows, *gathered)

    fetch = fetcher(space)

    def read_block(block: Block) -> None:
        nonlocal fill
        keys = rows.keys(block, space)
        found = fetch(keys, lambda: rows.coords(block))
        if None in found:
            coords = rows.coords(block)
            if not space.read_missing_chunks:
                raise space.missing_error(coords[found.index(None)])
            if fill is None:
                fill = space.empty_chunk(()).tobytes()
            stored = [at for at, data in zip(coords, found, strict=True) if data is not None]
            decoded = iter(decode_all(space, lambda: stored, [d for d in found if d is not None]))
            pieces = [fill if data is None else next(decoded) for data in found]
        else:
            pieces = decode_all(space, lambda: rows.coords(block), found)
        # A chunk of another length would shift its neighbours; decoding has checked each.
        joined = b"".join(pieces)
        assert len(joined) == nbytes * len(keys)
        tiles = rows.tiles[block]
        tiles[...] = np.ndarray(tiles.shape, rows.dtype, joined)

    return read_block


def _row_copier(rows: Rows, chunks: NDArray, places: NDArray) -> Callable[[Block], None]:
    """Return the function for raw chunks: they stand in the rows of `chunks` that `places` says."""
    places = places.reshape(*map(len, rows.starts), len(rows.last))

    def copy_block(block: Block) -> None:
        # Taken as bytes, which may stand anywhere; NumPy would first align other types.
        joined = chunks.take(places[block], 0)
        tiles = rows.tiles[block]
        tiles[...] = joined.view(rows.dtype).reshape(tiles.shape)

    return copy_block


def fetcher(
    space: ChunkSpace,
) -> Callable[[list[Any], Callable[[], list[Coords]]], list[Any]]:
    """Return a function that fetches chunks: it gets keys, and their coordinates for errors.

    Threads take turns at it. A small file is a few system calls of a microsecond each, after which
    a thread waits for the interpreter's lock if others do the same: 1,024 files of 11 kB are read
    and decoded in 0.77 of the time. Where a request turns out to be slow, nobody waits for others.
    """
    get_each: Any = getattr(space.store, "get_each", None)
    if get_each is not None:
        return lambda keys, coords: get_each(keys)
    get = space.store.get
    turn = threading.Lock()
    slow = False

    def fetch(keys: list[Any], coords: Callable[[], list[Coords]]) -> list[Any]:
        nonlocal slow
        found: list[Any] = []
        try:
            if slow:
                found.extend(map(get, keys))  # keeps what came before an error
                return found
            with turn:
                start = time.perf_counter()
                found.extend(map(get, keys))
                slow = time.perf_counter() - start > SLOW_SECONDS * len(keys)
        except OSError as error:
            space.note(error, coords()[len(found)])
            raise
        return found

    return fetch


def decode_all(
    space: ChunkSpace, coords: Callable[[], list[Coords]], found: list[Any]
) -> list[Any]:
    """Return the decoded bytes of chunks, in batches where the codec can.

    `coords` returns the coordinates of the chunks, for errors.
    """
    chain = space.chain
    assert chain is not None
    if chain.raw and set(map(len, found)) == {chain.nbytes}:
        return found
    decode, decode_many = chain.decode_bytes, chain.decode_many
    if decode_many is not None and len(found) > 1:
        try:
            pieces: list[Any] = []
            for start in range(0, len(found), BATCH):
                pieces.extend(decode_many(found[start : start + BATCH]))
            return pieces
        except Exception:  # noqa: BLE001, S110 - decode one by one, to name the chunk that fails
            pass
    pieces = []
    for number, data in enumerate(found):
        try:
            pieces.append(decode(data))
        except Exception as error:
            raise space.decode_error(coords()[number], data, error) from error
    return pieces


_nothing = nullcontext()


def _no_lock(_: Any) -> AbstractContextManager[Any]:
    return _nothing


def row_writer(space: ChunkSpace, rows: Rows) -> Callable[[Block], None]:
    """Return the function that writes a block of rows, each chunk under its lock."""
    chain = space.chain
    assert chain is not None
    nbytes = rows.nbytes
    encode = chain.encode_bytes
    store = space.store
    lock = _no_lock if space.lock_key is None else space.lock
    set_each: Any = getattr(store, "set_each", None)
    fill = None if space.write_empty_chunks else space.empty_chunk(()).tobytes()

    def write_block(block: Block) -> None:
        tiles = rows.tiles[block].astype(rows.dtype, copy=False)
        keys = rows.keys(block, space)
        pieces: list[Any]
        if nbytes <= JOIN_BYTES:
            joined = tiles.tobytes()
            whole = joined if chain.raw else memoryview(joined)  # encoders need no copy
            pieces = [whole[start : start + nbytes] for start in range(0, len(joined), nbytes)]
        else:
            pieces = [tiles[at].tobytes() for at in np.ndindex(tiles.shape[: len(block)])]
        if not chain.raw or fill in pieces:
            for number, data in enumerate(pieces):
                try:
                    pieces[number] = None if data == fill else encode(data)
                except Exception as error:
                    raise space.encode_error(rows.coords(block)[number], error) from error
        if set_each is not None and None not in pieces:
            assert space.lock_key is not None
            joint = key_locks.joint_key_lock(map(space.lock_key, keys))
            if joint is not None:
                with joint:
                    set_each(keys, list(map(bytes, pieces)))
                return
        for number, (name, encoded) in enumerate(zip(keys, pieces, strict=True)):
            with lock(name):
                try:
                    if encoded is None:
                        store.delete(name)
                    else:
                        store.set(name, encoded)
                except OSError as error:
                    space.note(error, rows.coords(block)[number])
                    raise

    return write_block
