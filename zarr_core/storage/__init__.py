"""Where bytes are: the `Store` contract, stores, and places in them.

A name is imported when it is first used: all take 4 ms, and asyncio and zipfile 20 more.
"""

from typing import Any

from zarr_core.errors import no_attribute

_NAMES = {
    "adapters": "ToZarrStore from_zarr_store",
    "base": (
        "ByteRequest OffsetByteRequest OpenValue RangeByteRequest Request Result Store "
        "SuffixByteRequest Value ValueSnapshot Writable check_key check_prefix content_version "
        "slice_value"
    ),
    "cache": "CacheStore",
    "fsspec_store": "FsspecStore",
    "local": "LocalStore",
    "memory": "ManagedMemoryStore MemoryStore",
    "n5": "N5View",
    "object_store": "ObjectStore",
    "paths": "AccessMode StoreLike StorePath normalize_path store_from",
    "references": "ReferenceStore",
    "retry": "RetryPolicy RetryStore",
    "sqlite": "SQLiteStore",
    "wrappers": "LatencyStore LoggingStore PrefixStore WrapperStore",
    "zip": "ZipStore",
}
_PLACES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise no_attribute(__name__, name, __all__)
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
