"""What a row is, the operations that rows are made of, and the floors under them.

Setting up makes the data, runs the operation once, compares the result with what it must be, and
returns the operation.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from peers import LEVELS, PEERS, THREADS, Layout, Operation, Peer, numcodec

Values = npt.NDArray[Any]
SetUp = Callable[[Peer, Path], Operation]
"""Gets a peer and an empty directory, returns the operation to time."""
Floor = Callable[[Path], Operation]

ARRAYS = ("read", "write", "open", "indexing", "shard")
GROUPS = (*ARRAYS, "stores", "groups", "scaling", "memory", "load")

EVERYBODY = tuple(PEERS)
WITHOUT_ZARR_2 = EVERYBODY[:-1]


@dataclass
class Budget:
    """What everybody may use."""

    threads: int = THREADS


budget = Budget()


@dataclass(frozen=True)
class Row:
    """One operation, who takes part, and the floors under it."""

    name: str
    set_up: SetUp | None
    """None in a group whose module has a function `measure`."""
    peers: Sequence[str] = EVERYBODY
    floors: Mapping[str, Floor] = field(default_factory=dict)
    known: Mapping[str, float] = field(default_factory=dict)
    """Floors that are computed: seconds by name."""
    threads: int | None = None
    """How many a library may use inside one call, where that is part of the row."""
    in_flight: int | None = None


def module_of(group: str) -> Any:
    return import_module("rows_arrays" if group in ARRAYS else f"rows_{group}")


@cache
def load_rows(group: str) -> dict[str, Row]:
    """Return the rows of a group by name: what its module has in ROWS."""
    return {row.name: row for row in module_of(group).ROWS[group]}


def payload(layout: Layout) -> Values:
    """Return data that compresses like a measured field: a smooth one with noise in the low bits."""
    smooth = np.cumsum(np.random.default_rng(0).normal(size=prod(layout.shape)))
    return np.round(smooth.reshape(layout.shape) * 64).astype(layout.dtype)


def check(found: Any, expected: Any) -> None:
    if not np.array_equal(np.asarray(found), np.asarray(expected)):
        raise AssertionError("the result is wrong: nothing to time here")


# --- operations ----------------------------------------------------------------------------------


def filled(peer: Peer, layout: Layout, directory: Path) -> tuple[Any, Values]:
    """Return a new array with its values."""
    values = payload(layout)
    array = peer.create(layout, peer.store(layout.where, directory))
    peer.writer(array, ..., values)()
    return array, values


def read(
    layout: Layout, selection: Any, peer: Peer, directory: Path, *, view: str = ""
) -> Operation:
    array, values = filled(peer, layout, directory)
    operation = peer.reader(getattr(array, view) if view else array, selection)
    check(operation(), values[selection])
    return operation


def write(layout: Layout, selection: Any, peer: Peer, directory: Path) -> Operation:
    """Write over a part of an array that is full."""
    array, expected = filled(peer, layout, directory)
    value = np.ascontiguousarray(expected[selection]) + 1
    expected[selection] = value
    operation = peer.writer(array, selection, value)
    operation()
    check(peer.reader(array, ...)(), expected)
    return operation


def open_array(layout: Layout, peer: Peer, directory: Path) -> Operation:
    store = peer.store(layout.where, directory)
    peer.create(layout, store)
    return peer.opener(store)


def row(name: str, verb: Callable[..., Operation], layout: Layout, *args: Any, **more: Any) -> Row:
    """Return the row of an operation on an array, for everybody who has such arrays."""
    peers = WITHOUT_ZARR_2 if layout.shards else EVERYBODY
    return Row(name, partial(verb, layout, *args), **{"peers": peers, **more})


# --- floors: what no library can beat ------------------------------------------------------------


def floors(
    layout: Layout, verb: str = "read", selection: Any = ..., nbytes: int = 0
) -> dict[str, Floor]:
    """Return a copy of the memory, or the codec alone; and the system calls for local files.

    Files are a floor where chunks are raw, or where their stored size `nbytes` is given.
    """
    found: dict[str, Floor]
    if layout.codec == "raw":
        nbytes = prod(layout.chunks) * layout.itemsize
        found = {"memcpy": partial(memcpy, layout, selection)}
    else:
        found = {"bare codec": partial(bare_codec, layout, verb)}
    if layout.where == "local" and nbytes:
        return {**found, **files(verb, layout.count, nbytes)}
    return found


def memcpy(layout: Layout, selection: Any, directory: Path) -> Operation:
    """Copy the selection into new memory."""
    values = payload(layout)[selection]
    return lambda: np.copyto(np.empty(values.shape, values.dtype), values)


def files(verb: str, count: int, nbytes: int) -> dict[str, Floor]:
    if verb == "read":
        return {"open, read, close": partial(read_files, count, nbytes)}
    return {"open, write, close, rename": partial(write_files, count, nbytes)}


def read_files(count: int, nbytes: int, directory: Path) -> Operation:
    """Open, fstat, read and close files one after the other."""
    paths = [str(directory / str(i)) for i in range(count)]
    for path in paths:
        Path(path).write_bytes(bytes(nbytes))

    def read() -> None:
        for path in paths:
            descriptor = os.open(path, os.O_RDONLY)
            os.read(descriptor, os.fstat(descriptor).st_size)
            os.close(descriptor)

    return read


def write_files(count: int, nbytes: int, directory: Path) -> Operation:
    """Make, write, close and rename files one after the other, over older ones."""
    names = [(f"{directory}/{i}.tmp", f"{directory}/{i}") for i in range(count)]
    data = bytes(nbytes)

    def write() -> None:
        for temporary, name in names:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.write(descriptor, data)
            os.close(descriptor)
            os.replace(temporary, name)

    return write


def bare_codec(layout: Layout, verb: str, directory: Path) -> Operation:
    """Run the codec alone over all chunks, on as many threads as everybody has."""
    encode, decode = numcodec(layout.codec).encode, numcodec(layout.codec).decode
    if layout.codec == "gzip":
        import deflate
        from isal import isal_zlib

        encode = lambda data: deflate.gzip_compress(data, LEVELS["gzip"])  # noqa: E731
        decode = lambda data: isal_zlib.decompress(data, 31)  # noqa: E731
    chunks = [np.ascontiguousarray(c) for c in np.split(payload(layout).ravel(), layout.count)]
    run, parts = (decode, list(map(encode, chunks))) if verb == "read" else (encode, chunks)
    pool, threads = ThreadPoolExecutor(budget.threads), budget.threads

    def batch(start: int) -> None:
        for part in parts[start::threads]:
            run(part)

    return lambda: list(pool.map(batch, range(threads)))
