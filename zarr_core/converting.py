"""Nodes in the other format: `convert`, with their data or the documents alone; `remove_metadata`."""

from dataclasses import replace
from typing import Final

from zarr_core.array.array import Array
from zarr_core.array.create import check_codecs
from zarr_core.array.regions import Executor
from zarr_core.copying import UNFINISHED, Counts, Log, store_copy, sum_up, writer
from zarr_core.errors import (
    BaseZarrError,
    ContainsArrayError,
    ContainsGroupError,
    MetadataValidationError,
    NodeNotFoundError,
)
from zarr_core.hierarchy.consolidated import consolidate
from zarr_core.hierarchy.formats import in_format, in_format_anew
from zarr_core.hierarchy.members import MARKS, walk
from zarr_core.hierarchy.stored_nodes import (
    REPLACES,
    check_name,
    create_ancestors,
    delete_keys,
    is_below,
    read_node,
    write_node,
)
from zarr_core.metadata import ArrayMetadata, GroupMetadata, NodeMetadata
from zarr_core.metadata.documents import (
    V2_ARRAY,
    V2_ATTRIBUTES,
    V2_CONSOLIDATED,
    V2_GROUP,
    V3_DOCUMENT,
    ZarrFormat,
)
from zarr_core.storage import StoreLike, StorePath, store_from
from zarr_core.threads.twins import async_twin

__all__ = ["convert", "convert_async", "remove_metadata", "remove_metadata_async"]

_DOCUMENTS: dict[ZarrFormat, tuple[str, ...]] = {
    2: (V2_ARRAY, V2_GROUP, V2_ATTRIBUTES, V2_CONSOLIDATED),
    3: (V3_DOCUMENT,),
}


def convert(
    source: StoreLike,
    dest: StoreLike | None = None,
    *,
    zarr_format: ZarrFormat,
    data: bool | None = None,
    overwrite: bool = False,
    remove_old: bool = False,
    dry_run: bool = False,
    log: Log = None,
    max_bytes: int | None = None,
    executor: Executor | None = None,
) -> Counts:
    """Describe an array, or a group and all below it, in the other format.

    Without `dest`, documents of the new format are stored beside those of the old one, and both
    describe the same chunks. With `dest` data are copied, too: stored chunks as they are where both
    formats can express their codecs, otherwise encoded again with codecs that the new format has.
    Killed at any point and called again, it goes on where it was and ends with the same bytes.

    Names of dimensions are the attribute `_ARRAY_DIMENSIONS` in format 2, where xarray looks for
    them, and what is missing to xarray is so in both. Consolidated metadata are made anew where the
    source has some. Raises
    `MetadataValidationError`, before anything is stored, for an array that the new format cannot
    express: in format 2, without `data`, for instance shards.

    Returns how many nodes were converted, how many skipped, and the bytes of the arrays copied.

    Parameters
    ----------
    source
        An array or a group of the other format.
    dest
        A place for the result, which must not be in `source`.
    zarr_format
        The format of the result, 2 or 3.
    data
        False stores the documents alone in `dest`.
    overwrite
        Replace nodes of the new format that are there and differ. They raise `ContainsArrayError` or
        `ContainsGroupError` otherwise; those that are as they would be made are skipped.
    remove_old
        Remove the documents of the old format at the end; only without `dest`.
    dry_run
        Check and log everything, store nothing.
    log
        Gets a line for each step: a function, the path of a file, or a file.
    max_bytes, executor
        For the data; see `rechunk`.

    Examples
    --------
    >>> old = zarr.create_array({}, data=np.arange(3), zarr_format=2)
    >>> zarr.convert(old.store, zarr_format=3)
    (1, 0, 0)
    >>> zarr.open_array(old.store, zarr_format=3)[...]
    array([0, 1, 2])
    """
    if zarr_format not in (2, 3):
        raise ValueError(f"zarr_format must be 2 or 3, not {zarr_format!r}")
    start = store_from(source)
    end = start if dest is None else store_from(dest)
    with_data = dest is not None if data is None else data
    if dest is None and with_data:
        raise ValueError("data=True needs a dest: in place, chunks stay as they are")
    if dest is not None and (remove_old or is_below(end, start) or is_below(start, end)):
        raise ValueError(f"remove_old, or one of {start} and {end} in the other, with a dest")
    old: ZarrFormat = 2 if zarr_format == 3 else 3
    nodes, is_consolidated = _nodes(start, old)
    if not nodes and dest is None and read_node(start, zarr_format) is not None:
        # An earlier call has begun to remove the old documents.
        if remove_old and not dry_run:
            remove_metadata(start, old, log=log)
        return 0, 0, 0
    if not nodes:
        raise NodeNotFoundError(start.store, start.path, f"no node of format {old}")
    end.store._check_writable()
    made = {path: _converted(start / path, node, zarr_format, with_data) for path, node in nodes}
    if not with_data:  # the root last: it makes the others visible
        made = dict(reversed(made.items()))
    again = with_data and overwrite
    todo = [
        path
        for path, metadata in made.items()
        if not _is_there(end / path, metadata, again=again, overwrite=overwrite)
    ]
    if dest is not None and not dry_run:
        check_name(end.path)
        create_ancestors(end, zarr_format)
    nbytes, originals = 0, dict(nodes)
    with writer(log) as write:
        for path in todo:
            place, metadata = end / path, made[path]
            write(f"convert /{place.path} to format {zarr_format}")
            if dry_run:
                continue
            if with_data and isinstance(metadata, ArrayMetadata):
                array = Array(metadata, place)
                origin = Array(originals[path], start / path)  # type: ignore[arg-type]
                store_copy(
                    origin, array, overwrite=overwrite, max_bytes=max_bytes, executor=executor
                )
                nbytes += array.nbytes
            else:
                write_node(place, metadata)
        if is_consolidated and not dry_run and isinstance(made[""], GroupMetadata):
            consolidate(end, zarr_format)
        if remove_old:
            remove_metadata(start, old, dry_run=dry_run, force=dry_run, log=write)
        counts = len(todo), len(made) - len(todo), nbytes
        return sum_up(write, counts, dry_run=dry_run, word="converted")


