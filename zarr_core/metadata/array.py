"""What the documents of an array say: `zarr.json`, or `.zarray` and `.zattrs`.

Formats 2 and 3 meet here and nowhere else: both become an `ArrayMetadata` with one list of codecs.
A codec is only named here, so an array with an unknown codec can be opened and shows its shape and
attributes; it fails when its data is touched. Short forms are read, long forms are written, fields
that need not be understood are kept. Refusals name the document, the field and what was found.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/core/v3.0.html#metadata and
https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html#metadata
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, ClassVar, Literal, cast, final

import numpy as np

from zarr_core.errors import MetadataValidationError, describe, unexpected
from zarr_core.metadata.chunk_grids import (
    ChunkGrid,
    Coords,
    Shape,
    parse_grid,
)
from zarr_core.metadata.chunk_keys import ChunkKeyEncoding, KeyEncoding, parse_key_encoding
from zarr_core.metadata.data_types import DataType, parse_v2, parse_v3
from zarr_core.metadata.documents import (
    JSON,
    V2_ARRAY,
    V2_ATTRIBUTES,
    V3_DOCUMENT,
    Copied,
    NamedConfig,
    ZarrFormat,
    attributes_in,
    check_header,
    codecs_in,
    data_type_in,
    dump_json,
    extra_fields_in,
    in_field,
    make_v2_codecs,
    named,
    names_in,
    plain_json,
    required,
    shape_of,
    v2_codecs_in,
    without_empty_chunks,
)

object_makers: dict[str, Callable[[Any], Any]] = {"codec": lambda c: c, "numcodecs": lambda c: c}
"""Make the objects that `ArrayMetadata` shows for configurations: codecs, and those of numcodecs.

