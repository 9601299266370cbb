"""Stores in an object store, through obstore's synchronous functions, which release the GIL.

obstore tries failed requests again by itself. Its machinery does not survive a fork: in a forked
process every call raises `StoreError`, where obstore would wait for ever.
"""

import errno
import os
from collections.abc import Generator, Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, Generic, Self, TypeVar
from uuid import uuid4

from zarr_core.errors import InvalidKeyError, StoreError, ValueChangedError
from zarr_core.storage.base import (
    LARGE,
    PART_BYTES,
    TAIL_BYTES,
    ByteRequest,
    OffsetByteRequest,
    OpenValue,
    RangeByteRequest,
    RemoteValue,
    Result,
    Store,
    SuffixByteRequest,
    Value,
    ValueSnapshot,
    ValueWriter,
    Writable,
    check_document,
    check_key,
    check_prefix,
    check_range,
    content_version,
)

T = TypeVar("T")

DELETE_AT_ONCE = 1000
"""What S3 deletes with one request."""

PARTS_AT_ONCE = 4
"""Of an upload."""

_QUICK = frozenset({"LocalStore", "MemoryStore"})

_COMPARES = {"LocalStore": False, "HTTPStore": False, "MemoryStore": True}
"""Are versions compared when something is written? obstore cannot do that with local files."""

_NO_VERSION = '"0"\n1'
"""An ETag and a generation that no value has."""


class _Runtime:
    """The process in which obstore's machinery was started."""

    pid: int | None = None

    def check(self, store: "ObjectStore[Any]") -> None:
        if self.pid is None:
            self.pid = os.getpid()
        elif self.pid != os.getpid():
            raise StoreError(
                f"{store} cannot be used in a forked process, where obstore does not work; start "
                "processes with 'spawn' or 'forkserver'"
            )


_runtime = _Runtime()


