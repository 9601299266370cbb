"""A place in a store, and what users may write where a store is wanted."""

import os
import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final

from zarr_core.errors import InvalidKeyError, ReadOnlyError
from zarr_core.storage.base import ByteRequest, Store, Value, Writable
from zarr_core.storage.local import LocalStore
from zarr_core.storage.memory import ManagedMemoryStore, MemoryStore

AccessMode: TypeAlias = Literal["r", "r+", "a", "w", "w-"]
"""How something is opened: `"r"` reads, all others may write."""


_PLAIN = re.compile(r"[^/.\\\0]+(?:/[^/.\\\0]+)*")


def normalize_path(path: str | bytes | os.PathLike[str] | None) -> str:
    """Return a path as `a/b/c`: without leading, trailing and doubled slashes; the root is `""`.

    Backslashes become slashes. Raises `InvalidKeyError` (a `ValueError`) for segments `.` and `..`.

    >>> zarr.storage.normalize_path("/a//b/")
    'a/b'
    """
    if path is None:
        return ""
    if isinstance(path, str) and (not path or _PLAIN.fullmatch(path)):
        return path
    if not isinstance(path, str | bytes | os.PathLike):
        raise TypeError(f"a path must be a string, not {type(path).__name__}")
    path = os.fsdecode(path)
    segments = [part for part in path.replace("\\", "/").split("/") if part]
    if not {".", ".."}.isdisjoint(segments) or "\0" in path:
        raise InvalidKeyError(
            f"the path {path!r} is invalid because its string representation contains "
            "'.' or '..' segments, or NUL"
        )
    return "/".join(segments)


@final
@dataclass(frozen=True, slots=True)
class StorePath:
    """A store, and a path in it under which keys are meant; the root of the store is `""`.

    >>> place = zarr.storage.store_from({}) / "a" / "b"
    >>> place.set(b"1")
    >>> place.path, place.get()
    ('a/b', b'1')
    """

    store: Store
    path: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", normalize_path(self.path))

    def __truediv__(self, name: str) -> "StorePath":
        return self.below(normalize_path(name))

    def below(self, path: str) -> "StorePath":
        """Return the place of a path below this one that is normalised already."""
        place = object.__new__(StorePath)
        object.__setattr__(place, "store", self.store)
        object.__setattr__(place, "path", self.key(path) if path else self.path)
        return place

    def key(self, name: str) -> str:
        """Return the key in the store of something below this path."""
        return f"{self.path}/{name}" if self.path else name

    @property
    def read_only(self) -> bool:
        """Whether the store is read-only."""
        return self.store.read_only

    def get(self, byte_range: ByteRequest | None = None) -> Value | None:
        """Return the value whose key is this path, or None."""
        return self.store.get(self.path, byte_range)

    def set(self, value: Writable) -> None:
        """Store a value under the key that is this path."""
        self.store.set(self.path, value)

    def set_if_not_exists(self, value: Writable) -> bool:
        """Store a value under the key that is this path unless it exists; say whether."""
        return self.store.set_if_not_exists(self.path, value)

    def delete(self) -> None:
        """Remove the key that is this path."""
        self.store.delete(self.path)

    def delete_dir(self) -> None:
        """Remove every key below this path."""
        self.store.delete_dir(self.path)

    def exists(self) -> bool:
        """Return whether there is a value whose key is this path."""
        return self.store.exists(self.path)

    def is_empty(self) -> bool:
        """Return whether there is no key below this path."""
        return self.store.is_empty(self.path)

    def shown(self) -> Any:
        """Return what `node.store_path` gives: this place."""
        return self

    def __str__(self) -> str:
        store = str(self.store)
        return f"{store}{'' if store.endswith('/') else '/'}{self.path}" if self.path else store

    def __repr__(self) -> str:
        return f"StorePath({type(self.store).__name__}, {str(self)!r})"


StoreLike: TypeAlias = (
    Store | StorePath | str | os.PathLike[str] | MutableMapping[str, Any] | Any | None
)
"""What is accepted for a store: a `Store`, a path or URL, a dictionary (shared by reference), None
for a new store in memory, an fsspec mapper or UPath, an obstore object, a zarr-python store."""


def store_from(
    store_like: StoreLike,
    *,
    path: str | None = "",
    read_only: bool = False,
    mode: AccessMode | None = None,
    storage_options: dict[str, Any] | None = None,
) -> StorePath:
    """Return the place that a user means.

    Parameters
    ----------
    store_like
        See `StoreLike`. A path that ends in `.zip` and is not a directory is a zip
        file, one that ends in `.sqlite` a file of SQLite; a string with another scheme than
        `file`, `memory`, `sqlite` or `zip` belongs to fsspec.
    path
        Where in the store.
    read_only
        Give a read-only store; a writable one that was passed in is not changed.
    mode
        `"r"` is as `read_only=True`; any other mode needs a store that can be written.
    storage_options
        Options of the fsspec file system; a `TypeError` for any other store.

    Examples
    --------
    >>> zarr.storage.store_from("dir.zarr", path="a").path
    'a'
    >>> zarr.storage.store_from({}).store
    MemoryStore(...)
    """
    if mode not in (None, "r", "r+", "a", "w", "w-"):
        raise ValueError(f"Invalid mode: {mode}; it must be 'r', 'r+', 'a', 'w' or 'w-'")
    read_only = read_only or mode == "r"
    place = _place(store_like, read_only, mode, storage_options)
    if read_only and not place.read_only:
        place = StorePath(place.store.with_read_only(True)).below(place.path)
    if place.read_only and mode not in (None, "r"):
        raise ReadOnlyError(f"{place.store} is read-only, but mode is {mode!r}")
    return place / path if path else place


