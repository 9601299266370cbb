"""What an array is and how it changes: properties, handles, resizing, attributes, chunks, errors."""

import errno
import json
import math
import os
import pickle
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import at_once, from_threads
from strategies import rectilinear_edges, shapes

import zarr_core as zarr
from zarr_core import codecs
from zarr_core.config import ArrayConfig, BadConfigError
from zarr_core.errors import (
    ArrayIndexError,
    ArrayNotFoundError,
    ChunkDecodeError,
    ConflictError,
    MetadataValidationError,
    NodeNotFoundError,
    ReadOnlyError,
    UnknownCodecError,
)
from zarr_core.metadata import ArrayMetadata
from zarr_core.storage import (
    ByteRequest,
    LatencyStore,
    LocalStore,
    LoggingStore,
    MemoryStore,
    Store,
    StorePath,
    Value,
    WrapperStore,
    Writable,
)

Array = zarr.Array


def new(shape: Any = (4, 6), chunks: Any = (2, 3), dtype: Any = "i4", **options: Any) -> Array:
    """Return an array without compressor at `/a` of a new store."""
    options = {"store": {}, "name": "a", "compressors": None, **options}
    return zarr.create_array(shape=shape, chunks=chunks, dtype=dtype, **options)


# --- properties ------------------------------------------------------------------------------------


def test_what_an_array_of_format_3_says() -> None:
    store = MemoryStore()
    a = new(
        (7, 6), (2, 3), "f4", store=store, name="g/a", fill_value=1.5, attributes={"x": [1]},
        dimension_names=["t", None], filters=[codecs.TransposeCodec(order=(1, 0))],
        compressors=[codecs.ZstdCodec(level=3)],
    )  # fmt: skip
    assert a.store is store
    assert a.store_path == StorePath(store, "g/a")
    assert (a.path, a.name, a.basename) == ("g/a", "/g/a", "a")
    assert (a.shape, a.ndim, a.size, a.dtype, a.nbytes) == ((7, 6), 2, 42, np.dtype("f4"), 168)
    assert (a.chunks, a.shards, a.cdata_shape, a.nchunks) == ((2, 3), None, (4, 2), 8)
    assert a.read_chunk_sizes == a.write_chunk_sizes == ((2, 2, 2, 1), (3, 3))
    assert a.fill_value == np.float32(1.5)
    assert type(a.fill_value) is np.float32
    assert a.order == "C"
    assert not a.read_only
    assert a.filters == (codecs.TransposeCodec(order=(1, 0)),)
    assert a.serializer == codecs.BytesCodec(endian="little")
    assert a.compressors == (codecs.ZstdCodec(level=3),)
    with pytest.raises(TypeError, match="compressors"):
        a.compressor
    assert a.metadata.dimension_names == ("t", None)
    assert a.metadata.zarr_format == 3
    assert isinstance(a.config, ArrayConfig)
    assert dict(a.attrs) == {"x": [1]}
    assert repr(a) == f"<Array {store}/g/a shape=(7, 6) dtype=float32>"


def test_what_an_array_of_format_2_says() -> None:
    a = new(dtype=">i2", zarr_format=2, order="F", filters=[{"id": "shuffle", "elementsize": 2}],
            compressors={"id": "zlib", "level": 3}, fill_value=None)  # fmt: skip
    assert a.dtype == np.dtype(">i2")
    assert a.order == "F"
    assert a.fill_value is None
    assert [f.codec_id for f in a.filters] == ["shuffle"]
    assert [c.get_config() for c in a.compressors] == [{"id": "zlib", "level": 3}]
    assert a.compressor.codec_id == "zlib"
    assert a.serializer is None
    with pytest.raises(AttributeError, match="dimension_names"):
        a.metadata.dimension_names
    assert not hasattr(a.metadata, "dimension_names")
    assert (a[:] == 0).all()


def test_what_a_sharded_array_says() -> None:
    a = new((10, 10), (2, 5), shards=(4, 5))
    assert (a.chunks, a.shards) == ((2, 5), (4, 5))
    assert (a.cdata_shape, a.nchunks) == ((5, 2), 10)
    assert a.write_chunk_sizes == ((4, 4, 2), (5, 5))
    assert a.read_chunk_sizes == ((2, 2, 2, 2, 2), (5, 5))
    assert a.serializer == codecs.BytesCodec(endian="little")
    assert a.filters == a.compressors == ()
    assert a.nchunks_initialized == 0
    a[0, 0] = 1
    assert a.nchunks_initialized == 2  # both of the shard
    a[9, 9] = 1
    assert a.nchunks_initialized == 3  # the other one is beyond the end


def test_what_an_array_with_a_rectilinear_grid_says() -> None:
    a = new((5, 6), [[2, 3], 4])
    with pytest.raises(NotImplementedError, match="read_chunk_sizes"):
        a.chunks
    assert a.shards is None
    with pytest.raises(NotImplementedError, match="write_chunk_sizes"):
        new((4,), (2,), shards=[[4]]).shards
    assert a.read_chunk_sizes == a.write_chunk_sizes == ((2, 3), (4, 2))
    assert (a.cdata_shape, a.nchunks) == ((2, 2), 4)
    assert "rectilinear" in repr(a.info)


def test_questions_about_a_huge_array_are_cheap() -> None:
    for layout in ({}, {"shards": (2, 2)}):
        a = new((10**9, 10**9), (1, 1), **layout)
        assert a.cdata_shape == (10**9, 10**9)
        assert a.nchunks == 10**18
        assert "1000000000000000000" in repr(a.info)
        a[10**9 - 1, 5] = 3
        assert a[10**9 - 1, 5] == 3
        assert a.nchunks_initialized == (4 if layout else 1)
        assert next(iter(a.chunk_parts((slice(5, None, 10**8), 3)))).coords[1] == (
            1 if layout else 3
        )
        a.resize((3, 3))
        assert a.nchunks_initialized == 0


