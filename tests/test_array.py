"""Reading and writing: an array does what NumPy does, in every format, chunking and codec chain."""

import contextlib
import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st
from strategies import (
    KINDS,
    Edges,
    Selection,
    picked,
    rectilinear_edges,
    selections,
    shapes,
)

import zarr_core as zarr
from zarr_core import codecs
from zarr_core.codecs.checks import load_numcodecs
from zarr_core.storage import LatencyStore, MemoryStore

numcodecs = load_numcodecs()  # without the warnings of its import
Array = zarr.Array

NAN = np.array([0x7FF8_0000_0000_0001], "u8").view("f8")[0]
"""A NaN that is not the usual one."""

STRUCT = np.dtype([("a", ">i2"), ("b", "<f4")])
NESTED = np.dtype([("x", "u1"), ("y", [("z", "<i8"), ("w", "S2")])])

POOLS: dict[Any, list[Any]] = {
    "bool": [False, True],
    "i1": [0, -1, 127],
    ">i2": [0, 1, -2, 2**15 - 1],
    "i4": [0, 1, -1, 2**31 - 1],
    "u8": [0, 1, 2**64 - 1],
    "f2": [0.0, -0.0, np.nan, 1.5],
    "f4": [0.0, -0.0, np.nan, np.inf, 1e30],
    ">f8": [0.0, -0.0, np.nan, NAN, -np.inf, 0.1],
    "c8": [0j, complex(-0.0, 0.0), 1 + 2j, complex(np.nan, 1)],
    ">c16": [0j, 1 - 2j, complex(0.0, np.inf)],
    "U3": ["", "a", "é€", "abc"],
    ">U2": ["", "b", "\U0001f600x"],
    "S4": [b"", b"a", b"a\0b", b"abcd"],
    "V3": [b"\0\0\0", b"abc", b"\xff\0\1"],
    "M8[s]": [np.datetime64("NaT"), np.datetime64(0, "s"), np.datetime64("2024-02-29T12:00", "s")],
    ">m8[ms]": [np.timedelta64("NaT"), np.timedelta64(0, "ms"), np.timedelta64(-5, "ms")],
    STRUCT: [(0, 0.0), (-5, np.nan), (7, -0.0)],
    NESTED: [(0, (0, b"")), (255, (-1, b"ab"))],
    str: ["", "a", "ünï", "x" * 30],
    bytes: [b"", b"\0", b"abc", b"y" * 30],
}
"""Values of each data type; the first is its zero."""


# --- the oracle ------------------------------------------------------------------------------------


class Oracle:
    """An array in NumPy, read and written like a Zarr array."""

    def __init__(self, shape: tuple[int, ...], edges: list[Edges], dtype: Any, fill: Any) -> None:
        self.edges = edges
        self.data = np.full(shape, fill, dtype)

    def _flat(self, selection: Selection, field: str | None) -> tuple[np.ndarray, Any]:
        data = self.data if field is None else self.data[field]
        # Only all fields together are contiguous.
        flat = data.reshape(-1) if field is None else self.data.reshape(-1)[field]
        return flat, picked(data.shape, self.edges, selection)

    def read(self, selection: Selection, field: str | None = None) -> np.ndarray:
        flat, positions = self._flat(selection, field)
        return np.asarray(flat[positions], flat.dtype)

    def write(self, selection: Selection, value: Any, field: str | None = None) -> None:
        flat, positions = self._flat(selection, field)
        checked = np.empty(np.shape(positions), flat.dtype)
        checked[...] = value  # raises what NumPy raises
        flat[positions] = checked[()]


def assert_same(found: Any, expected: np.ndarray) -> None:
    """The same type, shape and bytes: -0.0 is not 0.0, and NaNs have payloads."""
    if not isinstance(found, np.ndarray):
        found = np.array(found, expected.dtype)  # scalars are native and as long as needed
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if found.dtype.kind in "TO":
        assert found.tolist() == expected.tolist()
    else:
        assert found.tobytes() == expected.tobytes()


# --- what is drawn ---------------------------------------------------------------------------------


class Drawn(NamedTuple):
    shape: tuple[int, ...]
    edges: list[Edges]
    dtype: Any
    fill: Any
    options: dict[str, Any]  # of `create_array`
    slow: bool


