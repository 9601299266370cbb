"""Data types, codecs and type names where programs for zarr-python look for them."""

import pickle
from typing import Any

import numpy as np
import pytest

import zarr_core as zarr
import zarr_core.dtype as zdt
import zarr_core.registry
import zarr_core.types
from zarr_core.codecs import BytesBytesCodec, ZstdCodec, codec_from_dict
from zarr_core.errors import DataTypeValidationError, UnknownCodecError

pytestmark = pytest.mark.filterwarnings("ignore:The data type:FutureWarning")

# Constructor, parameters, the NumPy dtype, and the name in format 3.
CASES: list[tuple[Any, dict[str, Any], Any, str]] = [
    (zdt.Bool, {}, "?", "bool"),
    (zdt.Int8, {}, "i1", "int8"),
    (zdt.Int16, {}, "<i2", "int16"),
    (zdt.Int32, {"endianness": "big"}, ">i4", "int32"),
    (zdt.Int64, {"endianness": "little"}, "<i8", "int64"),
    (zdt.UInt8, {}, "u1", "uint8"),
    (zdt.UInt16, {}, "<u2", "uint16"),
    (zdt.UInt32, {}, "<u4", "uint32"),
    (zdt.UInt64, {}, "<u8", "uint64"),
    (zdt.Float16, {}, "<f2", "float16"),
    (zdt.Float32, {}, "<f4", "float32"),
    (zdt.Float64, {"endianness": "big"}, ">f8", "float64"),
    (zdt.Complex64, {}, "<c8", "complex64"),
    (zdt.Complex128, {}, "<c16", "complex128"),
    (zdt.FixedLengthUTF32, {"length": 5}, "<U5", "fixed_length_utf32"),
    (zdt.NullTerminatedBytes, {"length": 5}, "S5", "null_terminated_bytes"),
    (zdt.RawBytes, {"length": 5}, "V5", "raw_bytes"),
    (zdt.DateTime64, {"unit": "ns"}, "<M8[ns]", "numpy.datetime64"),
    (zdt.DateTime64, {}, "<M8", "numpy.datetime64"),
    (zdt.TimeDelta64, {"unit": "s", "scale_factor": 10}, "<m8[10s]", "numpy.timedelta64"),
    (zdt.VariableLengthUTF8, {}, np.dtypes.StringDType(), "string"),
    (
        zdt.Struct,
        {"fields": (("a", zdt.Int8()), ("b", zdt.Float64()))},
        [("a", "i1"), ("b", "<f8")],
        "struct",
    ),
]


def native(dtype: Any) -> Any:
    found = np.dtype(dtype)
    return found if found.kind == "T" else found.newbyteorder("=")


@pytest.mark.parametrize(("make", "parameters", "dtype", "name"), CASES)
def test_data_types(make: Any, parameters: dict[str, Any], dtype: Any, name: str) -> None:
    made = make(**parameters)
    assert isinstance(made, zdt.DataType)
    assert isinstance(made, zdt.ZDType)
    assert isinstance(made, make)
    assert made.dtype == np.dtype(dtype)
    assert made.name == name
    assert [kind for kind in {case[0] for case in CASES} if isinstance(made, kind)] == [make]
    assert zdt.data_type_registry[name] is make
    assert zdt.data_type_registry.match_dtype(dtype) == made
    assert make.from_native_dtype(dtype) == made
    assert zdt.parse_dtype(made, zarr_format=2).dtype == made.dtype
    matched = zdt.data_type_registry.match_json(made.to_v3(), zarr_format=3)
    assert matched.dtype == native(dtype)
    assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(("make", "parameters", "dtype", "name"), CASES)
def test_data_types_are_accepted(
    make: Any, parameters: dict[str, Any], dtype: Any, name: str, zarr_format: Any
) -> None:
    array = zarr.create_array({}, shape=3, dtype=make(**parameters), zarr_format=zarr_format)
    expected = np.dtype(dtype)
    assert array.dtype == (expected if zarr_format == 2 else native(dtype))
    reopened = zarr.open_array(array.store, mode="r")
    assert reopened.dtype == array.dtype
    assert isinstance(reopened.metadata.data_type, make)


