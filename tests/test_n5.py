"""N5: the codec `n5_default`, and hierarchies of N5 shown as format 3."""

import gzip
import json
import math
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numcodecs.lz4
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_core
from zarr_core.codecs import BloscCodec, BytesCodec, GzipCodec, N5DefaultCodec, TransposeCodec
from zarr_core.errors import (
    ArrayNotFoundError,
    ChunkDecodeError,
    DataTypeValidationError,
    MetadataValidationError,
    NodeNotFoundError,
    ReadOnlyError,
    UnknownCodecError,
)
from zarr_core.storage import LatencyStore, LocalStore, MemoryStore, N5View

DTYPES = [f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64)]
DTYPES += ["float32", "float64"]


def block(values: Any, dtype: str = ">u2") -> bytes:
    """Return a raw block of N5."""
    array = np.asarray(values, dtype)
    header = struct.pack(f">HH{array.ndim}I", 0, array.ndim, *array.shape)
    return header + array.tobytes(order="F")


def attributes(**changes: Any) -> dict[str, Any]:
    found = {"dimensions": [7, 5], "blockSize": [3, 4], "dataType": "uint16"}
    return {**found, "compression": {"type": "raw"}, **changes}


def n5(documents: dict[str, Any]) -> MemoryStore:
    """Return a store with documents (as JSON) and blocks (as they are)."""
    store = MemoryStore()
    for key, value in documents.items():
        store.set(key, value if isinstance(value, bytes) else json.dumps(value).encode())
    return store


# --- the codec -------------------------------------------------------------------------------------


def codec(ndim: int, *compressors: Any) -> N5DefaultCodec:
    reverse = TransposeCodec(order=tuple(range(ndim))[::-1])
    return N5DefaultCodec([reverse, BytesCodec(endian="big"), *compressors])


@given(st.sampled_from(DTYPES), st.lists(st.integers(1, 4), min_size=1, max_size=3), st.data())
def test_arrays_come_back_and_are_blocks_of_n5(
    dtype: str, chunk: list[int], data: st.DataObject
) -> None:
    compressor = data.draw(st.sampled_from([None, GzipCodec(), BloscCodec()]))
    shape = tuple(n + data.draw(st.integers(0, 3)) for n in chunk)
    values = np.arange(1, 1 + math.prod(shape)).reshape(shape).astype(dtype)
    chain = codec(len(chunk), *([] if compressor is None else [compressor]))
    a = zarr_core.create_array(
        {}, shape=shape, chunks=chunk, dtype=dtype, serializer=chain, compressors=None
    )
    a[...] = values
    assert np.array_equal(zarr_core.open_array(a.store)[...], values)
    document = json.loads(a.store.get("zarr.json") or b"")["codecs"]
    assert [entry["name"] for entry in document] == ["n5_default"]
    assert pickle.loads(pickle.dumps(chain)) == chain
    if compressor is None:
        first = a[tuple(slice(n) for n in chunk)]
        assert a.read_encoded_chunk((0,) * len(chunk)) == block(
            first, np.dtype(dtype).str.replace("<", ">")
        )


def test_blosc_gets_the_size_of_elements() -> None:
    a = zarr_core.create_array(
        {}, shape=4, dtype="u4", serializer=codec(1, BloscCodec()), compressors=None
    )
    document = json.loads(a.store.get("zarr.json") or b"")["codecs"][0]["configuration"]["codecs"]
    assert document[2]["configuration"]["typesize"] == 4


@pytest.mark.parametrize("shape", [(2, 2), (3, 1), (1, 4), (5, 4), (9, 9)])
def test_blocks_that_are_shorter_or_longer_than_chunks(shape: tuple[int, int]) -> None:
    a = zarr_core.create_array(
        {},
        shape=(3, 4),
        chunks=(3, 4),
        dtype="u2",
        serializer=codec(2),
        compressors=None,
        fill_value=9,
    )
    values = np.arange(1, 1 + math.prod(shape)).reshape(shape)
    a.store.set("c/0/0", block(values))
    expected = np.full((3, 4), 9)
    expected[: shape[0], : shape[1]] = values[:3, :4]
    assert np.array_equal(a[...], expected)


