"""Data types and fill values: documents of both formats, what users write, and what is refused."""

import ast
import contextlib
import datetime as dt
import json
import math
import pickle
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zarr_core.errors import DataTypeValidationError, describe
from zarr_core.metadata.data_types import (
    _NAMED,
    MAX_DEPTH,
    DataType,
    parse_dtype,
    parse_v2,
    parse_v3,
)
from zarr_core.metadata.small_types import small_dtype

STRING = np.dtypes.StringDType()
NATIVE = "<" if sys.byteorder == "little" else ">"
SWAPPED = ">" if sys.byteorder == "little" else "<"

SIMPLE = ["bool", *(f"{kind}int{bits}" for kind in ("", "u") for bits in (8, 16, 32, 64))]
SIMPLE += ["float16", "float32", "float64", "complex64", "complex128"]


def named(name: str, **configuration: Any) -> dict[str, Any]:
    return {"name": name, "configuration": configuration}


def struct(**fields: Any) -> dict[str, Any]:
    entries = [{"name": name, "data_type": data_type} for name, data_type in fields.items()]
    return named("struct", fields=entries)


XY = struct(x="int16", y="float32")
XY_DTYPE = np.dtype([("x", "i2"), ("y", "f4")])

V3 = [
    *((name, np.dtype(name)) for name in SIMPLE),
    ("string", STRING),
    ("bytes", np.dtype(object)),
    (named("fixed_length_utf32", length_bytes=12), np.dtype("U3")),
    (named("null_terminated_bytes", length_bytes=3), np.dtype("S3")),
    (named("raw_bytes", length_bytes=2), np.dtype("V2")),
    (named("numpy.datetime64", unit="ns", scale_factor=1), np.dtype("M8[ns]")),
    (named("numpy.datetime64", unit="s", scale_factor=10), np.dtype("M8[10s]")),
    (named("numpy.datetime64", unit="generic", scale_factor=1), np.dtype("M8")),
    (named("numpy.timedelta64", unit="Y", scale_factor=2**31 - 1), np.dtype("m8[2147483647Y]")),
    (XY, XY_DTYPE),
    (struct(p=XY, t=named("raw_bytes", length_bytes=3)), np.dtype([("p", XY_DTYPE), ("t", "V3")])),
]

V2 = [
    *((f"{order}{code}", f"{order}{code}") for order in "<>" for code in ("i2", "u8", "f2", "c16")),
    *((code, code) for code in ("|b1", "|i1", "|u1", "|S3", "|V3", "<U3", ">U3")),
    *((code, code) for code in ("<M8[ns]", ">M8[D]", "<m8[10us]", "<M8", ">m8")),
    ([["x", "<i2"], ["y", ">f4"]], [("x", "<i2"), ("y", ">f4")]),
    ([["x", [["z", "|u1"]]], ["y", ">f4"]], [("x", [("z", "u1")]), ("y", ">f4")]),
    ([["x", "<i2", [2, 3]], ["y", "|b1"]], [("x", "<i2", (2, 3)), ("y", "?")]),
    ([["x", [["z", "<i2"]], [2]]], [("x", [("z", "<i2")], (2,))]),
]


def bits(scalar: Any) -> bytes:
    return np.asarray(scalar).tobytes()


def canonical(value: Any) -> Any:
    """Check that `value` is strict JSON and return what a reader of the document sees."""
    return json.loads(json.dumps(value, allow_nan=False))


# --- documents -----------------------------------------------------------------------------------


def literal(text: str) -> Any:
    return ast.literal_eval(text) if text.startswith("[") else text


def test_the_table_of_the_documentation() -> None:
    page = Path(__file__).parent.parent / "docs" / "data-types.md"
    rows = re.findall(
        r"^\| `(.+?)` \| `(.+?)` \| `(.+?)` \|$", page.read_text("utf-8"), re.MULTILINE
    )
    for name, v2, numpy_name in rows:
        if numpy_name.startswith("ml_dtypes."):
            dtype = small_dtype(numpy_name.removeprefix("ml_dtypes."))
        else:
            dtype = STRING if "String" in numpy_name else np.dtype(literal(numpy_name))
        data_type = parse_dtype(bytes if dtype.kind == "O" else dtype, 2)
        assert data_type.name == name
        written = json.dumps(data_type.to_v2()) if dtype.names else data_type.to_v2()
        assert written == v2.replace("\\|", "|").replace("<", NATIVE)
    assert [row[0] for row in rows] == list(dict.fromkeys(row[0] for row in rows))
    legacy = {"structured", "variable_length_bytes", "complex_float32", "complex_float64"}
    assert {row[0] for row in rows} == _NAMED - legacy


@pytest.mark.parametrize(("data", "dtype"), V3, ids=describe)
def test_v3(data: Any, dtype: np.dtype[Any]) -> None:
    data_type = parse_v3(data)
    assert data_type.dtype == dtype
    assert data_type.to_v3() == data
    assert data_type.name == (data if isinstance(data, str) else data["name"])
    assert data_type.is_variable == (data in ("string", "bytes"))
    assert data_type.item_bytes == (None if data_type.is_variable else dtype.itemsize)
    assert parse_dtype(data, 3) == parse_dtype(dtype, 3) if dtype.kind != "O" else True


@pytest.mark.parametrize(
    ("data", "written"),
    [
        ("complex_float32", "complex64"),
        ("complex_float64", "complex128"),
        ("variable_length_bytes", "bytes"),
        ("r8", named("raw_bytes", length_bytes=1)),
        ("r24", named("raw_bytes", length_bytes=3)),
        ({"name": "int32"}, "int32"),
        ({"name": "int32", "configuration": {}, "must_understand": True}, "int32"),
        (
            named("numpy.timedelta64", unit="μs", scale_factor=3),
            named("numpy.timedelta64", unit="us", scale_factor=3),
        ),
        (
            named("numpy.datetime64", unit="generic", scale_factor=7),
            named("numpy.datetime64", unit="generic", scale_factor=1),
        ),
        (named("structured", fields=[["x", "int16"], ["y", "float32"]]), XY),
        (
            named("structured", fields=[["p", named("structured", fields=[["q", "r8"]])]]),
            struct(p=struct(q=named("raw_bytes", length_bytes=1))),
        ),
    ],
)
def test_v3_other_spellings(data: Any, written: Any) -> None:
    assert parse_v3(data).to_v3() == written
    assert parse_v3(data) == parse_v3(written)


