"""Locks of stored keys: who is kept out, what is forgotten, and Ctrl-C."""

import gc
import signal
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from running import (
    LONG,
    in_new_interpreter,
    threads,
)

from zarr_core.errors import OperationTimeoutError
from zarr_core.threads import key_locks
from zarr_core.threads.calls import timeout
from zarr_core.threads.key_locks import joint_key_lock, key_lock
from zarr_core.threads.pool import run
from zarr_core.threads.requests import overlap

pytestmark = pytest.mark.usefixtures("_four_workers")


@pytest.mark.usefixtures("_hasty")
def test_key_lock_excludes_others_from_the_same_key_only() -> None:
    counts = {"a": 0, "b": 0}

    def work(key: str) -> Callable[[], None]:
        def add() -> None:
            for _ in range(200):
                with key_lock(("store", key)):
                    before = counts[key]
                    time.sleep(0)
                    counts[key] = before + 1

        return add

    with threads(*[work("a")] * 4, *[work("b")] * 4):
        pass
    assert counts == {"a": 800, "b": 800}


def test_two_keys_at_once() -> None:
    with key_lock("a"), key_lock("b"):
        pass


def test_key_lock_again_in_the_same_thread_raises_and_names_the_key() -> None:
    def still_held() -> None:
        assert not key_lock(("root", "c/0/0")).acquire(blocking=False)

    with key_lock(("root", "c/0/0")):
        with pytest.raises(RuntimeError, match="c/0/0"), key_lock(("root", "c/0/0")):
            pass
        with threads(still_held):
            pass
    with key_lock(("root", "c/0/0")):
        pass


def test_key_lock_is_released_by_an_error() -> None:
    with pytest.raises(ZeroDivisionError), key_lock("a"):
        1 / 0
    with threads(lambda: key_lock("a").__enter__()):
        pass


def test_a_joint_lock_is_that_of_each_of_its_keys() -> None:
    joint = joint_key_lock(["a", "b"])
    assert joint is not None
    assert key_lock("a") is joint
    assert key_lock("b") is joint
    assert key_lock("c") is not joint
    assert joint_key_lock(["b", "c"]) is None
    del joint
    gc.collect()
    with key_lock("b"):
        assert joint_key_lock(["a", "b"]) is None
        assert joint_key_lock(["a", "c"]) is not None


def test_unused_keys_of_joint_locks_are_forgotten() -> None:
    for start in range(0, 100_000, 1000):
        joint_key_lock([("joint", k) for k in range(start, start + 1000)])
    assert len(key_locks._table.locks) < 10_000


def test_waiting_for_a_key_ends_in_time() -> None:
    def wait() -> None:
        with timeout(0.02), pytest.raises(OperationTimeoutError), key_lock("a"):
            pass

    with key_lock("a"), threads(wait):
        pass


def test_ctrl_c_while_waiting_for_a_key_takes_nothing() -> None:
    held, waits, release = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        with key_lock("a"):
            held.set()
            assert release.wait(LONG)

    def interrupt() -> None:
        assert waits.wait(LONG)
        time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with threads(hold):
        assert held.wait(LONG)
        with threads(interrupt), pytest.raises(KeyboardInterrupt):  # noqa: PT012
            waits.set()
            with key_lock("a"):
                pass
        release.set()
    with key_lock("a"):
        pass


def test_unused_keys_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_locks, "_table", key_locks._Table())
    with key_lock("kept"):
        first = key_lock("kept")
        for number in range(10_000):
            with key_lock(number):
                pass
        assert len(key_locks._table.locks) <= 1100
        assert key_lock("kept") is first


def test_a_finalizer_may_take_a_lock_at_any_moment() -> None:
    finalized = []

    class Closes:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            with key_lock(("other", id(self))):
                finalized.append(1)
            run(lambda _: None, range(2), 1)

    def work() -> None:
        old = gc.get_threshold()
        gc.set_threshold(1, 0)  # 0: without a GIL too, as soon as there is any
        try:
            for number in range(300):
                for _ in range(number % 5):  # so that garbage is collected at many places
                    Closes()
                with key_lock(number):
                    pass
                run(lambda _: None, range(2), 1)
                for _ in overlap(str, range(2)):
                    pass
        finally:
            gc.set_threshold(*old)

    with threads(work):
        pass
    assert finalized


def test_the_table_of_keys_can_be_entered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ref = weakref.ref
    nested: list[int] = []

    def interrupted(lock: Any) -> Any:  # as by a finalizer
        if len(nested) < 3:
            nested.append(1)
            for key in ("same", "other"):
                with key_lock(key):
                    pass
        return ref(lock)

    def work() -> None:
        with key_lock("same"):
            pass

    monkeypatch.setattr(weakref, "ref", interrupted)
    with threads(work):
        pass
    assert len(nested) == 3


def test_ctrl_c_at_any_moment_leaves_no_key_locked() -> None:
    if not hasattr(signal, "setitimer"):
        pytest.skip("needs interval timers")
    in_new_interpreter(
        """
import random, signal, threading
from zarr_core.threads.key_locks import key_lock
from zarr_core.threads.pool import run

def is_free():
    found = []
    def ask():
        lock = key_lock("k")
        if found.append(lock.acquire(blocking=False)) or found[0]:
            lock.release()
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return found[0]

signal.signal(signal.SIGALRM, signal.default_int_handler)
n_interrupts = 0
while n_interrupts < 300:
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 3e-4))
        while True:
            with key_lock("k"):
                pass
    except KeyboardInterrupt as error:
        n_interrupts += 1
        kept = error  # with its frames, as an interactive session keeps them
    assert is_free()
print("free")
""",
        stdout="free",
    )
