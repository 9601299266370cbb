"""The `zstd` codec.

Specification: https://github.com/zarr-developers/zarr-extensions/tree/main/codecs/zstd and, for
frames, RFC 8878.

Contexts of the library must never be shared between threads, and making one costs more than
decoding a small chunk: every thread keeps its own.
"""

import importlib
import struct
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from zarr_core.codecs.base import Buffer, BytesBytesCodec, BytesStage, NDArray
from zarr_core.codecs.checks import (
    check_bool,
    check_int,
    flat_bytes,
    limit_error,
    load_library,
    load_numcodecs,
    size_error,
)
from zarr_core.errors import CodecError, UnknownCodecError

MIN_LEVEL, MAX_LEVEL = -131072, 22

# Below, keeping a context and decoding in batches is what counts; above, numcodecs' build of the
# library encodes faster, and a batch would only take memory.
_LARGE = 256 << 10

_thread = threading.local()


@dataclass(frozen=True, kw_only=True)
class ZstdCodec(BytesBytesCodec):
    """Zstandard. `level` is from -131072 (fastest) to 22 (smallest), 0 is the library's default.

    With `checksum` every chunk carries a checksum of its decoded bytes.

    >>> codec = zarr.codecs.ZstdCodec(level=9, checksum=True)
    >>> zarr.create_array({}, data=[1, 2, 3], compressors=codec)[:]
    array([1, 2, 3])
    """

    name = "zstd"

    level: int = 0
    checksum: bool = False

    def __post_init__(self) -> None:
        level = check_int(self.name, "level", self.level, MIN_LEVEL, MAX_LEVEL)
        object.__setattr__(self, "level", level)
        check_bool(self.name, "checksum", self.checksum)

    def bind(self, nbytes: int | None, limit: int, dtype: np.dtype[Any]) -> BytesStage:
        """Return the codec bound to its decoded side."""
        encode_cost = 2.0 + 0.1 * max(self.level, 0) ** 2
        limit = min(limit, sys.maxsize)
        if (library := _standard_library()) is not None:
            encode, decode = _standard_functions(library, self, nbytes, limit)
            return BytesStage(None, encode, decode, decode_cost=0.5, encode_cost=encode_cost)
        decode = _decoder(nbytes, limit)
        return BytesStage(
            None,
            _encoder(self),
            decode,
            _decoder_into(nbytes, decode) if nbytes and 1 << 20 <= nbytes <= limit else None,
            _batch_decoder(nbytes, decode)
            if nbytes and nbytes <= _LARGE and _has_batches()
            else None,
            decode_cost=0.5,
            encode_cost=encode_cost,
        )


# --- frames --------------------------------------------------------------------------------------


class _Frame(NamedTuple):
    end: int
    content_size: int | None  # None when it is not stored
    bound: int  # its blocks cannot decode to more


_MAGIC = 0xFD2FB528
_MAX_BLOCK = 128 << 10
_DICTIONARY_BYTES = (0, 1, 2, 4)


def _read_frame(data: memoryview, start: int) -> _Frame:
    """Return where the frame at `start` ends and what it can hold.

    Only headers are looked at. Raises `CodecError` for anything but a complete frame.
    """

    def number(position: int, size: int) -> int:
        if position + size > len(data):
            raise CodecError(f"data ends within the frame that starts at byte {start}")
        return int.from_bytes(data[position : position + size], "little")

    if number(start, 4) != _MAGIC:
        raise CodecError(f"found {len(data) - start} bytes at byte {start} that are no frame")
    descriptor = number(start + 4, 1)
    single_segment = descriptor >> 5 & 1
    position = start + 6 - single_segment + _DICTIONARY_BYTES[descriptor & 3]
    size_bytes = (single_segment, 2, 4, 8)[descriptor >> 6]
    content_size = number(position, size_bytes) + (256 if size_bytes == 2 else 0)
    position += size_bytes
    bound = last = 0
    while not last:
        block = number(position, 3)
        last, kind, size = block & 1, block >> 1 & 3, block >> 3
        bound += size if kind < 2 else _MAX_BLOCK
        position += 3 + (1 if kind == 1 else size)
    position += 4 if descriptor & 4 else 0
    if position > len(data):
        raise CodecError(f"data ends within the frame that starts at byte {start}")
    return _Frame(position, content_size if size_bytes else None, bound)


def _skipped_frame(data: memoryview, start: int) -> int:
    """Return where the skippable frame at `start` ends; `start` if there is none."""
    header = data[start : start + 8]
    if len(header) == 8 and 0x50 <= header[0] <= 0x5F and bytes(header[1:4]) == b"\x2a\x4d\x18":
        return start + 8 + int.from_bytes(header[4:], "little")
    return start


