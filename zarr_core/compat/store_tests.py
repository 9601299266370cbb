"""`zarr.testing.store`: what an asynchronous store must do, as a class of tests to be subclassed.

It needs pytest and pytest-asyncio in its mode `auto`.
"""

import pickle
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Final

import pytest

from zarr_core.codecs.buffers import Buffer, default_buffer_prototype
from zarr_core.compat.stores import Store, SupportsDeleteSync, SupportsGetSync, SupportsSetSync
from zarr_core.compat.sync import collect_aiterator, sync
from zarr_core.compat.wrappers import LatencyStore
from zarr_core.storage import OffsetByteRequest, RangeByteRequest, SuffixByteRequest

__all__ = ["LatencyStore", "StoreTests", "assert_bytes_equal"]

KEYS = ("zarr.json", "c/0", "foo/c/0.0", "foo/0/0")
VALUE = b"\x01\x02\x03\x04"
RANGES = {
    "whole": (None, VALUE),
    "range": (RangeByteRequest(1, 4), VALUE[1:4]),
    "offset": (OffsetByteRequest(1), VALUE[1:]),
    "suffix": (SuffixByteRequest(1), VALUE[-1:]),
}
READ_ONLY = "store was opened in read-only mode and does not support writing"
each_range: Final = pytest.mark.parametrize(("byte_range", "expected"), RANGES.values(), ids=RANGES)


def assert_bytes_equal(left: Buffer | None, right: Buffer | None) -> None:
    """Assert that two values are the same bytes, or both None."""
    found, expected = (None if b is None else b.to_bytes() for b in (left, right))
    assert found == expected


def _need(store: Any, *kinds: type) -> None:
    for kind in kinds:
        if not isinstance(store, kind):
            pytest.skip(f"the store has no methods of {kind.__name__}")


def _need_deletes(store: Store) -> None:
    if not store.supports_deletes:
        pytest.skip("the store removes nothing")


