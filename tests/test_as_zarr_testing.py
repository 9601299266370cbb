"""`zarr.testing`: what authors of stores subclass, and what draws arrays, with zarr_core in zarr's place."""

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = """
import asyncio, inspect

def pytest_pyfunc_call(pyfuncitem):  # pytest-asyncio's mode "auto", for tests
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        names = pyfuncitem._fixtureinfo.argnames
        asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
        return True
"""
PROGRAM = """
import tempfile
import numpy as np, pytest, zarr
from hypothesis import given, settings, strategies as st, HealthCheck, Phase
from hypothesis.stateful import run_state_machine_as_test
from zarr.core.buffer import Buffer
from zarr.core.sync import sync
from zarr.storage import LocalStore, MemoryStore, WrapperStore, ZipStore
from zarr.testing import strategies
from zarr.testing.stateful import ZarrHierarchyStateMachine, ZarrStoreStateMachine
from zarr.testing.store import StoreTests

few = settings(
    max_examples=3, stateful_step_count=10, deadline=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck), derandomize=True, database=None,
)

class Own(StoreTests[LocalStore, Buffer]):
    buffer_cls = Buffer
    async def set(self, store, key, value):
        path = store.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value.to_bytes())
    async def get(self, store, key):
        return Buffer.from_bytes((store.root / key).read_bytes())
    @pytest.fixture
    def store_kwargs(self, tmp_path):
        return {"root": str(tmp_path)}
    @pytest.fixture
    def store(self, open_kwargs):
        return sync(self.store_cls.open(**open_kwargs))
    @pytest.fixture
    def store_not_open(self, store_kwargs):
        return self.store_cls(**store_kwargs)
    def test_store_repr(self, store):
        assert "file://" in str(store)
    def test_store_supports_writes(self, store):
        assert store.supports_writes
    def test_store_supports_listing(self, store):
        assert store.supports_listing

class TestLocalStore(Own):
    store_cls = LocalStore

class Forgetful(LocalStore):
    async def list_dir(self, prefix):
        async for name in super().list_dir(prefix):
            if name != "c":
                yield name
    async def set_if_not_exists(self, key, value):
        await self.set(key, value)

class TestForgetful(Own):
    store_cls = Forgetful

@pytest.mark.parametrize("machine", [ZarrHierarchyStateMachine, ZarrStoreStateMachine])
@pytest.mark.parametrize("kind", ["local", "wrapped"])
def test_machines(machine, kind, tmp_path):
    store = {"local": lambda: LocalStore(tmp_path), "wrapped": lambda: WrapperStore(MemoryStore())}[kind]()
    run_state_machine_as_test(lambda: machine(store), settings=few)

class Loses(WrapperStore):
    async def delete(self, key):
        pass

def test_a_machine_finds_what_is_wrong():
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            lambda: ZarrStoreStateMachine(Loses(MemoryStore())),
            settings=settings(few, max_examples=50, stateful_step_count=30),
        )

@few
@given(st.data())
def test_arrays(data):
    array = data.draw(strategies.simple_arrays())
    whole = array[...]
    selection = data.draw(strategies.basic_indices(shape=array.shape))
    np.testing.assert_array_equal(array[selection], whole[selection])
    zarr_index, numpy_index = data.draw(strategies.orthogonal_indices(shape=array.shape))
    np.testing.assert_array_equal(array.oindex[zarr_index], whole[numpy_index])

@few
@given(strategies.array_metadata(), strategies.np_array_and_chunks())
def test_metadata_and_chunks(metadata, pair):
    assert type(metadata).from_dict(metadata.to_dict()) == metadata
    array, chunks = pair
    np.testing.assert_array_equal(zarr.create_array({}, data=array, chunks=chunks)[...], array)
"""


def test_stores_are_tested_and_arrays_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))  # if it is not installed
    (tmp_path / "test_store.py").write_text(PROGRAM)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    command = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "zarr_core.as_zarr",
        "-p",
        "no:zarr",
        "-p",
        "no:cacheprovider",
    ]
    command += ["--tb=short", "test_store.py"]
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    names = {line.split("::", 1)[1].split(" - ")[0] for line in failed}
    assert names == {f"TestForgetful::test_{it}" for it in ("list_dir", "set_if_not_exists")}, (
        done.stdout + done.stderr
    )
