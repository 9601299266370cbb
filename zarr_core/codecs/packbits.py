"""The codec `packbits`: elements of any number of bits, without gaps between them.

Specification: the codec of that name in zarr-extensions. Bits count from the lowest of a byte, in which
it differs from the codec of that name in numcodecs.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from zarr_core.codecs.base import ArrayBytesCodec, Buffer, ChunkSpec, NDArray, SerialStage
from zarr_core.codecs.checks import check_choice, check_int, flat_bytes, size_error
from zarr_core.errors import CodecError, unexpected
from zarr_core.metadata.data_types import DataType

NAME = "packbits"

PaddingEncoding: TypeAlias = Literal["none", "first_byte", "last_byte"]
"""Where the number of bits after the last element is stored."""

_BLOCK = 1 << 13
"""Numbers that are taken apart into bits at a time: a multiple of 8, so that blocks end at a byte."""


def bits_of(data_type: DataType) -> tuple[int, int]:
    """Return how many numbers an element is, and how many bits each of them has."""
    numbers = 2 if data_type.name.startswith("complex") else 1
    known = _BITS.get(data_type.name.removeprefix("complex_"))
    return numbers, known or 8 * data_type.dtype.itemsize // numbers


_BITS = {
    "bool": 1,
    **dict.fromkeys(("int2", "uint2"), 2),
    **dict.fromkeys(("int4", "uint4", "float4_e2m1fn"), 4),
    **dict.fromkeys(("float6_e2m3fn", "float6_e3m2fn"), 6),
}
"""Bits of numbers that do not fill their bytes in memory."""

_OTHER_NUMBERS = (*_BITS, "bfloat16", "float8_", "complex_")
"""How names of numbers start that NumPy does not have."""


@dataclass(frozen=True, kw_only=True)
class PackBitsCodec(ArrayBytesCodec):
    """The bits `first_bit` to `last_bit` of each number, counted from the lowest.

    What is cut off is lost, and 0 when it is read; above `last_bit` of signed integers it is the sign.
    `padding_encoding` says where the number of unused bits at the end is stored: "none", in the
    "first_byte" or the "last_byte".

    >>> codec = zarr.codecs.PackBitsCodec()
    >>> mask = zarr.create_array({}, shape=64, dtype=bool, serializer=codec, compressors=None)
    >>> len(mask.encode_chunk(True))
    8
    """

    name = NAME

    padding_encoding: PaddingEncoding = "none"
    first_bit: int | None = None
    last_bit: int | None = None

    def __post_init__(self) -> None:
        places = ("none", "first_byte", "last_byte")
        check_choice(NAME, "padding_encoding", self.padding_encoding, places)
        for field, value in (("first_bit", self.first_bit), ("last_bit", self.last_bit)):
            if value is not None:
                check_int(NAME, field, value, 0)

    def configuration(self) -> dict[str, Any]:
        """Return the configuration as JSON: what is not the default."""
        default = type(self)()
        settings = super().configuration()
        return {key: value for key, value in settings.items() if value != getattr(default, key)}

    def bind(self, spec: ChunkSpec) -> SerialStage:
        """Return the codec bound to chunks of `spec`, which has booleans or numbers."""
        data_type = spec.data_type
        if spec.dtype.kind not in "biufcmM" and not data_type.name.startswith(_OTHER_NUMBERS):
            raise unexpected(f"codec {NAME!r}", "booleans or numbers", data_type.to_v3())
        numbers, width = bits_of(data_type)
        first = check_int(NAME, "first_bit", self.first_bit or 0, 0, width - 1)
        last = width - 1 if self.last_bit is None else self.last_bit
        check_int(NAME, "last_bit", last, first, width - 1)
        signed = spec.dtype.kind in "imM" or data_type.name.startswith("int")
        part = _Part(spec.dtype.itemsize // numbers, first, last, signed)
        count = numbers * math.prod(spec.shape)
        packed = -(-count * part.bits // 8)
        padding = bytes([8 * packed - count * part.bits])
        head = padding if self.padding_encoding == "first_byte" else b""
        tail = padding if self.padding_encoding == "last_byte" else b""
        nbytes = packed + len(head) + len(tail)

        def encode(array: NDArray) -> Buffer:
            flat = np.ascontiguousarray(array).reshape(-1).view(part.dtype)
            return b"".join((head, *part.pack(flat), tail))

        def decode(data: Buffer) -> NDArray:
            view = memoryview(flat_bytes(data))
            if len(view) != nbytes:
                raise size_error(nbytes, len(view))
            for found in (view[: len(head)], view[nbytes - len(tail) :]):
                if found and found != padding:
                    raise CodecError(f"expected {padding[0]} bits of padding, found {found[0]}")
            flat = np.empty(count, part.dtype)
            part.unpack(np.frombuffer(view[len(head) : nbytes - len(tail)], np.uint8), flat)
            return flat.view(spec.dtype).reshape(spec.shape)

        return SerialStage(nbytes, encode, decode, dtype=np.dtype("u1"))


class _Part:
    """A range of the bits of numbers of `size` bytes."""

    def __init__(self, size: int, first: int, last: int, signed: bool) -> None:
        self.size, self.first, self.end, self.signed = size, first, last + 1, signed
        self.bits = last + 1 - first
        self.dtype = np.dtype(f"u{size}")

    def pack(self, flat: NDArray) -> Iterator[bytes]:
        """Yield the packed bits of unsigned integers."""
        for start in range(0, flat.size, _BLOCK):
            block = flat[start : start + _BLOCK].astype(self.dtype.newbyteorder("<"), copy=False)
            bits = np.unpackbits(block.view(np.uint8), bitorder="little")
            kept = bits.reshape(-1, 8 * self.size)[:, self.first : self.end]
            yield np.packbits(kept, axis=None, bitorder="little").tobytes()

    def unpack(self, packed: NDArray, flat: NDArray) -> None:
        """Write the numbers that were packed to `flat`."""
        for start in range(0, flat.size, _BLOCK):
            count = min(_BLOCK, flat.size - start)
            begin = start // 8 * self.bits
            found = np.unpackbits(
                packed[begin : begin + _BLOCK // 8 * self.bits],
                count=count * self.bits,
                bitorder="little",
            ).reshape(count, self.bits)
            bits = np.zeros((count, 8 * self.size), np.uint8)
            bits[:, self.first : self.end] = found
            if self.signed:
                bits[:, self.end :] = found[:, -1:]
            block = np.packbits(bits, axis=None, bitorder="little")
            flat[start : start + count] = block.view(self.dtype.newbyteorder("<"))
