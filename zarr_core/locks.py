"""A lock that a forked child finds free.

A thread may hold a lock at the moment another thread forks. The child has no such thread, so
nobody would ever release its copy of the lock; instead the child gets a new one.
"""

import os
from _thread import RLock
from collections.abc import Callable
from typing import Self, final
from weakref import WeakSet


@final
class ForkLock(RLock):  # type: ignore[misc] # final in the stubs only
    """A re-entrant lock, free in a forked child.

    Leaving it is not Python code: before its first line a Ctrl-C could leave it locked.

    Parameters
    ----------
    after_fork
        Called in the child, to put right what a thread may have left half done.
    """

    __slots__ = ("_after_fork",)

    _after_fork: Callable[[], None] | None

    def __new__(cls, after_fork: Callable[[], None] | None = None) -> Self:
        """Make a lock that nobody holds."""
        lock = super().__new__(cls)
        lock._after_fork = after_fork
        _locks.add(lock)
        return lock

    def renew(self) -> None:
        """Forget who held the lock; called in a forked child."""
        self._at_fork_reinit()  # type: ignore[attr-defined] # as the locks of `logging` do
        if self._after_fork is not None:
            self._after_fork()


_locks: WeakSet[ForkLock] = WeakSet()


def _renew_all() -> None:
    for lock in tuple(_locks):
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
