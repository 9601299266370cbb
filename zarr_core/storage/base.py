"""The `Store` contract: synchronous, honest about latency, batched.

A store maps keys to bytes. Only "no such key" is `None`; every other failure is an error, because
a chunk that cannot be read must never look like fill values. `set` replaces a value atomically.
The `*_many` calls are what makes a synchronous library right for slow stores: they overlap
requests, yield results as they complete and never start work after they were closed.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/core/v3.0.html#abstract-store-interface
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from contextlib import closing
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self, TypeAlias, final, overload

from zarr_core.config import config
from zarr_core.errors import InvalidKeyError, MetadataValidationError, ReadOnlyError, StoreError
from zarr_core.metadata.documents import DOCUMENTS
from zarr_core.threads import trace
from zarr_core.threads.requests import each, finish, overlap

Value: TypeAlias = bytes | memoryview
"""What a store returns: bytes, or a flat read-only view of bytes that nobody will change."""

Writable: TypeAlias = bytes | bytearray | memoryview
"""What a store accepts; it takes a copy (or writes it out) before `set` returns."""


class RangeByteRequest(NamedTuple):
    """Bytes `start` to `end`, `end` not included.

    >>> store = zarr.storage.MemoryStore({"a": b"012345"})
    >>> bytes(store.get("a", zarr.storage.RangeByteRequest(1, 3)))
    b'12'
    """

    start: int
    end: int


class OffsetByteRequest(NamedTuple):
    """All bytes from `offset` on.

    >>> store = zarr.storage.MemoryStore({"a": b"012345"})
    >>> bytes(store.get("a", zarr.storage.OffsetByteRequest(4)))
    b'45'
    """

    offset: int


class SuffixByteRequest(NamedTuple):
    """The last `suffix` bytes; the whole value when it is shorter.

    >>> store = zarr.storage.MemoryStore({"a": b"012345"})
    >>> bytes(store.get("a", zarr.storage.SuffixByteRequest(2)))
    b'45'
    """

    suffix: int


ByteRequest: TypeAlias = RangeByteRequest | OffsetByteRequest | SuffixByteRequest


class Request(NamedTuple):
    """One item of `Store.get_many`."""

    key: str
    byte_range: ByteRequest | None = None


class Result(NamedTuple):
    """One answer of a `*_many` call: the position of its request, and a value or an error."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    value: Value | None
    error: Exception | None = None


class OpenValue(Protocol):
    """A snapshot of one stored value, from which parts can be read consistently."""

    size: int | None
    version: str | None

    def read(self, byte_range: ByteRequest | None = None) -> Value:
        """Return part of the value as it was when it was opened, or raise."""
        ...

    def close(self) -> None:
        """Give up what the snapshot holds (an open file)."""
        ...


PART_BYTES = 8 << 20
"""Of a value that is written as a multipart upload."""


class ValueWriter(Protocol):
    """A value on its way into a store, piece by piece: nobody sees it before it is complete."""

    def write(self, data: Writable) -> None:
        """Add bytes; they may be changed afterwards."""
        ...

    def complete(self, start: bytes = b"") -> None:
        """Store the value, as `set` does; `start` are the bytes that it was to begin with."""
        ...

    def abort(self) -> None:
        """Give up, if the value is not complete: what is stored stays as it is."""
        ...


class CollectedValue:
    """A `ValueWriter` that keeps all pieces, and stores them with one `set`."""

    def __init__(self, store: "Store", key: str) -> None:
        self._store, self._key = store, key
        self._pieces: list[bytes] = []

    def write(self, data: Writable) -> None:
        """Keep a copy of bytes."""
        self._pieces.append(bytes(data))

    def complete(self, start: bytes = b"") -> None:
        """Store the value."""
        pieces, self._pieces = self._pieces, []
        self._store.set(self._key, b"".join((start, *pieces)))

    def abort(self) -> None:
        """Drop the pieces."""
        self._pieces = []


