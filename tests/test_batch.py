"""`array.batch()`: what is read inside, what is stored at the end, and how often the store is called."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import from_threads
from sharded import create
from strategies import Selection, picked, selections

import zarr_core
from zarr_core.errors import ChunkDecodeError, ChunkNotFoundError, ReadOnlyError
from zarr_core.storage import LatencyStore, LocalStore, MemoryStore


class CountingStore(MemoryStore):
    """Counts what is done with every key; fails to store the keys in `broken`."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[tuple[str, str]] = Counter()
        self.broken: set[str] = set()

    def get(self, key: str, byte_range: Any = None) -> Any:
        self.calls["get", key] += 1
        return super().get(key, byte_range)

    def set(self, key: str, value: Any) -> None:
        self.calls["set", key] += 1
        if key in self.broken:
            raise OSError(f"no room for {key}")
        super().set(key, value)

    def delete(self, key: str) -> None:
        self.calls["delete", key] += 1
        super().delete(key)


def counted(**options: Any) -> tuple[CountingStore, zarr_core.Array]:
    store = CountingStore()
    array = create(store, **options)
    store.calls.clear()
    return store, array


def write_and_fail(batch: Any, selection: Any) -> None:
    with batch:
        batch[selection] = 1
        raise ZeroDivisionError


# --- how often the store is called -----------------------------------------------------------------


@pytest.mark.parametrize("shards", [(4, 4), None])
def test_many_writes_are_one_set_per_stored_chunk(shards: Any) -> None:
    store, array = counted(shards=shards, chunks=(4, 4) if shards is None else (1, 2))
    with array.batch() as batch:
        for i, j in np.ndindex(8, 8):
            batch[i, j] = 8 * i + j
        assert not store.calls
    keys = ["c/0/0", "c/0/1", "c/1/0", "c/1/1"]
    assert store.calls == {("set", key): 1 for key in keys}  # whole: nothing is read
    np.testing.assert_array_equal(array[...], np.arange(64).reshape(8, 8))


@pytest.mark.parametrize("shards", [(4, 4), None])
def test_a_part_of_a_chunk_is_one_get_and_one_set(shards: Any) -> None:
    store, array = counted(shards=shards, chunks=(4, 4) if shards is None else (2, 2))
    array[...] = 1
    store.calls.clear()
    with array.batch() as batch:
        for i in range(3):
            batch[i, i] = 5
    assert store.calls == {("get", "c/0/0"): 1, ("set", "c/0/0"): 1}
    assert array[...].sum() == 64 + 3 * 4


def test_a_chunk_that_becomes_fill_is_deleted() -> None:
    store, array = counted()
    array[...] = 1
    with array.batch() as batch:
        batch[:4, :4] = 0
        batch[4, 4] = 0
    assert not store.exists("c/0/0")
    assert store.calls["delete", "c/0/0"] == 1
    assert array[...].sum() == 64 - 16 - 1


