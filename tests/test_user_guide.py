"""What the documentation of zarr-python shows its users works here, with another import line.

Each test is a program of its quick start or user guide, told in our own words.
"""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_core as zarr


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# --- quick start -----------------------------------------------------------------------------------


def test_a_first_array() -> None:
    z = zarr.create_array(store="example.zarr", shape=(100, 100), chunks=(10, 10), dtype="f4")
    z[:, :] = np.random.default_rng(0).random((100, 100))
    assert repr(z) == f"<Array file://{Path.cwd()}/example.zarr shape=(100, 100) dtype=float32>"
    again = zarr.open("example.zarr", mode="r")
    np.testing.assert_array_equal(again[:], z[:])
    info = str(z.info)
    for line in ("Type", "Zarr format", "Data type", "Chunk shape", "Store type", "No. bytes"):
        assert line in info
    assert "No. bytes stored" in str(z.info_complete())


def test_compression() -> None:
    z = zarr.create_array(
        "compressed.zarr",
        shape=(100, 100),
        chunks=(10, 10),
        dtype="f4",
        compressors=zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
    )
    z[:] = np.arange(10000).reshape(100, 100)
    assert z.nbytes_stored() < z.nbytes
    assert z.compressors[0].to_dict()["configuration"]["cname"] == "zstd"


def test_a_hierarchy() -> None:
    root = zarr.group("hierarchy.zarr")
    foo = root.create_group(name="foo")
    bar = root.create_array(name="bar", shape=(100, 10), chunks=(10, 10), dtype="f4")
    spam = foo.create_array(name="spam", shape=(10,), dtype="i4")
    bar[:, :] = 1.5
    spam[:] = np.arange(10)
    assert repr(root.tree()) == ("/\n├── bar (100, 10) float32\n└── foo\n    └── spam (10,) int32")
    assert [name for name, _ in root.members()] == ["bar", "foo"]


def test_several_arrays_in_one_go() -> None:
    root = zarr.create_group({})
    like = zarr.create_array({}, shape=(4,), dtype="u1").metadata
    nodes = {"raw/a": like, "raw/b": like, "done": zarr.create_group({}).metadata}
    made = dict(root.create_hierarchy(nodes))
    assert sorted(made) == ["done", "raw", "raw/a", "raw/b"]


def test_a_zip_file() -> None:
    with zarr.storage.ZipStore("data.zip", mode="w") as store:
        z = zarr.create_array(store=store, shape=(10, 10), chunks=(5, 5), dtype="f4")
        z[:, :] = 3
    with zarr.storage.ZipStore("data.zip", mode="r") as store:
        assert zarr.open_array(store, mode="r")[:].sum() == 300


def test_save_and_load() -> None:
    zarr.save("one.zarr", np.arange(10))
    np.testing.assert_array_equal(zarr.load("one.zarr"), np.arange(10))
    zarr.save("two.zarr", x=np.arange(3), y=np.ones(2))
    assert sorted(zarr.load("two.zarr")) == ["x", "y"]


# --- arrays ----------------------------------------------------------------------------------------


def test_an_array_in_memory_reads_and_writes_like_numpy() -> None:
    z = zarr.create_array(store={}, shape=(1000, 1000), chunks=(100, 100), dtype="i4")
    z[:] = 42
    z[0, :] = np.arange(1000)
    z[:, 0] = np.arange(1000)
    assert z[0, 0] == 0
    assert z[-1, -1] == 42
    np.testing.assert_array_equal(z[0, :], np.arange(1000))
    assert z[:].shape == (1000, 1000)


def test_persistent_arrays_and_modes() -> None:
    z1 = zarr.open_array("persistent.zarr", mode="w", shape=(10,), chunks=(5,), dtype="i4")
    z1[:] = 7
    z2 = zarr.open_array("persistent.zarr", mode="r")
    assert (z1[:] == z2[:]).all()
    with pytest.raises(ValueError, match="read-only"):
        z2[0] = 1
    with pytest.raises(FileExistsError):
        zarr.open_array("persistent.zarr", mode="w-", shape=(10,))


def test_resizing_and_appending() -> None:
    z = zarr.create_array({}, shape=(100, 100), chunks=(10, 10), dtype="f8", fill_value=0)
    z[:] = 42
    z.resize((200, 100))
    assert z.shape == (200, 100)
    assert z[150, 5] == 0
    a = np.arange(1000, dtype="i4").reshape(10, 100)
    z = zarr.create_array({}, shape=a.shape, dtype=a.dtype, chunks=(10, 10))
    z[:] = a
    assert z.append(a) == (20, 100)
    assert z.append(np.vstack([a, a]), axis=1) == (20, 200)


def test_filters_and_serializers() -> None:
    values = np.arange(1000, dtype="i4")
    plain = zarr.create_array({}, data=values, chunks=(100,))
    turned = zarr.create_array(
        {}, data=values, chunks=(100,), filters=[zarr.codecs.TransposeCodec(order=(0,))]
    )
    big = zarr.create_array(
        {}, data=values, chunks=(100,), serializer=zarr.codecs.BytesCodec(endian="big")
    )
    raw = zarr.create_array({}, data=values, chunks=(100,), compressors=None)
    for z in (plain, turned, big, raw):
        np.testing.assert_array_equal(z[:], values)
    assert raw.compressors == ()
    assert raw.nbytes_stored() > plain.nbytes_stored()


