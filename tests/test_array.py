"""Reading and writing: an array does what NumPy does, in every format, chunking and codec chain."""

import contextlib
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, note, settings
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
from zarr_core.storage import LatencyStore, LoggingStore, MemoryStore

pytestmark = pytest.mark.filterwarnings("ignore::zarr_core.errors.UnstableSpecificationWarning")

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
    "M8[s]": [
        np.datetime64("NaT", "s"),
        np.datetime64(0, "s"),
        np.datetime64("2024-02-29T12:00", "s"),
    ],
    ">m8[ms]": [np.timedelta64("NaT", "ms"), np.timedelta64(0, "ms"), np.timedelta64(-5, "ms")],
    STRUCT: [(0, 0.0), (-5, np.nan), (7, -0.0)],
    NESTED: [(0, (0, b"")), (255, (-1, b"ab"))],
    str: ["", "a\0", "ünï", "x" * 30],
    bytes: [b"", b"\0", b"abc\0", b"y" * 30],
}
"""Values of each data type; the first is its zero."""


# --- the oracle ------------------------------------------------------------------------------------


class Oracle:
    """An array in NumPy, read and written like a Zarr array."""

    def __init__(self, shape: tuple[int, ...], edges: list[Edges], dtype: Any, fill: Any) -> None:
        self.edges = edges
        self.data = np.empty(shape, dtype)
        self.data[...] = fill

    def _flat(self, selection: Selection, field: str | None) -> tuple[np.ndarray, Any]:
        data = self.data if field is None else self.data[field]
        # Only all fields together are contiguous.
        flat = data.reshape(-1) if field is None else self.data.reshape(-1)[field]
        return flat, picked(data.shape, self.edges, selection)

    def read(self, selection: Selection, field: str | None = None) -> np.ndarray:
        flat, positions = self._flat(selection, field)
        return flat[np.atleast_1d(positions)].reshape(np.shape(positions))

    def write(self, selection: Selection, value: Any, field: str | None = None) -> None:
        flat, positions = self._flat(selection, field)
        checked = np.empty(np.shape(positions), flat.dtype)
        checked[...] = value  # raises what NumPy raises
        flat[np.atleast_1d(positions)] = np.atleast_1d(checked)


def assert_same(found: Any, expected: np.ndarray) -> None:
    """The same type, shape and bytes: -0.0 is not 0.0, and NaNs have payloads."""
    if not isinstance(found, np.ndarray):  # scalars are native and as long as needed
        element = np.empty((), expected.dtype)
        element[...] = found
        found = element
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
    array = zarr.create_array(
        LatencyStore(MemoryStore(store)) if drawn.slow else store,
        shape=drawn.shape,
        dtype=drawn.dtype,
        fill_value=fill,
        **drawn.options,
    )
    return array, Oracle(drawn.shape, drawn.edges, array.dtype, as_element(fill, array.dtype))


def as_element(value: Any, dtype: np.dtype) -> np.ndarray:
    element = np.empty((), dtype)
    element[...] = value
    return element


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


def read_somehow(
    data: st.DataObject, array: Array, selection: Selection, expected: Any, field: Any
) -> Any:
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


@settings(max_examples=max(200, settings().max_examples))
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


# --- results ---------------------------------------------------------------------------------------


def new(shape: Any, chunks: Any, dtype: Any = "i4", store: Any = None, **options: Any) -> Array:
    """Return an array without compressor."""
    store = {} if store is None else store
    options = {"compressors": None, **options}
    return zarr.create_array(store, shape=shape, chunks=chunks, dtype=dtype, **options)


