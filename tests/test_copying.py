"""Copies of nodes and of stores, in and between formats, with every answer to what exists."""

import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_core as zarr
from zarr_core.errors import CopyError, ReadOnlyError
from zarr_core.storage import LatencyStore, LocalStore, MemoryStore, ZipStore

pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata is currently")


def source_group(zarr_format: Any = 3) -> zarr.Group:
    group = zarr.create_group({}, zarr_format=zarr_format)
    foo = group.create_group("foo", attributes={"n": 1})
    foo.create_array(
        "bar/baz", data=np.arange(100), chunks=(10,), attributes={"units": "m"}, fill_value=7
    )
    foo.create_array("spam", data=np.arange(6.0).reshape(2, 3))
    return group


def values(group: zarr.Group) -> dict[str, Any]:
    return {
        path: (node.attrs.asdict(), node[...].tolist() if isinstance(node, zarr.Array) else None)
        for path, node in group.members(None)
    }


@pytest.mark.parametrize("formats", [(3, 3), (2, 2), (2, 3), (3, 2)])
def test_copy_of_a_group(formats: tuple[Any, Any]) -> None:
    source, dest = source_group(formats[0]), zarr.create_group({}, zarr_format=formats[1])
    lines: list[str] = []
    assert zarr.copy(source["foo"], dest, log=lines.append) == (4, 0, 848)
    assert lines == [
        "copy /foo",
        "copy /foo/bar",
        "copy /foo/bar/baz (100,) int64",
        "copy /foo/spam (2, 3) float64",
        "all done: 4 copied, 0 skipped, 848 bytes copied",
    ]
    assert values(dest) == values(source)
    copied = dest["foo/bar/baz"]
    assert copied.metadata.zarr_format == formats[1]
    assert copied.chunks == (10,)
    assert copied.fill_value == 7
    if formats[0] == formats[1]:
        assert copied.metadata == source["foo/bar/baz"].metadata


def test_copy_of_an_array_under_another_name() -> None:
    source, dest = source_group(), zarr.create_group({})
    assert zarr.copy(source["foo/spam"], dest, name="a/b") == (1, 0, 48)
    assert values(dest)["a/b"] == ({}, [[0, 1, 2], [3, 4, 5]])
    with pytest.raises(TypeError, match="no name"):
        zarr.copy(source, dest)
    assert zarr.copy(source, dest, name="all")[0] == 5
    assert values(dest["all"]) == values(source)


def test_copy_all_and_shallow_and_without_attrs() -> None:
    source, dest = source_group(), zarr.create_group({})
    assert zarr.copy_all(source, dest, without_attrs=True) == (4, 0, 848)
    assert {attributes == {} for attributes, _ in values(dest).values()} == {True}
    dest = zarr.create_group({})
    assert zarr.copy(source["foo"], dest, shallow=True)[0] == 3
    assert list(values(dest)) == ["foo", "foo/bar", "foo/spam"]
    dest = zarr.create_group({})
    assert zarr.copy_all(source["foo"], dest, shallow=True)[0] == 2
    assert list(values(dest)) == ["bar", "spam"]


def test_options_of_the_arrays() -> None:
    dest = zarr.create_group({})
    zarr.copy_all(source_group(), dest, chunks=-1, compressors=None)
    assert dest["foo/bar/baz"].chunks == (100,)
    assert dest["foo/bar/baz"].compressors == ()
    assert dest["foo/bar/baz"][5] == 5


