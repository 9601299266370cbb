"""Shards: equal to arrays without them, few requests, damaged indexes, threads."""

import os
import struct
import threading
import tracemalloc
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import at_once
from sharded import create
from strategies import basic, picked, selections

import zarr_core
from zarr_core.chunks import rows as chunk_rows
from zarr_core.chunks.sharding import morton_order
from zarr_core.codecs import (
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    VLenUTF8Codec,
    ZstdCodec,
    registry,
)
from zarr_core.codecs.base import BytesBytesCodec, BytesStage
from zarr_core.errors import ChunkDecodeError, ChunkEncodeError, MetadataValidationError
from zarr_core.storage import LocalStore, MemoryStore, local
from zarr_core.storage.base import RangeByteRequest, SuffixByteRequest, ValueSnapshot
from zarr_core.storage.ranges import merge_ranges
from zarr_core.threads import pool

READS = 10_000 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 300
LITTLE = BytesCodec(endian="little")
MISSING = 2**64 - 1


class CountingStore(MemoryStore):
    """A store with parts of values, which lists every request for a chunk."""

    def __init__(self, high_latency: bool = False) -> None:
        super().__init__()
        self.high_latency = high_latency
        self.calls: list[Any] = []

    def get(self, key: str, byte_range: Any = None) -> Any:
        self.calls.append(("get", key))
        return super().get(key, byte_range)

    def open_value(self, key: str) -> Any:
        value = super().get(key)
        return None if value is None else CountingValue(self.calls, value)

    def set(self, key: str, value: Any) -> None:
        self.calls.append(("set", key))
        super().set(key, value)

    def delete(self, key: str) -> None:
        self.calls.append(("delete", key))
        super().delete(key)


class CountingValue:
    """A value of which every part that is read is listed."""

    version = None

    def __init__(self, calls: list[Any], value: bytes) -> None:
        self._calls = calls
        self._snapshot = ValueSnapshot(value)
        self.size = len(value)

    def read(self, byte_range: Any = None) -> Any:
        self._calls.append(byte_range)
        return self._snapshot.read(byte_range)

    def close(self) -> None:
        self._calls.append("close")


def filled(**options: Any) -> tuple[CountingStore, zarr_core.Array]:
    store = CountingStore()
    array = create(store, **options)
    array[...] = np.arange(1, array.size + 1).reshape(array.shape)
    store.calls.clear()
    return store, array


def index_of(
    shard: Any, count: int, location: str = "end", endian: str = "<", checksum: bool = True
) -> Any:
    size = 16 * count + 4 * checksum
    data = shard[-size:] if location == "end" else shard[:size]
    return np.frombuffer(data[: 16 * count], f"{endian}u8").reshape(count, 2)


# --- against arrays without shards, and NumPy ------------------------------------------------------

DTYPES: dict[str, tuple[Any, Any]] = {
    "int": ("int32", 7),
    "float": ("float64", np.nan),
    "struct": (np.dtype([("x", "i4"), ("y", "f8")]), (1, 2.0)),
    "fixed": ("<U4", "ab"),
    "text": (str, "fill"),
}


def values_of(array: Any, where: Any, number: int) -> Any:
    """Return as many different values as there are places, so that one sees which came last."""
    numbers = number * 1000 + np.arange(np.size(where)).reshape(np.shape(where))
    if array.dtype.names is None:
        kind = {"U": "<U4", "T": array.dtype}.get(array.dtype.kind)
        return numbers if kind is None else numbers.astype("<U4").astype(kind)
    values = np.empty(numbers.shape, array.dtype)
    values["x"], values["y"] = numbers, numbers / 2
    return values