class ObjectStore(Store, Generic[T]):
    """A store in an object store.

    Writes are atomic, and so are conditional ones where the service compares versions. Stores in
    the memory of obstore cannot be pickled; others pickle with their credentials.

    Parameters
    ----------
    store
        A store of obstore, or of another library with the same classes.
    read_only
        Refuse to write.

    Examples
    --------
    >>> from obstore.store import S3Store  # doctest: +SKIP
    >>> store = zarr.storage.ObjectStore(S3Store("bucket", prefix="data.zarr"))  # doctest: +SKIP
    >>> zarr.open_array(store, mode="r")  # doctest: +SKIP
    """

    writes_pieces = True

    def __init__(self, store: T, *, read_only: bool = False) -> None:
        super().__init__(read_only=read_only)
        if not any(kind.__module__.startswith(_OBSTORE) for kind in type(store).__mro__):
            raise TypeError(f"expected a store of obstore, not {type(store).__name__}")
        self.store = store
        self._any: Any = store
        self.high_latency: bool = type(store).__name__ not in _QUICK
        self._compares = _COMPARES.get(type(store).__name__)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle_object, (type(self), self.store, self._read_only)

    # --- reading ---------------------------------------------------------------------------------

    def get(self, key: str, byte_range: ByteRequest | None = None) -> Value | None:
        """Return the value of `key` (or part of it), or None when there is no such key."""
        import obstore

        check_key(key)
        check_range(byte_range)
        try:
            with self._errors("reading", key):
                match byte_range:
                    case None:
                        response = obstore.get(self._any, key)
                        if (size := response.meta["size"]) >= LARGE:
                            check_document(key, size, self)
                        return _view(response.bytes())
                    case RangeByteRequest(start, end) if 0 <= start < end:
                        data = _view(obstore.get_range(self._any, key, start=start, end=end))
                        return self._exactly(key, data, byte_range, end - start)
                    case SuffixByteRequest(suffix) if suffix > 0:
                        return self._get_suffix(key, suffix)
                    case OffsetByteRequest(offset) if offset >= 0:
                        return self._get_offset(key, offset)
                self._check_no_bytes(key, byte_range)
                return b""
        except FileNotFoundError:
            return None

    def _check_no_bytes(self, key: str, byte_range: ByteRequest) -> None:
        """Raise unless a range without bytes is one of the value; services refuse such ranges."""
        size = self._size(key)
        start = byte_range[0]
        end = byte_range.end if isinstance(byte_range, RangeByteRequest) else start
        if not 0 <= start <= end <= size:
            raise StoreError(f"{key!r} has {size} bytes, too few for {byte_range}")

    def _exactly(self, key: str, data: memoryview, asked: ByteRequest, size: int) -> memoryview:
        if len(data) != size:
            raise StoreError(f"{asked} of {key!r} in {self} gave {len(data)} bytes")
        return data

    def _get_suffix(self, key: str, suffix: int) -> Value:
        import obstore

        try:
            response = obstore.get(self._any, key, options={"range": {"suffix": suffix}})
        except FileNotFoundError:
            raise
        except Exception as error:
            # Azure knows no suffixes, and S3 none of an empty value
            if _kind(error) not in ("NotSupportedError", "GenericError"):
                raise
            size = self._size(key)
            start = max(0, size - suffix)
            if start == size:
                return b""
            data = _view(obstore.get_range(self._any, key, start=start, end=size))
            return self._exactly(key, data, SuffixByteRequest(suffix), size - start)
        start, end = response.range
        return self._exactly(key, _view(response.bytes()), SuffixByteRequest(suffix), end - start)

    def _get_offset(self, key: str, offset: int) -> Value:
        import obstore

        try:
            response = obstore.get(self._any, key, options={"range": {"offset": offset}})
        except FileNotFoundError:
            raise
        except Exception as error:
            size = self._size(key)
            if offset == size:
                return b""
            if offset > size:
                raise StoreError(f"{key!r} has {size} bytes, none from {offset} on") from error
            raise
        size = response.meta["size"]
        return self._exactly(key, _view(response.bytes()), OffsetByteRequest(offset), size - offset)

    def _size(self, key: str) -> int:
        import obstore

        size: int = obstore.head(self._any, key)["size"]
        return size

    def getsize(self, key: str) -> int:
        """Return the size of a value in bytes; raise `FileNotFoundError` when there is none."""
        with self._errors("looking at", check_key(key)):
            return self._size(key)

    def open_value(self, key: str) -> OpenValue | None:
        """Return a snapshot; reads are of the value that was opened or raise `ValueChangedError`."""
        import obstore

        check_key(key)
        try:
            with self._errors("opening", key):
                try:
                    options: Any = {"range": {"suffix": TAIL_BYTES}}
                    response = obstore.get(self._any, key, options=options)
                    tail, meta = _view(response.bytes()), response.meta
                    self._exactly(key, tail, SuffixByteRequest(TAIL_BYTES), _length(response.range))
                except FileNotFoundError:
                    raise
                except Exception as error:
                    if _kind(error) not in ("NotSupportedError", "GenericError"):
                        raise
                    tail, meta = memoryview(b""), obstore.head(self._any, key)
        except FileNotFoundError:
            return None
        if len(tail) == meta["size"]:
            return ValueSnapshot(tail, _version(meta))
        return _OpenObject(self, key, meta, tail)

    def get_versioned(self, key: str) -> tuple[Value | None, str | None]:
        """Return a value and its ETag (where there is none, a token computed from its bytes)."""
        import obstore

        check_key(key)
        try:
            with self._errors("reading", key):
                response = obstore.get(self._any, key)
                value = _view(response.bytes())
        except FileNotFoundError:
            return None, None
        return value, _condition(response.meta) or content_version(value)

    # --- writing ---------------------------------------------------------------------------------

    def set(self, key: str, value: Writable) -> None:
        """Store a copy of `value` under `key`."""
        import obstore

        self._check_writable()
        with self._errors("writing", check_key(key)):
            obstore.put(self._any, key, bytes(value))

    def open_writer(self, key: str, reserved: int = 0) -> ValueWriter:
        """Return what writes a value piece by piece: as a multipart upload, if it is large.

        The parts have their order, so a value with `reserved` bytes is collected.
        """
        if reserved:
            return super().open_writer(key, reserved)
        self._check_writable()
        return _Upload(self, check_key(key))

    def set_if_version(self, key: str, value: Writable, version: str | None) -> bool:
        """Store `value` if the value still has `version` (None: does not exist); say whether.

        Atomic where the service compares ETags (`supports_conditional_writes`).
        """
        self._check_writable()
        creates = version is None and type(self.store).__name__ in _COMPARES
        stored = None
        if creates or self.supports_conditional_writes:
            stored = self._put_if(key, value, "create" if version is None else _as_mode(version))
        return super().set_if_version(key, value, version) if stored is None else stored

    @property
    def supports_conditional_writes(self) -> bool:  # type: ignore[override]
        """Does the service refuse a write whose condition does not hold?

        Some that speak S3 ignore conditions, so that every such write succeeds. Whether this one
        does is found out once, by a write to a random key that must be refused.
        """
        if self._compares is None:
            self._compares = self._refuses()
        return self._compares

    def _refuses(self) -> bool:
        key = f".zarr_core-{uuid4().hex}"
        try:
            stored = self._put_if(key, b"", _as_mode(_NO_VERSION))
        except PermissionError:  # which says nothing of keys that may be written
            return True
        if stored:
            self.delete(key)
        return stored is False

    def _put_if(self, key: str, value: Writable, mode: Any) -> bool | None:
        """Store under a condition; return None where the service cannot do that."""
        import obstore

        self._check_writable()
        with self._errors("writing", check_key(key)):
            try:
                # the parts of a multipart upload have no condition
                obstore.put(self._any, key, bytes(value), mode=mode, use_multipart=False)
            except FileNotFoundError:
                if mode == "create":  # then it is the bucket that is missing
                    raise
                return False
            except NotImplementedError:
                return None
            except Exception as error:
                match _kind(error):
                    case "AlreadyExistsError" | "PreconditionError":
                        return False
                    case "NotSupportedError":
                        return None
                raise
        return True

    def delete(self, key: str) -> None:
        """Remove `key`; nothing happens when it does not exist."""
        import obstore

        self._check_writable()
        with suppress(FileNotFoundError), self._errors("deleting", check_key(key)):
            obstore.delete(self._any, key)

    def delete_many(self, keys: Iterable[str]) -> Generator[Result, None, None]:
        """Remove keys, many with one request; yield a `Result` per key."""
        import obstore

        source = enumerate(keys)
        while batch := list(islice(source, DELETE_AT_ONCE)):
            try:
                self._check_writable()
                names = [check_key(key) for _, key in batch]
                with self._errors("deleting", f"{names[0]} and others"):
                    obstore.delete(self._any, names)
            except Exception:  # noqa: BLE001 - one by one, to see which
                indexes = [index for index, _ in batch]
                for result in super().delete_many(key for _, key in batch):
                    yield Result(indexes[result.index], None, result.error)
            else:
                yield from (Result(index, None) for index, _ in batch)

    # --- listing ---------------------------------------------------------------------------------

    def list_prefix(self, prefix: str) -> Iterator[str]:
        """Yield every key below the path `prefix`, in no particular order."""
        prefix = check_prefix(prefix)
        return self._walk(prefix, f"{prefix}/" if prefix else "")

    def _walk(self, prefix: str, start: str) -> Iterator[str]:
        import obstore

        with self._errors("listing", prefix):
            for batch in obstore.list(self._any, prefix or None):
                for found in batch:
                    if found["path"].startswith(start):
                        yield found["path"]

    def list_dir(self, prefix: str) -> Iterator[str]:
        """Yield the names directly below `prefix`."""
        import obstore

        prefix = check_prefix(prefix)
        with self._errors("listing", prefix):
            found = obstore.list_with_delimiter(self._any, prefix or None)
        cut = len(prefix) + 1 if prefix else 0
        paths = [*found["common_prefixes"], *(item["path"] for item in found["objects"])]
        names = (path[cut:].rstrip("/") for path in paths)
        return iter(dict.fromkeys(name for name in names if name))

    def getsize_prefix(self, prefix: str) -> int:
        """Return the total size in bytes of the values below `prefix`; listings tell it."""
        import obstore

        prefix = check_prefix(prefix)
        start = f"{prefix}/" if prefix else ""
        with self._errors("listing", prefix):
            pages = obstore.list(self._any, prefix or None)
            return sum(
                found["size"] for page in pages for found in page if found["path"].startswith(start)
            )

    # --- the store itself ------------------------------------------------------------------------

    @contextmanager
    def _errors(self, doing: str, key: str) -> Iterator[None]:
        """Raise obstore's errors as the builtins that say the same."""
        _runtime.check(self)
        try:
            yield
        except (FileNotFoundError, StoreError):
            raise
        except Exception as error:
            kind = _kind(error)
            first = str(error).partition("\n")[0]
            message = f"{doing} {key!r} in {self}: {first or kind}"
            if kind in ("PermissionDeniedError", "UnauthenticatedError"):
                raise PermissionError(message) from error
            if kind == "InvalidPathError" or isinstance(error, ValueError):
                raise InvalidKeyError(message) from error
            if kind == "PreconditionError":
                raise ValueChangedError(message) from error
            if kind == "GenericError" and _is_timeout(first):
                raise TimeoutError(message) from error
            if f"(os error {errno.ENOTDIR})" in first:  # local files: a parent of the key is one
                raise NotADirectoryError(errno.ENOTDIR, message) from error
            raise StoreError(message) from error

    def with_read_only(self, read_only: bool = False) -> Self:
        """Return a store for the same place with another `read_only`."""
        return type(self)(self.store, read_only=read_only)

    def lock_key(self, key: str) -> Hashable:
        """Return the identity of the place, and the key."""
        return _place(self._any, key)

    def __str__(self) -> str:
        return f"object_store://{_described(self._any)}"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ObjectStore)
            and bool(self.store == other.store)
            and self._read_only == other._read_only
        )

    def __hash__(self) -> int:
        return hash((type(self.store), str(self), self._read_only))