def _decode_frames(
    data: Buffer,
    nbytes: int | None,
    limit: int,
    decode_frame: Callable[[memoryview, _Frame, int], Buffer],
) -> bytes:
    """Return what any sequence of frames decodes to; raise `CodecError` if that is not possible."""
    view = memoryview(flat_bytes(data))
    parts: list[Any] = []
    position, room = 0, limit
    while position < len(view) or not position:
        if (after := _skipped_frame(view, position)) > position:
            position = after
            continue
        frame = _read_frame(view, position)
        if frame.content_size is not None and frame.content_size > frame.bound:
            raise CodecError(f"{frame.content_size} bytes cannot come from the blocks of the frame")
        if frame.content_size is not None and frame.content_size > room:
            raise limit_error(limit)
        parts.append(decode_frame(view[position : frame.end], frame, room))
        room -= len(parts[-1])
        if room < 0:
            raise limit_error(limit)
        position = frame.end
    if position > len(view):
        raise CodecError("data ends within a frame")
    if nbytes is not None and limit - room != nbytes:
        raise size_error(nbytes, limit - room)
    return b"".join(parts)


def _plain_frame_test(nbytes: int) -> Callable[[Buffer], bool]:
    """Return a test whether data is exactly one frame, complete and with this content size."""
    width, flag = next(
        (width, flag)
        for flag, width, end in ((0, 1, 256), (1, 2, 65792), (2, 4, 1 << 32), (3, 8, 1 << 64))
        if nbytes < end
    )
    content_size = (nbytes - (256 if width == 2 else 0)).to_bytes(width, "little")
    # What libraries write when they get all data at once.
    plain = _MAGIC.to_bytes(4, "little") + bytes([flag << 6 | 0x20]) + content_size
    checked = plain[:4] + bytes([plain[4] | 4]) + content_size
    header, from_bytes = len(plain), int.from_bytes
    plain_number, checked_number = from_bytes(plain, "little"), from_bytes(checked, "little")
    bits = 8 * header
    mask = (1 << bits) - 1

    def is_plain(data: Any) -> bool:
        if isinstance(data, np.ndarray):
            data = flat_bytes(data)
        # The header and the first block's as one number: most chunks are a single block.
        start = from_bytes(data[: header + 3], "little")
        if start & mask == plain_number:
            checksum = 0
        elif start & mask == checked_number:
            checksum = 4
        else:
            return is_single(data)
        position, size, block = header, len(data), start >> bits
        while True:
            position += 3 + (1 if block & 6 == 2 else block >> 3)
            if block & 1 or position >= size:
                return bool(block & 1) and position + checksum == size
            block = from_bytes(data[position : position + 3], "little")

    def is_single(data: Any) -> bool:
        view = memoryview(data)
        try:
            frame = _read_frame(view, 0)
        except CodecError:
            return False
        return frame.end == len(view) and frame.content_size == nbytes

    return is_plain


# --- with the package zstandard ------------------------------------------------------------------


@cache
def _zstandard() -> Any:
    """Return the package; nothing can be imported at interpreter exit."""
    return load_library("zstandard", "zstandard")


@cache
def _has_batches() -> bool:
    return "multi_decompress_to_buffer" in _zstandard().backend_features


def _new_decompressor() -> Any:
    _thread.decompressor = _zstandard().ZstdDecompressor()
    _thread.decompress = _thread.decompressor.decompress
    return _thread.decompress


def _decoder(nbytes: int | None, limit: int) -> Callable[[Buffer], Buffer]:
    zstandard = _zstandard()
    content_size, error, thread = zstandard.frame_content_size, zstandard.ZstdError, _thread
    # The library allocates whatever the header says. Without a size to compare with, headers of
    # large frames are first compared with their blocks.
    most = min(limit, 16 << 20)

    def decode(data: Any) -> Buffer:
        try:
            decompress = thread.decompress
        except AttributeError:
            decompress = _new_decompressor()
        try:
            size = content_size(data)
            # After a size of 0 the library looks no further.
            if size > 0 and (size == nbytes or (nbytes is None and size <= most)):
                return decompress(data, allow_extra_data=False)  # type: ignore[no-any-return]
        except error:
            pass
        return _decode_frames(data, nbytes, limit, _decode_frame)

    return decode


def _decode_frame(data: memoryview, frame: _Frame, room: int) -> Buffer:
    """Return what the one frame in `data` decodes to, if that is not more than `room` bytes."""
    zstandard = _zstandard()
    decompress = getattr(_thread, "decompress", None) or _new_decompressor()
    most = max(min(frame.bound, room), 1)  # 0 would mean "no limit"
    try:
        return decompress(data, max_output_size=most)  # type: ignore[no-any-return]
    except zstandard.ZstdError as error:
        raise CodecError(str(error)) from error


