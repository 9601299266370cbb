"""Selections beyond a rectangle: lists, points, masks, steps and columns."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from peers import PEERS, Layout, Operation, Peer
from rows import Row, check, payload, read_row

ROWS: list[Row] = []

LAYOUT = Layout((2000, 2000), (100, 100), codec="blosc")
RNG = np.random.default_rng(0)
SOME = np.sort(RNG.choice(2000, 50, replace=False))
POINTS = (RNG.integers(0, 2000, 1000), RNG.integers(0, 2000, 1000))


def set_up_oindex(peer: Peer, selection: Any, directory: Path) -> Operation:
    values = payload(LAYOUT)
    array = peer.create(LAYOUT, directory)
    peer.writer(array, ..., values)()
    read = peer.reader(array.oindex, selection)
    check(read(), values[np.ix_(*selection)])
    return read


def set_up_vindex(peer: Peer, selection: Any, directory: Path) -> Operation:
    values = payload(LAYOUT)
    array = peer.create(LAYOUT, directory)
    peer.writer(array, ..., values)()
    read = peer.reader(array.vindex, selection)
    check(read(), values[selection])
    return read


ROWS += [
    read_row("one column through 20 blosc chunks", LAYOUT, (slice(None), 7)),
    read_row("every 100th row and column", LAYOUT, (slice(None, None, 100),) * 2),
    Row(
        "oindex: 50 x 50 of 2000 x 2000",
        {name: partial(set_up_oindex, peer, (SOME, SOME)) for name, peer in PEERS.items()},
    ),
    Row(
        "vindex: 1000 points in 400 chunks",
        {name: partial(set_up_vindex, peer, POINTS) for name, peer in PEERS.items()},
    ),
]
