"""Arrays are made here: `create_array`, `create`, `open_array`, `zeros` and the like."""

from collections.abc import Iterable, Mapping
from inspect import signature
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from zarr_core.array.array import Array
from zarr_core.array.asynchronous import AsyncArray
from zarr_core.array.regions import copy_data
from zarr_core.codecs import codec_from_dict
from zarr_core.codecs.base import ArrayArrayCodec, BytesBytesCodec, Codec
from zarr_core.config import ArrayConfig, ArrayConfigLike, MemoryOrder, array_config, config
from zarr_core.errors import (
    ContainsArrayError,
    NodeNotFoundError,
    ReadOnlyError,
    warn,
    warn_ignored,
)
from zarr_core.hierarchy.create import (
    DEFAULT_FILL_VALUE,
    ChunksLike,
    CodecLike,
    CodecsLike,
    ShapeLike,
    ShardsLike,
    as_shape,
    build_metadata,
    create_node,
)
from zarr_core.hierarchy.stored_nodes import read_array
from zarr_core.indexing.values import unmasked
from zarr_core.metadata import ArrayMetadata
from zarr_core.metadata.chunk_grids import BoundedAxis, RegularAxis
from zarr_core.metadata.data_types import DataTypeLike, parse_dtype
from zarr_core.metadata.documents import JSON, ZarrFormat
from zarr_core.storage import AccessMode, StoreLike, StorePath, store_from
from zarr_core.threads.twins import async_twin

__all__ = [
    "array",
    "array_async",
    "asarray",
    "asarray_async",
    "create",
    "create_array",
    "create_array_async",
    "create_async",
    "empty",
    "empty_async",
    "empty_like",
    "empty_like_async",
    "from_array",
    "from_array_async",
    "full",
    "full_async",
    "full_like",
    "full_like_async",
    "ones",
    "ones_async",
    "ones_like",
    "ones_like_async",
    "open_array",
    "open_array_async",
    "open_like",
    "open_like_async",
    "zeros",
    "zeros_async",
    "zeros_like",
    "zeros_like_async",
]


def place_and_mode(
    store: StoreLike,
    path: str | None,
    mode: AccessMode | None,
    storage_options: dict[str, Any] | None,
) -> tuple[StorePath, AccessMode]:
    """Return a place, and the mode: `"r"` for stores that are read-only, else `"a"` by default."""
    place = store_from(store, path=path, mode=mode, storage_options=storage_options)
    return place, mode or ("r" if place.read_only else "a")


def create_array_at(
    place: StorePath,
    metadata: ArrayMetadata,
    options: ArrayConfig,
    *,
    overwrite: bool,
    below: StorePath | None = None,
    source: Any = None,
) -> Array:
    """Create an array whose metadata is known; unknown or unfitting codecs raise before.

    So does a `source` of its data that would be overwritten.
    """
    array = Array(metadata, place, options)
    check_codecs(array)
    create_node(place, metadata, overwrite=overwrite, below=below, source=source)
    return array


def check_codecs(array: Array) -> None:
    """Raise `UnknownCodecError`, or what codecs refuse, for chunks of every shape there is."""
    metadata = array.metadata
    space = array._current().space
    space.chain_for((0,) * metadata.ndim)
    for dim, axis in enumerate(metadata.chunk_grid.axes):
        if not isinstance(axis, RegularAxis) and axis.count:
            # Not every length has to be a multiple of a shard's.
            n = axis.count
            chunks = (0, n - 1) if isinstance(axis, BoundedAxis) else range(n)
            for k in {axis.stored_size(k): k for k in chunks}.values():
                space.chain_for(tuple(k * (d == dim) for d in range(metadata.ndim)))


