"""Many small reads at once in one event loop: throughput, longest block of the loop, memory.

All libraries read the same files. Each measurement is a process of its own, so that memory can be
compared. Beside the reads runs a task that only wants to run every millisecond: the longest time
that it is late by is the longest block of the loop.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import plots
import report
import services
from peers import PEERS, Layout, as_coroutine
from rows import Row, budget, filled
from rows_memory import settle, status

REQUESTS, WAIT = 200, 0.050
SLOW = Layout((REQUESTS, 10), (1, 10), where="LatencyStore")

TICK = 0.001
READS = 1000
TWINS, TOGETHER = "zarr_core, a twin each", "zarr_core, one read_many_async"
NATIVE = "asyncio.sleep"
OTHERS = ("zarr-python", "zarr-python, fused", "tensorstore")

FILES = {
    f"{READS:,} reads of a {codec} chunk of 256 kB, local files": Layout(
        (READS * 256, 256), (256, 256), codec, "local"
    )
    for codec in ("raw", "zstd")
}
SLOW_SCENE = f"{REQUESTS} reads of a chunk of 40 B, {WAIT * 1000:.0f} ms each"
SCENES = {**FILES, SLOW_SCENE: SLOW}
WHO = {
    **dict.fromkeys(FILES, (TWINS, TOGETHER, *OTHERS)),
    SLOW_SCENE: (TWINS, TOGETHER, OTHERS[0], NATIVE),
}


def prepare(scene: str, place: Path) -> None:
    """Write the files that all read."""
    if scene in FILES:
        _, values = filled(PEERS["zarr_core"], FILES[scene], place)
        np.save(place / "expected.npy", values)


def measure(scene: str, name: str, place: Path) -> dict[str, float]:
    """Return the figures of a scene; the process ends afterwards."""
    layout, peer = SCENES[scene], PEERS["zarr_core" if name in (TWINS, TOGETHER, NATIVE) else name]
    peer.activate(budget.threads)
    if layout is SLOW:
        services.wait(SLOW.where, WAIT)
        array, expected = filled(peer, SLOW, place)
    else:
        array = peer.opener(peer.store("local", place))()
        expected = np.load(place / "expected.npy", mmap_mode="r")
    rows, count = layout.chunks[0], layout.count
    chunks = [(slice(n * rows, (n + 1) * rows), slice(None)) for n in range(count)]

    async def read(number: int) -> list[Any]:
        """Read the first so many chunks at once."""
        some = chunks[:number]
        if name == NATIVE:
            await asyncio.gather(*(asyncio.sleep(WAIT) for _ in some))
            return [expected[chunk] for chunk in some]
        if name == TOGETHER:
            return list(await peer.library.read_many_async([(array, chunk) for chunk in some]))
        calls = [as_coroutine(peer.awaiter(array, chunk)) for chunk in some]
        return await asyncio.gather(*(call() for call in calls))

    return asyncio.run(figures(read, count, expected))


async def beat(late: list[float]) -> None:
    """Note how late every tick of a millisecond is."""
    while True:
        start = perf_counter()
        await asyncio.sleep(TICK)
        late.append(perf_counter() - start - TICK)


async def watched(work: Coroutine[Any, Any, Any]) -> tuple[Any, float, list[float]]:
    """Run something beside a heartbeat; return its result, its time, and how late ticks were."""
    late: list[float] = []
    heart = asyncio.create_task(beat(late))
    await asyncio.sleep(10 * TICK)
    late.clear()
    start = perf_counter()
    result = await work
    seconds = perf_counter() - start
    await asyncio.sleep(2 * TICK)  # a block that lasts to the very end counts too
    heart.cancel()
    return result, seconds, late


async def figures(
    read: Callable[[int], Coroutine[Any, Any, list[Any]]], number: int, expected: Any
) -> dict[str, float]:
    for _ in range(3):
        await read(min(number, 20))  # imports and threads are there before, as in a server
    await asyncio.sleep(0.05)
    _, _, idle = await watched(asyncio.sleep(0.3))
    before, cpu = settle(), os.times()
    results, seconds, late = await watched(read(number))
    now, peak = os.times(), status("VmHWM") - before
    found = np.concatenate(results)
    if not np.array_equal(found, expected):
        raise AssertionError("the result is wrong: nothing to measure here")
    return {
        "seconds": seconds,
        "cpu": now.user + now.system - cpu.user - cpu.system,
        "block": max(late),
        "block_p99": sorted(late)[int(len(late) * 0.99)],
        "idle": max(idle),
        "memory": peak / found.nbytes,
    }


ROWS = {"load": [Row(scene, None, who) for scene, who in WHO.items()]}


# --- what is written -----------------------------------------------------------------------------


def table(scene: str, medians: dict[str, dict[str, float]]) -> list[str]:
    layout, slow = SCENES[scene], scene == SLOW_SCENE
    rows = []
    for name, median in medians.items():
        times = [report.in_words(median[key]) for key in ("seconds", "cpu", "block", "idle")]
        if not slow:
            nbytes = layout.count * 256 * 256 * 4
            times.insert(1, f"{nbytes / median['seconds'] / 1e6:,.0f}")
        rows.append([name, *times, "–" if slow else f"{median['memory']:.2f}"])
    speed = [] if slow else ["MB/s"]
    last = "memory, as times the results"
    return report.table(["", "time", *speed, "CPU time", "longest block", "idle", last], rows)


def page(group: str, about: report.Result, results: list[report.Result]) -> str:
    each = f", each in a process of its own, {about['threads']} threads, on "
    lines = [
        "# Performance: load",
        "",
        "Medians of " + report.conditions(about).replace(" on ", each, 1),
        "",
        "All reads are started at once in one event loop. The longest block is the longest time by",
        "which a task that wants to run every millisecond is late; idle is the same in the same",
        "process before the reads. Memory is the growth of the process at its peak. Made by",
        "`python benchmarks/compare.py --rows load`.",
    ]
    for result in results:
        lines += ["", f"## {result['row']}", "", *table(result["row"], result["median"])]
    return "\n".join(lines) + "\n"


def plot(group: str, results: list[report.Result]) -> None:
    """Draw time, and longest block, against a twin each."""
    rows = []
    for result in results:
        for figure, what in (("seconds", "time"), ("block", "longest block")):
            of_all = {n.partition(", a twin")[0]: f[figure] for n, f in result["median"].items()}
            rows.append({"row": f"{result['row']}: {what}", "floors": [NATIVE], "median": of_all})
    plots.plot(group, rows)
