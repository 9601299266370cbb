"""`array.oindex`, `array.vindex` and `array.blocks`: other meanings of what is in the brackets."""

from collections.abc import Callable
from typing import Any, final

from zarr_core.array.many import awaited
from zarr_core.indexing.plan import Plan
from zarr_core.indexing.selection import plan_blocks, plan_coordinates, plan_mask, plan_orthogonal
from zarr_core.indexing.values import is_mask
from zarr_core.metadata.chunk_grids import ChunkGrid
from zarr_core.threads.twins import Read, async_twin


@final
class IndexView:
    """An array, indexed in one of three ways.

    `oindex` selects in every dimension on its own, `vindex` points (index arrays for all
    dimensions), `blocks` whole chunks: `array.blocks[0, 1]` is the data of one. The first two also
    take a mask of the array's shape.
    """

    __slots__ = ("__weakref__", "_make_plan", "array")

    def __init__(self, array: Any, make_plan: Callable[[Any, ChunkGrid], Plan]) -> None:
        self.array = array  # an `Array`, which is made of this
        self._make_plan = make_plan

    def __getitem__(self, selection: Any) -> Any:
        return self.array._get(self._make_plan, selection)

    def __setitem__(self, selection: Any, value: Any) -> None:
        self.array._set(self._make_plan, selection, value)

    def _twin_lane(self) -> tuple[bool, int | None, object]:
        lane: tuple[bool, int | None, object] = self.array._twin_lane()
        return lane

    def _read(self, selection: Any) -> Read | None:
        return awaited(self._make_plan)(self.array, selection)

    getitem_async = async_twin(__getitem__, private=True, read=_read)
    setitem_async = async_twin(__setitem__, snapshot="value")


def _orthogonal(selection: Any, grid: ChunkGrid) -> Plan:
    return (plan_mask if is_mask(selection, grid.shape) else plan_orthogonal)(selection, grid)


def _pointwise(selection: Any, grid: ChunkGrid) -> Plan:
    return (plan_mask if is_mask(selection, grid.shape) else plan_coordinates)(selection, grid)


class Indexable:
    """`oindex`, `vindex` and `blocks`."""

    __slots__ = ()

    @property
    def oindex(self) -> IndexView:
        """Orthogonal indexing."""
        return IndexView(self._indexed(), _orthogonal)

    @property
    def vindex(self) -> IndexView:
        """Pointwise indexing."""
        return IndexView(self._indexed(), _pointwise)

    @property
    def blocks(self) -> IndexView:
        """Indexing by whole chunks."""
        return IndexView(self._indexed(), plan_blocks)

    def _indexed(self) -> Any:
        return self