def test_inner_chunks_that_are_not_touched_keep_their_bytes() -> None:
    store = MemoryStore()
    array = create(store, compressors=[zarr_core.codecs.GzipCodec()])
    array[...] = np.arange(64).reshape(8, 8)
    before = store.get("c/0/0")
    damaged = bytearray(before)
    damaged[0] ^= 255  # of inner chunk (0, 0), which is stored first
    store.set("c/0/0", damaged)
    with array.batch() as batch:
        batch[3, 3] = -1
    stored = store.get("c/0/0")
    assert stored[: len(before) // 8] == damaged[: len(before) // 8]
    with pytest.raises(ChunkDecodeError, match=r"\(0, 0\)"):
        array[0, 0]
    assert array[3, 3] == -1


# --- what is read ----------------------------------------------------------------------------------


def test_reads_see_what_was_written() -> None:
    array = create()
    array[...] = 7
    with array.batch() as batch:
        batch[1:3, 1:6] = 1
        expected = np.full((8, 8), 7)
        expected[1:3, 1:6] = 1
        np.testing.assert_array_equal(batch[...], expected)
        np.testing.assert_array_equal(batch[::-1, 5:1:-2], expected[::-1, 5:1:-2])
        np.testing.assert_array_equal(batch.oindex[[2, 0], [5, 6]], expected[[2, 0]][:, [5, 6]])
        np.testing.assert_array_equal(batch.vindex[[2, 0], [5, 6]], expected[[2, 0], [5, 6]])
        np.testing.assert_array_equal(batch.blocks[0, 1], expected[:4, 4:])
        np.testing.assert_array_equal(batch.getitem(expected == 1), expected[expected == 1])
        out = np.empty((8, 2), "i4")
        assert batch.getitem((slice(None), slice(2, 4)), out=out) is out
        np.testing.assert_array_equal(out, expected[:, 2:4])
        assert batch[1, 1] == 1
        assert batch.array.get_basic_selection((1, 1)) == 1
        assert (array[...] == 7).all()  # other handles do not
    np.testing.assert_array_equal(array[...], expected)


def test_writes_of_others_are_kept() -> None:
    array = create()
    with array.batch() as batch:
        batch[0, 0] = 1
        array[0, 1] = 2  # the same inner chunk
        assert batch[0, :2].tolist() == [1, 2]
    assert array[0, :3].tolist() == [1, 2, 0]


def test_what_was_written_wholly_is_not_read() -> None:
    store, array = counted(config={"read_missing_chunks": False})
    with array.batch() as batch:
        batch[:4, :4] = 3
        assert (batch[:4, :4] == 3).all()
        assert not store.calls
        with pytest.raises(ChunkNotFoundError):
            batch[:5, :4]


def test_the_value_is_copied() -> None:
    array = create()
    value = np.ones((4, 4), "i4")
    with array.batch() as batch:
        batch[:4, :4] = value
        value[...] = 9
        got = batch[:4, :4]
        got[...] = 8
        assert (batch[:4, :4] == 1).all()
    assert (array[:4, :4] == 1).all()


# --- the end of the block --------------------------------------------------------------------------


def test_an_error_discards() -> None:
    store, array = counted()
    batch = array.batch()
    with pytest.raises(ZeroDivisionError):
        write_and_fail(batch, ...)
    assert not store.calls
    assert batch.pending_bytes == 0
    assert (batch[...] == 0).all()


def test_a_value_that_does_not_fit_raises_at_once() -> None:
    array = create()
    with array.batch() as batch:
        with pytest.raises(ValueError, match="broadcast"):
            batch[:2, :2] = np.ones(3)
        with pytest.raises(IndexError):
            batch[8, 0] = 1
        assert batch.pending_bytes == 0


def test_only_in_the_block() -> None:
    array = create()
    batch = array.batch()
    with pytest.raises(RuntimeError, match="with"):
        batch[0, 0] = 1
    with batch:
        batch[0, 0] = 1
        with pytest.raises(RuntimeError, match="begun"), batch:
            pass
    with pytest.raises(RuntimeError, match="with"):
        batch[0, 0] = 2
    assert batch[0, 0] == 1
    with batch:  # once more
        batch[0, 0] = 3
    assert array[0, 0] == 3


def test_flush_in_the_middle() -> None:
    store, array = counted()
    with array.batch() as batch:
        batch[0, 0] = 1
        batch.flush()
        assert batch.pending_bytes == 0
        assert array[0, 0] == 1
        store.calls.clear()
        batch[5, 5] = 2
    assert [key for (call, key), _ in store.calls.items() if call == "set"] == ["c/1/1"]
    assert batch.early_flushes == 0


def test_what_could_not_be_stored_is_kept() -> None:
    store, array = counted()
    store.broken = {"c/1/0"}
    with pytest.raises(OSError, match="no room for c/1/0"), array.batch() as batch:
        batch[...] = 4
    store.broken = set()
    assert batch.pending_bytes > 0
    batch.flush()
    assert batch.pending_bytes == 0
    assert (array[...] == 4).all()


def test_read_only() -> None:
    array = create()
    readable = zarr_core.open_array(array.store.with_read_only(True), mode="r")
    with pytest.raises(ReadOnlyError), readable.batch() as batch:
        batch[0, 0] = 1


# --- too much --------------------------------------------------------------------------------------


def test_overflow_stores_what_was_written_to_longest_ago() -> None:
    store, array = counted(shape=(64, 4), config={"batch_bytes": 16_000})
    with array.batch() as batch:
        for i in range(64):
            batch[i] = i
            assert batch.pending_bytes <= 16_000
        assert batch.early_flushes > 0
        assert {count for (call, _), count in store.calls.items() if call == "set"} == {1}
        np.testing.assert_array_equal(batch[30:34], np.arange(30, 34)[:, None].repeat(4, 1))
        store.calls = Counter({c: n for c, n in store.calls.items() if c[0] == "set"})
    # Row after row, each shard was finished before it was stored.
    assert store.calls == {("set", f"c/{k}/0"): 1 for k in range(16)}
    np.testing.assert_array_equal(array[...], np.arange(64)[:, None].repeat(4, 1))


def test_a_value_larger_than_the_limit_is_stored_at_once() -> None:
    _, array = counted(config={"batch_bytes": 100})
    with array.batch() as batch:
        batch[0, 0] = 5  # alone more than the limit
        assert batch.early_flushes == 1
        batch[1:] = 1
        assert batch.pending_bytes == 0
        assert batch.early_flushes == 5
        assert batch[0, 0] == 5
        assert array[0, 0] == 5
    assert array[...].sum() == 5 + 56


def test_an_error_after_an_overflow_keeps_what_was_stored() -> None:
    _, array = counted(config={"batch_bytes": 0})
    with pytest.raises(ZeroDivisionError):
        write_and_fail(array.batch(), (0, 0))
    assert array[0, 0] == 1


# --- with other operations -------------------------------------------------------------------------


def test_resizing_through_the_batch() -> None:
    array = create()
    with array.batch() as batch:
        batch[...] = 1
        batch.array.resize((6, 8))
        batch.array.append(np.full((3, 8), 2, "i4"))
        assert batch.array.shape == (9, 8)
        assert batch[:, 0].tolist() == [1] * 6 + [2] * 3
    assert array.refresh()[:, 0].tolist() == [1] * 6 + [2] * 3


@pytest.mark.parametrize("shards", [(4, 4), None])
def test_an_array_that_is_made_smaller_meanwhile(shards: Any) -> None:
    array = create(shards=shards)
    with array.batch() as batch:
        batch[...] = 1
        batch[7, 7] = 2
        array.resize((5, 3))
        assert (batch[...] == 1).all()
    array.resize((8, 8))
    expected = np.zeros((8, 8), "i4")
    expected[:5, :3] = 1
    np.testing.assert_array_equal(array[...], expected)


def test_stored_chunks_show_what_was_written() -> None:
    array = create()
    with array.batch() as batch:
        batch[0, 0] = 1
        assert batch.array.read_chunk((0, 0))[0, 0] == 1
        batch[0, 1] = 1
        batch.array.delete_chunk((0, 0))
    assert (array[...] == 0).all()


@pytest.mark.parametrize("shards", [(4, 4), None])
def test_fields(shards: Any) -> None:
    dtype = np.dtype([("x", "i4"), ("y", "f4"), ("z", "u1")])
    array = create(shards=shards, dtype=dtype, fill_value=(1, 2, 3))
    expected = np.full((8, 8), np.array((1, 2, 3), dtype))
    with array.batch() as batch:
        batch["x", 1:3] = 5
        expected["x"][1:3] = 5
        batch[["y", "z"], :2, 2] = np.array((8, 9), [("y", "f4"), ("z", "u1")])
        expected["y"][:2, 2] = 8
        expected["z"][:2, 2] = 9
        batch.setitem((7, 7), np.array((4, 4, 4), dtype))
        expected[7, 7] = (4, 4, 4)
        array["z"] = 6  # by somebody else: fields that were not set here stay
        expected["z"] = np.where(expected["z"] == 3, 6, expected["z"])
        np.testing.assert_array_equal(batch[...], expected)
        np.testing.assert_array_equal(batch["x"], expected["x"])
        np.testing.assert_array_equal(batch[["z", "x"], :3], expected[["z", "x"]][:3])
    np.testing.assert_array_equal(array[...], expected)


def test_text() -> None:
    array = create(dtype=str, compressors=[zarr_core.codecs.ZstdCodec()])
    expected = np.full((8, 8), "", array.dtype)
    with array.batch() as batch:
        batch[1, ::2] = expected[1, ::2] = ["a", "bc", "déf", "x" * 100]
        batch[6] = expected[6] = "six"
        batch.oindex[[0, 3], [1, 7]] = "both"
        expected[np.ix_([0, 3], [1, 7])] = "both"
        assert (batch[...] == expected).all()
    assert (array[...] == expected).all()


def test_without_dimensions() -> None:
    for shards in (None, ()):
        array = create(shape=(), chunks=(), shards=shards)
        with array.batch() as batch:
            batch[...] = 3
            assert batch[()] == 3
            assert array[()] == 0
        assert array[()] == 3


def test_empty() -> None:
    array = create(shape=(0, 5))
    with array.batch() as batch:
        batch[...] = 3
        assert batch[...].shape == (0, 5)


# --- against NumPy ---------------------------------------------------------------------------------

LAYOUTS: list[dict[str, Any]] = [
    {"chunks": (3, 2), "shards": None},
    {"chunks": (3, 2), "shards": None, "zarr_format": 2, "order": "F"},
    {"chunks": [[3, 1, 5], [2, 2, 1]], "shards": None},
    {"chunks": (1, 2), "shards": (3, 4)},
    {"chunks": (1, 2), "shards": (3, 4), "config": {"batch_bytes": 2500}},
    {"chunks": (1, 1), "shards": [[2, 4, 3], [5]]},
    {
        "chunks": (6, 4),
        "filters": [zarr_core.codecs.TransposeCodec(order=(1, 0))],
        "serializer": zarr_core.codecs.ShardingCodec(chunk_shape=(4, 3)),
    },
    {
        "chunks": (6, 4),
        "serializer": zarr_core.codecs.ShardingCodec(
            chunk_shape=(3, 4), codecs=[zarr_core.codecs.ShardingCodec(chunk_shape=(1, 2))]
        ),
    },
    {
        "chunks": (6, 4),
        "serializer": zarr_core.codecs.ShardingCodec(chunk_shape=(3, 2)),
        "compressors": [zarr_core.codecs.GzipCodec()],
    },
]
SHAPE = (9, 5)


def edges_of(options: dict[str, Any]) -> list[tuple[int, ...]]:
    stored = options["chunks"] if options.get("shards") is None else options["shards"]
    return [
        tuple(e) if isinstance(e, list) else (e,) * -(-n // e)
        for e, n in zip(stored, SHAPE, strict=True)
    ]


@given(data=st.data(), options=st.sampled_from(LAYOUTS))
def test_a_batch_equals_numpy(data: st.DataObject, options: dict[str, Any]) -> None:
    array = create(**{"shards": None, "fill_value": -1, "shape": SHAPE, **options})
    array[2:7] = 100
    expected = np.ascontiguousarray(array[...])
    edges = edges_of(options)

    def draw() -> tuple[Selection, Any]:
        selection = data.draw(selections(SHAPE, edges))
        return selection, picked(SHAPE, edges, selection)

    with array.batch() as batch:
        for number in range(data.draw(st.integers(1, 5))):
            (kind, index), where = draw()
            # As many different values as elements: which of several wins can be seen.
            values = (number * 1000 + np.arange(np.size(where))).reshape(np.shape(where))
            getattr(batch.array, f"set_{kind}_selection")(index, values)
            expected.reshape(-1)[where] = values
            (kind, index), where = draw()
            got = getattr(batch.array, f"get_{kind}_selection")(index)
            np.testing.assert_array_equal(got, expected.reshape(-1)[where])
    np.testing.assert_array_equal(array[...], expected)


# --- await, threads, slow stores -------------------------------------------------------------------


def test_awaited() -> None:
    store, array = counted()

    async def main() -> None:
        async with array.batch() as batch:
            await asyncio.gather(*(batch.setitem_async((i, slice(None)), i) for i in range(8)))
            assert (await batch.getitem_async((slice(None), 0))).tolist() == list(range(8))
            assert not any(call == "set" for call, _ in store.calls)
            await batch.array.vindex.setitem_async(([0], [0]), 9)
        assert store.calls["set", "c/0/0"] == 1
        with pytest.raises(ZeroDivisionError):
            await fails()

    async def fails() -> None:
        async with array.batch() as batch:
            await batch.setitem_async(..., 0)
            raise ZeroDivisionError

    asyncio.run(main())
    assert array[:, 0].tolist() == [9, *range(1, 8)]


def test_batches_in_threads_do_not_lose_each_others_writes(tmp_path: Path) -> None:
    array = create(LocalStore(tmp_path), shape=(16, 64), shards=(16, 16), chunks=(2, 2))

    def write(i: int) -> None:
        with array.batch() as batch:
            for j in range(64):
                batch[i, j] = i * 64 + j

    from_threads(write, 16)
    np.testing.assert_array_equal(array[...], np.arange(16 * 64).reshape(16, 64))


def test_a_slow_store() -> None:
    store = CountingStore()
    array = create(LatencyStore(store, get_latency=0.001, set_latency=0.001), shape=(8, 64))
    assert array.store.high_latency
    store.calls.clear()
    with array.batch() as batch:
        batch[::2] = 1
        batch[1::2] = 2
    assert store.calls == {("set", f"c/{i}/{j}"): 1 for i in range(2) for j in range(16)}
    np.testing.assert_array_equal(array[...], np.tile([[1], [2]], (4, 64)))


SCALARS: list[tuple[Any, Any, Any]] = [
    ("i4", 1, 5),
    ("U5", "x", "abc"),
    ("S3", b"x", b"abc"),
    (str, "x", "abc"),
    (bytes, b"x", b"abc"),
    ([("a", "i4"), ("b", "U3")], (1, "x"), (5, "abc")),
]


@pytest.mark.filterwarnings("ignore::zarr_core.errors.UnstableSpecificationWarning")
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(("dtype", "old", "new"), SCALARS)
def test_one_element_of_every_type(dtype: Any, old: Any, new: Any, zarr_format: Any) -> None:
    array = zarr_core.create_array({}, shape=(), dtype=dtype, zarr_format=zarr_format)
    array[()] = old
    with array.batch() as batch:
        assert np.asarray(batch[()]).item() == old
        batch[...] = new
        assert np.asarray(batch[()]).item() == new
        assert np.asarray(array[()]).item() == old
    assert np.asarray(array[()]).item() == new


@pytest.mark.filterwarnings("ignore::zarr_core.errors.UnstableSpecificationWarning")
def test_fields_of_one_element() -> None:
    array = zarr_core.create_array({}, shape=(), dtype=[("a", "i4"), ("b", "U3"), ("c", "f8")])
    array[()] = (1, "x", 2.5)
    with array.batch() as batch:
        batch.setitem((), 7, fields="a")
        assert batch.getitem((), fields="a") == 7
        assert batch[()].item() == (7, "x", 2.5)
        batch.setitem((), np.array((8, 9.5), [("a", "i4"), ("c", "f8")]), fields=["a", "c"])
        assert batch.getitem((), fields=["c", "a"]).item() == (9.5, 8)
    assert array[()].item() == (8, "x", 9.5)


ELEMENTS: list[tuple[Any, list[Any]]] = [
    ("i4", [1, 2, 3]),
    ("S2", [b"a", b"bc"]),
    ("U2", ["a", "bc"]),
    (str, ["", "a", "longer than that"]),
    (bytes, [b"", b"a", b"longer than that"]),
    ([("a", "i4"), ("b", "U2")], [(1, "a"), (2, "bc")]),
]


@pytest.mark.filterwarnings("ignore::zarr_core.errors.UnstableSpecificationWarning")
@given(st.data(), st.sampled_from(ELEMENTS))
def test_batches_of_every_type_equal_numpy(data: st.DataObject, typed: tuple[Any, Any]) -> None:
    dtype, elements = typed
    shape = data.draw(st.lists(st.integers(1, 5), max_size=3).map(tuple))
    sharded = data.draw(st.booleans())
    chunks = tuple(data.draw(st.integers(1, n)) for n in shape)
    array = zarr_core.create_array(
        {},
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        shards=tuple(2 * n for n in chunks) if sharded and shape else None,
    )
    model = np.array(array[...], array.dtype)
    stored = [2 * n if sharded else n for n in chunks]
    edges: list[tuple[int, ...]] = [(e,) * -(-n // e) for e, n in zip(stored, shape, strict=True)]
    flat = model.reshape(-1)
    with array.batch() as batch:
        for _ in range(data.draw(st.integers(1, 4))):
            kind, index = selection = data.draw(selections(shape, edges))
            where = np.asarray(picked(shape, edges, selection))
            field = data.draw(st.sampled_from([None, *(model.dtype.names or ())]))
            target = flat if field is None else flat[field]
            value = np.empty(() if data.draw(st.booleans()) else where.shape, flat.dtype)
            for at in np.ndindex(value.shape):
                value[at] = data.draw(st.sampled_from(elements))
            part = value if field is None else value[field]
            for number, at in enumerate(where.reshape(-1)):  # one by one: the last of several wins
                target[at] = part.reshape(-1)[number if part.size > 1 else 0]
            getattr(batch.array, f"set_{kind}_selection")(index, part, fields=field)
            if data.draw(st.booleans()):
                batch.flush()
            kind, index = selection = data.draw(selections(shape, edges))
            got = getattr(batch.array, f"get_{kind}_selection")(index, fields=field)
            where = np.asarray(picked(shape, edges, selection))
            expected = np.asarray(target[where], target.dtype)
            assert np.asarray(got, target.dtype).tolist() == expected.tolist()
    assert np.asarray(array[...], flat.dtype).tolist() == model.tolist()
