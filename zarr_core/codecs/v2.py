"""What `filters` and `compressor` of format 2 mean: two codecs that no document ever names.

Filters get the array as it lies in memory (an array of order F comes through a `transpose` first),
and each gets what the one before it made.

Specification: https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html#chunks
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np

from zarr_core.codecs.base import (
    ArrayBytesCodec,
    Buffer,
    BytesBytesCodec,
    BytesStage,
    ChunkSpec,
    NDArray,
    SerialStage,
)
from zarr_core.codecs.checks import (
    check_fields,
    check_size,
    encoded_limit,
    flat_bytes,
    variable_limit,
)
from zarr_core.codecs.layout import raw_stage
from zarr_core.codecs.numcodecs import (
    ByValue,
    array_decoder,
    as_json,
    bind_bytes,
    call,
    numcodecs_object,
)
from zarr_core.codecs.objects import object_chunk, object_codec, objects_in
from zarr_core.codecs.vlen import VLenBytesCodec, VLenUTF8Codec
from zarr_core.errors import CodecError, MetadataValidationError, describe
from zarr_core.metadata.small_types import in_numpy

Config: TypeAlias = Mapping[str, Any]
"""A configuration of numcodecs, with its `id`."""

_COMPRESSORS = frozenset({"blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd"})
_CHECKSUMS = frozenset({"adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3"})
_BYTES_CODECS = _COMPRESSORS | _CHECKSUMS | {"base64", "shuffle"}
_ELEMENTWISE = frozenset({"astype", "bitround", "delta", "fixedscaleoffset", "quantize"})
_VARIABLE = {"vlen-utf8": VLenUTF8Codec, "vlen-bytes": VLenBytesCodec}


def is_bytes_codec(config: Config) -> bool:
    """Tell whether a configuration is known to need no more than bytes, as opposed to an array."""
    return config.get("id") in _BYTES_CODECS


def _check_config(config: Any) -> dict[str, Any]:
    if isinstance(config, Mapping) and isinstance(config.get("id"), str):
        return dict(as_json(config))
    raise MetadataValidationError(
        f"expected an object with an 'id' as codec of format 2, found {describe(config)}"
    )


# --- compressor ----------------------------------------------------------------------------------


def v2_compressor(config: Config) -> BytesBytesCodec:
    """Return the codec for the `compressor` of a format 2 array.

    >>> zarr.codecs.v2_compressor({"id": "zlib", "level": 1})
    V2CompressorCodec(config={'id': 'zlib', 'level': 1})
    """
    return V2CompressorCodec(config)


@dataclass(frozen=True, eq=False)
class V2CompressorCodec(ByValue, BytesBytesCodec):
    """A compressor of format 2."""

    name = "v2.compressor"

    config: Config

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", _check_config(self.config))

    @property
    def label(self) -> str:
        """The name of the compressor, for messages."""
        return str(self.config["id"])

    def configuration(self) -> Mapping[str, Any]:
        """Return the configuration of numcodecs."""
        return self.config

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, Any]) -> Self:
        """Return the codec for a configuration of numcodecs."""
        return cls(configuration)

    def bind(self, nbytes: int | None, limit: int, dtype: np.dtype[Any]) -> BytesStage:
        """Return the codec bound to its decoded side."""
        return bind_bytes(self.config, nbytes, limit, dtype)


# --- filters -------------------------------------------------------------------------------------


class _Step(NamedTuple):
    """One filter; `encode` takes an array or bytes, whatever the step before gives."""

    encode: Callable[[Any], Any]
    decode: Callable[[Buffer], Buffer]


class _Flow(NamedTuple):
    """What is known of the data between two filters."""

    dtype: np.dtype[Any]
    nbytes: int | None
    limit: int


@dataclass(frozen=True, eq=False)
class V2FilterCodec(ByValue, ArrayBytesCodec):
    """The filters of format 2, none, one or several, from an array to bytes.

    >>> codec = zarr.codecs.V2FilterCodec(filters=({"id": "delta", "dtype": "<i4"},))
    >>> codec.filters[0]["id"]
    'delta'
    """

    name = "v2.filters"

    filters: tuple[Config, ...] = ()
    allow_pickle: bool = False
    """Never said by a document: only who opens an array can say it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "filters", tuple(map(_check_config, self.filters)))

    @property
    def label(self) -> str:
        """The names of the filters, for messages."""
        return ", ".join(str(config["id"]) for config in self.filters) or "raw bytes"

    def configuration(self) -> Mapping[str, Any]:
        """Return the configurations of numcodecs under `filters`."""
        return {"filters": [dict(config) for config in self.filters]}

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, Any]) -> Self:
        """Return the codec for a list of configurations of numcodecs under `filters`."""
        fields = check_fields(cls.name, configuration, ("filters",))
        filters = fields.get("filters") or ()
        if not isinstance(filters, Iterable) or isinstance(filters, str | Mapping):
            raise MetadataValidationError(f"expected a list of filters, found {describe(filters)}")
        return cls(tuple(filters))

    def bind(self, spec: ChunkSpec) -> SerialStage:
        """Return the filters bound to chunks of `spec`."""
        head, filters, flow = self._head(spec)
        if not filters:
            return head
        steps = []
        for config in filters:
            step, flow = _bind_filter(config, flow)
            steps.append(step)

        def encode(array: NDArray) -> Buffer:
            # Reversed axes and all, what lies in memory is in C order here.
            data: Any = np.ascontiguousarray(array) if head.native else head.encode(array)
            for step in steps:
                data = step.encode(data)
            return flat_bytes(data)

        def decode(data: Buffer) -> NDArray:
            for step in reversed(steps):
                data = step.decode(data)
            return head.decode(data)

        return SerialStage(flow.nbytes, encode, decode, dtype=flow.dtype)

    def _head(self, spec: ChunkSpec) -> tuple[SerialStage, tuple[Config, ...], _Flow]:
        """Return the stage for the array without filters, the filters, and what enters them."""
        if spec.dtype.kind not in "OT":
            head = raw_stage(spec.shape, spec.dtype, in_numpy(spec.dtype, "<"))
            nbytes = math.prod(spec.shape) * spec.dtype.itemsize
            return head, self.filters, _Flow(spec.dtype, nbytes, nbytes)
        if spec.data_type.object_codec is not None:
            return self._objects(spec)
        first = self.filters[0] if self.filters else {"id": "none"}
        if first["id"] == "pickle":
            numcodecs_object(first)  # raises
        if first["id"] not in _VARIABLE:
            raise MetadataValidationError(
                "elements of variable length need 'vlen-utf8' or 'vlen-bytes' as first filter, "
                f"found {first['id']!r}"
            )
        head = _VARIABLE[first["id"]]().bind(spec)
        return head, self.filters[1:], _Flow(np.dtype("u1"), None, variable_limit())

    def _objects(self, spec: ChunkSpec) -> tuple[SerialStage, tuple[Config, ...], _Flow]:
        codec = object_codec(self.filters[0], allow_pickle=self.allow_pickle)
        head = SerialStage(
            None,
            lambda array: object_chunk(codec, array),
            lambda data: objects_in(codec, data, spec.shape),
        )
        return head, self.filters[1:], _Flow(np.dtype("u1"), None, variable_limit())