def test_the_constructor_and_from_dict_do_no_io() -> None:
    store = LoggingStore(MemoryStore())
    a = new(store=store)
    a[:] = 1
    store.counter.clear()
    place = StorePath(store, "a")
    for b in (
        Array(a.metadata, place),
        Array(a.metadata.to_dict(), place),
        Array(a.metadata, place, {"order": "F"}),
        Array.from_dict(place, a.metadata.to_dict()),
    ):
        assert b.metadata == a.metadata
        assert not store.counter
        assert b[0, 0] == 1
        store.counter.clear()
    assert Array.open(place) == a
    assert dict(store.counter) == {"get": 1, "exists": 2}, "a look for format 2 beside format 3"
    root = Array(a.metadata, MemoryStore())
    assert (root.path, root.name, root.basename) == ("", "/", "")
    with pytest.raises(MetadataValidationError, match="shape"):
        Array({"zarr_format": 3, "node_type": "array"}, place)


def test_opening_what_is_not_there() -> None:
    with pytest.raises(ArrayNotFoundError, match="No array found in store"):
        Array.open({})
    with pytest.raises(FileNotFoundError):
        Array.open({})
    group = zarr.create_group({})
    with pytest.raises(ArrayNotFoundError, match="A group exists"):
        Array.open(group.store)


# --- as a Python object ----------------------------------------------------------------------------


def test_equality_is_of_place_metadata_and_config() -> None:
    store = MemoryStore()
    a = new(store=store)
    assert a == zarr.open_array(store, path="a")
    assert a == a.with_config({})
    assert a != a.with_config({"order": "F"})
    assert a != new()
    assert a != new(store=store, name="b")
    assert a != zarr.open_array(store.with_read_only(True), path="a", mode="r")
    assert a != "a"
    other = zarr.open_array(store, path="a")
    other.attrs["x"] = 1
    assert a != other
    assert new(fill_value=0).metadata == new().metadata
    nan = [new(dtype="f8", fill_value=f).metadata for f in (np.nan, np.nan, 0.0, -0.0)]
    assert nan[0] == nan[1] != nan[2] != nan[3]


def test_what_an_array_is_not() -> None:
    a = new()
    with pytest.raises(TypeError):
        hash(a)
    assert bool(a)


def test_an_array_can_become_one_of_a_subclass() -> None:
    class Named(zarr.Array):
        def label(self) -> str:
            return f"{self.name} {self.shape}"

    a = new()
    a.__class__ = Named  # as hdmf-zarr does
    assert isinstance(a, Named)
    assert a.label() == f"{a.name} {a.shape}"
    a.other = 1
    assert a.other == 1
    assert a[...].shape == a.shape


@pytest.mark.parametrize(
    ("library", "made"),
    [("pandas", "Series"), ("polars", "Series"), ("pyarrow", "array")],
)
def test_columns_of_other_libraries(library: str, made: str) -> None:
    column_of = getattr(pytest.importorskip(library), made)
    pytest.importorskip("pyarrow")
    for values in (np.arange(5.0), np.array(["a", "bc", ""], np.dtypes.StringDType())):
        array = zarr.array(values, chunks=(2,))
        assert list(map(str, np.asarray(column_of(array)))) == list(map(str, values))


@pytest.mark.parametrize("chunks", [(2, 3), [[1, 3], 6]])
def test_iterating_yields_the_rows_and_reads_each_chunk_once(chunks: Any) -> None:
    store = LoggingStore(MemoryStore())
    a = new(chunks=chunks, store=store)
    a[:] = np.arange(24).reshape(4, 6)
    store.counter.clear()
    rows = list(a)
    assert store.counter["get"] == a.nchunks
    assert [row.tolist() for row in rows] == np.arange(24).reshape(4, 6).tolist()
    assert all(row.flags.owndata and row.flags.writeable for row in rows)
    line = new((3,), (2,))
    line[:] = [1, 2, 3]
    assert [type(e) for e in line] == [np.ndarray] * 3
    assert list(line) == [1, 2, 3]
    assert list(new((0, 3), (1, 1))) == []
    assert list(new((), ())) == []
    assert 2 in line
    first = next(iter(new((10**12,), (10,))))
    assert first == 0


def test_conversion_to_numpy() -> None:
    a = new(fill_value=3)
    for found in (np.asarray(a), np.array(a), a.__array__(), np.asarray(a, copy=True)):
        assert type(found) is np.ndarray
        assert found.dtype == np.int32
        assert (found == 3).all()
    assert np.asarray(a, "f8").dtype == np.float64
    with pytest.raises(ValueError, match="copy"):
        np.asarray(a, copy=False)
    assert np.sum(a) == 72
    zero = new((), (), fill_value=5)
    assert np.asarray(zero).shape == ()
    assert float(np.asarray(zero)) == 5


@pytest.mark.parametrize("layout", [{}, {"shards": (4, 6)}, {"zarr_format": 2}])
def test_pickling(layout: Any, tmp_path: Path) -> None:
    a = new(store=str(tmp_path), config={"order": "F"}, **layout)
    a[:] = np.arange(24).reshape(4, 6)
    b = pickle.loads(pickle.dumps(a))
    assert b == a
    assert b.config == a.config
    assert (b[:] == a[:]).all()
    for view in (a.oindex, a.vindex, a.blocks):
        same = pickle.loads(pickle.dumps(view))
        assert type(same) is type(view)
        assert same[0, 0].reshape(-1)[0] == 0
    assert dict(pickle.loads(pickle.dumps(a.attrs))) == {}


def test_dask_gets_the_same_name_for_the_same_array(tmp_path: Path) -> None:
    a = new(store=str(tmp_path))
    assert a.__dask_tokenize__() == zarr.open_array(str(tmp_path), path="a").__dask_tokenize__()
    before = a.__dask_tokenize__()
    a.resize((1, 1))
    assert a.__dask_tokenize__() != before
    hash(before)


