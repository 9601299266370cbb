"""How much memory operations need beyond what there was before, beside peers.

    python benchmarks/memory.py                  # all rows; writes docs/performance/memory.{md,json}
    python benchmarks/memory.py --only mask --dry

Each figure comes from a process of its own, in which the operation runs for the peak of the memory
that the process has (RSS, Linux only), then again for the peak of what Python and NumPy allocate
(tracemalloc, which does not see a library's own allocator).
"""

import argparse
import ctypes
import gc
import json
import math
import subprocess
import sys
import tempfile
import tracemalloc
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # zarr_core of this tree

from peers import PEERS, Layout, Operation, Peer
from report import FOLDER

NAMES = ("zarr_core", "zarr-python", "tensorstore")
THREADS = 2
SHAPE = (4096, 4096)  # 64 MB
PLAIN = {"shape": SHAPE, "chunks": (512, 512), "codec": "zstd"}
SHARDED = {"shape": SHAPE, "chunks": (256, 256), "shards": (2048, 2048), "codec": "zstd"}
RAW = {**PLAIN, "codec": "raw"}
SMALL = {**PLAIN, "chunks": (64, 64)}
CORNER = (slice(0, 256), slice(0, 256))
BAND = (slice(100, 300), slice(None))


@dataclass(frozen=True)
class Row:
    """An operation, made from a peer, its array, and the directory for further arrays."""

    layout: dict[str, Any]
    make: Callable[[Peer, Any, Path], Operation]
    result: int = 0
    """Bytes of what is returned, which nobody can do without."""


def read(selection: Any = ...) -> Callable[[Peer, Any, Path], Operation]:
    return lambda peer, array, directory: peer.reader(array, selection)


def write(selection: Any = ..., shape: tuple[int, ...] = SHAPE) -> Any:
    def make(peer: Peer, array: Any, directory: Path) -> Operation:
        return peer.writer(array, selection, values(shape))

    return make


def values(shape: tuple[int, ...]) -> Any:
    """Return data that compresses to about half, made with little memory."""
    rng = np.random.default_rng(0)
    data = np.empty(shape, "float32")
    for row in data:
        row[:] = np.round(np.cumsum(rng.normal(size=shape[1])) * 64)
    return data


def mask() -> Any:
    rng = np.random.default_rng(1)
    return np.stack([rng.random(SHAPE[1]) < 0.01 for _ in range(SHAPE[0])])


def read_mask(peer: Peer, array: Any, directory: Path) -> Operation:
    where = mask()
    return peer.reader(array.vindex, where) if peer.name != "zarr_core" else lambda: array[where]


def read_points(peer: Peer, array: Any, directory: Path) -> Operation:
    rng = np.random.default_rng(1)
    return peer.reader(array.vindex, tuple(rng.integers(0, 4096, (2, 100_000))))


def copy(peer: Peer, array: Any, directory: Path) -> Operation:
    if peer.name == "tensorstore":
        other = peer.create(layout_of(PLAIN, "local"), directory / "copy")
        return lambda: other.write(array).result()
    if peer.name == "zarr_core":
        import zarr_core

        return lambda: zarr_core.from_array(str(directory / "copy"), data=array, overwrite=True)
    import zarr

    return lambda: zarr.from_array(str(directory / "copy"), data=array, overwrite=True)


def append(peer: Peer, array: Any, directory: Path) -> Operation:
    data = values((1000, SHAPE[1]))
    if peer.name != "tensorstore":
        return lambda: array.append(data)

    def grow() -> None:
        old = array.resolve().result().shape[0]
        grown = array.resize(exclusive_max=[old + 1000, SHAPE[1]]).result()
        grown[old:].write(data).result()

    return grow


ROWS = {
    "read 64 MB, 64 zstd chunks of 1 MB": Row(PLAIN, read(), 64 << 20),
    "read 64 MB, 64 raw chunks of 1 MB": Row(RAW, read(), 64 << 20),
    "read 64 MB, 4,096 zstd chunks of 16 kB": Row(SMALL, read(), 64 << 20),
    "read 64 MB, 4 shards of 64 zstd chunks": Row(SHARDED, read(), 64 << 20),
    "write 64 MB, 64 zstd chunks of 1 MB": Row(PLAIN, write()),
    "write 64 MB, 64 raw chunks of 1 MB": Row(RAW, write()),
    "write 64 MB, 4 shards of 64 zstd chunks": Row(SHARDED, write()),
    "read 256 kB, one chunk of a shard of 16 MB": Row(SHARDED, read(CORNER), 256 << 10),
    "read 3 MB, 32 chunks of 2 shards of 16 MB": Row(SHARDED, read(BAND), 200 * 4096 * 4),
    "write 256 kB, one chunk of a shard of 16 MB": Row(SHARDED, write(CORNER, (256, 256))),
    "read a mask of 1 %, 64 zstd chunks of 1 MB": Row(PLAIN, read_mask, 670_000),
    "read 100,000 points, 64 zstd chunks of 1 MB": Row(PLAIN, read_points, 400_000),
    "copy 64 MB to files, zstd chunks of 1 MB": Row(PLAIN, copy),
    "append 16 MB, zstd chunks of 1 MB": Row(PLAIN, append),
}