@st.composite
def layouts(draw: st.DrawFn) -> tuple[dict[str, Any], list[tuple[int, ...]], Any]:
    """Return the options of a sharded array, the edges of its shards, and an outer permutation."""
    inner = tuple(draw(st.lists(st.integers(1, 3), max_size=3)))
    ndim = len(inner)
    if ndim and draw(st.integers(0, 3)) == 0:
        edges = [
            tuple(n * m for m in draw(st.lists(st.integers(1, 2), min_size=1, max_size=3)))
            for n in inner
        ]
        chunks: Any = [list(e) for e in edges]
        shape = tuple(map(sum, edges))
    else:
        chunks = tuple(n * draw(st.integers(1, 3)) for n in inner)
        shape = tuple(draw(st.integers(0, 7)) for _ in inner)
        edges = [(c,) * max(1, -(-n // c)) for n, c in zip(shape, chunks, strict=True)]
    order = tuple(draw(st.permutations(range(ndim)))) if ndim > 1 else None
    if draw(st.booleans()):
        order = None
    inner_there = inner if order is None else tuple(inner[axis] for axis in order)
    name = draw(st.sampled_from(list(DTYPES)))
    dtype, fill = DTYPES[name]
    big = BytesCodec(endian="big")
    turned = TransposeCodec(order=tuple(reversed(range(ndim))))
    serializers: list[list[Any]] = [[LITTLE], [big], [turned, LITTLE]]
    compressors = draw(st.sampled_from([[], [Crc32cCodec()], [ZstdCodec(level=1)], [GzipCodec()]]))
    serializer = draw(st.sampled_from(serializers)) if name != "text" else [VLenUTF8Codec()]
    codecs: list[Any] = [*serializer, *compressors]
    if draw(st.integers(0, 2)) == 0:
        smaller = tuple(
            draw(st.sampled_from([d for d in (1, 2, 3) if n % d == 0])) for n in inner_there
        )
        codecs = [draw(sharding(smaller, codecs))]
    options = {
        "shape": shape,
        "chunks": chunks,
        "dtype": dtype,
        "fill_value": fill,
        "filters": None if order is None else [TransposeCodec(order=order)],
        "serializer": draw(sharding(inner_there, codecs)),
        "compressors": draw(st.sampled_from([None, None, None, [GzipCodec()]])),
        "config": {"write_empty_chunks": draw(st.booleans())},
    }
    return options, edges, chunks


def sharding(chunk_shape: tuple[int, ...], codecs: list[Any]) -> st.SearchStrategy[ShardingCodec]:
    return st.builds(
        ShardingCodec,
        chunk_shape=st.just(chunk_shape),
        codecs=st.just(codecs),
        index_codecs=st.sampled_from(
            [[LITTLE, Crc32cCodec()], [LITTLE], [BytesCodec(endian="big"), Crc32cCodec()]]
        ),
        index_location=st.sampled_from(["end", "start"]),
        subchunk_write_order=st.sampled_from(
            ["morton", "unordered", "lexicographic", "colexicographic"]
        ),
    )


@given(data=st.data(), layout=layouts(), slow=st.booleans())
def test_equals_an_array_without_shards_and_numpy(
    data: st.DataObject, layout: Any, slow: bool
) -> None:
    options, edges, chunks = layout
    shape = options["shape"]
    store = CountingStore(high_latency=slow)
    sharded = create(store, shards=None, **options)
    simple = {**options, "filters": None, "compressors": None, "serializer": "auto"}
    plain = create(shards=None, **{**simple, "chunks": chunks})
    expected = np.full(shape, sharded.fill_value, sharded.dtype)
    for number in range(data.draw(st.integers(1, 4), "writes")):
        selection = data.draw(selections(shape, edges))
        where = picked(shape, edges, selection)
        fields = data.draw(st.sampled_from([None, "x", "y"])) if sharded.dtype.names else None
        if data.draw(st.integers(0, 3)):
            values = values_of(sharded, where, number)
        else:
            values = np.full(np.shape(where), sharded.fill_value, sharded.dtype)
        for array in (sharded, plain):
            write = getattr(array, f"set_{selection.kind}_selection")
            write(selection.index, values if fields is None else values[fields], fields=fields)
        flat = expected.reshape(-1)
        if fields is None:
            flat[where] = values
        else:
            flat[fields][where] = values[fields]
    for array in (sharded, plain, zarr_core.open_array(store)):
        np.testing.assert_array_equal(array[...], expected)
    assert sorted(store.list()) == sorted(plain.store.list())
    for _ in range(2):
        selection = data.draw(selections(shape, edges))
        read = getattr(sharded, f"get_{selection.kind}_selection")
        wanted = expected.reshape(-1)[picked(shape, edges, selection)]
        np.testing.assert_array_equal(read(selection.index), wanted)
        if sharded.dtype.names:
            np.testing.assert_array_equal(read(selection.index, fields="y"), wanted["y"])


@given(data=st.data())
def test_any_limits_of_merging(data: st.DataObject) -> None:
    limits = st.sampled_from([0, 1, 20, 100, 1000])
    config = {
        "sharding_coalesce_max_gap_bytes": data.draw(limits),
        "sharding_coalesce_max_bytes": data.draw(limits),
    }
    _, array = filled(config=config)
    selection = data.draw(selections((8, 8), [(4, 4)] * 2))
    expected = np.arange(1, 65).reshape(8, 8).reshape(-1)[picked((8, 8), [(4, 4)] * 2, selection)]
    read = getattr(array, f"get_{selection.kind}_selection")
    np.testing.assert_array_equal(read(selection.index), expected)


# --- bytes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("location", ["end", "start"])
def test_bytes_of_a_shard_with_one_inner_chunk(location: str) -> None:
    store = MemoryStore()
    array = create(
        store,
        shape=4,
        chunks=(1,),
        shards={"shape": (4,), "index_location": location},
        dtype="int64",
    )
    array[2] = 258
    shard = store.get("c/0")
    assert shard is not None
    assert len(shard) == 76
    offset = 0 if location == "end" else 68
    entries = [[MISSING, MISSING]] * 2 + [[offset, 8]] + [[MISSING, MISSING]]
    assert index_of(shard, 4, location).tolist() == entries
    assert shard[offset : offset + 8] == struct.pack("<q", 258)


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("checksum", [True, False])
def test_index_codecs(endian: Any, checksum: bool) -> None:
    codecs: list[Any] = [BytesCodec(endian="little" if endian == "<" else "big")]
    codec = ShardingCodec(chunk_shape=(1,), index_codecs=codecs + [Crc32cCodec()] * checksum)
    store = MemoryStore()
    array = create(store, shape=3, chunks=(3,), shards=None, dtype="u1", serializer=codec)
    array[1:] = [5, 6]
    shard = store.get("c/0")
    assert shard is not None
    assert len(shard) == 2 + 48 + 4 * checksum
    index = index_of(shard, 3, endian=endian, checksum=checksum)
    assert index.tolist() == [[MISSING, MISSING], [0, 1], [1, 1]]
    assert array[...].tolist() == [0, 5, 6]


def test_index_location_may_be_absent() -> None:
    _, array = filled()
    document = array.metadata.to_dict()
    del document["codecs"][0]["configuration"]["index_location"]
    again = zarr_core.Array.from_dict(array.store_path, document)
    np.testing.assert_array_equal(again[...], array[...])


def test_index_codecs_have_a_fixed_size() -> None:
    codec = ShardingCodec(chunk_shape=(2, 2), index_codecs=[LITTLE, ZstdCodec()])
    with pytest.raises(MetadataValidationError, match="fixed size"):
        create(shards=None, chunks=(4, 4), serializer=codec)


ORDERS = {
    "morton": [0, 4, 1, 5, 8, 12, 9, 13, 2, 6, 3, 7, 10, 14, 11, 15],
    "lexicographic": list(range(16)),
    "colexicographic": np.arange(16).reshape(4, 4).T.reshape(-1).tolist(),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("through", ["codec", "config"])
def test_write_order(order: Any, through: str) -> None:
    store = MemoryStore()
    options: dict[str, Any] = {"shards": None, "chunks": (4, 4), "shape": (4, 4)}
    codec = ShardingCodec(chunk_shape=(1, 1))
    if through == "codec":
        codec = ShardingCodec(chunk_shape=(1, 1), subchunk_write_order=order)
        array = create(store, serializer=codec, **options)
    else:
        config = {"subchunk_write_order": order}
        array = create(store, serializer=codec, config=config, **options)
    array[...] = np.arange(1, 17).reshape(4, 4)
    assert np.argsort(index_of(store.get("c/0/0"), 16)[:, 0]).tolist() == ORDERS[order]
    array[2, 1] = 100
    assert np.argsort(index_of(store.get("c/0/0"), 16)[:, 0]).tolist() == ORDERS[order]
    expected = np.arange(1, 17).reshape(4, 4)
    expected[2, 1] = 100
    np.testing.assert_array_equal(array[...], expected)


def test_unordered_keeps_the_order_that_is_there() -> None:
    options: dict[str, Any] = {"shards": None, "chunks": (4, 4), "shape": (4, 4)}
    store = MemoryStore()
    codec = ShardingCodec(chunk_shape=(1, 1), subchunk_write_order="colexicographic")
    create(store, serializer=codec, **options)[...] = 1
    array = zarr_core.open_array(store, config={"subchunk_write_order": "unordered"})
    array[0, 1] = 2
    order = np.argsort(index_of(store.get("c/0/0"), 16)[:, 0])
    assert order.tolist() == ORDERS["colexicographic"]
    assert array[0].tolist() == [1, 2, 1, 1]


@given(st.lists(st.integers(1, 9), max_size=4))
def test_morton_order_interleaves_bits(counts: list[int]) -> None:
    def code(coords: Any) -> int:
        bits = [(n - 1).bit_length() for n in counts]
        places = [
            (b, d) for b in range(max(bits, default=0)) for d in range(len(bits)) if b < bits[d]
        ]
        return sum((int(coords[d]) >> b & 1) << i for i, (b, d) in enumerate(places))

    order = morton_order(tuple(counts))
    codes = [code(np.unravel_index(n, counts)) if counts else 0 for n in order]
    assert sorted(order.tolist()) == list(range(int(np.prod(counts))))
    assert codes == sorted(codes)


# --- layouts ---------------------------------------------------------------------------------------


def test_inner_chunks_of_fill_are_not_stored() -> None:
    store, array = filled()
    array[:2, :2] = 0
    assert index_of(store.get("c/0/0"), 4)[0].tolist() == [MISSING, MISSING]
    array[:4, :4] = 0
    assert not store.exists("c/0/0")
    assert array[:5, :5].sum() == sum(range(33, 38)) + sum((5, 13, 21, 29))
    full = array.with_config({"write_empty_chunks": True})
    full[:2, :2] = 0
    assert index_of(store.get("c/0/0"), 4)[0].tolist() == [0, 16]
    assert index_of(store.get("c/0/0"), 4)[1].tolist() == [MISSING, MISSING]


def test_negative_zero_is_not_fill() -> None:
    store = MemoryStore()
    array = create(store, dtype="f4", fill_value=0.0)
    array[...] = 0.0
    assert not store.exists("c/0/0")
    array[0, 0] = -0.0
    assert np.signbit(array[0, 0])


def test_without_dimensions() -> None:
    store = MemoryStore()
    array = create(store, shape=(), chunks=(), shards=())
    array[...] = 5
    assert len(store.get("c") or b"") == 4 + 16 + 4
    assert array[...] == 5
    array[...] = 0
    assert not store.exists("c")


def test_shards_at_the_edge_are_whole() -> None:
    store, array = filled(shape=(5, 7))
    shard = store.get("c/1/1")
    assert shard is not None
    entries = index_of(shard, 4)[:, 0].tolist()
    assert entries == [0, 16, MISSING, MISSING]  # beyond the end nothing is stored
    array.resize((8, 8))
    expected = np.zeros((8, 8), "i4")
    expected[:5, :7] = np.arange(1, 36).reshape(5, 7)
    np.testing.assert_array_equal(array[...], expected)


def test_making_the_array_smaller_resets_the_rest() -> None:
    _, array = filled()
    array.resize((5, 3))
    array.resize((8, 8))
    expected = np.zeros((8, 8), "i4")
    expected[:5, :3] = np.arange(1, 65).reshape(8, 8)[:5, :3]
    np.testing.assert_array_equal(array[...], expected)


def test_rectilinear() -> None:
    _, array = filled(shards=[[4, 2, 2], [2, 6]])
    np.testing.assert_array_equal(array[...], np.arange(1, 65).reshape(8, 8))
    np.testing.assert_array_equal(array[5:2:-1, 1::3], np.arange(1, 65).reshape(8, 8)[5:2:-1, 1::3])
    with pytest.raises(ValueError, match="multiple"):
        create(shards=[[4, 3, 1], [2, 6]])
    codec = ShardingCodec(chunk_shape=(2, 2))
    with pytest.raises(ValueError, match="divide"):
        create(chunks=[[4, 3, 1], [2, 6]], shards=None, serializer=codec)


@pytest.mark.filterwarnings("ignore:Automatic shard shape:UserWarning")
def test_automatic_shards() -> None:
    array = create(shape=(100, 100), chunks=(10, 10), shards="auto")
    assert array.shards == (20, 20)
    with zarr_core.config.set({"array.target_shard_size_bytes": 10_000}):
        array = create(shape=(100, 100), chunks=(10, 10), shards="auto")
    assert array.shards == (50, 50)


@pytest.mark.parametrize(
    ("chunk_shape", "match"), [((3, 2), "divide"), ((2,), "divide"), ((0, 2), "at least 1")]
)
def test_inner_chunks_divide_shards(chunk_shape: Any, match: str) -> None:
    with pytest.raises(MetadataValidationError, match=match):
        create(chunks=(4, 4), shards=None, serializer=ShardingCodec(chunk_shape=chunk_shape))


@pytest.mark.parametrize(
    "change",
    [
        {"chunk_shape": "2,2"},
        {"chunk_shape": [2, -2]},
        {"chunk_shape": [2, True]},
        {"codecs": {}},
        {"codecs": []},
        {"index_codecs": None},
        {"index_location": "middle"},
        {"unknown": 1},
    ],
)
def test_configurations_that_are_refused(change: dict[str, Any]) -> None:
    _, array = filled()
    document = array.metadata.to_dict()
    document["codecs"][0]["configuration"].update(change)
    with pytest.raises(MetadataValidationError):
        zarr_core.Array.from_dict(array.store_path, document)[...]


def test_a_huge_number_of_inner_chunks_is_refused() -> None:
    codec = ShardingCodec(chunk_shape=(1, 1))
    with pytest.raises(MetadataValidationError, match="too many"):
        create(shape=(2**20, 2**20), chunks=(2**20, 2**20), shards=None, serializer=codec)


def test_the_codec_as_json() -> None:
    codec = ShardingCodec(chunk_shape=(2, 2), subchunk_write_order="lexicographic")
    assert codec.to_dict() == {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": [2, 2],
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
            "index_codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                {"name": "crc32c"},
            ],
            "index_location": "end",
        },
    }
    assert ShardingCodec.from_dict(codec.to_dict()) == codec


# --- how often the store is called -----------------------------------------------------------------


@pytest.mark.parametrize("location", ["end", "start"])
def test_some_inner_chunks_are_the_index_and_one_range(location: str) -> None:
    store, array = filled(shards={"shape": (4, 8), "index_location": location})
    assert array[1, 1:3].tolist() == [10, 11]
    index_size = 8 * 16 + 4
    start = 0 if location == "end" else index_size
    index = SuffixByteRequest(index_size) if location == "end" else RangeByteRequest(0, index_size)
    # Along the curve, inner chunk (0, 1) is the third of eight.
    assert store.calls == [index, RangeByteRequest(start, start + 48), "close"]


def test_one_inner_chunk_is_its_bytes() -> None:
    store, array = filled()
    assert array[2:4, 2:4].tolist() == [[19, 20], [27, 28]]
    assert store.calls == [SuffixByteRequest(68), RangeByteRequest(48, 64), "close"]


def test_inner_chunks_that_are_not_stored_are_not_fetched() -> None:
    store, array = filled()
    array[0:2] = 0
    store.calls.clear()
    assert array[0, 0] == 0
    assert store.calls == [SuffixByteRequest(68), "close"]


@pytest.mark.parametrize("slow", [False, True])
def test_ranges_far_apart_are_not_merged(slow: bool) -> None:
    config = {"sharding_coalesce_max_gap_bytes": 15}
    store, array = filled(shards=(8, 8), config=config)
    store.high_latency = slow
    np.testing.assert_array_equal(
        array[0:2, 0:5], np.arange(1, 65).reshape(8, 8)[0:2, 0:5]
    )  # inner chunks 0, 2, 8 in the order of the curve
    ranges = [call for call in store.calls if isinstance(call, RangeByteRequest)]
    assert sorted(ranges) == [(0, 16), (32, 48), (128, 144)]


def test_a_merged_range_is_not_too_long() -> None:
    store, array = filled(config={"sharding_coalesce_max_bytes": 32})
    array[:4, :3]
    assert store.calls == [
        SuffixByteRequest(68),
        RangeByteRequest(0, 32),
        RangeByteRequest(32, 64),
        "close",
    ]


def test_merging_ranges() -> None:
    ranges = [(0, 10, 1), (10, 20, 0), (25, 28, 2), (30, 90, 3)]
    assert [r[2:] for r in merge_ranges(ranges, 0, 1000)] == [(0, 20), (25, 28), (30, 90)]
    assert [r[2:] for r in merge_ranges(ranges, 5, 1000)] == [(0, 90)]
    assert [r[2:] for r in merge_ranges(ranges, 5, 30)] == [(0, 28), (30, 90)]
    assert merge_ranges([], 5, 30) == []


def test_a_whole_shard_is_read_at_once() -> None:
    store, array = filled()
    array[:4, 4:]
    assert store.calls == [("get", "c/0/1")]


def test_a_whole_shard_is_written_without_reading() -> None:
    store, array = filled(shape=(6, 8))
    array[:4, :4] = 3
    array[4:, 4:] = 3  # all of it that is in the array
    array[::-1] = 4
    keys = ["c/0/0", "c/1/1", "c/0/0", "c/0/1", "c/1/0", "c/1/1"]
    assert sorted(store.calls) == sorted(("set", key) for key in keys)


def test_a_part_of_a_shard_is_read_and_written_once() -> None:
    store, array = filled()
    array[:4, 1:3] = np.arange(8).reshape(4, 2)
    assert store.calls == [("get", "c/0/0"), ("set", "c/0/0")]
    store.calls.clear()
    array.vindex[[0, 3, 1, 0], [0, 3, 2, 1]] = [1, 2, 3, 4]
    assert store.calls == [("get", "c/0/0"), ("set", "c/0/0")]
    store.calls.clear()
    array[0:4, 0:3] = 0
    array[0:4, 3] = 0
    assert store.calls == [
        *[("get", "c/0/0"), ("set", "c/0/0")],
        ("get", "c/0/0"),
        ("delete", "c/0/0"),
    ]


def test_codecs_behind_the_shard_need_all_of_it() -> None:
    codec = ShardingCodec(chunk_shape=(2, 2))
    store, array = filled(chunks=(4, 4), shards=None, serializer=codec, compressors=[GzipCodec()])
    assert array[0, 0] == 1
    array[3, 3] = 5
    assert store.calls == [("get", "c/0/0"), ("get", "c/0/0"), ("set", "c/0/0")]


def test_inner_shards_are_read_in_parts() -> None:
    codec = ShardingCodec(chunk_shape=(4, 4), codecs=[ShardingCodec(chunk_shape=(2, 2))])
    store, array = filled(chunks=(8, 8), shards=None, serializer=codec)
    assert array[0, 0] == 1
    size = 64 + 68
    assert store.calls == [
        SuffixByteRequest(68),
        RangeByteRequest(size - 68, size),
        RangeByteRequest(0, 16),
        "close",
    ]


def test_inner_chunks_that_are_not_touched_keep_their_bytes() -> None:
    store, array = filled(compressors=[GzipCodec()])
    before = bytes(store.get("c/0/0"))
    index = index_of(before, 4)
    damaged = bytearray(before)
    start, size = map(int, index[0])
    damaged[start : start + size] = b"\xff" * size
    store.set("c/0/0", damaged)
    array[3, 3] = -1
    after = store.get("c/0/0")
    for number in range(3):
        old, new = index[number], index_of(after, 4)[number]
        assert after[int(new[0]) : int(new.sum())] == damaged[int(old[0]) : int(old.sum())]
    assert array[3, 3] == -1


ORDERED = ["morton", "lexicographic", "colexicographic"]


@given(st.data())
def test_bytes_do_not_depend_on_how_a_shard_was_written(data: st.DataObject) -> None:
    # Changes in place, with what is kept between calls, against writing all of it at once.
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    inner = tuple(data.draw(st.sampled_from([d for d in range(1, 7) if n % d == 0])) for n in shape)
    options = {
        "shape": shape,
        "chunks": inner,
        "shards": {"shape": shape, "index_location": data.draw(st.sampled_from(["end", "start"]))},
        "dtype": "i2",
        "compressors": data.draw(st.sampled_from([None, [GzipCodec(level=1)], [Crc32cCodec()]])),
        "config": {"subchunk_write_order": data.draw(st.sampled_from(ORDERED))},
    }
    key = "/".join("c" + "0" * len(shape))
    array = create(MemoryStore(), **options)
    others = create(MemoryStore(), **options)  # a second shard through the same handle's memory
    expected = np.zeros(shape, "i2")
    for number in range(data.draw(st.integers(1, 6))):
        index = data.draw(basic(shape))
        # Zeros remove inner chunks, small numbers change the size of compressed ones.
        values = np.random.default_rng(number).integers(0, data.draw(st.integers(1, 4)), shape)
        value = values.astype("i2")[index]
        array[index] = value
        expected[index] = value
        np.testing.assert_array_equal(array[...], expected)
        others[...] = expected
        assert array.store.get(key) == others.store.get(key)
        fresh = create(MemoryStore(), **options)
        fresh[...] = expected
        assert array.store.get(key) == fresh.store.get(key)


@given(st.data())
def test_an_unordered_shard_does_not_depend_on_what_was_kept(data: st.DataObject) -> None:
    options: dict[str, Any] = {"shape": (4, 4), "chunks": (1, 2), "shards": (4, 4)}
    options["config"] = {"subchunk_write_order": "unordered"}
    one, each = MemoryStore(), MemoryStore()
    array = create(one, **options)
    create(each, **options)
    for number in range(data.draw(st.integers(1, 6))):
        index = data.draw(basic((4, 4)))
        value = data.draw(st.integers(0, 1)) * (number + 1)
        array[index] = value
        zarr_core.open_array(each, config=options["config"])[index] = value
        assert one.get("c/0/0") == each.get("c/0/0")


@given(st.data())
def test_shards_of_others_are_read_and_changed(data: st.DataObject) -> None:
    # Raw inner chunks in any order, with anything between them, some of them missing.
    rows, columns = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9))
    location = data.draw(st.sampled_from(["end", "start"]))
    codec = ShardingCodec(chunk_shape=(2, 1), index_codecs=[LITTLE], index_location=location)
    shape = (2 * rows, columns)
    array = create(MemoryStore(), shape=shape, chunks=shape, shards=None, serializer=codec)
    count = rows * columns
    values = np.arange(1, 2 * count + 1, dtype="<i4").reshape(shape)
    index = np.full((count, 2), MISSING, "<u8")
    body = b""
    step = data.draw(st.sampled_from([0, 0, 8, 3]))
    base = 0 if location == "end" else index.nbytes
    for place in data.draw(st.permutations(range(count))):
        row, column = divmod(place, columns)
        chunk = np.s_[2 * row : 2 * row + 2, column : column + 1]
        if data.draw(st.integers(0, 9)) == 0:
            values[chunk] = 0
            continue
        body += b"x" * (step * data.draw(st.integers(0, 2)))
        index[place] = base + len(body), 8
        body += values[chunk].tobytes()
    body += b"x" * step
    shard = body + index.tobytes() if location == "end" else index.tobytes() + body
    array.store.set("c/0/0", shard)
    np.testing.assert_array_equal(array[...], values)
    for _ in range(2):
        where = data.draw(basic(shape))
        np.testing.assert_array_equal(array[where], values[where])
        array[where] = values[where] = data.draw(st.integers(0, 2))
        np.testing.assert_array_equal(array[...], values)


