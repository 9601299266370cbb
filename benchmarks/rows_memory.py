"""How much memory operations need beyond what there was before.

Each figure comes from a process of its own, in which the operation runs for the peak of the memory
that the process has (RSS, Linux only), then again for the peak of what Python and NumPy allocate
(tracemalloc, which does not see a library's own allocator).
"""

import ctypes
import gc
import tempfile
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

import report
from peers import PEERS, Layout, Operation, Peer
from rows import Row, budget

ROUNDS = 1
NAMES = ("zarr_core", "zarr-python", "tensorstore")
SHAPE = (4096, 4096)  # 64 MB
PLAIN = Layout(SHAPE, (512, 512), "zstd")
RAW = replace(PLAIN, codec="raw")
SMALL = replace(PLAIN, chunks=(64, 64))
SHARDED = Layout(SHAPE, (256, 256), "zstd", shards=(2048, 2048))
CORNER = (slice(0, 256), slice(0, 256))
BAND = (slice(100, 300), slice(None))


def values(shape: tuple[int, ...]) -> Any:
    """Return data that compresses to about half, made with little memory."""
    rng = np.random.default_rng(0)
    data = np.empty(shape, "float32")
    for row in data:
        row[:] = np.round(np.cumsum(rng.normal(size=shape[1])) * 64)
    return data


# Each returns an operation, made from a peer, its array, and the directory for further arrays.


def read(selection: Any, peer: Peer, array: Any, directory: Path) -> Operation:
    return peer.reader(array, selection)


def write(
    selection: Any, shape: tuple[int, ...], peer: Peer, array: Any, directory: Path
) -> Operation:
    return peer.writer(array, selection, values(shape))


def read_mask(peer: Peer, array: Any, directory: Path) -> Operation:
    rng = np.random.default_rng(1)
    mask = np.stack([rng.random(SHAPE[1]) < 0.01 for _ in range(SHAPE[0])])
    return peer.reader(array if peer.name == "zarr_core" else array.vindex, mask)


def read_points(peer: Peer, array: Any, directory: Path) -> Operation:
    return peer.reader(
        array.vindex, tuple(np.random.default_rng(1).integers(0, 4096, (2, 100_000)))
    )


def copy(peer: Peer, array: Any, directory: Path) -> Operation:
    if peer.name == "tensorstore":
        other = peer.create(PLAIN, peer.store("local", directory / "copy"))
        return lambda: other.write(array).result()
    place = str(directory / "copy")
    return lambda: peer.library.from_array(place, data=array, overwrite=True)


def append(peer: Peer, array: Any, directory: Path) -> Operation:
    data = values((1000, SHAPE[1]))
    if peer.name != "tensorstore":
        return lambda: array.append(data)

    def grow() -> None:
        old = array.resolve().result().shape[0]
        grown = array.resize(exclusive_max=[old + 1000, SHAPE[1]]).result()
        grown[old:].write(data).result()

    return grow


read_all, write_all = partial(read, ...), partial(write, ..., SHAPE)
MB_64 = 64 << 20
WORK: dict[str, tuple[Layout, Callable[[Peer, Any, Path], Operation], int]] = {
    "read 64 MB, 64 zstd chunks of 1 MB": (PLAIN, read_all, MB_64),
    "read 64 MB, 64 raw chunks of 1 MB": (RAW, read_all, MB_64),
    "read 64 MB, 4,096 zstd chunks of 16 kB": (SMALL, read_all, MB_64),
    "read 64 MB, 4 shards of 64 zstd chunks": (SHARDED, read_all, MB_64),
    "write 64 MB, 64 zstd chunks of 1 MB": (PLAIN, write_all, 0),
    "write 64 MB, 64 raw chunks of 1 MB": (RAW, write_all, 0),
    "write 64 MB, 4 shards of 64 zstd chunks": (SHARDED, write_all, 0),
    "read 256 kB, one chunk of a shard of 16 MB": (SHARDED, partial(read, CORNER), 256 << 10),
    "read 3 MB, 32 chunks of 2 shards of 16 MB": (SHARDED, partial(read, BAND), 200 * 4096 * 4),
    "write 256 kB, one chunk of a shard of 16 MB": (
        SHARDED,
        partial(write, CORNER, (256, 256)),
        0,
    ),
    "read a mask of 1 %, 64 zstd chunks of 1 MB": (PLAIN, read_mask, 670_000),
    "read 100,000 points, 64 zstd chunks of 1 MB": (PLAIN, read_points, 400_000),
    "copy 64 MB to files, zstd chunks of 1 MB": (PLAIN, copy, 0),
    "append 16 MB, zstd chunks of 1 MB": (PLAIN, append, 0),
}
"""The array, the operation, and bytes of what it returns, which nobody can do without."""

