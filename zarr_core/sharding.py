"""`sharding_indexed`: a shard is a small array inside one key.

The inner chunks are read and written by `chunk_io`, the same as the chunks of an array; here is only
what a shard adds: the index, which ranges to fetch, and how a changed shard is put together.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Self, TypeAlias, final

import numpy as np
import numpy.typing as npt

from zarr_core import chunk_io, workers
from zarr_core.chunk_space import ChunkSpace
from zarr_core.codecs import (
    BytesCodec,
    CodecChain,
    Crc32cCodec,
    codec_from_dict,
    resolve_codecs,
)
from zarr_core.codecs.base import ArrayBytesCodec, Buffer, ChunkSpec, Codec, NDArray, SerialStage
from zarr_core.codecs.checks import check_choice, check_fields, check_int, flat_bytes
from zarr_core.config import SUBCHUNK_WRITE_ORDERS, ArrayConfig, SubchunkWriteOrder
from zarr_core.dtypes import parse_dtype
from zarr_core.errors import CodecError, MetadataValidationError
from zarr_core.grid import ChunkGrid, Coords, Shape
from zarr_core.selection import Part, Plan, single_part, sub_plan
from zarr_core.storage.base import (
    OpenValue,
    RangeByteRequest,
    Request,
    Result,
    SuffixByteRequest,
    Value,
    ValueSnapshot,
)

NAME = "sharding_indexed"
MISSING = 2**64 - 1
"""Offset and size in the index of an inner chunk that is not stored."""
MAX_INDEX_BYTES = 1 << 31
LOCAL_GAP_BYTES = 16 << 10
"""Where a request takes microseconds, a longer gap costs more to read than another request."""

Index: TypeAlias = npt.NDArray[np.uint64]
"""Offset and size per inner chunk, shape (chunks, 2)."""


@final
@dataclass(frozen=True, kw_only=True)
class ShardingCodec(ArrayBytesCodec):
    """Chunks within a chunk, each encoded on its own, found through an index.

    Parameters
    ----------
    chunk_shape
        Shape of the inner chunks; divides the shape of the shard.
    codecs
        Codecs of the inner chunks: codecs, or what a metadata document says of them.
    index_codecs
        Codecs of the index, all of a fixed size.
    index_location
        `"end"` or `"start"`.
    subchunk_write_order
        Order in which inner chunks are stored. Not recorded, as readers do not depend on it; when
        the array is opened again, the option `subchunk_write_order` of its config says it.
    """

    name = NAME

    chunk_shape: Any
    codecs: Any = (BytesCodec(endian="little"),)
    index_codecs: Any = (BytesCodec(endian="little"), Crc32cCodec())
    index_location: Literal["start", "end"] = "end"
    subchunk_write_order: SubchunkWriteOrder = field(default="morton", compare=False)
    config: ArrayConfig | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        shape = self.chunk_shape
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        checked = {
            "chunk_shape": tuple(check_int(NAME, "chunk_shape", n, 1) for n in shape),
            "codecs": _codecs(self.codecs),
            "index_codecs": _codecs(self.index_codecs),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        check_choice(NAME, "index_location", self.index_location, ("start", "end"))
        check_choice(NAME, "subchunk_write_order", self.subchunk_write_order, SUBCHUNK_WRITE_ORDERS)

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, Any]) -> Self:
        """Return the codec for a document's `configuration`."""
        fields = ("chunk_shape", "codecs", "index_codecs", "index_location")
        found = check_fields(NAME, configuration, fields)
        for name in fields[:3]:
            if not isinstance(found.get(name), list | tuple):
                raise MetadataValidationError(f"codec {NAME!r}: field {name!r} must be a list")
        return cls(**found)

    def configuration(self) -> Mapping[str, Any]:
        """Return the configuration as JSON."""
        return {
            "chunk_shape": list(self.chunk_shape),
            "codecs": [codec.to_dict() for codec in self.codecs],
            "index_codecs": [codec.to_dict() for codec in self.index_codecs],
            "index_location": self.index_location,
        }

    def configured(self, config: ArrayConfig) -> "ShardingCodec":
        """Return the codec with the options of an array's handle, passed on to nested ones."""
        inner = (c.configured(config) if isinstance(c, ShardingCodec) else c for c in self.codecs)
        return replace(self, codecs=tuple(inner), config=config)

    def resolve(self, dtype: np.dtype[Any]) -> "ShardingCodec":
        """Return the codec with what its inner codecs take from the data type filled in."""
        data_type = parse_dtype(dtype, 3)
        spec = ChunkSpec(self.chunk_shape, data_type, dtype, data_type.default_fill)
        return replace(self, codecs=resolve_codecs(self.codecs, spec))

    def bind(self, spec: ChunkSpec) -> SerialStage:
        """Return the codec bound to shards of `spec`."""
        shards = Shards(self, spec)
        return SerialStage(None, shards.encode, shards.decode, partial=shards)


