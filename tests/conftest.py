"""What all tests share: hypothesis profiles, Ctrl-C, no display, and hasty threads."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from zarr_core.config import config
from zarr_core.storage import LatencyStore, LocalStore, MemoryStore, Store

pytest.register_assert_rewrite("running")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is in what a shell runs in the background; tests of Ctrl-C need Python's own handler.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# `ci` finds the same cases on every run, so a red run is the change's fault. `thorough` searches:
# HYPOTHESIS_PROFILE=thorough python -m pytest tests/test_array.py
settings.register_profile(
    "ci",
    max_examples=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "thorough",
    max_examples=5000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# Examples draw pictures; also inherited by the interpreters that tests start.
os.environ["MPLBACKEND"] = "Agg"


@pytest.fixture
def _hasty() -> Iterator[None]:
    """Switch threads as often as possible."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture(params=["memory", "local", "slow"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store; one whose requests are overlapped is among them."""
    if request.param == "local":
        return LocalStore(tmp_path / "store")
    return LatencyStore(MemoryStore()) if request.param == "slow" else MemoryStore()


@pytest.fixture(params=[2, 3])
def zarr_format(request: pytest.FixtureRequest) -> int:
    """Both formats."""
    return int(request.param)


@pytest.fixture
def _four_workers() -> Iterator[None]:
    """Have as many helpers as on a machine with four cores."""
    with config.set({"threading.max_workers": 4}):
        yield