@pytest.mark.parametrize(("data", "dtype"), V2, ids=describe)
def test_v2(data: Any, dtype: Any) -> None:
    data_type = parse_v2(data)
    assert data_type.dtype == np.dtype(dtype)
    assert data_type.to_v2() == data
    assert parse_dtype(data, 2) == data_type
    assert parse_dtype(np.dtype(dtype), 2) == data_type


def test_v2_objects() -> None:
    assert parse_v2("|O", "vlen-utf8") == DataType(STRING)
    assert parse_v2("|O", "vlen-bytes") == DataType(np.dtype(object))
    assert parse_v2("|O", "vlen-bytes").to_v2() == parse_v2("|O", "vlen-utf8").to_v2() == "|O"
    assert parse_v2("<i4", "vlen-utf8") == parse_v2("<i4")
    any_objects = {parse_v2("|O", codec) for codec in ("pickle", "json2", "json2")}
    assert len(any_objects | {DataType(np.dtype(object))}) == 3
    for data_type in any_objects:
        assert (data_type.name, data_type.to_v2(), data_type.dtype) == ("object", "|O", object)
        assert pickle.loads(pickle.dumps(data_type)) == data_type
        with pytest.raises(DataTypeValidationError, match="format 2"):
            data_type.to_v3()
    with pytest.raises(DataTypeValidationError, match=r"'other'.*vlen-utf8.*json2"):
        parse_v2("|O", "other")
    with pytest.raises(DataTypeValidationError, match=r"None.*vlen-utf8"):
        parse_v2("|O")


def test_v2_padding_fields() -> None:
    """Old zarr writes aligned dtypes with unnamed fields."""
    data_type = parse_v2([["a", "|i1"], ["", "|V3"], ["b", "<i4"]])
    assert data_type.dtype == np.dtype([("a", "i1"), ("f1", "V3"), ("b", "<i4")])
    assert data_type.to_v2() == [["a", "|i1"], ["f1", "|V3"], ["b", "<i4"]]


def test_byte_order() -> None:
    swapped = parse_dtype(f"{SWAPPED}i4", 2)
    assert swapped.dtype.str == f"{SWAPPED}i4"
    assert swapped != parse_dtype("i4", 2)
    assert parse_dtype(swapped, 3).dtype.isnative
    nested = np.dtype([("a", [("b", f"{SWAPPED}f8")]), ("u", f"{SWAPPED}U2")])
    assert parse_dtype(nested, 3).dtype == nested.newbyteorder("=")
    assert parse_dtype(nested, 2).dtype == nested
    assert parse_dtype(f"{SWAPPED}M8[ns]", 3).dtype.isnative


@pytest.mark.parametrize(
    ("spec", "needs_endian"),
    [
        *((name, np.dtype(name).itemsize > 1) for name in SIMPLE),
        ("string", False),
        ("bytes", False),
        ("S3", False),
        ("V4", False),
        ("U1", True),
        ("M8[ns]", True),
        ("m8[s]", True),
        ([("a", "i1"), ("b", "S8"), ("c", [("d", "?")])], False),
        ([("a", "i1"), ("c", [("d", "i2")])], True),
    ],
    ids=describe,
)
def test_needs_endian(spec: Any, needs_endian: bool) -> None:
    assert parse_dtype(spec, 3).needs_endian is needs_endian


def test_needs_endian_of_subarrays() -> None:
    assert parse_dtype([("a", "i2", (2,))], 2).needs_endian
    assert not parse_dtype([("a", "i1", (2,))], 2).needs_endian


# --- what users write ----------------------------------------------------------------------------


class ZarrPythonType:
    """Looks like a data type object of zarr-python."""

    def __init__(self, dtype: Any, object_codec_id: str | None = None) -> None:
        self.dtype = dtype
        self.object_codec_id = object_codec_id

    def to_native_dtype(self) -> Any:
        return np.dtype(self.dtype)

    def __repr__(self) -> str:
        return f"ZarrPythonType({self.dtype!r})"


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("spec", "dtype"),
    [
        (int, "i8"),
        (float, "f8"),
        (complex, "c16"),
        (bool, "?"),
        (str, STRING),
        ("str", STRING),
        ("string", STRING),
        (STRING, STRING),
        (np.dtypes.StringDType, STRING),
        (np.dtypes.StringDType(coerce=False), STRING),
        (bytes, object),
        ("bytes", object),
        ("variable_length_bytes", object),
        ("i4", "i4"),
        (np.uint8, "u1"),
        (np.longlong, "i8"),
        ("float", "f8"),
        ("datetime64[ns]", "M8[ns]"),
        ("r16", "V2"),
        ("complex_float32", "c8"),
        ("i4,f4", [("f0", "i4"), ("f1", "f4")]),
        ([("a", "i4"), ("b", [("c", "f4")])], [("a", "i4"), ("b", [("c", "f4")])]),
        ([["a", "i4"], ["b", [["c", "f4"]]]], [("a", "i4"), ("b", [("c", "f4")])]),
        ({"names": ["a"], "formats": ["i4"]}, [("a", "i4")]),
        (named("raw_bytes", length_bytes=2), "V2"),
        ({"name": "<i4", "object_codec_id": None}, "<i4"),
        ({"name": "|O", "object_codec_id": "vlen-utf8"}, STRING),
        (ZarrPythonType("i4"), "i4"),
        (ZarrPythonType(object, "vlen-bytes"), object),
        (DataType(np.dtype("i4")), "i4"),
        (np.dtype("i4", metadata={"a": 1}), "i4"),
        (np.dtype((np.record, [("a", "i4")])), [("a", "i4")]),
    ],
    ids=describe,
)
def test_parse_dtype(spec: Any, dtype: Any, zarr_format: int) -> None:
    data_type = parse_dtype(spec, zarr_format)
    assert data_type.dtype == np.dtype(dtype)
    assert data_type.dtype.metadata is None
    assert data_type.dtype.type is not np.record


