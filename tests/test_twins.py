"""Every operation that touches a store has an awaitable twin, and the twin is the same operation."""

import asyncio
import inspect
import threading
from typing import Any

import numpy as np
import pytest

import zarr_core as zarr
from zarr_core import api, state
from zarr_core.attributes import Attributes
from zarr_core.codecs import CodecChain
from zarr_core.storage import MemoryStore, WrapperStore
from zarr_core.views import BlockIndex, OIndex, VIndex

ARRAY = [
    "append",
    "delete_chunk",
    "get_basic_selection",
    "get_block_selection",
    "get_coordinate_selection",
    "get_mask_selection",
    "get_orthogonal_selection",
    "getitem",
    "info_complete",
    "nbytes_stored",
    "open",
    "read_chunk",
    "read_encoded_chunk",
    "refresh",
    "resize",
    "set_basic_selection",
    "set_block_selection",
    "set_coordinate_selection",
    "set_mask_selection",
    "set_orthogonal_selection",
    "setitem",
    "update_attributes",
    "write_chunk",
]
GROUP = [
    "array_keys",
    "array_values",
    "arrays",
    "consolidate",
    "create_array",
    "create_group",
    "create_hierarchy",
    "empty",
    "empty_like",
    "from_store",
    "full",
    "full_like",
    "get",
    "get_array",
    "get_group",
    "group_keys",
    "group_values",
    "groups",
    "info_complete",
    "keys",
    "members",
    "move",
    "nmembers",
    "ones",
    "ones_like",
    "open",
    "refresh",
    "require_array",
    "require_group",
    "require_groups",
    "tree",
    "update_attributes",
    "zeros",
    "zeros_like",
]
FUNCTIONS = [
    "array",
    "asarray",
    "consolidate_metadata",
    "copy",
    "copy_all",
    "copy_store",
    "create",
    "create_array",
    "create_group",
    "create_hierarchy",
    "empty",
    "empty_like",
    "from_array",
    "full",
    "full_like",
    "group",
    "load",
    "ones",
    "ones_like",
    "open",
    "open_array",
    "open_consolidated",
    "open_group",
    "open_like",
    "save",
    "save_array",
    "save_group",
    "tree",
    "zeros",
    "zeros_like",
]
OF_SPECIAL_METHODS = [
    (OIndex, "__getitem__"),
    (OIndex, "__setitem__"),
    (VIndex, "__getitem__"),
    (VIndex, "__setitem__"),
    (BlockIndex, "__getitem__"),
    (BlockIndex, "__setitem__"),
    (Attributes, "__setitem__"),
    (Attributes, "__delitem__"),
    (Attributes, "put"),
    (Attributes, "update"),
    (zarr.Group, "__getitem__"),
    (zarr.Group, "__setitem__"),
    (zarr.Group, "__delitem__"),
    (zarr.Group, "__contains__"),
    (zarr.Array, "_nchunks_initialized"),
]
PAIRS = [
    *((zarr.Array, name) for name in ARRAY),
    *((zarr.Group, name) for name in GROUP),
    *((zarr, name) for name in FUNCTIONS),
    *OF_SPECIAL_METHODS,
]


@pytest.mark.parametrize(("owner", "name"), PAIRS)
def test_twin_is_a_coroutine_function_with_the_same_parameters(owner: Any, name: str) -> None:
    sync = getattr(owner, name)
    twin = getattr(owner, f"{name.strip('_')}_async")
    assert inspect.iscoroutinefunction(twin)
    assert not inspect.iscoroutinefunction(sync)
    assert inspect.signature(twin) == inspect.signature(sync)
    assert twin.__name__ == f"{name.strip('_')}_async"


@pytest.mark.parametrize(
    ("owner", "expected"),
    # `Group.create` is another name of `create_array`
    [(zarr.Array, ARRAY), (zarr.Group, [*GROUP, "create"]), (zarr, FUNCTIONS)],
    ids=["Array", "Group", "module"],
)
def test_the_list_of_twins_is_complete(owner: Any, expected: list[str]) -> None:
    special = {name.strip("_") for kind, name in OF_SPECIAL_METHODS if kind is owner}
    found = {name.removesuffix("_async") for name in dir(owner) if name.endswith("_async")}
    assert found - special == set(expected) - special


