"""Groups: members found, made, changed and removed, through every handle and in both formats."""

import asyncio
import inspect
import json
import pickle
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_core as zarr
from zarr_core.errors import (
    ArrayNotFoundError,
    ContainsArrayError,
    ContainsGroupError,
    GroupNotFoundError,
    MetadataValidationError,
    NodeNotFoundError,
    ReadOnlyError,
    ZarrUserWarning,
)
from zarr_core.storage import LocalStore, LoggingStore, MemoryStore, PrefixStore

FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])


@pytest.fixture(params=[2, 3])
def group(request: pytest.FixtureRequest, store: Any) -> zarr.Group:
    return zarr.create_group(store, zarr_format=request.param)


def filled(group: zarr.Group) -> zarr.Group:
    group.create_array("b", shape=(4,), chunks=(2,), dtype="i4")
    group.create_array("a/x", data=np.arange(3))
    group.create_group("a/deep/er")
    group.create_group("Empty", attributes={"n": 1})
    return group


# --- finding ---------------------------------------------------------------------------------------


def test_members_are_found_by_name_and_path(group: zarr.Group) -> None:
    filled(group)
    assert isinstance(group["b"], zarr.Array)
    assert isinstance(group["a"], zarr.Group)
    np.testing.assert_array_equal(group["a/x"][...], [0, 1, 2])
    np.testing.assert_array_equal(group["/a//x/"][...], [0, 1, 2])
    assert group["a"]["deep"]["er"].path == "a/deep/er"
    assert group["Empty"].attrs["n"] == 1
    assert group.get("b") == group["b"]
    assert group.get("nothing") is None
    assert group.get("nothing", 5) == 5


@pytest.mark.parametrize("name", ["nothing", "b/c", "a/nothing", "empty"])
def test_a_missing_member_is_a_key_error(group: zarr.Group, name: str) -> None:
    filled(group)
    assert name not in group
    with pytest.raises(KeyError):
        group[name]


def test_the_error_about_a_missing_member_names_those_it_may_have_meant() -> None:
    group = zarr.create_group({})
    group.create_group("temperature")
    with pytest.raises(KeyError, match=r"temprature: no array or group .* there is 'temperature'"):
        group["temprature"]
    with pytest.raises(
        KeyError, match=r"pressure: no array or group of this name in memory://[0-9]*'$"
    ):
        group["pressure"]


@pytest.mark.parametrize("path", ["", "/"])
def test_a_slash_is_the_group_itself_as_it_is_stored_now(group: zarr.Group, path: str) -> None:
    filled(group)
    child = group["a"]
    assert isinstance(child, zarr.Group)
    for node in (group, child):
        assert path in node
        zarr.open_group(node.store_path).attrs["later"] = 1
        again = node[path]
        assert again == zarr.open_group(node.store_path)
        assert again.attrs["later"] == 1
        assert node.require_group(path) == again
    group.store.clear()
    assert path not in group
    with pytest.raises(KeyError):
        group[path]
    made = group.require_group(path)
    assert dict(made.attrs) == {}
    assert made == zarr.open_group(group.store_path, mode="r+")


@pytest.mark.parametrize("name", ["..", "a/../b", "."])
def test_a_path_out_of_the_group_is_refused(group: zarr.Group, name: str) -> None:
    assert name not in group
    with pytest.raises(ValueError, match="is invalid because"):
        group[name]
    with pytest.raises(ValueError, match="is invalid because"):
        group.create_group(name)


def test_contains(group: zarr.Group) -> None:
    filled(group)
    assert "a" in group
    assert "a/x" in group
    assert "c" not in group
    assert 5 not in group


def test_members_of_each_kind(group: zarr.Group) -> None:
    filled(group)
    assert list(group) == list(group.keys()) == ["Empty", "a", "b"]
    assert len(group) == group.nmembers() == 3
    assert list(group.array_keys()) == ["b"]
    assert list(group.group_keys()) == ["Empty", "a"]
    assert [array.path for array in group.array_values()] == ["b"]
    assert [child.path for child in group.group_values()] == ["Empty", "a"]
    assert dict(group.arrays()) == {"b": group["b"]}
    assert [name for name, _ in group.groups()] == ["Empty", "a"]
    assert {name: group[name] for name in group} == dict(group.members())


