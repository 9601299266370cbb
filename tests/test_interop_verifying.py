"""`verify` finds nothing wrong with what other implementations write."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_core as zarr


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(sys.version_info < (3, 12), reason="zarr-python 3.4 needs Python 3.12")
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_no_false_alarm_on_what_zarr_python_writes(tmp_path: Path, zarr_format: Any) -> None:
    peer = pytest.importorskip("zarr")
    root = peer.create_group(str(tmp_path), zarr_format=zarr_format, attributes={"nan": [1, {}]})
    values = np.arange(400.0).reshape(20, 20)
    for dtype in ("f4", "i2", "bool", "c8", "M8[s]", "U5", "S3", "V4"):
        root.create_array(f"a/{dtype}", data=values.astype("i8").astype(dtype), chunks=(7, 9))
    root.create_array("text", data=np.array(["a", "bc"] * 9, np.dtypes.StringDType()))
    root.create_array("g/nan", shape=(5, 5), chunks=(2, 2), dtype="f8", fill_value=np.nan)
    root.create_array("zero", shape=(), dtype="i4", fill_value=3)[...] = 5
    if zarr_format == 3:
        root.create_array("sharded", data=values, chunks=(2, 5), shards=(10, 10))
        root["sharded"][2:5] = 0  # what is not used any more stays in no shard
    shrunk = root.create_array("shrunk", data=values, chunks=(5, 10))
    shrunk.resize((12, 12))
    peer.consolidate_metadata(str(tmp_path))
    report = zarr.verify(str(tmp_path))
    assert report.problems == ()
    assert report.nodes == 15 + (zarr_format == 3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("driver", ["zarr", "zarr3"])
def test_no_false_alarm_on_what_tensorstore_writes(tmp_path: Path, driver: str) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    metadata: Any = {"shape": [20, 20]}
    if driver == "zarr":
        metadata |= {"chunks": [7, 9], "dtype": "<f4", "compressor": {"id": "zlib", "level": 1}}
    else:
        sharding = {"chunk_shape": [5, 5], "codecs": [{"name": "gzip"}]}
        metadata |= {
            "data_type": "float32",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10, 10]}},
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        }
    kvstore = {"driver": "file", "path": f"{tmp_path}/"}
    spec = {"driver": driver, "kvstore": kvstore, "metadata": metadata}
    array = tensorstore.open(spec, create=True).result()
    array[:15].write(np.random.default_rng(1).random((15, 20), np.float32)).result()
    report = zarr.verify(str(tmp_path))
    assert report.problems == ()
    assert report.chunks >= 4


@pytest.mark.skipif(not os.environ.get("ZARR2_PYTHON"), reason="ZARR2_PYTHON is not set")
def test_no_false_alarm_on_what_zarr_2_writes(tmp_path: Path) -> None:
    code = f"""if True:
        import zarr, numpy as np, numcodecs
        root = zarr.open_group({str(tmp_path)!r}, mode="w")
        values = np.arange(400.0).reshape(20, 20)
        root.create_dataset("a/f", data=values, chunks=(7, 9), order="F")
        root.create_dataset("a/d", data=values, chunks=(7, 9), dimension_separator="/",
                            filters=[numcodecs.Delta("f8")])
        root.create_dataset("text", data=np.array(["a", "bc"], object), dtype=str)
        root["a/f"].attrs["x"] = float("nan")
        zarr.consolidate_metadata(root.store)
    """
    subprocess.run([os.environ["ZARR2_PYTHON"], "-c", code], check=True)
    report = zarr.verify(str(tmp_path))
    assert report.problems == ()
    assert report.nodes == 5