_OBSTORE = ("obstore", "_obstore")


def _unpickle_object(kind: type[ObjectStore[T]], store: T, read_only: bool) -> ObjectStore[T]:
    return kind(store, read_only=read_only)


def _kind(error: Exception) -> str:
    return type(error).__name__


def _is_timeout(message: str) -> bool:
    # obstore also says how long it would have tried again
    return "timed out" in message or "timeout" in message.lower().replace("retry_timeout", "")


def _view(data: Any) -> memoryview:
    return memoryview(data)


def _length(span: tuple[int, int]) -> int:
    return span[1] - span[0]


def _version(meta: Any) -> str | None:
    return meta["e_tag"] or (f"{meta['last_modified']}-{meta['size']}" if meta else None)


def _condition(meta: Any) -> str | None:
    """Return what a write can be made to depend on: an ETag, or what Google has in its place."""
    if not meta["version"]:
        return meta["e_tag"] or None
    return f"{meta['e_tag'] or ''}\n{meta['version']}"


def _as_mode(version: str) -> dict[str, str]:
    etag, _, generation = version.partition("\n")
    parts = {"e_tag": etag, "version": generation}
    return {name: part for name, part in parts.items() if part}


def _described(store: Any) -> str:
    """Return which place a store of obstore is, without its secrets."""
    if type(store).__name__ == "MemoryStore":
        return f"memory-{id(store)}"
    if type(store).__name__ == "HTTPStore":
        return str(store.url)
    prefix = str(getattr(store, "prefix", None) or "").strip("/")
    if type(store).__name__ == "LocalStore":
        return f"/{prefix}"
    config = dict(getattr(store, "config", None) or {})
    bucket = config.get("bucket") or config.get("container_name") or ""
    return "/".join(part for part in (type(store).__name__, bucket, prefix) if part)