def test_members_below(group: zarr.Group) -> None:
    filled(group)
    everything = ["Empty", "a", "a/deep", "a/deep/er", "a/x", "b"]
    assert [path for path, _ in group.members(None)] == everything
    assert [path for path, _ in group.members(1)] == ["Empty", "a", "a/deep", "a/x", "b"]
    assert group.nmembers(None) == 6
    assert group.nmembers(1) == 5
    assert [node.path for _, node in group["a"].members(None)] == ["a/deep", "a/deep/er", "a/x"]
    with pytest.raises(ValueError, match="max_depth"):
        group.members(-1)


def test_get_array_and_get_group(group: zarr.Group) -> None:
    filled(group)
    assert group.get_array("a/x").shape == (3,)
    assert group.get_group("a").path == "a"
    for name in ("a", "nothing"):
        with pytest.raises(ArrayNotFoundError):
            group.get_array(name)
    for name in ("b", "nothing"):
        with pytest.raises(GroupNotFoundError):
            group.get_group(name)


def test_what_is_no_node_is_no_member(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path)
    group.create_group("g")
    (tmp_path / "file").write_text("foreign")
    (tmp_path / "directory" / "zarr.json").mkdir(parents=True)
    (tmp_path / "implied" / "x").mkdir(parents=True)
    (tmp_path / "back\\slash").mkdir()
    zarr.create_group(tmp_path / "implied" / "x")
    assert list(group) == ["g"]
    assert [name for name, _ in group.members(None)] == ["g"]
    assert "implied" not in group
    assert "implied/x" in group
    assert "file" not in group
    assert "file/x" not in group


def test_members_of_the_other_format_are_not_listed(store: Any) -> None:
    group = zarr.create_group(store)
    zarr.create_group(store, path="old", zarr_format=2)
    assert list(group) == []
    assert zarr.open_group(store, path="old").metadata.zarr_format == 2


def test_names_that_differ_by_case_are_kept_apart(group: zarr.Group) -> None:
    if isinstance(group.store, LocalStore) and (group.store.root.parent / "STORE").exists():
        pytest.skip("a file system that does not tell upper from lower case")
    for number, name in enumerate(["name", "Name", "NAME"]):
        group.create_group(name, attributes={"n": number})
    with warnings_ignored():
        consolidated = zarr.consolidate_metadata(group.store)
    for found in (group, consolidated, zarr.open_group(group.store, mode="r")):
        assert list(found) == ["NAME", "Name", "name"]
        assert [found[name].attrs["n"] for name in ("name", "Name", "NAME")] == [0, 1, 2]


def warnings_ignored() -> Any:
    import warnings

    return warnings.catch_warnings(action="ignore")


# --- making ----------------------------------------------------------------------------------------


def test_create_array_takes_the_format_of_the_group(group: zarr.Group) -> None:
    array = group.create_array("x", shape=(3,), dtype="f4", attributes={"a": [1]})
    assert array.metadata.zarr_format == group.metadata.zarr_format
    assert array.path == "x"
    assert array.name == "/x"
    array[:] = 5
    np.testing.assert_array_equal(group["x"][:], [5, 5, 5])
    assert group["x"].attrs.asdict() == {"a": [1]}


def test_create_is_create_array(group: zarr.Group) -> None:
    assert zarr.Group.create is zarr.Group.create_array
    assert group.create("x", shape=2, dtype="i1").shape == (2,)


@pytest.mark.parametrize("make", ["create_array", "create_group"])
def test_an_existing_member_is_not_overwritten(group: zarr.Group, make: str) -> None:
    filled(group)
    options = {"shape": 1, "dtype": "i1"} if make == "create_array" else {}
    create = getattr(group, make)
    with pytest.raises(ContainsArrayError):
        create("b", **options)
    with pytest.raises(ContainsGroupError):
        create("a", **options)
    with pytest.raises(ContainsArrayError):  # nothing is below an array
        create("b/c", **options)
    with pytest.raises(ContainsGroupError if make == "create_group" else ValueError):
        create("", **options)
    node = create("a", **options, overwrite=True)
    assert node == group["a"]
    assert "a/x" not in group


