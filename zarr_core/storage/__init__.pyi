# What `__init__.py` has for type checkers: there, some names are imported when first used.

from zarr_core.storage.adapters import ToZarrStore, from_zarr_store
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
from zarr_core.storage.cache import CacheStore
from zarr_core.storage.fsspec_store import FsspecStore
from zarr_core.storage.local import LocalStore
from zarr_core.storage.memory import ManagedMemoryStore, MemoryStore
from zarr_core.storage.object_store import ObjectStore
from zarr_core.storage.paths import AccessMode, StoreLike, StorePath, normalize_path, store_from
from zarr_core.storage.retry import RetryPolicy, RetryStore
from zarr_core.storage.wrappers import LatencyStore, LoggingStore, PrefixStore, WrapperStore
from zarr_core.storage.zip import ZipStore

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