def test_if_exists() -> None:
    source, dest = source_group(), zarr.create_group({})
    mine = dest.create_array("foo/spam", shape=(2, 3), dtype="f8", chunks=(1, 3), fill_value=-1)
    dest.create_array("foo/other", shape=1, dtype="i1")
    mine[0] = 9
    with pytest.raises(CopyError, match="foo/spam"):
        zarr.copy(source["foo"], dest)
    assert zarr.copy(source["foo"], dest, if_exists="skip") == (3, 1, 800)
    assert dest["foo/spam"][:].tolist() == [[9, 9, 9], [-1, -1, -1]]
    assert zarr.copy(source["foo/spam"], dest["foo"], if_exists="skip_initialized") == (1, 0, 48)
    assert dest["foo/spam"][:].tolist() == [[0, 1, 2], [3, 4, 5]]
    dest["foo/spam"][:] = 5
    assert zarr.copy(source["foo/spam"], dest["foo"], if_exists="skip_initialized") == (0, 1, 0)
    assert zarr.copy(source["foo"], dest, if_exists="replace") == (4, 0, 848)
    assert values(dest)["foo/spam"] == values(source)["foo/spam"]
    assert "foo/other" in dest  # groups are merged
    with pytest.raises(ValueError, match="if_exists"):
        zarr.copy(source["foo"], dest, if_exists="other")  # type: ignore[arg-type]


def test_arrays_and_groups_in_each_others_place() -> None:
    source = source_group()
    dest = zarr.create_group({})
    dest.create_array("foo", shape=1, dtype="i1")
    dest.create_group("spam/below")
    with pytest.raises(CopyError):
        zarr.copy(source["foo"], dest)
    assert zarr.copy(source["foo"], dest, if_exists="skip") == (0, 1, 0)
    zarr.copy(source["foo"], dest, if_exists="replace")
    assert isinstance(dest["foo"], zarr.Group)
    with pytest.raises(CopyError):
        zarr.copy(source["foo/spam"], dest)
    zarr.copy(source["foo/spam"], dest, if_exists="replace")
    assert "spam/below" not in dest
    assert dest["spam"].shape == (2, 3)


def test_a_dry_run_copies_nothing() -> None:
    source, dest = source_group(), zarr.create_group({})
    lines: list[str] = []
    counts = zarr.copy_all(source, dest, dry_run=True, log=lines.append)
    assert counts == (4, 0, 0)
    assert lines[-1] == "dry run: 4 copied, 0 skipped"
    assert list(dest) == []


def test_logs(tmp_path: Path) -> None:
    dest = zarr.create_group({})
    stream = io.StringIO()
    zarr.copy_all(source_group(), dest, log=stream)
    zarr.copy_all(source_group(), dest, log=tmp_path / "log", if_exists="skip")
    assert stream.getvalue().endswith("bytes copied\n")
    assert "skip /foo/spam" in (tmp_path / "log").read_text()
    with pytest.raises(TypeError, match="log"):
        zarr.copy_all(source_group(), zarr.create_group({}), log=5)


def test_a_copy_into_itself_is_refused() -> None:
    group = source_group()
    with pytest.raises(ValueError, match="into itself"):
        zarr.copy(group["foo"], group["foo/bar"])
    with pytest.raises(ValueError, match="into itself"):
        zarr.copy_all(group, group["foo"])
    assert zarr.copy(group["foo"], group, name="foo2")[0] == 4
    assert values(group["foo2"]) == values(group["foo"])
    with pytest.raises(ValueError, match="group"):
        zarr.copy(group["foo"], group["foo/spam"])  # type: ignore[arg-type]


def test_a_consolidated_destination_stays_true() -> None:
    store = MemoryStore()
    zarr.create_group(store)
    zarr.consolidate_metadata(store)
    zarr.copy_all(source_group(), zarr.open_consolidated(store))
    assert values(zarr.open_consolidated(store)) == values(source_group())
    assert values(zarr.open_group(store, use_consolidated=False)) == values(source_group())


