"""Engines that work on arrays with many threads and processes: dask, and sessions of Icechunk."""

import asyncio
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_docs import ROOT, run_page

import zarr_core
from zarr_core.storage import from_zarr_store

DATA = np.arange(40 * 30, dtype="i4").reshape(40, 30)


@pytest.fixture
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        yield pool


def test_the_page_of_the_documentation(tmp_path: Path) -> None:
    pytest.importorskip("dask.array")
    pytest.importorskip("icechunk")
    assert run_page(ROOT / "docs" / "engines.md", tmp_path) == ""


# --- dask --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"chunks": (8, 7)}, {"chunks": (4, 5), "shards": (16, 15)}])
def test_dask_stores_blocks_that_share_chunks(tmp_path: Path, options: dict[str, Any]) -> None:
    da = pytest.importorskip("dask.array")
    source = da.from_array(DATA, chunks=(7, 9))  # no edge but the first is one of a chunk
    target = zarr_core.create_array(tmp_path / "a", shape=DATA.shape, dtype="i4", **options)
    for lock in (False, True):
        target[...] = -1
        da.store(source, target, lock=lock, scheduler="threads")
        assert (target[...] == DATA).all()
    locked = zarr_core.open_array(tmp_path / "a", config={"lock": True})
    locked[...] = -1
    da.store(source, locked, lock=False, scheduler="processes", num_workers=2)
    assert (target[...] == DATA).all()


def test_dask_reads_what_is_stored_under_one_key_at_once(tmp_path: Path) -> None:
    da = pytest.importorskip("dask.array")
    array = zarr_core.create_array(tmp_path / "a", data=DATA, chunks=(4, 5), shards=(16, 15))
    lazy = da.from_array(array, chunks=array.shards)
    assert lazy.chunks == ((16, 16, 8), (15, 15))
    assert (lazy[3:20, ::2].compute(scheduler="threads") == DATA[3:20, ::2]).all()
    total = lazy.sum(axis=0).compute(scheduler="processes", num_workers=2)
    assert (total == DATA.sum(axis=0)).all()
    other = da.from_array(array, chunks=array.shards)
    assert other.name == lazy.name  # the same data: what dask has computed is found again


# --- Icechunk ----------------------------------------------------------------------------------------


def repository_at(place: Path) -> Any:
    icechunk = pytest.importorskip("icechunk")
    return icechunk.Repository.open_or_create(icechunk.local_filesystem_storage(str(place)))


def write_rows(session: Any, first: int) -> Any:
    """Write a quarter of the rows in a forked session; return it."""
    array = zarr_core.open_group(from_zarr_store(session.store), mode="r+")["a"]
    array[first : first + 10] = DATA[first : first + 10]
    return session


def test_forked_sessions_are_merged(tmp_path: Path, processes: ProcessPoolExecutor) -> None:
    repository = repository_at(tmp_path)
    session = repository.writable_session("main")
    group = zarr_core.create_group(from_zarr_store(session.store))
    group.create_array("a", shape=DATA.shape, chunks=(5, 10), shards=(10, 30), dtype="i4")
    session.commit("empty")
    session = repository.writable_session("main")
    fork = session.fork()
    forks = list(processes.map(write_rows, [fork] * 4, range(0, 40, 10)))
    session.merge(*forks)
    snapshot = session.commit("filled")
    store = from_zarr_store(repository.readonly_session(snapshot_id=snapshot).store)
    assert (zarr_core.open_group(store, mode="r")["a"][...] == DATA).all()


def increment(store: Any) -> None:
    counter = zarr_core.open_group(store, mode="r+")["counter"]
    counter[...] = counter[...] + 1


def count_up(place: Path, times: int) -> None:
    from zarr_core.icechunk import commit

    for _ in range(times):
        commit(repository_at(place), increment, "one more")


def test_commits_of_processes_lose_nothing(tmp_path: Path, processes: ProcessPoolExecutor) -> None:
    repository = repository_at(tmp_path)
    from zarr_core.icechunk import commit

    def create(store: Any) -> None:
        zarr_core.create_group(store).create_array("counter", shape=(), dtype="i4")

    commit(repository, create, "begin")
    list(processes.map(count_up, [tmp_path] * 2, [6, 6]))
    store = from_zarr_store(repository.readonly_session("main").store)
    assert zarr_core.open_group(store, mode="r")["counter"][...] == 12


def test_a_commit_goes_on_with_what_others_have_changed(tmp_path: Path) -> None:
    icechunk = pytest.importorskip("icechunk")
    repository = repository_at(tmp_path)
    from zarr_core.icechunk import commit, commit_async

    def create(store: Any) -> None:
        group = zarr_core.create_group(store)
        group.create_array("counter", shape=(), dtype="i4")
        group.create_array("other", shape=(4,), chunks=(1,), dtype="i4")

    commit(repository, create, "begin")
    calls = []

    def interrupted(store: Any) -> None:
        calls.append(len(calls))
        increment(store)
        if len(calls) == 1:  # somebody changes the same
            commit(repository, increment, "in between")
        if len(calls) == 2:  # and something else
            commit(
                repository, lambda s: zarr_core.open_group(s)["other"].__setitem__(0, 5), "other"
            )

    commit(repository, interrupted, "interrupted")
    assert calls == [0, 1]
    group = zarr_core.open_group(
        from_zarr_store(repository.readonly_session("main").store), mode="r"
    )
    assert group["counter"][...] == 2
    assert group["other"][0] == 5

    def always(store: Any) -> None:
        increment(store)
        commit(repository, increment, "faster")

    with pytest.raises(icechunk.RebaseFailedError):
        commit(repository, always, "never", attempts=3)

    def failing(store: Any) -> None:
        increment(store)
        raise KeyError("mine")

    before = repository.lookup_branch("main")
    with pytest.raises(KeyError, match="mine"):
        commit(repository, failing, "never")
    assert repository.lookup_branch("main") == before
    snapshot = asyncio.run(commit_async(repository, increment, "awaited"))
    assert repository.lookup_branch("main") == snapshot
