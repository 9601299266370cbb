"""Reading: what one call costs, what one chunk costs, what a byte costs, and reads from threads."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from peers import PEERS, Layout, Operation, Peer
from rows import Row, bare_codec, budget, check, memcpy, payload, read_files, read_row

ROWS: list[Row] = []

CALLERS = 4


def files(where: str, number: int, nbytes: int) -> dict[str, Any]:
    """Return the floor that only arrays in files have."""
    return {"open,_read,_close": read_files(number, nbytes)} if where == "local" else {}


# --- from several threads of the caller --------------------------------------------------------------


def set_up_callers(peer: Peer, layout: Layout, directory: Path) -> Operation:
    """Read every chunk with a call of its own, from four threads of the caller."""
    values = payload(layout)
    array = peer.create(layout, directory)
    peer.writer(array, ..., values)()
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


def set_up_dask(peer: Peer, layout: Layout, directory: Path) -> Operation:
    import dask.array

    values = payload(layout)
    array = peer.create(layout, directory)
    peer.writer(array, ..., values)()
    source = ForDask(peer, array, layout)
    from_array: Any = dask.array.from_array
    total = from_array(source, chunks=layout.chunks, name=False).sum(dtype="f8")
    operation = partial(total.compute, scheduler="threads", num_workers=budget.threads)
    if not np.isclose(operation(), values.sum(dtype="f8")):
        raise AssertionError("the sum is wrong: nothing to time here")
    return operation


# --- the rows ----------------------------------------------------------------------------------------

for where in ("memory", "local"):
    one = Layout((50, 100), (50, 100), where=where)
    file = files(where, 1, 20_000)
    ROWS += [
        read_row(f"one raw chunk of 20 kB, {where}", one, memcpy=memcpy(one), **file),
        read_row(f"one element of it, {where}", one, (3, 4), memcpy=memcpy(one, (3, 4)), **file),
    ]

    small = Layout((100, 100), (10, 10), where=where)
    floors = {"memcpy": memcpy(small), **files(where, 100, 400)}
    ROWS.append(read_row(f"100 raw chunks of 400 B, {where}", small, **floors))

    # https://github.com/zarr-developers/zarr-python/issues/3524
    steps = Layout((60632, 4, 1, 10), (15158, 1, 1, 5), "float64", where=where)
    every = slice(None, None, 6063)
    floors = {"memcpy": memcpy(steps, every), **files(where, 32, 8 * 15158 * 5)}
    ROWS.append(read_row(f"a[::step], 32 raw chunks, {where}", steps, every, **floors))

    for codec in ("raw", "zstd", "blosc", "gzip"):
        large = Layout((2048, 2048), (256, 256), codec=codec, where=where)
        floors = {"bare_codec": bare_codec(large, decode=True)}
        if codec == "raw":
            floors = {"memcpy": memcpy(large), **files(where, 64, 4 * 256 * 256)}
        ROWS.append(read_row(f"16 MB, 64 {codec} chunks, {where}", large, **floors))

    tiles = Layout((2048, 2048), (64, 64), codec="zstd", where=where)
    floors = {"bare_codec": bare_codec(tiles, decode=True), **files(where, 1024, 8_000)}
    ROWS.append(read_row(f"16 MB, 1,024 zstd chunks, {where}", tiles, **floors))

    pieces = Layout((400, 800), (50, 100), where=where)
    callers = {name: partial(set_up_callers, peer, pieces) for name, peer in PEERS.items()}
    floors = {"memcpy": memcpy(pieces)}
    if where == "local":
        floors["open, read, close"] = read_files(64, 20_000)
    ROWS.append(Row(f"64 reads of a 20 kB chunk from 4 threads, {where}", callers, floors))

    large = Layout((2048, 2048), (256, 256), codec="zstd", where=where)
    dask_rows = {name: partial(set_up_dask, peer, large) for name, peer in PEERS.items()}
    floors = {"bare codec": bare_codec(large, decode=True)}
    ROWS.append(Row(f"dask: sum of 16 MB, 64 zstd chunks, {where}", dask_rows, floors))
