"""zarr-python's asynchronous stores around another one: passed on, logged, or made slow."""

import asyncio
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Self

from zarr_core.codecs.buffers import Buffer
from zarr_core.compat.stores import Store


class WrapperStore(Store):
    """Passes everything on to another asynchronous store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _with_store(self, store: Store) -> Self:
        return type(self)(store)

    @classmethod
    async def open(cls, store_cls: type[Store], *args: Any, **kwargs: Any) -> Self:
        """Return a store around a new one of a class."""
        return cls(await store_cls.open(*args, **kwargs))

    @property
    def _is_open(self) -> bool:
        return self._store._is_open

    @_is_open.setter
    def _is_open(self, value: bool) -> None:
        kind = type(self).__name__
        raise NotImplementedError(f"{kind} must be opened via the `_open` method")

    async def _open(self) -> None:
        await self._store._open()

    @property
    def read_only(self) -> bool:
        """Whether writing raises."""
        return self._store.read_only

    def with_read_only(self, read_only: bool = False) -> Self:
        """Return a store like this one with another `read_only`."""
        return self._with_store(self._store.with_read_only(read_only))

    def _check_writable(self) -> None:
        self._store._check_writable()

    def close(self) -> None:
        """Close the store inside."""
        self._store.close()

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        """See `Store`."""
        return await self._store.get(key, prototype, byte_range)

    async def get_partial_values(self, prototype: Any, key_ranges: Any) -> Any:
        """See `Store`."""
        return await self._store.get_partial_values(prototype, key_ranges)

    def get_ranges(self, key: str, byte_ranges: Any, **options: Any) -> Any:
        """See `Store`."""
        return self._store.get_ranges(key, byte_ranges, **options)

    def _sync(self, name: str) -> Any:
        method = getattr(self._store, name, None)
        if method is None:
            what, kind = name.removesuffix("_sync"), type(self._store).__name__
            raise TypeError(f"{kind} does not support synchronous {what}")
        return method

    def get_sync(self, key: str, *, prototype: Any = None, byte_range: Any = None) -> Any:
        """Return the value of a key, of a store that has this method."""
        return self._sync("get_sync")(key, prototype=prototype, byte_range=byte_range)

    def set_sync(self, key: str, value: Buffer) -> None:
        """Store a value, in a store that has this method."""
        self._sync("set_sync")(key, value)

    def delete_sync(self, key: str) -> None:
        """Remove a key, of a store that has this method."""
        self._sync("delete_sync")(key)

    async def exists(self, key: str) -> bool:
        """See `Store`."""
        return await self._store.exists(key)

    async def set(self, key: str, value: Buffer) -> None:
        """See `Store`."""
        await self._store.set(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """See `Store`."""
        await self._store.set_if_not_exists(key, value)

    async def delete(self, key: str) -> None:
        """See `Store`."""
        await self._store.delete(key)

    async def delete_dir(self, prefix: str) -> None:
        """See `Store`."""
        await self._store.delete_dir(prefix)

    async def clear(self) -> None:
        """See `Store`."""
        await self._store.clear()

    async def is_empty(self, prefix: str) -> bool:
        """See `Store`."""
        return await self._store.is_empty(prefix)

    async def getsize(self, key: str) -> int:
        """See `Store`."""
        return await self._store.getsize(key)

    async def getsize_prefix(self, prefix: str) -> int:
        """See `Store`."""
        return await self._store.getsize_prefix(prefix)

    def list(self) -> AsyncIterator[str]:
        """See `Store`."""
        return self._store.list()

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """See `Store`."""
        return self._store.list_prefix(prefix)

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """See `Store`."""
        return self._store.list_dir(prefix)

    @property
    def supports_writes(self) -> bool:  # type: ignore[override]
        """Whether values can be stored."""
        return self._store.supports_writes

    @property
    def supports_deletes(self) -> bool:  # type: ignore[override]
        """Whether keys can be removed."""
        return self._store.supports_deletes

    @property
    def supports_listing(self) -> bool:  # type: ignore[override]
        """Whether keys can be listed."""
        return self._store.supports_listing

    @property
    def supports_consolidated_metadata(self) -> bool:  # type: ignore[override]
        """Whether consolidated metadata makes sense here."""
        return self._store.supports_consolidated_metadata

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._store == other._store

    def __hash__(self) -> int:
        return hash((type(self), self._store))

    def __str__(self) -> str:
        return f"wrapping-{self._store}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self._store).__name__}, '{self._store}')"


class LoggingStore(WrapperStore):
    """Logs every call, and counts them in `counter`."""

    log_level: str
    log_handler: logging.Handler | None

    counter: Counter[str]

    def __init__(
        self, store: Store, log_level: str = "DEBUG", log_handler: logging.Handler | None = None
    ) -> None:
        super().__init__(store)
        self.counter = Counter()
        self.log_level, self.log_handler = log_level, log_handler
        self.logger: logging.Logger = logging.getLogger(f"LoggingStore({store})")
        self.logger.setLevel(log_level)
        if not self.logger.hasHandlers():
            self.logger.addHandler(log_handler or logging.StreamHandler(sys.stdout))

    @classmethod
    async def open(
        cls, store_cls: type[Store], *args: Any, log_level: str = "DEBUG", **kwargs: Any
    ) -> Self:
        """Return a store around a new one of a class."""
        handler = kwargs.pop("log_handler", None)
        return cls(await store_cls.open(*args, **kwargs), log_level, handler)

    def _with_store(self, store: Store) -> Self:
        return type(self)(store, self.log_level, self.log_handler)

    @contextmanager
    def log(self, name: str, hint: Any = "") -> Iterator[None]:
        """Log the start and the end of a call, with its seconds."""
        self.counter[name] += 1
        op = f"{type(self._store).__name__}.{name}"
        self.logger.info(" Calling %s(%s)", op, hint)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.logger.info("Finished %s [%.2f s]", op, time.perf_counter() - start)

    def __str__(self) -> str:
        return f"logging-{self._store}"


def _logged(name: str) -> Any:
    method = getattr(WrapperStore, name)

    @wraps(method)
    async def call(self: LoggingStore, *args: Any, **kwargs: Any) -> Any:
        with self.log(name, args[0] if args else ""):
            return await method(self, *args, **kwargs)

    @wraps(method)
    async def iterate(self: LoggingStore, *args: Any) -> AsyncIterator[str]:
        with self.log(name, *args):
            async for key in method(self, *args):
                yield key

    return iterate if name.startswith("list") else call


for _name in (
    *("get", "get_partial_values", "exists", "set", "set_if_not_exists", "delete", "delete_dir"),
    *("clear", "is_empty", "getsize", "getsize_prefix", "list", "list_prefix", "list_dir"),
):
    setattr(LoggingStore, _name, _logged(_name))


def _seconds(latency: Any) -> float:
    return max(0.0, random.gauss(*latency) if isinstance(latency, tuple) else float(latency))


class LatencyStore(WrapperStore):
    """Waits before every `get` and `set`, for tests.

    `get_latency` and `set_latency` are seconds, or mean and deviation of a normal distribution.
    """

    def __init__(self, store: Store, *, get_latency: Any = 0.0, set_latency: Any = 0.0) -> None:
        super().__init__(store)
        self._get_latency, self._set_latency = get_latency, set_latency

    def _with_store(self, store: Store) -> Self:
        return type(self)(store, get_latency=self._get_latency, set_latency=self._set_latency)

    @property
    def get_latency(self) -> float:
        """How long the next `get` waits, in seconds."""
        return _seconds(self._get_latency)

    @property
    def set_latency(self) -> float:
        """How long the next `set` waits, in seconds."""
        return _seconds(self._set_latency)

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        """See `Store`."""
        await asyncio.sleep(self.get_latency)
        return await super().get(key, prototype, byte_range)

    async def set(self, key: str, value: Buffer) -> None:
        """See `Store`."""
        await asyncio.sleep(self.set_latency)
        await super().set(key, value)

    def get_sync(self, key: str, *, prototype: Any = None, byte_range: Any = None) -> Any:
        """See `WrapperStore`."""
        time.sleep(self.get_latency)
        return super().get_sync(key, prototype=prototype, byte_range=byte_range)

    def set_sync(self, key: str, value: Buffer) -> None:
        """See `WrapperStore`."""
        time.sleep(self.set_latency)
        super().set_sync(key, value)

    # Of the base, which call `get`, so that each waits.
    get_ranges, get_partial_values = Store.get_ranges, Store.get_partial_values
