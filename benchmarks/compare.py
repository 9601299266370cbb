"""Compares zarr_core with its peers on the same work, and writes tables.

    python benchmarks/compare.py                             # all rows
    python benchmarks/compare.py --rows read --rounds 5      # one group
    python benchmarks/compare.py --rows read --only zstd     # rows with "zstd" in their name
    python benchmarks/compare.py --readme                    # also the table of README.md
    python benchmarks/compare.py --rows read --before PATH   # zarr_core of two checkouts

Peers that are not installed are left out. zarr 2.18.7 needs an interpreter of its own, named by the
environment variable ZARR2_PYTHON. Each peer has a process; for each row they take turns, in another
order each round. The tables show medians over the rounds. Results are in docs/performance/, as
Markdown, JSON and plots.

With `--before` nothing is written. Per row, the ratio of the two checkouts is shown; a row that is
slower by more than 5 % is measured again in new processes, and named if it is slower there too.
The ratio is of processor time, which other programs hardly change; what a call waits for, and what
threads gain, needs `--clock perf_counter` and a quiet machine.
"""

import argparse
import os
import platform
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from peers import PEERS, THREADS
from report import OURS, Result, cells, write_group, write_readme
from rows import GROUPS, Row, load_rows, module_of
from runner import ROOT, Process

BEFORE, FLOORS = "before", "floors"
SLOWER = 1.05
AGAIN = 2
"""How often a row that seems slower is measured again, in new processes."""

Runners = dict[str, Process]
Samples = dict[str, list[Any]]


def start(args: argparse.Namespace) -> tuple[Runners, dict[str, str]]:
    """Start a process for every peer that is there, and one for floors; return versions, too."""
    runners: Runners = {}
    versions: dict[str, str] = {}
    chosen = args.peers or ([OURS] if args.before else list(PEERS))
    for name in [*chosen, BEFORE if args.before else FLOORS]:
        peer, tree = (OURS, args.before) if name == BEFORE else (name, ROOT)
        python = os.environ.get("ZARR2_PYTHON", "") if name == "zarr 2.18.7" else sys.executable
        try:
            runner = Process(peer, args.threads, args.directory, python, tree)
            versions[name] = runner("version")
            runners[name] = runner
        except (OSError, RuntimeError) as error:
            print(f"without {name}: {error}", file=sys.stderr)
    versions.pop(FLOORS, None)
    return runners, versions


def stop(runners: Runners) -> None:
    for runner in runners.values():
        runner.close()


def sample(group: str, row: Row, runners: Runners, args: argparse.Namespace) -> Samples:
    """Return seconds per operation, one list of rounds per peer and floor.

    Whoever cannot be set up says so and is left out.
    """
    asked = {name: (name, "") for name in (*row.peers, BEFORE)}
    asked |= {name: (FLOORS, name) for name in row.floors}
    found: Samples = {}
    for name, (process, floor) in asked.items():
        if process in runners:
            try:
                runners[process]("set_up", group, row.name, floor, args.seconds, args.clock)
                found[name] = []
            except RuntimeError as error:
                print(f"  {name}: {error}", file=sys.stderr)
    entrants = list(found)
    shuffle = random.Random(row.name).shuffle
    try:
        for _ in range(args.rounds):
            shuffle(entrants)
            for name in entrants:
                process, floor = asked[name]
                found[name].append(runners[process]("time", floor))
    finally:
        for runner in runners.values():
            runner("tear_down")
    return found


def sample_alone(group: str, row: Row, args: argparse.Namespace) -> Samples:
    """Return several figures of each round, every one of which has a process of its own."""
    module = module_of(group)
    entrants = list(row.peers)
    found: Samples = {name: [] for name in entrants}
    shuffle = random.Random(row.name).shuffle
    with tempfile.TemporaryDirectory(dir=args.directory, ignore_cleanup_errors=True) as place:
        if hasattr(module, "prepare"):
            module.prepare(row.name, Path(place))
        for _ in range(getattr(module, "ROUNDS", args.rounds)):
            shuffle(entrants)
            for name in list(entrants):
                with closing(Process(name, args.threads, args.directory)) as runner:
                    try:
                        found[name].append(runner("measure", group, row.name, name, place))
                    except RuntimeError as error:
                        print(f"  {name}: {error}", file=sys.stderr)
                        entrants.remove(name)
    return {name: rounds for name, rounds in found.items() if rounds}