def test_many_shapes_of_blocks_are_not_all_kept() -> None:
    a = zarr_core.create_array(
        {}, shape=200, chunks=200, dtype="u1", serializer=codec(1), compressors=None
    )
    for n in range(1, 201):
        a.store.set("c/0", block(np.ones(n), "u1"))
        assert a[...].sum() == n


GOOD = block(np.zeros((3, 4)))


@pytest.mark.parametrize(
    "data",
    [
        *(b"", GOOD[:3], GOOD[:11], GOOD[:-1], GOOD + b"x", b"\x00\x01" + GOOD[2:]),
        b"\x00\x02" + GOOD[2:],
        b"\x00\x00\x00\x03" + GOOD[4:],
        struct.pack(">HHII", 0, 2, 0, 4),
        struct.pack(">HHII", 0, 2, 2**32 - 1, 2**32 - 1) + bytes(24),
        struct.pack(">HHII", 0, 2, 1 << 13, 1 << 13) + bytes(24),
    ],
)
def test_damaged_blocks(data: bytes) -> None:
    a = zarr_core.create_array(
        {}, shape=(3, 4), chunks=(3, 4), dtype="u2", serializer=codec(2), compressors=None
    )
    a.store.set("c/0/0", data)
    with pytest.raises(ChunkDecodeError, match="n5_default"):
        a[...]


def test_a_compressed_block_does_not_grow_beyond_what_it_says() -> None:
    a = zarr_core.create_array(
        {},
        shape=(3, 4),
        chunks=(3, 4),
        dtype="u2",
        serializer=codec(2, GzipCodec()),
        compressors=None,
    )
    a.store.set("c/0/0", GOOD[:12] + gzip.compress(bytes(1 << 24)))
    with pytest.raises(ChunkDecodeError):
        a[...]


REVERSE = {"name": "transpose", "configuration": {"order": [1, 0]}}
BIG = {"name": "bytes", "configuration": {"endian": "big"}}


@pytest.mark.parametrize(
    "codecs",
    [
        None,
        5,
        "bytes",
        [],
        [BIG],
        [REVERSE],
        [BIG, REVERSE],
        [{"name": "transpose", "configuration": {"order": [0, 1]}}, BIG],
        [REVERSE, {"name": "bytes", "configuration": {"endian": "little"}}],
        [REVERSE, BIG, {"name": "gzip", "configuration": {"level": 1}}, {"name": "crc32c"}],
        [REVERSE, BIG, REVERSE],
        [REVERSE, {"name": "n5_default", "configuration": {"codecs": [REVERSE, BIG]}}],
    ],
)
def test_refused_configurations(codecs: Any) -> None:
    with pytest.raises(MetadataValidationError):
        zarr_core.create_array(
            {}, shape=(3, 4), dtype="u2", compressors=None,
            serializer={"name": "n5_default", "configuration": {"codecs": codecs}},
        )  # fmt: skip


@pytest.mark.parametrize("dtype", ["bool", "float16", "complex64", "S3", "M8[s]", str])
@pytest.mark.filterwarnings("ignore:.*specification")
def test_refused_data_types(dtype: Any) -> None:
    with pytest.raises(MetadataValidationError):
        zarr_core.create_array({}, shape=4, dtype=dtype, serializer=codec(1), compressors=None)


# --- hierarchies -----------------------------------------------------------------------------------

VALUES = np.arange(1, 36).reshape(7, 5)
HIERARCHY = {
    "attributes.json": {"n5": "4.0.0", "title": "all"},
    "a/attributes.json": attributes(units=["nm", "s"], axes=["x", "y"]),
    **{
        f"a/{i}/{j}": block(VALUES[3 * i : 3 * i + 3, 4 * j : 4 * j + 4])
        for i, j in np.ndindex(3, 2)
        if (i, j) != (1, 1)
    },
    "groups/deep/b/attributes.json": attributes(
        dimensions=[4], blockSize=[4], dataType="uint8", compression={"type": "gzip", "useZlib": True}
    ),
    "groups/deep/b/0": struct.pack(">HHI", 0, 1, 4) + zlib.compress(b"1234"),
    "groups/old/attributes.json": {
        "dimensions": [2], "blockSize": [2], "dataType": "int8", "compressionType": "raw"
    },
}  # fmt: skip


