"""The engine `zarr_core` and `zarr_core.xarray.to_zarr`, against xarray's own engine over zarr-python."""

import asyncio
import json
import pickle
import threading
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import in_new_interpreter
from test_docs import ROOT, run_page

import zarr_core
from zarr_core.errors import ContainsGroupError
from zarr_core.storage import LoggingStore, MemoryStore, WrapperStore, ZipStore

xr = pytest.importorskip("xarray")
zarr = pytest.importorskip("zarr", minversion="3")

from zarr_core.xarray import ZarrCoreBackendEntrypoint as Engine  # noqa: E402
from zarr_core.xarray import to_zarr  # noqa: E402

# What zarr-python and xarray say of their own formats.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

FORMATS = (2, 3)


def times() -> Any:
    return np.array(["2001-02-03T04", "NaT", "2005-06-07T08:09"], "M8[ns]")


DATASETS: dict[str, Any] = {
    "packed": xr.Dataset(
        {
            "t": (
                ("time", "x"),
                np.where(np.arange(12) % 5 == 0, np.nan, np.arange(12) / 4).reshape(3, 4),
                {"units": "K", "valid_range": np.array([0.0, 9.0])},
                {"dtype": "i2", "scale_factor": 0.25, "add_offset": 1.0, "_FillValue": -999},
            )
        },
        {"time": np.array(["2001-01-01", "2001-01-02", "2001-01-04"], "M8[ns]"), "x": list("abcd")},
        {"title": "packed", "n": 3, "values": [1, 2.5]},
    ),
    "times": xr.Dataset(
        {
            "t": (("n",), times(), {}, {"units": "hours since 2001-01-01", "dtype": "f8"}),
            "d": (("n",), np.array([1, 90, 3600], "m8[s]").astype("m8[ns]")),
            "t2": (("n", "m"), np.stack([times(), times()], 1)),
        },
        {
            "reference": ((), np.datetime64("2000-01-01", "ns")),
            "lat": (("n", "m"), np.ones((3, 2))),
        },
    ),
    "strings": xr.Dataset(
        {
            "fixed": (("n",), np.array(["a", "ßü", "ccc"])),
            "objects": (("n",), np.array(["a", "", "long " * 9], object)),
            "bytes": (("n",), np.array([b"x", b"yy", b""])),
            "chars": (("n",), np.array([b"x", b"yy", b"zz"], "S2"), {}, {"dtype": "S1"}),
        },
    ),
    "numbers": xr.Dataset(
        {
            "flag": (("n",), np.array([True, False, True])),
            "u1": (("n",), np.array([1, 255, 3], "u1"), {}, {"_FillValue": np.uint8(255)}),
            "c": (("n",), np.array([1, 2j, 3], "c16")),
            "f4": (("n",), np.array([1, np.nan, 3], "f4")),
            "scalar": ((), 3.5),
            "empty": (("none", "n"), np.zeros((0, 3))),
        },
    ),
}


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize("name", DATASETS)
def test_ours_and_theirs_are_exchanged(tmp_path: Path, name: str, zarr_format: int) -> None:
    ds = DATASETS[name]
    to_zarr(ds, tmp_path / "ours", zarr_format=zarr_format)
    ds.to_zarr(tmp_path / "theirs", zarr_format=zarr_format)
    expected = xr.open_dataset(tmp_path / "theirs", engine="zarr", decode_timedelta=True)
    for place in ("ours", "theirs"):
        found = xr.open_dataset(tmp_path / place, engine=Engine, decode_timedelta=True)
        xr.testing.assert_identical(found, expected)
        assert {v: found[v].dtype for v in found.variables} == {
            v: expected[v].dtype for v in expected.variables
        }
        again = xr.open_dataset(tmp_path / place, engine="zarr", decode_timedelta=True)
        xr.testing.assert_identical(again, expected)
    xr.testing.assert_identical(
        xr.open_dataset(tmp_path / "theirs", engine=Engine, decode_cf=False).load(),
        xr.open_dataset(tmp_path / "theirs", engine="zarr", decode_cf=False).load(),
    )


