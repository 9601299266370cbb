"""What a zip file promises: the old archive or the new one, no waste, and no trust in its headers."""

import errno
import io
import os
import pickle
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
from running import from_threads, in_new_interpreter

from zarr_core.errors import InvalidKeyError, ReadOnlyError, StoreError, ValueChangedError
from zarr_core.storage import (
    OffsetByteRequest,
    RangeByteRequest,
    SuffixByteRequest,
    ZipStore,
    zip_archive,
)
from zarr_core.storage import zip as zip_module
from zarr_core.storage.zip_archive import Archive

posix_only = pytest.mark.skipif(os.name == "nt", reason="forks and kills")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.zip"
    with ZipStore(path, mode="w") as store:
        store.set("a/b", b"first")
        store.set("a/c", b"second" * 1000)
    return path


def contents(path: Any) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert len(names) == len(set(names))
        return {name: archive.read(name) for name in names}


# --- what is on the disk -------------------------------------------------------------------------


def test_others_can_read_it(path: Path) -> None:
    assert contents(path) == {"a/b": b"first", "a/c": b"second" * 1000}


@pytest.mark.parametrize("compression", [0, 8, 12, 14])
@pytest.mark.parametrize("theirs", [0, 8])
def test_changes(tmp_path: Path, compression: int, theirs: int) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", theirs) as archive:
        for i in range(5):
            archive.writestr(f"c/{i}", bytes([i]) * 1000)
        archive.writestr("directory/", b"")
    with ZipStore(path, mode="a", compression=compression) as store:
        assert sorted(store.list()) == [f"c/{i}" for i in range(5)]
        store.set("c/1", b"changed")
        store.delete("c/2")
        store.set("new", b"new" * 5000)
        assert contents(path)["c/1"] == b"\1" * 1000  # until it is closed
        assert store.get("c/1") == b"changed"
        assert store.get("c/2") is None
    expected = {f"c/{i}": bytes([i]) * 1000 for i in range(5)}
    del expected["c/2"]
    expected |= {"c/1": b"changed", "new": b"new" * 5000, "directory/": b""}
    assert contents(path) == expected
    assert os.listdir(tmp_path) == ["a.zip"]
    store = ZipStore(path)
    assert store.get("new", RangeByteRequest(1, 5)) == b"ewne"
    opened = store.open_value("new")
    assert opened is not None
    assert opened.size == 15000
    assert opened.read(SuffixByteRequest(2)) == b"ew"


def test_rewriting_takes_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_archive, "PENDING_BYTES", 30_000)
    value = os.urandom(20_000)
    with ZipStore(tmp_path / "a.zip", mode="w") as store:
        for _ in range(20):
            store.set("a", value)
            store.set("b", value)
        assert store.get("a") == value
    size = (tmp_path / "a.zip").stat().st_size
    assert size < 45_000
    for _ in range(20):
        with ZipStore(tmp_path / "a.zip", mode="a") as store:
            store.set("a", value)
    assert (tmp_path / "a.zip").stat().st_size == size


def test_large_sessions_spill_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_archive, "PENDING_BYTES", 1000)
    values = {f"{i}": os.urandom(300) for i in range(50)}
    with ZipStore(tmp_path / "a.zip", mode="w") as store:
        for key, value in values.items():
            store.set(key, value)
        assert store._session._pending <= 1000
        assert {key: store.get(key) for key in store.list()} == values
        store.delete("3")
        store.set("4", b"4")
        assert len(os.listdir(tmp_path)) == 1  # unfinished
        store.flush()
        assert os.listdir(tmp_path) == ["a.zip"]
        store.set("5", b"5")
    del values["3"]
    assert contents(tmp_path / "a.zip") == values | {"4": b"4", "5": b"5"}


