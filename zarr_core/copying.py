"""Copies: `rechunk`; `copy`, `copy_all` and `copy_store` as zarr 2 had them.

An array that is being copied has the attribute `zarr_core_unfinished` until all of it is stored, so
that a copy that was interrupted is seen to be one, and continued.
"""

import pickle
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, Final, Literal, TypeAlias, final, get_args

import numpy as np

from zarr_core.array.array import Array
from zarr_core.array.create import array_like, as_values, open_array
from zarr_core.array.regions import (
    Executor,
    check_regions,
    chunks_between,
    partition,
    plan_steps,
    run_steps,
)
from zarr_core.errors import ContainsGroupError, CopyError, MetadataValidationError, warn
from zarr_core.group import Group
from zarr_core.hierarchy.create import ChunksLike, ShardsLike, create_node
from zarr_core.hierarchy.stored_nodes import (
    REPLACES,
    check_absent,
    check_name,
    check_not_erased,
    erase_node,
    in_order,
    is_below,
    key_of,
    read_node,
    update_node,
)
from zarr_core.metadata import ArrayMetadata
from zarr_core.storage import StoreLike, StorePath, normalize_path, store_from
from zarr_core.threads.calls import current_call
from zarr_core.threads.key_locks import key_lock
from zarr_core.threads.requests import each
from zarr_core.threads.twins import async_twin

__all__ = [
    "check_regions",
    "copy",
    "copy_all",
    "copy_all_async",
    "copy_async",
    "copy_store",
    "copy_store_async",
    "partition",
    "rechunk",
    "rechunk_async",
]

UNFINISHED = "zarr_core_unfinished"
"""The attribute of an array that is being copied; it says of what."""

IfExists: TypeAlias = Literal["raise", "replace", "skip", "skip_initialized", "resume"]
Log: TypeAlias = Callable[[str], Any] | str | PathLike[str] | Any | None
"""A function, the path of a file, or something with `write`, that gets a line for each step."""

Counts: TypeAlias = tuple[int, int, int]
"""How many nodes (or values) were copied, how many were skipped, and how many bytes were copied."""


@contextmanager
def writer(log: Log) -> Iterator[Callable[[str], Any]]:
    """Yield a function that writes a line to where a user wants it."""
    if log is None:
        yield lambda line: None
    elif callable(log):
        yield log
    elif isinstance(log, str | PathLike):
        with open(log, "w", encoding="utf-8") as file:
            yield lambda line: file.write(f"{line}\n")
    elif hasattr(log, "write"):
        yield lambda line: log.write(f"{line}\n")
    else:
        raise TypeError("log must be a function, the path of a file, or have a method 'write'")


def _check_if_exists(if_exists: str, allowed: tuple[str, ...]) -> None:
    if if_exists not in allowed:
        raise ValueError(f"if_exists must be one of {', '.join(allowed)}, not {if_exists!r}")


def sum_up(
    log: Callable[[str], Any], counts: Counts, *, dry_run: bool, word: str = "copied"
) -> Counts:
    """Log what was done, and return it."""
    done, skipped, nbytes = counts
    start = "dry run" if dry_run else "all done"
    end = "" if dry_run else f", {nbytes:,} bytes copied"
    log(f"{start}: {done:,} {word}, {skipped:,} skipped{end}")
    return counts


# --- arrays ----------------------------------------------------------------------------------------


def store_copy(
    source: Any,
    array: Array,
    *,
    overwrite: bool = False,
    resume: bool = True,
    max_bytes: int | None = None,
    executor: Executor | None = None,
    temp: StorePath | None = None,
) -> None:
    """Create an array and copy all of a source into it; with `resume`, continue a call like this one.

    Nothing is done where the finished array is, unless it is to be overwritten. Where that saves
    reading much more than once, there is a copy between at the place `temp`.
    """
    place, metadata = array._store_path, array.metadata
    if UNFINISHED in getattr(source, "attrs", ()):
        raise CopyError(f"{source!r} is a copy that was not finished")
    steps = plan_steps(source, array, max_bytes)
    between = None
    if temp is not None and (chunks := chunks_between(source, array, steps)) is not None:
        between = array_like(temp, source, chunks=chunks, shards=None, zarr_format=3, **_PLAIN)
    first = source if between is None else between
    begun = replace(metadata, attributes={**metadata.attributes, UNFINISHED: _identity(first)})
    found = None
    if resume:
        with suppress(MetadataValidationError):
            found = read_node(place, metadata.zarr_format)
    if found == metadata and not overwrite:
        _remove_between(between)
        return
    if between is not None:
        if found != begun and not overwrite:
            check_absent(place, REPLACES)
        if is_below(between, place) or is_below(place, between._store_path):
            raise ValueError(f"{place} and temp, {between._store_path}, are one in the other")
        how: dict[str, Any] = {"resume": resume, "max_bytes": max_bytes, "executor": executor}
        if overwrite and found != begun:
            _remove_between(between)
        store_copy(source, between, **how)
        store_copy(between, array, overwrite=overwrite, **how)
        _remove_between(between)
        return
    if executor is not None:
        _check_shared(place, executor)
    if found != begun:
        create_node(place, begun, overwrite=overwrite, source=source)
    run_steps(source, array, steps, resume=found == begun, executor=executor)
    update_node(place, begun, _without_mark)


