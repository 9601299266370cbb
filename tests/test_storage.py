"""One contract, every store; what only one kind of store promises is in `test_storage_*.py`."""

import inspect
import io
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from collections import UserDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from running import at_once, from_threads, in_new_interpreter

import zarr_core
from zarr_core.errors import InvalidKeyError, ReadOnlyError, StoreError
from zarr_core.storage import (
    CacheStore,
    FsspecStore,
    LatencyStore,
    LocalStore,
    LoggingStore,
    ManagedMemoryStore,
    MemoryStore,
    ObjectStore,
    OffsetByteRequest,
    PrefixStore,
    RangeByteRequest,
    Request,
    RetryStore,
    SQLiteStore,
    Store,
    StorePath,
    SuffixByteRequest,
    ValueSnapshot,
    WrapperStore,
    ZipStore,
    check_key,
    check_prefix,
    from_zarr_store,
    normalize_path,
    slice_value,
    store_from,
)
from zarr_core.threads.coroutines import own_loop


class MinimalStore(Store):
    """Only what a store must have."""

    def __init__(self, values: dict[str, bytes] | None = None, *, read_only: bool = False) -> None:
        super().__init__(read_only=read_only)
        self.values = {} if values is None else values

    def get(self, key: str, byte_range: Any = None) -> Any:
        return slice_value(self.values.get(check_key(key)), byte_range)

    def set(self, key: str, value: Any) -> None:
        self._check_writable()
        self.values[check_key(key)] = bytes(value)

    def delete(self, key: str) -> None:
        self._check_writable()
        self.values.pop(check_key(key), None)

    def list_prefix(self, prefix: str) -> Iterator[str]:
        start = f"{check_prefix(prefix)}/".removeprefix("/")
        return (key for key in list(self.values) if key.startswith(start))

    def list_dir(self, prefix: str) -> Iterator[str]:
        cut = len(f"{check_prefix(prefix)}/".removeprefix("/"))
        return iter({key[cut:].partition("/")[0] for key in self.list_prefix(prefix)})

    def with_read_only(self, read_only: bool = False) -> "MinimalStore":
        return MinimalStore(self.values, read_only=read_only)


class SlowMinimalStore(MinimalStore):
    high_latency = True


def fsspec_memory(root: Path) -> Store:
    import fsspec

    store = FsspecStore(fsspec.filesystem("memory"), path=str(root))
    store.clear()
    return store


def fsspec_async(root: Path) -> Store:
    # an asynchronous file system without a network
    import fsspec

    # fsspec has it later than 2024.2, and only these tests need it
    asynchronous = pytest.importorskip("fsspec.implementations.asyn_wrapper")

    store = FsspecStore(
        asynchronous.AsyncFileSystemWrapper(fsspec.filesystem("memory"), asynchronous=False),
        path=str(root),
    )
    assert store.fs.async_impl
    store.high_latency = True
    return store


def obstore_memory(root: Path) -> Store:
    obstore = pytest.importorskip("obstore.store")
    return ObjectStore(obstore.MemoryStore())


def obstore_local(root: Path) -> Store:
    obstore = pytest.importorskip("obstore.store")
    return ObjectStore(obstore.LocalStore(root, automatic_cleanup=True))


def zarr_memory(root: Path) -> Store:
    return from_zarr_store(pytest.importorskip("zarr").storage.MemoryStore())


