"""What was written in `[...]` becomes the chunk parts that it touches. No I/O here.

Every kind of selection ends in a `Plan`: the shape of the result and an iterable of `Part`s, each
of which says "this part of that chunk goes there in the result". There are two kinds of plan:

* `OuterPlan`, for basic, orthogonal and block selections: what is selected along one dimension
  does not depend on the others, so the parts are the product of short lists, one per dimension;
* `PointPlan`, for coordinates and masks: points are grouped by chunk with NumPy.

Both are lazy in the number of parts. Costs grow with what is touched, never with the array's size.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise, product
from operator import index as to_index
from typing import Any, NamedTuple, TypeAlias, final

import numpy as np
import numpy.typing as npt

from zarr_core.errors import (
    ArrayIndexError,
    BoundsCheckError,
    VindexInvalidSelectionError,
    describe,
)
from zarr_core.grid import Axis, ChunkGrid, Coords, RegularAxis, Shape

IntArray: TypeAlias = npt.NDArray[np.intp]
Item: TypeAlias = int | range | IntArray
"""A checked selection along one dimension: an element, a regular range, or any elements."""
Selector: TypeAlias = int | slice | IntArray
Fields: TypeAlias = str | list[str] | None

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
_part = partial(tuple.__new__, Part)
_entry = partial(tuple.__new__, Entry)


@final
class OuterPlan:
    """A selection that is the product of independent selections, one per dimension."""

    __slots__ = ("_runs", "drops", "entries", "extra", "fancy", "flips", "result_shape", "shape")

    pointwise = False

    def __init__(self, items: Sequence[Item], grid: ChunkGrid) -> None:
        result_shape = []
        fancy = False
        for item in items:
            if item.__class__ is not int:
                result_shape.append(len(item))  # type: ignore[arg-type]
                fancy = fancy or item.__class__ is not range
        self.fancy = fancy
        """Some selectors are arrays: parts need `index` before NumPy understands them."""
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
        self.entries: list[list[Entry]] = []
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
                self.entries.append(_range_entries(axis, item[::-1] if backwards else item))
            else:
                self.entries.append(_array_entries(axis, item))
            position += 1
        self.drops = drops
        """Some dimensions have an int: they are in a part's `chunk`, but not in its `out`."""
        self.flips = tuple(flips)
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
            yield _part((coords, inside, out, min(covers)))

    def index(self, selectors: tuple[Selector, ...]) -> tuple[Any, ...]:
        """Return selectors as a NumPy index with the outer product's meaning."""
        if sum(isinstance(s, np.ndarray) for s in selectors) < 2:
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
    extra: tuple[int, ...] = ()
    flips: tuple[int, ...] = ()

    def __init__(
        self, groups: Callable[[], Iterable[Part]], count: int, result_shape: Shape, nparts: int
    ) -> None:
        self._groups = groups
        self.shape: Shape = (count,)
        self.result_shape = result_shape
        self.nparts = nparts
        """Number of parts, or an estimate from above."""

    def parts(self) -> Iterator[Part]:
        """Yield the parts, chunks in C order."""
        return iter(self._groups())

    def index(self, selectors: tuple[Selector, ...]) -> tuple[Any, ...]:
        """Return selectors as a NumPy index."""
        return selectors


Plan: TypeAlias = OuterPlan | PointPlan


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
    cover = FULL if size == 1 else WHOLE if axis.length - start == 1 else PARTIAL
    return Entry(k, item - start, None, cover)


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
        start, size = axis.start(k), axis.stored_size(k)
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
            cover = FULL
        elif low == 0 and (step == 1 or high == 1) and start + high == length:
            cover = WHOLE
        else:
            cover = PARTIAL
        entries.append(Entry(k, slice(low, high, step), slice(done, done + here), cover))
        done += here
        x += here * step
        k = k + 1 if step == 1 or (regular and step <= size) else axis.find(x)
    return entries


