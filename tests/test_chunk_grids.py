"""Chunk grids: what holds what, what is refused, and costs of huge grids."""

import gzip
import json
import pickle
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import count, rectilinear_edges, regular_edges, shapes

import zarr_core
from zarr_core.errors import ChunkDecodeError, MetadataValidationError
from zarr_core.metadata.chunk_grids import (
    MAX_LISTED_EDGES,
    BoundedAxis,
    ChunkGrid,
    RectilinearAxis,
    RegularAxis,
    expand_edges,
    parse_grid,
)
from zarr_core.storage import MemoryStore

# --- one dimension ---------------------------------------------------------------------------------


@st.composite
def axes(draw: st.DrawFn) -> tuple[Any, tuple[int, ...], int]:
    length = draw(st.integers(0, 20))
    if draw(st.booleans()):
        edges = draw(rectilinear_edges(length, exact=False))
        return RectilinearAxis(length, edges), edges, length
    edges = draw(regular_edges(length))
    return RegularAxis(length, edges[0]), edges, length


@given(axes())
def test_an_axis_is_its_edges(drawn: tuple[Any, tuple[int, ...], int]) -> None:
    axis, edges, length = drawn
    bounds = list(accumulate(edges, initial=0))
    assert axis.count == count(edges, length)
    assert sum(axis.sizes()) == length
    assert len(axis.sizes()) == axis.count
    holder = [k for k, size in enumerate(axis.sizes()) for _ in range(size)]
    assert [axis.find(i) for i in range(length)] == holder
    assert axis.find_many(np.arange(length)).tolist() == holder
    chunks = range(axis.count)
    assert [axis.start(k) for k in chunks] == bounds[: axis.count]
    assert axis.starts(np.arange(axis.count)).tolist() == bounds[: axis.count]
    assert [axis.stored_size(k) for k in chunks] == list(edges[: axis.count])
    assert all(type(axis.start(k)) is int and type(axis.find(0)) is int for k in chunks)


@given(axes(), st.integers(0, 30))
def test_resizing_an_axis_keeps_the_chunks(
    drawn: tuple[Any, tuple[int, ...], int], length: int
) -> None:
    axis, _, _ = drawn
    resized = axis.resized(length)
    assert resized.length == length
    assert sum(resized.sizes()) == length
    for k in range(min(axis.count, resized.count)):
        assert resized.start(k) == axis.start(k)
        assert resized.stored_size(k) == axis.stored_size(k)
    assert resized.resized(axis.length).sizes() == axis.sizes()


def test_a_grown_rectilinear_axis_gets_one_more_chunk() -> None:
    assert RectilinearAxis(5, (2, 3)).resized(9).edges == (2, 3, 4)
    assert RectilinearAxis(5, (2, 3)).resized(1).edges == (2, 3)


# --- grids -----------------------------------------------------------------------------------------


@st.composite
def grids(draw: st.DrawFn) -> ChunkGrid:
    axes: list[Any] = []
    for length in draw(shapes(3, 9)):
        if draw(st.booleans()):
            edges = draw(rectilinear_edges(length, exact=False))
            axes.append(RectilinearAxis(length, edges))
        else:
            axes.append(RegularAxis(length, draw(regular_edges(length))[0]))
    return ChunkGrid(tuple(axes))


@given(grids())
def test_regions_tile_the_array(grid: ChunkGrid) -> None:
    hits = np.zeros(grid.shape, int)
    coords = list(grid.all_coords())
    for at in coords:
        region = grid.region(at)
        hits[region] += 1
        stored = grid.stored_shape(at)
        assert all(s.stop - s.start <= n for s, n in zip(region, stored, strict=True))
    assert (hits == 1).all()
    assert len(coords) == grid.nchunks == np.prod(grid.counts, dtype=int)


@given(grids())
def test_a_grid_survives_its_document(grid: ChunkGrid) -> None:
    document = grid.to_json()
    assert parse_grid(document["name"], document["configuration"], grid.shape) == grid
    assert pickle.loads(pickle.dumps(grid)) == grid
    assert hash(grid) == hash(pickle.loads(pickle.dumps(grid)))


def test_questions_about_huge_grids_are_cheap() -> None:
    grid = ChunkGrid.regular((10**9, 10**9), (1, 1))
    assert grid.counts == (10**9, 10**9)
    assert grid.nchunks == 10**18
    assert grid.region((5, 10**9 - 1)) == (slice(5, 6), slice(10**9 - 1, 10**9))
    assert grid.resized((3, 10**9)).nchunks == 3 * 10**9


