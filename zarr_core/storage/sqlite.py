"""A store in one SQLite file: many readers, atomic writes of many keys, safe between processes.

Every value is a row. The file is in WAL mode: readers see the last commit while somebody writes, and
a process that is killed leaves the last commit.
"""

import os
import secrets
import sqlite3
import threading
import weakref
from collections.abc import Generator, Hashable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from zarr_core.errors import InvalidKeyError, StoreError, ValueChangedError
from zarr_core.storage.base import (
    ByteRequest,
    OpenValue,
    RangeByteRequest,
    RemoteValue,
    Result,
    Store,
    Value,
    Writable,
    _size_of_item,
    bounds_of,
    check_key,
    check_prefix,
    slice_value,
)

SUFFIX = ".sqlite"
"""What paths of such stores end in."""

_APPLICATION = 0x5A617272  # "Zarr", in the header of the file
_TABLE = (
    "CREATE TABLE IF NOT EXISTS zarr "
    "(key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL, version INTEGER NOT NULL)"
)
_SET = (
    "INSERT INTO zarr VALUES (?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version"
)
_ADD = "INSERT INTO zarr VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING"
_UPDATE = "UPDATE zarr SET value = ?, version = ? WHERE key = ? AND version = ?"
_BELOW = "key >= ? AND key < ?"

BATCH_BYTES = 64 << 20
"""Values that are stored together are committed when there are so many bytes of them."""


class _Connections:
    """The connections of a store, one for each thread; not those of the parent of a fork."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.of_thread = threading.local()
        self.open: list[sqlite3.Connection] = []

    def close(self) -> None:
        """Close them, unless they are another process's."""
        if self.pid == os.getpid():
            while self.open:
                self.open.pop().close()


