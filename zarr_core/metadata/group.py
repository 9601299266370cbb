"""What the documents of a group say, consolidated metadata included, and those of any node.

The documents are `zarr.json`, or `.zgroup`, `.zattrs` and `.zmetadata`.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/core/v3.0.html#group-metadata
"""

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, TypeAlias, cast, final

from zarr_core.errors import MetadataValidationError, unexpected
from zarr_core.metadata.array import ArrayMetadata, parse_array_v2, parse_array_v3
from zarr_core.metadata.documents import (
    JSON,
    V2_ARRAY,
    V2_ATTRIBUTES,
    V2_CONSOLIDATED,
    V2_GROUP,
    V3_DOCUMENT,
    Copied,
    ZarrFormat,
    attributes_in,
    check_header,
    check_path,
    dump_json,
    dump_line,
    extra_fields_in,
    plain_json,
)

_GROUP_FIELDS = frozenset({"zarr_format", "node_type", "attributes", "consolidated_metadata"})


@final
class ConsolidatedMetadata:
    """Copies of the documents of all nodes below a group, each parsed when it is asked for.

    `documents` are JSON objects as they are stored, with keys relative to the group: in format 3
    the path of a node (`a/b`), in format 2 that of a document (`a/b/.zarray`). Never changed.
    """

    __slots__ = ("_children", "_lines", "_parsed", "documents", "zarr_format")

    kind = "inline"
    must_understand = False

    def __init__(
        self,
        documents: Mapping[str, JSON] | None = None,
        zarr_format: ZarrFormat = 3,
        *,
        metadata: "Mapping[str, NodeMetadata] | None" = None,
        kind: Literal["inline"] = "inline",
        must_understand: Literal[False] = False,
    ) -> None:
        if metadata is not None:
            documents, zarr_format = _documents_of_nodes(metadata, zarr_format)
        self.documents: Mapping[str, JSON] = {} if documents is None else documents
        self.zarr_format: ZarrFormat = zarr_format
        self._parsed: dict[str, NodeMetadata] = {}
        self._lines: dict[str, str] = {}
        self._children: dict[str, list[str]] | None = None

    def get(self, path: str) -> "NodeMetadata | None":
        """Return the metadata of a node, or None when there is none at the path."""
        found = self._parsed.get(path)
        if found is None:
            where = f"consolidated metadata of {path!r}"
            documents = self._documents_of(path)
            if not documents:
                return None
            for document in documents.values():
                if not isinstance(document, dict):
                    raise unexpected(where, "an object", document)
            found = self._parsed[path] = parse_node(documents, where)
        return found

    def _documents_of(self, path: str) -> dict[str, JSON]:
        if self.zarr_format == 3:
            if path not in self.documents:
                return {}
            return {V3_DOCUMENT: _without_copies(self.documents[path])}
        names = (V2_ARRAY, V2_GROUP, V2_ATTRIBUTES)
        found = {name: self.documents.get(f"{path}/{name}", ...) for name in names}
        if found[V2_ARRAY] is ... and found[V2_GROUP] is ...:
            return {}
        if found[V2_ATTRIBUTES] is None:
            del found[V2_ATTRIBUTES]
        return {name: document for name, document in found.items() if document is not ...}

    def children(self, path: str) -> list[str]:
        """Return the names directly below a path."""
        if self._children is None:
            index: dict[str, set[str]] = {}
            for full in self._paths():
                parent, _, name = check_path(full, "consolidated metadata").rpartition("/")
                index.setdefault(parent, set()).add(name)
            self._children = {parent: sorted(names) for parent, names in index.items()}
        return self._children.get(path, [])

    def _paths(self) -> Iterator[str]:
        if self.zarr_format == 3:
            yield from self.documents
            return
        for key in self.documents:
            path, _, name = key.rpartition("/")
            if path and name in (V2_ARRAY, V2_GROUP):
                yield path

    def walk(
        self, path: str = "", max_depth: int | None = None
    ) -> "Iterator[tuple[str, NodeMetadata]]":
        """Yield relative paths and metadata of the nodes below a path, parents before children."""
        start = len(path) + 1 if path else 0
        levels = [iter(self.children(path))]
        parents = [path]
        while levels:
            name = next(levels[-1], None)
            if name is None:
                levels.pop()
                parents.pop()
                continue
            full = f"{parents[-1]}/{name}" if parents[-1] else name
            metadata = self.get(full)
            assert metadata is not None
            yield full[start:], metadata
            if isinstance(metadata, GroupMetadata) and (
                max_depth is None or len(levels) <= max_depth
            ):
                levels.append(iter(self.children(full)))
                parents.append(full)

    def changed(
        self, changes: "Iterable[tuple[str, NodeMetadata | None]]"
    ) -> "ConsolidatedMetadata":
        """Return a copy with other metadata at paths; None removes a node and all below it."""
        new = ConsolidatedMetadata(documents := dict(self.documents), self.zarr_format)
        new._parsed, new._lines = dict(self._parsed), dict(self._lines)
        for path, metadata in changes:
            keys = [f"{path}/{name}" for name in (V2_ARRAY, V2_GROUP, V2_ATTRIBUTES)]
            keys.append(path)
            if metadata is None:
                start = f"{path}/"
                keys += [key for key in [*documents, *new._parsed] if key.startswith(start)]
            for key in keys:
                documents.pop(key, None)
                new._lines.pop(key, None)
                new._parsed.pop(key, None)
            if metadata is not None:
                documents |= keyed_documents(path, metadata)
                new._parsed[path] = metadata
        return new

    @property
    def flattened_metadata(self) -> "dict[str, NodeMetadata]":
        """Metadata of all nodes by path relative to the group."""
        return {path: found for path in sorted(set(self._paths())) if (found := self.get(path))}

    @property
    def metadata(self) -> "dict[str, NodeMetadata]":
        """Metadata of the members by name; that of a group says what is below it."""
        return {
            name: replace(found, consolidated_metadata=self.below(name))
            if isinstance(found, GroupMetadata)
            else found
            for name in self.children("")
            if (found := self.get(name)) is not None
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, JSON]) -> "ConsolidatedMetadata":
        """Return what `to_dict` gives, or the field `consolidated_metadata` of a `zarr.json`."""
        if data.get("kind") != "inline" or not isinstance(data.get("metadata"), Mapping):
            raise unexpected("consolidated metadata", "kind 'inline' and an object", data)
        return cls(data["metadata"])

    def below(self, path: str) -> "ConsolidatedMetadata":
        """Return the part about the nodes below `path`."""
        start = f"{path}/"
        own = {start + name for name in (V2_ARRAY, V2_GROUP, V2_ATTRIBUTES)}
        part = {
            key.removeprefix(start): document
            for key, document in self.documents.items()
            if key.startswith(start) and (self.zarr_format == 3 or key not in own)
        }
        return ConsolidatedMetadata(part, self.zarr_format)

    def to_dict(self) -> dict[str, JSON]:
        """Return what stands in the `zarr.json` of a group of format 3."""
        documents = {key: _without_copies(self.documents[key]) for key in sorted(self.documents)}
        return {"kind": "inline", "must_understand": False, "metadata": documents}

    def lines(self, indent: str) -> str:
        """Return the documents as JSON text, without the outer braces: one line for each."""
        lines = self._lines
        for key, document in self.documents.items():
            if key not in lines:
                text = dump_line({key: _without_copies(document)}, f"metadata of {key!r}")
                lines[key] = text[1:-1]
        return ",\n".join(f"{indent}{lines[key]}" for key in sorted(lines))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ConsolidatedMetadata):
            return NotImplemented
        return repr(self.to_dict()) == repr(other.to_dict())

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return ConsolidatedMetadata, (self.documents, self.zarr_format)

    def __repr__(self) -> str:
        return f"<ConsolidatedMetadata of {len(set(self._paths()))} nodes>"


