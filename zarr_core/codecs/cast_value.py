"""The codec `cast_value`: elements are stored as the same numbers in another data type.

Specification: the codec of that name in zarr-extensions. The package cast-value-rs does the work; with
`scale_offset` before it this is the packing of the CF conventions.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias, get_args

import numpy as np

from zarr_core.codecs.base import ArrayArrayCodec, ArrayStage, ChunkSpec, NDArray
from zarr_core.codecs.checks import check_choice, check_fields, load_library
from zarr_core.codecs.numcodecs import ByValue, as_json
from zarr_core.errors import (
    CodecError,
    DataTypeValidationError,
    MetadataValidationError,
    describe,
    unexpected,
)
from zarr_core.metadata.data_types import DataType, DataTypeLike, parse_dtype, parse_v3

NAME = "cast_value"

Rounding: TypeAlias = Literal[
    "nearest-even", "towards-zero", "towards-positive", "towards-negative", "nearest-away"
]
"""To which of the two nearest values of the other data type a number goes."""

OutOfRange: TypeAlias = Literal["clamp", "wrap"]
"""What becomes of numbers beyond the range of the other data type."""

_TYPES = (
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)


@dataclass(frozen=True, init=False, eq=False)
class CastValue(ByValue, ArrayArrayCodec):
    """Elements converted by value to another data type, and back when they are read.

    Needs the package cast-value-rs.

    Parameters
    ----------
    data_type
        The data type that is stored: integers of 8 to 64 bits, floats of 16 to 64.
    rounding
        For numbers that it does not have: "nearest-even", "nearest-away", "towards-zero",
        "towards-positive" or "towards-negative".
    out_of_range
        For numbers beyond its range: "clamp", "wrap" (to integers only), or None for an error.
    scalar_map
        Elements that become something else, under "encode" and "decode": a mapping, or a list of pairs,
        of fill values as in documents. `{"encode": [["NaN", -1]], "decode": [[-1, "NaN"]]}` stores NaN,
        which integers do not have.

    Examples
    --------
    >>> codec = zarr.codecs.CastValue(data_type="int16", rounding="nearest-even")
    >>> zarr.create_array({}, data=np.array([1.2, 2.7]), filters=codec)[:]  # doctest: +SKIP
    array([1., 3.])
    """

    name = NAME

    data_type: DataType
    rounding: Rounding
    out_of_range: OutOfRange | None
    scalar_map: Mapping[str, list[list[Any]]] | None

    def __init__(
        self,
        *,
        data_type: DataTypeLike,
        rounding: Rounding = "nearest-even",
        out_of_range: OutOfRange | None = None,
        scalar_map: Mapping[str, Any] | None = None,
    ) -> None:
        found = parse_dtype(data_type, 3)
        _check_type(found, "target data type")
        check_choice(NAME, "rounding", rounding, get_args(Rounding))
        if out_of_range is not None:
            check_choice(NAME, "out_of_range", out_of_range, get_args(OutOfRange))
            if out_of_range == "wrap" and found.dtype.kind not in "iu":
                raise MetadataValidationError(
                    f"codec {NAME!r}: out_of_range 'wrap' is only valid for integer data types, not "
                    f"{found.name}"
                )
        if scalar_map is not None:
            fields = check_fields(NAME, scalar_map, ("encode", "decode"))
            scalar_map = {name: _pairs(name, value) for name, value in fields.items()}
        object.__setattr__(self, "data_type", found)
        object.__setattr__(self, "rounding", rounding)
        object.__setattr__(self, "out_of_range", out_of_range)
        object.__setattr__(self, "scalar_map", scalar_map)

    def configuration(self) -> Mapping[str, Any]:
        """Return the configuration as JSON, without what is the default."""
        settings: dict[str, Any] = {"data_type": self.data_type.to_v3()}
        if self.rounding != "nearest-even":
            settings["rounding"] = self.rounding
        if self.out_of_range is not None:
            settings["out_of_range"] = self.out_of_range
        if self.scalar_map is not None:
            settings["scalar_map"] = self.scalar_map
        return settings

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, Any]) -> Self:
        """Return the codec for a document's `configuration`."""
        fields = check_fields(NAME, configuration, cls._fields(), required=("data_type",))
        return cls(**{**fields, "data_type": parse_v3(fields["data_type"])})

    def bind(self, spec: ChunkSpec) -> ArrayStage:
        """Return the codec bound to chunks of `spec`.

        The fill value has to survive both ways, but for the rounding that all elements undergo.
        """
        _check_type(spec.data_type, "data type of the array")
        after = spec._replace(data_type=self.data_type, dtype=self.data_type.dtype)
        encode = self._cast("encode", spec.data_type, after.data_type)
        decode = self._cast("decode", after.data_type, spec.data_type)
        fill = np.full((1,), spec.fill_value, spec.dtype)
        try:
            stored = encode(fill)
            back = decode(stored)
        except CodecError as error:
            raise MetadataValidationError(f"codec {NAME!r}: fill value: {error}") from error
        if not _is_rounded(fill[0].item(), back[0].item(), after.dtype):
            raise MetadataValidationError(
                f"codec {NAME!r}: fill value {fill[0]} is stored as {stored[0]} and would be read as "
                f"{back[0]}; a scalar_map can keep it"
            )
        return ArrayStage(after._replace(fill_value=stored[0]), encode, decode)

    def _cast(
        self, direction: str, source: DataType, target: DataType
    ) -> Callable[[NDArray], NDArray]:
        cast_array = load_library("cast_value_rs", "cast-value-rs").cast_array
        pairs = (self.scalar_map or {}).get(direction, ())
        options = {
            "target_dtype": target.name,
            "rounding_mode": self.rounding,
            "out_of_range_mode": self.out_of_range,
            # Of several entries for one number the first counts.
            "scalar_map_entries": [(_number(source, key), _number(target, n)) for key, n in pairs],
        }

        def cast(array: NDArray) -> NDArray:
            try:
                # Versions before 0.4.2 take any other order for this one.
                return cast_array(np.asarray(array, order="C"), **options)  # type: ignore[no-any-return]
            except (ValueError, TypeError) as error:
                raise CodecError(str(error)) from error

        return cast


