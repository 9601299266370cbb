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
from rows import GROUPS, Row, budget, load_rows, module_of

CASES = [
    pytest.param(row, id=f"{group}: {row.name}")
    for group in GROUPS
    if not hasattr(module_of(group), "measure")
    for row in load_rows(group).values()
]


@pytest.mark.filterwarnings("ignore")  # that format 3 does not specify consolidated metadata
@pytest.mark.parametrize("row", CASES)
def test_row(benchmark: Callable[..., Any], row: Row, tmp_path: Path) -> None:
    PEERS["zarr_core"].activate(row.threads or budget.threads)
    assert row.set_up is not None
    benchmark(row.set_up(PEERS["zarr_core"], tmp_path))
