"""A lock that a forked child finds free.

A thread may hold a lock at the moment another thread forks. The child has no such thread, so
nobody would ever release its copy of the lock; instead the child gets a new one.
"""

import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import final
from weakref import WeakSet


@final
class ForkLock:
    """A re-entrant lock, made anew in a forked child.

    Args:
        after_fork: Called in the child, to put right what a thread may have left half done.
    """

    __slots__ = ("__weakref__", "_after_fork", "_lock")

    def __init__(self, after_fork: Callable[[], None] | None = None) -> None:
        self._lock = threading.RLock()
        self._after_fork = after_fork
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Forget who held the lock; called in a forked child."""
        self._lock = threading.RLock()
        if self._after_fork is not None:
            self._after_fork()


_locks: WeakSet[ForkLock] = WeakSet()


def _renew_all() -> None:
    for lock in tuple(_locks):
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
