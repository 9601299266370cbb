"""Arrays of any objects in format 2: json2, msgpack2, vlen-array, categorize and pickle."""

import json
import os
import pickle
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_core
from zarr_core.codecs.objects import object_codec, objects_in
from zarr_core.config import BadConfigError
from zarr_core.errors import (
    ChunkDecodeError,
    CodecError,
    MetadataValidationError,
    PickleCodecDisabledError,
)
from zarr_core.storage import MemoryStore

pytest.importorskip("msgpack", reason="an optional package that msgpack2 needs")
from numcodecs.msgpacks import MsgPack

JSON_VALUES: list[Any] = [{"b": [1, None], "a": "é"}, [], None, True, 1, 1.5, "text", [[1], [2]]]
ARRAYS = [np.arange(n, dtype="i4") for n in (0, 3, 1, 2, 5, 4, 1, 1)]
LABELS = ["a", "b", "a", "", "b", "b", "", "a"]
CASES: dict[str, tuple[Any, list[Any]]] = {
    "json2": (numcodecs.JSON(), JSON_VALUES),
    "msgpack2": (MsgPack(), [*JSON_VALUES[:-1], b"bytes"]),
    "vlen-array": (numcodecs.VLenArray("<i4"), ARRAYS),
    "categorize": (numcodecs.Categorize(["a", "b"], object), LABELS),
    "pickle": (numcodecs.Pickle(), [*JSON_VALUES[:-1], (1, {2})]),
}
SHAPE = (4, 2)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def objects(values: list[Any], shape: tuple[int, ...]) -> Any:
    array = np.empty(len(values), object)
    for index, value in enumerate(values):
        array[index] = value
    return array.reshape(shape)


def same(found: Any, expected: Any) -> bool:
    """Compare objects with their types: 1 is not True."""
    if isinstance(expected, np.ndarray) and expected.dtype == object:
        return found.shape == expected.shape and all(map(same, found.flat, expected.flat))
    if isinstance(expected, np.ndarray):
        return found.dtype == expected.dtype and np.array_equal(found, expected)
    if type(found) is not type(expected):
        return False
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[k], expected[k]) for k in found)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return repr(found) == repr(expected)


def create(store: Any, name: str, **kwargs: Any) -> zarr_core.Array:
    options = {"shape": SHAPE, "chunks": (3, 2), "dtype": object, "zarr_format": 2, **kwargs}
    options |= {"filters": [CASES[name][0]], "allow_pickle": name == "pickle"}
    return zarr_core.open_array(store, path=name, mode="w-", **options)


# --- round trips and NumPy's rules -----------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("compressor", [None, {"id": "zlib", "level": 1}])
def test_objects_come_back_as_they_were(name: str, compressor: Any) -> None:
    expected = objects(CASES[name][1], SHAPE)
    array = create(MemoryStore(), name, compressors=compressor)
    array[...] = expected
    assert same(array[...], expected)
    assert same(array[1:3, 0], expected[1:3, 0])
    assert same(array[2, 1][()], expected[2, 1])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shape", [SHAPE, (8,), (1, 8, 1)])
def test_bytes_are_those_of_numcodecs(name: str, shape: tuple[int, ...]) -> None:
    codec, values = CASES[name]
    array = objects(values, shape)
    made = object_codec(codec.get_config(), allow_pickle=True)
    encoded = made.encode(array)
    assert encoded == bytes(codec.encode(array))
    assert same(objects_in(made, encoded, shape), array)


@given(
    values=st.lists(json_values, min_size=6, max_size=6),
    name=st.sampled_from(["json2", "msgpack2"]),
)
def test_any_json_comes_back(values: list[Any], name: str) -> None:
    made = object_codec({"id": name})
    array = objects(values, (2, 3))
    assert same(objects_in(made, made.encode(array), (2, 3)), array)


