"""Groups: opening and creating nodes, and a group of 2,000 arrays.

zarr 2.18.7 is in the rows of format 2 only, zarr-python in those of both.
"""

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any

from peers import Operation, Peer
from rows import EVERYBODY, Row

NUMBER = 2000
NAMES = [f"array_{number}" for number in range(NUMBER)]
ARRAY = {"shape": (100, 100), "chunks": (10, 10), "dtype": "f4"}
PEERS_OF = {3: ("zarr_core", "zarr-python"), 2: ("zarr_core", "zarr-python", EVERYBODY[-1])}


def options(peer: Peer, zarr_format: int) -> dict[str, Any]:
    return {} if peer.name == "zarr 2.18.7" else {"zarr_format": zarr_format}


def new_group(peer: Peer, store: Any, zarr_format: int) -> Any:
    return peer.library.open_group(store, mode="w", **options(peer, zarr_format))


def add(group: Any, name: str) -> Any:
    create = getattr(group, "create_array", None) or group.create_dataset
    return create(name, **ARRAY)


def checked(operation: Operation, expected: Callable[[Any], bool]) -> Operation:
    if not expected(operation()):
        raise AssertionError("the result is wrong: nothing to time here")
    return operation


# --- one node --------------------------------------------------------------------------------------


def one(zarr_format: int, what: str, where: str, peer: Peer, directory: Path) -> Operation:
    zarr, store = peer.library, peer.store(where, directory)
    group, numbers = new_group(peer, store, zarr_format), count()
    add(group, "a")
    operations: dict[str, Operation] = {
        "open a group": partial(zarr.open_group, store, mode="r"),
        "open an array": partial(zarr.open_array, store, path="a", mode="r"),
        "open an array of a group": lambda: group["a"],
        "create an array": lambda: add(group, f"new_{next(numbers)}"),
    }
    if what == "open a group":
        return checked(operations[what], lambda found: "a" in found)
    return checked(operations[what], lambda found: found.shape == (100, 100))


# --- 2,000 arrays in one group -----------------------------------------------------------------------


def fill(peer: Peer, store: Any, zarr_format: int) -> Any:
    group = new_group(peer, store, zarr_format)
    for name in NAMES:
        add(group, name)
    return group


@cache
def many(peer: Peer, zarr_format: int, *, consolidated: bool) -> Any:
    """Return a store with 2,000 arrays; kept as long as this process lives."""
    directory = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    store = peer.store("local", Path(directory))
    fill(peer, store, zarr_format)
    if consolidated:
        peer.library.consolidate_metadata(store, **options(peer, zarr_format))
    return store


def create_all(zarr_format: int, peer: Peer, directory: Path) -> Operation:
    numbers = count()
    create = lambda: fill(peer, peer.store("local", directory / str(next(numbers))), zarr_format)  # noqa: E731
    return checked(create, lambda group: NAMES[-1] in group)


def of_all(zarr_format: int, what: str, peer: Peer, directory: Path) -> Operation:
    zarr, known = peer.library, options(peer, zarr_format)
    store = many(peer, zarr_format, consolidated="consolidated" in what)
    plain = partial(zarr.open_group, store, mode="r", **(known and {"use_consolidated": False}))
    consolidated = partial(zarr.open_consolidated, store, mode="r")
    if what == "consolidate":
        consolidate = partial(zarr.consolidate_metadata, store, **known)
        return checked(consolidate, lambda group: NAMES[0] in group)
    if what == "open, consolidated":
        return checked(consolidated, lambda group: NAMES[0] in group)

    def each(group: Any) -> list[Any]:
        return [group[name] for name in NAMES]

    group = plain()
    operations: dict[str, Operation] = {
        "arrays()": lambda: list(group.arrays()),
        "names": lambda: list(group.keys()),
        "g[name] of each": lambda: each(group),
        "open and g[name] of each, consolidated": lambda: each(consolidated()),
    }
    return checked(operations[what], lambda found: len(found) == NUMBER)


ONE = ("open a group", "open an array", "open an array of a group", "create an array")
ALL = (
    "arrays()",
    "names",
    "g[name] of each",
    "consolidate",
    "open, consolidated",
    "open and g[name] of each, consolidated",
)
WORK: list[tuple[str, Callable[..., Operation], tuple[str, ...]]] = [
    *((f"{what}, {where}", one, (what, where)) for what in ONE for where in ("memory", "local")),
    ("2,000 arrays: create", create_all, ()),
    *((f"2,000 arrays: {what}", of_all, (what,)) for what in ALL),
]
# The rows of one node first, in both formats.
ROWS = {
    "groups": [
        Row(
            f"{name}, format {zarr_format}",
            partial(work, zarr_format, *args),
            PEERS_OF[zarr_format],
        )
        for many_ in (False, True)
        for zarr_format in (3, 2)
        for name, work, args in WORK
        if name.startswith("2,000") == many_
    ]
}
