"""Data types under the names that zarr-python gives them: `Int32()`, `VariableLengthUTF8()`, ...

Calling one of these classes returns a `DataType`, which every parameter `dtype` accepts;
`isinstance(data_type, Int32)` tells what a data type is.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias, final

import numpy as np

from zarr_core.errors import DataTypeValidationError, describe
from zarr_core.metadata import data_types
from zarr_core.metadata.data_types import DataType
from zarr_core.metadata.documents import ZarrFormat
from zarr_core.metadata.small_types import kind_of
from zarr_core.metadata.zdtype import ZDType

__all__ = [
    "Bool",
    "Complex64",
    "Complex128",
    "DataType",
    "DataTypeValidationError",
    "DateTime64",
    "FixedLengthUTF32",
    "Float16",
    "Float32",
    "Float64",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "NullTerminatedBytes",
    "RawBytes",
    "Struct",
    "Structured",
    "TimeDelta64",
    "UInt8",
    "UInt16",
    "UInt32",
    "UInt64",
    "VariableLengthBytes",
    "VariableLengthUTF8",
    "ZDType",
    "data_type_registry",
    "parse_data_type",
    "parse_dtype",
]

Endianness: TypeAlias = Literal["little", "big"]


class _Name(type):
    """The type of the classes below: they have no instances, but make and recognise data types."""

    make: Callable[..., Any]
    """Returns the NumPy dtype for the class's parameters."""
    matches: Callable[[np.dtype[Any]], bool]

    def __new__(cls, name: str, make: Any, matches: Any) -> "_Name":
        if isinstance(make, tuple):  # a subclass makes and recognises what its base does
            return super().__new__(cls, name, make, matches)
        made = super().__new__(
            cls, name, (), {"__module__": "zarr_core.dtype", "__doc__": make.__doc__}
        )
        made.make, made.matches = make, matches
        return made

    def __init__(cls, name: str, *_: Any) -> None:
        super().__init__(name, (), {})

    def __call__(cls, **parameters: Any) -> DataType:
        return DataType(np.dtype(cls.make(**parameters)))

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, DataType) and cls.matches(value.dtype)

    def from_native_dtype(cls, dtype: Any) -> DataType:
        """Return the data type of a NumPy dtype; raise `DataTypeValidationError` for others."""
        found = DataType(np.dtype(dtype))
        if not cls.__instancecheck__(found):
            raise DataTypeValidationError(f"{describe(dtype)} is not a {cls.__name__}")
        return found


def _number(name: str, code: str) -> _Name:
    plain = np.dtype(code)

    def without_order() -> np.dtype[Any]:
        return plain

    def with_order(*, endianness: Endianness = "little") -> np.dtype[Any]:
        return _ordered(code, endianness)

    make = without_order if plain.itemsize == 1 else with_order
    make.__doc__ = f"NumPy's {plain.name}."
    return _Name(name, make, lambda dtype: dtype.type is plain.type)


def _ordered(code: str, endianness: Endianness) -> np.dtype[Any]:
    if endianness not in ("little", "big"):
        raise ValueError(f"endianness must be 'little' or 'big', not {endianness!r}")
    return np.dtype(code).newbyteorder("<" if endianness == "little" else ">")


def _of_kind(kind: str) -> Callable[[np.dtype[Any]], bool]:
    return lambda dtype: kind_of(dtype) == kind and dtype.names is None


def _text(*, length: int = 1, endianness: Endianness = "little") -> np.dtype[Any]:
    """Text of up to `length` code points."""
    return _ordered(f"U{length}", endianness)


def _null_terminated(*, length: int = 1) -> str:
    """Bytes of up to `length`, without trailing zeros."""
    return f"S{length}"


def _raw(*, length: int = 1) -> str:
    """Bytes of exactly `length`."""
    return f"V{length}"


def _time(code: str) -> Callable[..., np.dtype[Any]]:
    def make(
        *, endianness: Endianness = "little", scale_factor: int = 1, unit: str = "generic"
    ) -> np.dtype[Any]:
        """Times as numbers of `scale_factor` units."""
        suffix = "" if unit == "generic" else f"[{scale_factor}{unit}]"
        return _ordered(f"{code}{suffix}", endianness)

    return make


