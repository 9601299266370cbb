"""xarray's data in Zarr: the engine `zarr_core` for `xarray.open_dataset`, and `to_zarr`.

What the data means (dimensions, CF conventions, encodings, regions, appending) is xarray's own code for
Zarr: its store over zarr_core's groups. zarr-python need not be installed, and is not looked at.
"""

import os
from collections.abc import Hashable, Iterable, Iterator, Mapping
from types import FunctionType
from typing import Any, Final, Literal

import numpy as np
from xarray import Dataset, DataTree, Variable
from xarray.backends import BackendEntrypoint, StoreBackendEntrypoint, ZarrStore
from xarray.backends.api import delayed_close_after_writes
from xarray.backends.common import ArrayWriter, datatree_from_dict_with_io_cleanup
from xarray.backends.writers import _validate_dataset_names, dump_to_store
from xarray.backends.zarr import ZarrArrayWrapper, _choose_default_mode
from xarray.core.indexing import LazilyIndexedArray
from xarray.core.utils import close_on_error

from zarr_core.api import open_group
from zarr_core.array.array import Array
from zarr_core.array.many import read_many
from zarr_core.errors import NodeNotFoundError
from zarr_core.group import Group
from zarr_core.hierarchy.consolidated import consolidate
from zarr_core.metadata.documents import ZarrFormat
from zarr_core.storage import AccessMode, Store, StoreLike, StorePath, store_from
from zarr_core.threads.twins import async_twin

__all__ = ["ZarrCoreBackendEntrypoint", "to_zarr", "to_zarr_async"]

TOGETHER_BYTES = 64 << 20
"""Index variables are read together up to so many bytes; those beyond, when they are asked for."""
TIMES_BYTES = 1 << 20
"""Times of which xarray looks at the ends are read with them if they are not larger."""


# --- reading ---------------------------------------------------------------------------------------


class _Indexes:
    """Small variables that opening a dataset looks at: one `read_many` when the first is asked for."""

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}
        self.values: dict[str, np.ndarray[Any, Any]] = {}
        self.nbytes = 0

    def add(self, array: Array, limit: int) -> bool:
        """Let an array be read with the others, if it is small enough; return whether it is."""
        if array.nbytes > limit or self.nbytes + array.nbytes > TOGETHER_BYTES:
            return False
        self.nbytes += array.nbytes
        self.arrays[array.path] = array
        return True

    def of(self, array: Array) -> np.ndarray[Any, Any]:
        """Return the values of an array that was added."""
        if not self.values:
            read = read_many((array, ...) for array in self.arrays.values())
            self.values = dict(zip(self.arrays, read, strict=True))
        return self.values[array.path]


class _LazyArray(ZarrArrayWrapper):
    """The data of a variable until it is asked for."""

    __slots__ = ("_indexes",)

    def __init__(self, array: Array, indexes: _Indexes | None) -> None:
        super().__init__(array)
        self._indexes = indexes

    def _getitem(self, key: Any) -> Any:
        if self._indexes is None:
            return self._array[key]
        return np.array(self._indexes.of(self._array)[key])

    async def _async_getitem(self, key: Any) -> Any:
        return await self._array.getitem_async(key)

    async def _async_oindex(self, key: Any) -> Any:
        return await self._array.oindex.getitem_async(key)

    async def _async_vindex(self, key: Any) -> Any:
        return await self._array.vindex.getitem_async(key)


def _found_without_zarr(function: Any) -> Any:
    """Return a function of xarray's that does not ask whether zarr-python is installed."""
    names = {**function.__globals__, "attempt_import": lambda name: None}
    return FunctionType(function.__code__, names, function.__name__, function.__defaults__)


