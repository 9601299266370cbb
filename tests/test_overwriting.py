"""Creating and overwriting: nothing is lost by a call that fails, and one of several creates."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import from_threads

import zarr_core as zarr
from zarr_core.errors import (
    ContainsArrayError,
    ContainsGroupError,
    InvalidKeyError,
    ReadOnlyError,
)
from zarr_core.storage import (
    LatencyStore,
    LocalStore,
    LoggingStore,
    MemoryStore,
    PrefixStore,
    Store,
    ZipStore,
)

DATA = np.arange(10, dtype="i4")
KINDS = ("memory", "local", "zip", "fsspec", "object", "prefix", "logging", "slow")
FORMATS = pytest.mark.parametrize("layout", ["2", "3", "sharded"])


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return make_store(request.param, tmp_path)


def make_store(kind: str, path: Path) -> Store:
    match kind:
        case "local":
            return LocalStore(path / "d")
        case "zip":
            return ZipStore(path / "d.zip", mode="w")
        case "fsspec":
            pytest.importorskip("fsspec")
            return zarr.storage.FsspecStore.from_url(f"memory://{path.name}-{id(path)}")
        case "object":
            obstore = pytest.importorskip("obstore")
            return zarr.storage.ObjectStore(obstore.store.MemoryStore())
        case "prefix":
            return PrefixStore(MemoryStore(), "below/here")
        case "logging":
            return LoggingStore(MemoryStore())
        case "slow":
            return LatencyStore(MemoryStore())
    return MemoryStore()


def fill(store: Any, layout: str) -> zarr.Group:
    """Return a group with the array `g/a`."""
    group = zarr.create_group(store, zarr_format=2 if layout == "2" else 3)
    shards = {"shards": (4,)} if layout == "sharded" else {}
    group.create_group("g").create_array("a", data=DATA, chunks=(2,), **shards)
    return group


ONTO_ITSELF: dict[str, Callable[[zarr.Group, zarr.Array], Any]] = {
    "create_array": lambda g, a: g.create_array("g/a", data=a, overwrite=True),
    "the group above": lambda g, a: g.create_array("g", data=a, overwrite=True),
    "setitem": lambda g, a: g.__setitem__("g/a", a),
    "from_array": lambda g, a: zarr.from_array(g.store, name="g/a", data=a, overwrite=True),
    "save_array": lambda g, a: zarr.save_array(g.store, a, path="g/a", overwrite=True),
    "save_group": lambda g, a: zarr.save_group(g.store, b=a, c=a),
    "save": lambda g, a: zarr.save(g.store, a, path="g/a"),
    "array": lambda g, a: zarr.array(a, store=g.store, path="g/a", mode="w"),
    "open_array": lambda g, a: zarr.open_array(
        g.store, path="g/a", mode="w", data=a, shape=a.shape
    ),
    "copy": lambda g, a: zarr.copy(a, g["g"], name="a", if_exists="replace"),
    "copy above": lambda g, a: zarr.copy(a, g, name="g", if_exists="replace"),
    "copy of a group": lambda g, a: zarr.copy(g["g"], g, name="g", if_exists="replace"),
    "copy_all": lambda g, a: zarr.copy_all(g["g"], g["g"], if_exists="replace"),
    "config": lambda g, a: g.create_array(
        "g/a", data=a.with_config({"order": "F"}), overwrite=True
    ),
    "awaited": lambda g, a: g.create_array("g/a", data=a.async_array, overwrite=True),
    "read-only": lambda g, a: g.create_array(
        "g/a",
        data=zarr.Array(a.metadata, zarr.storage.StorePath(a.store.with_read_only(True), a.path)),
        overwrite=True,
    ),
    "logged": lambda g, a: g.create_array(
        "g/a",
        data=zarr.Array(a.metadata, zarr.storage.StorePath(LoggingStore(a.store), a.path)),
        overwrite=True,
    ),
    "below a prefix": lambda g, a: g.create_array(
        "g/a", data=zarr.Array(a.metadata, PrefixStore(a.store, "g/a")), overwrite=True
    ),
    "to a prefix": lambda g, a: zarr.create_array(
        PrefixStore(a.store, "g"), data=a, overwrite=True
    ),
}


@FORMATS
@pytest.mark.parametrize("name", ONTO_ITSELF)
def test_data_that_would_be_removed_is_not_a_source(store: Store, layout: str, name: str) -> None:
    group = fill(store, layout)
    array = group.get_array("g/a")
    with pytest.raises(ValueError):
        ONTO_ITSELF[name](group, array)
    np.testing.assert_array_equal(group["g/a"][...], DATA)


def test_one_directory_by_two_names(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "a", data=DATA)
    os.symlink(tmp_path / "a", tmp_path / "b")
    linked = zarr.open_array(tmp_path / "b")
    for path in (tmp_path / "a", tmp_path / "b", tmp_path):
        with pytest.raises(ValueError, match="would be overwritten"):
            zarr.create_array(path, data=array, overwrite=True)
        with pytest.raises(ValueError, match="would be overwritten"):
            zarr.create_array(path, data=linked, overwrite=True)
    np.testing.assert_array_equal(array[...], DATA)


def test_sources_elsewhere_are_fine(store: Store) -> None:
    group = fill(store, "3")
    zarr.copy(group["g"], group, name="gg")
    group.create_array("gg/a", data=group["g/a"], overwrite=True)
    group.create_array("g/a", data=group["g/a"], overwrite=True, write_data=False)
    assert not group["g/a"][...].any()
    np.testing.assert_array_equal(group["gg/a"][...], DATA)


REFUSED: dict[str, tuple[type[Exception], Callable[[Any], Any]]] = {
    "object": (
        ValueError,
        lambda s: zarr.save_group(s, a=DATA, b=np.array([object()], object)),
    ),
    "text": (TypeError, lambda s: zarr.save_group(s, a=DATA, b="text")),
    "setting": (TypeError, lambda s: zarr.save(s, DATA, mode="w")),
    "switch": (TypeError, lambda s: zarr.save(s, DATA, overwrite=True)),
    "twice": (TypeError, lambda s: zarr.save_group(s, DATA, arr_0=DATA)),
    "array in array": (ValueError, lambda s: zarr.save_group(s, **{"a": DATA, "a/b": DATA})),
    "name": (ValueError, lambda s: zarr.save_group(s, **{"a": DATA, "zarr.json": DATA})),
    "masked": (
        ValueError,
        lambda s: zarr.save_group(s, a=DATA, b=np.ma.array([1, 2], mask=[0, 1])),
    ),
    "saved again": (ContainsGroupError, lambda s: zarr.save(s, DATA)),
    "save_array": (ContainsArrayError, lambda s: zarr.save_array(s, DATA, path="g/a")),
    "mode r": (ReadOnlyError, lambda s: zarr.create(shape=3, store=s, mode="r")),
    "mode r, overwrite": (
        ReadOnlyError,
        lambda s: zarr.create(shape=3, store=s, mode="r", overwrite=True),
    ),
    "mode w-": (ValueError, lambda s: zarr.create(shape=3, store=s, mode="w-", overwrite=True)),
    "w- alone": (
        ContainsArrayError,
        lambda s: zarr.create(shape=3, store=s, path="g/a", mode="w-"),
    ),
    "masked data": (
        ValueError,
        lambda s: zarr.create_array(s, data=np.ma.array([1], mask=[1]), overwrite=True),
    ),
    "read-only": (
        ReadOnlyError,
        lambda s: zarr.create_array(s.with_read_only(True), data=DATA, overwrite=True),
    ),
}


@FORMATS
@pytest.mark.parametrize("name", REFUSED)
def test_nothing_is_removed_by_a_call_that_fails(store: Store, layout: str, name: str) -> None:
    group = fill(store, layout)
    before = sorted(store.list())
    error, call = REFUSED[name]
    with pytest.raises(error):
        call(store)
    assert sorted(store.list()) == before
    np.testing.assert_array_equal(group["g/a"][...], DATA)


def test_nothing_is_created_with_mode_r(store: Store) -> None:
    with pytest.raises(ReadOnlyError):
        zarr.create(shape=3, store=store, mode="r")
    assert store.is_empty()


def test_saving_says_whether_it_replaces() -> None:
    store: dict[str, Any] = {}
    zarr.save(store, DATA)
    zarr.save_array(store, DATA + 1, overwrite=True)
    zarr.save_array(store, DATA + 2, mode="w")
    np.testing.assert_array_equal(zarr.load(store), DATA + 2)
    zarr.save_group(store, a=DATA, b=[1, 2])
    zarr.save_group(store, c=DATA)
    assert list(zarr.load(store)) == ["c"]


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"])
def test_names_of_documents_are_no_names_of_nodes(name: str) -> None:
    store = MemoryStore()
    group = zarr.create_group(store)
    group.create_array("a", data=DATA)
    before = sorted(store.list())
    calls: list[Callable[[], Any]] = [
        lambda: group.create_group(name),
        lambda: group.create_array(f"x/{name}/y", data=DATA),
        lambda: group.require_group(name),
        lambda: group.zeros(name=name, shape=3),
        lambda: group.move("a", name),
        lambda: group.create_hierarchy({name: group.metadata}),
        lambda: zarr.create_array(store, name=name, data=DATA),
        lambda: zarr.create_group(store, path=name),
        lambda: zarr.create_hierarchy(store=store, nodes={name: group.metadata}),
        lambda: zarr.save(store, DATA, path=name),
        lambda: zarr.copy(group["a"], group, name=name),
    ]
    for call in calls:
        with pytest.raises(InvalidKeyError, match="metadata document"):
            call()
    assert sorted(store.list()) == before


# --- several at the same time ----------------------------------------------------------------------


def at_once(count: int, call: Callable[[int], Any]) -> list[Any]:
    """Return what calls in several threads, begun together, have returned or raised."""
    barrier, results = threading.Barrier(count), [None] * count

    def run(number: int) -> None:
        barrier.wait()
        try:
            results[number] = call(number)
        except Exception as error:  # noqa: BLE001 - it is looked at
            results[number] = error

    from_threads(run, count)
    return results


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_one_thread_of_several_creates(store: Store, zarr_format: Any) -> None:
    for round_ in range(8):
        found = at_once(
            4,
            lambda n, path=f"a{round_}": zarr.create_array(
                store,
                name=path,
                shape=(n,),
                dtype="i4",
                zarr_format=zarr_format,
                attributes={"n": n},
            ),
        )
        made = [a for a in found if isinstance(a, zarr.Array)]
        assert len(made) == 1, found
        assert sum(isinstance(a, ContainsArrayError) for a in found) == 3, found
        stored = zarr.open_array(store, path=f"a{round_}", zarr_format=zarr_format)
        assert stored.shape == made[0].shape
        assert stored.attrs["n"] == stored.shape[0]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_opened_or_created_by_several_threads(store: Store, zarr_format: Any) -> None:
    root = zarr.create_group(store, zarr_format=zarr_format)

    def use(n: int) -> None:
        zarr.open_group(store, path="g", mode="a", zarr_format=zarr_format).attrs[str(n)] = n
        zarr.open_array(store, path="a", mode="a", shape=3, zarr_format=zarr_format).attrs[
            str(n)
        ] = n
        root.require_group("r").attrs[str(n)] = n
        root.require_array("q", shape=3).attrs[str(n)] = n

    assert at_once(4, use) == [None] * 4
    for name in "garq":
        assert sorted(root[name].attrs) == list("0123"), name


PROGRAM = """
import sys
import zarr_core as zarr
path, number, zarr_format = sys.argv[1], sys.argv[2], int(sys.argv[3])
for k in range(10):
    group = zarr.open_group(f"{path}/{k}", mode="a", zarr_format=zarr_format)
    group.attrs[number] = k
