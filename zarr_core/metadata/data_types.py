"""Zarr data types: their names in documents, their NumPy dtypes, and fill values as JSON.

A `DataType` is a NumPy dtype that a document can express; everything else about it follows from
that dtype, so two data types are equal when their dtypes are. Format 3 keeps byte order out of the
data type (the codec has it): dtypes parsed for it are native. Format 2 keeps the stored one.

Every refusal is a `DataTypeValidationError` that says what was found and what is allowed.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/data-types/index.html and
https://github.com/zarr-developers/zarr-extensions/tree/main/data-types (format 3),
https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html#data-type-encoding (format 2).
"""

import binascii
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias, final

import numpy as np
import numpy.typing as npt

from zarr_core.errors import DataTypeValidationError, describe
from zarr_core.metadata.numbers import (
    REAL,
    SPECIAL_FLOATS,
    WITHOUT_ZERO,
    complex_of,
    fitting_complex,
    fitting_float,
    fitting_int,
    float_to_json,
)
from zarr_core.metadata.small_types import (
    DTYPE_NAMES,
    SMALL_TYPES,
    Dtype,
    clear_unused,
    has_byte_order,
    in_numpy,
    integer_limits,
    kind_of,
    part_of,
    small_dtype,
    small_type,
)
from zarr_core.metadata.times import NAT, fitting_time, time_of
from zarr_core.metadata.zdtype import ZDType

Field: TypeAlias = tuple[Any, Dtype, tuple[Any, ...]]
"""Name of a struct's field, dtype of its elements, subarray shape (as a rule `()`)."""

MAX_DEPTH = 32
"""Structs nested deeper than this are refused."""

MAX_ITEM_BYTES = 1 << 26
"""NumPy's own limit of an element's size."""

OBJECT_CODECS = ("json2", "msgpack2", "vlen-array", "categorize", "pickle")
"""Filters of format 2 that make bytes of any objects; text and bytes have types of their own."""

_INTEGERS = (f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))
_NUMBERS = ("bool", *_INTEGERS, "float16", "float32", "float64", "complex64", "complex128")

_NAMES: Mapping[type, str] = {
    **{np.dtype(name).type: name for name in _NUMBERS},
    np.str_: "fixed_length_utf32",
    np.bytes_: "null_terminated_bytes",
    np.void: "raw_bytes",
    np.datetime64: "numpy.datetime64",
    np.timedelta64: "numpy.timedelta64",
    np.object_: "bytes",  # the registered name; zarr-python writes variable_length_bytes
    str: "string",  # the scalar type of StringDType
}
"""NumPy scalar type -> v3 name; structs are apart."""


