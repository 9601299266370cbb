"""zarr_core in the place of zarr-python, for programs that say `import zarr` themselves.

From a program, before anything imports zarr: `zarr_core.install_as_zarr()`. For a program as it is:
`python -m zarr_core.as_zarr program.py ...` or `python -m zarr_core.as_zarr -m module ...`; for
tests: `pytest -p zarr_core.as_zarr`; for workers of dask: `--preload zarr_core.as_zarr`.
"""

import importlib
import os
import sys

from zarr_core.compat import finder, stores
from zarr_core.storage import Store, StorePath

VARIABLE = "ZARR_CORE_AS_ZARR"
"""An environment variable: child processes do the same when they import zarr_core."""


def install() -> None:
    """Make `import zarr` mean zarr_core in this process and in those that it starts.

    Raises `RuntimeError` when zarr-python is imported already: two libraries under one name would
    not know each other's arrays.
    """
    if finder.installed():
        return
    found = sys.modules.get("zarr")
    if found is not None:
        raise RuntimeError(
            f"zarr is imported already, from {getattr(found, '__file__', None)}: "
            "install_as_zarr() comes before everything that imports it"
        )
    sys.meta_path.insert(0, finder.Finder())
    # At once, as others put finders before it: pytest, for packages with plugins, zarr among them.
    importlib.import_module("zarr")
    # Programs of zarr-python await the methods of `array.store`.
    Store.shown = stores.face_of  # type: ignore[assignment, method-assign]
    StorePath.shown = stores.shown_place  # type: ignore[assignment, method-assign]
    os.environ[VARIABLE] = "1"
    # After the place of the program itself; processes of multiprocessing get this list.
    sys.path.insert(1, os.path.join(os.path.dirname(finder.__file__), "children"))


def main(arguments: list[str]) -> None:
    """Run a program, or with `-m` a module, with zarr_core in the place of zarr."""
    import runpy

    if not arguments or arguments == ["-m"]:
        raise SystemExit("usage: python -m zarr_core.as_zarr (program.py | -m module) [arguments]")
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path.insert(0, "")
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path.insert(0, os.path.dirname(os.path.abspath(arguments[0])))
        runpy.run_path(arguments[0], run_name="__main__")


install()

if __name__ == "__main__":
    main(sys.argv[1:])
