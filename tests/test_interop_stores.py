"""Stores of other libraries under zarr_core, and stores of zarr_core under zarr-python."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_core
from zarr_core.storage import (
    LatencyStore,
    LocalStore,
    LoggingStore,
    MemoryStore,
    Store,
    ToZarrStore,
    from_zarr_store,
)
from zarr_core.storage.adapters import FromZarrStore

zarr = pytest.importorskip("zarr", minversion="3")

DATA = np.arange(64, dtype="int32").reshape(8, 8)


# --- Icechunk ------------------------------------------------------------------------------------


def test_icechunk(tmp_path: Path) -> None:
    icechunk = pytest.importorskip("icechunk")
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path)))
    session = repository.writable_session("main")
    group = zarr_core.create_group(from_zarr_store(session.store), attributes={"title": "t"})
    plain = group.create_array("plain", shape=(8, 8), chunks=(2, 3), dtype="int32")
    plain[:] = DATA
    plain[1:7, 2] = -1
    shards = group.create_array(
        "deep/shards", shape=(8, 8), chunks=(2, 2), shards=(4, 4), dtype="int32"
    )
    shards[2:, 3:] = DATA[2:, 3:]
    expected, part = DATA.copy(), np.zeros_like(DATA)
    expected[1:7, 2] = -1
    part[2:, 3:] = DATA[2:, 3:]
    np.testing.assert_array_equal(plain[:], expected)
    snapshot = session.commit("written by zarr_core")

    committed = repository.readonly_session(snapshot_id=snapshot).store
    theirs = zarr.open_group(committed, mode="r")
    assert dict(theirs.attrs) == {"title": "t"}
    np.testing.assert_array_equal(theirs["plain"][:], expected)
    np.testing.assert_array_equal(theirs["deep/shards"][:], part)

    ours = zarr_core.open_group(from_zarr_store(committed), mode="r")
    names = sorted(name for name, _ in ours.members(max_depth=None))
    assert names == ["deep", "deep/shards", "plain"]
    np.testing.assert_array_equal(ours["plain"][:], expected)
    np.testing.assert_array_equal(ours["deep/shards"][1:5, 2:6], part[1:5, 2:6])
    with pytest.raises(zarr_core.errors.ReadOnlyError):
        ours["plain"][0] = 1


def test_parts_of_shards_in_icechunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    icechunk = pytest.importorskip("icechunk")
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path)))
    session = repository.writable_session("main")
    data = np.random.default_rng(0).integers(0, 2**31, (256, 256), dtype="int32")
    array = zarr_core.create_array(
        from_zarr_store(session.store),
        shape=(256, 256),
        chunks=(16, 16),
        shards=(256, 256),
        dtype="int32",
    )
    array[:] = data
    asked: list[Any] = []
    get = FromZarrStore._get

    async def recorded(self: Any, request: Any) -> Any:
        value = await get(self, request)
        asked.append(None if value is None else len(value))
        return value

    monkeypatch.setattr(FromZarrStore, "_get", recorded)
    # A session that can still write is read whole: shards may change between two requests.
    np.testing.assert_array_equal(array[16:32, 32:48], data[16:32, 32:48])
    assert len(asked) == 1
    assert asked[0] > data.nbytes // 2
    session.commit("shards")
    store = from_zarr_store(repository.readonly_session("main").store)
    array = zarr_core.open_array(store, mode="r")
    asked.clear()
    np.testing.assert_array_equal(array[16:32, 32:48], data[16:32, 32:48])
    assert len(asked) == 2
    assert sum(asked) < 10_000
    assert store.open_value("c/7/7") is None
    assert not store.exists("c/7/7")
    with pytest.raises(FileNotFoundError):
        store.getsize("c/7/7")
    np.testing.assert_array_equal(array[:], data)


def test_icechunk_read_of_what_zarr_python_wrote(tmp_path: Path) -> None:
    icechunk = pytest.importorskip("icechunk")
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path)))
    session = repository.writable_session("main")
    theirs = zarr.create_array(session.store, name="a", shape=(8, 8), chunks=(3, 3), dtype="int32")
    theirs[:] = DATA
    ours = zarr_core.open_array(from_zarr_store(session.store), path="a", mode="r+")
    np.testing.assert_array_equal(ours[:], DATA)
    ours[0] = 5  # not committed: seen in the session only
    assert (theirs[0] == 5).all()


# --- zarr-python's stores under zarr_core --------------------------------------------------------


class Counting(zarr.storage.WrapperStore):  # type: ignore[misc]
    """Counts calls, how many are under way at once, and the threads they come from."""

    def __init__(self, store: Any, seconds: float = 0.0) -> None:
        super().__init__(store)
        self.calls: list[str] = []
        self.threads: set[int] = set()
        self.seconds = seconds
        self.now = self.most = 0

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        return await self._counted(f"get {key}", super().get(key, prototype, byte_range))

    async def set(self, key: str, value: Any) -> None:
        await self._counted(f"set {key}", super().set(key, value))

    async def _counted(self, what: str, work: Any) -> Any:
        self.calls.append(what)
        self.threads.add(threading.get_ident())
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.seconds)
            return await work
        finally:
            self.now -= 1


def in_memory(_: Path) -> Any:
    return zarr.storage.MemoryStore()


def on_disk(directory: Path) -> Any:
    return zarr.storage.LocalStore(directory)


@pytest.mark.parametrize("make", [in_memory, on_disk])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_store_of_zarr_python(
    make: Callable[[Path], Any], zarr_format: Any, tmp_path: Path
) -> None:
    store = make(tmp_path)
    group = zarr_core.create_group(from_zarr_store(store), zarr_format=zarr_format)
    array = group.create_array("a/b", shape=(8, 8), chunks=(3, 3), dtype="int32")
    array[:] = DATA
    array[2, 1:] = 0
    array.attrs["units"] = "K"
    expected = DATA.copy()
    expected[2, 1:] = 0
    theirs = zarr.open_group(store, mode="r+")["a/b"]
    np.testing.assert_array_equal(theirs[:], expected)
    assert dict(theirs.attrs) == {"units": "K"}
    theirs[:3] = 7
    expected[:3] = 7
    np.testing.assert_array_equal(array[:], expected)
    array.resize((4, 4))
    assert zarr.open_array(store, path="a/b", mode="r").shape == (4, 4)
    assert sorted(group.keys()) == ["a"]
    del group["a"]
    assert sorted(group.keys()) == []


def test_requests_to_a_store_of_zarr_python_are_batched() -> None:
    store = Counting(zarr.storage.MemoryStore(), seconds=0.01)
    ours = from_zarr_store(store)
    array = zarr_core.create_array(ours, shape=(64,), chunks=(1,), dtype="int32", fill_value=-1)
    store.calls.clear()
    array[:] = np.arange(64)
    assert sorted(store.calls) == sorted(f"set c/{i}" for i in range(64))
    assert store.most > 8
    store.calls.clear()
    store.most = 0
    np.testing.assert_array_equal(array[:], np.arange(64))
    assert sorted(store.calls) == sorted(f"get c/{i}" for i in range(64))
    assert store.most > 32
    assert len(store.threads) == 1  # all on the one event loop of the adapter
    assert threading.get_ident() not in store.threads

    store.calls.clear()
    zarr_core.open_array(ours, mode="r", zarr_format=3)
    assert store.calls == ["get zarr.json"]


def test_zarr_pythons_latency_store() -> None:
    from zarr.testing.store import LatencyStore as Slow

    store = Slow(zarr.storage.MemoryStore(), get_latency=0.001, set_latency=0.001)
    array = zarr_core.create_array(from_zarr_store(store), shape=(8, 8), chunks=(2, 2), dtype="i4")
    array[:] = DATA
    np.testing.assert_array_equal(zarr.open_array(store, mode="r")[:], DATA)
    np.testing.assert_array_equal(array[1:, ::2], DATA[1:, ::2])


# --- stores of zarr_core under zarr-python -------------------------------------------------------


def slow_memory(_: Path) -> Store:
    return LatencyStore(MemoryStore(), get_latency=0.001, set_latency=0.001)


@pytest.mark.parametrize("make", [lambda _: MemoryStore(), LocalStore, slow_memory])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_python_over_a_store(
    make: Callable[[Path], Store], zarr_format: Any, tmp_path: Path
) -> None:
    ours = make(tmp_path)
    store = ToZarrStore(ours)
    group = zarr.create_group(store, zarr_format=zarr_format, attributes={"title": "t"})
    array = group.create_array("a/b", shape=(8, 8), chunks=(3, 3), dtype="int32")
    array[:] = DATA
    array[2, 1:] = 0
    expected = DATA.copy()
    expected[2, 1:] = 0
    np.testing.assert_array_equal(array[:], expected)
    again = zarr_core.open_group(ours, mode="r")
    assert dict(again.attrs) == {"title": "t"}
    np.testing.assert_array_equal(again["a/b"][:], expected)
    reopened = zarr.open_group(ToZarrStore(ours.with_read_only(True)), mode="r")
    np.testing.assert_array_equal(reopened["a/b"][1:5], expected[1:5])
    assert sorted(name for name, _ in reopened.members(max_depth=None)) == ["a", "a/b"]
    with pytest.raises(ValueError, match="read-only"):
        reopened["a/b"][0] = 1
    del group["a"]
    assert list(ours.list_dir("a")) == []
    assert sorted(group.keys()) == []


def test_zarr_python_reads_parts_of_shards_from_a_store() -> None:
    ours = LoggingStore(MemoryStore())
    array = zarr.create_array(
        ToZarrStore(ours), shape=(64, 64), chunks=(4, 4), shards=(64, 64), dtype="int32"
    )
    data = np.arange(4096, dtype="int32").reshape(64, 64)
    array[:] = data
    np.testing.assert_array_equal(array[4:8, 8:12], data[4:8, 8:12])
    np.testing.assert_array_equal(zarr_core.open_array(ours, mode="r")[:], data)


def test_a_store_goes_round() -> None:
    """An adapter around the other adapter is still the same place."""
    ours = MemoryStore()
    there_and_back = from_zarr_store(ToZarrStore(ours))
    zarr_core.create_array(there_and_back, shape=(8, 8), chunks=(4, 4), dtype="int32")[:] = DATA
    np.testing.assert_array_equal(zarr_core.open_array(ours, mode="r")[:], DATA)


# --- zarr-python's own tests of stores -----------------------------------------------------------

_testing = pytest.importorskip("zarr.testing.store")
from zarr.core.buffer import Buffer, cpu  # noqa: E402

from zarr_core.storage.adapters import _zarr_store_class  # noqa: E402


class Adapted(_zarr_store_class()):  # type: ignore[misc]
    """Our adapter with the constructor that the tests call."""

    def __init__(self, store: Store, read_only: bool = False) -> None:
        super().__init__(store.with_read_only(read_only) if read_only else store)

    def __reduce__(self) -> Any:
        return Adapted, (self.store,)

    def with_read_only(self, read_only: bool = False) -> Any:
        return Adapted(self.store.with_read_only(read_only))


@pytest.mark.anyio
class ZarrStoreTests(_testing.StoreTests):  # type: ignore[misc]
    """What zarr-python asks of a store, asked of the adapter over one of ours."""

    store_cls = Adapted
    buffer_cls = cpu.Buffer

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def store(self, open_kwargs: Any) -> Any:
        return asyncio.run(self.store_cls.open(**open_kwargs))

    @pytest.fixture
    def store_not_open(self, store_kwargs: Any) -> Any:
        return self.store_cls(**store_kwargs)

    async def set(self, store: Any, key: str, value: Buffer) -> None:
        store.store.set(key, value.to_bytes())

    async def get(self, store: Any, key: str) -> Buffer:
        return cpu.Buffer.from_bytes(store.store.get(key))

    def test_store_repr(self, store: Any) -> None:
        assert repr(store) == f"ToZarrStore({store.store!r})"

    def test_store_supports_writes(self, store: Any) -> None:
        assert store.supports_writes

    def test_store_supports_listing(self, store: Any) -> None:
        assert store.supports_listing


class TestAdapterOverLocalStore(ZarrStoreTests):
    @pytest.fixture
    def store_kwargs(self, tmp_path: Path) -> Any:
        return {"store": LocalStore(tmp_path)}


class TestAdapterOverMemoryStore(ZarrStoreTests):
    @pytest.fixture
    def store_kwargs(self) -> Any:
        from zarr_core.storage import ManagedMemoryStore

        store = ManagedMemoryStore("of zarr-python's tests")
        store.clear()
        return {"store": store}


class TestAdapterOverSlowStore(ZarrStoreTests):
    @pytest.fixture
    def store_kwargs(self, tmp_path: Path) -> Any:
        return {"store": LatencyStore(LocalStore(tmp_path))}


def test_the_store_of_a_node_is_the_one_that_was_given() -> None:
    store = zarr.storage.MemoryStore()
    array = zarr_core.create_array(store, name="a", shape=2, dtype="i1", fill_value=7)
    assert array.store is store
    assert zarr_core.open_group(store, mode="a", path="g").store is store
    assert zarr_core.open_array(array.store, path="a")[...].tolist() == [7, 7]
