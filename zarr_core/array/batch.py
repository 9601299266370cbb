"""`array.batch()`: small writes are kept, and each stored chunk or shard is changed once.

What is kept are patches: the (inner) chunks that were written to, with a mask of the elements that
were set. Nothing is read for them. When they are stored, each is merged with what is stored then,
under the lock of the key, so that others may write to the same chunks meanwhile.

Of a large shard, inner chunks that are complete do not stay: they are encoded and go to where the new
shard is put together, which nobody sees until then. If they are wanted again, it is stored early.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, final

import numpy as np
import numpy.typing as npt

from zarr_core.array.handle import Handle
from zarr_core.array.views import Indexable
from zarr_core.chunks import loop, placing
from zarr_core.chunks.shard_stream import ShardStream, can_stream, relative, stream_shard
from zarr_core.chunks.space import ChunkSpace, NDArray
from zarr_core.codecs.layout import inverse_permutation
from zarr_core.errors import CodecError, ConflictError
from zarr_core.indexing.plan import FULL, Plan, Selector, SomeParts, sub_plan
from zarr_core.indexing.selection import Fields
from zarr_core.metadata.chunk_grids import ChunkGrid, Coords
from zarr_core.threads import key_locks
from zarr_core.threads.twins import async_twin

TILE_BYTES = 512
"""What a tile costs beside its elements, roughly."""

STREAMS = 32
"""So many large shards at most are being put together; each is an open file, or parts of an upload."""

VARIABLE_BYTES = 64
"""A guess at the memory of an element of variable length."""


A = TypeVar("A", bound=Handle)


# --- patches ---------------------------------------------------------------------------------------


@final
class Tile:
    """A chunk (an inner one, in a shard) of which some elements were set."""

    __slots__ = ("masks", "values")

    def __init__(self, values: NDArray, masks: dict[str | None, npt.NDArray[np.bool_]]) -> None:
        self.values: NDArray = values
        self.masks: dict[str | None, NDArray] = masks
        """Which elements were set, by field; under None when there are no fields. No mask: all."""

    @property
    def nbytes(self) -> int:
        """Memory that the tile takes, roughly."""
        values = self.values
        n = values.nbytes if values.dtype.kind not in "OT" else values.size * VARIABLE_BYTES
        return n + values.size * len(self.masks) + TILE_BYTES


@final
class Patches:
    """What was set in one stored chunk or shard."""

    __slots__ = (
        *("_dtype", "_fill", "_tile_shape", "extent", "grid", "nbytes", "sent", "shards"),
        *("stream", "tiles"),
    )

    def __init__(self, space: ChunkSpace, coords: Coords) -> None:
        chain = space.chain_for(coords)
        shape = tile_shape = space.grid.stored_shape(coords)
        self.shards: Any = chain.partial
        self.stream: ShardStream | None = None
        """The new shard, if tiles have been sent."""
        self.sent: set[Coords] = set()
        """Those."""
        self.extent: Coords = ()
        """How much of the chunk was in the array when the stream began."""
        if chain.partial is not None:
            inner = chain.partial.grid.chunk_shape
            axes = chain.axes or range(len(shape))
            tile_shape = tuple(n for _, n in sorted(zip(axes, inner, strict=True)))
        self._tile_shape = tile_shape
        self.grid: ChunkGrid = ChunkGrid.regular(shape, tile_shape)
        self.tiles: dict[Coords, Tile] = {}
        self.nbytes: int = 0
        self._dtype = space.dtype
        self._fill = space.fill_value

    def _names(self, fields: Fields) -> Sequence[str | None]:
        if isinstance(fields, str):
            return (fields,)
        return fields or self._dtype.names or (None,)

    def write(
        self, inside: tuple[Any, ...], pointwise: bool, value: NDArray, fields: Fields
    ) -> None:
        """Set a part of the chunk to an array of its shape, or to one without dimensions."""
        plan = sub_plan(inside, pointwise, self.grid)
        # NumPy 2.4 crashes when an element of StringDType without dimensions goes to index arrays.
        element = value.reshape(1) if not value.ndim and value.dtype.kind in "OT" else value
        for coords, within, source, cover in plan.parts():
            tile = self.tiles.get(coords)
            if cover == FULL and fields is None:
                self.nbytes -= 0 if tile is None else tile.nbytes
                shape = self.grid.stored_shape(coords)
                whole = np.empty(shape, self._dtype)
                whole[...] = value[plan.index(source)].reshape(shape) if value.ndim else value
                tile = self.tiles[coords] = Tile(whole, {})
                self.nbytes += tile.nbytes
                continue
            if tile is None:
                tile = self.tiles[coords] = self._new_tile(coords)
                self.nbytes += tile.nbytes
            target = tile.values if fields is None else tile.values[fields]
            at = plan.index(within)
            if target.ndim:
                target[at] = value[plan.index(source)] if value.ndim else element
            else:
                target[...] = value
            for name in self._names(fields) if tile.masks else ():
                tile.masks[name][at] = True  # after the values: others read without a lock

    def _new_tile(self, coords: Coords) -> Tile:
        shape = self.grid.stored_shape(coords)
        masks = {name: np.zeros(shape, np.bool_) for name in self._names(None)}
        return Tile(np.full(shape, self._fill, self._dtype), masks)

    def read(self, inside: tuple[Any, ...], pointwise: bool, out: NDArray, fields: Fields) -> None:
        """Put what was set in a part of the chunk over what is in `out`."""
        plan = sub_plan(inside, pointwise, self.grid)
        for coords, within, into, _ in plan.parts():
            tile = self.tiles.get(coords)
            if tile is None:
                continue
            at, where = (*plan.index(within), ...), (*plan.index(into), ...)
            piece = out[where]
            for name in self._names(fields):
                mask: Any = tile.masks[name][at] if tile.masks else np.True_
                values = tile.values if name is None else tile.values[name]
                target = piece if name is None or name == fields else piece[name]
                more = values.ndim - tile.values.ndim if tile.masks else 0
                np.copyto(target, values[at], where=_spread(mask, more))
            if plan.fancy:
                out[where] = piece

    # --- storing: `extent` is how much of the chunk is in the array --------------------------------

    def send(self, space: ChunkSpace, coords: Coords) -> None:
        """Write tiles of which every element was set to where the new shard is put together."""
        extent = _extent(space.grid, coords)
        tiles = [at for at in self.tiles if self._is_whole(at, extent)]
        if not tiles or (self.stream is not None and extent != self.extent):
            return
        stream = self.stream
        if stream is None:
            store: Any = space.store
            key = space.key(coords)
            stream = self.shards.stream(store.open_writer(key, self.shards.reserved), key)
            self.stream, self.extent = stream, extent
        axes = space.chain_for(coords).axes
        _merge_all(self.shards.space.over(stream), self, tiles, extent, axes)
        stream.send()
        self.sent.update(tiles)
        for at in tiles:
            self.nbytes -= self.tiles.pop(at).nbytes

    def was_sent(self, inside: tuple[Any, ...], pointwise: bool) -> bool:
        """Return whether a part of the chunk is not here any more."""
        if not self.sent:
            return False
        return any(
            part.coords in self.sent for part in sub_plan(inside, pointwise, self.grid).parts()
        )

    def check_extent(self, extent: Coords) -> None:
        """Raise `ConflictError` if a tile at the end of the array was sent, which is elsewhere now."""
        if any(self._within(at, extent) != self._within(at, self.extent) for at in self.sent):
            raise ConflictError("the shape was changed while a batch wrote at the end of the array")

    def abort(self) -> None:
        """Give up what was sent."""
        if self.stream is not None:
            self.stream.abort()

    def whole(self, extent: Coords) -> bool:
        """Return whether every element within `extent` was set."""
        counts = ChunkGrid.regular(extent, self._tile_shape).counts
        # A list at once: other threads may be writing, which only adds tiles.
        sent = self.sent.copy()
        done = [*sent, *(c for c in list(self.tiles) if c not in sent)]
        inside = [c for c in done if all(k < n for k, n in zip(c, counts, strict=True))]
        return len(inside) == math.prod(counts) and all(
            c in sent or self._is_whole(c, extent) for c in inside
        )

    def _within(self, coords: Coords, extent: Coords) -> tuple[Any, ...]:
        """Return the elements of a tile that are within `extent`."""
        return tuple(
            slice(0, max(0, min(n - k * size, size)))
            for k, n, size in zip(coords, extent, self._tile_shape, strict=True)
        )

    def _is_whole(self, coords: Coords, extent: Coords) -> bool:
        within = self._within(coords, extent)
        return all(bool(mask[within].all()) for mask in self.tiles[coords].masks.values())

    def merged(
        self, coords: Coords, extent: Coords, stored: Callable[[], NDArray]
    ) -> NDArray | None:
        """Return the chunk that a tile makes of a stored one, None when there is nothing to store.

        `stored` returns the stored chunk, to be changed; it is called when it is needed.
        """
        values, masks = self.tiles[coords].values, self.tiles[coords].masks
        within = self._within(coords, extent)
        if not all(part.stop for part in within):  # the array was made smaller meanwhile
            return None
        if self._is_whole(coords, extent):
            if values[(*within, ...)].shape == values.shape:
                return values
            chunk = np.full(values.shape, self._fill, self._dtype)
            chunk[(*within, ...)] = values[(*within, ...)]
            return chunk
        chunk = stored()
        for name, mask in masks.items():
            source = values if name is None else values[name]
            target = chunk if name is None else chunk[name]
            where = _spread(mask[(*within, ...)], source.ndim - values.ndim)
            np.copyto(target[(*within, ...)], source[(*within, ...)], where=where)
        return chunk


def _without_ints(selectors: tuple[Selector, ...]) -> tuple[Any, ...]:
    return tuple(slice(s, s + 1) if isinstance(s, int) else s for s in selectors)


def _pieces(
    patches: Patches, inside: tuple[Any, ...], value: NDArray, axes: tuple[int, ...] | None
) -> Iterator[tuple[tuple[Any, ...], NDArray]]:
    """Yield a selection in a shard whose axes are permuted by `axes`, and the values: in pieces."""
    shards = patches.shards
    if shards is None or not shards.is_streamed(inside):
        yield inside, value
        return
    order = axes or tuple(range(len(inside)))
    for cut in shards.pieces(tuple(inside[axis] for axis in order)):
        piece = tuple(cut[at] for at in inverse_permutation(order))
        yield piece, value[relative(piece, inside)] if value.ndim else value


def _streams(space: ChunkSpace) -> bool:
    """Return whether complete parts of shards can leave memory before all of a shard is."""
    shards = None if space.chain is None else space.chain.partial
    if shards is None or not shards.is_large or space.lock_processes:
        return False
    return can_stream(space, whole=True)


def _spread(mask: npt.NDArray[np.bool_], axes: int) -> npt.NDArray[np.bool_]:
    """Return a mask with more axes at the end: those of a field that is itself an array."""
    return mask[(..., *(None,) * axes)] if axes else mask


def _extent(grid: ChunkGrid, coords: Coords) -> Coords:
    """Return how much of a chunk is in the array, per dimension."""
    return tuple(part.stop - part.start for part in grid.region(coords))


def _store(space: ChunkSpace, coords: Coords, patches: Patches) -> None:
    """Change a chunk as patches say: at most one read, one set."""
    grid = space.grid
    if not all(k < n for k, n in zip(coords, grid.counts, strict=True)):
        patches.abort()
        return  # the array was made smaller meanwhile
    extent = _extent(grid, coords)
    patches.check_extent(extent)
    key = space.key(coords)
    chain = space.chain_for(coords)
    space = space.watched("write", 1)

    def change(space: ChunkSpace) -> None:
        if chain.partial is None:
            _merge(space, coords, patches, (0,) * len(coords), extent, None)
            return
        whole = patches.whole(extent)
        shards = chain.partial

        def merge(inner: ChunkSpace) -> None:
            _merge_all(inner, patches, list(patches.tiles), extent, chain.axes)

        try:
            begun = patches.stream
            if begun is not None or (shards.is_large and can_stream(space, whole)):
                fill = lambda stream: merge(shards.space.over(stream))  # noqa: E731
                stream_shard(space, key, shards, fill, whole=whole, begun=begun)
                return
            encoded = shards.change(None if whole else space.store.get(key), merge)
        except CodecError as error:
            raise space.inside_error(coords, error) from error
        loop._put(space, key, encoded)

    with space.lock(key), space.noting(coords):
        if space.lock_processes:
            loop.change_between_processes(space, coords, key, change)
        else:
            change(space)


def _merge_all(
    inner: ChunkSpace,
    patches: Patches,
    tiles: list[Coords],
    extent: Coords,
    axes: tuple[int, ...] | None,
) -> None:
    """Merge tiles of a shard, whose axes are permuted by `axes`, with its inner chunks."""

    def merge(coords: Coords) -> None:
        at = coords if axes is None else tuple(coords[axis] for axis in axes)
        _merge(inner, at, patches, coords, extent, axes)

    loop._run(merge, tiles, len(tiles), 0.0 if inner.chain is None else inner.chain.encode_cost)


def _merge(
    space: ChunkSpace,
    at: Coords,
    patches: Patches,
    coords: Coords,
    extent: Coords,
    axes: tuple[int, ...] | None,
) -> None:
    """Merge a tile with the chunk `at` in a space whose axes are permuted by `axes`."""
    key = space.key(at)

    def stored() -> NDArray:
        chunk = loop._stored(space, at, key)
        return chunk if axes is None else chunk.transpose(inverse_permutation(axes))

    chunk = patches.merged(coords, extent, stored)
    if chunk is None:
        return
    if axes is not None:
        chunk = chunk.transpose(axes)
    loop._put(space, key, loop._encoded(space, at, chunk))


# --- the batch -------------------------------------------------------------------------------------


@final
class Batch(Indexable, Generic[A]):
    """Writes to an array that are stored together, at the end of a `with` block.

    `batch[...]` and `batch[...] = value` index the handle `batch.array`, which has all the methods
    of an array: what it reads includes what it has written; other handles see the writes once they
    are stored. Each chunk or shard is then changed once, however many writes went into it. When
    the block ends with an error, what is not stored yet is discarded.

    Attributes
    ----------
    array
        The handle to write and read through.
    early_flushes
        How many chunks or shards were stored before the end to save memory.

    Examples
    --------
    >>> a = zarr.zeros(6, chunks=3, dtype="i4")
    >>> with a.batch() as batch:
    ...     for k in range(6):
    ...         batch[k] = k  # two chunks are stored, at the end
    >>> a[:]
    array([0, 1, 2, 3, 4, 5], dtype=int32)
    """

    __slots__ = (
        "_bytes",
        "_chunks",
        "_handle",
        "_limit",
        "_lock_key",
        "_open",
        "array",
        "early_flushes",
    )

    def __init__(self, array: A, limit: int) -> None:
        self.array: A = array
        self._handle: Any = array  # with all that `Array`, above here, has
        self.early_flushes: int = 0
        self._limit = limit
        self._open = False
        self._chunks: OrderedDict[Coords, Patches] = OrderedDict()
        """What was written to last is at the end."""
        self._bytes = 0
        self._lock_key = object()

    # --- the block ---------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._open:
            raise RuntimeError("the batch has begun already")
        self._open = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open = False
        if kind is None:
            self.flush()
        else:
            self._discard()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open = False
        if kind is None:
            await self.flush_async()
        else:
            self._discard()

    def _discard(self) -> None:
        chunks, self._chunks = self._chunks, OrderedDict()
        for patches in chunks.values():
            patches.abort()
        self._bytes = 0

    @property
    def pending_bytes(self) -> int:
        """Memory that is taken by what is not stored yet, roughly."""
        return self._bytes

    def flush(self) -> None:
        """Store what was written so far.

        What could not be stored because of an error is kept, and stored by the next flush.

        >>> a = zarr.zeros(3, dtype="i4")
        >>> with a.batch() as batch:
        ...     batch[0] = 5
        ...     batch.flush()
        ...     a[:]
        array([5, 0, 0], dtype=int32)
        """
        with key_locks.key_lock(self._lock_key):
            self._store(list(self._chunks))

    def _store(self, chosen: list[Coords]) -> None:
        """Store the patches of some chunks; the lock of the batch is held."""
        space = self._handle._current().space
        chunks = self._chunks

        def store(coords: Coords) -> None:
            _store(space, coords, chunks[coords])
            del chunks[coords]

        try:
            chain = space.chain
            cost = 0.0 if chain is None or chain.partial is not None else chain.encode_cost
            loop.for_each(space, store, chosen, cost)
        finally:
            self._bytes = sum(patches.nbytes for patches in chunks.values())

    # --- called by the array -----------------------------------------------------------------------

    def write(self, space: ChunkSpace, plan: Plan, value: NDArray, fields: Fields) -> None:
        """Keep what `loop.write` would store."""
        with key_locks.key_lock(self._lock_key):
            if not self._open:
                raise RuntimeError("a batch is written to in its `with` block")
            large = _streams(space)
            if math.prod(plan.shape) * space.dtype.itemsize > self._limit and not large:
                # It would not stay; written at once, it needs no memory.
                self._store(list(self._chunks))
                loop.write(space, plan, value, fields)
                self.early_flushes += plan.nparts
                return
            if value.ndim:
                value = placing.flipped(value, plan)
            for part in plan.parts():
                if value.ndim:
                    inside, piece, _ = placing.kept(part, plan, value)
                else:
                    inside, piece = _without_ints(part.chunk), value
                patches = self._chunks.get(part.coords)
                if patches is not None and patches.was_sent(inside, plan.pointwise):
                    self._store([part.coords])
                    self.early_flushes += 1
                    patches = None
                if patches is None:
                    patches = self._chunks[part.coords] = Patches(space, part.coords)
                else:
                    self._chunks.move_to_end(part.coords)
                axes = space.chain_for(part.coords).axes
                for at, values in _pieces(patches, inside, piece, axes):
                    self._bytes -= patches.nbytes
                    patches.write(at, plan.pointwise, values, fields)
                    self._bytes += patches.nbytes
                    if large and patches.nbytes > self.array.config.shard_stream_bytes:
                        self._send(space, part.coords)
            self._make_room(space, large)

    def _send(self, space: ChunkSpace, coords: Coords) -> None:
        """Have what is complete of a large shard leave memory, if not too many are written so."""
        patches = self._chunks[coords]
        streams = sum(other.stream is not None for other in self._chunks.values())
        if patches.stream is not None or streams < STREAMS:
            self._bytes -= patches.nbytes
            try:
                patches.send(space, coords)
            finally:
                self._bytes += patches.nbytes

    def _make_room(self, space: ChunkSpace, large: bool) -> None:
        """Store the chunks that were written to longest ago when there is too much."""
        if self._bytes <= self._limit:
            return
        left = self._bytes
        chosen = []
        for coords, patches in self._chunks.items():
            before = patches.nbytes
            if large:
                self._send(space, coords)
            if patches.nbytes == before:
                chosen.append(coords)
            left -= before if patches.nbytes == before else before - patches.nbytes
            if left <= self._limit // 2:
                break
        self._store(chosen)
        self.early_flushes += len(chosen)

    def read(self, space: ChunkSpace, plan: Plan, out: NDArray, fields: Fields) -> None:
        """Read what `loop.read` reads, with what was written to the batch over it."""
        if not self._chunks:
            loop.read(space, plan, out, fields)
            return
        while not self._read_once(space, plan, out, fields):
            pass  # what was written before is on its way from memory to the store

    def _read_once(self, space: ChunkSpace, plan: Plan, out: NDArray, fields: Fields) -> bool:
        """Read, unless what was written before is elsewhere than expected; return whether it was read."""
        # Looked up before reading: what is stored meanwhile must not be missed here and there.
        chunks = self._chunks
        parts = [(part, chunks.get(part.coords)) for part in plan.parts()]
        sent = [
            part.coords
            for part, patches in parts
            if patches and patches.was_sent(_without_ints(part.chunk), plan.pointwise)
        ]
        if sent:
            with key_locks.key_lock(self._lock_key):
                self._store([coords for coords in sent if coords in chunks])
                self.early_flushes += len(sent)
            return False
        counts = [len(patches.sent) for _, patches in parts if patches]
        rest = [
            part
            for part, patches in parts
            if patches is None or not patches.whole(_extent(space.grid, part.coords))
        ]
        loop.read(space, SomeParts(plan, rest), out, fields)
        out = placing.flipped(out, plan)
        for part, patches in parts:
            if patches is None:
                continue
            inside, target, is_view = placing.kept(part, plan, out)
            patches.read(inside, plan.pointwise, target, fields)
            if not is_view:
                where = plan.index(part.out)
                out[where] = target.reshape(out[where].shape)
        return counts == [len(patches.sent) for _, patches in parts if patches]

    # --- short for the same of `array` -------------------------------------------------------------

    def __getitem__(self, selection: Any) -> Any:
        """Return the selected elements; see `Array.getitem`."""
        return self._handle[selection]

    def __setitem__(self, selection: Any, value: Any) -> None:
        """Set the selected elements; see `Array.setitem`."""
        self._handle.setitem(selection, value)

    def getitem(self, selection: Any, *, out: Any = None, fields: Fields = None) -> Any:
        """Return the selected elements; see `Array.getitem`.

        >>> with zarr.zeros(3).batch() as batch:
        ...     batch[0] = 1
        ...     batch.getitem(slice(2))  # what was written is seen
        array([1., 0.])
        """
        return self._handle.getitem(selection, out=out, fields=fields)

    def setitem(self, selection: Any, value: Any, *, fields: Fields = None) -> None:
        """Set the selected elements; see `Array.setitem`.

        >>> with zarr.zeros(3).batch() as batch:
        ...     batch.setitem(slice(2), 1)
        """
        self._handle.setitem(selection, value, fields=fields)

    def _indexed(self) -> Any:
        return self._handle

    def _twin_lane(self) -> tuple[bool, int | None, object]:
        return self.array._twin_lane()

    flush_async: Final = async_twin(flush)
    getitem_async: Final = async_twin(getitem, private=True)
    setitem_async: Final = async_twin(setitem, snapshot="value")
