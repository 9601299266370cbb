"""Both type checkers understand the public API as users see it, twins included."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from zarr_core import codecs, storage

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


def stubs() -> dict[Path, str]:
    """Return the stubs of packages whose names are imported when they are used."""
    aliases = {"SubchunkWriteOrder": "zarr_core.config"}
    places = {
        storage: {name: f"{storage.__name__}.{place}" for name, place in storage._PLACES.items()},
        codecs: {n: aliases.get(n) or getattr(codecs, n).__module__ for n in codecs.__all__},
    }
    made = {}
    for package, names in places.items():
        lines = [f"from {place} import {name} as {name}" for name, place in names.items()]
        if package is codecs:
            lines.append("from zarr_core.codecs import numcodecs as numcodecs")
        listed = ", ".join(f'"{name}"' for name in sorted(names))
        text = "\n".join([*sorted(lines), "", f"__all__ = [{listed}]"])
        assert package.__file__ is not None
        made[Path(package.__file__).with_suffix(".pyi")] = f"{text}\n"
    return made


def test_stubs_have_the_names_there_are() -> None:
    # After a change: python -c "import sys; sys.path.insert(0, 'tests'); import test_typing as t;
    # [path.write_text(text) for path, text in t.stubs().items()]", and ruff format.
    def statements(text: str) -> str:
        return ast.dump(ast.parse(text))

    for path, text in stubs().items():
        assert statements(path.read_text("utf-8")) == statements(text)


def test_the_types_of_public_names_are_known() -> None:
    """What is not said, checkers infer, each in its own way."""
    command = ["pyright", "--verifytypes", "zarr_core", "--ignoreexternal", "--outputjson"]
    done = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        cwd=PROGRAMS,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    found = json.loads(done.stdout)["typeCompleteness"]
    assert found["completenessScore"] >= 0.975  # 0.981 now; a new class must not make it red