def stored(zarr_format: int = 3) -> dict[str, Any]:
    """Return a store with 20 coordinates, one of them of times, and a time that is no index."""
    names = [f"d{i}" for i in range(18)]
    coordinates: dict[str, Any] = {name: np.arange(i + 1.0) for i, name in enumerate(names)}
    coordinates["time"] = np.array(["2001-01-01", "2001-01-02"], "M8[ns]")
    coordinates["name"] = ["a", "bc"]
    coordinates["start"] = ("time", np.array(["2000-01-01", "2000-02-01"], "M8[ns]"))
    store: dict[str, Any] = {}
    data = {"t": (("time", "d3"), np.arange(8.0).reshape(2, 4))}
    to_zarr(xr.Dataset(data, coordinates), store, zarr_format=zarr_format)
    return store


class AtOnce(WrapperStore[Any]):
    """A slow store that gives no chunk before all that are expected have been asked for."""

    def __init__(self, store: Any, everyone: threading.Barrier) -> None:
        super().__init__(store)
        self.high_latency = True
        self.everyone = everyone
        self.asked: list[str] = []

    def _with_store(self, store: Any) -> "AtOnce":
        self._store = store
        return self

    def get(self, key: str, byte_range: Any = None) -> Any:
        if not key.endswith(("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")):
            self.asked.append(key)
            self.everyone.wait(10)
        return super().get(key, byte_range)


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_all_indexes_are_asked_for_at_once(zarr_format: int) -> None:
    # 20 indexes, and the times at whose ends xarray looks.
    store = AtOnce(MemoryStore(stored(zarr_format)), threading.Barrier(21))
    found = xr.open_dataset(store, engine=Engine)
    assert len(store.asked) == len(set(store.asked)) == 21
    store.everyone = threading.Barrier(1)
    start = found.start.values
    start[:] = np.datetime64("1999-01-01")  # memory of its own
    again = xr.open_dataset(MemoryStore(stored(zarr_format)), engine=Engine)
    assert again.start.values[1] == np.datetime64("2000-02-01")
    assert found.start.values[1] == np.datetime64("1999-01-01")
    xr.testing.assert_identical(found.drop_vars("start"), again.drop_vars("start"))


def test_what_is_not_needed_is_not_read() -> None:
    store = LoggingStore(MemoryStore(stored()))
    dropped = ["t", "start", "time", *(f"d{i}" for i in range(18))]
    found = xr.open_dataset(store, engine=Engine, drop_variables=dropped)
    assert list(found.variables) == ["name"]


