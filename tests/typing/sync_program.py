# pyright: strict
"""A user's program without await; both type checkers must accept it as it is."""

from pathlib import Path
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import zarr_core as zarr


def write(place: Path) -> zarr.Array:
    array = zarr.create_array(
        place,
        shape=(100, 100),
        chunks=(10, 10),
        shards=None,
        dtype="float32",
        fill_value=0,
        dimension_names=["y", None],
        attributes={"units": "m", "levels": [1, 2.5, None]},
        overwrite=True,
    )
    assert_type(array, zarr.Array)
    array[0] = 1
    array[1:3, ::2] = np.ones((2, 50))
    array.oindex[[1, 2], :] = 3
    array.vindex[[1, 2], [3, 4]] = [5, 6]
    array.blocks[0, 1] = 7
    array.attrs["more"] = {"nested": True}
    return array


def describe(array: zarr.Array) -> str:
    assert_type(array.shape, tuple[int, ...])
    assert_type(array.chunks, tuple[int, ...])
    assert_type(array.shards, tuple[int, ...] | None)
    assert_type(array.dtype, np.dtype[Any])
    assert_type(array.ndim, int)
    assert_type(array.nbytes, int)
    assert_type(array.nchunks_initialized, int)
    assert_type(array.read_only, bool)
    assert_type(array.path, str)
    return f"{array.name}: {array.shape}"


def grow(array: zarr.Array, rows: npt.NDArray[np.float32]) -> tuple[int, ...]:
    array.resize((200, 100))
    assert_type(array.append(rows), tuple[int, ...])
    assert_type(array.update_attributes({"grown": True}), zarr.Array)
    return array.append(rows, axis=0)


def read(place: str) -> float:
    array = zarr.open_array(place, mode="r")
    assert_type(array, zarr.Array)
    corner: npt.NDArray[np.float32] = array[:2, :2]
    line: npt.NDArray[np.float32] = array.get_orthogonal_selection((slice(None), [1, 2]))
    assert_type(zarr.open(place, mode="r"), zarr.Array | zarr.Group)
    return float(corner.sum() + line.sum())


def read_group(place: str) -> list[str]:
    root = zarr.open_group(place, mode="r")
    assert_type(root, zarr.Group)
    assert_type(zarr.create_group({}, attributes={"a": 1}), zarr.Group)
    member = root["temperature"]
    assert_type(member, zarr.Array | zarr.Group)
    if isinstance(member, zarr.Array):
        assert_type(member.shape, tuple[int, ...])
    return list(root)
