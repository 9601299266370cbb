"""`AsyncArray` and `AsyncGroup`: what programs for zarr-python await, under the names it has there.

`await AsyncArray(array).getitem(...)` is `await array.getitem_async(...)`. New programs need neither.
"""

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, final

ITERATORS = frozenset(
    {
        "array_keys",
        "array_values",
        "arrays",
        "create_hierarchy",
        "group_keys",
        "group_values",
        "groups",
        "keys",
        "members",
    }
)
"""Methods whose results zarr-python iterates with `async for`."""


class _Awaited:
    """Shows the twins of an object without `_async` in their names, and everything else as it is."""

    __slots__ = ("__weakref__", "_sync")

    def __init__(self, sync: Any) -> None:
        self._sync = sync

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        twin = getattr(self._sync, f"{name}_async", None)
        if twin is None:
            return getattr(self._sync, name)
        return partial(_iterate if name in ITERATORS else _call, twin)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._sync == other._sync

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._sync,)

    def __repr__(self) -> str:
        return repr(self._sync).replace("<", "<Async", 1)


@final
class AsyncIndex(_Awaited):
    """`oindex`, `vindex` or `blocks` of an `AsyncArray`: with `await .getitem(selection)`."""

    __slots__ = ()


@final
class AsyncArray(_Awaited):
    """An array whose methods are awaited; see `Array`."""

    __slots__ = ()

    @property
    def attrs(self) -> dict[str, Any]:
        """User attributes."""
        return dict(self._sync.attrs)

    @property
    def oindex(self) -> AsyncIndex:
        """Orthogonal indexing."""
        return AsyncIndex(self._sync.oindex)

    @property
    def vindex(self) -> AsyncIndex:
        """Pointwise indexing."""
        return AsyncIndex(self._sync.vindex)

    @property
    def blocks(self) -> AsyncIndex:
        """Indexing of whole chunks."""
        return AsyncIndex(self._sync.blocks)


@final
class AsyncGroup(_Awaited):
    """A group whose methods are awaited, or iterated with `async for`; see `Group`."""

    __slots__ = ()

    @property
    def attrs(self) -> dict[str, Any]:
        """User attributes."""
        return dict(self._sync.attrs)


def _wrapped(result: Any) -> Any:
    """Return arrays and groups as what can be awaited again, alone or in a tuple."""
    if type(result) is tuple:
        return tuple(map(_wrapped, result))
    if hasattr(result, "create_group"):
        return AsyncGroup(result)
    return AsyncArray(result) if hasattr(result, "oindex") else result


async def _call(twin: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return _wrapped(await twin(*args, **kwargs))


async def _iterate(twin: Callable[..., Any], *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
    for item in await twin(*args, **kwargs):
        yield _wrapped(item)