class _Store(ZarrStore):
    """xarray's store, over the arrays and groups of zarr_core."""

    __slots__ = ("_arrays", "_indexes")

    def __init__(
        self,
        zarr_group: Group,
        arrays: dict[str, Array] | None = None,
        indexes: _Indexes | None = None,
        **options: Any,
    ) -> None:
        # Format 2 has no other place for the value that is missing, and xarray uses that of arrays.
        given = {"use_zarr_fill_value_as_mask": zarr_group.metadata.zarr_format == 2, **options}
        super().__init__(zarr_group, **{**given, "cache_members": False})
        self._arrays = dict(zarr_group.arrays()) if arrays is None else arrays
        self._indexes = indexes

    @property
    def members(self) -> dict[str, Array]:
        return self._arrays

    def array_keys(self) -> tuple[str, ...]:
        return tuple(self._arrays)

    def arrays(self) -> tuple[tuple[str, Array], ...]:
        return tuple(self._arrays.items())

    def open_store_variable(self, name: str) -> Variable:
        found, array = super().open_store_variable(name), self._arrays[name]
        is_index = found.dims == (name,)
        indexes = self._indexes
        if indexes is not None and not (
            (is_index or " since " in str(found.attrs.get("units")))
            and indexes.add(array, TOGETHER_BYTES if is_index else TIMES_BYTES)
        ):
            indexes = None
        data = LazilyIndexedArray(_LazyArray(array, indexes))
        encoding = dict(found.encoding)
        if encoding.get("shards"):  # what is stored under one key, so that each is read once
            encoding["preferred_chunks"] = dict(zip(found.dims, encoding["shards"], strict=True))
        return Variable(found.dims, data, found.attrs, encoding)

    def _open_existing_array(self, *, name: str) -> Array:
        array: Array = self.zarr_group.get_array(name)
        if self._write_empty is None:
            return array
        return array.with_config({"write_empty_chunks": self._write_empty})

    store = _found_without_zarr(ZarrStore.store)


def _open(
    store: StorePath, group: str | None, mode: AccessMode, consolidated: bool | None, **options: Any
) -> Group:
    """Open a group, through the consolidated metadata of the root where there is some."""
    path = (group or "").strip("/")
    if path and consolidated is not False:
        try:
            root = open_group(store, mode=mode, use_consolidated=consolidated, **options)
        except NodeNotFoundError:
            if consolidated:
                raise
        else:
            return root.get_group(path)
    return open_group(store, mode=mode, path=path, use_consolidated=consolidated, **options)


class ZarrCoreBackendEntrypoint(BackendEntrypoint):
    """The engine `zarr_core` of `xarray.open_dataset`, `open_datatree` and `open_groups`.

    It opens whatever `zarr_core.open_group` does. Options besides xarray's own: `group` (a path
    below), `consolidated` (None: consolidated metadata is used where there is some), `zarr_format`,
    `storage_options`.
    """

    description = "Open Zarr groups (.zarr) using zarr_core"
    url = "https://pypi.org/project/zarr-core/"
    supports_groups = True
    open_dataset_parameters: Final = (
        *("mask_and_scale", "decode_times", "concat_characters", "decode_coords"),
        *("drop_variables", "use_cftime", "decode_timedelta"),
        *("group", "consolidated", "storage_options", "zarr_format"),
    )

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Return whether this is a path that ends in `.zarr`."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        return os.fspath(filename_or_obj).rstrip("/").endswith(".zarr")

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
        consolidated: bool | None = None,
        storage_options: dict[str, Any] | None = None,
        zarr_format: ZarrFormat | None = None,
        **decoding: Any,
    ) -> Dataset:
        """Return the arrays of one group as variables."""
        place = store_from(filename_or_obj, mode="r", storage_options=storage_options)
        found = _open(place, group, "r", consolidated, zarr_format=zarr_format)
        dropped = {drop_variables} if isinstance(drop_variables, str) else set(drop_variables or ())
        arrays = {name: array for name, array in found.arrays() if name not in dropped}
        is_ours = not isinstance(filename_or_obj, Store | StorePath)
        store = _Store(found, arrays, _Indexes(), close_store_on_close=is_ours)
        with close_on_error(store):
            return StoreBackendEntrypoint().open_dataset(store, **decoding)

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        group: str | None = None,
        consolidated: bool | None = None,
        storage_options: dict[str, Any] | None = None,
        zarr_format: ZarrFormat | None = None,
        **decoding: Any,
    ) -> dict[str, Dataset]:
        """Return a group and all below it: found by one walk, their indexes read together."""
        place = store_from(filename_or_obj, mode="r", storage_options=storage_options)
        root = _open(place, group, "r", consolidated, zarr_format=zarr_format)
        groups: dict[str, tuple[Group, dict[str, Array]]] = {"": (root, {})}
        for path, node in root.members(max_depth=None):
            if isinstance(node, Group):
                groups[path] = node, {}
            else:
                parent, _, name = path.rpartition("/")
                groups[parent][1][name] = node
        is_ours = not isinstance(filename_or_obj, Store | StorePath)
        indexes = _Indexes()
        datasets = {}
        for path, (node, arrays) in groups.items():
            store = _Store(node, arrays, indexes, close_store_on_close=is_ours)
            with close_on_error(store):
                opened = StoreBackendEntrypoint().open_dataset(store, **decoding)
            datasets[f"/{path}"] = opened
        return datasets

    def open_datatree(self, filename_or_obj: Any, **options: Any) -> DataTree:
        """Return a group and all below it as a tree; see `open_groups_as_dict`."""
        found = self.open_groups_as_dict(filename_or_obj, **options)
        return datatree_from_dict_with_io_cleanup(found)