def test_numcodecs_filters_of_format_2() -> None:
    numcodecs = pytest.importorskip("numcodecs")
    z = zarr.create_array(
        {},
        data=np.arange(1000, dtype="i4"),
        chunks=(100,),
        zarr_format=2,
        filters=[numcodecs.Delta(dtype="i4")],
        compressors=numcodecs.Blosc(cname="zstd", clevel=1, shuffle=numcodecs.Blosc.SHUFFLE),
    )
    np.testing.assert_array_equal(z[:], np.arange(1000))
    assert z.filters == (numcodecs.Delta(dtype="i4"),)


def test_indexing_with_coordinates_masks_and_blocks() -> None:
    data = np.arange(100).reshape(10, 10)
    z = zarr.create_array({}, data=data, chunks=(3, 3))
    assert z.vindex[[0, 2], [1, 3]].tolist() == [1, 23]
    assert z.get_coordinate_selection(([0, 2], [1, 3])).tolist() == [1, 23]
    z.vindex[[0, 2], [1, 3]] = [-1, -2]
    assert z[2, 3] == -2
    mask = z[:] < 0
    assert z.get_mask_selection(mask).tolist() == z[mask].tolist() == [-1, -2]
    z.set_mask_selection(mask, 0)
    assert z.oindex[[0, 2], :].shape == (2, 10)
    assert z.oindex[[0, 2], 1:5:2].shape == (2, 2)
    z.oindex[[0, 2], [0, 1, 2]] = 5
    assert z[2, :3].tolist() == [5, 5, 5]
    np.testing.assert_array_equal(z.blocks[1, 0], z[3:6, 0:3])
    z.blocks[:, 1] = 9
    assert (z[:, 3:6] == 9).all()
    assert z[np.array([1, 4]), np.array([2, 3])].shape == (2,)


def test_fields_of_structs() -> None:
    records = np.array([(1, 2.5, True), (3, 4.5, False)], [("a", "i4"), ("b", "f8"), ("c", "?")])
    z = zarr.create_array({}, data=records, chunks=(1,))
    assert z["a"].tolist() == [1, 3]
    assert z["a", "b"].dtype.names == ("a", "b")
    z["b"] = [0, 1]
    assert z[:]["b"].tolist() == [0, 1]


def test_sharding() -> None:
    z = zarr.create_array(
        "sharded.zarr", shape=(1000, 1000), shards=(500, 500), chunks=(50, 50), dtype="u1"
    )
    z[:] = (np.arange(1000) % 7).astype("u1")
    assert z.chunks == (50, 50)
    assert z.shards == (500, 500)
    files = [path for path in Path("sharded.zarr").rglob("*") if path.is_file()]
    assert len(files) == 4 + 1
    assert z.nchunks == 400
    assert z.nchunks_initialized == 400


def test_missing_chunks_and_fill_values() -> None:
    z = zarr.create_array({}, shape=(10,), chunks=(5,), dtype="f4", fill_value=np.nan)
    assert np.isnan(z[:]).all()
    z[:5] = 1
    assert z.nchunks_initialized == 1
    z[:5] = np.nan
    assert z.nchunks_initialized == 0
    kept = z.with_config({"write_empty_chunks": True})
    kept[:] = np.nan
    assert z.nchunks_initialized == 2


def test_dimension_names_and_attributes() -> None:
    z = zarr.create_array({}, shape=(3, 4), dtype="f4", dimension_names=("x", None))
    assert z.metadata.dimension_names == ("x", None)
    z.attrs["units"] = "K"
    z.attrs.update({"scale": 0.5, "history": ["made", "changed"]})
    assert sorted(z.attrs) == ["history", "scale", "units"]
    assert "units" in z.attrs
    del z.attrs["scale"]
    assert z.attrs.asdict() == {"units": "K", "history": ["made", "changed"]}


def test_text_times_and_other_data_types() -> None:
    words = zarr.create_array({}, data=np.array(["", "naïve", "☃"]), dtype=str)
    assert words[:].tolist() == ["", "naïve", "☃"]
    fixed = zarr.create_array({}, data=np.array(["ab", "c"]))
    assert fixed.dtype == np.dtype("U2")
    days = zarr.create_array({}, data=np.array(["2024-02-29", "NaT"], "M8[D]"))
    assert days[0] == np.datetime64("2024-02-29")
    half = zarr.create_array({}, shape=2, dtype=zarr.dtype.Float16())
    assert half.dtype == np.float16


def test_copies_of_arrays_with_another_layout() -> None:
    source = zarr.create_array({}, data=np.arange(100).reshape(10, 10), chunks=(2, 2))
    same = zarr.from_array({}, data=source)
    assert same.chunks == (2, 2)
    other = zarr.from_array({}, data=source, chunks=(5, 10), compressors=None)
    assert other.chunks == (5, 10)
    np.testing.assert_array_equal(same[:], other[:])
    assert zarr.zeros_like(source, chunks=(10, 10)).chunks == (10, 10)


