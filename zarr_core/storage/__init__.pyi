from zarr_core.storage.adapters import ToZarrStore as ToZarrStore
from zarr_core.storage.adapters import from_zarr_store as from_zarr_store
from zarr_core.storage.base import ByteRequest as ByteRequest
from zarr_core.storage.base import OffsetByteRequest as OffsetByteRequest
from zarr_core.storage.base import OpenValue as OpenValue
from zarr_core.storage.base import RangeByteRequest as RangeByteRequest
from zarr_core.storage.base import Request as Request
from zarr_core.storage.base import Result as Result
from zarr_core.storage.base import Store as Store
from zarr_core.storage.base import SuffixByteRequest as SuffixByteRequest
from zarr_core.storage.base import Value as Value
from zarr_core.storage.base import ValueSnapshot as ValueSnapshot
from zarr_core.storage.base import Writable as Writable
from zarr_core.storage.base import check_key as check_key
from zarr_core.storage.base import check_prefix as check_prefix
from zarr_core.storage.base import content_version as content_version
from zarr_core.storage.base import slice_value as slice_value
from zarr_core.storage.cache import CacheStore as CacheStore
from zarr_core.storage.fsspec_store import FsspecStore as FsspecStore
from zarr_core.storage.local import LocalStore as LocalStore
from zarr_core.storage.memory import ManagedMemoryStore as ManagedMemoryStore
from zarr_core.storage.memory import MemoryStore as MemoryStore
from zarr_core.storage.n5 import N5View as N5View
from zarr_core.storage.object_store import ObjectStore as ObjectStore
from zarr_core.storage.paths import AccessMode as AccessMode
from zarr_core.storage.paths import StoreLike as StoreLike
from zarr_core.storage.paths import StorePath as StorePath
from zarr_core.storage.paths import normalize_path as normalize_path
from zarr_core.storage.paths import store_from as store_from
from zarr_core.storage.references import ReferenceStore as ReferenceStore
from zarr_core.storage.retry import RetryPolicy as RetryPolicy
from zarr_core.storage.retry import RetryStore as RetryStore
from zarr_core.storage.sqlite import SQLiteStore as SQLiteStore
from zarr_core.storage.wrappers import LatencyStore as LatencyStore
from zarr_core.storage.wrappers import LoggingStore as LoggingStore
from zarr_core.storage.wrappers import PrefixStore as PrefixStore
from zarr_core.storage.wrappers import WrapperStore as WrapperStore
from zarr_core.storage.zip import ZipStore as ZipStore

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
    "N5View",
    "ObjectStore",
    "OffsetByteRequest",
    "OpenValue",
    "PrefixStore",
    "RangeByteRequest",
    "ReferenceStore",
    "Request",
    "Result",
    "RetryPolicy",
    "RetryStore",
    "SQLiteStore",
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
