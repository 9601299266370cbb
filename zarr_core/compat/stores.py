"""zarr-python's asynchronous stores: the base class of those of other libraries, and faces of ours.

A face is an awaitable store over exactly one synchronous store. Where the library is given a face it
uses the store behind it; an instance of a subclass of a face is asked itself, so what it overrides
counts.
"""

import asyncio
import json
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable
from weakref import WeakValueDictionary

from zarr_core import storage
from zarr_core.codecs.buffers import Buffer, BufferPrototype, default_buffer_prototype
from zarr_core.errors import MetadataValidationError, ReadOnlyError
from zarr_core.hierarchy.stored_nodes import read_node
from zarr_core.storage import store_from
from zarr_core.storage.adapters import AwaitedStore, from_zarr_store
from zarr_core.storage.paths import AccessMode, normalize_path


class Store(ABC):
    """The base of asynchronous stores."""

    supports_consolidated_metadata = True
    supports_partial_writes = False
    supports_writes = True
    supports_deletes = True
    supports_listing = True

    def __init__(self, *, read_only: bool = False) -> None:
        self._is_open = False
        self._read_only = read_only

    def __class_getitem__(cls, _: object) -> type:
        """Return the class: zarr-python's wrappers are generic."""
        return cls

    @classmethod
    async def open(cls, *args: Any, **kwargs: Any) -> Self:
        """Return an open store; the arguments are those of the constructor."""
        store = cls(*args, **kwargs)
        await store._open()
        return store

    async def _open(self) -> None:
        if self._is_open:
            raise ValueError("store is already open")
        self._is_open = True

    async def _ensure_open(self) -> None:
        if not self._is_open:
            await self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release what was opened."""
        self._is_open = False

    @property
    def read_only(self) -> bool:
        """Whether writing raises."""
        return self._read_only

    def with_read_only(self, read_only: bool = False) -> "Store":
        """Return a store of the same place with another `read_only`."""
        raise NotImplementedError(
            f"with_read_only is not implemented for the {type(self)} store type."
        )

    def _check_writable(self) -> None:
        if self.read_only:
            raise ReadOnlyError("store was opened in read-only mode and does not support writing")

    @abstractmethod
    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: Any = None
    ) -> Buffer | None:
        """Return the value of a key, or part of it; None when there is none."""

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, Any]]
    ) -> Sequence[Buffer | None]:
        """Return parts of values."""
        return list(await asyncio.gather(*(self.get(k, prototype, r) for k, r in key_ranges)))

    @abstractmethod
    async def exists(self, key: str) -> bool:
        """Return whether a key has a value."""

    @abstractmethod
    async def set(self, key: str, value: Buffer) -> None:
        """Store a value."""

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Store a value unless the key has one."""
        if not await self.exists(key):
            await self.set(key, value)

    async def _set_many(self, values: Iterable[tuple[str, Buffer]]) -> None:
        await asyncio.gather(*(self.set(key, value) for key, value in values))

    @abstractmethod
    async def delete(self, key: str) -> None:
        """Remove a key."""

    @abstractmethod
    def list(self) -> AsyncIterator[str]:
        """Yield every key."""

    @abstractmethod
    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys that begin with a text."""

    @abstractmethod
    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names directly below a path."""

    async def delete_dir(self, prefix: str) -> None:
        """Remove every key below a path."""
        self._check_writable()
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        for key in [key async for key in self.list_prefix(start)]:
            await self.delete(key)

    async def clear(self) -> None:
        """Remove every key."""
        await self.delete_dir("")

    async def is_empty(self, prefix: str) -> bool:
        """Return whether there is no key below a path."""
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        async for _ in self.list_prefix(start):
            return False
        return True

    async def getsize(self, key: str) -> int:
        """Return the size of a value in bytes; raise `FileNotFoundError`."""
        value = await self.get(key, default_buffer_prototype())
        if value is None:
            raise FileNotFoundError(key)
        return len(value)

    async def getsize_prefix(self, prefix: str) -> int:
        """Return the size in bytes of all values below a path."""
        return sum([await self.getsize(key) async for key in self.list_prefix(prefix)])

    async def _get_many(
        self, requests: Iterable[tuple[str, BufferPrototype, Any]]
    ) -> AsyncIterator[tuple[str, Buffer | None]]:
        for key, prototype, byte_range in requests:
            yield key, await self.get(key, prototype, byte_range)

    async def get_ranges(
        self,
        key: str,
        byte_ranges: Iterable[Any],
        *,
        prototype: BufferPrototype | None = None,
        **_: Any,
    ) -> AsyncIterator[Sequence[tuple[int, Buffer | None]]]:
        """Yield lists of pairs: the number of a range, and that part of a value.

        Raises an exception group with `FileNotFoundError` when there is no such key.
        """
        found = await asyncio.gather(*(self.get(key, prototype, part) for part in byte_ranges))
        yield _numbered(key, found)

    def get_ranges_sync(
        self,
        key: str,
        byte_ranges: Iterable[Any],
        *,
        prototype: BufferPrototype | None = None,
        **_: Any,
    ) -> Sequence[tuple[int, Buffer | None]]:
        """Return what `get_ranges` yields, of a store that has `get_sync`."""
        if not isinstance(self, SupportsGetSync):
            raise TypeError(f"{type(self).__name__} does not support synchronous reads")
        parts = [self.get_sync(key, prototype=prototype, byte_range=part) for part in byte_ranges]
        return _numbered(key, parts)


