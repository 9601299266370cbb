"""The codec `zfp`: arrays of numbers, compressed with a loss that is chosen, or without.

Specification: the codec of that name in zarr-extensions. The package zfpy does the work. It trusts what
it is given: sizes and settings with which it would read or write past its memory are refused here.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from zarr_core.codecs.base import ArrayBytesCodec, Buffer, ChunkSpec, NDArray, SerialStage
from zarr_core.codecs.checks import (
    check_choice,
    check_int,
    flat_bytes,
    limit_error,
    load_library,
    size_error,
)
from zarr_core.errors import CodecError, MetadataValidationError, unexpected

NAME = "zfp"

ZfpMode: TypeAlias = Literal["reversible", "fixed_rate", "fixed_precision", "fixed_accuracy"]
"""What is fixed; without a loss, in "reversible", nothing is."""

_PARAMETERS = {
    "reversible": None,
    "fixed_rate": "rate",
    "fixed_precision": "precision",
    "fixed_accuracy": "tolerance",
}

_MAX_RATE = 128
"""Bits of a number that are asked for; of more, all above 80 would be padding."""

_LEAST_BITS = {"float32": 9, "float64": 12}
"""Bits of a block without which its exponent has no place, which zfp does not check."""


@dataclass(frozen=True, kw_only=True)
class ZfpCodec(ArrayBytesCodec):
    """Chunks of 0 to 4 dimensions, compressed by zfp. Needs the package zfpy.

    Parameters
    ----------
    mode
        "reversible", without a loss, or the mode of one of the following.
    rate
        Bits of each number, in mode "fixed_rate".
    precision
        Bits that are kept of each coefficient, in mode "fixed_precision".
    tolerance
        The largest error, in mode "fixed_accuracy"; of integers other modes say more.

    Examples
    --------
    >>> codec = zarr.codecs.ZfpCodec(mode="fixed_accuracy", tolerance=0.01)
    >>> codec.to_dict()["configuration"]
    {'mode': 'fixed_accuracy', 'tolerance': 0.01}
    """

    name = NAME

    mode: ZfpMode
    rate: float | None = None
    precision: int | None = None
    tolerance: float | None = None

    def __post_init__(self) -> None:
        check_choice(NAME, "mode", self.mode, _PARAMETERS)
        wanted = _PARAMETERS[self.mode]
        for field in ("rate", "precision", "tolerance"):
            value = getattr(self, field)
            if (value is not None) != (field == wanted):
                found = "is missing" if value is None else "does not belong"
                raise MetadataValidationError(
                    f"codec {NAME!r}: field {field!r} {found} in mode {self.mode!r}"
                )
        if wanted == "precision":
            check_int(NAME, wanted, self.precision, 0, (1 << 31) - 1)
        elif wanted is not None:
            number = getattr(self, wanted)
            is_number = isinstance(number, int | float) and not isinstance(number, bool)
            if not is_number or not 0 <= number < math.inf:
                raise unexpected(f"codec {NAME!r}: field {wanted!r}", "a number", number)

    def configuration(self) -> Mapping[str, Any]:
        """Return the configuration as JSON: the mode and its parameter."""
        settings: Mapping[str, Any] = super().configuration()
        return {name: value for name, value in settings.items() if value is not None}

    def bind(self, spec: ChunkSpec) -> SerialStage:
        """Return the codec bound to chunks of `spec`, of up to 4 dimensions."""
        if len(spec.shape) > 4:
            raise MetadataValidationError(
                f"codec {NAME!r}: chunks have {len(spec.shape)} dimensions, of 4 that are possible; "
                "a codec 'reshape' or 'zarrs.squeeze' before it leaves fewer"
            )
        promote, demote, dtype = _promotion(spec)
        zfpy = load_library("zfpy", "zfpy")
        kind = zfpy.dtype_to_ztype(dtype)
        shape = spec.shape or (1,)
        parameter = _PARAMETERS[self.mode]
        options = {} if parameter is None else {parameter: getattr(self, parameter)}
        nbytes = None
        if self.rate is not None:
            nbytes = -(-_blocks(shape) * block_bits(self.rate, dtype, len(shape)) // 64) * 8
        limit = _blocks(shape) * _most_bits(dtype, len(shape)) // 8 + 8

        def encode(array: NDArray) -> Buffer:
            promoted = np.ascontiguousarray(promote(array)).reshape(shape)
            if parameter is not None:
                _check_finite(promoted, self.mode)
            encoded: bytes = zfpy.compress_numpy(promoted, write_header=False, **options)
            return encoded

        def decompress(data: bytes) -> NDArray:
            result: NDArray = zfpy._decompress(data, kind, shape, **options)
            return result

        def decode(data: Buffer) -> NDArray:
            encoded = bytes(flat_bytes(data))
            if nbytes is not None and len(encoded) != nbytes:
                raise size_error(nbytes, len(encoded))
            if nbytes is None and len(encoded) > limit:
                raise limit_error(limit)
            found = decompress(encoded) if nbytes else _ended(decompress, encoded, dtype, shape)
            return demote(found).reshape(spec.shape)

        return SerialStage(nbytes, encode, decode, dtype=np.dtype("u1"))


def decode_with_header(data: Buffer, nbytes: int) -> NDArray:
    """Return what a stream with zfp's own header decodes to, if that is `nbytes` bytes."""
    zfpy = load_library("zfpy", "zfpy")
    encoded = bytes(flat_bytes(data))
    # As below. The longest header has 19 bytes.
    header, other = (zfpy.header(encoded[:32] + fill * 32) for fill in (b"\0", b"\xff"))
    if header != other:
        raise CodecError(f"{len(encoded)} bytes end within a header")
    dtype = np.dtype(header["type"])
    shape = tuple(header[name] for name in ("nw", "nz", "ny", "nx") if header[name])
    if math.prod(shape) * dtype.itemsize != nbytes:
        raise size_error(nbytes, math.prod(shape) * dtype.itemsize)
    if header["mode"] == "rate":
        block_bits(header["config"]["rate"], dtype, len(shape))
    elif header["mode"] not in ("reversible", "precision", "tolerance"):
        raise CodecError(f"a stream of mode {header['mode']!r}")
    return _ended(zfpy.decompress_numpy, encoded, dtype, shape)


