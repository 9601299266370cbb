"""Which stored chunks a selection touches: `Array.chunk_parts`; how many there are."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from zarr_core.array.state import State
from zarr_core.hierarchy.stored_nodes import stored_chunks
from zarr_core.indexing.plan import place_in_result
from zarr_core.indexing.selection import plan_selection, refuse_new_axes
from zarr_core.metadata import ArrayMetadata
from zarr_core.metadata.chunk_grids import Coords
from zarr_core.storage import StorePath


class ChunkPart(NamedTuple):
    """A chunk that a selection touches; see `Array.chunk_parts`."""

    coords: Coords
    key: str
    """Key in the store."""
    region: tuple[slice, ...]
    """The elements of the array that the chunk holds."""
    chunk_selection: tuple[Any, ...]
    """The selected elements within the chunk, per dimension."""
    out_selection: tuple[Any, ...]
    """Where they are in the result, per dimension; of points, in the flattened result."""


def chunk_parts(state: State, selection: Any) -> Iterator[ChunkPart]:
    """Yield the chunks (or shards) that a selection without fields touches."""
    grid = state.metadata.chunk_grid
    refuse_new_axes(selection)
    plan = plan_selection(selection, grid)
    for part in plan.parts():
        at = part.coords
        chunk = tuple(
            s.start if isinstance(s, slice) and d in plan.extra else s
            for d, s in enumerate(part.chunk)
        )
        places = place_in_result(plan, part.out)
        yield ChunkPart(at, state.space.key(at), grid.region(at), chunk, places)


def count_stored(place: StorePath, metadata: ArrayMetadata) -> int:
    """Return how many chunks (inner chunks of shards that are there) are stored; lists them."""
    grid, sharding = metadata.chunk_grid, metadata.sharding
    stored = (
        grid.region(coords)
        for _, coords in stored_chunks(place, metadata)
        if all(k < n for k, n in zip(coords, grid.counts, strict=True))
    )
    if sharding is None:
        return sum(1 for _ in stored)
    inner = sharding.configuration["chunk_shape"]
    return sum(
        math.prod(-(-(part.stop - part.start) // c) for part, c in zip(region, inner, strict=True))
        for region in stored
    )
