"""Children and consolidated metadata: what spans more than one node."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, TypeVar, final

from zarr_core.errors import (
    ConflictError,
    ContainsArrayError,
    ContainsGroupError,
    NodeNotFoundError,
    warn,
)
from zarr_core.hierarchy.nodes import (
    check_absent,
    check_name,
    check_not_erased,
    create_ancestors,
    erase_node,
    find_documents,
    is_node,
    load_documents,
    missing_ancestors,
    new_documents,
    node_keys,
    read_group,
    read_node,
    remove_keys,
    store_document,
    update_node,
)
from zarr_core.metadata import ArrayMetadata, ConsolidatedMetadata, GroupMetadata, NodeMetadata
from zarr_core.metadata.documents import (
    DOCUMENTS,
    JSON,
    V2_ARRAY,
    V2_ATTRIBUTES,
    V2_CONSOLIDATED,
    V2_GROUP,
    V3_DOCUMENT,
    Where,
    ZarrFormat,
    load_json,
)
from zarr_core.metadata.group import parse_group_v3, parse_node, parse_zmetadata, zmetadata
from zarr_core.storage.base import Value, values_of
from zarr_core.storage.paths import StorePath, normalize_path
from zarr_core.threads.key_locks import key_lock
from zarr_core.threads.requests import each, finish

T = TypeVar("T")

_MARKS: dict[ZarrFormat, tuple[str, ...]] = {3: (V3_DOCUMENT,), 2: (V2_ARRAY, V2_GROUP)}
_NAMES: dict[ZarrFormat, tuple[str, ...]] = {
    3: (V3_DOCUMENT,),
    2: (V2_ARRAY, V2_GROUP, V2_ATTRIBUTES),
}


# --- children --------------------------------------------------------------------------------------


def _listed(place: StorePath) -> list[str]:
    """Return the names below a place that nodes could have, sorted."""
    names = place.store.list_dir(place.path)
    return sorted(name for name in names if name not in DOCUMENTS and "\\" not in name)


def child_names(place: StorePath, zarr_format: ZarrFormat) -> Iterator[str]:
    """Yield the names of the nodes directly below a place, without reading their documents."""
    store, marks = place.store, _MARKS[zarr_format]

    def exists(name: str) -> bool:
        return any(store.exists(place.key(f"{name}/{mark}")) for mark in marks)

    names = _listed(place)
    if store.high_latency:
        found = each(exists, names, slow=True)
        yield from (name for name, there in zip(names, found, strict=True) if there)
    else:
        yield from filter(exists, names)


def _stored(
    places: list[StorePath], zarr_format: ZarrFormat
) -> Iterator[tuple[StorePath, dict[str, JSON]]]:
    """Yield the nodes among places of one store, with their documents: one batch of requests."""
    if not places:
        return
    if not places[0].store.high_latency:
        for place in places:
            if found := find_documents(place, zarr_format):
                yield place, load_documents(place, found)
        return
    names = _NAMES[zarr_format]
    keys = [[place.key(name) for name in names] for place in places]
    values = values_of(places[0].store, chain.from_iterable(keys))
    for place, own in zip(places, keys, strict=True):
        found = {name: values[key] for name, key in zip(names, own, strict=True) if key in values}
        if is_node(place, found):
            yield place, load_documents(place, found)


def _children(
    place: StorePath, zarr_format: ZarrFormat
) -> Iterator[tuple[StorePath, dict[str, JSON]]]:
    """Yield the nodes directly below a place with their documents: one list, one batch of gets."""
    names = _listed(place)
    return _stored([place.below(name) for name in names], zarr_format)


def _parsed(place: StorePath, documents: Mapping[str, JSON]) -> NodeMetadata:
    return parse_node(documents, Where(next(iter(documents)), place))


def walk(
    place: StorePath, zarr_format: ZarrFormat, max_depth: int | None
) -> Iterator[tuple[str, NodeMetadata]]:
    """Yield relative paths and metadata of all nodes below a place, parents before children."""
    for path, documents in walk_documents(place, zarr_format, max_depth):
        yield path, _parsed(place / path, documents)


def walk_documents(
    place: StorePath, zarr_format: ZarrFormat, max_depth: int | None
) -> Iterator[tuple[str, dict[str, JSON]]]:
    """Yield relative paths and documents of all nodes below a place, parents before children."""
    found = _levels if place.store.high_latency else _depth_first
    start = f"{place.path}/" if place.path else ""
    for node, documents in found(place, zarr_format, max_depth):
        yield node.path.removeprefix(start), documents


def _depth_first(
    place: StorePath, zarr_format: ZarrFormat, max_depth: int | None
) -> Iterator[tuple[StorePath, dict[str, JSON]]]:
    levels = [_children(place, zarr_format)]
    while levels:
        found = next(levels[-1], None)
        if found is None:
            levels.pop()
            continue
        yield found
        if _is_group(found[1]) and (max_depth is None or len(levels) <= max_depth):
            levels.append(_children(found[0], zarr_format))


def _levels(
    place: StorePath, zarr_format: ZarrFormat, max_depth: int | None
) -> Iterator[tuple[StorePath, dict[str, JSON]]]:
    """Read level by level: a few batches for a tree, however many groups it has."""
    store, groups = place.store, [place]
    nodes: list[tuple[StorePath, dict[str, JSON]]] = []
    depth = 0
    while groups and (max_depth is None or depth <= max_depth):
        listed = each(_listed, groups, slow=store.high_latency)
        below = zip(groups, listed, strict=True)
        places = [group.below(name) for group, names in below for name in names]
        found = list(_stored(places, zarr_format))
        nodes += found
        groups = [child for child, documents in found if _is_group(documents)]
        depth += 1
    yield from sorted(nodes, key=lambda node: node[0].path.split("/"))


def _is_group(documents: Mapping[str, JSON]) -> bool:
    if V3_DOCUMENT in documents:
        return bool(documents[V3_DOCUMENT].get("node_type") == "group")
    return V2_GROUP in documents


# --- consolidated metadata -------------------------------------------------------------------------


@final
class Consolidation:
    """Consolidated metadata in use: shared by all handles reached through one group.

    It answers look-ups without I/O and is written again, once, whenever one of these handles
    changes a node. What others do to the nodes, it does not see.
    """

    __slots__ = ("_key", "_known", "nodes", "place", "zarr_format")

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
        where = Where(name, self.place)
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
        return zmetadata(group.consolidated_metadata, group.attributes)

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
                self.place.store.set(key, zmetadata(nodes, group.attributes))


@final
class WriteThrough:
    """What an array reached through consolidated metadata does when its own metadata changes."""

    __slots__ = ("consolidation", "path")

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


def consolidate(place: StorePath, zarr_format: ZarrFormat | None) -> GroupMetadata:
    """Copy the documents of all nodes below a group to the group, with one write."""
    if not place.store.supports_consolidated_metadata:
        raise TypeError(f"{place.store} does not support consolidated metadata")
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
        warn("consolidated v3")
        return update_node(
            place, metadata, lambda fresh: replace(fresh, consolidated_metadata=nodes)
        )
    store_document(place, V2_CONSOLIDATED, zmetadata(nodes, metadata.attributes))
    return replace(metadata, consolidated_metadata=nodes)


# --- several nodes at once ---------------------------------------------------------------------------


def with_parents(nodes: Mapping[str, NodeMetadata]) -> dict[str, NodeMetadata]:
    """Return nodes by normalised path, with a group for each parent that is not among them."""
    complete: dict[str, NodeMetadata] = {}
    for path, metadata in nodes.items():
        normal = normalize_path(path)
        if normal in complete:
            raise ValueError(f"two nodes have the path {normal!r}")
        complete[normal] = metadata
        if isinstance(metadata, GroupMetadata):  # its copies are those of another hierarchy
            complete[normal] = replace(metadata, consolidated_metadata=None)
    formats: set[ZarrFormat] = {metadata.zarr_format for metadata in nodes.values()}
    if len(formats) != 1:
        raise ValueError("all nodes of a hierarchy have one format")
    (zarr_format,) = formats
    for path in list(complete):
        parent = path
        while parent:
            parent = parent.rpartition("/")[0]
            above = complete.setdefault(parent, GroupMetadata(zarr_format=zarr_format))
            if isinstance(above, ArrayMetadata):
                raise ContainsArrayError(f"the array {parent!r} cannot contain {path!r}")
    return dict(sorted(complete.items()))


def create_nodes(
    place: StorePath,
    nodes: Mapping[str, NodeMetadata],
    *,
    overwrite: bool,
    sources: Iterable[Any] = (),
) -> dict[str, NodeMetadata]:
    """Create nodes and the groups between them; return those that were made, by path.

    Groups that exist already are kept where they were only implied. Everything is checked before
    the first write. `sources` is what will be copied into the nodes.
    """
    if not nodes:
        return {}
    complete = with_parents(nodes)
    check_name(place.path)
    for path in nodes:
        check_name(normalize_path(path))
    asked = set(map(normalize_path, nodes))
    places = {path: place.below(path) for path in complete}
    existing = _kinds(places)
    made: dict[str, NodeMetadata] = {}
    for path, metadata in complete.items():
        kind = existing.get(path)
        if kind is None or (overwrite and path in asked):
            made[path] = metadata
        elif path in asked:
            error = ContainsArrayError if kind == "array" else ContainsGroupError
            raise error(f"there is a node at {places[path]} already")
        elif kind == "array":
            raise ContainsArrayError(f"the array at {places[path]} cannot contain other nodes")
    place.store._check_writable()
    missing = missing_ancestors(place, made[""].zarr_format) if "" in made else []
    if overwrite:
        for path in asked:
            check_not_erased(places[path], sources)
        _erase(places, asked, made)
    create_ancestors(place, complete[""].zarr_format, missing)
    documents: dict[str, bytes] = {}
    for path, metadata in made.items():
        there = places[path]
        documents |= {there.key(name): text for name, text in new_documents(metadata).items()}
    finish(place.store.set_many(documents.items()))
    return made


def _kinds(places: Mapping[str, StorePath]) -> dict[str, str]:
    """Return which of the places hold an array or a group, in either format."""

    def kind(place: StorePath) -> str | None:
        try:
            check_absent(place)
        except ContainsArrayError:
            return "array"
        except ContainsGroupError:
            return "group"
        return None

    slow = next(iter(places.values())).store.high_latency
    found = each(kind, places.values(), slow=slow)
    return {path: is_a for path, is_a in zip(places, found, strict=True) if is_a}


def _erase(
    places: Mapping[str, StorePath], asked: set[str], made: Mapping[str, NodeMetadata]
) -> None:
    """Remove what is at the places that were asked for, each part of the tree once."""
    done: list[str] = []
    for path in sorted(asked):
        metadata = made[path]
        also = metadata if isinstance(metadata, ArrayMetadata) else None
        # Below an erased group only chunks without a document can be left.
        if also is not None or not any(path.startswith(f"{above}/") or not above for above in done):
            erase_node(places[path], also)
            done.append(path)


def move_node(place: StorePath, source: str, dest: str) -> None:
    """Rename a node and all below it: documents and chunks are copied, then the old ones removed.

    Groups above the new place are created if they are missing.
    """
    old, new = place / source, place / dest
    if new.path == old.path or new.path.startswith(f"{old.path}/"):
        raise ValueError(f"{source!r} cannot be moved to {dest!r}")
    metadata = read_node(old)
    if metadata is None:
        raise NodeNotFoundError(f"no node at {old}")
    check_absent(new)
    check_name(dest)
    create_ancestors(new, metadata.zarr_format)
    store = place.store

    def copy(key: str) -> None:
        value = store.get(key)
        if value is not None:
            store.set(new.path + key.removeprefix(old.path), value)

    for keys in (kinds := node_keys(old)):
        each(copy, keys, slow=store.high_latency)
    remove_keys(old, kinds)
