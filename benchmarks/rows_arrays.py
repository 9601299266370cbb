"""Reading, writing and opening arrays: what a call, a chunk and a byte cost; selections, shards."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from peers import Layout, Operation, Peer
from rows import ARRAYS, Row, budget, check, filled, floors, open_array, read, row, write

CALLERS = 4
WRITES = 32
RNG = np.random.default_rng(0)
ALL = slice(None)


def from_callers(layout: Layout, peer: Peer, directory: Path) -> Operation:
    """Read every chunk with a call of its own, from four threads of the caller."""
    array, values = filled(peer, layout, directory)
    rows, columns = layout.chunks
    places = [
        (slice(i, i + rows), slice(j, j + columns))
        for i in range(0, layout.shape[0], rows)
        for j in range(0, layout.shape[1], columns)
    ]
    readers = [peer.reader(array, place) for place in places]
    pool = ThreadPoolExecutor(CALLERS)

    def share(start: int) -> list[Any]:
        return [read() for read in readers[start::CALLERS]]

    for start in range(CALLERS):
        for place, found in zip(places[start::CALLERS], share(start), strict=True):
            check(found, values[place])
    return lambda: list(pool.map(share, range(CALLERS)))


class ForDask:
    """An array as dask wants it: with NumPy's data type, and NumPy arrays from `[...]`."""

    def __init__(self, peer: Peer, array: Any, layout: Layout) -> None:
        self.shape, self.dtype, self.ndim = layout.shape, np.dtype(layout.dtype), len(layout.shape)
        self._peer, self._array = peer, array

    def __getitem__(self, selection: Any) -> Any:
        return self._peer.reader(self._array, selection)()


def dask_sum(layout: Layout, peer: Peer, directory: Path) -> Operation:
    import dask.array

    array, values = filled(peer, layout, directory)
    from_array: Any = dask.array.from_array
    source = from_array(ForDask(peer, array, layout), chunks=layout.chunks, name=False)
    total = source.sum(dtype="f8")
    operation = partial(total.compute, scheduler="threads", num_workers=budget.threads)
    if not np.isclose(operation(), values.sum(dtype="f8")):
        raise AssertionError("the sum is wrong: nothing to time here")
    return operation


def writes_together(layout: Layout, peer: Peer, directory: Path) -> Operation:
    """Store many writes together, where a peer can do that."""
    array = peer.create(layout, peer.store(layout.where, directory))
    expected = np.ones(layout.shape, layout.dtype)
    peer.writer(array, ..., expected)()

    def write(handle: Any) -> None:
        for number in range(WRITES):
            handle[number, number : number + 4] = 5

    def together() -> None:
        if peer.module == "zarr_core":
            with array.batch() as batch:
                write(batch)
        elif peer.name == "tensorstore":
            with peer.library.Transaction() as transaction:
                write(array.with_transaction(transaction))
        else:
            write(array)

    together()
    write(expected)
    check(peer.reader(array, ...)(), expected)
    return together


SQUARE = (2048, 2048)
SOME_ROWS = np.sort(RNG.choice(2048, 100, replace=False)), ALL
MASK = RNG.random(SQUARE) < 0.01
ROW_OF_CHUNKS = (slice(64, 128), ALL)
EVERY = {n: slice(None, None, n) for n in (100, 6063)}


def points(count: int) -> tuple[Any, Any]:
    return RNG.integers(0, 2048, count), RNG.integers(0, 2048, count)


ROWS: dict[str, list[Row]] = {group: [] for group in ARRAYS}

