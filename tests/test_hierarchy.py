"""Consolidated metadata and many nodes at once: true copies, few requests."""

import gc
import json
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zarr_core as zarr
from zarr_core.errors import (
    ContainsArrayError,
    ContainsGroupError,
    MetadataValidationError,
    ZarrUserWarning,
)
from zarr_core.storage import LatencyStore, LoggingStore, MemoryStore, WrapperStore

pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata is currently")
FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])

WRITES = ("set", "set_if_version", "set_if_not_exists")


def writes(store: LoggingStore[Any]) -> int:
    return sum(store.counter[name] for name in WRITES) + store.items["set_many"]


def make(store: Any, zarr_format: Any) -> zarr.Group:
    group = zarr.create_group(store, zarr_format=zarr_format, attributes={"root": True})
    group.create_array("x", shape=(4,), chunks=(2,), dtype="i4", attributes={"units": "K"})
    group.create_array("sub/y", data=np.arange(3))
    group.create_group("sub/deep", attributes={"n": [1]})
    return group


def contents(group: zarr.Group) -> dict[str, Any]:
    found: dict[str, Any] = {"": group.attrs.asdict()}
    for path, node in group.members(None):
        found[path] = node.attrs.asdict()
        if isinstance(node, zarr.Array):
            found[path] = (node.shape, str(node.dtype), node.attrs.asdict())
    return found


def truth(store: Any) -> dict[str, Any]:
    return contents(zarr.open_group(store, use_consolidated=False, mode="r"))


@pytest.fixture
def store(store: Any) -> LoggingStore[Any]:
    return LoggingStore(store)


# --- consolidated ----------------------------------------------------------------------------------


def test_a_consolidated_group_shows_what_is_there(store: Any, zarr_format: Any) -> None:
    make(store, zarr_format)
    consolidated = zarr.consolidate_metadata(store)
    assert contents(consolidated) == truth(store)
    for opened in (zarr.open_consolidated(store), zarr.open_group(store), zarr.open(store)):
        assert contents(opened) == truth(store)
        assert set(opened.metadata.consolidated_metadata.flattened_metadata) == set(
            truth(store)
        ) - {""}
        assert "sub/y" in opened
        assert "sub/z" not in opened
        assert opened["sub"]["deep"].attrs["n"] == [1]
        assert opened["sub"].metadata.consolidated_metadata.get("y").shape == (3,)
        np.testing.assert_array_equal(opened["sub/y"][:], [0, 1, 2])


def test_children_cost_no_requests(store: Any, zarr_format: Any) -> None:
    make(store, zarr_format)
    zarr.consolidate_metadata(store)
    group = zarr.open_consolidated(store)
    before = Counter(store.counter), Counter(store.items)
    for found in (group, group["sub"]):
        dict(found.members(None))
        list(found)
        len(found)
        list(found.arrays())
        list(found.group_keys())
        found.tree()
        found.info_complete()
        assert found.get("nothing") is None
    assert group["sub/deep"].path == "sub/deep"
    assert (store.counter, store.items) == before


def test_opening_takes_few_requests(zarr_format: Any) -> None:
    store = LoggingStore(MemoryStore())
    make(store, zarr_format)
    zarr.consolidate_metadata(store)
    store.counter.clear()
    zarr.open_group(store, mode="r", zarr_format=zarr_format)
    assert store.counter == {"get": 1 if zarr_format == 3 else 4}