def test_parents_are_created(group: zarr.Group) -> None:
    group.create_array("p/q/x", shape=1, dtype="i1")
    assert list(group.group_keys()) == ["p"]
    assert list(group["p"].group_keys()) == ["q"]
    assert group["p/q"].metadata.zarr_format == group.metadata.zarr_format


def test_setitem_stores_an_array(group: zarr.Group) -> None:
    group["x"] = np.arange(4)
    group["x"] = [1.5, 2.5]
    group["n/y"] = np.int8(3)
    assert group["x"].dtype == np.float64
    assert group["n/y"].shape == ()
    assert group["n/y"][()] == 3


def test_require_group(group: zarr.Group) -> None:
    first = group.require_group("a")
    first.attrs["n"] = 1
    assert group.require_group("a") == first
    assert group.require_group("a", overwrite=True).attrs.asdict() == {}
    assert [g.path for g in group.require_groups("a", "b", "c/d")] == ["a", "b", "c/d"]
    group.create_array("x", shape=1, dtype="i1")
    with pytest.raises(TypeError, match="Incompatible object"):
        group.require_group("x")


def test_require_array(group: zarr.Group) -> None:
    array = group.require_array("x", shape=(3,), dtype="i2")
    assert group.require_array("x", shape=3, dtype="i2", exact=True) == array
    assert group.require_array("x", shape=3, dtype="f8") == array
    assert group.require_array("x", shape=3) == array
    assert group.require_array("x", shape=3, config={"order": "F"}).config.order == "F"
    assert group.require_array("made", shape=3).dtype == np.float64
    group.create_group("g")
    for name, options in {
        "x": {"shape": (4,)},
        "x ": {"shape": 3, "dtype": "i1"},
        "x  ": {"shape": 3, "dtype": "i4", "exact": True},
        "g": {"shape": 3},
    }.items():
        with pytest.raises(TypeError, match="Incompatible"):
            group.require_array(name.strip(), **options)


def test_the_functions_that_fill(group: zarr.Group) -> None:
    zeros = group.zeros(name="zeros", shape=(2,), dtype="i4")
    group.ones(name="ones", shape=2)
    group.full(name="full", shape=2, fill_value=7, dtype="i2")
    group.empty(name="empty", shape=2)
    group.zeros_like(name="zeros_like", data=zeros)
    group.ones_like(name="ones_like", data=np.zeros(2, "f4"))
    group.full_like(name="full_like", data=zeros, fill_value=3)
    group.empty_like(name="empty_like", data=zeros)
    assert {name: array[:].tolist() for name, array in group.arrays()} == {
        "empty": [0, 0],
        "empty_like": [0, 0],
        "full": [7, 7],
        "full_like": [3, 3],
        "ones": [1, 1],
        "ones_like": [1, 1],
        "zeros": [0, 0],
        "zeros_like": [0, 0],
    }
    assert group["ones_like"].dtype == np.float32
    other = 5 - group.metadata.zarr_format
    with pytest.raises(ValueError, match=r"array in a zarr_format=\d group"):
        group.zeros(name="other", shape=2, zarr_format=other)


def test_create_hierarchy(group: zarr.Group) -> None:
    like = group.create_array("like", shape=2, dtype="i1").metadata
    folder = group.create_group("folder").metadata
    made = dict(group.create_hierarchy({"h/i/x": like, "g": folder}))
    assert sorted(made) == ["g", "h", "h/i", "h/i/x"]
    assert made["h/i/x"] == group["h/i/x"]
    with pytest.raises(ContainsArrayError):
        group.create_hierarchy({"new": folder, "h/i/x": like})
    assert "new" not in group  # nothing was made
    with pytest.raises(ContainsArrayError):
        group.create_hierarchy({"like/below": like})
    other = zarr.create_group({}, zarr_format=5 - folder.zarr_format).metadata
    with pytest.raises(ValueError, match="another format"):
        group.create_hierarchy({"x": other})
    assert [path for path, _ in group.create_hierarchy({"h": folder}, overwrite=True)] == ["h"]
    assert list(group["h"]) == []


