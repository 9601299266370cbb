"""`ChunkCache`: decoded chunks that are kept, and how they are read.

Kept chunks belong to a stored value, the `_Place` of its key. It is given up when the value changes:
by a write of this process, which takes the lock of the key first, or by others as far as the store can
tell cheaply (`Store.stamp`). A chunk that is decoded meanwhile goes to a place that is given up, where
nobody finds it. Nothing is kept for a key while its lock is held.
"""

from _thread import allocate_lock
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeAlias, final

import numpy as np

from zarr_core.chunks import loop, placing
from zarr_core.chunks.space import ChunkSpace, NDArray
from zarr_core.errors import ValueChangedError, describe
from zarr_core.indexing.plan import Part, Plan, SomeParts
from zarr_core.locks import ForkLock
from zarr_core.metadata.chunk_grids import Coords
from zarr_core.storage.base import OpenValue, ValueSnapshot
from zarr_core.threads import calls, key_locks

ENTRY_BYTES = 300
"""What keeping a chunk costs beside its elements, roughly."""

Evicted: TypeAlias = Callable[[str, NDArray], object]


class CacheStats(NamedTuple):
    """What a `ChunkCache` has done, and what is in it."""

    hits: int
    """Chunks that were found."""
    misses: int
    """Chunks that had to be decoded, or were not stored."""
    waits: int
    """Chunks that another thread was just decoding."""
    evictions: int
    """Chunks that left to make room."""
    chunks: int
    """Chunks in the cache, those that are known not to be stored too."""
    nbytes: int
    """Memory that they take, roughly."""


_NOTHING: Any = object()


@final
class _Place:
    """A stored value of which chunks are kept."""

    __slots__ = ("given_up", "key", "numbers", "pending", "stamp", "store", "version")

    def __init__(self, store: Any, key: str, stamp: Hashable) -> None:
        self.store: Any = store  # as long as it lives, no other one has the identity of its keys
        self.key: str = key
        self.stamp: Hashable = stamp
        self.version: Any = _NOTHING
        self.numbers: set[int] = set()
        self.pending: dict[int, _Decoding] = {}
        self.given_up: bool = False


@final
class _Decoding:
    """A chunk that one thread decodes, and for which others wait."""

    __slots__ = ("chunk", "kept", "lock")

    def __init__(self) -> None:
        self.kept = False
        self.chunk: NDArray | None = None
        self.lock = allocate_lock()
        self.lock.acquire()

    def wait(self) -> bool:
        """Wait for the other thread; return whether there is a chunk now."""
        call = calls.current_call()
        while not self.lock.acquire(timeout=-1 if call is None else calls.POLL_SECONDS):
            assert call is not None
            call.check()
        self.lock.release()
        return self.kept


@final
class _Claim:
    """What the thread has that decodes a chunk. Lost, by Ctrl-C, nobody waits for it any more."""

    __slots__ = ("decoding", "number", "place")

    def __init__(self, place: _Place, number: int) -> None:
        self.place, self.number = place, number
        self.decoding = place.pending[number] = _Decoding()

    def end(self) -> None:
        """Let nobody wait any more."""
        if self.place.pending.get(self.number) is self.decoding:
            del self.place.pending[self.number]
            self.decoding.lock.release()

    __del__ = end


