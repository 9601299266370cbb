"""Large shards, written piece by piece: what is stored, in how much memory, and what a crash leaves."""

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import in_new_interpreter
from strategies import picked, selections

import zarr_core
from zarr_core.codecs import ShardingCodec, TransposeCodec
from zarr_core.errors import CodecError, ConflictError, StoreError
from zarr_core.storage import LocalStore, MemoryStore

posix_only = pytest.mark.skipif(os.name == "nt", reason="forks and kills")

SHAPE, SHARD = (9, 5), (6, 4)


class PieceStore(MemoryStore):
    """Says that it can write pieces, although it collects them."""

    writes_pieces = True


def create(store: Any = None, *, stream: int = 0, **options: Any) -> zarr_core.Array:
    """Return an array whose shards are written in pieces of `stream` bytes."""
    config = {"shard_stream_bytes": stream, **options.pop("config", {})}
    defaults: dict[str, Any] = {
        "shape": SHAPE,
        "chunks": (3, 2),
        "shards": SHARD,
        "dtype": "i4",
        "fill_value": -1,
    }
    options = {**defaults, **options, "config": config}
    return zarr_core.create_array(PieceStore() if store is None else store, **options)


def codec(**options: Any) -> dict[str, Any]:
    return {"chunks": SHARD, "shards": None, "serializer": ShardingCodec(**options)}


LAYOUTS: list[dict[str, Any]] = [
    {},
    {"config": {"write_empty_chunks": True}},
    {"chunks": (1, 1), "compressors": None},
    {"dtype": str, "fill_value": "-"},
    codec(chunk_shape=(2, 1), index_location="start"),
    {**codec(chunk_shape=(4, 2)), "filters": [TransposeCodec(order=(1, 0))]},
    codec(chunk_shape=(3, 4), codecs=[ShardingCodec(chunk_shape=(1, 2))]),
]


@given(data=st.data(), layout=st.sampled_from(LAYOUTS), stream=st.sampled_from([0, 30, 60]))
def test_streamed_shards_equal_numpy(data: Any, layout: dict[str, Any], stream: int) -> None:
    array = create(stream=stream, **layout)
    stored = zarr_core.open_array(array.store)
    edges = [(6, 6), (4, 4)]
    expected = np.full(SHAPE, array.fill_value, array.dtype)
    with array.batch() as batch:
        for number in range(data.draw(st.integers(1, 4))):
            way = data.draw(st.sampled_from([batch.array, batch.array, array]))
            selection = data.draw(selections(SHAPE, edges))
            if data.draw(st.booleans()):
                selection = selection._replace(kind="basic", index=slice(*data.draw(RANGES)))
            where = picked(SHAPE, edges, selection)
            values = (number * 1000 + np.arange(np.size(where))).reshape(np.shape(where))
            if way is array:
                batch.flush()
            getattr(way, f"set_{selection.kind}_selection")(
                selection.index, values.astype(array.dtype)
            )
            expected.reshape(-1)[where] = values.astype(array.dtype)
            if data.draw(st.booleans()):
                assert (batch[2:8] == expected[2:8]).all()
    assert (array[...] == expected).all()
    assert (stored[...] == expected).all()


RANGES = st.sampled_from([(None,), (6,), (0, 3), (3, 6), (6, 9), (1, 7)])


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("stream", [0, 30, 100])
@pytest.mark.parametrize("empty", [False, True])
def test_a_whole_shard_has_the_bytes_of_one_written_at_once(
    location: str, stream: int, empty: bool
) -> None:
    options: dict[str, Any] = {
        **codec(chunk_shape=(3, 2), index_location=location),
        "config": {"write_empty_chunks": empty, "subchunk_write_order": "lexicographic"},
    }
    value = np.arange(45).reshape(SHAPE)
    value[:3, :2] = -1
    stores = []
    for pieces in (stream, 1 << 20):
        array = create(stream=pieces, **options)
        array[...] = value
        stores.append(
            {key: array.store.get(key) for key in array.store.list() if "json" not in key}
        )
    assert len(stores[0]) == 4
    assert stores[0] == stores[1]


