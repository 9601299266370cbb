"""How reads and writes from several threads scale, with the global lock (GIL) and without.

    python3.13t benchmarks/free_threading.py

One free-threaded Python runs both, `PYTHON_GIL=1` and `PYTHON_GIL=0` in turn, so that nothing else
differs. Every thread has its own part of the work, which is the same in sum; inside a call there is
one thread.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import zarr_core

THREADS = (1, 2, 3, 4)
ROUNDS = 6

Work = Callable[[int], object]
"""Does the part of the work that has a number."""


def _array(store: Any, n_chunks: int, size: int, **options: Any) -> Any:
    array = zarr_core.create_array(
        store, shape=(n_chunks * size,), chunks=(size,), dtype="u2", **options
    )
    array[...] = np.random.default_rng(0).integers(0, 200, n_chunks * size).astype("u2")
    return array


def cases(place: str) -> dict[str, tuple[Work, int]]:
    """Return what is measured: the work of a part, and how many parts there are."""
    raw = _array({}, 1200, 200, compressors=None)
    zstd = _array({}, 12, 128 << 10)
    local = _array(f"{place}/local", 240, 2048, compressors=None)
    shard = _array({}, 240, 2048, shards=(24 * 2048,))
    small, large = np.ones(200, "u2"), np.ascontiguousarray(zstd[: 128 << 10])

    def write_zstd(part: int) -> None:
        zstd[part << 17 : part + 1 << 17] = large

    def write_local(part: int) -> None:
        local[part * 2048 : (part + 1) * 2048] = large[:2048]

    def write_raw(part: int) -> None:
        raw[part * 200 : (part + 1) * 200] = small

    def write_shard(part: int) -> None:
        shard[part * 24 * 2048 : part * 24 * 2048 + 2048] = large[:2048]

    return {
        "read a raw chunk of 400 B": (lambda part: raw[part * 200 : (part + 1) * 200], 600),
        "write a raw chunk of 400 B": (write_raw, 600),
        "read 200 raw chunks of 400 B": (lambda p: raw[p % 6 * 40000 : (p % 6 + 1) * 40000], 24),
        "read a Zstandard chunk of 256 kB": (lambda part: zstd[part << 17 : part + 1 << 17], 12),
        "write a Zstandard chunk of 256 kB": (write_zstd, 12),
        "read an inner chunk of 4 kB": (lambda part: shard[part * 2048 : (part + 1) * 2048], 120),
        "write an inner chunk of 4 kB": (write_shard, 10),
        "read a file of 4 kB": (lambda part: local[part * 2048 : (part + 1) * 2048], 240),
        "write a file of 4 kB": (write_local, 60),
    }


def seconds(work: Work, n_parts: int, n_threads: int) -> float:
    """Return how long the parts take on as many threads, each with every n-th part."""
    together = threading.Barrier(n_threads + 1)

    def run(first: int) -> None:
        together.wait()
        for part in range(first, n_parts, n_threads):
            work(part)

    threads = [threading.Thread(target=run, args=(first,)) for first in range(n_threads)]
    for thread in threads:
        thread.start()
    together.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begin


def measure() -> dict[str, list[float]]:
    """Return µs per part of every case, by number of threads: the best of some rounds."""
    results = {}
    with tempfile.TemporaryDirectory() as place:
        with zarr_core.config.set({"threading.max_workers": 1}):
            works = cases(place)
        zarr_core.config.set({"threading.max_workers": 1})
        for name, (work, n_parts) in works.items():
            best = [
                min(seconds(work, n_parts, n_threads) for _ in range(ROUNDS))
                for n_threads in THREADS
            ]
            results[name] = [each / n_parts * 1e6 for each in best]
    return results


def main() -> None:
    """Measure in new processes with the GIL and without, in turn; print a table of medians."""
    if "--one" in sys.argv:
        print(json.dumps(measure()))
        return
    runs: dict[str, list[dict[str, list[float]]]] = {"1": [], "0": []}
    for _ in range(3):
        for gil, found in runs.items():
            done = subprocess.run(
                [sys.executable, __file__, "--one"],
                env={**os.environ, "PYTHON_GIL": gil},
                stdout=subprocess.PIPE,
                check=True,
            )
            found.append(json.loads(done.stdout))
    heads = [f"{n} {'threads' if n > 1 else 'thread'}" for n in THREADS]
    print(f"| µs each | GIL | {' | '.join(heads)} |\n|---|---|{'--:|' * len(THREADS)}")
    for name in runs["1"][0]:
        for gil, word in (("1", "with"), ("0", "without")):
            medians = [
                statistics.median(each)
                for each in zip(*(run[name] for run in runs[gil]), strict=True)
            ]
            print(f"| {name} | {word} | {' | '.join(f'{each:.3g}' for each in medians)} |")


if __name__ == "__main__":
    main()
