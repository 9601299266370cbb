"""Slow stores: every request waits first, as one to the other side of a network does.

All have the same number of requests in flight. zarr-python waits in its event loop and zarr_core in
threads; a listing takes no time in zarr-python's store, but as long as a request in zarr_core's.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from peers import Layout, Operation, ZarrCore, ZarrPython
from rows import Row, SetUp, check, set_up_read, set_up_write

IN_FLIGHT = 256  # zarr_core's default
ARRAYS = 200


class SlowZarrCore(ZarrCore):
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def store(self, layout: Layout, directory: Path) -> Any:
        from zarr_core.storage import LatencyStore, MemoryStore

        return LatencyStore(MemoryStore(), get_latency=self.seconds, set_latency=self.seconds)

    def members(self, layout: Layout, directory: Path) -> Operation:
        import zarr_core

        store = self.store(layout, directory)
        zarr_core.create_hierarchy(
            store=store,
            nodes={
                f"a{i}": zarr_core.create_array({}, shape=(4,), dtype="int32").metadata
                for i in range(ARRAYS)
            },
        )
        return lambda: list(zarr_core.open_group(store, mode="r", zarr_format=3).members())


class SlowZarrPython(ZarrPython):
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def store(self, layout: Layout, directory: Path) -> Any:
        from zarr.storage import MemoryStore
        from zarr.testing.store import LatencyStore

        return LatencyStore(MemoryStore(), get_latency=self.seconds, set_latency=self.seconds)

    def reader(self, array: Any, selection: Any) -> Operation:
        return many_in_flight(super().reader(array, selection))

    def writer(self, array: Any, selection: Any, value: Any) -> Operation:
        return many_in_flight(super().writer(array, selection, value))

    def members(self, layout: Layout, directory: Path) -> Operation:
        import zarr

        store = self.store(layout, directory)
        group = zarr.create_group(store._store)
        for i in range(ARRAYS):
            group.create_array(f"a{i}", shape=(4,), dtype="int32")

        return many_in_flight(
            lambda: list(zarr.open_group(store, mode="r", zarr_format=3).members())
        )


def many_in_flight(operation: Operation) -> Operation:
    """Return an operation that runs with as many requests in flight as zarr_core has."""
    import zarr

    def run() -> Any:
        with zarr.config.set({"async.concurrency": IN_FLIGHT}):
            return operation()

    return run


SlowPeer = SlowZarrCore | SlowZarrPython


def set_up_members(peer: SlowPeer, layout: Layout, directory: Path) -> Operation:
    members = peer.members(layout, directory)
    check(sorted(name for name, _ in members()), sorted(f"a{i}" for i in range(ARRAYS)))
    return members


def slow(set_up: Any, seconds: float, *args: Any) -> Mapping[str, SetUp]:
    # Not the fused pipeline: it uses synchronous methods, which stores over a network do not have.
    peers = (SlowZarrCore(seconds), SlowZarrPython(seconds))
    return {peer.name: partial(set_up, peer, *args) for peer in peers}


CHUNKS_64 = Layout((800, 800), (100, 100), codec="zstd")
CHUNKS_256 = Layout((1600, 1600), (100, 100), codec="zstd")
SHARDS = Layout((1024, 1024), (32, 32), codec="zstd", shards=(256, 256))
ONE = (slice(64, 96), slice(64, 96))
BAND = (slice(64, 96), slice(None))

ROWS: list[Row] = []

for ms in (1, 20, 50):
    s = ms / 1000
    ROWS += [
        Row(f"read 64 chunks, {ms} ms", slow(set_up_read, s, CHUNKS_64, ...)),
        Row(f"read 256 chunks, {ms} ms", slow(set_up_read, s, CHUNKS_256, ...)),
        Row(f"write 64 chunks, {ms} ms", slow(set_up_write, s, CHUNKS_64, ...)),
        Row(f"write 256 chunks, {ms} ms", slow(set_up_write, s, CHUNKS_256, ...)),
        Row(f"one inner chunk of a shard, {ms} ms", slow(set_up_read, s, SHARDS, ONE)),
        Row(f"a band through 4 shards, {ms} ms", slow(set_up_read, s, SHARDS, BAND)),
        Row(f"open a group and its {ARRAYS} arrays, {ms} ms", slow(set_up_members, s, CHUNKS_64)),
    ]