def test_archives_with_all_that_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"

    class Pipe(io.BytesIO):  # makes zipfile write sizes behind the data
        def seekable(self) -> bool:
            return False

        def seek(self, *args: Any) -> int:
            raise OSError(errno.ESPIPE, "no seeking")

        def tell(self) -> int:
            raise OSError(errno.ESPIPE, "no seeking")

    pipe = Pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # duplicates
        with zipfile.ZipFile(pipe, "w") as archive:
            archive.writestr("a", b"old")
            archive.writestr("b", b"kept")
            archive.writestr("a", b"new")
            archive.writestr("../outside", b"bad name")
            archive.comment = b"a comment"
    path.write_bytes(b"#!/bin/sh\n" + pipe.getvalue())  # as self-extracting archives begin
    store = ZipStore(path, mode="a")
    assert {key: store.get(key) for key in store.list()} == {"a": b"new", "b": b"kept"}
    with pytest.raises(InvalidKeyError):
        store.get("../outside")
    store.set("c", b"3")
    store.close()
    expected = {"a": b"new", "b": b"kept", "c": b"3", "../outside": b"bad name"}
    assert contents(path) == expected
    assert {key: store.get(key) for key in store.list()} == {"a": b"new", "b": b"kept", "c": b"3"}


def test_empty_archives(tmp_path: Path) -> None:
    ZipStore(tmp_path / "a.zip", mode="w").close()
    assert contents(tmp_path / "a.zip") == {}
    assert list(ZipStore(tmp_path / "a.zip").list()) == []
    ZipStore(tmp_path / "b.zip", mode="a").close()
    assert not (tmp_path / "b.zip").exists()
    (tmp_path / "c.zip").touch()
    with ZipStore(tmp_path / "c.zip", mode="a") as store:
        store.set("a", b"1")
    assert contents(tmp_path / "c.zip") == {"a": b"1"}


@posix_only
def test_links_and_permissions_stay(path: Path, tmp_path: Path) -> None:
    os.chmod(path, 0o640)
    os.symlink(path, tmp_path / "link.zip")
    with ZipStore(tmp_path / "link.zip", mode="a") as store:
        store.set("n", b"1")
    assert (tmp_path / "link.zip").is_symlink()
    assert contents(path)["n"] == b"1"
    assert path.stat().st_mode & 0o777 == 0o640


# --- crashes and errors --------------------------------------------------------------------------