def _whole_run(entries: list[Entry]) -> list[Entry]:
    whole = [i for i, e in enumerate(entries) if e.cover == FULL and isinstance(e.inside, slice)]
    if not whole or len(whole) != whole[-1] - whole[0] + 1:
        return []
    return entries[whole[0] : whole[-1] + 1]


def _array_entries(axis: Axis, item: IntArray) -> list[Entry]:
    entries = []
    for k, start, members, local in _groups_along(axis, item):
        once = len(local) == 1  # the only element of a chunk, and not twice
        cover = PARTIAL
        if once and axis.length - start == 1:
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


# --- what users write ------------------------------------------------------------------------------


def basic_items(selection: Any, shape: Shape) -> list[int | range] | None:
    """Return a checked basic selection (ints, slices, an ellipsis), or None for another kind.

    Ints are in `[0, length)`, ranges inside the dimension. Raises `ArrayIndexError` for too many
    indices and `BoundsCheckError` for an int outside.
    """
    if not isinstance(selection, tuple):
        selection = (selection,)
    if len(selection) != len(shape):
        if not shape and _is_bool(*selection[:1]):
            return None
        selection = expand_ellipsis(selection, len(shape))
    items: list[int | range] = []
    for item, length in zip(selection, shape, strict=True):
        kind = item.__class__
        if kind is slice:
            try:
                items.append(range(*item.indices(length)))
            except TypeError:
                raise ArrayIndexError(f"slices take integers, found {describe(item)}") from None
            except ValueError:
                raise ArrayIndexError(f"the step of a slice cannot be zero: {item}") from None
        elif kind is int:
            if not -length <= item < length:
                raise out_of_bounds(item, len(items), length)
            items.append(item if item >= 0 else item + length)
        elif item is Ellipsis:
            return basic_items(expand_ellipsis(selection, len(shape)), shape)
        elif hasattr(item, "__index__") and kind is not bool and not _is_arraylike(item):
            number = to_index(item)
            if not -length <= number < length:
                raise out_of_bounds(number, len(items), length)
            items.append(number % length)
        else:
            return None
    return items


def out_of_bounds(index: object, dim: int, length: int) -> BoundsCheckError:
    """Return the error for an index outside a dimension."""
    return BoundsCheckError(
        f"index {index} is out of bounds for dimension {dim} of length {length}"
    )


def expand_ellipsis(selection: tuple[Any, ...], ndim: int) -> tuple[Any, ...]:
    """Return a selection with one item per dimension; raise `ArrayIndexError` if it has too many."""
    places = [i for i, item in enumerate(selection) if item is Ellipsis]
    if len(places) > 1:
        raise ArrayIndexError("a selection can have one ellipsis ('...')")
    missing = ndim - (len(selection) - len(places))
    if missing < 0:
        raise ArrayIndexError(
            f"too many indices: {len(selection) - len(places)} for an array of {ndim} dimensions"
        )
    at = places[0] if places else len(selection)
    return (*selection[:at], *(slice(None),) * missing, *selection[at + len(places) :])


def split_fields(selection: Any) -> tuple[Any, Fields]:
    """Return a selection without the field names in it, and the field names."""
    items = selection if isinstance(selection, tuple) else (selection,)
    names = [item for item in items if isinstance(item, str)]
    lists = [i for i in items if isinstance(i, list) and i and all(isinstance(n, str) for n in i)]
    if not names and not lists:
        return selection, None
    if lists and (names or len(lists) > 1):
        raise ArrayIndexError(f"field names are either strings or one list: {describe(selection)}")
    rest = tuple(i for i in items if not isinstance(i, str) and i not in lists)
    return (
        rest[0] if len(rest) == 1 else rest or ...,
        lists[0] if lists else names[0] if len(names) == 1 else names,
    )


def _is_arraylike(item: object) -> bool:
    return isinstance(item, list | tuple | range | np.ndarray) or (
        hasattr(item, "__array__") and not isinstance(item, np.generic)
    )