@pytest.mark.parametrize("layout", [{}, {"shards": 4}, {"config": {"order": "F"}}])
def test_which_selections_are_scalars(layout: Any) -> None:
    a = new((4,), (2,), **layout)
    a[:] = range(4)
    b = new((4, 4), (2, 2), **({"shards": (4, 4)} if "shards" in layout else layout))
    b[:] = np.arange(16).reshape(4, 4)
    zero = new((), ())
    zero[...] = 5
    arrays = [
        a[1],
        a[-3],
        b[0, 1],
        a.getitem(1),
        a.oindex[1],
        a.vindex[1],
        b.oindex[0, 1],
        b.vindex[0, 1],
    ]
    for found in arrays:
        assert type(found) is np.ndarray
        assert found.shape == ()
        assert found == 1
        found[...] = -1  # is its own
    scalars = [
        a[..., 1], a[1, ...], b[0, ..., 1], a[np.int64(1)], b[0, np.int32(1)], a.get_basic_selection(1),
        b.get_basic_selection((0, 1)), a.getitem(np.int8(1)),
    ]  # fmt: skip
    for found in scalars:
        assert type(found) is np.int32
        assert found == 1
    for found in (zero[()], zero[...], zero.get_basic_selection(), zero.getitem(())):
        assert type(found) is np.int32
        assert found == 5
    assert a[0:1].shape == (1,)
    assert a[0] == a[np.int64(0)] == 0


def test_new_axes_are_for_ints_and_slices() -> None:
    a = zarr.create_array({}, data=np.arange(6).reshape(2, 3), chunks=(1, 2))
    value = a[...]
    assert a[None].shape == (1, 2, 3)
    assert a[..., None, 1].shape == (2, 1)
    assert a[None, 1, 2] == [value[1, 2]]
    b = zarr.create_array({}, data=np.arange(15).reshape(3, 1, 5), chunks=(2, 1, 2))
    for index in ((..., -1, -4, None), (..., 4, None), (2, None, ...), (None, ..., None, -5)):
        np.testing.assert_array_equal(b[index], b[...][index])
    np.testing.assert_array_equal(a[:, np.newaxis, [0, 2]], value[:, np.newaxis, [0, 2]])
    a[None, 1:] = np.array([[[7, 8, 9]]])
    assert a[1].tolist() == [7, 8, 9]
    points = np.array([0, 1])
    for read in (
        lambda: a[None, points, points],
        lambda: a[None, value > 3],
        lambda: a.oindex[None, 0],
        lambda: a.vindex[None, points, points],
        lambda: a.blocks[None, 0],
        lambda: list(a.chunk_parts((None, 0))),
    ):
        with pytest.raises(IndexError, match="new ax"):
            read()


def test_the_length_is_that_of_the_first_dimension() -> None:
    a = zarr.create_array({}, shape=(3, 2), dtype="i4", fill_value=1)
    assert len(a) == 3
    assert [row.tolist() for row in reversed(a)] == [[1, 1]] * 3
    with pytest.raises(TypeError, match="without dimensions"):
        len(zarr.create_array({}, shape=(), dtype="i4"))
    for shape in ((), (0,), (1,), (3, 2)):
        assert bool(zarr.create_array({}, shape=shape, dtype="i4"))


def test_scalars_of_other_kinds() -> None:
    text = new((2,), (1,), str)
    text[1] = "x"
    assert text[1].shape == ()
    assert text[..., 1] == "x"
    assert type(text[..., 1]) is str
    records = new((2,), (1,), STRUCT)
    records[0] = (3, 1.5)
    assert type(records[..., 0]) is np.void
    assert records[..., 0]["a"] == 3
    assert records[0].shape == ()
    times = new((2,), (1,), "M8[s]", fill_value=np.datetime64("NaT", "s"))
    assert np.isnat(times[..., 0])


SIZES = [16, 40_000, 300_000, 2_000_000]


@pytest.mark.parametrize("compressors", [None, "auto"])
@pytest.mark.parametrize("nbytes", SIZES)
def test_results_are_new_and_alias_nothing(nbytes: int, compressors: Any) -> None:
    n = nbytes // 8
    store: dict[str, bytes] = {}
    a = new((4 * n,), (n,), "i8", store, compressors=compressors, fill_value=7)
    source = np.arange(3 * n)
    a[: 3 * n] = source  # the last chunk is missing
    source[...] = -1
    stored = dict(store)
    everything = np.concatenate([np.arange(3 * n), np.full(n, 7)])
    reads = {
        "all": (slice(None), ...),
        "one chunk": (slice(0, n),),
        "part of a chunk": (slice(1, n - 1),),
        "missing": (slice(3 * n, None),),
        "element": (0,),
        "backwards": (slice(n - 1, None, -1),),
        "points": ([0, 0, n],),
        "nothing": (slice(0, 0),),
    }
    for what, index in reads.items():
        for read in (a.__getitem__, a.get_orthogonal_selection):
            found = read(index)
            if index[-1] is ... and read != a.__getitem__:
                continue
            assert isinstance(found, np.ndarray), what
            assert found.flags.owndata, what
            assert found.flags.writeable, what
            np.testing.assert_array_equal(found, everything[index])
            found[...] = -2
            assert store == stored, what
    whole = a.read_chunk((0,))
    whole[...] = -3
    np.testing.assert_array_equal(a[...], everything)
    assert store == stored


