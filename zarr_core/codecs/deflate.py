"""The `gzip` codec, and zlib streams as format 2 and numcodecs use them.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/gzip/index.html
"""

import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from zarr_core.codecs.base import Buffer, BytesBytesCodec, BytesStage
from zarr_core.codecs.checks import check_int, limit_error, size_error
from zarr_core.errors import CodecError

_GZIP, _ZLIB = 31, 15  # `wbits` of zlib
_FLAGS = 3  # where a header of gzip has them
LIBDEFLATE_LEVEL = 4
"""The lowest level at which libdeflate is at least as good as zlib."""


@dataclass(frozen=True, kw_only=True)
class GzipCodec(BytesBytesCodec):
    """Gzip. `level` is from 0 (stored) to 9 (smallest).

    >>> zarr.create_array({}, data=[1, 2, 3], compressors=zarr.codecs.GzipCodec(level=9))[:]
    array([1, 2, 3])
    """

    name = "gzip"

    level: int = 5

    def __post_init__(self) -> None:
        object.__setattr__(self, "level", check_int(self.name, "level", self.level, 0, 9))

    def bind(self, nbytes: int | None, limit: int, dtype: np.dtype[Any]) -> BytesStage:
        """Return the codec bound to its decoded side."""
        return deflate_stage(self.level, nbytes, limit, gzip=True)


def deflate_stage(level: int, nbytes: int | None, limit: int, *, gzip: bool) -> BytesStage:
    """Return the stage of a gzip or zlib codec."""
    wbits = _GZIP if gzip else _ZLIB
    decompressor, errors = inflater()
    # One byte more than allowed is enough to know; 0 would mean "no limit".
    most = min(limit, sys.maxsize - 1) + 1

    def decode(data: Any) -> Buffer:
        if gzip:
            _check_flags(data)
        stream = decompressor(wbits)
        try:
            decoded: bytes = stream.decompress(data, most)
        except errors as problem:
            raise CodecError(str(problem)) from problem
        if stream.unused_data and gzip:
            decoded = _decode_members(data, most)
        elif len(decoded) == most:
            raise limit_error(limit)
        elif not stream.eof:
            raise _end_error(len(decoded))
        elif stream.unused_data:
            raise CodecError(f"found {len(stream.unused_data)} bytes after the end of the stream")
        if nbytes is not None and len(decoded) != nbytes:
            raise size_error(nbytes, len(decoded))
        return decoded

    encode = deflater(level, gzip=gzip)
    return BytesStage(None, encode, decode, decode_cost=4.0, encode_cost=4.0 + 5 * level)


@cache
def inflater() -> tuple[Callable[[int], Any], tuple[Any, ...]]:
    """Return what makes a decompressor, with the interface of zlib's, and its errors.

    isal, where it is installed, takes half of the time for the same. Its compressor makes much
    larger streams at the levels that are in use.
    """
    try:
        from isal import isal_zlib
    except Exception:  # noqa: BLE001 - a broken library raises anything
        return zlib.decompressobj, (zlib.error,)
    return isal_zlib.decompressobj, (isal_zlib.error, zlib.error)


def deflater(level: int, *, gzip: bool) -> Callable[[Any], Buffer]:
    """Return the function that compresses.

    From level 4 on libdeflate, where it is installed, takes a third of zlib's time and makes streams
    of about the same size (0.54 to 1.14 of it over eleven kinds of data); below, often larger ones.
    """
    wbits = _GZIP if gzip else _ZLIB

    def encode(data: Any) -> Buffer:
        # Unlike the module gzip this writes no time of day, so equal chunks have equal bytes.
        return zlib.compress(data, level, wbits)

    if level < LIBDEFLATE_LEVEL:
        return encode
    try:
        libdeflate: Any = import_module("deflate")
    except Exception:  # noqa: BLE001
        return encode
    compress = libdeflate.gzip_compress if gzip else libdeflate.zlib_compress
    return lambda data: compress(data, level)


def _decode_members(data: Any, most: int) -> bytes:
    """Return the data of all members of a gzip file, which must be fewer than `most` bytes."""
    decompressor, errors = inflater()
    view, position = memoryview(data), 0
    stream = decompressor(_GZIP)
    decoded = bytearray()
    while position < len(view):
        if stream.eof:
            _check_flags(view[position : position + 4])
            stream = decompressor(_GZIP)
        # In pieces: what follows a member is copied by the library, for each of many small ones.
        piece = view[position : position + (1 << 16)]
        try:
            decoded += stream.decompress(piece, most - len(decoded))
        except errors as problem:
            message = f"found bytes that are no gzip member after {len(decoded)} decoded bytes"
            raise CodecError(message) from problem
        if len(decoded) >= most:
            raise limit_error(most - 1)
        position += len(piece) - len(stream.unused_data) - len(stream.unconsumed_tail)
    if not stream.eof:
        raise _end_error(len(decoded))
    return bytes(decoded)


def _check_flags(member: Any) -> None:
    """Raise if a header has flags that RFC 1952 reserves, which zlib refuses and isal overlooks."""
    if len(member) > _FLAGS and member[_FLAGS] & 0b1110_0000:
        raise CodecError("the header of a gzip member has flags that mean nothing")


def _end_error(decoded: int) -> CodecError:
    return CodecError(f"data ends after {decoded} decoded bytes, before the end of the stream")
