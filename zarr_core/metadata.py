"""Metadata documents and what they say: `zarr.json`, `.zarray`, `.zgroup`, `.zattrs`.

Formats 2 and 3 meet here and nowhere else: both become an `ArrayMetadata` with one list of codecs.
A codec is only named here, so an array with an unknown codec can be opened and shows its shape and
attributes; it fails when its data is touched. Short forms are read, long forms are written, fields
that need not be understood are kept. Refusals name the document, the field and what was found.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/core/v3.0.html#metadata and
https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html#metadata
"""

import json
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, final

import numpy as np

from zarr_core.config import config
from zarr_core.dtypes import DataType, parse_v2, parse_v3
from zarr_core.errors import (
    DataTypeValidationError,
    MetadataValidationError,
    NodeTypeValidationError,
    ZarrUserWarning,
    describe,
)
from zarr_core.grid import (
    ChunkGrid,
    ChunkKeyEncoding,
    Coords,
    Shape,
    parse_grid,
    parse_key_encoding,
)

ZarrFormat: TypeAlias = Literal[2, 3]
JSON: TypeAlias = Any
T = TypeVar("T")

V3_DOCUMENT = "zarr.json"
V2_ARRAY, V2_GROUP, V2_ATTRIBUTES = ".zarray", ".zgroup", ".zattrs"
V2_CONSOLIDATED = ".zmetadata"
DOCUMENTS = frozenset({V3_DOCUMENT, V2_ARRAY, V2_GROUP, V2_ATTRIBUTES, V2_CONSOLIDATED})
"""Keys, relative to a node, that are metadata documents."""

MAX_DIMENSIONS = 64
"""NumPy's limit."""

_ARRAY_FIELDS = frozenset(
    {
        "zarr_format",
        "node_type",
        "shape",
        "data_type",
        "chunk_grid",
        "chunk_key_encoding",
        "fill_value",
        "codecs",
        "attributes",
        "dimension_names",
        "storage_transformers",
    }
)
_GROUP_FIELDS = frozenset({"zarr_format", "node_type", "attributes", "consolidated_metadata"})


class NamedConfig(NamedTuple):
    """An extension point in a document: a codec, a grid, a key encoding."""

    name: str
    configuration: Mapping[str, JSON] = {}
    must_understand: bool = True

    def to_json(self) -> dict[str, JSON]:
        """Return the long form."""
        data: dict[str, JSON] = {"name": self.name}
        # These two are written with an empty configuration by the other implementations.
        if self.configuration or self.name in ("vlen-utf8", "vlen-bytes"):
            data["configuration"] = dict(self.configuration)
        if not self.must_understand:
            data["must_understand"] = False
        return data


