"""What is measured: one `Row` per line of the table, with a way to set it up for every peer.

A module `rows_NAME.py` beside this one has a list ROWS; its rows are the group NAME. `set up` makes
the data, runs the operation once, compares the result with what it must be, and returns it.
"""

import importlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from peers import BLOSC, GZIP_LEVEL, PEERS, ZSTD_LEVEL, Layout, Operation, Peer

Values = npt.NDArray[Any]
SetUp = Callable[[Path], Operation]
"""Gets an empty directory, returns the operation to time."""

GROUPS = ("read", "write", "open", "index", "shard", "async", "stores", "groups")


@dataclass
class Budget:
    """What everybody may use."""

    threads: int = os.cpu_count() or 1


budget = Budget()


@dataclass(frozen=True)
class Row:
    """One operation, for each peer that has it, and the floors under it."""

    name: str
    setups: Mapping[str, SetUp]  # by name of the peer
    floors: Mapping[str, SetUp] = field(default_factory=dict)
    known: Mapping[str, float] = field(default_factory=dict)
    """Floors that are computed: seconds by name."""


def load_rows(groups: tuple[str, ...] = GROUPS) -> dict[str, list[Row]]:
    """Return the rows of groups; the group NAME is in the module `rows_NAME`."""
    return {group: list(importlib.import_module(f"rows_{group}").ROWS) for group in groups}


def payload(layout: Layout) -> Values:
    """Return data that compresses like a measured field: a smooth one with noise in the low bits."""
    rng = np.random.default_rng(0)
    size = int(np.prod(layout.shape))
    smooth = np.cumsum(rng.normal(size=size)).reshape(layout.shape)
    return np.round(smooth * 64).astype(layout.dtype)


def check(found: Any, expected: Any) -> None:
    if not np.array_equal(np.asarray(found), np.asarray(expected)):
        raise AssertionError("the result is wrong: nothing to time here")


# --- reading and writing -------------------------------------------------------------------------


def set_up_read(peer: Peer, layout: Layout, selection: Any, directory: Path) -> Operation:
    values = payload(layout)
    array = peer.create(layout, directory)
    peer.writer(array, ..., values)()
    read = peer.reader(array, selection)
    check(read(), values[selection])
    return read


def set_up_write(peer: Peer, layout: Layout, selection: Any, directory: Path) -> Operation:
    expected = payload(layout)
    value = np.ascontiguousarray(expected[selection]) + 1
    expected[selection] = value
    array = peer.create(layout, directory)
    peer.writer(array, ..., payload(layout))()
    write = peer.writer(array, selection, value)
    write()
    check(peer.reader(array, ...)(), expected)
    return write


def set_up_open(peer: Peer, layout: Layout, directory: Path) -> Operation:
    return peer.opener(layout, directory)


def by_peer(set_up: Callable[..., Operation], layout: Layout, *args: Any) -> dict[str, SetUp]:
    return {
        name: partial(set_up, peer, layout, *args)
        for name, peer in PEERS.items()
        if peer.shards or layout.shards is None
    }


def read_row(name: str, layout: Layout, selection: Any = ..., **floors: SetUp) -> Row:
    """Return a row that reads a selection; its floors are named with _ for a space."""
    return Row(name, by_peer(set_up_read, layout, selection), named_floors(floors))


def write_row(name: str, layout: Layout, selection: Any = ..., **floors: SetUp) -> Row:
    """Return a row that overwrites a selection of an array that is already full."""
    return Row(name, by_peer(set_up_write, layout, selection), named_floors(floors))


def open_row(name: str, layout: Layout) -> Row:
    """Return a row that opens an array."""
    return Row(name, by_peer(set_up_open, layout))


def named_floors(floors: Mapping[str, SetUp]) -> dict[str, SetUp]:
    return {name.replace("_", " "): set_up for name, set_up in floors.items()}


# --- floors: what no library can beat ------------------------------------------------------------


def memcpy(layout: Layout, selection: Any = ...) -> SetUp:
    """Copy the selection into new memory."""

    def set_up(directory: Path) -> Operation:
        values = payload(layout)[selection]
        return lambda: np.copyto(np.empty(values.shape, values.dtype), values)

    return set_up


def read_files(number: int, nbytes: int) -> SetUp:
    """Open, fstat, read and close files one after the other."""

    def set_up(directory: Path) -> Operation:
        paths = [str(directory / str(i)) for i in range(number)]
        for path in paths:
            Path(path).write_bytes(bytes(nbytes))

        def read() -> None:
            for path in paths:
                descriptor = os.open(path, os.O_RDONLY)
                os.read(descriptor, os.fstat(descriptor).st_size)
                os.close(descriptor)

        return read

    return set_up


def write_files(number: int, nbytes: int) -> SetUp:
    """Make, write, close and rename files one after the other, over older ones."""

    def set_up(directory: Path) -> Operation:
        names = [(f"{directory}/{i}.tmp", f"{directory}/{i}") for i in range(number)]
        data = bytes(nbytes)

        def write() -> None:
            for temporary, name in names:
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
                os.write(descriptor, data)
                os.close(descriptor)
                os.replace(temporary, name)

        return write

    return set_up


def bare_codec(layout: Layout, *, decode: bool) -> SetUp:
    """Run the codec alone over all chunks, on as many threads as everybody has."""

    def set_up(directory: Path) -> Operation:
        threads = budget.threads
        run = decoder(layout) if decode else encoder(layout)
        count = int(np.prod(layout.shape)) // int(np.prod(layout.chunks))
        chunks = [np.ascontiguousarray(c) for c in np.split(payload(layout).reshape(-1), count)]
        parts = [encoder(layout)(chunk) for chunk in chunks] if decode else chunks
        pool = ThreadPoolExecutor(threads)

        def batch(start: int) -> None:
            for part in parts[start::threads]:
                run(part)

        return lambda: list(pool.map(batch, range(threads)))

    return set_up


def encoder(layout: Layout) -> Callable[[Any], Any]:
    if layout.codec == "gzip":
        from zarr_core.codecs.deflate import deflater

        return deflater(GZIP_LEVEL, gzip=True)
    if layout.codec == "zstd":
        from numcodecs import Zstd

        return Zstd(level=ZSTD_LEVEL).encode  # type: ignore[no-any-return]
    from numcodecs import Blosc

    return Blosc(BLOSC["cname"], BLOSC["clevel"], Blosc.SHUFFLE).encode  # type: ignore[no-any-return]


def decoder(layout: Layout) -> Callable[[Any], Any]:
    if layout.codec == "gzip":
        from zarr_core.codecs.deflate import inflater

        decompressor, _ = inflater()
        return lambda data: decompressor(31).decompress(data)
    if layout.codec == "zstd":
        from numcodecs import Zstd

        return Zstd().decode  # type: ignore[no-any-return]
    from numcodecs import blosc

    return blosc.decompress  # type: ignore[no-any-return]
