"""How cost grows: with the number of chunks, with their size, and with threads.

Figures are the best of the rounds, which other programs on the machine disturb least.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import report
from peers import Layout, Operation, Peer
from rows import WITHOUT_ZARR_2, Row, read, write

READS = 64
COLOURS = ("#1f4e9c", "#c0504d", "#d99a2b", "#4f8f4f")


@dataclass(frozen=True)
class Scan:
    """A table, and perhaps a panel of the picture: an operation at several points of an axis."""

    title: str
    axis: str
    points: Mapping[int, str]
    layout: Callable[[int], Layout]
    work: Callable[..., Operation] = read

    def row(self, at: Any, label: str) -> Row:
        work, threads = partial(self.work, self.layout(at), ...), None
        if "inside" in self.axis:
            threads = at
        elif "caller" in self.axis:
            work, threads = partial(from_callers, at, self.layout(at)), 1
        return Row(f"{self.title}: {label}", work, WITHOUT_ZARR_2, threads=threads)


def from_callers(callers: int, layout: Layout, peer: Peer, directory: Path) -> Operation:
    """Return 64 reads of the same array, shared by threads of the caller."""
    operation = read(layout, ..., peer, directory)
    pool = ThreadPoolExecutor(callers)

    def share(number: int) -> None:
        for _ in range(number):
            operation()

    return lambda: list(pool.map(share, [READS // callers] * callers))


def numbers(where: str, verb: str, work: Any) -> Scan:
    counts = (1, 10, 100, 1000, 10_000)[: 5 if work is read else 4]
    title, points = f"{verb} chunks of 400 B, {where}", {n: f"{n:,}" for n in counts}
    return Scan(
        title, "number of chunks", points, lambda n: Layout((n * 100,), (100,), where=where), work
    )


SIZES = {400: "400 B", 4000: "4 kB", 40_000: "40 kB", 400_000: "400 kB"}
SIZES |= {4_000_000: "4 MB", 16_000_000: "16 MB"}


def sizes(where: str, codec: str) -> Scan:
    title, axis = f"Reading one {codec} chunk, {where}", "size of the chunk in bytes"
    return Scan(title, axis, SIZES, lambda n: Layout((n // 4,), (n // 4,), codec, where))


def threads(kind: str, name: str, counts: Sequence[int], layout: Layout, work: Any = read) -> Scan:
    title = f"Threads {kind}: {name}"
    return Scan(title, f"threads {kind}", {n: str(n) for n in counts}, lambda _: layout, work)


callers = partial(threads, "of the caller", counts=(1, 2, 4))
helpers = partial(threads, "inside one call", counts=(1, 2))

CHUNK = Layout((50, 100), (50, 100))
TILES = Layout((1024, 1024), (64, 64), "zstd")
SCANS = [
    numbers("memory", "Reading", read),
    numbers("local", "Reading", read),
    numbers("memory", "Writing", write),
    numbers("local", "Writing", write),
    sizes("memory", "raw"),
    sizes("local", "raw"),
    sizes("memory", "zstd"),
    callers(f"{READS} reads of one raw chunk of 20 kB, memory", layout=CHUNK),
    callers(
        f"{READS} reads of one raw chunk of 20 kB, local", layout=replace(CHUNK, where="local")
    ),
    callers(
        f"{READS} reads of one zstd chunk of 256 kB, memory",
        layout=Layout((256, 256), (256, 256), "zstd"),
    ),
    helpers("read 4 MB, 256 zstd chunks of 16 kB, memory", layout=TILES),
    helpers("read 16 MB, 64 zstd chunks, memory", layout=Layout((2048, 2048), (256, 256), "zstd")),
    helpers(
        "write 4 MB, 256 zstd chunks of 16 kB, local",
        layout=replace(TILES, where="local"),
        work=write,
    ),
]
PANELS = SCANS[:2] + SCANS[4:6]
ROWS = {"scaling": [scan.row(*point) for scan in SCANS for point in scan.points.items()]}


# --- what is written -----------------------------------------------------------------------------------


def best(scan: Scan, results: Sequence[report.Result]) -> dict[int, dict[str, float]]:
    """Return the best seconds of everybody by point."""
    found = {r["row"]: {name: min(s) for name, s in r["rounds"].items()} for r in results}
    rows = {at: f"{scan.title}: {label}" for at, label in scan.points.items()}
    return {at: found[row] for at, row in rows.items() if row in found}


def section(scan: Scan, found: dict[int, dict[str, float]]) -> list[str]:
    names = WITHOUT_ZARR_2
    cells = [[scan.points[at], *report.cells(best, names)] for at, best in found.items()]
    axis = scan.axis.replace("one", "the")
    lines = [f"## {scan.title}", "", *report.table([axis, *names], cells, first="--:")]
    if scan.axis == "number of chunks" and len(found) > 1:
        (low, less), (high, more) = list(found.items())[-2:]
        slopes = {n: (more[n] - less[n]) / (high - low) for n in names if n in more and n in less}
        each = "; ".join(f"{n} {report.in_words(s)}" for n, s in slopes.items())
        lines += ["", f"Each further chunk: {each}."]
    return [*lines, ""]


def page(group: str, about: report.Result, results: list[report.Result]) -> str:
    busy = [
        f"Other programs were running (load {about['load']:.0f}): times are rough, and one place of a",
        "table cannot be compared with another; within a row all had the same conditions.",
        "",
    ]
    conditions = (
        f"Best of {report.conditions(about)} In brackets: how many times as long as zarr_core. Where "
        "nothing else is said, each library may use 2 threads inside a call; with several threads of "
        "the caller it may use 1. Made by `python benchmarks/compare.py --rows scaling`."
    )
    lines = [
        "# Performance: scaling",
        "",
        *textwrap.wrap(conditions, 100),
        "",
        *(busy if about["load"] >= 0.5 else []),
        "![Time against the number of chunks, and against the size of a chunk](scaling.svg)",
        "",
    ]
    for scan in SCANS:
        if found := best(scan, results):
            lines += section(scan, found)
    return "\n".join(lines[:-1]) + "\n"


def plot(group: str, results: list[report.Result]) -> None:
    """Draw time against what grows, both logarithmic."""
    from plots import pyplot, save

    figure, axes = pyplot().subplots(2, 2, figsize=(9, 7), layout="constrained")
    for axis, scan in zip(axes.flat, PANELS, strict=True):
        found = best(scan, results)
        for name, colour in zip(WITHOUT_ZARR_2, COLOURS, strict=True):
            line = {at: seconds[name] for at, seconds in found.items() if name in seconds}
            axis.loglog(list(line), list(line.values()), "o-", color=colour, label=name, ms=4)
        axis.set(title=scan.title, xlabel=scan.axis, ylabel="seconds")
        axis.grid(visible=True, alpha=0.3)
    axes[0, 0].legend(frameon=False)
    save(figure, group)
