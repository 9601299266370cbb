"""The documents of a node in a store: found, written, changed without losing updates, erased."""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from zarr_core.errors import (
    ArrayNotFoundError,
    ConflictError,
    ContainsArrayAndGroupError,
    ContainsArrayError,
    ContainsGroupError,
    GroupNotFoundError,
    MetadataValidationError,
    NodeNotFoundError,
    ZarrUserWarning,
)
from zarr_core.metadata import (
    DOCUMENTS,
    JSON,
    V2_ARRAY,
    V2_ATTRIBUTES,
    V2_CONSOLIDATED,
    V2_GROUP,
    V3_DOCUMENT,
    ArrayMetadata,
    GroupMetadata,
    NodeMetadata,
    ZarrFormat,
    load_json,
    parse_node,
)
from zarr_core.storage.base import Request, Store, Value
from zarr_core.storage.paths import StorePath
from zarr_core.workers import key_lock

N = TypeVar("N", ArrayMetadata, GroupMetadata)

_KEYS: dict[ZarrFormat | None, tuple[str, ...]] = {
    None: (V3_DOCUMENT, V2_ARRAY, V2_GROUP, V2_ATTRIBUTES),
    3: (V3_DOCUMENT,),
    2: (V2_ARRAY, V2_GROUP, V2_ATTRIBUTES),
}


def _get(store: Store, key: str) -> Value | None:
    """Return a document or None; a file where a directory would be means there is no node."""
    try:
        return store.get(key)
    except NotADirectoryError:
        return None


def _get_all(place: StorePath, names: Iterable[str]) -> dict[str, Value]:
    """Return the documents of a node that exist; one batch on slow stores."""
    store = place.store
    if not store.high_latency:
        values = ((name, _get(store, place.key(name))) for name in names)
        return {name: value for name, value in values if value is not None}
    names = list(names)
    found = {}
    for number, value, error in store.get_many([Request(place.key(name)) for name in names]):
        if error is not None:
            raise error
        if value is not None:
            found[names[number]] = value
    return found


def read_node(
    place: StorePath, zarr_format: ZarrFormat | None = None, *, consolidated: bool = False
) -> NodeMetadata | None:
    """Return the metadata of the node at a place, or None when there is none.

    Without `zarr_format` both are looked for, and format 3 is preferred with a warning when both
    exist. `consolidated` asks for `.zmetadata` of format 2 too; that of format 3 is always there.
    """
    store = place.store
    if not store.high_latency and zarr_format != 2:
        document = _get(store, place.key(V3_DOCUMENT))
        found = {} if document is None else {V3_DOCUMENT: document}
        if zarr_format is None:
            if document is None:
                found = _get_all(place, _KEYS[2])
            elif any(_get(store, place.key(key)) is not None for key in (V2_ARRAY, V2_GROUP)):
                _warn_two_formats(place)
    else:
        found = _get_all(place, _KEYS[zarr_format])
        if V3_DOCUMENT in found and (V2_ARRAY in found or V2_GROUP in found):
            _warn_two_formats(place)
    if V3_DOCUMENT not in found:
        if V2_ARRAY in found and V2_GROUP in found:
            raise ContainsArrayAndGroupError(f"documents of an array and of a group at {place}")
        if V2_ARRAY not in found and V2_GROUP not in found:
            return None
        if consolidated and V2_GROUP in found:
            found |= _get_all(place, [V2_CONSOLIDATED])
    return parse_documents(place, found)


def _warn_two_formats(place: StorePath) -> None:
    warnings.warn(
        f"both zarr_format 2 and zarr_format 3 metadata exist at {place}; zarr_format 3 is used",
        ZarrUserWarning,
        stacklevel=4,
    )


def parse_documents(place: StorePath, found: dict[str, Value]) -> NodeMetadata:
    """Return the metadata that the stored documents of a node hold."""
    if V3_DOCUMENT in found:
        found = {V3_DOCUMENT: found[V3_DOCUMENT]}
    documents: dict[str, JSON] = {
        name: load_json(value, f"{name} at {place}") for name, value in found.items()
    }
    return parse_node(documents, f"{next(iter(documents))} at {place}")