def test_functions_of_the_module_are_those_of_the_api() -> None:
    for name in FUNCTIONS:
        assert getattr(zarr, name) is getattr(api, name, getattr(zarr, name))


@pytest.fixture
def array() -> zarr.Array:
    made = zarr.create_array({}, shape=(4, 4), chunks=(2, 2), dtype="int32")
    made[:] = np.arange(16).reshape(4, 4)
    return made


SELECTIONS = {
    "basic": (slice(1, 4), 2),
    "orthogonal": ([0, 2], [1, 3]),
    "coordinate": ([0, 2, 3], [1, 3, 3]),
    "mask": np.arange(16).reshape(4, 4) % 3 == 0,
    "block": (slice(0, 2), 1),
}


@pytest.mark.parametrize("kind", SELECTIONS)
def test_selections_awaited_are_those_of_the_method(array: zarr.Array, kind: str) -> None:
    selection = SELECTIONS[kind]
    expected = getattr(array, f"get_{kind}_selection")(selection)
    found = asyncio.run(getattr(array, f"get_{kind}_selection_async")(selection))
    assert np.array_equal(found, expected)
    asyncio.run(getattr(array, f"set_{kind}_selection_async")(selection, -1))
    assert (getattr(array, f"get_{kind}_selection")(selection) == -1).all()


def test_views_awaited(array: zarr.Array) -> None:
    async def main() -> None:
        assert np.array_equal(await array.oindex.getitem_async(([0, 3],)), array[[0, 3], :])
        assert np.array_equal(await array.vindex.getitem_async(([0, 3], [1, 1])), [1, 13])
        assert np.array_equal(await array.blocks.getitem_async((0, 0)), array[:2, :2])
        await array.oindex.setitem_async(([0, 3], slice(None)), 7)
        await array.vindex.setitem_async(([1], [1]), 8)
        await array.blocks.setitem_async((1, 1), 9)

    asyncio.run(main())
    assert (array[0] == 7).all()
    assert array[1, 1] == 8
    assert (array[2:, 2:] == 9).all()


def test_out_and_fields_reach_the_method(array: zarr.Array) -> None:
    out = np.zeros((2, 4), "int32")
    result = asyncio.run(array.getitem_async(slice(1, 3), out=out))
    assert result is out
    assert np.array_equal(out, array[1:3])
    pairs = zarr.create_array({}, shape=(3,), chunks=(2,), dtype=[("x", "i4"), ("y", "f8")])
    asyncio.run(pairs.setitem_async(..., 5, fields="y"))
    assert (pairs["y"] == 5).all()
    assert (pairs["x"] == 0).all()


@pytest.mark.parametrize("awaited", [False, True])
def test_views_and_copies_taken_before_a_resize_see_it(array: zarr.Array, awaited: bool) -> None:
    oindex, attrs = array.oindex, array.attrs
    other = array.with_config({"order": "F"})
    if awaited:
        asyncio.run(array.resize_async((6, 4)))
        asyncio.run(array.update_attributes_async({"a": 1}))
    else:
        array.resize((6, 4))
        array.update_attributes({"a": 1})
    assert other.shape == array.shape == (6, 4)
    assert oindex[[5]].shape == (1, 4)
    assert dict(attrs) == dict(other.attrs) == {"a": 1}
    other.resize((2, 2))
    assert array[:].shape == asyncio.run(array.getitem_async(...)).shape == (2, 2)


class PausingStore(MemoryStore):
    """Lets a test do something while a read is under way."""

    def __init__(self) -> None:
        super().__init__({})
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def get(self, key: str, byte_range: Any = None) -> Any:
        if "c/" in key and not self.go_on.is_set():
            self.entered.set()
            assert self.go_on.wait(30)
        return super().get(key, byte_range)