@final
@dataclass(frozen=True, slots=True)
class DataType(ZDType):
    """The type of an array's elements: hashable, equal by value, picklable.

    `DataType(dtype)` keeps the byte order of `dtype`, drops what no document can express (metadata,
    padding between fields) and raises `DataTypeValidationError` for dtypes that have no Zarr data
    type. `np.dtype(object)` stands for variable-length bytes, and with an `object_codec` for any
    Python objects.
    """

    dtype: Dtype
    """NumPy dtype of arrays in memory."""
    object_codec: str | None = None
    """The `id` of the filter of format 2 that makes bytes of any objects."""
    name: str = field(init=False, compare=False, repr=False)
    """Name in format 3, for instance `int32` or `struct`."""
    item_bytes: int | None = field(init=False, compare=False, repr=False)
    """Encoded size of one element, None when it varies."""
    needs_endian: bool = field(init=False, compare=False, repr=False)
    """Whether encoded elements have a byte order, so that the `bytes` codec must name it."""

    def __post_init__(self) -> None:
        dtype = _packed(self.dtype)
        fixed = dtype.kind not in "TO"
        object.__setattr__(self, "dtype", dtype)
        name = _name(dtype) if self.object_codec is None else "object"
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "item_bytes", dtype.itemsize if fixed else None)
        object.__setattr__(self, "needs_endian", fixed and has_byte_order(dtype))

    @property
    def is_variable(self) -> bool:
        """Whether elements have no fixed size (strings and bytes)."""
        return self.item_bytes is None

    def to_v3(self) -> str | dict[str, Any]:
        """Return the `data_type` of a format 3 document."""
        configuration: dict[str, Any]
        if self.object_codec is not None:
            raise _invalid("dtype of any objects", self.object_codec, "format 2, or bytes or str")
        if self.dtype.kind in "mM":
            unit, scale = np.datetime_data(self.dtype)
            configuration = {"unit": unit, "scale_factor": scale}
        elif self.dtype.names is not None:
            configuration = {"fields": [_field_to_v3(*entry) for entry in _fields(self.dtype)]}
        elif kind_of(self.dtype) in "SUV":
            configuration = {"length_bytes": self.dtype.itemsize}
        else:
            return self.name
        return {"name": self.name, "configuration": configuration}

    def to_v2(self) -> str | list[Any]:
        """Return the `dtype` of a format 2 document; `|O` needs its object codec in `filters`."""
        if self.is_variable:
            return "|O"
        if self.dtype.names is None:
            return self.dtype.str if small_type(self.dtype) is None else self.dtype.type.__name__
        fields = _fields(self.dtype)
        return [[n, DataType(b).to_v2(), *([list(s)] if s else [])] for n, b, s in fields]

    @property
    def default_fill(self) -> Any:
        """The fill value of arrays that name none: zero, empty or False; NaT for times, or None."""
        if self.object_codec is not None:
            return None
        if self.dtype.kind in "TO":
            return "" if self.dtype.kind == "T" else b""
        if self.dtype.kind in "mM":
            return time_of(self.dtype, NAT)
        return np.zeros((), self.dtype)[()]

    def fill_from_json(self, value: Any, zarr_format: int) -> Any:
        """Return a document's `fill_value` as a scalar of `dtype`, bit for bit.

        The scalar is a NumPy scalar, a `str` for strings, `bytes` for variable-length bytes. It is
        None for format 2's null, which says that the fill value is undefined.
        """
        if (value is None and zarr_format == 2) or self.object_codec is not None:
            return value
        if not isinstance(value, str) or self.dtype.names is None:
            return _from_json(self.dtype, value, zarr_format)
        # Format 3's legacy form of a struct, or format 2's: all bytes.
        stored = self.dtype if zarr_format == 2 else self.dtype.newbyteorder("<")
        return _require(self.dtype, value, _record(self.dtype, _bytes_from_json(value), stored))

    def fill_to_json(self, value: Any, zarr_format: int) -> Any:
        """Return a fill value as it stands in a document; the inverse of `fill_from_json`.

        Format 2 has no way to express a NaN's sign and payload: it gets `"NaN"`.
        """
        if value is None and zarr_format == 2:
            return None
        if self.object_codec is not None:
            return value
        return _to_json(self.dtype, self.cast_fill(value), zarr_format)

    def cast_fill(self, value: Any) -> Any:
        """Return a fill value that a user gave as a scalar; see `fill_from_json` for its type.

        Values are never clipped, truncated or wrapped: what does not fit raises. Floats are rounded
        to the nearest value of the data type.
        """
        return value if self.object_codec is not None else _cast(self.dtype, value)


DataTypeLike: TypeAlias = DataType | npt.DTypeLike | Mapping[str, Any]
"""What users may give as a data type; objects with `to_native_dtype()` are accepted, too."""


# --- dtypes --------------------------------------------------------------------------------------


def _invalid(what: str, found: object, allowed: str) -> DataTypeValidationError:
    return DataTypeValidationError(f"{what} {describe(found)} is not valid; allowed: {allowed}")


