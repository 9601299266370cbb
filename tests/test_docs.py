"""Every page of README.md and docs/ is a program: its Python blocks, saved as one file, run.

A process and a new directory for each. A block that starts with `>>>` is a doctest: its output is
compared.
"""

import ast
import asyncio
import doctest
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import zarr_core
from zarr_core import codecs
from zarr_core.codecs import registry
from zarr_core.config import DEFAULTS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_IN_DOCUMENTS = {
    "endian",
    "v2.filters",
    "v2.compressor",
}  # old names, and what no document names
NEEDS = {
    "engines.md": "icechunk",
    "xarray.md": "xarray",
}  # pages about a library that the other tests do without
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


class Block(NamedTuple):
    line: int  # lines of the page above the block's first
    source: str


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [Block(text.count("\n", 0, m.start(1)), m[1]) for m in FENCE.finditer(text)]


def script_of(page: Path) -> str:
    """Return the blocks of a page as a script whose lines have the numbers they have in the page."""
    lines: list[str] = []
    for block in blocks_of(page):
        lines += [""] * (block.line - len(lines))
        if block.source.startswith(">>>"):
            # On one line; the doctests read and change what the script has defined so far.
            lines += [
                f"__import__('test_docs').run_doctest({tuple(block)!r}, {str(page)!r}, globals())"
            ]
        else:
            lines += block.source.splitlines()
    return "\n".join(lines) + "\n"


def run_doctest(block: tuple[int, str], page: str, namespace: dict[str, Any]) -> None:
    line, source = block
    test = doctest.DocTestParser().get_doctest(source, namespace, page, page, line)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    report: list[str] = []
    runner.run(test, out=report.append, clear_globs=False)
    namespace.update(test.globs)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


def run_page(page: Path, place: Path) -> str:
    """Run the blocks of a page as a user would, and return what the failure is, if any."""
    script = place / "page.py"
    script.write_text(script_of(page), "utf-8")
    paths = [str(ROOT), str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        capture_output=True,
        text=True,
        cwd=place,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        check=False,
    )
    return f"{done.stdout}{done.stderr}" if done.returncode else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_runs(page: Path, tmp_path: Path) -> None:
    if needed := NEEDS.get(page.name):
        pytest.importorskip(needed)
    if blocks_of(page):
        assert run_page(page, tmp_path) == ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [t.partition("#")[0] for t in LINK.findall(page.read_text("utf-8")) if ":" not in t]
    missing = [target for target in targets if target and not (page.parent / target).exists()]
    assert not missing


def test_readme_links_to_pages_of_the_site() -> None:
    """They are absolute, as the page of the package has to show them too."""
    site = "https://zarr-core.readthedocs.io/en/latest/"
    targets = LINK.findall((ROOT / "README.md").read_text("utf-8"))
    pages = [target.removeprefix(site) for target in targets if target.startswith(site)]
    assert len(pages) > 10
    assert [target for target in targets if ":" not in target] == []
    for page in pages:
        place = page.replace("_images/", "performance/").replace(".html", ".md") or "index.md"
        assert (ROOT / "docs" / place).exists(), page


def test_the_table_of_codecs_is_complete() -> None:
    rows = re.findall(
        r"^\| `([^`]+)` \| `([^`]+)`", (ROOT / "docs/codecs.md").read_text(), re.MULTILINE
    )
    found = {name: getattr(codecs, cls) for name, cls in rows}
    known = {name for name in {*registry._codecs, *registry.LATER} if "numcodecs." not in name}
    assert found == {name: registry.get_codec_class(name) for name in known - NOT_IN_DOCUMENTS}


def test_the_table_of_settings_is_complete() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    table, _, nothing = text.partition("## Settings of zarr-python")
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| `(.+?)` \|", table, re.MULTILINE))
    ignored = re.findall(r"`([a-z_.]+)`", nothing)
    assert rows == {key: repr(value) for key, value in DEFAULTS.items() if key not in ignored}
    assert set(ignored) <= DEFAULTS.keys()


COMING_FROM = (ROOT / "docs/coming-from.md").read_text("utf-8")
ROW = re.compile(r"^\| (.*?) \| (.*) \|$", re.MULTILINE)


def names_of_a_user(library: str) -> dict[str, Any]:
    """Return what the lines of a table take for granted, and files that they open."""
    zarr_core.create_array("a.zarr", shape=8, chunks=2, dtype="i4")
    zarr_core.create_array("old.zarr", shape=8, dtype="i4", zarr_format=2)
    names = {"zarr": zarr_core, "values": np.ones((4, 4)), "store": zarr_core.storage.MemoryStore()}
    names["numcodecs"] = pytest.importorskip("numcodecs")
    names["array"] = zarr_core.open_array("a.zarr")
    names["group"] = zarr_core.open_group("g.zarr")
    names["other"] = zarr_core.open_group({})
    if library == "h5py":
        names["h5py"] = h5py = pytest.importorskip("h5py")
        names["file"] = file = h5py.File("there.h5", "w")
        file.create_dataset("x", data=names["values"], maxshape=(None, 4))
        names["group"].create_array("x", data=names["values"], chunks=2)
    return names


@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
@pytest.mark.parametrize("library", ["zarr-python 3", "zarr 2", "h5py", "tensorstore"])
def test_what_is_said_to_those_who_come_from_elsewhere_runs(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    part = COMING_FROM.split(f"## {library}\n")[1].partition("\n## ")[0]
    rows = ROW.findall(part)[1:]
    assert len(rows) > 6
    names = names_of_a_user(library)
    for there, here in rows:
        if library == "h5py" and there.startswith("`file[") and "resize" not in there:
            exec(there.strip("`"), names)
        if code := re.match("`([^`]+)`", here):
            flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            result = eval(compile(code[1], here, "single", flags), names)
            if inspect.iscoroutine(result):
                asyncio.run(result)


TOCTREE = re.compile(r"^```{toctree}\n(?:.+\n)*\n?((?:.+\n)+)```$", re.MULTILINE)


def test_every_page_is_in_the_navigation() -> None:
    docs = ROOT / "docs"
    shown = {"index"}
    todo = ["index"]
    while todo:
        page = docs / f"{todo.pop()}.md"
        for entries in TOCTREE.findall(page.read_text("utf-8") if page.exists() else ""):
            for entry in entries.split():
                name = (page.parent / entry).relative_to(docs).as_posix()
                assert name not in shown, f"{name} is in the navigation twice"
                shown.add(name)
                todo.append(name)
    pages = [*docs.rglob("*.md"), *docs.rglob("*.rst"), *docs.glob("examples/*.py")]
    assert shown == {page.relative_to(docs).with_suffix("").as_posix() for page in pages}


def test_readme_has_a_program() -> None:
    assert blocks_of(ROOT / "README.md")


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("assert False", "AssertionError"),
        (">>> 1 + 1\n3\n", "Expected"),
        ("import asyncio\nawait asyncio.sleep(0)", "SyntaxError"),
    ],
)
def test_a_wrong_page_would_fail(source: str, error: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n```python\nx = 1\n```\n\n```python\n{source}\n```\n")
    assert error in run_page(page, tmp_path)


def test_blocks_share_a_namespace_and_keep_their_lines(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    sources = ("x = 1", ">>> x = x + 1\n>>> x\n2", "assert x == 2", "raise KeyError")
    page.write_text("# Title\n\n" + "".join(f"```python\n{one}\n```\n\n" for one in sources))
    line = page.read_text().splitlines().index("raise KeyError") + 1
    assert f'page.py", line {line}, in <module>' in run_page(page, tmp_path)