def test_an_assignment_means_what_it_means_in_numpy() -> None:
    array = create(MemoryStore(), "json2", shape=3, chunks=2)
    expected = np.empty(3, object)
    for selection, value in [
        (0, [1, 2]),
        (slice(1, 3), [[1], [2, 3]]),
        (slice(0, 2), {"a": 1}),
        (2, "text"),
        (slice(None), np.arange(3)),
    ]:
        array[selection] = value
        expected[selection] = value
        assert same(array[...], expected)
    with pytest.raises(ValueError, match="broadcast"):
        array[...] = [1, 2]
    array.append(objects([{}], (1,)))
    assert same(array[...], objects([*expected, {}], (4,)))


def test_zero_dimensions() -> None:
    for name in ("json2", "msgpack2", "vlen-array", "categorize"):
        array = create(MemoryStore(), name, shape=(), chunks=())
        value = CASES[name][1][1]
        array[...] = objects([value], ())
        assert same(array[...], value)


def test_true_is_stored_though_one_is_the_fill_value() -> None:
    store = MemoryStore()
    array = create(store, "json2", fill_value=1)
    array[...] = True
    assert same(array[...], objects([True] * 8, SHAPE))
    array.resize((6, 2))
    assert same(array[4:], objects([1] * 4, (2, 2)))


@pytest.mark.parametrize("fill", [None, 0, "", 1.5, True, {"a": [1]}, [1, 2]])
def test_fill_values(fill: Any) -> None:
    store = MemoryStore()
    create(store, "json2", fill_value=fill)
    array = zarr_core.open_array(store, path="json2")
    assert same(array[...], objects([fill] * 8, SHAPE))
    array[0, 0] = "x"
    assert same(array[0, 1][()], fill)


# --- what cannot be stored -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("json2", {1, 2}),
        ("json2", b"bytes"),
        ("msgpack2", 1 << 70),
        ("vlen-array", [1.5]),
        ("vlen-array", [1 << 40]),
        ("vlen-array", [[1]]),
        ("vlen-array", "text"),
        ("categorize", "not a label"),
        ("categorize", 5),
        ("pickle", lambda: None),
    ],
)
def test_nothing_is_written_when_one_element_cannot_be_stored(name: str, bad: Any) -> None:
    store = MemoryStore()
    array = create(store, name)
    values = objects([*CASES[name][1][:7], bad], SHAPE)
    with pytest.raises(CodecError):
        array[...] = values
    assert array.nchunks_initialized == 0


@pytest.mark.parametrize(
    "config",
    [
        {"id": "json2", "encoding": "no such"},
        {"id": "json2", "encoding": 1},
        {"id": "json2", "separators": [1]},
        {"id": "json2", "allow_nan": 1},
        {"id": "json2", "unknown": 1},
        {"id": "msgpack2", "raw": 1},
        {"id": "vlen-array"},
        {"id": "vlen-array", "dtype": "|O"},
        {"id": "vlen-array", "dtype": "nonsense"},
        {"id": "vlen-array", "dtype": "V0"},
        {"id": "categorize", "labels": "ab"},
        {"id": "categorize", "labels": ["a"] * 300},
        {"id": "categorize", "labels": [], "astype": "<f8"},
        {"id": "pickle", "protocol": 99},
        {"id": "pickle", "protocol": "5"},
    ],
)
def test_wrong_configurations(config: Mapping[str, Any]) -> None:
    with pytest.raises(MetadataValidationError):
        object_codec(config, allow_pickle=True)
    with pytest.raises(MetadataValidationError):
        zarr_core.create(shape=2, dtype=object, zarr_format=2, filters=[config])


def test_what_objects_are_must_be_said() -> None:
    with pytest.raises(ValueError, match="any objects"):
        zarr_core.create(shape=2, dtype=object, zarr_format=2)
    with pytest.raises(ValueError, match="any objects"):
        zarr_core.create(shape=2, dtype=object, filters=[numcodecs.JSON()])
    source = create(MemoryStore(), "json2")
    with pytest.raises(ValueError, match="any objects"):
        zarr_core.create_array({}, data=source)
    with pytest.raises(ValueError, match="mixes up"):
        create(MemoryStore(), "json2", order="F")