@final
class ChunkCache:
    """Decoded chunks of any number of arrays, up to a number of bytes; least recently used leave first.

    A read never shows less than the last write of this process that had returned. What others change
    is seen at once on local files; elsewhere once it is read again. See the documentation.

    It may be used by any number of threads. A pickled one is empty.

    Parameters
    ----------
    max_bytes
        Memory for chunks; a larger chunk is not kept.
    on_evict
        Called as `on_evict(key, chunk)` with the key of the stored chunk (or shard) and the
        read-only array that has left to make room, by the call that made room, in its end.

    Examples
    --------
    >>> cache = zarr.ChunkCache(256 << 20)
    >>> a = zarr.array(np.arange(6), chunks=2, config={"chunk_cache": cache})
    >>> a[0], a[1]  # the second is decoded already
    (array(0), array(1))
    """

    def __init__(self, max_bytes: int, *, on_evict: Evicted | None = None) -> None:
        if isinstance(max_bytes, bool | float) or max_bytes < 0:
            raise ValueError(f"max_bytes is a number of bytes, not {describe(max_bytes)}")
        self._max_bytes, self._on_evict = max_bytes, on_evict
        self._lock = ForkLock(self._start_over)
        self._hits = self._misses = self._waits = self._evictions = 0
        self._start_over()
        key_locks.watch(self)

    def _start_over(self) -> None:
        self._chunks: OrderedDict[tuple[_Place, int], NDArray | None] = OrderedDict()
        self._places: dict[Hashable, dict[Hashable, _Place]] = {}
        self._nbytes = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle_cache, (self._max_bytes, self._on_evict)

    def __repr__(self) -> str:
        return f"ChunkCache({self._max_bytes})"

    @property
    def max_bytes(self) -> int:
        """Memory for chunks."""
        return self._max_bytes

    @property
    def stats(self) -> CacheStats:
        """What the cache has done, and what is in it."""
        with self._lock:
            counts = self._hits, self._misses, self._waits, self._evictions
            return CacheStats(*counts, len(self._chunks), self._nbytes)

    def clear(self) -> None:
        """Drop all chunks: what others have changed is seen then."""
        with self._lock:
            for lock_key in tuple(self._places):
                self.before_change(lock_key)

    # --- places ------------------------------------------------------------------------------------

    def _place(self, store: Any, key: str, kind: Hashable, stamp: Hashable) -> _Place:
        """Return the place of what is stored under a key, decoded in the way that `kind` names."""
        lock_key = store.lock_key(key)
        with self._lock:
            kinds = self._places.get(lock_key)
            place = None if kinds is None else kinds.get(kind)
            if place is not None:
                if place.stamp == stamp:
                    return place
                self.before_change(lock_key)
            place = _Place(store, key, stamp)
            self._places.setdefault(lock_key, {})[kind] = place
        # After it can be found: whoever takes the lock from now on gives it up.
        if key_locks.is_held(lock_key):
            self.before_change(lock_key)
        return place

    def before_change(self, lock_key: Hashable) -> None:
        """Give up what is kept of a stored value."""
        with self._lock:
            for place in self._places.pop(lock_key, {}).values():
                place.given_up = True
                for number in place.numbers:
                    self._nbytes -= _size_of(self._chunks.pop((place, number), None))
                place.numbers = set()

    def _opened(self, place: _Place, version: str | None) -> None:
        """Give a place up if what is stored has another version than when it was opened before."""
        with self._lock:
            if place.version is not _NOTHING and place.version != version:
                self.before_change(place.store.lock_key(place.key))
            place.version = version

    # --- chunks ------------------------------------------------------------------------------------

    def _take(self, place: _Place, number: int) -> Any:
        """Return a chunk, None if it is not stored; or a `_Decoding` to wait for, or a `_Claim`."""
        with self._lock:
            chunk = self._chunks.get((place, number), _NOTHING)
            if chunk is not _NOTHING:
                self._chunks.move_to_end((place, number))
                self._hits += 1
                return chunk
            decoding = place.pending.get(number)
            if decoding is not None:
                self._waits += 1
                return decoding
            self._misses += 1
            return _Claim(place, number)

    def _keep(self, claim: _Claim, chunk: NDArray | None) -> list[tuple[str, NDArray]]:
        """Keep a decoded chunk; return what left for it, with the keys."""
        place, size = claim.place, _size_of(chunk)
        evicted = []
        claim.decoding.chunk, claim.decoding.kept = chunk, True
        with self._lock:
            if not place.given_up and size <= self._max_bytes:
                self._chunks[place, claim.number] = chunk
                place.numbers.add(claim.number)
                self._nbytes += size
            while self._nbytes > self._max_bytes:
                (old, number), left = self._chunks.popitem(last=False)
                old.numbers.discard(number)
                self._nbytes -= _size_of(left)
                self._evictions += 1
                if left is not None:
                    evicted.append((old.key, left))
                self._forget(old)
            self._end(claim)
        return evicted

    def _end(self, claim: _Claim) -> None:
        with self._lock:
            claim.end()
            self._forget(claim.place)

    def _forget(self, place: _Place) -> None:
        """Forget a place of which nothing is kept."""
        if place.numbers or place.pending or place.given_up:
            return
        place.given_up = True  # who has just found it keeps nothing there
        lock_key = place.store.lock_key(place.key)
        kinds = self._places.get(lock_key, {})
        for kind in [kind for kind, other in kinds.items() if other is place]:
            del kinds[kind]
        if not kinds:
            self._places.pop(lock_key, None)

    def _tell(self, evicted: list[tuple[str, NDArray]]) -> None:
        """Call the hook for what has left."""
        if self._on_evict is not None:
            for key, chunk in evicted:
                self._on_evict(key, chunk)