PLACES = {"memory": "memory", "local": "local files"}
ROWS = {"memory": [Row(f"{name}, {where}", None, NAMES) for where in PLACES for name in WORK]}


def status(name: str) -> int:
    """Return a line of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def settle() -> int:
    """Give back what is free, forget the peak; return the memory that the process has."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def measure(row: str, name: str, place: Path) -> dict[str, int]:
    """Return the peaks of an operation beyond what was there before, in bytes."""
    what, _, where = row.rpartition(", ")
    peer, (layout, make, _) = PEERS[name], WORK[what]
    with tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True) as new:
        directory = Path(new)
        peer.activate(budget.threads)
        array = peer.create(layout, peer.store(where, directory / "a"))
        peer.writer(array, ..., values(SHAPE))()
        operation = make(peer, array, directory)
        peer.reader(array, (0, 0))()  # imports, threads and caches that stay
        before = settle()
        result = operation()
        rss = status("VmHWM") - before
        del result
        settle()
        tracemalloc.start()
        operation()  # what it leaves in a store in memory is replaced by the next run
        gc.collect()
        tracemalloc.reset_peak()
        traced = -tracemalloc.get_traced_memory()[0]
        operation()
        return {"rss": rss, "traced": traced + tracemalloc.get_traced_memory()[1]}


def cell(found: dict[str, int] | None, layout: Layout, result: int) -> str:
    if found is None:
        return "–"
    chunks = (found["rss"] - result) / (4 * prod(layout.chunks))
    return f"{found['rss'] / 2**20:.1f} ({found['traced'] / 2**20:.1f}); {chunks:+.1f}"


PAGE = """# Performance: memory

The most memory, in MB (2^20 bytes), that an operation has at one time beyond what there was
before; {threads} threads each. First what the operating system counts (RSS), in brackets
what Python and NumPy have allocated (tracemalloc; it does not see memory that C++ code
allocates). The last number says how many chunks (inner chunks, of shards) that is beyond the
result. With codec `zstd` about half of the array's bytes are stored.

A read needs its result and a few chunks per thread, whatever the array's size; small chunks
are joined 128 at a time, and chunks of 1 MB and more are decoded into the result. A write
needs a few chunks per thread. A shard that is read whole is fetched whole, and a shard that
is written, even in part, is assembled in memory: that takes its encoded bytes, two or three
times, for each thread that is at it.

{versions}; Python {python}, NumPy
{numpy}. Each figure is one run in a process of its own. Made by
`python benchmarks/compare.py --rows memory`.
"""


def page(group: str, about: report.Result, results: list[report.Result]) -> str:
    found = {r["row"]: r["median"] for r in results}
    versions = ", ".join(f"{name} {about['versions'][name]}" for name in NAMES)
    text = PAGE.format(**{**about, "versions": versions})
    for where, title in PLACES.items():
        rows = [
            [
                name,
                f"{result / 2**20:.1f}",
                *(cell(found[f"{name}, {where}"].get(n), layout, result) for n in NAMES),
            ]
            for name, (layout, _, result) in WORK.items()
            if f"{name}, {where}" in found
        ]
        lines = report.table(["", "result", *NAMES], rows)
        text += "\n".join(["", f"## Data in {title}", "", *lines, ""])
    return text


def plot(group: str, results: list[report.Result]) -> None:
    """Draw nothing."""
