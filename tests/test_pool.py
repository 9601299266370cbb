"""The pool: a caller and its helpers, idle threads; fork, exit, and no threads at all."""

import gc
import os
import random
import signal
import sysconfig
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from running import (
    LONG,
    in_new_interpreter,
    new_pool,
    no_threads,
    nobody_helps,
    nothing_is_requested,
    threads,
    until,
)

from zarr_core.config import config
from zarr_core.errors import StoppedError
from zarr_core.threads import pool
from zarr_core.threads.calls import Call
from zarr_core.threads.key_locks import key_lock
from zarr_core.threads.pool import helpers, run
from zarr_core.threads.requests import overlap

pytestmark = pytest.mark.usefixtures("_four_workers")

variable: ContextVar[str] = ContextVar("variable", default="")


@pytest.fixture(params=["iterator", "lock"])
def _both_ways_to_share(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "iterator" and not pool._ITERATORS_ARE_ATOMIC:
        pytest.skip("a GIL, which makes iterators safe to share")
    monkeypatch.setattr(pool, "_ITERATORS_ARE_ATOMIC", request.param == "iterator")


@pytest.fixture
def _no_threads() -> Iterator[None]:
    with no_threads():
        yield


@pytest.fixture
def _new_pool() -> Iterator[None]:
    with new_pool():
        yield


# --- caller plus helpers -------------------------------------------------------------------------


def test_helpers_only_where_they_are_worth_it() -> None:
    assert helpers(1, 10_000) == 0
    assert helpers(1000, 2) == 0
    assert helpers(9, 10) == 0
    assert helpers(2, 1000) == 1
    assert helpers(10, 10) == 1
    assert helpers(1000, 1000) == 3
    with config.set({"threading.max_workers": 1}):
        assert helpers(1000, 1000) == 0
    with config.set({"threading.max_workers": None}):
        assert helpers(1_000_000, 1000) == pool._cores() - 1


@pytest.mark.usefixtures("_both_ways_to_share", "_hasty")
@pytest.mark.parametrize("n_helpers", [0, 1, 3])
def test_run_does_every_item_once(n_helpers: int) -> None:
    for n_items in (0, 1, 2, 500):
        done: list[int] = []
        run(done.append, iter(range(n_items)), n_helpers)
        assert sorted(done) == list(range(n_items))


def test_run_works_on_the_callers_thread_and_on_helpers_at_once() -> None:
    together = threading.Barrier(3)
    names = []

    def work(item: int) -> None:
        together.wait(LONG)
        names.append(threading.current_thread())

    run(work, range(3), 2)
    assert threading.current_thread() in names
    assert len(set(names)) == 3
    assert all(thread.daemon for thread in set(names) - {threading.current_thread()})


def test_helpers_see_the_context_of_the_caller() -> None:
    together, seen = threading.Barrier(3), []

    def work(item: int) -> None:
        together.wait(LONG)
        seen.append(variable.get())
        variable.set("changed by a helper")

    token = variable.set("the caller's")
    run(work, range(3), 2)
    assert seen == ["the caller's"] * 3
    variable.reset(token)


def test_helpers_have_no_helpers() -> None:
    together, counts, inner_threads = threading.Barrier(2), [], []

    def work(item: int) -> None:
        together.wait(LONG)
        counts.append(helpers(1000, 1000))
        run(lambda _: inner_threads.append((item, threading.get_ident())), range(50), 3)

    run(work, range(2), 1)
    assert counts == [0, 0]
    assert len(set(inner_threads)) == 2
    assert helpers(1000, 1000) == 3


def test_all_callers_share_one_bounded_set_of_helpers() -> None:
    lock, now, most = threading.Lock(), set(), [0]
    callers: set[int] = set()

    def work(item: int) -> None:
        me = threading.get_ident()
        with lock:
            now.add(me)
            most[0] = max(most[0], len(now - callers))
        time.sleep(0.0005)
        with lock:
            now.discard(me)

    def caller() -> None:
        callers.add(threading.get_ident())
        with config.set({"threading.max_workers": 3}):
            for _ in range(5):
                run(work, range(10), 8)

    with threads(*[caller] * 8):
        pass
    assert 1 <= most[0] <= 2


def test_a_helper_that_waits_for_a_thread_joins_when_one_is_free() -> None:
    two_at_first, two_at_second = threading.Barrier(3), threading.Barrier(2)

    def first() -> None:
        with config.set({"threading.max_workers": 2}):
            run(lambda _: two_at_first.wait(LONG), range(2), 1)

    def second() -> None:
        with config.set({"threading.max_workers": 2}):
            run(lambda _: two_at_second.wait(LONG), range(2), 1)

    with threads(first):
        until(lambda: two_at_first.n_waiting == 2)  # the only helper is busy now
        with threads(second):
            until(lambda: two_at_second.n_waiting == 1)
            two_at_first.wait(LONG)


def test_a_helper_that_has_not_started_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[Callable[[], object]] = []

    def keep(job: Callable[[], object]) -> bool:
        jobs.append(job)
        return True

    monkeypatch.setattr(pool, "start", keep)
    done: list[int] = []
    run(done.append, range(10), 1)
    assert done == list(range(10))
    with threads(*jobs):  # too late: it finds nothing to do
        pass
    assert len(jobs) == 1
    assert done == list(range(10))


@pytest.mark.usefixtures("_both_ways_to_share")
def test_the_first_error_ends_the_rest_and_is_raised_after_running_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, failed = threading.Event(), threading.Event()
    ended: list[object] = []
    done: list[object] = []
    fail = pool._Team.fail

    def note(team: pool._Team[object], error: BaseException) -> None:
        fail(team, error)
        failed.set()

    monkeypatch.setattr(pool._Team, "fail", note)

    def work(item: object) -> None:
        if item == "fails":
            assert begun.wait(LONG)
            raise ZeroDivisionError
        if item == "runs":
            begun.set()
            assert failed.wait(LONG)
            time.sleep(0.05)
            ended.append(item)
            return
        done.append(item)

    with pytest.raises(ZeroDivisionError):
        run(work, ["fails", "runs", *range(1000)], 1)
    assert ended == ["runs"]
    assert done == []


def test_a_helper_that_is_taken_back_while_another_looks_for_it() -> None:
    class TakenBack(dict[Any, None]):
        def __bool__(self) -> bool:
            return True

        def popitem(self) -> tuple[Any, None]:
            self.clear()  # as its caller does in the meantime
            return super().popitem()

    with new_pool():
        pool._process.waiting = TakenBack()
        together = threading.Barrier(2)
        run(lambda _: together.wait(LONG), range(2), 1)
        until(lambda: not pool._process.helping)
        run(lambda _: together.wait(LONG), range(2), 1)
        until(lambda: not pool._process.helping)
        assert len(pool._process.threads) == 1
        until(lambda: pool._process.idle)


def test_an_error_of_a_helper_leaves_no_cycles() -> None:
    together = threading.Barrier(2)

    class Large:
        pass

    def work(item: int) -> None:
        large = Large()
        refs.append(weakref.ref(large))
        together.wait(LONG)
        raise ValueError(item)

    refs: list[weakref.ref[Large]] = []
    gc.disable()
    try:
        with pytest.raises(ValueError) as caught:
            run(work, range(2), 1)
        names = [entry.name for entry in caught.traceback]
        assert names[-1] == "work"
        del caught
        # Without a GIL each thread gives up what it made when it runs again.
        run(lambda _: together.wait(LONG), range(2), 1)
        until(lambda: [ref() for ref in refs] == [None, None])
    finally:
        gc.enable()


@pytest.mark.parametrize("n_helpers", [0, 2])
def test_a_stopped_call_ends_the_work(n_helpers: int) -> None:
    call, done = Call(), []

    def work(item: int) -> None:
        call.stop()
        done.append(item)

    with pytest.raises(StoppedError):
        run(work, range(100), n_helpers, call)
    assert 1 <= len(done) <= 1 + n_helpers


def test_ctrl_c_ends_the_work_of_all_and_waits_for_helpers() -> None:
    begun, ended, done = threading.Event(), [], []
    main = threading.get_ident()

    def work(item: int) -> None:
        if threading.get_ident() == main:
            assert begun.wait(LONG)
            signal.raise_signal(signal.SIGINT)
        begun.set()
        time.sleep(0.1)
        ended.append(item)

    with pytest.raises(KeyboardInterrupt):
        run(work, range(1000), 1)
    done = ended.copy()
    assert 1 <= len(done) < 100
    time.sleep(0.02)
    assert ended == done


def test_ctrl_c_while_waiting_for_helpers_does_not_cut_the_wait_short() -> None:
    main, caller_is_done, ended = threading.get_ident(), threading.Event(), []
    begun = threading.Event()

    def work(item: int) -> None:
        if threading.get_ident() == main:
            assert begun.wait(LONG)
            caller_is_done.set()
            return
        begun.set()
        assert caller_is_done.wait(LONG)
        for _ in range(3):
            time.sleep(0.05)
            signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.1)
        ended.append(item)

    with pytest.raises(KeyboardInterrupt):
        run(work, range(2), 1)
    assert len(ended) == 1
    assert helpers(1000, 1000) == 3  # it may be helped again


