"""Random changes of a hierarchy against a dictionary of what must be there, reopened in between."""

import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import zarr_core as zarr
from zarr_core.metadata.documents import DOCUMENTS
from zarr_core.storage import LatencyStore, LocalStore, MemoryStore

NAMES = st.sampled_from(["a", "A", "b", "c.d"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=3),
    st.lists(st.integers(), max_size=2),
)


def parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


class Model:
    """What is in a hierarchy: attributes by path, and the values of arrays."""

    def __init__(self) -> None:
        self.nodes: dict[str, tuple[dict[str, Any], list[int] | None]] = {"": ({}, None)}

    def is_array(self, path: str) -> bool:
        return path in self.nodes and self.nodes[path][1] is not None

    def may_create(self, path: str) -> bool:
        return path not in self.nodes and not any(map(self.is_array, parents(path)))

    def create(self, path: str, values: list[int] | None) -> None:
        for parent in parents(path):
            self.nodes.setdefault(parent, ({}, None))
        self.nodes[path] = ({}, values)

    def remove(self, path: str) -> dict[str, Any]:
        gone = [found for found in self.nodes if found == path or found.startswith(f"{path}/")]
        return {found.removeprefix(path): self.nodes.pop(found) for found in gone}

    def below(self, kind: Callable[[str], bool] = bool) -> list[str]:
        return sorted(path for path in self.nodes if path and kind(path))


class Hierarchy(RuleBasedStateMachine):
    make_store: Callable[[str], Any]

    @initialize(zarr_format=st.sampled_from([2, 3]))
    def start(self, zarr_format: Any) -> None:
        self.directory = tempfile.mkdtemp()
        self.store = type(self).make_store(self.directory)
        self.model = Model()
        self.group = zarr.create_group(self.store, zarr_format=zarr_format)
        self.consolidated = False

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            shutil.rmtree(self.directory)

    def pick(self, data: Any, kind: Callable[[str], bool] = bool) -> str:
        return str(data.draw(st.sampled_from(self.model.below(kind))))

    @property
    def any_nodes(self) -> bool:
        return len(self.model.nodes) > 1

    # --- changes ---------------------------------------------------------------------------------

    @rule(path=PATHS, values=st.lists(st.integers(0, 9), max_size=5))
    def create_array(self, path: str, values: list[int]) -> None:
        def create(**options: Any) -> None:
            self.group.create_array(path, data=np.array(values, "i8"), chunks=2, **options)

        if self.model.may_create(path):
            create()
            self.model.create(path, values)
        else:
            with pytest.raises(FileExistsError):
                create()

    @rule(path=PATHS)
    def create_group(self, path: str) -> None:
        if self.model.may_create(path):
            self.group.create_group(path)
            self.model.create(path, None)
        else:
            with pytest.raises(FileExistsError):
                self.group.create_group(path)

    @precondition(lambda self: self.any_nodes)
    @rule(data=st.data(), values=st.one_of(st.none(), st.lists(st.integers(0, 9), max_size=5)))
    def overwrite(self, data: Any, values: list[int] | None) -> None:
        path = self.pick(data)
        self.model.remove(path)
        self.model.create(path, values)
        if values is None:
            self.group.create_group(path, overwrite=True)
        else:
            self.group[path] = np.array(values, "i8")

    @precondition(lambda self: self.any_nodes)
    @rule(data=st.data())
    def delete(self, data: Any) -> None:
        path = self.pick(data)
        del self.group[path]
        self.model.remove(path)
        with pytest.raises(KeyError):
            del self.group[path]

    @precondition(lambda self: self.any_nodes)
    @rule(data=st.data(), dest=PATHS)
    def move(self, data: Any, dest: str) -> None:
        source = self.pick(data)
        if self.model.may_create(dest) and not dest.startswith(f"{source}/"):
            self.group.move(source, dest)
            moved = self.model.remove(source)
            for below, node in moved.items():
                self.model.create(dest + below, None)
                self.model.nodes[dest + below] = node
        else:
            with pytest.raises(ValueError, match=r"moved|already|below|there is"):
                self.group.move(source, dest)

    @precondition(lambda self: self.model.below(self.model.is_array))
    @rule(data=st.data(), length=st.integers(0, 7))
    def resize(self, data: Any, length: int) -> None:
        path = self.pick(data, self.model.is_array)
        self.group[path].resize((length,))
        attributes, values = self.model.nodes[path]
        assert values is not None
        self.model.nodes[path] = attributes, (values + [0] * length)[:length]

    @rule(data=st.data(), key=st.text(max_size=2), value=VALUES)
    def set_attribute(self, data: Any, key: str, value: Any) -> None:
        path = data.draw(st.sampled_from(sorted(self.model.nodes)))
        node = self.group[path] if path else self.group
        node.attrs[key] = value
        self.model.nodes[path][0][key] = value

    @rule(data=st.data())
    def clear_attributes(self, data: Any) -> None:
        path = data.draw(st.sampled_from(sorted(self.model.nodes)))
        (self.group[path] if path else self.group).attrs.clear()
        self.model.nodes[path][0].clear()

    # --- other handles ---------------------------------------------------------------------------

    @rule()
    def consolidate(self) -> None:
        self.group = zarr.consolidate_metadata(self.store)
        self.consolidated = True

    @rule()
    def reopen(self) -> None:
        self.group = zarr.open_group(self.store)
        assert (self.group.metadata.consolidated_metadata is not None) == self.consolidated

    @rule()
    def refresh(self) -> None:
        self.group.refresh()

    # --- what must hold ----------------------------------------------------------------------------

    def found(self, group: zarr.Group) -> dict[str, Any]:
        nodes: dict[str, Any] = {"": (group.attrs.asdict(), None)}
        for path, node in group.members(None):
            values = node[:].tolist() if isinstance(node, zarr.Array) else None
            nodes[path] = (node.attrs.asdict(), values)
        return nodes

    @invariant()
    def this_handle_shows_what_is_there(self) -> None:
        if hasattr(self, "model"):
            assert self.found(self.group) == self.model.nodes
            assert list(self.group) == [p for p in self.model.below() if "/" not in p]

    @invariant()
    def the_documents_say_what_is_there(self) -> None:
        if hasattr(self, "model"):
            truth = zarr.open_group(self.store, mode="r", use_consolidated=False)
            assert self.found(truth) == self.model.nodes

    @invariant()
    def nothing_else_is_stored(self) -> None:
        if hasattr(self, "model"):
            for key in self.store.list():
                node, _, name = key.rpartition("/")
                if name in DOCUMENTS:
                    assert node in self.model.nodes
                else:
                    assert any(map(self.model.is_array, parents(key)))


def stateful(make: Callable[[str], Any], name: str) -> Any:
    machine = type(name, (Hierarchy,), {"make_store": staticmethod(make)})
    case = machine.TestCase
    thorough = settings.default is not None and settings.default.max_examples > 100
    case.settings = settings(max_examples=500 if thorough else 15, stateful_step_count=20)
    return pytest.mark.filterwarnings("ignore:Consolidated metadata is currently")(case)


TestMemory = stateful(lambda directory: MemoryStore(), "MemoryHierarchy")
TestLocal = stateful(LocalStore, "LocalHierarchy")
TestSlow = stateful(lambda directory: LatencyStore(MemoryStore()), "SlowHierarchy")
