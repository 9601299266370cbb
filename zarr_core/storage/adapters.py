"""Stores of zarr-python used here, and stores from here used by zarr-python."""

import asyncio
import os
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Hashable,
    Iterable,
    Iterator,
)
from contextlib import closing
from functools import cache
from operator import attrgetter
from typing import Any, Self

from zarr_core.errors import StoreError
from zarr_core.storage.base import (
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
    Writable,
    _size_of_item,
    _size_of_range,
    as_results,
    check_key,
    check_prefix,
    check_range,
)

# --- zarr-python's stores here -------------------------------------------------------------------


def from_zarr_store(store: Any, *, read_only: bool = False) -> "FromZarrStore":
    """Return a store that asks a store of zarr-python (such as Icechunk's).

    Parameters
    ----------
    store
        An instance of `zarr.abc.store.Store`; it is never closed from here.
    read_only
        Refuse to write, whatever `store` allows.

    Examples
    --------
    >>> import zarr as other  # doctest: +SKIP
    >>> store = zarr.storage.from_zarr_store(other.storage.MemoryStore())  # doctest: +SKIP
    """
    return FromZarrStore(store, read_only=read_only)


class FromZarrStore(Store):
    """A store that asks an asynchronous store of zarr-python, on an event loop of our own.

    Many requests need one hop to the loop; see `from_zarr_store` for the arguments.
    """

    high_latency = True

    def __init__(self, store: Any, *, read_only: bool = False) -> None:
        from zarr.abc.store import Store as ZarrStore

        if not isinstance(store, ZarrStore):
            raise TypeError(f"expected a store of zarr-python, not {type(store).__name__}")
        super().__init__(read_only=read_only or store.read_only)
        self.store: Any = store
        self.supports_consolidated_metadata: bool = store.supports_consolidated_metadata
        self.supports_writes: bool = store.supports_writes
        self.supports_deletes: bool = store.supports_deletes
        self.supports_listing: bool = store.supports_listing

    def _run(self, call: Callable[[], Awaitable[Any]]) -> Any:
        from zarr_core.threads.coroutines import own_loop, run_on

        return run_on(own_loop(), call)

    def _overlap(
        self,
        call: Callable[[Any], Awaitable[Any]],
        items: Iterable[Any],
        size_of: Callable[[Any], int | None] | None,
        *,
        cancel: bool,
    ) -> Generator[Result, None, None]:
        from zarr_core.threads.coroutines import overlap_on, own_loop

        loop = own_loop()
        return as_results(overlap_on(loop, call, items, size_of=size_of, cancel=cancel))

    # --- reading ---

    async def _get(self, request: tuple[str, ByteRequest | None]) -> Value | None:
        from zarr.core.buffer import default_buffer_prototype

        key, byte_range = check_key(request[0]), request[1]
        check_range(byte_range)
        asked = _to_zarr_range(byte_range)
        buffer = await self.store.get(key, default_buffer_prototype(), byte_range=asked)
        if buffer is None:
            return None
        value: bytes = buffer.to_bytes()
        if isinstance(byte_range, RangeByteRequest):
            wanted = byte_range.end - byte_range.start
            if len(value) != wanted:
                raise StoreError(f"{byte_range} of {key!r} in {self} gave {len(value)} bytes")
        return value

    def get(self, key: str, byte_range: ByteRequest | None = None) -> Value | None:
        """Return the value of `key` (or part of it), or None when there is no such key."""
        value: Value | None = self._run(lambda: self._get((key, byte_range)))
        return value

    def get_many(self, requests: Iterable[Request]) -> Generator[Result, None, None]:
        """Yield a `Result` per request, as they complete."""
        return self._overlap(self._get, requests, _size_of_range, cancel=True)

    def exists(self, key: str) -> bool:
        """Return whether `key` has a value."""
        check_key(key)
        found: bool = self._run(lambda: self.store.exists(key))
        return found

    def getsize(self, key: str) -> int:
        """Return the size of a value in bytes; raise `FileNotFoundError` when there is none."""
        size = self._run(lambda: self._size(check_key(key)))
        if size is None:
            raise FileNotFoundError(f"no key {key!r} in {self}")
        return int(size)

    async def _size(self, key: str) -> int | None:
        try:
            size: int = await self.store.getsize(key)
        except FileNotFoundError:
            return None
        # Icechunk says 0 of what does not exist.
        return size if size or await self.store.exists(key) else None

    def open_value(self, key: str) -> OpenValue | None:
        """Return a snapshot of a value to read parts from.

        Of a committed snapshot of Icechunk only the parts are read. Elsewhere the value is read
        whole: nothing tells whether it was replaced between two parts.
        """
        if not self._is_committed():
            return super().open_value(key)
        size: int | None = self._run(lambda: self._size(check_key(key)))
        return None if size is None else _CommittedValue(self, key, size)

    def _is_committed(self) -> bool:
        """Return whether values can never change."""
        if not type(self.store).__module__.startswith("icechunk."):
            return False
        return bool(self.store.session.read_only)

    # --- writing ---

    async def _set(self, item: tuple[str, Writable]) -> None:
        from zarr.core.buffer import default_buffer_prototype

        self._check_writable()
        check_key(item[0])
        buffer = default_buffer_prototype().buffer.from_bytes(bytes(item[1]))
        await self.store.set(item[0], buffer)

    def set(self, key: str, value: Writable) -> None:
        """Store a copy of `value` under `key`."""
        self._run(lambda: self._set((key, value)))

    def set_many(self, items: Iterable[tuple[str, Writable]]) -> Generator[Result, None, None]:
        """Store values; yield a `Result` per item as they complete."""
        return self._overlap(self._set, items, _size_of_item, cancel=False)

    def set_if_version(self, key: str, value: Writable, version: str | None) -> bool:
        """Store `value` if the value still has `version` (None: does not exist); say whether.

        Creating is as atomic as in the store of zarr-python, which does not say whether it stored:
        the value is compared afterwards.
        """
        if version is not None:
            return super().set_if_version(key, value, version)
        from zarr.core.buffer import default_buffer_prototype

        self._check_writable()
        if self.exists(key):
            return False
        buffer = default_buffer_prototype().buffer.from_bytes(bytes(value))
        self._run(lambda: self.store.set_if_not_exists(key, buffer))
        return self.get(key) == value

    async def _delete(self, key: str) -> None:
        self._check_writable()
        await self.store.delete(check_key(key))

    def delete(self, key: str) -> None:
        """Remove `key`; nothing happens when it does not exist."""
        self._run(lambda: self._delete(key))

    def delete_many(self, keys: Iterable[str]) -> Generator[Result, None, None]:
        """Remove keys; yield a `Result` per key as they complete."""
        return self._overlap(self._delete, keys, None, cancel=False)

    # --- listing ---

    def _collect(self, listing: Callable[[], AsyncIterator[str]]) -> tuple[str, ...]:
        async def collect() -> tuple[str, ...]:
            return tuple([name async for name in listing()])

        found: tuple[str, ...] = self._run(collect)
        return found

    def list_prefix(self, prefix: str) -> Iterator[str]:
        """Yield every key below the path `prefix`, in no particular order."""
        prefix = check_prefix(prefix)
        start = f"{prefix}/" if prefix else ""
        # for some of zarr-python's stores the prefix is a path, for some it is only a string
        keys = self._collect(lambda: self.store.list_prefix(start))
        return (key for key in keys if key.startswith(start))

    def list_dir(self, prefix: str) -> Iterator[str]:
        """Yield the names directly below `prefix`."""
        prefix = check_prefix(prefix)
        names = self._collect(lambda: self.store.list_dir(prefix))
        return iter(dict.fromkeys(name.strip("/") for name in names if name.strip("/")))

    # --- the store itself ---

    def with_read_only(self, read_only: bool = False) -> Self:
        """Return a store for the same place with another `read_only`."""
        if read_only or not self.store.read_only:
            return type(self)(self.store, read_only=read_only)
        return type(self)(self.store.with_read_only(False))

    def shown(self) -> Any:
        """Return the store of zarr-python."""
        return self.store

    def lock_key(self, key: str) -> Hashable:
        """Return the identity of the place, as far as the store of zarr-python tells it."""
        root = getattr(self.store, "root", None)
        if isinstance(root, os.PathLike):
            return f"{os.path.realpath(root)}/{key}"
        return (type(self.store).__name__, str(self.store), key)

    def __str__(self) -> str:
        return str(self.store)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, FromZarrStore)
            and bool(self.store == other.store)
            and self._read_only == other._read_only
        )

    def __hash__(self) -> int:
        return hash((str(self), self._read_only))