def test_info() -> None:
    a = new(shards=(4, 6))
    text = repr(a.info)
    for part in ("Zarr format", "int32", "(4, 6)", "(2, 3)", "Shard shape", "MemoryStore", "96"):
        assert part in text
    assert "Chunks initialized" not in text
    a[:] = 1
    complete = repr(a.info_complete())
    assert "Chunks initialized : 4/4" in complete
    assert str(a.nbytes_stored()) in complete
    assert "<table>" in a.info._repr_html_()
    assert a.nbytes_stored() == sum(
        len(v) for k, v in a.store._store_dict.items() if k != "zarr.json"
    )


def test_read_only_arrays() -> None:
    store = MemoryStore()
    a = new(store=store)
    a[:] = 1
    before = dict(store._store_dict)
    b = zarr.open_array(store, path="a", mode="r")
    assert b.read_only
    for change in (
        lambda: b.__setitem__(..., 2),
        lambda: b.set_mask_selection(np.ones((4, 6), bool), 2),
        lambda: b.resize((2, 2)),
        lambda: setattr(b, "shape", (2, 2)),
        lambda: b.append(np.ones((1, 6))),
        lambda: b.attrs.update(x=1),
        b.attrs.clear,
        lambda: b.update_attributes({"x": 1}),
        lambda: b.write_chunk((0, 0), 2),
        lambda: b.delete_chunk((0, 0)),
        lambda: b.__setitem__((0, 0), 2),
    ):
        with pytest.raises(ReadOnlyError) as caught:
            change()
        assert isinstance(caught.value, PermissionError | ValueError)
    assert store._store_dict == before
    assert b.shape == (4, 6)
    assert dict(b.attrs) == {}


# --- resizing --------------------------------------------------------------------------------------


@given(st.data())
def test_resizing_is_cutting_and_filling(data: st.DataObject) -> None:
    shape = data.draw(shapes(3, 6))
    chunks = [
        list(data.draw(rectilinear_edges(n, exact=True)))
        if n and data.draw(st.integers(0, 3)) == 0
        else data.draw(st.integers(1, n + 1))
        for n in shape
    ]
    options: dict[str, Any] = {}
    if shape and all(isinstance(c, int) for c in chunks) and data.draw(st.booleans()):
        options["shards"] = tuple(c * data.draw(st.integers(1, 2)) for c in chunks)
    a = new(
        shape,
        chunks,
        fill_value=-1,
        config={"write_empty_chunks": data.draw(st.booleans())},
        **options,
    )
    expected = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    a[...] = expected
    for _ in range(data.draw(st.integers(1, 3))):
        wanted = tuple(data.draw(st.integers(0, n + 3)) for n in shape)
        if data.draw(st.booleans()):
            a.resize(wanted)
        else:
            a.shape = wanted
        both = tuple(slice(0, min(m, n)) for m, n in zip(expected.shape, wanted, strict=True))
        resized = np.full(wanted, -1)
        resized[both] = expected[both]
        expected = resized
        assert a.shape == wanted
        np.testing.assert_array_equal(a[...], expected)
    assert zarr.open_array(a.store, path="a").shape == expected.shape
    beyond = [
        key
        for key in a.store._store_dict
        if (at := a.metadata.chunk_key_encoding.decode(key.removeprefix("a/"), len(shape)))
        and any(k >= n for k, n in zip(at, a.metadata.chunk_grid.counts, strict=True))
    ]
    assert beyond == []


def test_shrinking_publishes_the_shape_before_it_removes_chunks() -> None:
    calls: list[str] = []

    class Recording(WrapperStore[MemoryStore]):
        def set_if_version(self, key: str, value: Writable, version: str | None) -> bool:
            calls.append(f"set {key}")
            return super().set_if_version(key, value, version)

        def set(self, key: str, value: Writable) -> None:
            calls.append(f"set {key}")
            super().set(key, value)

        def delete(self, key: str) -> None:
            calls.append(f"delete {key}")
            super().delete(key)

    a = new((6,), (2,), store=Recording(MemoryStore()))
    a[:] = 1
    calls.clear()
    a.resize(3)
    assert calls == ["set a/zarr.json", "delete a/c/2", "set a/c/1"]


def test_only_stored_chunks_are_cut() -> None:
    store = LoggingStore(MemoryStore())
    a = new((10**6, 10**6), (10, 10), store=store, config={"write_empty_chunks": True})
    a[5, 5] = a[10**6 - 1, 0] = a[0, 10**6 - 1] = a[99, 3] = 1
    store.counter.clear()
    a.resize((10**6 - 5, 95))
    assert store.counter["get"] <= 4
    assert store.counter["set"] <= 1
    assert store.counter["delete"] == 1
    a.resize((10**6, 10**6))
    assert a[5, 5] == a[99, 3] == 1
    assert a[10**6 - 1, 0] == a[0, 10**6 - 1] == 0
    assert a.nchunks_initialized == 3


def test_chunks_outside_can_be_kept() -> None:
    a = new((6,), (2,))
    a[:] = range(1, 7)
    a.resize((3,), delete_outside_chunks=False)
    assert a[:].tolist() == [1, 2, 3]
    a.resize(6)
    assert a[:].tolist() == [1, 2, 3, 4, 5, 6]
    a.resize([3])
    a.resize((np.int64(6),))
    assert a[:].tolist() == [1, 2, 3, 0, 0, 0]


@pytest.mark.parametrize("shape", [(1,), (1, 2, 3), (-1, 2), 5, "ab", (1.5, 2), (2**63, 1), None])
def test_shapes_that_cannot_be(shape: Any) -> None:
    a = new()
    before = dict(a.store._store_dict)
    with pytest.raises((ValueError, TypeError)):
        a.resize(shape)
    assert a.store._store_dict == before
    assert a.shape == (4, 6)


