"""A node as it is stored: its documents found, written, changed without losing updates; erased."""

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from zarr_core.errors import (
    ArrayNotFoundError,
    BaseZarrError,
    ConflictError,
    ContainsArrayAndGroupError,
    ContainsArrayError,
    ContainsGroupError,
    GroupNotFoundError,
    InvalidKeyError,
    MetadataValidationError,
    NodeNotFoundError,
    NotAGroupError,
    NotAnArrayError,
    StoreError,
    warn,
)
from zarr_core.metadata import ArrayMetadata, GroupMetadata, NodeMetadata
from zarr_core.metadata.documents import (
    DOCUMENTS,
    JSON,
    V2_ARRAY,
    V2_ATTRIBUTES,
    V2_CONSOLIDATED,
    V2_GROUP,
    V3_DOCUMENT,
    DocumentAt,
    ZarrFormat,
    load_json,
)
from zarr_core.metadata.group import parse_node
from zarr_core.storage.base import Store, Value, values_of
from zarr_core.storage.paths import StorePath, store_from
from zarr_core.threads import trace
from zarr_core.threads.key_locks import key_lock
from zarr_core.threads.requests import finish

_logger = logging.getLogger("zarr_core")

N = TypeVar("N", ArrayMetadata, GroupMetadata)

REPLACES = "overwrite=True replaces it"

NODE_DOCUMENTS: dict[ZarrFormat | None, tuple[str, ...]] = {
    None: (V3_DOCUMENT, V2_ARRAY, V2_GROUP, V2_ATTRIBUTES),
    3: (V3_DOCUMENT,),
    2: (V2_ARRAY, V2_GROUP, V2_ATTRIBUTES),
}
"""The documents that a node can have in a format."""


def _get(store: Store, key: str) -> Value | None:
    """Return a document or None; files and directories in each other's place are no nodes."""
    if trace.running:  # asked here, as most documents are looked for here
        store = trace.seen(store)
    try:
        return store.get(key)
    except NotADirectoryError:
        return None
    except StoreError:
        if store.exists(key):
            raise
        return None


def _get_all(place: StorePath, names: Iterable[str]) -> dict[str, Value]:
    """Return the documents of a node that exist; one batch on slow stores."""
    store = place.store
    if not store.high_latency:
        documents = {}
        for name in names:
            value = _get(store, place.key(name))
            if value is not None:
                documents[name] = value
        return documents
    keys = {name: place.key(name) for name in names}
    found = values_of(store, keys.values())
    return {name: found[key] for name, key in keys.items() if key in found}


def read_node(
    place: StorePath, zarr_format: ZarrFormat | None = None, *, consolidated: bool | str = False
) -> NodeMetadata | None:
    """Return the metadata of the node at a place, or None when there is none.

    Without `zarr_format` both are looked for, and format 3 is preferred with a warning when both
    exist. `consolidated` asks for the consolidated metadata too, which has a key of its own in
    format 2 (another one than usual when it is a string).
    """
    key = V2_CONSOLIDATED if consolidated is True else str(consolidated)
    # The root of a slow store usually has it: asked for at once, it takes no turn of its own.
    early = place.store.high_latency and consolidated and not place.path and zarr_format != 3
    found = find_documents(place, zarr_format, (key,) if early else ())
    if not found:
        return None
    value = found.pop(key, None)
    if consolidated and V3_DOCUMENT not in found and V2_GROUP in found:
        if not early:
            value = _get(place.store, place.key(key))
        if value is not None:
            found[V2_CONSOLIDATED] = value
    documents = load_documents(place, found)
    if not consolidated:  # it may be damaged
        documents.get(V3_DOCUMENT, {}).pop("consolidated_metadata", None)
    return parse_loaded(place, documents)