class SQLiteStore(Store):
    """A store in one file of SQLite.

    Threads and processes may read and write at the same time. `set_many`, `delete_dir` and what is
    done within `transaction()` is stored together or not at all. A value has less than 1 GB. After
    `close` everything is in the one file; the store opens it again when it is used.

    Parameters
    ----------
    path
        The file; it is made when something is stored.
    read_only
        Refuse to write; the file must exist once something is read.
    timeout
        Seconds to wait for another process or thread that writes.
    durable
        Is what was committed safe when the machine loses power, too? It takes an `fsync`
        for every commit; without, only the last commits before that moment can be lost.

    Examples
    --------
    >>> with zarr.storage.SQLiteStore("data.sqlite") as store:
    ...     zarr.save_array(store, np.arange(3))
    >>> zarr.load("data.sqlite")
    array([0, 1, 2])
    """

    timeout: float
    durable: bool

    supports_conditional_writes = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        timeout: float = 60.0,
        durable: bool = False,
    ) -> None:
        super().__init__(read_only=read_only)
        self.path: Path = Path(path).absolute()
        self.timeout, self.durable = timeout, durable
        self._start()

    def _start(self) -> None:
        self._connections = _Connections()
        self._finalizer = weakref.finalize(self, self._connections.close)
        self._shared: sqlite3.Connection | None = None  # the connection of a transaction
        self._lock = threading.RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._shared is not None:
            raise TypeError(f"{self} cannot be pickled during a transaction")
        options = {
            "read_only": self._read_only,
            "timeout": self.timeout,
            "durable": self.durable,
        }
        return _unpickle, (type(self), str(self.path), options)

    # --- connections -----------------------------------------------------------------------------

    def _connect(self, *, create: bool) -> sqlite3.Connection | None:
        """Return a new connection; None when there is no file, and none is to be made."""
        if not create and not self.path.exists():
            return None
        mode = "ro" if self._read_only else "rwc"
        address = f"file:{quote(self.path.as_posix())}?mode={mode}"
        db = sqlite3.connect(
            address,
            timeout=self.timeout,
            isolation_level=None,
            check_same_thread=False,
            uri=True,
        )
        try:
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        if not self._is_ours(db):
            with self._lock:  # its threads would be refused at once, not wait
                db.execute("PRAGMA journal_mode = WAL")
            with self._together(db):
                if not self._is_ours(db):
                    db.execute(_TABLE)
                    db.execute(f"PRAGMA application_id = {_APPLICATION}")
        if not self._read_only:
            db.execute(f"PRAGMA synchronous = {'FULL' if self.durable else 'NORMAL'}")

    def _is_ours(self, db: sqlite3.Connection) -> bool:
        """Return whether a database is one of ours, as opposed to an empty one; raise for others."""
        with self._together(db, "DEFERRED"):
            (found,) = db.execute("PRAGMA application_id").fetchone()
            (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if found != _APPLICATION and (tables or self._read_only):
            raise StoreError(f"{self.path} is a database of something else")
        return bool(found == _APPLICATION)

    @contextmanager
    def _db(self, doing: str, *, create: bool = False) -> Iterator[sqlite3.Connection | None]:
        """Give a connection of this thread, or that of the transaction; errors say what was done."""
        try:
            if self._shared is not None:
                with self._lock:
                    if (shared := self._shared) is not None:
                        yield shared
                        return
            if self._connections.pid != os.getpid():
                self._start()
            db = getattr(self._connections.of_thread, "db", None)
            if db is None:
                db = self._connect(create=create)
                if db is not None:
                    self._connections.of_thread.db = db
                    self._connections.open.append(db)
            yield db
        except sqlite3.Error as error:
            raise StoreError(f"{doing} in {self}: {error}") from error

    @contextmanager
    def _writing(self, doing: str) -> Iterator[sqlite3.Connection]:
        self._check_writable()
        with self._db(doing, create=True) as db:
            assert db is not None
            yield db

    @contextmanager
    def transaction(self) -> Iterator[Self]:
        """Store everything that is done through this store in the block together, or nothing of it.

        Other threads that use this object take part, those of an array's own writes, too. Others
        read what was there before until the block ends, and cannot write meanwhile. An exception
        takes everything back. Blocks in blocks are one.

        >>> with zarr.storage.SQLiteStore("all.sqlite") as store, store.transaction():
        ...     zarr.save_group(store, a=np.arange(3), b=np.ones(2))  # both, or nothing
        """
        self._check_writable()
        with self._lock:
            if self._shared is not None:
                yield self
                return
            with self._writing("beginning a transaction") as db:
                db.execute("BEGIN IMMEDIATE")
                self._shared = db
        try:
            yield self
        except BaseException:
            with self._lock, self._db("taking a transaction back"):
                self._shared = None
                db.execute("ROLLBACK")
            raise
        with self._lock, self._db("committing"):
            self._shared = None
            try:
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def _together(self, db: sqlite3.Connection, how: str = "IMMEDIATE") -> Iterator[None]:
        """Make statements one transaction, unless they are in one."""
        if db.in_transaction:
            yield
            return
        db.execute(f"BEGIN {how}")
        try:
            yield
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")

    # --- reading ---------------------------------------------------------------------------------

    def _part(self, key: str, byte_range: ByteRequest, version: int | None = None) -> Value | None:
        """Return part of a value, which is read alone."""
        with self._db(f"reading {key!r}") as db:
            if db is None:
                return slice_value(None, byte_range)
            with self._together(db, "DEFERRED"):
                query = "SELECT rowid, version, length(value) FROM zarr WHERE key = ?"
                found = db.execute(query, (key,)).fetchone()
                if version is not None and (found is None or found[1] != version):
                    raise ValueChangedError(f"{key!r} in {self} was replaced while it was read")
                if found is None:
                    return slice_value(None, byte_range)
                start, end = bounds_of(byte_range, found[2], f"{key!r} in {self}")
                if start == end:
                    return b""
                with db.blobopen("zarr", "value", found[0], readonly=True) as blob:
                    blob.seek(start)
                    return blob.read(end - start)

    def get(self, key: str, byte_range: ByteRequest | None = None) -> Value | None:
        """Return the value of `key` (or part of it), or None when there is no such key."""
        _check(key)
        if byte_range is not None:
            return self._part(key, byte_range)
        value, _ = self.get_versioned(key)
        return value

    def get_versioned(self, key: str) -> tuple[Value | None, str | None]:
        """Return a value and a token that changes whenever it is stored (None: no such key)."""
        _check(key)
        query = "SELECT value, version FROM zarr WHERE key = ?"
        for value, version in self._rows(f"reading {key!r}", query, key):
            return value, str(version)
        return None, None

    def open_value(self, key: str) -> OpenValue | None:
        """Return a snapshot; reads are of the value that was opened or raise `ValueChangedError`."""
        _check(key)
        query = "SELECT length(value), version FROM zarr WHERE key = ?"
        rows = self._rows(f"opening {key!r}", query, key)
        return _OpenRow(self, key, *rows[0]) if rows else None

    def exists(self, key: str) -> bool:
        """Return whether `key` has a value."""
        _check(key)
        return bool(self._rows(f"looking at {key!r}", "SELECT 1 FROM zarr WHERE key = ?", key))

    def getsize(self, key: str) -> int:
        """Return the size of a value in bytes; raise `FileNotFoundError` when there is none."""
        _check(key)
        query = "SELECT length(value) FROM zarr WHERE key = ?"
        rows = self._rows(f"looking at {key!r}", query, key)
        if not rows:
            raise FileNotFoundError(f"no key {key!r} in {self}")
        size: int = rows[0][0]
        return size

    # --- writing ---------------------------------------------------------------------------------

    def set(self, key: str, value: Writable) -> None:
        """Store a copy of `value` under `key`; readers see the old value or the new one."""
        self._check_writable()
        _check(key)
        with self._writing(f"storing {key!r}") as db:
            db.execute(_SET, (key, _flat(value), _new_version()))

    def set_many(self, items: Iterable[tuple[str, Writable]]) -> Generator[Result, None, None]:
        """Store values, together as far as `BATCH_BYTES` allows; yield a `Result` per item."""
        waiting: list[tuple[int, str, Writable]] = []
        size = 0
        for index, item in enumerate(chain(items, [None])):
            if item is not None:
                try:
                    self._check_writable()
                    waiting.append((index, _check(item[0]), _flat(item[1])))
                    size += _size_of_item(item)
                except Exception as error:  # noqa: BLE001 - reported, as the contract says
                    yield Result(index, None, error)
            if waiting and (item is None or size >= BATCH_BYTES or len(waiting) >= 1000):
                failed: Exception | None = None
                try:
                    with self._writing(f"storing {len(waiting)} values") as db:
                        rows = [(key, value, _new_version()) for _, key, value in waiting]
                        with self._together(db):
                            db.executemany(_SET, rows)
                except Exception as error:  # noqa: BLE001 - reported, as the contract says
                    failed = error
                yield from [Result(number, None, failed) for number, _, _ in waiting]
                waiting, size = [], 0

    def set_if_version(self, key: str, value: Writable, version: str | None) -> bool:
        """Store `value` if the value still has `version` (None: does not exist); say whether."""
        self._check_writable()
        _check(key)
        with self._writing(f"storing {key!r}") as db:
            data = _flat(value)
            if version is None:
                return db.execute(_ADD, (key, data, _new_version())).rowcount == 1
            asked = int(version) if version.isdecimal() else -1
            return db.execute(_UPDATE, (data, _new_version(), key, asked)).rowcount == 1

    def delete(self, key: str) -> None:
        """Remove `key`; nothing happens when it does not exist."""
        self._check_writable()
        _check(key)
        with self._writing(f"removing {key!r}") as db:
            db.execute("DELETE FROM zarr WHERE key = ?", (key,))

    def delete_dir(self, prefix: str) -> None:
        """Remove every key below `prefix`, all together."""
        self._check_writable()
        below = _below(prefix)
        with self._writing(f"removing what is below {prefix!r}") as db:
            db.execute(f"DELETE FROM zarr WHERE {_BELOW}", below)  # noqa: S608 - a constant

    # --- listing ---------------------------------------------------------------------------------

    def _rows(self, doing: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._db(doing) as db:
            return [] if db is None else db.execute(query, values).fetchall()

    def list_prefix(self, prefix: str) -> Iterator[str]:
        """Yield every key below the path `prefix`, in no particular order."""
        rows = self._rows("listing", f"SELECT key FROM zarr WHERE {_BELOW}", *_below(prefix))  # noqa: S608
        return (key for (key,) in rows)

    def list_dir(self, prefix: str) -> Iterator[str]:
        """Yield the names directly below `prefix`; what is below them is skipped, not listed."""
        at, end = _below(prefix)
        start = at
        names: dict[str, None] = {}
        query = f"SELECT key FROM zarr WHERE {_BELOW} ORDER BY key LIMIT 1"  # noqa: S608
        while found := self._rows("listing", query, at, end):
            key: str = found[0][0]
            name, slash, _ = key[len(start) :].partition("/")
            names[name] = None
            at = f"{start}{name}0" if slash else f"{key}\0"  # "0" comes after "/"
        return iter(names)

    def getsize_prefix(self, prefix: str) -> int:
        """Return the total size in bytes of the values below `prefix`."""
        query = f"SELECT sum(length(value)) FROM zarr WHERE {_BELOW}"  # noqa: S608
        rows = self._rows("listing", query, *_below(prefix))
        return rows[0][0] or 0 if rows else 0

    def is_empty(self, prefix: str = "") -> bool:
        """Return whether there is no key below `prefix`."""
        query = f"SELECT 1 FROM zarr WHERE {_BELOW} LIMIT 1"  # noqa: S608
        return not self._rows("listing", query, *_below(prefix))

    # --- the store itself ------------------------------------------------------------------------

    def with_read_only(self, read_only: bool = False) -> Self:
        """Return a store for the same file with another `read_only`."""
        if read_only == self._read_only:
            return self
        return type(self)(
            self.path, read_only=read_only, timeout=self.timeout, durable=self.durable
        )

    def lock_key(self, key: str) -> Hashable:
        """Return the identity of the file, and the key."""
        return ("sqlite", os.path.realpath(self.path), key)

    def close(self) -> None:
        """Close the file; the last one to do so leaves nothing beside it."""
        if self._shared is not None:
            raise StoreError(f"{self} cannot be closed during a transaction")
        self._finalizer()
        self._start()

    def __str__(self) -> str:
        return f"sqlite://{self.path.as_posix()}"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, SQLiteStore)
            and self.path == other.path
            and self._read_only == other._read_only
        )

    def __hash__(self) -> int:
        return hash((str(self), self._read_only))


class _OpenRow(RemoteValue):
    """A value as it was when it was opened."""

    def __init__(self, store: SQLiteStore, key: str, size: int, version: int) -> None:
        super().__init__(repr(key), size, str(version))
        self._store, self._key, self._number = store, key, version

    def _fetch(self, wanted: RangeByteRequest) -> Value:
        value = self._store._part(self._key, wanted, self._number)
        assert value is not None
        return value


def _unpickle(cls: type[SQLiteStore], path: str, options: dict[str, Any]) -> SQLiteStore:
    return cls(path, **options)


def _check(key: str) -> str:
    check_key(key)
    try:
        key.encode()
    except UnicodeEncodeError:
        raise InvalidKeyError(f"invalid key {key!r}: it is no text that UTF-8 can encode") from None
    return key


def _below(prefix: str) -> tuple[str, str]:
    """Return the first key that can be below a path, and the first that is beyond."""
    prefix = check_prefix(prefix)
    return (f"{prefix}/", f"{prefix}0") if prefix else ("", "\U0010ffff")


def _flat(value: Writable) -> Any:
    return value if isinstance(value, bytes) else memoryview(value).cast("B")


def _new_version() -> int:
    return secrets.randbits(62)
