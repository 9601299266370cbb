"""The locks of stored keys: one per key and process, while somebody uses it."""

import os
import sys
import weakref
from _thread import RLock
from collections.abc import Hashable, Iterable
from typing import Any, final

from zarr_core.threads.calls import POLL_SECONDS, current_call


@final
class _Table:
    """The locks of this process by key. A finalizer may use it in the middle of any step here."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.locks: dict[Hashable, weakref.ref[_KeyLock]] = {}
        self.limit = 1000

    def forget(self) -> None:
        """Drop the keys that nobody uses: now and then for many is cheaper than each at once."""
        refs = self.locks.copy().items()
        self.locks = {key: ref for key, ref in refs if ref() is not None}
        self.limit = 1000 + 2 * len(self.locks)


@final
class _KeyLock(RLock):  # type: ignore[misc] # final in the stubs only
    """The lock of one key; it exists while somebody uses it.

    Leaving it is not Python code: before its first line a Ctrl-C could leave the key locked.
    """

    __slots__ = ("key",)

    key: Hashable

    def __enter__(self) -> bool:  # type: ignore[override] # without the options of `acquire`
        if self._is_owned():  # type: ignore[attr-defined] # what threading.Condition uses
            raise RuntimeError(f"this thread is in the middle of a change of {self.key!r}")
        try:
            return self.acquire(False) or self._wait()
        except BaseException:
            if self._is_owned():  # type: ignore[attr-defined]
                self.release()
            raise

    def _wait(self) -> bool:
        if sys.is_finalizing():
            raise RuntimeError(f"{self.key!r} was being changed when the interpreter was shut down")
        call = current_call()
        if call is None:
            return self.acquire()
        while not self.acquire(timeout=POLL_SECONDS):
            call.check()
        return True


def key_lock(key: Hashable) -> _KeyLock:
    """Return the lock to hold (`with`) while what `key` names is changed: one per key and process.

    Entering raises `RuntimeError` if this thread holds it already, instead of waiting for ever,
    and what `Call.check` raises if the call should end meanwhile.
    """
    table = _table
    with table.lock:
        ref = table.locks.get(key)
        lock = None if ref is None else ref()
        if lock is not None:
            return lock
        lock = _KeyLock()
        lock.key = key
        if len(table.locks) >= table.limit:
            table.forget()
        table.locks[key] = weakref.ref(lock)
    if _watchers:
        _tell((key,))
    return lock


def joint_key_lock(keys: Iterable[Hashable]) -> _KeyLock | None:
    """Return one lock for several keys, as `key_lock` does for one, or None if any is in use.

    For small chunks a lock of each would be most of the work.
    """
    table = _table
    lock = _KeyLock()
    new: dict[Hashable, Any] = dict.fromkeys(keys, weakref.ref(lock))
    lock.key = next(iter(new), None)
    with table.lock:
        refs = table.locks
        if any(ref() is not None for ref in map(refs.get, new) if ref is not None):
            return None
        if len(refs) >= table.limit:
            table.forget()
        table.locks.update(new)
    if _watchers:
        _tell(new)
    return lock


_watchers: tuple[weakref.ref[Any], ...] = ()


def watch(watcher: Any) -> None:
    """Have `watcher.before_change(key)` called with every key that is locked, as long as it lives."""
    global _watchers  # noqa: PLW0603 - others may be going through it
    with _table.lock:
        _watchers = (*_watchers, weakref.ref(watcher))


def _tell(keys: Iterable[Hashable]) -> None:
    global _watchers  # noqa: PLW0603
    for watcher in [ref() for ref in _watchers]:
        if watcher is None:
            with _table.lock:
                _watchers = tuple([ref for ref in _watchers if ref() is not None])
            continue
        for key in keys:
            watcher.before_change(key)


def is_held(key: Hashable) -> bool:
    """Return whether somebody has the lock of a key, or has just asked for it."""
    ref = _table.locks.get(key)
    return ref is not None and ref() is not None


_table = _Table()


def _after_fork_in_child() -> None:
    global _table  # noqa: PLW0603 - what threads of the parent held is held for ever
    _table = _Table()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
