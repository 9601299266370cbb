"""Stores in any file system of fsspec.

Asynchronous file systems run on fsspec's own event loop, and a batch of requests needs one hop to
it; others are called directly, overlapped on threads where they are slow. Listings are never taken
from the file system's cache. Only `FileNotFoundError` means that a key does not exist, and not even
that when its cause was another error.
"""

import inspect
import os
import pickle
import re
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from contextlib import nullcontext, suppress
from typing import Any, ClassVar, Self, TypeAlias
from urllib.parse import quote, unquote

from zarr_core.config import config
from zarr_core.errors import InvalidKeyError, StoreError, ValueChangedError
from zarr_core.locks import ForkLock
from zarr_core.storage.base import (
    TAIL_BYTES,
    ByteRequest,
    OffsetByteRequest,
    OpenValue,
    RangeByteRequest,
    RemoteValue,
    Request,
    Result,
    Store,
    SuffixByteRequest,
    Value,
    ValueSnapshot,
    ValueWriter,
    Writable,
    _size_of_item,
    _size_of_range,
    as_results,
    check_key,
    check_prefix,
    check_range,
    slice_value,
)
from zarr_core.storage.directories import TEMP_SUFFIX
from zarr_core.storage.fsspec_parts import Part, Upload, fetch_part, is_refused, version_of
from zarr_core.storage.local import LocalStore
from zarr_core.storage.retry import (
    NO_RETRIES,
    RetryPolicy,
    ShortBodyError,
    http_status,
    is_transient,
    translated,
)

_LOCAL = frozenset({"file", "local"})
_NO_KEY = re.compile(r"^(\./)+|^\.{0,2}$|[?#].*")
_QUICK = frozenset({"file", "local", "memory"})
_S3_URLS = ("s3://", "s3a://")
_ONE_AT_A_TIME = frozenset({"ftp", "libarchive", "memory", "smb", "tar"})
"""File systems with one connection, file position or listing that threads must not share."""

_TRY_AGAIN_THEMSELVES = frozenset({"abfs", "abfss", "adl", "az", "gcs", "gs"})

_Call: TypeAlias = tuple[str, Callable[[Any], Any]]
"""What a request is doing, for errors, and the call of the file system."""