def values_of(store: "Store", keys: Iterable[str]) -> dict[str, Value]:
    """Return the values of those keys that exist: one batch. Raises the first error."""
    keys, found = [*keys], {}

    def take(number: int, value: Value | None) -> None:
        if value is not None:
            found[keys[number]] = value

    seen = trace.seen(store)
    finish(seen.get_many(map(Request, keys)), take)
    return found


TAIL_BYTES = 64 << 10
"""Read when a value of a slow store is opened: an index of a shard is usually there."""


class RemoteValue:
    """An `OpenValue` of which the end may be here already, and every other part is a request."""

    def __init__(
        self, name: str, size: int, version: str | None, tail: bytes | memoryview = b""
    ) -> None:
        self._name, self._tail = name, memoryview(tail)
        self.size: int | None = size
        self.version = version

    def read(self, byte_range: ByteRequest | None = None) -> Value:
        """Return part of the value as it was when it was opened, or raise `ValueChangedError`."""
        check_range(byte_range)
        size = self.size or 0
        start, end = bounds_of(byte_range, size, self._name)
        first = size - len(self._tail)
        if start >= first or start == end:
            return self._tail[max(0, start - first) : max(0, end - first)]
        return self._fetch(RangeByteRequest(start, end))

    def _fetch(self, wanted: RangeByteRequest) -> Value:
        raise NotImplementedError

    def close(self) -> None:
        """Do nothing: every read is a request of its own."""


def check_key(key: str) -> str:
    """Return `key`, or raise `InvalidKeyError` when it could leave the store's root.

    >>> zarr.storage.check_key("a/b")
    'a/b'
    >>> zarr.storage.check_key("../b")
    Traceback (most recent call last):
    zarr_core.errors.InvalidKeyError: ...
    """
    if (
        not key
        or key[0] == "/"
        or key[-1] == "/"
        or "\0" in key
        or "\\" in key
        or "//" in key
        # every dangerous segment contains "./" or ends in "."
        or (("./" in key or key[-1] == ".") and not {".", ".."}.isdisjoint(key.split("/")))
    ):
        raise InvalidKeyError(
            f"invalid key {key!r}: a key is relative, with non-empty segments that are not '.' or "
            "'..', without NUL and backslash"
        )
    return key


def check_prefix(prefix: str) -> str:
    """Return `prefix` without a trailing slash; `""` is the root.

    >>> zarr.storage.check_prefix("a/b/")
    'a/b'
    """
    prefix = prefix.removesuffix("/")
    return check_key(prefix) if prefix else ""


def check_range(byte_range: Any) -> None:
    """Raise what is wrong with a byte range: `TypeError` for its kind, `ValueError` for its numbers.

    Fast stores call this (through `bounds_of` or `slice_value`) for what they cannot read only.
    """
    if byte_range is None:
        return
    known = isinstance(byte_range, RangeByteRequest | OffsetByteRequest | SuffixByteRequest)
    if not known or not all(hasattr(number, "__index__") for number in byte_range):
        raise TypeError(
            "a byte range is None, or a RangeByteRequest, OffsetByteRequest or SuffixByteRequest "
            f"of integers, not {byte_range!r}"
        )
    if min(byte_range) < 0 or byte_range[-1] < byte_range[0]:
        raise ValueError(
            f"a byte range counts from 0, and its end is not before its start: {byte_range}"
        )


def bounds_of(byte_range: Any, size: int, name: str) -> tuple[int, int]:
    """Return where a range of a value of `size` bytes begins and ends; raise if it is too short."""
    match byte_range:
        case None:
            return 0, size
        case RangeByteRequest(start, end):
            pass
        case OffsetByteRequest(offset):
            start, end = offset, size
        case SuffixByteRequest(suffix):
            start, end = max(0, size - suffix), size
        case _:
            start, end = -1, -1
    if not 0 <= start <= end <= size:
        check_range(byte_range)
        raise StoreError(f"{name} has {size} bytes, too few for {byte_range}")
    return start, end


LARGE = 1 << 20
"""Values of fewer bytes are read without another look at what they are."""


