"""What was written in `[...]` is checked and becomes a plan. No I/O here."""

from collections.abc import Callable, Iterator
from operator import index as to_index
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from zarr_core.errors import (
    ArrayIndexError,
    BoundsCheckError,
    VindexInvalidSelectionError,
    describe,
)
from zarr_core.indexing.plan import (
    FULL,
    PARTIAL,
    WHOLE,
    IntArray,
    Item,
    OuterPlan,
    Part,
    Plan,
    PointPlan,
    new_part,
    point_plan,
)
from zarr_core.metadata.chunk_grids import ChunkGrid, Shape

Fields: TypeAlias = str | list[str] | None

_ALL = slice(None)


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
        if len(selection) > len(shape):  # with new axes
            return None
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
        f"index out of bounds for dimension with length {length}: index {index}, dimension {dim}"
    )


def expand_ellipsis(selection: tuple[Any, ...], ndim: int) -> tuple[Any, ...]:
    """Return a selection with one item per dimension, beside new axes (None).

    Raises `ArrayIndexError` if it has too many.
    """
    places = []
    given = 0
    for i, item in enumerate(selection):
        if item is Ellipsis:
            places.append(i)
        elif item is not None:
            given += 1
    if len(places) > 1:
        raise ArrayIndexError("a selection can have one ellipsis ('...')")
    missing = ndim - given
    if missing < 0:
        raise ArrayIndexError(f"too many indices for array; expected {ndim}, got {given}")
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
            raise ArrayIndexError(
                "unsupported selection item for orthogonal indexing; expected integer, slice, "
                f"integer array or Boolean array, got {describe(item)} for dimension {dim}"
            )
        return checked[0]
    array = as_index_array(item)
    if array.ndim == 0 and array.dtype.kind in "iu":
        return _orthogonal_item(int(array), dim, length)
    if array.ndim != 1:
        raise ArrayIndexError(
            "integer arrays in an orthogonal selection must be 1-dimensional only, found shape "
            f"{array.shape}"
        )
    if array.dtype.kind == "b":
        if len(array) != length:
            raise ArrayIndexError(
                f"Boolean array has wrong length for dimension; expected {length}, got {len(array)}: "
                f"dimension {dim}"
            )
        array = np.flatnonzero(array)
    indices = wrap_indices(array, dim, length)
    regular = _as_range(indices)
    return indices if regular is None else regular


def _has_new_axes(selection: Any) -> bool:
    return selection is None or (
        isinstance(selection, tuple) and any(item is None for item in selection)
    )


def refuse_new_axes(selection: Any) -> None:
    """Raise `ArrayIndexError` for `None` in a selection."""
    if _has_new_axes(selection):
        raise ArrayIndexError(
            "unsupported selection item for orthogonal indexing: new axes (None) are for array[...] "
            "with ints, slices and index arrays of one dimension"
        )


def _plan_with_new_axes(
    make_plan: Callable[[Any, ChunkGrid], Plan], selection: Any, grid: ChunkGrid
) -> Plan:
    """Return the plan of a selection with `None` in it: that of the rest, its result reshaped."""
    items = selection if isinstance(selection, tuple) else (selection,)
    rest = tuple(item for item in items if item is not None)
    plan = make_plan(rest, grid)
    if plan.pointwise:
        refuse_new_axes(selection)
    lengths = iter(plan.result_shape)
    at = next((i for i, item in enumerate(items) if item is Ellipsis), len(items))
    missing = len(grid.axes) - sum(item is not Ellipsis for item in rest)
    shape = []
    for item in (*items[:at], *(_ALL,) * missing, *items[at + 1 :]):
        if item is None:
            shape.append(1)
        elif isinstance(item, slice) or (_is_arraylike(item) and np.ndim(item)):
            shape.append(next(lengths))
    plan.result_shape = tuple(shape)
    return plan


def _is_basic(item: Any) -> bool:
    return isinstance(item, slice) or item is Ellipsis or hasattr(item, "__index__")


def plan_basic(selection: Any, grid: ChunkGrid) -> Plan:
    """Return the plan of ints, slices, an ellipsis and new axes."""
    items = basic_items(selection, grid.shape)
    if items is None and _has_new_axes(selection):
        return _plan_with_new_axes(plan_basic, selection, grid)
    if items is None:
        given = selection if isinstance(selection, tuple) else (selection,)
        wrong = next((item for item in given if not _is_basic(item)), selection)
        raise ArrayIndexError(
            "unsupported selection item for basic indexing; expected integer or slice, got "
            f"{type(wrong)}: {describe(selection)}"
        )
    return OuterPlan(items, grid)


def plan_orthogonal(selection: Any, grid: ChunkGrid) -> OuterPlan:
    """Return the plan of an orthogonal selection: per dimension an int, a slice, or 1-D indices."""
    refuse_new_axes(selection)
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
    refuse_new_axes(selection)
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
            range(axis.start(blocks[0]), min(axis.length, axis.start(last) + axis.span(last)))
        )
    return OuterPlan(ranges, grid)


def plan_coordinates(selection: Any, grid: ChunkGrid) -> Plan:
    """Return the plan of single elements: per dimension integers, broadcast against each other."""
    refuse_new_axes(selection)
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
            slab = array[start : start + rows.span(k)]
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
    if _has_new_axes(selection):
        return _plan_with_new_axes(plan_selection, selection, grid)
    parts = selection if isinstance(selection, tuple) else (selection,)
    if not grid.axes and len(parts) == 1:
        return plan_mask(parts[0], grid)
    for item in parts:
        if not (
            _is_arraylike(item)
            or isinstance(item, slice)
            or item is Ellipsis
            or hasattr(item, "__index__")
        ):
            raise ArrayIndexError(
                "unsupported selection item for basic indexing; expected integer or slice, got "
                f"{type(item)}: {describe(item)}"
            )
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


def single_part(selection: Any, shape: Shape, sizes: Shape) -> Part | None:
    """Return the only part of a basic selection that lies in one chunk of a regular grid, or None.

    The same part that an `OuterPlan` has, for a tenth of the price, but that its `out` is `()`: all
    of the result. None also for selections that are wrong, or not worth a short way.
    """
    if selection.__class__ is not tuple:
        selection = (_ALL,) * len(shape) if selection is Ellipsis else (selection,)
    if len(selection) != len(shape):
        if len(selection) > len(shape) and not any(item is Ellipsis for item in selection):
            return None
        selection = expand_ellipsis(selection, len(shape))
        if len(selection) > len(shape):
            return None
    coords: list[int] = []
    inside: list[int | slice] = []
    cover = FULL
    for item, length, size in zip(selection, shape, sizes, strict=True):
        if item.__class__ is slice:
            try:
                start, stop, step = item.indices(length)
            except (TypeError, ValueError):
                return None
            if stop <= start or step < 1:
                return None
            if step != 1:
                if stop - start > step:
                    cover = PARTIAL
                stop -= (stop - start - 1) % step  # behind the last element
            k = start // size
            low = start - k * size
            high = stop - k * size
            if high > size:
                return None
            inside.append(slice(low, high, step))
        elif item.__class__ is int or isinstance(item, np.integer):
            if not -length <= item < length:
                return None
            k, low = divmod(int(item) % length, size)
            high = low + 1
            inside.append(low)
        elif item is Ellipsis:
            return single_part(expand_ellipsis(selection, len(shape)), shape, sizes)
        else:
            return None
        coords.append(k)
        if low or high < size:
            cover = WHOLE if cover and not low and k * size + high == length else PARTIAL
    return new_part((tuple(coords), tuple(inside), (), cover))
