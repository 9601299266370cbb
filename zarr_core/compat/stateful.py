"""`zarr.testing.stateful`: machines of hypothesis that do the same to a store and to one in memory."""

from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from zarr_core import api
from zarr_core.array.array import Array
from zarr_core.array.create import from_array, open_array
from zarr_core.codecs.buffers import Buffer, default_buffer_prototype
from zarr_core.compat import strategies
from zarr_core.compat.stores import MemoryStore, Store
from zarr_core.compat.sync import SyncMixin

_has_arrays = precondition(lambda self: bool(self.all_arrays))
_has_nodes = precondition(lambda self: bool(self.all_arrays or self.all_groups))
_deletes = precondition(lambda self: self.store.supports_deletes)


class ZarrHierarchyStateMachine(SyncMixin, RuleBasedStateMachine):
    """Creates, changes and removes arrays and groups of a store.

    Its keys, and the values of its arrays, must be those of a store in memory.
    """

    store: Store
    model: MemoryStore

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store, self.model = store, MemoryStore()
        self.all_groups: set[str] = set()
        self.all_arrays: set[str] = set()

    @initialize()
    def init_store(self) -> None:
        """Begin with a group that is empty."""
        for store in (self.store, self.model):
            self._sync(store.clear())
            api.group(store)
        self.all_groups, self.all_arrays = set(), set()

    def can_add(self, path: str) -> bool:
        """Return whether there is no node of a path."""
        return path not in self.all_groups | self.all_arrays

    def _node(self, data: Any, names: set[str]) -> str:
        return str(data.draw(st.sampled_from(sorted(names))))

    def _new(self, data: Any, name: str) -> str:
        parent = self._node(data, self.all_groups | {""})
        path = f"{parent}/{name}".lstrip("/").lower()  # some file systems do not know the case
        assume(self.can_add(path))
        return path

    def _both(self, path: str) -> list[Array]:
        return [open_array(store, path=path, mode="r+") for store in (self.model, self.store)]

    @rule(name=strategies.node_names, data=st.data())
    def add_group(self, name: str, data: Any) -> None:
        """Create a group."""
        path = self._new(data, name)
        for store in (self.store, self.model):
            api.group(store, path=path)
        self.all_groups.add(path)

    @rule(name=strategies.node_names, data=st.data())
    def add_array(self, name: str, data: Any) -> None:
        """Create an array with values."""
        path = self._new(data, name)
        parent, _, name = path.rpartition("/")
        made = data.draw(
            strategies.arrays(
                stores=st.just(self.model),
                paths=st.just(parent),
                array_names=st.just(name),
                zarr_formats=st.just(3),
                open_mode="a",
            )
        )
        from_array(self.store, data=made, name=path)
        self.all_arrays.add(path)

    @_has_arrays
    @rule(data=st.data())
    def check_array(self, data: Any) -> None:
        """Compare the values of an array."""
        expected, found = self._both(self._node(data, self.all_arrays))
        np.testing.assert_equal(found[...], expected[...])

    @_has_arrays
    @rule(data=st.data())
    def overwrite_array_basic_indexing(self, data: Any) -> None:
        """Change part of an array."""
        both = self._both(self._node(data, self.all_arrays))
        selection = data.draw(strategies.basic_indices(shape=both[0].shape))
        values = data.draw(npst.arrays(both[0].dtype, np.shape(both[0][selection])))
        for array in both:
            array[selection] = values

    @_has_arrays
    @rule(data=st.data())
    def overwrite_array_orthogonal_indexing(self, data: Any) -> None:
        """Change rows and columns of an array."""
        both = self._both(self._node(data, self.all_arrays))
        selection, _ = data.draw(strategies.orthogonal_indices(shape=both[0].shape))
        values = data.draw(npst.arrays(both[0].dtype, np.shape(both[0].oindex[selection])))
        for array in both:
            array.oindex[selection] = values

    @_has_arrays
    @_deletes
    @rule(data=st.data())
    def resize_array(self, data: Any) -> None:
        """Give an array another shape."""
        both = self._both(self._node(data, self.all_arrays))
        ndim = both[0].ndim
        shape = data.draw(npst.array_shapes(min_dims=ndim, max_dims=ndim, min_side=0))
        for array in both:
            array.resize(shape)

    @_has_arrays
    @_deletes
    @rule(data=st.data())
    def delete_chunk(self, data: Any) -> None:
        """Remove a chunk of an array."""
        path = self._node(data, self.all_arrays)
        array = self._both(path)[0]
        chunk = data.draw(strategies.chunk_paths(array.ndim, array.cdata_shape, subset=False))
        for store in (self.model, self.store):
            self._sync(store.delete("/".join(filter(None, (path, "c", chunk)))))

    @_has_nodes
    @_deletes
    @rule(data=st.data(), by_prefix=st.booleans())
    def delete_node(self, data: Any, by_prefix: bool) -> None:
        """Remove a node and all below it."""
        path = self._node(data, self.all_groups | self.all_arrays)
        for store in (self.model, self.store):
            if by_prefix:
                self._sync(store.delete_dir(path))
            else:
                del api.open_group(store, mode="r+")[path]
        self.all_groups, self.all_arrays = (
            {node for node in nodes if not f"{node}/".startswith(f"{path}/")}
            for nodes in (self.all_groups, self.all_arrays)
        )

    @invariant()
    def check_list_prefix_from_root(self) -> None:
        """Compare the keys."""
        expected, found = (
            sorted(self._sync_iter(store.list_prefix(""))) for store in (self.model, self.store)
        )
        assert found == expected
        documents = {f"{path}/zarr.json" for path in self.all_groups | self.all_arrays}
        assert documents <= set(expected)