_PLAIN = {"filters": "auto", "serializer": "auto", "compressors": "auto", "attributes": {}}


def _remove_between(array: Array | None) -> None:
    """Remove a copy between, if it is still there."""
    if array is not None and read_node(array._store_path, 3) == array.metadata:
        erase_node(array._store_path)


def _without_mark(metadata: ArrayMetadata) -> ArrayMetadata:
    left = {name: value for name, value in metadata.attributes.items() if name != UNFINISHED}
    return metadata.update_attributes(left)


def _identity(source: Any) -> str:
    """Return what tells a source from others, in other processes too."""
    if isinstance(source, Array):
        return repr(key_of(source._store_path))
    file = getattr(getattr(source, "file", None), "filename", None)  # of HDF5
    return f"{type(source).__module__}.{type(source).__name__} {getattr(source, 'name', '')} {file}"


def _check_shared(place: StorePath, executor: Executor) -> None:
    """Raise `ValueError` for a store whose copies in other processes are stores of their own."""
    from concurrent.futures import ThreadPoolExecutor

    store = place.store
    if isinstance(executor, ThreadPoolExecutor):
        return
    if pickle.loads(pickle.dumps(store)).lock_key("a") != store.lock_key("a"):  # noqa: S301 - our own
        raise ValueError(f"{store} cannot be written by other processes")


def rechunk(
    source: Any,
    dest: StoreLike,
    *,
    chunks: ChunksLike | Literal["keep"] = "keep",
    shards: ShardsLike | Literal["keep"] = "keep",
    max_bytes: int | None = None,
    resume: bool = True,
    executor: Executor | None = None,
    temp: StoreLike = None,
    overwrite: bool = False,
    name: str | None = None,
    storage_options: dict[str, Any] | None = None,
    **options: Any,
) -> Array:
    """Copy an array into another one with other chunks, shards, codecs or format, in bounded memory.

    Killed at any point and called again, it goes on where it was and ends with the same bytes.

    Until it is finished, the new array has the attribute `zarr_core_unfinished`. A source whose data
    change meanwhile is not noticed.

    Parameters
    ----------
    source
        An array, or where one is; what has a shape, a data type and slices, such as a dataset of
        h5py, too.
    dest, name, storage_options
        Where the new array is stored; see `create_array`.
    chunks, shards
        Lengths as for `create_array`; `"keep"` those of the source. With other chunks and no
        `shards` the new array has none.
    max_bytes
        How much memory to use for the data, 256 MB by default. The more it is, the fewer chunks of
        the source are decoded more than once. Raises `ValueError` if it is too little for one
        stored chunk (or shard). Each task of an `executor` may use as much.
    resume
        Continue an earlier call with the same source and options that did not end; return the array
        if it did. False raises `ContainsArrayError` instead.
    executor
        A `concurrent.futures.Executor`, also of dask (`client.get_executor()`), that copies regions
        at once, in other processes or on other machines if they reach both stores.
    temp
        A place for a copy between, as large as the source, that is made where chunks of the source
        would be read four times and more: they are read once then, and so are its own. It is
        removed at the end.
    overwrite
        Replace a node that is there, a finished copy too.
    options
        Other parameters of `from_array`: codecs, fill value, format, attributes, ...

    Examples
    --------
    >>> source = zarr.create_array({}, data=np.arange(12).reshape(3, 4), chunks=(1, 4))
    >>> zarr.rechunk(source, {}, chunks=(3, 2)).read_chunk((0, 1))
    array([[ 2,  3],
           [ 6,  7],
           [10, 11]])
    """
    if not hasattr(source, "shape") and not hasattr(source, "__array__"):
        source = open_array(source, mode="r")
    source = as_values(source)
    if shards == "keep" and not (isinstance(chunks, str) and chunks == "keep"):
        shards = None
    place = store_from(dest, path=name, storage_options=storage_options)
    array = array_like(place, source, chunks=chunks, shards=shards, **options)
    store_copy(
        source,
        array,
        overwrite=overwrite,
        resume=resume,
        max_bytes=max_bytes,
        executor=executor,
        temp=None if temp is None else store_from(temp),
    )
    return array


