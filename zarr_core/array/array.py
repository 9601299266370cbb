"""`Array`: a chunked array in a store, read and written with NumPy's indexing.

Every operation is a plain synchronous method; the awaitable twins at the end of the class run the
same method in a worker thread. An `Array` does no I/O until it is indexed or changed.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from operator import index as to_index
from typing import Any, ClassVar, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from zarr_core.array.asynchronous import (
    AsyncArray,
    AsyncBlockIndex,
    AsyncOIndex,
    AsyncVIndex,
    show_awaited,
)
from zarr_core.array.batch import Batch
from zarr_core.array.chunk_parts import ChunkPart, chunk_parts, count_stored
from zarr_core.array.explain import Explanation, explain
from zarr_core.array.handle import Handle
from zarr_core.array.many import awaited
from zarr_core.array.resizing import append, resize
from zarr_core.array.state import this_process
from zarr_core.array.views import BlockIndex, Indexable, OIndex, VIndex
from zarr_core.chunks import loop
from zarr_core.codecs.checks import flat_bytes
from zarr_core.config import ArrayConfig, ArrayConfigLike, array_config
from zarr_core.errors import ArrayIndexError
from zarr_core.hierarchy.info import ArrayInfo, shown_type
from zarr_core.hierarchy.stored_nodes import delete_keys, read_array
from zarr_core.indexing.plan import selected_shape
from zarr_core.indexing.selection import (
    Fields,
    plan_basic,
    plan_blocks,
    plan_coordinates,
    plan_mask,
    plan_orthogonal,
    plan_selection,
    single_part,
    split_fields,
)
from zarr_core.indexing.values import (
    fitted,
    only_ints,
)
from zarr_core.metadata import ArrayMetadata
from zarr_core.metadata.chunk_grids import Coords, Shape
from zarr_core.metadata.documents import ZarrFormat
from zarr_core.storage import StoreLike, StorePath, store_from
from zarr_core.threads.twins import async_twin

NDArray: TypeAlias = npt.NDArray[Any]


class Array(Indexable, Handle):
    """A Zarr array.

    Usually made by `create_array`, `open_array` and the like. This constructor does no I/O.

    Parameters
    ----------
    metadata
        What the array's documents say; see `zarr_core.metadata.ArrayMetadata`.
    store_path
        Where the array is.
    config
        How it is read and written; the process-wide options fill the gaps.

    Examples
    --------
    >>> a = zarr.create_array({}, data=np.arange(12).reshape(3, 4), chunks=(2, 2))
    >>> a[1, ::2]
    array([4, 6])
    >>> a[:, 0] = 0
    >>> a.shape, a.chunks, a.nchunks
    ((3, 4), (2, 2), 4)
    """

    @staticmethod
    def open(
        store: StoreLike,
        zarr_format: ZarrFormat | None = None,
        *,
        config: ArrayConfigLike | None = None,
    ) -> "Array":
        """Open an existing array; raise `ArrayNotFoundError` if there is none.

        >>> zarr.save("opened.zarr", np.arange(3))
        >>> zarr.Array.open("opened.zarr")[:]
        array([0, 1, 2])
        """
        place = store_from(store)
        return Array(read_array(place, zarr_format), place, config)

    @staticmethod
    def from_dict(
        store_path: StorePath, data: Mapping[str, Any], config: ArrayConfigLike | None = None
    ) -> "Array":
        """Return the array that a metadata document describes; no I/O.

        >>> a = zarr.ones(3)
        >>> zarr.Array.from_dict(a.store_path, a.metadata.to_dict())[:]
        array([1., 1., 1.])
        """
        return Array(ArrayMetadata.from_dict(data), store_path, config)

    # --- state -------------------------------------------------------------------------------------

    def refresh(self) -> "Array":
        """Read the metadata again, for a node that others may have changed; return this array.

        >>> store = {}
        >>> a, other = zarr.zeros(2, store=store), zarr.open_array(store)
        >>> other.resize(3)
        >>> a.shape, a.refresh().shape
        ((2,), (3,))
        """
        self._shared.metadata = read_array(self._store_path, self.metadata.zarr_format)
        return self

    def with_config(self, config: ArrayConfigLike) -> "Array":
        """Return a handle with other options; it shares this one's metadata, now and later.

        >>> a = zarr.create_array({}, shape=2, fill_value=0, dtype="i4")
        >>> a.with_config({"write_empty_chunks": True})[:] = 0
        >>> a.nchunks_initialized
        1
        """
        other = Array(self.metadata, self._store_path, array_config(config, self._config))
        other._shared = self._shared
        return other

    # --- what it is --------------------------------------------------------------------------------

    @property
    def async_array(self) -> AsyncArray:
        """This array for programs that await the methods of zarr-python's `AsyncArray`."""
        return AsyncArray(self)

    _async_array = async_array

    @property
    def shape(self) -> Shape:
        """Shape; assigning resizes the array."""
        return self._shared.metadata.shape

    @shape.setter
    def shape(self, shape: Sequence[int]) -> None:
        self.resize(shape)

    @property
    def info(self) -> ArrayInfo:
        """What is known without I/O, as a table.

        >>> zarr.ones((4, 4), chunks=(2, 2)).info
        Type        : Array
        Zarr format : 3
        Data type   : float64
        ...
        """
        return ArrayInfo.of(self)

    def info_complete(self) -> ArrayInfo:
        """Return a table that also says how much is stored.

        >>> dict(zarr.array([1, 2, 3]).info_complete().rows())["Chunks initialized"]
        '1/1'
        """
        return ArrayInfo.of(self, self._nchunks_initialized(), self.nbytes_stored())

    def _nchunks_initialized(self) -> int:
        return count_stored(self._store_path, self.metadata)

    @property
    def nchunks_initialized(self) -> int:
        """Number of chunks that are stored; lists the store."""
        return self._nchunks_initialized()

    def nbytes_stored(self) -> int:
        """Return the size in bytes of everything stored for the array.

        >>> a = zarr.zeros((1000, 1000))
        >>> a.nbytes, a.nbytes_stored() < 1000  # its document
        (8000000, True)
        """
        return self._store_path.store.getsize_prefix(self.path)

    def explain(self, selection: Any = ...) -> Explanation:
        """Return what `array[selection]` costs, with one sentence of advice; shown as a table.

        Up to 32 stored chunks, spread over the selection, are read to find out; of a selection of
        more the numbers of requests and stored bytes are what that comes to for all.

        >>> a = zarr.array(np.arange(10), chunks=3)
        >>> dict(a.explain(slice(0, 4)).rows())["Chunks"]
        '2'
        """
        return explain(self, selection)

    # --- reading -----------------------------------------------------------------------------------

    def __getitem__(self, selection: Any) -> Any:
        """Return the selected elements as a new NumPy array; see `getitem`."""
        state = self._state
        if state is None or state.metadata is not self._shared.metadata:
            state = self._current()
        sizes = state.one_chunk
        part = None if sizes is None else single_part(selection, state.shape, sizes)
        if part is not None:
            result = loop.read_one(state.space, part, state.order)
        else:
            result = self._get(plan_selection, selection)
        return result if result.ndim or only_ints(selection) else result[()]

    def getitem(
        self,
        selection: Any,
        *,
        out: Any = None,
        fields: Fields = None,
        prototype: Any = None,
        timeout: float | None = None,
    ) -> Any:
        """Return the elements that `array[selection]` selects.

        Ints, slices (with any step), an ellipsis and new axes (None) select as in NumPy. A boolean array of the
        array's shape is a mask. Integer arrays for all dimensions select single elements; mixed
        with slices they are orthogonal. Names of fields may be part of the selection.

        Raises `ArrayIndexError` or `BoundsCheckError` (both `IndexError`) for a selection that does
        not fit, `ValueError` for an `out` that does not, `ChunkDecodeError` for damaged chunks.

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
        timeout
            Seconds after which no request starts any more and `OperationTimeoutError` is raised.

        Examples
        --------
        >>> a = zarr.array([[1, 2], [3, 4]])
        >>> a.getitem((slice(None), 0), timeout=10)
        array([1, 3])
        >>> out = np.empty(2, a.dtype)
        >>> a.getitem(1, out=out) is out
        True
        """
        if out is None and fields is None and prototype is None and timeout is None:
            return self[selection]
        result = self._get(plan_selection, selection, out, fields, prototype, timeout)
        if out is None and prototype is None and not result.ndim and not only_ints(selection):
            return result[()]
        return result

    def get_basic_selection(
        self,
        selection: Any = ...,
        *,
        out: Any = None,
        prototype: Any = None,
        fields: Fields = None,
        timeout: float | None = None,
    ) -> Any:
        """Return a selection of ints, slices and an ellipsis; see `getitem`.

        Ints for all dimensions give a scalar.

        >>> zarr.array([1, 2, 3]).get_basic_selection(slice(1, None))
        array([2, 3])
        """
        result = self._get(plan_basic, selection, out, fields, prototype, timeout)
        return result if result.ndim or out is not None or prototype is not None else result[()]

    def get_orthogonal_selection(
        self,
        selection: Any,
        *,
        out: Any = None,
        fields: Fields = None,
        prototype: Any = None,
        timeout: float | None = None,
    ) -> Any:
        """Return a selection in which each dimension has an int, a slice, or 1-D indices or bools.

        Parameters and errors are those of `getitem`.

        >>> zarr.array([[1, 2], [3, 4]]).get_orthogonal_selection(([1, 0], slice(None)))
        array([[3, 4],
               [1, 2]])
        """
        return self._get(plan_orthogonal, selection, out, fields, prototype, timeout)

    def get_coordinate_selection(
        self,
        selection: Any,
        *,
        out: Any = None,
        fields: Fields = None,
        prototype: Any = None,
        timeout: float | None = None,
    ) -> Any:
        """Return single elements, given by one integer array per dimension, broadcast together.

        Parameters and errors are those of `getitem`.

        >>> zarr.array([[1, 2], [3, 4]]).get_coordinate_selection(([0, 1], [1, 0]))
        array([2, 3])
        """
        return self._get(plan_coordinates, selection, out, fields, prototype, timeout)

    def get_mask_selection(
        self,
        mask: Any,
        *,
        out: Any = None,
        fields: Fields = None,
        prototype: Any = None,
        timeout: float | None = None,
    ) -> Any:
        """Return the elements where a boolean array of the array's shape is true, in C order.

        Parameters and errors are those of `getitem`.

        >>> zarr.array([1, 2, 3]).get_mask_selection(np.array([True, False, True]))
        array([1, 3])
        """
        return self._get(plan_mask, mask, out, fields, prototype, timeout)

    def get_block_selection(
        self,
        selection: Any,
        *,
        out: Any = None,
        fields: Fields = None,
        prototype: Any = None,
        timeout: float | None = None,
    ) -> Any:
        """Return whole chunks, given by ints and slices over the chunks; ints keep the dimension.

        Parameters and errors are those of `getitem`.

        >>> zarr.array(np.arange(6), chunks=2).get_block_selection(1)
        array([2, 3])
        """
        return self._get(plan_blocks, selection, out, fields, prototype, timeout)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> NDArray:
        """Return the whole array; `copy=False` raises, as data is always read."""
        if copy is False:
            raise ValueError("a Zarr array cannot become a NumPy array without a copy")
        result: NDArray = np.asarray(self[...])
        return result if dtype is None else result.astype(dtype, copy=False)

    def __len__(self) -> int:
        """Return the length of the first dimension."""
        if not self.shape:
            raise TypeError("an array without dimensions has no length")
        return self.shape[0]

    def __bool__(self) -> bool:
        """Return True, as for any object that is there: whether elements are true is not read."""
        return True

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        """Return the whole array for `polars.Series(array)`, `pyarrow.array(array)` and others."""
        import pyarrow as pa

        return pa.array(self[...]).__arrow_c_array__(requested_schema)

    def __iter__(self) -> Iterator[Any]:
        """Yield the elements along the first dimension; every chunk is read once."""
        if not self.ndim:
            return
        axis = self.metadata.chunk_grid.axes[0]
        for k in range(axis.count):
            start = axis.start(k)
            slab = self[start : start + axis.span(k)]
            for i in range(len(slab)):
                yield slab[i, ...].copy()

    # --- writing -----------------------------------------------------------------------------------

    def __setitem__(self, selection: Any, value: Any) -> None:
        """Set the selected elements; see `setitem`."""
        state = self._state
        if state is None or state.metadata is not self._shared.metadata:
            state = self._current()
        space, sizes = state.space, state.one_chunk
        part = None if sizes is None else single_part(selection, state.shape, sizes)
        if part is None:
            self._set(plan_selection, selection, value)
            return
        self._check_writable()
        loop.write_one(space, part, fitted(value, space.dtype, selected_shape(part.chunk)))

    def setitem(
        self,
        selection: Any,
        value: Any,
        *,
        fields: Fields = None,
        prototype: Any = None,
        timeout: float | None = None,
    ) -> None:
        """Set the elements that `array[selection] = value` sets, exactly as NumPy would.

        The value is broadcast and converted as in a NumPy assignment; with duplicate indices the
        last one wins. A value that does not fit raises `ValueError` before anything is written.
        Chunks that are only partly covered are read, changed and stored under their lock.

        Raises `ReadOnlyError` for a read-only array, `ArrayIndexError` for a selection that does
        not fit. The awaited twin copies values up to 1 MB; a larger one must not be changed before
        the await returns.

        >>> a = zarr.zeros(4)
        >>> a.setitem(slice(1, 3), [5, 6], timeout=10)
        >>> a[:]
        array([0., 5., 6., 0.])
        """
        if fields is None and timeout is None:
            self[selection] = value
        else:
            self._set(plan_selection, selection, value, fields, timeout)

    def set_basic_selection(
        self,
        selection: Any,
        value: Any,
        *,
        fields: Fields = None,
        prototype: Any = None,
        timeout: float | None = None,
    ) -> None:
        """Set a selection of ints, slices and an ellipsis; see `setitem`.

        >>> a = zarr.zeros(3)
        >>> a.set_basic_selection(slice(2), 1)
        >>> a[:]
        array([1., 1., 0.])
        """
        self._set(plan_basic, selection, value, fields, timeout)

    def set_orthogonal_selection(
        self,
        selection: Any,
        value: Any,
        *,
        fields: Fields = None,
        prototype: Any = None,
        timeout: float | None = None,
    ) -> None:
        """Set an orthogonal selection; see `get_orthogonal_selection` and `setitem`.

        >>> a = zarr.zeros((2, 3))
        >>> a.set_orthogonal_selection((slice(None), [0, 2]), 1)
        >>> a[0]
        array([1., 0., 1.])
        """
        self._set(plan_orthogonal, selection, value, fields, timeout)

    def set_coordinate_selection(
        self,
        selection: Any,
        value: Any,
        *,
        fields: Fields = None,
        prototype: Any = None,
        timeout: float | None = None,
    ) -> None:
        """Set single elements; see `get_coordinate_selection` and `setitem`.

        >>> a = zarr.zeros((2, 2))
        >>> a.set_coordinate_selection(([0, 1], [0, 1]), [5, 6])
        >>> a[0], a[1]
        (array([5., 0.]), array([0., 6.]))
        """
        self._set(plan_coordinates, selection, value, fields, timeout)

    def set_mask_selection(
        self,
        mask: Any,
        value: Any,
        *,
        fields: Fields = None,
        prototype: Any = None,
        timeout: float | None = None,
    ) -> None:
        """Set the elements where a mask is true; see `get_mask_selection` and `setitem`.

        >>> a = zarr.zeros(3)
        >>> a.set_mask_selection(np.array([True, False, True]), 7)
        >>> a[:]
        array([7., 0., 7.])
        """
        self._set(plan_mask, mask, value, fields, timeout)

    def set_block_selection(
        self,
        selection: Any,
        value: Any,
        *,
        fields: Fields = None,
        prototype: Any = None,
        timeout: float | None = None,
    ) -> None:
        """Set whole chunks; see `get_block_selection` and `setitem`.

        >>> a = zarr.zeros(6, chunks=2)
        >>> a.set_block_selection(2, 1)
        >>> a[:]
        array([0., 0., 0., 0., 1., 1.])
        """
        self._set(plan_blocks, selection, value, fields, timeout)

    def batch(self) -> "Batch[Array]":
        """Return a batch: what is written through it in its `with` block is stored at the end.

        Each chunk or shard is changed once. Reads through the batch see what was written; reads
        through other handles do not yet. An error in the block discards what is not stored.
        More than `config.batch_bytes` is not kept: what was written to longest ago is stored early.

        >>> a = zarr.zeros((4, 2), chunks=(2, 2))
        >>> with a.batch() as batch:
        ...     for k in range(4):
        ...         batch[k] = k  # each chunk is stored once, at the end
        >>> a[:, 0]
        array([0., 1., 2., 3.])
        """
        batch = Batch(self.with_config(self._config), self._config.batch_bytes)
        batch.array._batch = batch
        batch.array._state = self._current()._replace(one_chunk=None)
        return batch

    # --- changing shape and attributes ---------------------------------------------------------------

    def resize(
        self, new_shape: int | Sequence[int], *more: Any, delete_outside_chunks: bool = True
    ) -> None:
        """Change the shape; elements that are still inside keep their place.

        When the array shrinks, the new shape is stored first, then chunks outside are removed and
        the rest of the chunks at the boundary is reset to the fill value, so that elements that
        come back with a later resize are fill. `delete_outside_chunks=False` does neither. If that
        was interrupted, the same call again removes the rest.

        Raises `ConflictError` when another handle made the array larger and this call would cut off
        what it added.

        >>> a = zarr.ones((2, 2))
        >>> a.resize((3, 1))
        >>> a[:].tolist()
        [[1.0], [1.0], [1.0]]
        """
        self._flush()
        resize(self, new_shape, *more, delete_outside_chunks=delete_outside_chunks)

    def append(self, data: npt.ArrayLike, axis: int = 0) -> Shape:
        """Add data at the end of a dimension; return the new shape.

        The data has the array's shape but for `axis`. Handles that append at the same time do not
        overwrite each other. When writing fails, the old shape comes back (see the guarantees).

        >>> a = zarr.array([[1, 2]])
        >>> a.append([[3, 4], [5, 6]])
        (3, 2)
        """
        return append(self, data, axis)

    def update_attributes(self, new_attributes: Mapping[str, Any]) -> "Array":
        """Set attributes, keeping the others; return this array.

        >>> zarr.zeros(2).update_attributes({"units": "m"}).attrs.asdict()
        {'units': 'm'}
        """
        self.attrs.update(new_attributes)
        return self

    # --- chunks ------------------------------------------------------------------------------------

    def chunk_parts(self, selection: Any = ...) -> Iterator[ChunkPart]:
        """Yield the stored chunks (or shards) that `array[selection]` touches, without I/O.

        >>> a = zarr.zeros((4, 4), chunks=(2, 2))
        >>> [part.key for part in a.chunk_parts((0, slice(1, 4)))]
        ['c/0/0', 'c/0/1']
        """
        return chunk_parts(self._current(), split_fields(selection)[0])

    def _chunk_key(self, coords: Sequence[int]) -> tuple[Coords, str]:
        counts = self.metadata.chunk_grid.counts
        self._flush()
        at = tuple(map(to_index, coords))
        if len(at) != len(counts) or not all(0 <= k < n for k, n in zip(at, counts, strict=True)):
            raise ArrayIndexError(f"chunk {at} is outside the grid of {counts} chunks")
        return at, self._current().space.key(at)

    def read_chunk(self, coords: Sequence[int]) -> NDArray:
        """Return one stored chunk (a whole shard) at its full shape, beyond the array's end too.

        >>> zarr.array(np.arange(5), chunks=3).read_chunk((1,))  # at its full shape
        array([3, 4, 0])
        """
        return loop.read_whole(self._current().space, self._chunk_key(coords)[0])

    def write_chunk(self, coords: Sequence[int], value: npt.ArrayLike) -> None:
        """Store one chunk (a whole shard); `value` has its full shape or is broadcast to it.

        >>> a = zarr.zeros(4, chunks=2)
        >>> a.write_chunk((1,), [7, 8])
        >>> a[:]
        array([0., 0., 7., 8.])
        """
        self._check_writable()
        at, _ = self._chunk_key(coords)
        space = self._current().space
        chunk = np.empty(space.grid.stored_shape(at), space.dtype)
        chunk[...] = fitted(value, space.dtype, chunk.shape, space.check)
        loop.write_whole(space, at, chunk)

    def read_encoded_chunk(self, coords: Sequence[int]) -> bytes | None:
        """Return the stored bytes of one chunk, or None when it is not stored.

        >>> a = zarr.create_array({}, data=np.arange(4, dtype="u1"), chunks=2, compressors=None)
        >>> list(a.read_encoded_chunk((1,)))
        [2, 3]
        """
        at, key = self._chunk_key(coords)
        with self._current().space.noting(at):
            data = self._store_path.store.get(key)
        return None if data is None else bytes(data)

    def encode_chunk(self, value: npt.ArrayLike, coords: Sequence[int] | None = None) -> bytes:
        """Return the bytes that would be stored of a chunk (a whole shard); no I/O.

        `value` has the full shape of the chunk at `coords` (the first one by default), or is
        broadcast to it. Raises `ChunkEncodeError`.

        >>> a = zarr.create_array({}, shape=4, chunks=2, dtype="u1", compressors=None)
        >>> list(a.encode_chunk([5, 6]))
        [5, 6]
        """
        at, _ = self._chunk_key((0,) * self.ndim if coords is None else coords)
        space = self._current().space
        chunk = np.empty(space.grid.stored_shape(at), space.dtype)
        chunk[...] = fitted(value, space.dtype, chunk.shape, space.check)
        try:
            return bytes(flat_bytes(space.chain_for(at).encode(chunk)))
        except Exception as error:
            raise space.encode_error(at, error) from error

    def decode_chunk(self, coords: Sequence[int], data: bytes | memoryview) -> NDArray:
        """Return what the stored bytes of the chunk (a whole shard) at `coords` hold; no I/O.

        The result has the full shape of the chunk. Raises `ChunkDecodeError`.

        >>> a = zarr.create_array({}, shape=4, chunks=2, dtype="u1", compressors=None)
        >>> a.decode_chunk((0,), bytes([5, 6]))
        array([5, 6], dtype=uint8)
        """
        at, _ = self._chunk_key(coords)
        space = self._current().space
        try:
            return np.array(space.chain_for(at).decode(data))
        except Exception as error:
            raise space.decode_error(at, data, error) from error

    def delete_chunk(self, coords: Sequence[int]) -> None:
        """Remove one stored chunk; it reads as the fill value then.

        >>> a = zarr.ones(4, chunks=2, dtype="i4")
        >>> a[:] = 5
        >>> a.delete_chunk((0,))
        >>> a[:]
        array([1, 1, 5, 5], dtype=int32)
        """
        self._check_writable()
        at, key = self._chunk_key(coords)
        with self._current().space.noting(at):
            delete_keys(self._store_path.store, [key])

    # --- as a Python object ------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Array):
            return NotImplemented
        return (
            self._store_path == other._store_path
            and self.metadata == other.metadata
            and self._config == other._config
        )

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        shared = self._shared
        made_in = None if shared.travelled else this_process()
        return _restore, (self.metadata, self._store_path, self._config, shared.on_change, made_in)

    def __dask_tokenize__(self) -> Hashable:
        return (
            "zarr_core.Array",
            str(self._store_path),
            repr(self.metadata.to_dict()),
            repr(self._config),
        )

    def __repr__(self) -> str:
        return f"<Array {self._store_path} shape={self.shape} dtype={shown_type(self.metadata)}>"

    def _repr_html_(self) -> str:
        return self.info._repr_html_()

    # --- twins: each awaits the method of its name in a worker thread ----------------------------------

    open_async: Final = staticmethod(async_twin(open))
    refresh_async: Final = async_twin(refresh)
    getitem_async: Final = async_twin(getitem, private=True, read=awaited(plan_selection))
    get_basic_selection_async: Final = async_twin(
        get_basic_selection, private=True, read=awaited(plan_basic)
    )
    get_orthogonal_selection_async: Final = async_twin(
        get_orthogonal_selection, private=True, read=awaited(plan_orthogonal)
    )
    get_coordinate_selection_async: Final = async_twin(
        get_coordinate_selection, private=True, read=awaited(plan_coordinates)
    )
    get_mask_selection_async: Final = async_twin(
        get_mask_selection, private=True, read=awaited(plan_mask)
    )
    get_block_selection_async: Final = async_twin(
        get_block_selection, private=True, read=awaited(plan_blocks)
    )
    setitem_async: Final = async_twin(setitem, snapshot="value")
    set_basic_selection_async: Final = async_twin(set_basic_selection, snapshot="value")
    set_orthogonal_selection_async: Final = async_twin(set_orthogonal_selection, snapshot="value")
    set_coordinate_selection_async: Final = async_twin(set_coordinate_selection, snapshot="value")
    set_mask_selection_async: Final = async_twin(set_mask_selection, snapshot="value")
    set_block_selection_async: Final = async_twin(set_block_selection, snapshot="value")
    resize_async: Final = async_twin(resize)
    append_async: Final = async_twin(append, snapshot="data")
    update_attributes_async: Final = async_twin(update_attributes)
    info_complete_async: Final = async_twin(info_complete)
    explain_async: Final = async_twin(explain)
    nchunks_initialized_async: Final = async_twin(_nchunks_initialized)
    nbytes_stored_async: Final = async_twin(nbytes_stored)
    read_chunk_async: Final = async_twin(read_chunk, private=True)
    write_chunk_async: Final = async_twin(write_chunk, snapshot="value")
    read_encoded_chunk_async: Final = async_twin(read_encoded_chunk, private=True)
    delete_chunk_async: Final = async_twin(delete_chunk)


for _awaited, _kind in (
    (AsyncArray, Array),
    (AsyncOIndex, OIndex),
    (AsyncVIndex, VIndex),
    (AsyncBlockIndex, BlockIndex),
):
    show_awaited(_awaited, _kind)


def _restore(
    metadata: ArrayMetadata,
    place: StorePath,
    config: ArrayConfig,
    on_change: Callable[[ArrayMetadata], None] | None,
    made_in: tuple[int, str] | None = None,
) -> Array:
    """Return an unpickled array, which knows whether it has come from another process."""
    array = Array(metadata, place, config)
    array._shared.on_change = on_change
    array._shared.travelled = made_in != this_process()
    return array
