"""Sets a row up and times it, in this process or in one with another interpreter.

python runner.py     # reads commands from standard input: what `RemoteRunner` starts
"""

import json
import subprocess
import sys
import tempfile
from itertools import repeat
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

from peers import PEERS, Operation
from rows import Row, budget, load_rows


class Runner(Protocol):
    """Runs one operation at a time."""

    def set_up(self, group: str, row: str, peer: str) -> None:
        """Make the operation ready and check its result."""

    def time(self, number: int) -> float:
        """Return the seconds that `number` runs take."""

    def tear_down(self) -> None:
        """Forget the operation and its files."""


class LocalRunner:
    """Runs in this process."""

    def __init__(self, name: str, threads: int, place: str | None = None) -> None:
        self.name, self.place, budget.threads = name, place, threads
        self.operation: Operation | None = None
        self.directory: tempfile.TemporaryDirectory[str] | None = None

    def activate(self) -> None:
        if self.name in PEERS:
            PEERS[self.name].activate(budget.threads)

    def set_up(self, group: str, row: str, peer: str) -> None:
        found = find_row(group, row)
        self.directory = tempfile.TemporaryDirectory(dir=self.place, ignore_cleanup_errors=True)
        self.activate()
        set_up = {**found.setups, **found.floors}[peer]
        self.operation = set_up(Path(self.directory.name))

    def time(self, number: int) -> float:
        assert self.operation is not None
        self.activate()
        operation = self.operation
        start = perf_counter()
        for _ in repeat(None, number):
            operation()
        return perf_counter() - start

    def tear_down(self) -> None:
        self.operation = None
        if self.directory is not None:
            self.directory.cleanup()


class RemoteRunner:
    """Runs in a process with another interpreter, which waits while others are timed."""

    def __init__(self, name: str, threads: int, place: str | None, python: str) -> None:
        arguments = json.dumps({"name": name, "threads": threads, "place": place})
        self.process = subprocess.Popen(
            [python, __file__, arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.version = str(self.call("version"))

    def call(self, command: str, *args: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([command, *args]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the interpreter of the other library ended")
        answer, error = json.loads(line)
        if error is not None:
            raise RuntimeError(error)
        return answer

    def set_up(self, group: str, row: str, peer: str) -> None:
        self.call("set_up", group, row, peer)

    def time(self, number: int) -> float:
        return float(self.call("time", number))

    def tear_down(self) -> None:
        self.call("tear_down")

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def find_row(group: str, name: str) -> Row:
    return next(row for row in load_rows((group,))[group] if row.name == name)


def serve(arguments: dict[str, Any]) -> None:
    """Answer commands, one JSON list a line, with a result and an error."""
    runner = LocalRunner(**arguments)
    commands = {
        "set_up": runner.set_up,
        "time": runner.time,
        "tear_down": runner.tear_down,
        "version": PEERS[runner.name].version,
    }
    for line in sys.stdin:
        command, *args = json.loads(line)
        try:
            answer, error = commands[command](*args), None  # type: ignore[operator]
        except Exception as failure:  # noqa: BLE001 - the other side decides
            answer, error = None, f"{type(failure).__name__}: {failure}"
        print(json.dumps([answer, error]), flush=True)


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
