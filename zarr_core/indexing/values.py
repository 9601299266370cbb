"""What an assignment in NumPy does with values and fields, before anything is written."""

import math
import os
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from zarr_core.config import config
from zarr_core.errors import ArrayIndexError, MemoryLimitError, describe
from zarr_core.indexing.plan import Plan
from zarr_core.indexing.selection import Fields, split_fields
from zarr_core.metadata.chunk_grids import Shape

NDArray: TypeAlias = npt.NDArray[Any]


LARGE_RESULT = 1 << 30
"""From this size on a result is compared with the memory there is."""

try:
    _PHYSICAL_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
except (AttributeError, ValueError, OSError):  # not on Windows
    _PHYSICAL_BYTES = 1 << 37


def check_memory(what: str, shape: Shape, dtype: np.dtype[Any]) -> None:
    """Raise `MemoryLimitError` if an array needs more memory than one result or chunk may."""
    nbytes = math.prod(shape) * dtype.itemsize
    limit = config.get("memory.max_bytes")
    limit = _PHYSICAL_BYTES if limit is None else limit
    if nbytes > limit:
        raise MemoryLimitError(
            f"{what} of shape {describe(shape)} and data type {describe(dtype)} needs {nbytes} "
            f"bytes, more than the setting memory.max_bytes ({limit}) allows"
        )


def empty_result(shape: Shape, dtype: np.dtype[Any], order: Literal["C", "F"]) -> NDArray:
    """Return an uninitialised result; raise `MemoryLimitError` for one that is too large."""
    check_memory("a result", shape, dtype)
    try:
        return np.empty(shape, dtype, order)
    except (MemoryError, ValueError) as error:
        raise MemoryLimitError(f"a result of shape {describe(shape)}: {error}") from None


def only_ints(selection: Any) -> bool:
    """Return whether a selection has nothing but Python ints: these select a 0-d array."""
    if selection.__class__ is tuple:
        return bool(selection) and all(s.__class__ is int for s in selection)
    return selection.__class__ is int


def with_fields(selection: Any, fields: Fields) -> tuple[Any, Fields]:
    """Return a selection without field names, and the fields that it or `fields` names."""
    rest, named = split_fields(selection)
    if named is not None and fields:
        raise ArrayIndexError("fields were given both in the selection and as an argument")
    chosen = named if named is not None else fields or None
    if isinstance(chosen, str) or chosen is None:
        return rest, chosen
    names = list(chosen)
    return rest, names[0] if len(names) == 1 and named is None and isinstance(
        fields, str
    ) else names


def field_dtype(dtype: np.dtype[Any], fields: Fields) -> tuple[np.dtype[Any], Shape]:
    """Return the data type of fields (several are packed), and the shape of one that is an array.

    Raises `ArrayIndexError` for fields that do not exist.
    """
    if fields is None:
        return dtype, ()
    names = [fields] if isinstance(fields, str) else list(fields)
    known = dtype.names or ()
    for name in names:
        if name not in known:
            raise ArrayIndexError(
                f"there is no field {name!r}; data type {dtype} has {list(known)}"
            )
    if isinstance(fields, str):
        return dtype[fields].base, dtype[fields].shape
    return np.dtype([(name, dtype[name]) for name in names]), ()


def destination(
    out: Any, prototype: Any, shape: Shape, dtype: np.dtype[Any], order: Literal["C", "F"]
) -> tuple[Any, NDArray]:
    """Return what a read is to return, and the NumPy array to fill: `out`, or a new one.

    Raises `ValueError` for an `out` that does not fit, before anything is read.
    """
    if out is None:
        made = prototype.nd_buffer.create(shape=shape, dtype=dtype, order=order, fill_value=None)
    else:
        made = out
    returned = made.as_ndarray_like() if hasattr(made, "as_ndarray_like") else made
    target = _as_memory(returned, shape, dtype)
    if target.shape != shape or target.dtype != dtype:
        raise ValueError(
            f"out has shape {target.shape} and data type {target.dtype}; the selection has "
            f"shape {shape} and data type {dtype}"
        )
    if not target.flags.writeable:
        raise ValueError("out is read-only")
    return returned, target


def _as_memory(buffer: Any, shape: Shape, dtype: np.dtype[Any]) -> NDArray:
    """Return the memory of a caller's buffer as an array; plain bytes as one of what is wanted."""
    if hasattr(buffer, "__dlpack__") and not hasattr(buffer, "__array__"):
        return np.from_dlpack(buffer)
    if isinstance(buffer, bytearray | memoryview) and not dtype.hasobject:
        flat = np.frombuffer(buffer, np.uint8)
        if flat.size == math.prod(shape) * dtype.itemsize:
            return flat.view(dtype).reshape(shape)
    return np.asarray(buffer)


Check: TypeAlias = Callable[[NDArray], None]
"""What raises for objects that cannot be stored, of arrays of any objects."""


