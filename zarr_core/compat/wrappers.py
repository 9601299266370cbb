"""zarr-python's asynchronous stores around another one: passed on, logged, or made slow."""

import asyncio
import logging
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
        raise NotImplementedError("the store inside knows whether it is open")

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

    counter: Counter[str]

    def __init__(
        self, store: Store, log_level: str = "DEBUG", log_handler: logging.Handler | None = None
    ) -> None:
        super().__init__(store)
        self.counter = Counter()
        self.log_level, self.log_handler = log_level, log_handler
        self.logger = logging.getLogger(f"LoggingStore({store})")
        self.logger.setLevel(log_level)
        self.logger.addHandler(log_handler or logging.StreamHandler())

    def _with_store(self, store: Store) -> Self:
        return type(self)(store, self.log_level, self.log_handler)

    @contextmanager
    def log(self, name: str, hint: Any = "") -> Iterator[None]:
        """Log the start and the end of a call, with its seconds."""
        self.counter[name] += 1
        op, level = f"{type(self._store).__name__}.{name}", logging.getLevelName(self.log_level)
        self.logger.log(level, " Calling %s(%s)", op, hint)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.logger.log(level, "Finished %s [%.2f s]", op, time.perf_counter() - start)

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


class LatencyStore(WrapperStore):
    """Waits before every `get` and `set`, for tests.

    `get_latency` and `set_latency` are seconds.
    """

    def __init__(self, store: Store, *, get_latency: float = 0.0, set_latency: float = 0.0) -> None:
        super().__init__(store)
        self.get_latency, self.set_latency = float(get_latency), float(set_latency)

    def _with_store(self, store: Store) -> Self:
        return type(self)(store, get_latency=self.get_latency, set_latency=self.set_latency)

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        """See `Store`."""
        await asyncio.sleep(self.get_latency)
        return await super().get(key, prototype, byte_range)

    async def set(self, key: str, value: Buffer) -> None:
        """See `Store`."""
        await asyncio.sleep(self.set_latency)
        await super().set(key, value)
