"""`ChunkCache`: what is decoded once, how much is kept, and that nothing old is shown."""

import gc
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import at_once, from_threads, in_new_interpreter
from strategies import picked, selections

import zarr_core as zarr
from zarr_core.codecs import ShardingCodec, TransposeCodec, ZstdCodec
from zarr_core.config import BadConfigError
from zarr_core.errors import ChunkDecodeError, ChunkNotFoundError
from zarr_core.storage import LatencyStore, LocalStore, LoggingStore, MemoryStore
from zarr_core.storage.base import Store, ValueSnapshot, content_version
from zarr_core.threads import key_locks

SHAPE = (9, 5)
EDGES = [(6, 6), (4, 4)]

LAYOUTS: list[dict[str, Any]] = [
    {"chunks": (6, 4)},
    {"chunks": (6, 4), "compressors": None},
    {"chunks": (6, 4), "zarr_format": 2, "order": "F"},
    {"chunks": (6, 4), "dtype": str, "fill_value": "-"},
    {"chunks": [[6, 3], [4, 1]]},
    {"chunks": (3, 2), "shards": (6, 4)},
    {"chunks": (3, 2), "shards": (6, 4), "compressors": None},
    {"chunks": (3, 1), "shards": [[6, 3], [4, 1]]},
    {
        "chunks": (6, 4),
        "filters": [TransposeCodec(order=(1, 0))],
        "serializer": ShardingCodec(chunk_shape=(2, 3), index_location="start"),
    },
    {
        "chunks": (6, 4),
        "serializer": ShardingCodec(chunk_shape=(3, 4), codecs=[ShardingCodec(chunk_shape=(1, 2))]),
    },
]

STORES: list[Any] = [MemoryStore, lambda: LatencyStore(MemoryStore())]


def create(store: Any = None, cache: Any = None, **options: Any) -> zarr.Array:
    cache = zarr.ChunkCache(1 << 20) if cache is None else cache
    defaults: dict[str, Any] = {"shape": SHAPE, "chunks": (6, 4), "dtype": "i4", "fill_value": -1}
    options = {**defaults, **options, "config": {"chunk_cache": cache, **options.pop("config", {})}}
    return zarr.create_array({} if store is None else store, **options)


def cache_of(array: zarr.Array) -> Any:
    return array.config.chunk_cache


# --- against NumPy ---------------------------------------------------------------------------------


@given(
    data=st.data(),
    layout=st.sampled_from(LAYOUTS),
    make_store=st.sampled_from(STORES),
    max_bytes=st.sampled_from([0, 500, 1500, 1 << 20]),
)
def test_reads_equal_numpy_after_every_write(
    data: Any, layout: dict[str, Any], make_store: Any, max_bytes: int
) -> None:
    array = create(make_store(), zarr.ChunkCache(max_bytes), **layout)
    other = zarr.open_array(array.store)
    expected = np.full(SHAPE, array.fill_value, array.dtype)
    for number in range(data.draw(st.integers(1, 4))):
        selection = data.draw(selections(SHAPE, EDGES))
        where = picked(SHAPE, EDGES, selection)
        values = (number * 1000 + np.arange(np.size(where))).reshape(np.shape(where))
        way = data.draw(st.sampled_from(["array", "other", "batch", "chunk", "delete"]))
        if way in ("array", "other"):
            writer = array if way == "array" else other
            getattr(writer, f"set_{selection.kind}_selection")(
                selection.index, values.astype(array.dtype)
            )
            expected.reshape(-1)[where] = values.astype(array.dtype)
        elif way == "batch":
            with other.batch() as batch:
                batch[1:8, 2] = expected[1:8, 2] = np.array(number).astype(array.dtype)
        elif way == "chunk":
            other.write_chunk((0, 1), np.array(number).astype(array.dtype))
            expected[:6, 4:] = np.array(number).astype(array.dtype)
        else:
            other.delete_chunk((1, 0))
            expected[6:, :4] = array.fill_value
        for _ in range(2):
            selection = data.draw(selections(SHAPE, EDGES))
            where = picked(SHAPE, EDGES, selection)
            got = getattr(array, f"get_{selection.kind}_selection")(selection.index)
            assert (np.asarray(got) == expected.reshape(-1)[where]).all()
        stats = cache_of(array).stats
        assert stats.nbytes <= max_bytes
    assert (array[...] == expected).all()