# --- damaged data ----------------------------------------------------------------------------------

HUGE = [[0] * 6, "|O", [1 << 40, 1 << 20]]
DAMAGED: dict[str, list[bytes]] = {
    "json2": [
        *(b"", b"[", b"{}", b"1", b"[]", b'["|O",[3,2]]', b"[" * 100_000, b"\xff"),
        b'[[1,2],[3,4],"|O",[3,2]]',
        b'[[1,2],[3,4],[5],"|O",[3,2]]',
        b'[1,2,3,"|O",[3,2]]',
        json.dumps(HUGE).encode(),
        b"[" + b"9" * 5000 + b"]",
    ],
    "msgpack2": [
        *(b"", b"\x90", b"\xc0", b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc1"),
        b"\xdd\x00\xff\xff\xff" * 1000,
        b"\xdd\x00\x03\xff\xff" * 500 + bytes(1 << 18),  # 500 long lists in each other
        MsgPack().encode(np.zeros((2, 3), object)),
    ],
    "vlen-array": [
        *(b"", b"\xff\xff\xff\xff", b"\x06\x00\x00\x00", b"\x06\x00\x00\x00" + b"\xff" * 24),
        b"\x06\x00\x00\x00" + b"\x03\x00\x00\x00abc" * 6,
        b"\x06\x00\x00\x00" + b"\x00" * 25,
    ],
    "categorize": [b"", b"\x00" * 5, b"\x00" * 7, b"\x03" * 6],
    "pickle": [b"", b"garbage", pickle.dumps([1]), pickle.dumps(np.zeros((2, 3), object))],
}


@pytest.mark.parametrize(("name", "data"), [(n, d) for n, rows in DAMAGED.items() for d in rows])
def test_damaged_chunks(name: str, data: bytes) -> None:
    store = MemoryStore()
    array = create(store, name, compressors=None)
    store.set(f"{name}/0.0", data)
    with pytest.raises(ChunkDecodeError, match=r"chunk \(0, 0\)"):
        array[...]


def test_lists_in_messages_may_be_longer_than_chunks() -> None:
    array = create(MemoryStore(), "msgpack2", shape=2, chunks=2)
    array[0] = list(range(1000))
    assert same(array[0][()], list(range(1000)))


def test_chunks_too_large_are_refused() -> None:
    array = create(MemoryStore(), "json2")
    with (
        zarr_core.config.set({"memory.max_variable_chunk_bytes": 1 << 10}),
        pytest.raises(CodecError),
    ):
        array[...] = "x" * 2000


# --- pickle ------------------------------------------------------------------------------------------


def test_pickle_needs_an_argument_at_the_call() -> None:
    store = MemoryStore()
    group = zarr_core.create_group(store, zarr_format=2)
    array = create(store, "pickle", attributes={"a": 1})
    array[...] = 5
    create(store, "json2")
    group.create_array("number", shape=1, dtype="i4")
    assert [name for name, _ in group.members()] == ["json2", "number", "pickle"]
    assert len(list(group.arrays())) == 3
    assert "pickle (4, 2) object (pickle)" in str(group.tree())
    closed = group["pickle"]
    assert closed.shape == SHAPE
    assert closed.attrs["a"] == 1
    assert "pickle" in repr(closed)
    assert "object (pickle)" in str(closed.info)
    for touch in (lambda: closed[...], lambda: closed.__setitem__(0, 1)):
        with pytest.raises(PickleCodecDisabledError, match="allow_pickle=True"):
            touch()
    for config in ({"allow_pickle": True}, {"_allow_pickle": True}):
        with pytest.raises(BadConfigError):
            closed.with_config(config)
        with pytest.raises(BadConfigError):
            zarr_core.open_array(store, path="pickle", config=config)
    opened = zarr_core.open(store, path="pickle", mode="r", allow_pickle=True)
    assert isinstance(opened, zarr_core.Array)
    assert same(opened[...], objects([5] * 8, SHAPE))
    assert same(opened.refresh().with_config({"order": "F"})[0, 0][()], 5)
    assert same(pickle.loads(pickle.dumps(opened))[0, 0][()], 5)
    with pytest.raises(PickleCodecDisabledError):
        zarr_core.open_array(store, path="pickle")[...]
    options: Any = {"shape": 1, "dtype": object, "zarr_format": 2, "filters": [{"id": "pickle"}]}
    with pytest.raises(PickleCodecDisabledError):
        zarr_core.create(store=store, path="new", **options)
    assert "new" not in group


@pytest.mark.filterwarnings("ignore:.*specification")
def test_no_document_allows_pickle() -> None:
    store = MemoryStore()
    zarr_core.create(store=store, shape=1, dtype=bytes)
    document = json.loads(store.get("zarr.json") or b"")
    filters = {"filters": [{"id": "pickle"}], "allow_pickle": True}
    document["codecs"] = [{"name": "v2.filters", "configuration": filters}]
    store.set("zarr.json", json.dumps(document).encode())
    store.set("c/0", pickle.dumps(np.array([b"1"], object)))
    with pytest.raises(MetadataValidationError, match="allow_pickle"):
        zarr_core.open_array(store)[...]


# --- zarr 2 ----------------------------------------------------------------------------------------

WORKER = """
import pickle, sys
import numcodecs, numpy as np, zarr
from numcodecs.msgpacks import MsgPack
numcodecs.pickles.ALLOW_UNSAFE_PICKLE_DECODE = True
action, root, source = sys.argv[1:]
with open(source, "rb") as file:
    cases = pickle.load(file)
found = {}
for (name, order), (config, fill, values) in cases.items():
    path = f"{root}/{name}-{order}"
    if action == "write":
        array = zarr.create(
            store=path, shape=(4, 2), chunks=(3, 2), dtype=object, fill_value=fill, order=order,
            object_codec=numcodecs.get_codec(config),
        )
        array[:3] = values[:3]
    else:
        found[name, order] = zarr.open_array(path, mode="r")[...]
with open(source, "wb") as file:
    pickle.dump(found, file)
"""


@pytest.mark.skipif("ZARR2_PYTHON" not in os.environ, reason="zarr 2 is not installed")
def test_zarr_2_reads_what_is_written_here_and_the_other_way_round(tmp_path: Path) -> None:
    def run(action: str, root: Path, cases: Any) -> Any:
        source = tmp_path / "cases.pickle"
        source.write_bytes(pickle.dumps(cases, protocol=4))
        command = [
            os.environ["ZARR2_PYTHON"],
            "-W",
            "ignore",
            "-c",
            WORKER,
            action,
            str(root),
            str(source),
        ]
        subprocess.run(command, check=True, timeout=120)
        return pickle.loads(source.read_bytes())

    cases = {
        (name, order): (codec.get_config(), fill, objects(values, SHAPE))
        for name, (codec, values) in CASES.items()
        for order in "CF"
        for fill in ["" if name == "categorize" else None]
    }
    run("write", tmp_path / "theirs", cases)
    for (name, order), (_, fill, values) in cases.items():
        path = tmp_path / "theirs" / f"{name}-{order}"
        expected = objects([*values[:3].flat, fill, fill], SHAPE)
        array = zarr_core.open_array(path, allow_pickle=name == "pickle")
        assert same(array[...], expected), (name, order)
    ours = {key: case for key, case in cases.items() if key[1] == "C"}
    for (name, order), (config, fill, values) in ours.items():
        array = zarr_core.open_array(
            tmp_path / "ours" / f"{name}-{order}",
            mode="w-",
            allow_pickle=name == "pickle",
            shape=SHAPE,
            chunks=(3, 2),
            dtype=object,
            zarr_format=2,
            filters=[config],
            fill_value=fill,
        )
        array[:3] = values[:3]
    for (name, order), found in run("read", tmp_path / "ours", ours).items():
        _, fill, values = ours[name, order]
        assert same(found, objects([*values[:3].flat, fill, fill], SHAPE)), name