Set by `zarr_core.codecs`, which is above this package.
"""

_V3_FIELDS = frozenset(
    (
        *("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding"),
        *("fill_value", "codecs", "attributes", "dimension_names", "storage_transformers"),
    )
)
_V2_FIELDS = frozenset(
    (
        *("zarr_format", "shape", "chunks", "dtype", "compressor", "fill_value", "order"),
        *("filters", "dimension_separator"),
    )
)


@final
@dataclass(frozen=True, eq=False)
class ArrayMetadata:
    """What the documents of an array say, in either format."""

    zarr_format: ZarrFormat
    data_type: DataType
    chunk_grid: ChunkGrid
    chunk_key_encoding: KeyEncoding
    fill_value: Any
    """A NumPy scalar, str or bytes; None only in format 2, where it means undefined."""
    chain: tuple[NamedConfig, ...]
    """The codecs in encoding order; for format 2 made from `order`, `filters` and `compressor`."""
    attributes: Mapping[str, JSON] = cast("Any", Copied())
    names: tuple[str | None, ...] | None = None
    extra_fields: Mapping[str, JSON] = field(default_factory=dict)
    order: Literal["C", "F"] = "C"
    """Memory layout in stored chunks: format 2 only."""
    v2_filters: tuple[Mapping[str, JSON], ...] | None = None
    v2_compressor: Mapping[str, JSON] | None = None

    @property
    def shape(self) -> Shape:
        """Shape of the array."""
        return self.chunk_grid.shape

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.chunk_grid.axes)

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy data type of the array in memory."""
        return self.data_type.dtype

    @property
    def effective_fill(self) -> Any:
        """The fill value as data: an undefined one of format 2 reads as zero."""
        if self.fill_value is not None:
            return self.fill_value
        if self.data_type.is_variable:
            return self.data_type.default_fill
        return np.zeros((), self.dtype)[()]

    @property
    def dimension_names(self) -> tuple[str | None, ...] | None:
        """Names of the dimensions; format 2 has none, and the attribute does not exist there."""
        if self.zarr_format == 2:
            raise AttributeError("metadata of format 2 has no attribute 'dimension_names'")
        return self.names

    @property
    def codecs(self) -> tuple[Any, ...]:
        """The codecs in encoding order as objects; what is not known here as its `NamedConfig`."""
        return tuple(map(object_makers["codec"], self.chain))

    @property
    def inner_codecs(self) -> tuple[Any, ...]:
        """The codecs of a chunk: of the inner ones when the array is sharded."""
        codecs = self.codecs
        return codecs if self.sharding is None else getattr(codecs[0], "codecs", codecs)

    @property
    def filters(self) -> tuple[Any, ...] | None:
        """The filters of format 2 as objects of numcodecs; format 3 has no such field."""
        if self.zarr_format == 3:
            raise AttributeError("metadata of format 3 has no attribute 'filters'")
        filters = self.v2_filters
        return tuple(map(object_makers["numcodecs"], filters)) if filters else None

    @property
    def compressor(self) -> Any:
        """The compressor of format 2 as an object of numcodecs; format 3 has no such field."""
        if self.zarr_format == 3:
            raise AttributeError("metadata of format 3 has no attribute 'compressor'")
        config = self.v2_compressor
        return None if config is None else object_makers["numcodecs"](config)

    @property
    def dimension_separator(self) -> str:
        """What stands between the numbers of a chunk key."""
        return self.chunk_key_encoding.separator

    @property
    def node_type(self) -> Literal["array"]:
        """The type of the node."""
        return "array"

    @property
    def sharding(self) -> NamedConfig | None:
        """The sharding codec when it is the only codec, so that shards and chunks have shapes."""
        if len(self.chain) == 1 and self.chain[0].name == "sharding_indexed":
            return self.chain[0]
        return None

    @property
    def shards(self) -> Shape | None:
        """Shape of a shard, or None when the array is not sharded."""
        if self.sharding is None:
            return None
        if self.chunk_grid.chunk_shape is None:
            raise NotImplementedError(
                "a rectilinear chunk grid has no single shard shape; use write_chunk_sizes"
            )
        return self.chunk_grid.chunk_shape

    @property
    def chunks(self) -> Shape:
        """Shape of a chunk: the inner one when the array is sharded."""
        if self.chunk_grid.chunk_shape is None:
            raise NotImplementedError(
                "a rectilinear chunk grid has no single chunk shape; use read_chunk_sizes"
            )
        if self.sharding is not None:
            return tuple(self.sharding.configuration["chunk_shape"])
        return self.chunk_grid.chunk_shape

    def encode_chunk_key(self, chunk_coords: Coords) -> str:
        """Return the key of a chunk, relative to the array."""
        return self.chunk_key_encoding.encode(chunk_coords)

    def update_shape(self, shape: Sequence[int]) -> "ArrayMetadata":
        """Return a copy with another shape."""
        sharding = self.sharding
        inner = None if sharding is None else sharding.configuration["chunk_shape"]
        grid = self.chunk_grid.resized(shape, inner)
        return replace(self, chunk_grid=grid, attributes=self._attributes)

    @property
    def _attributes(self) -> Mapping[str, JSON]:
        """The attributes themselves, to be looked at."""
        return self.__dict__["attributes"]  # type: ignore[no-any-return]

    def update_attributes(self, attributes: Mapping[str, JSON]) -> "ArrayMetadata":
        """Return a copy with other attributes."""
        return replace(self, attributes=dict(attributes))

    def to_dict(self) -> dict[str, JSON]:
        """Return the document of the array; in format 2 with `attributes` in it."""
        if self.zarr_format == 3:
            return deepcopy(self._to_v3())
        return deepcopy({**self._to_v2(), "attributes": self._attributes})

    def _to_v3(self) -> dict[str, JSON]:
        document: dict[str, JSON] = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.data_type.to_v3(),
            "chunk_grid": self.chunk_grid.to_json(),
            "chunk_key_encoding": self.chunk_key_encoding.to_json(),
            "fill_value": self.data_type.fill_to_json(self.fill_value, 3),
            "codecs": [codec.to_json() for codec in self.chain],
            "attributes": self._attributes,
            "storage_transformers": [],
        }
        if self.names is not None:
            document["dimension_names"] = list(self.names)
        return {**document, **self.extra_fields}

    def _to_v2(self) -> dict[str, JSON]:
        filters = self.v2_filters
        return {
            "zarr_format": 2,
            "shape": list(self.shape),
            "chunks": list(self.chunk_grid.chunk_shape or ()),
            "dtype": self.data_type.to_v2(),
            "compressor": None if self.v2_compressor is None else dict(self.v2_compressor),
            "fill_value": self.data_type.fill_to_json(self.fill_value, 2),
            "order": self.order,
            "filters": None if filters is None else [dict(f) for f in filters],
            "dimension_separator": self.chunk_key_encoding.separator,
            **self.extra_fields,
        }

    def documents(self) -> dict[str, bytes]:
        """Return the documents to store, by key relative to the node."""
        if self.zarr_format == 3:
            return {V3_DOCUMENT: dump_json(self._to_v3(), V3_DOCUMENT)}
        return {
            V2_ATTRIBUTES: dump_json(self._attributes, V2_ATTRIBUTES),
            V2_ARRAY: dump_json(self._to_v2(), V2_ARRAY),
        }

    def to_buffer_dict(self, prototype: Any) -> dict[str, Any]:
        """Return the documents to store as buffers of a prototype of zarr-python's."""
        documents = self.documents().items()
        return {name: prototype.buffer.from_bytes(text) for name, text in documents}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ArrayMetadata):
            return NotImplemented
        # As text: NaN is equal to NaN, -0.0 is not 0.0.
        return repr(self.to_dict()) == repr(other.to_dict())

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    @classmethod
    def from_dict(cls, data: Mapping[str, JSON], document: object = "metadata") -> "ArrayMetadata":
        """Return the metadata of an array document; in format 2 `attributes` may be part of it."""
        data = plain_json(data, document)
        keys = data.get("chunk_key_encoding")
        if isinstance(keys, dict) and "separator" in keys:  # as zarr-python takes it, too
            separator = {"separator": keys.pop("separator")}
            data["chunk_key_encoding"] = {"configuration": separator, **keys}
        if data.get("zarr_format") == 2:
            rest = {key: value for key, value in data.items() if key != "attributes"}
            return parse_array_v2(rest, data.get("attributes"), document)
        return parse_array_v3(data, document)


