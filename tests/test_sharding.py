"""Shards: equal to arrays without them, few requests, damaged indexes, threads."""

import os
import struct
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_core
from zarr_core.chunk_space import ChunkSpace
from zarr_core.codecs import (
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)
from zarr_core.errors import ChunkDecodeError, MetadataValidationError
from zarr_core.sharding import IndexCache, merge_ranges, morton_order
from zarr_core.storage import LatencyStore, LocalStore, MemoryStore
from zarr_core.storage.base import RangeByteRequest, SuffixByteRequest, ValueSnapshot

from strategies import picked, selections

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
MISSING = 2**64 - 1


class CountingStore(MemoryStore):
    """A store that reads ranges and lists every request for a chunk."""

    def __init__(self, high_latency: bool = False) -> None:
        super().__init__()
        self.high_latency = high_latency
        self.calls: list[Any] = []

    def get(self, key: str, byte_range: Any = None) -> Any:
        self.calls.append(("get", key))
        return super().get(key, byte_range)

    def open_value(self, key: str) -> Any:
        value = super().get(key)
        return None if value is None else CountingValue(self.calls, value)

    def set(self, key: str, value: Any) -> None:
        self.calls.append(("set", key))
        super().set(key, value)

    def delete(self, key: str) -> None:
        self.calls.append(("delete", key))
        super().delete(key)


class CountingValue(ValueSnapshot):
    """A value of which every part that is read is listed; not known to be in memory."""

    __class__ = object  # type: ignore[assignment]

    def __init__(self, calls: list[Any], value: Any) -> None:
        super().__init__(value)
        self.calls = calls

    def read(self, byte_range: Any = None) -> Any:
        self.calls.append(byte_range)
        return super().read(byte_range)


def create(store: Any = None, **options: Any) -> zarr_core.Array:
    defaults: dict[str, Any] = {
        "shape": (8, 8),
        "chunks": (2, 2),
        "shards": (4, 4),
        "dtype": "int32",
        "compressors": None,
    }
    return zarr_core.create_array({} if store is None else store, **{**defaults, **options})


def counted(**options: Any) -> tuple[CountingStore, zarr_core.Array]:
    store = CountingStore()
    array = create(store, **options)
    array[...] = np.arange(1, array.size + 1).reshape(array.shape)
    store.calls.clear()
    return store, array