@pytest.mark.parametrize("compressors", [None, "auto"])
@pytest.mark.parametrize("nbytes", SIZES)
def test_writing_aliases_nothing(nbytes: int, compressors: Any) -> None:
    n = nbytes // 8
    a = new((2 * n,), (n,), "i8", compressors=compressors)
    for index in (slice(0, n), slice(None), slice(1, n + 1), slice(None, None, -1)):
        source = np.arange(1, len(range(2 * n)[index]) + 1)
        expected = source.copy()
        a[index] = source
        source[...] = -1
        np.testing.assert_array_equal(a[index], expected)
    chunk = np.arange(1, n + 1)
    a.write_chunk((1,), chunk)
    chunk[...] = -1
    np.testing.assert_array_equal(a[n:], np.arange(1, n + 1))


def test_the_order_of_results() -> None:
    for options in ({"config": {"order": "F"}}, {"zarr_format": 2, "order": "F"}):
        a = new((4, 6), (2, 3), **options)
        expected = np.arange(24).reshape(4, 6)
        a[:] = expected
        for found in (a[:], a[:2, :3], a[1:, ::2], a[[0, 2], :], np.asarray(a)):
            assert found.flags.f_contiguous
            assert not found.flags.c_contiguous
        np.testing.assert_array_equal(a[:], expected)


# --- out and prototype -----------------------------------------------------------------------------


class CountingStore(LoggingStore[MemoryStore]):
    """Counts what is asked of it."""

    def __init__(self, store: MemoryStore | None = None, *rest: Any) -> None:
        super().__init__(store or MemoryStore(), *rest)

    def taken(self) -> dict[str, int]:
        """Return the counts since the last time."""
        counts = dict(self.counter)
        self.counter.clear()
        return counts


@pytest.mark.parametrize("dtype", ["m8[ms]", ">m8[ms]", "M8[ms]"])
def test_a_missing_time_of_another_unit_is_stored_as_missing(dtype: str) -> None:
    a = new((4,), (2,), dtype, fill_value=1)
    a[:3] = np.dtype(dtype).type("NaT", "s")
    a[3] = np.dtype(dtype).type(2, "s")
    assert np.isnat(a[:3]).all()
    assert a[3] == np.dtype(dtype).type(2000, "ms")


@pytest.mark.parametrize(
    "out",
    [
        np.empty((2, 4), "i4"),
        np.empty((4,), "i4"),
        np.empty((1, 4, 2), "i4"),
        np.empty((4, 2), "i8"),
        np.empty((4, 2), ">i4"),
        np.empty((4, 2), "u4"),
        np.broadcast_to(np.zeros((), "i4"), (4, 2)),
        "text",
    ],
    ids=["2x4", "1-d", "3-d", "i8", "big-endian", "u4", "read-only", "text"],
)
def test_an_out_that_does_not_fit_is_refused_before_anything_is_read(out: Any) -> None:
    store = CountingStore()
    a = new((4, 4), (2, 2), store=store)
    a[:] = 1
    store.taken()
    rows, columns = np.indices((4, 2))
    for read, index in [
        (a.getitem, (slice(None), slice(0, 2))),
        (a.get_basic_selection, (slice(None), slice(0, 2))),
        (a.get_orthogonal_selection, ([0, 1, 2, 3], slice(0, 2))),
        (a.get_coordinate_selection, (rows, columns)),
        (a.get_block_selection, (slice(None), 0)),
    ]:
        with pytest.raises(ValueError, match=r"out "):
            read(index, out=out)
    with pytest.raises(ValueError, match="out "):
        a.get_mask_selection(np.ones((4, 4), bool), out=out)
    assert store.taken() == {}


