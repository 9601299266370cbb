"""What hypothesis draws for the tests of arrays, and what NumPy says the answer is.

The oracle is `picked`: the positions, in the flattened array, of the elements that a selection
means. Everything else follows from plain NumPy indexing with these positions.
"""

from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

KINDS = ("basic", "orthogonal", "coordinate", "mask", "block")

Edges = tuple[int, ...]
"""Lengths of the chunks along one dimension, as they are stored; together the length or more."""


class Selection(NamedTuple):
    kind: str
    index: Any


# --- the oracle ------------------------------------------------------------------------------------


def picked(shape: tuple[int, ...], edges: list[Edges], selection: Selection) -> Any:
    """Return where the selected elements are in the flattened array."""
    positions = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    kind, index = selection
    items = index if isinstance(index, tuple) else (index,)
    if kind == "basic":
        return positions[index]
    if kind == "coordinate":
        return positions[items]
    if kind == "mask":
        return positions[np.asarray(index)]
    if kind == "block":
        items = tuple(map(_block_slice, full(items, len(shape)), edges, shape))
    for axis, item in reversed(list(enumerate(full(items, len(shape))))):
        positions = positions[(slice(None),) * axis + (item,)]
    return positions


def full(items: tuple[Any, ...], ndim: int) -> tuple[Any, ...]:
    """Return a selection with one item per dimension."""
    at = next((i for i, item in enumerate(items) if item is ...), len(items))
    rest = items[at + 1 :]
    return (*items[:at], *(slice(None),) * (ndim - at - len(rest)), *rest)


def _block_slice(item: Any, edges: Edges, length: int) -> slice:
    bounds = [min(b, length) for b in accumulate(edges, initial=0)]
    count = sum(start < length for start in bounds[:-1])
    chunks = range(count)[item]
    if isinstance(chunks, int):
        chunks = range(chunks, chunks + 1)
    return slice(bounds[chunks[0]], bounds[chunks[-1] + 1]) if chunks else slice(0)


# --- grids -----------------------------------------------------------------------------------------


def count(edges: Edges, length: int) -> int:
    """Return how many chunks hold elements."""
    return sum(start < length for start in list(accumulate(edges, initial=0))[:-1])


def shapes(max_dims: int = 4, max_length: int = 7) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(
        st.one_of(st.integers(1, max_length), st.integers(0, max_length)), max_size=max_dims
    ).map(tuple)


@st.composite
def rectilinear_edges(draw: st.DrawFn, length: int, *, exact: bool) -> Edges:
    edges: list[int] = []
    while sum(edges) < length:
        most = length - sum(edges) if exact else length
        edges.append(draw(st.integers(1, max(1, min(most, 4)))))
    if not exact:
        edges += draw(st.lists(st.integers(1, 3), min_size=not edges, max_size=2))
    return tuple(edges)


def regular_edges(length: int) -> st.SearchStrategy[Edges]:
    return st.integers(1, length + 2).map(lambda size: (size,) * max(1, -(-length // size)))


# --- selections ------------------------------------------------------------------------------------


def slices(length: int, steps: bool = True) -> st.SearchStrategy[slice]:
    bound = st.one_of(st.none(), st.integers(-length - 2, length + 2))
    step = st.sampled_from([None, 1, 2, 3, -1, -2, -3, length + 1, -length - 1])
    return st.builds(slice, bound, bound, step if steps else st.sampled_from([None, 1]))


def _ints(length: int) -> list[st.SearchStrategy[Any]]:
    return [st.integers(-length, length - 1)] if length else []


def _arrays(length: int) -> list[st.SearchStrategy[Any]]:
    masks = st.lists(st.booleans(), min_size=length, max_size=length)
    indices: st.SearchStrategy[Any] = st.just([])
    if length:
        indices = st.lists(st.integers(-length, length - 1), max_size=6)
    return [
        masks.map(lambda m: np.array(m, bool)),
        indices.map(lambda i: np.array(i, np.intp)),
        indices,
    ]


@st.composite
def basic(
    draw: st.DrawFn, shape: tuple[int, ...], *, steps: bool = True, new_axes: bool = False
) -> Any:
    items: list[Any] = [draw(st.one_of(*_ints(n), slices(n, steps))) for n in shape]
    how = draw(st.sampled_from(["all", "ellipsis", "fewer"]))
    if how == "ellipsis":
        low = draw(st.integers(0, len(items)))
        high = draw(st.integers(low, len(items)))
        items[low:high] = [...]
    if how == "fewer":
        items = items[: draw(st.integers(0, len(items)))]
    for at in draw(st.lists(st.integers(0, len(items)), max_size=2)) if new_axes else ():
        items.insert(at, None)
    return items[0] if len(items) == 1 and draw(st.booleans()) else tuple(items)


@st.composite
def orthogonal(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    return tuple(draw(st.one_of(*_ints(n), slices(n), *_arrays(n))) for n in shape)


@st.composite
def coordinate(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    lengths = draw(st.sampled_from([(), (1,), (4,), (9,), (2, 3), (0,)]))
    if not all(shape):
        lengths = (0,)
    items: list[Any] = []
    for n in shape:
        spread = draw(st.sampled_from([lengths, lengths[1:], (1,) * len(lengths)]))
        if not all(shape):
            spread = lengths
        flat = st.integers(-n, n - 1) if n else st.nothing()
        size = int(np.prod(spread, dtype=int))
        values = draw(st.lists(flat, min_size=size, max_size=size)) if size else []
        items.append(np.array(values, np.intp).reshape(spread))
    return tuple(items)


@st.composite
def masks(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    seed, share = draw(st.integers(0, 1000)), draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    return np.random.default_rng(seed).random(shape) < share


@st.composite
def selections(
    draw: st.DrawFn,
    shape: tuple[int, ...],
    edges: list[Edges],
    kinds: tuple[str, ...] = KINDS,
) -> Selection:
    # Coordinates of an array without dimensions are nothing but `()`.
    kind = draw(st.sampled_from(kinds))
    match kind:
        case "basic":
            return Selection(kind, draw(basic(shape, new_axes=True)))
        case "orthogonal":
            return Selection(kind, draw(orthogonal(shape)))
        case "coordinate":
            return Selection(kind, draw(coordinate(shape)))
        case "mask":
            return Selection(kind, draw(masks(shape)))
    counts = tuple(count(e, n) for e, n in zip(edges, shape, strict=True))
    return Selection(kind, draw(basic(counts, steps=False)))
