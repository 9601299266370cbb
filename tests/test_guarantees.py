"""`docs/guarantees.md`: every promise has a number and tests, and these tests exist."""

import ast
import re
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "guarantees.md"


def test_every_promise_is_shown_by_tests_that_exist() -> None:
    text = PAGE.read_text("utf-8")
    promises = [int(number) for number in re.findall(r"^(\d+)\. ", text, re.MULTILINE)]
    assert promises == list(range(1, len(promises) + 1))
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", text, re.MULTILINE)
    assert [int(number) for number, _ in rows] == promises
    for number, cell in rows:
        names = re.findall(r"`(\w+)::(\w+)`", cell)
        assert names, number
        for module, name in names:
            tree = ast.parse((Path(__file__).parent / f"{module}.py").read_text("utf-8"))
            functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert name in functions, f"promise {number}: {module}::{name}"
