"""The awaitable twins of arrays, groups, views, attributes and functions: complete, same, shared."""

import asyncio
import importlib
import inspect
import pickle
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
import trio
from running import at_once

import zarr_core as zarr
from zarr_core.array import state
from zarr_core.array.batch import Batch
from zarr_core.array.views import IndexView
from zarr_core.codecs import CodecChain
from zarr_core.hierarchy.node import Attributes
from zarr_core.storage import (
    ByteRequest,
    LatencyStore,
    LoggingStore,
    MemoryStore,
    Value,
    WrapperStore,
    Writable,
)

Main = Callable[[], Coroutine[Any, Any, Any]]

every_loop = pytest.mark.parametrize(
    "run", [lambda main: asyncio.run(main()), trio.run], ids=["asyncio", "trio"]
)

ARRAY = [
    "append",
    "delete_chunk",
    "explain",
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
    "to_references",
    "update_attributes",
    "write_chunk",
]
"""Methods of arrays that touch the store."""

WITHOUT_IO = {
    *("batch", "blocks", "chunk_parts", "decode_chunk", "encode_chunk", "from_dict", "oindex"),
    *("vindex", "with_config"),
}
"""What arrays have that does not touch the store, properties apart."""

ITEMS = {
    IndexView: ["getitem", "setitem"],
}
ATTRIBUTES = ["delitem", "put", "setitem", "update"]

CONSTRUCTORS = [
    "array", "asarray", "create", "create_array", "empty", "empty_like", "from_array", "full", "full_like",
    "ones", "ones_like", "open_array", "open_like", "zeros", "zeros_like",
]  # fmt: skip


def new(**options: Any) -> zarr.Array:
    given = {
        "store": {},
        "shape": (4, 4),
        "chunks": (2, 2),
        "dtype": "i4",
        "compressors": None,
        **options,
    }
    return zarr.create_array(**given)


# --- every method has one, and it is the same --------------------------------------------------------


def test_the_list_of_twins_of_arrays_is_complete() -> None:
    public = {name for name in dir(zarr.Array) if not name.startswith("_")}
    twins = {name.removesuffix("_async") for name in public if name.endswith("_async")}
    assert twins == {*ARRAY, "nchunks_initialized"}
    methods = {
        name
        for name in public
        if not name.endswith("_async") and callable(getattr(zarr.Array, name))
    }
    assert methods - set(ARRAY) <= WITHOUT_IO


def pairs() -> list[tuple[str, Any, Any]]:
    """Return name, method and twin of everything that has a twin."""
    found = [
        (f"Array.{n}", getattr(zarr.Array, n), getattr(zarr.Array, f"{n}_async")) for n in ARRAY
    ]
    for kind, names in {
        **ITEMS,
        Attributes: ATTRIBUTES,
        Batch: ["flush", "getitem", "setitem"],
    }.items():
        for name in names:
            method = (
                getattr(kind, f"__{name}__", None) if kind is not Batch else getattr(kind, name)
            )
            method = method or getattr(kind, name)
            found.append((f"{kind.__name__}.{name}", method, getattr(kind, f"{name}_async")))
    found += [(name, getattr(zarr, name), getattr(zarr, f"{name}_async")) for name in CONSTRUCTORS]
    for name in dir(zarr.Group):
        if name.endswith("_async"):
            plain = name.removesuffix("_async")
            method = getattr(zarr.Group, plain, None) or getattr(zarr.Group, f"__{plain}__")
            found.append((f"Group.{plain}", method, getattr(zarr.Group, name)))
    return found


@pytest.mark.parametrize(("name", "method", "twin"), pairs(), ids=[name for name, _, _ in pairs()])
def test_a_twin_is_a_coroutine_function_with_the_same_parameters(
    name: str, method: Any, twin: Any
) -> None:
    assert inspect.iscoroutinefunction(twin)
    assert inspect.signature(twin) == inspect.signature(method)
    assert twin.__name__.endswith("_async")
    assert "worker thread" in twin.__doc__
    assert pickle.loads(pickle.dumps(twin)) is twin


