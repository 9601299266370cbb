"""dask on processes of its own: unaligned blocks lose nothing, partitions, and `rechunk` as its tasks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_core as zarr

da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.filterwarnings("ignore")  # of what dask imports


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    settings = {"n_workers": 2, "threads_per_worker": 2, "processes": True}
    with (
        distributed.LocalCluster(**settings, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.parametrize("shards", [None, (1000,)])
def test_unaligned_blocks_of_two_processes_lose_nothing(
    tmp_path: Path, client: Any, shards: Any
) -> None:
    array = zarr.create_array(
        tmp_path, shape=(10_000,), chunks=(100,) if shards else (1000,), shards=shards, dtype="i4"
    )
    blocks = da.arange(1, 10_001, chunks=37, dtype="i4")
    for _ in range(2):
        array[...] = 0
        da.store(blocks, array, lock=False)
        np.testing.assert_array_equal(array[...], np.arange(1, 10_001))


def double(array: zarr.Array, region: Any) -> None:
    array[region] = array[region] * 2


def test_partitions_are_written_at_once(tmp_path: Path, client: Any) -> None:
    array = zarr.create_array(tmp_path, data=np.arange(9999.0).reshape(101, 99), chunks=(10, 10))
    client.gather([client.submit(double, array, part) for part in zarr.partition(array, 16)])
    np.testing.assert_array_equal(array[...], 2 * np.arange(9999.0).reshape(101, 99))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_rechunk_as_tasks(tmp_path: Path, client: Any, zarr_format: Any) -> None:
    values = np.random.default_rng(0).integers(0, 9, (500, 400))
    source = zarr.create_array(tmp_path / "a", data=values, chunks=(1, 400))
    made = zarr.rechunk(
        source,
        tmp_path / "b",
        chunks=(500, 10),
        zarr_format=zarr_format,
        max_bytes=1_000_000,
        executor=client.get_executor(),
    )
    np.testing.assert_array_equal(made[...], values)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "b")[...], values)


def test_dask_as_the_source(tmp_path: Path, client: Any) -> None:
    blocks = da.arange(10_000, chunks=999).reshape(100, 100)
    made = zarr.rechunk(blocks, tmp_path, chunks=(7, 100))
    np.testing.assert_array_equal(made[...], np.arange(10_000).reshape(100, 100))