@FORMATS
def test_reserved_names_are_created_with_a_warning_and_never_hidden(zarr_format: Any) -> None:
    group = zarr.create_group({}, zarr_format=zarr_format)
    with pytest.warns(ZarrUserWarning, match="'__xarray_dataarray_variable__' is reserved"):
        group.create_array("__xarray_dataarray_variable__", data=np.arange(2))
    assert list(group.array_keys()) == ["__xarray_dataarray_variable__"]


def test_the_compressor_argument_still_works() -> None:
    group = zarr.create_group({})
    with pytest.warns(ZarrUserWarning, match=r"The `compressor` argument is deprecated\."):
        array = group.create_array("x", shape=2, dtype="i1", compressor=None)
    assert array.compressors == ()


# --- removing and renaming -------------------------------------------------------------------------


def test_del(group: zarr.Group) -> None:
    filled(group)
    group["b"][:] = 3
    del group["b"]
    del group["a"]
    assert list(group) == ["Empty"]
    for key in ("b", "", "Empty/x"):
        with pytest.raises(KeyError):
            del group[key]
    left = [key for key in group.store.list() if key.startswith(("a/", "b/"))]
    assert left == []


def test_move(group: zarr.Group) -> None:
    filled(group)
    group["a/x"].attrs["kept"] = True
    group.move("a", "new/place")
    assert "a" not in group
    np.testing.assert_array_equal(group["new/place/x"][:], [0, 1, 2])
    assert group["new/place/x"].attrs["kept"] is True
    assert group["new"].metadata.node_type == "group"
    assert group["new/place/deep/er"].path == "new/place/deep/er"
    with pytest.raises(NodeNotFoundError):
        group.move("a", "c")
    with pytest.raises(ContainsArrayError):
        group.move("new", "b")
    with pytest.raises(ContainsArrayError):
        group.move("new", "b/below")
    with pytest.raises(ValueError, match="cannot be moved"):
        group.move("new", "new/below")
    assert group.nmembers(None) == 7


FOREIGN = (
    "README.txt",
    "a/notes.md",
    "a/x/c/readme",
    "a/x/thumbs.db",
    "a/x/0.txt",
    "a/x/c/0/file",
    "b/.zarray.bak",
    "b/c.old",
    "other/data.csv",
)


def with_foreign_files(tmp_path: Path, zarr_format: Any) -> tuple[zarr.Group, dict[str, bytes]]:
    group = zarr.open_group(tmp_path, mode="w", zarr_format=zarr_format)
    filled(group)
    group["b"][:] = 1
    foreign = {}
    for name in FOREIGN:
        path = tmp_path / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError:  # a chunk is there
            continue
        path.write_bytes(name.encode())
        foreign[name] = name.encode()
    return group, foreign


@FORMATS
@pytest.mark.parametrize(
    "how", ["del", "overwrite", "overwrite array", "open w", "array w", "save"]
)
def test_foreign_files_are_never_removed(tmp_path: Path, zarr_format: Any, how: str) -> None:
    tmp_path = tmp_path / "data"
    group, foreign = with_foreign_files(tmp_path, zarr_format)
    (tmp_path / "a" / "x" / "link").symlink_to(tmp_path / "README.txt")
    match how:
        case "del":
            for name in list(group):
                del group[name]
        case "overwrite":
            zarr.create_group(tmp_path, overwrite=True)
        case "overwrite array":
            group.create_array("a", shape=3, dtype="i1", overwrite=True)
        case "open w":
            zarr.open_group(tmp_path, mode="w")
        case "array w":
            zarr.open_array(tmp_path, mode="w", shape=3, dtype="i1")
        case "save":
            zarr.save_group(str(tmp_path), np.arange(3))
    assert {name: (tmp_path / name).read_bytes() for name in foreign} == foreign
    assert (tmp_path / "a" / "x" / "link").is_symlink()
    kept = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    documents = {"zarr.json", ".zgroup", ".zarray", ".zattrs"}
    others = {name for name in kept - set(foreign) if name.rpartition("/")[2] not in documents}
    if how in ("del", "open w", "array w"):
        assert others <= {"a/x/link"}
    assert "a/x" not in zarr.open_group(tmp_path, mode="a") if how == "del" else True


# --- attributes ------------------------------------------------------------------------------------


JSON_VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "int": 2**70,
    "float": -1.5e300,
    "text": 'naïve ☃ \u0000 "',
    "list": [1, [2, {"x": None}], "y"],
    "object": {"": {"nested": [True]}},
    "": "an empty name",
}


