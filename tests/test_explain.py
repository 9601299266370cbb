"""`Array.explain`: what reading a selection costs, compared with what a store is asked."""

from typing import Any

import numpy as np
import pytest

import zarr_core as zarr
from zarr_core.storage import LatencyStore, LoggingStore, MemoryStore

DATA = np.random.default_rng(1).random((100, 60))


def opened(**options: Any) -> tuple[zarr.Array, MemoryStore]:
    store = MemoryStore()
    zarr.create_array(store, data=DATA, **{"chunks": (10, 20), **options})
    return zarr.open_array(store, mode="r"), store


@pytest.mark.parametrize("options", [{}, {"compressors": None}, {"shards": (50, 60)}])
@pytest.mark.parametrize(
    ("selection", "chunks"),
    [
        (..., 30),
        (np.s_[5:50, 30:60], 10),
        (np.s_[::-7, 5], 10),
        (np.s_[3], 3),
        (([1, 95, 96], [3, 59, 0]), 3),
        (np.s_[[0, 99], 2:3], 2),
        (np.s_[5:5], 0),
        (DATA > 2, 0),
    ],
)
def test_the_numbers_are_those_of_reading(
    options: dict[str, Any], selection: Any, chunks: int
) -> None:
    array, _ = opened(**options)
    found = array.explain(selection)
    with zarr.trace() as trace:
        expected = array[selection]
    assert found.shape == expected.shape
    assert found.chunks == chunks
    assert found.bytes_used == expected.nbytes
    assert found.bytes_decoded == chunks * 10 * 20 * 8
    assert found.stored_chunks == found.measured == sum(1 for _ in array.chunk_parts(selection))
    assert found.requests == len(trace.requests)
    assert found.bytes_stored == sum(row.nbytes for row in trace.requests)
    assert found.missing == 0
    assert 0 <= found.cache_saves <= found.bytes_stored
    if chunks:
        assert found.amplification == found.bytes_decoded / found.bytes_used


def test_long_selections_are_sampled() -> None:
    store = LoggingStore(MemoryStore())
    array = zarr.create_array(store, shape=(10_000,), chunks=(10,), dtype="i4", compressors=None)
    array[:5000] = np.arange(5000) + 1
    before = store.counter["get"]
    found = array.explain()
    assert store.counter["get"] - before == found.measured == 32
    assert found.stored_chunks == 1000
    assert found.missing == 500
    assert found.requests == 1000
    assert found.bytes_stored == 20_000
    assert "about" in repr(found)


def test_rectilinear_grids_and_fields() -> None:
    array = zarr.create_array({}, shape=(10,), chunks=[[1, 2, 7]], dtype="i4")
    array[:] = 1
    found = array.explain(np.s_[2:4])
    assert (found.chunks, found.bytes_decoded, found.bytes_used) == (2, 36, 8)
    fields = zarr.create_array({}, shape=(8,), chunks=(4,), dtype=[("a", "i4"), ("b", "f8")])
    fields[:] = (1, 2)
    assert fields.explain("a").bytes_used == 8 * 4
    assert fields.explain("a").bytes_decoded == 8 * 12
    scalar = zarr.create_array({}, shape=(), dtype="i4")
    scalar[...] = 5
    assert scalar.explain().chunks == 1


@pytest.mark.parametrize(
    ("selection", "options", "words"),
    [
        (np.s_[:, 3], {}, "1 in 20 bytes is used: for selections like this chunks of (100, 60)"),
        (([1], [2]), {}, "CacheStore"),
        (np.s_[0:0], {}, "Nothing is selected"),
        (..., {}, "What is decoded is used"),
        (..., {"chunks": (1, 20)}, "Requests are small"),
    ],
)
def test_advice(selection: Any, options: dict[str, Any], words: str) -> None:
    _, store = opened(**options)
    slow = LatencyStore(store) if "chunks" in options else store
    found = zarr.open_array(slow, mode="r").explain(selection)
    assert words in found.advice
    assert words in repr(found)
    assert found.advice.count(".") == 1 + found.advice.count("0.")
    assert "<table>" in found._repr_html_()


def test_what_is_not_stored_and_what_is_one_large_chunk() -> None:
    empty = zarr.create_array({}, shape=(100,), chunks=(10,), dtype="i4")
    assert "Nothing of this is stored" in empty.explain().advice
    large = zarr.create_array({}, shape=(5 << 20,), chunks=(5 << 20,), dtype="i4", fill_value=1)
    large[:] = 0
    assert "one thread" in large.explain().advice


def test_better_chunks_are_better() -> None:
    array, _ = opened()
    found = array.explain(np.s_[:, 3])
    better = zarr.create_array({}, data=DATA, chunks=(100, 1)).explain(np.s_[:, 3])
    assert better.amplification == 1 < found.amplification
    assert better.requests < found.requests


def test_chunks_that_are_advised_are_worth_a_request() -> None:
    array = zarr.create_array({}, shape=(1000, 40, 50), chunks=(10, 40, 50), dtype="f4")
    array[:] = 1
    assert "chunks of (1000, 4, 4) are better" in array.explain(np.s_[:, 3, 4]).advice