def test_padding_is_dropped() -> None:
    aligned = np.dtype([("a", "i1"), ("b", [("c", "i1"), ("d", "f8")])], align=True)
    packed = np.dtype([("a", "i1"), ("b", [("c", "i1"), ("d", "f8")])])
    assert DataType(aligned).dtype == packed
    assert DataType(aligned).item_bytes == 10


def test_subarrays_are_for_format_2() -> None:
    spec = [("a", "i4", (2,)), ("b", [("c", "i1", 3)])]
    assert parse_dtype(spec, 2).item_bytes == 11
    with pytest.raises(DataTypeValidationError, match=r"subarray field 'a'.*format 2"):
        parse_dtype(spec, 3)
    with pytest.raises(DataTypeValidationError, match="subarray"):
        parse_dtype(spec, 2).to_v3()
    with pytest.raises(DataTypeValidationError, match="subarray"):
        parse_dtype(spec, 2).fill_to_json(0, 3)


@pytest.mark.parametrize("name", [name for name, _ in V3], ids=describe)
def test_value_semantics(name: Any) -> None:
    first, second = parse_v3(name), parse_v3(json.loads(json.dumps(name)))
    assert first == second
    assert hash(first) == hash(second)
    copy = pickle.loads(pickle.dumps(first))
    assert copy == first
    assert hash(copy) == hash(first)
    assert copy.to_v3() == name
    assert copy.item_bytes == first.item_bytes
    assert len({first, second, copy, parse_v3("r800")}) == 2
    assert repr(first.dtype) in repr(first)
    with pytest.raises(AttributeError):
        first.dtype = np.dtype("i1")  # type: ignore[misc]


# --- refused data types --------------------------------------------------------------------------


def nested(depth: int) -> Any:
    data: Any = "int8"
    for _ in range(depth):
        data = struct(a=data)
    return data


def nested_v2(depth: int) -> Any:
    data: Any = "|i1"
    for _ in range(depth):
        data = [["a", data]]
    return data


def test_depth() -> None:
    assert parse_v3(parse_v3(nested(MAX_DEPTH)).to_v3()).item_bytes == 1
    assert parse_v2(parse_v2(nested_v2(MAX_DEPTH)).to_v2()).item_bytes == 1
    deep = np.dtype("i1")
    for _ in range(MAX_DEPTH + 1):
        deep = np.dtype([("a", deep)])
    with pytest.raises(DataTypeValidationError, match="too deeply"):
        DataType(deep)


def lengths(*values: Any) -> list[Any]:
    return [named("raw_bytes", length_bytes=value) for value in values]


def times(*values: tuple[Any, Any]) -> list[Any]:
    return [named("numpy.datetime64", unit=unit, scale_factor=scale) for unit, scale in values]


def structs(*values: Any) -> list[Any]:
    return [named("struct", fields=value) for value in values]


REFUSED_V3 = [
    *(None, 1, [], {}, "", "int33", "int1", "float128", "<i4", "raw_bytes", "struct"),
    *("r0", "r12", "r08", "r-8", "r99999999999", "r9999999999999999999999", "numpy.datetime64"),
    *({"name": 1}, {"name": ["int32"]}, {"name": "int32", "extra": 1}),
    {"name": "int32", "must_understand": False},
    *({"name": "int32", "configuration": value} for value in (None, [], "little")),
    *(named("int32", endian="little"), named("r16", length_bytes=2), named("raw_bytes")),
    *lengths(0, -1, 2**31, 1.0, True, "2", None, [2]),
    named("raw_bytes", length_bytes=2, other=1),
    named("null_terminated_bytes", length_bytes=0),
    *(named("fixed_length_utf32", length_bytes=length) for length in (0, 1, 6, 2**31)),
    named("numpy.datetime64", unit="ns"),
    *times(("B", 1), (["ns"], 1), ("ns", 0), ("ns", 2**31), ("ns", 1.0), ("ns", True)),
    named("numpy.datetime64", unit="ns", scale_factor=1, endian="little"),
    *structs([], {}, "xy", ["xy"], [["x"]], [["x", "int8", [2]]], [["x", "int8"], ["x", "int8"]]),
    *structs(*([[name, "int8"]] for name in ("", 1, None, ["x"], "\ud800"))),
    *structs(*([["x", data]] for data in ("string", "bytes", "int1", None))),
    *structs([{"name": "x", "data_type": "int8", "shape": [2]}], [{"name": "x"}]),
    *structs([[name, named("raw_bytes", length_bytes=2**30)] for name in "ab"]),
    *(nested(MAX_DEPTH + 1), nested(600)),
]


@pytest.mark.parametrize("data", REFUSED_V3, ids=describe)
def test_refused_v3(data: Any) -> None:
    with pytest.raises(DataTypeValidationError, match="allowed") as caught:
        parse_v3(data)
    assert len(str(caught.value)) < 600


REFUSED_V2 = [
    *(None, 1, "", {}, [], "i", "int32", "complex_float16", "<i3", "<f16", "|S0", "<U0", "|V0"),
    *("S9999999999", "<U999999999", "<i4,<f4", "(2,)<i4", "<M8[B]", "<M8[0s]", "<M8[7D/2]"),
    *("<M8[9999999999s]", "\ud800", "é", ["<i4"], [["x"]], [["x", "<i4", [2], 1]]),
    *([["x", "|O"]], [["x", None]], [[None, "<i4"]], [["x", "<i4"], ["x", "<i4"]]),
    [[["title", "x"], "<i4"]],
    *([["x", "<i4", shape]] for shape in (0, [0], [-1], [1.5], ["2"], [[2]], {"a": 1}, [2**40])),
    *([["x", "<i4", [1] * 100]], nested_v2(MAX_DEPTH + 1), nested_v2(600)),
]


@pytest.mark.parametrize("data", REFUSED_V2, ids=describe)
def test_refused_v2(data: Any) -> None:
    with pytest.raises(DataTypeValidationError, match="allowed") as caught:
        parse_v2(data)
    assert len(str(caught.value)) < 600


