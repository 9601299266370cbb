"""`SQLiteStore`: one file, transactions, processes that are killed, files of something else."""

import os
import pickle
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from running import threads

import zarr_core as zarr
from zarr_core.errors import ReadOnlyError, StoreError, ValueChangedError
from zarr_core.storage import RangeByteRequest, SQLiteStore, store_from

posix_only = pytest.mark.skipif(os.name == "nt", reason="SIGKILL")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a b" / "x#1.zarr.sqlite"


@pytest.fixture
def store(path: Path) -> SQLiteStore:
    path.parent.mkdir()
    return SQLiteStore(path)


def test_a_hierarchy_in_one_file(store: SQLiteStore, path: Path) -> None:
    group = zarr.create_group(path, attributes={"n": 1})
    data = np.arange(600).reshape(20, 30)
    group.create_array("a/b", data=data, chunks=(4, 7), shards=(8, 14))
    group.store.close()
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    for place in (path, str(path), f"sqlite://{path}", SQLiteStore(path, read_only=True)):
        found = zarr.open_group(place, mode="r")
        assert (found["a/b"][3:17:2, ::5] == data[3:17:2, ::5]).all()
        assert found.attrs["n"] == 1
        assert list(found.group_keys()) == ["a"]
        found.store.close()
    assert isinstance(store_from(path).store, SQLiteStore)


def test_reading_makes_no_file(store: SQLiteStore, path: Path) -> None:
    for found in (store, SQLiteStore(path, read_only=True)):
        assert found.get("a") is None
        assert found.get("a", RangeByteRequest(0, 1)) is None
        assert list(found.list()) == list(found.list_dir("")) == []
        assert found.is_empty()
        assert found.getsize_prefix("") == 0
    assert not path.exists()


def test_files_of_something_else_are_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.sqlite")) as db:
        db.execute("CREATE TABLE zarr (x)")
        db.commit()
    (tmp_path / "text.sqlite").write_text("no database" * 100)
    for name, words in (("other", "something else"), ("text", "not a database")):
        file = tmp_path / f"{name}.sqlite"
        before = file.read_bytes()
        for found in (SQLiteStore(file), SQLiteStore(file, read_only=True)):
            with pytest.raises(StoreError, match=words):
                found.get("a")
        with pytest.raises(StoreError, match=words):
            SQLiteStore(file).set("a", b"1")
        assert file.read_bytes() == before


def test_parts_of_a_value_that_is_replaced(store: SQLiteStore) -> None:
    store.set("a", bytes(range(100)))
    value = store.open_value("a")
    assert value is not None
    assert value.read(RangeByteRequest(10, 12)) == bytes([10, 11])
    store.set("a", bytes(100))
    with pytest.raises(ValueChangedError):
        value.read(RangeByteRequest(10, 12))


def test_a_transaction_is_all_or_nothing(store: SQLiteStore, path: Path) -> None:
    other = SQLiteStore(path)
    store.set("a", b"old")
    with store.transaction():
        store.set("a", b"new")
        store.set("b", b"new")
        assert store.get("a") == b"new"
        assert store.get("a", RangeByteRequest(0, 1)) == b"n"
        assert other.get("a") == b"old"
        assert not other.exists("b")
    assert other.get("a") == other.get("b") == b"new"

    def fail() -> None:
        with store.transaction():
            store.delete("a")
            store.set("c", b"1")
            with store.transaction():
                store.delete_dir("")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert sorted(store.list()) == ["a", "b"]
    with store.transaction():
        with pytest.raises(TypeError, match="transaction"):
            pickle.dumps(store)
        with pytest.raises(StoreError, match="transaction"):
            store.close()
    with pytest.raises(ReadOnlyError), store.with_read_only(True).transaction():
        pass


def test_writes_of_an_array_are_part_of_a_transaction(store: SQLiteStore) -> None:
    array = zarr.create_array(store, shape=(64, 64), chunks=(8, 8), dtype="i4", fill_value=7)
    reader = zarr.open_array(SQLiteStore(store.path, read_only=True))

    def fail() -> None:
        with store.transaction():
            array[...] = np.ones((64, 64))
            assert (array[...] == 1).all()
            assert (reader[...] == 7).all()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (array[...] == 7).all()
    with store.transaction():
        array[...] = 2
        array.attrs["done"] = True
        assert "done" not in reader.refresh().attrs
    assert (reader[...] == 2).all()
    assert reader.refresh().attrs["done"]


def test_others_wait_for_a_transaction(store: SQLiteStore, path: Path) -> None:
    began, order = threading.Event(), []

    def write() -> None:
        began.wait()
        SQLiteStore(path).set("a", b"other")
        order.append("other")

    with threads(write), store.transaction():
        began.set()
        store.set("a", b"mine")
        order.append("mine")
    assert order == ["mine", "other"]
    assert store.get("a") == b"other"
    impatient = SQLiteStore(path, timeout=0.05)
    with store.transaction(), pytest.raises(StoreError, match="locked"):
        impatient.set("a", b"1")


def test_pickles_mean_the_same_file(store: SQLiteStore) -> None:
    store.set("a", b"1")
    for found in (store, store.with_read_only(True)):
        copy = pickle.loads(pickle.dumps(found))
        assert copy == found
        assert copy.get("a") == b"1"
        assert copy.lock_key("a") == store.lock_key("a")


KILLED = """
import os, sys
from zarr_core.storage import SQLiteStore

store = SQLiteStore(sys.argv[1])
print("ready", flush=True)
number = int(store.get("number") or b"0")
while True:
    number += 1
    with store.transaction():
        for i in range(20):
            store.set(f"k/{i}", b"%d" % number * 500)
        store.set("number", b"%d" % number)
"""


@posix_only
def test_a_process_that_is_killed_leaves_all_or_nothing(store: SQLiteStore, path: Path) -> None:
    rng, seen = random.Random(1), set()
    for _ in range(15):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(path)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        threading.Event().wait(rng.random() * 0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        number = store.get("number")
        seen.add(number)
        if number is not None:
            assert {bytes(store.get(f"k/{i}") or b"") for i in range(20)} == {bytes(number) * 500}
    assert len(seen) > 1


COUNTED = """
import sys
from zarr_core.storage import SQLiteStore

store = SQLiteStore(sys.argv[1])
for i in range(50):
    while True:
        value, version = store.get_versioned("n")
        if store.set_if_version("n", b"%d" % (int(value) + 1), version):
            break
    with store.transaction():
        store.set("m", b"%d" % (int(store.get("m")) + 1))
"""


def test_processes_lose_no_update(store: SQLiteStore, path: Path) -> None:
    store.set("n", b"0")
    store.set("m", b"0")
    command = [sys.executable, "-c", COUNTED, str(path)]
    started = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert store.get("n") == store.get("m") == b"150"