"""


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_opened_or_created_by_several_processes(tmp_path: Path, zarr_format: Any) -> None:
    package = str(Path(zarr.__file__).parent.parent)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path), str(n), str(zarr_format)],
            env={**os.environ, "PYTHONPATH": package},
        )
        for n in range(4)
    ]
    assert [process.wait() for process in running] == [0] * 4
    for k in range(10):
        assert sorted(zarr.open_group(tmp_path / str(k), mode="r").attrs) == list("0123")


# --- masks -----------------------------------------------------------------------------------------

MASKED = np.ma.array([1, 2, 3], mask=[0, 1, 1])


def in_batch(array: zarr.Array, value: Any) -> None:
    with array.batch() as batch:
        batch[:3] = value


WRITES: dict[str, Callable[[zarr.Array, Any], Any]] = {
    "setitem": lambda a, v: a.__setitem__(slice(3), v),
    "all": lambda a, v: a.__setitem__(slice(0, 3, 1), list(v)),
    "setitem()": lambda a, v: a.setitem(slice(3), v),
    "orthogonal": lambda a, v: a.set_orthogonal_selection([0, 1, 2], v),
    "coordinates": lambda a, v: a.set_coordinate_selection([0, 1, 2], v),
    "mask": lambda a, v: a.set_mask_selection(np.arange(10) < 3, v),
    "blocks": lambda a, v: a.set_block_selection(0, v),
    "chunk": lambda a, v: a.write_chunk((0,), v),
    "append": lambda a, v: a.append(v),
    "write_many": lambda a, v: zarr.write_many([(a, slice(3), v)]),
    "batch": in_batch,
}


@pytest.mark.parametrize("name", WRITES)
def test_masks_are_not_lost_in_writing(name: str) -> None:
    array = zarr.create_array({}, data=DATA, chunks=(3,))
    with pytest.raises(ValueError, match="masked"):
        WRITES[name](array, MASKED)
    np.testing.assert_array_equal(array[...], DATA)
    WRITES[name](array, np.ma.array([1, 2, 3]))


CREATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "array": lambda s, v: zarr.array(v, store=s),
    "create": lambda s, v: zarr.create(store=s, data=v),
    "create_array": lambda s, v: zarr.create_array(s, data=v),
    "from_array": lambda s, v: zarr.from_array(s, data=v),
    "save": zarr.save,
    "full": lambda s, v: zarr.full(3, v[1], dtype="i4", store=s),
    "fill_value": lambda s, v: zarr.create_array(s, shape=3, dtype="i4", fill_value=v[2]),
}


@pytest.mark.parametrize("name", CREATIONS)
def test_masks_are_not_lost_in_creating(name: str) -> None:
    store: dict[str, Any] = {}
    with pytest.raises(ValueError, match=r"masked.*filled"):
        CREATIONS[name](store, MASKED)
    assert not store
    CREATIONS[name](store, np.ma.array([1, 2, 3]))


def test_the_error_counts_what_is_masked() -> None:
    with pytest.raises(ValueError, match=r"2 of 3 elements are masked.*\.filled\(value\)"):
        zarr.array(MASKED)
    records = np.ma.array([(1, 2), (3, 4)], dtype="i4,i4", mask=[(0, 1), (0, 0)])
    with pytest.raises(ValueError, match="1 of 2"):
        zarr.array(records)
    assert zarr.array(records[1:])[0].item() == (3, 4)
    assert zarr.array(records[:0]).shape == (0,)
    assert zarr.array(MASKED[:1]).shape == (1,)


# --- append and resize -----------------------------------------------------------------------------


class Full(zarr.storage.WrapperStore[MemoryStore]):
    """A store that takes no more than some chunks."""

    left = 1 << 30

    def set(self, key: str, value: Any) -> None:
        if "zarr.json" not in key and ".z" not in key:
            self.left -= 1
            if self.left < 0:
                raise OSError("no space left")
        self._store.set(key, value)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_append_that_fails_takes_its_length_back(zarr_format: Any) -> None:
    store = Full(MemoryStore())
    array = zarr.create_array(store, data=DATA, chunks=(4,), zarr_format=zarr_format)
    store.left = 2
    with pytest.raises(OSError, match="no space"):
        array.append(np.arange(100, dtype="i4"))
    assert array.shape == zarr.open_array(store).shape == (10,)
    np.testing.assert_array_equal(array[...], DATA)
    store.left = 1 << 30
    array.append([7])
    np.testing.assert_array_equal(array[...], [*DATA, 7])
    array.resize(30)
    assert not array[11:].any()


def test_a_failing_append_leaves_what_others_appended() -> None:
    store = Full(MemoryStore())
    array = zarr.create_array(store, data=DATA, chunks=(4,))
    other = zarr.open_array(store)

    def between(key: str, value: Any) -> None:
        if "zarr.json" not in key:
            store.set = type(store).set.__get__(store)  # type: ignore[method-assign]
            other.append([5])
            raise OSError("no space left")
        type(store).set(store, key, value)

    store.set = between  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no space") as caught:
        array.append([1, 2])
    assert "(12,)" in caught.value.__notes__[-1]
    np.testing.assert_array_equal(zarr.open_array(store)[...], [*DATA, 0, 0, 5])


def test_resize_takes_one_shape() -> None:
    array = zarr.create_array({}, data=DATA)
    for arguments in ((5, 0), (5, False), ((5,), True)):
        with pytest.raises(TypeError, match="one shape"):
            array.resize(*arguments)
    array.resize(5, delete_outside_chunks=False)
    assert array.shape == (5,)


# --- bytes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore:The data type")
def test_arrays_of_bytes_are_copied(zarr_format: Any) -> None:
    array = zarr.create_array({}, shape=3, dtype=bytes, zarr_format=zarr_format)
    array[:2] = [b"xy", b"\0"]
    group = zarr.create_group({}, zarr_format=zarr_format)
    zarr.copy(array, group, name="copy")
    group["set"] = array
    zarr.save_group(saved := {}, a=array)
    for made in (
        zarr.from_array({}, data=array),
        zarr.from_array({}, data=array, zarr_format=5 - zarr_format),
        zarr.create_array({}, data=array),
        zarr.array(array),
        group["copy"],
        group["set"],
        zarr.open_group(saved)["a"],
    ):
        assert made[...].tolist() == [b"xy", b"\0", b""]
    for like in (zarr.empty_like, zarr.zeros_like, zarr.full_like):
        assert like(array)[...].tolist() == [b""] * 3
