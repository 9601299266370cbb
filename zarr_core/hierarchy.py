"""Children, trees and consolidated metadata: what spans more than one node."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from html import escape
from typing import Any, NamedTuple, final

from zarr_core.create import create_node
from zarr_core.errors import ContainsArrayError, ContainsGroupError, NodeNotFoundError
from zarr_core.metadata import (
    DOCUMENTS,
    V2_ARRAY,
    V2_ATTRIBUTES,
    V2_CONSOLIDATED,
    V2_GROUP,
    V3_DOCUMENT,
    ArrayMetadata,
    ConsolidatedMetadata,
    GroupMetadata,
    NodeMetadata,
    ZarrFormat,
    dump_json,
    load_json,
    node_documents,
    parse_zmetadata,
)
from zarr_core.nodes import erase_node, parse_documents, read_group, read_node, update_node
from zarr_core.storage.base import Request
from zarr_core.storage.paths import StorePath, normalize_path
from zarr_core.warn import warn
from zarr_core.workers import key_lock

_MARKS: dict[ZarrFormat, tuple[str, ...]] = {3: (V3_DOCUMENT,), 2: (V2_ARRAY, V2_GROUP)}


def child_names(place: StorePath, zarr_format: ZarrFormat) -> Iterator[str]:
    """Yield the names of the nodes directly below a place, without reading their documents."""
    store = place.store
    names = sorted(n for n in store.list_dir(place.path) if n not in DOCUMENTS)
    marks = _MARKS[zarr_format]
    if store.high_latency:
        yield from (name for name, _ in child_metadata(place, zarr_format, names))
        return
    for name in names:
        if any(_exists(place, f"{name}/{mark}") for mark in marks):
            yield name


def _exists(place: StorePath, name: str) -> bool:
    try:
        return place.store.exists(place.key(name))
    except (NotADirectoryError, ValueError):  # a file, or a foreign name that cannot be a key
        return False


def child_metadata(
    place: StorePath, zarr_format: ZarrFormat, names: Iterable[str] | None = None
) -> Iterator[tuple[str, NodeMetadata]]:
    """Yield names and metadata of the nodes directly below a place: one list, one batch of gets."""
    store = place.store
    if names is None:
        names = sorted(n for n in store.list_dir(place.path) if n not in DOCUMENTS)
    if not store.high_latency:
        for name in names:
            try:
                metadata = read_node(place / name, zarr_format)
            except (NotADirectoryError, IsADirectoryError):
                continue
            if metadata is not None:
                yield name, metadata
        return
    keys = (V3_DOCUMENT,) if zarr_format == 3 else (V2_ARRAY, V2_GROUP, V2_ATTRIBUTES)
    asked = [(name, key) for name in names for key in keys]
    found: dict[str, dict[str, Any]] = {}
    requests = [Request(place.key(f"{name}/{key}")) for name, key in asked]
    for number, value, error in store.get_many(requests):
        if error is not None:
            raise error
        if value is not None:
            name, key = asked[number]
            found.setdefault(name, {})[key] = value
    for name in sorted(found):
        if found[name].keys() != {V2_ATTRIBUTES}:
            yield name, parse_documents(place / name, found[name])


def walk(
    place: StorePath, zarr_format: ZarrFormat, max_depth: int | None
) -> Iterator[tuple[str, NodeMetadata]]:
    """Yield relative paths and metadata of all nodes below a place, parents before children."""
    for name, metadata in child_metadata(place, zarr_format):
        yield name, metadata
        if isinstance(metadata, GroupMetadata) and max_depth != 0:
            deeper = None if max_depth is None else max_depth - 1
            for below, found in walk(place / name, zarr_format, deeper):
                yield f"{name}/{below}", found


# --- consolidated metadata -------------------------------------------------------------------------


@final
class Consolidation:
    """Consolidated metadata in use: shared by all handles reached through one group.

    It answers look-ups without I/O and is written again, once, whenever one of these handles
    changes a node. What others do to the nodes, it does not see.
    """

    __slots__ = ("_children", "nodes", "place", "zarr_format")

    def __init__(self, place: StorePath, zarr_format: ZarrFormat, nodes: ConsolidatedMetadata) -> None:
        self.place = place
        self.zarr_format: ZarrFormat = zarr_format
        self.nodes = nodes
        self._children: dict[str, list[str]] | None = None

    def children(self, path: str) -> list[str]:
        """Return the names directly below a path."""
        if self._children is None:
            index: dict[str, set[str]] = {}
            for full in self.nodes.nodes:
                parent, _, name = full.rpartition("/")
                index.setdefault(parent, set()).add(name)
            self._children = {parent: sorted(names) for parent, names in index.items()}
        return self._children.get(path, [])

    def record(self, changes: Mapping[str, NodeMetadata | None]) -> None:
        """Store that nodes now have other metadata, or (None) do not exist any more."""

        def apply(nodes: ConsolidatedMetadata) -> ConsolidatedMetadata:
            for path, metadata in changes.items():
                nodes.put(path, metadata)
            return nodes

        if self.zarr_format == 3:
            root = read_group(self.place, 3)
            new = update_node(
                self.place,
                root,
                lambda fresh: replace(
                    fresh,
                    consolidated_metadata=apply(fresh.consolidated_metadata or self.nodes),
                ),
            )
            self.nodes = new.consolidated_metadata or self.nodes
        else:
            self._record_v2(apply)
        self._children = None

    def _record_v2(self, apply: Any) -> None:
        store, key = self.place.store, self.place.key(V2_CONSOLIDATED)
        with key_lock(store.lock_key(key)):
            while True:
                value, version = store.get_versioned(key)
                nodes = self.nodes
                document: dict[str, Any] = {}
                if value is not None:
                    document = load_json(value, V2_CONSOLIDATED)
                    nodes = parse_zmetadata(document, V2_CONSOLIDATED)
                nodes = apply(nodes)
                own = document.get("metadata", {}).get(V2_ATTRIBUTES, {})
                text = dump_json(nodes.to_zmetadata(GroupMetadata(own, 2)), V2_CONSOLIDATED)
                if store.set_if_version(key, text, version):
                    self.nodes = nodes
                    return

    def record_root(self, metadata: GroupMetadata) -> None:
        """Store attributes of the group itself in its consolidated copy (format 2 has one)."""
        if self.zarr_format == 2:
            text = dump_json(self.nodes.to_zmetadata(metadata), V2_CONSOLIDATED)
            self.place.store.set(self.place.key(V2_CONSOLIDATED), text)


def consolidate(place: StorePath, zarr_format: ZarrFormat | None) -> GroupMetadata:
    """Read the documents of all nodes below a group and store them with the group."""
    if not place.store.supports_consolidated_metadata:
        raise TypeError(f"{place.store} does not support consolidated metadata")
    metadata = read_group(place, zarr_format)
    nodes = {
        path: node_documents(found) for path, found in walk(place, metadata.zarr_format, None)
    }
    if metadata.zarr_format == 3:
        warn("consolidated v3", stacklevel=4)
        return update_node(
            place,
            metadata,
            lambda fresh: replace(fresh, consolidated_metadata=ConsolidatedMetadata(nodes)),
        )
    new = replace(metadata, consolidated_metadata=ConsolidatedMetadata(nodes))
    place.store.set(place.key(V2_CONSOLIDATED), new.documents()[V2_CONSOLIDATED])
    return new


# --- several nodes at once ---------------------------------------------------------------------------


def with_parents(
    nodes: Mapping[str, NodeMetadata], zarr_format: ZarrFormat
) -> dict[str, NodeMetadata]:
    """Return nodes by normalised path, with a group for each parent that is not among them."""
    complete: dict[str, NodeMetadata] = {}
    for path, metadata in nodes.items():
        if metadata.zarr_format != zarr_format:
            raise ValueError("all nodes of a hierarchy have one format")
        normal = normalize_path(path)
        if normal in complete:
            raise ValueError(f"two nodes have the path {normal!r}")
        complete[normal] = metadata
    for path in list(complete):
        parent = path
        while parent:
            parent = parent.rpartition("/")[0]
            above = complete.setdefault(parent, GroupMetadata(zarr_format=zarr_format))
            if isinstance(above, ArrayMetadata):
                raise ContainsArrayError(f"the array {parent!r} cannot contain {path!r}")
    return dict(sorted(complete.items()))


def create_nodes(
    place: StorePath, nodes: Mapping[str, NodeMetadata], *, overwrite: bool
) -> dict[str, NodeMetadata]:
    """Create nodes and the groups between them; return all by path.

    Groups that exist already are kept where they were only implied. Everything is checked first.
    """
    if not nodes:
        return {}
    formats = {metadata.zarr_format for metadata in nodes.values()}
    if len(formats) != 1:
        raise ValueError("all nodes of a hierarchy have one format")
    (zarr_format,) = formats
    complete = with_parents(nodes, zarr_format)
    asked = {normalize_path(path) for path in nodes}
    made: dict[str, NodeMetadata] = {}
    for path, metadata in complete.items():
        there = place / path if path else place
        existing = read_node(there)
        if existing is None or (overwrite and path in asked):
            made[path] = metadata
        elif path in asked:
            kind = ContainsArrayError if isinstance(existing, ArrayMetadata) else ContainsGroupError
            raise kind(f"there is a node at {there} already")
        elif isinstance(existing, ArrayMetadata):
            raise ContainsArrayError(f"the array at {there} cannot contain other nodes")
    place.store._check_writable()
    documents: dict[str, bytes] = {}
    for path, metadata in made.items():
        there = place / path if path else place
        if overwrite and path in asked:
            erase_node(there, metadata if isinstance(metadata, ArrayMetadata) else None)
        documents.update({there.key(k): v for k, v in metadata.documents().items()})
    if made and place.path:
        first = min(made, key=len)
        if not first:
            create_node(place, made[""], overwrite=False)
    for result in place.store.set_many(documents.items()):
        if result.error is not None:
            raise result.error
    return {path: metadata for path, metadata in made.items() if path or "" in asked}


def move_node(place: StorePath, source: str, dest: str) -> None:
    """Rename a node and all below it: every key is copied, then the old ones are removed."""
    old, new = place / source, place / dest
    if new.path == old.path or new.path.startswith(f"{old.path}/"):
        raise ValueError(f"{source!r} cannot be moved to {dest!r}")
    if read_node(old) is None:
        raise NodeNotFoundError(f"no node at {old}")
    if read_node(new) is not None:
        raise ContainsGroupError(f"there is a node at {new} already")
    store = place.store
    start = f"{old.path}/"
    keys = sorted(store.list_prefix(old.path), key=lambda k: k.rpartition("/")[2] in DOCUMENTS)
    for key in keys:
        value = store.get(key)
        if value is not None:
            store.set(f"{new.path}/{key.removeprefix(start)}", bytes(value))
    erase_node(old)


# --- drawing -----------------------------------------------------------------------------------------


class Branch(NamedTuple):
    """A node in a drawing."""

    name: str
    detail: str
    children: "list[Branch]"


@final
class Tree:
    """A drawing of a hierarchy, as text and for notebooks."""

    def __init__(self, root: Branch, *, plain: bool = False) -> None:
        self.root = root
        self.plain = plain

    @classmethod
    def of(
        cls,
        name: str,
        nodes: Iterable[tuple[str, NodeMetadata]],
        *,
        max_nodes: int = 500,
        plain: bool = False,
    ) -> "Tree":
        """Return the drawing of nodes given by path, parents before children."""
        root = Branch(name, "", [])
        branches = {"": root}
        for number, (path, metadata) in enumerate(nodes):
            if number >= max_nodes:
                root.children.append(Branch("...", f"more than {max_nodes} nodes", []))
                break
            parent, _, last = path.rpartition("/")
            detail = (
                f"{metadata.shape} {metadata.dtype}" if isinstance(metadata, ArrayMetadata) else ""
            )
            branch = branches[path] = Branch(last, detail, [])
            branches[parent].children.append(branch)
        return cls(root, plain=plain)

    def __repr__(self) -> str:
        lines = [self.root.name]

        def draw(branch: Branch, indent: str) -> None:
            for child in branch.children:
                last = child is branch.children[-1]
                mark, more = ("└── ", "    ") if last else ("├── ", "│   ")
                lines.append(f"{indent}{mark}{child.name} {child.detail}".rstrip())
                draw(child, indent + more)

        draw(self.root, "")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        def draw(branch: Branch) -> str:
            label = f"<b>{escape(branch.name)}</b> {escape(branch.detail)}"
            if not branch.children:
                return f"<li>{label}</li>"
            below = "".join(map(draw, branch.children))
            return f"<li><details open><summary>{label}</summary><ul>{below}</ul></details></li>"

        return f"<ul>{draw(self.root)}</ul>"


def draw_tree(place: StorePath, metadata: GroupMetadata, level: int | None = None) -> Tree:
    """Return the drawing of what is below a group."""
    depth = None if level is None else max(0, level - 1)
    nodes = walk(place, metadata.zarr_format, depth)
    return Tree.of(f"/{place.path}", nodes)