def find_documents(
    place: StorePath, zarr_format: ZarrFormat | None = None, others: tuple[str, ...] = ()
) -> dict[str, Value]:
    """Return the stored documents of the node at a place; empty when there is no node.

    On slow stores `others` are asked for with them.
    """
    store = place.store
    if zarr_format not in NODE_DOCUMENTS:
        raise MetadataValidationError(
            f"Invalid value for 'zarr_format'. Expected 2, 3, or None. Got {zarr_format!r}."
        )
    if store.high_latency:
        found = _get_all(place, (*NODE_DOCUMENTS[zarr_format], *others))
        if V3_DOCUMENT in found and (V2_ARRAY in found or V2_GROUP in found):
            _warn_of_both(place, store)
    else:
        found = {}
        for name in NODE_DOCUMENTS[zarr_format]:
            value = _get(store, place.key(name))
            if value is not None:
                found[name] = value
                if name == V3_DOCUMENT:
                    break
        if V3_DOCUMENT in found and zarr_format is None:
            _warn_of_both(place, store)
    return found if is_node(place, found) else {}


def _warn_of_both(place: StorePath, store: Store) -> None:
    for name in (V2_ARRAY, V2_GROUP):
        if store.exists(place.key(name)):
            warn("two formats", name, place)


def is_node(place: StorePath, found: Mapping[str, Value]) -> bool:
    """Return whether stored documents make a node; `.zattrs` alone does not."""
    if V3_DOCUMENT in found:
        return True
    if V2_ARRAY in found and V2_GROUP in found:
        raise ContainsArrayAndGroupError(f"documents of an array and of a group at {place}")
    return V2_ARRAY in found or V2_GROUP in found


def parse_documents(place: StorePath, found: Mapping[str, Value]) -> NodeMetadata:
    """Return the metadata that the stored documents of a node hold."""
    return parse_loaded(place, load_documents(place, found))


def parse_loaded(place: StorePath, documents: Mapping[str, JSON]) -> NodeMetadata:
    """Return the metadata that the documents of a node say."""
    return parse_node(documents, DocumentAt(next(iter(documents)), place))


def load_documents(place: StorePath, found: Mapping[str, Value]) -> dict[str, JSON]:
    """Return the JSON objects in the stored documents of a node."""
    if V3_DOCUMENT in found:
        found = {V3_DOCUMENT: found[V3_DOCUMENT]}
    return {name: load_json(value, DocumentAt(name, place)) for name, value in found.items()}


def read_array(place: StorePath, zarr_format: ZarrFormat | None = None) -> ArrayMetadata:
    """Return the metadata of an array; raise `ArrayNotFoundError`."""
    metadata = read_node(place, zarr_format)
    if isinstance(metadata, ArrayMetadata):
        return metadata
    if metadata is None:
        raise ArrayNotFoundError(place.store, place.path, *there_instead(place))
    raise NotAnArrayError(place.store, place.path, "no array was found")


def read_group(
    place: StorePath, zarr_format: ZarrFormat | None = None, *, consolidated: bool | str = False
) -> GroupMetadata:
    """Return the metadata of a group; raise `GroupNotFoundError`."""
    metadata = read_node(place, zarr_format, consolidated=consolidated)
    if isinstance(metadata, GroupMetadata):
        return metadata
    if metadata is None:
        raise GroupNotFoundError(place.store, place.path, *there_instead(place))
    raise NotAGroupError(place.store, place.path, "no group was found")


