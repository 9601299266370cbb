"""What an operation costs, counted in calls: the same on every machine, however busy it is.

Counted are the calls of functions of zarr_core, and the calls that these make to others (C functions
too). `call_budget.json` says how many each operation makes. A change that makes many more fails here;
once that is meant, or when there are fewer, `python tests/test_call_budget.py` writes the file anew.
"""

import asyncio
import gc
import json
import math
import sys
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import pytest

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # zarr_core of this tree

from running import all_threads_are_idle, new_pool, until

import zarr_core as zarr
from zarr_core.chunks import rows
from zarr_core.codecs import ZstdCodec
from zarr_core.config import config
from zarr_core.storage import LocalStore, MemoryStore
from zarr_core.threads import key_locks

BUDGET = Path(__file__).with_name("call_budget.json")
MORE = 1.10
"""How far a count may grow."""
DEPTH = 6
INSIDE = 2  # more, down to a shard
"""Through how many functions of ours a read goes before it reaches the store."""

PACKAGE = str(Path(zarr.__file__).parent)
INLINED = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>"})
"""Functions up to Python 3.11, no calls from 3.12 on."""
WITH = frozenset({"__enter__", "__exit__"})
"""Calls from Python 3.14 on, when written in C."""

Operation = Callable[[], object]


# --- counting --------------------------------------------------------------------------------------


class Counts(Counter[str]):
    """Calls by the function that was called, or that called something which is not ours."""

    def __init__(self) -> None:
        super().__init__()
        self.details: Counter[tuple[str, str]] = Counter()

    def add(self, name: str, called: str = "itself") -> None:
        self[name] += 1
        self.details[name, called] += 1


_counting: Counts | None = None


@cache
def name_of(code: CodeType) -> str | None:
    """Return the name of a function of ours, None for one of others."""
    if not code.co_filename.startswith(PACKAGE):
        return None
    name = code.co_qualname.replace(".<locals>", "")
    for inlined in INLINED:
        name = name.replace(f".{inlined}", "")
    return f"{Path(code.co_filename).relative_to(PACKAGE).with_suffix('')}: {name}"


def profile(frame: FrameType, event: str, arg: Any) -> None:
    """Count one event, if counting is on: a profile function cannot be taken from other threads."""
    counts = _counting
    if counts is None or event not in ("call", "c_call"):
        return
    code, back = frame.f_code, frame.f_back
    own = name_of(code)
    if event == "c_call":
        called = getattr(arg, "__name__", repr(arg))
        # A thread of the pool goes to sleep again when its call has ended, or a moment later.
        if own is not None and called not in WITH and code.co_qualname != "_serve":
            counts.add(own, called)
    elif code.co_name in INLINED:
        return
    elif own is not None:
        counts.add(own)
    elif back is not None and (caller := name_of(back.f_code)) is not None:
        counts.add(caller, code.co_qualname)


@contextmanager
def counting() -> Iterator[None]:
    """Let calls be counted by `calls_of`, on this thread and on those of a pool of its own."""
    before = sys.getprofile()
    threading.setprofile(profile)
    sys.setprofile(profile)
    gc.disable()  # finalizers of others
    try:
        with pytest.MonkeyPatch.context() as patch, new_pool():
            patch.setattr(rows, "SLOW_SECONDS", math.inf)  # however busy the machine is
            with config.set({"threading.max_workers": 1}):
                yield
    finally:
        gc.enable()
        sys.setprofile(before)
        threading.setprofile(None)  # type: ignore[arg-type]


def calls_of(operation: Operation) -> Counts:
    """Return the calls that an operation makes once everything that is kept is there."""
    global _counting  # noqa: PLW0603
    for _ in range(2):
        operation()
    until(all_threads_are_idle)
    key_locks._table.forget()  # else done by one of many calls
    counts = _counting = Counts()
    try:
        operation()
        until(all_threads_are_idle)
    finally:
        _counting = None
    return counts


# --- operations ------------------------------------------------------------------------------------