@posix_only
def test_kill_at_any_moment(path: Path) -> None:
    before = contents(path)
    script = f"""
import os, random, signal, sys, time
from zarr_core.storage import ZipStore, zip_archive
zip_archive.PENDING_BYTES = 1 << 16
for turn in range(25):
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        store = ZipStore({str(path)!r}, mode="a")
        os.write(write_end, b"x")
        for i in range(1000000):
            store.set(f"n/{{i % 7}}", os.urandom(30000))
            if i % 10 == 0:
                store.flush()
    os.close(write_end)
    os.read(read_end, 1)
    os.close(read_end)
    time.sleep(random.uniform(0, 0.03))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    store = ZipStore({str(path)!r})
    assert store.get("a/b") == b"first" and store.get("a/c") == b"second" * 1000
    for key in store.list():
        store.get(key)
print("done")
"""
    assert in_new_interpreter(script, warnings="ignore") == "done\n"
    after = contents(path)
    assert {key: after[key] for key in before} == before


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_errors_leave_the_old_archive_and_the_changes(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    before = contents(path)
    store = ZipStore(path, mode="a")
    store.set("n", b"n" * 100_000)
    store.delete("a/b")

    def fail(*args: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        if call == "write":
            patched.setattr(zip_archive.NewArchive, "_copy_bytes", fail)
        else:
            patched.setattr(os, call, fail)
        for _ in range(2):
            with pytest.raises(OSError, match="No space"):
                store.flush()
            assert os.listdir(path.parent) == ["a.zip"]
            assert contents(path) == before
            assert store.get("n") == b"n" * 100_000
            assert store.get("a/c") == b"second" * 1000
    store.close()
    assert contents(path) == {"a/c": b"second" * 1000, "n": b"n" * 100_000}
    assert os.listdir(path.parent) == ["a.zip"]


def test_two_writers_do_not_overwrite_each_other(path: Path) -> None:
    first, second = ZipStore(path, mode="a"), ZipStore(path, mode="a")
    first.set("1", b"1")
    second.set("2", b"2")
    first.close()
    with pytest.raises(StoreError, match="changed by others") as caught:
        second.close()
    assert contents(path).keys() == {"a/b", "a/c", "1"}
    (kept,) = [other for other in path.parent.iterdir() if other != path]
    assert str(kept) in str(caught.value)
    assert contents(kept).keys() == {"a/b", "a/c", "2"}
    second.close()


def test_readers_keep_the_archive_they_opened(path: Path) -> None:
    reader = ZipStore(path)
    opened = reader.open_value("a/b")
    assert opened is not None
    with ZipStore(path, mode="a") as writer:
        writer.set("a/b", b"other")
    assert reader.get("a/b") == b"first"
    assert opened.read() == b"first"
    reader.close()
    assert reader.get("a/b") == b"other"


def test_changes_are_saved_at_exit_and_by_the_garbage_collector(tmp_path: Path) -> None:
    script = """
        import sys
        from zarr_core.storage import ZipStore
        store = ZipStore(sys.argv[1], mode="w")
        store.set("a", b"1")
    """
    in_new_interpreter(script, tmp_path / "a.zip")
    assert contents(tmp_path / "a.zip") == {"a": b"1"}
    store = ZipStore(tmp_path / "a.zip", mode="a")
    view = store.with_read_only(True)
    store.set("b", b"2")
    del store
    assert view.get("b") == b"2"
    assert contents(tmp_path / "a.zip") == {"a": b"1"}
    del view
    assert contents(tmp_path / "a.zip") == {"a": b"1", "b": b"2"}


# --- hostile and damaged archives ----------------------------------------------------------------


def damage(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


def test_damaged_values_are_errors(path: Path) -> None:
    damage(path, b"first", b"f1rst")
    store = ZipStore(path)
    with pytest.raises(StoreError, match="a/b"):
        store.get("a/b")
    assert store.get("a/c") == b"second" * 1000


def test_damaged_compressed_values_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with ZipStore(path, mode="w", compression=8) as store:
        store.set("a", os.urandom(1000))
    data = bytearray(path.read_bytes())
    for position in range(31, 31 + 1000, 50):
        changed = bytearray(data)
        changed[position] ^= 255
        path.write_bytes(changed)
        with pytest.raises(StoreError):
            ZipStore(path).get("a")


@pytest.mark.parametrize("cut", [1, 10, 22, 100, 5000])
def test_cut_archives_are_errors(path: Path, cut: int) -> None:
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(StoreError):
        ZipStore(path)
    before = path.read_bytes()
    with pytest.raises(StoreError):
        ZipStore(path, mode="a")
    assert path.read_bytes() == before


@pytest.mark.parametrize("data", [b"", b"not a zip file at all" * 10])
def test_other_files_are_errors(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(StoreError):
        ZipStore(tmp_path / "a.zip")
    if os.name != "nt":
        os.mkfifo(tmp_path / "fifo.zip")
        with pytest.raises(StoreError):
            ZipStore(tmp_path / "fifo.zip")


def test_local_header_elsewhere(path: Path) -> None:
    damage(path, b"PK\3\4", b"PK\3\5")
    with pytest.raises(StoreError, match="no member"):
        ZipStore(path).get("a/b")


def central_entry(data: bytes, name: bytes) -> int:
    at = data.rindex(name) - 46
    assert data[at : at + 4] == b"PK\1\2"
    return at


@pytest.mark.parametrize("compression", [0, 8])
@pytest.mark.parametrize("sizes", [(1 << 31, 1 << 31), (100, 1 << 31), (1 << 31, 100), (0, 0)])
def test_wrong_sizes_are_errors(tmp_path: Path, sizes: tuple[int, int], compression: int) -> None:
    path = tmp_path / "a.zip"
    with ZipStore(path, mode="w", compression=compression) as store:
        store.set("name", os.urandom(1000))
    data = bytearray(path.read_bytes())
    at = central_entry(bytes(data), b"name")
    data[at + 20 : at + 28] = struct.pack("<LL", *sizes)
    path.write_bytes(data)
    store = ZipStore(path)
    with pytest.raises(StoreError):
        store.get("name")
    assert sizes == (0, 0) or store.getsize("name") == sizes[1]


def test_encrypted_members_are_errors(path: Path) -> None:
    data = bytearray(path.read_bytes())
    at = central_entry(bytes(data), b"a/b")
    data[at + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match="encrypted"):
        ZipStore(path).get("a/b")


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_module, "BOMB_BYTES", 1 << 20)
    path = tmp_path / "a.zip"
    size = 4 << 20
    with ZipStore(path, mode="w", compression=8) as store:
        store.set("bomb", b"\0" * size)
        store.set("large", os.urandom(2 << 20))
    store = ZipStore(path)
    for call in (
        lambda: store.get("bomb"),
        lambda: store.get("bomb", OffsetByteRequest(0)),
        lambda: store.open_value("bomb"),
    ):
        with pytest.raises(StoreError, match="max_value_bytes"):
            call()
    assert len(store.get("large") or b"") == 2 << 20
    assert ZipStore(path, max_value_bytes=size).get("bomb") == b"\0" * size
    assert pickle.loads(pickle.dumps(ZipStore(path, max_value_bytes=size))).max_value_bytes == size


def test_a_member_that_grows_beyond_its_size_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with ZipStore(path, mode="w", compression=8) as store:
        store.set("name", b"\0" * 100_000)
    data = bytearray(path.read_bytes())
    at = central_entry(bytes(data), b"name")
    data[at + 24 : at + 28] = struct.pack("<L", 1000)
    path.write_bytes(data)
    with pytest.raises(StoreError):
        ZipStore(path).get("name")


# --- modes, file objects, other processes --------------------------------------------------------


def test_modes(path: Path, tmp_path: Path) -> None:
    reader = ZipStore(path)
    assert reader.read_only
    with pytest.raises(ReadOnlyError):
        reader.set("x", b"1")
    missing = ZipStore(tmp_path / "missing.zip")
    for _ in range(2):
        with pytest.raises(FileNotFoundError, match=r"missing\.zip"):
            missing.get("a")
    (tmp_path / "missing.zip").write_bytes(path.read_bytes())
    assert missing.get("a/b") == b"first"
    with pytest.raises(FileExistsError):
        ZipStore(path, mode="x")
    with pytest.raises(ValueError):
        ZipStore(path, mode="r+")  # type: ignore[arg-type]
    with ZipStore(tmp_path / "new.zip", mode="x") as store:
        store.set("a", b"1")
    assert contents(tmp_path / "new.zip") == {"a": b"1"}
    with ZipStore(path, mode="w") as store:
        assert store.is_empty()
        assert contents(path).keys() == {"a/b", "a/c"}  # until it is closed
    assert contents(path) == {}
    assert ZipStore(path, mode="a", read_only=True).read_only
    with reader.with_read_only(False) as writer:
        writer.set("now", b"1")
    assert contents(path) == {"now": b"1"}


def test_file_objects(path: Path) -> None:
    data = io.BytesIO(path.read_bytes())
    store = ZipStore(data, mode="a")
    assert store.get("a/b") == b"first"
    store.set("n", b"1")
    store.delete("a/c")
    store.close()
    assert contents(data) == {"a/b": b"first", "n": b"1"}
    assert not data.closed
    with path.open("rb") as file:
        reader = ZipStore(file)
        assert reader.get("a/c", SuffixByteRequest(6)) == b"second"
        assert reader.path is None
        with pytest.raises(TypeError):
            pickle.dumps(reader)


def test_a_file_object_that_is_written_anew_while_a_value_is_read() -> None:
    store = ZipStore(io.BytesIO(), mode="w")
    store.set("a", b"a" * 100)
    store.set("b", b"b" * 100)
    store.flush()
    opened, read = store.open_value("b"), Archive.read
    assert opened is not None
    assert opened.read(RangeByteRequest(0, 2)) == b"bb"

    def read_late(archive: Archive, info: Any, byte_range: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Archive, "read", read)
            store.delete("a")
            store.flush()
        return read(archive, info, byte_range)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Archive, "read", read_late)
        assert store.get("b") == b"b" * 100
    with pytest.raises(ValueChangedError):
        opened.read(RangeByteRequest(0, 2))


def test_pickling_is_for_reading(path: Path) -> None:
    store = pickle.loads(pickle.dumps(ZipStore(path)))
    assert store.get("a/b") == b"first"
    assert store.read_only
    writer = ZipStore(path, mode="a")
    writer.set("n", b"1")
    for view in (writer, writer.with_read_only(True)):
        with pytest.raises(TypeError, match="before what it has written"):
            pickle.dumps(view)
    writer.flush()
    for view in (writer, writer.with_read_only(True)):
        copy = pickle.loads(pickle.dumps(view))
        assert copy.read_only
        assert copy.get("n") == b"1"


@posix_only
def test_a_forked_child_writes_nothing(tmp_path: Path) -> None:
    script = """
        import os, sys
        from zarr_core.storage import ZipStore
        store = ZipStore(sys.argv[1], mode="w")
        store.set("a", b"1")
        pid = os.fork()
        if pid == 0:
            assert store.get("a") == b"1"
            try:
                store.set("b", b"2")
            except OSError:
                store.close()
                sys.exit(5)  # runs what is registered for exit
            sys.exit(6)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(code, os.path.exists(sys.argv[1]))
        store.close()
    """
    assert in_new_interpreter(script, tmp_path / "a.zip", warnings="ignore") == "5 False\n"
    assert contents(tmp_path / "a.zip") == {"a": b"1"}


def test_threads_read_and_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_archive, "PENDING_BYTES", 10_000)
    store = ZipStore(path, mode="a")

    def work(me: int) -> None:
        for i in range(40):
            value = bytes([me]) * (1000 + i)
            store.set(f"t/{me}", value)
            assert store.get(f"t/{me}") == value
            assert store.get("a/c") == b"second" * 1000
            if i % 15 == me:
                store.flush()

    from_threads(work, 4)
    store.close()
    assert contents(path)["t/3"] == b"\3" * 1039


def test_move_and_names(path: Path, tmp_path: Path) -> None:
    store = ZipStore(path, mode="a")
    store.set("n", b"1")
    store.move(tmp_path / "sub" / "b.zip")
    assert not path.exists()
    assert store.get("n") == b"1"
    assert str(store) == f"zip://{(tmp_path / 'sub' / 'b.zip').as_posix()}"
    assert store.path == tmp_path / "sub" / "b.zip"
    assert store.lock_key("a") == ZipStore(store.path).lock_key("a")
    assert ZipStore(store.path) == store.with_read_only(True)
    with pytest.raises(ReadOnlyError):
        ZipStore(store.path).move(path)
    with pytest.raises(TypeError):
        ZipStore(io.BytesIO(), mode="w").move(path)


def test_limit_of_old_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 99)
    store = ZipStore(tmp_path / "a.zip", mode="w", allowZip64=False)
    for i in range(100):
        store.set(str(i), b"")
    with pytest.raises(StoreError, match="allowZip64"):
        store.close()
    store.delete("0")
    store.close()
    assert len(list(ZipStore(tmp_path / "a.zip").list())) == 99


