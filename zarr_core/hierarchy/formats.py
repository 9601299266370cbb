"""What the documents of a node are in the other format: 2 and 3 have names of their own for the same."""

import struct
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from zarr_core.codecs import BytesCodec, Crc32cCodec, TransposeCodec
from zarr_core.codecs.base import ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec, Codec
from zarr_core.codecs.registry import codec_from_numcodecs, codecs_from_configs
from zarr_core.errors import BaseZarrError, MetadataValidationError
from zarr_core.hierarchy.create import build_metadata
from zarr_core.metadata import ArrayMetadata
from zarr_core.metadata.chunk_grids import ChunkGrid
from zarr_core.metadata.documents import JSON, NamedConfig, ZarrFormat

DIMENSIONS = "_ARRAY_DIMENSIONS"
"""The attribute in which xarray has the names of dimensions in format 2."""
MASK = "_FillValue"
"""The attribute in which xarray has the value of missing elements in format 3."""


def in_format(
    metadata: ArrayMetadata, zarr_format: ZarrFormat, *, same_keys: bool = True
) -> ArrayMetadata:
    """Return metadata of another format for the chunks of an array as they are stored.

    An undefined fill value of format 2 becomes zero, as which it is read. Names of dimensions are
    the attribute `_ARRAY_DIMENSIONS` in format 2, as xarray has them; arrays that have some keep what
    is missing to xarray. With `same_keys` chunks keep
    their keys, too. Raises `MetadataValidationError` for what the other format cannot express.
    """
    if metadata.zarr_format == zarr_format:
        return metadata
    try:
        codecs = _codecs_of_v2(metadata) if zarr_format == 3 else _codecs_of_v3(metadata)
        return _described(metadata, zarr_format, codecs, same_keys=same_keys)
    except (BaseZarrError, TypeError, ValueError) as error:
        raise MetadataValidationError(f"not possible in format {zarr_format}: {error}") from error


def in_format_anew(metadata: ArrayMetadata, zarr_format: ZarrFormat) -> ArrayMetadata:
    """Return metadata of another format for chunks that are encoded again, as far as they have to be.

    Format 2 has the inner chunks of shards as its chunks; codecs that the other format cannot
    express are its default ones. Raises `MetadataValidationError` where there is no chunk grid or
    data type of that kind.
    """
    sharding = metadata.sharding
    if sharding is not None and zarr_format == 2:
        inner = sharding.configuration
        grid = ChunkGrid.regular(metadata.shape, tuple(inner["chunk_shape"]))
        chain = tuple(NamedConfig(c["name"], c.get("configuration", {})) for c in inner["codecs"])
        metadata = replace(metadata, chunk_grid=grid, chain=chain)
    try:
        return in_format(metadata, zarr_format, same_keys=False)
    except MetadataValidationError as error:
        try:
            return _described(metadata, zarr_format, {}, same_keys=False)
        except (TypeError, ValueError):
            raise error from None


def same_chunks(one: ArrayMetadata, other: ArrayMetadata) -> bool:
    """Return whether chunks of two arrays, of either format, are stored as the same bytes."""
    try:
        one = in_format(one, other.zarr_format, same_keys=False)
    except MetadataValidationError:
        return False
    return (
        one.chunk_grid == other.chunk_grid
        and one.data_type == other.data_type
        and one.chain == other.chain
        and _bits(one) == _bits(other)
    )


def _bits(metadata: ArrayMetadata) -> object:
    fill = metadata.effective_fill
    return fill.tobytes() if isinstance(fill, np.generic) else fill


def _described(
    metadata: ArrayMetadata, zarr_format: ZarrFormat, codecs: Mapping[str, Any], *, same_keys: bool
) -> ArrayMetadata:
    """Return metadata of a format with codecs of that format."""
    attributes = dict(metadata.attributes)
    fill = metadata.effective_fill if zarr_format == 3 else metadata.fill_value
    names: Any = metadata.names
    if zarr_format == 2 and names is not None:
        if all(isinstance(name, str) for name in names):
            attributes.setdefault(DIMENSIONS, list(names))
            fill = _masked_in_format_2(metadata, attributes)
        names = None
    elif zarr_format == 3 and _are_names(attributes.get(DIMENSIONS), metadata.ndim):
        names = attributes.pop(DIMENSIONS)
        _mask_in_format_3(metadata, attributes)
    keys = metadata.chunk_key_encoding if same_keys else None
    if keys is not None and keys.name != "v2":
        raise ValueError(f"chunk keys are {keys.name!r}, and format 2 has only 'v2'")
    given = {"dtype": metadata.data_type, **codecs}
    return build_metadata(
        shape=metadata.shape,
        chunks=metadata.chunk_grid,
        fill_value=fill,
        zarr_format=zarr_format,
        attributes=attributes,
        chunk_key_encoding=keys,
        dimension_names=names,
        **given,
    )


def _are_names(value: JSON, ndim: int) -> bool:
    return isinstance(value, list) and len(value) == ndim and all(isinstance(n, str) for n in value)


# To xarray the fill value of format 2 is a mask: elements that have it are missing. In format 3 the
# attribute `_FillValue` is, in which floats are base64 of eight bytes.


def _mask_in_format_3(metadata: ArrayMetadata, attributes: dict[str, Any]) -> None:
    """Say in attributes for format 3 which value masks, as the fill value of format 2 does."""
    mask = metadata.fill_value
    if mask is None:
        mask = attributes.get(MASK)
    if metadata.dtype.kind == "f" and isinstance(mask, int | float | np.floating):
        attributes[MASK] = b64encode(struct.pack("<d", mask)).decode()
    elif metadata.dtype.kind in "iu" and isinstance(mask, int | np.integer):
        attributes[MASK] = int(mask)