def make(store: Any, shape: tuple[int, ...], chunks: tuple[int, ...], **options: Any) -> zarr.Array:
    options = {"dtype": "f4", "compressors": None, "fill_value": 0, **options}
    array = zarr.create_array(store, shape=shape, chunks=chunks, **options)
    array[...] = 1 + np.arange(array.size, dtype="f4").reshape(shape)
    return array


def assign(array: zarr.Array, selection: Any, value: Any) -> Operation:
    def write() -> None:
        array[selection] = value

    return write


def operations(store: Callable[[], Any]) -> Iterator[tuple[str, Operation]]:
    """Yield what is counted, on new stores."""
    one = make(store(), (50, 100), (50, 100))
    yield "read one chunk", lambda: one[...]
    yield "read one element", lambda: one[3, 4]
    yield "read a column of a chunk", lambda: one[:, 7]
    yield "write one chunk", assign(one, ..., np.ones((50, 100), "f4"))
    yield "write a row of a chunk", assign(one, slice(3, 4), np.ones((1, 100), "f4"))

    many = make(store(), (100, 100), (10, 10))
    yield "read 100 small chunks", lambda: many[...]
    yield "write 100 small chunks", assign(many, ..., np.ones((100, 100), "f4"))
    yield "write one value to 100 chunks", assign(many, ..., 7)
    yield "read with steps from 40 chunks", lambda: many[::3, ::25]
    yield "read 10 rows by number", lambda: many.oindex[[5, 15, 25, 35, 45, 55, 65, 75, 85, 95]]
    points = np.arange(0, 100, 10)
    yield "read 10 points of 10 chunks", lambda: many.vindex[points, points]

    zstd = make(store(), (64, 64), (16, 16), compressors=[ZstdCodec()])
    yield "read 16 zstd chunks", lambda: zstd[...]
    yield "write 16 zstd chunks", assign(zstd, ..., np.ones((64, 64), "f4"))

    shards = make(store(), (64, 64), (8, 8), shards=(32, 32))
    yield "read one inner chunk", lambda: shards[8:16, 8:16]
    yield "read 4 shards of 16 inner chunks", lambda: shards[...]
    yield "write one inner chunk", assign(shards, (slice(8, 16),) * 2, np.ones((8, 8), "f4"))

    place = make(store(), (100, 100), (10, 10)).store
    yield "open an array", lambda: zarr.open_array(place, mode="r")
    everything, numbers = store(), count()
    yield (
        "create an array",
        lambda: zarr.create_array(
            everything, name=f"{next(numbers):08}", shape=(100, 100), chunks=(10, 10), dtype="f4"
        ),
    )
    group = zarr.create_group(store())
    make(group.store, (10, 10), (10, 10), name="a")
    yield "open a group and a member", lambda: zarr.open_group(group.store, mode="r")["a"]

    with asyncio.Runner() as runner:
        yield "await a read of one chunk", lambda: runner.run(read(one))
        yield "await a write of one chunk", lambda: runner.run(write(one))


async def read(array: zarr.Array) -> object:
    return await array.getitem_async(...)


async def write(array: zarr.Array) -> None:
    await array.setitem_async(..., 5)


def count_everything(directory: Path) -> dict[str, Counts]:
    """Return the calls of all operations."""
    numbers = count()
    stores = {
        "memory": MemoryStore,
        "local": lambda: LocalStore(directory / str(next(numbers))),
    }
    with counting():
        return {
            f"{name}, {where}": calls_of(operation)
            for where, store in stores.items()
            for name, operation in operations(store)
        }


# --- the budget ------------------------------------------------------------------------------------


def verdict(row: str, found: Counts, known: int | None) -> str | None:
    """Return what is wrong with a count, None if it is as it should be."""
    if known is None:
        return f"{row}: not in {BUDGET.name}"
    new = found.total()
    if new <= known * MORE:
        return None
    lines = [f"{row}: {known} calls in {BUDGET.name}, now {new}, most of them in"]
    for name, n in found.most_common(6):
        inside = Counter({c: m for (called, c), m in found.details.items() if called == name})
        lines.append(f"    {name} {n}: {', '.join(f'{c} {m}' for c, m in inside.most_common(6))}")
    return "\n".join(lines)