def _packed(dtype: Dtype, depth: int = 1) -> Dtype:
    """Return the supported dtype that stands for `dtype`: no metadata, no padding, no subclass."""
    if dtype.names is not None:
        _check_depth(depth)
        return _struct([(name, _packed(base, depth + 1), s) for name, base, s in _fields(dtype)])
    if isinstance(dtype, np.dtypes.StringDType) and not hasattr(dtype, "na_object"):
        return np.dtypes.StringDType()
    if dtype.itemsize > MAX_ITEM_BYTES:
        raise _invalid("size of an element", dtype.itemsize, f"up to {MAX_ITEM_BYTES} bytes")
    # Types of other packages pose as kinds of NumPy's.
    if dtype.type.__module__ == "numpy" and dtype.subdtype is None and dtype.itemsize:
        plain = np.dtype(dtype.str)
        if plain.type in _NAMES and (plain.kind not in "mM" or np.datetime_data(plain)[1] > 0):
            return plain
    if small_type(dtype) is not None:
        return np.dtype(dtype.type)  # no document has another byte order
    raise _invalid("NumPy dtype", dtype, _DTYPES)


def _fields(dtype: Dtype) -> list[Field]:
    fields: Any = dtype.fields or {}
    if any(len(entry) > 2 for entry in fields.values()):
        raise _invalid("dtype", dtype, "fields without titles")
    return [(name, fields[name][0].base, fields[name][0].shape) for name in dtype.names or ()]


def _struct(fields: list[Field]) -> Dtype:
    """Return the packed structured dtype, after all checks."""
    if not fields:
        raise _invalid("struct", fields, "at least one field")
    names = set()
    for name, base, shape in fields:
        if not _is_text(name) or not name or name in names:
            raise _invalid("field name", name, "text, not empty, each name once")
        if base.kind in "TO":
            raise _invalid("variable-length data type of field", name, "types of fixed size")
        if any(type(n) is not int or n < 1 for n in shape) or len(shape) > MAX_DEPTH:
            raise _invalid("subarray shape", shape, f"up to {MAX_DEPTH} integers of at least 1")
        names.add(name)
    size = sum(base.itemsize * math.prod(shape) for _, base, shape in fields)
    if size > MAX_ITEM_BYTES:
        raise _invalid("size of a struct", size, f"up to {MAX_ITEM_BYTES} bytes")
    return np.dtype(fields)


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise DataTypeValidationError(f"structs are nested too deeply; allowed: {MAX_DEPTH} levels")


def _field_to_v3(name: str, base: Dtype, shape: tuple[int, ...]) -> dict[str, Any]:
    if shape:
        raise _invalid("subarray field", name, "format 2, or one field for each element")
    return {"name": name, "data_type": DataType(base).to_v3()}


def _name(dtype: Dtype) -> str:
    if dtype.names is not None:
        return "struct"
    name = _NAMES.get(dtype.type)
    return SMALL_TYPES[dtype.type.__name__].name if name is None else name


# --- data types in documents and as users write them ---------------------------------------------


def parse_v3(data: Any) -> DataType:
    """Return the data type for a format 3 document's `data_type`, in native byte order."""
    if isinstance(data, str):
        if data in _PLAIN:
            return _PLAIN[data]
        if data in DTYPE_NAMES:
            return _small(data)
    return DataType(_v3_dtype(data, 1))


@cache
def _small(name: str) -> DataType:
    return DataType(small_dtype(DTYPE_NAMES[name]))


