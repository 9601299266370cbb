"""Sets rows up and times them, in a process of its own for every peer.

python runner.py ARGUMENTS     # answers commands on standard input: what `Process` starts
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from timeit import Timer
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class Process:
    """A peer's process, which waits while others are timed. Its methods are those of `Runner`."""

    def __init__(
        self,
        peer: str,
        threads: int,
        place: str | None = None,
        python: str = sys.executable,
        tree: str | Path = ROOT,
    ) -> None:
        self.process = subprocess.Popen(
            [python, __file__, json.dumps([peer, threads, place, str(tree)])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Sets have the same order in every process.
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )

    def __call__(self, command: str, *args: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([command, *args]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("its process ended")
        answer, error = json.loads(line)
        if error is not None:
            raise RuntimeError(error)
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class Runner:
    """Runs the operation of a peer, or of floors."""

    def __init__(self, peer: str, threads: int, place: str | None, tree: str) -> None:
        sys.path.insert(0, tree)
        warnings.simplefilter("ignore")  # the peers' own
        import peers
        import rows

        self.peer, self.threads, self.place, self.rows = peers.PEERS.get(peer), threads, place, rows
        self.timers: dict[str, tuple[Timer, int]] = {}
        self.directories = ExitStack()

    def version(self) -> str:
        return self.peer.version() if self.peer else ""

    def set_up(self, group: str, name: str, floor: str, seconds: float, clock: str) -> None:
        """Make the operation ready, and find how many runs take about so many seconds."""
        row = self.rows.load_rows(group)[name]
        new = tempfile.TemporaryDirectory(dir=self.place, ignore_cleanup_errors=True)
        directory = Path(self.directories.enter_context(new))
        threads = self.rows.budget.threads = row.threads or self.threads
        operation: Any
        if self.peer is None:
            operation = row.floors[floor](directory)
        else:
            assert row.set_up is not None
            self.peer.activate(threads, row.in_flight)
            operation = row.set_up(self.peer, directory)
        # By itself, Timer turns the garbage collector off, which is part of the time.
        timer, number = Timer(operation, gc.enable, getattr(time, clock)), 1
        while (taken := timer.timeit(number)) < seconds / 4:
            number *= 4
        self.timers[floor] = timer, max(1, round(number * seconds / taken))

    def time(self, floor: str) -> float:
        """Return the seconds that one run takes."""
        timer, number = self.timers[floor]
        return timer.timeit(number) / number

    def tear_down(self) -> None:
        self.timers.clear()
        self.directories.close()

    def measure(self, group: str, name: str, entrant: str, place: str) -> Any:
        """Return the figures of a group whose rows are more than a time."""
        self.rows.budget.threads = self.threads
        return self.rows.module_of(group).measure(name, entrant, Path(place))


def serve() -> None:
    """Answer commands, one JSON list a line, with a result and an error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    runner = Runner(*json.loads(sys.argv[1]))
    for line in sys.stdin:
        command, *args = json.loads(line)
        try:
            answer, error = getattr(runner, command)(*args), None
        except Exception as failure:  # noqa: BLE001 - the other side decides
            answer, error = None, f"{type(failure).__name__}: {failure}"
        print(json.dumps([answer, error]), file=answers, flush=True)


if __name__ == "__main__":
    serve()
