"""What programs for zarr-python ask a data type, under the names that they use."""

from typing import Any, Literal, Self

import numpy as np


class ZDType:
    """The base of data types: zarr-python's names for what a `DataType` knows."""

    __slots__ = ()

    dtype: np.dtype[Any]

    def __class_getitem__(cls, _: object) -> type[Self]:
        """Return the class: zarr-python's is generic."""
        return cls

    @classmethod
    def from_native_dtype(cls, dtype: Any) -> Self:
        """Return the data type of a NumPy dtype; raise `DataTypeValidationError` if it has none."""
        return cls(np.dtype(dtype))  # type: ignore[call-arg]

    def to_native_dtype(self) -> np.dtype[Any]:
        """Return the NumPy dtype of arrays in memory."""
        return self.dtype

    def to_json(self, zarr_format: int) -> Any:
        """Return the data type as documents have it: in format 2 with the name of its object codec."""
        kind: Any = self
        if zarr_format == 3:
            return kind.to_v3()
        object_codec = {"T": "vlen-utf8", "O": "vlen-bytes"}.get(self.dtype.kind)
        return {"name": kind.to_v2(), "object_codec_id": object_codec}

    def default_scalar(self) -> Any:
        """Return the fill value of arrays that name none."""
        kind: Any = self
        return kind.default_fill

    def cast_scalar(self, data: Any) -> Any:
        """Return a value as a scalar of this type; raise `DataTypeValidationError` if it is none."""
        kind: Any = self
        return kind.cast_fill(data)

    def from_json_scalar(self, data: Any, *, zarr_format: int) -> Any:
        """Return a document's fill value as a scalar."""
        kind: Any = self
        return kind.fill_from_json(data, zarr_format)

    def to_json_scalar(self, data: Any, *, zarr_format: int) -> Any:
        """Return a scalar as documents have it."""
        kind: Any = self
        return kind.fill_to_json(data, zarr_format)

    @property
    def dtype_cls(self) -> type[np.dtype[Any]]:
        """The class of the NumPy dtype."""
        return type(self.dtype)

    @property
    def item_size(self) -> int:
        """Size of an element in bytes."""
        return self.dtype.itemsize

    @property
    def endianness(self) -> Literal["little", "big"]:
        """Byte order of elements in memory."""
        return "big" if self.dtype.str.startswith(">") else "little"

    @property
    def length(self) -> int:
        """Number of characters or bytes of an element of text or bytes."""
        return self.dtype.itemsize // (4 if self.dtype.kind == "U" else 1)

    @property
    def unit(self) -> str:
        """Unit of times."""
        return np.datetime_data(self.dtype)[0]

    @property
    def scale_factor(self) -> int:
        """Number of units that a time counts."""
        return np.datetime_data(self.dtype)[1]
