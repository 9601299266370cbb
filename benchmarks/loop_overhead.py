"""What an awaited read costs: a hop to a thread and back, and many reads at once.

    python benchmarks/loop_overhead.py [--rounds 15] [--dry]

The first table is of one raw chunk of 20 kB in memory, per call: in every event loop, one call after
the other and 100 gathered, against `asyncio.to_thread`, `anyio.to_thread` and the least that a hop to a
thread can be (a queue of 40 lines without limits and cancelling, below), and the other libraries,
which need no thread for this. The second is of many reads of local chunks, all awaited at once. All
ways of a row take turns; what is shown is the best of the rounds, as the machine's other work only
adds. Writes docs/performance/async.md, the table of docs/async.md and that of README.md.
"""

import argparse
import asyncio
import json
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import anyio
import anyio.to_thread
import numpy as np

import report

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import zarr_core as zarr  # noqa: E402
from zarr_core.storage import LatencyStore, MemoryStore  # noqa: E402

Call = Callable[[], Awaitable[Any]]
Figures = dict[str, dict[str, float]]

NUMBER = 100
PIPELINES = {"zarr-python": "BatchedCodecPipeline", "zarr-python, fused": "FusedCodecPipeline"}


# --- the least a hop can be ------------------------------------------------------------------------


class BareQueue:
    """Two threads that take calls from a queue; calls that ended together wake the loop once."""

    def __init__(self, post: Callable[[Callable[[], None]], object]) -> None:
        self._post = post
        self._calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._ended: list[Any] = []
        self._lock = threading.Lock()
        for _ in range(2):
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            call = self._calls.get()
            try:
                call[1] = call[0]()
            except BaseException as error:  # noqa: BLE001
                call[2] = error
            with self._lock:
                self._ended.append(call)
                first = len(self._ended) == 1
            if first:
                self._post(self._tell)

    def _tell(self) -> None:
        with self._lock:
            ended, self._ended = self._ended, []
        for call in ended:
            call[3].set()

    async def run(self, function: Callable[[], Any]) -> Any:
        call: list[Any] = [function, None, None, anyio.Event()]
        self._calls.put(call)
        await call[3].wait()
        if call[2] is not None:
            raise call[2]
        return call[1]


# --- timing ----------------------------------------------------------------------------------------


async def one_by_one(call: Call) -> None:
    for _ in range(NUMBER):
        await call()


async def gathered(call: Call) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(NUMBER):
            tasks.start_soon(call)  # type: ignore[arg-type]


async def best_of(ways: dict[str, Call], rounds: int) -> Figures:
    """Return the microseconds of a call, by way and order; the ways take turns."""
    orders = {"one by one": one_by_one, f"{NUMBER} at once": gathered}
    found: Figures = {way: dict.fromkeys(orders, float("inf")) for way in ways}
    for _ in range(rounds):
        for way, call in ways.items():
            for order, run in orders.items():
                start = time.perf_counter()
                await run(call)
                taken = (time.perf_counter() - start) / NUMBER * 1e6
                found[way][order] = min(found[way][order], taken)
    return found


async def hops(rounds: int) -> Figures:
    values = np.arange(5000, dtype="f4").reshape(50, 100)
    array = zarr.create_array({}, data=values, chunks=values.shape, compressors=None)
    token = anyio.lowlevel.current_token().native_token
    post: Any = getattr(token, "call_soon_threadsafe", None) or token.run_sync_soon  # type: ignore[attr-defined]
    bare = BareQueue(post)
    read = partial(array.getitem, ...)
    ways: dict[str, Call] = {
        "`await array.getitem_async(...)`": partial(array.getitem_async, ...),
        "a bare queue": partial(bare.run, read),
        "`anyio.to_thread.run_sync`": partial(anyio.to_thread.run_sync, read),
    }
    if hasattr(token, "call_soon_threadsafe"):
        ways["`asyncio.to_thread`"] = partial(asyncio.to_thread, read)
        ways |= await others_in_memory(values)
    return await best_of(ways, rounds)


