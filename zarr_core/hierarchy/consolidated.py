"""Consolidated metadata: copies of the documents of all nodes below a group, stored with it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, final

from zarr_core.errors import ConflictError, warn
from zarr_core.hierarchy.members import walk_documents
from zarr_core.hierarchy.stored_nodes import read_group, store_document, update_node
from zarr_core.metadata import ArrayMetadata, ConsolidatedMetadata, GroupMetadata, NodeMetadata
from zarr_core.metadata.documents import (
    JSON,
    V2_ATTRIBUTES,
    V2_CONSOLIDATED,
    V3_DOCUMENT,
    DocumentAt,
    ZarrFormat,
    load_json,
)
from zarr_core.metadata.group import parse_group_v3, parse_zmetadata, zmetadata
from zarr_core.storage.base import Value
from zarr_core.storage.paths import StorePath
from zarr_core.threads.key_locks import key_lock


@final
class Consolidation:
    """Consolidated metadata in use: shared by all handles reached through one group.

    It answers look-ups without I/O and is written again, once, whenever one of these handles
    changes a node. What others do to the nodes, it does not see.
    """

    __slots__ = ("_key", "_known", "nodes", "place", "zarr_format")

    nodes: ConsolidatedMetadata
    place: StorePath

    def __init__(
        self,
        place: StorePath,
        zarr_format: ZarrFormat,
        nodes: ConsolidatedMetadata,
        key: str = V2_CONSOLIDATED,
    ) -> None:
        self.place, self.nodes = place, nodes
        self.zarr_format: ZarrFormat = zarr_format
        self._key = key
        # The document as this object last wrote it, and what else than `nodes` it says: as long as
        # nobody else changes it, it need not be parsed again.
        self._known: tuple[bytes, GroupMetadata] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Consolidation, (self.place, self.zarr_format, self.nodes, self._key)

    def record(self, *changes: tuple[str, NodeMetadata | None]) -> None:
        """Store that nodes now have other metadata, or (None) do not exist any more."""
        store = self.place.store
        key = self.place.key(V3_DOCUMENT if self.zarr_format == 3 else self._key)
        with key_lock(store.lock_key(key)):
            for _ in range(20):
                value, version = store.get_versioned(key)
                group = None if value is None else self._parse(value)
                if group is None or group.consolidated_metadata is None:
                    # Somebody removed the consolidated metadata: nothing has to be kept true.
                    self.nodes = self.nodes.changed(changes)
                    return
                nodes = group.consolidated_metadata.changed(changes)
                group = replace(group, consolidated_metadata=nodes)
                text = self._dump(group)
                if store.set_if_version(key, text, version):
                    self.nodes, self._known = nodes, (text, group)
                    return
        raise ConflictError(f"{key!r} was changed by others at every attempt")

    def created(self, path: str, metadata: NodeMetadata, *, replaced: bool = False) -> None:
        """Store that there is a new node, in place of another one when it is `replaced`."""
        removed: list[tuple[str, NodeMetadata | None]] = [(path, None)] if replaced else []
        self.record(*removed, *self._missing_above(path), (path, metadata))

    def moved(self, old: str, new: str, metadata: NodeMetadata | None) -> None:
        """Store that a node, which has `metadata`, and those below it have another path."""
        nodes = self.nodes
        below = list(nodes.walk(old)) if isinstance(nodes.get(old), GroupMetadata) else []
        self.record(
            (old, None),
            *self._missing_above(new),
            (new, metadata),
            *((f"{new}/{path}", found) for path, found in below),
        )

    def _missing_above(self, path: str) -> Iterator[tuple[str, NodeMetadata]]:
        while path := path.rpartition("/")[0]:
            if self.nodes.get(path) is None:
                yield path, GroupMetadata(zarr_format=self.zarr_format)

    def refresh(self) -> GroupMetadata:
        """Read again what is stored; return the metadata of the group that has it."""
        consolidated = self._key if self.zarr_format == 2 else True
        group = read_group(self.place, self.zarr_format, consolidated=consolidated)
        self.nodes = group.consolidated_metadata or ConsolidatedMetadata({}, self.zarr_format)
        return group

    def _parse(self, value: Value) -> GroupMetadata:
        if self._known is not None and self._known[0] == value:
            return self._known[1]
        name = V3_DOCUMENT if self.zarr_format == 3 else self._key
        where = DocumentAt(name, self.place)
        document = load_json(value, where)
        if self.zarr_format == 3:
            return parse_group_v3(document, where)
        copies = document.get("metadata")
        own = copies.get(V2_ATTRIBUTES) if isinstance(copies, dict) else None
        return GroupMetadata(own or {}, 2, parse_zmetadata(document, where))

    def _dump(self, group: GroupMetadata) -> bytes:
        if self.zarr_format == 3:
            return group.documents()[V3_DOCUMENT]
        assert group.consolidated_metadata is not None
        return zmetadata(group.consolidated_metadata, group._attributes)

    def record_root(self, group: GroupMetadata) -> None:
        """Note that attributes of the group itself were stored; format 2 has a copy of them."""
        if self.zarr_format == 3:
            self.nodes = group.consolidated_metadata or self.nodes
            return
        key = self.place.key(self._key)
        with key_lock(self.place.store.lock_key(key)):
            value = self.place.store.get(key)
            if value is not None:
                nodes = self._parse(value).consolidated_metadata or self.nodes
                self.place.store.set(key, zmetadata(nodes, group._attributes))


@final
class WriteThrough:
    """What an array reached through consolidated metadata does when its own metadata changes."""

    __slots__ = ("consolidation", "path")

    consolidation: Consolidation
    path: str

    def __init__(self, consolidation: Consolidation, path: str) -> None:
        self.consolidation, self.path = consolidation, path

    def __call__(self, metadata: ArrayMetadata) -> None:
        """Record new metadata."""
        self.consolidation.record((self.path, metadata))

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the copies, which may be many: they are read again when they have to be changed.
        whole = self.consolidation
        nodes = ConsolidatedMetadata({}, whole.zarr_format)
        key = whole._key
        return WriteThrough, (Consolidation(whole.place, whole.zarr_format, nodes, key), self.path)


def consolidate(
    place: StorePath, zarr_format: ZarrFormat | None, *, warns: bool = True
) -> GroupMetadata:
    """Copy the documents of all nodes below a group to the group, with one write."""
    if not place.store.supports_consolidated_metadata:
        raise TypeError(f"{place.store} doesn't support consolidated metadata")
    place.store._check_writable()
    metadata = read_group(place, zarr_format)
    copies: dict[str, JSON] = {}
    for path, documents in walk_documents(place, metadata.zarr_format, None):
        if metadata.zarr_format == 3:
            copies[path] = documents[V3_DOCUMENT]
        else:
            copies |= {f"{path}/{name}": document for name, document in documents.items()}
    nodes = ConsolidatedMetadata(copies, metadata.zarr_format)
    if metadata.zarr_format == 3:
        if warns and copies:
            warn("consolidated v3")
        return update_node(
            place, metadata, lambda fresh: replace(fresh, consolidated_metadata=nodes)
        )
    store_document(place, V2_CONSOLIDATED, zmetadata(nodes, metadata._attributes))
    return replace(metadata, consolidated_metadata=nodes)