def _documents_of_nodes(
    nodes: "Mapping[str, NodeMetadata]", zarr_format: ZarrFormat
) -> tuple[dict[str, JSON], ZarrFormat]:
    """Return the documents of nodes by path, and of what the metadata of groups says of others."""
    documents: dict[str, JSON] = {}
    for path, metadata in nodes.items():
        zarr_format = metadata.zarr_format
        documents |= keyed_documents(check_path(path, "consolidated metadata"), metadata)
        found = metadata.consolidated_metadata if isinstance(metadata, GroupMetadata) else None
        if found is not None:
            documents |= {f"{path}/{key}": document for key, document in found.documents.items()}
    return documents, zarr_format


def _without_copies(document: JSON) -> JSON:
    """Return the document of a node without the consolidated metadata that some writers add."""
    if isinstance(document, dict) and "consolidated_metadata" in document:
        return {k: v for k, v in document.items() if k != "consolidated_metadata"}
    return document


@final
@dataclass(frozen=True, eq=False)
class GroupMetadata:
    """What the documents of a group say, in either format."""

    attributes: Mapping[str, JSON] = cast("Any", Copied())
    zarr_format: ZarrFormat = 3
    consolidated_metadata: ConsolidatedMetadata | None = None
    extra_fields: Mapping[str, JSON] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.extra_fields and self.zarr_format == 3:
            extra_fields_in(self.extra_fields, frozenset(), "metadata of a group")

    @property
    def node_type(self) -> Literal["group"]:
        """The type of the node."""
        return "group"

    @property
    def _attributes(self) -> Mapping[str, JSON]:
        """The attributes themselves, to be looked at."""
        return self.__dict__["attributes"]  # type: ignore[no-any-return]

    def update_attributes(self, attributes: Mapping[str, JSON]) -> "GroupMetadata":
        """Return a copy with other attributes."""
        return replace(self, attributes=dict(attributes))

    def to_dict(self) -> dict[str, JSON]:
        """Return the document of the group; in format 2 with `attributes` in it."""
        document = deepcopy(self._own_fields())
        if self.consolidated_metadata is not None and self.zarr_format == 3:
            document["consolidated_metadata"] = self.consolidated_metadata.to_dict()
        return document

    def _own_fields(self) -> dict[str, JSON]:
        if self.zarr_format == 2:
            return {"zarr_format": 2, **self.extra_fields, "attributes": self._attributes}
        own = {"attributes": self._attributes, "zarr_format": 3, "node_type": "group"}
        return {**own, **self.extra_fields}

    def documents(self) -> dict[str, bytes]:
        """Return the documents to store, by key relative to the node."""
        nodes = self.consolidated_metadata
        if self.zarr_format == 2:
            documents = {
                V2_ATTRIBUTES: dump_json(self._attributes, V2_ATTRIBUTES),
                V2_GROUP: dump_json({"zarr_format": 2, **self.extra_fields}, V2_GROUP),
            }
            if nodes is not None:
                documents[V2_CONSOLIDATED] = zmetadata(nodes, self._attributes)
            return documents
        text = dump_json(self._own_fields(), V3_DOCUMENT)
        if nodes is None:
            return {V3_DOCUMENT: text}
        # Indented for people, but one line per node: that takes a fifth of the time.
        own = text.decode().removesuffix("}").rstrip()
        start = '"consolidated_metadata": {\n    "kind": "inline",\n    "must_understand": false,'
        copies = f'{start}\n    "metadata": {{\n{nodes.lines("      ")}\n    }}\n  }}'
        return {V3_DOCUMENT: f"{own},\n  {copies}\n}}".encode()}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GroupMetadata):
            return NotImplemented
        # As text: NaN is equal to NaN.
        return (
            repr(self._own_fields()) == repr(other._own_fields())
            and self.consolidated_metadata == other.consolidated_metadata
        )

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def to_buffer_dict(self, prototype: Any) -> dict[str, Any]:
        """Return the documents to store as buffers of a prototype of zarr-python's."""
        documents = self.documents().items()
        return {name: prototype.buffer.from_bytes(text) for name, text in documents}

    @classmethod
    def from_dict(cls, data: Mapping[str, JSON], document: object = "metadata") -> "GroupMetadata":
        """Return the metadata of a group document; in format 2 `attributes` may be part of it."""
        data = plain_json(data, document)
        if data.get("zarr_format") == 2:
            rest = {key: value for key, value in data.items() if key != "attributes"}
            return parse_group_v2(rest, data.get("attributes"), None, document)
        return parse_group_v3(data, document)