def create_array(
    store: StoreLike,
    *,
    name: str | None = None,
    shape: ShapeLike | None = None,
    dtype: DataTypeLike | None = None,
    data: npt.ArrayLike | None = None,
    chunks: ChunksLike = "auto",
    shards: ShardsLike = None,
    filters: CodecsLike = "auto",
    compressors: CodecsLike = "auto",
    serializer: CodecLike = "auto",
    fill_value: Any = DEFAULT_FILL_VALUE,
    order: Literal["C", "F"] | None = None,
    zarr_format: ZarrFormat | None = 3,
    attributes: Mapping[str, JSON] | None = None,
    chunk_key_encoding: Any = None,
    dimension_names: Iterable[str | None] | None = None,
    storage_options: dict[str, Any] | None = None,
    overwrite: bool = False,
    config: ArrayConfigLike | None = None,
    write_data: bool = True,
) -> Array:
    """Create an array and the groups above it.

    Raises `MetadataValidationError` (a `ValueError`) for what cannot be expressed; nothing is
    stored then.

    Parameters
    ----------
    store
        Where: a path, URL, dictionary or store.
    name
        Path in the store; the array is at the root without it.
    shape, dtype
        Of the array; taken from `data` when that is given.
    data
        What the array is filled with, unless `write_data` is false.
    chunks
        Length of chunks per dimension, -1 for the whole dimension, lists of lengths for a
        rectilinear grid (one list per dimension), or `"auto"`.
    shards
        Shape of shards, which hold several chunks under one key; `"auto"` chooses one.
    filters, serializer, compressors
        Codecs: array to array, array to bytes, bytes to bytes. None means none.
    fill_value
        Value of elements that were never written.
    order
        Memory layout in stored chunks; format 2 only.
    zarr_format
        3 or 2.
    attributes, dimension_names
        User attributes (JSON), and a name or None per dimension.
    chunk_key_encoding
        `{"name": "default" or "v2", "separator": "/" or "."}`, or an extension: `suffix`, `fanout`,
        `template`.
    storage_options
        For stores that fsspec opens.
    overwrite
        Remove what is there first. Without it an existing node raises `ContainsArrayError` or
        `ContainsGroupError`.
    config
        How this handle reads and writes; see `ArrayConfig`.

    Examples
    --------
    >>> a = zarr.create_array({}, shape=(100, 100), chunks=(10, 50), dtype="f4", fill_value=-1)
    >>> a[0, :3]
    array([-1., -1., -1.], dtype=float32)
    >>> zarr.create_array("b.zarr", data=np.arange(6), chunks=2, overwrite=True)[2:4]
    array([2, 3])
    """
    given = without(locals(), "store", "name", "storage_options")
    place = store_from(store, path=name, storage_options=storage_options)
    given.update(zarr_format=zarr_format or default_format())
    return make_array(place, **given)


