"""How many requests operations make: what the table in docs/stores.md says."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zarr_core
from zarr_core.storage import (
    ByteRequest,
    LatencyStore,
    LoggingStore,
    MemoryStore,
    OpenValue,
    Request,
    Store,
    Value,
    WrapperStore,
)

DATA = np.arange(1, 65, dtype="int32").reshape(8, 8)


class _CountedValue:
    def __init__(self, opened: OpenValue, reads: list[ByteRequest | None]) -> None:
        self._opened, self._reads = opened, reads
        self.size, self.version = opened.size, opened.version

    def read(self, byte_range: ByteRequest | None = None) -> Value:
        self._reads.append(byte_range)
        return self._opened.read(byte_range)

    def close(self) -> None:
        self._opened.close()


class CountingReads(WrapperStore[Store]):
    """Also counts the reads of opened values."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.reads: list[ByteRequest | None] = []

    def open_value(self, key: str) -> OpenValue | None:
        opened = super().open_value(key)
        return None if opened is None else _CountedValue(opened, self.reads)


class Place:
    """A slow store with an array, a sharded one and three more, and what is asked of it."""

    def __init__(self, zarr_format: Any) -> None:
        self.counting = CountingReads(LatencyStore(MemoryStore()))
        self.store = LoggingStore(self.counting)
        self.group = zarr_core.create_group(self.store, zarr_format=zarr_format)
        kwargs: dict[str, Any] = {"shape": (8, 8), "chunks": (2, 2), "dtype": "int32"}
        self.plain = self.group.create_array("plain", **kwargs)
        self.plain[:] = DATA
        if zarr_format == 3:
            self.sharded = self.group.create_array("sharded", **kwargs, shards=(4, 4))
            self.sharded[:] = DATA
        for name in "xyz":
            self.group.create_array(name, shape=(1,), dtype="int32")

    def asked(self, operation: Callable[[], Any]) -> tuple[Counter[str], Counter[str]]:
        """Return calls by method, and keys by `*_many` method, of an operation."""
        self.store.counter.clear()
        self.store.items.clear()
        self.counting.reads.clear()
        operation()
        return self.store.counter, self.store.items


@pytest.fixture
def place(zarr_format: Any) -> Place:
    return Place(zarr_format)


def test_opening(place: Place, zarr_format: Any) -> None:
    known = {"mode": "r", "zarr_format": zarr_format}
    documents = {3: 1, 2: 3}[zarr_format]
    calls, keys = place.asked(lambda: zarr_core.open_array(place.store, path="plain", **known))
    assert calls == {"get_many": 1}
    assert keys == {"get_many": documents}
    calls, keys = place.asked(lambda: zarr_core.open_array(place.store, path="plain", mode="r"))
    assert calls == {"get_many": 1}
    assert keys == {"get_many": 4}
    calls, keys = place.asked(lambda: place.group["plain"])
    assert calls == {"get_many": 1}
    assert keys == {"get_many": documents}


def test_reading_and_writing_chunks(place: Place) -> None:
    array = place.plain
    assert place.asked(lambda: array[:]) == ({"get_many": 1}, {"get_many": 16})
    assert place.asked(lambda: array[0:2, 2:4]) == ({"get": 1}, {})
    assert place.asked(lambda: array[1:3, 0]) == ({"get_many": 1}, {"get_many": 2})
    assert place.asked(lambda: array.__setitem__(..., DATA)) == ({"set": 16}, {})
    parts = place.asked(lambda: array.__setitem__((slice(1, 3), 0), 1))
    assert parts == ({"get": 2, "set": 2}, {})


def test_shards() -> None:
    place = Place(3)
    array = place.sharded
    assert place.asked(lambda: array[:]) == ({"get": 4}, {})
    # The end of a remote object, with the index, comes with opening it.
    assert place.asked(lambda: array[0:2, 0:2]) == ({"open_value": 1}, {})
    assert len(place.counting.reads) == 2  # the index, and neighbouring chunks as one
    assert place.asked(lambda: array[:, 0:2]) == ({"open_value": 2}, {})
    assert len(place.counting.reads) == 4
    assert place.asked(lambda: array.__setitem__(..., DATA)) == ({"set": 4}, {})
    assert place.asked(lambda: array.__setitem__((0, 0), 9)) == ({"get": 1, "set": 1}, {})
    cached = array.with_config({"shard_index_cache_bytes": 1 << 20})
    cached[0, 0]
    calls, _ = place.asked(lambda: cached[0, 0])
    assert calls == {"open_value": 1}


def test_groups(place: Place, zarr_format: Any) -> None:
    members = 5 if zarr_format == 3 else 4
    documents = {3: 1, 2: 3}[zarr_format]
    for operation in (
        lambda: list(place.group.members()),
        lambda: list(place.group.members(max_depth=None)),
        lambda: list(place.group.arrays()),
        place.group.tree,
    ):
        calls, keys = place.asked(operation)
        assert calls == {"list_dir": 1, "get_many": 1}
        assert keys == {"get_many": members * documents}


@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
def test_consolidated_metadata(place: Place, zarr_format: Any) -> None:
    zarr_core.consolidate_metadata(place.store, zarr_format=zarr_format)
    group = zarr_core.open_group(place.store, mode="r", zarr_format=zarr_format)
    calls, keys = place.asked(lambda: [list(group.members()), group["plain"], list(group.keys())])
    assert calls == {}
    assert keys == {}


def test_a_lock_reads_every_chunk() -> None:
    place = Place(3)
    array = place.plain.with_config({"lock": True})
    calls, _ = place.asked(lambda: array.__setitem__(..., DATA))
    assert calls == {"get_versioned": 16, "set_if_version": 16}


def test_overlapping_requests_are_counted_one_by_one() -> None:
    """What `get_many` asks for is what the store under it is asked for."""
    store = MemoryStore({"a": b"1", "b": b"2"})
    inner = LoggingStore(store)
    slow = LatencyStore(inner)
    found = sorted(r.index for r in slow.get_many(Request(key) for key in ("a", "b", "c")))
    assert found == [0, 1, 2]
    assert inner.counter == {"get": 3}


def test_consolidated_metadata_of_format_2_is_asked_for_with_the_documents() -> None:
    values: dict[str, Any] = {}
    group = zarr_core.create_group(values, zarr_format=2)
    group.create_array("a", shape=3, dtype="i4")
    zarr_core.consolidate_metadata(values)
    log = LoggingStore(LatencyStore(MemoryStore(values)))
    assert list(zarr_core.open_group(log, mode="r").array_keys()) == ["a"]
    assert log.counter == {"get_many": 1}
