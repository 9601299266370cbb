"""Which chunk holds which region of an array.

A grid is one `Axis` per dimension. Regular axes have chunks of one length; rectilinear axes list
their lengths. A chunk may reach beyond the end of the array and is stored at its full shape.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/core/v3.0.html#chunk-grids
and, for rectilinear grids, the chunk grid of that name in zarr-extensions.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, TypeAlias, final

import numpy as np
import numpy.typing as npt

from zarr_core.errors import MemoryLimitError, MetadataValidationError, describe, unexpected

Shape: TypeAlias = tuple[int, ...]
Coords: TypeAlias = tuple[int, ...]

MAX_LISTED_EDGES = 1 << 20
"""A rectilinear grid that lists more lengths is refused (a short document can ask for them)."""


MAX_LISTED_SIZES = 1 << 22
"""Lengths of more chunks along one dimension are not listed."""


def check_listed(count: int) -> None:
    """Raise `MemoryLimitError` for more chunks than can be listed one by one."""
    if count > MAX_LISTED_SIZES:
        raise MemoryLimitError(f"{count} chunks are too many to list the length of each")


@dataclass(frozen=True, slots=True)
class _EvenAxis:
    """A dimension of `length` elements in chunks of `size`."""

    length: int
    size: int

    @property
    def count(self) -> int:
        """Number of chunks."""
        return -(-self.length // self.size)

    def find(self, index: int) -> int:
        """Return the chunk that holds an element."""
        return index // self.size

    def find_many(self, indices: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Return the chunks that hold elements."""
        return indices // self.size

    def start(self, chunk: int) -> int:
        """Return the first element of a chunk."""
        return chunk * self.size

    def starts(self, chunks: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Return the first elements of chunks."""
        return chunks * self.size


@final
@dataclass(frozen=True, slots=True)
class RegularAxis(_EvenAxis):
    """A dimension whose chunks are all stored at their full length."""

    def span(self, chunk: int) -> int:
        """Return how many elements a chunk is for, beyond the end of the array too."""
        return self.size

    stored_size = span

    def sizes(self) -> Shape:
        """Return the lengths of all chunks, the last one cut at the end of the array."""
        check_listed(self.count)
        whole, rest = divmod(self.length, self.size)
        return (self.size,) * whole + ((rest,) if rest else ())

    def count_inside(self, size: int) -> int:
        """Return the number of inner chunks, of length `size`, that hold elements."""
        return -(-self.length // size)

    def resized(self, length: int, unit: int = 1) -> "RegularAxis":
        """Return the axis with another length."""
        return RegularAxis(length, self.size)


@final
@dataclass(frozen=True)
class RectilinearAxis:
    """A dimension whose chunks have the lengths `edges`, which sum up to `length` or more."""

    length: int
    edges: Shape
    encoded: Shape | None = None
    """Lengths in which chunks are stored when some are longer; what is beyond means nothing."""

    @cached_property
    def _bounds(self) -> npt.NDArray[np.intp]:
        return np.concatenate(([0], np.cumsum(self.edges, dtype=np.intp)))

    @cached_property
    def count(self) -> int:
        """Number of chunks that hold elements of the array."""
        return int(np.searchsorted(self._bounds, self.length)) if self.length else 0

    def find(self, index: int) -> int:
        """Return the chunk that holds an element."""
        return int(np.searchsorted(self._bounds, index, side="right")) - 1

    def find_many(self, indices: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Return the chunks that hold elements."""
        return np.searchsorted(self._bounds, indices, side="right") - 1

    def start(self, chunk: int) -> int:
        """Return the first element of a chunk."""
        return int(self._bounds[chunk])

    def starts(self, chunks: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Return the first elements of chunks."""
        return self._bounds[chunks]

    def span(self, chunk: int) -> int:
        """Return how many elements a chunk is for, beyond the end of the array too."""
        return self.edges[chunk]

    def stored_size(self, chunk: int) -> int:
        """Return the length of a chunk as it is stored."""
        return (self.encoded or self.edges)[chunk]

    def sizes(self) -> Shape:
        """Return the lengths of all chunks, the last one cut at the end of the array."""
        if not self.count:
            return ()
        last = self.count - 1
        return (*self.edges[:last], self.length - self.start(last))

    def count_inside(self, size: int) -> int:
        """Return the number of inner chunks, of length `size`, that hold elements."""
        return sum(-(-length // size) for length in self.sizes())

    def resized(self, length: int, unit: int = 1) -> "RectilinearAxis":
        """Return the axis with another length.

        What the edges do not cover becomes one more chunk, whose length is a multiple of `unit`.
        """
        missing = -(-(length - sum(self.edges)) // unit) * unit
        if missing <= 0:
            return RectilinearAxis(length, self.edges, self.encoded)
        encoded = None if self.encoded is None else (*self.encoded, missing)
        return RectilinearAxis(length, (*self.edges, missing), encoded)


@final
@dataclass(frozen=True, slots=True)
class BoundedAxis(_EvenAxis):
    """A dimension in chunks of `size`, the last of which is stored as short as it is."""

    @property
    def edges(self) -> Shape:
        """Lengths of all chunks."""
        return RegularAxis(self.length, self.size).sizes()

    def span(self, chunk: int) -> int:
        """Return how many elements a chunk is for."""
        rest = self.length - chunk * self.size
        return rest if 0 < rest < self.size else self.size

    stored_size = span

    def sizes(self) -> Shape:
        """Return the lengths of all chunks."""
        return self.edges

    def count_inside(self, size: int) -> int:
        """Return the number of inner chunks, of length `size`, that hold elements."""
        return -(-self.size // size) * (self.length // self.size) + -(
            -(self.length % self.size) // size
        )

    def resized(self, length: int, unit: int = 1) -> "BoundedAxis":
        """Return the axis with another length."""
        return BoundedAxis(length, self.size)

    def keeps_chunks(self, length: int) -> bool:
        """Return whether no chunk that stays is stored in another length after a resize."""
        return length == self.length or min(length, self.length) % self.size == 0


Axis: TypeAlias = RegularAxis | RectilinearAxis | BoundedAxis


@final
@dataclass(frozen=True)
class ChunkGrid:
    """The chunks of an array; one axis per dimension."""

    axes: tuple[Axis, ...]

    @classmethod
    def regular(cls, shape: Shape, chunk_shape: Shape) -> "ChunkGrid":
        """Return the grid of `shape` in chunks of `chunk_shape`."""
        return cls(tuple(map(RegularAxis, shape, chunk_shape)))

    @cached_property
    def shape(self) -> Shape:
        """Shape of the array."""
        return tuple(axis.length for axis in self.axes)

    @cached_property
    def chunk_shape(self) -> Shape | None:
        """Shape of every chunk; None when the grid is rectilinear."""
        sizes = [axis.size for axis in self.axes if isinstance(axis, RegularAxis)]
        return tuple(sizes) if len(sizes) == len(self.axes) else None

    @cached_property
    def counts(self) -> Shape:
        """Number of chunks along each dimension."""
        return tuple(axis.count for axis in self.axes)

    @property
    def nchunks(self) -> int:
        """Number of chunks."""
        return math.prod(self.counts)

    def stored_shape(self, coords: Coords) -> Shape:
        """Return the shape in which a chunk is stored, beyond the array's end included."""
        if self.chunk_shape is not None:
            return self.chunk_shape
        return tuple(axis.stored_size(k) for axis, k in zip(self.axes, coords, strict=True))

    def region(self, coords: Coords) -> tuple[slice, ...]:
        """Return the elements of the array that a chunk holds."""
        return tuple(
            slice(start, min(start + axis.span(k), axis.length))
            for axis, k, start in (
                (axis, k, axis.start(k)) for axis, k in zip(self.axes, coords, strict=True)
            )
        )

    def all_coords(self) -> Iterator[Coords]:
        """Yield the coordinates of every chunk, in C order."""
        return product(*map(range, self.counts))

    def resized(self, shape: Sequence[int], units: Sequence[int] | None = None) -> "ChunkGrid":
        """Return the grid of an array of another shape, in the same chunks.

        `units` is what the lengths of chunks are multiples of: those of inner chunks.
        """
        units = units or (1,) * len(self.axes)
        return ChunkGrid(
            tuple(axis.resized(*of) for axis, *of in zip(self.axes, shape, units, strict=True))
        )

    def to_json(self) -> dict[str, Any]:
        """Return the `chunk_grid` of a format 3 document."""
        if self.chunk_shape is not None:
            return {"name": "regular", "configuration": {"chunk_shape": list(self.chunk_shape)}}
        if all(isinstance(axis, BoundedAxis) for axis in self.axes):
            sizes = [axis.size for axis in self.axes if isinstance(axis, BoundedAxis)]
            return {"name": "zarrs.regular_bounded", "configuration": {"chunk_shape": sizes}}
        configuration: dict[str, Any] = {"kind": "inline"}
        configuration["chunk_shapes"] = [
            axis.size if isinstance(axis, RegularAxis) else _run_lengths(axis.edges)
            for axis in self.axes
        ]
        encoded = [
            axis.encoded if isinstance(axis, RectilinearAxis) else None for axis in self.axes
        ]
        if any(encoded):
            configuration["encoded_chunk_shapes"] = [
                shape if lengths is None else _run_lengths(lengths)
                for shape, lengths in zip(configuration["chunk_shapes"], encoded, strict=True)
            ]
        return {"name": "rectilinear", "configuration": configuration}


def _run_lengths(edges: Shape) -> list[int | list[int]]:
    """Return edges with repeated lengths as `[length, count]`."""
    runs: list[list[int]] = []
    for edge in edges:
        if runs and runs[-1][0] == edge:
            runs[-1][1] += 1
        else:
            runs.append([edge, 1])
    return [run if run[1] > 1 else run[0] for run in runs]


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def expand_edges(entry: object, length: int, what: str, most: int = MAX_LISTED_EDGES) -> Axis:
    """Return the axis that an entry of `chunk_shapes` means: an int, or edges and run lengths."""
    if _is_int(entry):
        if not 1 <= entry < 1 << 63:  # type: ignore[operator]
            raise MetadataValidationError(
                f"{what}: chunk lengths must be at least 1 and less than 2**63, found {entry}"
            )
        return RegularAxis(length, entry)  # type: ignore[arg-type]
    if not isinstance(entry, list | tuple) or not entry:
        raise unexpected(what, "a chunk length or a list of them", entry)
    edges: list[int] = []
    for item in entry:
        pair = item if isinstance(item, list | tuple) else (item, 1)
        if len(pair) != 2 or not all(_is_int(n) and n >= 1 for n in pair):
            raise unexpected(what, "lengths or [length, count] of at least 1", item)
        if len(edges) + pair[1] > most:
            raise MetadataValidationError(f"{what}: more than {most} chunks")
        edges.extend([pair[0]] * pair[1])
    if sum(edges) >= 1 << 63:
        raise MetadataValidationError(f"{what}: chunk lengths sum up to 2**63 or more")
    if sum(edges) < length:
        raise MetadataValidationError(
            f"{what}: chunk lengths sum up to {sum(edges)}, the dimension has {length} elements"
        )
    return RectilinearAxis(length, tuple(edges))


def parse_grid(name: str, configuration: Mapping[str, Any], shape: Shape) -> ChunkGrid:
    """Return the grid that a format 3 document describes; raise `MetadataValidationError`."""
    entries: Any
    encoded: Any = None
    match name:
        case "regular" | "zarrs.regular_bounded":
            _check_fields(configuration, {"chunk_shape"})
            entries = configuration.get("chunk_shape")
            if not isinstance(entries, list) or not all(_is_int(n) and n >= 1 for n in entries):
                raise unexpected("chunk_grid.chunk_shape", "lengths of at least 1", entries)
        case "rectilinear":
            _check_fields(configuration, {"kind", "chunk_shapes", "encoded_chunk_shapes"})
            if configuration.get("kind") != "inline":
                raise unexpected("chunk_grid.kind", "'inline'", configuration.get("kind"))
            entries = configuration.get("chunk_shapes")
            encoded = configuration.get("encoded_chunk_shapes")
        case _:
            raise unexpected("chunk_grid", "'regular' or 'rectilinear'", name)
    for listed in (entries, [None] * len(shape) if encoded is None else encoded):
        if not isinstance(listed, list) or len(listed) != len(shape):
            raise unexpected("chunk_grid", f"{len(shape)} entries, one per dimension", listed)
    most = MAX_LISTED_EDGES // max(1, len(shape))
    axes: list[Axis] = []
    for dim, (entry, length) in enumerate(zip(entries, shape, strict=True)):
        what = f"chunk_grid, dimension {dim}"
        axis = expand_edges(entry, length, what, most)
        if encoded is not None:
            axis = _stored_longer(axis, encoded[dim], what, most)
        axes.append(axis)
    if name == "zarrs.regular_bounded":
        axes = [BoundedAxis(axis.length, entry) for axis, entry in zip(axes, entries, strict=True)]
    return ChunkGrid(tuple(axes))


def _stored_longer(axis: Axis, entry: object, what: str, most: int) -> Axis:
    """Return an axis whose chunks are stored in the lengths that `encoded_chunk_shapes` has."""
    if isinstance(axis, RegularAxis):
        if entry == axis.size and _is_int(entry):
            return axis
        if axis.count > most:
            raise MetadataValidationError(f"{what}: more than {most} chunks")
        axis = RectilinearAxis(axis.length, (axis.size,) * axis.count)
    assert isinstance(axis, RectilinearAxis)
    found = expand_edges(entry, 0, f"{what}, encoded_chunk_shapes", most)
    n = len(axis.edges)
    stored = found.edges if isinstance(found, RectilinearAxis) else (found.size,) * n
    if len(stored) != n or any(map(int.__lt__, stored, axis.edges)):
        raise MetadataValidationError(
            f"{what}: encoded_chunk_shapes has {len(stored)} lengths for {n} chunks, and none may be "
            "less than that of its chunk"
        )
    return axis if stored == axis.edges else RectilinearAxis(axis.length, axis.edges, stored)


def _check_fields(configuration: Mapping[str, Any], allowed: set[str]) -> None:
    if unknown := configuration.keys() - allowed:
        raise MetadataValidationError(f"chunk_grid: unknown field {describe(min(unknown))}")
