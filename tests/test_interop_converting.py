"""What was converted is read by zarr-python 3.4.2, and says what its own `migrate v3` says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_converting import V2, V3, hierarchy, made, same, seen

import zarr_core
from zarr_core.storage import LocalStore

zarr = pytest.importorskip("zarr")

pytestmark = [
    pytest.mark.filterwarnings("ignore:Consolidated metadata is currently"),
    pytest.mark.filterwarnings("ignore:The data type"),
    pytest.mark.filterwarnings("ignore:.*numcodecs:UserWarning"),
    pytest.mark.filterwarnings("ignore:Numcodecs codecs"),
]

OWN_ARE_BROKEN = {"quantized"}
"""What zarr-python 3.4.2 cannot read in format 3, also when it has written it."""


def on_disk(array: Any, path: Path) -> Path:
    zarr_core.copy_store(array.store, LocalStore(path))
    return path


@pytest.mark.parametrize("name", V2)
def test_format_3_made_of_format_2(tmp_path: Path, name: str) -> None:
    array, values = made(V2[name], zarr_format=2, attributes={"a": 1})
    place = on_disk(array, tmp_path)
    zarr_core.convert(place, zarr_format=3)
    found = zarr.open_array(place / "g/a", mode="r", zarr_format=3)
    if name in OWN_ARE_BROKEN:
        with pytest.raises(ValueError, match="cannot reshape"):
            found[...]
    else:
        same(found[...], values)
    assert dict(found.attrs) == {"a": 1}


@pytest.mark.parametrize("name", V3)
@pytest.mark.parametrize("data", [False, True])
def test_format_2_made_of_format_3(tmp_path: Path, name: str, data: bool) -> None:
    keys = {"name": "v2", "separator": "."}
    array, values = made(V3[name], zarr_format=3, chunk_key_encoding=keys)
    place = on_disk(array, tmp_path / "a")
    zarr_core.convert(place, tmp_path / "b" if data else None, zarr_format=2)
    at = tmp_path / ("b" if data else "a") / "g/a"
    same(zarr.open_array(at, mode="r", zarr_format=2)[...], values)


SAME = {  # where both tools translate, and to what zarr-python can read
    *("zstd", "raw", "big-endian", "big-endian, order F", "nested keys", "NaN", "bool", "bytes"),
    *("text of a length", "complex", "blosc", "gzip", "zlib", "lz4", "delta", "scaled"),
}


@pytest.mark.parametrize("name", sorted(SAME))
def test_the_documents_are_those_of_migrate(tmp_path: Path, name: str) -> None:
    migrate = pytest.importorskip("zarr.metadata.migrate_v3")
    array, _ = made(V2[name], zarr_format=2, attributes={"a": 1})
    theirs, ours = on_disk(array, tmp_path / "a"), on_disk(array, tmp_path / "b")
    migrate.migrate_v2_to_v3(input_store=zarr.storage.LocalStore(theirs))
    zarr_core.convert(ours, zarr_format=3)
    one, other = (zarr_core.open_array(p / "g/a", zarr_format=3).metadata for p in (theirs, ours))
    assert one == other


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_hierarchy(tmp_path: Path, zarr_format: Any) -> None:
    source = hierarchy(5 - zarr_format)
    zarr_core.consolidate_metadata(source.store)
    zarr_core.convert(source.store, tmp_path, zarr_format=zarr_format)
    for consolidated in (True, False):
        group = zarr.open_group(tmp_path, mode="r", use_consolidated=consolidated)
        assert group.metadata.zarr_format == zarr_format
        found = {
            path: (dict(node.attrs), node[...].tolist() if hasattr(node, "shape") else None)
            for path, node in [("", group), *group.members(None)]
        }
        assert found == seen(source)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_xarray_sees_the_same_dataset(tmp_path: Path, zarr_format: Any) -> None:
    xarray = pytest.importorskip("xarray")
    values = np.arange(6.0).reshape(2, 3)
    values[1, 1] = np.nan
    packed = {"dtype": "i2", "scale_factor": 0.5, "_FillValue": -9}
    before = xarray.Dataset(
        {"t": (("y", "x"), values), "packed": (("y", "x"), values), "n": ("x", [0, 1, 2])},
        {"x": [0, 2, 3], "name": ("y", ["a", "b"])},
    )
    before.packed.encoding = packed
    before.to_zarr(tmp_path / "a", zarr_format=zarr_format)
    zarr_core.convert(tmp_path / "a", tmp_path / "b", zarr_format=5 - zarr_format)
    zarr_core.convert(tmp_path / "b", tmp_path / "again", zarr_format=zarr_format)
    if zarr_format == 2:
        zarr_core.convert(tmp_path / "a", zarr_format=3, remove_old=True)
    for name in ("a", "b", "again"):
        after = xarray.open_zarr(tmp_path / name, chunks=None)
        xarray.testing.assert_identical(after, before)
