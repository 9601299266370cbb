"""The `crc32c` codec: a checksum after the data.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/crc32c/index.html
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from zarr_core.codecs.base import Buffer, BytesBytesCodec, BytesStage
from zarr_core.codecs.checks import flat_bytes, limit_error, size_error
from zarr_core.errors import CodecError


@dataclass(frozen=True)
class Crc32cCodec(BytesBytesCodec):
    """The CRC-32C (Castagnoli) of the data, as four little-endian bytes at its end."""

    name = "crc32c"

    def bind(self, nbytes: int | None, limit: int, dtype: np.dtype[Any]) -> BytesStage:
        """Return the codec bound to its decoded side."""
        # Slow to import, and without it everything else works.
        from crc32c import crc32c

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
