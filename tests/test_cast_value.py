"""The codec `cast_value`: the rules of its specification, with and without `scale_offset`."""

import json
import math
import sys
from fractions import Fraction
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_codecs import make_spec

import zarr_core as zarr
from zarr_core.codecs import CastValue, ScaleOffset, codec_from_dict
from zarr_core.codecs.cast_value import Rounding
from zarr_core.errors import (
    ChunkDecodeError,
    CodecError,
    MetadataValidationError,
    UnknownCodecError,
)

cast_value_rs = pytest.importorskip("cast_value_rs")

INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
FLOATS = ["float16", "float32", "float64"]
ROUNDINGS = get_args(Rounding)


def make_array(store: Any, dtype: str, codec: Any, fill_value: Any = 0, **options: Any) -> Any:
    settings = {"shape": (3,), "chunks": (3,), "compressors": None, **options}
    filters = codec if isinstance(codec, list) else [codec]
    return zarr.create_array(store, dtype=dtype, filters=filters, fill_value=fill_value, **settings)


def stored(dtype: str, values: Any, codec: CastValue) -> list[Any]:
    """Return what is stored for values."""
    store: dict[str, bytes] = {}
    make_array(store, dtype, codec, shape=(len(values),), chunks=(len(values),))[:] = values
    return np.frombuffer(store["c/0"], codec.data_type.dtype.newbyteorder("<")).tolist()


# --- rules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        ("nearest-even", [-2, -2, 0, 0, 2, 2]),
        ("nearest-away", [-3, -2, -1, 1, 2, 3]),
        ("towards-zero", [-2, -1, 0, 0, 1, 2]),
        ("towards-positive", [-2, -1, 0, 1, 2, 3]),
        ("towards-negative", [-3, -2, -1, 0, 1, 2]),
    ],
)
def test_halves_are_rounded_as_asked(rounding: Any, expected: list[int]) -> None:
    codec = CastValue(data_type="int8", rounding=rounding)
    assert stored("float32", [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], codec) == expected


@pytest.mark.parametrize(
    ("value", "data_type", "clamped", "wrapped"),
    [
        # the examples of the specification
        (128.0, "int8", 127, -128),
        (32768.0, "int16", 32767, -32768),
        (32769.0, "int16", 32767, -32767),
        (-32769.0, "int16", -32768, 32767),
        (-1.0, "uint8", 0, 255),
        (255.5, "uint8", 255, 0),  # rounded first
        (1e300, "float32", math.inf, None),
        (-70000.0, "float16", -math.inf, None),
    ],
)
def test_numbers_out_of_range(value: float, data_type: Any, clamped: Any, wrapped: Any) -> None:
    array = make_array({}, "float64", CastValue(data_type=data_type))
    with pytest.raises(CodecError, match="out of range"):
        array[:] = value
    codec = CastValue(data_type=data_type, out_of_range="clamp")
    assert stored("float64", [value], codec) == [clamped]
    if wrapped is not None:
        codec = CastValue(data_type=data_type, out_of_range="wrap")
        assert stored("float64", [value], codec) == [wrapped]