def _numbered(key: str, parts: Sequence[Buffer | None]) -> list[tuple[int, Buffer | None]]:
    if None in parts:
        raise ExceptionGroup(f"parts of {key!r}", [FileNotFoundError(key)])
    return list(enumerate(parts))


@runtime_checkable
class SupportsGetSync(Protocol):
    """A store that can be read without awaiting."""

    def get_sync(self, key: str, *, prototype: Any = None, byte_range: Any = None) -> Any:
        """Return the value of a key, or part of it; None when there is none."""


@runtime_checkable
class SupportsSetSync(Protocol):
    """A store that can be written without awaiting."""

    def set_sync(self, key: str, value: Buffer) -> None:
        """Store a value."""


@runtime_checkable
class SupportsDeleteSync(Protocol):
    """A store of which keys can be removed without awaiting."""

    def delete_sync(self, key: str) -> None:
        """Remove a key."""


# --- faces ---------------------------------------------------------------------------------------


class Face(AwaitedStore, Store):
    """A store of ours, awaitable."""

    of: ClassVar[Any] = storage.Store

    def __init__(self, store: storage.Store) -> None:
        self._core = store
        self._is_open = False
        _faces[id(store)] = self

    def close(self) -> None:
        """Close the store behind it."""
        self._is_open = False
        self._core.close()

    @property
    def read_only(self) -> bool:
        """Whether writing raises."""
        return self._core.read_only

    def with_read_only(self, read_only: bool = False) -> Any:
        """Return a face of the same place with another `read_only`."""
        return face_of(self._core.with_read_only(read_only), type(self))

    def _default_prototype(self) -> Any:
        return default_buffer_prototype()

    def _zarr_core_place(self) -> storage.StorePath:
        """Return the place that the library means by this."""
        store = self._core if type(self) in FACES else from_zarr_store(self)
        return storage.StorePath(store)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._core, name)  # `root`, `fs`, `mode` and the like

    def __reduce__(self) -> tuple[Any, ...]:
        return face_of, (self._core, type(self))

    def __repr__(self) -> str:
        return repr(self._core)


_faces: WeakValueDictionary[int, Face] = WeakValueDictionary()
"""The faces there are, by the identity of the store behind, which they keep alive."""


def face_of(store: storage.Store, face: type[Face] | None = None) -> Any:
    """Return the face of a store of ours: the one it has, or a new one."""
    known = _faces.get(id(store))
    if known is not None and face in (None, type(known)):
        return known
    if face is None:
        face = next((face for face in FACES if type(store) is face.of), Face)
    made = face.__new__(face)
    Face.__init__(made, store)
    made._is_open = True
    return made


class _Values(MutableMapping[str, Buffer]):
    """The values of a store as buffers."""

    def __init__(self, store: storage.Store) -> None:
        self._core = store

    def __getitem__(self, key: str) -> Buffer:
        value = self._core.get(key)
        if value is None:
            raise KeyError(key)
        return Buffer.from_bytes(value)

    def __setitem__(self, key: str, value: Buffer) -> None:
        self._core.set(key, value.to_bytes())

    def __delitem__(self, key: str) -> None:
        self._core.delete(key)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._core.list()))

    def __len__(self) -> int:
        return sum(1 for _ in self._core.list())


