"""Selections beyond a rectangle: lists, points, masks, steps and columns."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from peers import PEERS, Layout, Operation, Peer
from rows import Row, check, payload, read_row

ROWS: list[Row] = []

RNG = np.random.default_rng(0)
SOME_ROWS = np.sort(RNG.choice(2048, 100, replace=False))
MASK = RNG.random((2048, 2048)) < 0.01


def points(count: int) -> tuple[Any, Any]:
    return RNG.integers(0, 2048, count), RNG.integers(0, 2048, count)


def set_up(peer: Peer, layout: Layout, view: str, selection: Any, directory: Path) -> Operation:
    values = payload(layout)
    array = peer.create(layout, directory)
    peer.writer(array, ..., values)()
    read = peer.reader(getattr(array, view), selection)
    check(read(), values[selection])
    return read


def index_row(name: str, layout: Layout, view: str, selection: Any) -> Row:
    setups = {
        peer: partial(set_up, found, layout, view, selection) for peer, found in PEERS.items()
    }
    return Row(name, setups)


for where in ("memory", "local"):
    plain = Layout((2048, 2048), (256, 256), where=where)
    ROWS += [
        read_row(f"one column through 8 raw chunks, {where}", plain, (slice(None), 7)),
        read_row(f"every 100th row and column, {where}", plain, (slice(None, None, 100),) * 2),
        index_row(f"oindex: 100 of 2,048 rows, {where}", plain, "oindex", (SOME_ROWS, slice(None))),
        index_row(f"vindex: 1,000 points, {where}", plain, "vindex", points(1_000)),
        index_row(f"vindex: 100,000 points, {where}", plain, "vindex", points(100_000)),
        index_row(f"mask: 1 % of 4 million elements, {where}", plain, "vindex", MASK),
    ]
