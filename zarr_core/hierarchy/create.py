"""Arrays are created here: what users may write for chunks, codecs and fill values, and defaults.

Everything is checked before anything is stored. The defaults, the same on every path and in both
formats: format 3; zstd level 0 without checksum; chunk shapes as zarr-python 3.4.2 chooses them;
the data type's own zero (NaT for times) as fill value.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias

import numpy as np

from zarr_core.codecs import BloscCodec, codec_from_dict, codec_from_numcodecs
from zarr_core.codecs.base import ArrayArrayCodec, ChunkSpec, Codec
from zarr_core.codecs.objects import object_codec
from zarr_core.config import config
from zarr_core.errors import describe, warn
from zarr_core.hierarchy.stored_nodes import (
    REPLACES,
    check_absent,
    check_name,
    check_not_erased,
    create_ancestors,
    erase_node,
    missing_ancestors,
    there_instead,
    write_node,
)
from zarr_core.indexing.values import unmasked
from zarr_core.metadata import ArrayMetadata, NodeMetadata
from zarr_core.metadata.chunk_grids import (
    ChunkGrid,
    RectilinearAxis,
    RegularAxis,
    Shape,
    expand_edges,
)
from zarr_core.metadata.chunk_keys import ChunkKeyEncoding, KeyEncoding, parse_key_encoding
from zarr_core.metadata.data_types import DataType, parse_dtype, parse_v2
from zarr_core.metadata.documents import (
    JSON,
    MAX_DIMENSIONS,
    NamedConfig,
    ZarrFormat,
    check_attributes,
    make_v2_codecs,
)
from zarr_core.metadata.small_types import kind_of
from zarr_core.storage import StorePath

Auto: TypeAlias = Literal["auto"]
ShapeLike: TypeAlias = int | Sequence[int]
ChunksLike: TypeAlias = (
    Literal["auto"] | int | Iterable[int | Sequence[int | Sequence[int]]] | ChunkGrid | None
)
"""Lengths of chunks: `"auto"`, one for all dimensions, or one or several for each dimension."""
ShardsLike: TypeAlias = ChunksLike | Mapping[str, Any]
"""Lengths of shards; a mapping has them as `shape`, and says where the index is."""


class HasDict(Protocol):
    """A codec, here or in zarr-python: it says what metadata documents have."""

    def to_dict(self) -> Any:
        """Return the codec as it stands in a metadata document."""


class HasConfig(Protocol):
    """A codec of numcodecs."""

    def get_config(self) -> Any:
        """Return its configuration."""


CodecLike: TypeAlias = str | Mapping[str, Any] | HasDict | HasConfig
"""A codec, its name, or what a metadata document says of it."""
CodecsLike: TypeAlias = CodecLike | Iterable[CodecLike] | None
FillDefault: Final = type("FillDefault", (), {"__repr__": lambda self: "<default>"})
DEFAULT_FILL_VALUE: Any = FillDefault()
"""Stands for "the data type's own", as None means undefined in format 2."""

DEFAULT_COMPRESSOR_V3 = NamedConfig("zstd", {"level": 0, "checksum": False})
DEFAULT_COMPRESSOR_V2: Mapping[str, JSON] = {"id": "zstd", "level": 0}


# --- shapes ----------------------------------------------------------------------------------------


def as_shape(shape: ShapeLike) -> Shape:
    """Return a shape as a tuple; raise `ValueError` for lengths that are negative or no integers."""
    lengths = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    try:
        checked = tuple(n.__index__() for n in lengths)
    except AttributeError:
        raise TypeError(
            f"Expected an iterable of integers as shape, found {describe(shape)}"
        ) from None
    if any(not 0 <= n < 1 << 63 for n in checked):
        raise ValueError(f"a shape has lengths between 0 and 2**63 - 1, found {describe(shape)}")
    if len(checked) > MAX_DIMENSIONS:
        raise ValueError(f"an array has up to {MAX_DIMENSIONS} dimensions, found {len(checked)}")
    return checked


def given_compressors(compressor: Any, compressors: CodecsLike, zarr_format: ZarrFormat) -> Any:
    """Return compressors that are given under one name or the other; raise `ValueError` for both."""
    if isinstance(compressor, str) and compressor == "auto":
        return compressors
    if not (isinstance(compressors, str) and compressors == "auto"):
        raise ValueError("Cannot specify both `compressor` and `compressors`.")
    if zarr_format == 3:
        warn("compressor")
    return compressor


def guess_chunks(shape: Shape, itemsize: int) -> Shape:
    """Return a chunk shape for arrays of a shape, the same that zarr-python 3.4.2 chooses.

    A chunk aims at 256 KiB for an array of 1 MiB and doubles with every factor of ten, between
    128 KiB and 64 MiB; starting from the whole array, dimensions are halved in turn.
    """
    lengths = [max(n, 1) for n in shape]
    if itemsize == 0 or not lengths:
        return tuple(lengths)
    megabytes = math.prod(map(float, lengths)) * itemsize / 2**20
    target = min(max(2**18 * 2 ** math.log10(megabytes), 2**17), 2**26)
    turn = 0
    while True:
        size = math.prod(map(float, lengths)) * itemsize
        near = size < target or abs(size - target) / target < 0.5
        if (near and size < 2**26) or max(lengths) == 1:
            return tuple(lengths)
        dim = turn % len(lengths)
        lengths[dim] = math.ceil(lengths[dim] / 2)
        turn += 1


def _axis(entry: Any, length: int, dim: int, unit: int) -> RegularAxis | RectilinearAxis:
    if isinstance(entry, int | np.integer) and not isinstance(entry, bool):
        if entry == -1:
            return RegularAxis(length, -(-max(length, 1) // unit) * unit)
        if entry < 1:
            raise ValueError(f"chunks have lengths of at least 1 (or -1 for all), found {entry}")
        return RegularAxis(length, int(entry))
    if not isinstance(entry, Iterable) or isinstance(entry, str):
        raise TypeError(
            f"a chunk length is an integer, found {describe(entry)} for dimension {dim}"
        )
    edges = [e if isinstance(e, list | tuple) else int(e) for e in entry]
    axis = expand_edges(edges, length, f"chunks of dimension {dim}")
    assert isinstance(axis, RectilinearAxis)
    if length and sum(axis.edges) != length:
        raise ValueError(
            f"chunk lengths of dimension {dim} sum up to {sum(axis.edges)}, not to {length}"
        )
    return axis


def as_grid(chunks: Any, shape: Shape, itemsize: int, unit: Shape | None = None) -> ChunkGrid:
    """Return the chunk grid that a user means.

    `"auto"`, None and True choose a shape; False and -1 mean one chunk; an int is for all
    dimensions; a list of lengths for a dimension makes the grid rectilinear. `unit` is what the
    lengths chosen for -1 are multiples of.
    """
    if isinstance(chunks, ChunkGrid):
        return chunks.resized(shape)
    if chunks is None or chunks is True or (isinstance(chunks, str) and chunks == "auto"):
        return ChunkGrid.regular(shape, guess_chunks(shape, itemsize))
    if chunks is False:
        chunks = -1
    if isinstance(chunks, int | np.integer):
        chunks = (chunks,) * len(shape)
    if isinstance(chunks, str | Mapping) or not isinstance(chunks, Iterable):
        raise TypeError(f"chunks are lengths or 'auto', found {describe(chunks)}")
    entries = tuple(chunks)
    if len(entries) != len(shape):
        raise ValueError(
            f"chunks has {len(entries)} dimensions but shape has {len(shape)} dimensions"
        )
    units = unit or (1,) * len(shape)
    return ChunkGrid(
        tuple(
            _axis(entry, length, dim, u)
            for dim, (entry, length, u) in enumerate(zip(entries, shape, units, strict=True))
        )
    )


def _chunk_grid(chunks: ChunksLike, shards: Any, shape: Shape, itemsize: int) -> ChunkGrid:
    """Return the grid of chunks; those chosen here fit into the shards that were asked for."""
    wanted = shards.get("shape") if isinstance(shards, Mapping) else shards
    if isinstance(wanted, bool) or (wanted is None and shards is not None):
        raise TypeError(f"shards are lengths or 'auto', found {describe(shards)}")
    chosen = chunks is None or (isinstance(chunks, str) and chunks == "auto")
    if wanted is None or isinstance(wanted, str) or not chosen:
        return as_grid(chunks, shape, itemsize)
    axes = as_grid(wanted, shape, itemsize).axes
    sizes = tuple(a.size if isinstance(a, RegularAxis) else math.gcd(*a.edges) for a in axes)
    return ChunkGrid.regular(shape, _divisors(guess_chunks(sizes, itemsize), sizes))


def _auto_shards(shape: Shape, chunk_shape: Shape, itemsize: int, target: int | None) -> Shape:
    warn("automatic shards")
    if target is None:
        return tuple(c * 2 if n // c > 8 else c for n, c in zip(shape, chunk_shape, strict=True))
    size = math.prod(chunk_shape) * itemsize
    n = 1
    while (
        size
        and chunk_shape
        and size * (n + 1) ** len(chunk_shape) <= target
        and all(c * (n + 1) <= length for c, length in zip(chunk_shape, shape, strict=True))
    ):
        n += 1
    return tuple(c * n for c in chunk_shape)


def _shard_layout(
    shards: Any, chunks: ChunkGrid, shape: Shape, itemsize: int
) -> tuple[ChunkGrid, str]:
    """Return the grid of shards and where their indexes are."""
    chunk_shape = chunks.chunk_shape
    if chunk_shape is None:
        raise ValueError("inner chunks of a sharded array all have one shape")
    location = "end"
    if isinstance(shards, Mapping):
        location = shards.get("index_location") or "end"
        shards = shards["shape"]
    if isinstance(shards, str) and shards == "auto":
        target = config.get("array.target_shard_size_bytes")
        shards = _auto_shards(shape, chunk_shape, itemsize, target)
    grid = as_grid(shards, shape, itemsize, chunk_shape)
    for dim, (axis, inner) in enumerate(zip(grid.axes, chunk_shape, strict=True)):
        edges = {axis.size} if isinstance(axis, RegularAxis) else set(axis.edges)
        for edge in edges:
            if edge % inner:
                raise ValueError(
                    f"shard length {edge} of dimension {dim} is not a multiple of the inner "
                    f"chunk's length {inner}"
                )
    return grid, location


# --- codecs ----------------------------------------------------------------------------------------


def _named(codec: Any, dtype: np.dtype[Any]) -> NamedConfig:
    """Return a codec that a user gave, as it stands in a format 3 document."""
    if hasattr(codec, "codec_id") or (isinstance(codec, Mapping) and "id" in codec):
        codec = codec_from_numcodecs(codec)  # with nothing of the data type filled in
    resolve = getattr(codec, "resolve", None)
    if isinstance(codec, Codec):
        data = (resolve(dtype) if resolve else codec).to_dict()
    elif isinstance(codec, NamedConfig):
        return codec
    elif isinstance(codec, str):
        data = {"name": codec}
    elif isinstance(codec, Mapping) and isinstance(codec.get("name"), str):
        data = dict(codec)
    elif not isinstance(codec, Mapping) and hasattr(codec, "to_dict"):
        data = codec.to_dict()
        # What an object of zarr-python leaves to the data type stands in it as for bytes.
        for name in getattr(codec, "_tunable_attrs", ()):
            data["configuration"].pop(name, None)
    else:
        raise TypeError(f"{describe(codec)} is not a codec")
    # Read it once: this fills in defaults and refuses unknown settings before anything is stored.
    made = codec_from_dict(data)
    resolve = getattr(made, "resolve", None)
    data = (resolve(dtype) if resolve else made).to_dict()
    return NamedConfig(data["name"], data.get("configuration") or {})


def _listed(codecs: Any) -> list[Any]:
    if codecs is None:
        return []
    if isinstance(codecs, Mapping | Codec | str) or hasattr(codecs, "codec_id"):
        return [codecs]
    if isinstance(codecs, NamedConfig) or hasattr(codecs, "to_dict"):
        return [codecs]
    return list(codecs)


def _v3_codecs(
    spec: ChunkSpec, filters: Any, serializer: Any, compressors: Any
) -> tuple[NamedConfig, ...]:
    chain = []
    for like in [] if isinstance(filters, str) else _listed(filters):
        chain.append(_named(like, spec.dtype))
        codec = codec_from_dict(chain[-1])
        if isinstance(codec, ArrayArrayCodec):  # what is no filter is refused with the whole chain
            spec = codec.bind(spec).spec
    dtype = spec.dtype
    if isinstance(serializer, str) and serializer == "auto":
        if spec.data_type.is_variable:
            chain.append(NamedConfig("vlen-utf8" if dtype.kind == "T" else "vlen-bytes"))
        else:
            needs_endian = spec.data_type.needs_endian
            chain.append(NamedConfig("bytes", {"endian": "little"} if needs_endian else {}))
    else:
        chain.append(_named(serializer, dtype))
    if isinstance(compressors, str) and compressors == "auto":
        chain.append(DEFAULT_COMPRESSOR_V3)
    else:
        chain.extend(_named(c, dtype) for c in _listed(compressors))
    return tuple(chain)


def _v2_config(codec: Any) -> dict[str, JSON]:
    """Return a codec that a user gave, as it stands in a format 2 document."""
    if hasattr(codec, "codec_id"):
        settings = dict(codec.get_config())
        if settings["id"] == "zstd" and not settings.get("checksum"):
            settings.pop("checksum", None)  # some readers of format 2 refuse it
        return settings
    if isinstance(codec, Mapping) and isinstance(codec.get("id"), str):
        return dict(codec)
    if isinstance(codec, Codec):
        data = codec.to_dict()
        name = data["name"].removeprefix("numcodecs.")
        settings = dict(data.get("configuration") or {})
        if isinstance(codec, BloscCodec):
            if codec.shuffle is None:  # format 2 has a number for "as the data type wants it"
                settings["shuffle"] = "auto"
            shuffles = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
            settings["shuffle"] = shuffles.get(settings.get("shuffle", ""), -1)
            settings.pop("typesize", None)
        if name == "zstd" and not settings.get("checksum"):
            settings.pop("checksum", None)
        if name in ("blosc", "zstd", "gzip") or data["name"].startswith("numcodecs."):
            return {"id": name, **settings}
    raise TypeError(
        f"{describe(codec)} is not a codec of format 2 (a numcodecs codec or its config)"
    )


def _v2_codecs(
    data_type: DataType, filters: Any, compressors: Any
) -> tuple[tuple[dict[str, JSON], ...] | None, dict[str, JSON] | None]:
    listed = [] if isinstance(filters, str) else [_v2_config(c) for c in _listed(filters)]
    if data_type.object_codec is not None:
        if not listed or listed[0]["id"] != data_type.object_codec:
            raise TypeError(f"the first filter must be the codec {data_type.object_codec!r}")
        object_codec(listed[0], allow_pickle=True)  # raises for what nobody could read
    elif data_type.is_variable:
        needed = "vlen-utf8" if data_type.dtype.kind == "T" else "vlen-bytes"
        if not listed or listed[0]["id"] != needed:
            listed.insert(0, {"id": needed})
    if isinstance(compressors, str):
        if compressors != "auto":
            raise TypeError(f"{compressors!r} is not a codec")
        return tuple(listed) or None, dict(DEFAULT_COMPRESSOR_V2)
    compressor = [_v2_config(c) for c in _listed(compressors)]
    if len(compressor) > 1:
        raise ValueError("format 2 has at most one compressor; others go into filters")
    return tuple(listed) or None, compressor[0] if compressor else None


def as_key_encoding(like: Any, zarr_format: ZarrFormat) -> KeyEncoding:
    """Return the chunk key encoding that a user means."""
    if like is None:
        return ChunkKeyEncoding() if zarr_format == 3 else ChunkKeyEncoding("v2", ".")
    if isinstance(like, KeyEncoding):
        return like
    if isinstance(like, str):
        return parse_key_encoding(like, {})
    if isinstance(like, tuple | list):
        name, separator = like
        return parse_key_encoding(name, {"separator": separator})
    if hasattr(like, "to_dict"):
        like = like.to_dict()
    if not isinstance(like, Mapping) or "name" not in like:
        raise TypeError(f"{describe(like)} is not a chunk key encoding")
    settings = like.get("configuration") or {k: v for k, v in like.items() if k != "name"}
    return parse_key_encoding(like["name"], settings)


def _data_type(dtype: Any, filters: Any, zarr_format: ZarrFormat) -> DataType:
    """Return a data type; what objects are in format 2, their codec says: the first filter."""
    is_object = (
        dtype in (object, "O", "|O", "object")
        if isinstance(dtype, str | type)
        else (isinstance(dtype, np.dtype) and dtype.kind == "O")
    )
    if zarr_format == 2 and is_object and filters and not isinstance(filters, str):
        return parse_v2("|O", _v2_config(_listed(filters)[0])["id"])
    return parse_dtype(dtype, zarr_format)


def build_metadata(
    *,
    shape: ShapeLike,
    dtype: Any,
    chunks: ChunksLike = "auto",
    shards: Any = None,
    filters: Any = "auto",
    compressors: Any = "auto",
    serializer: Any = "auto",
    fill_value: Any = DEFAULT_FILL_VALUE,
    order: Literal["C", "F"] | None = None,
    zarr_format: ZarrFormat = 3,
    attributes: Mapping[str, JSON] | None = None,
    chunk_key_encoding: Any = None,
    dimension_names: Iterable[str | None] | None = None,
) -> ArrayMetadata:
    """Return the metadata of an array as a user describes it; see `create_array`."""
    if zarr_format not in (2, 3):
        raise ValueError(f"zarr_format must be 2 or 3, not {zarr_format!r}")
    lengths = as_shape(shape)
    data_type = _data_type(dtype, filters, zarr_format)
    itemsize = data_type.dtype.itemsize
    inner = _chunk_grid(chunks, shards, lengths, itemsize)
    keys = as_key_encoding(chunk_key_encoding, zarr_format)
    keys.check(len(lengths))
    checked = check_attributes(attributes or {})
    if fill_value is DEFAULT_FILL_VALUE or (fill_value is None and zarr_format == 3):
        fill = data_type.default_fill
    else:
        fill = None if fill_value is None else data_type.cast_fill(unmasked(fill_value))
    if data_type.object_codec is not None:
        fill = check_attributes({"fill_value": fill})["fill_value"]
    if zarr_format == 2:
        refused = {
            "shards": shards is not None,
            "serializer": serializer is not None and not isinstance(serializer, str),
            "dimension names": dimension_names is not None,
            "rectilinear chunk grids": inner.chunk_shape is None,
        }
        for what, is_given in refused.items():
            if is_given:
                raise ValueError(f"Zarr format 2 has no {what}")
        if keys.name != "v2":
            raise ValueError("Zarr format 2 has only the chunk key encoding 'v2'")
        v2_filters, v2_compressor = _v2_codecs(data_type, filters, compressors)
        layout = order or config.get("array.order")
        if layout not in ("C", "F"):
            raise ValueError(f"order must be 'C' or 'F', not {order!r}")
        if layout == "F" and len(lengths) > 1 and data_type.object_codec is not None:
            raise ValueError("arrays of any objects have order 'C': zarr 2 mixes up those of 'F'")
        return ArrayMetadata(
            2,
            data_type,
            inner,
            keys,
            fill,
            make_v2_codecs(layout, len(lengths), v2_filters, v2_compressor),
            checked,
            order=layout,
            v2_filters=v2_filters,
            v2_compressor=v2_compressor,
        )
    if order is not None:
        warn("order")
    first = inner.stored_shape((0,) * len(lengths))
    spec = ChunkSpec(first, data_type, data_type.dtype, fill)
    codecs = _v3_codecs(spec, filters, serializer, compressors)
    grid = inner
    if shards is not None:
        grid, location = _shard_layout(shards, inner, lengths, itemsize)
        codecs = (_sharding(inner.chunk_shape or (), codecs, location),)
    names = None if dimension_names is None else tuple(dimension_names)
    if names is not None and (
        len(names) != len(lengths) or not all(n is None or isinstance(n, str) for n in names)
    ):
        raise ValueError(f"dimension_names has {len(names)} names for {len(lengths)} dimensions")
    _warn_of_type(data_type.dtype)
    return ArrayMetadata(3, data_type, grid, keys, fill, codecs, checked, names)


def _warn_of_type(dtype: np.dtype[Any]) -> None:
    """Warn of a data type that has no specification, alone or in a struct."""
    for base in [dtype] if dtype.names is None else [dtype[name].base for name in dtype.names]:
        if base.names is not None:
            _warn_of_type(base)
        elif kind_of(base) in "SV":
            name = "NullTerminatedBytes" if base.kind == "S" else "RawBytes"
            warn("unstable data type", f"{name}(length={base.itemsize})")
        elif base.kind == "O":
            warn("unstable data type", "VariableLengthBytes()")


def _divisors(chunk_shape: Shape, shard_shape: Shape) -> Shape:
    """Return lengths close to those of a chunk shape that divide those of a shard shape."""
    return tuple(
        next((c for c in range(min(chunk, shard), 0, -1) if shard % c == 0), 1)
        for chunk, shard in zip(chunk_shape, shard_shape, strict=True)
    )


def _sharding(chunk_shape: Shape, codecs: Sequence[NamedConfig], location: str) -> NamedConfig:
    index_codecs = [NamedConfig("bytes", {"endian": "little"}), NamedConfig("crc32c")]
    return NamedConfig(
        "sharding_indexed",
        {
            "chunk_shape": list(chunk_shape),
            "codecs": [codec.to_json() for codec in codecs],
            "index_codecs": [codec.to_json() for codec in index_codecs],
            "index_location": location,
        },
    )


# --- nodes -----------------------------------------------------------------------------------------


def create_node(
    place: StorePath,
    metadata: NodeMetadata,
    *,
    overwrite: bool = False,
    below: StorePath | None = None,
    source: Any = None,
) -> None:
    """Store a new node and the groups above it that are missing.

    With `overwrite` what was at the place is removed first: documents and chunks, never files that
    belong to no node. Without, an existing node of either format is an error, and of several that
    create a node at the same time one succeeds. `below` is a group above the place that was there a
    moment ago; `source` is what will be copied into the node.
    """
    place.store._check_writable()
    if found := there_instead(place):
        raise NotADirectoryError(f"nothing can be created at {place}: {found[0]}")
    check_name(place.path if below is None else place.path[len(below.path) :])
    if overwrite:
        check_not_erased(place, [source])
    else:
        check_absent(place, REPLACES)
    missing = missing_ancestors(place, metadata.zarr_format, below)
    if overwrite:
        erase_node(place, metadata if isinstance(metadata, ArrayMetadata) else None)
    create_ancestors(place, metadata.zarr_format, missing)
    write_node(place, metadata, overwrite=overwrite)
