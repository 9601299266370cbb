"""What tests do at the same time or elsewhere: threads, event loops, other interpreters."""

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import anyio
import pytest

from zarr_core.threads import pool, twins

LONG = 20.0
"""Seconds after which something that must happen has not happened."""

Main = Callable[[], Coroutine[Any, Any, Any]]


def until(condition: Callable[[], object], seconds: float = LONG) -> None:
    """Wait for something that must happen, on a thread."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.001)


async def until_async(condition: Callable[[], object]) -> None:
    """Wait for something that must happen, on any event loop."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        await anyio.sleep(0.001)


@contextmanager
def threads(*functions: Callable[[], object]) -> Iterator[None]:
    """Run functions on threads of their own; raise the first error of one."""
    errors: list[BaseException] = []

    def guarded(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    started = [threading.Thread(target=guarded, args=(f,), daemon=True) for f in functions]
    for thread in started:
        thread.start()
    yield
    for thread in started:
        thread.join(3 * LONG)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


def at_once(*functions: Callable[[], object]) -> None:
    """Run functions on threads that begin together; raise the first error of one."""
    together = threading.Barrier(len(functions))

    def begun_together(function: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            together.wait(LONG)
            function()

        return run

    with threads(*map(begun_together, functions)):
        pass


def from_threads(function: Callable[[int], object], count: int) -> None:
    """Call a function with 0, 1, ... on as many threads that begin together."""
    at_once(*[lambda number=number: function(number) for number in range(count)])  # type: ignore[misc]


def nothing_is_requested() -> bool:
    """Return whether no request runs and the budgets of requests and bytes are whole."""
    return not (pool._process.requests or pool._process.sizes)


def nobody_helps() -> bool:
    """Return whether no helper is at work, and nobody waits for one."""
    return not (pool._process.helping or pool._process.waiting)


def all_threads_are_idle() -> bool:
    """Return whether no thread of the pool works, or tells that it has."""
    idle = pool._process.idle
    return len(idle) == len(pool._process.threads) and not any(thread.tell for thread in idle)


@contextmanager
def new_pool() -> Iterator[None]:
    """Have a pool without threads, as in a new process; forget its threads afterwards."""
    kept, pool._process = pool._process, pool._Process()
    try:
        yield
    finally:
        pool._process = kept


@contextmanager
def no_threads() -> Iterator[None]:
    """Refuse to start any thread; there is none in the pool either."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with new_pool(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield


def twins_that(what: Literal["run", "wait"]) -> int:
    """Return how many calls of twins run on threads, or wait for their turn."""
    lanes = twins._lanes
    all_lanes = [lanes.unlimited, *lanes._shared.values(), *lanes._owned.values()]
    return sum(lane._running if what == "run" else len(lane._queue) for lane in all_lanes)


def n_lanes_of_objects() -> int:
    """Return for how many objects a limit of their own is kept."""
    return len(twins._lanes._owned)


# --- event loops ---------------------------------------------------------------------------------


def run_asyncio(main: Main) -> Any:
    return asyncio.run(main())


def run_uvloop(main: Main) -> Any:
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def run_trio(main: Main) -> Any:
    import trio  # not for WebAssembly

    return trio.run(main)


def run_anyio_on_trio(main: Main) -> Any:
    return anyio.run(main, backend="trio")


LOOPS = {"asyncio": run_asyncio, "uvloop": run_uvloop, "trio": run_trio, "anyio": run_anyio_on_trio}

every_loop = pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)


# --- other interpreters --------------------------------------------------------------------------


def in_new_interpreter(
    script: str,
    *args: object,
    stdout: str | None = None,
    warnings: str = "default",
    timeout: float = 100,
    **variables: str,
) -> str:
    """Run a script that must end by itself and say nothing on stderr; return what it prints.

    If `stdout` is given, the script must print these words, in any order.
    """
    done = subprocess.run(
        [sys.executable, "-W", warnings, "-c", textwrap.dedent(script), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **variables},
    )
    assert (done.stderr, done.returncode) == ("", 0)
    if stdout is not None:
        assert sorted(done.stdout.split()) == sorted(stdout.split())
    return done.stdout
