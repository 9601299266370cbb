"""`ReferenceStore`: kerchunk's references, read here and by fsspec; `to_references` writes them."""

import base64
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_core as zarr
from zarr_core.errors import (
    ChunkDecodeError,
    InvalidKeyError,
    MetadataValidationError,
    ReadOnlyError,
    StoreError,
)
from zarr_core.storage import (
    LatencyStore,
    LocalStore,
    LoggingStore,
    MemoryStore,
    RangeByteRequest,
    ReferenceStore,
    Request,
    SuffixByteRequest,
)

FILE = bytes(range(256)) * 40


def array_document(shape: Any, chunks: Any, dtype: str = "|u1") -> dict[str, Any]:
    return {
        "zarr_format": 2, "shape": shape, "chunks": chunks, "dtype": dtype, "fill_value": 7,
        "order": "C", "compressor": None, "filters": None,
    }  # fmt: skip


REFS = {
    ".zgroup": '{"zarr_format": 2}',
    "a/.zarray": array_document([10, 10], [5, 10]),  # an object instead of its text, as some write
    "a/0.0": ["x://bucket/file", 100, 50],
    "a/1.0": "base64:" + base64.b64encode(bytes(50)).decode(),
    "plain": "text ü",
    "whole": ["x://bucket/file"],
    "t/0": ["{{u}}/file", 0, 1],
}


def opened(refs: Any = None, **stores: Any) -> ReferenceStore:
    whole = {"version": 1, "templates": {"u": "x://bucket"}, "refs": REFS}
    return ReferenceStore(
        whole if refs is None else refs,
        stores or {"x://bucket": MemoryStore({"file": FILE})},
    )


def test_values_are_parts_of_files_or_inline() -> None:
    store = opened()
    assert store.get("plain") == "text ü".encode()
    assert bytes(store.get("whole") or b"") == FILE
    assert bytes(store.get("a/0.0") or b"") == FILE[100:150]
    assert bytes(store.get("a/0.0", RangeByteRequest(10, 12)) or b"") == FILE[110:112]
    assert bytes(store.get("a/0.0", SuffixByteRequest(3)) or b"") == FILE[147:150]
    assert bytes(store.get("a/0.0", SuffixByteRequest(99)) or b"") == FILE[100:150]
    assert bytes(store.get("whole", SuffixByteRequest(3)) or b"") == FILE[-3:]
    assert bytes(store.get("t/0") or b"") == FILE[:1]
    assert store.get("nothing") is None
    assert store.exists("a/0.0")
    assert not store.exists("a/2.0")
    assert [store.getsize(key) for key in ("plain", "a/0.0", "whole")] == [7, 50, len(FILE)]
    assert sorted(store.list_dir("a")) == [".zarray", "0.0", "1.0"]
    assert sorted(store.list_dir("")) == [".zgroup", "a", "plain", "t", "whole"]
    assert sorted(store.list()) == sorted(REFS)
    array = zarr.open_group(store, mode="r")["a"]
    assert array[:5].tobytes() == FILE[100:150]
    assert not array[5:].any()


def test_it_can_only_be_read() -> None:
    store = opened()
    for change in (
        lambda: store.set("a", b""),
        lambda: store.delete("plain"),
        lambda: store.with_read_only(False),
        lambda: zarr.open_group(store, mode="r+"),
    ):
        with pytest.raises(ReadOnlyError):
            change()
    assert store.with_read_only(True) is store
    with pytest.raises(InvalidKeyError):
        store.get("../a")


def test_what_is_wrong_is_an_error_and_not_the_fill_value() -> None:
    group = zarr.open_group(opened({**REFS, "a/0.0": ["x://bucket/gone", 0, 50]}), mode="r")
    with pytest.raises(StoreError, match="gone, which does not exist"):
        group["a"][0]
    group = zarr.open_group(opened({**REFS, "a/0.0": ["y://bucket/file", 0, 50]}), mode="r")
    with pytest.raises(StoreError, match="none of its stores"):
        group["a"][0]
    group = zarr.open_group(
        opened({**REFS, "a/0.0": ["x://bucket/file", len(FILE) - 9, 50]}), mode="r"
    )
    with pytest.raises(StoreError):
        group["a"][0]
    group = zarr.open_group(opened({**REFS, "a/0.0": ["x://bucket/file", 0, 49]}), mode="r")
    with pytest.raises(ChunkDecodeError):
        group["a"][0]
    with pytest.raises(InvalidKeyError):
        opened({"a": ["x://bucket/../secret", 0, 1]}).get("a")
    with pytest.raises(StoreError, match="none of its stores"):
        opened({"a": ["x://bucketeer/file"]}).get("a")
    for wrong in ([], [1, 2, 3], ["x://bucket/file", 1], ["x://bucket/file", -1, 5], 5, {1, 2}):
        with pytest.raises(MetadataValidationError, match="is no reference"):
            opened({"a": wrong}).get("a")
    for whole in ({"refs": {}, "gen": [1]}, {"refs": {}, "templates": {"f": "{{a}}/b"}}):
        with pytest.raises(MetadataValidationError, match="not supported"):
            opened(whole)


