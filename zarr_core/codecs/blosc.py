"""The `blosc` codec.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/blosc/index.html
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, Self, TypeAlias

import numpy as np

from zarr_core.codecs.base import Buffer, BytesBytesCodec, BytesStage, NDArray
from zarr_core.codecs.checks import (
    check_choice,
    check_int,
    element_size,
    flat_bytes,
    limit_error,
    load_numcodecs,
    size_error,
)
from zarr_core.errors import CodecError, UnknownCodecError

Cname: TypeAlias = Literal["lz4", "lz4hc", "blosclz", "snappy", "zlib", "zstd"]
"""The compressors inside Blosc."""

Shuffle: TypeAlias = Literal["noshuffle", "shuffle", "bitshuffle"]
"""What Blosc does with the bytes of elements before it compresses them."""

CNAMES = ("lz4", "lz4hc", "blosclz", "snappy", "zlib", "zstd")
SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")  # the index is the number in numcodecs

_MOST = 2**31 - 1 - 16
"""Blosc counts bytes with signed 32-bit numbers."""
_HEADER = struct.Struct("<4xIII")  # decoded size, block size, encoded size

# Nanoseconds per byte, roughly: decoding, and encoding at a medium level.
_COSTS = {"lz4": (0.1, 0.3), "blosclz": (0.15, 0.6), "lz4hc": (0.1, 5.0), "snappy": (0.2, 0.5)}
_SLOW = {"zlib": (2.0, 10.0), "zstd": (0.3, 2.0)}


@dataclass(frozen=True, kw_only=True)
class BloscCodec(BytesBytesCodec):
    """Blosc: shuffles the bytes of elements, then compresses blocks of them.

    `typesize` None is the element size of the array, `shuffle` None is `"bitshuffle"` for elements
    of one byte and `"shuffle"` for others; documents say what was taken. `clevel` is from 0 to 9,
    `blocksize` 0 leaves the size of blocks to Blosc.

    >>> codec = zarr.codecs.BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")
    >>> a = zarr.create_array({}, data=np.arange(100_000), compressors=codec)
    >>> a.nbytes_stored() < a.nbytes / 10
    True
    """

    name = "blosc"

    typesize: int | None = None
    cname: Cname = "zstd"
    clevel: int = 5
    shuffle: Shuffle | None = None
    blocksize: int = 0

    def __post_init__(self) -> None:
        if self.typesize is not None:
            check_int(self.name, "typesize", self.typesize, 1)
        if self.shuffle is not None:
            check_choice(self.name, "shuffle", self.shuffle, SHUFFLES)
        check_choice(self.name, "cname", self.cname, CNAMES)
        check_int(self.name, "clevel", self.clevel, 0, 9)
        check_int(self.name, "blocksize", self.blocksize, 0, (1 << 31) - 1)

    def configuration(self) -> Mapping[str, Any]:
        """Return the configuration as JSON; what is not resolved is written as for bytes."""
        unresolved = {"typesize": self.typesize or 1, "shuffle": self.shuffle or "bitshuffle"}
        return {**super().configuration(), **unresolved}

    def resolve(self, dtype: np.dtype[Any]) -> Self:
        """Return the codec as it is to be stored with elements of `dtype`."""
        size = element_size(dtype)
        return replace(
            self,
            typesize=size if self.typesize is None else self.typesize,
            shuffle=self.shuffle or ("bitshuffle" if size == 1 else "shuffle"),
        )

    def bind(self, nbytes: int | None, limit: int, dtype: np.dtype[Any]) -> BytesStage:
        """Return the codec bound to its decoded side."""
        blosc = _blosc()
        if self.cname not in blosc.list_compressors():
            raise UnknownCodecError(
                f"codec 'blosc': the installed numcodecs has no compressor {self.cname!r}; "
                f"it has {', '.join(map(repr, blosc.list_compressors()))}"
            )
        decompress = blosc.decompress

        def check(buffer: Buffer) -> Buffer:
            # The library believes the header, also where the data is shorter.
            data = flat_bytes(buffer)
            if len(data) < 16:
                raise CodecError(f"{len(data)} bytes cannot hold a Blosc header")
            decoded, _, encoded = _HEADER.unpack_from(data)
            if encoded != len(data):
                raise CodecError(f"the header says {encoded} encoded bytes, found {len(data)}")
            if decoded != nbytes:
                if nbytes is not None:
                    raise size_error(nbytes, decoded)
                if decoded > min(limit, _MOST):
                    raise limit_error(min(limit, _MOST))
            return data

        def decode(data: Buffer) -> Buffer:
            try:
                return decompress(check(data))  # type: ignore[no-any-return]
            except RuntimeError as error:
                raise CodecError(str(error)) from error

        def decode_into(data: Buffer, out: NDArray) -> None:
            try:
                decompress(check(data), out)
            except RuntimeError as error:
                raise CodecError(str(error)) from error

        decode_cost, encode_cost = {**_COSTS, **_SLOW}[self.cname]
        return BytesStage(
            None,
            self._encoder(dtype),
            decode,
            decode_into if nbytes is not None and nbytes >= 1 << 20 else None,
            decode_cost=decode_cost,
            encode_cost=encode_cost,
        )

    def _encoder(self, dtype: np.dtype[Any]) -> Callable[[Buffer], Buffer]:
        resolved = self.resolve(dtype)
        shuffle = SHUFFLES.index(resolved.shuffle or "noshuffle")
        cname, clevel, blocksize = self.cname.encode(), self.clevel, self.blocksize
        typesize, compress = resolved.typesize, _compress()

        def encode(data: Buffer) -> Buffer:
            try:
                return compress(data, cname, clevel, shuffle, blocksize, typesize)
            except (RuntimeError, ValueError) as error:
                raise CodecError(str(error)) from error

        return encode


@cache
def _blosc() -> Any:
    blosc = load_numcodecs("numcodecs.blosc")
    if blosc.use_threads is None:
        # Chunks are what runs in parallel; threads inside of one would only compete with them.
        blosc.use_threads = False
    return blosc


@cache
def _compress() -> Callable[..., Buffer]:
    compress: Callable[..., Buffer] = _blosc().compress
    try:
        compress(bytes(16), b"lz4", 1, 0, 0, 1)
    except TypeError:
        # numcodecs before 0.16 takes the size of elements from the buffer.
        def compress_items(data: Buffer, *args: Any) -> Buffer:
            *options, typesize = args
            flat = np.frombuffer(data, np.uint8)
            if 1 < typesize < 256 and flat.size % typesize == 0:
                flat = flat.view(f"V{typesize}")
            return compress(flat, *options)

        return compress_items
    return compress
