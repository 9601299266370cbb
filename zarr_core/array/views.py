"""`array.oindex`, `array.vindex` and `array.blocks`: ways of indexing, each with its twins."""

from typing import Any, Protocol, final

from zarr_core.indexing.values import is_mask
from zarr_core.twins import async_twin


class Indexable(Protocol):
    """What the views need of an array."""

    def get_orthogonal_selection(self, selection: Any, *, fields: Any = None) -> Any:
        """See `Array.get_orthogonal_selection`."""
        ...

    def set_orthogonal_selection(self, selection: Any, value: Any, *, fields: Any = None) -> None:
        """See `Array.set_orthogonal_selection`."""
        ...

    def get_coordinate_selection(self, selection: Any, *, fields: Any = None) -> Any:
        """See `Array.get_coordinate_selection`."""
        ...

    def set_coordinate_selection(self, selection: Any, value: Any, *, fields: Any = None) -> None:
        """See `Array.set_coordinate_selection`."""
        ...

    def get_mask_selection(self, mask: Any, *, fields: Any = None) -> Any:
        """See `Array.get_mask_selection`."""
        ...

    def set_mask_selection(self, mask: Any, value: Any, *, fields: Any = None) -> None:
        """See `Array.set_mask_selection`."""
        ...

    def get_block_selection(self, selection: Any, *, fields: Any = None) -> Any:
        """See `Array.get_block_selection`."""
        ...

    def set_block_selection(self, selection: Any, value: Any, *, fields: Any = None) -> None:
        """See `Array.set_block_selection`."""
        ...

    def _split_fields(self, selection: Any) -> tuple[Any, Any]:
        """See `Array._split_fields`."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        ...

    def _twin_lane(self) -> tuple[bool, int | None, object]:
        """See `Array._twin_lane`."""
        ...


@final
class OIndex:
    """Orthogonal indexing: every dimension is selected on its own."""

    __slots__ = ("array",)

    def __init__(self, array: Indexable) -> None:
        self.array = array

    def __getitem__(self, selection: Any) -> Any:
        selection, fields = self.array._split_fields(selection)
        if is_mask(selection, self.array.shape):
            return self.array.get_mask_selection(selection, fields=fields)
        return self.array.get_orthogonal_selection(selection, fields=fields)

    def __setitem__(self, selection: Any, value: Any) -> None:
        selection, fields = self.array._split_fields(selection)
        if is_mask(selection, self.array.shape):
            self.array.set_mask_selection(selection, value, fields=fields)
        else:
            self.array.set_orthogonal_selection(selection, value, fields=fields)

    def _twin_lane(self) -> tuple[bool, int | None, object]:
        return self.array._twin_lane()

    getitem_async = async_twin(__getitem__, private=True)
    setitem_async = async_twin(__setitem__, snapshot="value")


@final
class VIndex:
    """Pointwise indexing: index arrays for all dimensions, or a mask of the array's shape."""

    __slots__ = ("array",)

    def __init__(self, array: Indexable) -> None:
        self.array = array

    def __getitem__(self, selection: Any) -> Any:
        selection, fields = self.array._split_fields(selection)
        if is_mask(selection, self.array.shape):
            return self.array.get_mask_selection(selection, fields=fields)
        return self.array.get_coordinate_selection(selection, fields=fields)

    def __setitem__(self, selection: Any, value: Any) -> None:
        selection, fields = self.array._split_fields(selection)
        if is_mask(selection, self.array.shape):
            self.array.set_mask_selection(selection, value, fields=fields)
        else:
            self.array.set_coordinate_selection(selection, value, fields=fields)

    def _twin_lane(self) -> tuple[bool, int | None, object]:
        return self.array._twin_lane()

    getitem_async = async_twin(__getitem__, private=True)
    setitem_async = async_twin(__setitem__, snapshot="value")


@final
class BlockIndex:
    """Indexing by whole chunks: `array.blocks[0, 1]` is the data of one chunk."""

    __slots__ = ("array",)

    def __init__(self, array: Indexable) -> None:
        self.array = array

    def __getitem__(self, selection: Any) -> Any:
        selection, fields = self.array._split_fields(selection)
        return self.array.get_block_selection(selection, fields=fields)

    def __setitem__(self, selection: Any, value: Any) -> None:
        selection, fields = self.array._split_fields(selection)
        self.array.set_block_selection(selection, value, fields=fields)

    def _twin_lane(self) -> tuple[bool, int | None, object]:
        return self.array._twin_lane()

    getitem_async = async_twin(__getitem__, private=True)
    setitem_async = async_twin(__setitem__, snapshot="value")