def test_fields_orders_and_out() -> None:
    dtype = np.dtype([("x", "i4"), ("y", "f4")])
    array = create(dtype=dtype, fill_value=(1, 2), config={"order": "F"})
    array["x", 1:3] = 5
    for _ in range(2):
        assert array["x"][:4, 0].tolist() == [1, 5, 5, 1]
        assert array[["y", "x"]].dtype.names == ("y", "x")
        assert array[...].flags.f_contiguous
        out = np.zeros((9, 5), dtype)
        array.get_basic_selection(out=out)
        assert (out["y"] == 2).all()
    assert cache_of(array).stats.hits > 0


@pytest.mark.parametrize("layout", LAYOUTS[:7])
def test_results_are_fresh(layout: dict[str, Any]) -> None:
    array = create(**layout)
    array[...] = np.arange(45).reshape(SHAPE).astype(array.dtype)
    first = array[:6, :4]
    expected = first.copy()
    for _ in range(3):
        got = array[:6, :4]
        assert (got == expected).all()
        assert got.flags.owndata
        got[...] = np.array(7).astype(array.dtype)
    assert cache_of(array).stats.hits > 0


def test_shapes_that_change() -> None:
    for store in (MemoryStore(), LatencyStore(MemoryStore())):
        array = create(store)
        other = zarr.open_array(store)
        array[...] = 1
        assert (array[...] == 1).all()
        other.resize((4, 5))
        other.resize((9, 5))
        array.refresh()
        assert (array[4:] == -1).all()
        array.append(np.full((3, 5), 2))
        assert array[:, 0].tolist() == [1] * 4 + [-1] * 5 + [2] * 3


@pytest.mark.parametrize("make_store", STORES)
def test_an_array_that_is_replaced(make_store: Any) -> None:
    cache = zarr.ChunkCache(1 << 20)
    group = zarr.group(make_store())
    for value in range(3):
        array = group.create_array("a", shape=SHAPE, chunks=(6, 4), dtype="i4", overwrite=True)
        reader = array.with_config({"chunk_cache": cache})
        assert (reader[...] == 0).all()
        array[:6] = value + 1
        assert reader[:, 0].tolist() == [value + 1] * 6 + [0] * 3
        del group["a"]
    floats = group.create_array("a", shape=SHAPE, chunks=(6, 4), dtype="f4")
    assert (floats.with_config({"chunk_cache": cache})[...] == 0).all()
    floats[...] = 0.5
    assert (floats.with_config({"chunk_cache": cache})[...] == 0.5).all()


# --- what is decoded, and how often -------------------------------------------------------------------


@pytest.mark.parametrize("shards", [None, (8, 8)])
@pytest.mark.parametrize("latency", [None, 0.0])
def test_slabs_fetch_and_decode_every_chunk_once(shards: Any, latency: Any) -> None:
    log = LoggingStore(MemoryStore())
    store: Store = log if latency is None else LatencyStore(log, get_latency=latency)
    array = create(store, shape=(16, 16), chunks=(4, 4), shards=shards)
    value = np.arange(256).reshape(16, 16)
    array[...] = value
    array[4:8, 4:8] = -1  # this chunk is not stored
    value[4:8, 4:8] = -1
    for row in range(16):
        assert (array[row] == value[row]).all()
    stats = cache_of(array).stats
    assert (stats.hits, stats.misses, stats.chunks) == (48, 16, 16)
    requests = sum(log.counter.values()) + log.items.total()
    assert (array[::-1, 3] == value[::-1, 3]).all()
    asked = sum(log.counter.values()) + log.items.total() - requests
    assert asked == log.counter["stamp"] * 0 if latency is not None else asked > 0
    assert log.counter["get"] + log.items["get_many"] + log.counter["open_value"] < 40


