"""Calls: time limits, stop flags, and what they let in."""

import threading
from typing import Any

import pytest
from running import (
    LONG,
    in_new_interpreter,
    threads,
)

from zarr_core.errors import OperationTimeoutError, StoppedError
from zarr_core.threads import calls
from zarr_core.threads.calls import Call, current_call, timeout

pytestmark = pytest.mark.usefixtures("_four_workers")


def test_a_plain_call_has_no_state() -> None:
    assert current_call() is None


def test_timeout_raises_an_error_that_says_how_long() -> None:
    with timeout(0):
        call = current_call()
        assert call is not None
        with pytest.raises(OperationTimeoutError, match="within 0 s"):
            call.check()
        with pytest.raises(TimeoutError):
            call.enter()
    assert current_call() is None


def test_a_timeout_of_none_is_no_limit() -> None:
    with timeout(None):
        assert current_call() is None


@pytest.mark.parametrize(("outer", "inner"), [(0, 1000), (1000, 0)])
def test_of_nested_timeouts_the_earlier_one_counts(outer: float, inner: float) -> None:
    with timeout(outer), timeout(inner):
        call = current_call()
        assert call is not None
        with pytest.raises(OperationTimeoutError, match="within 0 s"):
            call.enter()


def test_an_inner_call_stops_with_the_outer_one() -> None:
    with timeout(1000):
        outer = current_call()
        inner = Call()
        innermost_stopped = Call()
    assert outer is not None
    innermost_stopped.stop()
    inner.check()
    outer.stop()
    with pytest.raises(StoppedError):
        inner.check()
    with pytest.raises(StoppedError):
        inner.enter()


@pytest.mark.usefixtures("_hasty")
def test_nobody_is_let_in_after_stop_has_returned() -> None:
    for _ in range(50):
        call, stopped = Call(), threading.Event()
        late: list[int] = []

        def work(call: Call = call, stopped: Any = stopped, late: Any = late) -> None:
            try:
                while True:
                    was_stopped = stopped.is_set()
                    call.enter()
                    if was_stopped:
                        late.append(1)
                        return
            except StoppedError:
                pass

        with threads(work, work):
            call.stop()
            stopped.set()
        assert not late


def test_starting_is_the_time_in_which_a_request_may_not_have_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call = Call()
    assert call.starting() == 0
    monkeypatch.setattr(calls, "START_SECONDS", 1000.0)
    call.enter()
    assert 0 < call.starting() <= 1000
    monkeypatch.setattr(calls, "START_SECONDS", 0.0)
    assert call.starting() == 0


@pytest.mark.parametrize("way", ["timed", "observed", "awaited"])
def test_a_finalizer_may_use_the_library_in_the_middle_of_a_call(way: str) -> None:
    in_new_interpreter(
        f"""
import asyncio, gc, random, sys, threading
import zarr_core as zarr
from zarr_core.threads.calls import on_chunk, timeout
from zarr_core.storage import MemoryStore

finalized, array = [], None
has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
local = threading.local()

class Reads:
    def __init__(self):
        self.me = self

    def __del__(self):
        if array is not None and not getattr(local, "busy", False):
            local.busy = True
            finalized.append(array[:16].sum())
            local.busy = False

class Litters(MemoryStore):
    def get(self, key, byte_range=None):
        for _ in range(0 if getattr(local, "busy", False) else random.randrange(5)):
            Reads()
        if has_gil:
            gc.set_threshold(random.randrange(1, 60))
        else:  # where each collection stops all threads and looks at all objects
            gc.set_threshold(500, 0)
        return super().get(key, byte_range)

array = zarr.create_array(Litters(), shape=(64,), chunks=(8,), dtype="i4", compressors=None)
array[...] = 1

def work():
    for number in range(40):
        if {way!r} == "timed":
            with timeout(100):
                assert array[...].sum() == 64
        elif {way!r} == "observed":
            with on_chunk(lambda *args: [[]]):
                assert array[...].sum() == 64
        else:
            async def await_some():
                sums = await asyncio.gather(*(array.getitem_async(...) for _ in range(5)))
                assert all(each.sum() == 64 for each in sums)
            asyncio.run(await_some())

gc.freeze()  # so that collections are quick
threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join({LONG})
print(any(thread.is_alive() for thread in threads), len(finalized) > 10)
""",
        stdout="False True",
    )
