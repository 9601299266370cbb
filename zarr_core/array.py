"""`Array`: a chunked array in a store, read and written with NumPy's indexing.

Every operation is a plain synchronous method; the awaitable twins at the end of the class run the
same method in a worker thread. An `Array` does no I/O until it is indexed or changed.
"""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias, final

import numpy as np
import numpy.typing as npt

from zarr_core import chunk_io
from zarr_core.attributes import Attributes
from zarr_core.chunk_io import ChunkSpace
from zarr_core.codecs import CodecChain, codecs_from_configs
from zarr_core.codecs.base import ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec, ChunkSpec
from zarr_core.config import ArrayConfig, ArrayConfigLike, array_config
from zarr_core.errors import ArrayIndexError, ConflictError, ReadOnlyError
from zarr_core.grid import Coords, Shape
from zarr_core.info import ArrayInfo
from zarr_core.metadata import ArrayMetadata, ZarrFormat
from zarr_core.nodes import delete_keys, read_array, stored_chunks, update_node
from zarr_core.selection import (
    Fields,
    OuterPlan,
    Plan,
    basic_items,
    plan_blocks,
    plan_coordinates,
    plan_mask,
    plan_orthogonal,
    plan_selection,
    split_fields,
)
from zarr_core.sharding import ShardingCodec
from zarr_core.storage import Store, StoreLike, StorePath, store_from
from zarr_core.twins import async_twin
from zarr_core.views import BlockIndex, OIndex, VIndex

NDArray: TypeAlias = npt.NDArray[Any]


class _Node:
    """What all handles made from one share: the metadata they last saw, swapped whole."""

    __slots__ = ("__weakref__", "metadata", "on_change")

    def __init__(self, metadata: ArrayMetadata) -> None:
        self.metadata = metadata
        # Called with new metadata after it was stored; keeps consolidated copies true.
        self.on_change: Callable[[ArrayMetadata], None] | None = None


class _State(NamedTuple):
    """What a call needs to know, computed once per metadata and handle."""

    metadata: ArrayMetadata
    space: ChunkSpace
    shape: Shape
    plain: bool  # no fields to look for, C order


class ChunkPart(NamedTuple):
    """A chunk that a selection touches; see `Array.chunk_parts`."""

    coords: Coords
    key: str
    """Key in the store."""
    region: tuple[slice, ...]
    """The elements of the array that the chunk holds."""
    chunk_selection: tuple[Any, ...]
    """The selected elements within the chunk, per dimension."""
    out_selection: tuple[Any, ...]
    """Where they are in the result."""


def make_chain(metadata: ArrayMetadata, config: ArrayConfig, shape: Shape) -> CodecChain:
    """Return the codec chain for chunks of one shape; raise `UnknownCodecError`."""
    fill = effective_fill(metadata)
    spec = ChunkSpec(shape, metadata.data_type, metadata.dtype, fill)
    codecs = codecs_from_configs(metadata.codecs)
    return CodecChain(
        [c.configured(config) if isinstance(c, ShardingCodec) else c for c in codecs], spec
    )


def effective_fill(metadata: ArrayMetadata) -> Any:
    """Return the fill value as data: an undefined one of format 2 reads as zero."""
    if metadata.fill_value is not None:
        return metadata.fill_value
    dtype = metadata.dtype
    if metadata.data_type.is_variable:
        return metadata.data_type.default_fill
    return np.zeros((), dtype)[()]


def _key_template(place: StorePath, metadata: ArrayMetadata) -> Callable[[Coords], str]:
    keys = metadata.chunk_key_encoding
    if metadata.ndim == 0:
        key = place.key(keys.scalar_key)
        return lambda coords: key  # noqa: ARG005 - there is one chunk
    numbers = keys.separator.join(["%d"] * metadata.ndim)
    template = place.key(f"{keys.prefix}{numbers}") if not place.path else ""
    if place.path:
        template = f"{place.path}/".replace("%", "%%") + f"{keys.prefix}{numbers}"
    return template.__mod__


