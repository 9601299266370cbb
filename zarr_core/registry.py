"""Codecs by name, where programs for zarr-python look for them."""

from zarr_core.compat.registry import *
from zarr_core.compat.registry import __all__