class _CommittedValue(RemoteValue):
    """A value that nobody can change."""

    def __init__(self, store: FromZarrStore, key: str, size: int) -> None:
        super().__init__(repr(key), size, None)
        self._store, self._key = store, key

    def _fetch(self, wanted: RangeByteRequest) -> Value:
        value = self._store.get(self._key, wanted)
        if value is None:
            raise StoreError(f"{self._key!r} of {self._store} is gone")
        return value


def _to_zarr_range(byte_range: ByteRequest | None) -> Any:
    from zarr.abc import store as zarr_store

    match byte_range:
        case None:
            return None
        case RangeByteRequest(start, end):
            return zarr_store.RangeByteRequest(start, end)
        case OffsetByteRequest(offset):
            return zarr_store.OffsetByteRequest(offset)
        case SuffixByteRequest(suffix):
            return zarr_store.SuffixByteRequest(suffix)


def _from_zarr_range(asked: Any) -> ByteRequest | None:
    if asked is None:
        return None
    if hasattr(asked, "suffix"):
        return SuffixByteRequest(asked.suffix)
    if hasattr(asked, "offset"):
        return OffsetByteRequest(asked.offset)
    if hasattr(asked, "start"):
        return RangeByteRequest(asked.start, asked.end)
    raise TypeError(f"Unexpected byte_range, got {asked}.")


