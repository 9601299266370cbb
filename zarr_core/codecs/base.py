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

from zarr_core.codecs.checks import check_fields
from zarr_core.metadata.data_types import DataType

NDArray: TypeAlias = npt.NDArray[Any]

Buffer: TypeAlias = bytes | bytearray | memoryview | NDArray
"""Encoded data: anything C-contiguous with the buffer protocol; its bytes are what counts."""


class ChunkSpec(NamedTuple):
    """What is known of every chunk that enters a codec."""

    shape: tuple[int, ...]
    data_type: DataType
    dtype: np.dtype[Any]  # of the array in memory
    fill_value: Any  # a NumPy scalar of dtype, or str / bytes for variable-length types


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
    """Configuration of a codec; see the three kinds below."""

    name: ClassVar[str]
    """The codec's name in metadata documents."""

    def configuration(self) -> Mapping[str, Any]:
        """Return the configuration as JSON: by default the fields of the dataclass."""
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
        """Return the codec as it stands in a metadata document."""
        configuration = dict(self.configuration())
        data: dict[str, Any] = {"name": self.name}
        return {**data, "configuration": configuration} if configuration else data

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, Any]) -> Self:
        """Return the codec for a document's `configuration`; raise `MetadataValidationError`."""
        return cls(**check_fields(cls.name, configuration, cls._fields(), cls._required()))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the codec for a document's entry."""
        return cls.from_configuration(data.get("configuration") or {})


class ArrayArrayCodec(Codec):
    """Arrays in, arrays out."""

    @abstractmethod
    def bind(self, spec: ChunkSpec) -> ArrayStage:
        """Return the codec bound to chunks of `spec`."""


class ArrayBytesCodec(Codec):
    """Arrays in, bytes out: exactly one in every chain."""

    @abstractmethod
    def bind(self, spec: ChunkSpec) -> SerialStage:
        """Return the codec bound to chunks of `spec`."""


class BytesBytesCodec(Codec):
    """Bytes in, bytes out."""

    @abstractmethod
    def bind(self, nbytes: int | None, limit: int, dtype: np.dtype[Any]) -> BytesStage:
        """Return the codec bound to its decoded side.

        `nbytes` is the decoded size of every chunk when it is known. Decoding never produces more
        than `limit` bytes (equal to `nbytes` when that is known) and raises `CodecError` for more,
        and for fewer when `nbytes` is known. `dtype` is that of the serialised elements.
        """
