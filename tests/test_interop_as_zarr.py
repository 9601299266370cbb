"""Other projects' programs with zarr_core in zarr's place; the real zarr reads what they wrote."""

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import in_new_interpreter

import zarr_core

zarr = pytest.importorskip("zarr", minversion="3")
AS_ZARR = "import zarr_core\nzarr_core.install_as_zarr()\n"


def test_xarray_writes_appends_and_reads(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    in_new_interpreter(
        AS_ZARR
        + f"""
import warnings
import numpy as np, xarray as xr, zarr
warnings.simplefilter("ignore")
assert zarr.Array is zarr_core.Array
for zarr_format in (2, 3):
    place = f"{tmp_path}/{{zarr_format}}"
    data = xr.Dataset(
        {{"t": (("time", "x"), np.arange(12.0).reshape(3, 4), {{"units": "K"}})}},
        {{"time": [0, 1, 2], "x": list("abcd")}},
    )
    data.to_zarr(place, zarr_format=zarr_format)
    data.assign_coords(time=[3, 4, 5]).to_zarr(place, append_dim="time")
    part = data.isel(time=[0]).drop_vars("x") * 0
    part.to_zarr(place, region={{"time": slice(2, 3)}})
    found = xr.open_zarr(place)
    assert found.t.attrs == {{"units": "K"}} and found.t.shape == (6, 4)
    assert found.t.values[2].tolist() == [0] * 4 and found.t.values[5].tolist() == [8, 9, 10, 11]
"""
    )
    for zarr_format in (2, 3):
        theirs = xarray.open_zarr(tmp_path / str(zarr_format))
        assert theirs.t.values[5].tolist() == [8, 9, 10, 11]
        assert theirs.x.values.tolist() == list("abcd")
        ours = zarr_core.open_group(tmp_path / str(zarr_format), mode="r")
        assert ours["t"][2].tolist() == [0] * 4


def test_dask_writes_and_reads(tmp_path: Path) -> None:
    pytest.importorskip("dask.array")
    in_new_interpreter(
        AS_ZARR
        + f"""
import dask.array as da, numpy as np, zarr
array = da.arange(100, chunks=10).reshape(10, 10).rechunk(5)
array.to_zarr("{tmp_path}/a")
assert (da.from_zarr("{tmp_path}/a").compute() == np.arange(100).reshape(10, 10)).all()
target = zarr.create_array("{tmp_path}/b", shape=(10, 10), chunks=(5, 5), dtype="i8")
da.store(array, target, lock=False)
"""
    )
    for name in ("a", "b"):
        assert (zarr.open_array(tmp_path / name)[...] == np.arange(100).reshape(10, 10)).all()


def entry_point(name: str) -> Any:
    (found,) = importlib.metadata.entry_points(group="zarr.codecs", name=name)
    return found.load()


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("imagecodecs_delta", "filters"),
        ("imagecodecs_xor", "filters"),
        ("imagecodecs_jpegxl", "serializer"),
        ("imagecodecs_jpeg2k", "serializer"),
        ("imagecodecs_png", "serializer"),
        ("imagecodecs_lz4", "compressors"),
        ("imagecodecs_lzw", "compressors"),
        ("imagecodecs_packbits", "compressors"),
        ("imagecodecs_zlibng", "compressors"),
    ],
)
def test_codecs_of_imagecodecs(name: str, kind: str) -> None:
    pytest.importorskip("imagecodecs")
    codec = entry_point(name)()
    options: dict[str, Any] = {kind: codec if kind == "serializer" else [codec]}
    if kind == "serializer":
        options["compressors"] = None
    data = np.arange(64 * 48, dtype="u1").reshape(64, 48)
    described = {**options, kind: codec.to_dict() if kind == "serializer" else [codec.to_dict()]}
    ours: dict[str, Any] = {}
    array = zarr_core.create_array(ours, shape=data.shape, chunks=(32, 48), dtype="u1", **described)
    array[...] = data
    theirs = zarr.storage.MemoryStore()
    other = zarr.create_array(theirs, shape=data.shape, chunks=(32, 48), dtype="u1", **options)
    other[...] = data
    written = {key: value.to_bytes() for key, value in theirs._store_dict.items()}
    assert {k: v for k, v in ours.items() if k != "zarr.json"} == {
        k: v for k, v in written.items() if k != "zarr.json"
    }
    assert (zarr_core.open_array(written)[...] == other[...]).all()