async def others_in_memory(values: Any) -> dict[str, Call]:
    """Return the awaited reads of the other libraries, of one raw chunk in memory."""
    import tensorstore
    import zarr as zarr_python

    ways: dict[str, Call] = {}
    for name, pipeline in PIPELINES.items():
        zarr_python.config.set({"codec_pipeline.path": f"zarr.core.codec_pipeline.{pipeline}"})
        array = zarr_python.create_array({}, data=values, chunks=values.shape, compressors=None)
        ways[name] = partial(array.async_array.getitem, ...)
    spec = {"driver": "zarr3", "kvstore": {"driver": "memory"}, "create": True}
    store = await tensorstore.open(spec, dtype="float32", shape=values.shape)
    await store.write(values)

    async def read() -> Any:
        return await store.read()

    return ways | {"tensorstore": read}


def in_every_loop(rounds: int) -> dict[str, Figures]:
    import trio
    import uvloop

    return {
        "asyncio": asyncio.run(hops(rounds)),
        "uvloop": uvloop.run(hops(rounds)),
        "trio": trio.run(hops, rounds),
    }


# --- many reads at once ----------------------------------------------------------------------------


def chunks_at(place: str, count: int, nbytes: int, codec: str) -> str:
    """Write `count` chunks of integers that compress to a quarter or so; return where."""
    path = f"{place}/{count}-{codec}-{nbytes}"
    shape = (count, nbytes // 4)
    array = zarr.create_array(
        path,
        shape=shape,
        chunks=(1, shape[1]),
        dtype="i4",
        compressors="auto" if codec == "zstd" else None,
    )
    array[...] = np.random.default_rng(0).integers(0, 50, shape)
    return path


async def ours(path: str) -> Callable[[int], Awaitable[Any]]:
    array = await zarr.open_array_async(path, mode="r")
    return array.getitem_async


async def theirs(path: str, pipeline: str) -> Callable[[int], Awaitable[Any]]:
    import zarr as zarr_python

    zarr_python.config.set({"codec_pipeline.path": f"zarr.core.codec_pipeline.{pipeline}"})
    array = zarr_python.open_array(path, mode="r")
    return array.async_array.getitem  # type: ignore[no-any-return]


async def tensorstores(path: str) -> Callable[[int], Awaitable[Any]]:
    import tensorstore

    kvstore = {"driver": "file", "path": path}
    array = await tensorstore.open({"driver": "zarr3", "kvstore": kvstore})

    async def read(number: int) -> Any:
        return await array[number].read()

    return read


OPENERS: dict[str, Callable[[str], Awaitable[Callable[[int], Awaitable[Any]]]]] = {
    "zarr_core": ours,
    **{name: partial(theirs, pipeline=pipeline) for name, pipeline in PIPELINES.items()},
    "tensorstore": tensorstores,
}


@contextmanager
def blocks() -> Iterator[list[float]]:
    """Note the longest time for which the running loop did nothing else, in seconds."""
    longest = [0.0]
    last = time.perf_counter()

    async def tick() -> None:
        nonlocal last
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest[0] = max(longest[0], now - last - 0.001)
            last = now

    ticking = asyncio.ensure_future(tick())
    try:
        yield longest
    finally:
        ticking.cancel()


async def many(place: str, rounds: int) -> tuple[dict[str, dict[str, list[float]]], Figures]:
    """Return the milliseconds of each round, and of the longest block, by row and library."""
    rows = {
        "1,000 reads of 1,000 zstd chunks of 64 kB": (1000, 1000, 64 << 10, "zstd"),
        "1,000 reads of 64 raw chunks of 256 kB": (1000, 64, 256 << 10, "raw"),
        "1,000 reads of 64 zstd chunks of 256 kB": (1000, 64, 256 << 10, "zstd"),
        "64 reads of one zstd chunk of 256 kB": (64, 1, 256 << 10, "zstd"),
    }
    times: dict[str, dict[str, list[float]]] = {}
    longest: Figures = {}
    for row, (n_reads, n_chunks, nbytes, codec) in rows.items():
        path = chunks_at(place, n_chunks, nbytes, codec)
        readers = {name: await open_it(path) for name, open_it in OPENERS.items()}
        taken: dict[str, list[float]] = {name: [] for name in readers}
        block = dict.fromkeys(readers, float("inf"))
        for _ in range(rounds):
            for name, read in readers.items():
                with blocks() as blocked:
                    start = time.perf_counter()
                    found = await asyncio.gather(*(read(k % n_chunks) for k in range(n_reads)))
                    taken[name].append((time.perf_counter() - start) * 1e3)
                    await asyncio.sleep(0.002)
                block[name] = min(block[name], blocked[0] * 1e3)
                assert len(found) == n_reads
        times[row], longest[row] = taken, block
    return times, longest


async def slow() -> dict[str, float]:
    """Return the milliseconds of 200 reads of a store that takes 50 ms, and of as many sleeps."""
    array = zarr.create_array(MemoryStore(), shape=(200, 10), chunks=(1, 10), dtype="i4")
    array[...] = 1
    array = zarr.open_array(LatencyStore(array.store, get_latency=0.05), mode="r")
    best = {"zarr_core": float("inf"), "`asyncio.sleep`": float("inf")}
    for _ in range(4):
        start = time.perf_counter()
        await asyncio.gather(*(array.getitem_async(k) for k in range(200)))
        best["zarr_core"] = min(best["zarr_core"], (time.perf_counter() - start) * 1e3)
        start = time.perf_counter()
        await asyncio.gather(*(asyncio.sleep(0.05) for _ in range(200)))
        best["`asyncio.sleep`"] = min(best["`asyncio.sleep`"], (time.perf_counter() - start) * 1e3)
    return best


# --- tables ----------------------------------------------------------------------------------------


def table(rows: Figures, unit: str, own: str) -> str:
    """Return a table; in brackets, how many times as long as `own`."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))

    def cell(figures: dict[str, float], name: str) -> str:
        if name not in figures:
            return "–"
        ratio = "" if name == own else f" ({report.times(figures[name], figures[own])})"
        return f"{figures[name]:.3g}{ratio}"

    lines = [[row, *(cell(figures, name) for name in names)] for row, figures in rows.items()]
    return "\n".join(report.table([unit, *names], lines))


def by_order(loops: dict[str, Figures]) -> Figures:
    return {
        f"{loop}, {order}": {way: found[order] for way, found in figures.items()}
        for loop, figures in loops.items()
        for order in next(iter(figures.values()))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--dry", action="store_true", help="print the tables, write nothing")
    args = parser.parse_args()
    hop_rows = by_order(in_every_loop(args.rounds))
    with tempfile.TemporaryDirectory() as place:
        times, longest = asyncio.run(many(place, max(3, args.rounds // 3)))
    waits = asyncio.run(slow())
    own = "`await array.getitem_async(...)`"
    best = {row: {name: min(ms) for name, ms in found.items()} for row, found in times.items()}
    medians = {
        row: {name: median(ms) for name, ms in found.items()} for row, found in times.items()
    }
    many_table = table(best, "ms", "zarr_core")
    page = f"""# Performance: async

Made by `python benchmarks/loop_overhead.py` on Python {sys.version.split()[0]}, which says how.

One raw chunk of 20 kB in memory, per call:

{table(hop_rows, "µs", own)}

The bare queue has no limits, no cancelling and no time limits; it is the floor.

Local chunks, all awaited at once. Reads that wait for a thread are made together, so that what
several of them want is fetched and decoded once:

{many_table}

The longest time for which these reads kept the event loop from anything else:

{table(longest, "ms", "zarr_core")}

200 reads of a store that takes 50 ms, all awaited at once:

{table({"200 x 50 ms": waits}, "ms", "zarr_core")}
"""
    print(page)
    if args.dry:
        return
    (report.FOLDER / "async.md").write_text(page, "utf-8")
    report.replace(ROOT / "docs" / "async.md", many_table.split("\n"))
    results = [
        {"row": row, "median": {name: ms / 1e3 for name, ms in figures.items()}}
        for row, figures in medians.items()
    ]
    (report.FOLDER / "async.json").write_text(json.dumps({"results": results}, indent=1) + "\n")
    report.write_readme()


if __name__ == "__main__":
    main()
