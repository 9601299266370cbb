"""`zarr.testing.strategies`: what hypothesis can draw of Zarr: names, data types, arrays, selections."""

import math
import sys
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from zarr_core import api
from zarr_core.array.array import Array
from zarr_core.codecs import BytesCodec
from zarr_core.compat.metadata import (
    ArrayV2Metadata,
    ArrayV3Metadata,
    DefaultChunkKeyEncoding,
    RegularChunkGrid,
)
from zarr_core.compat.stores import MemoryStore
from zarr_core.config import SUBCHUNK_WRITE_ORDERS
from zarr_core.storage import OffsetByteRequest, RangeByteRequest, SuffixByteRequest

Shape = tuple[int, ...]
Strategy = st.SearchStrategy[Any]

# --- names and metadata --------------------------------------------------------------------------

zarr_key_chars: Final = st.sampled_from(
    ".-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
)


def _names(max_size: int | None = None) -> st.SearchStrategy[str]:
    names = st.text(zarr_key_chars, min_size=1, max_size=max_size)
    return names.filter(
        lambda name: name.strip(".") and name[:2] != "__" and name.lower() != "zarr.json"
    )


node_names: Final = _names()
array_names: Final = node_names
short_node_names: Final = _names(3)
_attr_keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
_attr_values = st.recursive(
    st.none() | st.booleans() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda below: st.lists(below) | st.dictionaries(_attr_keys, below),
    max_leaves=3,
)
attrs: Strategy = st.none() | st.dictionaries(_attr_keys, _attr_values)
stores: Strategy = st.builds(MemoryStore)
compressors: Strategy = st.sampled_from([None, "default"])
zarr_formats: Strategy = st.sampled_from([3, 2])
subchunk_write_orders: Strategy = st.sampled_from(SUBCHUNK_WRITE_ORDERS)
array_shapes: Final = npst.array_shapes(max_dims=4, min_side=3, max_side=5) | npst.array_shapes(
    max_dims=4, min_side=0
)


def keys(*, max_num_nodes: int | None = None) -> st.SearchStrategy[str]:
    """Draw keys."""
    return st.lists(node_names, min_size=1, max_size=max_num_nodes).map("/".join)


def paths(*, max_num_nodes: int | None = None) -> st.SearchStrategy[str]:
    """Draw paths of nodes."""
    return st.just("/") | keys(max_num_nodes=max_num_nodes)


def dimension_names(*, ndim: int | None = None) -> Strategy:
    """Draw None, or lists of names and None."""
    names = st.none() | st.text(zarr_key_chars)
    return st.none() | st.lists(names, min_size=ndim or 0, max_size=ndim)


def dtypes() -> st.SearchStrategy[np.dtype[Any]]:
    """Draw NumPy dtypes, in the machine's byte order."""
    ordered = (
        "integer unsigned_integer floating complex_number byte_string unicode_string datetime64"
    )
    kinds = [
        getattr(npst, f"{kind}_dtypes")(endianness="=") for kind in f"{ordered} timedelta64".split()
    ]
    return st.one_of(npst.boolean_dtypes(), *kinds)


v2_dtypes = v3_dtypes = dtypes


