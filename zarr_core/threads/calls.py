"""Calls that can be told to stop, have to end in time, or are observed: `timeout`, `on_chunk`, `progress`.

Each of the three opens a context in which every call is part of an outer `Call`; outside of one,
nothing is counted or asked, so that they cost nothing where they are not used.
"""

import time
from _thread import get_ident
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TypeAlias, final

from zarr_core.errors import OperationTimeoutError, StoppedError
from zarr_core.locks import ForkLock

POLL_SECONDS = 0.05
"""How often a thread that waits for something else looks at its stop flag."""

START_SECONDS = 0.5
"""A thread that was let in by `Call.enter` has surely begun its request after this time."""

Hook: TypeAlias = Callable[[str, str, int], object]
"""Gets the operation ("read" or "write"), the key of a stored chunk, and how many bytes moved."""


@final
class Call:
    """One call that can be told to stop, that has to end in time, or whose chunks are observed.

    A call that is made inside another one also stops, times out and is observed with the outer one.
    """

    __slots__ = (
        *("_admitted", "_done", "_expected", "_hook", "_hook_expected", "_hook_lock", "_outer"),
        *("_seconds", "announced", "deadline", "is_limited", "stopped", "trace"),
    )

    def __init__(
        self,
        seconds: float | None = None,
        hook: Hook | None = None,
        hook_expected: Callable[[int], object] | None = None,
        trace: Any = None,
        *,
        announced: bool = False,
    ) -> None:
        if seconds is not None and not isinstance(seconds, (float, int)):
            raise TypeError(f"timeout is a number of seconds, not {seconds!r}")
        self._outer = outer = _current.get()
        self.is_limited: bool = (outer or trace or hook) is not None or seconds is not None
        """Does it have a time limit, a hook or a trace, its own or that of an outer call?"""
        self.announced = announced
        """Was it said already, outside, how many chunks are going to be read and written?"""
        self.stopped: bool = False
        self.trace: Any = outer.trace if trace is None and outer is not None else trace
        """The `Trace` that notes what it does, its own or that of an outer call."""
        self._admitted = 0.0
        self._seconds = seconds
        self.deadline: float | None = None if seconds is None else time.monotonic() + seconds
        self._hook, self._hook_expected = hook, hook_expected
        self._hook_lock = None if hook is None else ForkLock()
        # Of each thread its own, as nothing may be locked here.
        self._done: dict[int, int] = {}
        self._expected: dict[int, int] = {}

    def stop(self) -> None:
        """Let no request in from now on; those that were let in may still run."""
        self.stopped = True

    def check(self) -> None:
        """Raise `StoppedError` or `OperationTimeoutError` if the call should end."""
        if self.stopped:
            raise StoppedError("the call was told to stop")
        if self._outer is not None:
            self._outer.check()
        if self.deadline is not None and time.monotonic() >= self.deadline:
            n_done, n_expected = (sum(n.copy().values()) for n in (self._done, self._expected))
            done = f"{n_done} of {n_expected} chunks were read or written"
            raise OperationTimeoutError(f"the call did not end within {self._seconds:g} s: {done}")

    def enter(self) -> None:
        """Ask to be let in, right before every request to a store; raises as `check` does."""
        if self.stopped:
            self.check()
        if self._outer is not None:
            self._outer.enter()
        self._admitted = time.monotonic()
        self.check()  # last: whoever tells this call to stop sees that a request may be let in

    def expect(self, n_chunks: int) -> None:
        """Note how many more chunks are going to be read or written."""
        if self.announced:
            return
        if self._outer is not None:
            self._outer.expect(n_chunks)
        thread = get_ident()
        self._expected[thread] = self._expected.get(thread, 0) + n_chunks
        if self._hook_expected is not None:
            self._observe(self._hook_expected, n_chunks)

    def note(self, operation: str, key: str, nbytes: int) -> None:
        """Note that a chunk was read or written."""
        if self._outer is not None:
            self._outer.note(operation, key, nbytes)
        thread = get_ident()
        self._done[thread] = self._done.get(thread, 0) + 1
        if self._hook is not None:
            self._observe(self._hook, operation, key, nbytes)

    def _observe(self, hook: Callable[..., object], *args: object) -> None:
        """Call a hook: one thread at a time, and what it does here itself is not observed."""
        assert self._hook_lock is not None
        with self._hook_lock:
            token = _current.set(None)
            try:
                hook(*args)
            finally:
                _current.reset(token)

    def starting(self) -> float:
        """Return for how many seconds a request that was let in might still not have begun."""
        return max(0.0, self._admitted + START_SECONDS - time.monotonic())


