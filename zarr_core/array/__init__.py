"""`Array`, and what it is made of."""

from zarr_core.array.array import Array, _restore

__all__ = ["Array", "_restore"]