def test_attributes_of_every_type(group: zarr.Group) -> None:
    group.attrs.update(JSON_VALUES)
    group.create_array("x", shape=1, dtype="i1").attrs.put(JSON_VALUES)
    assert zarr.open_group(group.store, mode="r").attrs.asdict() == JSON_VALUES
    assert group["x"].attrs.asdict() == JSON_VALUES
    assert dict(group.attrs) == JSON_VALUES
    assert len(group.attrs) == len(JSON_VALUES)


def test_attributes_are_a_mapping(group: zarr.Group) -> None:
    attrs = group.attrs
    attrs["a"] = 1
    assert attrs.setdefault("a", 2) == 1
    assert attrs.setdefault("b", [2]) == [2]
    assert attrs.pop("a") == 1
    assert attrs.get("a") is None
    assert "b" in attrs
    with pytest.raises(KeyError):
        del attrs["a"]
    with pytest.raises(KeyError):
        attrs["a"]
    attrs.put({"c": 3})
    assert attrs.asdict() == {"c": 3}
    del attrs["c"]
    assert zarr.open_group(group.store).attrs.asdict() == {}
    attrs.update({"d": 4}, e=5)
    attrs.clear()
    assert zarr.open_group(group.store).attrs.asdict() == {}
    assert repr(group.update_attributes({"f": 6}).attrs) == "{'f': 6}"


@pytest.mark.parametrize("bad", [{"x": object()}, {"x": {1, 2}}, {5: 1}, {"x": b"bytes"}])
def test_what_is_not_json_is_a_type_error(group: zarr.Group, bad: dict[Any, Any]) -> None:
    group.attrs["kept"] = 1
    for change in (group.attrs.put, group.attrs.update):
        with pytest.raises(TypeError):
            change(bad)
    assert zarr.open_group(group.store).attrs.asdict() == {"kept": 1}


def test_numpy_scalars_become_json(group: zarr.Group) -> None:
    group.attrs["n"] = np.float32(0.5)
    group.attrs["list"] = [np.int64(3), (1, 2)]
    assert group.attrs.asdict() == {"n": 0.5, "list": [3, [1, 2]]}
    assert type(group.attrs["n"]) is float


def test_nan_is_written_with_a_warning(group: zarr.Group) -> None:
    with pytest.warns(ZarrUserWarning, match="attribute 'missing_value' holds NaN"):
        group.attrs["missing_value"] = float("nan")
    assert np.isnan(zarr.open_group(group.store).attrs["missing_value"])
    group.attrs["text"] = "NaN"  # no warning


def test_two_handles_do_not_lose_each_others_attributes(group: zarr.Group) -> None:
    array = group.create_array("x", shape=4, dtype="i1")
    others = zarr.open_group(group.store), zarr.open_array(group.store, path="x")
    for one, other in zip((group, array), others, strict=True):
        one.attrs["one"] = 1
        other.attrs["other"] = 2
        one.attrs["three"] = 3
        del other.attrs["other"]
        assert one.refresh().attrs.asdict() == {"one": 1, "three": 3}
    others[1].resize((6,))
    array.attrs["four"] = 4
    assert group["x"].shape == (6,)
    assert group["x"].attrs.asdict() == {"one": 1, "three": 3, "four": 4}


def test_attributes_of_a_node_that_is_gone(group: zarr.Group) -> None:
    child = group.create_group("child")
    del group["child"]
    with pytest.raises(NodeNotFoundError):
        child.attrs["a"] = 1
    assert "child" not in group
    group.create_array("child", shape=1, dtype="i1")
    with pytest.raises(NodeNotFoundError):
        child.attrs["a"] = 1


# --- as an object ----------------------------------------------------------------------------------


def test_properties(group: zarr.Group) -> None:
    child = group.create_group("a/b")
    assert (child.path, child.name, child.basename) == ("a/b", "/a/b", "b")
    assert (group.path, group.name, group.basename) == ("", "/", "")
    assert child.store is group.store
    assert child.store_path == group.store_path / "a/b"
    assert child.read_only is False
    assert child.synchronizer is None
    assert child.metadata.node_type == "group"
    assert repr(child) == f"<Group {child.store_path}>"