def test_a_tree_of_groups() -> None:
    tree = xr.DataTree.from_dict(
        {
            "/": xr.Dataset({"a": ("x", [1, 2])}, {"x": [0.5, 1.5]}),
            "/one": xr.Dataset({"b": ("y", [1.0, 2, 3])}, {"y": list("abc")}),
            "/one/two": xr.Dataset({}, {"z": [1, 2]}, {"title": "z"}),
        }
    )
    store: dict[str, Any] = {}
    to_zarr(tree, store, encoding={"/one": {"b": {"chunks": (2,)}}})
    slow = AtOnce(MemoryStore(store), threading.Barrier(3))  # the indexes of all groups
    found = xr.open_datatree(slow, engine=Engine)
    assert len(slow.asked) == 3
    slow.everyone = threading.Barrier(1)
    xr.testing.assert_identical(found, tree)
    assert found["one/b"].encoding["chunks"] == (2,)
    assert found["one/b"].dtype == np.float64
    below = xr.open_datatree(store, engine=Engine, group="one")
    for path in ("/", "/two"):
        xr.testing.assert_identical(
            below[path].to_dataset(inherit=False), tree["one" + path].to_dataset(inherit=False)
        )
    xr.testing.assert_identical(
        xr.open_dataset(store, engine=Engine, group="one/two").z, tree["one/two"].z
    )
    theirs = xr.open_datatree(
        zarr.storage.MemoryStore(
            {
                key: zarr.core.buffer.default_buffer_prototype().buffer.from_bytes(value)
                for key, value in store.items()
            }
        ),
        engine="zarr",
    )
    xr.testing.assert_identical(theirs, tree)


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize("engine", [Engine, "zarr"])
def test_appended_and_set_in_regions(tmp_path: Path, engine: Any, zarr_format: int) -> None:
    place = tmp_path / "a.zarr"
    ds = xr.Dataset(
        {"t": (("time", "x"), np.arange(8, dtype="f4").reshape(2, 4), {"units": "K"})},
        {"time": np.array(["2001-01-01", "2001-01-02"], "M8[ns]"), "x": [1, 2, 3, 4]},
    )
    encoding = {"time": {"units": "days since 2000-01-01"}, "t": {"chunks": (2, 2)}}
    to_zarr(ds, place, encoding=encoding, zarr_format=zarr_format)
    with pytest.raises(ContainsGroupError):
        to_zarr(ds, place)
    later = ds.assign_coords(time=ds.time + np.timedelta64(2, "D"))
    to_zarr(later, place, append_dim="time")
    expected = xr.concat([ds, later], "time")
    xr.testing.assert_identical(xr.open_dataset(place, engine=engine), expected)
    part = (expected.isel(time=slice(2, 4), x=slice(0, 2)) * 0 + 7).drop_vars("x")
    to_zarr(part.drop_vars("time"), place, region={"time": slice(2, 4), "x": slice(0, 2)})
    to_zarr(expected.isel(time=[0, 1], x=[2, 3]) + 50, place, region="auto")
    expected.t[2:4, :2] = 7
    expected.t[:2, 2:] += 50
    xr.testing.assert_equal(xr.open_dataset(place, engine=engine), expected)
    with pytest.raises(ValueError, match="append_dim"):
        to_zarr(ds, place, mode="w", append_dim="time")
    with pytest.raises(ValueError, match="non-pre-existing"):
        to_zarr(ds.rename(t="other"), place, mode="r+")
    to_zarr(ds, place, mode="w")
    xr.testing.assert_identical(xr.open_dataset(place, engine=engine), ds)


@pytest.mark.parametrize("consolidated", [True, False, None])
def test_consolidated_metadata(consolidated: bool | None) -> None:
    store: dict[str, Any] = {}
    ds = xr.Dataset({"a": ("x", [1, 2])})
    to_zarr(ds, store, consolidated=consolidated)
    assert ("consolidated_metadata" in json.loads(bytes(store["zarr.json"]))) is (
        consolidated is not False
    )
    to_zarr(ds.rename(a="b"), store, mode="a", group="below", consolidated=consolidated)
    log = LoggingStore(MemoryStore(store))
    xr.testing.assert_identical(
        xr.open_dataset(log, engine=Engine, group="below"), ds.rename(a="b")
    )
    with pytest.raises(FileNotFoundError):
        xr.open_dataset(store, engine=Engine, group="nothing")
    if consolidated is False:
        with pytest.raises(ValueError, match="onsolidated"):
            xr.open_dataset(store, engine=Engine, consolidated=True)