MUTATIONS: dict[str, Callable[[zarr.Group], Any]] = {
    "create_array": lambda g: g.create_array("new", shape=2, dtype="f4", attributes={"a": 1}),
    "create_array below": lambda g: g["sub"].create_array("p/q/new", shape=2, dtype="f4"),
    "create_group": lambda g: g.create_group("g/h", attributes={"b": 2}),
    "require_group": lambda g: g["sub"].require_group("new"),
    "overwrite": lambda g: g.create_group("sub", overwrite=True),
    "overwrite by an array": lambda g: g.create_array("sub", data=np.arange(5), overwrite=True),
    "overwrite an array": lambda g: g.create_group("x", overwrite=True),
    "setitem": lambda g: g.__setitem__("sub/y", np.zeros((2, 2))),
    "zeros": lambda g: g["sub/deep"].zeros(name="zeros", shape=3),
    "delete an array": lambda g: g.__delitem__("x"),
    "delete a group": lambda g: g.__delitem__("sub"),
    "delete below": lambda g: g["sub"].__delitem__("deep"),
    "move": lambda g: g.move("sub", "other/place"),
    "move below": lambda g: g["sub"].move("y", "z"),
    "resize": lambda g: g["x"].resize((9,)),
    "shape": lambda g: setattr(g["sub"]["y"], "shape", (1,)),
    "append": lambda g: g["sub/y"].append(np.arange(4)),
    "attributes of an array": lambda g: g["x"].attrs.update(a=1),
    "attributes of a group": lambda g: g["sub"].attrs.put({"a": {"b": None}}),
    "attributes of the root": lambda g: g.attrs.update(root=False, new=1),
    "hierarchy": lambda g: list(g["sub"].create_hierarchy({"i/j": g["x"].metadata})),
    "hierarchy over": lambda g: list(
        g.create_hierarchy({"sub": g["sub/deep"].metadata}, overwrite=True)
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_mutation_is_recorded_with_one_more_write(zarr_format: Any, name: str) -> None:
    change = MUTATIONS[name]
    plain, store = LoggingStore(MemoryStore()), LoggingStore(MemoryStore())
    change_plain = make(plain, zarr_format)
    plain.counter.clear()
    plain.items.clear()
    change(change_plain)
    make(store, zarr_format)
    zarr.consolidate_metadata(store)
    group = zarr.open_consolidated(store)
    store.counter.clear()
    store.items.clear()
    change(group)
    root_v3 = (
        name == "attributes of the root" and zarr_format == 3
    )  # the copy is in the same document
    assert writes(store) == writes(plain) + (0 if root_v3 else 1)
    assert contents(group) == truth(store) == truth(plain)
    assert contents(zarr.open_consolidated(store)) == truth(store)


def test_handles_of_nodes_that_change_keep_the_copy_true(zarr_format: Any) -> None:
    store = MemoryStore()
    make(store, zarr_format)
    zarr.consolidate_metadata(store)
    group = zarr.open_consolidated(store)
    array, sub = group["x"], group["sub"]
    array.resize((6,))
    view = array.with_config({"order": "F"})
    view.resize((7,))
    made = sub.create_array("made", shape=3, dtype="i1")
    made.resize((5,))
    sub.attrs["a"] = 1
    assert contents(zarr.open_consolidated(store)) == truth(store) == contents(group)
    assert truth(store)["x"][0] == (7,)
    assert truth(store)["sub/made"][0] == (5,)


def test_two_consolidated_handles_merge(store: Any, zarr_format: Any) -> None:
    make(store, zarr_format)
    zarr.consolidate_metadata(store)
    one, other = zarr.open_consolidated(store), zarr.open_consolidated(store)
    one.create_group("one")
    other.create_group("other")
    one["x"].resize((8,))
    del other["sub"]
    one.attrs["one"] = 1
    other.attrs["other"] = 1
    assert contents(zarr.open_consolidated(store)) == truth(store)
    assert "other" in one  # seen when it recorded its own change
    assert other.refresh() is other
    assert contents(other) == contents(one.refresh()) == truth(store)


def test_what_others_do_is_not_seen(store: Any, zarr_format: Any) -> None:
    make(store, zarr_format)
    zarr.consolidate_metadata(store)
    direct = zarr.open_array(store, path="x")  # opened by itself: its ancestors are not looked for
    direct.resize((9,))
    assert zarr.open_group(store)["x"].shape == (4,)
    assert zarr.open_group(store, use_consolidated=False)["x"].shape == (9,)
    with pytest.raises(MetadataValidationError, match="not valid JSON"):
        zarr.consolidate_metadata(break_document(store, "sub/y", zarr_format))


def break_document(store: Any, path: str, zarr_format: Any) -> Any:
    store.set(f"{path}/{'zarr.json' if zarr_format == 3 else '.zarray'}", b"no document")
    return store


def test_refreshing_writes_nothing(zarr_format: Any) -> None:
    store = LoggingStore(MemoryStore())
    make(store, zarr_format)
    zarr.consolidate_metadata(store)
    zarr.open_array(store, path="x").resize((9,))
    store.counter.clear()
    group = zarr.open_consolidated(store, mode="r")
    assert group["x"].refresh().shape == (9,)
    assert group.refresh()["x"].shape == (4,)  # the copy is not true, and is not mended by reading
    assert group["sub"].refresh().path == "sub"
    assert writes(store) == 0


def test_use_consolidated(store: Any, zarr_format: Any) -> None:
    make(store, zarr_format)
    with pytest.raises(ValueError, match="Consolidated metadata requested"):
        zarr.open_group(store, use_consolidated=True)
    with pytest.raises(ValueError, match="not found"):
        zarr.open_consolidated(store)
    assert zarr.open_group(store).metadata.consolidated_metadata is None
    zarr.consolidate_metadata(store)
    assert zarr.open_group(store, use_consolidated=False).metadata.consolidated_metadata is None
    with pytest.raises(TypeError, match="use_consolidated"):
        zarr.open_consolidated(store, use_consolidated=False)


def test_open_consolidated_creates_nothing() -> None:
    store = MemoryStore()
    for mode in (None, "a"):
        with pytest.raises(ValueError, match="No group found"):
            zarr.open_consolidated(store, mode=mode)
    assert list(store.list()) == []


def test_consolidated_metadata_under_another_key() -> None:
    store = MemoryStore()
    make(store, 2)
    zarr.consolidate_metadata(store)
    store.set("copies", store.get(".zmetadata"))
    store.delete(".zmetadata")
    assert zarr.open_group(store).metadata.consolidated_metadata is None
    group = zarr.open_group(store, use_consolidated="copies")
    group.create_group("new")
    assert "new" in zarr.open_group(store, use_consolidated="copies").refresh()
    assert ".zmetadata" not in set(store.list())
    with pytest.raises(ValueError, match="'nothing'"):
        zarr.open_group(store, use_consolidated="nothing")


def test_a_part_of_a_hierarchy_is_consolidated(store: Any, zarr_format: Any) -> None:
    make(store, zarr_format)
    zarr.consolidate_metadata(store, path="sub")
    part = zarr.open_consolidated(store, path="sub")
    part.create_group("new")
    assert list(part) == list(zarr.open_consolidated(store, path="sub")) == ["deep", "new", "y"]
    root = zarr.open_group(store)
    assert root.metadata.consolidated_metadata is None
    assert root["sub"].metadata.consolidated_metadata is not None  # used from there on
    assert truth(store)["sub/new"] == {}
    zarr.consolidate_metadata(store)
    assert contents(zarr.open_consolidated(store)) == truth(store)


def test_consolidating_again_takes_what_is_there(zarr_format: Any) -> None:
    store = MemoryStore()
    make(store, zarr_format)
    zarr.consolidate_metadata(store)
    zarr.open_group(store, use_consolidated=False).create_group("late")
    assert "late" not in zarr.open_group(store)
    assert "late" in zarr.open_group(store).consolidate()
    assert contents(zarr.open_consolidated(store)) == truth(store)


def test_somebody_removes_the_copy(zarr_format: Any) -> None:
    store = MemoryStore()
    make(store, zarr_format)
    zarr.consolidate_metadata(store)
    group = zarr.open_consolidated(store)
    if zarr_format == 2:
        store.delete(".zmetadata")
    else:
        document = json.loads(bytes(store.get("zarr.json")))
        del document["consolidated_metadata"]
        store.set("zarr.json", json.dumps(document).encode())
    group.create_group("new")
    group.attrs["a"] = 1
    assert "new" in group
    assert truth(store)["new"] == {}
    assert zarr.open_group(store).metadata.consolidated_metadata is None


def test_a_store_may_refuse_consolidated_metadata() -> None:
    class Refusing(MemoryStore):
        supports_consolidated_metadata = False

    store = Refusing()
    make(store, 3)
    with pytest.raises(TypeError, match="doesn't support consolidated metadata"):
        zarr.consolidate_metadata(store)


def test_the_warning_of_format_3() -> None:
    store = MemoryStore()
    make(store, 3)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        zarr.consolidate_metadata(store)
    assert [warning.category for warning in found] == [ZarrUserWarning]
    assert found[0].filename == __file__  # it is about this line
    make(old := MemoryStore(), 2)
    with warnings.catch_warnings(action="error"):
        zarr.consolidate_metadata(old)


# --- documents -------------------------------------------------------------------------------------


def test_the_document_of_format_3() -> None:
    store = MemoryStore()
    group = make(store, 3)
    zarr.consolidate_metadata(store)
    document = json.loads(bytes(store.get("zarr.json")))
    copies = document.pop("consolidated_metadata")
    assert document == {"attributes": {"root": True}, "zarr_format": 3, "node_type": "group"}
    assert copies.pop("metadata") == {
        path: json.loads(bytes(store.get(f"{path}/zarr.json"))) for path, _ in group.members(None)
    }
    assert copies == {"kind": "inline", "must_understand": False}


def test_the_document_of_format_2() -> None:
    store = MemoryStore()
    make(store, 2)
    documents = {k: json.loads(bytes(store.get(k))) for k in store.list() if "/." in f"/{k}"}
    zarr.consolidate_metadata(store)
    assert json.loads(bytes(store.get(".zmetadata"))) == {
        "zarr_consolidated_format": 1,
        "metadata": documents,
    }


@pytest.mark.parametrize("indent", [0, 4])
def test_the_document_is_json_whatever_the_indent(zarr_format: Any, indent: int) -> None:
    store = MemoryStore()
    with zarr.config.set({"json_indent": indent}):
        make(store, zarr_format)
        zarr.consolidate_metadata(store)
        zarr.open_consolidated(store).create_group("new")
        empty = zarr.create_group(MemoryStore(), zarr_format=zarr_format)
        assert list(empty.consolidate()) == []
        assert list(zarr.open_consolidated(empty.store)) == []
    assert contents(zarr.open_consolidated(store)) == truth(store)


def test_documents_of_other_writers_are_understood() -> None:
    child = {"zarr_format": 3, "node_type": "group", "attributes": {"n": 1}}
    nested = {**child, "consolidated_metadata": {"kind": "inline", "metadata": {}}}
    document = {
        "zarr_format": 3,
        "node_type": "group",
        "consolidated_metadata": {"kind": "inline", "metadata": {"b/c": child, "b": nested}},
    }
    group = zarr.open_group({"zarr.json": json.dumps(document).encode()}, mode="r")
    assert contents(group) == {"": {}, "b": {"n": 1}, "b/c": {"n": 1}}
    flat = {
        ".zgroup": {"zarr_format": 2},
        ".zattrs": {},
        "b/.zgroup": {"zarr_format": 2, "consolidated_metadata": {"metadata": {}}},
        "b/.zattrs": {"n": 1},
        "only/.zattrs": {},
        "b/other": 5,
    }
    document = {"zarr_consolidated_format": 1, "metadata": flat}
    store = {".zgroup": b'{"zarr_format": 2}', ".zmetadata": json.dumps(document).encode()}
    assert contents(zarr.open_group(store, mode="r")) == {"": {}, "b": {"n": 1}}


@pytest.mark.parametrize(
    "copies",
    [
        5,
        {"kind": "other", "metadata": {}},
        {"kind": "inline", "metadata": []},
        {"kind": "inline", "metadata": {"a": 5}},
        {"kind": "inline", "metadata": {"../a": {"zarr_format": 3, "node_type": "group"}}},
        {"kind": "inline", "metadata": {"a": {"zarr_format": 3, "node_type": "array"}}},
        {"kind": "inline", "metadata": {"a": {"zarr_format": 2}}},
    ],
)
def test_damaged_copies_are_metadata_errors(copies: Any) -> None:
    document = {"zarr_format": 3, "node_type": "group", "consolidated_metadata": copies}
    store = {"zarr.json": json.dumps(document).encode()}
    with pytest.raises(MetadataValidationError, match="consolidated"):
        zarr.open_group(store, mode="r").members()
    assert list(zarr.open_group(store, use_consolidated=False)) == []


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"metadata": {}},
        {"zarr_consolidated_format": 2, "metadata": {}},
        {"zarr_consolidated_format": 1, "metadata": {"a/.zarray": 5}},
        {"zarr_consolidated_format": 1, "metadata": {"a/../../b/.zgroup": {"zarr_format": 2}}},
    ],
)
def test_damaged_zmetadata_is_a_metadata_error(document: Any) -> None:
    store = {".zgroup": b'{"zarr_format": 2}', ".zmetadata": json.dumps(document).encode()}
    with pytest.raises(MetadataValidationError):
        zarr.open_group(store, mode="r").members()
    assert list(zarr.open_group(store, use_consolidated=False)) == []


