"""Codecs of the package numcodecs, as codecs of format 3 and as what they do in format 2.

Format 3 does not specify them; other implementations may not read what they write. They have the
names that zarr-python gives them, and take the parameters that the codec of the same name has in
numcodecs, as keywords.

A codec of numcodecs is a configuration with an `id`. Those that have a faster or safer
implementation here get it; for the rest their `encode` and `decode` are called, with results checked.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

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
from zarr_core.codecs.blosc import SHUFFLES, BloscCodec
from zarr_core.codecs.checks import (
    check_fields,
    check_int,
    check_size,
    element_size,
    flat_bytes,
    load_numcodecs,
    package_for,
    size_error,
)
from zarr_core.codecs.deflate import GzipCodec, deflate_stage
from zarr_core.codecs.streams import base64_stage, bz2_stage, lz4_stage, lzma_stage
from zarr_core.codecs.zstd import MAX_LEVEL, MIN_LEVEL, ZstdCodec
from zarr_core.errors import (
    CodecError,
    MetadataValidationError,
    PickleCodecDisabledError,
    UnknownCodecError,
    describe,
    unexpected,
)
from zarr_core.metadata.data_types import DataType
from zarr_core.metadata.small_types import SMALL_TYPES, small_dtype

__all__ = [
    "BZ2",
    "CRC32",
    "CRC32C",
    "LZ4",
    "LZMA",
    "ZFPY",
    "Adler32",
    "AsType",
    "BitRound",
    "Blosc",
    "Delta",
    "FixedScaleOffset",
    "Fletcher32",
    "GZip",
    "JenkinsLookup3",
    "PCodec",
    "PackBits",
    "Quantize",
    "Shuffle",
    "Zlib",
    "Zstd",
]

PREFIX = "numcodecs."
"""How names of these codecs start in format 3."""

BY_NAME: dict[str, type[Codec]] = {}
"""The classes below by their names in format 3."""

_ADDED_BYTES = {
    "adler32": 4,
    "crc32": 4,
    "crc32c": 4,
    "fletcher32": 4,
    "jenkins_lookup3": 4,
    "shuffle": 0,
}

# With the nanoseconds per byte that decoding and encoding take without the GIL.
_STREAMS = {
    "base64": (base64_stage, 0.0, 0.0),
    "bz2": (bz2_stage, 40.0, 100.0),
    "lz4": (lz4_stage, 0.1, 0.5),
    "lzma": (lzma_stage, 15.0, 300.0),
}


_BROUGHT_BY = {
    "FITSAscii": "kerchunk",
    "FITSVarBintable": "kerchunk",
    "crc32c": "crc32c",
    "fill_hdf_strings": "kerchunk",
    "grib": "kerchunk",
    "gribscan.": "gribscan",
    "imagecodecs_": "imagecodecs-numcodecs",
    "msgpack2": "msgpack",
    "pcodec": "pcodec",
    "rawgrib": "gribscan",
    "record_member": "kerchunk",
    "wavpack": "wavpack-numcodecs",
    "zfpy": "zfpy",
}
"""Packages that numcodecs needs for a codec, or that add one to it; see `package_for`."""


# --- objects of numcodecs ------------------------------------------------------------------------


def numcodecs_object(config: Mapping[str, Any]) -> Any:
    """Return the codec object for a configuration with an `id`.

    Raises `UnknownCodecError`, `MetadataValidationError` for wrong parameters, and
    `PickleCodecDisabledError`.
    """
    codec_id = config.get("id")
    if codec_id == "pickle":
        raise PickleCodecDisabledError(
            "codec 'pickle' runs code that the data contains, and is not supported"
        )
    registry = load_numcodecs("numcodecs.registry")
    if codec_id not in registry.codec_registry and codec_id not in registry.entries:
        package = package_for(codec_id, _BROUGHT_BY)
        raise UnknownCodecError(
            f"codec {describe(codec_id)} is not among those of the installed numcodecs"
            + (f"; the package {package} brings it: pip install {package}" if package else "")
        )
    try:
        return registry.get_codec(dict(config))
    except ImportError as error:
        raise UnknownCodecError(f"codec {codec_id!r} cannot be imported: {error}") from error
    except Exception as error:
        raise MetadataValidationError(f"codec {codec_id!r}: {error}") from error


def call(function: Callable[[Any], Any], data: Any) -> Any:
    """Return `function(data)`; what a codec raises about data becomes a `CodecError`."""
    try:
        return function(data)
    except (CodecError, MemoryError):
        raise
    except Exception as error:
        raise CodecError(f"{type(error).__name__}: {error}") from error


def array_decoder(codec: Any, nbytes: int | None) -> Callable[[Any], Any]:
    """Return the function of a codec that decodes `nbytes` bytes, with checks that it lacks."""
    if codec.codec_id != "zfpy" or nbytes is None:
        return codec.decode  # type: ignore[no-any-return]
    from zarr_core.codecs.zfp import decode_with_header  # as rarely as its library

    return partial(decode_with_header, nbytes=nbytes)


# --- bytes to bytes ------------------------------------------------------------------------------


def bind_bytes(
    config: Mapping[str, Any], nbytes: int | None, limit: int, dtype: np.dtype[Any]
) -> BytesStage:
    """Return the stage for a bytes-to-bytes configuration; see `BytesBytesCodec.bind`."""
    codec_id = str(config.get("id"))
    options = {key: value for key, value in config.items() if key != "id"}
    if codec_id in ("gzip", "zlib"):
        fields = check_fields(codec_id, options, ("level",))
        # -1 is the library's own choice of a level.
        level = check_int(codec_id, "level", fields.get("level", 1), -1, 9)
        return deflate_stage(level, nbytes, limit, gzip=codec_id == "gzip")
    if codec_id in ("zstd", "blosc"):
        return fast_codec(config).bind(nbytes, limit, dtype)
    if codec_id in _STREAMS:
        bind, decode_cost, encode_cost = _STREAMS[codec_id]
        stage = bind(options, nbytes, limit)
        return stage._replace(decode_cost=decode_cost, encode_cost=encode_cost)
    return _numcodecs_stage(codec_id, config, nbytes, limit)


def fast_codec(config: Mapping[str, Any]) -> BytesBytesCodec:
    """Return the codec of format 3 that does what this zstd, gzip or blosc configuration does."""
    options = dict(config)
    codec_id = options.pop("id")
    if codec_id == "gzip":
        level = check_fields("gzip", options, ("level",)).get("level", 1)
        return GzipCodec(level=6 if level == -1 else level)
    if codec_id == "zstd":
        fields = check_fields("zstd", options, ("level", "checksum"))
        level = check_int("zstd", "level", fields.get("level", 0), -(1 << 31), 1 << 31)
        # numcodecs takes any level and uses the nearest there is.
        level = min(max(level, MIN_LEVEL), MAX_LEVEL)
        return ZstdCodec(level=level, checksum=fields.get("checksum", False))
    fields = check_fields("blosc", options, ("typesize", "cname", "clevel", "shuffle", "blocksize"))
    number = check_int("blosc", "shuffle", fields.get("shuffle", 1), -1, 2)
    # Here as in format 2, -1 is automatic, and absent names are those of numcodecs.
    shuffle: Any = None if number == -1 else SHUFFLES[number]
    return BloscCodec(**{"cname": "lz4", **fields, "shuffle": shuffle})


def _numcodecs_stage(
    codec_id: str, config: Mapping[str, Any], nbytes: int | None, limit: int
) -> BytesStage:
    codec = numcodecs_object(config)
    added = _ADDED_BYTES.get(codec_id)
    encoded = None if added is None or nbytes is None else nbytes + added
    if codec_id == "shuffle":
        check_int(codec_id, "elementsize", codec.elementsize, 0)
        if nbytes is not None and codec.elementsize > 1 and nbytes % codec.elementsize:
            raise MetadataValidationError(
                f"codec 'shuffle': field 'elementsize': chunks of {nbytes} bytes cannot be divided "
                f"into elements of {codec.elementsize}"
            )

    def decode(data: Buffer) -> Buffer:
        data = flat_bytes(data)
        # Says more than a checksum that does not match.
        if encoded is not None and len(data) != encoded:
            raise CodecError(f"expected {encoded} encoded bytes, found {len(data)}")
        if len(data) < (added or 0):
            raise CodecError(f"{len(data)} bytes cannot hold a checksum")
        return check_size(call(codec.decode, data), nbytes, limit)

    def encode(data: Buffer) -> Buffer:
        return flat_bytes(call(codec.encode, data))

    return BytesStage(encoded, encode, decode)


# --- codecs by value -----------------------------------------------------------------------------


def as_json(value: Any) -> Any:
    """Return a parameter as JSON: dtypes by name, numbers of NumPy as numbers."""
    if isinstance(value, np.dtype | type):
        return np.dtype(value).str
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list | tuple) else value


class ByValue:
    """Equality and hash for codecs whose configuration is any JSON."""

    def _value(self) -> str:
        data: Any = self.configuration()  # type: ignore[attr-defined]
        return json.dumps(data, sort_keys=True, default=repr)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._value() == other._value()

    def __hash__(self) -> int:
        return hash((type(self), self._value()))


@dataclass(frozen=True, init=False, eq=False, repr=False)
class NumcodecsCodec(ByValue, Codec):
    """A codec of numcodecs in format 3; keyword arguments are its parameters there."""

    name: ClassVar[str]
    codec_id: ClassVar[str]
    """The `id` in numcodecs."""

    codec_config: Mapping[str, Any]
    """The configuration in numcodecs, with the `id`."""

    def __init_subclass__(cls, codec_id: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if codec_id is not None:
            cls.codec_id, cls.name = codec_id, f"{PREFIX}{codec_id}"
            BY_NAME[cls.name] = cls

    def __init__(self, **codec_config: Any) -> None:
        if codec_config.get("id", self.codec_id) != self.codec_id:
            raise unexpected(
                f"codec {self.name!r}: field 'id'", f"{self.codec_id!r}", codec_config["id"]
            )
        config = {"id": self.codec_id, **as_json(codec_config)}
        object.__setattr__(self, "codec_config", config)

    def __repr__(self) -> str:
        options = ", ".join(f"{key}={value!r}" for key, value in self.configuration().items())
        return f"{type(self).__name__}({options})"

    @property
    def codec_name(self) -> str:
        """The codec's name in metadata documents."""
        return self.name

    def get_config(self) -> dict[str, Any]:
        """Return the configuration in numcodecs, with the `id`, as its own codecs do."""
        return dict(self.codec_config)

    def configuration(self) -> Mapping[str, Any]:
        """Return the configuration as JSON."""
        return {key: value for key, value in self.codec_config.items() if key != "id"}

    def to_dict(self) -> dict[str, Any]:
        """Return the codec as it stands in a metadata document, always with a configuration."""
        return {"name": self.name, "configuration": dict(self.configuration())}

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, Any]) -> Self:
        """Return the codec for a document's `configuration`; it is checked when it is bound."""
        return cls(**check_fields(cls.name, configuration))

    def resolve(self, dtype: np.dtype[Any]) -> Self:
        """Return the codec with the parameters that follow from the data type filled in."""
        field, value = _RESOLVED.get(self.codec_id, ("", None))
        if value is None or self.codec_config.get(field) is not None:
            return self
        return type(self)(**{**self.codec_config, field: value(dtype)})