def parse_array_v3(data: Mapping[str, JSON], document: object) -> ArrayMetadata:
    """Return what a `zarr.json` of an array says; raise `MetadataValidationError`."""
    check_header(data, 3, "array", document)
    shape = shape_of(data, document)
    type_json = required(data, "data_type", document)
    if not isinstance(type_json, str):
        named(type_json, document, "data_type")
    data_type = data_type_in(document, "data_type", type_json, parse_v3)
    grid_json = named(required(data, "chunk_grid", document), document, "chunk_grid")
    grid = in_field(document, "chunk_grid", _grid, grid_json, shape)
    keys_json = named(
        required(data, "chunk_key_encoding", document), document, "chunk_key_encoding"
    )
    keys = in_field(document, "chunk_key_encoding", parse_key_encoding, *keys_json[:2])
    if keys.__class__ is not ChunkKeyEncoding:
        in_field(document, "chunk_key_encoding", keys.check, len(shape))
    fill_json = required(data, "fill_value", document)
    fill_value = in_field(document, "fill_value", _fill, data_type, fill_json, 3)
    if transformers := data.get("storage_transformers"):
        raise MetadataValidationError(
            f"{document}: field 'storage_transformers': Arrays with storage transformers are not "
            f"supported, found {describe(transformers)}"
        )
    return _array_metadata(
        zarr_format=3,
        data_type=data_type,
        chunk_grid=grid,
        chunk_key_encoding=keys,
        fill_value=fill_value,
        chain=codecs_in(data, len(shape), document),
        attributes=attributes_in(data.get("attributes"), document),
        names=names_in(data.get("dimension_names"), len(shape), document),
        extra_fields=extra_fields_in(data, _V3_FIELDS, document),
    )


