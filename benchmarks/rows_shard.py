"""Shards: whole arrays, single inner chunks and rows of them, single elements, and many writes."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from peers import PEERS, Layout, Operation, Peer
from rows import Row, check, read_row, write_row

ROWS: list[Row] = []

ONE_CHUNK = (slice(64, 128), slice(64, 128))
ONE_ROW = (slice(64, 128), slice(None))
ONE_ELEMENT = (slice(5, 6), slice(6, 7), slice(7, 8))
WRITES = 32


def in_a_batch(peer: Peer, array: Any, write: Callable[[Any], None]) -> Operation:
    """Return a function that stores many writes together, where a peer can do that."""
    if peer.name == "zarr_core":

        def batch() -> None:
            with array.batch() as together:
                write(together)

        return batch
    if peer.name == "tensorstore":
        import tensorstore

        def transaction() -> None:
            with tensorstore.Transaction() as together:
                write(array.with_transaction(together))

        return transaction
    return lambda: write(array)


def set_up_batch(peer: Peer, layout: Layout, directory: Path) -> Operation:
    array = peer.create(layout, directory)
    expected = np.ones(layout.shape, layout.dtype)
    peer.writer(array, ..., expected)()

    def write(handle: Any) -> None:
        for number in range(WRITES):
            handle[number, number : number + 4] = 5

    for number in range(WRITES):
        expected[number, number : number + 4] = 5
    operation = in_a_batch(peer, array, write)
    operation()
    check(peer.reader(array, ...)(), expected)
    return operation


for where in ("memory", "local"):
    for codec in ("zstd", "raw"):
        # 16 MB: four shards of 256 inner chunks of 16 kB.
        layout = Layout((2048, 2048), (64, 64), codec=codec, where=where, shards=(1024, 1024))
        chunks = f"{codec} chunks, {where}"
        ROWS += [
            read_row(f"16 MB, 4 shards of 256 {chunks}", layout),
            write_row(f"write 16 MB, 4 shards of 256 {chunks}", layout),
            read_row(f"one inner chunk of 256 {chunks}", layout, ONE_CHUNK),
            read_row(f"a row of inner chunks, 2 shards of 256 {chunks}", layout, ONE_ROW),
            write_row(f"write one inner chunk of 256 {chunks}", layout, ONE_CHUNK),
        ]
    # https://github.com/zarr-developers/zarr-python/issues/3712
    tiny = Layout((32, 32, 32), (1, 1, 1), where=where, shards=(32, 32, 32))
    ROWS += [
        write_row(f"write one of 32,768 inner chunks, {where}", tiny, ONE_ELEMENT),
        read_row(f"one of 32,768 inner chunks, {where}", tiny, ONE_ELEMENT),
    ]
    small = Layout((256, 256), (16, 16), codec="zstd", where=where, shards=(256, 256))
    setups = {name: partial(set_up_batch, p, small) for name, p in PEERS.items() if p.shards}
    ROWS.append(Row(f"{WRITES} writes into a shard, together where possible, {where}", setups))