def test_run_lengths_are_written_and_read() -> None:
    configuration = {"kind": "inline", "chunk_shapes": [[[4, 2], 2], 3, [[4, 2]], [4, 2]]}
    grid = parse_grid("rectilinear", configuration, (10, 7, 8, 6))
    assert [axis.sizes() for axis in grid.axes] == [(4, 4, 2), (3, 3, 1), (4, 4), (4, 2)]
    assert grid.to_json()["configuration"] == configuration
    assert grid.chunk_shape is None


def test_edges_may_reach_beyond_the_array() -> None:
    grid = parse_grid("rectilinear", {"kind": "inline", "chunk_shapes": [[4, 4, 4]]}, (5,))
    assert grid.counts == (2,)
    assert grid.stored_shape((1,)) == (4,)
    assert grid.region((1,)) == (slice(4, 5),)


TWO: dict[str, Any] = {"kind": "inline", "chunk_shapes": [[3, 2]]}


@pytest.mark.parametrize(
    ("name", "configuration", "found"),
    [
        ("regular", {"chunk_shape": [0]}, "[0]"),
        ("regular", {"chunk_shape": [-1]}, "[-1]"),
        ("regular", {"chunk_shape": [True]}, "[True]"),
        ("regular", {"chunk_shape": [2.0]}, "[2.0]"),
        ("regular", {"chunk_shape": [2, 2]}, "[2, 2]"),
        ("regular", {"chunk_shape": 2}, "2"),
        ("regular", {}, "None"),
        ("regular", {"chunk_shape": [2], "more": 1}, "'more'"),
        ("irregular", {"chunk_shape": [2]}, "'irregular'"),
        ("rectilinear", {"chunk_shapes": [[2, 2, 2]]}, "None"),
        ("rectilinear", {"kind": "outline", "chunk_shapes": [[5]]}, "'outline'"),
        ("rectilinear", {"kind": "inline", "chunk_shapes": [[2, 2]]}, "sum up to 4"),
        ("rectilinear", {"kind": "inline", "chunk_shapes": [[5, 0]]}, "0"),
        ("rectilinear", {"kind": "inline", "chunk_shapes": [[[5, 0]]]}, "[5, 0]"),
        ("rectilinear", {"kind": "inline", "chunk_shapes": [[[1, 2, 3]]]}, "[1, 2, 3]"),
        ("rectilinear", {"kind": "inline", "chunk_shapes": [[]]}, "[]"),
        ("rectilinear", {"kind": "inline", "chunk_shapes": [0]}, "0"),
        ("rectilinear", {"kind": "inline", "chunk_shapes": ["5"]}, "'5'"),
        ("rectilinear", {"kind": "inline", "chunk_shapes": [5, 5]}, "[5, 5]"),
        ("rectilinear", {"kind": "inline", "chunk_shapes": None}, "None"),
        ("rectilinear", {"kind": "inline", "chunk_shapes": [[2**62, 2**62]]}, "2**63"),
        ("rectilinear", {"kind": "inline", "chunk_shapes": [2**63]}, "2**63"),
        ("regular", {"chunk_shape": [2**63]}, "2**63"),
        ("zarrs.regular_bounded", {"chunk_shape": [0]}, "[0]"),
        ("zarrs.regular_bounded", {"chunk_shape": [2], "more": 1}, "'more'"),
        ("rectilinear", {**TWO, "encoded_chunk_shapes": []}, "[]"),
        ("rectilinear", {**TWO, "encoded_chunk_shapes": 4}, "4"),
        ("rectilinear", {**TWO, "encoded_chunk_shapes": [[3, 3, 3]]}, "3 lengths for 2 chunks"),
        ("rectilinear", {**TWO, "encoded_chunk_shapes": [[3, 1]]}, "none may be less"),
        ("rectilinear", {**TWO, "encoded_chunk_shapes": [2]}, "none may be less"),
        ("rectilinear", {**TWO, "encoded_chunk_shapes": [[[2**62, 2]]]}, "2**63"),
        ("rectilinear", {**TWO, "encoded_chunk_shapes": [[[5, 10**9]]]}, str(MAX_LISTED_EDGES)),
        ("rectilinear", {**TWO, "encoded_chunk_shapes": [None]}, "None"),
    ],
)
def test_refused_grids_say_what_was_found(
    name: str, configuration: dict[str, Any], found: str
) -> None:
    with pytest.raises(MetadataValidationError) as caught:
        parse_grid(name, configuration, (5,))
    assert found in str(caught.value)


