"""Codecs by the names that documents use.

Other packages add codecs with `register_codec`, or with an entry point of the group
`zarr_core.codecs` whose name is that of the codec.
"""

import importlib
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from zarr_core.codecs.base import ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec, Codec
from zarr_core.codecs.blosc import BloscCodec
from zarr_core.codecs.checks import load_numcodecs, package_for
from zarr_core.codecs.checksum import Crc32cCodec
from zarr_core.codecs.deflate import GzipCodec
from zarr_core.codecs.layout import BytesCodec, TransposeCodec
from zarr_core.codecs.numcodecs import BY_NAME as NUMCODECS
from zarr_core.codecs.numcodecs import PREFIX, fast_codec, numcodecs_object
from zarr_core.codecs.scale_offset import ScaleOffset
from zarr_core.codecs.v2 import V2CompressorCodec, V2FilterCodec, is_bytes_codec
from zarr_core.codecs.vlen import VLenBytesCodec, VLenUTF8Codec
from zarr_core.codecs.zstd import ZstdCodec
from zarr_core.errors import MetadataValidationError, UnknownCodecError, describe
from zarr_core.metadata.array import object_makers
from zarr_core.metadata.documents import NamedConfig

ENTRY_POINTS = "zarr_core.codecs"
"""The group of entry points."""

ENTRY_POINTS_OF_ZARR = "zarr.codecs"
"""That of zarr-python, whose codecs are adapted."""

_codecs: dict[str, type[Codec]] = {
    **{
        codec.name: codec
        for codec in (
            *(BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ScaleOffset, TransposeCodec),
            *(V2CompressorCodec, V2FilterCodec, VLenBytesCodec, VLenUTF8Codec, ZstdCodec),
        )
    },
    **NUMCODECS,
    "endian": BytesCodec,  # what `bytes` was called in drafts of format 3
}

LATER: Mapping[str, tuple[str, str]] = {
    "bitround": ("bitround", "BitRoundCodec"),
    "cast_value": ("cast_value", "CastValue"),
    "n5.lz4": ("n5", "N5Lz4Codec"),
    "n5_default": ("n5", "N5DefaultCodec"),
    "packbits": ("packbits", "PackBitsCodec"),
    "reshape": ("reshape", "ReshapeCodec"),
    "zfp": ("zfp", "ZfpCodec"),
    "zarrs.squeeze": ("reshape", "SqueezeCodec"),
}
"""Codecs that are imported when one is first used, by name: module of this package and class."""

_IMPLEMENTED_BY = {
    "any-numcodecs.": "zarr-any-numcodecs",
    "gribberish": "gribberish",
    "imagecodecs_": "imagecodecs-zarr",
    "omfiles.": "omfiles",
    "virtual_tiff.": "virtual-tiff",
    "vlen-ndarray": "zarr-vlen-ndarray",
}
"""Packages with codecs that are not here; see `package_for`."""

_registered: list[str] = []

_KINDS = (ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec)


def register_codec(name: str, cls: type[Codec]) -> None:
    """Make `cls` the codec for `name` in metadata documents; it may be one for zarr-python.

    >>> class Mine(zarr.codecs.GzipCodec):
    ...     name = "mine.gzip"
    >>> zarr.codecs.register_codec("mine.gzip", Mine)
    >>> zarr.create_array({}, data=[1, 2], compressors=Mine(level=1))[:]
    array([1, 2])
    """
    if not issubclass(cls, _KINDS):
        try:
            cls = importlib.import_module("zarr_core.codecs.foreign").adapted(cls)
        except TypeError:
            kinds = ", ".join(kind.__name__ for kind in _KINDS)
            raise TypeError(
                f"codec {name!r}: expected a subclass of one of {kinds}, found {cls!r}"
            ) from None
    _codecs[name] = cls
    _registered.append(name)


def registered_codecs() -> int:
    """Return a number that grows with every codec that is registered."""
    return len(_registered)


def get_codec_class(name: str) -> type[Codec]:
    """Return the class for a codec's name; raise `UnknownCodecError` if there is none.

    >>> zarr.codecs.get_codec_class("zstd").__name__
    'ZstdCodec'
    """
    if name in _codecs:
        return _codecs[name]
    if name in LATER:
        _codecs[name] = load_class(*LATER[name])
        return _codecs[name]
    return _find_entry_point(name)


def load_class(module: str, name: str) -> type[Codec]:
    """Return a class of a module of this package."""
    cls: type[Codec] = getattr(importlib.import_module(f"zarr_core.codecs.{module}"), name)
    return cls