@st.composite
def v3_options(draw: st.DrawFn, shape: tuple[int, ...], chunks: list[Any], dtype: Any) -> Any:
    regular = all(isinstance(c, int) for c in chunks)
    kind = np.dtype(dtype).kind if dtype not in (str, bytes) else "T"
    single = kind in "bSVTO" or np.dtype(dtype).itemsize == 1
    serializers: list[Any] = ["auto"]
    if not single or kind == "V":
        serializers.append(codecs.BytesCodec(endian="big"))
    options: dict[str, Any] = {
        "serializer": draw(st.sampled_from(serializers)),
        "compressors": draw(
            st.sampled_from(
                [
                    None,
                    None,
                    "auto",
                    [codecs.GzipCodec(level=1)],
                    [codecs.BloscCodec()],
                    [codecs.Crc32cCodec()],
                    [codecs.ZstdCodec(), codecs.Crc32cCodec()],
                ]
            )
        ),
        "chunk_key_encoding": draw(
            st.sampled_from([None, {"name": "v2", "separator": "."}, {"name": "default", "separator": "."}])
        ),
        "config": {
            "order": draw(st.sampled_from(["C", "F"])),
            "write_empty_chunks": draw(st.booleans()),
        },
    }  # fmt: skip
    if shape and draw(st.booleans()):
        axes = draw(st.permutations(range(len(shape))))
        options["filters"] = [codecs.TransposeCodec(order=tuple(axes))]
    if shape and regular and draw(st.integers(0, 3)) == 0:
        many = [draw(st.integers(1, 3)) for _ in shape]
        location = draw(st.sampled_from(["start", "end"]))
        shards = tuple(c * m for c, m in zip(chunks, many, strict=True))
        options["shards"] = {"shape": shards, "index_location": location}
    return options


@st.composite
def v2_options(draw: st.DrawFn, shape: tuple[int, ...], dtype: Any) -> Any:
    filters: list[Any] = ["auto", None]
    if np.dtype(dtype).kind in "iu" if dtype not in (str, bytes) else False:
        filters.append([numcodecs.Delta(np.dtype(dtype))])
    return {
        "zarr_format": 2,
        "order": draw(st.sampled_from(["C", "F"])),
        "filters": draw(st.sampled_from(filters)),
        "compressors": draw(
            st.sampled_from(["auto", None, numcodecs.Zlib(1), numcodecs.Blosc(), {"id": "lz4"}])
        ),
        "chunk_key_encoding": {"name": "v2", "separator": draw(st.sampled_from([".", "/"]))},
        "config": {"write_empty_chunks": draw(st.booleans())},
    }