def _is_bool(item: object) -> bool:
    """Return whether something is a mask of an array without dimensions."""
    return isinstance(item, bool | np.bool) or (
        isinstance(item, np.ndarray) and item.ndim == 0 and item.dtype.kind == "b"
    )


def as_index_array(item: Any) -> npt.NDArray[Any]:
    """Return a list, array or array-like of indices as an integer or boolean NumPy array."""
    array = np.asarray(item)
    if array.size == 0 and not isinstance(item, np.ndarray) and array.dtype.kind == "f":
        array = array.astype(np.intp)
    if array.dtype.kind not in "iub":
        raise ArrayIndexError(
            f"index arrays are of integers or booleans, not {array.dtype}: {describe(item)}"
        )
    return array


def wrap_indices(array: npt.NDArray[Any], dim: int, length: int) -> IntArray:
    """Return indices in `[0, length)`; raise `BoundsCheckError` naming the first outside."""
    if array.size == 0:
        return array.astype(np.intp)
    low, high = int(array.min()), int(array.max())
    if low < -length or high >= length:
        raise out_of_bounds(high if high >= length else low, dim, length)
    indices = array.astype(np.intp, copy=False)
    return indices if low >= 0 else np.where(indices < 0, indices + length, indices)


def _as_range(indices: IntArray) -> range | None:
    """Return evenly spaced indices as a range, without building another index array."""
    n = len(indices)
    if n == 0:
        return range(0)
    first, last = int(indices[0]), int(indices[-1])
    if n == 1:
        return range(first, first + 1)
    step = int(indices[1]) - first
    if step == 0 or last - first != step * (n - 1):
        return None
    block = 1 << 14
    for low in range(0, n - 1, block):
        piece = indices[low : low + block + 1]
        if not (piece[1:] - piece[:-1] == step).all():
            return None
    return range(first, last + (1 if step > 0 else -1), step)


def _orthogonal_item(item: Any, dim: int, length: int) -> Item:
    if isinstance(item, slice) or not _is_arraylike(item):
        checked = basic_items(item, (length,))
        if checked is None:
            raise ArrayIndexError(f"unsupported index {describe(item)} for dimension {dim}")
        return checked[0]
    array = as_index_array(item)
    if array.ndim == 0 and array.dtype.kind in "iu":
        return _orthogonal_item(int(array), dim, length)
    if array.ndim != 1:
        raise ArrayIndexError(
            f"orthogonal selection takes one-dimensional index arrays, found shape {array.shape}"
        )
    if array.dtype.kind == "b":
        if len(array) != length:
            raise ArrayIndexError(
                f"a boolean index of length {len(array)} for dimension {dim} of length {length}"
            )
        array = np.flatnonzero(array)
    indices = wrap_indices(array, dim, length)
    regular = _as_range(indices)
    return indices if regular is None else regular


def plan_basic(selection: Any, grid: ChunkGrid) -> OuterPlan:
    """Return the plan of ints, slices and an ellipsis."""
    items = basic_items(selection, grid.shape)
    if items is None:
        raise ArrayIndexError(f"basic selection takes ints and slices, found {describe(selection)}")
    return OuterPlan(items, grid)


def plan_orthogonal(selection: Any, grid: ChunkGrid) -> OuterPlan:
    """Return the plan of an orthogonal selection: per dimension an int, a slice, or 1-D indices."""
    if not isinstance(selection, tuple):
        selection = (selection,)
    ndim = len(grid.axes)
    if len(selection) == 1 and _is_arraylike(selection[0]):
        array = as_index_array(selection[0])
        if array.dtype.kind == "b" and array.ndim == ndim > 1:
            _check_mask_shape(array, grid.shape)
            raise ArrayIndexError(
                "a mask of several dimensions is not orthogonal; use a mask selection"
            )
    expanded = expand_ellipsis(selection, ndim)
    return OuterPlan(
        [
            _orthogonal_item(s, d, n)
            for d, (s, n) in enumerate(zip(expanded, grid.shape, strict=True))
        ],
        grid,
    )


