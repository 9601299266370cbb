"""The sharded array that tests of shards and of batches begin with."""

from typing import Any

import zarr_core


def create(store: Any = None, **options: Any) -> zarr_core.Array:
    defaults: dict[str, Any] = {
        "shape": (8, 8),
        "chunks": (2, 2),
        "shards": (4, 4),
        "dtype": "int32",
        "compressors": None,
    }
    return zarr_core.create_array({} if store is None else store, **{**defaults, **options})
