"""`open`, `save`, `zeros` and the other functions at the top level: dispatch and defaults, no logic."""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

import numpy.typing as npt

from zarr_core.array.array import Array
from zarr_core.array.asynchronous import AsyncArray
from zarr_core.array.create import (
    array,
    array_metadata,
    as_values,
    check_codecs,
    create,
    default_format,
    place_and_mode,
    without,
)
from zarr_core.array.regions import copy_data
from zarr_core.config import ArrayConfigLike, array_config
from zarr_core.errors import (
    ContainsGroupError,
    GroupNotFoundError,
    NodeNotFoundError,
    warn,
    warn_ignored,
)
from zarr_core.group import Group
from zarr_core.hierarchy.consolidated import consolidate
from zarr_core.hierarchy.info import Report
from zarr_core.hierarchy.members import create_nodes
from zarr_core.hierarchy.stored_nodes import read_node, there_instead
from zarr_core.metadata import ArrayMetadata, GroupMetadata, NodeMetadata
from zarr_core.metadata.documents import JSON, ZarrFormat
from zarr_core.storage import AccessMode, StoreLike, StorePath, store_from
from zarr_core.storage.base import Store
from zarr_core.threads.twins import async_twin

__all__ = [
    "consolidate_metadata",
    "consolidate_metadata_async",
    "create_group",
    "create_group_async",
    "create_hierarchy",
    "create_hierarchy_async",
    "group",
    "group_async",
    "load",
    "load_async",
    "open",
    "open_async",
    "open_consolidated",
    "open_consolidated_async",
    "open_group",
    "open_group_async",
    "print_debug_info",
    "save",
    "save_array",
    "save_array_async",
    "save_async",
    "save_group",
    "save_group_async",
    "set_format",
    "set_log_level",
    "tree",
    "tree_async",
    "verify",
    "verify_async",
]

Node: TypeAlias = Array | Group


# --- arrays and groups -----------------------------------------------------------------------------


def open(
    store: StoreLike = None,
    *,
    mode: AccessMode | None = None,
    zarr_format: ZarrFormat | None = None,
    path: str | None = None,
    storage_options: dict[str, Any] | None = None,
    config: ArrayConfigLike | None = None,
    allow_pickle: bool = False,
    **kwargs: Any,
) -> Node:
    """Open the array or group at a place, or create one, as `mode` allows.

    With a `shape` an array is created, otherwise a group. See `open_array` and `open_group`;
    `allow_pickle` is for the array at this place, not for those in a group.

    >>> zarr.open("a.zarr", mode="w", shape=4, dtype="i4")[:]
    array([0, 0, 0, 0], dtype=int32)
    >>> zarr.open("g.zarr", mode="w").create_array("x", data=[1, 2]).name
    '/x'
    >>> zarr.open("g.zarr", path="x", mode="r")[:]
    array([1, 2])
    """
    if allow_pickle:
        config = array_config(config)._allowing_pickle()
    place, mode = place_and_mode(store, path, mode, storage_options)
    metadata = None
    use_consolidated = kwargs.get("use_consolidated")
    if mode not in ("w", "w-"):
        consolidated = True if use_consolidated is None else use_consolidated
        metadata = read_node(place, zarr_format, consolidated=consolidated)
    if isinstance(metadata, ArrayMetadata):
        return Array(metadata, place, config)
    if isinstance(metadata, GroupMetadata):
        _check_no_options(config, place)
        if "shape" in kwargs:
            raise ContainsGroupError(place.store, place.path, "not an array")
        return Group.from_metadata(metadata, place, use_consolidated=use_consolidated)
    if mode in ("r", "r+"):
        raise GroupNotFoundError(place.store, place.path, "and no array", *there_instead(place))
    if "shape" in kwargs:
        overwrite = mode == "w"
        return create(
            store=place, zarr_format=zarr_format, config=config, overwrite=overwrite, **kwargs
        )
    _check_no_options(config, place)
    return open_group(place, mode=mode, zarr_format=zarr_format, **kwargs)


def _check_no_options(config: ArrayConfigLike | None, place: StorePath) -> None:
    if config is not None:
        raise TypeError(f"config is for arrays, but {place} resolves to a group")


