"""Codecs that place elements in memory and in bytes: `bytes` and `transpose`.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/bytes/index.html and
https://zarr-specs.readthedocs.io/en/latest/v3/codecs/transpose/index.html
"""

import math
import operator
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, TypeAlias

import numpy as np

from zarr_core.codecs.base import (
    ArrayArrayCodec,
    ArrayBytesCodec,
    ArrayStage,
    Buffer,
    ChunkSpec,
    NDArray,
    SerialStage,
)
from zarr_core.codecs.checks import check_choice, check_fields, flat_bytes, size_error
from zarr_core.errors import MetadataValidationError, unexpected
from zarr_core.metadata.small_types import clear_unused, has_byte_order, has_unused_bits, in_numpy

ByteOrder: TypeAlias = Literal["little", "big"]
"""Byte orders by the names that documents use."""


@dataclass(frozen=True, kw_only=True)
class BytesCodec(ArrayBytesCodec):
    """The elements one after another in C order.

    `endian` is the stored byte order, None for types of single bytes. The byte order in memory is
    that of the data type.

    >>> codec = zarr.codecs.BytesCodec(endian="big")
    >>> a = zarr.create_array({}, data=np.array([1], "i2"), serializer=codec, compressors=None)
    >>> list(a.read_encoded_chunk((0,)))
    [0, 1]
    """

    name = "bytes"

    endian: ByteOrder | None = sys.byteorder

    def __post_init__(self) -> None:
        if self.endian is not None:
            check_choice(self.name, "endian", self.endian, ("little", "big"))

    def configuration(self) -> Mapping[str, Any]:
        """Return the configuration as JSON."""
        return {} if self.endian is None else {"endian": self.endian}

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, Any]) -> Self:
        """Return the codec for a document's `configuration`; an absent `endian` is None."""
        fields = check_fields(cls.name, configuration, ("endian",))
        return cls(endian=fields.get("endian"))

    def resolve(self, dtype: np.dtype[Any]) -> Self:
        """Return the codec as it is to be stored with arrays of `dtype`."""
        return self if has_byte_order(dtype) else replace(self, endian=None)

    def bind(self, spec: ChunkSpec) -> SerialStage:
        """Return the codec bound to chunks of `spec`."""
        if spec.dtype.kind in "OT" or spec.dtype.hasobject:
            raise MetadataValidationError(
                f"codec 'bytes': elements of {spec.data_type.name!r} have no fixed size"
            )
        return raw_stage(spec.shape, spec.dtype, self._stored(spec.dtype))

    def _stored(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        plain = in_numpy(dtype)
        if not has_byte_order(dtype):
            return plain
        if self.endian is not None:
            return plain.newbyteorder("<" if self.endian == "little" else ">")
        if dtype.names is not None:
            # Structures were written without `endian` by earlier software, in little-endian order.
            return plain.newbyteorder("<")
        raise MetadataValidationError(
            f"codec 'bytes': field 'endian': required for elements of {dtype.itemsize} bytes "
            f"({dtype}), found none"
        )


def raw_stage(shape: tuple[int, ...], dtype: np.dtype[Any], stored: np.dtype[Any]) -> SerialStage:
    """Return the stage for arrays of `dtype` whose bytes are those of elements of `stored`.

    `stored` is a dtype of NumPy's own, as `in_numpy` returns it.
    """
    plain, has_unused = in_numpy(dtype), has_unused_bits(dtype)
    is_native = stored == plain and not has_unused
    seen = dtype if is_native else stored
    nbytes = math.prod(shape) * stored.itemsize
    if not stored.itemsize:
        raise MetadataValidationError(f"codec 'bytes': elements of {dtype} have no size")
    ndarray, uint8 = np.ndarray, np.dtype("u1")

    def view(data: Buffer) -> NDArray:
        if len(data) != nbytes:
            data = flat_bytes(data)
            if len(data) != nbytes:
                raise size_error(nbytes, len(data))
        return ndarray(shape, seen, data)

    def decode_swapped(data: Buffer) -> NDArray:
        return view(data).astype(plain).view(dtype)

    def decode_unused(data: Buffer) -> NDArray:
        return decode_swapped(clear_unused(view(data).reshape(-1).view(uint8), dtype))

    def encode(array: NDArray) -> Buffer:
        # Bytes where a copy is needed anyway: stores in memory keep them without another one.
        return array.reshape(-1).view(uint8) if array.flags.c_contiguous else array.tobytes()

    def encode_swapped(array: NDArray) -> Buffer:
        return array.view(plain).astype(stored, order="C").reshape(-1).view(uint8)

    def encode_unused(array: NDArray) -> Buffer:
        return clear_unused(encode_swapped(array), dtype)  # type: ignore[no-any-return]

    if is_native:
        return SerialStage(nbytes, encode, view, native=True)
    if has_unused:
        return SerialStage(nbytes, encode_unused, decode_unused)
    return SerialStage(nbytes, encode_swapped, decode_swapped)


def inverse_permutation(order: Iterable[int]) -> tuple[int, ...]:
    """Return the permutation that undoes `order`."""
    order = tuple(order)
    return tuple(sorted(range(len(order)), key=order.__getitem__))


@dataclass(frozen=True, init=False)
class TransposeCodec(ArrayArrayCodec):
    """The axes in another order: axis `i` of what is stored is axis `order[i]` of the chunk.

    >>> codec = zarr.codecs.TransposeCodec(order=(1, 0))  # columns are together in a chunk
    >>> zarr.create_array({}, data=np.arange(4).reshape(2, 2), filters=codec)[0]
    array([0, 1])
    """

    name = "transpose"

    order: tuple[int, ...]

    def __init__(self, *, order: Iterable[int]) -> None:
        try:
            axes = tuple(map(operator.index, order))
        except TypeError:
            axes = (-1,)
        if sorted(axes) != list(range(len(axes))):
            raise unexpected("codec 'transpose': field 'order'", "every axis once", order)
        object.__setattr__(self, "order", axes)

    def configuration(self) -> Mapping[str, Any]:
        """Return the configuration as JSON."""
        return {"order": list(self.order)}

    def to_dict(self) -> dict[str, Any]:
        """Return the codec as it stands in a metadata document."""
        return {"name": self.name, "configuration": dict(self.configuration())}

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, Any]) -> Self:
        """Return the codec for a document's `configuration`."""
        return cls(**check_fields(cls.name, configuration, ("order",), required=("order",)))

    def bind(self, spec: ChunkSpec) -> ArrayStage:
        """Return the codec bound to chunks of `spec`."""
        order = self.order
        if len(order) != len(spec.shape):
            raise unexpected(
                "codec 'transpose': field 'order'", f"{len(spec.shape)} axes", list(order)
            )
        inverse = inverse_permutation(order)

        def encode(array: NDArray) -> NDArray:
            return array.transpose(order)

        def decode(array: NDArray) -> NDArray:
            return array.transpose(inverse)

        shape = tuple(spec.shape[axis] for axis in order)
        return ArrayStage(spec._replace(shape=shape), encode, decode, order)
