"""What commands print: text or JSON on standard output, the rest on standard error; exit codes."""

import json
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from zarr_core.errors import (
    CodecError,
    MetadataValidationError,
    NodeNotFoundError,
    UnknownCodecError,
)
from zarr_core.threads.calls import progress

EXIT_CODES: list[tuple[int, tuple[type[BaseException], ...]]] = [
    (3, (NodeNotFoundError, FileNotFoundError)),
    (4, (FileExistsError,)),
    (5, (CodecError, MetadataValidationError, UnknownCodecError)),
    (6, (OSError,)),
    (2, (ValueError, TypeError, LookupError, NotImplementedError, ImportError)),
]
"""The first that an error is one of counts; see `docs/command-line.md`."""

UNEXPECTED, BROKEN_PIPE = 70, 141


class Commands(typer.core.TyperGroup):
    """Commands of which an error is one line, and an exit code that says what kind it was."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning  # type: ignore[assignment]
                result = super().invoke(ctx)
                sys.stdout.flush()
                return result
        except BrokenPipeError:  # whoever reads has enough, such as `head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(BROKEN_PIPE) from None
        except Exception as error:
            if hasattr(error, "exit_code") or isinstance(error, typer.Abort):  # of click
                raise
            for code, kinds in EXIT_CODES:
                if isinstance(error, kinds):
                    say(f"error: {_message(error)}")
                    raise typer.Exit(code) from error
            traceback.print_exc()
            raise typer.Exit(UNEXPECTED) from error


def _message(error: BaseException) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return text or type(error).__name__


def _show_warning(message: Any, category: Any, *where: Any) -> None:
    say(f"warning: {message}")


def say(text: str) -> None:
    """Print a line for the user, on standard error."""
    print(f"zarr-core: {text}", file=sys.stderr)


def show(text: object) -> None:
    """Print text as it is."""
    print(text)


def show_json(value: Any) -> None:
    """Print a value as JSON; what JSON does not know, NaN too, becomes text."""
    print(json.dumps(plain(value), indent=2, ensure_ascii=False))


def plain(value: Any) -> Any:
    """Return a value of numbers, text, lists and objects in which NaN and infinity are text."""
    return json.loads(json.dumps(value, default=str), parse_constant=str)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]], right: str = "") -> None:
    """Print rows below each other; columns that `right` names end at the same place."""
    texts = [[_cell(value) for value in row] for row in rows]
    if not sys.stdout.isatty():
        lines = [list(columns), *texts] if columns else texts
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        ends = [column in right.split() for column in columns or [""] * len(widths)]
        for line in lines:
            cells = zip(line, widths, ends, strict=True)
            padded = (text.rjust(n) if end else text.ljust(n) for text, n, end in cells)
            print("  ".join(padded).rstrip())
        return
    table = Table(box=None, header_style="bold", pad_edge=False, show_header=bool(columns))
    for column in columns or [""] * len(texts[0]):
        justify: Any = "right" if column in right.split() else "left"
        table.add_column(column, justify=justify, overflow="fold")
    for row in texts:
        table.add_row(*row)
    Console(highlight=False, markup=False, emoji=False).print(table)


def _cell(value: object) -> str:
    return "" if value is None else str(value)


@contextmanager
def working(description: str) -> Iterator[None]:
    """Show on a terminal how many chunks are done."""
    if not sys.stderr.isatty():
        yield
        return
    with progress(description, using="rich"):
        yield
