"""`array.oindex`, `array.vindex` and `array.blocks`: other meanings of what is in the brackets."""

from typing import Any, Final, final

from zarr_core.array.many import awaited
from zarr_core.indexing.plan import Plan
from zarr_core.indexing.selection import plan_blocks, plan_coordinates, plan_mask, plan_orthogonal
from zarr_core.indexing.values import is_mask
from zarr_core.metadata.chunk_grids import ChunkGrid
from zarr_core.threads.twins import Read, async_twin


class IndexView:
    """An array, indexed in one of three ways; see the subclasses."""

    __slots__ = ("__weakref__", "array")

    _make_plan: Any
    """Makes the plan of a selection in a chunk grid."""

    def __init__(self, array: Any) -> None:
        self.array: Any = array  # an `Array`, which is made of this

    def __getitem__(self, selection: Any) -> Any:
        return self.array._get(self._make_plan, selection)

    def __setitem__(self, selection: Any, value: Any) -> None:
        self.array._set(self._make_plan, selection, value)

    def _twin_lane(self) -> tuple[bool, int | None, object]:
        lane: tuple[bool, int | None, object] = self.array._twin_lane()
        return lane

    def _read(self, selection: Any) -> Read | None:
        return awaited(self._make_plan)(self.array, selection)

    getitem_async: Final = async_twin(__getitem__, private=True, read=_read)
    setitem_async: Final = async_twin(__setitem__, snapshot="value")


def _orthogonal(selection: Any, grid: ChunkGrid) -> Plan:
    return (plan_mask if is_mask(selection, grid.shape) else plan_orthogonal)(selection, grid)


def _pointwise(selection: Any, grid: ChunkGrid) -> Plan:
    return (plan_mask if is_mask(selection, grid.shape) else plan_coordinates)(selection, grid)


@final
class OIndex(IndexView):
    """Selects in every dimension on its own, or takes a mask of the array's shape."""

    __slots__ = ()
    _make_plan = staticmethod(_orthogonal)


@final
class VIndex(IndexView):
    """Selects points, by index arrays for all dimensions or by a mask of the array's shape."""

    __slots__ = ()
    _make_plan = staticmethod(_pointwise)


@final
class BlockIndex(IndexView):
    """Selects whole chunks: `array.blocks[0, 1]` is the data of one."""

    __slots__ = ()
    _make_plan = staticmethod(plan_blocks)


class Indexable:
    """`oindex`, `vindex` and `blocks`."""

    __slots__ = ()

    @property
    def oindex(self) -> OIndex:
        """Orthogonal indexing."""
        return OIndex(self._indexed())

    @property
    def vindex(self) -> VIndex:
        """Pointwise indexing."""
        return VIndex(self._indexed())

    @property
    def blocks(self) -> BlockIndex:
        """Indexing by whole chunks."""
        return BlockIndex(self._indexed())

    def _indexed(self) -> Any:
        return self