def _find_entry_point(name: str) -> type[Codec]:
    entry_point = _entry_points().get(name)
    if entry_point is None:
        package = package_for(name, _IMPLEMENTED_BY)
        hint = f"; {package} has it (pip install {package})"
        raise UnknownCodecError(
            f"codec {describe(name)} is not known{hint if package else ''}; it can be added with "
            "zarr_core.codecs.register_codec(), or by other packages with an entry point of the "
            f"group {ENTRY_POINTS!r}"
        )
    try:
        register_codec(name, entry_point.load())
    except (ImportError, AttributeError, TypeError) as error:
        raise UnknownCodecError(f"codec {name!r} cannot be loaded: {error}") from error
    return get_codec_class(name)


@cache
def _entry_points() -> Mapping[str, Any]:
    # Slow to import and to ask, and only asked for names that are not built in.
    from importlib.metadata import entry_points

    groups = (ENTRY_POINTS_OF_ZARR, ENTRY_POINTS)  # the last one counts
    return {found.name: found for group in groups for found in entry_points(group=group)}


def codec_from_dict(data: str | Mapping[str, Any] | NamedConfig) -> Codec:
    """Return the codec for an entry of `codecs` in a document, or for the name of a codec.

    Raises `UnknownCodecError` or `MetadataValidationError`.

    >>> zarr.codecs.codec_from_dict({"name": "gzip", "configuration": {"level": 1}})
    GzipCodec(level=1)
    """
    name, configuration = _name_and_configuration(data)
    return get_codec_class(name).from_dict({"name": name, "configuration": configuration})


def _name_and_configuration(data: Any) -> tuple[str, Mapping[str, Any]]:
    if isinstance(data, str):
        return data, {}
    if isinstance(data, NamedConfig):
        return data.name, data.configuration
    if isinstance(data, Mapping) and isinstance(data.get("name"), str):
        unknown = data.keys() - {"name", "configuration", "must_understand"}
        configuration = data.get("configuration", {})
        if not unknown and isinstance(configuration, Mapping):
            return data["name"], configuration
    raise MetadataValidationError(
        f"expected a codec as an object with 'name' and 'configuration', found {describe(data)}"
    )


def codecs_from_configs(configs: Iterable[NamedConfig]) -> tuple[Codec, ...]:
    """Return the codecs of an array's metadata, in the order in which they encode.

    Unknown codecs are left out if their documents say that they need not be understood.

    >>> chain = zarr.zeros(2).metadata.chain
    >>> [codec.name for codec in zarr.codecs.codecs_from_configs(chain)]
    ['bytes', 'zstd']
    """
    codecs: list[Codec] = []
    for config in configs:
        try:
            codecs.append(codec_from_dict(config))
        except UnknownCodecError:
            if config.must_understand:
                raise
    match codecs:
        case [*before, V2FilterCodec() as filters, V2CompressorCodec() as compressor] if (
            not is_bytes_codec(compressor.config)
        ):
            # In format 2 a compressor may be one for arrays; then it is the last filter.
            return (*before, V2FilterCodec((*filters.filters, compressor.config)))
    return tuple(codecs)


def _object_of(config: NamedConfig) -> Any:
    try:
        return codec_from_dict(config)
    except (UnknownCodecError, MetadataValidationError):
        return config


def _numcodecs_of(config: Mapping[str, Any]) -> Any:
    try:
        if config.get("id") == "pickle":  # which is only shown
            return load_numcodecs("numcodecs.registry").get_codec(dict(config))
        return numcodecs_object(config)
    except (UnknownCodecError, MetadataValidationError):
        return config


object_makers |= {"codec": _object_of, "numcodecs": _numcodecs_of}


def codec_from_numcodecs(codec: Any) -> Codec:
    """Return the codec of format 3 for an object of numcodecs, or for its configuration.

    zstd, gzip and blosc become the codecs that the specification names, the others those of
    `zarr_core.codecs.numcodecs`. Raises `UnknownCodecError`.

    >>> import numcodecs
    >>> zarr.codecs.codec_from_numcodecs(numcodecs.Zlib(level=3))
    Zlib(level=3)
    """
    config = dict(codec if isinstance(codec, Mapping) else codec.get_config())
    codec_id = config.get("id")
    if codec_id == "pickle":
        numcodecs_object(config)  # raises
    if codec_id in ("zstd", "gzip", "blosc"):
        return fast_codec(config)
    del config["id"]
    if codec_id in ("vlen-utf8", "vlen-bytes"):
        return get_codec_class(codec_id).from_configuration(config)
    return get_codec_class(f"{PREFIX}{codec_id}").from_configuration(config)
