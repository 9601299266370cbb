"""zarr_core in zarr's place: every name resolves, programs of others run, the library pays nothing."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from running import in_new_interpreter

HAS_ZARR = importlib.util.find_spec("zarr") is not None


def run(program: str, *options: str) -> str:
    """Run a program in an interpreter in which `import zarr` means zarr_core."""
    return in_new_interpreter(f"import zarr_core\nzarr_core.install_as_zarr()\n{program}")


def test_every_name_of_the_table_is_there() -> None:
    run(
        """
import importlib
from zarr_core.compat.names import NAMES

for module_name in NAMES:
    module = importlib.import_module(module_name)
    for name in {*module.__all__, *module._where}:
        assert getattr(module, name) is not None, (module_name, name)
        assert name in dir(module) or name.startswith("_")
import zarr, zarr_core
assert zarr.Array is zarr_core.Array
assert zarr.storage.MemoryStore is not zarr_core.storage.MemoryStore
try:
    zarr.core.nothing
except AttributeError as error:
    assert "in the place" in str(error)
try:
    import zarr.core.nowhere
except ModuleNotFoundError as error:
    assert "in the place" in str(error)
"""
    )


def test_versions_are_those_that_programs_branch_on() -> None:
    run(
        """
import importlib.metadata, zarr, zarr_core
assert zarr.__version__ == importlib.metadata.version("zarr") == "3.4.2"
assert zarr_core.__version__ != zarr.__version__
"""
    )


def test_stores_are_awaited_and_are_the_ones_that_were_given() -> None:
    run(
        """
import asyncio, pickle, tempfile
import numpy as np, zarr, zarr_core
from zarr.abc.store import RangeByteRequest, Store
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.core.sync import sync

store = zarr.storage.MemoryStore()
assert isinstance(store, Store)
array = zarr.create_array(store, name="a", data=np.arange(6), chunks=2, compressors=None)
assert array.store is store
assert array.store_path == zarr.storage.StorePath(store, "a")
assert zarr.open_array(array.store_path)[...].tolist() == [0, 1, 2, 3, 4, 5]
value = sync(store.get("a/c/1", default_buffer_prototype(), byte_range=RangeByteRequest(0, 8)))
assert np.frombuffer(value.to_bytes(), "i8").tolist() == [2]
sync(store.set("b", Buffer.from_bytes(b"xyz")))
assert sync(array.store_path.store.get("b")).to_bytes() == b"xyz"
assert sorted(sync(zarr.core.sync._collect_aiterator(store.list_dir("")))) == ["a", "b", "zarr.json"]

with tempfile.TemporaryDirectory() as place:
    local = zarr.storage.LocalStore(place)
    group = zarr.open_group(local, mode="w")
    assert isinstance(group.store, zarr.storage.LocalStore) and str(group.store.root) == place
    assert group.store is local
    copy = pickle.loads(pickle.dumps(local))
    assert copy == local and zarr.open_group(copy, mode="r") == zarr.open_group(local, mode="r")
    assert group.store.with_read_only(True).read_only
    assert pickle.loads(pickle.dumps(group)) == group
"""
    )


def test_a_subclass_of_a_store_is_asked_itself() -> None:
    run(
        """
import numpy as np, zarr

class Counting(zarr.storage.WrapperStore):
    asked = 0

    async def get(self, *args, **kwargs):
        Counting.asked += 1
        return await super().get(*args, **kwargs)

store = Counting(zarr.storage.MemoryStore())
array = zarr.create_array(store, data=np.arange(4), chunks=2)
Counting.asked = 0
assert array[...].tolist() == [0, 1, 2, 3]
assert Counting.asked == 2
assert array.store is store

class Memory(zarr.storage.MemoryStore):
    async def get(self, *args, **kwargs):
        Counting.asked += 1
        return await super().get(*args, **kwargs)

array = zarr.create_array(Memory(), data=np.arange(4), chunks=2)
Counting.asked = 0
array[...]
assert Counting.asked == 2
"""
    )


def test_codecs_of_others() -> None:
    run(
        """
from dataclasses import dataclass
import numpy as np, zarr
from zarr.abc.codec import ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.core.common import parse_named_configuration
from zarr.registry import register_codec

@dataclass(frozen=True)
class Inverted(BytesBytesCodec):
    is_fixed_size = True
    by: int = 255

    @classmethod
    def from_dict(cls, data):
        return cls(**parse_named_configuration(data, "inverted")[1])

    def to_dict(self):
        return {"name": "inverted", "configuration": {"by": self.by}}

    async def _encode_single(self, chunk, spec):
        return Buffer.from_array_like(chunk.as_numpy_array() ^ np.uint8(self.by))

    _decode_single = _encode_single

class Plain(ArrayBytesCodec):
    def to_dict(self):
        return {"name": "plain", "configuration": {}}

    def _encode_sync(self, chunk, spec):
        return Buffer.from_bytes(chunk.as_numpy_array().tobytes())

    def _decode_sync(self, chunk, spec):
        array = np.frombuffer(chunk.to_bytes(), spec.dtype.dtype)
        return NDBuffer.from_numpy_array(array.reshape(spec.shape))