def _codecs(codecs: Iterable[Any]) -> tuple[Codec, ...]:
    return tuple(c if isinstance(c, Codec) else codec_from_dict(c) for c in codecs)


@final
class Shards:
    """The sharding codec bound to shards of one shape."""

    def __init__(self, codec: ShardingCodec, spec: ChunkSpec) -> None:
        shape, chunk_shape = spec.shape, codec.chunk_shape
        if len(shape) != len(chunk_shape) or any(
            n % c for n, c in zip(shape, chunk_shape, strict=True)
        ):
            raise MetadataValidationError(
                f"codec {NAME!r}: chunk_shape {chunk_shape} does not divide the shard shape {shape}"
            )
        self.config = codec.config or ArrayConfig()
        self.write_order = self.config.subchunk_write_order or codec.subchunk_write_order
        self.index_at_end = codec.index_location == "end"
        self.grid = ChunkGrid.regular(shape, chunk_shape)
        self.counts = self.grid.counts
        self.nchunks = math.prod(self.counts)
        if self.nchunks * 16 > MAX_INDEX_BYTES:
            raise MetadataValidationError(
                f"codec {NAME!r}: {self.nchunks} inner chunks in a shard are too many"
            )
        inner_spec = spec._replace(shape=chunk_shape)
        index_type = parse_dtype("uint64", 3)
        index_spec = ChunkSpec((*self.counts, 2), index_type, index_type.dtype, np.uint64(MISSING))
        self.index_chain = CodecChain(codec.index_codecs, index_spec)
        if self.index_chain.fixed_nbytes is None:
            raise MetadataValidationError(
                f"codec {NAME!r}: index_codecs must have a fixed size, {self.index_chain} has not"
            )
        self.index_nbytes = self.index_chain.fixed_nbytes
        strides = [math.prod(self.counts[d + 1 :]) for d in range(len(shape))]
        self.space = ChunkSpace(
            name="the shard",
            grid=self.grid,
            dtype=spec.dtype,
            fill_value=spec.fill_value,
            make_chain=lambda _: CodecChain(codec.codecs, inner_spec),
            store=_Stored({}),
            key=_linear(strides),
            lock_key=None,
            write_empty_chunks=self.config.write_empty_chunks,
            read_missing_chunks=True,  # inner chunks are left out because they are fill
        )
        self.nested = self.space.chain is not None and self.space.chain.partial is not None
        self._order: npt.NDArray[np.intp] | None = None
        self._cache = IndexCache(self.config.shard_index_cache_bytes)

    # --- as a codec of whole shards ------------------------------------------------------------------

    def decode(self, data: Buffer) -> NDArray:
        """Return the array in a shard."""
        out = np.empty(self.grid.shape, self.space.dtype)
        whole = tuple(slice(0, n) for n in self.grid.shape)
        self.read(ValueSnapshot(memoryview(flat_bytes(data))), whole, False, out, None)
        return out

    def encode(self, array: NDArray) -> Buffer:
        """Return a shard with an array in it."""
        whole = tuple(slice(0, n) for n in self.grid.shape)
        encoded = self.write(None, whole, False, array, None)
        return self._assemble(None, None, {}) if encoded is None else encoded

    # --- reading -------------------------------------------------------------------------------------

    def read(
        self,
        reader: OpenValue,
        inside: tuple[Any, ...],
        pointwise: bool,
        out: NDArray,
        key: Hashable,
        *,
        high_latency: bool = False,
    ) -> None:
        """Read a part of a shard into `out`; only the bytes that are needed are fetched."""
        part = None if pointwise else self._single(inside)
        if part is not None:
            chunks = _Stored(
                self._one(reader, self._index(reader, key), self.space.key(part.coords))
            )
            out[...] = chunk_io.read_one(self.space.over(chunks), part)
            return
        plan = sub_plan(inside, pointwise, self.grid)
        if not plan.nparts:
            return
        index = self._index(reader, key)
        if isinstance(reader, ValueSnapshot):
            data = memoryview(reader.read())
            if plan.nparts > 16 and not self._wrong(index, len(data)):
                chunk_io.read(self.space.over(_Whole(data, index)), plan, out)
                return
        if self.nested:
            chunk_io.read(self.space.over(_Windows(self, reader, index)), plan, out)
        else:
            chunk_io.read(
                self.space.over(self._fetch(reader, index, plan, high_latency)), plan, out
            )

    def _single(self, inside: tuple[Any, ...]) -> Part | None:
        """Return a selection as part of the only inner chunk that it needs, or None.

        One inner chunk of a shard is what tiles and scalars need: this halves the time for it.
        """
        if self.space.one_chunk is None:
            return None
        items = [range(s.start, s.stop, s.step or 1) for s in inside if isinstance(s, slice)]
        if len(items) != len(inside):
            return None
        return single_part(items, self.grid.shape, self.space.one_chunk)

    def _one(self, reader: OpenValue, index: Index, number: int) -> dict[int, Value]:
        """Return one inner chunk, by number, if it is stored."""
        offset, size = index[number].tolist()
        if not self.is_stored(number, offset, size, reader.size):
            return {}
        return {number: reader.read(RangeByteRequest(offset, offset + size))}

    def _index(self, reader: OpenValue, key: Hashable) -> Index:
        """Return the index of a shard."""
        cached = self._cache.get(key, reader)
        if cached is not None:
            return cached
        n = self.index_nbytes
        if reader.size is not None and reader.size < n:
            raise CodecError(f"a shard of {reader.size} bytes is too short for its index of {n}")
        data = reader.read(SuffixByteRequest(n) if self.index_at_end else RangeByteRequest(0, n))
        index = self._decode_index(data)
        self._cache.put(key, reader, index)
        return index

    def _decode_index(self, data: Value) -> Index:
        if len(data) != self.index_nbytes:
            raise CodecError(
                f"a shard of {len(data)} bytes is too short for its index of {self.index_nbytes}"
            )
        try:
            return self.index_chain.decode(data).reshape(-1, 2)
        except CodecError as error:
            raise CodecError(f"the index of the shard is damaged: {error}") from error

    def _wrong(self, index: Index, total: int) -> list[int]:
        """Return the inner chunks whose entries cannot be true; see `is_stored`."""
        offsets, sizes = index[:, 0], index[:, 1]
        low = np.uint64(0 if self.index_at_end else self.index_nbytes)
        high = np.uint64(total - self.index_nbytes if self.index_at_end else total)
        # Subtracted, as a sum may not fit into 64 bits.
        wrong = (offsets < low) | (offsets > high) | (sizes > high - np.minimum(offsets, high))
        wrong &= (offsets != MISSING) | (sizes != MISSING)
        found: list[int] = np.flatnonzero(wrong).tolist()
        return found

    def _coords(self, number: int) -> Coords:
        return tuple(int(k) for k in np.unravel_index(number, self.counts)) if self.counts else ()

    def _fetch(self, reader: OpenValue, index: Index, plan: Plan, high_latency: bool) -> "_Stored":
        """Return the inner chunks of a plan, fetched with as few requests as the limits allow."""
        key = self.space.key
        numbers = list({key(part.coords) for part in plan.parts()})
        ranges = []
        for number, (offset, size) in zip(numbers, index[numbers].tolist(), strict=True):
            if self.is_stored(number, offset, size, reader.size):
                ranges.append((offset, offset + size, number))
        if reader.size is not None and sum(end - start for start, end, _ in ranges) > reader.size:
            raise _overlap_error(reader.size)
        ranges.sort()
        gap = self.config.sharding_coalesce_max_gap_bytes
        runs = merge_ranges(
            ranges,
            gap if high_latency else min(gap, LOCAL_GAP_BYTES),
            self.config.sharding_coalesce_max_bytes,
        )
        chunks: dict[int, Value] = {}
        for run, data in _read_runs(reader, runs, high_latency):
            for start, end, number in ranges[run.first : run.last]:
                chunks[number] = data[start - run.start : end - run.start]
        return _Stored(chunks)

    def is_stored(self, number: int, offset: int, size: int, total: int | None) -> bool:
        """Return whether an inner chunk is stored; raise for an entry of the index that lies."""
        if offset == MISSING and size == MISSING:
            return False
        low = 0 if self.index_at_end else self.index_nbytes
        high = 2**63 if total is None else total - (self.index_nbytes if self.index_at_end else 0)
        if MISSING in (offset, size) or offset < low or offset + size > high:
            raise CodecError(
                f"the index of the shard is damaged: inner chunk {self._coords(number)} has offset "
                f"{offset} and {size} bytes in a shard of {total} bytes"
            )
        return True

    # --- writing -------------------------------------------------------------------------------------

    def write(
        self,
        old: Value | None,
        inside: tuple[Any, ...],
        pointwise: bool,
        value: NDArray,
        fields: Any,
    ) -> Buffer | None:
        """Return a shard with a part of it changed, None when nothing but fill value remains.

        Inner chunks that are not touched are copied as they are stored.
        """
        plan = sub_plan(inside, pointwise, self.grid)
        return self.change(old, lambda inner: chunk_io.write(inner, plan, value, fields))

    def change(self, old: Value | None, make: Callable[[ChunkSpace], None]) -> Buffer | None:
        """Return a shard in which `make` changed inner chunks; see `write`."""
        index: Index | None = None
        data: memoryview | None = None
        if old is not None:
            data = memoryview(old)
            n = self.index_nbytes
            index = self._decode_index(data[-n:] if self.index_at_end else data[:n])
            for number in self._wrong(index, len(data)):
                offset, size = index[number].tolist()
                self.is_stored(number, offset, size, len(data))
            # As floats: a sum of hostile sizes may not fit into 64 bits.
            if index[:, 1].sum(where=index[:, 1] != MISSING, dtype=np.float64) > len(data):
                raise _overlap_error(len(data))
        changes = _Changes(data, index)
        make(self.space.over(changes))
        encoded = self._assemble(data, index, changes.changed)
        stored = len(encoded) > self.index_nbytes
        return encoded if stored or (self.config.write_empty_chunks and changes.changed) else None

    def _assemble(
        self, old: memoryview | None, index: Index | None, changed: Mapping[int, Value | None]
    ) -> bytes:
        """Return a shard from inner chunks of an old one and changed ones (None: removed)."""
        new = np.full((self.nchunks, 2), MISSING, np.uint64) if index is None else index.copy()
        numbers = np.fromiter(changed, np.intp, len(changed))
        sizes = np.fromiter(
            (MISSING if c is None else _nbytes(c) for c in changed.values()),
            np.uint64,
            len(changed),
        )
        new[numbers, 1] = sizes
        new[numbers, 0] = sizes  # missing when the size is
        order = self._write_order()
        sequence = order[new[order, 1] != MISSING]
        if self.write_order == "unordered" and index is not None:
            sequence = sequence[np.argsort(index[sequence, 0], kind="stable")]
        lengths = new[sequence, 1].astype(np.int64)
        offsets = np.zeros(len(sequence), np.int64)
        np.cumsum(lengths[:-1], out=offsets[1:])
        if not self.index_at_end:
            offsets += self.index_nbytes
        pieces = self._pieces(old, index, changed, numbers, sequence, lengths)
        new[sequence, 0] = offsets
        encoded = self.index_chain.encode(new.reshape(*self.counts, 2))
        stored = flat_bytes(encoded)
        return b"".join([*pieces, stored] if self.index_at_end else [stored, *pieces])

    def _pieces(
        self,
        old: memoryview | None,
        index: Index | None,
        changed: Mapping[int, Value | None],
        numbers: npt.NDArray[np.intp],
        sequence: npt.NDArray[np.intp],
        lengths: npt.NDArray[np.int64],
    ) -> list[Any]:
        """Return what the new shard consists of, neighbours in the old one as one piece."""
        if old is None or index is None or not len(sequence):
            return [changed[number] for number in sequence.tolist()]
        touched = np.zeros(self.nchunks, np.bool_)
        touched[numbers] = True
        mine = touched[sequence]
        starts = index[sequence, 0].astype(np.int64)  # meaningless where touched
        ends = starts + lengths
        breaks = np.ones(len(sequence), np.bool_)
        breaks[1:] = mine[1:] | mine[:-1] | (starts[1:] != ends[:-1])
        first = np.flatnonzero(breaks)
        last = np.append(first[1:], len(sequence)) - 1
        pieces: list[Any] = []
        for a, b in zip(first.tolist(), last.tolist(), strict=True):
            if mine[a]:
                pieces.append(changed[int(sequence[a])])
            else:
                pieces.append(old[starts[a] : ends[b]])
        return pieces

    def _write_order(self) -> npt.NDArray[np.intp]:
        """Return the numbers of the inner chunks in the order in which they are stored."""
        if self._order is None:
            if self.write_order == "morton":
                self._order = morton_order(self.counts)
            elif self.write_order == "colexicographic":
                numbers = np.arange(self.nchunks).reshape(self.counts)
                self._order = numbers.transpose().reshape(-1)
            else:
                self._order = np.arange(self.nchunks)
        return self._order