def _ended(
    decompress: Callable[[bytes], NDArray],
    encoded: bytes,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
) -> NDArray:
    """Return what `encoded` decodes to, if it does not matter what stands behind its end."""
    # As much as is read of it: the rest of a block, and blocks of zeros, which have few bits.
    zeros = bytes(16 * _blocks(shape) + _most_bits(dtype, len(shape)) // 8)
    found = decompress(encoded + zeros)
    if found.tobytes() != decompress(encoded + b"\xff" * 8 + zeros).tobytes():
        raise CodecError(f"{len(encoded)} bytes end before the last element")
    return found


def _blocks(shape: tuple[int, ...]) -> int:
    return math.prod(-(-n // 4) for n in shape)


def _most_bits(dtype: np.dtype[Any], ndim: int) -> int:
    """Return a number of bits that no block exceeds, unless its rate is fixed."""
    numbers: int = 4**ndim
    return numbers * (8 * dtype.itemsize + 1) + 64


def block_bits(rate: float, dtype: np.dtype[Any], ndim: int) -> int:
    """Return the bits of a block; raise for so few that they would not be kept to, or too many."""
    bits: int = math.floor(min(rate, _MAX_RATE + 1) * 4**ndim + 0.5)
    least = _LEAST_BITS.get(str(dtype), 1)
    if least <= bits <= _MAX_RATE * 4**ndim:
        return bits
    raise unexpected(
        f"codec {NAME!r}: field 'rate'",
        f"{least / 4**ndim} to {_MAX_RATE} for {ndim} dimensions of {dtype}",
        rate,
    )


def _check_finite(array: NDArray, mode: str) -> None:
    """Raise for numbers of which zfp, with a loss, would make others of any size."""
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise CodecError(f"mode {mode!r} has no NaN and no infinity")
        return
    most = 1 << (8 * array.dtype.itemsize - 2)
    if array.size and not (-most <= array.min() and array.max() < most):
        raise CodecError(
            f"mode {mode!r} has integers from {-most} to {most - 1}, "
            f"found {array.min()} to {array.max()}"
        )


Cast: TypeAlias = Callable[[NDArray], NDArray]


def _promotion(spec: ChunkSpec) -> tuple[Cast, Cast, np.dtype[Any]]:
    """Return the functions to and from a data type that zfp has, and that data type."""
    dtype, name = spec.dtype, spec.data_type.name
    if name in ("int32", "int64", "float32", "float64"):
        return _same, _same, dtype
    if dtype.kind in "mM":
        return lambda array: array.view("i8"), lambda array: array.view(dtype), np.dtype("i8")
    if name in ("float16", "bfloat16"):
        return lambda array: array.astype("f4"), lambda array: array.astype(dtype), np.dtype("f4")
    if name in ("uint32", "uint64"):
        return _unsigned_promotion(dtype)
    if name not in ("int8", "int16", "uint8", "uint16"):
        raise unexpected(f"codec {NAME!r}", "integers or floats", spec.data_type.to_v3())
    info = np.iinfo(dtype)
    shift, middle = 31 - info.bits, 0 if dtype.kind == "i" else 1 << (info.bits - 1)

    def promote(array: NDArray) -> NDArray:
        wide: NDArray = (array.astype("i4") - middle) << shift
        return wide

    def demote(array: NDArray) -> NDArray:
        clamped: NDArray = np.clip((array >> shift) + middle, info.min, info.max)
        return clamped.astype(dtype)

    return promote, demote, np.dtype("i4")


def _same(array: NDArray) -> NDArray:
    return array


def _unsigned_promotion(dtype: np.dtype[Any]) -> tuple[Cast, Cast, np.dtype[Any]]:
    signed = np.dtype(f"i{dtype.itemsize}")
    most = np.iinfo(signed).max

    def promote(array: NDArray) -> NDArray:
        if array.size and array.max() > most:
            raise CodecError(f"zfp has no integers above {most}, found {array.max()}")
        return array.astype(signed)

    def demote(array: NDArray) -> NDArray:
        return np.maximum(array, 0).astype(dtype)

    return promote, demote, signed
