"""`stream`: windows in their order, read ahead, each chunk decoded once while it is near."""

import asyncio
import gc
import threading
import tracemalloc
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zarr_core as zarr
from zarr_core.errors import BoundsCheckError, ChunkDecodeError, OperationTimeoutError
from zarr_core.storage import LatencyStore, MemoryStore, WrapperStore

DATA = np.arange(200 * 30, dtype="i4").reshape(200, 30)


def made(slow: bool = False, **options: Any) -> zarr.Array:
    store = MemoryStore()
    zarr.create_array(store, data=DATA, **{"chunks": (10, 30), **options})
    return zarr.open_array(LatencyStore(store) if slow else store, mode="r")


class Counting(WrapperStore[MemoryStore]):
    """Counts how often each chunk is fetched; lets the fetches through one by one, if told to."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.fetched: Counter[str] = Counter()
        self.gate: threading.Semaphore | None = None

    def get(self, key: str, byte_range: Any = None) -> Any:
        if "/" in key:
            if self.gate is not None:
                assert self.gate.acquire(timeout=10)
            self.fetched[key] += 1
        return super().get(key, byte_range)


def counting(**options: Any) -> tuple[zarr.Array, Counting]:
    store = Counting(MemoryStore())
    zarr.create_array(store, data=DATA, **{"chunks": (10, 30), **options})
    return zarr.open_array(store), store


@settings(deadline=None)
@given(data=st.data())
def test_the_same_as_indexing(data: Any) -> None:
    arrays = [
        made(
            data.draw(st.booleans()),
            **data.draw(
                st.sampled_from(
                    [
                        {},
                        {"compressors": None},
                        {"chunks": (5, 7)},
                        {"chunks": (10, 15), "shards": (50, 30)},
                    ]
                )
            ),
        )
        for _ in range(2)
    ]
    one = st.slices(200) | st.integers(-200, 199) | st.lists(st.integers(0, 199), max_size=5)
    items = [
        (data.draw(st.sampled_from(arrays)), data.draw(one))
        for _ in range(data.draw(st.integers(0, 20)))
    ]
    found = list(zarr.stream(iter(items), ahead=data.draw(st.integers(1, 9))))
    assert len(found) == len(items)
    for (array, selection), window in zip(items, found, strict=True):
        expected = array[selection]
        assert type(window) is type(expected)
        assert window.dtype == expected.dtype
        assert np.array_equal(window, expected)


@pytest.mark.parametrize("shards", [None, (40, 30)])
def test_chunks_that_near_windows_share_are_decoded_once(shards: Any) -> None:
    array = made(shards=shards)
    with zarr.trace() as trace:
        windows = [
            w.copy()
            for w in zarr.stream(((array, slice(k, k + 15)) for k in range(0, 180, 5)), ahead=16)
        ]
    assert all(
        (w == DATA[k : k + 15]).all() for k, w in zip(range(0, 180, 5), windows, strict=True)
    )
    decoded = sum(row.nbytes for row in trace.rows if row.operation == "decode")
    assert decoded == DATA[:190].nbytes


def test_no_more_than_ahead_is_asked_for_or_read() -> None:
    array, store = counting()
    asked = []

    def items() -> Iterator[Any]:
        for k in range(20):
            asked.append(k)
            yield array, slice(10 * k, 10 * k + 10)

    stream = zarr.stream(items(), ahead=4)
    assert not asked
    assert not store.fetched
    first = next(stream)
    assert (first == DATA[:10]).all()
    assert asked == [0, 1, 2, 3]
    stream.close()  # waits for what is under way
    assert sum(store.fetched.values()) <= 4
    with pytest.raises(StopIteration):
        next(stream)
    fetched = store.fetched.copy()
    assert list(stream) == []
    assert store.fetched == fetched


def test_windows_are_read_while_the_caller_works() -> None:
    array, store = counting()
    stream = zarr.stream(((array, slice(10 * k, 10 * k + 10)) for k in range(20)), ahead=8)
    next(stream)
    for _ in range(1000):  # while nothing is asked for
        if len(store.fetched) >= 4:
            break
        threading.Event().wait(0.01)
    assert len(store.fetched) == 4
    assert len(list(stream)) == 19
    assert set(store.fetched.values()) == {1}


def test_the_first_window_does_not_wait_for_the_others() -> None:
    array = zarr.create_array(
        Counting(MemoryStore()), data=np.zeros((4, 3 << 20)), chunks=(1, 3 << 20)
    )
    store = array.store
    assert isinstance(store, Counting)
    with zarr.config.set({"threading.max_workers": 1}):
        store.gate = threading.Semaphore(1)
        stream = zarr.stream(((array, k) for k in range(4)), ahead=8)
        assert next(stream).shape == (3 << 20,)
        store.gate.release(3)
        assert len(list(stream)) == 3


def test_memory_is_that_of_the_windows() -> None:
    data = np.zeros((64, 1 << 17))
    array = zarr.create_array({}, shape=data.shape, chunks=(1, 1 << 17), dtype="f8", fill_value=1)
    array[...] = data
    tracemalloc.start()
    try:
        for window in zarr.stream(((array, slice(k, k + 4)) for k in range(0, 60, 2)), ahead=6):
            most = window.nbytes * 7.5  # a few chunks are decoded beside the windows
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("n_buffers", [1, 2, 3, 9])
def test_buffers_of_the_caller_are_filled_in_turn(n_buffers: int) -> None:
    array = made()
    buffers = [np.full((15, 30), -1, "i4") for _ in range(n_buffers)]
    stream = zarr.stream(
        ((array, slice(k, k + 15)) for k in range(0, 180, 5)), ahead=6, out=buffers
    )
    for number, window in enumerate(stream):
        assert window is buffers[number % n_buffers]
        for _ in range(3):  # it stays as it is until the next one is asked for
            assert (window == DATA[5 * number : 5 * number + 15]).all()
    assert number == 35


def test_buffers_of_other_kinds() -> None:
    array = made()

    class OnlyDLPack:
        def __init__(self) -> None:
            self.memory = np.zeros((10, 30), "i4")

        def __dlpack__(self, **options: Any) -> Any:
            return self.memory.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return self.memory.__dlpack_device__()

    dlpack, plain = OnlyDLPack(), bytearray(1200)
    shared = memoryview(np.zeros((10, 30), "i4"))
    items = [(array, slice(10 * k, 10 * k + 10)) for k in range(3)]
    found = list(zarr.stream(items, out=[dlpack, plain, shared]))
    assert found[0] is dlpack
    assert found[1] is plain
    assert (dlpack.memory == DATA[:10]).all()
    assert plain == DATA[10:20].tobytes()
    assert shared.tolist() == DATA[20:30].tolist()
    assert array.getitem(slice(10), out=plain) is plain
    assert plain == DATA[:10].tobytes()
    for wrong in (bytearray(1199), bytes(1200), np.zeros((10, 30), "f4"), np.zeros((30, 10), "i4")):
        with pytest.raises(ValueError, match="out"):
            next(zarr.stream(items, out=[wrong]))


def test_errors_come_when_it_is_their_turn() -> None:
    array, store = counting()
    del store.fetched["x"]
    store.store._store_dict["c/7/0"] = b"damaged"
    items = [(array, slice(10 * k, 10 * k + 10)) for k in range(20)]
    stream = zarr.stream(items, ahead=4)
    found = [next(stream) for _ in range(6)]
    assert (found[5] == DATA[50:60]).all()
    with pytest.raises(ChunkDecodeError, match="c/7/0"):
        list(stream)
    assert list(stream) == []
    stream = zarr.stream([(array, 3), (array, 4), (array, 900), (array, 5)])
    assert [next(stream)[0], next(stream)[0]] == [90, 120]
    with pytest.raises(BoundsCheckError):
        next(stream)
    assert list(stream) == []

    def failing() -> Iterator[Any]:
        yield array, 0
        raise KeyError("mine")

    stream = zarr.stream(failing())
    next(stream)
    with pytest.raises(KeyError, match="mine"):
        next(stream)
    with pytest.raises(TypeError, match="an array and a selection"):
        next(zarr.stream([array]))  # type: ignore[list-item]
    for options in ({"ahead": 0}, {"out": []}):
        with pytest.raises(ValueError, match="at least one"):
            zarr.stream(items, **options)  # type: ignore[arg-type]


def test_left_early_it_is_collected() -> None:
    array = made()
    stream = zarr.stream((array, k) for k in range(200))
    next(stream)
    ref = weakref.ref(stream)
    del stream
    for _ in range(1000):
        gc.collect()
        if ref() is None:
            break
        threading.Event().wait(0.01)
    assert ref() is None


def test_in_a_block_with_a_time_limit_and_hooks() -> None:
    array = made()
    seen: list[str] = []
    with zarr.on_chunk(lambda operation, key, nbytes: seen.append(key)):
        stream = zarr.stream((array, slice(10 * k, 10 * k + 10)) for k in range(3))
    assert len(list(stream)) == 3  # belongs to the block in which it was made
    assert sorted(seen) == ["c/0/0", "c/1/0", "c/2/0"]
    with zarr.timeout(0), pytest.raises(OperationTimeoutError):
        next(zarr.stream([(array, 0)]))


def test_unflushed_batches_are_seen() -> None:
    array = zarr.create_array({}, data=DATA, chunks=(10, 30))
    with array.batch() as batch:
        batch[5] = -1
        found = list(zarr.stream((batch.array, k) for k in (4, 5)))
    assert (found[0] == DATA[4]).all()
    assert (found[1] == -1).all()


def test_with_async_for() -> None:
    array = made(slow=True)

    async def main() -> list[Any]:
        found = [w async for w in zarr.stream((array, slice(k, k + 15)) for k in range(0, 180, 5))]
        async with zarr.stream((array, k) for k in range(200)) as stream:
            async for window in stream:
                found.append(window)
                break
        assert [w async for w in stream] == []
        with pytest.raises(BoundsCheckError):
            async for _ in zarr.stream([(array, 900)]):
                pass
        return found

    found = asyncio.run(main())
    assert len(found) == 37
    assert (found[35] == DATA[175:190]).all()
    assert (found[36] == DATA[0]).all()


def test_cancelled_it_goes_on_where_it_was() -> None:
    array, store = counting()
    store.gate = threading.Semaphore(0)

    async def main() -> Any:
        stream = zarr.stream((array, slice(10 * k, 10 * k + 10)) for k in range(3))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.05)
        assert store.gate is not None
        store.gate.release(10)
        return [w async for w in stream]

    found = asyncio.run(main())
    assert [int(w[0, 0]) for w in found] == [0, 300, 600]