def without(given: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return arguments by name, some left out: `locals()` at the start of a function are all."""
    return {name: value for name, value in given.items() if name not in names}


def make_array(
    place: StorePath,
    *,
    shape: ShapeLike | None,
    dtype: Any,
    data: npt.ArrayLike | None,
    overwrite: bool,
    config: ArrayConfigLike | None,
    write_data: bool,
    below: StorePath | None = None,
    **described: Any,
) -> Array:
    """Create an array at a place; see `create_array`. `below` is a group known to be above it."""
    values = as_values(data, dtype)
    if values is not None:
        if shape is not None and as_shape(shape) != values.shape:
            raise ValueError(f"data has shape {values.shape}, shape says {shape}")
        shape = values.shape
        dtype = _dtype_of(values) if dtype is None else dtype
    if shape is None or dtype is None:
        raise ValueError("shape and dtype are needed when there is no data")
    metadata, options = _described(config, shape=shape, dtype=dtype, **described)
    source = values if write_data else None
    array = create_array_at(
        place, metadata, options, overwrite=overwrite, below=below, source=source
    )
    if values is not None and write_data:
        copy_data(values, array)
    return array


def _described(
    config: ArrayConfigLike | None, **described: Any
) -> tuple[ArrayMetadata, ArrayConfig]:
    """Return the metadata of an array as a user describes it, and the options of its handle."""
    options = _with_write_order(array_config(config), described["serializer"])
    if described["zarr_format"] == 2 and described["order"] is None:
        described["order"] = options.order
    return build_metadata(**described), options


def _with_write_order(options: ArrayConfig, serializer: Any) -> ArrayConfig:
    """Return options with the order of inner chunks that a codec says: documents have no place."""
    order = getattr(serializer, "subchunk_write_order", "morton")
    if order == "morton" or options.subchunk_write_order is not None:
        return options
    return options.with_(subchunk_write_order=order)


def default_format() -> ZarrFormat:
    """Return the format of new nodes."""
    found: ZarrFormat = config.get("default_zarr_format")
    return found


def as_values(data: Any, dtype: Any = None) -> Any:
    """Return data as something with a shape and a data type; a Zarr array stays one."""
    if isinstance(data, AsyncArray):
        data = data._sync
    if data is None or isinstance(data, Array):
        return data
    unmasked(data)
    if hasattr(data, "shape") and hasattr(data, "dtype") and hasattr(data, "__getitem__"):
        return data
    if dtype is None:
        values = np.asarray(data)
        return np.asarray(values, np.dtypes.StringDType()) if values.dtype.kind == "U" else values
    return np.asarray(data, parse_dtype(dtype, 3).dtype)


def _dtype_of(array: Any) -> Any:
    """Return the data type of an array as users write it; that of objects shows as `object`."""
    is_object = isinstance(array, Array) and array.dtype.kind == "O"
    return array.metadata.data_type if is_object else array.dtype


def array_metadata(data: Any, zarr_format: ZarrFormat) -> ArrayMetadata:
    """Return the metadata of an array for data, which is as `as_values` returns it."""
    kept: dict[str, Any] = {}
    if isinstance(data, Array):
        kept["fill_value"] = data.fill_value
        if data.metadata.chunk_grid.chunk_shape is not None:
            kept["chunks"] = data.chunks
    return build_metadata(shape=data.shape, dtype=_dtype_of(data), zarr_format=zarr_format, **kept)


def from_array(
    store: StoreLike,
    *,
    data: Any,
    write_data: bool = True,
    name: str | None = None,
    chunks: ChunksLike | Literal["keep"] = "keep",
    shards: ShardsLike | Literal["keep"] = "keep",
    filters: CodecsLike = "keep",
    compressors: CodecsLike = "keep",
    serializer: CodecLike = "keep",
    fill_value: Any = DEFAULT_FILL_VALUE,
    order: Literal["C", "F"] | None = None,
    zarr_format: ZarrFormat | None = None,
    attributes: Mapping[str, JSON] | None = None,
    chunk_key_encoding: Any = None,
    dimension_names: Iterable[str | None] | None = None,
    storage_options: dict[str, Any] | None = None,
    overwrite: bool = False,
    config: ArrayConfigLike | None = None,
) -> Array:
    """Create an array with the data of another one, which may be a Zarr array or array-like.

    `"keep"` takes a property of a Zarr array where the new format has it, and is `"auto"`
    otherwise. Data of a Zarr array is copied chunk by chunk. Other parameters and errors are those
    of `create_array`.

    >>> a = zarr.create_array({}, data=np.arange(100), chunks=10)
    >>> b = zarr.from_array({}, data=a, chunks=50)
    >>> b.chunks, bool((b[:] == a[:]).all())
    ((50,), True)
    """
    given = dict(locals())
    return create_array(**_with_kept(given))


def array_like(place: StorePath, data: Any, **options: Any) -> Array:
    """Return a handle on the array that `from_array` would create at a place; no I/O.

    Raises what `from_array` does for options that cannot be, or do not exist.
    """
    given = {**signature(from_array).bind(place, data=data, **options).arguments}
    for name, parameter in signature(from_array).parameters.items():
        given.setdefault(name, parameter.default)
    given = without(
        _with_kept(given), "store", "name", "storage_options", "overwrite", "write_data"
    )
    source = given.pop("data")
    metadata, config = _described(
        given.pop("config"), shape=source.shape, dtype=_dtype_of(source), **given
    )
    array = Array(metadata, place, config)
    check_codecs(array)
    return array


def _with_kept(given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `from_array` with what is kept of an array in them."""
    source, zarr_format = as_values(given["data"], None), given["zarr_format"]
    kept: dict[str, Any] = {"shards": None}
    kept |= dict.fromkeys(("chunks", "filters", "compressors", "serializer"), "auto")
    if isinstance(source, Array):
        metadata = source.metadata
        zarr_format = zarr_format or metadata.zarr_format
        same = zarr_format == metadata.zarr_format
        regular = metadata.chunk_grid.chunk_shape is not None
        kept = {
            "chunks": source.chunks if regular else metadata.chunk_grid,
            "shards": source.shards if regular and zarr_format == 3 else None,
            "filters": source.filters if same else "auto",
            "compressors": source.compressors if same else "auto",
            "serializer": source.serializer if same and zarr_format == 3 else "auto",
        }
        if not regular and metadata.sharding is not None:
            kept |= {"chunks": metadata.sharding.configuration["chunk_shape"]}
            kept |= {"shards": metadata.chunk_grid}
        if given["fill_value"] is DEFAULT_FILL_VALUE:
            given["fill_value"] = metadata.fill_value
        if given["attributes"] is None:
            given["attributes"] = metadata.attributes
        if same and zarr_format == 3 and given["dimension_names"] is None:
            given["dimension_names"] = metadata.names
        if same and given["chunk_key_encoding"] is None:
            given["chunk_key_encoding"] = metadata.chunk_key_encoding
        if zarr_format == 2 and given["order"] is None:
            given["order"] = source.order
    for key, value in kept.items():
        if isinstance(given[key], str) and given[key] == "keep":
            given[key] = value
    return {**given, "data": source, "zarr_format": zarr_format or default_format()}


def create(
    shape: ShapeLike | None = None,
    *,
    chunks: ChunksLike = None,
    dtype: DataTypeLike | None = None,
    compressor: Any = "auto",
    fill_value: Any = DEFAULT_FILL_VALUE,
    order: MemoryOrder | None = None,
    store: StoreLike = None,
    synchronizer: Any = None,
    overwrite: bool = False,
    path: str | None = None,
    chunk_store: Any = None,
    filters: CodecsLike = "auto",
    cache_metadata: bool | None = None,
    cache_attrs: bool | None = None,
    read_only: bool | None = None,
    object_codec: Any = None,
    dimension_separator: Literal[".", "/"] | None = None,
    write_empty_chunks: bool | None = None,
    zarr_format: ZarrFormat | None = None,
    meta_array: Any = None,
    attributes: Mapping[str, JSON] | None = None,
    chunk_shape: ChunksLike = None,
    chunk_key_encoding: Any = None,
    codecs: Iterable[Any] | None = None,
    dimension_names: Iterable[str | None] | None = None,
    storage_options: dict[str, Any] | None = None,
    config: ArrayConfigLike | None = None,
    mode: AccessMode | None = None,
    data: npt.ArrayLike | None = None,
    shards: ShardsLike = None,
    compressors: CodecsLike = "auto",
    serializer: CodecLike = "auto",
) -> Array:
    """Create an array with the parameters that zarr 2 had; see `create_array` for their meaning.

    `store=None` keeps the array in memory. `compressor` belongs to format 2, `codecs` (the whole
    chain) and `chunk_shape` to format 3. `mode="w"` is `overwrite=True`; `"w-"` never replaces
    anything, and nothing can be created with `"r"`.

    >>> zarr.create((4, 4), chunks=(2, 2), dtype="i4", fill_value=7)[0]
    array([7, 7, 7, 7], dtype=int32)
    """
    if mode == "r":
        raise ReadOnlyError("the store is read-only with mode='r': nothing can be created")
    if mode == "w-" and overwrite:
        raise ValueError("mode='w-' never replaces anything, but overwrite is True")
    warn_ignored(
        synchronizer=synchronizer,
        chunk_store=chunk_store,
        cache_metadata=cache_metadata,
        cache_attrs=cache_attrs,
        meta_array=meta_array,
    )
    zarr_format = zarr_format or default_format()
    place, _ = place_and_mode(store, path, mode, storage_options)
    options = array_config(config)
    if write_empty_chunks is not None:
        warn("write_empty_chunks")
        options = options.with_(write_empty_chunks=write_empty_chunks)
    values = as_values(data, dtype)
    if values is not None:
        shape = values.shape if shape is None else shape
        dtype = _dtype_of(values) if dtype is None else dtype
    if shape is None:
        raise ValueError("a shape is needed")
    if codecs is not None:
        filters, serializer, compressors = _split_codecs(codecs, zarr_format)
    if not (isinstance(compressor, str) and compressor == "auto"):
        if zarr_format == 3:
            raise ValueError("compressor is for format 2; use compressors or codecs for format 3")
        compressors = compressor
    if object_codec is not None:
        given: Any = [] if isinstance(filters, str) else filters or []
        filters = [object_codec, *given]
    if dimension_separator is not None:
        if zarr_format == 3:
            raise ValueError("dimension_separator is for format 2; use chunk_key_encoding")
        chunk_key_encoding = ("v2", dimension_separator)
    metadata = build_metadata(
        shape=shape,
        dtype="float64" if dtype is None else dtype,
        chunks=chunks if chunk_shape is None else chunk_shape,
        shards=shards,
        filters=filters,
        compressors=compressors,
        serializer=serializer,
        fill_value=fill_value,
        order=order or (options.order if zarr_format == 2 else None),
        zarr_format=zarr_format,
        attributes=attributes,
        chunk_key_encoding=chunk_key_encoding,
        dimension_names=dimension_names,
    )
    overwrite = overwrite or mode == "w"
    made = create_array_at(place, metadata, options, overwrite=overwrite, source=values)
    if values is not None:
        copy_data(values, made)
    if read_only:
        return Array(metadata, StorePath(place.store.with_read_only(True), place.path), options)
    return made


def _split_codecs(codecs: Iterable[Any], zarr_format: ZarrFormat) -> tuple[Any, Any, Any]:
    """Return filters, serializer and compressors of a whole chain of format 3."""
    if zarr_format == 2:
        raise ValueError("codecs are for format 3; use filters and compressor for format 2")
    chain = [c if isinstance(c, Codec) else codec_from_dict(_as_dict(c)) for c in codecs]
    filters = [c for c in chain if isinstance(c, ArrayArrayCodec)]
    compressors = [c for c in chain if isinstance(c, BytesBytesCodec)]
    serializers = [c for c in chain if c not in filters and c not in compressors]
    if len(serializers) != 1 or chain != [*filters, *serializers, *compressors]:
        raise ValueError(
            "codecs are array-to-array codecs, one array-to-bytes codec and bytes-to-bytes codecs, "
            "in this order"
        )
    return filters, serializers[0], compressors


def _as_dict(codec: Any) -> Any:
    return (
        codec.to_dict()
        if hasattr(codec, "to_dict")
        else {"name": codec}
        if isinstance(codec, str)
        else codec
    )


def array(data: npt.ArrayLike | AsyncArray, **kwargs: Any) -> Array:
    """Create an array filled with data; other parameters are those of `create`.

    >>> zarr.array([[1, 2], [3, 4]], chunks=(1, 2))[1]
    array([3, 4])
    """
    if isinstance(data, AsyncArray):
        data = data._sync
    unmasked(data)
    if isinstance(data, Array):
        metadata = data.metadata
        if metadata.chunk_grid.chunk_shape is not None:
            kwargs.setdefault("chunks", data.chunks)
        kwargs.setdefault("fill_value", data.fill_value)
        kwargs.setdefault("dtype", _dtype_of(data))
        kwargs.setdefault("shape", data.shape)
        kwargs.setdefault("zarr_format", metadata.zarr_format)
        return create(data=data, **kwargs)
    values = data if isinstance(data, np.ndarray) else np.asarray(data)
    if values.dtype.kind == "U" and "dtype" not in kwargs and not isinstance(data, np.ndarray):
        kwargs["dtype"] = str
    return create(data=values, **{"shape": values.shape, "dtype": values.dtype, **kwargs})


def asarray(data: Any, **kwargs: Any) -> Array:
    """Return a Zarr array as it is, and anything else as a new one; see `array`.

    >>> a = zarr.zeros(3)
    >>> zarr.asarray(a) is a
    True
    """
    return data if isinstance(data, Array) and not kwargs else array(data, **kwargs)


def open_array(
    store: StoreLike = None,
    *,
    zarr_format: ZarrFormat | None = None,
    path: str | None = "",
    storage_options: dict[str, Any] | None = None,
    config: ArrayConfigLike | None = None,
    mode: AccessMode | None = None,
    allow_pickle: bool = False,
    **kwargs: Any,
) -> Array:
    """Open an array, or create it with the parameters of `create`, as `mode` allows.

    `"r"` and `"r+"` need an existing array and raise `ArrayNotFoundError` without one; `"a"` (the
    default) creates it when there is none; `"w"` removes what is there and creates it; `"w-"`
    creates it and raises `ContainsArrayError` when there is one.

    `allow_pickle=True` reads and writes arrays of format 2 whose chunks are pickles. Reading them
    can run any code that who wrote them put there; nothing else allows it, no setting either.

    >>> zarr.open_array("mine.zarr", shape=3, dtype="i2")[:] = 5
    >>> zarr.open_array("mine.zarr", mode="r")[:]
    array([5, 5, 5], dtype=int16)
    """
    if kwargs:
        warn_ignored(**{k: kwargs.pop(k) for k in list(kwargs) if k in IGNORED_ON_OPEN})
    write_empty = kwargs.pop("write_empty_chunks", None)
    options = array_config(config)
    if write_empty is not None:
        warn("write_empty_chunks")
        options = options.with_(write_empty_chunks=write_empty)
    if allow_pickle:
        options = options._allowing_pickle()
    place, mode = place_and_mode(store, path, mode, storage_options)
    if mode not in ("w", "w-"):
        try:
            return Array(read_array(place, zarr_format), place, options)
        except NodeNotFoundError:
            if mode != "a" or "shape" not in kwargs:
                raise
    try:
        return create(
            store=place, zarr_format=zarr_format, config=options, overwrite=mode == "w", **kwargs
        )
    except ContainsArrayError as error:
        if mode != "a":
            raise
        try:  # somebody else was faster
            return Array(read_array(place, zarr_format), place, options)
        except NodeNotFoundError:
            raise error from None


IGNORED_ON_OPEN = frozenset(
    {"synchronizer", "chunk_store", "cache_metadata", "cache_attrs", "meta_array", "object_codec"}
)


def zeros(shape: ShapeLike, **kwargs: Any) -> Array:
    """Create an array that reads as zeros; nothing is stored but its document.

    Raises `ContainsArrayError` or `ContainsGroupError` if something is there.

    Parameters
    ----------
    shape
        Of the array.
    kwargs
        `dtype` (float64 by default), `chunks` (chosen by default), `store` (in memory by default)
        and `path` in it, `overwrite`, `zarr_format`, `attributes`, `compressors` and the other
        parameters of `create`, except `fill_value`.

    Examples
    --------
    >>> zarr.zeros((2, 3), dtype="i4", chunks=(1, 3))[1]
    array([0, 0, 0], dtype=int32)
    """
    return create(shape, **_filled(0, kwargs))


def ones(shape: ShapeLike, **kwargs: Any) -> Array:
    """Create an array that reads as ones; other parameters are those of `create`.

    >>> zarr.ones((2, 3), dtype="i4")[0]
    array([1, 1, 1], dtype=int32)
    """
    return create(shape, **_filled(1, kwargs))


def _filled(number: int, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return arguments with a fill value that is the data type's own zero or one."""
    dtype = parse_dtype(
        kwargs.get("dtype") or "float64", kwargs.get("zarr_format") or default_format()
    )
    if dtype.is_variable or dtype.dtype.kind in "SU":
        fill: Any = dtype.default_fill if not number else "1" if dtype.dtype.kind in "TU" else b"1"
    elif dtype.dtype.kind in "mM" or dtype.dtype.kind == "V":
        fill = (np.zeros if not number else np.ones)((), dtype.dtype)[()]
    else:
        fill = number
    return {**kwargs, "fill_value": fill}


def empty(shape: ShapeLike, **kwargs: Any) -> Array:
    """Create an array without saying what it is filled with; other parameters as for `create`.

    >>> zarr.empty((1000, 1000), chunks=(100, 100)).nchunks_initialized
    0
    """
    return create(shape, **kwargs)


def full(shape: ShapeLike, fill_value: Any, **kwargs: Any) -> Array:
    """Create an array that reads as `fill_value`; other parameters are those of `create`.

    >>> zarr.full(3, 2.5)[:]
    array([2.5, 2.5, 2.5])
    """
    if kwargs.get("dtype") is None:
        found = np.asarray(fill_value).dtype
        kwargs["dtype"] = str if found.kind == "U" else found
    return create(shape, fill_value=fill_value, **kwargs)


def _like(a: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return arguments with those properties of an array that were not given."""
    like: dict[str, Any] = {"shape": np.shape(a) if not hasattr(a, "shape") else a.shape}
    like["dtype"] = _dtype_of(a if hasattr(a, "dtype") else np.asarray(a))
    if isinstance(a, Array):
        metadata = a.metadata
        regular = metadata.chunk_grid.chunk_shape is not None
        like |= {
            "zarr_format": metadata.zarr_format,
            "chunks": a.chunks if regular else metadata.chunk_grid,
            "fill_value": a.fill_value,
        }
        if kwargs.get("zarr_format") in (None, metadata.zarr_format):
            like |= {"filters": a.filters, "compressors": a.compressors}
            if metadata.zarr_format == 2:
                like["order"] = a.order
            else:
                like |= {"serializer": a.serializer, "shards": a.shards if regular else None}
    elif hasattr(a, "chunks") and isinstance(a.chunks, tuple):
        like["chunks"] = a.chunks
    if kwargs.get("zarr_format") is None:
        kwargs = {k: v for k, v in kwargs.items() if k != "zarr_format"}
    return like | kwargs


def empty_like(a: Any, *, zarr_format: ZarrFormat | None = None, **kwargs: Any) -> Array:
    """Create an empty array like another one; see `empty`.

    >>> zarr.empty_like(np.ones((2, 3), "i2")).dtype
    dtype('int16')
    """
    return empty(**_like(a, {"zarr_format": zarr_format, **kwargs}))


def zeros_like(a: Any, *, zarr_format: ZarrFormat | None = None, **kwargs: Any) -> Array:
    """Create an array of zeros like another one; see `zeros`.

    >>> zarr.zeros_like(zarr.ones((2, 3), chunks=(1, 3))).chunks
    (1, 3)
    """
    return zeros(**_like(a, {"zarr_format": zarr_format, **kwargs}))


def ones_like(a: Any, *, zarr_format: ZarrFormat | None = None, **kwargs: Any) -> Array:
    """Create an array of ones like another one; see `ones`.

    >>> zarr.ones_like(np.arange(3))[:]
    array([1, 1, 1])
    """
    return ones(**_like(a, {"zarr_format": zarr_format, **kwargs}))


def full_like(
    a: Any, fill_value: Any = None, *, zarr_format: ZarrFormat | None = None, **kwargs: Any
) -> Array:
    """Create an array full of a value like another one; its own fill value by default.

    >>> zarr.full_like(np.arange(3), 9)[:]
    array([9, 9, 9])
    """
    arguments = _like(a, {"zarr_format": zarr_format, **kwargs})
    if fill_value is not None:
        arguments["fill_value"] = fill_value
    arguments.setdefault("fill_value", 0)
    return full(**arguments)


def open_like(a: Any, path: str, *, zarr_format: ZarrFormat | None = None, **kwargs: Any) -> Array:
    """Open the array at a path, or create it like another one; see `open_array`.

    >>> zarr.open_like(np.arange(3), "like.zarr").shape
    (3,)
    """
    like = _like(a, {**kwargs, "zarr_format": zarr_format or default_format()})
    return open_array(path=path, **{**like, "zarr_format": zarr_format})


create_array_async: Final = async_twin(create_array, snapshot="data")
from_array_async: Final = async_twin(from_array, snapshot="data")
create_async: Final = async_twin(create, snapshot="data")
array_async: Final = async_twin(array, snapshot="data")
asarray_async: Final = async_twin(asarray, snapshot="data")
open_array_async: Final = async_twin(open_array)
zeros_async: Final = async_twin(zeros)
ones_async: Final = async_twin(ones)
empty_async: Final = async_twin(empty)
full_async: Final = async_twin(full)
empty_like_async: Final = async_twin(empty_like)
zeros_like_async: Final = async_twin(zeros_like)
ones_like_async: Final = async_twin(ones_like)
full_like_async: Final = async_twin(full_like)
open_like_async: Final = async_twin(open_like)
