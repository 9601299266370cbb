"""Opening an array that exists."""

from peers import Layout
from rows import Row, open_row

ROWS: list[Row] = [
    open_row(f"open an array, {where}", Layout((100, 100), (10, 10), codec="zstd", where=where))
    for where in ("memory", "local")
]
