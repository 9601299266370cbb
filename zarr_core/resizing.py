"""Changing the shape of an array: what is cut off is gone, what is appended is not lost."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from zarr_core import chunk_io
from zarr_core.config import ArrayConfig
from zarr_core.errors import ArrayIndexError, ConflictError
from zarr_core.grid import Shape
from zarr_core.metadata import ArrayMetadata
from zarr_core.nodes import delete_keys, stored_chunks
from zarr_core.selection import OuterPlan
from zarr_core.state import make_state
from zarr_core.storage import Store, StorePath
from zarr_core.values import fitted


class Resizable(Protocol):
    """What is needed of an array here."""

    store_path: StorePath

    @property
    def store(self) -> Store:
        """See `Array.store`."""
        ...

    @property
    def config(self) -> ArrayConfig:
        """See `Array.config`."""
        ...

    @property
    def shape(self) -> Shape:
        """See `Array.shape`."""
        ...

    @property
    def ndim(self) -> int:
        """See `Array.ndim`."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """See `Array.dtype`."""
        ...

    def setitem(self, selection: Any, value: Any) -> None:
        """See `Array.setitem`."""
        ...

    def _update(self, change: Callable[[ArrayMetadata], ArrayMetadata]) -> ArrayMetadata:
        """See `Array._update`."""
        ...


def resize(
    array: Resizable, new_shape: int | Sequence[int], *, delete_outside_chunks: bool
) -> None:
    """Change the shape of an array; see `Array.resize`."""
    shape = _checked_shape(new_shape, array.ndim)
    known = array.shape
    old: list[ArrayMetadata] = []

    def change(fresh: ArrayMetadata) -> ArrayMetadata:
        old[:] = [fresh]
        if any(n < f and n >= k for n, f, k in zip(shape, fresh.shape, known, strict=True)):
            raise ConflictError(
                f"{array!r} has shape {fresh.shape} now; resizing to {shape} would cut off what "
                "was added since this handle read it; call refresh() first"
            )
        return fresh.update_shape(shape)

    new = array._update(change)
    if delete_outside_chunks:
        _cut(array, old[0], new)


def _cut(array: Resizable, old: ArrayMetadata, new: ArrayMetadata) -> None:
    """Remove what lies outside the new shape from the stored chunks."""
    if all(n >= o for n, o in zip(new.shape, old.shape, strict=True)):
        return
    counts = new.chunk_grid.counts
    outside = [
        key
        for key, coords in stored_chunks(array.store_path, old)
        if not all(k < n for k, n in zip(coords, counts, strict=True))
    ]
    delete_keys(array.store, outside)
    if 0 in new.shape:
        return
    space = make_state(array.store_path, old, array.config).space
    for dim, (n, o) in enumerate(zip(new.shape, old.shape, strict=True)):
        axis = old.chunk_grid.axes[dim]
        if n >= o:
            continue
        last = axis.find(n - 1)
        end = min(o, axis.start(last) + axis.stored_size(last))
        if n < end:
            items = [range(min(a, b)) for a, b in zip(new.shape, old.shape, strict=True)]
            items[dim] = range(n, end)
            for other in range(dim + 1, len(items)):
                # dimensions still to come have not been cut yet
                items[other] = _boundary(old, new, other)
            chunk_io.fill_parts(space, OuterPlan(items, old.chunk_grid))


def _boundary(old: ArrayMetadata, new: ArrayMetadata, dim: int) -> range:
    """Return the elements along a dimension that are in chunks which still exist."""
    axis = old.chunk_grid.axes[dim]
    n = min(new.shape[dim], old.shape[dim])
    last = axis.find(n - 1)
    return range(min(old.shape[dim], axis.start(last) + axis.stored_size(last)))


def append(array: Resizable, data: npt.ArrayLike, axis: int) -> Shape:
    """Add data at the end of a dimension of an array; see `Array.append`."""
    values = np.asanyarray(data)
    if not -array.ndim <= axis < array.ndim:
        raise ArrayIndexError(f"axis {axis} is out of bounds for {array.ndim} dimensions")
    axis %= array.ndim
    others = [n for d, n in enumerate(array.shape) if d != axis]
    if values.ndim != array.ndim or [n for d, n in enumerate(values.shape) if d != axis] != others:
        raise ValueError(
            f"data of shape {values.shape} cannot be appended to shape {array.shape} along {axis}"
        )
    fitted(values[:0] if values.ndim else values, array.dtype, None)
    start: list[int] = []

    def change(fresh: ArrayMetadata) -> ArrayMetadata:
        if [n for d, n in enumerate(fresh.shape) if d != axis] != others:
            raise ConflictError(
                f"{array!r} has shape {fresh.shape} now; data of shape {values.shape} cannot be "
                f"appended along {axis}"
            )
        start[:] = [fresh.shape[axis]]
        shape = list(fresh.shape)
        shape[axis] += values.shape[axis]
        return fresh.update_shape(shape)

    new = array._update(change)
    end = start[0] + values.shape[axis]
    selection = tuple(slice(start[0], end) if d == axis else slice(None) for d in range(array.ndim))
    array.setitem(selection, values)
    return new.shape


def _checked_shape(shape: int | Sequence[int], ndim: int) -> Shape:
    lengths = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    checked = tuple(int(n) for n in lengths)
    if len(checked) != ndim or min(checked, default=0) < 0:
        raise ValueError(f"a shape of {ndim} lengths of at least 0 is needed, found {shape}")
    return checked