def test_a_short_document_cannot_ask_for_endless_edges() -> None:
    with pytest.raises(MetadataValidationError, match=str(MAX_LISTED_EDGES)):
        expand_edges([[1, 10**15]], 10**15, "chunk_grid")
    with pytest.raises(MetadataValidationError, match=str(MAX_LISTED_EDGES)):
        expand_edges([[1, MAX_LISTED_EDGES // 2]] * 3, 5, "chunk_grid")


# --- chunks that are stored longer or shorter --------------------------------------------------------


def test_chunks_may_be_stored_longer_than_what_they_are_for() -> None:
    # The example of the registered text: two arrays of 550 elements, one after the other.
    configuration = {
        "kind": "inline",
        "chunk_shapes": [[[200, 2], 150, [200, 2], 150]],
        "encoded_chunk_shapes": [200],
    }
    grid = parse_grid("rectilinear", configuration, (1100,))
    assert [grid.region((k,))[0].start for k in range(6)] == [0, 200, 400, 550, 750, 950]
    assert [grid.stored_shape((k,)) for k in range(6)] == [(200,)] * 6
    assert grid.axes[0].sizes() == (200, 200, 150, 200, 200, 150)
    written = grid.to_json()["configuration"]
    assert written == {**configuration, "encoded_chunk_shapes": [[[200, 6]]]}
    assert parse_grid("rectilinear", written, (1100,)) == grid
    longer = grid.resized((1200,))
    assert [longer.stored_shape((k,)) for k in (5, 6)] == [(200,), (100,)]
    same = {**configuration, "encoded_chunk_shapes": configuration["chunk_shapes"]}
    assert "encoded_chunk_shapes" not in parse_grid("rectilinear", same, (1100,)).to_json()
    regular = {"kind": "inline", "chunk_shapes": [3], "encoded_chunk_shapes": [4]}
    assert parse_grid("rectilinear", regular, (7,)).stored_shape((2,)) == (4,)
    equal = {**regular, "encoded_chunk_shapes": [3]}
    assert parse_grid("rectilinear", equal, (7,)).chunk_shape == (3,)
    with pytest.raises(MetadataValidationError, match="more than"):
        parse_grid("rectilinear", regular, (10**12,))


def test_the_last_chunk_may_be_stored_short() -> None:
    grid = parse_grid("zarrs.regular_bounded", {"chunk_shape": [3, 4]}, (7, 5))
    assert grid.counts == (3, 2)
    assert grid.stored_shape((2, 1)) == (1, 1)
    assert grid.stored_shape((1, 0)) == (3, 4)
    assert grid.chunk_shape is None
    assert grid.to_json() == {
        "name": "zarrs.regular_bounded", "configuration": {"chunk_shape": [3, 4]}
    }  # fmt: skip
    huge = parse_grid("zarrs.regular_bounded", {"chunk_shape": [3]}, (2**62,))
    assert huge.counts == (-(-(2**62) // 3),)
    assert pickle.loads(pickle.dumps(grid)) == grid


@st.composite
def grids(draw: st.DrawFn) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Return a shape, and a document's grid whose chunks are not stored as they are cut."""
    ndim = draw(st.integers(1, 2))
    if draw(st.booleans()):
        shape = tuple(draw(st.integers(0, 9)) for _ in range(ndim))
        sizes = [draw(st.integers(1, 5)) for _ in range(ndim)]
        return shape, {"name": "zarrs.regular_bounded", "configuration": {"chunk_shape": sizes}}
    edges = [draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)) for _ in range(ndim)]
    stored = [[n + draw(st.integers(0, 2)) for n in axis] for axis in edges]
    shape = tuple(draw(st.integers(0, sum(axis))) for axis in edges)
    configuration = {"kind": "inline", "chunk_shapes": edges, "encoded_chunk_shapes": stored}
    return shape, {"name": "rectilinear", "configuration": configuration}


@given(grids(), st.data())
def test_such_arrays_are_numpys(
    grid: tuple[tuple[int, ...], dict[str, Any]], data: st.DataObject
) -> None:
    shape, document = grid
    store = MemoryStore()
    zarr_core.create_array(store, shape=shape, dtype="i2", compressors=None, fill_value=-1)
    metadata = json.loads(store.get("zarr.json") or b"")
    store.set("zarr.json", json.dumps({**metadata, "chunk_grid": document}).encode())
    a = zarr_core.open_array(store)
    expected = np.full(shape, -1, "i2")
    for step in range(1, 4):
        at = tuple(
            data.draw(
                st.slices(n)
                | (st.lists(st.integers(0, n - 1), min_size=1, unique=True) if n else st.nothing())
                | (st.integers(0, n - 1) if n else st.nothing())
            )
            for n in shape
        )
        as_numpy = np.ix_(*[np.atleast_1d(np.arange(n)[s]) for n, s in zip(shape, at, strict=True)])
        values = np.arange(expected[as_numpy].size, dtype="i2").reshape(expected[as_numpy].shape)
        expected[as_numpy] = values + 100 * step
        a.oindex[at] = expected[as_numpy].reshape(a.oindex[at].shape)
        assert np.array_equal(a[...], expected)
        assert np.array_equal(a.oindex[at].reshape(-1), expected[as_numpy].reshape(-1))
    chunks = a.metadata.chunk_grid
    for coords in chunks.all_coords():
        encoded = a.read_encoded_chunk(coords)
        size = 2 * int(np.prod(chunks.stored_shape(coords)))
        assert encoded is None or len(encoded) == size
    if expected.size:
        copied = zarr_core.from_array(MemoryStore(), data=a)
        assert copied.metadata.chunk_grid == chunks
        assert np.array_equal(copied[...], expected)


def test_what_a_chunk_has_beyond_its_elements_is_ignored_and_kept() -> None:
    store = MemoryStore()
    zarr_core.create_array(store, shape=5, dtype="u1", compressors=None)
    metadata = json.loads(store.get("zarr.json") or b"")
    metadata["chunk_grid"] = {
        "name": "rectilinear", "configuration": {**TWO, "encoded_chunk_shapes": [4]}
    }  # fmt: skip
    store.set("zarr.json", json.dumps(metadata).encode())
    store.set("c/0", bytes([1, 2, 3, 99]))
    store.set("c/1", bytes([4, 5, 98, 97]))
    a = zarr_core.open_array(store)
    assert a[...].tolist() == [1, 2, 3, 4, 5]
    assert a[::-2].tolist() == [5, 3, 1]
    assert a.blocks[0].tolist() == [1, 2, 3]
    assert list(a) == [1, 2, 3, 4, 5]
    a[1] = 20
    assert store.get("c/0") == bytes([1, 20, 3, 99])
    store.set("c/1", bytes([4, 5]))
    with pytest.raises(ChunkDecodeError):
        a[4]


def test_a_resize_that_would_cut_stored_chunks_is_refused() -> None:
    store = MemoryStore()
    zarr_core.create_array(store, shape=7, chunks=3, dtype="u1")
    metadata = json.loads(store.get("zarr.json") or b"")
    metadata["chunk_grid"]["name"] = "zarrs.regular_bounded"
    store.set("zarr.json", json.dumps(metadata).encode())
    a = zarr_core.open_array(store)
    a[...] = np.arange(7)
    for length in (8, 5, 4):
        with pytest.raises(ValueError, match="regular_bounded"):
            a.resize(length)
    with pytest.raises(ValueError, match="regular_bounded"):
        a.append([7])
    assert a[...].tolist() == list(range(7))
    a.resize(6)
    a.resize(10)
    assert a[...].tolist() == [*range(6), 0, 0, 0, 0]
    a[...] = np.arange(10)
    assert zarr_core.open_array(store)[...].tolist() == list(range(10))


def test_zarrista_reads_short_chunks_and_the_other_way_round(tmp_path: Path) -> None:
    zarrista = pytest.importorskip("zarrista", reason="a peer")
    grid = ChunkGrid(tuple(map(BoundedAxis, (7, 5), (3, 4))))
    a = zarr_core.create_array(
        tmp_path, shape=(7, 5), chunks=grid, dtype="u1", compressors={"name": "gzip"}
    )
    a[...] = np.arange(35).reshape(7, 5)
    theirs = zarrista.Array.open(zarrista.store.FilesystemStore(str(tmp_path)), "/")
    for coords in grid.all_coords():
        chunk = theirs.retrieve_encoded_chunk(coords)
        assert tuple(chunk.shape) == grid.stored_shape(coords)
        assert np.array_equal(np.asarray(theirs.retrieve_chunk(coords)), a.read_chunk(coords))
    theirs.store_encoded_chunk((2, 1), gzip.compress(bytes([77])))
    assert zarr_core.open_array(tmp_path)[6, 4] == 77