class Bad:
    def to_native_dtype(self) -> Any:
        raise KeyError("no")

    def __repr__(self) -> str:
        raise RuntimeError


def deep_list() -> list[Any]:
    data: list[Any] = []
    for _ in range(50_000):
        data = [data]
    return data


DEEP = deep_list()

REFUSED_SPECS = [
    *(None, 5, "nonsense", "S", "U0", "3i4", np.str_, np.bytes_, np.longdouble),
    *(np.dtypes.StringDType(na_object=None), np.dtypes.StrDType, np.dtypes.DateTime64DType),
    *(np.void, np.dtype([(("title", "a"), "i4")]), np.dtype([("a", "O")]), np.dtype([])),
    *([("a", "i4"), ("a", "i4")], [[]], ["i4"], {"a": 1}, {"names": ["a"]}, Bad(), DEEP),
]


@pytest.mark.parametrize("spec", REFUSED_SPECS, ids=describe)
def test_refused_from_users(spec: Any) -> None:
    with pytest.raises(DataTypeValidationError, match="allowed"):
        parse_dtype(spec, 3)


@pytest.mark.parametrize("spec", [object, "O", "|O", np.dtype(object), dict, ZarrPythonType("O")])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_objects_name_str(spec: Any, zarr_format: int) -> None:
    with pytest.raises(DataTypeValidationError, match="allowed: str"):
        parse_dtype(spec, zarr_format)


# --- fill values in documents --------------------------------------------------------------------

DATE = named("numpy.datetime64", unit="ns", scale_factor=1)
UTF32 = named("fixed_length_utf32", length_bytes=12)
S3 = named("null_terminated_bytes", length_bytes=3)


@pytest.mark.parametrize(
    ("data", "value", "expected"),
    [
        ("bool", True, np.True_),
        ("bool", False, np.False_),
        ("int8", -128, np.int8(-128)),
        ("int64", 2**63 - 1, np.int64(2**63 - 1)),
        ("uint64", 2**64 - 1, np.uint64(2**64 - 1)),
        ("float16", 0.25, np.float16(0.25)),
        ("float32", 1.5, np.float32(1.5)),
        ("float32", "Infinity", np.float32(np.inf)),
        ("float32", "-Infinity", np.float32(-np.inf)),
        ("float64", -0.0, np.float64(-0.0)),
        ("float64", 5e-324, np.float64(5e-324)),
        ("complex64", [1.0, -0.0], np.complex64(complex(1, -0.0))),
        ("string", "", ""),
        ("string", "aé\0\U0001f600", "aé\0\U0001f600"),
        ("bytes", "", b""),
        ("bytes", "AQIA", b"\1\2\0"),
        (UTF32, "aé\U0001f600", np.str_("aé\U0001f600")),
        (S3, "", np.bytes_(b"")),
        (S3, "YWI=", np.bytes_(b"ab")),
        (named("raw_bytes", length_bytes=2), "AQI=", np.void(b"\1\2")),
        (named("raw_bytes", length_bytes=2), "AAA=", np.void(b"\0\0")),
        (DATE, "NaT", np.datetime64("NaT", "ns")),
        (DATE, 5, np.datetime64(5, "ns")),
        (DATE, -(2**63) + 1, np.datetime64(-(2**63) + 1, "ns")),
        (named("numpy.timedelta64", unit="s", scale_factor=10), -5, np.timedelta64(-5, "10s")),
        (XY, {"x": -1, "y": "NaN"}, np.array((-1, np.nan), XY_DTYPE)[()]),
        (
            struct(p=XY, b="bool"),
            {"p": {"x": 1, "y": 2.5}, "b": True},
            np.array(((1, 2.5), True), [("p", XY_DTYPE), ("b", "?")])[()],
        ),
    ],
    ids=describe,
)
def test_fill_v3(data: Any, value: Any, expected: Any) -> None:
    data_type = parse_v3(data)
    scalar = data_type.fill_from_json(canonical(value), 3)
    assert type(scalar) is type(expected)
    assert bits(scalar) == bits(expected)
    assert getattr(scalar, "dtype", None) == getattr(expected, "dtype", None)
    written = data_type.fill_to_json(scalar, 3)
    assert canonical(written) == value
    assert type(written) is type(value)
    assert math_sign(written) == math_sign(value)


def math_sign(value: Any) -> float:
    return float(np.copysign(1, value)) if isinstance(value, float) else 0.0


@pytest.mark.parametrize(
    ("data", "value", "same_as"),
    [
        ("bool", 1, True),
        ("bool", 0, False),
        ("int32", 3.0, 3),
        ("uint64", 1e19, 10**19),
        ("float32", 3, 3.0),
        ("float64", 10**308, 1e308),
        ("float16", 0.1, 0.0999755859375),
        ("float32", float("nan"), "NaN"),
        ("float32", float("inf"), "Infinity"),
        ("float32", 3.4028234663852886e38, 3.4028234663852886e38),
        ("float32", 3.40282346638529e38, 3.4028234663852886e38),
        ("float32", "0x3f800000", 1.0),
        ("float32", "0x7FC00000", "NaN"),
        ("float16", "0x7e00", "NaN"),
        ("float64", "0x7ff8000000000000", "NaN"),
        ("float64", "0xfff0000000000000", "-Infinity"),
        ("complex64", [1, "0x7fc00000"], [1.0, "NaN"]),
        ("bytes", [1, 2, 255], "AQL/"),
        ("bytes", [], ""),
        (named("raw_bytes", length_bytes=2), [1, 2], "AQI="),
        ("r16", [1, 2], "AQI="),
        (S3, "YWIA", "YWI="),
        (UTF32, "a\0\0", "a"),
        (DATE, -(2**63), "NaT"),
        (XY, "AQAAAABA", {"x": 1, "y": 2.0}),
    ],
    ids=describe,
)
def test_fill_v3_other_spellings(data: Any, value: Any, same_as: Any) -> None:
    data_type = parse_v3(data)
    scalar = data_type.fill_from_json(value, 3)
    assert bits(scalar) == bits(data_type.fill_from_json(same_as, 3))
    assert data_type.fill_to_json(scalar, 3) == same_as