def test_a_call_in_flight_keeps_one_snapshot() -> None:
    store = PausingStore()
    array = zarr.create_array(store, shape=(8,), chunks=(4,), dtype="int32")
    array[:] = 1
    store.go_on.clear()

    async def main() -> np.ndarray[Any, Any]:
        read = asyncio.create_task(array.getitem_async(...))
        await asyncio.to_thread(store.entered.wait, 30)
        await asyncio.to_thread(array.resize, (12,))
        store.go_on.set()
        return await read

    found = asyncio.run(main())
    assert found.shape == (8,)
    assert array.shape == (12,)


def test_the_codec_chain_is_built_once_per_open(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []

    def counting(*args: Any) -> CodecChain:
        built.append(args)
        return CodecChain(*args)

    monkeypatch.setattr(state, "CodecChain", counting)
    monkeypatch.setattr(state, "_chains", {})
    stored: dict[str, bytes] = {}
    array = zarr.create_array(stored, shape=(8,), chunks=(4,), dtype="int32")
    array[:] = 1
    assert array[:].sum() == 8
    asyncio.run(array.getitem_async(...))
    assert len(built) == 1
    monkeypatch.setattr(state, "_chains", {})
    opened = zarr.open_array(stored)
    for _ in range(3):
        opened[2:7] = 3
        opened.oindex[[1, 2]]
        asyncio.run(opened.getitem_async(...))
    assert len(built) == 2


class LoopBoundStore(WrapperStore):
    """Belongs to the first event loop that drives it, as clients of asynchronous libraries do."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.loop: Any = None

    def get(self, key: str, byte_range: Any = None) -> Any:
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            return super().get(key, byte_range)
        if self.loop is None:
            self.loop = running
        if self.loop is not running:
            raise RuntimeError("attached to a different loop")
        return super().get(key, byte_range)


def test_a_store_bound_to_a_loop_is_never_driven_by_one() -> None:
    store = LoopBoundStore(MemoryStore({}))
    array = zarr.create_array(store, shape=(4,), chunks=(2,), dtype="int32")
    array[:] = 1

    async def read() -> int:
        return int((await array.getitem_async(...)).sum())

    assert asyncio.run(read()) == 4
    assert asyncio.run(read()) == 4
    assert store.loop is None


def test_two_loops_in_two_threads_share_an_array(array: zarr.Array) -> None:
    results: list[bool] = []

    async def many() -> None:
        found = await asyncio.gather(*(array.getitem_async(i % 4) for i in range(50)))
        results.append(all(np.array_equal(row, array[i % 4]) for i, row in enumerate(found)))

    threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True, True]


def test_trio(array: zarr.Array) -> None:
    import trio

    async def main() -> Any:
        await array.setitem_async(0, 3)
        return await array.getitem_async(0)

    assert (trio.run(main) == 3).all()


def test_lazy_iterators_are_tuples_when_awaited() -> None:
    group = zarr.create_group({})
    group.create_array("a", shape=(1,), dtype="i4")
    group.create_group("b")
    assert asyncio.run(group.keys_async()) == ("a", "b")
    assert [name for name, _ in asyncio.run(group.arrays_async())] == ["a"]
    assert asyncio.run(group.group_keys_async()) == ("b",)


def test_functions_awaited(tmp_path: Any) -> None:
    async def main() -> None:
        made = await zarr.create_array_async(tmp_path / "a", shape=(4,), chunks=(2,), dtype="i4")
        await made.setitem_async(..., [1, 2, 3, 4])
        opened = await zarr.open_array_async(tmp_path / "a", mode="r")
        assert (await opened.getitem_async(...)).tolist() == [1, 2, 3, 4]
        assert await opened.nchunks_initialized_async() == 2
        assert await made.append_async([5]) == (5,)
        await zarr.save_async(tmp_path / "s", np.arange(3))
        assert (await zarr.load_async(tmp_path / "s")).tolist() == [0, 1, 2]
        with pytest.raises(zarr.errors.ArrayNotFoundError):
            await zarr.open_array_async(tmp_path / "none", mode="r")

    asyncio.run(main())