@pytest.mark.parametrize("out_of_range", [None, "clamp", "wrap"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_integers_do_not_have_is_an_error(value: float, out_of_range: Any) -> None:
    store: dict[str, bytes] = {}
    array = make_array(store, "float64", CastValue(data_type="int8", out_of_range=out_of_range))
    with pytest.raises(CodecError, match="Cannot cast"):
        array[:] = value
    assert "c/0" not in store


def test_scalars_are_mapped_before_anything_else() -> None:
    numpy_rules = {"encode": [["NaN", 0], ["+Infinity", 1], ["-Infinity", 2], ["NaN", 9], [3, 300]]}
    codec = CastValue(data_type="int16", rounding="towards-zero", scalar_map=numpy_rules)
    values = [math.nan, math.inf, -math.inf, 3, 4.9]
    assert stored("float64", values, codec) == [0, 1, 2, 300, 4]
    same = CastValue(
        data_type=np.dtype("i2"),
        rounding="towards-zero",
        scalar_map={
            "encode": [
                (np.nan, 0),
                (np.inf, 1),
                (-np.inf, 2),
                ("0x7ff8000000000000", 9),
                (np.float32(3), np.int64(300)),
            ]
        },
    )
    assert stored("float64", values, same) == [0, 1, 2, 300, 4]


def test_mapped_integers_keep_all_bits() -> None:
    codec = CastValue(data_type="int64", scalar_map={"encode": {2**53 + 1: 2**62 + 1}})
    assert stored("int64", [2**53, 2**53 + 1], codec) == [2**53, 2**62 + 1]


def reference(value: Any, data_type: str, rounding: str) -> Any:
    """Return the number that the text asks for, None for one out of range."""
    exact, dtype = Fraction(value), np.dtype(data_type)
    if dtype.kind in "iu":
        below = math.floor(exact)
        above = below + (exact != below)
        even = below if below % 2 == 0 else above
    else:
        with np.errstate(over="ignore"):
            near = dtype.type(value)
        if np.isinf(near):
            return None
        side = np.nextafter(near, dtype.type(np.inf if Fraction(float(near)) < exact else -np.inf))
        pair = sorted([float(near), float(side)])
        below, above = pair if Fraction(float(near)) != exact else [float(near)] * 2
        even = float(near)  # NumPy's own rounding
    low, high = abs(exact - Fraction(below)), abs(Fraction(above) - exact)
    nearest = below if low < high else above
    away = below if exact < 0 else above
    result = {
        "nearest-even": nearest if low != high else even,
        "nearest-away": nearest if low != high else away,
        "towards-zero": above if exact < 0 else below,
        "towards-positive": above,
        "towards-negative": below,
    }[rounding]
    limits: Any = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    return result if limits.min <= result <= limits.max else None


NUMBERS = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.integers(-300, 300),
    st.floats(-1e5, 1e5).map(lambda x: round(x, 1)),
    st.floats(allow_nan=False, allow_infinity=False),
)


@given(
    st.sampled_from(INTEGERS + FLOATS),
    st.sampled_from(INTEGERS + FLOATS),
    st.sampled_from(ROUNDINGS),
    NUMBERS,
)
def test_every_number_becomes_what_the_text_says(
    source: str, data_type: str, rounding: Any, number: Any
) -> None:
    with np.errstate(over="ignore"):
        if np.dtype(source).kind in "iu":
            info = np.iinfo(source)
            value: Any = min(max(int(number), int(info.min)), int(info.max))
        else:
            value = float(np.dtype(source).type(number))
    if math.isinf(value):
        return
    codec = CastValue(data_type=data_type, rounding=rounding)
    expected = reference(value, data_type, rounding)
    if expected is None:
        with pytest.raises(CodecError, match="out of range"):
            stored(source, [value], codec)
    elif value != 0:  # chunks of nothing but the fill value are not stored
        assert stored(source, [value, 1], codec)[0] == expected


@given(st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=9), st.sampled_from("CF"))
def test_what_fits_comes_back(values: list[int], order: Any) -> None:
    data = np.array([values, values[::-1]])
    codec = CastValue(data_type="int16", rounding="nearest-away")
    array = make_array(
        {},
        "float64",
        [{"name": "transpose", "configuration": {"order": [1, 0]}}, codec],
        shape=data.shape,
        chunks=(2, 4),
    )
    array[:] = np.asarray(data, order=order)
    assert array[:].tolist() == data.tolist()
    assert array[:, ::-2].tolist() == data[:, ::-2].tolist()


