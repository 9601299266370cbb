"""The nodes below a node: listed, created together, moved."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import chain, islice
from typing import Any, TypeVar

from zarr_core.errors import (
    ContainsArrayError,
    ContainsGroupError,
    NodeNotFoundError,
    near_names,
)
from zarr_core.hierarchy.stored_nodes import (
    NODE_DOCUMENTS,
    REPLACES,
    check_absent,
    check_name,
    check_not_erased,
    create_ancestors,
    erase_node,
    find_documents,
    in_order,
    is_node,
    load_documents,
    missing_ancestors,
    new_documents,
    node_keys,
    parse_loaded,
    read_node,
    remove_keys,
)
from zarr_core.metadata import ArrayMetadata, GroupMetadata, NodeMetadata
from zarr_core.metadata.documents import (
    DOCUMENTS,
    JSON,
    V2_ARRAY,
    V2_GROUP,
    V3_DOCUMENT,
    ZarrFormat,
)
from zarr_core.storage.base import values_of
from zarr_core.storage.paths import StorePath, normalize_path
from zarr_core.threads import trace
from zarr_core.threads.requests import each, finish

T = TypeVar("T")

MARKS: dict[ZarrFormat, tuple[str, ...]] = {3: (V3_DOCUMENT,), 2: (V2_ARRAY, V2_GROUP)}
"""The documents of a format that make a place a node."""


# --- children --------------------------------------------------------------------------------------


def _listed(place: StorePath) -> list[str]:
    """Return the names below a place that nodes could have, sorted."""
    store = trace.seen(place.store)
    names = store.list_dir(place.path)
    return sorted(name for name in names if name not in DOCUMENTS and "\\" not in name)


def child_names(place: StorePath, zarr_format: ZarrFormat) -> Iterator[str]:
    """Yield the names of the nodes directly below a place, without reading their documents."""
    store, marks = place.store, MARKS[zarr_format]
    store = trace.seen(store)

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
    names = NODE_DOCUMENTS[zarr_format]
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


def walk(
    place: StorePath, zarr_format: ZarrFormat, max_depth: int | None
) -> Iterator[tuple[str, NodeMetadata]]:
    """Yield relative paths and metadata of all nodes below a place, parents before children."""
    for path, documents in walk_documents(place, zarr_format, max_depth):
        yield path, parse_loaded(place / path, documents)


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
            raise error(place.store, places[path].path, REPLACES)
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
    _, attributes, below, own = in_order(place, documents)
    for keys in filter(None, (attributes, own + below)):
        store = trace.seen(place.store)
        finish(store.set_many([(key, documents[key]) for key in keys]))
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


def missing_member(path: str, place: StorePath, names: Iterable[str]) -> KeyError:
    """Return the error about a path below a group; `names` are those that it may have meant."""
    with suppress(Exception):  # the names only help
        if near := near_names(path, islice(names, 10_000)):
            listed = ", ".join(near)
            return KeyError(f"{path}: no array or group of this name in {place}; there is {listed}")
    return KeyError(f"{path}: no array or group of this name in {place}")
