"""Creating arrays: defaults, what users may write, modes, and nothing stored when it is refused."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_core as zarr
from zarr_core import codecs
from zarr_core.codecs.checks import load_numcodecs
from zarr_core.errors import (
    ArrayNotFoundError,
    ContainsArrayError,
    ContainsGroupError,
    ReadOnlyError,
    UnstableSpecificationWarning,
    ZarrRuntimeWarning,
    ZarrUserWarning,
)
from zarr_core.storage import LocalStore, LoggingStore, MemoryStore

numcodecs = load_numcodecs()  # without the warnings of its import
unstable = pytest.mark.filterwarnings("ignore::zarr_core.errors.UnstableSpecificationWarning")


def document(store: Any, name: str = "zarr.json") -> Any:
    return json.loads(store[name])


# --- defaults --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dtype", "chunks"),
    [
        ((10**6,), "f4", (125000,)),
        ((5000, 5000), "f4", (313, 625)),
        ((3, 4, 5, 1000, 1000), "f4", (1, 1, 2, 500, 500)),
        ((1000, 1000), "f4", (250, 500)),
        ((0,), "f4", (1,)),
        ((10, 0), "f4", (10, 1)),
        ((), "f4", ()),
        ((100,), "i1", (100,)),
        ((10**9, 10**9), "f8", (1908, 3815)),
    ],
)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_chunks_are_those_that_zarr_python_chooses(
    shape: Any, dtype: str, chunks: Any, zarr_format: Any
) -> None:
    made = zarr.create_array({}, shape=shape, dtype=dtype, zarr_format=zarr_format)
    assert made.chunks == chunks
    assert zarr.create(shape, dtype=dtype, zarr_format=zarr_format).chunks == chunks
    assert zarr.zeros(shape, dtype=dtype, zarr_format=zarr_format).chunks == chunks


def paths(zarr_format: Any) -> dict[str, zarr.Array]:
    """Return an array from every function that makes one."""
    options: dict[str, Any] = {"zarr_format": zarr_format}
    group = zarr.create_group({}, **options)
    data = np.zeros(3)
    store: dict[str, bytes] = {}
    zarr.save_array(store, data, **options)
    return {
        "create_array": zarr.create_array({}, shape=3, dtype="f8", **options),
        "create_array of data": zarr.create_array({}, data=data, **options),
        "from_array": zarr.from_array({}, data=data, **options),
        "create": zarr.create(3, **options),
        "array": zarr.array(data, **options),
        "zeros": zarr.zeros(3, **options),
        "empty": zarr.empty(3, **options),
        "open_array": zarr.open_array({}, shape=3, mode="w", **options),
        "open": zarr.open({}, shape=3, mode="w", **options),
        "group": group.create_array("a", shape=3, dtype="f8"),
        "save_array": zarr.open_array(store),
    }


def test_the_defaults_are_the_same_on_every_path() -> None:
    for name, a in paths(3).items():
        assert a.metadata.zarr_format == 3, name
        assert a.dtype == np.float64, name
        assert a.fill_value == 0, name
        assert a.filters == (), name
        assert a.serializer == codecs.BytesCodec(endian="little"), name
        assert a.compressors == (codecs.ZstdCodec(level=0, checksum=False),), name
        assert a.shards is None, name
        assert a.metadata.dimension_names is None, name
        assert a.metadata.chunk_key_encoding.encode((1,)) == "c/1", name
        assert a.attrs.asdict() == {}, name
    for name, a in paths(2).items():
        assert a.metadata.zarr_format == 2, name
        assert a.fill_value == 0, name
        assert a.filters == (), name
        assert [c.get_config() for c in a.compressors] == [numcodecs.Zstd(level=0).get_config()], (
            name
        )
        assert a.metadata.dimension_separator == ".", name
        assert a.order == "C", name


@unstable
@pytest.mark.parametrize(
    ("dtype", "fill", "zero", "one"),
    [
        ("bool", False, False, True),
        ("i2", 0, 0, 1),
        ("f4", 0.0, 0.0, 1.0),
        ("c8", 0j, 0j, 1 + 0j),
        ("U2", "", "", "1"),
        ("S2", b"", b"", b"1"),
        (str, "", "", "1"),
        (bytes, b"", b"", b"1"),
        ("M8[s]", np.datetime64("NaT", "s"), np.datetime64(0, "s"), np.datetime64(1, "s")),
        ("m8[s]", np.timedelta64("NaT", "s"), np.timedelta64(0, "s"), np.timedelta64(1, "s")),
        ("V2", b"\0\0", b"\0\0", None),
        ([("a", "i2"), ("b", "f4")], (0, 0.0), (0, 0.0), (1, 1.0)),
    ],
)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_fill_values_follow_from_the_data_type(
    dtype: Any, fill: Any, zero: Any, one: Any, zarr_format: Any
) -> None:
    def element(a: zarr.Array) -> Any:
        return a[..., 0]

    options = {"dtype": dtype, "zarr_format": zarr_format}
    wanted = zarr.create(1, **options).dtype
    if zarr_format == 3:
        assert wanted.kind in "TO" or wanted == np.dtype(dtype)
    for made, value in [
        (zarr.create_array({}, shape=1, **options), fill),
        (zarr.create(1, **options), fill),
        (zarr.empty(1, **options), fill),
        (zarr.zeros(1, **options), zero),
        *([] if one is None else [(zarr.ones(1, **options), one)]),
    ]:
        expected = np.empty((), made.dtype)
        expected[...] = value
        assert repr(np.asarray(element(made), made.dtype).tolist()) == repr(expected.tolist())


def test_a_fill_value_of_none() -> None:
    three: dict[str, bytes] = {}
    two: dict[str, bytes] = {}
    assert zarr.create_array(three, shape=1, dtype="f8", fill_value=None).fill_value == 0
    assert document(three)["fill_value"] == 0.0
    assert (
        zarr.create_array(two, shape=1, dtype="f8", fill_value=None, zarr_format=2).fill_value
        is None
    )
    assert document(two, ".zarray")["fill_value"] is None
    assert zarr.open_array(two)[0] == 0


def test_defaults_come_from_the_settings() -> None:
    with zarr.config.set({"default_zarr_format": 2, "array.order": "F"}):
        a = zarr.create((2, 2))
        assert a.metadata.zarr_format == 2
        assert a.order == "F"
        assert (
            zarr.create_array({}, shape=1, dtype="i4", zarr_format=None).metadata.zarr_format == 2
        )
    assert zarr.create(1).metadata.zarr_format == 3


# --- what users may write --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "chunks"),
    [
        (5, (5, 5)),
        ((5, 3), (5, 3)),
        ([5, 3], (5, 3)),
        (np.array([5, 3]), (5, 3)),
        ((np.int8(5), 3), (5, 3)),
        (-1, (10, 20)),
        (False, (10, 20)),
        ((-1, 5), (10, 5)),
        ((100, 100), (100, 100)),
        ("auto", (10, 20)),
        (None, (10, 20)),
        (True, (10, 20)),
    ],
)
def test_chunks_that_users_write(given: Any, chunks: Any) -> None:
    assert zarr.create_array({}, shape=(10, 20), dtype="i4", chunks=given).chunks == chunks
    assert zarr.create((10, 20), chunks=given).chunks == chunks


def test_lists_of_lengths_make_the_grid_rectilinear() -> None:
    for given in ([[4, 4, 2], 20], [(4, 4, 2), -1], [np.array([4, 4, 2]), 20], [[[4, 2], 2], 20]):
        store: dict[str, bytes] = {}
        a = zarr.create_array(store, shape=(10, 20), dtype="i4", chunks=given)
        assert a.read_chunk_sizes == ((4, 4, 2), (20,))
        assert document(store)["chunk_grid"]["configuration"]["chunk_shapes"] == [[[4, 2], 2], 20]


@pytest.mark.parametrize(
    ("given", "chunks", "shards"),
    [
        ({"chunks": 5, "shards": 10}, (5, 5), (10, 10)),
        ({"chunks": (5, 2), "shards": (10, 4)}, (5, 2), (10, 4)),
        ({"chunks": 5, "shards": {"shape": (10, 10), "index_location": "start"}}, (5, 5), (10, 10)),
        ({"chunks": (3, 5), "shards": -1}, (3, 5), (12, 20)),
        ({"shards": (10, 4)}, (10, 4), (10, 4)),
        ({"shards": 4}, (4, 4), (4, 4)),
        ({"shards": {"shape": -1}}, (10, 20), (10, 20)),
    ],
)
def test_shards_that_users_write(given: Any, chunks: Any, shards: Any) -> None:
    store: dict[str, bytes] = {}
    a = zarr.create_array(store, shape=(10, 20), dtype="i4", **given)
    assert (a.chunks, a.shards) == (chunks, shards)
    where = document(store)["codecs"][0]["configuration"]["index_location"]
    assert where == ("start" if "start" in str(given) else "end")
    a[:] = 1
    assert (zarr.open_array(store)[:] == 1).all()


def test_chunks_chosen_for_shards_divide_them() -> None:
    a = zarr.create_array({}, shape=(10**4, 10**4), dtype="f8", shards=(3000, 1100))
    assert all(s % c == 0 and c < s for s, c in zip(a.shards, a.chunks, strict=True))
    with pytest.warns(ZarrUserWarning, match="Automatic shard shape inference"):
        a = zarr.create_array({}, shape=(1000, 1000), dtype="i4", chunks=(10, 10), shards="auto")
    assert a.shards == (20, 20)
    with (
        zarr.config.set({"array.target_shard_size_bytes": 10_000}),
        pytest.warns(ZarrUserWarning, match="Automatic"),
    ):
        a = zarr.create_array({}, shape=(1000, 1000), dtype="i4", chunks=(10, 10), shards="auto")
    assert a.shards == (50, 50)


@pytest.mark.parametrize(
    ("given", "separator", "key"),
    [
        (None, "/", "c/1"),
        ({"name": "default", "separator": "."}, ".", "c.1"),
        ({"name": "v2"}, ".", "1"),
        ({"name": "v2", "configuration": {"separator": "/"}}, "/", "1"),
        ("v2", ".", "1"),
        (("default", "."), ".", "c.1"),
    ],
)
def test_chunk_key_encodings_that_users_write(given: Any, separator: str, key: str) -> None:
    store: dict[str, bytes] = {}
    a = zarr.create_array(store, shape=2, chunks=1, dtype="u1", chunk_key_encoding=given)
    a[1] = 1
    assert key in store
    assert a.metadata.dimension_separator == separator
    again = zarr.create_array(
        {}, shape=2, dtype="u1", chunk_key_encoding=a.metadata.chunk_key_encoding
    )
    assert again.metadata.chunk_key_encoding == a.metadata.chunk_key_encoding


def test_codecs_that_users_write() -> None:
    for given in (
        codecs.GzipCodec(level=3),
        [codecs.GzipCodec(level=3)],
        {"name": "gzip", "configuration": {"level": 3}},
        [{"name": "gzip", "configuration": {"level": 3}}],
        numcodecs.GZip(3),
        {"id": "gzip", "level": 3},
    ):
        a = zarr.create_array({}, shape=3, dtype="i4", compressors=given)
        a[:] = [1, 2, 3]
        assert a[:].tolist() == [1, 2, 3]
        (codec,) = a.compressors
        assert codec.to_dict()["configuration"]["level"] == 3
    for none in (None, [], ()):
        assert zarr.create_array({}, shape=3, dtype="i4", compressors=none).compressors == ()
    for given in ({"id": "zlib", "level": 2}, numcodecs.Zlib(2), [numcodecs.Zlib(2)]):
        a = zarr.create_array({}, shape=3, dtype="i4", compressors=given, zarr_format=2)
        assert a.compressor.get_config() == {"id": "zlib", "level": 2}
    a = zarr.create_array(
        {}, shape=3, dtype="i4", compressors=codecs.GzipCodec(level=4), zarr_format=2
    )
    assert a.compressor.get_config() == {"id": "gzip", "level": 4}
    a = zarr.create(
        3, dtype="u1", codecs=["bytes", {"name": "gzip", "configuration": {"level": 1}}]
    )
    assert [c.name for c in a.compressors] == ["gzip"]
    # what follows from the data type is resolved before it is stored
    store: dict[str, bytes] = {}
    zarr.create_array(store, shape=3, dtype="f8", compressors=codecs.BloscCodec())
    assert document(store)["codecs"][1]["configuration"]["typesize"] == 8


def test_dimension_names() -> None:
    store: dict[str, bytes] = {}
    zarr.create_array(store, shape=(1, 1, 1), dtype="i4", dimension_names=["x", None, ""])
    assert document(store)["dimension_names"] == ["x", None, ""]
    assert zarr.open_array(store).metadata.dimension_names == ("x", None, "")
    assert "dimension_names" not in document(
        zarr.create_array({}, shape=1, dtype="i4").store._store_dict
    )


def test_order_means_something_in_format_2_only() -> None:
    with pytest.warns(ZarrRuntimeWarning, match="The `order` keyword argument has no effect"):
        a = zarr.create_array({}, shape=(2, 2), dtype="i4", order="F")
    assert a.order == "C"
    store: dict[str, bytes] = {}
    b = zarr.create_array(store, shape=(2, 2), dtype="i4", order="F", zarr_format=2)
    assert b.order == "F"
    assert document(store, ".zarray")["order"] == "F"
    c = zarr.create_array({}, shape=(2, 2), dtype="i4", config={"order": "F"})
    assert c.order == "F"


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_strings(zarr_format: Any) -> None:
    store: dict[str, bytes] = {}
    a = zarr.create_array(store, shape=2, dtype=str, zarr_format=zarr_format)
    a[:] = ["a", "é"]
    again = zarr.open_array(store)
    assert again.dtype == np.dtypes.StringDType()
    assert again[:].tolist() == ["a", "é"]
    for data in (["a", "bc"], np.array(["a", "bc"], np.dtypes.StringDType())):
        made = zarr.array(data, zarr_format=zarr_format)
        assert made.dtype == np.dtypes.StringDType()
        assert made[:].tolist() == ["a", "bc"]
    assert zarr.create_array({}, data=["a", "bc"], zarr_format=zarr_format)[1] == "bc"


def test_data_types_without_a_specification_warn() -> None:
    for dtype in ("S3", "V3", bytes):
        with pytest.warns(UnstableSpecificationWarning, match="does not have a Zarr V3 spec"):
            zarr.create_array({}, shape=1, dtype=dtype)


def test_data_can_be_anything_like_an_array() -> None:
    for data in ([[1, 2], [3, 4]], np.arange(4).reshape(2, 2), zarr.array(np.ones((2, 2)))):
        a = zarr.create_array({}, data=data)
        np.testing.assert_array_equal(a[:], np.asarray(data))
        assert a.dtype == np.asarray(data).dtype
    assert zarr.create_array({}, data=[1, 2], dtype="f4").dtype == np.float32
    assert zarr.create_array({}, data=[1, 2], write_data=False)[:].tolist() == [0, 0]
    assert zarr.create_array({}, data=5)[()] == 5
    assert zarr.create_array({}, data=np.arange(3), shape=3)[:].tolist() == [0, 1, 2]


def test_data_of_another_kind_of_array_is_read_in_parts() -> None:
    class Lazy:
        shape, dtype, ndim = (5000, 1000), np.dtype("i4"), 2
        largest = 0

        def __getitem__(self, index: Any) -> Any:
            found = np.ones(self.shape, self.dtype)[index]
            Lazy.largest = max(Lazy.largest, found.size)
            return found

    with zarr.config.set({"threading.max_workers": 1}):
        a = zarr.create_array({}, data=Lazy(), chunks=(100, 1000))
    assert (a[:] == 1).all()
    assert Lazy.largest < 5_000_000 / 2


# --- nothing is stored when something is wrong ------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"shape": None}, "shape"),
        ({"dtype": None}, "dtype"),
        ({"shape": -1}, "-1"),
        ({"shape": (2, 1.5)}, "1.5"),
        ({"shape": 2**63}, "9223372036854775808"),
        ({"dtype": object}, "str"),
        ({"dtype": "float31"}, "float31"),
        ({"chunks": 0}, "0"),
        ({"chunks": (2, 2)}, "2 dimensions.* 1 dimensions"),
        ({"chunks": 1.5}, "1.5"),
        ({"chunks": "small"}, "small"),
        ({"chunks": [[2, 2]]}, "4, .*3|3.*4"),
        ({"chunks": [[2, 1, 1]]}, "4.*3"),
        ({"chunks": [[2, 0, 1]]}, "0"),
        ({"chunks": 2, "shards": 3}, "3.*2"),
        ({"chunks": 2, "shards": (2, 2)}, "dimensions"),
        ({"chunks": 1, "shards": True}, "True"),
        ({"chunks": 1, "shards": {"size": 3}}, "size"),
        ({"chunks": 1, "shards": {"shape": 3, "index_location": "middle"}}, "middle"),
        ({"chunks": [[2, 1]], "shards": 3}, "one shape"),
        ({"fill_value": "x"}, "'x'"),
        ({"fill_value": 2**40}, "1099511627776"),
        ({"fill_value": 1.5}, "1.5"),
        ({"fill_value": [1, 2]}, r"\[1, 2\]"),
        ({"compressors": "zip"}, "zip"),
        ({"compressors": 5}, "5|int"),
        ({"compressors": [{"name": "secret"}]}, "secret"),
        ({"compressors": [{"name": "gzip", "configuration": {"level": 99}}]}, "99"),
        ({"compressors": [{"level": 3}]}, "level"),
        ({"compressors": [codecs.BytesCodec()]}, "bytes"),
        ({"filters": [codecs.TransposeCodec(order=(1, 0))]}, "transpose|order"),
        ({"filters": [codecs.GzipCodec()]}, "gzip"),
        ({"serializer": codecs.GzipCodec()}, "gzip"),
        ({"serializer": {"name": "vlen-utf8"}}, "vlen-utf8"),
        ({"zarr_format": 4}, "4"),
        ({"attributes": {"x": object()}}, "'x'"),
        ({"attributes": {1: 2}}, "1"),
        ({"dimension_names": ["x", "y"]}, "2 names for 1"),
        ({"dimension_names": [5]}, "dimension_names"),
        ({"chunk_key_encoding": {"name": "v3"}}, "'v3'"),
        ({"chunk_key_encoding": {"name": "v2", "separator": "-"}}, "'-'"),
        ({"chunk_key_encoding": 5}, "5"),
        ({"config": {"order": "X"}}, "'X'"),
        ({"config": {"colour": "X"}}, "colour"),
        ({"data": [1, 2]}, r"\(2,\).*3"),
        ({"name": "../x"}, r"\.\."),
        ({"storage_options": {"x": 1}}, "storage_options"),
        ({"zarr_format": 2, "chunks": 1, "shards": 3}, "shards"),
        ({"zarr_format": 2, "serializer": codecs.BytesCodec()}, "serializer"),
        ({"zarr_format": 2, "dimension_names": ["x"]}, "dimension names"),
        ({"zarr_format": 2, "chunks": [[2, 1]]}, "rectilinear"),
        ({"zarr_format": 2, "order": "A"}, "'A'"),
        ({"zarr_format": 2, "compressors": [{"id": "zlib"}, {"id": "lz4"}]}, "one compressor"),
        ({"zarr_format": 2, "compressors": {"id": "secret"}}, "secret"),
        ({"zarr_format": 2, "filters": [{"id": "delta"}]}, "delta|dtype"),
        ({"zarr_format": 2, "chunk_key_encoding": {"name": "default"}}, "v2"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_nothing_is_stored_when_something_is_wrong(given: Any, words: str) -> None:
    store: dict[str, bytes] = {}
    arguments: dict[str, Any] = {"shape": 3, "dtype": "i4", "name": "a/b", **given}
    with pytest.raises((ValueError, TypeError), match=words):
        zarr.create_array(store, **arguments)
    assert store == {}


def test_values_that_do_not_fit_are_not_half_stored() -> None:
    store: dict[str, bytes] = {}
    with pytest.raises(ValueError):
        zarr.create_array(store, data=[["x"]], dtype="i4")
    assert store == {}


# --- other constructors ----------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zeros_ones_full_and_empty(zarr_format: Any) -> None:
    options = {"zarr_format": zarr_format, "chunks": 2}
    for made, value, dtype in [
        (zarr.zeros((4, 4), **options), 0, "f8"),
        (zarr.ones((4, 4), dtype="i2", **options), 1, "i2"),
        (zarr.full((4, 4), 2.5, **options), 2.5, "f8"),
        (zarr.full((4, 4), 7, dtype="u1", **options), 7, "u1"),
        (zarr.empty((4, 4), **options), 0, "f8"),
    ]:
        assert made.dtype == np.dtype(dtype)
        assert made.chunks == (2, 2)
        assert (made[:] == value).all()
        assert made.nchunks_initialized == 0
        assert made.metadata.zarr_format == zarr_format
    text = zarr.full(2, "ab", zarr_format=zarr_format)
    assert text[:].tolist() == ["ab", "ab"]


def test_arrays_like_others() -> None:
    like = zarr.create_array(
        {}, shape=(4, 4), dtype="i2", chunks=(2, 2), shards=(4, 4), fill_value=3,
        compressors=[codecs.GzipCodec(level=2)], filters=[codecs.TransposeCodec(order=(1, 0))],
    )  # fmt: skip
    for made, value in [
        (zarr.zeros_like(like), 0),
        (zarr.ones_like(like), 1),
        (zarr.full_like(like, 5), 5),
        (zarr.full_like(like), 3),
        (zarr.empty_like(like), 3),
    ]:
        assert (made[:] == value).all()
        assert (made.shape, made.chunks, made.shards) == ((4, 4), (2, 2), (4, 4))
        assert made.dtype == np.int16
        assert made.compressors == like.compressors
        assert made.filters == like.filters
        assert made.store != like.store
    assert zarr.zeros_like(like, shape=3, chunks=1, shards=None, filters=None).shape == (3,)
    assert zarr.zeros_like(like, dtype="f4").dtype == np.float32
    old = zarr.create_array(
        {}, shape=3, dtype=">i2", zarr_format=2, order="F", compressors=numcodecs.LZ4()
    )
    made = zarr.zeros_like(old)
    assert (made.metadata.zarr_format, made.dtype, made.order) == (2, np.dtype(">i2"), "F")
    assert made.compressor.codec_id == "lz4"
    assert zarr.zeros_like(old, zarr_format=3).compressors == (codecs.ZstdCodec(),)
    plain = zarr.ones_like(np.zeros((2, 3), "u1"))
    assert (plain.shape, plain.dtype) == ((2, 3), np.uint8)
    assert zarr.zeros_like([[1, 2]]).shape == (1, 2)
    wavy = zarr.create_array({}, shape=5, chunks=[[2, 3]], dtype="i4")
    assert zarr.zeros_like(wavy).read_chunk_sizes == ((2, 3),)
    store = MemoryStore()
    opened = zarr.open_like(like, "x", store=store)
    opened[:] = 1
    assert (zarr.open_like(like, "x", store=store)[:] == 1).all()


def test_array_and_asarray() -> None:
    a = zarr.array([[1, 2], [3, 4]], chunks=1, attributes={"x": 1})
    assert a[:].tolist() == [[1, 2], [3, 4]]
    assert a.chunks == (1, 1)
    assert a.attrs["x"] == 1
    assert zarr.asarray(a) is a
    b = zarr.array(a)
    assert b is not a
    assert b[:].tolist() == a[:].tolist()
    assert b.chunks == (1, 1)
    assert zarr.asarray([1, 2])[:].tolist() == [1, 2]
    assert zarr.array(np.arange(3), dtype="f4").dtype == np.float32
    assert zarr.array(5)[()] == 5
    view = zarr.array([1, 2], read_only=True)
    with pytest.raises(ReadOnlyError):
        view[0] = 1


@pytest.mark.filterwarnings("ignore:The `write_empty_chunks`")
def test_create_with_the_words_of_zarr_2() -> None:
    a = zarr.create(
        4, chunks=2, dtype="i4", compressor=numcodecs.Zlib(1), fill_value=9, order="F",
        filters=[numcodecs.Delta("i4")], dimension_separator="/", zarr_format=2, path="x/y",
        write_empty_chunks=True,
    )  # fmt: skip
    assert a.compressor.codec_id == "zlib"
    assert [f.codec_id for f in a.filters] == ["delta"]
    assert a.metadata.dimension_separator == "/"
    assert a.path == "x/y"
    assert a.config.write_empty_chunks
    assert a[:].tolist() == [9] * 4
    assert zarr.create(4, chunk_shape=2).chunks == (2,)
    assert zarr.create(4, compressor=None, zarr_format=2).compressor is None
    for name in ("synchronizer", "chunk_store", "cache_metadata", "cache_attrs", "meta_array"):
        with pytest.warns(ZarrRuntimeWarning, match=name):
            zarr.create(4, **{name: 1})
    for given in ({"compressor": {"id": "zlib"}}, {"dimension_separator": "/"}, {"shape": None}):
        store: dict[str, bytes] = {}
        with pytest.raises((ValueError, TypeError)):
            zarr.create(**{"shape": 3, "store": store, **given})
        assert store == {}
    with pytest.raises(ValueError, match="codecs"):
        zarr.create(4, codecs=["bytes"], zarr_format=2)


# --- from_array ------------------------------------------------------------------------------------


def source(**options: Any) -> zarr.Array:
    given = {
        "shape": (4, 6), "dtype": "i2", "chunks": (2, 3), "fill_value": 3, "attributes": {"x": 1},
        "compressors": [codecs.GzipCodec(level=2)], "dimension_names": ["a", "b"],
        "chunk_key_encoding": {"name": "default", "separator": "."}, **options,
    }  # fmt: skip
    a = zarr.create_array({}, **given)
    a[:] = np.arange(24).reshape(4, 6)
    return a


@pytest.mark.parametrize("layout", [{}, {"shards": (4, 6)}, {"chunks": [[1, 3], 6]},
                                    {"chunks": (1, 3), "shards": [[1, 3], 6]}])  # fmt: skip
def test_from_array_keeps_what_there_is(layout: Any) -> None:
    a = source(**layout)
    b = zarr.from_array({}, data=a)
    assert b.metadata == a.metadata
    np.testing.assert_array_equal(b[:], a[:])
    c = zarr.from_array({}, data=a, write_data=False)
    assert c.metadata == a.metadata
    assert (c[:] == 3).all()


def test_from_array_with_other_properties() -> None:
    a = source(shards=(4, 6))
    b = zarr.from_array({}, data=a, chunks=(4, 1), shards=None, compressors=None, attributes={},
                        fill_value=0, dimension_names=["c", "d"])  # fmt: skip
    assert (b.chunks, b.shards, b.compressors, b.fill_value) == ((4, 1), None, (), 0)
    assert b.attrs.asdict() == {}
    assert b.metadata.dimension_names == ("c", "d")
    np.testing.assert_array_equal(b[:], a[:])
    auto = zarr.from_array({}, data=a, chunks="auto", shards=None, compressors="auto")
    assert (auto.chunks, auto.compressors) == ((4, 6), (codecs.ZstdCodec(),))
    np.testing.assert_array_equal(zarr.from_array({}, data=np.arange(3))[:], np.arange(3))


def test_from_array_between_formats() -> None:
    a = source()
    old = zarr.from_array({}, data=a, zarr_format=2)
    assert old.metadata.zarr_format == 2
    assert (old.chunks, old.fill_value, old.attrs.asdict()) == ((2, 3), 3, {"x": 1})
    assert old.compressor.codec_id == "zstd"
    np.testing.assert_array_equal(old[:], a[:])
    sharded = zarr.from_array({}, data=source(shards=(4, 6)), zarr_format=2)
    assert sharded.chunks == (2, 3)
    big = zarr.create_array(
        {}, data=np.arange(4, dtype=">i4"), zarr_format=2, compressors=numcodecs.LZ4()
    )
    assert big.dtype == np.dtype(">i4")
    new = zarr.from_array({}, data=big, zarr_format=3)
    assert new.dtype == np.dtype("i4")
    assert new.compressors == (codecs.ZstdCodec(),)
    assert new[:].tolist() == [0, 1, 2, 3]
    same = zarr.from_array({}, data=big)
    assert same.metadata == big.metadata


def test_from_array_reads_a_chunk_at_a_time() -> None:
    store = LoggingStore(MemoryStore())
    a = zarr.create_array(store, shape=(100,), chunks=(10,), dtype="i4")
    a[:50] = 1
    store.counter.clear()
    target = LoggingStore(MemoryStore())
    b = zarr.from_array(target, data=a)
    assert store.counter["get"] == 10
    assert b.nchunks_initialized == 5


# --- modes and overwriting -------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_modes_of_open_array(zarr_format: Any) -> None:
    store = MemoryStore()
    options: dict[str, Any] = {"store": store, "path": "a"}
    new: dict[str, Any] = {"shape": 4, "chunks": 2, "zarr_format": zarr_format}
    for mode in ("r", "r+"):
        with pytest.raises(ArrayNotFoundError):
            zarr.open_array(**options, mode=mode)
    with pytest.raises(ArrayNotFoundError):
        zarr.open_array(**options)  # nothing says what to create
    assert store._store_dict == {}
    a = zarr.open_array(**options, **new, mode="a")
    a[:] = 1
    assert (zarr.open_array(**options, **{**new, "shape": 9}, mode="a")[:] == 1).all()
    assert zarr.open_array(**options, mode="r").read_only
    writable = zarr.open_array(**options, mode="r+")
    writable[0] = 2
    with pytest.raises(ContainsArrayError):
        zarr.open_array(**options, **new, mode="w-")
    assert a[:].tolist() == [2, 1, 1, 1]
    fresh = zarr.open_array(**options, **new, mode="w")
    assert fresh[:].tolist() == [0] * 4
    assert zarr.open_array(store=store, path="b", **new, mode="w-").path == "b"
    with pytest.raises(ValueError, match="Invalid mode: x"):
        zarr.open_array(**options, mode="x")
    read_only = store.with_read_only(True)
    assert zarr.open_array(read_only, path="a").read_only
    for mode in ("r+", "a", "w", "w-"):
        with pytest.raises(ReadOnlyError):
            zarr.open_array(read_only, path="a", mode=mode)


FOREIGN = ["notes.txt", "c/readme", "c/0/x", "0.0.bak", "sub/data.csv", ".hidden", "zarr.json.bak"]


@pytest.mark.parametrize("after", [2, 3])
@pytest.mark.parametrize("before", [2, 3])
@pytest.mark.parametrize("how", ["overwrite", "mode", "save"])
def test_overwriting_leaves_files_of_others_and_nothing_else(
    before: Any, after: Any, how: str, tmp_path: Path
) -> None:
    store = LocalStore(tmp_path)
    old = zarr.create_array(
        store,
        name="a",
        shape=(9, 9),
        chunks=(2, 2),
        dtype="i4",
        zarr_format=before,
        attributes={"x": 1},
    )
    old[:] = 5
    inside = zarr.create_array(store.with_read_only(False), name="b", shape=1, dtype="i4")
    inside[:] = 1
    for name in FOREIGN:
        path = tmp_path / "a" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    new: dict[str, Any] = {"shape": (4, 4), "chunks": (2, 2), "dtype": "i4", "zarr_format": after}
    if how == "overwrite":
        a = zarr.create_array(store, name="a", overwrite=True, **new)
    elif how == "mode":
        a = zarr.open_array(store, path="a", mode="w", **new)
    else:
        zarr.save_array(store, np.zeros((4, 4), "i4"), path="a", zarr_format=after, overwrite=True)
        a = zarr.open_array(store, path="a")
    assert (a[:] == 0).all()
    assert a.attrs.asdict() == {}
    left = {str(p.relative_to(tmp_path / "a")) for p in (tmp_path / "a").rglob("*") if p.is_file()}
    documents = {"zarr.json" if after == 3 else ".zarray"}
    assert left - {".zattrs"} == documents | set(FOREIGN)
    assert inside[0] == 1
    a.resize((9, 9))
    assert (a[:] == 0).all()


def test_overwriting_removes_both_formats_and_what_is_below() -> None:
    store: dict[str, bytes] = {}
    one = zarr.create_array(store, shape=4, chunks=2, dtype="i4")
    one[:] = 1
    other: dict[str, bytes] = {}
    two = zarr.create_array(other, shape=(4, 4), chunks=2, dtype="i4", zarr_format=2)
    two[:] = 1
    store.update(other)
    store["mine"] = b"1"
    zarr.create_array(store, shape=4, chunks=2, dtype="i4", overwrite=True)
    assert sorted(store) == ["mine", "zarr.json"]
    group = zarr.create_group(store, overwrite=True)
    group.create_array("x/y", data=[1, 2])
    store["x/mine"] = b"1"
    a = zarr.create_array(store, shape=4, dtype="i4", overwrite=True)
    assert sorted(store) == ["mine", "x/mine", "zarr.json"]
    assert a.shape == (4,)


def test_damaged_nodes_can_be_overwritten() -> None:
    for damaged in (
        {"zarr.json": b"{", "c/0": b"1"},
        {".zarray": b"[]", "0.0": b"1"},
        {".zarray": b"{}", ".zgroup": b"{}", "0": b"1"},
        {"zarr.json": b'{"zarr_format": 3, "node_type": "array"}', "c/0/0": b"1"},
    ):
        store = dict(damaged)
        with pytest.raises((ContainsArrayError, ContainsGroupError)):
            zarr.create_array(store, shape=4, dtype="i4")
        assert store == damaged
        zarr.create_array(store, shape=4, dtype="i4", overwrite=True)
        assert sorted(store) == ["zarr.json"]


def test_chunks_without_a_document_do_not_come_back() -> None:
    store = {"c/0": b"\1\1\1\1", "c/7": b"\2", "other": b"x"}
    a = zarr.create_array(store, shape=1, chunks=1, dtype="i4", compressors=None, overwrite=True)
    assert a[0] == 0
    assert sorted(store) == ["other", "zarr.json"]


@pytest.mark.parametrize("there", [2, 3])
@pytest.mark.parametrize("new", [2, 3])
def test_nothing_is_created_where_something_is(there: Any, new: Any) -> None:
    store: dict[str, bytes] = {}
    zarr.create_array(store, name="a", shape=1, dtype="i4", zarr_format=there)
    zarr.create_group(store, path="g", zarr_format=there)
    before = dict(store)
    with pytest.raises(ContainsArrayError):
        zarr.create_array(store, name="a", shape=1, dtype="i4", zarr_format=new)
    with pytest.raises(ContainsGroupError):
        zarr.create_array(store, name="g", shape=1, dtype="i4", zarr_format=new)
    for overwrite in (False, True):
        with pytest.raises(ContainsArrayError, match="is an array - only groups"):
            zarr.create_array(
                store, name="a/b/c", shape=1, dtype="i4", zarr_format=new, overwrite=overwrite
            )
    assert store == before


def test_an_array_below_an_array_does_not_erase_its_chunks() -> None:
    store: dict[str, bytes] = {}
    a = zarr.create_array(store, name="a", shape=4, chunks=1, dtype="u1", zarr_format=2,
                          chunk_key_encoding={"name": "v2", "separator": "/"})  # fmt: skip
    a[:] = 1
    before = dict(store)
    with pytest.raises(ContainsArrayError):
        zarr.create_array(store, name="a/0", shape=1, dtype="u1", zarr_format=2, overwrite=True)
    assert store == before


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_groups_above_are_created(zarr_format: Any) -> None:
    store: dict[str, bytes] = {}
    zarr.create_array(store, name="a/b/c", shape=1, dtype="i4", zarr_format=zarr_format)
    if zarr_format == 3:
        assert sorted(store) == ["a/b/c/zarr.json", "a/b/zarr.json", "a/zarr.json", "zarr.json"]
        assert document(store)["node_type"] == "group"
    else:
        assert {".zgroup", "a/.zgroup", "a/b/.zgroup", "a/b/c/.zarray"} <= store.keys()
    group = zarr.open_group(store)
    assert group["a/b/c"].shape == (1,)


def test_saving_and_loading(tmp_path: Path) -> None:
    data = np.arange(6).reshape(2, 3)
    for place in ({}, MemoryStore(), str(tmp_path / "x"), tmp_path / "y"):
        zarr.save(place, data)
        np.testing.assert_array_equal(zarr.load(place), data)
        zarr.save_array(place, data + 1, overwrite=True)
        np.testing.assert_array_equal(zarr.load(place), data + 1)
    store: dict[str, bytes] = {}
    zarr.save(store, data, x=data + 1)
    loaded = zarr.load(store)
    assert sorted(loaded) == ["arr_0", "x"]
    np.testing.assert_array_equal(loaded["x"], data + 1)
    with pytest.raises(ValueError):
        zarr.save({})
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(FileNotFoundError):
        zarr.load(tmp_path / "nothing")
    assert not os.path.exists(tmp_path / "nothing")


@pytest.mark.parametrize("shards", [None, (2000,)])
@pytest.mark.parametrize("shuffle", [1, -1])
def test_blosc_of_numcodecs_gets_the_size_of_elements(shuffle: int, shards: Any) -> None:
    numcodecs = pytest.importorskip("numcodecs")
    data = np.arange(2000, dtype="i4")
    wanted = zarr.codecs.BloscCodec(cname="lz4", shuffle="shuffle")
    stored = []
    for codec in (
        wanted,
        numcodecs.Blosc(shuffle=shuffle),
        numcodecs.Blosc(shuffle=shuffle).get_config(),
        {"id": "blosc", "shuffle": shuffle},
        {"name": "blosc", "configuration": {"cname": "lz4"}},
    ):
        store: dict[str, Any] = {}
        zarr.create_array(store, data=data, chunks=(1000,), shards=shards, compressors=codec)
        stored.append({key: bytes(value) for key, value in store.items()})
    assert b'"typesize": 4' in stored[0]["zarr.json"]
    assert all(other == stored[0] for other in stored[1:])


def test_blosc_of_zarr_python_gets_the_size_of_elements() -> None:
    peer = pytest.importorskip("zarr")
    array = zarr.create_array({}, shape=9, dtype="i4", compressors=peer.codecs.BloscCodec(clevel=3))
    configuration = array.metadata.chain[-1].configuration
    assert (configuration["typesize"], configuration["shuffle"]) == (4, "shuffle")


def test_what_follows_from_the_data_type_follows_from_the_one_that_filters_make() -> None:
    store: dict[str, bytes] = {}
    zarr.create_array(
        store,
        shape=9,
        chunks=[[4, 5]],
        dtype="u1",
        filters=[
            {"name": "numcodecs.astype", "configuration": {"encode_dtype": "<i4"}},
            {"name": "numcodecs.delta", "configuration": {}},
        ],
        compressors=[{"name": "blosc", "configuration": {}}],
    )
    _, delta, serializer, blosc = document(store)["codecs"]
    assert delta["configuration"]["dtype"] == "int32"
    assert serializer["configuration"] == {"endian": "little"}
    assert blosc["configuration"]["typesize"] == 4