# --- nodes -----------------------------------------------------------------------------------------


@final
@dataclass
class _Copying:
    """One call of `copy` or `copy_all`."""

    dest: Group
    log: Callable[[str], Any]
    shallow: bool
    without_attrs: bool
    if_exists: IfExists
    dry_run: bool
    max_bytes: int | None
    executor: Executor | None
    create_kws: Mapping[str, Any]
    copied: int = 0
    skipped: int = 0
    nbytes: int = 0

    @property
    def counts(self) -> Counts:
        return self.copied, self.skipped, self.nbytes

    def node(self, source: Any, path: str, *, deep: bool) -> None:
        """Copy an array, or a group and (`deep`) its members, to a path below `dest`."""
        is_array = hasattr(source, "shape")
        label = f"{source.name} {source.shape} {source.dtype}" if is_array else source.name
        existing = self.dest.get(path)
        if not self._may_copy(path, existing, is_array=is_array):
            self.log(f"skip {label}")
            self.skipped += 1
            return
        self.log(f"copy {label}")
        self.copied += 1
        if is_array:
            if self.dry_run:
                check_not_erased(self.dest._store_path / path, [source])
            else:
                self._array(source, path, existing)
            return
        if not self.dry_run:
            self._group(source, path, existing)
        if deep:
            self.members(source, path)

    def members(self, source: Any, path: str) -> None:
        """Copy what is in a group into the group at a path."""
        for name in source.keys():  # noqa: SIM118 - not every group is a mapping
            member = source[name]
            if not _can_be_copied(member):
                self.log(f"skip {member.name}")
                self.skipped += 1
                if not self.dry_run:
                    warn("not copied", member.name)
                continue
            self.node(member, f"{path}/{name}" if path else name, deep=not self.shallow)

    def _may_copy(self, path: str, existing: Array | Group | None, *, is_array: bool) -> bool:
        """Return whether nothing is in the way, or may be replaced; groups are merged."""
        if existing is None or (not is_array and isinstance(existing, Group)):
            return True
        match self.if_exists:
            case "raise":
                where = self.dest._store_path / path
                raise CopyError(f"an object exists in the destination: {where}")
            case "skip":
                return False
            case "resume":
                return isinstance(existing, Array) and UNFINISHED in existing.attrs
            case "skip_initialized":
                return isinstance(existing, Group) or (
                    existing.nchunks_initialized < existing.nchunks
                )
        return True

    def _array(self, source: Any, path: str, existing: Array | Group | None) -> None:
        options: dict[str, Any] = {"zarr_format": self.dest.metadata.zarr_format, **self.create_kws}
        options.setdefault("attributes", {} if self.without_attrs else _attributes(source))
        if not isinstance(source, Array):
            options.setdefault("chunks", getattr(source, "chunks", None) or "auto")
            options.setdefault("fill_value", getattr(source, "fillvalue", None))
            if (source.dtype.metadata or {}).get("vlen") in (str, bytes):  # text of HDF5
                options["fill_value"] = ""
                source = np.array(source.asstr()[...], np.dtypes.StringDType())
        place = self.dest._place(path)
        made = array_like(place, source, **options)
        store_copy(
            source,
            made,
            # What consolidated metadata do not know is in the way, too.
            overwrite=existing is not None or self.if_exists == "replace",
            resume=self.if_exists == "resume",
            max_bytes=self.max_bytes,
            executor=self.executor,
        )
        self.dest._created(place, made.metadata, replaced=True)
        self.nbytes += made.nbytes

    def _group(self, source: Any, path: str, existing: Array | Group | None) -> None:
        attributes = {} if self.without_attrs else _attributes(source)
        if not isinstance(existing, Group):
            try:
                overwrite = existing is not None
                self.dest.create_group(path, overwrite=overwrite, attributes=attributes)
                return
            except ContainsGroupError:  # somebody else was faster
                existing = self.dest.require_group(path)
        if attributes:
            existing.attrs.update(attributes)