def _v3_dtype(data: Any, depth: int) -> Dtype:
    name, configuration = _name_and_configuration(data)
    raw = _RAW_BITS.fullmatch(name)
    if raw is not None and not configuration:
        size = int(raw[1]) / 8
        name, configuration = "raw_bytes", {"length_bytes": int(size) if size % 1 == 0 else size}
    if name not in _NAMED:
        raise _invalid("data type", name, ", ".join((*_PLAIN, "r<N>", *_CONFIGURED, "bfloat16 …")))
    keys = _CONFIGURED.get(name, frozenset())
    if configuration.keys() != keys:
        allowed = f"an object with {', '.join(sorted(keys))}" if keys else "none"
        raise _invalid(f"configuration of data type {name}", configuration, allowed)
    if not keys:
        return parse_v3(name).dtype
    if "struct" in name:  # or structured, a legacy name that is read and never written
        return _v3_struct(name, configuration["fields"], depth)
    return _v3_time(name, **configuration) if "time" in name else _v3_fixed(name, **configuration)


def _name_and_configuration(data: Any) -> tuple[str, Mapping[str, Any]]:
    entry: Any = {"name": data} if isinstance(data, str) else data
    if (
        not isinstance(entry, Mapping)
        or not isinstance(entry.get("name"), str)
        or not isinstance(entry.get("configuration", {}), Mapping)
        or entry.get("must_understand", True) is not True
        or not entry.keys() <= {"name", "configuration", "must_understand"}
    ):
        raise _invalid("data type", data, "a name, or an object with name and configuration")
    return entry["name"], entry.get("configuration", {})


def _v3_fixed(name: str, length_bytes: Any) -> Dtype:
    code = {"fixed_length_utf32": "U", "null_terminated_bytes": "S"}.get(name, "V")
    unit = 4 if code == "U" else 1
    is_possible = type(length_bytes) is int and 1 <= length_bytes <= MAX_ITEM_BYTES
    if not is_possible or length_bytes % unit:
        allowed = f"whole bytes, 1 to {MAX_ITEM_BYTES}, multiples of {unit}"
        raise _invalid(f"length of {name} in bytes", length_bytes, allowed)
    return np.dtype(f"{code}{length_bytes // unit}")


def _v3_time(name: str, unit: Any, scale_factor: Any) -> Dtype:
    if not isinstance(unit, str) or unit not in _UNITS:
        raise _invalid(f"unit of {name}", unit, ", ".join(_UNITS))
    if type(scale_factor) is not int or not 1 <= scale_factor < 2**31:
        raise _invalid(f"scale_factor of {name}", scale_factor, "integers from 1 to 2**31 - 1")
    code = "M8" if name == "numpy.datetime64" else "m8"
    # Multiples of no unit mean nothing, and NumPy has none.
    suffix = "" if unit == "generic" else f"[{scale_factor}{unit.replace('μ', 'u')}]"
    return np.dtype(code + suffix)


def _v3_struct(name: str, entries: Any, depth: int) -> Dtype:
    _check_depth(depth)
    if not isinstance(entries, list | tuple):
        raise _invalid(f"fields of {name}", entries, "a list")
    fields: list[Field] = []
    for entry in entries:
        match entry:
            # The second form belongs to the legacy name.
            case {"name": key, "data_type": item} | [key, item] if len(entry) == 2:
                fields.append((key, _v3_dtype(item, depth + 1), ()))
            case _:
                raise _invalid(f"field of {name}", entry, "an object with name and data_type")
    return _struct(fields)


def parse_v2(data: Any, object_codec: str | None = None) -> DataType:
    """Return the data type for a format 2 document's `dtype`, byte order as stored.

    `object_codec` is the id of the filter that encodes objects, if `filters` has one.
    """
    if not isinstance(data, str) or data.lstrip("|<>=") not in ("O", "O8", "O4"):
        return DataType(_v2_dtype(data, 1))
    if object_codec in OBJECT_CODECS:
        return DataType(np.dtype(object), object_codec)
    name = {"vlen-utf8": "string", "vlen-bytes": "bytes"}.get(str(object_codec))
    if name is None:
        allowed = ", ".join(("vlen-utf8", "vlen-bytes", *OBJECT_CODECS))
        raise _invalid(f"object codec of dtype {data!r}", object_codec, allowed)
    return _PLAIN[name]


