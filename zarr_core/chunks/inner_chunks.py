"""The inner chunks of a shard in the place of a store, and the bytes of it that are fetched.

`sharding` decides which inner chunks these are.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias, final

import numpy as np
import numpy.typing as npt

from zarr_core.codecs.base import NDArray
from zarr_core.errors import CodecError
from zarr_core.locks import ForkLock
from zarr_core.storage.base import (
    OpenValue,
    RangeByteRequest,
    Request,
    Result,
    SuffixByteRequest,
    Value,
    ValueSnapshot,
)
from zarr_core.storage.ranges import Range, Run
from zarr_core.threads.requests import overlap

MISSING = 2**64 - 1
"""Offset and size in the index of an inner chunk that is not stored."""

Index: TypeAlias = npt.NDArray[np.uint64]
"""Offset and size per inner chunk, shape (chunks, 2)."""
Numbers: TypeAlias = npt.NDArray[np.intp]
"""Inner chunks, numbered in C order."""


# --- ranges ------------------------------------------------------------------------------------------


def read_runs(
    reader: OpenValue, runs: list[Run], high_latency: bool, limit: int | None = None
) -> Iterator[tuple[Run, memoryview]]:
    """Yield the bytes of runs; the requests, up to a limit, overlap on slow stores."""

    def fetch(run: Run) -> Value:
        return reader.read(RangeByteRequest(run.start, run.end))

    if not high_latency or len(runs) < 2:
        for run in runs:
            yield run, memoryview(fetch(run))
        return
    for number, data, error in overlap(fetch, runs, limit=limit):
        if error is not None:
            raise error
        assert data is not None
        yield runs[number], memoryview(data)


# --- the inside of a shard, in the place of a store ----------------------------------------------------


class Inside:
    """What `loop` needs of a store, for the inside of a shard."""

    high_latency = False

    def get(self, key: int) -> Value | None:
        """Return an inner chunk as it is stored, or None."""
        raise NotImplementedError

    def set(self, key: int, value: Any) -> None:
        """Store an inner chunk."""
        raise TypeError("the inside of this shard is only read")

    def delete(self, key: int) -> None:
        """Remove an inner chunk."""
        raise TypeError("the inside of this shard is only read")

    def open_value(self, key: int) -> OpenValue | None:
        """Return an inner chunk to read parts of."""
        value = self.get(key)
        return None if value is None else ValueSnapshot(value)

    def get_many(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Not needed: no shard is slow inside."""
        raise NotImplementedError

    def __str__(self) -> str:
        return "the shard"


@final
class Fetched(Inside):
    """Inner chunks that were fetched."""

    def __init__(self, chunks: Mapping[int, Value]) -> None:
        self.get = chunks.get  # type: ignore[method-assign,assignment]


@final
class Found:
    """Where some inner chunks of a shard are.

    Shards that are full of chunks of one size have the same index, so this is made once for them.
    """

    __slots__ = ("_places", "entries", "index", "numbers", "requests", "total")

    def __init__(self, index: Index, numbers: Numbers, entries: Index, total: int | None) -> None:
        self.index: Index = index
        self.numbers: Numbers = numbers
        self.entries: Index = entries
        """What stands in the index of these numbers; it is checked."""
        self.total: int | None = total
        """Size of the shard in bytes."""
        self.requests: tuple[list[Run], list[Range]] | None = None
        """What is read for them, and what of it each is: once it is known."""
        self._places: tuple[int, Numbers] | None = None

    def places(self, numbers: Numbers | None, nbytes: int) -> tuple[int, Numbers]:
        """Return a byte, and how many times `nbytes` behind it inner chunks (None: all) start.

        The numbers are empty if not all are stored, have this size and lie like that.
        """
        if numbers is None and self._places is not None:
            return self._places
        entries = self.entries if numbers is None else self.index[numbers]
        offsets = entries[..., 0].astype(np.int64)
        base = int(offsets.flat[0]) % nbytes
        places, rest = np.divmod(offsets - base, nbytes)
        places = places.astype(np.intp, copy=False)  # 32 bits in WebAssembly
        if rest.any() or (entries[..., 1] != nbytes).any():
            places = places[:0]
        if numbers is None:
            self._places = base, places
        return base, places