@pytest.mark.usefixtures("_no_threads")
def test_without_threads_the_caller_does_everything() -> None:
    done: list[int] = []
    run(done.append, range(10), 3)
    assert done == list(range(10))
    assert [value for _, value, _ in overlap(str, range(3))] == ["0", "1", "2"]
    assert nobody_helps()
    assert nothing_is_requested()


# --- the pool ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_new_pool")
def test_threads_end_when_they_are_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.01)
    ran: list[threading.Thread] = []
    for _ in range(2):
        assert pool.start(lambda: ran.append(threading.current_thread()))
        until(lambda: ran and not ran[-1].is_alive())
    assert ran[0] is not ran[1]


@pytest.mark.usefixtures("_hasty", "_new_pool")
def test_no_job_is_lost_when_threads_end_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.0)
    done: list[int] = []
    for number in range(300):
        assert pool.start(lambda number=number: done.append(number))  # type: ignore[misc]
        if number % 3 == 0:
            until(lambda: len(done) > number)  # noqa: B023
    until(lambda: len(done) == 300)
    assert sorted(done) == list(range(300))


def test_idle_threads_keep_nothing_alive() -> None:
    class Large:
        def __call__(self) -> None:
            ran.set()

    ran = threading.Event()
    large = Large()
    ref = weakref.ref(large)
    assert pool.start(large)
    del large
    assert ran.wait(LONG)
    until(lambda: ref() is None)


