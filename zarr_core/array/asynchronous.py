"""`AsyncArray` and `AsyncGroup`: what programs for zarr-python await, under the names it has there.

`await AsyncArray(array).getitem(...)` is `await array.getitem_async(...)`. New programs need neither.
Their methods are made from those of `Array` and `Group` by `show_awaited`, once these exist.
"""

import inspect
from collections.abc import AsyncIterator, Callable
from functools import wraps
from typing import Any, ClassVar

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
    """Holds an object of `kind`, and shows the twins of its methods without `_async` in their names."""

    kind: ClassVar[type]
    _sync: Any

    def __init__(self, metadata: Any, *args: Any, **kwargs: Any) -> None:
        of = metadata
        self._sync = of if isinstance(of, self.kind) else self.kind(of, *args, **kwargs)

    def __class_getitem__(cls, _: object) -> type:
        """Return the class: zarr-python's is generic in its metadata."""
        return cls

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._sync == other._sync

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._sync,)

    def __repr__(self) -> str:
        return repr(self._sync).replace("<", "<Async", 1)


class AsyncOIndex(_Awaited):
    """`oindex` of an `AsyncArray`: with `await .getitem(selection)`."""


class AsyncVIndex(_Awaited):
    """`vindex` of an `AsyncArray`: with `await .getitem(selection)`."""


class AsyncBlockIndex(_Awaited):
    """`blocks` of an `AsyncArray`: with `await .getitem(selection)`."""


class AsyncArray(_Awaited):
    """An array whose methods are awaited; see `Array`.

    Made from an `Array`, or from what an `Array` is made from: its metadata and its place.
    """


class AsyncGroup(_Awaited):
    """A group whose methods are awaited, or iterated with `async for`; see `Group`.

    Made from a `Group`, or from what a `Group` is made from: its metadata and its place.
    """


def show_awaited(awaited: type[_Awaited], kind: type) -> None:
    """Give a class above what the public names of `kind` mean there.

    A method that has a twin is awaited; whatever else there is stays as it is.
    """
    awaited.kind = kind
    for name in dir(kind):
        if name.startswith("_"):
            continue
        found = inspect.getattr_static(kind, name)
        plain = name.removesuffix("_async")
        if isinstance(found, property):
            if not hasattr(kind, f"{name}_async"):
                setattr(awaited, name, _property(name, found))
        elif plain != name:
            setattr(awaited, plain, _method(plain, found))
        elif not hasattr(kind, f"{name}_async"):
            setattr(awaited, name, _method(name, found))


def _property(name: str, found: property) -> property:
    def get(self: _Awaited) -> Any:
        value = getattr(self._sync, name)
        return dict(value) if name == "attrs" else _wrapped(value)

    return property(get, doc=found.__doc__)


def _method(name: str, found: Any) -> Any:
    """Return what a method, static method or other attribute of an object is above it."""
    if isinstance(found, staticmethod):
        return staticmethod(calling(name, found.__func__))
    return calling(name, found) if callable(found) else found


def calling(name: str, function: Callable[..., Any]) -> Any:
    """Return a function that gives what `function` gives, as what can be awaited again.

    It takes what can be awaited in the place of the object whose method `function` is.
    """
    made: Any
    if name in ITERATORS:

        @wraps(function)
        async def iterate(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            for item in await function(*_plain(args), **kwargs):
                yield _wrapped(item)

        made = iterate
    elif inspect.iscoroutinefunction(function):

        @wraps(function)
        async def wait(*args: Any, **kwargs: Any) -> Any:
            return _wrapped(await function(*_plain(args), **kwargs))

        made = wait
    else:

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return _wrapped(function(*_plain(args), **kwargs))

        made = call
    made.__name__ = name
    return made


def _plain(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (args[0]._sync, *args[1:]) if args and isinstance(args[0], _Awaited) else args


def _wrapped(result: Any) -> Any:
    """Return arrays, groups and views as what can be awaited again, alone or in a tuple."""
    if type(result) is tuple:
        return tuple(map(_wrapped, result))
    for awaited in (AsyncArray, AsyncGroup, AsyncOIndex, AsyncVIndex, AsyncBlockIndex):
        if isinstance(result, getattr(awaited, "kind", ())):
            return awaited(result)
    return result
