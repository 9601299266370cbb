"""Stores around a store: under a prefix, logged, or made slow."""

import functools
import logging
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Generic, Self, TypeAlias, TypeVar, cast

from zarr_core.errors import describe
from zarr_core.locks import ForkLock
from zarr_core.storage.base import (
    TAIL_BYTES,
    ByteRequest,
    OffsetByteRequest,
    OpenValue,
    RangeByteRequest,
    Request,
    Store,
    SuffixByteRequest,
    Value,
    check_key,
    check_prefix,
)

S = TypeVar("S", bound=Store)
F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")


def _passed_on(method: F) -> F:
    """Return a method of the contract that hands its call to `WrapperStore._do`."""
    name = method.__name__
    parameters = method.__code__.co_varnames[1:2]  # a key, a path or an iterable, if there is any

    @functools.wraps(method)
    def pass_on(self: "WrapperStore[Any]", *args: Any, **kwargs: Any) -> Any:
        if not args:
            args = tuple(kwargs.pop(parameter) for parameter in parameters if parameter in kwargs)
        return self._do(name, *args, **kwargs)

    pass_on.__dict__.pop("__isabstractmethod__", None)
    return cast("F", pass_on)


class WrapperStore(Store, Generic[S]):
    """A store that passes everything on to another; the base of stores that change a little.

    Every call goes through `_do`. A subclass overrides that, or single methods (see `Store`).

    Parameters
    ----------
    store
        The store that does the work. It says whether it is read-only.

    Examples
    --------
    >>> class Shouting(zarr.storage.WrapperStore):
    ...     def get(self, key, byte_range=None):
    ...         print(key)
    ...         return super().get(key, byte_range)
    >>> Shouting(zarr.storage.MemoryStore({"a": b"1"})).get("a")
    a
    b'1'
    """

    def __init__(self, store: S) -> None:
        if not isinstance(store, Store):
            raise TypeError(f"expected a store to be wrapped, found {describe(store)}")
        super().__init__(read_only=store.read_only)
        self._store = store
        self.high_latency: bool = store.high_latency
        self.get_cost: float = store.get_cost
        self.set_cost: float = store.set_cost
        self.set_threads: int = store.set_threads
        own_way = type(self).open_writer is Store.open_writer
        self.writes_pieces: bool = store.writes_pieces and not own_way
        self.supports_consolidated_metadata: bool = store.supports_consolidated_metadata
        self.supports_writes: bool = store.supports_writes
        self.supports_deletes: bool = store.supports_deletes
        self.supports_listing: bool = store.supports_listing

    def _with_store(self, store: S) -> Self:
        """Return a store like this one around `store`; for subclasses with more arguments."""
        return type(self)(store)

    @property
    def store(self) -> S:
        """The store that does the work."""
        return self._store

    def _do(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the store that does the work."""
        return getattr(self._store, method)(*args, **kwargs)

    get = _passed_on(Store.get)
    set = _passed_on(Store.set)
    delete = _passed_on(Store.delete)
    open_value = _passed_on(Store.open_value)
    open_writer = _passed_on(Store.open_writer)
    exists = _passed_on(Store.exists)
    getsize = _passed_on(Store.getsize)
    stamp = _passed_on(Store.stamp)
    get_versioned = _passed_on(Store.get_versioned)
    set_if_version = _passed_on(Store.set_if_version)
    get_many = _passed_on(Store.get_many)
    set_many = _passed_on(Store.set_many)
    delete_many = _passed_on(Store.delete_many)
    list_prefix = _passed_on(Store.list_prefix)
    list_dir = _passed_on(Store.list_dir)
    getsize_prefix = _passed_on(Store.getsize_prefix)
    is_empty = _passed_on(Store.is_empty)
    delete_dir = _passed_on(Store.delete_dir)
    prune = _passed_on(Store.prune)
    links = _passed_on(Store.links)
    unfinished = _passed_on(Store.unfinished)

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


_OF_MANY = frozenset({"get_many", "set_many", "delete_many"})
_OF_PATHS = frozenset(
    {
        "list_prefix",
        "list_dir",
        "getsize_prefix",
        "is_empty",
        "delete_dir",
        "prune",
        "links",
        "unfinished",
    }
)


class PrefixStore(WrapperStore[S]):
    """The part of a store below a prefix, as a store of its own.

    Parameters
    ----------
    store
        The whole store.
    prefix
        A path in it; keys of this store are meant below it.

    Examples
    --------
    >>> whole = zarr.storage.MemoryStore({"a/b": b"1"})
    >>> zarr.storage.PrefixStore(whole, "a").get("b")
    b'1'
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

    def _do(self, method: str, *args: Any, **kwargs: Any) -> Any:
        first, *rest = args or ("",)
        if method in _OF_PATHS:
            first = self._below(first)
        elif method not in _OF_MANY:
            first = self._full(first)
        elif method == "delete_many":
            first = map(self._item, first)
        else:
            kind = Request._make if method == "get_many" else tuple
            first = (kind((self._item(key), *what)) for key, *what in first)
        result = super()._do(method, first, *rest, **kwargs)
        if method in ("list_prefix", "links"):
            return (key.removeprefix(self._start) for key in result)
        if method == "unfinished":
            return ((key.removeprefix(self._start), age) for key, age in result)
        return result

    def _item(self, key: str) -> str:
        # An invalid key must be the error of its own item: the store that does the work checks it.
        return self._start + key if key else "/"

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


class LoggingStore(WrapperStore[S]):
    """A store that logs and counts the calls it passes on.

    `counter` has the number of calls by method; `items` the number of keys by `*_many` method, as
    far as the store that does the work has asked for them.

    Parameters
    ----------
    store
        The store that does the work.
    log_level
        Name or number of the level of the records.
    log_handler
        Where records go; by default to the logger `zarr_core.storage`.

    Examples
    --------
    >>> store = zarr.storage.LoggingStore(zarr.storage.MemoryStore())
    >>> store.set("a", b"1")
    >>> store.counter["set"]
    1
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
        self.log_level: int = levels[log_level.upper()] if isinstance(log_level, str) else log_level
        self.log_handler = log_handler
        self._prepare()

    def _prepare(self) -> None:
        self._lock = ForkLock()
        self.logger: logging.Logger = logging.getLogger("zarr_core.storage")
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

    def _do(self, method: str, *args: Any, **kwargs: Any) -> Any:
        hint = args[0] if args and isinstance(args[0], str) else ""
        with self._lock:
            self.counter[method] += 1
        if method in _OF_MANY:
            args = (self._counted(method, args[0]),)
        start = time.perf_counter()
        try:
            return super()._do(method, *args, **kwargs)
        finally:
            taken = time.perf_counter() - start
            self.logger.log(self.log_level, "%s.%s(%s) %.6f s", self._store, method, hint, taken)

    def _counted(self, method: str, items: Iterable[R]) -> Iterator[R]:
        for item in items:
            with self._lock:
                self.items[method] += 1
            yield item


# --- latency -------------------------------------------------------------------------------------

Seconds: TypeAlias = float | Callable[[], float]
"""A time in seconds, or what is called to get one each time."""


_WRITING = frozenset({"set", "delete", "set_if_version"})


class OneByOneStore(WrapperStore[S]):
    """A wrapper in which batched calls are the contract's own: overlapped calls of single keys."""

    get_many = Store.get_many
    set_many = Store.set_many
    delete_many = Store.delete_many
    open_writer = Store.open_writer  # one `set` in the end, which is tried again and takes its time
    getsize_prefix = Store.getsize_prefix
    delete_dir = Store.delete_dir


class LatencyStore(OneByOneStore[S]):
    """A store that takes its time, as one on the other side of a network does; for tests.

    Parameters
    ----------
    store
        The store that does the work.
    get_latency
        Seconds, or a callable that returns seconds, before every read.
    set_latency
        The same before every write.

    Examples
    --------
    >>> slow = zarr.storage.LatencyStore(zarr.storage.MemoryStore({"a": b"1"}), get_latency=0.001)
    >>> slow.get("a")
    b'1'
    """

    def __init__(self, store: S, *, get_latency: Seconds = 0.0, set_latency: Seconds = 0.0) -> None:
        super().__init__(store)
        self.get_latency = get_latency
        self.set_latency = set_latency
        self.high_latency = True

    def _with_store(self, store: S) -> Self:
        return type(self)(store, get_latency=self.get_latency, set_latency=self.set_latency)

    def _do(self, method: str, *args: Any, **kwargs: Any) -> Any:
        if method not in ("prune", "links", "unfinished"):
            seconds = self.set_latency if method in _WRITING else self.get_latency
            time.sleep(seconds() if callable(seconds) else seconds)
        result = super()._do(method, *args, **kwargs)
        return _SlowValue(result, self) if method == "open_value" and result else result


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
            case RangeByteRequest(int(start), _) | OffsetByteRequest(int(start)):
                return start >= self.size - TAIL_BYTES
            case SuffixByteRequest(int(suffix)):
                return suffix <= TAIL_BYTES
        return self.size <= TAIL_BYTES

    def close(self) -> None:
        """Close the snapshot of the store that does the work."""
        self._opened.close()