RAW = named("raw_bytes", length_bytes=2)
NAN_HEX = ["0x7fc0", "0x7fc000000", "0x7ff8000000000000", "0x7f_c0000", "7fc00000"]

REFUSED_FILLS_V3: list[tuple[Any, list[Any]]] = [
    *((data, [None, {"a": 1}]) for data, _ in V3),
    *((data, [True, False]) for data, _ in V3 if data != "bool"),
    ("bool", [2, -1, 1.0, "true"]),
    ("int8", [128, -129, 1.5, "1", float("nan"), float("inf"), [1]]),
    ("int64", [2**63, 2.0**63, -(2**63) - 1]),
    ("uint64", [-1, 2**64]),
    ("float32", ["nan", "1.5", "-NaN", "", 1e40, *NAN_HEX]),
    ("float16", [65520.0]),
    ("float64", [10**400, 2**1024 - 1, [1.0]]),
    ("complex64", [1.0, "NaN", [1.0], [1.0, 2.0, 3.0], [1.0, None], [True, 1.0], [1e40, 1.0]]),
    ("string", [0, ["a"], "\ud800"]),
    ("bytes", ["A", "AQI", "A Q I =", "AQI=AQI=", "é", [256], [-1], [1.0], [True], 0]),
    (UTF32, ["abcd", 0, "\udfff"]),
    (S3, ["YWJjZA==", 0]),
    (RAW, ["", "AQ==", "AQID", [1], 0]),
    (DATE, ["2020-01-01", "nat", 1.0, 2**63, -(2**63) - 1]),
    (XY, [0, {}, {"x": 1}, {"x": 1, "y": 1.0, "z": 1}, [1, 2.0], "AQ==", ""]),
    (XY, [{"x": 1, "y": None}, {"x": 2**15, "y": 1.0}]),
    (struct(p=XY), [{"p": "AQAAAABA"}]),
    (struct(u=named("fixed_length_utf32", length_bytes=4)), ["/////w=="]),
]


def pairs(table: list[tuple[Any, list[Any]]]) -> list[tuple[Any, Any]]:
    return [(key, value) for key, values in table for value in values]


@pytest.mark.parametrize(("data", "value"), pairs(REFUSED_FILLS_V3), ids=describe)
def test_refused_fill_v3(data: Any, value: Any) -> None:
    data_type = parse_v3(data)
    with pytest.raises(DataTypeValidationError, match=r"fill value .* is not valid for data type"):
        data_type.fill_from_json(value, 3)


@pytest.mark.parametrize(
    ("data", "value", "expected", "written"),
    [
        ("|b1", False, np.False_, False),
        ("|b1", 0, np.False_, False),
        (">i4", -5, np.int32(-5), -5),
        ("<i4", "5", np.int32(5), 5),
        ("<i4", 5.0, np.int32(5), 5),
        ("<u8", 2**64 - 1, np.uint64(2**64 - 1), 2**64 - 1),
        (">f4", "NaN", np.float32(np.nan), "NaN"),
        ("<f8", "-Infinity", np.float64(-np.inf), "-Infinity"),
        ("<f8", "1.5e3", np.float64(1500), 1500.0),
        ("<f8", -0.0, np.float64(-0.0), -0.0),
        (">c8", [1.0, "NaN"], np.complex64(complex(1, np.nan)), [1.0, "NaN"]),
        ("|S3", "", np.bytes_(b""), "AAAA"),
        ("|S3", 0, np.bytes_(b""), "AAAA"),
        ("|S3", "YWI=", np.bytes_(b"ab"), "YWIA"),
        ("|V3", "AQID", np.void(b"\1\2\3"), "AQID"),
        ("|V3", "", np.void(b"\0\0\0"), "AAAA"),
        ("|V3", 0, np.void(b"\0\0\0"), "AAAA"),
        (">U3", "ab", np.str_("ab"), "ab"),
        ("<U3", "", np.str_(""), ""),
        ("<U3", "0", np.str_("0"), "0"),
        ("<U3", 0, np.str_(""), ""),
        ("<M8[ns]", 0, np.datetime64(0, "ns"), 0),
        (">M8[ns]", 5, np.datetime64(5, "ns"), 5),
        (">M8[ns]", -(2**63), np.datetime64("NaT", "ns"), -(2**63)),
        ("<m8[s]", "NaT", np.timedelta64("NaT", "s"), -(2**63)),
        (
            [["x", "<i2"], ["y", ">f4"]],
            "AQBAAAAA",
            np.array((1, 2), [("x", "<i2"), ("y", ">f4")])[()],
            "AQBAAAAA",
        ),
        ([["x", "<i2"]], 0, np.array((0,), [("x", "<i2")])[()], "AAA="),
        (
            [["x", "<i2", [2]]],
            "AQACAA==",
            np.array(([1, 2],), [("x", "<i2", (2,))])[()],
            "AQACAA==",
        ),
    ],
    ids=describe,
)
def test_fill_v2(data: Any, value: Any, expected: Any, written: Any) -> None:
    data_type = parse_v2(data)
    scalar = data_type.fill_from_json(value, 2)
    assert type(scalar) is type(expected)
    assert bits(scalar) == bits(expected)
    assert canonical(data_type.fill_to_json(scalar, 2)) == written
    assert math_sign(data_type.fill_to_json(scalar, 2)) == math_sign(written)


@pytest.mark.parametrize(
    ("codec", "value", "expected", "written"),
    [
        ("vlen-utf8", 0, "", ""),
        ("vlen-utf8", "", "", ""),
        ("vlen-utf8", "0", "0", "0"),
        ("vlen-bytes", 0, b"", ""),
        ("vlen-bytes", "", b"", ""),
        ("vlen-bytes", "AQI=", b"\1\2", "AQI="),
    ],
)
def test_fill_v2_objects(codec: str, value: Any, expected: Any, written: Any) -> None:
    data_type = parse_v2("|O", codec)
    assert data_type.fill_from_json(value, 2) == expected
    assert data_type.fill_to_json(expected, 2) == written


