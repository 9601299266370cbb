"""How cost grows: with the number of chunks, with their size, and with threads; beside peers.

    python benchmarks/scaling.py                       # docs/performance/scaling.{md,json,svg}
    python benchmarks/scaling.py --rounds 9
    python benchmarks/scaling.py --only threads --dry

At each point the peers take turns, in another order each round. Figures are the best of the rounds,
which other programs on the machine disturb least.
"""

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # zarr_core of this tree

from compare import machine
from peers import PEERS, Layout, Operation, Peer
from report import FOLDER, in_words, times
from rows import set_up_read, set_up_write

NAMES = ("zarr_core", "zarr-python", "zarr-python, fused", "tensorstore")
OURS = NAMES[0]
COLOURS = ("#1f4e9c", "#c0504d", "#d99a2b", "#4f8f4f")
READS = 64


@dataclass(frozen=True)
class Point:
    """One place on a line: what is on the horizontal axis, and the work."""

    at: float
    label: str
    layout: Layout
    set_up: Callable[[Peer, Layout, Any, Path], Operation] = set_up_read
    inside: int = os.cpu_count() or 1
    """Threads that a library may use inside one call."""


@dataclass(frozen=True)
class Scan:
    """A table, and a panel of the picture."""

    title: str
    axis: str
    points: Sequence[Point]