# --- writing ---------------------------------------------------------------------------------------


def to_zarr(
    ds: Dataset | DataTree,
    store: StoreLike,
    mode: Literal["w", "w-", "a", "a-", "r+"] | None = None,
    *,
    group: str | None = None,
    encoding: Mapping[Any, Any] | None = None,
    compute: bool = True,
    consolidated: bool | None = None,
    append_dim: Hashable | None = None,
    region: Mapping[str, slice | Literal["auto"]] | Literal["auto"] | None = None,
    safe_chunks: bool = True,
    align_chunks: bool = False,
    storage_options: dict[str, Any] | None = None,
    zarr_format: ZarrFormat | None = None,
    write_empty_chunks: bool | None = None,
) -> Any:
    """Store a dataset, or a tree of them, in a group; what xarray's `to_zarr` does, by zarr_core.

    Parameters
    ----------
    ds
        Variables are encoded as their `encoding` and CF say.
    store
        See `zarr_core.open_group`.
    mode
        `"w"` replaces what is there, `"w-"` (the default) raises `ContainsGroupError` then, `"a"`
        replaces variables, `"a-"` only appends, `"r+"` changes values and nothing else. Without one
        `append_dim` means `"a"`, `region` means `"r+"`.
    encoding
        Of variables, by name (of those of a tree, by path of the group): `chunks`, `shards`,
        `compressors`, `filters`, `serializer`, `fill_value` and what CF has.
    compute
        False: return a `dask.delayed` object that writes the values; metadata is written at once.
    consolidated
        Store consolidated metadata with the root of `store`; None: unless `mode` is `"r+"`.
    append_dim
        Dimension along which variables are made longer.
    region
        Part of each dimension that is set; `"auto"` finds it by the coordinates.
    safe_chunks, align_chunks
        Refuse chunks of dask that would write to one stored chunk or shard at once; or change them.
    """
    mode = _choose_default_mode(mode=mode, append_dim=append_dim, region=region)
    place = store_from(store, storage_options=storage_options)
    root = _open(
        place,
        group,
        "a" if mode == "a-" else mode,
        consolidated if mode == "r+" else False,
        zarr_format=zarr_format,
    )
    if consolidated is None:
        consolidated = mode != "r+"
    target = _Store(
        root,
        mode=mode,
        append_dim=append_dim,
        write_region=region,
        safe_chunks=safe_chunks,
        align_chunks=align_chunks,
        write_empty=write_empty_chunks,
        close_store_on_close=not isinstance(store, Store | StorePath),
    )
    writer = ArrayWriter()
    try:
        for path, data in _datasets(ds):
            part = target.get_child_store(path) if path else target
            values = part._validate_and_autodetect_region(data)
            chosen = encoding or {} if isinstance(ds, Dataset) else (encoding or {}).get(f"/{path}")
            part._validate_encoding(chosen)
            dump_to_store(values, part, writer, encoding=chosen)
        if consolidated:
            consolidate(place, root.metadata.zarr_format, warns=False)
        written = writer.sync(compute=compute)
    finally:
        if compute:
            target.close()
    return None if compute else delayed_close_after_writes(written, target)


def _datasets(ds: Dataset | DataTree) -> Iterator[tuple[str, Dataset]]:
    """Yield the datasets of a tree by the paths of their groups."""
    if isinstance(ds, Dataset):
        _validate_dataset_names(ds)
        yield "", ds
        return
    for node in ds.subtree:
        data = node.to_dataset(inherit=node is ds)
        _validate_dataset_names(data)
        yield node.relative_to(ds).removeprefix("."), data


to_zarr_async: Final = async_twin(to_zarr)