def _overlap_error(total: int) -> CodecError:
    # Fetched or copied one by one, they could take any amount of memory.
    return CodecError(
        f"the index of the shard is damaged: inner chunks overlap in a shard of {total} bytes"
    )


def _linear(strides: Sequence[int]) -> Any:
    """Return the function from chunk coordinates to the number of the chunk in C order."""
    if len(strides) == 2:
        (stride, _) = strides
        return lambda at: at[0] * stride + at[1]
    if len(strides) == 3:
        first, second, _ = strides
        return lambda at: at[0] * first + at[1] * second + at[2]
    return lambda at: sum(k * s for k, s in zip(at, strides, strict=True))


def _nbytes(chunk: Any) -> int:
    return chunk.nbytes if isinstance(chunk, np.ndarray | memoryview) else len(chunk)


def morton_order(counts: Shape) -> npt.NDArray[np.intp]:
    """Return the numbers (in C order) of the cells of a grid along a Morton curve.

    Bits of the coordinates are interleaved, those of the first dimension lowest; a dimension gives
    only as many bits as its length needs.
    """
    codes = np.zeros(counts, np.uint64)
    bits = [(n - 1).bit_length() for n in counts]
    position = 0
    for bit in range(max(bits, default=0)):
        for dim, width in enumerate(bits):
            if bit < width:
                column = (np.arange(counts[dim], dtype=np.uint64) >> np.uint64(bit)) & np.uint64(1)
                shape = [-1 if d == dim else 1 for d in range(len(counts))]
                codes |= (column << np.uint64(position)).reshape(shape)
                position += 1
    return np.argsort(codes.reshape(-1), kind="stable")