def open_group(
    store: StoreLike = None,
    *,
    mode: AccessMode | None = None,
    cache_attrs: bool | None = None,
    synchronizer: Any = None,
    path: str | None = None,
    chunk_store: Any = None,
    storage_options: dict[str, Any] | None = None,
    zarr_format: ZarrFormat | None = None,
    meta_array: Any = None,
    attributes: Mapping[str, JSON] | None = None,
    use_consolidated: bool | str | None = None,
) -> Group:
    """Open a group, or create it, as `mode` allows (see `open_array`).

    Consolidated metadata is used when there is some; `use_consolidated=True` raises `ValueError`
    without, `False` reads the children's own documents.

    >>> group = zarr.open_group("g.zarr", mode="w", attributes={"by": "me"})
    >>> zarr.open_group("g.zarr", mode="r").attrs["by"]
    'me'
    """
    warn_ignored(
        synchronizer=synchronizer,
        chunk_store=chunk_store,
        cache_attrs=cache_attrs,
        meta_array=meta_array,
    )
    place, mode = place_and_mode(store, path, mode, storage_options)
    if mode not in ("w", "w-"):
        try:
            return Group.open_at(place, zarr_format, use_consolidated)
        except NodeNotFoundError:
            if mode != "a":
                raise
    try:
        return create_group(
            place, zarr_format=zarr_format, overwrite=mode == "w", attributes=attributes
        )
    except ContainsGroupError as error:
        if mode != "a":
            raise
        try:  # somebody else was faster
            return Group.open_at(place, zarr_format, use_consolidated)
        except NodeNotFoundError:
            raise error from None


