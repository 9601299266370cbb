"""Stores in a zip file; `zip_archive` says how the file is kept intact."""

import copy
import os
import weakref
import zipfile
from bisect import bisect_left
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import IO, Any, Self

from zarr_core.errors import ReadOnlyError, StoreError, ValueChangedError
from zarr_core.storage.base import (
    LARGE,
    ByteRequest,
    OpenValue,
    Store,
    Value,
    ValueSnapshot,
    Writable,
    check_document,
    check_key,
    check_prefix,
    slice_value,
)
from zarr_core.storage.zip_archive import Member, Session, ZipMode

AFTER_SLASH = chr(ord("/") + 1)

BOMB_BYTES = 64 << 20
BOMB_RATIO = 100
"""A value that is larger, and shrank more than this, is taken for an attack unless allowed."""


class _Owner:
    """Is held by all views of a session; the session is closed when it goes."""


class ZipStore(Store):
    """A store in a zip file.

    Changes are on the disk after `close` or `flush`, or when the store is garbage collected or the
    interpreter exits; until then they are seen through this store only. For a file object, that
    moment replaces its contents and is not safe against being killed. Of two stores that change one
    file the second to be closed raises `StoreError`. After `close` the store opens the file again
    when it is used. A pickled store reads; one with changes that are not in the file yet cannot be
    pickled. A file that does not exist is an error at the first use of a store that reads.

    Parameters
    ----------
    path
        The file, or an open file object (which is then read and written at any position).
    mode
        `"r"`, `"w"`, `"a"` or `"x"`; see `ZipMode`.
    read_only
        Refuse to write; by default in mode `"r"`.
    compression
        How members are compressed, a constant of `zipfile`; chunks usually are
        compressed already.
    allowZip64
        Write archives above 4 GiB, or with more than 65,535 members.
    max_value_bytes
        Values up to this size are read however much they shrank. By default a
        value above 64 MiB that shrank more than a hundredfold is an error.

    Examples
    --------
    >>> with zarr.storage.ZipStore("some.zip", mode="w") as store:
    ...     zarr.save_array(store, np.arange(3))
    >>> zarr.load("some.zip")
    array([0, 1, 2])
    """

    compression: int
    allowZip64: bool  # noqa: N815 - zipfile's name

    supports_conditional_writes = True

    def __init__(
        self,
        path: str | os.PathLike[str] | IO[bytes],
        *,
        mode: ZipMode = "r",
        read_only: bool | None = None,
        compression: int = zipfile.ZIP_STORED,
        allowZip64: bool = True,  # noqa: N803 - the name that zarr-python and zipfile use
        max_value_bytes: int | None = None,
    ) -> None:
        if mode not in ("r", "w", "a", "x"):
            raise ValueError(f"mode must be 'r', 'w', 'a' or 'x', not {mode!r}")
        if not isinstance(path, str | os.PathLike):
            what, missing = "read/seek/tell", not all(hasattr(path, n) for n in ("read", "seek"))
            if mode != "r" and not missing:
                what, missing = "write, it is opened for reading", not hasattr(path, "write")
            if missing:
                kind = type(path).__name__
                raise TypeError(f"{kind} is neither a path nor a file object: it cannot {what}")
        super().__init__(read_only=mode == "r" if read_only is None else read_only or mode == "r")
        target = str(Path(path).absolute()) if isinstance(path, str | os.PathLike) else path
        self.mode = mode
        self.compression, self.allowZip64 = compression, allowZip64
        self.max_value_bytes = max_value_bytes
        self._session = Session(target, mode, compression, allowZip64)
        self._owner = _Owner()
        self._finalizer = weakref.finalize(self._owner, self._session.end)

    def __reduce__(self) -> tuple[Any, ...]:
        if not isinstance(self.path, Path):
            raise TypeError(f"cannot pickle a ZipStore backed by a file-like object: {self}")
        if self._session.dirty:
            raise TypeError(f"{self} cannot be pickled before what it has written is in the file")
        return _unpickle_zip, (type(self), str(self.path), self.max_value_bytes)

    @property
    def path(self) -> Path | None:
        """The path of the archive; None of a file object."""
        target = self._session.target
        return Path(target) if isinstance(target, str) else None

    # --- reading ---------------------------------------------------------------------------------

    def get(self, key: str, byte_range: ByteRequest | None = None) -> Value | None:
        """Return the value of `key` (or part of it), or None when there is no such member.

        A value that is read whole is checked against its checksum.
        """
        entry = self._session.values().get(check_key(key))
        if entry is None:
            return slice_value(None, byte_range)
        if isinstance(entry, bytes):
            return slice_value(entry, byte_range)
        self._check_size(entry.info)
        if byte_range is None and entry.info.file_size >= LARGE:
            check_document(key, entry.info.file_size, self)
        try:
            return entry.archive.read(entry.info, byte_range)
        except ValueChangedError:
            return self.get(key, byte_range)

    def _check_size(self, info: zipfile.ZipInfo) -> None:
        suspicious = (
            info.file_size > BOMB_BYTES
            and info.compress_type != zipfile.ZIP_STORED
            and info.file_size > BOMB_RATIO * info.compress_size
        )
        if suspicious and info.file_size > (self.max_value_bytes or 0):
            raise StoreError(
                f"member {info.filename!r} of {self} would grow from {info.compress_size} to "
                f"{info.file_size} bytes; max_value_bytes allows it"
            )

    def open_value(self, key: str) -> OpenValue | None:
        """Return a snapshot of a value, of which parts are read alone if it is not compressed."""
        entry = self._session.values().get(check_key(key))
        if entry is None:
            return None
        if isinstance(entry, bytes):
            return ValueSnapshot(entry)
        if entry.info.compress_type != zipfile.ZIP_STORED:
            self._check_size(entry.info)
            return ValueSnapshot(entry.archive.read(entry.info, None))
        return _OpenMember(entry)

    def exists(self, key: str) -> bool:
        """Return whether `key` has a value."""
        return check_key(key) in self._session.values()  # an error costs ten times as much

    def getsize(self, key: str) -> int:
        """Return the size of a value in bytes; raise `FileNotFoundError` when there is none."""
        entry = self._session.values().get(check_key(key))
        if entry is None:
            raise FileNotFoundError(f"no key {key!r} in {self}")
        return len(entry) if isinstance(entry, bytes) else entry.info.file_size

    # --- writing ---------------------------------------------------------------------------------

    def set(self, key: str, value: Writable) -> None:
        """Store a copy of `value` under `key`."""
        self._check_writable()
        check_key(key)
        copied = bytes(value)
        with self._session.lock:
            self._session.set(key, copied)

    def delete(self, key: str) -> None:
        """Remove `key`; nothing happens when it does not exist."""
        self._check_writable()
        check_key(key)
        with self._session.lock:
            self._session.discard(key)

    def set_if_version(self, key: str, value: Writable, version: str | None) -> bool:
        """Store `value` if the value still has `version` (None: does not exist); say whether."""
        self._check_writable()
        with self._session.lock:
            if not self._has_version(key, version):
                return False
            self._session.set(key, bytes(value))
            return True

    def flush(self) -> None:
        """Make the archive on the disk complete; the store can be used further.

        >>> store = zarr.storage.ZipStore("flushed.zip", mode="w")
        >>> store.set("a", b"1")
        >>> store.flush()
        >>> zarr.storage.ZipStore("flushed.zip").get("a")
        b'1'
        """
        self._session.flush()

    def close(self) -> None:
        """Make the archive on the disk complete and release it."""
        self._session.close()

    def move(self, path: str | os.PathLike[str]) -> None:
        """Move the archive, complete, to another path; this store follows it.

        >>> with zarr.storage.ZipStore("before.zip", mode="w") as store:
        ...     store.set("a", b"1")
        ...     store.move("after.zip")
        >>> zarr.storage.ZipStore("after.zip").get("a")
        b'1'
        """
        import shutil

        if self._read_only:
            self._check_writable()
        if not isinstance(self.path, Path):
            raise TypeError("a file object cannot be moved")
        self.close()
        target = Path(path).absolute()
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(str(self.path), str(target))
        self._session.target = str(target)

    # --- listing ---------------------------------------------------------------------------------

    def _keys(self, start: str) -> tuple[str, ...]:
        """Return the keys that begin with `start`, which is empty or ends with a slash."""
        with self._session.lock:
            keys = self._session.keys()
        if not start:
            return keys
        return keys[bisect_left(keys, start) : bisect_left(keys, f"{start[:-1]}{AFTER_SLASH}")]

    def list_prefix(self, prefix: str) -> Iterator[str]:
        """Yield every key below the path `prefix`, in no particular order."""
        prefix = check_prefix(prefix)
        return iter(self._keys(f"{prefix}/" if prefix else ""))

    def list_dir(self, prefix: str) -> Iterator[str]:
        """Yield the names directly below `prefix`."""
        prefix = check_prefix(prefix)
        start = f"{prefix}/" if prefix else ""
        names = (key[len(start) :].partition("/")[0] for key in self._keys(start))
        return iter(dict.fromkeys(names))

    # --- the store itself ------------------------------------------------------------------------

    def with_read_only(self, read_only: bool = False) -> Self:
        """Return a view of this store, or, to write what was opened to be read, another store."""
        if not read_only and self.mode == "r":
            options: dict[str, Any] = {"compression": self.compression}
            options |= {"allowZip64": self.allowZip64, "max_value_bytes": self.max_value_bytes}
            return type(self)(self._session.target, mode="a", **options)
        view = copy.copy(self)
        view._read_only = read_only
        return view

    def __copy__(self) -> Self:
        view = object.__new__(type(self))
        vars(view).update(vars(self))
        return view

    def _check_writable(self) -> None:
        if self._read_only:
            raise ReadOnlyError(f"{self} is read-only (mode {self.mode!r})")

    def lock_key(self, key: str) -> Hashable:
        """Return the identity of the archive, and the key."""
        if isinstance(self.path, Path):
            return ("zip", os.path.realpath(self.path), key)
        return ("zip", id(self._session.target), key)

    def __str__(self) -> str:
        if isinstance(self.path, Path):
            return f"zip://{self.path.as_posix()}"
        target = self._session.target
        return f"zip://<{type(target).__name__} at {id(target):#x}>"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ZipStore)
            and self._session.target == other._session.target
            and self._read_only == other._read_only
        )

    def __hash__(self) -> int:
        return hash((str(self), self._read_only))


def _unpickle_zip(kind: type[ZipStore], path: str, max_value_bytes: int | None) -> ZipStore:
    return kind(path, mode="r", max_value_bytes=max_value_bytes)


class _OpenMember:
    """A member that is not compressed; the archive it is in is never changed."""

    __slots__ = ("_member", "size", "version")

    def __init__(self, member: Member) -> None:
        self._member = member
        self.size: int | None = member.info.file_size
        self.version: str | None = f"{member.info.CRC}-{member.info.file_size}"

    def read(self, byte_range: ByteRequest | None = None) -> Value:
        """Return part of the value."""
        return self._member.archive.read(self._member.info, byte_range)

    def close(self) -> None:
        """Do nothing: the file belongs to the store."""