def _v2_dtype(data: Any, depth: int) -> Dtype:
    if isinstance(data, str):
        if data in SMALL_TYPES:
            return small_dtype(data)
        if _TYPESTR.fullmatch(data) is None:
            raise _invalid("dtype", data, "<f8 and the like, or a list of fields")
        return _packed(_numpy_dtype(data))
    if not isinstance(data, list | tuple):
        raise _invalid("dtype", data, "a string, or a list of fields")
    _check_depth(depth)
    fields: list[Field] = []
    for index, entry in enumerate(data):
        if not isinstance(entry, list | tuple) or len(entry) not in (2, 3):
            raise _invalid("field", entry, "a list of name, dtype and, for a subarray, shape")
        # zarr 2 stores padding as a field of raw bytes without a name; NumPy reads it as this one.
        is_padding = entry[0] == "" and str(entry[1]).startswith("|V")
        name = f"f{index}" if is_padding else entry[0]
        shape = entry[2] if len(entry) == 3 else ()
        shape = tuple(shape) if isinstance(shape, list | tuple) else (shape,)
        fields.append((name, _v2_dtype(entry[1], depth + 1), shape))
    return _struct(fields)


def parse_dtype(spec: Any, zarr_format: int) -> DataType:
    """Return the data type for anything that a user gives; see `DataTypeLike`.

    `str` and `bytes` are the variable-length types. Names and objects of both formats' documents
    are accepted for either format, as are NumPy's dtypes and whatever NumPy makes a dtype of. For
    format 3 the result is in native byte order.
    """
    data_type = _parse_any(spec)
    if zarr_format == 2:
        return data_type
    data_type.to_v3()  # raises for what only format 2 can express
    return data_type if data_type.dtype.isnative else DataType(data_type.dtype.newbyteorder("="))


def _parse_any(spec: Any) -> DataType:
    if isinstance(spec, DataType):
        return spec
    name = _ALIASES.get(spec, spec) if isinstance(spec, str | type) else None
    if isinstance(name, str) and (name in _NAMED or _RAW_BITS.fullmatch(name)):
        return parse_v3(name)
    if isinstance(name, str) and name in SMALL_TYPES:
        return DataType(small_dtype(name))
    if isinstance(spec, Mapping) and "formats" not in spec:  # NumPy's dtypes have formats
        is_v2 = "object_codec_id" in spec
        return parse_v2(spec.get("name"), spec["object_codec_id"]) if is_v2 else parse_v3(spec)
    if isinstance(spec, list) and all(isinstance(entry, list) for entry in spec):
        return parse_v2(spec)
    dtype = _numpy_dtype(spec)
    if dtype.kind == "O" and getattr(spec, "object_codec_id", None) != "vlen-bytes":
        raise _invalid("dtype of any objects", spec, "str for text, bytes, types of fixed size")
    return DataType(dtype)


def _numpy_dtype(spec: Any) -> Dtype:
    allowed = "a NumPy dtype, the name of a Zarr data type, str or bytes"
    if spec is None:  # which NumPy takes for float64
        raise _invalid("dtype", spec, allowed)
    try:
        if hasattr(spec, "to_native_dtype"):  # a data type object of zarr-python
            spec = spec.to_native_dtype()
        found: Dtype = np.dtype("T" if spec is np.dtypes.StringDType else spec)
    except Exception as error:  # NumPy's parser raises whatever it likes
        raise _invalid("dtype", spec, allowed) from error
    return found


# --- fill values ---------------------------------------------------------------------------------


def _require(dtype: Dtype, value: Any, result: Any) -> Any:
    """Return `result`, or raise that `value` is not valid where there is none."""
    if result is not None:
        return result
    kind = kind_of(dtype)
    allowed = _ALLOWED["struct" if dtype.names is not None else kind]
    if kind in "iu":
        allowed += " from {} to {}".format(*integer_limits(dtype))
    name = f"{_name(dtype)} ({dtype.str})" if kind in "SUVmM" else _name(dtype)
    raise DataTypeValidationError(
        f"fill value {describe(value)} is not valid for data type {name}; allowed: {allowed}"
    )


