"""Codecs for elements of variable length: `vlen-utf8` and `vlen-bytes`.

A chunk is the number of its elements and then, for every element in C order, its size and its
bytes; all numbers are little-endian unsigned 32-bit integers.

Specification: https://github.com/zarr-developers/zarr-extensions/tree/main/codecs/vlen-utf8
"""

import math
import struct
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zarr_core.codecs.base import ArrayBytesCodec, Buffer, ChunkSpec, NDArray, SerialStage
from zarr_core.codecs.checks import flat_bytes, variable_limit
from zarr_core.errors import CodecError, MetadataValidationError, describe

_SIZE = struct.Struct("<I")


@dataclass(frozen=True)
class _VLenCodec(ArrayBytesCodec):
    def to_dict(self) -> dict[str, Any]:
        """Return the codec as it stands in a metadata document."""
        # Other implementations write the empty configuration, and some want to read it.
        return {"name": self.name, "configuration": {}}

    def bind(self, spec: ChunkSpec) -> SerialStage:
        """Return the codec bound to chunks of `spec`."""
        if spec.dtype.kind not in "OT":
            raise MetadataValidationError(
                f"codec {self.name!r}: elements of {spec.data_type.name!r} have a fixed size"
            )
        shape, dtype, count = spec.shape, spec.dtype, math.prod(spec.shape)
        limit = variable_limit()
        to_bytes, from_bytes = self._to_bytes, self._from_bytes

        def encode(array: NDArray) -> Buffer:
            data = join(to_bytes(array.reshape(-1).tolist()))
            if len(data) > limit:
                raise CodecError(
                    f"{len(data)} bytes in a chunk are more than the setting "
                    f"memory.max_variable_chunk_bytes ({limit})"
                )
            return data

        def decode(data: Buffer) -> NDArray:
            elements = from_bytes(data, count)
            if dtype.kind == "T":
                return np.array(elements, dtype=dtype).reshape(shape)
            array = np.empty(count, dtype=dtype)
            array[:] = elements
            return array.reshape(shape)

        return SerialStage(None, encode, decode)

    @abstractmethod
    def _to_bytes(self, elements: list[Any]) -> list[bytes]: ...

    @abstractmethod
    def _from_bytes(self, data: Buffer, count: int) -> Sequence[Any]: ...


@dataclass(frozen=True)
class VLenUTF8Codec(_VLenCodec):
    """Text of any length as UTF-8.

    >>> zarr.create_array({}, data=["a", "long text"]).serializer
    VLenUTF8Codec()
    """

    name = "vlen-utf8"

    def _to_bytes(self, elements: list[Any]) -> list[bytes]:
        try:
            return list(map(str.encode, elements))
        except (TypeError, UnicodeEncodeError):
            return [_encode_text(element) for element in elements]

    def _from_bytes(self, data: Buffer, count: int) -> Sequence[str]:
        return split(data, count, bytes.decode)


@dataclass(frozen=True)
class VLenBytesCodec(_VLenCodec):
    """Bytes of any length.

    >>> zarr.codecs.VLenBytesCodec().to_dict()["name"]
    'vlen-bytes'
    """

    name = "vlen-bytes"

    def _to_bytes(self, elements: list[Any]) -> list[bytes]:
        return [_encode_bytes(element) for element in elements]

    def _from_bytes(self, data: Buffer, count: int) -> Sequence[bytes]:
        return split(data, count, bytes)


def is_missing(element: Any) -> bool:
    """Return whether an element stands for "empty"."""
    # Arrays of objects start out as zeros or None.
    return element is None or (type(element) is int and element == 0)


def _encode_text(element: Any) -> bytes:
    if is_missing(element):
        return b""
    if not isinstance(element, str):
        raise CodecError(f"expected a str as element, found {describe(element)}")
    try:
        return element.encode()
    except UnicodeEncodeError as error:
        raise CodecError(f"element {describe(element)} cannot be written as UTF-8") from error


def _encode_bytes(element: Any) -> bytes:
    if type(element) is bytes:
        return element
    if is_missing(element):
        return b""
    if not isinstance(element, bytes | bytearray | memoryview):
        raise CodecError(f"expected bytes as element, found {describe(element)}")
    return bytes(element)


def join(elements: list[bytes]) -> bytes:
    """Return a chunk of elements."""
    count = len(elements)
    try:
        sizes = np.fromiter(map(len, elements), dtype="<u4", count=count)
        parts = [_SIZE.pack(count)] * (2 * count + 1)
    except (OverflowError, struct.error):
        raise CodecError("a chunk and its elements must be smaller than 4 GiB") from None
    # As raw items of four bytes, all sizes become bytes objects in one call.
    parts[1::2] = sizes.view("V4").tolist()
    parts[2::2] = elements
    return b"".join(parts)


def split(data: Buffer, count: int, make: Callable[[bytes], Any]) -> list[Any]:
    """Return the elements of a chunk, each made of its bytes; raise `CodecError`."""
    data = flat_bytes(data)
    found = int.from_bytes(data[:4], "little")
    if len(data) < 4 or found != count:
        raise CodecError(f"expected {count} elements, found {found if len(data) >= 4 else 'none'}")
    if len(data) < 4 + 4 * count:
        raise CodecError(f"{len(data)} bytes cannot hold {count} elements")
    data = bytes(data)
    elements: list[Any] = []
    add, read_size, position = elements.append, _SIZE.unpack_from, 4
    try:
        for _ in range(count):
            (size,) = read_size(data, position)
            start = position + 4
            position = start + size
            add(make(data[start:position]))
    except struct.error:
        raise CodecError(f"element {len(elements)} starts after the end of the data") from None
    except UnicodeDecodeError as error:
        if position <= len(data):
            raise CodecError(f"element {len(elements)} is not valid UTF-8") from error
    # Positions only grow, so this also says that no element was cut off.
    if position > len(data):
        raise CodecError(f"element {len(elements) - 1} ends after the end of the data")
    if position < len(data):
        raise CodecError(f"found {len(data) - position} bytes after the last element")
    return elements
