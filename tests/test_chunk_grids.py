"""Chunk grids: what holds what, what is refused, and costs of huge grids."""

import pickle
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import count, rectilinear_edges, regular_edges, shapes

from zarr_core.errors import MetadataValidationError
from zarr_core.metadata.chunk_grids import (
    MAX_LISTED_EDGES,
    ChunkGrid,
    RectilinearAxis,
    RegularAxis,
    expand_edges,
    parse_grid,
)

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