@pytest.mark.parametrize("data", [data for data, _ in V2], ids=describe)
def test_undefined_fill_of_v2(data: Any) -> None:
    assert parse_v2(data).fill_from_json(None, 2) is None
    assert parse_v2(data).fill_to_json(None, 2) is None
    with pytest.raises(DataTypeValidationError):
        parse_v2(data).fill_from_json(None, 3)
    with pytest.raises(DataTypeValidationError):
        parse_v2(data).fill_to_json(None, 3)


REFUSED_FILLS_V2: list[tuple[Any, list[Any]]] = [
    ("<i4", ["x", "1.5", "", "1" * 5000]),
    ("<f4", ["0x7fc00000", "nan", "1e40"]),
    ("<c8", [0]),
    ("|S3", ["YWJjZA==", False]),
    ("|V3", ["AQ=="]),
    ("<U3", ["abcd"]),
    ("<M8[ns]", ["2020"]),
    ([["x", "<i2"]], ["", "AQ==", [1]]),
    ([["x", "<U1"]], ["/////w=="]),
]


@pytest.mark.parametrize(("data", "value"), pairs(REFUSED_FILLS_V2), ids=describe)
def test_refused_fill_v2(data: Any, value: Any) -> None:
    with pytest.raises(DataTypeValidationError, match=r"fill value .* is not valid for data type"):
        parse_v2(data).fill_from_json(value, 2)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_hostile_fill_values_raise_one_error(zarr_format: int) -> None:
    for data, _ in V3:
        for value in (DEEP, {"x": DEEP, "y": 0}, 10**5000, [10**5000] * 2, ["\ud800"] * 2):
            with pytest.raises(DataTypeValidationError):
                parse_v3(data).fill_from_json(value, zarr_format)


# --- fill values bit for bit ---------------------------------------------------------------------

PATTERNS = st.sampled_from([16, 32, 64]).flatmap(
    lambda size: st.tuples(st.just(size), st.integers(0, 2**size - 1))
)


@given(PATTERNS)
@settings(max_examples=200)
def test_float_bits(pattern: tuple[int, int]) -> None:
    size, number = pattern
    data_type = parse_v3(f"float{size}")
    scalar = data_type.fill_from_json(f"0x{number:0{size // 4}x}", 3)
    assert scalar.view(f"u{size // 8}") == number
    written = canonical(data_type.fill_to_json(scalar, 3))
    assert bits(data_type.fill_from_json(written, 3)) == bits(scalar)
    assert bits(data_type.cast_fill(scalar)) == bits(scalar)
    assert isinstance(written, str) == (not np.isfinite(scalar))


def nans(size: int) -> list[int]:
    quiet = {16: 0x7E00, 32: 0x7FC00000, 64: 0x7FF8000000000000}[size]
    infinite = {16: 0x7C00, 32: 0x7F800000, 64: 0x7FF0000000000000}[size]
    sign = 1 << (size - 1)
    return [quiet, quiet | sign, quiet + 1, infinite + 1, infinite | sign | 1]


@pytest.mark.parametrize("size", [16, 32, 64])
def test_nan_payloads(size: int) -> None:
    data_type = parse_v3(f"float{size}")
    written = []
    for number in nans(size):
        scalar = np.array(number, f"u{size // 8}").view(data_type.dtype)[()]
        written.append(data_type.fill_to_json(scalar, 3))
        assert bits(data_type.fill_from_json(written[-1], 3)) == bits(scalar)
        assert data_type.fill_to_json(scalar, 2) == "NaN"
    assert written == ["NaN", *(f"0x{number:0{size // 4}x}" for number in nans(size)[1:])]
    assert data_type.fill_to_json(float("nan"), 3) == "NaN"
    assert data_type.fill_to_json(np.nan, 3) == "NaN"


@given(
    st.sampled_from([64, 128]).flatmap(
        lambda n: st.tuples(st.just(n), st.binary(min_size=n // 8, max_size=n // 8))
    )
)
@settings(max_examples=200)
def test_complex_bits(pattern: tuple[int, bytes]) -> None:
    size, data = pattern
    data_type = parse_v3(f"complex{size}")
    scalar = np.frombuffer(data, data_type.dtype)[0]
    written = canonical(data_type.fill_to_json(scalar, 3))
    assert bits(data_type.fill_from_json(written, 3)) == data


FIXED = st.sampled_from(
    [*SIMPLE[1:], DATE, named("numpy.timedelta64", unit="s", scale_factor=3), "r24", "r8", S3]
)


@st.composite
def struct_v3(draw: st.DrawFn, depth: int = 0) -> dict[str, Any]:
    field = FIXED if depth > 2 else FIXED | struct_v3(depth + 1)
    names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)
    return struct(**draw(st.dictionaries(names, field, min_size=1, max_size=4)))


@given(struct_v3(), st.data())
@settings(max_examples=80, deadline=None)
def test_struct_bits(document: dict[str, Any], draw: Any) -> None:
    data_type = parse_v3(document)
    again = parse_v3(canonical(data_type.to_v3()))
    assert again == data_type
    assert hash(again) == hash(data_type)
    data = draw.draw(st.binary(min_size=data_type.item_bytes, max_size=data_type.item_bytes))
    scalar = np.frombuffer(data, data_type.dtype)[0]
    written = canonical(data_type.fill_to_json(scalar, 3))
    assert bits(data_type.fill_from_json(written, 3)) == data
    assert pickle.loads(pickle.dumps(data_type)) == data_type

    for dtype in (data_type.dtype, data_type.dtype.newbyteorder(SWAPPED)):
        old = DataType(dtype)
        assert parse_v2(canonical(old.to_v2())) == old
        scalar = np.frombuffer(data, dtype)[0]
        written = canonical(old.fill_to_json(scalar, 2))
        assert bits(old.fill_from_json(written, 2)) == data


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["name", "configuration", "fields", "unit", "x"]), inner
            )
        ),
    )
)
@settings(max_examples=100, deadline=None)
def test_arbitrary_json_raises_one_error(data: Any) -> None:
    def attempt(function: Any, *args: Any) -> None:
        with contextlib.suppress(DataTypeValidationError):
            function(*args)

    attempt(parse_v3, data)
    attempt(parse_v2, data)
    attempt(parse_v3, {"name": "struct", "configuration": data})
    for name, _ in V3:
        attempt(parse_v3(name).fill_from_json, data, 3)
        attempt(parse_v3(name).fill_from_json, data, 2)


