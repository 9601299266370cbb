"""Types of ml_dtypes: every pattern of bits is stored, read and written as a fill value."""

import importlib
import json
import pickle
import sys
import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_core
from zarr_core import codecs
from zarr_core.dtype import RawBytes
from zarr_core.errors import DataTypeValidationError, MetadataValidationError
from zarr_core.metadata import array as array_documents
from zarr_core.metadata import data_types
from zarr_core.metadata.data_types import DataType, parse_dtype, parse_v2, parse_v3
from zarr_core.metadata.small_types import (
    DTYPE_NAMES,
    SMALL_TYPES,
    has_byte_order,
    integer_limits,
    kind_of,
    small_dtype,
)

NAMES = list(DTYPE_NAMES)
FLOATS = [name for name in NAMES if SMALL_TYPES[DTYPE_NAMES[name]].kind == "f"]
INTEGERS = [name for name in NAMES if "int" in name]
COMPLEX = [name for name in NAMES if name.startswith("complex")]
BELOW_A_BYTE = [name for name in NAMES if SMALL_TYPES[DTYPE_NAMES[name]].bits < 8]
WITH_ORDER = ["bfloat16", *COMPLEX]
NO_NAN = [name for name in FLOATS if name in BELOW_A_BYTE]
INFINITE = ["bfloat16", "float8_e3m4", "float8_e4m3", "float8_e5m2"]

NAN = {  # as the registry has them
    "bfloat16": 0x7FC0,
    "float8_e3m4": 0x78,
    "float8_e4m3": 0x7C,
    "float8_e5m2": 0x7E,
    **dict.fromkeys(("float8_e4m3b11fnuz", "float8_e4m3fnuz", "float8_e5m2fnuz"), 0x80),
    "float8_e8m0fnu": 0xFF,
    "float8_e4m3fn": 0x7F,
}


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, DTYPE_NAMES[name]))


def unsigned(name: str) -> str:
    return f"u{dtype_of(name).itemsize}"


def used(name: str) -> int:
    return (1 << SMALL_TYPES[DTYPE_NAMES[name]].bits) - 1


def patterns(name: str) -> np.ndarray[Any, Any]:
    """All patterns of up to 16 bits; of complex numbers, all of each part."""
    if name in COMPLEX:
        part = np.arange(1 << 16, dtype="u4")
        return np.concatenate([part, part << 16, part << 16 | part[::-1]])
    return np.arange(1 << 8 * dtype_of(name).itemsize, dtype=unsigned(name))


def bits_of(values: Any, name: str) -> Any:
    return np.asarray(values).reshape(-1).view(unsigned(name))


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_names(name: str) -> None:
    dtype, numpy_name = dtype_of(name), DTYPE_NAMES[name]
    data_type = parse_v3(name)
    assert data_type == DataType(dtype)
    assert data_type.dtype is dtype
    assert data_type.name == data_type.to_v3() == name
    assert data_type.to_v2() == numpy_name == dtype.name
    assert parse_v3({"name": name}) == parse_v2(numpy_name) == data_type
    assert data_type.item_bytes == dtype.itemsize
    assert data_type.needs_endian == has_byte_order(dtype) == (name in WITH_ORDER)
    assert pickle.loads(pickle.dumps(data_type)) == data_type
    assert hash(DataType(dtype.newbyteorder("S"))) == hash(data_type)
    assert DataType(dtype.newbyteorder("S")) == data_type
    for spec in (name, numpy_name, dtype, dtype.type, dtype.newbyteorder("S"), data_type):
        for zarr_format in (2, 3):
            assert parse_dtype(spec, zarr_format) == data_type
    assert not isinstance(data_type, RawBytes)
    assert data_type != parse_dtype(f"V{dtype.itemsize}", 3)


@pytest.mark.parametrize("name", ["complex32", "bcomplex32", "int1", "uint1"])
def test_other_names_are_not_of_format_3(name: str) -> None:
    with pytest.raises(DataTypeValidationError, match=f"'{name}' is not valid"):
        parse_v3(name)


