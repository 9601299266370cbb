"""Zarr arrays and groups, format 3 and 2: synchronous at heart, awaitable everywhere.

Use it as `import zarr_core as zarr`. Every function and method that touches a store has an
awaitable twin whose name ends in `_async`.
"""

import os
import sys
from types import ModuleType
from typing import Any

from zarr_core import api, codecs, converting, copying, errors, storage
from zarr_core.api import *
from zarr_core.array import create as creation
from zarr_core.array import many
from zarr_core.array.array import Array
from zarr_core.array.asynchronous import AsyncArray, AsyncGroup
from zarr_core.array.create import *
from zarr_core.array.many import *
from zarr_core.array.stream import stream
from zarr_core.config import config
from zarr_core.converting import *
from zarr_core.copying import *
from zarr_core.group import Group
from zarr_core.threads.calls import on_chunk, progress, timeout
from zarr_core.threads.trace import trace
from zarr_core.threads.twins import limit

__version__ = "3.0.0a1"

__all__ = [
    "Array",
    "AsyncArray",
    "AsyncGroup",
    "ChunkCache",
    "Group",
    "__version__",
    "codecs",
    "config",
    "dtype",
    "errors",
    "install_as_zarr",
    "limit",
    "on_chunk",
    "progress",
    "registry",
    "storage",
    "stream",
    "timeout",
    "trace",
    "types",
]
__all__ += api.__all__
__all__ += converting.__all__
__all__ += copying.__all__
__all__ += creation.__all__
__all__ += many.__all__


def install_as_zarr() -> None:
    """Make `import zarr` mean zarr_core in this process and in those that it starts.

    For programs and libraries that import zarr themselves. It comes before the first of them;
    raises `RuntimeError` when zarr-python is imported already.

    >>> zarr.install_as_zarr()  # doctest: +SKIP
    >>> import xarray  # finds zarr_core where it imports zarr # doctest: +SKIP
    """
    from zarr_core.as_zarr import install

    install()


ChunkCache: Any  # imported when it is asked for


def __getattr__(name: str) -> ModuleType:
    if name == "ChunkCache":
        from zarr_core.chunks import cache

        return cache.ChunkCache  # type: ignore[return-value] # the rest are modules
    if name not in ("dtype", "icechunk", "registry", "types", "xarray"):
        raise errors.no_attribute(__name__, name, __all__)
    import importlib

    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)


if os.environ.get("ZARR_CORE_AS_ZARR") and "zarr" not in sys.modules:  # a child of such a process
    install_as_zarr()