# --- many nodes ------------------------------------------------------------------------------------

MANY = 2000


@pytest.fixture(scope="module", params=[2, 3])
def many(request: pytest.FixtureRequest) -> zarr.Group:
    group = zarr.create_group(LoggingStore(MemoryStore()), zarr_format=request.param)
    like = zarr.create_array({}, shape=(9,), dtype="f4", zarr_format=request.param).metadata
    made = dict(group.create_hierarchy({f"a{number}": like for number in range(MANY)}))
    assert len(made) == MANY
    return group


def test_names_are_listed_without_reading_documents(many: zarr.Group) -> None:
    store = many.store
    store.counter.clear()
    assert sorted(many) == sorted(f"a{number}" for number in range(MANY))
    assert len(many) == MANY
    assert set(store.counter) == {"list_dir", "exists"}


def test_2000_arrays_in_one_group(many: zarr.Group) -> None:
    names = [name for name, _ in many.arrays()]
    assert len(names) == MANY
    consolidated = many.consolidate()
    assert gc.isenabled()
    store = many.store
    store.counter.clear()
    opened = zarr.open_consolidated(store)
    assert [opened[name].shape for name in names] == [(9,)] * MANY
    assert consolidated == opened
    assert sum(store.counter.values()) <= 7
    assert gc.isenabled()


