"""Everything that is checked, as nox sessions; `nox` alone runs those that need no peers."""

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests", "docs"]
nox.options.reuse_existing_virtualenvs = True


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def tests(session: nox.Session) -> None:
    session.install(".[test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def stress(session: nox.Session) -> None:
    """What the tests try in seconds, tried for minutes: failures and threads at every point."""
    session.install(".[test]")
    names = ("failing_calls", "interleavings", "stress_stores")
    files = [f"tests/test_{name}.py" for name in names]
    env = {"ZARR_CORE_STRESS": "1"}
    session.run("python", "-m", "pytest", *files, *session.posargs, env=env)


@nox.session(python="3.13")
def fuzz(session: nox.Session) -> None:
    """`nox -s fuzz -- documents -max_total_time=600`: anything in documents, chunks, zip files …"""
    session.install(".[test]", "atheris")
    session.run("python", "tests/fuzzing.py", *session.posargs)


@nox.session(python="3.11")
def coverage(session: nox.Session) -> None:
    """Which lines no test runs; too many of them fail."""
    session.install("-e", ".[test]", "coverage>=7.6")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "report")


@nox.session(python="3.11")
def minimum(session: nox.Session) -> None:
    """The lowest versions of the dependencies that pyproject.toml allows."""
    project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
    lowest = [bound.replace(">=", "==") for bound in project["dependencies"]]
    constraints = Path(session.create_tmp()) / "minimum.txt"
    constraints.write_text("\n".join(lowest) + "\n", "utf-8")
    session.install(".[test]", "-c", str(constraints))
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    session.install("ruff>=0.12")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python="3.11")  # the oldest, so that nothing newer is used by mistake
def types(session: nox.Session) -> None:
    session.install("-e", ".[test]")
    session.run("mypy")
    session.run("pyright")


@nox.session
def docs(session: nox.Session) -> None:
    session.install(".[test]")
    session.run("python", "-m", "pytest", "tests/test_docs.py", *session.posargs)
    session.install(".[docs]")
    session.run("sphinx-build", "-W", "--keep-going", "-q", "docs", "site")
    session.log("open site/index.html")


@nox.session
def links(session: nox.Session) -> None:
    """Addresses outside of this repository that the documentation names."""
    session.install(".[docs]")
    session.run("sphinx-build", "-b", "linkcheck", "-q", "docs", "site/links")


def python_with_zarr2(session: nox.Session) -> str:
    """Return an interpreter that has zarr 2.18.7, which needs an environment of its own."""
    if given := os.environ.get("ZARR2_PYTHON"):
        return given
    place = os.path.join(session.cache_dir, "zarr2")
    python = os.path.join(place, "bin", "python")
    if not os.path.exists(python):
        base = shutil.which("python3.11") or session.error("zarr 2.18.7 needs a python3.11")
        subprocess.run([base, "-m", "venv", place], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "zarr==2.18.7"], check=True)
    return python


@nox.session(python="3.13")
def interop(session: nox.Session) -> None:
    session.install(".[test,interop]")
    env = {"ZARR2_PYTHON": python_with_zarr2(session)}
    # Stores too: those of zarr-python and S3 have their libraries here only.
    names = ("test_interop*.py", "test_storage*.py")
    files = [str(path) for name in names for path in sorted(Path("tests").glob(name))]
    session.run("python", "-m", "pytest", *files, *session.posargs, env=env)


@nox.session(name="tests-freethreaded", python=False)
def tests_freethreaded(session: nox.Session) -> None:
    """Without the GIL: on a python3.14t or python3.13t, or one that is built first."""
    place = str(Path(session.cache_dir) / "free-threaded")
    session.run("python", "tools/free_threaded.py", "--place", place, *session.posargs)


@nox.session(name="tests-wasm")
def tests_wasm(session: nox.Session) -> None:
    """In Pyodide under Node.js; and a page in Chromium, if there is one."""
    session.install(".[test]")
    place = str(Path(session.cache_dir) / "wasm")
    session.run("python", "tools/wasm/run.py", "--place", place, *session.posargs)


@nox.session(python="3.13")
def benchmarks(session: nox.Session) -> None:
    session.install(".[bench]")
    env = {"ZARR2_PYTHON": python_with_zarr2(session)}
    session.run("python", "benchmarks/compare.py", *session.posargs, env=env)
    session.run("python", "benchmarks/loop_overhead.py")