@pytest.mark.parametrize("name", ["complex_float16", "complex_bfloat16", "int1", "uint1", "<int4"])
def test_other_names_are_not_of_format_2(name: str) -> None:
    with pytest.raises(DataTypeValidationError, match=f"'{name}' is not valid"):
        parse_v2(name)


def test_other_types_of_the_package_are_refused() -> None:
    with pytest.raises(DataTypeValidationError, match="int1 and uint1"):
        parse_dtype(ml_dtypes.uint1, 3)


@pytest.mark.parametrize("name", INTEGERS)
def test_integer_limits(name: str) -> None:
    info = ml_dtypes.iinfo(dtype_of(name))
    assert integer_limits(dtype_of(name)) == (info.min, info.max)


@pytest.mark.parametrize("name", NO_NAN)
def test_largest(name: str) -> None:
    assert SMALL_TYPES[name].largest == float(ml_dtypes.finfo(dtype_of(name)).max)


@pytest.mark.parametrize(
    "dtype", ["?", "i1", "u8", ">f2", "c8", "S2", "U2", "V2", "M8[s]", "O", "T"]
)
def test_kinds_of_numpy(dtype: str) -> None:
    assert kind_of(np.dtype(dtype)) == np.dtype(dtype).kind


# --- fill values ---------------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in COMPLEX])
def test_fill_values_of_every_pattern(name: str, zarr_format: int) -> None:
    data_type, count = parse_v3(name), used(name) + 1
    for pattern, scalar in enumerate(patterns(name).view(dtype_of(name))[:count]):
        document = json.loads(
            json.dumps(data_type.fill_to_json(scalar, zarr_format), allow_nan=False)
        )
        found = data_type.fill_from_json(document, zarr_format)
        assert type(found) is dtype_of(name).type
        expected = pattern
        if zarr_format == 2 and document == "NaN":
            expected = NAN[name]  # signs and payloads have no place there
        assert bits_of(found, name)[0] == expected
        assert bits_of(data_type.cast_fill(scalar), name)[0] == pattern


@pytest.mark.parametrize("name", COMPLEX)
@given(pattern=st.integers(0, (1 << 32) - 1))
def test_fill_values_of_complex_patterns(name: str, pattern: int) -> None:
    data_type = parse_v3(name)
    scalar = np.array([pattern], "u4").view(dtype_of(name))[0]
    document = json.loads(json.dumps(data_type.fill_to_json(scalar, 3), allow_nan=False))
    assert len(document) == 2
    assert bits_of(data_type.fill_from_json(document, 3), name)[0] == pattern
    assert bits_of(data_type.cast_fill(scalar), name)[0] == pattern


@pytest.mark.parametrize("name", FLOATS)
def test_fill_values_as_bits(name: str) -> None:
    data_type, width = parse_v3(name), 2 * dtype_of(name).itemsize
    for pattern in patterns(name).tolist():
        document = f"0x{pattern:0{width}X}"
        if pattern > used(name):
            with pytest.raises(DataTypeValidationError, match=document):
                data_type.fill_from_json(document, 3)
        else:
            assert bits_of(data_type.fill_from_json(document, 3), name)[0] == pattern
    for wrong in ("0x", f"0x0{0:0{width}x}", "0xgg", "7c"):
        with pytest.raises(DataTypeValidationError, match="allowed"):
            data_type.fill_from_json(wrong, 3)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", FLOATS)
def test_nan_and_infinity(name: str, zarr_format: int) -> None:
    data_type = parse_v3(name)
    if name in NO_NAN:
        with pytest.raises(DataTypeValidationError, match="'NaN' is not valid"):
            data_type.fill_from_json("NaN", zarr_format)
        with pytest.raises(DataTypeValidationError, match="nan"):
            data_type.cast_fill(np.nan)
    else:
        found = data_type.fill_from_json("NaN", zarr_format)
        assert bits_of(found, name)[0] == NAN[name]
        assert data_type.fill_to_json(found, zarr_format) == "NaN"
        assert bits_of(data_type.cast_fill(np.nan), name)[0] == NAN[name]
    for word, sign in (("Infinity", 1), ("-Infinity", -1)):
        if name in INFINITE:
            found = data_type.fill_from_json(word, zarr_format)
            assert float(found) == sign * np.inf
            assert data_type.fill_to_json(found, zarr_format) == word
        else:
            with pytest.raises(DataTypeValidationError, match="Infinity' is not valid"):
                data_type.fill_from_json(word, zarr_format)
            with pytest.raises(DataTypeValidationError, match="inf"):
                data_type.cast_fill(sign * np.inf)