_current: ContextVar[Call | None] = ContextVar("zarr_core_call", default=None)


def current_call() -> Call | None:
    """Return the call this code runs in; None in plain synchronous calls."""
    return _current.get()


@contextmanager
def inside(call: Call) -> Iterator[None]:
    """Make what runs in this context part of a call."""
    token = _current.set(call)
    try:
        yield
    finally:
        _current.reset(token)


# --- what users open ---------------------------------------------------------------------------


@contextmanager
def timeout(seconds: float | None) -> Iterator[None]:
    """Make operations in this context raise `OperationTimeoutError` once `seconds` have passed.

    The time is looked at between chunks and before every request to a store: no request starts
    after it, and those under way are waited for. The error says how many chunks were done. None
    sets no limit; of nested limits the earlier one counts.

    >>> with zarr.timeout(10):
    ...     total = zarr.ones(100)[:].sum()
    """
    if seconds is None:
        yield
        return
    with inside(Call(seconds)):
        yield


@contextmanager
def on_chunk(hook: Hook) -> Iterator[None]:
    """Call `hook(operation, key, nbytes)` for every chunk that is read or written in this context.

    Parameters
    ----------
    hook
        `operation` is "read" or "write"; `key` names the stored chunk (or shard) in its store;
        `nbytes` is how many encoded bytes were fetched or stored, 0 for a chunk that is missing or
        is removed. It is called when the chunk has been fetched or stored, on the thread that did
        it, by one thread at a time. An error that it raises ends the operation.

    Examples
    --------
    >>> a = zarr.create_array({}, data=np.arange(4), chunks=2)
    >>> with zarr.on_chunk(lambda operation, key, nbytes: print(operation, key)):
    ...     value = a[3]
    read c/1
    """
    with inside(Call(hook=hook)):
        yield


@contextmanager
def progress(
    description: str = "", *, using: Literal["tqdm", "rich"] | None = None
) -> Iterator[None]:
    """Show a progress bar, in chunks, for what is read, written and copied in this context.

    Raises `ImportError` when there is neither.

    Parameters
    ----------
    description
        Stands before the bar.
    using
        The library that draws it; by default `tqdm`, or `rich` where that is missing.

    Examples
    --------
    >>> with zarr.progress("reading"):  # doctest: +SKIP
    ...     zarr.ones((1000, 1000), chunks=100)[...]
    reading: 100%|██████████| 100/100 [00:00<00:00, 4821.30chunk/s]
    """
    if using is None:
        from importlib.util import find_spec

        using = "tqdm" if find_spec("tqdm") else "rich"
        if using == "rich" and not find_spec("rich"):
            raise ImportError("a progress bar needs a library that draws it: tqdm or rich")
    bar = _tqdm if using == "tqdm" else _rich
    with bar(description) as (expect, advance):
        call = Call(hook=lambda operation, key, nbytes: advance(), hook_expected=expect)
        with inside(call):
            yield


Bar = tuple[Callable[[int], object], Callable[[], object]]
"""Adds to the number of chunks expected; adds one to those done."""


@contextmanager
def _tqdm(description: str) -> Iterator[Bar]:
    from tqdm.auto import tqdm

    with tqdm(desc=description or None, total=0, unit="chunk") as bar:

        def expect(n_chunks: int) -> None:
            bar.total += n_chunks  # shown with the next chunk

        yield expect, bar.update


@contextmanager
def _rich(description: str) -> Iterator[Bar]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as display:  # as tqdm
        task = display.add_task(description, total=0)
        total = done = 0
        shown = 0.0

        def add(expected: int, ended: int) -> None:
            nonlocal total, done, shown
            total, done = total + expected, done + ended
            if time.monotonic() - shown >= POLL_SECONDS:  # showing takes longer than a small chunk
                display.update(task, total=total, completed=done)
                shown = time.monotonic()

        try:
            yield lambda n_chunks: add(n_chunks, 0), lambda: add(0, 1)
        finally:
            display.update(task, total=total, completed=done)