def _can_be_copied(node: Any) -> bool:
    """Return whether Zarr has something for a member of a group of HDF5.

    It has nothing for named types, datasets without a shape, references, and lists of any length.
    """
    if not hasattr(node, "shape"):
        return hasattr(node, "keys")
    kinds = node.dtype.metadata or {}
    is_text = kinds.get("vlen", str) in (str, bytes)
    return node.shape is not None and is_text and "ref" not in kinds


def _attributes(source: Any) -> dict[str, Any]:
    """Return attributes as JSON; those of HDF5 are NumPy arrays."""
    values = {name: _plain(value) for name, value in dict(source.attrs).items()}
    left_out = sorted(name for name, value in values.items() if not _is_json(value))
    if left_out:
        warn("references", source.name, ", ".join(left_out))
    return {name: value for name, value in values.items() if name not in left_out}


def _plain(value: Any) -> Any:
    """Return a value of HDF5 as it is in JSON: lists for arrays, text for bytes."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def _is_json(value: Any) -> bool:
    """Return whether there is no reference to another object in a value."""
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    return not type(value).__module__.startswith("h5py")


def _check_apart(source: Any, place: StorePath) -> None:
    """Raise `ValueError` if a copy would become part of what is copied."""
    if isinstance(source, Group) and is_below(place, source._store_path):
        raise ValueError(f"{source!r} cannot be copied into itself")


def _copy_nodes(
    source: Any, dest: Group, name: str | None, *, log: Log, dry_run: bool, **how: Any
) -> Counts:
    """Copy a node to a name, or without a name what is in a group."""
    if not isinstance(dest, Group):
        raise ValueError(f"dest must be a group, not {dest!r}")  # noqa: TRY004 - as zarr 2
    _check_apart(source, dest._store_path / (name or ""))
    if_exists = how["if_exists"]
    _check_if_exists(if_exists, get_args(IfExists))

    def run(write: Callable[[str], Any], *, dry: bool) -> _Copying:
        work = _Copying(dest, write, dry_run=dry, **how)
        if name is None:
            work.members(source, "")
        else:
            work.node(source, name, deep=True)
        return work

    if not dry_run and (if_exists == "raise" or is_below(source, dest._store_path)):
        run(lambda line: None, dry=True)  # raises before anything is copied or removed
    with writer(log) as write:
        return sum_up(write, run(write, dry=dry_run).counts, dry_run=dry_run)


def copy(
    source: Any,
    dest: Group,
    name: str | None = None,
    shallow: bool = False,
    without_attrs: bool = False,
    log: Log = None,
    if_exists: IfExists = "raise",
    dry_run: bool = False,
    max_bytes: int | None = None,
    executor: Executor | None = None,
    **create_kws: Any,
) -> Counts:
    """Copy an array or group into another group, chunk by chunk.

    Returns how many nodes were copied, how many skipped, and the bytes of the arrays copied.

    Parameters
    ----------
    source
        An array or a group; also one of h5py.
    dest
        The group that gets the copy.
    name
        Name of the copy; that of `source` by default.
    shallow
        Copy a group and its members, but nothing below them.
    without_attrs
        Copy no attributes.
    log
        Gets a line for every node: a function, the path of a file, or a file.
    if_exists
        What to do about an array that is in the way: `"raise"` a `CopyError` before anything is
        copied, `"replace"` it, `"skip"` it, `"skip_initialized"`, which replaces arrays with
        missing chunks, or `"resume"`, which continues a copy that was interrupted: arrays that are
        finished are skipped. Groups are merged.
    dry_run
        Only log.
    max_bytes, executor
        See `rechunk`.
    create_kws
        Parameters of `from_array` for arrays, in place of those of the source.

    Examples
    --------
    >>> source = zarr.group({})
    >>> source["x"] = np.arange(4)
    >>> dest = zarr.group({}, zarr_format=2)
    >>> zarr.copy(source["x"], dest, name="y", chunks=2)
    (1, 0, 32)
    """
    given: dict[str, Any] = dict(locals())
    name = name or (getattr(source, "name", None) or "").rpartition("/")[2]
    if not name:
        raise TypeError("source has no name; say with `name` what the copy is called")
    given["name"] = normalize_path(name)
    return _copy_nodes(**given)


def copy_all(
    source: Any,
    dest: Group,
    shallow: bool = False,
    without_attrs: bool = False,
    log: Log = None,
    if_exists: IfExists = "raise",
    dry_run: bool = False,
    max_bytes: int | None = None,
    executor: Executor | None = None,
    **create_kws: Any,
) -> Counts:
    """Copy all members of a group into another group; see `copy`.

    >>> source, dest = zarr.group({}), zarr.group({})
    >>> source["a/x"] = np.arange(4)
    >>> zarr.copy_all(source, dest)
    (2, 0, 32)
    >>> dest["a/x"][:]
    array([0, 1, 2, 3])
    """
    return _copy_nodes(name=None, **locals())


# --- stored values ---------------------------------------------------------------------------------


def copy_store(
    source: StoreLike,
    dest: StoreLike,
    source_path: str = "",
    dest_path: str = "",
    excludes: str | Iterable[str] | None = None,
    includes: str | Iterable[str] | None = None,
    flags: int = 0,
    if_exists: IfExists = "raise",
    dry_run: bool = False,
    log: Log = None,
) -> Counts:
    """Copy stored values as they are, encoded, from one store to another.

    Returns how many values were copied, how many skipped, and the bytes copied.

    Parameters
    ----------
    source, dest
        Two stores, or what can be opened as one.
    source_path, dest_path
        Where in the stores.
    excludes, includes
        Regular expressions: keys in which one of `excludes` is found are left out, unless one of
        `includes` is found too.
    flags
        For these regular expressions; see `re`.
    if_exists
        What to do about keys that exist: `"raise"` a `CopyError` before anything is copied,
        `"replace"` or `"skip"`.
    dry_run
        Only log.
    log
        Gets a line for every key: a function, the path of a file, or a file.

    Examples
    --------
    >>> source, dest = {}, {}
    >>> zarr.save(source, np.arange(4))
    >>> copied, skipped, nbytes = zarr.copy_store(source, dest)
    >>> sorted(dest)
    ['c/0', 'zarr.json']
    """
    _check_if_exists(if_exists, ("raise", "replace", "skip"))
    start, end = store_from(source, path=source_path), store_from(dest, path=dest_path)
    end.store._check_writable()
    check_name(normalize_path(dest_path))
    chosen = _key_filter(excludes, includes, flags)
    cut = f"{start.path}/" if start.path else ""
    keys = [key.removeprefix(cut) for key in sorted(start.store.list_prefix(start.path))]
    pairs = [(start.key(key), end.key(key)) for key in keys if chosen(start.key(key))]
    existing = set() if if_exists == "replace" else set(end.store.list_prefix(end.path))
    skipped = {new for _, new in pairs if new in existing}
    if skipped and if_exists == "raise":
        raise CopyError(f"key {min(skipped)!r} exists in the destination")
    with writer(log) as write:
        for old, new in pairs:
            word = "skip" if new in skipped else "copy"
            write(f"{word} {old}" if old == new else f"{word} {old} -> {new}")
        todo = [pair for pair in pairs if pair[1] not in skipped]
        nbytes = 0 if dry_run else _copy_values(start, end, todo)
        return sum_up(write, (len(todo), len(skipped), nbytes), dry_run=dry_run)


def _key_filter(
    excludes: str | Iterable[str] | None, includes: str | Iterable[str] | None, flags: int
) -> Callable[[str], bool]:
    def compiled(patterns: str | Iterable[str] | None) -> list[re.Pattern[str]]:
        listed = [patterns] if isinstance(patterns, str) else patterns or []
        return [re.compile(pattern, flags) for pattern in listed]

    out, back_in = compiled(excludes), compiled(includes)
    return lambda key: not any(p.search(key) for p in out) or any(p.search(key) for p in back_in)


def _copy_values(start: StorePath, end: StorePath, pairs: list[tuple[str, str]]) -> int:
    source, dest, call = start.store, end.store, current_call()
    if call is not None:
        call.expect(len(pairs))

    def copy_one(pair: tuple[str, str]) -> int:
        old, new = pair
        if call is not None:
            call.enter()
        value = source.get(old)
        if value is None:  # it was deleted since it was listed
            return 0
        with key_lock(dest.lock_key(new)):
            dest.set(new, value)
        if call is not None:
            call.note("write", new, len(value))
        return len(value)

    slow, old_of = source.high_latency or dest.high_latency, {new: old for old, new in pairs}
    return sum(
        sum(each(copy_one, [(old_of[new], new) for new in keys], slow=slow))
        for keys in in_order(end, old_of)
    )


rechunk_async: Final = async_twin(rechunk)
copy_async: Final = async_twin(copy)
copy_all_async: Final = async_twin(copy_all)
copy_store_async: Final = async_twin(copy_store)