def test_slow_stores_are_asked_in_batches() -> None:
    inner = LoggingStore(LatencyStore(MemoryStore()))
    group = zarr.create_group(inner)
    like = zarr.create_array({}, shape=(9,), dtype="f4").metadata
    names = [f"g{number % 7}/h/a{number}" for number in range(50)]
    inner.counter.clear()
    list(group.create_hierarchy(dict.fromkeys(names, like)))
    assert inner.counter["set_many"] == 1
    inner.counter.clear()
    assert group.nmembers(None) == 50 + 14
    assert set(inner.counter) == {"list_dir", "get_many"}
    assert inner.counter["get_many"] == 3  # one per level
    inner.counter.clear()
    assert [name for name, _ in group["g0/h"].arrays()] == sorted(
        name.rpartition("/")[2] for name in names if name.startswith("g0/")
    )
    assert inner.counter["get_many"] == 2  # the group, and its arrays


def test_create_hierarchy_at_the_top(store: Any, zarr_format: Any) -> None:
    array = zarr.create_array({}, shape=3, dtype="i1", zarr_format=zarr_format).metadata
    group = zarr.create_group({}, zarr_format=zarr_format, attributes={"n": 1}).metadata
    nodes = {"": group, "a/b": array, "c": group}
    made = dict(zarr.create_hierarchy(store=store, nodes=nodes))
    assert list(made) == ["", "a", "a/b", "c"]
    assert made["c"].attrs["n"] == zarr.open_group(store).attrs["n"] == 1
    assert truth(store)["a/b"][0] == (3,)
    with pytest.raises(ContainsGroupError):
        zarr.create_hierarchy(store=store, nodes={"c": group, "d": group})
    assert "d" not in truth(store)
    again = zarr.create_hierarchy(store=store, nodes={"a": group}, overwrite=True)
    assert [path for path, _ in again] == ["a"]
    assert truth(store) == {"": {"n": 1}, "a": {"n": 1}, "c": {"n": 1}}
    assert list(zarr.create_hierarchy(store=store, nodes={})) == []


