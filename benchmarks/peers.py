"""The libraries that are compared, behind one small interface.

Each is imported when it is first used, as few interpreters have them all. All of them get the same
format, codec, level, durability and number of threads.
"""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import services

Operation = Callable[[], Any]

BLOSC = {"cname": "lz4", "clevel": 5, "shuffle": "shuffle"}
LEVELS = {"zstd": 3, "gzip": 5}


@dataclass(frozen=True)
class Layout:
    """An array as all peers create it; `codec` is "raw", "zstd", "blosc" or "gzip"."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    codec: str = "raw"
    where: str = "memory"  # or "local", or a service
    shards: tuple[int, ...] | None = None
    dtype: str = "float32"

    @property
    def itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize

    @property
    def count(self) -> int:
        """Return the number of chunks, all of them whole."""
        return prod(self.shape) // prod(self.chunks)


class Peer:
    """A library with the interface of zarr-python 3, which zarr_core has too."""

    name: ClassVar[str]
    module: ClassVar[str] = "zarr"
    series: ClassVar[str] = ""
    shards: ClassVar[bool] = True

    @property
    def library(self) -> Any:
        return import_module(self.module)

    def version(self) -> str:
        """Return the library's version; raise ImportError where it is missing."""
        found = str(self.library.__version__)
        if not found.startswith(self.series):
            raise ImportError(f"{self.module} is {found} here")
        return found

    def activate(self, threads: int, in_flight: int | None = None) -> None:
        """Set how many threads a call may use, and how many requests may wait at once."""

    def store(self, where: str, directory: Path) -> Any:
        """Return a place for an array; in a service, the directory's name is its prefix."""
        storage = import_module(f"{self.module}.storage")
        if where in services.STORES:
            return services.STORES[where](storage, directory.name)
        return storage.LocalStore(directory) if where == "local" else storage.MemoryStore()

    def codec(self, layout: Layout) -> Any:
        codecs = import_module(f"{self.module}.codecs")
        if layout.codec == "blosc":
            return codecs.BloscCodec(typesize=layout.itemsize, **BLOSC)
        level = LEVELS.get(layout.codec)
        return level and getattr(codecs, f"{layout.codec.title()}Codec")(level=level)

    def create(self, layout: Layout, store: Any) -> Any:
        """Return a new array."""
        return self.library.create_array(
            store,
            shape=layout.shape,
            chunks=layout.chunks,
            shards=layout.shards,
            dtype=layout.dtype,
            compressors=self.codec(layout),
            fill_value=0,
        )

    def opener(self, store: Any, **options: Any) -> Operation:
        """Return a function that opens the array which is in a store."""
        return lambda: self.library.open_array(store, mode="r", **options)

    def reader(self, array: Any, selection: Any) -> Operation:
        """Return a function that reads `selection` as a NumPy array."""
        return lambda: array[selection]

    def awaiter(self, array: Any, selection: Any) -> Callable[[], Awaitable[Any]]:
        """Return a function whose result is awaited for `selection` as a NumPy array."""
        return lambda: array.async_array.getitem(selection)

    def writer(self, array: Any, selection: Any, value: Any) -> Operation:
        """Return a function that writes `value` and is done when it returns."""
        return lambda: array.__setitem__(selection, value)


class ZarrCore(Peer):
    name = module = "zarr_core"

    def activate(self, threads: int, in_flight: int | None = None) -> None:
        self.library.config.set({"threading.max_workers": threads})

    def awaiter(self, array: Any, selection: Any) -> Callable[[], Awaitable[Any]]:
        return lambda: array.getitem_async(selection)


class ZarrPython(Peer):
    name, series = "zarr-python", "3."
    pipeline = "BatchedCodecPipeline"

    def activate(self, threads: int, in_flight: int | None = None) -> None:
        settings: dict[str, Any] = {
            "codec_pipeline.path": f"zarr.core.codec_pipeline.{self.pipeline}",
            "codec_pipeline.max_workers": threads,
            "threading.max_workers": threads,
        }
        if in_flight:
            settings["async.concurrency"] = in_flight
        self.library.config.set(settings)


class ZarrPythonFused(ZarrPython):
    name = "zarr-python, fused"
    pipeline = "FusedCodecPipeline"


