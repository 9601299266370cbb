"""Every Python block of README.md and docs/ runs, in a new directory, one namespace per page.

Blocks may use `await` at top level, as in a notebook. A block that starts with `>>>` is a doctest:
its output is compared.
"""

import ast
import asyncio
import doctest
import inspect
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


class Block(NamedTuple):
    line: int  # lines of the page above the block's first
    source: str


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [Block(text.count("\n", 0, m.start(1)), m[1]) for m in FENCE.finditer(text)]


def run_block(block: Block, page: Path, namespace: dict[str, Any]) -> None:
    if block.source.startswith(">>>"):
        run_doctest(block, page, namespace)
        return
    # Blank lines in front make tracebacks show the line in the page.
    source = "\n" * block.line + block.source
    code = compile(source, str(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if not code.co_flags & inspect.CO_COROUTINE:
        exec(code, namespace)
        return

    async def awaited() -> None:
        await eval(code, namespace)

    asyncio.run(awaited())


def run_doctest(block: Block, page: Path, namespace: dict[str, Any]) -> None:
    test = doctest.DocTestParser().get_doctest(
        block.source, namespace, page.name, str(page), block.line
    )
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    report: list[str] = []
    runner.run(test, out=report.append, clear_globs=False)
    namespace.update(test.globs)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": f"page_{page.stem}"}
    for block in blocks_of(page):
        run_block(block, page, namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [t.partition("#")[0] for t in LINK.findall(page.read_text("utf-8")) if ":" not in t]
    missing = [target for target in targets if target and not (page.parent / target).exists()]
    assert not missing


def test_readme_has_a_program() -> None:
    assert blocks_of(ROOT / "README.md")


@pytest.mark.parametrize(
    "source",
    ["assert False", ">>> 1 + 1\n3\n", "import asyncio\nawait asyncio.sleep(0)\nraise KeyError"],
)
def test_a_wrong_block_would_fail(source: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        run_block(Block(3, source), Path("page.md"), {})


def test_blocks_share_a_namespace() -> None:
    namespace: dict[str, Any] = {}
    for source in ("x = 1", ">>> x = x + 1\n>>> x\n2\n", "assert x == 2"):
        run_block(Block(0, source), Path("page.md"), namespace)
