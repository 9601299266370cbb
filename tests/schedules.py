"""Threads of which one runs at a time, in every order that a number of switches allows.

A thread can be made to give way before every request to a store, when it waits for the lock of a key,
and, where that is asked for, before every line of some modules. `explore` runs functions again and
again until it has tried every choice of who goes on, as long as no more threads are interrupted than
it may: almost every race needs one or two interruptions.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, NamedTuple
from unittest.mock import patch

from running import LONG

import zarr_core
from zarr_core.storage import MemoryStore, WrapperStore, memory
from zarr_core.threads.key_locks import _KeyLock

PACKAGE = os.path.dirname(zarr_core.__file__)


class Step(NamedTuple):
    """One choice: who could have gone on, who did, and who had run before."""

    ready: tuple[int, ...]
    chosen: int
    before: int | None


class _Actor:
    def __init__(self) -> None:
        self.turn = threading.Semaphore(0)
        self.may_run: Callable[[], bool] | None = None
        self.ended = False


class Schedule:
    """One run of functions on threads of their own; the first choices are given."""

    def __init__(self, choices: Sequence[int], files: tuple[str, ...]) -> None:
        self._choices, self._files = choices, tuple(f"{PACKAGE}/{name}" for name in files)
        self.steps: list[Step] = []
        self._errors: list[BaseException] = []
        self._over = threading.Event()

    def run(self, functions: Sequence[Callable[[], object]]) -> None:
        """Run the functions to their ends; raise the first error, and if all wait for each other."""
        self._actors = [_Actor() for _ in functions]
        started = [
            threading.Thread(target=self._act, args=item, daemon=True)
            for item in enumerate(functions)
        ]
        for thread in started:
            thread.start()
        self._go_on(None)
        assert self._over.wait(LONG), "a thread waits for what no schedule knows of"
        if self._errors:
            raise self._errors[0]
        for thread in started:
            thread.join(LONG)

    def _act(self, me: int, function: Callable[[], object]) -> None:
        actor = self._actors[me]
        actor.turn.acquire()
        _here.acting = partial(self.give_way, me)
        sys.settrace(self._trace if self._files else None)
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - raised by `run`
            self._errors.append(error)
        finally:
            sys.settrace(None)
            actor.ended = True
            self._go_on(me)

    def give_way(self, me: int, may_run: Callable[[], bool] | None = None) -> None:
        """Let another thread run, if this one is not to go on; wait until it may."""
        actor = self._actors[me]
        actor.may_run = may_run
        if self._go_on(me):
            actor.turn.acquire()

    def _go_on(self, me: int | None) -> bool:
        """Choose who runs now; return whether that is another one than who runs."""
        ready = tuple(
            number
            for number, actor in enumerate(self._actors)
            if not actor.ended and (actor.may_run is None or actor.may_run())
        )
        if not ready:
            if not all(actor.ended for actor in self._actors):
                self._errors.append(AssertionError("the threads wait for each other"))
            self._over.set()
            return True
        place = len(self.steps)
        chosen = me if me in ready else ready[0]
        if place < len(self._choices):
            chosen = self._choices[place]
        assert chosen is not None
        self.steps.append(Step(ready, chosen, me))
        if chosen == me:
            return False
        self._actors[chosen].may_run = None
        self._actors[chosen].turn.release()
        return True

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        return self._line if frame.f_code.co_filename.startswith(self._files) else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line" and not memory._conditional._is_owned():  # type: ignore[attr-defined]
            give_way()
        return self._line


_here = threading.local()


def give_way(may_run: Callable[[], bool] | None = None) -> None:
    """Let another thread run, where there is a schedule."""
    acting = getattr(_here, "acting", None)
    if acting is not None:
        acting(may_run)


def _is_free(lock: Any) -> bool:
    if lock._is_owned() or not lock.acquire(False):
        return False
    lock.release()
    return True


def _wait_for_key(lock: Any) -> bool:
    while not lock.acquire(False):
        give_way(partial(_is_free, lock))
    return True


class Seen(WrapperStore[MemoryStore]):
    """A store in memory; before every request another thread may run."""

    def _do(self, method: str, *args: Any, **kwargs: Any) -> Any:
        give_way()
        return super()._do(method, *args, **kwargs)


@contextmanager
def _keys_are_waited_for() -> Iterator[None]:
    with patch.object(_KeyLock, "_wait", _wait_for_key):
        yield


def explore(
    make: Callable[[], tuple[Sequence[Callable[[], object]], Callable[[], object]]],
    *,
    interruptions: int,
    files: tuple[str, ...] = (),
    most: int = 100_000,
) -> int:
    """Run what `make` returns, functions and a check of what came of them, in every order.

    Returns how many orders there were. An error has a note with the choices that led to it.
    """
    todo: list[list[int]] = [[]]
    count = 0
    with _keys_are_waited_for():
        while todo and count < most:
            choices = todo.pop()
            functions, check = make()
            schedule = Schedule(choices, files)
            try:
                schedule.run(functions)
                check()
            except BaseException as error:
                error.add_note(f"after the choices {[step.chosen for step in schedule.steps]}")
                raise
            count += 1
            todo += _others(schedule.steps, len(choices), interruptions)
    return count


def _others(steps: list[Step], begin: int, interruptions: int) -> Iterator[list[int]]:
    """Yield the choices that differ from those of a run at one place from `begin` on."""
    used = 0
    chosen = [step.chosen for step in steps]
    for place, (ready, taken, before) in enumerate(steps):
        may_stay = before in ready
        if place >= begin:
            for other in ready:
                if other != taken and used + (may_stay and other != before) <= interruptions:
                    yield [*chosen[:place], other]
        used += may_stay and taken != before