def test_create_hierarchy_checks_first(zarr_format: Any) -> None:
    array = zarr.create_array({}, shape=3, dtype="i1", zarr_format=zarr_format).metadata
    other = zarr.create_array({}, shape=3, dtype="i1", zarr_format=5 - zarr_format).metadata
    for nodes, error in (
        ({"a": array, "a/b": array}, ContainsArrayError),
        ({"a": array, "/a/": array}, ValueError),
        ({"a": array, "b": other}, ValueError),
        ({"../a": array}, ValueError),
    ):
        store = MemoryStore()
        with pytest.raises(error):
            zarr.create_hierarchy(store=store, nodes=nodes)
        assert list(store.list()) == []
    store = MemoryStore()
    zarr.create_array(store, name="x", shape=3, dtype="i1")
    with pytest.raises(ContainsArrayError):
        zarr.create_hierarchy(store=store, nodes={"x/y": array})


def test_an_error_while_writing_is_raised() -> None:
    class Full(WrapperStore[Any]):
        def set_many(self, items: Any) -> Any:
            for result in self._store.set_many(items):
                yield result._replace(error=OSError("no space")) if result.index == 2 else result

    array = zarr.create_array({}, shape=3, dtype="i1").metadata
    with pytest.raises(OSError, match="no space"):
        zarr.create_hierarchy(store=Full(MemoryStore()), nodes={"a": array, "b": array})


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently")
def test_consolidated_metadata_as_an_object(zarr_format: Any) -> None:
    root = zarr.create_group({}, zarr_format=zarr_format)
    root.create_array("g/h/x", shape=2, dtype="i1", attributes={"n": 1})
    root.create_array("y", shape=3, dtype="i1")
    nodes = zarr.consolidate_metadata(root.store).metadata.consolidated_metadata
    assert nodes is not None
    assert list(nodes.metadata) == ["g", "y"]
    inside = nodes.metadata["g"].consolidated_metadata
    assert list(inside.metadata) == ["h"]
    assert list(inside.flattened_metadata) == ["h", "h/x"]
    assert list(nodes.flattened_metadata) == ["g", "g/h", "g/h/x", "y"]
    kind = type(nodes)
    for again in (kind(metadata=nodes.metadata), kind(metadata=nodes.flattened_metadata)):
        assert again.flattened_metadata == nodes.flattened_metadata
        assert again.zarr_format == zarr_format
    assert kind(metadata={}).metadata == {}
    if zarr_format == 3:
        assert kind.from_dict(nodes.to_dict()) == nodes
    with pytest.raises(MetadataValidationError, match="inline"):
        kind.from_dict({"kind": "other", "metadata": {}})


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently")
def test_nodes_that_consolidated_metadata_do_not_know(zarr_format: Any) -> None:
    store = MemoryStore()
    zarr.create_group(store, zarr_format=zarr_format).create_array("old", data=[1, 2])
    root = zarr.consolidate_metadata(store)
    others = zarr.open_group(store, use_consolidated=False)
    others.create_array("a", data=[3])
    others.create_group("g", attributes={"n": 1})
    others.create_array("b", data=[4])
    del others["old"]
    with pytest.raises(ContainsArrayError):  # not overwritten
        zarr.copy(zarr.array([5]), root, name="a")
    assert others["a"][...] == 3
    assert root.require_array("a", shape=1)[...] == 3
    assert root.require_group("g").attrs["n"] == 1
    with pytest.raises(ContainsArrayError):
        root.require_group("b")
    del root["old"]
    assert sorted(zarr.open_consolidated(store)) == ["a", "g"]