class Run(NamedTuple):
    """Neighbouring ranges, `first` to `last` (not included), read as one."""

    first: int
    last: int
    start: int
    end: int


def merge_ranges(ranges: Sequence[tuple[int, int, int]], max_gap: int, max_bytes: int) -> list[Run]:
    """Return sorted ranges (start, end, ...) merged where close, and not too long together."""
    runs: list[Run] = []
    for at, (start, end, _) in enumerate(ranges):
        if runs:
            run = runs[-1]
            if start - run.end <= max_gap and max(run.end, end) - run.start <= max_bytes:
                runs[-1] = Run(run.first, at + 1, run.start, max(run.end, end))
                continue
        runs.append(Run(at, at + 1, start, end))
    return runs


def _read_runs(
    reader: OpenValue, runs: list[Run], high_latency: bool
) -> Iterator[tuple[Run, memoryview]]:
    """Yield the bytes of runs; the requests overlap on slow stores."""

    def fetch(run: Run) -> Value:
        return reader.read(RangeByteRequest(run.start, run.end))

    if not high_latency or len(runs) < 2:
        for run in runs:
            yield run, memoryview(fetch(run))
        return
    for number, data, error in workers.overlap(fetch, runs, limit=None):
        if error is not None:
            raise error
        assert data is not None
        yield runs[number], memoryview(data)


