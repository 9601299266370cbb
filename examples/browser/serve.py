"""Serve a page that opens Zarr over HTTP in the browser, without a server for the data.

    python examples/browser/serve.py PYODIDE [DATA [PORT]]

PYODIDE is a directory with the files of Pyodide 0.27 or later and its NumPy, as in its releases.
DATA is a directory with an array or a group; without one, an example is written. A group needs
consolidated metadata, as HTTP cannot list. Needs starlette and uvicorn. The page is told another place by `?data=URL`, if that allows pages of other origins (CORS).

On a web server all of this is files: this one's directory, Pyodide's, and packages.zip, which has
zarr_core and fsspec.
"""

import io
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import zarr_core

HERE = Path(__file__).resolve().parent


def packages() -> bytes:
    """Return an archive of the two packages, which have no compiled parts."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as files:
        for package in (zarr_core, fsspec):
            root = Path(package.__path__[0])
            for path in sorted(root.rglob("*.py")):
                if "tests" not in path.parts:
                    files.write(path, f"{root.name}/{path.relative_to(root)}")
    return archive.getvalue()


def write_example(place: Path) -> None:
    """Write a group with a field, plain and in shards."""
    y, x = np.mgrid[-2:2:600j, -3:3:800j]
    field = (np.sin(3 * x) * np.cos(2 * y) * np.exp(-(x**2 + y**2) / 4)).astype("f4")
    group = zarr_core.create_group(place, attributes={"title": "an example"})
    options: dict[str, Any] = {"compressors": {"name": "gzip", "configuration": {"level": 5}}}
    group.create_array("field", data=field, chunks=(100, 200), **options)
    group.create_array("in/shards", data=field, chunks=(50, 50), shards=(300, 400), **options)
    consolidate(place)


def consolidate(place: Path) -> None:
    """Write all metadata into one document: over HTTP nothing can be listed."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", zarr_core.errors.ZarrUserWarning
        )  # not in the format's text
        zarr_core.consolidate_metadata(place)


def create_app(pyodide: Path, data: Path) -> Starlette:
    """Return the application: files, and an archive of the packages."""
    archive = packages()

    def send_packages(request: Request) -> Response:
        return Response(archive, media_type="application/zip")

    return Starlette(
        routes=[
            Route("/packages.zip", send_packages),
            Mount("/pyodide", StaticFiles(directory=pyodide)),
            Mount("/data", StaticFiles(directory=data)),
            Mount("/", StaticFiles(directory=HERE, html=True)),
        ]
    )


def main(pyodide: str, data: str | None = None, port: str = "8000") -> None:
    """Serve until Ctrl-C."""
    with tempfile.TemporaryDirectory() as place:
        if data is None:
            data = f"{place}/example.zarr"
            write_example(Path(data))
        uvicorn.run(create_app(Path(pyodide), Path(data)), port=int(port))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
