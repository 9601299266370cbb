"""What it costs to call a small operation from a running event loop, in every way there is.

Each row is a way of calling, each column a library. Rows of 100 reads time all 100 of them. The
floor is a coroutine that returns at once: what the event loop itself takes.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import services
from peers import Layout, Operation, Peer, as_coroutine, in_a_loop
from rows import WITHOUT_ZARR_2, Row, check, filled

NUMBER = 100
REQUESTS, WAIT = 200, 0.050
SLOW = Layout((REQUESTS, 10), (1, 10), where="LatencyStore")

Read = Callable[[], Any]
Call = Callable[[], Coroutine[Any, Any, Any]]

AWAITED = "awaited"
"""The library's own: a twin of zarr_core, the native coroutine of the others."""


async def on_the_loop(read: Read) -> Any:
    return read()


async def run_in_executor(read: Read) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, read)


def anyio_to_thread() -> Any:
    from anyio.to_thread import run_sync

    return run_sync


WAYS: dict[str, Callable[[], Callable[[Read], Coroutine[Any, Any, Any]]]] = {
    "synchronous": lambda: on_the_loop,
    "asyncio.to_thread": lambda: asyncio.to_thread,
    "loop.run_in_executor": lambda: run_in_executor,
    "anyio.to_thread": anyio_to_thread,
}


async def one_by_one(call: Call) -> Any:
    for _ in range(NUMBER):
        last = await call()
    return last


async def at_once(call: Call) -> Any:
    return (await asyncio.gather(*(call() for _ in range(NUMBER))))[-1]


ORDERS = {"one by one": one_by_one, "at once": at_once}


def calls(
    layout: Layout, selection: Any, way: str, order: str, peer: Peer, directory: Path
) -> Operation:
    array, values = filled(peer, layout, directory)
    if way == AWAITED:
        call = as_coroutine(peer.awaiter(array, selection))
    else:
        call = partial(WAYS[way](), peer.reader(array, selection))
    operation = in_a_loop(partial(ORDERS[order], call))
    check(operation(), values[selection])
    return operation


def bare(order: str, directory: Path) -> Operation:
    return in_a_loop(partial(ORDERS[order], partial(on_the_loop, int)))


def call_row(what: str, where: str, selection: Any, way: str, order: str) -> Row:
    layout = Layout((50, 100), (50, 100), where=where)
    return Row(
        f"{NUMBER} reads of {what}, {where}, {order}: {way}",
        partial(calls, layout, selection, way, order),
        WITHOUT_ZARR_2,
        {"coroutine": partial(bare, order)},
    )


# --- a slow store --------------------------------------------------------------------------------


def slow_reads(together: bool, peer: Peer, directory: Path) -> Operation:
    """Read each chunk with a call of its own, or all with one where a peer has that."""
    services.wait(SLOW.where, WAIT)
    array, values = filled(peer, SLOW, directory)
    selections = [(slice(n, n + 1), slice(None)) for n in range(REQUESTS)]
    reads = [as_coroutine(peer.awaiter(array, selection)) for selection in selections]

    async def main() -> Any:
        if together and peer.module == "zarr_core":
            return await peer.library.read_many_async([(array, s) for s in selections])
        return await asyncio.gather(*(read() for read in reads))

    operation = in_a_loop(main)
    check([row[0] for row in operation()], values)
    return operation


def sleeps(directory: Path) -> Operation:
    async def main() -> Any:
        return await asyncio.gather(*(asyncio.sleep(WAIT) for _ in range(REQUESTS)))

    return in_a_loop(main)


# Not the fused pipeline: it uses synchronous methods, which stores over a network do not have.
SLOW_ROWS = [
    Row(
        f"{REQUESTS} tiny reads of {WAIT * 1000:.0f} ms at once: {what}",
        partial(slow_reads, together),
        ("zarr_core", "zarr-python"),
        {"asyncio.sleep": sleeps},
    )
    for what, together in (("awaited", False), ("one read_many_async", True))
]

ROWS = {
    "async": [
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
        *SLOW_ROWS,
    ]
}
