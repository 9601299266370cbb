"""The libraries that are compared, behind one small interface.

Each peer is imported when it is first used, so that this module also loads where only one of them
is installed. All of them get the same format, codec, level, durability and number of threads.
"""

import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

Operation = Callable[[], Any]

ZSTD_LEVEL = 3
GZIP_LEVEL = 5
BLOSC = {"cname": "lz4", "clevel": 5, "shuffle": "shuffle"}


@dataclass(frozen=True)
class Layout:
    """An array as all peers create it; `codec` is "raw", "zstd", "blosc" or "gzip"."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str = "float32"
    codec: str = "raw"
    where: str = "memory"  # or "local"
    shards: tuple[int, ...] | None = None


class Peer(ABC):
    """A library, or a way to use one."""

    name: ClassVar[str]
    shards: ClassVar[bool] = True
    awaits: ClassVar[bool] = True

    def activate(self, threads: int) -> None:
        """Set what is process-wide; called before every timed sample."""

    @abstractmethod
    def version(self) -> str:
        """Return the library's version; raise ImportError where it is missing."""

    @abstractmethod
    def create(self, layout: Layout, directory: Path) -> Any:
        """Return a new array; a local one is below `directory`."""

    def opener(self, layout: Layout, directory: Path) -> Operation:
        """Return a function that opens an array which `create` has made there."""
        raise NotImplementedError(f"{self.name} has no way to open arrays here")

    def reader(self, array: Any, selection: Any) -> Operation:
        """Return a function that reads `selection` as a NumPy array."""
        return lambda: array[selection]

    def awaiter(self, array: Any, selection: Any) -> Callable[[], Awaitable[Any]]:
        """Return a function whose result is awaited for `selection` as a NumPy array."""
        raise NotImplementedError(f"{self.name} cannot be awaited")

    def writer(self, array: Any, selection: Any, value: Any) -> Operation:
        """Return a function that writes `value` and is done when it returns."""

        def write() -> None:
            array[selection] = value

        return write


class ZarrCore(Peer):
    name = "zarr_core"

    def version(self) -> str:
        import zarr_core

        return zarr_core.__version__

    def activate(self, threads: int) -> None:
        from zarr_core import config

        config.set({"threading.max_workers": threads})

    def store(self, layout: Layout, directory: Path) -> Any:
        from zarr_core.storage import LocalStore, MemoryStore

        return LocalStore(directory) if layout.where == "local" else MemoryStore()

    def create(self, layout: Layout, directory: Path) -> Any:
        import zarr_core
        from zarr_core.codecs import BloscCodec, GzipCodec, ZstdCodec

        size = np.dtype(layout.dtype).itemsize
        codecs = {
            "raw": [],
            "zstd": [ZstdCodec(level=ZSTD_LEVEL)],
            "blosc": [BloscCodec(typesize=size, **BLOSC)],  # type: ignore[arg-type]
            "gzip": [GzipCodec(level=GZIP_LEVEL)],
        }
        return zarr_core.create_array(
            self.store(layout, directory),
            shape=layout.shape,
            chunks=layout.chunks,
            shards=layout.shards,
            dtype=layout.dtype,
            compressors=codecs[layout.codec],
            fill_value=0,
        )

    def awaiter(self, array: Any, selection: Any) -> Callable[[], Awaitable[Any]]:
        return lambda: array.getitem_async(selection)

    def opener(self, layout: Layout, directory: Path) -> Operation:
        import zarr_core

        store = self.create(layout, directory).store
        return lambda: zarr_core.open_array(store, mode="r")


class ZarrPython(Peer):
    name = "zarr-python"
    pipeline = "zarr.core.codec_pipeline.BatchedCodecPipeline"

    def version(self) -> str:
        import zarr

        if int(zarr.__version__.partition(".")[0]) < 3:
            raise ImportError("zarr-python 3 is not installed here")
        return str(zarr.__version__)

    def activate(self, threads: int) -> None:
        import zarr

        zarr.config.set(
            {
                "codec_pipeline.path": self.pipeline,
                "codec_pipeline.max_workers": threads,
                "threading.max_workers": threads,
            }
        )

    def store(self, layout: Layout, directory: Path) -> Any:
        from zarr.storage import LocalStore, MemoryStore

        return LocalStore(directory) if layout.where == "local" else MemoryStore()

    def create(self, layout: Layout, directory: Path) -> Any:
        import zarr
        from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

        size = np.dtype(layout.dtype).itemsize
        codecs: dict[str, Any] = {
            "raw": None,
            "zstd": ZstdCodec(level=ZSTD_LEVEL),
            "blosc": BloscCodec(typesize=size, **BLOSC),
            "gzip": GzipCodec(level=GZIP_LEVEL),
        }
        return zarr.create_array(
            self.store(layout, directory),
            shape=layout.shape,
            chunks=layout.chunks,
            shards=layout.shards,
            dtype=layout.dtype,
            compressors=codecs[layout.codec],
            fill_value=0,
        )

    def awaiter(self, array: Any, selection: Any) -> Callable[[], Awaitable[Any]]:
        return lambda: array.async_array.getitem(selection)

    def opener(self, layout: Layout, directory: Path) -> Operation:
        import zarr

        store = self.create(layout, directory).store
        return lambda: zarr.open_array(store, mode="r")