def test_equality_and_pickle(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path, attributes={"a": [1]})
    assert group == zarr.open_group(tmp_path)
    assert group != zarr.create_group(tmp_path, path="b", attributes={"a": [1]})
    assert group != zarr.create_group({}, attributes={"a": [1]})
    assert group != "group"
    with pytest.raises(TypeError):
        hash(group)
    group["x"] = np.arange(3)
    copy = pickle.loads(pickle.dumps(group))
    assert copy == group
    assert list(copy) == list(group)
    with pytest.warns(ZarrUserWarning):
        consolidated = zarr.consolidate_metadata(tmp_path)
    copy = pickle.loads(pickle.dumps(consolidated["b"]))
    assert copy == consolidated["b"]
    array = pickle.loads(pickle.dumps(consolidated["x"]))
    array.resize((7,))  # recorded, though the copies were not pickled
    assert zarr.open_consolidated(tmp_path)["x"].shape == (7,)
    assert list(zarr.open_consolidated(tmp_path)) == ["b", "x"]


def test_a_group_from_its_document(store: Any) -> None:
    document = {"zarr_format": 3, "node_type": "group", "attributes": {"a": 1}}
    group = zarr.Group(document, store)
    assert group.attrs["a"] == 1
    assert list(store.list()) == []
    with pytest.raises(MetadataValidationError, match="node_type"):
        zarr.Group({"zarr_format": 3, "node_type": "array"}, store)


def test_from_store_and_open(store: Any) -> None:
    zarr.Group.from_store(store, attributes={"a": 1}, zarr_format=2)
    with pytest.raises(GroupNotFoundError):
        zarr.Group.open(store)  # format 3 by default, as zarr-python
    assert zarr.Group.open(store, zarr_format=None).attrs["a"] == 1
    assert zarr.Group.open(store, 2) == zarr.Group.from_store(store, overwrite=True) or True
    assert zarr.Group.open(store).attrs.asdict() == {}


def test_a_read_only_group_refuses_every_change(group: zarr.Group) -> None:
    filled(group)
    before = {key: bytes(group.store.get(key)) for key in group.store.list()}
    closed = zarr.open_group(group.store, mode="r")
    assert closed.read_only
    changes = [
        lambda: closed.create_group("new"),
        lambda: closed.create_array("new", shape=1, dtype="i1"),
        lambda: closed.zeros(name="new", shape=1),
        lambda: closed.require_group("new"),
        lambda: closed.create_hierarchy({"new": group.metadata}),
        lambda: closed.attrs.update(a=1),
        closed["Empty"].attrs.clear,
        lambda: closed["b"].resize((9,)),
        lambda: closed.move("b", "c"),
        lambda: closed.__delitem__("b"),
        lambda: closed.__setitem__("b", 1),
        closed.consolidate,
    ]
    for change in changes:
        with pytest.raises(ReadOnlyError):
            change()
    assert {key: bytes(group.store.get(key)) for key in group.store.list()} == before


def test_info(group: zarr.Group) -> None:
    filled(group)
    rows = dict(group.info_complete().rows())
    assert rows["Type"] == "Group"
    assert rows["No. members"] == "6"
    assert (rows["No. arrays"], rows["No. groups"]) == ("2", "4")
    assert group.info._zarr_format == group.metadata.zarr_format
    assert "No. members" not in repr(group.info)
    lines = repr(group.info).splitlines()
    assert len({line.index(" : ") for line in lines}) == 1  # a table
    assert "<table>" in group.info._repr_html_()
    assert group._repr_html_().startswith(group.info._repr_html_())


def test_tree() -> None:
    group = filled(zarr.create_group({}))
    assert repr(group.tree()) == (
        "/\n├── Empty\n├── a\n│   ├── deep\n│   │   └── er\n│   └── x (3,) int64\n└── b (4,) int32"
    )
    assert repr(group["a"].tree(level=0)) == "/a\n├── deep\n└── x (3,) int64"
    assert repr(group.tree(max_nodes=2)).splitlines()[-1].startswith("└── ...")
    assert repr(zarr.create_group({}).tree()) == "/"


