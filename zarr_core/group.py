"""`Group`: a node that contains arrays and groups."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final, TypeVar

import numpy as np

from zarr_core.array import create
from zarr_core.array.array import Array
from zarr_core.array.asynchronous import AsyncGroup, show_awaited
from zarr_core.array.create import make_array, without
from zarr_core.array.state import this_process
from zarr_core.config import ArrayConfigLike
from zarr_core.errors import (
    ArrayNotFoundError,
    ContainsArrayError,
    ContainsGroupError,
    GroupNotFoundError,
    NodeNotFoundError,
    NotAGroupError,
    NotAnArrayError,
    missing_method,
    warn_ignored,
)
from zarr_core.hierarchy import create as creation
from zarr_core.hierarchy.consolidated import Consolidation, WriteThrough, consolidate
from zarr_core.hierarchy.info import GroupInfo, Tree
from zarr_core.hierarchy.members import (
    child_names,
    create_nodes,
    missing_member,
    move_node,
    walk,
    walk_documents,
)
from zarr_core.hierarchy.node import Node
from zarr_core.hierarchy.stored_nodes import (
    erase_node,
    find_documents,
    read_group,
    read_node,
    update_node,
)
from zarr_core.metadata import ArrayMetadata, GroupMetadata, NodeMetadata
from zarr_core.metadata.data_types import DataTypeLike, parse_dtype
from zarr_core.metadata.documents import JSON, V2_CONSOLIDATED, ZarrFormat, check_attributes
from zarr_core.storage import Store, StoreLike, StorePath, store_from
from zarr_core.storage.paths import normalize_path
from zarr_core.threads.twins import async_tuple_twin, async_twin

D = TypeVar("D")


class Group(Node):
    """A Zarr group.

    Usually made by `open_group`, `create_group` and the like. This constructor does no I/O.

    Parameters
    ----------
    metadata
        What the group's documents say.
    store_path
        Where the group is.

    Examples
    --------
    >>> root = zarr.create_group({})
    >>> root["raw/signal"] = np.arange(4)
    >>> root["raw"].attrs["by"] = "me"
    >>> root.tree()
    /
    └── raw
        └── signal (4,) int64
    """

    def __init__(
        self,
        metadata: GroupMetadata | Mapping[str, Any] | AsyncGroup,
        store_path: StorePath | Store | None = None,
    ) -> None:
        found: Any = metadata
        if isinstance(metadata, AsyncGroup):
            found, store_path = metadata._sync._metadata, metadata._sync._store_path
        if not isinstance(found, GroupMetadata):
            found = GroupMetadata.from_dict(found)
        if store_path is None:
            raise TypeError("a group needs a store, or a place in one")
        place = store_path if isinstance(store_path, StorePath) else store_from(store_path)
        self._store_path = place
        self._metadata: GroupMetadata = found
        self._consolidation: Consolidation | None = None
        # Path of this group below the one that has the consolidated metadata, with a final slash.
        self._prefix = ""
        self._travelled = False  # unpickled in another process, and so were its arrays
        self._shown: tuple[object, object, GroupMetadata] | None = None

    @staticmethod
    def from_metadata(
        metadata: GroupMetadata, place: StorePath, *, use_consolidated: bool | str | None = None
    ) -> "Group":
        """Return a group that uses its consolidated metadata unless told not to; no I/O.

        Raises `ValueError` when `use_consolidated` is true and there is none.

        >>> group = zarr.create_group({}, attributes={"a": 1})
        >>> zarr.Group.from_metadata(group.metadata, group.store_path).attrs["a"]
        1
        """
        nodes = metadata.consolidated_metadata
        group = Group(replace(metadata, consolidated_metadata=None) if nodes else metadata, place)
        if use_consolidated is False:
            return group
        if nodes is not None:
            key = use_consolidated if isinstance(use_consolidated, str) else V2_CONSOLIDATED
            group._consolidation = Consolidation(place, metadata.zarr_format, nodes, key)
        elif use_consolidated:
            raise ValueError(
                f"Consolidated metadata requested with 'use_consolidated={use_consolidated!r}' "
                f"but not found in {place}"
            )
        return group

    @staticmethod
    def create_at(
        place: StorePath,
        zarr_format: ZarrFormat,
        attributes: Mapping[str, Any] | None,
        *,
        overwrite: bool,
    ) -> "Group":
        """Create a group at a place and the groups above it."""
        if zarr_format not in (2, 3):
            raise ValueError(f"zarr_format must be 2 or 3, not {zarr_format!r}")
        metadata = GroupMetadata(check_attributes(attributes or {}), zarr_format)
        creation.create_node(place, metadata, overwrite=overwrite)
        return Group(metadata, place)

    @staticmethod
    def from_store(
        store: StoreLike,
        *,
        attributes: Mapping[str, Any] | None = None,
        zarr_format: ZarrFormat = 3,
        overwrite: bool = False,
    ) -> "Group":
        """Create a group.

        >>> zarr.Group.from_store({}, attributes={"a": 1}).attrs["a"]
        1
        """
        return Group.create_at(store_from(store), zarr_format, attributes, overwrite=overwrite)

    @staticmethod
    def open(
        store: StoreLike,
        zarr_format: ZarrFormat | None = 3,
        use_consolidated: bool | str | None = None,
    ) -> "Group":
        """Open an existing group; raise `GroupNotFoundError` if there is none.

        >>> store = {}
        >>> group = zarr.create_group(store, path="a")
        >>> list(zarr.Group.open(store))
        ['a']
        """
        place = store_from(store)
        return Group.open_at(place, zarr_format, use_consolidated)

    @staticmethod
    def open_at(
        place: StorePath, zarr_format: ZarrFormat | None, use_consolidated: bool | str | None
    ) -> "Group":
        """Open the group at a place; raise `GroupNotFoundError` if there is none."""
        consolidated = True if use_consolidated is None else use_consolidated
        metadata = read_group(place, zarr_format, consolidated=consolidated)
        return Group.from_metadata(metadata, place, use_consolidated=use_consolidated)

    @staticmethod
    def from_dict(store_path: StorePath, data: Mapping[str, Any]) -> "Group":
        """Return the group that a metadata document describes; no I/O.

        >>> group = zarr.create_group({})
        >>> zarr.Group.from_dict(group.store_path, group.metadata.to_dict()) == group
        True
        """
        return Group(GroupMetadata.from_dict(data), store_path)

    # --- what it is --------------------------------------------------------------------------------

    @property
    def async_group(self) -> AsyncGroup:
        """This group for programs that await the methods of zarr-python's `AsyncGroup`."""
        return AsyncGroup(self)

    _async_group = async_group

    @property
    def metadata(self) -> GroupMetadata:
        """What the group's documents say, consolidated metadata included where it is used."""
        if self._consolidation is None:
            return self._metadata
        nodes, own = self._consolidation.nodes, self._metadata
        if self._shown is None or self._shown[0] is not nodes or self._shown[1] is not own:
            part = nodes.below(self._prefix[:-1]) if self._prefix else nodes
            self._shown = nodes, own, replace(own, consolidated_metadata=part)
        return self._shown[2]

    synchronizer = None  # writes of one process are synchronised without one

    @property
    def _current_attributes(self) -> Mapping[str, Any]:
        return self._metadata._attributes

    def _change_attributes(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._check_writable()
        new = update_node(
            self._store_path,
            self._metadata,
            lambda old: old.update_attributes(change(dict(old._attributes))),
        )
        self._metadata = replace(new, consolidated_metadata=None)
        if self._consolidation is not None:
            if self._prefix:
                self._consolidation.record((self._prefix[:-1], self._metadata))
            else:
                self._consolidation.record_root(new)

    def update_attributes(self, new_attributes: Mapping[str, Any]) -> "Group":
        """Set attributes, keeping the others; return this group.

        >>> zarr.create_group({}).update_attributes({"a": 1}).attrs.asdict()
        {'a': 1}
        """
        self.attrs.update(new_attributes)
        return self

    def refresh(self) -> "Group":
        """Read the metadata again, for a node that others may have changed; return this group.

        Consolidated metadata is read again for all handles that share it.

        >>> store = {}
        >>> group, other = zarr.group(store), zarr.group(store)
        >>> other.attrs["a"] = 1
        >>> group.refresh().attrs["a"]
        1
        """
        if self._consolidation is not None:
            self._consolidation.refresh()
        fresh = read_group(self._store_path, self._metadata.zarr_format)
        self._metadata = replace(fresh, consolidated_metadata=None)
        return self

    @property
    def info(self) -> GroupInfo:
        """What is known without I/O, as a table."""
        return self._info()

    def info_complete(self) -> GroupInfo:
        """Return a table that also counts all nodes below.

        >>> root = zarr.create_group({})
        >>> root["a/b"] = np.arange(2)
        >>> root.info_complete().rows()[-3:]
        [('No. members', '2'), ('No. arrays', '1'), ('No. groups', '1')]
        """
        arrays = groups = 0
        for _, metadata in self._walk(None):
            if isinstance(metadata, ArrayMetadata):
                arrays += 1
            else:
                groups += 1
        return self._info(arrays + groups, arrays)

    def _info(self, members: int | None = None, arrays: int | None = None) -> GroupInfo:
        return GroupInfo(
            _name=self.name,
            _zarr_format=self._metadata.zarr_format,
            _read_only=self.read_only,
            _store_type=type(self._store_path.store).__name__,
            _count_members=members,
            _count_arrays=arrays,
            _count_groups=None if members is None or arrays is None else members - arrays,
        )

    def _twin_lane(self) -> tuple[bool, int | None, object]:
        return bool(self._store_path.store.high_latency), None, self

    # --- finding members ---------------------------------------------------------------------------

    def _node(self, path: str, metadata: NodeMetadata) -> "Array | Group":
        """Return the handle of a node below this group."""
        place = self._store_path.below(path)
        if isinstance(metadata, ArrayMetadata):
            return self._through(path, Array(metadata, place))
        if self._consolidation is None or not path:
            group = Group.from_metadata(metadata, place)
        else:
            group = Group(metadata, place)
            group._consolidation, group._prefix = self._consolidation, f"{self._prefix}{path}/"
        group._travelled = self._travelled
        return group

    def _through(self, path: str, array: Array) -> Array:
        """Return an array whose changes are recorded in the consolidated metadata in use."""
        if self._travelled:
            array._shared.travelled, array._state = True, None
        if self._consolidation is not None:
            array._shared.on_change = WriteThrough(self._consolidation, self._prefix + path)
        return array

    def _find(self, path: str) -> NodeMetadata | None:
        if self._consolidation is not None and path:
            return self._consolidation.nodes.get(self._prefix + path)
        return read_node(
            self._store_path.below(path), self._metadata.zarr_format, consolidated=True
        )

    def _walk(self, max_depth: int | None) -> Iterator[tuple[str, NodeMetadata]]:
        if max_depth is not None and max_depth < 0:
            raise ValueError(f"max_depth must be None or >= 0. Got {max_depth} instead")
        if self._consolidation is None:
            return walk(self._store_path, self._metadata.zarr_format, max_depth)
        return self._consolidation.nodes.walk(self._prefix[:-1], max_depth)

    def __getitem__(self, path: str) -> "Array | Group":
        """Return the array or group at a path below; raise `KeyError` if there is none."""
        normal = normalize_path(path)
        metadata = self._find(normal)
        if metadata is None:
            slow = self._store_path.store.high_latency and self._consolidation is None
            raise missing_member(path, self._store_path, () if slow else self.keys())
        return self._node(normal, metadata)

    def get(self, path: str, default: D | None = None) -> "Array | Group | D | None":
        """Return the array or group at a path below, or `default`.

        >>> root = zarr.create_group({})
        >>> root.get("a", default="nothing")
        'nothing'
        """
        metadata = self._find(normal := normalize_path(path))
        return default if metadata is None else self._node(normal, metadata)

    def get_array(self, path: str) -> Array:
        """Return the array at a path below; raise `ArrayNotFoundError` if there is none.

        >>> root = zarr.create_group({})
        >>> root["a/b"] = np.arange(3)
        >>> root.get_array("a/b")[1:]
        array([1, 2])
        """
        node = self.get(path)
        if isinstance(node, Array):
            return node
        place = self._store_path / path
        error = ArrayNotFoundError if node is None else NotAnArrayError
        raise error(place.store, place.path)

    def get_group(self, path: str) -> "Group":
        """Return the group at a path below; raise `GroupNotFoundError` if there is none.

        >>> root = zarr.create_group({})
        >>> root["a/b"] = np.arange(3)
        >>> list(root.get_group("a"))
        ['b']
        """
        node = self.get(path)
        if isinstance(node, Group):
            return node
        place = self._store_path / path
        error = GroupNotFoundError if node is None else NotAGroupError
        raise error(place.store, place.path)

    def __contains__(self, path: object) -> bool:
        if not isinstance(path, str):
            return False
        try:
            normal = normalize_path(path)
        except ValueError:
            return False
        if self._consolidation is not None and normal:
            return self._find(normal) is not None
        return bool(find_documents(self._store_path.below(normal), self._metadata.zarr_format))

    def keys(self) -> Iterator[str]:
        """Yield the names of the members; their documents are not read.

        >>> root = zarr.create_group({})
        >>> made = root.require_groups("b", "a/c")
        >>> list(root.keys())
        ['a', 'b']
        """
        if self._consolidation is not None:
            return iter(self._consolidation.nodes.children(self._prefix[:-1]))
        return child_names(self._store_path, self._metadata.zarr_format)

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def __len__(self) -> int:
        return self.nmembers()

    def nmembers(self, max_depth: int | None = 0) -> int:
        """Return the number of members, of those below them too up to a depth (None: all).

        >>> root = zarr.create_group({})
        >>> made = root.require_groups("b", "a/c")
        >>> root.nmembers(), root.nmembers(max_depth=None)
        (2, 3)
        """
        if max_depth == 0:
            return sum(1 for _ in self.keys())
        if self._consolidation is None and (max_depth is None or max_depth > 0):
            found = walk_documents(self._store_path, self._metadata.zarr_format, max_depth)
            return sum(1 for _ in found)
        return sum(1 for _ in self._walk(max_depth))

    def members(
        self, max_depth: int | None = 0, *, use_consolidated_for_children: bool = True
    ) -> "tuple[tuple[str, Array | Group], ...]":
        """Return pairs of relative path and node, of those below members too up to a depth.

        >>> root = zarr.create_group({})
        >>> root["a/b"] = np.arange(3)
        >>> [path for path, node in root.members(max_depth=None)]
        ['a', 'a/b']
        """
        group = self
        if not use_consolidated_for_children and self._consolidation is not None:
            group = Group(self._metadata, self._store_path)
            group._travelled = self._travelled
        return tuple(
            (path, group._node(path, metadata)) for path, metadata in group._walk(max_depth)
        )

    def arrays(self) -> Iterator[tuple[str, Array]]:
        """Yield pairs of name and array.

        >>> root = zarr.create_group({})
        >>> root["x"] = np.arange(3)
        >>> {name: int(array[:].sum()) for name, array in root.arrays()}
        {'x': 3}
        """
        for name, metadata in self._walk(0):
            if isinstance(metadata, ArrayMetadata):
                yield name, self._through(name, Array(metadata, self._store_path.below(name)))

    def groups(self) -> "Iterator[tuple[str, Group]]":
        """Yield pairs of name and group.

        >>> root = zarr.create_group({})
        >>> made = root.require_groups("a", "b")
        >>> [name for name, group in root.groups()]
        ['a', 'b']
        """
        for name, metadata in self._walk(0):
            if isinstance(metadata, GroupMetadata):
                node = self._node(name, metadata)
                assert isinstance(node, Group)
                yield name, node

    def array_keys(self) -> Iterator[str]:
        """Yield the names of the arrays.

        >>> root = zarr.create_group({})
        >>> root["x"] = np.arange(3)
        >>> list(root.array_keys())
        ['x']
        """
        return (name for name, found in self._walk(0) if isinstance(found, ArrayMetadata))

    def array_values(self) -> Iterator[Array]:
        """Yield the arrays.

        >>> root = zarr.create_group({})
        >>> root["x"] = np.arange(3)
        >>> [array.shape for array in root.array_values()]
        [(3,)]
        """
        return (array for _, array in self.arrays())

    def group_keys(self) -> Iterator[str]:
        """Yield the names of the groups.

        >>> root = zarr.create_group({})
        >>> made = root.require_groups("a", "b")
        >>> list(root.group_keys())
        ['a', 'b']
        """
        return (name for name, found in self._walk(0) if isinstance(found, GroupMetadata))

    def group_values(self) -> "Iterator[Group]":
        """Yield the groups.

        >>> root = zarr.create_group({})
        >>> made = root.require_groups("a", "b")
        >>> [group.path for group in root.group_values()]
        ['a', 'b']
        """
        return (group for _, group in self.groups())

    def tree(
        self,
        expand: bool | None = None,
        level: int | None = None,
        *,
        max_nodes: int = 500,
        plain: bool = False,
    ) -> Tree:
        """Return a drawing of what is below: members, and those below them down to `level`.

        `max_nodes` bounds its size. `expand` and `plain` (text never has colours) do nothing.

        >>> root = zarr.create_group({})
        >>> root["a/b/x"] = np.zeros((2, 3))
        >>> root.tree(level=1)
        /
        └── a
            └── b
        """
        warn_ignored(expand=expand)
        return Tree.of(self.name, self._walk(level), max_nodes=max_nodes, plain=plain)

    # --- changing members --------------------------------------------------------------------------

    def _place(self, name: str) -> StorePath:
        """Return the place of a new member."""
        self._check_writable()
        normal = normalize_path(name)
        if not normal:
            raise ValueError(
                f"It is an error to use this method to create a root node. Name: {name!r}"
            )
        return self._store_path / normal

    def _created(self, place: StorePath, metadata: NodeMetadata, *, replaced: bool) -> str:
        """Keep the consolidated copy true after a member was created; return its path."""
        path = place.path[len(self.path) :].lstrip("/")
        if self._consolidation is not None and path:
            self._consolidation.created(self._prefix + path, metadata, replaced=replaced)
        return path

    def create_array(
        self,
        name: str,
        *,
        shape: Any = None,
        dtype: DataTypeLike | None = None,
        data: Any = None,
        chunks: creation.ChunksLike = "auto",
        shards: creation.ShardsLike = None,
        filters: creation.CodecsLike = "auto",
        compressors: creation.CodecsLike = "auto",
        compressor: Any = "auto",
        serializer: creation.CodecLike = "auto",
        fill_value: Any = creation.DEFAULT_FILL_VALUE,
        order: Any = None,
        attributes: Mapping[str, JSON] | None = None,
        chunk_key_encoding: Any = None,
        dimension_names: Any = None,
        storage_options: dict[str, Any] | None = None,
        overwrite: bool = False,
        config: ArrayConfigLike | None = None,
        write_data: bool = True,
    ) -> Array:
        """Create an array below this group, in its format; see `zarr_core.create_array`.

        >>> root = zarr.create_group({})
        >>> root.create_array("deep/x", shape=(4, 4), chunks=2, dtype="f4").name
        '/deep/x'
        """
        given = without(locals(), "self", "name", "compressor", "storage_options")
        warn_ignored(storage_options=storage_options)
        place, zarr_format = self._place(name), self._metadata.zarr_format
        given["compressors"] = creation.given_compressors(compressor, compressors, zarr_format)
        made = make_array(place, below=self._store_path, zarr_format=zarr_format, **given)
        return self._through(self._created(place, made.metadata, replaced=overwrite), made)

    create = create_array

    def create_group(
        self, name: str, *, overwrite: bool = False, attributes: Mapping[str, Any] | None = None
    ) -> "Group":
        """Create a group below this group; raise `ContainsGroupError` if there is one.

        `"/"` is this group itself, which may have been removed meanwhile.

        >>> zarr.create_group({}).create_group("a/b", attributes={"by": "me"}).name
        '/a/b'
        """
        place = self._place(name) if normalize_path(name) else self._store_path
        metadata = GroupMetadata(check_attributes(attributes or {}), self._metadata.zarr_format)
        creation.create_node(place, metadata, overwrite=overwrite, below=self._store_path)
        node = self._node(self._created(place, metadata, replaced=overwrite), metadata)
        assert isinstance(node, Group)
        return node

    def require_group(self, name: str, *, overwrite: bool = False) -> "Group":
        """Return the group of a name, created if there is none; `overwrite` always creates it.

        >>> root = zarr.create_group({})
        >>> root.require_group("a") == root.require_group("a")
        True
        """
        if overwrite:
            return self.create_group(name, overwrite=True)
        node = self.get(name)
        if node is None:
            try:
                return self.create_group(name)
            except ContainsGroupError:
                node = self._made_by_others(name)
        if isinstance(node, Array):
            raise TypeError(f"Incompatible object (Array) already exists at {node._store_path}")
        return node

    def _made_by_others(self, name: str) -> "Array | Group":
        """Return a node that consolidated metadata in use do not know; now they do."""
        path = normalize_path(name)
        metadata = read_node(self._store_path.below(path), self._metadata.zarr_format)
        if metadata is None:
            raise NodeNotFoundError(f"{name!r} was created and removed by others at the same time")
        return self._node(
            self._created(self._store_path / path, metadata, replaced=False), metadata
        )

    def require_groups(self, *names: str) -> "tuple[Group, ...]":
        """Return the groups of several names, created where there are none.

        >>> [group.name for group in zarr.create_group({}).require_groups("a", "b")]
        ['/a', '/b']
        """
        return tuple(self.require_group(name) for name in names)

    def require_array(
        self,
        name: str,
        *,
        shape: Any,
        dtype: Any = None,
        exact: bool = False,
        config: ArrayConfigLike | None = None,
        **kwargs: Any,
    ) -> Array:
        """Return the array of a name, created if there is none.

        An existing one must have the shape and a data type that can be cast to `dtype` (with
        `exact` the same); `TypeError` otherwise.

        >>> root = zarr.create_group({})
        >>> root.require_array("x", shape=3, dtype="i4")[:] = 7
        >>> root.require_array("x", shape=3, dtype="i4")[:]
        array([7, 7, 7], dtype=int32)
        """
        node = self.get(name)
        if node is None:
            made = "float64" if dtype is None else dtype
            try:
                return self.create_array(name, shape=shape, dtype=made, config=config, **kwargs)
            except ContainsArrayError:
                node = self._made_by_others(name)
        if isinstance(node, Group):
            raise TypeError(f"Incompatible object (Group) already exists at {node._store_path}")
        if creation.as_shape(shape) != node.shape:
            raise TypeError(f"Incompatible shape ({node.shape} vs {creation.as_shape(shape)})")
        if dtype is not None:
            wanted = parse_dtype(dtype, self._metadata.zarr_format).dtype
            if wanted != node.dtype if exact else not np.can_cast(node.dtype, wanted):
                raise TypeError(f"Incompatible dtype ({node.dtype} vs {wanted})")
        return node if config is None else node.with_config(config)

    def create_hierarchy(
        self, nodes: Mapping[str, NodeMetadata], *, overwrite: bool = False
    ) -> "Iterator[tuple[str, Array | Group]]":
        """Create several nodes below this group at once; yield pairs of path and node.

        Groups in between are created as needed. Everything is created before the first pair.

        >>> root, like = zarr.create_group({}), zarr.zeros(4).metadata
        >>> made = dict(root.create_hierarchy({"a/x": like, "a/y": like}))
        >>> sorted(made)
        ['a', 'a/x', 'a/y']
        """
        self._check_writable()
        for path, metadata in nodes.items():
            if metadata.zarr_format != self._metadata.zarr_format:
                raise ValueError(f"node {path!r} has another format than the group")
            self._place(path)
        made = create_nodes(self._store_path, nodes, overwrite=overwrite)
        if self._consolidation is not None and made:
            changes: list[tuple[str, NodeMetadata | None]] = []
            if overwrite:
                changes += [(self._prefix + normalize_path(path), None) for path in nodes]
            changes += [(self._prefix + path, metadata) for path, metadata in made.items()]
            self._consolidation.record(*changes)
        return iter([(path, self._node(path, metadata)) for path, metadata in made.items()])

    def __setitem__(self, key: str, value: Any) -> None:
        """Store an array under a name, replacing what is there."""
        values = value if hasattr(value, "shape") and hasattr(value, "dtype") else np.asarray(value)
        self.create_array(key, data=values, overwrite=True)

    def __delitem__(self, key: str) -> None:
        """Remove a member and all below it; files that belong to no node stay."""
        self._check_writable()
        normal = normalize_path(key)
        place = self._store_path.below(normal)
        if not normal or not (find_documents(place, self._metadata.zarr_format) or key in self):
            raise KeyError(key)
        erase_node(place)
        if self._consolidation is not None:
            self._consolidation.record((self._prefix + normal, None))

    def move(self, source: str, dest: str) -> None:
        """Rename a member; raise `NodeNotFoundError`, or `ContainsGroupError` if `dest` exists.

        >>> root = zarr.create_group({})
        >>> root["x"] = np.arange(3)
        >>> root.move("x", "old/x")
        >>> root["old/x"][:]
        array([0, 1, 2])
        """
        self._check_writable()
        old, new = normalize_path(source), normalize_path(dest)
        if not old or not new:
            raise NodeNotFoundError("the group itself cannot be moved")
        move_node(self._store_path, old, new)
        if self._consolidation is not None:
            moved = read_node(self._store_path.below(new), self._metadata.zarr_format)
            self._consolidation.moved(self._prefix + old, self._prefix + new, moved)

    def consolidate(self) -> "Group":
        """Consolidate the metadata of all nodes below; return a group that uses it.

        >>> root = zarr.create_group({}, zarr_format=2)
        >>> made = root.create_group("a/b")
        >>> "a/b" in root.consolidate()  # no request
        True
        """
        self._check_writable()
        metadata = consolidate(self._store_path, self._metadata.zarr_format)
        group = Group.from_metadata(metadata, self._store_path)
        group._travelled = self._travelled
        return group

    def _api(self, function: Callable[..., Array], name: str, *args: Any, **kwargs: Any) -> Array:
        place = self._place(name)
        zarr_format = self._metadata.zarr_format
        if kwargs.get("zarr_format") not in (None, zarr_format):
            other = kwargs["zarr_format"]
            raise ValueError(f"a zarr_format={other} array in a zarr_format={zarr_format} group")
        made = function(*args, store=place, **{**kwargs, "zarr_format": zarr_format})
        created = self._created(place, made.metadata, replaced=bool(kwargs.get("overwrite")))
        return self._through(created, made)

    def empty(self, *, name: str, shape: Any, **kwargs: Any) -> Array:
        """Create an array; see `zarr_core.empty`.

        >>> zarr.create_group({}).empty(name="x", shape=3).shape
        (3,)
        """
        return self._api(create.empty, name, shape, **kwargs)

    def zeros(self, *, name: str, shape: Any, **kwargs: Any) -> Array:
        """Create an array of zeros; see `zarr_core.zeros`.

        >>> zarr.create_group({}).zeros(name="x", shape=3)[:]
        array([0., 0., 0.])
        """
        return self._api(create.zeros, name, shape, **kwargs)

    def ones(self, *, name: str, shape: Any, **kwargs: Any) -> Array:
        """Create an array of ones; see `zarr_core.ones`.

        >>> zarr.create_group({}).ones(name="x", shape=3)[:]
        array([1., 1., 1.])
        """
        return self._api(create.ones, name, shape, **kwargs)

    def full(self, *, name: str, shape: Any, fill_value: Any, **kwargs: Any) -> Array:
        """Create an array full of a value; see `zarr_core.full`.

        >>> zarr.create_group({}).full(name="x", shape=3, fill_value=7)[:]
        array([7, 7, 7])
        """
        return self._api(create.full, name, shape, fill_value, **kwargs)

    def empty_like(self, *, name: str, data: Any, **kwargs: Any) -> Array:
        """Create an array like another one; see `zarr_core.empty_like`.

        >>> zarr.create_group({}).empty_like(name="x", data=np.arange(3)).dtype
        dtype('int64')
        """
        return self._api(create.empty_like, name, data, **kwargs)

    def zeros_like(self, *, name: str, data: Any, **kwargs: Any) -> Array:
        """Create an array of zeros like another one; see `zarr_core.zeros_like`.

        >>> zarr.create_group({}).zeros_like(name="x", data=np.arange(3))[:]
        array([0, 0, 0])
        """
        return self._api(create.zeros_like, name, data, **kwargs)

    def ones_like(self, *, name: str, data: Any, **kwargs: Any) -> Array:
        """Create an array of ones like another one; see `zarr_core.ones_like`.

        >>> zarr.create_group({}).ones_like(name="x", data=np.arange(3))[:]
        array([1, 1, 1])
        """
        return self._api(create.ones_like, name, data, **kwargs)

    def full_like(self, *, name: str, data: Any, **kwargs: Any) -> Array:
        """Create an array full of a value like another one; see `zarr_core.full_like`.

        >>> zarr.create_group({}).full_like(name="x", data=np.arange(3), fill_value=7)[:]
        array([7, 7, 7])
        """
        return self._api(create.full_like, name, data, **kwargs)

    # --- as a Python object ------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Group):
            return NotImplemented
        return self._store_path == other._store_path and self._metadata == other._metadata

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        made_in = None if self._travelled else this_process()
        found = self._consolidation, self._prefix
        return _restore, (self._metadata, self._store_path, *found, made_in)

    def __dask_tokenize__(self) -> tuple[str, ...]:
        return "zarr_core.Group", str(self._store_path), repr(self._metadata.to_dict())

    def __repr__(self) -> str:
        return f"<Group {self._store_path}>"

    def _repr_html_(self) -> str:
        html = self.info._repr_html_()
        if self._store_path.store.high_latency and self._consolidation is None:
            return html  # what is in it would take requests, which nobody has asked for
        return html + self.tree(level=1, max_nodes=100)._repr_html_()

    # --- twins: each awaits the method of its name in a worker thread ----------------------------------

    open_async: Final = staticmethod(async_twin(open))
    from_store_async: Final = staticmethod(async_twin(from_store))
    refresh_async: Final = async_twin(refresh)
    update_attributes_async: Final = async_twin(update_attributes)
    info_complete_async: Final = async_twin(info_complete)
    getitem_async: Final = async_twin(__getitem__)
    get_async: Final = async_twin(get)
    get_array_async: Final = async_twin(get_array)
    get_group_async: Final = async_twin(get_group)
    contains_async: Final = async_twin(__contains__)
    keys_async: Final = async_tuple_twin(keys)
    nmembers_async: Final = async_twin(nmembers)
    members_async: Final = async_twin(members)
    arrays_async: Final = async_tuple_twin(arrays)
    groups_async: Final = async_tuple_twin(groups)
    array_keys_async: Final = async_tuple_twin(array_keys)
    array_values_async: Final = async_tuple_twin(array_values)
    group_keys_async: Final = async_tuple_twin(group_keys)
    group_values_async: Final = async_tuple_twin(group_values)
    tree_async: Final = async_twin(tree)
    create_array_async: Final = async_twin(create_array, snapshot="data")
    create_async = create_array_async
    create_group_async: Final = async_twin(create_group)
    require_group_async: Final = async_twin(require_group)
    require_groups_async: Final = async_twin(require_groups)
    require_array_async: Final = async_twin(require_array)
    create_hierarchy_async: Final = async_tuple_twin(create_hierarchy)
    setitem_async: Final = async_twin(__setitem__, snapshot="value")
    delitem_async: Final = async_twin(__delitem__)
    move_async: Final = async_twin(move)
    consolidate_async: Final = async_twin(consolidate)
    empty_async: Final = async_twin(empty)
    zeros_async: Final = async_twin(zeros)
    ones_async: Final = async_twin(ones)
    full_async: Final = async_twin(full)
    empty_like_async: Final = async_twin(empty_like)
    zeros_like_async: Final = async_twin(zeros_like)
    ones_like_async: Final = async_twin(ones_like)
    full_like_async: Final = async_twin(full_like)


show_awaited(AsyncGroup, Group)
setattr(Group, "__getattr__", missing_method)  # noqa: B010 - type checkers must not see it


def _restore(
    metadata: GroupMetadata,
    place: StorePath,
    consolidation: Consolidation | None,
    prefix: str,
    made_in: tuple[int, str] | None = None,
) -> Group:
    """Return an unpickled group, which knows whether it has come from another process."""
    group = Group(metadata, place)
    group._consolidation, group._prefix = consolidation, prefix
    group._travelled = made_in != this_process()
    return group