STORES: dict[str, Callable[[Path], Store]] = {
    "minimal": lambda root: MinimalStore(),
    "slow-minimal": lambda root: SlowMinimalStore(),
    "memory": lambda root: MemoryStore(),
    "memory-mapping": lambda root: MemoryStore(UserDict()),
    "managed": lambda root: ManagedMemoryStore(),
    "managed-path": lambda root: ManagedMemoryStore(path="a/b"),
    "local": LocalStore,
    "local-fsync": lambda root: LocalStore(root, fsync=True),
    "wrapper": lambda root: WrapperStore(LocalStore(root)),
    "prefix": lambda root: PrefixStore(LocalStore(root), "pre/fix"),
    "logging": lambda root: LoggingStore(MemoryStore()),
    "latency": lambda root: LatencyStore(MemoryStore()),
    "cache": lambda root: CacheStore(MemoryStore()),
    "cache-local": lambda root: CacheStore(
        LatencyStore(MemoryStore()), cache_store=LocalStore(root), max_size=30, whole_values=True
    ),
    "retry": lambda root: RetryStore(MemoryStore()),
    "sqlite": lambda root: SQLiteStore(root / "a.sqlite"),
    "zip": lambda root: ZipStore(root / "a.zip", mode="w"),
    "zip-deflate": lambda root: ZipStore(root / "a.zip", mode="a", compression=8),
    "zip-stream": lambda root: ZipStore(io.BytesIO(), mode="w"),
    "fsspec-memory": fsspec_memory,
    "fsspec-async": fsspec_async,
    "fsspec-local": lambda root: FsspecStore.from_url(f"file://{root}"),
    "obstore-memory": obstore_memory,
    "obstore-local": obstore_local,
    "zarr-memory": zarr_memory,
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    root = tmp_path / "store"
    root.mkdir()
    store = STORES[request.param](root)
    yield store
    store.close()


def outcomes(results: Any) -> dict[int, Any]:
    with closing(results):
        return {index: error or value for index, value, error in results}


# --- one key -------------------------------------------------------------------------------------

KEYS = ("zarr.json", "a/b/c/0/1", "with space/ü€𝛼", "a.b/..c/d..", "x%20y", "q?r=1", "at@/@@", "~")


def test_set_and_get(store: Store) -> None:
    for key in KEYS:
        check_set_and_get(store, key)


def check_set_and_get(store: Store, key: str) -> None:
    assert store.get(key) is None
    assert not store.exists(key)
    store.set(key, b"old")
    store.set(key, b"new value")
    assert store.get(key) == b"new value"
    assert store.exists(key)
    assert store.getsize(key) == 9
    assert list(store.list()) == [key]
    store.delete(key)
    store.delete(key)
    assert store.get(key) is None
    with pytest.raises(FileNotFoundError):
        store.getsize(key)
    assert store.is_empty()


def test_values_come_back(store: Store) -> None:
    for value in (b"", b"x", b"\0" * 100, os.urandom(3 << 20)):
        store.set("a", value)
        found = store.get("a")
        assert found == value
        view = memoryview(found)
        assert view.readonly
        assert (view.format, view.ndim) == ("B", 1)


@pytest.mark.parametrize("kind", [bytearray, lambda data: memoryview(bytearray(data))])
def test_set_takes_a_copy(store: Store, kind: Callable[[bytes], Any]) -> None:
    value = kind(b"before")
    store.set("a", value)
    value[:] = b"after!"
    assert store.get("a") == b"before"


def test_a_value_that_was_read_never_changes(store: Store) -> None:
    store.set("a", b"before")
    value = store.get("a")
    store.set("a", b"after!")
    assert value == b"before"


RANGES = [
    (RangeByteRequest(0, 10), b"0123456789"),
    (RangeByteRequest(2, 5), b"234"),
    (RangeByteRequest(4, 4), b""),
    (RangeByteRequest(10, 10), b""),
    (OffsetByteRequest(0), b"0123456789"),
    (OffsetByteRequest(7), b"789"),
    (OffsetByteRequest(10), b""),
    (SuffixByteRequest(0), b""),
    (SuffixByteRequest(3), b"789"),
    (SuffixByteRequest(10), b"0123456789"),
    (SuffixByteRequest(99), b"0123456789"),
]


def test_ranges(store: Store) -> None:
    store.set("a", b"0123456789")
    opened = store.open_value("a")
    assert opened is not None
    assert opened.size in (10, None)
    for byte_range, expected in RANGES:
        for _ in range(2):  # the second may come from a cache
            assert store.get("a", byte_range) == expected
        assert outcomes(store.get_many([Request("a", byte_range)])) == {0: expected}
        assert opened.read(byte_range) == expected
        assert store.get("b", byte_range) is None
    assert opened.read() == b"0123456789"
    opened.close()


def test_a_value_that_is_too_short_is_an_error(store: Store) -> None:
    store.set("a", b"0123456789")
    for byte_range in (RangeByteRequest(5, 11), RangeByteRequest(20, 30), OffsetByteRequest(11)):
        if type(store).__name__ == "FromZarrStore" and isinstance(byte_range, OffsetByteRequest):
            continue  # zarr-python does not say that a value ends before the offset
        with pytest.raises(OSError):
            store.get("a", byte_range)
        assert isinstance(outcomes(store.get_many([Request("a", byte_range)]))[0], OSError)


WRONG_RANGES: list[tuple[Any, type[Exception]]] = [
    *((wrong, TypeError) for wrong in ((0, 2), [0, 2], slice(0, 2), "ab", 3, (), b"12")),
    (RangeByteRequest("a", "b"), TypeError),  # type: ignore[arg-type]
    (RangeByteRequest(0, None), TypeError),  # type: ignore[arg-type]
    (RangeByteRequest(0.0, 2.0), TypeError),  # type: ignore[arg-type]
    (OffsetByteRequest("a"), TypeError),  # type: ignore[arg-type]
    (SuffixByteRequest(None), TypeError),  # type: ignore[arg-type]
    (RangeByteRequest(-2, 2), ValueError),
    (RangeByteRequest(3, 2), ValueError),
    (RangeByteRequest(30, 20), ValueError),
    (OffsetByteRequest(-1), ValueError),
    (SuffixByteRequest(-1), ValueError),
]


def test_what_is_no_byte_range_is_an_error(store: Store) -> None:
    store.set("a", b"0123456789")
    opened = store.open_value("a")
    assert opened is not None
    for wrong, expected in WRONG_RANGES:
        for _ in range(2):  # the second may come from a cache
            with pytest.raises(expected):
                store.get("a", wrong)
            with pytest.raises(expected):
                store.get("missing", wrong)
        with pytest.raises(expected):
            opened.read(wrong)
        requests = [Request("a"), Request("a", wrong), Request("b"), Request("b", wrong)]
        found = outcomes(store.get_many(requests))
        assert (found[0], found[2]) == (b"0123456789", None)
        assert isinstance(found[1], expected)
        assert isinstance(found[3], expected)
        if not isinstance(wrong, (RangeByteRequest, OffsetByteRequest, SuffixByteRequest)):
            with pytest.raises(TypeError, match="RangeByteRequest"):
                store.get("a", wrong)
    opened.close()


def test_parts_of_an_empty_value(store: Store) -> None:
    store.set("a", b"")
    assert store.get("a", SuffixByteRequest(5)) == b""
    assert store.get("a", OffsetByteRequest(0)) == b""


def test_open_value_of_a_missing_key(store: Store) -> None:
    assert store.open_value("a") is None


def test_set_if_not_exists(store: Store) -> None:
    assert store.set_if_not_exists("a", b"first")
    assert not store.set_if_not_exists("a", b"second")
    assert store.get("a") == b"first"


@pytest.mark.parametrize("reserved", [0, 3])
def test_values_written_piece_by_piece(store: Store, reserved: int) -> None:
    store.set("a/b", b"old")
    start = b"123"[:reserved]
    writer = store.open_writer("a/b", reserved)
    piece = bytearray(b"xy")
    writer.write(piece)
    piece[:] = b"--"
    writer.write(memoryview(b"z"))
    assert store.get("a/b") == b"old"
    assert list(store.list()) == ["a/b"]
    writer.complete(start)
    writer.abort()
    assert store.get("a/b") == start + b"xyz"
    for key in ("a/b", "c/d"):
        given_up = store.open_writer(key)
        given_up.write(b"1")
        given_up.abort()
        given_up.abort()
    store.open_writer("e").complete()
    assert store.get("e") == b""
    assert sorted(store.list()) == ["a/b", "e"]
    with pytest.raises(InvalidKeyError):
        store.open_writer("../a")
    with pytest.raises(ReadOnlyError):
        store.with_read_only(True).open_writer("a/b")


def test_set_if_version(store: Store) -> None:
    assert store.get_versioned("a") == (None, None)
    assert store.set_if_version("a", b"1", None)
    assert not store.set_if_version("a", b"2", None)
    value, version = store.get_versioned("a")
    assert value == b"1"
    assert version is not None
    assert store.set_if_version("a", b"2", version)
    assert not store.set_if_version("a", b"3", version)
    store.delete("a")
    assert not store.set_if_version("a", b"4", version)
    assert store.get("a") is None


BAD_KEYS = (
    "",
    "/",
    "/etc/passwd",
    "a/",
    "a//b",
    "..",
    "../a",
    "a/../b",
    "a/..",
    ".",
    "./a",
    "a/./b",
    "a\0b",
    "a\\b",
    "..\\a",
)


def test_bad_keys_are_refused_by_every_method(store: Store, tmp_path: Path) -> None:
    for key in BAD_KEYS:
        check_bad_key(store, key)
    store.close()
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert files <= {"a.sqlite", "a.zip", "ok"}


def check_bad_key(store: Store, key: str) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: store.get(key),
        lambda: store.get(key, RangeByteRequest(0, 1)),
        lambda: store.set(key, b"x"),
        lambda: store.delete(key),
        lambda: store.exists(key),
        lambda: store.getsize(key),
        lambda: store.open_value(key),
        lambda: store.set_if_not_exists(key, b"x"),
        lambda: store.get_versioned(key),
        lambda: store.set_if_version(key, b"x", None),
        lambda: store.set_if_version(key, b"x", "1"),
    ]
    if key not in ("", "/", "a/"):  # as paths these mean the root, and `a`
        calls += [
            lambda: list(store.list_prefix(key)),
            lambda: list(store.list_dir(key)),
            lambda: store.delete_dir(key),
            lambda: store.is_empty(key),
            lambda: store.getsize_prefix(key),
        ]
    for call in calls:
        with pytest.raises(InvalidKeyError):
            call()
    for results in (
        store.get_many([Request(key), Request("ok")]),
        store.set_many([(key, b"x"), ("ok", b"x")]),
        store.delete_many([key, "ok"]),
    ):
        found = outcomes(results)
        assert isinstance(found[0], InvalidKeyError)
        assert found[1] is None