def median(rounds: Sequence[Any]) -> Any:
    """Return the median of seconds, or of every figure."""
    if isinstance(rounds[0], dict):
        return {key: median([figures[key] for figures in rounds]) for key in rounds[0]}
    return statistics.median(rounds)


def measure(group: str, row: Row, runners: Runners, args: argparse.Namespace) -> Result:
    if hasattr(module_of(group), "measure"):
        rounds = sample_alone(group, row, args)
    else:
        rounds = sample(group, row, runners, args)
    medians = {name: median(found) for name, found in rounds.items()} | dict(row.known)
    print(f"{row.name}\n    {shown(medians)}", flush=True)
    floors = [*row.floors, *row.known]
    return {"row": row.name, "floors": floors, "median": medians, "rounds": rounds}


def shown(medians: dict[str, Any]) -> str:
    if any(isinstance(found, dict) for found in medians.values()):
        return "\n    ".join(f"{name} {found}" for name, found in medians.items())
    return "; ".join(map(" ".join, zip(medians, cells(medians, list(medians)), strict=True)))


def slowdown(rounds: Samples) -> tuple[float, float]:
    """Return how many times as long as before: the median of the rounds' ratios, and of best times.

    What other programs add is never negative, so the fast quarter of the rounds says most.
    """
    now, before = np.array(rounds[OURS]), np.array(rounds[BEFORE])
    return float(np.median(now / before)), float(np.quantile(now, 0.25) / np.quantile(before, 0.25))


def compare_trees(args: argparse.Namespace) -> None:
    """Show how each row changed; measure those that seem slower again."""
    rows = [(g, r) for g in args.rows for r in load_rows(g).values() if args.only in r.name]
    ratios: dict[str, float] = {}
    for attempt in range(1 + AGAIN):
        runners, _ = start(args)
        for group, row in rows:
            rounds = sample(group, row, runners, args)
            if OURS in rounds and BEFORE in rounds:
                median, best = slowdown(rounds)
                ratios[f"{group}: {row.name}"] = min(median, best)
                print(f"{median:.3f} ({best:.3f})  {group}: {row.name}", flush=True)
        stop(runners)
        rows = [(g, r) for g, r in rows if ratios.get(f"{g}: {r.name}", 0) > SLOWER]
        print(f"attempt {attempt + 1}: {len(rows)} rows slower by more than {SLOWER - 1:.0%}")
    print(f"all rows: {statistics.geometric_mean(ratios.values()):.3f}")
    for group, row in rows:
        print(f"SLOWER {ratios[f'{group}: {row.name}']:.3f}  {group}: {row.name}")


def machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [s.partition(":")[2] for s in cpuinfo.read_text().splitlines() if "model name" in s]
        model = names[0].strip() if names else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="*", default=list(GROUPS), choices=GROUPS, help="groups")
    parser.add_argument("--only", default="", help="only rows with this in their name")
    parser.add_argument("--peers", nargs="*", default=[], help="only these peers")
    parser.add_argument("--before", metavar="PATH", help="another checkout, to compare with")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.03, help="of one sample")
    clocks = ("perf_counter", "process_time")
    parser.add_argument("--clock", choices=clocks, help="processor time with --before, else time")
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--directory", help="where local arrays are; default the system's own")
    parser.add_argument("--readme", action="store_true", help="also write the table of README.md")
    parser.add_argument("--dry", action="store_true", help="print, write no files")
    args = parser.parse_args(argv)
    args.clock = args.clock or clocks[bool(args.before)]
    return args


def main() -> None:
    args = parse()
    if args.before:
        args.rows = [group for group in args.rows if not hasattr(module_of(group), "measure")]
        return compare_trees(args)
    runners, versions = start(args)
    about: dict[str, Any] = {
        "machine": machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "versions": versions,
        "rounds": args.rounds,
        "threads": args.threads,
        "load": os.getloadavg()[0],
    }
    for group in args.rows:
        rows = [row for row in load_rows(group).values() if args.only in row.name]
        found = [measure(group, row, runners, args) for row in rows]
        if not args.dry:
            write_group(group, about, found, complete=not args.only)
    if args.readme and not args.dry:
        write_readme()
    return stop(runners)


if __name__ == "__main__":
    main()