def plan_blocks(selection: Any, grid: ChunkGrid) -> OuterPlan:
    """Return the plan of whole chunks: per dimension an int or a slice of step 1 over the chunks."""
    items = basic_items(selection, grid.counts)
    if items is None:
        raise ArrayIndexError(f"block selection takes ints and slices, found {describe(selection)}")
    ranges: list[Item] = []
    for dim, (item, axis) in enumerate(zip(items, grid.axes, strict=True)):
        blocks = range(item, item + 1) if isinstance(item, int) else item
        if blocks.step != 1:
            raise ArrayIndexError(
                f"block selection takes slices of step 1, found {blocks.step} in {dim}"
            )
        if not blocks:
            ranges.append(range(0))
            continue
        last = blocks[-1]
        ranges.append(
            range(
                axis.start(blocks[0]), min(axis.length, axis.start(last) + axis.stored_size(last))
            )
        )
    return OuterPlan(ranges, grid)


def plan_coordinates(selection: Any, grid: ChunkGrid) -> Plan:
    """Return the plan of single elements: per dimension integers, broadcast against each other."""
    if not isinstance(selection, tuple):
        selection = (selection,)
    ndim = len(grid.axes)
    if len(selection) != ndim:
        raise VindexInvalidSelectionError(
            f"coordinate selection takes one index array per dimension: {ndim}, found {len(selection)}"
        )
    if ndim == 0:
        return OuterPlan([], grid)
    arrays = []
    for dim, (item, length) in enumerate(zip(selection, grid.shape, strict=True)):
        if isinstance(item, slice) or item is Ellipsis or isinstance(item, str):
            raise VindexInvalidSelectionError(
                f"coordinate selection takes integers, found {describe(item)}"
            )
        array = as_index_array(item)
        if array.dtype.kind == "b":
            raise VindexInvalidSelectionError("coordinate selection takes integers, found booleans")
        arrays.append(wrap_indices(array, dim, length))
    try:
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
    except ValueError:
        raise ArrayIndexError(
            f"index arrays cannot be broadcast together: shapes {[a.shape for a in arrays]}"
        ) from None
    flat = [np.broadcast_to(a, shape).reshape(-1) for a in arrays]
    return point_plan(flat, grid, shape)


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
            yield _part((at, tuple([p[part] for p in inside]), (out,), PARTIAL))

    return PointPlan(groups, count, result_shape, max(0, len(bounds) - 1))


def _check_mask_shape(mask: npt.NDArray[Any], shape: Shape) -> None:
    if mask.shape != shape:
        raise ArrayIndexError(f"a mask of shape {mask.shape} for an array of shape {shape}")


def plan_mask(mask: Any, grid: ChunkGrid) -> Plan:
    """Return the plan of the elements where a boolean array of the array's shape is true.

    The mask is turned into indices one row of chunks at a time, while the plan is run.
    """
    if isinstance(mask, tuple) and len(mask) == 1:
        mask = mask[0]
    array = as_index_array(mask)
    if array.dtype.kind != "b":
        raise ArrayIndexError(f"a mask is an array of booleans, not of {array.dtype}")
    _check_mask_shape(array, grid.shape)
    count = int(np.count_nonzero(array))
    if array.ndim == 0:
        if not count:
            return PointPlan(lambda: (), 0, (0,), 0)
        plan = OuterPlan([], grid)
        plan.result_shape = (1,)
        return plan
    rows = grid.axes[0]

    def groups() -> Iterator[Part]:
        done = 0
        for k in range(rows.count):
            start = rows.start(k)
            slab = array[start : start + rows.stored_size(k)]
            # Several times as fast as `nonzero` of several dimensions.
            points = np.unravel_index(np.flatnonzero(slab), slab.shape)
            if not len(points[0]):
                continue
            first, *others = points
            for part in point_plan([first + start, *others], grid, ()).parts():
                yield part._replace(out=(_shifted(part.out[0], done),))
            done += len(first)

    return PointPlan(groups, count, (count,), min(count, grid.nchunks))


