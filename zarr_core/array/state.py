"""What the handles of an array share, and what a call needs to know, computed once."""

import os
import sys
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from zarr_core.chunks.sharding import ShardingCodec
from zarr_core.chunks.space import ChunkSpace
from zarr_core.codecs import CodecChain, codecs_from_configs
from zarr_core.codecs.base import ChunkSpec
from zarr_core.codecs.checks import variable_limit
from zarr_core.codecs.objects import object_codec
from zarr_core.codecs.registry import registered_codecs
from zarr_core.codecs.v2 import V2FilterCodec
from zarr_core.config import ArrayConfig, BadConfigError
from zarr_core.errors import describe
from zarr_core.indexing.values import check_memory
from zarr_core.metadata import ArrayMetadata
from zarr_core.metadata.chunk_grids import Coords, Shape
from zarr_core.metadata.chunk_keys import ChunkKeyEncoding
from zarr_core.storage import StorePath


class SharedMetadata:
    """What all handles made from one share: the metadata they last saw, swapped whole."""

    __slots__ = ("__weakref__", "caches", "metadata", "on_change", "travelled")

    def __init__(self, metadata: ArrayMetadata) -> None:
        self.metadata: ArrayMetadata = metadata
        # Called with new metadata after it was stored; keeps consolidated copies true.
        self.on_change: Callable[[ArrayMetadata], None] | None = None
        # Was it unpickled in another process, so that others may write to the same chunks?
        self.travelled: bool = False
        self.caches: dict[int, Any] = {}
        """Caches of decoded chunks of its own, by size."""

    def cache(self, config: ArrayConfig) -> Any:
        """Return the `ChunkCache` that a handle with these options reads through."""
        from zarr_core.chunks.cache import ChunkCache  # only who wants one pays for it

        if config.chunk_cache is None:
            size = config.chunk_cache_bytes
            return self.caches.get(size) or self.caches.setdefault(size, ChunkCache(size))
        if not isinstance(config.chunk_cache, ChunkCache):
            raise BadConfigError(f"chunk_cache is a ChunkCache, not {describe(config.chunk_cache)}")
        return config.chunk_cache


class State(NamedTuple):
    """What a call needs to know, computed once per metadata and handle."""

    metadata: ArrayMetadata
    space: ChunkSpace
    shape: Shape
    order: Literal["C", "F"]  # of what is read
    one_chunk: Shape | None  # of a chunk, if a selection in one may take the short way


def make_chain(metadata: ArrayMetadata, config: ArrayConfig, shape: Shape) -> CodecChain:
    """Return the codec chain for chunks of one shape; raise `UnknownCodecError`."""
    fill = metadata.effective_fill
    sharding = metadata.sharding
    if sharding is None:  # a shard is not decoded as a whole
        check_memory("a chunk", shape, metadata.dtype)
    else:
        check_memory("a chunk", tuple(sharding.configuration["chunk_shape"]), metadata.dtype)
    spec = ChunkSpec(shape, metadata.data_type, metadata.dtype, fill)
    if any(codec.name == "sharding_indexed" for codec in metadata.chain):
        codecs = codecs_from_configs(metadata.chain)
        return CodecChain(
            [c.configured(config) if isinstance(c, ShardingCodec) else c for c in codecs], spec
        )
    # Chains do not change, and the arrays of a hierarchy have few different ones.
    value = fill.tobytes() if isinstance(fill, np.generic) else repr(fill)
    limit = variable_limit() if metadata.data_type.is_variable else 0
    codecs_text = repr(metadata.chain)
    pickles = config._allow_pickle
    key = (registered_codecs(), codecs_text, pickles, metadata.data_type, shape, value, limit)
    chain = _chains.get(key)
    if chain is None:
        codecs = codecs_from_configs(metadata.chain)
        if pickles:
            codecs = tuple(
                [
                    replace(c, allow_pickle=True) if isinstance(c, V2FilterCodec) else c
                    for c in codecs
                ]
            )
        chain = CodecChain(codecs, spec)
        if len(_chains) >= MAX_CHAINS:
            _chains.clear()
        _chains[key] = chain
    return chain


