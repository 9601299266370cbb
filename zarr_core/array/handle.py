"""A handle on an array, without what it can do: its state, its properties, and the way to chunks."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np

from zarr_core.array.asynchronous import AsyncArray
from zarr_core.array.state import SharedMetadata, State, make_state
from zarr_core.chunks import loop
from zarr_core.codecs import codecs_from_configs
from zarr_core.codecs.base import ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec
from zarr_core.codecs.numcodecs import numcodecs_object
from zarr_core.config import ArrayConfig, ArrayConfigLike, array_config
from zarr_core.hierarchy.node import Node
from zarr_core.hierarchy.stored_nodes import update_node
from zarr_core.indexing import values
from zarr_core.indexing.plan import Plan
from zarr_core.indexing.selection import Fields
from zarr_core.indexing.values import destination, field_dtype, fitted_to, with_fields
from zarr_core.metadata import ArrayMetadata
from zarr_core.metadata.chunk_grids import ChunkGrid, Shape, check_listed
from zarr_core.storage import Store, StorePath, store_from
from zarr_core.threads.calls import timeout


class Handle(Node):
    """What is known of an array, and how its chunks are read and written; see `Array`."""

    def __init__(
        self,
        metadata: ArrayMetadata | Mapping[str, Any] | AsyncArray,
        store_path: StorePath | Store | None = None,
        config: ArrayConfigLike | None = None,
    ) -> None:
        found: Any = metadata
        if isinstance(metadata, AsyncArray):
            of = metadata._sync
            found, store_path, config = of.metadata, of._store_path, config or of.config
        if not isinstance(found, ArrayMetadata):
            found = ArrayMetadata.from_dict(found)
        if store_path is None:
            raise TypeError("an array needs a store, or a place in one")
        self._store_path = (
            store_path if isinstance(store_path, StorePath) else store_from(store_path)
        )
        self._config = array_config(config)
        self._shared = SharedMetadata(found)
        self._state: State | None = None
        self._batch: Any = None
        """A `Batch` that this handle reads and writes through."""

    def __class_getitem__(cls, _: object) -> type[Self]:
        """Return the class: zarr-python's is generic in its metadata."""
        return cls

    # --- state -------------------------------------------------------------------------------------

    def _current(self) -> State:
        """Return the state that belongs to the metadata shared by the handles of this node."""
        state = self._state
        metadata = self._shared.metadata
        if state is None or state.metadata is not metadata:
            shared, config = self._shared, self._config
            cached = config.chunk_cache is not None or config.chunk_cache_bytes
            state = make_state(
                self._store_path,
                metadata,
                config,
                travelled=shared.travelled,
                cache=shared.cache(config) if cached else None,
            )
            if self._batch is not None:
                state = state._replace(one_chunk=None)  # the short way does not look at the batch
            self._state = state
        return state

    def _publish(self, metadata: ArrayMetadata) -> None:
        self._shared.metadata = metadata
        if self._shared.on_change is not None:
            self._shared.on_change(metadata)

    def _update(self, change: Callable[[ArrayMetadata], ArrayMetadata]) -> ArrayMetadata:
        """Store changed metadata; return what was stored."""
        self._check_writable()
        metadata = update_node(self._store_path, self.metadata, change)
        self._publish(metadata)
        return metadata

    @property
    def _current_attributes(self) -> Mapping[str, Any]:
        return self.metadata._attributes

    def _change_attributes(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._update(lambda old: old.update_attributes(change(dict(old._attributes))))

    def _flush(self) -> None:
        """Store what a batch holds, before stored chunks are looked at or removed."""
        if self._batch is not None:
            self._batch.flush()

    def _twin_lane(self) -> tuple[bool, int | None, object]:
        return bool(self._store_path.store.high_latency), self._config.async_limit, self._shared

    # --- the chunks of a selection -----------------------------------------------------------------

    def _get(
        self,
        make_plan: Callable[[Any, ChunkGrid], Plan],
        selection: Any,
        out: Any = None,
        fields: Fields = None,
        prototype: Any = None,
        seconds: float | None = None,
    ) -> Any:
        """Run the plan of a selection; the result has the plan's result shape."""
        if seconds is not None:
            with timeout(seconds):
                return self._get(make_plan, selection, out, fields, prototype)
        state = self._current()
        if fields is not None or state.space.dtype.names is not None:
            selection, fields = with_fields(selection, fields)
        plan = make_plan(selection, state.metadata.chunk_grid)
        dtype, inner = field_dtype(state.space.dtype, fields)
        shape = plan.result_shape + inner
        if out is None and prototype is None:
            try:
                returned = target = np.empty(shape, dtype, state.order)
            except (MemoryError, ValueError):
                # raises, with the sizes, unless there is memory again
                returned = target = values.empty_result(shape, dtype, state.order)
            if target.nbytes > values.LARGE_RESULT:
                values.check_memory("a result", shape, dtype)
        else:
            returned, target = destination(out, prototype, shape, dtype, state.order)
        view = target if plan.shape == plan.result_shape else target.reshape(plan.shape + inner)
        read = loop.read if self._batch is None else self._batch.read
        read(state.space, plan, view, fields)
        if view.size and not np.may_share_memory(view, target):
            target[...] = view.reshape(target.shape)
        return returned

    def _set(
        self,
        make_plan: Callable[[Any, ChunkGrid], Plan],
        selection: Any,
        value: Any,
        fields: Fields = None,
        seconds: float | None = None,
    ) -> None:
        if seconds is not None:
            with timeout(seconds):
                self._set(make_plan, selection, value, fields)
            return
        self._check_writable()
        state = self._current()
        if fields is not None or state.space.dtype.names is not None:
            selection, fields = with_fields(selection, fields)
        plan = make_plan(selection, state.metadata.chunk_grid)
        checked = fitted_to(plan, value, state.space.dtype, fields, state.space.check)
        write = loop.write if self._batch is None else self._batch.write
        write(state.space, plan, checked, fields)

    # --- what it is --------------------------------------------------------------------------------

    @property
    def metadata(self) -> ArrayMetadata:
        """What the array's documents say."""
        return self._shared.metadata

    @property
    def config(self) -> ArrayConfig:
        """How this handle reads and writes."""
        return self._config

    @property
    def shape(self) -> Shape:
        """Shape."""
        return self._shared.metadata.shape

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
        check_listed(max(self.cdata_shape, default=0))
        return tuple(
            tuple(min(size, total - start) for total in outer for start in range(0, total, size))
            for outer, size in zip(self.write_chunk_sizes, inner, strict=True)
        )

    @property
    def write_chunk_sizes(self) -> tuple[Shape, ...]:
        """Per dimension the lengths of what is stored under one key, within the array."""
        return tuple(axis.sizes() for axis in self.metadata.chunk_grid.axes)

    @property
    def cdata_shape(self) -> Shape:
        """Number of chunks along each dimension."""
        grid, sharding = self.metadata.chunk_grid, self.metadata.sharding
        if sharding is None:
            return grid.counts
        inner = sharding.configuration["chunk_shape"]
        return tuple(axis.count_inside(size) for axis, size in zip(grid.axes, inner, strict=True))

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
        return self.metadata.order if self.metadata.zarr_format == 2 else self.config.order

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
        return next((c for c in self._codecs() if isinstance(c, ArrayBytesCodec)), None)

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
        codecs = codecs_from_configs(self.metadata.chain)
        if self.metadata.sharding is not None:
            return codecs[0].codecs  # type: ignore[attr-defined, no-any-return]
        return codecs


def _numcodecs_objects(configs: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    return tuple(numcodecs_object(config) for config in configs)
