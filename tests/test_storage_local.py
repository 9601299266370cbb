"""What a directory of files promises: no torn values, no lost errors, nothing outside its root."""

import errno
import os
import pickle
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running import at_once, in_new_interpreter, threads

import zarr_core as zarr
from zarr_core.errors import InvalidKeyError, StoreError
from zarr_core.storage import (
    FsspecStore,
    LocalStore,
    OffsetByteRequest,
    PrefixStore,
    RangeByteRequest,
    Request,
    SuffixByteRequest,
    directories,
)
from zarr_core.storage import local as local_module
from zarr_core.storage.local import TEMP_SUFFIX

posix_only = pytest.mark.skipif(os.name == "nt", reason="POSIX files")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "root")


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


# --- crashes -------------------------------------------------------------------------------------

WRITER = """
import itertools, os, sys
from zarr_core.storage import LocalStore
store = LocalStore(sys.argv[1])
for turn in itertools.count(int(sys.argv[2])):
    for key in ("a/0", "a/1", "zarr.json"):
        store.set(key, bytes([turn % 251]) * (1 << 18))
        os.write(1, b"%s %d\\n" % (key.encode(), turn % 251))
"""


@posix_only
def test_kill_at_any_moment(tmp_path: Path) -> None:
    # one interpreter forks all writers, as starting one takes longer than what is tested
    script = f"""
import os, random, signal, sys, time
import zarr_core.storage
for turn in range(30):
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(write_end, 1)
        sys.argv = ["", {str(tmp_path)!r}, str(turn * 7)]
        exec({WRITER!r})
    os.close(write_end)
    acknowledged = os.read(read_end, 10)  # it has begun
    time.sleep(random.uniform(0, 0.03))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while data := os.read(read_end, 1 << 16):
        acknowledged += data
    os.close(read_end)
    last = {{}}
    for line in acknowledged.decode().split("\\n")[:-1]:
        key, value = line.split()[-2:]
        last[key] = int(value)
    store = zarr_core.storage.LocalStore({str(tmp_path)!r})
    for key, value in last.items():
        data = store.get(key)
        assert len(data) == 1 << 18, (key, len(data))
        assert data == data[:1] * len(data), "torn"
        assert data[0] in (value, (value + 1) % 251), "an acknowledged write was lost"
    assert set(store.list()) <= {{"a/0", "a/1", "zarr.json"}}, list(store.list())
    assert set(store.list_dir("a")) <= {{"0", "1"}}
print("done")
"""
    assert in_new_interpreter(script, warnings="ignore").endswith("done\n")


def test_clean_temp(store: LocalStore) -> None:
    store.set("a/b", b"1")
    old = store.root / "a" / f"dead-0{TEMP_SUFFIX}"
    young = store.root / f"alive-0{TEMP_SUFFIX}"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    assert list(store.list()) == ["a/b"]
    assert list(store.list_dir("")) == ["a"]
    assert store.getsize_prefix("") == 1
    assert store.clean_temp() == 1
    assert young.exists()
    assert store.clean_temp(older_than=0) == 1
    assert files(store.root) == ["a/b"]
    assert LocalStore(store.root / "missing").clean_temp() == 0


def test_temporary_names_are_no_keys(store: LocalStore) -> None:
    name = f"x{TEMP_SUFFIX}"
    for call in (store.get, store.delete, store.exists, store.list_dir, store.delete_dir):
        with pytest.raises(InvalidKeyError):
            call(name)
    with pytest.raises(InvalidKeyError):
        store.set(f"{name}/a", b"")


# --- errors of the system ------------------------------------------------------------------------

CALLS = ("open", "write", "replace", "close", "fsync", "mkdir", "link", "unlink")