def _decoder_into(
    nbytes: int, decode: Callable[[Buffer], Buffer]
) -> Callable[[Buffer, NDArray], None]:
    zstandard = _zstandard()
    is_plain = _plain_frame_test(nbytes)

    def decode_into(data: Buffer, out: NDArray) -> None:
        if not is_plain(data):
            out[...] = np.frombuffer(decode(data), np.uint8)
            return
        if not hasattr(_thread, "decompressor"):
            _new_decompressor()
        size = 0
        try:
            with _thread.decompressor.stream_reader(data) as reader:
                while got := reader.readinto(out[size:]):
                    size += got
                # The checksum is only looked at by a reader that asks for what follows.
                size += len(reader.read(1))
        except zstandard.ZstdError as error:
            raise CodecError(str(error)) from error
        if size != nbytes:
            raise size_error(nbytes, size)

    return decode_into


def _batch_decoder(
    nbytes: int, decode: Callable[[Buffer], Buffer]
) -> Callable[[Sequence[Buffer]], Sequence[Buffer]]:
    zstandard = _zstandard()
    is_plain = _plain_frame_test(nbytes)
    packed_size = struct.pack("=Q", nbytes)

    def decode_many(frames: Sequence[Buffer]) -> Sequence[Buffer]:
        if not frames:
            return []
        # The library would not see what follows a frame.
        if not all(map(is_plain, frames)):
            return [decode(frame) for frame in frames]
        if not hasattr(_thread, "decompressor"):
            _new_decompressor()
        try:
            batch = _thread.decompressor.multi_decompress_to_buffer(
                list(frames), decompressed_sizes=packed_size * len(frames), threads=0
            )
        except zstandard.ZstdError:
            # One by one, so that the error is that of the frame.
            return [decode(frame) for frame in frames]
        decoded = [memoryview(segment) for segment in batch]
        for size in set(map(len, decoded)) - {nbytes}:
            raise size_error(nbytes, size)
        return decoded

    return decode_many


def _encoder(codec: ZstdCodec) -> Callable[[Buffer], Buffer]:
    key = (codec.level, codec.checksum)
    thread, encode_large = _thread, _numcodecs_encoder(codec)

    def encode(data: Buffer) -> Buffer:
        if len(data) > _LARGE:
            return encode_large(data)
        try:
            compress = thread.compressors[key]
        except (AttributeError, KeyError):
            compress = _new_compressor(codec)
        return compress(data)  # type: ignore[no-any-return]

    return encode


def _new_compressor(codec: ZstdCodec) -> Any:
    compressor = _zstandard().ZstdCompressor(level=codec.level, write_checksum=codec.checksum)
    if not hasattr(_thread, "compressors"):
        _thread.compressors = {}
    compress = _thread.compressors[codec.level, codec.checksum] = compressor.compress
    return compress


def _numcodecs_encoder(codec: ZstdCodec) -> Callable[[Buffer], Buffer]:
    level, checksum = codec.level, codec.checksum

    def encode(data: Buffer) -> Buffer:
        try:
            compress = load_numcodecs("numcodecs.zstd").compress
        except UnknownCodecError:
            return _new_compressor(codec)(data)  # type: ignore[no-any-return]
        try:
            return compress(data, level, checksum)  # type: ignore[no-any-return]
        except (RuntimeError, ValueError) as error:
            raise CodecError(str(error)) from error

    return encode


# --- with the standard library -------------------------------------------------------------------


@cache
def _standard_library() -> Any:
    """Return the module of Python 3.14 or its backport; None where zstandard, which is faster, is."""
    try:
        _zstandard()
    except UnknownCodecError:
        for name in ("compression.zstd", "backports.zstd"):
            with suppress(ImportError):
                return importlib.import_module(name)
        raise
    return None


def _standard_functions(
    library: Any, codec: ZstdCodec, nbytes: int | None, limit: int
) -> tuple[Callable[[Buffer], Buffer], Callable[[Buffer], Buffer]]:
    """Return how to encode and to decode."""
    parameter = library.CompressionParameter
    options = {parameter.compression_level: codec.level, parameter.checksum_flag: codec.checksum}

    def encode(data: Buffer) -> Buffer:
        return library.compress(data, options=options)  # type: ignore[no-any-return]

    def decode_frame(data: memoryview, frame: _Frame, room: int) -> Buffer:
        decompressor = library.ZstdDecompressor()
        try:
            # One more than there can be, so that it gets to the end of the frame.
            decoded: bytes = decompressor.decompress(data, min(frame.bound, room) + 1)
        except library.ZstdError as error:
            raise CodecError(str(error)) from error
        if not decompressor.eof:
            raise limit_error(room)
        return decoded

    def decode(data: Buffer) -> Buffer:
        return _decode_frames(data, nbytes, limit, decode_frame)

    return encode, decode
