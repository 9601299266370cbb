"""Many small reads at once in one event loop: throughput, longest block of the loop, memory.

    python benchmarks/load.py                # all scenes
    python benchmarks/load.py --rounds 9 --only zstd

All libraries read the same files. Each measurement is a process of its own, so that memory can be
compared; they take turns, in another order each round. Beside the reads runs a task that only wants
to run every millisecond: the longest time that it is late by is the longest block of the loop. The
results are in docs/performance/load.md and load.json.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # zarr_core of this tree

from compare import machine
from peers import PEERS, Layout, Peer, Tensorstore
from report import FOLDER, in_words
from rows import budget, payload
from rows_async import REQUESTS, SLOW, WAIT, SlowZarrCore, SlowZarrPython, as_coroutine

TICK = 0.001
READS = 1000

Reads = Callable[[], Coroutine[Any, Any, list[Any]]]

FILES = {
    codec: Layout((READS * 256, 256), (256, 256), codec=codec, where="local")
    for codec in ("raw", "zstd")
}

TWINS, TOGETHER = "zarr_core, a twin each", "zarr_core, one read_many_async"
NATIVE = "asyncio.sleep"
FILE_ENTRANTS = (TWINS, TOGETHER, "zarr-python", "zarr-python, fused", "tensorstore")
SLOW_ENTRANTS = (TWINS, TOGETHER, "zarr-python", NATIVE)

SCENES = {
    **{codec: f"{READS:,} reads of a {codec} chunk of 256 kB, local files" for codec in FILES},
    "slow": f"{REQUESTS} reads of a chunk of 40 B, {WAIT * 1000:.0f} ms each",
}


# --- one measurement, in a process of its own ----------------------------------------------------


def selections(layout: Layout) -> list[tuple[slice, slice]]:
    """Return the selection of every chunk."""
    rows = layout.chunks[0]
    return [(slice(start, start + rows), slice(None)) for start in range(0, layout.shape[0], rows)]


def open_files(name: str, place: Path) -> tuple[Peer, Any]:
    """Open the array that all read."""
    peer = PEERS["zarr_core" if name in (TWINS, TOGETHER) else name]
    peer.activate(budget.threads)
    if isinstance(peer, Tensorstore):
        import tensorstore

        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{place}/"}}
        return peer, tensorstore.open(spec, context=peer.make_context(), read=True).result()
    if name.startswith("zarr-python"):
        import zarr

        return peer, zarr.open_array(str(place), mode="r")
    import zarr_core

    return peer, zarr_core.open_array(str(place), mode="r")


def make_slow(name: str, place: Path) -> tuple[Peer, Any]:
    """Make the array whose every request waits."""
    peer = SlowZarrPython() if name == "zarr-python" else SlowZarrCore()
    peer.activate(budget.threads)
    array = peer.create(SLOW, place)
    peer.writer(array, ..., payload(SLOW))()
    return peer, array


def reads_of(name: str, peer: Peer, array: Any, layout: Layout) -> Callable[[int], Reads]:
    """Return what makes a coroutine function that reads the first so many chunks at once."""
    chunks = selections(layout)

    def reads(number: int) -> Reads:
        async def gathered() -> list[Any]:
            calls = [as_coroutine(peer.awaiter(array, chunk)) for chunk in chunks[:number]]
            return await asyncio.gather(*(call() for call in calls))

        async def together() -> list[Any]:
            import zarr_core

            pairs = [(array, chunk) for chunk in chunks[:number]]
            return list(await zarr_core.read_many_async(pairs))

        async def floor() -> list[Any]:
            values = [array[chunk] for chunk in chunks[:number]]
            await asyncio.gather(*(asyncio.sleep(WAIT) for _ in values))
            return values

        return {TOGETHER: together, NATIVE: floor}.get(name, gathered)

    return reads


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


def memory(field: str) -> int:
    """Return a number of bytes from the kernel: VmRSS, or VmHWM for its peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{field} is not known here")


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


async def measure(reads: Callable[[int], Reads], number: int, expected: Any) -> dict[str, float]:
    for _ in range(3):
        await reads(min(number, 20))()  # imports and threads are there before, as in a server
    await asyncio.sleep(0.05)
    _, _, idle = await watched(asyncio.sleep(0.3))
    forget_peak()
    before = memory("VmRSS")
    cpu = os.times()
    results, seconds, late = await watched(reads(number)())
    now = os.times()
    peak = memory("VmHWM") - before
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


def run_one(scene: str, name: str, place: Path, threads: int) -> dict[str, float]:
    """Measure here; the process ends afterwards."""
    budget.threads = threads
    if scene == "slow":
        peer, array = make_slow("zarr_core" if name == NATIVE else name, place)
        if name == NATIVE:
            array = np.asarray(array[...])
        layout, expected = SLOW, payload(SLOW)
    else:
        peer, array = open_files(name, place)
        layout, expected = FILES[scene], np.load(place / "expected.npy", mmap_mode="r")
    count = layout.shape[0] // layout.chunks[0]
    return asyncio.run(measure(reads_of(name, peer, array, layout), count, expected))