def from_callers(callers: int, peer: Peer, layout: Layout, selection: Any, at: Path) -> Operation:
    """Return 64 reads of the same array, shared by threads of the caller."""
    read = set_up_read(peer, layout, selection, at)
    pool = ThreadPoolExecutor(callers)

    def share(number: int) -> None:
        for _ in range(number):
            read()

    return lambda: list(pool.map(share, [READS // callers] * callers))


def numbers(where: str, verb: str, set_up: Any) -> Scan:
    counts = (1, 10, 100, 1000, 10_000) if verb == "Reading" else (1, 10, 100, 1000)
    points = [Point(n, f"{n:,}", Layout((n * 100,), (100,), where=where), set_up) for n in counts]
    return Scan(f"{verb} chunks of 400 B, {where}", "number of chunks", points)


def sizes(where: str, codec: str) -> Scan:
    kinds = {
        100: "400 B",
        1000: "4 kB",
        10**4: "40 kB",
        10**5: "400 kB",
        10**6: "4 MB",
        4 * 10**6: "16 MB",
    }
    points = [
        Point(4 * n, label, Layout((n,), (n,), codec=codec, where=where))
        for n, label in kinds.items()
    ]
    return Scan(f"Reading one {codec} chunk, {where}", "size of the chunk in bytes", points)


def callers(name: str, layout: Layout) -> Scan:
    points = [Point(n, str(n), layout, partial(from_callers, n), inside=1) for n in (1, 2, 4)]
    return Scan(f"Threads of the caller: {READS} reads of {name}", "threads of the caller", points)


def helpers(name: str, layout: Layout, set_up: Any = set_up_read) -> Scan:
    points = [Point(n, str(n), layout, set_up, inside=n) for n in (1, 2)]
    return Scan(f"Threads inside one call: {name}", "threads inside the call", points)


TILES = Layout((1024, 1024), (64, 64), codec="zstd")
SCANS = [
    numbers("memory", "Reading", set_up_read),
    numbers("local", "Reading", set_up_read),
    numbers("memory", "Writing", set_up_write),
    numbers("local", "Writing", set_up_write),
    sizes("memory", "raw"),
    sizes("local", "raw"),
    sizes("memory", "zstd"),
    callers("one raw chunk of 20 kB, memory", Layout((50, 100), (50, 100))),
    callers("one raw chunk of 20 kB, local", Layout((50, 100), (50, 100), where="local")),
    callers("one zstd chunk of 256 kB, memory", Layout((256, 256), (256, 256), codec="zstd")),
    helpers("read 4 MB, 256 zstd chunks of 16 kB, memory", TILES),
    helpers("read 16 MB, 64 zstd chunks, memory", Layout((2048,) * 2, (256,) * 2, codec="zstd")),
    helpers(
        "write 4 MB, 256 zstd chunks of 16 kB, local", replace(TILES, where="local"), set_up_write
    ),
]
PANELS = SCANS[:2] + SCANS[4:6]


# --- measuring ---------------------------------------------------------------------------------------


def timed(operation: Operation, number: int) -> float:
    start = perf_counter()
    for _ in range(number):
        operation()
    return (perf_counter() - start) / number


def measure(point: Point, rounds: int, seconds: float) -> dict[str, float]:
    """Return the best seconds of each peer that can do it."""
    entrants: dict[str, tuple[Operation, int]] = {}
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        for number, name in enumerate(NAMES):
            peer, directory = PEERS[name], Path(place) / str(number)
            directory.mkdir()
            peer.activate(point.inside)
            try:
                operation = point.set_up(peer, point.layout, ..., directory)
            except Exception as error:  # noqa: BLE001 - one peer's failure must not hide the others
                print(f"  {name}: {type(error).__name__}: {error}", file=sys.stderr)
                continue
            once = timed(operation, 1)
            entrants[name] = operation, max(1, round(seconds / once))
            found[name] = []
        for round_ in range(rounds):
            order = list(entrants)
            random.Random(round_).shuffle(order)
            for name in order:
                PEERS[name].activate(point.inside)
                found[name].append(timed(*entrants[name]))
    return {name: min(samples) for name, samples in found.items()}


# --- what is written -----------------------------------------------------------------------------------


def table(scan: Scan, found: list[dict[str, float]]) -> list[str]:
    lines = [
        f"## {scan.title}",
        "",
        f"| {scan.axis} | " + " | ".join(NAMES) + " |",
        "|--:|" + "--:|" * len(NAMES),
    ]
    for point, medians in zip(scan.points, found, strict=True):
        ours = medians.get(OURS)
        cells = [in_words(ours) if ours else "–"]
        for name in NAMES[1:]:
            known = ours is not None and name in medians
            cells.append(
                f"{in_words(medians[name])} ({times(medians[name], ours or 1)})" if known else "–"
            )
        lines.append(f"| {point.label} | " + " | ".join(cells) + " |")
    if scan.axis == "number of chunks":
        (low, less), (high, more) = [
            (point.at, medians) for point, medians in zip(scan.points, found, strict=True)
        ][-2:]
        slopes = [
            f"{name} {in_words((more[name] - less[name]) / (high - low))}"
            for name in NAMES
            if name in more and name in less
        ]
        lines += ["", f"Each further chunk: {'; '.join(slopes)}."]
    return [*lines, ""]


def busy(about: dict[str, Any]) -> list[str]:
    if about["load"] < 0.5:
        return []
    return [
        f"Other programs were running (load {about['load']:.0f}): times are rough, and one place of a",
        "table cannot be compared with another; within a row all had the same conditions.",
        "",
    ]


def page(about: dict[str, Any], results: dict[str, list[dict[str, float]]]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [
        "# Performance: scaling",
        "",
        *textwrap.wrap(
            f"Best of {about['rounds']} interleaved rounds on {about['machine']}; Python "
            f"{about['python']}, NumPy {about['numpy']}, {versions}. In brackets: how many times as "
            "long as zarr_core. Where nothing else is said, each library may use 2 threads inside a "
            "call; with several threads of the caller it may use 1. Made by "
            "`python benchmarks/scaling.py`.",
            100,
        ),
        "",
        *busy(about),
        "![Time against the number of chunks, and against the size of a chunk](scaling.svg)",
        "",
    ]
    for scan in SCANS:
        if scan.title in results:
            lines += table(scan, results[scan.title])
    return "\n".join(lines[:-1]) + "\n"


def draw(results: dict[str, list[dict[str, float]]]) -> None:
    """Draw time against what grows, both logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "zarr_core"  # the same picture from the same figures
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
    for axis, scan in zip(axes.flat, PANELS, strict=True):
        found = results.get(scan.title)
        if found is None:
            continue
        for name, colour in zip(NAMES, COLOURS, strict=True):
            known = [(p.at, m[name]) for p, m in zip(scan.points, found, strict=True) if name in m]
            where, seconds = zip(*known, strict=True)
            axis.loglog(where, seconds, "o-", color=colour, label=name, markersize=4)
        axis.set(title=scan.title, xlabel=scan.axis, ylabel="seconds")
        axis.grid(visible=True, alpha=0.3)
    axes[0, 0].legend(frameon=False)
    figure.savefig(FOLDER / "scaling.svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="only tables with this in their title")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.03, help="of one sample")
    parser.add_argument("--dry", action="store_true", help="print, write no files")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # the peers' own
    about: dict[str, Any] = {
        "machine": machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "versions": {name: PEERS[name].version() for name in NAMES},
        "rounds": args.rounds,
        "load": os.getloadavg()[0],
    }
    place = FOLDER / "scaling.json"
    results = json.loads(place.read_text("utf-8"))["results"] if place.exists() else {}
    for scan in SCANS:
        if args.only in scan.title:
            found = [measure(point, args.rounds, args.seconds) for point in scan.points]
            results[scan.title] = found
            print("\n".join(table(scan, found)), flush=True)
    if not args.dry:
        place.write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n", "utf-8")
        (FOLDER / "scaling.md").write_text(page(about, results), "utf-8")
        draw(results)


if __name__ == "__main__":
    main()
