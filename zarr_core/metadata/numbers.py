"""Numbers as fill values: which fit a data type, and how they stand in JSON.

Values are never clipped, truncated or wrapped: for what does not fit the answer is None.
"""

import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from zarr_core.metadata.small_types import Dtype, bits_of, integer_limits, part_of, small_type

REAL: tuple[Any, ...] = (bool, int, float, np.bool_, np.integer, np.floating)
SPECIAL_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
WITHOUT_ZERO = "float8_e8m0fnu"
"""The one type of floats that has no zero."""
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_MAX_FLOAT = float(np.finfo(np.float64).max)


def fitting_int(dtype: Dtype, value: Any) -> Any:
    """Return a number as a scalar of a dtype of integers, None if it is none of them."""
    is_float = isinstance(value, float | np.floating)
    if not isinstance(value, REAL) or (is_float and not value.is_integer()):
        return None
    number, (least, largest) = int(value), integer_limits(dtype)  # never through a float
    return dtype.type(number) if least <= number <= largest else None


def fitting_float(dtype: Dtype, value: Any) -> Any:
    """Return a number, or what JSON has for it, rounded to a scalar of a dtype of floats."""
    if isinstance(value, np.generic) and value.dtype == dtype:
        return value  # a conversion would change signalling NaNs
    if isinstance(value, str):
        if _HEX.fullmatch(value) and len(value) == 2 + 2 * dtype.itemsize:
            bits = int(value, 16)
            is_valid = bits >> bits_of(dtype) == 0
            return np.array(bits, f"u{dtype.itemsize}").view(dtype)[()] if is_valid else None
        value = SPECIAL_FLOATS.get(value)
    if not isinstance(value, REAL):
        return None
    if isinstance(value, int) and abs(value) > _MAX_FLOAT:
        return None
    wide = float(value)
    with np.errstate(over="ignore", invalid="ignore"):
        result = np.asarray(wide).astype(dtype)[()]
        found = float(result)
    if found == wide:
        return result
    # What is out of range becomes an infinity, NaN in a type without one, or the largest value.
    if math.isnan(wide):
        is_rounded = math.isnan(found)
    else:
        small = small_type(dtype)
        is_rounded = math.isfinite(found) and abs(wide) < (small.largest if small else math.inf)
    return result if is_rounded else None


def fitting_complex(dtype: Dtype, value: Any) -> Any:
    """Return a number as a scalar of a complex dtype."""
    if isinstance(value, np.generic) and value.dtype == dtype:
        return value  # as above
    is_number = isinstance(value, (*REAL, complex, np.complexfloating))
    return complex_of(dtype, (value.real, value.imag)) if is_number else None


def float_to_json(value: Any, zarr_format: int) -> Any:
    """Return a scalar of floats as it stands in a document."""
    number = float(value)
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    # tensorstore misreads the numbers of a type without zero, and not their bits.
    as_bits = zarr_format != 2 and value.dtype.type.__name__ == WITHOUT_ZERO
    if not (math.isnan(number) or as_bits):
        return number
    size = value.dtype.itemsize
    bits, quiet = (int(nan.view(f"u{size}")) for nan in (value, value.dtype.type(np.nan)))
    return "NaN" if zarr_format == 2 or bits == quiet else f"0x{bits:0{2 * size}x}"


def complex_of(dtype: Dtype, numbers: Iterable[Any]) -> Any:
    """Return the scalar of a complex dtype that has two numbers as its parts."""
    part = part_of(dtype)
    parts = [fitting_float(part, number) for number in numbers]
    is_valid = all(found is not None for found in parts)
    return np.array(parts, part).view(dtype)[0] if is_valid else None