class ZarrStoreStateMachine(SyncMixin, RuleBasedStateMachine):
    """Stores, reads and removes values of a store, which must be those of a dictionary."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.model: dict[str, bytes] = {}

    @initialize()
    def init_store(self) -> None:
        """Begin with an empty store."""
        self._sync(self.store.clear())
        self.model = {}

    def _get(self, key: str, byte_range: Any = None) -> bytes | None:
        value = self._sync(self.store.get(key, default_buffer_prototype(), byte_range))
        return None if value is None else value.to_bytes()

    @rule(key=strategies.keys(max_num_nodes=4), data=st.binary(max_size=20))
    def set(self, key: str, data: bytes) -> None:
        """Store a value."""
        parts = key.lower().split("/")
        key = "/".join(parts)
        above = {"/".join(parts[:n]) for n in range(1, len(parts))}
        # A key that is the directory of another is nothing that file systems have.
        assume(not above & self.model.keys())
        assume(not any(other.startswith(f"{key}/") for other in self.model))
        self._sync(self.store.set(key, Buffer.from_bytes(data)))
        self.model[key] = data

    @rule(key=strategies.keys(max_num_nodes=2))
    def get_invalid_zarr_keys(self, key: str) -> None:
        """Ask for a key that may not be there."""
        key = f"{key.lower()}-"
        assert self._get(key) == self.model.get(key)

    @precondition(lambda self: bool(self.model))
    @rule(data=st.data())
    def get_partial_values(self, data: Any) -> None:
        """Ask for parts of values."""
        keys = st.sampled_from(sorted(self.model))
        ranges = data.draw(strategies.key_ranges(keys, max_size=40))
        prototype = default_buffer_prototype()
        found: Any = self._sync(self.store.get_partial_values(prototype, ranges))
        for (key, part), value in zip(ranges, found, strict=True):
            whole = self.model[key]
            if part is not None:
                start = getattr(part, "start", getattr(part, "offset", None))
                start = len(whole) - min(part.suffix, len(whole)) if start is None else start
                whole = whole[start : getattr(part, "end", None)]
            assert value.to_bytes() == whole

    @_deletes
    @precondition(lambda self: bool(self.model))
    @rule(data=st.data())
    def delete(self, data: Any) -> None:
        """Remove a key."""
        key = data.draw(st.sampled_from(sorted(self.model)))
        self._sync(self.store.delete(key))
        del self.model[key]

    @rule(prefix=strategies.node_names)
    def getsize_prefix(self, prefix: str) -> None:
        """Compare the sizes of values."""
        prefix = prefix.lower()
        sizes = [len(value) for key, value in self.model.items() if key.startswith(f"{prefix}/")]
        assert self._sync(self.store.getsize_prefix(prefix)) == sum(sizes)

    @invariant()
    def check_keys_and_values(self) -> None:
        """Compare everything."""
        assert sorted(self._sync_iter(self.store.list())) == sorted(self.model)
        assert all(self._get(key) == value for key, value in self.model.items())
        assert self._sync(self.store.is_empty("")) == (not self.model)
        names = {key.partition("/")[0] for key in self.model}
        assert sorted(self._sync_iter(self.store.list_dir(""))) == sorted(names)