def _nodes(
    place: StorePath, zarr_format: ZarrFormat
) -> tuple[list[tuple[str, NodeMetadata]], bool]:
    """Return the nodes of a format, parents before children; and whether they are consolidated."""
    root = read_node(place, zarr_format, consolidated=True)
    if root is None:
        return [], False
    if isinstance(root, ArrayMetadata):
        return [("", root)], False
    bare = replace(root, consolidated_metadata=None)
    return [("", bare), *walk(place, zarr_format, None)], root.consolidated_metadata is not None


def _converted(
    place: StorePath, metadata: NodeMetadata, zarr_format: ZarrFormat, data: bool
) -> NodeMetadata:
    """Return the metadata of a node in a format; errors name the node."""
    if isinstance(metadata, GroupMetadata):
        return GroupMetadata(metadata.attributes, zarr_format)
    try:
        made = (in_format_anew if data else in_format)(metadata, zarr_format)
        check_codecs(Array(made, place))
    except BaseZarrError as error:
        raise MetadataValidationError(f"array at {place}: {error}") from error
    return made


def _is_there(place: StorePath, metadata: NodeMetadata, *, again: bool, overwrite: bool) -> bool:
    """Return whether a node is stored as it would be made; raise if another one is in the way.

    An array that is to be copied `again`, and a copy that was not finished, are not there.
    """
    found: NodeMetadata | None = None
    is_damaged = False
    try:
        found = read_node(place, metadata.zarr_format)
    except MetadataValidationError:
        is_damaged = True
    if found == metadata:
        return not (again and isinstance(metadata, ArrayMetadata))
    unfinished = found is not None and UNFINISHED in found.attributes
    if (found is not None or is_damaged) and not (overwrite or unfinished):
        error = ContainsGroupError if isinstance(found, GroupMetadata) else ContainsArrayError
        raise error(place.store, place.path, REPLACES)
    return False


def remove_metadata(
    store: StoreLike,
    zarr_format: ZarrFormat,
    *,
    force: bool = False,
    dry_run: bool = False,
    log: Log = None,
) -> list[str]:
    """Remove the documents of one format from a place and all below it; return their keys.

    Chunks stay. A node that has documents of this format only raises `ValueError` before anything is
    removed, unless `force` says that they are to go all the same. `log` gets a line for each key;
    with `dry_run` nothing else happens.

    >>> old = zarr.create_array({}, data=np.arange(3), zarr_format=2)
    >>> counts = zarr.convert(old.store, zarr_format=3)
    >>> zarr.remove_metadata(old.store, 2)
    ['.zarray']
    """
    place = store_from(store)
    place.store._check_writable()
    known = set(place.store.list_prefix(place.path))
    found = sorted(key for key in known if key.rpartition("/")[2] in _DOCUMENTS[zarr_format])
    other: ZarrFormat = 2 if zarr_format == 3 else 3
    for key in found if not force else ():
        node = key.rpartition("/")[0]
        others = (StorePath(place.store, node).key(name) for name in MARKS[other])
        if known.isdisjoint(others):
            raise ValueError(f"{key!r} is the only description of its node; see force")
    with writer(log) as write:
        for key in found:
            write(f"remove {key}")
    if not dry_run:
        # A node without its attributes would be another one: they go last.
        attributes = {key for key in found if key.endswith(V2_ATTRIBUTES)}
        for part in (set(found) - attributes, attributes):
            delete_keys(place.store, sorted(part))
    return found


convert_async: Final = async_twin(convert)
remove_metadata_async: Final = async_twin(remove_metadata)