def _cast(dtype: Dtype, value: Any) -> Any:
    """Return a user's value as a scalar of `dtype`; raise when it does not fit."""
    scalar = value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value
    return _require(dtype, value, _fitting(dtype, scalar))


def _fitting(dtype: Dtype, value: Any) -> Any:
    """Return `value` as a scalar of `dtype`, None when it does not fit."""
    native = dtype if dtype.kind in "TOV" else dtype.newbyteorder("=")
    if dtype.kind in "mM":
        return fitting_time(native, value)
    value = _unwrapped(native, value)
    if isinstance(value, np.timedelta64):  # an np.integer
        return None
    if dtype.names is not None:
        return _fitting_struct(dtype, value)
    match kind_of(dtype):
        case "b":
            return np.bool_(value) if isinstance(value, REAL) and value in (0, 1) else None
        case "i" | "u":
            return fitting_int(native, value)
        case "f":
            return fitting_float(native, value)
        case "c":
            return fitting_complex(native, value)
        case "T" if _is_text(value):
            return str(value)
        case "U" if _is_text(value):
            text = value.rstrip("\0")
            return np.str_(text) if 4 * len(text) <= dtype.itemsize else None
        case "S" | "V" | "O":
            return _fitting_bytes(native, value)
    return None


def _unwrapped(dtype: Dtype, value: Any) -> Any:
    """Return a scalar of `ml_dtypes` as a number of Python, unless all its bits are to be kept."""
    small = small_type(value.dtype) if isinstance(value, np.generic) else None
    is_kept = small is None or (value.dtype == dtype and small.bits >= 8)
    return value if is_kept else value.item()


def _from_json(dtype: Dtype, value: Any, zarr_format: int) -> Any:
    """Return what a document says as a scalar of `dtype`; raise when it must not say that."""
    is_valid = isinstance(value, int) if dtype.kind == "b" else not isinstance(value, bool)
    convert = _fitting_json_v2 if zarr_format == 2 else _fitting_json
    return _require(dtype, value, convert(dtype, value) if is_valid else None)


def _fitting_json_v2(dtype: Dtype, value: Any) -> Any:
    """Return `_fitting_json` of a value as format 2 has it."""
    # zarr 2 wrote its default, 0, for other types, and read numbers written as text.
    is_zero, kind = isinstance(value, int | float) and value == 0, kind_of(dtype)
    if (is_zero and kind in "TUSVO") or (kind == "V" and value == ""):
        return DataType(dtype).default_fill
    if isinstance(value, str) and kind in "iuf":
        if _DECIMAL.fullmatch(value):
            value = float(value) if any(c in value for c in ".eE") else int(value)
        elif _name(dtype) == _BASE64_FLOAT and len(data := _bytes_from_json(value) or b"") == 1:
            value = f"0x{data.hex()}"
        elif value not in SPECIAL_FLOATS:  # no bits as hex digits
            return None
    return _fitting_json(dtype, value)


def _fitting_json(dtype: Dtype, value: Any) -> Any:
    kind = kind_of(dtype)
    match kind:
        case "c":
            is_pair = isinstance(value, list | tuple) and len(value) == 2
            is_valid = is_pair and not any(isinstance(n, bool) for n in value)
            return complex_of(dtype.newbyteorder("="), value) if is_valid else None
        case "m" | "M" if isinstance(value, str) and value != "NaT":
            return None
        case "V" if dtype.names is not None:
            return _struct_of(dtype, value, lambda base, _, part: _from_json(base, part, 3))
        case "S" | "V" | "O":
            data = _bytes_from_json(value)
            is_valid = data is not None and (kind != "V" or len(data) == dtype.itemsize)
            return _fitting_bytes(dtype, data) if is_valid else None
    found = _fitting(dtype, value)
    if found is None and value == 0 and dtype.type.__name__ == WITHOUT_ZERO:
        return np.zeros((), dtype)[()]  # tensorstore's default; and nothing else is closer
    return found


