"""The codecs of an array bound to the shape and data type of its chunks."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn, final

import numpy as np

from zarr_core.codecs.base import (
    ArrayArrayCodec,
    ArrayBytesCodec,
    ArrayStage,
    Buffer,
    BytesBytesCodec,
    BytesStage,
    ChunkSpec,
    Codec,
    NDArray,
    SerialStage,
)
from zarr_core.codecs.checks import encoded_limit, flat_bytes, size_error, variable_limit
from zarr_core.codecs.layout import inverse_permutation
from zarr_core.errors import MetadataValidationError, describe

_VARIABLE_ITEM_BYTES = 16
"""A guess at the size of an element of variable length, for estimates of time."""


class _Bound(NamedTuple):
    arrays: tuple[tuple[str, ArrayStage], ...]
    serial: tuple[str, SerialStage]
    bytes: tuple[tuple[str, BytesStage], ...]
    decode_cost: float
    encode_cost: float


def split_codecs(
    codecs: Sequence[Codec],
) -> tuple[list[ArrayArrayCodec], ArrayBytesCodec, list[BytesBytesCodec]]:
    """Return the codecs by kind; raise `MetadataValidationError` if they are not in this order."""
    arrays: list[ArrayArrayCodec] = []
    serials: list[ArrayBytesCodec] = []
    compressors: list[BytesBytesCodec] = []
    for codec in codecs:
        if not isinstance(codec, Codec):
            raise MetadataValidationError(f"expected a codec, found {describe(codec)}")
        if isinstance(codec, BytesBytesCodec):
            if not serials:
                raise MetadataValidationError(
                    f"codec {codec.name!r} takes bytes, but no codec before it makes bytes"
                )
            compressors.append(codec)
        elif serials:
            raise MetadataValidationError(
                f"codec {codec.name!r} takes arrays, but {serials[0].name!r} before it makes bytes"
            )
        elif isinstance(codec, ArrayBytesCodec):
            serials.append(codec)
        elif isinstance(codec, ArrayArrayCodec):
            arrays.append(codec)
        else:
            raise MetadataValidationError(f"codec {codec.name!r} is of no kind that is known")
    if not serials:
        names = ", ".join(repr(codec.name) for codec in codecs) or "none"
        raise MetadataValidationError(f"no codec makes bytes of an array; found {names}")
    return arrays, serials[0], compressors


def _bind(codecs: Sequence[Codec], spec: ChunkSpec) -> _Bound:
    arrays, serial_codec, compressors = split_codecs(codecs)
    bound_arrays = []
    for codec in arrays:
        stage = codec.bind(spec)
        bound_arrays.append((codec.name, stage))
        spec = stage.spec
    serial = serial_codec.bind(spec)
    count = math.prod(spec.shape)
    nbytes = serial.nbytes
    limit = nbytes if nbytes is not None else _serial_limit(spec)
    dtype = serial.dtype or spec.dtype
    size = count * (_VARIABLE_ITEM_BYTES if spec.dtype.kind in "OT" else spec.dtype.itemsize)
    bound_bytes = []
    decode_cost = encode_cost = 0.0
    for compressor in compressors:
        compressed = compressor.bind(nbytes, limit, dtype)
        bound_bytes.append((_label(compressor), compressed))
        decode_cost += compressed.decode_cost * size / 1000
        encode_cost += compressed.encode_cost * size / 1000
        nbytes = compressed.nbytes
        limit = nbytes if nbytes is not None else encoded_limit(limit)
        dtype = np.dtype("u1")
    return _Bound(
        tuple(bound_arrays),
        (_label(serial_codec), serial),
        tuple(bound_bytes),
        decode_cost,
        encode_cost,
    )


def _label(codec: Codec) -> str:
    """Return the name of a codec for messages; those of format 2 say what they stand for."""
    return getattr(codec, "label", codec.name)


def _serial_limit(spec: ChunkSpec) -> int:
    """Return a bound for serialised chunks whose size varies."""
    if spec.dtype.kind in "OT":
        return variable_limit()
    # A shard of the smallest inner chunks has an index entry and headers for each element.
    return encoded_limit(math.prod(spec.shape) * (2 * spec.dtype.itemsize + 128))


def resolve_codecs(codecs: Sequence[Codec], spec: ChunkSpec) -> tuple[Codec, ...]:
    """Return the codecs as they are to be written: with all that follows from the data type.

    Codecs with something to fill in have a method `resolve(dtype)`.

    >>> from zarr_core.codecs.base import spec_of
    >>> chain = [zarr.codecs.BytesCodec(), zarr.codecs.BloscCodec()]
    >>> zarr.codecs.resolve_codecs(chain, spec_of((2,), "f4"))[1].typesize
    4
    """
    split_codecs(codecs)
    resolved: list[Codec] = []
    dtype = spec.dtype
    for codec in codecs:
        resolve = getattr(codec, "resolve", None)
        after: Codec = codec if resolve is None else resolve(dtype)
        resolved.append(after)
        if isinstance(after, ArrayArrayCodec):
            spec = after.bind(spec).spec
            dtype = spec.dtype
        elif isinstance(after, BytesBytesCodec):
            dtype = np.dtype("u1")
    return tuple(resolved)


@final
class CodecChain:
    """The codecs of an array, bound: what turns a chunk into stored bytes and back.

    It does not change, may be used by any number of threads, and is not to be pickled: it is made
    of functions.

    Functions raise `CodecError` for data that they cannot decode or encode.

    >>> a = zarr.create_array({}, shape=4, dtype="i2", compressors=None)
    >>> [codec.name for codec in a.metadata.codecs]
    ['bytes']
    """

    decode_bytes: Callable[[Buffer], Buffer]
    encode_bytes: Callable[[Buffer], Buffer]
    decode: Callable[[Buffer], NDArray]
    encode: Callable[[NDArray], Buffer]
    decode_cost: float
    encode_cost: float

    def __init__(self, codecs: Sequence[Codec], spec: ChunkSpec) -> None:
        """Bind `codecs`; raise `MetadataValidationError` or `UnknownCodecError`."""
        self.codecs: tuple[Codec, ...] = tuple(codecs)
        self.spec = spec
        """What is known of every decoded chunk."""
        self._bound = bound = _bind(codecs, spec)
        arrays = tuple(stage for _, stage in bound.arrays)
        serial = bound.serial[1]
        filters = tuple(stage for _, stage in bound.bytes)
        self.nbytes: int | None = _memory_bytes(spec)
        """Size of a decoded chunk in memory; None for elements of variable length."""
        self.native: bool = serial.native and not arrays
        """Whether serialised bytes are the C-contiguous memory of the chunk."""
        self.raw: bool = self.native and not filters
        """Whether encoded data is that, too: nothing compresses or checks it."""
        self.fixed_nbytes: int | None = filters[-1].nbytes if filters else serial.nbytes
        """Size of an encoded chunk when all have the same."""
        self.axes: tuple[int, ...] | None = _compose_axes(arrays)
        """How the axes are permuted before they are serialised; None if they are not, or if there
        are other array-to-array codecs."""
        self.decode_bytes, self.encode_bytes = _compose_bytes(filters, serial.nbytes)
        """Encoded data -> exactly the serialised bytes, and back."""
        self.decode, self.encode = _compose(bound, self.axes, self.decode_bytes, self.encode_bytes)
        """Encoded data -> array of the spec's shape and dtype, perhaps a read-only view; and array
        -> encoded data, perhaps a view of the array."""
        self.decode_into: Callable[[Buffer, NDArray], None] | None = (
            _compose_into(filters, self.decode_bytes) if self.native else None
        )
        """Encoded data and a flat, writable array of uint8 to decode into, or None."""
        self.decode_many: Callable[[Sequence[Buffer]], Sequence[Buffer]] | None = (
            filters[0].decode_many if len(filters) == 1 else None
        )
        """A batch of encoded data -> the serialised bytes of each, or None."""
        self.decode_cost, self.encode_cost = bound.decode_cost, bound.encode_cost
        """Microseconds of a chunk without the GIL, roughly."""
        self.partial: Any = serial.partial if not filters and (self.axes or not arrays) else None
        """The object that reads and writes parts of a chunk through a store, or None."""

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(self, "partial"):  # what is set last
            raise AttributeError("a codec chain does not change")
        super().__setattr__(name, value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a codec chain cannot be pickled; make a new one from its codecs and spec")

    def __repr__(self) -> str:
        return f"<CodecChain {' '.join(codec.name for codec in self.codecs)}>"

    def blame(self, data: Buffer) -> str | None:
        """Return the name of the codec that cannot decode `data`, None if all can."""
        for name, stage in reversed(self._bound.bytes):
            try:
                data = stage.decode(data)
            except Exception:  # noqa: BLE001 - codecs of others raise anything
                return name
        name, serial = self._bound.serial
        try:
            array = serial.decode(data)
            for part in reversed(self._bound.arrays):
                name = part[0]
                array = part[1].decode(array)
        except Exception:  # noqa: BLE001
            return name
        return None


def _memory_bytes(spec: ChunkSpec) -> int | None:
    if spec.dtype.kind in "OT":
        return None
    return math.prod(spec.shape) * spec.dtype.itemsize


def _compose_axes(stages: Sequence[ArrayStage]) -> tuple[int, ...] | None:
    """Return the permutation that all stages together are, None if there is none."""
    axes: tuple[int, ...] | None = None
    for stage in stages:
        if stage.axes is None:
            return None
        axes = stage.axes if axes is None else tuple(axes[axis] for axis in stage.axes)
    return axes


# --- composing functions -------------------------------------------------------------------------
#
# A chunk goes through as few Python frames as its codecs allow, so the usual chains have their own.


def _compose_bytes(
    stages: Sequence[BytesStage], nbytes: int | None
) -> tuple[Callable[[Buffer], Buffer], Callable[[Buffer], Buffer]]:
    """Return the functions between serialised and encoded bytes."""
    if not stages:
        return _checked(nbytes), _identity
    if len(stages) == 1:
        return _checked(nbytes, stages[0].decode), stages[0].encode
    decoders = [stage.decode for stage in reversed(stages)]
    encoders = [stage.encode for stage in stages]

    def decode(data: Buffer) -> Buffer:
        for function in decoders:
            data = function(data)
        return data

    def encode(data: Buffer) -> Buffer:
        for function in encoders:
            data = function(data)
        return data

    return _checked(nbytes, decode), encode


def _identity(data: Buffer) -> Buffer:
    return data


def _checked(
    nbytes: int | None, decode: Callable[[Buffer], Buffer] = _identity
) -> Callable[[Buffer], Buffer]:
    """Return `decode` with a check of the size of what it returns."""
    if nbytes is None:
        return decode

    def check(data: Buffer) -> Buffer:
        if len(data) == nbytes:
            return data
        data = flat_bytes(data)
        if len(data) != nbytes:
            raise size_error(nbytes, len(data))
        return data

    if decode is _identity:
        return check

    def decode_checked(data: Buffer) -> Buffer:
        decoded = decode(data)
        return decoded if len(decoded) == nbytes else check(decoded)

    return decode_checked


def _compose(
    bound: _Bound,
    axes: tuple[int, ...] | None,
    decode_bytes: Callable[[Buffer], Buffer],
    encode_bytes: Callable[[Buffer], Buffer],
) -> tuple[Callable[[Buffer], NDArray], Callable[[NDArray], Buffer]]:
    """Return the functions between arrays and encoded bytes."""
    serial = bound.serial[1]
    decode_serial, encode_serial = serial.decode, serial.encode
    decode_array, encode_array = decode_serial, encode_serial
    if bound.bytes:
        last = bound.bytes[0][1].decode if len(bound.bytes) == 1 else decode_bytes

        # Deserialising checks the size.
        def decode_through(data: Buffer) -> NDArray:
            return decode_serial(last(data))

        def encode_through(array: NDArray) -> Buffer:
            return encode_bytes(encode_serial(array))

        decode_array, encode_array = decode_through, encode_through
    if not bound.arrays:
        return decode_array, encode_array
    if axes is not None:
        inverse = inverse_permutation(axes)

        def decode_permuted(data: Buffer) -> NDArray:
            return decode_array(data).transpose(inverse)

        def encode_permuted(array: NDArray) -> Buffer:
            return encode_array(array.transpose(axes))

        return decode_permuted, encode_permuted
    decoders = [stage.decode for _, stage in reversed(bound.arrays)]
    encoders = [stage.encode for _, stage in bound.arrays]

    def decode(data: Buffer) -> NDArray:
        array = decode_array(data)
        for function in decoders:
            array = function(array)
        return array

    def encode(array: NDArray) -> Buffer:
        for function in encoders:
            array = function(array)
        return encode_array(array)

    return decode, encode


def _compose_into(
    stages: Sequence[BytesStage], decode_bytes: Callable[[Buffer], Buffer]
) -> Callable[[Buffer, NDArray], None] | None:
    """Return the function that decodes into memory."""
    if len(stages) == 1:
        return stages[0].decode_into
    if stages:
        return None

    def copy_into(data: Buffer, out: NDArray) -> None:
        out[...] = np.frombuffer(decode_bytes(data), np.uint8)

    return copy_into
