"""A store that keeps copies of what it has read, up to a number of bytes."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, NamedTuple, Self, TypeVar

from zarr_core.locks import ForkLock
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
    ValueSnapshot,
    Writable,
    check_key,
    check_prefix,
    slice_value,
)
from zarr_core.storage.memory import MemoryStore
from zarr_core.storage.wrappers import WrapperStore

S = TypeVar("S", bound=Store)
R = TypeVar("R")

STRIPES = 256
"""Groups of keys of which one write makes reads under way worthless for the cache."""


HITS_AT_ONCE = 100
"""Copies that `get_many` finds before it looks for answers of the store again."""


class _Entry(NamedTuple):
    size: int
    stored: float


class _Copies:
    """The bookkeeping of a cache: which copies there are, shared by all that use them."""

    def __init__(self) -> None:
        self.entries: OrderedDict[str, _Entry] = OrderedDict()
        self.parts: dict[str, set[str]] = {}  # names of the cached parts of a key
        self.size = self.hits = self.misses = self.evictions = 0
        self.writes = [0] * STRIPES
        self.lock = ForkLock(self._after_fork)

    def _after_fork(self) -> None:
        """Start over: a thread may have left the bookkeeping half done."""
        self.entries.clear()
        self.parts.clear()
        self.size = 0


class CacheStore(WrapperStore[S]):
    """A store that keeps copies of values, and drops the least recently used ones.

    Writes go through to the store at once and never leave an old copy behind, whatever runs
    concurrently through this object. Changes that others make are seen when copies grow too old.

    Parameters
    ----------
    store
        The store that does the work.
    cache_store
        Where copies are; a dictionary by default. What it already has is used when
        there is no age limit, so do not let the store change while the cache lies unused.
    max_size
        Bytes that copies may take; None is unlimited. Larger values are not kept.
    max_age_seconds
        Age from which a copy is not used any more; None (or `"infinity"`) is never.
    cache_set_data
        Keep what is written too, not only what is read.
    whole_values
        Read whole values even when a part is asked for, so that every part of a shard
        comes from the cache afterwards. Otherwise parts that were asked for are kept one by
        one, and `open_value` uses the cache only for values that are in it whole.

    Examples
    --------
    >>> memory = zarr.storage.MemoryStore({"a": b"1"})
    >>> counted = zarr.storage.LoggingStore(memory)
    >>> cached = zarr.storage.CacheStore(counted, max_size=1 << 20)
    >>> cached.get("a"), cached.get("a"), counted.counter["get"]
    (b'1', b'1', 1)
    """

    def __init__(
        self,
        store: S,
        *,
        cache_store: Store | None = None,
        max_size: int | None = 256 << 20,
        max_age_seconds: float | str | None = None,
        cache_set_data: bool = True,
        whole_values: bool = False,
    ) -> None:
        super().__init__(store)
        if max_size is not None and max_size <= 0:
            raise ValueError(f"max_size must be positive or None, not {max_size!r}")
        if isinstance(max_age_seconds, str) and max_age_seconds != "infinity":
            raise ValueError(f"max_age_seconds must be a number or None, not {max_age_seconds!r}")
        self.cache_store: Store = MemoryStore() if cache_store is None else cache_store
        if self.cache_store.read_only:
            raise ValueError(f"{cache_store} is read-only and cannot keep copies")
        self.max_size = max_size
        self.max_age_seconds: float | None = (
            None if isinstance(max_age_seconds, str) else max_age_seconds
        )
        self.cache_set_data = cache_set_data
        self.whole_values = whole_values
        self._begin()

    def _begin(self) -> None:
        self._copies = _Copies()
        if self.max_age_seconds is None:
            self._adopt()

    def _adopt(self) -> None:
        for name in self.cache_store.list():
            self._remember(name, self.cache_store.getsize(name))
        self._shrink()

    def _options(self) -> dict[str, Any]:
        names = ("cache_store", "max_size", "max_age_seconds", "cache_set_data", "whole_values")
        return {name: getattr(self, name) for name in names}

    def __getstate__(self) -> dict[str, Any]:
        options = self._options()
        if isinstance(self.cache_store, MemoryStore):
            options["cache_store"] = None  # copies are not worth their way to another process
        return {"store": self._store, **options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _with_store(self, store: S) -> Self:
        # Not made anew: copies of one place have one bookkeeping, which all writes go through.
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        WrapperStore.__init__(other, store)
        return other

    # --- the bookkeeping; every method is called with the lock held ------------------------------

    def _remember(self, name: str, size: int) -> None:
        old = self._copies.entries.pop(name, None)
        self._copies.size += size - (0 if old is None else old.size)
        self._copies.entries[name] = _Entry(size, time.monotonic())
        self._copies.parts.setdefault(_key_of(name), set()).add(name)

    def _forget(self, name: str) -> None:
        entry = self._copies.entries.pop(name, None)
        if entry is None:
            return
        self._copies.size -= entry.size
        key = _key_of(name)
        self._copies.parts[key].discard(name)
        if not self._copies.parts[key]:
            del self._copies.parts[key]
        self.cache_store.delete(name)

    def _shrink(self) -> None:
        while self.max_size is not None and self._copies.size > self.max_size:
            self._forget(next(iter(self._copies.entries)))
            self._copies.evictions += 1

    def _fresh(self, name: str) -> bool:
        entry = self._copies.entries.get(name)
        if entry is None:
            return False
        if self.max_age_seconds is None:
            return True
        return time.monotonic() - entry.stored <= self.max_age_seconds

    def _invalidate(self, key: str) -> None:
        self._copies.writes[hash(key) % STRIPES] += 1
        for name in tuple(self._copies.parts.get(key, ())):
            self._forget(name)

    # --- the cache as a whole --------------------------------------------------------------------

    def _writes_of(self, key: str) -> int:
        return self._copies.writes[hash(key) % STRIPES]

    def _lookup(self, key: str, byte_range: ByteRequest | None) -> Value | None:
        """Return a copy, of the part or from the whole value; None if there is none."""
        whole = _name(key, None)
        for name in (whole,) if byte_range is None else (whole, _name(key, byte_range)):
            with self._copies.lock:
                if not self._fresh(name):
                    continue
                self._copies.entries.move_to_end(name)
            value = self.cache_store.get(name)
            with self._copies.lock:
                if value is not None:
                    self._copies.hits += 1
                    return slice_value(value, byte_range) if name is whole else value
                self._forget(name)  # somebody else cleared the store of copies
        with self._copies.lock:
            self._copies.misses += 1
        return None

    def _keep(self, key: str, byte_range: ByteRequest | None, value: Writable, seen: int) -> None:
        """Keep a copy, unless the key was written since `seen` was looked up."""
        size = memoryview(value).nbytes
        if self.max_size is not None and size > self.max_size:
            return
        with self._copies.lock:
            if self._writes_of(key) == seen:
                name = _name(key, byte_range)
                self.cache_store.set(name, value)
                self._remember(name, size)
                self._shrink()

    def _load(self, key: str, byte_range: ByteRequest | None) -> Value | None:
        """Read from the store, and keep a copy."""
        seen = self._writes_of(key)
        wanted = None if self.whole_values else byte_range
        value = self._store.get(key, wanted)
        if value is not None:
            self._keep(key, wanted, value, seen)
        return value if wanted is byte_range else slice_value(value, byte_range)

    def _write(self, key: str, write: Callable[[], R], value: Writable | None) -> R:
        """Change a key of the store; `value` is what it then holds, if that is known."""
        check_key(key)
        with self._copies.lock:
            self._invalidate(key)
            seen = self._writes_of(key)
        try:
            result = write()
        except BaseException:
            value = None  # nobody knows which value the store has
            raise
        finally:
            with self._copies.lock:
                alone = self._writes_of(key) == seen
                self._invalidate(key)  # a read that began meanwhile may have seen the old value
                seen = self._writes_of(key)
            if alone and value is not None and self.cache_set_data:
                self._keep(key, None, value, seen)
        return result

    # --- one key ---------------------------------------------------------------------------------

    def get(self, key: str, byte_range: ByteRequest | None = None) -> Value | None:
        """Return the value of `key` (or part of it), from the cache if it is there."""
        value = self._lookup(check_key(key), byte_range)
        return self._load(key, byte_range) if value is None else value

    def exists(self, key: str) -> bool:
        """Return whether `key` has a value."""
        with self._copies.lock:
            if self._fresh(_name(check_key(key), None)):
                return True
        return self._store.exists(key)

    def open_value(self, key: str) -> OpenValue | None:
        """Return a snapshot: of the copy if the whole value is in the cache."""
        value = self.get(key) if self.whole_values else self._lookup(check_key(key), None)
        if value is not None:
            return ValueSnapshot(value)
        return None if self.whole_values else self._store.open_value(key)

    def set(self, key: str, value: Writable) -> None:
        """Store `value` under `key`, and keep a copy."""
        self._write(key, lambda: self._store.set(key, value), value)

    def delete(self, key: str) -> None:
        """Remove `key` from store and cache."""
        self._write(key, lambda: self._store.delete(key), None)

    def set_if_version(self, key: str, value: Writable, version: str | None) -> bool:
        """Store `value` if the store's value still has `version`; say whether."""
        return self._write(key, lambda: self._store.set_if_version(key, value, version), None)

    # --- many keys -------------------------------------------------------------------------------

    def get_many(self, requests: Iterable[Request]) -> Generator[Result, None, None]:
        """Yield a `Result` per request, as they complete; copies are read as they are needed."""
        source = enumerate(requests)
        more = True
        while more:
            hits: deque[tuple[int, Request]] = deque()
            sent: dict[int, tuple[int, Request, int]] = {}  # by position among the misses

            def missing(hits: Any = hits, sent: Any = sent) -> Iterator[Request]:
                nonlocal more
                while len(hits) < HITS_AT_ONCE:
                    index, request = next(source, (0, None))
                    if request is None:
                        more = False
                        return
                    key, byte_range = request
                    if self._has(key, byte_range):
                        hits.append((index, request))
                    else:
                        sent[len(sent)] = index, request, self._writes_of(key)
                        yield Request(key, None if self.whole_values else byte_range)

            with closing(self._store.get_many(missing())) as results:
                for result in results:
                    while hits:
                        yield self._result(*hits.popleft())
                    yield self._received(*sent[result.index], result)
            while hits:
                yield self._result(*hits.popleft())

    def _has(self, key: str, byte_range: ByteRequest | None) -> bool:
        with self._copies.lock:
            if self._fresh(_name(key, None)):
                return True
            if byte_range is not None and self._fresh(_name(key, byte_range)):
                return True
            self._copies.misses += 1
            return False

    def _result(self, index: int, request: Request) -> Result:
        try:
            return Result(index, self.get(*request))
        except Exception as error:  # noqa: BLE001 - reported per item, as the contract says
            return Result(index, None, error)

    def _received(self, index: int, request: Request, seen: int, result: Result) -> Result:
        value = result.value
        if result.error is not None:
            return Result(index, None, result.error)
        try:
            if value is None:
                return Result(index, slice_value(None, request.byte_range))
            if not self.whole_values:
                self._keep(request.key, request.byte_range, value, seen)
                return Result(index, value)
            self._keep(request.key, None, value, seen)
            return Result(index, slice_value(value, request.byte_range))
        except Exception as error:  # noqa: BLE001 - reported per item, as the contract says
            return Result(index, None, error)

    get_versioned = WrapperStore.get_versioned  # a copy may be of an older version
    set_many = Store.set_many
    delete_many = Store.delete_many

    def delete_dir(self, prefix: str) -> None:
        """Remove every key below `prefix` from store and cache."""
        prefix = check_prefix(prefix)
        try:
            self._invalidate_below(prefix)
            self._store.delete_dir(prefix)
        finally:
            self._invalidate_below(prefix)

    def _invalidate_below(self, prefix: str) -> None:
        start = f"{prefix}/" if prefix else ""
        with self._copies.lock:
            self._copies.writes = [writes + 1 for writes in self._copies.writes]
            for key in [key for key in self._copies.parts if key.startswith(start)]:
                self._invalidate(key)

    # --- what the cache says of itself -----------------------------------------------------------

    def cache_info(self) -> dict[str, Any]:
        """Return the settings of the cache, and how full it is.

        >>> zarr.storage.CacheStore(zarr.storage.MemoryStore(), max_size=100).cache_info()["max_size"]
        100
        """
        with self._copies.lock:
            return {
                "cache_store_type": type(self.cache_store).__name__,
                "max_age_seconds": self.max_age_seconds,
                "max_size": self.max_size,
                "current_size": self._copies.size,
                "cache_set_data": self.cache_set_data,
                "whole_values": self.whole_values,
                "cached_keys": len(self._copies.parts),
            }

    def cache_stats(self) -> dict[str, Any]:
        """Return how often the cache was asked, and how often it had the answer.

        >>> cached = zarr.storage.CacheStore(zarr.storage.MemoryStore({"a": b"1"}))
        >>> values = [cached.get("a") for _ in range(3)]
        >>> cached.cache_stats()["hits"], cached.cache_stats()["misses"]
        (2, 1)
        """
        with self._copies.lock:
            total = self._copies.hits + self._copies.misses
            return {
                "hits": self._copies.hits,
                "misses": self._copies.misses,
                "evictions": self._copies.evictions,
                "total_requests": total,
                "hit_rate": self._copies.hits / total if total else 0.0,
            }

    def clear_cache(self) -> None:
        """Drop all copies; the store is not touched.

        >>> cached = zarr.storage.CacheStore(zarr.storage.MemoryStore({"a": b"1"}))
        >>> cached.clear_cache()
        """
        self._invalidate_below("")

    def __repr__(self) -> str:
        return f"CacheStore({str(self)!r}, {self._copies.size} of {self.max_size} bytes)"


def _name(key: str, byte_range: Any) -> str:
    """Return the key of a copy; an `@` of the key is doubled, so that none is taken for another."""
    name = key.replace("@", "@@")
    if byte_range is None:
        return name
    if isinstance(byte_range, RangeByteRequest):
        return f"{name}@range-{byte_range.start}-{byte_range.end}"
    if isinstance(byte_range, OffsetByteRequest):
        return f"{name}@offset-{byte_range.offset}"
    if isinstance(byte_range, SuffixByteRequest):
        return f"{name}@suffix-{byte_range.suffix}"
    return f"{name}@wrong"


def _key_of(name: str) -> str:
    """Return the key that a copy belongs to."""
    return "@".join(part.partition("@")[0] for part in name.split("@@"))
