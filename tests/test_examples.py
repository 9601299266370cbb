"""The examples run as a user would run them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(script: str, *args: object) -> str:
    command = [sys.executable, "-W", "error", str(EXAMPLES / script), *map(str, args)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=EXAMPLES.parent, env=environment(), check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    # A script's own directory is on its path, not the one it is started in.
    paths = [str(EXAMPLES.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def test_quickstart(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    printed = run("quickstart.py", tmp_path)
    assert "grown from (344, 403) to (688, 403)" in printed
    assert (tmp_path / "elevation.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "elevation.zarr" / "zarr.json").exists()


def test_netcdf_to_zarr(tmp_path: Path) -> None:
    netcdf4 = pytest.importorskip("netCDF4")
    source = tmp_path / "source.nc"
    with netcdf4.Dataset(source, "w") as dataset:
        dataset.title = "packed"
        dataset.createDimension("time", 2)
        dataset.createDimension("x", 5)
        packed = dataset.createVariable("packed", "i2", ("time", "x"), fill_value=-9)
        packed.set_auto_maskandscale(False)
        packed.scale_factor, packed.add_offset = 0.5, 10.0
        packed[:] = [[1, 2, 3, -9, 5], [6, 7, 8, 9, -32768]]
        level = dataset.createGroup("deep").createVariable("level", "f8", ("x",), fill_value=1e20)
        level.valid_range = [0.0, 1.0]
        level[:] = [0.1, 0.2, 0.3, 1e20, 0.5]
        dataset.createVariable("scalar", "u1", ())[...] = 7
        dataset.createVariable("names", str, ("time",))[:] = np.array(["one", "été"], dtype=object)
    printed = run("netcdf_to_zarr.py", source, tmp_path / "out")
    assert printed.count("4 arrays verified") == 6
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        f"v{v}-{c}.zarr" for v in (2, 3) for c in ("zstd", "big-endian-gzip", "blosc-lz4")
    )
