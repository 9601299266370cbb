"""The codec `n5_default`: chunks as N5 stores them, a header and one codec chain for what follows.

`n5.lz4` is no registered codec: `storage.N5View` puts it where N5 says `lz4`.

Specification: https://github.com/zarr-developers/zarr-extensions/tree/main/codecs/n5_default
"""

import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from zarr_core.codecs.base import (
    ArrayBytesCodec,
    Buffer,
    BytesBytesCodec,
    BytesStage,
    ChunkSpec,
    Codec,
    NDArray,
    SerialStage,
)
from zarr_core.codecs.chain import CodecChain
from zarr_core.codecs.checks import (
    check_fields,
    check_size,
    flat_bytes,
    limit_error,
    load_numcodecs,
)
from zarr_core.codecs.layout import BytesCodec, TransposeCodec
from zarr_core.codecs.registry import codec_from_dict
from zarr_core.errors import CodecError, MetadataValidationError, describe

MAX_PADDED_BYTES = 1 << 26
"""A block may be larger than its chunk, when writers pad those at the end of an array; up to this."""

MAX_CHAINS = 64
"""Chains are kept for so many shapes of blocks."""

_START = struct.Struct(">HH")


@dataclass(frozen=True)
class N5DefaultCodec(ArrayBytesCodec):
    """Blocks of N5 in its default mode.

    Parameters
    ----------
    codecs
        A `TransposeCodec` that reverses all axes, a big-endian `BytesCodec` and at most one
        compressor, as codecs or as they stand in a document.

    Examples
    --------
    >>> steps = [zarr.codecs.TransposeCodec(order=(0,)), zarr.codecs.BytesCodec(endian="big")]
    >>> codec = zarr.codecs.N5DefaultCodec(codecs=steps)
    >>> zarr.create_array({}, data=[1, 2, 3], serializer=codec, compressors=None)[:]
    array([1, 2, 3])
    """

    name = "n5_default"

    codecs: Any

    def __post_init__(self) -> None:
        codecs = self.codecs
        if not isinstance(codecs, Iterable) or isinstance(codecs, str | Mapping):
            raise _refused(f"a list of codecs, found {describe(codecs)}")
        made = tuple(c if isinstance(c, Codec) else codec_from_dict(c) for c in codecs)
        object.__setattr__(self, "codecs", made)

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, Any]) -> Self:
        """Return the codec for a document's `configuration`."""
        return cls(check_fields(cls.name, configuration, ("codecs",)).get("codecs"))

    def configuration(self) -> Mapping[str, Any]:
        """Return the configuration as JSON."""
        return {"codecs": [codec.to_dict() for codec in self.codecs]}

    def resolve(self, dtype: np.dtype[Any]) -> "N5DefaultCodec":
        """Return the codec with what its compressor takes from the data type filled in."""
        resolve = [getattr(codec, "resolve", None) for codec in self.codecs]
        pairs = zip(self.codecs, resolve, strict=True)
        return N5DefaultCodec([codec if fill is None else fill(dtype) for codec, fill in pairs])

    def bind(self, spec: ChunkSpec) -> SerialStage:
        """Return the codec bound to chunks of `spec`."""
        self._check(spec)
        ndim, chunk_shape = len(spec.shape), spec.shape
        chains = {chunk_shape: CodecChain(self.codecs, spec)}
        sizes = struct.Struct(f">{ndim}I")
        start = _START.pack(0, ndim) + sizes.pack(*chunk_shape)

        def encode(array: NDArray) -> Buffer:
            return b"".join((start, flat_bytes(chains[chunk_shape].encode(array))))

        def decode(data: Buffer) -> NDArray:
            view = memoryview(flat_bytes(data))
            if len(view) < len(start):
                raise CodecError(f"{len(view)} bytes cannot hold the header of a block")
            mode, found = _START.unpack_from(view)
            if (mode, found) != (0, ndim):
                raise CodecError(
                    f"expected a block of mode 0 and {ndim} dimensions, found mode {mode} and {found}"
                )
            shape = sizes.unpack_from(view, _START.size)
            chain = chains.get(shape)
            if chain is None:
                chain = self._chain(spec, shape)
                if len(chains) < MAX_CHAINS:
                    chains[shape] = chain
            block = chain.decode(view[len(start) :])
            if shape == chunk_shape:
                return block
            part = tuple(slice(min(pair)) for pair in zip(shape, chunk_shape, strict=True))
            array = np.full(chunk_shape, spec.fill_value, spec.dtype)
            array[part] = block[part]
            return array

        return SerialStage(None, encode, decode)

    def _chain(self, spec: ChunkSpec, shape: tuple[int, ...]) -> CodecChain:
        """Return the codecs for a block that is not as large as its chunk."""
        nbytes = math.prod(shape) * spec.dtype.itemsize
        most = max(math.prod(spec.shape) * spec.dtype.itemsize, MAX_PADDED_BYTES)
        if not 0 < nbytes <= most:
            raise CodecError(f"a block of shape {shape} in a chunk of shape {spec.shape}")
        return CodecChain(self.codecs, spec._replace(shape=shape))

    def _check(self, spec: ChunkSpec) -> None:
        if spec.dtype.kind not in "iuf" or spec.dtype.itemsize not in (1, 2, 4, 8):
            raise _refused(f"integers or floats, found {spec.data_type.name}")
        if spec.dtype == np.float16:
            raise _refused("float32 or float64, found float16")
        if not spec.shape or any(n >= 1 << 32 for n in spec.shape):
            raise _refused(f"chunks of 1 dimension or more, each below 2**32, found {spec.shape}")
        match self.codecs:
            case [TransposeCodec(order=order), BytesCodec(endian=endian), *rest] if (
                list(order) == list(range(len(spec.shape)))[::-1]
                and (spec.dtype.itemsize == 1 or endian == "big")
                and len(rest) < 2
                and all(isinstance(codec, BytesBytesCodec) for codec in rest)
            ):
                return
        raise _refused(
            "a transposition of all axes, big-endian bytes and at most one compressor, found "
            f"{describe(self.configuration()['codecs'])}"
        )