def _place(
    like: Any, read_only: bool, mode: AccessMode | None, options: dict[str, Any] | None
) -> StorePath:
    if not options and isinstance(like, Store | StorePath):
        return like if isinstance(like, StorePath) else StorePath(like)
    if _is_url(like) or _is_fsspec_mapper(like):
        return StorePath(_fsspec_store(like, read_only, options))
    if options:
        raise TypeError(
            f"storage_options are for stores opened through fsspec, not for {type(like).__name__} "
            f"{str(like)[:100]!r}"
        )
    if like is None:
        return StorePath(MemoryStore(read_only=read_only))
    if isinstance(like, str) and like.startswith("memory://"):
        return StorePath(ManagedMemoryStore.from_url(like, read_only=read_only))
    if _is_upath(like):
        return StorePath(_upath_store(like, read_only))
    if isinstance(like, str | os.PathLike):
        return StorePath(_file_store(os.fspath(like), read_only, mode))
    if isinstance(like, MutableMapping):
        return StorePath(MemoryStore(like, read_only=read_only))
    return _foreign_place(like, read_only)


def _is_url(like: Any) -> bool:
    """Return whether a string is for fsspec: it has a scheme that is not ours."""
    if not isinstance(like, str):
        return False
    scheme, found, _ = like.partition("://")
    return "::" in like or (bool(found) and scheme not in ("file", "memory", "sqlite", "zip"))


def _is_fsspec_mapper(like: Any) -> bool:
    return isinstance(like, MutableMapping) and type(like).__module__.startswith("fsspec.")


def _is_upath(like: Any) -> bool:
    return hasattr(like, "fs") and hasattr(like, "storage_options") and hasattr(like, "protocol")


def _fsspec_store(like: Any, read_only: bool, options: dict[str, Any] | None) -> Store:
    from zarr_core.storage.fsspec_store import FsspecStore

    if isinstance(like, str):
        return FsspecStore.from_url(like, storage_options=options, read_only=read_only)
    if options:
        raise TypeError("storage_options cannot be given with an fsspec mapper, which has its own")
    return FsspecStore.from_mapper(like, read_only=read_only)


def _upath_store(like: Any, read_only: bool) -> Store:
    if like.protocol in ("", "file", "local"):
        return LocalStore(like.path, read_only=read_only)
    from zarr_core.storage.fsspec_store import FsspecStore

    return FsspecStore.from_upath(like, read_only=read_only)


def _file_store(text: str, read_only: bool, mode: AccessMode | None) -> Store:
    zipped = text.startswith("zip://") or text.endswith(".zip")
    database = text.startswith("sqlite://") or text.endswith(".sqlite")
    path = text.removeprefix("zip://").removeprefix("sqlite://").removeprefix("file://")
    if path.startswith("~"):
        path = os.path.expanduser(path)
    if path != text and os.name == "nt":
        path = path.lstrip("/")  # file:///C:/data
    if not (zipped or database) or os.path.isdir(path):
        return LocalStore(path, read_only=read_only)
    if database:
        from zarr_core.storage.sqlite import SQLiteStore

        return SQLiteStore(path, read_only=read_only)
    from zarr_core.storage.zip import ZipStore

    return ZipStore(path, mode="r" if read_only else "a")


def _foreign_place(like: Any, read_only: bool) -> StorePath:
    """Return the place of an object that another library made, told by its classes' modules."""
    place = getattr(like, "_zarr_core_place", None)
    if place is not None:
        found: StorePath = place()
        return StorePath(found.store.with_read_only(True), found.path) if read_only else found
    modules = {kind.__module__ for kind in type(like).__mro__}
    if any(module.partition(".")[0] in ("obstore", "_obstore") for module in modules):
        from zarr_core.storage.object_store import ObjectStore

        return StorePath(ObjectStore(like, read_only=read_only))
    if modules & {"zarr.abc.store", "zarr.storage._common", "zarr_core.compat.stores"}:
        from zarr_core.storage.adapters import from_zarr_store

        if "zarr.storage._common" not in modules:
            return StorePath(from_zarr_store(like))
        return StorePath(from_zarr_store(like.store), like.path)
    raise TypeError(
        f"Unsupported type for store_like: {type(like).__name__!r}; pass a path, a URL, a dictionary, a Store, an "
        "fsspec mapper or an obstore object"
    )