_RESOLVED: Mapping[str, tuple[str, Callable[[np.dtype[Any]], Any]]] = {
    "astype": ("decode_dtype", str),
    "delta": ("dtype", str),
    "fixedscaleoffset": ("dtype", str),
    "quantize": ("dtype", str),
    "shuffle": ("elementsize", element_size),
}


class NumcodecsBytesBytesCodec(NumcodecsCodec, BytesBytesCodec):
    """A compressor or checksum of numcodecs."""

    def bind(self, nbytes: int | None, limit: int, dtype: np.dtype[Any]) -> BytesStage:
        """Return the codec bound to its decoded side."""
        return bind_bytes(self.resolve(dtype).codec_config, nbytes, limit, dtype)


class NumcodecsArrayArrayCodec(NumcodecsCodec, ArrayArrayCodec):
    """A filter of numcodecs."""

    def bind(self, spec: ChunkSpec) -> ArrayStage:
        """Return the codec bound to chunks of `spec`."""
        if spec.dtype.hasobject or spec.dtype.kind == "T":
            raise MetadataValidationError(
                f"codec {self.name!r}: elements of {spec.data_type.name!r} have no fixed size"
            )
        config = {
            key: _native(key, value) for key, value in self.resolve(spec.dtype).codec_config.items()
        }
        codec = numcodecs_object(config)
        packs = self.codec_id == "packbits"
        if packs and spec.dtype != np.bool_:
            raise MetadataValidationError(
                f"codec {self.name!r}: expected elements of 'bool', found {spec.data_type.name!r}"
            )
        dtype, fill_value = self._probe(codec, spec)
        count = math.prod(spec.shape)
        shape = (1 + math.ceil(count / 8),) if packs else spec.shape
        nbytes = count * spec.dtype.itemsize
        after = ChunkSpec(shape, DataType(dtype), dtype, fill_value)

        def encode(array: NDArray) -> NDArray:
            # These codecs go through memory in its own order, which must be C.
            return _shaped(call(codec.encode, np.ascontiguousarray(array)), after)

        def decode(array: NDArray) -> NDArray:
            decoded = call(codec.decode, np.ascontiguousarray(array))
            found = np.asarray(decoded).nbytes
            if found != nbytes:
                raise size_error(nbytes, found)
            return _shaped(decoded, spec)

        return ArrayStage(after, encode, decode)

    def _probe(self, codec: Any, spec: ChunkSpec) -> tuple[np.dtype[Any], Any]:
        """Return the dtype and the fill value that come out of the codec."""
        sample = np.zeros(1, spec.dtype)
        try:
            encoded = np.asarray(codec.encode(sample))
            decoded = np.asarray(codec.decode(encoded))
        except Exception as error:
            raise MetadataValidationError(
                f"codec {self.name!r} cannot be applied to elements of {spec.dtype}: {error}"
            ) from error
        packs = self.codec_id == "packbits"
        if decoded.nbytes != sample.nbytes or encoded.size != (2 if packs else 1):
            raise MetadataValidationError(
                f"codec {self.name!r} gives {decoded.dtype} back for elements of {spec.dtype}"
            )
        dtype = spec.dtype if self.codec_id == "bitround" else encoded.dtype
        try:
            sample[...] = spec.fill_value
            fill_value = np.asarray(codec.encode(sample)).view(dtype)[-1]
        except Exception:  # noqa: BLE001 - a fill value that the codec cannot express
            fill_value = np.zeros(1, dtype)[0]
        return dtype, fill_value


