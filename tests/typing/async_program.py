# pyright: strict
"""A user's program with await: each twin has its synchronous form's parameters and result."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, assert_type

import numpy as np

import zarr_core as zarr


async def write(place: str) -> zarr.Array:
    array = await zarr.create_array_async(place, shape=(100,), dtype="int64", chunks=(10,))
    assert_type(array, zarr.Array)
    assert_type(await array.setitem_async(slice(0, 10), np.arange(10)), None)
    assert_type(await array.resize_async((200,)), None)
    assert_type(await array.append_async([1, 2, 3]), tuple[int, ...])
    assert_type(await array.nchunks_initialized_async(), int)
    assert_type(await array.update_attributes_async({"a": 1}), zarr.Array)
    return array


async def read(place: str) -> None:
    array = await zarr.open_array_async(place, mode="r")
    assert_type(array, zarr.Array)
    assert_type(await array.getitem_async(...), Any)
    assert_type(await zarr.Array.open_async(place), zarr.Array)
    assert_type(await zarr.open_async(place), zarr.Array | zarr.Group)
    assert_type(await zarr.open_group_async(place, mode="r"), zarr.Group)

    # A coroutine, not only something to await: it can become a task.
    task: asyncio.Task[None] = asyncio.create_task(array.resize_async((5,)))
    await task
    shapes: list[tuple[int, ...]] = await asyncio.gather(
        *(array.append_async([number], axis=0) for number in range(3))
    )
    assert len(shapes) == 3

    resize: Callable[[tuple[int, ...]], Coroutine[Any, Any, None]] = array.resize_async
    await resize((3,))
