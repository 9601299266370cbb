"""Coroutines of other libraries, driven from plain threads.

The event loop runs in a thread of its own, the other library's or the one made here. Whoever waits
for a coroutine waits until it has really ended, also when interrupted: nothing goes on behind a
call that has returned.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar, final

from zarr_core.errors import StoreError
from zarr_core.locks import ForkLock
from zarr_core.threads.requests import Flight, Flights, fly

T = TypeVar("T")
R = TypeVar("R")


# --- a loop of our own ---------------------------------------------------------------------------


class _Own:
    """The event loop of this process, made at first need."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.lock = ForkLock()


_own = _Own()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_own.renew)


def own_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of zarr_core, which runs in a daemon thread."""
    with _own.lock:
        if _own.loop is None:
            _own.loop = asyncio.new_event_loop()
            thread = threading.Thread(
                target=_own.loop.run_forever, name="zarr_core loop", daemon=True
            )
            thread.start()
        return _own.loop


# --- one coroutine -------------------------------------------------------------------------------


def run_on(loop: asyncio.AbstractEventLoop, call: Callable[[], Awaitable[R]]) -> R:
    """Return the result of awaiting `call()` on `loop`.

    An exception that reaches the waiting thread, such as Ctrl-C, cancels the coroutine and is
    raised once that has ended.
    """
    _check_other_thread(loop)
    flight: Flight[None, R] = Flight(0, None)
    ended: SimpleQueue[Flight[None, R]] = SimpleQueue()
    context = copy_context()

    async def await_it() -> R:
        return await call()

    loop.call_soon_threadsafe(_start, flight, loop, await_it, ended.put, context=context)
    try:
        ended.get()
    except BaseException:
        loop.call_soon_threadsafe(_cancel, [flight])
        while not flight.landed:
            with suppress(KeyboardInterrupt):
                ended.get()
        raise
    error, flight.error = flight.error, None  # its frames name the flight: no cycles
    try:
        if error is not None:
            raise error
        return flight.value  # type: ignore[return-value]
    finally:
        del error


def _check_other_thread(loop: asyncio.AbstractEventLoop) -> None:
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        return
    if running is loop:
        raise RuntimeError(
            "a store was called by code of its own event loop, which would hang"
            + (": WebAssembly has no other" if sys.platform == "emscripten" else "")
        )


def _start(
    flight: Flight[T, R],
    loop: asyncio.AbstractEventLoop,
    fly: Callable[[], Coroutine[Any, Any, R]],
    ended: Callable[[Flight[T, R]], object],
) -> None:
    """Begin; called on the loop."""
    flight.task = loop.create_task(fly())

    # A task that is cancelled before its first step runs none of the coroutine's own code.
    def land(task: asyncio.Task[R]) -> None:
        if task.cancelled():
            flight.error = StoreError("the request was cancelled")
        elif (error := task.exception()) is not None:
            flight.error = error
        else:
            flight.value = task.result()
        flight.task, flight.landed = None, True
        ended(flight)

    flight.task.add_done_callback(land)


def _cancel(flights: Iterable[Flight[Any, Any]]) -> None:
    """End early; called on the loop."""
    for flight in flights:
        if flight.task is not None:
            flight.task.cancel()


# --- many coroutines -----------------------------------------------------------------------------


def overlap_on(
    loop: asyncio.AbstractEventLoop,
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T],
    *,
    size_of: Callable[[T], int | None] | None = None,
    cancel: bool = True,
) -> Generator[tuple[int, R | None, Exception | None], None, None]:
    """Await `fn(item)` for many items at once on `loop`, one hop to it per batch.

    Takes items lazily, yields, shares the budget of the process and ends as `overlap.overlap`
    does. With `cancel`, `close()` cancels what is under way, else it waits for it to end.
    """
    _check_other_thread(loop)
    return fly(_OnLoop(loop, fn, size_of, cancel=cancel), items)


@final
class _OnLoop(Flights[T, R]):
    """Coroutines on an event loop; those that are sent together begin together."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fn: Callable[[T], Awaitable[R]],
        size_of: Callable[[T], int | None] | None,
        *,
        cancel: bool,
    ) -> None:
        super().__init__(None, size_of)
        self._loop, self._fn, self._cancels = loop, fn, cancel

    def send(self, flight: Flight[T, R]) -> bool:
        self._measure(flight)
        room = len(self.open) < self._limit
        if not (room and self._admit(flight)):
            if self.open:
                return False
            self._admit(flight, always=True)  # one is always possible
        self.open.add(flight)
        self._kept.append(flight)
        return True

    def send_kept(self) -> None:
        batch = list(self._kept)
        self._kept.clear()
        if batch:
            self._loop.call_soon_threadsafe(self._begin, batch, context=copy_context())

    def _begin(self, batch: list[Flight[T, R]]) -> None:
        for flight in batch:
            if self._closed:
                self._land(flight)
            else:
                _start(flight, self._loop, partial(self._fly, flight), self._land)

    async def _fly(self, flight: Flight[T, R]) -> R:
        if self._call is not None:
            self._call.enter()
        return await self._fn(flight.item)

    def _settle(self, flights: list[Flight[T, R]]) -> KeyboardInterrupt | None:
        interrupt = None
        under_way = {*flights} - {*self._ready} - {*self._kept}
        if under_way and self._cancels:
            self._loop.call_soon_threadsafe(_cancel, under_way)
        while under_way:
            try:
                under_way.discard(self._ended.get())
            except KeyboardInterrupt as error:
                interrupt = error
        return interrupt