@st.composite
def drawn_arrays(draw: st.DrawFn) -> Drawn:
    dtype = draw(st.sampled_from(list(POOLS)))
    shape = draw(shapes(3, 6))
    zarr_format = draw(st.sampled_from([3, 3, 2]))
    edges: list[Edges] = []
    chunks: list[Any] = []
    for length in shape:
        if zarr_format == 3 and length and draw(st.integers(0, 3)) == 0:
            edges.append(draw(rectilinear_edges(length, exact=True)))
            chunks.append(list(edges[-1]))
        else:
            size = draw(st.integers(1, length + 2))
            edges.append((size,) * max(1, -(-length // size)))
            chunks.append(size)
    options = draw(
        v3_options(shape, chunks, dtype) if zarr_format == 3 else v2_options(shape, dtype)
    )
    options["chunks"] = tuple(chunks)
    fill = draw(st.sampled_from(POOLS[dtype]))
    if zarr_format == 2 and fill is NAN:
        fill = np.nan  # its documents have no way to say which NaN
    if "shards" in options:  # blocks are what is stored under one key
        shard = options["shards"]["shape"]
        edges = [(s,) * max(1, -(-n // s)) for s, n in zip(shard, shape, strict=True)]
    return Drawn(shape, edges, dtype, fill, options, draw(st.integers(0, 4)) == 0)


def create(store: Any, drawn: Drawn) -> tuple[Array, Oracle]:
    fill: Any = drawn.fill
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # data types without a specification
        array = zarr.create_array(
            LatencyStore(MemoryStore(store)) if drawn.slow else store,
            shape=drawn.shape,
            dtype=drawn.dtype,
            fill_value=fill,
            **drawn.options,
        )
    return array, Oracle(drawn.shape, drawn.edges, array.dtype, as_element(fill, array.dtype))


def as_element(value: Any, dtype: np.dtype) -> np.ndarray:
    return np.array(value, dtype)


def values(dtype: np.dtype, pool: list[Any], shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return an array of values from a pool, one of which is often all there is."""
    elements = np.array(pool, dtype)
    rng = np.random.default_rng(seed)
    few = elements[:1] if seed % 4 == 0 else elements
    return few[rng.integers(0, len(few), shape)]


@st.composite
def value_shapes(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[int, ...]:
    how = draw(st.sampled_from(["same", "same", "scalar", "ones", "fewer", "more", "wrong"]))
    match how:
        case "scalar":
            return ()
        case "ones":
            return tuple(draw(st.sampled_from([n, 1])) for n in shape)
        case "fewer":
            return shape[draw(st.integers(0, len(shape))) :]
        case "more":
            return (1,) * draw(st.integers(1, 2)) + shape
        case "wrong":
            return tuple(n + draw(st.sampled_from([0, 1, -1])) * (n > 0) for n in shape) + (2,) * (
                draw(st.integers(0, 3)) == 0
            )
    return shape


READERS = {
    "basic": [Array.__getitem__, Array.getitem, Array.get_basic_selection],
    "orthogonal": [Array.get_orthogonal_selection, lambda a, i: a.oindex[i]],
    "coordinate": [Array.get_coordinate_selection, lambda a, i: a.vindex[i], Array.__getitem__],
    "mask": [Array.get_mask_selection, lambda a, i: a.vindex[i], Array.getitem],
    "block": [Array.get_block_selection, lambda a, i: a.blocks[i]],
}
WITH_OPTIONS = {
    "basic": Array.get_basic_selection,
    "orthogonal": Array.get_orthogonal_selection,
    "coordinate": Array.get_coordinate_selection,
    "mask": Array.get_mask_selection,
    "block": Array.get_block_selection,
}
WRITERS = {
    "basic": [Array.__setitem__, Array.setitem, Array.set_basic_selection],
    "orthogonal": [Array.set_orthogonal_selection, lambda a, i, v: a.oindex.__setitem__(i, v)],
    "coordinate": [Array.set_coordinate_selection, lambda a, i, v: a.vindex.__setitem__(i, v)],
    "mask": [Array.set_mask_selection, Array.__setitem__],
    "block": [Array.set_block_selection, lambda a, i, v: a.blocks.__setitem__(i, v)],
}
WRITE_FIELD = {
    "basic": Array.set_basic_selection,
    "orthogonal": Array.set_orthogonal_selection,
    "coordinate": Array.set_coordinate_selection,
    "mask": Array.set_mask_selection,
    "block": Array.set_block_selection,
}


def read_somehow(data: st.DataObject, array: Array, selection: Selection, expected: Any, field: Any) -> Any:
    kind, index = selection
    how = data.draw(st.sampled_from(["plain", "plain", "out", "strided out"]))
    if how == "plain" and field is None:
        return data.draw(st.sampled_from(READERS[kind]))(array, index)
    if how == "plain":
        return WITH_OPTIONS[kind](array, index, fields=field)
    out = np.empty(expected.shape, expected.dtype, data.draw(st.sampled_from(["C", "F"])))
    if how == "strided out":
        out = np.empty((*expected.shape, 3), expected.dtype)[..., 1]
    returned = WITH_OPTIONS[kind](array, index, out=out, fields=field)
    assert returned is out
    return returned


@given(st.data())
def test_arrays_do_what_numpy_does(data: st.DataObject) -> None:
    drawn = data.draw(drawn_arrays())
    store: dict[str, bytes] = {}
    array, oracle = create(store, drawn)
    kinds = KINDS if drawn.shape else ("basic", "orthogonal", "mask", "block")
    field: str | None = None
    for _ in range(data.draw(st.integers(1, 4))):
        selection = data.draw(selections(drawn.shape, drawn.edges, kinds))
        if array.dtype.names:
            field = data.draw(st.sampled_from([None, *array.dtype.names]))
        dtype = array.dtype if field is None else array.dtype[field]
        if data.draw(st.booleans()):
            expected = oracle.read(selection, field)
            found = read_somehow(data, array, selection, expected, field)
            assert_same(found, expected)
            if isinstance(found, np.ndarray):
                assert found.flags.writeable
                found[...] = values(array.dtype, POOLS[drawn.dtype], (), 1) if field is None else 1
            continue
        shape = data.draw(value_shapes(oracle.read(selection, field).shape))
        value = values(array.dtype, POOLS[drawn.dtype], shape, data.draw(st.integers(0, 99)))
        value = value if field is None else np.array(value[field])
        before = dict(store)
        with contextlib.ExitStack() as stack:
            try:
                oracle.write(selection, value, field)
            except ValueError:
                note("this value must be refused")
                stack.enter_context(pytest.raises(ValueError))
                before["refused"] = b""
            if field is None:
                data.draw(st.sampled_from(WRITERS[selection.kind]))(array, selection.index, value)
            else:
                WRITE_FIELD[selection.kind](array, selection.index, value, fields=field)
        if "refused" in before:
            assert {**store, "refused": b""} == before, "nothing is written"
        if np.ndim(value):
            value[...] = np.zeros((), dtype)
    check_all(array, oracle, store, drawn)


def check_all(array: Array, oracle: Oracle, store: dict[str, bytes], drawn: Drawn) -> None:
    """Check every element, through a new handle too, and that no chunk is stored for nothing."""
    assert_same(array[...], oracle.data)
    again = zarr.open_array(store, config={"order": array.order})
    assert again.metadata == array.metadata
    assert_same(again[...], oracle.data)
    if drawn.options["config"]["write_empty_chunks"]:
        return
    fill = np.full((), as_element(drawn.fill, array.dtype), array.dtype)
    for part in array.chunk_parts():
        region = oracle.data[(*part.region, ...)]
        if region.dtype.kind in "TO":
            all_fill = all(e == fill[()] for e in region.reshape(-1).tolist())
        else:
            all_fill = region.tobytes() == fill.tobytes() * region.size
        assert (part.key in store) == (not all_fill)