def test_the_library_gets_arrays_in_c_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def cast_array(array: Any, **options: Any) -> Any:
        assert array.flags.c_contiguous
        return original(array, **options)

    original = cast_value_rs.cast_array
    monkeypatch.setattr(cast_value_rs, "cast_array", cast_array)
    stage = CastValue(data_type="int16").bind(make_spec((3, 4), "f8"))
    array = np.arange(24.0).reshape(4, 6).T[::2]
    assert stage.encode(array).tolist() == array.tolist()
    assert stage.decode(array.astype("i2")).tolist() == array.tolist()


# --- fill values ---------------------------------------------------------------------------------

MISSING: dict[str, Any] = {"encode": [["NaN", -1]], "decode": [[-1, "NaN"]]}


def test_the_fill_value_is_cast() -> None:
    codecs = [ScaleOffset(offset=10.0, scale=2.0), CastValue(data_type="int8", scalar_map=MISSING)]
    store: dict[str, bytes] = {}
    array = make_array(
        store, "float64", codecs, math.nan, shape=(8,), chunks=(2,), shards=(8,), compressors="auto"
    )
    array[:3] = [11, math.nan, 12.5]  # a missing inner chunk, and a partial one
    expected = [11, math.nan, 12.5, *[math.nan] * 5]
    np.testing.assert_array_equal(array[:], expected)
    np.testing.assert_array_equal(zarr.open_array(store)[:], expected)
    outside = make_array(
        {},
        "float64",
        [*codecs],
        math.nan,
        shape=(8,),
        chunks=(4,),
        serializer={
            "name": "sharding_indexed",
            "configuration": {
                "chunk_shape": [2],
                "codecs": ["bytes"],
                "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
            },
        },
    )
    outside[:3] = [11, math.nan, 12.5]
    np.testing.assert_array_equal(outside[:], expected)


@pytest.mark.parametrize(
    ("fill_value", "data_type", "inside"),
    [
        (0.5, "int8", 0),
        (-2.7, "int8", -3),
        (0.1, "float32", float(np.float32(0.1))),
        (1e-46, "float32", 0),
        (-math.inf, "float16", -math.inf),
    ],
)
def test_a_fill_value_may_be_rounded(fill_value: float, data_type: str, inside: float) -> None:
    # With an offset before the cast even 0 may be no integer.
    array = make_array({}, "float64", CastValue(data_type=data_type), fill_value, shape=(6,))
    array[:2] = 1
    assert array[:].tolist() == [1, 1, inside, *[fill_value] * 3]


@pytest.mark.parametrize(
    ("fill_value", "data_type", "scalar_map", "says"),
    [
        (300, "int8", None, "out of range"),
        (math.nan, "int8", None, "Cannot cast NaN"),
        (math.inf, "int8", {"encode": [["Infinity", 5]]}, "stored as 5 and would be read as 5.0"),
        (3, "int8", {"decode": [[3, 4]]}, "stored as 3 and would be read as 4.0"),
        (3, "float32", {"decode": [[3, 3.001]]}, "would be read as 3.001"),
        (math.nan, "int8", {"encode": MISSING["encode"]}, "stored as -1 and would be read as -1.0"),
    ],
)
def test_a_fill_value_that_does_not_survive_is_refused(
    fill_value: float, data_type: str, scalar_map: Any, says: str
) -> None:
    store: dict[str, bytes] = {}
    with pytest.raises(MetadataValidationError, match=says):
        make_array(
            store, "float64", CastValue(data_type=data_type, scalar_map=scalar_map), fill_value
        )
    assert store == {}


# --- documents -----------------------------------------------------------------------------------


