"""`sharding_indexed`: a shard is a small array inside one key.

The inner chunks are read and written by `loop`, the same as the chunks of an array; here is only
what a shard adds: the index, which ranges to fetch, and how a changed shard is put together.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
"""

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, final

import numpy as np
import numpy.typing as npt

from zarr_core.chunks import loop
from zarr_core.chunks.inner_chunks import (
    MISSING,
    Changes,
    Fetched,
    Found,
    Index,
    IndexCache,
    InMemory,
    Inside,
    Layout,
    Numbers,
    Windows,
    read_runs,
)
from zarr_core.chunks.shard_stream import ShardStream, pieces, relative
from zarr_core.chunks.space import ChunkSpace
from zarr_core.codecs import (
    BytesCodec,
    CodecChain,
    Crc32cCodec,
    codec_from_dict,
    register_codec,
    resolve_codecs,
)
from zarr_core.codecs.base import ArrayBytesCodec, Buffer, ChunkSpec, Codec, NDArray, SerialStage
from zarr_core.codecs.checks import check_choice, check_fields, check_int, flat_bytes
from zarr_core.config import SUBCHUNK_WRITE_ORDERS, ArrayConfig, SubchunkWriteOrder
from zarr_core.errors import (
    CodecError,
    MetadataValidationError,
    OperationTimeoutError,
    StoppedError,
)
from zarr_core.indexing.plan import OuterPlan, Part, Plan, SomeParts, sub_plan
from zarr_core.indexing.selection import single_part
from zarr_core.metadata.chunk_grids import ChunkGrid, Coords, Shape
from zarr_core.metadata.data_types import parse_dtype
from zarr_core.storage.base import (
    OpenValue,
    RangeByteRequest,
    SuffixByteRequest,
    Value,
    ValueSnapshot,
    ValueWriter,
)
from zarr_core.storage.ranges import Range, Run, merge_ranges