def test_items_take_what_selections_take() -> None:
    for name in ("getitem_async", "get_basic_selection_async", "get_mask_selection_async"):
        parameters = inspect.signature(getattr(zarr.Array, name)).parameters
        assert {"out", "fields", "prototype"} <= parameters.keys()
    for name in ("setitem_async", "set_basic_selection_async"):
        assert {"fields", "prototype"} <= inspect.signature(
            getattr(zarr.Array, name)
        ).parameters.keys()


def test_every_twin_at_the_top_is_one_of_a_function() -> None:
    for name in zarr.__all__:
        if name.endswith("_async"):
            assert callable(getattr(zarr, name.removesuffix("_async")))
            assert inspect.iscoroutinefunction(getattr(zarr, name))


def test_stores_have_no_twins() -> None:
    storage = importlib.import_module("zarr_core.storage")
    for name in storage.__all__:
        kind = getattr(storage, name)
        if isinstance(kind, type):
            methods = ("get", "set", "delete", "exists", "list_prefix", "get_many", "clear")
            assert not any(hasattr(kind, f"{method}_async") for method in methods), name


# --- the same results --------------------------------------------------------------------------------

MASK = np.eye(4, dtype=bool)
SELECTIONS = [
    ("getitem", (slice(1, 3), 2)),
    ("getitem", ([0, 3], [1, 1])),
    ("get_basic_selection", (slice(None, None, -1), 0)),
    ("get_orthogonal_selection", ([3, 0], slice(1, 3))),
    ("get_coordinate_selection", ([3, 0], [1, 1])),
    ("get_mask_selection", MASK),
    ("get_block_selection", (slice(0, 2), 1)),
]


@every_loop
@pytest.mark.parametrize("slow", [False, True])
def test_twins_of_arrays_do_what_the_methods_do(run: Callable[[Main], Any], slow: bool) -> None:
    store = MemoryStore()
    a = new(store=LatencyStore(store) if slow else store)
    a[:] = np.arange(16).reshape(4, 4)

    async def program() -> None:
        for name, index in SELECTIONS:
            expected = getattr(a, name)(index)
            twin = getattr(a, f"{name}_async")
            found = await twin(index)
            np.testing.assert_array_equal(found, expected)
            assert type(found) is type(expected)
            out = np.empty_like(expected)
            assert await twin(index, out=out) is out
            np.testing.assert_array_equal(out, expected)
            with pytest.raises(ValueError, match="out has shape"):
                await twin(index, out=np.empty(99, "i4"))
        assert (await a.getitem_async(0)).shape == (4,)
        assert (await a.getitem_async((0, 1))).shape == ()
        assert type(await a.getitem_async((..., 0, 1))) is np.int32
        setters = [
            ("setitem", (slice(1, 3), 2)),
            ("set_basic_selection", slice(0, 1)),
            ("set_orthogonal_selection", ([3, 0], [1])),
            ("set_coordinate_selection", ([3, 0], [1, 1])),
            ("set_mask_selection", MASK),
            ("set_block_selection", (0, 1)),
        ]
        for number, (name, index) in enumerate(setters):
            before = a[...]
            await getattr(a, f"{name}_async")(index, -number - 1)
            after = a[...]
            assert (before != after).any()
            getattr(a, name)(index, -number - 1)
            np.testing.assert_array_equal(a[...], after)
            with pytest.raises(ValueError, match="broadcast"):
                await getattr(a, f"{name}_async")(index, np.ones((3, 9, 9)))
        np.testing.assert_array_equal(await a.oindex.getitem_async(([0], [1])), a.oindex[[0], [1]])
        np.testing.assert_array_equal(await a.vindex.getitem_async(([0], [1])), a.vindex[[0], [1]])
        np.testing.assert_array_equal(await a.blocks.getitem_async((0, 1)), a.blocks[0, 1])
        await a.oindex.setitem_async(([0], [1]), 5)
        await a.vindex.setitem_async(([1], [1]), 6)
        await a.blocks.setitem_async((1, 1), 8)
        assert (a[0, 1], a[1, 1], a[3, 3]) == (5, 6, 8)
        assert await a.nchunks_initialized_async() == a.nchunks_initialized == 4
        assert await a.nbytes_stored_async() == a.nbytes_stored()
        assert repr(await a.info_complete_async()) == repr(a.info_complete())
        chunk = await a.read_chunk_async((1, 1))
        assert chunk.tolist() == [[8, 8], [8, 8]]
        assert await a.read_encoded_chunk_async((1, 1)) == chunk.tobytes()
        await a.write_chunk_async((0, 0), 3)
        await a.delete_chunk_async((1, 1))
        assert a[0, 0] == 3
        assert a[3, 3] == 0
        assert await a.append_async(np.ones((1, 4))) == (5, 4)
        await a.resize_async((2, 2))
        assert a.shape == (2, 2)
        assert await a.update_attributes_async({"x": 1}) is a
        await a.attrs.setitem_async("y", 2)
        await a.attrs.update_async(z=3)
        await a.attrs.delitem_async("x")
        assert a.attrs.asdict() == {"y": 2, "z": 3}
        await a.attrs.clear_async()
        assert a.attrs.asdict() == {}
        await a.attrs.put_async({})
        assert await a.refresh_async() is a
        assert await zarr.Array.open_async(a.store_path) == a
        with pytest.raises(IndexError):
            await a.getitem_async(99)
        with pytest.raises(FileNotFoundError):
            await zarr.Array.open_async({})

    run(program)


