"""Base classes for codecs that were written for zarr-python, and the way to run them here.

A class made from these is a codec of the library: bound to chunks, it calls `_encode_sync` and
`_decode_sync` where a class has them, otherwise it waits for `_encode_single` and `_decode_single`.
"""

from abc import ABCMeta
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from zarr_core.codecs import base
from zarr_core.codecs.buffers import Buffer, BufferPrototype, NDBuffer, default_buffer_prototype
from zarr_core.codecs.checks import check_size, limit_error
from zarr_core.config import ArrayConfig
from zarr_core.errors import CodecError
from zarr_core.metadata.data_types import DataType
from zarr_core.threads.coroutines import own_loop, run_on


@dataclass(frozen=True)
class ArraySpec:
    """What a codec knows of the chunks that it gets."""

    shape: tuple[int, ...]
    dtype: DataType
    fill_value: Any
    config: Any = None
    prototype: BufferPrototype = default_buffer_prototype()  # noqa: RUF009 - is never changed

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def order(self) -> str:
        """Memory order of results."""
        return getattr(self.config, "order", "C")


def _spec(shape: tuple[int, ...], data_type: DataType, fill_value: Any) -> ArraySpec:
    return ArraySpec(shape, data_type, fill_value, ArrayConfig())


class _Kind(ABCMeta):
    """Makes the codecs of the library instances of the base classes below, too."""

    def __instancecheck__(cls, value: Any) -> bool:
        own = cls.__dict__.get("core")
        return super().__instancecheck__(value) or (own is not None and isinstance(value, own))


class BaseCodec(metaclass=_Kind):
    """What all three kinds have in common."""

    core = base.Codec
    is_fixed_size = False

    @property
    def name(self) -> str:
        """The name in metadata documents."""
        return str(self.to_dict().get("name", type(self).__name__))

    def to_dict(self) -> dict[str, Any]:
        """Return the codec as it stands in a metadata document."""
        fields = getattr(self, "__dataclass_fields__", {})
        return {name: getattr(self, name) for name in fields}

    def configuration(self) -> Mapping[str, Any]:
        """Return the configuration as JSON."""
        found: Mapping[str, Any] = self.to_dict().get("configuration", {})
        return found

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the codec for an entry of a metadata document."""
        return cls(**data.get("configuration", {}))

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Return how many bytes become of a number of bytes."""
        raise NotImplementedError

    def resolve_metadata(self, chunk_spec: ArraySpec) -> ArraySpec:
        """Return what becomes of the spec of a chunk when it is encoded."""
        return chunk_spec

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> Self:
        """Return the codec with what it takes from the array filled in."""
        return self

    def validate(self, *, shape: Any, dtype: Any, chunk_grid: Any = None) -> None:
        """Raise if the codec does not suit an array."""

    def _for(self, spec: ArraySpec) -> Self:
        """Return the codec as it is for chunks of `spec`."""
        codec = self.evolve_from_array_spec(spec)
        codec.validate(shape=spec.shape, dtype=spec.dtype, chunk_grid=None)
        return codec

    def _run(self, way: str, spec: ArraySpec) -> Callable[[Any], Any]:
        """Return a function that encodes or decodes one chunk."""
        direct = getattr(self, f"_{way}_sync", None)
        if direct is not None:
            return lambda chunk: direct(chunk, spec)
        single: Callable[..., Awaitable[Any]] = getattr(self, f"_{way}_single")
        return lambda chunk: run_on(own_loop(), lambda: single(chunk, spec))

    async def _decode_single(self, chunk_data: Any, chunk_spec: ArraySpec) -> Any:
        raise NotImplementedError

    async def _encode_single(self, chunk_data: Any, chunk_spec: ArraySpec) -> Any:
        raise NotImplementedError

    async def decode(self, chunks_and_specs: Iterable[tuple[Any, ArraySpec]]) -> Iterable[Any]:
        """Return decoded chunks."""
        return [None if c is None else await self._decode_single(c, s) for c, s in chunks_and_specs]

    async def encode(self, chunks_and_specs: Iterable[tuple[Any, ArraySpec]]) -> Iterable[Any]:
        """Return encoded chunks."""
        return [None if c is None else await self._encode_single(c, s) for c, s in chunks_and_specs]


def _bytes_of(found: Any) -> Any:
    if found is None:
        raise CodecError("the codec gave nothing")
    return found.as_numpy_array() if hasattr(found, "as_numpy_array") else found


def _array_of(found: Any) -> Any:
    return found.as_numpy_array() if hasattr(found, "as_numpy_array") else np.asarray(found)


class ArrayArrayCodec(BaseCodec, base.ArrayArrayCodec, metaclass=_Kind):  # type: ignore[override, misc]
    """Arrays in, arrays out."""

    core = base.ArrayArrayCodec

    def bind(self, spec: base.ChunkSpec) -> base.ArrayStage:
        """Return the codec bound to chunks of `spec`."""
        asked = _spec(spec.shape, spec.data_type, spec.fill_value)
        codec = self._for(asked)
        made = codec.resolve_metadata(asked)
        encode, decode = codec._run("encode", asked), codec._run("decode", asked)
        after = base.ChunkSpec(made.shape, made.dtype, made.dtype.dtype, made.fill_value)
        return base.ArrayStage(
            after,
            lambda array: _array_of(encode(NDBuffer(array))),
            lambda array: _array_of(decode(NDBuffer(array))).reshape(spec.shape),
        )