# --- all measurements ----------------------------------------------------------------------------


def make_files(scene: str, place: Path) -> None:
    peer, layout = PEERS["zarr_core"], FILES[scene]
    values = payload(layout)
    peer.writer(peer.create(layout, place), ..., values)()
    np.save(place / "expected.npy", values)


def in_new_process(
    scene: str, name: str, place: Path, args: argparse.Namespace
) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", scene, name, str(place)]
    command += ["--threads", str(args.threads)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or "?").splitlines()[-1])
    return dict(json.loads(done.stdout))


def measure_scene(scene: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return every figure of every entrant: medians, and one list of rounds each."""
    entrants = list(SLOW_ENTRANTS if scene == "slow" else FILE_ENTRANTS)
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in entrants}
    shuffle = random.Random(scene).shuffle
    with tempfile.TemporaryDirectory(dir=args.directory) as directory:
        place = Path(directory)
        if scene != "slow":
            make_files(scene, place)
        for _ in range(args.rounds):
            shuffle(entrants)
            for name in list(entrants):
                try:
                    rounds[name].append(in_new_process(scene, name, place, args))
                except RuntimeError as error:
                    print(f"  {name}: {error}", file=sys.stderr)
                    entrants.remove(name)
    return {
        "scene": SCENES[scene],
        "nbytes": int(np.prod((SLOW if scene == "slow" else FILES[scene]).shape)) * 4,
        "median": {
            name: {key: statistics.median(one[key] for one in found) for key in found[0]}
            for name, found in rounds.items()
            if found
        },
        "rounds": {name: found for name, found in rounds.items() if found},
    }


def table(result: dict[str, Any]) -> list[str]:
    """Return the lines of one scene's table."""
    slow = NATIVE in result["median"]
    lines = [
        f"## {result['scene']}",
        "",
        "| | time | " + ("" if slow else "MB/s | ") + "CPU time | longest block | idle | "
        "memory, as times the results |",
        "|---|" + "--:|" * (5 if slow else 6),
    ]
    for name, median in result["median"].items():
        cells = [in_words(median["seconds"])]
        if not slow:
            cells.append(f"{result['nbytes'] / median['seconds'] / 1e6:,.0f}")
        cells += [in_words(median[key]) for key in ("cpu", "block", "idle")]
        cells.append("–" if slow else f"{median['memory']:.2f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def page(about: dict[str, Any], found: list[dict[str, Any]]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    conditions = (
        f"Medians of {about['rounds']} interleaved rounds, each in a process of its own, "
        f"{about['threads']} threads, on {about['machine']}; Python {about['python']}, "
        f"NumPy {about['numpy']}, {versions}."
    )
    lines = [
        "# Performance: load",
        "",
        conditions,
        "",
        "All reads are started at once in one event loop. The longest block is the longest time by",
        "which a task that wants to run every millisecond is late; idle is the same in the same",
        "process before the reads. Memory is the growth of the process at its peak. Made by",
        "`python benchmarks/load.py`.",
    ]
    for result in found:
        lines += ["", *table(result)]
    return "\n".join(lines) + "\n"


def write(about: dict[str, Any], result: dict[str, Any]) -> None:
    """Write one scene's result beside those that are there."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    place = FOLDER / "load.json"
    known = json.loads(place.read_text("utf-8"))["results"] if place.exists() else []
    by_scene = {old["scene"]: old for old in [*known, result]}
    found = [by_scene[scene] for scene in SCENES.values() if scene in by_scene]
    text = json.dumps({"about": about, "results": found}, indent=1)
    place.write_text(text + "\n", "utf-8")
    (FOLDER / "load.md").write_text(page(about, found), "utf-8")


def versions() -> dict[str, str]:
    found = {}
    for name in ("zarr_core", "zarr-python", "tensorstore"):
        try:
            found[name] = PEERS[name].version()
        except ImportError as error:
            print(f"without {name}: {error}", file=sys.stderr)
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=list(SCENES), choices=list(SCENES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--directory", help="where the files are; default the system's own")
    parser.add_argument("--dry", action="store_true", help="print, write no files")
    parser.add_argument("--one", nargs=3, metavar=("SCENE", "ENTRANT", "PLACE"), help="internal")
    return parser.parse_args()


def main() -> None:
    args = parse()
    warnings.simplefilter("ignore")  # the peers' own
    if args.one:
        scene, name, place = args.one
        print(json.dumps(run_one(scene, name, Path(place), args.threads)))
        return
    about: dict[str, Any] = {
        "machine": machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "versions": versions(),
        "rounds": args.rounds,
        "threads": args.threads,
        "load": os.getloadavg()[0],
    }
    for scene in args.only:
        result = measure_scene(scene, args)
        print("\n".join(table(result)), flush=True)
        if not args.dry:
            write(about, result)


if __name__ == "__main__":
    main()
