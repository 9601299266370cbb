"""Arrays that other processes were given: what they write to one chunk is not lost."""

import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_core
from zarr_core.errors import ZarrRuntimeWarning
from zarr_core.storage import LocalStore, PrefixStore

WRITERS, EACH = 4, 30


def write(array: Any, first: int, batched: bool, barrier: Any) -> None:
    array = array["sub/a"] if isinstance(array, zarr_core.Group) else array
    barrier.wait()
    for number in range(first, first + EACH):
        if batched:
            with array.batch() as batch:
                batch[number] = number + 1
        else:
            array[number] = number + 1


@pytest.mark.parametrize("given", ["array", "group"])
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("shards", [None, (120,)])
def test_processes_lose_nothing_by_default(
    tmp_path: Path, shards: Any, batched: bool, given: str
) -> None:
    group = zarr_core.create_group(tmp_path)
    chunks = (120,) if shards is None else (10,)
    array = group.create_array("sub/a", shape=120, chunks=chunks, shards=shards, dtype="i4")
    node = array if given == "array" else group
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(WRITERS)
    workers = [
        context.Process(target=write, args=(node, EACH * number, batched, barrier))
        for number in range(WRITERS)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    np.testing.assert_array_equal(array[...], np.arange(1, 121))


def from_another_process(array: zarr_core.Array) -> zarr_core.Array:
    array._shared.travelled = True
    return pickle.loads(pickle.dumps(array))  # type: ignore[no-any-return]


def test_locking_is_for_handles_of_other_processes(tmp_path: Path) -> None:
    array = zarr_core.create_array(tmp_path, shape=4, chunks=(4,), dtype="i4")
    here = pickle.loads(pickle.dumps(array))
    assert here._current().space.lock_processes is False
    there = from_another_process(array)
    assert there._current().space.lock_processes == "auto"
    for lock in (True, False):
        chosen = there.with_config({"lock": lock})
        assert chosen._current().space.lock_processes is lock


def test_arrays_of_groups_of_other_processes_lock_too(tmp_path: Path) -> None:
    group = zarr_core.create_group(tmp_path)
    group.create_array("sub/a", shape=4, chunks=(4,), dtype="i4")
    with pytest.warns(zarr_core.errors.ZarrUserWarning, match="specification"):
        consolidated = group.consolidate()
    for before in (group, consolidated):
        assert pickle.loads(pickle.dumps(before))["sub/a"]._current().space.lock_processes is False
        before._travelled = True
        there = pickle.loads(pickle.dumps(before))
        sub = there["sub"]
        found = [there["sub/a"], sub["a"], *dict(sub.arrays()).values(), dict(sub.members())["a"]]
        found += [sub.create_array("a", shape=4, dtype="i4", overwrite=True)]
        found += [there.create_group("b", overwrite=True).zeros(name="z", shape=4)]
        assert [array._current().space.lock_processes for array in found] == ["auto"] * 6


class Plain(PrefixStore[LocalStore]):
    supports_conditional_writes = False  # type: ignore[assignment]


def test_a_store_without_conditional_writes_warns_once(tmp_path: Path) -> None:
    array = zarr_core.create_array(
        Plain(LocalStore(tmp_path), "a"), shape=4, chunks=(4,), dtype="i4"
    )
    there = from_another_process(array)
    there[...] = 1  # whole chunks need no lock
    with pytest.warns(ZarrRuntimeWarning, match="conditional writes"):
        there[0] = 2
    there[1] = 3  # warnings are errors in these tests
    assert there[...].tolist() == [2, 3, 1, 1]