def test_tree_as_html_is_escaped() -> None:
    group = zarr.create_group({})
    group.create_group("<script>")
    html = group.tree()._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_a_deep_hierarchy_needs_no_deep_stack() -> None:
    depth = 400
    group = zarr.create_group(store := {})
    list(group.create_hierarchy({"/".join("g" * depth): group.metadata}))
    with warnings_ignored():
        consolidated = zarr.consolidate_metadata(store)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + depth // 2)
    try:
        for found in (group, consolidated):
            assert found.nmembers(None) == sum(1 for _ in found.members(None)) == depth
            assert len(repr(found.tree()).splitlines()) == depth + 1
            assert found.tree()._repr_html_().count("<li>") == depth + 1
    finally:
        sys.setrecursionlimit(limit)


# --- twins -----------------------------------------------------------------------------------------

WITHOUT_TWIN = {
    "async_group", "attrs", "basename", "from_dict", "from_metadata", "create_at", "open_at", "info", "metadata", "name", "path",
    "read_only", "store", "store_path", "synchronizer",
}  # fmt: skip


def test_every_method_that_touches_a_store_has_a_twin() -> None:
    public = {name for name in vars(zarr.Group) if not name.startswith("_")}
    methods = {name for name in public if not name.endswith("_async")} - WITHOUT_TWIN
    special = {"getitem", "setitem", "delitem", "contains"}
    twins = {name.removesuffix("_async") for name in public if name.endswith("_async")}
    assert twins == methods | special
    for name in twins:
        assert inspect.iscoroutinefunction(getattr(zarr.Group, f"{name}_async")), name


def test_twins_do_what_the_methods_do(group: zarr.Group) -> None:
    async def program() -> None:
        array = await group.create_array_async("x", data=np.arange(3))
        child = await group.create_group_async("g")
        assert await group.getitem_async("x") == array
        assert await group.contains_async("g")
        assert await group.keys_async() == ("g", "x")
        assert await group.members_async() == (("g", child), ("x", array))
        assert await group.arrays_async() == (("x", array),)
        assert await group.nmembers_async(None) == 2
        assert repr(await group.tree_async()) == repr(group.tree())
        await group.setitem_async("y", np.arange(2))
        await group.delitem_async("g")
        await group.attrs.update_async({"a": 1})
        await group.move_async("y", "z")
        with pytest.raises(KeyError):
            await group.getitem_async("y")

    asyncio.run(program())
    assert list(group) == ["x", "z"]
    assert zarr.open_group(group.store).attrs["a"] == 1


# --- documents -------------------------------------------------------------------------------------


def test_documents_of_format_3() -> None:
    store = MemoryStore()
    zarr.create_group(store, path="a/b", attributes={"n": 1})
    assert sorted(store.list()) == ["a/b/zarr.json", "a/zarr.json", "zarr.json"]
    assert json.loads(bytes(store.get("a/b/zarr.json"))) == {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {"n": 1},
    }


def test_documents_of_format_2() -> None:
    store = MemoryStore()
    group = zarr.create_group(store, zarr_format=2)
    group.create_group("a", attributes={"n": 1})
    assert sorted(store.list()) == [".zgroup", "a/.zattrs", "a/.zgroup"]
    group["a"].attrs.clear()
    assert json.loads(bytes(store.get("a/.zattrs"))) == {}


@FORMATS
def test_a_damaged_member_is_an_error_and_can_be_removed(zarr_format: Any) -> None:
    store = MemoryStore()
    group = filled(zarr.create_group(store, zarr_format=zarr_format))
    document = "b/zarr.json" if zarr_format == 3 else "b/.zarray"
    store.set(document, b"{")
    with pytest.raises(MetadataValidationError, match="b"):
        group["b"]
    with pytest.raises(MetadataValidationError):
        list(group.members())
    assert list(group) == ["Empty", "a", "b"]
    del group["b"]
    assert list(group) == ["Empty", "a"]