def read_array(place: StorePath, zarr_format: ZarrFormat | None = None) -> ArrayMetadata:
    """Return the metadata of an array; raise `ArrayNotFoundError`."""
    metadata = read_node(place, zarr_format)
    if isinstance(metadata, ArrayMetadata):
        return metadata
    found = "nothing" if metadata is None else "a group"
    raise ArrayNotFoundError(f"no array at {place}: found {found}")


def read_group(
    place: StorePath, zarr_format: ZarrFormat | None = None, *, consolidated: bool = False
) -> GroupMetadata:
    """Return the metadata of a group; raise `GroupNotFoundError`."""
    metadata = read_node(place, zarr_format, consolidated=consolidated)
    if isinstance(metadata, GroupMetadata):
        return metadata
    found = "nothing" if metadata is None else "an array"
    raise GroupNotFoundError(f"no group at {place}: found {found}")


def write_node(place: StorePath, metadata: NodeMetadata) -> None:
    """Store the documents of a node, the one that makes it visible last."""
    for name, document in metadata.documents().items():
        store_document(place, name, document)


def store_document(place: StorePath, name: str, document: bytes) -> None:
    """Store one document under its lock."""
    key = place.key(name)
    with key_lock(place.store.lock_key(key)):
        place.store.set(key, document)


def update_node(place: StorePath, current: N, change: Callable[[N], N]) -> N:
    """Change the stored metadata of a node; return what was stored.

    `change` gets the metadata as it is stored now, which may differ from `current`, what the caller
    last saw. It may be called again when somebody else changes the node at the same time.
    Raises `NodeNotFoundError` when the node is gone and `ConflictError` when others never pause.
    """
    store = place.store
    main = V3_DOCUMENT
    names: tuple[str, ...] = (V3_DOCUMENT,)
    if current.zarr_format == 2:
        main = V2_ARRAY if isinstance(current, ArrayMetadata) else V2_GROUP
        names = (V2_ATTRIBUTES, main)
    with key_lock(store.lock_key(place.key(main))):
        for _ in range(20):
            stored = {name: store.get_versioned(place.key(name)) for name in names}
            found = {name: value for name, (value, _) in stored.items() if value is not None}
            if main not in found:
                raise NodeNotFoundError(f"the node at {place} does not exist any more")
            fresh = parse_documents(place, found)
            if type(fresh) is not type(current):
                raise NodeNotFoundError(f"the node at {place} is of another type now")
            new = change(fresh)  # type: ignore[arg-type]
            documents = new.documents()
            if all(
                name in found and bytes(found[name]) == documents[name]
                for name in names
            ) or all(
                (name in found and bytes(found[name]) == documents[name])
                or store.set_if_version(place.key(name), documents[name], stored[name][1])
                for name in names
            ):
                return new
    raise ConflictError(f"the metadata at {place} was changed by others at every attempt")


# --- creating and erasing --------------------------------------------------------------------------


def check_absent(place: StorePath) -> None:
    """Raise `ContainsArrayError` or `ContainsGroupError` when there is a node, in either format."""
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
    raise error(f"there is an {kind} at {place}" if kind == "array" else f"there is a group at {place}")


def create_ancestors(place: StorePath, zarr_format: ZarrFormat) -> list[str]:
    """Create the groups above a place that do not exist; return the paths of those created.

    Raises `ContainsArrayError` when an array is above.
    """
    created = []
    path = place.path
    while path:
        path = path.rpartition("/")[0]
        parent = StorePath(place.store, path)
        found = _get_all(parent, (V3_DOCUMENT, V2_ARRAY, V2_GROUP))
        if found:
            if V2_GROUP not in found and isinstance(parse_documents(parent, found), ArrayMetadata):
                raise ContainsArrayError(f"nothing can be created below the array at {parent}")
            break
        created.append(path)
    for path in reversed(created):
        parent = StorePath(place.store, path)
        for name, document in GroupMetadata(zarr_format=zarr_format).documents().items():
            place.store.set_if_not_exists(parent.key(name), document)
    return created