# --- many keys -----------------------------------------------------------------------------------


def test_many_keys(store: Store) -> None:
    values = {f"c/{i}": bytes([i]) * (i + 1) for i in range(50)}
    assert outcomes(store.set_many(iter(values.items()))) == dict.fromkeys(range(50))
    requests = (Request(key) for key in [*values, "missing"])
    assert outcomes(store.get_many(requests)) == dict(enumerate([*values.values(), None]))
    assert sorted(store.list()) == sorted(values)
    assert outcomes(store.delete_many(iter(list(values)[:25]))) == dict.fromkeys(range(25))
    assert sorted(store.list()) == sorted(list(values)[25:])


def test_many_is_lazy_and_can_be_closed(store: Store) -> None:
    store.set("a", b"1")
    asked = []

    def requests() -> Iterator[Request]:
        for i in range(100_000):
            asked.append(i)
            yield Request("a")

    results = store.get_many(requests())
    assert next(results).value == b"1"
    results.close()
    assert 0 < len(asked) < 2000
    with pytest.raises(StopIteration):
        next(results)
    store.get_many(requests()).close()  # never begun


def test_errors_are_of_their_own_items(store: Store) -> None:
    store.set("a", b"123")
    requests = [Request("a"), Request("a", RangeByteRequest(0, 9)), Request("../b"), Request("c")]
    found = outcomes(store.get_many(requests))
    assert found[0] == b"123"
    assert isinstance(found[1], OSError)
    assert isinstance(found[2], InvalidKeyError)
    assert found[3] is None


# --- listing -------------------------------------------------------------------------------------

TREE = ("zarr.json", "foo/zarr.json", "foo/c/0/0", "foo/c/0/1", "foobar/x", "fo/y", "baz")


@pytest.fixture
def tree(store: Store) -> Store:
    for result in store.set_many((key, b"v" * i) for i, key in enumerate(TREE, 1)):
        assert result.error is None
    return store


def test_prefixes_are_paths(tree: Store) -> None:
    for prefix in ("", "foo", "foo/c", "foo/c/0", "fo", "f", "baz", "no/where"):
        check_prefix_is_path(tree, prefix, "")
        check_prefix_is_path(tree, prefix, "/")


