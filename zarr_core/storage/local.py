"""Stores in a directory of the local file system.

A value is one file. It is written beside its place under a temporary name and then renamed, so a
reader, or whoever comes after a crash, sees the old value or the new one. Values are never changed
in place, so an open file is a snapshot of its value.

Ctrl-C leaves no file open, no directory locked and nothing unfinished, wherever it comes. It comes
after a call or as a function begins, so what is opened is stored without a call in between,
`(fd,) = map(os.open, ...)`, and what is given up is given up by the first call of a `finally`.

The errors of the operating system are passed on; only "no such file" is a missing key.
"""

import errno
import itertools
import os
import stat
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, Self

from zarr_core.errors import InvalidKeyError, StoreError
from zarr_core.locks import ForkLock
from zarr_core.storage.base import (
    LARGE,
    ByteRequest,
    OffsetByteRequest,
    OpenValue,
    Store,
    Value,
    ValueWriter,
    Writable,
    bounds_of,
    check_document,
    check_key,
    check_prefix,
    check_range,
)
from zarr_core.storage.directories import (
    DIRECTORY,
    LOCK_NAME,
    TEMP_SUFFIX,
    WINDOWS,
    delete_below,
    entries,
    forget_links,
    forget_path,
    links_below,
    make_directory,
    real_path,
    replace,
    rmdir,
    walk,
    while_locked,
)

SETTLED_NS = 2_000_000_000
"""The coarsest clock of a file system that is in use."""

# O_NONBLOCK: opening a FIFO must not wait for a writer
READ = (
    os.O_RDONLY
    | sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY", "O_BINARY")),
)
_CREATE = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_BINARY")),
)
_MODE = (0o666,)


