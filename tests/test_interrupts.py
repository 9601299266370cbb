"""Ctrl-C at every point where it can come: nothing stays open, locked, half done or lost.

A signal is handled after a call of C code, or as a function begins: there a profile function raises,
at the first such point of our storage code, at the second, and so on. Signals come on top, at random.
"""

import gc
import os
import random
import signal
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import zarr_core as zarr
from zarr_core.storage import FsspecStore, LocalStore, ZipStore
from zarr_core.storage.local import TEMP_SUFFIX

pytestmark = [
    pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are counted there"),
    # A file that was open when Ctrl-C came is closed by its last reference, with this warning.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

STORAGE = os.path.join(os.path.dirname(zarr.__file__), "storage")


def interrupted_at(point: int, function: Callable[[], object]) -> BaseException | None:
    """Call a function with a Ctrl-C at the given point of it; None when it has fewer points."""
    passed = 0

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal passed
        if frame.f_code.co_name == "__del__":
            return  # where an exception is printed, and goes nowhere
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(STORAGE):
            passed += 1
            if passed == point:
                sys.setprofile(None)
                raise KeyboardInterrupt

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        function()
    except KeyboardInterrupt as error:
        return error
    finally:
        sys.setprofile(before)
    return None


def everywhere(function: Callable[[], object]) -> Iterator[BaseException]:
    """Call a function again and again, with Ctrl-C one point later each time; yield what it raised."""
    for point in range(1, 5000):
        error = interrupted_at(point, function)
        if error is None:
            return
        yield error
    raise AssertionError("too many points")


def open_files() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def temporary(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if TEMP_SUFFIX in path.name]


def from_another_thread(function: Callable[[], object]) -> None:
    """Call a function where a lock that was kept would be waited for."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "a lock was kept"


# --- local files -----------------------------------------------------------------------------------


def read_opened(store: LocalStore) -> None:
    opened = store.open_value("d/a")
    assert opened is not None
    with closing(opened):
        opened.read()


OPERATIONS: dict[str, Callable[[LocalStore, str | None], object]] = {
    "get": lambda store, version: store.get("d/a"),
    "open_value": lambda store, version: read_opened(store),
    "set": lambda store, version: store.set("d/a", b"a"),
    "set_if_not_exists": lambda store, version: store.set_if_not_exists("d/b", b"b"),
    "set_if_version": lambda store, version: store.set_if_version("d/a", b"a", version),
    "delete": lambda store, version: store.delete("d/b"),
}


@pytest.mark.parametrize("kind", ["local", "fsync", "fsspec"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_local_files_at_every_point(name: str, kind: str, tmp_path: Path) -> None:
    store: Any = LocalStore(tmp_path, fsync=kind == "fsync")
    if kind == "fsspec":
        store = FsspecStore.from_url(f"file://{tmp_path}")
    store.set("d/a", b"a")
    os.utime(tmp_path / "d" / "a", (1, 1))
    version = store.get_versioned("d/a")[1]
    OPERATIONS[name](store, version)
    before, points = open_files(), 0

    def operation() -> None:
        (tmp_path / "d" / "b").unlink(missing_ok=True)
        OPERATIONS[name](store, version)

    for error in everywhere(operation):
        # What a traceback keeps, as that of a console does, must not keep a lock.
        from_another_thread(lambda: store.set_if_version("d/a", b"a", "no version"))
        assert temporary(tmp_path) == []
        assert store.get("d/a") == b"a"
        points += error is not None
    assert points >= 2
    del error
    assert open_files() == before


def arrays(root: Path) -> dict[str, Callable[[], object]]:
    array = zarr.create_array(root / "plain", shape=(8, 8), chunks=(4, 4), dtype="i4")
    shards = zarr.create_array(
        root / "shards", shape=(8, 8), chunks=(2, 2), shards=(4, 4), dtype="i4"
    )
    growing = zarr.create_array(root / "growing", shape=(0, 4), chunks=(1, 4), dtype="i4")
    count = iter(range(10**9))

    def batch() -> None:
        with array.batch() as kept:
            kept[1:3, 1:3] = next(count)

    def update() -> None:
        array.attrs["n"] = next(count)

    return {
        "read": lambda: array[...],
        "write": lambda: array.__setitem__((slice(1, 7), slice(1, 7)), next(count)),
        "write shards": lambda: shards.__setitem__((slice(1, 7), slice(1, 7)), next(count)),
        "read shards": lambda: shards[1:3, 1:3],
        "attributes": update,
        "append": lambda: growing.append(np.ones((1, 4), "i4")),
        "resize": lambda: growing.refresh().resize((3 + next(count) % 3, 4)),
        "batch": batch,
    }


NAMES = [
    "read", "write", "write shards", "read shards", "attributes", "append", "resize", "batch"
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_arrays_at_every_point(name: str, tmp_path: Path) -> None:
    operation = arrays(tmp_path)[name]
    with zarr.config.set({"threading.max_workers": 1}):
        operation()
        before = open_files()
        for error in everywhere(operation):
            assert temporary(tmp_path) == []
            assert error is not None
        from_another_thread(operation)
    del error
    assert open_files() == before


@pytest.mark.parametrize("name", NAMES)
def test_arrays_and_real_signals(name: str, tmp_path: Path) -> None:
    operation, rng = arrays(tmp_path)[name], random.Random(0)
    with zarr.config.set({"threading.max_workers": 1}):
        operation()
        before, caught = open_files(), 0

        def interrupt(*_: Any) -> None:
            raise KeyboardInterrupt

        old = signal.signal(signal.SIGALRM, interrupt)
        try:
            for _ in range(60):
                try:
                    signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 1e-3))
                    for _ in range(100):
                        operation()
                except KeyboardInterrupt:
                    caught += 1
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                assert temporary(tmp_path) == []
        finally:
            signal.signal(signal.SIGALRM, old)
        assert caught
        from_another_thread(operation)
    assert open_files() == before


# --- zip files -------------------------------------------------------------------------------------


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == len(set(archive.namelist()))
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize(("end", "spilled"), [("flush", False), ("close", True)])
def test_zip_files_at_every_point(
    end: str, spilled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # takes most of the time
    if spilled:
        monkeypatch.setattr("zarr_core.storage.zip_archive.PENDING_BYTES", 10)
    path = tmp_path / "a.zip"
    with ZipStore(path, mode="w") as first:
        first.set("old", b"old" * 100)
    before = open_files()
    for point in range(1, 5000):
        store = ZipStore(path, mode="a")
        known = {key: store.get(key) for key in store.list()}
        accepted: dict[str, bytes] = {}
        begun: dict[str, bytes] = {}

        def work(store: Any = store, accepted: Any = accepted, begun: Any = begun) -> None:
            for turn, key in enumerate(("a", "b", "a")):
                begun[key] = f"{key} {point} {turn}".encode() * 30  # noqa: B023 - called at once
                store.set(key, begun[key])
                accepted[key] = begun[key]
            getattr(store, end)()

        error = interrupted_at(point, work)
        assert members(path) in (known, known | accepted)
        store.set("later", b"%d" % point)
        from_another_thread(lambda store=store: store.get("later"))  # type: ignore[misc]
        store.flush()
        found = members(path)
        assert found.keys() <= {"old", "a", "b", "later"}
        assert (found["old"], found["later"]) == (b"old" * 100, b"%d" % point)
        for key in ("a", "b"):
            assert found.get(key) in (accepted.get(key, known.get(key)), begun.get(key))
        store.close()
        assert os.listdir(tmp_path) == ["a.zip"]
        if error is None:
            break
        error.__traceback__ = None
    else:
        raise AssertionError("too many points")
    assert point > 20
    del store, first, work, error
    assert open_files() == before


def test_file_objects_at_every_point(tmp_path: Path) -> None:
    with open(tmp_path / "a.zip", "w+b") as file:
        store = ZipStore(file, mode="w")
        store.set("a", b"a" * 1000)
        store.flush()
        points = 0

        def work() -> None:
            store.set("b", b"b%d" % points)
            store.flush()

        for error in everywhere(work):
            error.__traceback__ = None
            points += 1
            assert store.get("a") == b"a" * 1000
        store.close()
    assert members(tmp_path / "a.zip") == {"a": b"a" * 1000, "b": b"b%d" % points}
    assert points > 10
