"""Changing the shape of an array: what is cut off is gone, what is appended is not lost."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from operator import index as to_index
from typing import Any

import numpy as np
import numpy.typing as npt

from zarr_core.array.handle import Handle
from zarr_core.array.state import make_state
from zarr_core.chunks import loop
from zarr_core.errors import ArrayIndexError, ConflictError
from zarr_core.hierarchy.stored_nodes import delete_keys, stored_chunks
from zarr_core.indexing.plan import FULL, PARTIAL, OuterPlan
from zarr_core.indexing.values import fitted
from zarr_core.metadata import ArrayMetadata
from zarr_core.metadata.chunk_grids import BoundedAxis, Shape


def resize(
    array: Handle, new_shape: int | Sequence[int], *more: Any, delete_outside_chunks: bool
) -> None:
    """Change the shape of an array; see `Array.resize`."""
    if more:
        raise TypeError(
            "resize takes one shape, resize((3, 4)) for two dimensions, and delete_outside_chunks "
            "by its name"
        )
    shape = _checked_shape(new_shape, array.ndim)
    known = array.shape
    old: list[ArrayMetadata] = []

    def change(fresh: ArrayMetadata) -> ArrayMetadata:
        old[:] = [fresh]
        if any(n < f and k < f for n, f, k in zip(shape, fresh.shape, known, strict=True)):
            raise ConflictError(
                f"{array!r} has shape {fresh.shape} now; resizing to {shape} would cut off what "
                "was added since this handle read it; call refresh() first"
            )
        return _resized(array, fresh, shape)

    new = array._update(change)
    if delete_outside_chunks:
        _cut(array, old[0], new)


def _resized(array: Handle, metadata: ArrayMetadata, shape: Sequence[int]) -> ArrayMetadata:
    """Return metadata with another shape; raise if codecs do not take the chunks that it adds."""
    for axis, length in zip(metadata.chunk_grid.axes, shape, strict=True):
        if isinstance(axis, BoundedAxis) and not axis.keeps_chunks(length):
            raise ValueError(
                f"a resize from {metadata.shape} to {tuple(shape)} would store chunks in another "
                "shape, which the chunk grid 'zarrs.regular_bounded' cuts at the end of the array"
            )
    new = metadata.update_shape(shape)
    if new.chunk_grid.chunk_shape is None and new.chunk_grid.nchunks:
        space = make_state(array._store_path, new, array.config).space
        space.chain_for(tuple(n - 1 for n in new.chunk_grid.counts))
    return new


def _cut(array: Handle, old: ArrayMetadata, new: ArrayMetadata) -> None:
    """Remove what lies outside the new shape from the chunks that are stored."""
    if new.shape == old.shape:  # the rest of what somebody who was interrupted did not remove
        last = [(axis, axis.count - 1) for axis in new.chunk_grid.axes]
        old = new.update_shape([a.start(k) + a.span(k) if k >= 0 else 0 for a, k in last])
    elif all(n >= o for n, o in zip(new.shape, old.shape, strict=True)):
        return
    before, after = old.chunk_grid, new.chunk_grid
    outside, cut = [], []
    for key, coords in stored_chunks(array._store_path, old):
        if not all(k < n for k, n in zip(coords, after.counts, strict=True)):
            outside.append(key)
        elif all(k < n for k, n in zip(coords, before.counts, strict=True)):
            region = before.region(coords)
            if any(part.stop > n for part, n in zip(region, new.shape, strict=True)):
                cut.append(region)
    delete_keys(array._store_path.store, outside)
    space = make_state(array._store_path, old, array.config).space

    def fill_outside(region: tuple[slice, ...]) -> None:
        rest = [range(part.start, part.stop) for part in region]
        for dim, (part, n) in enumerate(zip(region, new.shape, strict=True)):
            if part.stop > n:
                items = list(rest)
                items[dim] = range(n, part.stop)
                loop.fill_parts(space, OuterPlan(items, before))
                rest[dim] = range(part.start, n)

    loop.for_each(space, fill_outside, cut, space.read_cost + space.write_cost)


def append(array: Handle, data: npt.ArrayLike, axis: int) -> Shape:
    """Add data at the end of a dimension of an array; see `Array.append`."""
    values = fitted(data, array.dtype, None, array._current().space.check)
    if not -array.ndim <= axis < array.ndim:
        raise ArrayIndexError(f"axis {axis} is out of bounds for {array.ndim} dimensions")
    axis %= array.ndim
    others = [n for d, n in enumerate(array.shape) if d != axis]
    if values.ndim != array.ndim or [n for d, n in enumerate(values.shape) if d != axis] != others:
        raise ValueError(
            f"data of shape {values.shape} cannot be appended to shape {array.shape} along {axis}"
        )
    start, made = 0, replace(array.metadata)

    def change(fresh: ArrayMetadata) -> ArrayMetadata:
        nonlocal start, made
        if [n for d, n in enumerate(fresh.shape) if d != axis] != others:
            raise ConflictError(
                f"{array!r} has shape {fresh.shape} now; data of shape {values.shape} cannot be "
                f"appended along {axis}"
            )
        start = fresh.shape[axis]
        shape = list(fresh.shape)
        shape[axis] += values.shape[axis]
        made = _resized(array, fresh, shape)
        return made

    is_stored = False
    try:
        is_stored = array._update(change) is made
        added = range(start, start + values.shape[axis])
        items = [added if d == axis else range(n) for d, n in enumerate(made.shape)]
        plan = OuterPlan(items, made.chunk_grid)
        # Others may have appended since then: what comes after the end in the last chunk is theirs.
        plan.entries[axis] = [
            entry if entry.cover == FULL else entry._replace(cover=PARTIAL)
            for entry in plan.entries[axis]
        ]
        array._set(lambda _selection, _grid: plan, ..., values)
    except BaseException as error:
        if is_stored or array.metadata is made:  # then only consolidated metadata are not
            _take_back(array, made, axis, start, error)
        raise
    return made.shape


def _take_back(
    array: Handle, appended: ArrayMetadata, axis: int, length: int, error: BaseException
) -> None:
    """Give an array its old length again after the data for a new one could not be written."""
    old = tuple(length if d == axis else n for d, n in enumerate(appended.shape))

    def change(fresh: ArrayMetadata) -> ArrayMetadata:
        if fresh.shape != appended.shape:
            raise ConflictError("others have changed the shape since")
        return fresh.update_shape(old)

    try:
        restored = array._update(change)
    except Exception as reason:  # noqa: BLE001 - the error that led here says more
        error.add_note(
            f"the array keeps the shape {appended.shape}, not all of it written: {reason}"
        )
        return
    with suppress(Exception):  # what is left lies outside, and the store has just failed
        _cut(array, appended, restored)


def _checked_shape(shape: int | Sequence[int], ndim: int) -> Shape:
    lengths = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    checked = tuple(to_index(n) for n in lengths)
    if len(checked) != ndim or not all(0 <= n < 1 << 63 for n in checked):
        raise ValueError(
            "the new shape must have the same number of dimensions as the array: "
            f"{ndim} lengths of at least 0, found {shape}"
        )
    return checked