def test_variable_length_bytes() -> None:
    made = zdt.VariableLengthBytes()
    assert isinstance(made, zdt.VariableLengthBytes)
    assert not isinstance(made, zdt.RawBytes)
    array = zarr.create_array({}, shape=2, dtype=made)
    array[:1] = [b"abc"]
    assert array[0] == b"abc"
    found = zdt.data_type_registry.match_json(
        {"name": "|O", "object_codec_id": "vlen-bytes"}, zarr_format=2
    )
    assert found == made


def test_wrong_parameters() -> None:
    for call in (
        lambda: zdt.Int8(endianness="big"),
        lambda: zdt.Int32("big"),
        lambda: zdt.RawBytes(4),
    ):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(ValueError, match="endianness"):
        zdt.Int32(endianness="middle")
    with pytest.raises(DataTypeValidationError, match="Int32"):
        zdt.Int32.from_native_dtype("f8")
    with pytest.raises(DataTypeValidationError):
        zdt.parse_dtype("float33", zarr_format=3)
    assert not isinstance(5, zdt.Int32)


def test_the_registry_of_data_types_is_a_mapping() -> None:
    assert len(zdt.data_type_registry) == 22
    assert zdt.data_type_registry.get("float33") is None
    assert set(zdt.data_type_registry) == set(zdt.data_type_registry.contents)


def test_every_name_exists() -> None:
    for module in (
        zdt,
        zarr_core.registry,
        zarr_core.types,
        zarr.storage,
        zarr.codecs,
        zarr.errors,
    ):
        for name in module.__all__:
            if name not in (
                "FsspecStore",
                "ObjectStore",
                "RetryStore",
                "ToZarrStore",
                "from_zarr_store",
            ):
                assert hasattr(module, name), f"{module.__name__}.{name}"


def test_register_codec() -> None:
    class Same(BytesBytesCodec):
        name = "test.same"

        @classmethod
        def from_configuration(cls, configuration: Any) -> "Same":
            return cls()

    with pytest.raises(UnknownCodecError):
        zarr_core.registry.get_codec_class("test.same")
    zarr_core.registry.register_codec("test.same", Same, qualname="ignored")
    assert zarr_core.registry.get_codec_class("test.same", reload_config=True) is Same
    assert zarr_core.registry.get_codec_class("zstd") is ZstdCodec
    assert zarr_core.registry.codec_from_dict is codec_from_dict


def test_a_subclass_makes_and_recognises_what_its_base_does() -> None:
    class Text(zdt.VariableLengthUTF8):  # type: ignore[misc, valid-type]
        extra = "x"

    assert Text() == zdt.VariableLengthUTF8()
    assert isinstance(zdt.VariableLengthUTF8(), Text)
    assert not isinstance(zdt.Int8(), Text)
    assert Text.extra == "x"


def test_data_types_have_the_methods_of_zarr_pythons() -> None:
    kind = zdt.DateTime64(unit="s", scale_factor=2)
    assert (kind.unit, kind.scale_factor, kind.item_size) == ("s", 2, 8)
    assert kind.dtype_cls is type(kind.to_native_dtype())
    assert kind.to_native_dtype() == np.dtype("M8[2s]")
    assert zdt.Int16(endianness="big").endianness == "big"
    assert zdt.FixedLengthUTF32(length=3).length == 3
    assert zdt.FixedLengthUTF32().length == zdt.RawBytes().length == 1
    assert zdt.Int32().default_scalar() == 0
    assert zdt.Int32().cast_scalar(5) == np.int32(5)
    with pytest.raises(DataTypeValidationError):
        zdt.Int8().cast_scalar(1000)
    for made in (kind, zdt.Int32(), zdt.VariableLengthUTF8(), zdt.RawBytes(length=4)):
        for zarr_format in (2, 3):
            document = made.to_json(zarr_format)
            found = zdt.data_type_registry.match_json(document, zarr_format=zarr_format)
            assert found == made
            scalar = made.default_scalar()
            again = made.to_json_scalar(scalar, zarr_format=zarr_format)
            found = made.from_json_scalar(again, zarr_format=zarr_format)
            assert repr(found) == repr(scalar)  # NaT is not equal to itself
    assert zdt.ZDType[int, str] is zdt.ZDType
