# ruff: noqa: INP001, E402, F401 - this is no package
"""Found by `import zarr` in processes that `multiprocessing` starts, which get the parent's sys.path.

`zarr_core.as_zarr` puts this directory there; its finder is only there once it has been imported.
"""

import sys

del sys.modules[__name__]  # what is there in the end is what the import gives

import zarr_core.as_zarr
