"""`read_many` and `write_many` against NumPy, one by one, and what they ask of stores."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_core as zarr
from zarr_core.errors import ChunkDecodeError, ReadOnlyError
from zarr_core.storage import LatencyStore, LocalStore, MemoryStore, StorePath, WrapperStore

SHAPE = (12, 10)

LAYOUTS: tuple[dict[str, Any], ...] = (
    {"chunks": (4, 5), "compressors": None},
    {"chunks": (5, 3)},
    {"chunks": (3, 5), "shards": (6, 10)},
    {"chunks": (4, 5), "zarr_format": 2},
    {"chunks": (12, 10), "config": {"order": "F"}},
    {"chunks": (4, 5), "config": {"write_empty_chunks": True}},
)


class Counting(WrapperStore[Any]):
    """Counts requests by operation and key."""

    def __init__(self, store: Any, *, slow: bool = False) -> None:
        super().__init__(store)
        self.high_latency = slow
        self.counts: Counter[tuple[str, str]] = Counter()

    def get(self, key: str, byte_range: Any = None) -> Any:
        self.counts["get", key] += 1
        return super().get(key, byte_range)

    def set(self, key: str, value: Any) -> None:
        self.counts["set", key] += 1
        super().set(key, value)

    def lock_key(self, key: str) -> Any:
        return self._store.lock_key(key)


def stores(kind: str) -> Any:
    if kind == "quick":
        return MemoryStore()
    return LatencyStore(MemoryStore()) if kind == "slow" else Counting(MemoryStore(), slow=True)


basic = st.tuples(
    st.slices(SHAPE[0]) | st.integers(-SHAPE[0], SHAPE[0] - 1),
    st.slices(SHAPE[1]) | st.integers(-SHAPE[1], SHAPE[1] - 1),
)
points = st.integers(1, 6).flatmap(
    lambda n: st.tuples(
        *(st.lists(st.integers(0, k - 1), min_size=n, max_size=n).map(np.array) for k in SHAPE)
    )
)
masks = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).random(SHAPE) > 0.7)
selections = basic | points | masks | st.just(...) | st.integers(0, 11)


@st.composite
def several(draw: st.DrawFn) -> tuple[list[zarr.Array], list[npt.NDArray[Any]]]:
    """Return arrays in one or two stores, and what is in them."""
    places = [stores(draw(st.sampled_from(["quick", "slow", "counting"]))) for _ in range(2)]
    arrays, data = [], []
    for i in range(draw(st.integers(1, 3))):
        layout = draw(st.sampled_from(LAYOUTS))
        store = draw(st.sampled_from(places))
        array = zarr.create_array(store, name=f"a{i}", shape=SHAPE, dtype="int16", **layout)
        values = np.arange(120, dtype="int16").reshape(SHAPE) * (i + 1)
        values[:4, :5] = 0
        array[...] = values
        arrays.append(array)
        data.append(values)
    return arrays, data


@given(several(), st.data())
def test_reading_many_is_reading_one_by_one(made: Any, data: st.DataObject) -> None:
    arrays, values = made
    chosen = data.draw(st.lists(st.tuples(st.integers(0, len(arrays) - 1), selections), max_size=6))
    results = zarr.read_many([(arrays[i], selection) for i, selection in chosen])
    assert len(results) == len(chosen)
    for (i, selection), result in zip(chosen, results, strict=True):
        alone = arrays[i][selection]
        np.testing.assert_array_equal(result, values[i][selection])
        assert type(result) is type(alone)
        assert result.dtype == alone.dtype
        if isinstance(result, np.ndarray):
            assert result.flags.owndata or result.base.flags.owndata
            assert result.flags.writeable
            assert result.flags.c_contiguous == alone.flags.c_contiguous


@given(several(), st.data())
def test_writing_many_is_writing_one_after_the_other(made: Any, data: st.DataObject) -> None:
    arrays, values = made
    chosen = data.draw(st.lists(st.tuples(st.integers(0, len(arrays) - 1), selections), max_size=6))
    items = []
    for number, (i, selection) in enumerate(chosen):
        target = values[i][selection]
        value = np.full(np.shape(target), 1000 + number) + np.arange(np.size(target)).reshape(
            np.shape(target)
        )
        if data.draw(st.booleans()):
            value = np.int16(data.draw(st.sampled_from([0, 5])))
        items.append((arrays[i], selection, value))
        values[i][selection] = value
    zarr.write_many(items)
    for array, expected in zip(arrays, values, strict=True):
        np.testing.assert_array_equal(array[...], expected)


def test_fields_strings_and_arrays_without_dimensions() -> None:
    dtype = np.dtype([("x", "int32"), ("y", "float64")])
    table = zarr.create_array({}, shape=(6,), chunks=(4,), dtype=dtype, zarr_format=2)
    table[:] = np.array([(i, i / 2) for i in range(6)], dtype)
    text = zarr.create_array({}, shape=(5,), chunks=(2,), dtype=str)
    text[:] = np.array(list("abcde"), object)
    scalar = zarr.create_array({}, shape=(), dtype="float32")
    scalar[...] = 2.5
    zarr.write_many(
        [(table, ("x", slice(0, 5)), 9), (text, slice(1, 4), "long word"), (scalar, (), 1)]
    )
    x, rows, words, number = zarr.read_many(
        [(table, "x"), (table, slice(4, 6)), (text, ...), (scalar, ())]
    )
    assert x.tolist() == [9, 9, 9, 9, 9, 5]
    assert rows.tolist() == [(9, 2.0), (5, 2.5)]
    assert words.tolist() == ["a", "long word", "long word", "long word", "e"]
    assert number == 1
    assert np.shape(number) == ()


@pytest.mark.parametrize("slow", [False, True], ids=["quick", "slow"])
def test_a_chunk_of_several_selections_is_requested_once(slow: bool) -> None:
    store = Counting(MemoryStore(), slow=slow)
    a = zarr.create_array(store, name="a", shape=(100,), chunks=(50,), dtype="int32")
    b = zarr.create_array(store, name="b", shape=(100,), chunks=(50,), dtype="int32")
    a[:], b[:] = np.arange(100), -np.arange(100)
    again = zarr.open_array(store, path="a")  # another handle of the same array
    store.counts.clear()
    results = zarr.read_many([(a, 3), (a, slice(10, 20)), (again, slice(0, 60)), (b, 7)])
    assert [np.sum(r) for r in results] == [3, 145, 1770, -7]
    assert set(store.counts.values()) == {1}
    assert sorted(key for _, key in store.counts) == ["a/c/0", "a/c/1", "b/c/0"]

    store.counts.clear()
    zarr.write_many([(a, 3, 1), (again, 4, 2), (a, slice(3, 6), 5), (b, 99, 0)])
    assert a[:8].tolist() == [0, 1, 2, 5, 5, 5, 6, 7]
    assert store.counts["get", "a/c/0"] == 2  # and the one of the line above
    assert store.counts["set", "a/c/0"] == 1
    assert store.counts["set", "b/c/1"] == 1


def test_a_chunk_that_is_wholly_overwritten_is_not_read() -> None:
    store = Counting(MemoryStore())
    a = zarr.create_array(store, shape=(100,), chunks=(50,), dtype="int32")
    store.counts.clear()
    zarr.write_many([(a, slice(0, 50), 1)])
    assert store.counts == {("set", "c/0"): 1}
    zarr.write_many([(a, slice(50, 100), 1), (a, 60, 2)])
    assert store.counts == {("set", "c/0"): 1, ("set", "c/1"): 1}
    assert a[58:62].tolist() == [1, 1, 2, 1]


def test_requests_overlap_across_arrays_and_stores() -> None:
    running = most = 0

    class Slow(WrapperStore[MemoryStore]):
        def __init__(self, store: MemoryStore) -> None:
            super().__init__(store)
            self.high_latency = True

        def get(self, key: str, byte_range: Any = None) -> Any:
            nonlocal running, most
            import time

            running += 1
            most = max(most, running)
            time.sleep(0.02)
            running -= 1
            return super().get(key, byte_range)

    first, second = Slow(MemoryStore()), Slow(MemoryStore())
    arrays = []
    for store in (first, second):
        for i in range(10):
            made = zarr.create_array(
                store.store, name=f"a{i}", shape=(4,), dtype="int8", fill_value=i
            )
            arrays.append(zarr.Array(made.metadata, StorePath(store, f"a{i}")))
    results = zarr.read_many([(array, ...) for array in arrays])
    assert [r[0] for r in results] == [*range(10), *range(10)]
    assert most > 10


def test_nothing_is_written_when_one_item_does_not_fit() -> None:
    a = zarr.create_array({}, shape=(10,), chunks=(5,), dtype="int32")
    read_only = zarr.open_array(a.store.with_read_only(True))
    for bad, error in (
        ((a, slice(0, 3), [1, 2]), ValueError),
        ((a, 10, 1), IndexError),
        ((a, 0, "word"), ValueError),
        ((read_only, 0, 1), ReadOnlyError),
    ):
        with pytest.raises(error):
            zarr.write_many([(a, ..., 7), bad])
    assert not a[...].any()
    with pytest.raises(IndexError):
        zarr.read_many([(a, ...), (a, 10)])


def test_an_error_names_the_chunk(tmp_path: Path) -> None:
    good = zarr.create_array(str(tmp_path / "good"), shape=(10,), chunks=(5,), dtype="int32")
    bad = zarr.create_array(str(tmp_path / "bad"), shape=(10,), chunks=(5,), dtype="int32")
    good[:] = bad[:] = 1
    (tmp_path / "bad" / "c" / "1").write_bytes(b"damaged")
    for items in ([(good, ...), (bad, 7)], [(bad, 7), (bad, 8), (good, ...)]):
        with pytest.raises(ChunkDecodeError, match=r"chunk \(1,\) of array.*bad"):
            zarr.read_many(items)


def test_batches_and_locks_of_processes(tmp_path: Path) -> None:
    array = zarr.create_array(
        LocalStore(tmp_path), shape=(10,), chunks=(5,), dtype="int32", config={"lock": True}
    )
    zarr.write_many([(array, 1, 5), (array, 2, 6), (array, slice(5, 10), 7)])
    assert array[...].tolist() == [0, 5, 6, 0, 0, 7, 7, 7, 7, 7]
    with array.batch() as batch:
        zarr.write_many([(batch.array, 0, 9), (array, 9, 1)])
        mine, others = zarr.read_many([(batch.array, ...), (array, ...)])
        assert (mine[0], others[0]) == (9, 0)
        assert mine[9] == others[9] == 1
    assert array[0] == 9


def test_awaited(tmp_path: Path) -> None:
    arrays = [
        zarr.create_array(str(tmp_path / str(i)), shape=(10,), chunks=(5,), dtype="int32")
        for i in range(5)
    ]
    values = [np.full(10, i) for i in range(5)]

    async def main() -> list[Any]:
        writing = asyncio.ensure_future(
            zarr.write_many_async([(a, ..., v) for a, v in zip(arrays, values, strict=True)])
        )
        await asyncio.sleep(0)
        for value in values:
            value[:] = -1  # the twin works on copies
        await writing
        return await zarr.read_many_async([(a, slice(2, 4)) for a in arrays])

    assert [r.tolist() for r in asyncio.run(main())] == [[i, i] for i in range(5)]


def test_nothing_to_do_is_nothing() -> None:
    assert zarr.read_many([]) == []
    zarr.write_many([])


@pytest.mark.parametrize("axes", [None, (1, 0)])
def test_inner_chunks_that_several_selections_touch_are_decoded_once(axes: Any) -> None:
    data = np.arange(60 * 40).reshape(60, 40)
    filters = None if axes is None else [zarr.codecs.TransposeCodec(order=axes)]
    array = zarr.create_array({}, data=data, chunks=(10, 10), shards=(30, 40), filters=filters)
    rows = np.array([5, 3, 3, 40])
    selections = (
        np.s_[:15],
        np.s_[5:35, 3],
        np.s_[::-4, 7:20],
        (rows, rows % 40),
        (rows, np.s_[:]),
        np.s_[:30],
    )
    items = [(array, selection) for selection in selections]
    with zarr.trace() as trace:
        found = zarr.read_many(items)
    for selection, one in zip(selections, found, strict=True):
        assert np.array_equal(one, data[selection])
    decoded = sum(row.nbytes for row in trace.rows if row.operation == "decode")
    assert decoded <= data.nbytes
    requests = [row for row in trace.requests if row.operation != "read"]
    assert len(requests) == 2  # each shard once