@pytest.mark.parametrize("slow", [False, True])
def test_a_hierarchy_of_n5_reads_as_format_3(slow: bool) -> None:
    inner = n5(HIERARCHY)
    view = N5View(LatencyStore(inner) if slow else inner)
    root = zarr_core.open_group(view, mode="r")
    assert dict(root.attrs) == {"title": "all"}
    members = dict(root.members(max_depth=None))
    assert sorted(members) == ["a", "groups", "groups/deep", "groups/deep/b", "groups/old"]
    a = root["a"]
    expected = VALUES.copy()
    expected[3:6, 4:] = 0
    assert np.array_equal(a[...], expected)
    assert np.array_equal(a[::-2, 1], expected[::-2, 1])
    assert a.metadata.dimension_names == ("x", "y")
    assert dict(a.attrs) == {"units": ["nm", "s"], "axes": ["x", "y"]}
    assert a.nchunks_initialized == 5
    assert root["groups/deep/b"][...].tolist() == list(b"1234")
    assert root["groups/old"].dtype == np.int8
    assert root["groups/old"][...].tolist() == [0, 0]
    assert np.array_equal(zarr_core.open_array(view, path="a", mode="r")[2], expected[2])
    assert np.array_equal(pickle.loads(pickle.dumps(view)).get("a/0/0"), inner.get("a/0/0"))


def test_keys_are_those_of_format_3() -> None:
    view = N5View(n5({**HIERARCHY, "a/zarr.json": {}, "a/.zarray": {}, "a/0/notes": b"x"}))
    keys = sorted(view.list_prefix(""))
    documents = [key for key in keys if key.endswith(".json")]
    nodes = ["a/", "groups/", "groups/deep/", "groups/deep/b/", "groups/old/", ""]
    assert sorted(documents) == sorted(f"{node}zarr.json" for node in nodes)
    assert len(keys) - len(documents) == 5 + 1 + 1  # blocks, and a file that is kept
    for key in keys:
        value = view.get(key)
        assert value is not None
        assert view.exists(key)
        assert view.getsize(key) == len(value)
    assert sorted(view.list_prefix("a/0")) == ["a/0/0", "a/0/1", "a/0/notes"]
    assert sorted(view.list_dir("a")) == ["0", "1", "2", "zarr.json"]
    assert sorted(view.list_dir("groups")) == ["deep", "old", "zarr.json"]
    assert sorted(view.list_dir("a/0")) == ["0", "1", "notes"]
    for key in ("attributes.json", "a/.zarray", "a/.zgroup", "a/0/zarr.json", "none/zarr.json"):
        assert view.get(key) is None
        assert not view.exists(key)
    assert view.getsize_prefix("a") == sum(len(view.get(k) or b"") for k in view.list_prefix("a"))


def test_an_array_at_the_root_and_nothing_at_all() -> None:
    view = N5View(n5({"attributes.json": attributes(), "0/0": block(VALUES[:3, :4])}))
    assert zarr_core.open_array(view, mode="r")[0, 1] == 2
    assert sorted(view.list_prefix("")) == ["0/0", "zarr.json"]
    with pytest.raises(NodeNotFoundError):
        zarr_core.open(N5View(MemoryStore()), mode="r")
    with pytest.raises(ArrayNotFoundError):
        zarr_core.open_array(view, path="0", mode="r")


