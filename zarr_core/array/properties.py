"""What a node is: the properties that follow from its place and metadata, without I/O."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from zarr_core.codecs import codecs_from_configs
from zarr_core.codecs.base import ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec
from zarr_core.codecs.numcodecs import numcodecs_object
from zarr_core.config import ArrayConfig
from zarr_core.metadata.chunk_grids import Shape
from zarr_core.metadata.nodes import ArrayMetadata
from zarr_core.storage import Store, StorePath


class Placed:
    """Where a node is: what arrays and groups have in common."""

    __slots__ = ()

    store_path: StorePath
    """Where the node is."""

    @property
    def store(self) -> Store:
        """The store that holds the node."""
        return self.store_path.store

    @property
    def path(self) -> str:
        """Path of the node in its store; `""` is the root."""
        return self.store_path.path

    @property
    def name(self) -> str:
        """Path with a leading slash."""
        return f"/{self.path}"

    @property
    def basename(self) -> str:
        """Last segment of the path."""
        return self.path.rpartition("/")[2]

    @property
    def read_only(self) -> bool:
        """Whether changing anything raises `ReadOnlyError`."""
        return self.store_path.read_only


class ArrayDescription(Placed):
    """The properties of an array; `Array` adds reading, writing and changing."""

    __slots__ = ()

    @property
    def metadata(self) -> ArrayMetadata:
        """What the array's documents say."""
        raise AttributeError("metadata")

    @property
    def config(self) -> ArrayConfig:
        """How this handle reads and writes."""
        raise AttributeError("config")

    @property
    def shape(self) -> Shape:
        """Shape."""
        return self.metadata.shape

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self.metadata.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy data type of what is read."""
        return self.metadata.dtype

    @property
    def nbytes(self) -> int:
        """Size in bytes of all elements in memory; that of the references for variable lengths."""
        return self.size * self.dtype.itemsize

    @property
    def chunks(self) -> Shape:
        """Shape of a chunk, the inner one of a sharded array; not for rectilinear grids."""
        return self.metadata.chunks

    @property
    def shards(self) -> Shape | None:
        """Shape of a shard, or None; not for rectilinear grids."""
        return self.metadata.shards

    @property
    def read_chunk_sizes(self) -> tuple[Shape, ...]:
        """Per dimension the lengths of the chunks (the inner ones) within the array."""
        sharding = self.metadata.sharding
        if sharding is None:
            return self.write_chunk_sizes
        inner = sharding.configuration["chunk_shape"]
        return tuple(
            tuple(min(size, total - start) for total in outer for start in range(0, total, size))
            for outer, size in zip(self.write_chunk_sizes, inner, strict=True)
        )

    @property
    def write_chunk_sizes(self) -> tuple[Shape, ...]:
        """Per dimension the lengths of what is stored under one key, within the array."""
        return tuple(axis.sizes() for axis in self.metadata.chunk_grid.axes)

    @property
    def cdata_shape(self) -> Shape:
        """Number of chunks along each dimension."""
        grid, sharding = self.metadata.chunk_grid, self.metadata.sharding
        if sharding is None:
            return grid.counts
        inner = sharding.configuration["chunk_shape"]
        return tuple(axis.count_inside(size) for axis, size in zip(grid.axes, inner, strict=True))

    @property
    def nchunks(self) -> int:
        """Number of chunks."""
        return math.prod(self.cdata_shape)

    @property
    def fill_value(self) -> Any:
        """Value of elements that were never written; None when format 2 leaves it undefined."""
        return self.metadata.fill_value

    @property
    def order(self) -> Literal["C", "F"]:
        """Memory order of what is read."""
        return self.metadata.order if self.metadata.zarr_format == 2 else self.config.order

    @property
    def filters(self) -> tuple[Any, ...]:
        """Array-to-array codecs; in format 2 numcodecs objects."""
        if self.metadata.zarr_format == 2:
            return _numcodecs_objects(self.metadata.v2_filters or ())
        return tuple(c for c in self._codecs() if isinstance(c, ArrayArrayCodec))

    @property
    def serializer(self) -> ArrayBytesCodec | None:
        """The array-to-bytes codec; None in format 2."""
        if self.metadata.zarr_format == 2:
            return None
        return next((c for c in self._codecs() if isinstance(c, ArrayBytesCodec)), None)

    @property
    def compressors(self) -> tuple[Any, ...]:
        """Bytes-to-bytes codecs; in format 2 numcodecs objects."""
        if self.metadata.zarr_format == 2:
            compressor = self.metadata.v2_compressor
            return () if compressor is None else _numcodecs_objects([compressor])
        return tuple(c for c in self._codecs() if isinstance(c, BytesBytesCodec))

    @property
    def compressor(self) -> Any:
        """The compressor of format 2, or None."""
        if self.metadata.zarr_format == 3:
            raise TypeError("arrays of format 3 have 'compressors', not one 'compressor'")
        return self.compressors[0] if self.compressors else None

    def _codecs(self) -> tuple[Any, ...]:
        """Return the codecs of chunks: of the inner ones when the array is sharded."""
        codecs = codecs_from_configs(self.metadata.codecs)
        if self.metadata.sharding is not None:
            return codecs[0].codecs  # type: ignore[attr-defined, no-any-return]
        return codecs


def _numcodecs_objects(configs: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    return tuple(numcodecs_object(config) for config in configs)