class _TempNames:
    """Names that no other process and no other thread uses."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self._token = os.urandom(6).hex()
        self._count = itertools.count()

    def __call__(self, directory: str) -> str:
        return f"{directory}/{self._token}-{next(self._count)}{TEMP_SUFFIX}"


_temp_name = _TempNames()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_temp_name.renew)


class LocalStore(Store):
    """A store in a directory.

    Symbolic links below the root are followed, except by what removes a whole directory or node:
    that removes the link, and what it leads to stays.
    `list_dir` also yields directories without any file below them.

    Parameters
    ----------
    root
        The directory; it is made by the first write.
    read_only
        Refuse to write.
    fsync
        Have every write (file and directory) on the disk before `set` returns. Without it
        a value survives the end of the process, but perhaps not the loss of power.

    Examples
    --------
    >>> store = zarr.storage.LocalStore("local.zarr")
    >>> zarr.zeros(3, store=store, path="x").store_path.path
    'x'
    """

    # Four short system calls: after each the thread has to wait for the interpreter's lock if others
    # run. On two threads 256 files of 4 kB take 1.4 times as long as on one.
    get_cost: float = -4.0
    set_cost: float = 50.0  # a file is made, written and renamed
    set_threads = 4  # replacing a file waits for the disk; more threads gain nothing more
    supports_conditional_writes = True
    writes_pieces = True

    def __init__(
        self, root: str | os.PathLike[str], *, read_only: bool = False, fsync: bool = False
    ) -> None:
        super().__init__(read_only=read_only)
        if not isinstance(root, str | os.PathLike):
            raise TypeError(f"root must be a string or a path, not {type(root).__name__}")
        self.root: Path = Path(root).absolute()
        self.fsync = fsync
        self._root = self.root.as_posix().rstrip("/")

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle_local, (type(self), str(self.root), self._read_only, self.fsync)

    def _path(self, key: str) -> str:
        if TEMP_SUFFIX in key:
            raise InvalidKeyError(f"invalid key {key!r}: {TEMP_SUFFIX!r} marks unfinished files")
        return f"{self._root}/{check_key(key)}"

    def _directory(self, prefix: str) -> str:
        prefix = check_prefix(prefix)
        return self._path(prefix) if prefix else self._root or "/"

    # --- reading ---------------------------------------------------------------------------------

    def get(self, key: str, byte_range: ByteRequest | None = None) -> Value | None:
        """Return the value of `key` (or part of it), or None when there is no such file.

        Raises `NotADirectoryError` when a parent of the key is a file: an error for a chunk, while
        whoever asks whether a node exists takes it as "no". Raises `StoreError` for directories,
        devices and the like in a value's place, and for files shorter than asked for.
        """
        path, fd = self._path(key), -1
        try:
            (fd,) = map(os.open, (path,), READ)
            size = _size_of_value(fd, path)
            if byte_range is not None:
                return _read_range(fd, path, size, byte_range)
            if size >= LARGE:
                check_document(key, size, self)
            data = pread(fd, size, 0)
            if len(data) == size:
                return data
            return data + _read_range(fd, path, size, OffsetByteRequest(len(data)))
        except OSError as error:
            if fd == -1 and isinstance(error, FileNotFoundError):
                check_range(byte_range)
                return None
            _raise_with_path(error, path)
        finally:
            if fd != -1:
                os.close(fd)

    def open_value(self, key: str) -> OpenValue | None:
        """Return a snapshot that keeps the file open: replacing the value does not change it."""
        path = self._path(key)
        try:
            return _OpenFile(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            _raise_with_path(error, path)

    def stamp(self, key: str) -> Hashable:
        """Return time of change, size and number of the file."""
        try:
            status = os.stat(self._path(key))
        except (FileNotFoundError, NotADirectoryError):
            return ()
        return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino

    def exists(self, key: str) -> bool:
        """Return whether `key` has a value; a directory is not a value."""
        try:
            return not stat.S_ISDIR(os.stat(self._path(key)).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def getsize(self, key: str) -> int:
        """Return the size of a value in bytes; raise `FileNotFoundError` when there is none."""
        path = self._path(key)
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            _raise_not_a_file(path, status)
        return status.st_size

    # --- writing ---------------------------------------------------------------------------------

    def set(self, key: str, value: Writable) -> None:
        """Store `value` under `key`: write a temporary file, then rename it."""
        if self._read_only:
            self._check_writable()
        path = self._path(key)
        self._put(path, value, _replace)

    def open_writer(self, key: str, reserved: int = 0) -> ValueWriter:
        """Return what writes a value piece by piece into a temporary file, renamed in the end."""
        self._check_writable()
        return _FileWriter(self._path(key), reserved, self.fsync)

    def set_if_version(self, key: str, value: Writable, version: str | None) -> bool:
        """Store `value` if the value still has `version` (None: does not exist); say whether.

        Atomic against other conditional writes, of other processes too.
        """
        self._check_writable()
        path = self._path(key)
        if version is None:
            stored = False if self.exists(key) else self._put(path, value, _link)
            if stored is not None:  # there are hard links here
                return stored
        return while_locked(path, lambda: self._has_version(key, version) and self._set(key, value))

    def _set(self, key: str, value: Writable) -> bool:
        self.set(key, value)
        return True

    def delete(self, key: str) -> None:
        """Remove `key`; nothing happens when it does not exist."""
        if self._read_only:
            self._check_writable()
        path = self._path(key)
        try:
            os.unlink(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        except (IsADirectoryError, PermissionError) as error:
            if os.path.isdir(path) and not os.path.islink(path):
                raise StoreError(f"{path} is a directory, not a value") from error
            raise
        forget_path(path)
        if self.fsync:
            _fsync_directory(os.path.dirname(path))

    def delete_dir(self, prefix: str) -> None:
        """Remove every key below `prefix`, and the directories that are empty then.

        Links are removed, not followed; files that others are writing right now stay.
        """
        self._check_writable()
        directory = self._directory(prefix)
        if prefix and os.path.islink(directory):
            if os.path.isdir(directory):
                os.unlink(directory)
                forget_links()
            return
        self._delete(directory, files=True)

    def prune(self, prefix: str) -> None:
        """Remove the directories below `prefix` that are empty; files and links stay."""
        self._check_writable()
        self._delete(self._directory(prefix), files=False)

    def _delete(self, directory: str, *, files: bool) -> None:
        delete_below(directory, files=files)
        if directory not in (self._root, "/"):
            rmdir(directory)

    def _put(
        self, path: str, value: Writable, give_name: Callable[[str, str], bool | None]
    ) -> bool | None:
        """Write `value` into a new file beside `path`, give it its name; return what that says."""
        parent = path.rpartition("/")[0]
        for _ in range(10_000):  # somebody may be removing empty directories meanwhile
            temp, fd, kept = _temp_name(parent), -1, False
            try:
                try:
                    (fd,) = map(os.open, (temp,), _CREATE, _MODE)
                    _write_all(fd, value)
                    if self.fsync:
                        os.fsync(fd)
                except OSError as error:
                    if fd == -1 and isinstance(error, FileNotFoundError):
                        make_directory(parent)
                        continue
                    _raise_with_path(error, path)
                finally:
                    if fd != -1:
                        os.close(fd)
                named = give_name(temp, path)
                kept = give_name is _replace
            finally:
                if not kept:
                    with suppress(OSError):
                        os.unlink(temp)
            if named and self.fsync:
                _fsync_directory(parent)
            return named
        raise StoreError(f"{parent} is removed again and again while {path} is written")

    def clean_temp(self, older_than: float = 3600.0) -> int:
        """Remove unfinished files that killed processes left; return how many.

        Parameters
        ----------
        older_than
            Age in seconds from which a file counts as left behind.

        Examples
        --------
        >>> zarr.storage.LocalStore("local.zarr").clean_temp()
        0
        """
        self._check_writable()
        removed = 0
        for key, age in self.unfinished(""):
            if age >= older_than:
                with suppress(FileNotFoundError):
                    os.unlink(f"{self._root}/{key}")
                    removed += 1
        return removed

    def unfinished(self, prefix: str) -> Iterator[tuple[str, float]]:
        """Yield name and age in seconds of files below `prefix` that writers have not finished."""
        start = len(self._root) + 1
        for directory, _, names in os.walk(self._directory(prefix)):
            for name in names:
                if not name.endswith(TEMP_SUFFIX) or name == LOCK_NAME:
                    continue  # a lock that was removed would be two
                path = f"{directory}/{name}"
                with suppress(FileNotFoundError):
                    yield path[start:].replace(os.sep, "/"), time.time() - os.lstat(path).st_mtime

    def move(self, dest_root: str | os.PathLike[str]) -> None:
        """Move the directory to `dest_root`, which must not exist; this store follows it.

        >>> store = zarr.storage.LocalStore("from")
        >>> store.set("a", b"1")
        >>> store.move("to")
        >>> store.get("a")
        b'1'
        """
        import shutil

        self._check_writable()
        target = Path(dest_root).absolute()
        if target.exists():
            raise FileExistsError(errno.EEXIST, "the destination exists", str(target))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(str(self.root), str(target))
        self.root, self._root = target, target.as_posix().rstrip("/")
        forget_links()

    # --- listing ---------------------------------------------------------------------------------

    def list_prefix(self, prefix: str) -> Iterator[str]:
        """Yield every key below the path `prefix`, in no particular order.

        Each directory is read whole before its first key is yielded, so keys may be deleted
        meanwhile. Links to directories are followed, but not back into themselves.
        """
        directory = self._directory(prefix)
        return walk(directory, f"{check_prefix(prefix)}/".removeprefix("/"))

    def list_dir(self, prefix: str) -> Iterator[str]:
        """Yield the names of files and directories directly below `prefix`."""
        directory = self._directory(prefix)
        return (entry.name for entry in entries(directory))

    def links(self, prefix: str) -> Iterator[str]:
        """Yield the paths of links to directories, `prefix` or below it: `delete` removes them."""
        directory, prefix = self._directory(prefix), check_prefix(prefix)
        if prefix and os.path.islink(directory):
            return iter((prefix,))
        return links_below(directory, f"{prefix}/".removeprefix("/"))

    # --- the store itself ------------------------------------------------------------------------

    def with_read_only(self, read_only: bool = False) -> Self:
        """Return a store for the same directory with another `read_only`."""
        other = object.__new__(type(self))  # without looking at the path again
        vars(other).update(vars(self), _read_only=read_only)
        return other

    def lock_key(self, key: str) -> Hashable:
        """Return the absolute path of the key's file, links above the file resolved.

        Links are looked for once per process and directory, and again once this library has
        removed one.
        """
        return real_path(f"{self._root}/{key}")

    def __str__(self) -> str:
        return f"file://{self._root or '/'}"

    def __eq__(self, other: object) -> bool:
        key = (self._root, self._read_only)
        return isinstance(other, LocalStore) and key == (other._root, other._read_only)

    def __hash__(self) -> int:
        return hash((self._root, self._read_only))


def _unpickle_local(kind: type[LocalStore], root: str, read_only: bool, fsync: bool) -> LocalStore:
    return kind(root, read_only=read_only, fsync=fsync)


# --- reading files -------------------------------------------------------------------------------


_SURELY_A_FILE = 1 << 31
"""Directories of some file systems claim to be longer than this."""


def _size_of_value(fd: int, path: str) -> int:
    """Return the size of an open file; raise for whatever else can be opened.

    `lseek` takes 0.4 µs where `fstat` takes 1.9. It fails for pipes and gives 0 for devices;
    reading a directory fails.
    """
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
    except OSError:
        size = 0
    if 0 < size < _SURELY_A_FILE:
        return size
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        _raise_not_a_file(path, status)
    return status.st_size


def _raise_not_a_file(path: str, status: os.stat_result) -> NoReturn:
    what = "directory" if stat.S_ISDIR(status.st_mode) else "device, pipe or socket"
    raise StoreError(f"{path} is a {what}, not a value")


def _read_range(fd: int, path: str, size: int, byte_range: ByteRequest) -> bytes:
    start, end = bounds_of(byte_range, size, path)
    data = pread(fd, end - start, start)
    if len(data) == end - start:
        return data
    data += read_at(fd, start + len(data), end - start - len(data))
    if len(data) == end - start:
        return data
    start += len(data)
    raise StoreError(f"{path} ends at byte {start}, before byte {end}: it was cut while open")


_seek_lock = ForkLock()


def _pread_by_seek(fd: int, count: int, offset: int) -> bytes:
    """Read like `os.pread`, which Windows has not."""
    with _seek_lock:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, count)


pread: Callable[[int, int, int], bytes] = getattr(os, "pread", _pread_by_seek)


def read_at(fd: int, offset: int, size: int) -> bytes:
    """Return bytes, fewer at the end of a file; the system may give them in several pieces."""
    data = pread(fd, size, offset)
    if len(data) == size:
        return data
    parts = [data]
    while parts[-1]:
        offset, size = offset + len(parts[-1]), size - len(parts[-1])
        parts.append(pread(fd, size, offset))
    return b"".join(parts)


class _OpenFile:
    """A value whose file stays open.

    Ctrl-C cannot come in the middle of what C code does. So from the opening until the closing of a
    descriptor there is no moment when it is neither in the list of one of these nor closed.
    """

    __slots__ = ("_fds", "_path", "size", "version")

    def __init__(self, path: str) -> None:
        self._path = path
        self._fds: list[int] = []
        self._fds.extend(map(os.open, (path,), READ))
        try:
            status = os.fstat(self._fds[0])
            if not stat.S_ISREG(status.st_mode):
                _raise_not_a_file(path, status)
            self.size: int | None = status.st_size
            self.version = _version(status)
        except BaseException:
            self.close()  # a traceback may keep this object
            raise

    def read(self, byte_range: ByteRequest | None = None) -> Value:
        """Return part of the value as it was when it was opened."""
        if not self._fds:
            raise ValueError(f"{self._path} was closed")
        if byte_range is None:
            byte_range = OffsetByteRequest(0)
        try:
            return _read_range(self._fds[0], self._path, self.size or 0, byte_range)
        except OSError as error:
            _raise_with_path(error, self._path)

    def close(self) -> None:
        """Close the file."""
        any(map(os.close, map(self._fds.pop, range(len(self._fds)))))

    def __del__(self) -> None:
        if hasattr(self, "_fds"):
            self.close()


# --- writing files -------------------------------------------------------------------------------


def _raise_with_path(error: OSError, path: str) -> NoReturn:
    """Raise an error that names the file of the value: of the same kind, or a `StoreError`."""
    if isinstance(error, StoreError) or error.errno is None:
        raise error
    if error.errno == errno.EISDIR:
        raise StoreError(f"{path} is a directory, not a value") from error
    raise OSError(error.errno, os.strerror(error.errno), path) from error


def _version(status: os.stat_result) -> str | None:
    """Return a token of what a file holds, None when it changed too recently to have one.

    Times of files are coarse, and numbers of files are used again: within one tick of the clock,
    two values of one size could not be told apart.
    """
    changed = max(status.st_mtime_ns, status.st_ctime_ns)
    if time.time_ns() - changed < SETTLED_NS:
        return None
    return f"{changed}-{status.st_size}-{status.st_ino}"


def _write_all(fd: int, value: Writable) -> None:
    view = memoryview(value)
    written, size = os.write(fd, view), view.nbytes
    if written == size:
        return
    view = view.cast("B")
    while written < size:
        written += os.write(fd, view[written:])


class _FileWriter:
    """A value on its way into a file; see `_OpenFile` for what Ctrl-C may not do."""

    __slots__ = ("_fds", "_fsync", "_path", "_temp")

    def __init__(self, path: str, reserved: int, fsync: bool) -> None:
        self._path, self._fsync = path, fsync
        self._fds: list[int] = []
        parent = path.rpartition("/")[0]
        self._temp = _temp_name(parent)
        try:
            while not self._fds:
                try:
                    self._fds.extend(map(os.open, (self._temp,), _CREATE, _MODE))
                except FileNotFoundError:  # as long as somebody removes empty directories
                    make_directory(parent)
            os.lseek(self._fds[0], reserved, os.SEEK_SET)
        except OSError as error:
            self.abort()
            _raise_with_path(error, path)

    def write(self, data: Writable) -> None:
        """Add bytes."""
        try:
            _write_all(self._fds[0], data)
        except OSError as error:
            _raise_with_path(error, self._path)

    def complete(self, start: bytes = b"") -> None:
        """Give the file its name."""
        try:
            if start:
                os.lseek(self._fds[0], 0, os.SEEK_SET)
                _write_all(self._fds[0], start)
            if self._fsync:
                os.fsync(self._fds[0])
            self._close()
            _replace(self._temp, self._path)
            self._temp = ""
        except OSError as error:
            _raise_with_path(error, self._path)
        finally:
            self.abort()
        if self._fsync:
            _fsync_directory(self._path.rpartition("/")[0])

    def abort(self) -> None:
        """Remove the file if it has not got its name."""
        try:
            self._close()
        finally:
            if self._temp:
                with suppress(OSError):
                    os.unlink(self._temp)
                self._temp = ""

    def _close(self) -> None:
        any(map(os.close, map(self._fds.pop, range(len(self._fds)))))

    def __del__(self) -> None:
        if hasattr(self, "_temp"):
            self.abort()


def _replace(temp: str, path: str) -> bool:
    """Rename `temp` to `path`; on Windows wait for readers that have `path` open."""
    delay = 0.001
    while True:
        try:
            replace(temp, path)
        except PermissionError:
            if not WINDOWS or delay > 1 or os.path.isdir(path):
                raise
            time.sleep(delay)
            delay *= 2
        else:
            return True


_NO_LINKS = {errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES}


def _link(temp: str, path: str) -> bool | None:
    """Give `temp` the name `path` too: whether it was free; None where links do not exist."""
    try:
        os.link(temp, path)
    except AttributeError:  # Python has no links in WebAssembly
        return None
    except FileExistsError:
        if os.path.isdir(path):
            raise StoreError(f"{path} is a directory, not a value") from None
        return False
    except OSError as error:
        if error.errno in _NO_LINKS:
            return None
        _raise_with_path(error, path)
    return True


def _fsync_directory(path: str) -> None:
    if WINDOWS:
        return
    fd = -1
    try:
        (fd,) = map(os.open, (path,), DIRECTORY)
        os.fsync(fd)
    finally:
        if fd != -1:
            os.close(fd)