def _shifted(out: slice | IntArray, by: int) -> slice | IntArray:
    return slice(out.start + by, out.stop + by) if isinstance(out, slice) else out + by


def plan_selection(selection: Any, grid: ChunkGrid) -> Plan:
    """Return the plan of what was written in `array[...]`, whatever its kind.

    Ints, slices and an ellipsis select as in NumPy; a boolean array of the array's shape is a mask;
    index arrays for all dimensions select points; anything mixed is orthogonal.
    """
    items = basic_items(selection, grid.shape)
    if items is not None:
        return OuterPlan(items, grid)
    parts = selection if isinstance(selection, tuple) else (selection,)
    if not grid.axes and len(parts) == 1:
        return plan_mask(parts[0], grid)
    for item in parts:
        if item is None:
            raise ArrayIndexError("new axes (None) cannot be selected")
        if not (
            _is_arraylike(item)
            or isinstance(item, slice)
            or item is Ellipsis
            or hasattr(item, "__index__")
        ):
            raise ArrayIndexError(f"unsupported index {describe(item)}")
    ndim = len(grid.axes)
    arrays = [as_index_array(item) for item in parts if _is_arraylike(item)]
    if len(parts) == 1 and arrays and arrays[0].dtype.kind == "b" and arrays[0].shape == grid.shape:
        return plan_mask(arrays[0], grid)
    if len(parts) == 1 and arrays and arrays[0].dtype.kind == "b" and arrays[0].ndim != 1:
        _check_mask_shape(arrays[0], grid.shape)
    points = not any(isinstance(p, slice) or p is Ellipsis for p in parts)
    if points and len(parts) == ndim and all(a.dtype.kind in "iu" for a in arrays):
        if len(arrays) == 1 and arrays[0].ndim == 1:
            return plan_orthogonal(selection, grid)  # the same elements, cheaper
        return plan_coordinates(parts, grid)
    return plan_orthogonal(selection, grid)


def single_part(items: Sequence[int | range], shape: Shape, sizes: Shape) -> Part | None:
    """Return the only part of a basic selection that lies in one chunk of a regular grid, or None.

    The same part that an `OuterPlan` has, for a fraction of the price.
    """
    coords: list[int] = []
    inside: list[int | slice] = []
    out: list[slice] = []
    cover = FULL
    for item, length, size in zip(items, shape, sizes, strict=True):
        if isinstance(item, int):
            k, at = divmod(item, size)
            low, high = at, at + 1
            inside.append(at)
        else:
            start, stop, step = item.start, item.stop, item.step
            if step != 1:
                if step < 1 or not item:
                    return None
                if len(item) > 1:
                    cover = PARTIAL
                stop = item[-1] + 1
            if stop <= start:
                return None
            k = start // size
            low = start - k * size
            high = low + stop - start
            if high > size:
                return None
            inside.append(slice(low, high, step))
            out.append(slice(0, len(item)))
        coords.append(k)
        if low or high < size:
            cover = WHOLE if cover and not low and k * size + high == length else PARTIAL
    return _part((tuple(coords), tuple(inside), tuple(out), cover))


def sub_plan(inside: tuple[Selector, ...], pointwise: bool, grid: ChunkGrid) -> Plan:
    """Return the plan over a grid inside a chunk for the part of the chunk that is selected."""
    if pointwise:
        arrays: list[Any] = list(inside)
        return point_plan(arrays[: len(grid.axes)], grid, (len(arrays[0]),))
    items: list[Item] = [
        range(s.start, s.stop, s.step or 1) if isinstance(s, slice) else s for s in inside
    ]
    return OuterPlan(items, grid)