def _array_metadata(**fields: Any) -> ArrayMetadata:
    """Return what the constructor does; setting twelve frozen fields takes 1.5 µs of 25."""
    metadata = object.__new__(ArrayMetadata)
    vars(metadata).update(fields)
    return metadata


# The arrays of a hierarchy share most of what follows, and what is shared is never changed.


def _grid(described: NamedConfig, shape: Shape) -> ChunkGrid:
    lengths = described.configuration.get("chunk_shape")
    if (
        described.name == "regular"
        and type(lengths) is list
        and len(described.configuration) == 1
        and len(lengths) == len(shape)
        and all([type(n) is int and 1 <= n < 1 << 63 for n in lengths])  # noqa: C419 - faster
    ):
        return _regular_grid(shape, tuple(lengths))
    configuration = without_empty_chunks(described.configuration, "chunk_shape", shape)
    return parse_grid(described.name, configuration, shape)


_regular_grid = lru_cache(1024)(ChunkGrid.regular)


def _fill(data_type: DataType, value: JSON, zarr_format: ZarrFormat) -> Any:
    kind: type = type(value)
    plain = kind in (int, float, str) and data_type.__class__ is DataType
    if plain and data_type.dtype.names is None and len(text := str(value)) < 64:
        return _cached_fill(data_type, kind, text, zarr_format)
    return data_type.fill_from_json(value, zarr_format)


@lru_cache(1024)
def _cached_fill(
    data_type: DataType, kind: Callable[[str], Any], text: str, zarr_format: ZarrFormat
) -> Any:
    return data_type.fill_from_json(kind(text), zarr_format)


def parse_array_v2(data: Mapping[str, JSON], attributes: JSON, document: object) -> ArrayMetadata:
    """Return what `.zarray` and `.zattrs` say; raise `MetadataValidationError`."""
    check_header(data, 2, None, document)
    shape = shape_of(data, document)
    chunks = NamedConfig("regular", {"chunk_shape": required(data, "chunks", document)})
    grid = in_field(document, "chunks", _grid, chunks, shape)
    order = required(data, "order", document)
    if order not in ("C", "F"):
        raise unexpected(f"{document}: field 'order'", "'C' or 'F'", order)
    separator = {"separator": data.get("dimension_separator", ".")}
    keys = in_field(document, "dimension_separator", parse_key_encoding, "v2", separator)
    filters = v2_codecs_in(required(data, "filters", document), document, "filters")
    compressor = required(data, "compressor", document)
    if compressor is not None:
        v2_codecs_in([compressor], document, "compressor")
    type_json = required(data, "dtype", document)
    object_codec = filters[0]["id"] if filters else None
    parse = _cached_v2 if isinstance(type_json, str) else parse_v2
    data_type = data_type_in(document, "dtype", type_json, parse, object_codec)
    fill_json = required(data, "fill_value", document)
    fill_value = in_field(document, "fill_value", _fill, data_type, fill_json, 2)
    return _array_metadata(
        zarr_format=2,
        data_type=data_type,
        chunk_grid=grid,
        chunk_key_encoding=keys,
        fill_value=fill_value,
        chain=make_v2_codecs(order, len(shape), filters, compressor),
        attributes=attributes_in(attributes, f"{document}, {V2_ATTRIBUTES}"),
        extra_fields={}
        if data.keys() <= _V2_FIELDS
        else {k: v for k, v in data.items() if k not in _V2_FIELDS},
        order=order,
        v2_filters=filters,
        v2_compressor=compressor,
    )


_cached_v2 = lru_cache(256)(parse_v2)