_CHUNK_KEY = re.compile(r"c(?:[./][0-9]+)*|[0-9]+(?:[./][0-9]+)*")
_DEFAULT_KEY = {s: re.compile(rf"c(?:{re.escape(s)}[0-9]+)*") for s in "/."}
_V2_KEY = {s: re.compile(rf"[0-9]+(?:{re.escape(s)}[0-9]+)*") for s in "/."}


def _grammar(place: StorePath, names: set[str]) -> re.Pattern[str] | None:
    """Return what the chunk keys of a node look like; None for a group."""
    if V2_GROUP in names and not {V3_DOCUMENT, V2_ARRAY} & names:
        return None
    try:
        metadata = read_node(place)
    except MetadataValidationError:
        return _CHUNK_KEY
    if not isinstance(metadata, ArrayMetadata):
        return None
    return chunk_grammar(metadata)


def chunk_grammar(metadata: ArrayMetadata) -> re.Pattern[str]:
    """Return what the chunk keys of an array look like, whatever its shape."""
    keys = metadata.chunk_key_encoding
    return (_DEFAULT_KEY if keys.name == "default" else _V2_KEY)[keys.separator]


def erase_node(place: StorePath, also: ArrayMetadata | None = None) -> None:
    """Remove a node and all below it: documents and chunks; keys that are neither stay.

    With `also`, keys that look like chunks of that array are removed too, whether or not there is
    a document: they would show up in the array once it is created. Documents go last, so that an
    interrupted removal leaves arrays without chunks, not chunks without an array.
    """
    start = f"{place.path}/" if place.path else ""
    keys = [key.removeprefix(start) for key in place.store.list_prefix(place.path)]
    nodes: dict[str, set[str]] = {}
    for key in keys:
        parent, _, name = key.rpartition("/")
        if name in DOCUMENTS:
            nodes.setdefault(parent, set()).add(name)
    grammars = {path: _grammar(place / path if path else place, names) for path, names in nodes.items()}
    extra = None if also is None else chunk_grammar(also)
    chunks, documents = [], []
    for key in keys:
        parent, _, name = key.rpartition("/")
        if name in DOCUMENTS and parent in nodes:
            documents.append(place.key(key))
        elif (extra is not None and extra.fullmatch(key)) or _is_chunk(key, grammars):
            chunks.append(place.key(key))
    delete_keys(place.store, chunks)
    delete_keys(place.store, documents)


def _is_chunk(key: str, grammars: dict[str, re.Pattern[str] | None]) -> bool:
    """Return whether a key is a chunk of the array that it is below."""
    parent = key
    while parent:
        parent = parent.rpartition("/")[0]
        if parent in grammars:
            grammar = grammars[parent]
            relative = key.removeprefix(f"{parent}/") if parent else key
            return grammar is not None and grammar.fullmatch(relative) is not None
    return False


def delete_keys(store: Store, keys: Iterable[str]) -> None:
    """Remove keys, each under its lock; overlapped on slow stores."""
    if store.high_latency:
        for result in store.delete_many(keys):
            if result.error is not None:
                raise result.error
        return
    for key in keys:
        with key_lock(store.lock_key(key)):
            store.delete(key)


def stored_chunks(place: StorePath, metadata: ArrayMetadata) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield key and coordinates of each stored chunk, inside the array's grid or not."""
    start = f"{place.path}/" if place.path else ""
    keys, ndim = metadata.chunk_key_encoding, metadata.ndim
    for key in place.store.list_prefix(place.path):
        coords = keys.decode(key.removeprefix(start), ndim)
        if coords is not None:
            yield key, coords