def test_a_failed_save_is_told_once(tmp_path: Path) -> None:
    script = """
        import sys
        import numpy as np
        import zarr_core as zarr
        try:
            zarr.save(sys.argv[1], np.ones(3))
        except OSError as error:
            print(error)
    """
    (tmp_path / "file").write_bytes(b"")
    assert "file" in in_new_interpreter(script, tmp_path / "file" / "y.zip")


def test_errors_name_the_file(path: Path) -> None:
    path.write_bytes(b"no zip file")
    with pytest.raises(StoreError, match=r"a\.zip is not a readable zip file"):
        ZipStore(path)


def test_keys_are_listed_as_they_come_and_go(tmp_path: Path) -> None:
    with ZipStore(tmp_path / "x.zip", mode="w") as store:
        for key in ("a/b", "a0", "a/c/d", "a"):
            store.set(key, b"1")
        assert list(store.list_prefix("a")) == ["a/b", "a/c/d"]
        store.set("a/b", b"2")
        store.delete("a/c/d")
        store.set("a/e", b"1")
        assert list(store.list_prefix("a")) == ["a/b", "a/e"]
        store.flush()
        store.set("a/+", b"1")
        assert list(store.list_dir("a")) == ["+", "b", "e"]
    assert list(store.list()) == ["a", "a/+", "a/b", "a/e", "a0"]
