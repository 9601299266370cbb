"""Documents of nodes in stores: found, changed without losing updates, erased."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import from_threads

import zarr_core as zarr
from zarr_core.errors import (
    ArrayNotFoundError,
    ConflictError,
    ContainsArrayAndGroupError,
    ContainsArrayError,
    ContainsGroupError,
    GroupNotFoundError,
    InvalidKeyError,
    MetadataValidationError,
    NodeNotFoundError,
    ZarrUserWarning,
)
from zarr_core.hierarchy.stored_nodes import (
    check_absent,
    create_ancestors,
    delete_keys,
    erase_node,
    missing_ancestors,
    node_keys,
    read_array,
    read_group,
    read_node,
    stored_chunks,
    update_node,
    write_node,
)
from zarr_core.metadata import ArrayMetadata, GroupMetadata
from zarr_core.storage import (
    LatencyStore,
    LocalStore,
    LoggingStore,
    MemoryStore,
    Store,
    StorePath,
    Value,
    WrapperStore,
    Writable,
)

FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])


def metadata(zarr_format: Any = 3, **options: Any) -> ArrayMetadata:
    given = {"shape": (4, 4), "chunks": (2, 2), "dtype": "i4", **options}
    return zarr.create_array({}, zarr_format=zarr_format, **given).metadata


# --- finding ---------------------------------------------------------------------------------------


@FORMATS
@pytest.mark.parametrize("path", ["", "a", "a/b c/%d"])
def test_a_node_is_found_where_it_was_written(store: Store, path: str, zarr_format: Any) -> None:
    place = StorePath(store, path)
    assert read_node(place) is None
    written = metadata(zarr_format, attributes={"x": 1})
    write_node(place, written)
    assert read_node(place) == read_node(place, zarr_format) == read_array(place) == written
    assert read_node(place, 5 - zarr_format) is None
    with pytest.raises(GroupNotFoundError, match="An array exists in store"):
        read_group(place)
    group = GroupMetadata({"y": 2}, zarr_format)
    write_node(place / "g", group)
    assert read_group(place / "g") == group
    with pytest.raises(ArrayNotFoundError, match="A group exists in store"):
        read_array(place / "g")
    with pytest.raises(ArrayNotFoundError, match=r"No array found in store .* at path"):
        read_array(place / "h")
    with pytest.raises(ValueError, match="4"):
        read_node(place, 4)  # type: ignore[arg-type]


def test_how_many_requests_finding_takes() -> None:
    store = LoggingStore(MemoryStore())
    place = StorePath(store, "a")
    write_node(place, metadata())
    for zarr_format, expected in (
        (3, {"get": 1}),
        (None, {"get": 1, "exists": 2}),
        (2, {"get": 3}),
    ):
        store.counter.clear()
        read_node(place, zarr_format)
        assert dict(store.counter) == expected
    slow = LoggingStore(LatencyStore(MemoryStore({"a/zarr.json": store.get("a/zarr.json")})))
    for zarr_format, keys in ((3, 1), (None, 4), (2, 3)):
        slow.counter.clear()
        slow.items.clear()
        read_node(StorePath(slow, "a"), zarr_format)
        assert dict(slow.counter) in ({"get_many": 1}, {"get_many": 1, "exists": 2})
        assert dict(slow.items) == {"get_many": keys}


def test_two_formats_at_one_place(store: Store) -> None:
    place = StorePath(store, "a")
    write_node(place, metadata(3))
    write_node(place, metadata(2, shape=(9, 9)))
    with pytest.warns(ZarrUserWarning, match=r"Both zarr\.json.*\.zarray"):
        found = read_node(place)
    assert isinstance(found, ArrayMetadata)
    assert found.zarr_format == 3
    assert read_array(place, 2).shape == (9, 9)
    assert read_array(place, 3).shape == (4, 4)


def test_array_and_group_of_format_2_at_one_place(store: Store) -> None:
    place = StorePath(store, "a")
    write_node(place, metadata(2))
    write_node(place, GroupMetadata(zarr_format=2))
    with pytest.raises(ContainsArrayAndGroupError, match="array and of a group"):
        read_node(place)


def test_attributes_alone_are_no_node(store: Store) -> None:
    store.set("a/.zattrs", b"{}")
    assert read_node(StorePath(store, "a")) is None
    check_absent(StorePath(store, "a"))


def test_what_is_in_the_way_of_a_document_is_no_node(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "dir" / "zarr.json").mkdir(parents=True)
    store = LocalStore(tmp_path)
    assert read_node(StorePath(store, "file")) is None
    assert read_node(StorePath(store, "file/below")) is None
    assert read_node(StorePath(store, "dir")) is None


@pytest.mark.parametrize("kind", [PermissionError, TimeoutError, OSError])
def test_a_document_that_cannot_be_read_is_an_error(kind: type[OSError]) -> None:
    class Failing(WrapperStore[MemoryStore]):
        def get(self, key: str, byte_range: Any = None) -> Value | None:
            raise kind("no")

    for store in (Failing(MemoryStore()), LatencyStore(Failing(MemoryStore()))):
        for zarr_format in (None, 2, 3):
            with pytest.raises(kind, match="no"):
                read_node(StorePath(store, "a"), zarr_format)
        with pytest.raises(kind):
            check_absent(StorePath(store, "a"))
        with pytest.raises(kind):
            zarr.create_array(store, shape=1, dtype="i4")


# --- changing --------------------------------------------------------------------------------------


def plus(name: str) -> Callable[[Any], Any]:
    return lambda old: old.update_attributes({**old.attributes, name: 1})


@FORMATS
def test_a_change_is_made_to_what_is_stored_now(store: Store, zarr_format: Any) -> None:
    place = StorePath(store, "a")
    stale = metadata(zarr_format)
    write_node(place, stale)
    first = update_node(place, stale, plus("x"))
    second = update_node(place, stale, plus("y"))
    assert first.attributes == {"x": 1}
    assert second.attributes == {"x": 1, "y": 1}
    assert read_array(place) == second
    update_node(place, stale, lambda old: old.update_shape((8, 8)))
    assert read_array(place).shape == (8, 8)
    assert read_array(place).attributes == {"x": 1, "y": 1}


def test_nothing_is_written_when_nothing_changes() -> None:
    store = LoggingStore(MemoryStore())
    place = StorePath(store, "a")
    written = metadata()
    write_node(place, written)
    store.counter.clear()
    assert update_node(place, written, lambda old: old) == written
    assert dict(store.counter) == {"get_versioned": 1}


class Busy(WrapperStore[MemoryStore]):
    """Somebody else changes a document right before it is written, a number of times."""

    times = 0

    def set_if_version(self, key: str, value: Writable, version: str | None) -> bool:
        if self.times:
            self.times -= 1
            document = json.loads(self.store.get(key) or b"{}")
            owner = document if key.endswith(".zattrs") else document.setdefault("attributes", {})
            owner[f"other{self.times}"] = 1
            self.store.set(key, json.dumps(document).encode())
        return super().set_if_version(key, value, version)


@FORMATS
def test_a_change_is_made_again_when_others_were_faster(zarr_format: Any) -> None:
    store = Busy(MemoryStore())
    place = StorePath(store, "a")
    written = metadata(zarr_format)
    write_node(place, written)
    store.times = 3
    found = update_node(place, written, plus("x")).attributes
    assert found == read_array(place).attributes == {"other2": 1, "other1": 1, "other0": 1, "x": 1}
    store.times = 1000
    with pytest.raises(ConflictError, match="at every attempt"):
        update_node(place, written, plus("y"))
    assert "y" not in read_array(place).attributes


def test_threads_do_not_lose_changes(store: Store) -> None:
    place = StorePath(store, "a")
    written = metadata()
    write_node(place, written)

    def work(number: int) -> None:
        for i in range(10):
            update_node(place, written, plus(f"{number}.{i}"))

    from_threads(work, 6)
    assert len(read_array(place).attributes) == 60


def test_a_node_that_is_gone_or_another_one_is_not_written_again(store: Store) -> None:
    place = StorePath(store, "a")
    with pytest.raises(NodeNotFoundError, match="does not exist any more"):
        update_node(place, metadata(), plus("x"))
    write_node(place, GroupMetadata())
    with pytest.raises(NodeNotFoundError, match="another type"):
        update_node(place, metadata(), plus("x"))
    assert read_group(place).attributes == {}
    with pytest.raises(ZeroDivisionError):
        update_node(place, GroupMetadata(), lambda old: 1 / 0)  # type: ignore[arg-type, return-value]
    update_node(place, GroupMetadata(), plus("x"))  # its lock was given back


# --- creating --------------------------------------------------------------------------------------


@FORMATS
def test_what_is_there_already(store: Store, zarr_format: Any) -> None:
    check_absent(StorePath(store, "a"))
    write_node(StorePath(store, "a"), metadata(zarr_format))
    write_node(StorePath(store, "g"), GroupMetadata(zarr_format=zarr_format))
    with pytest.raises(ContainsArrayError, match=r"An array exists in store"):
        check_absent(StorePath(store, "a"))
    with pytest.raises(ContainsGroupError, match=r"A group exists in store"):
        check_absent(StorePath(store, "g"))
    store.set("d/zarr.json", b"{")
    with pytest.raises(ContainsArrayError):
        check_absent(StorePath(store, "d"))


@FORMATS
def test_groups_above(store: Store, zarr_format: Any) -> None:
    place = StorePath(store, "a/b/c")
    assert missing_ancestors(place, zarr_format) == ["a/b", "a", ""]
    create_ancestors(place, zarr_format)
    assert missing_ancestors(place, zarr_format) == []
    for path in ("", "a", "a/b"):
        assert read_group(StorePath(store, path)).zarr_format == zarr_format
    assert read_node(place) is None
    assert missing_ancestors(StorePath(store, "a/x/y"), zarr_format) == ["a/x"]
    assert missing_ancestors(StorePath(store, ""), zarr_format) == []
    write_node(place, metadata(zarr_format))
    for below in ("a/b/c/d", "a/b/c/d/e"):
        with pytest.raises(ContainsArrayError, match="is an array - only groups"):
            missing_ancestors(StorePath(store, below), zarr_format)


def test_a_group_that_somebody_else_creates_meanwhile_stays() -> None:
    store = MemoryStore()
    missing = missing_ancestors(StorePath(store, "a/b"), 3)
    write_node(StorePath(store, "a"), GroupMetadata({"mine": True}))
    create_ancestors(StorePath(store, "a/b"), 3, missing)
    assert read_group(StorePath(store, "a")).attributes == {"mine": True}


# --- erasing ---------------------------------------------------------------------------------------


def test_erasing_takes_what_belongs_to_nodes(store: Store) -> None:
    group = zarr.create_group(store, path="g")
    group.create_array("x", data=[[1, 2], [3, 4]])
    group.create_array("deep/y", data=[1, 2, 3], chunks=1)
    zarr.create_array(store, name="g/old", data=[1], zarr_format=2)
    zarr.create_array(store, name="gg", data=[1])
    mine = {"g/notes", "g/deep/c0", "g/deep/1", "g/x/c/a", "g/c/0"}
    for key in mine:
        store.set(key, b"mine")
    before = set(store.list())
    chunks, attributes, below, own = node_keys(StorePath(store, "g"))
    assert set(chunks) == {"g/x/c/0/0", "g/deep/y/c/0", "g/deep/y/c/1", "g/deep/y/c/2", "g/old/0"}
    assert (attributes, own) == ([], ["g/zarr.json"])
    erase_node(StorePath(store, "g"))
    assert set(store.list()) == before - {*chunks, *below, *own}
    assert set(store.list_prefix("g")) == mine


def test_chunks_go_before_documents() -> None:
    calls: list[str] = []

    class Recording(WrapperStore[MemoryStore]):
        def delete(self, key: str) -> None:
            calls.append(key)
            super().delete(key)

    store = Recording(MemoryStore())
    group = zarr.create_group(store)
    group.create_array("x", data=[1, 2], chunks=1)
    erase_node(StorePath(store, ""))
    assert set(calls[:2]) == {"x/c/0", "x/c/1"}
    assert calls[2:] == ["x/zarr.json", "zarr.json"]


def test_the_keys_of_arrays_are_told_by_their_own_grammar() -> None:
    store = MemoryStore()
    place = StorePath(store, "a")
    for separator, chunks, others in [
        (
            {"name": "default"},
            ["c/0/0", "c/12/3", "c/9"],
            ["c.0.0", "0.0", "c/0/x", "x/c/0", "c/-1"],
        ),
        ({"name": "default", "separator": "."}, ["c.0.0", "c.12.3"], ["c/0/0", "0.0", "c.0.x"]),
        ({"name": "v2"}, ["0.0", "12.3", "7"], ["0/0", "c.0.0", "0.x", "0.0.bak"]),
        ({"name": "v2", "separator": "/"}, ["0/0", "12/3"], ["0.0", "c/0/0", "0/x"]),
    ]:
        write_node(place, metadata(chunk_key_encoding=separator))
        for key in chunks + others:
            store.set(f"a/{key}", b"1")
        erase_node(place)
        assert set(store.list_prefix("a")) == {f"a/{key}" for key in others}
        store.clear()


def test_stored_chunks_are_listed_with_their_coordinates(store: Store) -> None:
    a = zarr.create_array(store, name="a", shape=(4, 4), chunks=(2, 2), dtype="i4")
    a[2:, :] = 1
    for key in ("a/c/9/9", "a/c/01/0", "a/x", "ab/c/0/0"):
        store.set(key, b"1")
    found = dict(stored_chunks(a.store_path, a.metadata))
    assert found == {"a/c/1/0": (1, 0), "a/c/1/1": (1, 1), "a/c/9/9": (9, 9)}


def test_keys_are_deleted_even_when_they_are_gone(store: Store) -> None:
    store.set("x", b"1")
    delete_keys(store, ["x", "y", "x"])
    assert list(store.list()) == []


def test_an_error_while_deleting_is_raised() -> None:
    class Failing(WrapperStore[MemoryStore]):
        def delete(self, key: str) -> None:
            if key == "y":
                raise PermissionError("no")
            super().delete(key)

    for store in (Failing(MemoryStore()), LatencyStore(Failing(MemoryStore()))):
        with pytest.raises(PermissionError):
            delete_keys(store, ["x", "y", "z"])


def test_damaged_documents_name_where_they_are(store: Store) -> None:
    store.set("a/zarr.json", b"[1]")
    with pytest.raises(MetadataValidationError) as caught:
        read_node(StorePath(store, "a"))
    assert f"zarr.json at {store}/a" in str(caught.value)


# --- names that no node can have -------------------------------------------------------------------

ONES = np.ones(1)
WAYS: dict[str, Callable[[Any, str, Any], Any]] = {
    "create_group": lambda s, n, f: zarr.create_group(s, path=n, zarr_format=f),
    "a group on the way": lambda s, n, f: zarr.create_group(s, path=f"a/{n}/b", zarr_format=f),
    "create_array": lambda s, n, f: zarr.create_array(
        s, name=n, shape=1, dtype="u1", zarr_format=f
    ),
    "create": lambda s, n, f: zarr.create(store=s, path=n, shape=1, zarr_format=f),
    "open_array": lambda s, n, f: zarr.open_array(s, path=n, mode="w", shape=1, zarr_format=f),
    "open": lambda s, n, f: zarr.open(s, path=n, mode="a", shape=1, zarr_format=f),
    "open_group": lambda s, n, f: zarr.open_group(s, path=n, mode="a", zarr_format=f),
    "group": lambda s, n, f: zarr.group(s, path=n, zarr_format=f),
    "a store path": lambda s, n, f: zarr.create_group(StorePath(s, n), zarr_format=f),
    "zeros": lambda s, n, f: zarr.zeros(1, store=s, path=n, zarr_format=f),
    "from_array": lambda s, n, f: zarr.from_array(s, data=ONES, name=n, zarr_format=f),
    "save_array": lambda s, n, f: zarr.save_array(s, ONES, path=n, zarr_format=f),
    "save_group": lambda s, n, f: zarr.save_group(s, path=n, a=ONES, zarr_format=f),
    "method create_group": lambda s, n, f: root(s, f).create_group(n),
    "method require_group": lambda s, n, f: root(s, f).require_group(n),
    "method create_array": lambda s, n, f: root(s, f).create_array(n, shape=1, dtype="u1"),
    "method require_array": lambda s, n, f: root(s, f).require_array(n, shape=1, dtype="u1"),
    "assignment": lambda s, n, f: root(s, f).__setitem__(n, ONES),
    "move": lambda s, n, f: root(s, f).move("child", n),
    "copy": lambda s, n, f: zarr.copy(root(s, f)["child"], root(s, f), name=n),
    "copy_store": lambda s, n, f: zarr.copy_store(root({}, f).store, s, dest_path=n),
    "create_hierarchy": lambda s, n, f: list(
        zarr.create_hierarchy(store=s, nodes={n: root({}, f).metadata})
    ),
}


def root(store: Any, zarr_format: Any) -> zarr.Group:
    group = zarr.open_group(store, mode="a", zarr_format=zarr_format)
    group.require_group("child")
    return group


@pytest.mark.parametrize("name", ["zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_no_node_has_the_name_of_a_document(way: str, name: str, zarr_format: Any) -> None:
    store = MemoryStore()
    with pytest.raises(InvalidKeyError, match=re.escape(name)):
        WAYS[way](store, name, zarr_format)
    assert not any(f"{name}/" in key for key in store.list_prefix(""))


@pytest.mark.parametrize(
    ("start", "kind"),
    [(b"\x89HDF\r\n\x1a\n", "an? HDF5 file"), (b"CDF\1", "a NetCDF 3 file"), (b"?", "a file")],
)
def test_a_file_of_another_format_is_named(start: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "data.h5").write_bytes(start)
    for function in (zarr.open, zarr.open_array, zarr.open_group):
        with pytest.raises(
            FileNotFoundError, match=rf"found in store .*: there is {kind}|and no array.*{kind}"
        ):
            function(tmp_path / "data.h5", mode="r")