NAME = "sharding_indexed"
NOT_STORED = np.uint64(MISSING)
MAX_INDEX_BYTES = 1 << 31
KEPT_INDEX_BYTES = 64 << 10
"""Of shards with a larger index, nothing is kept from one call to the next."""
CHECKED_BYTES = 16 << 20
"""So much of a shard is checked at a time."""
LOCAL_GAP_BYTES = 16 << 10
"""Where a request takes microseconds, a longer gap costs more to read than another request."""


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

    Examples
    --------
    >>> codec = zarr.codecs.ShardingCodec(chunk_shape=(2, 2))
    >>> a = zarr.create_array(
    ...     {}, data=np.ones((4, 4)), chunks=(4, 4), serializer=codec, compressors=None
    ... )
    >>> a.shards, a.chunks
    ((4, 4), (2, 2))
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
        self.config: ArrayConfig = codec.config or ArrayConfig()
        self.write_order = self.config.subchunk_write_order or codec.subchunk_write_order
        self.index_at_end: bool = codec.index_location == "end"
        self.grid: ChunkGrid = ChunkGrid.regular(shape, chunk_shape)
        self.counts: Shape = self.grid.counts
        self.nchunks: int = math.prod(self.counts)
        if self.nchunks * 16 > MAX_INDEX_BYTES:
            raise MetadataValidationError(
                f"codec {NAME!r}: {self.nchunks} inner chunks in a shard are too many"
            )
        inner_spec = spec._replace(shape=chunk_shape)
        index_type = parse_dtype("uint64", 3)
        index_spec = ChunkSpec((*self.counts, 2), index_type, index_type.dtype, np.uint64(MISSING))
        self.index_chain: CodecChain = CodecChain(codec.index_codecs, index_spec)
        if self.index_chain.fixed_nbytes is None:
            raise MetadataValidationError(
                f"codec {NAME!r}: index_codecs must have a fixed size, {self.index_chain} has not"
            )
        self.index_nbytes: int = self.index_chain.fixed_nbytes
        self._behind = self.index_nbytes if self.index_at_end else 0
        self.reserved: int = self.index_nbytes - self._behind
        """Bytes before the first inner chunk."""
        self.is_large: bool = (
            math.prod(shape) * spec.dtype.itemsize > self.config.shard_stream_bytes
        )
        self._strides = [math.prod(self.counts[d + 1 :]) for d in range(len(shape))]
        self.space: ChunkSpace = ChunkSpace(
            name="the shard",
            grid=self.grid,
            dtype=spec.dtype,
            fill_value=spec.fill_value,
            make_chain=lambda _: CodecChain(codec.codecs, inner_spec),
            store=Fetched({}),
            key=_linear(self._strides),
            row_keys=_linear_rows(self._strides),
            lock_key=None,
            write_empty_chunks=self.config.write_empty_chunks,
            read_missing_chunks=True,  # inner chunks are left out because they are fill
        )
        self.nested: bool = self.space.chain is not None and self.space.chain.partial is not None
        self._orders: tuple[Numbers, Numbers] | None = None
        # What the last call found out. Most calls follow one that was like them.
        self._planned: tuple[tuple[slice, ...], Plan, Numbers] | None = None
        self._decoded: tuple[bytes, Index] | None = None
        self._found: Found | None = None
        self._layout: Layout | None = None
        self._keeps = self.index_nbytes <= KEPT_INDEX_BYTES
        self._cache = IndexCache(self.config.shard_index_cache_bytes)

    # --- as a codec of whole shards ------------------------------------------------------------------

    def decode(self, data: Buffer) -> NDArray:
        """Return the array in a shard."""
        out = np.empty(self.grid.shape, self.space.dtype)
        whole = tuple(slice(0, n) for n in self.grid.shape)
        self.read(ValueSnapshot(memoryview(flat_bytes(data))), whole, False, out, None, False)
        return out

    def encode(self, array: NDArray) -> Buffer:
        """Return a shard with an array in it."""
        whole = tuple(slice(0, n) for n in self.grid.shape)
        encoded = self.write(None, whole, False, array, None)
        return self._assemble(None, None, Changes(None, None)) if encoded is None else encoded

    # --- reading -------------------------------------------------------------------------------------

    def read(
        self, reader: OpenValue, inside: Any, pointwise: bool, out: NDArray, key: Any, slow: bool
    ) -> None:
        """Read a part of a shard into `out`; only the bytes that are needed are fetched."""
        part = None if pointwise else self._single(inside)
        if part is not None:
            one = self._one(reader, self._index(reader, key), self.space.key(part.coords))
            out[...] = loop.read_one(self.space.over(Fetched(one)), part)
            return
        plan, numbers = self._plan(inside, pointwise)
        if not plan.nparts:
            return
        index = self._index(reader, key)
        chunks: Inside
        if self.nested:
            chunks = Windows(self.is_stored, reader, index)
        else:
            chunks = self._fetch(reader, index, numbers, slow)
        loop.read(self.space.over(chunks), plan, out)

    def check(self, reader: OpenValue) -> Iterator[str]:
        """Yield what is wrong with inner chunks; raise `CodecError` for a damaged index.

        Few are in memory at a time. What the store raises is raised.
        """
        index = self._index(reader, None)
        self._check_all(index, reader.size)
        stored = np.flatnonzero(index[:, 1] != NOT_STORED)
        sizes = index[stored, 1].astype(np.float64)
        groups = np.cumsum(sizes) // CHECKED_BYTES
        parts = np.split(stored, np.flatnonzero(np.diff(groups)) + 1) if stored.size else []
        for numbers in parts:
            chunks = self._fetch(reader, index, numbers, high_latency=False)
            for number in numbers.tolist():
                yield from self._check_inner(number, chunks.get(number))

    def _check_inner(self, number: int, data: Value | None) -> Iterator[str]:
        """Yield what is wrong with one inner chunk."""
        chain, where = self.space.chain, f"inner chunk {self._coords(number)}"
        assert chain is not None
        assert data is not None
        try:
            if chain.partial is None:
                chain.decode(data)
            else:
                yield from (f"{where}: {what}" for what in chain.partial.check(ValueSnapshot(data)))
        except (StoppedError, OperationTimeoutError, ImportError):
            raise
        except Exception as error:  # noqa: BLE001 - codecs of others raise anything
            yield f"{where}: codec {chain.blame(data)!r} cannot decode {len(data)} bytes: {error}"

    def read_several(self, reader: OpenValue, wants: Sequence[Any], key: Any, slow: bool) -> None:
        """Read parts of a shard, as `read` does; what is in several of them is decoded once."""
        plans, numbers = zip(*(self._plan(*want[:2]) for want in wants), strict=True)
        wanted = np.unique(np.concatenate(numbers))
        chunks = self._fetch(reader, self._index(reader, key), wanted, slow)
        pairs = zip(plans, [want[2] for want in wants], strict=True)
        loop.read_shared(self.space.over(chunks).traced(), pairs)

    def _plan(self, inside: tuple[Any, ...], pointwise: bool) -> tuple[Plan, Numbers]:
        """Return the plan of a selection and the inner chunks in it.

        The last plan is kept: most shards of a selection have the same.
        """
        known = self._planned
        plain = not pointwise and all(isinstance(s, slice) for s in inside)
        if plain and known is not None and known[0] == inside:
            return known[1], known[2]
        plan = sub_plan(inside, pointwise, self.grid)
        if isinstance(plan, OuterPlan):
            numbers = np.zeros(1, np.intp)
            for entries, stride in zip(plan.entries, self._strides, strict=True):
                along = np.array([entry.chunk for entry in entries], np.intp)
                numbers = np.add.outer(numbers, along * stride).reshape(-1)
        else:
            numbers = np.array([self.space.key(part.coords) for part in plan.parts()], np.intp)
        if plain:
            self._planned = (inside, plan, numbers)
        return plan, numbers

    def cost(self, plan: Plan, axes: Coords | None, *, write: bool) -> float:
        """Return the microseconds that a typical part of a plan over shards leaves to other threads.

        `axes` says how the axes of the array are permuted before they are those of a shard.
        """
        each = self.space.write_cost if write else self.space.read_cost
        if not isinstance(plan, OuterPlan):
            return each * min(self.nchunks, plan.shape[0] / plan.nparts)
        touched = 1
        for dim, size in enumerate(self.grid.chunk_shape or ()):
            entries = plan.entries[dim if axes is None else axes[dim]]
            inside = entries[len(entries) // 2].inside
            if isinstance(inside, slice):
                touched *= -(-inside.stop // size) - inside.start // size
            elif not isinstance(inside, int):
                touched *= min(self.counts[dim], len(inside))
        return each * touched

    def _single(self, inside: tuple[Any, ...]) -> Part | None:
        """Return a selection as part of the only inner chunk that it needs, or None.

        One inner chunk of a shard is what tiles and scalars need: this halves the time for it.
        """
        sizes = self.space.one_chunk
        return None if sizes is None else single_part(inside, self.grid.shape, sizes)

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
        known = self._decoded
        if self._keeps:
            data = bytes(data)  # a copy, which does not keep all of the shard in memory
            if known is not None and known[0] == data:
                return known[1]
        try:
            index = self.index_chain.decode(data).reshape(-1, 2)
        except CodecError as error:
            raise CodecError(f"the index of the shard is damaged: {error}") from error
        if self._keeps:
            self._decoded = (bytes(data), index)
        return index

    def _check(self, entries: Index, numbers: Numbers, total: int | None) -> None:
        """Raise for the first of some entries of an index that cannot be true; see `is_stored`."""
        offsets, sizes = entries[:, 0], entries[:, 1]
        low, high = map(np.uint64, self._bounds(total))
        # Subtracted, as a sum may not fit into 64 bits.
        wrong = (offsets < low) | (offsets > high) | (sizes > high - np.minimum(offsets, high))
        wrong &= (offsets != NOT_STORED) | (sizes != NOT_STORED)
        if wrong.any():
            at = int(wrong.argmax())
            offset, size = entries[at].tolist()
            self.is_stored(int(numbers[at]), offset, size, total)

    def _check_all(self, index: Index, total: int | None) -> None:
        """Raise for an index of a shard that cannot be true; copying what it says would not end."""
        self._check(index, np.arange(self.nchunks), total)
        # As floats: a sum of hostile sizes may not fit into 64 bits.
        stored = index[:, 1].sum(where=index[:, 1] != NOT_STORED, dtype=np.float64)
        if total is not None and stored > total:
            raise _overlap_error(total)

    def _bounds(self, total: int | None) -> tuple[int, int]:
        """Return where the inner chunks of a shard of `total` bytes begin and end at most."""
        n = self.index_nbytes
        end = 2**63 if total is None else total
        return (0, end if total is None else end - n) if self.index_at_end else (n, end)

    def _coords(self, number: int) -> Coords:
        return tuple(int(k) for k in np.unravel_index(number, self.counts)) if self.counts else ()

    def _fetch(
        self, reader: OpenValue, index: Index, numbers: Numbers, high_latency: bool
    ) -> Inside:
        """Return inner chunks, fetched with as few requests as the limits allow."""
        found = self._find(index, numbers, reader.size)
        if isinstance(reader, ValueSnapshot):
            return InMemory(reader.read(), found)
        if found.requests is None:
            found.requests = self._requests(found, high_latency)
        runs, ranges = found.requests
        chunks: dict[int, Value] = {}
        for run, data in read_runs(reader, runs, high_latency):
            for start, end, number in ranges[run.first : run.last]:
                chunks[number] = data[start - run.start : end - run.start]
        return Fetched(chunks)

    def fetch(self, reader: OpenValue | None, plan: SomeParts, key: Any, slow: bool) -> Inside:
        """Return the inner chunks of a plan, fetched; none if there is no shard."""
        if reader is None:
            return Fetched({})
        index = self._index(reader, key)
        if self.nested:
            return Windows(self.is_stored, reader, index)
        numbers = np.array([self.space.key(part.coords) for part in plan.parts()], np.intp)
        return self._fetch(reader, index, numbers, slow)

    def _requests(self, found: Found, high_latency: bool) -> tuple[list[Run], list[Range]]:
        """Return the ranges of inner chunks, and what is read for them."""
        pairs = zip(found.numbers.tolist(), found.entries.tolist(), strict=True)
        ranges = [(start, start + size, n) for n, (start, size) in pairs if start != MISSING]
        if found.total is not None and sum(end - start for start, end, _ in ranges) > found.total:
            raise _overlap_error(found.total)
        ranges.sort()
        gap = self.config.sharding_coalesce_max_gap_bytes
        most = self.config.sharding_coalesce_max_bytes
        return merge_ranges(
            ranges, gap if high_latency else min(gap, LOCAL_GAP_BYTES), most
        ), ranges

    def _find(self, index: Index, numbers: Numbers, total: int | None) -> Found:
        """Return where inner chunks are in a shard."""
        known = self._found
        same = known is not None and known.index is index and known.numbers is numbers
        if known is not None and same and known.total == total:
            return known
        entries = index.take(numbers, 0)
        self._check(entries, numbers, total)
        found = Found(index, numbers, entries, total)
        if self._keeps:
            self._found = found
        return found

    def is_stored(self, number: int, offset: int, size: int, total: int | None) -> bool:
        """Return whether an inner chunk is stored; raise for an entry of the index that lies."""
        if offset == MISSING and size == MISSING:
            return False
        low, high = self._bounds(total)
        if MISSING in (offset, size) or offset < low or offset + size > high:
            raise CodecError(
                f"the index of the shard is damaged: inner chunk {self._coords(number)} has offset "
                f"{offset} and {size} bytes in a shard of {total} bytes"
            )
        return True

    # --- writing -------------------------------------------------------------------------------------

    def is_streamed(self, inside: tuple[Any, ...]) -> bool:
        """Return whether a selection is written piece by piece: one of slices in a large shard."""
        return self.is_large and all(isinstance(s, slice) and s.step in (None, 1) for s in inside)

    def stream(self, writer: ValueWriter, key: str) -> ShardStream:
        """Return a new shard, to be written piece by piece."""
        return ShardStream(writer, key, self.reserved, self._sequence(None)[1])

    def write_pieces(self, stream: ShardStream, inside: tuple[slice, ...], value: NDArray) -> None:
        """Write an array to a selection of slices, encoded inner chunks as they are complete."""
        for piece in self.pieces(inside):
            part = value[relative(piece, inside)]
            loop.write(self.space.over(stream), self._plan(piece, False)[0], part)
            stream.send()

    def pieces(self, inside: tuple[slice, ...]) -> Iterator[tuple[slice, ...]]:
        """Yield pieces of a selection of slices, each of about as many bytes as the setting says."""
        most = self.config.shard_stream_bytes // max(1, self.space.dtype.itemsize)
        return pieces(inside, self.grid.chunk_shape or (), most)

    def open_old(self, stream: ShardStream, reader: OpenValue) -> None:
        """Have a stream begin with the shard that is stored."""
        index = self._index(reader, None)
        self._check_all(index, reader.size)
        stream.onto(reader, index)

    def finish(self, stream: ShardStream, *, slow: bool) -> bool:
        """Store a shard that was written piece by piece, False when nothing but fill remains."""

        def encode_index(entries: Index) -> Buffer:
            return self.index_chain.encode(entries.reshape(*self.counts, 2))

        return stream.finish(
            encode_index,
            at_end=self.index_at_end,
            even_empty=self.config.write_empty_chunks,
            slow=slow,
        )

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
        part = None if pointwise or fields is not None else self._single(inside)
        if part is not None:
            return self.change(old, lambda inner: loop.write_one(inner, part, value))
        plan, _ = self._plan(inside, pointwise)
        return self.change(old, lambda inner: loop.write(inner, plan, value, fields))

    def change(self, old: Value | None, make: Callable[[ChunkSpace], None]) -> Buffer | None:
        """Return a shard in which `make` changed inner chunks; see `write`."""
        data = None if old is None else memoryview(old)
        layout = None if data is None else self._lay_out(data)
        changes = Changes(data, None if layout is None else layout.entries)
        make(self.space.over(changes))
        encoded = self._assemble(data, layout, changes)
        stored = len(encoded) > self.index_nbytes
        return encoded if stored or (self.config.write_empty_chunks and changes.changed) else None

    def _lay_out(self, data: memoryview) -> Layout:
        """Return how inner chunks lie in a shard that is to be changed; its index is checked."""
        n = self.index_nbytes
        index = self._decode_index(data[-n:] if self.index_at_end else data[:n])
        known = self._layout
        if known is not None and known.entries is index and known.total == len(data):
            return known
        order, rank = self._sequence(index)
        low, high = self._bounds(len(data))
        entries = index.take(order, 0)
        missing = entries == NOT_STORED
        lengths = np.where(missing[:, 1], np.uint64(0), entries[:, 1])
        if not lengths.size or lengths.max() <= high:  # hostile sizes may not sum up in 64 bits
            ends = np.cumsum(lengths, dtype=np.int64) + low
            starts = ends - lengths.view(np.int64)
            packed = (entries[:, 0].view(np.int64) == starts) | missing[:, 0]
            if packed.all() and (missing[:, 0] == missing[:, 1]).all() and ends[-1] <= high:
                return Layout(index, len(data), order, rank, (starts, ends))
        self._check_all(index, len(data))
        return Layout(index, len(data), order, rank, None)

    def _assemble(self, data: memoryview | None, old: Layout | None, changes: Changes) -> bytes:
        """Return a shard from inner chunks of an old one and changed ones."""
        changed = changes.changed
        numbers = np.fromiter(changed, np.intp, len(changed))
        sizes = [MISSING if c is None else _nbytes(c) for c in changed.values()]
        layout = self._rearranged(old, numbers, sizes)
        pieces: list[Any]
        if data is None or old is None or old.spans is None:
            stored = layout.order[layout.entries[layout.order, 1] != NOT_STORED]
            pieces = [changes.get(number) for number in stored.tolist()]
        else:
            pieces, (starts, ends) = [], old.spans
            at = self._bounds(None)[0]
            places = old.rank.take(numbers).tolist()
            for place, number in sorted(zip(places, changed, strict=True)):
                # What lies between changed chunks is one piece.
                chunk = changed[number]
                pieces += (data[at : starts[place]], b"" if chunk is None else chunk)
                at = ends[place]
            pieces.append(data[at : ends[-1]])
        known = self._decoded
        if known is not None and known[1] is layout.entries:
            index = known[0]
        else:
            entries = layout.entries.reshape(*self.counts, 2)
            index = bytes(self.index_chain.encode(entries))
        if self._keeps and self.write_order != "unordered":
            self._decoded, self._layout = (index, layout.entries), layout
        return b"".join([*pieces, index] if self.index_at_end else [index, *pieces])

    def _rearranged(self, old: Layout | None, numbers: Numbers, sizes: list[int]) -> Layout:
        """Return how inner chunks lie when some of them have new sizes (MISSING: removed)."""
        if old is None:
            new = np.full((self.nchunks, 2), NOT_STORED)
            order, rank = self._sequence(None)
        elif old.spans is not None and old.entries[numbers, 1].tolist() == sizes:
            return old._replace(total=int(old.spans[1][-1]) + self._behind)
        else:
            new, order, rank = old.entries.copy(), old.order, old.rank
        new[numbers] = np.array(sizes, np.uint64)[:, np.newaxis]  # missing when the size is
        ordered = new[:, 1].take(order)
        stored = ordered != NOT_STORED
        lengths = np.where(stored, ordered, np.uint64(0)).view(np.int64)
        ends = np.cumsum(lengths) + self._bounds(None)[0]
        starts = ends - lengths
        new[order, 0] = np.where(stored, starts.view(np.uint64), NOT_STORED)
        return Layout(new, int(ends[-1]) + self._behind, order, rank, (starts, ends))

    def _sequence(self, index: Index | None) -> tuple[Numbers, Numbers]:
        """Return the inner chunks in the order in which they are stored, and the place of each."""
        if index is not None and self.write_order == "unordered":
            return _with_places(np.argsort(index[:, 0], kind="stable"))
        if self._orders is None:
            if self.write_order == "morton":
                order = morton_order(self.counts)
            elif self.write_order == "colexicographic":
                order = np.arange(self.nchunks).reshape(self.counts).transpose().reshape(-1)
            else:
                order = np.arange(self.nchunks)
            self._orders = _with_places(order)
        return self._orders


def _overlap_error(total: int) -> CodecError:
    # Fetched or copied one by one, they could take any amount of memory.
    return CodecError(
        f"the index of the shard is damaged: inner chunks overlap in a shard of {total} bytes"
    )


def _with_places(order: Numbers) -> tuple[Numbers, Numbers]:
    """Return a permutation and its inverse."""
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return order, places


def _linear(strides: Sequence[int]) -> Any:
    """Return the function from chunk coordinates to the number of the chunk in C order."""
    if len(strides) == 2:
        (stride, _) = strides
        return lambda at: at[0] * stride + at[1]
    if len(strides) == 3:
        first, second, _ = strides
        return lambda at: at[0] * first + at[1] * second + at[2]
    return lambda at: sum(k * s for k, s in zip(at, strides, strict=True))


def _linear_rows(strides: Sequence[int]) -> Any:
    """Return the function from rows of chunks to the numbers of the chunks in C order."""
    linear = _linear(strides)

    def numbers(starts: Sequence[Coords], last: Sequence[int]) -> list[int]:
        return [number + k for number in [linear((*start, 0)) for start in starts] for k in last]

    return numbers


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


register_codec(NAME, ShardingCodec)