def fitted(
    value: Any, dtype: np.dtype[Any], shape: Shape | None, check: Check | None = None
) -> NDArray:
    """Return a value as an array of a shape (or without dimensions), converted as an assignment in NumPy does.

    Elements of `dtype=object` are bytes, or whatever passes `check`.

    Conversions that can fail or lose more than precision are made here, before anything is
    written; others are left to the chunks, so that no copy of the whole value is made.
    """
    array = None
    if check is not None and (shape == () or isinstance(value, list | tuple)):
        array = _as_objects(value, shape)
    elif isinstance(value, np.ndarray):
        array = value
    elif hasattr(value, "__array__") and not isinstance(value, np.generic):
        array = np.asanyarray(value)  # masked if what computes it is
    if array is not None and array.__class__ is not np.ndarray:
        array = np.asarray(unmasked(array))  # a subclass has its own ideas of shapes and bytes
    if array is None:
        if value.__class__ is list or value.__class__ is tuple:
            array = _converted(unmasked(value), dtype)
        else:
            array = _converted(value, dtype)
    if array.dtype != dtype and not (
        array.dtype.kind in "biuf"
        and dtype.kind in "iufc"
        and np.can_cast(array.dtype, dtype, "same_kind")
    ):
        as_stored = np.empty(array.shape, dtype)
        as_stored[...] = array
        array = as_stored
    if dtype.kind == "O":
        (check or _check_bytes)(array)
    if shape is None or array.ndim == 0:
        return array
    if array.shape != shape:
        extra = array.ndim - len(shape)
        if extra > 0 and array.shape[:extra] == (1,) * extra:
            array = array.reshape(array.shape[extra:])
        try:
            array = np.broadcast_to(array, shape)
        except ValueError:
            raise ValueError(
                f"shape mismatch: could not broadcast input array from shape {np.shape(value)} "
                f"into shape {shape}"
            ) from None
    return array


def _as_objects(value: Any, shape: Shape | None) -> NDArray:
    """Return objects as an assignment in NumPy takes them: lists are elements if that fits."""
    if shape is None or (isinstance(value, np.ndarray) and not value.ndim):
        return np.asarray(value, object)
    array = np.empty(shape, object)
    array[() if not shape else ...] = value
    return array


def unmasked(value: Any) -> Any:
    """Return a value; raise `ValueError` if elements are masked, as a mask cannot be stored."""
    if isinstance(value, list | tuple):
        for item in value:
            if isinstance(item, np.ma.MaskedArray | list | tuple):
                unmasked(item)
    elif isinstance(value, np.ma.MaskedArray):
        count = int(np.count_nonzero(_element_mask(value)))
        if count:
            raise ValueError(
                f"{count} of {value.size} elements are masked, and a mask cannot be stored: write "
                "array.filled(value), or array.data to store what is below the mask"
            )
    return value


def _element_mask(value: Any) -> NDArray:
    """Return which elements of a masked array are masked, in any of their fields."""
    mask = np.ma.getmaskarray(value)
    bits = mask.reshape(-1).view(np.uint8).reshape(value.size, mask.dtype.itemsize)
    return np.asarray(bits.any(axis=-1))


def _check_bytes(array: NDArray) -> None:
    """Raise `TypeError` for elements that are neither bytes nor missing (None or 0)."""
    elements = array.reshape(-1).tolist()
    if set(map(type, elements)) <= {bytes, np.bytes_, bytearray, memoryview}:
        return
    for element in elements:
        missing = element is None or (type(element) is int and element == 0)
        if not missing and not isinstance(element, bytes | bytearray | memoryview):
            raise TypeError(f"elements are bytes in this array, found {describe(element)}")


def _converted(value: Any, dtype: np.dtype[Any]) -> NDArray:
    """Return a Python value as an array, as NumPy converts it in an assignment."""
    if dtype.kind == "O":
        return np.asarray(value, dtype=object)
    if isinstance(value, bytes | str | int | float | complex | np.generic) or value is None:
        array = np.empty((), dtype)
        if dtype.kind == "m" and isinstance(value, np.timedelta64) and np.isnat(value):
            value = "NaT"  # NumPy before 2.4 makes 0 of one that has another unit
    elif dtype.names is not None:
        return np.array(value, dtype)
    else:
        array = np.empty(np.shape(value), dtype)
    try:
        array[...] = value
    except TypeError as error:
        raise TypeError(
            f"a value of type {type(value).__name__} cannot become elements of {dtype}: {error}"
        ) from None
    return array


def fitted_to(
    plan: Plan, value: Any, dtype: np.dtype[Any], fields: Fields, check: Check | None = None
) -> NDArray:
    """Return a value as an array of the plan's shape, or without dimensions; see `fitted`."""
    field, inner = field_dtype(dtype, fields)
    checked = fitted(value, field, plan.result_shape + inner, check)
    if checked.ndim and plan.shape != plan.result_shape:
        checked = checked.reshape(plan.shape + inner)
    return checked


def is_mask(selection: Any, shape: tuple[int, ...]) -> bool:
    """Return whether a selection is a boolean array of a shape."""
    if isinstance(selection, tuple):
        if len(selection) != 1:
            return False
        selection = selection[0]
    if isinstance(selection, list):
        selection = np.asarray(selection)
    return getattr(selection, "dtype", None) == np.bool_ and selection.shape == shape
