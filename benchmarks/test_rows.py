"""Times zarr_core alone, row by row.

python -m pytest benchmarks                     # all rows
python -m pytest benchmarks -k 'read and zstd'  # some
python -m pytest benchmarks --benchmark-autosave --benchmark-compare
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peers import PEERS
from rows import Row, budget, load_rows

CASES = [
    pytest.param(row, id=f"{group}: {row.name}")
    for group, rows in load_rows().items()
    for row in rows
]


@pytest.mark.parametrize("row", CASES)
def test_row(benchmark: Callable[..., Any], row: Row, tmp_path: Path) -> None:
    PEERS["zarr_core"].activate(budget.threads)
    benchmark(row.setups["zarr_core"](tmp_path))
