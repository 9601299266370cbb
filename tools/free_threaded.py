"""Run the tests on a Python without the global lock (GIL).

    python tools/free_threaded.py [--place DIRECTORY] [ARGUMENTS OF PYTEST]

Takes a `python3.14t` or `python3.13t` if there is one. Otherwise builds 3.13 from Debian's sources,
with the compiler and the -dev packages that are installed (libssl-dev, libffi-dev, libsqlite3-dev,
zlib1g-dev, libbz2-dev, liblzma-dev), which takes about 8 minutes on two cores. What is in the
directory is used again.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

SOURCES = "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
SOURCES += " http://deb.debian.org/debian trixie main\n"

WHEELS = ["anyio", "backports.zstd", "crc32c", "fsspec", "hypothesis", "matplotlib"]
WHEELS += ["numpy", "pytest", "pytest-timeout", "requests", "rich", "starlette", "tqdm", "trio"]
WHEELS += ["uvicorn"]
"""What needs no compiler: of these the newest version that has a wheel."""

BUILT = ["aiohttp", "deflate", "msgpack", "zstandard"]
BUILT_WITH_NUMPY = ["ml_dtypes>=0.6", "numcodecs"]
"""Built alone, they would build a NumPy first."""

BUILD_TOOLS = ["cmake", "cython", "meson", "meson-python", "nanobind", "ninja", "py-cpuinfo"]
BUILD_TOOLS += ["pybind11", "scikit-build-core", "setuptools-scm"]


def run(*command: object, **options: object) -> None:
    words = [str(word) for word in command]
    print("$", *words, flush=True)
    subprocess.run(words, check=True, **options)  # type: ignore[call-overload]


def build(place: Path) -> Path:
    """Build CPython and return its interpreter."""
    python = place / "python/bin/python3.13t"
    if python.exists():
        return python
    apt, source = place / "apt", place / "source"
    for directory in (apt / "lists/partial", apt / "cache/archives/partial", source):
        directory.mkdir(parents=True, exist_ok=True)
    (apt / "sources.list").write_text(SOURCES)
    settings = {
        "Dir::Etc::SourceList": apt / "sources.list",
        "Dir::Etc::SourceParts": "/nonexistent",
        "Dir::State::Lists": apt / "lists",
        "Dir::Cache": apt / "cache",
    }
    # A state of its own: the machine's lists of packages stay as they are.
    (apt / "apt.conf").write_text("".join(f'{k} "{v}";\n' for k, v in settings.items()))
    env = {**os.environ, "APT_CONFIG": str(apt / "apt.conf")}
    run("apt-get", "-q", "update", env=env)
    run("apt-get", "-q", "source", "--download-only", "python3.13", env=env, cwd=source)
    (archive,) = source.glob("python3.13_*.orig.tar.xz")
    run("tar", "-C", source, "-xf", archive)
    (tree,) = source.glob("Python-3.13*/")
    run("./configure", "-q", "--disable-gil", f"--prefix={place / 'python'}", cwd=tree)
    run("nice", "make", "-s", f"-j{os.cpu_count()}", cwd=tree)
    run("make", "-s", "install", cwd=tree, stdout=subprocess.DEVNULL)
    return python


def environment(place: Path) -> Path:
    """Return the interpreter of an environment with what the tests need and can have."""
    python = place / "venv/bin/python"
    if (place / "complete").exists():
        return python
    found = shutil.which("python3.14t") or shutil.which("python3.13t")
    run(found or build(place), "-m", "venv", "--clear", place / "venv")
    pip = [python, "-m", "pip", "install", "-q"]
    run(*pip, "--only-binary", ":all:", *WHEELS)
    run(*pip, "--prefer-binary", *BUILT)
    run(*pip, *BUILD_TOOLS)
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    run(*pip, "--no-build-isolation", *BUILT_WITH_NUMPY, env={**os.environ, "PATH": path})
    (place / "complete").touch()
    return python


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--place", type=Path, default=ROOT / ".free-threaded")
    options, args = parser.parse_known_args()
    python = environment(options.place.absolute())
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHON_GIL": "0"}
    # mypy and pyright look at programs, not at threads; the page has an example of cast-value-rs.
    without = [
        "--ignore=tests/test_typing.py",
        "--deselect=tests/test_docs.py::test_page_runs[codecs.md]",
    ]
    command = [python, "-m", "pytest", *without, *args]
    return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