_LZ4_BLOCK = struct.Struct("<8sBiiI")  # mark, method, encoded and decoded size, checksum
_LZ4_MARK = b"LZ4Block"
_LZ4_RAW, _LZ4_PACKED = 0x10, 0x20


@dataclass(frozen=True)
class N5Lz4Codec(BytesBytesCodec):
    """LZ4 as N5 has it, to be read: the framing of lz4-java, or one bare block as z5 writes it.

    The framing's checksums are not compared.
    """

    name = "n5.lz4"

    def bind(self, nbytes: int | None, limit: int, dtype: np.dtype[Any]) -> BytesStage:
        """Return the codec bound to its decoded side."""
        unpack = load_numcodecs("numcodecs.lz4").decompress

        def block(data: Buffer, size: int) -> Buffer:
            try:
                return bytes(unpack(size.to_bytes(4, "little") + bytes(data)))
            except (RuntimeError, ValueError, OverflowError) as error:
                raise CodecError(str(error)) from error

        def decode(data: Buffer) -> Buffer:
            view = memoryview(flat_bytes(data))
            if view[:8] != _LZ4_MARK and nbytes is not None:
                return check_size(block(view, nbytes), nbytes, limit)
            decoded = bytearray()
            while view:
                if len(view) < _LZ4_BLOCK.size:
                    raise CodecError(f"{len(view)} bytes cannot hold the header of a block")
                mark, method, packed, size, _ = _LZ4_BLOCK.unpack_from(view)
                method, end = method & 0xF0, _LZ4_BLOCK.size + packed
                is_block = mark == _LZ4_MARK and method in (_LZ4_RAW, _LZ4_PACKED)
                if not is_block or not 0 <= packed <= len(view) - _LZ4_BLOCK.size or size < 0:
                    raise CodecError(f"found no block of LZ4 after {len(decoded)} decoded bytes")
                if len(decoded) + size > limit:
                    raise limit_error(limit)
                part = view[_LZ4_BLOCK.size : end]
                decoded += check_size(
                    block(part, size) if method == _LZ4_PACKED else part, size, size
                )
                view = view[end:]
            return check_size(decoded, nbytes, limit)

        def encode(data: Buffer) -> Buffer:
            raise CodecError("LZ4 as N5 has it is read and not written")

        return BytesStage(None, encode, decode)


def _refused(problem: str) -> MetadataValidationError:
    return MetadataValidationError(f"codec 'n5_default': expected {problem}")