def _bind_filter(config: Config, flow: _Flow) -> tuple[_Step, _Flow]:
    if is_bytes_codec(config):
        stage = bind_bytes(config, flow.nbytes, flow.limit, flow.dtype)

        def encode_bytes(data: Any) -> Any:
            return stage.encode(flat_bytes(data))

        return _Step(encode_bytes, stage.decode), _after(np.dtype("u1"), stage.nbytes, flow)
    codec = numcodecs_object(config)
    dtype, encoded = _probe(config, codec, flow)
    decode_array = array_decoder(codec, flow.nbytes)

    def encode(data: Any) -> Any:
        return call(codec.encode, data)

    def decode(data: Buffer) -> Buffer:
        data = flat_bytes(data)
        if encoded is not None and len(data) != encoded:
            raise CodecError(f"expected {encoded} encoded bytes, found {len(data)}")
        return check_size(call(decode_array, data), flow.nbytes, flow.limit)

    return _Step(encode, decode), _after(dtype, encoded, flow)


def _after(dtype: np.dtype[Any], nbytes: int | None, flow: _Flow) -> _Flow:
    return _Flow(dtype, nbytes, encoded_limit(flow.limit) if nbytes is None else nbytes)


def _probe(config: Config, codec: Any, flow: _Flow) -> tuple[np.dtype[Any], int | None]:
    """Return the dtype and the size of what a filter makes, as far as they are known."""
    if config["id"] == "packbits" and flow.nbytes is not None:
        return np.dtype("u1"), 1 + math.ceil(flow.nbytes / 8)
    if config["id"] not in _ELEMENTWISE:
        return np.dtype("u1"), None
    sample = np.zeros(1, flow.dtype)
    try:
        encoded = np.asarray(codec.encode(sample))
        decoded = np.asarray(codec.decode(encoded))
    except Exception as error:
        raise MetadataValidationError(
            f"filter {config['id']!r} cannot be applied to elements of {flow.dtype}: {error}"
        ) from error
    if decoded.nbytes != sample.nbytes:
        raise MetadataValidationError(
            f"filter {config['id']!r} gives {decoded.dtype} back for elements of {flow.dtype}"
        )
    if flow.nbytes is None:
        return encoded.dtype, None
    return encoded.dtype, flow.nbytes // sample.nbytes * encoded.nbytes
