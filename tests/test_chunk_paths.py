"""The ways to run the chunk loop give the same: one by one, by rows, on threads, overlapped."""

import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import slices

import zarr_core as zarr
from zarr_core import codecs
from zarr_core.chunks import loop
from zarr_core.chunks import rows as chunk_rows
from zarr_core.config import config
from zarr_core.errors import ChunkDecodeError, ChunkNotFoundError
from zarr_core.storage import LatencyStore, LoggingStore, MemoryStore
from zarr_core.threads import pool


def one_by_one() -> AbstractContextManager[Any]:
    return patch.object(chunk_rows, "JOIN_BYTES", 0)


def by_rows() -> AbstractContextManager[Any]:
    return nullcontext()


@contextmanager
def on_threads(rows: bool = True) -> Iterator[None]:
    """Take every step to be worth a thread."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(pool, "helpers", lambda count, *_: min(3, count - 1)))
        if not rows:
            stack.enter_context(one_by_one())
        yield


WAYS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "one by one": one_by_one,
    "by rows": by_rows,
    "rows on threads": on_threads,
    "chunks on threads": lambda: on_threads(rows=False),
    "overlapped": by_rows,
}


def store_for(way: str) -> Any:
    inner = MemoryStore()
    return LatencyStore(inner) if way == "overlapped" else inner


def contents(store: Any) -> dict[str, bytes]:
    inner = store.store if isinstance(store, LatencyStore) else store
    return dict(inner._store_dict)


COMPRESSORS = [None, [codecs.ZstdCodec()], [codecs.Crc32cCodec()], [codecs.GzipCodec(level=1)]]


@given(st.data())
def test_all_ways_read_and_write_the_same(data: st.DataObject) -> None:
    # Long last dimensions of small chunks: what rows are for.
    leading = data.draw(st.lists(st.integers(1, 5), max_size=2))
    shape = (*leading, data.draw(st.integers(1, 40)))
    chunks = tuple(data.draw(st.integers(1, min(n, 3))) for n in shape)
    options = {
        "shape": shape,
        "chunks": chunks,
        "dtype": data.draw(st.sampled_from(["u1", "<i4", "f8", "U2"])),
        "compressors": data.draw(st.sampled_from(COMPRESSORS)),
        "config": {"write_empty_chunks": data.draw(st.booleans())},
    }
    if data.draw(st.booleans()):
        options["shards"] = tuple(-(-n // c) * c for n, c in zip(shape, chunks, strict=True))
    if data.draw(st.integers(0, 4)) == 0:
        options["filters"] = [codecs.TransposeCodec(order=tuple(range(len(shape)))[::-1])]
    steps = []
    for seed in range(data.draw(st.integers(1, 3))):
        index = tuple(data.draw(slices(n)) for n in shape)
        value = np.random.default_rng(seed).integers(0, 3, np.empty(shape, "u1")[index].shape)
        steps.append((index, value.astype(data.draw(st.sampled_from(["u1", "i4"])))))
    index = tuple(data.draw(slices(n)) for n in shape)
    expected = np.zeros(shape, options["dtype"])
    stored = None
    for step, value in steps:
        expected[step] = value
    for way, manager in WAYS.items():
        store = store_for(way)
        a = zarr.create_array(store, **options)
        with manager():
            for step, value in steps:
                a[step] = value
            np.testing.assert_array_equal(a[...], expected, way)
            np.testing.assert_array_equal(a[index], expected[index], way)
            out = np.empty_like(expected, order="F")
            a.get_basic_selection(out=out)
            np.testing.assert_array_equal(out, expected, way)
            rows = [i % shape[0] for i in (3, 0, 3)]
            np.testing.assert_array_equal(a.oindex[rows], expected[rows], way)
        stored = stored or contents(store)
        assert contents(store) == stored, way


# --- each way is taken where it should be ------------------------------------------------------------


def small(way: str = "by rows", **options: Any) -> zarr.Array:
    a = zarr.create_array(store_for(way), shape=(6, 50), chunks=(2, 5), dtype="i4", **options)
    a[:] = np.arange(300).reshape(6, 50)
    return a


def calls_of(module: Any, name: str, do: Callable[[], object]) -> int:
    with patch.object(module, name, wraps=getattr(module, name)) as spy:
        do()
    return int(spy.call_count)


def test_rows_of_small_whole_chunks_are_read_and_written_at_once() -> None:
    a = small()
    assert calls_of(loop, "row_reader", lambda: a[...]) == 1
    assert calls_of(loop, "row_reader", lambda: a[1:, 3:49]) == 1
    assert calls_of(loop, "row_reader", lambda: a[::-1, ::-1]) == 1
    plain = small(compressors=None)
    assert calls_of(loop, "row_writer", lambda: plain.__setitem__(..., np.ones((6, 50)))) == 1
    for index in (
        (slice(0, 1),),
        (slice(None), slice(0, 15)),
        ([0, 2],),
        (slice(None), slice(None, None, 2)),
    ):
        assert calls_of(loop, "row_reader", lambda i=index: a[i]) == 0
    for other in (
        small(filters=[codecs.TransposeCodec(order=(1, 0))]),
        small(serializer=codecs.BytesCodec(endian="big")),
        small("overlapped"),
    ):
        assert calls_of(loop, "row_reader", lambda o=other: o[...]) == 0


def test_costly_chunks_are_decoded_and_encoded_on_threads() -> None:
    rng = np.random.default_rng(0)
    value = rng.integers(0, 1 << 20, (8, 250_000), dtype="i4")
    with zarr.config.set({"threading.max_workers": 4}):
        a = zarr.create_array({}, shape=value.shape, chunks=(1, 250_000), dtype="i4")
        assert calls_of(pool, "run", lambda: a.__setitem__(..., value)) == 1
        found = []
        assert calls_of(pool, "run", lambda: found.append(a[...])) == 1
        np.testing.assert_array_equal(found[0], value)
        cheap = small(compressors=None)
        assert calls_of(pool, "run", lambda: cheap[...]) == 0
    with zarr.config.set({"threading.max_workers": 1}):
        assert calls_of(pool, "run", lambda: a[...]) == 0


def test_requests_to_a_slow_store_overlap() -> None:
    inside = 0
    most = 0
    lock = threading.Lock()
    several = threading.Event()

    class Watching(LatencyStore[MemoryStore]):
        def get(self, key: str, *rest: Any) -> Any:
            nonlocal inside, most
            with lock:
                inside += 1
                most = max(most, inside)
                if inside >= 3:
                    several.set()
            if "/" in key:
                several.wait(10)
            try:
                return super().get(key, *rest)
            finally:
                with lock:
                    inside -= 1

    a = zarr.create_array(Watching(MemoryStore()), shape=8, chunks=1, dtype="i4", name="a")
    several.set()
    a[:] = range(8)
    several.clear()
    assert a[:].tolist() == list(range(8))
    assert most >= 3


def test_a_selection_of_one_small_chunk_makes_no_plan() -> None:
    a = small()
    with patch.object(loop, "read", side_effect=AssertionError):
        assert a[0, 0] == 0
        assert a[0:2, 1:4].shape == (2, 3)
        assert a[5, 49] == 299


# --- missing and damaged chunks, in every way --------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("compressors", [None, "auto"])
def test_missing_chunks(way: str, compressors: Any) -> None:
    a = small(way, compressors=compressors, fill_value=-1)
    for key in ("c/0/0", "c/1/4", "c/2/9"):
        a.store.delete(key)
    expected = np.arange(300).reshape(6, 50)
    for row, column in ((0, 0), (2, 20), (4, 45)):
        expected[row : row + 2, column : column + 5] = -1
    strict = a.with_config({"read_missing_chunks": False})
    with WAYS[way]():
        np.testing.assert_array_equal(a[...], expected)
        np.testing.assert_array_equal(a[::-1, 1:], expected[::-1, 1:])
        with pytest.raises(ChunkNotFoundError, match=r"chunk \((0, 0|1, 4|2, 9)\)"):
            strict[...]
        np.testing.assert_array_equal(strict[:, 5:20], expected[:, 5:20])


@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_chunk_is_named(way: str) -> None:
    a = small(way)
    a.store.set("c/1/4", a.store.get("c/1/4")[:-3])
    with (
        WAYS[way](),
        pytest.raises(ChunkDecodeError, match=r"chunk \(1, 4\).*'c/1/4'.*'zstd'"),
    ):
        a[...]


@pytest.mark.parametrize("way", WAYS)
def test_after_an_error_nothing_of_the_call_runs_any_more(way: str) -> None:
    class Failing(MemoryStore):
        failing = False
        calls = 0

        def set(self, key: str, value: Any) -> None:
            self.calls += 1
            if self.failing and key == "c/1/4":
                raise OSError("no space")
            super().set(key, value)

    inner = Failing()
    store = LatencyStore(inner) if way == "overlapped" else inner
    a = zarr.create_array(store, shape=(6, 50), chunks=(2, 5), dtype="i4", compressors=None)
    inner.failing = True
    with WAYS[way](), pytest.raises(OSError, match="no space"):
        a[:] = np.ones((6, 50))
    calls = inner.calls
    threading.Event().wait(0.02)
    assert inner.calls == calls


def test_every_way_asks_for_each_chunk_once() -> None:
    for way, manager in WAYS.items():
        counting = LoggingStore(MemoryStore())
        store: Any = LatencyStore(counting) if way == "overlapped" else counting
        a = zarr.create_array(store, shape=(6, 50), chunks=(2, 5), dtype="i4", compressors=None)
        counting.counter.clear()
        with manager():
            a[:] = np.ones((6, 50))
            assert dict(counting.counter) == {"set": 30}, way
            counting.counter.clear()
            a[...]
            assert dict(counting.counter) == {"get": 30}, way


@given(st.data())
def test_keys_of_rows_are_the_keys_of_their_chunks(data: st.DataObject) -> None:
    ndim = data.draw(st.integers(1, 4))
    a = zarr.create_array(
        {},
        name=data.draw(st.sampled_from([None, "a/100%d"])),
        shape=(500,) * ndim,
        chunks=(1,) * ndim,
        dtype="u1",
        zarr_format=data.draw(st.sampled_from([2, 3])),
    )
    numbers = st.lists(st.integers(0, 499), min_size=1, max_size=3)
    starts = data.draw(st.lists(st.tuples(*[st.integers(0, 499)] * (ndim - 1)), max_size=3))
    last = data.draw(numbers)
    space = a._current().space
    expected = [space.key((*start, k)) for start in starts for k in last]
    assert space.row_keys(starts, last) == expected


def test_short_rows_are_handled_together() -> None:
    shape = (40, 3, 60)
    value = np.arange(np.prod(shape), dtype="i4").reshape(shape)
    a = zarr.create_array({}, shape=shape, chunks=(1, 1, 10), dtype="i4", compressors=None)
    with patch.object(
        MemoryStore, "set_each", autospec=True, side_effect=MemoryStore.set_each
    ) as s:
        a[...] = value
    assert s.call_count == 40  # each of 3 rows of 6 chunks
    a = zarr.create_array({}, shape=shape[1:], chunks=(1, 10), dtype="i4", compressors=None)
    a[...] = value[0]
    np.testing.assert_array_equal(a[...], value[0])
    with patch.object(
        MemoryStore, "get_each", autospec=True, side_effect=MemoryStore.get_each
    ) as g:
        a[...]
    assert g.call_count == 1


@pytest.mark.parametrize("mixed_in", [False, True])
def test_subclasses_that_change_what_is_stored_are_asked_for_each_chunk(mixed_in: bool) -> None:
    class Inversion(object if mixed_in else MemoryStore):  # type: ignore[misc]
        def get(self, key: str, byte_range: Any = None) -> Any:
            value = super().get(key)
            return value if value is None or key.endswith("json") else bytes(b ^ 255 for b in value)

        def set(self, key: str, value: Any) -> None:
            inverted = value if key.endswith("json") else bytes(b ^ 255 for b in bytes(value))
            super().set(key, inverted)

    class Inverted(Inversion, *([MemoryStore] if mixed_in else [])):  # type: ignore[misc]
        pass

    store = Inverted()
    a = zarr.create_array(store, shape=(4, 10), chunks=(1, 1), dtype="u1", compressors=None)
    value = np.arange(40, dtype="u1").reshape(4, 10)
    a[...] = value
    assert store._store_dict["c/3/9"] == bytes([39 ^ 255])
    np.testing.assert_array_equal(a[...], value)


def test_chunks_kept_as_other_buffers_are_read_in_rows() -> None:
    store: dict[str, Any] = {}
    a = zarr.create_array(store, shape=120, chunks=10, dtype="i4", compressors=None)
    a[...] = np.arange(120)
    store["c/1"] = bytearray(store["c/1"])
    store["c/2"] = memoryview(np.frombuffer(store["c/2"], "i4"))
    assert a[...].tolist() == list(range(120))


@pytest.mark.parametrize("slow", [False, True])
def test_threads_take_turns_at_fetching_what_is_quick(slow: bool) -> None:
    class Watching(MemoryStore):
        inside = most = 0

        def get(self, key: str, byte_range: Any = None) -> Any:
            with lock:
                Watching.inside += 1
                Watching.most = max(Watching.most, Watching.inside)
            if slow:
                threading.Event().wait(0.002)
            try:
                return super().get(key, byte_range)
            finally:
                with lock:
                    Watching.inside -= 1

    lock = threading.Lock()
    a = zarr.create_array(Watching(), shape=(60, 60), chunks=(2, 5), dtype="i4")
    value = np.arange(3600).reshape(60, 60)
    a[...] = value
    with on_threads(), patch.object(chunk_rows, "SLOW_SECONDS", 1e-3 if slow else 10):
        np.testing.assert_array_equal(a[...], value)
        np.testing.assert_array_equal(a[::3, 1::2], value[::3, 1::2])
    assert (Watching.most > 1) is slow


@pytest.mark.parametrize(
    "index", [(slice(None, None, 2), slice(2, 48)), (slice(1, 4), slice(None)), ([0, 3],)]
)
def test_parts_of_chunks_are_decoded_in_batches(index: Any) -> None:
    a = small()
    value = np.arange(300).reshape(6, 50)
    batches = []
    real = loop.decode_all

    def counting(space: Any, coords: Any, found: list[Any]) -> Any:
        batches.append(len(found))
        return real(space, coords, found)

    a.store.delete("c/0/1")
    value[0:2, 5:10] = 0
    with patch.object(loop, "decode_all", counting), config.set({"threading.max_workers": 1}):
        np.testing.assert_array_equal(a.oindex[index], value[index])
    assert max(batches) > 1
    a.store.set("c/1/1", b"damaged")
    with pytest.raises(ChunkDecodeError, match=r"chunk \(1, 1\).*'zstd'"):
        a.oindex[index]


def test_rows_wait_for_a_chunk_that_is_being_changed() -> None:
    a = zarr.create_array({}, shape=120, chunks=10, dtype="i4", compressors=None)
    space = a._current().space
    done = threading.Event()

    def write() -> None:
        a[...] = np.arange(120)
        done.set()

    with space.lock("c/2"):
        thread = threading.Thread(target=write)
        thread.start()
        assert not done.wait(0.1)
    thread.join(10)
    assert a[...].tolist() == list(range(120))


# --- memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compressors", [None, "auto"])
@pytest.mark.parametrize("chunks", [(64, 1000), (8, 250), (1000, 1000)])
def test_memory_is_that_of_the_result_and_few_chunks(chunks: Any, compressors: Any) -> None:
    value = np.random.default_rng(0).integers(0, 50, (2000, 1000), dtype="i4")  # 8 MB
    a = zarr.create_array({}, shape=value.shape, chunks=chunks, dtype="i4", compressors=compressors)
    few = (5 << 20) + 3 * 4 * chunks[0] * chunks[1]  # a joined row; chunks being decoded

    def peak_of(do: Callable[[], object]) -> int:
        tracemalloc.start()
        try:
            kept = do()
            del kept
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # What is stored stays in memory; compressed chunks keep the room that they were made in.
    assert peak_of(lambda: a.__setitem__(..., value)) < value.nbytes + few
    assert peak_of(lambda: a[...]) < value.nbytes + few
    out = np.empty_like(value)
    with zarr.config.set({"threading.max_workers": 2}):
        assert peak_of(lambda: a.get_basic_selection(out=out)) < few
        assert peak_of(lambda: a[::500, ::500]) < few
        assert peak_of(lambda: a.oindex[[0, 1999], :]) < few


@given(st.integers(2, 200), st.integers(2, 5))
def test_threads_that_write_start_in_different_places(count: int, threads: int) -> None:
    """Every part is written once, whatever the order."""
    written: list[int] = []
    store = SimpleNamespace(set_threads=threads)
    with config.set({"threading.max_workers": 2}):
        loop._run(written.append, range(count), count, 1000.0, store)
    assert sorted(written) == list(range(count))