def zmetadata(nodes: ConsolidatedMetadata, attributes: Mapping[str, JSON]) -> bytes:
    """Return the text of `.zmetadata`: copies of all documents, those of the group included."""
    own = dump_line({V2_ATTRIBUTES: dict(attributes), V2_GROUP: {"zarr_format": 2}}, V2_ATTRIBUTES)
    lines = ",\n".join(filter(None, (f"    {own[1:-1]}", nodes.lines("    "))))
    text = f'{{\n  "metadata": {{\n{lines}\n  }},\n  "zarr_consolidated_format": 1\n}}'
    return text.encode()


NodeMetadata: TypeAlias = ArrayMetadata | GroupMetadata


def keyed_documents(path: str, metadata: NodeMetadata) -> dict[str, JSON]:
    """Return the documents of a node as they stand in the consolidated metadata of a group."""
    document = metadata.to_dict()
    if metadata.zarr_format == 3:
        return {path: _without_copies(document)}
    attributes = document.pop("attributes")
    key = V2_ARRAY if isinstance(metadata, ArrayMetadata) else V2_GROUP
    return {f"{path}/{key}": document, f"{path}/{V2_ATTRIBUTES}": attributes}


def parse_node(documents: Mapping[str, Mapping[str, JSON]], where: object) -> NodeMetadata:
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