def test_the_longest_beginning_counts(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(FILE)
    refs = {
        "a": ["x://bucket/sub/file"], "b": ["x://bucket/file"], "c": [f"{tmp_path}/file"],
        "d": [f"file://{tmp_path}/file"], "e": ["relative/file"],
    }  # fmt: skip
    stores = {
        "": {"relative/file": b"e"},
        "x://": {"bucket/file": b"b"},
        "x://bucket/sub/": {"file": b"a"},
        str(tmp_path): LocalStore(tmp_path),
    }
    found = {key: bytes(opened(refs, **stores).get(key) or b"") for key in refs}
    assert found == {"a": b"a", "b": b"b", "c": FILE, "d": FILE, "e": b"e"}
    own = ReferenceStore({"c": refs["c"]}, [str(tmp_path)])
    assert own.get("c") == FILE
    own.close()


@pytest.mark.parametrize("slow", [False, True])
@given(data=st.data())
def test_many_are_what_single_ones_are(slow: bool, data: Any) -> None:
    files = MemoryStore({"f": FILE, "g": FILE[::-1]})
    part = st.tuples(
        st.sampled_from(["x://f", "x://g"]), st.integers(0, 9000), st.integers(0, 1500)
    )
    refs: dict[str, Any] = {
        str(k): list(p) for k, p in enumerate(data.draw(st.lists(part, max_size=30)))
    }
    refs["inline"], refs["whole"], refs["gone"] = "x", ["x://f"], ["x://h", 0, 5]
    store = ReferenceStore(refs, {"x://": LatencyStore(files) if slow else files})
    assert store.high_latency is slow
    ranges = st.none() | st.builds(SuffixByteRequest, st.integers(0, 50))
    keys = data.draw(st.lists(st.sampled_from([*refs, "missing"]), max_size=60))
    requests = [Request(key, data.draw(ranges)) for key in keys]
    results = {r.index: r for r in store.get_many(iter(requests))}
    assert sorted(results) == list(range(len(requests)))
    for number, request in enumerate(requests):
        value, error = results[number][1:]
        if error is not None:
            with pytest.raises(type(error)):
                store.get(*request)
            continue
        expected = store.get(*request)
        assert (value is None) == (expected is None)
        assert bytes(value or b"") == bytes(expected or b"")


def test_neighbours_are_read_by_one_request() -> None:
    rows = np.arange(64 * 1000, dtype="<i4").reshape(64, 1000)
    log = LoggingStore(LatencyStore(MemoryStore({"f": b"head" * 9 + rows.tobytes()})))
    refs = {".zarray": array_document([64, 1000], [1, 1000], "<i4")}
    refs |= {f"{k}.0": ["x://f", 36 + 4000 * k, 4000] for k in range(64)}  # type: ignore[misc]
    array = zarr.open_array(ReferenceStore(refs, {"x://": log}), mode="r")
    assert (array[...] == rows).all()
    assert log.items["get_many"] == 1
    assert (array[::2] == rows[::2]).all()
    assert log.items["get_many"] == 2
    assert (array[5] == rows[5]).all()
    assert log.counter["get"] == 1


def test_whole_files_are_asked_for_at_once() -> None:
    array = zarr.create_array({}, data=np.arange(40), chunks=(4,), zarr_format=2)
    log = LoggingStore(LatencyStore(array.store))
    found = zarr.open_array(ReferenceStore(array.to_references("x://a"), {"x://a": log}), mode="r")
    assert (found[...] == np.arange(40)).all()
    assert (log.items["get_many"], log.counter["get_many"], log.counter["get"]) == (10, 1, 0)


def test_files_of_references_and_pickles(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(FILE)
    refs = {**REFS, "a/0.0": [f"{tmp_path}/file", 100, 50]}
    (tmp_path / "refs.json").write_text(json.dumps({"version": 1, "refs": refs}))
    store = ReferenceStore(tmp_path / "refs.json", [str(tmp_path)])
    travelled = pickle.loads(pickle.dumps(store))
    assert travelled == store
    assert travelled != opened()
    array = pickle.loads(pickle.dumps(zarr.open_group(travelled, mode="r")["a"]))
    assert array[:5].tobytes() == FILE[100:150]
    with pytest.raises(FileNotFoundError, match="no references"):
        ReferenceStore(tmp_path / "other.json")
    with pytest.raises(FileNotFoundError, match="no references"):
        ReferenceStore(tmp_path)
    for text in ("[]", "{", "[" * 100_000):
        (tmp_path / "wrong.json").write_text(text)
        with pytest.raises(MetadataValidationError):
            ReferenceStore(tmp_path / "wrong.json")


def test_references_to_what_is_stored(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "g", zarr_format=2, attributes={"x": 1})
    array = group.create_array("a", data=np.arange(20).reshape(4, 5), chunks=(2, 5))
    refs = group.to_references()
    assert refs["refs"]["a/1.0"] == [f"file://{tmp_path}/g/a/1.0"]
    store = ReferenceStore(refs, [str(tmp_path)])
    again = zarr.open_group(store, mode="r")
    assert again.attrs["x"] == 1
    assert (again["a"][...] == array[...]).all()
    (tmp_path / "g").rename(tmp_path / "moved")
    own = zarr.open_group(tmp_path / "moved")["a"].to_references("x://there/")
    assert own["refs"]["0.0"] == ["x://there/0.0"]
    moved = ReferenceStore(own, {"x://there": LocalStore(tmp_path / "moved/a")})
    assert (zarr.open_array(moved)[...] == np.arange(20).reshape(4, 5)).all()
    with pytest.raises(ValueError, match="say the URL"):
        zarr.zeros(3).to_references()


# --- with fsspec and kerchunk ------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_fsspec_reads_what_is_written_here(tmp_path: Path, zarr_format: Any) -> None:
    import fsspec

    data = np.arange(20.0).reshape(4, 5)
    array = zarr.create_array(tmp_path / "a", data=data, chunks=(2, 5), zarr_format=zarr_format)
    refs = array.to_references()
    mapper = fsspec.get_mapper("reference://", fo=refs, remote_protocol="file")
    assert (zarr.open_array(mapper, mode="r")[...] == data).all()
    assert (zarr.open_array(ReferenceStore(refs, [str(tmp_path)]))[...] == data).all()


@pytest.mark.parametrize("engine", ["pyarrow", "fastparquet"])
@pytest.mark.filterwarnings("ignore")
def test_parquet_that_fsspec_has_written(tmp_path: Path, engine: str, monkeypatch: Any) -> None:
    reference = pytest.importorskip("fsspec.implementations.reference")
    pytest.importorskip("kerchunk.df")
    pytest.importorskip(engine)
    if engine == "fastparquet":
        monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    (tmp_path / "file").write_bytes(FILE)
    out = reference.LazyReferenceMapper.create(str(tmp_path / "refs"), record_size=4, engine=engine)
    out[".zgroup"] = '{"zarr_format": 2}'
    out["a/.zarray"] = json.dumps(array_document([10, 10], [2, 5]))
    out["s/.zarray"] = json.dumps(array_document([], []))
    for k in range(10):
        if k == 3:
            continue
        key = f"a/{k // 2}.{k % 2}"
        out[key] = b"0123456789" if k == 4 else [f"{tmp_path}/file", 10 * k, 10]
    out["s/0"] = [f"{tmp_path}/file"]
    out.flush()
    store = ReferenceStore(tmp_path / "refs", [str(tmp_path)])
    array = zarr.open_group(store, mode="r")["a"]
    expected = np.full((10, 10), 7, "u1")
    for k in range(10):
        block = b"0123456789" if k == 4 else FILE[10 * k : 10 * k + 10]
        if k != 3:
            at = np.s_[k // 2 * 2 : k // 2 * 2 + 2, k % 2 * 5 : k % 2 * 5 + 5]
            expected[at] = np.frombuffer(block, "u1").reshape(2, 5)
    assert (array[...] == expected).all()
    assert array.nchunks_initialized == 9
    assert store.getsize("s/0") == len(FILE)
    for key in ("a/5.0", "a/0", "a/x.0", "b/0.0", "a/-1.0"):
        assert store.get(key) is None
    assert pickle.loads(pickle.dumps(store)) == store


def test_hdf5_that_kerchunk_has_looked_at(tmp_path: Path) -> None:
    hdf = pytest.importorskip("kerchunk.hdf")
    h5py = pytest.importorskip("h5py")
    data = np.arange(40 * 30, dtype="f4").reshape(40, 30)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("t", data=data, chunks=(10, 30), compression="gzip", shuffle=True)
    with open(tmp_path / "f.h5", "rb") as opened_file:
        refs = hdf.SingleHdf5ToZarr(opened_file, str(tmp_path / "f.h5")).translate()
    array = zarr.open_group(ReferenceStore(refs, [str(tmp_path)]), mode="r")["t"]
    assert (array[...] == data).all()
