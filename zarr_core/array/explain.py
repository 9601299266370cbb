"""`Array.explain`: what reading a selection costs, measured on some of its chunks."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, final

from zarr_core.array.handle import Handle
from zarr_core.hierarchy.info import Table, human_bytes
from zarr_core.indexing.plan import OuterPlan, Part, Plan
from zarr_core.indexing.selection import plan_coordinates, plan_orthogonal, plan_selection
from zarr_core.indexing.values import field_dtype, with_fields
from zarr_core.metadata.chunk_grids import ChunkGrid, Shape
from zarr_core.threads.trace import Trace, noting

SAMPLES = 32
"""So many stored chunks are read at most, spread over the selection."""
SAMPLE_BYTES = 64 << 20
"""No more of them once so much was decoded."""
MUCH = 4.0
"""What is decoded beyond this many times what is used is worth words."""
SMALL_REQUEST = 64 << 10
"""Requests of fewer bytes spend their time on the way."""
GOOD_CHUNK = 1 << 20
"""A chunk of so many bytes is neither small nor large."""


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class Explanation(Table):
    """What reading a selection costs; see `Array.explain`."""

    shape: Shape
    """Shape of the result."""
    chunks: int
    """Chunks (inner ones of shards) that are selected from; those that are not stored are not decoded."""
    stored_chunks: int
    """Keys (of chunks or shards) that are looked at."""
    missing: int
    """Those of them that are not stored."""
    requests: int
    """Requests to the store."""
    bytes_stored: int
    """Encoded bytes that are fetched."""
    bytes_decoded: int
    """Bytes of these chunks in memory; of elements of variable length the references."""
    bytes_used: int
    """Bytes of the result."""
    cache_saves: int
    """Encoded bytes of these that calls like this one fetch again when they go on to read the rest
    of the same chunks, and that a `CacheStore` would save."""
    measured: int
    """Stored chunks that were read to find out; the other numbers are exact if these are all."""
    seconds_requests: float
    """Seconds that the requests for these took, added up."""
    seconds_decoding: float
    """Seconds that decoding these took, added up."""
    advice: str
    """One sentence."""

    @property
    def amplification(self) -> float:
        """How many times as much is decoded as is used."""
        return self.bytes_decoded / self.bytes_used if self.bytes_used else 0.0

    def _rows(self) -> list[tuple[str, object]]:
        about = "" if self.measured == self.stored_chunks else "about "
        return [
            ("Result", f"{self.shape}, {human_bytes(self.bytes_used)} bytes"),
            ("Chunks", self.chunks),
            ("Stored chunks", f"{self.stored_chunks} ({about}{self.missing} not stored)"),
            ("Requests", f"{about}{self.requests}"),
            ("Bytes stored", f"{about}{human_bytes(self.bytes_stored)}"),
            ("Bytes decoded", human_bytes(self.bytes_decoded)),
            ("Decoded / used", f"{self.amplification:.3g}"),
            ("A cache saves", f"{about}{human_bytes(self.cache_saves)} bytes in each such call"),
            ("Measured", f"{self.measured} stored chunks"),
            ("Requests took", f"{self.seconds_requests:.3g} s"),
            ("Decoding took", f"{self.seconds_decoding:.3g} s"),
            ("Advice", self.advice),
        ]


def explain(array: Handle, selection: Any) -> Explanation:
    """Return what reading a selection costs; see `Array.explain`."""
    state = array._current()
    grid, space = state.metadata.chunk_grid, state.space
    chosen, fields = with_fields(selection, None)
    plan = plan_selection(chosen, grid)
    dtype, inner_shape = field_dtype(space.dtype, fields)
    shape = plan.result_shape + inner_shape
    chunks, bytes_decoded = _decoded(array, plan, chosen)
    samples: list[Part] = []
    missing = 0
    found = Trace()
    for part in _spread(plan):
        with noting(found):
            before = len(found.rows)
            make_plan = plan_coordinates if plan.pointwise else plan_orthogonal
            array._get(make_plan, _in_array(part, grid))
        missing += not any(row.nbytes for row in found.rows[before:] if row.is_request)
        samples.append(part)
        if (
            sum(math.prod(grid.stored_shape(p.coords)) for p in samples) * (space.dtype.itemsize)
            >= SAMPLE_BYTES
        ):
            break
    scale = plan.nparts / len(samples) if samples else 0.0
    requests = [row for row in found.rows if row.is_request]
    bytes_used = math.prod(shape) * dtype.itemsize
    bytes_stored = round(scale * sum(row.nbytes for row in requests))
    missing = round(scale * missing)
    unused = 1 - min(1.0, bytes_used / bytes_decoded) if bytes_decoded else 0.0
    n_requests = round(scale * len(requests))
    return Explanation(
        shape=shape,
        chunks=chunks,
        stored_chunks=plan.nparts,
        missing=missing,
        requests=n_requests,
        bytes_stored=bytes_stored,
        bytes_decoded=bytes_decoded,
        bytes_used=bytes_used,
        cache_saves=round(unused * bytes_stored),
        measured=len(samples),
        seconds_requests=sum(row.seconds for row in requests),
        seconds_decoding=sum(row.seconds for row in found.rows if not row.is_request),
        advice=_advice(array, plan, missing, n_requests, bytes_stored, bytes_decoded, bytes_used),
    )


def _decoded(array: Handle, plan: Plan, selection: Any) -> tuple[int, int]:
    """Return how many chunks, and bytes, are decoded; inner chunks of shards one by one."""
    metadata, itemsize = array.metadata, array.dtype.itemsize
    if metadata.chunk_grid.chunk_shape is None:  # rectilinear: each has its own size
        stored = metadata.chunk_grid.stored_shape
        sizes = [math.prod(stored(part.coords)) for part in plan.parts()]
        return len(sizes), sum(sizes) * itemsize
    inner = ChunkGrid.regular(metadata.shape, metadata.chunks)
    chunks = plan_selection(selection, inner).nparts
    return chunks, chunks * math.prod(metadata.chunks) * itemsize


def _spread(plan: Plan) -> Iterator[Part]:
    """Return parts from all over a plan, or from the beginning of one that is very long."""
    few = min(plan.nparts, 100 * SAMPLES)
    return islice(plan.parts(), 0, few, max(1, -(-few // SAMPLES)))


def _in_array(part: Part, grid: ChunkGrid) -> tuple[Any, ...]:
    """Return the selection in the array of a part of a chunk."""
    selection: list[Any] = []
    for axis, k, inside in zip(grid.axes, part.coords, part.chunk, strict=True):
        start = axis.start(k)
        if isinstance(inside, slice):
            selection.append(slice(start + inside.start, start + inside.stop, inside.step))
        else:
            selection.append(start + inside)
    return tuple(selection)


def _advice(
    array: Handle,
    plan: Plan,
    missing: int,
    requests: int,
    bytes_stored: int,
    bytes_decoded: int,
    bytes_used: int,
) -> str:
    """Return the sentence about what is worst."""
    if not bytes_used:
        return "Nothing is selected."
    if missing == plan.nparts:
        return (
            "Nothing of this is stored: it is the fill value, which costs a request for each chunk."
        )
    if bytes_decoded > MUCH * bytes_used:
        times = f"Of what is decoded 1 in {bytes_decoded / bytes_used:.0f} bytes is used"
        better = _better_chunks(array, plan)
        if better is not None:
            return f"{times}: for selections like this chunks of {better} are better."
        return f"{times}: read more of each chunk at once, or put a CacheStore around the store."
    slow = array._current().space.store.high_latency
    if slow and requests > 100 and bytes_stored / requests < SMALL_REQUEST:
        each = human_bytes(round(bytes_stored / requests))
        return f"Requests are small, {each} bytes on average: larger chunks or shards need fewer."
    if plan.nparts == 1 and bytes_decoded > 16 * GOOD_CHUNK and array.metadata.sharding is None:
        return "One large chunk is decoded by one thread: smaller ones would be by several."
    return "What is decoded is used: nothing to gain from other chunks."


def _better_chunks(array: Handle, plan: Plan) -> Shape | None:
    """Return a shape of chunks that suits an outer selection; None for points, or if there is none."""
    if not isinstance(plan, OuterPlan) or array.metadata.chunk_grid.chunk_shape is None:
        return None
    lengths = iter(plan.shape)
    selected = [1 if entries[0].out is None else next(lengths) for entries in plan.entries]
    current = array.metadata.chunks
    better = list(map(min, selected, current))
    for axis, (wanted, length) in enumerate(zip(selected, array.shape, strict=True)):
        room = GOOD_CHUNK // (math.prod(better) * max(1, array.dtype.itemsize))
        if room > 1:
            better[axis] = min(wanted, length, better[axis] * room)
    # What is less than a request is worth is no chunk: more of its neighbours come along.
    while 2 * math.prod(better) * array.dtype.itemsize <= SMALL_REQUEST:
        shorter = [axis for axis, length in enumerate(array.shape) if better[axis] < length]
        if not shorter:
            break
        axis = min(shorter, key=better.__getitem__)
        better[axis] = min(2 * better[axis], array.shape[axis])
    return None if tuple(better) == current else tuple(better)