def check_prefix_is_path(tree: Store, prefix: str, slash: str) -> None:
    start = f"{prefix}/" if prefix else ""
    below = {key for key in TREE if key.startswith(start)}
    assert sorted(tree.list_prefix(prefix + slash)) == sorted(below)
    names = {key[len(start) :].partition("/")[0] for key in below}
    assert sorted(tree.list_dir(prefix + slash)) == sorted(names)
    sizes = {key: i for i, key in enumerate(TREE, 1)}
    assert tree.getsize_prefix(prefix + slash) == sum(sizes[key] for key in below)
    assert tree.is_empty(prefix + slash) == (not below)


def test_delete_dir(tree: Store) -> None:
    for prefix in ("foo", "foo/c", "fo", "f", "no/where", ""):
        check_delete_dir(tree, prefix)
        for result in tree.set_many((key, b"again") for key in TREE):
            assert result.error is None


def check_delete_dir(tree: Store, prefix: str) -> None:
    start = f"{prefix}/" if prefix else ""
    tree.delete_dir(prefix)
    kept = sorted(key for key in TREE if not key.startswith(start))
    assert sorted(tree.list()) == kept
    assert sorted(tree.list_dir("")) == sorted({key.partition("/")[0] for key in kept})


def test_clear(tree: Store) -> None:
    tree.clear()
    assert tree.is_empty()
    assert list(tree.list()) == []
    tree.set("a", b"1")
    assert list(tree.list()) == ["a"]


def test_keys_may_be_deleted_while_they_are_listed(tree: Store) -> None:
    for key in tree.list():
        tree.delete(key)
    assert tree.is_empty()


def test_large_directories(store: Store) -> None:
    if type(store) not in (MemoryStore, LocalStore, ZipStore) or getattr(store, "fsync", False):
        pytest.skip("the same code, or slow on some disks")
    for result in store.set_many((f"g/{i}/zarr.json", b"{}") for i in range(2000)):
        assert result.error is None
    assert len(list(store.list_dir("g"))) == 2000


def test_stores_agree_with_a_dictionary() -> None:
    universe = ["a", "b/a", "b/b/c", "bb/d", "b/bb/e"]
    prefixes = ["", "b", "b/b", "bb", "x"]
    steps = st.lists(
        st.one_of(
            st.tuples(st.just("set"), st.sampled_from(universe), st.binary(max_size=20)),
            st.tuples(st.just("delete"), st.sampled_from(universe), st.none()),
            st.tuples(st.just("delete_dir"), st.sampled_from(prefixes), st.none()),
            st.tuples(st.just("flush"), st.none(), st.none()),
        ),
        max_size=12,
    )

    @given(steps=steps)
    @settings(max_examples=25, suppress_health_check=list(HealthCheck))
    def check(steps: list[Any]) -> None:
        stream = io.BytesIO()
        zipped = ZipStore(stream, mode="w")
        stores = [
            MemoryStore(),
            zipped,
            CacheStore(MemoryStore(), max_size=40),
            PrefixStore(CacheStore(MinimalStore(), max_size=40), "p"),
        ]
        model: dict[str, bytes] = {}
        for step, name, value in steps:
            if step == "flush":
                zipped.flush()
                continue
            for store in stores:
                getattr(store, step)(*[x for x in (name, value) if x is not None])
            if step == "set":
                model[name] = value
            elif step == "delete":
                model.pop(name, None)
            else:
                start = f"{name}/" if name else ""
                model = {k: v for k, v in model.items() if not k.startswith(start)}
            for store in stores:
                assert {key: store.get(key) for key in universe} == {
                    key: model.get(key) for key in universe
                }
                assert sorted(store.list()) == sorted(model)
        zipped.close()
        assert {key: zipped.get(key) for key in zipped.list()} == model

    check()


# --- the store itself ----------------------------------------------------------------------------


def test_read_only(store: Store) -> None:
    store.set("a/b", b"1")
    view = store.with_read_only(True)
    assert view.read_only
    assert not store.read_only
    assert view.get("a/b") == b"1"
    calls: list[Callable[[], Any]] = [
        lambda: view.set("a/b", b"2"),
        lambda: view.set_if_not_exists("c", b"2"),
        lambda: view.set_if_version("a/b", b"2", None),
        lambda: view.set_if_version("a/b", b"2", view.get_versioned("a/b")[1]),
        lambda: view.delete("a/b"),
        lambda: view.delete_dir("a"),
        lambda: view.delete_dir("nothing/here"),
        view.clear,
    ]
    for call in calls:
        with pytest.raises(ReadOnlyError):
            call()
    assert isinstance(outcomes(view.set_many([("a/b", b"2")]))[0], ReadOnlyError)
    assert isinstance(outcomes(view.delete_many(["a/b"]))[0], ReadOnlyError)
    assert {key: store.get(key) for key in store.list()} == {"a/b": b"1"}
    again = view.with_read_only(False)
    again.set("c", b"3")
    assert store.get("c") == b"3"


def test_equality_and_locks(store: Store) -> None:
    same = store.with_read_only(False)
    assert store == store.with_read_only(False) or isinstance(store, MinimalStore)
    if not isinstance(store, MinimalStore):
        assert hash(store) == hash(same)
        assert store != store.with_read_only(True)
        assert store.lock_key("a/b") == same.lock_key("a/b")
    assert store != MemoryStore()
    assert store.lock_key("a") != store.lock_key("b")
    assert type(store).__name__ in repr(store)
    assert str(store)


def test_context_manager_and_use_after_close(store: Store) -> None:
    with store as entered:
        assert entered is store
        store.set("a", b"1")
    assert store.get("a") == b"1"
    store.close()
    store.close()