class Faults:
    """Makes the Nth call of a kind fail, once or from then on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.count, self.at, self.code, self.sticky = 0, -1, errno.EIO, False
        for name in CALLS:
            monkeypatch.setattr(os, name, self.wrap(name, getattr(os, name)))
        self.root = str(root)
        self.failed: list[str] = []

    def wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            of_store = isinstance(args[0], int) or str(args[0]).startswith(self.root)
            if not of_store or self.at < 0:
                return real(*args, **kwargs)
            self.count += 1
            if self.count == self.at or (self.sticky and self.count > self.at):
                self.failed.append(name)
                if name == "close":
                    real(*args, **kwargs)
                raise OSError(self.code, os.strerror(self.code))
            return real(*args, **kwargs)

        return call


@pytest.mark.parametrize("sticky", [False, True])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("fsync", [False, True])
def test_every_call_of_a_write_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, sticky: bool, fsync: bool
) -> None:
    root = tmp_path / "root"
    store = LocalStore(root, fsync=fsync)
    faults = Faults(monkeypatch, root)
    faults.code, faults.sticky = code, sticky
    writes: list[Callable[[], Any]] = [
        lambda: store.set("a/b", b"new" * 1000),
        lambda: store.set_if_not_exists("c/d", b"new" * 1000),
        lambda: store.set_if_version("a/b", b"new" * 1000, store.get_versioned("a/b")[1]),
        lambda: store.delete("a/b"),
    ]
    for write in writes:
        for n in range(1, 40):
            store.delete("c/d")
            store.set("a/b", b"old")
            faults.count, faults.at, faults.failed = 0, n, []
            error = None
            try:
                write()
            except OSError as caught:
                error = caught
            finally:
                happened, faults.at = faults.failed, -1
            if not happened:
                break
            value = store.get("a/b")
            assert value in (b"old", b"new" * 1000, None)
            # only cleaning up may fail unnoticed; then at most an unfinished file stays, unlisted
            if error is None:
                assert set(happened) <= {"unlink", "open", "link"}
            elif isinstance(error, PermissionError):
                assert code == errno.EACCES
            assert set(store.list()) <= {"a/b", "c/d"}
            left = [name for name in files(root) if name.endswith(TEMP_SUFFIX)]
            assert not left or sticky or "unlink" in happened, (n, happened, left)
            store.clean_temp(older_than=-10)
        else:
            pytest.fail("the write never got through")


@pytest.mark.parametrize("name", ["lseek", "pread", "open", "fstat"])
def test_errors_of_reading_are_errors(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if not hasattr(os, name):
        pytest.skip(f"no os.{name} here")
    store.set("a", b"value")
    opened = store.open_value("a")
    assert opened is not None

    def fail(*args: Any) -> Any:
        raise OSError(errno.EIO, "I/O error")

    where = local_module if name == "pread" else os
    with monkeypatch.context() as patched:
        patched.setattr(where, name, fail)
        if name == "lseek":
            assert store.get("a") == b"value"  # `fstat` knows the size too
        elif name != "fstat":
            with pytest.raises(OSError) as caught:
                store.get("a")
            assert caught.value.errno == errno.EIO
            assert caught.value.filename == str(store.root / "a") or name == "open"
        if name == "pread":
            with pytest.raises(OSError):
                opened.read()
        if name in ("open", "fstat"):
            with pytest.raises(OSError):
                store.open_value("a")
    assert opened.read() == b"value"
    opened.close()


@pytest.mark.parametrize("kind", ["directory", "parent is a file"])
def test_only_a_missing_file_is_missing(store: LocalStore, kind: str) -> None:
    if kind == "directory":
        store.set("c/0/x", b"1")
        expected: type[OSError] = StoreError
    else:
        store.set("c", b"1")
        expected = NotADirectoryError
    for call in (store.get, store.open_value, store.getsize, store.get_versioned):
        with pytest.raises(expected, match="c/0"):
            call("c/0")
    with pytest.raises(expected):
        store.get("c/0", RangeByteRequest(0, 1))
    (result,) = store.get_many([Request("c/0")])
    assert isinstance(result.error, expected)
    with pytest.raises(OSError):
        store.set("c/0", b"x")
    assert not store.exists("c/0")
    if kind == "directory":
        with pytest.raises(StoreError):
            store.delete("c/0")
        with pytest.raises(StoreError):
            store.set_if_not_exists("c/0", b"x")
    else:
        store.delete("c/0")
    assert len(list(store.list())) == 1
    assert not [name for name in files(store.root) if name.endswith(TEMP_SUFFIX)]


@posix_only
def test_pipes_and_devices_are_errors_at_once(store: LocalStore) -> None:
    store.set("x", b"1")
    os.mkfifo(store.root / "fifo")
    os.symlink("/dev/zero", store.root / "zero")
    os.symlink("/dev/null", store.root / "null")
    os.symlink("/nowhere/at/all", store.root / "dangling")
    for key in ("fifo", "zero", "null"):
        for call in (store.get, store.open_value, store.getsize):
            with pytest.raises(StoreError, match=key):
                call(key)
    assert store.get("dangling") is None
    os.symlink("loop", store.root / "loop")
    with pytest.raises(OSError):
        store.get("loop")


@posix_only
@pytest.mark.parametrize("place", ["file", "directory"])
def test_permission_denied_is_an_error(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    store.set("a/b", b"1")
    if os.geteuid() == 0:  # root may read everything: say what the system says to others
        real = os.open

        def deny(path: Any, *args: Any, **kwargs: Any) -> int:
            if str(path).endswith("a/b"):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return real(path, *args, **kwargs)

        monkeypatch.setattr(os, "open", deny)
    else:
        os.chmod(store.root / ("a/b" if place == "file" else "a"), 0)
    try:
        with pytest.raises(PermissionError, match="a/b"):
            store.get("a/b")
        (result,) = store.get_many([Request("a/b")])
        assert isinstance(result.error, PermissionError)
    finally:
        os.chmod(store.root / "a", 0o700)


def test_a_file_that_was_cut_while_open_is_an_error(store: LocalStore) -> None:
    store.set("a", b"0123456789")
    opened = store.open_value("a")
    assert opened is not None
    os.truncate(store.root / "a", 4)
    for byte_range in (None, RangeByteRequest(2, 8), SuffixByteRequest(3), OffsetByteRequest(5)):
        with pytest.raises(StoreError):
            opened.read(byte_range)
    opened.close()
    with pytest.raises(ValueError):
        opened.read()
    opened.close()


def test_the_system_may_read_and_write_in_pieces(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_write, real_pread = os.write, local_module.pread
    monkeypatch.setattr(os, "write", lambda fd, data: real_write(fd, bytes(data)[:7]))
    value = os.urandom(100)
    store.set("a", memoryview(value))
    monkeypatch.setattr(local_module, "pread", lambda fd, n, at: real_pread(fd, min(n, 9), at))
    assert store.get("a") == value
    assert store.get("a", RangeByteRequest(5, 95)) == value[5:95]


def test_renaming_is_tried_again_on_windows(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = os.replace, [0]

    def busy(source: Any, target: Any) -> None:
        if failures[0] < 3:
            failures[0] += 1
            raise PermissionError(errno.EACCES, "in use", target)
        real(source, target)

    monkeypatch.setattr(local_module, "WINDOWS", True)
    monkeypatch.setattr(os, "replace", busy)
    store.set("a", b"1")
    assert store.get("a") == b"1"
    assert failures == [3]


def test_without_hard_links(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(source: Any, target: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    assert store.set_if_not_exists("a/b", b"1")
    assert not store.set_if_not_exists("a/b", b"2")
    assert files(store.root) == ["a/b"]


@posix_only
def test_directories_that_cannot_be_locked(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = directories.flock

    def like_nfs(fd: int, what: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EBADF, "not open for writing")
        real(fd, what)

    monkeypatch.setattr(directories, "flock", like_nfs)
    assert store.set_if_version("a/b", b"1", None)
    assert not store.set_if_version("a/b", b"2", None)
    assert list(store.list()) == ["a/b"]
    store.delete_dir("a")
    assert store.is_empty()


# --- durability ----------------------------------------------------------------------------------


def test_fsync_is_called_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        calls.append(stat.S_ISDIR(os.fstat(fd).st_mode))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    LocalStore(tmp_path).set("a/b", b"1")
    assert calls == []
    durable = LocalStore(tmp_path, fsync=True)
    durable.set("a/b", b"2")
    assert calls == [False, True]  # the file before it gets its name, the directory afterwards
    assert durable.set_if_not_exists("a/c", b"2")
    assert calls == [False, True] * 2
    durable.delete("a/c")
    assert calls == [*[False, True] * 2, True]


# --- other processes -----------------------------------------------------------------------------

COUNTER = """
import sys
from zarr_core.storage import LocalStore
store = LocalStore(sys.argv[1])
for _ in range(50):
    while True:
        value, version = store.get_versioned("g/count")
        if store.set_if_version("g/count", b"%d" % (int(value or b"0") + 1), version):
            break
    if store.set_if_not_exists("g/%d" % _, sys.argv[2].encode()):
        print(_)