def test_nothing_is_written() -> None:
    inner = n5(HIERARCHY)
    before = {key: inner.get(key) for key in inner.list_prefix("")}
    view = N5View(inner)
    assert view.read_only
    root = zarr_core.open_group(view, mode="r")
    for write in (
        lambda: root["a"].__setitem__(0, 1),
        lambda: root.attrs.update(x=1),
        lambda: root.create_group("new"),
        lambda: root.__delitem__("a"),
        lambda: view.set("a/0/0", b""),
        lambda: view.delete("a/0/0"),
        lambda: view.delete_dir("a"),
        lambda: view.set_if_not_exists("k", b""),
        lambda: view.with_read_only(False),
        lambda: zarr_core.open_group(view, mode="r+"),
        lambda: zarr_core.create_group(view, overwrite=True),
    ):
        with pytest.raises(ReadOnlyError):
            write()
    assert {key: inner.get(key) for key in inner.list_prefix("")} == before
    assert view.with_read_only(True) is view


@pytest.mark.parametrize(
    "changes",
    [
        {"dimensions": []},
        {"dimensions": 5},
        {"dimensions": [7, -1]},
        {"dimensions": [7, 2**63]},
        {"dimensions": [7.0, 5.0]},
        {"blockSize": None},
        {"blockSize": [3]},
        {"blockSize": [3, 0]},
        {"dataType": 5},
        {"compression": 5},
        {"compression": {}},
        {"compression": {"type": 5}},
        {"compression": {"type": "gzip", "level": 99}},
        {"compression": {"type": "gzip", "level": "x"}},
        {"compression": {"type": "blosc", "shuffle": 7}},
        {"compression": {"type": "x" * 1000}},
    ],
)
def test_attributes_that_describe_no_array_of_n5(changes: dict[str, Any]) -> None:
    view = N5View(n5({"attributes.json": attributes(**changes)}))
    with pytest.raises(MetadataValidationError, match=r"attributes\.json"):
        zarr_core.open_array(view, mode="r")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"[" * 10_000])
def test_attributes_that_are_no_document(text: bytes) -> None:
    with pytest.raises(MetadataValidationError, match=r"attributes\.json"):
        zarr_core.open(N5View(n5({"attributes.json": text})), mode="r")


def test_what_is_not_known_is_listed_and_raises_when_it_is_read() -> None:
    view = N5View(
        n5(
            {
                "jpeg/attributes.json": attributes(compression={"type": "jpeg", "quality": 9}),
                "objects/attributes.json": attributes(dataType="object"),
                "blosc/attributes.json": attributes(compression={"type": "blosc", "cname": "none"}),
            }
        )
    )
    root = zarr_core.open_group(view, mode="r")
    assert [name for name, _ in root.arrays()] == ["blosc", "jpeg", "objects"]
    assert root["jpeg"].shape == (7, 5)
    with pytest.raises(UnknownCodecError, match=r"n5\.jpeg"):
        root["jpeg"][...]
    with pytest.raises(DataTypeValidationError, match=r"n5\.object"):
        root["objects"][...]
    with pytest.raises(MetadataValidationError, match="none"):
        root["blosc"][...]


# --- LZ4 -------------------------------------------------------------------------------------------


def lz4_block(data: bytes, method: int = 0x20, **wrong: int) -> bytes:
    """Return a block of the framing of lz4-java."""
    packed = numcodecs.lz4.compress(data)[4:] if method & 0x20 else data
    sizes = {"packed": len(packed), "size": len(data)} | wrong
    return struct.pack("<8sBiiI", b"LZ4Block", method, sizes["packed"], sizes["size"], 0) + packed


PLAIN = bytes(range(12)) + bytes(12)
FRAMES = {
    "one block": lz4_block(PLAIN) + lz4_block(b"", 0x16),
    "two blocks": lz4_block(PLAIN[:9]) + lz4_block(PLAIN[9:], 0x16) + lz4_block(b"", 0x16),
    "without an end": lz4_block(PLAIN, 0x26),
    "a bare block": numcodecs.lz4.compress(PLAIN)[4:],
}


def lz4_array(data: bytes) -> Any:
    described = attributes(
        dimensions=[3, 4], blockSize=[3, 4], dataType="uint16", compression={"type": "lz4"}
    )
    view = N5View(n5({"attributes.json": described, "0/0": GOOD[:12] + data}))
    return zarr_core.open_array(view, mode="r")[...]