@final
class InMemory(Inside):
    """A shard in memory."""

    def __init__(self, data: Value, found: Found) -> None:
        # Without a GIL, threads must not make views of one memoryview at the same time.
        self._data: Any = data if isinstance(data, bytes) else np.frombuffer(data, np.uint8)
        self._found = found
        self._entries: dict[int, list[int]] | None = None

    def get(self, key: int) -> Value | None:
        """Return an inner chunk as it is stored, or None."""
        return self.get_each((key,))[0]

    def get_each(self, keys: Iterable[int]) -> list[Value | None]:
        """Return inner chunks as they are stored."""
        if self._entries is None:
            found = self._found
            pairs = zip(found.numbers.tolist(), found.entries.tolist(), strict=True)
            self._entries = dict(pairs)
        data = memoryview(self._data)
        return [
            None if offset == MISSING else data[offset : offset + size]
            for offset, size in map(self._entries.__getitem__, keys)
        ]

    def gather(self, numbers: Numbers | None, nbytes: int) -> tuple[NDArray, Numbers] | None:
        """Return the data as rows of `nbytes`, and in which of them inner chunks (None: all) are.

        None if not all are stored, have this size and are multiples of it away from each other.
        """
        base, places = self._found.places(numbers, nbytes)
        if not places.size:
            return None
        count = (len(self._data) - base) // nbytes
        return np.ndarray((count, nbytes), np.uint8, self._data, base), places


@final
class _Window:
    """An open value that is part of another one."""

    def __init__(self, reader: OpenValue, offset: int, size: int) -> None:
        self._reader = reader
        self._offset = offset
        self.size: int | None = size
        self.version: str | None = None

    def read(self, byte_range: Any = None) -> Value:
        size = self.size or 0
        match byte_range:
            case RangeByteRequest(start, end):
                pass
            case SuffixByteRequest(suffix):
                start, end = max(0, size - suffix), size
            case _:
                start, end = (0 if byte_range is None else byte_range.offset), size
        if not 0 <= start <= end <= size:
            raise CodecError(f"bytes {start} to {end} of an inner chunk of {size} bytes")
        return self._reader.read(RangeByteRequest(self._offset + start, self._offset + end))

    def close(self) -> None:
        """Do nothing: the outer value is closed by who opened it."""


@final
class Windows(Inside):
    """Inner chunks that are shards themselves: parts of them are read through the outer value."""

    def __init__(
        self,
        is_stored: Callable[[int, int, int, int | None], bool],
        reader: OpenValue,
        index: Index,
    ) -> None:
        self._is_stored, self._reader, self._index = is_stored, reader, index

    def open_value(self, key: int) -> OpenValue | None:
        """Return an inner chunk to read parts of."""
        offset, size = self._index[key].tolist()
        if not self._is_stored(key, offset, size, self._reader.size):
            return None
        return _Window(self._reader, offset, size)

    def get(self, key: int) -> Value | None:
        """Return an inner chunk as it is stored, or None."""
        window = self.open_value(key)
        return None if window is None else window.read()


class Layout(NamedTuple):
    """How the inner chunks of a shard lie."""

    entries: Index  # the index
    total: int  # size of the shard in bytes
    order: Numbers  # the inner chunks as they are to be stored
    rank: Numbers  # the place of each in this order
    spans: tuple[NDArray, NDArray] | None  # where they begin and end, if they lie in this order


@final
class Changes(Inside):
    """The inside of a shard that is being changed: `data` and its index, None if there is none."""

    def __init__(self, data: memoryview | None, index: Index | None) -> None:
        self.changed: dict[int, Any] = {}
        self._data, self._index = data, index
        self._entries: list[list[int]] | None = None
        self._asked = 0

    def get(self, key: int) -> Value | None:
        """Return an inner chunk as it is stored, or None."""
        if key in self.changed:
            return self.changed[key]  # type: ignore[no-any-return]
        if self._data is None or self._index is None:
            return None
        if self._entries is None:
            # Turning the index into a list costs as much as looking at a few of its entries.
            self._asked += 1
            if self._asked > 8:
                self._entries = self._index.tolist()
            offset, size = self._index[key].tolist()
        else:
            offset, size = self._entries[key]
        return None if offset == MISSING else self._data[offset : offset + size]

    def set(self, key: int, value: Any) -> None:
        """Store an inner chunk."""
        self.changed[key] = value

    def delete(self, key: int) -> None:
        """Remove an inner chunk."""
        self.changed[key] = None


@final
class IndexCache:
    """Indexes of shards by key, up to a number of bytes; used only for the version it was read at."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._items: OrderedDict[Hashable, tuple[Any, Index]] = OrderedDict()
        self._lock = ForkLock()

    def get(self, key: Hashable, reader: OpenValue) -> Index | None:
        """Return the index of a shard if it has not changed since it was read."""
        if not self._max_bytes or key is None or reader.version is None:
            return None
        with self._lock:
            item = self._items.get(key)
            if item is None or item[0] != (reader.version, reader.size):
                return None
            self._items.move_to_end(key)
            return item[1]

    def put(self, key: Hashable, reader: OpenValue, index: Index) -> None:
        """Keep the index of a shard."""
        if not self._max_bytes or key is None or reader.version is None:
            return
        with self._lock:
            old = self._items.pop(key, None)
            self._bytes += index.nbytes - (0 if old is None else old[1].nbytes)
            self._items[key] = ((reader.version, reader.size), index)
            while self._bytes > self._max_bytes and self._items:
                _, (_, dropped) = self._items.popitem(last=False)
                self._bytes -= dropped.nbytes