def _place(store: Any, key: str) -> str:
    if type(store).__name__ == "LocalStore":  # as for our own store of the same directory
        return f"{os.path.realpath(str(getattr(store, 'prefix', None) or '/'))}/{key}"
    return f"{_described(store)}/{key}"


class _OpenObject(RemoteValue):
    """An object as it was when it was opened; its end is here already."""

    def __init__(self, store: ObjectStore[Any], key: str, meta: Any, tail: memoryview) -> None:
        super().__init__(repr(key), int(meta["size"]), _version(meta), tail)
        self._store, self._key = store, key
        self._etag: str | None = meta["e_tag"]

    def _fetch(self, wanted: RangeByteRequest) -> Value:
        import obstore

        options: Any = {"range": tuple(wanted)}
        if self._etag is not None and not self._etag.startswith("W/"):  # a weak one never matches
            options["if_match"] = self._etag
        store = self._store
        try:
            with store._errors("reading", self._key):
                response = obstore.get(store._any, self._key, options=options)
                data = _view(response.bytes())
        except FileNotFoundError as error:
            raise ValueChangedError(f"{self._key!r} was deleted while it was read") from error
        if _version(response.meta) != self.version:
            raise ValueChangedError(f"{self._key!r} of {store} was replaced while it was read")
        return store._exactly(self._key, data, wanted, wanted.end - wanted.start)


class _Upload:
    """A value on its way into an object."""

    def __init__(self, store: ObjectStore[Any], key: str) -> None:
        import obstore

        self._store, self._key = store, key
        with store._errors("writing", key):
            self._file: Any = obstore.open_writer(
                store._any, key, buffer_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
            )

    def write(self, data: Writable) -> None:
        """Add bytes."""
        with self._store._errors("writing", self._key):
            self._file.write(bytes(data))

    def complete(self, start: bytes = b"") -> None:
        """Store the value."""
        with self._store._errors("writing", self._key):
            self._file.close()
        self._file = None

    def abort(self) -> None:
        """Give up; parts that were uploaded are removed."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(Exception):
                file.__exit__(StoreError, StoreError("given up"), None)