@every_loop
def test_fields_and_prototypes_reach_the_method(run: Callable[[Main], Any]) -> None:
    a = new(dtype=[("a", "i2"), ("b", "f4")], shape=4, chunks=2)
    made = []

    class Prototype:
        class nd_buffer:  # noqa: N801 - its name in zarr-python
            @staticmethod
            def create(**how: Any) -> np.ndarray:
                made.append(how["shape"])
                return np.empty(how["shape"], how["dtype"])

    async def program() -> None:
        await a.set_basic_selection_async(slice(None), [1, 2, 3, 4], fields="a")
        assert (await a.getitem_async(slice(1, 3), fields="a")).tolist() == [2, 3]
        assert (await a.getitem_async("a")).tolist() == [1, 2, 3, 4]
        await a.getitem_async(slice(1, 3), prototype=Prototype)

    run(program)
    assert made == [(2,)]


@every_loop
def test_twins_of_functions_do_what_the_functions_do(run: Callable[[Main], Any]) -> None:
    async def program() -> None:
        store: dict[str, bytes] = {}
        a = await zarr.create_array_async(store, name="a", data=np.arange(4), chunks=2)
        assert a == zarr.open_array(store, path="a") == await zarr.open_array_async(store, path="a")
        assert (await zarr.from_array_async({}, data=a)).metadata == a.metadata
        assert (await zarr.array_async([1, 2]))[:].tolist() == [1, 2]
        assert await zarr.asarray_async(a) is a
        assert (await zarr.create_async(3)).shape == (3,)
        assert (await zarr.zeros_async(3))[0] == 0
        assert (await zarr.ones_async(3))[0] == 1
        assert (await zarr.full_async(3, 5.0))[0] == 5
        assert (await zarr.empty_async(3)).shape == (3,)
        assert (await zarr.zeros_like_async(a))[0] == 0
        assert (await zarr.ones_like_async(a))[0] == 1
        assert (await zarr.full_like_async(a, 5))[0] == 5
        assert (await zarr.empty_like_async(a)).shape == (4,)
        assert (await zarr.open_like_async(a, "b", store={})).shape == (4,)
        with pytest.raises(zarr.errors.ContainsArrayError):
            await zarr.create_array_async(store, name="a", shape=1, dtype="i4")

    run(program)