def _cut(store: Store, key: str, asked: ByteRequest | None, error: Exception) -> Value | None:
    """Return what there is of a range that ends after the value, which zarr-python allows."""
    if not isinstance(asked, RangeByteRequest | OffsetByteRequest):
        raise error
    size = store.getsize(key)
    end = asked.end if isinstance(asked, RangeByteRequest) else asked[0]
    if end <= size:
        raise error
    return store.get(key, RangeByteRequest(min(asked[0], size), size))


# --- our stores in zarr-python -------------------------------------------------------------------


class AwaitedStore:
    """The methods of `zarr.abc.store.Store` over one of our stores, to be mixed into such a class.

    Calls of slow stores run in threads, so the caller's event loop goes on.
    """

    _core: Store
    """Ours."""
    _check_writable: Callable[[], None]

    def _buffer(self, prototype: Any, value: Value) -> Any:
        return (prototype or self._default_prototype()).buffer.from_bytes(value)

    def _default_prototype(self) -> Any:
        raise NotImplementedError

    async def _call(self, method: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.to_thread(method, *args)

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        return await self._call(self._get_buffer, key, prototype, byte_range)

    def get_sync(self, key: str, *, prototype: Any = None, byte_range: Any = None) -> Any:
        return self._get_buffer(key, prototype, byte_range)

    def _get_buffer(self, key: str, prototype: Any, byte_range: Any) -> Any:
        asked = _from_zarr_range(byte_range)
        try:
            value = self._core.get(key, asked)
        except StoreError as error:
            value = _cut(self._core, key, asked, error)
        return None if value is None else self._buffer(prototype, value)

    async def get_partial_values(self, prototype: Any, key_ranges: Any) -> Any:
        requests = [Request(key, _from_zarr_range(part)) for key, part in key_ranges]

        def get_all() -> Any:
            found: Any = [None] * len(requests)
            with closing(self._core.get_many(requests)) as results:
                for index, whole, error in results:
                    part = requests[index]
                    value = whole if error is None else _cut(self._core, *part, error)
                    found[index] = None if value is None else self._buffer(prototype, value)
            return found

        return await self._call(get_all)

    async def exists(self, key: str) -> bool:
        return bool(await self._call(self._core.exists, key))

    async def getsize(self, key: str) -> int:
        return int(await self._call(self._core.getsize, key))

    async def getsize_prefix(self, prefix: str) -> int:
        return int(await self._call(self._core.getsize_prefix, prefix))

    async def is_empty(self, prefix: str) -> bool:
        return bool(await self._call(self._core.is_empty, prefix))

    async def set(self, key: str, value: Any, byte_range: Any = None) -> None:
        if byte_range is not None:
            raise NotImplementedError("parts of values cannot be stored")
        await self._call(self.set_sync, key, value)

    def set_sync(self, key: str, value: Any) -> None:
        self._check_writable()
        self._core.set(key, value.to_bytes())

    async def set_if_not_exists(self, key: str, value: Any) -> None:
        self._check_writable()
        await self._call(self._core.set_if_not_exists, key, value.to_bytes())

    async def delete(self, key: str) -> None:
        await self._call(self.delete_sync, key)

    def delete_sync(self, key: str) -> None:
        self._check_writable()
        self._core.delete(key)

    async def delete_dir(self, prefix: str) -> None:
        self._check_writable()
        await self._call(self._core.delete_dir, prefix)

    async def clear(self) -> None:
        self._check_writable()
        await self._call(self._core.clear)

    async def list(self) -> AsyncIterator[str]:
        for key in await self._call(lambda: tuple(self._core.list())):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        # here it is only a string
        path = prefix.rpartition("/")[0]
        for key in await self._call(lambda: tuple(self._core.list_prefix(path))):
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        for name in await self._call(lambda: tuple(self._core.list_dir(prefix))):
            yield name

    supports_consolidated_metadata: property = property(
        attrgetter("_core.supports_consolidated_metadata")
    )
    supports_writes: property = property(attrgetter("_core.supports_writes"))
    supports_deletes: property = property(attrgetter("_core.supports_deletes"))
    supports_listing: property = property(attrgetter("_core.supports_listing"))

    def __str__(self) -> str:
        return str(self._core)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AwaitedStore) and self._core == other._core

    def __hash__(self) -> int:
        return hash(self._core)


def ToZarrStore(store: Store) -> Any:  # noqa: N802 - used like a class; the class needs zarr
    """Return an instance of `zarr.abc.store.Store` over one of our stores.

    >>> import zarr as other  # doctest: +SKIP
    >>> other.open(zarr.storage.ToZarrStore(zarr.storage.LocalStore("a.zarr")))  # doctest: +SKIP
    """
    return _zarr_store_class()(store)


@cache
def _zarr_store_class() -> type:
    from zarr.abc.store import Store as ZarrStore
    from zarr.core.buffer import default_buffer_prototype

    class _ToZarrStore(AwaitedStore, ZarrStore):  # type: ignore[misc] # zarr has no types here
        def __init__(self, store: Store) -> None:
            ZarrStore.__init__(self, read_only=store.read_only)
            self._core = store

        store = property(attrgetter("_core"))

        def __reduce__(self) -> tuple[Any, ...]:
            return ToZarrStore, (self._core,)

        def _default_prototype(self) -> Any:
            return default_buffer_prototype()

        def with_read_only(self, read_only: bool = False) -> Any:
            return ToZarrStore(self._core.with_read_only(read_only))

        def __repr__(self) -> str:
            return f"ToZarrStore({self._core!r})"

    return _ToZarrStore