# --- arrays ----------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, eq=False)
class ArrayMetadata:
    """What the documents of an array say, in either format."""

    zarr_format: ZarrFormat
    data_type: DataType
    chunk_grid: ChunkGrid
    chunk_key_encoding: ChunkKeyEncoding
    fill_value: Any
    """A NumPy scalar, str or bytes; None only in format 2, where it means undefined."""
    codecs: tuple[NamedConfig, ...]
    """The chain in encoding order; for format 2 made from `order`, `filters` and `compressor`."""
    attributes: Mapping[str, JSON] = field(default_factory=dict)
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
    def dimension_names(self) -> tuple[str | None, ...] | None:
        """Names of the dimensions; format 2 has none, and the attribute does not exist there."""
        if self.zarr_format == 2:
            raise AttributeError("metadata of format 2 has no attribute 'dimension_names'")
        return self.names

    @property
    def dimension_separator(self) -> Literal["/", "."]:
        """What stands between the numbers of a chunk key."""
        return self.chunk_key_encoding.separator

    @property
    def node_type(self) -> Literal["array"]:
        """The type of the node."""
        return "array"

    @property
    def sharding(self) -> NamedConfig | None:
        """The sharding codec when it is the only codec, so that shards and chunks have shapes."""
        if len(self.codecs) == 1 and self.codecs[0].name == "sharding_indexed":
            return self.codecs[0]
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
        return replace(self, chunk_grid=self.chunk_grid.resized(shape))

    def update_attributes(self, attributes: Mapping[str, JSON]) -> "ArrayMetadata":
        """Return a copy with other attributes."""
        return replace(self, attributes=dict(attributes))

    def to_dict(self) -> dict[str, JSON]:
        """Return the document of the array; in format 2 with `attributes` in it."""
        if self.zarr_format == 3:
            return self._to_v3()
        return {**self._to_v2(), "attributes": dict(self.attributes)}

    def _to_v3(self) -> dict[str, JSON]:
        document: dict[str, JSON] = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.data_type.to_v3(),
            "chunk_grid": self.chunk_grid.to_json(),
            "chunk_key_encoding": self.chunk_key_encoding.to_json(),
            "fill_value": self.data_type.fill_to_json(self.fill_value, 3),
            "codecs": [codec.to_json() for codec in self.codecs],
            "attributes": dict(self.attributes),
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
            V2_ATTRIBUTES: dump_json(dict(self.attributes), V2_ATTRIBUTES),
            V2_ARRAY: dump_json(self._to_v2(), V2_ARRAY),
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ArrayMetadata):
            return NotImplemented
        # As text: NaN is equal to NaN, -0.0 is not 0.0.
        return repr(self.to_dict()) == repr(other.to_dict())

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def from_dict(cls, data: Mapping[str, JSON], document: str = "metadata") -> "ArrayMetadata":
        """Return the metadata of an array document; in format 2 `attributes` may be part of it."""
        if data.get("zarr_format") == 2:
            rest = {key: value for key, value in data.items() if key != "attributes"}
            return parse_array_v2(rest, data.get("attributes"), document)
        return parse_array_v3(data, document)


def make_v2_codecs(
    order: str,
    ndim: int,
    filters: Iterable[Mapping[str, JSON]] | None,
    compressor: Mapping[str, JSON] | None,
) -> tuple[NamedConfig, ...]:
    """Return what `order`, `filters` and `compressor` of format 2 mean as a chain of codecs."""
    chain = []
    if order == "F" and ndim > 1:
        chain.append(NamedConfig("transpose", {"order": list(range(ndim))[::-1]}))
    chain.append(NamedConfig("v2.filters", {"filters": [dict(f) for f in filters or ()]}))
    if compressor is not None:
        chain.append(NamedConfig("v2.compressor", dict(compressor)))
    return tuple(chain)


# --- groups ----------------------------------------------------------------------------------------