class SlowStore(MemoryStore):
    """Gives values once `go` is set; fails so many times."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.asked = threading.Event(), threading.Event()
        self.go.set()
        self.gets = self.failures = 0

    def get(self, key: str, byte_range: Any = None) -> Any:
        if key.startswith("c/"):
            self.gets += 1
            self.asked.set()
            assert self.go.wait(10)
            if self.failures:
                self.failures -= 1
                raise OSError("not now")
        return super().get(key, byte_range)


def herd(array: zarr.Array, count: int) -> list[Any]:
    """Read one chunk on many threads, which all wait for the first; return results and errors."""
    store: Any = array.store
    store.go.clear()
    store.asked.clear()
    store.gets = 0
    outcomes: list[Any] = []

    def read() -> None:
        try:
            outcomes.append(array[:2, 0].tolist())
        except OSError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=read) for _ in range(count)]
    waits = cache_of(array).stats.waits
    for thread in threads:
        thread.start()
    assert store.asked.wait(10)
    while cache_of(array).stats.waits < waits + count - 1:
        pass
    store.go.set()
    for thread in threads:
        thread.join()
    return outcomes


def test_threads_wait_for_a_chunk_that_is_being_decoded() -> None:
    array = create(SlowStore())
    array[...] = 3
    assert herd(array, 6) == [[3, 3]] * 6
    assert array.store.gets == 1  # type: ignore[attr-defined]


def test_an_error_belongs_to_the_read_that_made_the_request() -> None:
    array = create(SlowStore())
    array[...] = 3
    array.store.failures = 1  # type: ignore[attr-defined]
    outcomes = herd(array, 6)
    assert sum(isinstance(outcome, OSError) for outcome in outcomes) == 1
    assert outcomes.count([3, 3]) == 5
    assert array.store.gets == 2  # type: ignore[attr-defined]
    assert array[0, 0] == 3
    array.store.set("c/0/0", b"damaged")
    cache_of(array).clear()
    with pytest.raises(ChunkDecodeError, match="c/0/0"):
        array[0, 0]
    array[...] = 4
    assert array[0, 0] == 4


def test_a_read_that_waits_can_be_told_to_stop() -> None:
    array = create(SlowStore())
    array[...] = 3
    store: Any = array.store
    store.go.clear()
    store.asked.clear()
    first = threading.Thread(target=lambda: array[0, 0])
    first.start()
    assert store.asked.wait(10)
    with pytest.raises(TimeoutError):
        array.getitem((0, 0), timeout=0.05)
    store.go.set()
    first.join()
    assert array[0, 0] == 3


def test_hooks_may_read_what_is_being_decoded() -> None:
    seen: list[int] = []
    for shards in (None, (6, 4)):
        array = create(chunks=(3, 2) if shards else (6, 4), shards=shards)
        array[...] = 3
        with zarr.on_chunk(lambda *_, array=array: seen.append(int(array[0, 0]))):
            assert (array[...] == 3).all()
    assert seen == [3] * 8


def test_nobody_waits_for_a_read_that_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = zarr.ChunkCache(1 << 20)
    array = create(cache=cache)
    array[...] = 3
    take = cache._take

    def interrupted(*args: Any) -> Any:
        take(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache, "_take", interrupted)
        with pytest.raises(KeyboardInterrupt):
            array[0, 0]
    assert array[0, 0] == 3


def test_missing_chunks_are_known_to_be_missing() -> None:
    log = LoggingStore(MemoryStore())
    for shards in (None, (6, 4)):
        array = create(
            LatencyStore(log), chunks=(3, 2) if shards else (6, 4), shards=shards, overwrite=True
        )
        assert (array[...] == -1).all()
        before = log.counter.copy(), log.items.copy()
        assert (array[...] == -1).all()
        assert (log.counter, log.items) == before
        strict = array.with_config({"read_missing_chunks": False})
        with pytest.raises(ChunkNotFoundError, match="c/0/0"):
            strict[0, 0]
        array[0, 0] = 1
        assert array[0, 0] == 1


# --- how much is kept ------------------------------------------------------------------------------


def test_the_least_recently_used_chunk_leaves() -> None:
    evicted: list[tuple[str, int]] = []
    cache = zarr.ChunkCache(3000, on_evict=lambda key, chunk: evicted.append((key, int(chunk[0]))))
    array = create(cache=cache, shape=(1000,), chunks=(100,), dtype="i8", compressors=None)
    array[...] = np.arange(1000)
    for k in (0, 1, 0, 2, 3):  # of 800 bytes and what an entry costs, two fit
        array[100 * k]
    assert evicted == [("c/1", 100), ("c/0", 0)]
    stats = cache.stats
    assert (stats.hits, stats.misses, stats.evictions, stats.chunks) == (1, 4, 2, 2)
    assert 1600 < stats.nbytes <= 3000
    large = create(cache=cache, shape=(1000,), chunks=(1000,), dtype="i8")
    large[...] = 1
    assert large[5] == large[6] == 1
    assert cache.stats.chunks == 2  # a chunk larger than all does not throw out the others
    cache.clear()
    assert cache.stats[4:] == (0, 0)
    assert len(evicted) == 2
    assert array[100] == 100


def test_what_is_kept_is_not_more_than_the_chunks() -> None:
    # An inner chunk of a shard in memory is a view of all of the shard.
    array = create(shape=(512, 512), chunks=(8, 8), shards=(512, 512), compressors=None)
    array[...] = 1
    array[0, 0]
    (chunk,) = cache_of(array)._chunks.values()
    memory = chunk
    while getattr(memory, "base", None) is not None:
        memory = memory.base
    assert len(memoryview(memory).tobytes()) == 256
    assert not chunk.flags.writeable


def test_a_cache_of_many_arrays_and_one_of_its_own() -> None:
    cache = zarr.ChunkCache(1 << 20)
    first, second = create(cache=cache), create(cache=cache)
    first[...], second[...] = 1, 2
    assert (first[0, 0], second[0, 0], first[0, 1], second[0, 1]) == (1, 2, 1, 2)
    assert cache.stats[:2] == (2, 2)
    again = zarr.open_array(first.store, config={"chunk_cache": cache})
    assert again[0, 0] == 1
    assert cache.stats[:2] == (3, 2)

    own = zarr.open_array(first.store, config={"chunk_cache_bytes": 1 << 20})
    assert own.config.chunk_cache is None
    assert own[0, 0] == own.oindex[[0], [0]] == 1
    stats = own._current().space.cache.cache.stats
    assert (stats.hits, stats.misses) == (1, 1)
    own.append(np.ones((1, 5)))
    assert own[0, 0] == 1
    assert own._current().space.cache.cache.stats.hits == 2
    assert create(cache=cache)._current().space.cache.cache is cache


def test_wrong_arguments() -> None:
    for size in (-1, 1.5, True):
        with pytest.raises(ValueError, match="max_bytes"):
            zarr.ChunkCache(size)
    with pytest.raises(BadConfigError, match="ChunkCache"):
        zarr.open_array(create().store, config={"chunk_cache": 5})[0, 0]
    with pytest.raises(BadConfigError):
        zarr.open_array(create().store, config={"chunk_cache_bytes": -5})


def test_pickled_and_shown() -> None:
    array = create(zarr.storage.ManagedMemoryStore())
    array[...] = 1
    assert array[0, 0] == 1
    copies = pickle.loads(pickle.dumps((array, array[0], cache_of(array))))
    assert cache_of(copies[0]) is copies[2]
    assert copies[2].stats.chunks == 0
    assert copies[2].max_bytes == 1 << 20
    assert repr(copies[2]) == "ChunkCache(1048576)"
    assert copies[0][0, 0] == 1


def test_nobody_pays_who_has_none() -> None:
    in_new_interpreter(
        "import sys, zarr_core as zarr\n"
        "a = zarr.create_array({}, shape=(4,), chunks=(2,), dtype='i4')\n"
        "a[...] = a[...] + 1\n"
        "print('zarr_core.chunks.cache' in sys.modules, a._current().space.cache)",
        stdout="False None",
    )
    cache = zarr.ChunkCache(100)
    known = {id(ref) for ref in key_locks._watchers}
    del cache
    gc.collect()
    key_locks.key_lock("a")  # who is gone is forgotten by the next that would be told
    assert all(ref() is not None for ref in key_locks._watchers)
    assert len(key_locks._watchers) < len(known)


def test_hooks_hear_of_every_chunk() -> None:
    for shards in (None, (6, 4)):
        array = create(chunks=(3, 2) if shards else (6, 4), shards=shards)
        array[...] = 1
        for known in (False, True):
            events: list[Any] = []
            with zarr.on_chunk(lambda *event, events=events: events.append(event)):
                array[...]
            assert sorted(key for _, key, _ in events) == ["c/0/0", "c/0/1", "c/1/0", "c/1/1"]
            assert all((nbytes == 0) == known for _, _, nbytes in events)


def test_awaited_reads_share_the_cache() -> None:
    import asyncio

    array = create(chunks=(1, 5), compressors=[ZstdCodec()])
    array[...] = np.arange(45).reshape(SHAPE)

    async def main() -> list[Any]:
        return await asyncio.gather(*(array.getitem_async((n % 9, n % 5)) for n in range(200)))

    assert [int(x) for x in asyncio.run(main())] == [(n % 9) * 5 + n % 5 for n in range(200)]
    stats = cache_of(array).stats
    assert stats.misses == 9
    assert stats.hits + stats.waits == 191


# --- nothing old is shown ----------------------------------------------------------------------------


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize("shards", [None, (8, 4)])
@pytest.mark.parametrize("kind", ["memory", "local", "slow"])
def test_no_read_is_older_than_a_write_that_had_returned(
    kind: str, shards: Any, tmp_path: Path
) -> None:
    inner = LocalStore(tmp_path) if kind == "local" else MemoryStore()
    store = LatencyStore(inner) if kind == "slow" else inner
    array = create(store, shape=(8, 16), chunks=(4, 4), shards=shards, compressors=None)
    array[...] = 0
    handles = [array, zarr.open_array(store), array.with_config({"chunk_cache_bytes": 1 << 16})]
    written = [0] * 4  # by column of chunks
    done = threading.Event()

    def write(column: int) -> None:
        for value in range(1, 60):
            handles[value % 2][:, 4 * column : 4 * column + 4] = value
            written[column] = value
        if column == 0:
            done.set()

    def read(number: int) -> None:
        array = handles[2 * (number % 2)]
        rng = np.random.default_rng(number)
        while not done.is_set():
            least = written.copy()
            got = array[rng.integers(8) :, ::2]
            for column, value in enumerate(least):
                assert got[:, 2 * column : 2 * column + 2].min() >= value

    at_once(*[lambda c=c: write(c) for c in range(4)], *[lambda n=n: read(n) for n in range(4)])  # type: ignore[misc]
    assert (array[...] == 59).all()


def test_a_shard_is_read_as_it_was_or_as_it_is(tmp_path: Path) -> None:
    array = create(LocalStore(tmp_path), shape=(8, 8), chunks=(2, 2), shards=(8, 8))
    array[...] = 0
    done = threading.Event()

    def write(_: int) -> None:
        for value in range(60):
            zarr.open_array(tmp_path)[...] = value
        done.set()

    def read(number: int) -> None:
        if number == 0:
            write(0)
        rng = np.random.default_rng(number)
        while not done.is_set():
            got = array[rng.integers(7) :, rng.integers(7) :]
            assert got.min() == got.max()

    from_threads(read, 4)


def test_changes_by_others_are_seen_where_the_store_can_tell(tmp_path: Path) -> None:
    for shards in (None, (8, 8)):
        place = tmp_path / str(shards)
        array = create(LocalStore(place), shape=(8, 8), chunks=(8, 4), shards=shards)
        for number in range(20):
            file = place / "new"
            file.write_bytes(array.encode_chunk(np.array(number)))
            os.replace(file, place / "c/0/0") if number else array.write_chunk((0, 0), 0)
            for _ in range(2):
                assert (array[2:, :4] == number).all()
        os.remove(place / "c/0/0")
        assert (array[:, :4] == -1).all()
        assert (array[:, :4] == -1).all()
    in_new_interpreter(f"import zarr_core; zarr_core.open_array({str(place)!r})[1:7] = 5")
    assert (array[1:7] == 5).all()
    array = create(store := MemoryStore(), chunks=(9, 5))
    array[...] = 1
    encoded = array.store.get("c/0/0")
    array[...] = 2
    assert (array[...] == 2).all()
    store._store_dict["c/0/0"] = encoded
    assert (array[...] == 1).all()
    del store._store_dict["c/0/0"]
    assert (array[...] == -1).all()


class FarStore(MemoryStore):
    """Tells the version of a value that is opened, and nothing without a request."""

    high_latency = True

    def open_value(self, key: str) -> Any:
        value = self.get(key)
        return None if value is None else ValueSnapshot(value, content_version(value))


def test_changes_by_others_far_away_are_seen_with_the_next_request() -> None:
    store = FarStore()
    array = create(store, shape=(8, 8), chunks=(2, 2), shards=(8, 8))
    array[...] = 1
    old = store.get("c/0/0")
    array[...] = 2
    assert (array[:4] == 2).all()
    assert old is not None
    store._store_dict["c/0/0"] = old  # by another process
    assert (array[:4] == 2).all()  # nothing is asked for
    assert (array[...] == 1).all()  # never some of both
    store._store_dict.pop("c/0/0")
    assert (array[...] == 1).all()
    cache_of(array).clear()
    assert (array[...] == -1).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no os.fork")
def test_a_forked_child_begins_empty() -> None:
    in_new_interpreter(
        "import os, numpy as np, zarr_core as zarr\n"
        "cache = zarr.ChunkCache(1 << 20)\n"
        "a = zarr.create_array({}, shape=(4,), chunks=(2,), dtype='i4', config={'chunk_cache': cache})\n"
        "a[...] = 5\n"
        "assert a[0] == 5\n"
        "cache._lock.acquire()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    good = cache.stats.chunks == 0 and a[0] == 5 and cache.stats.chunks == 1\n"
        "    os._exit(0 if good else 1)\n"
        "print(os.waitpid(pid, 0)[1])",
        stdout="0",
    )