class ArrayBytesCodec(BaseCodec, base.ArrayBytesCodec, metaclass=_Kind):  # type: ignore[override, misc]
    """Arrays in, bytes out."""

    core = base.ArrayBytesCodec

    def bind(self, spec: base.ChunkSpec) -> base.SerialStage:
        """Return the codec bound to chunks of `spec`."""
        asked = _spec(spec.shape, spec.data_type, spec.fill_value)
        codec = self._for(asked)
        encode, decode = codec._run("encode", asked), codec._run("decode", asked)

        def decoded(data: base.Buffer) -> base.NDArray:
            array = _array_of(decode(Buffer.from_bytes(data)))
            if array.size != np.prod(spec.shape, dtype=object):
                raise CodecError(f"expected an array of shape {spec.shape}, found {array.shape}")
            found: base.NDArray = array.reshape(spec.shape).astype(spec.dtype, copy=False)
            return found

        return base.SerialStage(None, lambda a: _bytes_of(encode(NDBuffer(a))), decoded)


class BytesBytesCodec(BaseCodec, base.BytesBytesCodec, metaclass=_Kind):  # type: ignore[override, misc]
    """Bytes in, bytes out."""

    core = base.BytesBytesCodec

    def bind(self, nbytes: int | None, limit: int, dtype: np.dtype[Any]) -> base.BytesStage:
        """Return the codec bound to its decoded side."""
        shape = () if nbytes is None else (nbytes // max(1, dtype.itemsize),)
        asked = _spec(shape, DataType(dtype), DataType(dtype).default_fill)
        codec = self._for(asked)
        encode, decode = codec._run("encode", asked), codec._run("decode", asked)

        def decoded(data: base.Buffer) -> base.Buffer:
            found = _bytes_of(decode(Buffer.from_bytes(data)))
            if len(found) > limit:
                raise limit_error(limit)
            return check_size(found, nbytes, limit)

        return base.BytesStage(
            None, lambda data: _bytes_of(encode(Buffer.from_bytes(data))), decoded
        )


_KINDS = {kind.__name__: kind for kind in (ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec)}


def adapted(cls: type) -> type[base.Codec]:
    """Return a codec class of the library for one that was made for zarr-python.

    Raises `TypeError` for a class of no kind of codec.
    """
    if issubclass(cls, base.Codec):
        return cls
    kind: Any = next((_KINDS[c.__name__] for c in cls.__mro__ if c.__name__ in _KINDS), None)
    if kind is None:
        raise TypeError(f"{cls!r} is no codec for arrays or bytes")
    return type(cls.__name__, (_Adapted, kind), {"of": cls, "__module__": cls.__module__})


class _Adapted(BaseCodec):
    """Hands everything on to a codec of zarr-python."""

    of: Any

    def __init__(self, codec: Any) -> None:
        self.codec = codec

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the codec for an entry of a metadata document."""
        return cls(cls.of.from_dict(dict(data)))

    def to_dict(self) -> dict[str, Any]:
        """Return the codec as it stands in a metadata document."""
        found: dict[str, Any] = self.codec.to_dict()
        return found

    def resolve_metadata(self, chunk_spec: ArraySpec) -> ArraySpec:
        """Return what becomes of the spec of a chunk when it is encoded."""
        found: ArraySpec = self.codec.resolve_metadata(chunk_spec)
        return found

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> Self:
        """Return the codec with what it takes from the array filled in."""
        return type(self)(self.codec.evolve_from_array_spec(array_spec))

    def validate(self, *, shape: Any, dtype: Any, chunk_grid: Any = None) -> None:
        """Raise if the codec does not suit an array."""
        self.codec.validate(shape=shape, dtype=dtype, chunk_grid=chunk_grid)

    def _run(self, way: str, spec: ArraySpec) -> Callable[[Any], Any]:
        # `_run` of a base class, with the methods of the other codec.
        return BaseCodec._run(self.codec, way, spec)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and bool(self.codec == other.codec)

    def __hash__(self) -> int:
        return hash(repr(self.codec))

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.of, self.codec)

    def __repr__(self) -> str:
        return repr(self.codec)


def _unpickled(cls: type, codec: Any) -> Any:
    made: Any = adapted(cls)
    return made(codec)


class ArrayBytesCodecPartialDecodeMixin:
    """Parts of a chunk can be decoded; here whole chunks are."""


class ArrayBytesCodecPartialEncodeMixin:
    """Parts of a chunk can be encoded; here whole chunks are."""


@dataclass(frozen=True)
class CodecPipeline:
    """The codecs of an array, as programs hand them around; arrays run their codecs themselves."""

    array_array_codecs: tuple[Any, ...] = ()
    array_bytes_codec: Any = None
    bytes_bytes_codecs: tuple[Any, ...] = ()
    batch_size: int = 1

    def __iter__(self) -> Iterator[Any]:
        yield from (*self.array_array_codecs, self.array_bytes_codec, *self.bytes_bytes_codecs)


def parse_named_configuration(
    data: Any, expected_name: str | None = None, *, require_configuration: bool = True
) -> tuple[str, dict[str, Any] | None]:
    """Return name and configuration of an entry of a metadata document."""
    if not isinstance(data, Mapping):
        raise TypeError(f"Expected dict, got {type(data)}")
    if "name" not in data:
        raise ValueError(f"Named configuration does not have a 'name' key. Got {list(data)}.")
    if expected_name is not None and data["name"] != expected_name:
        raise ValueError(f"Expected '{expected_name}'. Got {data['name']} instead.")
    if "configuration" in data:
        return data["name"], data["configuration"]
    if require_configuration:
        raise ValueError(
            f"Named configuration does not have a 'configuration' key. Got {list(data)}."
        )
    return data["name"], None