@final
class ConsolidatedMetadata:
    """Copies of the documents of all nodes below a group, parsed when they are looked at.

    `nodes` maps paths relative to the group to the documents of a node (`{"zarr.json": {...}}` or
    `{".zarray": {...}, ".zattrs": {...}}`).
    """

    __slots__ = ("_parsed", "nodes")

    kind = "inline"
    must_understand = False

    def __init__(self, nodes: Mapping[str, Mapping[str, JSON]]) -> None:
        self.nodes = dict(nodes)
        self._parsed: dict[str, NodeMetadata] = {}

    def get(self, path: str) -> "NodeMetadata | None":
        """Return the metadata of a node, or None when there is none at the path."""
        if path not in self._parsed:
            if path not in self.nodes:
                return None
            self._parsed[path] = parse_node(self.nodes[path], f"consolidated metadata of {path!r}")
        return self._parsed[path]

    def put(self, path: str, metadata: "NodeMetadata | None") -> None:
        """Set the metadata of a node, or (None) forget the node and everything below it."""
        if metadata is not None:
            self.nodes[path] = node_documents(metadata)
            self._parsed[path] = metadata
            return
        for name in [n for n in self.nodes if n == path or n.startswith(f"{path}/")]:
            del self.nodes[name]
            self._parsed.pop(name, None)

    @property
    def metadata(self) -> "dict[str, NodeMetadata]":
        """Metadata of all nodes by path relative to the group."""
        return {path: found for path in sorted(self.nodes) if (found := self.get(path))}

    flattened_metadata = metadata

    def below(self, path: str) -> "ConsolidatedMetadata":
        """Return the part about the nodes below `path`."""
        start = f"{path}/"
        part = ConsolidatedMetadata(
            {p.removeprefix(start): docs for p, docs in self.nodes.items() if p.startswith(start)}
        )
        return part

    def to_dict(self) -> dict[str, JSON]:
        """Return what stands in the `zarr.json` of the group."""
        documents = {path: self.nodes[path][V3_DOCUMENT] for path in sorted(self.nodes)}
        return {"kind": "inline", "must_understand": False, "metadata": documents}

    def to_zmetadata(self, group: "GroupMetadata") -> dict[str, JSON]:
        """Return the document `.zmetadata` of the group, itself included."""
        flat: dict[str, JSON] = {V2_ATTRIBUTES: dict(group.attributes), V2_GROUP: {"zarr_format": 2}}
        for path in sorted(self.nodes):
            flat.update({f"{path}/{key}": doc for key, doc in self.nodes[path].items()})
        return {"metadata": flat, "zarr_consolidated_format": 1}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConsolidatedMetadata) and repr(self.to_plain()) == repr(other.to_plain())

    __hash__ = None  # type: ignore[assignment]

    def to_plain(self) -> dict[str, JSON]:
        """Return the documents by path, sorted."""
        return {path: dict(sorted(self.nodes[path].items())) for path in sorted(self.nodes)}


@final
@dataclass(frozen=True)
class GroupMetadata:
    """What the documents of a group say, in either format."""

    attributes: Mapping[str, JSON] = field(default_factory=dict)
    zarr_format: ZarrFormat = 3
    consolidated_metadata: ConsolidatedMetadata | None = None
    extra_fields: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def node_type(self) -> Literal["group"]:
        """The type of the node."""
        return "group"

    def update_attributes(self, attributes: Mapping[str, JSON]) -> "GroupMetadata":
        """Return a copy with other attributes."""
        return replace(self, attributes=dict(attributes))

    def to_dict(self) -> dict[str, JSON]:
        """Return the document of the group; in format 2 with `attributes` in it."""
        if self.zarr_format == 2:
            return {"zarr_format": 2, "attributes": dict(self.attributes)}
        document: dict[str, JSON] = {
            "attributes": dict(self.attributes),
            "zarr_format": 3,
            "node_type": "group",
        }
        if self.consolidated_metadata is not None:
            document["consolidated_metadata"] = self.consolidated_metadata.to_dict()
        return {**document, **self.extra_fields}

    def documents(self) -> dict[str, bytes]:
        """Return the documents to store, by key relative to the node."""
        if self.zarr_format == 3:
            return {V3_DOCUMENT: dump_json(self.to_dict(), V3_DOCUMENT)}
        documents = {
            V2_ATTRIBUTES: dump_json(dict(self.attributes), V2_ATTRIBUTES),
            V2_GROUP: dump_json({"zarr_format": 2}, V2_GROUP),
        }
        if self.consolidated_metadata is not None:
            consolidated = self.consolidated_metadata.to_zmetadata(self)
            documents[V2_CONSOLIDATED] = dump_json(consolidated, V2_CONSOLIDATED)
        return documents

    @classmethod
    def from_dict(cls, data: Mapping[str, JSON], document: str = "metadata") -> "GroupMetadata":
        """Return the metadata of a group document; in format 2 `attributes` may be part of it."""
        if data.get("zarr_format") == 2:
            rest = {key: value for key, value in data.items() if key != "attributes"}
            return parse_group_v2(rest, data.get("attributes"), None, document)
        return parse_group_v3(data, document)


NodeMetadata: TypeAlias = ArrayMetadata | GroupMetadata