@pytest.mark.parametrize("name", FLOATS)
@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_fill_values_round_as_numpy_and_never_clip(name: str, number: float) -> None:
    data_type = parse_v3(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # overflow
        converted = np.array(number).astype(dtype_of(name))[()]
    largest = float(ml_dtypes.finfo(dtype_of(name)).max)
    if not np.isfinite(float(converted)) or (name in NO_NAN and abs(number) > largest):
        with pytest.raises(DataTypeValidationError, match="fill value"):
            data_type.cast_fill(number)
    else:
        assert bits_of(data_type.cast_fill(number), name) == bits_of(converted, name)


@pytest.mark.parametrize("name", INTEGERS)
def test_fill_values_of_integers(name: str) -> None:
    data_type = parse_v3(name)
    least, largest = integer_limits(dtype_of(name))
    for number in range(-9, 17):
        if least <= number <= largest:
            found = data_type.fill_from_json(number, 3)
            assert (int(found), data_type.fill_to_json(found, 3)) == (number, number)
            assert bits_of(found, name)[0] == number & used(name)
        else:
            with pytest.raises(DataTypeValidationError, match=f"from {least} to {largest}"):
                data_type.fill_from_json(number, 3)
    for wrong in (0.5, "0x01", True, None, "NaN", [1]):
        with pytest.raises(DataTypeValidationError, match="integers"):
            data_type.fill_from_json(wrong, 3)


def test_the_type_without_zero() -> None:
    data_type = parse_v3("float8_e8m0fnu")
    # tensorstore writes 0.0 for bits that are all zero, and reads other numbers as something else.
    assert bits_of(data_type.fill_from_json(0.0, 3), "float8_e8m0fnu")[0] == 0
    assert bits_of(data_type.fill_from_json(1.0, 3), "float8_e8m0fnu")[0] == 0x7F
    assert data_type.fill_to_json(1.0, 3) == "0x7f"
    assert data_type.fill_to_json(1.0, 2) == 1.0
    for number in (0, -1.0):
        with pytest.raises(DataTypeValidationError, match="fill value"):
            data_type.cast_fill(number)


def test_base64_of_tensorstore_in_format_2() -> None:
    data_type = parse_v2("float4_e2m1fn")
    assert data_type.fill_to_json(1.5, 2) == "Aw=="
    assert data_type.fill_from_json("Aw==", 2) == data_type.fill_from_json(1.5, 2) == 1.5
    for wrong in ("AwA=", "/w==", "Aw", ""):
        with pytest.raises(DataTypeValidationError, match="float4_e2m1fn"):
            data_type.fill_from_json(wrong, 2)
    with pytest.raises(DataTypeValidationError, match="float6_e2m3fn"):
        parse_v2("float6_e2m3fn").fill_from_json("Aw==", 2)


@pytest.mark.parametrize("name", NAMES)
def test_scalars_as_fill_values_of_other_types(name: str) -> None:
    one = np.ones((), dtype_of(name))[()]
    for other in ("complex64", *NAMES):
        if name in COMPLEX and other != "complex64" and other not in COMPLEX:
            continue
        assert complex(parse_dtype(other, 3).cast_fill(one)) == 1
    if name not in COMPLEX:
        assert parse_dtype("float32", 3).cast_fill(one) == np.float32(1)
        assert parse_dtype("int8", 3).cast_fill(one) == np.int8(1)


# --- elements ------------------------------------------------------------------------------------

LAYOUTS: dict[str, dict[str, Any]] = {
    "format 3": {},
    "format 2": {"zarr_format": 2},
    "raw": {"compressors": None},
    "raw, format 2": {"compressors": None, "zarr_format": 2},
    "sharded": {"shards": (1 << 14,), "chunks": (1 << 11,)},
    "transposed": {"filters": [codecs.TransposeCodec(order=(0,))]},
    "F, format 2": {"order": "F", "zarr_format": 2},
    "big": {"serializer": codecs.BytesCodec(endian="big")},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_every_pattern_is_stored(name: str, layout: str) -> None:
    values = patterns(name)
    arguments = {"chunks": (1 << 12,), **LAYOUTS[layout]}
    array = zarr_core.create_array({}, shape=values.shape, dtype=name, **arguments)
    array[:] = values.view(dtype_of(name))
    found = array[:]
    assert found.dtype == array.dtype == dtype_of(name)
    np.testing.assert_array_equal(bits_of(found, name), values & used(name))
    np.testing.assert_array_equal(bits_of(array[5:999:7], name), (values & used(name))[5:999:7])
    again = zarr_core.open_array(array.store)
    assert again.metadata == array.metadata
    np.testing.assert_array_equal(bits_of(again[:], name), values & used(name))


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", BELOW_A_BYTE)
def test_unused_bits_are_zero_where_written_and_ignored_where_read(
    name: str, zarr_format: int
) -> None:
    store: dict[str, bytes] = {}
    array = zarr_core.create_array(
        store, shape=256, chunks=256, dtype=name, compressors=None, zarr_format=zarr_format
    )
    array[:] = patterns(name).view(dtype_of(name))
    (key,) = (key for key in store if key[-1:] == "0")
    stored = np.frombuffer(bytes(store[key]), "u1")
    np.testing.assert_array_equal(stored, patterns(name) & used(name))
    store[key] = patterns(name).tobytes()
    np.testing.assert_array_equal(bits_of(array[:], name), patterns(name) & used(name))
    np.testing.assert_array_equal(bits_of(array[3:200:5], name), stored[3:200:5])


@pytest.mark.parametrize("name", WITH_ORDER)
def test_byte_order_of_parts(name: str) -> None:
    value = 1.5 if name == "bfloat16" else 1.5 - 2j
    parts = np.array([1.5] if name == "bfloat16" else [1.5, -2.0])
    kind = np.float16 if name == "complex_float16" else ml_dtypes.bfloat16
    parts = parts.astype(kind).view("u2")
    for endian, code in (("little", "<"), ("big", ">")):
        store: dict[str, bytes] = {}
        serializer = codecs.BytesCodec(endian=endian)
        array = zarr_core.create_array(
            store, shape=1, dtype=name, compressors=None, serializer=serializer
        )
        array[:] = value
        assert bytes(store["c/0"]) == parts.astype(f"{code}u2").tobytes()
        assert array[0] == np.array(value).astype(dtype_of(name))
    array = zarr_core.create_array(store, shape=1, dtype=name, overwrite=True, compressors=None)
    assert array.metadata.chain[0].configuration == {"endian": "little"}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WITH_ORDER])
