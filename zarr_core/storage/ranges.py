"""Ranges of bytes in one value, read together where they are close."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

Range: TypeAlias = tuple[int, int, int]
"""Start and end in a value, and the number of what is there."""


class Run(NamedTuple):
    """Neighbouring ranges, `first` to `last` (not included), read as one."""

    first: int
    last: int
    start: int
    end: int


def merge_ranges(ranges: Sequence[Range], max_gap: int, max_bytes: int) -> list[Run]:
    """Return sorted ranges (start, end, ...) merged where close, and not too long together."""
    runs: list[Run] = []
    first = low = high = 0
    for at, (start, end, _) in enumerate(ranges):
        if at and start - high <= max_gap and max(high, end) - low <= max_bytes:
            high = max(high, end)
            continue
        if at:
            runs.append(Run(first, at, low, high))
        first, low, high = at, start, end
    if ranges:
        runs.append(Run(first, len(ranges), low, high))
    return runs