def test_a_stale_handle_cannot_cut_off_what_another_one_added() -> None:
    a = new((4,), (2,))
    b = zarr.open_array(a.store, path="a")
    a.resize(8)
    a[4:] = 1
    with pytest.raises(ConflictError, match=r"\(8,\).*\(6,\)"):
        b.resize(6)
    assert zarr.open_array(a.store, path="a").shape == (8,)
    assert b.refresh() is b
    b.resize(6)
    assert b.shape == (6,)
    a.resize(8)
    with pytest.raises(ConflictError):
        b.resize(2)  # smaller than both: what was added would be lost all the same
    b.refresh()
    c = zarr.open_array(a.store, path="a")
    b.resize(3)
    c.resize(3)
    assert c[:].tolist() == [0, 0, 0]


def test_appending() -> None:
    a = new((2, 3), (2, 2))
    a[:] = 1
    assert a.append(np.full((1, 3), 2)) == (3, 3)
    assert a.append([[3], [3], [3]], axis=1) == (3, 4)
    assert a.append(np.zeros((0, 4))) == (3, 4)
    assert a.append(np.full((3, 1), 4), axis=-1) == (3, 5)
    assert a[:].tolist() == [[1, 1, 1, 3, 4]] * 2 + [[2, 2, 2, 3, 4]]
    for data, axis in [
        (np.ones((1, 4)), 0),
        (np.ones(5), 0),
        (np.ones((1, 1, 5)), 0),
        (np.ones((2, 1)), 1),
        (5, 0),
        (np.array([["x"] * 5]), 0),
    ]:
        with pytest.raises(ValueError):
            a.append(data, axis)
    for axis in (2, -3):
        with pytest.raises(IndexError, match=f"axis {axis}"):
            a.append(np.ones((1, 5)), axis)
    assert a.shape == (3, 5)


def test_two_handles_that_append_lose_nothing() -> None:
    a = new((2,), (3,))
    b = zarr.open_array(a.store, path="a")
    a.append([1, 2, 3])
    b.append([4, 5])
    a.append([6])
    assert b.refresh()[:].tolist() == [0, 0, 1, 2, 3, 4, 5, 6]
    wide = new((2, 2), (2, 2))
    stale = zarr.open_array(wide.store, path="a")
    wide.resize((2, 3))
    with pytest.raises(ConflictError, match=r"\(2, 3\)"):
        stale.append(np.ones((1, 2)))
    assert wide.refresh().shape == (2, 3)


def test_chunks_that_are_added_take_the_codecs() -> None:
    a = new((8,), (2,), shards=[[4, 4]])
    a[:] = 1
    assert a.append([2, 2, 2]) == (11,)
    assert a.write_chunk_sizes == ((4, 4, 3),)
    assert a.metadata.chunk_grid.stored_shape((2,)) == (4,)
    assert zarr.open_array(a.store, path="a")[:].tolist() == [1] * 8 + [2] * 3
    assert a.nchunks_initialized == a.nchunks == 6
    turned = new((4, 8), [4, [4, 4]], serializer=codecs.BytesCodec(),
                 filters=[codecs.TransposeCodec(order=(1, 0))])  # fmt: skip
    document = turned.metadata.to_dict()
    inner = {"chunk_shape": [2, 2], "codecs": [document["codecs"][1]], "index_codecs": [
        {"name": "bytes", "configuration": {"endian": "little"}}], "index_location": "end"}  # fmt: skip
    document["codecs"][1] = {"name": "sharding_indexed", "configuration": inner}
    turned.store.set("a/zarr.json", json.dumps(document).encode())
    turned = zarr.open_array(turned.store, path="a")
    turned[:] = 1
    before = turned.store.get("a/zarr.json")
    with pytest.raises(MetadataValidationError):
        turned.append(np.ones((4, 3)), axis=1)
    assert turned.store.get("a/zarr.json") == before
    assert turned.append(np.ones((4, 2)), axis=1) == (4, 10)
    assert (turned[:] == 1).all()


def test_threads_that_append_lose_nothing() -> None:
    first = new((0,), (7,))

    def work(number: int) -> None:
        mine = zarr.open_array(first.store, path="a")
        for i in range(10):
            mine.append([100 * number + i] * 3)

    from_threads(work, 6)
    found = first.refresh()[:].tolist()
    assert sorted(found) == sorted(
        100 * n + i for n in range(6) for i in range(10) for _ in range(3)
    )
    assert found[::3] == found[1::3] == found[2::3]


# --- attributes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_attributes_are_stored_with_every_change(zarr_format: Any) -> None:
    a = new(zarr_format=zarr_format, attributes={"x": 1})

    def stored() -> dict[str, Any]:
        return zarr.open_array(a.store, path="a").attrs.asdict()

    a.attrs["y"] = {"z": [1, 2]}
    assert stored() == {"x": 1, "y": {"z": [1, 2]}}
    a.attrs.update({"x": 2}, w="é")
    assert stored() == {"x": 2, "y": {"z": [1, 2]}, "w": "é"}
    del a.attrs["y"]
    assert stored() == {"x": 2, "w": "é"}
    assert a.attrs.pop("w") == "é"
    assert a.attrs.setdefault("v", 5) == 5
    assert stored() == a.attrs.asdict() == dict(a.attrs) == {"x": 2, "v": 5}
    assert a.update_attributes({"u": None}) is a
    assert stored() == {"x": 2, "v": 5, "u": None}
    a.attrs.put({"only": True})
    assert stored() == {"only": True}
    assert list(a.attrs) == ["only"]
    assert len(a.attrs) == 1
    assert "only" in a.attrs
    assert "x" not in a.attrs
    assert repr(a.attrs) == "{'only': True}"
    a.attrs.clear()
    assert stored() == {}
    for key in ("x", 3):
        with pytest.raises(KeyError):
            a.attrs[key]
        with pytest.raises(KeyError):
            del a.attrs[key]


def test_nested_attributes_are_copies() -> None:
    a = new(attributes={"x": {"y": [1]}})
    a.attrs["x"]["y"].append(2)
    a.attrs.asdict()["x"]["y"].append(2)
    dict(a.attrs.items())["x"]["y"].append(2)
    mine = {"z": [1]}
    a.attrs["w"] = mine
    mine["z"].append(2)
    assert a.attrs.asdict() == {"x": {"y": [1]}, "w": {"z": [1]}}


