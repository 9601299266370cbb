"""The classes of metadata documents in zarr-python; both formats are one class here.

`ArrayV3Metadata(...)` and `ArrayV2Metadata(...)` make an `ArrayMetadata`, of which their instances
are those of that format.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np

from zarr_core.metadata import ArrayMetadata
from zarr_core.metadata.chunk_grids import ChunkGrid
from zarr_core.metadata.chunk_keys import ChunkKeyEncoding
from zarr_core.metadata.data_types import parse_dtype
from zarr_core.metadata.documents import NamedConfig


def _json(value: Any) -> Any:
    """Return part of a document for an object, or for a document of zarr-python's."""
    for way in ("to_dict", "to_json"):
        if hasattr(value, way):
            return getattr(value, way)()
    if isinstance(value, tuple | list):
        return [_json(item) for item in value]
    return value


def _v3(
    *,
    shape: Any,
    data_type: Any,
    chunk_grid: Any,
    chunk_key_encoding: Any,
    fill_value: Any,
    codecs: Any,
    attributes: Mapping[str, Any] | None = None,
    dimension_names: Any = None,
    storage_transformers: Any = (),
    extra_fields: Mapping[str, Any] | None = None,
) -> ArrayMetadata:
    kind = parse_dtype(data_type, 3)
    return ArrayMetadata.from_dict(
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [int(n) for n in np.atleast_1d(shape)] if shape != () else [],
            "data_type": kind.to_v3(),
            "chunk_grid": _json(chunk_grid),
            "chunk_key_encoding": _json(chunk_key_encoding),
            "fill_value": kind.fill_to_json(fill_value, 3),
            "codecs": [_json(codec) for codec in codecs or ()],
            "attributes": dict(attributes or {}),
            "dimension_names": None if dimension_names is None else list(dimension_names),
            "storage_transformers": list(storage_transformers or ()),
            **(extra_fields or {}),
        }
    )


def _v2(
    *,
    shape: Any,
    dtype: Any,
    chunks: Any,
    fill_value: Any,
    order: str,
    dimension_separator: str = ".",
    compressor: Any = None,
    filters: Any = None,
    attributes: Mapping[str, Any] | None = None,
) -> ArrayMetadata:
    def config_of(codec: Any) -> Any:
        return codec.get_config() if hasattr(codec, "get_config") else codec

    kind = parse_dtype(dtype, 2)
    return ArrayMetadata.from_dict(
        {
            "zarr_format": 2,
            "shape": list(shape),
            "chunks": list(parse_shapelike(chunks)),
            "dtype": kind.to_v2(),
            "fill_value": kind.fill_to_json(fill_value, 2),
            "order": order,
            "dimension_separator": dimension_separator,
            "compressor": config_of(compressor),
            "filters": [config_of(f) for f in filters] if filters else None,
            "attributes": dict(attributes or {}),
        }
    )


class _Named(type):
    """The type of classes that have no instances, but make and recognise those of another."""

    make: Callable[..., Any]
    matches: Callable[[Any], bool]

    def __new__(cls, name: str, make: Any, matches: Any, doc: str, **attributes: Any) -> "_Named":
        made = super().__new__(cls, name, (), {"__doc__": doc, **attributes})
        made.make, made.matches = make, matches
        return made

    def __init__(cls, name: str, *_: Any, **__: Any) -> None:
        super().__init__(name, (), {})

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls.make(*args, **kwargs)

    def __instancecheck__(cls, value: object) -> bool:
        return cls.matches(value)


def _of_format(zarr_format: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, ArrayMetadata) and value.zarr_format == zarr_format


ArrayV3Metadata: Final = _Named(
    "ArrayV3Metadata",
    _v3,
    _of_format(3),
    "Metadata of an array of format 3.",
    from_dict=staticmethod(ArrayMetadata.from_dict),
)
ArrayV2Metadata: Final = _Named(
    "ArrayV2Metadata",
    _v2,
    _of_format(2),
    "Metadata of an array of format 2.",
    from_dict=staticmethod(ArrayMetadata.from_dict),
)


class _RegularGrid(NamedConfig):
    """A regular chunk grid, of arrays of any shape."""

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """The shape of chunks."""
        lengths: Any = self.configuration["chunk_shape"]
        return tuple(lengths)


def _regular(*, chunk_shape: Any) -> NamedConfig:
    if isinstance(chunk_shape, str | Mapping) or not isinstance(chunk_shape, Iterable):
        raise TypeError(
            f"A chunk shape must be an iterable of chunk edge lengths, got {chunk_shape!r}"
        )
    lengths = list(chunk_shape)
    for axis, n in enumerate(lengths):
        if not isinstance(n, int | np.integer) or isinstance(n, bool):
            raise TypeError(f"Dimension {axis}: chunk edge length must be an int, got {n!r}")
        if n < 1:
            raise ValueError(f"Dimension {axis}: chunk edge length must be >= 1, got {n}")
    return _RegularGrid("regular", {"chunk_shape": [int(n) for n in lengths]})


RegularChunkGrid: Final = _Named(
    "RegularChunkGrid",
    _regular,
    lambda grid: isinstance(grid, ChunkGrid | _RegularGrid) and grid.chunk_shape is not None,
    "A chunk grid whose chunks have one shape.",
)


def _encoding(name: Any, separator: str) -> Callable[..., ChunkKeyEncoding]:
    def make(*, separator: Any = separator) -> ChunkKeyEncoding:
        return ChunkKeyEncoding(name, separator)

    return make


DefaultChunkKeyEncoding: Final = _Named(
    "DefaultChunkKeyEncoding",
    _encoding("default", "/"),
    lambda keys: isinstance(keys, ChunkKeyEncoding) and keys.name == "default",
    "Keys such as `c/0/1`.",
)
V2ChunkKeyEncoding: Final = _Named(
    "V2ChunkKeyEncoding",
    _encoding("v2", "."),
    lambda keys: isinstance(keys, ChunkKeyEncoding) and keys.name == "v2",
    "Keys such as `0.1`.",
)


def parse_dimension_names(data: Any) -> tuple[str | None, ...] | None:
    """Return names of dimensions as a tuple; raise `TypeError` for what are none."""
    if data is None:
        return None
    if all(name is None or isinstance(name, str) for name in data):
        return tuple(data)
    raise TypeError(f"Expected either None or an iterable of str, got {type(data)}")


def parse_shapelike(data: Any) -> tuple[int, ...]:
    """Return a shape as a tuple."""
    if isinstance(data, int | np.integer):
        data = (data,)
    if not all(isinstance(n, int | np.integer) and n >= 0 for n in data):
        raise ValueError(f"Expected all values to be non-negative integers. Got {data}.")
    return tuple(map(int, data))


class V3JsonEncoder(json.JSONEncoder):
    """Writes metadata documents."""

    def default(self, o: Any) -> Any:
        """Return NumPy's scalars as Python's."""
        return o.item() if isinstance(o, np.generic) else super().default(o)
