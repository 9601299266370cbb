"""Two things at the same time, in every order: what each pair may show, and what it may not."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

import numpy as np
import pytest
from running import LONG, all_threads_are_idle, new_pool, twins_that, until
from schedules import Seen, explore

import zarr_core as zarr
from zarr_core.storage import MemoryStore, WrapperStore
from zarr_core.storage.base import ValueSnapshot, content_version

STRESS = bool(os.environ.get("ZARR_CORE_STRESS"))
FILES = (
    *("array/batch", "array/handle", "array/many", "array/resizing"),
    *("chunks/loop", "chunks/sharding", "hierarchy/stored_nodes", "storage/memory"),
)
"""Where threads are interrupted before every line (`nox -s stress`)."""

Pair = tuple[Sequence[Callable[[], object]], Callable[[], object]]


def filled(store: Any, length: int = 8, **options: Any) -> zarr.Array:
    array = zarr.create_array(
        store, shape=(length,), chunks=(4,), dtype="i4", fill_value=0, **options
    )
    array[...] = 1
    return array


def opened(array: zarr.Array) -> zarr.Array:
    """Return another handle on an array, which knows nothing of the first."""
    return zarr.open_array(array.store, mode="r+")


def two_partial_writes() -> Pair:
    """Neither is lost, whichever comes first."""
    a = filled(Seen(MemoryStore()))
    b = opened(a)

    def check() -> None:
        assert a[...].tolist() == [2, 2, 3, 3, 1, 1, 1, 1]

    return [lambda: a.__setitem__(slice(0, 2), 2), lambda: b.__setitem__(slice(2, 4), 3)], check


def two_partial_writes_of_a_shard() -> Pair:
    """Neither is lost, in one inner chunk, and in two."""
    a = filled(Seen(MemoryStore()), 16, shards=(16,))
    b = opened(a)

    def check() -> None:
        assert a[...].tolist() == [2] * 6 + [3] * 4 + [1] * 6

    return [lambda: a.__setitem__(slice(0, 6), 2), lambda: b.__setitem__(slice(6, 10), 3)], check


def write_and_resize() -> Pair:
    """What is written inside is there; what was cut off comes back as fill, or as it was written.

    A write that began before the array was made smaller may end after that, beyond its end.
    """
    a = filled(Seen(MemoryStore()))

    def check() -> None:
        b = opened(a)
        assert b[...].tolist() == [7, 7]
        b.resize(8)
        found = b[...]
        assert found[:2].tolist() == [7, 7]
        assert set(found[2:].tolist()) <= {0, 7}

    return [lambda: a.__setitem__(slice(None), 7), lambda: a.resize(2)], check


def append_and_append() -> Pair:
    """Both are there, one after the other, whichever comes first."""
    a = filled(Seen(MemoryStore()), 6)
    b = opened(a)

    def check() -> None:
        assert opened(a)[6:].tolist() in ([2] * 3 + [3] * 5, [3] * 5 + [2] * 3)

    return [lambda: a.append([2] * 3), lambda: b.append([3] * 5)], check


def append_and_read() -> Pair:
    """A reader sees the old array, or the new one in which what is appended may be fill yet."""
    a = filled(Seen(MemoryStore()), 6)
    found: list[list[int]] = []

    def read() -> None:
        found.extend([opened(a)[...].tolist() for _ in range(2)])

    def check() -> None:
        for values in found:
            assert values[:6] == [1] * 6
            assert len(values) in (6, 9)
            assert set(values[6:]) <= {0, 2}
        assert len(found[0]) <= len(found[1])
        assert opened(a)[6:].tolist() == [2] * 3

    return [lambda: a.append([2] * 3), read], check


class Versioned(Seen):
    """Values have versions, as those of object stores: what the cache of shard indexes needs."""

    def open_value(self, key: str) -> Any:
        value = self.get(key)
        return None if value is None else ValueSnapshot(value, content_version(value))


def write_and_read_through_an_index_cache() -> Pair:
    """A reader sees every inner chunk old or new, and after the write all of them new."""
    a = filled(Versioned(MemoryStore()), 16, shards=(16,))
    reader = opened(a).with_config({"shard_index_cache_bytes": 10_000})
    assert reader[0:5].tolist() == [1] * 5
    written: list[bool] = []

    def write() -> None:
        a[2:10] = np.arange(100, 108)  # another size than before
        written.append(True)

    def read() -> None:
        for _ in range(2):
            is_written = bool(written)
            values = reader[0:9].tolist()
            new = [1, 1, *range(100, 107)]
            assert values == new if is_written else values in (new, [1] * 9)

    def check() -> None:
        assert reader[...].tolist() == [1, 1, *range(100, 108), *[1] * 6]

    return [write, read], check


def write_and_read_through_a_chunk_cache() -> Pair:
    """A reader sees every chunk old or new, and after the write all of them new."""
    a = filled(Seen(MemoryStore()))
    reader = opened(a).with_config({"chunk_cache": zarr.ChunkCache(10_000)})
    assert reader[0:2].tolist() == [1, 1]
    written: list[bool] = []

    def write() -> None:
        a[2:6] = 2
        written.append(True)

    def read() -> None:
        for _ in range(3):
            is_written = bool(written)
            values = reader[...].tolist()
            assert values[:4] in ([1] * 4, [1, 1, 2, 2])
            assert values[4:] in ([1] * 4, [2, 2, 1, 1])
            assert not is_written or values == [1, 1, 2, 2, 2, 2, 1, 1]

    def check() -> None:
        assert reader[...].tolist() == [1, 1, 2, 2, 2, 2, 1, 1]

    return [write, read], check


def set_if_version_twice() -> Pair:
    """One of two that saw the same version stores, the other is told that it did not."""
    store = Seen(MemoryStore({"a": b"old"}))
    version = store.get_versioned("a")[1]
    stored: list[bytes] = []

    def change(value: bytes) -> None:
        if store.set_if_version("a", value, version):
            stored.append(value)

    def check() -> None:
        assert [store.get("a")] == stored

    return [lambda: change(b"one"), lambda: change(b"another")], check


def two_that_create() -> Pair:
    """One creates the node, the other finds it."""
    store = Seen(MemoryStore())
    made: list[int] = []

    def create(n: int) -> None:
        try:
            zarr.create_array(store, name="g/a", shape=n, dtype="i4", zarr_format=2)
        except zarr.errors.ContainsArrayError:
            return
        made.append(n)

    def check() -> None:
        assert [zarr.open_array(store, path="g/a").shape[0]] == made

    return [lambda: create(3), lambda: create(5)], check


def two_changes_of_attributes() -> Pair:
    """Neither is lost, nor is a change of the shape at the same time."""
    a = filled(Seen(MemoryStore()))
    b = opened(a)

    def change() -> None:
        b.attrs["b"] = 2
        b.resize(12)

    def check() -> None:
        fresh = opened(a)
        assert (fresh.attrs.asdict(), fresh.shape) == ({"a": 1, "b": 2}, (12,))

    return [lambda: a.attrs.__setitem__("a", 1), change], check


def batch_flush_and_read() -> Pair:
    """Through the batch what was written is always seen; others see every chunk old or new."""
    a = filled(Seen(MemoryStore()))
    batch = a.batch()
    batch.__enter__()
    batch[1:6] = 2
    other = opened(a)
    new = [1, 2, 2, 2, 2, 2, 1, 1]

    def read() -> None:
        assert batch[...].tolist() == new
        values = other[...].tolist()
        assert values[:4] in (new[:4], [1] * 4)
        assert values[4:] in (new[4:], [1] * 4)
        assert batch[...].tolist() == new

    def check() -> None:
        batch.__exit__(None, None, None)
        assert other[...].tolist() == new

    return [batch.flush, read], check


def batch_flush_and_write() -> Pair:
    """Neither what the batch holds nor what others write beside it is lost."""
    a = filled(Seen(MemoryStore()))
    batch = a.batch()
    batch.__enter__()
    batch[1:3] = 2
    other = opened(a)

    def write() -> None:
        batch[5] = 4
        other[3:5] = 3

    def check() -> None:
        batch.__exit__(None, None, None)
        assert other[...].tolist() == [1, 2, 2, 3, 3, 4, 1, 1]

    return [batch.flush, write], check


def grouped_reads_and_write() -> Pair:
    """A chunk that two reads want is fetched once: both see it old, or both new."""
    a = filled(Seen(MemoryStore()))
    b = opened(a)
    written: list[bool] = []

    def write() -> None:
        a[1:7] = 2
        written.append(True)

    def read() -> None:
        for _ in range(2):
            is_written = bool(written)
            first, second = zarr.read_many([(b, slice(0, 4)), (b, slice(2, 8))])
            assert first.tolist() in ([1] * 4, [1, 2, 2, 2])
            assert first[2:].tolist() == second[:2].tolist()
            assert second[2:].tolist() in ([1] * 4, [2, 2, 2, 1])
            if is_written:
                assert (first[1], second[2]) == (2, 2)

    return [write, read], lambda: None


def delete_and_read() -> Pair:
    """A reader sees the array, some of its chunks as fill, or no array; nobody sees half of one."""
    root = zarr.create_group(Seen(MemoryStore()))
    a = root.create_array("a", data=np.ones(8, "i4"), chunks=(4,))

    def read() -> None:
        values = a[...].tolist()
        assert {tuple(values[:4]), tuple(values[4:])} <= {(0,) * 4, (1,) * 4}
        found = root.get("a")
        assert found is None or found.shape == (8,)

    def check() -> None:
        assert list(a.store.list()) == ["zarr.json"]

    return [lambda: root.__delitem__("a"), read], check


PAIRS = [
    two_partial_writes,
    two_partial_writes_of_a_shard,
    write_and_resize,
    append_and_append,
    append_and_read,
    write_and_read_through_an_index_cache,
    write_and_read_through_a_chunk_cache,
    set_if_version_twice,
    two_that_create,
    two_changes_of_attributes,
    batch_flush_and_read,
    batch_flush_and_write,
    grouped_reads_and_write,
    delete_and_read,
]


@pytest.mark.parametrize("pair", PAIRS)
def test_in_every_order_of_requests(pair: Callable[[], Pair]) -> None:
    assert explore(pair, interruptions=2) > 3


@pytest.mark.skipif(not STRESS, reason="thousands of orders (ZARR_CORE_STRESS=1)")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("pair", PAIRS)
def test_in_every_order_of_lines(pair: Callable[[], Pair]) -> None:
    assert explore(pair, interruptions=1, files=FILES) > 5
    explore(pair, interruptions=2, files=FILES, most=3000)


# --- cancelling and ending --------------------------------------------------------------------------

THREADS = os.path.join(os.path.dirname(zarr.__file__), "threads")


class Watched(WrapperStore[MemoryStore]):
    """A store that notes requests which come when nobody should make any."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.is_over = False
        self.late: list[str] = []
        self.begun, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    def _do(self, method: str, *args: Any, **kwargs: Any) -> Any:
        if self.is_over:
            self.late.append(method)
        self.begun.set()
        assert self.gate.wait(LONG)
        return super()._do(method, *args, **kwargs)