# --- shared state ------------------------------------------------------------------------------------


def test_handles_taken_before_a_change_show_it() -> None:
    a = new()
    other = a.with_config({"order": "F"})
    oindex, vindex, blocks, attributes = a.oindex, other.vindex, a.blocks, a.attrs

    async def program() -> None:
        await other.resize_async((6, 4))
        assert a.shape == oindex.array.shape == vindex.array.shape == (6, 4)
        await oindex.setitem_async(([5], [3]), 9)
        assert (await vindex.getitem_async(([5], [3]))).tolist() == [9]
        assert (await blocks.getitem_async((2, 1)))[1, 1] == 9
        await a.update_attributes_async({"x": 1})
        assert other.attrs["x"] == attributes["x"] == 1
        assert (await a.append_async(np.ones((1, 4)))) == other.shape == (7, 4)

    asyncio.run(program())
    assert other[6, 0] == 1
    a.resize((1, 1))
    assert other.shape == (1, 1)


@pytest.mark.parametrize("layout", [{}, {"shards": (4, 4)}, {"zarr_format": 2}])
def test_codecs_are_bound_once_per_handle(layout: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counting(codecs: Any, spec: Any) -> CodecChain:
        made.append(spec.shape)
        return CodecChain(codecs, spec)

    monkeypatch.setattr(state, "CodecChain", counting)
    monkeypatch.setattr(state, "_chains", {})
    a = new(**layout)
    assert len(made) == 1
    a[:] = 1
    a[0, 0] = 2
    a[...], a[1], a.oindex[[0, 1]], a.read_chunk((0, 0)), a.info
    asyncio.run(a.getitem_async(0))
    assert len(made) == 1
    made.clear()
    b = zarr.open_array(a.store)
    assert made == []
    asyncio.run(b.getitem_async(0))
    b[...], b.nchunks_initialized
    b[0] = 5
    assert len(made) == ("shards" in layout)  # plain chains are shared by all arrays


# --- event loops -------------------------------------------------------------------------------------


class LoopBoundStore(WrapperStore[MemoryStore]):
    """Refuses to be used on the thread of an event loop; notes the threads that it is used on."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.threads: set[int] = set()

    def _check(self) -> None:
        self.threads.add(threading.get_ident())
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise AssertionError("an event loop runs on this thread")

    def get(self, key: str, byte_range: ByteRequest | None = None) -> Value | None:
        self._check()
        return super().get(key, byte_range)

    def set(self, key: str, value: Writable) -> None:
        self._check()
        super().set(key, value)


def test_no_request_is_made_on_the_thread_of_an_event_loop() -> None:
    store = LoopBoundStore(MemoryStore())
    a = new(store=store)
    a[:] = 1  # from synchronous code
    store.threads.clear()

    async def program() -> None:
        assert (await a.getitem_async(slice(1, 4))).sum() == 12
        await a.setitem_async(0, 2)
        with pytest.raises(AssertionError):
            a[:]  # that is what the store would notice

    asyncio.run(program())
    asyncio.run(program())
    assert threading.get_ident() in store.threads
    store.threads.clear()
    asyncio.run(a.getitem_async(0))
    assert threading.get_ident() not in store.threads


def test_one_array_in_several_loops_and_synchronous_code() -> None:
    a = new(shape=(64,), chunks=(1,), store=LatencyStore(MemoryStore(), get_latency=0.001))
    a[:] = range(64)

    async def program() -> None:
        found = await asyncio.gather(*(a.getitem_async(slice(i, i + 4)) for i in range(60)))
        assert [list(f) for f in found] == [list(range(i, i + 4)) for i in range(60)]

    async def trio_program() -> None:
        for i in range(20):
            assert list(await a.getitem_async(slice(i, i + 4))) == list(range(i, i + 4))

    at_once(
        lambda: asyncio.run(program()),
        lambda: asyncio.run(program()),
        lambda: trio.run(trio_program),
        lambda: [a[i : i + 4] for i in range(20)],
    )


def test_asyncio_run_twice() -> None:
    a = new()
    asyncio.run(a.setitem_async(..., 1))
    assert asyncio.run(a.getitem_async((0, 0))) == 1
    assert asyncio.run(a.attrs.update_async(x=1)) is None
    assert a[0, 0] == 1


def test_concurrent_partial_writes_of_one_chunk_lose_nothing() -> None:
    a = new(shape=(100,), chunks=(100,), dtype="i8", store=LatencyStore(MemoryStore()))

    async def program() -> None:
        await asyncio.gather(*(a.setitem_async(i, i + 1) for i in range(100)))

    asyncio.run(program())
    assert a[:].tolist() == list(range(1, 101))


# --- calls in flight ---------------------------------------------------------------------------------


class Gate(WrapperStore[MemoryStore]):
    """Lets nobody write until it is opened."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.open = threading.Event()
        self.open.set()

    def set(self, key: str, value: Writable) -> None:
        assert self.open.wait(20)
        super().set(key, value)


@pytest.mark.parametrize(
    "write",
    [
        lambda a, v: a.setitem_async(slice(0, 2), v),
        lambda a, v: a.set_orthogonal_selection_async(([0, 1], slice(None)), v),
        lambda a, v: a.set_block_selection_async(0, v),
        lambda a, v: a.oindex.setitem_async([0, 1], v),
        lambda a, v: a.set_basic_selection_async(slice(0, 2), value=v),
        lambda a, v: a.set_mask_selection_async(np.arange(16).reshape(4, 4) < 8, v.reshape(-1)),
    ],
)
def test_small_values_may_be_changed_while_they_are_written(write: Any) -> None:
    store = Gate(MemoryStore())
    a = new(store=store)

    async def program() -> None:
        value = np.arange(1, 9, dtype="i4").reshape(2, 4)
        store.open.clear()
        task = asyncio.create_task(write(a, value))
        await asyncio.sleep(0)
        value[...] = -1
        store.open.set()
        await task

    asyncio.run(program())
    assert a[:2].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_appended_and_saved_data_may_be_changed_too() -> None:
    store = Gate(MemoryStore())
    a = new(store=store)

    async def program() -> None:
        rows = np.ones((2, 4), "i4")
        chunk = np.ones((2, 2), "i4")
        store.open.clear()
        tasks = [
            asyncio.create_task(a.append_async(rows)),
            asyncio.create_task(a.write_chunk_async((0, 0), chunk)),
        ]
        await asyncio.sleep(0)
        rows[...] = chunk[...] = -1
        store.open.set()
        await asyncio.gather(*tasks)

    asyncio.run(program())
    assert (a[4:] == 1).all()
    assert (a[:2, :2] == 1).all()


def test_a_resize_during_a_read_gives_the_old_or_the_new_shape() -> None:
    a = new(
        shape=(64,), chunks=(1,), dtype="i4", store=LatencyStore(MemoryStore(), get_latency=0.0005)
    )
    a[:] = 1

    async def program() -> list[np.ndarray]:
        reads = [asyncio.create_task(a.getitem_async(...)) for _ in range(5)]
        await asyncio.sleep(0)
        await a.resize_async(80)
        return await asyncio.gather(*reads)

    for found in asyncio.run(program()):
        assert found.shape in ((64,), (80,))
        assert (found[:64] == 1).all()
    assert a.shape == (80,)


def test_a_twin_makes_the_same_requests() -> None:
    store = LoggingStore(MemoryStore())
    a = new(store=store)
    a[:] = 1
    for call, expected in [
        (lambda: a.getitem_async(0), {"get": 2}),
        (lambda: a.setitem_async(..., 2), {"set": 4}),
        (lambda: a.setitem_async((0, 0), 3), {"get": 1, "set": 1}),
        (lambda: zarr.open_array_async(store, zarr_format=3), {"get": 1}),
    ]:
        store.counter.clear()
        asyncio.run(call())
        assert dict(store.counter) == expected