# --- fork and exit -------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_its_own_threads_locks_and_budgets() -> None:
    in_new_interpreter(
        """
import os, threading, time, warnings
from zarr_core.threads import calls, pool
from zarr_core.config import config
from zarr_core.threads.requests import overlap
from zarr_core.threads.key_locks import key_lock
from zarr_core.threads.pool import run
warnings.simplefilter("ignore")  # that a process with threads forks
config.set({"threading.max_workers": 3, "io.max_requests": 2})
release, busy = threading.Event(), threading.Barrier(5)

def block(_):
    busy.wait()
    release.wait()

def hold():
    with key_lock("k"):
        list(overlap(block, range(2)))

def helped():
    run(block, range(2), 1)

threads = [threading.Thread(target=hold), threading.Thread(target=helped)]
for thread in threads:
    thread.start()
busy.wait()
guard, taken, give_back = pool._process.lock, threading.Event(), threading.Event()
def hold_guard():
    with guard:
        taken.set()
        give_back.wait()
threads.append(threading.Thread(target=hold_guard))
threads[-1].start()
taken.wait()

def works():
    together = threading.Barrier(2)
    with key_lock("k"):
        run(lambda _: together.wait(20), range(2), 1)
    together = threading.Barrier(2)
    return len(list(overlap(lambda _: together.wait(20), range(2)))) == 2

def in_child(child):
    if child == 0:
        ok = False
        try:
            ok = works()
        finally:
            os._exit(0 if ok else 1)
    return os.waitpid(child, 0)[1]

codes = [in_child(os.fork()) for _ in range(5)]
give_back.set()
with key_lock("mine"):
    # A lock of its own does not come along either.
    codes.append(in_child(os.fork()))
release.set()
for thread in threads:
    thread.join()
codes += [in_child(os.fork()) for _ in range(2)]
print(codes, works())
""",
        stdout="[0, 0, 0, 0, 0, 0, 0, 0] True",
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_what_was_under_way_at_a_fork_does_not_hang_the_child() -> None:
    in_new_interpreter(
        """
import os, threading, time, warnings
from zarr_core.threads.requests import overlap
from zarr_core.threads.key_locks import key_lock
warnings.simplefilter("ignore")
release = threading.Event()
results = overlap(lambda item: item and release.wait(20), range(3))
next(results)
with key_lock("k"):
    child = os.fork()
    # Both leave the lock.
if child == 0:
    results.close()
    with key_lock("k"):
        os._exit(7)
release.set()
results.close()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""",
        stdout="7",
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_finds_every_lock_free(tmp_path: Path) -> None:
    in_new_interpreter(
        f"""
import asyncio, gc, os, threading, warnings
import numpy as np
import zarr_core as zarr
from zarr_core import locks
from zarr_core.threads import calls, pool, twins
from zarr_core.storage import LocalStore, MemoryStore, ZipStore
from zarr_core.threads import coroutines as loops
warnings.simplefilter("ignore")
root = {str(tmp_path)!r}

async def nothing():
    return 1

def use(array):
    array[:4] = 1
    with zarr.timeout(20), zarr.on_chunk(lambda *args: None), zarr.config.set({{"array.order": "F"}}):
        assert array[:4].sum() == 4
    asyncio.run(array.getitem_async(...))
    array.attrs["a"] = 1

def makes(store):
    return zarr.create_array(
        store, shape=(64,), chunks=(4,), shards=(16,), dtype="i4", overwrite=True,
        config={{"shard_index_cache_bytes": 1 << 20}},
    )

arrays = [
    makes(MemoryStore()),
    makes(LocalStore(root + "/local")),
    makes(zarr.storage.CacheStore(MemoryStore(), cache_store=MemoryStore())),
]
for array in arrays:
    use(array)
with ZipStore(root + "/a.zip", mode="w") as store:
    makes(store)[...] = 1
zipped = zarr.open_array(ZipStore(root + "/a.zip", mode="r"))
loops.run_on(loops.own_loop(), nothing)

kinds = tuple({{type(threading.Lock()), type(threading.RLock())}})

def locks_of(value, depth=0, seen=None):
    # every lock that can be reached from the modules of the package, and from the arrays
    seen = set() if seen is None else seen
    if id(value) in seen or depth > 8:
        return
    seen.add(id(value))
    if isinstance(value, kinds):
        yield value
        return
    if isinstance(value, (str, bytes, int, float, np.ndarray, type(os))) and depth:
        return
    if not (depth == 0 or type(value).__module__.startswith(("zarr_core", "builtins", "weakref"))):
        return
    below = gc.get_referents(value)
    if isinstance(value, (threading.local,)):
        below = []
    for each in below:
        yield from locks_of(each, depth + 1, seen)

held, give_back = threading.Event(), threading.Event()

def hold():
    import sys
    seen, found = set(), list(locks._locks)
    for name, module in sorted(sys.modules.items()):
        if name.startswith("zarr_core"):
            for value in list(vars(module).values()):
                if type(value).__module__.startswith("zarr_core"):
                    found.extend(locks_of(value, 0, seen))
    for array in (*arrays, zipped):
        found.extend(locks_of(array, 0, seen))
    unique = list({{id(lock): lock for lock in found}}.values())
    free = [lock for lock in unique if lock.acquire(blocking=False)]
    assert len(free) > 12, len(free)
    held.set()
    give_back.wait()
    for lock in free:
        lock.release()

thread = threading.Thread(target=hold)
thread.start()
held.wait({LONG})
child = os.fork()
if child == 0:
    import faulthandler
    faulthandler.dump_traceback_later({LONG}, exit=True)
    for array in arrays:
        use(array)
    assert zipped[...].sum() == 64
    loops.run_on(loops.own_loop(), nothing)
    os._exit(7)
give_back.set()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""",
        stdout="7",
    )


AT_EXIT = """
import atexit, builtins, sys, threading, time
from zarr_core.threads import calls, pool
from zarr_core.config import config
from zarr_core.threads.requests import overlap
from zarr_core.threads.key_locks import key_lock
from zarr_core.threads.pool import run, start
config.set({"threading.max_workers": 3})
pool.EXIT_SECONDS = 0.1

def use(word):
    done = []
    with key_lock("k"):
        run(done.append, range(100), 2)
    assert sorted(done) == list(range(100))
    assert len(list(overlap(str, range(10)))) == 10
    sys.stdout.write(word + " ")
    sys.stdout.flush()

class Last:
    def __init__(self, word):
        self.word = word
    def __del__(self, use=use):
        use(self.word)
"""


@pytest.mark.parametrize("before", ["", "use('warm')"])
def test_work_at_exit_is_done(before: str) -> None:
    in_new_interpreter(
        f"""{AT_EXIT}
{before}
def later(word):
    time.sleep(0.05)
    use(word)
atexit.register(use, "atexit")
threading._register_atexit(use, "threads")
builtins.last = Last("finalizer")
threading.Thread(target=later, args=("non-daemon",)).start()
start(lambda: later("daemon"))
pool.EXIT_SECONDS = 20
""",
        stdout=f"{'warm ' if before else ''}threads non-daemon daemon atexit finalizer",
    )


def test_a_first_read_at_exit_finds_no_damaged_chunk() -> None:
    in_new_interpreter(
        """
import builtins, sys
import zarr_core as zarr
from zarr_core.codecs import zstd
write = sys.stdout.write
array = zarr.create_array({}, shape=(1000,), chunks=(1000,), dtype="i4")
array[...] = 1

class Last:
    def __del__(self):
        zstd._thread.__dict__.clear()  # as in a new thread
        write(str(array[...].tolist() == [1] * 1000))
        sys.stdout.flush()

builtins.last = Last()
""",
        stdout="True",
    )


def test_exit_does_not_wait_for_what_hangs() -> None:
    in_new_interpreter(
        f"""{AT_EXIT}
results = overlap(lambda x: x and time.sleep(1000), range(2))
next(results)
held = threading.Event()
def hold():
    with key_lock("held"):
        held.set()
        time.sleep(1000)
start(hold)
held.wait()

class Waits(Last):
    def __del__(self, use=use, key_lock=key_lock, results=results):
        use("works")
        results.close()
        try:
            with key_lock("held"):
                use("locked")
        except RuntimeError as error:
            assert "shut down" in str(error)
            use("raises")
atexit.register(use, "atexit")
builtins.last = Waits("")
""",
        stdout="atexit works raises",
    )


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="needs a free-threaded Python"
)
def test_no_library_turns_the_gil_on_again() -> None:
    in_new_interpreter(
        """
        import sys, tempfile
        import numpy as np
        import zarr_core
        from zarr_core.storage import FsspecStore, LocalStore, MemoryStore, SQLiteStore, ZipStore

        place, values = tempfile.mkdtemp(), np.arange(4000, dtype="i4")
        stores = [MemoryStore(), LocalStore(place), FsspecStore.from_url("memory://x")]
        stores += [ZipStore(f"{place}/a.zip", mode="w"), SQLiteStore(f"{place}/a.sqlite")]
        for number, store in enumerate(stores):
            for kind in ("zstd", "gzip", "blosc", None):
                compressors = None if kind is None else {"name": kind, "configuration": {}}
                options = dict(dtype="i4", shape=4000, chunks=100, shards=1000, overwrite=True)
                array = zarr_core.create_array(store, compressors=compressors, **options)
                array[...] = values
                assert (array[...] == values).all()
        import asyncio
        assert asyncio.run(array.getitem_async(5)) == 5
        assert not sys._is_gil_enabled()
        """,
        warnings="error",
        PYTHON_GIL="",
    )


def test_import_starts_no_thread_and_loads_nothing_slow() -> None:
    in_new_interpreter(
        """
import sys, threading
import numpy
before = set(sys.modules)
import zarr_core.threads.twins, zarr_core.threads.pool
slow = {"asyncio", "anyio", "trio", "concurrent.futures"}
print(threading.active_count(), sorted(slow & (set(sys.modules) - before)))
""",
        stdout="1 []",
    )


# --- all at once ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("_both_ways_to_share", "_hasty")
def test_many_threads_do_everything_at_once() -> None:
    def work(seed: int) -> Callable[[], None]:
        def loop() -> None:
            chance = random.Random(seed)
            with config.set({"io.max_requests": 4, "threading.max_workers": 3}):
                for _ in range(15):
                    n_items, fails = chance.randrange(40), chance.random() < 0.3
                    done: list[int] = []

                    def step(item: int, done: list[int] = done, fails: bool = fails) -> None:
                        if fails and item == 7:
                            raise ZeroDivisionError
                        with key_lock(item % 3):
                            done.append(item)

                    try:
                        run(step, range(n_items), chance.randrange(4))
                    except ZeroDivisionError:
                        assert fails
                    else:
                        assert sorted(done) == list(range(n_items))
                    found = sorted(overlap(lambda x: -x, range(n_items), limit=3))
                    assert found == [(item, -item, None) for item in range(n_items)]

        return loop

    with threads(*map(work, range(8))):
        pass
    until(nobody_helps)
    assert nothing_is_requested()


def test_waiting_work_gets_more_threads_than_cores() -> None:
    for cores, n_threads, expected in ((2, 4, 3), (2, 0, 1), (8, 4, 7), (1, 4, 0)):
        with config.set({"threading.max_workers": cores}):
            assert helpers(100, 50.0, n_threads) == expected