@pytest.mark.parametrize("frame", FRAMES)
def test_lz4_of_n5(frame: str) -> None:
    expected = np.frombuffer(PLAIN, ">u2").reshape((3, 4), order="F")
    assert np.array_equal(lz4_array(FRAMES[frame]), expected)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"LZ4Block", b"nonsense" * 4, FRAMES["one block"][:-1], FRAMES["one block"] + b"x"),
        lz4_block(PLAIN[:-1]),
        lz4_block(PLAIN + b"x"),
        lz4_block(PLAIN, size=2**31 - 1),
        lz4_block(PLAIN, size=-1),
        lz4_block(PLAIN, size=23),
        lz4_block(PLAIN, packed=-1),
        lz4_block(PLAIN, packed=2**31 - 1),
        lz4_block(PLAIN, 0x40),
        lz4_block(b"") * 3,
    ],
)
def test_damaged_lz4(data: bytes) -> None:
    with pytest.raises(ChunkDecodeError, match="n5_default"):
        lz4_array(data)


# --- tensorstore -----------------------------------------------------------------------------------

COMPRESSIONS: dict[str, dict[str, Any]] = {
    "raw": {"type": "raw"},
    "gzip": {"type": "gzip"},
    "zlib": {"type": "gzip", "level": 3, "useZlib": True},
    "bzip2": {"type": "bzip2", "blockSize": 5},
    "xz": {"type": "xz"},
    "blosc": {"type": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1},
    "bitshuffle": {"type": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 2},
    "zstd": {"type": "zstd"},
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_tensorstore_writes_and_this_reads(compression: str, tmp_path: Path) -> None:
    tensorstore = pytest.importorskip("tensorstore", reason="a peer")
    rng = np.random.default_rng(0)
    arrays = {}
    for dtype in DTYPES:
        values = rng.integers(0, 100, (7, 5, 4)).astype(dtype)
        metadata = attributes(dimensions=[7, 5, 4], blockSize=[3, 4, 2], dataType=dtype)
        metadata |= {"compression": COMPRESSIONS[compression], "axes": ["x", "y", "z"]}
        spec = {
            "driver": "n5", "kvstore": {"driver": "file", "path": str(tmp_path / "deep" / dtype)},
            "metadata": metadata,
        }  # fmt: skip
        theirs = tensorstore.open(spec, create=True).result()
        theirs[:6].write(values[:6]).result()
        arrays[dtype] = np.concatenate([values[:6], np.zeros((1, 5, 4), dtype)])
    group = zarr_core.open_group(N5View(LocalStore(tmp_path)), path="deep", mode="r")
    found = dict(group.arrays())
    assert sorted(found) == sorted(DTYPES)
    for dtype, expected in arrays.items():
        assert found[dtype].dtype == dtype
        assert np.array_equal(found[dtype][...], expected)
        assert np.array_equal(found[dtype][5:2:-1, ::2, 1], expected[5:2:-1, ::2, 1])
        assert found[dtype].metadata.dimension_names == ("x", "y", "z")


@pytest.mark.parametrize("dtype", DTYPES)
def test_this_writes_blocks_and_tensorstore_reads(dtype: str, tmp_path: Path) -> None:
    tensorstore = pytest.importorskip("tensorstore", reason="a peer")
    values = np.random.default_rng(1).integers(0, 100, (7, 5)).astype(dtype)
    a = zarr_core.create_array(
        tmp_path, shape=(7, 5), chunks=(3, 4), dtype=dtype, compressors=None,
        serializer=codec(2, GzipCodec()), chunk_key_encoding={"name": "v2", "separator": "/"},
    )  # fmt: skip
    a[:3] = values[:3]
    described = attributes(dataType=dtype, compression={"type": "gzip"})
    (tmp_path / "attributes.json").write_text(json.dumps(described))
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": str(tmp_path)}}
    theirs = tensorstore.open(spec).result().read().result()
    assert np.array_equal(theirs, a[...])
    assert np.array_equal(theirs[:3], values[:3])