def _is_rounded(number: float, other: float, dtype: np.dtype[Any]) -> bool:
    """Tell whether one number is the other, perhaps rounded to a data type."""
    if number == other or (math.isnan(number) and math.isnan(other)):
        return True
    if dtype.kind in "iu":
        return abs(number - other) < 1
    limits = np.finfo(dtype)
    return abs(number - other) <= max(float(limits.eps) * abs(number), float(limits.tiny))


def _check_type(data_type: DataType, what: str) -> None:
    if data_type.name not in _TYPES:
        raise MetadataValidationError(
            f"codec {NAME!r} only supports integer and floating-point data types; Invalid {what}: "
            f"{describe(data_type.to_v3())}"
        )


def _pairs(direction: str, value: Any) -> list[list[Any]]:
    """Return the entries of a scalar map as JSON."""
    if isinstance(value, Mapping):
        value = value.items()
    if isinstance(value, Iterable) and not isinstance(value, str):
        pairs = [as_json(pair) for pair in value]
        if all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            return [list(map(_scalar, pair)) for pair in pairs]
    raise unexpected(f"codec {NAME!r}: scalar_map: field {direction!r}", "a list of pairs", value)


def _scalar(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    return value


def _number(data_type: DataType, value: Any) -> Any:
    """Return a scalar of a scalar map as a number of Python."""
    # An example of the specification has this spelling, which fill values do not.
    value = "Infinity" if value == "+Infinity" else value
    try:
        return data_type.fill_from_json(value, 3).item()
    except DataTypeValidationError as error:
        raise MetadataValidationError(
            f"codec {NAME!r}: scalar_map: {describe(value)} is not representable in dtype "
            f"{data_type.name}: {error}"
        ) from None