def test_raw_inner_chunks_in_memory_are_gathered() -> None:
    array = create(shape=(64, 64), chunks=(8, 8), shards=(64, 64))
    values = np.arange(1, 4097).reshape(64, 64)
    array[...] = values
    for index, times in ((np.s_[...], 1), (np.s_[8:16], 1), (np.s_[3:60], 1), (np.s_[:, 3], 0)):
        with patch.object(chunk_rows, "_row_copier", wraps=chunk_rows._row_copier) as spy:
            np.testing.assert_array_equal(array[index], values[index])
        assert spy.call_count == times
    shard = array.store.get("c/0/0")
    index = index_of(shard, 64).copy()
    index[index[:, 0] >= 4096, 0] += 3  # not at multiples of their size any more
    array.store.set(
        "c/0/0",
        b"".join(
            (
                shard[:4096],
                b"xyz",
                shard[4096:-1028],
                Crc32cCodec().bind(None, 9999, index.dtype).encode(index),
            )
        ),
    )
    np.testing.assert_array_equal(array[...], values)
    array[0:8, 0:8] = 0  # one is missing now
    values[0:8, 0:8] = 0
    np.testing.assert_array_equal(array[...], values)


def test_threads_are_for_shards_that_are_worth_them() -> None:
    values = np.random.default_rng(0).integers(0, 99, (256, 1024), dtype="i4")
    for compressors, index, threads in (
        (None, np.s_[:64], 0),  # copies of a few kB
        ([ZstdCodec()], np.s_[:64], 1),
        ([ZstdCodec()], np.s_[:1, :1], 0),
    ):
        array = create(
            shape=values.shape, chunks=(64, 64), shards=(256, 512), compressors=compressors
        )
        array[...] = values
        with (
            zarr_core.config.set({"threading.max_workers": 4}),
            patch.object(pool, "run", wraps=pool.run) as spy,
        ):
            np.testing.assert_array_equal(array[index], values[index])
        assert spy.call_count == threads


