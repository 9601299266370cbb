"""zarr-python's buffers on the CPU: bytes, or an array, in a box.

The library itself has no such boxes. These are what programs and codecs made for zarr-python
receive and return.
"""

from collections.abc import Iterable
from typing import Any, ClassVar, Final, NamedTuple, Self

import numpy as np

ArrayLike = NDArrayLike = np.ndarray
NDArrayLikeOrScalar = np.ndarray | np.generic | bool | int | float | complex | str | bytes


class Buffer:
    """Contiguous bytes."""

    def __init__(self, array_like: Any) -> None:
        self._data = np.asarray(array_like)
        if self._data.ndim != 1 or self._data.dtype.itemsize != 1:
            raise ValueError("array_like must be one-dimensional and of single bytes")

    @classmethod
    def create_zero_length(cls) -> Self:
        """Return a buffer without bytes."""
        return cls(np.empty(0, np.uint8))

    @classmethod
    def from_array_like(cls, array_like: Any) -> Self:
        """Return a buffer over an array of bytes."""
        return cls(array_like)

    @classmethod
    def from_buffer(cls, buffer: "Buffer") -> Self:
        """Return a buffer over the bytes of another one."""
        return cls(buffer._data)

    @classmethod
    def from_bytes(cls, bytes_like: Any) -> Self:
        """Return a buffer over anything with the buffer protocol."""
        return cls(np.frombuffer(bytes_like, np.uint8))

    def as_array_like(self) -> Any:
        """Return the bytes as an array."""
        return self._data

    as_numpy_array = as_array_like

    def as_buffer_like(self) -> Any:
        """Return the bytes as something with the buffer protocol."""
        return self._data.data

    def to_bytes(self) -> bytes:
        """Return a copy of the bytes."""
        return self._data.tobytes()

    def combine(self, others: "Iterable[Buffer]") -> Self:
        """Return a buffer of these bytes and those of others after them."""
        return type(self)(np.concatenate([self._data, *(other._data for other in others)]))

    def __add__(self, other: "Buffer") -> Self:
        return self.combine([other])

    def __getitem__(self, key: Any) -> Self:
        return type(self)(np.atleast_1d(self._data[key]))

    def __setitem__(self, key: Any, value: Any) -> None:
        self._data[key] = value._data if isinstance(value, Buffer) else value

    def __len__(self) -> int:
        return int(self._data.size)

    def __buffer__(self, flags: int) -> memoryview:
        return self._data.data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Buffer) and self.to_bytes() == other.to_bytes()

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Buffer of {len(self)} bytes>"


class NDBuffer:
    """An array of any number of dimensions."""

    def __init__(self, array: Any) -> None:
        self._data = np.asanyarray(array)

    @classmethod
    def create(
        cls, *, shape: Iterable[int], dtype: Any, order: Any = "C", fill_value: Any = None
    ) -> Self:
        """Return a new array in a buffer, full of a value or not set."""
        if fill_value is None:
            return cls(np.empty(tuple(shape), dtype, order))
        return cls(np.full(tuple(shape), fill_value, dtype, order))

    @classmethod
    def empty(cls, shape: Iterable[int], dtype: Any, order: Any = "C") -> Self:
        """Return a new array in a buffer, not set."""
        return cls(np.empty(tuple(shape), dtype, order))

    @classmethod
    def from_ndarray_like(cls, ndarray_like: Any) -> Self:
        """Return a buffer over an array."""
        return cls(ndarray_like)

    from_numpy_array = from_ndarray_like

    def as_ndarray_like(self) -> Any:
        """Return the array."""
        return self._data

    as_numpy_array = as_ndarray_like

    def as_scalar(self) -> Any:
        """Return the only element; raise `ValueError` when there are others or none."""
        if self._data.size != 1:
            raise ValueError("Buffer does not contain a single scalar value")
        return self._data[()] if not self._data.ndim else self._data.reshape(-1)[0]

    @property
    def dtype(self) -> Any:
        """NumPy data type."""
        return self._data.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape."""
        shape: tuple[int, ...] = self._data.shape
        return shape

    @property
    def byteorder(self) -> str:
        """`"little"` or `"big"`."""
        return "big" if self._data.dtype.str.startswith(">") else "little"

    def reshape(self, newshape: Any) -> Self:
        """Return the elements in another shape."""
        return type(self)(self._data.reshape(newshape))

    def squeeze(self, axis: tuple[int, ...]) -> Self:
        """Return the array without axes of length 1."""
        return type(self)(self._data.squeeze(axis))

    def astype(self, dtype: Any, order: Any = "K") -> Self:
        """Return the elements converted."""
        return type(self)(self._data.astype(dtype, order))

    def transpose(self, order: Any = None) -> Self:
        """Return the array with its axes in another order."""
        return type(self)(self._data.transpose(order))

    def copy(self) -> Self:
        """Return a copy."""
        return type(self)(self._data.copy())

    def fill(self, value: Any) -> None:
        """Set every element."""
        self._data.fill(value)

    def all_equal(self, other: Any, equal_nan: bool = True) -> bool:
        """Return whether all elements are equal to a value, NaN to NaN."""
        other = np.broadcast_to(other, self.shape)
        nan = equal_nan and self._data.dtype.kind not in "USTVOmMb"
        return np.array_equal(self._data, other, equal_nan=nan)

    def __getitem__(self, key: Any) -> Self:
        return type(self)(self._data[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._data[key] = value._data if isinstance(value, NDBuffer) else value

    def __len__(self) -> int:
        return len(self._data)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(self._data, dtype, copy=copy)

    def __repr__(self) -> str:
        return f"<NDBuffer shape={self.shape} dtype={self.dtype} {self._data!r}>"


class BufferPrototype(NamedTuple):
    """The classes of the buffers that something is to be returned in."""

    buffer: type[Buffer]
    nd_buffer: type[NDBuffer]


buffer_prototype: Final = BufferPrototype(Buffer, NDBuffer)


def default_buffer_prototype() -> BufferPrototype:
    """Return the classes of buffers in the memory of the CPU."""
    return buffer_prototype


numpy_buffer_prototype = default_buffer_prototype
