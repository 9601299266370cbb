"""Regions of whole stored chunks; copies by them: every layout, bounded memory, executors, hooks."""

import asyncio
import os
import pickle
import tracemalloc
from collections import Counter
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import rectilinear_edges, shapes

import zarr_core as zarr
from zarr_core.array import regions
from zarr_core.errors import (
    ContainsArrayError,
    ContainsGroupError,
    CopyError,
    OperationTimeoutError,
)
from zarr_core.storage import LatencyStore, LocalStore, LoggingStore, MemoryStore

Event = tuple[str, str, int]


def new(shape: Any, chunks: Any, **options: Any) -> zarr.Array:
    return zarr.create_array({}, shape=shape, chunks=chunks, dtype="i4", **options)


# --- partition and check_regions -------------------------------------------------------------------


@st.composite
def arrays(draw: st.DrawFn) -> zarr.Array:
    shape = draw(shapes(3, 20))
    kind = draw(st.sampled_from(["regular", "shards", "rectilinear"]))
    if kind == "rectilinear" and shape and all(shape):
        edges = [list(draw(rectilinear_edges(n, exact=True))) for n in shape]
        return new(shape, edges)
    chunks = tuple(draw(st.integers(1, max(n, 1))) for n in shape)
    shards = tuple(c * draw(st.integers(1, 3)) for c in chunks) if kind == "shards" else None
    return new(shape, chunks, shards=shards)


@given(st.data())
@settings(deadline=None)
def test_parts_are_all_of_a_region_and_share_no_stored_chunk(data: st.DataObject) -> None:
    array = data.draw(arrays())
    bounds = [sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2))) for n in array.shape]
    region = tuple(slice(*b) for b in bounds)
    n = data.draw(st.none() | st.integers(1, 30))
    parts = zarr.partition(array, n, region=region)
    assert parts == pickle.loads(pickle.dumps(parts))
    assert len(parts) <= (n or array.metadata.chunk_grid.nchunks)
    seen, expected = np.zeros(array.shape, int), np.zeros(array.shape, int)
    expected[region] = 1
    for part in parts:
        seen[part] += 1
    np.testing.assert_array_equal(seen, expected)
    assert zarr.check_regions(array, parts) == []


def test_parts_are_of_about_one_size() -> None:
    array = new((1000, 70), (10, 7))
    for n in (1, 2, 3, 7, 64, 999):
        sizes = [np.prod([s.stop - s.start for s in part]) for part in zarr.partition(array, n)]
        assert len(sizes) == n
        assert max(sizes) <= 3 * min(sizes)
    assert zarr.partition(array, 5000) == zarr.partition(array)
    assert len(zarr.partition(array)) == 1000
    assert zarr.partition(new((), ()), 3) == [()]
    assert zarr.partition(new((0, 4), (1, 1)), 3) == []