def check_document(key: str, size: int, store: object) -> None:
    """Raise `MetadataValidationError` for a document that is larger than the setting allows.

    Stores that know the size call it before they read a value of `LARGE` bytes and more.
    """
    limit = config.get("metadata.max_bytes")
    if size > limit and key.rpartition("/")[2] in DOCUMENTS:
        raise MetadataValidationError(
            f"{key!r} in {store}: {size} bytes are more than the setting metadata.max_bytes "
            f"({limit})"
        )


@overload
def slice_value(value: None, byte_range: Any) -> None: ...
@overload
def slice_value(value: Value, byte_range: Any) -> Value: ...
def slice_value(value: Value | None, byte_range: Any) -> Value | None:
    """Return the part of a whole value that `byte_range` asks for; raise if it is too short.

    >>> bytes(zarr.storage.slice_value(b"012345", zarr.storage.RangeByteRequest(1, 3)))
    b'12'

    Of None, a value that does not exist, the part is None; what is no range raises there, too.
    """
    if value is None:
        check_range(byte_range)
        return None
    match byte_range:
        case None:
            return value
        case RangeByteRequest(start, end):
            if not 0 <= start <= end <= len(value):
                check_range(byte_range)
                raise StoreError(
                    f"bytes {start} to {end} were asked for, the value has {len(value)}"
                )
            return memoryview(value)[start:end].toreadonly()
        case OffsetByteRequest(offset):
            if not 0 <= offset <= len(value):
                check_range(byte_range)
                raise StoreError(f"bytes from {offset} were asked for, the value has {len(value)}")
            return memoryview(value)[offset:].toreadonly()
        case SuffixByteRequest(suffix) if suffix >= 0:
            return memoryview(value)[max(0, len(value) - suffix) :].toreadonly()
        case _:
            check_range(byte_range)
            raise AssertionError(byte_range)


class ValueSnapshot:
    """An `OpenValue` over a value that is in memory already.

    >>> bytes(zarr.storage.ValueSnapshot(b"012").read(zarr.storage.OffsetByteRequest(1)))
    b'12'
    """

    __slots__ = ("_value", "size", "version")

    def __init__(self, value: Value, version: str | None = None) -> None:
        self._value = value
        self.size: int | None = len(value)
        self.version: str | None = version

    def read(self, byte_range: ByteRequest | None = None) -> Value:
        """Return part of the value."""
        return slice_value(self._value, byte_range)

    def close(self) -> None:
        """Do nothing: there is nothing to give up."""


_MADE_OF = {
    "get": ("get_each", "get_many", "get_versioned", "open_value", "stamp"),
    "set": ("open_writer", "set_each", "set_if_version", "set_many"),
    "delete": ("delete_dir", "delete_many"),
}
"""What the contract makes of a method, where nothing does it better."""