def test_out_is_filled_and_returned() -> None:
    a = new((4, 4), (3, 3), fill_value=9)
    a[:3] = np.arange(12).reshape(3, 4)
    expected = a[:]
    buffer = np.full((5, 9), -1, "i4")
    out = buffer[4:0:-1, 1::2]
    assert a.getitem(..., out=out) is out
    np.testing.assert_array_equal(out, expected)
    assert (buffer[0] == -1).all()
    assert (buffer[:, ::2] == -1).all()
    one = np.empty((), "i4")
    assert a.get_basic_selection((1, 1), out=one) is one
    assert one == 5
    points = np.empty((2, 2), "i4", "F")
    assert a.get_coordinate_selection(([[0, 1], [2, 3]], 1), out=points) is points
    np.testing.assert_array_equal(points, expected[[[0, 1], [2, 3]], 1])
    column = np.empty(4, "i4")
    assert a.get_orthogonal_selection((slice(None), 2), out=column) is column
    np.testing.assert_array_equal(column, expected[:, 2])
    several = np.empty((4, 3), "i4")[:, ::2]
    a.get_orthogonal_selection(([3, 0, 0, 1], [1, 0]), out=several)
    np.testing.assert_array_equal(several, expected[[3, 0, 0, 1]][:, [1, 0]])


class Buffer:
    """What zarr-python calls an NDBuffer, as far as it is used."""

    made: list[dict[str, Any]] = []

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def as_ndarray_like(self) -> np.ndarray:
        return self.array

    @classmethod
    def create(cls, **how: Any) -> "Buffer":
        cls.made.append(how)
        return cls(np.empty(how["shape"], how["dtype"], how["order"]).view(Special))


class Special(np.ndarray):
    pass


class Prototype:
    nd_buffer = Buffer


def test_a_prototype_makes_the_result() -> None:
    a = new((4, 4), (2, 2))
    a[:] = np.arange(16).reshape(4, 4)
    for read, index in [
        (a.getitem, slice(1, 3)),
        (a.get_basic_selection, slice(1, 3)),
        (a.get_orthogonal_selection, [1, 2]),
        (a.get_block_selection, 0),
        (a.get_mask_selection, np.eye(4, dtype=bool)),
        (a.get_coordinate_selection, ([1], [2])),
    ]:
        found = read(index, prototype=Prototype)
        assert type(found) is Special
        np.testing.assert_array_equal(found, read(index))
    made = Buffer.made[0]
    assert (made["shape"], made["dtype"], made["order"]) == ((2, 4), np.dtype("i4"), "C")
    a.setitem(0, 1, prototype=Prototype)
    np.testing.assert_array_equal(a[0], np.ones(4))


# --- fields ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [{}, {"shards": 4}, {"zarr_format": 2}])
def test_fields_are_read_and_written_alone(layout: Any) -> None:
    a = new((4,), (2,), NESTED, **layout)
    expected = np.zeros(4, NESTED)
    expected["x"] = [1, 2, 3, 4]
    expected["y"]["z"] = [5, 6, 7, 8]
    a["x"] = [1, 2, 3, 4]
    a.set_basic_selection(slice(None), expected["y"], fields="y")
    assert_same(a[:], expected)
    assert_same(a["x"], expected["x"])
    assert_same(a[1:, "y"], np.array(expected["y"][1:]))
    assert_same(a.oindex[[3, 0], "x"], expected["x"][[3, 0]])
    assert_same(a.vindex[[3, 0], "x"], expected["x"][[3, 0]])
    assert_same(a.blocks[-1, "x"], expected["x"][0 if a.shards else 2 :])
    both = a[["y", "x"]]
    assert both.dtype.names == ("y", "x")
    assert both["x"].tolist() == [1, 2, 3, 4]
    assert a.get_mask_selection(expected["x"] > 2, fields="x").tolist() == [3, 4]
    assert a.get_basic_selection(0, fields=["x"])["x"] == 1
    a.set_mask_selection(expected["x"] > 2, 9, fields="x")
    assert a["x"].tolist() == [1, 2, 9, 9]
    two = np.zeros(2, np.dtype([("x", "u1")]))
    a.set_basic_selection(slice(0, 2), two, fields=["x"])
    assert a["x"].tolist() == [0, 0, 9, 9]
    assert a["y"]["z"].tolist() == [5, 6, 7, 8]