@final
class Array:
    """A Zarr array.

    Parameters
    ----------
    metadata
        What the array's documents say; see `zarr_core.metadata.ArrayMetadata`.
    store_path
        Where the array is.
    config
        How it is read and written; the process-wide options fill the gaps.

    Usually made by `create_array`, `open_array` and the like. This constructor does no I/O.
    """

    __slots__ = ("_config", "_node", "_state", "store_path")

    def __init__(
        self,
        metadata: ArrayMetadata | Mapping[str, Any],
        store_path: StorePath | Store,
        config: ArrayConfigLike | None = None,
    ) -> None:
        if not isinstance(metadata, ArrayMetadata):
            metadata = ArrayMetadata.from_dict(metadata)
        self.store_path = store_from(store_path)
        self._config = array_config(config)
        self._node = _Node(metadata)
        self._state: _State | None = None

    @staticmethod
    def open(
        store: StoreLike, zarr_format: ZarrFormat | None = None, *, config: ArrayConfigLike | None = None
    ) -> "Array":
        """Open an existing array; raise `ArrayNotFoundError` if there is none."""
        place = store_from(store)
        return Array(read_array(place, zarr_format), place, config)

    @staticmethod
    def from_dict(
        store_path: StorePath, data: Mapping[str, Any], config: ArrayConfigLike | None = None
    ) -> "Array":
        """Return the array that a metadata document describes; no I/O."""
        return Array(ArrayMetadata.from_dict(data), store_path, config)

    # --- state -------------------------------------------------------------------------------------

    def _current(self) -> _State:
        """Return the state that belongs to the metadata shared by the handles of this node."""
        state = self._state
        metadata = self._node.metadata
        if state is None or state.metadata is not metadata:
            state = self._state = self._make_state(metadata)
        return state

    def _make_state(self, metadata: ArrayMetadata) -> _State:
        store = self.store_path.store
        space = ChunkSpace(
            name=f"array {self.name!r}",
            grid=metadata.chunk_grid,
            dtype=metadata.dtype,
            fill_value=effective_fill(metadata),
            make_chain=partial(make_chain, metadata, self._config),
            store=store,
            key=_key_template(self.store_path, metadata),
            lock_key=store.lock_key,
            write_empty_chunks=self._config.write_empty_chunks,
            read_missing_chunks=self._config.read_missing_chunks,
        )
        plain = metadata.dtype.names is None and self.order == "C"
        return _State(metadata, space, metadata.shape, plain)

    def refresh(self) -> "Array":
        """Read the metadata again, for a node that others may have changed; return this array."""
        self._publish(read_array(self.store_path, self.metadata.zarr_format))
        return self

    def _publish(self, metadata: ArrayMetadata) -> None:
        self._node.metadata = metadata
        if self._node.on_change is not None:
            self._node.on_change(metadata)

    def _update(self, change: Callable[[ArrayMetadata], ArrayMetadata]) -> ArrayMetadata:
        """Store changed metadata; return what was stored."""
        self._check_writable()
        metadata = update_node(self.store_path, self.metadata, change)
        self._publish(metadata)
        return metadata

    def _check_writable(self) -> None:
        if self.read_only:
            raise ReadOnlyError(f"{self!r} is read-only")

    def with_config(self, config: ArrayConfigLike) -> "Array":
        """Return a handle with other options; it shares this one's metadata, now and later."""
        other = Array(self.metadata, self.store_path, array_config(config, self._config))
        other._node = self._node
        return other

    def _twin_lane(self) -> tuple[bool, int | None, object]:
        return bool(self.store.high_latency), self._config.async_limit, self._node

    # --- what it is --------------------------------------------------------------------------------

    @property
    def metadata(self) -> ArrayMetadata:
        """What the array's documents say."""
        return self._node.metadata

    @property
    def config(self) -> ArrayConfig:
        """How this handle reads and writes."""
        return self._config

    @property
    def store(self) -> Store:
        """The store that holds the array."""
        return self.store_path.store

    @property
    def path(self) -> str:
        """Path of the array in its store; `""` is the root."""
        return self.store_path.path

    @property
    def name(self) -> str:
        """Path with a leading slash."""
        return f"/{self.path}"

    @property
    def basename(self) -> str:
        """Last segment of the path."""
        return self.path.rpartition("/")[2]

    @property
    def read_only(self) -> bool:
        """Whether writing raises `ReadOnlyError`."""
        return self.store_path.read_only

    @property
    def shape(self) -> Shape:
        """Shape; assigning resizes the array."""
        return self._node.metadata.shape

    @shape.setter
    def shape(self, shape: Sequence[int]) -> None:
        self.resize(shape)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self.metadata.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy data type of what is read."""
        return self.metadata.dtype

    @property
    def nbytes(self) -> int:
        """Size in bytes of all elements in memory; that of the references for variable lengths."""
        return self.size * self.dtype.itemsize

    @property
    def chunks(self) -> Shape:
        """Shape of a chunk, the inner one of a sharded array; not for rectilinear grids."""
        return self.metadata.chunks

    @property
    def shards(self) -> Shape | None:
        """Shape of a shard, or None; not for rectilinear grids."""
        return self.metadata.shards

    @property
    def read_chunk_sizes(self) -> tuple[Shape, ...]:
        """Per dimension the lengths of the chunks (the inner ones) within the array."""
        sharding = self.metadata.sharding
        if sharding is None:
            return self.write_chunk_sizes
        inner = sharding.configuration["chunk_shape"]
        return tuple(
            tuple(
                min(size, total - start)
                for total in outer
                for start in range(0, total, size)
            )
            for outer, size in zip(self.write_chunk_sizes, inner, strict=True)
        )

    @property
    def write_chunk_sizes(self) -> tuple[Shape, ...]:
        """Per dimension the lengths of what is stored under one key, within the array."""
        return tuple(axis.sizes() for axis in self.metadata.chunk_grid.axes)

    @property
    def cdata_shape(self) -> Shape:
        """Number of chunks along each dimension."""
        return tuple(map(len, self.read_chunk_sizes))

    @property
    def nchunks(self) -> int:
        """Number of chunks."""
        return math.prod(self.cdata_shape)

    @property
    def fill_value(self) -> Any:
        """Value of elements that were never written; None when format 2 leaves it undefined."""
        return self.metadata.fill_value

    @property
    def order(self) -> Literal["C", "F"]:
        """Memory order of what is read."""
        return self.metadata.order if self.metadata.zarr_format == 2 else self._config.order

    @property
    def attrs(self) -> Attributes:
        """User attributes; every change is stored."""
        return Attributes(self)

    @property
    def _current_attributes(self) -> Mapping[str, Any]:
        return self.metadata.attributes

    def _change_attributes(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._update(lambda old: old.update_attributes(change(dict(old.attributes))))

    @property
    def filters(self) -> tuple[Any, ...]:
        """Array-to-array codecs; in format 2 numcodecs objects."""
        if self.metadata.zarr_format == 2:
            return _numcodecs_objects(self.metadata.v2_filters or ())
        return tuple(c for c in self._codecs() if isinstance(c, ArrayArrayCodec))

    @property
    def serializer(self) -> ArrayBytesCodec | None:
        """The array-to-bytes codec; None in format 2."""
        if self.metadata.zarr_format == 2:
            return None
        return next(c for c in self._codecs() if isinstance(c, ArrayBytesCodec))

    @property
    def compressors(self) -> tuple[Any, ...]:
        """Bytes-to-bytes codecs; in format 2 numcodecs objects."""
        if self.metadata.zarr_format == 2:
            compressor = self.metadata.v2_compressor
            return () if compressor is None else _numcodecs_objects([compressor])
        return tuple(c for c in self._codecs() if isinstance(c, BytesBytesCodec))

    @property
    def compressor(self) -> Any:
        """The compressor of format 2, or None."""
        if self.metadata.zarr_format == 3:
            raise TypeError("arrays of format 3 have 'compressors', not one 'compressor'")
        return self.compressors[0] if self.compressors else None

    def _codecs(self) -> tuple[Any, ...]:
        """Return the codecs of chunks: of the inner ones when the array is sharded."""
        codecs = codecs_from_configs(self.metadata.codecs)
        if self.metadata.sharding is not None:
            return codecs[0].codecs  # type: ignore[attr-defined, no-any-return]
        return codecs

    @property
    def oindex(self) -> OIndex:
        """Orthogonal indexing."""
        return OIndex(self)

    @property
    def vindex(self) -> VIndex:
        """Pointwise indexing."""
        return VIndex(self)

    @property
    def blocks(self) -> BlockIndex:
        """Indexing by whole chunks."""
        return BlockIndex(self)

    @property
    def info(self) -> ArrayInfo:
        """What is known without I/O, as a table."""
        return ArrayInfo.of(self)

    def info_complete(self) -> ArrayInfo:
        """Return a table that also says how much is stored."""
        return ArrayInfo.of(self, self._nchunks_initialized(), self.nbytes_stored())

    def _nchunks_initialized(self) -> int:
        counts = self.metadata.chunk_grid.counts
        stored = sum(
            all(k < n for k, n in zip(coords, counts, strict=True))
            for _, coords in stored_chunks(self.store_path, self.metadata)
        )
        return stored * math.prod(
            -(-s // c) for s, c in zip(self.shards or (), self.chunks, strict=True)
        ) if self.metadata.sharding is not None and self.metadata.chunk_grid.chunk_shape else stored

    @property
    def nchunks_initialized(self) -> int:
        """Number of chunks that are stored; lists the store."""
        return self._nchunks_initialized()

    def nbytes_stored(self) -> int:
        """Return the size in bytes of everything stored for the array."""
        return self.store.getsize_prefix(self.path)

    # --- reading -----------------------------------------------------------------------------------

    def __getitem__(self, selection: Any) -> Any:
        """Return the selected elements as a new NumPy array; see `getitem`."""
        state = self._state
        if state is None or state.metadata is not self._node.metadata:
            state = self._current()
        if not state.plain:
            return self.getitem(selection)
        items = basic_items(selection, state.shape)
        if items is None:
            return self._read(state, plan_selection(selection, state.metadata.chunk_grid))
        result = chunk_io.read_one(state.space, items)
        if result is None:
            result = self._read(state, OuterPlan(items, state.metadata.chunk_grid))
        if result.ndim or _only_ints(selection):
            return result
        return result[()]

    def getitem(
        self, selection: Any, *, out: Any = None, fields: Fields = None, prototype: Any = None
    ) -> Any:
        """Return the elements that `array[selection]` selects.

        Ints, slices (with any step) and an ellipsis select as in NumPy. A boolean array of the
        array's shape is a mask. Integer arrays for all dimensions select single elements; mixed
        with slices they are orthogonal. Names of fields may be part of the selection.

        Parameters
        ----------
        selection
            What would stand between the brackets.
        out
            Array of the result's shape and data type that is filled and returned.
        fields
            Name or names of fields of a structured data type.
        prototype
            Object whose `nd_buffer.create(shape=, dtype=, order=)` allocates the result.

        Raises `ArrayIndexError` or `BoundsCheckError` (both `IndexError`) for a selection that does
        not fit, `ValueError` for an `out` that does not, `ChunkDecodeError` for damaged chunks.
        """
        state = self._current()
        selection, fields = _with_fields(selection, fields)
        result = self._read(
            state, plan_selection(selection, state.metadata.chunk_grid), out, fields, prototype
        )
        if out is None and prototype is None and not result.ndim and not _only_ints(selection):
            return result[()]
        return result

    def get_basic_selection(
        self,
        selection: Any = ...,
        *,
        out: Any = None,
        prototype: Any = None,
        fields: Fields = None,
    ) -> Any:
        """Return a selection of ints, slices and an ellipsis; see `getitem`.

        Ints for all dimensions give a scalar.
        """
        state = self._current()
        selection, fields = _with_fields(selection, fields)
        items = basic_items(selection, state.shape)
        if items is None:
            raise ArrayIndexError(f"basic selection takes ints and slices, found {selection!r:.80}")
        result = self._read(state, OuterPlan(items, state.metadata.chunk_grid), out, fields, prototype)
        return result if result.ndim or out is not None or prototype is not None else result[()]

    def get_orthogonal_selection(
        self, selection: Any, *, out: Any = None, fields: Fields = None, prototype: Any = None
    ) -> Any:
        """Return a selection in which each dimension has an int, a slice, or 1-D indices or bools.

        Parameters and errors are those of `getitem`.
        """
        state = self._current()
        selection, fields = _with_fields(selection, fields)
        plan = plan_orthogonal(selection, state.metadata.chunk_grid)
        return self._read(state, plan, out, fields, prototype)

    def get_coordinate_selection(
        self, selection: Any, *, out: Any = None, fields: Fields = None, prototype: Any = None
    ) -> Any:
        """Return single elements, given by one integer array per dimension, broadcast together.

        Parameters and errors are those of `getitem`.
        """
        state = self._current()
        selection, fields = _with_fields(selection, fields)
        plan = plan_coordinates(selection, state.metadata.chunk_grid)
        return self._read(state, plan, out, fields, prototype)

    def get_mask_selection(
        self, mask: Any, *, out: Any = None, fields: Fields = None, prototype: Any = None
    ) -> Any:
        """Return the elements where a boolean array of the array's shape is true, in C order.

        Parameters and errors are those of `getitem`.
        """
        state = self._current()
        plan = plan_mask(mask, state.metadata.chunk_grid)
        return self._read(state, plan, out, fields, prototype)

    def get_block_selection(
        self, selection: Any, *, out: Any = None, fields: Fields = None, prototype: Any = None
    ) -> Any:
        """Return whole chunks, given by ints and slices over the chunks; ints keep the dimension.

        Parameters and errors are those of `getitem`.
        """
        state = self._current()
        selection, fields = _with_fields(selection, fields)
        plan = plan_blocks(selection, state.metadata.chunk_grid)
        return self._read(state, plan, out, fields, prototype)

    def _read(
        self,
        state: _State,
        plan: Plan,
        out: Any = None,
        fields: Fields = None,
        prototype: Any = None,
    ) -> Any:
        """Run a plan; the result has the plan's result shape."""
        space = state.space
        dtype = space.dtype if fields is None else _field_dtype(space.dtype, fields)
        if out is None and prototype is None:
            order = self.order
            if plan.shape == plan.result_shape:
                result = np.empty(plan.shape, dtype, order)
                chunk_io.read(space, plan, result, fields)
                return result
            result = np.empty(plan.result_shape, dtype, order)
            chunk_io.read(space, plan, _view(result, plan.shape), fields)
            return result
        if out is None:
            made = prototype.nd_buffer.create(
                shape=plan.result_shape, dtype=dtype, order=self.order, fill_value=None
            )
            returned = made.as_ndarray_like() if hasattr(made, "as_ndarray_like") else made
        else:
            returned = out.as_ndarray_like() if hasattr(out, "as_ndarray_like") else out
        target = np.asarray(returned)
        if target.shape != plan.result_shape or target.dtype != dtype:
            raise ValueError(
                f"out has shape {target.shape} and data type {target.dtype}; the selection has "
                f"shape {plan.result_shape} and data type {dtype}"
            )
        if not target.flags.writeable:
            raise ValueError("out is read-only")
        view = target if plan.shape == plan.result_shape else _view(target, plan.shape)
        chunk_io.read(space, plan, view, fields)
        if not np.may_share_memory(view, target):
            target[...] = view.reshape(target.shape)
        return returned

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray:
        """Return the whole array; `copy=False` raises, as data is always read."""
        if copy is False:
            raise ValueError("a Zarr array cannot become a NumPy array without a copy")
        result: NDArray = np.asarray(self[...])
        return result if dtype is None else result.astype(dtype, copy=False)

    def __iter__(self) -> Iterator[Any]:
        """Yield the elements along the first dimension; every chunk is read once."""
        if not self.ndim:
            return
        start = 0
        for length in self.write_chunk_sizes[0]:
            slab = self[start : start + length]
            for i in range(length):
                yield slab[i, ...].copy()
            start += length

    # --- writing -----------------------------------------------------------------------------------

    def __setitem__(self, selection: Any, value: Any) -> None:
        """Set the selected elements; see `setitem`."""
        self.setitem(selection, value)

    def setitem(
        self,
        selection: Any,
        value: Any,
        *,
        fields: Fields = None,
        prototype: Any = None,  # noqa: ARG002 - accepted as zarr-python does
    ) -> None:
        """Set the elements that `array[selection] = value` sets, exactly as NumPy would.

        The value is broadcast and converted as in a NumPy assignment; with duplicate indices the
        last one wins. A value that does not fit raises `ValueError` before anything is written.
        Chunks that are only partly covered are read, changed and stored under their lock.

        Raises `ReadOnlyError` for a read-only array, `ArrayIndexError` for a selection that does
        not fit. The awaited twin copies values up to 1 MB; a larger one must not be changed before
        the await returns.
        """
        selection, fields = _with_fields(selection, fields)
        state = self._current()
        self._write(state, plan_selection(selection, state.metadata.chunk_grid), value, fields)

    def set_basic_selection(
        self,
        selection: Any,
        value: Any,
        *,
        fields: Fields = None,
        prototype: Any = None,  # noqa: ARG002 - accepted as zarr-python does
    ) -> None:
        """Set a selection of ints, slices and an ellipsis; see `setitem`."""
        state = self._current()
        selection, fields = _with_fields(selection, fields)
        items = basic_items(selection, state.shape)
        if items is None:
            raise ArrayIndexError(f"basic selection takes ints and slices, found {selection!r:.80}")
        self._write(state, OuterPlan(items, state.metadata.chunk_grid), value, fields)

    def set_orthogonal_selection(
        self,
        selection: Any,
        value: Any,
        *,
        fields: Fields = None,
        prototype: Any = None,  # noqa: ARG002 - accepted as zarr-python does
    ) -> None:
        """Set an orthogonal selection; see `get_orthogonal_selection` and `setitem`."""
        state = self._current()
        selection, fields = _with_fields(selection, fields)
        self._write(state, plan_orthogonal(selection, state.metadata.chunk_grid), value, fields)

    def set_coordinate_selection(
        self,
        selection: Any,
        value: Any,
        *,
        fields: Fields = None,
        prototype: Any = None,  # noqa: ARG002 - accepted as zarr-python does
    ) -> None:
        """Set single elements; see `get_coordinate_selection` and `setitem`."""
        state = self._current()
        selection, fields = _with_fields(selection, fields)
        self._write(state, plan_coordinates(selection, state.metadata.chunk_grid), value, fields)

    def set_mask_selection(
        self,
        mask: Any,
        value: Any,
        *,
        fields: Fields = None,
        prototype: Any = None,  # noqa: ARG002 - accepted as zarr-python does
    ) -> None:
        """Set the elements where a mask is true; see `get_mask_selection` and `setitem`."""
        state = self._current()
        self._write(state, plan_mask(mask, state.metadata.chunk_grid), value, fields)

    def set_block_selection(
        self,
        selection: Any,
        value: Any,
        *,
        fields: Fields = None,
        prototype: Any = None,  # noqa: ARG002 - accepted as zarr-python does
    ) -> None:
        """Set whole chunks; see `get_block_selection` and `setitem`."""
        state = self._current()
        selection, fields = _with_fields(selection, fields)
        self._write(state, plan_blocks(selection, state.metadata.chunk_grid), value, fields)

    def _write(self, state: _State, plan: Plan, value: Any, fields: Fields) -> None:
        self._check_writable()
        space = state.space
        dtype = space.dtype if fields is None else _field_dtype(space.dtype, fields)
        chunk_io.write(space, plan, _fitted(value, dtype, plan), fields)

    # --- changing shape and attributes ---------------------------------------------------------------

    def resize(self, new_shape: int | Sequence[int], delete_outside_chunks: bool = True) -> None:
        """Change the shape; elements that are still inside keep their place.

        When the array shrinks, the new shape is stored first, then chunks outside are removed and
        the rest of the chunks at the boundary is reset to the fill value, so that elements that
        come back with a later resize are fill. `delete_outside_chunks=False` does neither.

        Raises `ConflictError` when another handle changed the shape and this call, meant to grow
        the array, would cut off what the other one added.
        """
        shape = _checked_shape(new_shape, self.ndim)
        known = self.shape
        old: list[ArrayMetadata] = []

        def change(fresh: ArrayMetadata) -> ArrayMetadata:
            old[:] = [fresh]
            if any(n < f and n >= k for n, f, k in zip(shape, fresh.shape, known, strict=True)):
                raise ConflictError(
                    f"{self!r} has shape {fresh.shape} now; resizing to {shape} would cut off what "
                    "was added since this handle read it; call refresh() first"
                )
            return fresh.update_shape(shape)

        new = self._update(change)
        if delete_outside_chunks:
            self._cut(old[0], new)

    def _cut(self, old: ArrayMetadata, new: ArrayMetadata) -> None:
        """Remove what lies outside the new shape from the stored chunks."""
        if all(n >= o for n, o in zip(new.shape, old.shape, strict=True)):
            return
        counts = new.chunk_grid.counts
        outside = [
            key
            for key, coords in stored_chunks(self.store_path, old)
            if not all(k < n for k, n in zip(coords, counts, strict=True))
        ]
        delete_keys(self.store, outside)
        if 0 in new.shape:
            return
        space = self._make_state(old).space
        for dim, (n, o) in enumerate(zip(new.shape, old.shape, strict=True)):
            axis = old.chunk_grid.axes[dim]
            if n >= o:
                continue
            last = axis.find(n - 1)
            end = min(o, axis.start(last) + axis.stored_size(last))
            if n < end:
                items = [range(min(a, b)) for a, b in zip(new.shape, old.shape, strict=True)]
                items[dim] = range(n, end)
                for other in range(dim + 1, len(items)):
                    # dimensions still to come have not been cut yet
                    items[other] = self._boundary(old, new, other)
                chunk_io.fill_parts(space, OuterPlan(items, old.chunk_grid))

    @staticmethod
    def _boundary(old: ArrayMetadata, new: ArrayMetadata, dim: int) -> range:
        """Return the elements along a dimension that are in chunks which still exist."""
        axis = old.chunk_grid.axes[dim]
        n = min(new.shape[dim], old.shape[dim])
        last = axis.find(n - 1)
        return range(min(old.shape[dim], axis.start(last) + axis.stored_size(last)))

    def append(self, data: npt.ArrayLike, axis: int = 0) -> Shape:
        """Add data at the end of a dimension; return the new shape.

        The data has the array's shape but for `axis`. The place for it is taken with a
        compare-and-set of the metadata, so that two handles that append do not overwrite each other.
        """
        values = np.asanyarray(data)
        if not -self.ndim <= axis < self.ndim:
            raise ArrayIndexError(f"axis {axis} is out of bounds for {self.ndim} dimensions")
        axis %= self.ndim
        others = [n for d, n in enumerate(self.shape) if d != axis]
        if values.ndim != self.ndim or [n for d, n in enumerate(values.shape) if d != axis] != others:
            raise ValueError(
                f"data of shape {values.shape} cannot be appended to shape {self.shape} along {axis}"
            )
        _fitted(values[:0] if values.ndim else values, self.dtype, None)
        start: list[int] = []

        def change(fresh: ArrayMetadata) -> ArrayMetadata:
            if [n for d, n in enumerate(fresh.shape) if d != axis] != others:
                raise ConflictError(
                    f"{self!r} has shape {fresh.shape} now; data of shape {values.shape} cannot be "
                    f"appended along {axis}"
                )
            start[:] = [fresh.shape[axis]]
            shape = list(fresh.shape)
            shape[axis] += values.shape[axis]
            return fresh.update_shape(shape)

        new = self._update(change)
        end = start[0] + values.shape[axis]
        selection = tuple(slice(start[0], end) if d == axis else slice(None) for d in range(self.ndim))
        self.setitem(selection, values)
        return new.shape

    def update_attributes(self, new_attributes: Mapping[str, Any]) -> "Array":
        """Set attributes, keeping the others; return this array."""
        self.attrs.update(new_attributes)
        return self

    # --- chunks ------------------------------------------------------------------------------------

    def chunk_parts(self, selection: Any = ...) -> Iterator[ChunkPart]:
        """Yield the stored chunks (or shards) that `array[selection]` touches, without I/O."""
        state = self._current()
        grid = state.metadata.chunk_grid
        selection, _ = split_fields(selection)
        for part in plan_selection(selection, grid).parts():
            key = state.space.key(part.coords)
            yield ChunkPart(part.coords, key, grid.region(part.coords), part.chunk, part.out)

    def _chunk_key(self, coords: Sequence[int]) -> tuple[Coords, str]:
        counts = self.metadata.chunk_grid.counts
        at = tuple(int(k) for k in coords)
        if len(at) != len(counts) or not all(0 <= k < n for k, n in zip(at, counts, strict=True)):
            raise ArrayIndexError(f"chunk {at} is outside the grid of {counts} chunks")
        return at, self._current().space.key(at)

    def read_chunk(self, coords: Sequence[int]) -> NDArray:
        """Return one stored chunk (a whole shard) at its full shape, beyond the array's end too."""
        at, key = self._chunk_key(coords)
        space = self._current().space
        data = self.store.get(key)
        if data is None:
            if not space.read_missing_chunks:
                raise space.missing_error(at)
            return space.empty_chunk(at)
        try:
            return np.array(space.chain_for(at).decode(data))
        except Exception as error:
            raise space.decode_error(at, data, error) from error

    def write_chunk(self, coords: Sequence[int], value: npt.ArrayLike) -> None:
        """Store one chunk (a whole shard); `value` has its full shape or is broadcast to it."""
        self._check_writable()
        at, key = self._chunk_key(coords)
        space = self._current().space
        chunk = np.empty(space.grid.stored_shape(at), space.dtype)
        chunk[...] = value
        with space.lock(key):
            if not space.write_empty_chunks and space.is_fill(chunk):
                self.store.delete(key)
            else:
                self.store.set(key, memoryview(np.frombuffer(space.chain_for(at).encode(chunk), "u1")))

    def read_encoded_chunk(self, coords: Sequence[int]) -> bytes | None:
        """Return the stored bytes of one chunk, or None when it is not stored."""
        data = self.store.get(self._chunk_key(coords)[1])
        return None if data is None else bytes(data)

    def delete_chunk(self, coords: Sequence[int]) -> None:
        """Remove one stored chunk; it reads as the fill value then."""
        self._check_writable()
        delete_keys(self.store, [self._chunk_key(coords)[1]])

    # --- as a Python object ------------------------------------------------------------------------

    def _split_fields(self, selection: Any) -> tuple[Any, Fields]:
        return split_fields(selection) if self.dtype.names else (selection, None)

    def _is_mask(self, selection: Any) -> bool:
        if isinstance(selection, tuple):
            if len(selection) != 1:
                return False
            selection = selection[0]
        if isinstance(selection, list):
            selection = np.asarray(selection)
        return getattr(selection, "dtype", None) == bool and selection.shape == self.shape

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Array):
            return NotImplemented
        return (
            self.store_path == other.store_path
            and self.metadata == other.metadata
            and self._config == other._config
        )

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return Array, (self.metadata, self.store_path, self._config)

    def __dask_tokenize__(self) -> Hashable:
        return (
            "zarr_core.Array",
            str(self.store_path),
            repr(self.metadata.to_dict()),
            repr(self._config),
        )

    def __repr__(self) -> str:
        return f"<Array {self.store_path} shape={self.shape} dtype={self.dtype}>"

    # --- twins: each awaits the method of its name in a worker thread ----------------------------------

    open_async = staticmethod(async_twin(open))
    refresh_async = async_twin(refresh)
    getitem_async = async_twin(getitem, private=True)
    get_basic_selection_async = async_twin(get_basic_selection, private=True)
    get_orthogonal_selection_async = async_twin(get_orthogonal_selection, private=True)
    get_coordinate_selection_async = async_twin(get_coordinate_selection, private=True)
    get_mask_selection_async = async_twin(get_mask_selection, private=True)
    get_block_selection_async = async_twin(get_block_selection, private=True)
    setitem_async = async_twin(setitem, snapshot="value")
    set_basic_selection_async = async_twin(set_basic_selection, snapshot="value")
    set_orthogonal_selection_async = async_twin(set_orthogonal_selection, snapshot="value")
    set_coordinate_selection_async = async_twin(set_coordinate_selection, snapshot="value")
    set_mask_selection_async = async_twin(set_mask_selection, snapshot="value")
    set_block_selection_async = async_twin(set_block_selection, snapshot="value")
    resize_async = async_twin(resize)
    append_async = async_twin(append, snapshot="data")
    update_attributes_async = async_twin(update_attributes)
    info_complete_async = async_twin(info_complete)
    nchunks_initialized_async = async_twin(_nchunks_initialized)
    nbytes_stored_async = async_twin(nbytes_stored)
    read_chunk_async = async_twin(read_chunk, private=True)
    write_chunk_async = async_twin(write_chunk, snapshot="value")
    read_encoded_chunk_async = async_twin(read_encoded_chunk, private=True)
    delete_chunk_async = async_twin(delete_chunk)


