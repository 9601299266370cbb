"""How fast an array is read, and how fast it would be with other codecs."""

import math
import time
from typing import Any, NamedTuple

from zarr_core.array.array import Array
from zarr_core.array.create import create_array
from zarr_core.codecs import BloscCodec, GzipCodec, ZstdCodec
from zarr_core.storage import MemoryStore

TRIAL_BYTES = 16 << 20
"""So much of an array is encoded with other codecs."""
REPEATS = 3
MOST_BYTES = 256 << 20
"""A larger selection is not read as a whole."""


class Trial(NamedTuple):
    """Chunks of an array with other codecs."""

    codecs: str
    ratio: float
    """Bytes in memory for each byte that is stored."""
    mb_per_second: float
    """Megabytes in memory that are decoded in a second, with all threads."""


def trials(array: Array) -> list[Trial]:
    """Encode some chunks of an array with its codecs and with others, in memory, and read them.

    Nothing for elements that are no numbers, bools or times, and for chunks of different shapes.
    """
    if (
        array.dtype.kind not in "biufcmM"
        or not array.size
        or not array.metadata.chunk_grid.chunk_shape
    ):
        return []
    part = array[_sample(array)]
    itemsize = max(1, array.dtype.itemsize)
    others: dict[str, Any] = {
        "as stored": {"filters": array.filters, "compressors": array.compressors},
        "zstd": {"compressors": ZstdCodec()},
        "blosc lz4, shuffled": {
            "compressors": BloscCodec(cname="lz4", shuffle="shuffle", typesize=itemsize)
        },
        "blosc zstd, shuffled": {
            "compressors": BloscCodec(cname="zstd", shuffle="shuffle", typesize=itemsize)
        },
        "gzip": {"compressors": GzipCodec()},
        "none": {"compressors": None},
    }
    if array.metadata.zarr_format == 3:
        others["as stored"]["serializer"] = array.serializer
    chunks = tuple(map(min, array.chunks, part.shape))
    copies = {}
    for name, codecs in others.items():
        zarr_format = array.metadata.zarr_format if name == "as stored" else 3
        copies[name] = create_array(
            MemoryStore(), data=part, chunks=chunks, zarr_format=zarr_format, **codecs
        )
    best = dict.fromkeys(copies, math.inf)
    for _ in range(REPEATS):  # in turns, so that none is alone when the machine is busy
        for name, copy in copies.items():
            best[name] = min(best[name], seconds_of(copy, ...))
    return [
        Trial(name, part.nbytes / copy.nbytes_stored(), part.nbytes / best[name] / 1e6)
        for name, copy in copies.items()
    ]


def seconds_of(array: Array, selection: Any) -> float:
    """Return how long reading a selection takes."""
    start = time.perf_counter()
    array.getitem(selection)
    return time.perf_counter() - start


def _sample(array: Array) -> tuple[slice, ...]:
    """Return whole chunks from the middle of an array, of about as many bytes as a trial takes."""
    lengths = list(map(min, array.chunks, array.shape))
    for axis in reversed(range(array.ndim)):
        room = TRIAL_BYTES // max(1, math.prod(lengths) * array.dtype.itemsize)
        lengths[axis] = min(array.shape[axis], lengths[axis] * max(1, room))
    chunks, shape = array.chunks, array.shape
    starts = [
        (size - length) // 2 // chunk * chunk
        for size, length, chunk in zip(shape, lengths, chunks, strict=True)
    ]
    return tuple(slice(start, start + n) for start, n in zip(starts, lengths, strict=True))