class _Movable(Face):
    async def move(self, path: Any) -> None:
        """Move what is stored to another path."""
        await self._call(getattr(self._core, "move"), path)  # noqa: B009 - not of every store


class MemoryStore(Face):
    """Values in a dictionary."""

    of: ClassVar[Any] = storage.MemoryStore

    def __init__(self, store_dict: Any = None, *, read_only: bool = False) -> None:
        if store_dict and any(isinstance(value, Buffer) for value in store_dict.values()):
            store_dict = {key: value.to_bytes() for key, value in store_dict.items()}
        super().__init__(storage.MemoryStore(store_dict, read_only=read_only))

    @property
    def _store_dict(self) -> "_Values":
        return _Values(self._core)


class ManagedMemoryStore(MemoryStore):
    """Values in a dictionary of the process that has a name."""

    of = storage.ManagedMemoryStore

    def __init__(self, name: str | None = None, *, path: str = "", read_only: bool = False) -> None:
        Face.__init__(self, storage.ManagedMemoryStore(name, path=path, read_only=read_only))

    @classmethod
    def from_url(cls, url: str, *, read_only: bool = False) -> Self:
        """Return the store of a `memory://` URL."""
        made: Self = face_of(storage.ManagedMemoryStore.from_url(url, read_only=read_only), cls)
        return made


class LocalStore(_Movable):
    """Values in files below a directory."""

    of = storage.LocalStore

    def __init__(self, root: str | os.PathLike[str], *, read_only: bool = False) -> None:
        if not isinstance(root, str | Path):
            raise TypeError(
                f"'root' must be a string or Path instance. Got an instance of {type(root)} instead."
            )
        super().__init__(storage.LocalStore(root, read_only=read_only))

    @property
    def root(self) -> Path:
        """The directory."""
        return Path(getattr(self._core, "root"))  # noqa: B009 - of `LocalStore`, not of every store

    @classmethod
    async def open(
        cls, root: str | os.PathLike[str], *, read_only: bool = False, mode: Any = None
    ) -> Self:
        """Return a store; `mode` is how `open` would have it."""
        store = cls(root, read_only=read_only or mode == "r")
        await store._open()
        return store


class FsspecStore(Face):
    """Values in a file system of fsspec."""

    of = storage.FsspecStore

    def __init__(self, fs: Any, read_only: bool = False, path: str = "/", **kwargs: Any) -> None:
        super().__init__(storage.FsspecStore(fs, read_only=read_only, path=path, **kwargs))

    @classmethod
    def _made(cls, way: str, *args: Any, **kwargs: Any) -> Self:
        made: Self = face_of(getattr(storage.FsspecStore, way)(*args, **kwargs), cls)
        return made

    @classmethod
    def from_url(cls, *args: Any, **kwargs: Any) -> Self:
        """Return the store of a URL; see `zarr_core.storage.FsspecStore.from_url`."""
        return cls._made("from_url", *args, **kwargs)

    @classmethod
    def from_upath(cls, *args: Any, **kwargs: Any) -> Self:
        """Return the store of a path of universal_pathlib."""
        return cls._made("from_upath", *args, **kwargs)

    @classmethod
    def from_mapper(cls, *args: Any, **kwargs: Any) -> Self:
        """Return the store of a mapper of fsspec."""
        return cls._made("from_mapper", *args, **kwargs)


class ObjectStore(Face):
    """Values in a store of obstore."""

    of = storage.ObjectStore

    def __init__(self, store: Any, *, read_only: bool = False) -> None:
        super().__init__(storage.ObjectStore(store, read_only=read_only))


class ZipStore(_Movable):
    """Values in a zip file."""

    of = storage.ZipStore

    def __init__(self, path: Any, *, mode: Any = "r", **kwargs: Any) -> None:
        super().__init__(storage.ZipStore(path, mode=mode, **kwargs))

    @property
    def path(self) -> Path | None:
        """The path of the archive."""
        found: Path | None = getattr(self._core, "path")  # noqa: B009 - of `ZipStore` alone
        return found


FACES: tuple[type[Face], ...] = (
    *(Face, MemoryStore, ManagedMemoryStore, LocalStore, FsspecStore, ObjectStore, ZipStore),
)
"""Classes of which an instance is nothing but the store behind it."""


