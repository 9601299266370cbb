"""Stores in the memory of this process: a dictionary, or a dictionary found by name."""

import itertools
import os
from collections.abc import Hashable, Iterator, MutableMapping, Sequence
from typing import Any, Self
from weakref import WeakValueDictionary

from zarr_core.errors import InvalidKeyError, StoreError
from zarr_core.locks import ForkLock
from zarr_core.storage.base import (
    ByteRequest,
    Store,
    Value,
    Writable,
    check_key,
    check_prefix,
    slice_value,
)

_conditional = ForkLock()
"""Held by conditional writes, which compare and set in two steps."""


class MemoryStore(Store):
    """A store over a dictionary, or any other mutable mapping from strings to bytes.

    Values are copied to `bytes` when they are set. Two stores are equal when they share one
    mapping and agree in `read_only`. A pickled store takes a copy of the mapping along.

    Parameters
    ----------
    store_dict
        The mapping, shared by reference; a new dictionary by default.
    read_only
        Refuse to write.

    Examples
    --------
    >>> values = {}
    >>> zarr.zeros(2, store=zarr.storage.MemoryStore(values))[:] = 1
    >>> sorted(values)
    ['c/0', 'zarr.json']
    """

    def __init__(
        self, store_dict: MutableMapping[str, Any] | None = None, *, read_only: bool = False
    ) -> None:
        super().__init__(read_only=read_only)
        self._store_dict: MutableMapping[str, Any] = {} if store_dict is None else store_dict
        # other mappings may be shared with other processes
        self.supports_conditional_writes: bool = isinstance(self._store_dict, dict)
        self._prefix = ""
        if type(self._store_dict).__setitem__ is not dict.__setitem__:
            self.set_each = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle_memory, (type(self), self._store_dict, self._read_only)

    # --- one key ---------------------------------------------------------------------------------

    def get(self, key: str, byte_range: ByteRequest | None = None) -> Value | None:
        """Return the value of `key` (or part of it), or None when there is no such key."""
        mapping, name = self._store_dict, self._prefix + key
        try:
            # On 3.13t `get` of a dictionary that another thread made takes 18 µs, this 0.1. Other
            # mappings may make values of missing keys when they are asked in this way.
            value = mapping[name] if mapping.__class__ is dict else mapping.get(name)
        except KeyError:
            value = None
        if value is None:
            check_key(key)  # a key that has a value needs no check: nothing is outside a mapping
            return slice_value(None, byte_range)
        if value.__class__ is not bytes:
            value = _as_bytes(value)
        return value if byte_range is None else slice_value(value, byte_range)

    def set(self, key: str, value: Writable) -> None:
        """Store a copy of `value` under `key`."""
        if self._read_only:
            self._check_writable()
        self._store_dict[self._prefix + check_key(key)] = bytes(value)

    def get_each(self, keys: Sequence[str]) -> list[Value | None]:
        """Return what `get` returns for each of several valid keys."""
        if self._prefix:
            keys = [self._prefix + key for key in keys]
        mapping = self._store_dict
        try:
            values = list(
                map(mapping.__getitem__ if mapping.__class__ is dict else mapping.get, keys)
            )
        except KeyError:
            values = list(map(mapping.get, keys))
        if set(map(type, values)) <= {bytes}:
            return values
        return [v if v is None or v.__class__ is bytes else _as_bytes(v) for v in values]

    def set_each(self, keys: Sequence[str], values: Sequence[bytes]) -> None:
        """Store immutable values under valid keys, all or none."""
        self._check_writable()
        if self._prefix:
            keys = [self._prefix + key for key in keys]
        self._store_dict.update(zip(keys, values, strict=True))

    def set_if_version(self, key: str, value: Writable, version: str | None) -> bool:
        """Store `value` if the value still has `version` (None: does not exist); say whether.

        Atomic against other conditional writes of this process, through any handle.
        """
        self._check_writable()
        full, copy = self._prefix + check_key(key), bytes(memoryview(value))
        if version is None and isinstance(self._store_dict, dict) and len(copy) > 1:
            # a copy longer than one byte is an object of its own, so identity tells who stored
            return self._store_dict.setdefault(full, copy) is copy
        with _conditional:
            if not self._has_version(key, version):
                return False
            self._store_dict[full] = copy
            return True

    def delete(self, key: str) -> None:
        """Remove `key`; nothing happens when it does not exist."""
        self._check_writable()
        self._store_dict.pop(self._prefix + check_key(key), None)

    def stamp(self, key: str) -> Hashable:
        """Return the value, which nobody changes; None if the mapping is no dictionary."""
        mapping = self._store_dict
        value = mapping.get(self._prefix + key) if isinstance(mapping, dict) else None
        return value if value.__class__ is bytes else None

    def exists(self, key: str) -> bool:
        """Return whether `key` has a value."""
        return self._prefix + check_key(key) in self._store_dict

    # --- listing ---------------------------------------------------------------------------------

    def _keys(self, prefix: str) -> Iterator[str]:
        """Yield what follows `prefix` in every key below it, from a snapshot."""
        start = self._prefix + (f"{prefix}/" if prefix else "")
        keys = _snapshot(self._store_dict)
        if not start:
            return iter(keys)
        cut = len(start)
        return (key[cut:] for key in keys if key.startswith(start))

    def list_prefix(self, prefix: str) -> Iterator[str]:
        """Yield every key below the path `prefix`, in no particular order."""
        prefix = check_prefix(prefix)
        keys = self._keys(prefix)
        return (f"{prefix}/{key}" for key in keys) if prefix else keys

    def list_dir(self, prefix: str) -> Iterator[str]:
        """Yield the names directly below `prefix`."""
        names = (key.partition("/")[0] for key in self._keys(check_prefix(prefix)))
        return iter(dict.fromkeys(names))

    # --- the store itself ------------------------------------------------------------------------

    def with_read_only(self, read_only: bool = False) -> Self:
        """Return a store over the same mapping with another `read_only`."""
        return type(self)(self._store_dict, read_only=read_only)

    def lock_key(self, key: str) -> Hashable:
        """Return the identity of the mapping, and the key."""
        return (id(self._store_dict), self._prefix + key)

    def __str__(self) -> str:
        return f"memory://{id(self._store_dict)}"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, MemoryStore)
            and self._store_dict is other._store_dict
            and self._prefix == other._prefix
            and self._read_only == other._read_only
        )

    def __hash__(self) -> int:
        return hash((id(self._store_dict), self._prefix, self._read_only))