def _masked_in_format_2(metadata: ArrayMetadata, attributes: dict[str, Any]) -> Any:
    """Return a fill value for format 2 that masks only what the attributes of format 3 say.

    One of zero that masks nothing is left undefined, as which it reads.
    """
    fill, mask = metadata.fill_value, attributes.get(MASK)
    if metadata.dtype.kind not in "iuf":
        return fill
    if isinstance(mask, str):
        (mask,) = struct.unpack("<d", b64decode(mask))
    if mask is not None:
        del attributes[MASK]
        if mask == fill or (mask != mask and fill != fill):  # noqa: PLR0124 - both NaN
            return fill
        if mask == mask:  # noqa: PLR0124 - NaN is missing anyway
            attributes[MASK] = mask
    return fill if fill.tobytes().strip(b"\0") else None


# --- codecs ------------------------------------------------------------------------------------------


def _codecs_of_v2(metadata: ArrayMetadata) -> dict[str, Any]:
    """Return the codecs of an array of format 2 as parameters of `build_metadata` for format 3."""
    if metadata.data_type.object_codec is not None:
        raise TypeError(f"elements are any objects ({metadata.data_type.object_codec})")
    filters = list(metadata.v2_filters or ())
    if metadata.data_type.is_variable:
        del filters[:1]  # the serializer of format 3
    before: list[Codec] = []
    if metadata.order == "F" and metadata.ndim > 1:
        before.append(TransposeCodec(order=reversed(range(metadata.ndim))))
    endian = _endian(metadata.dtype)
    for config in filters:
        before.append(_codec_of(config))
        for field in ("dtype", "decode_dtype"):
            if config.get(field) and _endian(np.dtype(config[field])) not in (None, endian):
                raise ValueError(f"filter {config['id']!r} has another byte order than its data")
        for field in ("dtype", "astype", "encode_dtype"):
            if config.get(field):
                endian = _endian(np.dtype(config[field])) or endian
    if metadata.v2_compressor is not None:
        before.append(_codec_of(metadata.v2_compressor))
    arrays, serializers, rest = _kinds(before)
    serializer: Any = serializers[0] if serializers else "auto"
    if not serializers and not metadata.data_type.is_variable:
        serializer = BytesCodec(endian=endian or ("little" if arrays else None))
    return {"filters": arrays, "serializer": serializer, "compressors": rest}


def _codecs_of_v3(metadata: ArrayMetadata) -> dict[str, Any]:
    """Return the codecs of an array of format 3 as parameters of `build_metadata` for format 2."""
    arrays, (serializer,), rest = _kinds(codecs_from_configs(metadata.chain))
    order = "C"
    reversed_axes = tuple(reversed(range(metadata.ndim)))
    if arrays and isinstance(arrays[0], TransposeCodec) and arrays[0].order == reversed_axes:
        order = "F" if metadata.ndim > 1 else "C"
        del arrays[0]
    dtype: Any = metadata.data_type
    if isinstance(serializer, BytesCodec):
        endian = serializer.endian or "little"
        arrays = [_in_byte_order(codec, endian) for codec in arrays]
        if metadata.data_type.needs_endian:
            dtype = metadata.dtype.newbyteorder(endian)
    elif serializer.name not in ("vlen-utf8", "vlen-bytes"):
        arrays.append(serializer)
    steps = [_CRC32C if isinstance(codec, Crc32cCodec) else codec for codec in (*arrays, *rest)]
    compressor = steps.pop() if rest else None
    return {"dtype": dtype, "filters": steps, "compressors": compressor, "order": order}


_CRC32C = {"id": "crc32c", "location": "end"}


def _codec_of(config: Mapping[str, Any]) -> Codec:
    """Return the codec of format 3 that does what a configuration of format 2 does."""
    return Crc32cCodec() if {**_CRC32C, **config} == _CRC32C else codec_from_numcodecs(config)


def _in_byte_order(codec: Any, endian: Any) -> Any:
    """Return a filter for data in a byte order; in format 3 it says nothing of that."""
    config = codec.get_config() if hasattr(codec, "get_config") else None
    if config is None:
        return codec  # refused later: format 2 has none of its kind
    for field in ("dtype", "astype", "encode_dtype", "decode_dtype"):
        if config.get(field):
            config[field] = np.dtype(config[field]).newbyteorder(endian).str
    return config


def _kinds(codecs: Iterable[Codec]) -> tuple[list[Any], list[Any], list[Any]]:
    """Return codecs from arrays to arrays, to bytes, and from bytes; raise for another order."""
    kinds: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    reached = 0
    for codec in codecs:
        kind = [
            isinstance(codec, of) for of in (ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec)
        ].index(True)
        if kind < reached or (kind == reached == 1):
            raise ValueError(f"codec {codec.name!r} where its data are bytes already")
        reached = kind
        kinds[kind].append(codec)
    return kinds


def _endian(dtype: np.dtype[Any]) -> Any:
    """Return the byte order of a data type, None if it has none; raise if fields differ in it."""
    if dtype.names is not None:
        found = {_endian(dtype[name].base) for name in dtype.names} - {None}
        if len(found) > 1:
            raise ValueError(f"fields of {dtype} differ in their byte order")
        return found.pop() if found else None
    return {"<": "little", ">": "big", "=": sys.byteorder}.get(dtype.byteorder)