def test_no_operation_makes_more_calls_than_it_did(tmp_path: Path) -> None:
    budget = json.loads(BUDGET.read_text("utf-8"))
    found = count_everything(tmp_path)
    wrong = [verdict(row, counts, budget.get(row)) for row, counts in found.items()]
    problems = [words for words in wrong if words is not None]
    assert list(budget) == list(found), "rows of the table and rows that are counted"
    assert not problems, (
        "\n".join(["calls have changed:", *problems])
        + "\nIf this is meant: python tests/test_call_budget.py"
    )


def test_counts_are_the_same_each_time(tmp_path: Path) -> None:
    assert count_everything(tmp_path / "1") == count_everything(tmp_path / "2")


def test_growth_is_named_with_its_numbers() -> None:
    found = Counts()
    found.update({"array: Array.__getitem__": 5, "selection: basic_items": 90})
    name = "selection: basic_items"
    found.details.update({(name, "len"): 80, (name, "itself"): 10})
    words = verdict("read", found, 14)
    assert words is not None
    assert "read: 14 calls in call_budget.json, now 95" in words
    assert "selection: basic_items 90: len 80, itself 10" in words
    assert verdict("read", found, 95) is None
    assert verdict("read", found, 200) is None
    assert "not in call_budget.json" in (verdict("read", found, None) or "")


# --- what cost depends on ----------------------------------------------------------------------------