def _native(key: str, value: Any) -> Any:
    # Arrays of format 3 are in native byte order; which order is stored, the bytes codec says.
    if key not in ("dtype", "astype", "encode_dtype", "decode_dtype") or value is None:
        return value
    try:
        if isinstance(value, str) and value in SMALL_TYPES:
            return str(small_dtype(value))
        return np.dtype(value).newbyteorder("=").str
    except TypeError as error:
        raise MetadataValidationError(f"field {key!r}: {describe(value)} is no dtype") from error


def _shaped(data: Any, spec: ChunkSpec) -> NDArray:
    return np.asarray(data).reshape(-1).view(spec.dtype).reshape(spec.shape)


class NumcodecsArrayBytesCodec(NumcodecsCodec, ArrayBytesCodec):
    """A compressor of numcodecs for arrays."""

    def bind(self, spec: ChunkSpec) -> SerialStage:
        """Return the codec bound to chunks of `spec`."""
        codec = numcodecs_object(self.codec_config)
        nbytes = math.prod(spec.shape) * spec.dtype.itemsize
        decode_array = array_decoder(codec, nbytes)

        def encode(array: NDArray) -> Buffer:
            return flat_bytes(call(codec.encode, np.ascontiguousarray(array)))

        def decode(data: Buffer) -> NDArray:
            decoded = call(decode_array, bytes(flat_bytes(data)))
            flat = check_size(decoded, nbytes, nbytes)
            return np.ndarray(spec.shape, spec.dtype, flat)

        return SerialStage(None, encode, decode)