def test_single_bytes_have_no_byte_order(name: str) -> None:
    array = zarr_core.create_array({}, shape=1, dtype=name)
    assert array.metadata.chain[0].to_json() == {"name": "bytes"}
    # tensorstore's documents may say one all the same.
    document = array.metadata.to_dict()
    document["codecs"][0]["configuration"] = {"endian": "big"}
    store = {"zarr.json": json.dumps(document).encode()}
    other = zarr_core.open_array(store)
    other[:] = np.ones(1, dtype_of(name))
    assert other[:].tobytes() == np.ones(1, dtype_of(name)).tobytes()


COMPRESSORS: dict[str, Any] = {
    "zstd": codecs.ZstdCodec(),
    "gzip": codecs.GzipCodec(),
    "crc32c": codecs.Crc32cCodec(),
    **{f"blosc {s}": codecs.BloscCodec(shuffle=s) for s in ("noshuffle", "shuffle", "bitshuffle")},
    **{
        id_: {"name": f"numcodecs.{id_}", "configuration": {}}
        for id_ in ("adler32", "blosc", "bz2", "crc32", "crc32c", "fletcher32", "gzip")
    },
    **{
        id_: {"name": f"numcodecs.{id_}", "configuration": {}}
        for id_ in ("jenkins_lookup3", "lz4", "lzma", "shuffle", "zlib")
    },
}


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize("name", ["bfloat16", "float8_e5m2", "int4", "complex_bfloat16"])
@pytest.mark.filterwarnings("ignore:.*specification")
def test_bytes_to_bytes_codecs(name: str, compressor: str) -> None:
    values = patterns(name)[:256]
    array = zarr_core.create_array(
        {}, shape=256, chunks=100, dtype=name, compressors=COMPRESSORS[compressor]
    )
    array[:] = values.view(dtype_of(name))
    np.testing.assert_array_equal(bits_of(array[:], name), values & used(name))