class FsspecStore(Store):
    """A store in a file system of fsspec.

    A write is as atomic as the file system's own. In a forked process the file system is made anew
    from its options; if they cannot be pickled, `StoreError` says so. The file system is never
    closed by the store.

    Parameters
    ----------
    fs
        The file system. One made for use inside an event loop (`asynchronous=True`) is made
        anew without that.
    read_only
        Refuse to write.
    path
        Where in the file system the store begins.
    allowed_exceptions
        Errors that mean "no such key".
    retries
        How often requests are tried again; see `RetryPolicy`. By default not at all for
        file systems that do so themselves, as s3fs does unless `config_kwargs` has
        `{"retries": {"max_attempts": 0}}`; `from_url` gives it that.

    Examples
    --------
    >>> store = zarr.storage.FsspecStore.from_url("memory://some/where")
    >>> zarr.zeros(3, store=store)[:]
    array([0., 0., 0.])
    """

    default_retries: ClassVar[RetryPolicy] = RetryPolicy()

    def __init__(
        self,
        fs: Any,
        read_only: bool = False,
        path: str = "/",
        allowed_exceptions: tuple[type[Exception], ...] = (FileNotFoundError,),
        *,
        retries: RetryPolicy | None = None,
    ) -> None:
        super().__init__(read_only=read_only)
        if fs.async_impl and fs.asynchronous:
            options = {**fs.storage_options, "asynchronous": False}
            fs = type(fs)(*fs.storage_args, **options)
        protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
        self.fs: Any = fs
        self.path: str = fs._strip_protocol(path).rstrip("/")
        self.allowed_exceptions = allowed_exceptions
        self._is_s3 = hasattr(fs, "_call_s3") and hasattr(fs, "split_path")
        tries = bool(protocols & _TRY_AGAIN_THEMSELVES) or (
            self._is_s3 and not _without_retries(fs)
        )
        own = NO_RETRIES if tries else self.default_retries
        self.retries: RetryPolicy = own if retries is None else retries
        self.high_latency: bool = not protocols & _QUICK
        self._is_http = bool(protocols & {"http", "https"})
        self._has_parts = self._is_s3 or (self._is_http and fs.async_impl)  # see `fetch_part`
        # S3 would be asked for the size first, to read large values in parts; older s3fs reads in one
        parts = self._is_s3 and "max_concurrency" in inspect.signature(fs._cat_file).parameters
        self._in_one = {"max_concurrency": 1} if parts else {}
        # whose own writes are not atomic, make no directories, and delete through links
        self._local = (
            LocalStore(self.path or "/", read_only=read_only) if protocols & _LOCAL else None
        )
        self.supports_conditional_writes: bool = self._local is not None
        self.writes_pieces: bool = self._local is not None or self._is_s3
        self._pid = os.getpid()
        self._lock = ForkLock()
        self._turn: Any = ForkLock() if protocols & _ONE_AT_A_TIME else nullcontext()

    def __reduce__(self) -> tuple[Any, ...]:
        options = (self.fs, self._read_only, self.path or "/", self.allowed_exceptions)
        return _unpickle_fsspec, (type(self), options, self.retries)

    @classmethod
    def from_url(
        cls,
        url: str | os.PathLike[str],
        storage_options: dict[str, Any] | None = None,
        read_only: bool = False,
        allowed_exceptions: tuple[type[Exception], ...] = (FileNotFoundError,),
    ) -> Self:
        """Return the store of a URL that fsspec understands, chained ones included.

        Unless `config_kwargs` is given, S3 gets as many connections as requests may be under way,
        as its own default of 10 would be all that runs at once, and does not try again by itself:
        two layers of its own and the `RetryPolicy` of the store would multiply.

        >>> zarr.storage.FsspecStore.from_url(
        ...     "s3://bucket/data.zarr", storage_options={"anon": True}
        ... )  # doctest: +SKIP
        """
        from fsspec.config import conf
        from fsspec.core import url_to_fs

        url = os.fspath(url)
        options = dict(storage_options or {})
        if url.startswith(_S3_URLS) and "config_kwargs" not in {**conf.get("s3", {}), **options}:
            options["config_kwargs"] = {
                "max_pool_connections": config.get("io.max_requests"),
                "retries": {"max_attempts": 0},
            }
        fs, path = url_to_fs(url, **options)
        return cls(fs, read_only, path or "/", allowed_exceptions)

    @classmethod
    def from_mapper(
        cls,
        fs_map: Any,
        read_only: bool = False,
        allowed_exceptions: tuple[type[Exception], ...] = (FileNotFoundError,),
    ) -> Self:
        """Return the store in the place of an fsspec mapper (`fsspec.FSMap`).

        >>> import fsspec
        >>> zarr.storage.FsspecStore.from_mapper(fsspec.get_mapper("memory://mapped")).set("a", b"1")
        """
        return cls(fs_map.fs, read_only, fs_map.root or "/", allowed_exceptions)

    @classmethod
    def from_upath(
        cls,
        upath: Any,
        read_only: bool = False,
        allowed_exceptions: tuple[type[Exception], ...] = (FileNotFoundError,),
    ) -> Self:
        """Return the store in the place of a `upath.UPath`.

        >>> from upath import UPath  # doctest: +SKIP
        >>> zarr.storage.FsspecStore.from_upath(UPath("memory://there"))  # doctest: +SKIP
        """
        return cls(upath.fs, read_only, upath.path or "/", allowed_exceptions)

    # --- calling the file system -----------------------------------------------------------------

    def _live(self) -> Any:
        """Return the file system, made anew in a forked process."""
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    try:
                        self.fs = pickle.loads(pickle.dumps(self.fs))  # noqa: S301 - of just now
                        if self._is_s3:
                            _without_retries(self.fs)
                    except Exception as error:
                        raise StoreError(
                            f"{self} cannot be used in a forked process, as its file system "
                            f"{type(self.fs).__name__} cannot be pickled: {error}"
                        ) from error
                    self._pid = os.getpid()
        return self.fs

    def _call(self, doing: str, call: Callable[[Any], Any]) -> Any:
        """Return `call(fs)`, awaited on the loop of an asynchronous file system.

        `call` uses the names of the asynchronous methods, with an underscore. Raises
        `FileNotFoundError` for what does not exist, and never for anything else.
        """
        fs = self._live()
        try:
            if fs.async_impl:
                from zarr_core.threads.coroutines import run_on

                return run_on(fs.loop, lambda: self.retries.run_async(lambda: call(fs)))
            with self._turn:
                return self.retries.run(lambda: _finished(call(_Awaitable(fs))))
        except Exception as error:
            if self._is_missing(error):
                raise FileNotFoundError(f"{doing}: there is none") from error
            raise self._translated(error, doing) from error

    def _many(
        self,
        request_of: Callable[[Any], _Call],
        items: Iterable[Any],
        size_of: Callable[[Any], int | None] | None = None,
        *,
        cancel: bool = False,
        missing: bool = True,
    ) -> Generator[Result, None, None] | None:
        """Make a request for each item, many at once, or return None where none can be awaited.

        `cancel`: may they be broken off? `missing`: is it no error that something does not exist?
        """
        fs = self._live()
        if not (fs.async_impl and self.high_latency):
            return None

        async def make(item: Any) -> Any:
            doing, call = request_of(item)
            try:
                return await self.retries.run_async(lambda: call(fs))
            except Exception as error:
                if missing and self._is_missing(error):
                    return None
                raise self._translated(error, doing) from error

        from zarr_core.threads.coroutines import overlap_on

        return as_results(overlap_on(fs.loop, make, items, size_of=size_of, cancel=cancel))

    def _is_missing(self, error: Exception) -> bool:
        return isinstance(error, self.allowed_exceptions)

    def _translated(self, error: Exception, doing: str) -> Exception:
        return translated(error, f"{doing} in {self}")

    def _full(self, key: str) -> str:
        if TEMP_SUFFIX in check_key(key):
            raise InvalidKeyError(f"invalid key {key!r}: {TEMP_SUFFIX!r} marks unfinished files")
        name = quote(key) if self._is_http else key
        return f"{self.path}/{name}" if self.path else f"{self.fs.root_marker}{name}"

    # --- reading ---------------------------------------------------------------------------------

    async def _read(self, fs: Any, path: str, byte_range: ByteRequest | None) -> Value:
        """Return a value or part of it, of the right length."""
        if byte_range is None:
            return bytes(await fs._cat_file(path, **self._in_one))
        if isinstance(byte_range, SuffixByteRequest):
            return await self._read_suffix(fs, path, byte_range.suffix)
        if isinstance(byte_range, OffsetByteRequest) or byte_range.start == byte_range.end:
            # a server that ignores ranges could not be told from one that does not
            size = await self._size(fs, path)
            start, end = (*byte_range, size)[:2]
            if not 0 <= start <= end <= size:
                raise StoreError(f"{path} has {size} bytes, too few for {byte_range}")
            if start == end:
                return b""
        else:
            start, end = byte_range
        data = bytes(await fs._cat_file(path, start=start, end=end))
        if len(data) == end - start:
            return data
        size = await self._size(fs, path)
        if len(data) == size:  # the server ignored the range
            return slice_value(data, RangeByteRequest(start, end))
        wanted = min(end, size) - start
        kind = StoreError if end > size else ShortBodyError
        raise kind(f"{path} has {size} bytes; {start} to {end} gave {len(data)}, not {wanted}")

    async def _read_suffix(self, fs: Any, path: str, suffix: int) -> Value:
        if suffix == 0:
            await self._size(fs, path)  # raises if there is no such value
            return b""
        try:
            data = bytes(await fs._cat_file(path, start=-suffix, end=None))
        except Exception as error:
            if self._must_raise(error):
                raise
            size = await self._size(fs, path)
            start = max(0, size - suffix)
            if start == size:
                return b""
            return await self._read(fs, path, RangeByteRequest(start, size))
        return data[-suffix:]

    async def _size(self, fs: Any, path: str) -> int:
        info = await self._describe(fs, path)
        if info.get("type") == "directory":
            raise StoreError(f"{path} is a directory, not a value")
        size = info.get("size")
        return len(await fs._cat_file(path)) if size is None else int(size)

    async def _describe(self, fs: Any, path: str) -> dict[str, Any]:
        """Return what the file system says of a file now."""
        self.fs.invalidate_cache(path)
        try:
            info: dict[str, Any] = await fs._info(path)
        except FileNotFoundError as error:
            # fsspec's HTTP file systems say this of every error
            cause = error.__cause__
            if isinstance(cause, Exception) and not isinstance(cause, FileNotFoundError):
                status = http_status(cause) or (0 if self._is_http else 404)
                if is_transient(cause) or status not in (404, 410):
                    raise cause from None
            raise
        return info

    def get(self, key: str, byte_range: ByteRequest | None = None) -> Value | None:
        """Return the value of `key` (or part of it), or None when there is no such key."""
        if self._local is not None:
            return self._local.get(key, byte_range)
        try:
            value: Value = self._call(*self._reading((key, byte_range)))
        except FileNotFoundError:
            return None
        return value

    def get_many(self, requests: Iterable[Request]) -> Generator[Result, None, None]:
        """Yield a `Result` per request, as they complete."""
        many = self._many(self._reading, requests, _size_of_range, cancel=True)
        return super().get_many(requests) if many is None else many

    def _reading(self, request: tuple[str, ByteRequest | None]) -> _Call:
        key, byte_range = request
        path = self._full(key)
        check_range(byte_range)
        return f"reading {key!r}", lambda fs: self._read(fs, path, byte_range)

    def _info(self, key: str) -> dict[str, Any] | None:
        path = self._full(key)
        doing = f"looking at {key!r}"
        try:
            info: dict[str, Any] = self._call(doing, lambda fs: self._describe(fs, path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return None if info.get("type") == "directory" else info

    def stamp(self, key: str) -> Hashable:
        """Return what tells values of local files apart, None elsewhere."""
        return None if self._local is None else self._local.stamp(key)

    def exists(self, key: str) -> bool:
        """Return whether `key` has a value; a directory is not a value."""
        return self._info(key) is not None

    def getsize(self, key: str) -> int:
        """Return the size of a value in bytes; raise `FileNotFoundError` when there is none."""
        info = self._info(key)
        if info is None:
            raise FileNotFoundError(f"no key {key!r} in {self}")
        size = info.get("size")
        return super().getsize(key) if size is None else int(size)

    def open_value(self, key: str) -> OpenValue | None:
        """Return a snapshot of a value.

        Where the file system can ask for a version (S3, HTTP with an ETag), reads are of the value
        that was opened, or raise `ValueChangedError`; elsewhere this is checked after each read.
        From S3 and HTTP the end of the value comes with opening it, which takes one request.
        """
        if self._local is not None:
            return self._local.open_value(key)
        if not self.high_latency:
            return super().open_value(key)
        if self._has_parts:
            path = self._full(key)
            try:
                part = self._call(f"opening {key!r}", lambda fs: self._tail(fs, path))
            except FileNotFoundError:
                return None
            if part is not None and part.start == 0:
                return ValueSnapshot(part.data, version_of(part.info))
            if part is not None:
                return _OpenFile(self, key, part.info, part.data)
        info = self._info(key)
        if info is None or info.get("size") is None:
            return None if info is None else super().open_value(key)
        return _OpenFile(self, key, info)

    async def _tail(self, fs: Any, path: str) -> Part | None:
        """Return the end of a value, or None where the server cannot do or does not say that."""
        try:
            part = await fetch_part(fs, path, f"bytes=-{TAIL_BYTES}", None, is_s3=self._is_s3)
        except Exception as error:
            if self._must_raise(error):
                raise
            return None
        return part if part.start + len(part.data) == part.info["size"] else None

    def _must_raise(self, error: Exception) -> bool:
        """Return whether an error is of more than an end of a value being asked for.

        Some servers know no suffixes, and some none of an empty value.
        """
        return self._is_missing(error) or is_transient(error) or http_status(error) == 403

    # --- writing ---------------------------------------------------------------------------------

    def set(self, key: str, value: Writable) -> None:
        """Store `value` under `key`."""
        if self._local is not None:
            self._local.set(key, value)
        else:
            self._call(*self._writing((key, value)))

    def open_writer(self, key: str, reserved: int = 0) -> ValueWriter:
        """Return what writes a value piece by piece: to local files, and to S3 in parts."""
        if self._local is not None:
            return self._local.open_writer(key, reserved)
        if not self._is_s3:
            return super().open_writer(key, reserved)
        self._check_writable()
        return Upload(lambda call: self._call(f"writing {key!r}", call), self._full(key))

    def set_many(self, items: Iterable[tuple[str, Writable]]) -> Generator[Result, None, None]:
        """Store values; yield a `Result` per item as they complete."""
        many = self._many(self._writing, items, _size_of_item, missing=False)
        return super().set_many(items) if many is None else many

    def _writing(self, item: tuple[str, Writable]) -> _Call:
        self._check_writable()
        path, data = self._full(item[0]), bytes(item[1])
        return f"writing {item[0]!r}", lambda fs: fs._pipe_file(path, data)

    def set_if_version(self, key: str, value: Writable, version: str | None) -> bool:
        """Store `value` if the value still has `version` (None: does not exist); say whether.

        Atomic where the file system is local, or can create only what does not exist.
        """
        self._check_writable()
        path, data = self._full(key), bytes(value)
        if self._local is not None:
            return self._local.set_if_version(key, value, version)
        fs = self._live()
        method = fs._pipe_file if fs.async_impl else fs.pipe_file
        if version is not None or "mode" not in inspect.signature(method).parameters:
            return super().set_if_version(key, value, version)
        again = False

        async def create(fs: Any) -> bool:
            nonlocal again
            try:
                await fs._pipe_file(path, data, mode="create")
            except Exception as error:
                # some services that speak S3 do not say which condition was not met
                if not (isinstance(error, FileExistsError) or is_refused(error)):
                    raise
                # a try whose answer was lost may have stored it
                return again and bytes(await fs._cat_file(path)) == data
            finally:
                again = True
            return True

        created: bool = self._call(f"creating {key!r}", create)
        return created

    def delete(self, key: str) -> None:
        """Remove `key`; nothing happens when it does not exist."""
        if self._local is not None:
            self._local.delete(key)
            return
        with suppress(FileNotFoundError):
            self._call(*self._deleting(key))

    def delete_many(self, keys: Iterable[str]) -> Generator[Result, None, None]:
        """Remove keys; yield a `Result` per key as they complete."""
        many = self._many(self._deleting, keys)
        return super().delete_many(keys) if many is None else many

    def _deleting(self, key: str) -> _Call:
        self._check_writable()
        path = self._full(key)
        return f"deleting {key!r}", lambda fs: fs._rm_file(path)

    def delete_dir(self, prefix: str) -> None:
        """Remove every key below `prefix`."""
        if self._local is None:
            super().delete_dir(prefix)
        else:
            self._local.delete_dir(prefix)

    def prune(self, prefix: str) -> None:
        """Remove the directories below `prefix` that are empty; there are some in local files."""
        self._check_writable()
        if self._local is not None:
            self._local.prune(prefix)

    # --- listing ---------------------------------------------------------------------------------

    def _directory(self, prefix: str) -> str:
        prefix = check_prefix(prefix)
        return self._full(prefix) if prefix else self.path or str(self.fs.root_marker)

    def _listed(self, prefix: str, call: Callable[[Any, str], Any]) -> Iterator[str]:
        """Yield what a listing has below `prefix`, relative to that."""
        directory = self._directory(prefix)
        self._live().invalidate_cache(directory)
        try:
            found = self._call(f"listing {prefix!r}", lambda fs: call(fs, directory))
        except (FileNotFoundError, NotADirectoryError):
            return iter(())
        start = directory.strip("/") + "/" if directory.strip("/") else ""
        # some file systems put a slash in front, some do not
        names = (name.lstrip("/") for name in found)
        below = (name[len(start) :].rstrip("/") for name in names if name.startswith(start))
        # of a page of links, those within a page, to other orders of it and to itself are no keys
        unquoted = (unquote(_NO_KEY.sub("", name)) for name in below) if self._is_http else below
        return (name for name in unquoted if name and not name.endswith(TEMP_SUFFIX))

    def list_prefix(self, prefix: str) -> Iterator[str]:
        """Yield every key below the path `prefix`, in no particular order."""
        if self._local is not None:
            return self._local.list_prefix(prefix)
        prefix = check_prefix(prefix)
        below = self._listed(prefix, lambda fs, path: fs._find(path, detail=False))
        return (f"{prefix}/{name}" for name in below) if prefix else below

    def list_dir(self, prefix: str) -> Iterator[str]:
        """Yield the names directly below `prefix`."""
        if self._local is not None:
            return self._local.list_dir(prefix)
        below = self._listed(prefix, lambda fs, path: fs._ls(path, detail=False))
        return iter(dict.fromkeys(name.partition("/")[0] for name in below))

    def links(self, prefix: str) -> Iterator[str]:
        """Yield the paths of links to directories, `prefix` or below it: `delete` removes them."""
        return super().links(prefix) if self._local is None else self._local.links(prefix)

    # --- the store itself ------------------------------------------------------------------------

    def with_read_only(self, read_only: bool = False) -> Self:
        """Return a store for the same place with another `read_only`."""
        options = (self.fs, read_only, self.path or "/", self.allowed_exceptions)
        return type(self)(*options, retries=self.retries)

    def lock_key(self, key: str) -> Hashable:
        """Return the URL of the key, the same for all stores below which it is."""
        if self._local is not None:
            return self._local.lock_key(key)
        return f"{self.fs.unstrip_protocol(self.path)}/{key}"

    def __str__(self) -> str:
        return str(self.fs.unstrip_protocol(self.path or "/"))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, FsspecStore)
            and type(self.fs) is type(other.fs)
            and self.fs.storage_args == other.fs.storage_args
            and self.fs.storage_options == other.fs.storage_options
            and self.path == other.path
            and self._read_only == other._read_only
        )

    def __hash__(self) -> int:
        return hash((type(self.fs), self.path, self._read_only))


