"""Stores over a network: what an operation takes when every request has to wait.

Arrays and groups to read are stored by zarr_core, and read by all; the floor is the time that
requests must wait for one another.
"""

from functools import cache, partial
from pathlib import Path
from typing import Any

import services
from peers import PEERS, Layout, Operation, Peer
from rows import WITHOUT_ZARR_2, Row, check, payload

ARRAYS = 500

Work = tuple[Layout, Any] | None
"""An array and what of it, or the group."""


@cache
def stored(where: str, layout: Layout | None) -> Path:
    """Store an array, or the group, once per service; return where."""
    ours, place = PEERS["zarr_core"], Path(f"stored-{abs(hash((where, layout)))}")
    services.wait(where, 0)
    store: Any = services.VALUES.setdefault(place.name, {})
    if where != "LatencyStore":
        # Those of HTTP and of s3fs are on the same server.
        store = ours.store(where if where.startswith("moto") else "S3, obstore", place)
    if layout:
        ours.create(layout, store)[...] = payload(layout)
    else:
        group = ours.library.create_group(store)
        for number in range(ARRAYS):
            group.create_array(f"a{number}", shape=(4,), dtype="int32")
    return place


def read(
    where: str, seconds: float, layout: Layout, selection: Any, peer: Peer, directory: Path
) -> Operation:
    place = stored(where, layout)
    services.wait(where, seconds)
    array = peer.opener(peer.store(where, place), zarr_format=3)()
    operation = peer.reader(array, selection)
    check(operation(), payload(layout)[selection])
    return operation


def write(where: str, seconds: float, layout: Layout, peer: Peer, directory: Path) -> Operation:
    services.wait(where, seconds)
    array, value = peer.create(layout, peer.store(where, directory)), payload(layout)
    operation = peer.writer(array, ..., value)
    operation()
    check(peer.reader(array, ...)(), value)
    return operation


def members(where: str, seconds: float, peer: Peer, directory: Path) -> Operation:
    place = stored(where, None)
    services.wait(where, seconds)
    store = peer.store(where, place)

    def operation() -> list[tuple[str, Any]]:
        return list(peer.library.open_group(store, mode="r", zarr_format=3).members())

    check(sorted(name for name, _ in operation()), sorted(f"a{i}" for i in range(ARRAYS)))
    return operation


CHUNKS_64 = Layout((800, 800), (100, 100), "zstd")
CHUNKS_1000 = Layout((1250, 2000), (50, 50), "zstd")
# Shards of some megabytes: more than what comes with opening one.
SHARDS = Layout((2048, 2048), (64, 64), "zstd", shards=(1024, 1024))
ONE = (slice(64, 128), slice(64, 128))
BAND = (slice(64, 128), slice(None))


def flights(requests: int) -> int:
    return -(-requests // services.IN_FLIGHT)


WORK: list[tuple[str, int, Any, tuple[Any, ...]]] = [
    ("read 64 chunks of 40 kB", 1, read, (CHUNKS_64, ...)),
    ("read 1,000 chunks of 10 kB", flights(1000), read, (CHUNKS_1000, ...)),
    # The index of a shard, then what it says.
    ("read one inner chunk of a shard", 2, read, (SHARDS, ONE)),
    ("read a band through 2 shards", 2, read, (SHARDS, BAND)),
    ("write 64 chunks of 40 kB", 1, write, (CHUNKS_64,)),
    ("write 1,000 chunks of 10 kB", flights(1000), write, (CHUNKS_1000,)),
    # The group, a listing, and a document for each.
    (f"open a group of {ARRAYS}", 2 + flights(ARRAYS), members, ()),
]


def peers_of(where: str, operation: Any) -> tuple[str, ...]:
    """Return who can do it.

    Members have no chunks, and the fused pipeline calls the synchronous methods of stores in memory
    one after the other.
    """
    if operation is members or where == "LatencyStore":
        return WITHOUT_ZARR_2[:2]
    return WITHOUT_ZARR_2 if where in services.SPECS else WITHOUT_ZARR_2[:3]


def rows(where: str, *latencies: int, only: str = "", without: tuple[str, ...] = ()) -> list[Row]:
    """Return the rows of a service at latencies in ms: of the work with a name that begins so."""
    return [
        Row(
            f"{where}: {what}, {ms} ms",
            partial(operation, where, ms / 1000, *args),
            peers_of(where, operation),
            known={f"{waits} × {ms} ms =": waits * ms / 1000} if ms else {},
            in_flight=services.IN_FLIGHT,
        )
        for ms in latencies
        for what, waits, operation, args in WORK
        if what.startswith(only) and not any(word in what for word in without)
    ]


ROWS = {
    "stores": [
        *rows("LatencyStore", 1, 20, 50),
        *rows("S3, obstore", 1, 20, 50),
        # s3fs spends milliseconds on a request: 1,000 take some seconds, and zarr-python 20.
        *rows("S3, s3fs", 1, 20, 50, without=("1,000", "group")),
        *rows("HTTP, obstore", 20, only="read"),
        *rows("HTTP, fsspec", 20, only="read"),
        *rows("moto, obstore", 0, only="read 64"),
    ]
}