@FORMATS
@pytest.mark.parametrize("wrapped", [False, True])
def test_removing_leaves_no_empty_directories(
    tmp_path: Path, zarr_format: Any, wrapped: bool
) -> None:
    store: Any = LocalStore(tmp_path / "x")
    if wrapped:
        store = LoggingStore(PrefixStore(LocalStore(tmp_path), "x"))
    group = filled(zarr.open_group(store, mode="w", zarr_format=zarr_format))
    group["b"][:] = 1
    group["a/x"][:] = 1
    (tmp_path / "x" / "a" / "deep" / "foreign").write_text("kept")
    del group["b"]
    group.move("Empty", "Full")
    del group["a"]
    directories = {p.name for p in (tmp_path / "x").rglob("*") if p.is_dir()}
    assert directories == {"Full", "a", "deep"}


@pytest.mark.filterwarnings("ignore::zarr_core.errors.ZarrUserWarning")
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_nested_attributes_are_copies(zarr_format: Any) -> None:
    nested = {"l": [1, {"k": [2]}]}
    group = zarr.create_group({}, zarr_format=zarr_format, attributes=nested)
    array = group.create_array("a", shape=3, dtype="i4", attributes=nested)
    shown: Any = zarr.consolidate_metadata(group.store_path)
    for node in (group, array, shown, shown["a"]):
        node.attrs["l"].append(3)
        node.attrs["l"][1]["k"].append(3)
        node.attrs.asdict()["l"].append(3)
        dict(node.attrs)["l"].append(3)
        next(iter(node.attrs.values())).append(3)
        assert node.attrs.asdict() == nested == dict(node.attrs)


def test_nodes_can_be_referenced_weakly() -> None:
    group = zarr.create_group({})
    array = group.create_array("a", shape=3, dtype="i4")
    for node in (group, array, group.attrs):
        found = weakref.ref(node)
        assert found() is node


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("kind", ["array", "group"])
def test_the_document_of_metadata_is_a_copy(kind: str, zarr_format: Any) -> None:
    node: Any = zarr.create_group({}, zarr_format=zarr_format)
    if kind == "array":
        node = node.create_array("a", shape=(3,), dtype="i4")
    node.attrs["l"] = [{"a": 1}]
    document: Any = node.metadata.to_dict()
    shown: Any = node.metadata.attributes
    assert type(shown) is dict
    for attributes in (document["attributes"], shown):
        attributes["l"][0]["a"] = 2
        attributes["l"].append(3)
        attributes["more"] = 1
    assert node.metadata.attributes == {"l": [{"a": 1}]}
    assert node.metadata.to_dict()["attributes"] == {"l": [{"a": 1}]}
    assert dict(node.attrs) == {"l": [{"a": 1}]}


def test_notebooks_complete_what_is_in_brackets() -> None:
    group = zarr.create_group({}, attributes={"units": "K", "n": 1})
    group.create_group("b")
    array = group.create_array("a", shape=2, dtype=[("x", "i4"), ("y", "f8")], fill_value=0)
    assert sorted(group._ipython_key_completions_()) == ["a", "b"]
    assert group.attrs._ipython_key_completions_() == ["units", "n"]
    assert array._ipython_key_completions_() == ["x", "y"]
    plain = group.create_array("c", shape=2, dtype="i4")
    assert plain._ipython_key_completions_() == []


@pytest.mark.parametrize("name", ["create_dataset", "require_dataset"])
def test_methods_of_zarr_2_say_what_they_are_called(name: str) -> None:
    group = zarr.create_group({})
    expected = name.replace("dataset", "array")
    with pytest.raises(AttributeError, match=f"{name} of zarr 2 is {expected}"):
        getattr(group, name)
    assert not hasattr(group, name)


def test_compressors_under_two_names() -> None:
    group = zarr.create_group({}, zarr_format=2)
    made = group.create_array("a", shape=2, dtype="i4", compressor=None)  # no warning in format 2
    assert made.metadata.compressor is None
    with pytest.raises(ValueError, match="both `compressor` and `compressors`"):
        group.create_array("b", shape=2, dtype="i4", compressor=None, compressors=None)


def test_fields_that_nobody_understands_are_not_written() -> None:
    with pytest.raises(zarr.errors.MetadataValidationError, match="my_extension"):
        zarr.types.GroupMetadata(extra_fields={"my_extension": {"must_understand": True}})
    known = {"my_extension": {"must_understand": False}}
    made = zarr.types.GroupMetadata(extra_fields=known)
    assert made.to_dict()["my_extension"] == {"must_understand": False}