def _numcodecs_objects(configs: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    import numcodecs

    return tuple(numcodecs.get_codec(dict(config)) for config in configs)


def _only_ints(selection: Any) -> bool:
    """Return whether a selection has nothing but Python ints: these select a 0-d array."""
    if selection.__class__ is tuple:
        return bool(selection) and all(s.__class__ is int for s in selection)
    return selection.__class__ is int


def _with_fields(selection: Any, fields: Fields) -> tuple[Any, Fields]:
    """Return a selection without field names, and the fields that it or `fields` names."""
    rest, named = split_fields(selection)
    if named is not None and fields:
        raise ArrayIndexError("fields were given both in the selection and as an argument")
    chosen = named if named is not None else fields or None
    if isinstance(chosen, str) or chosen is None:
        return rest, chosen
    names = list(chosen)
    return rest, names[0] if len(names) == 1 and named is None and isinstance(fields, str) else names


def _field_dtype(dtype: np.dtype[Any], fields: Fields) -> np.dtype[Any]:
    """Return the data type of fields; several are packed. Raise `ArrayIndexError`."""
    names = [fields] if isinstance(fields, str) else list(fields or ())
    known = dtype.names or ()
    for name in names:
        if name not in known:
            raise ArrayIndexError(f"there is no field {name!r}; data type {dtype} has {list(known)}")
    if isinstance(fields, str):
        return dtype[fields]
    return np.dtype([(name, dtype[name]) for name in names])


def _view(array: NDArray, shape: Shape) -> NDArray:
    """Return an array in another shape: a view where NumPy can, else a new array."""
    return array.reshape(shape)


def _checked_shape(shape: int | Sequence[int], ndim: int) -> Shape:
    lengths = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    checked = tuple(int(n) for n in lengths)
    if len(checked) != ndim or min(checked, default=0) < 0:
        raise ValueError(f"a shape of {ndim} lengths of at least 0 is needed, found {shape}")
    return checked


def _fitted(value: Any, dtype: np.dtype[Any], plan: Plan | None) -> NDArray:
    """Return a value as an array of a plan's shape, converted as an assignment in NumPy does.

    Conversions that can fail or lose more than precision are made here, before anything is
    written; others are left to the chunks, so that no copy of the whole value is made.
    """
    array = value if isinstance(value, np.ndarray) else None
    if array is None:
        if hasattr(value, "__array__") and not isinstance(value, np.generic):
            array = np.asarray(value)
        else:
            array = np.asarray(value) if dtype.kind in "T" else None
            if array is None:
                array = _converted(value, dtype)
    if array.dtype != dtype and not (
        array.dtype.kind in "biuf" and dtype.kind in "iufc" and np.can_cast(array.dtype, dtype, "same_kind")
    ):
        converted = np.empty(array.shape, dtype)
        converted[...] = array
        array = converted
    if plan is None:
        return array
    if array.ndim == 0:
        return array
    shape = plan.result_shape
    if array.shape != shape:
        extra = array.ndim - len(shape)
        if extra > 0 and array.shape[:extra] == (1,) * extra:
            array = array.reshape(array.shape[extra:])
        try:
            array = np.broadcast_to(array, shape)
        except ValueError:
            raise ValueError(
                f"could not broadcast input array from shape {np.shape(value)} into shape {shape}"
            ) from None
    return array if shape == plan.shape else array.reshape(plan.shape)


def _converted(value: Any, dtype: np.dtype[Any]) -> NDArray:
    """Return a Python value as an array, as NumPy converts it in an assignment."""
    if dtype.kind == "O":
        array = np.asarray(value, dtype=object)
        return array
    if isinstance(value, bytes | str | int | float | complex | np.generic) or value is None:
        array = np.empty((), dtype)
    elif dtype.names is not None:
        return np.array(value, dtype)
    else:
        array = np.empty(np.shape(value), dtype)
    array[...] = value
    return array
