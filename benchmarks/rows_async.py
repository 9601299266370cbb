"""What it costs to call a small operation from a running event loop, in every way there is.

Each row is a way of calling, each column a library. Rows of 100 reads time all 100 of them. The
floor is a coroutine that returns at once: what the event loop itself takes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from peers import PEERS, Layout, Operation, Peer, ZarrCore, ZarrPython
from rows import Row, SetUp, check, payload

NUMBER = 100
REQUESTS, WAIT = 200, 0.050

Read = Callable[[], Any]
Call = Callable[[], Coroutine[Any, Any, Any]]


# --- ways of calling -----------------------------------------------------------------------------


def on_the_loop(read: Read) -> Call:
    async def call() -> Any:
        return read()

    return call


def to_thread(read: Read) -> Call:
    return lambda: asyncio.to_thread(read)


def run_in_executor(read: Read) -> Call:
    async def call() -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, read)

    return call


def anyio_to_thread(read: Read) -> Call:
    from anyio.to_thread import run_sync

    return lambda: run_sync(read)


WAYS: dict[str, Callable[[Read], Call]] = {
    "synchronous": on_the_loop,
    "asyncio.to_thread": to_thread,
    "loop.run_in_executor": run_in_executor,
    "anyio.to_thread": anyio_to_thread,
}

AWAITED = "awaited"
"""The library's own: a twin of zarr_core, the native coroutine of the others."""


def as_coroutine(read: Callable[[], Awaitable[Any]]) -> Call:
    async def call() -> Any:
        return await read()

    return call


async def one_by_one(call: Call) -> Any:
    for _ in range(NUMBER):
        last = await call()
    return last


async def at_once(call: Call) -> Any:
    return (await asyncio.gather(*(call() for _ in range(NUMBER))))[-1]


ORDERS = {"one by one": one_by_one, "at once": at_once}


def in_a_loop(main: Callable[[], Coroutine[Any, Any, Any]]) -> Operation:
    """Return an operation on an event loop that lives as long as it, as in a server."""
    runner = asyncio.Runner()
    return lambda: runner.run(main())


def set_up_calls(
    peer: Peer, layout: Layout, selection: Any, way: str, order: str, directory: Path
) -> Operation:
    values = payload(layout)
    array = peer.create(layout, directory)
    peer.writer(array, ..., values)()
    if way == AWAITED:
        call = as_coroutine(peer.awaiter(array, selection))
    else:
        call = WAYS[way](peer.reader(array, selection))
    operation = in_a_loop(partial(ORDERS[order], call))
    check(operation(), values[selection])
    return operation


def bare(order: str) -> SetUp:
    def set_up(directory: Path) -> Operation:
        return in_a_loop(partial(ORDERS[order], on_the_loop(int)))

    return set_up


def call_row(what: str, where: str, selection: Any, way: str, order: str) -> Row:
    layout = Layout((50, 100), (50, 100), where=where)
    setups = {
        name: partial(set_up_calls, peer, layout, selection, way, order)
        for name, peer in PEERS.items()
        if peer.awaits
    }
    return Row(
        f"{NUMBER} reads of {what}, {where}, {order}: {way}", setups, {"coroutine": bare(order)}
    )


# --- a slow store --------------------------------------------------------------------------------


class SlowZarrCore(ZarrCore):
    def store(self, layout: Layout, directory: Path) -> Any:
        from zarr_core.storage import LatencyStore, MemoryStore

        return LatencyStore(MemoryStore(), get_latency=WAIT)


class SlowZarrPython(ZarrPython):
    """Waits in its event loop."""

    def store(self, layout: Layout, directory: Path) -> Any:
        from zarr.storage import MemoryStore
        from zarr.testing.store import LatencyStore

        return LatencyStore(MemoryStore(), get_latency=WAIT)


SLOW = Layout((REQUESTS, 10), (1, 10))


def slow_array(peer: Peer) -> tuple[Any, list[Any]]:
    """Return an array whose every request waits, and the selections of its chunks."""
    array = peer.create(SLOW, Path())
    peer.writer(array, ..., payload(SLOW))()
    return array, [(slice(n, n + 1), slice(None)) for n in range(REQUESTS)]


def set_up_gathered(peer: Peer, directory: Path) -> Operation:
    array, selections = slow_array(peer)
    reads = [as_coroutine(peer.awaiter(array, selection)) for selection in selections]

    async def main() -> Any:
        return await asyncio.gather(*(read() for read in reads))

    operation = in_a_loop(main)
    check([row[0] for row in operation()], payload(SLOW))
    return operation


def set_up_read_many(peer: Peer, directory: Path) -> Operation:
    import zarr_core

    array, selections = slow_array(peer)
    operation = in_a_loop(
        lambda: zarr_core.read_many_async([(array, selection) for selection in selections])
    )
    check([row[0] for row in operation()], payload(SLOW))
    return operation


def set_up_sleeps(directory: Path) -> Operation:
    async def main() -> Any:
        return await asyncio.gather(*(asyncio.sleep(WAIT) for _ in range(REQUESTS)))

    return in_a_loop(main)


def slow_row(name: str, ours: Callable[[Peer, Path], Operation]) -> Row:
    # Not the fused pipeline: it uses synchronous methods, which stores over a network do not have.
    setups = {
        "zarr_core": partial(ours, SlowZarrCore()),
        "zarr-python": partial(set_up_gathered, SlowZarrPython()),
    }
    return Row(name, setups, {"asyncio.sleep": set_up_sleeps})


TINY = f"{REQUESTS} tiny reads of {WAIT * 1000:.0f} ms at once"

ROWS = [
    *(
        call_row("a 20 kB chunk", where, ..., way, order)
        for where in ("memory", "local")
        for order in ORDERS
        for way in (AWAITED, *WAYS)
    ),
    *(
        call_row("one element", "memory", (3, 4), way, "one by one")
        for way in (AWAITED, "synchronous", "asyncio.to_thread")
    ),
    slow_row(f"{TINY}: awaited", set_up_gathered),
    slow_row(f"{TINY}: one read_many_async", set_up_read_many),
]
