"""The codec `bitround`: numbers of fewer significant bits, which compress better.

Specification: the codec of that name in zarr-extensions. Bits are lost when a chunk is written; reading
changes nothing.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from zarr_core.codecs.base import ArrayArrayCodec, ArrayStage, ChunkSpec, NDArray
from zarr_core.codecs.checks import check_int
from zarr_core.errors import unexpected

_MANTISSAS = {
    "bfloat16": 7,
    "float16": 10,
    "float32": 23,
    "float64": 52,
    "complex_bfloat16": 7,
    "complex_float16": 10,
    "complex64": 23,
    "complex128": 52,
}
"""Bits of the mantissa by data type, without the one that is not stored."""


@dataclass(frozen=True, kw_only=True)
class BitRoundCodec(ArrayArrayCodec):
    """Numbers rounded to the nearest of `keepbits` bits, to the even one of two that are as near.

    Of floats these are bits of the mantissa: n bits keep a relative error of 2 ** -(n + 1). Of
    integers they count from the highest bit that is set, which is the sign of negative ones.

    >>> values = np.array([0.1, 0.2, 0.3], "f4")
    >>> zarr.create_array({}, data=values, filters=zarr.codecs.BitRoundCodec(keepbits=4))[:]
    array([0.1015625, 0.203125 , 0.296875 ], dtype=float32)
    """

    name = "bitround"

    keepbits: int

    def __post_init__(self) -> None:
        check_int(self.name, "keepbits", self.keepbits, 1)

    def bind(self, spec: ChunkSpec) -> ArrayStage:
        """Return the codec bound to chunks of `spec`, which has floats, integers or times."""
        mantissa = _MANTISSAS.get(spec.data_type.name)
        if mantissa is None and spec.dtype.kind not in "iumM":
            raise unexpected(f"codec {self.name!r}", "numbers", spec.data_type.to_v3())
        size = spec.dtype.itemsize // (2 if spec.data_type.name.startswith("complex") else 1)
        keepbits = int(self.keepbits)

        def encode(array: NDArray) -> NDArray:
            bits = np.ascontiguousarray(array).reshape(-1).view(f"u{size}")
            if mantissa is not None:
                rounded = _rounded_floats(bits, mantissa, keepbits)
            else:
                rounded = _rounded_integers(bits, keepbits, signed=spec.dtype.kind != "u")
            return rounded.view(spec.dtype).reshape(array.shape)

        fill = encode(np.full((1,), spec.fill_value, spec.dtype))[0]
        return ArrayStage(spec._replace(fill_value=fill), encode, lambda array: array)


def _rounded_floats(bits: NDArray, mantissa: int, keepbits: int) -> NDArray:
    drop = mantissa - keepbits
    if drop <= 0:
        return bits
    sign = 1 << (8 * bits.itemsize - 1)
    infinity = sign - (1 << mantissa)
    odd = (bits >> drop) & 1
    rounded = (bits + odd + ((1 << (drop - 1)) - 1)) & (2 * sign - (1 << drop))
    # A NaN has any mantissa but 0: rounding could make it infinite, or a zero.
    return np.where(bits & (sign - 1) > infinity, bits, rounded)


def _rounded_integers(bits: NDArray, keepbits: int, *, signed: bool) -> NDArray:
    width = 8 * bits.itemsize
    if keepbits >= width:
        return bits
    highest: Any = bits
    shift = 1
    while shift < width:  # all bits below the highest one
        highest = highest | (highest >> shift)
        shift *= 2
    highest = highest ^ (highest >> 1)
    unit = np.maximum(highest >> (keepbits - 1), 1)
    lost = bits & (unit - 1)
    down, half = bits - lost, unit >> 1
    goes_up = (lost > half) | ((lost == half) & (half > 0) & (bits & unit > 0))
    up = down + unit
    # Where there is no number above, the one below is the nearest.
    sign = 1 << (width - 1)
    fits = (up & sign) == (bits & sign) if signed else up > down
    result: NDArray = np.where(goes_up & fits, up, down)
    return result