def _unpickle_fsspec(
    kind: type[FsspecStore], options: tuple[Any, ...], retries: RetryPolicy
) -> FsspecStore:
    return kind(*options, retries=retries)


def _without_retries(fs: Any) -> bool:
    """Return whether botocore was told not to try again; then s3fs, which cannot be told, does not.

    What s3fs was given is pickled with it, what is changed later is not.
    """
    retries = (getattr(fs, "config_kwargs", None) or {}).get("retries") or {}
    if retries.get("max_attempts") != 0:
        return False
    fs.retries = 1
    return True


class _OpenFile(RemoteValue):
    """A value of a slow file system as it was when it was opened."""

    def __init__(
        self, store: FsspecStore, key: str, info: dict[str, Any], tail: bytes = b""
    ) -> None:
        super().__init__(repr(key), int(info["size"]), version_of(info), tail)
        self._store, self._key, self._etag = store, key, info.get("ETag")

    def _fetch(self, wanted: RangeByteRequest) -> Value:
        path, doing = self._store._full(self._key), f"reading {self._key!r}"
        try:
            value: Value = self._store._call(doing, lambda fs: self._read(fs, path, wanted))
        except FileNotFoundError as error:
            raise ValueChangedError(f"{self._key!r} was deleted while it was read") from error
        return value

    async def _read(self, fs: Any, path: str, wanted: RangeByteRequest) -> Value:
        store = self._store
        if store._has_parts:
            data = await self._fetch_part(fs, path, wanted)
        else:
            data = bytes(await fs._cat_file(path, start=wanted.start, end=wanted.end))
            now = await store._describe(fs, path)
            if (version_of(now), now.get("size")) != (self.version, self.size):
                raise self._changed()
        if len(data) == self.size:  # the server may have ignored the range
            return slice_value(data, wanted)
        if len(data) != wanted.end - wanted.start:
            raise ShortBodyError(f"{path}: {wanted} gave {len(data)} bytes")
        return data

    async def _fetch_part(self, fs: Any, path: str, wanted: RangeByteRequest) -> bytes:
        span = f"bytes={wanted.start}-{wanted.end - 1}"
        try:
            part = await fetch_part(fs, path, span, self._etag, is_s3=self._store._is_s3)
        except Exception as error:
            if is_refused(error):
                raise self._changed() from error
            raise
        etag = part.info.get("ETag")
        replaced = self._etag and etag and etag != self._etag
        if replaced or part.info["size"] not in (self.size, -1):
            raise self._changed()
        return part.data

    def _changed(self) -> ValueChangedError:
        return ValueChangedError(f"{self._key!r} of {self._store} was replaced while it was read")


# --- file systems that are not asynchronous ------------------------------------------------------


class _Awaitable:
    """A plain file system whose methods can be awaited, so that each request is written once."""

    def __init__(self, fs: Any) -> None:
        self._fs = fs

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._fs, name.removeprefix("_"))

        async def call(*args: Any, **kwargs: Any) -> Any:
            return method(*args, **kwargs)

        return call


def _finished(coroutine: Any) -> Any:
    """Return the result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    finally:
        coroutine.close()
    raise RuntimeError("a plain file system made its caller wait")