_BEGINNINGS = {
    b"\x89HDF": "HDF5",
    b"CDF": "NetCDF 3",
    b"PK\3\4": "zip",
    b"\x93NUMPY": "NumPy",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
"""How files of formats begin that users take for a place of Zarr."""


def there_instead(place: StorePath) -> tuple[str, ...]:
    """Return what is where a node was looked for, in words, when that is a file."""
    root = getattr(place.store, "root", None)
    if not isinstance(root, os.PathLike) or not os.path.isfile(root):
        return ()
    with open(root, "rb") as file:
        start = file.read(8)
    kind = next((f" {name}" for magic, name in _BEGINNINGS.items() if start.startswith(magic)), "")
    return (f"there is a{kind} file, and Zarr is in directories or in files named *.zip",)


def write_node(place: StorePath, metadata: NodeMetadata, *, overwrite: bool = True) -> None:
    """Store the documents of a node, the one that makes it visible last.

    That one decides: without `overwrite`, it is stored only if it does not exist, which of several
    threads and processes one alone succeeds in; the others raise as `check_absent` does.
    """
    store = trace.seen(place.store)
    *others, (main, document) = new_documents(metadata).items()
    if overwrite:
        for name, text in others:
            store_document(place, name, text)
        store_document(place, main, document)
        return
    key = place.key(main)
    if main != V3_DOCUMENT and not others and store.exists(place.key(V2_ATTRIBUTES)):
        others = [(V2_ATTRIBUTES, b"{}")]  # whoever was interrupted has left others here
    # Where a store can only look and then write, the lock makes that one step between threads.
    with key_lock(store.lock_key(key)):
        if not (others and store.exists(key)):
            for name, text in others:
                store.set(place.key(name), text)
            if store.set_if_version(key, document, None):
                _logger.debug("stored %r in %s", key, store)
                return
    check_absent(place, REPLACES)
    raise ConflictError(f"{key!r} was created and removed by others at the same time")


def new_documents(metadata: NodeMetadata) -> dict[str, bytes]:
    """Return the documents of a node that does not exist yet; empty `.zattrs` are not needed."""
    documents = metadata.documents()
    if metadata.zarr_format == 2 and not metadata._attributes:
        del documents[V2_ATTRIBUTES]
    return documents


def store_document(place: StorePath, name: str, document: bytes) -> None:
    """Store one document under its lock."""
    store = trace.seen(place.store)
    key = place.key(name)
    with key_lock(store.lock_key(key)):
        store.set(key, document)
    _logger.debug("stored %r in %s", key, store)


def _written(metadata: NodeMetadata) -> tuple[str, ...]:
    """Return the names of the documents of a node; the one that makes it visible last."""
    if metadata.zarr_format == 3:
        return (V3_DOCUMENT,)
    return (V2_ATTRIBUTES, V2_ARRAY if metadata.node_type == "array" else V2_GROUP)


def update_node(place: StorePath, current: N, change: Callable[[N], N]) -> N:
    """Change the stored metadata of a node; return what was stored.

    `change` gets the metadata as it is stored now, which may differ from `current`, what the caller
    last saw. It may be called again when somebody else changes the node at the same time.
    Raises `NodeNotFoundError` when the node is gone and `ConflictError` when others never pause.
    """
    store = trace.seen(place.store)
    names = _written(current)
    main = names[-1]
    with key_lock(store.lock_key(place.key(main))):
        for _ in range(20):
            stored = {name: store.get_versioned(place.key(name)) for name in names}
            found = {name: value for name, (value, _) in stored.items() if value is not None}
            if main not in found:
                raise NodeNotFoundError(f"the node at {place} does not exist any more")
            fresh = parse_documents(place, found)
            if type(fresh) is not type(current):
                raise NodeNotFoundError(f"the node at {place} is of another type now")
            new = change(fresh)  # pyright: ignore[reportArgumentType] # of N, as just checked
            documents = new.documents()
            if all(
                name in found and bytes(found[name]) == documents[name] for name in names
            ) or all(
                (name in found and bytes(found[name]) == documents[name])
                or store.set_if_version(place.key(name), documents[name], stored[name][1])
                for name in names
            ):
                _logger.debug("stored %r in %s", place.key(main), store)
                return new
    raise ConflictError(f"the metadata at {place} was changed by others at every attempt")


# --- creating and erasing --------------------------------------------------------------------------


def check_name(path: str) -> None:
    """Raise `InvalidKeyError` for a path on which no node can be found again.

    Warns of names that the specification reserves.
    """
    for segment in path.split("/"):
        if segment in DOCUMENTS:
            raise InvalidKeyError(
                f"no node can be called {segment!r} (in {path!r}): that is the key of a metadata "
                "document"
            )
        if segment.startswith("__"):
            warn("reserved name", segment)


def check_not_erased(place: StorePath, sources: Iterable[Any]) -> None:
    """Raise `ValueError` when data that is to be copied to a place is part of what is there.

    Sources are arrays; what is no Zarr array is ignored. Identities of stored keys are compared, so
    it does not matter through which store object, wrapper or link the data is reached.
    """
    for source in sources:
        if is_below(source, place):
            raise ValueError(
                f"paths overlap: {source!r} is part of what would be overwritten at {place}, and "
                "removed before it is copied; copy it elsewhere first, or pass source[...]"
            )


def is_below(node: Any, place: StorePath) -> bool:
    """Return whether a place, or what has one, is at a place or below it; identities are compared."""
    there = node if isinstance(node, StorePath) else _place_of(node)
    if there is None:
        return False
    (store, path), (other, start) = key_of(there), key_of(place)
    return store == other and path.startswith(start)


def _place_of(source: Any) -> StorePath | None:
    """Return where an array is stored, if it is a Zarr array (ours, awaited, or zarr-python's)."""
    found = getattr(source, "_store_path", None) or getattr(source, "store_path", None)
    if isinstance(found, StorePath) or found is None:
        return found
    try:
        return store_from(found)
    except (TypeError, ValueError):
        return None


def key_of(place: StorePath) -> tuple[object, str]:
    """Return what tells a place from others, also in other processes: an identity of the store, and a path with a slash."""
    found = place.store.lock_key(place.key(V3_DOCUMENT))
    *store, key = found if isinstance(found, tuple) else (found,)
    return tuple(store), str(key).removesuffix(V3_DOCUMENT)


def check_absent(place: StorePath, *known: str) -> None:
    """Raise `ContainsArrayError` or `ContainsGroupError` when there is a node, in either format.

    `known` is what the message says after a colon.
    """
    found = _get_all(place, (V3_DOCUMENT, V2_ARRAY, V2_GROUP))
    if not found:
        return
    kind = "array" if V2_ARRAY in found else "group"
    if V3_DOCUMENT in found:
        try:
            document = load_json(found[V3_DOCUMENT], V3_DOCUMENT)
            kind = "array" if document.get("node_type") == "array" else "group"
        except MetadataValidationError:
            kind = "array"
    error = ContainsArrayError if kind == "array" else ContainsGroupError
    raise error(place.store, place.path, *known)


def missing_ancestors(
    place: StorePath, zarr_format: ZarrFormat, below: StorePath | None = None
) -> list[str]:
    """Return the paths above a place where there is no node, the longest first.

    `below` is known to be a group, if it still exists: its document, which may be large, is not
    read. Raises `ContainsArrayError` when an array is above.
    """
    missing = []
    path, store = place.path, place.store
    mark = V3_DOCUMENT if zarr_format == 3 else V2_GROUP
    while path:
        path = path.rpartition("/")[0]
        if below is not None and path == below.path and store.exists(below.key(mark)):
            break
        parent = StorePath(store, path)
        found = _get_all(parent, (V3_DOCUMENT, V2_ARRAY, V2_GROUP))
        if found:
            if V2_GROUP not in found and isinstance(parse_documents(parent, found), ArrayMetadata):
                raise ContainsArrayError(
                    f"A parent of {place} is an array - only groups may have child nodes. (at {parent})"
                )
            break
        missing.append(path)
    return missing


def create_ancestors(
    place: StorePath, zarr_format: ZarrFormat, missing: list[str] | None = None
) -> None:
    """Create the groups above a place that do not exist (`missing`, as `missing_ancestors` says)."""
    if missing is None:
        missing = missing_ancestors(place, zarr_format)
    store = trace.seen(place.store)
    for path in reversed(missing):
        parent = StorePath(place.store, path)
        for name, document in new_documents(GroupMetadata(zarr_format=zarr_format)).items():
            store.set_if_version(parent.key(name), document, None)


CHUNK_KEY = re.compile(r"c(?:[./][0-9]+)*|[0-9]+(?:[./][0-9]+)*")


def _grammars(place: StorePath, names: set[str]) -> list[re.Pattern[str]]:
    """Return what the chunk keys of a node look like, in each format that it has documents of."""
    formats: list[ZarrFormat] = []
    if V3_DOCUMENT in names:
        formats.append(3)
    if V2_ARRAY in names:
        formats.append(2)
    grammars = []
    for zarr_format in formats:
        try:
            metadata = read_node(place, zarr_format)
        except BaseZarrError:  # damaged
            grammars.append(CHUNK_KEY)
        else:
            if isinstance(metadata, ArrayMetadata):
                grammars.append(chunk_grammar(metadata))
    return grammars


def chunk_grammar(metadata: ArrayMetadata) -> re.Pattern[str]:
    """Return what the chunk keys of an array look like, whatever its shape."""
    return re.compile(metadata.chunk_key_encoding.grammar)


def in_order(place: StorePath, keys: Iterable[str]) -> tuple[list[str], ...]:
    """Return keys as they are to be written or removed, those of a list before those of the next.

    Chunks, attributes, and what makes nodes visible, the node at `place` last: whoever is interrupted
    leaves a node without some chunks or attributes, which can be written or removed again.
    """
    chunks, attributes, below, own = ranks = ([], [], [], [])  # type: ignore[var-annotated]
    for key in keys:
        parent, _, name = key.rpartition("/")
        if name not in DOCUMENTS:
            chunks.append(key)
        elif name in (V2_ATTRIBUTES, V2_CONSOLIDATED):
            attributes.append(key)
        else:
            (own if parent == place.path else below).append(key)
    below.sort(key=lambda key: key.count("/"), reverse=True)
    return ranks


def node_keys(place: StorePath, also: ArrayMetadata | None = None) -> tuple[list[str], ...]:
    """Return the keys of a node and of all nodes below it, `in_order`.

    With `also`, keys that look like chunks of that array are among them, whether or not there is a
    document.
    """
    store = trace.seen(place.store)
    start = f"{place.path}/" if place.path else ""
    # Only files that no store has written have a backslash in their names.
    found = (key for key in store.list_prefix(place.path) if "\\" not in key)
    keys = [key.removeprefix(start) for key in found]
    nodes: dict[str, set[str]] = {}
    for key in keys:
        parent, _, name = key.rpartition("/")
        if name in DOCUMENTS:
            nodes.setdefault(parent, set()).add(name)
    grammars = {
        path: _grammars(place / path if path else place, names) for path, names in nodes.items()
    }
    extra = None if also is None else chunk_grammar(also)
    found = (
        place.key(key)
        for key in keys
        if key.rpartition("/")[2] in DOCUMENTS
        or (extra is not None and extra.fullmatch(key))
        or _is_chunk(key, grammars)
    )
    return in_order(place, found)


def erase_node(place: StorePath, also: ArrayMetadata | None = None) -> None:
    """Remove a node and all below it: documents and chunks; keys that are neither stay.

    With `also`, keys that look like chunks of that array are removed too: they would show up in the
    array once it is created.
    """
    remove_keys(place, node_keys(place, also))


def remove_keys(place: StorePath, kinds: tuple[list[str], ...]) -> None:
    """Remove keys, one list after the other, and the directories that are empty then.

    Of what is behind a symbolic link to a directory, only the link is removed.
    """
    store = place.store
    links = tuple(f"{path}/" for path in store.links(place.path)) if any(kinds) else ()
    for keys in kinds:
        used = {link[:-1] for link in links for key in keys if key.startswith(link)}
        own = [key for key in keys if not key.startswith(links)] if links else keys
        delete_keys(store, [*own, *sorted(used)])
    if any(kinds):
        store.prune(place.path)
        n_chunks, *rest = map(len, kinds)
        _logger.debug("removed %d chunks and %d documents at %s", n_chunks, sum(rest), place)


def _is_chunk(key: str, grammars: dict[str, list[re.Pattern[str]]]) -> bool:
    """Return whether a key is a chunk of the array that it is below."""
    parent = key
    while parent:
        parent = parent.rpartition("/")[0]
        if parent in grammars:
            relative = key.removeprefix(f"{parent}/") if parent else key
            return any(grammar.fullmatch(relative) for grammar in grammars[parent])
    return False


def delete_keys(store: Store, keys: Iterable[str]) -> None:
    """Remove keys, each under its lock; overlapped on slow stores."""
    store = trace.seen(store)
    if store.high_latency:
        keys = list(keys)
        try:
            finish(store.delete_many(keys))
        finally:
            for key in keys:
                key_lock(store.lock_key(key))  # who watches hears of it
        return
    for key in keys:
        with key_lock(store.lock_key(key)):
            store.delete(key)


def stored_chunks(
    place: StorePath, metadata: ArrayMetadata
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield key and coordinates of each stored chunk, inside the array's grid or not."""
    start = f"{place.path}/" if place.path else ""
    keys, ndim = metadata.chunk_key_encoding, metadata.ndim
    store = trace.seen(place.store)
    for key in store.list_prefix(place.path):
        coords = keys.decode(key.removeprefix(start), ndim)
        if coords is not None:
            yield key, coords