# --- the inside of a shard, in the place of a store ----------------------------------------------------


class _Inside:
    """What `chunk_io` needs of a store, for the inside of a shard."""

    high_latency = False

    def get(self, key: int) -> Value | None:
        raise NotImplementedError

    def set(self, key: int, value: Any) -> None:
        raise TypeError("the inside of this shard is only read")

    def delete(self, key: int) -> None:
        raise TypeError("the inside of this shard is only read")

    def open_value(self, key: int) -> OpenValue | None:
        value = self.get(key)
        return None if value is None else ValueSnapshot(value)

    def get_many(self, requests: Iterable[Request]) -> Iterator[Result]:
        raise NotImplementedError

    def __str__(self) -> str:
        return "the shard"


@final
class _Stored(_Inside):
    """Inner chunks that were fetched."""

    def __init__(self, chunks: Mapping[int, Value]) -> None:
        self.get = chunks.get  # type: ignore[method-assign,assignment]


@final
class _Whole(_Inside):
    """A shard in memory."""

    def __init__(self, data: memoryview, index: Index) -> None:
        self._data = data
        self._index = index
        self._entries: list[list[int]] | None = None
        self._asked = 0

    def get(self, key: int) -> Value | None:
        if self._entries is None:
            # Turning the index into a list costs as much as looking at a few of its entries.
            self._asked += 1
            if self._asked > 8:
                self._entries = self._index.tolist()
            offset, size = self._index[key].tolist()
        else:
            offset, size = self._entries[key]
        return None if offset == MISSING else self._data[offset : offset + size]


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
class _Windows(_Inside):
    """Inner chunks that are shards themselves: parts of them are read through the outer value."""

    def __init__(self, shards: Shards, reader: OpenValue, index: Index) -> None:
        self._shards, self._reader, self._index = shards, reader, index

    def open_value(self, key: int) -> OpenValue | None:
        offset, size = self._index[key].tolist()
        if not self._shards.is_stored(key, offset, size, self._reader.size):
            return None
        return _Window(self._reader, offset, size)

    def get(self, key: int) -> Value | None:
        window = self.open_value(key)
        return None if window is None else window.read()


@final
class _Changes(_Inside):
    """The inside of a shard that is being changed."""

    def __init__(self, data: memoryview | None, index: Index | None) -> None:
        self.changed: dict[int, Any] = {}
        self._old = None if data is None or index is None else _Whole(data, index)

    def get(self, key: int) -> Value | None:
        if key in self.changed:
            return self.changed[key]  # type: ignore[no-any-return]
        return None if self._old is None else self._old.get(key)

    def set(self, key: int, value: Any) -> None:
        self.changed[key] = value

    def delete(self, key: int) -> None:
        self.changed[key] = None


@final
class IndexCache:
    """Indexes of shards by key, up to a number of bytes; used only for the version it was read at."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._items: OrderedDict[Hashable, tuple[Any, Index]] = OrderedDict()
        self._lock = threading.Lock()

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


__all__ = ["ShardingCodec"]
