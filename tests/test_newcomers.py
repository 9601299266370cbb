"""Three tasks of somebody who is new here, done with what the documentation says and nothing else."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

import zarr_core as zarr

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def run(code: str, place: Path, python: str = sys.executable, **env: str) -> str:
    """Run a program from an empty directory; return what it prints."""
    paths = "" if python != sys.executable else str(ROOT)
    done = subprocess.run(
        [python, "-c", code],
        capture_output=True,
        text=True,
        cwd=place,
        env={**os.environ, "PYTHONPATH": paths, **env},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- write a sharded array to S3, and read it with xarray --------------------------------------------


def test_a_sharded_array_on_s3_is_read_by_xarray(tmp_path: Path) -> None:
    for package in ("xarray", "s3fs"):
        pytest.importorskip(package)
    moto = pytest.importorskip("moto.server")
    if not [e for e in entry_points(group="xarray.backends") if e.name == "zarr_core"]:
        pytest.skip("zarr_core is on the path here, and not installed, so xarray does not find it")
    [program] = re.findall(
        r"^```py\n(.*?)^```$", (DOCS / "stores.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        bucket = urllib.request.Request(f"{url}/my-bucket", method="PUT")
        urllib.request.urlopen(bucket).close()
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        printed = run(
            program, tmp_path, AWS_ENDPOINT_URL=url, AWS_DEFAULT_REGION="us-east-1", **keys
        )
        with urllib.request.urlopen(f"{url}/my-bucket?list-type=2") as answer:
            stored = re.findall("<Key>(.*?)</Key>", answer.read().decode())
    finally:
        server.stop()
    assert printed.split() == ["100.0"]
    assert sorted(key for key in stored if "/c/" in key) == ["ocean.zarr/heat/c/0/0/0"]


# --- migrate a script of zarr 2 ----------------------------------------------------------------------

SCRIPT = """
import numcodecs
import numpy as np
import zarr

packed = zarr.create((4,), compressor=numcodecs.LZ4())
packed[:] = np.arange(4)
group = zarr.open_group(zarr.DirectoryStore("d.zarr"), mode="w")
x = group.require_dataset("x", shape=4, dtype="f8")
x[1:] = packed[1:]
x.attrs["units"] = "m"
archive = zarr.ZipStore("z.zip", mode="w")
zarr.save_array(archive, x[:])
archive.close()
print(x[:].tolist(), x.oindex[[0, 2]].tolist(), x.attrs["units"])
"""


def migrated(script: str) -> str:
    """Return a script with everything replaced that the page for those who come from zarr 2 has."""
    page = (
        (DOCS / "coming-from.md").read_text("utf-8").split("## zarr 2\n")[1].partition("\n## ")[0]
    )
    # Names of stores and of methods, and the first argument, stay; the rest of a line is the page's.
    for there, here in re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", page, re.MULTILINE):
        script = script.replace(there, here)
        old, new = there.partition("(")[0], here.partition("(")[0]
        script = re.sub(rf"{re.escape(old)}\(", f"{new}(", script)
    return script.replace("import zarr\n", "import zarr_core as zarr\n")


def test_a_script_of_zarr_2_is_migrated_by_the_table(tmp_path: Path) -> None:
    script = migrated(SCRIPT)
    for name in ("DirectoryStore", "require_dataset", "zarr.ZipStore"):
        assert name in SCRIPT
        assert name not in script
    expected = "[0.0, 1.0, 2.0, 3.0] [0.0, 2.0] m\n"
    assert run(script, tmp_path) == expected
    if python := os.environ.get("ZARR2_PYTHON"):
        (there := tmp_path / "there").mkdir()
        assert run(SCRIPT, there, python) == expected
        old = zarr.open_group(there / "d.zarr", mode="r")
        assert np.array_equal(old["x"][:], np.arange(4.0))
        assert np.array_equal(zarr.load(str(there / "z.zip")), np.arange(4.0))


# --- serve tiles -------------------------------------------------------------------------------------


def test_tiles_are_served_as_the_page_says(tmp_path: Path) -> None:
    for package in ("matplotlib", "starlette", "uvicorn"):
        pytest.importorskip(package)
    page = (DOCS / "tile-server.md").read_text("utf-8")
    assert "python examples/quickstart.py" in page
    assert "ZARR_STORE=elevation.zarr uvicorn tile_server:app" in page
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    quickstart = [sys.executable, ROOT / "examples/quickstart.py", tmp_path]
    subprocess.run(quickstart, env=env, check=True, capture_output=True)
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "tile_server:app", "--port", "0"],
        cwd=ROOT / "examples",
        env={**env, "ZARR_STORE": str(tmp_path / "elevation.zarr")},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        url = next(found[0] for line in server.stderr if (found := re.findall(r"http://\S+", line)))
        with urllib.request.urlopen(url) as answer:
            [name] = [row["name"] for row in json.load(answer)["arrays"]]
        with urllib.request.urlopen(f"{url}/{name}/tiles/0/0/0.png") as answer:
            assert answer.read(4) == b"\x89PNG"
    finally:
        server.terminate()
        server.wait()
        server.stderr.close()
