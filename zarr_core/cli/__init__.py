"""`zarr-core` and `python -m zarr_core`: the functions of this library as commands."""

import sys

NEEDED = ("typer", "rich", "click")


def main() -> None:
    """Run the command line; without typer and rich say what is missing, with exit code 2."""
    try:
        from zarr_core.cli.commands import app
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in NEEDED:
            raise
        print(
            f"zarr-core: the command line needs {error.name}: pip install 'zarr-core[cli]'",
            file=sys.stderr,
        )
        sys.exit(2)
    app(prog_name="zarr-core")