def safe_unicode_for_dtype(dtype: np.dtype[Any]) -> st.SearchStrategy[str]:
    """Draw text that fits elements of a dtype."""
    printable = st.characters(exclude_categories=["Cs"], min_codepoint=32)
    return st.text(printable, min_size=1, max_size=max(1, dtype.itemsize // 4))


@st.composite
def array_metadata(
    draw: st.DrawFn,
    *,
    array_shapes: Callable[..., Strategy] = npst.array_shapes,
    zarr_formats: Strategy = zarr_formats,
    attributes: Strategy = attrs,
) -> Any:
    """Draw metadata of arrays, of both formats."""
    shape, dtype = draw(array_shapes()), draw(dtypes())
    lengths = draw(array_shapes(min_dims=len(shape), max_dims=len(shape), min_side=1))
    fill_value = draw(npst.from_dtype(dtype))
    both = {"shape": shape, "fill_value": fill_value, "attributes": draw(attributes)}
    if draw(zarr_formats) == 2:
        order, separator = draw(st.sampled_from("CF")), draw(st.sampled_from("./"))
        options = {"order": order, "dimension_separator": separator}
        return ArrayV2Metadata(**both, chunks=lengths, dtype=dtype, **options)
    return ArrayV3Metadata(
        **both,
        data_type=dtype,
        chunk_grid=RegularChunkGrid(chunk_shape=lengths),
        chunk_key_encoding=DefaultChunkKeyEncoding(),
        codecs=[BytesCodec()],
        dimension_names=draw(dimension_names(ndim=len(shape))),
    )


# --- arrays --------------------------------------------------------------------------------------


@st.composite
def numpy_arrays(
    draw: st.DrawFn, *, shapes: Strategy = array_shapes, dtype: np.dtype[Any] | None = None
) -> npt.NDArray[Any]:
    """Draw arrays of NumPy that can be stored."""
    dtype = draw(dtypes()) if dtype is None else np.dtype(dtype)
    elements = safe_unicode_for_dtype(dtype) if dtype.kind == "U" else None
    return draw(npst.arrays(dtype, shapes, elements=elements))


@st.composite
def chunk_shapes(draw: st.DrawFn, *, shape: Shape) -> Shape:
    """Draw chunk shapes, rather of few chunks."""
    counts = [draw(st.integers(1, max(length, 1))) for length in shape]
    return tuple(max(1, n // count) for n, count in zip(shape, counts, strict=True))


@st.composite
def shard_shapes(draw: st.DrawFn, *, shape: Shape, chunk_shape: Shape) -> Shape:
    """Draw shard shapes: whole numbers of chunks, not above the shape of the array."""
    pairs = zip(shape, chunk_shape, strict=True)
    return tuple(c * draw(st.integers(1, max(n // c, 1))) for n, c in pairs)


@st.composite
def np_array_and_chunks(
    draw: st.DrawFn, *, arrays: Strategy | None = None
) -> tuple[npt.NDArray[Any], Shape]:
    """Draw arrays of NumPy, each with a chunk shape."""
    array = draw(numpy_arrays() if arrays is None else arrays)
    return array, draw(chunk_shapes(shape=array.shape))


@st.composite
def arrays(
    draw: st.DrawFn,
    *,
    shapes: Strategy = array_shapes,
    compressors: Strategy = compressors,
    stores: Strategy = stores,
    paths: Strategy | None = None,
    array_names: Strategy = array_names,
    arrays: Strategy | None = None,
    attrs: Strategy = attrs,
    zarr_formats: Strategy = zarr_formats,
    subchunk_write_orders: Strategy = subchunk_write_orders,
    open_mode: Any = "w",
) -> Array:
    """Draw stored arrays, of both formats, with and without shards."""
    store, zarr_format = draw(stores), draw(zarr_formats)
    parent, name = draw(keys() if paths is None else paths), draw(array_names)
    data = draw(numpy_arrays(shapes=shapes) if arrays is None else arrays)
    chunks = draw(chunk_shapes(shape=data.shape))
    options: dict[str, Any] = {"attributes": draw(attrs), "chunks": chunks}
    if zarr_format == 3:
        options["dimension_names"] = draw(dimension_names(ndim=data.ndim))
        if data.size and draw(st.booleans()):
            options["shards"] = draw(shard_shapes(shape=data.shape, chunk_shape=chunks))
            options["config"] = {"subchunk_write_order": draw(subchunk_write_orders)}
    group = api.open_group(store, mode=open_mode, zarr_format=zarr_format)
    fill_value = draw(st.none() | npst.from_dtype(data.dtype))
    made = group.create_array(
        f"{parent}/{name}", shape=data.shape, dtype=data.dtype, fill_value=fill_value, **options
    )
    made[...] = data
    return made


def simple_arrays(*, shapes: Strategy = array_shapes) -> st.SearchStrategy[Array]:
    """Draw arrays with short names and no attributes."""
    return arrays(
        shapes=shapes,
        paths=paths(max_num_nodes=2),
        array_names=short_node_names,
        attrs=st.none(),
    )


# --- selections ----------------------------------------------------------------------------------


def _goes_back(index: Any) -> bool:
    return isinstance(index, slice) and index.step is not None and index.step < 0


@st.composite
def end_slices(draw: st.DrawFn, *, shape: Shape) -> tuple[slice, ...]:
    """Draw slices that lie in the second half of every dimension, where the last chunk is."""
    starts = [draw(st.integers(n // 2, max(n - 1, 0))) for n in shape]
    return tuple(
        slice(s, s + draw(st.integers(0, n - s))) for s, n in zip(starts, shape, strict=True)
    )


def basic_indices(
    *,
    shape: Shape,
    min_dims: int = 0,
    max_dims: int | None = None,
    allow_newaxis: bool = False,
    allow_ellipsis: bool = True,
) -> Strategy:
    """Draw selections of `array[...]` that zarr-python has, too: no slice goes back."""
    options: Any = {"allow_newaxis": allow_newaxis, "allow_ellipsis": allow_ellipsis}
    found: Strategy = npst.basic_indices(shape, min_dims=min_dims, max_dims=max_dims, **options)
    found = found.filter(lambda i: not any(map(_goes_back, i if isinstance(i, tuple) else (i,))))
    return end_slices(shape=shape) | found if math.prod(shape) >= 3 else found


@st.composite
def orthogonal_indices(draw: st.DrawFn, *, shape: Shape) -> tuple[Any, Any]:
    """Draw selections for `array.oindex`, each with what selects the same of an array of NumPy."""
    selection: list[Any] = []
    for n in shape:
        one: Strategy = basic_indices(min_dims=1, max_dims=1, shape=(n,), allow_ellipsis=False)
        if n:
            lists = npst.arrays("i8", st.integers(1, n), elements=st.integers(-n, n - 1))
            one |= lists | st.integers(-n, n - 1)
        drawn = draw(one.filter(lambda index: not isinstance(index, tuple) or index))
        selection.append(drawn[0] if isinstance(drawn, tuple) else drawn)
    indices = [np.arange(n)[i] for n, i in zip(shape, selection, strict=True)]
    kept = sum(index.ndim for index in indices)
    shown, axis = [], 0
    for index in indices:
        lengths = [1] * kept
        if index.ndim:
            lengths[axis], axis = index.size, axis + 1
        shown.append(index.reshape(lengths) if index.ndim else index)
    return tuple(selection), tuple(np.broadcast_arrays(*shown))


def key_ranges(keys: Strategy = node_names, max_size: int = sys.maxsize) -> Strategy:
    """Draw lists of keys and parts of their values, for `get_partial_values`."""
    bound = st.integers(0, max_size)
    parts = st.one_of(
        st.none(),
        st.tuples(bound, bound).map(lambda pair: RangeByteRequest(*sorted(pair))),
        st.builds(OffsetByteRequest, bound),
        st.builds(SuffixByteRequest, bound),
    )
    return st.lists(st.tuples(keys, parts), min_size=1, max_size=10)


@st.composite
def chunk_paths(draw: st.DrawFn, ndim: int, numblocks: Shape, subset: bool = True) -> str:
    """Draw the end of the key of a chunk; with `subset` also of what is above it."""
    coords = [draw(st.integers(0, max(0, n - 1))) for n in numblocks]
    return "/".join(map(str, coords[: draw(st.integers(0, ndim)) if subset else None]))