def _unpickle_memory(
    kind: type[MemoryStore], store_dict: MutableMapping[str, Any], read_only: bool
) -> MemoryStore:
    return kind(store_dict, read_only=read_only)


def _as_bytes(value: Any) -> bytes:
    """Return the bytes of what somebody else put into a shared mapping."""
    if hasattr(value, "as_numpy_array"):  # zarr-python's buffers
        value = value.to_bytes()
    return bytes(memoryview(value))


def _snapshot(mapping: MutableMapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of a mapping that other threads may be changing."""
    while True:
        try:
            return tuple(mapping)
        except RuntimeError as error:  # only mappings that are iterated in Python get here
            if "changed" not in str(error):
                raise


class _NamedDict(dict[str, bytes]):
    """A dictionary that can be referred to weakly."""

    __slots__ = ("__weakref__",)


_named: dict[str, _NamedDict] = {}
_unnamed: WeakValueDictionary[str, _NamedDict] = WeakValueDictionary()
_numbers = itertools.count()


class ManagedMemoryStore(MemoryStore):
    """A store in a dictionary that belongs to the process and is found by its name.

    Written as a URL it is `memory://name/path`. It pickles as its name, so a pickle can be read in
    the same process and in a fork of it; elsewhere unpickling raises `StoreError`.

    Parameters
    ----------
    name
        Stores with one name share one dictionary, which lives as long as the process.
        Without a name, a new one is made, and the dictionary is given up with its last store.
    path
        Where in that dictionary the keys of this store begin.
    read_only
        Refuse to write.

    Examples
    --------
    >>> zarr.zeros(3, store="memory://shared", path="x").shape
    (3,)
    >>> zarr.storage.ManagedMemoryStore("shared").exists("x/zarr.json")
    True
    """

    def __init__(self, name: str | None = None, *, path: str = "", read_only: bool = False) -> None:
        if name is not None and (not name or "/" in name):
            raise InvalidKeyError(f"{name!r} cannot name a store: it is empty or has a '/'")
        if name is None:
            name = f"store-{os.getpid()}-{next(_numbers)}"
            store_dict = _unnamed[name] = _NamedDict()
        else:
            known = _unnamed.get(name)  # an empty dictionary is false
            store_dict = _named.setdefault(name, _NamedDict()) if known is None else known
        super().__init__(store_dict, read_only=read_only)
        self._name = name
        self._path = check_prefix(path.strip("/"))
        self._prefix = f"{self._path}/" if self._path else ""

    @classmethod
    def from_url(cls, url: str, *, read_only: bool = False) -> Self:
        """Return the store of a URL `memory://name/path`.

        >>> zarr.storage.ManagedMemoryStore.from_url("memory://mine/a").name
        'mine'
        """
        scheme, _, rest = url.partition("://")
        if scheme != "memory":
            raise ValueError(f"{url!r} is not a URL of a store in memory: memory://name/path")
        name, _, path = rest.strip("/").partition("/")
        return cls(name or "default", path=path, read_only=read_only)

    @property
    def name(self) -> str:
        """The name under which the dictionary is found."""
        return self._name

    @property
    def path(self) -> str:
        """Where in the dictionary the keys of this store begin."""
        return self._path

    def with_read_only(self, read_only: bool = False) -> Self:
        """Return a store of the same name and path with another `read_only`."""
        return type(self)(self._name, path=self._path, read_only=read_only)

    def __reduce__(self) -> tuple[Any, ...]:
        options = (self._name, self._path, self._read_only)
        return _unpickle_managed, (type(self), os.getpid(), *options)

    def __str__(self) -> str:
        return f"memory://{self._name}/{self._path}".rstrip("/")


def _unpickle_managed(
    kind: type[ManagedMemoryStore], pid: int, name: str, path: str, read_only: bool
) -> ManagedMemoryStore:
    if name not in _named and name not in _unnamed and pid != os.getpid():
        raise StoreError(f"the store memory://{name} is in the memory of another process")
    return kind(name, path=path, read_only=read_only)