def test_attributes_that_json_cannot_hold() -> None:
    a = new()
    before = dict(a.store._store_dict)
    for bad in ({"x": object()}, {"x": {1, 2}}, {"x": b"1"}, {3: 1}, {"x": 1j}):
        for change in (a.attrs.update, a.attrs.put, a.update_attributes):
            with pytest.raises(MetadataValidationError) as caught:
                change(bad)
            assert isinstance(caught.value, TypeError | ValueError)
            assert repr(next(iter(bad))) in str(caught.value)
    assert a.store._store_dict == before
    a.attrs["n"] = np.float32(1.5)
    a.attrs["i"] = np.int8(3)
    a.attrs["t"] = (1, 2)
    assert a.attrs.asdict() == {"n": 1.5, "i": 3, "t": [1, 2]}
    with pytest.warns(zarr.errors.ZarrUserWarning, match="'nan'"):
        a.attrs["nan"] = float("nan")
    assert np.isnan(zarr.open_array(a.store, path="a").attrs["nan"])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_two_handles_do_not_lose_each_others_attributes(zarr_format: Any) -> None:
    a = new(zarr_format=zarr_format)
    b = zarr.open_array(a.store, path="a")
    a.attrs["a"] = 1
    b.attrs["b"] = 2
    a.resize((8, 6))
    b.attrs["c"] = 3
    del a.attrs["b"]
    fresh = zarr.open_array(a.store, path="a")
    assert fresh.attrs.asdict() == {"a": 1, "c": 3}
    assert fresh.shape == b.shape == (8, 6)

    def work(number: int) -> None:
        mine = zarr.open_array(a.store, path="a")
        for i in range(10):
            mine.attrs[f"{number}.{i}"] = i

    from_threads(work, 6)
    assert len(a.refresh().attrs) == 62


def test_changing_a_node_that_is_gone() -> None:
    a = new()
    for key in list(a.store._store_dict):
        a.store.delete(key)
    for change in (lambda: a.attrs.update(x=1), lambda: a.resize((1, 1)), a.refresh):
        with pytest.raises(NodeNotFoundError):
            change()
    assert a.store._store_dict == {}
    zarr.create_group(a.store, path="a")
    with pytest.raises(NodeNotFoundError):
        a.resize((1, 1))


# --- handles ---------------------------------------------------------------------------------------


def test_handles_of_one_array_share_what_they_know() -> None:
    a = new((4,), (2,))
    f = a.with_config({"order": "F"})
    views = (a.oindex, f.vindex, a.blocks)
    attributes = f.attrs
    a[:] = range(4)
    f.resize(6)
    f.attrs["x"] = 1
    assert a.shape == f.shape == (6,)
    assert attributes["x"] == a.attrs["x"] == 1
    assert views[0][4:].tolist() == [0, 0]
    assert views[1][[5]].tolist() == [0]
    assert views[2][2].tolist() == [0, 0]
    views[0][5] = 9
    assert a[5] == f[5] == 9


def test_config_of_a_handle() -> None:
    a = new(config={"write_empty_chunks": True})
    assert a.config.write_empty_chunks
    assert a.config.order == "C"
    f = a.with_config({"order": "F"})
    assert f.config == ArrayConfig(order="F", write_empty_chunks=True)
    assert f.order == "F"
    assert a.order == "C"
    assert a.with_config(ArrayConfig()).config == ArrayConfig()
    for bad in ({"order": "X"}, {"other": 1}, {"write_empty_chunks": 1}):
        with pytest.raises(BadConfigError):
            a.with_config(bad)
    with zarr.config.set({"array.order": "F", "array.write_empty_chunks": True}):
        captured = new()
    assert captured.order == "F"
    assert captured.config.write_empty_chunks
    assert new().order == "C"


def test_refresh_shows_what_others_changed() -> None:
    a = new((4,), (2,))
    b = zarr.open_array(a.store, path="a")
    b.resize(6)
    b.attrs["x"] = 1
    b[5] = 7
    assert a.shape == (4,)
    assert a.refresh() is a
    assert a.shape == (6,)
    assert a.attrs["x"] == 1
    assert a[5] == 7


# --- chunks ----------------------------------------------------------------------------------------


def outer(array: np.ndarray, selection: tuple[Any, ...]) -> np.ndarray:
    """Return what is selected along each dimension on its own."""
    for axis, selector in reversed(list(enumerate(selection))):
        array = array[(slice(None),) * axis + (selector,)]
    return array


def test_the_parts_that_a_selection_touches() -> None:
    a = new((5, 6), (2, 4))
    a[:] = np.arange(30).reshape(5, 6)
    for index in (
        ...,
        (slice(1, 4), 5),
        ([4, 0], slice(None)),
        ([4, 0, 4], 5),
        (2, [5, 0, 1]),
        (slice(None, None, 2), slice(0, 3)),
        (slice(None, None, -1), slice(4, None, -2)),
        (slice(None, None, -3), 1),
    ):
        expected = a[index]
        out = np.full_like(expected, -1)
        parts = list(a.chunk_parts(index))
        seen = set()
        for part in parts:
            assert part.key == f"a/c/{part.coords[0]}/{part.coords[1]}"
            assert part.coords not in seen
            seen.add(part.coords)
            chunk = a.read_chunk(part.coords)
            region = a[part.region]
            np.testing.assert_array_equal(chunk[: region.shape[0], : region.shape[1]], region)
            where = outer(np.arange(out.size).reshape(out.shape), part.out_selection)
            out.reshape(-1)[where] = outer(chunk, part.chunk_selection)
        np.testing.assert_array_equal(out, expected)
    rows, columns = [[0, 4], [2, 2]], [5, 0]
    points = np.full(4, -1)
    for part in a.chunk_parts((rows, columns)):
        (where,) = part.out_selection
        points[where] = a.read_chunk(part.coords)[part.chunk_selection]
    np.testing.assert_array_equal(points.reshape(2, 2), a[rows, columns])
    sharded = new((8,), (2,), shards=(4,))
    assert [p.key for p in sharded.chunk_parts(slice(3, 5))] == ["a/c/0", "a/c/1"]
    assert list(new((0,), (2,)).chunk_parts()) == []
    zero = list(new((), ()).chunk_parts())
    assert [(p.coords, p.key, p.region) for p in zero] == [((), "a/c", ())]
    with pytest.raises(IndexError):
        next(a.chunk_parts(99))