FILTERS = [
    {"id": "shuffle", "elementsize": 2},
    {"id": "zlib", "level": 1},
    {"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": -1, "blocksize": 0},
]


@pytest.mark.parametrize("config", FILTERS, ids=lambda config: config["id"])
@pytest.mark.parametrize("name", ["bfloat16", "float8_e5m2", "int4", "complex_bfloat16"])
def test_filters_of_format_2(name: str, config: dict[str, Any]) -> None:
    values = patterns(name)[:256]
    array = zarr_core.create_array(
        {}, shape=256, chunks=100, dtype=name, zarr_format=2, filters=[config]
    )
    array[:] = values.view(dtype_of(name))
    np.testing.assert_array_equal(bits_of(array[:], name), values & used(name))


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore:.*specification")
def test_filters_that_name_a_type(zarr_format: int) -> None:
    packed: Any = {"id": "astype", "encode_dtype": "bfloat16", "decode_dtype": "<f4"}
    if zarr_format == 3:
        packed = {"name": f"numcodecs.{packed.pop('id')}", "configuration": packed}
    store: dict[str, bytes] = {}
    array = zarr_core.create_array(
        store, shape=4, dtype="f4", filters=[packed], compressors=None, zarr_format=zarr_format
    )
    array[:] = [1, 2.5, -3, 4]
    assert array[:].tolist() == [1, 2.5, -3, 4]
    stored = bytes(store["0" if zarr_format == 2 else "c/0"])
    assert np.frombuffer(stored, "<u2").view(ml_dtypes.bfloat16).tolist() == [1, 2.5, -3, 4]


# --- arrays --------------------------------------------------------------------------------------


class Unknown:
    """What no array takes; its name, an id of tests, is the same in every process."""

    def __repr__(self) -> str:
        return "unknown"


VALUES: tuple[Any, ...] = (
    *(0, 1, -1, 3, 7.0, 0.75, True, np.int8(1), np.uint64(2), np.float16(1.5), np.float64(1e9)),
    *(np.nan, -0.0, [1, 0], [0.5, 1.5], np.array([2, 1]), np.array([1.5, 2], "f4")),
    *(
        2 + 1j,
        [1j, 2],
        np.array([1j, 2]),
        None,
        "1.5",
        b"1",
        "x",
        [[1], [2]],
        np.datetime64("NaT", "s"),
    ),
    *(300, 1e300, 10**400, Unknown(), np.ones(2, "V2"), np.array([True, False])),
)


