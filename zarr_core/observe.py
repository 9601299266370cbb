"""Limits and observation of synchronous and awaited calls: `timeout`, `on_chunk`, `progress`.

Each opens a context in which every call is part of an outer `Call`; outside of one, nothing is
counted or asked, so that they cost nothing where they are not used.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from zarr_core.workers import Call, Hook, inside


@contextmanager
def timeout(seconds: float | None) -> Iterator[None]:
    """Make operations in this context raise `OperationTimeoutError` once `seconds` have passed.

    The time is looked at between chunks and before every request to a store: no request starts
    after it, and those under way are waited for. The error says how many chunks were done. None
    sets no limit; of nested limits the earlier one counts.
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
    """
    with inside(Call(hook=hook)):
        yield


@contextmanager
def progress(
    description: str = "", *, using: Literal["tqdm", "rich"] | None = None
) -> Iterator[None]:
    """Show a progress bar, in chunks, for what is read, written and copied in this context.

    Parameters
    ----------
    description
        Stands before the bar.
    using
        The library that draws it; by default `tqdm`, or `rich` where that is missing.

    Raises `ImportError` when there is neither.
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
    from rich.progress import Progress

    with Progress() as display:
        task = display.add_task(description, total=0)

        def expect(n_chunks: int) -> None:
            total = display.tasks[task].total or 0
            display.update(task, total=total + n_chunks)

        yield expect, lambda: display.advance(task)