@pytest.mark.parametrize(
    "layout", [{}, {"compressors": "auto"}, {"zarr_format": 2}, {"shards": (4, 6)}]
)
def test_whole_chunks(layout: Any) -> None:
    a = new((5, 6), fill_value=7, **layout)
    stored_shape = a.shards or a.chunks
    assert a.read_encoded_chunk((0, 0)) is None
    assert (a.read_chunk((0, 0)) == np.full(stored_shape, 7)).all()
    value = np.arange(np.prod(stored_shape)).reshape(stored_shape)
    last = tuple(n - 1 for n in a.metadata.chunk_grid.counts)
    a.write_chunk(last, value)
    found = a.read_chunk(last)
    assert found.dtype == a.dtype
    assert found.flags.writeable
    np.testing.assert_array_equal(found, value)
    region = a.metadata.chunk_grid.region(last)
    cut = tuple(slice(0, s.stop - s.start) for s in region)
    np.testing.assert_array_equal(a[region], value[cut])
    encoded = a.read_encoded_chunk(last)
    assert type(encoded) is bytes
    assert encoded == a.store.get(next(p.key for p in a.chunk_parts(region) if p.coords == last))
    a.write_chunk(last, 7)
    assert a.read_encoded_chunk(last) is None
    a.write_chunk(last, value[:1])
    a.delete_chunk(last)
    assert a.read_encoded_chunk(last) is None
    a.delete_chunk(last)
    for coords in ((9, 0), (0, -1), (0,), (0, 0, 0)):
        for call in (a.read_chunk, a.read_encoded_chunk, a.delete_chunk):
            with pytest.raises(ArrayIndexError, match="outside the grid"):
                call(coords)
        with pytest.raises(ArrayIndexError, match="outside the grid"):
            a.write_chunk(coords, 1)
    before = dict(a.store._store_dict)
    with pytest.raises(ValueError):
        a.write_chunk((0, 0), np.ones((7, 7)))
    assert a.store._store_dict == before


# --- threads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layout", [{}, {"shards": (200,)}, {"compressors": "auto"}, {"slow": True}]
)
def test_threads_and_handles_lose_nothing(layout: Any, tmp_path: Path) -> None:
    layout = dict(layout)
    store: Any = LocalStore(tmp_path)
    if layout.pop("slow", False):
        store = LatencyStore(MemoryStore(), get_latency=0.0005, set_latency=0.0005)
    a = new((400,), (50,), "i8", store=store, **layout)
    b = zarr.open_array(
        LocalStore(str(tmp_path) + os.sep) if layout != {} and store is None else store, path="a"
    )

    def only_parts(number: int) -> None:
        mine = (a, b)[number % 2]
        for i in range(number, 400, 16):
            mine[i] = i + 1
        mine.oindex[[number, 399 - number]] = [number + 1, 400 - number]

    from_threads(only_parts, 16)
    assert a[:].tolist() == list(range(1, 401))


def test_whole_and_partial_writes_beside_each_other() -> None:
    a = new((400,), (50,), "i8")
    b = zarr.open_array(a.store, path="a")
    values = np.arange(1, 401)

    def whole(number: int) -> None:
        for _ in range(20):
            (a, b)[number % 2][100 * number : 100 * number + 50] = values[
                100 * number : 100 * number + 50
            ]

    def parts(number: int) -> None:
        for i in range(100 * number + 50, 100 * number + 100):
            (a, b)[i % 2][i] = values[i]

    at_once(*[partial(f, n) for n in range(4) for f in (whole, parts)])
    np.testing.assert_array_equal(a[:], values)


def test_readers_see_old_or_new_chunks_never_half() -> None:
    a = new((1000,), (1000,), "i8", compressors="auto")
    a[:] = 0
    done = threading.Event()
    torn: list[Any] = []

    def write() -> None:
        for i in range(200):
            a[:] = i
        done.set()

    def read() -> None:
        while not done.is_set():
            found = a[:]
            if (found != found[0]).any():
                torn.append(found)

    at_once(write, read, read)
    assert torn == []


# --- errors that name what failed ------------------------------------------------------------------


def text_of(error: BaseException) -> str:
    return "\n".join([str(error), *getattr(error, "__notes__", ())])


CHAINS = {
    "bytes": {},
    "zstd": {"compressors": [codecs.ZstdCodec()]},
    "gzip": {"compressors": [codecs.GzipCodec()]},
    "blosc": {"compressors": [codecs.BloscCodec()]},
    "crc32c": {"compressors": [codecs.Crc32cCodec()]},
    "zlib": {"zarr_format": 2, "compressors": {"id": "zlib"}},
    "vlen-utf8": {"dtype": str},
}


@pytest.mark.parametrize("damage", ["truncated", "empty", "trailing"])
@pytest.mark.parametrize("codec", CHAINS)
def test_damaged_chunks_are_errors_that_say_where(codec: str, damage: str, tmp_path: Path) -> None:
    a = new((4,), (2,), **{"dtype": "i4", "store": str(tmp_path), "name": "g/a", **CHAINS[codec]})
    a[:] = 1 if codec != "vlen-utf8" else "abc"
    (part,) = a.chunk_parts(slice(2, 4))
    data = a.store.get(part.key)
    damaged = {"truncated": data[:-1], "empty": b"", "trailing": bytes(data) + b"\1"}[damage]
    a.store.set(part.key, damaged)
    for call in (
        lambda: a[2],
        lambda: a[:],
        lambda: a.oindex[[3, 1]],
        lambda: a.vindex[[3, 1]],
        lambda: a[::-1],
        lambda: a.read_chunk((1,)),
        lambda: a.__setitem__(2, a.fill_value),
    ):
        with pytest.raises(ChunkDecodeError) as caught:
            call()
        assert isinstance(caught.value, OSError | ValueError)
        for word in ("chunk (1,)", "array '/g/a'", f"key {part.key!r}", repr(codec), str(tmp_path)):
            assert word in str(caught.value)
        assert caught.value.__cause__ is not None
    assert a.store.get(part.key) == damaged
    a[2:] = a[0]  # a chunk that is overwritten whole is not read
    assert a[2] == a[0]