def parse_group_v3(data: Mapping[str, JSON], document: object) -> GroupMetadata:
    """Return what a `zarr.json` of a group says; raise `MetadataValidationError`."""
    check_header(data, 3, "group", document)
    return GroupMetadata(
        attributes=attributes_in(data.get("attributes"), document),
        zarr_format=3,
        consolidated_metadata=_parse_inline(data.get("consolidated_metadata"), document),
        extra_fields=extra_fields_in(data, _GROUP_FIELDS, document),
    )


def _parse_inline(value: JSON, document: object) -> ConsolidatedMetadata | None:
    if value is None:
        return None
    if (
        not isinstance(value, dict)
        or value.get("kind") != "inline"
        or not isinstance(nodes := value.get("metadata"), dict)
    ):
        raise unexpected(
            f"{document}: field 'consolidated_metadata'",
            "kind 'inline' and documents by path",
            value,
        )
    return ConsolidatedMetadata(nodes)


def parse_zmetadata(value: JSON, document: object) -> ConsolidatedMetadata:
    """Return what a `.zmetadata` says of the nodes below its group."""
    if (
        not isinstance(value, dict)
        or value.get("zarr_consolidated_format") != 1
        or not isinstance(flat := value.get("metadata"), dict)
    ):
        raise unexpected(document, "zarr_consolidated_format 1 and documents by key", value)
    # The group's own documents are read by themselves.
    for own in (V2_ATTRIBUTES, V2_GROUP):
        flat.pop(own, None)
    return ConsolidatedMetadata(flat, 2)


def parse_group_v2(
    data: Mapping[str, JSON], attributes: JSON, consolidated: JSON, document: object
) -> GroupMetadata:
    """Return what `.zgroup`, `.zattrs` and (when given) `.zmetadata` say."""
    check_header(data, 2, None, document)
    where = f"{document}, {V2_CONSOLIDATED}"
    nodes = None if consolidated is None else parse_zmetadata(consolidated, where)
    return GroupMetadata(
        attributes=attributes_in(attributes, f"{document}, {V2_ATTRIBUTES}"),
        zarr_format=2,
        consolidated_metadata=nodes,
        extra_fields={k: v for k, v in data.items() if k not in ("zarr_format", "attributes")},
    )
