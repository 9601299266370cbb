"""An existing key is never missing: readers of every store beside writers, deleters, resizers, batches.

Threads are switched as often as possible. A value says which key it is of and how often that had been
written before, so a mixture shows, and so does a value older than the last write that had ended.
"""

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import threads
from test_storage import STORES

import zarr_core as zarr
from zarr_core.errors import ConflictError, ValueChangedError
from zarr_core.storage import (
    RangeByteRequest,
    Request,
    Store,
    SuffixByteRequest,
    ZipStore,
)

STRESS = bool(os.environ.get("ZARR_CORE_STRESS"))
SECONDS = 5.0 if STRESS else 0.0
"""For how long a test goes on after its first turns (`nox -s stress`)."""

TURNS = 3
"""How often every thread that writes does so at least."""

pytestmark = pytest.mark.usefixtures("_hasty")


LIKE_OTHERS = frozenset(
    (
        *("slow-minimal", "managed", "managed-path", "local-fsync", "wrapper", "prefix"),
        *("logging", "retry", "zip-deflate"),
    )
)
"""Stores that do the same as others with a little around."""

NAMES = [name for name in STORES if STRESS or name not in LIKE_OTHERS]


@pytest.fixture(params=NAMES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    root = tmp_path / "store"
    root.mkdir()
    with STORES[request.param](root) as store:
        yield store


def beside(readers: list[Callable[[], object]], writers: list[Callable[[int], object]]) -> None:
    """Have readers read again and again while writers write, turn after turn."""
    end, ended = time.monotonic() + SECONDS, threading.Event()

    def write(writer: Callable[[int], object]) -> None:
        for turn in itertools.count(1):
            writer(turn)
            if ended.is_set() or (turn >= TURNS and time.monotonic() >= end):
                return

    def read(reader: Callable[[], object]) -> None:
        while True:
            reader()
            if ended.is_set():
                return

    def until_end(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException:
            ended.set()
            raise

    with threads(*(partial(until_end, partial(read, reader)) for reader in readers)):
        try:
            with threads(*(partial(until_end, partial(write, writer)) for writer in writers)):
                pass
        finally:
            ended.set()


# --- keys ------------------------------------------------------------------------------------------

KEYS = ("kept/a", "kept/d/b")


def value_of(key: str, turn: int) -> bytes:
    return b"%s:%d:" % (key.encode(), turn) + bytes([turn % 251]) * (100 + turn % 7 * 500)


def turn_of(key: str, value: Any) -> int:
    """Return at which turn a value was written; it must be whole, and of the key."""
    assert value is not None, f"{key} is missing"
    name, turn, _ = bytes(value).split(b":", 2)
    assert name.decode() == key
    assert bytes(value) == value_of(key, int(turn))
    return int(turn)


def opened(store: Store, key: str) -> Any:
    """Return a value that is read through a snapshot, in two parts."""
    while True:
        snapshot = store.open_value(key)
        assert snapshot is not None, f"{key} is missing"
        with closing(snapshot), suppress(ValueChangedError):
            head = bytes(snapshot.read(RangeByteRequest(0, 50)))
            whole = bytes(snapshot.read())
            assert whole.startswith(head)
            return whole


def test_an_existing_key_is_never_missing(store: Store) -> None:
    written = dict.fromkeys(KEYS, 0)
    for key in KEYS:
        store.set(key, value_of(key, 0))
        store.set(f"{key}-shared", value_of(f"{key}-shared", 0))
    conditional = store.supports_conditional_writes

    def check(key: str, read: Callable[[], Any]) -> None:
        oldest = written[key]
        assert turn_of(key, read()) >= oldest

    def read_one() -> None:
        for key in KEYS:
            check(key, lambda key=key: store.get(key))
            check(key, lambda key=key: opened(store, key))
            check(key, lambda key=key: store.get_versioned(key)[0])
            assert store.exists(key)
            assert store.getsize(key) >= 100
            assert len(store.get(key, SuffixByteRequest(100)) or b"") == 100
            turn_of(f"{key}-shared", store.get(f"{key}-shared"))
            assert next(iter(store.list_dir("kept")), None) is not None

    def read_many() -> None:
        oldest = written.copy()
        with closing(store.get_many(map(Request, KEYS))) as results:
            for number, value, error in results:
                assert error is None
                assert turn_of(KEYS[number], value) >= oldest[KEYS[number]]

    def write(key: str, turn: int) -> None:
        if conditional and turn % 3 == 0:
            assert store.set_if_version(key, value_of(key, turn), store.get_versioned(key)[1])
        else:
            store.set(key, value_of(key, turn))
        written[key] = turn
        for shared in KEYS:
            store.set(f"{shared}-shared", value_of(f"{shared}-shared", turn))
        if turn % 8 == 7 and isinstance(store, ZipStore):
            store.flush()

    def delete(turn: int) -> None:
        others = [f"{place}/{turn % 3}" for place in ("kept", "kept/d", "kept/d/e", "others/x")]
        for key in others:
            store.set(key, b"1")
        for key in others[:2]:
            store.delete(key)
        store.delete_dir("kept/d/e")
        store.delete_dir("others")
        store.prune("kept")

    beside([read_one, read_one, read_many], [partial(write, key) for key in KEYS] + [delete])
    for key in KEYS:
        assert turn_of(key, store.get(key)) == written[key]


# --- chunks ----------------------------------------------------------------------------------------


LAYOUTS = ("chunks", "shards", "2")
CASES = [
    (name, layout)
    for number, name in enumerate(NAMES)
    for turn, layout in enumerate(LAYOUTS)
    if STRESS or turn == number % 3
]


@pytest.mark.parametrize(("store", "layout"), CASES, indirect=["store"])
def test_an_existing_chunk_never_reads_as_fill(store: Store, layout: str) -> None:
    shards = {"shards": (4, 4)} if layout == "shards" else {}
    root = zarr.create_group(store, zarr_format=2 if layout == "2" else 3)
    root.create_array("a", shape=(8, 8), chunks=(2, 2), dtype="i4", **shards)[...] = 1
    written = [1, 1, 1]

    def read(selection: Any, part: int) -> Callable[[], None]:
        array = zarr.open_array(store, path="a", mode="r")

        def look() -> None:
            oldest = written[part]
            with suppress(ValueChangedError):
                found = array[selection]
                assert found.min() >= oldest, found

        return look

    def handle() -> zarr.Array:
        return zarr.open_array(store, path="a", mode="r+")

    def write(array: zarr.Array, turn: int) -> None:
        array[0:8, 0] = turn  # a column, in chunks that others write to
        written[0] = turn

    def batch(array: zarr.Array, turn: int) -> None:
        with array.batch() as kept:
            kept[0:3, 1] = turn
            kept[3:8, 1] = turn
        written[1] = turn

    def replace(array: zarr.Array, turn: int) -> None:
        array[0:4, 4:8] = turn  # whole chunks, a whole shard
        written[2] = turn

    def resize(array: zarr.Array, turn: int) -> None:
        with suppress(ConflictError):
            array.resize((9 + turn % 3, 8))

    def create(turn: int) -> None:
        other = zarr.create_array(
            store,
            name=f"b{turn % 2}",
            data=np.ones((3, 3)),
            overwrite=True,
            zarr_format=root.metadata.zarr_format,
        )
        assert other[...].all()
        other.attrs["n"] = turn
        del root[f"b{turn % 2}"]

    readers = [
        read((slice(0, 8), 0), 0),
        read((slice(0, 8), 1), 1),
        read((slice(0, 4), slice(4, 8)), 2),
        read(([7, 0, 3], 0), 0),
    ]
    changes = [partial(change, handle()) for change in (write, batch, replace, resize)]
    beside(readers, [*changes, create])
    array = handle()
    assert [array[0:8, 0].min(), array[0:8, 1].min(), array[0:4, 4:8].min()] == written