"""


def test_processes_lose_no_updates(tmp_path: Path) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", COUNTER, str(tmp_path), str(me)], stdout=subprocess.PIPE
        )
        for me in range(3)
    ]
    outputs = [process.communicate(timeout=60)[0].split() for process in running]
    assert LocalStore(tmp_path).get("g/count") == b"150"
    created = [line for output in outputs for line in output]
    assert len(created) == len(set(created)) == 50
    assert not [name for name in files(tmp_path) if name.endswith(TEMP_SUFFIX)]


@posix_only
def test_a_fork_does_not_keep_locks(tmp_path: Path) -> None:
    script = """
        import os, signal, sys, threading, time
        from zarr_core.storage import LocalStore
        from zarr_core.storage.directories import while_locked
        store = LocalStore(sys.argv[1])
        store.set("a", b"0")
        def fork():
            pid = os.fork()
            if pid == 0:
                time.sleep(30)
                os._exit(0)
            return pid
        pid = while_locked(str(store.root / "a"), fork)
        signal.alarm(10)
        assert store.set_if_version("a", b"1", store.get_versioned("a")[1])
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        print("ok")
    """
    assert in_new_interpreter(script, tmp_path, warnings="ignore") == "ok\n"


@posix_only
def test_forks_use_other_temporary_names() -> None:
    script = """
        import os
        from zarr_core.storage.local import _temp_name
        read_end, write_end = os.pipe()
        if os.fork() == 0:
            os.write(write_end, _temp_name("d").encode())
            os._exit(0)
        os.wait()
        print(os.read(read_end, 1000).decode() != _temp_name("d"))
    """
    assert in_new_interpreter(script, warnings="ignore") == "True\n"


def test_readers_never_see_half_a_value(store: LocalStore) -> None:
    store.set("a", b"\0" * 100_000)
    torn: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            value = store.get("a")
            opened = store.open_value("a")
            assert opened is not None
            tail = opened.read(SuffixByteRequest(10))
            head = opened.read(RangeByteRequest(0, 10))
            opened.close()
            if value is None or bytes(value[:1]) * len(value) != value or head != tail:
                torn.append(1)

    with threads(read, read, read):
        for i in range(200):
            store.set("a", bytes([i]) * random.randrange(50_000, 100_000))
        done.set()
    assert not torn


def test_writing_while_directories_are_removed(store: LocalStore) -> None:
    done = threading.Event()

    def remove() -> None:
        while not done.is_set():
            store.delete_dir("a")

    def write() -> None:
        for i in range(150):
            store.set(f"a/b/c/{i % 3}", b"x")

    with threads(remove):
        at_once(write, write)
        done.set()


# --- the root and what is outside ----------------------------------------------------------------


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "outside"
    path.mkdir()
    (path / "secret").write_bytes(b"secret")
    yield path
    assert (path / "secret").read_bytes() == b"secret"


@pytest.mark.parametrize("key", ["../outside/secret", "a/../../outside/secret", "a\\..\\secret"])
def test_keys_stay_below_the_root(store: LocalStore, outside: Path, key: str) -> None:
    store.set("a/b", b"1")
    for call in (store.get, store.delete, store.exists, store.list_prefix, store.delete_dir):
        with pytest.raises(InvalidKeyError):
            call(key)
    with pytest.raises(InvalidKeyError):
        store.set(key, b"x")


@posix_only
def test_links(store: LocalStore, outside: Path) -> None:
    store.set("a/b", b"1")
    os.symlink(outside, store.root / "a" / "linked")
    os.symlink(store.root, store.root / "a" / "up")
    assert sorted(store.list()) == ["a/b", "a/linked/secret"]
    assert sorted(store.list_dir("a")) == ["b", "linked", "up"]
    assert store.get("a/linked/secret") == b"secret"
    store.delete_dir("a/linked")
    assert sorted(store.list()) == ["a/b"]
    os.symlink(outside, store.root / "a" / "linked")
    store.delete_dir("a")
    assert store.is_empty()
    assert not (store.root / "a").exists()


def test_delete_dir_leaves_what_others_are_writing(store: LocalStore) -> None:
    store.set("a/b/c", b"1")
    temp = store.root / "a" / "b" / f"other-0{TEMP_SUFFIX}"
    temp.write_bytes(b"half")
    store.delete_dir("a")
    assert files(store.root) == [f"a/b/{temp.name}"]
    assert store.is_empty()


def test_the_root_is_made_by_the_first_write(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "x" / "y")
    assert store.get("a") is None
    assert list(store.list()) == []
    assert list(store.list_dir("")) == []
    store.delete("a")
    store.clear()
    assert not (tmp_path / "x").exists()
    store.set("a", b"1")
    assert (tmp_path / "x" / "y" / "a").read_bytes() == b"1"
    store.clear()
    assert store.root.is_dir()


@posix_only
def test_files_get_the_usual_permissions(store: LocalStore) -> None:
    old = os.umask(0o027)
    try:
        store.set("a/b", b"1")
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(store.root / "a/b").st_mode) == 0o640


def test_root_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = LocalStore("data")
    assert store.root == tmp_path / "data"
    assert str(store) == f"file://{(tmp_path / 'data').as_posix()}"
    assert LocalStore(f"{tmp_path}/data/") == store
    assert LocalStore(tmp_path / "data", read_only=True) != store
    monkeypatch.chdir("/")
    store.set("a", b"1")
    assert (tmp_path / "data" / "a").exists()
    with pytest.raises(TypeError):
        LocalStore(b"data")  # type: ignore[arg-type]
    copied = pickle.loads(pickle.dumps(LocalStore(tmp_path, fsync=True, read_only=True)))
    assert (copied.root, copied.fsync, copied.read_only) == (tmp_path, True, True)


@posix_only
def test_locks_are_of_places(tmp_path: Path) -> None:
    (tmp_path / "real" / "g").mkdir(parents=True)
    os.symlink(tmp_path / "real", tmp_path / "link")
    key = LocalStore(tmp_path / "real").lock_key("g/a")
    assert LocalStore(tmp_path / "link").lock_key("g/a") == key
    assert LocalStore(tmp_path / "real" / "g").lock_key("a") == key
    assert LocalStore(tmp_path / "real").lock_key("g/b") != key


def test_move(store: LocalStore, tmp_path: Path) -> None:
    store.set("a/b", b"1")
    old = store.root
    store.move(tmp_path / "new" / "place")
    assert store.get("a/b") == b"1"
    assert store.root == tmp_path / "new" / "place"
    assert not old.exists()
    with pytest.raises(FileExistsError):
        store.move(tmp_path)


def test_open_values_close_their_files(store: LocalStore) -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("cannot count open files here")
    store.set("a", b"1")
    before = len(os.listdir("/proc/self/fd"))
    opened = [store.open_value("a") for _ in range(10)]
    del opened
    for _ in range(10):
        store.get("a")
        store.get("missing")
    with pytest.raises(StoreError):
        store.get("a", RangeByteRequest(0, 5))
    assert len(os.listdir("/proc/self/fd")) == before


def test_interrupted_calls_of_the_system_are_repeated(store: LocalStore) -> None:
    if not hasattr(signal, "setitimer"):
        pytest.skip("no timers here")
    ticks: list[int] = []
    old = signal.signal(signal.SIGALRM, lambda *args: ticks.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        value = os.urandom(1 << 20)
        for _ in range(30):
            store.set("a", value)
            assert store.get("a") == value
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert ticks


@posix_only
def test_two_paths_to_one_directory_share_their_locks(store: LocalStore, outside: Path) -> None:
    store.set("a/b/0", b"1")
    os.symlink("a", store.root / "inside")
    os.symlink(outside, store.root / "a" / "far")
    for _ in range(2):  # looked up, and remembered
        assert store.lock_key("inside/b/0") == store.lock_key("a/b/0")
        assert store.lock_key("inside/far/x") == f"{outside.resolve()}/x"
        assert store.lock_key("inside/new/x") == store.lock_key("a/new/x")
    store.delete("a/far")
    store.set("a/far/x", b"1")
    assert store.lock_key("a/far/x") == f"{store.root.resolve()}/a/far/x"


@posix_only
@pytest.mark.parametrize("kind", ["local", "prefix", "fsspec"])
@pytest.mark.parametrize("linked", ["g", "g/a", "g/a/c"])
@pytest.mark.parametrize("how", ["del", "overwrite", "overwrite group", "move", "mode w"])
def test_links_are_removed_and_what_they_lead_to_stays(
    tmp_path: Path, how: str, linked: str, kind: str
) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    store: Any = LocalStore(root)
    if kind == "prefix":
        store = PrefixStore(LocalStore(tmp_path), "root")
    elif kind == "fsspec":
        pytest.importorskip("fsspec")
        store = FsspecStore.from_url(f"file://{root}")
    group = zarr.create_group(store)
    array = group.create_array("g/a", shape=(4,), chunks=(2,), dtype="i4")
    array[...] = 7
    (root / linked).rename(elsewhere)
    os.symlink(elsewhere, root / linked)
    before = {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()}
    assert before
    assert group["g/a"][...].tolist() == [7] * 4  # type: ignore[union-attr, index]
    if how == "del":
        del group["g"]
    elif how == "overwrite":
        group.create_array("g/a", shape=(4,), chunks=(2,), dtype="i4", overwrite=True)
    elif how == "overwrite group":
        group.create_group("g", overwrite=True)
    elif how == "move":
        group.move("g", "h")
        assert group["h/a"][...].tolist() == [7] * 4  # type: ignore[union-attr, index]
    else:
        zarr.open_group(store, mode="w")
    if how != "overwrite" or linked != "g":  # there the name itself leads through the link
        assert {path: path.read_bytes() for path in before} == before
        assert not (root / linked).is_symlink()
    assert elsewhere.is_dir()