# --- places --------------------------------------------------------------------------------------


class StorePath:
    """An asynchronous store, and a path in it."""

    store: Store
    path: str

    def __init__(self, store: Store, path: str = "") -> None:
        self.store, self.path = store, normalize_path(path)

    @classmethod
    async def open(cls, store: Store, path: str, mode: AccessMode | None = None) -> Self:
        """Return a place, checked and made ready as `mode` says."""
        place = cls(store, path)
        if mode is None:
            return place
        if mode not in ("r", "r+", "a", "w", "w-"):
            raise ValueError(f"Invalid mode: {mode}")
        if mode == "r" and not store.read_only:
            return cls(store.with_read_only(True), path)
        if mode != "r" and store.read_only:
            raise ReadOnlyError(f"Store is read-only but mode is {mode!r}")
        if mode == "w-" and not await place.is_empty():
            raise FileExistsError(f"{place!r} already contains something; mode is 'w-'")
        return place

    @property
    def read_only(self) -> bool:
        """Whether the store is read-only."""
        return self.store.read_only

    async def get(self, prototype: Any = None, byte_range: Any = None) -> Buffer | None:
        """Return the value whose key is this path."""
        return await self.store.get(
            self.path, prototype or default_buffer_prototype(), byte_range=byte_range
        )

    async def get_json(self, *, byte_range: Any = None) -> Any:
        """Return the JSON document whose key is this path."""
        value = await self.get(byte_range=byte_range)
        return None if value is None else json.loads(value.to_bytes())

    async def set(self, value: Buffer) -> None:
        """Store a value under the key that is this path."""
        await self.store.set(self.path, value)

    async def set_if_not_exists(self, default: Buffer) -> None:
        """Store a value under the key that is this path unless it has one."""
        await self.store.set_if_not_exists(self.path, default)

    async def delete(self) -> None:
        """Remove the key that is this path."""
        await self.store.delete(self.path)

    async def delete_dir(self) -> None:
        """Remove every key below this path."""
        await self.store.delete_dir(self.path)

    async def exists(self) -> bool:
        """Return whether there is a value whose key is this path."""
        return await self.store.exists(self.path)

    async def is_empty(self) -> bool:
        """Return whether there is no key below this path."""
        return await self.store.is_empty(self.path)

    def __truediv__(self, other: str) -> Self:
        return type(self)(self.store, "/".join(filter(None, (self.path, normalize_path(other)))))

    def _zarr_core_place(self) -> storage.StorePath:
        return store_from(self.store) / self.path if self.path else store_from(self.store)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StorePath):
            return NotImplemented
        return bool(self.store == other.store) and self.path == other.path

    def __hash__(self) -> int:
        return hash((self.store, self.path))

    def __str__(self) -> str:
        return "/".join(filter(None, (str(self.store).rstrip("/"), self.path)))

    def __repr__(self) -> str:
        return f"StorePath({type(self.store).__name__}, '{self}')"


def shown_place(place: storage.StorePath) -> StorePath:
    """Return what `node.store_path` is for programs of zarr-python."""
    return StorePath(place.store.shown(), place.path)


async def make_store_path(
    store_like: Any,
    *,
    path: str | None = "",
    mode: AccessMode | None = None,
    storage_options: dict[str, Any] | None = None,
) -> StorePath:
    """Return the place that a user means."""
    place = store_from(store_like, path=path, mode=mode, storage_options=storage_options)
    return shown_place(place)


async def make_store(
    store_like: Any, *, mode: AccessMode | None = None, storage_options: Any = None
) -> Any:
    """Return the store that a user means."""
    return (await make_store_path(store_like, mode=mode, storage_options=storage_options)).store


async def contains_array(store_path: StorePath, zarr_format: int) -> bool:
    """Return whether there is an array at a place."""
    return _kind_at(store_path, zarr_format) == "array"


async def contains_group(store_path: StorePath, zarr_format: int) -> bool:
    """Return whether there is a group at a place."""
    return _kind_at(store_path, zarr_format) == "group"


def _kind_at(store_path: StorePath, zarr_format: Any) -> str | None:
    try:
        found = read_node(store_from(store_path), zarr_format)
    except MetadataValidationError:
        return None
    return None if found is None else found.node_type
