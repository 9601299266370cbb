"""Plans: which part of which chunk goes where in the result. No I/O here.

Every selection ends in a `Plan`: the shape of the result and an iterable of `Part`s, each of which
says "this part of that chunk goes there in the result". There are two kinds of plan:

* `OuterPlan`, for basic, orthogonal and block selections: what is selected along one dimension
  does not depend on the others, so the parts are the product of short lists, one per dimension;
* `PointPlan`, for coordinates and masks: points are grouped by chunk with NumPy.

Both are lazy in the number of parts. Costs grow with what is touched, never with the array's size.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import pairwise, product
from typing import Any, Final, NamedTuple, TypeAlias, final

import numpy as np
import numpy.typing as npt

from zarr_core.errors import ArrayIndexError
from zarr_core.metadata.chunk_grids import Axis, ChunkGrid, Coords, RegularAxis, Shape

IntArray: TypeAlias = npt.NDArray[np.intp]
Item: TypeAlias = int | range | IntArray
"""A checked selection along one dimension: an element, a regular range, or any elements."""
Selector: TypeAlias = int | slice | IntArray

LONG = 1 << 20
"""What selects more elements along one dimension is looked at once there is room for the result."""
MAX_LISTED_CHUNKS = 1 << 24
"""A call can touch so many chunks along one dimension."""

PARTIAL, WHOLE, FULL = 0, 1, 2
"""How much of a chunk a part covers: not all; all that is in the array; all that is stored."""


class Part(NamedTuple):
    """One chunk of a plan."""

    coords: Coords
    chunk: tuple[Selector, ...]  # where in the chunk
    out: tuple[slice | IntArray, ...]  # where in the result; one fewer for each int in `chunk`
    cover: int


class Entry(NamedTuple):
    """What an outer plan selects along one dimension from one row of chunks."""

    chunk: int
    inside: Selector
    out: slice | IntArray | None  # None: the dimension is dropped
    cover: int


# Both types are made by the thousand; this is half the price of calling them.
new_part: Final = partial(tuple.__new__, Part)
_entry = partial(tuple.__new__, Entry)


@final
class OuterPlan:
    """A selection that is the product of independent selections, one per dimension."""

    __slots__ = (
        *("_runs", "crossed", "drops", "entries", "extra", "fancy", "flips", "result_shape"),
        "shape",
    )

    pointwise = False

    def __init__(self, items: Sequence[Item], grid: ChunkGrid) -> None:
        result_shape = []
        arrays = 0
        for item in items:
            if item.__class__ is not int:
                result_shape.append(len(item))  # type: ignore[arg-type]
                arrays += item.__class__ is not range
        fancy = arrays > 0
        self.fancy: bool = fancy
        """Some selectors are arrays."""
        self.crossed: bool = arrays > 1
        """Several are: parts need `index` before NumPy takes them for an outer product."""
        self.result_shape: Shape = tuple(result_shape)
        """Shape of the result."""
        self.shape: Shape = self.result_shape
        """Shape that the parts' `out` refer to: with axes of length 1 where an int was."""
        self.extra: tuple[int, ...] = ()
        """These axes."""
        if fancy and len(result_shape) != len(items):
            # NumPy moves axes when an int stands beside an array: keep the axis, drop it at the end.
            self.extra = tuple(d for d, i in enumerate(items) if isinstance(i, int))
            items = [range(i, i + 1) if isinstance(i, int) else i for i in items]
            self.shape = tuple(map(len, items))  # type: ignore[arg-type]
        self.entries: list[Sequence[Entry]] = []
        flips: list[int] = []
        drops = False
        position = 0
        for axis, item in zip(grid.axes, items, strict=True):
            if isinstance(item, int):
                self.entries.append([_int_entry(axis, item)])
                drops = True
                continue
            if isinstance(item, range):
                backwards = item.step < 0
                if backwards and len(item) > 1:
                    flips.append(position)
                forwards = item[::-1] if backwards else item
                self.entries.append(
                    _range_entries(axis, forwards)
                    if self.shape[position] <= LONG
                    else _LongEntries(axis, forwards)
                )
            else:
                self.entries.append(_array_entries(axis, item))
            position += 1
        self.drops = drops
        """Some dimensions have an int: they are in a part's `chunk`, but not in its `out`."""
        self.flips: tuple[int, ...] = tuple(flips)
        """Axes of the result that run backwards."""
        self._runs: list[list[Entry]] | None = None

    @property
    def nparts(self) -> int:
        """Number of parts."""
        return math.prod(map(len, self.entries))

    def whole_runs(self) -> list[list[Entry]]:
        """Return, per dimension, what selects whole chunks; nothing if they are not side by side."""
        if self._runs is None:
            self._runs = [_whole_run(entries) for entries in self.entries]
        return self._runs

    def parts(self) -> Iterator[Part]:
        """Yield the parts, chunks in C order."""
        if not self.entries:
            yield Part((), (), (), FULL)
            return
        drops = self.drops
        for entries in product(*self.entries):
            coords, inside, out, covers = zip(*entries, strict=True)
            if drops:
                out = tuple(o for o in out if o is not None)
            yield new_part((coords, inside, out, min(covers)))

    def index(self, selectors: tuple[Selector, ...]) -> tuple[Any, ...]:
        """Return selectors as a NumPy index with the outer product's meaning."""
        if not self.crossed or sum(isinstance(s, np.ndarray) for s in selectors) < 2:
            return selectors
        return np.ix_(
            *(np.arange(s.start, s.stop, s.step) if isinstance(s, slice) else s for s in selectors)
        )


