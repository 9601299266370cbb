"""Awaited reads that wait for a thread are made together, and nobody can tell but by the time."""

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

import anyio
import numpy as np
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from running import at_once

import zarr_core as zarr
from zarr_core.array import many
from zarr_core.codecs import ZstdCodec
from zarr_core.config import config
from zarr_core.errors import BoundsCheckError, ChunkDecodeError, OperationTimeoutError
from zarr_core.storage import LatencyStore, MemoryStore, Value, WrapperStore

LONG = 20.0

VALUES = np.arange(40 * 64, dtype="i8").reshape(40, 64)


class Gate(WrapperStore[MemoryStore]):
    """Counts requests for chunks, and lets the first of them wait."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        super().__init__(MemoryStore() if store is None else store)
        self.keys: Counter[str] = Counter()
        self.asked, self.open = threading.Event(), threading.Event()
        self.get_cost = 100.0  # worth sharing

    def get(self, key: str, byte_range: Any = None) -> Value | None:
        if "c/" in key:
            self.keys[key] += 1
            self.asked.set()
            assert self.open.wait(LONG)
        return self._store.get(key, byte_range)


def filled(store: Any, **options: Any) -> zarr.Array:
    given = {"chunks": (1, 64), "compressors": ZstdCodec(checksum=True), **options}
    a = zarr.create_array(store, shape=VALUES.shape, dtype=VALUES.dtype, **given)
    getattr(store, "open", threading.Event()).set()
    a[...] = VALUES
    getattr(store, "open", threading.Event()).clear()
    getattr(store, "keys", Counter()).clear()
    return a


async def while_busy(
    store: Gate, a: zarr.Array, reads: list[Callable[[], Awaitable[Any]]]
) -> list[Any]:
    """Start reads while the only thread is busy; return their results or errors."""
    store.asked.clear()
    store.open.clear()
    outcomes: list[Any] = [None] * len(reads)

    async def keep(number: int, read: Callable[[], Awaitable[Any]]) -> None:
        try:
            outcomes[number] = await read()
        except Exception as error:  # noqa: BLE001
            outcomes[number] = error

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(a.getitem_async, 39)
        while not store.asked.is_set():
            await anyio.sleep(0.001)
        for number, read in enumerate(reads):
            tasks.start_soon(keep, number, read)
        await anyio.sleep(0.01)
        store.keys.clear()
        store.open.set()
    return outcomes


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    with config.set({"async.limit": 1}):
        yield


loops = pytest.mark.parametrize(
    "run", [lambda main: asyncio.run(main()), trio.run], ids=["asyncio", "trio"]
)


@loops
def test_a_chunk_that_many_want_is_fetched_and_decoded_once(run: Any) -> None:
    store = Gate()
    a = filled(store)

    async def main() -> None:
        found = await while_busy(store, a, [lambda: a.getitem_async((3, slice(5, 60)))] * 50)
        assert store.keys == {"c/3/0": 1}
        for array in found:
            np.testing.assert_array_equal(array, VALUES[3, 5:60])
            assert array.flags.owndata
            assert array.flags.writeable
        assert len({id(array) for array in found}) == 50

    run(main)


def test_what_is_read_first_is_given_before_the_last_is_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(many, "AT_A_TIME_BYTES", 2 * VALUES[0].nbytes)
    seen, last_may = threading.Event(), threading.Event()

    class Last(Gate):
        def get(self, key: str, byte_range: Any = None) -> Value | None:
            assert key != "c/9/0" or not seen.is_set() or last_may.wait(LONG)
            return super().get(key, byte_range)

    store = Last()
    a = filled(store)
    seen.set()
    n_given = 0

    async def main() -> None:
        async def one(row: int) -> Any:
            nonlocal n_given
            found = await a.getitem_async((row, slice(5, 9)))
            n_given += 1
            if n_given == 6:  # the last three are in one part with the one that waits
                last_may.set()
            return found

        # The first row is wanted again at the end: it is fetched once.
        rows = [*range(10), 0]
        found = await while_busy(store, a, [partial(one, row) for row in rows])
        np.testing.assert_array_equal(found, VALUES[rows, 5:9])
        assert store.keys == {f"c/{row}/0": 1 for row in range(10)}

    asyncio.run(main())


def test_every_kind_of_read_is_made_with_the_others() -> None:
    store = Gate()
    a = filled(store)
    mask = VALUES == 70
    reads: list[tuple[Callable[[], Awaitable[Any]], Any]] = [
        (lambda: a.getitem_async((1, 6)), VALUES[1, 6]),
        (lambda: a.getitem_async((slice(1, 2), 6)), VALUES[1:2, 6]),
        (lambda: a.getitem_async(selection=(1, None, slice(-1, 3, -2))), VALUES[1, None, -1:3:-2]),
        (lambda: a.get_basic_selection_async((1, 6)), VALUES[1, 6]),
        (lambda: a.get_orthogonal_selection_async(([1], [6, 2])), VALUES[[1]][:, [6, 2]]),
        (lambda: a.get_coordinate_selection_async(([1, 1], [6, 2])), VALUES[[1, 1], [6, 2]]),
        (lambda: a.get_mask_selection_async(mask), VALUES[mask]),
        (lambda: a.get_mask_selection_async(mask=mask), VALUES[mask]),
        (lambda: a.get_block_selection_async((1, 0)), VALUES[1:2]),
        (lambda: a.oindex.getitem_async(([1], slice(3))), VALUES[1:2, :3]),
        (lambda: a.vindex.getitem_async(([1], [3])), VALUES[[1], [3]]),
        (lambda: a.blocks.getitem_async(1), VALUES[1:2]),
    ]

    async def main() -> None:
        found = await while_busy(store, a, [read for read, _ in reads])
        assert store.keys == {"c/1/0": 1}
        for (read, expected), result in zip(reads, found, strict=True):
            np.testing.assert_array_equal(result, expected)
            store.open.set()
            assert type(await read()) is type(result)

    asyncio.run(main())


def test_a_damaged_chunk_fails_for_those_who_want_it() -> None:
    store = Gate()
    a = filled(store)
    store.store.set("c/7/0", b"damaged")

    async def main() -> None:
        reads = [lambda k=k: a.getitem_async(k % 40) for k in range(100)]
        found = await while_busy(store, a, reads)
        for k, result in enumerate(found):
            if k % 40 == 7:
                assert isinstance(result, ChunkDecodeError)
                assert "(7, 0)" in str(result)
            else:
                np.testing.assert_array_equal(result, VALUES[k % 40])
        assert len({id(found[k]) for k in (7, 47, 87)}) == 3

    asyncio.run(main())


def test_a_selection_that_does_not_fit_fails_alone() -> None:
    store = Gate()
    a = filled(store)

    async def main() -> None:
        found = await while_busy(store, a, [lambda k=k: a.getitem_async(k) for k in (1, 99, 2)])
        np.testing.assert_array_equal(found[0], VALUES[1])
        assert isinstance(found[1], BoundsCheckError)
        np.testing.assert_array_equal(found[2], VALUES[2])

    asyncio.run(main())


@loops
@pytest.mark.parametrize(
    "options", [{}, {"chunks": (1, 8), "shards": (1, 64)}], ids=["chunks", "shards"]
)
def test_a_cancelled_read_leaves_the_others_alone(run: Any, options: Any) -> None:
    store = Gate()
    a = filled(store, **options)

    async def main() -> None:
        cancelled = anyio.CancelScope()

        async def stop() -> Any:
            await anyio.sleep(0.002)
            cancelled.cancel()

        async def read() -> Any:
            with cancelled:
                return await a.getitem_async((2, slice(3)))
            return "cancelled"

        others = [lambda k=k: a.getitem_async((k, slice(3))) for k in (1, 2, 3)]
        found = await while_busy(store, a, [others[0], stop, read, *others[1:]])
        assert found[2] == "cancelled"
        for result, k in zip([found[0], *found[3:]], (1, 2, 3), strict=True):
            np.testing.assert_array_equal(result, VALUES[k, :3])

    run(main)


def test_what_only_cancelled_reads_want_is_not_fetched() -> None:
    store = Gate()
    a = filled(store)

    async def main() -> None:
        first = asyncio.create_task(a.getitem_async(39))
        while not store.asked.is_set():
            await asyncio.sleep(0.001)
        tasks = [asyncio.create_task(a.getitem_async(k % 4)) for k in range(40)]
        await asyncio.sleep(0.005)
        for k, task in enumerate(tasks):
            if k % 4 == 2:
                task.cancel()
        done, _ = await asyncio.wait([task for k, task in enumerate(tasks) if k % 4 == 2])
        assert all(task.cancelled() for task in done)
        store.keys.clear()
        store.open.set()
        await first
        await asyncio.gather(*tasks, return_exceptions=True)
        assert store.keys == {f"c/{k}/0": 1 for k in (0, 1, 3)}

    asyncio.run(main())


def test_reads_with_limits_hooks_and_other_contexts_are_their_own() -> None:
    store = Gate()
    a = filled(store)
    seen: list[str] = []
    who: ContextVar[str] = ContextVar("who", default="nobody")
    asked: list[str] = []
    get = store.get
    store.get = lambda *args: (asked.append(who.get()), get(*args))[1]  # type: ignore[method-assign]

    async def observed() -> Any:
        with zarr.on_chunk(lambda operation, key, nbytes: seen.append(key)):
            return await a.getitem_async(5)

    async def named() -> Any:
        who.set("somebody")
        return await a.getitem_async(5)

    async def main() -> None:
        found = await while_busy(
            store,
            a,
            [
                lambda: a.getitem_async(5),
                observed,
                named,
                lambda: a.getitem_async(5, timeout=LONG),
                lambda: a.getitem_async(5, timeout=1e-9),
                lambda: a.getitem_async(5),
            ],
        )
        assert isinstance(found.pop(4), OperationTimeoutError)
        for result in found:
            np.testing.assert_array_equal(result, VALUES[5])
        assert seen == ["c/5/0"]
        assert asked.count("somebody") == 1

    asyncio.run(main())


def test_reads_of_a_batch_and_into_out_see_what_they_should() -> None:
    store = Gate()
    a = filled(store)

    async def main() -> None:
        out = np.zeros(64, "i8")
        with a.batch() as batch:
            store.open.set()
            batch[5, 0] = -1
            found = await while_busy(
                store,
                a,
                [
                    lambda: batch.getitem_async((5, slice(2))),
                    lambda: a.getitem_async((5, slice(2))),
                    lambda: a.getitem_async(6, out=out),
                ],
            )
        assert [result.tolist() for result in found[:2]] == [[-1, 321], [320, 321]]
        assert found[2] is out
        np.testing.assert_array_equal(out, VALUES[6])

    asyncio.run(main())


@pytest.mark.parametrize(
    "options", [{}, {"chunks": (1, 8), "shards": (1, 64)}], ids=["chunks", "shards"]
)
@pytest.mark.parametrize(("n_reads", "n_chunks"), [(64, 1), (1000, 40)])
def test_reads_of_a_slow_store_that_start_together_are_one_request_a_chunk(
    n_reads: int, n_chunks: int, options: Any
) -> None:
    store = Gate()
    store.high_latency = True
    store.get_many = lambda requests: MemoryStore.get_many(store, requests)  # type: ignore[method-assign]
    a = filled(store, **options)

    async def main() -> None:
        store.open.set()
        found = await asyncio.gather(*(a.getitem_async(k % n_chunks) for k in range(n_reads)))
        for k, result in enumerate(found):
            np.testing.assert_array_equal(result, VALUES[k % n_chunks])
        if not options:  # the inside of a shard is read by each for itself
            assert store.keys == {f"c/{k}/0": 1 for k in range(n_chunks)}

    with config.set({"async.limit_high_latency": 256}):
        asyncio.run(main())


def test_slow_requests_of_reads_that_start_together_overlap() -> None:
    store = LatencyStore(MemoryStore())
    a = filled(store)
    running, most, lock = 0, 0, threading.Lock()

    def latency() -> float:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.02)
        with lock:
            running -= 1
        return 0.0

    store.get_latency = latency

    async def main() -> None:
        await asyncio.gather(*(a.getitem_async(k) for k in range(40)))

    with config.set({"async.limit_high_latency": 256}):
        asyncio.run(main())
    assert most > 20


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=40))
def test_a_read_sees_all_writes_that_had_returned(steps: list[tuple[int, bool]]) -> None:
    """Each read shows a value not older than the last write that had returned when it was called."""
    store = MemoryStore()
    a = zarr.create_array(store, shape=(4, 16), chunks=(1, 16), dtype="i8", compressors=ZstdCodec())
    written, begun = [0] * 4, [0] * 4

    async def read(row: int) -> None:
        least = written[row]
        found = (await a.getitem_async(row)).tolist()
        assert len(set(found)) == 1
        assert least <= found[0] <= begun[row]

    async def write(row: int, lock: asyncio.Lock) -> None:
        async with lock:  # one writer a row, so that values only grow
            begun[row] += 1
            await a.setitem_async(row, begun[row])
            written[row] = begun[row]

    async def main() -> None:
        locks = [asyncio.Lock() for _ in range(4)]
        await asyncio.gather(
            *(write(row, locks[row]) if is_write else read(row) for row, is_write in steps)
        )

    with config.set({"async.limit": 2}):
        asyncio.run(main())


def test_sixteen_threads_with_a_loop_each() -> None:
    a = filled(MemoryStore())

    async def main() -> None:
        for start in range(5):
            reads = [a.getitem_async((start + k) % 40) for k in range(60)]
            for k, result in enumerate(await asyncio.gather(*reads)):
                np.testing.assert_array_equal(result, VALUES[(start + k) % 40])

    def work() -> None:
        asyncio.run(main())

    with config.set({"async.limit": 3}):
        at_once(*[work] * 16)


tag: ContextVar[Any] = ContextVar("tag", default=None)


def test_context_variables_that_cannot_be_compared_harm_nobody() -> None:
    store = Gate()
    a = filled(store)

    async def tagged(k: int) -> Any:
        tag.set(np.arange(3) + k)  # two of these are neither equal nor not
        return await a.getitem_async(k)

    async def main() -> None:
        reads = [lambda k=k: tagged(k) for k in range(10)]  # type: ignore[misc]
        found = await while_busy(store, a, reads)
        for k, result in enumerate(found):
            np.testing.assert_array_equal(result, VALUES[k])

    with config.set({"async.limit": 1}):
        asyncio.run(main())
