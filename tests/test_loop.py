"""Chunks that others replace while they are read, and change while they are written."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_core
from zarr_core.errors import ConflictError, ValueChangedError
from zarr_core.storage import (
    ByteRequest,
    LatencyStore,
    LocalStore,
    LoggingStore,
    MemoryStore,
    OpenValue,
    Store,
    Value,
    ValueSnapshot,
    Writable,
    content_version,
)

SHARDED = {"shape": (8,), "chunks": (2,), "shards": (8,), "dtype": "int32"}


# --- replaced while they are read ----------------------------------------------------------------


class Replaced(MemoryStore):
    """Replaces a value after it was opened and its index was read, a number of times."""

    def __init__(self, store_dict: Any = None, *, read_only: bool = False) -> None:
        super().__init__(store_dict, read_only=read_only)
        self.opened = 0
        self.replacements: list[bytes | None] = []

    def open_value(self, key: str) -> OpenValue | None:
        value = self.get(key)
        if value is None:
            return None
        self.opened += 1
        return _Watched(self, key, value)


class _Watched:
    """Not known to be in memory, as the snapshots of a slow store."""

    def __init__(self, store: Replaced, key: str, value: Value) -> None:
        self._value = ValueSnapshot(value)
        self.size: int | None = len(value)
        self.version: str | None = content_version(value)
        self._store, self._key, self._reads = store, key, 0

    def read(self, byte_range: ByteRequest | None = None) -> Value:
        self._reads += 1
        if self._reads == 2 and self._store.replacements:
            new = self._store.replacements.pop(0)
            if new is None:
                self._store.delete(self._key)
            else:
                self._store.set(self._key, new)
            raise ValueChangedError(f"{self._key!r} was replaced while it was read")
        return self._value.read(byte_range)

    def close(self) -> None:
        pass


def encoded_shards(count: int) -> list[bytes]:
    """Return encoded shards full of 1, 2, ..."""
    store: dict[str, bytes] = {}
    array = zarr_core.create_array(store, **SHARDED)
    shards = []
    for number in range(1, count + 1):
        array[:] = number
        shards.append(store["c/0"])
    return shards


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("cached", [0, 1 << 20])
def test_a_shard_that_is_replaced_is_read_again(times: int, cached: int) -> None:
    store = Replaced()
    config = {"shard_index_cache_bytes": cached}
    array = zarr_core.create_array(store, **SHARDED, config=config)
    array[:] = 9
    store.replacements = list(encoded_shards(times))
    # Nothing of an older shard is in the result.
    assert array[3:7].tolist() == [times] * 4
    assert store.opened == times + 1
    assert store.replacements == []


def test_a_shard_that_is_deleted_while_it_is_read_is_fill_values() -> None:
    store = Replaced()
    array = zarr_core.create_array(store, **SHARDED, fill_value=5)
    array[:] = 9
    store.replacements = [None]
    assert array[3:7].tolist() == [5] * 4


def test_a_shard_that_is_replaced_again_and_again_is_an_error() -> None:
    store = Replaced()
    array = zarr_core.create_array(store, **SHARDED)
    array[:] = 9
    store.replacements = encoded_shards(5)
    with pytest.raises(ValueChangedError, match="replaced while it was read"):
        array[3:7]
    assert store.opened == 5
    assert array[3:7].tolist() == [5] * 4


def test_shards_in_shards_are_opened_again_as_a_whole() -> None:
    store = Replaced()
    inner = zarr_core.codecs.ShardingCodec(chunk_shape=(2,))
    outer = zarr_core.codecs.ShardingCodec(chunk_shape=(4,), codecs=(inner,))
    array = zarr_core.create_array(
        store, shape=(8,), chunks=(8,), dtype="int32", serializer=outer, compressors=None
    )
    array[:] = 7
    new = store.get("c/0")
    array[:] = 9
    store.replacements = [bytes(new or b"")]
    assert array[3:5].tolist() == [7, 7]
    assert store.opened == 2


# --- changed while they are written --------------------------------------------------------------


LAYOUTS: dict[str, dict[str, Any]] = {
    "chunk": {"shape": (8,), "chunks": (8,)},
    "shard": {"shape": (8,), "chunks": (2,), "shards": (8,)},
    "uncompressed": {"shape": (8,), "chunks": (8,), "compressors": None},
    "format 2": {"shape": (8,), "chunks": (8,), "zarr_format": 2},
}


def increment(path: str, part: slice, count: int, start: Any) -> None:
    array = zarr_core.open_array(LocalStore(path), mode="r+", config={"lock": True})
    start.wait(60)
    for _ in range(count):
        array[part] = array[part] + 1


def increment_in_batches(path: str, part: slice, count: int, start: Any) -> None:
    array = zarr_core.open_array(LocalStore(path), mode="r+", config={"lock": True})
    start.wait(60)
    for _ in range(count):
        with array.batch() as batch:
            batch[part] = batch[part] + 1


@pytest.mark.parametrize("layout", ["chunk", "shard"])
@pytest.mark.parametrize("work", [increment, increment_in_batches])
def test_processes_lose_nothing(layout: str, work: Callable[..., None], tmp_path: Path) -> None:
    array = zarr_core.create_array(tmp_path, **LAYOUTS[layout], dtype="int32")
    array[:] = 100
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(2)
    processes = [
        spawn.Process(target=work, args=(str(tmp_path), part, 150, start))
        for part in (slice(0, 4), slice(4, 8))
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
        assert process.exitcode == 0
    assert array[:].tolist() == [250] * 8


class Rival(MemoryStore):
    """Somebody else changes a chunk between a read and the write that follows, some times."""

    def __init__(self, store_dict: Any = None, *, read_only: bool = False) -> None:
        super().__init__(store_dict, read_only=read_only)
        self.rival: Callable[[], None] | None = None
        self.times = 0

    def set_if_version(self, key: str, value: Writable, version: str | None) -> bool:
        if self.rival is not None and self.times:
            self.times -= 1
            self.rival()
        return super().set_if_version(key, value, version)


class Elsewhere(MemoryStore):
    """The same place as another process sees it: locks of this one mean nothing to it."""

    def lock_key(self, key: str) -> Any:
        return ("elsewhere", key)


def with_rival(**kwargs: Any) -> tuple[Rival, Any, Any]:
    """Return a store, an array that locks, and another handle on the same array."""
    store = Rival()
    kwargs.setdefault("dtype", "int32")
    array = zarr_core.create_array(store, **kwargs, config={"lock": True})
    return store, array, zarr_core.open_array(Elsewhere(store._store_dict), mode="r+")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_others_write_meanwhile_stays(layout: str) -> None:
    store, array, other = with_rival(**LAYOUTS[layout])
    array[:] = 1

    def rival() -> None:
        other[4 + store.times] = 7

    store.rival, store.times = rival, 3
    array[1:3] = 5
    assert array[:].tolist() == [1, 5, 5, 1, 7, 7, 7, 1]
    store.times = 1
    with array.batch() as batch:
        batch[0] = 8
        batch[7] = 8
    assert store.times == 0
    assert array[:].tolist() == [8, 5, 5, 1, 7, 7, 7, 8]


def test_a_chunk_that_appears_meanwhile_stays() -> None:
    store, array, other = with_rival(**LAYOUTS["chunk"])
    store.rival, store.times = lambda: other.__setitem__(7, 3), 1
    array[0] = 1
    assert array[:].tolist() == [1, 0, 0, 0, 0, 0, 0, 3]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fill_values_are_stored_where_a_chunk_was(layout: str) -> None:
    """Deleting has no condition: it could remove what somebody else has just written."""
    store, array, other = with_rival(**LAYOUTS[layout])
    array[:] = 0
    key = "0" if layout == "format 2" else "c/0"
    assert not store.exists(key)  # nothing to store, nothing stored
    array[:4] = 1
    store.rival, store.times = lambda: other.__setitem__(7, 3), 1
    array[:4] = 0
    assert array[:].tolist() == [0, 0, 0, 0, 0, 0, 0, 3]
    array[7] = 0
    assert array[:].tolist() == [0] * 8
    assert store.exists(key)


@pytest.mark.parametrize("value", [np.arange(16, dtype="int32"), 4])
def test_many_chunks_with_a_lock(value: Any) -> None:
    store = LoggingStore(MemoryStore())
    kwargs: dict[str, Any] = {"shape": (16,), "chunks": (2,), "dtype": "int32", "compressors": None}
    array = zarr_core.create_array(store, **kwargs, config={"lock": True})
    store.counter.clear()
    array[:] = value
    assert (array[:] == value).all()
    assert store.counter["set"] == store.counter["delete"] == 0
    assert store.counter["set_if_version"] >= 7  # the first may be all fill values


def test_a_slow_store_with_a_lock() -> None:
    store = LatencyStore(MemoryStore(), get_latency=0.001, set_latency=0.001)
    array = zarr_core.create_array(
        store, shape=(64,), chunks=(2,), dtype="int32", config={"lock": True}
    )
    array[1:63] = np.arange(62)
    assert array[1:63].tolist() == list(range(62))


def test_resizing_with_a_lock() -> None:
    array = zarr_core.create_array(
        MemoryStore(), shape=(8,), chunks=(4,), dtype="int32", config={"lock": True}
    )
    array[:] = 1
    array.resize((2,))
    array.resize((8,))
    assert array[:].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


def test_rivals_that_never_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarr_core.chunks.loop.WRITE_ATTEMPTS", 3)
    store, array, other = with_rival(**LAYOUTS["chunk"])
    array[:] = 1
    store.rival, store.times = lambda: other.__setitem__(7, 10 + store.times), 3
    with pytest.raises(ConflictError, match=r"chunk \(0,\) of array '/', key 'c/0'"):
        array[0] = 2
    assert array[:].tolist() == [1, 1, 1, 1, 1, 1, 1, 10]


class Plain(Store):
    """Has no conditional writes of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.values = MemoryStore()

    def get(self, key: str, byte_range: ByteRequest | None = None) -> Value | None:
        return self.values.get(key, byte_range)

    def set(self, key: str, value: Writable) -> None:
        self.values.set(key, value)

    def delete(self, key: str) -> None:
        self.values.delete(key)

    def list_prefix(self, prefix: str) -> Any:
        return self.values.list_prefix(prefix)

    def list_dir(self, prefix: str) -> Any:
        return self.values.list_dir(prefix)

    def with_read_only(self, read_only: bool = False) -> Any:
        return self


def test_a_store_without_conditional_writes_is_refused() -> None:
    store = Plain()
    array = zarr_core.create_array(store, shape=(4,), dtype="int32")
    array[:] = 1
    locking = array.with_config({"lock": True})
    assert locking[:].tolist() == [1] * 4
    for wrapped in (locking, zarr_core.open_array(LoggingStore(store), config={"lock": True})):
        with pytest.raises(ValueError, match="lock=True needs a store"):
            wrapped[0] = 2
    assert array[:].tolist() == [1] * 4


def test_a_lock_can_be_set_for_the_process() -> None:
    with zarr_core.config.set({"array.lock": True}):
        assert zarr_core.create_array({}, shape=(4,), dtype="int32").config.lock
    assert not zarr_core.create_array({}, shape=(4,), dtype="int32").config.lock