def test_parts_need_no_more_memory_than_they_may() -> None:
    array = new((100, 100), (5, 4), shards=(10, 8))
    for limit in (320, 1000, 5000, 10**6):
        parts = zarr.partition(array, max_bytes=limit)
        assert max(array[part].nbytes for part in parts) <= limit
        assert len(parts) <= 4 * max(1, array.nbytes // limit)
    assert len(zarr.partition(array, 3, max_bytes=10**6)) == 3
    with pytest.raises(ValueError, match="needs 320 bytes, max_bytes is 319"):
        zarr.partition(array, max_bytes=319)


def test_what_is_no_region() -> None:
    array = new((10, 10), (5, 5))
    assert zarr.partition(array, region=3) == [
        (slice(3, 4), slice(0, 5)),
        (slice(3, 4), slice(5, 10)),
    ]
    for wrong in (slice(None, None, 2), [1, 2], "a"):
        with pytest.raises(ValueError, match="slices of step 1"):
            zarr.partition(array, region=wrong)
    for options in ({"n": 0}, {"max_bytes": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            zarr.partition(array, **options)


def test_pairs_that_share_a_stored_key_are_named() -> None:
    array = new((100,), (5,), shards=(20,))
    whole = [slice(0, 20), slice(20, 60), slice(60, 100)]
    assert zarr.check_regions(array, whole) == []
    cut = [slice(0, 30), slice(30, 50), slice(50, 90), slice(95, 100)]
    assert zarr.check_regions(array, cut) == [(0, 1, "c/1"), (1, 2, "c/2"), (2, 3, "c/4")]
    assert zarr.check_regions(array, [[1, 99], 50, [3, 3, 51]]) == [(0, 2, "c/0"), (1, 2, "c/2")]


# --- rechunk: the values ---------------------------------------------------------------------------


@given(st.data())
@settings(deadline=None)
def test_a_copy_has_the_values(data: st.DataObject) -> None:
    source = data.draw(arrays())
    values = np.arange(source.size, dtype="i4").reshape(source.shape)
    values[values % 7 == 0] = 0
    source[...] = values
    chunks = tuple(data.draw(st.integers(1, max(n, 1))) for n in source.shape)
    shards = data.draw(st.sampled_from([None, tuple(2 * c for c in chunks)]))
    bound = data.draw(st.sampled_from([None, 20_000, 400_000]))
    options: dict[str, Any] = (
        {"zarr_format": 2} if shards is None and data.draw(st.booleans()) else {}
    )
    dest: dict[str, Any] = {}
    try:
        made = zarr.rechunk(source, dest, chunks=chunks, shards=shards, max_bytes=bound, **options)
    except ValueError as error:  # a chunk that is larger than the bound
        assert "max_bytes" in str(error)  # noqa: PT017
        assert bound == 20_000
        assert dest == {}
        return
    assert (made.chunks, made.shards) == (chunks, shards)
    np.testing.assert_array_equal(made[...], values)
    assert zarr.open_array(dest).metadata == made.metadata


UNFINISHED = "zarr_core_unfinished"

LAYOUTS: dict[str, dict[str, Any]] = {
    "raw": {"compressors": None},
    "zstd": {},
    "shards": {"shards": (60, 40)},
    "format 2": {"zarr_format": 2, "order": "F", "dtype": ">i2"},
    "crooked": {"chunks": [[1, 59, 40], [30, 30, 20]]},
}


@pytest.mark.parametrize("slow", [False, True], ids=["quick", "slow"])
@pytest.mark.parametrize("after", LAYOUTS)
@pytest.mark.parametrize("before", LAYOUTS)
def test_between_layouts_formats_and_stores(
    tmp_path: Path, before: str, after: str, slow: bool
) -> None:
    values = np.arange(8000).reshape(100, 80)
    store: Any = LatencyStore(MemoryStore()) if slow else LocalStore(tmp_path / "a")
    given_options = {"chunks": (30, 20), "dtype": "i4", **LAYOUTS[before]}
    source = zarr.create_array(store, shape=values.shape, fill_value=3, **given_options)
    source[...] = values
    options = {"chunks": (20, 40), "zarr_format": 3, **LAYOUTS[after]}
    options.pop("dtype", None)
    dest: Any = LatencyStore(MemoryStore()) if slow else LocalStore(tmp_path / "b")
    made = zarr.rechunk(source, dest, **options)
    np.testing.assert_array_equal(made[...], values)
    np.testing.assert_array_equal(zarr.open_array(dest)[...], values)


@pytest.mark.parametrize("formats", [(3, 3), (2, 2), (2, 3), (3, 2)])
def test_chunks_that_stay_are_copied_as_they_are(formats: tuple[Any, Any]) -> None:
    source = new((20, 20), (6, 5), zarr_format=formats[0])
    source[...] = np.arange(400).reshape(20, 20)
    source[:6] = 0
    other = b"damaged chunks are not looked at, either"
    source.store.set(next(p.key for p in source.chunk_parts((7, 7))), other)
    made = zarr.rechunk(source, {}, zarr_format=formats[1])
    for coords in np.ndindex(source.cdata_shape):
        assert made.read_encoded_chunk(coords) == source.read_encoded_chunk(coords)


def test_missing_chunks_and_the_options_of_handles() -> None:
    source = new((20,), (5,))
    source[:5] = 1
    strict = source.with_config({"read_missing_chunks": False})
    with pytest.raises(zarr.errors.ChunkNotFoundError):
        zarr.rechunk(strict, {})
    full = zarr.rechunk(source, {}, config={"write_empty_chunks": True})
    assert full.nchunks_initialized == 4
    assert zarr.rechunk(source, {}).nchunks_initialized == 1
    with source.batch() as batch:
        batch[7] = 3
        assert zarr.rechunk(batch.array, {})[7] == 3


def test_text_and_other_sources() -> None:
    text = np.array(["a", "bcd", "", "ü"] * 5, np.dtypes.StringDType())
    source = zarr.create_array({}, data=text, chunks=(3,))
    assert zarr.rechunk(source, {}, chunks=(7,))[...].tolist() == text.tolist()
    assert zarr.rechunk(text, {}, chunks=(7,))[...].tolist() == text.tolist()
    place: dict[str, Any] = {}
    zarr.create_array(place, data=np.arange(5))
    assert zarr.rechunk(place, {}, chunks=2)[...].tolist() == [0, 1, 2, 3, 4]
    assert asyncio.run(zarr.rechunk_async(place, {}, chunks=2)).chunks == (2,)


# --- rechunk: what is there already ----------------------------------------------------------------


def half(source: zarr.Array, dest: Any, **options: Any) -> None:
    """Copy until half of the chunks are stored."""

    def hook(operation: str, key: str, nbytes: int) -> None:
        nonlocal left
        left -= operation == "write"
        if not left:
            raise InterruptedError

    left = 10
    with pytest.raises(InterruptedError), zarr.on_chunk(hook):
        zarr.rechunk(source, dest, **options)


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> zarr.Array:
    monkeypatch.setattr(regions, "STEP_BYTES", 1)
    monkeypatch.setattr(regions, "max_workers", lambda: 1)
    return zarr.create_array({}, data=np.arange(1, 401), chunks=(10,), attributes={"a": 1})


def test_a_copy_that_was_interrupted_goes_on(source: zarr.Array) -> None:
    dest = LoggingStore(MemoryStore())
    half(source, dest, chunks=(20,))
    begun = zarr.open_array(dest)
    assert set(begun.attrs) == {"a", UNFINISHED}
    with pytest.raises(CopyError, match="not finished"):
        zarr.rechunk(begun, {})
    with pytest.raises(ContainsArrayError):
        zarr.rechunk(source, dest, chunks=(20,), resume=False)
    with pytest.raises(ContainsArrayError):
        zarr.rechunk(source, dest, chunks=(40,))
    with pytest.raises(ContainsArrayError):
        zarr.rechunk(np.arange(1, 401), dest, chunks=(20,), attributes={"a": 1})
    written: list[str] = []
    with zarr.on_chunk(lambda op, key, n: written.append(key) if op == "write" else None):
        made = zarr.rechunk(source, dest, chunks=(20,))
    assert 8 <= len(written) <= 16  # of 20
    np.testing.assert_array_equal(made[...], source[...])
    assert dict(zarr.open_array(dest).attrs) == {"a": 1}
    with zarr.on_chunk(lambda *event: pytest.fail("it is finished")):
        assert zarr.rechunk(source, dest, chunks=(20,)) == made


def test_overwriting(source: zarr.Array) -> None:
    dest = MemoryStore()
    half(source, dest, chunks=(20,))
    assert (zarr.rechunk(source, dest, chunks=(50,), overwrite=True)[...] == source[...]).all()
    assert sorted(dest.list()) == [*(f"c/{n}" for n in range(8)), "zarr.json"]
    source[0] = 99
    assert zarr.rechunk(source, dest, chunks=(50,))[0] == 1  # it was finished
    assert zarr.rechunk(source, dest, chunks=(50,), overwrite=True)[0] == 99
    with pytest.raises(ContainsArrayError):
        zarr.rechunk(source, dest, chunks=(50,), resume=False)
    with pytest.raises(ValueError, match="part of what would be overwritten"):
        zarr.rechunk(source, source.store, chunks=(3,), overwrite=True)
    with pytest.raises(TypeError, match="chunk"):
        zarr.rechunk(source, {}, chunk=(3,))


def test_a_copy_between_saves_reading_again_and_again() -> None:
    values = np.arange(1 << 20, dtype="i4").reshape(1024, 1024)
    source = zarr.create_array({}, data=values, chunks=(8, 1024))
    counts, temp = [], LoggingStore(MemoryStore())
    for between in (None, temp):
        events: list[Event] = []
        with zarr.on_chunk(lambda *event: events.append(event)):  # noqa: B023
            made = zarr.rechunk(
                source, {}, chunks=(1024, 8), max_bytes=2 << 20, temp=between, attributes={"a": 1}
            )
        np.testing.assert_array_equal(made[...], values)
        assert made.attrs.asdict() == {"a": 1}
        counts.append(Counter(operation for operation, *_ in events))
    n_between = counts[1]["write"] - 128
    assert counts == [
        {"read": 128 * 7, "write": 128},
        {"read": 128 + n_between, "write": 128 + n_between},
    ]
    assert list(temp.list()) == []  # it is removed
    zarr.rechunk(source, {}, chunks=(8, 512), temp=temp)  # reads each chunk once, anyway
    assert list(temp.list()) == []


def test_places_that_a_copy_between_cannot_have(tmp_path: Path) -> None:
    source = new((1024, 1024), (8, 1024))
    options: dict[str, Any] = {"chunks": (1024, 8), "max_bytes": 2 << 20, "overwrite": True}
    with pytest.raises(ValueError, match="one in the other"):
        zarr.rechunk(source, tmp_path, temp=tmp_path / "a", **options)
    for place in (source.store, zarr.create_array({}, shape=3, dtype="i1").store):
        with pytest.raises(ContainsArrayError):
            zarr.rechunk(source, tmp_path, temp=place, **options)
    zarr.create_group(tmp_path)
    options["overwrite"] = False
    with pytest.raises(ContainsGroupError):
        zarr.rechunk(source, tmp_path, temp=MemoryStore(), **options)


# --- memory ----------------------------------------------------------------------------------------


class Made:
    """A source that is made when it is read."""

    shape, dtype, chunks = (512, 16384), np.dtype("f8"), (8, 16384)

    def __init__(self) -> None:
        self.rows: Counter[int] = Counter()

    def __getitem__(self, region: tuple[slice, slice]) -> Any:
        rows, columns = region
        self.rows.update(range(rows.start // 8, -(-rows.stop // 8)))
        y = np.arange(rows.start, rows.stop, dtype="f8")[:, None]
        return y + np.arange(columns.start, columns.stop)


@pytest.mark.parametrize(
    ("chunks", "shards"), [((512, 16), None), ((100, 300), None), ((64, 64), (128, 512))]
)
def test_the_peak_of_memory_is_below_the_bound(tmp_path: Path, chunks: Any, shards: Any) -> None:
    source, bound = Made(), 8 << 20  # of 64 MB
    tracemalloc.start()
    try:
        zarr.rechunk(
            source, tmp_path, chunks=chunks, shards=shards, max_bytes=bound, compressors=None
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < bound
    made = zarr.open_array(tmp_path)
    y, x = np.arange(0, 512, 37)[:, None], np.arange(0, 16384, 1111)
    np.testing.assert_array_equal(made[::37, ::1111], y + x)
    # A third of the bound is 24 times less than what is copied.
    assert max(source.rows.values()) <= 25


def test_a_bound_that_is_too_small_for_a_chunk() -> None:
    with pytest.raises(ValueError, match="max_bytes is 1000; to copy one stored chunk takes 4000"):
        zarr.rechunk(new((1000,), (250,)), {}, max_bytes=1000)
    large = zarr.create_array({}, shape=(1 << 27,), chunks=(1 << 27,), dtype="u1")
    assert zarr.rechunk(large, {}, shards=None).chunks == (1 << 27,)  # more than the default allows


# --- executors and hooks ---------------------------------------------------------------------------


def test_other_processes_copy(tmp_path: Path, source: zarr.Array) -> None:
    here = zarr.rechunk(source, tmp_path / "a")
    events: Counter[str] = Counter()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for chunks in ((20,), (10,)):  # which stay as they are
            place = tmp_path / f"{chunks}"
            with zarr.on_chunk(lambda operation, key, nbytes: events.update([operation])):
                made = zarr.rechunk(here, place, chunks=chunks, executor=pool)
            np.testing.assert_array_equal(made[...], source[...])
        with pytest.raises(ValueError, match="other processes"):
            zarr.rechunk(here, {}, executor=pool)
    assert events == {"read": 40 + 40, "write": 20 + 40}


class Counting(ThreadPoolExecutor):
    def __init__(self) -> None:
        super().__init__(2)
        self.unfinished: set[Future[Any]] = set()
        self.most = 0

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(*args, **kwargs)
        self.unfinished.add(future)
        self.unfinished = {f for f in self.unfinished if not f.done()}
        self.most = max(self.most, len(self.unfinished))
        return future


def test_a_bounded_number_of_tasks_is_submitted(
    source: zarr.Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regions, "SUBMITTED", 3)
    with Counting() as pool:
        made = zarr.rechunk(source, {}, chunks=(20,), executor=pool)
    np.testing.assert_array_equal(made[...], source[...])
    assert 1 <= pool.most <= 3


def test_an_error_in_a_task_ends_the_copy(tmp_path: Path, source: zarr.Array) -> None:
    source.store.set("c/3", b"damaged")
    here = zarr.rechunk(source, tmp_path / "a")
    with ThreadPoolExecutor(1) as pool, pytest.raises(zarr.errors.ChunkDecodeError, match="c/3"):
        zarr.rechunk(here, tmp_path / "b", chunks=(20,), executor=pool)
    assert UNFINISHED in zarr.open_array(tmp_path / "b").attrs


def test_a_bar_knows_at_once_how_much_there_is_to_do(source: zarr.Array) -> None:
    tqdm = pytest.importorskip("tqdm.auto")
    seen: list[tuple[int, int]] = []

    class Bar(tqdm.tqdm):  # type: ignore[misc]
        def update(self, n: int = 1) -> None:
            super().update(n)
            seen.append((self.n, self.total))

    with pytest.MonkeyPatch.context() as patch, open(os.devnull, "w") as nowhere:
        patch.setattr(tqdm, "tqdm", lambda **given: Bar(file=nowhere, **given))
        with zarr.progress():
            zarr.rechunk(source, {}, chunks=(20,))
    assert [n for n, _ in seen] == list(range(1, 61))
    assert {total for _, total in seen} == {60}


def test_a_copy_ends_in_time(source: zarr.Array) -> None:
    dest = MemoryStore()
    with pytest.raises(OperationTimeoutError, match="of 60 chunks"), zarr.timeout(1e-9):
        zarr.rechunk(source, dest, chunks=(20,))
    assert (zarr.rechunk(source, dest, chunks=(20,))[...] == source[...]).all()