class Halved(ArrayArrayCodec):
    def to_dict(self):
        return {"name": "halved"}

    def _encode_sync(self, chunk, spec):
        return NDBuffer(chunk.as_numpy_array() // 2)

    def _decode_sync(self, chunk, spec):
        return NDBuffer(chunk.as_numpy_array() * 2)

for codec in (Inverted, Plain, Halved):
    register_codec(codec().to_dict()["name"], codec)
store = {}
array = zarr.create_array(
    store, shape=(4, 6), chunks=(2, 3), dtype="i2", filters=[Halved()], serializer=Plain(),
    compressors=[Inverted(by=15)],
)
data = np.arange(0, 48, 2, "i2").reshape(4, 6)
array[...] = data
assert (zarr.open_array(store)[...] == data).all()
first = (data[:2, :3] // 2).tobytes()
assert store["c/0/0"] == bytes(byte ^ 15 for byte in first)
assert array.metadata.codecs[1].to_dict()["name"] == "plain"
assert isinstance(array.metadata.codecs[2], BytesBytesCodec)
assert isinstance(zarr.codecs.ZstdCodec(), BytesBytesCodec)
assert not isinstance(zarr.codecs.ZstdCodec(), Inverted)
"""
    )


def test_metadata_grids_and_indexers() -> None:
    run(
        """
import numpy as np, zarr
from zarr.core.chunk_grids import ChunkGrid
from zarr.core.indexing import BasicIndexer, OrthogonalIndexer, oindex
from zarr.core.metadata import ArrayV2Metadata, ArrayV3Metadata

metadata = ArrayV3Metadata(
    shape=(4, 6), data_type="float32", fill_value=np.float32(1.5),
    chunk_grid={"name": "regular", "configuration": {"chunk_shape": (2, 3)}},
    chunk_key_encoding={"name": "default", "separator": "."},
    codecs=(zarr.codecs.BytesCodec(), zarr.codecs.ZstdCodec()), attributes={"a": 1},
    dimension_names=("y", "x"),
)
assert isinstance(metadata, ArrayV3Metadata) and not isinstance(metadata, ArrayV2Metadata)
assert metadata.to_dict() == ArrayV3Metadata.from_dict(metadata.to_dict()).to_dict()
array = zarr.Array(metadata, zarr.storage.StorePath(zarr.storage.MemoryStore(), "a"))
assert (array[...] == 1.5).all()
assert isinstance(
    ArrayV2Metadata(shape=(4,), dtype="<i4", chunks=(2,), fill_value=0, order="C"), ArrayV2Metadata
)

grid = ChunkGrid.from_sizes((4, 6), (2, 3))
data = np.arange(24).reshape(4, 6)
for kind, selection in (
    (BasicIndexer, (slice(1, 3), slice(None, None, 2))),
    (BasicIndexer, (2, slice(None, None, -2))),
    (OrthogonalIndexer, ([0, 3], slice(2, 5))),
    (OrthogonalIndexer, ([3, 0, 2], slice(2, 5))),
    (OrthogonalIndexer, ([1, 0, 3, 1], [4, 5, 1, 0])),
    (OrthogonalIndexer, ([2, 1], [4, 0, 5])),
    (OrthogonalIndexer, (slice(None, None, -1), [4, 0, 5])),
    (OrthogonalIndexer, (2, [4, 0, 5])),
):
    indexer = kind(selection, (4, 6), grid)
    expected = data[selection] if kind is BasicIndexer else oindex(data, selection)
    out = np.zeros(indexer.shape, int)
    for coords, inside, into, whole in indexer:
        chunk = data[tuple(slice(k * n, (k + 1) * n) for k, n in zip(coords, (2, 3)))]
        out[into] = chunk[inside].squeeze(indexer.drop_axes)
        assert not whole or out[into].size == chunk.size
    assert (out == expected).all(), selection

# Of one chunk all comes in the order that was asked for: cubed looks at nothing else.
one = ChunkGrid.from_sizes((4, 6), (4, 6))
for selection in (([3, 0, 2], 1), ([3, 2], [5, 0, 1]), ([2, 1], slice(None, None, -2))):
    indexer = OrthogonalIndexer(selection, (4, 6), one)
    (part,) = indexer
    found = data[part.chunk_selection].squeeze(indexer.drop_axes)
    assert (found == oindex(data, selection)).all(), selection
"""
    )


def test_awaited_functions() -> None:
    run(
        """
import asyncio, zarr
from zarr.api import asynchronous

async def main():
    group = await asynchronous.open_group({}, mode="w", attributes={"a": 1})
    assert isinstance(group, zarr.AsyncGroup)
    array = await group.create_array("x", shape=3, dtype="i1")
    assert isinstance(array, zarr.AsyncArray)
    await array.setitem(slice(None), 5)
    assert (await array.getitem(0)) == 5
    assert zarr.core.sync.sync(7) == 7

asyncio.run(main())
assert zarr.core.sync.sync(asynchronous.create_array({}, shape=3, dtype="i1")).shape == (3,)
"""
    )


def test_programs_modules_and_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))  # if it is not installed
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, zarr, zarr_core\n"
        "assert zarr.Array is zarr_core.Array\n"
        "print(sys.argv[1:], __name__)\n"
        "import subprocess\n"
        "code = 'import zarr_core, zarr; assert zarr.Array is zarr_core.Array'\n"
        "subprocess.run([sys.executable, '-c', code], check=True)\n"
    )
    command = [sys.executable, "-m", "zarr_core.as_zarr"]
    for start in ([str(program)], ["-m", "program"]):
        done = subprocess.run(
            [*command, *start, "a", "b"], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        assert done.stdout == "['a', 'b'] __main__\n"
    test = tmp_path / "test_it.py"
    test.write_text("import zarr, zarr_core\ndef test(): assert zarr.Array is zarr_core.Array\n")
    pytest_command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "zarr_core.as_zarr",
        "-p",
        "no:zarr",
    ]
    subprocess.run([*pytest_command, "-p", "no:cacheprovider", str(test)], cwd=tmp_path, check=True)
    module = [*command, "-m", "pytest", "-q", "-p", "no:zarr", "-p", "no:cacheprovider", str(test)]
    subprocess.run(module, cwd=tmp_path, check=True)


@pytest.mark.skipif(not HAS_ZARR, reason="zarr-python is not installed")
def test_the_real_zarr_is_never_mixed_in() -> None:
    in_new_interpreter(
        """
import zarr, zarr_core
try:
    zarr_core.install_as_zarr()
except RuntimeError as error:
    assert "imported already, from" in str(error)
else:
    raise AssertionError
assert zarr.Array is not zarr_core.Array
"""
    )


def test_the_library_knows_nothing_of_it() -> None:
    in_new_interpreter(
        """
import sys, zarr_core
array = zarr_core.create_array({}, shape=3, dtype="i1")
array[...] = 1
assert not [name for name in sys.modules if name.startswith(("zarr_core.compat", "zarr_core.as_"))]
"""
    )


def test_children_whose_program_imports_zarr_first(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import zarr\n"
        "import multiprocessing, sys\n"
        "def look(_):\n"
        "    import zarr_core\n"
        "    return zarr.Array is zarr_core.Array, sys.modules['zarr'] is zarr\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(look, [0]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-m", "zarr_core.as_zarr", str(program)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == "[(True, True)]\n"


def test_values_of_memory_and_stores_that_move(tmp_path: Path) -> None:
    run(
        f"""
import asyncio, pickle, zarr
from zarr.abc.store import RangeByteRequest, SupportsGetSync, SupportsSetSync
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import LocalStore, LoggingStore, MemoryStore, WrapperStore, ZipStore

assert pickle.loads(pickle.dumps(zarr.storage)) is zarr.storage
store = MemoryStore()
values = store._store_dict
values["a/b"] = Buffer.from_bytes(b"0123456789")
assert dict(store._store_dict) == dict(values) and len(values) == 1
assert isinstance(store, SupportsGetSync) and isinstance(store, SupportsSetSync)
wrapped = WrapperStore(store)
assert wrapped.get_sync("a/b", byte_range=RangeByteRequest(1, 3)).to_bytes() == b"12"
wrapped.set_sync("c", Buffer.from_bytes(b"x"))
prototype = default_buffer_prototype()
parts = [RangeByteRequest(0, 2), None]
found = store.get_ranges_sync("a/b", parts, prototype=prototype)
assert [(k, part.to_bytes()) for k, part in found] == [(0, b"01"), (1, b"0123456789")]
try:
    store.get_ranges_sync("nothing", parts, prototype=prototype)
except ExceptionGroup as group:
    assert [type(error) for error in group.exceptions] == [FileNotFoundError]
else:
    raise AssertionError

class Plain(zarr.storage.WrapperStore):
    get_sync = property()  # AttributeError

try:
    WrapperStore(Plain(store)).get_sync("c")
except TypeError as error:
    assert "Plain does not support synchronous get" in str(error)
else:
    raise AssertionError
del values["c"]
assert store.get_sync("c") is None

async def main():
    found = [part async for part in wrapped.get_ranges("a/b", parts, prototype=prototype, max_gap_bytes=0)]
    assert [(k, part.to_bytes()) for k, part in found[0]] == [(0, b"01"), (1, b"0123456789")]
    local = await LocalStore.open("{tmp_path}/one")
    await local.set("k", Buffer.from_bytes(b"v"))
    await local.move("{tmp_path}/two")
    assert (await LocalStore("{tmp_path}/two").get("k")).to_bytes() == b"v"
    try:
        await local._open()
    except ValueError as error:
        assert "already open" in str(error)
    logged = await LoggingStore.open(LocalStore, "{tmp_path}/two", log_level="INFO")
    assert logged._is_open and logged.log_level == "INFO"

asyncio.run(main())
"""
    )
