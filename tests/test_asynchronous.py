"""`AsyncArray` and `AsyncGroup`: zarr-python's awaitable names lead to the twins."""

import asyncio
import inspect
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_core as zarr


def run(main: Any) -> Any:
    return asyncio.run(main)


def test_an_array_is_awaited(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path, data=np.arange(12).reshape(3, 4), chunks=(2, 2))

    async def program() -> None:
        found = array._async_array
        assert found == array.async_array
        assert (await found.getitem((0, slice(2)))).tolist() == [0, 1]
        await found.setitem((0, 0), 9)
        assert (await found.oindex.getitem(([0, 2], 0))).tolist() == [9, 8]
        assert (await found.vindex.getitem(([0, 2], [1, 1]))).tolist() == [1, 9]
        assert (await found.blocks.getitem((1, 1))).tolist() == [[10, 11]]
        await found.vindex.setitem(([1], [1]), 7)
        assert await found.append(np.zeros((1, 4), int)) == (4, 4)
        assert (await found.update_attributes({"a": 1})).attrs == {"a": 1}
        assert await found.nchunks_initialized() == 4
        assert (await found.info_complete())._count_bytes_stored > 0

    run(program())
    assert array[1, 1] == 7
    assert array.async_array.shape == (4, 4)
    assert array.async_array.metadata is array.metadata
    assert hasattr(zarr.AsyncArray, "oindex")
    assert pickle.loads(pickle.dumps(array.async_array)) == array.async_array
    assert repr(array.async_array).startswith("<AsyncArray ")
    with pytest.raises(AttributeError):
        array.async_array.nothing


def test_the_awaited_classes_are_real_ones(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "a", data=np.arange(4))
    group = zarr.open_group(tmp_path / "g")
    assert inspect.iscoroutinefunction(zarr.AsyncArray.getitem)
    assert inspect.isasyncgenfunction(zarr.AsyncGroup.members)
    assert list(inspect.signature(zarr.AsyncArray.getitem).parameters) == [
        *inspect.signature(zarr.Array.getitem).parameters
    ]
    assert {"append", "attrs", "getitem", "open", "resize", "vindex"} <= set(dir(zarr.AsyncArray))
    assert {"attrs", "create_array", "from_store", "open"} <= set(dir(zarr.AsyncGroup))
    for public in dir(zarr.Array):
        assert public.startswith("_") or hasattr(zarr.AsyncArray, public.removesuffix("_async"))

    async def program() -> None:
        opened = await zarr.AsyncArray.open(tmp_path / "a")
        assert opened == array.async_array
        assert zarr.AsyncArray(metadata=array.metadata, store_path=array.store_path) == opened
        assert zarr.AsyncArray.from_dict(array.store_path, array.metadata.to_dict()) == opened
        assert await zarr.AsyncGroup.open(tmp_path / "g") == zarr.AsyncGroup(group)
        made = await zarr.AsyncGroup.from_store({}, attributes={"b": 2})
        assert zarr.AsyncGroup(made.metadata, made.store_path).attrs == {"b": 2}
        assert zarr.Array(opened) == array
        assert zarr.Group(zarr.AsyncGroup(group)) == group

    run(program())
    with pytest.raises(TypeError, match="needs a store"):
        zarr.Array(array.metadata)
    with pytest.raises(TypeError, match="needs a store"):
        zarr.Group(group.metadata)


def test_a_group_is_awaited() -> None:
    group = zarr.AsyncGroup(zarr.create_group({}, attributes={"n": 1}))

    async def program() -> None:
        array = await group.create_array("x", shape=3, dtype="i1")
        assert isinstance(array, zarr.AsyncArray)
        child = await group.create_group("g")
        assert isinstance(child, zarr.AsyncGroup)
        assert await group.getitem("g") == child
        assert [name async for name in group.keys()] == ["g", "x"]  # noqa: SIM118
        assert [pair async for pair in group.members()] == [("g", child), ("x", array)]
        assert [found async for found in group.array_values()] == [array]
        assert await group.nmembers() == 2
        assert await group.contains("x")
        assert isinstance(await group.require_groups("g", "h"), tuple)
        await group.delitem("x")
        assert await group.get("x", 5) == 5

    run(program())
    assert group.attrs == {"n": 1}
    assert group.path == ""
    assert group != zarr.AsyncGroup(zarr.create_group({}))