def outcome(assign: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            assign()
        except Exception as error:  # noqa: BLE001 - NumPy's own
            return type(error).__mro__[-3]  # of which ours are
    return None


@pytest.mark.parametrize("value", [*VALUES, *(np.ones(2, dtype_of(n)) for n in NAMES)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_assignments_are_those_of_numpy(name: str, value: Any) -> None:
    expected = np.zeros(2, dtype_of(name))
    array = zarr_core.create_array({}, shape=2, chunks=1, dtype=name)
    array[:] = expected
    raised = outcome(lambda: expected.__setitem__(slice(None), value))
    assert (outcome(lambda: array.__setitem__(slice(None), value)) is None) == (raised is None)
    np.testing.assert_array_equal(bits_of(array[:], name), bits_of(expected, name))


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_selections(name: str, data: Any) -> None:
    values = np.array(data.draw(st.lists(st.integers(0, used(name)), min_size=7, max_size=7)))
    values = values.astype(unsigned(name)).view(dtype_of(name))
    array = zarr_core.create_array({}, shape=7, chunks=3, dtype=name, fill_value=values[0])
    expected = np.full(7, values[0], dtype_of(name))
    start, stop = sorted(data.draw(st.tuples(st.integers(0, 7), st.integers(0, 7))))
    for selection in (slice(start, stop), [start // 2, stop // 2], slice(None, None, 2)):
        part = values[: np.size(expected[selection])]
        expected[selection] = part
        array[selection] = part
    np.testing.assert_array_equal(bits_of(array[:], name), bits_of(expected, name))


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_every_way_of_indexing(name: str, zarr_format: int) -> None:
    dtype = dtype_of(name)
    for shape in ((), (0, 3)):
        small = zarr_core.create_array({}, shape=shape, dtype=name, zarr_format=zarr_format)
        small[...] = 1
        assert small[...].tobytes() == np.ones(shape, dtype).tobytes()
    array = zarr_core.create_array(
        {}, shape=(4, 3), chunks=(2, 2), dtype=name, zarr_format=zarr_format, fill_value=None
    )
    expected = array[:]
    assert expected.tobytes() == np.zeros((4, 3), dtype).tobytes()
    mask = np.eye(4, 3, dtype=bool)
    array[1, 2] = expected[1, 2] = 1
    array.vindex[mask] = expected[mask] = np.arange(3) % 2
    array.oindex[[0, 2], [0, 1]] = expected[np.ix_([0, 2], [0, 1])] = np.ones((2, 2))
    array.blocks[1, 1] = expected[2:, 2:] = np.ma.MaskedArray(np.ones((2, 1), dtype))
    assert array[:].tobytes() == expected.tobytes()
    assert array.vindex[mask].tobytes() == expected[mask].tobytes()
    out = np.empty((4, 3), dtype)
    array.get_basic_selection(..., out=out)
    assert out.tobytes() == expected.tobytes()
    with pytest.raises(ValueError, match="1 of 2 elements are masked"):
        array.blocks[1, 1] = np.ma.MaskedArray(np.ones((2, 1), dtype), [[True], [False]])


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_missing_and_empty_chunks(name: str, zarr_format: int) -> None:
    store: dict[str, bytes] = {}
    fill = np.ones((), dtype_of(name))[()]
    array = zarr_core.create_array(
        store, shape=4, chunks=2, dtype=name, fill_value=fill, zarr_format=zarr_format
    )
    assert array.fill_value == fill
    assert array[:].tolist() == [1] * 4
    array[:2] = 0 * np.ones(2, dtype_of(name))
    array[2:] = np.ones(2, dtype_of(name))
    assert array.nchunks_initialized == 1
    assert type(zarr_core.open_array(store).fill_value) is dtype_of(name).type
    if name not in INTEGERS and name not in BELOW_A_BYTE:
        other = zarr_core.create_array({}, shape=2, chunks=1, dtype=name, fill_value=np.nan)
        other[:] = np.nan
        assert other.nchunks_initialized == 0
        assert np.isnan(other[:].astype(complex)).all()


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_functions_that_create(name: str, zarr_format: int) -> None:
    dtype = dtype_of(name)
    for given_type in (name, DTYPE_NAMES[name], dtype, dtype.type):
        settings: dict[str, Any] = {"dtype": given_type, "zarr_format": zarr_format}
        made = {
            "zeros": zarr_core.zeros((2,), **settings),
            "ones": zarr_core.ones((2,), **settings),
            "empty": zarr_core.empty((2,), **settings),
            "full": zarr_core.full((2,), 1, **settings),
            "create": zarr_core.create((2,), **settings),
            "create_array": zarr_core.create_array({}, shape=(2,), **settings),
            "require": zarr_core.group({}, zarr_format=zarr_format).require_array(
                "a", shape=(2,), dtype=given_type
            ),
            "group": zarr_core.group({}, zarr_format=zarr_format).create_array(
                "a", shape=(2,), dtype=given_type
            ),
        }
        for how, array in made.items():
            assert array.dtype == dtype, how
        assert made["zeros"][:].tobytes() == np.zeros(2, dtype).tobytes()
        assert made["ones"][:].tobytes() == np.ones(2, dtype).tobytes()
        assert made["full"][:].tobytes() == np.ones(2, dtype).tobytes()
    values = np.ones(3, dtype)
    for array in (
        zarr_core.array(values, zarr_format=zarr_format),
        zarr_core.ones_like(values, zarr_format=zarr_format),
        zarr_core.full((3,), values[0], zarr_format=zarr_format),
        zarr_core.create_array({}, data=values, zarr_format=zarr_format),
    ):
        assert array.dtype == dtype
        assert array[:].tobytes() == values.tobytes()
    assert zarr_core.ones_like(made["create"])[:].tobytes() == np.ones(2, dtype).tobytes()
    assert zarr_core.array(made["ones"])[:].tobytes() == np.ones(2, dtype).tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_no_warning_of_types_without_a_specification(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        array = zarr_core.create_array({}, shape=2, dtype=name)
        assert dtype_of(name).name in str(array.info)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_copies_batches_and_consolidated_metadata(name: str) -> None:
    values = np.ones(4, dtype_of(name))
    group = zarr_core.group({})
    array = group.create_array("a", data=values, chunks=(2,))
    with array.batch() as batch:
        batch[1:3] = values[:2]
    assert array[:].tobytes() == values.tobytes()
    other: dict[str, bytes] = {}
    zarr_core.copy_store(group.store, other)
    zarr_core.consolidate_metadata(other)
    found = zarr_core.open_group(other)["a"]
    assert found.dtype == array.dtype
    assert found[:].tobytes() == values.tobytes()
    array.resize((6,))
    array.append(values)
    assert array[6:].tobytes() == values.tobytes()
    (read,) = zarr_core.read_many([(array, slice(0, 4))])
    assert read.tobytes() == values.tobytes()


STRUCT = {
    "name": "struct",
    "configuration": {
        "fields": [
            {"name": "w", "data_type": "int32"},
            {"name": "b", "data_type": "bfloat16"},
            {"name": "c", "data_type": "complex_float16"},
            {"name": "i", "data_type": "int4"},
            {"name": "f", "data_type": "float8_e5m2"},
        ]
    },
}


@given(data=st.binary(min_size=48, max_size=48))
@pytest.mark.parametrize("layout", ["little", "big", "format 2"])
def test_structs(layout: str, data: bytes) -> None:
    data_type = parse_v3(STRUCT)
    dtype = data_type.dtype
    assert dtype.itemsize == 12
    assert data_type.to_v3() == STRUCT
    assert parse_v2(data_type.to_v2()) == data_type
    assert data_type.needs_endian
    values = np.frombuffer(data, dtype)
    is_v3 = layout != "format 2"
    settings: Any = {"serializer": codecs.BytesCodec(endian=layout)} if is_v3 else {}
    store: dict[str, bytes] = {}
    array = zarr_core.create_array(
        store, shape=4, dtype=dtype, compressors=None, zarr_format=3 if is_v3 else 2, **settings
    )
    array[:] = values
    masked = np.frombuffer(data, "u1").reshape(4, 12).copy()
    masked[:, 10] &= 15
    assert array[:].tobytes() == masked.tobytes()
    assert array["c"].tobytes() == masked[:, 6:10].tobytes()
    code = ">" if layout == "big" else "<"
    layout_dtype = np.dtype([("w", "i4"), ("b", "u2"), ("c", "u2", 2), ("i", "u1"), ("f", "u1")])
    swapped = masked.reshape(-1).view(layout_dtype).astype(layout_dtype.newbyteorder(code))
    stored = store.get("c/0" if is_v3 else "0")
    assert stored is None or bytes(stored) == swapped.tobytes()
    fill = data_type.cast_fill(values[0])
    for zarr_format in (2, 3):
        document = json.loads(json.dumps(data_type.fill_to_json(fill, zarr_format)))
        assert data_type.fill_from_json(document, zarr_format).tobytes() == masked[0].tobytes()


def test_structs_of_single_bytes_need_no_endian() -> None:
    assert not DataType(
        np.dtype([("a", ml_dtypes.int4), ("b", ml_dtypes.float8_e5m2)])
    ).needs_endian


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3", "int4", "uint4"])
def test_scale_offset(name: str) -> None:
    array = zarr_core.create_array(
        {}, shape=4, dtype=name, filters=[codecs.ScaleOffset(offset=1, scale=2)], fill_value=1
    )
    array[:] = [1, 2, 3, 4]
    assert array[:].tolist() == [1, 2, 3, 4]
    if name in INTEGERS:
        with pytest.raises(ValueError, match="are outside the range of dtype"):
            array[:] = [1, 2, 3, 7] if name == "int4" else [0, 0, 0, 0]


def test_raw_bytes_stay_raw_bytes() -> None:
    # Their kind is that of most types here.
    for size in (1, 2):
        data_type = parse_dtype(f"V{size}", 2)
        assert data_type.to_v2() == f"|V{size}"
        assert data_type.fill_from_json(0, 2).tobytes() == b"\0" * size


# --- without the package -------------------------------------------------------------------------


@pytest.fixture
def without_ml_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    small_dtype.cache_clear()
    data_types._small.cache_clear()
    array_documents._cached_v2.cache_clear()
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)


@pytest.mark.usefixtures("without_ml_dtypes")
def test_without_the_package() -> None:
    named: Any = "pip install"
    for zarr_format in (2, 3):
        for spec in ("bfloat16", "int4"):
            with pytest.raises(DataTypeValidationError, match=named):
                zarr_core.create_array({}, shape=2, dtype=spec, zarr_format=zarr_format)
    assert zarr_core.create_array({}, shape=2, dtype="f2").dtype == np.float16


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_arrays_open_without_the_package(
    name: str, zarr_format: int, request: pytest.FixtureRequest
) -> None:
    store: dict[str, bytes] = {}
    group = zarr_core.group(store, zarr_format=zarr_format)
    group.create_array("x", data=np.ones(3, dtype_of(name)), attributes={"units": "K"})
    request.getfixturevalue("without_ml_dtypes")
    array = zarr_core.open_group(store)["x"]
    assert (array.shape, dict(array.attrs)) == ((3,), {"units": "K"})
    assert [key for key, _ in zarr_core.open_group(store).arrays()] == ["x"]
    assert DTYPE_NAMES[name] in str(array.info) or name in str(array.info)
    for use in (lambda: array[:], lambda: array.dtype, lambda: array.__setitem__(0, 1)):
        with pytest.raises(DataTypeValidationError, match="pip install --upgrade ml_dtypes"):
            use()
    array.attrs["more"] = 1
    assert zarr_core.open_group(store)["x"].attrs["more"] == 1
    assert "x" in str(zarr_core.open_group(store).tree())


def test_a_type_that_an_older_package_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    small_dtype.cache_clear()
    monkeypatch.delattr(ml_dtypes, "complex32")
    with pytest.raises(DataTypeValidationError, match=r"complex_float16.*or a newer one"):
        small_dtype("complex32")


def test_a_broken_package_costs_its_types_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise ValueError("invalid literal")

    small_dtype.cache_clear()
    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(DataTypeValidationError, match="invalid literal"):
        small_dtype("int4")


def test_errors_are_those_of_documents() -> None:
    store = {"zarr.json": b""}
    array = zarr_core.create_array({}, shape=1, dtype="int4")
    document = array.metadata.to_dict()
    document["fill_value"] = 8
    store["zarr.json"] = json.dumps(document).encode()
    with pytest.raises(MetadataValidationError, match=r"'fill_value': fill value 8 .* -8 to 7"):
        zarr_core.open_array(store)