class ZarrPythonFused(ZarrPython):
    name = "zarr-python, fused"
    pipeline = "zarr.core.codec_pipeline.FusedCodecPipeline"


class Tensorstore(Peer):
    name = "tensorstore"

    def __init__(self) -> None:
        self.threads = os.cpu_count() or 1
        self.numbers = itertools.count()
        self.context: Any = None

    def version(self) -> str:
        from importlib.metadata import version

        import tensorstore  # noqa: F401

        return version("tensorstore")

    def activate(self, threads: int) -> None:
        self.threads = threads

    def spec(self, layout: Layout, directory: Path) -> dict[str, Any]:
        little = {"name": "bytes", "configuration": {"endian": "little"}}
        blosc = {**BLOSC, "typesize": np.dtype(layout.dtype).itemsize, "blocksize": 0}
        codecs: list[dict[str, Any]] = {
            "raw": [little],
            "zstd": [little, {"name": "zstd", "configuration": {"level": ZSTD_LEVEL}}],
            "blosc": [little, {"name": "blosc", "configuration": blosc}],
            "gzip": [little, {"name": "gzip", "configuration": {"level": GZIP_LEVEL}}],
        }[layout.codec]
        if layout.shards is not None:
            configuration = {
                "chunk_shape": layout.chunks,
                "codecs": codecs,
                "index_codecs": [little, {"name": "crc32c"}],
                "index_location": "end",
            }
            codecs = [{"name": "sharding_indexed", "configuration": configuration}]
        store = {"driver": "memory", "path": f"{next(self.numbers)}/"}
        if layout.where == "local":
            store = {"driver": "file", "path": f"{directory}/"}
        grid = {"chunk_shape": layout.shards or layout.chunks}
        return {
            "driver": "zarr3",
            "kvstore": store,
            "metadata": {
                "shape": layout.shape,
                "data_type": layout.dtype,
                "chunk_grid": {"name": "regular", "configuration": grid},
                "codecs": codecs,
                "fill_value": 0,
            },
        }

    def make_context(self) -> Any:
        import tensorstore

        return tensorstore.Context(
            {
                "data_copy_concurrency": {"limit": self.threads},
                "file_io_concurrency": {"limit": max(4, self.threads)},
                "file_io_sync": False,
            }
        )

    def create(self, layout: Layout, directory: Path) -> Any:
        import tensorstore

        spec = self.spec(layout, directory)
        return tensorstore.open(spec, context=self.make_context(), create=True).result()

    def opener(self, layout: Layout, directory: Path) -> Operation:
        import tensorstore

        context, spec = self.make_context(), self.spec(layout, directory)
        tensorstore.open(spec, context=context, create=True).result()
        known = {"driver": "zarr3", "kvstore": spec["kvstore"]}
        return lambda: tensorstore.open(known, context=context, read=True).result()

    def reader(self, array: Any, selection: Any) -> Operation:
        return lambda: array[selection].read().result()

    def awaiter(self, array: Any, selection: Any) -> Callable[[], Awaitable[Any]]:
        # Making the view is part of the work.
        return lambda: array[selection].read()  # noqa: PLW0108

    def writer(self, array: Any, selection: Any, value: Any) -> Operation:
        return lambda: array[selection].write(value).result()


class Zarr2(Peer):
    """zarr 2.18.7, which writes format 2 only; needs an interpreter of its own."""

    name = "zarr 2.18.7"
    shards = False
    awaits = False

    def version(self) -> str:
        import zarr

        if not zarr.__version__.startswith("2."):
            raise ImportError("zarr 2 is not installed here")
        return str(zarr.__version__)

    def activate(self, threads: int) -> None:
        from numcodecs import blosc

        blosc.set_nthreads(threads)

    def store(self, layout: Layout, directory: Path) -> Any:
        import zarr

        if layout.where == "local":
            return zarr.storage.DirectoryStore(str(directory))
        return zarr.storage.KVStore({})

    def create(self, layout: Layout, directory: Path) -> Any:
        import zarr
        from numcodecs import Blosc, GZip, Zstd

        codecs = {
            "raw": None,
            "zstd": Zstd(level=ZSTD_LEVEL),
            "blosc": Blosc(BLOSC["cname"], BLOSC["clevel"], Blosc.SHUFFLE),
            "gzip": GZip(level=GZIP_LEVEL),
        }
        return zarr.create(
            shape=layout.shape,
            chunks=layout.chunks,
            dtype=layout.dtype,
            compressor=codecs[layout.codec],
            store=self.store(layout, directory),
            fill_value=0,
        )

    def opener(self, layout: Layout, directory: Path) -> Operation:
        import zarr

        store = self.create(layout, directory).store
        return lambda: zarr.open_array(store, mode="r")


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (ZarrCore(), ZarrPython(), ZarrPythonFused(), Tensorstore(), Zarr2())
}