def test_fields_that_are_arrays() -> None:
    dtype = np.dtype([("a", "i4", (2,)), ("b", "f4")])
    a = new((5,), (2,), dtype, zarr_format=2)
    expected = np.zeros(5, dtype)
    for index, value in [
        (slice(None), np.arange(10).reshape(5, 2)),
        (slice(0, 2), 7),
        (slice(1, 3), [[1, 2], [3, 4]]),
        (slice(3, None), [5, 6]),
        (0, [8, 9]),
    ]:
        expected["a"][index] = value
        a.set_basic_selection(index, value, fields="a")
        assert_same(a[...], expected)
    assert_same(a["a"], np.array(expected["a"]))
    assert_same(a[1:4:2, "a"], np.array(expected["a"][1:4:2]))
    assert_same(a[::-1, "a"], np.array(expected["a"][::-1]))
    assert_same(a.oindex[[3, 0], "a"], expected["a"][[3, 0]])
    assert_same(a.vindex[[[3], [0]], "a"], expected["a"][[[3], [0]]])
    assert_same(a.get_mask_selection(expected["b"] == 0, fields="a"), np.array(expected["a"]))
    out = np.empty((5, 2), "i4")
    assert_same(a.get_basic_selection(fields="a", out=out), np.array(expected["a"]))
    expected["a"][[3, 0]] = [[1, 2], [3, 4]]
    a.set_orthogonal_selection([3, 0], [[1, 2], [3, 4]], fields="a")
    assert_same(a[["b", "a"]]["a"], np.array(expected["a"]))
    with pytest.raises(ValueError, match="broadcast"):
        a.set_basic_selection(slice(0, 2), [1, 2, 3], fields="a")
    with a.batch() as batch:
        batch["a"] = 5
        batch[1:3, "b"] = 1
        batch.setitem(0, [1, 0], fields="a")
        assert batch["a"].tolist() == [[1, 0], *[[5, 5]] * 4]
    assert a["a"].tolist() == [[1, 0], *[[5, 5]] * 4]
    assert a["b"].tolist() == [0, 1, 1, 0, 0]


def test_fields_that_are_not_there() -> None:
    a = new((4,), (2,), STRUCT)
    plain = new((4,), (2,))
    for call in (
        lambda: a["c"],
        lambda: a.get_basic_selection(0, fields="c"),
        lambda: a.set_basic_selection(0, 1, fields=["a", "c"]),
        lambda: a.__setitem__("c", 1),
        lambda: a.get_basic_selection("a", fields="b"),
        lambda: plain["a"],
        lambda: plain.get_basic_selection(0, fields="a"),
        lambda: plain.__setitem__("a", 1),
    ):
        with pytest.raises(IndexError):
            call()


