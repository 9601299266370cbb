"""Stores around a store: under a prefix, logged, or made slow."""

import functools
import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from typing import Any, Generic, Self, TypeAlias, TypeVar, cast

from zarr_core.storage.base import (
    ByteRequest,
    OffsetByteRequest,
    OpenValue,
    RangeByteRequest,
    Request,
    Result,
    Store,
    SuffixByteRequest,
    Value,
    Writable,
    check_key,
    check_prefix,
)
from zarr_core.storage.locks import ForkLock

S = TypeVar("S", bound=Store)
F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")


_BUILT_ON = {
    "get": ("get_many", "open_value", "get_versioned"),
    "set": ("set_many", "set_if_not_exists", "set_if_version"),
    "delete": ("delete_many", "delete_dir"),
}
"""What the contract builds on a method, where nothing does it better."""


class WrapperStore(Store, Generic[S]):
    """A store that passes everything on to another; the base of stores that change a little.

    A subclass that overrides `get`, `set` or `delete` need not override what else reads, stores or
    deletes values: that is made from these methods then, instead of passed on.

    Args:
        store: The store that does the work. It says whether it is read-only.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Passed on, a batched call would go around what the subclass does (decrypt, say).
        for method, others in _BUILT_ON.items():
            if method in vars(cls):
                for name in others:
                    if name not in vars(cls):
                        setattr(cls, name, getattr(Store, name))

    def __init__(self, store: S) -> None:
        super().__init__(read_only=store.read_only)
        self._store = store
        self.high_latency = store.high_latency
        self.get_cost, self.set_cost = store.get_cost, store.set_cost
        self.set_threads = store.set_threads
        self.supports_consolidated_metadata = store.supports_consolidated_metadata
        self.supports_writes = store.supports_writes
        self.supports_deletes = store.supports_deletes
        self.supports_listing = store.supports_listing

    def _with_store(self, store: S) -> Self:
        """Return a store like this one around `store`; for subclasses with more arguments."""
        return type(self)(store)

    @property
    def store(self) -> S:
        """The store that does the work."""
        return self._store

    def get(self, key: str, byte_range: ByteRequest | None = None) -> Value | None:
        """Return the value of `key` (or part of it), or None when there is no such key."""
        return self._store.get(key, byte_range)

    def set(self, key: str, value: Writable) -> None:
        """Store a copy of `value` under `key`."""
        self._store.set(key, value)

    def delete(self, key: str) -> None:
        """Remove `key`; nothing happens when it does not exist."""
        self._store.delete(key)

    def set_if_not_exists(self, key: str, value: Writable) -> bool:
        """Store `value` unless `key` exists; return whether it was stored."""
        return self._store.set_if_not_exists(key, value)

    def open_value(self, key: str) -> OpenValue | None:
        """Return a snapshot of a value to read parts from, or None when there is no such key."""
        return self._store.open_value(key)

    def exists(self, key: str) -> bool:
        """Return whether `key` has a value."""
        return self._store.exists(key)

    def getsize(self, key: str) -> int:
        """Return the size of a value in bytes; raise `FileNotFoundError` when there is none."""
        return self._store.getsize(key)

    def get_versioned(self, key: str) -> tuple[Value | None, str | None]:
        """Return a value and a token that changes whenever the value does."""
        return self._store.get_versioned(key)

    def set_if_version(self, key: str, value: Writable, version: str | None) -> bool:
        """Store `value` if the value still has `version`; say whether."""
        return self._store.set_if_version(key, value, version)

    def get_many(self, requests: Iterable[Request]) -> Generator[Result, None, None]:
        """Yield a `Result` per request, as they complete."""
        return self._store.get_many(requests)

    def set_many(self, items: Iterable[tuple[str, Writable]]) -> Generator[Result, None, None]:
        """Store values; yield a `Result` per item as they complete."""
        return self._store.set_many(items)

    def delete_many(self, keys: Iterable[str]) -> Generator[Result, None, None]:
        """Remove keys; yield a `Result` per key as they complete."""
        return self._store.delete_many(keys)

    def list_prefix(self, prefix: str) -> Iterator[str]:
        """Yield every key below the path `prefix`, in no particular order."""
        return self._store.list_prefix(prefix)

    def list_dir(self, prefix: str) -> Iterator[str]:
        """Yield the names directly below `prefix`."""
        return self._store.list_dir(prefix)

    def getsize_prefix(self, prefix: str) -> int:
        """Return the total size in bytes of the values below `prefix`."""
        return self._store.getsize_prefix(prefix)

    def is_empty(self, prefix: str = "") -> bool:
        """Return whether there is no key below `prefix`."""
        return self._store.is_empty(prefix)

    def delete_dir(self, prefix: str) -> None:
        """Remove every key below `prefix`."""
        self._store.delete_dir(prefix)

    def prune(self, prefix: str) -> None:
        """Remove what deleted keys have left below `prefix`."""
        self._store.prune(prefix)

    def clear(self) -> None:
        """Remove every key of the store."""
        self._store.clear()

    @property
    def read_only(self) -> bool:
        """Whether the store that does the work is read-only."""
        return self._store.read_only

    @property
    def supports_conditional_writes(self) -> bool:  # type: ignore[override]
        """Whether `set_if_version` is atomic; an object store may have to be asked."""
        # The contract's own way compares and sets in two steps.
        atomic = type(self).set_if_version is not Store.set_if_version
        return atomic and self._store.supports_conditional_writes

    def with_read_only(self, read_only: bool = False) -> Self:
        """Return a store like this one around the same place with another `read_only`."""
        return self._with_store(self._store.with_read_only(read_only))

    def lock_key(self, key: str) -> Hashable:
        """Return the identity of the key in the store that does the work."""
        return self._store.lock_key(key)

    def close(self) -> None:
        """Close the store that does the work."""
        self._store.close()

    def __str__(self) -> str:
        return str(self._store)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._store == other._store

    def __hash__(self) -> int:
        return hash((type(self), self._store))


class PrefixStore(WrapperStore[S]):
    """The part of a store below a prefix, as a store of its own.

    Args:
        store: The whole store.
        prefix: A path in it; keys of this store are meant below it.
    """

    def __init__(self, store: S, prefix: str) -> None:
        super().__init__(store)
        self._prefix = check_prefix(prefix)
        self._start = f"{self._prefix}/" if self._prefix else ""

    def _with_store(self, store: S) -> Self:
        return type(self)(store, self._prefix)

    @property
    def prefix(self) -> str:
        """The path in the whole store."""
        return self._prefix

    def _full(self, key: str) -> str:
        return self._start + check_key(key)

    def _below(self, prefix: str) -> str:
        prefix = check_prefix(prefix)
        return self._start + prefix if prefix else self._prefix

    def get(self, key: str, byte_range: ByteRequest | None = None) -> Value | None:
        """Return the value of `key` (or part of it), or None when there is no such key."""
        return self._store.get(self._full(key), byte_range)

    def set(self, key: str, value: Writable) -> None:
        """Store a copy of `value` under `key`."""
        self._store.set(self._full(key), value)

    def delete(self, key: str) -> None:
        """Remove `key`; nothing happens when it does not exist."""
        self._store.delete(self._full(key))

    def set_if_not_exists(self, key: str, value: Writable) -> bool:
        """Store `value` unless `key` exists; return whether it was stored."""
        return self._store.set_if_not_exists(self._full(key), value)

    def open_value(self, key: str) -> OpenValue | None:
        """Return a snapshot of a value to read parts from, or None when there is no such key."""
        return self._store.open_value(self._full(key))

    def exists(self, key: str) -> bool:
        """Return whether `key` has a value."""
        return self._store.exists(self._full(key))

    def getsize(self, key: str) -> int:
        """Return the size of a value in bytes; raise `FileNotFoundError` when there is none."""
        return self._store.getsize(self._full(key))

    def get_versioned(self, key: str) -> tuple[Value | None, str | None]:
        """Return a value and a token that changes whenever the value does."""
        return self._store.get_versioned(self._full(key))

    def set_if_version(self, key: str, value: Writable, version: str | None) -> bool:
        """Store `value` if the value still has `version`; say whether."""
        return self._store.set_if_version(self._full(key), value, version)

    # An invalid key must be the error of its own item, so the store that does the work checks it.

    def get_many(self, requests: Iterable[Request]) -> Generator[Result, None, None]:
        """Yield a `Result` per request, as they complete."""
        return self._store.get_many(Request(self._item(key), part) for key, part in requests)

    def set_many(self, items: Iterable[tuple[str, Writable]]) -> Generator[Result, None, None]:
        """Store values; yield a `Result` per item as they complete."""
        return self._store.set_many((self._item(key), value) for key, value in items)

    def delete_many(self, keys: Iterable[str]) -> Generator[Result, None, None]:
        """Remove keys; yield a `Result` per key as they complete."""
        return self._store.delete_many(self._item(key) for key in keys)

    def _item(self, key: str) -> str:
        return self._start + key if key else "/"

    def list_prefix(self, prefix: str) -> Iterator[str]:
        """Yield every key below the path `prefix`, in no particular order."""
        cut = len(self._start)
        return (key[cut:] for key in self._store.list_prefix(self._below(prefix)))

    def list_dir(self, prefix: str) -> Iterator[str]:
        """Yield the names directly below `prefix`."""
        return self._store.list_dir(self._below(prefix))

    def getsize_prefix(self, prefix: str) -> int:
        """Return the total size in bytes of the values below `prefix`."""
        return self._store.getsize_prefix(self._below(prefix))

    def is_empty(self, prefix: str = "") -> bool:
        """Return whether there is no key below `prefix`."""
        return self._store.is_empty(self._below(prefix))

    def delete_dir(self, prefix: str) -> None:
        """Remove every key below `prefix`."""
        self._store.delete_dir(self._below(prefix))

    def prune(self, prefix: str) -> None:
        """Remove what deleted keys have left below `prefix`."""
        self._store.prune(self._below(prefix))

    def clear(self) -> None:
        """Remove every key below the prefix of this store."""
        self._store.delete_dir(self._prefix)

    def lock_key(self, key: str) -> Hashable:
        """Return the identity of the key in the whole store."""
        return self._store.lock_key(self._start + key)

    def __str__(self) -> str:
        store = str(self._store)
        return f"{store}{'' if store.endswith('/') else '/'}{self._prefix}"

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and self._prefix == getattr(other, "_prefix", None)

    def __hash__(self) -> int:
        return hash((super().__hash__(), self._prefix))


# --- logging -------------------------------------------------------------------------------------


def _logged(method: F) -> F:
    """Return `method`, counted and logged."""
    name = method.__name__.lstrip("_")

    @functools.wraps(method)
    def logged(self: "LoggingStore[Any]", *args: Any, **kwargs: Any) -> Any:
        hint = args[0] if args and isinstance(args[0], str) else ""
        with self._lock:
            self.counter[name] += 1
        start = time.perf_counter()
        try:
            return method(self, *args, **kwargs)
        finally:
            taken = time.perf_counter() - start
            self.logger.log(self.log_level, "%s.%s(%s) %.6f s", self._store, name, hint, taken)

    return cast("F", logged)


class LoggingStore(WrapperStore[S]):
    """A store that logs and counts the calls it passes on.

    Args:
        store: The store that does the work.
        log_level: Name or number of the level of the records.
        log_handler: Where records go; by default to the logger `zarr_core.storage`.

    `counter` has the number of calls by method; `items` the number of keys by `*_many` method, as
    far as the store that does the work has asked for them.
    """

    def __init__(
        self,
        store: S,
        log_level: str | int = "DEBUG",
        log_handler: logging.Handler | None = None,
    ) -> None:
        super().__init__(store)
        self.counter: Counter[str] = Counter()
        self.items: Counter[str] = Counter()
        levels = logging.getLevelNamesMapping()
        self.log_level = levels[log_level.upper()] if isinstance(log_level, str) else log_level
        self.log_handler = log_handler
        self._prepare()

    def _prepare(self) -> None:
        self._lock = ForkLock()
        self.logger = logging.getLogger("zarr_core.storage")
        if self.log_handler is not None:
            # its own, since one that others find would collect the handlers of all stores
            self.logger = logging.Logger("zarr_core.storage", self.log_level)  # noqa: LOG001
            self.logger.addHandler(self.log_handler)

    def __getstate__(self) -> dict[str, Any]:
        left_out = {"_lock", "logger", "log_handler"}  # none of which can be pickled
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.log_handler = None
        self._prepare()

    def _with_store(self, store: S) -> Self:
        other = type(self)(store, self.log_level, self.log_handler)
        other.counter, other.items, other._lock = self.counter, self.items, self._lock
        return other

    def _counted(self, name: str, items: Iterable[R]) -> Iterator[R]:
        for item in items:
            with self._lock:
                self.items[name] += 1
            yield item

    def _get_many(self, requests: Iterable[Request]) -> Generator[Result, None, None]:
        return self._store.get_many(self._counted("get_many", requests))

    def _set_many(self, items: Iterable[tuple[str, Writable]]) -> Generator[Result, None, None]:
        return self._store.set_many(self._counted("set_many", items))

    def _delete_many(self, keys: Iterable[str]) -> Generator[Result, None, None]:
        return self._store.delete_many(self._counted("delete_many", keys))

    get = _logged(WrapperStore.get)
    set = _logged(WrapperStore.set)
    delete = _logged(WrapperStore.delete)
    set_if_not_exists = _logged(WrapperStore.set_if_not_exists)
    open_value = _logged(WrapperStore.open_value)
    exists = _logged(WrapperStore.exists)
    getsize = _logged(WrapperStore.getsize)
    get_versioned = _logged(WrapperStore.get_versioned)
    set_if_version = _logged(WrapperStore.set_if_version)
    get_many = _logged(_get_many)
    set_many = _logged(_set_many)
    delete_many = _logged(_delete_many)
    list_prefix = _logged(WrapperStore.list_prefix)
    list_dir = _logged(WrapperStore.list_dir)
    getsize_prefix = _logged(WrapperStore.getsize_prefix)
    is_empty = _logged(WrapperStore.is_empty)
    delete_dir = _logged(WrapperStore.delete_dir)
    clear = _logged(WrapperStore.clear)


# --- latency -------------------------------------------------------------------------------------

TAIL_BYTES = 64 << 10
"""What comes with a value that is opened: in `ObjectStore` too."""

Seconds: TypeAlias = float | Callable[[], float]
"""A time in seconds, or what is called to get one each time."""


def _delayed(method: F, attribute: str) -> F:
    """Return `method`, called after the time that `attribute` of the store says."""

    @functools.wraps(method)
    def delayed(self: "LatencyStore[Any]", *args: Any, **kwargs: Any) -> Any:
        seconds: Seconds = getattr(self, attribute)
        time.sleep(seconds() if callable(seconds) else seconds)
        return method(self, *args, **kwargs)

    return cast("F", delayed)


class LatencyStore(WrapperStore[S]):
    """A store that takes its time, as one on the other side of a network does; for tests.

    Args:
        store: The store that does the work.
        get_latency: Seconds, or a callable that returns seconds, before every read.
        set_latency: The same before every write.
    """

    def __init__(self, store: S, *, get_latency: Seconds = 0.0, set_latency: Seconds = 0.0) -> None:
        super().__init__(store)
        self.get_latency = get_latency
        self.set_latency = set_latency
        self.high_latency = True

    def _with_store(self, store: S) -> Self:
        return type(self)(store, get_latency=self.get_latency, set_latency=self.set_latency)

    def _open_value(self, key: str) -> OpenValue | None:
        opened = self._store.open_value(key)
        return None if opened is None else _SlowValue(opened, self)

    get = _delayed(WrapperStore.get, "get_latency")
    exists = _delayed(WrapperStore.exists, "get_latency")
    getsize = _delayed(WrapperStore.getsize, "get_latency")
    open_value = _delayed(_open_value, "get_latency")
    get_versioned = _delayed(WrapperStore.get_versioned, "get_latency")
    list_prefix = _delayed(WrapperStore.list_prefix, "get_latency")
    list_dir = _delayed(WrapperStore.list_dir, "get_latency")
    is_empty = _delayed(WrapperStore.is_empty, "get_latency")
    set = _delayed(WrapperStore.set, "set_latency")
    delete = _delayed(WrapperStore.delete, "set_latency")
    set_if_not_exists = _delayed(WrapperStore.set_if_not_exists, "set_latency")
    set_if_version = _delayed(WrapperStore.set_if_version, "set_latency")

    # the contract's own ways, which overlap calls of the slow methods above
    get_many = Store.get_many
    set_many = Store.set_many
    delete_many = Store.delete_many
    getsize_prefix = Store.getsize_prefix
    delete_dir = Store.delete_dir
    clear = Store.clear


class _SlowValue:
    """A snapshot that came with the end of its value, as from an object store.

    Every other read takes the time of a request.
    """

    def __init__(self, opened: OpenValue, owner: LatencyStore[Any]) -> None:
        self._opened, self._owner = opened, owner
        self.size, self.version = opened.size, opened.version

    def read(self, byte_range: ByteRequest | None = None) -> Value:
        """Return part of the value."""
        if not self._is_here(byte_range):
            seconds = self._owner.get_latency
            time.sleep(seconds() if callable(seconds) else seconds)
        return self._opened.read(byte_range)

    def _is_here(self, byte_range: ByteRequest | None) -> bool:
        if self.size is None:
            return False
        match byte_range:
            case RangeByteRequest(start, _) | OffsetByteRequest(start):
                return start >= self.size - TAIL_BYTES
            case SuffixByteRequest(suffix):
                return suffix <= TAIL_BYTES
        return self.size <= TAIL_BYTES

    def close(self) -> None:
        """Close the snapshot of the store that does the work."""
        self._opened.close()
