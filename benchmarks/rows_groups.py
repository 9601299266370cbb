"""Groups: opening and creating nodes, and a group of 2,000 arrays.

zarr 2.18.7 is in the rows of format 2 only, zarr-python in those of both.
"""

import atexit
import shutil
import tempfile
import warnings
from collections.abc import Callable
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any

from peers import PEERS, Operation
from rows import Row

NUMBER = 2000
NAMES = [f"array_{number}" for number in range(NUMBER)]
ARRAY = {"shape": (100, 100), "chunks": (10, 10), "dtype": "f4"}


class Library:
    """What the rows need of `zarr_core` and of zarr-python."""

    def __init__(self, name: str, zarr_format: int) -> None:
        import importlib

        self.zarr: Any = importlib.import_module("zarr_core" if name == "zarr_core" else "zarr")
        self.format: dict[str, Any] = {"zarr_format": zarr_format}
        self.plain: dict[str, Any] = {"use_consolidated": False}

    def store(self, directory: Path, where: str) -> Any:
        storage = self.zarr.storage
        return storage.LocalStore(directory) if where == "local" else storage.MemoryStore()

    def group(self, store: Any) -> Any:
        return self.zarr.open_group(store, mode="w", **self.format)

    def create(self, group: Any, name: str) -> Any:
        return group.create_array(name, **ARRAY)

    def consolidate(self, store: Any) -> Any:
        return self.zarr.consolidate_metadata(store, **self.format)


class Zarr2(Library):
    """The same of zarr 2."""

    def __init__(self) -> None:
        super().__init__("zarr", 2)
        self.format, self.plain = {}, {}

    def store(self, directory: Path, where: str) -> Any:
        storage = self.zarr.storage
        return storage.DirectoryStore(str(directory)) if where == "local" else storage.KVStore({})

    def create(self, group: Any, name: str) -> Any:
        return group.create_dataset(name, **ARRAY)


def library(peer: str, zarr_format: int) -> Library:
    warnings.simplefilter("ignore")  # that format 3 does not specify consolidated metadata
    return Zarr2() if peer == "zarr 2.18.7" else Library(peer, zarr_format)


def checked(operation: Operation, expected: Callable[[Any], bool]) -> Operation:
    if not expected(operation()):
        raise AssertionError("the result is wrong: nothing to time here")
    return operation


# --- one node --------------------------------------------------------------------------------------


def one(peer: str, zarr_format: int, what: str, where: str, directory: Path) -> Operation:
    made = library(peer, zarr_format)
    store = made.store(directory, where)
    group = made.group(store)
    made.create(group, "a")
    zarr = made.zarr
    if what == "open an array":
        open_array = partial(zarr.open_array, store, path="a", mode="r")
        return checked(open_array, lambda array: array.shape == (100, 100))
    if what == "open a group":
        return checked(partial(zarr.open_group, store, mode="r"), lambda found: "a" in found)
    if what == "open an array of a group":
        return checked(lambda: group["a"], lambda array: array.shape == (100, 100))
    numbers = count()
    create = lambda: made.create(group, f"new_{next(numbers)}")  # noqa: E731
    return checked(create, lambda array: array.shape == (100, 100))


# --- 2,000 arrays in one group -----------------------------------------------------------------------


@cache
def many(peer: str, zarr_format: int, *, consolidated: bool) -> tuple[Library, Any]:
    """Return a library and a store with 2,000 arrays; kept as long as this process lives."""
    directory = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    made = library(peer, zarr_format)
    store = made.store(Path(directory), "local")
    group = made.group(store)
    for name in NAMES:
        made.create(group, name)
    if consolidated:
        made.consolidate(store)
    return made, store


def create_all(peer: str, zarr_format: int, directory: Path) -> Operation:
    made = library(peer, zarr_format)
    numbers = count()

    def create() -> Any:
        group = made.group(made.store(directory / str(next(numbers)), "local"))
        for name in NAMES:
            made.create(group, name)
        return group

    return checked(create, lambda group: NAMES[-1] in group)


def of_all(peer: str, zarr_format: int, what: str, directory: Path) -> Operation:
    consolidated = "consolidated" in what
    made, store = many(peer, zarr_format, consolidated=consolidated)
    zarr = made.zarr
    if what == "consolidate":
        return checked(partial(made.consolidate, store), lambda group: NAMES[0] in group)
    if what == "open, consolidated":
        return checked(partial(zarr.open_consolidated, store, mode="r"), lambda g: NAMES[0] in g)
    if consolidated:

        def open_and_get() -> Any:
            group = zarr.open_consolidated(store, mode="r")
            return [group[name] for name in NAMES]

        return checked(open_and_get, lambda arrays: len(arrays) == NUMBER)
    group = zarr.open_group(store, mode="r", **made.plain)
    operations: dict[str, Operation] = {
        "arrays()": lambda: list(group.arrays()),
        "names": lambda: list(group.keys()),
        "g[name] of each": lambda: [group[name] for name in NAMES],
    }
    return checked(operations[what], lambda found: len(found) == NUMBER)


def row(name: str, zarr_format: int, set_up: Callable[..., Operation], *args: Any) -> Row:
    peers = {"zarr_core", "zarr-python"} | ({"zarr 2.18.7"} if zarr_format == 2 else set())
    setups = {peer: partial(set_up, peer, zarr_format, *args) for peer in PEERS if peer in peers}
    return Row(f"{name}, format {zarr_format}", setups)


ROWS: list[Row] = []
for zarr_format in (3, 2):
    ROWS += [
        row(f"{what}, {where}", zarr_format, one, what, where)
        for what in ("open a group", "open an array", "open an array of a group", "create an array")
        for where in ("memory", "local")
    ]
for zarr_format in (3, 2):
    ROWS.append(row("2,000 arrays: create", zarr_format, create_all))
    ROWS += [
        row(f"2,000 arrays: {what}", zarr_format, of_all, what)
        for what in (
            "arrays()",
            "names",
            "g[name] of each",
            "consolidate",
            "open, consolidated",
            "open and g[name] of each, consolidated",
        )
    ]
