"""Compares zarr_core with its peers on the same work, and writes tables.

    python benchmarks/compare.py                             # all rows
    python benchmarks/compare.py --rows read --rounds 5      # one group
    python benchmarks/compare.py --rows read --only zstd     # rows with "zstd" in their name
    python benchmarks/compare.py --readme                    # also the table of README.md

Peers that are not installed are left out. zarr 2.18.7 needs an interpreter of its own, named by the
environment variable ZARR2_PYTHON. For each row the peers take turns, in another order each round;
the tables show medians over the rounds. Results are in docs/performance/, as Markdown and JSON.
"""

import argparse
import json
import os
import platform
import random
import statistics
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # zarr_core of this tree

import plots
from peers import PEERS
from report import write_group, write_readme
from rows import GROUPS, Row, load_rows
from runner import LocalRunner, RemoteRunner, Runner

OURS = "zarr_core"
REMOTE = "zarr 2.18.7"


@dataclass
class Entrant:
    """A peer that is there, or a floor."""

    name: str
    runner: Runner
    number: int = 1


def connect(
    threads: int, place: str | None, chosen: list[str]
) -> tuple[dict[str, Runner], dict[str, str]]:
    """Return a runner for every peer that is there, and the versions."""
    runners: dict[str, Runner] = {}
    versions: dict[str, str] = {}
    for name, peer in PEERS.items():
        if chosen and name not in chosen:
            continue
        try:
            if name == REMOTE:
                remote = RemoteRunner(name, threads, place, os.environ["ZARR2_PYTHON"])
                runners[name], versions[name] = remote, remote.version
            else:
                versions[name] = peer.version()
                runners[name] = LocalRunner(name, threads, place)
        except (ImportError, KeyError, OSError, RuntimeError) as error:
            print(f"without {name}: {type(error).__name__}: {error}", file=sys.stderr)
    return runners, versions


def calibrate(runner: Runner, seconds: float) -> int:
    """Return how often to run an operation so that a sample takes about `seconds`."""
    number = 1
    while (taken := runner.time(number)) < seconds / 4:
        number *= 4
    return max(1, round(number * seconds / taken))


def enter(
    group: str, row: Row, runners: dict[str, Runner], args: argparse.Namespace
) -> list[Entrant]:
    """Set the row up for everybody; whoever fails says so and is left out."""
    entrants = []
    everybody = {name: runners[name] for name in row.setups if name in runners}
    floors = {name: LocalRunner(name, args.threads, args.directory) for name in row.floors}
    for name, runner in {**everybody, **floors}.items():
        try:
            runner.set_up(group, row.name, name)
            entrants.append(Entrant(name, runner, calibrate(runner, args.seconds)))
        except Exception as error:  # noqa: BLE001 - one peer's failure must not hide the others
            print(f"  {name}: {type(error).__name__}: {error}", file=sys.stderr)
            runner.tear_down()
    return entrants


def measure(
    group: str, row: Row, runners: dict[str, Runner], args: argparse.Namespace
) -> dict[str, Any]:
    """Return seconds per operation, one list of rounds per entrant."""
    entrants = enter(group, row, runners, args)
    seconds: dict[str, list[float]] = {entrant.name: [] for entrant in entrants}
    shuffle = random.Random(row.name).shuffle
    try:
        for _ in range(args.rounds):
            shuffle(entrants)
            for entrant in entrants:
                seconds[entrant.name].append(entrant.runner.time(entrant.number) / entrant.number)
    finally:
        for entrant in entrants:
            entrant.runner.tear_down()
    return {
        "row": row.name,
        "floors": [*row.floors, *row.known],
        "median": {name: statistics.median(rounds) for name, rounds in seconds.items()}
        | dict(row.known),
        "rounds": seconds,
    }


def show(result: dict[str, Any]) -> None:
    ours = result["median"].get(OURS)
    parts = []
    for name, median in result["median"].items():
        times = f" ({median / ours:.2f}x)" if ours else ""
        parts.append(f"{name} {median * 1e6:,.1f} us{times}")
    print(f"{result['row']}\n    " + "; ".join(parts), flush=True)


def machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [s.partition(":")[2] for s in cpuinfo.read_text().splitlines() if "model name" in s]
        model = names[0].strip() if names else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


def results(
    groups: list[str], runners: dict[str, Runner], args: argparse.Namespace
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for group, rows in load_rows(tuple(groups)).items():
        found = []
        for row in rows:
            if args.only in row.name:
                found.append(measure(group, row, runners, args))
                show(found[-1])
        yield group, found


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="*", default=list(GROUPS), help="groups of rows")
    parser.add_argument("--only", default="", help="only rows with this in their name")
    parser.add_argument("--peers", nargs="*", default=[], help="only these peers")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.03, help="of one sample")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--directory", help="where local arrays are; default the system's own")
    parser.add_argument("--readme", action="store_true", help="also write the table of README.md")
    parser.add_argument("--dry", action="store_true", help="print, write no files")
    return parser.parse_args(argv)


def main() -> None:
    args = parse()
    warnings.simplefilter("ignore")  # the peers' own
    runners, versions = connect(args.threads, args.directory, args.peers)
    about: dict[str, Any] = {
        "machine": machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "versions": versions,
        "rounds": args.rounds,
        "threads": args.threads,
        "load": os.getloadavg()[0],
    }
    print(json.dumps(about, indent=2))
    if about["load"] > 0.5:
        print("other programs are running here: these figures are rough", file=sys.stderr)
    for group, found in results(args.rows, runners, args):
        if found and not args.dry:
            write_group(group, about, found, complete=not args.only and not args.peers)
            try:
                plots.plot(group)
            except ImportError as error:
                print(f"without a plot of {group}: {error}", file=sys.stderr)
    if args.readme and not args.dry:
        write_readme()
    for runner in runners.values():
        if isinstance(runner, RemoteRunner):
            runner.close()


if __name__ == "__main__":
    main()