@final
class PointPlan:
    """A selection of single elements, grouped by chunk."""

    __slots__ = ("_groups", "nparts", "result_shape", "shape")

    pointwise = True
    fancy = True
    crossed = False
    extra: tuple[int, ...] = ()
    flips: tuple[int, ...] = ()

    def __init__(
        self, groups: Callable[[], Iterable[Part]], count: int, result_shape: Shape, nparts: int
    ) -> None:
        self._groups = groups
        self.shape: Shape = (count,)
        self.result_shape: Shape = result_shape
        self.nparts: int = nparts
        """Number of parts, or an estimate from above."""

    def parts(self) -> Iterator[Part]:
        """Yield the parts, chunks in C order."""
        return iter(self._groups())

    def index(self, selectors: tuple[Selector, ...]) -> tuple[Any, ...]:
        """Return selectors as a NumPy index."""
        return selectors


@final
class SomeParts:
    """A plan with some of its parts."""

    __slots__ = (
        *("_parts", "crossed", "extra", "fancy", "flips", "index", "nparts", "pointwise"),
        *("result_shape", "shape"),
    )

    def __init__(self, plan: Any, parts: list[Part]) -> None:
        self.pointwise: bool = plan.pointwise
        self.fancy: bool = plan.fancy
        self.crossed: bool = plan.crossed
        self.extra: tuple[int, ...] = plan.extra
        self.flips: tuple[int, ...] = plan.flips
        self.shape: Shape = plan.shape
        self.result_shape: Shape = plan.result_shape
        self.index: Callable[[tuple[Selector, ...]], tuple[Any, ...]] = plan.index
        self.nparts: int = len(parts)
        self._parts = parts

    def parts(self) -> Iterator[Part]:
        """Yield these parts."""
        return iter(self._parts)


Plan: TypeAlias = OuterPlan | PointPlan | SomeParts


def place_in_result(plan: Plan, out: tuple[slice | IntArray, ...]) -> tuple[slice | IntArray, ...]:
    """Return where a part of a plan is in the result, given where it is in the plan's own shape."""
    places: list[slice | IntArray] = []
    for axis, place in enumerate(out):
        if axis in plan.extra:
            continue
        if axis in plan.flips and isinstance(place, slice):
            last = plan.shape[axis] - 1
            end = last - place.stop
            places.append(slice(last - place.start, end if end >= 0 else None, -1))
        else:
            places.append(place)
    return tuple(places)


# --- one dimension of an outer plan ----------------------------------------------------------------


def _int_entry(axis: Axis, item: int) -> Entry:
    k = axis.find(item)
    start = axis.start(k)
    size = axis.stored_size(k)
    alone = axis.length - start == 1 or (not isinstance(axis, RegularAxis) and axis.span(k) == 1)
    cover = FULL if size == 1 else WHOLE if alone else PARTIAL
    return Entry(k, item - start, None, cover)


@final
class _LongEntries(Sequence[Entry]):
    """The entries of a long range, listed when they are asked for.

    There may be more of them than memory, for a result that is refused as too large.
    """

    def __init__(self, axis: Axis, item: range) -> None:
        self._axis, self._item = axis, item

    @cached_property
    def _listed(self) -> list[Entry]:
        axis, item = self._axis, self._item
        if axis.find(item[-1]) - axis.find(item[0]) > MAX_LISTED_CHUNKS < len(item):
            raise ArrayIndexError(
                f"a selection of more than {MAX_LISTED_CHUNKS} chunks along one dimension is too "
                f"large for one call: {item}"
            )
        return _range_entries(axis, item)

    def __len__(self) -> int:
        return len(self._listed)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._listed)

    def __getitem__(self, at: Any) -> Any:
        return self._listed[at]