def test_rectilinear_chunks() -> None:
    z = zarr.create_array({}, shape=(10, 6), chunks=([2, 3, 5], [4, 2]), dtype="i4")
    z[:] = np.arange(60).reshape(10, 6)
    assert z.write_chunk_sizes == ((2, 3, 5), (4, 2))
    with pytest.raises(NotImplementedError):
        z.chunks
    assert z[4:6, 3:5].tolist() == [[27, 28], [33, 34]]


# --- groups ----------------------------------------------------------------------------------------


def test_groups() -> None:
    root = zarr.create_group(store=zarr.storage.MemoryStore())
    foo = root.create_group("foo")
    bar = foo.create_group("bar")
    z = bar.create_array("baz", shape=(100, 100), chunks=(10, 10), dtype="i4")
    assert root["foo/bar/baz"] == z
    assert root["foo"]["bar"].name == "/foo/bar"
    assert "foo/bar" in root
    root.attrs["spam"] = "ham"
    assert root.attrs["spam"] == "ham"
    assert root.members(max_depth=None)[-1][0] == "foo/bar/baz"
    root["answers"] = np.array([42])
    del root["foo"]
    assert list(root) == ["answers"]


def test_what_is_in_a_group_as_a_table() -> None:
    root = zarr.create_group({})
    root.create_array("a", shape=3, dtype="i1")
    root.create_group("g").create_array("b", shape=3, dtype="i1")
    table = str(root.info_complete())
    assert "No. members : 3" in table
    assert "No. arrays  : 2" in table


def test_consolidated_metadata() -> None:
    store = zarr.storage.MemoryStore()
    group = zarr.create_group(store=store)
    for name in "abc":
        group.create_array(shape=(1,), name=name, dtype="f8")
    child = group.create_group("child", attributes={"kind": "leaf"})
    child.create_array("x", shape=(1,), dtype="f8")
    with pytest.warns(UserWarning, match="Consolidated metadata is currently not part"):
        zarr.consolidate_metadata(store)
    consolidated = zarr.open_group(store=store)
    copies = consolidated.metadata.consolidated_metadata
    assert sorted(copies.metadata) == ["a", "b", "c", "child"]
    assert sorted(copies.flattened_metadata) == ["a", "b", "c", "child", "child/x"]
    assert copies.metadata["child"].attributes == {"kind": "leaf"}
    assert zarr.open_consolidated(store)["child"]["x"].shape == (1,)
    assert zarr.open_group(store, use_consolidated=False).metadata.consolidated_metadata is None


# --- storage, settings, threads ----------------------------------------------------------------------


def test_stores() -> None:
    data: dict[str, Any] = {}
    zarr.create_array(store=data, name="x", data=np.arange(3))
    assert "x/zarr.json" in data
    local = zarr.storage.LocalStore("local", read_only=False)
    zarr.create_group(local)
    assert zarr.open_group(zarr.storage.LocalStore("local", read_only=True)).read_only
    assert local.with_read_only(True).read_only
    logged = zarr.storage.LoggingStore(local)
    zarr.open_group(logged, mode="r")
    assert logged.counter["get"] > 0


def test_settings() -> None:
    assert zarr.config.get("array.order") == "C"
    with zarr.config.set({"array.order": "F", "default_zarr_format": 2}):
        z = zarr.create(shape=(3, 4), dtype="i4")
        assert z.metadata.zarr_format == 2
        assert z.order == "F"
        assert z[:].flags.f_contiguous
    assert zarr.config.get("default_zarr_format") == 3


def test_threads_share_an_array() -> None:
    z = zarr.create_array({}, shape=(64,), chunks=(16,), dtype="i8")
    with ThreadPoolExecutor(8) as pool:  # also within one chunk
        list(pool.map(lambda number: z.__setitem__(number, number), range(64)))
    assert z[:].tolist() == list(range(64))


def test_pickles() -> None:
    z = zarr.create_array("pickled.zarr", data=np.arange(5))
    copy = pickle.loads(pickle.dumps(z))
    assert copy == z
    assert copy[:].tolist() == [0, 1, 2, 3, 4]
    root = zarr.open_group("pickled_group.zarr")
    assert pickle.loads(pickle.dumps(root)) == root


def test_programs_for_zarr_2() -> None:
    z = zarr.zeros((100, 100), chunks=(10, 10), dtype="i4")
    assert z[:].sum() == 0
    assert zarr.ones(10)[:].sum() == 10
    assert zarr.full((3,), 7)[:].tolist() == [7, 7, 7]
    assert zarr.array(np.arange(5), chunks=2).chunks == (2,)
    assert zarr.empty((2, 2)).shape == (2, 2)
    root = zarr.open_group("old.zarr", mode="w", zarr_format=2)
    root.require_group("a").require_array("x", shape=(3,), dtype="i4")[:] = 1
    dest = zarr.group()
    assert zarr.copy(root["a"], dest, name="b") == (2, 0, 12)
    assert zarr.copy_store(root.store, zarr.storage.MemoryStore())[0] == 4