def _unpickle_cache(max_bytes: int, on_evict: Evicted | None) -> ChunkCache:
    return ChunkCache(max_bytes, on_evict=on_evict)


def _size_of(chunk: NDArray | None) -> int:
    if chunk is None:
        return ENTRY_BYTES
    text = int(np.strings.str_len(chunk).sum()) if chunk.dtype.kind == "T" else 0
    return chunk.nbytes + text + ENTRY_BYTES


def _own(chunk: NDArray) -> NDArray:
    """Return a read-only view of a decoded chunk, of a copy if more memory than it needs hangs on it."""
    memory: Any = chunk
    while isinstance(memory.base, np.ndarray):
        memory = memory.base
    if memory.base is not None:
        memory = memory.base
    size = len(memory) if type(memory) is bytes else getattr(memory, "nbytes", -1)
    alone = isinstance(memory, bytes | np.ndarray) and size == chunk.nbytes
    kept = chunk.view() if alone else chunk.copy()
    kept.flags.writeable = False
    return kept


# --- reading ---------------------------------------------------------------------------------------

_busy: ContextVar[bool] = ContextVar("zarr_core_decoding", default=False)

_Parts: TypeAlias = Callable[[Part], tuple[_Place, int]]
_Load: TypeAlias = Callable[[SomeParts, Callable[[Coords, NDArray | None], None]], object]


@final
class CachedReads:
    """How an array is read through a cache; `kind` names the way in which its chunks are decoded."""

    def __init__(self, cache: ChunkCache, store: Any, kind: Hashable, *, of_shards: bool) -> None:
        self.cache: ChunkCache = cache
        self._store, self._kind = store, kind
        self.of_shards = of_shards

    def stamp(self, key: str) -> Hashable:
        """Return what tells values of a key apart, None if a request would be needed for it."""
        return None if self._store.high_latency else self._store.stamp(key)

    def is_free(self) -> bool:
        """Return False where a chunk is being decoded that may be waited for: in hooks, finalizers."""
        return not _busy.get()

    def place(self, key: str) -> _Place:
        """Return the place of a stored chunk or shard."""
        return self.cache._place(self._store, key, self._kind, self.stamp(key))

    def read(self, space: ChunkSpace, plan: Plan, out: NDArray, fields: Any) -> None:
        """Read the parts of a plan over chunks into `out`, as `loop.read` does."""
        if not self.is_free():
            loop.read(_keeping(space, None), plan, out, fields)
            return
        call = calls.current_call()

        def place_of(part: Part) -> tuple[_Place, int]:
            return self.place(space.key(part.coords)), 0

        def found(part: Part) -> None:
            if call is not None:
                call.check()
                call.expect(1)
                call.note("read", space.key(part.coords), 0)

        def load(rest: SomeParts, keep: Any) -> None:
            loop.read(_keeping(space, keep), rest, out, fields)

        while plan.nparts:
            *_, plan = self.fill(space, plan, out, fields, place_of, load, found)

    def fill(
        self,
        space: ChunkSpace,
        plan: Plan,
        out: NDArray,
        fields: Any,
        place_of: _Parts,
        load: _Load,
        found: Callable[[Part], object] | None = None,
    ) -> tuple[int, int, SomeParts]:
        """Fill `out` with what is kept, with what `load` fetches, and then with what others decoded.

        Returns how many parts were kept, how many came from others, and those that did not.
        """
        cache = self.cache
        space = _keeping(space, None)
        out = placing.flipped(out, plan)
        claims: dict[Coords, _Claim] = {}
        evicted: list[tuple[str, NDArray]] = []
        rest: list[Part] = []
        waits: list[tuple[Part, _Decoding]] = []
        again: list[Part] = []
        hits = 0

        def put(part: Part, chunk: NDArray | None) -> None:
            if found is not None:
                found(part)
            if chunk is None:
                placing.place(space, plan, out, fields, part, None)
            else:
                placing.put_in(plan, out, fields, part, chunk)

        def keep(coords: Coords, chunk: NDArray | None) -> None:
            evicted.extend(cache._keep(claims.pop(coords), None if chunk is None else _own(chunk)))

        token = _busy.set(True)
        try:
            for part in plan.parts():
                chunk = cache._take(*place_of(part))
                if chunk.__class__ is _Claim:
                    claims[part.coords] = chunk
                    rest.append(part)
                elif chunk.__class__ is _Decoding:
                    waits.append((part, chunk))
                else:
                    put(part, chunk)
                    hits += 1
            if rest:
                load(SomeParts(plan, rest), keep)
        finally:
            for claim in claims.values():
                cache._end(claim)
            _busy.reset(token)
        # Only now, when nobody can be waiting for this thread.
        for part, decoding in waits:
            if decoding.wait():
                put(part, decoding.chunk)
            else:
                again.append(part)
        cache._tell(evicted)
        return hits, len(waits) - len(again), SomeParts(plan, again)

    def shard(self, space: ChunkSpace, coords: Coords, *, whole: bool) -> "CachedShard":
        """Return a shard to read parts of, or the `whole` of it."""
        return CachedShard(self, space, coords, whole)