def test_threads(store: Store) -> None:
    # Every value says which key it is of and is all of one byte: a mixture would show.
    keys = [f"k/{i}" for i in range(4)]
    errors: list[str] = []

    def work(seed: int) -> None:
        for i in range(15):
            key = keys[(seed + i) % 4]
            store.set(key, f"{key}:".encode() + bytes([65 + seed]) * 5000)
            value = store.get(keys[(seed + i + 1) % 4])
            if value is None:
                continue
            name, _, rest = bytes(value).partition(b":")
            if name.decode() != keys[(seed + i + 1) % 4] or rest != rest[:1] * 5000:
                errors.append(f"mixed: {bytes(value)[:20]!r}")
            list(store.list_dir("k"))

    from_threads(work, 4)
    assert errors == []
    assert sorted(store.list()) == keys


def test_one_of_many_creators_wins(store: Store) -> None:
    if type(store).set_if_version is Store.set_if_version:
        pytest.skip("a store without its own conditional writes")
    if isinstance(store, FsspecStore) and store._local is None:
        pytest.skip("fsspec's memory file system looks, then writes")
    for turn in range(5):
        key = f"new/{turn}"
        won: list[int] = []

        def create(me: int, key: str = key, won: Any = won) -> None:
            if store.set_if_not_exists(key, b"creator %d" % me):
                won.append(me)

        from_threads(create, 4)
        assert len(won) == 1
        assert store.get(key) == b"creator %d" % won[0]


def test_conditional_updates_are_never_lost(store: Store) -> None:
    if not store.supports_conditional_writes:
        pytest.skip("a store without its own conditional writes")
    store.set("count", b"0")

    def count() -> None:
        for _ in range(10):
            while True:
                value, version = store.get_versioned("count")
                assert value is not None
                if store.set_if_version("count", b"%d" % (int(value) + 1), version):
                    break

    at_once(*[count] * 4)
    assert store.get("count") == b"40"


# --- other processes -----------------------------------------------------------------------------


def read_key(store: Store) -> tuple[str, bytes | None, bytes | None, bool]:
    value, part = store.get("a/b"), store.get("a/b", SuffixByteRequest(2))
    return type(store).__name__, bytes(value or b""), bytes(part or b""), store.read_only


def test_stores_pickle_to_other_processes(tmp_path: Path) -> None:
    local = LocalStore(tmp_path / "l")
    local.set("a/b", b"value")
    local.set("p/a/b", b"value")
    with ZipStore(tmp_path / "z.zip", mode="w") as zipped:
        zipped.set("a/b", b"value")
    stores: list[Store] = [
        MemoryStore({"a/b": b"value"}),
        local,
        LocalStore(tmp_path / "l", read_only=True, fsync=True),
        WrapperStore(local),
        PrefixStore(local, "p"),
        LoggingStore(local),
        LatencyStore(local, get_latency=0.001),
        CacheStore(local, max_age_seconds=5),
        RetryStore(local),
        ZipStore(tmp_path / "z.zip"),
        FsspecStore.from_url(f"file://{tmp_path}/l"),
    ]
    with suppress(ModuleNotFoundError):
        import obstore.store

        stores.append(ObjectStore(obstore.store.LocalStore(tmp_path / "l")))
    for store in stores[1:]:
        assert pickle.loads(pickle.dumps(store)) == store
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.map(read_key, stores)
    assert found == [(type(s).__name__, b"value", b"ue", s.read_only) for s in stores]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_fork_while_threads_work(tmp_path: Path) -> None:
    pytest.importorskip("fsspec.implementations.asyn_wrapper")
    script = """
        import io, os, signal, sys, threading
        from zarr_core.storage import *
        from zarr_core.storage import (CacheStore, FsspecStore, LatencyStore, LocalStore,
            LoggingStore, ManagedMemoryStore, MemoryStore, ZipStore, Request)
        import fsspec
        from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

        root = sys.argv[1]
        with ZipStore(root + "/r.zip", mode="w") as zipped:
            zipped.set("a", b"1")
        stores = [
            MemoryStore(), ManagedMemoryStore("f"), LocalStore(root + "/l"),
            CacheStore(LocalStore(root + "/c")), LoggingStore(MemoryStore()),
            LatencyStore(MemoryStore(), get_latency=0.0001),
            FsspecStore(AsyncFileSystemWrapper(fsspec.filesystem("memory"), asynchronous=False)),
        ]
        zipped = ZipStore(root + "/w.zip", mode="w")
        readers = [ZipStore(root + "/r.zip")]
        go_on = True

        def work():
            while go_on:
                for store in [*stores, zipped]:
                    store.set_if_version("b", b"2", None)
                    store.set("a", b"1")
                    assert store.get("a") == b"1"
                    list(store.get_many([Request("a")] * 3))
                    list(store.list_dir(""))

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads: thread.start()
        failed = 0
        for turn in range(12):
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)  # a child that hangs is killed
                code = 1
                try:
                    for store in [*stores, *readers]:
                        assert bytes(store.get("a") or b"1") == b"1"
                        if not store.read_only:
                            store.set("a", b"1")
                            store.set_if_version("b", b"2", None)
                        for result in store.get_many([Request("a")] * 5):
                            assert result.error is None and result.value == b"1", result
                        list(store.list())
                    try:
                        zipped.set("a", b"x")
                    except OSError:
                        code = 0
                finally:
                    os._exit(code)
            _, status = os.waitpid(pid, 0)
            failed += status != 0
        go_on = False
        for thread in threads: thread.join()
        zipped.close()
        assert ZipStore(root + "/w.zip").get("a") == b"1"
        print("failed", failed)
    """
    assert in_new_interpreter(script, tmp_path, warnings="ignore") == "failed 0\n"