class Store(ABC):
    """A mapping from keys to bytes.

    To write a store, implement `get`, `set`, `delete`, `list_prefix`, `list_dir` and, when two
    objects can mean the same place, `lock_key` and `__eq__`; override the rest where the backend
    does better. Stores hold no event loop, pickle as location plus options, and are safe to use
    from many threads. A subclass that overrides `get`, `set` or `delete`, itself or with a mixin,
    means everything that reads, stores or deletes: what it inherits for that, and does not
    override, is made from its method then.

    >>> store = zarr.storage.MemoryStore()
    >>> store.set("a/b", b"value")
    >>> store.get("a/b"), list(store.list())
    (b'value', ['a/b'])
    """

    high_latency: bool = False
    """Is a request slow enough (about 1 ms or more) to be worth overlapping with others?"""

    get_cost: float = 0.0
    set_cost: float = 0.0
    """Roughly, the microseconds that a `get` or `set` leaves to other threads (it waits, or works
    without the GIL); below 0 where taking turns costs more than that. From about 5 on, with
    decoding or encoding, chunks are read or written on several threads."""

    set_threads: int = 0
    """On how many threads `set` is worth calling although there are fewer cores: it waits."""

    writes_pieces: bool = False
    """Does a value that is written piece by piece (`open_writer`) need little memory?"""

    supports_consolidated_metadata: bool = True
    supports_writes: bool = True
    supports_deletes: bool = True
    supports_listing: bool = True
    supports_conditional_writes: bool = False
    """Is `set_if_version` atomic, whoever else writes to the same place with it?"""

    get_each: Any = None
    """`get_each(keys)` returns what `get` does for valid keys, where even a call each is too much."""
    set_each: Any = None
    """`set_each(keys, values)` stores immutable values under valid keys, all or none."""

    def __init__(self, *, read_only: bool = False) -> None:
        self._read_only = read_only

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for method, others in _MADE_OF.items():
            above = cls.__mro__.index(_definer(cls, method))
            for name in others:
                if cls.__mro__.index(_definer(cls, name)) > above:
                    setattr(cls, name, vars(Store)[name])

    # --- one key ---------------------------------------------------------------------------------

    @abstractmethod
    def get(self, key: str, byte_range: ByteRequest | None = None) -> Value | None:
        """Return the value of `key` (or part of it), or None when there is no such key.

        Raises `InvalidKeyError` for keys outside the store, `TypeError` or `ValueError` for what is
        no byte range of any value, and `OSError` when the value exists but cannot be read or is
        shorter than asked for (a long suffix gives the whole value).

        >>> zarr.storage.MemoryStore({"a": b"1"}).get("b") is None
        True
        """

    @abstractmethod
    def set(self, key: str, value: Writable) -> None:
        """Store a copy of `value` under `key`; readers see the old value or the new one.

        >>> store = zarr.storage.MemoryStore()
        >>> store.set("a", b"1")
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove `key`; nothing happens when it does not exist.

        >>> store = zarr.storage.MemoryStore({"a": b"1"})
        >>> store.delete("a")
        """

    @final
    def set_if_not_exists(self, key: str, value: Writable) -> bool:
        """Store `value` unless `key` exists; return whether it was stored.

        >>> zarr.storage.MemoryStore({"a": b"1"}).set_if_not_exists("a", b"2")
        False
        """
        return self.set_if_version(key, value, None)

    def open_value(self, key: str) -> OpenValue | None:
        """Return a snapshot of a value to read parts from, or None when there is no such key.

        >>> value = zarr.storage.MemoryStore({"a": b"012"}).open_value("a")
        >>> value.size, bytes(value.read(zarr.storage.RangeByteRequest(0, 2)))
        (3, b'01')
        """
        value = self.get(key)
        return None if value is None else ValueSnapshot(value)

    def open_writer(self, key: str, reserved: int = 0) -> ValueWriter:
        """Return what writes a value piece by piece, in little memory if `writes_pieces`.

        The first `reserved` bytes of the value are given in the end. Only one thread at a time may
        use it, and whoever opens it completes or aborts it.
        """
        self._check_writable()
        return CollectedValue(self, check_key(key))

    def exists(self, key: str) -> bool:
        """Return whether `key` has a value; a directory is not a value.

        >>> zarr.storage.MemoryStore({"a": b"1"}).exists("b")
        False
        """
        try:
            self.getsize(key)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def getsize(self, key: str) -> int:
        """Return the size of a value in bytes; raise `FileNotFoundError` when there is none.

        >>> zarr.storage.MemoryStore({"a": b"012"}).getsize("a")
        3
        """
        value = self.get(key)
        if value is None:
            raise FileNotFoundError(f"no key {key!r} in {self}")
        return len(value)

    def stamp(self, key: str) -> Hashable:
        """Return what differs for two values of a key, in a few microseconds; None if it cannot."""
        return None

    def get_versioned(self, key: str) -> tuple[Value | None, str | None]:
        """Return a value and a token that changes whenever the value does (None: no such key).

        >>> value, version = zarr.storage.MemoryStore({"a": b"1"}).get_versioned("a")
        """
        value = self.get(key)
        return value, None if value is None else content_version(value)

    def set_if_version(self, key: str, value: Writable, version: str | None) -> bool:
        """Store `value` if the value still has `version` (None: does not exist); say whether.

        >>> store = zarr.storage.MemoryStore({"a": b"1"})
        >>> _, version = store.get_versioned("a")
        >>> store.set_if_version("a", b"2", version), store.set_if_version("a", b"3", version)
        (True, False)
        """
        self._check_writable()
        if not self._has_version(key, version):
            return False
        self.set(key, value)
        return True

    def _has_version(self, key: str, version: str | None) -> bool:
        return not self.exists(key) if version is None else self.get_versioned(key)[1] == version

    # --- many keys -------------------------------------------------------------------------------

    def get_many(self, requests: Iterable[Request]) -> Generator[Result, None, None]:
        """Yield a `Result` per request, as they complete, lazily and with bounded overlap.

        Like those of the other `*_many` methods, the iterator must be advanced by one thread, and
        closed (exhausting it does) before the call that uses it returns: `contextlib.closing`.

        >>> store = zarr.storage.MemoryStore({"a": b"1", "b": b"2"})
        >>> wanted = [zarr.storage.Request("a"), zarr.storage.Request("c")]
        >>> [(result.index, result.value) for result in store.get_many(wanted)]
        [(0, b'1'), (1, None)]
        """
        return self._each(lambda request: self.get(*request), requests, _size_of_range)

    def set_many(self, items: Iterable[tuple[str, Writable]]) -> Generator[Result, None, None]:
        """Store values; yield a `Result` per item as they complete.

        >>> store = zarr.storage.MemoryStore()
        >>> [result.error for result in store.set_many([("a", b"1"), ("b", b"2")])]
        [None, None]
        """
        return self._each(lambda item: self.set(*item), items, _size_of_item)

    def delete_many(self, keys: Iterable[str]) -> Generator[Result, None, None]:
        """Remove keys; yield a `Result` per key as they complete.

        >>> [r.error for r in zarr.storage.MemoryStore({"a": b"1"}).delete_many(["a", "b"])]
        [None, None]
        """
        return self._each(self.delete, keys)

    def _each(
        self,
        call: Callable[[Any], Any],
        items: Iterable[Any],
        size_of: Callable[[Any], int | None] | None = None,
    ) -> Generator[Result, None, None]:
        """Call something with every item: one after the other, or overlapped on threads."""
        if not self.high_latency:
            return _one_by_one(call, items)
        return as_results(overlap(call, items, size_of=size_of))

    # --- listing ---------------------------------------------------------------------------------

    @abstractmethod
    def list_prefix(self, prefix: str) -> Iterator[str]:
        """Yield every key below `prefix` (a path; `""` is the root), in no particular order.

        `prefix` is a path, not a string prefix: `list_prefix("foo")` does not yield `"foobar/a"`.
        The listing is of a snapshot: keys may be deleted while it is read.

        >>> sorted(zarr.storage.MemoryStore({"a/b": b"", "a/c/d": b"", "e": b""}).list_prefix("a"))
        ['a/b', 'a/c/d']
        """

    @abstractmethod
    def list_dir(self, prefix: str) -> Iterator[str]:
        """Yield the names directly below `prefix`: last segments of keys, and first segments below.

        >>> sorted(zarr.storage.MemoryStore({"a/b": b"", "a/c/d": b"", "e": b""}).list_dir("a"))
        ['b', 'c']
        """

    @final
    def list(self) -> Iterator[str]:
        """Yield every key.

        >>> sorted(zarr.storage.MemoryStore({"a/b": b"", "e": b""}).list())
        ['a/b', 'e']
        """
        return self.list_prefix("")

    def getsize_prefix(self, prefix: str) -> int:
        """Return the total size in bytes of the values below `prefix`.

        >>> zarr.storage.MemoryStore({"a/b": b"01", "a/c": b"2"}).getsize_prefix("a")
        3
        """
        return sum(each(self._size_or_zero, self.list_prefix(prefix), slow=self.high_latency))

    def _size_or_zero(self, key: str) -> int:
        try:
            return self.getsize(key)
        except FileNotFoundError:  # deleted since it was listed
            return 0

    def is_empty(self, prefix: str = "") -> bool:
        """Return whether there is no key below `prefix`.

        >>> zarr.storage.MemoryStore({"a/b": b""}).is_empty("c")
        True
        """
        return next(iter(self.list_prefix(prefix)), None) is None

    def delete_dir(self, prefix: str) -> None:
        """Remove every key below `prefix`.

        >>> store = zarr.storage.MemoryStore({"a/b": b"", "e": b""})
        >>> store.delete_dir("a")
        >>> list(store.list())
        ['e']
        """
        self._check_writable()
        finish(self.delete_many(list(self.list_prefix(prefix))))

    def prune(self, prefix: str) -> None:
        """Remove what deleted keys have left below `prefix`: directories that are empty now."""

    def links(self, prefix: str) -> Iterator[str]:
        """Yield the paths of links to directories, `prefix` or below it: `delete` removes them."""
        return iter(())

    def unfinished(self, prefix: str) -> Iterator[tuple[str, float]]:
        """Yield name and age in seconds of values below `prefix` that a writer has not finished."""
        return iter(())

    @final
    def clear(self) -> None:
        """Remove every key of the store.

        >>> store = zarr.storage.MemoryStore({"a/b": b"", "e": b""})
        >>> store.clear()
        >>> store.is_empty()
        True
        """
        self.delete_dir("")

    # --- the store itself ------------------------------------------------------------------------

    @property
    def read_only(self) -> bool:
        """Whether writing through this object raises `ReadOnlyError`."""
        return self._read_only

    def _check_writable(self) -> None:
        if self._read_only:
            raise ReadOnlyError(
                f"{self} is read-only: it was opened in a mode that does not support writing"
            )

    @abstractmethod
    def with_read_only(self, read_only: bool = False) -> Self:
        """Return a store for the same place with another `read_only`.

        >>> zarr.storage.MemoryStore().with_read_only(True).read_only
        True
        """

    def lock_key(self, key: str) -> Hashable:
        """Return the absolute identity of a stored key, the same through every handle.

        >>> values = {}
        >>> one, other = zarr.storage.MemoryStore(values), zarr.storage.MemoryStore(values)
        >>> one.lock_key("a") == other.lock_key("a")
        True
        """
        return (id(self), key)

    def shown(self) -> Any:
        """Return what `node.store` gives: this store, or that of another library which it asks."""
        return self

    def close(self) -> None:
        """Release what this object itself opened.

        >>> with zarr.storage.ZipStore("closed.zip", mode="w") as store:  # closes it at the end
        ...     store.set("a", b"1")
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __str__(self) -> str:
        return f"<{type(self).__name__} at {id(self):#x}>"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


def _definer(cls: type[Store], name: str) -> type:
    return next(kind for kind in cls.__mro__ if name in vars(kind))


def _one_by_one(call: Callable[[Any], Any], items: Iterable[Any]) -> Generator[Result, None, None]:
    for index, item in enumerate(items):
        try:
            value = call(item)
        except Exception as error:  # noqa: BLE001 - reported per item, as the contract says
            yield Result(index, None, error)
        else:
            yield Result(index, value)


def as_results(
    outcomes: Generator[tuple[int, Any, Exception | None], None, None],
) -> Generator[Result, None, None]:
    """Yield the outcomes of requests in flight as the contract says."""
    with closing(outcomes):
        for index, value, error in outcomes:
            yield Result(index, value, error)


def _size_of_range(request: Request) -> int | None:
    """Return how many bytes a request asks for, where that is known beforehand."""
    match request[1]:
        case RangeByteRequest(int(start), int(end)):
            return max(0, end - start)
        case SuffixByteRequest(int(suffix)):
            return max(0, suffix)
    return None


def _size_of_item(item: tuple[str, Writable]) -> int:
    return memoryview(item[1]).nbytes


def content_version(value: Any) -> str:
    """Return a version token computed from the bytes of a value.

    >>> zarr.storage.content_version(b"1") == zarr.storage.content_version(b"1")
    True
    """
    import hashlib

    return hashlib.blake2b(value, digest_size=16).hexdigest()
