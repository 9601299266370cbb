"""What the page asks of Python; runs in Pyodide."""

import sys
from typing import Any

sys.path.insert(0, "/packages")

import numpy as np
from fsspec.implementations import http_sync

import zarr_core

http_sync.register()  # http:// by the browser's own requests, without an event loop

MOST = 512
"""Pictures have so many rows and columns at most."""

arrays: dict[str, zarr_core.Array] = {}


def open_data(url: str) -> list[str]:
    """Open what is at a URL, and return the paths of its arrays."""
    arrays.clear()
    node = zarr_core.open(url, mode="r")
    if isinstance(node, zarr_core.Array):
        arrays[""] = node
    else:
        arrays.update((path, n) for path, n in node.members(None) if isinstance(n, zarr_core.Array))
    return list(arrays)


def show(path: str) -> tuple[str, int, int, bytes]:
    """Return a text about an array, and the last two dimensions of its first plane as a picture."""
    array = arrays[path]
    steps = [max(1, -(-size // MOST)) for size in array.shape[-2:]]
    plane: Any = array[(0,) * (array.ndim - 2) + tuple(slice(None, None, step) for step in steps)]
    values = np.atleast_2d(np.asarray(plane, "f8"))
    low, high = np.nanmin(values), np.nanmax(values)
    grey = np.nan_to_num((values - low) / ((high - low) or 1) * 255).astype("u1")
    opaque = np.where(np.isnan(values), 0, 255).astype("u1")
    pixels = np.stack([grey, grey, grey, opaque], -1)
    info = f"{array.info}\nfrom {low:g} to {high:g}, mean {np.nanmean(values):g}"
    return info, *grey.shape, pixels.tobytes()
