"""Reads that are awaited: one after the other, and many at once, in one event loop."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

from peers import PEERS, Layout, Operation, Peer
from rows import Row, check, payload

NUMBER = 100


def set_up_awaits(peer: Peer, layout: Layout, at_once: bool, directory: Path) -> Operation:
    values = payload(layout)
    array = peer.create(layout, directory)
    peer.writer(array, ..., values)()
    read = peer.awaiter(array, ...)

    async def one_by_one() -> Any:
        for _ in range(NUMBER):
            last = await read()
        return last

    async def together() -> Any:
        return (await asyncio.gather(*(as_coroutine(read) for _ in range(NUMBER))))[-1]

    # The loop lives as long as the operation, as in a server.
    runner = asyncio.Runner()
    run = together if at_once else one_by_one
    check(runner.run(run()), values)
    return lambda: runner.run(run())


async def as_coroutine(read: Any) -> Any:
    return await read()


ROWS = [
    Row(
        f"{NUMBER} awaited reads of a 20 kB chunk, {how}, {where}",
        {
            name: partial(
                set_up_awaits, peer, Layout((50, 100), (50, 100), where=where), how == "at once"
            )
            for name, peer in PEERS.items()
            if peer.awaits
        },
    )
    for where in ("memory", "local")
    for how in ("one by one", "at once")
]