# --- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [{}, {"shards": (4, 4)}, {"config": {"order": "F"}}])
@pytest.mark.parametrize("chunks", [(2, 2), (4, 4), (1, 3)])
def test_values_that_do_not_fit_change_nothing(chunks: Any, layout: Any) -> None:
    if "shards" in layout and 4 % chunks[1]:
        chunks = (1, 4)
    store: dict[str, bytes] = {}
    a = new((4, 4), chunks, "i4", store, **layout)
    a[:] = 7
    before = dict(store)
    wrong = [
        (0, np.arange(1, 4)),
        (slice(None), np.ones((3, 4))),
        (slice(0, 2), np.ones((4, 4))),
        (slice(None), np.ones((2, 4, 4))),
        ((slice(None), 0), np.ones((4, 1))),
        (slice(None), "text"),
        (slice(None), [[1, 2], [3]]),
        (slice(None), 2**40),
        (slice(None), [[1, 2, 3, None]]),
        (slice(0, 0), np.ones((3, 4))),
        ([0, 1], np.ones((3, 4))),
        (np.eye(4, dtype=bool), np.ones(3)),
    ]
    reference = np.full((4, 4), 7, "i4")
    for index, value in wrong:
        with pytest.raises((ValueError, OverflowError, TypeError)) as numpy_error:
            reference[index] = value
        with pytest.raises(numpy_error.type):
            a[index] = value
        assert store == before
    for index, value in [
        (slice(0, 3), np.arange(4).reshape(1, 4)),
        (slice(0, 3), np.arange(12).reshape(1, 3, 4)),
        ((slice(None), 0), 5),
        (slice(None), [1, 2, 3, 4]),
        (0, np.arange(4, dtype="f4") + 0.7),
        (slice(None), True),
        ((slice(3, 4), 3), np.array([[9]])),
        (slice(None, None, -2), np.arange(8).reshape(2, 4)),
    ]:
        reference[index] = value
        a[index] = value
        np.testing.assert_array_equal(a[:], reference)


def test_the_last_of_several_values_for_one_element_stays() -> None:
    a = new((5,), (2,))
    a.set_coordinate_selection(([1, 4, 1, 4, 1],), [1, 2, 3, 4, 5])
    a.set_orthogonal_selection(([0, 0, 2],), [6, 7, 8])
    assert a[:].tolist() == [7, 5, 8, 0, 4]


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_values_and_indices_of_other_classes() -> None:
    a = new((2, 4), (1, 2))
    masked = np.ma.array([[1, 2, 3, 4]] * 2, mask=[[0, 1, 0, 0]] * 2)
    for selection in (..., (slice(None), slice(2))):  # NumPy would store the data below the mask
        with pytest.raises(ValueError, match=r"2 of . elements are masked"):
            a[selection] = masked[selection]
    a[:] = masked.data
    assert a[:].tolist() == [[1, 2, 3, 4]] * 2
    a[:] = np.asmatrix(np.arange(8).reshape(2, 4))
    assert a[:].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    a[1] = new((4,), (2,), fill_value=9)  # a Zarr array
    assert a[:].tolist() == [[0, 1, 2, 3], [9, 9, 9, 9]]
    a[0] = range(4)
    a[0] = memoryview(np.arange(4, 8))
    assert a[0].tolist() == [4, 5, 6, 7]

    class Place(NamedTuple):
        row: int
        column: Any

    assert a[Place(0, 1)] == 5
    assert a[Place(0, slice(1, 3))].tolist() == [5, 6]
    a[Place(0, 1)] = -5
    assert a.get_basic_selection(Place(0, 1)) == -5
    assert a.vindex[Place([0], [1])].tolist() == [-5]


def test_strings_and_bytes_are_converted_as_numpy_does() -> None:
    store: dict[str, bytes] = {}
    text = new((2,), (1,), str, store)
    text[:] = np.array(["a", "é"])
    assert text[:].dtype == np.dtypes.StringDType()
    text[1] = 5
    assert text[:].tolist() == ["a", "5"]
    data = new((3,), (1,), bytes)
    data[:] = np.array([b"a", b"", b"c"])
    data[1] = b"b\0"
    assert data[:].tolist() == [b"a", b"b\0", b"c"]
    with pytest.raises(TypeError, match="'x'"):
        data[:] = [b"a", b"b", "x"]
    assert data[:].tolist() == [b"a", b"b\0", b"c"]


# --- what is stored --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "fill", "kept"),
    [
        ("f8", 0.0, -0.0),
        ("f8", -0.0, 0.0),
        ("f8", np.nan, NAN),
        ("f4", np.nan, -np.float32(np.nan)),
        ("c8", 0j, complex(0.0, -0.0)),
        ("i4", 3, 0),
        (str, "a", ""),
        (bytes, b"", b"\0"),
        ("S2", b"a", b""),
        (STRUCT, (0, 0.0), (0, -0.0)),
    ],
)
def test_only_chunks_of_the_very_fill_value_are_left_out(dtype: Any, fill: Any, kept: Any) -> None:
    store: dict[str, bytes] = {}
    a = new((2,), (2,), dtype, store, fill_value=fill)
    a[:] = as_element(fill, a.dtype)
    assert "c/0" not in store
    a[0] = as_element(kept, a.dtype)
    assert "c/0" in store
    assert_same(a[0], as_element(kept, a.dtype))
    assert_same(a[1], as_element(fill, a.dtype))
    again = zarr.open_array(store)
    assert_same(again[0], as_element(kept, a.dtype))
    assert_same(again[1], as_element(fill, a.dtype))
    a[0] = as_element(fill, a.dtype)
    assert "c/0" not in store, "a chunk that becomes the fill value is removed"