def test_obstore_says_that_it_cannot_be_forked() -> None:
    pytest.importorskip("obstore")
    script = """
        import os, obstore.store
        from zarr_core.storage import ObjectStore
        store = ObjectStore(obstore.store.MemoryStore())
        store.set("a", b"1")
        pid = os.fork()
        if pid == 0:
            try:
                store.get("a")
            except OSError as error:
                os._exit(7 if "forked" in str(error) else 8)
            os._exit(9)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    assert in_new_interpreter(script, warnings="ignore") == "7\n"


# --- memory --------------------------------------------------------------------------------------


def test_a_dictionary_is_shared() -> None:
    values: dict[str, Any] = {}
    store = MemoryStore(values)
    store.set("a", bytearray(b"1"))
    assert values == {"a": b"1"}
    assert type(values["a"]) is bytes
    values["b"] = bytearray(b"23")
    assert store.get("b") == b"23"
    assert store.get("b", RangeByteRequest(1, 2)) == b"3"
    assert MemoryStore(values) == store
    assert MemoryStore(dict(values)) != store
    assert MemoryStore(values).lock_key("a") == store.lock_key("a")


def test_an_empty_dictionary_is_shared_too() -> None:
    values: dict[str, Any] = {}
    assert store_from(values).store.lock_key("a") == MemoryStore(values).lock_key("a")
    assert store_from(None).store != store_from(None).store


def test_named_memory() -> None:
    first = ManagedMemoryStore("of-test", path="x/")
    first.set("a", b"1")
    assert str(first) == "memory://of-test/x"
    assert ManagedMemoryStore.from_url("memory://of-test/x").get("a") == b"1"
    assert ManagedMemoryStore("of-test").get("x/a") == b"1"
    assert ManagedMemoryStore("of-test").lock_key("x/a") == first.lock_key("a")
    assert pickle.loads(pickle.dumps(first)) == first
    unnamed = ManagedMemoryStore()
    assert unnamed != ManagedMemoryStore()
    assert pickle.loads(pickle.dumps(unnamed)) == unnamed
    with pytest.raises(InvalidKeyError):
        ManagedMemoryStore("a/b")
    with pytest.raises(InvalidKeyError):
        ManagedMemoryStore("a", path="../b")


def test_named_memory_of_another_process_is_an_error(tmp_path: Path) -> None:
    script = (
        "import pickle, sys; from zarr_core.storage import ManagedMemoryStore;"
        "sys.stdout.buffer.write(pickle.dumps(ManagedMemoryStore('elsewhere')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    with pytest.raises(StoreError, match="another process"):
        pickle.loads(done.stdout)


# --- wrappers ------------------------------------------------------------------------------------


def test_a_mapping_that_makes_values_is_not_asked_for_them() -> None:
    values: defaultdict[str, bytes] = defaultdict(lambda: b"made")
    store = MemoryStore(values)
    array = zarr_core.create_array(store, shape=(40,), chunks=(4,), dtype="i4", compressors=None)
    assert store.get("c/0") is None
    assert not array[:].any()
    assert set(values) == {"zarr.json"}


@pytest.mark.parametrize("wrapper", [WrapperStore, CacheStore, LoggingStore, LatencyStore])
def test_what_is_no_store_is_not_wrapped(wrapper: Any) -> None:
    with pytest.raises(TypeError, match=r"expected a store to be wrapped, found \{\}"):
        wrapper({})


def test_wrappers_pass_every_method_on() -> None:
    for kind in (WrapperStore, PrefixStore, LoggingStore):
        own = {name for cls in kind.__mro__ if issubclass(cls, WrapperStore) for name in vars(cls)}
        methods = {name for name, _ in inspect.getmembers(Store, inspect.isfunction)}
        public = {name for name in methods if not name.startswith("_")}
        # defined by `set_if_version`, `list_prefix` and `delete_dir`
        assert public - own == {"set_if_not_exists", "list", "clear", "shown"}


def test_prefix_store_locks_the_same_key() -> None:
    whole = MemoryStore()
    part = PrefixStore(PrefixStore(whole, "a"), "b")
    part.set("c", b"1")
    assert whole.get("a/b/c") == b"1"
    assert part.lock_key("c") == whole.lock_key("a/b/c")
    whole.set("a/bb", b"2")
    part.clear()
    assert list(whole.list()) == ["a/bb"]
    assert PrefixStore(whole, "") != PrefixStore(whole, "a")


def test_logging_counts_and_logs(caplog: pytest.LogCaptureFixture) -> None:
    import logging

    store = LoggingStore(MemoryStore())
    with caplog.at_level("DEBUG", "zarr_core.storage"):
        store.set("a", b"1")
        store.get("a")
        store.get("b")
        assert len(outcomes(store.get_many([Request("a")] * 3))) == 3
    assert store.counter == {"set": 1, "get": 2, "get_many": 1}
    assert store.items == {"get_many": 3}
    assert [record.getMessage().split("(")[0].rpartition(".")[2] for record in caplog.records] == [
        "set",
        "get",
        "get",
        "get_many",
    ]
    stream = io.StringIO()
    loud = LoggingStore(MemoryStore(), "info", logging.StreamHandler(stream))
    loud.get("key")
    assert "get(key)" in stream.getvalue()
    assert loud.with_read_only(True).counter is loud.counter
    assert pickle.loads(pickle.dumps(loud)).counter == {"get": 1}


def test_latency_overlaps() -> None:
    class Gate:
        """Lets calls pass when several are there: so they do overlap."""

        def __init__(self) -> None:
            self.barrier = threading.Barrier(5)

        def __call__(self) -> float:
            self.barrier.wait(timeout=20)
            return 0.0

    store = LatencyStore(MemoryStore(), get_latency=Gate(), set_latency=Gate())
    assert set(outcomes(store.set_many((f"k{i}", b"1") for i in range(10))).values()) == {None}
    assert set(outcomes(store.get_many(Request(f"k{i}") for i in range(10))).values()) == {b"1"}


def test_an_opened_value_has_its_end_already() -> None:
    waits: list[int] = []

    def latency() -> float:
        waits.append(1)
        return 0.0

    store = LatencyStore(MemoryStore({"a": bytes(100_000), "b": b"12345"}), get_latency=latency)
    opened = store.open_value("a")
    assert opened is not None
    for byte_range in (SuffixByteRequest(5), RangeByteRequest(99_000, 99_005)):
        assert opened.read(byte_range) == bytes(5)
    assert len(waits) == 1
    assert opened.read(RangeByteRequest(0, 5)) == bytes(5)
    assert opened.read() == bytes(100_000)
    assert opened.read(SuffixByteRequest(99_999)) == bytes(99_999)
    assert opened.read(OffsetByteRequest(1)) == bytes(99_999)
    assert len(waits) == 5
    small = store.open_value("b")
    assert small is not None
    assert small.read() == small.read(OffsetByteRequest(0)) == b"12345"
    assert len(waits) == 6


def test_cache() -> None:
    inner = LoggingStore(MemoryStore())
    store = CacheStore(inner, max_size=30)
    store.set("a", b"x" * 10)
    assert store.get("a") == b"x" * 10
    assert inner.counter["get"] == 0
    inner.store.set("b", b"y" * 15)
    for _ in range(3):
        assert store.get("b", RangeByteRequest(0, 5)) == b"y" * 5
    assert inner.counter["get"] == 1
    store.get("b")
    assert inner.counter["get"] == 2
    assert store.cache_info()["current_size"] == 30
    inner.store.set("c", b"z" * 20)
    store.get("c")  # the least recently used copies make room
    assert store.cache_info()["current_size"] <= 30
    stats = store.cache_stats()
    assert (stats["hits"], stats["misses"]) == (3, 3)
    assert stats["evictions"] == 3
    assert stats["hit_rate"] == 0.5
    inner.store.set("d", b"z" * 31)
    store.get("d")  # too large to be kept
    assert store.cache_info()["current_size"] <= 30
    store.clear_cache()
    assert store.cache_info()["current_size"] == 0
    assert store.get("c") == b"z" * 20


def test_cache_after_writes() -> None:
    inner = MemoryStore()
    store = CacheStore(inner, cache_set_data=False)
    store.set("a", b"0123")
    assert store.get("a", RangeByteRequest(0, 2)) == b"01"
    assert store.get("a") == b"0123"
    store.set("a", b"abcd")
    assert store.get("a", RangeByteRequest(0, 2)) == b"ab"
    assert store.set_if_version("a", b"efgh", store.get_versioned("a")[1])
    assert store.get("a") == b"efgh"
    store.delete_dir("")
    assert store.get("a") is None
    assert store.get("a", SuffixByteRequest(1)) is None


@pytest.mark.parametrize("reader_first", [True, False])
def test_cache_has_one_bookkeeping_for_handles_that_only_read(reader_first: bool) -> None:
    store = CacheStore(MemoryStore())
    reader = store.with_read_only(True)
    store.set("a", b"1")
    first, second = (reader, store) if reader_first else (store, reader)
    assert (first.get("a"), second.get("a")) == (b"1", b"1")
    store.set("a", b"2")
    assert (first.get("a"), second.get("a")) == (b"2", b"2")
    store.delete("a")
    assert (first.get("a"), second.get("a")) == (None, None)
    assert reader.cache_stats() == store.cache_stats()
    with pytest.raises(ReadOnlyError):
        reader.set("a", b"3")
    array = zarr_core.create_array(store, name="x", data=np.arange(6), chunks=(3,))
    seen = zarr_core.open_array(store, path="x", mode="r")
    assert seen[:].tolist() == [0, 1, 2, 3, 4, 5]
    array[:] = 7
    assert seen[:].tolist() == [7] * 6


def test_cache_grows_old() -> None:
    inner = MemoryStore()
    inner.set("a", b"1")
    store = CacheStore(inner, max_age_seconds=1000)
    assert store.get("a") == b"1"
    inner.set("a", b"2")
    assert store.get("a") == b"1"
    store._copies.entries = type(store._copies.entries)(
        (name, entry._replace(stored=entry.stored - 2000))
        for name, entry in store._copies.entries.items()
    )
    assert store.get("a") == b"2"


def test_cache_does_not_keep_what_was_replaced_while_it_was_read() -> None:
    class Slow(MemoryStore):
        def get(self, key: str, byte_range: Any = None) -> Any:
            value = super().get(key, byte_range)
            if threading.current_thread() is reader:
                read.set()
                assert written.wait(10)
            return value

    read, written = threading.Event(), threading.Event()
    store = CacheStore(Slow(), cache_set_data=False)
    store.set("a", b"old")
    reader = threading.Thread(target=lambda: store.get("a"))
    reader.start()
    assert read.wait(10)
    store.set("a", b"new")
    written.set()
    reader.join()
    assert store.get("a") == b"new"


def test_cache_in_a_store_that_stays(tmp_path: Path) -> None:
    inner = LoggingStore(MemoryStore())
    inner.set("a/b@c", b"123")
    kept = LocalStore(tmp_path)
    first = CacheStore(inner, cache_store=kept, whole_values=True)
    assert first.get("a/b@c", RangeByteRequest(0, 1)) == b"1"
    second = CacheStore(inner, cache_store=kept, whole_values=True)
    opened = second.open_value("a/b@c")
    assert opened is not None
    assert opened.read(RangeByteRequest(2, 3)) == b"3"
    assert inner.counter["get"] == 1
    with pytest.raises(ValueError):
        CacheStore(inner, cache_store=kept.with_read_only(True))


# --- places --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", ""),
        (None, ""),
        ("/", ""),
        ("/a//b/", "a/b"),
        ("a\\b", "a/b"),
        (Path("a/b"), "a/b"),
        (b"a/b", "a/b"),
    ],
)
def test_normalize_path(path: Any, expected: str) -> None:
    assert normalize_path(path) == expected


@pytest.mark.parametrize("path", ["..", "a/../b", ".", "./a", "a\\..", "a\0"])
def test_normalize_path_refuses(path: str) -> None:
    with pytest.raises(ValueError):
        normalize_path(path)
    with pytest.raises(TypeError):
        normalize_path(5)  # type: ignore[arg-type]


def test_store_path() -> None:
    place = StorePath(MemoryStore(), "/a/") / "b" / "c"
    assert place.path == "a/b/c"
    assert (StorePath(place.store) / "").path == ""
    assert place.key("zarr.json") == "a/b/c/zarr.json"
    assert StorePath(place.store).key("zarr.json") == "zarr.json"
    assert place.get() is None
    place.set(b"1")
    assert place.get() == b"1"
    assert not place.set_if_not_exists(b"2")
    assert place.exists()
    assert str(place) == f"{place.store}/a/b/c"
    assert not (StorePath(place.store) / "a").is_empty()
    (StorePath(place.store) / "a").delete_dir()
    assert not place.exists()
    place.set(b"1")
    place.delete()
    assert not place.exists()
    assert StorePath(place.store, "a") == StorePath(place.store, "/a")
    assert pickle.loads(pickle.dumps(StorePath(LocalStore("/x"), "a"))).path == "a"
    with pytest.raises(ValueError):
        place / ".."


def test_store_from(tmp_path: Path) -> None:
    assert store_from(str(tmp_path)).store == LocalStore(tmp_path)
    assert store_from(tmp_path, path="/a/b").path == "a/b"
    assert store_from(f"file://{tmp_path}").store == LocalStore(tmp_path)
    assert store_from("memory://some/where").store == ManagedMemoryStore("some", path="where")
    assert isinstance(store_from(tmp_path / "x.zip").store, ZipStore)
    assert isinstance(store_from(f"zip://{tmp_path}/x").store, ZipStore)
    (tmp_path / "dir.zip").mkdir()
    assert isinstance(store_from(tmp_path / "dir.zip").store, LocalStore)
    store = MemoryStore()
    assert store_from(store).store is store
    assert store_from(StorePath(store, "a"), path="b") == StorePath(store, "a/b")
    import fsspec

    assert isinstance(store_from(fsspec.get_mapper("memory://x")).store, FsspecStore)
    assert isinstance(store_from("http://localhost:9/x").store, FsspecStore)
    assert isinstance(store_from("simplecache::memory://x").store, FsspecStore)
    obstore = pytest.importorskip("obstore.store")
    assert isinstance(store_from(obstore.MemoryStore()).store, ObjectStore)


@pytest.mark.parametrize("what", [1, 1.5, b"x", ["a"], object(), set()])
def test_store_from_refuses(what: Any) -> None:
    with pytest.raises(TypeError):
        store_from(what)


def test_store_from_modes(tmp_path: Path) -> None:
    store = MemoryStore()
    view = store_from(store, read_only=True)
    assert view.read_only
    assert not store.read_only
    assert store_from(store, mode="r").read_only
    assert not store_from(store, mode="a").read_only
    assert store_from(view.store).read_only
    for mode in ("r+", "a", "w", "w-"):
        with pytest.raises(ReadOnlyError):
            store_from(view.store, mode=mode)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mode"):
        store_from(store, mode="x")  # type: ignore[arg-type]
    missing = store_from(tmp_path / "missing.zip", mode="r").store
    with pytest.raises(FileNotFoundError):
        missing.get("zarr.json")


@pytest.mark.parametrize("like", ["/some/path", {}, None, MemoryStore(), "memory://x"])
def test_storage_options_are_for_fsspec(like: Any) -> None:
    with pytest.raises(TypeError, match="storage_options"):
        store_from(like, storage_options={"anon": True})


def test_names_are_imported_when_used() -> None:
    import zarr_core.storage

    assert set(zarr_core.storage.__all__) <= set(dir(zarr_core.storage))
    for name in zarr_core.storage.__all__:
        assert getattr(zarr_core.storage, name) is not None
    with pytest.raises(AttributeError):
        zarr_core.storage.NoSuchStore


def test_snapshots() -> None:
    snapshot = ValueSnapshot(b"0123", "v")
    assert (snapshot.size, snapshot.version) == (4, "v")
    assert snapshot.read(OffsetByteRequest(3)) == b"3"
    with pytest.raises(StoreError):
        snapshot.read(RangeByteRequest(3, 9))
    snapshot.close()


def test_calling_a_store_from_its_own_loop_raises(tmp_path: Path) -> None:
    import asyncio

    store = from_zarr_store(pytest.importorskip("zarr").storage.MemoryStore())

    async def bad() -> Any:
        return store.get("a")

    with pytest.raises(RuntimeError, match="own event loop"):
        asyncio.run_coroutine_threadsafe(bad(), own_loop()).result(10)
