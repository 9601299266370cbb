"""Data types under the names that zarr-python gives them; see `zarr_core.compat.dtype`."""

from zarr_core.compat.dtype import *
from zarr_core.compat.dtype import __all__