def _to_json(dtype: Dtype, value: Any, zarr_format: int) -> Any:
    """Return a scalar as it stands in a document."""
    if dtype.names is not None and zarr_format != 2:
        DataType(dtype).to_v3()  # raises for subarrays
        return {n: _to_json(base, value[n], zarr_format) for n, base, _ in _fields(dtype)}
    match kind_of(dtype):
        case "b" | "i" | "u":
            return value.item()
        case "f" if zarr_format == 2 and _name(dtype) == _BASE64_FLOAT:
            value = value.tobytes()
        case "f":
            return float_to_json(value, zarr_format)
        case "c":
            parts = np.array([value]).view(part_of(dtype))
            return [float_to_json(part, zarr_format) for part in parts]
        case "m" | "M":
            count = int(value.view(np.int64))
            return "NaT" if count == NAT and zarr_format != 2 else count
        case "T" | "U":
            return str(value)
        case "S" if zarr_format == 2:
            value = value.ljust(dtype.itemsize, b"\0")  # tensorstore wants all bytes
    return binascii.b2a_base64(_as_bytes(value), newline=False).decode("ascii")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and _SURROGATE.search(value) is None


def _fitting_bytes(dtype: Dtype, value: Any) -> Any:
    data = _as_bytes(value)
    if data is None or dtype.kind == "O":
        return data
    data = data.rstrip(b"\0") if dtype.kind == "S" else data
    fits = len(data) <= dtype.itemsize
    return np.frombuffer(data.ljust(dtype.itemsize, b"\0"), dtype)[0] if fits else None


def _as_bytes(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode() if value.isascii() else None
    if isinstance(value, np.void | memoryview):
        return value.tobytes()
    return bytes(value) if isinstance(value, bytes | bytearray) else None


def _bytes_from_json(value: Any) -> bytes | None:
    if isinstance(value, list | tuple) and all(type(n) is int and 0 <= n < 256 for n in value):
        return bytes(value)
    try:
        return binascii.a2b_base64(value, strict_mode=True) if isinstance(value, str) else None
    except ValueError:  # binascii.Error is one
        return None


def _record(dtype: Dtype, data: bytes | None, stored: Dtype) -> Any:
    """Return the struct of packed bytes; None when they are too few, too many or not valid."""
    if data is None or len(data) != stored.itemsize:
        return None
    try:
        plain = clear_unused(np.frombuffer(data, "u1"), dtype).view(in_numpy(stored))
        result = plain.astype(in_numpy(dtype)).view(dtype)
        _check_texts(result)
    except (ValueError, SystemError):
        return None
    return result[0]


def _check_texts(values: Any) -> None:
    """Raise if there are code points that do not exist in text fields of structs, at any depth."""
    for name in values.dtype.names or ():
        _check_texts(values[name])
    if kind_of(values.dtype) == "U":
        values.tolist()


def _struct_of(dtype: Dtype, values: Any, convert: Callable[[Dtype, Any, Any], Any]) -> Any:
    if not isinstance(values, Mapping) or values.keys() != set(dtype.names or ()):
        return None
    item = np.zeros((), dtype)
    for name, base, shape in _fields(dtype):
        item[name] = convert(base, shape, values[name])
    return item[()]


def _fitting_struct(dtype: Dtype, value: Any) -> Any:
    names = dtype.names or ()
    if isinstance(value, np.void) and value.dtype.names is not None:
        value = [value[name] for name in value.dtype.names]
    if isinstance(value, bytes | bytearray | memoryview | np.void):
        return _record(dtype, _as_bytes(value), dtype)
    if isinstance(value, REAL) and value == 0:
        return np.zeros((), dtype)[()]
    if isinstance(value, list | tuple) and len(value) == len(names):
        value = dict(zip(names, value, strict=True))
    return _struct_of(dtype, value, _fitting_field)


def _fitting_field(base: Dtype, shape: tuple[int, ...], value: Any) -> Any:
    """Return the value of a field; subarrays follow NumPy's rules of broadcasting."""
    if not shape:
        return _cast(base, value)
    try:
        values = np.broadcast_to(np.asarray(value), shape)
    except ValueError as error:
        raise _invalid("subarray", value, f"values of shape {shape}") from error
    return np.array([_cast(base, part) for part in values.flat], base).reshape(shape)


# --- tables --------------------------------------------------------------------------------------

_UNITS = ("Y", "M", "W", "D", "h", "m", "s", "ms", "us", "μs", "ns", "ps", "fs", "as", "generic")
_ALIASES: dict[Any, str] = {str: "string", "str": "string", bytes: "bytes"}
_RAW_BITS = re.compile(r"r([1-9][0-9]{0,10})")
_TYPESTR = re.compile(r"[<>|=]?[biufcSUVmM][0-9]{1,10}(\[[0-9]{0,10}[A-Za-zμ]{1,7}\])?")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,400}(\.[0-9]{0,400})?([eE][+-]?[0-9]{1,4})?")
_SURROGATE = re.compile("[\ud800-\udfff]")  # alone, it is no text: UTF-8 cannot encode it
_BASE64_FLOAT = "float4_e2m1fn"  # whose fill values tensorstore writes like raw bytes in format 2

