"""Both type checkers understand the public API as users see it, twins included."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
PROGRAMS = ROOT / "tests" / "typing"
MISTAKES = PROGRAMS / "mistakes.py"
CORRECT = sorted(set(PROGRAMS.glob("*.py")) - {MISTAKES})

Found = dict[str, dict[int, str]]  # file name -> line -> message


def run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command, *map(str, sorted(PROGRAMS.glob("*.py")))],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def mypy() -> Found:
    found: Found = {}
    printed = run("mypy", "--strict", "--no-pretty", "--no-error-summary", "--hide-error-context")
    for path, line, message in re.findall(r"^(.*?):(\d+): error: (.*)$", printed, re.MULTILINE):
        found.setdefault(Path(path).name, {})[int(line)] = message
    return found


@pytest.fixture(scope="module")
def pyright() -> Found:
    found: Found = {}
    printed = run("pyright", "--outputjson", "--pythonpath", sys.executable)
    for entry in json.loads(printed)["generalDiagnostics"]:
        if entry["severity"] == "error":
            line = entry["range"]["start"]["line"] + 1
            found.setdefault(Path(entry["file"]).name, {})[line] = entry["message"]
    return found


def wrong_lines() -> list[int]:
    lines = MISTAKES.read_text("utf-8").splitlines()
    return [number for number, line in enumerate(lines, 1) if "# wrong" in line]


@pytest.mark.parametrize("program", CORRECT, ids=lambda path: path.name)
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_correct_programs_pass(checker: str, program: Path, request: pytest.FixtureRequest) -> None:
    assert request.getfixturevalue(checker).get(program.name, {}) == {}


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_mistakes_are_reported(checker: str, request: pytest.FixtureRequest) -> None:
    reported = request.getfixturevalue(checker).get(MISTAKES.name, {})
    expected = wrong_lines()
    assert len(expected) > 10
    assert sorted(reported) == expected, reported


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.4.0", reason="older NumPy has less exact types"
)
def test_the_library_itself_has_no_errors(mypy: Found) -> None:
    names = {path.name for path in PROGRAMS.glob("*.py")}
    assert {file: lines for file, lines in mypy.items() if file not in names} == {}
