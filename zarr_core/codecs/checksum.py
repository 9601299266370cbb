"""The `crc32c` codec: a checksum after the data.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/crc32c/index.html
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from zarr_core.codecs.base import Buffer, BytesBytesCodec, BytesStage
from zarr_core.codecs.checks import flat_bytes, limit_error, size_error
from zarr_core.errors import CodecError


@cache
def crc32c_function() -> Callable[[Any], int]:
    """Return the function from bytes to their CRC-32C, of the fastest library that can be imported.

    The one of this module takes 80 ns a byte, which is enough for the index of a shard.
    """
    try:
        # Slow to import.
        from crc32c import crc32c
    except Exception:  # noqa: BLE001 - a broken library raises anything
        try:
            google = importlib.import_module("google_crc32c")
        except Exception:  # noqa: BLE001
            return _crc32c
        # It takes nothing that can be written to.
        return lambda data: int(google.value(bytes(data)))
    return crc32c


def _crc32c(data: Any) -> int:
    table, crc = _table(), 0xFFFFFFFF
    for byte in bytes(data):
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@cache
def _table() -> tuple[int, ...]:
    def entry(crc: int) -> int:
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
        return crc

    return tuple(map(entry, range(256)))


_POLYNOMIAL = 0x82F63B78
"""Castagnoli's, its bits reversed."""


@dataclass(frozen=True)
class Crc32cCodec(BytesBytesCodec):
    """The CRC-32C (Castagnoli) of the data, as four little-endian bytes at its end.

    >>> codecs = [zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()]
    >>> zarr.create_array({}, data=[1, 2, 3], compressors=codecs)[:]
    array([1, 2, 3])
    """

    name = "crc32c"

    def bind(self, nbytes: int | None, limit: int, dtype: np.dtype[Any]) -> BytesStage:
        """Return the codec bound to its decoded side."""
        crc32c = crc32c_function()

        def decode(data: Buffer) -> Buffer:
            view = memoryview(flat_bytes(data))
            size = len(view) - 4
            if size < 0:
                raise CodecError(f"{len(view)} bytes cannot hold a checksum")
            if nbytes is not None and size != nbytes:
                raise size_error(nbytes, size)
            if size > limit:
                raise limit_error(limit)
            payload = view[:size]
            stored, computed = int.from_bytes(view[size:], "little"), crc32c(payload)
            if stored != computed:
                raise CodecError(f"stored checksum {stored:#010x}, computed {computed:#010x}")
            return payload

        def encode(data: Any) -> Buffer:
            return b"".join((data, crc32c(data).to_bytes(4, "little")))

        encoded = None if nbytes is None else nbytes + 4
        return BytesStage(encoded, encode, decode, decode_cost=0.04, encode_cost=0.04)
