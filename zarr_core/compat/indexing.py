"""zarr-python's chunk grids and indexers: which chunks a selection touches, and what of them."""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from zarr_core.indexing.plan import IntArray, OuterPlan, Plan, Selector
from zarr_core.indexing.selection import (
    expand_ellipsis,
    plan_basic,
    plan_blocks,
    plan_coordinates,
    plan_mask,
    plan_orthogonal,
)
from zarr_core.metadata import chunk_grids


class ChunkGrid:
    """The chunks of an array of some shape."""

    def __init__(self, grid: chunk_grids.ChunkGrid) -> None:
        self.grid = grid

    @classmethod
    def from_sizes(cls, array_shape: Any, chunk_sizes: Any) -> Self:
        """Return the grid of chunks of one shape, or of the lengths listed per dimension."""
        axes = [
            chunk_grids.expand_edges(
                list(size) if isinstance(size, tuple | list) else int(size), int(length), "chunks"
            )
            for length, size in zip(array_shape, chunk_sizes, strict=True)
        ]
        return cls(chunk_grids.ChunkGrid(tuple(axes)))

    @property
    def chunk_shape(self) -> tuple[int, ...] | None:
        """Shape of every chunk, None when they differ."""
        return self.grid.chunk_shape

    @property
    def grid_shape(self) -> tuple[int, ...]:
        """Number of chunks along each dimension."""
        return self.grid.counts

    def all_chunk_coords(self) -> Iterator[tuple[int, ...]]:
        """Yield the coordinates of all chunks."""
        return self.grid.all_coords()

    def get_nchunks(self) -> int:
        """Return the number of chunks."""
        return self.grid.nchunks


class ChunkProjection(NamedTuple):
    """What a selection takes of a chunk, and where it goes."""

    chunk_coords: tuple[int, ...]
    chunk_selection: Any
    out_selection: Any
    is_complete_chunk: bool


class Indexer:
    """Iterates over the chunks that a selection touches."""

    make: ClassVar[Callable[[Any, chunk_grids.ChunkGrid], Plan]]

    def __init__(self, selection: Any, shape: Any, chunk_grid: Any) -> None:
        grid = getattr(chunk_grid, "grid", chunk_grid)
        if grid.shape != tuple(shape):
            raise ValueError(f"the chunk grid is one of shape {grid.shape}, not {tuple(shape)}")
        self._plan = type(self).make(selection, grid)
        self.shape: tuple[int, ...] = self._plan.result_shape
        self.drop_axes: tuple[int, ...] = self._plan.extra
        """Axes that an integer selects, of length 1 in what a chunk gives and absent in the result."""

    def __iter__(self) -> Iterator[ChunkProjection]:
        plan = self._plan
        for coords, inside, into, cover in plan.parts():
            if isinstance(plan, OuterPlan):
                inside, into = _in_order(plan, inside, into)  # noqa: PLW2901
            yield ChunkProjection(coords, inside, into, bool(cover))


def _in_order(
    plan: OuterPlan, inside: tuple[Selector, ...], into: tuple[slice | IntArray, ...]
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return what a part takes of its chunk and where it goes, as NumPy indices.

    Both run in the order that was asked for: programs put together what a chunk gives without a
    look at where it goes. A plan has backward runs forwards in a reversed result, and sorts indices.
    """
    taken: list[Any] = []
    placed: list[Any] = []
    places = iter(enumerate(into))
    for selector in inside:
        if isinstance(selector, int):
            taken.append(selector)
            continue
        position, place = next(places)
        if position in plan.flips and isinstance(selector, slice) and isinstance(place, slice):
            run = range(selector.start, selector.stop, selector.step or 1)[::-1]
            selector = (  # noqa: PLW2901
                np.arange(run.start, run.stop, run.step)
                if plan.crossed
                else slice(run.start, None if run.stop < 0 else run.stop, run.step)
            )
            length = plan.shape[position]
            place = slice(length - place.stop, length - place.start)
        elif isinstance(selector, np.ndarray) and isinstance(place, np.ndarray):
            order = place.argsort(kind="stable")
            selector, place = selector[order], place[order]  # noqa: PLW2901
        taken.append(selector)
        if position not in plan.extra:
            placed.append(place)
    return plan.index(tuple(taken)), plan.index(tuple(placed))


class BasicIndexer(Indexer):
    """Integers and slices."""

    make: ClassVar[Callable[[Any, chunk_grids.ChunkGrid], Plan]] = staticmethod(plan_basic)


class OrthogonalIndexer(Indexer):
    """One selection for each dimension."""

    make: ClassVar[Callable[[Any, chunk_grids.ChunkGrid], Plan]] = staticmethod(plan_orthogonal)


class CoordinateIndexer(Indexer):
    """Points."""

    make: ClassVar[Callable[[Any, chunk_grids.ChunkGrid], Plan]] = staticmethod(plan_coordinates)


class MaskIndexer(Indexer):
    """A mask."""

    make: ClassVar[Callable[[Any, chunk_grids.ChunkGrid], Plan]] = staticmethod(plan_mask)


class BlockIndexer(Indexer):
    """Whole chunks."""

    make: ClassVar[Callable[[Any, chunk_grids.ChunkGrid], Plan]] = staticmethod(plan_blocks)


def ix_(selection: Any, shape: Any) -> Any:
    """Return an orthogonal selection as arrays that NumPy takes for an outer product."""
    items = [
        range(length)[item] if isinstance(item, slice) else np.asarray(item).reshape(-1)
        for item, length in zip(expand_ellipsis(_tuple(selection), len(shape)), shape, strict=True)
    ]
    kinds = (getattr(getattr(item, "dtype", None), "kind", "") for item in items)
    return np.ix_(
        *[np.flatnonzero(i) if k == "b" else i for i, k in zip(items, kinds, strict=True)]
    )


def _tuple(selection: Any) -> tuple[Any, ...]:
    return selection if isinstance(selection, tuple) else (selection,)


def _dropped(selection: Any, shape: Any) -> tuple[int, ...]:
    items = expand_ellipsis(_tuple(selection), len(shape))
    return tuple(axis for axis, item in enumerate(items) if isinstance(item, int | np.integer))


def oindex(a: Any, selection: Any) -> Any:
    """Return what an orthogonal selection takes of a NumPy array."""
    return a[ix_(selection, a.shape)].squeeze(_dropped(selection, a.shape))


def oindex_set(a: Any, selection: Any, value: Any) -> None:
    """Set what an orthogonal selection takes of a NumPy array."""
    where = ix_(selection, a.shape)
    shape = tuple(part.size for part in where)
    kept = [n for axis, n in enumerate(shape) if axis not in _dropped(selection, a.shape)]
    a[where] = np.broadcast_to(value, kept).reshape(shape)
