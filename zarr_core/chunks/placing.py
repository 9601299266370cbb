"""A decoded chunk and where its parts belong: what is common to all ways of reading chunks."""

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np

from zarr_core.chunks.space import ChunkSpace, NDArray
from zarr_core.indexing.plan import FULL, Part, Plan
from zarr_core.storage.base import Value

DECODE_INTO_BYTES = 1 << 20
"""From this size on, decoding into the result saves more than it costs."""

Want: TypeAlias = tuple[Plan, NDArray, Any, Part]
"""A plan, the array of its shape that is filled, fields, and one part of it."""


def flipped(array: NDArray, plan: Plan) -> NDArray:
    """Return a view in which axes that the selection runs through backwards run forwards."""
    if not plan.flips:
        return array
    return array[
        tuple(slice(None, None, -1) if a in plan.flips else slice(None) for a in range(array.ndim))
    ]


def place(
    space: ChunkSpace, plan: Plan, out: NDArray, fields: Any, part: Part, data: Value | None
) -> None:
    """Decode a chunk and put the selected part of it where it belongs."""
    coords, _, into, cover = part
    where = plan.index(into) if plan.crossed else into
    if data is None:
        if not space.read_missing_chunks:
            raise space.missing_error(coords)
        if space.keep is not None:
            space.keep(coords, None)
        fill = space.fill_value
        out[(*where, ...)] = fill if fields is None else np.full((), fill, space.dtype)[fields]
        return
    chain = space.chain_for(coords)
    try:
        direct = cover == FULL and not plan.fancy and fields is None and space.keep is None
        if direct and chain.decode_into is not None:
            target = out[where]
            if (
                (chain.nbytes or 0) >= DECODE_INTO_BYTES
                and target.flags.c_contiguous
                and target.dtype == space.dtype
            ):
                chain.decode_into(data, target.reshape(-1).view(np.uint8))
                return
        chunk: NDArray = chain.decode(data)
    except Exception as error:
        raise space.decode_error(coords, data, error) from error
    if space.keep is not None:
        space.keep(coords, chunk)
    put_in(plan, out, fields, part, chunk)


def put_in(plan: Plan, out: NDArray, fields: Any, part: Part, chunk: NDArray) -> None:
    """Put the selected part of a decoded chunk where it belongs."""
    if fields is not None:
        chunk = chunk[fields]
    inside, into = part.chunk, part.out
    if plan.crossed:
        inside, into = plan.index(inside), plan.index(into)
    out[into] = chunk[inside]


def place_all(wants: Iterable[tuple[ChunkSpace, Want]], data: Value | None) -> None:
    """Decode a chunk, once for all of the same array, and put its parts where they belong."""
    decoded: dict[int, NDArray] = {}
    wanted = list(wants)
    for space, want in wanted:
        plan, out, fields, part = want
        if data is None or len(wanted) == 1:
            place(space, plan, out, fields, part, data)
            continue
        chain = space.chain_for(part.coords)
        chunk = decoded.get(id(chain))
        if chunk is None:
            try:
                chunk = decoded[id(chain)] = chain.decode(data)
            except Exception as error:
                raise space.decode_error(part.coords, data, error) from error
        put_in(plan, out, fields, part, chunk)


def kept(part: Part, plan: Plan, array: NDArray) -> tuple[tuple[Any, ...], NDArray, bool]:
    """Return a part's selection without ints, and the array it is for with the axes to match.

    The last value says whether the array is a view of `array`.
    """
    inside, into = part.chunk, part.out
    basic = not any(isinstance(o, np.ndarray) for o in into)
    # With an ellipsis the result is a view even where nothing else is selected.
    target = array[(*into, ...)] if basic else array[plan.index(into)]
    if plan.pointwise:
        return inside, target, basic
    axes = tuple(d for d, s in enumerate(inside) if isinstance(s, int))
    inside = tuple(slice(s, s + 1) if isinstance(s, int) else s for s in inside)
    return inside, np.expand_dims(target, axes) if axes else target, basic
