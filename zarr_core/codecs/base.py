"""The three kinds of codec, and what a codec becomes when it is bound to a chunk.

A codec class (`ZstdCodec(level=3)`) is plain, frozen configuration: what a user writes and what a
metadata document says. Before data flows it is *bound* once per array state: it sees the shape and
data type of the chunks that it will get and answers with a stage, a small tuple of functions that
need no further arguments. All checks that do not depend on the data happen while binding.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/core/v3.0.html#codecs
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING
from typing import Any, ClassVar, NamedTuple, Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from zarr_core.codecs.checks import check_fields, flat_bytes, variable_limit
from zarr_core.metadata.data_types import DataType

NDArray: TypeAlias = npt.NDArray[Any]

Buffer: TypeAlias = bytes | bytearray | memoryview | NDArray
"""Encoded data: anything C-contiguous with the buffer protocol; its bytes are what counts."""


class ChunkSpec(NamedTuple):
    """What is known of every chunk that enters a codec.

    >>> zarr.codecs.ChunkSpec._fields
    ('shape', 'data_type', 'dtype', 'fill_value')
    """

    shape: tuple[int, ...]
    data_type: DataType
    dtype: np.dtype[Any]  # of the array in memory
    fill_value: Any  # a NumPy scalar of dtype, or str / bytes for variable-length types


def spec_of(shape: Sequence[int], dtype: Any, fill_value: Any = None) -> ChunkSpec:
    """Return what is known of chunks of a shape and a data type (NumPy's, or a `DataType`)."""
    kind = dtype if isinstance(dtype, DataType) else DataType(np.dtype(dtype))
    fill = kind.default_fill if fill_value is None else kind.cast_fill(fill_value)
    return ChunkSpec(tuple(shape), kind, kind.dtype, fill)


class ArrayStage(NamedTuple):
    """A bound array-to-array codec."""

    spec: ChunkSpec  # of what it produces
    encode: Callable[[NDArray], NDArray]
    decode: Callable[[NDArray], NDArray]
    axes: tuple[int, ...] | None = None  # the codec only permutes axes, like numpy.transpose(axes)


class PartialCodec(Protocol):
    """A bound codec that reads and writes parts of its chunk through a store (sharding)."""


class SerialStage(NamedTuple):
    """A bound array-to-bytes codec."""

    nbytes: int | None  # encoded size in bytes when every chunk has the same
    encode: Callable[[NDArray], Buffer]  # may return a view on its argument
    decode: Callable[[Buffer], NDArray]  # shape and dtype of the spec; may be a read-only view
    native: bool = False  # encoded bytes are the C-contiguous memory of the array
    partial: Any = None  # a PartialCodec
    dtype: np.dtype[Any] | None = None  # of the serialised elements, when not that of the spec


class BytesStage(NamedTuple):
    """A bound bytes-to-bytes codec."""

    nbytes: int | None  # encoded size in bytes when every chunk has the same
    encode: Callable[[Buffer], Buffer]
    decode: Callable[[Buffer], Buffer]
    # Decode into a writable, contiguous, flat uint8 array of exactly the decoded size.
    decode_into: Callable[[Buffer, NDArray], None] | None = None
    # Decode a batch in one call that releases the GIL once; as many results as arguments.
    decode_many: Callable[[Sequence[Buffer]], Sequence[Buffer]] | None = None
    # Rough cost of decoding and encoding one byte, in ns, of work done without the GIL.
    # 0: not worth a thread.
    decode_cost: float = 0.0
    encode_cost: float = 0.0


class Codec(ABC):
    """Configuration of a codec; see the three kinds below.

    >>> zarr.codecs.GzipCodec(level=1).to_dict()
    {'name': 'gzip', 'configuration': {'level': 1}}
    """

    name: ClassVar[str]
    """The codec's name in metadata documents."""

    def configuration(self) -> Mapping[str, Any]:
        """Return the configuration as JSON: by default the fields of the dataclass.

        >>> zarr.codecs.GzipCodec(level=1).configuration()
        {'level': 1}
        """
        return {name: getattr(self, name) for name in self._fields()}

    @classmethod
    def _fields(cls) -> list[str]:
        return list(getattr(cls, "__dataclass_fields__", {}))

    @classmethod
    def _required(cls) -> list[str]:
        # With an __init__ of its own, only that knows.
        is_plain = getattr(getattr(cls, "__dataclass_params__", None), "init", False)
        fields: Mapping[str, Any] = getattr(cls, "__dataclass_fields__", {}) if is_plain else {}
        return [n for n, f in fields.items() if f.default is f.default_factory is MISSING]

    def to_dict(self) -> dict[str, Any]:
        """Return the codec as it stands in a metadata document.

        >>> zarr.codecs.TransposeCodec(order=(1, 0)).to_dict()
        {'name': 'transpose', 'configuration': {'order': [1, 0]}}
        """
        configuration = dict(self.configuration())
        data: dict[str, Any] = {"name": self.name}
        return {**data, "configuration": configuration} if configuration else data

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, Any]) -> Self:
        """Return the codec for a document's `configuration`; raise `MetadataValidationError`.

        >>> zarr.codecs.GzipCodec.from_configuration({"level": 1})
        GzipCodec(level=1)
        """
        return cls(**check_fields(cls.name, configuration, cls._fields(), cls._required()))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the codec for a document's entry.

        >>> zarr.codecs.GzipCodec.from_dict({"name": "gzip", "configuration": {"level": 1}})
        GzipCodec(level=1)
        """
        return cls.from_configuration(data.get("configuration") or {})

    def evolve_from_array_spec(self, array_spec: Any) -> Self:
        """Return the codec with what it takes from the data type filled in.

        `array_spec` has a `dtype`: NumPy's, or a `DataType`.

        >>> zarr.codecs.BloscCodec().evolve_from_array_spec(np.zeros(2, "f4")).typesize
        4
        """
        resolve = getattr(self, "resolve", None)
        dtype = array_spec.dtype
        return resolve(getattr(dtype, "dtype", dtype)) if resolve else self

    def validate(self, *, shape: Sequence[int], dtype: Any, chunk_grid: Any = None) -> None:
        """Raise `MetadataValidationError` if the codec does not suit chunks of a shape and type.

        >>> zarr.codecs.TransposeCodec(order=(1, 0)).validate(shape=(2, 3), dtype="f4")
        """
        self._bound(spec_of(shape, dtype))

    def _bound(self, spec: ChunkSpec) -> Any:
        bind: Any = self.evolve_from_array_spec(spec).bind  # type: ignore[attr-defined]
        return bind(spec)


class ArrayArrayCodec(Codec):
    """Arrays in, arrays out.

    >>> isinstance(zarr.codecs.TransposeCodec(order=(1, 0)), zarr.codecs.ArrayArrayCodec)
    True
    """

    @abstractmethod
    def bind(self, spec: ChunkSpec) -> ArrayStage:
        """Return the codec bound to chunks of `spec`."""

    def encode(self, array: NDArray) -> NDArray:
        """Return what becomes of one chunk.

        >>> zarr.codecs.TransposeCodec(order=(1, 0)).encode(np.zeros((2, 3))).shape
        (3, 2)
        """
        return np.array(self._bound(spec_of(array.shape, array.dtype)).encode(array))

    def decode(self, array: NDArray, *, shape: Sequence[int], dtype: Any) -> NDArray:
        """Return one chunk of the given shape and data type from what became of it.

        >>> codec = zarr.codecs.TransposeCodec(order=(1, 0))
        >>> codec.decode(np.zeros((3, 2)), shape=(2, 3), dtype="f8").shape
        (2, 3)
        """
        return np.array(self._bound(spec_of(shape, dtype)).decode(array))


class ArrayBytesCodec(Codec):
    """Arrays in, bytes out: exactly one in every chain.

    >>> isinstance(zarr.codecs.BytesCodec(), zarr.codecs.ArrayBytesCodec)
    True
    """

    @abstractmethod
    def bind(self, spec: ChunkSpec) -> SerialStage:
        """Return the codec bound to chunks of `spec`."""

    def encode(self, array: NDArray) -> bytes:
        """Return the bytes of one chunk.

        >>> list(zarr.codecs.BytesCodec().encode(np.array([1, 2], "i2")))
        [1, 0, 2, 0]
        """
        return bytes(flat_bytes(self._bound(spec_of(array.shape, array.dtype)).encode(array)))

    def decode(self, data: Buffer, *, shape: Sequence[int], dtype: Any) -> NDArray:
        """Return one chunk of the given shape and data type; raise `CodecError` for damaged bytes.

        >>> zarr.codecs.BytesCodec().decode(bytes([1, 0, 2, 0]), shape=(2,), dtype="i2")
        array([1, 2], dtype=int16)
        """
        return np.array(self._bound(spec_of(shape, dtype)).decode(data))

    def compute_encoded_size(self, shape: Sequence[int], dtype: Any) -> int | None:
        """Return how many bytes each chunk of a shape and data type has; None when that varies.

        >>> zarr.codecs.BytesCodec().compute_encoded_size((10, 10), "i2")
        200
        """
        size: int | None = self._bound(spec_of(shape, dtype)).nbytes
        return size


class BytesBytesCodec(Codec):
    """Bytes in, bytes out.

    >>> isinstance(zarr.codecs.ZstdCodec(), zarr.codecs.BytesBytesCodec)
    True
    """

    @abstractmethod
    def bind(self, nbytes: int | None, limit: int, dtype: np.dtype[Any]) -> BytesStage:
        """Return the codec bound to its decoded side.

        `nbytes` is the decoded size of every chunk when it is known. Decoding never produces more
        than `limit` bytes (equal to `nbytes` when that is known) and raises `CodecError` for more,
        and for fewer when `nbytes` is known. `dtype` is that of the serialised elements.
        """

    def encode(self, data: Buffer) -> bytes:
        """Return encoded bytes.

        >>> len(zarr.codecs.ZstdCodec().encode(bytes(1000))) < 30
        True
        """
        size = len(flat_bytes(data))
        return bytes(flat_bytes(self.bind(size, size, np.dtype("u1")).encode(data)))

    def decode(self, data: Buffer, *, nbytes: int | None = None) -> bytes:
        """Return decoded bytes; raise `CodecError` for damaged ones.

        `nbytes` is how many there must be, if that is known. Otherwise there can be as many as the
        setting `memory.max_variable_chunk_bytes` allows.

        >>> codec = zarr.codecs.GzipCodec()
        >>> codec.decode(codec.encode(b"values"))
        b'values'
        """
        limit = variable_limit() if nbytes is None else nbytes
        return bytes(flat_bytes(self.bind(nbytes, limit, np.dtype("u1")).decode(data)))

    def compute_encoded_size(self, nbytes: int) -> int | None:
        """Return how many bytes become of a number of bytes; None when that varies.

        >>> zarr.codecs.Crc32cCodec().compute_encoded_size(100)
        104
        """
        return self.bind(nbytes, nbytes, np.dtype("u1")).nbytes

    def _bound(self, spec: ChunkSpec) -> Any:
        codec: BytesBytesCodec = self.evolve_from_array_spec(spec)
        return codec.bind(None, variable_limit(), spec.dtype)