def test_documents_have_what_is_not_the_default() -> None:
    assert CastValue(data_type="u1").to_dict() == {
        "name": "cast_value",
        "configuration": {"data_type": "uint8"},
    }
    codec = CastValue(
        data_type=np.float32,
        rounding="towards-zero",
        out_of_range="clamp",
        scalar_map={"encode": {math.nan: math.inf, -math.inf: np.float32(1)}},
    )
    document = codec.to_dict()
    assert document["configuration"] == {
        "data_type": "float32",
        "rounding": "towards-zero",
        "out_of_range": "clamp",
        "scalar_map": {"encode": [["NaN", "Infinity"], ["-Infinity", 1.0]]},
    }
    assert codec_from_dict(json.loads(json.dumps(document))) == codec
    assert hash(codec_from_dict(document)) == hash(codec)
    assert codec != CastValue(data_type="float32")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"data_type": None},
        {"data_type": "int7"},
        {"data_type": "bool"},
        {"data_type": "complex64"},
        {"data_type": "string"},
        {"data_type": "<i2"},
        {"data_type": "int8", "rounding": "up"},
        {"data_type": "int8", "rounding": None},
        {"data_type": "int8", "out_of_range": "error"},
        {"data_type": "int8", "out_of_range": 1},
        {"data_type": "float32", "out_of_range": "wrap"},
        {"data_type": "int8", "scalar_map": []},
        {"data_type": "int8", "scalar_map": {"both": []}},
        {"data_type": "int8", "scalar_map": {"encode": 1}},
        {"data_type": "int8", "scalar_map": {"encode": "ab"}},
        {"data_type": "int8", "scalar_map": {"encode": [[1]]}},
        {"data_type": "int8", "scalar_map": {"encode": [["NaN", "NaN"]]}},
        {"data_type": "int8", "scalar_map": {"encode": [["x", 1]]}},
        {"data_type": "int8", "scalar_map": {"encode": [[1, 128]]}},
        {"data_type": "int8", "scalar_map": {"decode": [[1.5, 1]]}},
        {"data_type": "int8", "scalar_map": {"decode": [[True, 1]]}},
        {"data_type": "int8", "scalar_map": {"decode": [[[1], 1]]}},
        {"data_type": "int8", "more": 1},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    store: dict[str, bytes] = {}
    with pytest.raises(MetadataValidationError):
        make_array(store, "float64", {"name": "cast_value", "configuration": settings})
    assert store == {}


@pytest.mark.parametrize("dtype", ["bool", "complex64", "U3", "M8[s]", str, "V4"])
def test_what_is_no_number_is_refused(dtype: Any) -> None:
    with pytest.raises(MetadataValidationError, match="data type of the array"):
        make_array({}, dtype, CastValue(data_type="int8"), None)


@given(st.binary(max_size=20))
def test_any_bytes_are_values_or_an_error(data: bytes) -> None:
    store: dict[str, bytes] = {}
    array = make_array(store, "int8", CastValue(data_type="float32"))
    store["c/0"] = data
    try:
        found = array[:]
    except ChunkDecodeError:
        whole = np.frombuffer(data, "<f4") if len(data) == 12 else np.array([np.nan])
        assert not (np.isfinite(whole) & (np.abs(whole) < 127)).all()
    else:
        np.testing.assert_array_equal(found, np.rint(np.frombuffer(data, "<f4")))


# --- without the package -------------------------------------------------------------------------


def test_without_the_package_the_array_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    store: dict[str, bytes] = {}
    codec = CastValue(
        data_type="int8", scalar_map={"encode": [[77, 78]]}
    )  # no chain is kept for it
    make_array(store, "float64", codec, attributes={"units": "K"})
    from zarr_core.array import state

    monkeypatch.setattr(state, "_chains", {})
    monkeypatch.setitem(sys.modules, "cast_value_rs", None)
    array = zarr.open_array(store)
    assert array.shape == (3,)
    assert dict(array.attrs) == {"units": "K"}
    assert array.filters == (codec,)
    says = "package cast-value-rs is needed and not installed: pip install cast-value-rs"
    with pytest.raises(UnknownCodecError, match=says):
        array[:]
    with pytest.raises(UnknownCodecError, match=says):
        array[0] = 1
    with pytest.raises(UnknownCodecError, match=says):
        make_array({}, "float64", codec)
