"""Data types of the package `ml_dtypes`: bfloat16, and numbers of 8 bits and fewer.

NumPy knows little of these dtypes. Most pass for raw bytes, single bytes have a byte order, and
swapping the bytes of complex numbers mixes their parts. So what is asked of a dtype that may be one
of them is asked here: its kind, its byte order, the bits in use.

Elements of less than a byte take a whole one, in memory and in the `bytes` codec. What its other
bits are is ignored where it is read; they are zero where it is written, and in memory.

`ml_dtypes` is imported when the first of its types is met.

Specification: https://github.com/zarr-developers/zarr-extensions/tree/main/data-types for all but
`float8_e4m3fn`, which is tensorstore's. Format 2 has no specification of them: tensorstore writes
the names that NumPy knows when `ml_dtypes` is imported, in little-endian order.
"""

import importlib
import math
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from zarr_core.errors import DataTypeValidationError

Dtype: TypeAlias = np.dtype[Any]


class SmallType(NamedTuple):
    """What NumPy does not know of one of these types."""

    name: str
    """In documents of format 3."""
    kind: Literal["i", "u", "f", "c"]
    """What `dtype.kind` would be."""
    bits: int
    """Bits in use, the lowest ones of an element."""
    largest: float = math.inf
    """The value to which conversions cut larger ones, if they do."""


_FLOAT8 = ("e3m4", "e4m3", "e4m3b11fnuz", "e4m3fnuz", "e4m3fn", "e5m2", "e5m2fnuz", "e8m0fnu")

SMALL_TYPES: Mapping[str, SmallType] = {
    "bfloat16": SmallType("bfloat16", "f", 16),
    **{f"float8_{name}": SmallType(f"float8_{name}", "f", 8) for name in _FLOAT8},
    "float6_e2m3fn": SmallType("float6_e2m3fn", "f", 6, 7.5),
    "float6_e3m2fn": SmallType("float6_e3m2fn", "f", 6, 28.0),
    "float4_e2m1fn": SmallType("float4_e2m1fn", "f", 4, 6.0),
    "int2": SmallType("int2", "i", 2),
    "int4": SmallType("int4", "i", 4),
    "uint2": SmallType("uint2", "u", 2),
    "uint4": SmallType("uint4", "u", 4),
    "complex32": SmallType("complex_float16", "c", 32),
    "bcomplex32": SmallType("complex_bfloat16", "c", 32),
}
"""By the names of `ml_dtypes`, which are those in documents of format 2."""

DTYPE_NAMES: Mapping[str, str] = {small.name: name for name, small in SMALL_TYPES.items()}
"""Names of format 3 -> names of `ml_dtypes`."""


@cache
def small_dtype(name: str) -> Dtype:
    """Return the dtype of a name of `ml_dtypes`; raise `DataTypeValidationError` without it."""
    try:
        found: Dtype = np.dtype(getattr(importlib.import_module("ml_dtypes"), name))
    except Exception as error:  # whatever a broken installation raises
        raise DataTypeValidationError(
            f"data type {SMALL_TYPES[name].name!r} needs the package ml_dtypes, or a newer one: "
            f"pip install --upgrade ml_dtypes ({type(error).__name__}: {error})"
        ) from error
    return found


def small_type(dtype: Dtype) -> SmallType | None:
    """Return which of these types a dtype is, None for others."""
    scalar = dtype.type
    return SMALL_TYPES.get(scalar.__name__) if scalar.__module__ == "ml_dtypes" else None


def kind_of(dtype: Dtype) -> str:
    """Return `dtype.kind`, or what it would be if NumPy knew the type."""
    scalar = dtype.type
    return SMALL_TYPES[scalar.__name__].kind if scalar.__module__ == "ml_dtypes" else dtype.kind


@lru_cache(64)
def integer_limits(dtype: Dtype) -> tuple[int, int]:
    """Return the least and the largest of a dtype of integers."""
    bits = bits_of(dtype)
    return (-1 << bits - 1, (1 << bits - 1) - 1) if kind_of(dtype) == "i" else (0, (1 << bits) - 1)


def bits_of(dtype: Dtype) -> int:
    """Return how many bits of an element are in use."""
    small = small_type(dtype)
    return 8 * dtype.itemsize if small is None else small.bits


def part_of(dtype: Dtype) -> Dtype:
    """Return the dtype of the real part of complex numbers."""
    if dtype.type.__name__ == "bcomplex32":
        return small_dtype("bfloat16")
    return np.dtype(f"f{dtype.itemsize // 2}")


@lru_cache(256)
def in_numpy(dtype: Dtype, order: Literal["=", "<"] = "=") -> Dtype:
    """Return a dtype of the same layout that has none of these types: integers, in a byte order.

    A dtype without any of them is returned as it is.
    """
    if dtype.names is not None:
        old = [(name, dtype[name].base, dtype[name].shape) for name in dtype.names]
        new = [(name, in_numpy(base, order), shape) for name, base, shape in old]
        return dtype if new == old else np.dtype(new)
    small = small_type(dtype)
    if small is None:
        return dtype
    if small.kind == "c":
        return np.dtype([("real", f"{order}u2"), ("imag", f"{order}u2")])
    return np.dtype(f"{order}u{dtype.itemsize}")


@lru_cache(256)
def has_byte_order(dtype: Dtype) -> bool:
    """Tell whether any part of an element is larger than a byte and has a byte order."""
    # Also right for structures, whose own byte order NumPy shows as "not applicable".
    plain = in_numpy(dtype)
    return plain.kind != "T" and plain.newbyteorder("S") != plain  # text has none to swap


@lru_cache(256)
def has_unused_bits(dtype: Dtype) -> bool:
    """Tell whether any part of an element is smaller than the bytes it takes."""
    if dtype.names is not None:
        return any(has_unused_bits(dtype[name].base) for name in dtype.names)
    return bits_of(dtype) < 8


def clear_unused(data: Any, dtype: Dtype) -> Any:
    """Return the bytes of elements, an array in one dimension, with zeros in the bits not in use."""
    if not has_unused_bits(dtype):
        return data
    used = np.frombuffer(_used(dtype), "u1")
    return (data.reshape(-1, used.size) & used).reshape(-1)


def _used(dtype: Dtype) -> bytes:
    if dtype.names is not None:
        fields = [dtype[name] for name in dtype.names]
        return b"".join(_used(field.base) * math.prod(field.shape) for field in fields)
    bits = bits_of(dtype)
    return bytes([(1 << bits) - 1]) if bits < 8 else b"\xff" * dtype.itemsize