def _struct(*, fields: Any) -> np.dtype[Any]:
    """Several named fields: pairs of name and data type."""
    return np.dtype([(name, data_types.parse_dtype(field, 2).dtype) for name, field in fields])


def _strings() -> np.dtype[Any]:
    """Text of any length."""
    return np.dtypes.StringDType()


def _bytes() -> np.dtype[Any]:
    """Bytes of any length."""
    return np.dtype(object)


Bool: Final = _number("Bool", "?")
Int8: Final = _number("Int8", "i1")
Int16: Final = _number("Int16", "i2")
Int32: Final = _number("Int32", "i4")
Int64: Final = _number("Int64", "i8")
UInt8: Final = _number("UInt8", "u1")
UInt16: Final = _number("UInt16", "u2")
UInt32: Final = _number("UInt32", "u4")
UInt64: Final = _number("UInt64", "u8")
Float16: Final = _number("Float16", "f2")
Float32: Final = _number("Float32", "f4")
Float64: Final = _number("Float64", "f8")
Complex64: Final = _number("Complex64", "c8")
Complex128: Final = _number("Complex128", "c16")
_INTEGERS = (Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64)
_FLOATS = (Float16, Float32, Float64, Complex64, Complex128)
FixedLengthUTF32: Final = _Name("FixedLengthUTF32", _text, _of_kind("U"))
NullTerminatedBytes: Final = _Name("NullTerminatedBytes", _null_terminated, _of_kind("S"))
RawBytes: Final = _Name("RawBytes", _raw, _of_kind("V"))
DateTime64: Final = _Name("DateTime64", _time("M8"), _of_kind("M"))
TimeDelta64: Final = _Name("TimeDelta64", _time("m8"), _of_kind("m"))
Struct: Final = _Name("Struct", _struct, lambda dtype: dtype.names is not None)
Structured = Struct
VariableLengthUTF8: Final = _Name("VariableLengthUTF8", _strings, _of_kind("T"))
VariableLengthBytes: Final = _Name("VariableLengthBytes", _bytes, _of_kind("O"))


def parse_dtype(dtype_spec: Any, *, zarr_format: ZarrFormat) -> DataType:
    """Return the data type that a NumPy dtype, a name or a document means.

    Raises `DataTypeValidationError`.
    """
    return data_types.parse_dtype(dtype_spec, zarr_format)


parse_data_type = parse_dtype


def get_data_type_from_native_dtype(dtype: Any) -> DataType:
    """Return the data type of a NumPy dtype; raise `DataTypeValidationError`."""
    return parse_dtype(np.dtype(dtype), zarr_format=3)


def get_data_type_from_json(dtype_spec: Any, *, zarr_format: ZarrFormat) -> DataType:
    """Return the data type of a document; raise `DataTypeValidationError`."""
    return data_type_registry.match_json(dtype_spec, zarr_format=zarr_format)


@final
class DataTypeRegistry(Mapping[str, _Name]):
    """The data types by their names in format 3."""

    contents: Mapping[str, _Name] = {
        **{kind.__name__.lower(): kind for kind in (Bool, *_INTEGERS, *_FLOATS)},
        "fixed_length_utf32": FixedLengthUTF32,
        "string": VariableLengthUTF8,
        "raw_bytes": RawBytes,
        "null_terminated_bytes": NullTerminatedBytes,
        "variable_length_bytes": VariableLengthBytes,
        "struct": Struct,
        "numpy.datetime64": DateTime64,
        "numpy.timedelta64": TimeDelta64,
    }

    def __getitem__(self, name: str) -> _Name:
        return self.contents[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.contents)

    def __len__(self) -> int:
        return len(self.contents)

    def match_dtype(self, dtype: Any) -> DataType:
        """Return the data type of a NumPy dtype; raise `DataTypeValidationError`."""
        return DataType(np.dtype(dtype))

    def match_json(self, data: Any, *, zarr_format: ZarrFormat) -> DataType:
        """Return the data type of a document; raise `DataTypeValidationError`."""
        if zarr_format == 3:
            return data_types.parse_v3(data)
        if isinstance(data, Mapping):
            return data_types.parse_v2(data.get("name"), data.get("object_codec_id"))
        return data_types.parse_v2(data)


data_type_registry: Final = DataTypeRegistry()