def test_what_looks_like_h5py_is_copied() -> None:
    class Dataset:
        name, shape, dtype, chunks, fillvalue = "/g/d", (4,), np.dtype("i2"), (2,), 3
        attrs = {"scale": np.array([1, 2]), "name": "x"}

        def __getitem__(self, selection: Any) -> Any:
            return np.arange(4, dtype="i2")[selection]

    class Folder(dict[str, Any]):
        name = "/g"
        attrs = {"n": np.int64(5)}

    dest = zarr.create_group({})
    assert zarr.copy(Folder(d=Dataset()), dest) == (2, 0, 8)
    assert dest["g"].attrs["n"] == 5
    copied = dest["g/d"]
    assert copied[:].tolist() == [0, 1, 2, 3]
    assert copied.chunks == (2,)
    assert copied.fill_value == 3
    assert copied.attrs.asdict() == {"scale": [1, 2], "name": "x"}


# --- stores ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("slow", [False, True])
def test_copy_store(tmp_path: Path, slow: bool) -> None:
    group = source_group()
    source: Any = LatencyStore(group.store) if slow else group.store
    dest = LocalStore(tmp_path / "copy")
    keys = sorted(group.store.list())
    size = sum(len(group.store.get(key)) for key in keys)
    lines: list[str] = []
    assert zarr.copy_store(source, dest, log=lines.append) == (len(keys), 0, size)
    assert lines[0] == f"copy {keys[0]}"
    assert lines[-1] == f"all done: {len(keys):,} copied, 0 skipped, {size:,} bytes copied"
    assert {key: bytes(dest.get(key)) for key in dest.list()} == {
        key: bytes(group.store.get(key)) for key in keys
    }
    assert values(zarr.open_group(dest)) == values(group)


def test_copy_store_into_a_zip_file(tmp_path: Path) -> None:
    group = source_group()
    with ZipStore(tmp_path / "a.zip", mode="w") as dest:
        zarr.copy_store(group.store, dest)
    assert values(zarr.open_group(tmp_path / "a.zip", mode="r")) == values(group)


def test_copy_store_of_a_part() -> None:
    group, dest = source_group(), MemoryStore()
    zarr.create_group(dest)
    lines: list[str] = []
    copied, skipped, _ = zarr.copy_store(
        group.store, dest, source_path="foo/bar", dest_path="new/place", log=lines.append
    )
    assert (copied, skipped) == (len(lines) - 1, 0)
    assert "copy foo/bar/baz/zarr.json -> new/place/baz/zarr.json" in lines
    assert all(key.startswith("new/place/") for key in set(dest.list()) - {"zarr.json"})
    np.testing.assert_array_equal(zarr.open_array(dest, path="new/place/baz")[:], np.arange(100))


def test_copy_store_if_exists() -> None:
    group, dest = source_group(), MemoryStore({"foo/zarr.json": b"mine"})
    count = len(list(group.store.list()))
    with pytest.raises(CopyError, match=r"foo/zarr\.json"):
        zarr.copy_store(group.store, dest)
    assert list(dest.list()) == ["foo/zarr.json"]  # nothing was copied before
    copied, skipped, nbytes = zarr.copy_store(group.store, dest, if_exists="skip", dry_run=True)
    assert (copied, skipped, nbytes) == (count - 1, 1, 0)
    assert list(dest.list()) == ["foo/zarr.json"]
    zarr.copy_store(group.store, dest, if_exists="skip")
    assert dest.get("foo/zarr.json") == b"mine"
    assert zarr.copy_store(group.store, dest, if_exists="replace")[:2] == (count, 0)
    assert dest.get("foo/zarr.json") != b"mine"
    with pytest.raises(ValueError, match="if_exists"):
        zarr.copy_store(group.store, dest, if_exists="skip_initialized")


def test_copy_store_excludes_and_includes() -> None:
    group = source_group()
    keys = set(group.store.list())
    chunks = {key for key in keys if "/c/" in key}
    dest = MemoryStore()
    zarr.copy_store(group.store, dest, excludes=r"/c/")
    assert set(dest.list()) == keys - chunks
    dest = MemoryStore()
    zarr.copy_store(
        group.store, dest, excludes=["/C/", "nothing"], includes=r"/0$", flags=re.IGNORECASE
    )
    assert set(dest.list()) == (keys - chunks) | {key for key in chunks if key.endswith("/0")}