for where in ("memory", "local"):
    one = Layout((50, 100), (50, 100), where=where)
    small = Layout((100, 100), (10, 10), where=where)
    pieces = Layout((400, 800), (50, 100), where=where)
    # https://github.com/zarr-developers/zarr-python/issues/3524
    steps = Layout((60632, 4, 1, 10), (15158, 1, 1, 5), where=where, dtype="float64")
    tiles = Layout(SQUARE, (64, 64), "zstd", where)
    large = {c: Layout(SQUARE, (256, 256), c, where) for c in ("raw", "zstd", "blosc", "gzip")}

    reads: list[tuple[str, Layout, Any, int]] = [
        ("one raw chunk of 20 kB", one, ..., 0),
        ("one element of it", one, (3, 4), 0),
        ("100 raw chunks of 400 B", small, ..., 0),
        ("a[::step], 32 raw chunks", steps, EVERY[6063], 0),
        *((f"16 MB, 64 {codec} chunks", layout, ..., 0) for codec, layout in large.items()),
        ("16 MB, 1,024 zstd chunks", tiles, ..., 8_000),
    ]
    # The part of a chunk is read, changed and stored: the floor is that of the chunk.
    writes = [r for r in reads if r[1] is not steps]
    writes[1] = ("one row of it", one, (slice(3, 4), ALL), 0)
    for verb, operation, listed in (("read", read, reads), ("write", write, writes)):
        for name, layout, at, nbytes in listed:
            under = floors(layout, verb, at if verb == "read" else ..., nbytes)
            ROWS[verb].append(row(f"{name}, {where}", operation, layout, at, floors=under))
    callers = f"64 reads of a 20 kB chunk from {CALLERS} threads, {where}"
    total = f"dask: sum of 16 MB, 64 zstd chunks, {where}"
    ROWS["read"] += [
        row(callers, from_callers, pieces, floors=floors(pieces)),
        row(total, dask_sum, large["zstd"], floors=floors(large["zstd"])),
    ]

    ROWS["open"].append(
        row(f"open an array, {where}", open_array, Layout((100, 100), (10, 10), "zstd", where))
    )

    selections: list[tuple[str, str, Any]] = [
        ("one column through 8 raw chunks", "", (ALL, 7)),
        ("every 100th row and column", "", (EVERY[100], EVERY[100])),
        ("oindex: 100 of 2,048 rows", "oindex", SOME_ROWS),
        ("vindex: 1,000 points", "vindex", points(1_000)),
        ("vindex: 100,000 points", "vindex", points(100_000)),
        ("mask: 1 % of 4 million elements", "vindex", MASK),
    ]
    ROWS["indexing"] += [
        row(f"{name}, {where}", partial(read, view=view), large["raw"], at)
        for name, view, at in selections
    ]

    for codec in ("zstd", "raw"):
        # 16 MB: four shards of 256 inner chunks of 16 kB.
        sharded = Layout(SQUARE, (64, 64), codec, where, shards=(1024, 1024))
        one_chunk, chunks = (slice(64, 128),) * 2, f"256 {codec} chunks, {where}"
        ROWS["shard"] += [
            row(f"16 MB, 4 shards of {chunks}", read, sharded, ...),
            row(f"write 16 MB, 4 shards of {chunks}", write, sharded, ...),
            row(f"one inner chunk of {chunks}", read, sharded, one_chunk),
            row(f"a row of inner chunks, 2 shards of {chunks}", read, sharded, ROW_OF_CHUNKS),
            row(f"write one inner chunk of {chunks}", write, sharded, one_chunk),
        ]
    # https://github.com/zarr-developers/zarr-python/issues/3712
    tiny = Layout((32, 32, 32), (1, 1, 1), where=where, shards=(32, 32, 32))
    element = (slice(5, 6), slice(6, 7), slice(7, 8))
    batch = Layout((256, 256), (16, 16), "zstd", where, shards=(256, 256))
    ROWS["shard"] += [
        row(f"write one of 32,768 inner chunks, {where}", write, tiny, element),
        row(f"one of 32,768 inner chunks, {where}", read, tiny, element),
        row(
            f"{WRITES} writes into a shard, together where possible, {where}",
            writes_together,
            batch,
        ),
    ]