def test_chunks_of_dask_follow_what_is_stored(tmp_path: Path) -> None:
    pytest.importorskip("dask")
    ds = xr.Dataset({"a": (("y", "x"), np.arange(48.0).reshape(8, 6)), "b": ("y", np.arange(8))})
    encoding = {"a": {"chunks": (2, 3), "shards": (4, 6)}, "b": {"chunks": (3,)}}
    to_zarr(ds, tmp_path / "a.zarr", encoding=encoding)
    found = xr.open_dataset(tmp_path / "a.zarr", engine=Engine, chunks={})
    assert found.a.chunks == ((4, 4), (6,))
    assert found.b.chunks == ((3, 3, 2),)
    assert (found.a.encoding["chunks"], found.a.encoding["shards"]) == ((2, 3), (4, 6))
    travelled = pickle.loads(pickle.dumps(found))
    xr.testing.assert_identical(travelled.compute(), ds)
    # Written again by dask, at once and later.
    to_zarr(found.chunk(y=4), tmp_path / "b.zarr", encoding={"b": {"chunks": (4,)}})
    delayed = to_zarr(
        found.chunk(y=4), tmp_path / "c.zarr", encoding={"b": {"chunks": (4,)}}, compute=False
    )
    assert xr.open_dataset(tmp_path / "c.zarr", engine="zarr").b.values.tolist() == [0] * 8
    delayed.compute()
    for name in ("b", "c"):
        again = xr.open_dataset(tmp_path / f"{name}.zarr", engine="zarr")
        xr.testing.assert_identical(again, ds)
        assert again.a.encoding["shards"] == (4, 6)
    with pytest.raises(ValueError, match="overlap"):
        to_zarr(found.chunk(y=3), tmp_path / "d.zarr")
    to_zarr(found.chunk(y=3), tmp_path / "e.zarr", align_chunks=True)
    xr.testing.assert_identical(xr.open_dataset(tmp_path / "e.zarr", engine="zarr"), ds)


def test_every_kind_of_indexing_and_awaiting(tmp_path: Path) -> None:
    place = tmp_path / "a.zip"
    data = np.arange(60).reshape(3, 4, 5)
    to_zarr(xr.Dataset({"a": (("x", "y", "z"), data)}), place)
    assert isinstance(zarr_core.open_group(place, mode="r").store, ZipStore)

    def opened() -> Any:
        return xr.open_dataset(place, engine=Engine).a

    points = xr.DataArray([0, 2, 2], dims="p")
    for pick in (
        lambda a: a[1:, ::-1, 2],
        lambda a: a[[0, 2], :, [4, 1, 1]],
        lambda a: a.isel(x=points, y=points, z=points),
    ):
        expected = pick(xr.DataArray(data, dims=("x", "y", "z")))
        assert (pick(opened()).values == expected.values).all()
        awaited = asyncio.run(pick(opened()).load_async())
        assert (awaited.values == expected.values).all()
    assert (asyncio.run(opened().load_async()).values == data).all()


def install_entry_point(place: Path) -> None:
    """Make a directory for `sys.path` in which zarr_core is installed, whether it is or not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    entry = project["entry-points"]["xarray.backends"]["zarr_core"]
    info = place / "zarr_core-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zarr-core\nVersion: 0\n")
    (info / "entry_points.txt").write_text(f"[xarray.backends]\nzarr_core = {entry}\n")


def test_the_page_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_entry_point(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run_page(ROOT / "docs" / "xarray.md", tmp_path) == ""


def test_the_engine_by_name_without_zarr_python(tmp_path: Path) -> None:
    install_entry_point(tmp_path)
    in_new_interpreter(
        f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})

sys.modules["zarr"] = None  # as if it were not installed
import warnings
import numpy as np, xarray as xr
from zarr_core.xarray import to_zarr
warnings.filterwarnings("ignore", "Engine", RuntimeWarning)  # others that need zarr
ds = xr.Dataset({{"a": ("x", [1.5, 2]), "s": ("x", ["a", "b"])}}, {{"x": [1, 2]}})
for place in ("{tmp_path}/a.zarr", "memory://a"):
    to_zarr(ds, place, zarr_format=2)
    to_zarr(ds, place, mode="a")
    xr.testing.assert_identical(xr.open_dataset(place, engine="zarr_core"), ds)
    xr.testing.assert_identical(xr.open_datatree(place, engine="zarr_core").to_dataset(), ds)
xr.testing.assert_identical(xr.open_dataset("{tmp_path}/a.zarr"), ds)  # guessed
raw = xr.open_dataset("{tmp_path}/a.zarr", engine="zarr_core", decode_cf=False)
assert raw.a.attrs["_FillValue"] != raw.a.attrs["_FillValue"]
assert sys.modules["zarr"] is None
"""
    )