def _range_entries(axis: Axis, item: range) -> list[Entry]:
    if not item:
        return []
    x, stop, step = item.start, item[-1] + 1, item.step
    length = axis.length
    regular = isinstance(axis, RegularAxis)
    entries: list[Entry] = []
    done = 0
    k = axis.find(x)
    while x < stop:
        start, size = axis.start(k), axis.span(k)
        if regular and step == 1 and x == start and (count := (stop - x) // size) > 1:
            # The bulk of a long selection: whole chunks, one after the other.
            whole = slice(0, size, 1)
            entries += [
                _entry((i, whole, slice(done + at, done + at + size), FULL))
                for i, at in zip(range(k, k + count), range(0, count * size, size), strict=True)
            ]
            k += count
            done += count * size
            x += count * size
            continue
        here = -(-(min(start + size, stop) - x) // step)
        low = x - start
        high = low + (here - 1) * step + 1
        if size == 1 or (step == 1 and high - low == size):
            cover = FULL if regular or axis.stored_size(k) == size else WHOLE
        elif low == 0 and (step == 1 or high == 1) and start + high == length:
            cover = WHOLE
        else:
            cover = PARTIAL
        entries.append(Entry(k, slice(low, high, step), slice(done, done + here), cover))
        done += here
        x += here * step
        k = k + 1 if step == 1 or (regular and step <= size) else axis.find(x)
    return entries


def _whole_run(entries: Sequence[Entry]) -> list[Entry]:
    whole = [i for i, e in enumerate(entries) if e.cover == FULL and isinstance(e.inside, slice)]
    if not whole or len(whole) != whole[-1] - whole[0] + 1:
        return []
    return list(entries[whole[0] : whole[-1] + 1])


def _array_entries(axis: Axis, item: IntArray) -> list[Entry]:
    entries = []
    irregular = not isinstance(axis, RegularAxis)
    for k, start, members, local in _groups_along(axis, item):
        once = len(local) == 1  # the only element of a chunk, and not twice
        cover = PARTIAL
        alone = axis.length - start == 1 or (irregular and axis.span(k) == 1)
        if once and alone:
            cover = WHOLE
        if once and axis.stored_size(k) == 1:
            cover = FULL
        entries.append(Entry(k, local, members, cover))
    return entries


def _groups_along(
    axis: Axis, item: IntArray
) -> Iterator[tuple[int, int, slice | IntArray, IntArray]]:
    chunks = axis.find_many(item)
    order, bounds = _grouping(chunks, axis.count)
    for low, high in pairwise(bounds):
        members: slice | IntArray = slice(low, high) if order is None else order[low:high]
        k = int(chunks[low if order is None else order[low]])
        start = axis.start(k)
        yield k, start, members, item[members] - start


def _grouping(ids: IntArray, nids: int) -> tuple[IntArray | None, list[int]]:
    """Return the stable order that sorts `ids` (None: sorted already) and where groups begin."""
    if not len(ids):
        return None, []
    order = None
    if np.any(ids[1:] < ids[:-1]):
        # NumPy sorts 16-bit numbers in linear time.
        small = ids.astype(np.uint16) if nids <= 1 << 16 else ids
        order = np.argsort(small, kind="stable")
        ids = ids[order]
    starts = np.flatnonzero(ids[1:] != ids[:-1]) + 1
    return order, [0, *starts.tolist(), len(ids)]


# --- points ----------------------------------------------------------------------------------------


def point_plan(points: Sequence[IntArray], grid: ChunkGrid, result_shape: Shape) -> PointPlan:
    """Return the plan of points given as one flat array per dimension."""
    count = len(points[0])
    ids = np.zeros(count, np.intp)
    inside: list[IntArray] = []
    if math.prod(grid.counts) < 1 << 62:
        for axis, indices in zip(grid.axes, points, strict=True):
            chunks = axis.find_many(indices)
            inside.append(indices - axis.starts(chunks))
            ids *= axis.count
            ids += chunks
    else:  # numbers of chunks that do not fit into 64 bits: number the rows that occur
        rows = np.stack([a.find_many(p) for a, p in zip(grid.axes, points, strict=True)], axis=1)
        starts = [a.starts(chunks) for a, chunks in zip(grid.axes, rows.T, strict=True)]
        inside.extend(p - start for p, start in zip(points, starts, strict=True))
        ids = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
    order, bounds = _grouping(ids, math.prod(grid.counts))
    del ids
    firsts = np.array(bounds[:-1], np.intp) if order is None else order[bounds[:-1]]
    coords = [a.find_many(p[firsts]).tolist() for a, p in zip(grid.axes, points, strict=True)]
    if order is not None:  # sorted once here, the points of a part are a slice
        inside = [p[order] for p in inside]

    def groups() -> Iterator[Part]:
        for at, (low, high) in zip(zip(*coords, strict=True), pairwise(bounds), strict=True):
            part = slice(low, high)
            out = part if order is None else order[part]
            yield new_part((at, tuple([p[part] for p in inside]), (out,), PARTIAL))

    return PointPlan(groups, count, result_shape, max(0, len(bounds) - 1))


# --- parts of chunks -------------------------------------------------------------------------------


def sub_plan(inside: tuple[Selector, ...], pointwise: bool, grid: ChunkGrid) -> Plan:
    """Return the plan over a grid inside a chunk for the part of the chunk that is selected."""
    if pointwise:
        arrays: list[Any] = list(inside)
        return point_plan(arrays[: len(grid.axes)], grid, (len(arrays[0]),))
    items: list[Item] = [
        range(s.start, s.stop, s.step or 1) if isinstance(s, slice) else s for s in inside
    ]
    return OuterPlan(items, grid)


def selected_shape(inside: tuple[Selector, ...]) -> Shape:
    """Return the shape of what ints and slices, both ends given, select."""
    return tuple([len(range(s.start, s.stop, s.step)) for s in inside if isinstance(s, slice)])