# --- one class a codec, with the parameters that numcodecs has for it ------------------------------


class BZ2(NumcodecsBytesBytesCodec, codec_id="bz2"):
    """Bzip2. `level` is from 1 to 9."""


class CRC32(NumcodecsBytesBytesCodec, codec_id="crc32"):
    """A CRC-32 before the data, or at `location="end"`."""


class CRC32C(NumcodecsBytesBytesCodec, codec_id="crc32c"):
    """A CRC-32C after the data, or at `location="start"`."""


class LZ4(NumcodecsBytesBytesCodec, codec_id="lz4"):
    """LZ4. `acceleration` is 1 or more."""


class LZMA(NumcodecsBytesBytesCodec, codec_id="lzma"):
    """LZMA. `format`, `check`, `preset` and `filters` as in the module lzma."""


class ZFPY(NumcodecsArrayBytesCodec, codec_id="zfpy"):
    """ZFP, lossy; needs the package zfpy."""

    def bind(self, spec: ChunkSpec) -> SerialStage:
        """Return the codec bound to chunks of `spec`."""
        stage = super().bind(spec)
        if self.codec_config.get("mode") == 2:
            from zarr_core.codecs.zfp import block_bits

            block_bits(self.codec_config.get("rate", -1), spec.dtype, len(spec.shape))  # or raise
        return stage


