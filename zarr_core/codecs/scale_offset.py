"""The codec `scale_offset`: elements are stored as `(element - offset) * scale`.

Specification: the codec of that name in zarr-extensions. The arithmetic is that of the array's own
data type; a value that it cannot express is an error, never wrapped or rounded to another integer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zarr_core.codecs.base import ArrayArrayCodec, ArrayStage, ChunkSpec, NDArray
from zarr_core.errors import CodecError, DataTypeValidationError, MetadataValidationError, describe
from zarr_core.metadata.data_types import DataType
from zarr_core.metadata.small_types import integer_limits, kind_of

NAME = "scale_offset"


@dataclass(frozen=True, kw_only=True)
class ScaleOffset(ArrayArrayCodec):
    """Elements shifted by `-offset` and multiplied by `scale`.

    Parameters
    ----------
    offset, scale
        Numbers of the array's data type; `scale` is not 0.

    Examples
    --------
    >>> codec = zarr.codecs.ScaleOffset(offset=5, scale=2)
    >>> codec.encode(np.array([6.0, 7.0]))
    array([2., 4.])
    """

    name = NAME

    offset: Any = 0
    scale: Any = 1

    def configuration(self) -> Mapping[str, Any]:
        """Return the configuration as JSON: what differs from doing nothing."""
        settings = {}
        if self.offset != 0:
            settings["offset"] = self.offset
        if self.scale != 1:
            settings["scale"] = self.scale
        return settings

    def bind(self, spec: ChunkSpec) -> ArrayStage:
        """Return the codec bound to chunks of `spec`; its data type is one of numbers."""
        kind = kind_of(spec.dtype)
        if kind not in "iuf":
            raise MetadataValidationError(
                f"codec {NAME!r} only supports integer and floating-point data types, not {spec.dtype}"
            )
        offset = _number(self.offset, "offset", spec.data_type)
        scale = _number(self.scale, "scale", spec.data_type)
        if scale == 0 or not np.isfinite([offset, scale]).all():
            raise MetadataValidationError(
                f"codec {NAME!r}: scale must be non-zero, and it and offset finite, found "
                f"{describe(self.scale)} and {describe(self.offset)}"
            )
        exact = kind in "iu"

        def decode(array: NDArray) -> NDArray:
            if not exact:
                return array / scale + offset  # type: ignore[no-any-return]
            wide = array.astype(object)
            if (wide % int(scale) != 0).any():
                raise CodecError(f"stored integers by the scale {scale} have a non-zero remainder")
            return _narrowed(wide // int(scale) + int(offset), spec.dtype)

        def encode(array: NDArray) -> NDArray:
            if not exact:
                return (array - offset) * scale  # type: ignore[no-any-return]
            return _narrowed((array.astype(object) - int(offset)) * int(scale), spec.dtype)

        fill = encode(np.full((1,), spec.fill_value, spec.dtype))[0]
        return ArrayStage(spec._replace(fill_value=fill), encode, decode)


def _number(value: Any, name: str, data_type: DataType) -> Any:
    try:
        return data_type.fill_from_json(value, 3)
    except DataTypeValidationError as error:
        raise MetadataValidationError(
            f"codec {NAME!r}: {name} value {describe(value)} is not representable: {error}"
        ) from None


def _narrowed(wide: NDArray, dtype: np.dtype[Any]) -> NDArray:
    """Return Python integers as an array of a data type; raise for those it does not have."""
    least, largest = integer_limits(dtype)
    if wide.size and (wide.min() < least or wide.max() > largest):
        raise CodecError(
            f"scaled values from {wide.min()} to {wide.max()} are outside the range of dtype {dtype}"
        )
    return wide.astype(dtype)