def create_group(
    store: StoreLike,
    *,
    path: str | None = None,
    zarr_format: ZarrFormat | None = None,
    overwrite: bool = False,
    attributes: Mapping[str, Any] | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Group:
    """Create a group and the groups above it; raise `ContainsGroupError` if there is one.

    >>> zarr.create_group({}, path="a/b").path
    'a/b'
    """
    place = store_from(store, path=path, storage_options=storage_options)
    return Group.create_at(place, zarr_format or default_format(), attributes, overwrite=overwrite)


def group(
    store: StoreLike = None,
    *,
    overwrite: bool = False,
    chunk_store: Any = None,
    cache_attrs: bool | None = None,
    synchronizer: Any = None,
    path: str | None = None,
    zarr_format: ZarrFormat | None = None,
    meta_array: Any = None,
    attributes: Mapping[str, JSON] | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Group:
    """Open a group, or create it when there is none; with `overwrite` always create it.

    >>> store = {}
    >>> zarr.group(store).create_group("a").name
    '/a'
    >>> list(zarr.group(store))
    ['a']
    """
    return open_group(mode="w" if overwrite else "a", **without(locals(), "overwrite"))


def open_consolidated(
    store: StoreLike = None, *, use_consolidated: Literal[True] = True, **kwargs: Any
) -> Group:
    """Open a group whose metadata is consolidated; raise `ValueError` if it is not.

    It must exist; other parameters are those of `open_group`.

    >>> import warnings
    >>> store = {}
    >>> zarr.save(store, a=np.arange(3), b=np.arange(4))
    >>> with warnings.catch_warnings(action="ignore"):
    ...     group = zarr.consolidate_metadata(store)
    >>> sorted(zarr.open_consolidated(store))
    ['a', 'b']
    """
    if use_consolidated is not True:
        raise TypeError("use_consolidated must be True in open_consolidated; see open_group")
    if kwargs.get("mode") in (None, "a"):
        # Nothing that is created now could be consolidated.
        read_only = getattr(store, "read_only", False)
        kwargs["mode"] = "r" if read_only else "r+"
    return open_group(store, use_consolidated=True, **kwargs)


# --- saving and loading ----------------------------------------------------------------------------


def save_array(
    store: StoreLike,
    arr: npt.ArrayLike,
    *,
    zarr_format: ZarrFormat | None = None,
    path: str | None = None,
    storage_options: dict[str, Any] | None = None,
    **kwargs: Any,
) -> None:
    """Store an array; other parameters are those of `create`.

    An existing node raises `ContainsArrayError` or `ContainsGroupError`, as in zarr-python 3.4.2,
    unless `overwrite=True` or `mode="w"` says that it is to be replaced.

    >>> zarr.save_array("saved.zarr", np.arange(4), chunks=2)
    >>> zarr.load("saved.zarr")
    array([0, 1, 2, 3])
    """
    values = _to_save("arr", arr)
    place, _ = place_and_mode(store, path, kwargs.get("mode") or "a", storage_options)
    array(values, store=place, zarr_format=zarr_format, **kwargs)
    if not isinstance(store, Store | StorePath):
        place.store.close()


def save_group(
    store: StoreLike,
    *args: npt.ArrayLike,
    zarr_format: ZarrFormat | None = None,
    path: str | None = None,
    storage_options: dict[str, Any] | None = None,
    **kwargs: npt.ArrayLike,
) -> None:
    """Store arrays in a group: positional ones as `arr_0`, `arr_1`, ..., others by name.

    A node that is there is replaced, as `numpy.savez` replaces a file, once all arrays have been
    checked. What is not an array (a text, a number, a setting that is not a parameter) raises
    `TypeError`.

    >>> zarr.save_group("group.zarr", np.arange(2), heights=np.ones(3))
    >>> zarr.load("group.zarr")
    {'arr_0': array([0, 1]), 'heights': array([1., 1., 1.])}
    """
    if not args and not kwargs:
        raise ValueError("at least one array must be provided")
    zarr_format = zarr_format or default_format()
    named = {f"arr_{number}": value for number, value in enumerate(args)}
    if twice := sorted(named.keys() & kwargs.keys()):
        raise TypeError(f"{twice[0]!r} is given twice, by its position and by its name")
    named = {name: _to_save(name, value) for name, value in (named | kwargs).items()}
    place, _ = place_and_mode(store, path, "w", storage_options)
    nodes: dict[str, NodeMetadata] = {"": GroupMetadata(zarr_format=zarr_format)}
    for name, value in named.items():
        made = array_metadata(value, zarr_format)
        check_codecs(Array(made, place / name))
        nodes[name] = made
    create_nodes(place, nodes, overwrite=True, sources=named.values())
    for name, value in named.items():
        metadata = nodes[name]
        assert isinstance(metadata, ArrayMetadata)
        copy_data(value, Array(metadata, place / name))
    if not isinstance(store, Store | StorePath):
        place.store.close()


def _to_save(name: str, value: Any) -> Any:
    """Return an argument as something with a shape and a data type, or raise `TypeError`."""
    if not (hasattr(value, "shape") or hasattr(value, "__array__")) and not isinstance(
        value, list | tuple | AsyncArray
    ):
        raise TypeError(
            f"Keyword argument {name!r} must be a numpy or other NDArrayLike array: it is a "
            f"{type(value).__name__}"
        )
    return as_values(value)


def save(
    store: StoreLike,
    *args: npt.ArrayLike,
    zarr_format: ZarrFormat | None = None,
    path: str | None = None,
    storage_options: dict[str, Any] | None = None,
    **kwargs: Any,
) -> None:
    """Store one array as an array, several as a group; see `save_array` and `save_group`.

    One array does not replace what is there; `save_array(..., overwrite=True)` does.

    >>> zarr.save("one.zarr", np.arange(4))
    >>> zarr.save("two.zarr", x=np.arange(2), y=np.ones(2))
    >>> sorted(zarr.open("two.zarr"))
    ['x', 'y']
    """
    if not args and not kwargs:
        raise ValueError("at least one array must be provided")
    where = without(locals(), "store", "args", "kwargs")
    if len(args) == 1 and not kwargs:
        save_array(store, args[0], **where)
    else:
        save_group(store, *args, **where, **kwargs)


def load(store: StoreLike, path: str | None = None, zarr_format: ZarrFormat | None = None) -> Any:
    """Return an array as a NumPy array, or the arrays of a group as a dictionary of them.

    >>> zarr.save("loaded.zarr", x=np.arange(3))
    >>> zarr.load("loaded.zarr")
    {'x': array([0, 1, 2])}
    >>> zarr.load("loaded.zarr", path="x")
    array([0, 1, 2])
    """
    if (
        isinstance(store, str | os.PathLike)
        and "://" not in str(store)
        and not os.path.exists(store)
    ):
        raise FileNotFoundError(f"there is nothing at {store}")
    node = open(store, mode="r", path=path, zarr_format=zarr_format)
    if isinstance(node, Array):
        return node[...]
    return {name: child[...] for name, child in node.arrays()}


def tree(grp: Group, expand: bool | None = None, level: int | None = None) -> Any:
    """Return a drawing of what is below a group; see `Group.tree`.

    >>> zarr.tree(zarr.group({}))  # doctest: +SKIP
    /
    """
    warn("tree")
    return grp.tree(expand=expand, level=level)


def consolidate_metadata(
    store: StoreLike, path: str | None = None, zarr_format: ZarrFormat | None = None
) -> Group:
    """Store copies of all documents below a group with the group; return a group that uses them.

    Opening it then takes one request however many nodes there are.

    >>> import warnings
    >>> zarr.save("many.zarr", a=np.arange(3), b=np.arange(4))
    >>> with warnings.catch_warnings(action="ignore"):  # format 3 does not specify it yet
    ...     group = zarr.consolidate_metadata("many.zarr")
    >>> group["b"].shape  # no request
    (4,)
    """
    place = store_from(store, path=path)
    return Group.from_metadata(consolidate(place, zarr_format), place)


def create_hierarchy(
    *, store: StoreLike, nodes: Mapping[str, NodeMetadata], overwrite: bool = False
) -> Iterator[tuple[str, Node]]:
    """Create several nodes at once from their metadata; yield pairs of path and node.

    Groups in between are created as needed. Everything is created before the first pair.

    >>> like = zarr.zeros(4).metadata
    >>> made = dict(zarr.create_hierarchy(store={}, nodes={f"run/{n}": like for n in range(3)}))
    >>> sorted(made)
    ['', 'run', 'run/0', 'run/1', 'run/2']
    """
    place = store_from(store)
    made = create_nodes(place, nodes, overwrite=overwrite)
    pairs: list[tuple[str, Node]] = []
    for name, metadata in made.items():
        there = place / name if name else place
        if isinstance(metadata, ArrayMetadata):
            pairs.append((name, Array(metadata, there)))
        else:
            pairs.append((name, Group(metadata, there)))
    return iter(pairs)


# --- what is stored --------------------------------------------------------------------------------


def verify(
    store: StoreLike | Array | Group,
    *,
    data: bool = True,
    path: str | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Report:
    """Look for what is wrong with a node and all below it, without changing anything.

    Every document is parsed, every key is looked at, and with `data` every stored chunk is read and
    decoded. Chunks that are not stored are no problem. Nothing that is found raises; only
    `NodeNotFoundError` is raised, where there is nothing at all. `on_chunk`, `progress` and
    `timeout` see the chunks.

    Parameters
    ----------
    store
        An array, a group, or where one is.
    data
        Decode the chunks. Otherwise only documents and keys are looked at.
    path, storage_options
        See `open`.

    Examples
    --------
    >>> array = zarr.create_array("checked.zarr", data=np.arange(4), chunks=(2,))
    >>> array.store.set("c/1", b"something else")
    >>> report = zarr.verify("checked.zarr")
    >>> [(problem.kind, problem.key) for problem in report.errors]
    [('chunk', 'c/1')]
    """
    place = (
        store._store_path / (path or "")
        if isinstance(store, Array | Group)
        else store_from(store, path=path, storage_options=storage_options, read_only=True)
    )
    from zarr_core.verifying import verify_place

    return verify_place(place, data=data)


# --- about the library -----------------------------------------------------------------------------

_logger = logging.getLogger("zarr_core")
_handler: logging.StreamHandler[Any] | None = None


def _log_handler() -> logging.Handler:
    """Return the handler that these functions configure; made when it is first needed."""
    global _handler  # noqa: PLW0603 - one per process, as the logger
    if _handler is None:
        _handler = logging.StreamHandler()
        _handler.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
        _logger.addHandler(_handler)
    return _handler


def set_log_level(
    level: Literal["NOTSET", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
) -> None:
    """Show messages of the logger `zarr_core` from a level on.

    DEBUG shows metadata that is stored and nodes that are removed, INFO requests that are made
    again. `on_chunk` hears of chunks, `LoggingStore` of every call of a store.

    >>> zarr.set_log_level("WARNING")
    """
    _logger.setLevel(level)
    _log_handler().setLevel(level)


def set_format(log_format: str) -> None:
    """Set how messages of the logger `zarr_core` look; see `logging.Formatter`.

    >>> zarr.set_format("%(levelname)s %(message)s")
    """
    _log_handler().setFormatter(logging.Formatter(fmt=log_format))


def print_debug_info() -> None:
    """Print the versions of this library and of those it uses, for bug reports.

    >>> zarr.print_debug_info()
    platform: ...
    """
    import platform
    from importlib.metadata import PackageNotFoundError, version

    own = getattr(sys.modules[__name__.partition(".")[0]], "__version__", "unknown")
    lines = [
        f"platform: {platform.platform()}",
        f"python: {platform.python_version()}",
        f"zarr_core: {own}",
    ]
    for package in _PACKAGES:
        try:
            lines.append(f"{package}: {version(package)}")
        except PackageNotFoundError:
            lines.append(f"{package}: not installed")
    print("\n".join(lines))  # noqa: T201 - what it is for


_PACKAGES = (
    "numpy",
    "numcodecs",
    "zstandard",
    "crc32c",
    "anyio",
    "fsspec",
    "s3fs",
    "gcsfs",
    "obstore",
    "universal-pathlib",
    "cast-value-rs",
    "zfpy",
    "zarr",
)


open_async: Final = async_twin(open)
open_group_async: Final = async_twin(open_group)
create_group_async: Final = async_twin(create_group)
group_async: Final = async_twin(group)
open_consolidated_async: Final = async_twin(open_consolidated)
save_async: Final = async_twin(save)
save_array_async: Final = async_twin(save_array, snapshot="arr")
save_group_async: Final = async_twin(save_group)
load_async: Final = async_twin(load)
tree_async: Final = async_twin(tree)
consolidate_metadata_async: Final = async_twin(consolidate_metadata)
create_hierarchy_async: Final = async_twin(create_hierarchy)
verify_async: Final = async_twin(verify)