def test_nothing_is_kept_of_large_indexes() -> None:
    for side, kept in ((8, True), (128, False)):
        array = create(shape=(side, side), chunks=(1, 1), shards=(side, side), dtype="i1")
        array[...] = 1
        array[0, 0] = 2
        assert array[0].sum() == side + 1
        shards = array._current().space.chain.partial
        found = (shards._decoded, shards._layout, shards._found)
        assert all((f is not None) == kept for f in found)


# --- damaged indexes -------------------------------------------------------------------------------


def shard_of(entries: list[tuple[int, int]], location: str, size: int = 64) -> bytes:
    index = np.array(entries, "<u8").tobytes()
    data = np.arange(size // 4, dtype="<i4").tobytes()
    return data + index if location == "end" else index + data


def entries_of(location: str) -> list[tuple[int, int]]:
    base = 0 if location == "end" else 64
    return [(base + 16 * k, 16) for k in range(4)]


def with_shard(location: str, shard: bytes) -> zarr_core.Array:
    codec = ShardingCodec(chunk_shape=(2, 2), index_codecs=[LITTLE], index_location=location)
    store = CountingStore()
    array = create(store, chunks=(4, 4), shards=None, serializer=codec)
    store.set("c/0/0", shard)
    store.calls.clear()
    return array


BAD_ENTRIES = {
    "offset missing": (MISSING, 16),
    "size missing": (16, MISSING),
    "offset outside": (10**6, 16),
    "end outside": (120, 16),
    "in the index": {"end": (56, 16), "start": (60, 16)},
    "offset of 2**63": (2**63, 16),
    "sum beyond 2**64": (2**64 - 8, 16),
    "size of 2**63": (0, 2**63),
    "larger than the file": (0, 10**12),
}


@pytest.mark.parametrize("location", ["end", "start"])
@pytest.mark.parametrize("bad", BAD_ENTRIES)
def test_an_entry_that_lies(location: str, bad: str) -> None:
    entries = entries_of(location)
    found = BAD_ENTRIES[bad]
    entries[2] = found[location] if isinstance(found, dict) else found
    array = with_shard(location, shard_of(entries, location))
    store: Any = array.store
    named = r"c/0/0.*inner chunk \(1, 0\)"
    reads: list[Callable[[], Any]] = [
        lambda: array[:4, :4],
        lambda: array[...],
        lambda: array[2, 1],
        lambda: array[1:3, 0],
        lambda: array.vindex[[0, 3], [0, 0]],
        lambda: array.read_chunk((0, 0)),
        lambda: array.setitem((0, 0), 1),  # whose other inner chunks would have to be copied
    ]
    for read in reads:
        with pytest.raises(ChunkDecodeError, match=named):
            read()
    assert not any(isinstance(c, RangeByteRequest) and c.end > 64 + 64 for c in store.calls)
    assert not any(c[0] == "set" for c in store.calls if isinstance(c, tuple))
    assert array[0, 0] == 0  # the other entries are good
    np.testing.assert_array_equal(array[:2, 2:4], [[4, 5], [6, 7]])
    array[:4, :4] = 7  # and writing all of it repairs it
    assert (array[:4, :4] == 7).all()


def test_a_bad_entry_that_is_not_needed_among_many() -> None:
    codec = ShardingCodec(chunk_shape=(1, 1), index_codecs=[LITTLE])
    for store in (MemoryStore(), CountingStore()):
        array = create(store, chunks=(8, 8), shards=None, serializer=codec)
        entries = [(4 * k, 4) for k in range(63)] + [(10**9, 4)]
        store.set("c/0/0", shard_of(entries, "end", 256))
        np.testing.assert_array_equal(array[:7], np.arange(56).reshape(7, 8))
        with pytest.raises(ChunkDecodeError, match=r"inner chunk \(7, 7\)"):
            array[...]


def test_inner_chunks_that_overlap_are_not_multiplied() -> None:
    codec = ShardingCodec(chunk_shape=(1, 1), index_codecs=[LITTLE], codecs=[LITTLE, GzipCodec()])
    store = CountingStore()
    array = create(store, shape=(64, 64), chunks=(64, 64), shards=None, serializer=codec)
    store.set("c/0/0", shard_of([(0, 1 << 20)] * 64**2, "end", 1 << 20))  # 4 GB together
    tracemalloc.start()
    try:
        for call in (lambda: array[:32], lambda: array.setitem((0, 0), 1)):
            with pytest.raises(ChunkDecodeError, match="overlap"):
                call()
        with pytest.raises(ChunkDecodeError, match="gzip"):
            array[...]
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("location", ["end", "start"])
@pytest.mark.parametrize("size", [0, 1, 63])
def test_a_shard_that_is_too_short(location: str, size: int) -> None:
    array = with_shard(location, shard_of(entries_of(location), location)[:size])
    for read in (lambda: array[0, 0], lambda: array[...], lambda: array.setitem((0, 0), 1)):
        with pytest.raises(ChunkDecodeError, match=r"c/0/0.*too short"):
            read()
    array[:4, :4] = 7
    assert (array[:4, :4] == 7).all()


def test_an_index_is_never_larger_than_the_file() -> None:
    # 2**26 inner chunks: an index of 1 GB, in a file of 20 bytes.
    codec = ShardingCodec(chunk_shape=(1, 1))
    side = 2**13
    array = create(shape=(side, side), chunks=(side, side), shards=None, serializer=codec)
    array.store.set("c/0/0", b"x" * 20)
    tracemalloc.start()
    try:
        with pytest.raises(ChunkDecodeError, match="too short"):
            array[0, 0]
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("location", ["end", "start"])
def test_a_flipped_bit_in_the_index(location: str) -> None:
    store, array = filled(shards={"shape": (4, 4), "index_location": location})
    shard = bytearray(store.get("c/0/0"))
    shard[-10 if location == "end" else 10] ^= 1
    store.set("c/0/0", shard)
    for read in (lambda: array[0, 0], lambda: array[...], lambda: array.setitem((0, 0), 1)):
        with pytest.raises(ChunkDecodeError, match=r"c/0/0.*index of the shard.*checksum"):
            read()


def test_a_damaged_inner_chunk_is_named() -> None:
    store, array = filled(compressors=[ZstdCodec()])
    shard = bytearray(store.get("c/0/1"))
    start = int(index_of(shard, 4)[3, 0])
    shard[start : start + 4] = b"zstd"
    store.set("c/0/1", shard)
    for read in (lambda: array[3, 7], lambda: array[...], lambda: array[:4, 4:]):
        with pytest.raises(ChunkDecodeError, match=r"c/0/1.*\(1, 1\).*zstd"):
            read()
    assert array[0, 4] == 5


class Choosy(BytesBytesCodec):
    """Encodes nothing with a 5 in it."""

    name = "test.choosy"

    @classmethod
    def from_configuration(cls, configuration: Any) -> "Choosy":
        return cls()

    def bind(self, nbytes: int | None, limit: int, dtype: Any) -> BytesStage:
        def encode(data: Any) -> Any:
            if 5 in bytes(data):
                raise ValueError("there is a 5")
            return data

        return BytesStage(nbytes, encode, lambda data: data)


def test_an_inner_chunk_that_cannot_be_encoded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._codecs, "test.choosy", Choosy)
    store = CountingStore()
    array = create(store, compressors=[Choosy()])
    array[...] = 1
    store.calls.clear()
    calls: list[Callable[[], Any]] = [
        lambda: array.setitem((3, 2), 5),
        lambda: array.setitem((slice(0, 4), slice(0, 4)), np.arange(16).reshape(4, 4)),
    ]
    for call in calls:
        with pytest.raises(ChunkEncodeError, match=r"c/0/0.*there is a 5"):
            call()
    with (
        pytest.raises(ChunkEncodeError, match=r"c/0/0.*\(1, 1\).*there is a 5"),
        array.batch() as b,
    ):
        b[3, 2] = 5
    assert not any(call[0] == "set" for call in store.calls)
    assert (array[...] == 1).all()


