"""Plans of selections: the same elements as NumPy, each chunk once, at costs of what is touched."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    Edges,
    Selection,
    basic,
    coordinate,
    masks,
    picked,
    rectilinear_edges,
    regular_edges,
    selections,
    shapes,
)

from zarr_core.errors import (
    ArrayIndexError,
    BoundsCheckError,
    VindexInvalidSelectionError,
)
from zarr_core.indexing.plan import FULL, PARTIAL, WHOLE, OuterPlan, Plan, selected_shape
from zarr_core.indexing.selection import (
    plan_basic,
    plan_blocks,
    plan_coordinates,
    plan_mask,
    plan_orthogonal,
    plan_selection,
    single_part,
    split_fields,
)
from zarr_core.metadata.chunk_grids import ChunkGrid, RectilinearAxis, RegularAxis


def plan_of(selection: Selection, grid: ChunkGrid) -> Plan:
    kind, index = selection
    plans = {
        "basic": plan_basic,
        "orthogonal": plan_orthogonal,
        "coordinate": plan_coordinates,
        "mask": plan_mask,
        "block": plan_blocks,
    }
    return plans[kind](index, grid)


def run(plan: Plan, grid: ChunkGrid, array: np.ndarray) -> np.ndarray:
    """Carry out a plan with NumPy; check each part on the way."""
    out = np.full(plan.shape, -1)
    seen = []
    for part in plan.parts():
        assert all(0 <= k < n for k, n in zip(part.coords, grid.counts, strict=True))
        region = array[grid.region(part.coords)]
        chunk = np.full(grid.stored_shape(part.coords), -2)
        chunk[tuple(map(slice, region.shape))] = region
        found = chunk[plan.index(part.chunk)]
        assert not (found == -2).any(), "reads beyond the array"
        where = plan.index(part.out)
        assert (out[where] == -1).all(), "writes an element of the result twice"
        out[where] = found
        distinct = len(np.unique(found))
        if part.cover == FULL:
            assert distinct == found.size == chunk.size
        if part.cover == WHOLE:
            assert distinct == found.size == region.size
        seen.append(part.coords)
    assert seen == sorted(set(seen)), "chunks in C order, each once"
    assert len(seen) == plan.nparts or (plan.pointwise and len(seen) <= plan.nparts)
    assert not (out == -1).any()
    if plan.flips:
        out = out[tuple(slice(None, None, -1 if a in plan.flips else 1) for a in range(out.ndim))]
    return out.reshape(plan.result_shape)


@st.composite
def cases(
    draw: st.DrawFn, max_dims: int = 5
) -> tuple[tuple[int, ...], list[Edges], ChunkGrid, Selection]:
    shape = draw(shapes(max_dims, 7 if max_dims < 4 else 4))
    edges, axes = [], []
    for length in shape:
        if draw(st.booleans()):
            edges.append(draw(regular_edges(length)))
            axes.append(RegularAxis(length, edges[-1][0]))
        else:
            edges.append(draw(rectilinear_edges(length, exact=False)))
            axes.append(RectilinearAxis(length, edges[-1]))
    return shape, edges, ChunkGrid(tuple(axes)), draw(selections(shape, edges))


@given(st.one_of(cases(2), cases(3), cases(5)))
def test_plans_select_what_numpy_selects(case: Any) -> None:
    shape, edges, grid, selection = case
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    expected = picked(shape, edges, selection)
    plan = plan_of(selection, grid)
    assert plan.result_shape == np.shape(expected)
    np.testing.assert_array_equal(run(plan, grid, array), expected)


@given(st.data())
def test_brackets_choose_the_kind(data: st.DataObject) -> None:
    shape = data.draw(shapes(3, 6))
    grid = ChunkGrid.regular(shape, tuple(data.draw(st.integers(1, n + 1)) for n in shape))
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    kind = data.draw(st.sampled_from(["basic", "coordinate", "mask"]))
    strategy = {"basic": basic, "coordinate": coordinate, "mask": masks}[kind]
    index = data.draw(strategy(shape))
    np.testing.assert_array_equal(run(plan_selection(index, grid), grid, array), array[index])


@given(st.data())
def test_a_selection_in_one_chunk_is_the_part_of_the_plan(data: st.DataObject) -> None:
    shape = data.draw(shapes(3, 6))
    sizes = tuple(data.draw(st.integers(1, n + 2)) for n in shape)
    index = data.draw(basic(shape))
    items = index if isinstance(index, tuple) else (index,)
    if data.draw(st.booleans()):
        index = tuple(np.int16(i) if isinstance(i, int) else i for i in items)
    plan = plan_selection(index, ChunkGrid.regular(shape, sizes))
    part = single_part(index, shape, sizes)
    if plan.nparts != 1:
        assert part is None
    elif part is None:  # the short way does not go backwards
        assert plan.flips or any(s.step < 0 for s in items if isinstance(s, slice) and s.step)
    else:
        (only,) = plan.parts()
        assert part == only._replace(out=())
        assert selected_shape(part.chunk) == plan.result_shape


@pytest.mark.parametrize(
    "index", [(9, 0), (0, -7), (0.5, 0), ("x", 0), (None, 0), (slice(0, 1, 0), 0), (True, 0)]
)
def test_what_is_wrong_is_in_no_chunk(index: Any) -> None:
    assert single_part(index, (6, 6), (6, 6)) is None
    assert single_part(([0, 1], 0), (6, 6), (6, 6)) is None
    assert single_part((0, 0, 0), (6, 6), (6, 6)) is None


def test_slices_beside_indices_are_orthogonal() -> None:
    grid = ChunkGrid.regular((4, 5), (2, 2))
    array = np.arange(20).reshape(4, 5)
    for index, same in [
        (([0, 3], slice(None)), array[[0, 3]]),
        (([0, 3],), array[[0, 3]]),
        ((..., [1, 0]), array[:, [1, 0]]),
        ((np.array([True, False, True, False]), slice(1, 4)), array[[0, 2], 1:4]),
        ((2, [4, 0]), array[2, [4, 0]]),
        ((range(1, 3), slice(None)), array[1:3]),
        (([3, 1], [4, 0]), array[[3, 1], [4, 0]]),  # arrays for all dimensions: points
        (([[3], [1]], [4, 0]), array[[[3], [1]], [4, 0]]),
    ]:
        np.testing.assert_array_equal(run(plan_selection(index, grid), grid, array), same)


def test_whole_chunks_are_known_as_such() -> None:
    grid = ChunkGrid.regular((5, 4), (2, 2))
    covers = [p.cover for p in plan_selection((slice(None), slice(None)), grid).parts()]
    assert covers == [FULL, FULL, FULL, FULL, WHOLE, WHOLE]
    covers = [p.cover for p in plan_selection((slice(1, 5), slice(None)), grid).parts()]
    assert covers == [PARTIAL, PARTIAL, FULL, FULL, WHOLE, WHOLE]
    covers = [p.cover for p in plan_selection(slice(None, None, -1), grid).parts()]
    assert covers == [FULL, FULL, FULL, FULL, WHOLE, WHOLE]
    assert [p.cover for p in plan_selection((4, slice(0, 2)), grid).parts()] == [WHOLE]
    assert [p.cover for p in plan_selection((0, slice(0, 2)), grid).parts()] == [PARTIAL]
    row = ChunkGrid.regular((5, 4), (1, 4))
    assert [p.cover for p in plan_selection(3, row).parts()] == [FULL]
    assert [p.cover for p in plan_selection(([3, 1], slice(None)), row).parts()] == [FULL, FULL]
    assert [p.cover for p in plan_selection(([3, 3], slice(None)), row).parts()] == [PARTIAL]
    assert [p.cover for p in OuterPlan([], ChunkGrid(())).parts()] == [FULL]


# --- costs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "nparts"),
    [
        ((5, 5), 1),
        ((slice(5, 8), 10**9 - 1), 3),
        ((slice(-2, None), slice(-2, None)), 4),
        ((slice(None, None, 10**9), slice(None, None, -(10**9))), 1),
        ((slice(0, 10**9, 10**8), 0), 10),
        (([0, 10**9 - 1, 17], [5, 10**9 - 1, 5]), 3),
        (([0, 10**9 - 1, 17], slice(3, 5)), 6),
        ((slice(0, 0), slice(None)), 0),
    ],
)
@pytest.mark.parametrize("chunk", [1, 2])
def test_costs_do_not_depend_on_the_size_of_the_array(index: Any, nparts: int, chunk: int) -> None:
    length = 10**9 * chunk
    grid = ChunkGrid.regular((length, length), (chunk, chunk))
    scaled = tuple(
        slice(*(None if n is None else n * chunk for n in (s.start, s.stop, s.step)))
        if isinstance(s, slice)
        else np.asarray(s) * chunk if isinstance(s, list) else s * chunk
        for s in index
    )  # fmt: skip
    if nparts == 0:
        # Along the other dimension everything is selected; there is still nothing to do.
        grid = ChunkGrid.regular((length, 100), (chunk, 1))
    tracemalloc.start()
    try:
        plan = plan_selection(scaled, grid)
        parts = list(plan.parts())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(parts) == plan.nparts == nparts
    assert peak < 1 << 16


def test_a_large_selection_is_listed_lazily() -> None:
    grid = ChunkGrid.regular((3000, 3000), (1, 1))
    tracemalloc.start()
    try:
        plan = plan_selection((slice(None), slice(None)), grid)
        assert plan.nparts == 9_000_000
        assert next(plan.parts()).coords == (0, 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20  # two lists of 3,000 entries, not 9 million parts


def test_a_million_points_cost_memory_like_a_million_points() -> None:
    count = 1_000_000
    grid = ChunkGrid.regular((10_000, 10_000), (100, 100))
    points = np.random.default_rng(0).integers(0, 10_000, (2, count))
    tracemalloc.start()
    try:
        plan = plan_coordinates((points[0], points[1]), grid)
        seen, total = set(), 0
        for part in plan.parts():
            assert part.coords not in seen
            seen.add(part.coords)
            total += len(part.chunk[0])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == count
    assert len(seen) == plan.nparts == len(np.unique(points[0] // 100 * 100 + points[1] // 100))
    assert peak < 10 * 8 * count


def test_a_mask_is_planned_a_row_of_chunks_at_a_time() -> None:
    mask = np.ones((2000, 1000), bool)
    grid = ChunkGrid.regular(mask.shape, (20, 100))
    tracemalloc.start()
    try:
        plan = plan_mask(mask, grid)
        assert sum(len(part.chunk[0]) for part in plan.parts()) == mask.size
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < mask.nbytes * 2  # all indices would be 32 MB


def test_points_in_more_chunks_than_64_bits_can_count() -> None:
    length = 1 << 40
    grid = ChunkGrid.regular((length, length), (1, 1))
    plan = plan_coordinates(([length - 1, 0, length - 1], [3, length - 1, 3]), grid)
    parts = {part.coords: part for part in plan.parts()}
    assert parts.keys() == {(length - 1, 3), (0, length - 1)}
    assert parts[length - 1, 3].chunk[0].tolist() == [0, 0]


# --- errors ----------------------------------------------------------------------------------------

GRID = ChunkGrid.regular((10, 20), (3, 4))


@pytest.mark.parametrize(
    ("index", "error", "found"),
    [
        (
            10,
            BoundsCheckError,
            "index out of bounds for dimension with length 10: index 10, dimension 0",
        ),
        (
            -11,
            BoundsCheckError,
            "index out of bounds for dimension with length 10: index -11, dimension 0",
        ),
        (
            (0, 20),
            BoundsCheckError,
            "index out of bounds for dimension with length 20: index 20, dimension 1",
        ),
        ((0, np.int8(-21)), BoundsCheckError, "with length 20: index -21, dimension 1"),
        (([0, 10], [0, 0]), BoundsCheckError, "with length 10: index 10, dimension 0"),
        ((slice(None), [-21, 3]), BoundsCheckError, "with length 20: index -21, dimension 1"),
        ((0, 0, 0), ArrayIndexError, "too many indices for array; expected 2, got 3"),
        ((..., 0, 0, 0), ArrayIndexError, "too many indices for array; expected 2, got 3"),
        ((..., ...), ArrayIndexError, "one ellipsis"),
        ((None, [0, 1], [0, 1]), ArrayIndexError, "None"),
        ((None, 0, 0, 0), ArrayIndexError, "too many indices for array; expected 2, got 3"),
        (1.5, ArrayIndexError, "1.5"),
        (slice(0, 1.5), ArrayIndexError, "1.5"),
        (slice(0, 5, 0), ArrayIndexError, "cannot be zero"),
        ("x", ArrayIndexError, "'x'"),
        ([0.5], ArrayIndexError, "float64"),
        (np.zeros((10, 19), bool), ArrayIndexError, r"\(10, 19\).*\(10, 20\)"),
        (
            np.zeros(9, bool),
            ArrayIndexError,
            "wrong length for dimension; expected 10, got 9: dimension 0",
        ),
        (([0, 1], [0, 1, 2]), ArrayIndexError, r"\(2,\), \(3,\)"),
        (([[0, 1]], slice(None)), ArrayIndexError, r"\(1, 2\)"),
        (object(), ArrayIndexError, "object"),
    ],
)
def test_selections_that_do_not_fit(index: Any, error: type[Exception], found: str) -> None:
    with pytest.raises(error, match=found) as caught:
        plan_selection(index, GRID)
    assert isinstance(caught.value, IndexError)


@pytest.mark.parametrize(
    ("index", "found"),
    [
        ((0,), "2, found 1"),
        ((0, 0, 0), "2, found 3"),
        ((slice(None), 0), "slice"),
        ((..., 0), "Ellipsis"),
        ((np.zeros(10, bool), [0]), "booleans"),
    ],
)
def test_coordinates_that_do_not_fit(index: Any, found: str) -> None:
    with pytest.raises(VindexInvalidSelectionError, match=found):
        plan_coordinates(index, GRID)


@pytest.mark.parametrize(
    ("index", "found"),
    [
        ((4, 0), "index out of bounds for dimension with length 4: index 4, dimension 0"),
        ((0, 5), "index out of bounds for dimension with length 5: index 5, dimension 1"),
        (slice(0, 2, 2), "step 1, found 2 in 0"),
        ([0, 1], r"\[0, 1\]"),
        ((0, 0, 0), "too many indices for array; expected 2, got 3"),
    ],
)
def test_blocks_that_do_not_exist(index: Any, found: str) -> None:
    with pytest.raises(ArrayIndexError, match=found):
        plan_blocks(index, GRID)


@pytest.mark.parametrize("mask", [np.zeros((10, 20), int), np.zeros((20, 10), bool), [True, False]])
def test_masks_that_do_not_fit(mask: Any) -> None:
    with pytest.raises(ArrayIndexError, match=r"int|shape"):
        plan_mask(mask, GRID)


def test_orthogonal_selections_that_do_not_fit() -> None:
    for index, found in [
        (np.zeros((10, 20), bool), "mask selection"),
        (([[0]], 0), r"shape \(1, 1\)"),
        (np.zeros(11, bool), "wrong length for dimension; expected 10, got 11: dimension 0"),
        ((0, 0, 0), "too many indices for array; expected 2, got 3"),
    ]:
        with pytest.raises(ArrayIndexError, match=found):
            plan_orthogonal(index, GRID)


# --- fields ----------------------------------------------------------------------------------------


def test_fields_are_taken_out_of_a_selection() -> None:
    assert split_fields("a") == (..., "a")
    assert split_fields(("a", "b")) == (..., ["a", "b"])
    assert split_fields((slice(2), "a")) == (slice(2), "a")
    assert split_fields((0, 1, ["b", "a"])) == ((0, 1), ["b", "a"])
    assert split_fields(["a"]) == (..., ["a"])
    for plain in (0, (0, 1), [0, 1], ..., ([], 0)):
        assert split_fields(plain) == (plain, None)
    with pytest.raises(ArrayIndexError, match="either strings or one list"):
        split_fields(("a", ["b"]))


def test_a_trailing_ellipsis_that_stands_for_nothing_is_still_one_part() -> None:
    part = single_part((0, 0, ...), (1, 1), (1, 1))
    assert part is not None
    assert (part.coords, part.chunk) == ((0, 0), (0, 0))
    assert single_part((0, 0, 0), (1, 1), (1, 1)) is None