SELECTIONS: dict[str, Callable[[zarr.Array, int], object]] = {
    "element": lambda a, k: a[k],
    "slice": lambda a, k: a[k : k + 8],
    "steps": lambda a, k: a[k : k + 12 : 3],
    "backwards": lambda a, k: a[k + 8 : k : -1],
    "numbers": lambda a, k: a.oindex[[k, k + 5, k + 7]],
    "points": lambda a, k: a.vindex[[k, k + 5, k + 7]],
    "blocks": lambda a, k: a.blocks[k // (a.shards or a.chunks)[0]],
    "write": lambda a, k: a.__setitem__(slice(k, k + 8), 3),
    "partial write": lambda a, k: a.__setitem__(slice(k + 1, k + 2), 3),
    "chunk parts": lambda a, k: list(a.chunk_parts(slice(k, k + 8))),
}


def long_array(nchunks: int, **options: Any) -> zarr.Array:
    shape = (4 * nchunks,)
    return zarr.create_array(
        MemoryStore(), shape=shape, chunks=(4,), dtype="i2", fill_value=0, **options
    )


@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.parametrize("shards", [None, (8,)])
def test_cost_does_not_grow_with_the_array(name: str, shards: tuple[int, ...] | None) -> None:
    select = SELECTIONS[name]
    few, many = long_array(10, shards=shards), long_array(10**9, shards=shards)
    far = 4 * (10**9 - 6)
    for array, start in ((few, 8), (many, 8), (many, far)):
        array[start : start + 16] = 1
    with counting():
        expected = calls_of(lambda: select(few, 8))
        assert expected.total() > 5
        assert calls_of(lambda: select(many, 8)) == expected
        assert calls_of(lambda: select(many, far)) == expected


def test_opening_does_not_depend_on_the_size() -> None:
    few, many = long_array(10), long_array(10**9)
    with counting():
        expected = calls_of(lambda: zarr.open_array(few.store, mode="r"))
        assert calls_of(lambda: zarr.open_array(many.store, mode="r")) == expected


GROWING: dict[str, Callable[[zarr.Array, int], object]] = {
    "read": lambda a, n: a[: 4 * n],
    "steps": lambda a, n: a[: 4 * n : 2],
    "numbers": lambda a, n: a.oindex[np.arange(n) * 4 + np.arange(n) % 2],
    "points": lambda a, n: a.vindex[np.arange(n) * 4 + np.arange(n) % 2],
    "write": lambda a, n: a.__setitem__(slice(0, 4 * n), np.ones(4 * n, "i2")),
    "one value": lambda a, n: a.__setitem__(slice(0, 4 * n), 3),
    "partial write": lambda a, n: a.__setitem__(slice(0, 4 * n, 2), 3),
}


@pytest.mark.parametrize("name", GROWING)
@pytest.mark.parametrize("options", [{}, {"compressors": None}, {"shards": (512,)}], ids=str)
def test_cost_grows_by_the_same_for_every_chunk(name: str, options: dict[str, Any]) -> None:
    select = GROWING[name]
    array = long_array(1000, **options)
    array[...] = 1
    with counting():
        # Whole shards of 128 chunks, and whole pieces of rows.
        totals = [calls_of(lambda n=n: select(array, n)).total() for n in (256, 384, 512)]
    assert totals[1] - totals[0] == totals[2] - totals[1] > 0


# --- the way from the brackets to the store ----------------------------------------------------------


class BoomError(Exception):
    pass


class BoomStore(MemoryStore):
    """Fails when a chunk is read."""

    def get(self, key: str) -> Any:
        if key.startswith("c/"):
            raise BoomError
        return super().get(key)


@pytest.mark.parametrize("chunks", [(100, 100), (10, 10), (50, 50)])
@pytest.mark.parametrize("compressors", [None, "auto"])
@pytest.mark.parametrize("selection", [..., (3, 4), slice(0, 9), (slice(0, 99, 7), 3), [1, 50]])
def test_a_read_goes_through_few_functions(selection: Any, chunks: Any, compressors: Any) -> None:
    options = {"shape": (100, 100), "dtype": "f8", "compressors": compressors}
    array = zarr.create_array(BoomStore(), chunks=chunks, **options)
    path = path_of(lambda: array[selection])
    assert path[0] == "__getitem__"
    assert len(path) <= DEPTH, path


def path_of(read: Callable[[], object]) -> list[str]:
    """Return our functions that a read goes through, down to the store."""
    with pytest.raises(BoomError) as caught:
        read()
    return [
        frame.name
        for frame in traceback.extract_tb(caught.value.__traceback__)
        if frame.filename.startswith(PACKAGE)
    ]


# How many functions more than from brackets; those of an await include three of its task.
LONGER: dict[str, tuple[int, Callable[[zarr.Array], object]]] = {
    "brackets": (0, lambda a: a[...]),
    "oindex": (0, lambda a: a.oindex[[1, 50]]),
    "vindex": (0, lambda a: a.vindex[[1, 50], [2, 3]]),
    "blocks": (0, lambda a: a.blocks[0]),
    "several arrays": (1, lambda a: zarr.read_many([(a, ...)])),
    "an await": (7, lambda a: asyncio.run(a.getitem_async(...))),
}


@pytest.mark.parametrize("way", LONGER)
@pytest.mark.parametrize("shards", [None, (50, 50)])
def test_other_ways_go_through_few_functions_more(way: str, shards: tuple[int, int] | None) -> None:
    array = zarr.create_array(
        BoomStore(), shape=(100, 100), chunks=(10, 10), shards=shards, dtype="f8"
    )
    more, read = LONGER[way]
    path = path_of(lambda: read(array))
    assert len(path) <= DEPTH + more + (0 if shards is None else INSIDE), path


def rewrite() -> None:
    """Count everything and write the table."""
    old = json.loads(BUDGET.read_text("utf-8")) if BUDGET.exists() else {}
    with tempfile.TemporaryDirectory() as directory:
        found = count_everything(Path(directory))
    for row, counts in found.items():
        print(f"{row}: {counts.total()}" + (f" (was {old[row]})" if row in old else ""))
    totals = {row: counts.total() for row, counts in found.items()}
    BUDGET.write_text(json.dumps(totals, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    rewrite()