# --- the cache of indexes --------------------------------------------------------------------------


def test_indexes_are_kept_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "SETTLED_NS", 0)
    decoded: list[int] = []
    create(LocalStore(tmp_path))[...] = np.arange(64).reshape(8, 8)
    array = zarr_core.open_array(tmp_path, config={"shard_index_cache_bytes": 130})
    shards = array._current().space.chain.partial  # type: ignore[union-attr]
    decode = shards._decode_index
    monkeypatch.setattr(shards, "_decode_index", lambda data: decoded.append(1) or decode(data))
    for _ in range(3):
        assert array[0, 0] == 0
        assert array[0, 3] == 3
    assert len(decoded) == 1
    array[0, 0] = 100  # reads all of the shard
    decoded.clear()
    assert array[0, 0] == 100
    assert array[1, 1] == 9
    assert len(decoded) == 1
    # Of 64 bytes each, two fit: the one that was not used for longest goes.
    array[0, 4], array[4, 0], decoded.clear()
    assert array[0, 4] == 4
    assert array[4, 0] == 32
    assert not decoded
    assert array[0, 0] == 100
    assert len(decoded) == 1


def test_a_changed_shard_is_not_read_with_an_old_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "SETTLED_NS", 0)
    writer = create(LocalStore(tmp_path))
    reader = zarr_core.open_array(tmp_path, config={"shard_index_cache_bytes": 1 << 20})
    for number in range(1, 50):
        # Of the same size, but elsewhere in the shard.
        values = np.zeros((4, 4), "i4")
        values[2 * (number % 2), :2] = values[:2, 2 * (number // 2 % 2)] = number
        writer[:4, :4] = values
        np.testing.assert_array_equal(reader[:1, :4], values[:1])
        np.testing.assert_array_equal(reader[:4, 3], values[:, 3])
        np.testing.assert_array_equal(reader[2:4, :1], values[2:4, :1])


def test_a_file_that_was_just_written_has_no_version(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.set("new", b"1")
    store.set("old", b"1")
    os.utime(tmp_path / "old", ns=(0, 0))  # which changes the status, now
    for key in ("new", "old"):
        value = store.open_value(key)
        assert value is not None
        assert value.version is None
        value.close()


# --- memory ----------------------------------------------------------------------------------------


def test_memory_of_a_partial_read_does_not_depend_on_the_shard(tmp_path: Path) -> None:
    peaks = []
    for rows in (64, 4096):
        shape = (rows, 1024)
        store = LocalStore(tmp_path / str(rows))
        array = create(store, shape=shape, shards=shape, chunks=(16, 64), dtype="f4")
        array[...] = np.arange(1024)
        array[:1, :1]
        tracemalloc.start()
        try:
            part = array[5:7, 60:70]
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        np.testing.assert_array_equal(part, np.arange(60, 70)[None].repeat(2, 0))
    # 256 kB and 16 MB; what differs is the index, of 16 bytes for each of 4,096 inner chunks.
    assert peaks[1] < peaks[0] + 4 * 16 * 4096


# --- threads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["memory", "local"])
def test_threads_do_not_lose_each_others_inner_chunks(where: str, tmp_path: Path) -> None:
    store = MemoryStore() if where == "memory" else LocalStore(tmp_path)
    shape, inner = (32, 32), 4
    create(store, shape=shape, chunks=(inner, inner), shards=(16, 16))
    blocks = list(product(range(0, 32, inner), repeat=2))

    def job(number: int) -> Callable[[], None]:
        def write() -> None:
            array = zarr_core.open_array(store)  # a handle of its own
            for i, j in blocks[number::16]:
                array[i : i + inner, j : j + inner] = i * 32 + j + 1

        return write

    at_once(*map(job, range(16)))
    found = zarr_core.open_array(store)[...]
    lost = [(i, j) for i, j in blocks if not (found[i : i + 4, j : j + 4] == i * 32 + j + 1).all()]
    assert lost == []


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_readers_never_see_two_versions_of_a_shard(tmp_path: Path, cache_bytes: int) -> None:
    array = create(
        LocalStore(tmp_path),
        shape=(64, 64),
        shards=(64, 64),
        chunks=(8, 8),
        compressors=[ZstdCodec()],
    )
    array[...] = 1
    done = threading.Event()
    options = {"sharding_coalesce_max_gap_bytes": 0, "shard_index_cache_bytes": cache_bytes}

    def write() -> None:
        rng = np.random.default_rng(0)
        number = 1
        while not done.is_set():
            number += 1
            # Compresses differently each time: ranges move.
            value = np.full((64, 64), number, "i4")
            value[:, 8:16] = rng.integers(0, 1 << rng.integers(1, 30), (64, 8))
            array[...] = value

    mixed: list[Any] = []

    def read() -> None:
        reader = zarr_core.open_array(tmp_path, config=options)
        for _ in range(READS // 2):
            corners = reader[0:64:63, 0:64:63]
            if len(np.unique(corners)) != 1:
                mixed.append(corners)

    def read_all() -> None:
        try:
            at_once(read, read)
        finally:
            done.set()

    at_once(write, read_all)
    assert mixed == []