class StoreTests:
    """Tests of `store_cls`.

    A subclass sets `store_cls` and `buffer_cls`, has `set` and `get` that reach what is stored
    without the store's own methods, a fixture `store_kwargs` with arguments for new stores, and the
    tests that are abstract here.
    """

    store_cls: type[Any]
    buffer_cls: type[Buffer]

    def __class_getitem__(cls, _: object) -> type:
        """Return the class: zarr-python's is generic."""
        return cls

    @abstractmethod
    async def set(self, store: Any, key: str, value: Buffer) -> None:
        """Store a value without the methods of the store."""

    @abstractmethod
    async def get(self, store: Any, key: str) -> Buffer:
        """Return a value without the methods of the store."""

    @abstractmethod
    @pytest.fixture
    def store_kwargs(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return arguments for a new, empty store."""

    @pytest.fixture
    def open_kwargs(self, store_kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return arguments of `open`."""
        return store_kwargs

    @pytest.fixture
    async def store(self, open_kwargs: dict[str, Any]) -> Any:
        """Return an open store."""
        return await self.store_cls.open(**open_kwargs)

    @pytest.fixture
    async def store_not_open(self, store_kwargs: dict[str, Any]) -> Any:
        """Return a store that opens itself."""
        return self.store_cls(**store_kwargs)

    def _value(self, data: bytes = VALUE) -> Buffer:
        return self.buffer_cls.from_bytes(data)

    async def _fill(self, store: Store, values: Mapping[str, bytes]) -> None:
        await store._set_many([(key, self._value(data)) for key, data in values.items()])

    # --- what it is ------------------------------------------------------------------------------

    @abstractmethod
    def test_store_repr(self, store: Any) -> None: ...

    @abstractmethod
    def test_store_supports_writes(self, store: Any) -> None: ...

    @abstractmethod
    def test_store_supports_listing(self, store: Any) -> None: ...

    def test_store_supports_partial_writes(self, store: Any) -> None:
        assert not store.supports_partial_writes

    def test_store_type(self, store: Any) -> None:
        assert isinstance(store, Store)
        assert isinstance(store, self.store_cls)

    def test_store_eq(self, store: Any, store_kwargs: dict[str, Any]) -> None:
        assert store == self.store_cls(**store_kwargs)

    async def test_serializable_store(self, store: Any) -> None:
        copy = pickle.loads(pickle.dumps(store))
        assert copy == store
        assert copy.read_only == store.read_only
        await store.set("foo", self._value())
        assert_bytes_equal(await store.get("foo", default_buffer_prototype()), self._value())

    def test_store_read_only(self, store: Any) -> None:
        assert not store.read_only
        with pytest.raises(AttributeError):
            store.read_only = False

    @pytest.mark.parametrize("read_only", [True, False])
    async def test_store_open_read_only(self, open_kwargs: Any, read_only: bool) -> None:
        store = await self.store_cls.open(**{**open_kwargs, "read_only": read_only})
        assert store._is_open
        assert store.read_only == read_only

    async def test_store_context_manager(self, open_kwargs: dict[str, Any]) -> None:
        with await self.store_cls.open(**open_kwargs) as store:
            assert store._is_open
            with pytest.raises(ValueError, match="store is already open"):
                await store._open()
        assert not store._is_open

    async def _refuses_to_write(self, store: Any) -> None:
        assert store.read_only
        with pytest.raises(ValueError, match=READ_ONLY):
            await store.set("foo", self._value())
        with pytest.raises(ValueError, match=READ_ONLY):
            await store.delete("foo")

    async def test_read_only_store_raises(self, open_kwargs: dict[str, Any]) -> None:
        await self._refuses_to_write(
            await self.store_cls.open(**{**open_kwargs, "read_only": True})
        )

    async def test_with_read_only_store(self, open_kwargs: dict[str, Any]) -> None:
        store = await self.store_cls.open(**{**open_kwargs, "read_only": True})
        await self._refuses_to_write(store)
        try:
            writer = store.with_read_only(read_only=False)
        except NotImplementedError as error:
            assert "with_read_only is not implemented" in str(error)  # noqa: PT017
            return
        assert not writer.read_only
        await writer.set("foo", self._value())
        await writer.delete("foo")
        await self._refuses_to_write(store)
        await self._refuses_to_write(store.with_read_only(read_only=True))

    # --- values ----------------------------------------------------------------------------------

    @pytest.mark.parametrize("key", KEYS[1:])
    @each_range
    async def test_get(self, store: Any, key: str, byte_range: Any, expected: bytes) -> None:
        await self.set(store, key, self._value())
        found = await store.get(key, prototype=default_buffer_prototype(), byte_range=byte_range)
        assert_bytes_equal(found, self._value(expected))

    async def test_get_not_open(self, store_not_open: Any) -> None:
        await self.set(store_not_open, "c/0", self._value())
        found = await store_not_open.get("c/0", prototype=default_buffer_prototype())
        assert_bytes_equal(found, self._value())

    async def test_get_raises(self, store: Any) -> None:
        await self.set(store, "c/0", self._value())
        with pytest.raises((ValueError, TypeError), match="Unexpected byte_range, got"):
            await store.get("c/0", prototype=default_buffer_prototype(), byte_range=(0, 2))

    async def test_get_many(self, store: Any) -> None:
        values = {str(k): str(k).encode() for k in range(10)}
        for key, data in values.items():
            await self.set(store, key, self._value(data))
        prototype = default_buffer_prototype()
        found = await collect_aiterator(store._get_many((key, prototype, None) for key in values))
        assert {key: value.to_bytes() for key, value in found} == values

    @pytest.mark.parametrize("key", KEYS[1:])
    @pytest.mark.parametrize("data", [VALUE, b""])
    async def test_getsize(self, store: Any, key: str, data: bytes) -> None:
        await self.set(store, key, self._value(data))
        assert await store.getsize(key) == len(data)

    async def test_getsize_prefix(self, store: Any) -> None:
        await self._fill(store, dict.fromkeys(("c/0/0", "c/0/1", "c/1/0", "c/1/1", "cc/0"), VALUE))
        assert await store.getsize_prefix("c") == 4 * len(VALUE)

    async def test_getsize_raises(self, store: Any) -> None:
        with pytest.raises(FileNotFoundError):
            await store.getsize("c/1000")

    @pytest.mark.parametrize("key", KEYS)
    @pytest.mark.parametrize("data", [VALUE, b""])
    async def test_set(self, store: Any, key: str, data: bytes) -> None:
        await store.set(key, self._value(data))
        assert_bytes_equal(await self.get(store, key), self._value(data))

    async def test_set_not_open(self, store_not_open: Any) -> None:
        await store_not_open.set("c/0", self._value())
        assert_bytes_equal(await self.get(store_not_open, "c/0"), self._value())

    async def test_set_many(self, store: Any) -> None:
        await self._fill(store, {key: key.encode() for key in KEYS})
        for key in KEYS:
            assert_bytes_equal(await self.get(store, key), self._value(key.encode()))

    async def test_set_if_not_exists(self, store: Any) -> None:
        await self.set(store, "k", self._value())
        for key, expected in (("k", VALUE), ("k2", b"new")):
            await store.set_if_not_exists(key, self._value(b"new"))
            found = await store.get(key, default_buffer_prototype())
            assert_bytes_equal(found, self._value(expected))

    async def test_get_partial_values(self, store: Any) -> None:
        asked = [(f"c/{name}", byte_range) for name, (byte_range, _) in RANGES.items()]
        for key, _ in asked:
            await self.set(store, key, self._value())
        found = await store.get_partial_values(default_buffer_prototype(), iter(asked))
        assert [v.to_bytes() for v in found] == [expected for _, expected in RANGES.values()]

    async def test_exists(self, store: Any) -> None:
        assert not await store.exists("foo")
        await store.set("foo/zarr.json", self._value())
        assert await store.exists("foo/zarr.json")

    async def test_delete(self, store: Any) -> None:
        _need_deletes(store)
        await store.set("foo/zarr.json", self._value())
        await store.delete("foo/zarr.json")
        assert not await store.exists("foo/zarr.json")

    async def test_delete_nonexistent_key_does_not_raise(self, store: Any) -> None:
        _need_deletes(store)
        await store.delete("nonexistent_key")

    async def test_delete_dir(self, store: Any) -> None:
        _need_deletes(store)
        stay, go = ("zarr.json", "foo-bar/zarr.json"), ("foo/zarr.json", "foo/c/0")
        await self._fill(store, dict.fromkeys((*stay, *go), VALUE))
        await store.delete_dir("foo")
        assert [await store.exists(key) for key in (*stay, *go)] == [True, True, False, False]

    async def test_clear(self, store: Any) -> None:
        await self.set(store, "key", self._value())
        await store.clear()
        assert await store.is_empty("")

    # --- listing ---------------------------------------------------------------------------------

    async def test_is_empty(self, store: Any) -> None:
        assert await store.is_empty("")
        await self.set(store, "foo/bar", self._value())
        asked = ("", "fo", "foo/", "foo", "spam/")
        assert [await store.is_empty(p) for p in asked] == [False, True, False, False, True]

    async def test_list(self, store: Any) -> None:
        assert await collect_aiterator(store.list()) == ()
        keys = ["foo/zarr.json", *(f"foo/c/{k}" for k in range(10))]
        await self._fill(store, dict.fromkeys(keys, b""))
        assert sorted(await collect_aiterator(store.list())) == sorted(keys)

    async def test_list_prefix(self, store: Any) -> None:
        prefixes = ("", "a/", "a/b/", "a/b/c/")
        await self._fill(store, {f"{prefix}zarr.json": b"" for prefix in prefixes})
        for prefix in prefixes:
            expected = [f"{below}zarr.json" for below in prefixes if below.startswith(prefix)]
            found = await collect_aiterator(store.list_prefix(prefix))
            assert sorted(found) == sorted(expected)

    async def test_list_empty_path(self, store: Any) -> None:
        keys = ("foo/bar/c/1", "foo/bar/zarr.json", "foo/baz/c/0")
        await self._fill(store, dict.fromkeys(keys, b""))
        for found, expected in (
            (store.list(), keys),
            (store.list_prefix(""), keys),
            (store.list_prefix("foo/bar/"), keys[:2]),
        ):
            assert tuple(sorted(await collect_aiterator(found))) == expected

    async def test_list_dir(self, store: Any) -> None:
        assert await collect_aiterator(store.list_dir("")) == ()
        assert await collect_aiterator(store.list_dir("foo")) == ()
        await self._fill(store, dict.fromkeys(("foo/zarr.json", "foo/c/1", "foo/c/2"), VALUE))
        for path in ("foo", "foo/"):
            assert sorted(await collect_aiterator(store.list_dir(path))) == ["c", "zarr.json"]

    # --- methods that need not be awaited --------------------------------------------------------

    def test_get_sync(self, store: Any) -> None:
        _need(store, SupportsGetSync)
        sync(self.set(store, "sync_get", self._value()))
        assert_bytes_equal(store.get_sync("sync_get"), self._value())

    def test_set_sync(self, store: Any) -> None:
        _need(store, SupportsSetSync)
        store.set_sync("sync_set", self._value())
        assert_bytes_equal(sync(self.get(store, "sync_set")), self._value())

    def test_delete_sync(self, store: Any) -> None:
        _need(store, SupportsGetSync, SupportsSetSync, SupportsDeleteSync)
        _need_deletes(store)
        store.set_sync("sync_delete", self._value())
        store.delete_sync("sync_delete")
        assert store.get_sync("sync_delete") is None
