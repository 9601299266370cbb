"""zarr-python's way from a coroutine to its result: on a loop of our own, in another thread."""

import asyncio
from collections.abc import AsyncIterable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

from zarr_core.threads.coroutines import own_loop, run_on

T = TypeVar("T")


class SyncError(Exception):
    """`sync` was called where a loop runs."""


def sync(coro: Any, loop: Any = None, timeout: float | None = None) -> Any:
    """Return the result of a coroutine; what cannot be awaited is returned as it is."""
    if not asyncio.iscoroutine(coro) and not hasattr(coro, "__await__"):
        return coro
    awaited: Any = coro
    if timeout is not None:
        awaited = asyncio.wait_for(awaited, timeout)
    return run_on(loop or own_loop(), lambda: awaited)


async def collect_aiterator(data: AsyncIterable[T]) -> tuple[T, ...]:
    """Return all items."""
    return tuple([item async for item in data])


async def _list(data: AsyncIterable[T]) -> list[T]:
    return [item async for item in data]


class SyncMixin:
    """Methods that wait for coroutines."""

    def _sync(self, coroutine: Coroutine[Any, Any, T]) -> T:
        found: T = sync(coroutine)
        return found

    def _sync_iter(self, async_iterator: AsyncIterable[T] | Iterable[T]) -> list[T]:
        if isinstance(async_iterator, AsyncIterable):
            found: list[T] = sync(_list(async_iterator))
            return found
        return list(async_iterator)


@cache
def get_executor() -> ThreadPoolExecutor:
    """Return an executor, for programs that ask for zarr-python's; nothing here uses it."""
    return ThreadPoolExecutor(thread_name_prefix="zarr_core compat")


def cleanup_resources() -> None:
    """Do nothing: threads of the library end with the process."""