def test_a_directory_in_the_place_of_a_chunk_is_an_error(tmp_path: Path) -> None:
    a = new((4,), (2,), store=str(tmp_path), name=None)
    (tmp_path / "c" / "1").mkdir(parents=True)
    assert a[:2].tolist() == [0, 0]
    check_store_error(a, OSError, "c/1")


def test_a_chunk_without_permission_is_an_error() -> None:
    class Denied(WrapperStore[MemoryStore]):
        def get(self, key: str, byte_range: ByteRequest | None = None) -> Value | None:
            if key.endswith("c/1"):
                raise PermissionError(errno.EACCES, "denied", key)
            return super().get(key, byte_range)

        open_value = Store.open_value

    for layout in ({}, {"shards": (2,), "chunks": (1,)}):
        for wrap in (Denied, lambda s: LatencyStore(Denied(s))):
            a = new((4,), **{"chunks": (2,), "store": wrap(MemoryStore()), "name": None, **layout})
            assert a[:2].tolist() == [0, 0]
            check_store_error(a, PermissionError, "c/1")


def check_store_error(a: Array, kind: type[Exception], key: str) -> None:
    for call in (
        lambda: a[2],
        lambda: a[:],
        lambda: a.oindex[[3, 1]],
        lambda: a.vindex[[3, 1]],
        lambda: a.read_chunk((1,)),
        lambda: a.__setitem__(2, 1),
        lambda: a.oindex.__setitem__([3], 1),
    ):
        with pytest.raises(kind) as caught:
            call()
        text = text_of(caught.value)
        for word in ("chunk (1,)", "array '/", key, str(a.store)):
            assert word in text, text
        assert text.count("chunk (1,)") == 1


def test_a_write_that_fails_says_where() -> None:
    class Full(WrapperStore[MemoryStore]):
        def set(self, key: str, value: Writable) -> None:
            if key.endswith("c/1"):
                raise OSError(errno.ENOSPC, "no space")
            super().set(key, value)

    for wrap in (Full, lambda s: LatencyStore(Full(s))):
        a = new((8,), (2,), store=wrap(MemoryStore()))
        for call, index, value in (
            (a.__setitem__, ..., 1),
            (a.__setitem__, 3, 1),
            (a.__setitem__, slice(None), np.arange(1, 9)),
            (a.write_chunk, (1,), 1),
        ):
            with pytest.raises(OSError) as caught:
                call(index, value)
            assert caught.value.errno == errno.ENOSPC
            for word in ("chunk (1,)", "array '/a'", "a/c/1", str(a.store)):
                assert word in text_of(caught.value)


def test_an_array_with_an_unknown_codec_opens_and_fails_on_data() -> None:
    a = new()
    document = a.metadata.to_dict()
    document["codecs"].append({"name": "secret", "configuration": {"level": 3}})
    b = Array.from_dict(a.store_path, document)
    b.store.set("a/zarr.json", json.dumps(document).encode())
    b = zarr.open_array(a.store, path="a")
    assert b.shape == (4, 6)
    assert b.chunks == (2, 3)
    assert "secret" in repr(b.info)
    b.attrs["x"] = 1
    again = zarr.open_array(a.store, path="a")
    assert again.metadata.chain[-1].to_json() == document["codecs"][-1]
    for call in (
        lambda: b[0],
        lambda: b.__setitem__(0, 1),
        lambda: b.compressors,
        lambda: b.read_chunk((0, 0)),
    ):
        with pytest.raises(UnknownCodecError, match="'secret'") as caught:
            call()
        assert isinstance(caught.value, KeyError | ValueError)


def test_metadata_of_another_array_is_not_mixed_up() -> None:
    a = new((4,), (2,))
    a[:] = 1
    b = new((4,), (2,), "f8", store=a.store, name="b")
    b[:] = 2
    assert a[:].tolist() == [1] * 4
    assert b[:].tolist() == [2.0] * 4
    percent = new((4,), (2,), name="100%d")
    percent[:] = 3
    assert percent[:].tolist() == [3] * 4
    assert "100%d/c/1" in percent.store._store_dict
    assert isinstance(percent.metadata, ArrayMetadata)


# --- a store that fails once -----------------------------------------------------------------------


