"""`zarr.api.asynchronous`: the twins of the functions at the top level, without `_async` in their names."""

from typing import Any

from zarr_core import api, copying
from zarr_core.array import create as creation
from zarr_core.array.array import Array
from zarr_core.array.asynchronous import calling
from zarr_core.group import Group
from zarr_core.storage import store_from

_PLACES = (api, creation, copying)

__all__ = [name for place in _PLACES for name in place.__all__ if not name.endswith("_async")]

for _place in _PLACES:
    for _name in _place.__all__:
        if _name.endswith("_async"):
            _plain = _name.removesuffix("_async")
            globals()[_plain] = calling(_plain, getattr(_place, _name))
for _name in __all__:
    if _name not in globals():
        globals()[_name] = next(vars(p)[_name] for p in _PLACES if _name in vars(p))


def get_node(store: Any, path: str, zarr_format: Any) -> Array | Group:
    """Return the array or group at a path of a store."""
    return api.open(store_from(store, path=path), mode="r+", zarr_format=zarr_format)
