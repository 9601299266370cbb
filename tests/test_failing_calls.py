"""Every call of a store may fail, and the process may end at any: what holds afterwards.

For each operation, the first call to the store fails, then the second, and so on, until there are
no more. A call fails before anything has happened, or after it (the answer is lost), or it is the last
that the process makes.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import pytest
from running import all_threads_are_idle, nobody_helps, nothing_is_requested, threads, until

import zarr_core as zarr
from zarr_core.copying import UNFINISHED
from zarr_core.errors import ContainsArrayError, ContainsGroupError, CopyError
from zarr_core.hierarchy.stored_nodes import read_node
from zarr_core.metadata import ArrayMetadata
from zarr_core.metadata.documents import DOCUMENTS
from zarr_core.storage import LatencyStore, MemoryStore, Store, StorePath
from zarr_core.storage.wrappers import OneByOneStore
from zarr_core.threads import key_locks

Values = dict[str, bytes]

CHANGES = {"set", "delete", "set_if_version", "set_each"}


class Failing(OneByOneStore[MemoryStore]):
    """A store of which one call fails; `how` is "before", "after" (the call), or "dead" (all later too)."""

    def __init__(self, store: MemoryStore, at: int = 0, how: str = "before") -> None:
        super().__init__(store)
        self.at, self.how = at, how
        self.calls = 0
        self.lock = threading.Lock()
        self.writes_pieces = True

    def _do(self, method: str, *args: Any, **kwargs: Any) -> Any:
        if method in ("prune", "links"):  # no requests
            return super()._do(method, *args, **kwargs)
        with self.lock:
            self.calls += 1
            fails = self.calls == self.at or (0 < self.at < self.calls and self.how == "dead")
        after = self.how == "after" and method in CHANGES
        if fails and not after:
            raise OSError(f"{method} failed")
        result = super()._do(method, *args, **kwargs)
        if fails:
            raise OSError(f"the answer of {method} was lost")
        return list(result) if method in ("list_prefix", "list_dir") else result

    def get_each(self, keys: Any) -> Any:
        return self._do("get_each", keys)

    def set_each(self, keys: Any, values: Any) -> None:
        self._do("set_each", keys, values)

    def open_writer(self, key: str, reserved: int = 0) -> Any:
        return FailingWriter(self, super().open_writer(key, reserved))


class FailingWriter:
    """A value that is written piece by piece; each call may fail."""

    def __init__(self, store: Failing, writer: Any) -> None:
        self.store, self.writer = store, writer
        self.abort = writer.abort

    def write(self, data: Any) -> None:
        self.store._do("exists", "piece")
        self.writer.write(data)

    def complete(self, start: bytes = b"") -> None:
        self.writer.complete(start)  # with `set`


# --- the operations --------------------------------------------------------------------------------

OLD = np.arange(1, 49, dtype="i4").reshape(8, 6)
NEW = -OLD
LAYOUTS: dict[str, dict[str, Any]] = {
    "2": {"zarr_format": 2, "chunks": (3, 2)},
    "3": {"zarr_format": 3, "chunks": (3, 2)},
    "raw": {"zarr_format": 3, "chunks": (3, 2), "compressors": None},
    "sharded": {"zarr_format": 3, "chunks": (3, 1), "shards": (3, 2)},
}
LAYOUTS |= {f"{name}, consolidated": LAYOUTS[name] for name in "23"}
FOREIGN = dict.fromkeys(
    ("notes.txt", "a/readme", "a/c/x", "g/data.bin", "a/c/0/0.bak", "a/0.0.bak"), b"somebody else's"
)


@cache
def prepared(layout: str) -> Values:
    """Return what is stored before an operation: a group with an array and a group with another."""
    values: Values = dict(FOREIGN)
    options = LAYOUTS[layout]
    root = zarr.create_group(values, zarr_format=options["zarr_format"], attributes={"n": 1})
    root.create_group("g", attributes={"n": 1})
    for name in ("a", "g/b"):
        zarr.create_array(
            values,
            name=name,
            data=OLD if name == "a" else OLD + 100,
            attributes={"n": 1},
            fill_value=0,
            **options,
        )
    if "consolidated" in layout:
        zarr.consolidate_metadata(values)
    return values


class Subject(NamedTuple):
    """What an operation works on; `a` is an array, if it still exists."""

    store: Store
    root: zarr.Group
    a: Any
    layout: str

    @property
    def options(self) -> dict[str, Any]:
        return LAYOUTS[self.layout]

    @property
    def in_group(self) -> dict[str, Any]:
        return {name: value for name, value in self.options.items() if name != "zarr_format"}

    @property
    def zarr_format(self) -> Any:
        return self.options["zarr_format"]


def subject(values: Values, layout: str, *, slow: bool = False) -> tuple[Subject, Failing]:
    failing = Failing(MemoryStore(values))
    store: Any = LatencyStore(failing) if slow else failing
    root = zarr.open_group(store, use_consolidated=None)
    return Subject(store, root, root.get("a"), layout), failing


def in_batch(s: Subject) -> None:
    with s.a.batch() as batch:
        batch[1:5, 1:5] = NEW[1:5, 1:5]
        batch[6, 0] = NEW[6, 0]


def in_pieces(change: "Operation") -> "Operation":
    """Return an operation that writes all shards piece by piece."""

    def run(s: Subject) -> object:
        with zarr.config.set({"array.shard_stream_bytes": 0}):
            return change(s)

    return run


def hierarchy(s: Subject) -> object:
    known = zarr.open_group(dict(prepared(s.layout)))
    nodes = {"a": known["a"].metadata, "g": known["g"].metadata}
    return list(s.root.create_hierarchy(nodes, overwrite=True))


Operation = Callable[[Subject], object]

MASK = OLD % 5 == 0
ROWS, COLUMNS = [1, 5, 2], [0, 3]

# After the first error a value is the old one or the new one; the same call again does the rest.
CHANGING: dict[str, Operation] = {
    "basic": lambda s: s.a.__setitem__((slice(1, 7), slice(1, 5)), NEW[1:7, 1:5]),
    "all": lambda s: s.a.__setitem__(..., NEW),
    "one element": lambda s: s.a.__setitem__((4, 3), 7),
    "fill value": lambda s: s.a.__setitem__((slice(0, 4), slice(0, 3)), 0),
    "strided": lambda s: s.a.__setitem__((slice(None, None, 3), slice(None, None, -2)), 9),
    "orthogonal": lambda s: s.a.oindex.__setitem__((ROWS, COLUMNS), NEW[np.ix_(ROWS, COLUMNS)]),
    "coordinates": lambda s: s.a.vindex.__setitem__((ROWS, [0, 3, 5]), [7, 8, 9]),
    "mask": lambda s: s.a.set_mask_selection(MASK, NEW[MASK]),
    "block": lambda s: s.a.set_block_selection((1, slice(0, 2)), NEW[3:6, 0:4]),
    "write_chunk": lambda s: s.a.write_chunk((0, 0), NEW[:3, :2]),
    "delete_chunk": lambda s: s.a.delete_chunk((0, 0)),
    "write_many": lambda s: zarr.write_many(
        [(s.a, slice(2, 4), 7), (s.root["g/b"], slice(1, 6), NEW[1:6]), (s.a, (4, 3), 8)]
    ),
    "batch": in_batch,
    "batch in pieces": in_pieces(in_batch),
    "all in pieces": in_pieces(lambda s: s.a.__setitem__(..., NEW)),
    "basic in pieces": in_pieces(lambda s: s.a.__setitem__((slice(1, 7), slice(1, 5)), 9)),
    "attributes": lambda s: s.a.attrs.update(n=2),
    "attributes of a group": lambda s: s.root["g"].attrs.update(n=2),
    "grow": lambda s: s.a.resize((10, 7)),
    "shrink": lambda s: s.a.resize((4, 6)),
    "shrink and grow": lambda s: s.a.resize((4, 9)),
    "convert": lambda s: zarr.convert(s.store, zarr_format=3, remove_old=True),
    "consolidate": lambda s: zarr.consolidate_metadata(s.store),
}

# In between, keys are missing too.
REPLACING: dict[str, Operation] = {
    "overwrite": lambda s: s.root.create_array(
        "a", data=NEW.astype("i2"), overwrite=True, **s.in_group
    ),
    "overwrite without data": lambda s: zarr.create_array(
        s.store,
        name="a",
        shape=(5, 7),
        dtype="f8",
        overwrite=True,
        attributes={"n": 2},
        **s.options,
    ),
    "overwrite in the other format": lambda s: zarr.create_array(
        s.store, name="a", data=NEW, overwrite=True, zarr_format=5 - s.zarr_format
    ),
    "overwrite by a group": lambda s: zarr.create_group(
        s.store, path="a", overwrite=True, zarr_format=s.zarr_format
    ),
    "overwrite a group": lambda s: zarr.create_array(
        s.store, name="g", data=NEW, overwrite=True, **s.options
    ),
    "mode w": lambda s: zarr.open_array(
        s.store, path="a", mode="w", shape=(4, 4), zarr_format=s.zarr_format
    ),
    "save": lambda s: zarr.save_array(s.store, NEW, path="a", overwrite=True),
    "save group": lambda s: zarr.save_group(s.store, path="g", b=NEW, c=OLD),
    "assign": lambda s: s.root.__setitem__("a", NEW),
    "copy over": lambda s: zarr.copy(s.root["g/b"], s.root, name="a", if_exists="replace"),
    "create_hierarchy": hierarchy,
    "delete": lambda s: s.root.__delitem__("a"),
    "delete a group": lambda s: s.root.__delitem__("g"),
}

# Refuse what is there already, which may be what the first attempt made, unless they may replace it.
CREATING: dict[str, Callable[[Subject, bool], object]] = {
    "create": lambda s, replace: zarr.create_array(
        s.store,
        name="new/x",
        shape=(5, 7),
        dtype="f8",
        attributes={"n": 2},
        overwrite=replace,
        **s.options,
    ),
    "create with data": lambda s, replace: s.root.create_array(
        "g/new", data=NEW, overwrite=replace, **s.in_group
    ),
    "create_group": lambda s, replace: s.root.create_group(
        "new/x", attributes={"n": 2}, overwrite=replace
    ),
    "from_array": lambda s, replace: zarr.from_array(
        s.store, data=s.a, name="new", overwrite=replace
    ),
    "rechunk": lambda s, replace: zarr.rechunk(s.a, s.store, name="new", chunks=(4, 4)),
    "convert to": lambda s, replace: zarr.convert(
        StorePath(s.store, "g"), StorePath(s.store, "new"), zarr_format=5 - s.zarr_format
    ),
    "copy": lambda s, replace: zarr.copy(
        s.root["g"], s.root, name="new", if_exists="replace" if replace else "raise"
    ),
    "copy_all": lambda s, replace: zarr.copy_all(
        s.root["g"], s.root.require_group("new"), if_exists="replace" if replace else "raise"
    ),
    "copy_store": lambda s, replace: zarr.copy_store(
        s.store, s.store, "g", "new", if_exists="replace" if replace else "raise"
    ),
}


# --- what holds afterwards -------------------------------------------------------------------------


def attempts(
    operation: Operation, layout: str, *, slow: bool
) -> Iterator[tuple[str, Subject, Values]]:
    """Do an operation again and again, until no call is left that could fail.

    Yield how it failed, what it worked on, with a store that works again, and what is stored then.
    """
    for first in HOWS if EVERYTHING else HOWS[:1]:
        for at in range(1, 1000, 1 if EVERYTHING else 2):
            how = first if EVERYTHING else HOWS[(at + len(layout)) % 3]
            values = dict(prepared(layout))
            known, failing = subject(values, layout, slow=slow)
            failing.calls, failing.at, failing.how = 0, at, how
            try:
                operation(known)
            except OSError as error:
                del error
            else:
                break
            assert failing.calls >= at
            failing.at = 0
            check_nothing_is_left()
            assert FOREIGN.items() <= values.items()
            yield how, known, values
        else:
            raise AssertionError("too many calls")
        assert failing.calls < at, "an error was not raised"
        assert at > 1


def result_of(operation: Operation, layout: str) -> Values:
    """Return what is stored after an operation that did not fail."""
    values = dict(prepared(layout))
    operation(subject(values, layout)[0])
    assert values != prepared(layout)
    return values


def said(key: str, value: bytes | None) -> Any:
    """Return what a value says, but for the attribute of copies that are not finished."""
    if value is None or key.rpartition("/")[2] not in DOCUMENTS:
        return value
    document = json.loads(value)
    for attributes in (document, document.get("attributes", {})):
        attributes.pop(UNFINISHED, None)
    return document


def check_values(before: Values, after: Values, now: Values, *, missing: bool) -> None:
    """Each key has the old value or the new one, or none if it may be `missing` in between."""
    for key in before.keys() | after.keys() | now.keys():
        allowed = [said(key, values.get(key)) for values in (before, after)]
        found = said(key, now.get(key))
        assert found in allowed or (missing and found is None), key


def nodes(values: Values) -> dict[str, zarr.Array | zarr.Group]:
    """Return what there is to be found, by its document."""
    found: dict[str, zarr.Array | zarr.Group] = {}
    for key in values:
        path, _, name = key.rpartition("/")
        if name in ("zarr.json", ".zarray", ".zgroup"):
            place = StorePath(MemoryStore(values), path)
            metadata = read_node(place, 3 if name == "zarr.json" else 2)
            assert metadata is not None
            is_array = isinstance(metadata, ArrayMetadata)
            found[key] = zarr.Array(metadata, place) if is_array else zarr.Group(metadata, place)
    return found


def check_nodes(before: Values, after: Values, now: Values) -> None:
    """Documents are old or new, and arrays show at every place what was, what should be, or fill."""
    old, new = nodes(before), nodes(after)
    for key, node in nodes(now).items():
        known = [all_nodes[key] for all_nodes in (old, new) if key in all_nodes]
        documents = [other.metadata.to_dict() for other in known]
        if node.metadata.zarr_format == 2:  # its attributes have a key of their own
            documents += [document | {"attributes": {}} for document in documents]
        found = node.metadata.to_dict()
        found["attributes"].pop(UNFINISHED, None)
        assert found in documents, key
        if isinstance(node, zarr.Array):
            values = node[...]
            allowed = values == node.fill_value
            for other in known:
                if isinstance(other, zarr.Array):
                    both = tuple(slice(min(n)) for n in zip(node.shape, other.shape, strict=True))
                    allowed[both] |= values[both] == other[both]
            assert allowed.all(), key


def alone(values: Values) -> Values:
    """Return what is stored without the group that may have consolidated metadata."""
    return {key: value for key, value in values.items() if key not in ("zarr.json", ".zmetadata")}


def check_nothing_is_left() -> None:
    """No request runs, no thread helps, and no key is locked."""
    until(lambda: nothing_is_requested() and nobody_helps() and all_threads_are_idle())
    locks = [lock for ref in [*key_locks._table.locks.values()] if (lock := ref()) is not None]
    if locks:  # those that are kept alive by the traceback of an error
        held: list[Any] = []
        with threads(lambda: held.extend(lock.key for lock in locks if not lock.acquire(False))):
            pass
        assert held == []


HOWS = ("before", "after", "dead")
EVERYTHING = bool(os.environ.get("ZARR_CORE_STRESS"))
"""Everything (`nox -s stress`), or each operation in one layout, every other call failing in one way?"""


PIECES = dict.fromkeys([name for name in CHANGING if "in pieces" in name], "sharded")
ONLY = {**PIECES, "convert": "2", "consolidate": "3"}
"""Layouts of operations that do nothing else, or the same as others, with the rest."""


def cases(operations: dict[str, Any]) -> Any:
    """Parametrize a test by operations, layouts, and whether requests are overlapped."""
    found = [
        (name, layout, slow)
        for number, name in enumerate(operations)
        for turn, layout in enumerate(LAYOUTS)
        for slow in (False, True)
        if (layout == ONLY[name] if name in ONLY else EVERYTHING or turn == number % len(LAYOUTS))
        and (EVERYTHING or slow == (number % 5 == 0))
    ]
    return pytest.mark.parametrize(("name", "layout", "slow"), found)


pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata is currently")


@cases(CHANGING)
def test_values_are_old_or_new(name: str, layout: str, slow: bool) -> None:
    before, after = prepared(layout), result_of(CHANGING[name], layout)
    for _, known, now in attempts(CHANGING[name], layout, slow=slow):
        check_values(before, after, now, missing=False)
        check_nodes(before, after, now)
        CHANGING[name](known)
        assert now == after


@cases(REPLACING)
def test_what_is_replaced_is_old_or_missing_or_new(name: str, layout: str, slow: bool) -> None:
    before, after = prepared(layout), result_of(REPLACING[name], layout)
    for _, _, now in attempts(REPLACING[name], layout, slow=slow):
        check_values(before, after, now, missing=True)
        check_nodes(before, after, now)
        if now != after:
            REPLACING[name](subject(now, layout)[0])
            assert now == after


@cases(CREATING)
def test_what_is_created_is_missing_or_new(name: str, layout: str, slow: bool) -> None:
    def create(known: Subject, replace: bool = False) -> object:
        return CREATING[name](known, replace)

    before, after = prepared(layout), result_of(create, layout)
    for _, known, now in attempts(create, layout, slow=slow):
        # Consolidated metadata are written after each node.
        check_values(*map(alone, (before, after, now)), missing=True)
        assert alone(before).items() <= now.items()
        check_nodes(before, after, now)
        try:
            create(known)
        except (ContainsArrayError, ContainsGroupError, CopyError):
            create(known, replace=True)
        assert now == after


@cases({"move": None, "move again": None})
def test_what_is_moved_is_in_one_place_at_least(name: str, layout: str, slow: bool) -> None:
    before = prepared(layout)
    after = result_of(move := lambda s: s.root.move("g", "new"), layout)
    old = alone(before).items() - after.items()
    new = alone(after).items() - before.items()
    for _, _, now in attempts(move, layout, slow=slow):
        check_values(before, after, now, missing=True)
        check_nodes(before, after, now)
        assert old <= now.items() or new <= now.items()


@pytest.mark.parametrize("axis", [0, 1])
@cases({"append": None, "append again": None})
def test_what_is_appended_is_taken_back(name: str, layout: str, slow: bool, axis: int) -> None:
    def append(known: Subject) -> object:
        return known.a.append(NEW[:5] if axis == 0 else NEW[:, :3], axis=axis)

    before, after = prepared(layout), result_of(append, layout)
    document = "a/.zarray" if "2" in layout else "a/zarr.json"
    for how, known, now in attempts(append, layout, slow=slow):
        check_values(before, after, now, missing=False)
        check_nodes(before, after, now)
        if now[document] == before[document]:
            assert now == before
            append(known)
            assert now == after
        else:  # a store that fails altogether, or does not tell that it has stored the new shape
            assert how != "before"
            append(known)
            array = zarr.open_array(MemoryStore(now), path="a")
            last = array[-5:] if axis == 0 else array[:, -3:]
            np.testing.assert_array_equal(last, NEW[:5] if axis == 0 else NEW[:, :3])


def test_attributes_of_a_call_that_failed_are_nobodys() -> None:
    values = dict(prepared("2"))
    known, failing = subject(values, "2")
    create = partial(known.root.create_array, "new", shape=3, dtype="i4")
    failing.calls, failing.at, failing.how = 0, 7, "dead"
    with pytest.raises(OSError, match="failed"):
        create(attributes={"n": 2})
    failing.at = 0
    assert "new/.zattrs" in values
    assert "new" not in known.root
    assert not create().attrs
    assert not known.root["new"].attrs
