"""Where bytes are: the `Store` contract, stores, and places in them.

What needs another library, or is slow to import, is imported when its name is first used.
"""

from typing import Any

from zarr_core.storage.base import (
    ByteRequest,
    OffsetByteRequest,
    OpenValue,
    RangeByteRequest,
    Request,
    Result,
    Store,
    SuffixByteRequest,
    Value,
    ValueSnapshot,
    Writable,
    check_key,
    check_prefix,
    content_version,
    slice_value,
)
from zarr_core.storage.local import LocalStore
from zarr_core.storage.memory import ManagedMemoryStore, MemoryStore
from zarr_core.storage.paths import AccessMode, StoreLike, StorePath, normalize_path, store_from

_LAZY = {
    "CacheStore": "cache",
    "FsspecStore": "fsspec_store",
    "LatencyStore": "wrappers",
    "LoggingStore": "wrappers",
    "ObjectStore": "object_store",
    "PrefixStore": "wrappers",
    "RetryPolicy": "retry",
    "RetryStore": "retry",
    "ToZarrStore": "adapters",
    "WrapperStore": "wrappers",
    "ZipStore": "zip",
    "from_zarr_store": "adapters",
}

__all__ = [
    "AccessMode",
    "ByteRequest",
    "CacheStore",
    "FsspecStore",
    "LatencyStore",
    "LocalStore",
    "LoggingStore",
    "ManagedMemoryStore",
    "MemoryStore",
    "ObjectStore",
    "OffsetByteRequest",
    "OpenValue",
    "PrefixStore",
    "RangeByteRequest",
    "Request",
    "Result",
    "RetryPolicy",
    "RetryStore",
    "Store",
    "StoreLike",
    "StorePath",
    "SuffixByteRequest",
    "ToZarrStore",
    "Value",
    "ValueSnapshot",
    "WrapperStore",
    "Writable",
    "ZipStore",
    "check_key",
    "check_prefix",
    "content_version",
    "from_zarr_store",
    "normalize_path",
    "slice_value",
    "store_from",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