def test_nothing_but_fill_is_not_stored() -> None:
    array = create()
    array[...] = 1
    array[:6] = -1
    with array.batch() as batch:
        batch[6:] = -1
    assert sorted(array.store.list()) == ["zarr.json"]


# --- memory ----------------------------------------------------------------------------------------


def peak_of(operation: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        operation()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_shard_needs_the_memory_of_a_few_pieces(tmp_path: Path) -> None:
    # A shard of 16 MB, its rows of inner chunks 512 kB.
    array = create(
        LocalStore(tmp_path),
        stream=1 << 20,
        shape=(256, 128, 128),
        shards=(256, 128, 128),
        chunks=(8, 32, 32),
        compressors=None,
    )
    value = np.arange(256 * 128 * 128, dtype="i4").reshape(array.shape)
    array[:8] = value[:8]

    def write_slabs() -> None:
        with array.batch() as batch:
            for start in range(0, 256, 4):
                batch[start : start + 4] = value[start : start + 4]

    assert peak_of(write_slabs) < 6 << 20
    assert (array[::17] == value[::17]).all()
    assert peak_of(lambda: array.__setitem__(..., value)) < 4 << 20
    array[100] = 7  # all but this is copied
    assert peak_of(lambda: array.__setitem__(slice(3, 90), 8)) < 12 << 20
    value[100], value[3:90] = 7, 8
    assert (array[...] == value).all()


# --- what others see -------------------------------------------------------------------------------


def test_nobody_sees_a_shard_before_it_is_complete(tmp_path: Path) -> None:
    array = create(LocalStore(tmp_path))
    array[...] = 5
    with array.batch() as batch:
        batch[:6] = 1
        assert batch.pending_bytes < 1000
        assert (array[...] == 5).all()
        assert sorted(array.store.list()) == ["c/0/0", "c/0/1", "c/1/0", "c/1/1", "zarr.json"]
        array[8] = 2  # by others, to a shard that is not whole
        batch[6] = 1
    expected = np.full(SHAPE, 1)
    expected[7], expected[8] = 5, 2
    np.testing.assert_array_equal(array[...], expected)


def test_what_was_sent_is_stored_early_when_it_is_wanted() -> None:
    array = create()
    with array.batch() as batch:
        batch[:6, :4] = 1
        assert batch.early_flushes == 0
        assert (batch[:7, 0] == [1, 1, 1, 1, 1, 1, -1]).all()
        assert batch.early_flushes == 1
        batch[:3, :4] = 2
        batch[1, 1] = 3
        assert batch.early_flushes == 2
    assert array[:6, 1].tolist() == [2, 3, 2, 1, 1, 1]


def write_and_fail(batch: Any) -> None:
    with batch:
        batch[:7] = 1
        raise ZeroDivisionError


def test_an_error_in_the_block_leaves_the_old_shards(tmp_path: Path) -> None:
    array = create(LocalStore(tmp_path))
    array[...] = 5
    with pytest.raises(ZeroDivisionError):
        write_and_fail(array.batch())
    assert (array[...] == 5).all()
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 5


class FullStore(PieceStore):
    """Takes so many writes of a piece, then none until there is room again."""

    room = 1000

    def open_writer(self, key: str, reserved: int = 0) -> Any:
        return _FullWriter(self, super().open_writer(key, reserved))


class _FullWriter:
    def __init__(self, store: FullStore, writer: Any) -> None:
        self._store, self._writer = store, writer
        self.complete, self.abort = writer.complete, writer.abort

    def write(self, data: Any) -> None:
        self._store.room -= 1
        if self._store.room < 0:
            raise OSError("no room")
        self._writer.write(data)


def test_a_piece_that_cannot_be_written_leaves_the_old_shard() -> None:
    store = FullStore()
    array = create(store)
    array[...] = 5
    for room in range(5):
        store.room = room
        with pytest.raises(OSError, match="no room"):
            array[:6, :4] = 1
        assert (array[...] == 5).all()
    store.room = 5  # two pieces of two inner chunks each, if one is as small as can be; the index
    array[:6, :4] = 1
    assert (array[:6, :4] == 1).all()


def test_what_a_batch_could_not_send_is_lost_with_an_error() -> None:
    store = FullStore()
    array = create(store)
    array[...] = 5
    batch = array.batch()
    batch.__enter__()
    batch[:3, :4] = 1
    store.room = 0
    with pytest.raises(OSError, match="no room"):
        batch[3:6, :4] = 1
    store.room = 1000
    with pytest.raises(StoreError, match="part of 'c/0/0' was lost"):
        batch.flush()
    assert (array[...] == 5).all()


def test_a_damaged_old_shard_is_not_copied() -> None:
    array = create(chunks=(1, 1), compressors=None)
    array[...] = 5
    data = bytearray(array.store.get("c/0/0"))
    index = np.frombuffer(data[-24 * 16 - 4 : -4], "u8").reshape(24, 2).copy()
    index[:] = (0, len(data) - 24 * 16 - 4)  # every inner chunk is all of the shard
    encoded = zarr_core.codecs.Crc32cCodec().encode(index.tobytes())
    array.store.set("c/0/0", bytes(data[: -len(encoded)]) + encoded)
    with pytest.raises(CodecError, match="overlap"):
        array[0, 0] = 1


def test_the_end_of_the_array_moves_while_a_batch_writes() -> None:
    for shape in ((8, 5), (9, 6)):
        array = create()
        batch = array.batch()
        batch.__enter__()
        batch[...] = 1
        array.resize(shape)
        with pytest.raises(ConflictError, match="shape"):
            batch.flush()
        assert (array[:6, :4] == 1).all()  # what does not depend on it is stored


def test_hooks_hear_of_a_shard_once(tmp_path: Path) -> None:
    events: list[Any] = []
    for store in (PieceStore(), LocalStore(tmp_path)):
        array = create(store)
        events.clear()
        with zarr_core.on_chunk(lambda *event: events.append(event)):
            array[:6, :4] = 1
            array[2:4, 1:3] = 2
            with array.batch() as batch:
                batch[:6, :4] = 3
        size = array.store.getsize("c/0/0")
        assert [event[:2] for event in events] == [("write", "c/0/0")] * 3
        assert events[-1][2] == size


# --- crashes ---------------------------------------------------------------------------------------


CRASHES = """
import os, signal, sys
import numpy as np
import zarr_core
from zarr_core.storage import LocalStore

root, how, fsync = sys.argv[1:]
names = ("open", "lseek", "write", "fsync", "close", "replace", "unlink")
real = {name: getattr(os, name) for name in names}
left = 10**9

def dying(name):
    def call(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real[name](*args, **kwargs)
    return call

store = LocalStore(root, fsync=bool(int(fsync)))
array = zarr_core.create_array(store, shape=(16, 8), shards=(16, 8), chunks=(2, 4), dtype="i4",
                               compressors=None, config={"shard_stream_bytes": 100}, overwrite=True)
from zarr_core.chunks import shard_stream
shard_stream.WRITE_BYTES = 1  # a write for every inner chunk
for name in names:
    setattr(os, name, dying(name))

def change(value):
    if how == "plain":
        array[...] = value
    elif how == "part":
        array[3:13, 1:7] = value
    else:
        with array.batch() as batch:
            for row in range(3, 16):
                batch[row] = value

change(1)
old = array[...]
new = np.where(old == 1, 2, old)
outcomes = set()
for steps in range(1000):
    pid = os.fork()
    if pid == 0:
        left = steps
        change(2)
        real["write"](1, b".")
        os._exit(0)
    died = os.waitpid(pid, 0)[1] != 0
    now = array[...]
    done = bool((now == 2).any())
    assert (now == (new if done else old)).all(), now
    outcomes.add((died, done))
    assert set(store.list()) == {"zarr.json", "c/0/0"}
    change(1)
    if not died:
        break
assert outcomes >= {(True, False), (False, True)}, outcomes
assert steps > 15, steps
print("done", steps)
"""


@posix_only
@pytest.mark.parametrize("how", ["plain", "part", "batch"])
def test_killed_at_every_step_of_a_shard_it_is_old_or_new(how: str, tmp_path: Path) -> None:
    fsync = "1" if how == "batch" else "0"
    text = in_new_interpreter(CRASHES, tmp_path / "a", how, fsync, warnings="ignore")
    assert "done" in text