class Adler32(NumcodecsBytesBytesCodec, codec_id="adler32"):
    """An Adler-32 checksum before the data, or at `location="end"`."""


class AsType(NumcodecsArrayArrayCodec, codec_id="astype"):
    """Elements cast to `encode_dtype`, and back to `decode_dtype`."""


class BitRound(NumcodecsArrayArrayCodec, codec_id="bitround"):
    """Floating-point numbers rounded to `keepbits` bits of mantissa."""


class Blosc(NumcodecsBytesBytesCodec, codec_id="blosc"):
    """Blosc; `shuffle` is a number, -1 for automatic."""


class Delta(NumcodecsArrayArrayCodec, codec_id="delta"):
    """Differences of neighbours. `dtype` and, optionally, `astype`."""


class FixedScaleOffset(NumcodecsArrayArrayCodec, codec_id="fixedscaleoffset"):
    """`(x - offset) * scale`, rounded and stored as `astype`."""


class Fletcher32(NumcodecsBytesBytesCodec, codec_id="fletcher32"):
    """A Fletcher-32 checksum after the data."""


class GZip(NumcodecsBytesBytesCodec, codec_id="gzip"):
    """Gzip. `level` is from 0 to 9."""


class JenkinsLookup3(NumcodecsBytesBytesCodec, codec_id="jenkins_lookup3"):
    """A checksum by Jenkins before the data."""


class PCodec(NumcodecsArrayBytesCodec, codec_id="pcodec"):
    """Pcodec for numbers; needs the package pcodec."""


class PackBits(NumcodecsArrayArrayCodec, codec_id="packbits"):
    """Booleans as bits."""


class Quantize(NumcodecsArrayArrayCodec, codec_id="quantize"):
    """Floating-point numbers rounded to `digits` decimal digits."""


class Shuffle(NumcodecsBytesBytesCodec, codec_id="shuffle"):
    """Bytes of elements of `elementsize` bytes, regrouped by significance."""


class Zlib(NumcodecsBytesBytesCodec, codec_id="zlib"):
    """Zlib. `level` is from 0 to 9."""


class Zstd(NumcodecsBytesBytesCodec, codec_id="zstd"):
    """Zstandard. `level` and `checksum`."""