def node_documents(metadata: NodeMetadata) -> dict[str, JSON]:
    """Return the documents of a node as JSON values, without consolidated metadata."""
    if metadata.zarr_format == 3:
        document = metadata.to_dict()
        document.pop("consolidated_metadata", None)
        return {V3_DOCUMENT: document}
    document = metadata.to_dict()
    attributes = document.pop("attributes")
    key = V2_ARRAY if isinstance(metadata, ArrayMetadata) else V2_GROUP
    return {key: document, V2_ATTRIBUTES: attributes}


# --- JSON ------------------------------------------------------------------------------------------


def load_json(data: bytes | memoryview, document: str) -> dict[str, JSON]:
    """Return the JSON object in a document; raise `MetadataValidationError` for anything else."""
    limit = config.get("metadata.max_bytes")
    if len(data) > limit:
        raise MetadataValidationError(
            f"{document}: {len(data)} bytes are more than the setting metadata.max_bytes ({limit})"
        )
    try:
        value = json.loads(bytes(data))
    except RecursionError:
        raise MetadataValidationError(f"{document}: nested too deeply") from None
    except ValueError as error:  # also UnicodeDecodeError and JSONDecodeError
        raise MetadataValidationError(f"{document}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise MetadataValidationError(f"{document}: expected an object, found {describe(value)}")
    return value


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a value of type {type(value).__name__} cannot be written as JSON")


def dump_json(value: Mapping[str, JSON], document: str) -> bytes:
    """Return JSON text as the other implementations write it; NaN as `NaN`."""
    try:
        return json.dumps(value, indent=config.get("json_indent"), default=_plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise MetadataValidationError(f"{document}: {error}") from None


def check_attributes(attributes: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return attributes as they will be stored; raise `MetadataValidationError` (a `TypeError`).

    NaN and infinities are not JSON, but written all the same, as other implementations do; a
    warning names the attribute.
    """
    checked = {}
    for name, value in attributes.items():
        if not isinstance(name, str):
            raise MetadataValidationError(f"attribute names are strings, found {describe(name)}")
        try:
            text = json.dumps(value, default=_plain)
        except (TypeError, ValueError, RecursionError) as error:
            raise MetadataValidationError(f"attribute {name!r}: {error}") from None
        if ("NaN" in text or "Infinity" in text) and _has_nonfinite(json.loads(text)):
            warnings.warn(
                f"attribute {name!r} holds NaN or infinity, which is not valid JSON; "
                "other readers may refuse it",
                ZarrUserWarning,
                stacklevel=3,
            )
        checked[name] = json.loads(text)
    return checked


def _has_nonfinite(value: JSON) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_nonfinite, value.values()))
    return isinstance(value, list) and any(map(_has_nonfinite, value))


# --- parsing ---------------------------------------------------------------------------------------


def parse_node(documents: Mapping[str, Mapping[str, JSON]], where: str) -> NodeMetadata:
    """Return what the JSON documents of a node say; raise `MetadataValidationError`."""
    if (document := documents.get(V3_DOCUMENT)) is not None:
        if document.get("node_type") == "group":
            return parse_group_v3(document, where)
        return parse_array_v3(document, where)
    attributes = documents.get(V2_ATTRIBUTES)
    if (document := documents.get(V2_ARRAY)) is not None:
        return parse_array_v2(document, attributes, where)
    if (document := documents.get(V2_GROUP)) is not None:
        return parse_group_v2(document, attributes, documents.get(V2_CONSOLIDATED), where)
    raise MetadataValidationError(f"{where}: no document of a node among {sorted(documents)}")


def _field(data: Mapping[str, JSON], name: str, document: str) -> JSON:
    try:
        return data[name]
    except KeyError:
        raise MetadataValidationError(f"{document}: field {name!r} is missing") from None


def _in_field(document: str, name: str, parse: Callable[[], T]) -> T:
    """Run a parser; put the names of document and field in front of its complaint."""
    try:
        return parse()
    except MetadataValidationError as error:
        raise type(error)(f"{document}: field {name!r}: {error}") from None


def _named(value: JSON, document: str, name: str, *, optional: bool = False) -> NamedConfig:
    """Return an extension point, which may be a bare string."""
    if isinstance(value, str):
        return NamedConfig(value)
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        configuration = value.get("configuration", {})
        must_understand = value.get("must_understand", True)
        unknown = value.keys() - {"name", "configuration", "must_understand"}
        if isinstance(configuration, dict) and isinstance(must_understand, bool) and not unknown:
            if not must_understand and not optional:
                raise MetadataValidationError(
                    f"{document}: field {name!r}: 'must_understand' cannot be false here"
                )
            return NamedConfig(value["name"], configuration, must_understand)
    raise MetadataValidationError(
        f"{document}: field {name!r}: expected a name or an object with 'name' and "
        f"'configuration', found {describe(value)}"
    )


def _parse_shape(value: JSON, document: str, name: str) -> Shape:
    if (
        not isinstance(value, list | tuple)
        or len(value) > MAX_DIMENSIONS
        or not all(type(n) is int and 0 <= n < 1 << 63 for n in value)
    ):
        raise MetadataValidationError(
            f"{document}: field {name!r}: expected up to {MAX_DIMENSIONS} lengths between 0 and "
            f"2**63 - 1, found {describe(value)}"
        )
    return tuple(value)


def _parse_attributes(value: JSON, document: str) -> dict[str, JSON]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MetadataValidationError(
            f"{document}: field 'attributes': expected an object, found {describe(value)}"
        )
    return value


def _extra_fields(data: Mapping[str, JSON], known: frozenset[str], document: str) -> dict[str, JSON]:
    if data.keys() <= known:
        return {}
    extra = {}
    for name in data.keys() - known:
        value = data[name]
        if not (isinstance(value, dict) and value.get("must_understand") is False):
            raise MetadataValidationError(
                f"{document}: field {describe(name)} is unknown and must be understood"
            )
        extra[name] = value
    return extra


def _check_header(data: Mapping[str, JSON], node_type: str, document: str) -> None:
    if (found := _field(data, "zarr_format", document)) != 3 or isinstance(found, bool):
        raise MetadataValidationError(
            f"{document}: field 'zarr_format': expected 3, found {describe(found)}"
        )
    if (found := _field(data, "node_type", document)) != node_type:
        raise NodeTypeValidationError(
            f"{document}: field 'node_type': expected {node_type!r}, found {describe(found)}"
        )


def parse_array_v3(data: Mapping[str, JSON], document: str) -> ArrayMetadata:
    """Return what a `zarr.json` of an array says; raise `MetadataValidationError`."""
    _check_header(data, "array", document)
    shape = _parse_shape(_field(data, "shape", document), document, "shape")
    type_json = _field(data, "data_type", document)
    _named(type_json, document, "data_type")
    data_type = _in_field(document, "data_type", lambda: parse_v3(type_json))
    grid_json = _named(_field(data, "chunk_grid", document), document, "chunk_grid")
    grid_config = _without_empty_chunks(grid_json.configuration, "chunk_shape", shape)
    grid = _in_field(document, "chunk_grid", lambda: parse_grid(grid_json.name, grid_config, shape))
    keys_json = _named(
        _field(data, "chunk_key_encoding", document), document, "chunk_key_encoding"
    )
    keys = _in_field(
        document,
        "chunk_key_encoding",
        lambda: parse_key_encoding(keys_json.name, keys_json.configuration),
    )
    fill_json = _field(data, "fill_value", document)
    fill_value = _in_field(document, "fill_value", lambda: data_type.fill_from_json(fill_json, 3))
    codecs = _field(data, "codecs", document)
    if not isinstance(codecs, list) or not codecs:
        raise MetadataValidationError(
            f"{document}: field 'codecs': expected a list that is not empty, found {describe(codecs)}"
        )
    if transformers := data.get("storage_transformers"):
        raise MetadataValidationError(
            f"{document}: field 'storage_transformers': none is known, found {describe(transformers)}"
        )
    return ArrayMetadata(
        zarr_format=3,
        data_type=data_type,
        chunk_grid=grid,
        chunk_key_encoding=keys,
        fill_value=fill_value,
        codecs=tuple(_named(codec, document, "codecs", optional=True) for codec in codecs),
        attributes=_parse_attributes(data.get("attributes"), document),
        names=_parse_names(data.get("dimension_names"), len(shape), document),
        extra_fields=_extra_fields(data, _ARRAY_FIELDS, document),
    )


def _without_empty_chunks(
    configuration: Mapping[str, JSON], name: str, shape: Shape
) -> Mapping[str, JSON]:
    """Return a grid in which chunks of an empty dimension have length 1.

    Older writers recorded 0 there; no chunk exists, so nothing else depends on it.
    """
    lengths = configuration.get(name)
    if not isinstance(lengths, list) or 0 not in lengths or len(lengths) != len(shape):
        return configuration
    mended = [1 if c == 0 and n == 0 else c for c, n in zip(lengths, shape, strict=True)]
    return {**configuration, name: mended}


def _parse_names(value: JSON, ndim: int, document: str) -> tuple[str | None, ...] | None:
    if value is None:
        return None
    if (
        not isinstance(value, list)
        or len(value) != ndim
        or not all(name is None or isinstance(name, str) for name in value)
    ):
        raise MetadataValidationError(
            f"{document}: field 'dimension_names': expected {ndim} strings or nulls, "
            f"found {describe(value)}"
        )
    return tuple(value)


def parse_group_v3(data: Mapping[str, JSON], document: str) -> GroupMetadata:
    """Return what a `zarr.json` of a group says; raise `MetadataValidationError`."""
    _check_header(data, "group", document)
    return GroupMetadata(
        attributes=_parse_attributes(data.get("attributes"), document),
        zarr_format=3,
        consolidated_metadata=_parse_inline(data.get("consolidated_metadata"), document),
        extra_fields=_extra_fields(data, _GROUP_FIELDS, document),
    )


def check_path(path: str, document: str) -> str:
    """Return a relative node path found in a document; raise if it could leave the group."""
    segments = path.split("/")
    if "\\" in path or "\0" in path or any(s in ("", ".", "..") for s in segments):
        raise MetadataValidationError(f"{document}: {describe(path)} is no path of a node")
    return path


def _parse_inline(value: JSON, document: str) -> ConsolidatedMetadata | None:
    if value is None:
        return None
    if (
        not isinstance(value, dict)
        or value.get("kind") != "inline"
        or not isinstance(nodes := value.get("metadata"), dict)
        or not all(isinstance(node, dict) for node in nodes.values())
    ):
        raise MetadataValidationError(
            f"{document}: field 'consolidated_metadata': expected kind 'inline' and documents by "
            f"path, found {describe(value)}"
        )
    flat: dict[str, dict[str, JSON]] = {}
    for path, node in nodes.items():
        check_path(path, document)
        if "consolidated_metadata" in node:
            node = {k: v for k, v in node.items() if k != "consolidated_metadata"}
        flat[path] = {V3_DOCUMENT: node}
    return ConsolidatedMetadata(flat)


_ZMETADATA_KEY = re.compile(r"(?:(.*)/)?(\.zarray|\.zgroup|\.zattrs)")


def parse_zmetadata(value: JSON, document: str) -> ConsolidatedMetadata:
    """Return what a `.zmetadata` says of the nodes below its group."""
    if (
        not isinstance(value, dict)
        or value.get("zarr_consolidated_format") != 1
        or not isinstance(flat := value.get("metadata"), dict)
    ):
        raise MetadataValidationError(
            f"{document}: expected zarr_consolidated_format 1 and documents by key, "
            f"found {describe(value)}"
        )
    nodes: dict[str, dict[str, JSON]] = {}
    for key, content in flat.items():
        match = _ZMETADATA_KEY.fullmatch(key)
        if match is None or not isinstance(content, dict):
            continue  # keys that others add are none of ours
        path, name = match.groups()
        if path:
            content = {k: v for k, v in content.items() if k != "consolidated_metadata"}
            nodes.setdefault(check_path(path, document), {})[name] = content
    return ConsolidatedMetadata({p: d for p, d in nodes.items() if d.keys() != {V2_ATTRIBUTES}})


def parse_array_v2(
    data: Mapping[str, JSON], attributes: JSON, document: str
) -> ArrayMetadata:
    """Return what `.zarray` and `.zattrs` say; raise `MetadataValidationError`."""
    _check_v2_header(data, document)
    shape = _parse_shape(_field(data, "shape", document), document, "shape")
    grid_config = _without_empty_chunks(
        {"chunk_shape": _field(data, "chunks", document)}, "chunk_shape", shape
    )
    grid = _in_field(document, "chunks", lambda: parse_grid("regular", grid_config, shape))
    order = _field(data, "order", document)
    if order not in ("C", "F"):
        raise MetadataValidationError(
            f"{document}: field 'order': expected 'C' or 'F', found {describe(order)}"
        )
    separator = data.get("dimension_separator", ".")
    keys = _in_field(
        document, "dimension_separator", lambda: parse_key_encoding("v2", {"separator": separator})
    )
    filters = _parse_v2_codecs(_field(data, "filters", document), document)
    compressor = _field(data, "compressor", document)
    if compressor is not None:
        _parse_v2_codecs([compressor], document, "compressor")
    type_json = _field(data, "dtype", document)
    object_codec = filters[0]["id"] if filters else None
    data_type = _in_field(document, "dtype", lambda: parse_v2(type_json, object_codec))
    fill_json = _field(data, "fill_value", document)
    fill_value = _in_field(document, "fill_value", lambda: data_type.fill_from_json(fill_json, 2))
    return ArrayMetadata(
        zarr_format=2,
        data_type=data_type,
        chunk_grid=grid,
        chunk_key_encoding=keys,
        fill_value=fill_value,
        codecs=make_v2_codecs(order, len(shape), filters, compressor),
        attributes=_parse_attributes(attributes, f"{document}, {V2_ATTRIBUTES}"),
        extra_fields={k: v for k, v in data.items() if k not in _V2_FIELDS},
        order=order,
        v2_filters=filters,
        v2_compressor=compressor,
    )


_V2_FIELDS = frozenset(
    {
        "zarr_format",
        "shape",
        "chunks",
        "dtype",
        "compressor",
        "fill_value",
        "order",
        "filters",
        "dimension_separator",
    }
)


def _parse_v2_codecs(
    value: JSON, document: str, name: str = "filters"
) -> tuple[Mapping[str, JSON], ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(
        isinstance(c, dict) and isinstance(c.get("id"), str) for c in value
    ):
        raise MetadataValidationError(
            f"{document}: field {name!r}: expected objects with an 'id', or null, "
            f"found {describe(value)}"
        )
    return tuple(value)


def _check_v2_header(data: Mapping[str, JSON], document: str) -> None:
    if (found := _field(data, "zarr_format", document)) != 2 or isinstance(found, bool):
        raise MetadataValidationError(
            f"{document}: field 'zarr_format': expected 2, found {describe(found)}"
        )


def parse_group_v2(
    data: Mapping[str, JSON], attributes: JSON, consolidated: JSON, document: str
) -> GroupMetadata:
    """Return what `.zgroup`, `.zattrs` and (when given) `.zmetadata` say."""
    _check_v2_header(data, document)
    return GroupMetadata(
        attributes=_parse_attributes(attributes, f"{document}, {V2_ATTRIBUTES}"),
        zarr_format=2,
        consolidated_metadata=None
        if consolidated is None
        else parse_zmetadata(consolidated, f"{document}, {V2_CONSOLIDATED}"),
    )


__all__ = [
    "ArrayMetadata",
    "ConsolidatedMetadata",
    "DataTypeValidationError",
    "GroupMetadata",
    "NamedConfig",
    "NodeMetadata",
]
