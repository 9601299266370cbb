"""The codecs `reshape` and `zarrs.squeeze`: the elements of a chunk, in C order, in another shape.

Specification: the codec `reshape` in zarr-extensions; https://codec.zarrs.dev/array_to_array/squeeze
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from zarr_core.codecs.base import ArrayArrayCodec, ArrayStage, ChunkSpec, NDArray
from zarr_core.codecs.checks import check_fields, check_int
from zarr_core.errors import MetadataValidationError, describe, unexpected
from zarr_core.metadata.documents import MAX_DIMENSIONS

NAME = "reshape"


@dataclass(frozen=True, init=False)
class ReshapeCodec(ArrayArrayCodec):
    """Chunks in another shape.

    Each entry of `shape` is a length, a list of the axes whose lengths are multiplied, or, once,
    -1 for what remains. `[[0, 1], 2, -1]` makes a chunk of (4, 5, 6) one of (20, 2, 3).

    >>> codec = zarr.codecs.ReshapeCodec(shape=[[0, 1]])  # both dimensions become one
    >>> zarr.create_array({}, data=np.arange(4).reshape(2, 2), filters=codec)[1]
    array([2, 3])
    """

    name = NAME

    shape: tuple[int | tuple[int, ...], ...]

    def __init__(self, *, shape: Iterable[int | Iterable[int]]) -> None:
        entries = tuple(map(_entry, _listed(shape)))
        axes = [axis for entry in entries if isinstance(entry, tuple) for axis in entry]
        if len(entries) > MAX_DIMENSIONS or entries.count(-1) > 1 or axes != sorted(set(axes)):
            raise unexpected(
                f"codec {NAME!r}: field 'shape'",
                f"up to {MAX_DIMENSIONS} entries, -1 at most once and axes in their order",
                [list(entry) if isinstance(entry, tuple) else entry for entry in entries],
            )
        object.__setattr__(self, "shape", entries)

    def configuration(self) -> Mapping[str, Any]:
        """Return the configuration as JSON."""
        return {"shape": [list(n) if isinstance(n, tuple) else n for n in self.shape]}

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, Any]) -> Self:
        """Return the codec for a document's `configuration`."""
        return cls(**check_fields(NAME, configuration, ("shape",), required=("shape",)))

    def bind(self, spec: ChunkSpec) -> ArrayStage:
        """Return the codec bound to chunks of `spec`."""
        return _stage(spec, self._shape_for(spec.shape))

    def _shape_for(self, before: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape that a chunk of shape `before` gets."""
        wrong = MetadataValidationError(
            f"codec {NAME!r}: chunks of shape {before} cannot have the shape "
            f"{describe(self.configuration()['shape'])}"
        )
        if any(
            isinstance(entry, tuple) and entry and entry[-1] >= len(before) for entry in self.shape
        ):
            raise wrong
        after = [
            math.prod(before[axis] for axis in entry) if isinstance(entry, tuple) else entry
            for entry in self.shape
        ]
        if -1 in after:
            known = -math.prod(after)
            after[after.index(-1)] = math.prod(before) // known
        if math.prod(after) != math.prod(before):
            raise wrong
        for i, entry in enumerate(self.shape):
            # An axis that is made of others has its elements where they had them.
            if isinstance(entry, tuple) and entry:
                below, above = before[: entry[0]], before[entry[-1] + 1 :]
                if (math.prod(after[:i]), math.prod(after[i + 1 :])) != (
                    math.prod(below),
                    math.prod(above),
                ):
                    raise wrong
        return tuple(after)


def _listed(value: Any) -> Iterable[Any]:
    if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
        return value
    raise unexpected(f"codec {NAME!r}: field 'shape'", "a list", value)


def _entry(value: Any) -> int | tuple[int, ...]:
    if isinstance(value, Iterable):
        return tuple(check_int(NAME, "shape", axis, 0) for axis in _listed(value))
    if value == -1 and not isinstance(value, bool | float):
        return -1
    return check_int(NAME, "shape", value, 1)


@dataclass(frozen=True)
class SqueezeCodec(ArrayArrayCodec):
    """Chunks without their axes of length 1; one remains if all are.

    >>> zarr.create_array({}, data=np.ones((1, 2)), filters=zarr.codecs.SqueezeCodec())[0]
    array([1., 1.])
    """

    name = "zarrs.squeeze"

    def bind(self, spec: ChunkSpec) -> ArrayStage:
        """Return the codec bound to chunks of `spec`."""
        return _stage(spec, tuple(n for n in spec.shape if n != 1) or (1,))


def _stage(spec: ChunkSpec, shape: tuple[int, ...]) -> ArrayStage:
    def encode(array: NDArray) -> NDArray:
        return array.reshape(shape)

    def decode(array: NDArray) -> NDArray:
        return array.reshape(spec.shape)

    return ArrayStage(spec._replace(shape=shape), encode, decode)