_chains: dict[Hashable, CodecChain] = {}
MAX_CHAINS = 256


def key_template(place: StorePath, metadata: ArrayMetadata) -> Callable[[Coords], str]:
    """Return the function from chunk coordinates to keys: a template, filled in by one C call."""
    keys = metadata.chunk_key_encoding
    if metadata.ndim == 0:
        key = place.key(keys.encode(()))
        return lambda coords: key
    if not isinstance(keys, ChunkKeyEncoding):
        return lambda coords: place.key(keys.encode(coords))
    numbers = keys.separator.join(["%d"] * metadata.ndim)
    return f"{_start(place, keys)}{numbers}".__mod__


def row_key_template(
    place: StorePath, metadata: ArrayMetadata
) -> Callable[[Sequence[Coords], Sequence[int]], list[str]]:
    """Return the function to the keys of rows; what all keys of a row begin with is made once."""
    keys = metadata.chunk_key_encoding
    if not isinstance(keys, ChunkKeyEncoding):
        return lambda starts, last: [
            place.key(keys.encode((*start, k))) for start in starts for k in last
        ]
    row = _start(place, keys) + f"%d{keys.separator}" * (metadata.ndim - 1)

    def row_keys(starts: Sequence[Coords], last: Sequence[int]) -> list[str]:
        ends = list(map(str, last))
        return [start + end for start in map(row.__mod__, starts) for end in ends]

    return row_keys


def _start(place: StorePath, keys: ChunkKeyEncoding) -> str:
    """Return what all keys of an array begin with, as part of a template."""
    path = f"{place.path}/".replace("%", "%%") if place.path else ""
    return f"{path}{keys.prefix}"


def make_state(
    place: StorePath,
    metadata: ArrayMetadata,
    config: ArrayConfig,
    *,
    travelled: bool = False,
    cache: Any = None,
) -> State:
    """Return the state of an array; raise `UnknownCodecError` and what codecs refuse."""
    store = place.store
    check = None
    if metadata.data_type.object_codec is not None:
        filters: Any = metadata.v2_filters
        check = object_codec(filters[0], allow_pickle=config._allow_pickle).check
    space = ChunkSpace(
        name=f"array '/{place.path}'",
        grid=metadata.chunk_grid,
        dtype=metadata.dtype,
        fill_value=metadata.effective_fill,
        make_chain=partial(make_chain, metadata, config),
        store=store,
        key=key_template(place, metadata),
        row_keys=row_key_template(place, metadata),
        lock_key=store.lock_key,
        write_empty_chunks=config.write_empty_chunks,
        read_missing_chunks=config.read_missing_chunks,
        check=check,
        lock_processes=("auto" if travelled else False) if config.lock is None else config.lock,
    )
    order = metadata.order if metadata.zarr_format == 2 else config.order
    one_chunk = space.one_chunk if metadata.dtype.names is None else None  # no fields to look for
    if cache is not None and metadata.dtype.kind != "O":  # who gets objects could change them
        space.cache = _cached_reads(cache, space, metadata)
        one_chunk = None  # the short way does not look into the cache
    return State(metadata, space, metadata.shape, order, one_chunk)


def _cached_reads(cache: Any, space: ChunkSpace, metadata: ArrayMetadata) -> Any:
    from zarr_core.chunks.cache import CachedReads

    grid = metadata.chunk_grid
    how = (metadata.chain, metadata.data_type, space.fill_value, grid.chunk_shape or grid)
    # What is not stored is kept as None, which is an error for some.
    kind = sys.intern(f"{how!r} {space.read_missing_chunks}")
    of_shards = all(grid.counts) and space.chain_for((0,) * len(grid.axes)).partial is not None
    return CachedReads(cache, space.store, kind, of_shards=of_shards)


_PROCESS = os.urandom(8).hex()
"""Tells processes of different machines apart."""


def this_process() -> tuple[int, str]:
    """Return what no other process has, forked ones included."""
    return os.getpid(), _PROCESS