def test_copy_store_to_a_read_only_store() -> None:
    with pytest.raises(ReadOnlyError):
        zarr.copy_store(source_group().store, MemoryStore(read_only=True))


def test_copy_store_raises_the_errors_of_a_store() -> None:
    class Full(MemoryStore):
        def set(self, key: str, value: Any) -> None:
            raise OSError("no space")

    for dest in (Full(), LatencyStore(Full())):
        with pytest.raises(OSError, match="no space"):
            zarr.copy_store(source_group().store, dest)


def test_copy_a_file_of_hdf5(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["s"] = np.array(["a", "b\u00fc"], dtype=h5py.string_dtype())
        file["x"], file["y"] = np.arange(3), np.arange(3.0)
        file["x"].make_scale("x")
        file["y"].dims[0].attach_scale(file["x"])
        dest = zarr.create_group({})
        with pytest.warns(zarr.errors.ZarrUserWarning) as found:
            zarr.copy_all(file, dest)
    assert [str(w.message).rpartition(": ")[2] for w in found] == [
        "REFERENCE_LIST.",
        "DIMENSION_LIST.",
    ]
    assert dest["s"][...].tolist() == ["a", "b\u00fc"]
    assert dest["x"].attrs.asdict() == {"CLASS": "DIMENSION_SCALE", "NAME": "x"}
    assert dest["y"][...].tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_copy_a_file_of_netcdf(tmp_path: Path, zarr_format: Any) -> None:
    h5py, netcdf = pytest.importorskip("h5py"), pytest.importorskip("netCDF4")
    with netcdf.Dataset(tmp_path / "a.nc", "w") as file:
        file.createDimension("time", None)
        file.createDimension("x", 5)
        file.createGroup("inside").title = "what is known"
        time = file.createVariable("time", "f8", ("time",))
        time[:], time.units = np.arange(3), "days since 2000-01-01"
        values = file.createVariable("v", "i2", ("time", "x"), zlib=True, fill_value=-1)
        values.set_auto_scale(False)
        values[:], values.scale_factor = np.arange(15).reshape(3, 5), 0.5
        file.createVariable("names", str, ("x",))[:] = np.array(["a", "b\u00fc", "", "d", "e"], "O")
        file.createVariable("/inside/w", "f4", ("x",))[:2] = 1.5
        colour = file.createEnumType("u1", "colour", {"red": 0, "blue": 1})
        file.createVariable("colours", colour, ("x",))[:] = np.array([0, 1, 0, 1, 0], "u1")
        lists = file.createVLType("i4", "list_of_numbers")
        file.createVariable("lists", lists, ("x",))
    dest = zarr.create_group({}, zarr_format=zarr_format)
    with h5py.File(tmp_path / "a.nc") as file, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        zarr.copy_all(file, dest)
        for name in ("time", "v", "inside/w", "colours"):
            np.testing.assert_array_equal(dest[name][...], file[name][...])
            assert dest[name].chunks == (file[name].chunks or dest[name].shape)
    said = [str(w.message) for w in caught if w.category is zarr.errors.ZarrUserWarning]
    assert [text.split()[4] for text in said if text.startswith("Zarr has nothing for")] == [
        "/colour,",
        "/list_of_numbers,",
        "/lists,",
    ]
    assert sorted(dict(dest.members(None))) == [
        "colours",
        "inside",
        "inside/w",
        "names",
        "time",
        "v",
        "x",
    ]
    assert dest["names"][...].tolist() == ["a", "b\u00fc", "", "d", "e"]
    assert dest["inside"].attrs["title"] == "what is known"
    assert dest["v"].attrs["scale_factor"] == [0.5]
    assert dest["time"].attrs["units"] == "days since 2000-01-01"