_CONFIGURED: Mapping[str, frozenset[str]] = {
    "fixed_length_utf32": frozenset({"length_bytes"}),
    "null_terminated_bytes": frozenset({"length_bytes"}),
    "raw_bytes": frozenset({"length_bytes"}),
    **dict.fromkeys(("numpy.datetime64", "numpy.timedelta64"), frozenset({"unit", "scale_factor"})),
    **dict.fromkeys(("struct", "structured"), frozenset({"fields"})),
}
"""v3 data types with a configuration, and its keys."""

_PLAIN: Mapping[str, DataType] = {
    **{name: DataType(np.dtype(name)) for name in _NUMBERS},
    "string": DataType(np.dtypes.StringDType()),
    "bytes": DataType(np.dtype(object)),
    "variable_length_bytes": DataType(np.dtype(object)),
    "complex_float32": DataType(np.dtype(np.complex64)),
    "complex_float64": DataType(np.dtype(np.complex128)),
}
"""v3 data types without a configuration, by name; those of `DTYPE_NAMES` are made at first use."""

_NAMED = frozenset((*_PLAIN, *DTYPE_NAMES, *_CONFIGURED))

_DTYPES = (
    "bool, (u)int8 to 64, float16 to 64, complex64, complex128, datetime64, timedelta64, S, U and V "
    "with a length ('S10'), StringDType() without missing values, those of ml_dtypes but int1 and "
    "uint1, and structs of these"
)
_FLOATS = "numbers in range, 'NaN', 'Infinity', '-Infinity' if there are any, or all bits as hex digits '0x…'"
_ALLOWED: Mapping[str, str] = {
    "b": "true and false",
    **dict.fromkeys("iu", "integers"),
    "f": _FLOATS,
    "c": f"complex numbers, in JSON as a pair of {_FLOATS}",
    **dict.fromkeys("TU", "text that fits and that UTF-8 can encode"),
    **dict.fromkeys("SVO", "bytes that fit; in JSON as base64 or as a list of integers"),
    "struct": "a value for every field and no more, or all bytes; in JSON as base64",
    **dict.fromkeys("mM", "'NaT', an integer, or a time that the unit expresses exactly"),
}
"""What fill values of a kind of dtype may be, for messages."""