# --- default fill values -------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "dtype"), V3, ids=describe)
def test_default_fill(data: Any, dtype: np.dtype[Any]) -> None:
    data_type = parse_v3(data)
    fill = data_type.default_fill
    if dtype.kind in "mM":
        assert np.isnat(fill)
        assert fill.dtype == dtype
    elif dtype.kind in "TO":
        assert fill == ("" if dtype.kind == "T" else b"")
    else:
        assert bits(fill).strip(b"\0") == b""
        assert fill.dtype.kind == dtype.kind
    for zarr_format in (2, 3):
        written = canonical(data_type.fill_to_json(fill, zarr_format))
        assert bits(data_type.fill_from_json(written, zarr_format)) == bits(fill)


def test_default_fill_of_a_struct_is_zero() -> None:
    data_type = parse_dtype([("t", "M8[ns]"), ("x", "f4")], 3)
    assert bits(data_type.default_fill) == bytes(12)
    assert data_type.fill_to_json(data_type.default_fill, 3) == {"t": 0, "x": 0.0}


# --- fill values from users ----------------------------------------------------------------------

PAIR = [("a", "i4"), ("b", "f4")]


class Timestamp:
    """Looks like a time of pandas."""

    def __init__(self, tzinfo: Any = None) -> None:
        self.tzinfo = tzinfo

    def __repr__(self) -> str:
        return f"Timestamp({self.tzinfo})"

    def to_numpy(self) -> np.datetime64:
        return np.datetime64("2020-01-01T00:00:00.000000001", "ns")


@pytest.mark.parametrize(
    ("spec", "value", "expected"),
    [
        ("?", 1, np.True_),
        ("?", 0.0, np.False_),
        ("?", np.bool_(True), np.True_),
        ("i4", 5.0, np.int32(5)),
        ("i4", True, np.int32(1)),
        ("i4", np.uint64(5), np.int32(5)),
        ("i4", np.float16(5), np.int32(5)),
        ("i4", np.array(5), np.int32(5)),
        (">i4", np.array(5, ">i2"), np.int32(5)),
        ("u8", 2**64 - 1, np.uint64(2**64 - 1)),
        ("f4", 1, np.float32(1)),
        ("f4", 0.1, np.float32(0.1)),
        ("f4", np.longdouble(1.5), np.float32(1.5)),
        ("f4", "NaN", np.float32(np.nan)),
        ("f4", "0x7fc00001", np.array(0x7FC00001, "u4").view("f4")[()]),
        ("f4", -np.inf, np.float32(-np.inf)),
        ("f8", 10**300, np.float64(1e300)),
        ("c8", 1, np.complex64(1)),
        ("c8", 1 + 2j, np.complex64(1 + 2j)),
        ("c16", np.complex64(1 + 2j), np.complex128(1 + 2j)),
        ("c8", np.float32(-0.0), np.complex64(complex(-0.0, 0.0))),
        (str, "x", "x"),
        (str, np.str_("x"), "x"),
        (str, np.array("x", STRING), "x"),
        (bytes, b"x\0", b"x\0"),
        (bytes, bytearray(b"x"), b"x"),
        (bytes, "x", b"x"),
        ("S3", b"ab", np.bytes_(b"ab")),
        ("S3", "abc", np.bytes_(b"abc")),
        ("S3", b"abc\0\0", np.bytes_(b"abc")),
        ("U3", "abc\0", np.str_("abc")),
        ("V3", b"ab", np.void(b"ab\0")),
        ("V3", np.void(b"abc"), np.void(b"abc")),
        pytest.param("V3", memoryview(b"abc"), np.void(b"abc"), id="V3-memoryview"),
        ("M8[ns]", "2020-01-01", np.datetime64("2020-01-01", "ns")),
        ("M8[ns]", 5, np.datetime64(5, "ns")),
        ("M8[ns]", "NaT", np.datetime64("NaT", "ns")),
        ("M8[ns]", np.datetime64("NaT", "s"), np.datetime64("NaT", "ns")),
        ("M8[ns]", Timestamp(), np.datetime64("2020-01-01T00:00:00.000000001", "ns")),
        ("M8[D]", dt.date(2020, 1, 1), np.datetime64("2020-01-01", "D")),
        ("M8[s]", dt.datetime(2020, 1, 1), np.datetime64("2020-01-01", "s")),  # noqa: DTZ001
        (">M8[s]", np.datetime64("2020"), np.datetime64("2020-01-01", "s")),
        ("M8[10s]", np.datetime64(20, "s"), np.datetime64(2, "10s")),
        ("m8[s]", dt.timedelta(minutes=1), np.timedelta64(60, "s")),
        ("m8[s]", np.timedelta64(2, "m"), np.timedelta64(120, "s")),
        (">m8[ms]", np.timedelta64("NaT", "s"), np.timedelta64("NaT", "ms")),
        (PAIR, (1, 2), np.array((1, 2), PAIR)[()]),
        (PAIR, [1, 2.5], np.array((1, 2.5), PAIR)[()]),
        (PAIR, {"b": 2.5, "a": 1}, np.array((1, 2.5), PAIR)[()]),
        (PAIR, 0, np.array((0, 0), PAIR)[()]),
        (PAIR, bytes(8), np.array((0, 0), PAIR)[()]),
        (PAIR, np.array((1, 2), PAIR), np.array((1, 2), PAIR)[()]),
        (PAIR, np.array((1, 2), [("c", ">i8"), ("d", "f8")])[()], np.array((1, 2), PAIR)[()]),
        ([("a", PAIR), ("b", "S2")], ((1, 2), b"x"), None),
        ([("a", "i4", (2, 2)), ("b", "S2")], (5, b"x"), None),
        ([("a", "i4", (2, 2)), ("b", "S2")], ([[1, 2], [3, 4]], b"x"), None),
        ([("a", "i4", (2,)), ("b", "S2")], ((1, 2), b"x"), None),
        ([("a", PAIR, (2,))], (np.array([(1, 2), (3, 4)], PAIR),), None),
        ([("a", "f4", (2,))], (np.array([1, np.nan], ">f4"),), None),
    ],
    ids=describe,
)
def test_cast_fill(spec: Any, value: Any, expected: Any) -> None:
    data_type = parse_dtype(spec, 2)
    if expected is None:
        expected = np.array(value, data_type.dtype)[()]
    scalar = data_type.cast_fill(value)
    assert type(scalar) is type(expected)
    assert bits(scalar) == bits(expected)
    assert getattr(scalar, "dtype", None) == getattr(expected, "dtype", None)