class FailsOnce(WrapperStore[MemoryStore]):
    """Raises in its n-th call, whatever it is."""

    def __init__(self, store: MemoryStore, at: int) -> None:
        super().__init__(store)
        self.left = at
        self.lock = threading.Lock()

    def _call(self, name: str, *args: Any) -> Any:
        with self.lock:
            self.left -= 1
            if self.left == 0:
                raise OSError(errno.EIO, f"{name} failed")
        return getattr(self.store, name)(*args)

    def get(self, *args: Any) -> Any:
        return self._call("get", *args)

    def set(self, *args: Any) -> None:
        self._call("set", *args)

    def delete(self, *args: Any) -> None:
        self._call("delete", *args)

    def exists(self, *args: Any) -> bool:
        return bool(self._call("exists", *args))

    def open_value(self, *args: Any) -> Any:
        return self._call("open_value", *args)

    def get_versioned(self, *args: Any) -> Any:
        return self._call("get_versioned", *args)

    def set_if_version(self, *args: Any) -> bool:
        return bool(self._call("set_if_version", *args))

    def list_prefix(self, *args: Any) -> Any:
        return self._call("list_prefix", *args)


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("layout", [{}, {"shards": (4, 4)}, {"zarr_format": 2}])
def test_a_store_that_fails_once_is_an_error_and_trying_again_mends_it(
    layout: Any, slow: bool
) -> None:
    def scenario(store: Any) -> Array:
        a = new((6, 4), (2, 2), store=store, name="g/a", overwrite=True, **layout)
        a[:] = np.arange(1, 25).reshape(6, 4)
        a[1:3, 1] = 0
        a.attrs["x"] = 1
        a.resize((3, 3))
        a.resize((5, 4))
        a.delete_chunk((0, 0))
        assert a[4, 3] == 0
        a[:, :] += 1
        return a

    expected = scenario(MemoryStore())[:]
    at = 0
    while True:
        at += 1
        inner = MemoryStore()
        faulty = FailsOnce(inner, at)
        store = LatencyStore(faulty) if slow else faulty
        try:
            scenario(store)
        except OSError as error:
            assert error.errno == errno.EIO  # noqa: PT017
        else:
            break  # the scenario is over before the failure
        assert faulty.left <= 0
        a = scenario(store)
        np.testing.assert_array_equal(a[:], expected)
        np.testing.assert_array_equal(zarr.open_array(inner, path="g/a")[:], expected)
        assert zarr.open_array(inner, path="g/a").attrs.asdict() == {"x": 1}
    assert at > 30


# --- in the place of a NumPy array -------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0, 3), (4, 3), (1,)])
def test_length(shape: Any) -> None:
    assert len(zarr.create_array({}, shape=shape, dtype="i4")) == shape[0]


def test_without_dimensions_there_is_no_length() -> None:
    with pytest.raises(TypeError, match="no length"):
        len(zarr.create_array({}, shape=(), dtype="i4"))


NEW_AXES = [
    None,
    (None,),
    (None, None),
    (0, None),
    (None, 0),
    (..., None),
    (None, ...),
    (0, ..., None, slice(None, None, -2)),
    (slice(1, 3), None, slice(None)),
    (0, None, 1),
    (0, 1, None),
    (..., 0, None),
    (None, slice(0, 2), None, 1, None),
    (None, slice(0, 0)),
    (np.int64(1), None),
    (slice(0, 2), ..., slice(0, 3), None),
]


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("selection", NEW_AXES)
def test_new_axes_are_those_of_numpy(selection: Any, sharded: bool) -> None:
    data = np.arange(24).reshape(4, 6)
    shards = {"shards": (4, 6)} if sharded else {}
    array = zarr.create_array({}, data=data, chunks=(2, 3), **shards)
    for got in (
        array[selection],
        array.getitem(selection),
        array.get_basic_selection(selection),
        array.with_config({"order": "F"})[selection],
        zarr.read_many([(array, selection)])[0],
    ):
        np.testing.assert_array_equal(got, data[selection], strict=True)
    value = 100 + np.arange(data[selection].size).reshape(data[selection].shape)
    data[selection] = value
    array[selection] = value
    np.testing.assert_array_equal(array[...], data)
    with array.batch() as batch:
        batch[selection] = value + 1
        np.testing.assert_array_equal(batch[selection], value + 1)
    data[selection] = value + 1
    np.testing.assert_array_equal(array[...], data)


def test_new_axes_of_an_array_without_dimensions() -> None:
    array = zarr.create_array({}, data=np.array(5))
    for selection in (None, (None, None), (..., None), (None, ...)):
        np.testing.assert_array_equal(array[selection], np.array(5)[selection], strict=True)
    array[None] = [7]
    assert array[()] == 7


def test_new_axes_with_fields() -> None:
    data = np.array([(1, 2), (3, 4)], dtype="i4,i8")
    array = zarr.create_array({}, data=data)
    np.testing.assert_array_equal(array["f1", None], data["f1"][None], strict=True)
    np.testing.assert_array_equal(array[None, 0], data[None, 0], strict=True)


def test_new_axes_elsewhere_are_refused() -> None:
    array = zarr.create_array({}, data=np.arange(24).reshape(4, 6))
    for view in (array.oindex, array.vindex, array.blocks):
        for selection in (None, (None, 0), (0, None, 0), ([0], [1], None)):
            with pytest.raises(IndexError, match="new axes"):
                view[selection]
    for selection in ((None, [0, 1], [0, 1]), (None, np.ones((4, 6), bool))):
        with pytest.raises(IndexError, match="new axes"):
            array[selection]
    with pytest.raises(IndexError, match="new axes"):
        list(array.chunk_parts(None))


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("shards", [None, (6, 8)])
def test_chunks_are_encoded_and_decoded_without_a_store(zarr_format: Any, shards: Any) -> None:
    if shards is not None and zarr_format == 2:
        return
    store: dict[str, bytes] = {}
    array = zarr.create_array(
        store, shape=(5, 9), chunks=(3, 4), shards=shards, dtype="i2", zarr_format=zarr_format,
        fill_value=7,
    )  # fmt: skip
    shape = shards or (3, 4)
    values = np.arange(math.prod(shape), dtype="i2").reshape(shape)
    last = tuple((n - 1) // size for n, size in zip((5, 9), shape, strict=True))
    encoded = array.encode_chunk(values, last)
    assert not [key for key in store if "zarr" not in key and ".z" not in key]
    array.write_chunk(last, values)
    assert encoded == array.read_encoded_chunk(last)
    assert array.encode_chunk(7) == array.encode_chunk(np.full(shape, 7))
    decoded = array.decode_chunk(last, encoded)
    assert decoded.tolist() == values.tolist() == array.read_chunk(last).tolist()
    decoded[...] = 0  # is a copy
    assert array.decode_chunk(last, memoryview(encoded)).tolist() == values.tolist()
    with pytest.raises(ChunkDecodeError, match="chunk"):
        array.decode_chunk(last, encoded[:5])
    with pytest.raises(ValueError, match="shape"):
        array.encode_chunk(np.zeros((2, 2)))
    with pytest.raises(IndexError):
        array.encode_chunk(0, (9, 9))
