"""Codecs that only numcodecs names (bz2, lzma, lz4, base64), never decoding more than is allowed."""

import binascii
import sys
from collections.abc import Callable, Mapping
from typing import Any

from zarr_core.codecs.base import Buffer, BytesStage
from zarr_core.codecs.checks import (
    check_fields,
    check_int,
    check_size,
    flat_bytes,
    limit_error,
    load_library,
    load_numcodecs,
    size_error,
)
from zarr_core.errors import CodecError, MetadataValidationError


def bz2_stage(options: Mapping[str, Any], nbytes: int | None, limit: int) -> BytesStage:
    """Return the stage for a `bz2` configuration of numcodecs."""
    bz2 = load_library("bz2", "bz2")
    fields = check_fields("bz2", options, ("level",))
    level = check_int("bz2", "level", fields.get("level", 1), 1, 9)

    def encode(data: Any) -> Buffer:
        return bz2.compress(data, level)  # type: ignore[no-any-return]

    decode = _stream_decoder(bz2.BZ2Decompressor, (OSError, ValueError), nbytes, limit)
    return BytesStage(None, encode, decode)


def lzma_stage(options: Mapping[str, Any], nbytes: int | None, limit: int) -> BytesStage:
    """Return the stage for an `lzma` configuration of numcodecs."""
    lzma = load_library("lzma", "lzma")  # where Python comes in parts, as in WebAssembly
    fields = check_fields("lzma", options, ("format", "check", "preset", "filters"))
    kind = fields.get("format", lzma.FORMAT_XZ)
    check, preset, filters = fields.get("check", -1), fields.get("preset"), fields.get("filters")
    raw = filters if kind == lzma.FORMAT_RAW else None
    problems = (lzma.LZMAError, OverflowError, TypeError, ValueError)

    def decompressor() -> Any:
        return lzma.LZMADecompressor(kind, filters=raw)

    try:
        decompressor()
    except problems as error:
        raise MetadataValidationError(f"codec 'lzma': {error}") from error

    def encode(data: Any) -> Buffer:
        try:
            return lzma.compress(data, kind, check, preset, filters)  # type: ignore[no-any-return]
        except problems as error:
            raise CodecError(str(error)) from error

    # A raw stream can end with its first byte; what follows must not pass as another one.
    decode = _stream_decoder(decompressor, problems, nbytes, limit, single=raw is not None)
    return BytesStage(None, encode, decode)


def _stream_decoder(
    new: Callable[[], Any],
    problems: tuple[type[Exception], ...],
    nbytes: int | None,
    limit: int,
    *,
    single: bool = False,
) -> Callable[[Buffer], Buffer]:
    most = min(limit, sys.maxsize - 1) + 1

    def decode(data: Buffer) -> Buffer:
        view, position = memoryview(flat_bytes(data)), 0
        stream, decoded = new(), bytearray()
        while position < len(view):
            if stream.eof:
                if single:
                    raise CodecError(f"found {len(view) - position} bytes after the end")
                stream = new()
            piece = view[position : position + (1 << 16)]
            try:
                decoded += stream.decompress(piece, most - len(decoded))
            except problems as error:
                raise CodecError(f"{error}, after {len(decoded)} decoded bytes") from error
            if len(decoded) >= most:
                raise limit_error(limit)
            position += len(piece) - len(stream.unused_data)
        if not stream.eof:
            raise CodecError(f"data ends after {len(decoded)} decoded bytes, within a stream")
        if nbytes is not None and len(decoded) != nbytes:
            raise size_error(nbytes, len(decoded))
        return decoded

    return decode


def lz4_stage(options: Mapping[str, Any], nbytes: int | None, limit: int) -> BytesStage:
    """Return the stage for an `lz4` configuration of numcodecs: a size, then one block."""
    fields = check_fields("lz4", options, ("acceleration",))
    acceleration = check_int("lz4", "acceleration", fields.get("acceleration", 1), -(1 << 31))
    lz4 = load_numcodecs("numcodecs.lz4")
    problems = (RuntimeError, ValueError, OverflowError)

    def decode(data: Buffer) -> Buffer:
        data = flat_bytes(data)
        if len(data) < 5:
            raise CodecError(f"{len(data)} bytes cannot hold a size and a block")
        # The library allocates whatever the size says.
        size = int.from_bytes(data[:4], "little")
        if nbytes is not None and size != nbytes:
            raise size_error(nbytes, size)
        if size > limit:
            raise limit_error(limit)
        try:
            return lz4.decompress(data)  # type: ignore[no-any-return]
        except problems as error:
            raise CodecError(str(error)) from error

    def encode(data: Buffer) -> Buffer:
        try:
            return lz4.compress(data, acceleration)  # type: ignore[no-any-return]
        except problems as error:
            raise CodecError(str(error)) from error

    return BytesStage(None, encode, decode)


def base64_stage(options: Mapping[str, Any], nbytes: int | None, limit: int) -> BytesStage:
    """Return the stage for a `base64` configuration of numcodecs."""
    check_fields("base64", options, ())

    def decode(data: Any) -> Buffer:
        try:
            decoded = binascii.a2b_base64(flat_bytes(data), strict_mode=True)
        except binascii.Error as error:
            raise CodecError(str(error)) from error
        return check_size(decoded, nbytes, limit)

    def encode(data: Any) -> Buffer:
        return binascii.b2a_base64(data, newline=False)

    return BytesStage(None if nbytes is None else 4 * (-(-nbytes // 3)), encode, decode)
