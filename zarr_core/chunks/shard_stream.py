"""A shard that is written piece by piece, in the memory of a few inner chunks.

Inner chunks go to the store as they are encoded, those of the old shard that nobody changed behind
them, and the index last (or first: its size is known, and its place is kept). Nobody sees any of it
before the value is complete.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import numpy as np

from zarr_core.chunks.inner_chunks import (
    MISSING,
    Index,
    Inside,
    Numbers,
    read_runs,
)
from zarr_core.chunks.space import ChunkSpace
from zarr_core.errors import StoreError
from zarr_core.storage.base import OpenValue, RangeByteRequest, Value, ValueWriter
from zarr_core.storage.ranges import merge_ranges
from zarr_core.threads.calls import current_call

WRITE_BYTES = 1 << 20
"""Small inner chunks are joined to about this size before they are written."""
COPY_BYTES = 8 << 20
"""So much of an old shard is copied at once."""
COPIES_AT_ONCE = 4
"""So many copies are on their way from a slow store."""


def pieces(
    inside: tuple[slice, ...], sizes: Sequence[int], most: int
) -> Iterator[tuple[slice, ...]]:
    """Yield pieces of a selection of slices, of at most about `most` elements.

    They are cut between inner chunks, which have these sizes, along as few dimensions as possible.
    """
    excess = math.prod(s.stop - s.start for s in inside) / max(1, most)
    for dim, (part, size) in enumerate(zip(inside, sizes, strict=True)):
        first, last = part.start // size, (part.stop - 1) // size
        if excess > 1 and last > first:
            step = max(1, int((last - first + 1) / excess))
            for k in range(first, last + 1, step):
                cut = slice(max(part.start, k * size), min(part.stop, (k + step) * size))
                yield from pieces((*inside[:dim], cut, *inside[dim + 1 :]), sizes, most)
            return
    yield inside


def relative(piece: tuple[slice, ...], whole: tuple[slice, ...]) -> tuple[Any, ...]:
    """Return an index of a view: of a piece of a selection of slices in what was selected."""
    starts = zip(piece, whole, strict=True)
    return (*[slice(p.start - s.start, p.stop - s.start) for p, s in starts], ...)


@final
class ShardStream(Inside):
    """The inside of a shard on its way into a store; `start` is where its inner chunks begin."""

    def __init__(self, writer: ValueWriter, key: str, start: int, rank: Numbers) -> None:
        self.entries: Index = np.full((len(rank), 2), np.uint64(MISSING))
        self._writer, self._key = writer, key
        self._start = self._at = start
        self._rank = rank
        self._sent = np.zeros(len(rank), np.bool_)  # or removed
        self._changed: dict[int, Any] = {}
        self._old: tuple[OpenValue, Index] | None = None
        self._error: BaseException | None = None

    def onto(self, reader: OpenValue, index: Index) -> None:
        """Begin with an old shard, whose index was checked: it has what is not changed."""
        self._old = reader, index

    # --- as the inside of a shard ------------------------------------------------------------------

    def get(self, key: int) -> Value | None:
        """Return an inner chunk of the old shard that is to be changed."""
        if self._old is None:
            return None
        reader, index = self._old
        offset, size = index[key].tolist()
        return None if offset == MISSING else reader.read(RangeByteRequest(offset, offset + size))

    def set(self, key: int, value: Any) -> None:
        """Keep an inner chunk until it is sent."""
        self._changed[key] = value

    def delete(self, key: int) -> None:
        """Leave an inner chunk out."""
        self._changed[key] = None

    # --- writing -----------------------------------------------------------------------------------

    def send(self) -> None:
        """Write the inner chunks that were set since the last time, in the order of shards."""
        numbers = np.fromiter(self._changed, np.intp, len(self._changed))
        numbers = numbers[self._rank.take(numbers).argsort()]
        pieces: list[Any] = []
        size = 0
        for number in numbers.tolist():
            chunk = self._changed.pop(number)
            if chunk is None:
                continue
            data = memoryview(chunk).cast("B")
            self.entries[number] = self._at + size, len(data)
            pieces.append(data)
            size += len(data)
            if size >= WRITE_BYTES:
                self._write(pieces, size)
                pieces, size = [], 0
        self._write(pieces, size)
        self._sent[numbers] = True

    def _write(self, pieces: list[Any], size: int) -> None:
        if self._error is not None:
            raise StoreError(
                f"part of {self._key!r} was lost when it could not be written"
            ) from self._error
        if not pieces:
            return
        try:
            call = current_call()
            if call is not None:
                call.enter()
            self._writer.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        except BaseException as error:
            self._error = error
            self.abort()
            raise
        self._at += size

    def _copy_rest(self, high_latency: bool) -> None:
        """Copy what the old shard has and nobody has changed."""
        if self._old is None:
            return
        reader, index = self._old
        rest = np.flatnonzero(~self._sent & (index[:, 0] != MISSING))
        rest = rest[index[rest, 0].argsort(kind="stable")]
        entries = zip(rest.tolist(), index[rest].tolist(), strict=True)
        ranges = [(start, start + size, number) for number, (start, size) in entries]
        runs = merge_ranges(ranges, 0, COPY_BYTES)
        for run, data in read_runs(reader, runs, high_latency, COPIES_AT_ONCE):
            numbers = rest[run.first : run.last]
            offsets, sizes = index[numbers].T
            self.entries[numbers] = np.stack((offsets - run.start + self._at, sizes), 1)
            self._write([data], len(data))

    def finish(self, encode_index: Any, *, at_end: bool, even_empty: bool, slow: bool) -> bool:
        """Store the shard; return False, and store nothing, if there is no inner chunk in it."""
        self.send()
        self._copy_rest(slow)
        if self._at == self._start and not even_empty:
            self.abort()
            return False
        index = bytes(encode_index(self.entries))
        if at_end:
            self._write([index], len(index))
        try:
            call = current_call()
            if call is not None:
                call.enter()
            self._writer.complete(b"" if at_end else index)
        except BaseException as error:
            self._error = error
            self.abort()
            raise
        if call is not None:
            call.note("write", self._key, self._at)
        return True

    def abort(self) -> None:
        """Give up: the old shard stays."""
        self._changed.clear()
        self._writer.abort()


def can_stream(space: ChunkSpace, whole: bool) -> bool:
    """Return whether a shard can be written piece by piece, and gains from it.

    From a slow store the old one is fetched, and the new one stored, with one request each.
    """
    store: Any = space.store
    return getattr(store, "writes_pieces", False) and (whole or not store.high_latency)


def stream_shard(
    space: ChunkSpace,
    key: Any,
    shards: Any,
    fill: Callable[[Any], None],
    *,
    whole: bool,
    begun: Any = None,
) -> None:
    """Store a shard piece by piece: what `fill` puts into a stream, and the rest as it is stored.

    There is no rest in a `whole` shard. The stream may have `begun`.
    """
    store: Any = space.store
    old = None if whole else store.open_value(key)
    stream = begun
    try:
        if stream is None:
            stream = shards.stream(store.open_writer(key, shards.reserved), key)
        if old is not None:
            shards.open_old(stream, old)
        fill(stream)
        if not shards.finish(stream, slow=store.high_latency):
            store.delete(key)
    finally:
        if old is not None:
            old.close()
        if stream is not None:
            stream.abort()
