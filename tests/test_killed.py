"""Processes that are killed while they copy or convert, and called again: the same bytes at the end.

`ZARR_CORE_KILLS=200` kills each of them 200 times (with `-o faulthandler_timeout=0`: it takes minutes).
"""

import os
from pathlib import Path

import pytest
from running import in_new_interpreter

KILLS = int(os.environ.get("ZARR_CORE_KILLS", "1"))

SOURCE = """
import os, random, shutil, signal, sys, time, warnings
import numpy as np
import zarr_core as zarr
from zarr_core.storage import LocalStore

warnings.simplefilter("ignore")  # that there is no specification of consolidated metadata
there, kills = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(0)
data = rng.integers(0, 9, (300, 200))
data[100:150] = 0  # chunks that are not stored
"""

RECHUNK = """
zarr.create_array(f"{there}/source", data=data, chunks=(17, 200))

def prepare(path):
    pass

def job(path):
    source = f"{there}/source"
    zarr.rechunk(source, path, chunks=(20, 20), shards=(100, 40), max_bytes=400_000)
"""

BETWEEN = """
from zarr_core.array import regions
regions.LEAST_BETWEEN = 1
zarr.create_array(f"{there}/source", data=data, chunks=(2, 200))

def prepare(path):
    pass

def job(path):
    source, temp = f"{there}/source", f"{path}-between"
    zarr.rechunk(source, path, chunks=(300, 2), max_bytes=60_000, temp=temp)
    assert not list(LocalStore(temp).list())
"""

COPY = """
source = zarr.open_group(f"{there}/source", zarr_format=2)
for name in "abc":
    source.create_array(f"in/{name}", data=data, chunks=(50, 50), attributes={"name": name})

def prepare(path):
    pass

def job(path):
    dest = zarr.open_group(path, mode="a")
    zarr.copy_all(zarr.open_group(f"{there}/source"), dest, if_exists="resume")
"""

HIERARCHY = """
source = zarr.open_group(f"{there}/source", zarr_format=2, attributes={"title": "x"})
for name in ("a", "b/c", "b/d/e"):
    source.create_array(
        name, data=data, chunks=(50, 50), order="F", attributes={"_ARRAY_DIMENSIONS": ["y", "x"]}
    )
zarr.consolidate_metadata(f"{there}/source")
"""

CONVERT = f"""
{HIERARCHY}
def prepare(path):
    pass

def job(path):
    zarr.convert(f"{{there}}/source", path, zarr_format=3)
"""

CONVERT_IN_PLACE = f"""
{HIERARCHY}
def prepare(path):
    shutil.copytree(f"{{there}}/source", path)

def job(path):
    zarr.convert(path, zarr_format=3, remove_old=True)
"""

KILL = """
def begin(path):
    pid = os.fork()
    if pid:
        return pid
    try:
        job(path)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

def stored(path):
    store = LocalStore(path)
    return {key: bytes(store.get(key)) for key in store.list()}

prepare(f"{there}/whole")
start = time.monotonic()
assert os.waitpid(begin(f"{there}/whole"), 0)[1] == 0
seconds = time.monotonic() - start
expected = stored(f"{there}/whole")
assert expected

killed = trials = 0
while killed < kills:
    path = f"{there}/{trials}"
    prepare(path)
    while True:
        pid = begin(path)
        time.sleep(random.uniform(0, 1.5 * seconds))
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        if not os.WIFSIGNALED(status):
            break
        killed += 1
    assert status == 0
    assert stored(path) == expected
    assert os.waitpid(begin(path), 0)[1] == 0  # once more, when it is finished
    assert stored(path) == expected
    shutil.rmtree(path)
    trials += 1
print(f"{killed} kills, {trials} times finished, {len(expected)} keys")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.timeout(0 if KILLS > 50 else 120)
@pytest.mark.parametrize(
    "job",
    [RECHUNK, BETWEEN, COPY, CONVERT, CONVERT_IN_PLACE],
    ids=["rechunk", "between", "copy", "convert", "convert in place"],
)
def test_what_was_killed_ends_with_the_same_bytes(tmp_path: Path, job: str) -> None:
    print(in_new_interpreter(SOURCE + job + KILL, tmp_path, KILLS, timeout=25 * KILLS))
