"""Names for annotations of programs that use arrays and groups."""

from zarr_core.array.array import Array
from zarr_core.config import ArrayConfigLike, MemoryOrder
from zarr_core.copying import IfExists
from zarr_core.group import Group
from zarr_core.hierarchy.create import ChunksLike, CodecLike, CodecsLike, ShapeLike, ShardsLike
from zarr_core.metadata import ArrayMetadata, ConsolidatedMetadata, GroupMetadata, NodeMetadata
from zarr_core.metadata.data_types import DataTypeLike
from zarr_core.metadata.documents import JSON, ZarrFormat
from zarr_core.storage import AccessMode, StoreLike

AnyArray = Array
ArrayV2 = Array
ArrayV3 = Array

__all__ = [
    "JSON",
    "AccessMode",
    "AnyArray",
    "Array",
    "ArrayConfigLike",
    "ArrayMetadata",
    "ArrayV2",
    "ArrayV3",
    "ChunksLike",
    "CodecLike",
    "CodecsLike",
    "ConsolidatedMetadata",
    "DataTypeLike",
    "Group",
    "GroupMetadata",
    "IfExists",
    "MemoryOrder",
    "NodeMetadata",
    "ShapeLike",
    "ShardsLike",
    "StoreLike",
    "ZarrFormat",
]