class Tensorstore(Peer):
    name = module = "tensorstore"
    context: Any = None

    def version(self) -> str:
        return self.library and version("tensorstore")

    def activate(self, threads: int, in_flight: int | None = None) -> None:
        limits = {"data_copy": threads, "file_io": max(4, threads)}
        if in_flight:
            limits |= {"s3_request": in_flight, "http_request": in_flight}
        spec: dict[str, Any] = {f"{k}_concurrency": {"limit": n} for k, n in limits.items()}
        self.context = self.library.Context(spec | {"file_io_sync": False})

    def store(self, where: str, directory: Path) -> Any:
        if where in services.SPECS:
            return services.SPECS[where](directory.name)
        return {"driver": "file" if where == "local" else "memory", "path": f"{directory}/"}

    def codec(self, layout: Layout) -> Any:
        configuration: dict[str, Any] = {"level": LEVELS.get(layout.codec)}
        if layout.codec == "blosc":
            configuration = {**BLOSC, "typesize": layout.itemsize, "blocksize": 0}
        return {"name": layout.codec, "configuration": configuration}

    def create(self, layout: Layout, store: Any) -> Any:
        codecs = little = [{"name": "bytes", "configuration": {"endian": "little"}}]
        if layout.codec != "raw":
            codecs = [*little, self.codec(layout)]
        if layout.shards is not None:
            configuration = {
                "chunk_shape": layout.chunks,
                "codecs": codecs,
                "index_codecs": [*little, {"name": "crc32c"}],
                "index_location": "end",
            }
            codecs = [{"name": "sharding_indexed", "configuration": configuration}]
        grid = {"chunk_shape": layout.shards or layout.chunks}
        metadata = {
            "shape": layout.shape,
            "data_type": layout.dtype,
            "chunk_grid": {"name": "regular", "configuration": grid},
            "codecs": codecs,
            "fill_value": 0,
        }
        spec = {"driver": "zarr3", "kvstore": store, "metadata": metadata}
        return self.library.open(spec, context=self.context, create=True).result()

    def opener(self, store: Any, **options: Any) -> Operation:
        spec = {"driver": "zarr3", "kvstore": store}
        return lambda: self.library.open(spec, context=self.context, read=True).result()

    def reader(self, array: Any, selection: Any) -> Operation:
        return lambda: array[selection].read().result()

    def awaiter(self, array: Any, selection: Any) -> Callable[[], Awaitable[Any]]:
        # Making the view is part of the work.
        return lambda: array[selection].read()  # noqa: PLW0108

    def writer(self, array: Any, selection: Any, value: Any) -> Operation:
        return lambda: array[selection].write(value).result()


class Zarr2(Peer):
    """zarr 2.18.7, which writes format 2 only; needs an interpreter of its own."""

    name, series = "zarr 2.18.7", "2."
    shards = False

    def activate(self, threads: int, in_flight: int | None = None) -> None:
        import_module("numcodecs.blosc").set_nthreads(threads)

    def store(self, where: str, directory: Path) -> Any:
        storage = self.library.storage
        return storage.DirectoryStore(str(directory)) if where == "local" else storage.KVStore({})

    def codec(self, layout: Layout) -> Any:
        return numcodec(layout.codec)

    def create(self, layout: Layout, store: Any) -> Any:
        return self.library.create(
            shape=layout.shape,
            chunks=layout.chunks,
            dtype=layout.dtype,
            compressor=self.codec(layout),
            store=store,
            fill_value=0,
        )


def numcodec(name: str) -> Any:
    """Return the codec of numcodecs; None for "raw"."""
    import numcodecs

    if name == "blosc":
        return numcodecs.Blosc(BLOSC["cname"], BLOSC["clevel"], numcodecs.Blosc.SHUFFLE)
    codecs = {"zstd": numcodecs.Zstd, "gzip": numcodecs.GZip}
    return codecs[name](level=LEVELS[name]) if name in codecs else None


def as_coroutine(read: Callable[[], Awaitable[Any]]) -> Callable[[], Any]:
    async def call() -> Any:
        return await read()

    return call


THREADS = os.cpu_count() or 1
PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (ZarrCore(), ZarrPython(), ZarrPythonFused(), Tensorstore(), Zarr2())
}
