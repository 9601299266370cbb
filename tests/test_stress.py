"""Many threads at once, switched as often as possible: results stay those of NumPy.

The lock variants of shared iterators, for a Python without a global lock, go through the same.
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from running import at_once, from_threads

import zarr_core as zarr
from zarr_core import codecs
from zarr_core.chunks.sharding import IndexCache
from zarr_core.storage import LatencyStore, LocalStore, MemoryStore
from zarr_core.storage.base import ValueSnapshot, content_version
from zarr_core.threads import key_locks, pool

THREADS = 8

OPTIONS: dict[str, dict[str, Any]] = {
    "raw": {"compressors": None},
    "zstd": {"compressors": [codecs.ZstdCodec()]},
    "blosc": {"compressors": [codecs.BloscCodec()]},
    "gzip": {"compressors": [codecs.GzipCodec(level=1)]},
    "shards": {"shards": (24, 20), "compressors": [codecs.ZstdCodec()]},
}


pytestmark = pytest.mark.usefixtures("_hasty", "_four_workers")


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return MemoryStore() if request.param == "memory" else LocalStore(tmp_path)


@pytest.fixture(params=["iterators", "locks"])
def _helpers_for_everything(request: pytest.FixtureRequest) -> Iterator[None]:
    """Take every step to be worth a thread, and share work in both ways."""
    with (
        patch.object(pool, "helpers", lambda count, *_: min(3, count - 1)),
        patch.object(pool, "_ITERATORS_ARE_ATOMIC", request.param == "iterators"),
    ):
        yield


def filled(store: Any, **options: Any) -> tuple[zarr.Array, Any]:
    values = np.random.default_rng(0).integers(1, 1000, (48, 40)).astype("i4")
    array = zarr.create_array(store, shape=(48, 40), chunks=(6, 5), dtype="i4", **options)
    array[...] = values
    return array, values


def read_and_compare(array: zarr.Array, values: Any, seed: int, rounds: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(rounds):
        (i, k), (j, m) = np.sort(rng.integers(0, 40, (2, 2)), axis=1).tolist()
        rows, columns = rng.integers(0, 40, (2, 20))
        mask = rng.random(values.shape) < 0.1
        np.testing.assert_array_equal(array[i:k, j:m], values[i:k, j:m])
        np.testing.assert_array_equal(array[i::3, ::-1], values[i::3, ::-1])
        np.testing.assert_array_equal(array.oindex[rows, j], values[rows, j])
        np.testing.assert_array_equal(array.vindex[rows, columns], values[rows, columns])
        np.testing.assert_array_equal(array[mask], values[mask])
        assert array[i, j] == values[i, j]


# --- reads and writes ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OPTIONS)
def test_reads_from_many_threads(store: Any, kind: str) -> None:
    array, values = filled(store, **OPTIONS[kind])
    from_threads(lambda number: read_and_compare(array, values, number, rounds=2), THREADS)


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.usefixtures("_helpers_for_everything")
def test_reads_that_have_helpers_from_many_threads(kind: str) -> None:
    array, values = filled(MemoryStore(), **OPTIONS[kind])
    from_threads(lambda number: read_and_compare(array, values, number, rounds=1), THREADS)


@pytest.mark.parametrize("kind", ["zstd", "shards"])
def test_reads_from_a_slow_store_from_many_threads(kind: str) -> None:
    inner = MemoryStore()
    _, values = filled(inner, **OPTIONS[kind])
    array = zarr.open_array(LatencyStore(inner), mode="r")
    from_threads(lambda number: read_and_compare(array, values, number, rounds=1), THREADS)


@pytest.mark.parametrize("kind", OPTIONS)
def test_no_write_to_a_shared_chunk_is_lost(store: Any, kind: str) -> None:
    array, values = filled(store, **OPTIONS[kind])
    rounds = 3

    def write(number: int) -> None:
        # A handle of its own, and in every chunk a column of its own.
        own = zarr.open_array(array.store, mode="r+")
        for turn in range(1, rounds + 1):
            own[:, number::THREADS] = turn * (number + 1)

    from_threads(write, THREADS)
    for number in range(THREADS):
        values[:, number::THREADS] = rounds * (number + 1)
    np.testing.assert_array_equal(array[...], values)


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.usefixtures("_helpers_for_everything")
def test_no_write_that_has_helpers_is_lost(kind: str) -> None:
    array, values = filled(MemoryStore(), **OPTIONS[kind])

    def write(number: int) -> None:
        for row in range(number, 48, THREADS):
            array[row] = np.arange(40) + row
            np.testing.assert_array_equal(array[row], np.arange(40) + row)

    from_threads(write, THREADS)
    values[...] = np.arange(40) + np.arange(48)[:, None]
    np.testing.assert_array_equal(array[...], values)


@pytest.mark.usefixtures("_helpers_for_everything")
def test_an_error_among_helpers_of_many_threads() -> None:
    array, values = filled(MemoryStore(), compressors=[codecs.ZstdCodec()])
    array.store.set(array._current().space.key((3, 3)), b"damaged")

    def read(number: int) -> None:
        for _ in range(3):
            with pytest.raises(zarr.errors.ChunkDecodeError, match=r"\(3, 3\)"):
                array[...]
            np.testing.assert_array_equal(array[:18], values[:18])

    from_threads(read, THREADS)


def test_writes_kept_in_one_batch() -> None:
    array, values = filled(MemoryStore())
    with array.batch() as batch:

        def write(number: int) -> None:
            for row in range(number, 48, THREADS):
                batch[row] = row

        from_threads(write, THREADS)
    values[...] = np.arange(48)[:, None]
    np.testing.assert_array_equal(array[...], values)


# --- shards that are replaced ------------------------------------------------------------------------


def contents_at(turn: int) -> Any:
    """Return what a shard holds at a turn; every other time it compresses badly."""
    noise = np.random.default_rng(turn).integers(0, 1000, 16) if turn % 2 else 0
    return np.full(16, 1000 * turn, "i4") + noise


class VersionedStore(MemoryStore):
    """Values with a version, as object stores have: what the cache of indexes needs."""

    def open_value(self, key: str) -> ValueSnapshot | None:
        value = self.get(key)
        return None if value is None else ValueSnapshot(value, content_version(value))


@pytest.mark.parametrize("kind", ["versions", "local"])
def test_reads_of_shards_while_others_replace_them(kind: str, tmp_path: Path) -> None:
    # The cache has room for two of four indexes: what is found, kept and dropped changes always.
    array = zarr.create_array(
        VersionedStore() if kind == "versions" else LocalStore(tmp_path),
        shape=(64,),
        chunks=(4,),
        shards=(16,),
        dtype="i4",
        config={"shard_index_cache_bytes": 160},
    )
    turns = 25

    def replace(number: int) -> None:
        for turn in range(1, turns + 1):
            array[16 * number : 16 * number + 16] = contents_at(turn)

    def read(number: int) -> None:
        last = [0] * 4
        for repeat in range(turns):
            shard = (number + repeat // 3) % 4
            found = array[16 * shard + 2 : 16 * shard + 14]
            turn = int(found[0]) // 1000
            np.testing.assert_array_equal(found, contents_at(turn)[2:14])
            assert turn >= last[shard]
            last[shard] = turn

    array[...] = np.tile(contents_at(1), 4)
    at_once(
        *[lambda n=n: replace(n) for n in range(4)],  # type: ignore[misc]
        *[lambda n=n: read(n) for n in range(4)],  # type: ignore[misc]
    )
    np.testing.assert_array_equal(array[...], np.tile(contents_at(turns), 4))


def test_the_cache_of_indexes_counts_its_bytes() -> None:
    class Reader:
        version, size = "1", 100

    cache, reader = IndexCache(1000), Reader()

    def use(number: int) -> None:
        rng = np.random.default_rng(number)
        for key in rng.integers(0, 12, 1500).tolist():
            found = cache.get(key, reader)  # type: ignore[arg-type]
            if found is None:
                cache.put(key, reader, np.full((1 + key, 2), key, "u8"))  # type: ignore[arg-type]
            else:
                assert (found == key).all()

    from_threads(use, THREADS)
    assert 0 < cache._bytes <= 1000
    assert cache._bytes == sum(index.nbytes for _, index in cache._items.values())


# --- metadata ----------------------------------------------------------------------------------------


def test_appends_from_many_handles(store: Any) -> None:
    array = zarr.create_array(store, shape=(0, 4), chunks=(1, 4), dtype="i4")
    turns = 3

    def append(number: int) -> None:
        own = zarr.open_array(array.store, mode="r+")
        for turn in range(turns):
            own.append(np.full((1, 4), 1 + number * turns + turn, "i4"))

    def read() -> None:
        own = zarr.open_array(array.store, mode="r")
        for _ in range(turns):
            rows = own.refresh()[...]
            assert (rows == rows[:, :1]).all()

    at_once(*[lambda n=n: append(n) for n in range(THREADS)], read, read)  # type: ignore[misc]
    found = array.refresh()[...]
    assert sorted(found[:, 0].tolist()) == list(range(1, THREADS * turns + 1))
    assert (found == found[:, :1]).all()


def test_reads_while_the_array_is_resized() -> None:
    array = zarr.create_array(MemoryStore(), shape=(40,), chunks=(3,), dtype="i4")
    values = np.arange(1, 41, dtype="i4")
    array[...] = values
    ended = threading.Event()

    def resize() -> None:
        try:
            for length in (20, 40, 11, 33, 20, 38, 10, 40):
                array.resize((length,))
        finally:
            ended.set()

    def read() -> None:
        while not ended.is_set():
            found = array[...]  # of one shape, although another may have been set meanwhile
            assert 10 <= len(found) <= 40
            np.testing.assert_array_equal(found[:10], values[:10])
            rest = found[10:]
            assert ((rest == values[10 : len(found)]) | (rest == 0)).all()

    at_once(resize, *[read] * (THREADS - 1))
    np.testing.assert_array_equal(array[...], [*range(1, 11), *[0] * 30])


def test_no_attribute_and_no_member_is_lost(store: Any) -> None:
    group = zarr.create_group(store)

    def change(number: int) -> None:
        own = zarr.open_group(group.store, mode="r+")
        own.attrs[f"a{number}"] = number
        own.create_array(f"m{number}", shape=(3,), dtype="i4")[...] = number

    from_threads(change, THREADS)
    found = zarr.open_group(group.store, mode="r")
    assert dict(found.attrs) == {f"a{number}": number for number in range(THREADS)}
    for number in range(THREADS):
        np.testing.assert_array_equal(found[f"m{number}"][...], [number] * 3)


# --- locks of keys -----------------------------------------------------------------------------------


def test_key_locks_while_the_table_is_cleaned_always(monkeypatch: pytest.MonkeyPatch) -> None:
    table = key_locks._Table()
    monkeypatch.setattr(key_locks, "_table", table)
    counts = dict.fromkeys(range(5), 0)
    turns = 400

    def count(number: int) -> None:
        for turn in range(turns):
            table.limit = 1
            key = (number + turn) % 5
            with key_locks.key_lock(key):
                old = counts[key]
                if not turn % 16:
                    threading.Event().wait(1e-6)
                counts[key] = old + 1

    from_threads(count, THREADS)
    assert sum(counts.values()) == THREADS * turns
    table.forget()
    assert not table.locks


def test_one_batch_in_many_threads() -> None:
    """Reads through a batch go over what others are writing to it."""
    expected = np.arange(64 * 64).reshape(64, 64) // 4 * 4
    for _ in range(15):
        array = zarr.create_array({}, shape=(64, 64), chunks=(4, 4), shards=(16, 16), dtype="int32")
        with array.batch() as batch:

            def write(first: int, batch: Any = batch) -> None:
                for i in range(first, 64, THREADS):
                    for j in range(0, 64, 4):
                        batch[i, j : j + 4] = i * 64 + j
                    assert batch[i, 5] == i * 64 + 4

            from_threads(write, THREADS)
        np.testing.assert_array_equal(array[...], expected)
