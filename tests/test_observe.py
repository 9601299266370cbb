"""Time limits, hooks for chunks, progress bars, and Ctrl-C in synchronous calls."""

import asyncio
import io
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import in_new_interpreter

import zarr_core as zarr
from zarr_core.errors import OperationTimeoutError
from zarr_core.storage import LatencyStore, LoggingStore, MemoryStore

Event = tuple[str, str, int]


def array_of(n_chunks: int, store: Any = None, **options: Any) -> zarr.Array:
    options = {"shape": (10 * n_chunks,), "chunks": (10,), "dtype": "int32", **options}
    array = zarr.create_array({} if store is None else store, **options)
    array[:] = np.arange(array.shape[0])
    return array


def observed(operation: Callable[[], Any]) -> list[Event]:
    events: list[Event] = []
    with zarr.on_chunk(lambda *event: events.append(event)):
        operation()
    return events


LAYOUTS: dict[str, dict[str, Any]] = {
    "raw": {"compressors": None},
    "zstd": {},
    "shards": {"shards": (20,)},
    "format 2": {"zarr_format": 2},
}


@pytest.mark.parametrize("slow", [False, True], ids=["quick", "slow"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_hook_hears_of_every_stored_chunk_once(layout: str, slow: bool) -> None:
    stored = MemoryStore()
    store = LatencyStore(stored, get_latency=1e-4, set_latency=1e-4) if slow else stored
    array = array_of(6, store, **LAYOUTS[layout])
    keys = sorted({part.key for part in array.chunk_parts()})
    sizes = {key: stored.getsize(key) for key in keys}

    read = observed(lambda: array[...])
    assert sorted(read) == [("read", key, sizes[key]) for key in keys]

    written = observed(lambda: array.__setitem__(..., 7))
    assert sorted(written) == [("write", key, stored.getsize(key)) for key in keys]

    one = observed(lambda: array.__setitem__(3, 8))  # reads, changes and stores one chunk
    assert one == [("write", keys[0], stored.getsize(keys[0]))]

    removed = observed(lambda: array.__setitem__(slice(0, 20), 0))
    assert {event[::2] for event in removed} == {("write", 0)}


def test_missing_chunks_have_no_bytes() -> None:
    array = zarr.create_array({}, shape=(20,), chunks=(10,), dtype="int8")
    assert observed(lambda: array[...]) == [("read", "c/0", 0), ("read", "c/1", 0)]


def test_a_part_of_a_shard_counts_what_was_fetched(tmp_path: Path) -> None:
    array = array_of(100, str(tmp_path), shards=(1000,), compressors=None)
    ((operation, key, nbytes),) = observed(lambda: array[15:25])
    assert (operation, key) == ("read", "c/0")
    assert 80 <= nbytes < array.nbytes_stored()


def test_hooks_of_several_levels_all_hear() -> None:
    array = array_of(2)
    outer: list[Event] = []
    with zarr.on_chunk(lambda *event: outer.append(event)):
        inner = observed(lambda: array[...])
    assert inner == outer
    assert len(inner) == 2
    assert len(observed(lambda: array[...])) == 2  # and no longer
    assert len(outer) == 2


def test_hooks_hear_of_awaited_calls_copies_batches_and_whole_chunks() -> None:
    array = array_of(4)

    async def awaited() -> None:
        await asyncio.gather(array.getitem_async(...), array.setitem_async(0, 1))

    assert len(observed(lambda: asyncio.run(awaited()))) == 5

    def batched() -> None:
        with array.batch() as batch:
            for i in range(20):
                batch[i] = 5

    assert [event[0] for event in observed(batched)] == ["write", "write"]
    assert len(observed(lambda: array.read_chunk((0,)))) == 1
    assert len(observed(lambda: array.write_chunk((0,), 3))) == 1
    copied = observed(lambda: zarr.from_array({}, data=array, chunks=(20,)))
    assert [event[0] for event in copied].count("write") == 2


def test_a_hook_is_called_by_one_thread_at_a_time_and_may_use_the_library() -> None:
    array = array_of(64, shape=(64 * 1000,), chunks=(1000,))
    other = array_of(3)
    inside = 0

    def hook(operation: str, key: str, nbytes: int) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        assert other[...].sum() == sum(range(30))  # is not observed itself
        inside -= 1

    with zarr.on_chunk(hook):
        np.testing.assert_array_equal(array[...], np.arange(64000))


def test_an_error_of_a_hook_ends_the_call() -> None:
    array = array_of(10)
    seen = []

    def hook(operation: str, key: str, nbytes: int) -> None:
        seen.append(key)
        if len(seen) == 3:
            raise RuntimeError("enough")

    with zarr.on_chunk(hook), pytest.raises(RuntimeError, match="enough"):
        array[...]
    assert len(seen) == 3


# --- progress --------------------------------------------------------------------------------------


@pytest.mark.parametrize("using", ["tqdm", "rich", None])
def test_progress_shows_how_many_chunks_are_done(using: Any, monkeypatch: Any) -> None:
    pytest.importorskip(using or "tqdm")
    array = array_of(12)
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(sys, "stdout", shown)
    with zarr.progress("reading", using=using):
        array[...]
        array[:60]
    text = shown.getvalue()
    assert "reading" in text
    assert ("100%" in text) if using == "rich" else ("18/18" in text)


def test_progress_needs_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tqdm", "tqdm.auto", "rich", "rich.progress"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="tqdm or rich"), zarr.progress():
        pass


# --- time limits -----------------------------------------------------------------------------------

WAYS: dict[str, Callable[[zarr.Array, float], Any]] = {
    "getitem": lambda a, s: a.getitem(..., timeout=s),
    "get_basic_selection": lambda a, s: a.get_basic_selection(timeout=s),
    "get_orthogonal_selection": lambda a, s: a.get_orthogonal_selection(..., timeout=s),
    "get_coordinate_selection": lambda a, s: a.get_coordinate_selection(
        np.arange(a.shape[0]), timeout=s
    ),
    "get_mask_selection": lambda a, s: a.get_mask_selection(np.ones(a.shape, bool), timeout=s),
    "get_block_selection": lambda a, s: a.get_block_selection(..., timeout=s),
    "setitem": lambda a, s: a.setitem(..., 1, timeout=s),
    "set_basic_selection": lambda a, s: a.set_basic_selection(..., 1, timeout=s),
    "set_orthogonal_selection": lambda a, s: a.set_orthogonal_selection(..., 1, timeout=s),
    "set_coordinate_selection": lambda a, s: a.set_coordinate_selection(
        np.arange(a.shape[0]), 1, timeout=s
    ),
    "set_mask_selection": lambda a, s: a.set_mask_selection(np.ones(a.shape, bool), 1, timeout=s),
    "set_block_selection": lambda a, s: a.set_block_selection(..., 1, timeout=s),
    "read_many": lambda a, s: zarr.read_many([(a, ...)], timeout=s),
    "write_many": lambda a, s: zarr.write_many([(a, ..., 1)], timeout=s),
    "getitem_async": lambda a, s: asyncio.run(a.getitem_async(..., timeout=s)),
    "setitem_async": lambda a, s: asyncio.run(a.setitem_async(..., 1, timeout=s)),
}


class Slow(LoggingStore):
    """Every request takes a while, and is counted when it begins."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.high_latency = True
        self.begun: list[str] = []

    def get(self, key: str, byte_range: Any = None) -> Any:
        self.begun.append(key)
        time.sleep(0.01)
        return super().get(key, byte_range)

    def set(self, key: str, value: Any) -> None:
        self.begun.append(key)
        time.sleep(0.01)
        super().set(key, value)


@pytest.mark.parametrize("way", WAYS)
def test_no_request_begins_after_a_timeout_that_says_what_was_done(way: str) -> None:
    store = Slow(MemoryStore())
    with zarr.config.set({"io.max_requests": 4}):
        array = array_of(40, store)
        store.begun.clear()
        with pytest.raises(
            OperationTimeoutError, match=r"within 0.035 s: \d+ of 40 chunks"
        ) as info:
            WAYS[way](array, 0.035)
    begun = len(store.begun)
    assert 0 < begun < 40
    time.sleep(0.05)
    assert len(store.begun) == begun
    done = int(str(info.value).split(": ")[-1].split()[0])
    assert 0 < done <= begun


@pytest.mark.parametrize("way", WAYS)
def test_a_timeout_that_is_long_enough_changes_nothing(way: str) -> None:
    array = array_of(5)
    expected = WAYS[way](array, 1000)
    again = WAYS[way](array_of(5), 1000)
    np.testing.assert_array_equal(expected, again)


# --- Ctrl-C ----------------------------------------------------------------------------------------

INTERRUPTED = """
    import os, signal, sys, threading, time
    import numpy as np
    import zarr_core as zarr
    from zarr_core.storage import MemoryStore, WrapperStore

    class Slow(WrapperStore):
        running = 0
        begun = []

        def get(self, key, byte_range=None):
            return self.take(super().get, key, byte_range)

        def set(self, key, value):
            return self.take(super().set, key, value)

        def take(self, request, *args):
            Slow.begun.append(args[0])
            try:
                Slow.running += 1
                time.sleep(0.05)
                return request(*args)
            finally:
                Slow.running -= 1

    store = Slow(MemoryStore())
    store.high_latency = {slow}
    array = zarr.create_array(store._store, shape=(4000,), chunks=(10,), dtype="int32")
    array = zarr.open_array(store)
    Slow.begun.clear()

    def press():
        time.sleep(0.12)
        for _ in range({times}):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.003)

    threading.Thread(target=press, daemon=True).start()
    try:
        with zarr.config.set({{"io.max_requests": 8}}):
            {statement}
    except KeyboardInterrupt:
        begun, running = len(Slow.begun), Slow.running
        time.sleep(0.2)
        assert 0 < begun < 400, begun
        assert running == 0, running
        assert len(Slow.begun) == begun, (begun, len(Slow.begun))
        print("stopped")
    else:
        print("not interrupted")
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("slow", "times"), [(False, 1), (True, 1), (True, 2)], ids=["quick", "slow", "slow, twice"]
)
@pytest.mark.parametrize("statement", ["array[...]", "array[...] = 1"])
def test_after_ctrl_c_no_request_begins_and_none_runs(
    statement: str, slow: bool, times: int
) -> None:
    code = INTERRUPTED.format(statement=statement, slow=slow, times=times)
    in_new_interpreter(code, stdout="stopped")


def test_an_unobserved_call_makes_no_object_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    array = array_of(3)
    monkeypatch.setattr("zarr_core.chunks.space._WatchedBytes", None)
    np.testing.assert_array_equal(array[...], np.arange(30))
    array[5] = 1