REFUSED_CASTS: list[tuple[tuple[Any, str], list[Any]]] = [
    (("?", "bool"), [2, 0.5, "x", b"", 1j]),
    (("u1", "uint8"), [300, -1, np.int64(300)]),
    (("i4", "int32"), [1.5, np.float32(1.5), np.nan, np.inf, "5", b"5", 1j, [1], np.array([1])]),
    (("i4", "int32"), [np.timedelta64(1, "s"), np.array(1.5)]),
    (("f4", "float32"), ["x", "1.5", 1e40, np.float64(1e40)]),
    (("f8", "float64"), [10**400, 1j, np.timedelta64(1, "s")]),
    (("c8", "complex64"), [1e40, complex(0, 1e40), "1+2j", (1, 2)]),
    ((str, "string"), [0, b"a", "\ud800"]),
    ((bytes, "bytes"), [0, "é"]),
    (("S3", r"null_terminated_bytes \(\|S3\)"), [b"abcd", 0]),
    (("U3", "fixed_length_utf32"), ["abcd", b"ab", 0]),
    (("V3", "raw_bytes"), [b"abcd", 3, 0]),
    (("M8[ns]", "numpy.datetime64"), ["x", 0.5, True, 2**63, np.datetime64("3000-01-01")]),
    (("M8[ns]", "numpy.datetime64"), [Timestamp(dt.UTC), dt.timedelta(1), np.timedelta64(1, "s")]),
    (("M8[s]", "numpy.datetime64"), [dt.datetime(2020, 1, 1, tzinfo=dt.UTC)]),
    (("M8[D]", "numpy.datetime64"), ["2020-01-01T12:00"]),
    (("M8", "numpy.datetime64"), [np.datetime64("2020")]),
    (("m8[s]", "numpy.timedelta64"), [dt.timedelta(seconds=0.5), np.datetime64(1, "s"), "5"]),
    (("m8[Y]", "numpy.timedelta64"), [np.timedelta64(5, "D")]),
    ((PAIR, "struct"), [1, (1,), {"a": 1}, {"a": 1, "b": 2, "c": 3}, b"1234567"]),
    ((PAIR, "int32"), [(1.5, 2), {"a": "x", "b": 2}]),
    (([("a", "i4", (2,))], "int32"), [([1, 2.5],)]),
    (([("a", "i4", (2,))], "subarray"), [([1, 2, 3],)]),
    *(((spec, "data type"), [None]) for spec in (*SIMPLE, str, bytes, "S3", "V3", "M8[s]", PAIR)),
    *(((spec, "of type Bad"), [Bad()]) for spec in (*SIMPLE, str, "S3", "m8[s]", PAIR)),
]


@pytest.mark.parametrize(("spec_and_name", "value"), pairs(REFUSED_CASTS), ids=describe)
def test_refused_cast_fill(spec_and_name: tuple[Any, str], value: Any) -> None:
    spec, name = spec_and_name
    with pytest.raises(DataTypeValidationError, match=rf"{name}.*allowed"):
        parse_dtype(spec, 2).cast_fill(value)


def test_times_without_a_unit() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer NumPys dislike them
        generic = np.array(5, "i8").view("M8")[()]
        unitless = np.array(5, "i8").view("m8")[()]
    data_type = parse_v3(named("numpy.datetime64", unit="generic", scale_factor=1))
    assert data_type.fill_to_json(5, 3) == 5
    assert data_type.cast_fill(generic).view("i8") == 5
    assert parse_dtype("m8[s]", 3).cast_fill(unitless) == np.timedelta64(5, "s")
    with pytest.raises(DataTypeValidationError):
        parse_dtype("i4", 3).cast_fill(generic)  # which has no repr


def test_fill_to_json_checks() -> None:
    with pytest.raises(DataTypeValidationError, match="300"):
        parse_v3("uint8").fill_to_json(300, 3)
    assert parse_v3("float32").fill_to_json(np.float64(0.5), 3) == 0.5


@pytest.mark.parametrize(
    ("dtype", "one", "ulp"), [("f2", 1024, 2**-10), ("f4", 2**23, 2**-23), ("f8", 2**52, 2**-52)]
)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_numbers_in_json_are_rounded_and_ties_go_to_even(
    dtype: str, one: int, ulp: float, zarr_format: int
) -> None:
    data_type = DataType(np.dtype(dtype))

    def read(number: float | str) -> Any:
        return data_type.fill_from_json(json.loads(str(number)), zarr_format)

    # Halfway between two neighbours whose last bits are 0 and 1, then 1 and 0.
    assert read(2 * one + 1) == 2 * one
    assert read(2 * one + 3) == 2 * one + 4
    if dtype != "f8":
        assert read(1 + ulp / 2) == 1
        assert read(1 + 3 * ulp / 2) == 1 + 2 * ulp
        assert read(-1 - 3 * ulp / 2) == -1 - 2 * ulp
        assert read(math.nextafter(1 + ulp / 2, 2)) == 1 + ulp
    largest = np.finfo(dtype).max
    assert read(repr(float(largest))) == largest
    parts = DataType(np.dtype(f"c{2 * data_type.dtype.itemsize}")) if dtype != "f2" else None
    if parts is not None:
        assert parts.fill_from_json([2 * one + 1, 2 * one + 3], 3) == 2 * one + (2 * one + 4) * 1j