def at_line(number: int, do: Callable[[], object]) -> Callable[..., Any]:
    """Return a trace function that does something before the line of that number of `threads/`."""
    passed = 0

    def lines(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal passed
        if event == "line":
            passed += 1
            if passed == number:
                do()
        return lines

    return lambda frame, *_: lines if frame.f_code.co_filename.startswith(THREADS) else None


TWINS: dict[str, Callable[[zarr.Array], Any]] = {
    "write": lambda a: a.setitem_async(slice(1, 7), 2),
    "read": lambda a: a.getitem_async(slice(1, 7)),
    "read into": lambda a: a.getitem_async(slice(1, 7), out=np.zeros(6, "i4")),
}


async def cancelled(array: zarr.Array, task: "asyncio.Task[Any]") -> None:
    """Await a task that was cancelled; check what its twin must not leave behind."""
    store = array.store
    try:
        await task
    except asyncio.CancelledError:
        store.is_over = True
    until(all_threads_are_idle)
    assert store.late == []
    assert twins_that("run") == twins_that("wait") == 0
    store.is_over = False
    values = (await array.getitem_async(...)).tolist()
    assert values[:4] in ([1] * 4, [1, 2, 2, 2])
    assert values[4:] in ([1] * 4, [2, 2, 2, 1])
    await array.setitem_async(..., 1)  # no key is locked


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_is_cancelled_before_every_line_of_its_thread(name: str) -> None:
    array = filled(Watched(MemoryStore()))

    async def main(number: int) -> bool:
        waits, goes_on = threading.Event(), threading.Event()

        def pause() -> None:
            waits.set()
            goes_on.wait(0.005)  # it may hold what the thread of the loop needs

        threading.settrace(at_line(number, pause))
        try:
            task = asyncio.create_task(TWINS[name](array))
            while not (waits.is_set() or task.done()):
                await asyncio.sleep(0)
        finally:
            threading.settrace(None)  # type: ignore[arg-type]
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        goes_on.set()
        await cancelled(array, task)
        return waits.is_set()

    for number in range(1, 1000, 1 if STRESS else 5):
        with new_pool():
            if not asyncio.run(main(number)):
                break
    assert 10 < number < 999


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_ends_before_every_line_that_cancels_it(name: str) -> None:
    array = filled(Watched(MemoryStore()))
    store = array.store

    async def main(number: int) -> bool:
        has_ended = False

        def end() -> None:
            nonlocal has_ended
            has_ended = True
            store.gate.set()
            with suppress(AssertionError):  # it may need what this thread holds
                until(all_threads_are_idle, 0.01)

        store.begun.clear()
        store.gate.clear()
        task = asyncio.create_task(TWINS[name](array))
        while not store.begun.is_set():
            await asyncio.sleep(0)
        sys.settrace(at_line(number, end))
        try:
            task.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
        finally:
            sys.settrace(None)
        store.gate.set()
        await cancelled(array, task)
        return has_ended

    for number in range(1, 1000, 1 if STRESS else 5):
        with new_pool():
            if not asyncio.run(main(number)):
                break
    assert 5 < number < 999
