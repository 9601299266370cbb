"""What is missing in a NetCDF file is missing for xarray in what the example makes of it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

netcdf4 = pytest.importorskip("netCDF4")
xarray = pytest.importorskip("xarray")
pytest.importorskip("zarr")

SCRIPT = Path(__file__).parent.parent / "examples" / "netcdf_to_zarr.py"
CHAINS = ("zstd", "big-endian-gzip", "blosc-lz4")


@pytest.mark.filterwarnings("ignore")  # of the others, about consolidated metadata
def test_xarray_sees_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source.nc"
    with netcdf4.Dataset(source, "w") as dataset:
        dataset.createDimension("x", 5)
        packed = dataset.createVariable("packed", "i2", ("x",), fill_value=-9)
        packed.scale_factor, packed.add_offset = 0.5, 10.0
        packed[:] = np.ma.array([10, 10.5, 11, 12, 13], mask=[0, 1, 0, 0, 1])
        for name, dtype, fill in (("single", "f4", 1e20), ("double", "f8", np.nan)):
            variable = dataset.createVariable(name, dtype, ("x",), fill_value=fill)
            variable[:] = np.ma.array([0, 1, 2, 3, 4], mask=[1, 0, 0, 1, 0])
        dataset.createVariable("whole", "i4", ("x",))[:] = [0, 1, 2, 0, 4]
        dataset.createVariable("unwritten", "f4", ("x",))[:2] = [0, 1]
        other = dataset.createVariable("other", "f4", ("x",))
        other.missing_value = np.float32(-1)
        other[:] = [0, -1, 2, -1, 4]
    monkeypatch.setenv("PYTHONPATH", str(SCRIPT.parent.parent))
    subprocess.run([sys.executable, str(SCRIPT), str(source), str(tmp_path)], check=True)
    for place in [tmp_path / f"v{v}-{chain}.zarr" for v in (2, 3) for chain in CHAINS]:
        with (
            netcdf4.Dataset(source) as expected,
            xarray.open_zarr(place, consolidated=False) as found,
        ):
            for name, variable in expected.variables.items():
                values = np.ma.filled(variable[...].astype("f8"), np.nan)
                np.testing.assert_array_equal(found[name].values, values, f"{place.name} {name}")