def test_empty_chunks_can_be_written() -> None:
    store: dict[str, bytes] = {}
    a = new((4,), (2,), store=store, config={"write_empty_chunks": True})
    a[:2] = 0
    assert sorted(store) == ["c/0", "zarr.json"]
    a.with_config({"write_empty_chunks": False})[:2] = 0
    assert sorted(store) == ["zarr.json"]
    a.write_chunk((1,), 0)
    assert sorted(store) == ["c/1", "zarr.json"]


def test_edge_chunks_are_stored_at_full_size_with_fill_beyond() -> None:
    store: dict[str, bytes] = {}
    a = new((3,), (2,), "u1", store, fill_value=7)
    a[2] = 1
    assert store["c/1"] == b"\1\7"
    a[:] = [2, 3, 4]
    assert store["c/1"] == b"\4\7"


def test_missing_chunks_can_be_errors() -> None:
    a = new((4, 4), (2, 2))
    a[:2] = 1
    strict = a.with_config({"read_missing_chunks": False})
    for layout in (strict, strict.with_config({"order": "F"})):
        np.testing.assert_array_equal(layout[:2], np.ones((2, 4)))
        for read in (
            lambda a=layout: a[3, 3],
            lambda a=layout: a[:],
            lambda a=layout: a.oindex[[3], [3]],
            lambda a=layout: a.vindex[3, 3],
            lambda a=layout: a.read_chunk((1, 1)),
        ):
            with pytest.raises(
                zarr.errors.ChunkNotFoundError, match=r"\(1, [01]\).*c/1/[01]"
            ) as caught:
                read()
            assert isinstance(caught.value, KeyError)
    strict[2:] = 2  # writing needs no chunk to be there
    assert strict[3, 3] == 2


# --- what is asked of the store --------------------------------------------------------------------


def test_how_often_the_store_is_asked() -> None:
    store = CountingStore()
    a = new((10, 10), (5, 5), store=store)
    store.taken()
    a[:] = 1
    assert store.taken() == {"set": 4}
    a[:5] = np.arange(50).reshape(5, 10)
    assert store.taken() == {"set": 2}
    a[:, 5:] = 2
    assert store.taken() == {"set": 2}
    a[4:6, 0] = 3
    assert store.taken() == {"get": 2, "set": 2}
    a[:]
    assert store.taken() == {"get": 4}
    a[0, 0]
    assert store.taken() == {"get": 1}
    a[::9, ::9]
    assert store.taken() == {"get": 4}
    a.oindex[[0, 9, 1], [2]]
    assert store.taken() == {"get": 2}
    a.vindex[[0, 9, 1], [2, 2, 3]]
    assert store.taken() == {"get": 2}
    a[0:0]
    a[[], :]
    assert store.taken() == {}
    a[:5, :5] = 0
    assert store.taken() == {"delete": 1}
    zarr.open_array(store, zarr_format=3)
    assert store.taken() == {"get": 1}
    a.with_config({"order": "F"})
    a.metadata, a.shape, a.nchunks, repr(a), a.info
    list(a.chunk_parts())
    assert store.taken() == {}


def test_edge_chunks_that_are_overwritten_are_not_read() -> None:
    store = CountingStore()
    a = new((7, 7), (4, 4), store=store)
    a[:] = 1
    store.taken()
    a[4:, 4:] = 2
    a[:] = np.ones((7, 7))
    a[:, 6] = 1  # not all of a chunk
    assert store.taken() == {"set": 1 + 4 + 2, "get": 2}