def _keeping(space: ChunkSpace, keep: Any) -> ChunkSpace:
    space = space.over(space.store)
    space.cache, space.keep = None, keep
    return space


@final
class CachedShard:
    """A shard that is opened once something is wanted that is not kept."""

    def __init__(self, reads: CachedReads, space: ChunkSpace, coords: Coords, whole: bool) -> None:
        self._reads, self._space, self._coords = reads, space, coords
        self._key = space.key(coords)
        self._place = reads.place(self._key)
        # Fetched at once, a value has no version.
        self._whole = whole and self._place.stamp is not None
        self._opened: tuple[OpenValue | None] | None = None

    def _open(self) -> OpenValue | None:
        if self._opened is not None:
            return self._opened[0]
        space, key = self._space, self._key
        reader: OpenValue | None
        if self._whole:
            data = space.store.get(key)
            reader = None if data is None else ValueSnapshot(data)
        else:
            reader = space.store.open_value(key)
        self._opened = (reader,)
        if reader is None and not space.read_missing_chunks:
            raise space.missing_error(self._coords)
        if self._place.stamp is None:
            self._reads.cache._opened(self._place, "" if reader is None else reader.version)
        return reader

    def read_through(
        self, shards: Any, inside: tuple[Any, ...], pointwise: bool, out: NDArray
    ) -> None:
        """Read a part of the shard into `out`; raise `ValueChangedError` if it changed meanwhile."""
        reads, key, place = self._reads, self._key, self._place
        inner: ChunkSpace = shards.space
        plan: Plan = shards._plan(inside, pointwise)[0]

        def place_of(part: Part) -> tuple[_Place, int]:
            return place, inner.key(part.coords)

        def load(rest: SomeParts, keep: Any) -> None:
            self._whole = self._whole and rest.nparts == plan.nparts
            chunks = shards.fetch(self._open(), rest, key, self._space.store.high_latency)
            loop.read(_keeping(inner.over(chunks), keep), rest, out)

        hits = waited = 0
        rest = plan
        while rest.nparts:
            found, from_others, rest = reads.fill(inner, rest, out, None, place_of, load)
            hits, waited = hits + found, waited + from_others
        # What was kept, what was fetched and what others have fetched must be of one value.
        mixed = waited or (hits and self._opened is not None)
        if mixed and (place.given_up or reads.stamp(key) != place.stamp):
            raise ValueChangedError(f"{key!r} was replaced while it was read")

    def close(self) -> None:
        """Close what was opened."""
        reader = None if self._opened is None else self._opened[0]
        if reader is not None:
            reader.close()
        call = calls.current_call()
        if self._opened is None and call is not None:
            call.note("read", self._key, 0)