def layout_of(options: dict[str, Any], where: str) -> Layout:
    return Layout(**options, where=where)


# --- in the process that is measured ---------------------------------------------------------------


def status(name: str) -> int:
    """Return a line of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    raise OSError(f"no {name} in /proc/self/status")


def settle() -> int:
    """Give back what is free, forget the peak; return the memory that the process has."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def measure(row: str, name: str, where: str) -> dict[str, int]:
    """Return the peaks of an operation beyond what was there before, in bytes."""
    peer, found = PEERS[name], ROWS[row]
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        directory = Path(place)
        peer.activate(THREADS)
        array = peer.create(layout_of(found.layout, where), directory / "a")
        peer.writer(array, ..., values(SHAPE))()
        operation = found.make(peer, array, directory)
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


# --- in the process that asks ------------------------------------------------------------------------


def ask(row: str, name: str, where: str) -> dict[str, int]:
    command = [sys.executable, __file__, "--measure", row, name, where]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return dict(json.loads(done.stdout))


def cell(found: dict[str, int] | None, row: Row) -> str:
    if found is None:
        return "–"
    extra = found["rss"] - row.result
    layout = layout_of(row.layout, "")
    of = layout.chunks
    chunks = extra / (4 * math.prod(of))
    return f"{found['rss'] / 2**20:.1f} ({found['traced'] / 2**20:.1f}); {chunks:+.1f}"


def page(about: dict[str, Any], results: dict[str, dict[str, Any]]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [
        "# Performance: memory",
        "",
        "The most memory, in MB (2^20 bytes), that an operation has at one time beyond what there was",
        f"before; {THREADS} threads each. First what the operating system counts (RSS), in brackets",
        "what Python and NumPy have allocated (tracemalloc; it does not see memory that C++ code",
        "allocates). The last number says how many chunks (inner chunks, of shards) that is beyond the",
        "result. With codec `zstd` about half of the array's bytes are stored.",
        "",
        "A read needs its result and a few chunks per thread, whatever the array's size; small chunks",
        "are joined 128 at a time, and chunks of 1 MB and more are decoded into the result. A write",
        "needs a few chunks per thread. A shard that is read whole is fetched whole, and a shard that",
        "is written, even in part, is assembled in memory: that takes its encoded bytes, two or three",
        "times, for each thread that is at it.",
        "",
        f"{versions}; Python {about['python']}, NumPy",
        f"{about['numpy']}. Each figure is one run in a process of its own. Made by",
        "`python benchmarks/memory.py`.",
        "",
    ]
    for where in ("memory", "local"):
        lines += [
            f"## Data in {'memory' if where == 'memory' else 'local files'}",
            "",
            "| | result | " + " | ".join(about["versions"]) + " |",
            "|---|--:|" + "--:|" * len(about["versions"]),
        ]
        for name, row in ROWS.items():
            found = results.get(f"{name}, {where}", {})
            cells = " | ".join(cell(found.get(peer), row) for peer in about["versions"])
            lines.append(f"| {name} | {row.result / 2**20:.1f} | {cells} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="only rows with this in their name")
    parser.add_argument("--dry", action="store_true", help="print, write no files")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*args.measure)))
        return
    about: dict[str, Any] = {
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "versions": {name: PEERS[name].version() for name in NAMES},
    }
    place = FOLDER / "memory.json"
    results = json.loads(place.read_text("utf-8"))["results"] if place.exists() else {}
    for where in ("memory", "local"):
        for row, operation in ROWS.items():
            if args.only not in f"{row}, {where}":
                continue
            found = results[f"{row}, {where}"] = {}
            for name in NAMES:
                try:
                    found[name] = ask(row, name, where)
                except RuntimeError as error:
                    print(f"  {name}: {error}", file=sys.stderr)
            cells = "; ".join(f"{name} {cell(found.get(name), operation)}" for name in NAMES)
            print(f"{row}, {where}\n    {cells}", flush=True)
            if not args.dry:
                text = json.dumps({"about": about, "results": results}, indent=1) + "\n"
                place.write_text(text, "utf-8")
                (FOLDER / "memory.md").write_text(page(about, results), "utf-8")


if __name__ == "__main__":
    main()
